//! Records that different versions of an app have written, beside each other in one collection.

use super::{Note, note};
use crate::fake::Fake;
use crate::vaults::{APP, PASSWORD, person, same};
use futures_util::StreamExt as _;
use selkie_client::{
    Account, Client, CollectionShape, Error, ExportOptions, FieldType, Fields, Filter, Mapping, Order, RecordId,
    SignIn, SignedUp, Stands, Strategy, Table, TableForm, Value, Vault, field,
};
use serde::{Deserialize, Serialize};
use std::io::Cursor;
use std::sync::Arc;

/// What version 2 of the app makes of a note: its title is called a headline, and it has a mood.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct LaterNote {
    headline: String,
    mood: String,
    likes: i64,
}

fn raise(mut fields: Fields) -> Fields {
    if let Some(title) = fields.0.remove("title") {
        fields.set("headline", title);
    }
    fields.set("mood", "calm");
    fields
}

fn old_app(server: &Arc<Fake>) -> Client {
    server.builder().in_memory().collection(CollectionShape::new("notes").index(["title"])).build().unwrap()
}

/// With indexes, or without: that changes nothing but the time it takes.
fn new_app(server: &Arc<Fake>, indexed: bool) -> Client {
    let shape = CollectionShape::new("notes").version(2).upcast(1, raise).search(["headline"]);
    let shape = if indexed { shape.index(["mood", "likes"]).index(["headline"]) } else { shape };
    server.builder().in_memory().collection(shape).build().unwrap()
}

async fn signs_in(client: Client, ana: &SignedUp) -> Account {
    let signed_in = client.sign_in("ana@example.org", PASSWORD, ana.sheet.secret_key(), SignIn::default()).await;
    let account = signed_in.unwrap().account;
    assert!(account.sync().await.unwrap().first_error().is_none());
    account
}

async fn journal(account: &Account) -> Vault {
    account.vault("Journal").await.unwrap().unwrap()
}

/// Ana with the old app, three old notes, and her journal.
async fn with_old_notes(server: &Arc<Fake>) -> (SignedUp, Vault, Vec<RecordId>) {
    let options = selkie_client::SignUp::default();
    let ana = old_app(server).sign_up("ana@example.org", PASSWORD, options).await.unwrap();
    let old = ana.account.create_vault("Journal", APP).await.unwrap();
    let notes: Vec<Note> = (0..3).map(|likes| Note { likes, ..note(&format!("Sea {likes}")) }).collect();
    let ids = old.collection::<Note>("notes").put_all(&notes).await.unwrap();
    old.sync().await.unwrap();
    (ana, old, ids)
}

#[tokio::test]
async fn what_an_older_app_wrote_is_found_by_what_it_means_today() {
    for indexed in [true, false] {
        let server = Fake::start();
        let (ana, _, ids) = with_old_notes(&server).await;
        let new = journal(&signs_in(new_app(&server, indexed), &ana).await).await;
        let notes = new.collection::<LaterNote>("notes");
        let written = LaterNote { headline: "Sea 9".into(), mood: "wild".into(), likes: 9 };
        notes.put(&written).await.unwrap();

        let found = async |filter: Filter| {
            let found = notes.query().filter(filter).order_by("likes", Order::Descending).all().await.unwrap();
            found.into_iter().map(|found| found.value.likes).collect::<Vec<_>>()
        };
        assert_eq!(found(field("mood").eq("calm")).await, [2, 1, 0], "indexed: {indexed}");
        assert_eq!(found(field("mood").eq("calm").and(field("likes").ge(1))).await, [2, 1]);
        assert_eq!(found(field("headline").eq("Sea 1")).await, [1]);
        assert_eq!(found(field("headline").starts_with("Sea")).await, [9, 2, 1, 0]);
        assert_eq!(found(field("title").exists()).await, [0_i64; 0], "that field is no more");
        assert_eq!(found(field("headline").contains("a 2").or(field("mood").eq("wild"))).await, [9, 2]);
        let by_headline = notes.query().order_by("headline", Order::Ascending).limit(2).all().await.unwrap();
        assert_eq!(by_headline.iter().map(|found| found.id).collect::<Vec<_>>(), ids[..2]);
        assert_eq!(notes.query().search("sea").filter(field("mood").eq("calm")).count().await.unwrap(), 3);
    }
}

#[tokio::test]
async fn a_live_query_hears_of_what_an_older_app_has_just_written() {
    for indexed in [true, false] {
        let server = Fake::start();
        let (ana, old, ids) = with_old_notes(&server).await;
        let new = journal(&signs_in(new_app(&server, indexed), &ana).await).await;
        let notes = new.collection::<LaterNote>("notes");
        let mut live = notes.query().filter(field("headline").eq("Land")).watch();
        assert_eq!(live.next().await.unwrap().unwrap(), []);

        old.collection::<Note>("notes").update(ids[1], |note| note.title = "Land".into()).await.unwrap();
        old.sync().await.unwrap();
        new.sync().await.unwrap();
        let shown = live.next().await.unwrap().unwrap();
        assert_eq!(shown.iter().map(|found| found.id).collect::<Vec<_>>(), [ids[1]]);
        assert_eq!(shown[0].value.mood, "calm");
    }
}

