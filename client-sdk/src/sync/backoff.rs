//! How long to leave a server alone that did not answer, or asked for a rest.
//!
//! Owns the waits: they double, and each is cut at a random place, so that devices which were cut off together do not
//! come back together. Pure: it is given the dice and returns a time; who waits is another's business. What the server
//! said wrongly, or refused, is never asked for again here: the same question would get the same answer.

use crate::error::Error;
use crate::transport::TransportError;
use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);
/// How often one thing is tried within a round; after that it waits for the next round.
const TRIES_OF_A_ROUND: u32 = 5;

/// How often something went wrong in a row, and what that means.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    most: Option<u32>,
    failed: u32,
}

impl Backoff {
    /// For a round, which ends when it was in vain: the person, or the next round, tries again.
    pub(crate) fn of_a_round() -> Self {
        Backoff { most: Some(TRIES_OF_A_ROUND), failed: 0 }
    }

    /// For a round after another one was in vain: the server is not there, and nobody waits for it twice.
    pub(crate) fn of_one_try() -> Self {
        Backoff { most: Some(1), failed: 0 }
    }

    /// For what goes on as long as the app runs.
    pub(crate) fn without_end() -> Self {
        Backoff { most: None, failed: 0 }
    }

    /// It came further: what goes wrong from now on is another matter.
    pub(crate) fn came_further(&mut self) {
        self.failed = 0;
    }

    /// How long to wait before the same is tried again; `None` if it is not to be. `roll` is any number, each as likely
    /// as the others.
    pub(crate) fn after(&mut self, error: &Error, roll: u32) -> Option<Duration> {
        let asked = match error {
            // An answer that no honest server sends does not get better.
            Error::Offline(TransportError::TooLarge) => return None,
            Error::Offline(_) => Duration::ZERO,
            Error::RetryLater { after, .. } => after.unwrap_or_default(),
            _ => return None,
        };
        self.failed = self.failed.saturating_add(1);
        if self.most.is_some_and(|most| self.failed >= most || asked > LONGEST) {
            return None;
        }
        let doubled = FIRST.saturating_mul(1 << (self.failed - 1).min(16)).min(LONGEST);
        // Never before the server wants it; and not all at the moment it named.
        Some(asked.saturating_add(doubled.mul_f64(f64::from(roll) / f64::from(u32::MAX))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut_off() -> Error {
        Error::Offline(TransportError::TimedOut)
    }

    fn asked_to_wait(seconds: u64) -> Error {
        Error::RetryLater { after: Some(Duration::from_secs(seconds)), why: String::new() }
    }

    #[test]
    fn the_waits_of_a_round_double_and_it_is_tried_five_times() {
        let mut backoff = Backoff::of_a_round();
        let waits: Vec<Option<u64>> =
            (0..6).map(|_| backoff.after(&cut_off(), u32::MAX).map(|wait| wait.as_secs())).collect();
        assert_eq!(waits, [Some(1), Some(2), Some(4), Some(8), None, None]);
        backoff.came_further();
        assert_eq!(backoff.after(&cut_off(), u32::MAX), Some(FIRST));
    }

    #[test]
    fn who_has_one_try_does_not_wait() {
        assert_eq!(Backoff::of_one_try().after(&cut_off(), 0), None);
    }

    #[test]
    fn a_wait_is_anything_from_nothing_to_the_whole() {
        let at = |roll| Backoff::of_a_round().after(&cut_off(), roll).unwrap();
        assert_eq!(at(0), Duration::ZERO);
        assert!(at(u32::MAX / 2) > FIRST / 3 && at(u32::MAX / 2) < FIRST * 2 / 3);
        assert_eq!(at(u32::MAX), FIRST);
    }

    #[test]
    fn without_an_end_no_wait_is_longer_than_half_a_minute() {
        let mut backoff = Backoff::without_end();
        let waits: Vec<Duration> = (0..100).filter_map(|_| backoff.after(&cut_off(), u32::MAX)).collect();
        assert_eq!(waits.len(), 100);
        assert!(waits.is_sorted() && waits[99] == LONGEST);
    }

    #[test]
    fn nobody_comes_back_before_the_server_wants_it() {
        for roll in [0, 1 << 20, u32::MAX] {
            let wait = Backoff::of_a_round().after(&asked_to_wait(7), roll).unwrap();
            assert!(wait >= Duration::from_secs(7) && wait <= Duration::from_secs(8), "{wait:?}");
        }
        assert_eq!(Backoff::of_a_round().after(&asked_to_wait(3600), 0), None, "a round does not last an hour");
        assert!(Backoff::without_end().after(&asked_to_wait(3600), 0).unwrap() >= Duration::from_secs(3600));
    }

    #[test]
    fn what_was_answered_wrongly_is_not_asked_again() {
        for error in [
            Error::UnsupportedProtocol("x".into()),
            Error::WrongCredentials,
            Error::NotPossible("x".into()),
            Error::Offline(TransportError::TooLarge),
            Error::misbehaved(crate::Misbehaviour::Fork),
        ] {
            assert_eq!(Backoff::without_end().after(&error, 0), None, "{error:?}");
        }
    }
}
