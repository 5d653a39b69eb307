//! Both programs as people and scripts use them: arguments, files, JSON and exit codes.

use crate::desk::{ANA, Desk};
use selkie_e2e::network::Network;
use selkie_e2e::on_both_backends;
use selkie_e2e::premises::Premises;
use selkie_e2e::program::ServerProcess;
use serde_json::Value;

on_both_backends! {
    /// From the greeting of an empty server to the end of the account, with nothing but the two programs.
    async fn a_whole_life_at_the_command_line(backend: Backend) {
        let premises = Premises::new(backend).await;
        let network = Network::new().await;
        let server = ServerProcess::start(&premises, &network, "", &[]).await;
        let desk = Desk::new(server.config());

        // The server names the command that makes the first account, once.
        let said = server.said_containing("--invite").await;
        let invite = said.split("--invite ").nth(1).unwrap().split_whitespace().next().unwrap();
        let sheet = desk.path("sheet.txt");
        let sign_up = ["sign-up", ANA, "--server", &network.url(), "--invite", invite, "--password-file", &desk.password,
            "--device-name", "laptop", "--sheet-file", &sheet, "--yes"];
        desk.selkie("laptop", &sign_up).await.succeeds();
        let accounts = desk.server(&["account", "list"]).await.succeeds();
        assert_eq!(accounts[0]["login_name"], ANA);
        assert_eq!(accounts[0]["role"], "owner");
        let again = desk.selkie("tablet", &["sign-up", "bo@example.org", "--server", &network.url(), "--invite", invite,
            "--password-file", &desk.password, "--sheet-file", &desk.path("other-sheet.txt"), "--yes"]).await;
        again.fails_with(6);

        // A second device, by what is on the sheet.
        let text = std::fs::read_to_string(&sheet).unwrap();
        let code = |kind: &str| text.split_whitespace().find(|word| word.starts_with(kind)).unwrap().to_owned();
        let secret_key = desk.write("secret-key", &code("S1-"));
        let sign_in = ["sign-in", ANA, "--server", &network.url(), "--secret-key-file", &secret_key, "--device-name",
            "phone", "--password-file"];
        let wrong = desk.write("wrong", "seven silver swans sank");
        desk.selkie("phone", &[&sign_in[..], &[&wrong]].concat()).await.fails_with(6);
        desk.selkie("phone", &[&sign_in[..], &[&desk.password]].concat()).await.succeeds();
        let devices = desk.selkie("laptop", &["devices"]).await.succeeds();
        let phone = devices["devices"].as_array().unwrap().iter().find(|device| device["name"] == "phone").unwrap();

        // It is sent away, and knows it.
        let id = phone["id"].as_str().unwrap();
        desk.selkie("laptop", &["devices", "revoke", id, "--password-file", &desk.password]).await.succeeds();
        desk.selkie("phone", &["devices"]).await.fails_with(3);

        // Suspended by the operator, and let in again.
        desk.server(&["account", "suspend", ANA]).await.succeeds();
        desk.selkie("laptop", &["sessions"]).await.fails_with(6);
        desk.server(&["account", "resume", ANA]).await.succeeds();
        desk.selkie("laptop", &["sessions"]).await.succeeds();

        // A new password, then a new everything.
        let new = desk.write("new", "eight golden geese graze");
        let change = ["password", "change", "--password-file", &desk.password, "--new-password-file", &new];
        desk.selkie("laptop", &change).await.succeeds();
        let recovery_key = desk.write("recovery-key", &code("R1-"));
        let newest = desk.write("newest", "nine bronze bears bathe");
        let new_sheet = desk.path("new-sheet.html");
        let recover = ["recover", ANA, "--server", &network.url(), "--recovery-key-file", &recovery_key,
            "--password-file", &newest, "--sheet-file", &new_sheet, "--yes"];
        desk.selkie("watch", &recover).await.succeeds();
        assert!(std::fs::read_to_string(&new_sheet).unwrap().contains("R1-"));
        desk.selkie("laptop", &["sessions"]).await.fails_with(3);

        // And the end.
        desk.selkie("watch", &["sign-out", "--wipe"]).await.succeeds();
        drop(server);
        desk.selkie("laptop", &["sign-in", ANA, "--password-file", &newest]).await.fails_with(4);
    }

    /// Two devices of one person, and another person, with nothing but the command line.
    async fn a_vault_is_shared_at_the_command_line(backend: Backend) {
        let premises = Premises::new(backend).await;
        let network = Network::new().await;
        let server = ServerProcess::start(&premises, &network, "[registration]\npolicy = \"open\"\n", &[]).await;
        let desk = Desk::new(server.config());
        for (device, name) in [("laptop", ANA), ("tablet", "bo@example.org")] {
            let sheet = desk.path(&format!("sheet-{device}.txt"));
            let sign_up = ["sign-up", name, "--server", &network.url(), "--password-file", &desk.password,
                "--device-name", device, "--sheet-file", &sheet, "--yes"];
            desk.selkie(device, &sign_up).await.succeeds();
        }
        let note = desk.write("note", "{\"title\":\"Hello\"}");
        let made = desk.selkie("laptop", &["vault", "create", "Journal", "--app", "org.example.journal"]).await.succeeds();
        let vault = made["vault"].as_str().unwrap().to_owned();
        let put = desk.selkie("laptop", &["put", "Journal", "notes", "--file", &note]).await.succeeds();
        let id = put["id"].as_str().unwrap().to_owned();
        let listed = desk.selkie("laptop", &["vault", "list"]).await.succeeds();
        let journal = |list: &Value| list["vaults"].as_array().unwrap().iter().find(|one| one["vault"] == *vault).cloned();
        assert_eq!(journal(&listed).unwrap()["state"], "not on the server yet");
        let sent = desk.selkie("laptop", &["debug", "push", "Journal"]).await.succeeds();
        assert!(sent["entries"].as_array().unwrap().len() >= 2, "the vault, and what is in it: {sent}");

        // Ana's phone.
        let text = std::fs::read_to_string(desk.path("sheet-laptop.txt")).unwrap();
        let secret_key = text.split_whitespace().find(|word| word.starts_with("S1-")).unwrap();
        let secret_key = desk.write("secret-key", secret_key);
        let sign_in = ["sign-in", ANA, "--server", &network.url(), "--secret-key-file", &secret_key, "--device-name",
            "phone", "--password-file", &desk.password];
        desk.selkie("phone", &sign_in).await.succeeds();
        desk.selkie("phone", &["sync"]).await.succeeds();
        let read = desk.selkie("phone", &["get", "Journal", &id]).await.succeeds();
        assert_eq!(read["content"]["title"], "Hello");
        let found = desk.selkie("phone", &["query", "Journal", "notes", "--where", "title^Hel"]).await.succeeds();
        assert_eq!(found["records"][0]["id"], id.as_str());
        let none = ["query", "Journal", "notes", "--where", "title!=Hello", "--count"];
        assert_eq!(desk.selkie("phone", &none).await.succeeds()["count"], 0);
        let found = desk.selkie("phone", &["search", "Journal", "notes", "HELLO"]).await.succeeds();
        assert_eq!(found["records"].as_array().map(Vec::len), Some(1));
        desk.selkie("phone", &["query", "Journal", "notes", "--where", "nonsense"]).await.fails_with(2);

        // Bo, who reads and may not write, then may.
        let bo = desk.selkie("tablet", &["whoami"]).await.succeeds()["user_id"].as_str().unwrap().to_owned();
        desk.selkie("phone", &["vault", "add", "Journal", &bo, "--role", "viewer"]).await.succeeds();
        desk.selkie("tablet", &["sync"]).await.succeeds();
        let read = desk.selkie("tablet", &["get", "Journal", &id]).await.succeeds();
        assert_eq!(read["content"]["title"], "Hello");
        let edited = desk.write("edited", "{\"title\":\"Hello, Ana\"}");
        desk.selkie("tablet", &["put", "Journal", "notes", &id, "--file", &edited]).await.fails_with(6);
        desk.selkie("laptop", &["sync"]).await.succeeds();
        desk.selkie("laptop", &["vault", "role", "Journal", &bo, "editor"]).await.succeeds();
        desk.selkie("tablet", &["sync"]).await.succeeds();
        desk.selkie("tablet", &["put", "Journal", "notes", &id, "--file", &edited]).await.succeeds();
        desk.selkie("tablet", &["sync"]).await.succeeds();
        let came = desk.selkie("phone", &["debug", "pull", "Journal"]).await.succeeds();
        assert!(came["entries"].as_array().unwrap().iter().any(|entry| entry["what"] == "1 change"), "{came}");
        let history = desk.selkie("phone", &["history", "Journal", &id]).await.succeeds();
        let titles: Vec<&Value> =
            history["versions"].as_array().unwrap().iter().map(|version| &version["content"]["title"]).collect();
        assert_eq!(titles.len(), 2, "{history}");
        assert!(titles.iter().any(|title| *title == "Hello, Ana") && titles.iter().any(|title| *title == "Hello"));

        // The same history everywhere, and as it was signed.
        desk.selkie("laptop", &["sync"]).await.succeeds();
        let mut digests = Vec::new();
        for device in ["laptop", "phone", "tablet"] {
            desk.selkie(device, &["sync"]).await.succeeds();
            let status = desk.selkie(device, &["vault", "status", "Journal"]).await.succeeds();
            digests.push(status["digest"].as_str().unwrap().to_owned());
            desk.selkie(device, &["vault", "verify", "Journal"]).await.succeeds();
        }
        assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
        desk.selkie("laptop", &["vault", "log", "Journal"]).await.succeeds();
        desk.selkie("laptop", &["sync"]).await.succeeds();
        let compared = desk.selkie("laptop", &["compare"]).await.succeeds();
        let of_journal = compared["vaults"].as_array().unwrap().iter().find(|one| one["vault"] == *vault).unwrap();
        assert_eq!(of_journal["digest"], digests[0]);
        let phone = of_journal["devices"].as_array().unwrap().iter().find(|one| one["name"] == "phone");
        assert_eq!(phone.unwrap()["compared"], "behind", "it told so when it came in: {compared}");

        // Bo leaves, and reads nothing new.
        desk.selkie("laptop", &["vault", "remove", "Journal", &bo]).await.succeeds();
        desk.selkie("laptop", &["put", "Journal", "notes", &id, "--file", &note]).await.succeeds();
        desk.selkie("laptop", &["sync"]).await.succeeds();
        desk.selkie("tablet", &["sync"]).await.succeeds();
        let listed = desk.selkie("tablet", &["vault", "list"]).await.succeeds();
        assert_eq!(journal(&listed).unwrap()["state"], "you were removed");
        desk.selkie("tablet", &["vault", "verify", "Journal"]).await.succeeds();
        desk.selkie("tablet", &["put", "Journal", "notes", &id, "--file", &note]).await.fails_with(6);
        let read = desk.selkie("tablet", &["get", "Journal", &id]).await.succeeds();
        assert_eq!(read["content"]["title"], "Hello, Ana", "what they had, they keep");
        assert!(desk.selkie("laptop", &["get", "Journal", &id]).await.succeeds()["content"]["title"] == "Hello");

        // What it said before comes back.
        let history = desk.selkie("laptop", &["history", "Journal", &id]).await.succeeds();
        let mut versions = history["versions"].as_array().unwrap().iter();
        let edited = versions.rfind(|version| version["content"]["title"] == "Hello, Ana").unwrap();
        let change = edited["change"].as_str().unwrap();
        desk.selkie("laptop", &["restore", "Journal", &id, change]).await.succeeds();
        let read = desk.selkie("laptop", &["get", "Journal", &id]).await.succeeds();
        assert_eq!((&read["content"]["title"], &read["pending"]), (&"Hello, Ana".into(), &true.into()));
        let conflicts = desk.selkie("laptop", &["conflicts", "Journal", "--open"]).await.succeeds();
        assert_eq!(conflicts["conflicts"], serde_json::json!([]));
        desk.selkie("laptop", &["resolve", "Journal", &id, "mine"]).await.fails_with(2);
    }

    /// Whoever wants to be asked is shown what both sides say, and decides when they like.
    async fn a_conflict_is_decided_at_the_command_line(backend: Backend) {
        let premises = Premises::new(backend).await;
        let network = Network::new().await;
        let server = ServerProcess::start(&premises, &network, "[registration]\npolicy = \"open\"\n", &[]).await;
        let desk = Desk::new(server.config());
        let sheet = desk.path("sheet.txt");
        let sign_up = ["sign-up", ANA, "--server", &network.url(), "--password-file", &desk.password, "--sheet-file",
            &sheet, "--yes"];
        desk.selkie("laptop", &sign_up).await.succeeds();
        let text = std::fs::read_to_string(&sheet).unwrap();
        let secret_key = text.split_whitespace().find(|word| word.starts_with("S1-")).unwrap();
        let secret_key = desk.write("secret-key", secret_key);
        let sign_in = ["sign-in", ANA, "--server", &network.url(), "--secret-key-file", &secret_key,
            "--password-file", &desk.password];
        desk.selkie("phone", &sign_in).await.succeeds();
        desk.selkie("laptop", &["vault", "create", "Home", "--app", "org.example.home"]).await.succeeds();
        let put = async |device: &str, id: &str, said: &str| {
            let content = format!("{{\"said\":\"{said}\"}}");
            let put = ["put", "Home", "costs", id, "--content", &content];
            let put = if id.is_empty() { [&put[..3], &put[4..]].concat() } else { put.to_vec() };
            desk.selkie(device, &put).await.succeeds()["id"].as_str().unwrap().to_owned()
        };
        let (rent, heat) = (put("laptop", "", "rent 900").await, put("laptop", "", "heat 50").await);
        desk.selkie("laptop", &["sync"]).await.succeeds();
        desk.selkie("phone", &["sync"]).await.succeeds();
        let listed = desk.selkie("phone", &["ls", "Home"]).await.succeeds();
        assert_eq!(listed["collections"], serde_json::json!([{ "collection": "costs", "records": 2 }]));
        let last = ["query", "Home", "costs", "--order", "said", "--offset", "1"];
        assert_eq!(desk.selkie("phone", &last).await.succeeds()["records"][0]["id"], rent.as_str());
        for (id, laptop, phone) in [(&rent, "rent 950", "rent 1000"), (&heat, "heat 60", "heat 70")] {
            put("laptop", id, laptop).await;
            put("phone", id, phone).await;
        }
        desk.selkie("laptop", &["sync"]).await.succeeds();
        desk.selkie("phone", &["sync", "--ask", "costs"]).await.succeeds();

        let conflicts = desk.selkie("phone", &["conflicts", "Home", "--open"]).await.succeeds();
        let conflict = |id: &str| {
            let found = conflicts["conflicts"].as_array().unwrap().iter().find(|one| one["record"] == id);
            ["base", "mine", "theirs"].map(|side| found.unwrap()[side]["content"]["said"].clone())
        };
        assert_eq!(conflict(&rent), ["rent 900", "rent 1000", "rent 950"]);
        assert_eq!(conflict(&heat), ["heat 50", "heat 70", "heat 60"]);
        desk.selkie("phone", &["resolve", "Home", &rent, "mine"]).await.succeeds();
        desk.selkie("phone", &["resolve", "Home", &heat, "theirs"]).await.succeeds();
        desk.selkie("phone", &["resolve", "Home", &heat, "mine"]).await.fails_with(2);
        for device in ["phone", "laptop"] {
            desk.selkie(device, &["sync"]).await.succeeds();
        }
        for device in ["phone", "laptop"] {
            for (id, said) in [(&rent, "rent 1000"), (&heat, "heat 60")] {
                assert_eq!(desk.selkie(device, &["get", "Home", id]).await.succeeds()["content"]["said"], said);
            }
        }
        // Nobody is asked any more; what lost is in the history.
        let conflicts = desk.selkie("phone", &["conflicts", "Home", "--open"]).await.succeeds();
        assert_eq!(conflicts["conflicts"], serde_json::json!([]));
        let history = desk.selkie("laptop", &["history", "Home", &rent]).await.succeeds();
        assert!(history["versions"].as_array().unwrap().iter().any(|one| one["content"]["said"] == "rent 950"));

        // Who does not ask to be asked is told what was merged.
        for (device, said) in [("laptop", "rent 1100"), ("phone", "rent 1200")] {
            put(device, &rent, said).await;
        }
        desk.selkie("laptop", &["sync"]).await.succeeds();
        desk.selkie("phone", &["sync"]).await.succeeds();
        let conflicts = desk.selkie("phone", &["conflicts", "Home"]).await.succeeds();
        let settled = conflicts["conflicts"].as_array().unwrap().last().unwrap();
        assert_eq!((&settled["record"], &settled["open"]), (&rent.as_str().into(), &false.into()), "{settled}");
        assert_eq!(settled["stands"]["content"]["said"], "rent 1200", "{settled}");
        assert_eq!(settled["set_aside"]["content"]["said"], "rent 1100", "{settled}");
    }

    /// A vault goes into a file every night, sealed, and comes back where nothing of it was left.
    async fn a_vault_is_kept_in_a_file_at_the_command_line(backend: Backend) {
        let premises = Premises::new(backend).await;
        let network = Network::new().await;
        let server = ServerProcess::start(&premises, &network, "[registration]\npolicy = \"open\"\n", &[]).await;
        let desk = Desk::new(server.config());
        for (device, name) in [("laptop", ANA), ("tablet", "bo@example.org")] {
            let sheet = desk.path(&format!("sheet-{device}.txt"));
            let sign_up = ["sign-up", name, "--server", &network.url(), "--password-file", &desk.password,
                "--device-name", device, "--sheet-file", &sheet, "--yes"];
            desk.selkie(device, &sign_up).await.succeeds();
        }
        let made = desk.selkie("laptop", &["vault", "create", "Journal", "--app", "org.example.journal"]).await.succeeds();
        let note = desk.write("note", "{\"title\":\"Hello\"}");
        let put = desk.selkie("laptop", &["put", "Journal", "notes", "--file", &note]).await.succeeds();
        let id = put["id"].as_str().unwrap().to_owned();
        let rows = desk.path("more.csv");
        std::fs::write(&rows, "ID,title\n1,\"From, a table\"\n2,Another\n").unwrap();
        let table = ["import", &rows, "--into", "Journal", "--collection", "notes", "--id-field", "ID"];
        assert_eq!(desk.selkie("laptop", &table).await.succeeds()["new"], 2);
        assert_eq!(desk.selkie("laptop", &table).await.succeeds()["same"], 2);
        let costs = desk.path("costs.csv");
        std::fs::write(&costs, "No,Amount\n1,900\n2,50\n").unwrap();
        desk.selkie("laptop", &["vault", "create", "Home", "--app", "org.example.home"]).await.succeeds();
        let table = ["import", &costs, "--into", "Home", "--collection", "costs", "--id-field", "No", "--field",
            "Amount=euros:integer", "--field", "No="];
        let report = desk.selkie("laptop", &table).await.succeeds();
        assert_eq!((&report["new"], &report["rows"]), (&2.into(), &2.into()));
        assert_eq!(desk.selkie("laptop", &table).await.succeeds()["digest"], report["digest"]);
        let dear = desk.selkie("laptop", &["query", "Home", "costs", "--where", "euros>=100"]).await.succeeds();
        assert_eq!(dear["records"][0]["content"], serde_json::json!({ "euros": 900 }), "{dear}");
        desk.selkie("laptop", &[&table[..], &["--field", "Amount"]].concat()).await.fails_with(2);
        desk.selkie("laptop", &["sync"]).await.succeeds();

        // Twice, as cron does: the second takes the place of the first.
        let (open, sealed) = (desk.path("journal.zip"), desk.path("journal.zip.age"));
        let passphrase = desk.write("passphrase", "a sentence for the safe");
        for _ in 0..2 {
            let export = ["export", "Journal", "--to", &open, "--history"];
            let written = desk.selkie("laptop", &export).await.succeeds();
            assert_eq!((&written["records"], &written["versions"], &written["unreadable"]), (&3.into(), &3.into(), &0.into()));
            let export = ["export", "Journal", "--to", &sealed, "--passphrase-file", &passphrase];
            assert_eq!(desk.selkie("laptop", &export).await.succeeds()["sealed"], true);
        }
        for quiet in [&["sync", "--quiet"][..], &["export", "Journal", "--to", &open, "--quiet"]] {
            assert_eq!(desk.in_words("laptop", quiet).await.says(), "", "cron would send a letter");
        }
        let left = |name: &str| std::fs::read_dir(desk.path("")).unwrap().any(|entry| {
            entry.unwrap().file_name().to_string_lossy().ends_with(name)
        });
        assert!(!left(".part"));
        desk.selkie("laptop", &["export", "Nothing", "--to", &open]).await.fails_with(2);
        desk.selkie("laptop", &["export", "Journal", "--to", &desk.path("no/such/folder")]).await.fails_with(1);

        // Into the vault it was made of, then to somebody who never had it, and from there to the server.
        let journal = made["vault"].as_str().unwrap();
        let again = desk.selkie("laptop", &["import", &open]).await.succeeds();
        assert_eq!((&again["vault"], &again["same"], &again["new"]), (&journal.into(), &3.into(), &0.into()));
        desk.selkie("tablet", &["import", &sealed]).await.fails_with(6);
        desk.selkie("tablet", &["import", &sealed, "--passphrase-file", &desk.password]).await.fails_with(6);
        let open_sealed = ["import", &sealed, "--passphrase-file", &passphrase];
        let brought = desk.selkie("tablet", &open_sealed).await.succeeds();
        assert_eq!(brought["new"], 3);
        assert_ne!(brought["vault"], journal, "it is another person's vault now");
        let again = desk.selkie("tablet", &open_sealed).await.succeeds();
        assert_eq!((&again["vault"], &again["same"]), (&brought["vault"], &3.into()));
        desk.selkie("tablet", &["sync"]).await.succeeds();
        let read = desk.selkie("tablet", &["get", "Journal", &id]).await.succeeds();
        assert_eq!((&read["content"]["title"], &read["pending"]), (&"Hello".into(), &false.into()));

        // One that was cut off is none.
        let bytes = std::fs::read(&open).unwrap();
        let half = desk.path("half.zip");
        std::fs::write(&half, &bytes[..bytes.len() / 2]).unwrap();
        desk.selkie("tablet", &["import", &half, "--into", "Journal"]).await.fails_with(6);
        desk.selkie("tablet", &["import", &desk.path("not-there.zip")]).await.fails_with(1);
    }

    async fn an_operator_asks_how_it_stands(backend: Backend) {
        let premises = Premises::new(backend).await;
        let network = Network::new().await;
        let mut server = ServerProcess::start(&premises, &network, "", &[]).await;
        let desk = Desk::new(server.config());
        desk.server(&["migrate", "--check"]).await.succeeds();
        desk.server(&["config", "check"]).await.succeeds();
        desk.server(&["doctor"]).await.succeeds();
        desk.server(&["tenant", "create", "acme", "--name", "Acme"]).await.succeeds();
        let tenants = desk.server(&["tenant", "list"]).await.succeeds();
        assert!(tenants.as_array().unwrap().iter().any(|tenant| tenant["slug"] == "acme"), "{tenants}");
        let listen = server.address().to_string();
        desk.server_with(&["healthcheck"], &[("SELKIE_SERVER__LISTEN", &listen)]).await.succeeds();
        assert!(server.stop(), "a server that is asked to stop does so in good order");
        desk.server_with(&["healthcheck"], &[("SELKIE_SERVER__LISTEN", &listen)]).await.fails_with(3);
        let mistyped = [("SELKIE_SERVER__LISTN", "127.0.0.1:1")];
        desk.server_with(&["config", "check"], &mistyped).await.fails_with(2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_no_configuration_at_all_starts_and_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let network = Network::new().await;
    // Everything but the port is as on an empty machine: two tests may not have the same one.
    let server = ServerProcess::start_in(folder.path(), &network, &[("SELKIE_SERVER__LISTEN", "127.0.0.1:0")]).await;
    let said = server.said_containing("--invite").await;
    assert!(said.contains("selkie-data"), "{said}");
    assert!(said.contains("master key"), "{said}");
    assert!(folder.path().join("selkie-data/selkie.db").is_file());
    let mode = |path: &str| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::metadata(folder.path().join(path)).unwrap().permissions().mode() & 0o777
    };
    assert_eq!(mode("selkie-data"), 0o700);
    assert_eq!(mode("selkie-data/selkie.db"), 0o600);
    assert_eq!(mode("selkie-data/master.key"), 0o600);
}
