//! Checkpoints: true ones are taken where they stand, false ones are refused, and a new device begins with one.

use super::cast::{Cast, Device, Vault, delta, payload, record, rotate, whole};
use selkie_protocol::id::{ChangeId, RecordId, UserId};
use selkie_protocol::log::{
    Arriving, Beside, Body, Bootstrap, Change, Checkpoint, Denied, DeviceHead, Entry, Head, Header, Kind, Leaf,
    PageItem, Pages, Refusal, Role, Root, Trail, Trust, VaultLog, WINDOW, What, write_note,
};
use std::collections::BTreeMap;

/// Ana, Bob and Carol have written a few records, some whole, some as differences.
struct Story {
    cast: Cast,
    ana: Device,
    bob: Device,
    carol: Device,
    vault: Vault,
}

fn story() -> Story {
    let mut cast = Cast::default();
    let [ana, bob, carol] = [1, 2, 3].map(|number| cast.person(number));
    let mut vault = Vault::create(&cast, &ana);
    vault.does(&cast, &ana, &cast.add(bob.user, Role::Editor));
    vault.does(&cast, &ana, &cast.add(carol.user, Role::Editor));
    for number in 0..20 {
        vault.writes(&cast, &ana, record(number), 1);
    }
    vault.does(&cast, &ana, &rotate(&vault.log, &[]));
    let bytes = bob.data(&vault.log, &[delta(record(50), &[], &payload(1))]);
    vault.takes(&cast, bytes);
    for number in 0..5 {
        vault.writes(&cast, &bob, record(number), 2);
        let heads = vault.heads(record(number));
        let late = carol.data(&vault.log, &[delta(record(number), &heads, &payload(3))]);
        let bytes = bob.data(&vault.log, &[delta(record(number), &heads, &payload(4))]);
        vault.takes(&cast, bytes);
        vault.takes(&cast, late);
    }
    Story { cast, ana, bob, carol, vault }
}

impl Story {
    /// Offers a checkpoint with some part of it replaced.
    #[track_caller]
    fn refuses(&self, what: &str, bend: impl Fn(&mut Root, &mut Vec<DeviceHead>)) {
        let log = &self.vault.log;
        let (mut root, mut devices) = (log.live().root_without(&[]), log.core().device_heads().collect());
        bend(&mut root, &mut devices);
        let body = Checkpoint::write(log.head(), &root, None, devices).unwrap();
        let bytes = self.bob.sign(&self.bob.header(log), Kind::Checkpoint, &body);
        match self.vault.clone().push(&self.cast, bytes) {
            Err(Refusal::FalseCheckpoint(_)) => {}
            other => panic!("{what}: {other:?}"),
        }
    }

    fn leaves(&self) -> Vec<Leaf> {
        self.vault.log.live().leaves().collect()
    }

    fn served(&self) -> Served {
        Served::last(&self.cast, &self.vault).unwrap()
    }

