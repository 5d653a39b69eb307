//! REMEMBERS: the only room that knows a database.
//!
//! Every operation is one whole transaction named for its meaning: it happened or it did not, whatever is killed when.
//! Operations on a tenant's data take the tenant first and cannot be called without one. What an operation means is
//! decided above; here it is only kept. No Diesel type and no HTTP type appears in a signature.
//!
//! The traits below are the contract. `operations` fulfils it, written once; `sqlite` and `postgres` each compile that
//! folder for their connection and bring what differs (docs/decisions/0001). `conformance` is the contract as tests.

mod chain;
mod columns;
#[cfg(test)]
mod conformance;
mod failure;
mod open;
mod postgres;
mod schema;
mod sqlite;
mod vaults;

use async_trait::async_trait;
use selkie_protocol::id::{DeviceId, Incarnation, LinkChannel, LoginId, SessionId, UserId};
use std::path::Path;

#[cfg(test)]
pub(crate) use conformance::announcing::cut_lines;
pub use open::{OpenError, Options, SchemaState, Wall, check_url, let_work, migrate, open, revert, state, wall};
pub use selkie_protocol::account::{AccountState, TenantRole};
pub use selkie_protocol::session::Scope;
pub use vaults::{
    Announcement, Append, Bearings, CheckpointRow, LiveRow, NewChange, NewEntry, NewVault, PageLimits, Place, Question,
    StoredFrame, VaultNumber, VaultRow, Vaults, WrapRow,
};

/// All that is remembered.
pub trait Store: Server + Tenants + Accounts + Sessions + Factors + Links + Audit + Vaults {}
impl<T: Server + Tenants + Accounts + Sessions + Factors + Links + Audit + Vaults> Store for T {}

pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// Why an operation was not done. Nothing of it was.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("no such {0}")]
    NotFound(&'static str),
    #[error("{0}")]
    Refused(#[from] Refused),
    /// The database cannot be reached, is too busy or is shutting down: try again.
    #[error("the database is not available")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The database answered with something that should not be.
    #[error("the database failed")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The state of things does not allow the operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the login name is taken")]
    LoginNameTaken,
    #[error("the invitation is unknown, used up, revoked or expired")]
    InvitationInvalid,
    #[error("the account log has moved on")]
    LogMoved,
    #[error("the account has its keys already")]
    AlreadyComplete,
    #[error("the limit is reached: {0}")]
    LimitReached(&'static str),
    #[error("the name is taken")]
    SlugTaken,
    #[error("the link is not in the right state")]
    LinkState,
    #[error("the session has ended")]
    SessionEnded,
    /// Somebody has this user id, device or session already: ids are hashes or random, so it was sent twice.
    #[error("the {0} is taken")]
    IdTaken(&'static str),
    #[error("the account is not about to be deleted, or its hour has come")]
    NotToBeDeleted,
    #[error("the password or the recovery key has changed meanwhile")]
    CredentialChanged,
}

/// The database's own number of a tenant. Never enters cryptography.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tenant(pub i64);

/// The database's own number of an account, within its tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountNumber(pub i64);

/// Milliseconds since 1970, by the server's clock.
pub type Millis = i64;

// ---------------------------------------------------------------------------------------------------------------------
// The server itself

/// Where a database is in its history, to be compared and nothing else. It never comes again once it has passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot(pub(crate) std::sync::Arc<str>);

/// What belongs to no tenant.
#[async_trait]
pub trait Server: Send + Sync {
    /// Answers if the database can be read, and quickly.
    async fn ping(&self) -> Result<()>;
    /// Where the database is in its history. As long as this stays the same nothing has changed in it: what was read
    /// after it was asked is still so. `None` where that cannot be told; then it must be read again.
    async fn snapshot(&self) -> Result<Option<Snapshot>>;
    /// Gives a new database its identity; leaves an old one as it is. Returns what is there now.
    async fn initialise(&self, first: Identity, default_tenant: NewTenant) -> Result<Identity>;
    /// Sealed OPAQUE setups, oldest first.
    async fn opaque_setups(&self) -> Result<Vec<SealedKey>>;
    /// Adds a setup unless the id is taken (another server was faster); returns all, oldest first.
    async fn add_opaque_setup(&self, setup: SealedKey) -> Result<Vec<SealedKey>>;
    /// Sealed token signing keys, oldest first.
    async fn signing_keys(&self) -> Result<Vec<SealedKey>>;
    /// Adds a key unless the id is taken, and forgets those created before `forget_before`; returns all, oldest first.
    async fn add_signing_key(&self, key: SealedKey, forget_before: Millis) -> Result<Vec<SealedKey>>;
    /// Deletes what has expired (sign-ins and links under way, invitations; `keep_ended_ms` later ended and expired
    /// sessions and the counts of failures) in every tenant, in bounded steps. Returns how many rows went.
    async fn sweep(&self, now: Millis, keep_ended_ms: i64) -> Result<u64>;
    /// Begins another life of the database, after it was restored from a backup.
    async fn begin_another_life(&self, incarnation: Incarnation, now: Millis) -> Result<()>;
    /// Writes a consistent copy of the whole database to a file that does not exist yet, while the store is in use.
    /// A database that has its own means says so in the source of a [`StoreError::Internal`].
    async fn copy_to(&self, file: &Path) -> Result<()>;
    /// Takes no more requests, lets those under way finish, and lets go of the database.
    async fn close(&self);
}

/// Who this database is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub incarnation: Incarnation,
    /// Recognises the master key that sealed what is in here, without revealing it.
    pub master_key_fingerprint: Vec<u8>,
    pub created_at: Millis,
    /// When it was last restored from a backup.
    pub restored_at: Option<Millis>,
}

/// A key of the server, sealed under its master key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedKey {
    pub id: i32,
    pub sealed: Vec<u8>,
    pub created_at: Millis,
}

// ---------------------------------------------------------------------------------------------------------------------
// Tenants and invitations

#[async_trait]
pub trait Tenants: Send + Sync {
    async fn create_tenant(&self, tenant: NewTenant) -> Result<TenantRow>;
    async fn tenants(&self) -> Result<Vec<TenantRow>>;
    async fn tenant_by_slug(&self, slug: &str) -> Result<Option<TenantRow>>;
    async fn tenant_by_number(&self, tenant: Tenant) -> Result<Option<TenantRow>>;
    /// A plan that does not exist is [`StoreError::NotFound`].
    async fn set_tenant_plan(&self, tenant: Tenant, plan: &str, audit: NewAudit) -> Result<()>;
    /// All plans, by name.
    async fn plans(&self) -> Result<Vec<PlanRow>>;
    async fn set_tenant_suspended(&self, tenant: Tenant, suspended: bool, audit: NewAudit) -> Result<()>;

    async fn create_invitation(&self, tenant: Tenant, invitation: NewInvitation, audit: NewAudit) -> Result<i64>;
    /// Replaces the invitation for the first account; refuses with `NotFound` once the server has an account.
    async fn replace_first_invitation(&self, tenant: Tenant, invitation: NewInvitation) -> Result<()>;
    async fn invitations(&self, tenant: Tenant) -> Result<Vec<InvitationRow>>;
    /// One that is revoked already is [`StoreError::NotFound`].
    async fn revoke_invitation(&self, tenant: Tenant, invitation: i64, audit: NewAudit) -> Result<()>;
    /// An invitation that could be used now.
    async fn usable_invitation(
        &self,
        tenant: Tenant,
        code_hash: [u8; 32],
        now: Millis,
    ) -> Result<Option<InvitationRow>>;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTenant {
    pub slug: String,
    pub name: String,
    pub plan: String,
    pub created_at: Millis,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantRow {
    pub tenant: Tenant,
    pub slug: String,
    pub name: String,
    pub plan: String,
    pub suspended: bool,
    pub created_at: Millis,
    pub accounts: i64,
    /// The plan's limits; `None` is unlimited.
    pub max_accounts: Option<i64>,
    pub max_devices: Option<i64>,
    pub max_vaults: Option<i64>,
    pub max_bytes: Option<i64>,
    /// How long superseded payloads stay; `None` is for ever.
    pub history_days: Option<i64>,
    /// How many per cent of the table's rate limits the plan allows.
    pub limit_factor: i32,
}

/// What a tenant may use; `None` is unlimited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanRow {
    pub plan: String,
    pub max_accounts: Option<i64>,
    pub max_devices: Option<i64>,
    /// How many per cent of the table's rate limits it allows.
    pub limit_factor: i32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewInvitation {
    pub code_hash: [u8; 32],
    pub role: TenantRole,
    pub uses: i32,
    pub expires_at: Millis,
    pub created_at: Millis,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvitationRow {
    pub invitation: i64,
    pub role: TenantRole,
    pub uses_left: i32,
    pub expires_at: Millis,
    pub created_at: Millis,
    pub revoked_at: Option<Millis>,
}

// ---------------------------------------------------------------------------------------------------------------------
// Accounts

#[async_trait]
pub trait Accounts: Send + Sync {
    /// What a sign-in needs of an account. The same work whether the name exists or not.
    async fn login_account(&self, tenant: Tenant, login_name: &str) -> Result<Option<LoginAccount>>;
    async fn account(&self, tenant: Tenant, account: AccountNumber) -> Result<AccountRow>;
    /// Accounts in the order they were made, after a number.
    async fn accounts(&self, tenant: Tenant, after: AccountNumber, limit: u32) -> Result<Vec<AccountRow>>;
    /// Makes an account with its credential and, unless it is bare, its log, keybag and first device; uses up the
    /// invitation; all or nothing.
    async fn register(&self, tenant: Tenant, registration: Registration) -> Result<AccountNumber>;
    /// Carries out one decided change of an account, all or nothing. See [`AccountChange`].
    async fn change_account(&self, tenant: Tenant, account: AccountNumber, change: AccountChange) -> Result<()>;
    async fn keybag(&self, tenant: Tenant, account: AccountNumber) -> Result<Vec<u8>>;
    /// Log entries from an index on, and the log's length.
    async fn account_log(
        &self,
        tenant: Tenant,
        account: AccountNumber,
        from: u64,
        limit: u32,
    ) -> Result<(Vec<Vec<u8>>, u64)>;
    /// The account that has this log.
    async fn account_of_user(&self, tenant: Tenant, user: UserId) -> Result<Option<AccountNumber>>;
    async fn devices(&self, tenant: Tenant, account: AccountNumber) -> Result<Vec<DeviceRow>>;
    /// The public key of a device of this account that is not revoked.
    async fn device_key(&self, tenant: Tenant, account: AccountNumber, device: DeviceId) -> Result<Option<[u8; 32]>>;

    async fn set_account_suspended(
        &self,
        tenant: Tenant,
        account: AccountNumber,
        suspended: bool,
        audit: NewAudit,
    ) -> Result<()>;
    /// Ends all sessions but `keep` and sets the hour of deletion.
    async fn schedule_deletion(
        &self,
        tenant: Tenant,
        account: AccountNumber,
        delete_after: Millis,
        keep: Option<SessionId>,
        now: Millis,
        audit: NewAudit,
    ) -> Result<()>;
    /// Only before its hour, by the time of the entry; refused with [`Refused::NotToBeDeleted`] otherwise.
    async fn cancel_deletion(&self, tenant: Tenant, account: AccountNumber, audit: NewAudit) -> Result<()>;
    /// Accounts whose hour has come, a bounded number.
    async fn due_deletions(&self, tenant: Tenant, now: Millis, limit: u32) -> Result<Vec<AccountNumber>>;
    /// Removes every row of the account, and the vaults that nobody is left in. Its files are removed before, by the
    /// caller. Where others stay, a copy of its public log stays with them (docs/decisions/0008).
    async fn delete_account(&self, tenant: Tenant, account: AccountNumber, audit: NewAudit) -> Result<()>;
}

#[derive(Clone, PartialEq, Eq)]
pub struct LoginAccount {
    pub account: AccountNumber,
    /// The OPAQUE credential identifier: random, fixed for life, never shown.
    pub uuid: uuid::Uuid,
    pub uid: Option<UserId>,
    pub setup_id: i32,
    pub record: Vec<u8>,
    /// The newest recovery sign-in key and its generation.
    pub recovery: Option<(u32, [u8; 32])>,
    /// Moves on whenever the password or the recovery key is changed.
    pub credential_version: i64,
}

#[derive(Clone, PartialEq, Eq)]
pub struct AccountRow {
    pub account: AccountNumber,
    pub uuid: uuid::Uuid,
    pub login_name: String,
    pub uid: Option<UserId>,
    pub state: AccountState,
    pub role: TenantRole,
    pub created_at: Millis,
    pub delete_after: Option<Millis>,
    pub log_length: u64,
    /// Kinds of confirmed second factors.
    pub second_factors: Vec<FactorKind>,
    pub devices: u32,
    pub last_seen: Option<Millis>,
}

#[derive(Clone)]
pub struct Registration {
    pub login_name: String,
    pub uuid: uuid::Uuid,
    /// Random; stands for the account in the audit log, so that a deleted account leaves nothing that names it.
    pub audit_subject: [u8; 16],
    /// The invitation to use up; `None` where registration is open.
    pub invitation: Option<[u8; 32]>,
    pub credential: NewCredential,
    /// `None` for a bare account.
    pub identity: Option<NewIdentity>,
    pub now: Millis,
    pub audit: NewAudit,
}

#[derive(Clone)]
pub struct NewCredential {
    pub setup_id: i32,
    pub ksf_id: i16,
    pub record: Vec<u8>,
    pub password_generation: u32,
}

/// The keys of an account, at its making or when a bare one is completed.
#[derive(Clone)]
pub struct NewIdentity {
    pub uid: UserId,
    pub entries: Vec<Vec<u8>>,
    pub keybag: Vec<u8>,
    pub device: NewDevice,
    pub recovery: (u32, [u8; 32]),
}

#[derive(Clone)]
pub struct NewDevice {
    pub device: DeviceId,
    pub public_key: [u8; 32],
    pub label: Vec<u8>,
    pub added_at: Millis,
}

#[derive(Clone, PartialEq, Eq)]
pub struct DeviceRow {
    pub device: DeviceId,
    pub public_key: [u8; 32],
    pub label: Vec<u8>,
    pub added_at: Millis,
    pub last_seen: Option<Millis>,
    pub revoked_at: Option<Millis>,
}

/// What a request wants to change about an account, decided and verified above, carried out in one transaction.
/// Parts that are empty change nothing.
#[derive(Clone, Default)]
pub struct AccountChange {
    pub now: Millis,
    /// The length the log had when the change was decided; refused with [`Refused::LogMoved`] if it has another now.
    /// Only looked at if there are `entries`.
    pub log_length: u64,
    pub entries: Vec<Vec<u8>>,
    /// Completes a bare account (`entries` then stay empty: the identity has them).
    pub identity: Option<NewIdentity>,
    /// When the password was shown that the identity's keybag is sealed under; refused with
    /// [`Refused::CredentialChanged`] if it was changed since.
    pub password_shown_at: Millis,
    pub add_device: Option<NewDevice>,
    /// Revoked devices lose their sessions in the same breath.
    pub revoke_device: Option<DeviceId>,
    pub labels: Vec<(DeviceId, Vec<u8>)>,
    pub keybag: Option<Vec<u8>>,
    /// A new password. Sign-ins and recoveries under way come to nothing, as with a new recovery key.
    pub credential: Option<NewCredential>,
    pub recovery: Option<(u32, [u8; 32])>,
    /// Binds a session that had no device; refused with [`Refused::SessionEnded`] if it has ended or has one.
    pub bind_session: Option<(SessionId, DeviceId, SessionLife)>,
    pub end_sessions: Option<EndSessions>,
    pub remove_factors: bool,
    /// Answers a link that waits for it; refused with [`Refused::LinkState`] otherwise.
    pub answer_link: Option<(LinkChannel, Vec<u8>, DeviceId)>,
    /// Refused with [`Refused::LimitReached`] if a device is added beyond this many that are not revoked.
    pub max_devices: Option<i64>,
    pub audit: Vec<NewAudit>,
}

// ---------------------------------------------------------------------------------------------------------------------
// Signing in and staying signed in

#[async_trait]
pub trait Sessions: Send + Sync {
    /// Keeps a sign-in between its steps, under an id that is not in use.
    async fn put_login_state(&self, tenant: Tenant, state: LoginStateRow) -> Result<()>;
    /// Takes a sign-in that is under way and not expired; nobody can take it again.
    async fn take_login_state(&self, tenant: Tenant, login: LoginId, now: Millis) -> Result<Option<LoginStateRow>>;
    /// Opens a session, and says how it stands. One that is bound to a device ends the earlier sessions of that device
    /// for the same app.
    async fn open_session(&self, tenant: Tenant, session: NewSession, audit: NewAudit) -> Result<SessionRow>;
    /// Everything a request or a refresh must know of a session, in one read. Ended ones are found, too.
    async fn session(&self, tenant: Tenant, session: SessionId) -> Result<Option<SessionRow>>;
    /// The same of many sessions, of any tenants, in the order asked: one round trip.
    async fn sessions_named(&self, named: Vec<(Tenant, SessionId)>) -> Result<Vec<Option<SessionRow>>>;
    /// Moves a live session from one refresh generation to the next. False if another request was faster; refused with
    /// [`Refused::SessionEnded`] if it is over.
    async fn rotate_session(
        &self,
        tenant: Tenant,
        session: SessionId,
        from_generation: u32,
        now: Millis,
        idle_expires_at: Millis,
    ) -> Result<bool>;
    /// Ends live sessions of an account; returns how many. Only if there were any is it written to the audit log.
    async fn end_sessions(
        &self,
        tenant: Tenant,
        account: AccountNumber,
        which: EndSessions,
        now: Millis,
        audit: NewAudit,
    ) -> Result<u64>;
    /// Sessions that have not ended or expired.
    async fn sessions(&self, tenant: Tenant, account: AccountNumber, now: Millis) -> Result<Vec<SessionRow>>;
}

/// A sign-in between its two steps. A name that does not exist leaves a row, too.
#[derive(Clone, PartialEq, Eq)]
pub struct LoginStateRow {
    pub login: LoginId,
    pub account: Option<AccountNumber>,
    pub purpose: LoginPurpose,
    pub sealed: Vec<u8>,
    pub expires_at: Millis,
    /// Second factors tried and found wrong.
    pub attempts: i16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginPurpose {
    /// Waits for KE3.
    Password,
    /// KE3 was right; waits for the second factor.
    SecondFactor,
    /// Waits for the recovery key's signature.
    Recovery,
}

#[derive(Clone)]
pub struct NewSession {
    pub session: SessionId,
    pub account: AccountNumber,
    pub device: Option<DeviceId>,
    pub scope: Scope,
    pub app: Option<String>,
    /// Random; with the master key it yields the refresh tokens of this session.
    pub refresh_seed: [u8; 32],
    /// When the password was shown; 0 if it was not, as by a linked device.
    pub auth_time: Millis,
    /// The credential that was shown, if one was; refused with [`Refused::CredentialChanged`] if it is another now.
    pub credential_version: Option<i64>,
    pub now: Millis,
    pub life: SessionLife,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLife {
    pub idle_expires_at: Millis,
    pub expires_at: Millis,
}

impl SessionLife {
    /// When the session ends by itself if it is not used any more.
    pub fn over_at(self) -> Millis {
        self.idle_expires_at.min(self.expires_at)
    }
}

#[derive(Clone, PartialEq, Eq)]
pub struct SessionRow {
    pub session: SessionId,
    pub account: AccountNumber,
    pub account_uuid: uuid::Uuid,
    pub uid: Option<UserId>,
    pub account_state: AccountState,
    pub role: TenantRole,
    pub tenant_suspended: bool,
    /// Of the tenant's plan, in per cent.
    pub limit_factor: i32,
    pub device: Option<DeviceId>,
    pub device_key: Option<[u8; 32]>,
    pub device_revoked: bool,
    pub scope: Scope,
    pub app: Option<String>,
    pub refresh_seed: [u8; 32],
    pub refresh_generation: u32,
    pub rotated_at: Millis,
    pub auth_time: Millis,
    pub created_at: Millis,
    pub life: SessionLife,
    pub ended_at: Option<Millis>,
}

/// Which sessions of an account to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndSessions {
    One(SessionId),
    AllBut(SessionId),
    OfDevice(DeviceId),
    /// Those that the recovery key opened.
    OfRecovery,
    All,
}

// ---------------------------------------------------------------------------------------------------------------------
// Second factors

#[async_trait]
pub trait Factors: Send + Sync {
    async fn factors(&self, tenant: Tenant, account: AccountNumber) -> Result<Vec<FactorRow>>;
    /// Keeps a factor that is not confirmed yet, in place of an earlier unconfirmed one of its kind.
    async fn begin_factor(
        &self,
        tenant: Tenant,
        account: AccountNumber,
        kind: FactorKind,
        sealed: Vec<u8>,
        now: Millis,
    ) -> Result<i64>;
    /// Confirms it, replaces a confirmed one of its kind, and replaces the recovery codes.
    async fn confirm_factor(
        &self,
        tenant: Tenant,
        account: AccountNumber,
        factor: i64,
        used_step: i64,
        recovery_codes: Vec<[u8; 32]>,
        audit: NewAudit,
    ) -> Result<()>;
    async fn remove_factors(&self, tenant: Tenant, account: AccountNumber, audit: NewAudit) -> Result<()>;
    /// Marks a TOTP step as used. False if it, or a later one, was used before.
    async fn use_totp_step(&self, tenant: Tenant, account: AccountNumber, factor: i64, step: i64) -> Result<bool>;
    /// Uses up a recovery code. False if there is no such code left.
    async fn use_recovery_code(
        &self,
        tenant: Tenant,
        account: AccountNumber,
        code_hash: [u8; 32],
        now: Millis,
    ) -> Result<bool>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FactorKind {
    Totp,
    Webauthn,
}

#[derive(Clone, PartialEq, Eq)]
pub struct FactorRow {
    pub factor: i64,
    pub kind: FactorKind,
    pub sealed: Vec<u8>,
    pub confirmed: bool,
    pub last_step: i64,
}

// ---------------------------------------------------------------------------------------------------------------------
// Linking devices

#[async_trait]
pub trait Links: Send + Sync {
    /// Refused with [`Refused::LinkState`] if the channel is in use.
    async fn open_link(&self, tenant: Tenant, link: NewLink) -> Result<()>;
    async fn link(&self, tenant: Tenant, channel: LinkChannel, now: Millis) -> Result<Option<LinkRow>>;
    /// Puts the new device's request, once; refused with [`Refused::LinkState`] after that.
    async fn request_link(&self, tenant: Tenant, channel: LinkChannel, request: Vec<u8>, now: Millis) -> Result<()>;
    /// Uses up an answered link: the device it certified, and the account. Nobody can use it again.
    async fn use_link(
        &self,
        tenant: Tenant,
        channel: LinkChannel,
        now: Millis,
    ) -> Result<Option<(AccountNumber, DeviceId)>>;
}

#[derive(Clone, PartialEq, Eq)]
pub struct NewLink {
    pub channel: LinkChannel,
    pub account: AccountNumber,
    pub offer: Vec<u8>,
    pub expires_at: Millis,
}

#[derive(Clone, PartialEq, Eq)]
pub struct LinkRow {
    pub account: AccountNumber,
    pub offer: Vec<u8>,
    pub request: Option<Vec<u8>>,
    pub answer: Option<Vec<u8>>,
    pub device: Option<DeviceId>,
}

// ---------------------------------------------------------------------------------------------------------------------
// The audit log

/// Append-only and hash-chained by tenant. Entries about an account name it by its random subject, which only the
/// account's own row knows.
#[async_trait]
pub trait Audit: Send + Sync {
    async fn record(&self, tenant: Tenant, account: Option<AccountNumber>, audit: NewAudit) -> Result<()>;
    /// Counts one more failure; only the first of its kind on a day becomes an entry of the account's. Those of names
    /// that do not exist are counted together and leave no entry. The same work in each case.
    async fn count_failure(
        &self,
        tenant: Tenant,
        account: Option<AccountNumber>,
        kind: FailureKind,
        audit: NewAudit,
    ) -> Result<()>;
    /// What [`count_failure`](Self::count_failure) counted for an account and is still kept.
    async fn failures(&self, tenant: Tenant, account: AccountNumber) -> Result<Vec<FailureRow>>;
    /// What happened to an account, newest first, before a number.
    async fn audit(&self, tenant: Tenant, account: AccountNumber, before: i64, limit: u32) -> Result<Vec<AuditRow>>;
    /// Walks the whole chain of a tenant; the number of the first entry that does not fit, if any.
    async fn verify_audit(&self, tenant: Tenant) -> Result<Option<i64>>;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewAudit {
    pub at: Millis,
    /// A stable word.
    pub action: &'static str,
    pub device: Option<DeviceId>,
    /// Plain words without names, addresses or secrets.
    pub detail: Option<String>,
}

/// A way of failing to come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    SignIn,
    SecondFactor,
    Recovery,
}

/// How often an account failed to come in, on one day (whole days since 1970).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureRow {
    pub kind: FailureKind,
    pub day: i64,
    pub times: i64,
}

impl FailureKind {
    /// What its entry in the audit log is called.
    pub fn action(self) -> &'static str {
        match self {
            FailureKind::SignIn => "sign_in_failed",
            FailureKind::SecondFactor => "second_factor_failed",
            FailureKind::Recovery => "recovery_failed",
        }
    }
}

impl FailureRow {
    pub fn day_of(at: Millis) -> i64 {
        at.div_euclid(24 * 60 * 60_000)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRow {
    pub number: i64,
    pub at: Millis,
    pub action: String,
    pub device: Option<DeviceId>,
    pub detail: Option<String>,
}
