//! What is written to the file, inside the transaction it is given.
//!
//! Owns the statements. That a vault is at the right revision was seen before.

use super::super::{
    Advance, Again, Aside, Begun, Elsewhere, Fresh, KeptFrame, NewWrite, Settlement, Shelf, Together, Version,
};
use super::{int, read};
use rusqlite::{OptionalExtension as _, Transaction, params};
use selkie_protocol::id::{ChangeId, RecordId, VaultId};
use std::collections::{BTreeMap, BTreeSet};

type Done<T = ()> = rusqlite::Result<T>;

// Where many rows are written, a row that is there is changed (`ON CONFLICT ... DO UPDATE`) instead of replaced: for
// `OR REPLACE` SQLite first copies every page that a row touches, to be able to undo that row alone.

pub(super) fn begin(db: &Transaction<'_>, vault: &VaultId, begun: &Begun) -> Done {
    let insert = "INSERT OR IGNORE INTO vaults (vault, revision, state, in_flight) VALUES (?1, 1, ?2, ?3)";
    if db.execute(insert, params![vault.as_bytes(), begun.state, begun.in_flight])? == 0 {
        return Ok(());
    }
    let of = db.last_insert_rowid();
    db.execute("INSERT INTO counters (of, next_seq, stamp, floor) VALUES (?1, 0, 0, 0)", [of])?;
    trail(db, of, &begun.trail)?;
    keys(db, of, &begun.keys)?;
    frames(db, of, &begun.frames)?;
    write_down(db, of, None, &begun.writes, Together::EachAlone).map(drop)
}

pub(super) fn advance(db: &Transaction<'_>, of: i64, step: &Advance) -> Done {
    db.execute("UPDATE vaults SET revision = revision + 1 WHERE id = ?1", [of])?;
    if let Some(state) = &step.state {
        db.execute("UPDATE vaults SET state = ?2 WHERE id = ?1", params![of, state])?;
    }
    if let Some(in_flight) = &step.in_flight {
        db.execute("UPDATE vaults SET in_flight = ?2 WHERE id = ?1", params![of, in_flight])?;
    }
    if !step.trail.is_empty() {
        trail(db, of, &step.trail)?;
        db.execute("DELETE FROM trail WHERE of = ?1 AND n < ?2", params![of, int(step.trail_from)])?;
    }
    let mut touched: BTreeSet<RecordId> = step.touched().collect();
    live(db, of, &step.live)?;
    frames(db, of, &step.frames)?;
    if step.frames_before_ms > 0 {
        let old = "DELETE FROM frames WHERE of = ?1 AND received_ms < ?2";
        db.execute(old, params![of, int(step.frames_before_ms)])?;
    }
    versions(db, of, "versions", &step.versions)?;
    move_elsewhere(db, of, step)?;
    heads(db, of, &step.heads)?;
    aside(db, of, "aside", &step.aside)?;
    let mut no_longer = db.prepare("DELETE FROM aside WHERE of = ?1 AND change = ?2")?;
    for change in &step.no_longer_aside {
        no_longer.execute(params![of, change.as_bytes()])?;
    }
    for (seq, change) in &step.sent {
        touched.extend(sent(db, of, *seq, change.as_ref())?);
    }
    settlements(db, of, &step.settlements)?;
    touch(db, of, touched)?;
    keys(db, of, &step.keys)
}

/// What a record says now that was elsewhere is no more here than what it said before, unless one of its heads is.
fn move_elsewhere(db: &Transaction<'_>, of: i64, step: &Advance) -> Done {
    if !db.prepare_cached("SELECT 1 FROM elsewhere WHERE of = ?1 LIMIT 1")?.exists([of])? {
        return Ok(());
    }
    let there = "SELECT change, was_here FROM elsewhere WHERE of = ?1 AND record = ?2";
    let mut there = db.prepare_cached(there)?;
    let mut here = db.prepare_cached("SELECT 1 FROM versions WHERE of = ?1 AND record = ?2 AND change = ?3")?;
    let mut forget = db.prepare_cached("DELETE FROM elsewhere WHERE of = ?1 AND record = ?2")?;
    for (record, heads) in &step.heads {
        let of_record = params![of, record.as_bytes()];
        let rows = there.query_map(of_record, |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, bool>(1)?)))?;
        let before = rows.collect::<Done<BTreeMap<_, _>>>()?;
        if before.is_empty() {
            continue;
        }
        let (mut missing, mut read) = (Vec::new(), false);
        for change in heads {
            match here.exists(params![of, record.as_bytes(), change.as_bytes()])? {
                true => read = true,
                false => missing.push(*change),
            }
        }
        let moved = missing.into_iter().filter_map(|change| {
            let known = before.get(change.as_bytes()).copied();
            let was_here = known.or((!read).then_some(false))?;
            Some(Elsewhere { record: *record, change, was_here })
        });
        let moved: Vec<Elsewhere> = moved.collect();
        forget.execute(of_record)?;
        elsewhere(db, of, &moved)?;
    }
    Ok(())
}

