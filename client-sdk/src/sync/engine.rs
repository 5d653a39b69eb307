//! What a vault needs next, to be in step with its server.
//!
//! Owns the order of things. Pure: told what happened, it says what to do, one thing at a time; it knows no network, no
//! disk, no clock and no dice. The order is what makes it safe:
//!
//! 1. Whatever is amiss comes first: a vault that is set apart does nothing.
//! 2. A new life of the server is compared with what is known before anything it says is used.
//! 3. Nothing is sent before everything that stands was pulled: an answer that got lost may have been a yes.
//! 4. One frame is in flight, and it is written down before it is sent. If it is still good it is sent again as it is;
//!    if not, it can never be taken any more, and another takes its number.

use selkie_protocol::id::{Incarnation, UserId};

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Send the vault's first entry.
    Create,
    /// Fetch what stands after our head, and take it.
    Pull,
    /// Fetch what is missing of a person's account log.
    LearnPerson { user: UserId, index: u64 },
    /// Hold the server's head against ours: it is a new life of the server.
    Compare,
    /// Put back what the server has lost after this position.
    Restore { from: u64 },
    /// Look for the keys that are missing.
    LearnKeys,
    /// See whether the frame in flight may still stand.
    Judge,
    /// Send the frame in flight.
    Send,
    /// Make the next frame, if there is anything to say.
    Compose,
    /// Nothing more.
    Rest,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The server has the first entry.
    Created,
    /// A page was taken; `head` is ours now, `server` where the server says the log ends.
    Pulled {
        head: u64,
        server: u64,
        keys_missing: bool,
        in_flight: bool,
    },
    /// A page could be taken up to an entry whose author is not known well enough.
    PersonNeeded {
        user: UserId,
        index: u64,
    },
    PersonLearned,
    /// The server signs under another incarnation than before.
    Reborn(Incarnation),
    /// It has everything we have.
    NotBehind,
    /// It lacks what stands after this position.
    Behind {
        from: u64,
    },
    Restored,
    /// Keys were found, or not.
    KeysLearned {
        missing: bool,
    },
    /// The frame in flight may stand.
    Good,
    /// It may not, and never will: it was dropped.
    Dead,
    /// A frame is in flight; or there is nothing to send, or nothing that can be.
    Composed {
        in_flight: bool,
    },
    /// It stands right after our head, and was taken.
    Landed {
        head: u64,
    },
    /// It stands, further on.
    Acknowledged,
    /// The server refused it because of something we have not seen.
    Stale,
    /// Nothing came back, or the server wants a rest: after a while the same is due again. What was sent may have been
    /// taken, so that it is looked for first.
    Unanswered,
}

/// How far one round has come. A round is one coming into step; it is thrown away afterwards.
#[derive(Clone, Debug)]
pub(crate) struct Engine {
    born: bool,
    head: u64,
    caught_up: bool,
    compare: bool,
    restore: Option<u64>,
    person: Option<(UserId, u64)>,
    asked: Option<(UserId, u64)>,
    keys_missing: bool,
    /// Our head when the server was last asked for keys.
    keys_asked: Option<u64>,
    in_flight: bool,
    /// The frame in flight was held against the log as it is now.
    judged: bool,
    composed_nothing: bool,
    /// How often something had to be made again without anything landing.
    fruitless: u32,
}

/// Somebody else writes all the time, or the server makes fun of us: the next round goes on.
const MOST_FRUITLESS: u32 = 32;

/// What is known when a round begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    pub(crate) born: bool,
    pub(crate) head: u64,
    pub(crate) in_flight: bool,
    pub(crate) keys_missing: bool,
    /// A poll has just said that the log ends where ours does, and nothing was sent that is unanswered.
    pub(crate) known_current: bool,
    pub(crate) quarantined: bool,
}

impl Engine {
    pub(crate) fn new(facts: Facts) -> Engine {
        Engine {
            born: facts.born,
            head: facts.head,
            // An unanswered frame may have landed after the poll.
            caught_up: facts.known_current && !facts.in_flight,
            compare: false,
            restore: None,
            person: None,
            asked: None,
            keys_missing: facts.keys_missing,
            keys_asked: None,
            in_flight: facts.in_flight && facts.born,
            judged: false,
            composed_nothing: facts.quarantined,
            fruitless: if facts.quarantined { MOST_FRUITLESS } else { 0 },
        }
    }

