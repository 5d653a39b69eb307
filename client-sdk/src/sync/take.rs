//! Takes what was pulled into the log: verified entry by entry, opened change by change.
//!
//! Owns what an accepted page changes on this device, as one step for the store. Pure but for the keys it is given: no
//! network, no disk. A page that breaks a rule changes nothing that is kept; whose account log is missing stops it
//! before the entry that needs it.

use super::driver::CollectionReport;
use super::replica::{InFlight, Me, Replica, write_live};
use crate::keys::vault::{AtRest, Keyring};
use crate::store::vaults::{Advance, Aside, KeptFrame, Version};
use selkie_protocol::Bytes;
use selkie_protocol::cipher::RecordContext;
use selkie_protocol::id::{ChangeId, RecordId, UserId, VaultId};
use selkie_protocol::log::{
    Applied, Beside, Body, Change, Control, Effects, Frame, Header, PageItem, People, Refusal, What,
};
use selkie_protocol::record::{BodyError, RecordBody};
use std::collections::{BTreeMap, BTreeSet};

/// So begins why a change is set aside whose key has not come.
const NO_KEY: &str = "the key of epoch";

/// Whether it can be read as soon as its key is here.
pub(crate) fn waits_for_a_key(aside: &Aside) -> bool {
    aside.reason.starts_with(NO_KEY)
}

/// Frames are kept for so long, to help a server that was restored from a backup.
pub(crate) const FRAMES_KEPT_MS: u64 = 30 * 24 * 3600 * 1000;

/// What this device can tell of records it keeps.
pub(crate) trait Recall {
    /// Whether what is current of a record is its deletion; `None` if that cannot be read here.
    fn is_deleted(&self, record: &RecordId) -> Option<bool>;
}

/// A page that was taken, as far as it could be.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    pub(crate) step: Advance,
    /// Changes by others.
    pub(crate) pulled: usize,
    /// Changes of ours that are in the log now.
    pub(crate) landed: usize,
    pub(crate) settled: usize,
    /// The same by collection, of what could be opened.
    pub(crate) collections: BTreeMap<String, CollectionReport>,
    /// An entry of this device that it does not remember having written.
    pub(crate) forgotten_own: bool,
    /// Members or keys have changed.
    pub(crate) governed: bool,
    /// The account log that is needed for the next entry.
    pub(crate) needs: Option<(UserId, u64)>,
    /// Records whose current version is another now.
    pub(crate) touched: BTreeSet<RecordId>,
    deletions: BTreeMap<RecordId, Option<bool>>,
}

/// An entry that may not stand, and where it was to stand.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) n: u64,
    pub(crate) refusal: Refusal,
}

/// Whose page it is, and by what it is read.
pub(crate) struct Reading<'a, P> {
    pub(crate) me: Me,
    pub(crate) people: &'a P,
    pub(crate) at_rest: &'a AtRest,
    pub(crate) recall: &'a dyn Recall,
    pub(crate) now_ms: u64,
}

