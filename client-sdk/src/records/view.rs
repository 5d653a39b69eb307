//! Records of one vault as they are now, and the writing of them.
//!
//! Owns the cache of records that were looked at lately, and the one way by which an app's writes come about: every
//! write is made from what the record says at that moment, and taken down only if it still does. The cache is held
//! against the store's stamp at every look, so a write, a sync and another program all make it forget.

use super::index::Shelved;
use crate::error::{Error, Result};
use crate::store::vaults::{NewWrite, Now, Together, Version};
use crate::sync::replica::read_state;
use crate::sync::room::Room;
use selkie_protocol::cipher::RecordKey;
use selkie_protocol::id::{ChangeId, RecordId, VaultId};
use selkie_protocol::record::{Hlc, MAX_COLLECTION_LENGTH, RecordBody};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

/// How many records are kept in memory, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HotRecords {
    pub(crate) most: usize,
    pub(crate) longest_ms: u64,
}

impl Default for HotRecords {
    fn default() -> Self {
        HotRecords { most: 100, longest_ms: 5 * 60 * 1000 }
    }
}

/// How often a write is made again because somebody else was faster.
const TRIES: usize = 16;

/// A record as it is now; it may be deleted.
#[derive(Clone)]
pub(crate) struct Seen {
    pub(crate) body: Arc<RecordBody>,
    /// Missing if it is not in the log.
    pub(crate) change: Option<ChangeId>,
}

/// What was looked at lately, and the indexes of the collections that were asked.
#[derive(Default)]
pub(crate) struct View {
    hot: Mutex<Hot>,
    shelves: Mutex<HashMap<Arc<str>, Arc<Mutex<Shelved>>>>,
}

#[derive(Default)]
struct Hot {
    stamp: u64,
    records: HashMap<RecordId, (Option<Seen>, u64)>,
}

/// Makes a record's next version from the one there is and its stamp, if there is to be one. May be asked again.
pub(crate) type Make = Box<dyn Fn(Option<&RecordBody>, Hlc) -> Result<Option<RecordBody>> + Send>;

/// A write that is to be.
pub(crate) struct Draft {
    pub(crate) record: RecordId,
    /// The name was drawn for this write, so there is nothing of it yet.
    pub(crate) new: bool,
    pub(crate) make: Make,
}

impl View {
    /// Everything is read again.
    pub(crate) fn forget(&self) {
        *self.hot.lock().unwrap_or_else(PoisonError::into_inner) = Hot::default();
        let shelves = std::mem::take(&mut *self.shelves.lock().unwrap_or_else(PoisonError::into_inner));
        // To let go of much takes a moment.
        drop(shelves);
    }

    /// How many records are held here, in whatever way.
    pub(crate) fn held(&self) -> usize {
        let shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        let shelves: Vec<Arc<Mutex<Shelved>>> = shelves.values().cloned().collect();
        // One that is being built is waited for: nobody else may be, meanwhile.
        let indexed = shelves.iter().map(|shelved| shelved.lock().unwrap_or_else(PoisonError::into_inner).rows.len());
        indexed.sum::<usize>() + self.hot.lock().unwrap_or_else(PoisonError::into_inner).records.len()
    }

    /// The index of a collection, empty when it is first asked for.
    pub(super) fn shelved(&self, name: &Arc<str>) -> Arc<Mutex<Shelved>> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner).entry(name.clone()).or_default().clone()
    }

    /// The record, from memory if nothing has touched it since. Quick enough to be called where futures are driven.
    pub(crate) fn look(
        &self,
        room: &Room,
        vault: &VaultId,
        record: &RecordId,
        now_ms: u64,
        HotRecords { most, longest_ms }: HotRecords,
    ) -> Result<Option<Seen>> {
        let stamp = room.store.stamp(vault)?;
        {
            let mut hot = self.hot.lock().unwrap_or_else(PoisonError::into_inner);
            if hot.stamp != stamp {
                match room.store.touched(vault, hot.stamp)? {
                    (_, Some(touched)) => touched.iter().for_each(|record| drop(hot.records.remove(record))),
                    (_, None) => hot.records.clear(),
                }
                hot.stamp = stamp;
            }
            if let Some((seen, _)) = hot.records.get(record).filter(|(_, at)| now_ms.saturating_sub(*at) < longest_ms) {
                return Ok(seen.clone());
            }
        }
        let seen = read(room, vault, record)?;
        let mut hot = self.hot.lock().unwrap_or_else(PoisonError::into_inner);
        if hot.stamp == stamp && most > 0 {
            if hot.records.len() >= most
                && let Some(oldest) = hot.records.iter().min_by_key(|(_, (_, at))| *at).map(|(record, _)| *record)
            {
                hot.records.remove(&oldest);
            }
            hot.records.insert(*record, (seen.clone(), now_ms));
        }
        Ok(seen)
    }
}

