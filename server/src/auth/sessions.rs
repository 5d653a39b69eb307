//! Sessions: opening them, recognising their owner on each request, listing and ending them.
//!
//! Owns what a session may do and for how long. Knows nothing of how somebody proved who they are.

use super::{Auth, Refusal, Result};
use crate::limits::{Action, Key, PlanFactor};
use crate::store::{
    AccountNumber, AccountState, EndSessions, NewSession, Scope, SessionLife, SessionRow, Snapshot, Tenant,
};
use selkie_protocol::account::{Session, Sessions};
use selkie_protocol::id::{DeviceId, SessionId, UserId};
use selkie_protocol::session::{SignOut, SignOutScope, Tokens};
use std::sync::Arc;
use uuid::Uuid;

/// How long a recovery may take.
const RECOVERY_MS: i64 = 15 * 60_000;
/// The longest name of an app.
const MAX_APP_NAME: usize = 100;

/// Who sent a request, proven by its access token and confirmed by the store. Only this room can make one.
#[derive(Clone, Debug)]
pub struct Caller {
    pub(super) tenant: Tenant,
    pub(super) account: AccountNumber,
    pub(super) uuid: uuid::Uuid,
    pub(super) session: SessionId,
    pub(super) device: Option<DeviceId>,
    pub(super) scope: Scope,
    pub(super) auth_time: i64,
    pub(super) user: Option<UserId>,
    pub(super) app: Option<Arc<str>>,
    pub(super) plan: PlanFactor,
    pub(super) as_of: Option<Snapshot>,
}

impl Caller {
    pub fn account_uuid(&self) -> uuid::Uuid {
        self.uuid
    }

    /// How many times the table's limits the tenant's plan allows.
    pub fn plan(&self) -> PlanFactor {
        self.plan
    }

    pub fn tenant_number(&self) -> i64 {
        self.tenant.0
    }

    pub fn tenant(&self) -> Tenant {
        self.tenant
    }

    pub fn account(&self) -> AccountNumber {
        self.account
    }

    /// The public name of the person; a bare account has none yet.
    pub fn user(&self) -> Option<UserId> {
        self.user
    }

    /// The device the session is bound to.
    pub fn device(&self) -> Option<DeviceId> {
        self.device
    }

    /// The app the session was opened for.
    pub fn app(&self) -> Option<&str> {
        self.app.as_deref()
    }

    /// Where the database was when this was confirmed, if that is known. It is good for the request this was confirmed
    /// for, which was here before, and for no later one.
    pub fn as_of(&self) -> Option<&Snapshot> {
        self.as_of.as_ref()
    }

    /// Not one that a recovery opened.
    pub fn is_full(&self) -> bool {
        self.scope == Scope::Full
    }

    pub(super) fn must_be_full(&self) -> Result<()> {
        match self.scope {
            Scope::Full => Ok(()),
            Scope::Recovery => Err(Refusal::Forbidden("a recovery sets a new password and nothing else")),
        }
    }
}

#[cfg(test)]
impl Caller {
    /// The same person at another device.
    pub(crate) fn on_device(&self, device: DeviceId) -> Self {
        Caller { device: Some(device), ..self.clone() }
    }
}

/// Refuses for a session that has ended, expired, or whose device, account or tenant may not go on.
pub(super) fn must_stand(row: &SessionRow, now: i64) -> Result<()> {
    if row.device_revoked {
        Err(Refusal::DeviceRevoked)
    } else if row.ended_at.is_some() || row.life.expires_at <= now || row.life.idle_expires_at <= now {
        Err(Refusal::SessionEnded)
    } else if row.tenant_suspended {
        Err(Refusal::TenantSuspended)
    } else if row.account_state == AccountState::Suspended {
        Err(Refusal::AccountSuspended)
    } else {
        Ok(())
    }
}

/// What a session begins with.
pub(super) struct Opening {
    pub(super) account: AccountNumber,
    pub(super) device: Option<DeviceId>,
    pub(super) scope: Scope,
    pub(super) app: Option<String>,
    /// The version of the password, or the recovery key, if one was shown just now.
    pub(super) shown: Option<i64>,
    pub(super) action: &'static str,
}

impl Auth {
    /// Says who sent a request.
    pub async fn authenticate(&self, access_token: &str) -> Result<Caller> {
        let claims = self.verified_claims(access_token).await?;
        let tenant = Tenant(claims.tid);
        let now = self.edges.now_ms();
        let (row, as_of) = self.store.known_session(tenant, claims.sid, now).await?;
        let row = row.ok_or(Refusal::SessionEnded)?;
        if claims.sub != *row.account_uuid.hyphenated().encode_lower(&mut Uuid::encode_buffer()) {
            return Err(Refusal::Unauthenticated);
        }
        must_stand(&row, now)?;
        Ok(Caller {
            tenant,
            account: row.account,
            uuid: row.account_uuid,
            session: row.session,
            device: row.device,
            scope: row.scope,
            auth_time: row.auth_time,
            user: row.uid,
            app: row.app.as_deref().map(Arc::from),
            plan: PlanFactor::of_percent(row.limit_factor),
            as_of,
        })
    }

