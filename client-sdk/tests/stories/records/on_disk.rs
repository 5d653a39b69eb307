//! The same in a file: what lies in it, and two programs that have it open.

use super::{Note, note};
use crate::fake::{Fake, Mishap};
use crate::storage::find;
use crate::vaults::{APP, PASSWORD, another_device};
use futures_util::StreamExt as _;
use selkie_client::store::vaults::{Advance, SqliteVaults, VaultStore as _};
use selkie_client::{
    Account, CollectionShape, Error, Misbehaviour, RecordState, SignIn, SignUp, SyncState, TokioRuntime, Unsent, Vault,
    VaultState, field,
};
use selkie_protocol::Face;
use selkie_protocol::vault::LogFrames;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

fn client(server: &Arc<Fake>, folder: &Path) -> selkie_client::Client {
    let shape = CollectionShape::new("canary-notes").index(["title"]).search(["body"]);
    server.builder().store(folder).collection(shape).build().unwrap()
}

async fn begun(server: &Arc<Fake>, folder: &Path) -> Account {
    let ana = client(server, folder).sign_up("ana@example.org", PASSWORD, SignUp::default()).await.unwrap();
    ana.account.create_vault("Journal", APP).await.unwrap();
    ana.account
}

/// Another program of the same person on the same machine.
async fn program(server: &Arc<Fake>, folder: &Path) -> Vault {
    account(server, folder).await.vault("Journal").await.unwrap().unwrap()
}

async fn account(server: &Arc<Fake>, folder: &Path) -> Account {
    client(server, folder).account("ana@example.org").await.unwrap().unwrap()
}

#[tokio::test]
async fn records_outlive_the_program_and_neither_they_nor_their_indexes_can_be_read_in_the_file() {
    let (server, folder) = (Fake::start(), tempfile::tempdir().unwrap());
    drop(begun(&server, folder.path()).await);
    let canary = Note { title: "canary-title".into(), body: "canary-word in a body".into(), ..Note::default() };
    let id = {
        let vault = program(&server, folder.path()).await;
        let id = vault.collection("canary-notes").put(&canary).await.unwrap();
        vault.flush().await.unwrap();
        vault.sync().await.unwrap();
        id
    };
    let vault = program(&server, folder.path()).await;
    let notes = vault.collection::<Note>("canary-notes");
    assert_eq!(notes.get(id).await.unwrap(), Some(canary));
    assert_eq!(notes.state(id).await.unwrap(), RecordState::Synced);
    assert_eq!(notes.query().filter(field("title").eq("canary-title")).count().await.unwrap(), 1);
    assert_eq!(notes.query().search("canary").count().await.unwrap(), 1);
    notes.update(id, |note| note.likes = 7).await.unwrap();
    assert!(notes.undo(id).await.unwrap());

    assert_eq!(told(folder.path(), b"canary"), 0);
}

