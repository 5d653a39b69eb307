//! A week apart: two devices of one person, a thousand edits and more on each, every way in which conflicts are
//! decided. Then they come together.

use super::Note;
use crate::schedules::Dice;
use selkie_client::testing::{Device, TestServer};
use selkie_client::{
    ClientBuilder, Collection, CollectionShape, CustomMerge, Decision, Document, Fields, Merge, Outcome, RecordId,
    Strategy, Value, Vault, Written,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use yrs::{GetString as _, Text as _, Transact as _};

const DAY: Duration = Duration::from_secs(24 * 3600);
const HOUR: Duration = Duration::from_secs(3600);
const YEARS: i64 = 10 * 365 * 24 * 3600 * 1000;

/// Every strategy has a collection of its own.
const COLLECTIONS: [&str; 7] = ["mine", "theirs", "last", "fields", "texts", "own rule", "asked"];
const RECORDS: usize = 12;
const EDITS_A_DAY: usize = 160;

fn app(client: ClientBuilder) -> ClientBuilder {
    let shape = |name: &str, strategy| CollectionShape::new(name).conflicts(strategy);
    let counted = |shape: CollectionShape| shape.field("likes", Merge::Counter).field("tags", Merge::Set);
    client
        .collection(shape("mine", Strategy::LocalWins))
        .collection(shape("theirs", Strategy::RemoteWins))
        .collection(shape("last", Strategy::LastWriterWins))
        .collection(counted(shape("fields", Strategy::FieldMerge)))
        .collection(counted(shape("texts", Strategy::TextMerge)))
        .collection(shape("own rule", Strategy::Custom(CustomMerge::new(both_titles))))
        .collection(shape("asked", Strategy::AskUser))
        .collection(CollectionShape::new("papers").field("text", Merge::Document))
}

/// The app's own rule: both titles, in an order that does not depend on who decides.
fn both_titles(_: Option<&Written>, mine: &Written, theirs: &Written) -> Decision {
    let (Some(mine), Some(theirs)) = (&mine.fields, &theirs.fields) else { return Decision::Ask };
    let mut titles = [mine, theirs].map(|fields| fields.get("title").and_then(Value::as_text).unwrap_or_default());
    titles.sort_unstable();
    let mut merged: Fields = mine.clone();
    merged.set("title", titles.join(" & "));
    Decision::Merged(merged)
}

/// A field in which both write at the same place.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Paper {
    text: Document,
}

/// What somebody did to a record while they were apart.
#[derive(Clone, Debug, Default)]
struct Edited {
    times: i64,
    last_title: String,
    last_at: usize,
}

/// One device, and what it did.
struct Apart {
    device: Device,
    name: &'static str,
    edits: BTreeMap<(usize, RecordId), Edited>,
    all_titles: BTreeSet<(usize, RecordId, String)>,
}

impl Apart {
    fn new(device: Device, name: &'static str) -> Apart {
        Apart { device, name, edits: BTreeMap::new(), all_titles: BTreeSet::new() }
    }

    async fn vault(&self) -> Vault {
        self.device.vault("Journal").await.unwrap()
    }

    async fn edit(&mut self, collection: usize, id: RecordId, number: usize) {
        let title = format!("{}-{number}", self.name);
        let (name, said) = (self.name, title.clone());
        let edit = move |note: &mut Note| {
            note.title = said.clone();
            note.likes += 1;
            note.tags.push(said.clone());
            // Each has a sentence of its own in the same text.
            note.body = note.body.replace(&format!("{name} wrote"), &format!("{name} wrote on"));
        };
        let notes = self.vault().await.collection::<Note>(COLLECTIONS[collection]);
        assert!(notes.update(id, edit).await.unwrap());
        let edited = self.edits.entry((collection, id)).or_default();
        *edited = Edited { times: edited.times + 1, last_title: title.clone(), last_at: number };
        self.all_titles.insert((collection, id, title));
    }

    async fn type_in(&self, paper: RecordId, words: &'static str) {
        let papers = self.vault().await.collection::<Paper>("papers");
        let typing = move |paper: &mut Paper| {
            let editor = paper.text.open().unwrap();
            editor.get_or_insert_text("text").insert(&mut editor.transact_mut(), 2, words);
            paper.text.absorb(&editor).unwrap();
        };
        assert!(papers.update(paper, typing).await.unwrap());
    }
}

/// Ana's journal on a laptop and a phone, with the same records on both.
async fn begun(server: &TestServer) -> (Apart, Apart, Vec<(usize, RecordId)>, RecordId) {
    let ana = server.person("ana");
    let laptop = Apart::new(ana.device("laptop").await.unwrap(), "laptop");
    let phone = Apart::new(ana.device("phone").await.unwrap(), "phone");
    let vault = laptop.device.account().create_vault("Journal", crate::vaults::APP).await.unwrap();
    let mut records = Vec::new();
    for (number, name) in COLLECTIONS.iter().enumerate() {
        let begun = Note { body: "laptop wrote this. phone wrote that.".into(), ..super::note("begun") };
        let ids = vault.collection::<Note>(name).put_all(&vec![begun; RECORDS]).await.unwrap();
        records.extend(ids.into_iter().map(|id| (number, id)));
    }
    let mut paper = Paper::default();
    let editor = paper.text.open().unwrap();
    editor.get_or_insert_text("text").push(&mut editor.transact_mut(), "<>");
    paper.text.absorb(&editor).unwrap();
    let paper = vault.collection::<Paper>("papers").put(&paper).await.unwrap();
    server.sync_all().await.unwrap();
    (laptop, phone, records, paper)
}

