//! Makes the next signed frame: writes of the outbox, conflicts settled, sealed and signed.
//!
//! Owns the filling of a batch and what a write is put on top of. Pure but for keys; nothing is sent from here. A write
//! that cannot go (what it collides with cannot be read here) stays where it is and holds up no other record.

use super::replica::{InFlight, Me, Replica, Settling};
use super::settle::{NewestFirst, Outcome, Settle, Settled};
use crate::store::vaults::Pending;
use selkie_protocol::cipher::{DeviceKey, RecordContext};
use selkie_protocol::hash::Label;
use selkie_protocol::id::{ChangeId, RecordId};
use selkie_protocol::log::{Change, Data, Entry, Frame, Header, Kind, MAX_CHANGES, MAX_PAYLOADS, NewChange, signed};
use selkie_protocol::record::RecordBody;
use selkie_protocol::vault::Wrap;
use selkie_protocol::{Bytes, Face};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A write of the outbox, opened.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) pending: Pending,
    pub(crate) body: RecordBody,
}

/// A record as the log has it: what is current, and what a write was made from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    pub(crate) versions: BTreeMap<ChangeId, RecordBody>,
}

/// Who signs, and when.
pub(crate) struct Pen<'a> {
    pub(crate) me: Me,
    pub(crate) device: &'a DeviceKey,
    pub(crate) now_ms: u64,
}

/// What became of the outbox.
#[derive(Debug, Default)]
pub(crate) struct Composed {
    pub(crate) flight: Option<InFlight>,
    /// Records whose writes wait until what they collide with can be read.
    pub(crate) waiting: BTreeSet<RecordId>,
}

/// The epoch's key is not here, so nothing is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoKey {
    pub(crate) epoch: u32,
}

impl Pen<'_> {
    fn header(&self, replica: &Replica) -> Header {
        let core = replica.log.core();
        core.next_header(self.me.user, self.me.device, replica.state.checkpoint_ok, self.now_ms)
    }

    /// Signs an entry of any kind as the next one of this device.
    pub(crate) fn sign(&self, header: &Header, kind: Kind, body: &[u8]) -> Vec<u8> {
        sign(self.device, header, kind, body)
    }

    /// A frame that carries no writes.
    pub(crate) fn frame(
        &self,
        replica: &Replica,
        kind: Kind,
        body: &[u8],
        beside: &[u8],
        wraps: Vec<Wrap>,
    ) -> InFlight {
        let entry = self.sign(&self.header(replica), kind, body);
        in_flight(&entry, beside, wraps)
    }

    /// The next batch of the outbox. `known` has every version that a write may collide with.
    pub(crate) fn batch(
        &self,
        replica: &Replica,
        outbox: &[Outgoing],
        known: &BTreeMap<RecordId, Known>,
        judges: Judges<'_>,
    ) -> Result<Composed, NoKey> {
        let epoch = replica.log.core().governance().epoch();
        let records = replica.keys.records(epoch).ok_or(NoKey { epoch })?;
        // What devices of one person tell each other is no business of an app's rules.
        let is_own = replica.log.core().app().as_str() == crate::account::OWN_APP;
        let judges = if is_own { Judges { settle: &NewestFirst, ..judges } } else { judges };
        let header = self.header(replica);
        let mut batch = Batch {
            replica,
            header: &header,
            records,
            changes: Vec::new(),
            payloads: 0,
            tops: BTreeMap::new(),
            finish: BTreeMap::new(),
        };
        let mut composed = Composed::default();
        let (mut writes, mut settles) = (Vec::new(), Vec::new());
        'entry: for related in related(outbox) {
            // A conflict is decided once, with the last that was written in mind: all of it goes into one entry, if
            // need be into the next.
            let in_conflict = firsts(related.iter().copied().flatten()).any(|outgoing| collides(replica, outgoing));
            let whole = (in_conflict && !writes.is_empty()).then(|| (batch.mark(), writes.len(), settles.len()));
            // Writes that belong together go together, or wait together.
            for group in related {
                let begun = (group.len() > 1).then(|| batch.mark());
                let (writes_before, settles_before) = (writes.len(), settles.len());
                let taken =
                    batch.take_group(group, outbox, known, judges, &composed.waiting, &mut writes, &mut settles);
                match taken {
                    Group::Whole => {}
                    Group::Waits => {
                        composed.waiting.extend(group.iter().map(|outgoing| outgoing.pending.record));
                        writes.truncate(writes_before);
                        settles.truncate(settles_before);
                        begun.into_iter().for_each(|mark| batch.back_to(mark));
                    }
                    Group::Full => {
                        if let Some((mark, writes_before, settles_before)) = whole {
                            writes.truncate(writes_before);
                            settles.truncate(settles_before);
                            batch.back_to(mark);
                            continue 'entry;
                        }
                        // More than one entry holds is sent in several; anything else whole, with the next.
                        if writes_before > 0 {
                            writes.truncate(writes_before);
                            settles.truncate(settles_before);
                            begun.into_iter().for_each(|mark| batch.back_to(mark));
                        }
                        break 'entry;
                    }
                }
            }
        }
        if writes.is_empty() {
            return Ok(composed);
        }
        if !batch.finish.is_empty() {
            // The last write of a record has no room in this entry, or waits, and it is what the conflict was settled
            // with. It is settled with the last of those that do go; the next entry meets the outcome anew.
            let fit: BTreeSet<u64> = writes.iter().map(|(seq, _)| *seq).collect();
            let fit: Vec<Outgoing> = outbox.iter().filter(|one| fit.contains(&one.pending.seq)).cloned().collect();
            let mut again = self.batch(replica, &fit, known, judges)?;
            again.waiting.extend(composed.waiting);
            return Ok(again);
        }
        let changes: Vec<NewChange<'_>> = batch.changes.iter().map(Sealed::as_new).collect();
        let body = Data::write(&changes).expect("the batch was kept within the limits");
        let payloads: Vec<u8> = batch.changes.iter().flat_map(|change| change.payload.iter().copied()).collect();
        let entry = self.sign(&header, Kind::Data, &body);
        composed.flight = Some(InFlight { writes, settles, ..in_flight(&entry, &payloads, Vec::new()) });
        Ok(composed)
    }
}

