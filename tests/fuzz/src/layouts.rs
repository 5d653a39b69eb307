//! The fixed layouts of a vault's log.
//!
//! Owns that each can be written in one way only.

use selkie_protocol::hash::{Label, hash};
use selkie_protocol::log::{
    Body, Change, Checkpoint, Control, Data, Entry, SIGNATURE_LENGTH, read_note, signed, write_note,
};
use selkie_protocol::sign::Signature;

/// The first byte says what the others are.
pub(crate) fn run(bytes: &[u8]) {
    let Some((what, bytes)) = bytes.split_first() else { return };
    match what % 5 {
        0 => entry(bytes),
        1 => drop(Control::parse(bytes).map(|control| assert_eq!(control.to_bytes(), bytes))),
        2 => drop(Data::parse(bytes).map(|data| changes(&data, bytes))),
        3 => drop(Checkpoint::parse(bytes).map(|checkpoint| rewritten(&checkpoint, bytes))),
        _ => note(bytes),
    }
}

fn entry(bytes: &[u8]) {
    let Ok(entry) = Entry::parse(bytes) else { return };
    assert_eq!(entry.as_bytes(), bytes);
    let end = bytes.len() - SIGNATURE_LENGTH;
    let body = &bytes[selkie_protocol::log::HEADER_LENGTH..end];
    match &entry.body {
        Body::Control(control) => assert_eq!(control.to_bytes(), body),
        Body::Data(data) => changes(data, body),
        Body::Checkpoint(checkpoint) => rewritten(checkpoint, body),
        Body::Heartbeat => assert!(body.is_empty()),
    }
    let signature = Signature(bytes[end..].try_into().expect("64 bytes"));
    assert_eq!(signed(entry.header.with_body(entry.kind(), body), &signature), bytes);
}

fn changes(data: &Data<'_>, body: &[u8]) {
    let mut all = body[..2].to_vec();
    for change in data.changes() {
        assert_eq!(Change::parse(change.as_bytes(), change.index).as_ref(), Ok(&change));
        assert_eq!(change.deps.iter().len(), change.deps.len());
        all.extend_from_slice(change.as_bytes());
    }
    assert_eq!(all, body);
}

fn rewritten(checkpoint: &Checkpoint<'_>, body: &[u8]) {
    let again = Checkpoint::write(checkpoint.at, &checkpoint.root, checkpoint.note, checkpoint.devices.iter());
    assert_eq!(again.as_deref(), Ok(body));
}

fn note(bytes: &[u8]) {
    let digest = hash(Label::CHECKPOINT_NOTE, &[bytes]);
    if let Ok(records) = read_note(bytes, &digest) {
        assert_eq!(write_note(&records), (bytes.to_vec(), digest));
    }
    assert!(read_note(bytes, &[0; 32]).is_err(), "nothing is the note of another hash");
}
