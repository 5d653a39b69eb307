//! What the hot paths of the log cost, beside the same bytes in one bare statement. Not a test: it is asked for by
//! name, and says little of this process's own part unless it is built with optimisation, which takes long.
//!
//! ```text
//! cargo test -p selkie-server --lib --config 'profile.dev.package.selkie-server.opt-level=3' -- \
//!     --ignored --nocapture --test-threads 1 store::conformance::measures
//! ```
#![allow(clippy::print_stdout, reason = "it is what this is for")]

use super::catalogue::connect;
use super::scribe::{Scribe, Write};
use super::*;
use crate::store::*;
use std::time::Instant;

/// 300 bytes, padded and sealed.
const PAYLOAD: usize = 360;

/// CPU time of this process and of the database's, in microseconds.
async fn cpu(house: &House, watcher: Option<&tokio_postgres::Client>) -> (f64, f64) {
    let own = cpu_of("self");
    let Some(watcher) = watcher else { return (own, 0.0) };
    let others = "SELECT pid FROM pg_stat_activity WHERE datname = current_database()
        OR backend_type IN ('walwriter', 'background writer', 'checkpointer')";
    let pids = watcher.query(others, &[]).await.unwrap();
    let _ = house;
    (own, pids.iter().map(|row| cpu_of(&row.get::<_, i32>(0).to_string())).sum())
}

fn cpu_of(process: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = after_name.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<f64>().unwrap_or_default());
    ticks.sum::<f64>() * 10_000.0
}

struct Meter<'h> {
    house: &'h House,
    watcher: Option<&'h tokio_postgres::Client>,
    began: (f64, f64),
    clock: Instant,
}

impl<'h> Meter<'h> {
    async fn begin(house: &'h House, watcher: Option<&'h tokio_postgres::Client>) -> Self {
        Meter { house, watcher, began: cpu(house, watcher).await, clock: Instant::now() }
    }

    async fn end(self, what: &str, records: usize) {
        let wall = self.clock.elapsed().as_micros() as f64;
        let (own, database) = cpu(self.house, self.watcher).await;
        let each = |total: f64| total / records as f64;
        let (own, database) = (each(own - self.began.0), each(database - self.began.1));
        println!(
            "{what:<58} {:>8.2} us CPU a record ({own:.2} here, {database:.2} database), {:.2} us wall",
            own + database,
            each(wall)
        );
    }
}

