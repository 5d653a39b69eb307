//! What of an archive is written, and what is left as it is here.
//!
//! Owns that decision, record by record, and the batches in which it is carried out. Writes go the way that an app's
//! own go: onto this device, to be sent with the next sync.

use super::whole::Archive;
use crate::carry::is_ahead;
use crate::error::{Error, Result};
use crate::records::{Collections, view};
use crate::store::vaults::{NewWrite, Together};
use crate::sync::room::Room;
use selkie_protocol::id::{RecordId, VaultId};
use selkie_protocol::record::{Hlc, RecordBody};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Seek};

/// As many as travel in one entry.
const BATCH: usize = 256;
/// Or as much, if that is less: large records are not gathered by the hundred.
const BATCH_BYTES: usize = 4 << 20;
/// How often a batch is decided again because somebody else was faster.
const TRIES: usize = 16;
/// How many of the kept records are named.
const NAMED: usize = 1000;

/// What became of the records of an archive or of the rows of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportReport {
    /// They were not here.
    pub new: u64,
    /// They are here and say the same already.
    pub same: u64,
    /// What is here is newer, or cannot be compared; it was left as it is.
    pub kept: u64,
    /// What was here was older. What it said is in its history.
    pub updated: u64,
    /// The archive lists them as unreadable where it was made.
    pub unreadable: u64,
    /// Those that were kept, by name: the first thousand.
    pub kept_records: Vec<RecordId>,
    /// How many of the records that the rows of a table are can be read here after the import.
    pub rows: u64,
    /// Over what those records say after the import, read once more: the same wherever the same rows are in the same
    /// vault. Missing for an archive.
    pub digest: Option<[u8; 32]>,
}

/// What becomes of one record.
pub(super) enum Verdict {
    New(RecordBody),
    Updated(RecordBody),
    Same,
    Kept,
}

/// Blocks on the disk and on the reader.
pub(super) fn run<R: Read + Seek>(
    room: &Room,
    vault: &VaultId,
    from: R,
    passphrase: Option<&str>,
    collections: &Collections,
    now_ms: u64,
) -> Result<ImportReport> {
    let mut archive = Archive::open(from, passphrase)?;
    archive.check()?;
    let unreadable = archive.manifest.unreadable;
    let mut batches = Batches::new(room, vault, |before: Option<&RecordBody>, theirs: &RecordBody| {
        Ok(decide(before, theirs, collections, now_ms))
    });
    archive.records(|id, body| {
        let bytes = body.data.len();
        batches.take(id, body, bytes)
    })?;
    let report = batches.finish()?;
    Ok(ImportReport { unreadable, ..report })
}

/// The later one stands. It keeps its stamp, so that archives can be brought in in any order.
fn decide(before: Option<&RecordBody>, theirs: &RecordBody, collections: &Collections, now_ms: u64) -> Verdict {
    let ahead = is_ahead(theirs, now_ms);
    match before {
        None if ahead => {
            let hlc = Hlc::after(Hlc::default(), now_ms);
            Verdict::New(RecordBody::new(theirs.collection.clone(), hlc, theirs.data.clone()))
        }
        None => Verdict::New(theirs.clone()),
        // What was said again later stays so, whatever the next archive has from between the two.
        Some(ours) if ours.says_the_same(theirs) && (ahead || ours.hlc >= theirs.hlc) => Verdict::Same,
        // A record stays in its collection, as with every other write.
        Some(ours) if !ours.deleted && ours.collection != theirs.collection => Verdict::Kept,
        // And what a later version of the app wrote stays as it is.
        Some(ours) if ours.hlc < theirs.hlc && !ahead && !collections.is_of_later_app(ours) => {
            Verdict::Updated(theirs.clone())
        }
        Some(_) => Verdict::Kept,
    }
}

/// Gathers records and writes them down, some at a time, each batch whole.
pub(super) struct Batches<'a, T, D> {
    room: &'a Room,
    vault: &'a VaultId,
    decide: D,
    waiting: Vec<(RecordId, T)>,
    /// How much waits, about.
    bytes: usize,
    report: ImportReport,
}

impl<'a, T, D: Fn(Option<&RecordBody>, &T) -> Result<Verdict>> Batches<'a, T, D> {
    pub(super) fn new(room: &'a Room, vault: &'a VaultId, decide: D) -> Self {
        Batches { room, vault, decide, waiting: Vec::with_capacity(BATCH), bytes: 0, report: ImportReport::default() }
    }

    /// `bytes` is about how much it takes of the memory.
    pub(super) fn take(&mut self, id: RecordId, what: T, bytes: usize) -> Result<()> {
        self.waiting.push((id, what));
        self.bytes += bytes;
        if self.waiting.len() < BATCH && self.bytes < BATCH_BYTES { Ok(()) } else { self.write() }
    }

