//! Pushing: what an entry costs by how many records are in it and how many people push, each into a vault of their own.
//!
//! Owns the preparation of what is pushed, so that nothing is sealed or signed while it is measured, and the goals.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use selkie_e2e::scribe::{Author, Line as Change, Pen, Scribe, Volume, Written, push_path, record};
use selkie_protocol::Face;
use selkie_protocol::vault::Push;

use crate::Plan;
use crate::figures::{Figure, Goal, Latencies, median};
use crate::line::{Line, request};
use crate::machine::{Machine, Used};
use crate::raw::Load;

/// What an app keeps in a record.
const CONTENT: usize = 300;
/// A sealed record and its clear header, as the raw limit has to write them.
pub(crate) const ROW: usize = 344 + 54;
pub(crate) const MOST_CLIENTS: usize = 32;

/// Records in an entry, people, entries of each.
const CELLS: [(usize, usize, usize); 9] = [
    (1, 1, 1500),
    (1, 8, 600),
    (1, 32, 300),
    (50, 1, 1000),
    (50, 8, 250),
    (50, 32, 63),
    (256, 1, 200),
    (256, 8, 50),
    (256, 32, 12),
];

/// People, each at a vault of their own.
pub(crate) struct Desks {
    pub(crate) pens: Vec<Pen>,
}

pub(crate) struct Run {
    used: Used,
    pub(crate) rate: f64,
    latencies: Latencies,
    /// Of a record, there and back.
    wire_bytes: f64,
}

impl Desks {
    pub(crate) async fn open(machine: &Machine, of: &str, count: usize) -> Desks {
        let mut pens = Vec::new();
        for number in 0..count {
            let author = Author::new(&machine.server.url, &format!("{of}{number}@example.org")).await;
            pens.push(author.make_vault().await.pen(&author.first()));
        }
        Desks { pens }
    }
}

pub(crate) async fn measure(machine: &mut Machine, plan: &Plan, found: &mut Vec<Figure>) {
    let mut desks = Desks::open(machine, "writer", MOST_CLIENTS).await;
    for (batch, clients, each) in CELLS {
        let what = format!("push of {batch}, {clients} {}", if clients == 1 { "client" } else { "clients" });
        if !plan.wants(&what) {
            continue;
        }
        let each = plan.scaled(each);
        let load = Load { clients, batch, batches_each: each, row: ROW };
        let (mut runs, mut raws) = (Vec::new(), Vec::new());
        for _ in 0..plan.rounds {
            runs.push(run(machine, &mut desks.pens[..clients], batch, each).await);
            raws.push(machine.raw_push(load).await);
        }
        let mut latencies = Latencies::default();
        let middle = |of: &dyn Fn(&Run) -> f64| median(runs.iter().map(of).collect());
        let figure = Figure::new(machine.name, &what, middle(&|run| run.used.sum()), "us CPU/rec")
            .beside(median(raws.iter().map(|raw| raw.cpu_us).collect()))
            .and("server", middle(&|run| run.used.server))
            .and("database", middle(&|run| run.used.database))
            .and("rec/s", middle(&|run| run.rate))
            .and("raw rec/s", median(raws.iter().map(|raw| raw.rate).collect()));
        let wire = middle(&|run| run.wire_bytes);
        runs.into_iter().for_each(|run| latencies.join(run.latencies));
        let figure = figure
            .and("p50 ms", latencies.percentile(50.0))
            .and("p95 ms", latencies.percentile(95.0))
            .and("p99 ms", latencies.percentile(99.0));
        plan.report(found, goal_of(machine.name, batch, clients).into_iter().fold(figure, Figure::goal));
        let name = format!("p99 of a {what}");
        let tail = Figure::new(machine.name, name, latencies.percentile(99.0), "ms");
        let is_judged = machine.name == "SQLite" && (batch, clients) == (1, 32);
        plan.report(found, if is_judged { tail.goal(Goal::at_most(50.0)) } else { tail });
        if (batch, clients) == (50, 8) {
            let figure = Figure::new(machine.name, "bytes on the wire, batch of 50", wire, "B/rec");
            plan.report(found, figure.goal(Goal::at_most(420.0)));
        }
    }
    if plan.wants("disk") {
        let before = machine.disk_bytes().await;
        let each = plan.scaled(250);
        run(machine, &mut desks.pens[..8], 50, each).await;
        let bytes = (machine.disk_bytes().await - before) / (8 * each * 50) as f64;
        let most = if machine.name == "SQLite" { 560.0 } else { 600.0 };
        let figure = Figure::new(machine.name, "disk, batch of 50", bytes, "B/rec");
        plan.report(found, figure.goal(Goal::at_most(most)));
    }
    if plan.wants("memory") {
        for batch in [1, 50, 256] {
            let each = plan.scaled(if batch == 1 { 300 } else { 3200 / batch });
            let most = highest_memory(machine, &mut desks.pens, batch, each).await;
            let what = format!("memory, 32 clients pushing {batch}");
            plan.report(found, Figure::new(machine.name, what, most, "MiB PSS").goal(Goal::at_most(48.0)));
        }
    }
}

