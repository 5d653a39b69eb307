//! Vaults in one SQLite file an account, beside the account's own state.
//!
//! Owns the file: write-ahead log, what is on the disk when, foreign keys. Contents come sealed,
//! so the file says which vaults there are, who is in them and when something was written, but nothing of what. Two
//! programs may have it open: the file's own lock makes them wait for each other.
//!
//! There are four connections, so that nobody waits who need not. One takes the steps of a log, each on the disk before
//! it is answered: what was promised to a server must not be forgotten. One takes down writes: they are in the file at
//! once, and on the disk with the next step or [`SqliteVaults::flush`]. One reads what may take long, and one what must
//! be quick.

mod place;
mod read;
mod salvage;
mod schema;
mod upkeep;
mod write;

use super::{
    Advance, Aside, Begun, Counts, Elsewhere, Fresh, KeptVault, NewWrite, Now, Outline, Pending, Result, Settlement,
    Shelf, Shown, Together, Usage, VaultStore, Version,
};
use crate::store::StoreError;
use place::Place;
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};
use selkie_protocol::id::{ChangeId, RecordId, UserId, VaultId};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long one program waits for another that is writing.
const PATIENCE: Duration = Duration::from_secs(20);

/// How many statements a connection keeps prepared: all there are.
const STATEMENTS: usize = 64;

/// The vaults of one account, in a file.
pub struct SqliteVaults {
    place: Place,
    steps: Mutex<Connection>,
    writes: Mutex<Connection>,
    reads: Mutex<Connection>,
    glances: Mutex<Connection>,
}

/// The connections to one file.
struct Open {
    steps: Connection,
    others: [Connection; 3],
}

impl SqliteVaults {
    /// Opens the file in the account's folder, or makes it if there never was one.
    pub fn open(folder: &Path) -> Result<Self> {
        let doing = "opening the vaults on this device";
        let failed = |source| StoreError { doing: doing.into(), source };
        let place = Place::enter(folder).map_err(failed)?;
        let (file, is_new) = place.file().map_err(failed)?;
        let Open { steps, others } = Open::file(&file)?;
        if is_new {
            place.settle(&file).map_err(failed)?;
        }
        let [writes, reads, glances] = others.map(Mutex::new);
        Ok(SqliteVaults { place, steps: Mutex::new(steps), writes, reads, glances })
    }

    /// Puts what can be read of a file that does not open into a new one, in the place of the old. Whether all of it
    /// could be read.
    pub(crate) fn rebuild_in(folder: &Path) -> Result<bool> {
        let failed = |source| StoreError { doing: REBUILDING.into(), source };
        let place = Place::enter(folder).map_err(failed)?;
        place.alone(|| rebuilt(&place).map(|(_, whole)| whole)).map_err(failed)
    }

    fn reading<T>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        // One snapshot: another program may be writing.
        let mut connection = held(&self.reads);
        let all = || read(&*connection.transaction()?);
        all().map_err(while_doing("reading a vault on this device"))
    }

    fn glancing<T>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        read(&held(&self.glances)).map_err(while_doing("reading a vault on this device"))
    }

    /// A step: on the disk when this returns.
    fn writing<T>(&self, write: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T> {
        whole(&self.steps, write)
    }
}

impl Open {
    fn file(file: &Path) -> Result<Open> {
        let open = |synchronous: &str| -> rusqlite::Result<Connection> {
            let connection = Connection::open(file)?;
            connection.busy_timeout(PATIENCE)?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", synchronous)?;
            connection.pragma_update(None, "foreign_keys", true)?;
            connection.set_prepared_statement_cache_capacity(STATEMENTS);
            Ok(connection)
        };
        let open = |synchronous: &str| open(synchronous).map_err(while_doing("opening the vaults on this device"));
        let mut steps = open("FULL")?;
        schema::bring_up_to_date(&mut steps)?;
        Ok(Open { steps, others: [open("NORMAL")?, open("NORMAL")?, open("NORMAL")?] })
    }
}

const REBUILDING: &str = "repairing the vaults on this device";

