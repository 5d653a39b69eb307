//! A store of vaults that forgets when it is dropped: for tests and for guests.
//!
//! Owns a few maps under one lock, so that every method is whole. Knows nothing of files.

mod outbox;

use self::outbox::Outbox;
use super::{
    Advance, Aside, Begun, Counts, Elsewhere, Fresh, KeptFrame, KeptVault, NewWrite, Now, Outline, Pending, Result,
    Settlement, Shelf, Shown, Together, Usage, VaultStore, Version,
};
use selkie_protocol::id::{ChangeId, RecordId, UserId, VaultId};
use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};
use std::ops::Bound;
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
    outbox: Outbox,
    aside: BTreeMap<ChangeId, Aside>,
    elsewhere: BTreeMap<(RecordId, ChangeId), Elsewhere>,
    settlements: Vec<Settlement>,
    staged: (Vec<Version>, Vec<Aside>),
    notes: BTreeMap<Shelf, Vec<u8>>,
    stamp: u64,
    touched: BTreeMap<RecordId, u64>,
    /// The same by stamp.
    touched_at: BTreeSet<(u64, RecordId)>,
    /// Of what was touched before, nothing is known.
    floor: u64,
}

impl One {
    fn elsewhere_of(&self, record: RecordId) -> impl Iterator<Item = &Elsewhere> {
        let all = (record, ChangeId([0; 32]))..=(record, ChangeId([u8::MAX; 32]));
        self.elsewhere.range(all).map(|(_, gone)| gone)
    }

    fn forget_elsewhere(&mut self, record: RecordId) -> Vec<Elsewhere> {
        let gone: Vec<Elsewhere> = self.elsewhere_of(record).copied().collect();
        for Elsewhere { record, change, .. } in &gone {
            self.elsewhere.remove(&(*record, *change));
        }
        gone
    }

    fn take_versions(&mut self, versions: &[Version]) {
        for version in versions {
            let kept = self.versions.entry(version.record).or_default();
            kept.retain(|known| known.change != version.change);
            kept.push(version.clone());
            kept.sort_by_key(|version| (version.n, version.index));
            self.elsewhere.remove(&(version.record, version.change));
        }
    }

    /// What the record says now is no more here than what it said before, unless one of these heads is.
    fn move_elsewhere(&mut self, record: &RecordId, heads: &[ChangeId]) {
        let before = self.forget_elsewhere(*record);
        let here = self.versions.get(record).map(Vec::as_slice).unwrap_or_default();
        let read = here.iter().any(|version| heads.contains(&version.change));
        for change in heads.iter().filter(|change| !here.iter().any(|version| version.change == **change)) {
            let known = before.iter().find(|gone| gone.change == *change);
            let gone =
                known.copied().or((!read).then_some(Elsewhere { record: *record, change: *change, was_here: false }));
            self.elsewhere.extend(gone.map(|gone| ((*record, *change), gone)));
        }
    }

    fn set_heads(&mut self, record: &RecordId, heads: &[ChangeId]) {
        let Some(kept) = self.versions.get_mut(record) else { return };
        if kept.iter().any(|version| heads.contains(&version.change)) {
            kept.iter_mut().for_each(|version| version.current = heads.contains(&version.change));
        } else if !kept.iter().any(|version| version.current)
            && let Some(newest) = kept.last_mut()
        {
            newest.current = true;
        }
    }

    /// Nothing but this is to be known of it.
    fn may_go(&self, gone: &Elsewhere, seen: u64) -> bool {
        let versions = self.versions.get(&gone.record).map(Vec::as_slice).unwrap_or_default();
        let mut current = versions.iter().filter(|version| version.current).map(|version| version.change);
        let is_all = current.next() == Some(gone.change) && current.next().is_none();
        let later = seen < self.floor || self.touched.get(&gone.record).is_some_and(|at| *at > seen);
        let pending = self.outbox.has(gone.record);
        let asked = self.settlements.iter().any(|one| one.record == gone.record && one.asked.is_some());
        is_all && !later && !pending && !asked
    }

    fn touch(&mut self, records: impl IntoIterator<Item = RecordId>) {
        self.stamp += 1;
        let stamp = self.stamp;
        for record in records {
            if let Some(before) = self.touched.insert(record, stamp) {
                self.touched_at.remove(&(before, record));
            }
            self.touched_at.insert((stamp, record));
        }
    }

