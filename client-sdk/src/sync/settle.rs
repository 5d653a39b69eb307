//! What becomes of a record that two people wrote without knowing of each other.
//!
//! Owns the hook and its default. Pure: three versions in, a decision out. Every device may meet the same conflict and
//! decide it, so a decision depends on what the versions say and on nothing else.

use selkie_protocol::record::RecordBody;
use serde::{Deserialize, Serialize};

/// Decides conflicts. Whatever it decides, no version is lost: the one that does not win stays in the record's history
/// and is listed among the conflicts.
pub trait Settle: Send + Sync {
    /// `base` is what both were made from, where it is still known; `mine` is not in the log yet, `theirs` is.
    fn settle(&self, base: Option<&RecordBody>, mine: &RecordBody, theirs: &RecordBody) -> Settled;
}

/// How a conflict is decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Mine is written on top of theirs.
    Mine,
    /// Theirs stays what the record says; mine is written beneath it.
    Theirs,
    /// This is written, on top of both.
    Merged {
        /// What both are put together to.
        body: RecordBody,
        /// Something that one of them says is not in it.
        lossy: bool,
    },
    /// Theirs stays for now, and a person is asked.
    Ask,
    /// Both say the same, so nothing is lost and nobody need hear of it. It stands as of the later of the two.
    Same,
}

/// How a conflict went, for whoever looks at the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// What this device wrote stands.
    MineKept,
    /// What was in the log stands.
    TheirsKept,
    /// All that both wrote stands.
    Merged,
    /// Most that both wrote stands; where they changed the same thing, the newer.
    PartlyMerged,
    /// A person decides, or has decided.
    Asked,
}

impl Outcome {
    const WORDS: [(Outcome, &'static str); 5] = [
        (Outcome::MineKept, "mine_kept"),
        (Outcome::TheirsKept, "theirs_kept"),
        (Outcome::Merged, "merged"),
        (Outcome::PartlyMerged, "partly_merged"),
        (Outcome::Asked, "asked"),
    ];

    /// As a word that stays the same.
    pub fn word(self) -> &'static str {
        Outcome::WORDS.iter().find(|(outcome, _)| *outcome == self).map_or("", |(_, word)| word)
    }

    /// `None` for one that was settled before outcomes were written down, or by a later version.
    pub(crate) fn of_word(word: &str) -> Option<Outcome> {
        Outcome::WORDS.iter().find(|(_, known)| *known == word).map(|(outcome, _)| *outcome)
    }
}

/// Keeps both, the newest first. A deletion wins over an edit only if it is newer.
#[derive(Clone, Copy, Debug, Default)]
pub struct NewestFirst;

impl Settle for NewestFirst {
    fn settle(&self, _: Option<&RecordBody>, mine: &RecordBody, theirs: &RecordBody) -> Settled {
        // The same stamp on both sides: an edit before a deletion, then by content, so that everybody decides alike.
        let rank = |body: &RecordBody| (body.hlc, !body.deleted, body.data.0.clone());
        if rank(mine) >= rank(theirs) { Settled::Mine } else { Settled::Theirs }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selkie_protocol::record::Hlc;

    fn at(ms: u64, data: &str) -> RecordBody {
        RecordBody::new("notes", Hlc { ms, count: 0 }, data.as_bytes())
    }

    #[test]
    fn the_newest_wins_whoever_asks() {
        let (old, new) = (at(1, "old"), at(2, "new"));
        assert_eq!(NewestFirst.settle(None, &new, &old), Settled::Mine);
        assert_eq!(NewestFirst.settle(None, &old, &new), Settled::Theirs);
        let (a, b) = (at(1, "a"), at(1, "b"));
        assert_eq!(NewestFirst.settle(None, &a, &b), Settled::Theirs);
        assert_eq!(NewestFirst.settle(None, &b, &a), Settled::Mine);
    }

    #[test]
    fn every_outcome_has_a_word() {
        for (outcome, word) in Outcome::WORDS {
            assert_eq!((outcome.word(), Outcome::of_word(word)), (word, Some(outcome)));
        }
        assert_eq!(Outcome::of_word(""), None);
    }

    #[test]
    fn a_deletion_does_not_beat_a_newer_edit() {
        let gone = RecordBody::deletion("notes", Hlc { ms: 1, count: 0 });
        assert_eq!(NewestFirst.settle(None, &gone, &at(2, "edit")), Settled::Theirs);
        assert_eq!(NewestFirst.settle(None, &gone, &at(1, "edit")), Settled::Theirs);
        assert_eq!(NewestFirst.settle(None, &at(0, "edit"), &gone), Settled::Theirs);
    }
}
