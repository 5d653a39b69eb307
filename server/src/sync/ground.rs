//! The ground on which the next entries of one vault are judged: its state, and as much of its past as they ask about.
//!
//! Owns the judging of one entry after another, each by itself, and what is to be remembered of those that stand. A
//! refused one leaves no trace. Knows nothing of where the past came from, nor whether what stands is kept in the end.

use super::author::Author;
use super::known::Known;
use super::refusal::{Refusal, Result};
use crate::store::{Append, Bearings, LiveRow, Millis, NewChange, NewEntry, Place, WrapRow};
use selkie_protocol::id::{ChangeId, DeviceId, RecordId, UserId};
use selkie_protocol::log::{
    self, Control, Frame, Governance, Head, LiveChange, Memory, People, Record, Root, Step, Touched, What,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// The state is kept at least once in so many entries, so that no more of them need be read to have it again.
const KEEP_STATE_EVERY: u64 = 64;

/// One entry that wants to come in.
#[derive(Clone, Debug)]
pub(super) struct Push {
    pub(super) author: Author,
    pub(super) frame: Vec<u8>,
    pub(super) wraps: Vec<WrapRow>,
    /// What is live, if it is a checkpoint.
    pub(super) root: Option<KnownRoot>,
}

/// The root over everything that was live at a position but some records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KnownRoot {
    pub(super) at: u64,
    pub(super) without: Vec<RecordId>,
    pub(super) root: Root,
}

/// Entries that were acknowledged once and lost, up to a head that this server signed.
#[derive(Clone, Debug)]
pub(super) struct Tail {
    pub(super) frames: Vec<Vec<u8>>,
    /// The hashes of what was acknowledged after them.
    pub(super) rest: Vec<[u8; 32]>,
    /// The head that was signed, after all of these.
    pub(super) signed: Head,
}

impl Tail {
    /// The position of its last frame.
    pub(super) fn last(&self) -> u64 {
        self.signed.n.saturating_sub(self.rest.len() as u64)
    }

    /// The position of its first frame. 0 if it has more entries than its head has positions.
    pub(super) fn first(&self) -> u64 {
        self.last().saturating_add(1).saturating_sub(self.frames.len() as u64)
    }

    /// Whether a chain value after the last frame leads to the head that was signed: nothing else does.
    fn leads_on_from(&self, value: [u8; 32]) -> bool {
        let after = (self.last().saturating_add(1)..).zip(&self.rest);
        after.fold(value, |h, (n, entry)| log::chain(&h, n, entry)) == self.signed.h
    }
}

/// What became of a push, if the group it is in is kept.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judged {
    Stands(u64),
    /// These very bytes stand there already.
    Repeated(u64),
    /// The device is past this number; whether it was this entry must be looked up.
    Before {
        device: DeviceId,
        dev_seq: u64,
        hash: [u8; 32],
        expected: u64,
    },
}

#[derive(Clone)]
pub(super) struct Ground {
    at: Place,
    before: Head,
    /// Where it began: its chain values are good for everybody in the group, however many come before them.
    base: Arc<Known>,
    known: Known,
    chain: HashMap<u64, [u8; 32]>,
    records: HashMap<RecordId, Record>,
    /// Of the checkpoint that is being judged.
    root: Option<KnownRoot>,
    entries: Vec<NewEntry>,
    wraps: Vec<WrapRow>,
    governed: bool,
    members_changed: bool,
    removed: Vec<(UserId, u64)>,
}

impl Ground {
    pub(super) fn new(at: Place, known: &Arc<Known>, bearings: Bearings) -> Self {
        let mut by_record: BTreeMap<RecordId, Vec<LiveRow>> = BTreeMap::new();
        for row in bearings.live {
            by_record.entry(row.record).or_default().push(row);
        }
        let records = by_record.into_iter().filter_map(|(id, rows)| Some((id, record(&rows)?))).collect();
        Ground {
            at,
            before: bearings.head,
            base: known.clone(),
            known: Known::clone(known),
            chain: bearings.chain.into_iter().collect(),
            records,
            root: None,
            entries: Vec::new(),
            wraps: Vec::new(),
            governed: false,
            members_changed: false,
            removed: Vec::new(),
        }
    }

    pub(super) fn head(&self) -> Head {
        self.known.head()
    }

    pub(super) fn governance(&self) -> &Governance {
        self.known.core.governance()
    }

