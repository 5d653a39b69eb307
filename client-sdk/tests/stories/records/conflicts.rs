//! Two devices write the same record without knowing of each other, and meet.

use super::{Note, devices, note, two_devices};
use crate::vaults::same;
use selkie_client::{
    ClientBuilder, Collection, CollectionShape, Document, Merge, Outcome, RecordId, RecordState, Stands, Strategy,
    Vault,
};
use serde::{Deserialize, Serialize};
use yrs::{GetString as _, Text as _, Transact as _};

/// Both begin with the same note, change it apart, and come together: first the laptop, then the phone, which decides.
async fn meet(
    shape: impl Fn(ClientBuilder) -> ClientBuilder,
    on_laptop: impl Fn(&mut Note) + Send + 'static,
    on_phone: impl Fn(&mut Note) + Send + 'static,
) -> (Vault, Vault, RecordId) {
    let (server, laptop, phone) = two_devices(shape).await;
    let (here, there) = (laptop.collection::<Note>("notes"), phone.collection::<Note>("notes"));
    let begun = Note { body: "one two three".into(), tags: vec!["a".into(), "b".into()], ..note("first") };
    let id = here.put(&begun).await.unwrap();
    laptop.sync().await.unwrap();
    phone.sync().await.unwrap();
    server.later(1_000);
    here.update(id, on_laptop).await.unwrap();
    server.later(1_000);
    there.update(id, on_phone).await.unwrap();
    laptop.sync().await.unwrap();
    phone.sync().await.unwrap();
    laptop.sync().await.unwrap();
    same(&[&laptop, &phone]).await;
    assert_eq!(notes(&laptop).get(id).await.unwrap(), notes(&phone).get(id).await.unwrap());
    (laptop, phone, id)
}

fn notes(vault: &Vault) -> Collection<Note> {
    vault.collection("notes")
}

#[tokio::test]
async fn changes_of_different_fields_both_stand_and_nobody_is_asked() {
    let (_laptop, phone, id) = meet(|client| client, |note| note.title = "new".into(), |note| note.likes = 3).await;
    let merged = notes(&phone).get(id).await.unwrap().unwrap();
    assert_eq!((merged.title.as_str(), merged.likes, merged.body.as_str()), ("new", 3, "one two three"));
    let conflicts = phone.conflicts().await.unwrap();
    assert_eq!((conflicts.len(), conflicts[0].how, conflicts[0].open), (1, Some(Outcome::Merged), false));
}

#[tokio::test]
async fn fields_are_merged_as_the_app_has_declared() {
    let shape = |client: ClientBuilder| {
        let shape = CollectionShape::new("notes").conflicts(Strategy::TextMerge);
        client.collection(shape.field("likes", Merge::Counter).field("tags", Merge::Set))
    };
    let on_laptop = |note: &mut Note| {
        note.body = "ONE two three".into();
        note.likes += 2;
        note.tags.push("laptop".into());
    };
    let on_phone = |note: &mut Note| {
        note.body = "one two THREE".into();
        note.likes += 3;
        note.tags.remove(0);
    };
    let (laptop, _phone, id) = meet(shape, on_laptop, on_phone).await;
    let merged = notes(&laptop).get(id).await.unwrap().unwrap();
    assert_eq!((merged.body.as_str(), merged.likes), ("ONE two THREE", 5));
    assert_eq!(merged.tags, ["b", "laptop"]);
}

#[tokio::test]
async fn the_edit_that_loses_stays_in_the_history_and_is_listed() {
    let shape =
        |client: ClientBuilder| client.collection(CollectionShape::new("notes").conflicts(Strategy::RemoteWins));
    let (_laptop, phone, id) =
        meet(shape, |note| note.title = "laptop".into(), |note| note.title = "phone".into()).await;
    assert_eq!(notes(&phone).get(id).await.unwrap().unwrap().title, "laptop");
    let now = notes(&phone).as_of(id, u64::MAX).await.unwrap();
    assert_eq!(now.unwrap().title, "laptop", "the other was written later, and does not stand");
    let conflict = phone.conflicts().await.unwrap().pop().unwrap();
    assert_eq!(conflict.how, Some(Outcome::TheirsKept));
    let history = notes(&phone).history(id).await.unwrap();
    let lost = history.iter().find(|version| version.version.change == Some(conflict.lost)).unwrap();
    assert_eq!(lost.value.as_ref().unwrap().title, "phone");
    assert!(lost.version.lost_conflict);
}

