//! From the start of the process until it is ready for work, on a database that holds something, after it was killed.
//!
//! The files are in the kernel's memory: it is the process that is cold.

use std::time::Instant;

use selkie_e2e::scribe::Author;

use crate::Plan;
use crate::figures::{Figure, Goal, Latencies};
use crate::line::{Line, request};
use crate::machine::Machine;
use crate::pushes::prepare;

const STARTS: usize = 11;
const RECORDS: usize = 10_000;
const BATCH: usize = 50;

pub(crate) async fn measure(machine: &mut Machine, plan: &Plan, found: &mut Vec<Figure>) {
    let what = "start until ready";
    if !plan.wants(what) {
        return;
    }
    let author = Author::new(&machine.server.url, "starter@example.org").await;
    let mut pen = author.make_vault().await.pen(&author.first());
    let mut line = Line::to(machine.server.address).await;
    for request in prepare(&mut pen, BATCH, plan.scaled(RECORDS) / BATCH) {
        line.ask(&request).await;
    }
    let mut latencies = Latencies::default();
    for _ in 0..STARTS {
        machine.start_again();
        let asked = Instant::now();
        Line::to(machine.server.address).await.ask(&request("GET", "/readyz", "", &[])).await;
        latencies.add(machine.server.since_start + asked.elapsed());
    }
    let figure = Figure::new(machine.name, format!("{what}, median"), latencies.percentile(50.0), "ms");
    let bytes = machine.disk_bytes().await;
    let figure = figure.goal(Goal::at_most(150.0)).and("database MB", bytes / 1e6);
    plan.report(found, figure.spread(&mut latencies));
}
