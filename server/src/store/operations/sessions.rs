//! Keeps sign-ins: those between their two steps, those that live, those that have ended.
//!
//! A session's `over_at` says when it ended or will end by itself; it lives while that is in the future.

use super::{Backend, Conn, Reach, accounts as account_rows, audit};
use crate::store::columns;
use crate::store::failure::{Failure, Outcome};
use crate::store::schema::{accounts, credentials, devices, login_state, plans, sessions, tenants};
use crate::store::{
    AccountNumber, EndSessions, LoginStateRow, Millis, NewAudit, NewSession, Refused, Result, Scope, SessionLife,
    SessionRow, Sessions, Tenant,
};
use async_trait::async_trait;
use diesel::{
    BoolExpressionMethods as _, ExpressionMethods as _, JoinOnDsl as _, NullableExpressionMethods as _,
    OptionalExtension as _, QueryDsl as _,
};
use diesel_async::RunQueryDsl as _;
use futures_util::FutureExt as _;
use selkie_protocol::id::{DeviceId, LoginId, SessionId};

#[async_trait]
impl Sessions for Backend {
    async fn put_login_state(&self, tenant: Tenant, state: LoginStateRow) -> Result<()> {
        self.write(Reach::Tenant(tenant), (tenant, state), |conn, args| put_login(conn, args).boxed()).await
    }

    async fn take_login_state(&self, tenant: Tenant, login: LoginId, now: Millis) -> Result<Option<LoginStateRow>> {
        self.write(Reach::Tenant(tenant), (tenant, login, now), |conn, args| take_login(conn, args).boxed()).await
    }

    async fn open_session(&self, tenant: Tenant, session: NewSession, audit: NewAudit) -> Result<SessionRow> {
        self.write(Reach::Tenant(tenant), (tenant, session, audit), |conn, (tenant, session, audit)| {
            open(conn, *tenant, session, audit).boxed()
        })
        .await
    }

    async fn session(&self, tenant: Tenant, session: SessionId) -> Result<Option<SessionRow>> {
        self.read(Reach::Tenant(tenant), (tenant, session), |conn, args| one(conn, args).boxed()).await
    }

    async fn sessions_named(&self, named: Vec<(Tenant, SessionId)>) -> Result<Vec<Option<SessionRow>>> {
        self.log_sessions(named).await
    }

    async fn rotate_session(
        &self,
        tenant: Tenant,
        session: SessionId,
        from_generation: u32,
        now: Millis,
        idle_expires_at: Millis,
    ) -> Result<bool> {
        let rotation = Rotation { tenant, session, from_generation, now, idle_expires_at };
        self.write(Reach::Tenant(tenant), rotation, |conn, rotation| rotate(conn, rotation).boxed()).await
    }

    async fn end_sessions(
        &self,
        tenant: Tenant,
        account: AccountNumber,
        which: EndSessions,
        now: Millis,
        audit: NewAudit,
    ) -> Result<u64> {
        self.write(Reach::Tenant(tenant), (tenant, account, which, now, audit), |conn, args| {
            async move {
                let (tenant, account, which, now, audit) = args;
                account_rows::lock(conn, *tenant, *account).await?;
                let ended = end(conn, *tenant, *account, *which, *now).await?;
                if ended > 0 {
                    audit::append_about(conn, *tenant, *account, audit).await?;
                }
                Ok(ended)
            }
            .boxed()
        })
        .await
    }

    async fn sessions(&self, tenant: Tenant, account: AccountNumber, now: Millis) -> Result<Vec<SessionRow>> {
        self.read(Reach::Tenant(tenant), (tenant, account, now), |conn, args| living(conn, args).boxed()).await
    }
}

/// Ends living sessions of an account that the caller has locked; how many.
pub(super) async fn end(
    conn: &mut Conn,
    tenant: Tenant,
    account: AccountNumber,
    which: EndSessions,
    now: Millis,
) -> Outcome<u64> {
    let living = diesel::update(sessions::table.filter(sessions::tenant.eq(tenant.0)))
        .filter(sessions::account.eq(account.0))
        .filter(sessions::over_at.gt(now))
        .set((sessions::ended_at.eq(now), sessions::over_at.eq(now)));
    let ended = match which {
        EndSessions::One(session) => living.filter(sessions::session.eq(session.0)).execute(conn).await?,
        EndSessions::AllBut(session) => living.filter(sessions::session.ne(session.0)).execute(conn).await?,
        EndSessions::OfDevice(device) => living.filter(sessions::device.eq(device.0)).execute(conn).await?,
        EndSessions::OfRecovery => {
            let recovery = columns::scope_number(Scope::Recovery);
            living.filter(sessions::scope.eq(recovery)).execute(conn).await?
        }
        EndSessions::All => living.execute(conn).await?,
    };
    Ok(ended as u64)
}

