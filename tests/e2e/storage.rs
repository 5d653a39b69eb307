//! The disk of a device at the command line: what it takes, what is dropped and fetched, a file that is damaged, a disk
//! that is full.

use crate::desk::Desk;
use selkie_e2e::network::Network;
use selkie_e2e::on_both_backends;
use selkie_e2e::premises::Premises;
use selkie_e2e::program::ServerProcess;
use serde_json::Value;
use std::path::{Path, PathBuf};

const OPEN: &str = "[registration]\npolicy = \"open\"\n";

/// Ana's laptop with a journal of so many notes, all of it on the server, and her phone.
async fn at_the_desk(server: &ServerProcess, network: &Network, notes: usize) -> (Desk, Vec<String>) {
    let desk = Desk::new(server.config());
    desk.signs_up("laptop", network).await;
    desk.signs_in("phone", "laptop", network).await;
    desk.selkie("laptop", &["vault", "create", "Journal"]).await.succeeds();
    let mut ids = Vec::new();
    for number in 0..notes {
        ids.push(put(&desk, &format!(r#"{{"title":"note {number}"}}"#)).await);
    }
    desk.selkie("laptop", &["sync"]).await.succeeds();
    desk.selkie("laptop", &["sync"]).await.succeeds();
    desk.selkie("phone", &["sync"]).await.succeeds();
    (desk, ids)
}

async fn put(desk: &Desk, content: &str) -> String {
    let file = desk.write("note", content);
    let put = desk.selkie("laptop", &["put", "Journal", "notes", "--file", &file]).await.succeeds();
    put["id"].as_str().unwrap().to_owned()
}

fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.into_iter().find_map(|path| match path.is_dir() {
        true => find(&path, name),
        false => (path.file_name()? == name).then_some(path),
    })
}

fn journal(of: &Value) -> Value {
    of["vaults"].as_array().unwrap().iter().find(|vault| vault["name"] == "Journal").cloned().unwrap_or_default()
}

on_both_backends! {
    async fn a_file_that_was_damaged_is_told_and_repaired_at_the_command_line(backend: Backend) {
        let premises = Premises::new(backend).await;
        let network = Network::new().await;
        let server = ServerProcess::start(&premises, &network, OPEN, &[]).await;
        let (desk, ids) = at_the_desk(&server, &network, 12).await;
        let usage = desk.selkie("laptop", &["storage"]).await.succeeds();
        assert!(journal(&usage)["records"].as_u64().unwrap() > 12 * 100, "{usage}");
        assert_eq!(desk.selkie("laptop", &["storage", "check"]).await.succeeds()["sound"], true);
        let nothing = desk.selkie("laptop", &["storage", "repair"]).await.succeeds();
        assert_eq!((&nothing["rebuilt"], &nothing["fetched"]), (&false.into(), &Value::Array(vec![])));

        let file = find(Path::new(&desk.path("laptop")), "vaults.sqlite").unwrap();
        let mut bytes = std::fs::read(&file).unwrap();
        let half = bytes.len() / 2;
        bytes.truncate(half);
        std::fs::write(&file, &bytes).unwrap();
        desk.selkie("laptop", &["query", "Journal", "notes"]).await.fails_with(1);
        desk.selkie("laptop", &["storage", "check"]).await.fails_with(1);
        let repaired = desk.selkie("laptop", &["storage", "repair"]).await.succeeds();
        assert_eq!((&repaired["rebuilt"], &repaired["failed"]), (&true.into(), &Value::Array(vec![])), "{repaired}");
        assert_eq!(std::fs::read(&file).unwrap(), bytes, "the damaged file is left as it was");
        assert_eq!(desk.selkie("laptop", &["storage", "check"]).await.succeeds()["sound"], true);
        for (number, id) in ids.iter().enumerate() {
            let got = desk.selkie("laptop", &["get", "Journal", id]).await.succeeds();
            assert_eq!(got["content"]["title"], format!("note {number}"), "{got}");
        }
        let mut digests = Vec::new();
        for device in ["laptop", "phone", "laptop"] {
            desk.selkie(device, &["sync"]).await.succeeds();
            digests.push(journal(&desk.selkie(device, &["status", "--digests"]).await.succeeds())["digest"].clone());
        }
        assert!(digests.windows(2).all(|two| two[0] == two[1]), "{digests:?}");
    }

    async fn a_vault_is_dropped_and_fetched_at_the_command_line(backend: Backend) {
        let premises = Premises::new(backend).await;
        let network = Network::new().await;
        let server = ServerProcess::start(&premises, &network, OPEN, &[]).await;
        let (desk, ids) = at_the_desk(&server, &network, 3).await;
        let unsent = put(&desk, r#"{"title":"unsent"}"#).await;
        desk.selkie("laptop", &["vault", "drop", "Journal"]).await.fails_with(6);
        let synced = desk.selkie("laptop", &["sync"]).await.succeeds();
        let of_notes = |vault: &&Value| !vault["collections"]["notes"].is_null();
        let counted = &synced["vaults"].as_array().unwrap().iter().find(of_notes).unwrap()["collections"]["notes"];
        assert_eq!((&counted["pushed"], &counted["pulled"]), (&1.into(), &0.into()), "{synced}");
        desk.selkie("laptop", &["vault", "drop", "Journal"]).await.succeeds();
        desk.selkie("laptop", &["sync"]).await.succeeds();
        desk.selkie("laptop", &["get", "Journal", &unsent]).await.fails_with(2);
        assert_eq!(desk.selkie("laptop", &["status"]).await.succeeds()["left_out"], 1);
        let listed = desk.selkie("laptop", &["vault", "list"]).await.succeeds();
        assert_eq!((journal(&listed), &listed["left_out"][0]["name"]), (Value::Null, &"Journal".into()), "{listed}");

        let fetched = desk.selkie("laptop", &["vault", "fetch", "Journal"]).await.succeeds();
        assert_eq!(fetched["records"], 5, "four notes and the name: {fetched}");
        desk.selkie("laptop", &["get", "Journal", &unsent]).await.succeeds();
        desk.selkie("laptop", &["get", "Journal", &ids[0]]).await.succeeds();
        let went = desk.selkie("laptop", &["storage", "prune", "--older-than", "0"]).await.succeeds();
        assert_eq!(went["versions"], 0, "nothing was changed yet: {went}");
    }
}

on_both_backends! {
    async fn what_was_let_go_is_fetched_record_by_record_and_all_at_the_command_line(backend: Backend) {
        let premises = Premises::new(backend).await;
        let network = Network::new().await;
        let server = ServerProcess::start(&premises, &network, OPEN, &[]).await;
        let (desk, ids) = at_the_desk(&server, &network, 12).await;
        let unsent = put(&desk, r#"{"title":"unsent"}"#).await;
        let gone = desk.selkie("laptop", &["storage", "let-go", "Journal", "--older-than", "0"]).await.succeeds();
        assert_eq!(gone["records"], 12, "{gone}");
        desk.selkie("laptop", &["get", "Journal", &ids[3]]).await.fails_with(6);
        desk.selkie("laptop", &["get", "Journal", &unsent]).await.succeeds();
        let change = desk.write("note", r#"{"title":"blind"}"#);
        desk.selkie("laptop", &["put", "Journal", "notes", &ids[3], "--file", &change]).await.fails_with(6);
        assert_eq!(desk.selkie("laptop", &["storage", "check"]).await.succeeds()["sound"], true);
        assert_eq!(desk.selkie("laptop", &["vault", "status", "Journal"]).await.succeeds()["elsewhere"], 12);

        // Somebody else writes one of them, and deletes another.
        desk.selkie("phone", &["put", "Journal", "notes", &ids[0], "--file", &change]).await.succeeds();
        desk.selkie("phone", &["rm", "Journal", "notes", &ids[1]]).await.succeeds();
        desk.selkie("phone", &["sync"]).await.succeeds();
        desk.selkie("laptop", &["sync"]).await.succeeds();
        let got = desk.selkie("laptop", &["get", "Journal", &ids[0]]).await.succeeds();
        assert_eq!(got["content"]["title"], "blind", "{got}");
        desk.selkie("laptop", &["get", "Journal", &ids[1]]).await.fails_with(2);

        let fetched = desk.selkie("laptop", &["vault", "fetch", "Journal", "--", &ids[3], &ids[4]]).await.succeeds();
        assert_eq!((&fetched["fetched"], &fetched["elsewhere"]), (&2.into(), &8.into()), "{fetched}");
        let fetched = desk.selkie("laptop", &["vault", "fetch", "Journal", "--missing"]).await.succeeds();
        assert_eq!((&fetched["fetched"], &fetched["elsewhere"]), (&8.into(), &0.into()), "{fetched}");
        for (number, id) in ids.iter().enumerate().skip(2) {
            let got = desk.selkie("laptop", &["get", "Journal", id]).await.succeeds();
            assert_eq!(got["content"]["title"], format!("note {number}"), "{got}");
        }
        assert_eq!(desk.selkie("laptop", &["storage", "check"]).await.succeeds()["sound"], true);
    }

    async fn a_phone_fetches_what_there_is_first_and_what_it_says_later(backend: Backend) {
        let premises = Premises::new(backend).await;
        let network = Network::new().await;
        let mut server = ServerProcess::start(&premises, &network, OPEN, &[]).await;
        let (desk, ids) = at_the_desk(&server, &network, 6).await;
        desk.selkie("laptop", &["vault", "checkpoint", "Journal"]).await.succeeds();
        let late = put(&desk, r#"{"title":"after it"}"#).await;
        desk.selkie("laptop", &["sync"]).await.succeeds();
        // The next server begins with what waits to be done: the checkpoint is laid out.
        server.kill();
        let _server = ServerProcess::start(&premises, &network, OPEN, &[]).await;
        premises.hold_a_blob().await;

        desk.signs_in("tablet", "laptop", &network).await;
        desk.selkie("tablet", &["vault", "leave-new"]).await.succeeds();
        desk.selkie("tablet", &["sync"]).await.succeeds();
        let listed = desk.selkie("tablet", &["vault", "list"]).await.succeeds();
        let journal = listed["left_out"][0]["vault"].as_str().unwrap().to_owned();
        let fetched = desk.selkie("tablet", &["vault", "fetch", &journal, "--headers-first"]).await.succeeds();
        assert_eq!(fetched["elsewhere"], 6, "{fetched}");
        desk.selkie("tablet", &["get", "Journal", &late]).await.succeeds();
        desk.selkie("tablet", &["get", "Journal", &ids[0]]).await.fails_with(6);
        desk.selkie("tablet", &["vault", "fetch", "Journal", "--missing"]).await.succeeds();
        for (number, id) in ids.iter().enumerate() {
            let got = desk.selkie("tablet", &["get", "Journal", id]).await.succeeds();
            assert_eq!(got["content"]["title"], format!("note {number}"), "{got}");
        }
        assert_eq!(desk.selkie("tablet", &["storage", "check"]).await.succeeds()["sound"], true);
    }
}

#[cfg(unix)]
on_both_backends! {
    /// The disk has room for so much: a limit of the shell on what a program may write stands for a full one.
    async fn a_disk_that_is_full_is_told_and_what_was_written_before_is_safe(backend: Backend) {
        let premises = Premises::new(backend).await;
        let network = Network::new().await;
        let server = ServerProcess::start(&premises, &network, OPEN, &[]).await;
        let (desk, ids) = at_the_desk(&server, &network, 3).await;
        let large = format!(r#"{{"title":"{}"}}"#, "x".repeat(200_000));
        let (file, data) = (desk.write("note", &large), desk.path("laptop"));
        let selkie = selkie_e2e::program::program("selkie");
        // A signal that is ignored stays so in the program: a write that is too much is an error like that of a full
        // disk.
        let script = format!(
            "trap '' XFSZ; ulimit -f 64; exec '{}' --json --data '{data}' put Journal notes --file '{file}'",
            selkie.display()
        );
        let output = std::process::Command::new("sh").arg("-c").arg(script).output().unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{complaint}");
        let error: Value = serde_json::from_str(complaint.lines().last().unwrap()).unwrap();
        assert_eq!(error["error"]["kind"], "storage", "{complaint}");
        assert!(error["error"]["advice"].as_str().unwrap().contains("room"), "{complaint}");

        // There is room again.
        assert_eq!(desk.selkie("laptop", &["storage", "check"]).await.succeeds()["sound"], true);
        for id in &ids {
            desk.selkie("laptop", &["get", "Journal", id]).await.succeeds();
        }
        put(&desk, &large).await;
        desk.selkie("laptop", &["sync"]).await.succeeds();
        assert_eq!(desk.selkie("laptop", &["status"]).await.succeeds()["pending"], 0);
    }
}
