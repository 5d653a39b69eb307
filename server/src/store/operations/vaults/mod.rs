//! Vaults: their logs, what is live in them, their keys and people.
//!
//! Owns the trait's front; what each question means is in the modules below. What pushes and polls ask most is handed
//! to the backend (`log_*`), which may have a way of its own: see docs/decisions/0001.

mod append;
mod checkpoints;
mod create;
mod live;
mod log;
pub(super) mod people;
mod prune;

pub(in crate::store) use append::{append, is_rare};
#[allow(unused_imports, reason = "PostgreSQL has statements of its own")]
pub(in crate::store) use {
    live::{LIVE_COLUMNS, LiveColumns, live_row},
    log::page,
    people::vaults_of,
};

use super::{Backend, Conn, Reach, lock_account, lock_vault, tenants};
use crate::store::columns;
use crate::store::failure::Outcome;
use crate::store::schema::vaults;
use crate::store::{
    AccountNumber, Announcement, Append, Bearings, CheckpointRow, LiveRow, Millis, NewVault, PageLimits, Place,
    Question, Result, StoredFrame, Tenant, VaultNumber, VaultRow, Vaults, WrapRow,
};
use async_trait::async_trait;
use diesel::{OptionalExtension as _, QueryDsl as _};
use diesel_async::RunQueryDsl as _;
use futures_util::FutureExt as _;
use selkie_protocol::id::{ChangeId, DeviceId, RecordId, UserId, VaultId};
use selkie_protocol::log::Head;
use tokio::sync::broadcast;

#[async_trait]
impl Vaults for Backend {
    async fn create_vault(&self, tenant: Tenant, vault: NewVault) -> Result<VaultNumber> {
        self.write(Reach::Tenant(tenant), (tenant, vault), |conn, (tenant, vault)| {
            create::create(conn, *tenant, vault).boxed()
        })
        .await
    }

    async fn vault(&self, tenant: Tenant, vid: VaultId) -> Result<Option<VaultRow>> {
        self.read(Reach::Tenant(tenant), (tenant, vid), |conn, (tenant, vid)| create::named(conn, *tenant, vid).boxed())
            .await
    }

    async fn vaults_of(&self, tenant: Tenant, account: AccountNumber) -> Result<Vec<VaultRow>> {
        self.read(Reach::Tenant(tenant), (tenant, account), |conn, (tenant, account)| {
            people::vaults_of(conn, *tenant, *account).boxed()
        })
        .await
    }

    async fn vaults_of_many(&self, accounts: Vec<(Tenant, AccountNumber)>) -> Result<Vec<Vec<VaultRow>>> {
        self.log_vaults_of(accounts).await
    }

    async fn vaults_left_empty_by(&self, tenant: Tenant, account: AccountNumber) -> Result<Vec<VaultRow>> {
        self.read(Reach::Tenant(tenant), (tenant, account), |conn, (tenant, account)| {
            people::left_empty_by(conn, *tenant, *account).boxed()
        })
        .await
    }

    async fn empty_vaults_left_by(&self, tenant: Tenant, account: AccountNumber) -> Result<bool> {
        self.write(Reach::Tenant(tenant), (tenant, account), |conn, (tenant, account)| {
            prune::empty(conn, *tenant, *account).boxed()
        })
        .await
    }

    async fn positions(&self, vaults: Vec<Place>) -> Result<Vec<u64>> {
        self.log_positions(vaults).await
    }

    async fn bearings(&self, questions: Vec<Question>) -> Result<Vec<Option<Bearings>>> {
        self.log_bearings(questions).await
    }

    async fn append(&self, appends: Vec<Append>) -> Result<Vec<bool>> {
        self.log_append(appends).await
    }

    async fn entries_after(&self, at: Place, after: u64, limits: PageLimits) -> Result<(Vec<StoredFrame>, Head)> {
        self.log_entries_after(at, after, limits).await
    }

    async fn entries_alone_after(&self, at: Place, after: u64, limits: PageLimits) -> Result<Vec<(u64, Vec<u8>)>> {
        self.read(Reach::Tenant(at.tenant), (at, after, limits), |conn, (at, after, limits)| {
            log::entries_alone_after(conn, *at, *after, *limits).boxed()
        })
        .await
    }

    async fn controls_after(&self, at: Place, after: u64, limits: PageLimits) -> Result<Vec<StoredFrame>> {
        self.read(Reach::Tenant(at.tenant), (at, after, limits), |conn, (at, after, limits)| {
            log::controls_after(conn, *at, *after, *limits).boxed()
        })
        .await
    }

    async fn entry_hashes(&self, at: Place, from: u64, to: u64) -> Result<Vec<[u8; 32]>> {
        self.read(Reach::Tenant(at.tenant), (at, from, to), |conn, (at, from, to)| {
            log::entry_hashes(conn, *at, *from, *to).boxed()
        })
        .await
    }

    async fn chain_value(&self, at: Place, n: u64) -> Result<Option<[u8; 32]>> {
        self.read(Reach::Tenant(at.tenant), (at, n), |conn, (at, n)| log::chain_value(conn, *at, *n).boxed()).await
    }

    async fn entry_of(
        &self,
        at: Place,
        device: DeviceId,
        dev_seq: u64,
        lookback: u64,
    ) -> Result<Option<(u64, [u8; 32])>> {
        self.read(Reach::Tenant(at.tenant), (at, device, dev_seq, lookback), |conn, (at, device, dev_seq, lookback)| {
            log::entry_of(conn, *at, *device, *dev_seq, *lookback).boxed()
        })
        .await
    }

