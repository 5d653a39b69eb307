//! Keeps second factors and the codes that stand in for a lost one.

use super::{Backend, Conn, Reach, accounts as account_rows, audit};
use crate::store::columns;
use crate::store::failure::{Failure, Outcome};
use crate::store::schema::{accounts, recovery_codes, second_factors};
use crate::store::{AccountNumber, FactorKind, FactorRow, Factors, Millis, NewAudit, Result, Tenant};
use async_trait::async_trait;
use diesel::{ExpressionMethods as _, OptionalExtension as _, QueryDsl as _};
use diesel_async::RunQueryDsl as _;
use futures_util::FutureExt as _;

#[async_trait]
impl Factors for Backend {
    async fn factors(&self, tenant: Tenant, account: AccountNumber) -> Result<Vec<FactorRow>> {
        self.read(Reach::Tenant(tenant), (tenant, account), |conn, args| all(conn, args).boxed()).await
    }

    async fn begin_factor(
        &self,
        tenant: Tenant,
        account: AccountNumber,
        kind: FactorKind,
        sealed: Vec<u8>,
        now: Millis,
    ) -> Result<i64> {
        self.write(Reach::Tenant(tenant), (tenant, account, kind, sealed, now), |conn, args| begin(conn, args).boxed())
            .await
    }

    async fn confirm_factor(
        &self,
        tenant: Tenant,
        account: AccountNumber,
        factor: i64,
        used_step: i64,
        recovery_codes: Vec<[u8; 32]>,
        audit: NewAudit,
    ) -> Result<()> {
        let confirmation = Confirmation { tenant, account, factor, used_step, recovery_codes, audit };
        self.write(Reach::Tenant(tenant), confirmation, |conn, confirmation| confirm(conn, confirmation).boxed()).await
    }

    async fn remove_factors(&self, tenant: Tenant, account: AccountNumber, audit: NewAudit) -> Result<()> {
        self.write(Reach::Tenant(tenant), (tenant, account, audit), |conn, (tenant, account, audit)| {
            async move {
                account_rows::lock(conn, *tenant, *account).await?;
                remove_all(conn, *tenant, *account).await?;
                audit::append_about(conn, *tenant, *account, audit).await
            }
            .boxed()
        })
        .await
    }

    async fn use_totp_step(&self, tenant: Tenant, account: AccountNumber, factor: i64, step: i64) -> Result<bool> {
        self.write(Reach::Tenant(tenant), (tenant, account, factor, step), |conn, args| use_step(conn, args).boxed())
            .await
    }

    async fn use_recovery_code(
        &self,
        tenant: Tenant,
        account: AccountNumber,
        code_hash: [u8; 32],
        now: Millis,
    ) -> Result<bool> {
        self.write(Reach::Tenant(tenant), (tenant, account, code_hash, now), |conn, args| use_code(conn, args).boxed())
            .await
    }
}

/// Forgets all second factors of an account that the caller has locked, and the codes that stand in for them.
pub(super) async fn remove_all(conn: &mut Conn, tenant: Tenant, account: AccountNumber) -> Outcome<()> {
    diesel::delete(second_factors::table.filter(second_factors::tenant.eq(tenant.0)))
        .filter(second_factors::account.eq(account.0))
        .execute(conn)
        .await?;
    forget_codes(conn, tenant, account).await
}

async fn forget_codes(conn: &mut Conn, tenant: Tenant, account: AccountNumber) -> Outcome<()> {
    diesel::delete(recovery_codes::table.filter(recovery_codes::tenant.eq(tenant.0)))
        .filter(recovery_codes::account.eq(account.0))
        .execute(conn)
        .await?;
    Ok(())
}

async fn all(conn: &mut Conn, (tenant, account): &(Tenant, AccountNumber)) -> Outcome<Vec<FactorRow>> {
    let rows: Vec<(i64, i16, Vec<u8>, bool, i64)> = second_factors::table
        .filter(second_factors::tenant.eq(tenant.0))
        .filter(second_factors::account.eq(account.0))
        .order(second_factors::factor)
        .select((
            second_factors::factor,
            second_factors::kind,
            second_factors::sealed,
            second_factors::confirmed,
            second_factors::last_step,
        ))
        .load(conn)
        .await?;
    rows.into_iter()
        .map(|(factor, kind, sealed, confirmed, last_step)| {
            Ok(FactorRow { factor, kind: columns::kind(kind)?, sealed, confirmed, last_step })
        })
        .collect()
}