impl<P: People> Reading<'_, P> {
    /// Takes a page. If it is refused, the replica is not to be used any more: it is read again from what is kept.
    pub(crate) fn take(&self, replica: &mut Replica, page: &[Bytes]) -> Result<Taken, Refused> {
        let mut taken = Taken::default();
        let before = replica.head().n;
        for bytes in page {
            let n = replica.head().n + 1;
            match self.take_one(replica, &mut taken, bytes, n) {
                Ok(()) => {}
                Err(Refusal::AccountLogNeeded { user, index }) => {
                    taken.needs = Some((user, index));
                    break;
                }
                Err(refusal) => return Err(Refused { n, refusal }),
            }
        }
        if let Some(claimed) = replica.state.claimed_head().filter(|claimed| claimed.head.n <= replica.head().n) {
            // That the values agree was seen when the position was reached.
            tracing::trace!(n = claimed.head.n, "the log has reached what the server claimed");
            replica.state.reached = replica.state.claimed.take();
        }
        let live = replica.log.live();
        for record in &taken.touched {
            let now = live.record(record);
            taken.step.live.push((*record, now.map(write_live)));
            if let Some(now) = now {
                taken.step.heads.push((*record, now.heads()));
            }
        }
        taken.step.trail = replica.trail_after(before);
        taken.step.trail_from = replica.log.trail().first();
        taken.step.frames_before_ms = self.now_ms.saturating_sub(FRAMES_KEPT_MS);
        replica.state.missing_from_before &= !replica.state.missing.is_empty();
        taken.step.state = Some(replica.state_bytes(self.at_rest));
        Ok(taken)
    }

    fn take_one(&self, replica: &mut Replica, taken: &mut Taken, bytes: &Bytes, n: u64) -> Result<(), Refusal> {
        let frame = Frame::parse(bytes)?;
        let entry = &frame.entry;
        let step = replica.log.check(entry, frame.beside(), self.people)?;
        let forgotten = match &step.effects().what {
            What::Checkpointed { forgotten, .. } => self.judge_forgotten(taken, forgotten)?,
            _ => true,
        };
        replica.state.promises.check(step.effects())?;
        taken.touched.extend(step.touched().keys());
        let effects = replica.log.commit(step).expect("the step was made from this state, just now");

        replica.state.since_checkpoint = match &effects.what {
            What::Checkpointed { .. } => 0,
            What::Changed { changes, .. } => replica.state.since_checkpoint.saturating_add(changes.len() as u64),
            What::Governed(_) | What::Heard => replica.state.since_checkpoint.saturating_add(1),
        };
        let header = &entry.header;
        let ours = header.device == self.me.device;
        let flight = if ours { self.recognise(replica, taken, &effects) } else { None };
        match &effects.what {
            What::Governed(control) => {
                taken.governed = true;
                if let Control::RemoveRotate(rotate) = control.as_ref() {
                    replica.state.links.insert(rotate.epoch, rotate.back.into());
                    replica.state.rotation_due = false;
                    // Ours, or that of somebody who was faster: the log decides.
                    if let Some(key) = replica.coming.take()
                        && key.epoch() == rotate.epoch
                        && key.commitment() == rotate.commitment
                    {
                        replica.keys.insert(key);
                    }
                }
            }
            What::Changed { changes, superseded } => {
                if !ours {
                    taken.pulled += changes.len();
                }
                if let Body::Data(data) = &entry.body {
                    for (change, applied) in data.changes().zip(changes) {
                        let payload = frame.payload(applied.index);
                        if let Some(name) = self.open(replica, taken, header, &change, applied, payload, n) {
                            count(taken.collections.entry(name).or_default(), ours, flight.as_ref(), &applied.id);
                        }
                    }
                }
                for gone in superseded {
                    replica.state.missing.remove(gone);
                }
            }
            What::Checkpointed { verified, forgotten: records } => {
                taken.touched.extend(records.iter().copied());
                // The server need not keep what is left out for good.
                let gone: BTreeSet<&RecordId> = records.iter().collect();
                replica.state.missing.retain(|(record, _)| !gone.contains(record));
                replica.state.last_checkpoint = n;
                if *verified && forgotten {
                    replica.state.checkpoint_ok = n;
                }
            }
            What::Heard => {}
        }
        taken.step.frames.push(KeptFrame { n, received_ms: self.now_ms, frame: bytes.to_vec() });
        Ok(())
    }

    /// Whether every record that a checkpoint leaves out was deleted, as far as this device can read it. One that was
    /// not is a lie about it.
    fn judge_forgotten(&self, taken: &Taken, forgotten: &[RecordId]) -> Result<bool, Refusal> {
        let mut all_known = true;
        for record in forgotten {
            let here = taken.deletions.get(record).copied().unwrap_or_else(|| self.recall.is_deleted(record));
            match here {
                Some(true) => {}
                Some(false) => return Err(Refusal::FalseCheckpoint("a record is left out that was not deleted")),
                None => all_known = false,
            }
        }
        Ok(all_known)
    }

    fn recognise(&self, replica: &mut Replica, taken: &mut Taken, effects: &Effects) -> Option<InFlight> {
        match replica.in_flight.take_if(|flight| *flight.hash == effects.entry) {
            Some(flight) => {
                taken.landed += flight.writes.len();
                taken.settled += flight.settles.len();
                let mut sent: Vec<_> = flight.writes.iter().map(|(seq, change)| (*seq, Some(*change))).collect();
                sent.sort_unstable();
                taken.step.sent.extend(sent);
                taken.step.settlements.extend(flight.settlements(self.now_ms));
                taken.step.in_flight = Some(None);
                Some(flight)
            }
            None => {
                taken.forgotten_own = true;
                None
            }
        }
    }

    /// The collection it is in, if it could be opened.
    #[allow(clippy::too_many_arguments)]
    fn open(
        &self,
        replica: &mut Replica,
        taken: &mut Taken,
        header: &Header,
        change: &Change<'_>,
        applied: &Applied,
        payload: Option<&[u8]>,
        n: u64,
    ) -> Option<String> {
        let Some(payload) = payload else {
            replica.state.missing.insert((applied.record, applied.id));
            taken.deletions.insert(applied.record, None);
            return None;
        };
        let (user, device, dev_seq, epoch) = (header.user, header.device, header.dev_seq, header.epoch);
        let item = PageItem { user, device, dev_seq, epoch, head: true, change: *change };
        let place = Place { change: applied.id, n, unix_ms: header.unix_ms };
        match open_item(&replica.vault(), &replica.keys, self.at_rest, &item, payload, place) {
            Ok((version, body)) => {
                taken.deletions.insert(applied.record, Some(body.deleted));
                taken.step.versions.push(version);
                Some(body.collection)
            }
            Err(aside) => {
                taken.deletions.insert(applied.record, None);
                taken.step.aside.push(*aside);
                None
            }
        }
    }
}

