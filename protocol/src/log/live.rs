//! The live changes: what is not superseded, record by record. This is all of history that is kept.
//!
//! Owns the rule of heads. A whole write (FULL) names exactly the heads of its record, so it has everything before it
//! among its ancestors and supersedes it; it is then the record's only live change. A difference (DELTA) is added
//! beside what is there, and takes the heads it was made on top of off the list of heads.
//!
//! A DELTA's dependencies are live changes of its record. One exception: if the record was written whole after what
//! the author had seen, the dependencies may be among the changes that write superseded. Those are not kept, so the
//! author's signature is taken for it; such a dependency changes nothing.

use super::checkpoint::{Leaf, Root};
use super::data::Change;
use super::reader::{Malformed, Reader, u32_length};
use super::refusal::{Conflict, Refusal};
use crate::id::{ChangeId, RecordId};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::mem::take;

/// One live change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveChange {
    pub id: ChangeId,
    /// `H("ct", payload)`.
    pub payload: [u8; 32],
    pub head: bool,
}

/// What is live of one record: at least one change, ascending by id, at least one of them a head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where the record was last written whole: 0 for never. After a checkpoint, the checkpoint's position.
    whole_at: u64,
    changes: Changes,
}

/// Nearly every record has one live change; those that have many have very many.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Changes {
    One(LiveChange),
    Many(Box<Branches>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Branches {
    live: BTreeMap<ChangeId, LiveChange>,
    heads: Vec<ChangeId>,
}

/// The live changes of a vault.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiveSet {
    records: BTreeMap<RecordId, Record>,
    count: u64,
}

/// What one entry does to one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touched {
    /// What was live before stays: no whole write was among the changes.
    pub keeps: bool,
    pub whole_at: u64,
    /// The record's heads afterwards, ascending.
    pub heads: Vec<ChangeId>,
    /// New live changes and the hashes of their payloads, in order.
    pub added: Vec<(ChangeId, [u8; 32])>,
}

impl Record {
    pub fn whole_at(&self) -> u64 {
        self.whole_at
    }

    /// Ascending.
    pub fn heads(&self) -> Vec<ChangeId> {
        match &self.changes {
            Changes::One(change) => vec![change.id],
            Changes::Many(branches) => branches.heads.clone(),
        }
    }

    pub fn contains(&self, id: &ChangeId) -> bool {
        match &self.changes {
            Changes::One(change) => change.id == *id,
            Changes::Many(branches) => branches.live.contains_key(id),
        }
    }

    pub fn len(&self) -> usize {
        match &self.changes {
            Changes::One(_) => 1,
            Changes::Many(branches) => branches.live.len(),
        }
    }

    /// Never: a record without live changes is not there.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn changes(&self) -> impl Iterator<Item = LiveChange> + '_ {
        let (one, many) = match &self.changes {
            Changes::One(change) => (Some(*change), None),
            Changes::Many(branches) => (None, Some(branches.live.values().copied())),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }

    /// Built from what was kept elsewhere. `None` without a change, without a head, or with a change twice.
    pub fn new(whole_at: u64, changes: impl IntoIterator<Item = LiveChange>) -> Option<Record> {
        let mut live = BTreeMap::new();
        let mut heads = Vec::new();
        for change in changes {
            if live.insert(change.id, change).is_some() {
                return None;
            }
            if change.head {
                heads.push(change.id);
            }
        }
        heads.sort_unstable();
        if heads.is_empty() { None } else { Some(Record { whole_at, changes: Changes::new(live, heads) }) }
    }
}

impl Changes {
    fn new(live: BTreeMap<ChangeId, LiveChange>, heads: Vec<ChangeId>) -> Changes {
        match live.first_key_value() {
            Some((_, only)) if live.len() == 1 => Changes::One(*only),
            _ => Changes::Many(Box::new(Branches { live, heads })),
        }
    }
}

