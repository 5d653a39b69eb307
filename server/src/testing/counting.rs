//! A store that notes which of its operations were called.

use crate::store::*;
use async_trait::async_trait;
use selkie_protocol::id::{
    ChangeId, DeviceId, Incarnation, LinkChannel, LoginId, RecordId, SessionId, UserId, VaultId,
};
use selkie_protocol::log::Head;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Passes everything on, and remembers the names of the calls.
pub(crate) struct Counting {
    inner: Arc<dyn Store>,
    calls: Mutex<Vec<&'static str>>,
}

impl Counting {
    pub(crate) fn new(inner: Arc<dyn Store>) -> Self {
        Counting { inner, calls: Mutex::new(Vec::new()) }
    }

    /// The calls since the last time.
    pub(crate) fn take(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }

    fn note(&self, call: &'static str) {
        self.calls.lock().unwrap().push(call);
    }
}

#[async_trait]
impl Server for Counting {
    async fn ping(&self) -> Result<()> {
        self.note("ping");
        self.inner.ping().await
    }
    async fn snapshot(&self) -> Result<Option<Snapshot>> {
        self.note("snapshot");
        self.inner.snapshot().await
    }
    async fn initialise(&self, first: Identity, default_tenant: NewTenant) -> Result<Identity> {
        self.note("initialise");
        self.inner.initialise(first, default_tenant).await
    }
    async fn opaque_setups(&self) -> Result<Vec<SealedKey>> {
        self.note("opaque_setups");
        self.inner.opaque_setups().await
    }
    async fn add_opaque_setup(&self, setup: SealedKey) -> Result<Vec<SealedKey>> {
        self.note("add_opaque_setup");
        self.inner.add_opaque_setup(setup).await
    }
    async fn signing_keys(&self) -> Result<Vec<SealedKey>> {
        self.note("signing_keys");
        self.inner.signing_keys().await
    }
    async fn add_signing_key(&self, key: SealedKey, forget_before: Millis) -> Result<Vec<SealedKey>> {
        self.note("add_signing_key");
        self.inner.add_signing_key(key, forget_before).await
    }
    async fn sweep(&self, now: Millis, keep_ended_ms: i64) -> Result<u64> {
        self.note("sweep");
        self.inner.sweep(now, keep_ended_ms).await
    }
    async fn begin_another_life(&self, incarnation: Incarnation, now: Millis) -> Result<()> {
        self.note("begin_another_life");
        self.inner.begin_another_life(incarnation, now).await
    }
    async fn copy_to(&self, file: &Path) -> Result<()> {
        self.note("copy_to");
        self.inner.copy_to(file).await
    }
    async fn close(&self) {
        self.note("close");
        self.inner.close().await
    }
}