    /// Judges one push. If it stands, the next one is judged on top of it.
    pub(super) fn push(&mut self, push: &Push, people: &impl People, now: Millis) -> Result<Judged> {
        let frame = Frame::parse(&push.frame).map_err(log::Refusal::Malformed)?;
        let header = &frame.entry.header;
        if (header.user, header.device) != (push.author.user, push.author.device) {
            return Err(Refusal::Forbidden("an entry is pushed by the device that signed it"));
        }
        self.root.clone_from(&push.root);
        let step = match self.known.core.check(&frame.entry, frame.beside(), people, self) {
            Err(log::Refusal::Repeated { n }) => return Ok(Judged::Repeated(n)),
            Err(log::Refusal::DeviceSequence { expected, found }) if found < expected => {
                let (device, hash) = (header.device, frame.entry.hash());
                return Ok(Judged::Before { device, dev_seq: found, hash, expected });
            }
            Err(log::Refusal::UnknownDependency { index }) => return Err(self.as_conflict(&frame, index)),
            checked => checked?,
        };
        if matches!(step.effects().what, What::Checkpointed { verified: false, .. }) {
            return Err(Refusal::broken("a checkpoint was not computed"));
        }
        if !push.wraps.is_empty() {
            let mut after = self.known.core.clone();
            after.commit(&step).map_err(|_| Refusal::broken("a step of another state"))?;
            fits(&push.wraps, &step, after.governance())?;
        }
        self.take(push.frame.clone(), &step, now)?;
        self.wraps.extend(push.wraps.iter().cloned());
        Ok(Judged::Stands(self.head().n))
    }

    /// Judges a whole tail: all of it comes in, or nothing. `here` are the hashes of those of its positions where
    /// something stands already.
    pub(super) fn tail(&mut self, tail: &Tail, here: &[[u8; 32]], people: &impl People, now: Millis) -> Result<()> {
        let mut trial = self.clone();
        trial.root = None;
        for (n, bytes) in (tail.first()..).zip(&tail.frames) {
            let frame = Frame::parse(bytes).map_err(log::Refusal::Malformed)?;
            if n <= trial.head().n {
                let index = usize::try_from(n.saturating_sub(tail.first())).unwrap_or(usize::MAX);
                let taken = trial.entries.iter().find(|entry| entry.head.n == n).map(|entry| &entry.hash);
                if taken.or(here.get(index)) != Some(&frame.entry.hash()) {
                    return Err(Refusal::RestoreRefused("something else stands there"));
                }
                continue;
            }
            if n != trial.head().n + 1 {
                return Err(Refusal::RestoreRefused("entries are missing before them"));
            }
            // What a checkpoint said was true when this server signed the head that leads past it.
            let step = trial.known.core.check(&frame.entry, frame.beside(), people, &trial)?;
            trial.take(bytes.clone(), &step, now)?;
        }
        if !trial.chain_value(tail.last()).is_some_and(|value| tail.leads_on_from(value)) {
            return Err(Refusal::RestoreRefused("the head that was signed is another"));
        }
        if !trial.has_live_payloads()? {
            return Err(Refusal::RestoreRefused("the payload of a live change is missing"));
        }
        *self = trial;
        Ok(())
    }

    /// Whoever writes on top of what a checkpoint has forgotten is answered as if somebody had written meanwhile.
    fn as_conflict(&self, frame: &Frame<'_>, index: u16) -> Refusal {
        let log::Body::Data(data) = &frame.entry.body else { return Refusal::broken("only changes have dependencies") };
        let record = data.changes().nth(usize::from(index)).map(|change| change.record);
        let conflict = record.map(|record| {
            let heads = self.records.get(&record).map(Record::heads).unwrap_or_default();
            log::Conflict { record, heads }
        });
        Refusal::Rule(log::Refusal::Conflict(conflict.into_iter().collect()))
    }

    fn take(&mut self, frame: Vec<u8>, step: &Step, now: Millis) -> Result<()> {
        self.known.core.commit(step).map_err(|_| Refusal::broken("a step of another state"))?;
        self.known.moved();
        let effects = step.effects();
        let mut entry = NewEntry {
            head: effects.head,
            hash: effects.entry,
            device: effects.device,
            dev_seq: effects.dev_seq,
            is_control: false,
            is_checkpoint: false,
            frame,
            received_at: now,
            adds: Vec::new(),
            supersedes: Vec::new(),
            no_longer_heads: Vec::new(),
            forgets: Vec::new(),
        };
        match &effects.what {
            What::Governed(control) => {
                entry.is_control = true;
                self.governed = true;
                self.members_changed |= changes_members(control);
                if let Control::RemoveRotate(rotate) = &**control {
                    self.removed.extend(rotate.removed.iter().map(|user| (*user, effects.head.n)));
                }
            }
            What::Changed { changes, superseded } => {
                let touched = step.touched();
                entry.adds = changes.iter().map(|change| added(change, &touched[&change.record])).collect();
                let own: BTreeSet<&ChangeId> = changes.iter().map(|change| &change.id).collect();
                entry.supersedes = superseded.iter().filter(|(_, id)| !own.contains(id)).copied().collect();
                for (id, touched) in touched {
                    entry.no_longer_heads.extend(self.touch(*id, touched));
                }
            }
            What::Checkpointed { forgotten, .. } => {
                entry.is_checkpoint = true;
                entry.forgets.clone_from(forgotten);
                forgotten.iter().for_each(|record| drop(self.records.remove(record)));
            }
            What::Heard => {}
        }
        self.chain.insert(effects.head.n, effects.head.h);
        self.entries.push(entry);
        Ok(())
    }

