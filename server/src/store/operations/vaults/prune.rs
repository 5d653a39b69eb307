//! Drops what nobody needs any more: payloads that were superseded long enough ago, and vaults that nobody is left in.
//!
//! The walk goes over the superseding entries, in order: what each of them ended is found by the records it names, so
//! no index is kept for it. How far it has come is in a row of its own; the vault's row, which pushes wait for, is not
//! touched.

use super::{Conn, people};
use crate::store::columns;
use crate::store::failure::{Failure, Outcome};
use crate::store::schema::{plans, tenants, vault_changes, vault_entries, vault_upkeep, vaults};
use crate::store::{AccountNumber, Millis, Place, Tenant, VaultNumber};
use diesel::dsl::sql;
use diesel::sql_types::BigInt;
use diesel::{
    BoolExpressionMethods as _, ExpressionMethods as _, JoinOnDsl as _, OptionalExtension as _, QueryDsl as _,
};
use diesel_async::RunQueryDsl as _;
use selkie_protocol::id::RecordId;
use selkie_protocol::log::{Beside, Body, Frame, read_note};
use std::collections::{BTreeMap, BTreeSet};

/// What one step looks at and rewrites at most, so that it is soon over.
const ENTRIES: usize = 200;
const RECORDS: usize = 2_000;
const BYTES: usize = 8 << 20;

/// How far the walk has come.
#[derive(Clone, Copy)]
struct Upkeep {
    walked: i64,
    kept_at: Option<i64>,
    /// Bytes, so far. Never less than before, and more with every frame that is rewritten.
    freed: i64,
}

/// A change that an entry of this step superseded.
struct Ended {
    record: RecordId,
    place: i64,
    superseded_at: i64,
}

pub(super) async fn step(conn: &mut Conn, at: Place, before: Millis, keep_live_at: &[u64]) -> Outcome<(u64, bool)> {
    let Some(upkeep) = upkeep(conn, at).await? else { return Ok((0, false)) };
    let keep: BTreeSet<i64> = keep_live_at.iter().map(|n| columns::position(*n)).collect();
    // What was kept for a position that need not be kept any more is looked at again.
    let no_longer = upkeep.kept_at.filter(|kept_at| !keep.contains(kept_at));
    let from = no_longer.map_or(upkeep.walked, |kept_at| kept_at.min(upkeep.walked));
    let mut stretch = superseding_entries(conn, at, from, before).await?;
    if stretch.upto == from {
        if no_longer.is_some() {
            advance(conn, at, upkeep, Upkeep { walked: from, kept_at: None, ..upkeep }).await?;
        }
        return Ok((0, false));
    }
    let mut kept_at = upkeep.kept_at.filter(|_| no_longer.is_none());
    let mut dropped: BTreeMap<i64, Vec<u16>> = BTreeMap::new();
    let mut rows: Vec<(RecordId, i64)> = Vec::new();
    let (mut frames, mut budget) = (BTreeMap::new(), BYTES);
    for ended in ended_by(conn, at, from, &stretch).await? {
        let (n, index) = columns::placed(ended.place)?;
        let n = columns::position(n);
        if let Some(position) = keep.range(n..ended.superseded_at).next() {
            kept_at = Some(kept_at.map_or(*position, |kept_at: i64| kept_at.min(*position)));
            continue;
        }
        if let std::collections::btree_map::Entry::Vacant(place) = frames.entry(n) {
            let frame = frame(conn, at, n).await?;
            if frame.len() > budget && !rows.is_empty() {
                // The rest of what this entry ended is for the next step.
                stretch.upto = ended.superseded_at - 1;
                stretch.more = true;
                break;
            }
            budget = budget.saturating_sub(frame.len());
            place.insert(frame);
        }
        dropped.entry(n).or_default().push(index);
        rows.push((ended.record, ended.place));
    }
    // First, because it is what a second pruner of the same vault waits for, and then finds changed.
    advance(conn, at, upkeep, Upkeep { walked: stretch.upto, kept_at, ..upkeep }).await?;
    let mut freed = 0;
    for (n, indices) in &dropped {
        freed += rewrite(conn, at, *n, &frames[n], indices).await?;
    }
    delete_changes(conn, at, &rows).await?;
    if freed > 0 {
        diesel::update(vault_upkeep::table.find((at.tenant.0, columns::vault(at.vault))))
            .set(vault_upkeep::freed.eq(vault_upkeep::freed + freed))
            .execute(conn)
            .await?;
    }
    Ok((rows.len() as u64, stretch.more))
}

async fn upkeep(conn: &mut Conn, at: Place) -> Outcome<Option<Upkeep>> {
    let row: Option<(i64, Option<i64>, i64)> = vault_upkeep::table
        .find((at.tenant.0, columns::vault(at.vault)))
        .select((vault_upkeep::walked, vault_upkeep::kept_at, vault_upkeep::freed))
        .first(conn)
        .await
        .optional()?;
    Ok(row.map(|(walked, kept_at, freed)| Upkeep { walked, kept_at, freed }))
}

