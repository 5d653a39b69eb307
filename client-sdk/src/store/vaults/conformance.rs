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

fn settlement(of: u8, lost: u8, won: u8, asked: Option<Vec<u8>>) -> Settlement {
    let (record, lost, won, how) = (record(of), change(lost), change(won), "asked".to_owned());
    Settlement { id: 0, record, lost, won, at_ms: 6, how, asked }
}

fn put_down(store: &dyn VaultStore, writes: &[NewWrite]) -> Vec<u64> {
    store.write_down(&VAULT, None, writes, Together::AsOne).unwrap().unwrap()
}

/// What there is of a collection, as the first byte of each content.
fn on_shelf(store: &dyn VaultStore, of: u8) -> Vec<u8> {
    let mut found = Vec::new();
    let at = store.shelf(&VAULT, &[of; 16], &mut |shown| found.push(shown.sealed[0])).unwrap();
    assert_eq!(at, store.stamp(&VAULT).unwrap());
    found
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
        writes: Vec::new(),
    };
    store.begin(&VAULT, &begun).unwrap();
    store.load(&VAULT).unwrap().unwrap()
}

fn a_vault_begins_with_its_first_writes_or_not_at_all(store: &dyn VaultStore) {
    store.begin(&VAULT, &Begun { writes: vec![write(1, 7), write(2, 8)], ..Begun::default() }).unwrap();
    let pending = store.outbox(&VAULT, 10).unwrap();
    assert_eq!(pending.iter().map(|pending| pending.sealed[0]).collect::<Vec<_>>(), [7, 8]);
    assert!(pending.iter().all(|pending| pending.group == pending.seq), "each travels alone");
    store.begin(&VAULT, &Begun { writes: vec![write(1, 9)], ..Begun::default() }).unwrap();
    assert_eq!(store.outbox(&VAULT, 10).unwrap(), pending, "what is kept already stays");
    assert_eq!(store.counts(&VAULT).unwrap().pending, 2);
}

