//! The hot paths of the log, as PostgreSQL has them: one transaction for many vaults, sent in one go.
//!
//! Owns what is asked of the statements and how their rows are read. Appends with something rare about them (members,
//! keys, a checkpoint) take the portable way.

mod append;
mod bearings;
mod who;

use super::lanes::{Arguments, Begin, Work, is_a_race, told};
use super::operations::vaults as portable;
use super::{PostgresStore, Reach, announce, list};
use crate::store::columns;
use crate::store::failure::{Failure, Outcome, unavailable};
use crate::store::{
    AccountNumber, Announcement, Append, Bearings, PageLimits, Place, Question, Result, SessionRow, Snapshot,
    StoredFrame, Tenant, VaultRow,
};
use futures_util::FutureExt as _;
use selkie_protocol::id::SessionId;
use selkie_protocol::log::Head;
use std::collections::BTreeSet;
use tokio::sync::broadcast;
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

impl PostgresStore {
    /// In a task of its own: a caller that goes away does not leave a connection in the middle of something.
    async fn by_lane<A, R>(
        &self,
        begin: Begin,
        tenants: String,
        args: A,
        work: for<'a> fn(&'a A) -> Work<'a>,
        read: fn(&A, Vec<Vec<Row>>) -> Outcome<R>,
    ) -> Result<R>
    where
        A: Send + Sync + 'static,
        R: Send + 'static,
    {
        let (lanes, under_way) = (self.lanes.clone(), self.under_way.clone());
        let task = self.runtime.spawn(async move {
            let _under_way = under_way.read().await;
            let mut outcome = lanes.take().await?.transaction(begin, tenants.clone(), work(&args)).await;
            if outcome.as_ref().is_err_and(is_a_race) {
                outcome = lanes.take().await?.transaction(begin, tenants, work(&args)).await;
            }
            Ok(read(&args, outcome.map_err(told)?)?)
        });
        task.await.unwrap_or_else(|stopped| Err(unavailable(stopped)))
    }

    pub(super) async fn log_positions(&self, places: Vec<Place>) -> Result<Vec<u64>> {
        if places.is_empty() {
            return Ok(Vec::new());
        }
        let tenants = list(places.iter().map(|at| &at.tenant));
        self.by_lane(
            Begin::Read,
            tenants,
            places,
            |places| {
                let tenants: Vec<i64> = places.iter().map(|at| at.tenant.0).collect();
                let vaults: Vec<i32> = places.iter().map(|at| columns::vault(at.vault)).collect();
                vec![(|statements| &statements.positions, vec![Box::new(tenants), Box::new(vaults)])]
            },
            |places, rows| {
                let found: Vec<u64> = rows.iter().flatten().map(|row| position(row, 0)).collect::<Outcome<_>>()?;
                if found.len() == places.len() { Ok(found) } else { Err(Failure::bug("positions are missing")) }
            },
        )
        .await
    }

    pub(super) async fn log_sessions(&self, named: Vec<(Tenant, SessionId)>) -> Result<Vec<Option<SessionRow>>> {
        if named.is_empty() {
            return Ok(Vec::new());
        }
        let tenants = list(named.iter().map(|(tenant, _)| tenant));
        self.by_lane(
            Begin::Read,
            tenants,
            named,
            |named| who::ask_for_sessions(named),
            |named, rows| who::read_sessions(named.len(), rows),
        )
        .await
    }

    pub(super) async fn log_vaults_of(&self, accounts: Vec<(Tenant, AccountNumber)>) -> Result<Vec<Vec<VaultRow>>> {
        if accounts.is_empty() {
            return Ok(Vec::new());
        }
        let tenants = list(accounts.iter().map(|(tenant, _)| tenant));
        self.by_lane(
            Begin::Read,
            tenants,
            accounts,
            |accounts| who::ask_for_vaults(accounts),
            |accounts, rows| who::read_vaults(accounts.len(), rows),
        )
        .await
    }

    /// Which transactions are done. A commit leaves the list before anybody is told of it, and never comes back. At the
    /// other end of a new connection may be another database, or this one after it was restored, with the same numbers
    /// for other transactions: so the connections are counted in.
    pub(super) async fn now(&self) -> Result<Option<Snapshot>> {
        let (lanes, under_way) = (self.lanes.clone(), self.under_way.clone());
        let task = self.runtime.spawn(async move {
            let _under_way = under_way.read().await;
            let mut lane = lanes.take().await?;
            // Before it is asked: one that is made meanwhile makes the next answer another.
            let connections = lanes.connections_made();
            let row = lane.ask_alone(|statements| &statements.snapshot).await.map_err(told)?;
            let done: Option<&str> = get(&row, 0)?;
            Ok(done.map(|done| Snapshot(format!("{connections}/{done}").into())))
        });
        task.await.unwrap_or_else(|stopped| Err(unavailable(stopped)))
    }

    pub(super) async fn log_bearings(&self, questions: Vec<Question>) -> Result<Vec<Option<Bearings>>> {
        if questions.is_empty() {
            return Ok(Vec::new());
        }
        let tenants = list(questions.iter().map(|question| &question.at.tenant));
        self.by_lane(
            Begin::Read,
            tenants,
            questions,
            |questions| bearings::ask(questions),
            |questions, rows| bearings::read(questions, rows),
        )
        .await
    }

    pub(super) async fn log_append(&self, appends: Vec<Append>) -> Result<Vec<bool>> {
        let mut taken = vec![false; appends.len()];
        let mut left: Vec<(usize, Append)> = appends.into_iter().enumerate().collect();
        while !left.is_empty() {
            // Of several for one vault the later ones were decided at what the first leads to.
            let mut places = BTreeSet::new();
            let (now, later) = left.into_iter().partition(|(_, append)| places.insert(append.at));
            left = later;
            let (rare, plain): (Vec<_>, Vec<_>) = now.into_iter().partition(|(_, append)| portable::is_rare(append));
            for (index, answer) in self.append_plain(plain).await? {
                taken[index] = answer;
            }
            for (index, answer) in self.append_rare(rare).await? {
                taken[index] = answer;
            }
        }
        Ok(taken)
    }

    async fn append_plain(&self, mut appends: Vec<(usize, Append)>) -> Result<Vec<(usize, bool)>> {
        if appends.is_empty() {
            return Ok(Vec::new());
        }
        // The order in which all servers take the vaults' rows.
        appends.sort_by_key(|(_, append)| append.at);
        let tenants = list(appends.iter().map(|(_, append)| &append.at.tenant));
        self.by_lane(
            Begin::Write,
            tenants,
            appends,
            |appends| append::ask(appends),
            |appends, rows| append::read(appends, rows),
        )
        .await
    }

    async fn append_rare(&self, appends: Vec<(usize, Append)>) -> Result<Vec<(usize, bool)>> {
        if appends.is_empty() {
            return Ok(Vec::new());
        }
        let (indices, appends): (Vec<usize>, Vec<Append>) = appends.into_iter().unzip();
        let tenants: Vec<Tenant> = appends.iter().map(|append| append.at.tenant).collect();
        let taken = self
            .write(Reach::Tenants(tenants), appends, |conn, appends| portable::append(conn, appends).boxed())
            .await?;
        Ok(indices.into_iter().zip(taken).collect())
    }

    pub(super) async fn log_entries_after(
        &self,
        at: Place,
        after: u64,
        limits: PageLimits,
    ) -> Result<(Vec<StoredFrame>, Head)> {
        self.by_lane(
            Begin::Read,
            list([&at.tenant]),
            (at, after, limits),
            |(at, after, limits)| {
                let (tenant, vault) = (at.tenant.0, columns::vault(at.vault));
                let (entries, bytes) = (i64::from(limits.entries.max(1)), columns::position(limits.bytes));
                let after = columns::position(*after);
                vec![
                    (|statements| &statements.head, vec![Box::new(tenant), Box::new(vault)]),
                    (
                        |statements| &statements.page,
                        vec![Box::new(tenant), Box::new(vault), Box::new(after), Box::new(entries), Box::new(bytes)],
                    ),
                ]
            },
            |_, rows| {
                let mut rows = rows.into_iter();
                let (head, page) = (rows.next().unwrap_or_default(), rows.next().unwrap_or_default());
                let head = head.first().ok_or(Failure::not_found("vault"))?;
                let head = Head { n: position(head, 0)?, h: fixed(head, 1, "chain value")? };
                let frames = page.iter().map(|row| Ok(StoredFrame { n: position(row, 0)?, frame: get(row, 1)? }));
                Ok((frames.collect::<Outcome<_>>()?, head))
            },
        )
        .await
    }

    pub(super) async fn log_announce(&self, moved: Vec<(Place, u64)>) -> Result<()> {
        if moved.is_empty() || self.line.say(&moved).await {
            return Ok(());
        }
        // In a task of its own, like everything that uses a lane.
        let (lanes, under_way) = (self.lanes.clone(), self.under_way.clone());
        let task = self.runtime.spawn(async move {
            let _under_way = under_way.read().await;
            announce::say_by(&mut lanes.take().await?, &moved).await
        });
        task.await.unwrap_or_else(|stopped| Err(unavailable(stopped)))
    }

    pub(super) fn log_announcements(&self) -> broadcast::Receiver<Announcement> {
        self.line.subscribe()
    }
}

/// Makes arguments of what belongs together: an array of each field, in their order.
macro_rules! arrays {
    ($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Default)]
        struct $name<'a> {
            $($field: Vec<$type>,)+
            of: std::marker::PhantomData<&'a ()>,
        }

        impl<'a> $name<'a> {
            #[allow(clippy::too_many_arguments, reason = "a row")]
            fn push(&mut self, $($field: $type),+) {
                $(self.$field.push($field);)+
            }

            fn into_arguments(self) -> Arguments<'a> {
                vec![$(Box::new(self.$field)),+]
            }
        }
    };
}
use arrays;

/// A column of a row. One that does not fit is corrupt, not wrong.
fn get<'r, T: FromSql<'r>>(row: &'r Row, column: usize) -> Outcome<T> {
    row.try_get(column).map_err(|_| Failure::corrupt("column"))
}

fn position(row: &Row, column: usize) -> Outcome<u64> {
    columns::count(get(row, column)?)
}

fn fixed<const N: usize>(row: &Row, column: usize, what: &'static str) -> Outcome<[u8; N]> {
    get::<&[u8]>(row, column)?.try_into().map_err(|_| Failure::corrupt(what))
}
