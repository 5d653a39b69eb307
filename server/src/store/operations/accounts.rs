//! Reads accounts and what they own; suspends, schedules and carries out their end.
//!
//! How accounts come to be is in `registration`, how they change in `changes`.

use super::{Backend, Conn, Reach, audit, changes, lock_account, registration, sessions, vaults};
use crate::store::columns;
use crate::store::failure::{Failure, Outcome};
use crate::store::schema::{
    account_log, accounts, credentials, devices, failures, keybag, login_state, second_factors, tenants,
};
use crate::store::{
    AccountChange, AccountNumber, AccountRow, Accounts, DeviceRow, EndSessions, LoginAccount, Millis, NewAudit,
    Refused, Registration, Result, Tenant,
};
use async_trait::async_trait;
use diesel::{
    BoolExpressionMethods as _, ExpressionMethods as _, JoinOnDsl as _, OptionalExtension as _, QueryDsl as _,
};
use diesel_async::RunQueryDsl as _;
use futures_util::FutureExt as _;
use selkie_protocol::id::{DeviceId, SessionId, UserId};
use std::collections::HashMap;

#[async_trait]
impl Accounts for Backend {
    async fn login_account(&self, tenant: Tenant, login_name: &str) -> Result<Option<LoginAccount>> {
        self.read(Reach::Tenant(tenant), (tenant, login_name.to_owned()), |conn, args| by_name(conn, args).boxed())
            .await
    }

    async fn account(&self, tenant: Tenant, account: AccountNumber) -> Result<AccountRow> {
        self.read(Reach::Tenant(tenant), (tenant, account), |conn, args| one(conn, args).boxed()).await
    }

    async fn accounts(&self, tenant: Tenant, after: AccountNumber, limit: u32) -> Result<Vec<AccountRow>> {
        self.read(Reach::Tenant(tenant), (tenant, after, limit), |conn, args| page(conn, args).boxed()).await
    }

    async fn register(&self, tenant: Tenant, registration: Registration) -> Result<AccountNumber> {
        self.write(Reach::Tenant(tenant), (tenant, registration), |conn, (tenant, registration)| {
            registration::register(conn, *tenant, registration).boxed()
        })
        .await
    }

    async fn change_account(&self, tenant: Tenant, account: AccountNumber, change: AccountChange) -> Result<()> {
        self.write(Reach::Tenant(tenant), (tenant, account, change), |conn, (tenant, account, change)| {
            changes::change(conn, *tenant, *account, change).boxed()
        })
        .await
    }

    async fn keybag(&self, tenant: Tenant, account: AccountNumber) -> Result<Vec<u8>> {
        self.read(Reach::Tenant(tenant), (tenant, account), |conn, args| keybag_of(conn, args).boxed()).await
    }

    async fn account_log(
        &self,
        tenant: Tenant,
        account: AccountNumber,
        from: u64,
        limit: u32,
    ) -> Result<(Vec<Vec<u8>>, u64)> {
        self.read(Reach::Tenant(tenant), (tenant, account, from, limit), |conn, args| log(conn, args).boxed()).await
    }

    async fn account_of_user(&self, tenant: Tenant, user: UserId) -> Result<Option<AccountNumber>> {
        self.read(Reach::Tenant(tenant), (tenant, user), |conn, args| of_user(conn, args).boxed()).await
    }

    async fn devices(&self, tenant: Tenant, account: AccountNumber) -> Result<Vec<DeviceRow>> {
        self.read(Reach::Tenant(tenant), (tenant, account), |conn, args| devices_of(conn, args).boxed()).await
    }

    async fn device_key(&self, tenant: Tenant, account: AccountNumber, device: DeviceId) -> Result<Option<[u8; 32]>> {
        self.read(Reach::Tenant(tenant), (tenant, account, device), |conn, args| key_of(conn, args).boxed()).await
    }

