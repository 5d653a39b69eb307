//! What is read from the file.
//!
//! Owns the queries and the making of values out of rows. A row that is not what it should be is an error.

use super::super::{Aside, Counts, Elsewhere, KeptVault, Now, Outline, Pending, Settlement, Shelf, Shown, Version};
use super::{int, row_of};
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension as _, Params, Row, params};
use selkie_protocol::id::{ChangeId, DeviceId, RecordId, UserId, VaultId};

type Read<T> = rusqlite::Result<T>;

pub(super) fn all<T>(
    db: &Connection,
    query: &str,
    given: impl Params,
    read: impl FnMut(&Row<'_>) -> Read<T>,
) -> Read<Vec<T>> {
    db.prepare_cached(query)?.query_map(given, read)?.collect()
}

fn bytes<const N: usize>(row: &Row<'_>, column: usize) -> Read<[u8; N]> {
    let wrong = |_| rusqlite::Error::InvalidColumnType(column, "of another length".into(), Type::Blob);
    row.get_ref(column)?.as_blob().map_err(rusqlite::Error::from)?.try_into().map_err(wrong)
}

fn number(row: &Row<'_>, column: usize) -> Read<u64> {
    let number: i64 = row.get(column)?;
    u64::try_from(number).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, number))
}

pub(super) fn user(row: &Row<'_>, column: usize) -> Read<UserId> {
    bytes(row, column).map(UserId)
}

pub(super) fn vault(row: &Row<'_>, column: usize) -> Read<VaultId> {
    bytes(row, column).map(VaultId)
}

pub(super) fn change_ids(blob: &[u8]) -> Option<Vec<ChangeId>> {
    let (ids, rest) = blob.as_chunks::<32>();
    rest.is_empty().then(|| ids.iter().map(|id| ChangeId(*id)).collect())
}

pub(super) fn load(db: &Connection, vault: &VaultId) -> Read<Option<KeptVault>> {
    let find = "SELECT id, revision, state, in_flight FROM vaults WHERE vault = ?1";
    let head = db
        .query_row(find, [vault.as_bytes()], |row| {
            Ok((row.get::<_, i64>(0)?, number(row, 1)?, row.get(2)?, row.get(3)?))
        })
        .optional()?;
    let Some((of, revision, state, in_flight)) = head else { return Ok(None) };
    Ok(Some(KeptVault {
        revision,
        state,
        trail: all(db, "SELECT n, h FROM trail WHERE of = ?1 ORDER BY n", [of], |row| {
            Ok((number(row, 0)?, bytes(row, 1)?))
        })?,
        live: all(db, "SELECT record, changes FROM live WHERE of = ?1 ORDER BY record", [of], |row| {
            Ok((RecordId(bytes(row, 0)?), row.get(1)?))
        })?,
        keys: all(db, "SELECT epoch, sealed FROM keys WHERE of = ?1 ORDER BY epoch", [of], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?,
        in_flight,
    }))
}

pub(super) fn revision(db: &Connection, vault: &VaultId) -> Read<Option<u64>> {
    let mut find = db.prepare_cached("SELECT revision FROM vaults WHERE vault = ?1")?;
    find.query_row([vault.as_bytes()], |row| number(row, 0)).optional()
}

/// The keys and the state, without what grows with the log.
pub(super) fn outline(db: &Connection, vault: &VaultId) -> Read<Option<Outline>> {
    let find = "SELECT id, revision, state, in_flight FROM vaults WHERE vault = ?1";
    let head = db.query_row(find, [vault.as_bytes()], |row| {
        Ok((row.get::<_, i64>(0)?, number(row, 1)?, row.get(2)?, row.get(3)?))
    });
    let Some((of, revision, state, in_flight)) = head.optional()? else { return Ok(None) };
    let keys = all(db, "SELECT epoch, sealed FROM keys WHERE of = ?1 ORDER BY epoch", [of], |row| {
        Ok((row.get(0)?, row.get(1)?))
    })?;
    Ok(Some(Outline { revision, state, keys, in_flight }))
}

const PENDING: &str = "SELECT seq, record, shelf, base, sealed, grp FROM outbox JOIN vaults ON vaults.id = outbox.of
    WHERE vault = ?1";

fn pending(row: &Row<'_>) -> Read<Pending> {
    let wrong = || rusqlite::Error::InvalidColumnType(3, "not changes".into(), Type::Blob);
    let base: Option<Vec<u8>> = row.get(3)?;
    let base = base.map(|blob| change_ids(&blob).ok_or_else(wrong)).transpose()?;
    Ok(Pending {
        seq: number(row, 0)?,
        group: number(row, 5)?,
        record: RecordId(bytes(row, 1)?),
        shelf: bytes(row, 2)?,
        base,
        sealed: row.get(4)?,
    })
}

pub(super) fn outbox(db: &Connection, vault: &VaultId, limit: usize) -> Read<Vec<Pending>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    all(db, &format!("{PENDING} ORDER BY seq LIMIT ?2"), params![vault.as_bytes(), limit], pending)
}

