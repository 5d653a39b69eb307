//! The store on PostgreSQL.
//!
//! Owns the pool, and how a transaction begins, names its tenant, ends and is tried again. What happens inside one is
//! in [`operations`], which is compiled here with this module's connection. Knows nothing of SQLite.
//!
//! Operations run as tasks of their own on the runtime that was handed in: a caller that goes away does not leave a
//! transaction half-way, and the connections outlive the short-lived runtimes of web workers.

mod address;
mod announce;
mod connect;
mod lanes;
mod log;
pub(super) mod migrations;
#[path = "../operations/mod.rs"]
#[allow(clippy::duplicate_mod, reason = "written once, compiled for each database: see docs/decisions/0001")]
mod operations;
mod statements;

pub(super) use address::Address;
pub(super) use connect::wall;

use super::columns;
use super::failure::{Failure, Outcome, unavailable};
use super::open::Wall;
use super::schema::{accounts, vaults};
use super::{AccountNumber, OpenError, Options, Place, Result, StoreError, Tenant};
use announce::Line;
use diesel::{OptionalExtension as _, QueryDsl as _};
use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::pooled_connection::deadpool::Pool;
use diesel_async::{
    AnsiTransactionManager, AsyncPgConnection, RunQueryDsl as _, SimpleAsyncConnection as _, TransactionManager as _,
};
use futures_util::future::BoxFuture;
use lanes::Lanes;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::RwLock;

type Conn = AsyncPgConnection;
type Backend = PostgresStore;
type Operation<A, R> = for<'c> fn(&'c mut Conn, &'c A) -> BoxFuture<'c, Outcome<R>>;

/// Which rows a transaction can see at all.
enum Reach {
    /// What belongs to no tenant.
    Server,
    Tenant(Tenant),
    Tenants(Vec<Tenant>),
}

pub(super) struct PostgresStore {
    pool: Pool<Conn>,
    /// The role to work as, if it could be taken on.
    role: Option<String>,
    acquire_timeout: Duration,
    runtime: Handle,
    /// Shared by operations while they run; closing waits until it can have it alone.
    under_way: Arc<RwLock<()>>,
    /// For the log's hot paths.
    lanes: Arc<Lanes>,
    line: Line,
}

#[derive(Clone, Copy)]
enum Mode {
    /// One snapshot for all statements.
    Read,
    Write,
}

impl PostgresStore {
    /// Opens a pool and one connection in it, so that what is wrong with the address is known at once.
    pub(super) async fn open(address: Address, options: Options, runtime: Handle) -> Result<Self, OpenError> {
        let acquire_timeout = options.acquire_timeout;
        let connections = options.connections.max(1);
        let role = match wall(&address, &options, &runtime).await? {
            Wall::Missing { role, .. } => {
                tracing::warn!(
                    "the second wall between tenants is missing: the database role is a superuser or bypasses row-level \
                     security; let the server work as one that does not (`selkie-server doctor` names it)"
                );
                role
            }
            Wall::Owner { role, .. } => {
                tracing::warn!(
                    "the server works as the owner of the tables, who could take down the second wall between tenants: \
                     `selkie-server doctor` shows the SQL that lets it work as selkie_app"
                );
                role
            }
            Wall::Shut { login, sql } => return Err(OpenError::NoMember { login, sql }),
            Wall::Stands { role } => role,
            Wall::Never => String::new(),
        };
        let role = options.role.clone().filter(|wanted| *wanted == role);
        let lanes = Arc::new(Lanes::new(address.clone(), options.clone(), role.clone(), runtime.clone()));
        let line = Line::open(address.clone(), &runtime);
        let setup = connect::setup(address, options, runtime.clone());
        let manager = AsyncDieselConnectionManager::new_with_config("", setup);
        let pool = Pool::builder(manager).max_size(connections).build().map_err(unavailable)?;
        let store = PostgresStore { pool, role, acquire_timeout, runtime, under_way: Arc::default(), lanes, line };
        OpenError::of(store.read(Reach::Server, (), |_, ()| Box::pin(async { Ok(()) })).await)?;
        Ok(store)
    }

    async fn read<A, R>(&self, reach: Reach, args: A, operation: Operation<A, R>) -> Result<R>
    where
        A: Send + Sync + 'static,
        R: Send + 'static,
    {
        self.run(Mode::Read, reach, args, operation).await
    }

    async fn write<A, R>(&self, reach: Reach, args: A, operation: Operation<A, R>) -> Result<R>
    where
        A: Send + Sync + 'static,
        R: Send + 'static,
    {
        self.run(Mode::Write, reach, args, operation).await
    }