    async fn set_account_suspended(
        &self,
        tenant: Tenant,
        account: AccountNumber,
        suspended: bool,
        audit: NewAudit,
    ) -> Result<()> {
        self.write(Reach::Tenant(tenant), (tenant, account, suspended, audit), |conn, args| suspend(conn, args).boxed())
            .await
    }

    async fn schedule_deletion(
        &self,
        tenant: Tenant,
        account: AccountNumber,
        delete_after: Millis,
        keep: Option<SessionId>,
        now: Millis,
        audit: NewAudit,
    ) -> Result<()> {
        let deletion = Deletion { tenant, account, delete_after, keep, now, audit };
        self.write(Reach::Tenant(tenant), deletion, |conn, deletion| schedule(conn, deletion).boxed()).await
    }

    async fn cancel_deletion(&self, tenant: Tenant, account: AccountNumber, audit: NewAudit) -> Result<()> {
        self.write(Reach::Tenant(tenant), (tenant, account, audit), |conn, args| cancel(conn, args).boxed()).await
    }

    async fn due_deletions(&self, tenant: Tenant, now: Millis, limit: u32) -> Result<Vec<AccountNumber>> {
        self.read(Reach::Tenant(tenant), (tenant, now, limit), |conn, args| due(conn, args).boxed()).await
    }

    async fn delete_account(&self, tenant: Tenant, account: AccountNumber, audit: NewAudit) -> Result<()> {
        self.write(Reach::Tenant(tenant), (tenant, account, audit), |conn, args| delete(conn, args).boxed()).await
    }
}

/// What an operation reads first of an account that it is about to change. The row stays locked until the end.
pub(super) struct Locked {
    pub(super) log_length: i64,
    pub(super) has_keys: bool,
    pub(super) last_factor: i64,
}

/// Locks an account before anything it owns is touched, so that changes to one account happen one after the other.
pub(super) async fn lock(conn: &mut Conn, tenant: Tenant, account: AccountNumber) -> Outcome<Locked> {
    lock_account(conn, tenant, account).await?;
    let (log_length, uid, last_factor): (i64, Option<Vec<u8>>, i64) = accounts::table
        .find((tenant.0, account.0))
        .select((accounts::log_length, accounts::uid, accounts::last_factor))
        .first(conn)
        .await
        .optional()?
        .ok_or(Failure::not_found("account"))?;
    Ok(Locked { log_length, has_keys: uid.is_some(), last_factor })
}

/// A session or a link may only name a device that is certified and not revoked.
pub(super) async fn require_device(
    conn: &mut Conn,
    tenant: Tenant,
    account: AccountNumber,
    device: DeviceId,
) -> Outcome<()> {
    let known: i64 = devices::table
        .filter(devices::tenant.eq(tenant.0))
        .filter(devices::account.eq(account.0))
        .filter(devices::device.eq(device.0))
        .filter(devices::revoked_at.is_null())
        .count()
        .get_result(conn)
        .await?;
    if known == 0 { Err(Failure::not_found("device")) } else { Ok(()) }
}

/// An unknown name costs what a known one costs: the tenant's first account is read in its place and thrown away.
async fn by_name(conn: &mut Conn, (tenant, name): &(Tenant, String)) -> Outcome<Option<LoginAccount>> {
    let named: Option<i64> = accounts::table
        .filter(accounts::tenant.eq(tenant.0))
        .filter(accounts::login_name.eq(name))
        .select(accounts::account)
        .first(conn)
        .await
        .optional()?;
    let stand_in: Option<i64> = accounts::table
        .filter(accounts::tenant.eq(tenant.0))
        .order(accounts::account)
        .select(accounts::account)
        .first(conn)
        .await
        .optional()?;
    let Some(number) = named.or(stand_in) else { return Ok(None) };
    let account = login_account(conn, *tenant, number).await?;
    Ok(if named.is_some() { account } else { None })
}