#[tokio::test]
async fn a_person_is_asked_and_decides_when_they_like() {
    let shape = |client: ClientBuilder| client.collection(CollectionShape::new("notes").conflicts(Strategy::AskUser));
    let (laptop, phone, id) =
        meet(shape, |note| note.title = "laptop".into(), |note| note.title = "phone".into()).await;
    let notes = notes(&phone);
    assert_eq!(notes.get(id).await.unwrap().unwrap().title, "laptop", "what is in the log stands until then");
    assert_eq!(notes.state(id).await.unwrap(), RecordState::Conflict);
    let asked = notes.undecided().await.unwrap().pop().unwrap();
    let titles = [&asked.base, &asked.mine, &asked.theirs].map(|note| note.as_ref().unwrap().title.clone());
    assert_eq!(titles, ["first", "phone", "laptop"]);

    // Sync goes on in the meantime.
    let other = notes.put(&note("other")).await.unwrap();
    phone.sync().await.unwrap();
    assert_eq!(notes.state(other).await.unwrap(), RecordState::Synced);

    let both = Note { title: "laptop and phone".into(), ..asked.mine.clone().unwrap() };
    notes.decide(&asked, Some(&both)).await.unwrap();
    assert_eq!(notes.undecided().await.unwrap(), []);
    phone.sync().await.unwrap();
    laptop.sync().await.unwrap();
    assert_eq!(notes.state(id).await.unwrap(), RecordState::Synced);
    assert_eq!(super::conflicts::notes(&laptop).get(id).await.unwrap(), Some(both));
}

/// Two delete a note, or say the same of it, and between the two moments a third says something else. Whoever comes
/// first, the last of the three has the last word: what was said again is not as old as whoever tells it last.
#[tokio::test]
async fn what_two_say_alike_was_said_when_the_later_of_them_said_it() {
    for strategy in [Strategy::LastWriterWins, Strategy::FieldMerge] {
        let shape =
            |client: ClientBuilder| client.collection(CollectionShape::new("notes").conflicts(strategy.clone()));
        let (server, laptop, [phone, tablet]) = devices(shape).await;
        let ids = [(); 2].map(|()| laptop.new_record_id());
        for id in ids {
            notes(&laptop).put_as(id, &note("first")).await.unwrap();
        }
        for vault in [&laptop, &phone, &tablet] {
            vault.sync().await.unwrap();
        }
        let [gone, alike] = ids;
        let says_alike = async |vault: &Vault| {
            server.later(1_000);
            notes(vault).delete(gone).await.unwrap();
            notes(vault).update(alike, |note| note.title = "alike".into()).await.unwrap();
        };
        says_alike(&phone).await;
        server.later(1_000);
        for id in ids {
            notes(&tablet).update(id, |note| note.title = "between".into()).await.unwrap();
        }
        says_alike(&laptop).await;
        for vault in [&laptop, &phone, &tablet, &laptop, &phone] {
            vault.sync().await.unwrap();
        }
        same(&[&laptop, &phone, &tablet]).await;
        for vault in [&laptop, &phone, &tablet] {
            assert_eq!(notes(vault).get(gone).await.unwrap(), None, "{strategy:?}");
            assert_eq!(notes(vault).get(alike).await.unwrap().unwrap().title, "alike", "{strategy:?}");
        }
        let listed = phone.conflicts().await.unwrap();
        assert_eq!(listed.len(), 0, "who says the same has no conflict: {listed:?}");
    }
}

