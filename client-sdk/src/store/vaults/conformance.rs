//! The contract of [`VaultStore`], held against every implementation.

use super::*;

fn change(number: u8) -> ChangeId {
    ChangeId([number; 32])
}

fn record(number: u8) -> RecordId {
    RecordId([number; 16])
}

fn version(of: u8, number: u8, n: u64) -> Version {
    Version {
        record: record(of),
        change: change(number),
        n,
        index: 0,
        shelf: [of; 16],
        user: UserId([1; 32]),
        device: DeviceId([2; 16]),
        unix_ms: 3,
        current: false,
        sealed: vec![number; 5],
    }
}

fn unread(of: u8, number: u8) -> Aside {
    Aside {
        record: record(of),
        change: change(number),
        n: 4,
        epoch: 2,
        unix_ms: 5,
        reason: "no key".into(),
        item: vec![1],
        payload: vec![2],
    }
}

fn write(of: u8, content: u8) -> NewWrite {
    NewWrite { record: record(of), shelf: [of; 16], sealed: vec![content] }
}

const VAULT: VaultId = VaultId([9; 32]);

fn begun(store: &dyn VaultStore) -> KeptVault {
    let begun = Begun {
        state: b"one".to_vec(),
        trail: vec![(0, [0; 32]), (1, [1; 32])],
        keys: vec![(1, b"k1".to_vec())],
        in_flight: Some(b"create".to_vec()),
        frames: vec![KeptFrame { n: 1, received_ms: 10, frame: b"f1".to_vec() }],
    };
    store.begin(&VAULT, &begun).unwrap();
    store.load(&VAULT).unwrap().unwrap()
}

fn what_is_kept_comes_back(store: &dyn VaultStore) {
    assert_eq!(store.account().unwrap(), None);
    store.keep_account(b"a").unwrap();
    store.keep_account(b"b").unwrap();
    assert_eq!(store.account().unwrap().unwrap(), b"b");
    store.keep_person(&UserId([3; 32]), b"log").unwrap();
    store.keep_person(&UserId([3; 32]), b"longer log").unwrap();
    assert_eq!(store.people().unwrap(), [(UserId([3; 32]), b"longer log".to_vec())]);

    assert_eq!(store.load(&VAULT).unwrap(), None);
    let kept = begun(store);
    assert_eq!((kept.revision, kept.state.as_slice(), kept.trail.len()), (1, b"one".as_slice(), 2));
    assert_eq!((kept.keys.len(), kept.in_flight.as_deref()), (1, Some(b"create".as_slice())));
    store.begin(&VAULT, &Begun::default()).unwrap();
    assert_eq!(store.load(&VAULT).unwrap().unwrap(), kept, "what is kept already stays");
    assert_eq!(store.vaults().unwrap(), [VAULT]);
    store.forget(&VAULT).unwrap();
    store.forget(&VAULT).unwrap();
    assert_eq!(store.load(&VAULT).unwrap(), None);
    assert_eq!(store.frames(&VAULT, 0, 9).unwrap(), []);
    assert!(store.write_down(&VAULT, &write(1, 1)).is_err());
}

