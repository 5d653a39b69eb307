//! Typed collections: an app's own types, offline first, and what becomes of them when devices meet.

mod conflicts;
mod on_disk;
mod queries;
mod versions;
mod weeks;

use crate::fake::Fake;
use crate::vaults::{APP, person};
use selkie_client::{ClientBuilder, CollectionShape, Error, RecordState, Value, Vault};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Note {
    pub(crate) title: String,
    pub(crate) body: String,
    pub(crate) tags: Vec<String>,
    pub(crate) likes: i64,
}

pub(crate) fn note(title: &str) -> Note {
    Note { title: title.into(), ..Note::default() }
}

/// One person's vault on two devices, both in step, whose clients were told the same of their collections.
pub(crate) async fn two_devices(shape: impl Fn(ClientBuilder) -> ClientBuilder) -> (Arc<Fake>, Vault, Vault) {
    let (server, laptop, [phone]) = devices(shape).await;
    (server, laptop, phone)
}

/// The same with as many beside the first as are asked for.
pub(crate) async fn devices<const OTHERS: usize>(
    shape: impl Fn(ClientBuilder) -> ClientBuilder,
) -> (Arc<Fake>, Vault, [Vault; OTHERS]) {
    let server = Fake::start();
    let client = || shape(server.builder().in_memory()).build().unwrap();
    let options = selkie_client::SignUp::default();
    let ana = client().sign_up("ana@example.org", crate::vaults::PASSWORD, options).await.unwrap();
    let first = ana.account.create_vault("Journal", APP).await.unwrap();
    first.sync().await.unwrap();
    let mut others = Vec::new();
    for _ in 0..OTHERS {
        let options = selkie_client::SignIn::default();
        let (other, key) = (client(), ana.sheet.secret_key());
        let other = other.sign_in("ana@example.org", crate::vaults::PASSWORD, key, options).await.unwrap().account;
        assert!(other.sync().await.unwrap().first_error().is_none());
        others.push(other.vault("Journal").await.unwrap().unwrap());
    }
    (server, first, others.try_into().unwrap())
}

#[tokio::test]
async fn an_app_works_with_its_own_type_and_no_server() {
    let server = Fake::start();
    let ana = person(&server, "ana@example.org").await;
    let vault = ana.account.create_vault("Journal", APP).await.unwrap();
    let notes = vault.collection::<Note>("notes");
    server.asked();
    let id = notes.put(&note("first")).await.unwrap();
    assert_eq!(notes.get(id).await.unwrap(), Some(note("first")));
    assert_eq!(notes.state(id).await.unwrap(), RecordState::Local);
    assert!(notes.update(id, |note| note.likes += 1).await.unwrap());
    assert!(!notes.update(vault.new_record_id(), |note| note.likes += 1).await.unwrap());
    assert_eq!(notes.get(id).await.unwrap().unwrap().likes, 1);
    assert_eq!(vault.collection::<Note>("others").get(id).await.unwrap(), None, "it is in another collection");
    notes.delete(id).await.unwrap();
    assert_eq!(notes.get(id).await.unwrap(), None);
    let history = notes.history(id).await.unwrap();
    let said: Vec<_> = history.iter().map(|version| version.value.as_ref().map(|note| note.likes)).collect();
    assert_eq!(said, [Some(0), Some(1), None]);
    assert!(server.asked().is_empty(), "nobody was asked");
}

