//! What becomes of a record that two people wrote without knowing of each other.
//!
//! Owns the hook and its default. Pure: three versions in, a decision out. Every device may meet the same conflict and
//! decide it, so a decision depends on what the versions say and on nothing else.

use selkie_protocol::record::RecordBody;

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
    Merged(RecordBody),
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
    fn a_deletion_does_not_beat_a_newer_edit() {
        let gone = RecordBody::deletion("notes", Hlc { ms: 1, count: 0 });
        assert_eq!(NewestFirst.settle(None, &gone, &at(2, "edit")), Settled::Theirs);
        assert_eq!(NewestFirst.settle(None, &gone, &at(1, "edit")), Settled::Theirs);
        assert_eq!(NewestFirst.settle(None, &at(0, "edit"), &gone), Settled::Theirs);
    }
}
