//! Who is in which vault, the keys sealed to them, their public logs, and what becomes of vaults when somebody goes.

use super::{Conn, VAULT_COLUMNS, VaultColumns, head, lock_vault, vault_row};
use crate::store::columns;
use crate::store::failure::{Failure, Outcome};
use crate::store::schema::{
    account_log, accounts, departed_from, departed_logs, vault_entries, vault_members, vault_wraps, vaults,
};
use crate::store::{AccountNumber, Millis, Place, Tenant, VaultNumber, VaultRow, WrapRow};
use diesel::{
    BoolExpressionMethods as _, ExpressionMethods as _, JoinOnDsl as _, NullableExpressionMethods as _,
    OptionalExtension as _, QueryDsl as _,
};
use diesel_async::RunQueryDsl as _;
use selkie_protocol::id::UserId;
use selkie_protocol::log::Head;
use std::collections::{BTreeSet, HashMap};

pub(in crate::store) async fn vaults_of(
    conn: &mut Conn,
    tenant: Tenant,
    account: AccountNumber,
) -> Outcome<Vec<VaultRow>> {
    let rows: Vec<VaultColumns> = vaults::table
        .inner_join(
            vault_members::table
                .on(vault_members::tenant.eq(vaults::tenant).and(vault_members::vault.eq(vaults::vault))),
        )
        .filter(vault_members::tenant.eq(tenant.0))
        .filter(vault_members::account.eq(account.0))
        .filter(vault_members::present.eq(true))
        .order(vaults::vault)
        .select(VAULT_COLUMNS)
        .load(conn)
        .await?;
    rows.into_iter().map(vault_row).collect()
}

/// Numbers of accounts by their public names; who has no account here is left out.
async fn numbers(conn: &mut Conn, tenant: Tenant, users: &[UserId]) -> Outcome<HashMap<UserId, i64>> {
    let rows: Vec<(Option<Vec<u8>>, i64)> = accounts::table
        .filter(accounts::tenant.eq(tenant.0))
        .filter(accounts::uid.eq_any(users.iter().map(|user| user.0)))
        .select((accounts::uid, accounts::account))
        .load(conn)
        .await?;
    let named = rows.into_iter().map(|(uid, account)| Ok(columns::user(uid)?.map(|uid| (uid, account))));
    named.filter_map(Outcome::transpose).collect()
}

/// Makes these, as far as they have accounts here, the members of a vault, and nobody else. Of those who were removed,
/// it is kept by which entry.
pub(super) async fn set_members(
    conn: &mut Conn,
    at: Place,
    users: &[UserId],
    removed: &[(UserId, u64)],
) -> Outcome<()> {
    let (tenant, vault) = (at.tenant.0, columns::vault(at.vault));
    let mut members: Vec<i64> = numbers(conn, at.tenant, users).await?.into_values().collect();
    members.sort_unstable();
    let gone: Vec<UserId> = removed.iter().map(|(user, _)| *user).collect();
    let gone = if gone.is_empty() { HashMap::new() } else { numbers(conn, at.tenant, &gone).await? };
    diesel::update(vault_members::table.filter(vault_members::tenant.eq(tenant)))
        .filter(vault_members::vault.eq(vault))
        .filter(vault_members::account.ne_all(&members))
        .set(vault_members::present.eq(false))
        .execute(conn)
        .await?;
    for member in members {
        diesel::insert_into(vault_members::table)
            .values((
                vault_members::tenant.eq(tenant),
                vault_members::account.eq(member),
                vault_members::vault.eq(vault),
                vault_members::present.eq(true),
            ))
            .on_conflict((vault_members::tenant, vault_members::account, vault_members::vault))
            .do_update()
            .set((vault_members::present.eq(true), vault_members::removed_at.eq(None::<i64>)))
            .execute(conn)
            .await?;
    }
    // Whoever came and went within the same entries was not here before. Who was let in again since has not gone.
    for (user, n) in removed.iter().filter(|(user, _)| !users.contains(user)) {
        let Some(account) = gone.get(user) else { continue };
        let removed_at = columns::position(*n);
        diesel::insert_into(vault_members::table)
            .values((
                vault_members::tenant.eq(tenant),
                vault_members::account.eq(account),
                vault_members::vault.eq(vault),
                vault_members::present.eq(false),
                vault_members::removed_at.eq(removed_at),
            ))
            .on_conflict((vault_members::tenant, vault_members::account, vault_members::vault))
            .do_update()
            .set((vault_members::present.eq(false), vault_members::removed_at.eq(removed_at)))
            .execute(conn)
            .await?;
    }
    Ok(())
}

