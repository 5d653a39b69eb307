//! When to come into step, without being asked each time.
//!
//! Owns the waits between rounds: what calls for one, what holds it back, how often a server that is not there is
//! tried. Pure: facts and times come in, and out comes what to do now. Who does it is in `account::background`.

use super::backoff::Backoff;
use crate::error::Error;
use selkie_protocol::id::VaultId;
use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// Between the end of a round and the next one, whatever calls for it: a server that hints without end gets no more.
const BREATH: Duration = Duration::from_millis(250);
/// How long the server is left alone after a round that was in vain, if the network seems to be back.
const AFTER_VAIN: Duration = Duration::from_secs(5);
/// And if only something was written.
const WRITES_AFTER_VAIN: Duration = Duration::from_secs(30);
/// Longer than this no server is believed that asks for a rest.
const LONGEST_REST: Duration = Duration::from_secs(3600);
/// What does not fit into a round's own waits.
const LONG_REST: Duration = Duration::from_secs(30);
/// How often an app's conditions are asked for while they hold a round back.
const ASK_CONDITIONS: Duration = Duration::from_secs(60);

/// When [`Account::sync_in_background`](crate::Account::sync_in_background) begins a round. Whatever it says, a round
/// begins at once on the server's hint, when the network comes back, and when the app asks for it. One that is in vain
/// is tried five times in all, after waits that double from a second to half a minute, each cut at a random place;
/// after that it waits for the next.
///
/// ```
/// # use selkie_client::Schedule;
/// # use std::time::Duration;
/// let lazy = Schedule { every: Some(Duration::from_secs(3600)), ..Schedule::default() };
/// ```
#[derive(Clone, Debug)]
pub struct Schedule {
    /// How often, if nothing else calls for a round: every five minutes. With `None`, only when something does.
    pub every: Option<Duration>,
    /// How long after the last write: two seconds. Writes are on the disk by then, too.
    pub after_write: Duration,
    /// But never so long after the first one that waits: ten seconds.
    pub after_first_write: Duration,
    /// What must hold for a round to begin by itself.
    pub conditions: Arc<dyn Conditions>,
}

impl Default for Schedule {
    fn default() -> Self {
        Schedule {
            every: Some(Duration::from_secs(300)),
            after_write: Duration::from_secs(2),
            after_first_write: Duration::from_secs(10),
            conditions: Arc::new(Always),
        }
    }
}

/// What an app knows of its surroundings: a metered network, a battery that is low. While they do not allow it, nothing
/// is sent or asked by itself, and no line to the server is held; what is written waits. For an app that switches by
/// hand there is [`Switch`](crate::Switch).
pub trait Conditions: Send + Sync + Debug {
    /// Whether rounds may begin now.
    fn may_sync(&self) -> bool;

    /// Ends when [`Conditions::may_sync`] may have another answer than when this was called. An app that cannot tell is
    /// asked once a minute.
    fn changed(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(std::future::pending())
    }
}

/// Nothing holds back.
#[derive(Debug)]
struct Always;

impl Conditions for Always {
    fn may_sync(&self) -> bool {
        true
    }
}

/// What a round is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    All,
    Vault(VaultId),
}

impl Scope {
    fn and(self, other: Scope) -> Scope {
        if self == other { self } else { Scope::All }
    }
}

/// What happened.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fact<'a> {
    /// This device wrote something.
    Wrote,
    /// The server says that something may be new.
    Hint(Scope),
    /// The server, or the network, is there again.
    Reconnected,
    /// The app wants a round now.
    Asked,
    /// Whether the conditions allow it.
    May(bool),
    /// What had stopped everything was seen to.
    Resumed,
    /// The round that ran is over. The number is any, each as likely as the others.
    Ended(Result<(), &'a Error>, u32),
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Round(Scope),
    /// What was written must reach the disk.
    Flush,
    /// Nothing, for so long or until something happens.
    Wait(Duration),
    /// Nothing, until something happens.
    Rest,
}

/// Writes that no round has carried.
#[derive(Clone, Copy, Debug)]
struct Writes {
    first: Duration,
    last: Duration,
}

#[derive(Debug)]
pub(crate) struct Scheduler {
    schedule: Schedule,
    /// What the clock said last, and how much time has passed in all. A clock that is set back stands still for us.
    clock_ms: Option<u64>,
    now: Duration,
    may: bool,
    running: bool,
    /// When the last round ended, and whether it was in vain.
    ended: Option<Duration>,
    in_vain: bool,
    /// Nothing goes on by itself until somebody has seen to it.
    stopped: bool,
    backoff: Backoff,
    retry: Option<Duration>,
    rest_until: Duration,
    next: Option<Duration>,
    writes: Option<Writes>,
    /// Those that the round which runs may carry.
    carried: Option<Writes>,
    unflushed: Option<Duration>,
    called: Option<Scope>,
    asked: bool,
}

impl Scheduler {
    /// Its first round is due at once.
    pub(crate) fn new(schedule: Schedule) -> Self {
        Scheduler {
            next: schedule.every,
            schedule,
            clock_ms: None,
            now: Duration::ZERO,
            may: true,
            running: false,
            ended: None,
            in_vain: false,
            stopped: false,
            backoff: Backoff::of_a_round(),
            retry: None,
            rest_until: Duration::ZERO,
            writes: None,
            carried: None,
            unflushed: None,
            called: Some(Scope::All),
            asked: false,
        }
    }