pub(super) fn pending_of(db: &Connection, vault: &VaultId, record: &RecordId) -> Read<Vec<Pending>> {
    let given = params![vault.as_bytes(), record.as_bytes()];
    all(db, &format!("{PENDING} AND record = ?2 ORDER BY seq"), given, pending)
}

const VERSIONS: &str = "SELECT record, change, n, idx, shelf, user, device, unix_ms, current, sealed
    FROM versions JOIN vaults ON vaults.id = versions.of WHERE vault = ?1";

fn version(row: &Row<'_>) -> Read<Version> {
    Ok(Version {
        record: RecordId(bytes(row, 0)?),
        change: ChangeId(bytes(row, 1)?),
        n: number(row, 2)?,
        index: row.get(3)?,
        shelf: bytes(row, 4)?,
        user: UserId(bytes(row, 5)?),
        device: DeviceId(bytes(row, 6)?),
        unix_ms: number(row, 7)?,
        current: row.get(8)?,
        sealed: row.get(9)?,
    })
}

pub(super) fn versions(db: &Connection, vault: &VaultId, record: &RecordId) -> Read<Vec<Version>> {
    let given = params![vault.as_bytes(), record.as_bytes()];
    all(db, &format!("{VERSIONS} AND record = ?2 ORDER BY n, idx"), given, version)
}

pub(super) fn now(db: &Connection, vault: &VaultId, record: &RecordId) -> Read<Now> {
    let Some(of) = row_of(db, vault)? else { return Ok(Now::default()) };
    if let Some(here) = here(db, of, record)? {
        return Ok(here);
    }
    // That there is nothing is said of one moment: between two questions it may have come, or have been let go.
    let moment = db.unchecked_transaction()?;
    if let Some(here) = here(&moment, of, record)? {
        return Ok(here);
    }
    let given = params![of, record.as_bytes()];
    let elsewhere = moment.prepare_cached(ELSEWHERE)?.query_row(given, elsewhere_row).optional()?;
    let unexplained = elsewhere.is_none() && moment.prepare_cached(UNEXPLAINED)?.exists(given)?;
    Ok(Now { elsewhere, unexplained, ..Now::default() })
}

const UNEXPLAINED: &str = "SELECT 1 FROM live WHERE of = ?1 AND record = ?2
    AND NOT EXISTS (SELECT 1 FROM aside WHERE of = ?1 AND record = ?2)";

/// This device's own last write, or what is current; `None` if there is neither.
fn here(db: &Connection, of: i64, record: &RecordId) -> Read<Option<Now>> {
    let given = params![of, record.as_bytes()];
    let last = "SELECT seq, record, shelf, base, sealed, grp FROM outbox
        WHERE of = ?1 AND record = ?2 ORDER BY seq DESC LIMIT 1";
    let pending = db.prepare_cached(last)?.query_row(given, pending).optional()?;
    if pending.is_some() {
        return Ok(Some(Now { pending, ..Now::default() }));
    }
    let current = all(db, CURRENT, given, version)?;
    Ok((!current.is_empty()).then(|| Now { current, ..Now::default() }))
}

pub(super) fn elsewhere(db: &Connection, vault: &VaultId, record: Option<&RecordId>) -> Read<Vec<Elsewhere>> {
    let Some(of) = row_of(db, vault)? else { return Ok(Vec::new()) };
    match record {
        Some(record) => all(db, ELSEWHERE, params![of, record.as_bytes()], elsewhere_row),
        None => {
            let query = "SELECT record, change, was_here FROM elsewhere WHERE of = ?1 ORDER BY record, change";
            all(db, query, [of], elsewhere_row)
        }
    }
}

const ELSEWHERE: &str = "SELECT record, change, was_here FROM elsewhere WHERE of = ?1 AND record = ?2 ORDER BY change";

fn elsewhere_row(row: &Row<'_>) -> Read<Elsewhere> {
    Ok(Elsewhere { record: RecordId(bytes(row, 0)?), change: ChangeId(bytes(row, 1)?), was_here: row.get(2)? })
}

