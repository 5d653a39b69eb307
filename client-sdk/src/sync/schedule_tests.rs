//! The schedule against a world that does what it likes: days of it in a moment, since nobody really waits.

use super::*;
use crate::Misbehaviour;
use crate::error::SignInReason;
use crate::transport::TransportError;
use proptest::prelude::*;

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;

/// A device with a clock that is moved by hand, and a server that answers or not.
struct World {
    scheduler: Scheduler,
    now_ms: u64,
    answers: fn() -> Result<(), Error>,
    /// How long a round takes.
    takes_ms: u64,
    roll: u32,
    /// When each round began, and what it was about.
    rounds: Vec<(u64, Scope)>,
    ends_ms: Option<u64>,
    flushes: Vec<u64>,
}

fn well() -> Result<(), Error> {
    Ok(())
}

fn dead() -> Result<(), Error> {
    Err(Error::Offline(TransportError::TimedOut))
}

fn busy() -> Result<(), Error> {
    Err(Error::RetryLater { after: Some(Duration::from_secs(120)), why: String::new() })
}

impl World {
    fn new(schedule: Schedule, answers: fn() -> Result<(), Error>) -> Self {
        let scheduler = Scheduler::new(schedule);
        let (rounds, flushes) = (Vec::new(), Vec::new());
        let (now_ms, takes_ms, roll) = (1_800_000_000_000, 100, u32::MAX);
        World { scheduler, now_ms, answers, takes_ms, roll, rounds, ends_ms: None, flushes }
    }

    /// As it is right after the first round went well.
    fn in_step() -> Self {
        let mut world = World::new(Schedule::default(), well);
        world.pass(SECOND);
        assert_eq!(world.rounds.len(), 1, "the first is due at once");
        world.rounds.clear();
        world
    }

    fn tell(&mut self, fact: Fact<'_>) {
        self.scheduler.tell(self.now_ms, fact);
        self.pass(0);
    }

    /// Lets time pass, and whatever is due happen.
    fn pass(&mut self, ms: u64) {
        let until = self.now_ms + ms;
        loop {
            let wait = match self.scheduler.next(self.now_ms) {
                Action::Round(scope) => {
                    assert_eq!(self.ends_ms, None, "a round began while another one ran");
                    self.rounds.push((self.now_ms, scope));
                    self.ends_ms = Some(self.now_ms + self.takes_ms);
                    continue;
                }
                Action::Flush => {
                    self.flushes.push(self.now_ms);
                    continue;
                }
                Action::Wait(wait) => u64::try_from(wait.as_millis()).unwrap() + 1,
                Action::Rest => u64::MAX / 2,
            };
            let then = (self.now_ms + wait).min(self.ends_ms.unwrap_or(u64::MAX));
            if then > until {
                self.now_ms = until;
                return;
            }
            self.now_ms = then;
            if self.ends_ms == Some(then) {
                self.ends_ms = None;
                let how = (self.answers)();
                self.scheduler.tell(then, Fact::Ended(how.as_ref().copied(), self.roll));
            }
        }
    }

    /// When rounds began, in whole seconds from a moment on.
    fn since(&self, from_ms: u64) -> Vec<u64> {
        self.rounds.iter().map(|(at, _)| (at - from_ms) / SECOND).collect()
    }
}

#[test]
fn it_looks_every_five_minutes_if_nothing_happens() {
    let mut world = World::in_step();
    let from = world.now_ms;
    world.pass(16 * MINUTE);
    assert_eq!(world.since(from), [299, 599, 899]);
    let mut only_when_called = World::new(Schedule { every: None, ..Schedule::default() }, well);
    only_when_called.pass(24 * 60 * MINUTE);
    assert_eq!(only_when_called.rounds.len(), 1);
}

#[test]
fn a_write_goes_out_when_the_pen_has_rested_for_two_seconds_and_after_ten_in_any_case() {
    let mut world = World::in_step();
    let from = world.now_ms;
    world.tell(Fact::Wrote);
    world.pass(30 * SECOND);
    assert_eq!(world.since(from), [2]);
    world.rounds.clear();
    let from = world.now_ms;
    for _ in 0..20 {
        world.tell(Fact::Wrote);
        world.pass(SECOND);
    }
    world.pass(MINUTE);
    assert_eq!(world.since(from), [10, 21]);
    assert!(world.rounds.iter().all(|(_, scope)| *scope == Scope::All));
}

