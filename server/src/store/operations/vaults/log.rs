//! Reads logs: pages of frames, and what is asked of single entries.

use super::{Conn, head_of};
use crate::store::columns;
use crate::store::failure::{Failure, Outcome};
use crate::store::schema::{vault_entries, vaults};
use crate::store::{PageLimits, Place, StoredFrame};
use diesel::{ExpressionMethods as _, OptionalExtension as _, QueryDsl as _};
use diesel_async::RunQueryDsl as _;
use selkie_protocol::id::DeviceId;
use selkie_protocol::log::Frame;

diesel::define_sql_function! {
    /// How long bytes are, without reading them.
    fn octet_length(bytes: diesel::sql_types::Binary) -> diesel::sql_types::Integer;
}

diesel::define_sql_function! {
    /// Some of the bytes, the first one being number one, without reading the others.
    fn substr(bytes: diesel::sql_types::Binary, from: diesel::sql_types::Integer, count: diesel::sql_types::Integer)
        -> diesel::sql_types::Binary;
}

pub(super) async fn controls_after(
    conn: &mut Conn,
    at: Place,
    after: u64,
    limits: PageLimits,
) -> Outcome<Vec<StoredFrame>> {
    page(conn, at, after, limits, true).await
}

/// Of each frame only its first four bytes, which say how long the entry is, and then no more than the longest entry of
/// the page takes: nothing of a longer frame is read beyond that.
pub(super) async fn entries_alone_after(
    conn: &mut Conn,
    at: Place,
    after: u64,
    limits: PageLimits,
) -> Outcome<Vec<(u64, Vec<u8>)>> {
    let lengths: Vec<(i64, Vec<u8>)> = of(at)
        .filter(vault_entries::n.gt(columns::position(after)))
        .order(vault_entries::n)
        .limit(i64::from(limits.entries.max(1)))
        .select((vault_entries::n, substr(vault_entries::frame, 1, 4)))
        .load(conn)
        .await?;
    let lengths = lengths.into_iter().map(|(n, length)| Ok((n, entry_length(&length)?)));
    let lengths: Vec<(i64, i32)> = lengths.collect::<Outcome<_>>()?;
    let Some(last) = last_that_fits(&lengths, limits.bytes) else { return Ok(Vec::new()) };
    let longest = lengths.iter().filter(|(n, _)| *n <= last).map(|(_, length)| *length).max().unwrap_or(0);
    let rows: Vec<(i64, Vec<u8>)> = of(at)
        .filter(vault_entries::n.gt(columns::position(after)))
        .filter(vault_entries::n.le(last))
        .order(vault_entries::n)
        .select((vault_entries::n, substr(vault_entries::frame, 1, longest.saturating_add(4))))
        .load(conn)
        .await?;
    let alone = |(n, beginning): (i64, Vec<u8>)| {
        let entry = Frame::entry_bytes(&beginning).map_err(|_| Failure::corrupt("frame"))?;
        Ok((columns::count(n)?, entry.to_vec()))
    };
    rows.into_iter().map(alone).collect()
}

fn entry_length(beginning: &[u8]) -> Outcome<i32> {
    let length = beginning.try_into().map(i32::from_be_bytes).map_err(|_| Failure::corrupt("frame"))?;
    if length < 0 { Err(Failure::corrupt("frame")) } else { Ok(length) }
}