/// A name that was mistaken must not cost a record of another kind.
#[tokio::test]
async fn a_record_stays_in_its_collection() {
    let server = Fake::start();
    let ana = person(&server, "ana@example.org").await;
    let vault = ana.account.create_vault("Journal", APP).await.unwrap();
    let (notes, others) = (vault.collection::<Note>("notes"), vault.collection::<Note>("others"));
    let id = notes.put(&note("first")).await.unwrap();
    let told = |done: selkie_client::Result<()>| {
        let error = done.unwrap_err();
        assert!(error.word() == "not_possible" && error.to_string().contains("\"notes\""), "{error}");
    };
    told(others.put_as(id, &note("second")).await);
    told(others.delete(id).await);
    told(vault.put("others", id, b"third").await);
    told(vault.delete("others", id).await);
    let mut both = vault.transaction();
    both.put(&others, &note("beside it")).unwrap();
    both.delete(&others, id);
    told(both.commit().await);
    assert_eq!(others.query().count().await.unwrap(), 0, "all of a transaction, or nothing");
    assert_eq!(notes.get(id).await.unwrap(), Some(note("first")));
    // Nor does anybody take a vault its name for long.
    let name = selkie_client::RecordId([0; 16]);
    vault.delete("selkie.vault", name).await.unwrap();
    vault.put("notes", name, b"no name").await.unwrap();
    assert_eq!(vault.name().await.unwrap(), None);
    vault.rename("Diary").await.unwrap();
    assert_eq!(vault.name().await.unwrap().as_deref(), Some("Diary"));
    // What is gone is in no collection any more.
    notes.delete(id).await.unwrap();
    others.put_as(id, &note("second")).await.unwrap();
    assert_eq!(others.get(id).await.unwrap(), Some(note("second")));
}

/// Somebody has put something else into the collection, by hand or with another app.
#[tokio::test]
async fn a_record_that_is_none_of_the_apps_type_is_named() {
    let server = Fake::start();
    let ana = person(&server, "ana@example.org").await;
    let vault = ana.account.create_vault("Journal", APP).await.unwrap();
    let notes = vault.collection::<Note>("notes");
    notes.put(&note("first")).await.unwrap();
    let stranger = vault.collection::<Vec<(String, u8)>>("notes");
    assert!(stranger.put(&Vec::new()).await.is_err(), "a list has no fields");
    let other =
        vault.collection::<selkie_client::Fields>("notes").put(&selkie_client::Fields::default()).await.unwrap();
    let error = notes.query().all().await.unwrap_err();
    assert!(error.word() == "not_possible" && error.to_string().contains(&other.to_string()), "{error}");
    vault.delete("notes", other).await.unwrap();
    assert_eq!(notes.query().all().await.unwrap().len(), 1);
}

#[tokio::test]
async fn as_many_records_stay_opened_as_the_app_wants() {
    for (most, held) in [(0, 0), (2, 2), (100, 3)] {
        let server = Fake::start();
        let client =
            server.builder().in_memory().hot_records(most, std::time::Duration::from_secs(60)).build().unwrap();
        let options = selkie_client::SignUp::default();
        let ana = client.sign_up("ana@example.org", crate::vaults::PASSWORD, options).await.unwrap();
        let vault = ana.account.create_vault("Journal", APP).await.unwrap();
        let notes = vault.collection::<Note>("notes");
        let ids = notes.put_all(&[note("one"), note("two"), note("three")]).await.unwrap();
        for id in ids.iter().chain(&ids) {
            assert!(notes.get(*id).await.unwrap().is_some());
        }
        let usage = ana.account.storage().await.unwrap().vaults.into_iter().find(|one| one.id == vault.id());
        assert_eq!(usage.unwrap().in_memory, held, "at most {most}");
    }
}

#[tokio::test]
async fn to_delete_what_is_not_there_writes_nothing() {
    let server = Fake::start();
    let ana = person(&server, "ana@example.org").await;
    let vault = ana.account.create_vault("Journal", APP).await.unwrap();
    let notes = vault.collection::<Note>("notes");
    let id = notes.put(&note("first")).await.unwrap();
    notes.delete(id).await.unwrap();
    vault.sync().await.unwrap();
    for name in [id, vault.new_record_id()] {
        notes.delete(name).await.unwrap();
        vault.delete("notes", name).await.unwrap();
    }
    assert_eq!(vault.status().await.unwrap().pending, 0);
    let mut changed = vault.transaction();
    changed.delete(&notes, vault.new_record_id());
    changed.put(&notes, &note("second")).unwrap();
    changed.commit().await.unwrap();
    assert_eq!(vault.sync().await.unwrap().pushed, 1, "what there was to write was written");
}

