//! A device that begins by itself, at the command line, and the account that takes over what it wrote.

use crate::desk::Desk;
use selkie_e2e::network::Network;
use selkie_e2e::on_both_backends;
use selkie_e2e::premises::Premises;
use selkie_e2e::program::ServerProcess;

on_both_backends! {
    async fn what_was_written_without_an_account_is_in_it_after_the_sign_up(backend: Backend) {
        let premises = Premises::new(backend).await;
        let network = Network::new().await;
        let server = ServerProcess::start(&premises, &network, "[registration]\npolicy = \"open\"\n", &[]).await;
        let desk = Desk::new(server.config());

        // Nobody has an account, and everything works.
        desk.selkie("laptop", &["vault", "create", "Journal"]).await.succeeds();
        let note = desk.write("note", r#"{"title":"Hello","mood":"calm"}"#);
        let put = desk.selkie("laptop", &["put", "Journal", "notes", "--file", &note]).await.succeeds();
        let id = put["id"].as_str().unwrap();
        let found = desk.selkie("laptop", &["query", "Journal", "notes", "--where", "mood=calm", "--count"]).await;
        assert_eq!(found.succeeds()["count"], 1);
        let empty = desk.write("empty", "");
        desk.selkie("laptop", &["put", "Journal", "notes", "--file", &empty]).await.fails_with(2);
        let again = ["put", "Journal", "notes", id, "--content", r#"{"title":"Hello","mood":"calm","day":2}"#];
        desk.selkie("laptop", &again).await.succeeds();
        // A mistaken name, of a collection or of a record, costs nothing.
        desk.selkie("laptop", &["put", "Journal", "tasks", id, "--file", &note]).await.fails_with(6);
        desk.selkie("laptop", &["rm", "Journal", "tasks", id]).await.fails_with(6);
        desk.selkie("laptop", &["rm", "Journal", "notes", "AAAAAAAAAAAAAAAAAAAAAQ"]).await.fails_with(2);
        desk.selkie("laptop", &["export", "Journal", "--to", &desk.path("journal.zip")]).await.succeeds();
        // The disk is minded without an account, too.
        let usage = desk.selkie("laptop", &["storage"]).await.succeeds();
        assert_eq!(usage["vaults"][0]["name"], "Journal", "{usage}");
        assert_eq!(desk.selkie("laptop", &["storage", "check"]).await.succeeds()["opened"], 3, "a name, and a note twice");
        assert_eq!(desk.selkie("laptop", &["storage", "repair"]).await.succeeds()["lost_writes"], serde_json::json!([]));
        assert_eq!(desk.selkie("laptop", &["storage", "prune", "--older-than", "0"]).await.succeeds()["versions"], 0);

        desk.signs_up("laptop", &network).await;
        let kept = desk.selkie("laptop", &["get", "Journal", id]).await.succeeds();
        assert_eq!(kept["content"]["title"], "Hello");

        // A tablet that began by itself, too, brings its own into the same vault.
        desk.selkie("tablet", &["vault", "create", "Journal"]).await.succeeds();
        desk.selkie("tablet", &["put", "Journal", "notes", "--file", &note]).await.succeeds();
        let came = desk.selkie("tablet", &["import", &desk.path("journal.zip"), "--into", "Journal"]).await.succeeds();
        assert_eq!(came["new"], 1);
        let status = desk.selkie("tablet", &["status"]).await.succeeds();
        assert_eq!((&status["state"], &status["pending"]), (&"alone".into(), &3.into()), "two notes and a name");
        desk.signs_in("tablet", "laptop", &network).await;
        desk.selkie("laptop", &["sync"]).await.succeeds();
        for device in ["laptop", "tablet"] {
            let there = desk.selkie(device, &["ls", "Journal", "notes"]).await.succeeds();
            assert_eq!(there["records"].as_array().unwrap().len(), 2, "{device}: what both had is there once");
            let conflicts = desk.selkie(device, &["conflicts", "Journal"]).await.succeeds();
            assert_eq!(conflicts["conflicts"].as_array().unwrap().len(), 0, "{device}");
        }
    }
}