/// Binds a living session that has no device to one.
pub(super) async fn bind(
    conn: &mut Conn,
    tenant: Tenant,
    account: AccountNumber,
    session: SessionId,
    device: DeviceId,
    life: SessionLife,
    now: Millis,
) -> Outcome<()> {
    account_rows::require_device(conn, tenant, account, device).await?;
    let bound = diesel::update(sessions::table.find((tenant.0, session.0)))
        .filter(sessions::account.eq(account.0))
        .filter(sessions::device.is_null())
        .filter(sessions::over_at.gt(now))
        .set((
            sessions::device.eq(device.0),
            sessions::idle_expires_at.eq(life.idle_expires_at),
            sessions::expires_at.eq(life.expires_at),
            sessions::over_at.eq(life.over_at()),
        ))
        .execute(conn)
        .await?;
    if bound == 0 {
        return Err(Refused::SessionEnded.into());
    }
    seen(conn, tenant, account, Some(device), now).await
}

async fn put_login(conn: &mut Conn, (tenant, state): &(Tenant, LoginStateRow)) -> Outcome<()> {
    let added = diesel::insert_into(login_state::table)
        .values((
            login_state::tenant.eq(tenant.0),
            login_state::login.eq(state.login.as_bytes()),
            login_state::account.eq(state.account.map(|account| account.0)),
            login_state::purpose.eq(columns::purpose_number(state.purpose)),
            login_state::sealed.eq(&state.sealed),
            login_state::expires_at.eq(state.expires_at),
            login_state::attempts.eq(state.attempts),
        ))
        .on_conflict((login_state::tenant, login_state::login))
        .do_nothing()
        .execute(conn)
        .await?;
    if added == 0 { Err(Refused::IdTaken("sign-in").into()) } else { Ok(()) }
}

async fn take_login(
    conn: &mut Conn,
    (tenant, login, now): &(Tenant, LoginId, Millis),
) -> Outcome<Option<LoginStateRow>> {
    type Row = (Option<i64>, i16, Vec<u8>, i64, i16);
    let row: Option<Row> = diesel::delete(login_state::table.find((tenant.0, login.as_bytes())))
        .filter(login_state::expires_at.gt(now))
        .returning((
            login_state::account,
            login_state::purpose,
            login_state::sealed,
            login_state::expires_at,
            login_state::attempts,
        ))
        .get_result(conn)
        .await
        .optional()?;
    row.map(|(account, purpose, sealed, expires_at, attempts)| {
        Ok(LoginStateRow {
            login: *login,
            account: account.map(AccountNumber),
            purpose: columns::purpose(purpose)?,
            sealed,
            expires_at,
            attempts,
        })
    })
    .transpose()
}

async fn open(conn: &mut Conn, tenant: Tenant, session: &NewSession, audit: &NewAudit) -> Outcome<SessionRow> {
    let NewSession { session, account, device, scope, app, refresh_seed, auth_time, credential_version, now, life } =
        session;
    account_rows::lock(conn, tenant, *account).await?;
    if let Some(version) = credential_version {
        require_credential(conn, tenant, *account, *version).await?;
    }
    if let Some(device) = device {
        account_rows::require_device(conn, tenant, *account, *device).await?;
        end_earlier(conn, tenant, *account, *device, app.as_deref(), *now).await?;
    }
    let added = diesel::insert_into(sessions::table)
        .values((
            sessions::tenant.eq(tenant.0),
            sessions::session.eq(session.0),
            sessions::account.eq(account.0),
            sessions::device.eq(device.as_ref().map(|device| device.as_bytes())),
            sessions::scope.eq(columns::scope_number(*scope)),
            sessions::app.eq(app.as_deref()),
            sessions::refresh_seed.eq(refresh_seed),
            sessions::refresh_generation.eq(0),
            sessions::rotated_at.eq(now),
            sessions::auth_time.eq(auth_time),
            sessions::created_at.eq(now),
            sessions::idle_expires_at.eq(life.idle_expires_at),
            sessions::expires_at.eq(life.expires_at),
            sessions::over_at.eq(life.over_at()),
        ))
        .on_conflict((sessions::tenant, sessions::session))
        .do_nothing()
        .execute(conn)
        .await?;
    if added == 0 {
        return Err(Refused::IdTaken("session").into());
    }
    seen(conn, tenant, *account, *device, *now).await?;
    audit::append_about(conn, tenant, *account, audit).await?;
    one(conn, &(tenant, *session)).await?.ok_or(Failure::not_found("session"))
}