/// The record as the store has it. Where there is nothing and the log has the record, that is no answer.
pub(crate) fn read(room: &Room, vault: &VaultId, record: &RecordId) -> Result<Option<Seen>> {
    let mut now = room.store.now(vault, record)?;
    if now.unexplained && !has_not_come(room, vault, record)? {
        // Unless it came between the two looks.
        now = room.store.now(vault, record)?;
        if now.unexplained {
            return Err(Error::damaged("a record that is in the log is not where it was put"));
        }
    }
    if now.elsewhere.is_some() {
        return Err(Error::NotHere { record: *record });
    }
    opened(room, vault, record, now)
}

/// Whether the server has not shown what the record says.
fn has_not_come(room: &Room, vault: &VaultId, record: &RecordId) -> Result<bool> {
    let Some(outline) = room.store.outline(vault)? else { return Ok(true) };
    let (state, _) = read_state(vault, &outline.state, &room.at_rest)?;
    Ok(state.missing.iter().any(|(missing, _)| missing == record))
}

/// The same for whoever looks only among what is here.
pub(crate) fn read_if_here(room: &Room, vault: &VaultId, record: &RecordId) -> Result<Option<Seen>> {
    opened(room, vault, record, room.store.now(vault, record)?)
}

fn opened(room: &Room, vault: &VaultId, record: &RecordId, now: Now) -> Result<Option<Seen>> {
    let Now { pending, current, .. } = now;
    if let Some(pending) = pending {
        let body = Arc::new(open(room, vault, record, &pending.sealed)?);
        return Ok(Some(Seen { body, change: None }));
    }
    let open = |version: &Version| {
        let body = Arc::new(open(room, vault, record, &version.sealed)?);
        Ok(Seen { body, change: Some(version.change) })
    };
    let seen = current.iter().map(open).collect::<Result<Vec<_>>>()?;
    Ok(seen.into_iter().max_by_key(|seen| (seen.body.hlc, seen.change)))
}

/// Opens what lies on the disk.
pub(crate) fn open(room: &Room, vault: &VaultId, record: &RecordId, sealed: &[u8]) -> Result<RecordBody> {
    let damaged = || Error::damaged("a record");
    let plain = room.at_rest.open_record(vault, record, sealed).map_err(|_| damaged())?;
    RecordBody::from_bytes(&plain).map_err(|_| damaged())
}

/// Writes all drafts, or none. Blocks on the disk.
pub(crate) fn commit(room: &Room, vault: &VaultId, drafts: &[Draft], now_ms: u64) -> Result<()> {
    let all_new = drafts.iter().all(|draft| draft.new);
    for _ in 0..TRIES {
        let seen = if all_new { None } else { Some(room.store.stamp(vault)?) };
        let mut bodies: BTreeMap<RecordId, RecordBody> = BTreeMap::new();
        let mut writes = Vec::with_capacity(drafts.len());
        for Draft { record, new, make } in drafts {
            let before = match bodies.remove(record) {
                Some(own) => Some(own),
                None if *new => None,
                None => read(room, vault, record)?.map(|seen| Arc::unwrap_or_clone(seen.body)),
            };
            let stamp = Hlc::after(before.as_ref().map(|body| body.hlc).unwrap_or_default(), now_ms);
            let next = make(before.as_ref(), stamp)?;
            if let Some(body) = &next {
                writes.push(sealed(room, vault, *record, body)?);
            }
            if let Some(body) = next.or(before) {
                bodies.insert(*record, body);
            }
        }
        if writes.is_empty() {
            return Ok(());
        }
        if room.store.write_down(vault, seen, &writes, Together::AsOne)?.is_some() {
            room.wrote(vault);
            return Ok(());
        }
    }
    Err(busy())
}

/// Somebody else was faster, time and again.
pub(crate) fn busy() -> Error {
    Error::RetryLater { after: None, why: "another part of the app writes the same records all the time".into() }
}

/// Whoever has the name of a record of another collection has mistaken it.
pub(crate) fn stays_in(collection: &str, before: Option<&RecordBody>) -> Result<()> {
    match before.filter(|body| !body.deleted && body.collection != collection) {
        None => Ok(()),
        Some(body) => {
            let there = crate::untrusted::clean(&body.collection);
            Err(Error::NotPossible(format!("that record is in the collection {there:?}, and stays there")))
        }
    }
}

/// A record's next version as it is written down, if it may be.
pub(crate) fn sealed(room: &Room, vault: &VaultId, record: RecordId, body: &RecordBody) -> Result<NewWrite> {
    if body.collection.is_empty() || body.collection.len() > MAX_COLLECTION_LENGTH {
        return Err(Error::ApiMisuse("a collection's name has 1 to 128 bytes".into()));
    }
    let plain = body.to_bytes();
    if !RecordKey::fits(plain.len()) {
        return Err(Error::NotPossible("a record has at most 256 KiB: this belongs into a file".into()));
    }
    let shelf = room.at_rest.shelf(vault, &body.collection);
    Ok(NewWrite { record, shelf, sealed: room.at_rest.seal_record(vault, &record, &plain) })
}
