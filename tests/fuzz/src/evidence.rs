//! Files that somebody hands over to be judged.
//!
//! Owns the making of files in which everything is signed as it should be, by a server whose key is known, and in
//! which the heads, the entries and the places that they are said to have are whatever the input says.

use crate::script::Script;
use crate::story::{Device, STAGE, Story};
use selkie_client::{Subject, VaultId, judge, to_base64url};
use selkie_protocol::cipher::SigningKey;
use selkie_protocol::hash::Label;
use selkie_protocol::id::Incarnation;
use selkie_protocol::log::{Entry, Frame, Head, Kind, SignedHead, chain};
use serde_json::{Value, json};
use std::sync::LazyLock;

const KINDS: [&str; 6] = ["vault_rollback", "vault_fork", "forged_entry", "withheld", "two_heads", "two_lives"];

static SERVER: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::from_seed(&[5; 32]));

/// An honest log, and of each entry another that its author might have written in its place.
struct Shelf {
    story: &'static Story,
    rivals: Vec<Vec<u8>>,
}

static SHELF: LazyLock<Shelf> = LazyLock::new(|| {
    let story = &STAGE.begun;
    let rivals = (1..story.frames.len()).map(|at| rival(story, &STAGE.devices[at % 3], at)).collect();
    Shelf { story, rivals }
});

fn rival(story: &Story, device: &Device, at: usize) -> Vec<u8> {
    let mut header = story.header(device);
    header.seen = Head { n: at as u64, h: story.values[at] };
    header.unix_ms = 7;
    Frame::write(&device.sign(&header, Kind::Heartbeat, &[]), &[])
}

/// The first byte says whether the file is in the input, or made by it.
pub(crate) fn run(bytes: &[u8]) {
    let mut script = Script(bytes);
    let made = match script.byte() % 4 {
        0 => return judged(script.0),
        1 => log_export(&mut script),
        2 => account_evidence(&mut script),
        _ => vault_evidence(&mut script),
    };
    let file = serde_json::to_vec(&made).expect("JSON");
    assert!(judge(&file, None).is_ok(), "the form is right");
    judged(&file);
}

fn judged(file: &[u8]) {
    let Ok(verdict) = judge(file, None) else { return };
    assert!(judge(file, None).is_ok_and(|again| again == verdict));
    // What the server has signed is proven with its key alone.
    let other = judge(file, Some([7; 32])).expect("it could be read before");
    if !matches!(other.subject, Subject::Account(_)) {
        assert!(other.proofs.is_empty() && !other.holds(), "proven with a key that signed nothing");
        let known = judge(file, Some(SERVER.public_key().0)).expect("it could be read before");
        assert!(known.key_was_given && known.server_key == Some(SERVER.public_key().0));
    }
}

fn text(bytes: &[u8]) -> Value {
    to_base64url(bytes).into()
}

fn vault() -> VaultId {
    SHELF.story.log.core().vault()
}

/// Frames that follow a position: mostly those that stand there.
fn frames(script: &mut Script<'_>, from: usize) -> Vec<Vec<u8>> {
    let genuine = &SHELF.story.frames;
    let mut chosen = Vec::new();
    for step in 0..script.below(8) {
        let how = script.byte();
        let at = (from + step) % genuine.len();
        let mut frame = match how & 7 {
            0..=4 => genuine[at].clone(),
            5 => SHELF.rivals[at % SHELF.rivals.len()].clone(),
            6 => script.one_of(genuine).clone(),
            _ => script.piece().to_vec(),
        };
        if how & 0xf8 == 0xf8 && !frame.is_empty() {
            let at = script.below(frame.len());
            frame[at] ^= 1;
        }
        chosen.push(frame);
    }
    chosen
}

/// The chain over frames, as far as they are entries.
fn values(base: Head, frames: &[Vec<u8>]) -> Vec<Head> {
    let mut heads = vec![base];
    for frame in frames {
        let Ok(entry) = Frame::entry_bytes(frame).and_then(Entry::parse) else { break };
        let Head { n, h } = heads[heads.len() - 1];
        let n = n.saturating_add(1);
        heads.push(Head { n, h: chain(&h, n, &entry.hash()) });
    }
    heads
}