    fn bootstraps(&self, me: &Device, served: &Served, evidence: &[Entry<'_>]) -> Result<(VaultLog, Trust), Refusal> {
        served.bootstraps(&self.cast, &self.vault, &me.user, evidence)
    }

    fn replay_controls(&self, until: usize) -> Bootstrap {
        replay_controls(&self.cast, &self.vault, until)
    }
}

fn replay_controls(cast: &Cast, vault: &Vault, until: usize) -> Bootstrap {
    let create = Entry::parse(&vault.entries[0]).unwrap();
    let (mut bootstrap, _) = Bootstrap::create(&create, &cast.logs).unwrap();
    for bytes in &vault.entries[1..until] {
        let entry = Entry::parse(bytes).unwrap();
        if let Body::Control(_) = entry.body {
            bootstrap.control(&entry, &cast.logs).unwrap();
        }
    }
    bootstrap
}

/// What a server hands to a new device for a checkpoint.
#[derive(Clone)]
pub(crate) struct Served {
    at: usize,
    before: Head,
    entries: Vec<[u8; 32]>,
    page_hashes: Vec<[u8; 32]>,
    items: Vec<Vec<u8>>,
}

impl Served {
    /// For the last checkpoint in the log, if there is one.
    pub(crate) fn last(cast: &Cast, vault: &Vault) -> Option<Served> {
        let is_checkpoint = |bytes: &Vec<u8>| matches!(Entry::parse(bytes).unwrap().body, Body::Checkpoint(_));
        let at = vault.entries.iter().rposition(is_checkpoint)?;
        let (before, name) = (at.saturating_sub(WINDOW as usize), vault.log.core().vault());
        let hash = |bytes: &Vec<u8>| Entry::parse(bytes).unwrap().hash();
        let hashes: Vec<[u8; 32]> = vault.entries[..at].iter().map(hash).collect();
        let mut h = name.0;
        for (n, hash) in hashes[..before].iter().enumerate() {
            h = selkie_protocol::log::chain(&h, n as u64 + 1, hash);
        }
        let items = items(cast, &vault.entries[..at]);
        let mut pages = Pages::default();
        items.iter().for_each(|(item, _)| pages.push(&PageItem::parse(item).unwrap().leaf(&name)));
        let page_hashes = pages.finish().0.as_chunks().0.to_vec();
        let items = items.into_iter().map(|(item, _)| item).collect();
        Some(Served {
            at,
            before: Head { n: before as u64, h },
            entries: hashes[before..].to_vec(),
            page_hashes,
            items,
        })
    }

