//! The threads that read, each on a snapshot of its own, while the writer writes.

use super::job::{Job, NotCommitted};
use super::{Conn, OpenError, QUEUE, unavailable};
use diesel::QueryResult;
use diesel_async::SimpleAsyncConnection as _;
use futures_util::FutureExt as _;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::oneshot;

type Queue = SyncSender<Box<dyn Job>>;

/// Starts a thread for each connection; the values in the second list end when they do.
pub(super) fn spawn(readers: Vec<Conn>) -> Result<(Queue, Vec<oneshot::Receiver<()>>), OpenError> {
    let (queue, waiting) = sync_channel::<Box<dyn Job>>(QUEUE);
    let waiting = Arc::new(Mutex::new(waiting));
    let mut ends = Vec::new();
    for mut conn in readers {
        let waiting = waiting.clone();
        let (alive, ended) = oneshot::channel();
        ends.push(ended);
        std::thread::Builder::new()
            .name("store-reader".into())
            .spawn(move || {
                while let Some(job) = next(&waiting) {
                    read(&mut conn, job);
                }
                drop(conn);
                drop(alive);
            })
            .map_err(|error| OpenError::Store(unavailable(error)))?;
    }
    Ok((queue, ends))
}

/// One thread at a time waits for the queue, the others for that one.
fn next(waiting: &Mutex<Receiver<Box<dyn Job>>>) -> Option<Box<dyn Job>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

fn read(conn: &mut Conn, mut job: Box<dyn Job>) {
    let snapshot = (|| {
        execute(conn, "BEGIN")?;
        job.run(conn);
        execute(conn, "ROLLBACK")
    })();
    job.answer(snapshot.map_err(|error| NotCommitted(Arc::new(error))));
}

fn execute(conn: &mut Conn, sql: &'static str) -> QueryResult<()> {
    conn.batch_execute(sql).now_or_never().expect("on its own thread a connection never waits")
}
