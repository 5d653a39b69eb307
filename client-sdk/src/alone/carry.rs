//! What a device kept by itself, written into an account's vault.
//!
//! Owns in which order, and what is taken away afterwards. Blocks on the disk.

use crate::carry::write::{BATCH, Load, TRIES, busy, put};
use crate::error::Result;
use crate::records::view;
use crate::store::vaults::{Pending, Together};
use crate::sync::room::Room;
use crate::vault::INFO_RECORD;
use selkie_protocol::id::{RecordId, VaultId};
use std::collections::{BTreeMap, BTreeSet};

/// What was carried over.
pub(super) struct Carried {
    /// The writes that are in the other vault now, or were there already. The name stays where it is.
    pub(super) seqs: Vec<u64>,
    /// How many records were written there.
    pub(super) records: u64,
}

pub(super) fn over(from: &Room, place: &VaultId, to: &Room, into: &VaultId, now_ms: u64) -> Result<Carried> {
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
            put(to, into, &std::mem::take(&mut alone), Together::EachAlone, now_ms, &mut touched)?;
            put(to, into, &loads, Together::AsOne, now_ms, &mut touched)?;
            continue;
        }
        put(to, into, &std::mem::take(&mut alone), Together::EachAlone, now_ms, &mut touched)?;
    }
    put(to, into, &alone, Together::EachAlone, now_ms, &mut touched)?;
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
    Err(busy())
}

fn load(from: &Room, place: &VaultId, pending: &Pending, last: &BTreeMap<RecordId, u64>) -> Result<Load> {
    let record = pending.record;
    let body = view::open(from, place, &record, &pending.sealed)?;
    Ok(Load { record, body, last: last.get(&record) == Some(&pending.seq) })
}
