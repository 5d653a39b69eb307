//! What a server can try with the entries it was given: drop, reorder, replay, roll back, fork, bend.

use super::cast::{Cast, Device, Vault, payload, record, rotate, whole};
use selkie_protocol::Face;
use selkie_protocol::cipher::SigningKey;
use selkie_protocol::hash::Label;
use selkie_protocol::id::{Incarnation, VaultId};
use selkie_protocol::log::{Beside, Control, Entry, Extends, Head, Kind, Promises, Refusal, Role, VaultLog, signed};
use selkie_protocol::log::{CLOCKS_MS, SIGNED_HEAD_LENGTH, SignedHead};

/// Ana, Bob and Carol write in turns; each has seen everything before.
fn story() -> (Cast, [Device; 3], Vault) {
    let mut cast = Cast::default();
    let [ana, bob, carol] = [1, 2, 3].map(|number| cast.person(number));
    let mut vault = Vault::create(&cast, &ana);
    vault.does(&cast, &ana, &cast.add(bob.user, Role::Editor));
    vault.does(&cast, &ana, &cast.add(carol.user, Role::Editor));
    for round in 0..3 {
        for (number, device) in [(1, &ana), (2, &bob), (3, &carol)] {
            vault.writes(&cast, device, record(number), round);
        }
    }
    (cast, [ana, bob, carol], vault)
}

/// A reader who begins with CREATE and takes entries until one is refused.
fn read<'a>(cast: &Cast, entries: impl IntoIterator<Item = &'a Vec<u8>>) -> (VaultLog, Result<(), Refusal>) {
    let mut entries = entries.into_iter();
    let create = entries.next().unwrap();
    let (mut log, _) = VaultLog::create(&Entry::parse(create).unwrap(), &cast.logs).unwrap();
    for bytes in entries {
        if let Err(refusal) = log.apply(&Entry::parse(bytes).unwrap(), Beside::Nothing, &cast.logs) {
            return (log, Err(refusal));
        }
    }
    (log, Ok(()))
}

#[test]
fn an_honest_log_is_read_by_everybody_to_the_same_end() {
    let (cast, _, vault) = story();
    let (log, result) = read(&cast, &vault.entries);
    assert_eq!(result, Ok(()));
    assert!(log == vault.log);
}

#[test]
fn mal_043_a_dropped_entry_is_noticed_at_the_next_one() {
    let (cast, _, vault) = story();
    for drop in 1..vault.entries.len() - 1 {
        let mut entries = vault.entries.clone();
        entries.remove(drop);
        let (log, result) = read(&cast, &entries);
        // The very next entry was made by somebody who had seen the one that is missing.
        assert_eq!(log.head().n, drop as u64, "without entry {drop}");
        let refusal = result.unwrap_err();
        assert!(
            matches!(
                refusal,
                Refusal::BadSeen { .. }
                    | Refusal::Fork { .. }
                    | Refusal::DeviceSequence { .. }
                    | Refusal::StaleControl
                    | Refusal::NotAMember
            ),
            "without entry {drop}: {refusal:?}"
        );
    }
}

#[test]
fn mal_043_a_dropped_entry_is_noticed_whoever_and_however_many_write() {
    for devices in 1..=4_u8 {
        let mut cast = Cast::default();
        let people: Vec<Device> = (1..=devices).map(|number| cast.person(number)).collect();
        let mut vault = Vault::create(&cast, &people[0]);
        for person in &people[1..] {
            vault.does(&cast, &people[0], &cast.add(person.user, Role::Editor));
        }
        for round in 0..4 {
            for (number, device) in (0..).zip(&people) {
                vault.writes(&cast, device, record(number), round);
            }
        }
        for drop in 1..vault.entries.len() {
            let mut entries = vault.entries.clone();
            entries.remove(drop);
            let (log, result) = read(&cast, &entries);
            assert_eq!(log.head().n, drop as u64, "{devices} devices, without entry {drop}");
            if drop < vault.entries.len() - 1 {
                assert!(result.is_err(), "{devices} devices, without entry {drop}");
                continue;
            }
            // Nothing follows the last one, so it is its author who misses it.
            let mut promises = Promises::default();
            let hash = Entry::parse(&vault.entries[drop]).unwrap().hash();
            promises.acknowledged(vault.log.head().n, hash, &log).unwrap();
            assert!(matches!(promises.all_kept(&log), Err(Refusal::Rollback { .. })), "{devices} devices");
        }
    }
}

