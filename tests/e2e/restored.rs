//! A server that died and came back from its backup, as its operator and its people live it: with the two programs, and
//! on PostgreSQL with that database's own means.

use std::path::{Path, PathBuf};
use std::process::Command;

use selkie_e2e::network::Network;
use selkie_e2e::on_both_backends;
use selkie_e2e::premises::{Backend, Premises};
use selkie_e2e::program::ServerProcess;

use crate::desk::{ANA, Desk, Ended};

const OPEN: &str = "[registration]\npolicy = \"open\"\n";

on_both_backends! {
    /// What was acknowledged after the backup goes back from the devices. What has no place any more, because somebody
    /// else wrote first, is given up by an owner, and written again by whom it was from.
    async fn what_was_lost_comes_back_or_is_given_up_by_an_owner(backend: Backend) {
        let mut scene = Scene::begin(backend, &["laptop", "phone", "tablet"]).await;
        scene.selkie("laptop", &["vault", "create", "Journal"]).await.succeeds();
        scene.writes("laptop", "before the backup").await;
        scene.sync(&["laptop", "phone", "tablet"]).await;
        let backup = scene.back_up().await;

        // One comes back by itself.
        let first = scene.writes("phone", "on the phone").await;
        scene.sync(&["phone"]).await;
        scene.dies_and_comes_back(&backup).await;
        scene.puts_something_back("phone").await;
        scene.sync(&["tablet"]).await;
        scene.selkie("tablet", &["get", "Journal", &first]).await.succeeds();

        // The same again, but now the tablet, which has not seen it, writes before the phone is there.
        let second = scene.writes("phone", "on the phone again").await;
        scene.sync(&["phone", "laptop"]).await;
        scene.dies_and_comes_back(&backup).await;
        scene.sync(&["tablet"]).await;
        let third = scene.writes("tablet", "on the tablet").await;
        scene.sync(&["tablet"]).await;
        scene.selkie("phone", &["sync"]).await.fails_with(5);
        scene.selkie("laptop", &["sync"]).await.fails_with(5);
        scene.selkie("phone", &["get", "Journal", &second]).await.succeeds();
        scene.selkie("laptop", &["vault", "accept-reset", "Journal", "--yes"]).await.fails_with(2);
        let reset = scene.selkie("phone", &["vault", "reset", "Journal", "--yes"]).await.succeeds();
        assert_eq!(reset["reset"], true);
        scene.sync(&["phone"]).await;
        scene.selkie("laptop", &["sync"]).await.fails_with(5);
        let accepted = scene.selkie("laptop", &["vault", "accept-reset", "Journal", "--yes"]).await.succeeds();
        assert_eq!(accepted["reset"], true);
        scene.agree(&["laptop", "phone", "tablet"], &[&first, &second, &third]).await;
    }

    /// The backup knows nothing of it. The device that made it makes it again; another one waits for that.
    async fn a_vault_that_was_made_after_the_backup_comes_back_too(backend: Backend) {
        let mut scene = Scene::begin(backend, &["laptop", "phone"]).await;
        scene.sync(&["laptop", "phone"]).await;
        let backup = scene.back_up().await;
        scene.selkie("laptop", &["vault", "create", "Journal"]).await.succeeds();
        let first = scene.writes("laptop", "after the backup").await;
        scene.sync(&["laptop", "phone"]).await;
        let second = scene.writes("phone", "after the backup, too").await;
        scene.sync(&["phone"]).await;
        scene.dies_and_comes_back(&backup).await;

        scene.selkie("phone", &["sync"]).await.fails_with(5);
        let status = scene.selkie("phone", &["vault", "status", "Journal"]).await.succeeds();
        assert_eq!(status["state"], "the server has lost the last 4 entries", "{status}");
        scene.sync(&["laptop"]).await;
        scene.agree(&["phone", "laptop"], &[&first, &second]).await;
    }

    /// A device that was added after the backup is put back by the others, with what it wrote. A password that was
    /// changed cannot be: the earlier one lets in devices of the account, which change it again, and nobody else.
    async fn devices_come_back_and_a_changed_password_is_changed_again(backend: Backend) {
        let mut scene = Scene::begin(backend, &["laptop", "phone"]).await;
        scene.selkie("laptop", &["vault", "create", "Journal"]).await.succeeds();
        scene.sync(&["laptop", "phone"]).await;
        let backup = scene.back_up().await;

        scene.desk.signs_in("tablet", "laptop", &scene.network).await;
        scene.sync(&["tablet"]).await;
        let id = scene.writes("tablet", "on a device that the backup does not know").await;
        scene.sync(&["tablet"]).await;
        let (older, newer) = (scene.desk.password.clone(), scene.desk.write("newer", "nine noisy newts nap"));
        let change = ["password", "change", "--password-file", &older, "--new-password-file", &newer];
        let change = [&change[..], &["--keep-other-sessions"]].concat();
        scene.selkie("phone", &change).await.succeeds();
        scene.sync(&["laptop", "phone"]).await;
        scene.selkie("laptop", &["devices"]).await.succeeds();
        scene.dies_and_comes_back(&backup).await;

        scene.puts_something_back("laptop").await;
        let status = scene.selkie("laptop", &["status"]).await.succeeds();
        assert_eq!(status["blocked"][0]["kind"], "keys_superseded", "{status}");
        for device in ["tablet", "phone"] {
            scene.selkie(device, &["sync"]).await.fails_with(3);
            let back = scene.signs_in_again(device, &older, &[]).await.succeeds();
            assert_eq!(back["new_device"], false, "{back}");
            assert_eq!(back["keys_superseded"], true, "{back}");
        }
        let key = scene.desk.path("secret-key");
        scene.signs_in_again("stranger", &older, &["--secret-key-file", &key]).await.fails_with(5);

        scene.selkie("phone", &change).await.succeeds();
        let watch = scene.signs_in_again("watch", &newer, &["--secret-key-file", &key]).await.succeeds();
        assert_eq!(watch["keys_superseded"], false, "{watch}");
        let all = ["laptop", "phone", "tablet", "watch"];
        scene.sync(&all).await;
        scene.agree(&all, &[&id]).await;
    }

    /// Somebody comes with a new device before those that know better: a person decides which account it is.
    async fn an_account_that_went_on_without_a_device_asks_its_person(backend: Backend) {
        let mut scene = Scene::begin(backend, &["laptop", "phone"]).await;
        scene.selkie("laptop", &["vault", "create", "Journal"]).await.succeeds();
        let id = scene.writes("laptop", "before the backup").await;
        scene.sync(&["laptop", "phone"]).await;
        let backup = scene.back_up().await;
        scene.desk.signs_in("tablet", "laptop", &scene.network).await;
        scene.sync(&["tablet", "laptop"]).await;
        scene.selkie("laptop", &["devices"]).await.succeeds();
        scene.dies_and_comes_back(&backup).await;

        scene.desk.signs_in("watch", "laptop", &scene.network).await;
        scene.sync(&["watch", "phone"]).await;
        let password = scene.desk.password.clone();
        scene.selkie("laptop", &["sync"]).await.fails_with(5);
        for (device, is_new) in [("laptop", false), ("tablet", true)] {
            scene.signs_in_again(device, &password, &[]).await.fails_with(5);
            let back = scene.signs_in_again(device, &password, &["--accept-loss"]).await.succeeds();
            assert_eq!(back["new_device"], is_new, "{back}");
        }
        // What a device wrote whose certificate is lost has no place any more, be it a sign of life: an owner decides.
        scene.selkie("laptop", &["sync"]).await.fails_with(5);
        scene.selkie("laptop", &["vault", "reset", "Journal", "--yes"]).await.succeeds();
        scene.selkie("tablet", &["sync"]).await.fails_with(5);
        scene.selkie("tablet", &["vault", "accept-reset", "Journal", "--yes"]).await.succeeds();
        let all = ["laptop", "phone", "tablet", "watch"];
        scene.sync(&all).await;
        scene.agree(&all, &[&id]).await;
    }

    /// Of whom the backup knows nothing at all: they take along what they have, and come again.
    async fn who_signed_up_after_the_backup_exports_forgets_and_signs_up_again(backend: Backend) {
        let mut scene = Scene::begin(backend, &[]).await;
        let backup = scene.back_up().await;
        scene.desk.signs_up("laptop", &scene.network).await;
        scene.selkie("laptop", &["vault", "create", "Journal"]).await.succeeds();
        let id = scene.writes("laptop", "after the backup").await;
        scene.sync(&["laptop"]).await;
        scene.dies_and_comes_back(&backup).await;

        scene.selkie("laptop", &["sync"]).await.fails_with(3);
        let file = scene.desk.path("journal.zip");
        scene.selkie("laptop", &["export", "Journal", "--to", &file]).await.succeeds();
        scene.selkie("laptop", &["forget", ANA, "--server", &scene.network.url(), "--yes"]).await.succeeds();
        std::fs::remove_file(scene.desk.path("sheet-laptop.txt")).unwrap();
        scene.desk.signs_up("laptop", &scene.network).await;
        scene.selkie("laptop", &["import", &file]).await.succeeds();
        scene.sync(&["laptop"]).await;
        scene.selkie("laptop", &["get", "Journal", &id]).await.succeeds();
    }
}

