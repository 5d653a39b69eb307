//! An older app beside a newer one, on devices of one person, against the real server: what the newer one wrote stays
//! as it is, and what both write goes on together.

use selkie_client::{Account, ClientBuilder, CollectionShape, Error, Fields, RecordId, Value, Vault};
use selkie_e2e::device::Device;
use selkie_e2e::on_both_backends;
use selkie_e2e::round::{journal, step};
use selkie_e2e::server::TestServer;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const ANA: &str = "ana@example.org";
const PASSWORD: &str = "seven silver swans sail";
const NOTES: &str = "notes";
const TASKS: &str = "tasks";

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Note {
    title: String,
    likes: i64,
}

/// What version 2 of the app makes of a note: its title is called a headline, and it has a mood.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct LaterNote {
    headline: String,
    mood: String,
    likes: i64,
}

/// A type that was made to grow: what it has no name for it keeps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Task {
    title: String,
    done: bool,
    #[serde(flatten)]
    more: BTreeMap<String, Value>,
}

/// The same, one field later: the version of the collection was not raised for that.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct LaterTask {
    title: String,
    done: bool,
    #[serde(default)]
    colour: String,
}

fn old_app(client: ClientBuilder) -> ClientBuilder {
    client.collection(CollectionShape::new(NOTES).index(["title"]))
}

fn new_app(client: ClientBuilder) -> ClientBuilder {
    let raise = |mut fields: Fields| {
        if let Some(title) = fields.0.remove("title") {
            fields.set("headline", title);
        }
        fields.set("mood", "calm");
        fields
    };
    client.collection(CollectionShape::new(NOTES).version(2).upcast(1, raise).index(["headline"]))
}

async fn says<T: Serialize + DeserializeOwned>(vault: &Vault, collection: &str, id: RecordId) -> T {
    vault.collection::<T>(collection).get(id).await.unwrap().expect("it is there")
}

/// Ana's laptop with the old app and four notes, and her phone with the new one.
async fn laptop_and_phone(server: &TestServer) -> ([Device; 2], [Account; 2], Vec<RecordId>) {
    let devices = [server.device("laptop").with_app(old_app), server.device("phone").with_app(new_app)];
    let (person, laptop) = devices[0].makes_an_account(ANA, PASSWORD).await;
    let vault = laptop.create_vault("Journal", "org.example.notes").await.unwrap();
    let notes: Vec<Note> = (0..4).map(|likes| Note { title: format!("Sea {likes}"), likes }).collect();
    let ids = vault.collection::<Note>(NOTES).put_all(&notes).await.unwrap();
    step(&laptop).await;
    step(&laptop).await;
    let phone = devices[1].signs_in(&person).await.unwrap().account;
    step(&phone).await;
    (devices, [laptop, phone], ids)
}