    async fn run<A, R>(&self, mode: Mode, reach: Reach, args: A, operation: Operation<A, R>) -> Result<R>
    where
        A: Send + Sync + 'static,
        R: Send + 'static,
    {
        let (pool, acquire_timeout, under_way) = (self.pool.clone(), self.acquire_timeout, self.under_way.clone());
        let role = self.role.clone();
        let task = self.runtime.spawn(async move {
            let _under_way = under_way.read().await;
            let mut conn = tokio::time::timeout(acquire_timeout, pool.get())
                .await
                .map_err(|_| unavailable("no connection was free in time"))?
                .map_err(unavailable)?;
            let mut outcome = transaction(&mut conn, mode, &reach, role.as_deref(), &args, operation).await;
            if outcome.as_ref().is_err_and(Failure::is_a_race) {
                outcome = transaction(&mut conn, mode, &reach, role.as_deref(), &args, operation).await;
            }
            outcome.map_err(Into::into)
        });
        task.await.unwrap_or_else(|stopped| Err(unavailable(stopped)))
    }

    async fn copy(&self, _: &Path) -> Result<()> {
        Err(StoreError::Internal(
            "PostgreSQL is copied with its own tools: pg_dump, or a base backup and its log".into(),
        ))
    }

    /// Takes no more requests, and waits until those under way are answered.
    async fn shut(&self) {
        self.pool.close();
        self.line.close();
        drop(self.under_way.write().await);
        self.lanes.close();
    }
}

async fn transaction<A, R>(
    conn: &mut Conn,
    mode: Mode,
    reach: &Reach,
    role: Option<&str>,
    args: &A,
    operation: Operation<A, R>,
) -> Outcome<R> {
    let begin = begin(mode, reach, role);
    if let Err(error) = AnsiTransactionManager::begin_transaction_sql(conn, &begin).await {
        // It may have begun, and then failed at naming the role.
        let _ = conn.batch_execute("ROLLBACK").await;
        return Err(error.into());
    }
    let outcome = operation(conn, args).await;
    match outcome {
        Ok(done) => {
            AnsiTransactionManager::commit_transaction(conn).await?;
            Ok(done)
        }
        Err(failure) => {
            // What went wrong is worth more than whether undoing it was heard; a connection that did not hear it is
            // thrown away by the pool.
            let _ = AnsiTransactionManager::rollback_transaction(conn).await;
            Err(failure)
        }
    }
}

/// How a transaction begins, in one breath. Row-level security shows only what is named here, and nothing once the
/// transaction is over. The role is taken on with it: behind a pooler that lends connections by the transaction, what a
/// session once said is not true of the next one.
fn begin(mode: Mode, reach: &Reach, role: Option<&str>) -> String {
    let begin = match mode {
        Mode::Read => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        Mode::Write => "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE",
    };
    let tenants = match reach {
        Reach::Server => return begin.to_owned(),
        Reach::Tenant(tenant) => list(std::slice::from_ref(tenant)),
        Reach::Tenants(tenants) => list(tenants),
    };
    // A list of numbers needs no quoting; a name does.
    let role = role.map(|role| format!("; SET LOCAL ROLE \"{}\"", role.replace('"', "\"\"")));
    format!("{begin}; SET LOCAL selkie.tenants = '{tenants}'{}", role.unwrap_or_default())
}

/// Tenants as the policies read them, each once.
fn list<'a>(tenants: impl IntoIterator<Item = &'a Tenant>) -> String {
    let numbers: BTreeSet<i64> = tenants.into_iter().map(|tenant| tenant.0).collect();
    let numbers: Vec<String> = numbers.iter().map(i64::to_string).collect();
    format!("{{{}}}", numbers.join(","))
}

/// Changes to one account happen one after the other. Not FOR UPDATE: that would also make everybody wait who inserts
/// a row that refers to the account, and the key of an account never changes.
async fn lock_account(conn: &mut Conn, tenant: Tenant, account: AccountNumber) -> Outcome<()> {
    accounts::table
        .find((tenant.0, account.0))
        .select(accounts::account)
        .for_no_key_update()
        .first::<i64>(conn)
        .await
        .optional()?
        .map(drop)
        .ok_or(Failure::not_found("account"))
}

/// Nobody writes to the log of a vault that is locked, or adds somebody to it.
async fn lock_vault(conn: &mut Conn, at: Place) -> Outcome<()> {
    vaults::table
        .find((at.tenant.0, columns::vault(at.vault)))
        .select(vaults::vault)
        .for_update()
        .first::<i32>(conn)
        .await
        .optional()?;
    Ok(())
}