/// Ana's devices, and a server that is going to die.
struct Scene {
    premises: Premises,
    network: Network,
    server: ServerProcess,
    desk: Desk,
}

impl Scene {
    async fn begin(backend: Backend, devices: &[&str]) -> Scene {
        let premises = Premises::new(backend).await;
        let network = Network::new().await;
        let server = ServerProcess::start(&premises, &network, OPEN, &[]).await;
        let desk = Desk::new(server.config());
        if let Some((first, others)) = devices.split_first() {
            desk.signs_up(first, &network).await;
            for device in others {
                desk.signs_in(device, first, &network).await;
            }
        }
        Scene { premises, network, server, desk }
    }

    async fn selkie(&self, device: &str, arguments: &[&str]) -> Ended {
        self.desk.selkie(device, arguments).await
    }

    async fn sync(&self, devices: &[&str]) {
        for device in devices {
            self.selkie(device, &["sync"]).await.succeeds();
        }
    }

    /// Writes a note, and says which.
    async fn writes(&self, device: &str, title: &str) -> String {
        let file = self.desk.write("note", &format!("{{\"title\":{title:?}}}"));
        let put = self.selkie(device, &["put", "Journal", "notes", "--file", &file]).await.succeeds();
        put["id"].as_str().unwrap().to_owned()
    }