on_both_backends! {
    async fn what_a_newer_app_wrote_is_kept_by_an_older_one_and_never_written_over(backend: Backend) {
        let server = TestServer::start(backend).await;
        let ([mut device, _other], [laptop, phone], ids) = laptop_and_phone(&server).await;
        let (old, new) = (journal(&laptop).await, journal(&phone).await);
        let (earlier, later) = (old.collection::<Note>(NOTES), new.collection::<LaterNote>(NOTES));
        let raised = LaterNote { headline: "Sea 0".into(), mood: "calm".into(), likes: 0 };
        assert_eq!(later.get(ids[0]).await.unwrap(), Some(raised), "the newer app reads what the older one wrote");
        later.update(ids[0], |note| note.mood = "glad".into()).await.unwrap();
        step(&phone).await;
        step(&laptop).await;

        // The older app says of it what it is, whatever is asked, and leaves it alone.
        let untouched = new.get(ids[0]).await.unwrap().unwrap().data;
        assert_eq!(earlier.query().count().await.unwrap(), 3, "it finds what it understands");
        for refused in [
            earlier.get(ids[0]).await.map(drop),
            earlier.put_as(ids[0], &Note::default()).await,
            earlier.update(ids[0], |note| note.likes = 7).await.map(drop),
            earlier.delete(ids[0]).await,
        ] {
            let refused = refused.unwrap_err();
            assert!(matches!(refused, Error::NewerRecord { version: 2, .. }), "{refused:?}");
            assert_eq!(refused.advice(), "Update the app.");
        }
        earlier.update(ids[1], |note| note.title = "Land".into()).await.unwrap();
        step(&laptop).await;
        step(&phone).await;
        assert_eq!(old.get(ids[0]).await.unwrap().unwrap().data, untouched, "byte for byte");
        assert_eq!(new.get(ids[0]).await.unwrap().unwrap().data, untouched);
        assert_eq!(later.get(ids[1]).await.unwrap().unwrap().headline, "Land", "what it wrote goes on there");

        // Both change one note apart, and it is the older app that meets it.
        later.update(ids[2], |note| note.mood = "wild".into()).await.unwrap();
        earlier.update(ids[2], |note| note.title = "By the older app".into()).await.unwrap();
        step(&phone).await;
        step(&laptop).await;
        step(&phone).await;
        let stands = LaterNote { headline: "Sea 2".into(), mood: "wild".into(), likes: 2 };
        assert_eq!(later.get(ids[2]).await.unwrap(), Some(stands), "what it cannot read it does not replace");
        let history = old.history(ids[2]).await.unwrap();
        assert!(history.iter().any(|version| version.lost_conflict), "and what the older app wrote is kept and listed");
        // And here the newer one does, which can read both.
        earlier.update(ids[3], |note| note.title = "Shore".into()).await.unwrap();
        later.update(ids[3], |note| note.mood = "mild".into()).await.unwrap();
        step(&laptop).await;
        step(&phone).await;
        step(&laptop).await;
        let merged = LaterNote { headline: "Shore".into(), mood: "mild".into(), likes: 3 };
        assert_eq!(later.get(ids[3]).await.unwrap(), Some(merged));
        assert_eq!(old.digest().await.unwrap(), new.digest().await.unwrap());

        // The laptop gets the new app, with a write of the old one still to be sent.
        earlier.update(ids[1], |note| note.likes = 11).await.unwrap();
        drop((earlier, old, laptop));
        device = device.with_app(new_app);
        let laptop = device.account(ANA).await.unwrap().unwrap();
        let updated = journal(&laptop).await;
        let all = updated.collection::<LaterNote>(NOTES);
        assert_eq!(all.query().count().await.unwrap(), 4, "now it reads everything");
        assert_eq!(all.get(ids[0]).await.unwrap().unwrap().mood, "glad");
        let waited = LaterNote { headline: "Land".into(), mood: "calm".into(), likes: 11 };
        assert_eq!(all.get(ids[1]).await.unwrap(), Some(waited.clone()));
        step(&laptop).await;
        step(&phone).await;
        assert_eq!(later.get(ids[1]).await.unwrap(), Some(waited));
        assert_eq!(updated.digest().await.unwrap(), new.digest().await.unwrap());
    }

    async fn a_field_that_a_newer_app_added_survives_an_older_one_that_keeps_what_it_does_not_know(backend: Backend) {
        let server = TestServer::start(backend).await;
        let (_devices, [laptop, phone], _) = laptop_and_phone(&server).await;
        let (old, new) = (journal(&laptop).await, journal(&phone).await);
        let green = LaterTask { title: "Water the plants".into(), done: false, colour: "green".into() };
        let id = new.collection(TASKS).put(&green).await.unwrap();
        step(&phone).await;
        step(&laptop).await;

        // The older app edits it: what it has no name for stays.
        assert!(old.collection::<Task>(TASKS).update(id, |task| task.done = true).await.unwrap());
        step(&laptop).await;
        step(&phone).await;
        let done = LaterTask { done: true, ..green };
        assert_eq!(says::<LaterTask>(&new, TASKS, id).await, done);

        // And if both edit it apart, both stand: field by field.
        new.collection::<LaterTask>(TASKS).update(id, |task| task.colour = "blue".into()).await.unwrap();
        old.collection::<Task>(TASKS).update(id, |task| task.title = "Water the roses".into()).await.unwrap();
        for account in [&phone, &laptop, &phone] {
            step(account).await;
        }
        let both = LaterTask { title: "Water the roses".into(), done: true, colour: "blue".into() };
        assert_eq!(says::<LaterTask>(&new, TASKS, id).await, both);
        let kept = says::<Task>(&old, TASKS, id).await;
        assert_eq!(kept.more.get("colour"), Some(&Value::from("blue")));
        assert_eq!(old.digest().await.unwrap(), new.digest().await.unwrap());
    }
}
