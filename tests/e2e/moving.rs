//! A household that moves from one server to another, at the command line.

use crate::desk::{ANA, Desk};
use selkie_e2e::network::Network;
use selkie_e2e::on_both_backends;
use selkie_e2e::premises::{Backend, Premises};
use selkie_e2e::program::ServerProcess;

on_both_backends! {
    /// From a server of one kind to a server of the other: that is what people move for.
    async fn who_moves_to_another_server_takes_everything_along(backend: Backend) {
        let other = match backend {
            Backend::SqliteAndFiles => Backend::PostgresAndS3,
            Backend::PostgresAndS3 => Backend::SqliteAndFiles,
        };
        let (premises, new_premises) = (Premises::new(backend).await, Premises::new(other).await);
        let (network, new_network) = (Network::new().await, Network::new().await);
        let settings = "[registration]\npolicy = \"open\"\n";
        let mut server = ServerProcess::start(&premises, &network, settings, &[]).await;
        let _new_server = ServerProcess::start(&new_premises, &new_network, settings, &[]).await;
        let desk = Desk::new(server.config());
        let (old, new) = (network.url(), new_network.url());
        let move_to = ["move-to", new.as_str()];

        // A life on the old server.
        desk.signs_up("laptop", &network).await;
        desk.signs_in("phone", "laptop", &network).await;
        desk.selkie("laptop", &["vault", "create", "Journal"]).await.succeeds();
        let put = desk.selkie("laptop", &["put", "Journal", "notes", "--content", r#"{"title":"Hello"}"#]).await;
        let put = put.succeeds();
        let id = put["id"].as_str().unwrap();
        desk.selkie("laptop", &["put", "Journal", "notes", id, "--content", r#"{"title":"Hello, you"}"#]).await.succeeds();
        desk.selkie("laptop", &["sync"]).await.succeeds();
        desk.selkie("phone", &["sync"]).await.succeeds();
        desk.selkie("phone", &["put", "Journal", "notes", "--content", r#"{"title":"From the phone"}"#]).await.succeeds();

        // Nobody there yet.
        desk.selkie("laptop", &move_to).await.fails_with(2);
        let sheet = desk.path("sheet-there.txt");
        let sign_up: [&str; 11] = [
            "sign-up", ANA, "--server", &new, "--password-file", &desk.password, "--device-name", "laptop",
            "--sheet-file", &sheet, "--yes",
        ];
        desk.selkie("laptop", &sign_up).await.succeeds();
        let moved = desk.selkie("laptop", &move_to).await.succeeds();
        assert_eq!((&moved["vaults"][0]["records"], &moved["vaults"][0]["kept"]), (&1.into(), &0.into()), "{moved}");

        // The phone brings what it had not sent.
        let secret = std::fs::read_to_string(&sheet).unwrap();
        let secret = secret.split_whitespace().find(|word| word.starts_with("S1-")).unwrap();
        let secret = desk.write("secret-key-there", secret);
        let sign_in: [&str; 10] = [
            "sign-in", ANA, "--server", &new, "--secret-key-file", &secret, "--device-name", "phone",
            "--password-file", &desk.password,
        ];
        desk.selkie("phone", &sign_in).await.succeeds();
        let moved = desk.selkie("phone", &move_to).await.succeeds();
        assert_eq!((&moved["vaults"][0]["records"], &moved["vaults"][0]["same"]), (&1.into(), &1.into()), "{moved}");
        desk.selkie("laptop", &at(&new, &["sync"])).await.succeeds();
        for device in ["laptop", "phone"] {
            let there = desk.selkie(device, &at(&new, &["ls", "Journal", "notes"])).await.succeeds();
            assert_eq!(there["records"].as_array().unwrap().len(), 2, "{device}: {there}");
            let history = desk.selkie(device, &at(&new, &["history", "Journal", id])).await.succeeds();
            assert_eq!(history["versions"].as_array().unwrap().len(), 2, "{device}: {history}");
        }

        // What this device has let go of does not go along, and that is no success.
        desk.selkie("laptop", &at(&old, &["storage", "let-go", "Journal", "--older-than", "0"])).await.succeeds();
        desk.selkie("laptop", &move_to).await.fails_with(1);
        let backup = desk.path("backup.zip");
        desk.selkie("laptop", &at(&old, &["export", "Journal", "--to", &backup])).await.fails_with(1);
        assert!(std::path::Path::new(&backup).exists(), "what could be read is in it");
        desk.selkie("laptop", &at(&old, &["vault", "fetch", "Journal", "--missing"])).await.succeeds();
        desk.selkie("laptop", &move_to).await.succeeds();
        desk.selkie("laptop", &["sync"]).await.fails_with(2);

        // The old server is switched off before the last words were sent.
        desk.selkie("laptop", &at(&old, &["put", "Journal", "notes", "--content", r#"{"title":"Last words"}"#])).await.succeeds();
        assert!(server.stop());
        desk.selkie("laptop", &move_to).await.fails_with(4);
        let without = ["move-to", new.as_str(), "Journal", "--without-old"];
        let moved = desk.selkie("laptop", &without).await.succeeds();
        assert_eq!((&moved["vaults"][0]["records"], &moved["vaults"][0]["same"]), (&1.into(), &2.into()), "{moved}");
        desk.selkie("phone", &at(&new, &["sync"])).await.succeeds();
        let there = desk.selkie("phone", &at(&new, &["ls", "Journal", "notes"])).await.succeeds();
        assert_eq!(there["records"].as_array().unwrap().len(), 3, "{there}");
    }
}

/// The same at one of two servers.
fn at<'a>(server: &'a str, arguments: &[&'a str]) -> Vec<&'a str> {
    [&["--server", server], arguments].concat()
}
