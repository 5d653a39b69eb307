//! A store of vaults that forgets when it is dropped: for tests and for guests.
//!
//! Owns a few maps under one lock, so that every method is whole. Knows nothing of files.

use super::{
    Advance, Aside, Begun, Counts, Fresh, KeptFrame, KeptVault, NewWrite, Pending, Result, Settlement, Shelf,
    VaultStore, Version,
};
use selkie_protocol::id::{ChangeId, RecordId, UserId, VaultId};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Vaults in memory.
#[derive(Default)]
pub struct MemoryVaults(Mutex<Everything>);

#[derive(Default)]
struct Everything {
    account: Option<Vec<u8>>,
    people: BTreeMap<UserId, Vec<u8>>,
    vaults: BTreeMap<VaultId, One>,
}

#[derive(Default)]
struct One {
    revision: u64,
    state: Vec<u8>,
    in_flight: Option<Vec<u8>>,
    next_seq: u64,
    trail: BTreeMap<u64, [u8; 32]>,
    live: BTreeMap<RecordId, Vec<u8>>,
    keys: BTreeMap<u32, Vec<u8>>,
    frames: BTreeMap<u64, KeptFrame>,
    versions: BTreeMap<RecordId, Vec<Version>>,
    outbox: BTreeMap<u64, Pending>,
    aside: BTreeMap<ChangeId, Aside>,
    settlements: Vec<Settlement>,
    staged: (Vec<Version>, Vec<Aside>),
}

impl One {
    fn take_versions(&mut self, versions: &[Version]) {
        for version in versions {
            let kept = self.versions.entry(version.record).or_default();
            kept.retain(|known| known.change != version.change);
            kept.push(version.clone());
            kept.sort_by_key(|version| (version.n, version.index));
        }
    }

    fn set_heads(&mut self, record: &RecordId, heads: &[ChangeId]) {
        let Some(kept) = self.versions.get_mut(record) else { return };
        if kept.iter().any(|version| heads.contains(&version.change)) {
            kept.iter_mut().for_each(|version| version.current = heads.contains(&version.change));
        }
    }

    fn write_down(&mut self, write: &NewWrite) -> u64 {
        let own_before = self.outbox.values().any(|pending| pending.record == write.record);
        let current = self.versions.get(&write.record).into_iter().flatten().filter(|version| version.current);
        let mut base: Vec<ChangeId> = current.map(|version| version.change).collect();
        base.sort_unstable();
        self.next_seq += 1;
        let (seq, record, shelf) = (self.next_seq, write.record, write.shelf);
        let base = (!own_before).then_some(base);
        self.outbox.insert(seq, Pending { seq, record, shelf, base, sealed: write.sealed.clone() });
        seq
    }

    fn advance(&mut self, step: &Advance) {
        self.revision += 1;
        if let Some(state) = &step.state {
            self.state = state.clone();
        }
        if let Some(in_flight) = &step.in_flight {
            self.in_flight = in_flight.clone();
        }
        self.trail.extend(step.trail.iter().copied());
        self.trail.retain(|n, _| *n >= step.trail_from);
        for (record, live) in &step.live {
            match live {
                Some(live) => drop(self.live.insert(*record, live.clone())),
                None => {
                    self.live.remove(record);
                    self.versions.remove(record);
                }
            }
        }
        self.frames.extend(step.frames.iter().map(|frame| (frame.n, frame.clone())));
        if step.frames_before_ms > 0 {
            self.frames.retain(|_, frame| frame.received_ms >= step.frames_before_ms);
        }
        self.take_versions(&step.versions);
        step.heads.iter().for_each(|(record, heads)| self.set_heads(record, heads));
        self.aside.extend(step.aside.iter().map(|aside| (aside.change, aside.clone())));
        step.no_longer_aside.iter().for_each(|change| drop(self.aside.remove(change)));
        for (seq, change) in &step.sent {
            let (Some(sent), Some(change)) = (self.outbox.remove(seq), change) else { continue };
            let next = self.outbox.range_mut(seq..).find(|(_, pending)| pending.record == sent.record);
            if let Some((_, next)) = next {
                next.base = Some(vec![*change]);
            }
        }
        self.settlements.extend(step.settlements.iter().cloned());
        self.keys.extend(step.keys.iter().cloned());
    }
}

impl MemoryVaults {
    fn all(&self) -> MutexGuard<'_, Everything> {
        // The maps are whole after every operation: a panic elsewhere leaves nothing half done in them.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read<T: Default>(&self, vault: &VaultId, read: impl FnOnce(&One) -> T) -> Result<T> {
        Ok(self.all().vaults.get(vault).map(read).unwrap_or_default())
    }
}

impl VaultStore for MemoryVaults {
    fn account(&self) -> Result<Option<Vec<u8>>> {
        Ok(self.all().account.clone())
    }

    fn keep_account(&self, state: &[u8]) -> Result<()> {
        self.all().account = Some(state.to_vec());
        Ok(())
    }

    fn people(&self) -> Result<Vec<(UserId, Vec<u8>)>> {
        Ok(self.all().people.iter().map(|(user, log)| (*user, log.clone())).collect())
    }

    fn keep_person(&self, user: &UserId, log: &[u8]) -> Result<()> {
        self.all().people.insert(*user, log.to_vec());
        Ok(())
    }

    fn vaults(&self) -> Result<Vec<VaultId>> {
        Ok(self.all().vaults.keys().copied().collect())
    }

