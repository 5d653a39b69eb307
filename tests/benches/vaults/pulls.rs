//! Pulling a whole log, page by page, as a new device does.

use std::time::Instant;

use selkie_e2e::scribe::{Author, Pen};
use selkie_protocol::Face;
use selkie_protocol::vault::LogFrames;

use crate::Plan;
use crate::figures::{Figure, Goal, median};
use crate::line::{Line, request};
use crate::machine::Machine;
use crate::pushes::{ROW, prepare};

const BATCH: usize = 50;

pub(crate) async fn measure(machine: &mut Machine, plan: &Plan, found: &mut Vec<Figure>) {
    if !plan.wants("pull") {
        return;
    }
    let author = Author::new(&machine.server.url, "reader@example.org").await;
    for (records, times) in [(10_000, 10), (100_000, 2)] {
        let records = plan.scaled(records).next_multiple_of(500);
        let mut pen = author.make_vault().await.pen(&author.first());
        let mut line = Line::to(machine.server.address).await;
        for request in prepare(&mut pen, BATCH, records / BATCH) {
            line.ask(&request).await;
        }
        let (mut costs, mut raws, mut rates, mut wire) = (Vec::new(), Vec::new(), Vec::new(), 0);
        let (mut server, mut database) = (Vec::new(), Vec::new());
        for _ in 0..plan.rounds {
            let (before, started) = (machine.used(), Instant::now());
            for _ in 0..times {
                wire = pull(&pen, &mut line, records / BATCH).await;
            }
            let read = (records * times) as f64;
            rates.push(read / started.elapsed().as_secs_f64());
            let used = machine.used().since(before, read);
            costs.push(used.sum());
            server.push(used.server);
            database.push(used.database);
            raws.push(machine.raw_read(records, times, ROW).await.cpu_us);
        }
        let figure = Figure::new(machine.name, format!("pull of {records}"), median(costs), "us CPU/rec")
            .beside(median(raws))
            .goal(Goal::at_most(2.5))
            .and("server", median(server))
            .and("database", median(database))
            .and("rec/s", median(rates))
            .and("B/rec", wire as f64 / records as f64);
        plan.report(found, figure);
    }
}

/// Everything after CREATE; returns the bytes it took.
async fn pull(pen: &Pen, line: &mut Line, entries: usize) -> usize {
    let (vault, token) = (pen.vault(), pen.scribe.tokens.access_token.as_str());
    let (mut after, mut bytes) = (1, 0);
    while after < 1 + entries {
        let request = request("GET", &format!("/v1/vaults/{vault}/log?after={after}"), token, &[]);
        let answer = line.ask(&request).await;
        bytes += answer.bytes;
        let page: LogFrames = Face::Cbor.decode(&answer.body).expect("a page");
        assert!(!page.frames.is_empty(), "an empty page after {after}");
        after += page.frames.len();
    }
    bytes
}