fn what_is_kept_comes_back(store: &dyn VaultStore) {
    assert_eq!(store.account().unwrap(), None);
    assert!(store.keep_account(None, b"a").unwrap());
    assert!(store.keep_account(Some(b"a"), b"b").unwrap());
    for (before, now) in [(None, "nothing was there"), (Some(b"a".as_slice()), "what was there")] {
        assert!(!store.keep_account(before, b"c").unwrap(), "{now} before is not there any more");
    }
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
    assert_eq!([VAULT, VaultId([1; 32])].map(|vault| store.revision(&vault).unwrap()), [Some(1), None]);
    let outline = Outline { revision: 1, state: kept.state, keys: kept.keys, in_flight: kept.in_flight };
    assert_eq!(store.outline(&VAULT).unwrap(), Some(outline));
    store.keep_note(&VAULT, &[1; 16], b"one").unwrap();
    store.keep_note(&VAULT, &[1; 16], b"two").unwrap();
    assert_eq!(store.note(&VAULT, &[1; 16]).unwrap().as_deref(), Some(b"two".as_slice()));
    assert_eq!(store.note(&VAULT, &[2; 16]).unwrap(), None);
    store.flush().unwrap();
    assert!(!store.forget_if_sent(&VAULT).unwrap(), "something is on its way");
    store.advance(&VAULT, 1, &Advance { in_flight: Some(None), ..Advance::default() }).unwrap();
    let seqs = put_down(store, &[write(1, 1)]);
    assert!(!store.forget_if_sent(&VAULT).unwrap(), "something is to be sent");
    store.take_back(&VAULT, 2, &seqs).unwrap();
    assert!(store.forget_if_sent(&VAULT).unwrap());
    assert!(!store.forget_if_sent(&VAULT).unwrap(), "it is not there any more");
    begun(store);
    store.forget(&VAULT).unwrap();
    store.forget(&VAULT).unwrap();
    assert_eq!(store.load(&VAULT).unwrap(), None);
    assert_eq!(store.frames(&VAULT, 0, 9).unwrap(), []);
    assert!(store.write_down(&VAULT, None, &[write(1, 1)], Together::AsOne).is_err());
    assert_eq!(store.outline(&VAULT).unwrap(), None);
    assert_eq!(store.now(&VAULT, &record(1)).unwrap(), Now::default());
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
        settlements: vec![settlement(1, 10, 11, None), settlement(1, 9, 11, Some(vec![7]))],
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
    assert_eq!(store.aside_after(&VAULT, Some(&change(30)), 1).unwrap(), [unread(3, 31)]);
    assert_eq!(store.aside_after(&VAULT, Some(&change(31)), 1).unwrap(), []);
    assert_eq!(store.aside_after(&VAULT, None, 0).unwrap(), []);
    let met = store.settlements(&VAULT).unwrap();
    for one in &met {
        let of_record: Vec<Settlement> = met.iter().filter(|other| other.record == one.record).cloned().collect();
        assert_eq!(store.settlements_of(&VAULT, &one.record).unwrap(), of_record);
    }
    assert_eq!(store.settlements_of(&VAULT, &record(99)).unwrap(), []);
    assert_eq!((met.len(), &met[0].asked, &met[1].asked), (2, &None, &Some(vec![7])));
    let before = store.stamp(&VAULT).unwrap();
    store.resolve(&VAULT, met[1].id).unwrap();
    assert_eq!(store.settlements(&VAULT).unwrap()[1], Settlement { asked: None, ..met[1].clone() });
    assert_eq!(store.touched(&VAULT, before).unwrap(), (before + 1, Some(vec![record(1)])));
    assert_eq!(store.counts(&VAULT).unwrap(), Counts { records: 2, pending: 0, aside: 1, elsewhere: 0 });

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

    // Of a record that is new here, the head cannot be read, and what came before it can: the newest is shown.
    let before = vec![version(4, 41, 3), Version { index: 1, ..version(4, 42, 3) }];
    let unreadable = Advance {
        heads: vec![(record(4), vec![change(43)])],
        versions: before,
        aside: vec![unread(4, 43)],
        ..Advance::default()
    };
    assert_eq!(store.advance(&VAULT, 4, &unreadable).unwrap(), Some(5));
    let current = store.current(&VAULT, Some(&[4; 16])).unwrap();
    assert_eq!(current.iter().map(|version| version.change).collect::<Vec<_>>(), [change(42)]);

    let forgotten = Advance { live: vec![(record(1), None)], ..Advance::default() };
    assert_eq!(store.advance(&VAULT, 5, &forgotten).unwrap(), Some(6));
    assert_eq!(store.versions(&VAULT, &record(1)).unwrap(), []);
}