/// How often these bytes are in the files of a folder.
fn told(folder: &Path, canary: &[u8]) -> usize {
    let (mut folders, mut looked_at, mut found) = (vec![folder.to_owned()], 0, 0);
    while let Some(path) = folders.pop() {
        if path.is_dir() {
            folders.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        looked_at += bytes.len();
        found += bytes.windows(canary.len()).filter(|window| *window == canary).count();
    }
    assert!(looked_at > 10_000);
    found
}

/// Where the platform seals the disk, an app may leave that to it; and may think otherwise later.
#[tokio::test]
async fn an_app_may_leave_the_sealing_of_records_to_the_platform_and_change_its_mind() {
    let (server, folder) = (Fake::start(), tempfile::tempdir().unwrap());
    let program = async |in_the_clear: bool| {
        let mut builder = server.builder().store(folder.path());
        if in_the_clear {
            builder = builder.records_in_the_clear();
        }
        let account = builder.build().unwrap().account("ana@example.org").await.unwrap().unwrap();
        let vault = account.vault("Journal").await.unwrap().unwrap();
        (account, vault)
    };
    drop(begun(&server, folder.path()).await);
    let mut ids = Vec::new();
    for in_the_clear in [false, true, false] {
        let (account, vault) = program(in_the_clear).await;
        let notes = vault.collection::<Note>("notes");
        for id in &ids {
            assert!(notes.get(*id).await.unwrap().is_some(), "however it was written");
        }
        let before = told(folder.path(), b"canary");
        ids.push(notes.put(&note("a canary")).await.unwrap());
        vault.flush().await.unwrap();
        assert_eq!(told(folder.path(), b"canary") > before, in_the_clear);
        vault.sync().await.unwrap();
        assert!(account.check_storage().await.unwrap().is_sound());
    }
    assert!(!server.all_bodies().iter().any(|body| body.windows(6).any(|window| window == b"canary")));

    // In the clear is not unguarded: another's hand is noticed.
    let file = find(folder.path(), "vaults.sqlite").unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    let places: Vec<usize> = (0..bytes.len() - 6).filter(|at| &bytes[*at..at + 6] == b"canary").collect();
    assert!(!places.is_empty());
    places.into_iter().for_each(|at| bytes[at] = b'C');
    std::fs::write(&file, bytes).unwrap();
    let (account, vault) = program(true).await;
    assert!(matches!(vault.collection::<Note>("notes").get(ids[1]).await, Err(Error::Damaged { .. })));
    assert!(!account.check_storage().await.unwrap().is_sound());
    vault.fetch_again().await.unwrap();
    assert_eq!(vault.collection::<Note>("notes").get(ids[1]).await.unwrap(), Some(note("a canary")));
}

#[tokio::test]
async fn two_programs_on_one_file_lose_nothing_of_each_other() {
    let (server, folder) = (Fake::start(), tempfile::tempdir().unwrap());
    let _account = begun(&server, folder.path()).await;
    let (one, other) = (program(&server, folder.path()).await, program(&server, folder.path()).await);
    let (here, there) = (one.collection::<Note>("canary-notes"), other.collection::<Note>("canary-notes"));
    let id = here.put(&note("first")).await.unwrap();
    assert_eq!(there.get(id).await.unwrap(), Some(note("first")));
    let mut live = here.query().filter(field("title").eq("first")).watch();
    assert_eq!(live.next().await.unwrap().unwrap().len(), 1);

    there.update(id, |note| note.title = "second".into()).await.unwrap();
    assert_eq!(here.get(id).await.unwrap(), Some(note("second")), "what was in memory is old, and is not shown");
    assert_eq!(here.query().filter(field("title").eq("first")).count().await.unwrap(), 0);
    here.put(&note("other")).await.unwrap();
    assert_eq!(live.next().await.unwrap().unwrap(), [], "with the next write of its own it sees the other's");
    there.update(id, |note| note.title = "first".into()).await.unwrap();
    other.sync().await.unwrap();
    one.sync().await.unwrap();
    assert_eq!(live.next().await.unwrap().unwrap().len(), 1, "and with the next sync");
    there.update(id, |note| note.title = "second".into()).await.unwrap();
    assert_eq!(here.get(id).await.unwrap(), Some(note("second")));

    let count = |notes: selkie_client::Collection<Note>| async move {
        for _ in 0..20 {
            notes.update(id, |note| note.likes += 1).await.unwrap();
        }
    };
    tokio::join!(count(here.clone()), count(there.clone()));
    assert_eq!(here.get(id).await.unwrap().unwrap().likes, 40);
}

/// An app that runs, and a command that is typed beside it.
#[tokio::test]
async fn two_programs_on_one_file_come_into_step_beside_each_other() {
    let (server, folder) = (Fake::start(), tempfile::tempdir().unwrap());
    let ana = client(&server, folder.path()).sign_up("ana@example.org", PASSWORD, SignUp::default()).await.unwrap();
    ana.account.create_vault("Journal", APP).await.unwrap();
    let (one, other) = (account(&server, folder.path()).await, account(&server, folder.path()).await);
    let syncs = async |account: &Account| {
        for (vault, done) in account.sync().await.unwrap().vaults {
            done.unwrap_or_else(|error| panic!("{vault}: {error}"));
        }
    };
    let journal = async |account: &Account| account.vault("Journal").await.unwrap().unwrap();
    let (here, there) = (journal(&one).await, journal(&other).await);
    let puts = async |vault: &Vault, text: String| {
        vault.collection::<Note>("canary-notes").put(&note(&text)).await.unwrap();
    };
    syncs(&one).await;
    for turn in 0..4 {
        puts(&here, format!("{turn} of the one")).await;
        syncs(&one).await;
        puts(&there, format!("{turn} of the other")).await;
        syncs(&other).await;
    }
    for turn in 4..12 {
        puts(&here, format!("{turn} of the one")).await;
        puts(&there, format!("{turn} of the other")).await;
        tokio::join!(syncs(&one), syncs(&other));
    }

    syncs(&one).await;
    syncs(&other).await;
    assert_eq!(here.digest().await.unwrap(), there.digest().await.unwrap());
    let on_another_device = another_device(&server, "ana@example.org", &ana).await;
    syncs(&on_another_device).await;
    for vault in [&here, &there, &journal(&on_another_device).await] {
        assert_eq!(vault.collection::<Note>("canary-notes").query().count().await.unwrap(), 24);
        assert_eq!(vault.summary().await.unwrap().pending, 0);
    }
}

/// What one has caught the server at holds for both, also where the other had gone on with the vault.
#[tokio::test]
async fn a_vault_that_one_program_has_set_apart_is_set_apart_in_the_other() {
    let (server, folder) = (Fake::start(), tempfile::tempdir().unwrap());
    drop(begun(&server, folder.path()).await);
    let (one, other) = (account(&server, folder.path()).await, account(&server, folder.path()).await);
    let journal = async |account: &Account| account.vault("Journal").await.unwrap().unwrap();
    one.sync().await.unwrap();
    let (here, there) = (journal(&one).await, journal(&other).await);
    let id = here.collection::<Note>("canary-notes").put(&note("first")).await.unwrap();
    here.sync().await.unwrap();
    // So the first knows less than is kept by now.
    there.collection::<Note>("canary-notes").put(&note("second")).await.unwrap();
    there.sync().await.unwrap();

    server.with(|world| {
        let people = world.people();
        let log = world.vaults.all.get_mut(&here.id()).unwrap();
        *log = log.back_to(2, &people);
    });
    let Err(Error::Quarantined(quarantine)) = here.sync().await else { panic!("it hides what was shown") };
    assert_eq!(quarantine.kind, Misbehaviour::VaultRollback);
    let Err(Error::Quarantined(same)) = there.sync().await else { panic!("it is written down") };
    assert_eq!(same, quarantine);
    let third = journal(&account(&server, folder.path()).await).await;
    assert!(matches!(third.status().await.unwrap().state, VaultState::Quarantined(kept) if kept == *quarantine));
    assert_eq!(
        here.collection::<Note>("canary-notes").get(id).await.unwrap(),
        Some(note("first")),
        "it stays readable"
    );
}

/// The other program goes on with the vault in the very moment in which an answer is on its way to the first, so that
/// what the first makes of it is made of an old state.
#[tokio::test]
async fn nobody_is_accused_from_an_old_state_and_nobody_is_let_off_for_it() {
    let hides: fn(&mut LogFrames) = |page| page.frames.clear();
    let forges: fn(&mut LogFrames) = |page| {
        let mut head = *page.head;
        *head.last_mut().unwrap() ^= 1;
        page.head = head.into();
    };
    for (lie, times, caught) in [
        (hides, 1, None),
        (hides, usize::MAX, Some(Misbehaviour::VaultRollback)),
        (forges, 1, Some(Misbehaviour::ForgedHead)),
    ] {
        let (server, folder) = (Fake::start(), tempfile::tempdir().unwrap());
        let ana = client(&server, folder.path()).sign_up("ana@example.org", PASSWORD, SignUp::default()).await.unwrap();
        let here = ana.account.create_vault("Journal", APP).await.unwrap();
        here.sync().await.unwrap();
        let phone = another_device(&server, "ana@example.org", &ana).await;
        phone.sync().await.unwrap();
        let on_phone = phone.vault("Journal").await.unwrap().unwrap();
        on_phone.collection::<Note>("canary-notes").put(&note("from the phone")).await.unwrap();
        on_phone.sync().await.unwrap();

        let vaults = find(folder.path(), "vaults.sqlite").unwrap().parent().unwrap().to_owned();
        let (id, lies) = (here.id(), AtomicUsize::new(0));
        server.bend(move |path, body| {
            if !path.contains("/log?after") || lies.fetch_add(1, Ordering::SeqCst) >= times {
                return body;
            }
            if lies.load(Ordering::SeqCst) == 1 {
                let other = SqliteVaults::open(&vaults).unwrap();
                let revision = other.revision(&id).unwrap().unwrap();
                other.advance(&id, revision, &Advance::default()).unwrap().expect("it is the newest");
            }
            let mut page: LogFrames = Face::Cbor.decode(&body).unwrap();
            lie(&mut page);
            Face::Cbor.encode(&page)
        });
        match (here.sync().await, caught) {
            (Ok(_), None) => {
                assert_eq!(here.collection::<Note>("canary-notes").query().count().await.unwrap(), 1);
            }
            (Err(Error::Quarantined(quarantine)), Some(caught)) => assert_eq!(quarantine.kind, caught),
            (outcome, caught) => panic!("{outcome:?} and not {caught:?}"),
        }
    }
}

/// Both come in new, from a checkpoint of several pages, and again when one has the vault fetched once more.
#[tokio::test]
async fn two_programs_on_one_file_begin_with_a_checkpoint_at_once() {
    let server = Fake::start();
    let writer = server.builder().in_memory().checkpoint_after(2_500, 100).build().unwrap();
    let ana = writer.sign_up("ana@example.org", PASSWORD, SignUp::default()).await.unwrap();
    let journal = ana.account.create_vault("Journal", APP).await.unwrap();
    let written: Vec<Note> = (0..2_600).map(|number| note(&format!("number {number}"))).collect();
    journal.collection::<Note>("canary-notes").put_all(&written).await.unwrap();
    journal.sync().await.unwrap();

    let folder = tempfile::tempdir().unwrap();
    // Of two who fetch a vault whole, one has to wait for the other.
    let patient = || server.builder().runtime(Arc::new(TokioRuntime));
    let builder = || patient().store(folder.path()).begin_with_checkpoint_from(2);
    let options = SignIn { device_name: "phone".into(), ..SignIn::default() };
    let phone = builder().build().unwrap();
    phone.sign_in("ana@example.org", PASSWORD, ana.sheet.secret_key(), options).await.unwrap();
    let program = async || builder().build().unwrap().account("ana@example.org").await.unwrap().unwrap();
    let (one, other) = (program().await, program().await);
    let syncs = async |account: &Account| {
        for (vault, done) in account.sync().await.unwrap().vaults {
            done.unwrap_or_else(|error| panic!("{vault}: {error}"));
        }
    };
    let is_whole = async |account: &Account| {
        let vault = account.vault("Journal").await.unwrap().unwrap();
        assert_eq!(vault.collection::<Note>("canary-notes").query().count().await.unwrap(), 2_600);
        assert!(account.check_storage().await.unwrap().is_sound());
        vault
    };
    tokio::join!(syncs(&one), syncs(&other));
    let (here, there) = (is_whole(&one).await, is_whole(&other).await);
    let (again, beside) = tokio::join!(here.fetch_again(), there.fetch_again());
    for again in [again, beside] {
        assert!(again.as_ref().err().is_none_or(Error::is_retryable), "{again:?}");
    }
    is_whole(&one).await;
    is_whole(&other).await;
}

#[tokio::test]
async fn what_one_program_leaves_out_no_other_brings_back() {
    let (server, folder) = (Fake::start(), tempfile::tempdir().unwrap());
    drop(begun(&server, folder.path()).await);
    let (one, other) = (account(&server, folder.path()).await, account(&server, folder.path()).await);
    one.sync().await.unwrap();
    other.sync().await.unwrap();
    let journal = other.vault("Journal").await.unwrap().unwrap();

    journal.leave_out(Unsent::Keep).await.unwrap();
    one.create_vault("Diary", APP).await.unwrap();
    one.sync().await.unwrap();
    other.sync().await.unwrap();
    for account in [&one, &other] {
        assert_eq!(account.left_out().await.unwrap().len(), 1);
        assert!(account.vault("Journal").await.unwrap().is_none());
        assert!(account.vault("Diary").await.unwrap().is_some());
    }
    one.fetch_vault(journal.id()).await.unwrap();
    other.sync().await.unwrap();
    assert!(other.left_out().await.unwrap().is_empty());
    assert!(other.vault("Journal").await.unwrap().is_some());
}

/// A command that is run by the hour, and one that asks how it went.
#[tokio::test]
async fn a_status_tells_of_the_last_round_whichever_program_it_was_in() {
    let (server, folder) = (Fake::start(), tempfile::tempdir().unwrap());
    drop(begun(&server, folder.path()).await);
    let status = async || account(&server, folder.path()).await.status().next().await.unwrap();
    account(&server, folder.path()).await.sync().await.unwrap();
    let well = status().await;
    assert!(matches!(well.state, SyncState::Synced { .. }), "{well:?}");

    for (mishap, state) in [
        (Mishap::NotDelivered, SyncState::Offline),
        (Mishap::Overloaded, SyncState::PutOff("not just now: The server has more work than it can do.".into())),
    ] {
        server.later(3_600_000);
        server.next_request_to("/poll", mishap);
        account(&server, folder.path()).await.sync().await.unwrap_err();
        let away = status().await;
        assert_eq!((away.state, away.blocked), (state, Vec::new()));
        assert_eq!(away.last_success_ms, well.last_success_ms);
    }
    server.next_request_to("/poll", Mishap::AnswerGarbled);
    account(&server, folder.path()).await.sync().await.unwrap_err();
    let state = status().await.state;
    assert!(matches!(&state, SyncState::PutOff(why) if why.contains("does not understand the server")), "{state:?}");

    account(&server, folder.path()).await.sync().await.unwrap();
    let back = status().await;
    assert_eq!(back.state, SyncState::Synced { at_ms: server.now_ms() });
}

/// When memory is short, nothing is kept that can be read again; and what is asked for next is right.
#[tokio::test]
async fn an_app_that_goes_to_the_back_holds_nothing_in_memory() {
    let (server, folder) = (Fake::start(), tempfile::tempdir().unwrap());
    let account = begun(&server, folder.path()).await;
    let vault = account.vault("Journal").await.unwrap().unwrap();
    let notes = vault.collection::<Note>("canary-notes");
    let mut ids = Vec::new();
    for number in 0..30 {
        ids.push(notes.put(&note(&format!("number {number}"))).await.unwrap());
    }
    vault.sync().await.unwrap();
    let held = async || {
        let usage = account.storage().await.unwrap();
        usage.vaults.iter().find(|one| one.id == vault.id()).unwrap().in_memory
    };
    let look = async || {
        for id in &ids {
            assert!(notes.get(*id).await.unwrap().is_some());
        }
        assert_eq!(notes.query().filter(field("title").eq("number 7")).count().await.unwrap(), 1);
    };
    look().await;
    assert!(held().await >= 60, "opened, and in the index");
    account.clear_caches().await.unwrap();
    assert!(held().await <= 1, "the vault's own name at most");
    look().await;
    notes.put(&note("one more")).await.unwrap();
    assert_eq!(vault.sync().await.unwrap().pushed, 1);
}