/// Whether somebody has written the record since, who could not know of this write.
pub(crate) fn collides(replica: &Replica, outgoing: &Outgoing) -> bool {
    let live = replica.log.live().record(&outgoing.pending.record);
    let heads = live.map(|live| live.heads()).unwrap_or_default();
    !heads.is_empty() && outgoing.pending.base.as_ref() != Some(&heads)
}

/// The first write of each record: those after it are on top of it, and collide with nothing.
pub(crate) fn firsts<'a>(outbox: impl IntoIterator<Item = &'a Outgoing>) -> impl Iterator<Item = &'a Outgoing> {
    let mut seen = BTreeSet::new();
    outbox.into_iter().filter(move |outgoing| seen.insert(outgoing.pending.record))
}

/// Writes that are to be told in their order: those that belong together, and those of the same record. What has
/// nothing to do with each other may be sent in any order; each comes with its first.
fn related(outbox: &[Outgoing]) -> Vec<Vec<&[Outgoing]>> {
    let mut related: Vec<Vec<&[Outgoing]>> = Vec::new();
    let mut place_of: BTreeMap<RecordId, usize> = BTreeMap::new();
    for group in outbox.chunk_by(|one, next| one.pending.group == next.pending.group) {
        let records = || group.iter().map(|outgoing| outgoing.pending.record);
        let met: BTreeSet<usize> = records().filter_map(|record| place_of.get(&record).copied()).collect();
        let place = met.first().copied().unwrap_or(related.len());
        if place == related.len() {
            related.push(Vec::new());
        }
        for other in met.into_iter().skip(1) {
            let joined = std::mem::take(&mut related[other]);
            place_of.values_mut().filter(|known| **known == other).for_each(|known| *known = place);
            related[place].extend(joined);
            related[place].sort_by_key(|group| group.first().map(|first| first.pending.seq));
        }
        related[place].push(group);
        place_of.extend(records().map(|record| (record, place)));
    }
    related
}

pub(crate) fn sign(device: &DeviceKey, header: &Header, kind: Kind, body: &[u8]) -> Vec<u8> {
    let unsigned = header.with_body(kind, body);
    let signature = device.sign(Label::VAULT_ENTRY_SIG, &[&unsigned]);
    signed(unsigned, &signature)
}