pub(super) fn elsewhere<'a>(db: &Transaction<'_>, of: i64, changes: impl IntoIterator<Item = &'a Elsewhere>) -> Done {
    let insert = "INSERT OR REPLACE INTO elsewhere (of, record, change, was_here) VALUES (?1, ?2, ?3, ?4)";
    let mut insert = db.prepare_cached(insert)?;
    for one in changes {
        insert.execute(params![of, one.record.as_bytes(), one.change.as_bytes(), one.was_here])?;
    }
    Ok(())
}

pub(super) fn let_go(
    db: &Transaction<'_>,
    of: i64,
    seen: u64,
    records: &[Elsewhere],
) -> Done<(u64, super::super::Usage)> {
    let mut untouched = Vec::with_capacity(records.len());
    for one in records {
        if !touched_since(db, of, seen, [one.record])? {
            untouched.push(*one);
        }
    }
    let (gone, went) = super::upkeep::let_go(db, of, &untouched)?;
    let many = gone.len() as u64;
    touch(db, of, gone)?;
    Ok((many, went))
}

fn touch(db: &Transaction<'_>, of: i64, records: impl IntoIterator<Item = RecordId>) -> Done {
    let mut records = records.into_iter().peekable();
    if records.peek().is_none() {
        return Ok(());
    }
    let next = "UPDATE counters SET stamp = stamp + 1 WHERE of = ?1 RETURNING stamp";
    let stamp: i64 = db.prepare_cached(next)?.query_row([of], |row| row.get(0))?;
    let touch = "INSERT INTO touched (of, record, stamp) VALUES (?1, ?2, ?3)
        ON CONFLICT (of, record) DO UPDATE SET stamp = excluded.stamp";
    let mut touch = db.prepare_cached(touch)?;
    for record in records {
        touch.execute(params![of, record.as_bytes(), stamp])?;
    }
    Ok(())
}

pub(super) fn stage_anew(db: &Transaction<'_>, of: i64) -> Done {
    forget_staged(db, of)?;
    db.execute("UPDATE vaults SET revision = revision + 1 WHERE id = ?1", [of]).map(drop)
}

pub(super) fn stage(db: &Transaction<'_>, of: i64, new: &[Version], unread: &[Aside]) -> Done {
    versions(db, of, "staged_versions", new)?;
    aside(db, of, "staged_aside", unread)
}

fn forget_staged(db: &Transaction<'_>, of: i64) -> Done {
    db.execute("DELETE FROM staged_versions WHERE of = ?1", [of])?;
    db.execute("DELETE FROM staged_aside WHERE of = ?1", [of])?;
    Ok(())
}

