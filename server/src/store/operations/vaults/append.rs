//! Appends to logs: entries, what they make live, and what they end.
//!
//! A vault's row is taken first and moved only from the head that the append was decided at; whoever comes second finds
//! another head there. Everything else of the vault is written under that row.

use super::{Conn, people};
use crate::store::columns;
use crate::store::failure::Outcome;
use crate::store::schema::{vault_changes, vault_entries, vault_states, vaults};
use crate::store::{Append, NewChange, NewEntry, Place};
use diesel::{ExpressionMethods as _, QueryDsl as _};
use diesel_async::RunQueryDsl as _;
use selkie_protocol::id::{ChangeId, RecordId};
use selkie_protocol::log::Head;

/// Whether each was taken. Rows are locked in the order of the vaults, so that no two servers wait for each other.
pub(in crate::store) async fn append(conn: &mut Conn, appends: &[Append]) -> Outcome<Vec<bool>> {
    let mut order: Vec<usize> = (0..appends.len()).collect();
    order.sort_by_key(|index| appends[*index].at);
    let mut taken = vec![false; appends.len()];
    for index in order {
        taken[index] = one(conn, &appends[index]).await?;
    }
    Ok(taken)
}

/// Whether something is asked for that seldom is: the backends have a shorter way for everything else.
pub(in crate::store) fn is_rare(append: &Append) -> bool {
    append.members.is_some()
        || !append.wraps.is_empty()
        || append.entries.is_empty()
        || append.entries.iter().any(|entry| entry.is_checkpoint || !entry.forgets.is_empty())
}

async fn one(conn: &mut Conn, append: &Append) -> Outcome<bool> {
    let Append { at, before, entries, state, members, removed, wraps } = append;
    let Some(last) = entries.last() else { return Ok(false) };
    let added: usize = entries.iter().map(|entry| entry.frame.len()).sum();
    if !move_head(conn, *at, *before, last.head, added as i64).await? {
        return Ok(false);
    }
    for entry in entries {
        insert_entry(conn, *at, entry).await?;
    }
    for entry in entries {
        end_changes(conn, *at, entry).await?;
    }
    if let Some(checkpoint) = entries.iter().rev().find(|entry| entry.is_checkpoint) {
        diesel::update(vaults::table.find((at.tenant.0, columns::vault(at.vault))))
            .set(vaults::checkpoint.eq(columns::position(checkpoint.head.n)))
            .execute(conn)
            .await?;
    }
    if let Some(state) = state {
        keep_state(conn, *at, last.head, state).await?;
    }
    if let Some(members) = members {
        people::set_members(conn, *at, members, removed).await?;
    }
    people::add_wraps_of_those_here(conn, *at, wraps).await?;
    Ok(true)
}

async fn move_head(conn: &mut Conn, at: Place, before: Head, after: Head, added: i64) -> Outcome<bool> {
    let moved = diesel::update(vaults::table.find((at.tenant.0, columns::vault(at.vault))))
        .filter(vaults::n.eq(columns::position(before.n)))
        .filter(vaults::h.eq(before.h))
        .set((vaults::n.eq(columns::position(after.n)), vaults::h.eq(after.h), vaults::bytes.eq(vaults::bytes + added)))
        .execute(conn)
        .await?;
    Ok(moved == 1)
}

/// An entry and the changes that it makes live.
pub(super) async fn insert_entry(conn: &mut Conn, at: Place, entry: &NewEntry) -> Outcome<()> {
    diesel::insert_into(vault_entries::table)
        .values((
            vault_entries::tenant.eq(at.tenant.0),
            vault_entries::vault.eq(columns::vault(at.vault)),
            vault_entries::n.eq(columns::position(entry.head.n)),
            vault_entries::kind.eq(columns::entry_kind(entry.is_control, entry.is_checkpoint)),
            vault_entries::dev_seq.eq(columns::position(entry.dev_seq)),
            vault_entries::received_at.eq(entry.received_at),
            vault_entries::h.eq(entry.head.h),
            vault_entries::hash.eq(entry.hash),
            vault_entries::device.eq(entry.device.0),
            vault_entries::frame.eq(&entry.frame),
        ))
        .execute(conn)
        .await?;
    for change in &entry.adds {
        insert_change(conn, at, entry.head.n, change).await?;
    }
    Ok(())
}

async fn insert_change(conn: &mut Conn, at: Place, n: u64, change: &NewChange) -> Outcome<()> {
    let ended_here = |still: bool| (!still).then(|| columns::position(n));
    diesel::insert_into(vault_changes::table)
        .values((
            vault_changes::tenant.eq(at.tenant.0),
            vault_changes::vault.eq(columns::vault(at.vault)),
            vault_changes::record.eq(change.record.0),
            vault_changes::place.eq(columns::place(n, change.index)),
            vault_changes::change.eq(change.change.0),
            vault_changes::whole.eq(change.full),
            vault_changes::superseded_at.eq(ended_here(change.live)),
            vault_changes::unheaded_at.eq(ended_here(change.head)),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

/// What an entry ends: changes that are no longer live, or no heads any more, and whole records. Their rows stay until
/// their payloads are dropped, so that what was live before can still be told.
async fn end_changes(conn: &mut Conn, at: Place, entry: &NewEntry) -> Outcome<()> {
    let (tenant, vault, n) = (at.tenant.0, columns::vault(at.vault), columns::position(entry.head.n));
    let of_record = |record: &RecordId| {
        vault_changes::table
            .filter(vault_changes::tenant.eq(tenant))
            .filter(vault_changes::vault.eq(vault))
            .filter(vault_changes::record.eq(record.0))
    };
    let one = |record: &RecordId, change: &ChangeId| of_record(record).filter(vault_changes::change.eq(change.0));
    for (record, change) in &entry.supersedes {
        diesel::update(one(record, change))
            .filter(vault_changes::superseded_at.is_null())
            .set(vault_changes::superseded_at.eq(n))
            .execute(conn)
            .await?;
    }
    for (record, change) in &entry.no_longer_heads {
        diesel::update(one(record, change))
            .filter(vault_changes::unheaded_at.is_null())
            .set(vault_changes::unheaded_at.eq(n))
            .execute(conn)
            .await?;
    }
    for record in &entry.forgets {
        // Not what a later entry of the same append begins anew.
        diesel::update(of_record(record))
            .filter(vault_changes::place.lt(columns::place(entry.head.n, 0)))
            .filter(vault_changes::superseded_at.is_null())
            .set(vault_changes::superseded_at.eq(n))
            .execute(conn)
            .await?;
    }
    Ok(())
}

async fn keep_state(conn: &mut Conn, at: Place, head: Head, state: &[u8]) -> Outcome<()> {
    let n = columns::position(head.n);
    diesel::insert_into(vault_states::table)
        .values((
            vault_states::tenant.eq(at.tenant.0),
            vault_states::vault.eq(columns::vault(at.vault)),
            vault_states::n.eq(n),
            vault_states::state.eq(state),
        ))
        .on_conflict((vault_states::tenant, vault_states::vault))
        .do_update()
        .set((vault_states::n.eq(n), vault_states::state.eq(state)))
        .execute(conn)
        .await?;
    Ok(())
}