pub(super) async fn removal_of(conn: &mut Conn, at: Place, account: AccountNumber) -> Outcome<Option<(Head, Millis)>> {
    let row: Option<(i64, Vec<u8>, Millis)> = vault_members::table
        .inner_join(
            vault_entries::table.on(vault_entries::tenant
                .eq(vault_members::tenant)
                .and(vault_entries::vault.eq(vault_members::vault))
                .and(vault_members::removed_at.eq(vault_entries::n.nullable()))),
        )
        .filter(vault_members::tenant.eq(at.tenant.0))
        .filter(vault_members::account.eq(account.0))
        .filter(vault_members::vault.eq(columns::vault(at.vault)))
        .filter(vault_members::present.eq(false))
        .select((vault_entries::n, vault_entries::h, vault_entries::received_at))
        .first(conn)
        .await
        .optional()?;
    row.map(|(n, h, received_at)| Ok((head(n, h)?, received_at))).transpose()
}

pub(super) async fn wraps(conn: &mut Conn, at: Place, account: AccountNumber) -> Outcome<Vec<WrapRow>> {
    type Row = (Option<Vec<u8>>, i64, i64, Vec<u8>);
    let rows: Vec<Row> = vault_wraps::table
        .inner_join(
            accounts::table
                .on(accounts::tenant.eq(vault_wraps::tenant).and(accounts::account.eq(vault_wraps::account))),
        )
        .filter(vault_wraps::tenant.eq(at.tenant.0))
        .filter(vault_wraps::vault.eq(columns::vault(at.vault)))
        .filter(vault_wraps::account.eq(account.0))
        .order((vault_wraps::epoch, vault_wraps::generation))
        .select((accounts::uid, vault_wraps::epoch, vault_wraps::generation, vault_wraps::sealed))
        .load(conn)
        .await?;
    rows.into_iter()
        .map(|(uid, epoch, generation, sealed)| {
            let user = columns::user(uid)?.ok_or(Failure::corrupt("key of somebody without keys"))?;
            let (epoch, generation) = (columns::small(epoch, "epoch")?, columns::small(generation, "generation")?);
            Ok(WrapRow { user, epoch, generation, sealed })
        })
        .collect()
}

pub(super) async fn add_wraps(conn: &mut Conn, at: Place, wraps: &[WrapRow]) -> Outcome<()> {
    let added = add_wraps_of_those_here(conn, at, wraps).await?;
    if added < wraps.len() { Err(Failure::not_found("member")) } else { Ok(()) }
}

/// How many of these keys are for people who have an account here, and are kept.
pub(super) async fn add_wraps_of_those_here(conn: &mut Conn, at: Place, wraps: &[WrapRow]) -> Outcome<usize> {
    if wraps.is_empty() {
        return Ok(0);
    }
    let users: Vec<UserId> = wraps.iter().map(|wrap| wrap.user).collect();
    let numbers = numbers(conn, at.tenant, &users).await?;
    let mut added = 0;
    for WrapRow { user, epoch, generation, sealed } in wraps {
        let Some(account) = numbers.get(user) else { continue };
        diesel::insert_into(vault_wraps::table)
            .values((
                vault_wraps::tenant.eq(at.tenant.0),
                vault_wraps::vault.eq(columns::vault(at.vault)),
                vault_wraps::account.eq(account),
                vault_wraps::epoch.eq(i64::from(*epoch)),
                vault_wraps::generation.eq(i64::from(*generation)),
                vault_wraps::sealed.eq(sealed),
            ))
            .on_conflict((
                vault_wraps::tenant,
                vault_wraps::vault,
                vault_wraps::account,
                vault_wraps::epoch,
                vault_wraps::generation,
            ))
            .do_update()
            .set(vault_wraps::sealed.eq(sealed))
            .execute(conn)
            .await?;
        added += 1;
    }
    Ok(added)
}

/// The public log of somebody who has an account here, or whose log was kept when they went.
pub(super) async fn log_of(
    conn: &mut Conn,
    tenant: Tenant,
    user: UserId,
    from: u64,
    limit: u32,
) -> Outcome<Option<(Vec<Vec<u8>>, u64)>> {
    let account: Option<(i64, i64)> = accounts::table
        .filter(accounts::tenant.eq(tenant.0))
        .filter(accounts::uid.eq(user.0))
        .select((accounts::account, accounts::log_length))
        .first(conn)
        .await
        .optional()?;
    if let Some((account, length)) = account {
        let entries = account_log::table
            .filter(account_log::tenant.eq(tenant.0))
            .filter(account_log::account.eq(account))
            .filter(account_log::position.ge(columns::position(from)))
            .order(account_log::position)
            .limit(i64::from(limit))
            .select(account_log::entry)
            .load(conn)
            .await?;
        return Ok(Some((entries, columns::count(length)?)));
    }
    let departed =
        || departed_logs::table.filter(departed_logs::tenant.eq(tenant.0)).filter(departed_logs::uid.eq(user.0));
    let length: i64 = departed().count().get_result(conn).await?;
    if length == 0 {
        return Ok(None);
    }
    let entries = departed()
        .filter(departed_logs::position.ge(columns::position(from)))
        .order(departed_logs::position)
        .limit(i64::from(limit))
        .select(departed_logs::entry)
        .load(conn)
        .await?;
    Ok(Some((entries, columns::count(length)?)))
}

