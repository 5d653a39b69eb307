//! A week apart, against the real server: two devices of one person, a thousand edits, every way in which conflicts are
//! decided, and the same in the end. The finer points are told in the client's own stories.

use selkie_client::{
    ClientBuilder, CollectionShape, CustomMerge, Decision, Document, Merge, RecordId, Strategy, Value, Vault,
};
use selkie_e2e::device::Device;
use selkie_e2e::on_both_backends;
use selkie_e2e::round::{journal, step};
use selkie_e2e::server::TestServer;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::Duration;
use yrs::{GetString as _, Text as _, Transact as _};

const ANA: &str = "ana@example.org";
const PASSWORD: &str = "seven silver swans sail";
const COLLECTIONS: [&str; 7] = ["mine", "theirs", "last", "fields", "texts", "own rule", "asked"];
const RECORDS: usize = 5;
const EDITS_A_DAY: usize = 75;
const DAY: Duration = Duration::from_secs(24 * 3_600);

fn app(client: ClientBuilder) -> ClientBuilder {
    let longer = CustomMerge::new(|_, mine, theirs| {
        let title = |side: &selkie_client::Written| {
            side.fields.as_ref().and_then(|fields| fields.get("title")?.as_text().map(str::to_owned))
        };
        if title(mine) > title(theirs) { Decision::Mine } else { Decision::Theirs }
    });
    let strategies = [
        Strategy::LocalWins,
        Strategy::RemoteWins,
        Strategy::LastWriterWins,
        Strategy::FieldMerge,
        Strategy::TextMerge,
        Strategy::Custom(longer),
        Strategy::AskUser,
    ];
    let client = client.collection(CollectionShape::new("papers").field("text", Merge::Document));
    COLLECTIONS.into_iter().zip(strategies).fold(client, |client, (name, strategy)| {
        client.collection(CollectionShape::new(name).conflicts(strategy).field("likes", Merge::Counter))
    })
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Note {
    title: String,
    likes: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Paper {
    text: Document,
}

impl Paper {
    fn type_in(&mut self, words: &str) {
        let editor = self.text.open().unwrap();
        editor.get_or_insert_text("text").insert(&mut editor.transact_mut(), 0, words);
        self.text.absorb(&editor).unwrap();
    }

    fn says(&self) -> String {
        let shown = self.text.open().unwrap();
        let text = shown.get_or_insert_text("text");
        text.get_string(&shown.transact())
    }
}

/// What everything says, and what it has said.
async fn everything(vault: &Vault, records: &[(usize, RecordId)]) -> (Vec<Option<Note>>, BTreeSet<(usize, String)>) {
    let (mut now, mut ever) = (Vec::new(), BTreeSet::new());
    for (collection, id) in records {
        let notes = vault.collection::<Note>(COLLECTIONS[*collection]);
        now.push(notes.get(*id).await.unwrap());
        let history = notes.history(*id).await.unwrap();
        ever.extend(history.into_iter().filter_map(|one| Some((*collection, one.value?.title))));
    }
    (now, ever)
}

on_both_backends! {
    async fn two_devices_that_were_apart_for_a_week_come_together_and_nothing_is_lost(backend: Backend) {
        let server = TestServer::start(backend).await;
        let devices: [Device; 2] = ["laptop", "phone"].map(|name| server.device(name).with_app(app));
        let (person, laptop) = devices[0].makes_an_account(ANA, PASSWORD).await;
        let vault = laptop.create_vault("Journal", "org.example.notes").await.unwrap();
        let mut records = Vec::new();
        for (collection, name) in COLLECTIONS.iter().enumerate() {
            let ids = vault.collection::<Note>(name).put_all(&vec![Note::default(); RECORDS]).await.unwrap();
            records.extend(ids.into_iter().map(|id| (collection, id)));
        }
        let paper = vault.collection::<Paper>("papers").put(&Paper::default()).await.unwrap();
        step(&laptop).await;
        let phone = devices[1].signs_in(&person).await.unwrap().account;
        step(&phone).await;
        step(&laptop).await;

        let mut written = BTreeSet::new();
        let mut touched = [BTreeSet::new(), BTreeSet::new()];
        for day in 0..7_usize {
            for edit in 0..EDITS_A_DAY {
                for (which, account) in [&laptop, &phone].into_iter().enumerate() {
                    devices.iter().for_each(|device| device.clock().advance(Duration::from_millis(1)));
                    // Every record meets both of them, in no order in particular.
                    let (collection, id) = records[(day * 31 + edit * (which * 4 + 3)) % records.len()];
                    let title = format!("{}-{day}-{edit}", ["laptop", "phone"][which]);
                    let said = title.clone();
                    let notes = journal(account).await.collection::<Note>(COLLECTIONS[collection]);
                    let edit = move |note: &mut Note| (note.title, note.likes) = (said.clone(), note.likes + 1);
                    assert!(notes.update(id, edit).await.unwrap());
                    written.insert((collection, title));
                    touched[which].insert(id);
                }
            }
            for (account, words) in [(&laptop, "[laptop]"), (&phone, "[phone]")] {
                let papers = journal(account).await.collection::<Paper>("papers");
                papers.update(paper, move |paper| paper.type_in(words)).await.unwrap();
            }
            server.clock().advance(DAY);
            devices.iter().for_each(|device| device.clock().advance(DAY));
        }
        assert!(written.len() > 1_000);
        for account in [&laptop, &phone, &laptop, &phone] {
            step(account).await;
        }

        let (here, there) = (journal(&laptop).await, journal(&phone).await);
        assert_eq!(here.digest().await.unwrap(), there.digest().await.unwrap());
        let (now, ever) = everything(&here, &records).await;
        assert_eq!((now.clone(), ever.clone()), everything(&there, &records).await);
        let lost: Vec<_> = written.difference(&ever).collect();
        assert!(lost.is_empty(), "{} of {} edits are lost: {lost:?}", lost.len(), written.len());
        let edits_of = |collection: usize| written.iter().filter(|(of, _)| *of == collection).count() as i64;
        for (collection, name) in COLLECTIONS.iter().enumerate().filter(|(_, name)| ["fields", "texts"].contains(name)) {
            let likes = records.iter().zip(&now).filter(|((of, _), _)| *of == collection);
            let likes: i64 = likes.map(|(_, note)| note.as_ref().unwrap().likes).sum();
            assert_eq!(likes, edits_of(collection), "{name}: both have counted");
        }
        let says = here.collection::<Paper>("papers").get(paper).await.unwrap().unwrap().says();
        assert_eq!((says.matches("[laptop]").count(), says.matches("[phone]").count()), (7, 7), "{says}");

        // Whatever both have touched is on the list of the one who met it, and a person is asked once for each.
        let conflicts = there.conflicts().await.unwrap();
        let listed: BTreeSet<RecordId> = conflicts.iter().map(|conflict| conflict.record).collect();
        let both: BTreeSet<RecordId> = touched[0].intersection(&touched[1]).copied().collect();
        assert!(both.len() > 20 && both.is_subset(&listed), "{} of {}", listed.len(), both.len());
        let asked = there.collection::<Note>("asked");
        let undecided = asked.undecided().await.unwrap();
        let of_asked = records.iter().filter(|(collection, id)| COLLECTIONS[*collection] == "asked" && both.contains(id));
        assert_eq!(undecided.len(), of_asked.count());
        for one in &undecided {
            asked.decide(one, one.mine.as_ref()).await.unwrap();
        }
        step(&phone).await;
        step(&laptop).await;
        assert_eq!(here.digest().await.unwrap(), there.digest().await.unwrap());
        assert_eq!(Value::from(asked.undecided().await.unwrap().len() as i64), Value::from(0));
    }
}
