//! Heads, conflicts and what is live.

use super::cast::{Cast, Device, Vault, delta, only_change, payload, record, whole};
use selkie_protocol::id::ChangeId;
use selkie_protocol::log::{Beside, Conflict, Data, Entry, Kind, NewChange, Refusal, Role, What};

fn story() -> (Cast, Device, Device, Vault) {
    let mut cast = Cast::default();
    let (ana, bob) = (cast.person(1), cast.person(2));
    let mut vault = Vault::create(&cast, &ana);
    vault.does(&cast, &ana, &cast.add(bob.user, Role::Editor));
    (cast, ana, bob, vault)
}

fn writes(vault: &mut Vault, cast: &Cast, device: &Device, changes: &[NewChange<'_>]) -> Vec<ChangeId> {
    let bytes = device.data(&vault.log, changes);
    match vault.takes(cast, bytes).what {
        What::Changed { changes, .. } => changes.iter().map(|change| change.id).collect(),
        other => panic!("{other:?}"),
    }
}

fn live(vault: &Vault) -> Vec<ChangeId> {
    vault.log.live().leaves().map(|leaf| leaf.change).collect()
}

#[test]
fn a_whole_write_replaces_the_one_before() {
    let (cast, ana, _, mut vault) = story();
    let first = vault.writes(&cast, &ana, record(1), 1);
    let bytes = ana.data(&vault.log, &[whole(record(1), &[first], &payload(2))]);
    let effects = vault.takes(&cast, bytes);
    let second = only_change(&effects);
    let What::Changed { superseded, .. } = effects.what else { unreachable!() };
    assert_eq!(superseded, [(record(1), first)]);
    assert_eq!((live(&vault), vault.log.live().count()), (vec![second], 1));
}

#[test]
fn who_comes_second_is_told_so_and_where_to_go_on() {
    let (cast, ana, bob, mut vault) = story();
    let first = vault.writes(&cast, &ana, record(1), 1);
    let other = vault.writes(&cast, &ana, record(2), 1);
    let late = bob.data(
        &vault.log,
        &[
            whole(record(1), &[first], &payload(2)),
            whole(record(2), &[other], &payload(2)),
            whole(record(3), &[], &payload(2)),
        ],
    );
    let meanwhile = [vault.writes(&cast, &ana, record(1), 3), vault.writes(&cast, &ana, record(3), 3)];
    let conflicts = vec![
        Conflict { record: record(1), heads: vec![meanwhile[0]] },
        Conflict { record: record(3), heads: vec![meanwhile[1]] },
    ];
    vault.refuses(&cast, &late, Refusal::Conflict(conflicts));
    // Nothing of it landed, not even the change that was in order.
    assert_eq!(vault.heads(record(2)), [other]);
}

#[test]
fn a_new_record_follows_nothing_and_an_old_one_something() {
    let (cast, ana, _, mut vault) = story();
    let conflict = |heads| Refusal::Conflict(vec![Conflict { record: record(1), heads }]);
    let invented = ana.data(&vault.log, &[whole(record(1), &[ChangeId([1; 32])], &payload(1))]);
    vault.refuses(&cast, &invented, conflict(vec![]));
    let first = vault.writes(&cast, &ana, record(1), 1);
    let blind = ana.data(&vault.log, &[whole(record(1), &[], &payload(1))]);
    vault.refuses(&cast, &blind, conflict(vec![first]));
}

#[test]
fn mal_053_a_record_does_not_go_back_to_an_earlier_change() {
    let (cast, ana, _, mut vault) = story();
    let first = vault.writes(&cast, &ana, record(1), 1);
    let second = vault.writes(&cast, &ana, record(1), 2);
    let back = ana.data(&vault.log, &[whole(record(1), &[first], &payload(1))]);
    vault.refuses(&cast, &back, Refusal::Conflict(vec![Conflict { record: record(1), heads: vec![second] }]));
}

#[test]
fn differences_never_conflict() {
    let (cast, ana, bob, mut vault) = story();
    let base = vault.writes(&cast, &ana, record(1), 1);
    let of_bob = bob.data(&vault.log, &[delta(record(1), &[base], &payload(3))]);
    let of_ana = ana.data(&vault.log, &[delta(record(1), &[base], &payload(2))]);
    let two = only_change(&vault.takes(&cast, of_ana));
    let three = only_change(&vault.takes(&cast, of_bob));
    let mut heads = vec![two, three];
    heads.sort_unstable();
    assert_eq!(vault.heads(record(1)), heads);
    assert_eq!(vault.log.live().count(), 3, "the state they were made on top of is needed too");

    // A whole write must have read both.
    let one_missing = ana.data(&vault.log, &[whole(record(1), &[two], &payload(4))]);
    let refused = vault.clone().push(&cast, one_missing).unwrap_err();
    assert_eq!(refused, Refusal::Conflict(vec![Conflict { record: record(1), heads: heads.clone() }]));
    let merged = ana.data(&vault.log, &[whole(record(1), &heads, &payload(4))]);
    let effects = vault.takes(&cast, merged);
    let What::Changed { superseded, .. } = effects.what else { unreachable!() };
    assert_eq!(superseded.len(), 3);
    assert_eq!(vault.log.live().count(), 1);
}

#[test]
fn a_difference_on_top_of_others_joins_them() {
    let (cast, ana, bob, mut vault) = story();
    let (body, mut heads) = (payload(1), Vec::new());
    for _ in 0..3 {
        // Nobody looks at what the others did: everything is made on top of nothing.
        heads.extend(writes(&mut vault, &cast, &ana, &[delta(record(1), &[], &body)]));
    }
    let joined = writes(&mut vault, &cast, &bob, &[delta(record(1), &heads, &body)]);
    assert_eq!(vault.heads(record(1)), joined);
    assert_eq!(vault.log.live().count(), 4);
}

#[test]
fn more_than_sixteen_heads_are_joined_step_by_step() {
    let (cast, ana, _, mut vault) = story();
    let body = payload(1);
    let many: Vec<NewChange<'_>> = (0..40).map(|_| delta(record(1), &[], &body)).collect();
    writes(&mut vault, &cast, &ana, &many);
    while vault.heads(record(1)).len() > 16 {
        let some = vault.heads(record(1))[..16].to_vec();
        writes(&mut vault, &cast, &ana, &[delta(record(1), &some, &body)]);
    }
    let heads = vault.heads(record(1));
    writes(&mut vault, &cast, &ana, &[whole(record(1), &heads, &body)]);
    assert_eq!(vault.log.live().count(), 1);
}

#[test]
fn a_difference_builds_on_changes_of_its_own_record() {
    let (cast, ana, _, mut vault) = story();
    let here = vault.writes(&cast, &ana, record(1), 1);
    let there = vault.writes(&cast, &ana, record(2), 1);
    for deps in [vec![there], vec![ChangeId([9; 32])], vec![here, there]] {
        let bytes = ana.data(&vault.log, &[delta(record(1), &deps, &payload(1))]);
        vault.refuses(&cast, &bytes, Refusal::UnknownDependency { index: 0 });
    }
}

#[test]
fn a_difference_made_before_a_whole_write_was_seen_is_not_lost() {
    let (cast, ana, bob, mut vault) = story();
    let base = vault.writes(&cast, &ana, record(1), 1);
    let offline = bob.data(&vault.log, &[delta(record(1), &[base], &payload(2))]);
    let written_whole = vault.writes(&cast, &ana, record(1), 3);
    let difference = only_change(&vault.takes(&cast, offline));
    let mut heads = vec![written_whole, difference];
    heads.sort_unstable();
    assert_eq!(vault.heads(record(1)), heads);
    // Who has seen the whole write builds on it, and not on what it replaced.
    let aware = bob.data(&vault.log, &[delta(record(1), &[base], &payload(4))]);
    vault.refuses(&cast, &aware, Refusal::UnknownDependency { index: 0 });
}

#[test]
fn who_wrote_a_record_whole_knows_what_it_replaced() {
    let (cast, ana, _, mut vault) = story();
    let base = [vault.writes(&cast, &ana, record(1), 1)];
    let body = payload(2);
    let bytes = ana.data(&vault.log, &[whole(record(1), &base, &body), delta(record(1), &base, &body)]);
    vault.refuses(&cast, &bytes, Refusal::UnknownDependency { index: 1 });
}

#[test]
fn changes_of_one_entry_follow_each_other() {
    let (cast, ana, _, mut vault) = story();
    let body = payload(1);
    // The id of a change does not depend on what comes after it, so it can be known before the entry is signed.
    let first = {
        let bytes = ana.data(&vault.log, &[delta(record(1), &[], &body)]);
        only_change(&vault.clone().takes(&cast, bytes))
    };
    let second = {
        let bytes = ana.data(&vault.log, &[delta(record(1), &[], &body), delta(record(1), &[first], &body)]);
        let What::Changed { changes, .. } = vault.clone().takes(&cast, bytes).what else { unreachable!() };
        changes[1].id
    };
    let (on_first, on_second) = ([first], [second]);
    let all = [
        delta(record(1), &[], &body),
        delta(record(1), &on_first, &body),
        whole(record(1), &on_second, &body),
        delta(record(2), &[], &body),
    ];
    let ids = writes(&mut vault, &cast, &ana, &all);
    assert_eq!(ids[..2], [first, second]);
    let mut expected = vec![ids[2], ids[3]];
    expected.sort_unstable();
    let mut found = live(&vault);
    found.sort_unstable();
    assert_eq!(found, expected);

    // Out of order it is refused, whole.
    let again = ana.data(&vault.log, &[delta(record(3), &[], &body), delta(record(3), &[ids[1]], &body)]);
    vault.refuses(&cast, &again, Refusal::UnknownDependency { index: 1 });
}

#[test]
fn what_was_made_on_top_of_a_conflict_is_part_of_it() {
    let (cast, ana, _, mut vault) = story();
    let first = vault.writes(&cast, &ana, record(1), 1);
    let (body, on_first) = (payload(2), [first]);
    let base = whole(record(1), &on_first, &body);
    let bytes = ana.data(&vault.log, &[base]);
    let top = [only_change(&vault.clone().takes(&cast, bytes))];
    let meanwhile = vault.log.clone();
    let second = vault.writes(&cast, &ana, record(1), 3);
    let mut header = ana.header(&vault.log);
    header.seen = meanwhile.head();
    let body = Data::write(&[base, delta(record(1), &top, &body)]).unwrap();
    let late = ana.sign(&header, Kind::Data, &body);
    vault.refuses(&cast, &late, Refusal::Conflict(vec![Conflict { record: record(1), heads: vec![second] }]));
}

#[test]
fn mal_052_a_payload_that_was_not_signed_is_refused() {
    let (cast, ana, _, vault) = story();
    let (one, two) = (payload(1), payload(2));
    let bytes = ana.data(&vault.log, &[whole(record(1), &[], &one), whole(record(2), &[], &two)]);
    let entry = Entry::parse(&bytes).unwrap();
    let offer = |payloads: &[Option<&[u8]>]| {
        let mut log = vault.log.clone();
        let result = log.apply(&entry, Beside::Payloads(payloads), &cast.logs).map(|_| ());
        assert!(result.is_ok() || log == vault.log);
        result
    };
    assert_eq!(offer(&[Some(&one), Some(&two)]), Ok(()));
    assert_eq!(offer(&[None, Some(&two)]), Ok(()), "pruned payloads do not come");
    assert_eq!(offer(&[Some(&two), Some(&one)]), Err(Refusal::WrongPayload { index: 0 }));
    assert_eq!(offer(&[Some(&one), Some(&two[1..])]), Err(Refusal::WrongPayload { index: 1 }));
    assert!(matches!(offer(&[Some(&one)]), Err(Refusal::Malformed(_))));
    assert!(matches!(offer(&[Some(&one), Some(&two), None]), Err(Refusal::Malformed(_))));
    // The length is signed apart from the hash, and must be right too.
    let mut body = Data::write(&[whole(record(1), &[], &one)]).unwrap();
    body[20..24].copy_from_slice(&105u32.to_be_bytes());
    let longer = ana.sign(&ana.header(&vault.log), Kind::Data, &body);
    let refused =
        vault.log.check(&Entry::parse(&longer).unwrap(), Beside::Payloads(&[Some(&one)]), &cast.logs).unwrap_err();
    assert_eq!(refused, Refusal::WrongPayload { index: 0 });
    let mut log = vault.log.clone();
    assert!(matches!(log.apply(&entry, Beside::Note(&[]), &cast.logs), Err(Refusal::Malformed(_))));
}

#[test]
fn mal_054_a_live_change_without_its_payload_is_withheld() {
    let (cast, ana, _, mut vault) = story();
    let gone = vault.writes(&cast, &ana, record(1), 1);
    let kept = vault.writes(&cast, &ana, record(1), 2);
    let other = vault.writes(&cast, &ana, record(2), 2);
    assert_eq!(vault.log.check_payloads(|_, id| *id != gone), Ok(()), "superseded payloads may be pruned");
    for live in [kept, other] {
        assert_eq!(vault.log.check_payloads(|_, id| *id != live), Err(Refusal::Withheld(vec![live])));
    }
}
