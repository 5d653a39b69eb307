//! The app that is on every device, and what it keeps.

use selkie_client::{ClientBuilder, CollectionShape, Merge, Strategy};
use serde::{Deserialize, Serialize};

pub(super) const APP: &str = "org.example.household";
/// Whoever writes last has the last word, and all the others stand in the history.
pub(super) const NOTES: &str = "notes";
/// Everybody counts, and every step counts.
pub(super) const TALLIES: &str = "tallies";

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Note {
    pub(super) words: String,
    pub(super) padding: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Tally {
    pub(super) count: i64,
}

/// Checkpoints are made and used early: an hour of this is not long for a vault.
pub(super) fn on(client: ClientBuilder) -> ClientBuilder {
    client
        .app(APP)
        .checkpoint_after(100, 100)
        .begin_with_checkpoint_from(50)
        .collection(CollectionShape::new(NOTES).conflicts(Strategy::LastWriterWins))
        .collection(CollectionShape::new(TALLIES).conflicts(Strategy::FieldMerge).field("count", Merge::Counter))
}