    pub(crate) fn next(&self) -> Action {
        if self.fruitless >= MOST_FRUITLESS {
            return Action::Rest;
        }
        if !self.born {
            return Action::Create;
        }
        if let Some((user, index)) = self.person {
            return Action::LearnPerson { user, index };
        }
        if self.compare {
            return Action::Compare;
        }
        if let Some(from) = self.restore {
            return Action::Restore { from };
        }
        if self.keys_missing && !self.has_asked_for_keys() {
            return Action::LearnKeys;
        }
        if !self.caught_up {
            return Action::Pull;
        }
        match (self.in_flight, self.judged) {
            (true, false) => Action::Judge,
            (true, true) => Action::Send,
            (false, _) if self.composed_nothing => Action::Rest,
            (false, _) => Action::Compose,
        }
    }

    /// On the way, what is pulled without its key has to be put aside and opened later, so that it is asked for as soon
    /// as it is missing. It may be sealed for a later place in the log only: at the end it is asked for once more.
    fn has_asked_for_keys(&self) -> bool {
        self.keys_asked.is_some_and(|head| head == self.head || !self.caught_up)
    }

    /// Whether this very account log was asked for already, in vain: there is no more of it.
    pub(crate) fn asked_before(&self, user: UserId, index: u64) -> bool {
        self.asked == Some((user, index))
    }