pub(crate) fn in_flight(entry: &[u8], beside: &[u8], wraps: Vec<Wrap>) -> InFlight {
    let hash = Entry::parse(entry).expect("we have just made it").hash();
    InFlight {
        frame: Frame::write(entry, beside).into(),
        hash: hash.into(),
        wraps,
        writes: Vec::new(),
        settles: Vec::new(),
        acknowledged: None,
    }
}

/// Who decides conflicts, and who seals what a person is asked.
#[derive(Clone, Copy)]
pub(crate) struct Judges<'a> {
    pub(crate) settle: &'a dyn Settle,
    pub(crate) seal: &'a dyn Fn(&RecordId, &[u8]) -> Vec<u8>,
}

/// Between what a person is asked to decide.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    pub(crate) base: Option<RecordBody>,
    pub(crate) mine: RecordBody,
    pub(crate) theirs: RecordBody,
}

/// What became of writes that belong together.
enum Group {
    Whole,
    Waits,
    Full,
}

/// What is written for one write of the outbox: the write itself, and what comes on top of it.
struct Plan {
    bodies: Vec<Vec<u8>>,
    against: Option<(ChangeId, Outcome, Option<Bytes>)>,
}

/// A batch as it was.
struct Mark {
    changes: usize,
    payloads: usize,
    tops: BTreeMap<RecordId, ChangeId>,
    finish: BTreeMap<u64, Option<Vec<u8>>>,
}

struct Batch<'a> {
    replica: &'a Replica,
    header: &'a Header,
    records: &'a selkie_protocol::cipher::RecordKey,
    changes: Vec<Sealed>,
    payloads: usize,
    /// What a record's last change in this batch is called.
    tops: BTreeMap<RecordId, ChangeId>,
    /// What comes on top of a write, if anything does, by its number: the outcome of a conflict that an earlier write
    /// has met, settled with this one.
    finish: BTreeMap<u64, Option<Vec<u8>>>,
}

struct Sealed {
    record: RecordId,
    deps: Vec<ChangeId>,
    payload: Vec<u8>,
}

impl Sealed {
    fn as_new(&self) -> NewChange<'_> {
        NewChange { record: self.record, full: true, deps: &self.deps, payload: &self.payload }
    }
}

