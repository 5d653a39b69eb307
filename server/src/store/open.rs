//! Opens the store that a database URL names.
//!
//! Owns the choice between the two databases, their options, and the question whether a schema is the one this server
//! was built for. Knows nothing of configuration files.

use super::{Result as StoreResult, Store, StoreError, postgres, sqlite};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;

/// How to work with a database. The defaults fit a server with two cores.
#[derive(Clone, Debug)]
pub struct Options {
    /// Postgres: the most connections held, and half as many again for the hot paths of logs, and one that listens;
    /// SQLite: threads that read, of which there are at most four.
    pub connections: usize,
    /// Postgres: how long to wait for a free connection before the request is turned away.
    pub acquire_timeout: Duration,
    /// Postgres: how long a statement may run; SQLite: how long to wait for another process that writes.
    pub statement_timeout: Duration,
    /// Postgres: the role to work as, where it exists and may be taken on; `None` to stay who the URL says.
    pub role: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            connections: 8,
            acquire_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(5),
            role: Some("selkie_app".into()),
        }
    }
}

/// How a database's schema compares with the one this server was built for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SchemaState {
    Current,
    /// These migrations have not run, oldest first.
    Behind(Vec<String>),
    /// The newest migration that ran is one this server does not know: a newer server has been here.
    Newer(String),
}

