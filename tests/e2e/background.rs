//! What comes by itself at the command line: from the server's hints, through its absence, and to the end of a session.

use crate::desk::{ANA, Desk};
use selkie_e2e::network::Network;
use selkie_e2e::on_both_backends;
use selkie_e2e::premises::Premises;
use selkie_e2e::program::{ServerProcess, Speaking};
use serde_json::Value;

const OPEN: &str = "[registration]\npolicy = \"open\"\n";

/// Ana's laptop with a journal, and her phone, in step. The line between the others keeps an answer until it is whole,
/// and hints never are: these two go without it.
async fn laptop_and_phone(server: &ServerProcess, network: &Network) -> Desk {
    let desk = Desk::new(server.config());
    let (url, sheet) = (format!("http://{}", server.address()), desk.path("sheet.txt"));
    let to = ["--server", &url, "--server-name", &network.name(), "--password-file", &desk.password].map(String::from);
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    let sign_up = ["sign-up", ANA, "--device-name", "laptop", "--sheet-file", &sheet, "--yes"];
    desk.selkie("laptop", &[&sign_up[..], &to].concat()).await.succeeds();
    let text = std::fs::read_to_string(&sheet).unwrap();
    let secret_key = text.split_whitespace().find(|word| word.starts_with("S1-")).unwrap();
    let secret_key = desk.write("secret-key", secret_key);
    let sign_in = ["sign-in", ANA, "--secret-key-file", &secret_key, "--device-name", "phone"];
    desk.selkie("phone", &[&sign_in[..], &to].concat()).await.succeeds();
    desk.selkie("laptop", &["vault", "create", "Journal"]).await.succeeds();
    desk.selkie("laptop", &["sync"]).await.succeeds();
    // What the first has written in the account's own vault.
    desk.selkie("laptop", &["sync"]).await.succeeds();
    desk.selkie("phone", &["sync"]).await.succeeds();
    desk
}

async fn put(desk: &Desk, id: Option<&str>, content: &str) -> String {
    put_on("laptop", desk, id, content).await
}

async fn put_on(device: &str, desk: &Desk, id: Option<&str>, content: &str) -> String {
    let file = desk.write("note", content);
    let arguments = [&["put", "Journal", "notes"][..], id.as_slice(), &["--file", &file]].concat();
    desk.selkie(device, &arguments).await.succeeds()["id"].as_str().unwrap().to_owned()
}

async fn difference(watch: &mut Speaking) -> (String, String, Value) {
    let line = watch.line().await;
    let line: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
    let word = |name: &str| line[name].as_str().unwrap().to_owned();
    (word("change"), word("id"), line["content"]["title"].clone())
}

