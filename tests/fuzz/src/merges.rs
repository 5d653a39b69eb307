//! What two people made of one thing.

use crate::script::Script;
use selkie_client::{Document, merge_text};
use selkie_protocol::{Bytes, Face};

/// Three texts, with a zero between them.
pub(crate) fn texts(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut texts = text.splitn(3, '\0');
    let mut next = || texts.next().unwrap_or_default();
    let (base, older, newer) = (next(), next(), next());
    let merged = merge_text(base, older, newer);
    assert!(merged.text.len() <= base.len() + older.len() + newer.len());
    for (one, other, expected) in [(base, newer, newer), (older, base, older), (newer, newer, newer)] {
        let merged = merge_text(base, one, other);
        assert_eq!((merged.text.as_str(), merged.lost), (expected, false), "only one thing was said");
    }
}

/// Two documents: the first with its length before it.
pub(crate) fn documents(bytes: &[u8]) {
    let mut script = Script(bytes);
    let (mut one, other) = (document(script.piece()), document(script.0));
    let (opened, editor) = (one.open(), other.open());
    let Ok(editor) = editor else { return };
    let before = one.clone();
    match one.absorb(&editor) {
        Ok(()) => drop(one.open()),
        Err(_) => assert!(one == before, "what could not be brought in has changed something"),
    }
    drop(opened);
}

/// A field says whatever a member wrote.
fn document(bytes: &[u8]) -> Document {
    let field = Face::Cbor.encode(&Bytes::from(bytes));
    Face::Cbor.decode(&field).expect("a document is a string of bytes")
}