#[test]
fn mal_045_only_orders_that_nobodys_view_contradicts_pass() {
    let (cast, [ana, bob, carol], vault) = story();
    // Five entries: Ana and Bob write at once, Carol having seen nothing of it; then Ana and Bob once more, each having
    // seen only what they had.
    let start = vault.log.clone();
    let base = vault.log.core();
    let sign = |device: &Device, seq: u64, prev: Option<&Vec<u8>>| {
        let mut header = base.next_header(device.user, device.id(), 0, seq);
        if let Some(prev) = prev {
            header.dev_seq += 1;
            header.dev_prev = Entry::parse(prev).unwrap().hash();
        }
        device.sign(&header, Kind::Heartbeat, &[])
    };
    let (a1, b1, c1) = (sign(&ana, 1, None), sign(&bob, 1, None), sign(&carol, 1, None));
    let (a2, b2) = (sign(&ana, 2, Some(&a1)), sign(&bob, 2, Some(&b1)));
    let all = [a1, a2, b1, b2, c1];
    let mut passed = 0;
    for order in permutations(5) {
        let mut log = start.clone();
        let taken =
            order.iter().all(|at| log.apply(&Entry::parse(&all[*at]).unwrap(), Beside::Nothing, &cast.logs).is_ok());
        let place = |of: usize| order.iter().position(|at| *at == of).unwrap();
        let consistent = place(0) < place(1) && place(2) < place(3);
        assert_eq!(taken, consistent, "{order:?}");
        passed += usize::from(taken);
    }
    assert_eq!(passed, 30, "5! / (2! 2!)");
}

#[test]
fn mal_045_entries_whose_authors_saw_each_other_stay_in_order() {
    let (cast, _, vault) = story();
    for first in 1..vault.entries.len() - 1 {
        let mut entries = vault.entries.clone();
        entries.swap(first, first + 1);
        let (log, result) = read(&cast, &entries);
        assert!(result.is_err() && log.head().n == first as u64, "{first} and the next");
    }
}

fn permutations(n: usize) -> Vec<Vec<usize>> {
    if n == 0 {
        return vec![Vec::new()];
    }
    let smaller = permutations(n - 1);
    smaller
        .iter()
        .flat_map(|order| {
            (0..n).map(|place| {
                let mut order = order.clone();
                order.insert(place, n - 1);
                order
            })
        })
        .collect()
}

#[test]
fn mal_046_an_entry_is_taken_once_and_in_one_vault() {
    let (cast, [ana, ..], vault) = story();
    let mut other = Vault::create_with(&cast, &ana, 8);
    other.takes(&cast, ana.heartbeat(&other.log));
    for (at, bytes) in vault.entries.iter().enumerate().skip(1) {
        let refusal = vault.clone().push(&cast, bytes.clone()).unwrap_err();
        let last = at + 3 >= vault.entries.len();
        match refusal {
            Refusal::Repeated { n } => assert!(last && n == at as u64 + 1, "{at}"),
            Refusal::DeviceSequence { .. } => assert!(!last, "{at}"),
            other => panic!("{at}: {other:?}"),
        }
        other.refuses(&cast, bytes, Refusal::OtherVault);
    }
    vault.refuses(&cast, &vault.entries[0], Refusal::OtherVault);
}

#[test]
fn mal_047_an_earlier_head_is_a_rollback() {
    let (cast, _, vault) = story();
    let known = vault.log.head();
    for length in 1..vault.entries.len() {
        let (log, _) = read(&cast, &vault.entries[..length]);
        let mut promises = Promises::default();
        promises.seen(known, &log).unwrap();
        let offered = length as u64;
        assert_eq!(promises.all_kept(&log), Err(Refusal::Rollback { known: known.n, offered }));
        // It heals as soon as the rest is delivered.
        let mut log = log;
        for bytes in &vault.entries[length..] {
            let effects = log.apply(&Entry::parse(bytes).unwrap(), Beside::Nothing, &cast.logs).unwrap();
            promises.check(&effects).unwrap();
        }
        assert_eq!(promises.all_kept(&log), Ok(()));
    }
}

