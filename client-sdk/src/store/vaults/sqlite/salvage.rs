//! What can be saved of a file that does not hold together.
//!
//! Owns the reading around damaged pages. The old file is not touched: a copy is read, and what is whole goes into a
//! new file. What is lost of records is on the server; what is saved here is above all what is not.

use super::schema;
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use std::path::{Path, PathBuf};
use std::{fs, io};

/// A table: what orders it, and the columns that have one length.
struct Table {
    name: &'static str,
    key: &'static str,
    lengths: &'static [(&'static str, usize)],
}

/// What others refer to comes first.
const TABLES: [Table; 15] = [
    Table { name: "account", key: "id", lengths: &[] },
    Table { name: "people", key: "user", lengths: &[("user", 32)] },
    Table { name: "vaults", key: "id", lengths: &[("vault", 32)] },
    Table { name: "counters", key: "of", lengths: &[] },
    // Whose a vault was begun to become: it must not become somebody else's.
    Table { name: "notes", key: "of, name", lengths: &[("name", 16)] },
    Table { name: "keys", key: "of, epoch", lengths: &[] },
    Table { name: "outbox", key: "of, seq", lengths: &[("record", 16), ("shelf", 16)] },
    Table { name: "settlements", key: "id", lengths: &[("record", 16), ("lost", 32), ("won", 32)] },
    Table { name: "trail", key: "of, n", lengths: &[("h", 32)] },
    Table { name: "live", key: "of, record", lengths: &[("record", 16)] },
    Table { name: "elsewhere", key: "of, record, change", lengths: &[("record", 16), ("change", 32)] },
    Table { name: "aside", key: "of, change", lengths: &[("record", 16), ("change", 32)] },
    Table {
        name: "versions",
        key: "of, record, change",
        lengths: &[("record", 16), ("change", 32), ("shelf", 16), ("user", 32), ("device", 16)],
    },
    Table { name: "frames", key: "of, n", lengths: &[] },
    Table { name: "touched", key: "of, record", lengths: &[("record", 16)] },
];

/// The first bytes of every file of this kind: what it is, pages of 4096 bytes, a log beside it.
const HEADER: [u8; 24] = *b"SQLite format 3\0\x10\x00\x02\x02\x00\x40\x20\x20";

/// Reads what is left of the old file into the new one. Whether all of it was there.
pub(super) fn salvage(old: &Path, new: &Path) -> io::Result<bool> {
    let copy = Copy::of(old)?;
    let mut into = Connection::open(new).map_err(failed)?;
    into.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    schema::bring_up_to_date(&mut into).map_err(|error| error.source)?;
    // Rows of a vault whose own row is gone are of no use to anybody.
    into.pragma_update(None, "foreign_keys", true).map_err(failed)?;
    let mut whole = copy.was_whole;
    if let Some(mut from) = copy.open() {
        // A file of an earlier version is brought up to date first, if it still can be.
        whole &= schema::bring_up_to_date(&mut from).is_ok();
        for table in &TABLES {
            whole &= copy_table(&from, &mut into, table).map_err(failed)?;
            if table.name == "vaults" {
                name_vaults(&from, &into).map_err(failed)?;
            }
        }
    } else {
        whole = false;
    }
    // Numbers of writes and stamps go on from where nothing has been.
    into.execute_batch(
        "INSERT OR IGNORE INTO counters SELECT id, 1000000, 0, 0 FROM vaults;
         UPDATE counters SET next_seq = max(next_seq, (SELECT coalesce(max(seq), 0) FROM outbox WHERE of = counters.of)),
             stamp = stamp + 1000000, floor = stamp + 1000000;",
    )
    .map_err(failed)?;
    into.close().map_err(|(_, error)| failed(error))?;
    fs::File::open(new)?.sync_all()?;
    Ok(whole)
}