/// Fails unless the row is as it was seen. How far the walk has come does not tell that alone: a step may end where it
/// began, and a walk that was taken up again where the one before it did.
async fn advance(conn: &mut Conn, at: Place, from: Upkeep, to: Upkeep) -> Outcome<()> {
    let moved = diesel::update(vault_upkeep::table.find((at.tenant.0, columns::vault(at.vault))))
        .filter(vault_upkeep::walked.eq(from.walked))
        .filter(sql::<BigInt>("coalesce(kept_at, -1)").eq(from.kept_at.unwrap_or(-1)))
        .filter(vault_upkeep::freed.eq(from.freed))
        .set((vault_upkeep::walked.eq(to.walked), vault_upkeep::kept_at.eq(to.kept_at)))
        .execute(conn)
        .await?;
    if moved == 1 { Ok(()) } else { Err(Failure::busy("another server prunes this vault")) }
}

/// A stretch of the log that is old enough, as far as one step goes.
struct Stretch {
    upto: i64,
    more: bool,
    /// What its entries may have ended changes of.
    records: BTreeSet<RecordId>,
}

async fn superseding_entries(conn: &mut Conn, at: Place, from: i64, before: Millis) -> Outcome<Stretch> {
    let rows: Vec<(i64, Millis)> = vault_entries::table
        .filter(vault_entries::tenant.eq(at.tenant.0))
        .filter(vault_entries::vault.eq(columns::vault(at.vault)))
        .filter(vault_entries::n.gt(from))
        .order(vault_entries::n)
        .limit(ENTRIES as i64 + 1)
        .select((vault_entries::n, vault_entries::received_at))
        .load(conn)
        .await?;
    let old: Vec<i64> = rows.iter().take_while(|(_, at)| *at < before).map(|(n, _)| *n).collect();
    let mut stretch = Stretch { upto: from, more: old.len() > ENTRIES, records: BTreeSet::new() };
    let mut bytes = 0;
    for n in old.iter().take(ENTRIES) {
        let frame = frame(conn, at, *n).await?;
        bytes += frame.len();
        stretch.records.extend(records_named_by(&frame)?);
        stretch.upto = *n;
        if stretch.records.len() >= RECORDS || bytes >= BYTES {
            stretch.more = old.last() != Some(n);
            break;
        }
    }
    Ok(stretch)
}

async fn frame(conn: &mut Conn, at: Place, n: i64) -> Outcome<Vec<u8>> {
    vault_entries::table
        .find((at.tenant.0, columns::vault(at.vault), n))
        .select(vault_entries::frame)
        .first(conn)
        .await
        .optional()?
        .ok_or(Failure::corrupt("log with a gap"))
}

/// The records that an entry writes, or that a checkpoint forgets.
fn records_named_by(frame: &[u8]) -> Outcome<Vec<RecordId>> {
    let frame = Frame::parse(frame).map_err(|_| Failure::corrupt("frame"))?;
    match (&frame.entry.body, frame.beside()) {
        (Body::Data(data), _) => Ok(data.changes().map(|change| change.record).collect()),
        (Body::Checkpoint(checkpoint), Beside::Note(note)) => {
            let hash = checkpoint.note.ok_or(Failure::corrupt("note"))?;
            read_note(note, &hash).map_err(|_| Failure::corrupt("note"))
        }
        _ => Ok(Vec::new()),
    }
}

/// What the entries of a stretch superseded, in the order in which they did.
async fn ended_by(conn: &mut Conn, at: Place, from: i64, stretch: &Stretch) -> Outcome<Vec<Ended>> {
    let records: Vec<[u8; 16]> = stretch.records.iter().map(|record| record.0).collect();
    let mut ended = Vec::new();
    for records in records.chunks(500) {
        let rows: Vec<(Vec<u8>, i64, Option<i64>)> = vault_changes::table
            .filter(vault_changes::tenant.eq(at.tenant.0))
            .filter(vault_changes::vault.eq(columns::vault(at.vault)))
            .filter(vault_changes::record.eq_any(records))
            .filter(vault_changes::superseded_at.gt(from))
            .filter(vault_changes::superseded_at.le(stretch.upto))
            .select((vault_changes::record, vault_changes::place, vault_changes::superseded_at))
            .load(conn)
            .await?;
        for (record, place, superseded_at) in rows {
            let superseded_at = superseded_at.ok_or(Failure::corrupt("superseded change"))?;
            ended.push(Ended { record: columns::record(record)?, place, superseded_at });
        }
    }
    ended.sort_by_key(|ended| (ended.superseded_at, ended.place));
    Ok(ended)
}

/// Writes a frame again without these payloads; how much shorter it is.
async fn rewrite(conn: &mut Conn, at: Place, n: i64, old: &[u8], without: &[u16]) -> Outcome<i64> {
    let frame = Frame::parse(old).map_err(|_| Failure::corrupt("frame"))?;
    let shorter = frame.keeping(|index| !without.contains(&index));
    let freed = old.len() as i64 - shorter.len() as i64;
    if freed != 0 {
        diesel::update(vault_entries::table.find((at.tenant.0, columns::vault(at.vault), n)))
            .set(vault_entries::frame.eq(shorter))
            .execute(conn)
            .await?;
    }
    Ok(freed)
}