async fn login_account(conn: &mut Conn, tenant: Tenant, number: i64) -> Outcome<Option<LoginAccount>> {
    type Account = (Vec<u8>, Option<Vec<u8>>);
    type Credential = (i32, Vec<u8>, Option<i64>, Option<Vec<u8>>, i64);
    let row: Option<(Account, Credential)> = accounts::table
        .inner_join(
            credentials::table
                .on(credentials::tenant.eq(accounts::tenant).and(credentials::account.eq(accounts::account))),
        )
        .filter(accounts::tenant.eq(tenant.0))
        .filter(accounts::account.eq(number))
        .select((
            (accounts::uuid, accounts::uid),
            (
                credentials::setup_id,
                credentials::record,
                credentials::recovery_generation,
                credentials::recovery_key,
                credentials::version,
            ),
        ))
        .first(conn)
        .await
        .optional()?;
    let Some(((uuid, uid), credential)) = row else { return Ok(None) };
    let (setup_id, record, recovery_generation, recovery_key, credential_version) = credential;
    let recovery = match (recovery_generation, recovery_key) {
        (Some(generation), Some(key)) => {
            Some((columns::small(generation, "generation")?, columns::fixed(key, "recovery key")?))
        }
        _ => None,
    };
    Ok(Some(LoginAccount {
        account: AccountNumber(number),
        uuid: columns::uuid(uuid)?,
        uid: columns::user(uid)?,
        setup_id,
        record,
        recovery,
        credential_version,
    }))
}

type Columns = (i64, Vec<u8>, String, Option<Vec<u8>>, bool, i16, i64, Option<i64>, i64, Option<i64>);
const COLUMNS: (
    accounts::account,
    accounts::uuid,
    accounts::login_name,
    accounts::uid,
    accounts::suspended,
    accounts::role,
    accounts::created_at,
    accounts::delete_after,
    accounts::log_length,
    accounts::last_seen,
) = (
    accounts::account,
    accounts::uuid,
    accounts::login_name,
    accounts::uid,
    accounts::suspended,
    accounts::role,
    accounts::created_at,
    accounts::delete_after,
    accounts::log_length,
    accounts::last_seen,
);

async fn one(conn: &mut Conn, (tenant, account): &(Tenant, AccountNumber)) -> Outcome<AccountRow> {
    let rows = accounts::table.find((tenant.0, account.0)).select(COLUMNS).load(conn).await?;
    with_belongings(conn, *tenant, rows).await?.pop().ok_or(Failure::not_found("account"))
}

async fn page(conn: &mut Conn, (tenant, after, limit): &(Tenant, AccountNumber, u32)) -> Outcome<Vec<AccountRow>> {
    let rows = accounts::table
        .filter(accounts::tenant.eq(tenant.0))
        .filter(accounts::account.gt(after.0))
        .order(accounts::account)
        .limit(i64::from(*limit))
        .select(COLUMNS)
        .load(conn)
        .await?;
    with_belongings(conn, *tenant, rows).await
}