/// Heads that the server signed, of positions that the frames lead to, or others.
fn heads(script: &mut Script<'_>, known: &[Head]) -> Vec<Value> {
    let mut signed = Vec::new();
    for _ in 0..script.below(6) {
        let how = script.byte();
        let mut head = *script.one_of(known);
        if how & 1 != 0 {
            head.h = [how; 32];
        }
        if how & 2 != 0 {
            head.n = head.n.wrapping_add(u64::from(script.byte())).wrapping_sub(2);
        }
        let (incarnation, at_ms) = (Incarnation([how >> 2 & 1; 16]), u64::from(script.byte()) * 5 * 60 * 1000);
        let bytes = SignedHead::signed_bytes(&incarnation, &vault(), &head, at_ms);
        let signature = SERVER.sign(Label::HEAD, &[&bytes]);
        let mut bytes = [bytes.as_slice(), &signature.0].concat();
        if how & 0xf0 == 0xf0 {
            let at = script.below(bytes.len());
            bytes[at] ^= 1;
        }
        signed.push(text(&bytes));
    }
    signed
}

fn people(script: &mut Script<'_>) -> Vec<Value> {
    let mask = script.byte();
    let persons = (0..).zip(SHELF.story.persons.values()).filter(|(at, _)| mask >> at & 1 == 0);
    persons.map(|(_, person)| person.entries.iter().map(|entry| text(entry)).collect()).collect()
}

fn log_export(script: &mut Script<'_>) -> Value {
    let frames = frames(script, 0);
    let known = values(Head { n: 0, h: vault().0 }, &frames);
    json!({
        "selkie": "vault-log", "version": 1, "server_name": "home.example", "vid": vault(),
        "head_key": text(&SERVER.public_key().0), "heads": heads(script, &known),
        "frames": frames.iter().map(|frame| text(frame)).collect::<Vec<_>>(), "people": people(script),
    })
}

fn vault_evidence(script: &mut Script<'_>) -> Value {
    let (how, from) = (script.byte(), script.below(SHELF.story.frames.len()));
    let mut base = Head { n: from as u64, h: SHELF.story.values[from] };
    if how & 0xc0 == 0xc0 {
        // Where no honest log ever comes.
        base.n = u64::MAX - u64::from(how & 7);
    }
    let ours = frames(script, from);
    let back = script.below(ours.len() + 1);
    let served = frames(script, from + back);
    let mut known = values(base, &ours);
    let shown: Vec<Vec<u8>> = ours[..back].iter().chain(&served).cloned().collect();
    known.extend(values(base, &shown));
    let acknowledged = (how & 8 != 0).then(|| {
        let frame = ours.iter().chain(&served).nth(script.below(8)).cloned().unwrap_or_default();
        let entry = Frame::entry_bytes(&frame).unwrap_or_default();
        json!({ "n": base.n.wrapping_add(1 + u64::from(script.byte() & 7)), "entry": text(entry) })
    });
    let served_after = base.n.wrapping_add(back as u64).wrapping_add(u64::from(how >> 4 & 1));
    let all = |frames: &[Vec<u8>]| frames.iter().map(|frame| text(frame)).collect::<Vec<_>>();
    json!({
        "selkie": "vault-evidence", "version": 1, "kind": KINDS[from % KINDS.len()], "seen_at_ms": 1,
        "server_name": "home.example", "vid": vault(), "expected": "this", "found": "that",
        "head_key": text(&SERVER.public_key().0), "heads": heads(script, &known), "base_n": base.n,
        "base_h": text(&base.h), "ours": all(&ours), "served_after": served_after, "served": all(&served),
        "acknowledged": acknowledged, "people": people(script),
    })
}

fn account_evidence(script: &mut Script<'_>) -> Value {
    let persons: Vec<_> = SHELF.story.persons.iter().collect();
    let (user, person) = *script.one_of(&persons);
    let entries = |script: &mut Script<'_>| {
        let mut entries: Vec<Vec<u8>> = person.entries.iter().take(script.below(4)).cloned().collect();
        if script.flag() {
            entries.push(script.piece().to_vec());
        }
        entries.iter().map(|entry| text(entry)).collect::<Vec<_>>()
    };
    let (ours, served) = (entries(script), entries(script));
    json!({
        "selkie": "account-evidence", "version": 1, "kind": "fork", "seen_at_ms": 1, "server_name": "home.example",
        "uid": user, "our_length": ours.len(), "ours": ours, "served": served,
        "served_from": if script.flag() { u64::MAX } else { u64::from(script.byte() & 3) },
    })
}
