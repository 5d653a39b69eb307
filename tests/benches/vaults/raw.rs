//! What the machine can do without a server: the same bytes in one statement that also moves the head, and a plain
//! range read by primary key.
//!
//! Owns the tables for it and their statements, on both databases. A record is a row. On PostgreSQL the cost is that of
//! its processes, the asker's is left out; SQLite runs in the asker, whose cost it is.

use std::sync::Arc;
use std::time::Instant;

use diesel::prelude::*;
use futures_util::future::join_all;
use selkie_e2e::measured::cpu_of;
use selkie_test_postgres::{Cluster, Database};
use tempfile::TempDir;

use crate::machine::Postgres;

/// Microseconds of processor time a record, and records a second.
#[derive(Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) cpu_us: f64,
    pub(crate) rate: f64,
}

/// Rows of this length, as many in a statement, by so many who do not wait for each other.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) clients: usize,
    pub(crate) batch: usize,
    pub(crate) batches_each: usize,
    pub(crate) row: usize,
}

impl Load {
    fn records(&self) -> f64 {
        (self.clients * self.batches_each * self.batch) as f64
    }

    /// Bytes that compress as badly as sealed ones.
    fn rows(&self, seed: usize) -> Vec<Vec<u8>> {
        let row = |index: usize| {
            let mut row = Vec::with_capacity(self.row + 32);
            let mut next = selkie_protocol::hash::sha256(&(seed * 1000 + index).to_be_bytes());
            while row.len() < self.row {
                row.extend_from_slice(&next);
                next = selkie_protocol::hash::sha256(&next);
            }
            row.truncate(self.row);
            row
        };
        (0..self.batch).map(row).collect()
    }
}

const PUSH: &str = "WITH moved AS (UPDATE heads SET n = n + $2 WHERE vault = $1 RETURNING n - $2 AS before) \
                    INSERT INTO log (vault, n, frame) SELECT $1, moved.before + new.i, new.frame FROM moved, \
                    UNNEST($3::bytea[]) WITH ORDINALITY AS new(frame, i)";
const READ: &str = "SELECT n, frame FROM log WHERE vault = $1 AND n > $2 ORDER BY n LIMIT 1000";

/// A database without a server before it.
pub(crate) struct RawPostgres {
    database: Database,
    postgres: Arc<Postgres>,
}

impl RawPostgres {
    pub(crate) async fn new(cluster: &Cluster, postgres: Arc<Postgres>) -> RawPostgres {
        let raw = RawPostgres { database: cluster.database(None), postgres };
        let tables = "CREATE TABLE heads (vault bigint PRIMARY KEY, n bigint NOT NULL); \
                      CREATE TABLE log (vault bigint, n bigint, frame bytea NOT NULL, PRIMARY KEY (vault, n)); \
                      ALTER TABLE log ALTER frame SET STORAGE EXTERNAL; \
                      INSERT INTO heads SELECT vault, 0 FROM generate_series(0, 99) AS vault";
        raw.connect().await.batch_execute(tables).await.expect("tables can be made");
        raw
    }

    async fn connect(&self) -> tokio_postgres::Client {
        let connected = tokio_postgres::connect(&self.database.url(), tokio_postgres::NoTls).await;
        let (client, connection) = connected.expect("the database is there");
        tokio::spawn(connection);
        client
    }

    pub(crate) async fn push(&self, load: Load) -> Cost {
        let mut ready = Vec::new();
        for vault in 0..load.clients {
            let client = self.connect().await;
            let statement = client.prepare(PUSH).await.expect("a statement");
            ready.push((client, statement, i64::try_from(vault).expect("few"), load.rows(vault)));
        }
        let count = i64::try_from(load.batch).expect("few");
        let (before, started) = (self.postgres.cpu(), Instant::now());
        let pushing = ready.iter().map(async |(client, statement, vault, rows)| {
            for _ in 0..load.batches_each {
                let taken = client.execute(statement, &[vault, &count, rows]).await.expect("it is taken");
                assert_eq!(taken, count.unsigned_abs());
            }
        });
        join_all(pushing).await;
        let (cpu, took) = (self.postgres.cpu() - before, started.elapsed().as_secs_f64());
        Cost { cpu_us: cpu * 1e6 / load.records(), rate: load.records() / took }
    }