/// Adds what is counted elsewhere, in one question for all accounts.
async fn with_belongings(conn: &mut Conn, tenant: Tenant, rows: Vec<Columns>) -> Outcome<Vec<AccountRow>> {
    let numbers: Vec<i64> = rows.iter().map(|row| row.0).collect();
    let counted: Vec<(i64, i64)> = devices::table
        .filter(devices::tenant.eq(tenant.0))
        .filter(devices::account.eq_any(&numbers))
        .filter(devices::revoked_at.is_null())
        .group_by(devices::account)
        .select((devices::account, diesel::dsl::count_star()))
        .load(conn)
        .await?;
    let counted: HashMap<i64, i64> = counted.into_iter().collect();
    let found: Vec<(i64, i16)> = second_factors::table
        .filter(second_factors::tenant.eq(tenant.0))
        .filter(second_factors::account.eq_any(&numbers))
        .filter(second_factors::confirmed.eq(true))
        .order((second_factors::account, second_factors::kind))
        .select((second_factors::account, second_factors::kind))
        .load(conn)
        .await?;
    let mut factors: HashMap<i64, Vec<_>> = HashMap::new();
    for (number, kind) in found {
        factors.entry(number).or_default().push(columns::kind(kind)?);
    }
    rows.into_iter()
        .map(|row| {
            let (number, uuid, login_name, uid, suspended, role, created_at, delete_after, log_length, last_seen) = row;
            Ok(AccountRow {
                account: AccountNumber(number),
                uuid: columns::uuid(uuid)?,
                login_name,
                state: columns::account_state(suspended, delete_after, uid.is_some()),
                uid: columns::user(uid)?,
                role: columns::role(role)?,
                created_at,
                delete_after,
                log_length: columns::count(log_length)?,
                second_factors: factors.remove(&number).unwrap_or_default(),
                devices: columns::small(counted.get(&number).copied().unwrap_or_default(), "number of devices")?,
                last_seen,
            })
        })
        .collect()
}

async fn keybag_of(conn: &mut Conn, (tenant, account): &(Tenant, AccountNumber)) -> Outcome<Vec<u8>> {
    keybag::table
        .find((tenant.0, account.0))
        .select(keybag::sealed)
        .first(conn)
        .await
        .optional()?
        .ok_or(Failure::not_found("keybag"))
}

async fn log(
    conn: &mut Conn,
    (tenant, account, from, limit): &(Tenant, AccountNumber, u64, u32),
) -> Outcome<(Vec<Vec<u8>>, u64)> {
    let length: i64 = accounts::table
        .find((tenant.0, account.0))
        .select(accounts::log_length)
        .first(conn)
        .await
        .optional()?
        .ok_or(Failure::not_found("account"))?;
    let entries = account_log::table
        .filter(account_log::tenant.eq(tenant.0))
        .filter(account_log::account.eq(account.0))
        .filter(account_log::position.ge(columns::position(*from)))
        .order(account_log::position)
        .limit(i64::from(*limit))
        .select(account_log::entry)
        .load(conn)
        .await?;
    Ok((entries, columns::count(length)?))
}

async fn of_user(conn: &mut Conn, (tenant, user): &(Tenant, UserId)) -> Outcome<Option<AccountNumber>> {
    let account: Option<i64> = accounts::table
        .filter(accounts::tenant.eq(tenant.0))
        .filter(accounts::uid.eq(user.0))
        .select(accounts::account)
        .first(conn)
        .await
        .optional()?;
    Ok(account.map(AccountNumber))
}

async fn devices_of(conn: &mut Conn, (tenant, account): &(Tenant, AccountNumber)) -> Outcome<Vec<DeviceRow>> {
    type Row = (Vec<u8>, Vec<u8>, Vec<u8>, i64, Option<i64>, Option<i64>);
    let rows: Vec<Row> = devices::table
        .filter(devices::tenant.eq(tenant.0))
        .filter(devices::account.eq(account.0))
        .order((devices::added_at, devices::device))
        .select((
            devices::device,
            devices::public_key,
            devices::label,
            devices::added_at,
            devices::last_seen,
            devices::revoked_at,
        ))
        .load(conn)
        .await?;
    rows.into_iter()
        .map(|(device, public_key, label, added_at, last_seen, revoked_at)| {
            let public_key = columns::fixed(public_key, "device key")?;
            Ok(DeviceRow { device: columns::device(device)?, public_key, label, added_at, last_seen, revoked_at })
        })
        .collect()
}

async fn key_of(
    conn: &mut Conn,
    (tenant, account, device): &(Tenant, AccountNumber, DeviceId),
) -> Outcome<Option<[u8; 32]>> {
    let key: Option<Vec<u8>> = devices::table
        .find((tenant.0, account.0, device.0))
        .filter(devices::revoked_at.is_null())
        .select(devices::public_key)
        .first(conn)
        .await
        .optional()?;
    key.map(|key| columns::fixed(key, "device key")).transpose()
}