    fn load(&self, vault: &VaultId) -> Result<Option<KeptVault>> {
        Ok(self.all().vaults.get(vault).map(|one| KeptVault {
            revision: one.revision,
            state: one.state.clone(),
            trail: one.trail.iter().map(|(n, h)| (*n, *h)).collect(),
            live: one.live.iter().map(|(record, live)| (*record, live.clone())).collect(),
            keys: one.keys.iter().map(|(epoch, key)| (*epoch, key.clone())).collect(),
            in_flight: one.in_flight.clone(),
        }))
    }

    fn begin(&self, vault: &VaultId, begun: &Begun) -> Result<()> {
        self.all().vaults.entry(*vault).or_insert_with(|| One {
            revision: 1,
            state: begun.state.clone(),
            in_flight: begun.in_flight.clone(),
            trail: begun.trail.iter().copied().collect(),
            keys: begun.keys.iter().cloned().collect(),
            frames: begun.frames.iter().map(|frame| (frame.n, frame.clone())).collect(),
            ..One::default()
        });
        Ok(())
    }

    fn advance(&self, vault: &VaultId, revision: u64, advance: &Advance) -> Result<Option<u64>> {
        let mut all = self.all();
        let Some(one) = all.vaults.get_mut(vault).filter(|one| one.revision == revision) else { return Ok(None) };
        one.advance(advance);
        Ok(Some(one.revision))
    }

    fn stage(&self, vault: &VaultId, anew: bool, versions: &[Version], aside: &[Aside]) -> Result<()> {
        if let Some(one) = self.all().vaults.get_mut(vault) {
            if anew {
                one.staged = Default::default();
            }
            one.staged.0.extend_from_slice(versions);
            one.staged.1.extend_from_slice(aside);
        }
        Ok(())
    }

    fn replace(&self, vault: &VaultId, revision: u64, fresh: &Fresh) -> Result<Option<u64>> {
        let mut all = self.all();
        let Some(one) = all.vaults.get_mut(vault).filter(|one| one.revision == revision) else { return Ok(None) };
        let (versions, aside) = std::mem::take(&mut one.staged);
        let old = std::mem::take(one);
        *one = One {
            revision: revision + 1,
            state: fresh.state.clone(),
            next_seq: old.next_seq,
            trail: fresh.trail.iter().copied().collect(),
            live: fresh.live.iter().cloned().collect(),
            keys: old.keys.into_iter().chain(fresh.keys.iter().cloned()).collect(),
            aside: aside.into_iter().map(|aside| (aside.change, aside)).collect(),
            settlements: old.settlements,
            ..One::default()
        };
        one.take_versions(&versions);
        fresh.heads.iter().for_each(|(record, heads)| one.set_heads(record, heads));
        for again in &fresh.again {
            let seq = one.write_down(&again.write);
            let base = one.outbox.get_mut(&seq).and_then(|pending| pending.base.as_mut());
            if let Some(base) = base.filter(|_| again.collides) {
                base.clear();
            }
        }
        for pending in old.outbox.into_values() {
            one.next_seq += 1;
            let seq = one.next_seq;
            one.outbox.insert(seq, Pending { seq, ..pending });
        }
        Ok(Some(one.revision))
    }

    fn forget(&self, vault: &VaultId) -> Result<()> {
        self.all().vaults.remove(vault);
        Ok(())
    }

    fn write_down(&self, vault: &VaultId, write: &NewWrite) -> Result<u64> {
        let mut all = self.all();
        let one = all.vaults.get_mut(vault).ok_or_else(|| super::gone("writing a record"))?;
        Ok(one.write_down(write))
    }

    fn outbox(&self, vault: &VaultId, limit: usize) -> Result<Vec<Pending>> {
        self.read(vault, |one| one.outbox.values().take(limit).cloned().collect())
    }

    fn pending_of(&self, vault: &VaultId, record: &RecordId) -> Result<Vec<Pending>> {
        self.read(vault, |one| one.outbox.values().filter(|pending| pending.record == *record).cloned().collect())
    }

    fn versions(&self, vault: &VaultId, record: &RecordId) -> Result<Vec<Version>> {
        self.read(vault, |one| one.versions.get(record).cloned().unwrap_or_default())
    }

    fn current(&self, vault: &VaultId, shelf: Option<&Shelf>) -> Result<Vec<Version>> {
        self.read(vault, |one| {
            let current = one.versions.values().flatten().filter(|version| version.current);
            current.filter(|version| shelf.is_none_or(|shelf| version.shelf == *shelf)).cloned().collect()
        })
    }

    fn aside(&self, vault: &VaultId) -> Result<Vec<Aside>> {
        self.read(vault, |one| one.aside.values().cloned().collect())
    }

    fn settlements(&self, vault: &VaultId) -> Result<Vec<Settlement>> {
        self.read(vault, |one| one.settlements.clone())
    }

    fn frames(&self, vault: &VaultId, from: u64, to: u64) -> Result<Vec<(u64, Vec<u8>)>> {
        if from > to {
            return Ok(Vec::new());
        }
        self.read(vault, |one| one.frames.range(from..=to).map(|(n, kept)| (*n, kept.frame.clone())).collect())
    }

    fn counts(&self, vault: &VaultId) -> Result<Counts> {
        self.read(vault, |one| Counts {
            records: one.versions.values().filter(|kept| kept.iter().any(|version| version.current)).count() as u64,
            pending: one.outbox.len() as u64,
            aside: one.aside.len() as u64,
        })
    }
}

impl std::fmt::Debug for MemoryVaults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MemoryVaults(***)")
    }
}