pub(super) fn replace(db: &Transaction<'_>, of: i64, fresh: &Fresh) -> Done {
    let state = "UPDATE vaults SET revision = revision + 1, state = ?2, in_flight = ?3 WHERE id = ?1";
    db.execute(state, params![of, fresh.state, fresh.in_flight])?;
    db.execute("UPDATE counters SET stamp = stamp + 1, floor = stamp + 1 WHERE of = ?1", [of])?;
    for table in ["trail", "live", "frames", "versions", "aside", "elsewhere", "touched", "notes"] {
        db.execute(&format!("DELETE FROM {table} WHERE of = ?1"), [of])?;
    }
    db.execute("INSERT INTO versions SELECT * FROM staged_versions WHERE of = ?1", [of])?;
    db.execute("INSERT INTO aside SELECT * FROM staged_aside WHERE of = ?1", [of])?;
    forget_staged(db, of)?;
    trail(db, of, &fresh.trail)?;
    let mut insert = db.prepare("INSERT INTO live (of, record, changes) VALUES (?1, ?2, ?3)")?;
    for (record, changes) in &fresh.live {
        insert.execute(params![of, record.as_bytes(), changes])?;
    }
    heads(db, of, &fresh.heads)?;
    elsewhere(db, of, &fresh.elsewhere)?;
    keys(db, of, &fresh.keys)?;
    settlements(db, of, &fresh.settlements)?;
    for (seq, change) in &fresh.sent {
        sent(db, of, *seq, change.as_ref())?;
    }
    // What was lost comes before what was written later.
    if !fresh.again.is_empty() {
        let later = "SELECT seq, grp FROM outbox WHERE of = ?1 ORDER BY seq";
        let later = read::all(db, later, [of], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))?;
        let mut again = BTreeSet::new();
        for Again { write, collides } in &fresh.again {
            let seq = put_into_outbox(db, of, write, !again.insert(write.record), None)?;
            if *collides {
                let on_nothing = "UPDATE outbox SET base = x'' WHERE of = ?1 AND seq = ?2 AND base IS NOT NULL";
                db.execute(on_nothing, params![of, int(seq)])?;
            }
        }
        // What belonged together still does, under the new number of its first; where that was sent, as before.
        let mut groups = BTreeMap::new();
        for (seq, group) in later {
            let next = next_seq(db, of)?;
            if seq == group {
                groups.insert(group, next);
            }
            let group = groups.get(&group).copied().unwrap_or(group);
            let moved = "UPDATE outbox SET seq = ?3, grp = ?4 WHERE of = ?1 AND seq = ?2";
            db.execute(moved, params![of, seq, next, group])?;
        }
    }
    Ok(())
}

fn next_seq(db: &Transaction<'_>, of: i64) -> Done<i64> {
    let next = "UPDATE counters SET next_seq = next_seq + 1 WHERE of = ?1 RETURNING next_seq";
    db.prepare_cached(next)?.query_row([of], |row| row.get(0))
}