/// What is shown and decided by a program that does not know the app's types, such as the command line.
#[tokio::test]
async fn a_conflict_is_decided_without_the_app() {
    let shape = |client: ClientBuilder| client.collection(CollectionShape::new("notes").conflicts(Strategy::AskUser));
    let (server, laptop, phone) = two_devices(shape).await;
    let ids = [(); 3].map(|()| laptop.new_record_id());
    for id in ids {
        notes(&laptop).put_as(id, &note("first")).await.unwrap();
    }
    laptop.sync().await.unwrap();
    phone.sync().await.unwrap();
    for id in ids {
        notes(&laptop).update(id, |note| note.title = "laptop".into()).await.unwrap();
    }
    server.later(1_000);
    notes(&phone).update(ids[0], |note| note.title = "phone".into()).await.unwrap();
    notes(&phone).delete(ids[1]).await.unwrap();
    notes(&phone).update(ids[2], |note| note.title = "phone".into()).await.unwrap();
    laptop.sync().await.unwrap();
    phone.sync().await.unwrap();
    let open = phone.open_conflicts().await.unwrap();
    assert_eq!(open.len(), 3);
    let about = |id| open.iter().find(|one| one.record == id).unwrap();
    assert_eq!((&about(ids[1]).mine.data, about(ids[1]).theirs.data.is_some()), (&None, true));

    // One of them was moved to another collection before anybody decided.
    laptop.delete("notes", ids[2]).await.unwrap();
    laptop.collection::<Note>("others").put_as(ids[2], &note("moved")).await.unwrap();
    laptop.sync().await.unwrap();
    phone.sync().await.unwrap();
    for id in ids {
        phone.decide(about(id).id, Stands::Mine).await.unwrap();
        phone.decide(about(id).id, Stands::Mine).await.expect_err("it is decided");
    }
    assert_eq!(phone.open_conflicts().await.unwrap(), []);
    phone.sync().await.unwrap();
    laptop.sync().await.unwrap();
    same(&[&laptop, &phone]).await;
    for vault in [&laptop, &phone] {
        let said = async |id| notes(vault).get(id).await.unwrap().map(|note| note.title);
        assert_eq!(said(ids[0]).await.as_deref(), Some("phone"));
        assert_eq!(said(ids[1]).await, None, "it was deleted");
        assert_eq!(said(ids[2]).await.as_deref(), Some("phone"), "and is where it was when it was written");
    }

    // What stands already is not written once more.
    notes(&laptop).update(ids[0], |note| note.likes = 1).await.unwrap();
    notes(&phone).update(ids[0], |note| note.likes = 2).await.unwrap();
    laptop.sync().await.unwrap();
    phone.sync().await.unwrap();
    let open = phone.open_conflicts().await.unwrap();
    assert_eq!(open.len(), 1);
    // Nor is what was written since: theirs is what is in the log.
    laptop.sync().await.unwrap();
    notes(&laptop).update(ids[0], |note| note.likes = 3).await.unwrap();
    laptop.sync().await.unwrap();
    phone.sync().await.unwrap();
    phone.decide(open[0].id, Stands::Theirs).await.unwrap();
    assert_eq!(phone.status().await.unwrap().pending, 0);
    assert_eq!(notes(&phone).get(ids[0]).await.unwrap().unwrap().likes, 3);
}

#[tokio::test]
async fn a_conflict_is_settled_right_when_the_last_of_many_edits_does_not_fit_beside_the_first() {
    let (_server, laptop, phone) = two_devices(|client| client).await;
    let (here, there) = (notes(&laptop), notes(&phone));
    let id = here.put(&note("first")).await.unwrap();
    laptop.sync().await.unwrap();
    phone.sync().await.unwrap();
    here.update(id, |note| note.body = "from the laptop".into()).await.unwrap();
    laptop.sync().await.unwrap();
    there.update(id, |note| note.likes = 1).await.unwrap();
    for _ in 0..300 {
        there.put(&note("between")).await.unwrap();
    }
    there.update(id, |note| note.likes = 2).await.unwrap();
    phone.sync().await.unwrap();
    laptop.sync().await.unwrap();
    same(&[&laptop, &phone]).await;
    let merged = here.get(id).await.unwrap().unwrap();
    assert_eq!((merged.body.as_str(), merged.likes), ("from the laptop", 2));
}

/// Nobody may stand on a newer version because of something that comes later, or never: what did not go along decides
/// nothing.
#[tokio::test]
async fn an_older_edit_does_not_stand_while_a_newer_one_waits() {
    let shape =
        |client: ClientBuilder| client.collection(CollectionShape::new("notes").conflicts(Strategy::LastWriterWins));
    let (server, laptop, phone) = two_devices(shape).await;
    let (here, there) = (notes(&laptop), notes(&phone));
    let id = here.put(&note("first")).await.unwrap();
    laptop.sync().await.unwrap();
    phone.sync().await.unwrap();
    server.later(1_000);
    there.put_as(id, &note("early")).await.unwrap();
    server.later(1_000);
    here.put_as(id, &note("between")).await.unwrap();
    laptop.sync().await.unwrap();
    server.later(1_000);
    // As many as one entry holds: there is no room for the early one beside them.
    let mut late = phone.transaction();
    late.put_as(&there, id, &note("late")).unwrap();
    for _ in 1..256 {
        late.put(&there, &note("with it")).unwrap();
    }
    late.commit().await.unwrap();
    phone.sync().await.unwrap();
    laptop.sync().await.unwrap();
    same(&[&laptop, &phone]).await;
    let history = here.history(id).await.unwrap();
    let said: Vec<_> = history.iter().map(|one| one.value.as_ref().unwrap().title.as_str()).collect();
    assert_eq!(said, ["first", "between", "early", "between", "late"]);
    let late = history.last().unwrap().version.written.ms;
    for (before, title) in [(500, "between"), (1_500, "early"), (0, "late")] {
        let then = here.as_of(id, late - before).await.unwrap();
        assert_eq!(then.unwrap().title, title, "{before} ms before the last");
    }
}