    pub(super) fn finish(mut self) -> Result<ImportReport> {
        self.write()?;
        Ok(self.report)
    }

    fn write(&mut self) -> Result<()> {
        for _ in 0..TRIES {
            let seen = self.room.store.stamp(self.vault)?;
            let (writes, report) = self.decided()?;
            if writes.is_empty() || self.put_down(seen, &writes)? {
                if !writes.is_empty() {
                    self.room.wrote(self.vault);
                }
                self.report = report;
                self.waiting.clear();
                self.bytes = 0;
                return Ok(());
            }
        }
        Err(view::busy())
    }

    /// Records of one archive have nothing to do with each other: one that cannot go yet holds up no other.
    fn put_down(&self, seen: u64, writes: &[NewWrite]) -> Result<bool> {
        Ok(self.room.store.write_down(self.vault, Some(seen), writes, Together::EachAlone)?.is_some())
    }

    fn decided(&self) -> Result<(Vec<NewWrite>, ImportReport)> {
        let (mut writes, mut report) = (Vec::new(), self.report.clone());
        // Of records that come twice, the second is held against the first.
        let mut own: BTreeMap<RecordId, RecordBody> = BTreeMap::new();
        let mut met = BTreeSet::new();
        let twice: BTreeSet<RecordId> = self.waiting.iter().map(|(id, _)| *id).filter(|id| !met.insert(*id)).collect();
        for (id, what) in &self.waiting {
            let before = match own.get(id) {
                Some(body) => Ok(Some(body.clone())),
                None => view::read(self.room, self.vault, id)
                    .map(|seen| seen.map(|seen| std::sync::Arc::unwrap_or_clone(seen.body))),
            };
            let verdict = match before {
                Ok(before) => (self.decide)(before.as_ref(), what)?,
                // A later version of the app may have written what cannot be read here: it is not written over. Nor is
                // what this device does not keep.
                Err(Error::Damaged { .. } | Error::NotHere { .. }) => Verdict::Kept,
                Err(error) => return Err(error),
            };
            match verdict {
                Verdict::Same => report.same += 1,
                Verdict::Kept => {
                    report.kept += 1;
                    if report.kept_records.len() < NAMED {
                        report.kept_records.push(*id);
                    }
                }
                Verdict::New(body) => {
                    report.new += 1;
                    writes.push(view::sealed(self.room, self.vault, *id, &body)?);
                    twice.contains(id).then(|| own.insert(*id, body));
                }
                Verdict::Updated(body) => {
                    report.updated += 1;
                    writes.push(view::sealed(self.room, self.vault, *id, &body)?);
                    twice.contains(id).then(|| own.insert(*id, body));
                }
            }
        }
        Ok((writes, report))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_795_660_800_000;

    fn said(what: &str, ms: u64) -> RecordBody {
        RecordBody::new("notes", Hlc { ms, count: 0 }, what.as_bytes().to_vec())
    }

    fn now(before: Option<&RecordBody>, theirs: &RecordBody) -> Verdict {
        decide(before, theirs, &Collections::default(), NOW)
    }

    #[test]
    fn the_later_one_stands_and_keeps_its_stamp() {
        let (older, later) = (said("a", NOW - 2), said("b", NOW - 1));
        assert!(matches!(now(None, &older), Verdict::New(body) if body == older));
        assert!(matches!(now(Some(&older), &later), Verdict::Updated(body) if body == later));
        assert!(matches!(now(Some(&later), &older), Verdict::Kept));
        assert!(matches!(now(Some(&later), &said("b", NOW - 9)), Verdict::Same));
        assert!(matches!(now(Some(&said("b", NOW - 9)), &later), Verdict::Updated(body) if body == later));
        let gone = RecordBody::deletion("notes", Hlc { ms: NOW, count: 0 });
        assert!(matches!(now(Some(&gone), &later), Verdict::Kept));
    }

    #[test]
    fn a_record_that_is_there_stays_in_its_collection() {
        let here = RecordBody::new("letters", Hlc { ms: NOW - 2, count: 0 }, b"a".to_vec());
        assert!(matches!(now(Some(&here), &said("b", NOW - 1)), Verdict::Kept));
        let gone = RecordBody::deletion("letters", Hlc { ms: NOW - 2, count: 0 });
        assert!(matches!(now(Some(&gone), &said("b", NOW - 1)), Verdict::Updated(_)));
    }

    #[test]
    fn a_clock_ten_years_ahead_wins_nothing() {
        let ahead = said("c", NOW + 10 * 365 * 24 * 60 * 60 * 1000);
        assert!(matches!(now(None, &ahead), Verdict::New(body) if body.hlc.ms == NOW && body.data == ahead.data));
        assert!(matches!(now(Some(&said("b", NOW)), &ahead), Verdict::Kept));
    }
}