fn a_step_is_taken_from_where_it_was_made_or_not_at_all(store: &dyn VaultStore) {
    begun(store);
    let step = Advance {
        state: Some(b"two".to_vec()),
        in_flight: Some(None),
        trail: vec![(2, [2; 32])],
        trail_from: 1,
        live: vec![(record(1), Some(b"live".to_vec())), (record(2), Some(b"live".to_vec()))],
        frames: vec![KeptFrame { n: 2, received_ms: 20, frame: b"f2".to_vec() }],
        frames_before_ms: 15,
        versions: vec![version(1, 11, 2), version(2, 21, 2)],
        heads: vec![(record(1), vec![change(11)]), (record(2), vec![change(21)])],
        aside: vec![unread(3, 31)],
        settlements: vec![Settlement { record: record(1), lost: change(10), won: change(11), at_ms: 6 }],
        keys: vec![(1, b"k1 again".to_vec()), (2, b"k2".to_vec())],
        ..Advance::default()
    };
    assert_eq!(store.advance(&VAULT, 2, &step).unwrap(), None, "it is not there any more");
    assert_eq!(store.load(&VAULT).unwrap().unwrap().state, b"one");
    assert_eq!(store.advance(&VAULT, 1, &step).unwrap(), Some(2));
    let kept = store.load(&VAULT).unwrap().unwrap();
    assert_eq!((kept.revision, kept.state.as_slice(), kept.in_flight), (2, b"two".as_slice(), None));
    assert_eq!(kept.trail, [(1, [1; 32]), (2, [2; 32])]);
    assert_eq!(kept.live.len(), 2);
    assert_eq!(kept.keys, [(1, b"k1 again".to_vec()), (2, b"k2".to_vec())]);
    assert_eq!(store.frames(&VAULT, 0, 9).unwrap(), [(2, b"f2".to_vec())]);
    assert_eq!(store.current(&VAULT, None).unwrap().len(), 2);
    assert_eq!(store.current(&VAULT, Some(&[2; 16])).unwrap()[0].change, change(21));
    assert_eq!(store.aside(&VAULT).unwrap(), [unread(3, 31)]);
    assert_eq!(store.settlements(&VAULT).unwrap().len(), 1);
    assert_eq!(store.counts(&VAULT).unwrap(), Counts { records: 2, pending: 0, aside: 1 });

    // The next head cannot be read, so the one before stays; then it can.
    let heads = vec![(record(1), vec![change(12)])];
    let unreadable = Advance { heads: heads.clone(), aside: vec![unread(1, 12)], ..Advance::default() };
    assert_eq!(store.advance(&VAULT, 2, &unreadable).unwrap(), Some(3));
    assert_eq!(store.current(&VAULT, Some(&[1; 16])).unwrap()[0].change, change(11));
    let (versions, no_longer_aside) = (vec![version(1, 12, 3)], vec![change(12)]);
    let readable = Advance { heads, versions, no_longer_aside, ..Advance::default() };
    assert_eq!(store.advance(&VAULT, 3, &readable).unwrap(), Some(4));
    assert_eq!(store.current(&VAULT, Some(&[1; 16])).unwrap()[0].change, change(12));
    assert_eq!(store.versions(&VAULT, &record(1)).unwrap().len(), 2);

    let forgotten = Advance { live: vec![(record(1), None)], ..Advance::default() };
    assert_eq!(store.advance(&VAULT, 4, &forgotten).unwrap(), Some(5));
    assert_eq!(store.versions(&VAULT, &record(1)).unwrap(), []);
}

fn writes_wait_in_order_and_know_what_they_are_made_on(store: &dyn VaultStore) {
    begun(store);
    let heads = vec![(record(1), vec![change(11)])];
    let step = Advance { versions: vec![version(1, 11, 2)], heads, ..Advance::default() };
    store.advance(&VAULT, 1, &step).unwrap();
    let seqs: Vec<u64> = [write(1, 1), write(2, 2), write(1, 3), write(1, 4)]
        .iter()
        .map(|write| store.write_down(&VAULT, write).unwrap())
        .collect();
    assert!(seqs.is_sorted_by(|one, next| one < next));
    assert_eq!(store.load(&VAULT).unwrap().unwrap().revision, 2, "a write is no step of the log");
    let bases = |store: &dyn VaultStore| -> Vec<_> {
        store.outbox(&VAULT, 9).unwrap().into_iter().map(|pending| (pending.sealed[0], pending.base)).collect()
    };
    let expected = [(1, Some(vec![change(11)])), (2, Some(vec![])), (3, None), (4, None)];
    assert_eq!(bases(store), expected);
    assert_eq!(store.outbox(&VAULT, 2).unwrap().len(), 2);
    assert_eq!(store.pending_of(&VAULT, &record(1)).unwrap().len(), 3);

    let sent = vec![(seqs[0], Some(change(12))), (seqs[1], Some(change(22)))];
    store.advance(&VAULT, 2, &Advance { sent, ..Advance::default() }).unwrap();
    assert_eq!(bases(store), [(3, Some(vec![change(12)])), (4, None)]);
    let sent = vec![(seqs[2], Some(change(13))), (seqs[3], Some(change(14)))];
    store.advance(&VAULT, 3, &Advance { sent, ..Advance::default() }).unwrap();
    assert_eq!(bases(store), []);
}

