//! Keeps tenants and the invitations to them.

use super::{Backend, Conn, Reach, audit};
use crate::store::columns;
use crate::store::failure::{Failure, Outcome};
use crate::store::schema::{invitations, plans, tenants};
use crate::store::{
    InvitationRow, Millis, NewAudit, NewInvitation, NewTenant, PlanRow, Refused, Result, Tenant, TenantRow, Tenants,
};
use async_trait::async_trait;
use diesel::{ExpressionMethods as _, JoinOnDsl as _, OptionalExtension as _, QueryDsl as _};
use diesel_async::RunQueryDsl as _;
use futures_util::FutureExt as _;

#[async_trait]
impl Tenants for Backend {
    async fn create_tenant(&self, tenant: NewTenant) -> Result<TenantRow> {
        self.write(Reach::Server, tenant, |conn, tenant| create(conn, tenant).boxed()).await
    }

    async fn tenants(&self) -> Result<Vec<TenantRow>> {
        self.read(Reach::Server, (), |conn, ()| all(conn).boxed()).await
    }

    async fn tenant_by_slug(&self, slug: &str) -> Result<Option<TenantRow>> {
        self.read(Reach::Server, slug.to_owned(), |conn, slug| by_slug(conn, slug).boxed()).await
    }

    async fn tenant_by_number(&self, tenant: Tenant) -> Result<Option<TenantRow>> {
        self.read(Reach::Server, tenant, |conn, tenant| by_number(conn, *tenant).boxed()).await
    }

    async fn set_tenant_plan(&self, tenant: Tenant, plan: &str, audit: NewAudit) -> Result<()> {
        let args = (tenant, plan.to_owned(), audit);
        self.write(Reach::Tenant(tenant), args, |conn, args| set_plan(conn, args).boxed()).await
    }

    async fn plans(&self) -> Result<Vec<PlanRow>> {
        self.read(Reach::Server, (), |conn, ()| all_plans(conn).boxed()).await
    }

    async fn set_tenant_suspended(&self, tenant: Tenant, suspended: bool, audit: NewAudit) -> Result<()> {
        self.write(Reach::Tenant(tenant), (tenant, suspended, audit), |conn, args| suspend(conn, args).boxed()).await
    }

    async fn create_invitation(&self, tenant: Tenant, invitation: NewInvitation, audit: NewAudit) -> Result<i64> {
        self.write(Reach::Tenant(tenant), (tenant, invitation, audit), |conn, (tenant, invitation, audit)| {
            async move {
                let number = invite(conn, *tenant, invitation, false).await?;
                audit::append(conn, *tenant, None, audit).await?;
                Ok(number)
            }
            .boxed()
        })
        .await
    }

    async fn replace_first_invitation(&self, tenant: Tenant, invitation: NewInvitation) -> Result<()> {
        self.write(Reach::Tenant(tenant), (tenant, invitation), |conn, args| replace_first(conn, args).boxed()).await
    }

    async fn invitations(&self, tenant: Tenant) -> Result<Vec<InvitationRow>> {
        self.read(Reach::Tenant(tenant), tenant, |conn, tenant| all_invitations(conn, *tenant).boxed()).await
    }

    async fn revoke_invitation(&self, tenant: Tenant, invitation: i64, audit: NewAudit) -> Result<()> {
        self.write(Reach::Tenant(tenant), (tenant, invitation, audit), |conn, args| revoke(conn, args).boxed()).await
    }

    async fn usable_invitation(
        &self,
        tenant: Tenant,
        code_hash: [u8; 32],
        now: Millis,
    ) -> Result<Option<InvitationRow>> {
        self.read(Reach::Tenant(tenant), (tenant, code_hash, now), |conn, args| usable(conn, args).boxed()).await
    }
}

async fn require_plan(conn: &mut Conn, plan: &str) -> Outcome<()> {
    let found: Option<String> = plans::table.find(plan).select(plans::plan).first(conn).await.optional()?;
    found.map(drop).ok_or(Failure::not_found("plan"))
}

/// Adds a tenant unless its slug is taken; whether it was added.
pub(super) async fn insert(conn: &mut Conn, tenant: &NewTenant) -> Outcome<bool> {
    require_plan(conn, &tenant.plan).await?;
    let added = diesel::insert_into(tenants::table)
        .values((
            tenants::slug.eq(&tenant.slug),
            tenants::name.eq(&tenant.name),
            tenants::plan.eq(&tenant.plan),
            tenants::created_at.eq(tenant.created_at),
        ))
        .on_conflict(tenants::slug)
        .do_nothing()
        .execute(conn)
        .await?;
    Ok(added == 1)
}

