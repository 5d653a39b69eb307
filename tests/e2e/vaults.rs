//! Vaults, through the SDK, against the real server: devices and people who write, apart and together, and end with the
//! same history.

use std::time::Duration;

use selkie_client::{Account, Error, RecordId, Role, Vault, VaultState};
use selkie_e2e::network::Outcome;
use selkie_e2e::on_both_backends;
use selkie_e2e::round::step;
use selkie_e2e::server::TestServer;

const ANA: &str = "ana@example.org";
const BO: &str = "bo@example.org";
const PASSWORD: &str = "seven silver swans sail";
const APP: &str = "org.example.notes";
const NOTES: &str = "notes";

async fn named(account: &Account, name: &str) -> Vault {
    account.vault(name).await.expect("the list can be read").expect("the vault is here")
}

async fn content(vault: &Vault, id: RecordId) -> Option<String> {
    let record = vault.get(id).await.expect("the vault can be read")?;
    Some(String::from_utf8(record.data).expect("notes are text"))
}

async fn write(vault: &Vault, id: RecordId, text: &str) {
    vault.put(NOTES, id, text.as_bytes()).await.expect("writing works without a server");
}

on_both_backends! {
    async fn what_one_device_writes_the_other_reads(backend: Backend) {
        let server = TestServer::start(backend).await;
        let (person, laptop) = server.device("laptop").makes_an_account(ANA, PASSWORD).await;
        let journal = laptop.create_vault("Journal", APP).await.unwrap();
        let ids: Vec<RecordId> = (0..600).map(|_| journal.new_record_id()).collect();
        for (number, id) in ids.iter().enumerate() {
            write(&journal, *id, &format!("note {number}")).await;
        }
        step(&laptop).await;
        let phone = server.device("phone").signs_in(&person).await.unwrap().account;
        step(&phone).await;
        let on_phone = named(&phone, "Journal").await;
        assert_eq!(on_phone.records(NOTES).await.unwrap().len(), 600);
        assert_eq!(content(&on_phone, ids[599]).await.as_deref(), Some("note 599"));
        write(&on_phone, ids[0], "from the phone").await;
        on_phone.delete(NOTES, ids[1]).await.unwrap();
        step(&phone).await;
        step(&laptop).await;
        assert_eq!(content(&journal, ids[0]).await.as_deref(), Some("from the phone"));
        assert_eq!(content(&journal, ids[1]).await, None);
        assert_eq!(journal.history(ids[1]).await.unwrap().len(), 2, "what was deleted stays in the history");
        step(&phone).await;
        assert_eq!(journal.digest().await.unwrap(), on_phone.digest().await.unwrap());
    }

    async fn two_devices_write_one_record_and_nothing_is_lost(backend: Backend) {
        let server = TestServer::start(backend).await;
        let (person, laptop) = server.device("laptop").makes_an_account(ANA, PASSWORD).await;
        let journal = laptop.create_vault("Journal", APP).await.unwrap();
        let id = journal.new_record_id();
        write(&journal, id, "first").await;
        step(&laptop).await;
        let phone = server.device("phone").signs_in(&person).await.unwrap().account;
        step(&phone).await;
        let on_phone = named(&phone, "Journal").await;
        write(&journal, id, "from the laptop").await;
        write(&on_phone, id, "from the phone").await;
        for _ in 0..2 {
            step(&laptop).await;
            step(&phone).await;
        }
        assert_eq!(content(&journal, id).await, content(&on_phone, id).await);
        let versions = on_phone.history(id).await.unwrap();
        let said: Vec<String> =
            versions.iter().map(|version| String::from_utf8(version.data.clone()).unwrap()).collect();
        for text in ["first", "from the laptop", "from the phone"] {
            assert!(said.iter().any(|one| one == text), "{text} is lost: {said:?}");
        }
        assert_eq!(journal.digest().await.unwrap(), on_phone.digest().await.unwrap());
    }

    async fn people_share_a_vault_and_one_leaves(backend: Backend) {
        let server = TestServer::start(backend).await;
        let (_, ana) = server.device("laptop").makes_an_account(ANA, PASSWORD).await;
        let (_, bo) = server.device("tablet").makes_an_account(BO, PASSWORD).await;
        let family = ana.create_vault("Family", APP).await.unwrap();
        let id = family.new_record_id();
        write(&family, id, "milk").await;
        step(&ana).await;
        family.add_member(bo.user_id(), Role::Editor).await.unwrap();
        step(&ana).await;
        step(&bo).await;
        let of_bo = named(&bo, "Family").await;
        assert_eq!(content(&of_bo, id).await.as_deref(), Some("milk"));
        write(&of_bo, id, "milk and bread").await;
        step(&bo).await;
        step(&ana).await;
        assert_eq!(content(&family, id).await.as_deref(), Some("milk and bread"));

        family.remove_member(bo.user_id()).await.unwrap();
        write(&family, id, "a secret").await;
        step(&ana).await;
        write(&of_bo, id, "milk, bread and cheese").await;
        for _ in 0..2 {
            step(&bo).await;
        }
        assert_eq!(of_bo.status().await.unwrap().state, VaultState::NotAMember);
        of_bo.verify().await.expect("they are shown how it ended");
        let seen = of_bo.digest().await.unwrap().n;
        assert!(seen < family.digest().await.unwrap().n, "and nothing after that");
        assert_eq!(content(&of_bo, id).await.as_deref(), Some("milk, bread and cheese"), "what they had stays readable");
        of_bo.put(NOTES, id, b"still here").await.expect_err("who was removed and knows it does not write");
        assert_eq!(of_bo.status().await.unwrap().pending, 1, "what they wrote before they knew is kept");
        of_bo.sync().await.expect("asking once more is no fault");
        step(&ana).await;
        assert_eq!(content(&family, id).await.as_deref(), Some("a secret"));

        // Let in again, they read what was written meanwhile, and what they had written comes along.
        family.add_member(bo.user_id(), Role::Editor).await.unwrap();
        for _ in 0..2 {
            step(&ana).await;
            step(&bo).await;
        }
        step(&ana).await;
        assert_eq!(of_bo.digest().await.unwrap(), family.digest().await.unwrap());
        let versions = of_bo.history(id).await.unwrap();
        for text in ["a secret", "milk, bread and cheese", "milk and bread"] {
            assert!(versions.iter().any(|one| one.data == text.as_bytes()), "{text} is lost");
        }
    }

    async fn a_line_that_loses_answers_loses_nothing_else(backend: Backend) {
        let server = TestServer::start(backend).await;
        let (person, laptop) = server.device("laptop").makes_an_account(ANA, PASSWORD).await;
        let journal = laptop.create_vault("Journal", APP).await.unwrap();
        step(&laptop).await;
        let id = journal.new_record_id();
        write(&journal, id, "once").await;
        // The push arrives, its answer does not.
        server.network().behave(|request, server| async move {
            let answer = server.answer(&request).await;
            if request.path.ends_with("/push") { Outcome::Silence } else { answer }
        });
        let report = journal.sync().await.expect("what got no answer is looked for");
        assert_eq!((report.pushed, report.pending), (1, 0));
        server.network().behave_well();
        step(&laptop).await;
        assert_eq!(journal.status().await.unwrap().pending, 0);
        let phone = server.device("phone").signs_in(&person).await.unwrap().account;
        step(&phone).await;
        let on_phone = named(&phone, "Journal").await;
        assert_eq!(on_phone.history(id).await.unwrap().len(), 1, "it was taken once");
        step(&laptop).await;
        assert_eq!(journal.digest().await.unwrap(), on_phone.digest().await.unwrap());
    }

    async fn work_goes_on_without_a_server_and_across_a_restart(backend: Backend) {
        let server = TestServer::start(backend).await;
        let mut device = server.device("laptop");
        let (person, laptop) = device.makes_an_account(ANA, PASSWORD).await;
        step(&laptop).await;
        server.network().behave(|_, _| async { Outcome::Silence });
        let journal = laptop.create_vault("Journal", APP).await.unwrap();
        let id = journal.new_record_id();
        write(&journal, id, "in a tunnel").await;
        assert!(matches!(laptop.sync().await, Err(Error::Offline(_))));
        drop((journal, laptop));
        device.restart();
        let laptop = device.account(ANA).await.unwrap().expect("the account is here");
        let journal = named(&laptop, "Journal").await;
        assert_eq!(content(&journal, id).await.as_deref(), Some("in a tunnel"));
        assert_eq!(journal.summary().await.unwrap().state, VaultState::New);
        server.network().behave_well();
        step(&laptop).await;
        let phone = server.device("phone").signs_in(&person).await.unwrap().account;
        step(&phone).await;
        assert_eq!(content(&named(&phone, "Journal").await, id).await.as_deref(), Some("in a tunnel"));
    }

    async fn an_idle_poll_says_nothing_and_fetches_nothing(backend: Backend) {
        let server = TestServer::start(backend).await;
        let (_, laptop) = server.device("laptop").makes_an_account(ANA, PASSWORD).await;
        let journal = laptop.create_vault("Journal", APP).await.unwrap();
        write(&journal, journal.new_record_id(), "one").await;
        for _ in 0..3 {
            step(&laptop).await;
        }
        server.network().forget();
        server.clock().advance(Duration::from_secs(1));
        step(&laptop).await;
        let crossed = server.network().exchanges();
        assert_eq!(crossed.len(), 1, "one question, one answer: {:?}", crossed.iter().map(|one| &one.request.path).collect::<Vec<_>>());
        assert!(crossed[0].request.path.starts_with("/v1/poll"));
    }
}
