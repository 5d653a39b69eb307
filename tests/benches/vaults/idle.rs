//! Devices with nothing to do: a stream each, on which they would be told, and a poll a minute to be sure.

use std::time::Duration;

use tokio::time::timeout;

use crate::Plan;
use crate::arrivals::{Kind, keep_to, schedule};
use crate::crowd::Crowd;
use crate::figures::{Figure, Goal};
use crate::line::{Line, Lines};
use crate::machine::Machine;
use crate::streams::listen_as;

pub(crate) const FEW: usize = 1_000;
pub(crate) const MANY: usize = 10_000;
/// As long as the server waits between two beats on a stream, and twice that.
const QUIET: Duration = Duration::from_secs(30);
const POLLING: Duration = Duration::from_secs(60);
const MINUTE: f64 = 60.0;
const SEED: u64 = 3;

pub(crate) fn name(plan: &Plan, devices: usize) -> String {
    format!("idle, {} devices", plan.scaled(devices))
}

pub(crate) async fn measure(machine: &Machine, plan: &Plan, found: &mut Vec<Figure>, crowd: &Crowd) {
    for devices in [FEW, MANY] {
        let what = name(plan, devices);
        if plan.wants(&what) {
            idle(machine, plan, found, crowd, plan.scaled(devices), &what).await;
        }
    }
}

async fn idle(machine: &Machine, plan: &Plan, found: &mut Vec<Figure>, crowd: &Crowd, devices: usize, what: &str) {
    let memory = machine.server.pss_mib();
    let mut streams = Vec::new();
    for device in &crowd.devices[..devices] {
        streams.push(listen_as(machine.server.address, &device.token).await);
    }
    let each = (machine.server.pss_mib() - memory) * 1024.0 / devices as f64;
    let figure = Figure::new(machine.name, format!("{what}, memory of a stream"), each, "KiB PSS");
    let figure = figure.goal(Goal::at_most(12.0)).and("server MiB", machine.server.pss_mib());
    plan.report(found, figure.and("database MiB", machine.database_mib()));

    let before = machine.used();
    tokio::time::sleep(QUIET).await;
    let used = machine.used().percent_since(before, QUIET);
    let figure = Figure::new(machine.name, format!("{what}, streams alone"), used.sum(), "% of a core");
    plan.report(found, figure.and("server", used.server).and("database", used.database));

    let schedule = schedule(SEED, devices as f64 / MINUTE, POLLING, devices, |_| Kind::Poll);
    let lines = Lines::new_each(machine.server.address);
    let before = machine.used();
    let mut served = keep_to(&schedule, |due| crowd.ask(&lines, due.kind, due.who)).await;
    let used = machine.used().percent_since(before, served.took);
    served.failed += deaf(&mut streams).await;
    let figure = Figure::new(machine.name, format!("{what}, and a poll a minute each"), used.sum(), "% of a core")
        .and("server", used.server)
        .and("database", used.database)
        .and("server MiB", machine.server.pss_mib())
        .and("database MiB", machine.database_mib());
    plan.report(found, served.beside(figure).spread(served.of(Kind::Poll)));
}

/// How many of these streams did not live to the end.
async fn deaf(streams: &mut [Line]) -> usize {
    let mut deaf = 0;
    for stream in streams {
        // By now there were a first hint and a beat or two.
        let heard = timeout(Duration::from_secs(1), stream.more()).await;
        deaf += usize::from(!heard.is_ok_and(|heard| heard.ends_with(b":\n\n\r\n")));
    }
    deaf
}
