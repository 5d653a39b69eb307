//! Documents that people write in at the same time, and that merge by themselves.
//!
//! Owns the field's form (a whole state in Yjs' update format, version 1), and what keeps a state that somebody has
//! forged from doing harm. What one can do inside of a document is the library's own: `yrs`.

use selkie_protocol::Bytes;
use selkie_protocol::cipher::random_id;
use serde::{Deserialize, Serialize};
use std::panic::{AssertUnwindSafe, catch_unwind};
use yrs::updates::decoder::Decode as _;
use yrs::{Doc, ReadTxn as _, StateVector, Transact as _, Update};

/// A field that is a document of its own: texts, lists and maps in which every letter that anybody wrote stands,
/// wherever others have written at the same time. Declare it with [`Merge::Document`](super::Merge::Document).
///
/// An editor keeps the [`Doc`] it has [opened](Document::open), and writes what it says with
/// [`absorb`](Document::absorb), inside of [`Collection::update`](crate::Collection::update): so what has come from
/// other devices in the meantime stays.
///
/// ```
/// use selkie_client::Document;
/// use yrs::{GetString, Text, Transact};
///
/// let mut saved = Document::default();
/// let editor = saved.open()?;
/// let text = editor.get_or_insert_text("body");
/// text.push(&mut editor.transact_mut(), "Dear diary");
/// saved.absorb(&editor)?;
///
/// let shown = saved.open()?;
/// let text = shown.get_or_insert_text("body");
/// assert_eq!(text.get_string(&shown.transact()), "Dear diary");
/// # Ok::<(), selkie_client::NotADocument>(())
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Document(Bytes);

/// Bytes that are no document, or one that its own library cannot read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the field is no document that this version of the app can read")]
pub struct NotADocument;

impl Document {
    /// The document, to read it or to write in it. Whatever is written in it is written under a new name of its own, so
    /// it may be opened as often as one likes.
    pub fn open(&self) -> Result<Doc, NotADocument> {
        let editor = Doc::with_client_id(new_editor());
        carefully(|| {
            let update = Update::decode_v1(&self.0).map_err(|_| NotADocument)?;
            editor.transact_mut().apply_update(update).map_err(|_| NotADocument)
        })?;
        Ok(editor)
    }

    /// Brings in all that an editor's document says. What it does not know yet stays.
    pub fn absorb(&mut self, editor: &Doc) -> Result<(), NotADocument> {
        let says = carefully(|| Ok(editor.transact().encode_state_as_update_v1(&StateVector::default())))?;
        self.0 = merge_documents(&self.0, &says)?.into();
        Ok(())
    }
}

impl Default for Document {
    /// An empty one.
    fn default() -> Self {
        Document(Update::EMPTY_V1.into())
    }
}

impl std::fmt::Debug for Document {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Document({} bytes)", self.0.len())
    }
}

/// All that both say.
pub(super) fn merge_documents(one: &[u8], other: &[u8]) -> Result<Vec<u8>, NotADocument> {
    carefully(|| yrs::merge_updates_v1([one, other]).map_err(|_| NotADocument))
}

/// A state comes from whoever may write in the vault, and the library takes it apart in the belief that another of its
/// kind has made it. What it stumbles over is a document that cannot be read, and the end of nothing.
fn carefully<T>(job: impl FnOnce() -> Result<T, NotADocument>) -> Result<T, NotADocument> {
    catch_unwind(AssertUnwindSafe(job)).unwrap_or(Err(NotADocument))
}

/// Two editors of one name would write over each other. 53 bits are what Yjs has for it.
fn new_editor() -> u64 {
    u64::from_le_bytes(random_id()) >> 11
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use yrs::{GetString as _, Text as _};

    fn typed(document: &Document, at: u32, words: &str) -> Document {
        let editor = document.open().unwrap();
        let text = editor.get_or_insert_text("body");
        let length = text.len(&editor.transact());
        text.insert(&mut editor.transact_mut(), at.min(length), words);
        let mut written = document.clone();
        written.absorb(&editor).unwrap();
        written
    }

    fn says(bytes: &[u8]) -> String {
        let shown = Document(bytes.into()).open().unwrap();
        let text = shown.get_or_insert_text("body");
        text.get_string(&shown.transact())
    }

    proptest! {
        #[test]
        fn whoever_merges_and_in_whatever_order_all_that_was_typed_stands(
            edits in prop::collection::vec((0_u32..20, "[a-z]{1,4}"), 3)
        ) {
            let base = typed(&Document::default(), 0, "once");
            let [a, b, c] = [0, 1, 2].map(|at: usize| typed(&base, edits[at].0, &edits[at].1).0);
            let merge = |one: &[u8], other: &[u8]| merge_documents(one, other).unwrap();
            let all = says(&merge(&merge(&a, &b), &c));
            prop_assert_eq!(&all, &says(&merge(&c, &merge(&b, &a))));
            prop_assert_eq!(&all, &says(&merge(&merge(&all_of(&[&a, &b, &c]), &a), &b)));
            prop_assert_eq!(all.len(), 4 + edits.iter().map(|(_, words)| words.len()).sum::<usize>());
        }

        #[test]
        fn a_forged_document_is_told_and_breaks_nothing(
            cut in 0_usize..200, at in 0_usize..200, with in any::<u8>(), junk in prop::collection::vec(any::<u8>(), 0..64)
        ) {
            let honest = typed(&typed(&Document::default(), 0, "dear diary"), 4, "est");
            let mut forged = honest.0.to_vec();
            forged.truncate(forged.len().saturating_sub(cut % forged.len()));
            let place = at % forged.len().max(1);
            if let Some(byte) = forged.get_mut(place) {
                *byte = with;
            }
            for forged in [forged, junk] {
                let _told = merge_documents(&honest.0, &forged);
                let _told = Document(forged.into()).open().map(drop);
            }
        }
    }

    fn all_of(states: &[&[u8]]) -> Vec<u8> {
        yrs::merge_updates_v1(states).unwrap()
    }
}