/// Vaults that an account is alone in.
pub(super) async fn left_empty_by(conn: &mut Conn, tenant: Tenant, account: AccountNumber) -> Outcome<Vec<VaultRow>> {
    let mut alone = Vec::new();
    for vault in vaults_of(conn, tenant, account).await? {
        let others: i64 = vault_members::table
            .filter(vault_members::tenant.eq(tenant.0))
            .filter(vault_members::vault.eq(columns::vault(vault.vault)))
            .filter(vault_members::account.ne(account.0))
            .filter(vault_members::present.eq(true))
            .count()
            .get_result(conn)
            .await?;
        if others == 0 {
            alone.push(vault);
        }
    }
    Ok(alone)
}

/// Takes an account out of all vaults before it is deleted: removes those that nobody else is in, and leaves its public
/// log with the others. The account is locked; all its vaults are taken first, in their order, so that nobody can be
/// added to one that is about to go.
pub(in super::super) async fn depart(conn: &mut Conn, tenant: Tenant, account: AccountNumber) -> Outcome<()> {
    let was_in: Vec<i32> = vault_members::table
        .filter(vault_members::tenant.eq(tenant.0))
        .filter(vault_members::account.eq(account.0))
        .select(vault_members::vault)
        .load(conn)
        .await?;
    let made: Vec<i32> = vaults::table
        .filter(vaults::tenant.eq(tenant.0))
        .filter(vaults::made_by.eq(account.0))
        .select(vaults::vault)
        .load(conn)
        .await?;
    for vault in was_in.iter().chain(&made).copied().collect::<BTreeSet<i32>>() {
        lock_vault(conn, Place { tenant, vault: VaultNumber(vault.into()) }).await?;
    }
    let empty: Vec<i32> =
        left_empty_by(conn, tenant, account).await?.iter().map(|row| columns::vault(row.vault)).collect();
    let stay: Vec<i32> = was_in.into_iter().filter(|vault| !empty.contains(vault)).collect();
    leave_log_with(conn, tenant, account, &stay).await?;
    diesel::update(vaults::table.filter(vaults::tenant.eq(tenant.0)))
        .filter(vaults::made_by.eq(account.0))
        .set(vaults::made_by.eq(None::<i64>))
        .execute(conn)
        .await?;
    if !empty.is_empty() {
        diesel::delete(vaults::table.filter(vaults::tenant.eq(tenant.0)))
            .filter(vaults::vault.eq_any(&empty))
            .execute(conn)
            .await?;
        forget_logs_nobody_needs(conn, tenant).await?;
    }
    Ok(())
}

async fn leave_log_with(conn: &mut Conn, tenant: Tenant, account: AccountNumber, vaults: &[i32]) -> Outcome<()> {
    if vaults.is_empty() {
        return Ok(());
    }
    let uid: Option<Vec<u8>> =
        accounts::table.find((tenant.0, account.0)).select(accounts::uid).first(conn).await.optional()?.flatten();
    let Some(uid) = uid else { return Ok(()) };
    for vault in vaults {
        diesel::insert_into(departed_from::table)
            .values((departed_from::tenant.eq(tenant.0), departed_from::vault.eq(vault), departed_from::uid.eq(&uid)))
            .on_conflict((departed_from::tenant, departed_from::vault, departed_from::uid))
            .do_nothing()
            .execute(conn)
            .await?;
    }
    let log: Vec<(i64, Vec<u8>)> = account_log::table
        .filter(account_log::tenant.eq(tenant.0))
        .filter(account_log::account.eq(account.0))
        .order(account_log::position)
        .select((account_log::position, account_log::entry))
        .load(conn)
        .await?;
    for (position, entry) in log {
        diesel::insert_into(departed_logs::table)
            .values((
                departed_logs::tenant.eq(tenant.0),
                departed_logs::uid.eq(&uid),
                departed_logs::position.eq(position),
                departed_logs::entry.eq(&entry),
            ))
            .on_conflict((departed_logs::tenant, departed_logs::uid, departed_logs::position))
            .do_nothing()
            .execute(conn)
            .await?;
    }
    Ok(())
}

async fn forget_logs_nobody_needs(conn: &mut Conn, tenant: Tenant) -> Outcome<()> {
    let needed = departed_from::table.filter(departed_from::tenant.eq(tenant.0)).select(departed_from::uid);
    diesel::delete(departed_logs::table.filter(departed_logs::tenant.eq(tenant.0)))
        .filter(departed_logs::uid.ne_all(needed))
        .execute(conn)
        .await?;
    Ok(())
}