pub(super) async fn numbers(conn: &mut Conn) -> Outcome<Vec<Tenant>> {
    let numbers: Vec<i64> = tenants::table.select(tenants::tenant).order(tenants::tenant).load(conn).await?;
    Ok(numbers.into_iter().map(Tenant).collect())
}

async fn create(conn: &mut Conn, tenant: &NewTenant) -> Outcome<TenantRow> {
    if !insert(conn, tenant).await? {
        return Err(Refused::SlugTaken.into());
    }
    by_slug(conn, &tenant.slug).await?.ok_or(Failure::corrupt("tenant"))
}

type Limits = (Option<i64>, Option<i64>, Option<i64>, Option<i64>, Option<i64>, i32);
type Columns = (i64, String, String, String, bool, i64, i64, Limits);
type LimitColumns = (
    plans::max_accounts,
    plans::max_devices,
    plans::max_vaults,
    plans::max_bytes,
    plans::history_days,
    plans::limit_factor,
);
const LIMITS: LimitColumns = (
    plans::max_accounts,
    plans::max_devices,
    plans::max_vaults,
    plans::max_bytes,
    plans::history_days,
    plans::limit_factor,
);
const COLUMNS: (
    tenants::tenant,
    tenants::slug,
    tenants::name,
    tenants::plan,
    tenants::suspended,
    tenants::created_at,
    tenants::accounts,
    LimitColumns,
) = (
    tenants::tenant,
    tenants::slug,
    tenants::name,
    tenants::plan,
    tenants::suspended,
    tenants::created_at,
    tenants::accounts,
    LIMITS,
);

fn tenant_row(columns: Columns) -> TenantRow {
    let (tenant, slug, name, plan, suspended, created_at, accounts, limits) = columns;
    let (max_accounts, max_devices, max_vaults, max_bytes, history_days, limit_factor) = limits;
    TenantRow {
        tenant: Tenant(tenant),
        slug,
        name,
        plan,
        suspended,
        created_at,
        accounts,
        max_accounts,
        max_devices,
        max_vaults,
        max_bytes,
        history_days,
        limit_factor,
    }
}

async fn all(conn: &mut Conn) -> Outcome<Vec<TenantRow>> {
    let rows: Vec<Columns> = tenants::table
        .inner_join(plans::table.on(plans::plan.eq(tenants::plan)))
        .order(tenants::tenant)
        .select(COLUMNS)
        .load(conn)
        .await?;
    Ok(rows.into_iter().map(tenant_row).collect())
}

async fn by_slug(conn: &mut Conn, slug: &str) -> Outcome<Option<TenantRow>> {
    let row: Option<Columns> = tenants::table
        .inner_join(plans::table.on(plans::plan.eq(tenants::plan)))
        .filter(tenants::slug.eq(slug))
        .select(COLUMNS)
        .first(conn)
        .await
        .optional()?;
    Ok(row.map(tenant_row))
}

async fn by_number(conn: &mut Conn, tenant: Tenant) -> Outcome<Option<TenantRow>> {
    let row: Option<Columns> = tenants::table
        .inner_join(plans::table.on(plans::plan.eq(tenants::plan)))
        .filter(tenants::tenant.eq(tenant.0))
        .select(COLUMNS)
        .first(conn)
        .await
        .optional()?;
    Ok(row.map(tenant_row))
}

async fn all_plans(conn: &mut Conn) -> Outcome<Vec<PlanRow>> {
    let rows: Vec<(String, Option<i64>, Option<i64>, i32)> = plans::table
        .select((plans::plan, plans::max_accounts, plans::max_devices, plans::limit_factor))
        .order(plans::plan)
        .load(conn)
        .await?;
    let row =
        |(plan, max_accounts, max_devices, limit_factor)| PlanRow { plan, max_accounts, max_devices, limit_factor };
    Ok(rows.into_iter().map(row).collect())
}

async fn set_plan(conn: &mut Conn, (tenant, plan, audit): &(Tenant, String, NewAudit)) -> Outcome<()> {
    require_plan(conn, plan).await?;
    let changed = diesel::update(tenants::table.find(tenant.0)).set(tenants::plan.eq(plan)).execute(conn).await?;
    if changed == 0 {
        return Err(Failure::not_found("tenant"));
    }
    audit::append(conn, *tenant, None, audit).await
}

