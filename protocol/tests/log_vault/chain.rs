//! Where an entry may stand: device chains, what the author had seen, membership and epoch.

use super::cast::{Cast, Device, Vault, payload, record, rotate, whole};
use selkie_protocol::account_log::Payload;
use selkie_protocol::log::{
    Body, Data, Denied, Entry, Extends, Head, Header, Kind, Refusal, Role, VaultLog, WINDOW, chain,
};

/// Ana owns a vault, Bob edits in it.
fn story() -> (Cast, Device, Device, Vault) {
    let mut cast = Cast::default();
    let (ana, bob) = (cast.person(1), cast.person(2));
    let mut vault = Vault::create(&cast, &ana);
    vault.does(&cast, &ana, &cast.add(bob.user, Role::Editor));
    (cast, ana, bob, vault)
}

/// Offers a heartbeat whose header was bent.
#[track_caller]
fn refuses(cast: &Cast, vault: &Vault, device: &Device, bend: impl Fn(&mut Header), reason: Refusal) {
    let mut header = device.header(&vault.log);
    bend(&mut header);
    vault.refuses(cast, &device.sign(&header, Kind::Heartbeat, &[]), reason);
}

#[test]
fn the_chain_is_what_the_book_says() {
    let (cast, ana, _, mut vault) = story();
    vault.writes(&cast, &ana, record(1), 1);
    let mut h = vault.log.core().vault().0;
    for (at, bytes) in vault.entries.iter().enumerate() {
        h = chain(&h, at as u64 + 1, &Entry::parse(bytes).unwrap().hash());
    }
    assert_eq!(vault.log.head(), Head { n: 3, h });
}

#[test]
fn a_vault_begins_with_create_and_is_named_by_it() {
    let (cast, ana, _, vault) = story();
    let create = Entry::parse(&vault.entries[0]).unwrap();
    assert_eq!(create.creates(), Some(vault.log.core().vault()));
    let second = Entry::parse(&vault.entries[1]).unwrap();
    assert_eq!(VaultLog::create(&second, &cast.logs).unwrap_err(), Refusal::NotCreate);
    assert_eq!(second.creates(), None);
    vault.refuses(&cast, &ana.create(&cast, 8), Refusal::OtherVault);
}

#[test]
fn mal_024_a_vault_cannot_be_given_another_name() {
    let (cast, ana, _, vault) = story();
    let other = Vault::create_with(&cast, &ana, 8);
    assert_ne!(other.log.core().vault(), vault.log.core().vault());
    // Every byte of CREATE is in the name, so another creator, key or app makes another vault.
    let create = vault.entries[0].clone();
    for at in (0..create.len() - 64).step_by(7) {
        let mut bent = create.clone();
        bent[at] ^= 1;
        if let Ok(entry) = Entry::parse(&bent) {
            assert_ne!(entry.creates(), Some(vault.log.core().vault()), "byte {at}");
            assert!(VaultLog::create(&entry, &cast.logs).is_err(), "byte {at}");
        }
    }
}

#[test]
fn the_creator_must_be_who_the_account_log_says() {
    let mut cast = Cast::default();
    let ana = cast.person(1);
    let create = |cast: &Cast, bytes: &[u8]| VaultLog::create(&Entry::parse(bytes).unwrap(), &cast.logs).map(|_| ());
    let bytes = ana.create(&cast, 7);
    assert_eq!(create(&cast, &bytes), Ok(()));
    let needed = Refusal::AccountLogNeeded { user: ana.user, index: 1 };
    assert_eq!(create(&Cast::default(), &bytes), Err(needed));
    assert_eq!(create(&cast.forked(1), &bytes), Err(Refusal::NotCertified));
    cast.revoke(&ana);
    assert_eq!(create(&cast, &bytes), Ok(()), "revoked later than its anchor");
    let later = ana.create(&cast, 7);
    assert_eq!(create(&cast, &later), Err(Refusal::NotCertified));
}

#[test]
fn an_entry_of_another_vault_is_refused() {
    let (cast, ana, _, vault) = story();
    let other = Vault::create_with(&cast, &ana, 8);
    vault.refuses(&cast, &ana.heartbeat(&other.log), Refusal::OtherVault);
}

