//! The hot paths of the log, as PostgreSQL has them.

use super::operations::vaults as portable;
use super::{PostgresStore, Reach};
use crate::store::{Announcement, Append, Bearings, PageLimits, Place, Question, Result, StoredFrame};
use futures_util::FutureExt as _;
use selkie_protocol::log::Head;
use tokio::sync::broadcast;

impl PostgresStore {
    pub(super) async fn log_positions(&self, places: Vec<Place>) -> Result<Vec<u64>> {
        self.read(Reach::Tenants(places.iter().map(|at| at.tenant).collect()), places, |conn, places| {
            portable::positions(conn, places).boxed()
        })
        .await
    }

    pub(super) async fn log_bearings(&self, questions: Vec<Question>) -> Result<Vec<Option<Bearings>>> {
        self.read(
            Reach::Tenants(questions.iter().map(|question| question.at.tenant).collect()),
            questions,
            |conn, questions| portable::bearings(conn, questions).boxed(),
        )
        .await
    }

    pub(super) async fn log_append(&self, appends: Vec<Append>) -> Result<Vec<bool>> {
        self.write(Reach::Tenants(appends.iter().map(|append| append.at.tenant).collect()), appends, |conn, appends| {
            portable::append(conn, appends).boxed()
        })
        .await
    }

    pub(super) async fn log_entries_after(
        &self,
        at: Place,
        after: u64,
        limits: PageLimits,
    ) -> Result<(Vec<StoredFrame>, Head)> {
        self.read(Reach::Tenant(at.tenant), (at, after, limits), |conn, (at, after, limits)| {
            portable::entries_after(conn, *at, *after, *limits).boxed()
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
