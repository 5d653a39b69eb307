//! How long a push takes when half as many come as can be taken, each when it comes.
//!
//! The most is what people do who push again as soon as they are answered; the half comes by a schedule, and a push
//! that has to wait, for its own vault's earlier one as well, waits on the clock.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::Mutex;

use crate::Plan;
use crate::arrivals::{Kind, keep_to, schedule};
use crate::figures::{Figure, Goal, median};
use crate::line::Line;
use crate::machine::Machine;
use crate::pushes::{Desks, MOST_CLIENTS, ROW, prepare, run};
use crate::raw::Load;

/// Records in an entry, and entries of each person when the most is found out.
const CELLS: [(usize, usize); 2] = [(1, 300), (50, 63)];
const LASTING: Duration = Duration::from_secs(10);
const SEED: u64 = 5;

/// Somebody at their vault: what they push next, in its order, on the line they keep.
struct Writer {
    line: Line,
    ready: VecDeque<Vec<u8>>,
}

pub(crate) async fn measure(machine: &mut Machine, plan: &Plan, found: &mut Vec<Figure>) {
    let name = |batch: usize| format!("push of {batch} at half of the most");
    if !CELLS.iter().any(|(batch, _)| plan.wants(&name(*batch))) {
        return;
    }
    let mut desks = Desks::open(machine, "steady", MOST_CLIENTS).await;
    for (batch, each) in CELLS.into_iter().filter(|(batch, _)| plan.wants(&name(*batch))) {
        let each = plan.scaled(each);
        let (mut rates, mut raws) = (Vec::new(), Vec::new());
        for _ in 0..plan.rounds {
            rates.push(run(machine, &mut desks.pens, batch, each).await.rate / batch as f64);
            let load = Load { clients: MOST_CLIENTS, batch, batches_each: each, row: ROW };
            raws.push(machine.raw_push(load).await.rate / batch as f64);
        }
        let most = median(rates);
        let lasting = if plan.rounds == 1 { LASTING / 10 } else { LASTING };
        let schedule = schedule(SEED, most / 2.0, lasting, MOST_CLIENTS, |_| Kind::Push);
        let mut writers = Vec::new();
        for (number, pen) in desks.pens.iter_mut().enumerate() {
            let pushes = schedule.iter().filter(|due| due.who == number).count();
            let ready = prepare(pen, batch, pushes).into();
            writers.push(Mutex::new(Writer { line: Line::to(machine.server.address).await, ready }));
        }
        let before = machine.used();
        let mut served = keep_to(&schedule, |due| push(&writers[due.who])).await;
        let used = machine.used().percent_since(before, served.took);
        let p99 = served.of(Kind::Push).percentile(99.0);
        let figure = Figure::new(machine.name, format!("p99 of a {}", name(batch)), p99, "ms")
            .goal(Goal::at_most(50.0))
            .and("most, push/s", most)
            .and("raw push/s", median(raws))
            .and("server, % of a core", used.server)
            .and("database, % of a core", used.database)
            .and("server MiB", machine.server.pss_mib())
            .and("database MiB", machine.database_mib());
        let figure = served.beside(figure).spread(served.of(Kind::Push));
        plan.report(found, figure);
    }
}

async fn push(writer: &Mutex<Writer>) -> Option<usize> {
    let mut writer = writer.lock().await;
    let request = writer.ready.pop_front().expect("as many are made ready as are pushed");
    let answer = writer.line.try_ask(&request).await.ok()?;
    (answer.status == 200).then_some(request.len() + answer.bytes)
}