/// Row-level security, the second wall between tenants. The first is that every statement names its tenant. Where it
/// could stand better, `sql` is what an administrator of the database should run for that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wall {
    /// SQLite has none: its file has one user. Nor has a database that has no tables yet.
    Never,
    /// It holds for the role that the server works as, which owns nothing.
    Stands { role: String },
    /// The server works as the owner of the tables: it is forced on this role, too, but an owner can take it down.
    Owner { role: String, sql: String },
    /// The role that the server works as is above it.
    Missing { role: String, sql: String },
    /// The login may neither become the application role nor read the tables itself: the server cannot work.
    Shut { login: String, sql: String },
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The text never contains the URL: it may hold a password.
    #[error("the database URL is not usable: {0}")]
    Url(String),
    #[error("the database lacks {} migration(s), the first is {}", .0.len(), .0.first().map_or("", String::as_str))]
    Behind(Vec<String>),
    #[error("the database was migrated to {0} by a newer server; this one does not know that schema")]
    Newer(String),
    #[error("the folder or file of the database: {0}")]
    File(PathBuf, #[source] std::io::Error),
    #[error("the login {login} may not become selkie_app, the role to work as. As an administrator: {sql}")]
    NoMember { login: String, sql: String },
    #[error("a migration failed")]
    Migration(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Opens a store whose schema is current. Connections to Postgres live on `runtime`, whoever asks for them.
pub async fn open(url: &str, options: Options, runtime: Handle) -> Result<Arc<dyn Store>, OpenError> {
    match state(url).await? {
        SchemaState::Current => {}
        SchemaState::Behind(names) => return Err(OpenError::Behind(names)),
        SchemaState::Newer(version) => return Err(OpenError::Newer(version)),
    }
    match Backend::of(url)? {
        Backend::Postgres(address) => Ok(Arc::new(postgres::PostgresStore::open(*address, options, runtime).await?)),
        Backend::Sqlite(file) => Ok(Arc::new(sqlite::SqliteStore::open(&file, options)?)),
    }
}

/// How the schema is; makes nothing, not even a missing SQLite file.
pub async fn state(url: &str) -> Result<SchemaState, OpenError> {
    match Backend::of(url)? {
        Backend::Postgres(address) => postgres::migrations::state(&address).await,
        Backend::Sqlite(file) => sqlite::migrations::state(&file),
    }
}

/// Asks whether the database itself holds every query to one tenant; changes nothing.
pub async fn wall(url: &str, options: &Options) -> Result<Wall, OpenError> {
    match Backend::of(url)? {
        Backend::Postgres(address) => postgres::wall(&address, options, &Handle::current()).await,
        Backend::Sqlite(_) => Ok(Wall::Never),
    }
}

/// Runs the migrations that are missing, under a lock, and returns their names. Refuses a newer schema.
pub async fn migrate(url: &str) -> Result<Vec<String>, OpenError> {
    let backend = Backend::of(url)?;
    let migrated = match backend {
        Backend::Postgres(address) => postgres::migrations::migrate(&address).await,
        Backend::Sqlite(file) => tokio::task::spawn_blocking(move || sqlite::migrations::migrate(&file))
            .await
            .map_err(|stopped| OpenError::Migration(stopped.into()))?,
    }?;
    for name in &migrated {
        tracing::info!(migrations = name, "migrated the database");
    }
    Ok(migrated)
}

/// Lets the login of `url` work as the application role, as far as the login of `migration_url` may say so. Returns the
/// SQL that somebody with more rights must run, if there is something left to do.
pub async fn let_work(url: &str, migration_url: &str) -> Result<Option<String>, OpenError> {
    match (Backend::of(url)?, Backend::of(migration_url)?) {
        (Backend::Postgres(login), Backend::Postgres(owner)) => postgres::migrations::let_work(&login, &owner).await,
        _ => Ok(None),
    }
}

/// Undoes the newest migration and returns its name, if there is one. It may lose data: for development and tests.
pub async fn revert(url: &str) -> Result<Option<String>, OpenError> {
    match Backend::of(url)? {
        Backend::Postgres(address) => postgres::migrations::revert(&address).await,
        Backend::Sqlite(file) => sqlite::migrations::revert(&file),
    }
}

/// Whether a URL names a database this server can open; so that a mistyped one never becomes a new SQLite file.
pub fn check_url(url: &str) -> Result<(), OpenError> {
    Backend::of(url).map(drop)
}

impl SchemaState {
    /// `known` and `applied` are versions; names begin with theirs.
    pub(super) fn of(known: &[Known], applied: &[String]) -> Self {
        let unknown = applied.iter().filter(|version| known.iter().all(|known| known.version != **version)).max();
        if let Some(version) = unknown {
            return SchemaState::Newer(version.clone());
        }
        let missing: Vec<String> =
            known.iter().filter(|known| !applied.contains(&known.version)).map(|known| known.name.clone()).collect();
        if missing.is_empty() { SchemaState::Current } else { SchemaState::Behind(missing) }
    }
}

/// A migration this server was built with.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) version: String,
    pub(super) name: String,
}

enum Backend {
    Postgres(Box<postgres::Address>),
    Sqlite(PathBuf),
}

impl Backend {
    fn of(url: &str) -> Result<Self, OpenError> {
        match url.split_once(':') {
            Some(("postgres" | "postgresql", _)) => Ok(Backend::Postgres(Box::new(postgres::Address::parse(url)?))),
            Some(("sqlite", path)) => {
                // sqlite:path, sqlite:///absolute/path and sqlite://relative/path all name a file.
                let path = path.strip_prefix("//").unwrap_or(path);
                if path.is_empty() || path.contains(['?', '\0']) || path.contains(":memory:") {
                    return Err(OpenError::Url("sqlite: needs the path of a file, without parameters".into()));
                }
                Ok(Backend::Sqlite(path.into()))
            }
            _ => Err(OpenError::Url("it must begin with postgres: or sqlite:".into())),
        }
    }
}

/// So that backends can say in one word that an operation's store error ends an opening.
impl OpenError {
    pub(super) fn of<T>(result: StoreResult<T>) -> Result<T, OpenError> {
        result.map_err(OpenError::Store)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(version: &str) -> Known {
        Known { version: version.into(), name: format!("{version}_name") }
    }

    #[test]
    fn a_schema_is_current_behind_or_newer() {
        let known = [known("1"), known("2")];
        let applied = |versions: &[&str]| versions.iter().map(|v| (*v).to_owned()).collect::<Vec<_>>();
        assert_eq!(SchemaState::of(&known, &applied(&["1", "2"])), SchemaState::Current);
        assert_eq!(SchemaState::of(&known, &applied(&["1"])), SchemaState::Behind(vec!["2_name".into()]));
        assert_eq!(SchemaState::of(&known, &applied(&["1", "2", "3"])), SchemaState::Newer("3".into()));
        assert_eq!(SchemaState::of(&known, &applied(&["1", "3"])), SchemaState::Newer("3".into()));
    }

    #[test]
    fn a_mistyped_url_is_refused_and_not_repeated() {
        for url in ["postgre://ana:hunter2@db/selkie", "selkie.db", "", "sqlite:", "sqlite::memory:", "mysql://x"] {
            let error = check_url(url).unwrap_err();
            assert!(!error.to_string().contains("hunter2"));
        }
        for url in ["sqlite:selkie.db", "sqlite:///var/lib/selkie/db", "postgres://db/selkie?sslmode=verify-full"] {
            check_url(url).unwrap();
        }
    }
}
