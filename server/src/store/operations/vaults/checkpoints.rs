//! Checkpoints: which can be begun from, and which wait to be prepared.

use super::{Conn, head_of};
use crate::store::columns;
use crate::store::failure::{Failure, Outcome};
use crate::store::schema::{vault_checkpoints, vaults};
use crate::store::{CheckpointRow, Place, Tenant, VaultNumber};
use diesel::{ExpressionMethods as _, QueryDsl as _};
use diesel_async::RunQueryDsl as _;

pub(super) async fn add(conn: &mut Conn, at: Place, checkpoint: &CheckpointRow, keep: u32) -> Outcome<Vec<u64>> {
    let (tenant, vault, n) = (at.tenant.0, columns::vault(at.vault), columns::position(checkpoint.n));
    head_of(conn, at).await?.ok_or(Failure::not_found("vault"))?;
    diesel::insert_into(vault_checkpoints::table)
        .values((
            vault_checkpoints::tenant.eq(tenant),
            vault_checkpoints::vault.eq(vault),
            vault_checkpoints::n.eq(n),
            vault_checkpoints::page_hashes.eq(&checkpoint.page_hashes),
        ))
        .on_conflict((vault_checkpoints::tenant, vault_checkpoints::vault, vault_checkpoints::n))
        .do_update()
        .set(vault_checkpoints::page_hashes.eq(&checkpoint.page_hashes))
        .execute(conn)
        .await?;
    let there: Vec<i64> = vault_checkpoints::table
        .filter(vault_checkpoints::tenant.eq(tenant))
        .filter(vault_checkpoints::vault.eq(vault))
        .order(vault_checkpoints::n.desc())
        .select(vault_checkpoints::n)
        .load(conn)
        .await?;
    let forgotten = there.get(keep as usize..).unwrap_or_default();
    diesel::delete(vault_checkpoints::table.filter(vault_checkpoints::tenant.eq(tenant)))
        .filter(vault_checkpoints::vault.eq(vault))
        .filter(vault_checkpoints::n.eq_any(forgotten))
        .execute(conn)
        .await?;
    // Last, because pushes wait for this row.
    diesel::update(vaults::table.find((tenant, vault)))
        .filter(vaults::prepared.lt(n))
        .set(vaults::prepared.eq(n))
        .execute(conn)
        .await?;
    forgotten.iter().map(|n| columns::count(*n)).collect()
}

pub(super) async fn all(conn: &mut Conn, at: Place) -> Outcome<Vec<CheckpointRow>> {
    let rows: Vec<(i64, Vec<u8>)> = vault_checkpoints::table
        .filter(vault_checkpoints::tenant.eq(at.tenant.0))
        .filter(vault_checkpoints::vault.eq(columns::vault(at.vault)))
        .order(vault_checkpoints::n.desc())
        .select((vault_checkpoints::n, vault_checkpoints::page_hashes))
        .load(conn)
        .await?;
    rows.into_iter().map(|(n, page_hashes)| Ok(CheckpointRow { n: columns::count(n)?, page_hashes })).collect()
}

pub(super) async fn to_prepare(conn: &mut Conn, limit: u32) -> Outcome<Vec<(Place, u64)>> {
    let rows: Vec<(i64, i32, i64)> = vaults::table
        .filter(vaults::checkpoint.gt(vaults::prepared))
        .order((vaults::tenant, vaults::vault))
        .limit(i64::from(limit))
        .select((vaults::tenant, vaults::vault, vaults::checkpoint))
        .load(conn)
        .await?;
    let place = |tenant, vault: i32| Place { tenant: Tenant(tenant), vault: VaultNumber(vault.into()) };
    rows.into_iter().map(|(tenant, vault, n)| Ok((place(tenant, vault), columns::count(n)?))).collect()
}