fn writes_wait_in_order_and_know_what_they_are_made_on(store: &dyn VaultStore) {
    begun(store);
    let heads = vec![(record(1), vec![change(11)])];
    let step = Advance { versions: vec![version(1, 11, 2)], heads, ..Advance::default() };
    store.advance(&VAULT, 1, &step).unwrap();
    let seqs: Vec<u64> = [write(1, 1), write(2, 2), write(1, 3), write(1, 4)]
        .iter()
        .flat_map(|write| put_down(store, std::slice::from_ref(write)))
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
    put_down(store, &[write(1, 1), write(1, 2)]);
    store.keep_note(&VAULT, &[1; 16], b"of what was").unwrap();
    let before = store.stamp(&VAULT).unwrap();
    // Another program puts its own beside, and is overtaken.
    assert_eq!(store.stage_anew(&VAULT, 2).unwrap(), Some(3));
    assert!(store.stage(&VAULT, 3, &[version(7, 70, 1)], &[]).unwrap());
    assert_eq!(store.stage_anew(&VAULT, 2).unwrap(), None);
    assert_eq!(store.stage_anew(&VAULT, 3).unwrap(), Some(4));
    assert!(store.stage(&VAULT, 4, &[version(1, 15, 7)], &[]).unwrap());
    assert!(!store.stage(&VAULT, 3, &[version(8, 80, 1)], &[unread(9, 90)]).unwrap());
    assert!(store.stage(&VAULT, 4, &[version(2, 25, 7)], &[unread(4, 41)]).unwrap());
    assert_eq!(store.versions(&VAULT, &record(1)).unwrap()[0].change, change(11), "nothing is changed yet");
    let fresh = Fresh {
        state: b"fresh".to_vec(),
        trail: vec![(7, [7; 32])],
        live: vec![(record(1), b"l".to_vec())],
        heads: vec![(record(1), vec![change(15)]), (record(2), vec![change(25)])],
        keys: vec![(2, b"k2".to_vec())],
        again: vec![Again { write: write(1, 9), collides: false }, Again { write: write(2, 8), collides: true }],
        ..Fresh::default()
    };
    assert_eq!(store.replace(&VAULT, 3, &fresh).unwrap(), None);
    assert_eq!(store.replace(&VAULT, 4, &fresh).unwrap(), Some(5));
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
    assert_eq!(pending.iter().map(|pending| pending.group).collect::<Vec<_>>(), [3, 4, 5, 5]);
    assert_eq!(store.touched(&VAULT, before).unwrap(), (before + 1, None), "it may be all of them");
    assert_eq!(store.note(&VAULT, &[1; 16]).unwrap(), None);
    assert_eq!(store.write_down(&VAULT, Some(before), &[write(9, 9)], Together::AsOne).unwrap(), None);
}

fn what_was_on_its_way_while_a_log_is_replaced_is_still_that_or_has_arrived(store: &dyn VaultStore) {
    begun(store);
    let seqs = put_down(store, &[write(1, 1), write(1, 2)]);
    assert_eq!(store.stage_anew(&VAULT, 1).unwrap(), Some(2));
    assert!(store.stage(&VAULT, 2, &[version(1, 15, 7)], &[]).unwrap());
    let fresh = Fresh {
        state: b"fresh".to_vec(),
        heads: vec![(record(1), vec![change(15)])],
        sent: vec![(seqs[0], Some(change(15)))],
        settlements: vec![settlement(1, 9, 15, None)],
        in_flight: Some(b"flight".to_vec()),
        ..Fresh::default()
    };
    assert_eq!(store.replace(&VAULT, 2, &fresh).unwrap(), Some(3));
    let left = store.outbox(&VAULT, 9).unwrap();
    assert_eq!(left.iter().map(|one| one.sealed[0]).collect::<Vec<_>>(), [2]);
    assert_eq!(left[0].base, Some(vec![change(15)]), "the first has arrived");
    assert_eq!(store.settlements(&VAULT).unwrap().len(), 1);
    assert_eq!(store.load(&VAULT).unwrap().unwrap().in_flight.as_deref(), Some(b"flight".as_slice()));
}

fn room_is_counted_and_what_is_old_and_of_no_use_gives_it_back(store: &dyn VaultStore) {
    begun(store);
    assert_eq!(store.usage(&VaultId([1; 32])).unwrap(), Usage::default());
    let old = |of: u8, number: u8, n: u64, unix_ms: u64| Version { unix_ms, ..version(of, number, n) };
    let versions =
        (1..=4).flat_map(|of| [old(of, of * 10, 1, 100), old(of, of * 10 + 1, 2, 200), old(of, of * 10 + 2, 3, 50)]);
    let heads = (1..=4).map(|of| (record(of), vec![change(of * 10 + 2)])).collect();
    let settlements = vec![settlement(3, 30, 31, Some(vec![7]))];
    store
        .advance(&VAULT, 1, &Advance { versions: versions.collect(), heads, settlements, ..Advance::default() })
        .unwrap();
    put_down(store, &[write(4, 1)]);
    let before = store.usage(&VAULT).unwrap();
    assert!(before.records > 0 && before.pending > 0 && before.log > 0 && before.indexes > 0, "{before:?}");
    assert_eq!((before.versions, before.history, before.records), (8, 8 * 149, 4 * 149));
    assert!(before.total() > before.history && store.size().unwrap() >= before.history);

    let went = store.prune(&VAULT, 150).unwrap();
    assert_eq!((went.versions, went.history), (2, 2 * 149));
    let changes =
        |of: u8| store.versions(&VAULT, &record(of)).unwrap().iter().map(|one| one.change.0[0]).collect::<Vec<_>>();
    assert_eq!((changes(1), changes(2)), (vec![11, 12], vec![21, 22]), "what is current stays, however old");
    assert_eq!(changes(3), [30, 31, 32], "somebody is to decide about it");
    assert_eq!(changes(4), [40, 41, 42], "it is still to be sent");
    assert_eq!(store.usage(&VAULT).unwrap().history, before.history - went.history);
    store.shrink().unwrap();
    assert_eq!(store.damage().unwrap(), [""; 0]);
}