#[test]
fn what_was_written_is_on_the_disk_within_the_debounce_whatever_else_there_is() {
    let mut world = World::new(Schedule::default(), dead);
    world.tell(Fact::May(false));
    let from = world.now_ms;
    world.tell(Fact::Wrote);
    world.pass(1_900);
    world.tell(Fact::Wrote);
    world.pass(MINUTE);
    assert_eq!(world.flushes.iter().map(|at| (at - from) / SECOND).collect::<Vec<_>>(), [2]);
}

#[test]
fn a_hint_is_followed_at_once_and_only_where_it_leads() {
    let mut world = World::in_step();
    let (here, there) = (VaultId([1; 32]), VaultId([2; 32]));
    let from = world.now_ms;
    world.tell(Fact::Hint(Scope::Vault(here)));
    assert_eq!(world.rounds, [(from, Scope::Vault(here))]);
    // Two more while that one runs: both are seen to, together.
    world.tell(Fact::Hint(Scope::Vault(here)));
    world.tell(Fact::Hint(Scope::Vault(there)));
    world.pass(SECOND);
    assert_eq!(world.rounds.len(), 2);
    assert_eq!(world.rounds[1].1, Scope::All);
    // Something was written, too: a round of that vault alone would not carry it.
    world.tell(Fact::Wrote);
    world.tell(Fact::Hint(Scope::Vault(here)));
    assert_eq!(world.rounds[2].1, Scope::All);
}

#[test]
fn a_server_that_is_not_there_is_tried_five_times_and_then_waited_for() {
    let mut world = World::new(Schedule::default(), dead);
    let from = world.now_ms;
    world.pass(10 * MINUTE);
    assert_eq!(world.since(from), [0, 1, 3, 7, 15, 315, 316, 318, 322, 330]);
    world.pass(0);
    assert_eq!(world.scheduler.next_round().map(|wait| wait.as_secs()), Some(31));
}

#[test]
fn when_the_network_is_back_nobody_waits_for_the_next_round() {
    let mut world = World::new(Schedule::default(), dead);
    world.pass(MINUTE);
    world.rounds.clear();
    world.answers = well;
    let from = world.now_ms;
    world.tell(Fact::Reconnected);
    assert_eq!(world.rounds, [(from, Scope::All)]);
    // A line that comes and goes is another matter.
    world.answers = dead;
    world.pass(SECOND);
    world.tell(Fact::Reconnected);
    world.rounds.clear();
    let from = world.now_ms;
    for _ in 0..600 {
        world.tell(Fact::Reconnected);
        world.pass(100);
    }
    assert!(world.since(from).len() <= 18, "{:?}", world.since(from));
}

#[test]
fn a_server_that_asks_for_a_rest_has_it_unless_the_person_insists() {
    let mut world = World::new(Schedule::default(), busy);
    let from = world.now_ms;
    world.tell(Fact::Wrote);
    world.pass(100);
    world.tell(Fact::Reconnected);
    world.pass(119 * SECOND);
    assert_eq!(world.since(from), [0]);
    world.answers = well;
    world.pass(MINUTE);
    assert_eq!(world.since(from), [0, 132], "when it said, and a tenth later at most");
    world.answers = busy;
    world.tell(Fact::Asked);
    world.pass(SECOND);
    world.tell(Fact::Asked);
    assert_eq!(world.rounds.len(), 4);
}