async fn measure(house: House) {
    let watcher = if house.url.starts_with("postgres") { Some(connect(&house.url).await) } else { None };
    let watcher = watcher.as_ref();
    let backend = if watcher.is_some() { "postgres" } else { "sqlite" };
    let account = house.register(house.home, registration(1)).await.unwrap();
    let mut scribes = Vec::new();
    for n in 1..=33 {
        scribes.push(Scribe::create(&*house.store, house.home, account, n).await.with_payloads_of(PAYLOAD));
    }

    // Batches of one, of 32 people together.
    let mut next = 0;
    let mut fresh = |count: u64| {
        next += count;
        (next - count..next).map(Write::Whole).collect::<Vec<_>>()
    };
    let groups: Vec<Vec<Append>> = (0..100)
        .map(|_| {
            let one = |scribe: &mut Scribe| {
                let entry = scribe.data(&fresh(1));
                scribe.append(vec![entry])
            };
            scribes[..32].iter_mut().map(one).collect()
        })
        .collect();
    let meter = Meter::begin(&house, watcher).await;
    for group in groups {
        assert!(house.append(group).await.unwrap().iter().all(|taken| *taken));
    }
    meter.end(&format!("{backend}: append of 1 x 32 people"), 3_200).await;

    let before = size(&house, watcher).await;
    for (batch, times) in [(1u64, 400usize), (50, 200), (256, 100)] {
        let (mut appends, mut questions) = (Vec::new(), Vec::new());
        for _ in 0..times {
            let scribe = &mut scribes[32];
            let writes = fresh(batch);
            let entry = scribe.data(&writes);
            let records = entry.adds.iter().map(|change| change.record).collect();
            questions.push(Question { records, chain: vec![scribe.head.n - 1], ..scribe.question() });
            appends.push(scribe.append(vec![entry]));
        }
        let records = batch as usize * times;
        let meter = Meter::begin(&house, watcher).await;
        for append in appends {
            assert_eq!(house.append(vec![append]).await.unwrap(), [true]);
        }
        meter.end(&format!("{backend}: append of {batch}"), records).await;
        let meter = Meter::begin(&house, watcher).await;
        // Who asks has followed the log.
        let known = Some(scribes[32].head.n);
        for question in questions {
            house.bearings(vec![Question { known, ..question }]).await.unwrap();
        }
        meter.end(&format!("{backend}: bearings of {batch}, all of them there"), records).await;
        if batch == 50 {
            let now = size(&house, watcher).await;
            println!(
                "{backend}: disk for a record in a batch of 50: {} bytes (with 400 single ones)",
                (now - before) / 10_400
            );
        }
    }

    // The same records again: every one supersedes one.
    let mut appends = Vec::new();
    for round in 0..100u64 {
        let writes: Vec<Write> = (0..256).map(|n| Write::Whole(10_000 + round * 256 + n)).collect();
        let scribe = &mut scribes[32];
        let entry = scribe.data(&writes);
        appends.push(scribe.append(vec![entry]));
    }
    let meter = Meter::begin(&house, watcher).await;
    for append in appends {
        assert_eq!(house.append(vec![append]).await.unwrap(), [true]);
    }
    meter.end(&format!("{backend}: append of 256 that supersede others"), 25_600).await;

    let mut long = Scribe::create(&*house.store, house.home, account, 99).await.with_payloads_of(PAYLOAD);
    for _ in 0..400 {
        long.writes(&*house.store, &fresh(250)).await;
    }
    for entries in [50, 1_000] {
        let meter = Meter::begin(&house, watcher).await;
        let mut after = 0;
        while after < long.head.n {
            let limits = PageLimits { entries, bytes: 1 << 20 };
            after = house.entries_after(long.at, after, limits).await.unwrap().0.last().unwrap().n;
        }
        meter.end(&format!("{backend}: pull of 100,000 in batches of 250"), 100_000).await;
    }
    let meter = Meter::begin(&house, watcher).await;
    for _ in 0..1_000 {
        house.positions(vec![long.at]).await.unwrap();
    }
    meter.end(&format!("{backend}: a position"), 1_000).await;
    if let Some(client) = watcher {
        raw(&house, client).await;
    }
}

/// The same bytes, as bare as they can be.
async fn raw(house: &House, client: &tokio_postgres::Client) {
    client
        .batch_execute(
            "CREATE TABLE raw_heads (id int PRIMARY KEY, n bigint); INSERT INTO raw_heads VALUES (1, 0);
             CREATE TABLE raw_rows (vault int, n bigint, payload bytea, PRIMARY KEY (vault, n));",
        )
        .await
        .unwrap();
    let statement = client
        .prepare(
            "WITH moved AS (UPDATE raw_heads SET n = n + $2 WHERE id = 1 RETURNING n - $2 AS before)
             INSERT INTO raw_rows SELECT 1, before + i, p
             FROM moved, unnest($1::bytea[]) WITH ORDINALITY AS r (p, i)",
        )
        .await
        .unwrap();
    for (batch, times) in [(1i64, 1_000i64), (50, 400), (256, 100)] {
        let row = vec![7u8; PAYLOAD + 60];
        let rows: Vec<&[u8]> = (0..batch).map(|_| row.as_slice()).collect();
        let meter = Meter::begin(house, Some(client)).await;
        for _ in 0..times {
            client.execute(&statement, &[&rows, &batch]).await.unwrap();
        }
        meter.end(&format!("raw: one UNNEST of {batch} that moves a head"), (batch * times) as usize).await;
    }
}

async fn size(house: &House, watcher: Option<&tokio_postgres::Client>) -> i64 {
    match watcher {
        Some(client) => {
            let sql =
                "SELECT (pg_total_relation_size('vault_entries') + pg_total_relation_size('vault_changes'))::int8";
            client.query_one(sql, &[]).await.unwrap().get(0)
        }
        None => {
            let copy = tempfile::tempdir().unwrap();
            let file = copy.path().join("copy.db");
            house.copy_to(&file).await.unwrap();
            std::fs::metadata(file).unwrap().len() as i64
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn on_sqlite() {
    measure(House::on_sqlite().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn on_postgres() {
    measure(House::on_postgres().await).await;
}