    async fn wraps(&self, at: Place, account: AccountNumber) -> Result<Vec<WrapRow>> {
        self.read(Reach::Tenant(at.tenant), (at, account), |conn, (at, account)| {
            people::wraps(conn, *at, *account).boxed()
        })
        .await
    }

    async fn removal_of(&self, at: Place, account: AccountNumber) -> Result<Option<(Head, Millis)>> {
        self.read(Reach::Tenant(at.tenant), (at, account), |conn, (at, account)| {
            people::removal_of(conn, *at, *account).boxed()
        })
        .await
    }

    async fn add_wraps(&self, at: Place, wraps: Vec<WrapRow>) -> Result<()> {
        self.write(Reach::Tenant(at.tenant), (at, wraps), |conn, (at, wraps)| {
            people::add_wraps(conn, *at, wraps).boxed()
        })
        .await
    }

    async fn log_of_user(
        &self,
        tenant: Tenant,
        user: UserId,
        from: u64,
        limit: u32,
    ) -> Result<Option<(Vec<Vec<u8>>, u64)>> {
        self.read(Reach::Tenant(tenant), (tenant, user, from, limit), |conn, (tenant, user, from, limit)| {
            people::log_of(conn, *tenant, *user, *from, *limit).boxed()
        })
        .await
    }

    async fn live_at(
        &self,
        at: Place,
        n: u64,
        after: Option<(RecordId, ChangeId)>,
        limit: u32,
    ) -> Result<Vec<LiveRow>> {
        self.read(Reach::Tenant(at.tenant), (at, n, after, limit), |conn, (at, n, after, limit)| {
            live::live_at(conn, *at, *n, *after, *limit).boxed()
        })
        .await
    }

    async fn add_checkpoint(&self, at: Place, checkpoint: CheckpointRow, keep: u32) -> Result<Vec<u64>> {
        self.write(Reach::Tenant(at.tenant), (at, checkpoint, keep), |conn, (at, checkpoint, keep)| {
            checkpoints::add(conn, *at, checkpoint, *keep).boxed()
        })
        .await
    }

    async fn checkpoints(&self, at: Place) -> Result<Vec<CheckpointRow>> {
        self.read(Reach::Tenant(at.tenant), at, |conn, at| checkpoints::all(conn, *at).boxed()).await
    }

    async fn checkpoints_to_prepare(&self, limit: u32) -> Result<Vec<(Place, u64)>> {
        let everybody = Reach::Tenants(self.every_tenant().await?);
        self.read(everybody, limit, |conn, limit| checkpoints::to_prepare(conn, *limit).boxed()).await
    }

    async fn prune(&self, at: Place, before: Millis, keep_live_at: Vec<u64>) -> Result<(u64, bool)> {
        self.write(Reach::Tenant(at.tenant), (at, before, keep_live_at), |conn, (at, before, keep_live_at)| {
            prune::step(conn, *at, *before, keep_live_at).boxed()
        })
        .await
    }

    async fn vaults_to_prune(&self, before: Millis, after: Option<Place>, limit: u32) -> Result<Vec<Place>> {
        let everybody = Reach::Tenants(self.every_tenant().await?);
        self.read(everybody, (before, after, limit), |conn, (before, after, limit)| {
            prune::due(conn, *before, *after, *limit).boxed()
        })
        .await
    }

    async fn space(&self, tenant: Tenant) -> Result<(u64, Option<u64>)> {
        self.read(Reach::Tenant(tenant), tenant, |conn, tenant| prune::space(conn, *tenant).boxed()).await
    }

    async fn announce(&self, moved: Vec<(Place, u64)>) -> Result<()> {
        self.log_announce(moved).await
    }

    fn announcements(&self) -> broadcast::Receiver<Announcement> {
        self.log_announcements()
    }
}

impl Backend {
    async fn every_tenant(&self) -> Result<Vec<Tenant>> {
        self.read(Reach::Server, (), |conn, ()| tenants::numbers(conn).boxed()).await
    }
}

/// Where a vault's log stands; `None` if there is no such vault.
pub(in crate::store) async fn head_of(conn: &mut Conn, at: Place) -> Outcome<Option<Head>> {
    let row: Option<(i64, Vec<u8>)> = vaults::table
        .find((at.tenant.0, columns::vault(at.vault)))
        .select((vaults::n, vaults::h))
        .first(conn)
        .await
        .optional()?;
    row.map(|(n, h)| head(n, h)).transpose()
}

fn head(n: i64, h: Vec<u8>) -> Outcome<Head> {
    Ok(Head { n: columns::count(n)?, h: columns::fixed(h, "chain value")? })
}

type VaultColumns = (i32, Vec<u8>, String, i64, Vec<u8>);
const VAULT_COLUMNS: (vaults::vault, vaults::vid, vaults::app, vaults::n, vaults::h) =
    (vaults::vault, vaults::vid, vaults::app, vaults::n, vaults::h);

fn vault_row((vault, vid, app, n, h): VaultColumns) -> Outcome<VaultRow> {
    let vid = VaultId(columns::fixed(vid, "vault id")?);
    Ok(VaultRow { vault: VaultNumber(vault.into()), vid, app, head: head(n, h)? })
}
