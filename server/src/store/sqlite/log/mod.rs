//! The hot paths of the log, as SQLite has them.

mod append;
mod bearings;

use super::operations::vaults as portable;
use super::{Conn, Reach, SqliteStore};
use crate::store::failure::Failure;
use crate::store::{Announcement, Append, Bearings, PageLimits, Place, Question, Result, StoredFrame};
use futures_util::FutureExt as _;
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

    /// There is nobody to tell.
    pub(super) async fn log_announce(&self, _: Vec<(Place, u64)>) -> Result<()> {
        Ok(())
    }

    pub(super) fn log_announcements(&self) -> broadcast::Receiver<Announcement> {
        self.announcements.subscribe()
    }
}
