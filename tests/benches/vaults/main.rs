//! What vaults cost: pushing, pulling, asking, listening, beside what the machine can do without a server.
//!
//! Owns the plan. It starts the real server as a process of its own, on SQLite and on a PostgreSQL that flushes to the
//! disk, and asks the kernel what server and database used. Knows nothing about correctness: the stories do that.
//!
//! `cargo bench -p selkie-e2e --bench vaults [-- [--quick] [--json FILE] [--server PROGRAM] [FILTER...]]` builds the
//! server for release first, unless it is handed one. A filter is a part of a figure's name, or `sqlite`, `postgres`.

#![allow(clippy::print_stdout, reason = "a bench tells what it found")]

mod arrivals;
mod crowd;
mod figures;
mod first_sync;
mod half;
mod idle;
mod line;
mod logins;
mod machine;
mod mix;
mod polls;
mod pulls;
mod pushes;
mod raw;
mod start;
mod storm;
mod streams;

use std::path::PathBuf;

use rustix::process::{Resource, getrlimit, setrlimit};
use selkie_e2e::measured::build_server;
use selkie_e2e::premises::Backend;
use selkie_test_postgres::Cluster;

use crowd::Crowd;
use figures::{Figure, Goal};
use machine::Machine;

/// What is to be measured, and how thoroughly.
pub(crate) struct Plan {
    pub(crate) rounds: usize,
    /// A tenth of everything, to see whether it works.
    quick: bool,
    filters: Vec<String>,
    json: Option<PathBuf>,
    server: Option<PathBuf>,
}

impl Plan {
    fn read() -> Option<Plan> {
        let mut plan = Plan { rounds: 3, quick: false, filters: Vec::new(), json: None, server: None };
        let mut arguments = std::env::args().skip(1);
        let mut is_bench = false;
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--bench" => is_bench = true,
                "--quick" => (plan.quick, plan.rounds) = (true, 1),
                "--json" => plan.json = Some(arguments.next().expect("--json FILE").into()),
                "--server" => plan.server = Some(arguments.next().expect("--server PROGRAM").into()),
                filter => plan.filters.push(filter.to_lowercase()),
            }
        }
        is_bench.then_some(plan)
    }

    /// Whether a figure of this name is wanted.
    pub(crate) fn wants(&self, what: &str) -> bool {
        let mut names = self.filters.iter().filter(|filter| !is_backend(filter)).peekable();
        names.peek().is_none() || names.any(|name| what.contains(name.as_str()) || name.contains(what))
    }

    fn wants_backend(&self, backend: &str) -> bool {
        let mut backends = self.filters.iter().filter(|filter| is_backend(filter)).peekable();
        backends.peek().is_none() || backends.any(|name| name == backend)
    }

    pub(crate) fn scaled(&self, count: usize) -> usize {
        if self.quick { (count / 10).max(1) } else { count }
    }

    pub(crate) fn report(&self, found: &mut Vec<Figure>, figure: Figure) {
        figure.print();
        found.push(figure);
    }
}

fn is_backend(filter: &str) -> bool {
    ["sqlite", "postgres"].contains(&filter)
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some((first, rest)) = arguments.split_first()
        && first == first_sync::AS_A_DEVICE
    {
        return first_sync::be_a_device(rest);
    }
    // `cargo test --benches` runs this too; the figures of an unoptimised build are worth nothing.
    let Some(plan) = Plan::read() else { return };
    allow_many_files();
    let server = plan.server.clone().unwrap_or_else(build_server);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let found = runtime.expect("threads can be made").block_on(async {
        let cluster = Cluster::durable().unwrap_or_else(|error| panic!("a PostgreSQL to measure: {error}"));
        let mut found = Vec::new();
        figures::print_header();
        for (name, backend) in [("sqlite", Backend::SqliteAndFiles), ("postgres", Backend::PostgresAndS3)] {
            if plan.wants_backend(name) {
                let mut machine = Machine::start(&server, backend, &cluster).await;
                measure(&mut machine, &plan, &mut found).await;
            }
        }
        found
    });
    if let Some(file) = &plan.json {
        let text = serde_json::to_string_pretty(&found).expect("figures are plain");
        std::fs::write(file, text).expect("the file can be written");
    }
    let failed: f64 = found.iter().map(Figure::failed).sum();
    assert!(failed == 0.0, "{failed} requests were not answered as they have to be");
}

/// Ten thousand streams are as many files, here and in the server, which has from us what it may open.
fn allow_many_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("a process may have what it is allowed");
}

async fn measure(machine: &mut Machine, plan: &Plan, found: &mut Vec<Figure>) {
    if plan.wants("memory") {
        let figure = Figure::new(machine.name, "memory, idle", machine.server.pss_mib(), "MiB PSS");
        plan.report(found, figure.goal(Goal::at_most(16.0)));
    }
    if ["push", "disk", "memory"].iter().any(|what| plan.wants(what)) {
        pushes::measure(machine, plan, found).await;
    }
    pulls::measure(machine, plan, found).await;
    polls::measure(machine, plan, found).await;
    logins::measure(machine, plan, found).await;
    streams::measure(machine, plan, found).await;
    half::measure(machine, plan, found).await;
    crowded(machine, plan, found).await;
    first_sync::measure(machine, plan, found).await;
    start::measure(machine, plan, found).await;
    if let Some(figure) = day(machine.name, found) {
        plan.report(found, figure);
    }
}

/// What takes very many devices, who are gathered once.
async fn crowded(machine: &Machine, plan: &Plan, found: &mut Vec<Figure>) {
    let few = plan.wants(&idle::name(plan, idle::FEW));
    let many = plan.wants(&idle::name(plan, idle::MANY)) || mix::is_wanted(plan) || storm::is_wanted(plan);
    if !few && !many {
        return;
    }
    let mut crowd = Crowd::gather(machine, plan.scaled(if many { idle::MANY } else { idle::FEW })).await;
    idle::measure(machine, plan, found, &crowd).await;
    mix::measure(machine, plan, found, &mut crowd).await;
    storm::measure(machine, plan, found, &mut crowd).await;
}

/// Of 10,000 people, each with two devices that ask once a minute for eight hours, and with 100 records.
fn day(backend: &'static str, found: &[Figure]) -> Option<Figure> {
    const POLLS: f64 = 10_000.0 * 2.0 * 60.0 * 8.0;
    const PUSHES: f64 = 10_000.0 * 100.0;
    let is_it = |figure: &&Figure, what: &str| {
        figure.backend == backend && figure.what.starts_with(what) && !figure.what.contains("one vault")
    };
    let of = |what: &str| found.iter().rev().find(|figure| is_it(figure, what)).map(|figure| figure.value);
    let (poll, push) = (of("poll, nothing new")?, of("push of 1, 32 clients")?);
    let seconds = (POLLS * poll + PUSHES * push) / 1e6;
    let figure = Figure::new(backend, "a day of 10,000 people, from the above", seconds, "s CPU");
    Some(figure.goal(Goal::at_most(300.0)).and("polls", POLLS * poll / 1e6).and("pushes", PUSHES * push / 1e6))
}
