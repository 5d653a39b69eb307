//! The state written down and read again.

use super::cast::{Cast, Device, Vault, delta, payload, record, rotate, whole};
use proptest::prelude::*;
use selkie_protocol::Face;
use selkie_protocol::id::{InviteId, RecordId};
use selkie_protocol::log::{
    Beside, Body, Control, Core, Entry, Head, Kind, LiveSet, Memory, Policy, Promises, Record, Refusal, Role, Root,
    Snapshot, Trail, VaultLog, WINDOW,
};

/// A log in which everything has happened that a snapshot has a place for.
fn story() -> (Cast, Device, Vault) {
    let (cast, _, bob, vault) = with_both();
    (cast, bob, vault)
}

fn with_both() -> (Cast, Device, Device, Vault) {
    let mut cast = Cast::default();
    let [ana, bob, eve] = [1, 2, 3].map(|number| cast.person(number));
    let mut vault = Vault::create(&cast, &ana);
    vault.does(&cast, &ana, &cast.add(bob.user, Role::Editor));
    vault.does(&cast, &ana, &Control::InviteOpen { invite: InviteId([1; 16]), role: Role::Viewer, expires: 5 });
    let policy = Policy { min_format: 1, flags: Policy::STRICT, recovery: Some(eve.user) };
    vault.does(&cast, &ana, &Control::Policy(policy));
    vault.does(&cast, &ana, &rotate(&vault.log, &[]));
    for number in 0..30 {
        vault.writes(&cast, &bob, record(number), 1);
    }
    for _ in 0..2 {
        let body = payload(2);
        let bytes = bob.data(&vault.log, &[delta(record(1), &[], &body), delta(record(2), &[], &body)]);
        vault.takes(&cast, bytes);
        vault.takes(&cast, ana.checkpoint(&vault.log));
        let header = selkie_protocol::log::Header { checkpoint_ok: vault.log.head().n, ..bob.header(&vault.log) };
        vault.takes(&cast, bob.sign(&header, Kind::Heartbeat, &[]));
    }
    (cast, ana, bob, vault)
}

#[test]
fn who_resumes_stands_where_they_stood() {
    let (cast, bob, mut vault) = story();
    for face in [Face::Cbor, Face::Json] {
        let written = face.encode(&vault.log.snapshot());
        let snapshot: Snapshot = face.decode(&written).unwrap();
        let mut resumed = VaultLog::resume(&snapshot).unwrap();
        assert!(resumed == vault.log);
        let next = bob.heartbeat(&vault.log);
        let effects = resumed.apply(&Entry::parse(&next).unwrap(), Beside::Nothing, &cast.logs).unwrap();
        assert_eq!(effects, vault.clone().takes(&cast, next));
    }
    vault.takes(&cast, bob.heartbeat(&vault.log));
}

#[test]
fn five_checkpoints_are_four_too_old() {
    let (cast, bob, mut vault) = story();
    let first = vault.log.core().checkpoints()[0];
    for _ in 0..3 {
        vault.takes(&cast, bob.checkpoint(&vault.log));
    }
    let known = vault.log.core().checkpoints();
    assert_eq!(known.len(), 4);
    assert!(!known.contains(&first));
    let resumed = VaultLog::resume(&vault.log.snapshot()).unwrap();
    assert!(resumed == vault.log);
    // Confirming what is no longer remembered does no harm and no good.
    let header = selkie_protocol::log::Header { checkpoint_ok: first.n, ..bob.header(&vault.log) };
    let effects = vault.takes(&cast, bob.sign(&header, Kind::Heartbeat, &[]));
    assert_eq!(effects.confirms, None);
}

#[test]
fn history_leaves_no_trace_in_the_state() {
    let (cast, bob, mut vault) = story();
    let size = |vault: &Vault| {
        let snapshot = vault.log.snapshot();
        (snapshot.core.len(), snapshot.trail.len(), snapshot.live.len())
    };
    let rewrite = |vault: &mut Vault, times: u64| {
        for at in 0..times {
            vault.writes(&cast, &bob, record(u8::try_from(at % 10).unwrap()), 1);
        }
        size(vault)
    };
    let after_a_while = rewrite(&mut vault, WINDOW);
    assert_eq!(after_a_while.1, 8 + 32 * (WINDOW as usize + 1));
    assert_eq!(rewrite(&mut vault, WINDOW), after_a_while);
}