/// The account is locked: a change of its credential comes before this or after the session is there to be ended.
async fn require_credential(conn: &mut Conn, tenant: Tenant, account: AccountNumber, version: i64) -> Outcome<()> {
    let now: i64 = credentials::table.find((tenant.0, account.0)).select(credentials::version).first(conn).await?;
    if now == version { Ok(()) } else { Err(Refused::CredentialChanged.into()) }
}

/// A device has one session for an app: a new sign-in takes the place of an earlier one.
async fn end_earlier(
    conn: &mut Conn,
    tenant: Tenant,
    account: AccountNumber,
    device: DeviceId,
    app: Option<&str>,
    now: Millis,
) -> Outcome<()> {
    let earlier = diesel::update(sessions::table.filter(sessions::tenant.eq(tenant.0)))
        .filter(sessions::account.eq(account.0))
        .filter(sessions::device.eq(device.0))
        .filter(sessions::over_at.gt(now))
        .set((sessions::ended_at.eq(now), sessions::over_at.eq(now)));
    match app {
        Some(app) => earlier.filter(sessions::app.eq(app)).execute(conn).await?,
        None => earlier.filter(sessions::app.is_null()).execute(conn).await?,
    };
    Ok(())
}

/// To the hour: that a device is in use is worth knowing to its owner, when exactly is nobody's business.
const SEEN_TO_MS: i64 = 60 * 60_000;

async fn seen(
    conn: &mut Conn,
    tenant: Tenant,
    account: AccountNumber,
    device: Option<DeviceId>,
    now: Millis,
) -> Outcome<()> {
    let now = now - now.rem_euclid(SEEN_TO_MS);
    diesel::update(accounts::table.find((tenant.0, account.0))).set(accounts::last_seen.eq(now)).execute(conn).await?;
    if let Some(device) = device {
        diesel::update(devices::table.find((tenant.0, account.0, device.0)))
            .set(devices::last_seen.eq(now))
            .execute(conn)
            .await?;
    }
    Ok(())
}

struct Rotation {
    tenant: Tenant,
    session: SessionId,
    from_generation: u32,
    now: Millis,
    idle_expires_at: Millis,
}

async fn rotate(conn: &mut Conn, rotation: &Rotation) -> Outcome<bool> {
    let Rotation { tenant, session, from_generation, now, idle_expires_at } = rotation;
    let account: i64 = sessions::table
        .find((tenant.0, session.0))
        .select(sessions::account)
        .first(conn)
        .await
        .optional()?
        .ok_or(Failure::not_found("session"))?;
    let account = AccountNumber(account);
    account_rows::lock(conn, *tenant, account).await?;
    let (generation, device, expires_at, over_at): (i64, Option<Vec<u8>>, i64, i64) = sessions::table
        .find((tenant.0, session.0))
        .select((sessions::refresh_generation, sessions::device, sessions::expires_at, sessions::over_at))
        .first(conn)
        .await
        .optional()?
        .ok_or(Failure::not_found("session"))?;
    if over_at <= *now {
        return Err(Refused::SessionEnded.into());
    }
    if generation != i64::from(*from_generation) {
        return Ok(false);
    }
    let life = SessionLife { idle_expires_at: *idle_expires_at, expires_at };
    diesel::update(sessions::table.find((tenant.0, session.0)))
        .set((
            sessions::refresh_generation.eq(generation + 1),
            sessions::rotated_at.eq(now),
            sessions::idle_expires_at.eq(idle_expires_at),
            sessions::over_at.eq(life.over_at()),
        ))
        .execute(conn)
        .await?;
    seen(conn, *tenant, account, device.map(columns::device).transpose()?, *now).await?;
    Ok(true)
}

