//! The lies: which there are, what a device says that notices, and what each makes of a page of a vault's log.
//!
//! Owns the bending of frames. Who is lied to, and what the server does to its vaults behind everybody's back, is in
//! `liar`.

use super::Dice;
use crate::fake::vaults::One;
use selkie_client::{Misbehaviour, UserId};
use selkie_protocol::Bytes;
use selkie_protocol::cipher::DeviceKey;
use selkie_protocol::hash::Label;
use selkie_protocol::id::RecordId;
use selkie_protocol::log::{Body, Data, Entry, Frame, Head, Kind, NewChange, chain, signed};
use std::collections::BTreeMap;

/// Unless it is said otherwise, whoever was given such an answer must notice, and nobody else may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lie {
    /// The log ends earlier than it did. Whoever had come to where it is another one in the end must notice.
    RollBack,
    /// The same, and the server says that it was restored from a backup. There is no alarm: who has the end puts it
    /// back; and where somebody else has written meanwhile, whoever it is denied to must be told what is missing.
    CallItARestore,
    /// Some devices are shown another log from here on, for ever. Of Ana's two, which are kept apart, each must notice
    /// that has not been shown what the other one keeps in the end: they tell each other. Others have no other device.
    Fork,
    /// The same until the network heals; then all are shown one of the two, and whoever keeps what is not in it must
    /// notice.
    ForkAndJoin,
    /// What is written from here on is not shown, though the head tells of it.
    HoldBackTheEnd,
    /// One payload is never shown. No lie once the change is superseded: then it need not be kept.
    HoldBackAPayload,
    ChangeAPayload,
    SwapPayloads,
    /// A payload from further back stands where another one was.
    ReplayAPayload,
    Reorder,
    /// One entry is never shown.
    Drop,
    Repeat,
    ChangeAnEntry,
    /// An entry that no device of a member has signed, under a head that counts it.
    ForgeAnEntry,
    SignTwoHeads,
    SignWithAnotherKey,
    /// Keys of the vault do not open. Whoever lacks the present one must notice.
    SealAnotherKey,
    /// A push is answered as if it had been kept. Whoever was answered must notice, unless a copy that was late stands
    /// there after all.
    AcknowledgeAndDrop,
    ShowAnotherVault,
    /// Of Ana's account log, the last entry is kept from the others.
    CutAnAccountLog,
}

impl Lie {
    pub(super) const ALL: [Lie; 20] = [
        Lie::RollBack,
        Lie::CallItARestore,
        Lie::Fork,
        Lie::ForkAndJoin,
        Lie::HoldBackTheEnd,
        Lie::HoldBackAPayload,
        Lie::ChangeAPayload,
        Lie::SwapPayloads,
        Lie::ReplayAPayload,
        Lie::Reorder,
        Lie::Drop,
        Lie::Repeat,
        Lie::ChangeAnEntry,
        Lie::ForgeAnEntry,
        Lie::SignTwoHeads,
        Lie::SignWithAnotherKey,
        Lie::SealAnotherKey,
        Lie::AcknowledgeAndDrop,
        Lie::ShowAnotherVault,
        Lie::CutAnAccountLog,
    ];

    /// What a device calls it.
    pub(super) fn names(self) -> &'static [Misbehaviour] {
        use Misbehaviour::*;
        match self {
            Lie::RollBack | Lie::Fork | Lie::ForkAndJoin | Lie::AcknowledgeAndDrop => {
                &[VaultRollback, VaultFork, TwoHeads, ForgedEntry]
            }
            // Nobody can tell it from an honest one: it is told, and no alarm.
            Lie::CallItARestore => &[],
            Lie::HoldBackTheEnd => &[VaultRollback],
            Lie::HoldBackAPayload => &[Withheld],
            Lie::ChangeAPayload | Lie::SwapPayloads | Lie::ReplayAPayload | Lie::Repeat => &[ForgedEntry],
            // Who had to look up an author meanwhile holds the server to the head it signed then, and is shown another.
            Lie::ForgeAnEntry => &[ForgedEntry, TwoHeads, VaultFork],
            Lie::Reorder => &[ForgedEntry, VaultFork],
            Lie::Drop => &[ForgedEntry, VaultFork, VaultRollback],
            // One that introduces a device may name an entry of an account log that there is not.
            Lie::ChangeAnEntry => &[ForgedEntry, Rollback],
            Lie::SignTwoHeads => &[TwoHeads, VaultFork],
            Lie::SignWithAnotherKey => &[ForgedHead],
            Lie::SealAnotherKey => &[WrongVaultKey],
            Lie::ShowAnotherVault => &[ForgedHead, ForgedEntry],
            Lie::CutAnAccountLog => &[Rollback, ForgedEntry],
        }
    }

    /// Before which step of so many it begins: some have an effect only while devices are still new to the vault.
    pub(super) fn begins_before(self, steps: u64) -> u64 {
        match self {
            Lie::CutAnAccountLog => 2,
            Lie::SealAnotherKey => steps / 4,
            _ => steps * 3 / 4,
        }
    }

    /// Whether it is also told of a vault that one person has alone: there is nobody to compare with, nor anything that
    /// is asked of a person.
    pub(super) fn is_told_of_an_own_vault(self) -> bool {
        !matches!(self, Lie::CallItARestore | Lie::Fork | Lie::CutAnAccountLog)
    }

    /// Whether the vault is set apart for it.
    pub(super) fn sets_apart(self) -> bool {
        !matches!(self, Lie::CallItARestore | Lie::SealAnotherKey | Lie::CutAnAccountLog)
    }
}