/// Everybody into one vault, each with a device of their own, signing as they go: on a log that others write, too, an
/// entry cannot be signed long before.
pub(crate) async fn fill(machine: &Machine, devices: &[Scribe], volume: &Volume, entries: u64) -> Figure {
    let pens: Vec<Pen> = devices.iter().map(|device| volume.pen(device)).collect();
    let left = Arc::new(AtomicU64::new(entries));
    let (before, started) = (machine.used(), Instant::now());
    let address = machine.server.address;
    let writers: Vec<_> = pens
        .into_iter()
        .map(|mut pen| {
            let left = left.clone();
            tokio::spawn(async move {
                let (mut line, mut latencies) = (Line::to(address).await, Latencies::default());
                let take = |left: u64| left.checked_sub(1);
                while left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok() {
                    let written = pen.write(&changes(1));
                    let request = push_request(&pen, &written);
                    let asked = Instant::now();
                    let answer = line.ask(&request).await;
                    latencies.add(asked.elapsed());
                    let pushed = Face::Cbor.decode(&answer.body).expect("an answer to a push");
                    pen.wrote(&written, Some(selkie_e2e::scribe::seen(&pushed)));
                }
                latencies
            })
        })
        .collect();
    let mut latencies = Latencies::default();
    for writer in writers {
        latencies.join(writer.await.expect("a writer"));
    }
    let took = started.elapsed().as_secs_f64();
    let used = machine.used().since(before, entries as f64);
    let what = "push of 1, 32 clients in one vault";
    Figure::new(machine.name, what, used.sum(), "us CPU/rec")
        .and("server", used.server)
        .and("database", used.database)
        .and("rec/s", entries as f64 / took)
        .and("p50 ms", latencies.percentile(50.0))
        .and("p99 ms", latencies.percentile(99.0))
}

pub(crate) async fn run(machine: &Machine, pens: &mut [Pen], batch: usize, each: usize) -> Run {
    let prepared: Vec<Vec<Vec<u8>>> = pens.iter_mut().map(|pen| prepare(pen, batch, each)).collect();
    let clients = prepared.len();
    let mut lines = Vec::new();
    for _ in 0..clients {
        lines.push(Line::to(machine.server.address).await);
    }
    let (before, started) = (machine.used(), Instant::now());
    let writers: Vec<_> =
        prepared.into_iter().zip(lines).map(|(requests, line)| tokio::spawn(push(requests, line))).collect();
    let (mut latencies, mut bytes) = (Latencies::default(), 0);
    for writer in writers {
        let (more, sent) = writer.await.expect("a writer");
        latencies.join(more);
        bytes += sent;
    }
    let took = started.elapsed().as_secs_f64();
    let records = (clients * each * batch) as f64;
    let used = machine.used().since(before, records);
    Run { used, rate: records / took, latencies, wire_bytes: bytes as f64 / records }
}

async fn push(requests: Vec<Vec<u8>>, mut line: Line) -> (Latencies, usize) {
    let (mut latencies, mut bytes) = (Latencies::default(), 0);
    for request in &requests {
        let asked = Instant::now();
        let answer = line.ask(request).await;
        latencies.add(asked.elapsed());
        bytes += request.len() + answer.bytes;
    }
    (latencies, bytes)
}

pub(crate) fn prepare(pen: &mut Pen, batch: usize, each: usize) -> Vec<Vec<u8>> {
    (0..each)
        .map(|_| {
            let written = pen.write(&changes(batch));
            let request = push_request(pen, &written);
            pen.wrote_alone(&written);
            request
        })
        .collect()
}

pub(crate) fn push_request(pen: &Pen, written: &Written) -> Vec<u8> {
    let message = Face::Cbor.encode(&Push { frame: written.frame.as_slice().into(), wraps: Vec::new() });
    request("POST", &push_path(&pen.vault()), pen.scribe.tokens.access_token.as_str(), &message)
}

/// New records, each in its place at random.
pub(crate) fn changes(count: usize) -> Vec<Change> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    (0..count).map(|_| Change::new(record(NEXT.fetch_add(1, Ordering::Relaxed)), &[0x5e; CONTENT])).collect()
}

/// The most the server takes while they push.
async fn highest_memory(machine: &Machine, pens: &mut [Pen], batch: usize, each: usize) -> f64 {
    let (over, process) = (Arc::new(AtomicBool::new(false)), machine.server.process_id());
    let watched = over.clone();
    let watch = std::thread::spawn(move || {
        let mut most = 0.0_f64;
        while !watched.load(Ordering::SeqCst) {
            most = most.max(selkie_e2e::measured::pss_mib_of(process));
            std::thread::sleep(Duration::from_millis(20));
        }
        most
    });
    run(machine, pens, batch, each).await;
    over.store(true, Ordering::SeqCst);
    watch.join().expect("it only looks")
}

fn goal_of(backend: &str, batch: usize, clients: usize) -> Option<Goal> {
    Some(match (backend, batch, clients) {
        ("Postgres", 1, 32) => Goal::at_most(85.0),
        ("Postgres", 50, 8 | 32) => Goal::at_most(12.0).and_share(0.45),
        ("Postgres", 256, 8 | 32) => Goal::at_most(7.0).and_share(0.50),
        ("SQLite", 1, 32) => Goal::at_most(75.0),
        ("SQLite", 50, 8) => Goal::at_most(12.0),
        ("SQLite", 256, 8) => Goal::at_most(7.0),
        _ => return None,
    })
}