/// A place is one change's in its vault; the records are named so that the index finds it.
async fn delete_changes(conn: &mut Conn, at: Place, rows: &[(RecordId, i64)]) -> Outcome<()> {
    for rows in rows.chunks(500) {
        diesel::delete(vault_changes::table.filter(vault_changes::tenant.eq(at.tenant.0)))
            .filter(vault_changes::vault.eq(columns::vault(at.vault)))
            .filter(vault_changes::record.eq_any(rows.iter().map(|(record, _)| record.0)))
            .filter(vault_changes::place.eq_any(rows.iter().map(|(_, place)| *place)))
            .execute(conn)
            .await?;
    }
    Ok(())
}

pub(super) async fn due(conn: &mut Conn, before: Millis, after: Option<Place>, limit: u32) -> Outcome<Vec<Place>> {
    let nowhere = Place { tenant: Tenant(i64::MIN), vault: VaultNumber(0) };
    let Place { tenant: Tenant(tenant), vault } = after.unwrap_or(nowhere);
    let vault = columns::vault(vault);
    let next = vault_entries::tenant
        .eq(vault_upkeep::tenant)
        .and(vault_entries::vault.eq(vault_upkeep::vault))
        .and(vault_entries::n.eq(vault_upkeep::walked + 1));
    let rows: Vec<(i64, i32)> = vault_upkeep::table
        .inner_join(vault_entries::table.on(next))
        .inner_join(tenants::table.on(tenants::tenant.eq(vault_upkeep::tenant)))
        .inner_join(plans::table.on(plans::plan.eq(tenants::plan)))
        .filter(vault_upkeep::tenant.ge(tenant))
        .filter(vault_upkeep::tenant.gt(tenant).or(vault_upkeep::vault.gt(vault)))
        .filter(vault_entries::received_at.lt(before))
        .filter(plans::history_days.is_not_null())
        .order((vault_upkeep::tenant, vault_upkeep::vault))
        .limit(i64::from(limit))
        .select((vault_upkeep::tenant, vault_upkeep::vault))
        .load(conn)
        .await?;
    let place = |(tenant, vault): (i64, i32)| Place { tenant: Tenant(tenant), vault: VaultNumber(vault.into()) };
    Ok(rows.into_iter().map(place).collect())
}

pub(super) async fn space(conn: &mut Conn, tenant: Tenant) -> Outcome<(u64, Option<u64>)> {
    // PostgreSQL sums big integers into something bigger, which a column of this schema never is.
    let taken: i64 = vaults::table
        .filter(vaults::tenant.eq(tenant.0))
        .select(sql::<BigInt>("CAST(coalesce(sum(bytes), 0) AS bigint)"))
        .get_result(conn)
        .await?;
    let freed: i64 = vault_upkeep::table
        .filter(vault_upkeep::tenant.eq(tenant.0))
        .select(sql::<BigInt>("CAST(coalesce(sum(freed), 0) AS bigint)"))
        .get_result(conn)
        .await?;
    let limit: Option<i64> = tenants::table
        .inner_join(plans::table.on(plans::plan.eq(tenants::plan)))
        .filter(tenants::tenant.eq(tenant.0))
        .select(plans::max_bytes)
        .first(conn)
        .await
        .optional()?
        .ok_or(Failure::not_found("tenant"))?;
    Ok((columns::count(taken - freed)?, limit.map(columns::count).transpose()?))
}

/// Removes a bounded part of what is in the vaults that only this account is left in.
pub(super) async fn empty(conn: &mut Conn, tenant: Tenant, account: AccountNumber) -> Outcome<bool> {
    for row in people::left_empty_by(conn, tenant, account).await? {
        let at = Place { tenant, vault: row.vault };
        let vault = columns::vault(row.vault);
        let changes: Vec<(Vec<u8>, i64)> = vault_changes::table
            .filter(vault_changes::tenant.eq(tenant.0))
            .filter(vault_changes::vault.eq(vault))
            .limit(RECORDS as i64)
            .select((vault_changes::record, vault_changes::place))
            .load(conn)
            .await?;
        if !changes.is_empty() {
            let changes: Outcome<Vec<_>> =
                changes.into_iter().map(|(record, place)| Ok((columns::record(record)?, place))).collect();
            delete_changes(conn, at, &changes?).await?;
            return Ok(true);
        }
        let entries: Vec<i64> = vault_entries::table
            .filter(vault_entries::tenant.eq(tenant.0))
            .filter(vault_entries::vault.eq(vault))
            .order(vault_entries::n)
            .limit(ENTRIES as i64)
            .select(vault_entries::n)
            .load(conn)
            .await?;
        if let Some(last) = entries.last() {
            diesel::delete(vault_entries::table.filter(vault_entries::tenant.eq(tenant.0)))
                .filter(vault_entries::vault.eq(vault))
                .filter(vault_entries::n.le(last))
                .execute(conn)
                .await?;
            return Ok(true);
        }
    }
    Ok(false)
}
