//! Makes vaults and finds them.

use super::{Conn, VAULT_COLUMNS, VaultColumns, append, lock_account, people, vault_row};
use crate::store::columns;
use crate::store::failure::{Failure, Outcome};
use crate::store::schema::{tenants, vault_members, vault_states, vault_upkeep, vaults};
use crate::store::{AccountNumber, NewVault, Place, Refused, Tenant, VaultNumber, VaultRow};
use diesel::{ExpressionMethods as _, OptionalExtension as _, QueryDsl as _};
use diesel_async::RunQueryDsl as _;
use selkie_protocol::id::VaultId;

pub(super) async fn create(conn: &mut Conn, tenant: Tenant, new: &NewVault) -> Outcome<VaultNumber> {
    let NewVault { vid, app, creator, entry, state, wraps, max_vaults } = new;
    lock_account(conn, tenant, *creator).await?;
    // Held until the end, so that neither the name nor the last place can be taken in between.
    let vault: i32 = diesel::update(tenants::table.find(tenant.0))
        .set(tenants::last_vault.eq(tenants::last_vault + 1))
        .returning(tenants::last_vault)
        .get_result(conn)
        .await
        .optional()?
        .ok_or(Failure::not_found("tenant"))?;
    if named(conn, tenant, vid).await?.is_some() {
        return Err(Refused::IdTaken("vault").into());
    }
    keep_to_limit(conn, tenant, *creator, *max_vaults).await?;

    let at = Place { tenant, vault: VaultNumber(vault.into()) };
    let (n, h) = (columns::position(entry.head.n), entry.head.h);
    diesel::insert_into(vaults::table)
        .values((
            vaults::tenant.eq(tenant.0),
            vaults::vault.eq(vault),
            vaults::vid.eq(vid.as_bytes()),
            vaults::app.eq(app),
            vaults::made_by.eq(creator.0),
            vaults::created_at.eq(entry.received_at),
            vaults::n.eq(n),
            vaults::h.eq(h),
            vaults::bytes.eq(entry.frame.len() as i64),
        ))
        .execute(conn)
        .await?;
    diesel::insert_into(vault_upkeep::table)
        .values((vault_upkeep::tenant.eq(tenant.0), vault_upkeep::vault.eq(vault)))
        .execute(conn)
        .await?;
    diesel::insert_into(vault_states::table)
        .values((
            vault_states::tenant.eq(tenant.0),
            vault_states::vault.eq(vault),
            vault_states::n.eq(n),
            vault_states::state.eq(state),
        ))
        .execute(conn)
        .await?;
    append::insert_entry(conn, at, entry).await?;
    diesel::insert_into(vault_members::table)
        .values((
            vault_members::tenant.eq(tenant.0),
            vault_members::account.eq(creator.0),
            vault_members::vault.eq(vault),
            vault_members::present.eq(true),
        ))
        .execute(conn)
        .await?;
    people::add_wraps(conn, at, wraps).await?;
    Ok(at.vault)
}

async fn keep_to_limit(
    conn: &mut Conn,
    tenant: Tenant,
    creator: AccountNumber,
    max_vaults: Option<i64>,
) -> Outcome<()> {
    let Some(limit) = max_vaults else { return Ok(()) };
    let made: i64 = vaults::table
        .filter(vaults::tenant.eq(tenant.0))
        .filter(vaults::made_by.eq(creator.0))
        .count()
        .get_result(conn)
        .await?;
    if made >= limit { Err(Refused::LimitReached("vaults").into()) } else { Ok(()) }
}

pub(super) async fn named(conn: &mut Conn, tenant: Tenant, vid: &VaultId) -> Outcome<Option<VaultRow>> {
    let row: Option<VaultColumns> = vaults::table
        .filter(vaults::tenant.eq(tenant.0))
        .filter(vaults::vid.eq(vid.as_bytes()))
        .select(VAULT_COLUMNS)
        .first(conn)
        .await
        .optional()?;
    row.map(vault_row).transpose()
}