/// Whether a record was touched after a stamp, as far as that is known.
fn touched_since(db: &Transaction<'_>, of: i64, seen: u64, records: impl IntoIterator<Item = RecordId>) -> Done<bool> {
    let floor: i64 =
        db.prepare_cached("SELECT floor FROM counters WHERE of = ?1")?.query_row([of], |row| row.get(0))?;
    if int(seen) < floor {
        return Ok(true);
    }
    let mut later = db.prepare_cached("SELECT 1 FROM touched WHERE of = ?1 AND record = ?2 AND stamp > ?3")?;
    for record in records {
        if later.exists(params![of, record.as_bytes(), int(seen)])? {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(super) fn write_down(
    db: &Transaction<'_>,
    of: i64,
    seen: Option<u64>,
    writes: &[NewWrite],
    together: Together,
) -> Done<Option<Vec<u64>>> {
    if let Some(seen) = seen
        && touched_since(db, of, seen, writes.iter().map(|write| write.record))?
    {
        return Ok(None);
    }
    let mut seqs = Vec::with_capacity(writes.len());
    let mut own = db.prepare_cached("SELECT 1 FROM outbox WHERE of = ?1 AND record = ?2 LIMIT 1")?;
    for write in writes {
        let on_own = own.exists(params![of, write.record.as_bytes()])?;
        let group = seqs.first().copied().filter(|_| together == Together::AsOne);
        seqs.push(put_into_outbox(db, of, write, on_own, group)?);
    }
    touch(db, of, writes.iter().map(|write| write.record))?;
    Ok(Some(seqs))
}

fn put_into_outbox(db: &Transaction<'_>, of: i64, new: &NewWrite, on_own: bool, group: Option<u64>) -> Done<u64> {
    let record = new.record.as_bytes();
    let base = match on_own {
        true => None,
        false => Some(read::all(db, CURRENT, params![of, record], |row| row.get::<_, Vec<u8>>(0))?.concat()),
    };
    let seq = next_seq(db, of)?;
    let insert = "INSERT INTO outbox (of, seq, record, shelf, base, sealed, grp) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let group = group.map_or(seq, int);
    let given = params![of, seq, record, new.shelf.as_slice(), base, new.sealed, group];
    db.prepare_cached(insert)?.execute(given)?;
    Ok(u64::try_from(seq).unwrap_or_default())
}

pub(super) fn take_back(db: &Transaction<'_>, of: i64, seqs: &[u64]) -> Done {
    db.execute("UPDATE vaults SET revision = revision + 1 WHERE id = ?1", [of])?;
    let mut touched = BTreeSet::new();
    for seq in seqs {
        let gone = "DELETE FROM outbox WHERE of = ?1 AND seq = ?2 RETURNING record, base";
        let gone = db.query_row(gone, params![of, int(*seq)], |row| {
            Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Option<Vec<u8>>>(1)?))
        });
        let Some((record, base)) = gone.optional()? else { continue };
        db.execute(NEXT_OF_RECORD, params![of, record, base, int(*seq)])?;
        touched.extend(record_id(&record));
    }
    touch(db, of, touched)
}

pub(super) fn put_on_shelves(db: &Transaction<'_>, of: i64, seqs: &[(u64, Shelf)]) -> Done {
    let mut touched = BTreeSet::new();
    for (seq, shelf) in seqs {
        let put = "UPDATE outbox SET shelf = ?3 WHERE of = ?1 AND seq = ?2 RETURNING record";
        let record = db.query_row(put, params![of, int(*seq), shelf.as_slice()], |row| row.get::<_, Vec<u8>>(0));
        touched.extend(record.optional()?.as_deref().and_then(record_id));
    }
    touch(db, of, touched)
}

fn record_id(bytes: &[u8]) -> Option<RecordId> {
    bytes.try_into().ok().map(RecordId)
}

/// Says what the next write of a record is made on top of.
const NEXT_OF_RECORD: &str = "UPDATE outbox SET base = ?3 WHERE of = ?1 AND seq =
    (SELECT min(seq) FROM outbox WHERE of = ?1 AND record = ?2 AND seq > ?4)";

fn sent(db: &Transaction<'_>, of: i64, seq: u64, change: Option<&ChangeId>) -> Done<Option<RecordId>> {
    let gone = "DELETE FROM outbox WHERE of = ?1 AND seq = ?2 RETURNING record";
    let gone: Option<Vec<u8>> =
        db.prepare_cached(gone)?.query_row(params![of, int(seq)], |row| row.get(0)).optional()?;
    if let (Some(record), Some(change)) = (&gone, change) {
        db.prepare_cached(NEXT_OF_RECORD)?.execute(params![of, record, change.as_bytes(), int(seq)])?;
    }
    Ok(gone.as_deref().and_then(record_id))
}

pub(super) fn resolve(db: &Transaction<'_>, of: i64, settlement: u64) -> Done {
    let decided = "UPDATE settlements SET asked = NULL WHERE of = ?1 AND id = ?2 RETURNING record";
    let record: Option<Vec<u8>> = db.query_row(decided, params![of, int(settlement)], |row| row.get(0)).optional()?;
    touch(db, of, record.as_deref().and_then(record_id))
}

pub(super) fn keep_note(db: &Transaction<'_>, of: i64, name: &Shelf, sealed: &[u8]) -> Done {
    let keep = "INSERT OR REPLACE INTO notes (of, name, sealed) VALUES (?1, ?2, ?3)";
    db.execute(keep, params![of, name.as_slice(), sealed]).map(drop)
}

fn trail(db: &Transaction<'_>, of: i64, values: &[(u64, [u8; 32])]) -> Done {
    let mut insert = db.prepare("INSERT OR REPLACE INTO trail (of, n, h) VALUES (?1, ?2, ?3)")?;
    for (n, h) in values {
        insert.execute(params![of, int(*n), h.as_slice()])?;
    }
    Ok(())
}

fn live(db: &Transaction<'_>, of: i64, touched: &[(RecordId, Option<Vec<u8>>)]) -> Done {
    let insert = "INSERT INTO live (of, record, changes) VALUES (?1, ?2, ?3)
        ON CONFLICT (of, record) DO UPDATE SET changes = excluded.changes";
    let mut insert = db.prepare(insert)?;
    for (record, changes) in touched {
        match changes {
            Some(changes) => {
                insert.execute(params![of, record.as_bytes(), changes])?;
            }
            None => {
                for table in ["live", "versions", "elsewhere"] {
                    let gone = format!("DELETE FROM {table} WHERE of = ?1 AND record = ?2");
                    db.execute(&gone, params![of, record.as_bytes()])?;
                }
            }
        }
    }
    Ok(())
}

fn keys(db: &Transaction<'_>, of: i64, keys: &[(u32, Vec<u8>)]) -> Done {
    for (epoch, sealed) in keys {
        let insert = "INSERT OR REPLACE INTO keys (of, epoch, sealed) VALUES (?1, ?2, ?3)";
        db.execute(insert, params![of, epoch, sealed])?;
    }
    Ok(())
}

fn frames(db: &Transaction<'_>, of: i64, frames: &[KeptFrame]) -> Done {
    let insert = "INSERT INTO frames (of, n, received_ms, frame) VALUES (?1, ?2, ?3, ?4)
        ON CONFLICT (of, n) DO UPDATE SET received_ms = excluded.received_ms, frame = excluded.frame";
    let mut insert = db.prepare(insert)?;
    for frame in frames {
        insert.execute(params![of, int(frame.n), int(frame.received_ms), frame.frame])?;
    }
    Ok(())
}

fn versions(db: &Transaction<'_>, of: i64, table: &str, versions: &[Version]) -> Done {
    let mut insert = db.prepare(&format!(
        "INSERT INTO {table} (of, record, change, n, idx, shelf, user, device, unix_ms, current, sealed)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
         ON CONFLICT (of, record, change) DO UPDATE SET n = excluded.n, idx = excluded.idx, shelf = excluded.shelf,
            user = excluded.user, device = excluded.device, unix_ms = excluded.unix_ms, current = excluded.current,
            sealed = excluded.sealed"
    ))?;
    // Records have random names. In their order every page of the indexes is visited once.
    let mut versions: Vec<&Version> = versions.iter().collect();
    versions.sort_by_key(|version| version.record);
    for version in versions {
        insert.execute(params![
            of,
            version.record.as_bytes(),
            version.change.as_bytes(),
            int(version.n),
            version.index,
            version.shelf.as_slice(),
            version.user.as_bytes(),
            version.device.as_bytes(),
            int(version.unix_ms),
            version.current,
            version.sealed,
        ])?;
    }
    Ok(())
}

// The sign before the column keeps the planner from the index of all that is current, as in `read`.
const CURRENT: &str = "SELECT change FROM versions WHERE of = ?1 AND record = ?2 AND +current = 1 ORDER BY change";
const CLEAR: &str = "UPDATE versions SET current = 0 WHERE of = ?1 AND record = ?2 AND +current = 1";
const NEWEST: &str = "UPDATE versions SET current = 1 WHERE of = ?1 AND record = ?2 AND change =
    (SELECT change FROM versions WHERE of = ?1 AND record = ?2 ORDER BY n DESC, idx DESC LIMIT 1)";

#[cfg(test)]
pub(super) const OF_ONE_RECORD: [&str; 3] = [CURRENT, CLEAR, NEWEST];

/// Where no head of a record is kept, what was current stays so; and if nothing was, the newest is.
fn heads(db: &Transaction<'_>, of: i64, heads: &[(RecordId, Vec<ChangeId>)]) -> Done {
    let mut known = db.prepare("SELECT 1 FROM versions WHERE of = ?1 AND record = ?2 AND change = ?3")?;
    let mut clear = db.prepare(CLEAR)?;
    let mut set = db.prepare("UPDATE versions SET current = 1 WHERE of = ?1 AND record = ?2 AND change = ?3")?;
    let (mut current, mut newest) = (db.prepare(CURRENT)?, db.prepare(NEWEST)?);
    for (record, changes) in heads {
        let mut cleared = false;
        for change in changes {
            let one = params![of, record.as_bytes(), change.as_bytes()];
            if !known.exists(one)? {
                continue;
            }
            if !cleared {
                clear.execute(params![of, record.as_bytes()])?;
                cleared = true;
            }
            set.execute(one)?;
        }
        if !cleared && !current.exists(params![of, record.as_bytes()])? {
            newest.execute(params![of, record.as_bytes()])?;
        }
    }
    Ok(())
}

fn aside(db: &Transaction<'_>, of: i64, table: &str, unread: &[Aside]) -> Done {
    let mut insert = db.prepare(&format!(
        "INSERT OR REPLACE INTO {table} (of, change, record, n, epoch, unix_ms, reason, item, payload)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)"
    ))?;
    for aside in unread {
        insert.execute(params![
            of,
            aside.change.as_bytes(),
            aside.record.as_bytes(),
            int(aside.n),
            aside.epoch,
            int(aside.unix_ms),
            aside.reason,
            aside.item,
            aside.payload,
        ])?;
    }
    Ok(())
}

fn settlements(db: &Transaction<'_>, of: i64, settled: &[Settlement]) -> Done {
    let insert = "INSERT INTO settlements (of, record, lost, won, at_ms, how, asked)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    for one in settled {
        let (record, lost, won) = (one.record.as_bytes(), one.lost.as_bytes(), one.won.as_bytes());
        db.execute(insert, params![of, record, lost, won, int(one.at_ms), one.how, one.asked])?;
    }
    Ok(())
}
