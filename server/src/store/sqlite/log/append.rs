//! Appends without a detour: on this thread, with statements that are prepared once.
//!
//! What seldom is asked for takes the portable way.

use super::{Conn, portable};
use crate::store::columns;
use crate::store::failure::Outcome;
use crate::store::schema::{vault_changes, vault_entries, vault_states, vaults};
use crate::store::{Append, NewChange, NewEntry};
use diesel::{ExpressionMethods as _, QueryDsl as _, QueryResult, RunQueryDsl as _, SqliteConnection};
use selkie_protocol::id::{ChangeId, RecordId};
use std::sync::Arc;

pub(super) async fn append(conn: &mut Conn, appends: &Arc<Vec<Append>>) -> Outcome<Vec<bool>> {
    let mut taken = Vec::with_capacity(appends.len());
    for (index, append) in appends.iter().enumerate() {
        taken.push(if portable::is_rare(append) {
            portable::append(conn, std::slice::from_ref(append)).await? == [true]
        } else {
            let appends = appends.clone();
            conn.spawn_blocking(move |conn| Log::of(conn, &appends[index]).append()).await?
        });
    }
    Ok(taken)
}

struct Log<'c> {
    conn: &'c mut SqliteConnection,
    append: &'c Append,
    tenant: i64,
    vault: i32,
}

impl<'c> Log<'c> {
    fn of(conn: &'c mut SqliteConnection, append: &'c Append) -> Self {
        Log { conn, append, tenant: append.at.tenant.0, vault: columns::vault(append.at.vault) }
    }

    fn append(mut self) -> QueryResult<bool> {
        let Append { entries, state, .. } = self.append;
        if !self.move_head()? {
            return Ok(false);
        }
        for entry in entries {
            let n = columns::position(entry.head.n);
            self.insert_entry(entry, n)?;
            for (record, change) in &entry.supersedes {
                self.supersede(record, change, n)?;
            }
            for (record, change) in &entry.no_longer_heads {
                self.unhead(record, change, n)?;
            }
        }
        if let Some(state) = state {
            self.keep_state(state)?;
        }
        Ok(true)
    }

    fn move_head(&mut self) -> QueryResult<bool> {
        let Append { before, entries, .. } = self.append;
        let Some(last) = entries.last() else { return Ok(false) };
        let added: usize = entries.iter().map(|entry| entry.frame.len()).sum();
        let moved = diesel::update(vaults::table.find((self.tenant, self.vault)))
            .filter(vaults::n.eq(columns::position(before.n)))
            .filter(vaults::h.eq(before.h.as_slice()))
            .set((
                vaults::n.eq(columns::position(last.head.n)),
                vaults::h.eq(last.head.h.as_slice()),
                vaults::bytes.eq(vaults::bytes + added as i64),
            ))
            .execute(self.conn)?;
        Ok(moved == 1)
    }

    fn insert_entry(&mut self, entry: &NewEntry, n: i64) -> QueryResult<()> {
        diesel::insert_into(vault_entries::table)
            .values((
                vault_entries::tenant.eq(self.tenant),
                vault_entries::vault.eq(self.vault),
                vault_entries::n.eq(n),
                vault_entries::kind.eq(columns::entry_kind(entry.is_control, entry.is_checkpoint)),
                vault_entries::dev_seq.eq(columns::position(entry.dev_seq)),
                vault_entries::received_at.eq(entry.received_at),
                vault_entries::h.eq(entry.head.h.as_slice()),
                vault_entries::hash.eq(entry.hash.as_slice()),
                vault_entries::device.eq(entry.device.0.as_slice()),
                vault_entries::frame.eq(entry.frame.as_slice()),
            ))
            .execute(self.conn)?;
        for change in &entry.adds {
            self.insert_change(change, entry.head.n, n)?;
        }
        Ok(())
    }

    fn insert_change(&mut self, change: &NewChange, position: u64, n: i64) -> QueryResult<()> {
        let ended_here = |still: bool| if still { None } else { Some(n) };
        diesel::insert_into(vault_changes::table)
            .values((
                vault_changes::tenant.eq(self.tenant),
                vault_changes::vault.eq(self.vault),
                vault_changes::record.eq(change.record.0.as_slice()),
                vault_changes::place.eq(columns::place(position, change.index)),
                vault_changes::change.eq(change.change.0.as_slice()),
                vault_changes::whole.eq(change.full),
                vault_changes::superseded_at.eq(ended_here(change.live)),
                vault_changes::unheaded_at.eq(ended_here(change.head)),
            ))
            .execute(self.conn)?;
        Ok(())
    }

    fn supersede(&mut self, record: &RecordId, change: &ChangeId, n: i64) -> QueryResult<()> {
        diesel::update(vault_changes::table.filter(vault_changes::tenant.eq(self.tenant)))
            .filter(vault_changes::vault.eq(self.vault))
            .filter(vault_changes::record.eq(record.0.as_slice()))
            .filter(vault_changes::change.eq(change.0.as_slice()))
            .filter(vault_changes::superseded_at.is_null())
            .set(vault_changes::superseded_at.eq(n))
            .execute(self.conn)?;
        Ok(())
    }

    fn unhead(&mut self, record: &RecordId, change: &ChangeId, n: i64) -> QueryResult<()> {
        diesel::update(vault_changes::table.filter(vault_changes::tenant.eq(self.tenant)))
            .filter(vault_changes::vault.eq(self.vault))
            .filter(vault_changes::record.eq(record.0.as_slice()))
            .filter(vault_changes::change.eq(change.0.as_slice()))
            .filter(vault_changes::unheaded_at.is_null())
            .set(vault_changes::unheaded_at.eq(n))
            .execute(self.conn)?;
        Ok(())
    }

    fn keep_state(&mut self, state: &[u8]) -> QueryResult<()> {
        let n = self.append.entries.last().map_or(0, |last| columns::position(last.head.n));
        diesel::insert_into(vault_states::table)
            .values((
                vault_states::tenant.eq(self.tenant),
                vault_states::vault.eq(self.vault),
                vault_states::n.eq(n),
                vault_states::state.eq(state),
            ))
            .on_conflict((vault_states::tenant, vault_states::vault))
            .do_update()
            .set((vault_states::n.eq(n), vault_states::state.eq(state)))
            .execute(self.conn)?;
        Ok(())
    }
}