fn what_is_let_go_is_known_to_be_there(store: &dyn VaultStore) {
    begun(store);
    let versions = (1..=5).flat_map(|of| [version(of, of * 10, 1), version(of, of * 10 + 1, 2)]);
    let heads = (1..=5).map(|of| (record(of), vec![change(of * 10 + 1)])).collect();
    let live = (1..=5).map(|of| (record(of), Some(vec![of]))).collect();
    let settlements = vec![settlement(3, 30, 31, Some(vec![7]))];
    let step = Advance { versions: versions.collect(), heads, live, settlements, ..Advance::default() };
    store.advance(&VAULT, 1, &step).unwrap();
    put_down(store, &[write(4, 1)]);
    let gone = |of: u8, number: u8| Elsewhere { record: record(of), change: change(number), was_here: true };
    let all: Vec<Elsewhere> = (1..=4).map(|of| gone(of, of * 10 + 1)).chain([gone(5, 50)]).collect();
    let seen = store.stamp(&VAULT).unwrap();
    assert_eq!(store.let_go(&VAULT, seen - 1, &all[3..]).unwrap().0, 0, "it was touched since");
    assert!(!store.now(&VAULT, &record(1)).unwrap().unexplained);
    let (many, took) = store.let_go(&VAULT, seen, &all).unwrap();
    assert_eq!(many, 2, "one is to be decided, one to be sent, and of one another change is current");
    assert_eq!((took.records, took.history, took.versions), (2 * 149, 2 * 149, 2));
    assert_eq!(store.elsewhere(&VAULT).unwrap(), all[..2]);
    assert_eq!(store.elsewhere_of(&VAULT, &record(2)).unwrap(), all[1..2]);
    assert_eq!(store.now(&VAULT, &record(1)).unwrap(), Now { elsewhere: Some(all[0]), ..Now::default() });
    assert_eq!(store.now(&VAULT, &record(3)).unwrap().elsewhere, None);
    assert_eq!((on_shelf(store, 1), on_shelf(store, 3)), (vec![], vec![31]));
    assert_eq!(store.touched(&VAULT, seen).unwrap().1, Some(vec![record(1), record(2)]));
    assert_eq!(store.counts(&VAULT).unwrap(), Counts { records: 3, pending: 1, aside: 0, elsewhere: 2 });

    // What is written on top and cannot be read is no more here than what was there before; and it may be a deletion.
    let (heads, aside) = (vec![(record(1), vec![change(13)])], vec![unread(1, 13)]);
    store.advance(&VAULT, 2, &Advance { heads, aside, ..Advance::default() }).unwrap();
    let unknown = Elsewhere { was_here: false, ..gone(1, 13) };
    assert_eq!(store.elsewhere_of(&VAULT, &record(1)).unwrap(), [unknown]);
    assert_eq!(store.now(&VAULT, &record(1)).unwrap().elsewhere, Some(unknown));

    // One comes again, the other is written anew.
    let heads = vec![(record(1), vec![change(11)]), (record(2), vec![change(22)])];
    let versions = vec![version(1, 11, 2), version(2, 22, 3)];
    store.advance(&VAULT, 3, &Advance { versions, heads, ..Advance::default() }).unwrap();
    assert_eq!(store.elsewhere(&VAULT).unwrap(), []);
    assert_eq!((on_shelf(store, 1), on_shelf(store, 2)), (vec![11], vec![22]));

    // What is forgotten is nowhere; what replaces everything says itself what was not fetched.
    let seen = store.stamp(&VAULT).unwrap();
    assert_eq!(store.let_go(&VAULT, seen, &[gone(1, 11)]).unwrap().0, 1);
    store.advance(&VAULT, 4, &Advance { live: vec![(record(1), None)], ..Advance::default() }).unwrap();
    assert_eq!(store.now(&VAULT, &record(1)).unwrap(), Now::default());
    let unknown = Elsewhere { was_here: false, ..gone(2, 22) };
    store.replace(&VAULT, 5, &Fresh { elsewhere: vec![unknown], ..Fresh::default() }).unwrap();
    assert_eq!(store.elsewhere(&VAULT).unwrap(), [unknown]);
    store.rebuild().unwrap();
    assert_eq!(store.elsewhere(&VAULT).unwrap(), [unknown]);
}

