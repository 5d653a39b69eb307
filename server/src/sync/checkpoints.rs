//! What a checkpoint must say, computed here before it may enter the log.
//!
//! Owns the counting of what is live. A false checkpoint that a server lets through stops every client, so none is
//! taken on its author's word.

use super::Room;
use super::author::Author;
use super::ground::KnownRoot;
use super::leaves::{Bounds, Depth, Leaves};
use super::refusal::{Refusal, Result};
use crate::store::Place;
use selkie_protocol::id::RecordId;
use selkie_protocol::log::{self, Beside, Checkpoint, Denied, Frame, Leaf, Pages, Root};

/// Some eight megabytes.
const WINDOW: Bounds = Bounds { rows: 65_536, bytes: 32 << 20 };

impl Room {
    /// The root of what is live where a checkpoint would stand. `None` if it would not stand there: then it is refused
    /// when it is judged.
    pub(super) async fn known_root(
        &self,
        author: Author,
        at: Place,
        frame: &Frame<'_>,
        checkpoint: &Checkpoint<'_>,
    ) -> Result<Option<KnownRoot>> {
        let known = self.office.look_up(at).await?;
        let member = known.core.governance().member(&author.user).ok_or(Refusal::NotFound("vault"))?;
        if !member.role.may_write() {
            return Err(log::Refusal::NotAllowed(Denied::Role).into());
        }
        // A device that repeats its last entry is to be told where that stands.
        if known.core.device(&author.device).is_some_and(|chain| chain.dev_seq >= frame.entry.header.dev_seq) {
            return Ok(None);
        }
        if checkpoint.at != known.head() {
            return Err(log::Refusal::BadSeen { seen: checkpoint.at.n, n: known.head().n + 1 }.into());
        }
        let without = forgotten(frame, checkpoint)?;
        let root = self.root(at, checkpoint.at.n, &without).await?;
        Ok(Some(KnownRoot { at: checkpoint.at.n, without, root }))
    }

    async fn root(&self, at: Place, n: u64, without: &[RecordId]) -> Result<Root> {
        let mut leaves = Leaves::new(&*self.office.vaults, at, n, WINDOW, Depth::Entries);
        let mut pages = Pages::default();
        while let Some(found) = leaves.next(|found| Ok((found.leaf(), size_of::<Leaf>()))).await? {
            let kept = found.iter().filter(|leaf| without.binary_search(&leaf.record).is_err());
            kept.for_each(|leaf| pages.push(leaf));
        }
        Ok(pages.finish().1)
    }
}

/// The records a checkpoint leaves out for good, ascending.
pub(super) fn forgotten(frame: &Frame<'_>, checkpoint: &Checkpoint<'_>) -> Result<Vec<RecordId>> {
    match (frame.beside(), checkpoint.note) {
        (Beside::Note(note), Some(hash)) => Ok(log::read_note(note, &hash).map_err(log::Refusal::Malformed)?),
        _ => Ok(Vec::new()),
    }
}
