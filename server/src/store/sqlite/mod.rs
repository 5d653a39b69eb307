//! The store on SQLite.
//!
//! Owns the threads that hold the connections: one that writes, a few that read. What happens inside a transaction is
//! in [`operations`], which is compiled here with this module's connection. Knows nothing of PostgreSQL.
//!
//! There is no row-level security here: the file has one user, and every statement names its tenant by itself.

mod connection;
mod copy;
mod job;
mod log;
pub(super) mod migrations;
#[path = "../operations/mod.rs"]
#[allow(clippy::duplicate_mod, reason = "written once, compiled for each database: see docs/decisions/0001")]
mod operations;
mod reader;
mod writer;

use super::failure::{Failure, Outcome, unavailable};
use super::schema::accounts;
use super::{AccountNumber, Announcement, OpenError, Options, Place, Result, Tenant};
use connection::Conn;
use diesel::{OptionalExtension as _, QueryDsl as _};
use diesel_async::RunQueryDsl as _;
use futures_util::future::BoxFuture;
use job::{Asked, Job};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{PoisonError, RwLock};
use tokio::sync::{broadcast, oneshot};

type Backend = SqliteStore;
type Operation<A, R> = for<'c> fn(&'c mut Conn, &'c A) -> BoxFuture<'c, Outcome<R>>;

/// Requests that may wait for a thread. More than this many are turned away: waiting longer would help nobody.
const QUEUE: usize = 1024;

/// More readers than this gain nothing on one disk, and each has a page cache.
const READERS: usize = 4;

/// Which rows a transaction can see at all. Here that is up to the statements.
enum Reach {
    Server,
    Tenant(#[allow(dead_code, reason = "PostgreSQL's row-level security asks for it")] Tenant),
    Tenants(#[allow(dead_code, reason = "PostgreSQL's row-level security asks for it")] Vec<Tenant>),
}

pub(super) struct SqliteStore {
    /// `None` once the store is closed. The threads end when the last sender is gone and the queue is empty.
    threads: RwLock<Option<Threads>>,
    /// Says nothing: there are no other servers on this database.
    announcements: broadcast::Sender<Announcement>,
    file: PathBuf,
}

struct Threads {
    reads: SyncSender<Box<dyn Job>>,
    writes: SyncSender<Box<dyn Job>>,
    readers_ended: Vec<oneshot::Receiver<()>>,
    writer_ended: oneshot::Receiver<()>,
}

impl SqliteStore {
    pub(super) fn open(file: &Path, options: Options) -> Result<Self, OpenError> {
        let (writes, writer_ended) = writer::spawn(connection::open_writer(file, &options)?)?;
        let readers = (0..options.connections.clamp(1, READERS))
            .map(|_| connection::open_reader(file, &options))
            .collect::<Result<_, _>>()?;
        let (reads, readers_ended) = reader::spawn(readers)?;
        let (announcements, _) = broadcast::channel(1);
        let threads = RwLock::new(Some(Threads { reads, writes, readers_ended, writer_ended }));
        Ok(SqliteStore { threads, announcements, file: file.to_owned() })
    }

    async fn read<A, R>(&self, _: Reach, args: A, operation: Operation<A, R>) -> Result<R>
    where
        A: Send + Sync + 'static,
        R: Send + 'static,
    {
        self.ask(|threads| &threads.reads, args, operation).await
    }

    async fn write<A, R>(&self, _: Reach, args: A, operation: Operation<A, R>) -> Result<R>
    where
        A: Send + Sync + 'static,
        R: Send + 'static,
    {
        self.ask(|threads| &threads.writes, args, operation).await
    }

    /// Hands an operation to a thread and waits for the answer. Who stops waiting stops nothing.
    async fn ask<A, R>(
        &self,
        queue: fn(&Threads) -> &SyncSender<Box<dyn Job>>,
        args: A,
        operation: Operation<A, R>,
    ) -> Result<R>
    where
        A: Send + Sync + 'static,
        R: Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        {
            let threads = self.threads.read().unwrap_or_else(PoisonError::into_inner);
            let threads = threads.as_ref().ok_or_else(|| unavailable("the store is closed"))?;
            queue(threads).try_send(Box::new(Asked::new(args, operation, reply))).map_err(|error| match error {
                TrySendError::Full(_) => unavailable("too many requests wait for the database"),
                TrySendError::Disconnected(_) => unavailable("the database's thread has ended"),
            })?;
        }
        answer.await.unwrap_or_else(|_| Err(unavailable("the database's thread has ended")))
    }

    /// Takes no more requests, and waits until those under way are answered. The writer goes last, and alone: only the
    /// last connection brings what is in the log beside the file into the file, and of two that leave together each
    /// may take the other for the last. Who moves or copies the file afterwards has all of it.
    async fn shut(&self) {
        // The lock is let go before waiting.
        let threads = self.threads.write().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Threads { reads, writes, readers_ended, writer_ended }) = threads else { return };
        drop(reads);
        for reader in readers_ended {
            // A thread says nothing when it ends; it lets go of its half of the channel.
            let _ = reader.await;
        }
        drop(writes);
        let _ = writer_ended.await;
    }
}

/// The writer is alone: an IMMEDIATE transaction is the lock.
async fn lock_account(conn: &mut Conn, tenant: Tenant, account: AccountNumber) -> Outcome<()> {
    let there: Option<i64> =
        accounts::table.find((tenant.0, account.0)).select(accounts::account).first(conn).await.optional()?;
    there.map(drop).ok_or(Failure::not_found("account"))
}

async fn lock_vault(_: &mut Conn, _: Place) -> Outcome<()> {
    Ok(())
}
