//! A server that is behind what it said: frozen, or honestly restored from a backup, and put right by those who have
//! the tail.

use super::cast::{Cast, Device, Vault, payload, record, whole};
use selkie_protocol::cipher::SigningKey;
use selkie_protocol::hash::Label;
use selkie_protocol::id::Incarnation;
use selkie_protocol::log::{
    Beside, CLOCKS_MS, Control, Entry, Extends, Frame, Head, Promises, Refusal, Role, SignedHead, Trail, VaultLog,
};

/// Ana owns a vault, Bob and Carol edit in it; everything is kept as frames.
struct Story {
    cast: Cast,
    ana: Device,
    bob: Device,
    vault: Vault,
    frames: Vec<Vec<u8>>,
}

fn story() -> Story {
    let mut cast = Cast::default();
    let [ana, bob, carol] = [1, 2, 3].map(|number| cast.person(number));
    let mut vault = Vault::create(&cast, &ana);
    vault.does(&cast, &ana, &cast.add(bob.user, Role::Editor));
    vault.does(&cast, &ana, &cast.add(carol.user, Role::Editor));
    let mut frames: Vec<Vec<u8>> = vault.entries.iter().map(|bytes| Frame::write(bytes, &[])).collect();
    for round in 0..4 {
        for (number, device) in [(1, &ana), (2, &bob), (3, &carol)] {
            let (sealed, heads) = (payload(round), vault.heads(record(number)));
            let bytes = device.data(&vault.log, &[whole(record(number), &heads, &sealed)]);
            frames.push(Frame::write(&bytes, &sealed));
            vault.takes(&cast, bytes);
        }
    }
    Story { cast, ana, bob, vault, frames }
}

/// The server's key, and what it says.
fn says(life: u8, log: &VaultLog, at: u64, unix_ms: u64) -> SignedHead {
    let server = SigningKey::from_seed(&[3; 32]);
    let (incarnation, vault) = (Incarnation([life; 16]), log.core().vault());
    let head = Head { n: at, h: log.trail().at(at).unwrap() };
    let said = SignedHead::signed_bytes(&incarnation, &vault, &head, unix_ms);
    SignedHead { incarnation, vault, head, unix_ms, signature: server.sign(Label::HEAD, &[&said]) }
}

/// A log that begins with CREATE and takes frames until one is refused.
fn read(cast: &Cast, frames: &[Vec<u8>]) -> Result<VaultLog, Refusal> {
    let create = Frame::parse(&frames[0]).unwrap();
    let (log, _) = VaultLog::create(&create.entry, &cast.logs)?;
    refill(cast, log, &frames[1..])
}

fn refill(cast: &Cast, mut log: VaultLog, frames: &[Vec<u8>]) -> Result<VaultLog, Refusal> {
    for bytes in frames {
        let frame = Frame::parse(bytes)?;
        log.apply(&frame.entry, frame.beside(), &cast.logs)?;
    }
    Ok(log)
}

#[test]
fn mal_044_a_frozen_log_is_found_out_by_the_word_of_another_device() {
    let Story { cast, vault, frames, .. } = story();
    for frozen in 1..frames.len() {
        let log = read(&cast, &frames[..frozen]).unwrap();
        // Alone, a frozen reader has nothing to go by: what it has is consistent, and only old.
        let mut promises = Promises::default();
        assert_eq!(promises.all_kept(&log), Ok(()));
        // Ana's other device has written down how far it is. Now the server must deliver as much.
        let known = vault.log.head();
        promises.seen(known, &log).unwrap();
        let offered = frozen as u64;
        assert_eq!(promises.all_kept(&log), Err(Refusal::Rollback { known: known.n, offered }));
        // And not something else instead.
        promises.seen(Head { n: known.n, h: [9; 32] }, &log).unwrap_err();
    }
}