#[test]
fn after_the_end_of_a_session_nothing_is_asked_until_somebody_says_so() {
    let ends: [fn() -> Result<(), Error>; 2] =
        [|| Err(Error::sign_in_again(SignInReason::DeviceRevoked)), || Err(Error::misbehaved(Misbehaviour::Fork))];
    for end in ends {
        let mut world = World::new(Schedule::default(), end);
        world.pass(SECOND);
        assert!(world.scheduler.is_stopped());
        for fact in [Fact::Wrote, Fact::Hint(Scope::All), Fact::Reconnected] {
            world.tell(fact);
        }
        world.pass(24 * 60 * MINUTE);
        assert_eq!(world.rounds.len(), 1);
        assert_eq!(world.scheduler.next_round(), None);
        // Asked, and still the same: that was one question.
        world.tell(Fact::Asked);
        world.pass(60 * MINUTE);
        assert_eq!(world.rounds.len(), 2);
        world.answers = well;
        world.tell(Fact::Resumed);
        world.pass(SECOND);
        assert!(!world.scheduler.is_stopped() && world.rounds.len() == 3);
    }
}

#[test]
fn a_clock_that_is_set_back_holds_nothing_up_for_years() {
    let mut world = World::in_step();
    world.tell(Fact::Wrote);
    world.now_ms -= 10 * 365 * 24 * 60 * MINUTE;
    world.pass(3 * SECOND);
    assert_eq!(world.rounds.len(), 1);
    world.now_ms += 20 * 365 * 24 * 60 * MINUTE;
    world.pass(SECOND);
    assert_eq!(world.rounds.len(), 2, "set forward it makes one round early, not one for every five minutes");
}

/// What may happen, as numbers: how long nothing does, and then what.
fn happenings() -> impl Strategy<Value = Vec<(u64, u8)>> {
    proptest::collection::vec((prop_oneof![0_u64..300, 0_u64..20_000, 0_u64..400_000], any::<u8>()), 1..120)
}

fn fact(number: u8) -> Fact<'static> {
    match number % 8 {
        0..=2 => Fact::Wrote,
        3 => Fact::Hint(Scope::All),
        4 | 5 => Fact::Hint(Scope::Vault(VaultId([number / 8 % 2; 32]))),
        6 => Fact::Reconnected,
        _ => Fact::May((number / 8).is_multiple_of(2)),
    }
}

proptest! {
    /// Rounds never overlap: `World::pass` would panic. And what was written is carried soon, if it may be.
    #[test]
    fn a_write_is_always_followed_by_a_round_in_time(happenings in happenings(), takes_ms in 0_u64..8_000) {
        let mut world = World::new(Schedule::default(), well);
        world.takes_ms = takes_ms;
        for (wait, number) in happenings {
            world.pass(wait);
            world.tell(fact(number));
            if matches!(fact(number), Fact::Wrote) && world.scheduler.may {
                let written = world.now_ms;
                // One that runs may have begun too early to carry it.
                world.pass(12 * SECOND + 2 * takes_ms);
                prop_assert!(world.rounds.last().is_some_and(|(at, _)| *at >= written), "{:?}", world.rounds);
            }
        }
    }

    /// Whatever happens, and however the dice fall, a server that is not there hears little of us.
    #[test]
    fn a_dead_server_is_asked_eighteen_times_a_minute_at_most(happenings in happenings(), roll in any::<u32>()) {
        let mut world = World::new(Schedule::default(), dead);
        (world.roll, world.takes_ms) = (roll, 0);
        for (wait, number) in happenings {
            world.pass(wait);
            world.tell(fact(number));
        }
        let began: Vec<u64> = world.rounds.iter().map(|(at, _)| *at).collect();
        for (index, at) in began.iter().enumerate() {
            let within = began[index..].iter().take_while(|other| **other < at + MINUTE).count();
            prop_assert!(within <= 18, "{within} in a minute");
        }
    }

    /// While the conditions do not allow it, nothing goes out but what the app asks for.
    #[test]
    fn held_back_it_is_silent(happenings in happenings()) {
        let mut world = World::in_step();
        world.tell(Fact::May(false));
        for (wait, number) in happenings {
            world.pass(wait);
            if !matches!(fact(number), Fact::May(_)) {
                world.tell(fact(number));
            }
        }
        prop_assert_eq!(world.rounds.len(), 0);
        world.tell(Fact::Asked);
        prop_assert_eq!(world.rounds.len(), 1);
    }
}