    pub(crate) fn tell(&mut self, now_ms: u64, fact: Fact<'_>) {
        self.turn(now_ms);
        match fact {
            Fact::Wrote => {
                self.unflushed.get_or_insert(self.now);
                let first = self.writes.map_or(self.now, |writes| writes.first);
                self.writes = Some(Writes { first, last: self.now });
            }
            Fact::Hint(scope) => self.call(scope),
            Fact::Reconnected => self.call(Scope::All),
            Fact::Asked => self.asked = true,
            Fact::May(may) => {
                if may && !self.may {
                    self.call(Scope::All);
                }
                self.may = may;
            }
            Fact::Resumed => {
                self.stopped = false;
                self.call(Scope::All);
            }
            Fact::Ended(how, roll) => self.round_ended(how, roll),
        }
    }

    /// What to do. A round counts as begun when this has named it.
    pub(crate) fn next(&mut self, now_ms: u64) -> Action {
        self.turn(now_ms);
        let flush = self.unflushed.map(|first| first.saturating_add(self.schedule.after_write));
        if flush.is_some_and(|due| due <= self.now) {
            self.unflushed = None;
            return Action::Flush;
        }
        let due = if self.running { None } else { self.due() };
        if due.is_some_and(|due| due <= self.now) {
            return Action::Round(self.begin());
        }
        let held_back = !self.may && !self.stopped && !self.running;
        let ask_again = held_back.then(|| self.now + ASK_CONDITIONS);
        match [flush, due, ask_again].into_iter().flatten().min() {
            Some(then) => Action::Wait(then - self.now),
            None => Action::Rest,
        }
    }

    /// How long until the next round, as things stand.
    pub(crate) fn next_round(&self) -> Option<Duration> {
        self.due().map(|due| due.saturating_sub(self.now))
    }

    /// Whether nothing goes on by itself any more.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped
    }

    fn turn(&mut self, now_ms: u64) {
        let passed = now_ms.saturating_sub(self.clock_ms.unwrap_or(now_ms));
        self.now = self.now.saturating_add(Duration::from_millis(passed));
        self.clock_ms = Some(now_ms);
    }

    fn call(&mut self, scope: Scope) {
        self.called = Some(self.called.map_or(scope, |called| called.and(scope)));
    }

    /// When the next round is due.
    fn due(&self) -> Option<Duration> {
        if self.asked {
            return Some(self.now);
        }
        if !self.may || self.stopped {
            return None;
        }
        let after = |pause| self.ended.map_or(Duration::ZERO, |ended| ended + pause);
        let (call_pause, write_pause) = if self.in_vain { (AFTER_VAIN, WRITES_AFTER_VAIN) } else { (BREATH, BREATH) };
        let Schedule { after_write, after_first_write, .. } = self.schedule;
        let quiet = |Writes { first, last }| {
            Duration::min(last.saturating_add(after_write), first.saturating_add(after_first_write))
        };
        let written = self.writes.map(|writes| quiet(writes).max(after(write_pause)));
        let called = self.called.map(|_| after(call_pause));
        let next = self.next.map(|next| next.max(after(BREATH)));
        let due = [written, called, next, self.retry].into_iter().flatten().min();
        due.map(|due| due.max(self.rest_until))
    }

    fn begin(&mut self) -> Scope {
        // A regular round has five tries; whatever else calls for one while the server is away has no more than are
        // left.
        let regular = self.next.is_some_and(|next| next <= self.now);
        if regular {
            self.backoff = Backoff::of_a_round();
        }
        let only_called = self.writes.is_none() && !self.in_vain && !self.asked && !regular;
        let called = self.called.take().filter(|_| only_called);
        self.carried = self.writes.take();
        (self.running, self.asked, self.retry) = (true, false, None);
        called.unwrap_or(Scope::All)
    }

    fn round_ended(&mut self, how: Result<(), &Error>, roll: u32) {
        self.running = false;
        self.ended = Some(self.now);
        self.next = self.schedule.every.map(|every| self.now.saturating_add(every));
        let carried = self.carried.take();
        let Err(error) = how else {
            self.backoff.came_further();
            (self.in_vain, self.stopped, self.rest_until) = (false, false, Duration::ZERO);
            return;
        };
        // What it was to carry waits on.
        if let Some(carried) = carried {
            let last = self.writes.map_or(carried.last, |writes| writes.last);
            self.writes = Some(Writes { first: carried.first, last });
        }
        self.in_vain = true;
        self.stopped |= matches!(error, Error::SignInAgain { .. } | Error::ServerMisbehaved { .. });
        let rest = match error {
            Error::RetryLater { after: Some(after), .. } => (*after).min(LONGEST_REST),
            _ => Duration::ZERO,
        };
        // Not all come at the moment it named.
        let rest = rest + rest.mul_f64(0.1 * f64::from(roll) / f64::from(u32::MAX));
        self.rest_until = self.now + rest;
        let wait = if rest > LONG_REST { Some(rest) } else { self.backoff.after(error, roll) };
        self.retry = wait.map(|wait| self.now + wait);
    }
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