async fn all_notes(device: &Device, collection: &str) -> Vec<(RecordId, Note)> {
    let notes: Collection<Note> = device.vault("Journal").await.unwrap().collection(collection);
    notes.query().all().await.unwrap().into_iter().map(|found| (found.id, found.value)).collect()
}

#[tokio::test]
async fn a_week_apart_with_thousands_of_edits_ends_in_the_same_and_nothing_is_lost() {
    let server = TestServer::for_app(app);
    let (mut laptop, mut phone, records, paper) = begun(&server).await;
    let mut dice = Dice::new(7);
    let mut number = 0;
    laptop.device.cut();
    phone.device.cut();
    for _ in 0..7 {
        for _ in 0..EDITS_A_DAY {
            for apart in [&mut laptop, &mut phone] {
                let (collection, id) = records[dice.below(records.len() as u64) as usize];
                number += 1;
                server.later(Duration::from_millis(1));
                apart.edit(collection, id, number).await;
            }
        }
        laptop.type_in(paper, "[laptop]").await;
        phone.type_in(paper, "[phone]").await;
        server.later(DAY);
        assert!(laptop.device.sync().await.unwrap_err().is_retryable() && phone.device.sync().await.is_err());
    }
    assert!(number > 2_000);
    laptop.device.mend();
    phone.device.mend();
    // First the laptop, then the phone, which meets the conflicts.
    server.sync_all().await.unwrap();

    in_step(&[&laptop.device, &phone.device]).await;
    for (collection, name) in COLLECTIONS.iter().enumerate() {
        for (id, note) in all_notes(&phone.device, name).await {
            as_its_strategy_says(&note, laptop.edits.get(&(collection, id)), phone.edits.get(&(collection, id)), name);
        }
    }
    let says = {
        let paper = phone.vault().await.collection::<Paper>("papers").get(paper).await.unwrap().unwrap();
        let shown = paper.text.open().unwrap();
        let text = shown.get_or_insert_text("text");
        text.get_string(&shown.transact())
    };
    assert_eq!((says.matches("[laptop]").count(), says.matches("[phone]").count()), (7, 7), "{says}");

    nothing_is_lost(&laptop, &phone).await;
    conflicts_are_listed(&laptop, &phone).await;
}

async fn in_step(devices: &[&Device]) {
    let (first, others) = devices.split_first().unwrap();
    for other in others {
        for name in COLLECTIONS {
            assert_eq!(all_notes(first, name).await, all_notes(other, name).await, "{name}");
        }
        let [one, two] = [first, other].map(|device| async { device.vault("Journal").await.unwrap().status().await });
        let (one, two) = (one.await.unwrap(), two.await.unwrap());
        assert_eq!(one.digest, two.digest);
        assert_eq!((one.pending, two.pending, one.set_aside, two.set_aside), (0, 0, Vec::new(), Vec::new()));
    }
}

/// What the record says after both have edited it, or one of them, or none.
fn as_its_strategy_says(note: &Note, laptop: Option<&Edited>, phone: Option<&Edited>, strategy: &str) {
    let none = Edited::default();
    let (on_laptop, on_phone) = (laptop.unwrap_or(&none), phone.unwrap_or(&none));
    let expected = match (laptop, phone) {
        (None, None) => "begun".to_owned(),
        (Some(one), None) | (None, Some(one)) => one.last_title.clone(),
        (Some(laptop), Some(phone)) => match strategy {
            // The phone decides, and to it the laptop's are the others'.
            "mine" => phone.last_title.clone(),
            "theirs" | "asked" => laptop.last_title.clone(),
            "own rule" => format!("{} & {}", laptop.last_title, phone.last_title),
            "texts" => return assert!(note.title.contains("laptop") || note.title.contains("phone"), "{note:?}"),
            _ if laptop.last_at > phone.last_at => laptop.last_title.clone(),
            _ => phone.last_title.clone(),
        },
    };
    assert_eq!(note.title, expected, "{strategy}");
    if strategy == "fields" {
        assert_eq!(note.likes, on_laptop.times + on_phone.times, "both have counted");
        assert_eq!(note.tags.len() as i64, note.likes, "a tag for each edit");
    }
    if strategy == "texts" {
        assert!(laptop.is_none() || note.body.contains("laptop wrote on"), "{note:?}");
        assert!(phone.is_none() || note.body.contains("phone wrote on"), "{note:?}");
    }
}