#[tokio::test]
async fn the_state_of_a_record_goes_from_here_to_everywhere() {
    let server = Fake::start();
    let ana = person(&server, "ana@example.org").await;
    let vault = ana.account.create_vault("Journal", APP).await.unwrap();
    let notes = vault.collection::<Note>("notes");
    let id = notes.put(&note("first")).await.unwrap();
    assert_eq!(notes.state(id).await.unwrap(), RecordState::Local);
    vault.sync().await.unwrap();
    assert_eq!(notes.state(id).await.unwrap(), RecordState::Synced);
    notes.put_as(id, &note("second")).await.unwrap();
    assert_eq!(notes.state(id).await.unwrap(), RecordState::Pending);
    for _ in 0..5 {
        server.next_request_to("/push", crate::fake::Mishap::NotDelivered);
    }
    assert_eq!(vault.sync().await.unwrap_err().word(), "offline");
    assert_eq!(notes.state(id).await.unwrap(), RecordState::Syncing);
    assert_eq!(notes.undo(id).await.unwrap_err().word(), "not_possible");
    vault.sync().await.unwrap();
    assert_eq!(notes.state(id).await.unwrap(), RecordState::Synced);
}

#[tokio::test]
async fn what_was_not_sent_can_be_taken_back() {
    let server = Fake::start();
    let ana = person(&server, "ana@example.org").await;
    let vault = ana.account.create_vault("Journal", APP).await.unwrap();
    let notes = vault.collection::<Note>("notes");
    let kept = notes.put(&note("kept")).await.unwrap();
    vault.sync().await.unwrap();
    assert!(!notes.undo(kept).await.unwrap(), "it was sent");

    let ids = notes.put_all(&[note("one"), note("two")]).await.unwrap();
    notes.update(kept, |note| note.likes = 9).await.unwrap();
    assert!(notes.undo(kept).await.unwrap());
    assert_eq!(notes.get(kept).await.unwrap(), Some(note("kept")));
    notes.update(ids[1], |note| note.likes = 1).await.unwrap();
    let error = notes.undo(ids[0]).await.unwrap_err();
    assert_eq!(error.word(), "not_possible", "its companion was changed since: {error}");
    assert!(notes.undo(ids[1]).await.unwrap() && notes.undo(ids[1]).await.unwrap());
    assert_eq!(notes.get(ids[0]).await.unwrap(), None, "both were written together, and are taken back together");
    assert_eq!(vault.sync().await.unwrap().pushed, 0);
}

#[tokio::test]
async fn a_version_comes_back_and_the_past_can_be_looked_at() {
    let (server, laptop, phone) = two_devices(|client| client).await;
    let notes = laptop.collection::<Note>("notes");
    let id = notes.put(&note("first")).await.unwrap();
    laptop.sync().await.unwrap();
    let then = server.now_ms();
    server.later(60_000);
    notes.put_as(id, &note("second")).await.unwrap();
    notes.delete(id).await.unwrap();
    laptop.sync().await.unwrap();
    assert_eq!(notes.as_of(id, then).await.unwrap(), Some(note("first")));
    assert_eq!(notes.as_of(id, then - 1).await.unwrap(), None);
    assert_eq!(notes.as_of(id, server.now_ms()).await.unwrap(), None);
    let first = notes.history(id).await.unwrap()[0].version.change.unwrap();
    notes.restore(id, first).await.unwrap();
    laptop.sync().await.unwrap();
    phone.sync().await.unwrap();
    assert_eq!(phone.collection::<Note>("notes").get(id).await.unwrap(), Some(note("first")));
}