async fn suspend(
    conn: &mut Conn,
    (tenant, account, suspended, audit): &(Tenant, AccountNumber, bool, NewAudit),
) -> Outcome<()> {
    lock(conn, *tenant, *account).await?;
    diesel::update(accounts::table.find((tenant.0, account.0)))
        .set(accounts::suspended.eq(*suspended))
        .execute(conn)
        .await?;
    audit::append_about(conn, *tenant, *account, audit).await
}

struct Deletion {
    tenant: Tenant,
    account: AccountNumber,
    delete_after: Millis,
    keep: Option<SessionId>,
    now: Millis,
    audit: NewAudit,
}

async fn schedule(conn: &mut Conn, deletion: &Deletion) -> Outcome<()> {
    let Deletion { tenant, account, delete_after, keep, now, audit } = deletion;
    lock(conn, *tenant, *account).await?;
    diesel::update(accounts::table.find((tenant.0, account.0)))
        .set(accounts::delete_after.eq(*delete_after))
        .execute(conn)
        .await?;
    let which = keep.map_or(EndSessions::All, EndSessions::AllBut);
    sessions::end(conn, *tenant, *account, which, *now).await?;
    audit::append_about(conn, *tenant, *account, audit).await
}

async fn cancel(conn: &mut Conn, (tenant, account, audit): &(Tenant, AccountNumber, NewAudit)) -> Outcome<()> {
    lock(conn, *tenant, *account).await?;
    // Once its hour has come its files may be going already: what is left is no account to keep.
    let kept = diesel::update(accounts::table.find((tenant.0, account.0)))
        .filter(accounts::delete_after.gt(audit.at))
        .set(accounts::delete_after.eq(None::<Millis>))
        .execute(conn)
        .await?;
    if kept == 0 {
        return Err(Refused::NotToBeDeleted.into());
    }
    audit::append_about(conn, *tenant, *account, audit).await
}

async fn due(conn: &mut Conn, (tenant, now, limit): &(Tenant, Millis, u32)) -> Outcome<Vec<AccountNumber>> {
    let numbers: Vec<i64> = accounts::table
        .filter(accounts::tenant.eq(tenant.0))
        .filter(accounts::delete_after.le(now))
        .order(accounts::delete_after)
        .limit(i64::from(*limit))
        .select(accounts::account)
        .load(conn)
        .await?;
    Ok(numbers.into_iter().map(AccountNumber).collect())
}

/// Everything an account owns goes with its row, by the schema's cascades; only sign-ins under way and counts of
/// failures are not tied to it by a key (see the schema), and vaults may be others' as well. The row itself goes while
/// the tenant's is held: a registration that wants the same name holds the tenant's, too, and so never waits for a row
/// that waits for it.
async fn delete(conn: &mut Conn, (tenant, account, audit): &(Tenant, AccountNumber, NewAudit)) -> Outcome<()> {
    lock(conn, *tenant, *account).await?;
    let about = audit::about(conn, *tenant, *account).await?;
    vaults::people::depart(conn, *tenant, *account).await?;
    diesel::update(tenants::table.find(tenant.0))
        .set(tenants::accounts.eq(tenants::accounts - 1))
        .execute(conn)
        .await?;
    diesel::delete(login_state::table.filter(login_state::tenant.eq(tenant.0)))
        .filter(login_state::account.eq(account.0))
        .execute(conn)
        .await?;
    diesel::delete(failures::table.filter(failures::tenant.eq(tenant.0)))
        .filter(failures::account.eq(account.0))
        .execute(conn)
        .await?;
    diesel::delete(accounts::table.find((tenant.0, account.0))).execute(conn).await?;
    audit::append(conn, *tenant, Some(&about), audit).await
}
