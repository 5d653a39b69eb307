//! The one thread that writes.
//!
//! Writes that arrive while a commit is in flight go into the next transaction together: a commit costs far more than
//! what it commits. Each has a savepoint of its own, so that one that fails undoes itself and nobody else, and each is
//! answered only when the commit is on disk.

use super::job::{Job, NotCommitted};
use super::{Conn, OpenError, QUEUE, unavailable};
use diesel::QueryResult;
use diesel_async::SimpleAsyncConnection as _;
use futures_util::FutureExt as _;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use tokio::sync::oneshot;

/// The most writes in one transaction.
const GROUP: usize = 128;

type Queue = SyncSender<Box<dyn Job>>;

/// Starts the thread; the second value ends when it does.
pub(super) fn spawn(mut conn: Conn) -> Result<(Queue, oneshot::Receiver<()>), OpenError> {
    let (queue, waiting) = sync_channel::<Box<dyn Job>>(QUEUE);
    let (alive, ended) = oneshot::channel();
    std::thread::Builder::new()
        .name("store-writer".into())
        .spawn(move || {
            while let Some(group) = next_group(&waiting) {
                write(&mut conn, group);
            }
            drop(conn);
            drop(alive);
        })
        .map_err(|error| OpenError::Store(unavailable(error)))?;
    Ok((queue, ended))
}

/// Waits for a write and takes along what else waits by now. Nothing, once nobody can ask any more.
fn next_group(waiting: &Receiver<Box<dyn Job>>) -> Option<Vec<Box<dyn Job>>> {
    let mut group = vec![waiting.recv().ok()?];
    while group.len() < GROUP {
        match waiting.try_recv() {
            Ok(job) => group.push(job),
            Err(_) => break,
        }
    }
    Some(group)
}

fn write(conn: &mut Conn, mut group: Vec<Box<dyn Job>>) {
    let committed = transaction(conn, &mut group).map_err(|error| {
        tracing::error!(%error, writes = group.len(), "a transaction was not committed");
        NotCommitted(Arc::new(error))
    });
    for job in group {
        job.answer(committed.clone());
    }
}

fn transaction(conn: &mut Conn, group: &mut [Box<dyn Job>]) -> QueryResult<()> {
    execute(conn, "BEGIN IMMEDIATE")?;
    let done = each_in_its_savepoint(conn, group).and_then(|()| execute(conn, "COMMIT"));
    if done.is_err() {
        // SQLite may have rolled back by itself (a full disk does that); then there is nothing left to roll back.
        let _ = execute(conn, "ROLLBACK");
    }
    done
}

fn each_in_its_savepoint(conn: &mut Conn, group: &mut [Box<dyn Job>]) -> QueryResult<()> {
    for job in group {
        execute(conn, "SAVEPOINT operation")?;
        if !job.run(conn) {
            execute(conn, "ROLLBACK TO operation")?;
        }
        execute(conn, "RELEASE operation")?;
    }
    Ok(())
}

fn execute(conn: &mut Conn, sql: &'static str) -> QueryResult<()> {
    conn.batch_execute(sql).now_or_never().expect("on its own thread a connection never waits")
}
