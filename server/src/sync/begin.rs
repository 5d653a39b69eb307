//! What a new device is given to begin with: the newest checkpoint that is ready, whose word it stands on, and the way
//! from there.

use super::pull::stored_frame;
use super::refusal::{Refusal, Result};
use super::{Logs, Room};
use crate::auth::Caller;
use crate::limits::{Action, Key};
use crate::store::{PageLimits, Place};
use selkie_protocol::Bytes;
use selkie_protocol::id::{UserId, VaultId};
use selkie_protocol::log::{Frame, WINDOW};
use selkie_protocol::vault::{Beginning, CheckpointItems};
use std::sync::Arc;

/// One other person's word is enough; a few more are given in case a device of theirs was revoked since.
const MOST_EVIDENCE: usize = 3;
/// How far after a checkpoint evidence is looked for. Devices say it in the first entry they write.
const SEARCH_ENTRIES: u64 = 4_096;

impl Logs {
    /// `GET /v1/vaults/{vid}/checkpoint`
    pub async fn beginning(&self, caller: &Caller, vid: VaultId) -> Result<Beginning> {
        self.count(caller, Action::Pull, &[Key::Account(caller.account_uuid())])?;
        let (_, at, known) = self.room.for_member(caller, vid).await?;
        let vaults = &self.room.office.vaults;
        let ready = vaults.checkpoints(at).await?;
        let newest = ready.into_iter().next().ok_or(Refusal::NotFound("checkpoint"))?;
        let checkpoint = self.room.entry(at, newest.n).await?;
        let frame = stored_frame(&checkpoint)?;
        let end = newest.n - 1;
        let before_n = end.saturating_sub(WINDOW);
        let before_h = vaults.chain_value(at, before_n).await?;
        let before_h = before_h.ok_or_else(|| Refusal::broken("a chain value is missing"))?;
        let hashes = if before_n < end { vaults.entry_hashes(at, before_n + 1, end).await? } else { Vec::new() };
        let evidence = self.room.evidence(at, newest.n, frame.entry.header.user).await?;
        Ok(Beginning {
            n: newest.n,
            entry: Bytes::from(frame.entry.as_bytes()),
            evidence,
            before_n,
            before_h: before_h.into(),
            entry_hashes: Bytes(hashes.concat()),
            page_hashes: Bytes(newest.page_hashes),
            head: self.room.office.sign(vid, known.head()),
        })
    }

    /// `GET /v1/vaults/{vid}/checkpoint/{n}/pages/{page}?from=i&payloads=none`: without payloads the rest of the page
    /// fits into one answer.
    pub async fn checkpoint_page(
        &self,
        caller: &Caller,
        vid: VaultId,
        n: u64,
        page: u64,
        from: u64,
        payloads: bool,
    ) -> Result<CheckpointItems> {
        self.count(caller, Action::Pull, &[Key::Account(caller.account_uuid())])?;
        let (_, at, _) = self.room.for_member(caller, vid).await?;
        if !self.room.office.vaults.checkpoints(at).await?.iter().any(|ready| ready.n == n) {
            return Err(Refusal::NotFound("checkpoint"));
        }
        let mut part = self.room.page_of(at, n, page, from).await?;
        if !payloads {
            part.payloads.clear();
            while part.more {
                let next = self.room.page_of(at, n, page, from + part.items.len() as u64).await?;
                part.items.extend(next.items);
                part.more = next.more;
            }
        }
        Ok(part)
    }
}

impl Room {
    async fn entry(&self, at: Place, n: u64) -> Result<Vec<u8>> {
        let limits = PageLimits { entries: 1, bytes: u64::MAX };
        let (found, _) = self.office.vaults.entries_after(at, n - 1, limits).await?;
        let found = found.into_iter().next().filter(|stored| stored.n == n);
        Ok(found.ok_or_else(|| Refusal::broken("an entry is missing"))?.frame)
    }

    /// Entries in which others than the author say that a checkpoint is right. Where they stand is remembered once
    /// there are some.
    async fn evidence(&self, at: Place, n: u64, author: UserId) -> Result<Vec<Bytes>> {
        let mut evidence = Vec::new();
        if let Some(places) = self.evidence.get(&(at, n)) {
            for place in places.iter() {
                let frame = self.entry(at, *place).await?;
                evidence.push(entry_alone(&frame)?);
            }
            return Ok(evidence);
        }
        let mut places = Vec::new();
        let mut cursor = n;
        while evidence.len() < MOST_EVIDENCE && cursor < n + SEARCH_ENTRIES {
            let (frames, _) = self.office.vaults.entries_after(at, cursor, self.page(None, None)).await?;
            let Some(last) = frames.last() else { break };
            cursor = last.n;
            for stored in &frames {
                let frame = stored_frame(&stored.frame)?;
                let header = &frame.entry.header;
                if header.checkpoint_ok == n && header.user != author && evidence.len() < MOST_EVIDENCE {
                    evidence.push(Bytes::from(frame.entry.as_bytes()));
                    places.push(stored.n);
                }
            }
        }
        if !places.is_empty() {
            self.evidence.put((at, n), places.into(), 128);
        }
        Ok(evidence)
    }
}

fn entry_alone(frame: &[u8]) -> Result<Bytes> {
    let entry = Frame::entry_bytes(frame).map_err(|malformed| Refusal::Broken(Arc::new(malformed)))?;
    Ok(Bytes::from(entry))
}