fn nothing_is_said_to_be_there_no_more_than_the_log_explains(store: &dyn VaultStore) {
    begun(store);
    let live = (1..=3).map(|of| (record(of), Some(vec![of]))).collect();
    let heads = (1..=3).map(|of| (record(of), vec![change(of * 10)])).collect();
    let (versions, aside) = (vec![version(1, 10, 1)], vec![unread(2, 20)]);
    store.advance(&VAULT, 1, &Advance { live, heads, versions, aside, ..Advance::default() }).unwrap();
    let unexplained = |of: u8| store.now(&VAULT, &record(of)).unwrap().unexplained;
    assert_eq!([1, 2, 3, 4].map(unexplained), [false, false, true, false], "here, set aside, gone, never there");
    put_down(store, &[write(3, 1)]);
    assert!(!unexplained(3), "this device has written it");
}

fn what_was_touched_is_told_to_whoever_saw_an_earlier_stamp(store: &dyn VaultStore) {
    begun(store);
    let start = store.stamp(&VAULT).unwrap();
    let seqs = put_down(store, &[write(1, 10), write(2, 20)]);
    let after = store.stamp(&VAULT).unwrap();
    assert_eq!(store.touched(&VAULT, start).unwrap(), (after, Some(vec![record(1), record(2)])));
    assert_eq!(store.touched(&VAULT, after).unwrap(), (after, Some(vec![])));
    assert_eq!(store.touched(&VAULT, after + 1).unwrap(), (after, None), "this is another vault than was seen");
    put_down(store, &[write(1, 11)]);
    let now = store.stamp(&VAULT).unwrap();
    assert_eq!(
        store.write_down(&VAULT, Some(after), &[write(2, 21), write(1, 12)], Together::AsOne).unwrap(),
        None,
        "all or none"
    );
    assert_eq!(
        store.write_down(&VAULT, Some(now), &[write(1, 12)], Together::AsOne).unwrap().map(|seqs| seqs.len()),
        Some(1)
    );
    let groups: Vec<u64> = store.outbox(&VAULT, 9).unwrap().iter().map(|pending| pending.group).collect();
    assert_eq!(groups, [1, 1, 3, 4]);
    assert_eq!(store.now(&VAULT, &record(1)).unwrap().pending.unwrap().sealed, [12]);
    assert_eq!((on_shelf(store, 1), on_shelf(store, 2)), (vec![12], vec![20]));
    assert_eq!(store.shelves(&VAULT).unwrap(), [[1; 16], [2; 16]]);

    // It goes into the log, and somebody else goes on.
    let sent = vec![(seqs[1], Some(change(21)))];
    let heads = vec![(record(2), vec![change(22)])];
    let versions = vec![version(2, 22, 3)];
    let seen = store.stamp(&VAULT).unwrap();
    store.advance(&VAULT, 1, &Advance { sent, heads, versions, ..Advance::default() }).unwrap();
    assert_eq!(store.touched(&VAULT, seen).unwrap().1, Some(vec![record(2)]));
    let kept = store.now(&VAULT, &record(2)).unwrap();
    assert_eq!((kept.pending, kept.current[0].change), (None, change(22)));
    assert_eq!(on_shelf(store, 2), [22]);

    // Page by page, from the log and from what is to be sent.
    let next = |number: u8| NewWrite { shelf: [2; 16], ..write(number, number) };
    let seqs = put_down(store, &[next(5), next(4), next(0), next(5)]);
    let page = |after: Option<u8>, limit| store.page(&VAULT, &[2; 16], after.map(record), limit).unwrap();
    assert_eq!(page(None, 9), [record(0), record(2), record(4), record(5)]);
    assert_eq!(page(None, 2), [record(0), record(2)]);
    assert_eq!(page(Some(2), 2), [record(4), record(5)]);
    assert_eq!(page(Some(5), 2), []);
    assert_eq!(store.shelves(&VAULT).unwrap(), [[1; 16], [2; 16]]);
    let seen = store.stamp(&VAULT).unwrap();
    store.advance(&VAULT, 2, &Advance { state: Some(vec![1]), ..Advance::default() }).unwrap();
    assert_eq!(store.stamp(&VAULT).unwrap(), seen, "no record was touched by that");

    // What lay in the wrong place is found in the right one.
    store.put_on_shelves(&VAULT, &[(seqs[1], [3; 16]), (99, [3; 16])]).unwrap();
    assert_eq!(store.page(&VAULT, &[3; 16], None, 9).unwrap(), [record(4)]);
    assert_eq!(page(None, 9), [record(0), record(2), record(5)]);
    assert_eq!(store.touched(&VAULT, seen).unwrap().1, Some(vec![record(4)]));
}

