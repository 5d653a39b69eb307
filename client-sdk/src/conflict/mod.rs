//! What becomes of a record that two people wrote without knowing of each other, collection by collection.
//!
//! | module | what it owns |
//! |---|---|
//! | [`decide`] | the strategies, and what holds for all of them |
//! | [`fields`] | merging by field |
//! | [`text`] | merging texts by word |
//! | `document` | fields that are documents of their own, behind the feature `crdt` |
//! | [`align`] | what two sequences have in common |
//!
//! All of it is pure: versions in, a decision out, the same on every device. Whatever is decided, the version that does
//! not win stays in the record's history and is listed.

mod align;
mod decide;
#[cfg(feature = "crdt")]
mod document;
mod fields;
mod text;

pub(crate) use decide::ByCollection;
pub use decide::{CustomMerge, Decision, Strategy, Written};
#[cfg(feature = "crdt")]
pub use document::{Document, NotADocument};
pub use fields::Merge;
pub use text::{MergedText, merge_text};