#[test]
fn mal_047_a_restart_makes_nobody_forget_how_far_the_log_was() {
    let (cast, _, vault) = story();
    let known = vault.log.head();
    for offered in 1..known.n {
        // What a client writes down: its own state and what it was promised beyond it.
        let (behind, _) = read(&cast, &vault.entries[..offered as usize]);
        let mut promises = Promises::default();
        promises.seen(known, &behind).unwrap();
        for face in [Face::Cbor, Face::Json] {
            let (state, promised) = (face.encode(&behind.snapshot()), face.encode(&promises));
            let log = VaultLog::resume(&face.decode(&state).unwrap()).unwrap();
            let promises: Promises = face.decode(&promised).unwrap();
            assert_eq!(promises.all_kept(&log), Err(Refusal::Rollback { known: known.n, offered }));
        }
        // And one that had read everything is offered less than it has.
        let state = vault.log.snapshot();
        let log = VaultLog::resume(&state).unwrap();
        assert_eq!(behind.compare(&log.head()), Extends::Shorter);
        assert_eq!(log.compare(&behind.head()), Extends::Yes, "what is offered is a part of it, and old");
    }
}

#[test]
fn mal_048_two_forks_do_not_join() {
    let (cast, [ana, bob, _], vault) = story();
    // Ana and Bob are shown different entries at the same position.
    let (mut left, mut right) = (vault.clone(), vault);
    let in_flight = bob.heartbeat(&left.log);
    left.writes(&cast, &ana, record(1), 50);
    right.takes(&cast, in_flight.clone());
    let forked = right.log.head();
    // What was on its way when the fork began knows nothing of it, and is taken once.
    left.takes(&cast, in_flight);
    let next = bob.heartbeat(&right.log);
    left.refuses(&cast, &next, Refusal::Fork { n: forked.n });
    right.takes(&cast, next);
    // Nor the other way: Ana's next entry follows one that the right side was not shown.
    right.refuses(&cast, &ana.heartbeat(&left.log), Refusal::DeviceSequence { expected: 7, found: 8 });
    // And by word of another device.
    let mut promises = Promises::default();
    assert_eq!(promises.seen(forked, &left.log), Err(Refusal::Fork { n: forked.n }));
}

#[test]
fn mal_049_an_acknowledged_entry_stands_where_it_was_said_to() {
    let (cast, [ana, bob, _], vault) = story();
    let mine = ana.heartbeat(&vault.log);
    let n = vault.log.head().n + 1;
    let hash = Entry::parse(&mine).unwrap().hash();
    let mut promises = Promises::default();
    promises.acknowledged(n, hash, &vault.log).unwrap();
    // Another entry comes at that position.
    let mut moved = vault.clone();
    let effects = moved.takes(&cast, bob.heartbeat(&vault.log));
    assert_eq!(promises.clone().check(&effects), Err(Refusal::Fork { n }));
    // Or nothing comes at all.
    assert_eq!(promises.all_kept(&vault.log), Err(Refusal::Rollback { known: n, offered: n - 1 }));
    // An honest server delivers it.
    let mut kept = vault.clone();
    let effects = kept.takes(&cast, mine);
    promises.check(&effects).unwrap();
    assert_eq!(promises.all_kept(&kept.log), Ok(()));
    // A head that another device wrote down is held against what comes, too.
    let mut gossip = Promises::default();
    gossip.seen(Head { n, h: [7; 32] }, &vault.log).unwrap();
    assert_eq!(gossip.check(&effects), Err(Refusal::Fork { n }));
    // The answer may be slower than the pull.
    assert_eq!(Promises::default().acknowledged(n, hash, &kept.log), Ok(()));
    assert_eq!(Promises::default().acknowledged(n, [0; 32], &kept.log), Err(Refusal::Fork { n }));
}