#[test]
fn a_stranger_writes_nothing() {
    let (mut cast, _, _, vault) = story();
    let eve = cast.person(3);
    vault.refuses(&cast, &eve.heartbeat(&vault.log), Refusal::NotAMember);
}

#[test]
fn without_the_authors_account_log_nothing_is_believed() {
    let (mut cast, ana, bob, vault) = story();
    let bytes = bob.heartbeat(&vault.log);
    cast.logs.remove(&bob.user);
    vault.refuses(&cast, &bytes, Refusal::AccountLogNeeded { user: bob.user, index: 1 });
    assert!(vault.clone().push(&cast, ana.heartbeat(&vault.log)).is_ok(), "others are not held up");
}

#[test]
fn mal_021_a_device_signs_for_itself_alone() {
    let (mut cast, ana, bob, vault) = story();
    let phone = cast.device(bob.user, 20);
    // Certified, but after the anchor that the vault knows.
    vault.refuses(&cast, &phone.heartbeat(&vault.log), Refusal::NotCertified);
    // Signed by Ana's key under Bob's device id.
    let bytes = ana.sign(&bob.header(&vault.log), Kind::Heartbeat, &[]);
    vault.refuses(&cast, &bytes, Refusal::Forged);
}

#[test]
fn mal_023_the_user_must_own_the_device() {
    let (cast, ana, bob, vault) = story();
    let mut header = bob.header(&vault.log);
    header.user = ana.user;
    vault.refuses(&cast, &bob.sign(&header, Kind::Heartbeat, &[]), Refusal::NotCertified);
}

#[test]
fn a_device_counts_from_its_owners_anchor_and_ends_there() {
    let (mut cast, _, bob, mut vault) = story();
    let phone = cast.device(bob.user, 20);
    vault.refuses(&cast, &phone.heartbeat(&vault.log), Refusal::NotCertified);
    // A new device introduces itself: its first entry is the anchor that covers it.
    vault.does(&cast, &phone, &cast.move_anchor(bob.user));
    vault.takes(&cast, phone.heartbeat(&vault.log));

    cast.revoke(&bob);
    vault.takes(&cast, bob.heartbeat(&vault.log));
    // A revoked device cannot move the anchor past its own end.
    vault.refuses_to(&cast, &bob, &cast.move_anchor(bob.user), Refusal::NotCertified);
    vault.does(&cast, &phone, &cast.move_anchor(bob.user));
    vault.refuses(&cast, &bob.heartbeat(&vault.log), Refusal::NotCertified);
    vault.takes(&cast, phone.heartbeat(&vault.log));
}

#[test]
fn mal_020_an_account_log_that_is_shorter_than_the_anchor_certifies_nobody() {
    let (mut cast, _, bob, mut vault) = story();
    let before = cast.clone();
    let phone = cast.device(bob.user, 20);
    cast.revoke(&bob);
    vault.does(&cast, &phone, &cast.move_anchor(bob.user));
    // Whoever is served the old account log again would still find Bob's first device in it.
    let bytes = bob.heartbeat(&vault.log);
    vault.refuses(&before, &bytes, Refusal::AccountLogNeeded { user: bob.user, index: 3 });
    vault.refuses(&cast, &bytes, Refusal::NotCertified);
}

#[test]
fn mal_018_an_account_log_that_parts_from_the_anchor_certifies_nobody() {
    let (mut cast, _, bob, mut vault) = story();
    let mut elsewhere = cast.clone();
    cast.says(bob.user, Payload::LoginName([1; 32]));
    elsewhere.says(bob.user, Payload::LoginName([2; 32]));
    vault.does(&cast, &bob, &cast.move_anchor(bob.user));
    let bytes = bob.heartbeat(&vault.log);
    vault.refuses(&elsewhere, &bytes, Refusal::AccountForked { user: bob.user });
    vault.takes(&cast, bytes);
}