#[test]
fn promises_are_kept_across_restarts() {
    let (cast, bob, mut vault) = story();
    let mut promises = Promises::default();
    let next = bob.heartbeat(&vault.log);
    let n = vault.log.head().n + 1;
    promises.acknowledged(n, Entry::parse(&next).unwrap().hash(), &vault.log).unwrap();
    promises.seen(Head { n: n + 7, h: [7; 32] }, &vault.log).unwrap();
    for face in [Face::Cbor, Face::Json] {
        assert_eq!(face.decode::<Promises>(&face.encode(&promises)).unwrap(), promises);
    }
    let effects = vault.takes(&cast, next);
    promises.check(&effects).unwrap();
    let rollback = Refusal::Rollback { known: n + 7, offered: n };
    assert_eq!(promises.all_kept(&vault.log), Err(rollback));
}

#[test]
fn parts_of_different_moments_do_not_join() {
    let (cast, bob, mut vault) = story();
    let old = vault.log.snapshot();
    vault.takes(&cast, bob.heartbeat(&vault.log));
    let new = vault.log.snapshot();
    let mixed = Snapshot { core: new.core.clone(), ..old.clone() };
    assert!(VaultLog::resume(&mixed).is_err());
    let mixed = Snapshot { trail: new.trail.clone(), ..old };
    assert!(VaultLog::resume(&mixed).is_err());
}

#[test]
fn a_server_may_keep_the_parts_in_rows_of_its_own() {
    let (_, _, vault) = story();
    let rows: Vec<_> = vault
        .log
        .live()
        .records()
        .map(|(id, record)| (*id, record.whole_at(), record.changes().collect::<Vec<_>>()))
        .collect();
    let live: LiveSet =
        rows.into_iter().map(|(id, whole_at, changes)| (id, Record::new(whole_at, changes).unwrap())).collect();
    assert!(live == *vault.log.live());
    let core = Core::from_bytes(&vault.log.core().to_bytes()).unwrap();
    let trail = Trail::from_bytes(&vault.log.trail().to_bytes()).unwrap();
    assert!(VaultLog::from_parts(core, trail, live).unwrap() == vault.log);
}

/// What a server loads for one push: the records the entry names and the one chain value it refers to.
struct Loaded {
    records: LiveSet,
    seen: Option<[u8; 32]>,
    root: Option<Root>,
}

impl Memory for Loaded {
    fn chain_value(&self, _: u64) -> Option<[u8; 32]> {
        self.seen
    }

    fn record(&self, record: &RecordId) -> Option<&Record> {
        self.records.record(record)
    }

    fn root_without(&self, _: &[RecordId]) -> Option<Root> {
        self.root
    }
}

#[test]
fn a_server_that_loads_only_what_an_entry_names_comes_to_the_same_answers() {
    let (cast, bob, vault) = story();
    let (body, none, heads) = (payload(3), [], vault.heads(record(3)));
    let stale = [whole(record(3), &none, &body), whole(record(4), &none, &body)];
    let fresh = [whole(record(3), &heads, &body), delta(record(200), &none, &body)];
    let mut bent = bob.header(&vault.log);
    bent.seen.h[0] ^= 1;
    let entries = [
        bob.data(&vault.log, &fresh),
        bob.data(&vault.log, &stale),
        bob.heartbeat(&vault.log),
        bob.sign(&bent, Kind::Heartbeat, &[]),
        bob.checkpoint(&vault.log),
    ];
    for bytes in entries {
        let entry = Entry::parse(&bytes).unwrap();
        let named: Vec<RecordId> = match &entry.body {
            Body::Data(data) => data.changes().map(|change| change.record).collect(),
            _ => Vec::new(),
        };
        let rows = vault.log.live().records().filter(|(id, _)| named.contains(id));
        let loaded = Loaded {
            records: rows.map(|(id, record)| (*id, record.clone())).collect(),
            seen: vault.log.trail().at(entry.header.seen.n),
            root: matches!(entry.body, Body::Checkpoint(_)).then(|| vault.log.live().leaves().collect()),
        };
        let core = Core::from_bytes(&vault.log.core().to_bytes()).unwrap();
        let theirs = core.check(&entry, Beside::Nothing, &cast.logs, &loaded);
        let ours = vault.log.check(&entry, Beside::Nothing, &cast.logs);
        match (theirs, ours) {
            (Ok(theirs), Ok(ours)) => {
                assert_eq!(theirs.effects(), ours.effects());
                assert_eq!(theirs.touched(), ours.touched());
            }
            (theirs, ours) => assert_eq!(theirs.unwrap_err(), ours.unwrap_err()),
        }
    }
}

