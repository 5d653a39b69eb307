//! How four people live with twelve devices.
//!
//! Owns what they have, when they are offline, and what they write; remembers all of it, to be held against what the
//! devices say in the end. Everything follows from one seed.

use crate::schedules::Dice;
use selkie_client::testing::{Device, TestServer};
use selkie_client::{ClientBuilder, Collection, CollectionShape, Merge, Outcome, RecordId, Role, Strategy, Vault};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const PEOPLE: [&str; 4] = ["ana", "bob", "cara", "dan"];
const MINUTE: u64 = 60_000;

/// A kind of device: how often it is taken up, how often it turns out to be offline then, and for how many minutes.
struct Kind {
    name: &'static str,
    taken_up: u64,
    offline_in_ten: u64,
    minutes: (u64, u64),
}

const KINDS: [Kind; 3] = [
    // Tunnels, cellars, mountains.
    Kind { name: "phone", taken_up: 6, offline_in_ten: 1, minutes: (10, 180) },
    // Trains.
    Kind { name: "laptop", taken_up: 3, offline_in_ten: 2, minutes: (60, 600) },
    // Holidays.
    Kind { name: "tablet", taken_up: 1, offline_in_ten: 4, minutes: (360, 4_320) },
];

/// Everything they own is one type: what tells the collections apart is how they are merged.
#[derive(Clone, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
pub(super) struct Thing {
    title: String,
    who: String,
    done: bool,
    count: i64,
    tags: Vec<String>,
    text: String,
}

fn app(client: ClientBuilder) -> ClientBuilder {
    let counted = |name: &str| CollectionShape::new(name).field("count", Merge::Counter).field("tags", Merge::Set);
    client
        .collection(counted("tasks").field("text", Merge::Text))
        .collection(counted("food"))
        .collection(counted("vehicles").field("text", Merge::Text))
        .collection(counted("notes").conflicts(Strategy::TextMerge))
        // Money is for people to agree on.
        .collection(counted("expenses").conflicts(Strategy::AskUser))
}

const COLLECTIONS: [&str; 5] = ["tasks", "food", "vehicles", "notes", "expenses"];

struct Used {
    device: Device,
    vault: Vault,
    kind: &'static Kind,
    offline_until: u64,
}

pub(super) struct Household {
    server: TestServer,
    dice: Dice,
    begun: u64,
    used: Vec<Used>,
    /// What there is of each collection, as those who write know it: the newest last.
    things: BTreeMap<&'static str, Vec<RecordId>>,
    /// Words that were written, and where.
    words: Vec<(RecordId, String)>,
    /// What the counts must add up to.
    counts: BTreeMap<RecordId, i64>,
    offline: usize,
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) offline: usize,
    pub(super) met: usize,
    pub(super) asked: usize,
    /// One thing was changed twice, and the older change is only in the history now.
    pub(super) partly: usize,
}

impl Tally {
    /// Somebody is asked, or may want to look at what lost out.
    pub(super) fn needs_a_person(&self) -> usize {
        self.asked + self.partly
    }
}

impl Household {
    pub(super) async fn move_in(seed: u64) -> Household {
        let server = TestServer::for_app(app);
        let mut devices = Vec::new();
        for name in PEOPLE {
            for kind in &KINDS {
                devices.push((server.person(name).device(kind.name).await.unwrap(), kind));
            }
        }
        let home = devices[0].0.account().create_vault("Home", "org.example.household").await.unwrap();
        home.sync().await.unwrap();
        for (device, _) in devices.iter().skip(KINDS.len()).step_by(KINDS.len()) {
            home.add_member(device.account().user_id(), Role::Editor).await.unwrap();
        }
        server.sync_all().await.unwrap();
        let mut used = Vec::new();
        for (device, kind) in devices {
            let vault = device.vault("Home").await.unwrap();
            used.push(Used { device, vault, kind, offline_until: 0 });
        }
        let (things, words, counts) = (BTreeMap::new(), Vec::new(), BTreeMap::new());
        let (dice, begun) = (Dice::new(seed), server.now_ms());
        let mut household = Household { server, dice, begun, used, things, words, counts, offline: 0 };
        for (collection, many) in [("tasks", 40), ("food", 30), ("vehicles", 3), ("notes", 10), ("expenses", 20)] {
            for number in 0..many {
                household.add(0, collection, number).await;
            }
        }
        household.server.sync_all().await.unwrap();
        household
    }

