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
use selkie_protocol::id::{ChangeId, RecordId, VaultId};
use selkie_protocol::log::{Body, PageItem};
use selkie_protocol::vault::{LiveRecords, MAX_WANTED_RECORDS, WantedRecords};
use std::collections::{BTreeMap, BTreeSet, HashMap};
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
        in_order.sort_by_key(|(_, rows)| rows.iter().map(|row| row.n).min());
        let (mut found, mut left, mut bytes) = (Vec::new(), Vec::new(), 0);
        let mut read = Read::of(live);
        for (record, rows) in in_order {
            let mut missing = rows.iter().map(|row| row.n).filter(|n| !read.entries.contains(n)).peekable();
            if bytes >= self.policy.page_bytes && missing.peek().is_some() {
                left.push(record);
                continue;
            }
            let missing: BTreeSet<u64> = missing.collect();
            for n in missing {
                if !read.entries.contains(&n) {
                    bytes += self.read_on(at, n, self.policy.page_bytes.saturating_sub(bytes), &mut read).await?;
                }
            }
            let whole: Option<Vec<Found>> = rows.iter().map(|row| read.items.remove(&row.change)).collect();
            match whole {
                Some(whole) => found.extend(whole),
                None => left.push(record),
            }
        }
        Ok((found, left))
    }

    /// Reads an entry, and those right behind it that are wanted as well, as far as there is room. What is read counts,
    /// and not what is found in it.
    async fn read_on(&self, at: Place, n: u64, room: u64, read: &mut Read<'_>) -> Result<u64> {
        let run = read
            .wanted
            .range(n..)
            .zip(n..)
            .take_while(|((wanted, _), n)| *wanted == n && !read.entries.contains(n))
            .count();
        let limits = PageLimits { entries: u32::try_from(run).unwrap_or(u32::MAX), bytes: room.max(1) };
        let (frames, _) = self.office.vaults.entries_after(at, n - 1, limits).await?;
        if frames.first().is_none_or(|stored| stored.n != n) {
            return Err(Refusal::broken("an entry with live changes is missing"));
        }
        let mut bytes = 0;
        for stored in frames {
            bytes += stored.frame.len() as u64;
            read.take(stored.n, &stored.frame)?;
        }
        Ok(bytes)
    }
}

/// What was read of the log, as far as it is wanted.
struct Read<'a> {
    /// By entry, in the order of their changes.
    wanted: BTreeMap<u64, Vec<&'a LiveRow>>,
    entries: BTreeSet<u64>,
    items: HashMap<ChangeId, Found>,
}

impl<'a> Read<'a> {
    fn of(live: &'a [LiveRow]) -> Self {
        let mut wanted: BTreeMap<u64, Vec<&LiveRow>> = BTreeMap::new();
        live.iter().for_each(|row| wanted.entry(row.n).or_default().push(row));
        wanted.values_mut().for_each(|rows| rows.sort_unstable_by_key(|row| row.index));
        Read { wanted, entries: BTreeSet::new(), items: HashMap::new() }
    }

    /// The wanted changes of an entry, each as it lies in a page of a checkpoint, but for those whose payload is gone.
    fn take(&mut self, n: u64, frame: &[u8]) -> Result<()> {
        let frame = stored_frame(frame)?;
        let (header, Body::Data(data)) = (&frame.entry.header, &frame.entry.body) else {
            return Err(Refusal::broken("a live change in an entry without changes"));
        };
        let (user, device, dev_seq, epoch) = (header.user, header.device, header.dev_seq, header.epoch);
        let mut changes = data.changes().fuse();
        for row in self.wanted.get(&n).into_iter().flatten() {
            let change = changes.find(|change| change.index == row.index);
            let change = change.ok_or_else(|| Refusal::broken("a live change that its entry does not have"))?;
            if let Some(payload) = frame.payload(row.index) {
                let item = PageItem { user, device, dev_seq, epoch, head: row.head, change };
                self.items.insert(row.change, (item.to_bytes().into(), payload.into()));
            }
        }
        self.entries.insert(n);
        Ok(())
    }
}
