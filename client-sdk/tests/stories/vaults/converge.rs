//! Several devices, several people, one log.

use super::{APP, another_device, id, person, same, text};
use crate::fake::{Fake, Mishap};
use futures_util::StreamExt as _;
use selkie_client::{Account, RecordState, Role, VaultState};
use selkie_protocol::vault::Wrap;

#[tokio::test]
async fn two_devices_of_one_person_share_a_vault() {
    let server = Fake::start();
    let ana = person(&server, "ana@example.org").await;
    let laptop = ana.account.create_vault("Journal", APP).await.unwrap();
    laptop.put("notes", id(1), b"hello").await.unwrap();
    assert_eq!(text(&laptop, 1).await.as_deref(), Some("hello"), "readable at once, without a server");
    assert_eq!(laptop.summary().await.unwrap().state, VaultState::New);
    let report = laptop.sync().await.unwrap();
    assert_eq!((report.pushed, report.pending), (2, 0), "the name and the note");

    let phone = another_device(&server, "ana@example.org", &ana).await;
    let outcome = phone.sync().await.unwrap();
    assert!(outcome.first_error().is_none(), "{outcome:?}");
    let on_phone = phone.vault("Journal").await.unwrap().expect("it was found by the poll");
    assert_eq!(text(&on_phone, 1).await.as_deref(), Some("hello"));
    on_phone.put("notes", id(2), b"from the phone").await.unwrap();
    on_phone.sync().await.unwrap();
    laptop.sync().await.unwrap();
    assert_eq!(text(&laptop, 2).await.as_deref(), Some("from the phone"));
    same(&[&laptop, &on_phone]).await;
}

#[tokio::test]
async fn a_round_tells_what_it_did_collection_by_collection() {
    let server = Fake::start();
    let ana = person(&server, "ana@example.org").await;
    let laptop = ana.account.create_vault("Journal", APP).await.unwrap();
    laptop.put("notes", id(1), b"one").await.unwrap();
    laptop.put("notes", id(2), b"two").await.unwrap();
    laptop.put("moods", id(3), b"calm").await.unwrap();
    let counts = |report: &selkie_client::SyncReport, name: &str| {
        let counted = report.collections.get(name).copied().unwrap_or_default();
        (counted.pushed, counted.pulled, counted.conflicts, counted.failures)
    };
    let report = laptop.sync().await.unwrap();
    assert_eq!((counts(&report, "notes"), counts(&report, "moods")), ((2, 0, 0, 0), (1, 0, 0, 0)));
    assert_eq!(report.collections.values().map(|counted| counted.pushed).sum::<usize>(), report.pushed);

    let phone = another_device(&server, "ana@example.org", &ana).await;
    let report = phone.sync().await.unwrap().vaults.into_iter().find(|(id, _)| *id == laptop.id()).unwrap().1.unwrap();
    assert_eq!((counts(&report, "notes"), counts(&report, "moods")), ((0, 2, 0, 0), (0, 1, 0, 0)));
    let on_phone = phone.vault("Journal").await.unwrap().unwrap();
    laptop.put("notes", id(1), b"on the laptop").await.unwrap();
    laptop.sync().await.unwrap();
    on_phone.put("notes", id(1), b"on the phone").await.unwrap();
    on_phone.put("notes", id(1), b"on the phone, again").await.unwrap();
    let report = on_phone.sync().await.unwrap();
    assert_eq!(counts(&report, "notes"), (2, 1, 1, 0));
    assert_eq!((report.pushed, report.pulled, report.conflicts), (2, 1, 1));
    assert_eq!(report.collections.len(), 1, "nothing is said of where nothing was done: {report:?}");
}

#[tokio::test]
async fn two_people_share_a_vault() {
    let server = Fake::start();
    let (ana, bob) = (person(&server, "ana@example.org").await, person(&server, "bob").await);
    let hers = ana.account.create_vault("Household", APP).await.unwrap();
    hers.put("notes", id(1), b"hers").await.unwrap();
    hers.add_member(bob.account.user_id(), Role::Editor).await.unwrap();
    hers.sync().await.unwrap();

    bob.account.sync().await.unwrap();
    let his = bob.account.vault("Household").await.unwrap().unwrap();
    assert_eq!(text(&his, 1).await.as_deref(), Some("hers"));
    his.put("notes", id(2), b"his").await.unwrap();
    his.sync().await.unwrap();
    hers.sync().await.unwrap();
    assert_eq!(text(&hers, 2).await.as_deref(), Some("his"));
    assert_eq!(hers.members().await.unwrap().len(), 2);
    same(&[&hers, &his]).await;
    let verified = his.verify().await.unwrap();
    assert_eq!(verified.digest, hers.digest().await.unwrap());
}