/// What is current of one record. The sign before the column keeps the planner from the index of all that is current,
/// in which it would look through the whole vault.
const CURRENT: &str = "SELECT record, change, n, idx, shelf, user, device, unix_ms, current, sealed FROM versions
    WHERE of = ?1 AND record = ?2 AND +current = 1";

#[cfg(test)]
pub(super) const OF_ONE_RECORD: [&str; 2] = [CURRENT, SETTLEMENTS_OF_RECORD];

pub(super) fn shelf(db: &Connection, vault: &VaultId, shelf: &Shelf, visit: &mut dyn FnMut(Shown)) -> Read<u64> {
    let Some(of) = row_of(db, vault)? else { return Ok(0) };
    let pending = "SELECT record, NULL, sealed FROM outbox AS own WHERE of = ?1 AND shelf = ?2 AND seq =
        (SELECT max(seq) FROM outbox WHERE of = own.of AND record = own.record)";
    let in_log = "SELECT record, change, sealed FROM versions WHERE of = ?1 AND shelf = ?2 AND current = 1
        AND NOT EXISTS (SELECT 1 FROM outbox WHERE of = versions.of AND record = versions.record)";
    for query in [in_log, pending] {
        let mut query = db.prepare_cached(query)?;
        let mut rows = query.query(params![of, shelf.as_slice()])?;
        while let Some(row) = rows.next()? {
            let change = if row.get_ref(1)? == rusqlite::types::ValueRef::Null { None } else { Some(bytes(row, 1)?) };
            visit(Shown { record: RecordId(bytes(row, 0)?), change: change.map(ChangeId), sealed: row.get(2)? });
        }
    }
    Ok(stamps(db, vault)?.0)
}

pub(super) fn shelves(db: &Connection, vault: &VaultId) -> Read<Vec<Shelf>> {
    let Some(of) = row_of(db, vault)? else { return Ok(Vec::new()) };
    let query = "SELECT shelf FROM versions WHERE of = ?1 AND current = 1
        UNION SELECT shelf FROM outbox WHERE of = ?1 ORDER BY shelf";
    all(db, query, [of], |row| bytes(row, 0))
}

/// Each half walks an index of its own and stops when it has enough.
pub(super) fn page(
    db: &Connection,
    vault: &VaultId,
    shelf: &Shelf,
    after: Option<RecordId>,
    limit: usize,
) -> Read<Vec<RecordId>> {
    let Some(of) = row_of(db, vault)? else { return Ok(Vec::new()) };
    let query = "SELECT record FROM (SELECT DISTINCT record FROM versions
            WHERE of = ?1 AND shelf = ?2 AND current = 1 AND record > ?3 ORDER BY record LIMIT ?4)
        UNION SELECT record FROM (SELECT DISTINCT record FROM outbox
            WHERE of = ?1 AND shelf = ?2 AND record > ?3 ORDER BY record LIMIT ?4)
        ORDER BY record LIMIT ?4";
    // Nothing comes before the first name but the empty one.
    let after = after.as_ref().map(RecordId::as_bytes).unwrap_or_default();
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    all(db, query, params![of, shelf.as_slice(), after, limit], |row| bytes(row, 0).map(RecordId))
}

/// The stamp now, and the one before which nothing is known of what was touched.
pub(super) fn stamps(db: &Connection, vault: &VaultId) -> Read<(u64, u64)> {
    let find = "SELECT stamp, floor FROM vaults JOIN counters ON counters.of = vaults.id WHERE vault = ?1";
    let found = db.prepare_cached(find)?.query_row([vault.as_bytes()], |row| Ok((number(row, 0)?, number(row, 1)?)));
    Ok(found.optional()?.unwrap_or_default())
}

pub(super) fn touched(
    db: &Connection,
    vault: &VaultId,
    after: u64,
    limit: usize,
) -> Read<(u64, Option<Vec<RecordId>>)> {
    let (stamp, floor) = stamps(db, vault)?;
    if after < floor || after > stamp {
        return Ok((stamp, None));
    }
    let query = "SELECT record FROM touched JOIN vaults ON vaults.id = touched.of WHERE vault = ?1 AND stamp > ?2
        LIMIT ?3";
    let given = params![vault.as_bytes(), int(after), i64::try_from(limit).unwrap_or(i64::MAX)];
    let later = all(db, query, given, |row| bytes(row, 0).map(RecordId))?;
    Ok((stamp, Some(later)))
}

