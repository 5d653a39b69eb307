//! Everything that is live in a vault at a position, in the order of a checkpoint, without ever holding all of it.
//!
//! Owns the walk: a window of live changes at a time, for which the log is read once, from the first entry that is
//! needed to the last, skipping what is not; with the payloads only for who wants them. Knows nothing of what is done
//! with them.

use super::pull::stored_frame;
use super::refusal::{Refusal, Result};
use crate::store::{LiveRow, PageLimits, Place, Vaults};
use selkie_protocol::id::{ChangeId, RecordId};
use selkie_protocol::log::{Body, Change, Entry, Frame, Header, Leaf};
use std::sync::Arc;

/// Rows of one question.
const ROWS: u32 = 4_096;
/// What is read of the log at a time.
const ENTRIES: u64 = 1_000;
const BYTES: u64 = 4 << 20;

/// How much of what is live is held at a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) rows: usize,
    pub(super) bytes: usize,
}

/// A live change where it was found.
pub(super) struct Found<'a> {
    pub(super) row: &'a LiveRow,
    pub(super) header: &'a Header,
    pub(super) change: &'a Change<'a>,
    pub(super) payload: Option<&'a [u8]>,
}

/// How much is read of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// What a leaf is made of.
    Entries,
    Payloads,
}

pub(super) struct Leaves<'v> {
    vaults: &'v dyn Vaults,
    at: Place,
    n: u64,
    bounds: Bounds,
    depth: Depth,
    after: Option<(RecordId, ChangeId)>,
}

impl Found<'_> {
    pub(super) fn leaf(&self) -> Leaf {
        Leaf { record: self.row.record, change: self.row.change, payload: self.change.payload, head: self.row.head }
    }
}

impl<'v> Leaves<'v> {
    /// What is live in a vault at a position that is not long past.
    pub(super) fn new(vaults: &'v dyn Vaults, at: Place, n: u64, bounds: Bounds, depth: Depth) -> Self {
        Leaves { vaults, at, n, bounds, depth, after: None }
    }

