//! Connections for the log's hot paths: whole transactions sent in one go, without waiting for an answer in between.
//!
//! Owns how such a transaction begins, names its tenants and ends, and the few connections it needs. Knows nothing of
//! what the statements mean.

use super::connect::{connect, prepare};
use super::statements::Statements;
use super::{Address, OpenError, Options};
use crate::store::StoreError;
use crate::store::failure::unavailable;
use futures_util::TryStreamExt as _;
use futures_util::future::{BoxFuture, FutureExt as _, MaybeDone, join, join_all, maybe_done};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::Poll;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Row, Statement};

/// The connections that are free. More than a few would only wait for the same disk.
pub(super) struct Lanes {
    address: Address,
    options: Options,
    role: Option<String>,
    runtime: Handle,
    free: Semaphore,
    idle: Mutex<Vec<Connected>>,
    made: AtomicU64,
}

struct Connected {
    client: Client,
    statements: Statements,
}

/// A connection for one transaction after the other. It goes back only if it is left in order.
pub(super) struct Lane<'l> {
    lanes: &'l Lanes,
    connected: Option<Connected>,
    _permit: SemaphorePermit<'l>,
}

/// Arguments of a statement, borrowed from what is to be written.
pub(super) type Arguments<'a> = Vec<Box<dyn ToSql + Sync + Send + 'a>>;

/// Statements with their arguments, in the order in which they are sent.
pub(super) type Work<'a> = Vec<(fn(&Statements) -> &Statement, Arguments<'a>)>;

#[derive(Clone, Copy)]
pub(super) enum Begin {
    /// One snapshot for all statements.
    Read,
    Write,
}

impl Lanes {
    pub(super) fn new(address: Address, options: Options, role: Option<String>, runtime: Handle) -> Self {
        let lanes = options.connections.div_ceil(2).max(1);
        let free = Semaphore::new(lanes);
        Lanes { address, options, role, runtime, free, idle: Mutex::default(), made: AtomicU64::new(0) }
    }

    pub(super) async fn take(&self) -> Result<Lane<'_>, StoreError> {
        let permit = tokio::time::timeout(self.options.acquire_timeout, self.free.acquire())
            .await
            .map_err(|_| unavailable("no connection was free in time"))?
            .map_err(unavailable)?;
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut connected = idle();
        while connected.as_ref().is_some_and(|connected| connected.client.is_closed()) {
            connected = idle();
        }
        let connected = match connected {
            Some(connected) => connected,
            None => self.connect().await?,
        };
        Ok(Lane { lanes: self, connected: Some(connected), _permit: permit })
    }

    /// How many connections there have been.
    pub(super) fn connections_made(&self) -> u64 {
        self.made.load(Ordering::SeqCst)
    }

    async fn connect(&self) -> Result<Connected, StoreError> {
        self.made.fetch_add(1, Ordering::SeqCst);
        let client = connect(&self.address, &self.runtime).await.map_err(|error| match error {
            OpenError::Store(error) => error,
            error => unavailable(error),
        })?;
        prepare(&client, &self.options).await.map_err(told)?;
        let statements = Statements::prepare(&client, self.role.is_some()).await.map_err(told)?;
        Ok(Connected { client, statements })
    }

    /// Takes no more requests.
    pub(super) fn close(&self) {
        self.free.close();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

type Answer = Result<Vec<Row>, Error>;

impl Lane<'_> {
    /// One transaction that sees the rows of these tenants: all statements are on their way before the first is
    /// answered. Rows of each, in order. An error in any of them is an error of the whole, of which nothing was done.
    pub(super) async fn transaction(
        &mut self,
        begin: Begin,
        tenants: String,
        work: Work<'_>,
    ) -> Result<Vec<Vec<Row>>, Error> {
        // Put back at the end; whatever goes wrong before, the connection is closed and its transaction with it.
        let connected = self.connected.take().expect("a lane is used by one transaction at a time");
        let Connected { client, statements } = &connected;
        let begin = match begin {
            Begin::Read => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            Begin::Write => "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE",
        };
        let mut naming: Arguments<'_> = vec![Box::new(tenants)];
        naming.extend(self.lanes.role.clone().map(|role| Box::new(role) as Box<dyn ToSql + Sync + Send>));
        let mut sent: Vec<MaybeDone<BoxFuture<'_, Answer>>> = Vec::with_capacity(work.len() + 2);
        sent.push(maybe_done(async move { client.batch_execute(begin).await.map(|()| Vec::new()) }.boxed()));
        sent.push(maybe_done(rows(client, &statements.name_tenants, naming)));
        for (statement, arguments) in work {
            sent.push(maybe_done(rows(client, statement(statements), arguments)));
        }
        // A request leaves when it is first asked for its answer.
        poll_fn(|context| {
            for request in &mut sent {
                let _ = Pin::new(request).poll(context);
            }
            Poll::Ready(())
        })
        .await;
        // One that could not even be sent must not be missing from what is committed.
        let whole = !sent.iter().any(|request| matches!(request, MaybeDone::Done(Err(_))));
        let end = client.batch_execute(if whole { "COMMIT" } else { "ROLLBACK" });
        let answers = join_all(sent.into_iter().map(|mut request| async move {
            Pin::new(&mut request).await;
            Pin::new(&mut request).take_output().expect("it was answered, and is taken once")
        }));
        let (answers, ended) = join(answers, end).await;
        let answers = answers.into_iter().skip(2).collect::<Result<Vec<_>, _>>()?;
        ended?;
        self.connected = Some(connected);
        Ok(answers)
    }

    /// One row of a statement that needs no tenant, nor a transaction around it.
    pub(super) async fn ask_alone(&mut self, statement: fn(&Statements) -> &Statement) -> Result<Row, Error> {
        let connected = self.connected.take().expect("a lane is used by one transaction at a time");
        let row = connected.client.query_one(statement(&connected.statements), &[]).await?;
        self.connected = Some(connected);
        Ok(row)
    }

    /// One statement that needs no tenant.
    pub(super) async fn execute(&mut self, sql: &str, arguments: &[&(dyn ToSql + Sync)]) -> Result<u64, Error> {
        let connected = self.connected.take().expect("a lane is used by one transaction at a time");
        let done = connected.client.execute(sql, arguments).await?;
        self.connected = Some(connected);
        Ok(done)
    }
}

impl Drop for Lane<'_> {
    fn drop(&mut self) {
        let connected = self.connected.take().filter(|_| !self.lanes.free.is_closed());
        self.lanes.idle.lock().unwrap_or_else(PoisonError::into_inner).extend(connected);
    }
}

fn rows<'a>(client: &'a Client, statement: &'a Statement, arguments: Arguments<'a>) -> BoxFuture<'a, Answer> {
    async move { client.query_raw(statement, arguments).await?.try_collect().await }.boxed()
}

/// Worth one more try: another transaction was in the way.
pub(super) fn is_a_race(error: &Error) -> bool {
    let races = [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED, SqlState::UNIQUE_VIOLATION];
    error.code().is_some_and(|code| races.contains(code))
}

/// Whether the same request may well succeed later.
pub(super) fn told(error: Error) -> StoreError {
    // Connections, resources, operators, transactions that were in the way.
    const PASSING: [&str; 4] = ["08", "53", "57", "40"];
    let passes = match error.code() {
        Some(code) => PASSING.iter().any(|class| code.code().starts_with(class)),
        None => true,
    };
    if passes { unavailable(error) } else { StoreError::Internal(Box::new(error)) }
}