pub(super) fn note(db: &Connection, vault: &VaultId, name: &Shelf) -> Read<Option<Vec<u8>>> {
    let find = "SELECT sealed FROM notes JOIN vaults ON vaults.id = notes.of WHERE vault = ?1 AND name = ?2";
    db.query_row(find, params![vault.as_bytes(), name.as_slice()], |row| row.get(0)).optional()
}

pub(super) fn current(db: &Connection, vault: &VaultId, shelf: Option<&Shelf>) -> Read<Vec<Version>> {
    let query = format!("{VERSIONS} AND current = 1");
    match shelf {
        Some(shelf) => {
            let given = params![vault.as_bytes(), shelf.as_slice()];
            all(db, &format!("{query} AND shelf = ?2 ORDER BY record, n, idx"), given, version)
        }
        None => all(db, &format!("{query} ORDER BY record, n, idx"), [vault.as_bytes()], version),
    }
}

pub(super) fn aside_after(db: &Connection, vault: &VaultId, after: Option<&ChangeId>, most: usize) -> Read<Vec<Aside>> {
    let query = "SELECT record, change, n, epoch, unix_ms, reason, item, payload
        FROM aside JOIN vaults ON vaults.id = aside.of WHERE vault = ?1 AND change > ?2 ORDER BY change LIMIT ?3";
    // Every name is greater than no bytes at all.
    let after: &[u8] = after.map_or(&[], |change| change.as_bytes());
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    all(db, query, params![vault.as_bytes(), after, most], |row| {
        Ok(Aside {
            record: RecordId(bytes(row, 0)?),
            change: ChangeId(bytes(row, 1)?),
            n: number(row, 2)?,
            epoch: row.get(3)?,
            unix_ms: number(row, 4)?,
            reason: row.get(5)?,
            item: row.get(6)?,
            payload: row.get(7)?,
        })
    })
}

pub(super) fn settlements(db: &Connection, vault: &VaultId) -> Read<Vec<Settlement>> {
    let Some(of) = row_of(db, vault)? else { return Ok(Vec::new()) };
    let query = "SELECT id, record, lost, won, at_ms, how, asked FROM settlements WHERE of = ?1 ORDER BY id";
    all(db, query, [of], settlement)
}

pub(super) fn settlements_of(db: &Connection, vault: &VaultId, record: &RecordId) -> Read<Vec<Settlement>> {
    let Some(of) = row_of(db, vault)? else { return Ok(Vec::new()) };
    all(db, SETTLEMENTS_OF_RECORD, params![of, record.as_bytes()], settlement)
}

const SETTLEMENTS_OF_RECORD: &str =
    "SELECT id, record, lost, won, at_ms, how, asked FROM settlements WHERE of = ?1 AND record = ?2 ORDER BY id";

fn settlement(row: &Row<'_>) -> Read<Settlement> {
    Ok(Settlement {
        id: number(row, 0)?,
        record: RecordId(bytes(row, 1)?),
        lost: ChangeId(bytes(row, 2)?),
        won: ChangeId(bytes(row, 3)?),
        at_ms: number(row, 4)?,
        how: row.get(5)?,
        asked: row.get(6)?,
    })
}

pub(super) fn frames(db: &Connection, vault: &VaultId, from: u64, to: u64) -> Read<Vec<(u64, Vec<u8>)>> {
    let query = "SELECT n, frame FROM frames JOIN vaults ON vaults.id = frames.of
        WHERE vault = ?1 AND n BETWEEN ?2 AND ?3 ORDER BY n";
    all(db, query, params![vault.as_bytes(), int(from), int(to)], |row| Ok((number(row, 0)?, row.get(1)?)))
}

pub(super) fn counts(db: &Connection, vault: &VaultId) -> Read<Counts> {
    let count = |query: &str| db.query_row(query, [vault.as_bytes()], |row| number(row, 0));
    Ok(Counts {
        records: count(
            "SELECT count(DISTINCT record) FROM versions JOIN vaults ON vaults.id = versions.of
             WHERE vault = ?1 AND current = 1",
        )?,
        pending: count("SELECT count(*) FROM outbox JOIN vaults ON vaults.id = outbox.of WHERE vault = ?1")?,
        elsewhere: count(
            "SELECT count(DISTINCT record) FROM elsewhere JOIN vaults ON vaults.id = elsewhere.of WHERE vault = ?1",
        )?,
        aside: count("SELECT count(*) FROM aside JOIN vaults ON vaults.id = aside.of WHERE vault = ?1")?,
    })
}
