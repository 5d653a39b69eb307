//! What was found: figures, each beside its goal and beside what the machine can do.
//!
//! Owns the table and the JSON. Knows nothing about how anything was measured.

#![allow(clippy::print_stdout, reason = "a bench tells what it found")]

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

/// One finding.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figure {
    pub(crate) backend: &'static str,
    pub(crate) what: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    /// The same bytes without a server, in the same unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) raw: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) goal: Option<Goal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) met: Option<bool>,
    /// Whatever else was seen.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) more: BTreeMap<&'static str, f64>,
}

/// What performance is to be, at most this many units or at least this share of the raw limit; or both.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Goal {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) at_most: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) share_of_raw: Option<f64>,
}

impl Goal {
    pub(crate) fn at_most(value: f64) -> Goal {
        Goal { at_most: Some(value), share_of_raw: None }
    }

    pub(crate) fn and_share(self, share: f64) -> Goal {
        Goal { share_of_raw: Some(share), ..self }
    }
}

impl Figure {
    pub(crate) fn new(backend: &'static str, what: impl Into<String>, value: f64, unit: &'static str) -> Figure {
        Figure { backend, what: what.into(), value, unit, raw: None, goal: None, met: None, more: BTreeMap::new() }
    }

    pub(crate) fn beside(mut self, raw: f64) -> Figure {
        self.raw = Some(raw);
        self.judged()
    }

    pub(crate) fn goal(mut self, goal: Goal) -> Figure {
        self.goal = Some(goal);
        self.judged()
    }

    pub(crate) fn and(mut self, what: &'static str, value: f64) -> Figure {
        self.more.insert(what, value);
        self
    }

    /// How long single operations took, in milliseconds, and how many there were.
    pub(crate) fn spread(self, latencies: &mut Latencies) -> Figure {
        self.and("p50 ms", latencies.percentile(50.0))
            .and("p95 ms", latencies.percentile(95.0))
            .and("p99 ms", latencies.percentile(99.0))
            .and("max ms", latencies.percentile(100.0))
            .and("n", latencies.0.len() as f64)
    }

    /// How many requests were not answered as they have to be.
    pub(crate) fn failed(&self) -> f64 {
        self.more.get("failed").copied().unwrap_or_default()
    }

    fn judged(mut self) -> Figure {
        let share = self.share();
        self.met = self.goal.map(|goal| {
            goal.at_most.is_none_or(|most| self.value <= most)
                && goal.share_of_raw.is_none_or(|least| share.is_none_or(|share| share >= least))
        });
        self
    }

    /// How much of what it costs is the raw limit.
    fn share(&self) -> Option<f64> {
        self.raw.map(|raw| raw / self.value)
    }

    /// One line of the table.
    pub(crate) fn print(&self) {
        let goal = self.goal.map_or_else(String::new, |goal| {
            let most = goal.at_most.map(|most| format!("<= {}", shown(most)));
            let share = goal.share_of_raw.map(|share| format!(">= {:.0} %", share * 100.0));
            let met = if self.met == Some(true) { "" } else { "  MISSED" };
            format!("{}{met}", most.into_iter().chain(share).collect::<Vec<_>>().join(", "))
        });
        let raw = self.raw.map_or_else(String::new, shown);
        let share = self.share().map_or_else(String::new, |share| format!("{:.0} %", share * 100.0));
        let more = self.more.iter().map(|(what, value)| format!("{what} {}", shown(*value))).collect::<Vec<_>>();
        println!(
            "{:<9} {:<46} {:>9} {:<12} {:>8} {:>6}  {:<24} {}",
            self.backend,
            self.what,
            shown(self.value),
            self.unit,
            raw,
            share,
            goal,
            more.join(", ")
        );
    }
}

pub(crate) fn print_header() {
    println!(
        "{:<9} {:<46} {:>9} {:<12} {:>8} {:>6}  {:<24} more",
        "backend", "what", "value", "unit", "raw", "share", "goal"
    );
}

fn shown(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        ..10.0 => format!("{value:.2}"),
        ..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// How long single operations took: all of them, so that a percentile is exact.
#[derive(Default)]
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    pub(crate) fn add(&mut self, took: Duration) {
        self.0.push(took);
    }

    pub(crate) fn join(&mut self, other: Latencies) {
        self.0.extend(other.0);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In milliseconds.
    pub(crate) fn percentile(&mut self, percent: f64) -> f64 {
        self.0.sort_unstable();
        let last = self.0.len().checked_sub(1).expect("something was measured");
        self.0[(last as f64 * percent / 100.0).round() as usize].as_secs_f64() * 1e3
    }
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