#[tokio::test]
async fn what_a_later_app_wrote_goes_through_an_older_one_unharmed() {
    let server = Fake::start();
    let (ana, old, ids) = with_old_notes(&server).await;
    let new = journal(&signs_in(new_app(&server, true), &ana).await).await;
    let later = new.collection::<LaterNote>("notes");
    later.update(ids[0], |note| note.mood = "glad".into()).await.unwrap();
    new.sync().await.unwrap();
    old.sync().await.unwrap();

    // The older app finds what it understands, says of the other what it is, and its syncs leave it alone.
    let earlier = old.collection::<Note>("notes");
    assert_eq!(earlier.query().count().await.unwrap(), 2);
    assert!(matches!(earlier.get(ids[0]).await, Err(Error::NewerRecord { version: 2, .. })));
    let untouched = old.get(ids[0]).await.unwrap().unwrap();
    earlier.update(ids[1], |note| note.title = "Land".into()).await.unwrap();
    old.sync().await.unwrap();
    new.sync().await.unwrap();
    assert_eq!(new.get(ids[0]).await.unwrap().unwrap().data, untouched.data, "byte for byte");
    assert_eq!(later.get(ids[0]).await.unwrap().unwrap().mood, "glad");
    assert_eq!(later.get(ids[1]).await.unwrap().unwrap().headline, "Land");

    // Both change one record apart, and the older app, which meets the conflict, cannot read the other's.
    later.update(ids[2], |note| note.mood = "wild".into()).await.unwrap();
    earlier.update(ids[2], |note| note.title = "By the older app".into()).await.unwrap();
    new.sync().await.unwrap();
    old.sync().await.unwrap();
    new.sync().await.unwrap();
    assert_eq!(later.get(ids[2]).await.unwrap().unwrap().mood, "wild", "what it cannot read it does not replace");
    let history = old.history(ids[2]).await.unwrap();
    assert!(history.iter().any(|version| version.lost_conflict), "and what the older app wrote is kept and listed");
    same(&[&old, &new]).await;
}

/// Neither by a table that is brought in over what is there, nor by an archive, nor by a device that was alone.
#[tokio::test]
async fn what_a_later_app_wrote_is_not_written_over_from_outside() {
    let server = Fake::start();
    let (ana, old, ids) = with_old_notes(&server).await;
    server.later(1_000);
    old.collection::<Note>("notes").update(ids[0], |note| note.likes = 7).await.unwrap();
    let (archive, _) = old.export(Cursor::new(Vec::new()), ExportOptions::default()).await.unwrap();
    let form = TableForm::Csv;
    let mapping = Mapping::default().typed("likes", "likes", FieldType::Integer);
    let table = Table { form, collection: "notes".into(), id_field: Some("id".into()), mapping, overwrite: true };
    let rows = "id,title,body,likes\n1,Sea,,1\n";
    old.import_table(Cursor::new(rows.as_bytes().to_vec()), table.clone()).await.unwrap();
    old.sync().await.unwrap();
    let new = journal(&signs_in(new_app(&server, true), &ana).await).await;
    let later = new.collection::<LaterNote>("notes");
    let all: Vec<RecordId> = later.query().all().await.unwrap().into_iter().map(|found| found.id).collect();
    for id in &all {
        later.update(*id, |note| note.mood = "glad".into()).await.unwrap();
    }
    new.sync().await.unwrap();
    old.sync().await.unwrap();

    let rows = rows.replace("Sea", "Land");
    let report = old.import_table(Cursor::new(rows.into_bytes()), table).await.unwrap();
    assert_eq!((report.kept, report.updated), (1, 0));
    let report = old.import(Cursor::new(archive.into_inner()), None).await.unwrap();
    assert_eq!((report.kept, report.updated, report.new), (3, 0, 0));
    assert_eq!(old.status().await.unwrap().pending, 0);

    // A device with the older app has written under the same name, later.
    server.later(1_000);
    let data = tempfile::tempdir().unwrap();
    let phone = server.alone().app(APP).store(data.path()).open().await.unwrap();
    let alone = phone.vault("Journal").await.unwrap();
    alone.collection::<Note>("notes").put_as(all[0], &note("alone")).await.unwrap();
    phone.use_server(crate::fake::URL).await.unwrap();
    signs_in(phone, &ana).await;
    new.sync().await.unwrap();
    let moods: Vec<String> = later.query().all().await.unwrap().into_iter().map(|found| found.value.mood).collect();
    assert_eq!(moods, ["glad"; 4]);
    let said = new.history(all[0]).await.unwrap();
    assert!(said.iter().any(|version| String::from_utf8_lossy(&version.data).contains("alone")), "it is beneath it");
}