#[test]
fn entries_of_a_device_have_no_gaps() {
    let (cast, ana, _, vault) = story();
    let bend = |seq: u64| move |header: &mut Header| header.dev_seq = seq;
    for found in [2, 4, u64::MAX] {
        let reason = Refusal::DeviceSequence { expected: 3, found };
        refuses(&cast, &vault, &ana, bend(found), reason);
    }
    refuses(&cast, &vault, &ana, |header| header.dev_prev[0] ^= 1, Refusal::DevicePrevious);
}

#[test]
fn a_new_device_begins_at_one() {
    let (cast, _, bob, vault) = story();
    let bend = |header: &mut Header| (header.dev_seq, header.dev_prev) = (2, [1; 32]);
    refuses(&cast, &vault, &bob, bend, Refusal::DeviceSequence { expected: 1, found: 2 });
}

#[test]
fn the_same_bytes_again_are_told_where_they_stand() {
    let (cast, ana, bob, mut vault) = story();
    let bytes = ana.heartbeat(&vault.log);
    vault.takes(&cast, bytes.clone());
    vault.takes(&cast, bob.heartbeat(&vault.log));
    vault.refuses(&cast, &bytes, Refusal::Repeated { n: 3 });
    // Other bytes under a used number are not the same entry.
    let entry = Entry::parse(&bytes).unwrap();
    let other = ana.sign(&Header { unix_ms: 5, ..entry.header }, Kind::Heartbeat, &[]);
    vault.refuses(&cast, &other, Refusal::DeviceSequence { expected: 4, found: 3 });
}

#[test]
fn nobody_has_seen_the_future() {
    let (cast, ana, _, vault) = story();
    for seen in [3, 4, u64::MAX] {
        refuses(&cast, &vault, &ana, |header| header.seen.n = seen, Refusal::BadSeen { seen, n: 3 });
    }
}

#[test]
fn who_was_shown_another_log_is_refused() {
    let (cast, ana, _, vault) = story();
    refuses(&cast, &vault, &ana, |header| header.seen.h[31] ^= 1, Refusal::Fork { n: 2 });
    refuses(&cast, &vault, &ana, |header| header.seen.n = 1, Refusal::Fork { n: 1 });
}

#[test]
fn whoever_looked_too_long_ago_must_look_again() {
    let (cast, ana, bob, mut vault) = story();
    let asleep = bob.heartbeat(&vault.log);
    for _ in 0..WINDOW {
        vault.takes(&cast, ana.heartbeat(&vault.log));
    }
    assert!(vault.clone().push(&cast, asleep.clone()).is_ok(), "exactly as long ago as is remembered");
    vault.takes(&cast, ana.heartbeat(&vault.log));
    vault.refuses(&cast, &asleep, Refusal::BadSeen { seen: 2, n: WINDOW + 4 });
    vault.takes(&cast, bob.heartbeat(&vault.log));
}

#[test]
fn a_write_made_under_another_membership_is_made_again() {
    let (mut cast, ana, bob, mut vault) = story();
    let eve = cast.person(3);
    let stale = bob.data(&vault.log, &[whole(record(1), &[], &payload(1))]);
    vault.does(&cast, &ana, &cast.add(eve.user, Role::Viewer));
    vault.refuses(&cast, &stale, Refusal::StaleControl);
    vault.writes(&cast, &bob, record(1), 1);
}

#[test]
fn mal_034_nothing_is_written_for_another_epoch() {
    let (cast, ana, bob, mut vault) = story();
    let stale = bob.data(&vault.log, &[whole(record(1), &[], &payload(1))]);
    vault.does(&cast, &ana, &rotate(&vault.log, &[]));
    // An honest late write names the membership it was made under.
    vault.refuses(&cast, &stale, Refusal::StaleControl);
    // A colluding author names the right membership and the wrong epoch.
    for epoch in [0, 1, 3, u32::MAX] {
        let reason = Refusal::StaleEpoch { current: 2, found: epoch };
        refuses(&cast, &vault, &bob, |header| header.epoch = epoch, reason);
    }
}