on_both_backends! {
    async fn what_is_put_on_one_device_appears_where_somebody_watches(backend: Backend) {
        let premises = Premises::new(backend).await;
        let network = Network::new().await;
        let server = ServerProcess::start(&premises, &network, OPEN, &[]).await;
        let desk = laptop_and_phone(&server, &network).await;
        let mut watch = desk.selkie_that_goes_on("phone", &["watch", "Journal", "notes", "--where", "mood=calm"]);

        put(&desk, None, r#"{"title":"Not for this one","mood":"wild"}"#).await;
        let id = put(&desk, None, r#"{"title":"Hello","mood":"calm"}"#).await;
        let waits = desk.selkie("laptop", &["status"]).await.succeeds();
        assert_eq!((&waits["state"], &waits["pending"]), (&"pending".into(), &2.into()), "{waits}");
        desk.selkie("laptop", &["sync"]).await.succeeds();
        assert_eq!(difference(&mut watch).await, ("added".into(), id.clone(), "Hello".into()));
        put(&desk, Some(&id), r#"{"title":"Hello again","mood":"calm"}"#).await;
        desk.selkie("laptop", &["sync"]).await.succeeds();
        assert_eq!(difference(&mut watch).await, ("changed".into(), id.clone(), "Hello again".into()));
        desk.selkie("laptop", &["rm", "Journal", "notes", &id]).await.succeeds();
        desk.selkie("laptop", &["sync"]).await.succeeds();
        assert_eq!(difference(&mut watch).await, ("removed".into(), id, "Hello again".into()));

        // A second program on the phone, beside the one that watches and comes into step by itself.
        for turn in ["one", "two", "three"] {
            let content = format!(r#"{{"title":"{turn}","mood":"calm"}}"#);
            let beside = put_on("phone", &desk, None, &content).await;
            desk.selkie("phone", &["sync"]).await.succeeds();
            assert_eq!(difference(&mut watch).await, ("added".into(), beside, turn.into()));
            let far = put(&desk, None, &content).await;
            desk.selkie("laptop", &["sync"]).await.succeeds();
            assert_eq!(difference(&mut watch).await, ("added".into(), far, turn.into()));
        }
        desk.selkie("phone", &["sync"]).await.succeeds();
        assert_eq!(watch.interrupt(), Some(0), "Ctrl-C is how it is meant to end");

        // And both say that they have the same.
        let mut digests = Vec::new();
        for device in ["laptop", "phone"] {
            let status = desk.selkie(device, &["status"]).await.succeeds();
            assert_eq!((&status["state"], &status["pending"]), (&"synced".into(), &0.into()), "{device}: {status}");
            let all = desk.selkie(device, &["status", "--digests"]).await.succeeds();
            let journal = all["vaults"].as_array().unwrap().iter().find(|vault| vault["name"] == "Journal").unwrap();
            digests.push(journal["digest"].clone());
        }
        assert_eq!(digests[0], digests[1]);
    }

    async fn a_server_that_comes_back_is_found_and_a_device_that_was_sent_away_is_told(backend: Backend) {
        let premises = Premises::new(backend).await;
        let network = Network::new().await;
        let mut server = ServerProcess::start(&premises, &network, OPEN, &[]).await;
        let desk = laptop_and_phone(&server, &network).await;
        let mut watch = desk.selkie_that_goes_on("phone", &["watch", "Journal", "notes"]);
        let first = put(&desk, None, r#"{"title":"While it was there"}"#).await;
        desk.selkie("laptop", &["sync"]).await.succeeds();
        assert_eq!(difference(&mut watch).await.1, first);

        let address = server.address().to_string();
        server.kill();
        let second = put(&desk, None, r#"{"title":"While it was away"}"#).await;
        desk.selkie("laptop", &["sync"]).await.fails_with(4);
        let status = desk.selkie("laptop", &["status"]).await.succeeds();
        assert_eq!((&status["state"], &status["pending"]), (&"offline".into(), &1.into()), "{status}");
        assert!(status["last_success_ms"].is_u64(), "{status}");
        let where_it_was = [("SELKIE_SERVER__LISTEN", address.as_str())];
        let _server = ServerProcess::start(&premises, &network, OPEN, &where_it_was).await;
        desk.selkie("laptop", &["sync"]).await.succeeds();
        assert_eq!(difference(&mut watch).await, ("added".into(), second, "While it was away".into()));

        let devices = desk.selkie("laptop", &["devices"]).await.succeeds();
        let phone = devices["devices"].as_array().unwrap().iter().find(|device| device["name"] == "phone").unwrap();
        let id = phone["id"].as_str().unwrap();
        desk.selkie("laptop", &["devices", "revoke", id, "--password-file", &desk.password]).await.succeeds();
        let (code, complaint) = watch.end().await;
        assert_eq!(code, Some(3), "{complaint}");
        let said: Value = serde_json::from_str(&complaint).unwrap();
        assert_eq!(said["error"]["kind"], "sign_in_again", "{complaint}");
        let status = desk.selkie("phone", &["status"]).await.succeeds();
        assert_eq!(status["state"], "blocked", "{status}");
        assert!(status["blocked"][0]["reason"].as_str().unwrap().contains("revoked"), "{status}");
        assert!(status["blocked"][0]["unblock"].as_str().unwrap().contains("selkie sign-in"), "{status}");
    }
}
