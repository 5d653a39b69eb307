//! A server that died and came back from its backup, as its operator and its people live it: with the two programs, and
//! on PostgreSQL with that database's own means.

use std::path::{Path, PathBuf};
use std::process::Command;

use selkie_e2e::network::Network;
use selkie_e2e::on_both_backends;
use selkie_e2e::premises::Premises;
use selkie_e2e::program::ServerProcess;

use crate::desk::{ANA, Desk};

const OPEN: &str = "[registration]\npolicy = \"open\"\n";

on_both_backends! {
    /// What was acknowledged after the backup goes back from the devices. What has no place any more, because somebody
    /// else wrote first, is given up by an owner, and written again by whom it was from.
    async fn what_was_lost_comes_back_or_is_given_up_by_an_owner(backend: Backend) {
        let premises = Premises::new(backend).await;
        let network = Network::new().await;
        let mut server = ServerProcess::start(&premises, &network, OPEN, &[]).await;
        let desk = Desk::new(server.config());
        desk.signs_up("laptop", &network).await;
        for device in ["phone", "tablet"] {
            desk.signs_in(device, "laptop", &network).await;
        }
        let write = async |device: &str, title: &str| {
            let file = desk.write("note", &format!("{{\"title\":{title:?}}}"));
            let put = desk.selkie(device, &["put", "Journal", "notes", "--file", &file]).await.succeeds();
            put["id"].as_str().unwrap().to_owned()
        };
        desk.selkie("laptop", &["vault", "create", "Journal"]).await.succeeds();
        write("laptop", "before the backup").await;
        for device in ["laptop", "phone", "tablet"] {
            desk.selkie(device, &["sync"]).await.succeeds();
        }
        let backup = Backup::make(&desk, &premises).await;

        // One comes back by itself.
        let first = write("phone", "on the phone").await;
        desk.selkie("phone", &["sync"]).await.succeeds();
        assert!(server.stop());
        backup.restore(&desk, &premises).await;
        server = ServerProcess::start(&premises, &network, OPEN, &[]).await;
        let synced = desk.selkie("phone", &["sync"]).await.succeeds();
        let restored: u64 = synced["vaults"].as_array().unwrap().iter().filter_map(|it| it["restored"].as_u64()).sum();
        assert!(restored >= 1, "{synced}");
        desk.selkie("tablet", &["sync"]).await.succeeds();
        desk.selkie("tablet", &["get", "Journal", &first]).await.succeeds();

        // The same again, but now the tablet, which has not seen it, writes before the phone is there.
        let second = write("phone", "on the phone again").await;
        desk.selkie("phone", &["sync"]).await.succeeds();
        desk.selkie("laptop", &["sync"]).await.succeeds();
        assert!(server.stop());
        backup.restore(&desk, &premises).await;
        let _server = ServerProcess::start(&premises, &network, OPEN, &[]).await;
        desk.selkie("tablet", &["sync"]).await.succeeds();
        let third = write("tablet", "on the tablet").await;
        desk.selkie("tablet", &["sync"]).await.succeeds();
        desk.selkie("phone", &["sync"]).await.fails_with(5);
        desk.selkie("laptop", &["sync"]).await.fails_with(5);
        desk.selkie("phone", &["get", "Journal", &second]).await.succeeds();
        desk.selkie("laptop", &["vault", "accept-reset", "Journal", "--yes"]).await.fails_with(2);
        let reset = desk.selkie("phone", &["vault", "reset", "Journal", "--yes"]).await.succeeds();
        assert_eq!(reset["reset"], true);
        desk.selkie("phone", &["sync"]).await.succeeds();
        desk.selkie("laptop", &["sync"]).await.fails_with(5);
        let accepted = desk.selkie("laptop", &["vault", "accept-reset", "Journal", "--yes"]).await.succeeds();
        assert_eq!(accepted["reset"], true);

        let mut digests = Vec::new();
        for device in ["laptop", "phone", "tablet"] {
            desk.selkie(device, &["sync"]).await.succeeds();
            for id in [&first, &second, &third] {
                desk.selkie(device, &["get", "Journal", id]).await.succeeds();
            }
            desk.selkie(device, &["vault", "verify", "Journal"]).await.succeeds();
            let status = desk.selkie(device, &["vault", "status", "Journal"]).await.succeeds();
            digests.push(status["digest"].clone());
        }
        assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
    }

    /// The backup knows nothing of it. The device that made it makes it again; another one waits for that.
    async fn a_vault_that_was_made_after_the_backup_comes_back_too(backend: Backend) {
        let premises = Premises::new(backend).await;
        let network = Network::new().await;
        let mut server = ServerProcess::start(&premises, &network, OPEN, &[]).await;
        let desk = Desk::new(server.config());
        desk.signs_up("laptop", &network).await;
        desk.signs_in("phone", "laptop", &network).await;
        for device in ["laptop", "phone"] {
            desk.selkie(device, &["sync"]).await.succeeds();
        }
        let backup = Backup::make(&desk, &premises).await;

        let write = async |device: &str, title: &str| {
            let file = desk.write("note", &format!("{{\"title\":{title:?}}}"));
            let put = desk.selkie(device, &["put", "Journal", "notes", "--file", &file]).await.succeeds();
            put["id"].as_str().unwrap().to_owned()
        };
        desk.selkie("laptop", &["vault", "create", "Journal"]).await.succeeds();
        let first = write("laptop", "after the backup").await;
        for device in ["laptop", "phone"] {
            desk.selkie(device, &["sync"]).await.succeeds();
        }
        let second = write("phone", "after the backup, too").await;
        desk.selkie("phone", &["sync"]).await.succeeds();
        assert!(server.stop());
        backup.restore(&desk, &premises).await;
        let _server = ServerProcess::start(&premises, &network, OPEN, &[]).await;

        desk.selkie("phone", &["sync"]).await.fails_with(5);
        let status = desk.selkie("phone", &["vault", "status", "Journal"]).await.succeeds();
        assert_eq!(status["state"], "the server has lost the last 4 entries", "{status}");
        desk.selkie("laptop", &["sync"]).await.succeeds();
        let mut digests = Vec::new();
        for device in ["phone", "laptop"] {
            desk.selkie(device, &["sync"]).await.succeeds();
            for id in [&first, &second] {
                desk.selkie(device, &["get", "Journal", id]).await.succeeds();
            }
            desk.selkie(device, &["vault", "verify", "Journal"]).await.succeeds();
            digests.push(desk.selkie(device, &["vault", "status", "Journal"]).await.succeeds()["digest"].clone());
        }
        assert_eq!(digests[0], digests[1]);
    }

    /// A device that was added after the backup is put back by the others, with what it wrote. A password that was
    /// changed cannot be: the earlier one lets in devices of the account, which change it again, and nobody else.
    async fn devices_come_back_and_a_changed_password_is_changed_again(backend: Backend) {
        let premises = Premises::new(backend).await;
        let network = Network::new().await;
        let mut server = ServerProcess::start(&premises, &network, OPEN, &[]).await;
        let desk = Desk::new(server.config());
        desk.signs_up("laptop", &network).await;
        desk.signs_in("phone", "laptop", &network).await;
        desk.selkie("laptop", &["vault", "create", "Journal"]).await.succeeds();
        for device in ["laptop", "phone"] {
            desk.selkie(device, &["sync"]).await.succeeds();
        }
        let backup = Backup::make(&desk, &premises).await;

        desk.signs_in("tablet", "laptop", &network).await;
        desk.selkie("tablet", &["sync"]).await.succeeds();
        let file = desk.write("note", "{\"title\":\"on a device that the backup does not know\"}");
        let put = desk.selkie("tablet", &["put", "Journal", "notes", "--file", &file]).await.succeeds();
        desk.selkie("tablet", &["sync"]).await.succeeds();
        let newer = desk.write("newer", "nine noisy newts nap");
        let change = ["password", "change", "--password-file", &desk.password, "--new-password-file", &newer];
        desk.selkie("phone", &[&change[..], &["--keep-other-sessions"]].concat()).await.succeeds();
        for device in ["laptop", "phone"] {
            desk.selkie(device, &["sync"]).await.succeeds();
            desk.selkie(device, &["devices"]).await.succeeds();
        }
        assert!(server.stop());
        backup.restore(&desk, &premises).await;
        let _server = ServerProcess::start(&premises, &network, OPEN, &[]).await;

        let synced = desk.selkie("laptop", &["sync"]).await.succeeds();
        let restored: u64 = synced["vaults"].as_array().unwrap().iter().filter_map(|it| it["restored"].as_u64()).sum();
        assert!(restored >= 1, "what the tablet wrote stands behind its certificate: {synced}");
        let status = desk.selkie("laptop", &["status"]).await.succeeds();
        assert_eq!(status["blocked"][0]["kind"], "keys_superseded", "{status}");
        let sign_in = ["sign-in", ANA, "--server", &network.url(), "--password-file", &desk.password];
        for device in ["tablet", "phone"] {
            desk.selkie(device, &["sync"]).await.fails_with(3);
            let back = desk.selkie(device, &sign_in).await.succeeds();
            assert_eq!(back["new_device"], false, "{back}");
            assert_eq!(back["keys_superseded"], true, "{back}");
        }
        let secret_key = desk.path("secret-key");
        let stranger = [&sign_in[..], &["--secret-key-file", &secret_key]].concat();
        desk.selkie("stranger", &stranger).await.fails_with(5);

        desk.selkie("phone", &[&change[..], &["--keep-other-sessions"]].concat()).await.succeeds();
        let sign_in = ["sign-in", ANA, "--server", &network.url(), "--password-file", &newer];
        let watch = desk.selkie("watch", &[&sign_in[..], &["--secret-key-file", &secret_key]].concat()).await.succeeds();
        assert_eq!(watch["keys_superseded"], false, "{watch}");
        let mut digests = Vec::new();
        for device in ["laptop", "phone", "tablet", "watch"] {
            desk.selkie(device, &["sync"]).await.succeeds();
        }
        for device in ["laptop", "phone", "tablet", "watch"] {
            desk.selkie(device, &["sync"]).await.succeeds();
            desk.selkie(device, &["get", "Journal", put["id"].as_str().unwrap()]).await.succeeds();
            desk.selkie(device, &["vault", "verify", "Journal"]).await.succeeds();
            digests.push(desk.selkie(device, &["vault", "status", "Journal"]).await.succeeds()["digest"].clone());
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
