//! What is to be sent, in the order it was written, and found by record.
//!
//! Owns that both ways of finding a write agree.

use super::super::Pending;
use selkie_protocol::id::RecordId;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub(super) struct Outbox {
    writes: BTreeMap<u64, Pending>,
    of_record: BTreeSet<(RecordId, u64)>,
}

impl Outbox {
    pub(super) fn insert(&mut self, pending: Pending) {
        self.of_record.insert((pending.record, pending.seq));
        self.writes.insert(pending.seq, pending);
    }

    pub(super) fn remove(&mut self, seq: u64) -> Option<Pending> {
        let gone = self.writes.remove(&seq)?;
        self.of_record.remove(&(gone.record, seq));
        Some(gone)
    }

    pub(super) fn get(&self, seq: u64) -> Option<&Pending> {
        self.writes.get(&seq)
    }

    /// Its record and its number are to stay as they are.
    pub(super) fn get_mut(&mut self, seq: u64) -> Option<&mut Pending> {
        self.writes.get_mut(&seq)
    }

    /// In the order they were written.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Pending> {
        self.writes.values()
    }

    /// Those of a record, in the order they were written.
    pub(super) fn of(&self, record: RecordId) -> impl DoubleEndedIterator<Item = &Pending> {
        let of_record = self.of_record.range((record, 0)..=(record, u64::MAX));
        of_record.filter_map(|(_, seq)| self.writes.get(seq))
    }

    pub(super) fn has(&self, record: RecordId) -> bool {
        self.of(record).next().is_some()
    }

    /// The one after a number, of that record.
    pub(super) fn next_of(&mut self, record: RecordId, after: u64) -> Option<&mut Pending> {
        let (_, seq) = self.of_record.range((record, after.saturating_add(1))..=(record, u64::MAX)).next()?;
        self.writes.get_mut(seq)
    }

    pub(super) fn len(&self) -> usize {
        self.writes.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    pub(super) fn into_writes(self) -> impl Iterator<Item = Pending> {
        self.writes.into_values()
    }
}