#[tokio::test]
async fn a_record_that_one_may_only_read_is_in_step_like_any_other() {
    let server = Fake::start();
    let ana = person(&server, "ana@example.org").await;
    let bob = person(&server, "bob@example.org").await;
    let hers = ana.account.create_vault("Journal", APP).await.unwrap();
    hers.put("notes", id(1), b"hello").await.unwrap();
    hers.sync().await.unwrap();
    hers.add_member(bob.account.user_id(), Role::Viewer).await.unwrap();
    bob.account.sync().await.unwrap();
    let his = bob.account.vault("Journal").await.unwrap().unwrap();
    assert_eq!(text(&his, 1).await.as_deref(), Some("hello"));
    assert_eq!(his.record_state(id(1)).await.unwrap(), RecordState::Synced);
}

#[tokio::test]
async fn a_key_that_was_not_asked_for_yet_holds_up_nobody_and_one_that_is_not_there_does() {
    async fn blocked(account: &Account) -> Vec<&'static str> {
        let status = account.status().next().await.unwrap();
        status.blocked.into_iter().map(|blocked| blocked.kind).collect()
    }
    let server = Fake::start();
    let ana = person(&server, "ana@example.org").await;
    let laptop = ana.account.create_vault("Journal", APP).await.unwrap();
    laptop.sync().await.unwrap();
    let phone = another_device(&server, "ana@example.org", &ana).await;
    phone.sync().await.unwrap();
    let on_phone = phone.vault("Journal").await.unwrap().unwrap();

    // The network breaks between the entry that begins a new key and the key.
    laptop.rotate().await.unwrap();
    laptop.put("notes", id(2), b"under the new key").await.unwrap();
    laptop.sync().await.unwrap();
    (0..5).for_each(|_| server.next_request_to("/wraps", Mishap::NotDelivered));
    on_phone.sync().await.unwrap_err();
    on_phone.put("notes", id(1), b"written meanwhile").await.unwrap();
    assert_eq!(on_phone.status().await.unwrap().state, VaultState::NoKey);
    assert_eq!(on_phone.record_state(id(1)).await.unwrap(), RecordState::Pending);
    assert_eq!(on_phone.record_state(id(2)).await.unwrap(), RecordState::Synced);
    assert_eq!(blocked(&phone).await, [""; 0], "the next round brings it");

    // The server has no key for her: nobody but a device that has it can help.
    let all: Vec<Wrap> =
        server.with(|world| std::mem::take(&mut world.vaults.all.get_mut(&laptop.id()).unwrap().wraps));
    on_phone.sync().await.unwrap();
    assert!(matches!(on_phone.record_state(id(1)).await.unwrap(), RecordState::Failed(_)));
    assert!(matches!(on_phone.record_state(id(2)).await.unwrap(), RecordState::Failed(_)));
    assert_eq!(blocked(&phone).await, ["no_key", "cannot_be_read"]);

    server.with(|world| world.vaults.all.get_mut(&laptop.id()).unwrap().wraps = all);
    on_phone.sync().await.unwrap();
    assert_eq!(on_phone.status().await.unwrap().state, VaultState::Ready);
    assert_eq!(blocked(&phone).await, [""; 0]);
    laptop.sync().await.unwrap();
    assert_eq!(text(&laptop, 1).await.as_deref(), Some("written meanwhile"));
    assert_eq!(text(&on_phone, 2).await.as_deref(), Some("under the new key"));
}

#[tokio::test]
async fn a_conflict_whose_last_write_does_not_fit_is_settled_all_the_same() {
    let server = Fake::start();
    let ana = person(&server, "ana@example.org").await;
    let laptop = ana.account.create_vault("Journal", APP).await.unwrap();
    laptop.put("notes", id(1), b"first").await.unwrap();
    laptop.sync().await.unwrap();
    let phone = another_device(&server, "ana@example.org", &ana).await;
    phone.sync().await.unwrap();
    let on_phone = phone.vault("Journal").await.unwrap().unwrap();

    laptop.put("notes", id(1), b"in a tunnel").await.unwrap();
    for _ in 0..255 {
        laptop.put("notes", laptop.new_record_id(), b"fills the entry").await.unwrap();
    }
    laptop.put("notes", id(1), b"at its end").await.unwrap();
    server.later(60_000);
    on_phone.put("notes", id(1), b"newest").await.unwrap();
    on_phone.sync().await.unwrap();

    laptop.sync().await.unwrap();
    on_phone.sync().await.unwrap();
    for vault in [&laptop, &on_phone] {
        assert_eq!(text(vault, 1).await.as_deref(), Some("newest"));
        let history = vault.history(id(1)).await.unwrap();
        for said in ["first", "in a tunnel", "at its end", "newest"] {
            assert!(history.iter().any(|version| version.data == said.as_bytes()), "{said} is lost");
        }
    }
    same(&[&laptop, &on_phone]).await;
}