#[test]
fn mal_061_an_honest_restore_heals_byte_for_byte() {
    let Story { cast, vault, frames, .. } = story();
    let before = says(1, &vault.log, vault.log.head().n, 100);
    for backup in 1..frames.len() {
        // The database of last night, begun again: another incarnation, and further back than it said before.
        let restored = read(&cast, &frames[..backup]).unwrap();
        let after = says(2, &restored, restored.head().n, 200 + CLOCKS_MS);
        assert!(!before.contradicts(&after) && !after.contradicts(&before), "an honest restore is no lie");
        assert_eq!(vault.log.compare(&after.head), Extends::Yes, "and it is a part of what everybody has");
        // Two clients who have different parts of the tail bring them; what overlaps is there already.
        let middle = backup + (frames.len() - backup) / 2;
        let first = refill(&cast, restored, &frames[backup..middle]).unwrap();
        let healed = refill(&cast, first, &frames[middle..]).unwrap();
        assert!(healed == vault.log, "the same log again, from {backup}");
        let healed_head = says(2, &healed, healed.head().n, 300);
        assert_eq!(healed_head.head, before.head);
    }
}

#[test]
fn mal_061_the_same_step_back_without_a_new_incarnation_is_proof_of_a_lie() {
    let Story { vault, .. } = story();
    let n = vault.log.head().n;
    let (before, after) = (says(1, &vault.log, n, 100), says(1, &vault.log, n - 1, 101 + CLOCKS_MS));
    assert!(before.contradicts(&after) && after.contradicts(&before));
}

#[test]
fn mal_062_a_tail_leads_to_the_head_that_was_signed_or_is_not_taken() {
    let Story { cast, ana, vault, frames, .. } = story();
    let signed = says(1, &vault.log, vault.log.head().n, 100);
    let at = 8;
    let restored = read(&cast, &frames[..at]).unwrap();
    let leads = |frames: &[Vec<u8>]| {
        let hashes = frames.iter().map(|bytes| Frame::parse(bytes).unwrap().entry.hash());
        Trail::along(restored.head(), hashes).head() == signed.head
    };
    let tail = frames[at..].to_vec();
    assert!(leads(&tail));
    // Left out, put in, moved, replaced by something new that fits the log: no other entries lead there.
    for place in 0..tail.len() {
        let mut short = tail.clone();
        short.remove(place);
        assert!(!leads(&short), "without {place}");
        let mut twice = tail.clone();
        twice.insert(place, tail[place].clone());
        assert!(!leads(&twice), "{place} twice");
        let mut swapped = tail.clone();
        swapped.swap(place, (place + 1) % tail.len());
        assert!(!leads(&swapped), "{place} moved");
    }
    let fresh = Frame::write(&ana.heartbeat(&restored), &[]);
    let mut replaced = tail.clone();
    replaced[0] = fresh.clone();
    assert!(!leads(&replaced));
    let mut inserted = vec![fresh];
    inserted.extend_from_slice(&tail[1..]);
    assert!(!leads(&inserted));
    assert!(!leads(&tail[..tail.len() - 1]), "a part that ends before the signed head");
}

#[test]
fn a_tail_that_nobody_has_is_given_up_by_an_owner() {
    let Story { cast, ana, bob, vault, frames } = story();
    let mut restored = read(&cast, &frames[..9]).unwrap();
    let reset = ana.control(&restored, &Control::ResetTail { n: 9 });
    let entry = Entry::parse(&reset).unwrap();
    let lost = vault.log.judge_reset(&entry, &cast.logs);
    assert_eq!(lost, Ok(vault.log.head().n - 9));
    restored.apply(&entry, Beside::Nothing, &cast.logs).unwrap();
    // Life goes on from there, and what was lost cannot come back in.
    let bytes = bob.heartbeat(&restored);
    restored.apply(&Entry::parse(&bytes).unwrap(), Beside::Nothing, &cast.logs).unwrap();
    for bytes in &frames[9..] {
        let frame = Frame::parse(bytes).unwrap();
        assert!(restored.check(&frame.entry, frame.beside(), &cast.logs).is_err());
    }
}
