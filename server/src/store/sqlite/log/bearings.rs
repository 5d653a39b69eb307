//! Where logs stand, and by what their next entries are judged.

use super::{Conn, portable};
use crate::store::columns;
use crate::store::failure::{Failure, Outcome};
use crate::store::schema::{vault_changes, vault_entries, vault_states, vaults};
use crate::store::{Bearings, LiveRow, Place, Question};
use diesel::{BoolExpressionMethods as _, ExpressionMethods as _, OptionalExtension as _, QueryDsl as _};
use diesel_async::RunQueryDsl as _;
use portable::{LIVE_COLUMNS, LiveColumns, head_of, live_row};
use selkie_protocol::id::{ChangeId, RecordId};
use selkie_protocol::log::Frame;

pub(super) async fn positions(conn: &mut Conn, places: &[Place]) -> Outcome<Vec<u64>> {
    let mut positions = Vec::with_capacity(places.len());
    for at in places {
        let n: Option<i64> = vaults::table
            .find((at.tenant.0, columns::vault(at.vault)))
            .select(vaults::n)
            .first(conn)
            .await
            .optional()?;
        positions.push(columns::count(n.unwrap_or_default())?);
    }
    Ok(positions)
}

pub(super) async fn bearings(conn: &mut Conn, questions: &[Question]) -> Outcome<Vec<Option<Bearings>>> {
    let mut answers = Vec::with_capacity(questions.len());
    for question in questions {
        answers.push(one(conn, question).await?);
    }
    Ok(answers)
}

async fn one(conn: &mut Conn, question: &Question) -> Outcome<Option<Bearings>> {
    let Question { at, known, records, differences, chain } = question;
    let Some(head) = head_of(conn, *at).await? else { return Ok(None) };
    let state = if *known == Some(head.n) { None } else { Some(state(conn, *at).await?) };
    let mut live = live(conn, *at, records).await?;
    for (record, named) in differences {
        live.extend(live_of_a_document(conn, *at, record, named).await?);
    }
    live.sort_unstable_by_key(|row| (row.record, row.change));
    Ok(Some(Bearings { head, state, live, chain: chain_at(conn, *at, chain).await? }))
}

/// The newest state that was kept, and the entries that bring it up to the head.
async fn state(conn: &mut Conn, at: Place) -> Outcome<(Vec<u8>, Vec<Vec<u8>>)> {
    let (tenant, vault) = (at.tenant.0, columns::vault(at.vault));
    let (n, state): (i64, Vec<u8>) = vault_states::table
        .find((tenant, vault))
        .select((vault_states::n, vault_states::state))
        .first(conn)
        .await
        .optional()?
        .ok_or(Failure::corrupt("vault without a state"))?;
    let frames: Vec<Vec<u8>> = vault_entries::table
        .filter(vault_entries::tenant.eq(tenant))
        .filter(vault_entries::vault.eq(vault))
        .filter(vault_entries::n.gt(n))
        .order(vault_entries::n)
        .select(vault_entries::frame)
        .load(conn)
        .await?;
    let entries = frames
        .iter()
        .map(|frame| Frame::entry_bytes(frame).map(<[u8]>::to_vec).map_err(|_| Failure::corrupt("frame")))
        .collect::<Outcome<_>>()?;
    Ok((state, entries))
}

async fn live(conn: &mut Conn, at: Place, records: &[RecordId]) -> Outcome<Vec<LiveRow>> {
    if records.is_empty() {
        return Ok(Vec::new());
    }
    let live = vault_changes::table
        .filter(vault_changes::tenant.eq(at.tenant.0))
        .filter(vault_changes::vault.eq(columns::vault(at.vault)))
        .filter(vault_changes::superseded_at.is_null())
        .order((vault_changes::record, vault_changes::change))
        .select(LIVE_COLUMNS);
    let rows: Vec<LiveColumns> = match records {
        // The most frequent of all pushes; and a statement without a list is prepared once.
        [record] => live.filter(vault_changes::record.eq(record.0)).load(conn).await?,
        records => live.filter(vault_changes::record.eq_any(records.iter().map(|record| record.0))).load(conn).await?,
    };
    rows.into_iter().map(|row| live_row(row, i64::MAX)).collect()
}

/// The heads, the whole write, and what is named.
async fn live_of_a_document(
    conn: &mut Conn,
    at: Place,
    record: &RecordId,
    named: &[ChangeId],
) -> Outcome<Vec<LiveRow>> {
    let named = vault_changes::change.eq_any(named.iter().map(|change| change.0));
    let rows: Vec<LiveColumns> = vault_changes::table
        .filter(vault_changes::tenant.eq(at.tenant.0))
        .filter(vault_changes::vault.eq(columns::vault(at.vault)))
        .filter(vault_changes::record.eq(record.0))
        .filter(vault_changes::superseded_at.is_null())
        .filter(vault_changes::unheaded_at.is_null().or(vault_changes::whole).or(named))
        .select(LIVE_COLUMNS)
        .load(conn)
        .await?;
    rows.into_iter().map(|row| live_row(row, i64::MAX)).collect()
}

async fn chain_at(conn: &mut Conn, at: Place, positions: &[u64]) -> Outcome<Vec<(u64, [u8; 32])>> {
    if positions.is_empty() {
        return Ok(Vec::new());
    }
    let (tenant, vault) = (at.tenant.0, columns::vault(at.vault));
    let mut found = Vec::with_capacity(positions.len());
    if positions.contains(&0) {
        // Nothing stands at 0, but the chain begins there, with the vault's name.
        let vid: Vec<u8> = vaults::table.find((tenant, vault)).select(vaults::vid).first(conn).await?;
        found.push((0, columns::fixed(vid, "vault id")?));
    }
    let rows: Vec<(i64, Vec<u8>)> = vault_entries::table
        .filter(vault_entries::tenant.eq(tenant))
        .filter(vault_entries::vault.eq(vault))
        .filter(vault_entries::n.eq_any(positions.iter().map(|n| columns::position(*n))))
        .order(vault_entries::n)
        .select((vault_entries::n, vault_entries::h))
        .load(conn)
        .await?;
    for (n, h) in rows {
        found.push((columns::count(n)?, columns::fixed(h, "chain value")?));
    }
    Ok(found)
}