    pub(crate) fn tell(&mut self, event: Event) {
        match event {
            Event::Created => {
                (self.born, self.caught_up) = (true, false);
            }
            Event::Pulled { head, server, keys_missing, in_flight } => {
                if head > self.head {
                    self.asked = None;
                }
                if keys_missing && !self.keys_missing {
                    self.keys_asked = None;
                }
                self.head = head;
                self.keys_missing = keys_missing;
                self.caught_up = head >= server;
                self.in_flight = in_flight;
                self.judged = false;
                self.composed_nothing = false;
            }
            Event::PersonNeeded { user, index } => self.person = Some((user, index)),
            Event::PersonLearned => self.asked = self.person.take(),
            Event::Reborn(_) => (self.compare, self.caught_up) = (true, false),
            Event::NotBehind => (self.compare, self.caught_up) = (false, false),
            Event::Behind { from } => (self.compare, self.restore) = (false, Some(from)),
            Event::Restored => (self.restore, self.caught_up) = (None, false),
            Event::KeysLearned { missing } => (self.keys_missing, self.keys_asked) = (missing, Some(self.head)),
            Event::Good => self.judged = true,
            Event::Dead => {
                self.in_flight = false;
                self.composed_nothing = false;
                self.fruitless += 1;
            }
            Event::Composed { in_flight } => {
                self.in_flight = in_flight;
                self.judged = in_flight;
                self.composed_nothing = !in_flight;
            }
            Event::Landed { head } => {
                self.head = head;
                self.in_flight = false;
                self.composed_nothing = false;
                self.fruitless = 0;
            }
            Event::Acknowledged => {
                (self.judged, self.caught_up) = (false, false);
            }
            Event::Stale => {
                (self.judged, self.caught_up) = (false, false);
                self.fruitless += 1;
            }
            Event::Unanswered => {
                (self.judged, self.caught_up) = (false, false);
                // A part of it may be back.
                self.compare |= self.restore.take().is_some();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts { born: true, head: 5, in_flight: false, keys_missing: false, known_current: false, quarantined: false }
    }

    fn pulled(head: u64, server: u64, in_flight: bool) -> Event {
        Event::Pulled { head, server, keys_missing: false, in_flight }
    }

    #[test]
    fn a_round_pulls_to_the_end_and_then_sends() {
        let mut engine = Engine::new(facts());
        assert_eq!(engine.next(), Action::Pull);
        engine.tell(pulled(7, 9, false));
        assert_eq!(engine.next(), Action::Pull);
        engine.tell(pulled(9, 9, false));
        assert_eq!(engine.next(), Action::Compose);
        engine.tell(Event::Composed { in_flight: true });
        assert_eq!(engine.next(), Action::Send);
        engine.tell(Event::Landed { head: 10 });
        assert_eq!(engine.next(), Action::Compose);
        engine.tell(Event::Composed { in_flight: false });
        assert_eq!(engine.next(), Action::Rest);
    }

    #[test]
    fn what_was_not_answered_is_looked_for_before_it_is_sent_again() {
        let mut engine = Engine::new(Facts { in_flight: true, known_current: true, ..facts() });
        assert_eq!(engine.next(), Action::Pull);
        engine.tell(pulled(5, 5, true));
        assert_eq!(engine.next(), Action::Judge);
        engine.tell(Event::Good);
        assert_eq!(engine.next(), Action::Send);
        engine.tell(Event::Stale);
        assert_eq!(engine.next(), Action::Pull);
        engine.tell(pulled(6, 6, true));
        engine.tell(Event::Dead);
        assert_eq!(engine.next(), Action::Compose);
    }

    #[test]
    fn whatever_got_no_answer_is_due_again_and_what_was_sent_is_looked_for_first() {
        let mut engine = Engine::new(facts());
        assert_eq!(engine.next(), Action::Pull);
        engine.tell(Event::Unanswered);
        assert_eq!(engine.next(), Action::Pull);
        engine.tell(pulled(5, 5, true));
        engine.tell(Event::Good);
        assert_eq!(engine.next(), Action::Send);
        engine.tell(Event::Unanswered);
        assert_eq!(engine.next(), Action::Pull);
        let mut engine = Engine::new(Facts { born: false, ..facts() });
        assert_eq!(engine.next(), Action::Create);
        engine.tell(Event::Unanswered);
        assert_eq!(engine.next(), Action::Create);
    }

    #[test]
    fn a_new_life_of_the_server_is_compared_before_anything_else() {
        let mut engine = Engine::new(facts());
        engine.tell(Event::Reborn(Incarnation([2; 16])));
        assert_eq!(engine.next(), Action::Compare);
        engine.tell(Event::Behind { from: 3 });
        assert_eq!(engine.next(), Action::Restore { from: 3 });
        engine.tell(Event::Unanswered);
        assert_eq!(engine.next(), Action::Compare, "a part may be back");
        engine.tell(Event::Behind { from: 4 });
        engine.tell(Event::Restored);
        assert_eq!(engine.next(), Action::Pull);
    }

    #[test]
    fn a_key_is_asked_for_before_what_it_opens_is_pulled_and_once_more_at_the_end() {
        let mut engine = Engine::new(Facts { keys_missing: true, head: 1, ..facts() });
        let still_missing = |head| Event::Pulled { head, server: 9, keys_missing: true, in_flight: false };
        assert_eq!(engine.next(), Action::LearnKeys);
        engine.tell(Event::KeysLearned { missing: true });
        assert_eq!(engine.next(), Action::Pull, "on the way it is asked for once");
        engine.tell(still_missing(5));
        assert_eq!(engine.next(), Action::Pull);
        engine.tell(still_missing(9));
        assert_eq!(engine.next(), Action::LearnKeys);
        engine.tell(Event::KeysLearned { missing: false });
        assert_eq!(engine.next(), Action::Compose);

        // A rotation on the way: the next key opens what comes after it.
        let mut engine = Engine::new(facts());
        engine.tell(still_missing(7));
        assert_eq!(engine.next(), Action::LearnKeys);
        engine.tell(Event::KeysLearned { missing: false });
        assert_eq!(engine.next(), Action::Pull);
    }

    #[test]
    fn a_vault_that_is_set_apart_does_nothing() {
        assert_eq!(Engine::new(Facts { quarantined: true, ..facts() }).next(), Action::Rest);
    }

    #[test]
    fn a_server_that_refuses_for_ever_is_left_alone() {
        let mut engine = Engine::new(facts());
        for _ in 0..1000 {
            match engine.next() {
                Action::Pull => engine.tell(pulled(5, 5, false)),
                Action::Compose => engine.tell(Event::Composed { in_flight: true }),
                Action::Send => engine.tell(Event::Stale),
                Action::Rest => return,
                other => panic!("{other:?}"),
            }
        }
        panic!("it never rests");
    }

    #[test]
    fn a_person_is_asked_for_once_at_one_place() {
        let mut engine = Engine::new(facts());
        let bob = UserId([7; 32]);
        engine.tell(Event::PersonNeeded { user: bob, index: 4 });
        assert_eq!(engine.next(), Action::LearnPerson { user: bob, index: 4 });
        engine.tell(Event::PersonLearned);
        assert_eq!(engine.next(), Action::Pull);
        assert!(engine.asked_before(bob, 4));
    }
}