    async fn signs_in_again(&self, device: &str, password: &str, more: &[&str]) -> Ended {
        let url = self.network.url();
        let sign_in = ["sign-in", ANA, "--server", &url, "--password-file", password, "--device-name", device];
        self.selkie(device, &[&sign_in[..], more].concat()).await
    }

    async fn back_up(&self) -> Backup {
        Backup::make(&self.desk, &self.premises).await
    }

    async fn dies_and_comes_back(&mut self, backup: &Backup) {
        assert!(self.server.stop());
        backup.restore(&self.desk, &self.premises).await;
        self.server = ServerProcess::start(&self.premises, &self.network, OPEN, &[]).await;
    }

    async fn puts_something_back(&self, device: &str) {
        let synced = self.selkie(device, &["sync"]).await.succeeds();
        let restored: u64 = synced["vaults"].as_array().unwrap().iter().filter_map(|it| it["restored"].as_u64()).sum();
        assert!(restored >= 1, "{synced}");
    }

    /// All have these notes, and the same log.
    async fn agree(&self, devices: &[&str], notes: &[&str]) {
        let mut digests = Vec::new();
        for device in devices {
            self.sync(&[device]).await;
            for id in notes {
                self.selkie(device, &["get", "Journal", id]).await.succeeds();
            }
            self.selkie(device, &["vault", "verify", "Journal"]).await.succeeds();
            digests.push(self.selkie(device, &["vault", "status", "Journal"]).await.succeeds()["digest"].clone());
        }
        assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
    }
}

/// A backup, as docs/self-hosting.md says to make it.
struct Backup(PathBuf);

impl Backup {
    async fn make(desk: &Desk, premises: &Premises) -> Backup {
        let path = PathBuf::from(desk.path("backup"));
        match premises.database_url() {
            None => {
                let made = ["backup", "create", path.to_str().unwrap(), "--with-master-key"];
                desk.server(&made).await.succeeds();
            }
            Some(url) => postgres("pg_dump", &["--format=custom", "--file", path.to_str().unwrap(), &url]),
        }
        Backup(path)
    }

    /// All servers are stopped.
    async fn restore(&self, desk: &Desk, premises: &Premises) {
        let path = self.0.to_str().unwrap();
        match premises.database_url() {
            None => {
                std::fs::remove_dir_all(premises.data_folder()).unwrap();
                desk.server(&["backup", "restore", path]).await.succeeds();
            }
            Some(url) => {
                postgres("pg_restore", &["--clean", "--if-exists", "--single-transaction", "--dbname", &url, path]);
                desk.server(&["backup", "mark-restored"]).await.succeeds();
            }
        }
    }
}

/// One of PostgreSQL's own programs, where its packages put them.
fn postgres(program: &str, arguments: &[&str]) {
    let in_path = std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let folders = in_path.into_iter().flatten().chain(versions.map(|version| version.path().join("bin")));
    let found = folders.map(|folder| folder.join(program)).find(|file| Path::is_file(file));
    let output = Command::new(found.expect("PostgreSQL's programs are there")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}