    /// Whether the session of a request that goes on and on still stands, and as of when. Where it cannot be asked, it
    /// does.
    pub async fn may_go_on(&self, caller: &Caller) -> (bool, Option<Snapshot>) {
        let now = self.edges.now_ms();
        match self.store.known_session(caller.tenant, caller.session, now).await {
            Ok((row, as_of)) => (row.is_some_and(|row| must_stand(&row, now).is_ok()), as_of),
            Err(_) => (true, None),
        }
    }

    /// What changes keys, or the account itself, wants the password again and not too often.
    pub(super) fn may_change_keys(&self, caller: &Caller) -> Result<()> {
        caller.must_be_full()?;
        self.must_be_recent(caller)?;
        self.count_in_plan(Action::ChangeCredentials, &[Key::Account(caller.uuid)], caller.plan)
    }

    pub(super) fn must_be_recent(&self, caller: &Caller) -> Result<()> {
        // A session of a recovery is short, and the recovery key was shown for this alone.
        if caller.scope == Scope::Recovery {
            return Ok(());
        }
        let age = self.edges.now_ms().saturating_sub(caller.auth_time);
        if age <= self.policy.recent_sign_in_ms { Ok(()) } else { Err(Refusal::RecentSignInRequired) }
    }

    /// Opens a session and returns what its owner will hold.
    pub(super) async fn open_session(&self, tenant: Tenant, opening: Opening) -> Result<Tokens> {
        let now = self.edges.now_ms();
        let session = SessionId(self.edges.bytes());
        let life = match opening.scope {
            Scope::Full => self.life(opening.device.is_some(), now),
            Scope::Recovery => SessionLife { idle_expires_at: now + RECOVERY_MS, expires_at: now + RECOVERY_MS },
        };
        let audit = self.audit(opening.action, opening.device);
        let new = NewSession {
            session,
            account: opening.account,
            device: opening.device,
            scope: opening.scope,
            app: opening.app,
            refresh_seed: self.edges.bytes(),
            auth_time: if opening.shown.is_some() { now } else { 0 },
            credential_version: opening.shown,
            now,
            life,
        };
        let row = self.store.open_session(tenant, new, audit).await?;
        must_stand(&row, now)?;
        self.tokens(tenant, &row)
    }

    /// Tokens of a session as it stands now.
    pub(super) async fn session_tokens(&self, tenant: Tenant, session: SessionId) -> Result<Tokens> {
        let row = self.store.session(tenant, session).await?.ok_or(Refusal::SessionEnded)?;
        must_stand(&row, self.edges.now_ms())?;
        self.tokens(tenant, &row)
    }

    pub(super) fn tokens(&self, tenant: Tenant, row: &SessionRow) -> Result<Tokens> {
        Ok(Tokens {
            access_token: self.access_token(tenant, row)?.into(),
            expires_in: self.policy.access_token_ms.unsigned_abs() / 1000,
            refresh_token: self.refresh_token(tenant, row),
            session: row.session,
            scope: row.scope,
            account: row.account_state,
            uid: row.uid,
        })
    }

    pub(super) fn life(&self, with_device: bool, now: i64) -> SessionLife {
        if with_device {
            SessionLife { idle_expires_at: now + self.policy.idle_ms, expires_at: now + self.policy.absolute_ms }
        } else {
            let end = now + self.policy.without_device_ms;
            SessionLife { idle_expires_at: end, expires_at: end }
        }
    }

    /// `GET /v1/account/sessions`
    pub async fn sessions(&self, caller: &Caller) -> Result<Sessions> {
        caller.must_be_full()?;
        let rows = self.store.sessions(caller.tenant, caller.account, self.edges.now_ms()).await?;
        let sessions = rows
            .into_iter()
            .map(|row| Session {
                session: row.session,
                did: row.device,
                app: row.app,
                created_at_ms: row.created_at.unsigned_abs(),
                last_used_ms: row.rotated_at.unsigned_abs(),
                current: row.session == caller.session,
            })
            .collect();
        Ok(Sessions { sessions })
    }

    /// `POST /v1/auth/sign-out`
    pub async fn sign_out(&self, caller: &Caller, request: SignOut) -> Result<()> {
        let which = match request.which {
            SignOutScope::This => EndSessions::One(caller.session),
            SignOutScope::Others => EndSessions::AllBut(caller.session),
            SignOutScope::All => EndSessions::All,
        };
        let audit = self.audit("signed_out", caller.device);
        self.store.end_sessions(caller.tenant, caller.account, which, self.edges.now_ms(), audit).await?;
        Ok(())
    }
}

/// An app names itself as in `org.example.journal`.
pub(super) fn app_name(app: Option<String>) -> Result<Option<String>> {
    let Some(app) = app else { return Ok(None) };
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_');
    if app.is_empty() || app.len() > MAX_APP_NAME || !app.chars().all(fits) {
        let problem = "an app's name has 1 to 100 characters of a-z, 0-9, dot, dash and underscore";
        return Err(Refusal::invalid("app", problem));
    }
    Ok(Some(app))
}