#[tokio::test]
async fn what_a_later_app_wrote_is_brought_back_without_it() {
    let server = Fake::start();
    let (ana, old, ids) = with_old_notes(&server).await;
    let new = journal(&signs_in(new_app(&server, true), &ana).await).await;
    let later = new.collection::<LaterNote>("notes");
    for mood in ["glad", "wild"] {
        later.update(ids[0], move |note| note.mood = mood.into()).await.unwrap();
        new.sync().await.unwrap();
    }
    old.sync().await.unwrap();
    let history = old.history(ids[0]).await.unwrap();
    let glad = history[history.len() - 2].change.unwrap();
    let refused = old.collection::<Note>("notes").restore(ids[0], glad).await;
    assert!(matches!(refused, Err(Error::NewerRecord { version: 2, .. })), "the app's type cannot hold it");
    old.restore(ids[0], glad).await.unwrap();
    old.restore(ids[0], glad).await.unwrap();
    assert_eq!(old.status().await.unwrap().pending, 1, "it says that already");
    old.sync().await.unwrap();
    new.sync().await.unwrap();
    assert_eq!(later.get(ids[0]).await.unwrap().unwrap().mood, "glad");

    // And what it said before there was a later app.
    old.restore(ids[0], history[0].change.unwrap()).await.unwrap();
    old.sync().await.unwrap();
    new.sync().await.unwrap();
    let raised = LaterNote { headline: "Sea 0".into(), mood: "calm".into(), likes: 0 };
    assert_eq!(later.get(ids[0]).await.unwrap(), Some(raised));
    same(&[&old, &new]).await;
    old.restore(ids[1], glad).await.expect_err("that is a version of another record");
}

#[tokio::test]
async fn whoever_wants_to_be_asked_is_asked_about_what_a_later_app_wrote_too() {
    let server = Fake::start();
    let (ana, old, ids) = with_old_notes(&server).await;
    let new = journal(&signs_in(new_app(&server, true), &ana).await).await;
    let asking = CollectionShape::new("notes").conflicts(Strategy::AskUser);
    let asking = server.builder().in_memory().collection(asking).build().unwrap();
    let asked = journal(&signs_in(asking, &ana).await).await;
    new.collection::<LaterNote>("notes").update(ids[0], |note| note.mood = "wild".into()).await.unwrap();
    new.sync().await.unwrap();
    asked.collection::<Note>("notes").update(ids[0], |note| note.title = "Land".into()).await.unwrap();
    asked.sync().await.unwrap();
    let open = asked.open_conflicts().await.unwrap();
    assert_eq!(open.len(), 1, "and until then what the later app wrote stands");
    assert_eq!(asked.get(ids[0]).await.unwrap().unwrap().data, new.get(ids[0]).await.unwrap().unwrap().data);
    let typed = asked.collection::<Note>("notes");
    assert_eq!(typed.undecided().await.unwrap(), [], "the app's type cannot hold it");
    asked.decide(open[0].id, Stands::Mine).await.unwrap();
    for vault in [&asked, &new, &old] {
        vault.sync().await.unwrap();
    }
    same(&[&asked, &new, &old]).await;
    assert_eq!(new.collection::<LaterNote>("notes").get(ids[0]).await.unwrap().unwrap().headline, "Land");
}

#[tokio::test]
async fn a_record_in_a_form_nobody_knows_yet_is_kept_and_passed_on() {
    let server = Fake::start();
    let ana = person(&server, "ana@example.org").await;
    let vault = ana.account.create_vault("Journal", APP).await.unwrap();
    // A later SDK's form, or some other program's: neither fields nor of this version.
    let strange = b"\xa2\x61v\x18\x63\x66fields\xa1\x61x\x01".to_vec();
    let id = vault.new_record_id();
    vault.put("notes", id, &strange).await.unwrap();
    vault.sync().await.unwrap();
    let shape = CollectionShape::new("notes").conflicts(Strategy::FieldMerge);
    let other = signs_in(server.builder().in_memory().collection(shape).build().unwrap(), &ana).await;
    let other = journal(&other).await;
    let notes = other.collection::<Note>("notes");
    assert!(matches!(notes.put_as(id, &note("over it")).await, Err(Error::NewerRecord { version: 99, .. })));
    other.sync().await.unwrap();
    assert_eq!(other.get(id).await.unwrap().unwrap().data, strange);
    assert_eq!(Value::from(notes.query().count().await.unwrap() as i64), Value::from(0));
}