fn a_log_is_replaced_whole_and_what_is_to_be_sent_stays(store: &dyn VaultStore) {
    begun(store);
    let heads = vec![(record(1), vec![change(11)])];
    let versions = vec![version(1, 11, 2)];
    store.advance(&VAULT, 1, &Advance { versions, heads, aside: vec![unread(3, 31)], ..Advance::default() }).unwrap();
    store.write_down(&VAULT, &write(1, 1)).unwrap();
    store.write_down(&VAULT, &write(1, 2)).unwrap();
    store.stage(&VAULT, true, &[version(7, 70, 1)], &[]).unwrap();
    store.stage(&VAULT, true, &[version(1, 15, 7)], &[]).unwrap();
    store.stage(&VAULT, false, &[version(2, 25, 7)], &[unread(4, 41)]).unwrap();
    assert_eq!(store.versions(&VAULT, &record(1)).unwrap()[0].change, change(11), "nothing is changed yet");
    let fresh = Fresh {
        state: b"fresh".to_vec(),
        trail: vec![(7, [7; 32])],
        live: vec![(record(1), b"l".to_vec())],
        heads: vec![(record(1), vec![change(15)]), (record(2), vec![change(25)])],
        keys: vec![(2, b"k2".to_vec())],
        again: vec![Again { write: write(1, 9), collides: false }, Again { write: write(2, 8), collides: true }],
    };
    assert_eq!(store.replace(&VAULT, 1, &fresh).unwrap(), None);
    assert_eq!(store.replace(&VAULT, 2, &fresh).unwrap(), Some(3));
    let kept = store.load(&VAULT).unwrap().unwrap();
    assert_eq!((kept.state.as_slice(), kept.in_flight), (b"fresh".as_slice(), None));
    assert_eq!((kept.trail, kept.keys.len(), kept.live.len()), (vec![(7, [7; 32])], 2, 1));
    assert_eq!(store.versions(&VAULT, &record(1)).unwrap().len(), 1);
    assert_eq!(store.current(&VAULT, None).unwrap().len(), 2);
    assert_eq!(store.aside(&VAULT).unwrap(), [unread(4, 41)]);
    let pending = store.outbox(&VAULT, 9).unwrap();
    assert_eq!(pending.iter().map(|pending| pending.sealed[0]).collect::<Vec<_>>(), [9, 8, 1, 2]);
    assert_eq!(pending.iter().filter(|pending| pending.record == record(1)).count(), 3);
    assert_eq!(pending[0].base, Some(vec![change(15)]));
    assert_eq!(pending[1].base, Some(vec![]), "it is on top of nothing, so that it meets what came in its place");
}

const CONTRACT: [fn(&dyn VaultStore); 4] = [
    what_is_kept_comes_back,
    a_step_is_taken_from_where_it_was_made_or_not_at_all,
    writes_wait_in_order_and_know_what_they_are_made_on,
    a_log_is_replaced_whole_and_what_is_to_be_sent_stays,
];

#[test]
fn the_store_in_memory_keeps_the_contract() {
    CONTRACT.iter().for_each(|clause| clause(&MemoryVaults::default()));
}

#[cfg(feature = "sqlite")]
#[test]
fn the_store_in_a_file_keeps_the_contract() {
    for clause in CONTRACT {
        let folder = tempfile::tempdir().unwrap();
        clause(&SqliteVaults::open(folder.path()).unwrap());
        drop(SqliteVaults::open(folder.path()).unwrap());
    }
}

#[cfg(feature = "sqlite")]
#[test]
fn two_programs_see_what_the_other_keeps() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (SqliteVaults::open(folder.path()).unwrap(), SqliteVaults::open(folder.path()).unwrap());
    begun(&one);
    let step = Advance { state: Some(b"two".to_vec()), ..Advance::default() };
    assert_eq!(other.advance(&VAULT, 1, &step).unwrap(), Some(2));
    assert_eq!(one.advance(&VAULT, 1, &step).unwrap(), None, "the other was faster");
}