    /// Reads a log of so many records, again and again.
    pub(crate) async fn read(&self, records: usize, times: usize, row: usize) -> Cost {
        let client = self.connect().await;
        client
            .batch_execute("DELETE FROM log WHERE vault = 99; UPDATE heads SET n = 0 WHERE vault = 99")
            .await
            .expect("it obeys");
        let load = Load { clients: 1, batch: 500, batches_each: records / 500, row };
        let statement = client.prepare(PUSH).await.expect("a statement");
        let rows = load.rows(0);
        for _ in 0..load.batches_each {
            client.execute(&statement, &[&99_i64, &500_i64, &rows]).await.expect("it is taken");
        }
        client.batch_execute("VACUUM ANALYZE log").await.expect("it obeys");
        let statement = client.prepare(READ).await.expect("a statement");
        let (before, started) = (self.postgres.cpu(), Instant::now());
        for _ in 0..times {
            let mut after = 0_i64;
            loop {
                let page = client.query(&statement, &[&99_i64, &after]).await.expect("it is read");
                let Some(last) = page.last() else { break };
                after = last.get(0);
            }
            assert_eq!(after, i64::try_from(records).expect("few"));
        }
        let (cpu, took) = (self.postgres.cpu() - before, started.elapsed().as_secs_f64());
        let read = (records * times) as f64;
        Cost { cpu_us: cpu * 1e6 / read, rate: read / took }
    }
}

diesel::table! {
    heads (vault) {
        vault -> BigInt,
        n -> BigInt,
    }
}

diesel::table! {
    log (vault, n) {
        vault -> BigInt,
        n -> BigInt,
        frame -> Binary,
    }
}

/// SQLite in this process: one writer, as there can only be one.
pub(crate) struct RawSqlite {
    connection: SqliteConnection,
    _folder: TempDir,
}

impl RawSqlite {
    pub(crate) fn new() -> RawSqlite {
        let folder = TempDir::new().expect("there is room for temporary files");
        let path = folder.path().join("raw.db");
        let mut connection =
            SqliteConnection::establish(path.to_str().expect("a path is text")).expect("a database can be made");
        let tables = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
                      CREATE TABLE heads (vault INTEGER PRIMARY KEY, n INTEGER NOT NULL); \
                      CREATE TABLE log (vault INTEGER, n INTEGER, frame BLOB NOT NULL, PRIMARY KEY (vault, n)) \
                      WITHOUT ROWID; INSERT INTO heads VALUES (0, 0), (1, 0)";
        diesel::connection::SimpleConnection::batch_execute(&mut connection, tables).expect("tables can be made");
        RawSqlite { connection, _folder: folder }
    }

    /// All that the clients of the load push, one after the other.
    pub(crate) fn push(&mut self, load: Load) -> Cost {
        let rows = load.rows(0);
        let batches = load.clients * load.batches_each;
        let (before, started) = (cpu_of(std::process::id()), Instant::now());
        for _ in 0..batches {
            self.push_one(0, &rows);
        }
        let (cpu, took) = (cpu_of(std::process::id()) - before, started.elapsed().as_secs_f64());
        Cost { cpu_us: cpu * 1e6 / load.records(), rate: load.records() / took }
    }

    fn push_one(&mut self, vault: i64, rows: &[Vec<u8>]) {
        let taken = self.connection.immediate_transaction(|connection| {
            let count = i64::try_from(rows.len()).expect("few");
            diesel::update(heads::table.find(vault)).set(heads::n.eq(heads::n + count)).execute(connection)?;
            let head: i64 = heads::table.find(vault).select(heads::n).first(connection)?;
            for (n, frame) in (head - count + 1..).zip(rows) {
                let row = (log::vault.eq(vault), log::n.eq(n), log::frame.eq(frame));
                diesel::insert_into(log::table).values(row).execute(connection)?;
            }
            QueryResult::Ok(())
        });
        taken.expect("it is taken");
    }

    pub(crate) fn read(&mut self, records: usize, times: usize, row: usize) -> Cost {
        diesel::delete(log::table.filter(log::vault.eq(1))).execute(&mut self.connection).expect("it obeys");
        diesel::update(heads::table.find(1)).set(heads::n.eq(0)).execute(&mut self.connection).expect("it obeys");
        let rows = Load { clients: 1, batch: 500, batches_each: 1, row }.rows(0);
        for _ in 0..records / 500 {
            self.push_one(1, &rows);
        }
        let (before, started) = (cpu_of(std::process::id()), Instant::now());
        for _ in 0..times {
            let mut after = 0_i64;
            loop {
                let page: Vec<(i64, Vec<u8>)> = log::table
                    .filter(log::vault.eq(1).and(log::n.gt(after)))
                    .order(log::n)
                    .limit(1000)
                    .select((log::n, log::frame))
                    .load(&mut self.connection)
                    .expect("it is read");
                let Some((last, _)) = page.last() else { break };
                after = *last;
            }
            assert_eq!(after, i64::try_from(records).expect("few"));
        }
        let (cpu, took) = (cpu_of(std::process::id()) - before, started.elapsed().as_secs_f64());
        let read = (records * times) as f64;
        Cost { cpu_us: cpu * 1e6 / read, rate: read / took }
    }
}