#[async_trait]
impl Tenants for Counting {
    async fn create_tenant(&self, tenant: NewTenant) -> Result<TenantRow> {
        self.note("create_tenant");
        self.inner.create_tenant(tenant).await
    }
    async fn tenants(&self) -> Result<Vec<TenantRow>> {
        self.note("tenants");
        self.inner.tenants().await
    }
    async fn tenant_by_slug(&self, slug: &str) -> Result<Option<TenantRow>> {
        self.note("tenant_by_slug");
        self.inner.tenant_by_slug(slug).await
    }
    async fn tenant_by_number(&self, tenant: Tenant) -> Result<Option<TenantRow>> {
        self.note("tenant_by_number");
        self.inner.tenant_by_number(tenant).await
    }
    async fn set_tenant_plan(&self, tenant: Tenant, plan: &str, audit: NewAudit) -> Result<()> {
        self.note("set_tenant_plan");
        self.inner.set_tenant_plan(tenant, plan, audit).await
    }
    async fn plans(&self) -> Result<Vec<PlanRow>> {
        self.note("plans");
        self.inner.plans().await
    }
    async fn set_tenant_suspended(&self, tenant: Tenant, suspended: bool, audit: NewAudit) -> Result<()> {
        self.note("set_tenant_suspended");
        self.inner.set_tenant_suspended(tenant, suspended, audit).await
    }
    async fn create_invitation(&self, tenant: Tenant, invitation: NewInvitation, audit: NewAudit) -> Result<i64> {
        self.note("create_invitation");
        self.inner.create_invitation(tenant, invitation, audit).await
    }
    async fn replace_first_invitation(&self, tenant: Tenant, invitation: NewInvitation) -> Result<()> {
        self.note("replace_first_invitation");
        self.inner.replace_first_invitation(tenant, invitation).await
    }
    async fn invitations(&self, tenant: Tenant) -> Result<Vec<InvitationRow>> {
        self.note("invitations");
        self.inner.invitations(tenant).await
    }
    async fn revoke_invitation(&self, tenant: Tenant, invitation: i64, audit: NewAudit) -> Result<()> {
        self.note("revoke_invitation");
        self.inner.revoke_invitation(tenant, invitation, audit).await
    }
    async fn usable_invitation(
        &self,
        tenant: Tenant,
        code_hash: [u8; 32],
        now: Millis,
    ) -> Result<Option<InvitationRow>> {
        self.note("usable_invitation");
        self.inner.usable_invitation(tenant, code_hash, now).await
    }
}

#[async_trait]
impl Accounts for Counting {
    async fn login_account(&self, tenant: Tenant, login_name: &str) -> Result<Option<LoginAccount>> {
        self.note("login_account");
        self.inner.login_account(tenant, login_name).await
    }
    async fn account(&self, tenant: Tenant, account: AccountNumber) -> Result<AccountRow> {
        self.note("account");
        self.inner.account(tenant, account).await
    }
    async fn accounts(&self, tenant: Tenant, after: AccountNumber, limit: u32) -> Result<Vec<AccountRow>> {
        self.note("accounts");
        self.inner.accounts(tenant, after, limit).await
    }
    async fn register(&self, tenant: Tenant, registration: Registration) -> Result<AccountNumber> {
        self.note("register");
        self.inner.register(tenant, registration).await
    }
    async fn change_account(&self, tenant: Tenant, account: AccountNumber, change: AccountChange) -> Result<()> {
        self.note("change_account");
        self.inner.change_account(tenant, account, change).await
    }
    async fn keybag(&self, tenant: Tenant, account: AccountNumber) -> Result<Vec<u8>> {
        self.note("keybag");
        self.inner.keybag(tenant, account).await
    }
    async fn account_of_user(&self, tenant: Tenant, user: UserId) -> Result<Option<AccountNumber>> {
        self.note("account_of_user");
        self.inner.account_of_user(tenant, user).await
    }

    async fn account_log(
        &self,
        tenant: Tenant,
        account: AccountNumber,
        from: u64,
        limit: u32,
    ) -> Result<(Vec<Vec<u8>>, u64)> {
        self.note("account_log");
        self.inner.account_log(tenant, account, from, limit).await
    }
    async fn devices(&self, tenant: Tenant, account: AccountNumber) -> Result<Vec<DeviceRow>> {
        self.note("devices");
        self.inner.devices(tenant, account).await
    }
    async fn device_key(&self, tenant: Tenant, account: AccountNumber, device: DeviceId) -> Result<Option<[u8; 32]>> {
        self.note("device_key");
        self.inner.device_key(tenant, account, device).await
    }
    async fn set_account_suspended(
        &self,
        tenant: Tenant,
        account: AccountNumber,
        suspended: bool,
        audit: NewAudit,
    ) -> Result<()> {
        self.note("set_account_suspended");
        self.inner.set_account_suspended(tenant, account, suspended, audit).await
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
        self.note("schedule_deletion");
        self.inner.schedule_deletion(tenant, account, delete_after, keep, now, audit).await
    }
    async fn cancel_deletion(&self, tenant: Tenant, account: AccountNumber, audit: NewAudit) -> Result<()> {
        self.note("cancel_deletion");
        self.inner.cancel_deletion(tenant, account, audit).await
    }
    async fn due_deletions(&self, tenant: Tenant, now: Millis, limit: u32) -> Result<Vec<AccountNumber>> {
        self.note("due_deletions");
        self.inner.due_deletions(tenant, now, limit).await
    }
    async fn delete_account(&self, tenant: Tenant, account: AccountNumber, audit: NewAudit) -> Result<()> {
        self.note("delete_account");
        self.inner.delete_account(tenant, account, audit).await
    }
}

