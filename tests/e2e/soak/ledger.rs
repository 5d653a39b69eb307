//! What the devices' stores have acknowledged, and whether it is still there.
//!
//! Owns the list and what must hold at the end. Knows nothing about how it was written.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use selkie_client::{DeviceId, RecordId, RecordVersion, Vault, VaultId, VersionOf};

use super::app::{NOTES, Note, TALLIES, Tally};

/// Shared by all devices.
#[derive(Debug, Default)]
pub(super) struct Ledger(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    notes: BTreeMap<VaultId, BTreeMap<RecordId, OfNote>>,
    /// For choosing among them, oldest first.
    in_order: BTreeMap<VaultId, Vec<RecordId>>,
    tallies: BTreeMap<VaultId, BTreeMap<RecordId, i64>>,
}

#[derive(Debug, Default)]
struct OfNote {
    /// Everything that it ever said. Nothing is said twice.
    said: BTreeSet<String>,
    /// How often each device deleted it.
    deleted: BTreeMap<DeviceId, usize>,
}

impl Ledger {
    pub(super) fn noted(&self, vault: VaultId, record: RecordId, words: String) {
        let mut entries = self.entries();
        let of_note = entries.notes.entry(vault).or_default().entry(record).or_default();
        let is_new = of_note.said.is_empty();
        of_note.said.insert(words);
        if is_new {
            entries.in_order.entry(vault).or_default().push(record);
        }
    }

    pub(super) fn deleted(&self, vault: VaultId, record: RecordId, by: DeviceId) {
        let mut entries = self.entries();
        let of_note = entries.notes.entry(vault).or_default().entry(record).or_default();
        *of_note.deleted.entry(by).or_default() += 1;
    }

    /// With nothing, there is a tally.
    pub(super) fn counted(&self, vault: VaultId, tally: RecordId, by: i64) {
        *self.entries().tallies.entry(vault).or_default().entry(tally).or_default() += by;
    }

    /// The notes of a vault that were made last.
    pub(super) fn newest_notes(&self, vault: &VaultId, most: usize) -> Vec<RecordId> {
        let entries = self.entries();
        let all = entries.in_order.get(vault).map(Vec::as_slice).unwrap_or_default();
        all[all.len().saturating_sub(most)..].to_vec()
    }

    pub(super) fn tallies(&self, vault: &VaultId) -> Vec<RecordId> {
        self.entries().tallies.get(vault).map(|tallies| tallies.keys().copied().collect()).unwrap_or_default()
    }

    /// How many writes that were acknowledged.
    pub(super) fn len(&self) -> usize {
        let entries = self.entries();
        let notes = entries.notes.values().flat_map(BTreeMap::values);
        let of_notes: usize = notes.map(|note| note.said.len() + note.deleted.values().sum::<usize>()).sum();
        let counted: i64 = entries.tallies.values().flat_map(BTreeMap::values).sum();
        of_notes + usize::try_from(counted).unwrap_or(0)
    }

    /// Holds everything against a vault on a device that has seen all of its log. What is wrong, in words.
    pub(super) async fn audit(&self, vault: &Vault) -> Vec<String> {
        let mut wrong = Vec::new();
        let (notes, tallies) = (vault.collection::<Note>(NOTES), vault.collection::<Tally>(TALLIES));
        for (record, expected) in self.tallies(&vault.id()).into_iter().map(|tally| (tally, self.count(vault, &tally)))
        {
            match tallies.get(record).await {
                Ok(Some(tally)) if tally.count == expected => {}
                got => wrong.push(format!("{record:?} counts {got:?} and not {expected}")),
            }
        }
        for record in self.newest_notes(&vault.id(), usize::MAX) {
            let history = match notes.history(record).await {
                Ok(history) => history,
                Err(error) => {
                    wrong.push(format!("{record:?} has no history: {error:?}"));
                    continue;
                }
            };
            let said: BTreeSet<&str> =
                history.iter().filter_map(|version| Some(version.value.as_ref()?.words.as_str())).collect();
            let entries = self.entries();
            let expected = &entries.notes[&vault.id()][&record];
            for words in expected.said.iter().filter(|words| !said.contains(words.as_str())) {
                wrong.push(format!("{words:?} is lost: {record:?}"));
            }
            for invented in said.iter().filter(|words| !expected.said.contains(**words)) {
                wrong.push(format!("nobody wrote {invented:?}: {record:?}"));
            }
            for (device, times) in &expected.deleted {
                let found = history.iter().filter(|one| one.version.deleted && one.version.device == *device).count();
                if found < *times {
                    wrong.push(format!("{found} of {times} deletions are left: {record:?}"));
                }
            }
            // Whoever wrote last has the last word; of two who wrote in the same moment, whoever has not deleted, and
            // else whose bytes are the greater.
            let rank = |one: &&VersionOf<Note>| (one.version.written, !one.version.deleted, one.version.data.clone());
            let newest = history.iter().max_by_key(rank);
            let current: Vec<_> = history.iter().filter(|one| one.version.current).collect();
            match (newest, current.as_slice()) {
                (Some(newest), [current]) if newest.value == current.value => {}
                _ => {
                    let told = |one: &VersionOf<Note>| {
                        let RecordVersion { n, written, device, current, .. } = &one.version;
                        let words = one.value.as_ref().map(|note| &note.words);
                        format!("{n:?}: {words:?} at {written:?} by {device:?}, current: {current}")
                    };
                    let history: Vec<_> = history.iter().map(told).collect();
                    wrong.push(format!("{record:?} does not say what was written last: {history:#?}"));
                }
            }
        }
        wrong
    }

    fn count(&self, vault: &Vault, tally: &RecordId) -> i64 {
        self.entries().tallies[&vault.id()][tally]
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
