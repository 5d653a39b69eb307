//! How far a record has come on its way to the other devices, and taking it back before it has gone.
//!
//! Owns the words for it. Decides nothing about sync.

use super::collection::Collection;
use super::view;
use crate::conflict::Written;
use crate::error::{Error, Result};
use crate::store::vaults::{Aside, Pending};
use crate::sync::compose::Asked;
use crate::sync::driver::Trouble;
use crate::sync::replica::InFlight;
use crate::vault::Vault;
use selkie_protocol::Face;
use selkie_protocol::id::RecordId;
use selkie_protocol::record::RecordBody;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;

/// How far a record has come.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecordState {
    /// Written here, in a vault that no server has heard of.
    Local,
    /// Written here, to be sent with the next sync.
    Pending,
    /// On its way.
    Syncing,
    /// What is here is in the log.
    Synced,
    /// It is in the log, and what it says is not kept on this device: see [`Vault::fetch_records`].
    Elsewhere,
    /// A person is to decide: see [`Collection::undecided`].
    Conflict,
    /// It does not get on, and why.
    Failed(String),
}

/// A conflict that a person is to decide. What was in the log stands until then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undecided<T> {
    /// For [`Collection::decide`].
    pub id: u64,
    /// The record it is about.
    pub record: RecordId,
    /// What both were made from, where it was known.
    pub base: Option<T>,
    /// Missing where that side has deleted the record.
    pub mine: Option<T>,
    /// What is in the log. Missing where that side has deleted the record.
    pub theirs: Option<T>,
    /// When this device met it, by its own clock.
    pub at_ms: u64,
}

impl Vault {
    /// How far a record has come. No request is made.
    pub async fn record_state(&self, id: RecordId) -> Result<RecordState> {
        let glance = self.glance().await?;
        let user = self.me();
        self.read(move |room, vault| {
            if room.store.settlements_of(vault, &id)?.iter().any(|one| one.asked.is_some()) {
                return Ok(RecordState::Conflict);
            }
            let mut aside = room.store.aside(vault)?.into_iter();
            let aside = aside.find(|aside| aside.record == id && !glance.key_comes_for(aside));
            if room.store.now(vault, &id)?.elsewhere.is_some() {
                return Ok(match aside {
                    Some(aside) => RecordState::Failed(unread(&aside)),
                    None => RecordState::Elsewhere,
                });
            }
            let pending = room.store.pending_of(vault, &id)?;
            let blocked = match (&glance.quarantine, glance.role(&user), glance.waits_for_key) {
                (Some(_), _, _) => Some("the vault is set apart, because the server was caught".to_owned()),
                (_, role, _) if !role.is_some_and(|role| role.may_write()) => {
                    Some("this person may not write in the vault any more".to_owned())
                }
                (_, _, true) => Some("the vault's present key is not here yet".to_owned()),
                _ => aside.as_ref().map(unread),
            };
            let flying = flying(room.store.outline(vault)?.and_then(|outline| outline.in_flight))?;
            Ok(match (pending.is_empty(), blocked) {
                // What keeps this device from writing is no fault of a record that it has nothing to write in.
                (true, _) => aside.map_or(RecordState::Synced, |aside| RecordState::Failed(unread(&aside))),
                (false, _) if !glance.born => RecordState::Local,
                (false, _) if pending.iter().any(|pending| flying.contains(&pending.seq)) => RecordState::Syncing,
                (false, Some(reason)) => RecordState::Failed(reason),
                (false, None) => RecordState::Pending,
            })
        })
        .await
    }

    /// Takes back the last write of a record, with the whole transaction it was part of, if it was not sent. Returns
    /// false if there is nothing to take back.
    pub async fn undo(&self, id: RecordId) -> Result<bool> {
        self.alone(async move |round| {
            round.load().await?;
            let undo = move |replica: &mut crate::sync::replica::Replica, room: &crate::sync::room::Room| {
                let vault = replica.vault();
                let Some(last) = room.store.pending_of(&vault, &id)?.pop() else { return Ok(false) };
                let outbox = room.store.outbox(&vault, usize::MAX)?;
                let seqs = whole_group(&outbox, &last)?;
                let flying = replica.in_flight.iter().flat_map(|flight| &flight.writes);
                let flying: BTreeSet<u64> = flying.map(|(seq, _)| *seq).collect();
                if seqs.iter().any(|seq| flying.contains(seq)) {
                    return Err(Error::NotPossible("it is on its way already: write what it was before".into()).into());
                }
                let revision = room.store.take_back(&vault, replica.revision, &seqs)?.ok_or(Trouble::Moved)?;
                replica.revision = revision;
                room.ring(&vault);
                Ok(true)
            };
            round.with_replica(undo).await
        })
        .await
    }
}