#[tokio::test]
async fn what_one_device_has_seen_the_server_cannot_hide_from_another() {
    let server = Fake::start();
    let ana = person(&server, "ana@example.org").await;
    let laptop = ana.account.create_vault("Journal", APP).await.unwrap();
    ana.account.sync().await.unwrap();
    let phone = another_device(&server, "ana@example.org", &ana).await;
    phone.sync().await.unwrap();
    let on_phone = phone.vault("Journal").await.unwrap().unwrap();
    assert_eq!(server.with(|world| world.vaults.all.len()), 2, "the journal, and one vault of the account's own");

    laptop.put("notes", id(1), b"hello").await.unwrap();
    laptop.sync().await.unwrap();
    server.later(2 * 3600 * 1000);
    ana.account.sync().await.unwrap();
    // The note with the laptop's heads goes out with its next round.
    ana.account.sync().await.unwrap();
    // From the phone, the server hides the entry; the account's own vault it shows.
    let n = laptop.digest().await.unwrap().n;
    server.with(|world| {
        let people = world.people();
        let journal = world.vaults.all.get_mut(&laptop.id()).unwrap();
        *journal = journal.back_to(n - 1, &people);
    });
    phone.sync().await.unwrap();
    let error = on_phone.sync().await.unwrap_err();
    assert_eq!(error.word(), "quarantined", "{error:?}");
}

#[tokio::test]
async fn a_new_device_begins_with_a_checkpoint() {
    let server = Fake::start();
    let ana = person(&server, "ana@example.org").await;
    let laptop = ana.account.create_vault("Journal", APP).await.unwrap();
    for round in 0..30_u8 {
        laptop.put("notes", id(round % 5 + 1), &[round]).await.unwrap();
        laptop.sync().await.unwrap();
    }
    laptop.write_checkpoint().await.unwrap();
    laptop.put("notes", id(9), b"after it").await.unwrap();
    laptop.sync().await.unwrap();
    server.asked();
    let client = server.builder().in_memory().build().unwrap();
    let options = selkie_client::SignIn::default();
    let key = ana.sheet.secret_key();
    let phone = client.sign_in("ana@example.org", super::PASSWORD, key, options).await.unwrap().account;
    assert!(phone.sync().await.unwrap().first_error().is_none());
    let on_phone = phone.vault("Journal").await.unwrap().unwrap();
    assert!(server.asked().iter().any(|path| path.contains("/pages/0")), "by its pages");
    assert_eq!(on_phone.status().await.unwrap().trust, selkie_client::KeptTrust::OwnCheckpoint);
    assert_eq!(text(&on_phone, 9).await.as_deref(), Some("after it"));
    assert_eq!(on_phone.records("notes").await.unwrap().len(), 6);
    laptop.sync().await.unwrap();
    same(&[&laptop, &on_phone]).await;
    on_phone.put("notes", id(1), b"from the phone").await.unwrap();
    on_phone.sync().await.unwrap();
    laptop.sync().await.unwrap();
    same(&[&laptop, &on_phone]).await;
}

#[tokio::test]
async fn a_checkpoint_is_due_by_what_was_changed_however_few_entries_that_took() {
    let server = Fake::start();
    let client = server.builder().in_memory().checkpoint_after(300, 100).build().unwrap();
    let ana = client.sign_up("ana@example.org", super::PASSWORD, selkie_client::SignUp::default()).await.unwrap();
    let journal = ana.account.create_vault("Journal", APP).await.unwrap();
    let notes = journal.collection::<serde_json::Value>("notes");
    let many: Vec<_> =
        (0..200).map(|number| (journal.new_record_id(), serde_json::json!({ "number": number }))).collect();
    for (id, note) in &many {
        notes.put_as(*id, note).await.unwrap();
    }
    journal.sync().await.unwrap();
    let status = journal.status().await.unwrap();
    assert_eq!(status.last_checkpoint, 0, "too few");
    for (id, _) in &many {
        notes.put_as(*id, &serde_json::json!({ "number": "another" })).await.unwrap();
    }
    journal.sync().await.unwrap();
    assert!(journal.digest().await.unwrap().n < 20, "they travel by the hundred");
    let last = journal.status().await.unwrap().last_checkpoint;
    assert!(last > 0);
    journal.sync().await.unwrap();
    assert_eq!(journal.status().await.unwrap().last_checkpoint, last, "one is enough");
}

