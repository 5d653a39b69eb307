//! A vault's log with its memory: what a client holds, and a server that has the room.
//!
//! Owns the keeping together of [`Core`], [`Trail`] and [`LiveSet`]. The checks are in `core`.

use super::checkpoint::{Checkpoint, MAX_NOTE, Root};
use super::control::Control;
use super::core::{Beside, Core, Memory, OtherState, Step};
use super::effects::{Effects, What};
use super::entry::{Body, Entry, Head};
use super::live::{LiveSet, Record};
use super::people::People;
use super::reader::Malformed;
use super::refusal::{Denied, Refusal};
use super::role::Role;
use super::trail::{Extends, Trail};
use crate::account_log;
use crate::id::{ChangeId, RecordId};

/// The verified log of one vault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VaultLog {
    pub(super) core: Core,
    pub(super) past: Past,
}

/// Recent chain values and live changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Past {
    pub trail: Trail,
    pub live: LiveSet,
}

impl Memory for Past {
    fn chain_value(&self, n: u64) -> Option<[u8; 32]> {
        self.trail.at(n)
    }

    fn record(&self, record: &RecordId) -> Option<&Record> {
        self.live.record(record)
    }

    fn root_without(&self, forgotten: &[RecordId]) -> Option<Root> {
        Some(self.live.root_without(forgotten))
    }
}

impl VaultLog {
    /// Begins with CREATE.
    pub fn create(entry: &Entry<'_>, people: &impl People) -> Result<(VaultLog, Effects), Refusal> {
        let (core, effects) = Core::create(entry, people)?;
        let mut trail = Trail::new(Head { n: 0, h: core.vault.0 });
        trail.push(core.head.h);
        Ok((VaultLog { core, past: Past { trail, live: LiveSet::default() } }, effects))
    }

    /// Joins what was kept apart. The parts must be of one moment: the trail must end at the core's head.
    pub fn from_parts(core: Core, trail: Trail, live: LiveSet) -> Result<VaultLog, Malformed> {
        if trail.head() != core.head {
            return Err(Malformed("the parts are of different moments"));
        }
        Ok(VaultLog { core, past: Past { trail, live } })
    }

    /// Takes the next entry, or refuses it and stays as it was.
    pub fn apply(&mut self, entry: &Entry<'_>, beside: Beside<'_>, people: &impl People) -> Result<Effects, Refusal> {
        let step = self.check(entry, beside, people)?;
        Ok(self.commit(step).expect("the step was made from this state, just now"))
    }

    /// Holds the next entry against everything that is known. Between this and [`VaultLog::commit`] a server makes it
    /// durable, and a client looks whether the records that a checkpoint forgets were deleted.
    pub fn check(&self, entry: &Entry<'_>, beside: Beside<'_>, people: &impl People) -> Result<Step, Refusal> {
        self.core.check(entry, beside, people, &self.past)
    }

    pub fn commit(&mut self, step: Step) -> Result<Effects, OtherState> {
        self.core.commit(&step)?;
        let (effects, touched) = step.into_parts();
        self.past.trail.push(effects.head.h);
        self.past.live.apply(touched);
        if let What::Checkpointed { forgotten, .. } = &effects.what {
            forgotten.iter().for_each(|record| self.past.live.forget(record));
        }
        Ok(effects)
    }

    pub fn core(&self) -> &Core {
        &self.core
    }

    pub fn trail(&self) -> &Trail {
        &self.past.trail
    }

    pub fn live(&self) -> &LiveSet {
        &self.past.live
    }

    pub fn head(&self) -> Head {
        self.core.head
    }

    /// How this log compares with a head seen before: our own, another device's, or one the server signed.
    pub fn compare(&self, seen: &Head) -> Extends {
        self.past.trail.compare(seen)
    }

    /// The body of a checkpoint of this moment that leaves out these deleted records, and the note beside it.
    pub fn checkpoint(&self, forgotten: &[RecordId]) -> Result<(Vec<u8>, Option<Vec<u8>>), Malformed> {
        let mut sorted = forgotten.to_vec();
        sorted.sort_unstable();
        let root = self.past.live.root_without(&sorted);
        let note = (!sorted.is_empty()).then(|| super::checkpoint::write_note(&sorted));
        if note.as_ref().is_some_and(|(note, _)| note.len() > MAX_NOTE) {
            return Err(Malformed("the note is too long"));
        }
        let hash = note.as_ref().map(|(_, hash)| *hash);
        let body = Checkpoint::write(self.core.head, &root, hash, self.core.device_heads())?;
        Ok((body, note.map(|(note, _)| note)))
    }

    /// After a pull to the head the server claimed: every live change must have its payload.
    pub fn check_payloads(&self, at_hand: impl Fn(&RecordId, &ChangeId) -> bool) -> Result<(), Refusal> {
        let missing = self.past.live.leaves().filter(|leaf| !at_hand(&leaf.record, &leaf.change));
        let missing: Vec<ChangeId> = missing.map(|leaf| leaf.change).collect();
        if missing.is_empty() { Ok(()) } else { Err(Refusal::Withheld(missing)) }
    }

    /// Whether an owner has accepted, by RESET_TAIL, that what stands after an earlier position is lost, and how many
    /// entries that is. Nothing is lost here by asking: the person decides, and the log is then read anew.
    pub fn judge_reset(&self, entry: &Entry<'_>, people: &impl People) -> Result<u64, Refusal> {
        let header = &entry.header;
        if header.vault != self.core.vault {
            return Err(Refusal::OtherVault);
        }
        if !matches!(entry.body, Body::Control(Control::ResetTail { .. })) {
            return Err(Malformed("not RESET_TAIL").into());
        }
        let member = self.core.governance.member(&header.user).ok_or(Refusal::NotAMember)?;
        // What stands between may have shown newer devices, or the loss has reached the account log itself: what counts
        // is what is known of them now.
        if matches!(people.compare(&header.user, &member.anchor), None | Some(account_log::Extends::Shorter)) {
            return Err(Refusal::AccountLogNeeded { user: header.user, index: member.anchor.index });
        }
        let certificate = people.certificate(&header.user, &header.device);
        let certificate = certificate.filter(|known| known.revoked_at.is_none()).ok_or(Refusal::NotCertified)?;
        if !entry.is_signed_by(&certificate.key) {
            return Err(Refusal::Forged);
        }
        if member.role != Role::Owner {
            return Err(Refusal::NotAllowed(Denied::Role));
        }
        match self.compare(&header.seen) {
            Extends::Yes => Ok(self.head().n - header.seen.n),
            Extends::Forked => Err(Refusal::Fork { n: header.seen.n }),
            Extends::Shorter | Extends::Forgotten => {
                Err(Refusal::BadSeen { seen: header.seen.n, n: self.head().n.saturating_add(1) })
            }
        }
    }
}
