//! Records of one vault written into another, with their ids, stamps and history.
//!
//! Owns what of it is written and what is there already. Each is an edit like any of the app's, on top of what the
//! other vault says. Blocks on the disk.

use crate::error::Result;
use crate::records::{Collections, view};
use crate::store::vaults::{NewWrite, Pending, Together};
use crate::sync::room::Room;
use crate::vault::INFO_RECORD;
use selkie_protocol::id::{RecordId, VaultId};
use selkie_protocol::record::{Hlc, RecordBody};
use std::collections::{BTreeMap, BTreeSet};

/// As many as travel in one entry.
const BATCH: usize = 256;
/// How often a batch is decided again because somebody else was faster.
const TRIES: usize = 16;

/// What was carried over.
pub(super) struct Carried {
    /// The writes that are in the other vault now, or were there already. The name stays where it is.
    pub(super) seqs: Vec<u64>,
    /// How many records were written there.
    pub(super) records: u64,
}

/// By what is decided what stands.
pub(super) struct By {
    pub(super) collections: Collections,
    pub(super) now_ms: u64,
}

/// A write that is to be carried over.
struct Load {
    record: RecordId,
    body: RecordBody,
    /// What the record says in the end, on this side.
    last: bool,
}

pub(super) fn over(from: &Room, place: &VaultId, to: &Room, into: &VaultId, by: &By) -> Result<Carried> {
    let outbox = from.store.outbox(place, usize::MAX)?;
    let last: BTreeMap<RecordId, u64> = outbox.iter().map(|pending| (pending.record, pending.seq)).collect();
    let (mut touched, mut alone) = (BTreeSet::new(), Vec::new());
    for group in outbox.chunk_by(|one, next| one.group == next.group) {
        let loads = group.iter().filter(|pending| pending.record != INFO_RECORD);
        let loads = loads.map(|pending| load(from, place, pending, &last)).collect::<Result<Vec<_>>>()?;
        if loads.len() <= 1 {
            alone.extend(loads);
            if alone.len() < BATCH {
                continue;
            }
        } else {
            // In the order in which it was written, and what was one change of the app stays one.
            put(to, into, &std::mem::take(&mut alone), Together::EachAlone, by, &mut touched)?;
            put(to, into, &loads, Together::AsOne, by, &mut touched)?;
            continue;
        }
        put(to, into, &std::mem::take(&mut alone), Together::EachAlone, by, &mut touched)?;
    }
    put(to, into, &alone, Together::EachAlone, by, &mut touched)?;
    // What is taken away next must not be all there is after a power cut.
    to.store.flush()?;
    if !touched.is_empty() {
        to.wrote(into);
    }
    let carried = outbox.iter().filter(|pending| pending.record != INFO_RECORD);
    Ok(Carried { seqs: carried.map(|pending| pending.seq).collect(), records: touched.len() as u64 })
}

/// Takes away what was carried over. Whatever was written meanwhile stays.
pub(super) fn take_away(from: &Room, place: &VaultId, seqs: &[u64]) -> Result<()> {
    for _ in 0..TRIES {
        let Some(kept) = from.store.load(place)? else { return Ok(()) };
        if from.store.take_back(place, kept.revision, seqs)?.is_some() {
            return Ok(());
        }
    }
    Err(view::busy())
}

fn load(from: &Room, place: &VaultId, pending: &Pending, last: &BTreeMap<RecordId, u64>) -> Result<Load> {
    let record = pending.record;
    let body = view::open(from, place, &record, &pending.sealed)?;
    Ok(Load { record, body, last: last.get(&record) == Some(&pending.seq) })
}

fn put(
    to: &Room,
    into: &VaultId,
    loads: &[Load],
    together: Together,
    by: &By,
    touched: &mut BTreeSet<RecordId>,
) -> Result<()> {
    for _ in 0..TRIES {
        let seen = to.store.stamp(into)?;
        let writes = decided(to, into, loads, by)?;
        if writes.is_empty() {
            return Ok(());
        }
        if to.store.write_down(into, Some(seen), &writes, together)?.is_some() {
            touched.extend(writes.iter().map(|write| write.record));
            return Ok(());
        }
    }
    Err(view::busy())
}

fn decided(to: &Room, into: &VaultId, loads: &[Load], by: &By) -> Result<Vec<NewWrite>> {
    let (mut writes, mut own) = (Vec::new(), BTreeMap::<RecordId, RecordBody>::new());
    for Load { record, body, last } in loads {
        let before = match own.get(record) {
            Some(body) => Some(body.clone()),
            // What the account's record says and this device does not keep is met when it is sent.
            None => view::read_if_here(to, into, record)?.map(|seen| std::sync::Arc::unwrap_or_clone(seen.body)),
        };
        let next = match before {
            None => vec![body.clone()],
            Some(theirs) if theirs.hlc < body.hlc && !by.collections.is_of_later_app(&theirs) => vec![body.clone()],
            Some(theirs) if theirs.says_the_same(body) => Vec::new(),
            // The account says something newer, or a newer app said it, which stands. What this device said is in the
            // history beneath it.
            Some(theirs) if *last && !was_said(to, into, record, body)? => {
                let mut again = theirs;
                again.hlc = Hlc::after(again.hlc, by.now_ms);
                vec![body.clone(), again]
            }
            Some(_) => Vec::new(),
        };
        for body in &next {
            writes.push(view::sealed(to, into, *record, body)?);
        }
        own.extend(next.into_iter().next_back().map(|body| (*record, body)));
    }
    Ok(writes)
}

/// Whether it was carried over before, and something was written on top of it.
fn was_said(to: &Room, into: &VaultId, record: &RecordId, body: &RecordBody) -> Result<bool> {
    let versions = to.store.versions(into, record)?.into_iter().map(|version| version.sealed);
    let pending = to.store.pending_of(into, record)?.into_iter().map(|pending| pending.sealed);
    for sealed in versions.chain(pending) {
        if view::open(to, into, record, &sealed)? == *body {
            return Ok(true);
        }
    }
    Ok(false)
}