    fn write_down(&mut self, write: &NewWrite, group: Option<u64>) -> u64 {
        let own_before = self.outbox.has(write.record);
        let current = self.versions.get(&write.record).into_iter().flatten().filter(|version| version.current);
        let mut base: Vec<ChangeId> = current.map(|version| version.change).collect();
        base.sort_unstable();
        self.next_seq += 1;
        let (seq, record, shelf) = (self.next_seq, write.record, write.shelf);
        let base = (!own_before).then_some(base);
        let group = group.unwrap_or(seq);
        self.outbox.insert(Pending { seq, group, record, shelf, base, sealed: write.sealed.clone() });
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
        let sent = step.sent.iter().filter_map(|(seq, _)| Some(self.outbox.get(*seq)?.record));
        let touched: Vec<RecordId> = sent.chain(step.touched()).collect();
        if !touched.is_empty() {
            self.touch(touched);
        }
        for (record, live) in &step.live {
            match live {
                Some(live) => drop(self.live.insert(*record, live.clone())),
                None => {
                    self.live.remove(record);
                    self.versions.remove(record);
                    self.forget_elsewhere(*record);
                }
            }
        }
        self.frames.extend(step.frames.iter().map(|frame| (frame.n, frame.clone())));
        if step.frames_before_ms > 0 {
            self.frames.retain(|_, frame| frame.received_ms >= step.frames_before_ms);
        }
        let were: BTreeSet<RecordId> = self.elsewhere.keys().map(|(record, _)| *record).collect();
        self.take_versions(&step.versions);
        for (record, heads) in step.heads.iter().filter(|(record, _)| were.contains(record)) {
            self.move_elsewhere(record, heads);
        }
        step.heads.iter().for_each(|(record, heads)| self.set_heads(record, heads));
        self.aside.extend(step.aside.iter().map(|aside| (aside.change, aside.clone())));
        step.no_longer_aside.iter().for_each(|change| drop(self.aside.remove(change)));
        self.take_out_sent(&step.sent);
        self.take_settlements(&step.settlements);
        self.keys.extend(step.keys.iter().cloned());
    }

    fn take_out_sent(&mut self, sent: &[(u64, Option<ChangeId>)]) {
        for (seq, change) in sent {
            let (Some(sent), Some(change)) = (self.outbox.remove(*seq), change) else { continue };
            if let Some(next) = self.outbox.next_of(sent.record, *seq) {
                next.base = Some(vec![*change]);
            }
        }
    }