/// From both ends, so that what lies before and behind a damaged page is found.
fn copy_table(from: &Connection, into: &mut Connection, table: &Table) -> rusqlite::Result<bool> {
    let Table { name, key, lengths } = table;
    let columns: Vec<String> = {
        let known = into.prepare(&format!("SELECT * FROM {name}"))?;
        known.column_names().into_iter().map(str::to_owned).collect()
    };
    let fits: Vec<String> = lengths.iter().map(|(column, length)| format!("length({column}) = {length}")).collect();
    let fits = if fits.is_empty() { "1".to_owned() } else { fits.join(" AND ") };
    let places = vec!["?"; columns.len()].join(", ");
    let insert = format!("INSERT OR IGNORE INTO {name} ({}) VALUES ({places})", columns.join(", "));
    let step = into.transaction()?;
    let mut whole = true;
    for direction in ["ASC", "DESC"] {
        let order: Vec<String> = key.split(", ").map(|column| format!("{column} {direction}")).collect();
        let select = format!("SELECT {} FROM {name} WHERE {fits} ORDER BY {}", columns.join(", "), order.join(", "));
        let Ok(mut select) = from.prepare(&select) else {
            whole = false;
            break;
        };
        let mut insert = step.prepare(&insert)?;
        let Ok(mut rows) = select.query([]) else {
            whole = false;
            continue;
        };
        loop {
            match rows.next() {
                Ok(Some(row)) => {
                    let values = (0..columns.len()).map(|at| row.get::<_, Value>(at)).collect::<Result<Vec<_>, _>>();
                    // A row that breaks a rule of its table was damaged as well.
                    whole &= values.is_ok_and(|values| insert.execute(params_from_iter(values)).is_ok());
                }
                Ok(None) => break,
                Err(_) => {
                    whole = false;
                    break;
                }
            }
        }
        if whole {
            break;
        }
    }
    step.commit()?;
    Ok(whole)
}

/// Which vaults there were, from the index of their names, where a vault's own row cannot be read. What belongs to it
/// hangs on that, above all what is to be sent.
fn name_vaults(from: &Connection, into: &Connection) -> rusqlite::Result<()> {
    let Ok(mut names) = from.prepare("SELECT id, vault FROM vaults ORDER BY vault") else { return Ok(()) };
    let Ok(mut rows) = names.query([]) else { return Ok(()) };
    let mut insert =
        into.prepare("INSERT OR IGNORE INTO vaults (id, vault, revision, state) VALUES (?1, ?2, 1, x'')")?;
    while let Ok(Some(row)) = rows.next() {
        let (id, vault) = (row.get::<_, i64>(0), row.get::<_, Vec<u8>>(1));
        if let (Ok(id), Ok(vault)) = (id, vault)
            && vault.len() == 32
        {
            insert.execute(rusqlite::params![id, vault])?;
        }
    }
    Ok(())
}

/// A copy to read from; it is gone when this is dropped.
struct Copy {
    file: PathBuf,
    was_whole: bool,
}

impl Copy {
    fn of(old: &Path) -> io::Result<Copy> {
        let file = beside(old, ".reading");
        let copy = Copy { file, was_whole: true };
        copy.remove();
        match fs::copy(old, &copy.file) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Copy { file: copy.file.clone(), was_whole: false });
            }
            Err(error) => return Err(error),
        }
        let log = beside(old, "-wal");
        if log.exists() {
            fs::copy(&log, beside(&copy.file, "-wal"))?;
        }
        Ok(copy)
    }

    /// As it is; or, if its first page does not say what it is, as it should have said.
    fn open(&self) -> Option<Connection> {
        let open = || {
            let connection = Connection::open(&self.file).ok()?;
            let tables = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0));
            tables.is_ok_and(|tables| tables > 0).then_some(connection)
        };
        open().or_else(|| {
            let mut bytes = fs::read(&self.file).ok()?;
            bytes.get_mut(..HEADER.len())?.copy_from_slice(&HEADER);
            // Its length counts, and not what it says of that; nothing is on its list of free pages.
            bytes.get_mut(24..40)?.fill(0);
            fs::write(&self.file, bytes).ok()?;
            open()
        })
    }

    fn remove(&self) {
        for end in ["", "-wal", "-shm"] {
            let _was_there_or_not = fs::remove_file(beside(&self.file, end));
        }
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        self.remove();
    }
}

fn beside(file: &Path, end: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

fn failed(error: rusqlite::Error) -> io::Error {
    super::source_of(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_table_is_saved_but_those_that_are_made_again() {
        let mut fresh = Connection::open_in_memory().unwrap();
        schema::bring_up_to_date(&mut fresh).unwrap();
        let mut tables = fresh.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'").unwrap();
        let tables: BTreeSet<String> =
            tables.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
        let saved: BTreeSet<String> = TABLES.iter().map(|table| table.name.to_owned()).collect();
        let again = ["staged_versions", "staged_aside"].map(str::to_owned).into();
        assert_eq!(tables.difference(&saved).cloned().collect::<BTreeSet<_>>(), again);
    }
}