#[async_trait]
impl Sessions for Counting {
    async fn put_login_state(&self, tenant: Tenant, state: LoginStateRow) -> Result<()> {
        self.note("put_login_state");
        self.inner.put_login_state(tenant, state).await
    }
    async fn take_login_state(&self, tenant: Tenant, login: LoginId, now: Millis) -> Result<Option<LoginStateRow>> {
        self.note("take_login_state");
        self.inner.take_login_state(tenant, login, now).await
    }
    async fn open_session(&self, tenant: Tenant, session: NewSession, audit: NewAudit) -> Result<SessionRow> {
        self.note("open_session");
        self.inner.open_session(tenant, session, audit).await
    }
    async fn session(&self, tenant: Tenant, session: SessionId) -> Result<Option<SessionRow>> {
        self.note("session");
        self.inner.session(tenant, session).await
    }
    async fn sessions_named(&self, named: Vec<(Tenant, SessionId)>) -> Result<Vec<Option<SessionRow>>> {
        self.note("sessions_named");
        self.inner.sessions_named(named).await
    }
    async fn rotate_session(
        &self,
        tenant: Tenant,
        session: SessionId,
        from_generation: u32,
        now: Millis,
        idle_expires_at: Millis,
    ) -> Result<bool> {
        self.note("rotate_session");
        self.inner.rotate_session(tenant, session, from_generation, now, idle_expires_at).await
    }
    async fn end_sessions(
        &self,
        tenant: Tenant,
        account: AccountNumber,
        which: EndSessions,
        now: Millis,
        audit: NewAudit,
    ) -> Result<u64> {
        self.note("end_sessions");
        self.inner.end_sessions(tenant, account, which, now, audit).await
    }
    async fn sessions(&self, tenant: Tenant, account: AccountNumber, now: Millis) -> Result<Vec<SessionRow>> {
        self.note("sessions");
        self.inner.sessions(tenant, account, now).await
    }
}

#[async_trait]
impl Factors for Counting {
    async fn factors(&self, tenant: Tenant, account: AccountNumber) -> Result<Vec<FactorRow>> {
        self.note("factors");
        self.inner.factors(tenant, account).await
    }
    async fn begin_factor(
        &self,
        tenant: Tenant,
        account: AccountNumber,
        kind: FactorKind,
        sealed: Vec<u8>,
        now: Millis,
    ) -> Result<i64> {
        self.note("begin_factor");
        self.inner.begin_factor(tenant, account, kind, sealed, now).await
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
        self.note("confirm_factor");
        self.inner.confirm_factor(tenant, account, factor, used_step, recovery_codes, audit).await
    }
    async fn remove_factors(&self, tenant: Tenant, account: AccountNumber, audit: NewAudit) -> Result<()> {
        self.note("remove_factors");
        self.inner.remove_factors(tenant, account, audit).await
    }
    async fn use_totp_step(&self, tenant: Tenant, account: AccountNumber, factor: i64, step: i64) -> Result<bool> {
        self.note("use_totp_step");
        self.inner.use_totp_step(tenant, account, factor, step).await
    }
    async fn use_recovery_code(
        &self,
        tenant: Tenant,
        account: AccountNumber,
        code_hash: [u8; 32],
        now: Millis,
    ) -> Result<bool> {
        self.note("use_recovery_code");
        self.inner.use_recovery_code(tenant, account, code_hash, now).await
    }
}