fn a_write_that_is_not_in_the_log_can_be_taken_back(store: &dyn VaultStore) {
    begun(store);
    let heads = vec![(record(1), vec![change(11)])];
    store.advance(&VAULT, 1, &Advance { versions: vec![version(1, 11, 2)], heads, ..Advance::default() }).unwrap();
    let seqs = put_down(store, &[write(1, 1), write(1, 2), write(1, 3)]);
    assert_eq!(store.take_back(&VAULT, 1, &seqs).unwrap(), None, "something was sent meanwhile");
    assert_eq!(store.take_back(&VAULT, 2, &seqs[2..]).unwrap(), Some(3));
    assert_eq!(store.now(&VAULT, &record(1)).unwrap().pending.unwrap().sealed, [2]);
    let seen = store.stamp(&VAULT).unwrap();
    assert_eq!(store.take_back(&VAULT, 3, &seqs[..1]).unwrap(), Some(4));
    assert_eq!(store.touched(&VAULT, seen).unwrap().1, Some(vec![record(1)]));
    let left = store.outbox(&VAULT, 9).unwrap();
    assert_eq!((left[0].sealed.as_slice(), &left[0].base), ([2].as_slice(), &Some(vec![change(11)])));
    assert_eq!(store.take_back(&VAULT, 4, &seqs).unwrap(), Some(5));
    assert_eq!(store.now(&VAULT, &record(1)).unwrap().current[0].change, change(11));
}

const CONTRACT: [fn(&dyn VaultStore); 11] = [
    a_vault_begins_with_its_first_writes_or_not_at_all,
    what_is_kept_comes_back,
    a_step_is_taken_from_where_it_was_made_or_not_at_all,
    writes_wait_in_order_and_know_what_they_are_made_on,
    a_log_is_replaced_whole_and_what_is_to_be_sent_stays,
    what_was_on_its_way_while_a_log_is_replaced_is_still_that_or_has_arrived,
    room_is_counted_and_what_is_old_and_of_no_use_gives_it_back,
    what_was_touched_is_told_to_whoever_saw_an_earlier_stamp,
    what_is_let_go_is_known_to_be_there,
    nothing_is_said_to_be_there_no_more_than_the_log_explains,
    a_write_that_is_not_in_the_log_can_be_taken_back,
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