/// What is known of a session's account, of the session itself, of its tokens and of its life.
pub(in crate::store) type Columns = (
    (Vec<u8>, Option<Vec<u8>>, bool, Option<i64>, i16, bool, i32),
    (Vec<u8>, i64, Option<Vec<u8>>, Option<Vec<u8>>, Option<i64>, i16, Option<String>),
    (Vec<u8>, i64, i64),
    (i64, i64, i64, i64, Option<i64>),
);

/// Both ways to ask for sessions read the same columns of the same joined tables; as a macro because the type of such
/// a query takes longer to write than the query.
macro_rules! select_sessions {
    ($tenant:expr) => {
        sessions::table
            .inner_join(
                accounts::table.on(accounts::tenant.eq(sessions::tenant).and(accounts::account.eq(sessions::account))),
            )
            .inner_join(tenants::table.on(tenants::tenant.eq(sessions::tenant)))
            .inner_join(plans::table.on(plans::plan.eq(tenants::plan)))
            .left_join(
                devices::table.on(devices::tenant
                    .eq(sessions::tenant)
                    .and(devices::account.eq(sessions::account))
                    .and(devices::device.nullable().eq(sessions::device))),
            )
            .filter(sessions::tenant.eq($tenant))
            .select((
                (
                    accounts::uuid,
                    accounts::uid,
                    accounts::suspended,
                    accounts::delete_after,
                    accounts::role,
                    tenants::suspended,
                    plans::limit_factor,
                ),
                (
                    sessions::session,
                    sessions::account,
                    sessions::device,
                    devices::public_key.nullable(),
                    devices::revoked_at.nullable(),
                    sessions::scope,
                    sessions::app,
                ),
                (sessions::refresh_seed, sessions::refresh_generation, sessions::rotated_at),
                (
                    sessions::auth_time,
                    sessions::created_at,
                    sessions::idle_expires_at,
                    sessions::expires_at,
                    sessions::ended_at,
                ),
            ))
    };
}

pub(in crate::store) fn session_row(columns: Columns) -> Outcome<SessionRow> {
    let (of_account, of_session, of_tokens, of_life) = columns;
    let (account_uuid, uid, suspended, delete_after, role, tenant_suspended, limit_factor) = of_account;
    let (session, account, device, device_key, device_revoked_at, scope, app) = of_session;
    let (refresh_seed, refresh_generation, rotated_at) = of_tokens;
    let (auth_time, created_at, idle_expires_at, expires_at, ended_at) = of_life;
    Ok(SessionRow {
        session: SessionId(columns::fixed(session, "session")?),
        account: AccountNumber(account),
        account_uuid: columns::uuid(account_uuid)?,
        account_state: columns::account_state(suspended, delete_after, uid.is_some()),
        uid: columns::user(uid)?,
        role: columns::role(role)?,
        tenant_suspended,
        limit_factor,
        device: device.map(columns::device).transpose()?,
        device_key: device_key.map(|key| columns::fixed(key, "device key")).transpose()?,
        device_revoked: device_revoked_at.is_some(),
        scope: columns::scope(scope)?,
        app,
        refresh_seed: columns::fixed(refresh_seed, "refresh seed")?,
        refresh_generation: columns::small(refresh_generation, "generation")?,
        rotated_at,
        auth_time,
        created_at,
        life: SessionLife { idle_expires_at, expires_at },
        ended_at,
    })
}

pub(in crate::store) async fn one(
    conn: &mut Conn,
    (tenant, session): &(Tenant, SessionId),
) -> Outcome<Option<SessionRow>> {
    let row: Option<Columns> =
        select_sessions!(tenant.0).filter(sessions::session.eq(session.0)).first(conn).await.optional()?;
    row.map(session_row).transpose()
}

async fn living(conn: &mut Conn, (tenant, account, now): &(Tenant, AccountNumber, Millis)) -> Outcome<Vec<SessionRow>> {
    let rows: Vec<Columns> = select_sessions!(tenant.0)
        .filter(sessions::account.eq(account.0))
        .filter(sessions::over_at.gt(now))
        .order((sessions::created_at, sessions::session))
        .load(conn)
        .await?;
    rows.into_iter().map(session_row).collect()
}
