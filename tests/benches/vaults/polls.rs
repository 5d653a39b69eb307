//! Asking when nothing is new, on a short log and on a long one, beside the cheapest things a server can be asked.

use std::time::Instant;

use selkie_e2e::scribe::{Author, Scribe, must};
use selkie_protocol::vault::Polled;
use selkie_protocol::{Face, bytes};

use crate::Plan;
use crate::figures::{Figure, Goal, Latencies, median};
use crate::line::{Line, request};
use crate::machine::{Machine, Used};
use crate::pushes::{MOST_CLIENTS, fill};

const CLIENTS: usize = 8;
const EACH: usize = 4000;

pub(crate) async fn measure(machine: &mut Machine, plan: &Plan, found: &mut Vec<Figure>) {
    if !plan.wants("poll") {
        return;
    }
    let mut empty = None;
    for entries in [500, 100_000] {
        let entries = if entries > 500 { plan.scaled(entries) } else { entries };
        let mut author = Author::new(&machine.server.url, &format!("poller{entries}@example.org")).await;
        // The devices that write come in first, and the first of them polls.
        let devices = author.with_devices(MOST_CLIENTS).await;
        let volume = author.make_vault().await;
        let figure = fill(machine, &devices, &volume, entries as u64).await;
        if entries > 500 {
            plan.report(found, figure);
        }
        let scribe = author.first();
        let empty = match empty {
            Some(empty) => empty,
            None => *empty.insert(cheapest(machine, plan, &scribe, found).await),
        };
        let state = must(scribe.poll(None).await).state;
        let path = format!("/v1/poll?known={}", bytes::to_base64url(&state[..]));
        let answer = Line::to(machine.server.address).await.ask(&asked(&scribe, &path)).await;
        let polled: Polled = Face::Cbor.decode(&answer.body).expect("an answer to a poll");
        assert!(polled.vaults.is_none(), "nothing has moved");
        let (what, request) = (format!("poll, nothing new, log of {entries}"), asked(&scribe, &path));
        let figure = ask_often(machine, plan, &what, &request).await;
        let figure = figure.beside(empty).goal(Goal::at_most(15.0)).and("B", answer.bytes as f64);
        plan.report(found, figure);
    }
}

/// The least a server can be asked, which a poll is held against; and the least for which it must know who asks.
async fn cheapest(machine: &Machine, plan: &Plan, scribe: &Scribe, found: &mut Vec<Figure>) -> f64 {
    let health = request("GET", "/healthz", "", &[]);
    let figure = ask_often(machine, plan, "empty request, GET /healthz", &health).await;
    let cost = figure.value;
    plan.report(found, figure);
    let request = asked(scribe, "/v1/account/sessions");
    plan.report(found, ask_often(machine, plan, "authenticated, GET /v1/account/sessions", &request).await);
    cost
}

fn asked(scribe: &Scribe, path: &str) -> Vec<u8> {
    request("GET", path, scribe.tokens.access_token.as_str(), &[])
}

async fn ask_often(machine: &Machine, plan: &Plan, what: &str, request: &[u8]) -> Figure {
    let each = plan.scaled(EACH);
    let (mut costs, mut rates, mut latencies) = (Vec::new(), Vec::new(), Latencies::default());
    let (mut server, mut database) = (Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        let (before, started) = (machine.used(), Instant::now());
        let askers: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let (request, address) = (request.to_vec(), machine.server.address);
                tokio::spawn(async move {
                    let (mut line, mut latencies) = (Line::to(address).await, Latencies::default());
                    for _ in 0..each {
                        let asked = Instant::now();
                        line.ask(&request).await;
                        latencies.add(asked.elapsed());
                    }
                    latencies
                })
            })
            .collect();
        for asker in askers {
            latencies.join(asker.await.expect("it asks"));
        }
        let asked = (CLIENTS * each) as f64;
        rates.push(asked / started.elapsed().as_secs_f64());
        let used: Used = machine.used().since(before, asked);
        costs.push(used.sum());
        server.push(used.server);
        database.push(used.database);
    }
    Figure::new(machine.name, what, median(costs), "us CPU/req")
        .and("server", median(server))
        .and("database", median(database))
        .and("req/s", median(rates))
        .and("p50 ms", latencies.percentile(50.0))
        .and("p99 ms", latencies.percentile(99.0))
}