#[test]
fn a_server_that_remembers_everything_refuses_what_others_could_not_check() {
    let (cast, ana, bob, mut vault) = with_both();
    let (asleep, seen) = (bob.heartbeat(&vault.log), vault.log.head());
    for _ in 0..=WINDOW {
        vault.takes(&cast, ana.heartbeat(&vault.log));
    }
    let loaded = Loaded { records: LiveSet::default(), seen: Some(seen.h), root: None };
    let entry = Entry::parse(&asleep).unwrap();
    let refused = vault.log.core().check(&entry, Beside::Nothing, &cast.logs, &loaded).unwrap_err();
    assert_eq!(refused, Refusal::BadSeen { seen: seen.n, n: seen.n + WINDOW + 2 });
}

#[test]
fn cut_snapshots_are_refused() {
    let (_, _, vault) = story();
    let whole = vault.log.snapshot();
    for length in 0..whole.core.len() {
        assert!(Core::from_bytes(&whole.core[..length]).is_err(), "{length}");
    }
    for length in 0..whole.trail.len() {
        let cut = Trail::from_bytes(&whole.trail[..length]);
        assert!(cut.is_err() || (length - 8) % 32 == 0, "{length}");
    }
    let records = vault.log.live().records().len();
    let whole_ones = (0..whole.live.len()).filter(|length| LiveSet::from_bytes(&whole.live[..*length]).is_ok());
    assert_eq!(whole_ones.count(), records, "only between two records");
}

#[test]
fn there_is_one_way_to_write_a_state() {
    let (_, _, vault) = story();
    let (core, live) = (vault.log.core().to_bytes(), vault.log.live().to_bytes());
    for bit in 0..core.len() * 8 {
        let mut bent = core.clone();
        bent[bit / 8] ^= 1 << (bit % 8);
        if let Ok(read) = Core::from_bytes(&bent) {
            assert_eq!(read.to_bytes(), bent, "bit {bit}");
        }
    }
    for bit in 0..live.len() * 8 {
        let mut bent = live.clone();
        bent[bit / 8] ^= 1 << (bit % 8);
        if let Ok(read) = LiveSet::from_bytes(&bent) {
            assert_eq!(read.to_bytes(), bent, "bit {bit}");
        }
    }
}

#[test]
fn a_record_has_changes_and_heads_and_each_once() {
    let (_, _, vault) = story();
    let change = vault.log.live().record(&record(3)).unwrap().changes().next().unwrap();
    assert!(Record::new(0, []).is_none());
    assert!(Record::new(0, [change, change]).is_none());
    assert!(Record::new(0, [selkie_protocol::log::LiveChange { head: false, ..change }]).is_none());
}

proptest! {
    #[test]
    fn no_bytes_make_resuming_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Core::from_bytes(&bytes);
        let _ = Trail::from_bytes(&bytes);
        let _ = LiveSet::from_bytes(&bytes);
    }

    #[test]
    fn bent_snapshots_are_refused_or_read(at in any::<prop::sample::Index>(), bit in 0..8u32) {
        let mut core = story().2.log.core().to_bytes();
        let at = at.index(core.len());
        core[at] ^= 1 << bit;
        let _ = Core::from_bytes(&core);
    }
}