    /// A new device of this person goes all the way.
    pub(crate) fn bootstraps(
        &self,
        cast: &Cast,
        vault: &Vault,
        me: &UserId,
        evidence: &[Entry<'_>],
    ) -> Result<(VaultLog, Trust), Refusal> {
        let checkpoint = Entry::parse(&vault.entries[self.at]).unwrap();
        let bootstrap = replay_controls(cast, vault, self.at);
        let (before, entries) = (self.before, &self.entries);
        let mut arriving = bootstrap.checkpoint(&checkpoint, me, evidence, before, entries, &cast.logs)?;
        let trust = arriving.trust();
        self.deliver(&mut arriving)?;
        let mut log = arriving.finish()?;
        for bytes in &vault.entries[self.at..] {
            log.apply(&Entry::parse(bytes).unwrap(), Beside::Nothing, &cast.logs)?;
        }
        Ok((log, trust))
    }

    fn deliver(&self, arriving: &mut Arriving) -> Result<(), Refusal> {
        arriving.page_hashes(&self.page_hashes)?;
        for page in self.items.chunks(1024) {
            let items: Vec<PageItem<'_>> = page.iter().map(|item| PageItem::parse(item).unwrap()).collect();
            arriving.page(&items)?;
        }
        Ok(())
    }
}

/// Every live change after these entries, as pages carry it, in order.
fn items(cast: &Cast, entries: &[Vec<u8>]) -> Vec<(Vec<u8>, Leaf)> {
    let (mut log, _) = VaultLog::create(&Entry::parse(&entries[0]).unwrap(), &cast.logs).unwrap();
    let mut written: BTreeMap<ChangeId, Vec<u8>> = BTreeMap::new();
    let vault = log.core().vault();
    for bytes in &entries[1..] {
        let entry = Entry::parse(bytes).unwrap();
        log.apply(&entry, Beside::Nothing, &cast.logs).unwrap();
        let Body::Data(data) = &entry.body else { continue };
        for change in data.changes() {
            let Header { user, device, dev_seq, epoch, .. } = entry.header;
            let item = PageItem { user, device, dev_seq, epoch, head: false, change };
            written.insert(change.id(&vault, &device, dev_seq), item.to_bytes());
        }
    }
    let of = |leaf: Leaf| {
        let mut bytes = written[&leaf.change].clone();
        bytes[62] = u8::from(leaf.head);
        (bytes, leaf)
    };
    log.live().leaves().map(of).collect()
}

#[test]
fn a_true_checkpoint_is_taken() {
    let mut story = story();
    let bytes = story.bob.checkpoint(&story.vault.log);
    let effects = story.vault.takes(&story.cast, bytes);
    assert_eq!(effects.what, What::Checkpointed { verified: true, forgotten: Vec::new() });
    assert_eq!(story.vault.log.core().checkpoints()[0].n, effects.head.n);
}

#[test]
fn mal_055_a_checkpoint_that_omits_adds_or_alters_is_refused() {
    let story = story();
    let leaves = story.leaves();
    let root = |leaves: Vec<Leaf>| leaves.into_iter().collect::<Root>();
    for at in 0..leaves.len() {
        let mut without = leaves.clone();
        without.remove(at);
        story.refuses("omitted", |found, _| *found = root(without.clone()));
        for bend in [
            (|leaf: &mut Leaf| leaf.record.0[0] ^= 1) as fn(&mut Leaf),
            |leaf| leaf.change.0[0] ^= 1,
            |leaf| leaf.payload[0] ^= 1,
            |leaf| leaf.head = !leaf.head,
        ] {
            let mut altered = leaves.clone();
            bend(&mut altered[at]);
            story.refuses("altered", |found, _| *found = root(altered.clone()));
        }
    }
    let mut added = leaves.clone();
    added.push(Leaf { record: record(200), change: ChangeId([1; 32]), payload: [2; 32], head: true });
    story.refuses("added", |found, _| *found = root(added.clone()));
    story.refuses("another number", |found, _| found.live += 1);
    story.refuses("a device missing", |_, devices| devices.truncate(2));
    story.refuses("a device ahead", |_, devices| devices[0].dev_seq += 1);
    story.refuses("another last entry", |_, devices| devices[1].entry[0] ^= 1);
    story.refuses("a device that never wrote", |_, devices| {
        devices.push(DeviceHead { device: selkie_protocol::id::DeviceId([9; 16]), dev_seq: 1, entry: [1; 32] });
    });
}

#[test]
fn mal_055_a_checkpoint_of_earlier_or_of_another_log_is_refused() {
    let mut story = story();
    let old = story.bob.checkpoint(&story.vault.log);
    let (n, before) = (story.vault.log.head().n, story.vault.log.head());
    story.vault.writes(&story.cast, &story.ana, record(1), 9);
    story.vault.refuses(&story.cast, &old, Refusal::BadSeen { seen: n, n: n + 2 });
    let root = story.vault.log.live().root_without(&[]);
    let other = Head { h: [1; 32], ..story.vault.log.head() };
    for at in [other, before] {
        let body = Checkpoint::write(at, &root, None, story.vault.log.core().device_heads()).unwrap();
        let header = Header { seen: at, ..story.bob.header(&story.vault.log) };
        let bytes = story.bob.sign(&header, Kind::Checkpoint, &body);
        let expected = if at == other { Refusal::Fork { n: n + 1 } } else { Refusal::BadSeen { seen: n, n: n + 2 } };
        story.vault.refuses(&story.cast, &bytes, expected);
    }
}

#[test]
fn a_viewer_writes_no_checkpoint() {
    let mut story = story();
    let dora = story.cast.person(4);
    let add = story.cast.add(dora.user, Role::Viewer);
    story.vault.does(&story.cast, &story.ana, &add);
    let bytes = dora.checkpoint(&story.vault.log);
    story.vault.refuses(&story.cast, &bytes, Refusal::NotAllowed(Denied::Role));
}

#[test]
fn deleted_records_can_be_forgotten_for_good() {
    let mut story = story();
    let gone = [record(10), record(11)];
    let (body, note) = story.vault.log.checkpoint(&gone).unwrap();
    let note = note.unwrap();
    let bytes = story.bob.sign(&story.bob.header(&story.vault.log), Kind::Checkpoint, &body);
    let entry = Entry::parse(&bytes).unwrap();
    // Whoever can read the records looks, before the step is taken, whether each was deleted.
    let step = story.vault.log.check(&entry, Beside::Note(&note), &story.cast.logs).unwrap();
    assert_eq!(step.effects().what, What::Checkpointed { verified: true, forgotten: gone.to_vec() });
    let live = story.vault.log.live().count();
    story.vault.log.commit(step).unwrap();
    assert_eq!(story.vault.log.live().count(), live - 2);
    assert!(story.vault.log.live().record(&gone[0]).is_none());
}

#[test]
fn mal_056_what_is_left_out_is_named_and_must_be_one_whole_write() {
    let story = story();
    let log = &story.vault.log;
    let offer = |forgotten: &[RecordId], beside: &dyn Fn(&[u8]) -> Option<Vec<u8>>| {
        let (note, hash) = write_note(forgotten);
        let root = log.live().root_without(forgotten);
        let body = Checkpoint::write(log.head(), &root, Some(hash), log.core().device_heads()).unwrap();
        let bytes = story.bob.sign(&story.bob.header(log), Kind::Checkpoint, &body);
        let beside = beside(&note);
        let beside = beside.as_deref().map_or(Beside::Nothing, Beside::Note);
        log.check(&Entry::parse(&bytes).unwrap(), beside, &story.cast.logs).map(|_| ())
    };
    let given = |note: &[u8]| Some(note.to_vec());
    assert_eq!(offer(&[record(10)], &given), Ok(()));
    assert!(matches!(offer(&[record(10)], &|_| None), Err(Refusal::FalseCheckpoint(_))), "without its note");
    assert!(offer(&[record(10)], &|note| Some([note, &[0; 16]].concat())).is_err(), "with another note");
    assert!(offer(&[record(10)], &|_| Some(vec![11; 16])).is_err(), "naming another record");
    assert!(offer(&[record(10), record(11)], &|note| Some([&note[16..], &note[..16]].concat())).is_err(), "unsorted");
    assert!(matches!(offer(&[record(0)], &given), Err(Refusal::FalseCheckpoint(_))), "a record with differences");
    assert!(matches!(offer(&[record(50)], &given), Err(Refusal::FalseCheckpoint(_))), "a difference alone");
    assert!(matches!(offer(&[record(99)], &given), Err(Refusal::FalseCheckpoint(_))), "a record that is not there");
    // Left out without a word is omitted.
    story.refuses("forgotten without a note", |root, _| *root = log.live().root_without(&[record(10)]));
}

#[test]
fn a_new_device_stands_where_everybody_stands() {
    let mut story = story();
    let bytes = story.ana.checkpoint(&story.vault.log);
    story.vault.takes(&story.cast, bytes);
    story.vault.writes(&story.cast, &story.bob, record(3), 8);
    story.vault.writes(&story.cast, &story.carol, record(30), 8);
    let served = story.served();
    let (log, trust) = story.bootstraps(&story.ana, &served, &[]).unwrap();
    assert_eq!(trust, Trust::Own);
    assert_eq!(log.head(), story.vault.log.head());
    assert!(log.live().leaves().eq(story.vault.log.live().leaves()));
    assert_eq!(log.core().governance(), story.vault.log.core().governance());
    assert!(log.core().device_heads().eq(story.vault.log.core().device_heads()));
    // And goes on with everybody.
    let mut log = log;
    let bytes = story.carol.heartbeat(&log);
    log.apply(&Entry::parse(&bytes).unwrap(), Beside::Nothing, &story.cast.logs).unwrap();
    story.vault.takes(&story.cast, bytes);
    assert_eq!(log.head(), story.vault.log.head());
}

#[test]
fn a_new_device_checks_what_late_authors_had_seen() {
    let mut story = story();
    let late = story.carol.heartbeat(&story.vault.log);
    let mut lied = Entry::parse(&late).unwrap().header;
    lied.seen.h[0] ^= 1;
    let lied = story.carol.sign(&lied, Kind::Heartbeat, &[]);
    story.vault.writes(&story.cast, &story.ana, record(1), 7);
    let bytes = story.ana.checkpoint(&story.vault.log);
    story.vault.takes(&story.cast, bytes);
    let seen = Entry::parse(&late).unwrap().header.seen.n;
    let served = story.served();
    let (log, _) = story.bootstraps(&story.ana, &served, &[]).unwrap();
    let apply = |bytes: &[u8]| log.clone().apply(&Entry::parse(bytes).unwrap(), Beside::Nothing, &story.cast.logs);
    assert!(apply(&late).is_ok(), "made before the checkpoint, and true");
    assert_eq!(apply(&lied).unwrap_err(), Refusal::Fork { n: seen });
}

#[test]
fn mal_055_a_checkpoint_is_as_good_as_whose_word_it_stands_on() {
    let mut story = story();
    let bytes = story.bob.checkpoint(&story.vault.log);
    let at = story.vault.takes(&story.cast, bytes).head.n;
    let served = story.served();
    let trust = |story: &Story, me: &Device, evidence: &[Entry<'_>]| {
        story.bootstraps(me, &served, evidence).map(|(_, trust)| trust)
    };
    assert_eq!(trust(&story, &story.bob, &[]), Ok(Trust::Own));
    assert_eq!(trust(&story, &story.ana, &[]), Ok(Trust::Unconfirmed));
    let confirm = |device: &Device, ok: u64| {
        let header = Header { checkpoint_ok: ok, ..device.header(&story.vault.log) };
        device.sign(&header, Kind::Heartbeat, &[])
    };
    let [by_author, by_carol, of_another] =
        [confirm(&story.bob, at), confirm(&story.carol, at), confirm(&story.carol, 1)];
    let parse = |bytes| Entry::parse(bytes).unwrap();
    assert_eq!(trust(&story, &story.ana, &[parse(&by_author)]), Ok(Trust::Unconfirmed), "one's own word");
    assert_eq!(trust(&story, &story.ana, &[parse(&of_another)]), Ok(Trust::Unconfirmed), "of something else");
    let evidence = [parse(&by_author), parse(&by_carol)];
    assert_eq!(trust(&story, &story.ana, &evidence), Ok(Trust::Confirmed(story.carol.user)));
    let forged = story.bob.sign(&parse(&by_carol).header, Kind::Heartbeat, &[]);
    assert_eq!(trust(&story, &story.ana, &[parse(&forged)]), Err(Refusal::Forged));
    let elsewhere = Vault::create_with(&story.cast, &story.ana, 9);
    let foreign = story.ana.heartbeat(&elsewhere.log);
    assert_eq!(trust(&story, &story.ana, &[parse(&foreign)]), Err(Refusal::OtherVault));
}

#[test]
fn mal_055_pages_that_are_not_the_checkpoints_are_refused_as_they_come() {
    let mut story = story();
    let bytes = story.ana.checkpoint(&story.vault.log);
    story.vault.takes(&story.cast, bytes);
    let honest = story.served();
    let refused = |bend: &dyn Fn(&mut Served)| {
        let mut served = honest.clone();
        bend(&mut served);
        story.bootstraps(&story.ana, &served, &[]).map(|_| ()).unwrap_err()
    };
    assert!(story.bootstraps(&story.ana, &honest, &[]).is_ok());
    for at in 0..honest.items.len() {
        let is_false = |refusal| assert!(matches!(refusal, Refusal::FalseCheckpoint(_)), "{at}: {refusal:?}");
        is_false(refused(&|served| drop(served.items.remove(at))));
        is_false(refused(&|served| served.items[at][62] ^= 1));
        is_false(refused(&|served| served.items[at][40] ^= 1));
        is_false(refused(&|served| {
            let last = served.items[at].len() - 1;
            served.items[at][last] ^= 1;
        }));
        is_false(refused(&|served| served.items.insert(at, served.items[at].clone())));
    }
    assert!(matches!(refused(&|served| served.items.swap(0, 1)), Refusal::FalseCheckpoint(_)));
    assert!(matches!(refused(&|served| served.page_hashes[0][0] ^= 1), Refusal::FalseCheckpoint(_)));
    assert!(matches!(refused(&|served| served.page_hashes.clear()), Refusal::FalseCheckpoint(_)));
    assert!(matches!(refused(&|served| served.entries[3][0] ^= 1), Refusal::Fork { .. }));
    assert!(matches!(refused(&|served| served.before.h[0] ^= 1), Refusal::Fork { .. }));
    assert!(matches!(refused(&|served| served.entries.truncate(5)), Refusal::Malformed(_)));
    // A trail that is true but too short would make the newcomer refuse what everybody else takes.
    let fifth = Head { n: 5, h: story.vault.log.trail().at(5).unwrap() };
    let short = refused(&|served| (served.before, served.entries) = (fifth, served.entries.split_off(5)));
    assert!(matches!(short, Refusal::Malformed(_)), "{short:?}");
}

#[test]
fn a_new_device_needs_every_control_entry_and_no_later_one() {
    let mut story = story();
    let bytes = story.ana.checkpoint(&story.vault.log);
    story.vault.takes(&story.cast, bytes);
    story.vault.does(&story.cast, &story.ana, &rotate(&story.vault.log, &[&story.bob]));
    let served = story.served();
    let begin = |bootstrap: Bootstrap| {
        let checkpoint = Entry::parse(&story.vault.entries[served.at]).unwrap();
        let (before, entries) = (served.before, &served.entries);
        bootstrap.checkpoint(&checkpoint, &story.ana.user, &[], before, entries, &story.cast.logs).map(|_| ())
    };
    assert_eq!(begin(story.replay_controls(served.at)), Ok(()));
    assert_eq!(begin(story.replay_controls(3)), Err(Refusal::StaleControl), "the rotation is held back");
    assert_eq!(begin(story.replay_controls(story.vault.entries.len())), Err(Refusal::StaleControl));
    let mut bootstrap = story.replay_controls(1);
    let third = Entry::parse(&story.vault.entries[2]).unwrap();
    assert!(bootstrap.control(&third, &story.cast.logs).is_err(), "one left out between");
    let data = Entry::parse(&story.vault.entries[5]).unwrap();
    assert!(matches!(bootstrap.control(&data, &story.cast.logs), Err(Refusal::Malformed(_))));
}

#[test]
fn control_entries_on_their_own_still_count_their_devices_entries() {
    let story = story();
    let log = &story.vault.log;
    let offer = |bend: &dyn Fn(&mut Header)| {
        let mut header = story.ana.header(log);
        bend(&mut header);
        let bytes = story.ana.sign(&header, Kind::Control, &rotate(log, &[&story.carol]).to_bytes());
        let mut bootstrap = story.replay_controls(story.vault.entries.len());
        bootstrap.control(&Entry::parse(&bytes).unwrap(), &story.cast.logs)
    };
    // Ana's last control entry was her last entry, her twenty-fourth.
    assert_eq!(offer(&|_| ()), Ok(()));
    assert_eq!(offer(&|header| header.dev_prev[0] ^= 1), Err(Refusal::DevicePrevious));
    let again = Refusal::DeviceSequence { expected: 25, found: 24 };
    assert_eq!(offer(&|header| header.dev_seq = 24), Err(again));
    assert_eq!(offer(&|header| header.dev_seq = 30), Ok(()), "what lies between is not known here");
}

#[test]
fn mal_055_pages_out_of_order_are_refused_even_if_their_author_signed_for_them() {
    let story = story();
    let log = &story.vault.log;
    let mut items = items(&story.cast, &story.vault.entries);
    items.swap(0, 1);
    let mut pages = Pages::default();
    items.iter().for_each(|(_, leaf)| pages.push(leaf));
    let (hashes, root) = pages.finish();
    let body = Checkpoint::write(log.head(), &root, None, log.core().device_heads()).unwrap();
    let bytes = story.bob.sign(&story.bob.header(log), Kind::Checkpoint, &body);
    let bootstrap = story.replay_controls(story.vault.entries.len());
    let before = Head { n: 0, h: log.core().vault().0 };
    let entries: Vec<[u8; 32]> = story.vault.entries.iter().map(|bytes| Entry::parse(bytes).unwrap().hash()).collect();
    let (entry, me) = (Entry::parse(&bytes).unwrap(), &story.ana.user);
    let mut arriving = bootstrap.checkpoint(&entry, me, &[], before, &entries, &story.cast.logs).unwrap();
    arriving.page_hashes(hashes.as_chunks().0).unwrap();
    let items: Vec<PageItem<'_>> = items.iter().map(|(item, _)| PageItem::parse(item).unwrap()).collect();
    let refused = Refusal::FalseCheckpoint("live changes are not ascending");
    assert_eq!(arriving.page(&items), Err(refused));
}

#[test]
fn mal_055_a_checkpoint_of_the_end_of_all_numbers_is_refused_and_nobody_falls_over() {
    let story = story();
    let log = &story.vault.log;
    let root = log.live().root_without(&[]);
    // The highest numbers there are, signed for by an editor who colludes with the server.
    let body = |at: Head| Checkpoint::write(at, &root, None, log.core().device_heads());
    for n in [0, u64::MAX] {
        assert!(body(Head { n, h: [1; 32] }).is_err(), "position {n}");
    }
    // One lower than that is a position like any other. The trail is made to fit.
    let before = Head { n: u64::MAX - 1 - WINDOW, h: [5; 32] };
    let hashes = vec![[6; 32]; WINDOW as usize];
    let at = Trail::along(before, hashes.iter().copied()).head();
    assert_eq!(at.n, u64::MAX - 1);
    // And of Carol it says that she has used the last number.
    let mut devices: Vec<DeviceHead> = log.core().device_heads().collect();
    devices.iter_mut().find(|head| head.device == story.carol.id()).unwrap().dev_seq = u64::MAX;
    let body = Checkpoint::write(at, &root, None, devices).unwrap();
    let bytes = story.bob.sign(&Header { seen: at, ..story.bob.header(log) }, Kind::Checkpoint, &body);
    let entry = Entry::parse(&bytes).unwrap();
    let confirmed = Header { checkpoint_ok: u64::MAX, ..story.carol.header(log) };
    let evidence = story.carol.sign(&confirmed, Kind::Heartbeat, &[]);
    let evidence = [Entry::parse(&evidence).unwrap()];
    let bootstrap = story.replay_controls(story.vault.entries.len());
    let (me, logs) = (&story.ana.user, &story.cast.logs);
    let mut arriving = bootstrap.checkpoint(&entry, me, &evidence, before, &hashes, logs).unwrap();
    let items = items(&story.cast, &story.vault.entries);
    let items: Vec<PageItem<'_>> = items.iter().map(|(item, _)| PageItem::parse(item).unwrap()).collect();
    let mut pages = Pages::default();
    items.iter().for_each(|item| pages.push(&item.leaf(&log.core().vault())));
    arriving.page_hashes(pages.finish().0.as_chunks().0).unwrap();
    arriving.page(&items).unwrap();
    let mut newcomer = arriving.finish().unwrap();
    let next = story.carol.header(&newcomer);
    assert_eq!(next.dev_seq, u64::MAX);
    let hers = story.carol.sign(&next, Kind::Heartbeat, &[]);
    let refused = newcomer.apply(&Entry::parse(&hers).unwrap(), Beside::Nothing, logs).unwrap_err();
    assert_eq!(refused, Refusal::DeviceSequence { expected: u64::MAX, found: u64::MAX });
    // One entry fits, and after it none.
    let last = story.ana.heartbeat(&newcomer);
    newcomer.apply(&Entry::parse(&last).unwrap(), Beside::Nothing, logs).unwrap();
    let beyond = story.ana.heartbeat(&newcomer);
    let beyond = Entry::parse(&beyond).unwrap();
    assert_eq!(newcomer.apply(&beyond, Beside::Nothing, logs).unwrap_err(), Refusal::TooMany("entries"));
    assert_eq!(newcomer.core().clone().follow(&beyond), Err(Refusal::TooMany("entries")));
}

#[test]
fn mal_055_a_viewers_checkpoint_is_no_way_in() {
    let mut story = story();
    let dora = story.cast.person(4);
    let add = story.cast.add(dora.user, Role::Viewer);
    story.vault.does(&story.cast, &story.ana, &add);
    let bytes = dora.checkpoint(&story.vault.log);
    let bootstrap = story.replay_controls(story.vault.entries.len());
    let before = Head { n: 0, h: story.vault.log.core().vault().0 };
    let entry = Entry::parse(&bytes).unwrap();
    let refused = bootstrap.checkpoint(&entry, &dora.user, &[], before, &[], &story.cast.logs);
    assert_eq!(refused.map(|_| ()), Err(Refusal::NotAllowed(Denied::Role)));
}

#[test]
fn a_checkpoint_whose_devices_contradict_their_control_entries_is_refused() {
    let story = story();
    let log = &story.vault.log;
    let mut devices: Vec<DeviceHead> = log.core().device_heads().collect();
    let ana = devices.iter_mut().find(|head| head.device == story.ana.id()).unwrap();
    ana.dev_seq = 2;
    let root = log.live().root_without(&[]);
    let body = Checkpoint::write(log.head(), &root, None, devices).unwrap();
    let bytes = story.bob.sign(&story.bob.header(log), Kind::Checkpoint, &body);
    let bootstrap = story.replay_controls(story.vault.entries.len());
    let head = Head { n: 0, h: log.core().vault().0 };
    let entry = Entry::parse(&bytes).unwrap();
    let refused = bootstrap.checkpoint(&entry, &story.ana.user, &[], head, &[], &story.cast.logs);
    assert_eq!(refused.map(|_| ()), Err(Refusal::FalseCheckpoint("the devices' last entries are others")));
}

#[test]
fn more_pages_than_one() {
    let mut cast = Cast::default();
    let ana = cast.person(1);
    let mut vault = Vault::create(&cast, &ana);
    let body = payload(1);
    for batch in 0..11u16 {
        let records: Vec<RecordId> = (0..200u16)
            .map(|at| {
                let digest = selkie_protocol::hash::sha256(&(batch * 200 + at).to_be_bytes());
                RecordId(digest[..16].try_into().unwrap())
            })
            .collect();
        let changes: Vec<_> = records.iter().map(|record| whole(*record, &[], &body)).collect();
        let bytes = ana.data(&vault.log, &changes);
        vault.takes(&cast, bytes);
    }
    let bytes = ana.checkpoint(&vault.log);
    vault.takes(&cast, bytes);
    let (bob, carol) = (cast.person(2), cast.person(3));
    let story = Story { cast, ana, bob, carol, vault };
    let served = story.served();
    assert_eq!((served.items.len(), served.page_hashes.len()), (2200, 3));
    let (log, _) = story.bootstraps(&story.ana, &served, &[]).unwrap();
    assert_eq!(log.live().count(), 2200);
    let mut short = served.clone();
    short.items.truncate(2048);
    let refused = story.bootstraps(&story.ana, &short, &[]).map(|_| ());
    assert_eq!(refused, Err(Refusal::FalseCheckpoint("pages are missing")));
}

#[test]
fn a_page_item_reads_back_and_nothing_else_does() {
    let story = story();
    for (bytes, leaf) in items(&story.cast, &story.vault.entries) {
        let item = PageItem::parse(&bytes).unwrap();
        assert_eq!(item.to_bytes(), bytes);
        assert_eq!(item.leaf(&story.vault.log.core().vault()), leaf);
        for length in 0..bytes.len() {
            assert!(PageItem::parse(&bytes[..length]).is_err());
        }
        assert!(PageItem::parse(&[bytes.as_slice(), &[0]].concat()).is_err());
        assert!(Change::parse(&bytes[63..], item.change.index).is_ok());
        let mut neither = bytes.clone();
        neither[62] = 2;
        assert!(PageItem::parse(&neither).is_err());
    }
}