/// Adds a change to what was done in its collection.
fn count(counted: &mut CollectionReport, ours: bool, flight: Option<&InFlight>, change: &ChangeId) {
    counted.pulled += usize::from(!ours);
    let Some(flight) = flight else { return };
    counted.pushed += usize::from(flight.writes.iter().any(|(_, write)| write == change));
    counted.conflicts += flight.settles.iter().filter(|one| one.lost == *change || one.won == *change).count();
}

/// Where a change stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) change: ChangeId,
    pub(crate) n: u64,
    /// By its entry; 0 where that is not at hand.
    pub(crate) unix_ms: u64,
}

/// A change opened and sealed again for the disk; or set aside, with the reason.
pub(crate) fn open_item(
    vault: &VaultId,
    keys: &Keyring,
    at_rest: &AtRest,
    item: &PageItem<'_>,
    payload: &[u8],
    place: Place,
) -> Result<(Version, RecordBody), Box<Aside>> {
    let record = item.change.record;
    let aside = |reason: String| {
        Box::new(Aside {
            record,
            change: place.change,
            n: place.n,
            epoch: item.epoch,
            unix_ms: place.unix_ms,
            reason,
            item: item.to_bytes(),
            payload: payload.to_vec(),
        })
    };
    let Some(key) = keys.records(item.epoch) else {
        return Err(aside(format!("{NO_KEY} {} is not here", item.epoch)));
    };
    let plain = key
        .open(&RecordContext::on_page(item), payload)
        .map_err(|_| aside("it does not open with the vault's key".to_owned()))?;
    let body = RecordBody::from_bytes(&plain).map_err(|error: BodyError| aside(error.to_string()))?;
    let version = Version {
        record,
        change: place.change,
        n: place.n,
        index: item.change.index,
        shelf: at_rest.shelf(vault, &body.collection),
        user: item.user,
        device: item.device,
        // Where its entry is not at hand, its own stamp tells best how old it is.
        unix_ms: if place.unix_ms == 0 { body.hlc.ms } else { place.unix_ms },
        current: false,
        sealed: at_rest.seal_record(vault, &record, &plain),
    };
    Ok((version, body))
}

/// What travels beside a frame of ours.
pub(crate) fn stands(replica: &Replica, frame: &Bytes, people: &impl People) -> Result<(), Refusal> {
    let frame = Frame::parse(frame)?;
    let beside: Beside<'_> = frame.beside();
    replica.log.check(&frame.entry, beside, people).map(drop)
}
