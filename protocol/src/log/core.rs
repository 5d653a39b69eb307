//! The state of a vault's log and the checks by which it moves: what server and clients both run.
//!
//! Owns the order of the checks. Pure: no storage, no clock, no randomness, no payload keys. What it must remember of
//! the past beyond itself, recent chain values and live changes, it asks for ([`Memory`]), so that a server can answer
//! from rows it loaded for one push while a client holds everything.

use super::checkpoint::{Checkpoint, DeviceHead, MAX_DEVICES, Root, read_note};
use super::control::{App, Control};
use super::data::{Data, payload_hash};
use super::effects::{Applied, Effects, What};
use super::entry::{Body, Entry, Head, Header, chain};
use super::governance::Governance;
use super::live::{Record, Staging, Touched};
use super::people::{People, reaches};
use super::reader::Malformed;
use super::refusal::{Denied, Refusal};
use super::trail::WINDOW;
use crate::account_log::{Extends, Pin};
use crate::id::{DeviceId, RecordId, UserId, VaultId};
use std::collections::BTreeMap;

/// How many checkpoints are remembered, newest last.
pub const KEPT_CHECKPOINTS: usize = 4;

/// Everything but the recent chain values and the live changes. Its size depends on members, devices and epochs alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Core {
    pub(super) vault: VaultId,
    pub(super) app: App,
    pub(super) head: Head,
    pub(super) control: [u8; 32],
    pub(super) governance: Governance,
    pub(super) devices: BTreeMap<DeviceId, DeviceChain>,
    pub(super) checkpoints: Vec<KnownCheckpoint>,
    /// Checkpoints at or before this position are not remembered.
    pub(super) unremembered: u64,
}

/// Where one device's entries in this vault have got to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceChain {
    pub dev_seq: u64,
    /// The hash of its last entry.
    pub last: [u8; 32],
    /// Where that stands; 0 if it was taken from a checkpoint.
    pub n: u64,
}

/// A checkpoint that stands in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownCheckpoint {
    pub n: u64,
    pub author: UserId,
    /// The first other person whose device said that it is right.
    pub confirmed_by: Option<UserId>,
}

/// What the checks need of the past.
pub trait Memory {
    /// The chain value at a position. Asked only for the last [`WINDOW`] positions.
    fn chain_value(&self, n: u64) -> Option<[u8; 32]>;

    /// What is live of a record. Asked only for the records that an entry or its note names.
    fn record(&self, record: &RecordId) -> Option<&Record>;

    /// The root over all live changes without these records, or `None` if that cannot be told here. A server should
    /// tell: a false checkpoint that it lets through stops every client. Asked only for a CHECKPOINT.
    fn root_without(&self, forgotten: &[RecordId]) -> Option<Root>;
}

/// What travels beside an entry, as far as it is at hand.
#[derive(Clone, Copy, Debug)]
pub enum Beside<'a> {
    Nothing,
    /// Of a DATA entry: a place for every change, empty where the payload is not at hand.
    Payloads(&'a [Option<&'a [u8]>]),
    /// Of a CHECKPOINT that leaves records out.
    Note(&'a [u8]),
}

/// An entry that passed every check, ready to be taken.
#[derive(Clone, Debug)]
pub struct Step {
    effects: Effects,
    before: Head,
    chain: DeviceChain,
    governance: Option<Governance>,
    checkpoint_ok: u64,
    touched: BTreeMap<RecordId, Touched>,
}

impl Step {
    pub fn effects(&self) -> &Effects {
        &self.effects
    }

    /// What becomes of each record the entry names.
    pub fn touched(&self) -> &BTreeMap<RecordId, Touched> {
        &self.touched
    }

    pub(super) fn into_parts(self) -> (Effects, BTreeMap<RecordId, Touched>) {
        (self.effects, self.touched)
    }
}

impl Core {
    /// Begins a log with its CREATE entry, at position 1. The vault's name is the hash of that entry.
    pub fn create(entry: &Entry<'_>, people: &impl People) -> Result<(Core, Effects), Refusal> {
        let (Body::Control(control @ Control::Create(create)), Some(vault)) = (&entry.body, entry.creates()) else {
            return Err(Refusal::NotCreate);
        };
        let Header { user, device, dev_seq, .. } = entry.header;
        verify(entry, &create.anchor, people)?;
        let governance = Governance::create(user, control, people)?;
        let hash = entry.hash();
        let head = Head { n: 1, h: chain(&vault.0, 1, &hash) };
        let what = What::Governed(Box::new(control.clone()));
        let core = Core {
            vault,
            app: create.app.clone(),
            head,
            control: hash,
            governance,
            devices: BTreeMap::from([(device, DeviceChain { dev_seq, last: hash, n: 1 })]),
            checkpoints: Vec::new(),
            unremembered: 0,
        };
        Ok((core, Effects { head, entry: hash, user, device, dev_seq, what, confirms: None }))
    }

