//! Requests that come when they come: an open loop, in which nobody waits for an earlier answer before they ask.
//!
//! Owns the schedule, made of dice before anything is measured, and the counting of what came of it. A time runs from
//! the moment a request was due, so that whatever made it wait counts. Knows nothing about what is asked.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use selkie_e2e::dice::Dice;
use tokio::time::{Instant, sleep_until};

use crate::figures::{Figure, Latencies};

/// What an app asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Poll,
    Pull,
    Push,
    /// Nothing: what a request costs by itself.
    Empty,
}

/// A request of somebody's.
#[derive(Clone, Copy)]
pub(crate) struct Due {
    pub(crate) at: Duration,
    pub(crate) kind: Kind,
    pub(crate) who: usize,
}

/// What came of a schedule.
#[derive(Default)]
pub(crate) struct Served {
    pub(crate) took: Duration,
    pub(crate) bytes: usize,
    pub(crate) failed: usize,
    latencies: BTreeMap<Kind, Latencies>,
    /// When each was due and when it was answered, for who wants to know about a part of it.
    pub(crate) answered: Vec<(Due, Duration)>,
}

/// So many a second on average for so long, each by one of so many.
pub(crate) fn schedule(
    seed: u64,
    a_second: f64,
    lasting: Duration,
    among: usize,
    kind: impl Fn(&mut Dice) -> Kind,
) -> Vec<Due> {
    let mut dice = Dice::new(seed);
    let (mut at, mut due) = (Duration::ZERO, Vec::new());
    loop {
        // Of those who do not know of each other, the gaps are exponential.
        let chance = (dice.roll() >> 11) as f64 / (1_u64 << 53) as f64;
        at += Duration::from_secs_f64(-(1.0 - chance).ln() / a_second);
        if at >= lasting {
            return due;
        }
        let kind = kind(&mut dice);
        let who = usize::try_from(dice.below(among as u64)).expect("they are few");
        due.push(Due { at, kind, who });
    }
}

/// Has everything asked when it is due. Whoever asks says how many bytes it was, or `None` if it failed.
pub(crate) async fn keep_to<A>(schedule: &[Due], ask: impl Fn(Due) -> A) -> Served
where
    A: Future<Output = Option<usize>>,
{
    let started = Instant::now();
    let (mut under_way, mut served) = (FuturesUnordered::new(), Served::default());
    for due in schedule {
        let at = started + due.at;
        let timer = sleep_until(at);
        tokio::pin!(timer);
        loop {
            tokio::select! {
                biased;
                () = &mut timer => break,
                Some((due, bytes, took)) = under_way.next() => served.count(due, bytes, took),
            }
        }
        let asked = ask(*due);
        under_way.push(async move { (*due, asked.await, at.elapsed()) });
    }
    while let Some((due, bytes, took)) = under_way.next().await {
        served.count(due, bytes, took);
    }
    served.took = started.elapsed();
    served
}

impl Served {
    fn count(&mut self, due: Due, bytes: Option<usize>, took: Duration) {
        match bytes {
            Some(bytes) => {
                self.bytes += bytes;
                self.latencies.entry(due.kind).or_default().add(took);
                self.answered.push((due, took));
            }
            None => self.failed += 1,
        }
    }

    pub(crate) fn count_of(&self) -> usize {
        self.answered.len() + self.failed
    }

    pub(crate) fn of(&mut self, kind: Kind) -> &mut Latencies {
        self.latencies.entry(kind).or_default()
    }

    /// What everybody wants to know, beside a figure.
    pub(crate) fn beside(&self, figure: Figure) -> Figure {
        figure
            .and("req/s", self.count_of() as f64 / self.took.as_secs_f64())
            .and("B/req", self.bytes as f64 / self.answered.len() as f64)
            .and("failed", self.failed as f64)
    }
}
