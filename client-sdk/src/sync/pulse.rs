//! What is known of an account's rounds: whether one runs, when one last went well, why the last one did not.
//!
//! Owns what a status is made of besides what lies in the store, and the bells that say when to look again. Decides
//! nothing.

use crate::account::AccountSync;
use crate::error::Error;
use crate::records::watch::Bell;
use selkie_protocol::id::VaultId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Default)]
pub(crate) struct Pulse {
    beat: Mutex<Beat>,
    /// Rung when anything that a status shows may be otherwise.
    pub(crate) changed: Bell,
    /// Rung after every write of this device.
    pub(crate) writes: Bell,
}

/// How it stands with the rounds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Beat {
    /// While a round runs: how many vaults are done, and how many there are.
    pub(crate) running: Option<(usize, usize)>,
    /// What is still to be read in the one that it is at, as far as is known.
    pub(crate) to_read: u64,
    pub(crate) last_success_ms: Option<u64>,
    /// Why the last round as a whole was none.
    pub(crate) failure: Option<Failure>,
    /// Why the last round of a vault was none, where the rest went on.
    pub(crate) of_vaults: BTreeMap<VaultId, Failure>,
    /// When the background will try next.
    pub(crate) next_attempt_ms: Option<u64>,
    /// The app's conditions hold rounds back.
    pub(crate) held_back: bool,
}

/// An error as it is shown: errors themselves cannot be copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) kind: &'static str,
    pub(crate) reason: String,
    pub(crate) unblock: String,
    pub(crate) is_retryable: bool,
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        Failure {
            kind: error.word(),
            reason: error.to_string(),
            unblock: error.advice(),
            is_retryable: error.is_retryable(),
        }
    }
}

/// Why the last round was none, as the next run of the app finds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Setback {
    /// The server was not reached.
    offline: bool,
    reason: String,
}

impl Setback {
    pub(crate) fn of(error: &Error) -> Option<Setback> {
        // That a session is over, or a vault set apart, is kept where it belongs.
        let is_kept = matches!(error, Error::SignInAgain { .. } | Error::Quarantined(_));
        (!is_kept).then(|| Setback { offline: error.word() == Error::OFFLINE, reason: error.to_string() })
    }
}

impl From<Setback> for Failure {
    fn from(Setback { offline, reason }: Setback) -> Self {
        let kind = if offline { Error::OFFLINE } else { Error::RETRY_LATER };
        // The next round tries it again, and says then what would help if anything does.
        Failure { kind, reason, unblock: String::new(), is_retryable: true }
    }
}

impl Pulse {
    /// As the last run of the app has left it.
    pub(crate) fn new(synced_ms: u64, setback: Option<Setback>) -> Self {
        let last_success_ms = (synced_ms > 0).then_some(synced_ms);
        let failure = setback.map(Failure::from);
        Pulse { beat: Mutex::new(Beat { last_success_ms, failure, ..Beat::default() }), ..Pulse::default() }
    }

    pub(crate) fn beat(&self) -> Beat {
        self.lock().clone()
    }

    /// A round begins, and ends with what is returned, at the latest when that is dropped.
    pub(crate) fn begin(&self) -> Running<'_> {
        self.change(|beat| (beat.running, beat.to_read) = (Some((0, 0)), 0));
        Running(self)
    }

    /// What the background intends.
    pub(crate) fn intend(&self, next_attempt_ms: Option<u64>, held_back: bool) {
        let same = {
            let beat = self.lock();
            (beat.next_attempt_ms, beat.held_back) == (next_attempt_ms, held_back)
        };
        if !same {
            self.change(|beat| (beat.next_attempt_ms, beat.held_back) = (next_attempt_ms, held_back));
        }
    }

    /// So much is still to be read in the vault that the round is at.
    pub(crate) fn still_to_read(&self, left: u64) {
        let is_news = {
            let beat = self.lock();
            beat.running.is_some() && beat.to_read != left
        };
        if is_news {
            self.change(|beat| beat.to_read = left);
        }
    }

    fn change(&self, change: impl FnOnce(&mut Beat)) {
        change(&mut self.lock());
        self.changed.ring();
    }

    fn lock(&self) -> MutexGuard<'_, Beat> {
        self.beat.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A round that runs. Only one does at a time.
pub(crate) struct Running<'a>(&'a Pulse);

impl Running<'_> {
    pub(crate) fn goes_on(&self, done: usize, of: usize) {
        self.0.change(|beat| (beat.running, beat.to_read) = (Some((done, of)), 0));
    }

    /// Nothing was to be done in a vault.
    pub(crate) fn is_well(&self, vault: &VaultId) {
        self.0.lock().of_vaults.remove(vault);
    }

    pub(crate) fn end(self, now_ms: u64, outcome: Result<&AccountSync, &Error>) {
        self.0.change(|beat| {
            beat.running = None;
            if let Ok(sync) = outcome {
                for (vault, done) in &sync.vaults {
                    match done {
                        Ok(_) => drop(beat.of_vaults.remove(vault)),
                        Err(error) => drop(beat.of_vaults.insert(*vault, error.into())),
                    }
                }
            }
            let trouble = match outcome {
                Ok(sync) => sync.trouble(),
                Err(error) => Some(error),
            };
            beat.failure = trouble.map(Failure::from);
            if trouble.is_none() {
                beat.last_success_ms = Some(now_ms);
            }
        });
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if self.0.lock().running.is_some() {
            self.0.change(|beat| beat.running = None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_still_to_be_read_is_told_of_the_vault_a_round_is_at_and_of_no_other() {
        let pulse = Pulse::default();
        pulse.still_to_read(7);
        assert_eq!(pulse.beat().to_read, 0, "no round runs");
        let round = pulse.begin();
        round.goes_on(0, 2);
        let rung = pulse.changed.rung();
        pulse.still_to_read(7);
        assert_ne!(pulse.changed.rung(), rung, "whoever watches hears of it");
        assert_eq!(pulse.beat().to_read, 7);
        let rung = pulse.changed.rung();
        pulse.still_to_read(7);
        assert_eq!(pulse.changed.rung(), rung, "nothing new");
        round.goes_on(1, 2);
        assert_eq!(pulse.beat().to_read, 0, "that was of the one before");
    }
}