#[tokio::test]
async fn a_transaction_happens_whole_here_and_travels_as_one_entry() {
    let (_server, laptop, phone) = two_devices(|client| client).await;
    let (notes, tasks) = (laptop.collection::<Note>("notes"), laptop.collection::<Note>("tasks"));
    let counted = notes.put(&note("counted")).await.unwrap();
    laptop.sync().await.unwrap();
    let before = laptop.digest().await.unwrap().n;

    let mut failing = laptop.transaction();
    let lost = failing.put(&tasks, &note("lost")).unwrap();
    failing.update(&notes, laptop.new_record_id(), |note| note.likes += 1);
    assert_eq!(failing.commit().await.unwrap_err().word(), "not_possible");
    assert_eq!(tasks.get(lost).await.unwrap(), None, "all or nothing");

    // Alone they fill most of an entry, so that the transaction would not fit into what is left of it.
    notes.put_all(&vec![note("many"); 200]).await.unwrap();
    let mut transaction = laptop.transaction();
    for _ in 0..100 {
        transaction.put(&tasks, &note("together")).unwrap();
        transaction.update(&notes, counted, |note| note.likes += 1);
    }
    transaction.commit().await.unwrap();
    assert_eq!(notes.get(counted).await.unwrap().unwrap().likes, 100);
    assert_eq!(laptop.sync().await.unwrap().pushed, 400);
    assert_eq!(laptop.digest().await.unwrap().n, before + 2, "each is one entry");
    phone.sync().await.unwrap();
    assert_eq!(phone.collection::<Note>("notes").get(counted).await.unwrap().unwrap().likes, 100);
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct LaterNote {
    title: String,
    mood: String,
}

#[tokio::test]
async fn an_older_app_beside_a_newer_one_destroys_nothing() {
    let server = Fake::start();
    let ana = person(&server, "ana@example.org").await;
    let old = ana.account.create_vault("Journal", APP).await.unwrap();
    let first = old.collection::<Note>("notes").put(&note("old")).await.unwrap();
    old.sync().await.unwrap();
    let raise = |mut fields: selkie_client::Fields| {
        fields.set("mood", Value::from("unknown"));
        fields
    };
    let client = server.builder().in_memory();
    let client = client.collection(CollectionShape::new("notes").version(2).upcast(1, raise)).build().unwrap();
    let options = selkie_client::SignIn::default();
    let key = ana.sheet.secret_key();
    let new = client.sign_in("ana@example.org", crate::vaults::PASSWORD, key, options).await.unwrap().account;
    assert!(new.sync().await.unwrap().first_error().is_none());
    let new = new.vault("Journal").await.unwrap().unwrap();
    let notes = new.collection::<LaterNote>("notes");
    assert_eq!(notes.get(first).await.unwrap().unwrap().mood, "unknown", "raised when it is read");
    notes.update(first, |note| note.mood = "calm".into()).await.unwrap();
    new.sync().await.unwrap();
    old.sync().await.unwrap();

    let old_notes = old.collection::<Note>("notes");
    for refused in [
        old_notes.get(first).await.map(drop),
        old_notes.put_as(first, &note("mine")).await,
        old_notes.update(first, |note| note.likes += 1).await.map(drop),
        old_notes.delete(first).await,
    ] {
        assert!(matches!(refused, Err(Error::NewerRecord { version: 2, .. })), "{refused:?}");
    }
    old.sync().await.unwrap();
    new.sync().await.unwrap();
    assert_eq!(notes.get(first).await.unwrap().unwrap().mood, "calm");
}

#[tokio::test]
async fn two_parts_of_an_app_that_count_at_once_lose_nothing() {
    let server = Fake::start();
    let ana = person(&server, "ana@example.org").await;
    let vault = ana.account.create_vault("Journal", APP).await.unwrap();
    let notes = vault.collection::<Note>("notes");
    let id = notes.put(&note("counted")).await.unwrap();
    let count = |notes: selkie_client::Collection<Note>| async move {
        for _ in 0..50 {
            notes.update(id, |note| note.likes += 1).await.unwrap();
        }
    };
    tokio::join!(count(notes.clone()), count(notes.clone()));
    assert_eq!(notes.get(id).await.unwrap().unwrap().likes, 100);
}

#[tokio::test]
async fn what_another_device_wrote_is_seen_though_it_was_in_memory() {
    let (_server, laptop, phone) = two_devices(|client| client).await;
    let (here, there) = (laptop.collection::<Note>("notes"), phone.collection::<Note>("notes"));
    let id = here.put(&note("first")).await.unwrap();
    laptop.sync().await.unwrap();
    phone.sync().await.unwrap();
    assert_eq!(there.get(id).await.unwrap(), Some(note("first")));
    assert_eq!(here.get(id).await.unwrap(), Some(note("first")));
    there.put_as(id, &note("second")).await.unwrap();
    phone.sync().await.unwrap();
    laptop.sync().await.unwrap();
    assert_eq!(here.get(id).await.unwrap(), Some(note("second")));
}