    fn take_settlements(&mut self, settled: &[Settlement]) {
        for settlement in settled {
            let id = self.settlements.len() as u64 + 1;
            self.settlements.push(Settlement { id, ..settlement.clone() });
        }
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

    fn keep_account(&self, before: Option<&[u8]>, state: &[u8]) -> Result<bool> {
        let mut all = self.all();
        let is_same = all.account.as_deref() == before;
        if is_same {
            all.account = Some(state.to_vec());
        }
        Ok(is_same)
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

    fn revision(&self, vault: &VaultId) -> Result<Option<u64>> {
        Ok(self.all().vaults.get(vault).map(|one| one.revision))
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
        let new = || One {
            revision: 1,
            state: begun.state.clone(),
            in_flight: begun.in_flight.clone(),
            trail: begun.trail.iter().copied().collect(),
            keys: begun.keys.iter().cloned().collect(),
            frames: begun.frames.iter().map(|frame| (frame.n, frame.clone())).collect(),
            ..One::default()
        };
        if let Entry::Vacant(place) = self.all().vaults.entry(*vault) {
            let one = place.insert(new());
            for write in &begun.writes {
                one.write_down(write, None);
            }
            one.touch(begun.writes.iter().map(|write| write.record));
        }
        Ok(())
    }

    fn advance(&self, vault: &VaultId, revision: u64, advance: &Advance) -> Result<Option<u64>> {
        let mut all = self.all();
        let Some(one) = all.vaults.get_mut(vault).filter(|one| one.revision == revision) else { return Ok(None) };
        one.advance(advance);
        Ok(Some(one.revision))
    }

    fn stage_anew(&self, vault: &VaultId, revision: u64) -> Result<Option<u64>> {
        let mut all = self.all();
        let Some(one) = all.vaults.get_mut(vault).filter(|one| one.revision == revision) else { return Ok(None) };
        one.staged = Default::default();
        one.revision += 1;
        Ok(Some(one.revision))
    }

    fn stage(&self, vault: &VaultId, revision: u64, versions: &[Version], aside: &[Aside]) -> Result<bool> {
        let mut all = self.all();
        let Some(one) = all.vaults.get_mut(vault).filter(|one| one.revision == revision) else { return Ok(false) };
        one.staged.0.extend_from_slice(versions);
        one.staged.1.extend_from_slice(aside);
        Ok(true)
    }

    fn replace(&self, vault: &VaultId, revision: u64, fresh: &Fresh) -> Result<Option<u64>> {
        let mut all = self.all();
        let Some(one) = all.vaults.get_mut(vault).filter(|one| one.revision == revision) else { return Ok(None) };
        let (versions, aside) = std::mem::take(&mut one.staged);
        let mut old = std::mem::take(one);
        old.take_out_sent(&fresh.sent);
        old.take_settlements(&fresh.settlements);
        *one = One {
            revision: revision + 1,
            state: fresh.state.clone(),
            in_flight: fresh.in_flight.clone(),
            next_seq: old.next_seq,
            trail: fresh.trail.iter().copied().collect(),
            live: fresh.live.iter().cloned().collect(),
            keys: old.keys.into_iter().chain(fresh.keys.iter().cloned()).collect(),
            aside: aside.into_iter().map(|aside| (aside.change, aside)).collect(),
            elsewhere: fresh.elsewhere.iter().map(|one| ((one.record, one.change), *one)).collect(),
            settlements: old.settlements,
            stamp: old.stamp + 1,
            floor: old.stamp + 1,
            ..One::default()
        };
        one.take_versions(&versions);
        fresh.heads.iter().for_each(|(record, heads)| one.set_heads(record, heads));
        for again in &fresh.again {
            let seq = one.write_down(&again.write, None);
            let base = one.outbox.get_mut(seq).and_then(|pending| pending.base.as_mut());
            if let Some(base) = base.filter(|_| again.collides) {
                base.clear();
            }
        }
        // What belonged together still does, under the new number of its first; where that was sent, as before.
        let mut groups = BTreeMap::new();
        for pending in old.outbox.into_writes() {
            one.next_seq += 1;
            let seq = one.next_seq;
            if pending.seq == pending.group {
                groups.insert(pending.group, seq);
            }
            let group = groups.get(&pending.group).copied().unwrap_or(pending.group);
            one.outbox.insert(Pending { seq, group, ..pending });
        }
        Ok(Some(one.revision))
    }

    fn forget(&self, vault: &VaultId) -> Result<()> {
        self.all().vaults.remove(vault);
        Ok(())
    }

    fn forget_if_sent(&self, vault: &VaultId) -> Result<bool> {
        let mut all = self.all();
        let sent = all.vaults.get(vault).is_some_and(|one| one.outbox.is_empty() && one.in_flight.is_none());
        Ok(sent && all.vaults.remove(vault).is_some())
    }

    fn write_down(
        &self,
        vault: &VaultId,
        seen: Option<u64>,
        writes: &[NewWrite],
        together: Together,
    ) -> Result<Option<Vec<u64>>> {
        let mut all = self.all();
        let one = all.vaults.get_mut(vault).ok_or_else(|| super::gone("writing a record"))?;
        let later = |seen| writes.iter().any(|write| one.touched.get(&write.record).is_some_and(|at| *at > seen));
        if seen.is_some_and(|seen| seen < one.floor || later(seen)) {
            return Ok(None);
        }
        let mut seqs = Vec::with_capacity(writes.len());
        for write in writes {
            let group = seqs.first().copied().filter(|_| together == Together::AsOne);
            seqs.push(one.write_down(write, group));
        }
        one.touch(writes.iter().map(|write| write.record));
        Ok(Some(seqs))
    }

    fn put_on_shelves(&self, vault: &VaultId, seqs: &[(u64, Shelf)]) -> Result<()> {
        let mut all = self.all();
        let Some(one) = all.vaults.get_mut(vault) else { return Ok(()) };
        for (seq, shelf) in seqs {
            let Some(pending) = one.outbox.get_mut(*seq) else { continue };
            pending.shelf = *shelf;
            let record = pending.record;
            one.touch([record]);
        }
        Ok(())
    }

    fn take_back(&self, vault: &VaultId, revision: u64, seqs: &[u64]) -> Result<Option<u64>> {
        let mut all = self.all();
        let Some(one) = all.vaults.get_mut(vault).filter(|one| one.revision == revision) else { return Ok(None) };
        for seq in seqs {
            let Some(gone) = one.outbox.remove(*seq) else { continue };
            if let Some(next) = one.outbox.next_of(gone.record, *seq) {
                next.base = gone.base;
            }
            one.touch([gone.record]);
        }
        one.revision += 1;
        Ok(Some(one.revision))
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }

    fn outbox(&self, vault: &VaultId, limit: usize) -> Result<Vec<Pending>> {
        self.read(vault, |one| one.outbox.iter().take(limit).cloned().collect())
    }

    fn pending_of(&self, vault: &VaultId, record: &RecordId) -> Result<Vec<Pending>> {
        self.read(vault, |one| one.outbox.of(*record).cloned().collect())
    }

    fn now(&self, vault: &VaultId, record: &RecordId) -> Result<Now> {
        self.read(vault, |one| {
            let pending = one.outbox.of(*record).next_back().cloned();
            let current = one.versions.get(record).into_iter().flatten().filter(|version| version.current);
            let current = if pending.is_some() { Vec::new() } else { current.cloned().collect() };
            let is_nowhere = pending.is_none() && current.is_empty();
            let elsewhere = one.elsewhere_of(*record).next().filter(|_| is_nowhere).copied();
            let is_aside = || one.aside.values().any(|aside| aside.record == *record);
            let in_log = is_nowhere && elsewhere.is_none() && one.live.contains_key(record);
            Now { pending, current, elsewhere, unexplained: in_log && !is_aside() }
        })
    }

    fn shelf(&self, vault: &VaultId, shelf: &Shelf, visit: &mut dyn FnMut(Shown)) -> Result<u64> {
        let (stamp, shown) = self.read(vault, |one| {
            let pending: BTreeMap<RecordId, &Pending> =
                one.outbox.iter().map(|pending| (pending.record, pending)).collect();
            let current = one.versions.values().flatten().filter(|version| version.current);
            let in_log = current.filter(|version| !pending.contains_key(&version.record) && version.shelf == *shelf);
            let in_log = in_log.map(|version| (version.record, Some(version.change), &version.sealed));
            let pending = pending.values().filter(|pending| pending.shelf == *shelf);
            let pending = pending.map(|pending| (pending.record, None, &pending.sealed));
            let shown = in_log.chain(pending);
            let shown = shown.map(|(record, change, sealed)| Shown { record, change, sealed: sealed.clone() });
            (one.stamp, shown.collect::<Vec<_>>())
        })?;
        shown.into_iter().for_each(visit);
        Ok(stamp)
    }

    fn shelves(&self, vault: &VaultId) -> Result<Vec<Shelf>> {
        self.read(vault, |one| {
            let current = one.versions.values().flatten().filter(|version| version.current);
            let shelves = current.map(|version| version.shelf).chain(one.outbox.iter().map(|pending| pending.shelf));
            shelves.collect::<BTreeSet<_>>().into_iter().collect()
        })
    }

    fn page(&self, vault: &VaultId, shelf: &Shelf, after: Option<RecordId>, limit: usize) -> Result<Vec<RecordId>> {
        self.read(vault, |one| {
            let current = one.versions.values().flatten().filter(|version| version.current && version.shelf == *shelf);
            let pending = one.outbox.iter().filter(|pending| pending.shelf == *shelf);
            let here = current.map(|version| version.record).chain(pending.map(|pending| pending.record));
            let later = here.filter(|record| after.is_none_or(|after| *record > after));
            later.collect::<BTreeSet<_>>().into_iter().take(limit).collect()
        })
    }

    fn stamp(&self, vault: &VaultId) -> Result<u64> {
        self.read(vault, |one| one.stamp)
    }

    fn touched(&self, vault: &VaultId, after: u64) -> Result<(u64, Option<Vec<RecordId>>)> {
        self.read(vault, |one| {
            let known = after >= one.floor && after <= one.stamp;
            let later = || {
                let later = one.touched_at.range((Bound::Excluded((after, RecordId([u8::MAX; 16]))), Bound::Unbounded));
                later.map(|(_, record)| *record).collect()
            };
            (one.stamp, known.then(later))
        })
    }

    fn outline(&self, vault: &VaultId) -> Result<Option<Outline>> {
        self.read(vault, |one| {
            Some(Outline {
                revision: one.revision,
                state: one.state.clone(),
                keys: one.keys.iter().map(|(epoch, key)| (*epoch, key.clone())).collect(),
                in_flight: one.in_flight.clone(),
            })
        })
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

    fn aside_after(&self, vault: &VaultId, after: Option<&ChangeId>, most: usize) -> Result<Vec<Aside>> {
        let from = after.map_or(Bound::Unbounded, |after| Bound::Excluded(*after));
        self.read(vault, |one| {
            one.aside.range((from, Bound::Unbounded)).take(most).map(|(_, aside)| aside.clone()).collect()
        })
    }

    fn settlements(&self, vault: &VaultId) -> Result<Vec<Settlement>> {
        self.read(vault, |one| one.settlements.clone())
    }

    fn settlements_of(&self, vault: &VaultId, record: &RecordId) -> Result<Vec<Settlement>> {
        self.read(vault, |one| one.settlements.iter().filter(|one| one.record == *record).cloned().collect())
    }

    fn resolve(&self, vault: &VaultId, settlement: u64) -> Result<()> {
        let mut all = self.all();
        let Some(one) = all.vaults.get_mut(vault) else { return Ok(()) };
        let Some(decided) = one.settlements.iter_mut().find(|one| one.id == settlement) else { return Ok(()) };
        decided.asked = None;
        let record = decided.record;
        one.touch([record]);
        Ok(())
    }

    fn keep_note(&self, vault: &VaultId, name: &Shelf, sealed: &[u8]) -> Result<()> {
        if let Some(one) = self.all().vaults.get_mut(vault) {
            one.notes.insert(*name, sealed.to_vec());
        }
        Ok(())
    }

    fn note(&self, vault: &VaultId, name: &Shelf) -> Result<Option<Vec<u8>>> {
        self.read(vault, |one| one.notes.get(name).cloned())
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
            elsewhere: one.elsewhere.keys().map(|(record, _)| record).collect::<BTreeSet<_>>().len() as u64,
        })
    }

    fn usage(&self, vault: &VaultId) -> Result<Usage> {
        self.read(vault, |one| {
            let sum = |current: bool| {
                let versions = one.versions.values().flatten().filter(|version| version.current == current);
                versions.map(|version| version.sealed.len() as u64 + 144).sum()
            };
            let aside = one.aside.values().map(|aside| aside.item.len() + aside.payload.len() + 64);
            let frames = one.frames.values().map(|kept| kept.frame.len() + 16);
            let live = one.live.values().map(|live| live.len() + 16).chain([one.elsewhere.len() * 56]);
            Usage {
                records: sum(true),
                history: sum(false),
                pending: one.outbox.iter().map(|pending| pending.sealed.len() as u64 + 48).sum(),
                log: aside.chain(frames).chain([one.state.len()]).map(|bytes| bytes as u64).sum(),
                indexes: live.chain([one.trail.len() * 40]).map(|bytes| bytes as u64).sum(),
                versions: one.versions.values().flatten().filter(|version| !version.current).count() as u64,
            }
        })
    }

    fn size(&self) -> Result<u64> {
        self.vaults()?.iter().map(|vault| Ok(self.usage(vault)?.total())).sum()
    }

    fn prune(&self, vault: &VaultId, before_ms: u64) -> Result<Usage> {
        let before = self.usage(vault)?;
        if let Some(one) = self.all().vaults.get_mut(vault) {
            let pending = one.outbox.iter().map(|pending| pending.record);
            let asked = one.settlements.iter().filter(|one| one.asked.is_some()).map(|one| one.record);
            let needed: BTreeSet<RecordId> = pending.chain(asked).collect();
            for (_, versions) in one.versions.iter_mut().filter(|(record, _)| !needed.contains(record)) {
                versions.retain(|version| version.current || version.unix_ms >= before_ms);
            }
        }
        let after = self.usage(vault)?;
        let (history, versions) = (before.history - after.history, before.versions - after.versions);
        Ok(Usage { history, versions, ..Usage::default() })
    }

    fn let_go(&self, vault: &VaultId, seen: u64, records: &[Elsewhere]) -> Result<(u64, Usage)> {
        let before = self.usage(vault)?;
        let mut many = 0;
        if let Some(one) = self.all().vaults.get_mut(vault) {
            let gone: Vec<Elsewhere> = records.iter().filter(|gone| one.may_go(gone, seen)).copied().collect();
            gone.iter().for_each(|gone| drop(one.versions.remove(&gone.record)));
            one.elsewhere.extend(gone.iter().map(|gone| ((gone.record, gone.change), *gone)));
            one.touch(gone.iter().map(|gone| gone.record));
            many = gone.len() as u64;
        }
        let after = self.usage(vault)?;
        let (records, history) = (before.records - after.records, before.history - after.history);
        Ok((many, Usage { records, history, versions: before.versions - after.versions, ..Usage::default() }))
    }

    fn elsewhere(&self, vault: &VaultId) -> Result<Vec<Elsewhere>> {
        self.read(vault, |one| one.elsewhere.values().copied().collect())
    }

    fn elsewhere_of(&self, vault: &VaultId, record: &RecordId) -> Result<Vec<Elsewhere>> {
        self.read(vault, |one| one.elsewhere_of(*record).copied().collect())
    }

    fn shrink(&self) -> Result<()> {
        Ok(())
    }

    fn damage(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn rebuild(&self) -> Result<bool> {
        Ok(true)
    }
}

impl std::fmt::Debug for MemoryVaults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MemoryVaults(***)")
    }
}
