//! The hot paths of the log, as SQLite has them.

mod append;
mod bearings;

use super::operations::{sessions, vaults as portable};
use super::{Conn, Reach, SqliteStore};
use crate::store::failure::Failure;
use crate::store::{
    AccountNumber, Announcement, Append, Bearings, PageLimits, Place, Question, Result, SessionRow, Snapshot,
    StoredFrame, Tenant, VaultRow,
};
use futures_util::FutureExt as _;
use selkie_protocol::id::SessionId;
use selkie_protocol::log::Head;
use std::sync::Arc;
use tokio::sync::broadcast;

impl SqliteStore {
    pub(super) async fn log_positions(&self, places: Vec<Place>) -> Result<Vec<u64>> {
        self.read(Reach::Server, places, |conn, places| bearings::positions(conn, places).boxed()).await
    }

    pub(super) async fn log_bearings(&self, questions: Vec<Question>) -> Result<Vec<Option<Bearings>>> {
        self.read(Reach::Server, questions, |conn, questions| bearings::bearings(conn, questions).boxed()).await
    }

    pub(super) async fn log_append(&self, appends: Vec<Append>) -> Result<Vec<bool>> {
        self.write(Reach::Server, Arc::new(appends), |conn, appends| append::append(conn, appends).boxed()).await
    }

    pub(super) async fn log_entries_after(
        &self,
        at: Place,
        after: u64,
        limits: PageLimits,
    ) -> Result<(Vec<StoredFrame>, Head)> {
        self.read(Reach::Tenant(at.tenant), (at, after, limits), |conn, (at, after, limits)| {
            async move {
                let head = portable::head_of(conn, *at).await?.ok_or(Failure::not_found("vault"))?;
                Ok((portable::page(conn, *at, *after, *limits, false).await?, head))
            }
            .boxed()
        })
        .await
    }

    pub(super) async fn log_sessions(&self, named: Vec<(Tenant, SessionId)>) -> Result<Vec<Option<SessionRow>>> {
        self.read(Reach::Server, named, |conn, named| {
            async move {
                let mut found = Vec::with_capacity(named.len());
                for one in named {
                    found.push(sessions::one(conn, one).await?);
                }
                Ok(found)
            }
            .boxed()
        })
        .await
    }

    pub(super) async fn log_vaults_of(&self, accounts: Vec<(Tenant, AccountNumber)>) -> Result<Vec<Vec<VaultRow>>> {
        self.read(Reach::Server, accounts, |conn, accounts| {
            async move {
                let mut found = Vec::with_capacity(accounts.len());
                for (tenant, account) in accounts {
                    found.push(portable::vaults_of(conn, *tenant, *account).await?);
                }
                Ok(found)
            }
            .boxed()
        })
        .await
    }

    /// Who has the database to themselves knows what has changed.
    #[allow(clippy::unused_async, reason = "PostgreSQL has to be asked")]
    pub(super) async fn now(&self) -> Result<Option<Snapshot>> {
        Ok(None)
    }

    /// There is nobody to tell.
    pub(super) async fn log_announce(&self, _: Vec<(Place, u64)>) -> Result<()> {
        Ok(())
    }

    pub(super) fn log_announcements(&self) -> broadcast::Receiver<Announcement> {
        self.announcements.subscribe()
    }
}
