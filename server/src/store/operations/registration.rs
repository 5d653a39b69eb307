//! Makes accounts: the invitation, the limit, the name, the credential and the keys, all or nothing.

use super::{Conn, audit, changes};
use crate::store::columns;
use crate::store::failure::{Failure, Outcome};
use crate::store::schema::{accounts, credentials, invitations, plans, tenants};
use crate::store::{AccountNumber, Millis, NewCredential, Refused, Registration, Tenant, TenantRole};
use diesel::{ExpressionMethods as _, OptionalExtension as _, QueryDsl as _};
use diesel_async::RunQueryDsl as _;

pub(super) async fn register(conn: &mut Conn, tenant: Tenant, registration: &Registration) -> Outcome<AccountNumber> {
    let Registration { login_name, uuid, audit_subject, invitation, credential, identity, now, audit } = registration;
    let (role, as_the_first) = match invitation {
        Some(code_hash) => use_invitation(conn, tenant, code_hash, *now).await?,
        None => (TenantRole::Member, false),
    };
    let account = next_number(conn, tenant).await?;
    first_comes_first(conn, tenant, as_the_first).await?;
    let added = diesel::insert_into(accounts::table)
        .values((
            accounts::tenant.eq(tenant.0),
            accounts::account.eq(account.0),
            accounts::uuid.eq(uuid.as_bytes().as_slice()),
            accounts::login_name.eq(login_name),
            accounts::audit_subject.eq(audit_subject),
            accounts::role.eq(columns::role_number(role)),
            accounts::created_at.eq(now),
        ))
        .on_conflict((accounts::tenant, accounts::login_name))
        .do_nothing()
        .execute(conn)
        .await?;
    if added == 0 {
        return Err(Refused::LoginNameTaken.into());
    }
    add_credential(conn, tenant, account, credential, *now).await?;
    if let Some(identity) = identity {
        changes::give_keys(conn, tenant, account, identity, *now).await?;
    }
    let about = audit::About { subject: audit_subject.to_vec(), uuid: uuid.as_bytes().to_vec() };
    audit::append(conn, tenant, Some(&about), audit).await?;
    Ok(account)
}

async fn use_invitation(
    conn: &mut Conn,
    tenant: Tenant,
    code_hash: &[u8; 32],
    now: Millis,
) -> Outcome<(TenantRole, bool)> {
    let used: Option<(i16, bool)> = diesel::update(invitations::table.filter(invitations::tenant.eq(tenant.0)))
        .filter(invitations::code_hash.eq(code_hash))
        .filter(invitations::uses_left.gt(0))
        .filter(invitations::revoked_at.is_null())
        .filter(invitations::expires_at.gt(now))
        .set(invitations::uses_left.eq(invitations::uses_left - 1))
        .returning((invitations::role, invitations::first_account))
        .get_result(conn)
        .await
        .optional()?;
    let (role, as_the_first) = used.ok_or(Refused::InvitationInvalid)?;
    Ok((columns::role(role)?, as_the_first))
}

/// The code for the first account is good for the first account of the whole server, and void once there is one. The
/// new account is counted already, so the tenant's row is held and this is exact.
async fn first_comes_first(conn: &mut Conn, tenant: Tenant, as_the_first: bool) -> Outcome<()> {
    if as_the_first {
        let inhabited: Vec<i64> =
            tenants::table.filter(tenants::accounts.gt(0)).select(tenants::accounts).limit(2).load(conn).await?;
        if inhabited != [1] {
            return Err(Refused::InvitationInvalid.into());
        }
    }
    diesel::delete(invitations::table.filter(invitations::tenant.eq(tenant.0)))
        .filter(invitations::first_account.eq(true))
        .execute(conn)
        .await?;
    Ok(())
}

/// Counts one more account in and gives it its number. The update holds the tenant's row until the end of the
/// transaction, so that the limit that is looked at afterwards is exact, however many register at once.
async fn next_number(conn: &mut Conn, tenant: Tenant) -> Outcome<AccountNumber> {
    let (number, accounts, plan): (i64, i64, String) = diesel::update(tenants::table.find(tenant.0))
        .set((tenants::accounts.eq(tenants::accounts + 1), tenants::last_account.eq(tenants::last_account + 1)))
        .returning((tenants::last_account, tenants::accounts, tenants::plan))
        .get_result(conn)
        .await
        .optional()?
        .ok_or(Failure::not_found("tenant"))?;
    let limit: Option<i64> = plans::table.find(plan).select(plans::max_accounts).first(conn).await?;
    match limit {
        Some(limit) if accounts > limit => Err(Refused::LimitReached("accounts").into()),
        _ => Ok(AccountNumber(number)),
    }
}

async fn add_credential(
    conn: &mut Conn,
    tenant: Tenant,
    account: AccountNumber,
    credential: &NewCredential,
    now: Millis,
) -> Outcome<()> {
    diesel::insert_into(credentials::table)
        .values((
            credentials::tenant.eq(tenant.0),
            credentials::account.eq(account.0),
            credentials::setup_id.eq(credential.setup_id),
            credentials::ksf_id.eq(credential.ksf_id),
            credentials::record.eq(&credential.record),
            credentials::password_generation.eq(i64::from(credential.password_generation)),
            credentials::updated_at.eq(now),
        ))
        .execute(conn)
        .await?;
    Ok(())
}