impl Batch<'_> {
    fn mark(&self) -> Mark {
        let (tops, finish) = (self.tops.clone(), self.finish.clone());
        Mark { changes: self.changes.len(), payloads: self.payloads, tops, finish }
    }

    fn back_to(&mut self, mark: Mark) {
        self.changes.truncate(mark.changes);
        Mark { payloads: self.payloads, tops: self.tops, finish: self.finish, .. } = mark;
    }

    #[allow(clippy::too_many_arguments)]
    fn take_group(
        &mut self,
        group: &[Outgoing],
        outbox: &[Outgoing],
        known: &BTreeMap<RecordId, Known>,
        judges: Judges<'_>,
        waiting: &BTreeSet<RecordId>,
        writes: &mut Vec<(u64, ChangeId)>,
        settles: &mut Vec<Settling>,
    ) -> Group {
        for outgoing in group {
            let record = outgoing.pending.record;
            if waiting.contains(&record) {
                return Group::Waits;
            }
            let Some(plan) = self.plan(outgoing, outbox, known, judges) else { return Group::Waits };
            let Some(ids) = self.add(record, &plan.bodies) else { return Group::Full };
            self.finish.remove(&outgoing.pending.seq);
            writes.push((outgoing.pending.seq, ids[0]));
            if let Some((theirs, how, asked)) = plan.against {
                let theirs_won = matches!(how, Outcome::TheirsKept | Outcome::Asked);
                let (lost, won) = if theirs_won { (ids[0], theirs) } else { (theirs, ids[0]) };
                settles.push(Settling { record, lost, won, how, asked });
            }
        }
        Group::Whole
    }

    /// What to write, or `None` if it collides with something that cannot be read.
    fn plan(
        &mut self,
        outgoing: &Outgoing,
        outbox: &[Outgoing],
        known: &BTreeMap<RecordId, Known>,
        judges: Judges<'_>,
    ) -> Option<Plan> {
        let record = outgoing.pending.record;
        let body = || outgoing.body.to_bytes();
        let alone = || Plan { bodies: vec![body()], against: None };
        if self.tops.contains_key(&record) {
            // On top of our own write before. What that collided with was settled with the last of them in mind, and
            // what has to come on top of the last comes now.
            let finish = self.finish.get(&outgoing.pending.seq).cloned().flatten();
            return Some(Plan { bodies: [Some(body()), finish].into_iter().flatten().collect(), ..alone() });
        }
        if !collides(self.replica, outgoing) {
            return Some(alone());
        }
        let heads = self.replica.log.live().record(&record).map(|live| live.heads()).unwrap_or_default();
        let versions = known.get(&record).map(|known| &known.versions);
        let theirs = heads.iter().map(|head| Some((*head, versions?.get(head)?))).collect::<Option<Vec<_>>>()?;
        let (their_id, theirs) = theirs.into_iter().max_by_key(|(id, body)| (body.hlc, *id))?;
        let base = outgoing.pending.base.iter().flatten().find_map(|base| versions?.get(base));
        let last = outbox.iter().rfind(|other| other.pending.record == record).unwrap_or(outgoing);
        let settled = judges.settle.settle(base, &last.body, theirs);
        let (how, finish) = match &settled {
            Settled::Mine => (Some(Outcome::MineKept), None),
            Settled::Theirs => (Some(Outcome::TheirsKept), Some(theirs.to_bytes())),
            Settled::Merged { body, lossy: false } => (Some(Outcome::Merged), Some(body.to_bytes())),
            Settled::Merged { body, lossy: true } => (Some(Outcome::PartlyMerged), Some(body.to_bytes())),
            Settled::Ask => (Some(Outcome::Asked), Some(theirs.to_bytes())),
            // What was said later stays so: else whatever a third has written between the two would stand.
            Settled::Same => (None, (theirs.hlc > last.body.hlc).then(|| theirs.to_bytes())),
        };
        let asked = (settled == Settled::Ask).then(|| {
            let asked = Asked { base: base.cloned(), mine: last.body.clone(), theirs: theirs.clone() };
            Bytes((judges.seal)(&record, &Face::Cbor.encode(&asked)))
        });
        let mut plan = Plan { against: how.map(|how| (their_id, how, asked)), ..alone() };
        if last.pending.seq == outgoing.pending.seq {
            plan.bodies.extend(finish);
        } else {
            self.finish.insert(last.pending.seq, finish);
        }
        Some(plan)
    }

    /// Seals bodies one on top of the other; `None`, and nothing added, if they do not fit.
    fn add(&mut self, record: RecordId, bodies: &[Vec<u8>]) -> Option<Vec<ChangeId>> {
        let (changes_before, payloads_before) = (self.changes.len(), self.payloads);
        let top_before = self.tops.get(&record).copied();
        let mut ids = Vec::with_capacity(bodies.len());
        for body in bodies {
            match self.add_one(record, body) {
                Some(id) => ids.push(id),
                None => {
                    self.changes.truncate(changes_before);
                    self.payloads = payloads_before;
                    match top_before {
                        Some(top) => self.tops.insert(record, top),
                        None => self.tops.remove(&record),
                    };
                    return None;
                }
            }
        }
        Some(ids)
    }

    fn add_one(&mut self, record: RecordId, body: &[u8]) -> Option<ChangeId> {
        if self.changes.len() == MAX_CHANGES {
            return None;
        }
        let index = u16::try_from(self.changes.len()).ok()?;
        let deps = match self.tops.get(&record) {
            Some(top) => vec![*top],
            None => self.replica.log.live().record(&record).map(|live| live.heads()).unwrap_or_default(),
        };
        let Header { user, device, dev_seq, vault, .. } = *self.header;
        let context = RecordContext { user, device, dev_seq, index, record, full: true, deps: deps.clone() };
        let payload = self.records.seal(&context, body).ok()?;
        if self.payloads + payload.len() > MAX_PAYLOADS {
            return None;
        }
        self.payloads += payload.len();
        let sealed = Sealed { record, deps, payload };
        let alone = Data::write(&[sealed.as_new()]).ok()?;
        let id = Change::parse(&alone[2..], index).ok()?.id(&vault, &device, dev_seq);
        self.tops.insert(record, id);
        self.changes.push(sealed);
        Some(id)
    }
}
