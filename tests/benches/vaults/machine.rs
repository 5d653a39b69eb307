//! The server and its database as the bench sees them: what they have used, what they take.
//!
//! Owns the starting of both backends with settings as in production. Knows nothing about vaults.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, SqliteConnection};
use selkie_e2e::measured::{MeasuredServer, cpu_of_family, pss_mib_of_family};
use selkie_e2e::premises::{Backend, Premises};
use selkie_test_postgres::Cluster;

use crate::raw::{Cost, Load, RawPostgres, RawSqlite};

/// All connections come from one address, and many streams from one account; no device signs in anew during a bench,
/// and what the client does for a sign-in is done long before it is finished.
const VARIABLES: &[(&str, &str)] = &[
    ("SELKIE_SERVER__MAX_CONNECTIONS", "30000"),
    ("SELKIE_SERVER__MAX_CONNECTIONS_PER_ADDRESS", "30000"),
    ("SELKIE_VAULTS__LISTENERS_PER_ADDRESS", "30000"),
    ("SELKIE_VAULTS__LISTENERS_PER_ACCOUNT", "9000"),
    ("SELKIE_SESSIONS__ACCESS_TOKEN", "2h"),
    ("SELKIE_SESSIONS__LOGIN_STATE", "10m"),
];

/// PostgreSQL's processes.
pub(crate) struct Postgres {
    process: u32,
}

/// A server, what it stands on, and the same without a server.
pub(crate) struct Machine {
    pub(crate) name: &'static str,
    pub(crate) server: MeasuredServer,
    program: PathBuf,
    premises: Premises,
    postgres: Option<Arc<Postgres>>,
    raw: Raw,
}

enum Raw {
    Postgres(RawPostgres),
    Sqlite(Box<RawSqlite>),
}

/// Seconds of processor time so far.
#[derive(Clone, Copy)]
pub(crate) struct Used {
    pub(crate) server: f64,
    pub(crate) database: f64,
}

impl Postgres {
    pub(crate) fn cpu(&self) -> f64 {
        cpu_of_family(self.process)
    }
}

impl Machine {
    pub(crate) async fn start(program: &Path, backend: Backend, cluster: &Cluster) -> Machine {
        let program = program.to_owned();
        match backend {
            Backend::SqliteAndFiles => {
                let premises = Premises::embedded();
                let server = MeasuredServer::start(&program, &premises, VARIABLES);
                let raw = Raw::Sqlite(Box::new(RawSqlite::new()));
                Machine { name: "SQLite", server, program, premises, postgres: None, raw }
            }
            Backend::PostgresAndS3 => {
                let premises = Premises::in_cluster(cluster).await;
                let server = MeasuredServer::start(&program, &premises, VARIABLES);
                let process = cluster.process_id().expect("the cluster is ours");
                let postgres = Arc::new(Postgres { process });
                let raw = Raw::Postgres(RawPostgres::new(cluster, postgres.clone()).await);
                Machine { name: "Postgres", server, program, premises, postgres: Some(postgres), raw }
            }
        }
    }

    /// A second server on the same database, where there can be one.
    pub(crate) fn another(&self) -> Option<MeasuredServer> {
        let beside = || MeasuredServer::start_beside(&self.server, &self.program, &self.premises, VARIABLES);
        self.postgres.is_some().then(beside)
    }

    /// The same server once more, after a loss of power.
    pub(crate) fn start_again(&mut self) {
        self.server.start_again(&self.program, &self.premises, VARIABLES);
    }

    /// What PostgreSQL takes of the memory; SQLite takes the server's.
    pub(crate) fn database_mib(&self) -> f64 {
        self.postgres.as_ref().map_or(0.0, |postgres| pss_mib_of_family(postgres.process))
    }

    pub(crate) fn used(&self) -> Used {
        let database = self.postgres.as_ref().map_or(0.0, |postgres| postgres.cpu());
        Used { server: self.server.cpu(), database }
    }

    /// The same bytes without a server.
    pub(crate) async fn raw_push(&mut self, load: Load) -> Cost {
        match &mut self.raw {
            Raw::Postgres(raw) => raw.push(load).await,
            Raw::Sqlite(raw) => tokio::task::block_in_place(|| raw.push(load)),
        }
    }

    /// A log of so many records read without a server.
    pub(crate) async fn raw_read(&mut self, records: usize, times: usize, row: usize) -> Cost {
        match &mut self.raw {
            Raw::Postgres(raw) => raw.read(records, times, row).await,
            Raw::Sqlite(raw) => tokio::task::block_in_place(|| raw.read(records, times, row)),
        }
    }

    /// What the database takes of the disk, as far as it can be told while it is in use.
    pub(crate) async fn disk_bytes(&self) -> f64 {
        match self.premises.database_url() {
            Some(url) => {
                let connected = tokio_postgres::connect(&url, tokio_postgres::NoTls).await;
                let (client, connection) = connected.expect("the database is there");
                let driver = tokio::spawn(connection);
                let row = client.query_one("SELECT pg_database_size(current_database())", &[]).await;
                let bytes: i64 = row.expect("it tells").get(0);
                drop(client);
                driver.await.expect("no panic").expect("the connection ends in peace");
                bytes as f64
            }
            None => {
                let file = self.premises.data_folder().join("selkie.db");
                let path = file.to_str().expect("a path is text");
                let mut connection = SqliteConnection::establish(path).expect("the database is there");
                connection
                    .batch_execute("PRAGMA busy_timeout = 5000; PRAGMA wal_checkpoint(TRUNCATE)")
                    .expect("it obeys");
                std::fs::metadata(file).expect("the database is there").len() as f64
            }
        }
    }
}

impl Used {
    /// Microseconds since then, for each of so many.
    pub(crate) fn since(self, before: Used, each_of: f64) -> Used {
        let each = |now: f64, before: f64| (now - before) * 1e6 / each_of;
        Used { server: each(self.server, before.server), database: each(self.database, before.database) }
    }

    /// Hundredths of one core since then.
    pub(crate) fn percent_since(self, before: Used, took: Duration) -> Used {
        self.since(before, took.as_secs_f64() * 1e4)
    }

    pub(crate) fn sum(self) -> f64 {
        self.server + self.database
    }
}