    /// Holds the next entry against everything that is known. Changes nothing.
    pub fn check(
        &self,
        entry: &Entry<'_>,
        beside: Beside<'_>,
        people: &impl People,
        memory: &impl Memory,
    ) -> Result<Step, Refusal> {
        let header = &entry.header;
        let n = self.next_position()?;
        if header.vault != self.vault {
            return Err(Refusal::OtherVault);
        }
        let control = match &entry.body {
            Body::Control(control) => Some(control),
            _ => None,
        };
        let member = self.governance.member(&header.user).ok_or(Refusal::NotAMember)?;
        reaches(people, header.user, &member.anchor)?;
        verify(entry, &member.anchor_for(header.user, control), people)?;
        let hash = entry.hash();
        self.check_device(header, &hash)?;
        check_seen(header, n, memory)?;
        if header.control != self.control {
            return Err(Refusal::StaleControl);
        }
        if header.epoch != self.governance.epoch() {
            return Err(Refusal::StaleEpoch { current: self.governance.epoch(), found: header.epoch });
        }
        let confirms = self.check_confirmation(header)?;

        let (mut governance, mut touched) = (None, BTreeMap::new());
        let what = match &entry.body {
            Body::Control(control) => {
                if let Control::ResetTail { n: kept } = control
                    && *kept != self.head.n
                {
                    return Err(Refusal::BadSeen { seen: *kept, n });
                }
                governance = Some(self.governance.after(header.user, control, people)?);
                What::Governed(Box::new(control.clone()))
            }
            Body::Data(data) => {
                self.may_write(header)?;
                check_payloads(data, beside)?;
                let (records, what) = self.stage(header, data, n, memory)?;
                touched = records;
                what
            }
            Body::Checkpoint(checkpoint) => {
                self.may_write(header)?;
                self.check_checkpoint(checkpoint, beside, n, memory)?
            }
            Body::Heartbeat => {
                self.may_write(header)?;
                What::Heard
            }
        };
        let head = Head { n, h: chain(&self.head.h, n, &hash) };
        let (user, device, dev_seq) = (header.user, header.device, header.dev_seq);
        Ok(Step {
            effects: Effects { head, entry: hash, user, device, dev_seq, what, confirms },
            before: self.head,
            chain: DeviceChain { dev_seq, last: hash, n },
            governance,
            checkpoint_ok: header.checkpoint_ok,
            touched,
        })
    }

    /// Takes a step. Steps are for the state they were made from: another one is refused and changes nothing.
    pub fn commit(&mut self, step: &Step) -> Result<(), OtherState> {
        if step.before != self.head {
            return Err(OtherState);
        }
        let Effects { head, entry, user, device, what, confirms, .. } = &step.effects;
        self.head = *head;
        self.devices.insert(*device, step.chain);
        if let Some(governance) = &step.governance {
            self.governance = governance.clone();
            self.control = *entry;
        }
        if confirms.is_some()
            && let Some(known) = self.checkpoints.iter_mut().find(|known| known.n == step.checkpoint_ok)
        {
            known.confirmed_by = Some(*user);
        }
        if matches!(what, What::Checkpointed { .. }) {
            self.checkpoints.push(KnownCheckpoint { n: head.n, author: *user, confirmed_by: None });
            if self.checkpoints.len() > KEPT_CHECKPOINTS {
                self.unremembered = self.checkpoints.remove(0).n;
            }
        }
        Ok(())
    }

    /// Takes an entry that was checked before and stands next, to bring an older state up to date: nothing is checked
    /// again but that it follows. A CONTROL entry cannot be followed, since what it did to members and keys was decided
    /// with account logs at hand: whoever keeps states keeps one with every CONTROL entry.
    ///
    /// Only for what one's own store says was checked. An entry that never was can be followed if it fits the chains.
    pub fn follow(&mut self, entry: &Entry<'_>) -> Result<(), Refusal> {
        let header = &entry.header;
        let n = self.next_position()?;
        if header.vault != self.vault {
            return Err(Refusal::OtherVault);
        }
        if matches!(entry.body, Body::Control(_)) {
            return Err(Malformed("a control entry cannot be followed").into());
        }
        let hash = entry.hash();
        self.check_device(header, &hash)?;
        if header.seen.n >= n {
            return Err(Refusal::BadSeen { seen: header.seen.n, n });
        }
        if header.seen.n == self.head.n && header.seen != self.head {
            return Err(Refusal::Fork { n: self.head.n });
        }
        if header.control != self.control {
            return Err(Refusal::StaleControl);
        }
        let confirms = self.check_confirmation(header)?;
        let what = match entry.body {
            Body::Checkpoint(_) => What::Checkpointed { verified: false, forgotten: Vec::new() },
            _ => What::Heard,
        };
        let head = Head { n, h: chain(&self.head.h, n, &hash) };
        let (user, device, dev_seq) = (header.user, header.device, header.dev_seq);
        let step = Step {
            effects: Effects { head, entry: hash, user, device, dev_seq, what, confirms },
            before: self.head,
            chain: DeviceChain { dev_seq, last: hash, n },
            governance: None,
            checkpoint_ok: header.checkpoint_ok,
            touched: BTreeMap::new(),
        };
        self.commit(&step).expect("the step was made from this state, just now");
        Ok(())
    }