async fn suspend(conn: &mut Conn, (tenant, suspended, audit): &(Tenant, bool, NewAudit)) -> Outcome<()> {
    let changed =
        diesel::update(tenants::table.find(tenant.0)).set(tenants::suspended.eq(*suspended)).execute(conn).await?;
    if changed == 0 {
        return Err(Failure::not_found("tenant"));
    }
    audit::append(conn, *tenant, None, audit).await
}

async fn invite(conn: &mut Conn, tenant: Tenant, invitation: &NewInvitation, first_account: bool) -> Outcome<i64> {
    let number: i64 = diesel::update(tenants::table.find(tenant.0))
        .set(tenants::last_invitation.eq(tenants::last_invitation + 1))
        .returning(tenants::last_invitation)
        .get_result(conn)
        .await
        .optional()?
        .ok_or(Failure::not_found("tenant"))?;
    diesel::insert_into(invitations::table)
        .values((
            invitations::tenant.eq(tenant.0),
            invitations::invitation.eq(number),
            invitations::code_hash.eq(invitation.code_hash),
            invitations::role.eq(columns::role_number(invitation.role)),
            invitations::uses_left.eq(invitation.uses),
            invitations::first_account.eq(first_account),
            invitations::created_at.eq(invitation.created_at),
            invitations::expires_at.eq(invitation.expires_at),
        ))
        .execute(conn)
        .await?;
    Ok(number)
}

async fn replace_first(conn: &mut Conn, (tenant, invitation): &(Tenant, NewInvitation)) -> Outcome<()> {
    diesel::delete(invitations::table.filter(invitations::tenant.eq(tenant.0)))
        .filter(invitations::first_account.eq(true))
        .execute(conn)
        .await?;
    // Locks the tenant's row, so that the first account cannot be made between this and the look at the accounts.
    invite(conn, *tenant, invitation, true).await?;
    let inhabited: i64 = tenants::table.filter(tenants::accounts.gt(0)).count().get_result(conn).await?;
    if inhabited > 0 { Err(Failure::not_found("empty server")) } else { Ok(()) }
}

type InvitationColumns = (i64, i16, i32, i64, i64, Option<i64>);
const INVITATION_COLUMNS: (
    invitations::invitation,
    invitations::role,
    invitations::uses_left,
    invitations::expires_at,
    invitations::created_at,
    invitations::revoked_at,
) = (
    invitations::invitation,
    invitations::role,
    invitations::uses_left,
    invitations::expires_at,
    invitations::created_at,
    invitations::revoked_at,
);

fn invitation_row(columns: InvitationColumns) -> Outcome<InvitationRow> {
    let (invitation, role, uses_left, expires_at, created_at, revoked_at) = columns;
    Ok(InvitationRow { invitation, role: columns::role(role)?, uses_left, expires_at, created_at, revoked_at })
}

async fn all_invitations(conn: &mut Conn, tenant: Tenant) -> Outcome<Vec<InvitationRow>> {
    let rows: Vec<InvitationColumns> = invitations::table
        .filter(invitations::tenant.eq(tenant.0))
        .order(invitations::invitation)
        .select(INVITATION_COLUMNS)
        .load(conn)
        .await?;
    rows.into_iter().map(invitation_row).collect()
}

/// One that is revoked already is not found: the entry is written once.
async fn revoke(conn: &mut Conn, (tenant, invitation, audit): &(Tenant, i64, NewAudit)) -> Outcome<()> {
    let revoked = diesel::update(invitations::table.find((tenant.0, *invitation)))
        .filter(invitations::revoked_at.is_null())
        .set(invitations::revoked_at.eq(audit.at))
        .execute(conn)
        .await?;
    if revoked == 0 {
        return Err(Failure::not_found("invitation"));
    }
    audit::append(conn, *tenant, None, audit).await
}

async fn usable(
    conn: &mut Conn,
    (tenant, code_hash, now): &(Tenant, [u8; 32], Millis),
) -> Outcome<Option<InvitationRow>> {
    let row: Option<InvitationColumns> = invitations::table
        .filter(invitations::tenant.eq(tenant.0))
        .filter(invitations::code_hash.eq(code_hash))
        .filter(invitations::uses_left.gt(0))
        .filter(invitations::revoked_at.is_null())
        .filter(invitations::expires_at.gt(now))
        .select(INVITATION_COLUMNS)
        .first(conn)
        .await
        .optional()?;
    row.map(invitation_row).transpose()
}