    /// The next live changes, in order, with what is wanted of each and how much that is. `None` after the last.
    pub(super) async fn next<T>(&mut self, wanted: impl Fn(Found<'_>) -> Result<(T, usize)>) -> Result<Option<Vec<T>>> {
        let rows = self.rows().await?;
        if rows.is_empty() {
            return Ok(None);
        }
        let mut window = Window::new(rows.len(), self.bounds.bytes);
        let mut places: Vec<(u64, usize)> = (0..).zip(&rows).map(|(index, row)| (row.n, index)).collect();
        places.sort_unstable();
        let mut left = places.as_slice();
        while let Some((n, _)) = left.first().copied() {
            let run = left.iter().take_while(|(next, _)| *next < n + ENTRIES).last().map_or(n, |(last, _)| *last);
            let entries = u32::try_from(run - n + 1).unwrap_or(u32::MAX);
            let limits = PageLimits { entries, bytes: BYTES };
            let read = self.read(n - 1, limits).await?;
            if read.first().is_none_or(|(first, _)| *first != n) {
                return Err(Refusal::broken("an entry with live changes is missing"));
            }
            for (at, bytes) in &read {
                let here = left.iter().take_while(|(next, _)| next == at).count();
                let (places, rest) = left.split_at(here);
                left = rest;
                if places.iter().all(|(_, index)| *index >= window.end) {
                    continue;
                }
                let stored = self.depth.parse(bytes)?;
                let Entry { header, body: Body::Data(data), .. } = stored.entry() else {
                    return Err(Refusal::broken("a live change in an entry without changes"));
                };
                let changes: Vec<Change<'_>> = data.changes().collect();
                for (_, index) in places.iter().filter(|(_, index)| *index < rows.len()) {
                    let row = &rows[*index];
                    let change = changes.get(usize::from(row.index));
                    let change = change.ok_or_else(|| Refusal::broken("a live change that its entry does not have"))?;
                    let found = Found { row, header, change, payload: stored.payload(row.index) };
                    let (item, size) = wanted(found)?;
                    window.put(*index, item, size);
                }
            }
        }
        let items = window.finish()?;
        self.after = rows.get(items.len() - 1).map(|row| (row.record, row.change));
        Ok(Some(items))
    }

    /// Frames, or entries alone, with their positions.
    async fn read(&self, after: u64, limits: PageLimits) -> Result<Vec<(u64, Vec<u8>)>> {
        Ok(match self.depth {
            Depth::Entries => self.vaults.entries_alone_after(self.at, after, limits).await?,
            Depth::Payloads => {
                let (frames, _) = self.vaults.entries_after(self.at, after, limits).await?;
                frames.into_iter().map(|stored| (stored.n, stored.frame)).collect()
            }
        })
    }

    async fn rows(&self) -> Result<Vec<LiveRow>> {
        let mut rows: Vec<LiveRow> = Vec::new();
        while rows.len() < self.bounds.rows {
            let after = rows.last().map(|row| (row.record, row.change)).or(self.after);
            let limit = ROWS.min(u32::try_from(self.bounds.rows - rows.len()).unwrap_or(ROWS));
            let more = self.vaults.live_at(self.at, self.n, after, limit).await?;
            let was_last = more.len() < limit as usize;
            rows.extend(more);
            if was_last {
                break;
            }
        }
        Ok(rows)
    }
}

/// What was parsed before it was kept.
enum Stored<'a> {
    Entry(Entry<'a>),
    Frame(Frame<'a>),
}

impl Depth {
    fn parse(self, bytes: &[u8]) -> Result<Stored<'_>> {
        match self {
            Depth::Entries => {
                let entry = Entry::parse(bytes).map_err(|malformed| Refusal::Broken(Arc::new(malformed)))?;
                Ok(Stored::Entry(entry))
            }
            Depth::Payloads => Ok(Stored::Frame(stored_frame(bytes)?)),
        }
    }
}

impl Stored<'_> {
    fn entry(&self) -> &Entry<'_> {
        match self {
            Stored::Entry(entry) => entry,
            Stored::Frame(frame) => &frame.entry,
        }
    }

    fn payload(&self, index: u16) -> Option<&[u8]> {
        match self {
            Stored::Entry(_) => None,
            Stored::Frame(frame) => frame.payload(index),
        }
    }
}

/// Items arrive in the order of the log and leave in that of the checkpoint. When they are too much together, the last
/// ones are left for the next window.
struct Window<T> {
    items: Vec<Option<(T, usize)>>,
    end: usize,
    held: usize,
    room: usize,
}

impl<T> Window<T> {
    fn new(rows: usize, room: usize) -> Self {
        Window { items: (0..rows).map(|_| None).collect(), end: rows, held: 0, room }
    }

    fn put(&mut self, index: usize, item: T, size: usize) {
        if index >= self.end {
            return;
        }
        self.held += size;
        self.items[index] = Some((item, size));
        while self.held > self.room && self.end > 1 {
            self.end -= 1;
            self.held -= self.items[self.end].take().map_or(0, |(_, size)| size);
        }
    }

    fn finish(mut self) -> Result<Vec<T>> {
        self.items.truncate(self.end);
        let items = self.items.into_iter().map(|item| item.map(|(item, _)| item));
        items.collect::<Option<Vec<T>>>().ok_or_else(|| Refusal::broken("a live change was not found in its entry"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_that_is_too_heavy_leaves_its_end_for_the_next() {
        let mut window = Window::new(4, 10);
        for (index, size) in [(3, 4), (0, 4), (2, 4), (1, 4)] {
            window.put(index, index, size);
        }
        assert_eq!(window.finish().unwrap(), [0, 1]);
        let mut window = Window::new(2, 10);
        window.put(1, 1, 3);
        window.put(0, 0, 1_000);
        assert_eq!(window.finish().unwrap(), [0], "one at least, however heavy");
        let mut window = Window::new(2, 10);
        window.put(0, 0, 1);
        assert!(window.finish().is_err());
    }
}