#[async_trait]
impl Links for Counting {
    async fn open_link(&self, tenant: Tenant, link: NewLink) -> Result<()> {
        self.note("open_link");
        self.inner.open_link(tenant, link).await
    }
    async fn link(&self, tenant: Tenant, channel: LinkChannel, now: Millis) -> Result<Option<LinkRow>> {
        self.note("link");
        self.inner.link(tenant, channel, now).await
    }
    async fn request_link(&self, tenant: Tenant, channel: LinkChannel, request: Vec<u8>, now: Millis) -> Result<()> {
        self.note("request_link");
        self.inner.request_link(tenant, channel, request, now).await
    }
    async fn use_link(
        &self,
        tenant: Tenant,
        channel: LinkChannel,
        now: Millis,
    ) -> Result<Option<(AccountNumber, DeviceId)>> {
        self.note("use_link");
        self.inner.use_link(tenant, channel, now).await
    }
}

#[async_trait]
impl Audit for Counting {
    async fn record(&self, tenant: Tenant, account: Option<AccountNumber>, audit: NewAudit) -> Result<()> {
        self.note("record");
        self.inner.record(tenant, account, audit).await
    }
    async fn count_failure(
        &self,
        tenant: Tenant,
        account: Option<AccountNumber>,
        kind: FailureKind,
        audit: NewAudit,
    ) -> Result<()> {
        self.note("count_failure");
        self.inner.count_failure(tenant, account, kind, audit).await
    }
    async fn failures(&self, tenant: Tenant, account: AccountNumber) -> Result<Vec<FailureRow>> {
        self.note("failures");
        self.inner.failures(tenant, account).await
    }
    async fn audit(&self, tenant: Tenant, account: AccountNumber, before: i64, limit: u32) -> Result<Vec<AuditRow>> {
        self.note("audit");
        self.inner.audit(tenant, account, before, limit).await
    }
    async fn verify_audit(&self, tenant: Tenant) -> Result<Option<i64>> {
        self.note("verify_audit");
        self.inner.verify_audit(tenant).await
    }
}