#[test]
fn mal_050_two_promises_for_one_position_contradict_each_other() {
    let (_, _, vault) = story();
    let mut promises = Promises::default();
    let n = vault.log.head().n + 5;
    promises.seen(Head { n, h: [1; 32] }, &vault.log).unwrap();
    promises.seen(Head { n, h: [1; 32] }, &vault.log).unwrap();
    assert_eq!(promises.seen(Head { n, h: [2; 32] }, &vault.log), Err(Refusal::Fork { n }));
    promises.acknowledged(n, [3; 32], &vault.log).unwrap();
    assert_eq!(promises.acknowledged(n, [4; 32], &vault.log), Err(Refusal::Fork { n }));
}

#[test]
fn mal_050_signed_heads_prove_that_a_server_equivocated_and_nothing_else_does() {
    let server = SigningKey::from_seed(&[3; 32]);
    let (_, _, vault) = story();
    let (life, name) = (Incarnation([1; 16]), vault.log.core().vault());
    let say = |incarnation, vault, n, h, unix_ms| {
        let head = Head { n, h };
        let signature = server.sign(Label::HEAD, &[&SignedHead::signed_bytes(&incarnation, &vault, &head, unix_ms)]);
        let bytes = SignedHead { incarnation, vault, head, unix_ms, signature }.to_bytes();
        assert_eq!(bytes.len(), SIGNED_HEAD_LENGTH);
        let said = SignedHead::parse(&bytes).unwrap();
        assert!(said.is_signed_by(&server.public_key()));
        said
    };
    let noon = 10 * CLOCKS_MS;
    let said = say(life, name, 7, [7; 32], noon);
    let proofs = [
        say(life, name, 7, [8; 32], noon - 50),
        say(life, name, 6, [6; 32], noon + CLOCKS_MS + 1),
        say(life, name, 8, [6; 32], noon - CLOCKS_MS - 1),
    ];
    for proof in proofs {
        assert!(said.contradicts(&proof) && proof.contradicts(&said), "{proof:?}");
    }
    let innocent = [
        say(life, name, 7, [7; 32], 2 * noon),
        say(life, name, 8, [8; 32], 2 * noon),
        // An honest server of two processes, one of whose clocks is ahead of the other's.
        say(life, name, 6, [6; 32], noon + CLOCKS_MS),
        say(life, name, 8, [8; 32], noon - CLOCKS_MS),
        say(life, VaultId([2; 32]), 7, [8; 32], 2 * noon),
        say(Incarnation([2; 16]), name, 6, [6; 32], 2 * noon),
    ];
    for other in innocent {
        assert!(!said.contradicts(&other) && !other.contradicts(&said), "{other:?}");
    }
    let bytes = said.to_bytes();
    for bit in 0..bytes.len() * 8 {
        let mut bent = bytes.clone();
        bent[bit / 8] ^= 1 << (bit % 8);
        assert!(!SignedHead::parse(&bent).unwrap().is_signed_by(&server.public_key()), "bit {bit}");
    }
    assert!(SignedHead::parse(&bytes[1..]).is_err() && SignedHead::parse(&[&bytes[..], &[0]].concat()).is_err());
}

#[test]
fn mal_032_a_removed_members_device_writes_nothing_even_with_the_right_chain() {
    let (cast, [ana, bob, _], mut vault) = story();
    vault.does(&cast, &ana, &rotate(&vault.log, &[&bob]));
    // Bob colludes with the server and is shown everything.
    vault.refuses(&cast, &bob.heartbeat(&vault.log), Refusal::NotAMember);
    vault.refuses_to(&cast, &bob, &cast.move_anchor(bob.user), Refusal::NotAMember);
}

#[test]
fn mal_032_a_hidden_removal_splits_the_log_for_good() {
    let (cast, [ana, bob, carol], vault) = story();
    // Carol is not shown that Bob was removed, and goes on reading him.
    let (mut all, mut hidden) = (vault.clone(), vault);
    all.does(&cast, &ana, &rotate(&all.log, &[&bob]));
    hidden.writes(&cast, &bob, record(2), 60);
    let n = all.log.head().n;
    all.writes(&cast, &ana, record(1), 60);
    // From now on nothing of Ana's can be shown to Carol, and nothing of Carol's to Ana.
    hidden.refuses(&cast, all.entries.last().unwrap(), Refusal::DeviceSequence { expected: 7, found: 8 });
    let late = carol.heartbeat(&hidden.log);
    all.refuses(&cast, &late, Refusal::Fork { n });
    assert_eq!(Promises::default().seen(all.log.head(), &hidden.log), Ok(()), "further than Carol is");
    hidden.takes(&cast, late);
    let refused = Promises::default().seen(all.log.head(), &hidden.log);
    assert_eq!(refused, Err(Refusal::Fork { n: n + 1 }));
}

