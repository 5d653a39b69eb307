//! The tables, and how an older file becomes one of today.
//!
//! Owns every statement that makes or changes a table. A file of a later version is refused, and left alone.

use super::{Result, while_doing};
use crate::store::StoreError;
use rusqlite::{Connection, TransactionBehavior};

/// One script a version: the first makes version 1 out of nothing.
const SCRIPTS: &[&str] = &[
    "
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
",
    "
    CREATE TABLE counters (
        of INTEGER PRIMARY KEY REFERENCES vaults ON DELETE CASCADE, next_seq INTEGER NOT NULL, stamp INTEGER NOT NULL,
        floor INTEGER NOT NULL);
    INSERT INTO counters SELECT id, next_seq, 0, 0 FROM vaults;
    ALTER TABLE vaults DROP COLUMN next_seq;
    CREATE TABLE touched (
        of INTEGER NOT NULL REFERENCES vaults ON DELETE CASCADE, record BLOB NOT NULL, stamp INTEGER NOT NULL,
        PRIMARY KEY (of, record)) WITHOUT ROWID;
    CREATE INDEX touched_by_stamp ON touched (of, stamp);
    ALTER TABLE outbox ADD COLUMN grp INTEGER NOT NULL DEFAULT 0;
    UPDATE outbox SET grp = seq;
    ALTER TABLE settlements ADD COLUMN how TEXT NOT NULL DEFAULT '';
    ALTER TABLE settlements ADD COLUMN asked BLOB;
    CREATE TABLE notes (
        of INTEGER NOT NULL REFERENCES vaults ON DELETE CASCADE, name BLOB NOT NULL, sealed BLOB NOT NULL,
        PRIMARY KEY (of, name));
",
    // States of vaults are vouched for from here on: an earlier version of the app would not know them.
    "",
    "
    CREATE TABLE elsewhere (
        of INTEGER NOT NULL REFERENCES vaults ON DELETE CASCADE, record BLOB NOT NULL, change BLOB NOT NULL,
        was_here INTEGER NOT NULL, PRIMARY KEY (of, record, change)) WITHOUT ROWID;
",
    "CREATE INDEX settlements_of_record ON settlements (of, record);",
];

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_any_version_goes_on_where_it_was() {
        for version in 1..=SCRIPTS.len() {
            let mut connection = Connection::open_in_memory().unwrap();
            connection.execute_batch(&SCRIPTS[..version].concat()).unwrap();
            connection.pragma_update(None, "user_version", i64::try_from(version).unwrap()).unwrap();
            let vault = match version {
                1 => {
                    "INSERT INTO vaults (id, vault, revision, next_seq, state) VALUES (7, x'0707', 3, 41, x'01');
                      INSERT INTO outbox (of, seq, record, shelf, sealed) VALUES (7, 41, x'02', x'03', x'04');"
                }
                _ => {
                    "INSERT INTO vaults (id, vault, revision, state) VALUES (7, x'0707', 3, x'01');
                      INSERT INTO counters (of, next_seq, stamp, floor) VALUES (7, 41, 0, 0);
                      INSERT INTO notes (of, name, sealed) VALUES (7, x'08', x'09');
                      INSERT INTO outbox (of, seq, record, shelf, sealed, grp) VALUES (7, 41, x'02', x'03', x'04', 41);"
                }
            };
            connection.execute_batch(vault).unwrap();
            let settled = "INSERT INTO settlements (of, record, lost, won, at_ms) VALUES (7, x'02', x'05', x'06', 1);";
            connection.execute_batch(settled).unwrap();
            bring_up_to_date(&mut connection).unwrap();
            let one = |query: &str| connection.query_row(query, [], |row| row.get::<_, i64>(0)).unwrap();
            assert_eq!(one("SELECT count(*) FROM vaults WHERE vault = x'0707' AND state = x'01'"), 1, "{version}");
            assert_eq!(one("SELECT next_seq FROM counters WHERE of = 7"), 41, "{version}");
            assert_eq!(one("SELECT grp FROM outbox WHERE seq = 41"), 41, "{version}");
            assert_eq!(one("SELECT count(*) FROM settlements WHERE how = '' AND asked IS NULL"), 1, "{version}");
            assert_eq!(one("SELECT count(*) FROM notes"), i64::from(version > 1), "{version}");
            assert_eq!(one("PRAGMA user_version"), i64::try_from(SCRIPTS.len()).unwrap());
            bring_up_to_date(&mut connection).unwrap();
        }
    }
}