/// The changes of one entry, held against the records they touch and against each other.
#[derive(Debug, Default)]
pub(super) struct Staging {
    pub(super) touched: BTreeMap<RecordId, Touched>,
    pub(super) superseded: Vec<(RecordId, ChangeId)>,
    conflicts: Vec<Conflict>,
}

impl Staging {
    /// Takes the next change of an entry that stands at `n` and whose author had seen up to `seen`.
    pub(super) fn stage(
        &mut self,
        change: &Change<'_>,
        id: ChangeId,
        base: Option<&Record>,
        seen: u64,
        n: u64,
    ) -> Result<(), Refusal> {
        if self.conflicts.iter().any(|conflict| conflict.record == change.record) {
            return Ok(());
        }
        let touched = self.touched.entry(change.record).or_insert_with(|| Touched::nothing_yet(base));
        let base = base.filter(|_| touched.keeps);
        if change.full {
            if !change.deps.iter().eq(touched.heads.iter().copied()) {
                // What follows in the record was made on top of this, so there is no more to say about it.
                self.conflicts.push(Conflict { record: change.record, heads: touched.heads.clone() });
                return Ok(());
            }
            let before = base.into_iter().flat_map(Record::changes).map(|live| live.id);
            let before = before.chain(touched.added.drain(..).map(|(id, _)| id));
            self.superseded.extend(before.map(|id| (change.record, id)));
            touched.keeps = false;
            touched.whole_at = n;
            touched.heads.clear();
        } else {
            let author_saw_all = touched.whole_at <= seen || touched.whole_at == n;
            let known = |dep: &ChangeId| {
                touched.heads.binary_search(dep).is_ok()
                    || touched.added.iter().any(|(id, _)| id == dep)
                    || base.is_some_and(|record| record.contains(dep))
            };
            if author_saw_all && !change.deps.iter().all(|dep| known(&dep)) {
                return Err(Refusal::UnknownDependency { index: change.index });
            }
            touched.heads.retain(|head| !change.deps.iter().any(|dep| dep == *head));
        }
        let place = touched.heads.partition_point(|head| *head < id);
        touched.heads.insert(place, id);
        touched.added.push((id, change.payload));
        Ok(())
    }

    /// Itself, if nothing in it conflicts.
    pub(super) fn without_conflicts(self) -> Result<Staging, Refusal> {
        if self.conflicts.is_empty() { Ok(self) } else { Err(Refusal::Conflict(self.conflicts)) }
    }
}

impl Touched {
    fn nothing_yet(base: Option<&Record>) -> Touched {
        let (whole_at, heads) = base.map_or((0, Vec::new()), |record| (record.whole_at, record.heads()));
        Touched { keeps: true, whole_at, heads, added: Vec::new() }
    }

    /// The record afterwards, from what stays live of it and the heads it had.
    fn onto(self, mut live: BTreeMap<ChangeId, LiveChange>, heads_before: &[ChangeId]) -> Record {
        let Touched { whole_at, heads, added, .. } = self;
        let is_head = |id: &ChangeId| heads.binary_search(id).is_ok();
        if let ([(id, payload)], true) = (added.as_slice(), live.is_empty()) {
            let only = LiveChange { id: *id, payload: *payload, head: true };
            return Record { whole_at, changes: Changes::One(only) };
        }
        // Only heads stop being heads, so only they are looked at: a record may have very many live changes.
        for id in heads_before.iter().filter(|id| !is_head(id)) {
            live.entry(*id).and_modify(|change| change.head = false);
        }
        let added = added.into_iter().map(|(id, payload)| (id, LiveChange { id, payload, head: is_head(&id) }));
        live.extend(added);
        Record { whole_at, changes: Changes::new(live, heads) }
    }
}

impl LiveSet {
    pub fn record(&self, record: &RecordId) -> Option<&Record> {
        self.records.get(record)
    }

    pub fn records(&self) -> impl ExactSizeIterator<Item = (&RecordId, &Record)> {
        self.records.iter()
    }