#[test]
fn mal_033_dropping_the_last_control_entry_is_a_rollback_or_a_fork() {
    let (cast, [ana, bob, carol], mut vault) = story();
    let before = vault.clone();
    vault.does(&cast, &ana, &rotate(&vault.log, &[&bob]));
    let known = vault.log.head();
    // Carol has seen the removal; the server serves her the log without it.
    let mut promises = Promises::default();
    promises.seen(known, &before.log).unwrap();
    let offered = known.n - 1;
    assert_eq!(promises.all_kept(&before.log), Err(Refusal::Rollback { known: known.n, offered }));
    let mut without = before;
    without.writes(&cast, &bob, record(2), 70);
    let effects_head = without.log.head();
    assert_eq!(effects_head.n, known.n);
    assert_eq!(promises.clone().seen(effects_head, &vault.log), Err(Refusal::Fork { n: known.n }));
    without.refuses(&cast, &carol.heartbeat(&vault.log), Refusal::Fork { n: known.n });
}

#[test]
fn mal_022_no_other_signature_of_a_device_passes_for_an_entry() {
    let (cast, [ana, ..], vault) = story();
    let unsigned = ana.header(&vault.log).with_body(Kind::Heartbeat, &[]);
    for label in Label::ALL {
        let bytes = signed(unsigned.clone(), &ana.key.sign(*label, &[&unsigned]));
        let result = vault.clone().push(&cast, bytes).map(|_| ());
        if *label == Label::VAULT_ENTRY_SIG {
            assert_eq!(result, Ok(()));
        } else {
            assert_eq!(result, Err(Refusal::Forged), "{label:?}");
        }
    }
}

#[test]
fn mal_052_every_bit_of_an_entry_matters() {
    let (cast, [ana, ..], vault) = story();
    let heads = vault.heads(record(1));
    let samples = [
        ana.data(&vault.log, &[whole(record(1), &heads, &payload(9))]),
        ana.control(&vault.log, &rotate(&vault.log, &[])),
        ana.checkpoint(&vault.log),
        ana.heartbeat(&vault.log),
    ];
    // CREATE is its own name: bent, it makes another vault or none.
    let create = &vault.entries[0];
    for bit in 0..create.len() * 8 {
        let mut bent = create.clone();
        bent[bit / 8] ^= 1 << (bit % 8);
        let Ok(entry) = Entry::parse(&bent) else { continue };
        assert!(VaultLog::create(&entry, &cast.logs).is_err(), "bit {bit} of CREATE");
    }
    for sample in samples {
        for bit in 0..sample.len() * 8 {
            let mut bent = sample.clone();
            bent[bit / 8] ^= 1 << (bit % 8);
            // `push` sees to it that the log is as it was.
            assert!(vault.clone().push(&cast, bent).is_err(), "bit {bit} of {}", sample.len());
        }
    }
}

#[test]
fn mal_057_nothing_is_written_in_anybodys_name() {
    let (mut cast, [ana, bob, _], mut vault) = story();
    let viewer = cast.person(4);
    vault.does(&cast, &ana, &cast.add(viewer.user, Role::Viewer));
    let body = payload(1);
    let change = [whole(record(9), &[], &body)];
    let data = selkie_protocol::log::Data::write(&change).unwrap();
    // By the server alone, by a viewer in Bob's name, by a viewer in their own.
    let unsigned = bob.header(&vault.log).with_body(Kind::Data, &data);
    let by_nobody = signed(unsigned, &selkie_protocol::sign::Signature([0; 64]));
    vault.refuses(&cast, &by_nobody, Refusal::Forged);
    vault.refuses(&cast, &viewer.sign(&bob.header(&vault.log), Kind::Data, &data), Refusal::Forged);
    let denied = Refusal::NotAllowed(selkie_protocol::log::Denied::Role);
    vault.refuses(&cast, &viewer.data(&vault.log, &change), denied);
}

