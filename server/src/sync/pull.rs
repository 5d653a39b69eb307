//! Reading a log: its entries as they are kept, its head, its CONTROL entries.
//!
//! Owns who may read (members, whatever their role; who was removed, up to there; and nobody else) and how much at a
//! time. What is sent is what was pushed: frames are not taken apart, unless somebody wants only what is live.

use super::author::Reader;
use super::known::Known;
use super::refusal::{Refusal, Result};
use super::{Logs, Reach, Room, member};
use crate::auth::Caller;
use crate::limits::{Action, Key};
use crate::store::{Millis, PageLimits, Place, Question, StoredFrame};
use selkie_protocol::Bytes;
use selkie_protocol::id::{ChangeId, VaultId};
use selkie_protocol::log::{self, Body, Frame, Head};
use selkie_protocol::vault::{Controls, LogFrames, PlacedEntry, VaultHead};
use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

/// What is wanted of a log.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    pub after: u64,
    pub max_entries: Option<u32>,
    pub max_bytes: Option<u64>,
    /// Leave out payloads that are superseded.
    pub live_only: bool,
}

impl Logs {
    /// `GET /v1/vaults/{vid}/log?after=n&max_entries=&max_bytes=&payloads=live`
    pub async fn pull(&self, caller: &Caller, from: IpAddr, vid: VaultId, wanted: Wanted) -> Result<LogFrames> {
        self.count(caller, Action::Pull, &[Key::Address(from), Key::Account(caller.account_uuid())])?;
        let reader = Reader::of(caller)?;
        let room = &self.room;
        let at = room.place(reader.tenant, vid).await?;
        let limits = room.page(wanted.max_entries, wanted.max_bytes);
        // Strangers are turned away before anything is read for them.
        if room.office.cores.get(&at).is_none_or(|known| member(&known, reader).is_err()) {
            let known = room.office.look_up(at).await?;
            if let Reach::Until(end, then) = room.reach(at, reader, known).await? {
                return room.until_removed(at, vid, wanted.after, limits, (end, then)).await;
            }
        }
        let (frames, mut head) = room.office.vaults.entries_after(at, wanted.after, limits).await?;
        let known = room.known_since(at, head).await?;
        if let Reach::Until(end, then) = room.reach(at, reader, known).await? {
            return room.until_removed(at, vid, wanted.after, limits, (end, then)).await;
        }
        metrics::counter!("selkie_pulled_entries_total").increment(frames.len() as u64);
        let mut frames: Vec<Bytes> = frames.into_iter().map(|stored| Bytes(stored.frame)).collect();
        if wanted.live_only && !frames.is_empty() {
            head = room.leave_out_superseded(at, &mut frames).await?;
            // Which may be newer than what was read: perhaps they were removed meanwhile.
            let known = room.known_since(at, head).await?;
            if let Reach::Until(end, then) = room.reach(at, reader, known).await? {
                return room.until_removed(at, vid, wanted.after, limits, (end, then)).await;
            }
        }
        Ok(LogFrames { frames, head: room.office.sign(vid, head) })
    }

    /// `GET /v1/vaults/{vid}/head`
    pub async fn head(&self, caller: &Caller, vid: VaultId) -> Result<VaultHead> {
        let (_, _, reach) = self.room.for_reader(caller, vid).await?;
        let head = match reach {
            Reach::Whole(known) => self.room.office.sign(vid, known.head()),
            Reach::Until(end, then) => self.room.office.sign_as_of(vid, end, then),
        };
        Ok(VaultHead { head })
    }

    /// `GET /v1/vaults/{vid}/controls?after=n`
    pub async fn controls(&self, caller: &Caller, vid: VaultId, after: u64) -> Result<Controls> {
        self.count(caller, Action::Pull, &[Key::Account(caller.account_uuid())])?;
        let (_, at, reach) = self.room.for_reader(caller, vid).await?;
        let limits = self.room.page(None, None);
        // One more than is shown tells whether there is more.
        let asked = PageLimits { entries: limits.entries + 1, ..limits };
        let mut found = self.room.office.vaults.controls_after(at, after, asked).await?;
        let mut more = found.len() > limits.entries as usize;
        found.truncate(limits.entries as usize);
        let bytes: u64 = found.iter().map(|stored| stored.frame.len() as u64).sum();
        // A page that is full of bytes may have ended early.
        more |= bytes >= limits.bytes.saturating_sub(selkie_protocol::log::MAX_ENTRY_LENGTH as u64);
        if let Reach::Until(end, _) = reach {
            found.retain(|stored| stored.n <= end.n);
            more &= found.last().is_some_and(|last| last.n < end.n);
        }
        let entries = found.iter().map(|stored| Ok(PlacedEntry { n: stored.n, entry: entry_of(stored)? }));
        Ok(Controls { entries: entries.collect::<Result<_>>()?, more })
    }
}

