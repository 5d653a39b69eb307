//! Letting go of payloads that nothing refers to any more, when their time has come.
//!
//! Owns when that is, by the plan of each tenant, and the small steps in which it is done. What a checkpoint counts as
//! live stays, if it can be begun from or soon will be.

use super::refusal::{Refusal, Result};
use super::{Logs, Room};
use crate::store::{Millis, Place, Tenant};
use std::collections::HashMap;

/// Vaults looked at, and steps taken, in one go of the chore.
const VAULTS: u32 = 100;
const STEPS: usize = 400;
const DAY_MS: i64 = 24 * 60 * 60_000;

impl Logs {
    /// Prunes what is due, as far as one go goes. Returns how many payloads went.
    pub async fn prune(&self) -> Result<u64> {
        let room = &self.room;
        let before = room.history_ends().await?;
        let Some(newest) = before.values().max().copied() else { return Ok(0) };
        let (mut pruned, mut steps, mut after) = (0, 0, None);
        loop {
            let due = room.office.vaults.vaults_to_prune(newest, after, VAULTS).await?;
            let Some(last) = due.last() else { break };
            after = Some(*last);
            for at in due {
                let Some(before) = before.get(&at.tenant) else { continue };
                let keep = room.positions_to_keep(at).await?;
                loop {
                    let (count, more) = room.office.vaults.prune(at, *before, keep.clone()).await?;
                    metrics::counter!("selkie_payloads_pruned_total").increment(count);
                    pruned += count;
                    steps += 1;
                    if steps >= STEPS {
                        return Ok(pruned);
                    }
                    if !more {
                        break;
                    }
                }
            }
        }
        Ok(pruned)
    }
}

impl Room {
    /// For every tenant whose history has an end, what was superseded before which time may go.
    async fn history_ends(&self) -> Result<HashMap<Tenant, Millis>> {
        let now = self.office.edges.now_ms();
        let ends = self.tenants.tenants().await?.into_iter().filter_map(|row| {
            let days = row.history_days?;
            Some((row.tenant, now.saturating_sub(days.saturating_mul(DAY_MS))))
        });
        Ok(ends.collect())
    }

    async fn positions_to_keep(&self, at: Place) -> Result<Vec<u64>> {
        let mut checkpoints: Vec<u64> = self.office.vaults.checkpoints(at).await?.iter().map(|row| row.n).collect();
        match self.office.look_up(at).await {
            // The newest one may be about to be made ready.
            Ok(known) => checkpoints.extend(known.core.checkpoints().last().map(|known| known.n)),
            Err(Refusal::NotFound(_)) => {}
            Err(other) => return Err(other),
        }
        checkpoints.sort_unstable();
        checkpoints.dedup();
        Ok(checkpoints.into_iter().map(|n| n - 1).collect())
    }
}
