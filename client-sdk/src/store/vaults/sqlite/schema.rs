//! The tables, and how an older file becomes one of today.
//!
//! Owns every statement that makes or changes a table. A file of a later version is refused, and left alone.

use super::{Result, while_doing};
use crate::store::StoreError;
use rusqlite::{Connection, TransactionBehavior};

/// One script a version: the first makes version 1 out of nothing.
const SCRIPTS: &[&str] = &["
    CREATE TABLE account (id INTEGER PRIMARY KEY CHECK (id = 1), state BLOB NOT NULL);
    CREATE TABLE people (user BLOB PRIMARY KEY, log BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE vaults (
        id INTEGER PRIMARY KEY, vault BLOB NOT NULL UNIQUE, revision INTEGER NOT NULL, next_seq INTEGER NOT NULL,
        state BLOB NOT NULL, in_flight BLOB);
    CREATE TABLE trail (
        of INTEGER NOT NULL REFERENCES vaults ON DELETE CASCADE, n INTEGER NOT NULL, h BLOB NOT NULL,
        PRIMARY KEY (of, n)) WITHOUT ROWID;
    CREATE TABLE live (
        of INTEGER NOT NULL REFERENCES vaults ON DELETE CASCADE, record BLOB NOT NULL, changes BLOB NOT NULL,
        PRIMARY KEY (of, record)) WITHOUT ROWID;
    CREATE TABLE keys (
        of INTEGER NOT NULL REFERENCES vaults ON DELETE CASCADE, epoch INTEGER NOT NULL, sealed BLOB NOT NULL,
        PRIMARY KEY (of, epoch)) WITHOUT ROWID;
    CREATE TABLE frames (
        of INTEGER NOT NULL REFERENCES vaults ON DELETE CASCADE, n INTEGER NOT NULL, received_ms INTEGER NOT NULL,
        frame BLOB NOT NULL, PRIMARY KEY (of, n));
    CREATE INDEX frames_by_age ON frames (of, received_ms);
    CREATE TABLE versions (
        of INTEGER NOT NULL REFERENCES vaults ON DELETE CASCADE, record BLOB NOT NULL, change BLOB NOT NULL,
        n INTEGER NOT NULL, idx INTEGER NOT NULL, shelf BLOB NOT NULL, user BLOB NOT NULL, device BLOB NOT NULL,
        unix_ms INTEGER NOT NULL, current INTEGER NOT NULL, sealed BLOB NOT NULL, PRIMARY KEY (of, record, change));
    CREATE INDEX versions_by_shelf ON versions (of, shelf, record) WHERE current = 1;
    CREATE TABLE outbox (
        of INTEGER NOT NULL REFERENCES vaults ON DELETE CASCADE, seq INTEGER NOT NULL, record BLOB NOT NULL,
        shelf BLOB NOT NULL, base BLOB, sealed BLOB NOT NULL, PRIMARY KEY (of, seq));
    CREATE INDEX outbox_by_record ON outbox (of, record, seq);
    CREATE TABLE aside (
        of INTEGER NOT NULL REFERENCES vaults ON DELETE CASCADE, change BLOB NOT NULL, record BLOB NOT NULL,
        n INTEGER NOT NULL, epoch INTEGER NOT NULL, unix_ms INTEGER NOT NULL, reason TEXT NOT NULL,
        item BLOB NOT NULL, payload BLOB NOT NULL, PRIMARY KEY (of, change));
    CREATE TABLE settlements (
        id INTEGER PRIMARY KEY, of INTEGER NOT NULL REFERENCES vaults ON DELETE CASCADE, record BLOB NOT NULL,
        lost BLOB NOT NULL, won BLOB NOT NULL, at_ms INTEGER NOT NULL);
    CREATE INDEX settlements_of ON settlements (of, id);
    CREATE TABLE staged_versions (
        of INTEGER NOT NULL REFERENCES vaults ON DELETE CASCADE, record BLOB NOT NULL, change BLOB NOT NULL,
        n INTEGER NOT NULL, idx INTEGER NOT NULL, shelf BLOB NOT NULL, user BLOB NOT NULL, device BLOB NOT NULL,
        unix_ms INTEGER NOT NULL, current INTEGER NOT NULL, sealed BLOB NOT NULL, PRIMARY KEY (of, record, change));
    CREATE TABLE staged_aside (
        of INTEGER NOT NULL REFERENCES vaults ON DELETE CASCADE, change BLOB NOT NULL, record BLOB NOT NULL,
        n INTEGER NOT NULL, epoch INTEGER NOT NULL, unix_ms INTEGER NOT NULL, reason TEXT NOT NULL,
        item BLOB NOT NULL, payload BLOB NOT NULL, PRIMARY KEY (of, change));
"];

/// Runs the scripts that the file has not seen, each in one transaction with its number.
pub(super) fn bring_up_to_date(connection: &mut Connection) -> Result<()> {
    let newest = i64::try_from(SCRIPTS.len()).unwrap_or(i64::MAX);
    let failed = || while_doing("preparing the vaults on this device");
    let migrate = |connection: &mut Connection| -> rusqlite::Result<i64> {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let version: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
        for script in SCRIPTS.iter().skip(usize::try_from(version).unwrap_or(usize::MAX)) {
            transaction.execute_batch(script)?;
        }
        if version < newest {
            transaction.pragma_update(None, "user_version", newest)?;
        }
        transaction.commit()?;
        Ok(version)
    };
    if migrate(connection).map_err(failed())? > newest {
        let source = std::io::Error::other("the file was written by a later version of the app");
        return Err(StoreError { doing: "opening the vaults on this device".into(), source });
    }
    Ok(())
}