#[test]
fn mal_041_of_two_operations_made_at_once_one_is_taken() {
    let mut cast = Cast::default();
    let (ana, bob, eve) = (cast.person(1), cast.person(2), cast.person(3));
    let mut vault = Vault::create(&cast, &ana);
    vault.does(&cast, &ana, &cast.add(bob.user, Role::Owner));
    let of_ana = ana.control(&vault.log, &cast.add(eve.user, Role::Viewer));
    let of_bob = bob.control(&vault.log, &cast.add(eve.user, Role::Admin));
    vault.takes(&cast, of_ana);
    vault.refuses(&cast, &of_bob, Refusal::StaleControl);
    vault.refuses_to(&cast, &bob, &cast.add(eve.user, Role::Admin), Refusal::NotAllowed(Denied::AlreadyMember));
}

#[test]
fn a_confirmation_names_a_checkpoint_that_stands_there_and_was_seen() {
    let (cast, ana, bob, mut vault) = story();
    let none = Refusal::NotAllowed(Denied::NoSuchCheckpoint);
    refuses(&cast, &vault, &bob, |header| header.checkpoint_ok = 2, none.clone());
    vault.takes(&cast, ana.checkpoint(&vault.log));
    refuses(&cast, &vault, &bob, |header| header.checkpoint_ok = 4, none.clone());
    let unseen = |header: &mut Header| {
        (header.checkpoint_ok, header.seen) = (3, Head { n: 2, h: vault.log.trail().at(2).unwrap() });
    };
    refuses(&cast, &vault, &bob, unseen, none);

    let confirm = |device: &Device, vault: &Vault| {
        let header = Header { checkpoint_ok: 3, ..device.header(&vault.log) };
        device.sign(&header, Kind::Heartbeat, &[])
    };
    let effects = vault.takes(&cast, confirm(&ana, &vault));
    assert_eq!(effects.confirms, None, "nobody confirms what they wrote");
    let effects = vault.takes(&cast, confirm(&bob, &vault));
    assert_eq!(effects.confirms, Some(3));
    assert_eq!(vault.log.core().checkpoints()[0].confirmed_by, Some(bob.user));
    let effects = vault.takes(&cast, confirm(&bob, &vault));
    assert_eq!(effects.confirms, None, "once is enough");
}

#[test]
fn a_log_knows_its_own_past_as_far_as_it_remembers() {
    let (cast, ana, _, mut vault) = story();
    let at = |n: u64, h: [u8; 32]| Head { n, h };
    let second = vault.log.head();
    assert_eq!(vault.log.compare(&second), Extends::Yes);
    assert_eq!(vault.log.compare(&at(2, [0; 32])), Extends::Forked);
    assert_eq!(vault.log.compare(&at(3, [0; 32])), Extends::Shorter);
    for _ in 0..WINDOW {
        vault.takes(&cast, ana.heartbeat(&vault.log));
    }
    assert_eq!(vault.log.compare(&second), Extends::Yes);
    vault.takes(&cast, ana.heartbeat(&vault.log));
    assert_eq!(vault.log.compare(&second), Extends::Forgotten);
}

#[test]
fn a_step_is_for_the_state_it_was_made_from() {
    use selkie_protocol::log::Beside;
    let (cast, ana, bob, vault) = story();
    let mut log = vault.log;
    let (first, second) = (ana.heartbeat(&log), bob.heartbeat(&log));
    let check =
        |log: &VaultLog, bytes: &[u8]| log.check(&Entry::parse(bytes).unwrap(), Beside::Nothing, &cast.logs).unwrap();
    let (one, two) = (check(&log, &first), check(&log, &second));
    assert!(log.commit(one).is_ok());
    let before = log.clone();
    assert!(log.commit(two).is_err());
    assert!(log == before);
}

#[test]
fn the_header_of_the_next_entry_is_ready_to_be_signed() {
    let (cast, ana, _, mut vault) = story();
    let body = Data::write(&[whole(record(1), &[], &payload(1))]).unwrap();
    let bytes = ana.sign(&ana.header(&vault.log), Kind::Data, &body);
    vault.takes(&cast, bytes.clone());
    let entry = Entry::parse(&bytes).unwrap();
    assert!(matches!(entry.body, Body::Data(_)));
    assert_eq!(entry.header.dev_seq, 3);
}
