//! Ten thousand devices that each ask once a minute, mostly whether anything is new.
//!
//! Beside it, on the same schedule, a request that asks for nothing: what arriving costs.

use std::time::Duration;

use selkie_e2e::dice::Dice;

use crate::Plan;
use crate::arrivals::{Due, Kind, Served, keep_to, schedule};
use crate::crowd::Crowd;
use crate::figures::{Figure, Goal};
use crate::line::Lines;
use crate::machine::{Machine, Used};

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_secs(30);
const MINUTE: f64 = 60.0;
const SEED: u64 = 1;

pub(crate) fn is_wanted(plan: &Plan) -> bool {
    plan.wants("mix")
}

pub(crate) async fn measure(machine: &Machine, plan: &Plan, found: &mut Vec<Figure>, crowd: &mut Crowd) {
    if !is_wanted(plan) {
        return;
    }
    let devices = crowd.devices.len();
    let a_second = devices as f64 / MINUTE;
    let schedules = [
        of_everything(crowd, SEED, a_second, LONG),
        of_everything(crowd, SEED + 1, a_second, SHORT),
        schedule(SEED, a_second, SHORT, devices, |_| Kind::Empty),
    ];
    let [each_new, kept, nothing] = &schedules;
    let new_lines = Lines::new_each(machine.server.address);
    let (_, empty) = run(machine, crowd, &new_lines, nothing).await;
    let (mut served, used) = run(machine, crowd, &new_lines, each_new).await;
    let what = format!("mix of {devices} devices, a line each");
    let figure = report(machine, &served, used, &what);
    plan.report(found, figure.beside(empty.sum()).goal(Goal::at_most(5.0)));
    for (kind, name) in [(Kind::Poll, "poll"), (Kind::Pull, "pull"), (Kind::Push, "push")] {
        let latencies = served.of(kind);
        let figure = Figure::new(machine.name, format!("mix, p99 of a {name}"), latencies.percentile(99.0), "ms");
        plan.report(found, figure.spread(latencies));
    }
    let (served, used) = run(machine, crowd, &Lines::kept(machine.server.address), kept).await;
    let what = format!("mix of {devices} devices, lines kept");
    plan.report(found, report(machine, &served, used, &what).goal(Goal::at_most(5.0)));
}

/// The mix of a real server: 95 % polls, 4 % pulls, 1 % pushes, which are made ready.
pub(crate) fn of_everything(crowd: &mut Crowd, seed: u64, a_second: f64, lasting: Duration) -> Vec<Due> {
    let kind = |dice: &mut Dice| match dice.below(100) {
        0 => Kind::Push,
        1..=4 => Kind::Pull,
        _ => Kind::Poll,
    };
    let schedule = schedule(seed, a_second, lasting, crowd.devices.len(), kind);
    crowd.make_ready(&schedule);
    schedule
}

/// What came of it, and how much of a core that took.
async fn run(machine: &Machine, crowd: &Crowd, lines: &Lines, schedule: &[Due]) -> (Served, Used) {
    let before = machine.used();
    let served = keep_to(schedule, |due| crowd.ask(lines, due.kind, due.who)).await;
    let used = machine.used().percent_since(before, served.took);
    (served, used)
}

fn report(machine: &Machine, served: &Served, used: Used, what: &str) -> Figure {
    let figure = Figure::new(machine.name, what, used.sum(), "% of a core")
        .and("server", used.server)
        .and("database", used.database)
        .and("us CPU/req", used.sum() * 1e4 * served.took.as_secs_f64() / served.count_of() as f64)
        .and("server MiB", machine.server.pss_mib())
        .and("database MiB", machine.database_mib());
    served.beside(figure)
}
