//! What was live when.

use super::Conn;
use crate::store::columns;
use crate::store::failure::Outcome;
use crate::store::schema::vault_changes;
use crate::store::{LiveRow, Place};
use diesel::{BoolExpressionMethods as _, ExpressionMethods as _, QueryDsl as _};
use diesel_async::RunQueryDsl as _;
use selkie_protocol::id::{ChangeId, RecordId};

pub(in crate::store) type LiveColumns = (Vec<u8>, i64, Vec<u8>, bool, Option<i64>);
pub(in crate::store) const LIVE_COLUMNS: (
    vault_changes::record,
    vault_changes::place,
    vault_changes::change,
    vault_changes::whole,
    vault_changes::unheaded_at,
) = (
    vault_changes::record,
    vault_changes::place,
    vault_changes::change,
    vault_changes::whole,
    vault_changes::unheaded_at,
);

/// A live change, as of a position.
pub(in crate::store) fn live_row((record, place, change, full, unheaded_at): LiveColumns, n: i64) -> Outcome<LiveRow> {
    let head = unheaded_at.is_none_or(|at| at > n);
    let (n, index) = columns::placed(place)?;
    Ok(LiveRow { record: columns::record(record)?, change: columns::change(change)?, n, index, full, head })
}

pub(super) async fn live_at(
    conn: &mut Conn,
    at: Place,
    n: u64,
    after: Option<(RecordId, ChangeId)>,
    limit: u32,
) -> Outcome<Vec<LiveRow>> {
    let position = columns::position(n);
    let (record, change) = after.map_or((None, None), |(record, change)| (Some(record), Some(change)));
    let live = vault_changes::table
        .filter(vault_changes::tenant.eq(at.tenant.0))
        .filter(vault_changes::vault.eq(columns::vault(at.vault)))
        .filter(vault_changes::place.lt(columns::place_after(n)))
        .filter(vault_changes::superseded_at.is_null().or(vault_changes::superseded_at.gt(position)))
        .order((vault_changes::record, vault_changes::change))
        .limit(i64::from(limit))
        .select(LIVE_COLUMNS);
    let rows: Vec<LiveColumns> = match (record, change) {
        (Some(record), Some(change)) => {
            // Said twice, so that the index knows where to begin.
            live.filter(vault_changes::record.ge(record.0))
                .filter(vault_changes::record.gt(record.0).or(vault_changes::change.gt(change.0)))
                .load(conn)
                .await?
        }
        _ => live.load(conn).await?,
    };
    rows.into_iter().map(|row| live_row(row, position)).collect()
}
