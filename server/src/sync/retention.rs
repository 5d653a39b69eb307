//! Letting go of payloads that nothing refers to any more, when their time has come.
//!
//! Owns when that is, and the small steps in which it is done. What a checkpoint that is ready counts as live stays.

use super::Logs;
use super::refusal::Result;

/// Vaults looked at, and steps taken, in one go of the chore.
const VAULTS: u32 = 100;
const STEPS: usize = 400;

impl Logs {
    /// Prunes what is due, as far as one go goes. Returns how many payloads went.
    pub async fn prune(&self) -> Result<u64> {
        let vaults = &self.room.office.vaults;
        let before = self.room.office.edges.now_ms().saturating_sub(self.room.policy.history_ms);
        let (mut pruned, mut steps, mut after) = (0, 0, None);
        loop {
            let due = vaults.vaults_to_prune(before, after, VAULTS).await?;
            let Some(last) = due.last() else { break };
            after = Some(*last);
            for at in due {
                let ready = vaults.checkpoints(at).await?;
                let keep: Vec<u64> = ready.iter().map(|checkpoint| checkpoint.n - 1).collect();
                loop {
                    let (count, more) = vaults.prune(at, before, keep.clone()).await?;
                    pruned += count;
                    steps += 1;
                    if !more || steps >= STEPS {
                        break;
                    }
                }
                if steps >= STEPS {
                    return Ok(pruned);
                }
            }
        }
        metrics::counter!("selkie_payloads_pruned_total").increment(pruned);
        Ok(pruned)
    }
}