/// What is shown of a log after a position.
pub(super) struct Page<'a> {
    pub(super) after: u64,
    pub(super) frames: &'a mut Vec<Bytes>,
    /// The log as it is.
    pub(super) one: &'a One,
}

impl Page<'_> {
    /// From a position on there is nothing.
    pub(super) fn end_at(&mut self, n: u64) -> bool {
        let before = self.frames.len();
        self.frames.truncate(n.saturating_sub(self.after) as usize);
        self.frames.len() < before
    }

    /// The entry of a position is missing, the same for ever once it was chosen.
    pub(super) fn drop(&mut self, dice: &mut Dice, chosen: &mut Option<u64>) -> bool {
        if self.frames.is_empty() {
            return false;
        }
        let n = *chosen.get_or_insert_with(|| self.after + 1 + dice.below(self.frames.len() as u64));
        let at = n.checked_sub(self.after + 1).map(|at| at as usize).filter(|at| *at < self.frames.len());
        at.map(|at| self.frames.remove(at)).is_some()
    }

    /// The payload of a change is missing, the same for ever once it was chosen. That is no lie where another change
    /// has superseded it.
    pub(super) fn hold_back(&mut self, dice: &mut Dice, chosen: &mut Option<(u64, u16)>) -> bool {
        let live: Vec<_> = self.one.log.live().leaves().map(|leaf| leaf.change).collect();
        let is_live = |frame: &Bytes, index: u16| {
            let frame = Frame::parse(frame).unwrap();
            let Body::Data(data) = &frame.entry.body else { return false };
            let header = &frame.entry.header;
            let change = data.changes().nth(usize::from(index)).unwrap();
            live.contains(&change.id(&header.vault, &header.device, header.dev_seq))
        };
        if chosen.is_none() {
            let all: Vec<_> = self.payloads().into_iter().filter(|it| is_live(&self.frames[it.0], it.1)).collect();
            *chosen = pick(dice, &all).map(|(at, index, _)| (self.after + 1 + *at as u64, *index));
        }
        let Some((n, index)) = *chosen else { return false };
        let Some(at) = n.checked_sub(self.after + 1).map(|at| at as usize).filter(|at| *at < self.frames.len()) else {
            return false;
        };
        let bare = Frame::parse(&self.frames[at]).unwrap().keeping(|other| other != index);
        self.frames[at] = bare.into();
        is_live(&self.frames[at], index)
    }

    /// Some payload is another one.
    pub(super) fn change_a_payload(&mut self, dice: &mut Dice) -> bool {
        let all = self.payloads();
        let Some((at, index, payload)) = pick(dice, &all) else { return false };
        let mut other = payload.clone();
        other[dice.below(payload.len() as u64) as usize] ^= 1 << dice.below(8);
        self.put(&BTreeMap::from([((*at, *index), other)]));
        true
    }

    pub(super) fn swap_payloads(&mut self, dice: &mut Dice) -> bool {
        let all = self.payloads();
        let Some((at, index, one)) = pick(dice, &all) else { return false };
        let others: Vec<_> = all.iter().filter(|it| (it.0, it.1) != (*at, *index)).collect();
        let Some((other_at, other_index, other)) = pick(dice, &others) else { return false };
        self.put(&BTreeMap::from([((*at, *index), other.clone()), ((*other_at, *other_index), one.clone())]));
        true
    }

    pub(super) fn replay_a_payload(&mut self, dice: &mut Dice) -> bool {
        let mut before: Vec<Bytes> = self.one.frames.iter().map(|frame| frame.clone().into()).collect();
        before.truncate(self.after as usize);
        let before = Page { after: 0, frames: &mut before, one: self.one }.payloads();
        let all = self.payloads();
        let (Some((at, index, _)), Some((_, _, old))) = (pick(dice, &all), pick(dice, &before)) else { return false };
        self.put(&BTreeMap::from([((*at, *index), old.clone())]));
        true
    }

    pub(super) fn reorder(&mut self, dice: &mut Dice) -> bool {
        if self.frames.len() < 2 {
            return false;
        }
        let at = dice.below(self.frames.len() as u64 - 1) as usize;
        self.frames.swap(at, at + 1);
        true
    }

    pub(super) fn repeat(&mut self, dice: &mut Dice) -> bool {
        let Some(frame) = pick(dice, self.frames).cloned() else { return false };
        let at = self.frames.iter().position(|other| *other == frame).unwrap();
        let at = at as u64 + 1 + dice.below((self.frames.len() - at) as u64);
        self.frames.insert(at as usize, frame);
        true
    }

    pub(super) fn change_an_entry(&mut self, dice: &mut Dice) -> bool {
        let Some(at) = (!self.frames.is_empty()).then(|| dice.below(self.frames.len() as u64) as usize) else {
            return false;
        };
        let length = Frame::entry_bytes(&self.frames[at]).unwrap().len() as u64;
        self.frames[at].0[4 + dice.below(length) as usize] ^= 1 << dice.below(8);
        true
    }

    /// An entry at the end, by a device that nobody knows or under the name of one that is known. Where it would stand.
    pub(super) fn forge(&mut self, dice: &mut Dice, user: UserId, stranger: &DeviceKey, now_ms: u64) -> Option<Head> {
        if self.after + self.frames.len() as u64 != self.one.frames.len() as u64 {
            return None;
        }
        let last = Frame::parse(self.one.frames.last()?).unwrap().entry.header;
        let (user, device) = if dice.one_in(2) { (user, stranger.id()) } else { (last.user, last.device) };
        let header = self.one.log.core().next_header(user, device, 0, now_ms);
        let (record, payload) = (RecordId([1 + dice.below(6) as u8; 16]), [7; 104]);
        let deps = self.one.log.live().record(&record).map(|live| live.heads()).unwrap_or_default();
        let change = NewChange { record, full: true, deps: &deps, payload: &payload };
        let unsigned = header.with_body(Kind::Data, &Data::write(&[change]).unwrap());
        let signature = stranger.sign(Label::VAULT_ENTRY_SIG, &[&unsigned]);
        let entry = signed(unsigned, &signature);
        self.frames.push(Frame::write(&entry, &payload).into());
        let Head { n, h } = self.one.log.head();
        Some(Head { n: n + 1, h: chain(&h, n + 1, &Entry::parse(&entry).unwrap().hash()) })
    }

    /// Which frame, which change, and what it is.
    fn payloads(&self) -> Vec<(usize, u16, Vec<u8>)> {
        let mut all = Vec::new();
        for (at, frame) in self.frames.iter().enumerate() {
            let frame = Frame::parse(frame).unwrap();
            let Body::Data(data) = &frame.entry.body else { continue };
            all.extend((0..data.len() as u16).map(|index| (at, index, frame.payload(index).unwrap().to_vec())));
        }
        all
    }

    /// Puts payloads where others are.
    fn put(&mut self, others: &BTreeMap<(usize, u16), Vec<u8>>) {
        for (at, shown) in self.frames.iter_mut().enumerate() {
            let bytes = shown.clone();
            let frame = Frame::parse(&bytes).unwrap();
            let Body::Data(data) = &frame.entry.body else { continue };
            let payload = |index| match others.get(&(at, index)) {
                Some(other) => other.clone(),
                None => frame.payload(index).unwrap().to_vec(),
            };
            let beside: Vec<u8> = (0..data.len() as u16).flat_map(payload).collect();
            *shown = Frame::write(frame.entry.as_bytes(), &beside).into();
        }
    }
}

fn pick<'a, T>(dice: &mut Dice, all: &'a [T]) -> Option<&'a T> {
    if all.is_empty() { None } else { all.get(dice.below(all.len() as u64) as usize) }
}