    /// How many changes are live.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Every live change as a checkpoint counts it, ascending.
    pub fn leaves(&self) -> impl Iterator<Item = Leaf> + '_ {
        self.records.iter().flat_map(|(record, live)| {
            live.changes().map(|change| Leaf {
                record: *record,
                change: change.id,
                payload: change.payload,
                head: change.head,
            })
        })
    }

    /// The root of a checkpoint here that leaves out some records, named ascending.
    pub fn root_without(&self, forgotten: &[RecordId]) -> Root {
        self.leaves().filter(|leaf| forgotten.binary_search(&leaf.record).is_err()).collect()
    }

    /// Puts a record in as it was kept elsewhere. One that was there under this id must have been forgotten before.
    pub(super) fn insert(&mut self, id: RecordId, record: Record) {
        self.count += record.len() as u64;
        self.records.insert(id, record);
    }

    pub(super) fn forget(&mut self, record: &RecordId) {
        if let Some(gone) = self.records.remove(record) {
            self.count -= gone.len() as u64;
        }
    }

    pub(super) fn apply(&mut self, touched: BTreeMap<RecordId, Touched>) {
        for (id, touched) in touched {
            match self.records.entry(id) {
                Entry::Vacant(place) => {
                    let record = touched.onto(BTreeMap::new(), &[]);
                    self.count += record.len() as u64;
                    place.insert(record);
                }
                Entry::Occupied(mut place) => {
                    let before = place.get().len() as u64;
                    let keeps = touched.keeps;
                    let (live, heads) = match &mut place.get_mut().changes {
                        _ if !keeps => (BTreeMap::new(), Vec::new()),
                        Changes::One(change) => (BTreeMap::from([(change.id, *change)]), vec![change.id]),
                        Changes::Many(branches) => (take(&mut branches.live), take(&mut branches.heads)),
                    };
                    *place.get_mut() = touched.onto(live, &heads);
                    self.count = self.count - before + place.get().len() as u64;
                }
            }
        }
    }

    /// ```text
    /// record := rid 16 | whole_at u64 | count u32 | count x (cid 32 | ct_hash 32 | head u8)
    /// ```
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.records.len() * (16 + 8 + 4 + 65));
        for (id, record) in &self.records {
            out.extend_from_slice(id.as_bytes());
            out.extend_from_slice(&record.whole_at.to_be_bytes());
            out.extend_from_slice(&u32_length(record.len()));
            for change in record.changes() {
                out.extend_from_slice(change.id.as_bytes());
                out.extend_from_slice(&change.payload);
                out.push(u8::from(change.head));
            }
        }
        out
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<LiveSet, Malformed> {
        let mut reader = Reader::new(bytes);
        let mut set = LiveSet::default();
        while !reader.is_empty() {
            let id = RecordId(reader.array()?);
            let whole_at = reader.u64()?;
            let count = reader.u32()?;
            let changes = (0..count).map(|_| {
                let (id, payload) = (ChangeId(reader.array()?), reader.array()?);
                let head = match reader.u8()? {
                    0 => false,
                    1 => true,
                    _ => return Err(Malformed("a change is a head or it is not")),
                };
                Ok(LiveChange { id, payload, head })
            });
            let changes = changes.collect::<Result<Vec<_>, Malformed>>()?;
            if !changes.is_sorted_by(|one, next| one.id < next.id) {
                return Err(Malformed("live changes are not ascending"));
            }
            let record = Record::new(whole_at, changes).ok_or(Malformed("not a record's live changes"))?;
            if set.records.last_key_value().is_some_and(|(last, _)| *last >= id) {
                return Err(Malformed("records are not ascending"));
            }
            set.insert(id, record);
        }
        Ok(set)
    }
}

impl FromIterator<(RecordId, Record)> for LiveSet {
    fn from_iter<T: IntoIterator<Item = (RecordId, Record)>>(records: T) -> LiveSet {
        let mut set = LiveSet::default();
        for (id, record) in records {
            set.forget(&id);
            set.insert(id, record);
        }
        set
    }
}
