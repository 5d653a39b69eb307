//! Keeping house in the file: what takes how much room, what may go, whether it holds together.
//!
//! Owns the statements. What is damaged beneath the tables is SQLite's to find.

use super::super::{Elsewhere, Usage};
use super::{int, row_of};
use rusqlite::{Connection, Transaction, params};
use selkie_protocol::id::{RecordId, VaultId};
use std::collections::BTreeSet;

/// No list for people is longer.
const MOST_FINDINGS: usize = 20;

pub(super) fn usage(db: &Connection, vault: &VaultId) -> rusqlite::Result<Usage> {
    let Some(of) = row_of(db, vault)? else { return Ok(Usage::default()) };
    let sum = |what: &str, of_what: &str| {
        let query = format!("SELECT coalesce(sum({what}), 0) FROM {of_what}");
        let bytes: i64 = db.query_row(&query, [of], |row| row.get(0))?;
        Ok::<u64, rusqlite::Error>(u64::try_from(bytes).unwrap_or_default())
    };
    let record = "length(sealed) + 144";
    Ok(Usage {
        records: sum(record, "versions WHERE of = ?1 AND current = 1")?,
        history: sum(record, "versions WHERE of = ?1 AND current = 0")?,
        pending: sum("length(sealed) + 48", "outbox WHERE of = ?1")?,
        log: sum("length(frame) + 16", "frames WHERE of = ?1")?
            + sum("length(item) + length(payload) + 64", "aside WHERE of = ?1")?
            + sum("length(state) + coalesce(length(in_flight), 0)", "vaults WHERE id = ?1")?,
        indexes: sum("40", "trail WHERE of = ?1")?
            + sum("length(changes) + 16", "live WHERE of = ?1")?
            + sum("56", "elsewhere WHERE of = ?1")?
            + sum("length(sealed) + 16", "notes WHERE of = ?1")?
            + sum("24", "touched WHERE of = ?1")?,
        versions: sum("1", "versions WHERE of = ?1 AND current = 0")?,
    })
}

pub(super) fn size(db: &Connection) -> rusqlite::Result<u64> {
    let size = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size";
    let bytes: i64 = db.query_row(size, [], |row| row.get(0))?;
    Ok(u64::try_from(bytes).unwrap_or_default())
}

/// What may go: versions that nothing is made from any more. Returns what went.
pub(super) fn prune(db: &Transaction<'_>, of: i64, before_ms: u64) -> rusqlite::Result<Usage> {
    // A write that is to be sent is merged with what it was made from, and a person who decides looks at both.
    let gone = "DELETE FROM versions WHERE of = ?1 AND current = 0 AND unix_ms < ?2
        AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.of = versions.of AND outbox.record = versions.record)
        AND NOT EXISTS (SELECT 1 FROM settlements WHERE settlements.of = versions.of
            AND settlements.record = versions.record AND asked IS NOT NULL)
        RETURNING length(sealed) + 144";
    let mut went = Usage::default();
    for bytes in super::read::all(db, gone, params![of, int(before_ms)], |row| row.get::<_, i64>(0))? {
        went.history += u64::try_from(bytes).unwrap_or_default();
        went.versions += 1;
    }
    Ok(went)
}

/// Lets go of what records say, unless something of one is still needed here. Returns those that went, and what they
/// took.
pub(super) fn let_go(db: &Transaction<'_>, of: i64, records: &[Elsewhere]) -> rusqlite::Result<(Vec<RecordId>, Usage)> {
    let asked = "SELECT record FROM settlements WHERE of = ?1 AND asked IS NOT NULL";
    let asked: BTreeSet<Vec<u8>> = super::read::all(db, asked, [of], |row| row.get(0))?.into_iter().collect();
    let is_needed = "SELECT 1 FROM outbox WHERE of = ?1 AND record = ?2
        UNION ALL SELECT 1 FROM versions WHERE of = ?1 AND record = ?2 AND +current = 1 AND change <> ?3";
    let mut is_needed = db.prepare(is_needed)?;
    let mut is_here =
        db.prepare("SELECT 1 FROM versions WHERE of = ?1 AND record = ?2 AND change = ?3 AND +current = 1")?;
    let forget = "DELETE FROM versions WHERE of = ?1 AND record = ?2 RETURNING current, length(sealed) + 144";
    let mut forget = db.prepare(forget)?;
    let (mut gone, mut went) = (Vec::new(), Usage::default());
    for one in records {
        let named = params![of, one.record.as_bytes(), one.change.as_bytes()];
        if asked.contains(one.record.as_bytes()) || is_needed.exists(named)? || !is_here.exists(named)? {
            continue;
        }
        let rows =
            forget.query_map(params![of, one.record.as_bytes()], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?)))?;
        for row in rows {
            let (current, bytes): (bool, i64) = row?;
            let place = if current { &mut went.records } else { &mut went.history };
            *place += u64::try_from(bytes).unwrap_or_default();
            went.versions += u64::from(!current);
        }
        gone.push(one.record);
    }
    let kept: BTreeSet<RecordId> = gone.iter().copied().collect();
    super::write::elsewhere(db, of, records.iter().filter(|one| kept.contains(&one.record)))?;
    Ok((gone, went))
}

/// In SQLite's words; empty if the file holds together.
pub(super) fn damage(db: &Connection) -> Vec<String> {
    let look = || {
        let check = format!("PRAGMA integrity_check({MOST_FINDINGS})");
        let mut found = super::read::all(db, &check, [], |row| row.get::<_, String>(0))?;
        found.retain(|line| line != "ok");
        let strays = super::read::all(db, "PRAGMA foreign_key_check", [], |row| row.get::<_, String>(0))?;
        found.extend(
            strays.into_iter().take(MOST_FINDINGS).map(|table| format!("a row of {table} belongs to no vault")),
        );
        Ok::<_, rusqlite::Error>(found)
    };
    look().unwrap_or_else(|error| vec![error.to_string()])
}