fn unread(aside: &Aside) -> String {
    format!("a change of it cannot be read here: {}", aside.reason)
}

/// The writes it belongs together with, if all of them are still here and none of their records was written since.
fn whole_group(outbox: &[Pending], last: &Pending) -> Result<Vec<u64>> {
    let group: Vec<&Pending> = outbox.iter().filter(|pending| pending.group == last.group).collect();
    // A group is called after its first write. What is more than one entry holds is sent in parts.
    if group.iter().all(|pending| pending.seq != last.group) {
        return Err(Error::NotPossible("a part of it was sent already, or is gone: write what it was before".into()));
    }
    let later = |one: &&Pending| {
        outbox.iter().any(|other| other.record == one.record && other.seq > one.seq && other.group != one.group)
    };
    if group.iter().any(later) {
        return Err(Error::NotPossible("what was written together with it was changed since".into()));
    }
    Ok(group.into_iter().map(|pending| pending.seq).collect())
}

fn flying(in_flight: Option<Vec<u8>>) -> Result<BTreeSet<u64>> {
    let Some(bytes) = in_flight else { return Ok(BTreeSet::new()) };
    let flight: InFlight = Face::Cbor.decode(&bytes).map_err(|error| Error::damaged(error.what))?;
    Ok(flight.writes.into_iter().map(|(seq, _)| seq).collect())
}

impl<T: Serialize + DeserializeOwned> Collection<T> {
    /// How far a record has come. No request is made.
    pub async fn state(&self, id: RecordId) -> Result<RecordState> {
        self.vault.record_state(id).await
    }

    /// Takes back the last write of a record that was not sent: see [`Vault::undo`].
    pub async fn undo(&self, id: RecordId) -> Result<bool> {
        self.vault.undo(id).await
    }

    /// Conflicts of this collection that this device has met and a person is to decide, oldest first; but those between
    /// versions that a later app wrote, which this one cannot read: see [`Vault::open_conflicts`]. Only with
    /// [`Strategy::AskUser`](crate::Strategy::AskUser), or where a [`CustomMerge`](crate::CustomMerge) asks.
    pub async fn undecided(&self) -> Result<Vec<Undecided<T>>> {
        let mut undecided = Vec::new();
        for (id, record, at_ms, Asked { base, mine, theirs }) in self.vault.asked().await? {
            if mine.collection != *self.name {
                continue;
            }
            let open = |body: &RecordBody| self.open(body);
            let (mine, theirs) = match (open(&mine), open(&theirs)) {
                // Only a later version of the app can show it, or who asks for `Vault::open_conflicts`.
                (Err(Error::NewerRecord { .. }), _) | (_, Err(Error::NewerRecord { .. })) => continue,
                (mine, theirs) => (mine?, theirs?),
            };
            let base = base.as_ref().and_then(|base| open(base).ok().flatten());
            undecided.push(Undecided { id, record, base, mine, theirs, at_ms });
        }
        Ok(undecided)
    }

    /// Decides: the record says this from now on, or is deleted, and the conflict is no longer asked about.
    pub async fn decide(&self, conflict: &Undecided<T>, value: Option<&T>) -> Result<()> {
        match value {
            Some(value) => self.put_as(conflict.record, value).await?,
            None => self.delete(conflict.record).await?,
        }
        let id = conflict.id;
        self.vault.read(move |room, vault| Ok(room.store.resolve(vault, id)?)).await
    }
}

impl Vault {
    /// A record as it is now, quickly.
    pub(super) fn look(&self, id: &RecordId) -> Result<Option<view::Seen>> {
        let here = self.here();
        here.slot.view.look(&here.room, &here.id(), id, self.now_ms(), self.account.context().hot_records)
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.account.context().now_ms()
    }
}

/// A version between which an app's own merge decides, in the app's own type.
impl Written {
    /// `None` if this version deletes the record, or is not of that type.
    pub fn read<T: DeserializeOwned>(&self) -> Option<T> {
        self.fields.as_ref()?.read().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(seq: u64, group: u64, record: u8) -> Pending {
        Pending { seq, group, record: RecordId([record; 16]), shelf: [0; 16], base: None, sealed: Vec::new() }
    }

    #[test]
    fn what_was_written_together_is_taken_back_together_or_not_at_all() {
        let group = [pending(5, 5, 1), pending(6, 5, 2)];
        assert_eq!(whole_group(&group, &group[1]).unwrap(), [5, 6]);
        let refused = |outbox: &[Pending], why: &str| {
            let error = whole_group(outbox, outbox.last().unwrap()).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        };
        refused(&[pending(5, 5, 1), pending(7, 7, 1), pending(6, 5, 2)], "was changed since");
        refused(&[pending(6, 5, 2)], "sent already, or is gone");
    }
}