    /// Nobody comes to the last position there is, but a false checkpoint can put a new device there.
    fn next_position(&self) -> Result<u64, Refusal> {
        self.head.n.checked_add(1).ok_or(Refusal::TooMany("entries"))
    }

    fn may_write(&self, header: &Header) -> Result<(), Refusal> {
        let role = self.governance.member(&header.user).ok_or(Refusal::NotAMember)?.role;
        if role.may_write() { Ok(()) } else { Err(Refusal::NotAllowed(Denied::Role)) }
    }

    fn check_device(&self, header: &Header, hash: &[u8; 32]) -> Result<(), Refusal> {
        let blank = DeviceChain { dev_seq: 0, last: [0; 32], n: 0 };
        let known = self.devices.get(&header.device);
        if known.is_none() && self.devices.len() >= MAX_DEVICES {
            return Err(Refusal::TooMany("devices"));
        }
        let known = known.unwrap_or(&blank);
        if header.dev_seq == known.dev_seq && known.last == *hash {
            return Err(Refusal::Repeated { n: known.n });
        }
        if known.dev_seq.checked_add(1) != Some(header.dev_seq) {
            return Err(Refusal::DeviceSequence { expected: known.dev_seq.saturating_add(1), found: header.dev_seq });
        }
        if header.dev_prev != known.last {
            return Err(Refusal::DevicePrevious);
        }
        Ok(())
    }

    /// The checkpoint that this entry is the first of another person to confirm.
    fn check_confirmation(&self, header: &Header) -> Result<Option<u64>, Refusal> {
        let n = header.checkpoint_ok;
        if n <= self.unremembered {
            return Ok(None);
        }
        let known = self.checkpoints.iter().find(|known| known.n == n && n <= header.seen.n);
        let known = known.ok_or(Refusal::NotAllowed(Denied::NoSuchCheckpoint))?;
        Ok((known.confirmed_by.is_none() && known.author != header.user).then_some(n))
    }

    fn stage(
        &self,
        header: &Header,
        data: &Data<'_>,
        n: u64,
        memory: &impl Memory,
    ) -> Result<(BTreeMap<RecordId, Touched>, What), Refusal> {
        let mut staging = Staging::default();
        let mut changes = Vec::with_capacity(data.len());
        for change in data.changes() {
            let id = change.id(&self.vault, &header.device, header.dev_seq);
            staging.stage(&change, id, memory.record(&change.record), header.seen.n, n)?;
            let (index, record, full, payload) = (change.index, change.record, change.full, change.payload);
            changes.push(Applied { index, record, id, full, payload });
        }
        let Staging { touched, superseded, .. } = staging.without_conflicts()?;
        Ok((touched, What::Changed { changes, superseded }))
    }

    fn check_checkpoint(
        &self,
        checkpoint: &Checkpoint<'_>,
        beside: Beside<'_>,
        n: u64,
        memory: &impl Memory,
    ) -> Result<What, Refusal> {
        // Nobody keeps what was live before: a checkpoint is checked where it stands or not at all.
        if checkpoint.at.n != self.head.n {
            return Err(Refusal::BadSeen { seen: checkpoint.at.n, n });
        }
        if !checkpoint.devices.iter().eq(self.device_heads()) {
            return Err(Refusal::FalseCheckpoint("the devices' last entries are others"));
        }
        let forgotten = match (&checkpoint.note, beside) {
            (None, Beside::Nothing) => Vec::new(),
            (Some(hash), Beside::Note(note)) => read_note(note, hash)?,
            (Some(_), _) => return Err(Refusal::FalseCheckpoint("the note is missing")),
            (None, _) => return Err(Refusal::Malformed(Malformed("nothing travels beside this entry"))),
        };
        let root = memory.root_without(&forgotten);
        if root.is_some_and(|root| root != checkpoint.root) {
            return Err(Refusal::FalseCheckpoint("other changes are live"));
        }
        // Whoever begins at this very checkpoint never had what it forgets: its pages leave that out.
        let begins_here = self.unremembered == self.head.n;
        for record in &forgotten {
            let deleted = memory.record(record).map(|record| record.len() == 1 && record.whole_at() > 0);
            if !deleted.unwrap_or(begins_here) {
                return Err(Refusal::FalseCheckpoint("a record is left out that was not deleted"));
            }
        }
        Ok(What::Checkpointed { verified: root.is_some(), forgotten })
    }

