//! From a push on one device until another knows of it, and what a stream costs that waits for that.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use selkie_e2e::scribe::{Author, Pen, Scribe, must};
use selkie_protocol::Face;
use selkie_protocol::bytes;
use selkie_protocol::vault::{Polled, VaultMoved};
use tokio::time::timeout;

use crate::Plan;
use crate::figures::{Figure, Goal, Latencies};
use crate::line::{Line, request};
use crate::machine::Machine;
use crate::pushes::{changes, push_request};

const PUSHES: usize = 400;
const STREAMS: usize = 1000;
const LOST: Duration = Duration::from_secs(1);

pub(crate) async fn measure(machine: &Machine, plan: &Plan, found: &mut Vec<Figure>) {
    if plan.wants("seen") {
        let mut author = Author::new(&machine.server.url, "watched@example.org").await;
        let other = author.bring_in().await;
        let mut pen = author.make_vault().await.pen(&author.first());
        let here = machine.server.address;
        let mut told = until_told(machine, plan, &mut pen, &other, here).await;
        report(machine, plan, found, "push until seen by an event", &mut told, 3.0);
        let mut polled = until_polled(machine, plan, &mut pen, &other, here).await;
        report(machine, plan, found, "push until seen by a poll after it", &mut polled, 3.0);
        if let Some(another) = machine.another() {
            let mut told = until_told(machine, plan, &mut pen, &other, another.address).await;
            report(machine, plan, found, "push until seen by an event of another server", &mut told, 20.0);
            let mut polled = until_polled(machine, plan, &mut pen, &other, another.address).await;
            report(machine, plan, found, "push until seen by a poll of another server", &mut polled, 20.0);
        }
    }
    if plan.wants("streams") {
        let author = Author::new(&machine.server.url, "listener@example.org").await;
        author.make_vault().await;
        let before = machine.server.pss_mib();
        let streams = plan.scaled(STREAMS);
        let mut open = Vec::new();
        for _ in 0..streams {
            open.push(listen(machine.server.address, &author.first()).await);
        }
        let each = (machine.server.pss_mib() - before) * 1024.0 / streams as f64;
        let figure = Figure::new(machine.name, format!("memory of a stream, {streams} open"), each, "KiB PSS");
        plan.report(found, figure.goal(Goal::at_most(12.0)));
    }
}

fn report(machine: &Machine, plan: &Plan, found: &mut Vec<Figure>, what: &str, latencies: &mut Latencies, most: f64) {
    let figure = Figure::new(machine.name, format!("{what}, median"), latencies.percentile(50.0), "ms");
    let figure = figure.and("p95 ms", latencies.percentile(95.0)).and("p99 ms", latencies.percentile(99.0));
    plan.report(found, figure.goal(Goal::at_most(most)));
}

async fn listen(address: SocketAddr, scribe: &Scribe) -> Line {
    listen_as(address, scribe.tokens.access_token.as_str()).await
}

pub(crate) async fn listen_as(address: SocketAddr, token: &str) -> Line {
    let mut line = Line::to(address).await;
    let request = request("GET", "/v1/events", token, &[]);
    let request = String::from_utf8(request).expect("a head is text").replace("application/cbor", "*/*");
    line.open(request.as_bytes()).await;
    line
}

/// One at a time, so that nothing waits for anything but this.
async fn until_told(machine: &Machine, plan: &Plan, pen: &mut Pen, other: &Scribe, there: SocketAddr) -> Latencies {
    let mut stream = listen(there, other).await;
    let mut line = Line::to(machine.server.address).await;
    let mut latencies = Latencies::default();
    let mut heard = String::new();
    for _ in 0..plan.scaled(PUSHES) {
        let written = pen.write(&changes(1));
        let request = push_request(pen, &written);
        pen.wrote_alone(&written);
        let n = pen.seen().n;
        let asked = Instant::now();
        let told = async {
            while !moved(&heard).any(|moved| moved.vid == pen.vault() && moved.n >= n) {
                heard += &String::from_utf8_lossy(stream.more().await);
            }
            asked.elapsed()
        };
        // A hint may be lost: between servers it is while the line between them comes up.
        let (took, _) = tokio::join!(timeout(LOST, told), line.ask(&request));
        if let Ok(took) = took {
            latencies.add(took);
        }
        heard.clear();
    }
    latencies
}

/// What was said in whole lines.
fn moved(heard: &str) -> impl Iterator<Item = VaultMoved> {
    let lines = heard.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    lines.filter_map(|line| Face::Json.decode(line.strip_prefix("data:")?.trim().as_bytes()).ok())
}

/// A device that asks as soon as the other has its answer.
async fn until_polled(machine: &Machine, plan: &Plan, pen: &mut Pen, other: &Scribe, there: SocketAddr) -> Latencies {
    let (mut pushing, mut polling) = (Line::to(machine.server.address).await, Line::to(there).await);
    let mut latencies = Latencies::default();
    let mut state = must(other.poll(None).await).state;
    for _ in 0..plan.scaled(PUSHES) {
        let written = pen.write(&changes(1));
        let push = push_request(pen, &written);
        pen.wrote_alone(&written);
        let path = format!("/v1/poll?known={}", bytes::to_base64url(&state[..]));
        let poll = request("GET", &path, other.tokens.access_token.as_str(), &[]);
        let asked = Instant::now();
        pushing.ask(&push).await;
        let answer = polling.ask(&poll).await;
        latencies.add(asked.elapsed());
        let polled: Polled = Face::Cbor.decode(&answer.body).expect("an answer to a poll");
        let vaults = polled.vaults.expect("something has moved");
        assert!(vaults.iter().any(|vault| vault.vid == pen.vault() && vault.n == pen.seen().n), "it is not seen");
        state = polled.state;
    }
    latencies
}