    pub(super) async fn live(&mut self, edits: usize) {
        let mut made = 0;
        while made < edits {
            // About 170 edits a day.
            self.server.later(Duration::from_millis((1 + self.dice.below(70)) * MINUTE));
            let by = self.somebody();
            let online = self.take_up(by).await;
            for _ in 0..(1 + self.dice.below(8)).min((edits - made) as u64) {
                self.edit(by, made).await;
                self.server.later(Duration::from_millis(MINUTE / 2));
                made += 1;
                self.offline += usize::from(!online);
            }
            if online {
                self.used[by].device.sync().await.unwrap();
            }
        }
    }

    fn somebody(&mut self) -> usize {
        let person = self.dice.below(PEOPLE.len() as u64) as usize;
        let mut at = self.dice.below(KINDS.iter().map(|kind| kind.taken_up).sum());
        let kind = KINDS.iter().position(|kind| match at.checked_sub(kind.taken_up) {
            Some(rest) => {
                at = rest;
                false
            }
            None => true,
        });
        person * KINDS.len() + kind.unwrap()
    }

    /// Opens the app. Says whether there is a network; if there is, the app comes into step first.
    async fn take_up(&mut self, by: usize) -> bool {
        let now = self.server.now_ms();
        let used = &mut self.used[by];
        if now < used.offline_until {
            return false;
        }
        if self.dice.below(10) < used.kind.offline_in_ten {
            let (least, most) = used.kind.minutes;
            used.offline_until = now + (least + self.dice.below(most - least)) * MINUTE;
            used.device.cut();
            return false;
        }
        used.device.mend();
        used.device.sync().await.unwrap();
        true
    }

    fn collection(&self, by: usize, name: &str) -> Collection<Thing> {
        self.used[by].vault.collection(name)
    }

    async fn edit(&mut self, by: usize, number: usize) {
        match self.dice.below(100) {
            // Most of what a household writes is new.
            0..20 => self.add(by, "expenses", number).await,
            20..30 => self.add(by, "food", number).await,
            30..40 => self.add(by, "tasks", number).await,
            40..62 => self.count(by, "food").await,
            62..66 => self.count(by, "vehicles").await,
            66..76 => self.change(by, "tasks", |thing, _| thing.done = !thing.done).await,
            76..83 => self.change(by, "tasks", |thing, word| thing.who = word.into()).await,
            83..87 => self.change(by, "tasks", |thing, word| thing.title = word.into()).await,
            87..90 => self.change(by, "vehicles", append).await,
            90..97 => self.change(by, "notes", append).await,
            _ => self.change(by, "expenses", |thing, word| thing.title = word.into()).await,
        }
    }

    async fn add(&mut self, by: usize, collection: &'static str, number: usize) {
        let title = self.word(number);
        let (who, done, tags, text) = (String::new(), false, Vec::new(), "Remember:".to_owned());
        let thing = Thing { title: title.clone(), who, done, count: 0, tags, text };
        let id = self.collection(by, collection).put(&thing).await.unwrap();
        self.things.entry(collection).or_default().push(id);
        self.words.push((id, title));
    }

    /// One of the things of a collection that this device has: of those that matter now, which are the newest few.
    async fn one_of(&mut self, by: usize, name: &'static str) -> (Collection<Thing>, RecordId) {
        let collection = self.collection(by, name);
        let mut newest = 40;
        loop {
            let things = &self.things[name];
            let matters = things.len().min(newest) as u64;
            let id = things[things.len() - 1 - self.dice.below(matters) as usize];
            if collection.get(id).await.unwrap().is_some() {
                return (collection, id);
            }
            // Whoever was away for days knows none of them.
            newest += 10;
        }
    }