async fn begin(
    conn: &mut Conn,
    (tenant, account, kind, sealed, now): &(Tenant, AccountNumber, FactorKind, Vec<u8>, Millis),
) -> Outcome<i64> {
    let factor = account_rows::lock(conn, *tenant, *account).await?.last_factor + 1;
    forget_of_kind(conn, *tenant, *account, columns::kind_number(*kind), false).await?;
    diesel::update(accounts::table.find((tenant.0, account.0)))
        .set(accounts::last_factor.eq(factor))
        .execute(conn)
        .await?;
    diesel::insert_into(second_factors::table)
        .values((
            second_factors::tenant.eq(tenant.0),
            second_factors::account.eq(account.0),
            second_factors::factor.eq(factor),
            second_factors::kind.eq(columns::kind_number(*kind)),
            second_factors::sealed.eq(sealed),
            second_factors::confirmed.eq(false),
            second_factors::last_step.eq(0),
            second_factors::created_at.eq(now),
        ))
        .execute(conn)
        .await?;
    Ok(factor)
}

async fn forget_of_kind(
    conn: &mut Conn,
    tenant: Tenant,
    account: AccountNumber,
    kind: i16,
    confirmed: bool,
) -> Outcome<()> {
    diesel::delete(second_factors::table.filter(second_factors::tenant.eq(tenant.0)))
        .filter(second_factors::account.eq(account.0))
        .filter(second_factors::kind.eq(kind))
        .filter(second_factors::confirmed.eq(confirmed))
        .execute(conn)
        .await?;
    Ok(())
}

struct Confirmation {
    tenant: Tenant,
    account: AccountNumber,
    factor: i64,
    used_step: i64,
    recovery_codes: Vec<[u8; 32]>,
    audit: NewAudit,
}

async fn confirm(conn: &mut Conn, confirmation: &Confirmation) -> Outcome<()> {
    let Confirmation { tenant, account, factor, used_step, recovery_codes: codes, audit } = confirmation;
    account_rows::lock(conn, *tenant, *account).await?;
    let kind: i16 = second_factors::table
        .find((tenant.0, account.0, *factor))
        .filter(second_factors::confirmed.eq(false))
        .select(second_factors::kind)
        .first(conn)
        .await
        .optional()?
        .ok_or(Failure::not_found("second factor"))?;
    forget_of_kind(conn, *tenant, *account, kind, true).await?;
    diesel::update(second_factors::table.find((tenant.0, account.0, *factor)))
        .set((second_factors::confirmed.eq(true), second_factors::last_step.eq(used_step)))
        .execute(conn)
        .await?;
    forget_codes(conn, *tenant, *account).await?;
    for code in codes {
        diesel::insert_into(recovery_codes::table)
            .values((
                recovery_codes::tenant.eq(tenant.0),
                recovery_codes::account.eq(account.0),
                recovery_codes::code_hash.eq(code),
            ))
            .execute(conn)
            .await?;
    }
    audit::append_about(conn, *tenant, *account, audit).await
}

async fn use_step(
    conn: &mut Conn,
    (tenant, account, factor, step): &(Tenant, AccountNumber, i64, i64),
) -> Outcome<bool> {
    let used = diesel::update(second_factors::table.find((tenant.0, account.0, *factor)))
        .filter(second_factors::confirmed.eq(true))
        .filter(second_factors::last_step.lt(step))
        .set(second_factors::last_step.eq(step))
        .execute(conn)
        .await?;
    Ok(used == 1)
}

async fn use_code(
    conn: &mut Conn,
    (tenant, account, code_hash, now): &(Tenant, AccountNumber, [u8; 32], Millis),
) -> Outcome<bool> {
    let used = diesel::update(recovery_codes::table.find((tenant.0, account.0, code_hash)))
        .filter(recovery_codes::used_at.is_null())
        .set(recovery_codes::used_at.eq(now))
        .execute(conn)
        .await?;
    Ok(used == 1)
}
