//! The server's chores: forgetting what has expired, deleting accounts whose hour has come, turning its keys.
//!
//! What is due is a pure function of when each chore last ran; a thin loop asks it every few seconds and runs what it
//! is told to. Every chore may run on several servers at once and may be cut off at any moment.

use crate::app::App;
use crate::telemetry;
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

const TICK: Duration = Duration::from_secs(5);
/// Ended sessions are kept so long, so that an old refresh token can still be told from a forged one.
const KEEP_ENDED_MS: i64 = 30 * 24 * 60 * 60_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Chore {
    /// Rows that have expired.
    Sweep,
    /// Accounts whose hour has come.
    Deletions,
    /// The next signing key, and those of other servers.
    SigningKeys,
    /// The pages of new checkpoints.
    Checkpoints,
    /// Payloads whose time is over.
    Retention,
    /// What limiters need not remember.
    Limits,
}

impl Chore {
    const ALL: [Chore; 6] =
        [Chore::Sweep, Chore::Deletions, Chore::SigningKeys, Chore::Checkpoints, Chore::Retention, Chore::Limits];

    fn every_ms(self) -> i64 {
        match self {
            Chore::Sweep | Chore::Deletions | Chore::SigningKeys | Chore::Retention => 60_000,
            Chore::Checkpoints => 15_000,
            Chore::Limits => 10_000,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Chore::Sweep => "sweep",
            Chore::Deletions => "deletions",
            Chore::SigningKeys => "signing_keys",
            Chore::Checkpoints => "checkpoints",
            Chore::Retention => "retention",
            Chore::Limits => "limits",
        }
    }
}

/// Does chores until told to stop.
pub(crate) async fn run(app: Arc<App>, mut stopping: watch::Receiver<bool>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = BTreeMap::new();
    loop {
        tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            _ = ticks.tick() => {}
        }
        let now = app.edges.now_ms();
        for chore in due(&last, now) {
            last.insert(chore, now);
            match perform(&app, chore, now).await {
                Ok(0) => {}
                Ok(count) => tracing::info!(job = chore.word(), count, "done"),
                Err(error) => tracing::warn!(
                    job = chore.word(),
                    error = %telemetry::chain(&*error),
                    "will be tried again"
                ),
            }
        }
    }
}

/// The chores whose time has come. One that never ran is due; so is every one after the clock was set back.
fn due(last: &BTreeMap<Chore, i64>, now: i64) -> Vec<Chore> {
    let is_due =
        |chore: &Chore| last.get(chore).is_none_or(|last| now < *last || now.saturating_sub(*last) >= chore.every_ms());
    Chore::ALL.into_iter().filter(is_due).collect()
}

/// Runs one chore; returns how much there was to do.
async fn perform(app: &App, chore: Chore, now: i64) -> Result<u64, Box<dyn Error + Send + Sync>> {
    Ok(match chore {
        Chore::Sweep => app.store.sweep(now, KEEP_ENDED_MS).await?,
        Chore::Deletions => app.auth.delete_due_accounts(&*app.blobs).await?,
        Chore::SigningKeys => u64::from(app.auth.turn_signing_keys().await?),
        Chore::Checkpoints => app.logs.prepare_checkpoints().await?,
        Chore::Retention => app.logs.prune().await?,
        Chore::Limits => {
            app.limits().sweep();
            metrics::gauge!("selkie_limiter_keys").set(app.limits().remembered_keys() as f64);
            0
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chore_is_due_at_first_then_by_its_own_rhythm() {
        let mut last = BTreeMap::new();
        assert_eq!(due(&last, 0), Chore::ALL);
        for chore in Chore::ALL {
            last.insert(chore, 1_000);
        }
        assert_eq!(due(&last, 1_000), []);
        assert_eq!(due(&last, 11_000), [Chore::Limits]);
        assert_eq!(due(&last, 61_000), Chore::ALL);
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_put_chores_off() {
        let last = BTreeMap::from(Chore::ALL.map(|chore| (chore, 1_000_000)));
        assert_eq!(due(&last, 5), Chore::ALL);
    }
}