/// A note whose text is a document of its own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Paper {
    title: String,
    text: Document,
}

impl Paper {
    fn type_in(&mut self, at: u32, words: &str) {
        let editor = self.text.open().unwrap();
        let text = editor.get_or_insert_text("text");
        text.insert(&mut editor.transact_mut(), at, words);
        self.text.absorb(&editor).unwrap();
    }

    fn says(&self) -> String {
        let shown = self.text.open().unwrap();
        let text = shown.get_or_insert_text("text");
        text.get_string(&shown.transact())
    }
}

#[tokio::test]
async fn in_a_document_every_letter_stands_that_anybody_wrote_at_the_same_place() {
    let shape =
        |client: ClientBuilder| client.collection(CollectionShape::new("papers").field("text", Merge::Document));
    let (server, laptop, phone) = two_devices(shape).await;
    let (here, there) = (laptop.collection::<Paper>("papers"), phone.collection::<Paper>("papers"));
    let mut paper = Paper { title: "Minutes".into(), ..Paper::default() };
    paper.type_in(0, "Present: Ana");
    let id = here.put(&paper).await.unwrap();
    laptop.sync().await.unwrap();
    phone.sync().await.unwrap();

    // Three rounds apart from each other, both at the very same place and in the middle of a word.
    for round in 0..3 {
        server.later(1_000);
        here.update(id, |paper| paper.type_in(10, "[laptop]")).await.unwrap();
        there.update(id, |paper| paper.type_in(10, "[phone]")).await.unwrap();
        there.update(id, move |paper| paper.title = format!("Minutes {round}")).await.unwrap();
    }
    laptop.sync().await.unwrap();
    phone.sync().await.unwrap();
    laptop.sync().await.unwrap();
    same(&[&laptop, &phone]).await;

    let together = here.get(id).await.unwrap().unwrap();
    assert_eq!(together.title, "Minutes 2");
    let text = together.says();
    assert_eq!((text.matches("[laptop]").count(), text.matches("[phone]").count()), (3, 3), "{text}");
    assert_eq!(text.replace("[laptop]", "").replace("[phone]", ""), "Present: Ana");
    let conflicts = phone.conflicts().await.unwrap();
    assert!(conflicts.iter().all(|conflict| conflict.how == Some(Outcome::Merged) && !conflict.open));
}

#[tokio::test]
async fn an_editor_that_was_open_all_along_does_not_write_over_what_came_in_the_meantime() {
    let shape =
        |client: ClientBuilder| client.collection(CollectionShape::new("papers").field("text", Merge::Document));
    let (_server, laptop, phone) = two_devices(shape).await;
    let (here, there) = (laptop.collection::<Paper>("papers"), phone.collection::<Paper>("papers"));
    let id = here.put(&Paper::default()).await.unwrap();
    laptop.sync().await.unwrap();
    phone.sync().await.unwrap();

    let editor = there.get(id).await.unwrap().unwrap().text.open().unwrap();
    here.update(id, |paper| paper.type_in(0, "from the laptop")).await.unwrap();
    laptop.sync().await.unwrap();
    phone.sync().await.unwrap();
    editor.get_or_insert_text("text").insert(&mut editor.transact_mut(), 0, "typed meanwhile, ");
    there.update(id, move |paper| paper.text.absorb(&editor).unwrap()).await.unwrap();
    let says = there.get(id).await.unwrap().unwrap().says();
    assert!(says.contains("from the laptop") && says.contains("typed meanwhile, "), "{says}");
}

#[tokio::test]
async fn a_forged_document_loses_against_the_newer_one_and_that_is_listed() {
    let shape =
        |client: ClientBuilder| client.collection(CollectionShape::new("papers").field("text", Merge::Document));
    let (server, laptop, phone) = two_devices(shape).await;
    let (here, there) = (laptop.collection::<Paper>("papers"), phone.collection::<Paper>("papers"));
    let id = here.put(&Paper::default()).await.unwrap();
    laptop.sync().await.unwrap();
    phone.sync().await.unwrap();

    // Some other program writes what is no document.
    let forged = serde_json::json!({ "title": "forged", "text": null });
    server.later(1_000);
    laptop.collection::<serde_json::Value>("papers").put_as(id, &forged).await.unwrap();
    server.later(1_000);
    there.update(id, |paper| paper.type_in(0, "mine")).await.unwrap();
    laptop.sync().await.unwrap();
    phone.sync().await.unwrap();
    assert_eq!(there.get(id).await.unwrap().unwrap().says(), "mine");
    assert_eq!(phone.conflicts().await.unwrap().pop().unwrap().how, Some(Outcome::PartlyMerged));
}