/// Every edit of either is in the history that both keep.
async fn nothing_is_lost(one: &Apart, other: &Apart) {
    let all: BTreeSet<_> = one.all_titles.union(&other.all_titles).cloned().collect();
    for apart in [one, other] {
        let vault = apart.vault().await;
        let mut kept = BTreeSet::new();
        for (collection, id) in one.edits.keys().chain(other.edits.keys()).copied().collect::<BTreeSet<_>>() {
            let history = vault.collection::<Note>(COLLECTIONS[collection]).history(id).await.unwrap();
            kept.extend(history.into_iter().filter_map(|one| Some((collection, id, one.value?.title))));
        }
        let lost: Vec<_> = all.difference(&kept).collect();
        assert!(lost.is_empty(), "{} of {} edits are lost to the {}", lost.len(), all.len(), apart.name);
    }
}

/// Whatever both have edited is on the list of the one who met it, with what came of it.
async fn conflicts_are_listed(first: &Apart, second: &Apart) {
    let vault = second.vault().await;
    let listed: BTreeMap<RecordId, Option<Outcome>> =
        vault.conflicts().await.unwrap().into_iter().map(|conflict| (conflict.record, conflict.how)).collect();
    let mut of_both = 0;
    for (collection, id) in first.edits.keys().filter(|key| second.edits.contains_key(key)) {
        let how = listed.get(id).unwrap_or_else(|| panic!("{} has no conflict of {id}", COLLECTIONS[*collection]));
        let expected: &[Outcome] = match COLLECTIONS[*collection] {
            "mine" => &[Outcome::MineKept],
            "theirs" => &[Outcome::TheirsKept],
            "asked" => &[Outcome::Asked],
            "last" => &[Outcome::MineKept, Outcome::TheirsKept],
            _ => &[Outcome::Merged, Outcome::PartlyMerged],
        };
        assert!(how.is_some_and(|how| expected.contains(&how)), "{}: {how:?}", COLLECTIONS[*collection]);
        of_both += 1;
    }
    assert!(of_both > 50, "{of_both} records were edited by both");
    let asked = vault.collection::<Note>("asked");
    for undecided in asked.undecided().await.unwrap() {
        let (on_laptop, on_phone) = (&first.edits[&(6, undecided.record)], &second.edits[&(6, undecided.record)]);
        assert_eq!(undecided.mine.as_ref().unwrap().title, on_phone.last_title);
        assert_eq!(undecided.theirs.as_ref().unwrap().title, on_laptop.last_title);
        asked.decide(&undecided, undecided.mine.as_ref()).await.unwrap();
    }
    assert_eq!(asked.undecided().await.unwrap(), []);
}

#[tokio::test]
async fn a_clock_that_is_ten_years_off_loses_nothing_and_stops_nobody() {
    for off_by in [YEARS, -YEARS] {
        let server = TestServer::for_app(app);
        let (laptop, phone, records, _) = begun(&server).await;
        let id = records.iter().find(|(collection, _)| COLLECTIONS[*collection] == "last").unwrap().1;
        let notes = async |apart: &Apart| apart.vault().await.collection::<Note>("last");
        let (here, there) = (notes(&laptop).await, notes(&phone).await);
        phone.device.clock_off_by(off_by);
        phone.device.cut();

        server.later(HOUR);
        there.update(id, |note| note.title = "by the wrong clock".into()).await.unwrap();
        server.later(HOUR);
        here.update(id, |note| note.title = "by the right clock".into()).await.unwrap();
        phone.device.mend();
        server.sync_all().await.unwrap();
        in_step(&[&laptop.device, &phone.device]).await;
        // Clocks are all there is to tell which was last, so the wrong one is believed. But nothing is lost by it.
        let (stands, lost) = match off_by > 0 {
            true => ("by the wrong clock", "by the right clock"),
            false => ("by the right clock", "by the wrong clock"),
        };
        assert_eq!(here.get(id).await.unwrap().unwrap().title, stands);
        let conflict = phone.vault().await.conflicts().await.unwrap().pop().unwrap();
        let history = here.history(id).await.unwrap();
        let loser = history.iter().find(|version| version.version.change == Some(conflict.lost)).unwrap();
        assert_eq!(loser.value.as_ref().unwrap().title, lost);

        // Whoever writes over it knowing of it is later, whatever any clock says.
        for (writer, title) in [(&here, "after all"), (&there, "and again"), (&here, "and at last")] {
            writer.update(id, move |note| note.title = title.into()).await.unwrap();
            server.sync_all().await.unwrap();
            assert_eq!(here.get(id).await.unwrap().unwrap().title, title);
            assert_eq!(there.get(id).await.unwrap().unwrap().title, title);
        }
        phone.device.clock_off_by(0);
        there.update(id, |note| note.title = "put right".into()).await.unwrap();
        server.sync_all().await.unwrap();
        assert_eq!(here.get(id).await.unwrap().unwrap().title, "put right");
        in_step(&[&laptop.device, &phone.device]).await;
    }
}