#[tokio::test]
async fn mal_055_a_checkpoint_that_stands_elsewhere_is_not_begun_from() {
    let server = Fake::start();
    let ana = person(&server, "ana@example.org").await;
    let laptop = ana.account.create_vault("Journal", APP).await.unwrap();
    for round in 0..5_u8 {
        laptop.put("notes", id(round + 1), &[round]).await.unwrap();
        laptop.sync().await.unwrap();
    }
    laptop.write_checkpoint().await.unwrap();
    laptop.put("notes", id(9), b"after it").await.unwrap();
    laptop.sync().await.unwrap();
    server.misplace_beginnings_by(1);
    let client = server.builder().in_memory().begin_with_checkpoint_from(2).build().unwrap();
    let (options, key) = (selkie_client::SignIn::default(), ana.sheet.secret_key());
    let phone = client.sign_in("ana@example.org", super::PASSWORD, key, options).await.unwrap().account;
    let outcome = phone.sync().await.unwrap();
    let (vault, error) = outcome.first_error().expect("the lie is found");
    assert_eq!((*vault, error.word()), (laptop.id(), "quarantined"), "{error:?}");
    let on_phone = phone.vault_by_id(laptop.id()).await.unwrap().unwrap();
    assert_eq!(on_phone.records("notes").await.unwrap().len(), 0, "nothing was taken");
}

#[tokio::test]
async fn a_vault_of_somebody_else_is_not_taken_for_ones_own_by_its_name() {
    let server = Fake::start();
    let (ana, bob) = (person(&server, "ana@example.org").await, person(&server, "bob").await);
    let hers = ana.account.create_vault("Journal", APP).await.unwrap();
    let his = bob.account.create_vault("Journal", APP).await.unwrap();
    his.add_member(ana.account.user_id(), Role::Editor).await.unwrap();
    his.sync().await.unwrap();
    assert_eq!(ana.account.vault("Journal").await.unwrap().map(|vault| vault.id()), Some(hers.id()));
    ana.account.sync().await.unwrap();
    let error = ana.account.vault("Journal").await.unwrap_err();
    assert!(matches!(error, selkie_client::Error::NotPossible(_)), "{error:?}");
    for vault in [hers.id(), his.id()] {
        assert_eq!(ana.account.vault(&vault.to_string()).await.unwrap().map(|found| found.id()), Some(vault));
    }
}

#[tokio::test]
async fn what_lies_on_the_disk_says_nothing() {
    let server = Fake::start();
    let data = tempfile::tempdir().unwrap();
    let open = || server.builder().store(data.path()).build().unwrap();
    let ana = open().sign_up("ana@example.org", super::PASSWORD, selkie_client::SignUp::default()).await.unwrap();
    let vault = ana.account.create_vault("Canary vault", APP).await.unwrap();
    vault.put("canary-collection", id(1), b"canary content").await.unwrap();
    vault.sync().await.unwrap();
    vault.put("canary-collection", id(2), b"canary pending").await.unwrap();
    let digest = vault.digest().await.unwrap();
    drop((vault, ana));
    let again = open().account("ana@example.org").await.unwrap().unwrap();
    let vault = again.vault("Canary vault").await.unwrap().unwrap();
    assert_eq!(vault.digest().await.unwrap(), digest);
    assert_eq!(text(&vault, 1).await.as_deref(), Some("canary content"));
    assert_eq!(vault.records("canary-collection").await.unwrap().len(), 2);
    assert_eq!(vault.sync().await.unwrap().pushed, 1);
    let mut files = vec![data.path().to_owned()];
    let mut looked_at = 0;
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        looked_at += bytes.len();
        for trace in [b"anary vault".as_slice(), b"canary-collection", b"canary content", b"canary pending"] {
            let found = bytes.windows(trace.len()).any(|window| window == trace);
            assert!(!found, "{} says {}", path.display(), String::from_utf8_lossy(trace));
        }
    }
    assert!(looked_at > 10_000);
    let sent = server.all_bodies();
    assert!(!sent.iter().any(|body| body.windows(6).any(|window| window == b"canary")));
}