    async fn count(&mut self, by: usize, name: &'static str) {
        let (collection, id) = self.one_of(by, name).await;
        let more = self.dice.below(9) as i64 - 3;
        collection.update(id, move |thing| thing.count += more).await.unwrap();
        *self.counts.entry(id).or_default() += more;
    }

    async fn change(&mut self, by: usize, name: &'static str, change: fn(&mut Thing, &str)) {
        let (collection, id) = self.one_of(by, name).await;
        let word = self.word(self.words.len());
        let before = collection.get(id).await.unwrap().unwrap();
        let mut after = before;
        change(&mut after, &word);
        let says_it = [&after.who, &after.title, &after.text].iter().any(|text| text.contains(&word));
        self.words.extend(says_it.then(|| (id, word.clone())));
        collection.update(id, move |thing| change(thing, &word)).await.unwrap();
    }

    /// A word that nobody has written before.
    fn word(&mut self, number: usize) -> String {
        format!("w{number}x{:x}", self.dice.below(1 << 32))
    }

    /// Everybody is online at last.
    pub(super) async fn come_home(&mut self) {
        for used in &self.used {
            used.device.mend();
        }
        self.server.sync_all().await.unwrap();
        self.server.sync_all().await.unwrap();
    }

    pub(super) fn days(&self) -> u64 {
        (self.server.now_ms() - self.begun) / (24 * 60 * MINUTE)
    }

    /// All devices say the same, everything that was written is in the history, and every count is right.
    pub(super) async fn judge(&self) -> Tally {
        let mut tally = Tally { offline: self.offline, ..Tally::default() };
        let (mut digests, mut contents) = (BTreeSet::new(), Vec::new());
        for used in &self.used {
            let status = used.vault.status().await.unwrap();
            assert_eq!((status.pending, status.set_aside.len()), (0, 0), "{:?}: {status:?}", used.device);
            digests.insert(status.digest.to_string());
            let mut said = Vec::new();
            for name in COLLECTIONS {
                let all = used.vault.collection::<Thing>(name).query().all().await.unwrap();
                said.extend(all.into_iter().map(|found| (found.id, found.value)));
            }
            contents.push(said);
            for conflict in used.vault.conflicts().await.unwrap() {
                tally.met += 1;
                match conflict.how {
                    Some(Outcome::Merged) => {}
                    Some(Outcome::Asked) => tally.asked += 1,
                    _ => tally.partly += 1,
                }
            }
        }
        assert_eq!(digests.len(), 1, "{digests:?}");
        assert!(contents.iter().all(|said| *said == contents[0]), "the devices do not say the same");
        let said: BTreeMap<RecordId, &Thing> = contents[0].iter().map(|(id, thing)| (*id, thing)).collect();
        assert_eq!(said.len(), self.things.values().map(Vec::len).sum::<usize>(), "a record is missing");
        for (id, count) in &self.counts {
            assert_eq!(said[id].count, *count, "what was counted on all devices adds up");
        }
        self.nothing_is_lost().await;
        tally
    }

    /// Every word, on a device of somebody who hardly wrote any.
    async fn nothing_is_lost(&self) {
        let reader = &self.used[self.used.len() - 1].vault;
        let mut written: BTreeMap<RecordId, Vec<&str>> = BTreeMap::new();
        for (id, word) in &self.words {
            written.entry(*id).or_default().push(word);
        }
        for (id, words) in written {
            let history = reader.history(id).await.unwrap();
            for word in words {
                let is_in = |data: &[u8]| data.windows(word.len()).any(|part| part == word.as_bytes());
                assert!(history.iter().any(|version| is_in(&version.data)), "{word} is lost");
            }
        }
    }
}

fn append(thing: &mut Thing, word: &str) {
    thing.text.push(' ');
    thing.text.push_str(word);
}