#[async_trait]
impl Vaults for Counting {
    async fn create_vault(&self, tenant: Tenant, vault: NewVault) -> Result<VaultNumber> {
        self.note("create_vault");
        self.inner.create_vault(tenant, vault).await
    }
    async fn vault(&self, tenant: Tenant, vid: VaultId) -> Result<Option<VaultRow>> {
        self.note("vault");
        self.inner.vault(tenant, vid).await
    }
    async fn vaults_of(&self, tenant: Tenant, account: AccountNumber) -> Result<Vec<VaultRow>> {
        self.note("vaults_of");
        self.inner.vaults_of(tenant, account).await
    }
    async fn vaults_of_many(&self, accounts: Vec<(Tenant, AccountNumber)>) -> Result<Vec<Vec<VaultRow>>> {
        self.note("vaults_of_many");
        self.inner.vaults_of_many(accounts).await
    }
    async fn vaults_left_empty_by(&self, tenant: Tenant, account: AccountNumber) -> Result<Vec<VaultRow>> {
        self.note("vaults_left_empty_by");
        self.inner.vaults_left_empty_by(tenant, account).await
    }
    async fn empty_vaults_left_by(&self, tenant: Tenant, account: AccountNumber) -> Result<bool> {
        self.note("empty_vaults_left_by");
        self.inner.empty_vaults_left_by(tenant, account).await
    }
    async fn positions(&self, vaults: Vec<Place>) -> Result<Vec<u64>> {
        self.note("positions");
        self.inner.positions(vaults).await
    }
    async fn bearings(&self, questions: Vec<Question>) -> Result<Vec<Option<Bearings>>> {
        self.note("bearings");
        self.inner.bearings(questions).await
    }
    async fn append(&self, appends: Vec<Append>) -> Result<Vec<bool>> {
        self.note("append");
        self.inner.append(appends).await
    }
    async fn entries_after(&self, at: Place, after: u64, limits: PageLimits) -> Result<(Vec<StoredFrame>, Head)> {
        self.note("entries_after");
        self.inner.entries_after(at, after, limits).await
    }
    async fn entries_alone_after(&self, at: Place, after: u64, limits: PageLimits) -> Result<Vec<(u64, Vec<u8>)>> {
        self.note("entries_alone_after");
        self.inner.entries_alone_after(at, after, limits).await
    }
    async fn removal_of(&self, at: Place, account: AccountNumber) -> Result<Option<(Head, Millis)>> {
        self.note("removal_of");
        self.inner.removal_of(at, account).await
    }
    async fn controls_after(&self, at: Place, after: u64, limits: PageLimits) -> Result<Vec<StoredFrame>> {
        self.note("controls_after");
        self.inner.controls_after(at, after, limits).await
    }
    async fn entry_hashes(&self, at: Place, from: u64, to: u64) -> Result<Vec<[u8; 32]>> {
        self.note("entry_hashes");
        self.inner.entry_hashes(at, from, to).await
    }
    async fn chain_value(&self, at: Place, n: u64) -> Result<Option<[u8; 32]>> {
        self.note("chain_value");
        self.inner.chain_value(at, n).await
    }
    async fn entry_of(
        &self,
        at: Place,
        device: DeviceId,
        dev_seq: u64,
        lookback: u64,
    ) -> Result<Option<(u64, [u8; 32])>> {
        self.note("entry_of");
        self.inner.entry_of(at, device, dev_seq, lookback).await
    }
    async fn wraps(&self, at: Place, account: AccountNumber) -> Result<Vec<WrapRow>> {
        self.note("wraps");
        self.inner.wraps(at, account).await
    }
    async fn add_wraps(&self, at: Place, wraps: Vec<WrapRow>) -> Result<()> {
        self.note("add_wraps");
        self.inner.add_wraps(at, wraps).await
    }
    async fn log_of_user(
        &self,
        tenant: Tenant,
        user: UserId,
        from: u64,
        limit: u32,
    ) -> Result<Option<(Vec<Vec<u8>>, u64)>> {
        self.note("log_of_user");
        self.inner.log_of_user(tenant, user, from, limit).await
    }
    async fn live_at(
        &self,
        at: Place,
        n: u64,
        after: Option<(RecordId, ChangeId)>,
        limit: u32,
    ) -> Result<Vec<LiveRow>> {
        self.note("live_at");
        self.inner.live_at(at, n, after, limit).await
    }
    async fn add_checkpoint(&self, at: Place, checkpoint: CheckpointRow, keep: u32) -> Result<Vec<u64>> {
        self.note("add_checkpoint");
        self.inner.add_checkpoint(at, checkpoint, keep).await
    }
    async fn checkpoints(&self, at: Place) -> Result<Vec<CheckpointRow>> {
        self.note("checkpoints");
        self.inner.checkpoints(at).await
    }
    async fn checkpoints_to_prepare(&self, limit: u32) -> Result<Vec<(Place, u64)>> {
        self.note("checkpoints_to_prepare");
        self.inner.checkpoints_to_prepare(limit).await
    }
    async fn prune(&self, at: Place, before: Millis, keep_live_at: Vec<u64>) -> Result<(u64, bool)> {
        self.note("prune");
        self.inner.prune(at, before, keep_live_at).await
    }
    async fn vaults_to_prune(&self, before: Millis, after: Option<Place>, limit: u32) -> Result<Vec<Place>> {
        self.note("vaults_to_prune");
        self.inner.vaults_to_prune(before, after, limit).await
    }
    async fn space(&self, tenant: Tenant) -> Result<(u64, Option<u64>)> {
        self.note("space");
        self.inner.space(tenant).await
    }
    async fn announce(&self, moved: Vec<(Place, u64)>) -> Result<()> {
        self.note("announce");
        self.inner.announce(moved).await
    }
    fn announcements(&self) -> tokio::sync::broadcast::Receiver<Announcement> {
        self.note("announcements");
        self.inner.announcements()
    }
}