    /// Ascending by device.
    pub fn device_heads(&self) -> impl Iterator<Item = DeviceHead> + '_ {
        self.devices.iter().map(|(device, chain)| DeviceHead {
            device: *device,
            dev_seq: chain.dev_seq,
            entry: chain.last,
        })
    }

    /// What a device writes above its next entry, having verified everything up to here.
    pub fn next_header(&self, user: UserId, device: DeviceId, checkpoint_ok: u64, unix_ms: u64) -> Header {
        let chain = self.devices.get(&device);
        Header {
            vault: self.vault,
            user,
            device,
            // A false checkpoint may say of a device that it has used the last number. Its next entry is refused then.
            dev_seq: chain.map_or(0, |chain| chain.dev_seq).saturating_add(1),
            dev_prev: chain.map_or([0; 32], |chain| chain.last),
            seen: self.head,
            control: self.control,
            epoch: self.governance.epoch(),
            checkpoint_ok,
            unix_ms,
        }
    }

    pub fn vault(&self) -> VaultId {
        self.vault
    }

    pub fn app(&self) -> &App {
        &self.app
    }

    pub fn head(&self) -> Head {
        self.head
    }

    /// The hash of the latest CONTROL entry.
    pub fn control(&self) -> [u8; 32] {
        self.control
    }

    pub fn governance(&self) -> &Governance {
        &self.governance
    }

    pub fn device(&self, device: &DeviceId) -> Option<&DeviceChain> {
        self.devices.get(device)
    }

    /// The device whose last entry stands at this position.
    pub fn device_at(&self, n: u64) -> Option<&DeviceChain> {
        self.devices.values().find(|chain| chain.n == n)
    }

    /// The newest checkpoints, newest last.
    pub fn checkpoints(&self) -> &[KnownCheckpoint] {
        &self.checkpoints
    }
}

/// The step was made from another state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the step was made from another state of the log")]
pub struct OtherState;

/// The header of CREATE: a vault's first entry knows nothing of any vault.
pub fn first_header(user: UserId, device: DeviceId, unix_ms: u64) -> Header {
    Header {
        vault: VaultId([0; 32]),
        user,
        device,
        dev_seq: 1,
        dev_prev: [0; 32],
        seen: Head { n: 0, h: [0; 32] },
        control: [0; 32],
        epoch: 1,
        checkpoint_ok: 0,
        unix_ms,
    }
}

/// The device stands in its owner's account log at the anchor, and signed this. The log at hand must reach the anchor:
/// a shorter one may not say yet that the device was revoked. Whether the anchor's hash is right is not asked here: it
/// may come from this very entry, and nobody is accused on the word of an entry that was not signed.
pub(super) fn verify(entry: &Entry<'_>, anchor: &Pin, people: &impl People) -> Result<(), Refusal> {
    let Header { user, device, .. } = entry.header;
    if matches!(people.compare(&user, anchor), None | Some(Extends::Shorter)) {
        return Err(Refusal::AccountLogNeeded { user, index: anchor.index });
    }
    let certificate = people.certificate(&user, &device).filter(|certificate| certificate.stands_at(anchor.index));
    let certificate = certificate.ok_or(Refusal::NotCertified)?;
    if entry.is_signed_by(&certificate.key) { Ok(()) } else { Err(Refusal::Forged) }
}

fn check_seen(header: &Header, n: u64, memory: &impl Memory) -> Result<(), Refusal> {
    let seen = header.seen;
    let bad = Refusal::BadSeen { seen: seen.n, n };
    if seen.n >= n || n - 1 - seen.n > WINDOW {
        return Err(bad);
    }
    match memory.chain_value(seen.n) {
        None => Err(bad),
        Some(value) if value == seen.h => Ok(()),
        Some(_) => Err(Refusal::Fork { n: seen.n }),
    }
}

fn check_payloads(data: &Data<'_>, beside: Beside<'_>) -> Result<(), Refusal> {
    let payloads = match beside {
        Beside::Nothing => return Ok(()),
        Beside::Payloads(payloads) if payloads.len() == data.len() => payloads,
        _ => return Err(Malformed("there is not one place for every payload").into()),
    };
    for (change, payload) in data.changes().zip(payloads) {
        if payload.is_some_and(|payload| {
            payload.len() != change.payload_length as usize || payload_hash(payload) != change.payload
        }) {
            return Err(Refusal::WrongPayload { index: change.index });
        }
    }
    Ok(())
}