#[test]
fn mal_058_dependencies_are_signed() {
    let (cast, [ana, bob, _], mut vault) = story();
    let heads = vault.heads(record(1));
    let late = bob.data(&vault.log, &[whole(record(1), &heads, &payload(1))]);
    vault.writes(&cast, &ana, record(1), 80);
    // The server makes Bob's late write follow what is there now.
    let now = vault.heads(record(1))[0];
    let mut bent = late.clone();
    let at = bent.windows(32).position(|window| window == heads[0].0).unwrap();
    bent[at..at + 32].copy_from_slice(&now.0);
    vault.refuses(&cast, &bent, Refusal::Forged);
}

#[test]
fn mal_060_two_vaults_in_one_answer_are_not_mixed_up() {
    let (cast, [ana, ..], mut one) = story();
    let mut two = Vault::create_with(&cast, &ana, 8);
    for _ in 0..3 {
        let (first, second) = (ana.heartbeat(&one.log), ana.heartbeat(&two.log));
        one.refuses(&cast, &second, Refusal::OtherVault);
        two.refuses(&cast, &first, Refusal::OtherVault);
        one.takes(&cast, first);
        two.takes(&cast, second);
    }
}

#[test]
fn mal_062_a_restored_server_is_refilled_with_what_it_had_and_nothing_else() {
    let (cast, [ana, ..], vault) = story();
    let (restored, _) = read(&cast, &vault.entries[..8]);
    let offer = |log: &VaultLog, bytes: &[u8]| {
        let mut log = log.clone();
        log.apply(&Entry::parse(bytes).unwrap(), Beside::Nothing, &cast.logs).map(|_| log)
    };
    // Refilled, the chain is the same byte for byte.
    let mut log = restored.clone();
    for bytes in &vault.entries[8..] {
        log = offer(&log, bytes).unwrap();
    }
    assert!(log == vault.log);
    // Only the very next entry fits.
    for bytes in &vault.entries[9..] {
        assert!(offer(&restored, bytes).is_err());
    }
    // After anything new, the first of the old tail is like any entry that was on its way; the others are lost.
    let other = offer(&restored, &ana.heartbeat(&restored)).unwrap();
    let (on_its_way, lost) = vault.entries[8..].split_first().unwrap();
    let other = offer(&other, on_its_way).unwrap();
    for bytes in lost {
        assert!(offer(&other, bytes).is_err());
    }
}

#[test]
fn an_owners_reset_is_judged_by_who_is_ahead_of_it() {
    let (cast, [ana, bob, _], vault) = story();
    // The server was restored to position 8; Carol stands at 12.
    let (restored, _) = read(&cast, &vault.entries[..8]);
    let reset = ana.control(&restored, &Control::ResetTail { n: 8 });
    let by_ana = Entry::parse(&reset).unwrap();
    assert_eq!(vault.log.judge_reset(&by_ana, &cast.logs), Ok(4));
    let by_bob = bob.control(&restored, &Control::ResetTail { n: 8 });
    let by_bob = Entry::parse(&by_bob).unwrap();
    assert!(matches!(vault.log.judge_reset(&by_bob, &cast.logs), Err(Refusal::NotAllowed(_))));
    let mut header = by_ana.header.clone();
    header.seen.h[0] ^= 1;
    let elsewhere = ana.sign(&header, Kind::Control, &Control::ResetTail { n: 8 }.to_bytes());
    let refused = vault.log.judge_reset(&Entry::parse(&elsewhere).unwrap(), &cast.logs);
    assert_eq!(refused, Err(Refusal::Fork { n: 8 }));
    let forged = bob.sign(&by_ana.header, Kind::Control, &Control::ResetTail { n: 8 }.to_bytes());
    let refused = vault.log.judge_reset(&Entry::parse(&forged).unwrap(), &cast.logs);
    assert_eq!(refused, Err(Refusal::Forged));
    let heartbeat = ana.heartbeat(&vault.log);
    assert!(vault.log.judge_reset(&Entry::parse(&heartbeat).unwrap(), &cast.logs).is_err());
    // Who stands at 8 simply takes it.
    let mut log = restored;
    log.apply(&by_ana, Beside::Nothing, &cast.logs).unwrap();
}