/// Lengths first, so that no more frames are read than the page may have.
pub(in crate::store) async fn page(
    conn: &mut Conn,
    at: Place,
    after: u64,
    limits: PageLimits,
    only_controls: bool,
) -> Outcome<Vec<StoredFrame>> {
    let mut lengths = of(at).filter(vault_entries::n.gt(columns::position(after))).into_boxed();
    if only_controls {
        lengths = lengths.filter(vault_entries::kind.eq(columns::CONTROL));
    }
    let lengths: Vec<(i64, i32)> = lengths
        .order(vault_entries::n)
        .limit(i64::from(limits.entries.max(1)))
        .select((vault_entries::n, octet_length(vault_entries::frame)))
        .load(conn)
        .await?;
    let Some(last) = last_that_fits(&lengths, limits.bytes) else { return Ok(Vec::new()) };
    let mut frames =
        of(at).filter(vault_entries::n.gt(columns::position(after))).filter(vault_entries::n.le(last)).into_boxed();
    if only_controls {
        frames = frames.filter(vault_entries::kind.eq(columns::CONTROL));
    }
    let rows: Vec<(i64, Vec<u8>)> =
        frames.order(vault_entries::n).select((vault_entries::n, vault_entries::frame)).load(conn).await?;
    rows.into_iter().map(|(n, frame)| Ok(StoredFrame { n: columns::count(n)?, frame })).collect()
}

/// The first one always fits, however long it is.
fn last_that_fits(lengths: &[(i64, i32)], bytes: u64) -> Option<i64> {
    let mut total = 0u64;
    let fitting = lengths.iter().take_while(|(_, length)| {
        let first = total == 0;
        total = total.saturating_add(u64::from(length.unsigned_abs()).max(1));
        first || total <= bytes
    });
    fitting.last().map(|(n, _)| *n)
}

#[diesel::dsl::auto_type(no_type_alias)]
fn of(at: Place) -> _ {
    let tenant: i64 = at.tenant.0;
    let vault: i32 = columns::vault(at.vault);
    vault_entries::table.filter(vault_entries::tenant.eq(tenant)).filter(vault_entries::vault.eq(vault))
}

pub(super) async fn entry_hashes(conn: &mut Conn, at: Place, from: u64, to: u64) -> Outcome<Vec<[u8; 32]>> {
    let rows: Vec<Vec<u8>> = of(at)
        .filter(vault_entries::n.ge(columns::position(from)))
        .filter(vault_entries::n.le(columns::position(to)))
        .order(vault_entries::n)
        .select(vault_entries::hash)
        .load(conn)
        .await?;
    rows.into_iter().map(|hash| columns::fixed(hash, "entry hash")).collect()
}

pub(super) async fn chain_value(conn: &mut Conn, at: Place, n: u64) -> Outcome<Option<[u8; 32]>> {
    let value: Option<Vec<u8>> = if n == 0 {
        let name = vaults::table.find((at.tenant.0, columns::vault(at.vault))).select(vaults::vid);
        name.first(conn).await.optional()?
    } else {
        of(at)
            .filter(vault_entries::n.eq(columns::position(n)))
            .select(vault_entries::h)
            .first(conn)
            .await
            .optional()?
    };
    value.map(|value| columns::fixed(value, "chain value")).transpose()
}

pub(super) async fn entry_of(
    conn: &mut Conn,
    at: Place,
    device: DeviceId,
    dev_seq: u64,
    lookback: u64,
) -> Outcome<Option<(u64, [u8; 32])>> {
    let Some(head) = head_of(conn, at).await? else { return Ok(None) };
    let row: Option<(i64, Vec<u8>)> = of(at)
        .filter(vault_entries::n.gt(columns::position(head.n.saturating_sub(lookback))))
        .filter(vault_entries::device.eq(device.0))
        .filter(vault_entries::dev_seq.eq(columns::position(dev_seq)))
        .order(vault_entries::n.desc())
        .select((vault_entries::n, vault_entries::hash))
        .first(conn)
        .await
        .optional()?;
    row.map(|(n, hash)| Ok((columns::count(n)?, columns::fixed(hash, "entry hash")?))).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_ends_before_it_is_too_long_but_is_never_empty() {
        let lengths = [(5, 100), (6, 100), (9, 100)];
        assert_eq!(last_that_fits(&lengths, 0), Some(5));
        assert_eq!(last_that_fits(&lengths, 199), Some(5));
        assert_eq!(last_that_fits(&lengths, 200), Some(6));
        assert_eq!(last_that_fits(&lengths, u64::MAX), Some(9));
        assert_eq!(last_that_fits(&[], 7), None);
    }
}