/// Makes a new file of what the old one has, and has it be the file from now on. The old one stays as it is.
fn rebuilt(place: &Place) -> std::io::Result<(Open, bool)> {
    let (old, new) = place.old_and_new();
    let whole = salvage::salvage(&old, &new)?;
    let open = Open::file(&new).map_err(|error| error.source)?;
    place.settle(&new)?;
    Ok((open, whole))
}

fn held(connection: &Mutex<Connection>) -> MutexGuard<'_, Connection> {
    // A transaction that was cut off by a panic was rolled back when it was dropped.
    connection.lock().unwrap_or_else(PoisonError::into_inner)
}

fn whole<T>(connection: &Mutex<Connection>, write: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T> {
    let mut connection = held(connection);
    let all = || {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let done = write(&transaction)?;
        transaction.commit()?;
        Ok(done)
    };
    all().map_err(while_doing("keeping a vault on this device"))
}

/// What is kept for all vaults together.
fn shared(connection: &Connection) -> rusqlite::Result<Option<Vec<u8>>> {
    connection.query_row("SELECT state FROM account", [], |row| row.get(0)).optional()
}

/// The row of a vault that is at a revision.
fn row_at(transaction: &Transaction<'_>, vault: &VaultId, revision: u64) -> rusqlite::Result<Option<i64>> {
    let find = "SELECT id FROM vaults WHERE vault = ?1 AND revision = ?2";
    transaction.query_row(find, params![vault.as_bytes(), int(revision)], |row| row.get(0)).optional()
}

fn row_of(connection: &Connection, vault: &VaultId) -> rusqlite::Result<Option<i64>> {
    let mut find = connection.prepare_cached("SELECT id FROM vaults WHERE vault = ?1")?;
    find.query_row([vault.as_bytes()], |row| row.get(0)).optional()
}

impl VaultStore for SqliteVaults {
    fn account(&self) -> Result<Option<Vec<u8>>> {
        self.reading(shared)
    }

    fn keep_account(&self, before: Option<&[u8]>, state: &[u8]) -> Result<bool> {
        self.writing(|db| {
            if shared(db)?.as_deref() != before {
                return Ok(false);
            }
            db.execute("INSERT OR REPLACE INTO account (id, state) VALUES (1, ?1)", [state])?;
            Ok(true)
        })
    }

    fn people(&self) -> Result<Vec<(UserId, Vec<u8>)>> {
        self.reading(|db| {
            read::all(db, "SELECT user, log FROM people ORDER BY user", [], |row| {
                Ok((read::user(row, 0)?, row.get(1)?))
            })
        })
    }

    fn keep_person(&self, user: &UserId, log: &[u8]) -> Result<()> {
        let keep = "INSERT OR REPLACE INTO people (user, log) VALUES (?1, ?2)";
        self.writing(|db| db.execute(keep, params![user.as_bytes(), log]).map(drop))
    }

    fn vaults(&self) -> Result<Vec<VaultId>> {
        self.reading(|db| read::all(db, "SELECT vault FROM vaults ORDER BY vault", [], |row| read::vault(row, 0)))
    }

    fn revision(&self, vault: &VaultId) -> Result<Option<u64>> {
        self.glancing(|db| read::revision(db, vault))
    }

    fn load(&self, vault: &VaultId) -> Result<Option<KeptVault>> {
        self.reading(|db| read::load(db, vault))
    }

    fn begin(&self, vault: &VaultId, begun: &Begun) -> Result<()> {
        self.writing(|db| write::begin(db, vault, begun))
    }

    fn advance(&self, vault: &VaultId, revision: u64, advance: &Advance) -> Result<Option<u64>> {
        self.writing(|db| match row_at(db, vault, revision)? {
            Some(row) => write::advance(db, row, advance).map(|()| Some(revision + 1)),
            None => Ok(None),
        })
    }

    fn stage_anew(&self, vault: &VaultId, revision: u64) -> Result<Option<u64>> {
        self.writing(|db| match row_at(db, vault, revision)? {
            Some(row) => write::stage_anew(db, row).map(|()| Some(revision + 1)),
            None => Ok(None),
        })
    }

    fn stage(&self, vault: &VaultId, revision: u64, versions: &[Version], aside: &[Aside]) -> Result<bool> {
        self.writing(|db| match row_at(db, vault, revision)? {
            Some(row) => write::stage(db, row, versions, aside).map(|()| true),
            None => Ok(false),
        })
    }

    fn replace(&self, vault: &VaultId, revision: u64, fresh: &Fresh) -> Result<Option<u64>> {
        self.writing(|db| match row_at(db, vault, revision)? {
            Some(row) => write::replace(db, row, fresh).map(|()| Some(revision + 1)),
            None => Ok(None),
        })
    }

    fn forget(&self, vault: &VaultId) -> Result<()> {
        self.writing(|db| db.execute("DELETE FROM vaults WHERE vault = ?1", [vault.as_bytes()]).map(drop))
    }

    fn forget_if_sent(&self, vault: &VaultId) -> Result<bool> {
        let forget = "DELETE FROM vaults WHERE vault = ?1 AND in_flight IS NULL
            AND NOT EXISTS (SELECT 1 FROM outbox WHERE of = vaults.id)";
        self.writing(|db| db.execute(forget, [vault.as_bytes()]).map(|gone| gone > 0))
    }

    fn write_down(
        &self,
        vault: &VaultId,
        seen: Option<u64>,
        writes: &[NewWrite],
        together: Together,
    ) -> Result<Option<Vec<u64>>> {
        let written = whole(&self.writes, |db| match row_of(db, vault)? {
            Some(row) => write::write_down(db, row, seen, writes, together).map(Some),
            None => Ok(None),
        })?;
        written.ok_or_else(|| super::gone("writing a record"))
    }

    fn put_on_shelves(&self, vault: &VaultId, seqs: &[(u64, Shelf)]) -> Result<()> {
        self.writing(|db| match row_of(db, vault)? {
            Some(row) => write::put_on_shelves(db, row, seqs),
            None => Ok(()),
        })
    }

    fn take_back(&self, vault: &VaultId, revision: u64, seqs: &[u64]) -> Result<Option<u64>> {
        self.writing(|db| match row_at(db, vault, revision)? {
            Some(row) => write::take_back(db, row, seqs).map(|()| Some(revision + 1)),
            None => Ok(None),
        })
    }

    fn flush(&self) -> Result<()> {
        // A commit through this connection is on the disk, and what was committed before lies before it.
        self.writing(|db| db.execute("UPDATE counters SET floor = floor", []).map(drop))
    }

    fn now(&self, vault: &VaultId, record: &RecordId) -> Result<Now> {
        self.glancing(|db| read::now(db, vault, record))
    }

    fn shelf(&self, vault: &VaultId, shelf: &Shelf, visit: &mut dyn FnMut(Shown)) -> Result<u64> {
        self.reading(|db| read::shelf(db, vault, shelf, visit))
    }

    fn shelves(&self, vault: &VaultId) -> Result<Vec<Shelf>> {
        self.reading(|db| read::shelves(db, vault))
    }

    fn page(&self, vault: &VaultId, shelf: &Shelf, after: Option<RecordId>, limit: usize) -> Result<Vec<RecordId>> {
        self.reading(|db| read::page(db, vault, shelf, after, limit))
    }

    fn stamp(&self, vault: &VaultId) -> Result<u64> {
        self.glancing(|db| Ok(read::stamps(db, vault)?.0))
    }

    fn touched(&self, vault: &VaultId, after: u64) -> Result<(u64, Option<Vec<RecordId>>)> {
        // In one snapshot. `get` asks this, and waits neither for those who read for long nor for a long answer.
        const FEW: usize = 1_000;
        let glance = |db: &Connection| read::touched(&*db.unchecked_transaction()?, vault, after, FEW);
        match self.glancing(glance)? {
            (_, Some(touched)) if touched.len() == FEW => {
                self.reading(|db| read::touched(db, vault, after, usize::MAX))
            }
            few => Ok(few),
        }
    }

    fn outline(&self, vault: &VaultId) -> Result<Option<Outline>> {
        self.reading(|db| read::outline(db, vault))
    }

    fn outbox(&self, vault: &VaultId, limit: usize) -> Result<Vec<Pending>> {
        self.reading(|db| read::outbox(db, vault, limit))
    }

    fn pending_of(&self, vault: &VaultId, record: &RecordId) -> Result<Vec<Pending>> {
        self.reading(|db| read::pending_of(db, vault, record))
    }

    fn versions(&self, vault: &VaultId, record: &RecordId) -> Result<Vec<Version>> {
        self.reading(|db| read::versions(db, vault, record))
    }

    fn current(&self, vault: &VaultId, shelf: Option<&Shelf>) -> Result<Vec<Version>> {
        self.reading(|db| read::current(db, vault, shelf))
    }

    fn aside_after(&self, vault: &VaultId, after: Option<&ChangeId>, most: usize) -> Result<Vec<Aside>> {
        self.reading(|db| read::aside_after(db, vault, after, most))
    }

    fn settlements(&self, vault: &VaultId) -> Result<Vec<Settlement>> {
        self.reading(|db| read::settlements(db, vault))
    }

    fn settlements_of(&self, vault: &VaultId, record: &RecordId) -> Result<Vec<Settlement>> {
        self.reading(|db| read::settlements_of(db, vault, record))
    }

    fn resolve(&self, vault: &VaultId, settlement: u64) -> Result<()> {
        self.writing(|db| match row_of(db, vault)? {
            Some(row) => write::resolve(db, row, settlement),
            None => Ok(()),
        })
    }

    fn keep_note(&self, vault: &VaultId, name: &Shelf, sealed: &[u8]) -> Result<()> {
        whole(&self.writes, |db| match row_of(db, vault)? {
            Some(row) => write::keep_note(db, row, name, sealed),
            None => Ok(()),
        })
    }

    fn note(&self, vault: &VaultId, name: &Shelf) -> Result<Option<Vec<u8>>> {
        self.reading(|db| read::note(db, vault, name))
    }

    fn frames(&self, vault: &VaultId, from: u64, to: u64) -> Result<Vec<(u64, Vec<u8>)>> {
        self.reading(|db| read::frames(db, vault, from, to))
    }

    fn counts(&self, vault: &VaultId) -> Result<Counts> {
        self.reading(|db| read::counts(db, vault))
    }

    fn usage(&self, vault: &VaultId) -> Result<Usage> {
        self.reading(|db| upkeep::usage(db, vault))
    }

    fn size(&self) -> Result<u64> {
        self.reading(upkeep::size)
    }

    fn prune(&self, vault: &VaultId, before_ms: u64) -> Result<Usage> {
        self.writing(|db| match row_of(db, vault)? {
            Some(row) => upkeep::prune(db, row, before_ms),
            None => Ok(Usage::default()),
        })
    }

    fn let_go(&self, vault: &VaultId, seen: u64, records: &[Elsewhere]) -> Result<(u64, Usage)> {
        self.writing(|db| match row_of(db, vault)? {
            Some(row) => write::let_go(db, row, seen, records),
            None => Ok(Default::default()),
        })
    }

    fn elsewhere(&self, vault: &VaultId) -> Result<Vec<Elsewhere>> {
        self.reading(|db| read::elsewhere(db, vault, None))
    }

    fn elsewhere_of(&self, vault: &VaultId, record: &RecordId) -> Result<Vec<Elsewhere>> {
        self.glancing(|db| read::elsewhere(db, vault, Some(record)))
    }

    fn shrink(&self) -> Result<()> {
        let steps = held(&self.steps);
        let all = || steps.execute_batch("VACUUM; PRAGMA wal_checkpoint(TRUNCATE);");
        all().map_err(while_doing("making the file of the vaults smaller"))
    }

    fn damage(&self) -> Result<Vec<String>> {
        self.reading(|db| Ok(upkeep::damage(db)))
    }

    fn rebuild(&self) -> Result<bool> {
        let failed = |source| StoreError { doing: REBUILDING.into(), source };
        let connections = [&self.steps, &self.writes, &self.reads, &self.glances];
        // Always in this order, and everybody else holds one at a time.
        let mut guards = connections.map(held);
        let (open, whole) = self.place.alone(|| rebuilt(&self.place)).map_err(failed)?;
        for (guard, new) in guards.iter_mut().zip([open.steps].into_iter().chain(open.others)) {
            // What was not brought from its log into the old file is looked at by whoever wonders what happened to it.
            let keeps_log = rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
            let _as_it_is = guard.set_db_config(keeps_log, true);
            **guard = new;
        }
        Ok(whole)
    }
}

/// SQLite's integers are signed. Ours are counts, positions and times, which never come near the end.
fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn while_doing(doing: &'static str) -> impl FnOnce(rusqlite::Error) -> StoreError {
    move |error| StoreError { doing: doing.to_owned(), source: source_of(error) }
}

/// Whose move it is: of whoever has the disk, or of whoever repairs.
fn source_of(error: rusqlite::Error) -> std::io::Error {
    use rusqlite::Error as Sql;
    use rusqlite::ErrorCode as Code;
    use std::io::ErrorKind;
    let kind = match error.sqlite_error_code() {
        Some(Code::DatabaseCorrupt | Code::NotADatabase) => ErrorKind::InvalidData,
        Some(Code::DiskFull) => ErrorKind::StorageFull,
        Some(Code::ReadOnly) => ErrorKind::ReadOnlyFilesystem,
        Some(Code::CannotOpen | Code::PermissionDenied | Code::AuthorizationForStatementDenied) => {
            ErrorKind::PermissionDenied
        }
        Some(Code::DatabaseBusy | Code::DatabaseLocked) => ErrorKind::ResourceBusy,
        _ => match error {
            // A row is not what was written.
            Sql::InvalidColumnType(..) | Sql::IntegralValueOutOfRange(..) | Sql::FromSqlConversionFailure(..) => {
                ErrorKind::InvalidData
            }
            _ => ErrorKind::Other,
        },
    };
    std::io::Error::new(kind, error)
}

impl std::fmt::Debug for SqliteVaults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SqliteVaults")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;

    const VAULT: VaultId = VaultId([9; 32]);

    fn begun(folder: &Path) -> SqliteVaults {
        let vaults = SqliteVaults::open(folder).unwrap();
        vaults.begin(&VAULT, &Begun { state: b"one".to_vec(), ..Begun::default() }).unwrap();
        vaults
    }

    fn put(vaults: &SqliteVaults, record: u8, length: usize) -> Result<Option<Vec<u64>>> {
        let write = NewWrite { record: RecordId([record; 16]), shelf: [1; 16], sealed: vec![record; length] };
        vaults.write_down(&VAULT, None, &[write], Together::AsOne)
    }

    fn limit(vaults: &SqliteVaults, pages: i64) {
        for connection in [&vaults.steps, &vaults.writes] {
            held(connection).pragma_query_value(None, "page_count", |_| Ok(())).unwrap();
            held(connection).query_row(&format!("PRAGMA max_page_count({pages})"), [], |_| Ok(())).unwrap();
        }
    }

    /// Or a look at one record waits for an index to be built.
    #[test]
    fn what_is_asked_at_every_look_waits_for_nobody_who_reads_for_long() {
        let folder = tempfile::tempdir().unwrap();
        let vaults = begun(folder.path());
        let (done, answer) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let long = held(&vaults.reads);
            scope.spawn(|| {
                let looked = (vaults.stamp(&VAULT), vaults.touched(&VAULT, 0), vaults.now(&VAULT, &RecordId([1; 16])));
                done.send(looked.0.is_ok() && looked.1.is_ok() && looked.2.is_ok()).unwrap();
            });
            let answer = answer.recv_timeout(std::time::Duration::from_secs(20));
            drop(long);
            assert_eq!(answer, Ok(true));
        });
    }

    /// Or the first push of a vault of 100,000 records takes minutes.
    #[test]
    fn what_concerns_one_record_looks_at_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let vaults = begun(folder.path());
        let connection = held(&vaults.steps);
        for query in read::OF_ONE_RECORD.into_iter().chain(write::OF_ONE_RECORD) {
            let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {query}")).unwrap();
            let given = rusqlite::params![1, [1u8; 16].as_slice()];
            let steps = plan.query_map(given, |row| row.get::<_, String>(3)).unwrap();
            let steps: Vec<String> = steps.map(|step| step.unwrap()).collect();
            assert!(steps.iter().any(|step| step.contains("(of=? AND record=?)")), "{query}: {steps:?}");
        }
    }

    #[test]
    fn a_full_disk_is_told_and_what_was_written_before_stays_whole() {
        let folder = tempfile::tempdir().unwrap();
        let vaults = begun(folder.path());
        put(&vaults, 1, 100).unwrap();
        // The smallest limit there can be is what is there.
        limit(&vaults, 1);
        for refused in [
            put(&vaults, 2, 100_000).map(drop),
            vaults.begin(&VaultId([8; 32]), &Begun { state: vec![1; 100_000], ..Begun::default() }),
        ] {
            let refused = refused.unwrap_err();
            assert_eq!(refused.source.kind(), ErrorKind::StorageFull, "{:?}", refused.source);
            assert!(refused.advice().contains("make room"));
        }
        assert_eq!(vaults.outbox(&VAULT, 9).unwrap().len(), 1);
        assert_eq!(vaults.vaults().unwrap(), [VAULT], "nothing is half there");
        limit(&vaults, 1_000_000);
        put(&vaults, 2, 100_000).unwrap();
        assert_eq!(vaults.damage().unwrap(), [""; 0]);
    }

    #[test]
    fn a_file_that_may_only_be_read_is_told_and_can_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let vaults = begun(folder.path());
        put(&vaults, 1, 100).unwrap();
        for connection in [&vaults.steps, &vaults.writes] {
            held(connection).pragma_update(None, "query_only", true).unwrap();
        }
        let refused = put(&vaults, 2, 100).unwrap_err();
        assert_eq!(refused.source.kind(), ErrorKind::ReadOnlyFilesystem, "{:?}", refused.source);
        assert!(refused.advice().contains("cannot be written to"));
        assert_eq!(vaults.outbox(&VAULT, 9).unwrap().len(), 1);
    }

    #[test]
    fn a_file_of_a_later_version_of_the_app_is_left_alone_and_is_no_damage() {
        let folder = tempfile::tempdir().unwrap();
        let vaults = begun(folder.path());
        held(&vaults.steps).pragma_update(None, "user_version", 99).unwrap();
        drop(vaults);
        let refused = SqliteVaults::open(folder.path()).unwrap_err();
        assert!(!refused.is_damage() && refused.source.to_string().contains("later version"), "{:?}", refused.source);
    }

    #[test]
    fn writes_outlive_the_page_in_which_their_vault_is_described() {
        let folder = tempfile::tempdir().unwrap();
        let vaults = begun(folder.path());
        put(&vaults, 1, 100).unwrap();
        let root = "SELECT rootpage FROM sqlite_schema WHERE name = 'vaults'";
        let root: u16 = held(&vaults.steps).query_row(root, [], |row| row.get(0)).unwrap();
        let root = usize::from(root);
        drop(vaults);
        let file = folder.path().join("vaults.sqlite");
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[(root - 1) * 4_096..root * 4_096].fill(0xee);
        std::fs::write(&file, bytes).unwrap();
        assert!(!SqliteVaults::rebuild_in(folder.path()).unwrap(), "not all of it could be read");
        let vaults = SqliteVaults::open(folder.path()).unwrap();
        assert_eq!(vaults.vaults().unwrap(), [VAULT]);
        let saved = vaults.outbox(&VAULT, 9).unwrap();
        assert_eq!((saved.len(), saved[0].record), (1, RecordId([1; 16])));
        let next = put(&vaults, 2, 1).unwrap().unwrap()[0];
        assert!(next > saved[0].seq);
    }
}