    /// Moves one record on, and says which of its changes are live but no heads any more.
    fn touch(&mut self, id: RecordId, touched: &Touched) -> Vec<(RecordId, ChangeId)> {
        let is_head = |change: &ChangeId| touched.heads.binary_search(change).is_ok();
        let base = self.records.remove(&id).filter(|_| touched.keeps);
        let before = base.as_ref().map(Record::heads).unwrap_or_default();
        let lost = before.into_iter().filter(|head| !is_head(head)).map(|head| (id, head)).collect();
        let kept = base.iter().flat_map(Record::changes);
        let new = touched.added.iter().map(|(id, payload)| LiveChange { id: *id, payload: *payload, head: false });
        let changes = kept.chain(new).map(|change| LiveChange { head: is_head(&change.id), ..change });
        if let Some(record) = Record::new(touched.whole_at, changes) {
            self.records.insert(id, record);
        }
        lost
    }

    /// Whether every change that came in here and is still live brought its payload.
    fn has_live_payloads(&self) -> Result<bool> {
        let superseded: BTreeSet<&ChangeId> =
            self.entries.iter().flat_map(|entry| &entry.supersedes).map(|(_, id)| id).collect();
        for entry in &self.entries {
            let frame = Frame::parse(&entry.frame).map_err(log::Refusal::Malformed)?;
            let is_missing = |change: &&NewChange| {
                change.live && !superseded.contains(&change.change) && frame.payload(change.index).is_none()
            };
            if entry.adds.iter().any(|change| is_missing(&change)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What the store is to do, if anything, and the state after it.
    pub(super) fn finish(self) -> (Option<Append>, Arc<Known>) {
        let after = self.head().n;
        if self.entries.is_empty() {
            return (None, Arc::new(self.known));
        }
        let due = self.governed || self.before.n / KEEP_STATE_EVERY != after / KEEP_STATE_EVERY;
        let core = &self.known.core;
        let append = Append {
            at: self.at,
            before: self.before,
            entries: self.entries,
            state: due.then(|| core.to_bytes()),
            members: self.members_changed.then(|| members(core.governance())),
            removed: self.removed,
            wraps: self.wraps,
        };
        (Some(append), Arc::new(self.known))
    }
}

impl Memory for Ground {
    fn chain_value(&self, n: u64) -> Option<[u8; 32]> {
        self.known.chain_value(n).or_else(|| self.base.chain_value(n)).or_else(|| self.chain.get(&n).copied())
    }

    fn record(&self, record: &RecordId) -> Option<&Record> {
        self.records.get(record)
    }

    fn root_without(&self, forgotten: &[RecordId]) -> Option<Root> {
        let known = self.root.as_ref()?;
        (known.at == self.head().n && known.without == forgotten).then_some(known.root)
    }
}

/// Live changes as the rules want to see them. The payloads' hashes are asked for by checkpoints alone, whose root is
/// not computed from here.
fn record(rows: &[LiveRow]) -> Option<Record> {
    let whole_at = rows.iter().filter(|row| row.full).map(|row| row.n).max().unwrap_or(0);
    Record::new(whole_at, rows.iter().map(|row| LiveChange { id: row.change, payload: [0; 32], head: row.head }))
}

fn added(change: &log::Applied, touched: &Touched) -> NewChange {
    NewChange {
        record: change.record,
        change: change.id,
        index: change.index,
        full: change.full,
        head: touched.heads.binary_search(&change.id).is_ok(),
        live: touched.added.iter().any(|(id, _)| *id == change.id),
    }
}

pub(super) fn members(governance: &Governance) -> Vec<UserId> {
    governance.members().map(|(user, _)| *user).collect()
}

fn changes_members(control: &Control) -> bool {
    match control {
        Control::Create(_) | Control::AddMember { .. } => true,
        Control::RemoveRotate(rotate) => !rotate.removed.is_empty(),
        _ => false,
    }
}

/// Keys come along with the entries that make them needed, for members and epochs there are. Missing ones can be added
/// later, by anybody who may write.
fn fits(wraps: &[WrapRow], step: &Step, after: &Governance) -> Result<()> {
    let brings = match &step.effects().what {
        What::Governed(control) => matches!(**control, Control::AddMember { .. } | Control::RemoveRotate(_)),
        _ => false,
    };
    if !brings {
        return Err(Refusal::invalid("wraps", "keys come along with ADD_MEMBER and REMOVE_ROTATE only"));
    }
    are_for_members(wraps, after)
}

/// Whether keys are for members of a vault and epochs it has had.
pub(super) fn are_for_members(wraps: &[WrapRow], governance: &Governance) -> Result<()> {
    for wrap in wraps {
        if governance.member(&wrap.user).is_none() {
            return Err(Refusal::invalid("wraps", "a key for somebody who is not a member"));
        }
        if wrap.epoch == 0 || wrap.epoch > governance.epoch() {
            return Err(Refusal::invalid("wraps", "a key of an epoch that the vault does not have"));
        }
    }
    Ok(())
}
