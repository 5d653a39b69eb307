//! What is live of some records, for whoever keeps the log and not all that is in it.
//!
//! Owns the answer: records whole, as many as there is room for, at a head that was read together with them. Whoever
//! asks holds it against their own log, so nothing needs to be believed.

use super::pull::stored_frame;
use super::refusal::{Refusal, Result};
use super::{Logs, Room, member};
use crate::auth::Caller;
use crate::limits::{Action, Key};
use crate::store::{LiveRow, PageLimits, Place, Question};
use selkie_protocol::Bytes;
use selkie_protocol::id::{RecordId, VaultId};
use selkie_protocol::log::{Body, PageItem};
use selkie_protocol::vault::{LiveRecords, MAX_WANTED_RECORDS, WantedRecords};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

type Found = (Bytes, Bytes);

impl Logs {
    /// `POST /v1/vaults/{vid}/records`
    pub async fn records(
        &self,
        caller: &Caller,
        from: IpAddr,
        vid: VaultId,
        wanted: WantedRecords,
    ) -> Result<LiveRecords> {
        self.count(caller, Action::Pull, &[Key::Address(from), Key::Account(caller.account_uuid())])?;
        if wanted.records.len() > MAX_WANTED_RECORDS {
            return Err(Refusal::invalid("records", format!("at most {MAX_WANTED_RECORDS} at a time")));
        }
        let room = &self.room;
        let (reader, at, known) = room.for_member(caller, vid).await?;
        let records: Vec<RecordId> = wanted.records.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
        let question =
            Question { at, known: Some(known.head().n), records, differences: Vec::new(), chain: Vec::new() };
        let bearings = room.office.vaults.bearings(vec![question]).await?.pop().flatten();
        let bearings = bearings.ok_or(Refusal::NotFound("vault"))?;
        // Which may be newer than the first look: perhaps they were removed meanwhile.
        member(&*room.known_since(at, bearings.head).await?, reader)?;
        let (found, left) = room.find(at, &bearings.live).await?;
        metrics::counter!("selkie_fetched_changes_total").increment(found.len() as u64);
        let (items, payloads) = found.into_iter().unzip();
        Ok(LiveRecords { items, payloads, left, head: room.office.sign(vid, bearings.head) })
    }
}

impl Room {
    /// These changes with their payloads, as far as an answer goes, record by record; and the records that were left:
    /// for want of room, or because they were written since, and what they said is gone.
    async fn find(&self, at: Place, live: &[LiveRow]) -> Result<(Vec<Found>, Vec<RecordId>)> {
        let mut records: BTreeMap<RecordId, Vec<&LiveRow>> = BTreeMap::new();
        live.iter().for_each(|row| records.entry(row.record).or_default().push(row));
        // In the order of the log, so that what was written together is read once.
        let mut in_order: Vec<(RecordId, Vec<&LiveRow>)> = records.into_iter().collect();
        in_order.sort_by_key(|(_, rows)| rows.first().map(|row| row.n));
        let (mut found, mut left, mut bytes) = (Vec::new(), Vec::new(), 0);
        let mut read: Option<(u64, Vec<u8>)> = None;
        for (record, rows) in in_order {
            if bytes >= self.policy.page_bytes {
                left.push(record);
                continue;
            }
            let (many, mut whole) = (rows.len(), Vec::with_capacity(rows.len()));
            for row in rows {
                if read.as_ref().is_none_or(|(n, _)| *n != row.n) {
                    let limits = PageLimits { entries: 1, bytes: u64::MAX };
                    let (frames, _) = self.office.vaults.entries_after(at, row.n - 1, limits).await?;
                    let frame = frames.into_iter().next().filter(|stored| stored.n == row.n);
                    let frame = frame.ok_or_else(|| Refusal::broken("an entry with live changes is missing"))?;
                    // What is read counts, and not what is found in it.
                    bytes += frame.frame.len() as u64;
                    read = Some((row.n, frame.frame));
                }
                let frame = read.as_ref().map(|(_, frame)| frame.as_slice()).unwrap_or_default();
                match item(frame, row)? {
                    Some(item) => whole.push(item),
                    None => break,
                }
            }
            if whole.len() < many {
                left.push(record);
                continue;
            }
            found.extend(whole);
        }
        Ok((found, left))
    }
}

/// A change as it lies in a page of a checkpoint; `None` if its payload is gone.
fn item(frame: &[u8], row: &LiveRow) -> Result<Option<Found>> {
    let frame = stored_frame(frame)?;
    let (header, Body::Data(data)) = (&frame.entry.header, &frame.entry.body) else {
        return Err(Refusal::broken("a live change in an entry without changes"));
    };
    let change = data.changes().nth(usize::from(row.index));
    let change = change.ok_or_else(|| Refusal::broken("a live change that its entry does not have"))?;
    let Some(payload) = frame.payload(row.index) else { return Ok(None) };
    let (user, device, dev_seq, epoch) = (header.user, header.device, header.dev_seq, header.epoch);
    let item = PageItem { user, device, dev_seq, epoch, head: row.head, change };
    Ok(Some((item.to_bytes().into(), payload.into())))
}