impl Room {
    /// As much as was asked for, and no more than a page.
    pub(super) fn page(&self, entries: Option<u32>, bytes: Option<u64>) -> PageLimits {
        let (most, most_bytes) = (self.policy.page_entries, self.policy.page_bytes);
        PageLimits {
            entries: entries.unwrap_or(most).clamp(1, most),
            bytes: bytes.unwrap_or(most_bytes).clamp(1, most_bytes),
        }
    }

    /// A page of what was written up to the entry that removed the reader, and a head of that time. Payloads that were
    /// superseded since may be gone.
    async fn until_removed(
        &self,
        at: Place,
        vid: VaultId,
        after: u64,
        limits: PageLimits,
        (end, then): (Head, Millis),
    ) -> Result<LogFrames> {
        let left = u32::try_from(end.n.saturating_sub(after)).unwrap_or(u32::MAX);
        let frames = match left {
            0 => Vec::new(),
            _ => {
                let limits = PageLimits { entries: limits.entries.min(left), ..limits };
                self.office.vaults.entries_after(at, after, limits).await?.0
            }
        };
        metrics::counter!("selkie_pulled_entries_total").increment(frames.len() as u64);
        let frames = frames.into_iter().map(|stored| Bytes(stored.frame)).collect();
        Ok(LogFrames { frames, head: self.office.sign_as_of(vid, end, then) })
    }

    /// A state that is at least as new as a head that was just read: who was removed there is no member any more.
    pub(super) async fn known_since(&self, at: Place, head: Head) -> Result<Arc<Known>> {
        match self.office.cores.get(&at) {
            Some(known) if known.head() == head => Ok(known),
            _ => self.office.look_up(at).await,
        }
    }

    /// Drops payloads that are superseded at the head that is returned, which may be newer than the page: a reader who
    /// gets to that head misses nothing that is live there.
    async fn leave_out_superseded(&self, at: Place, frames: &mut [Bytes]) -> Result<Head> {
        let mut records = BTreeSet::new();
        for bytes in frames.iter() {
            let frame = stored_frame(bytes)?;
            if let Body::Data(data) = &frame.entry.body {
                records.extend(data.changes().map(|change| change.record));
            }
        }
        let known = self.office.cores.get(&at).map(|known| known.head().n);
        let records = records.into_iter().collect();
        let question = Question { at, known, records, differences: Vec::new(), chain: Vec::new() };
        let answer = self.office.vaults.bearings(vec![question]).await?.pop().flatten();
        let bearings = answer.ok_or(Refusal::NotFound("vault"))?;
        let live: HashSet<ChangeId> = bearings.live.iter().map(|row| row.change).collect();
        for bytes in frames.iter_mut() {
            let frame = stored_frame(bytes)?;
            let Body::Data(data) = &frame.entry.body else { continue };
            let header = &frame.entry.header;
            let is_live =
                |change: log::Change<'_>| live.contains(&change.id(&header.vault, &header.device, header.dev_seq));
            let kept: Vec<bool> = data.changes().map(is_live).collect();
            if kept.contains(&false) {
                let thinner = frame.keeping(|index| kept.get(usize::from(index)) == Some(&true));
                bytes.0 = thinner;
            }
        }
        Ok(bearings.head)
    }
}

/// What was parsed before it was kept.
pub(super) fn stored_frame(bytes: &[u8]) -> Result<Frame<'_>> {
    Frame::parse(bytes).map_err(|malformed| Refusal::Broken(Arc::new(malformed)))
}

fn entry_of(stored: &StoredFrame) -> Result<Bytes> {
    let entry = Frame::entry_bytes(&stored.frame).map_err(|malformed| Refusal::Broken(Arc::new(malformed)))?;
    Ok(Bytes::from(entry))
}
