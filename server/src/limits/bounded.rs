//! Memory of a limiter that cannot be made to grow without end.
//!
//! Owns one number per key, and what happens when there is no room: newcomers share an overflow bucket. Knows nothing
//! about what a key stands for; keys arrive hashed with a seed of this process, so nobody can aim at one shard.

use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::state::keyed::ShrinkableKeyedStateStore;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A clone is another handle to the same memory.
#[derive(Clone)]
pub(super) struct BoundedStore {
    shards: Arc<[Mutex<Shard>]>,
    max_keys_per_shard: usize,
}

#[derive(Default)]
struct Shard {
    keys: HashMap<u64, Nanos>,
    overflow: Option<Nanos>,
}

/// Locks are held for one comparison, so a few shards are enough; each brings an overflow bucket of its own.
pub(super) const SHARDS: usize = 16;

impl BoundedStore {
    pub(super) fn new(max_keys: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        BoundedStore { shards, max_keys_per_shard: max_keys.div_ceil(SHARDS) }
    }

    /// Takes back one action of a key, as if it had not happened. What overflowed is not given back: it was shared.
    pub(super) fn forgive(&self, key: u64, one_action: Nanos) {
        if let Some(state) = self.shard(key).keys.get_mut(&key) {
            *state = state.saturating_sub(one_action);
        }
    }

    fn shard(&self, key: u64) -> MutexGuard<'_, Shard> {
        let index = usize::try_from(key % SHARDS as u64).expect("less than the number of shards");
        lock(&self.shards[index])
    }
}

/// A shard is changed by single insertions only, so a panic elsewhere cannot have spoiled it.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl StateStore for BoundedStore {
    type Key = u64;

    fn measure_and_replace<T, F, E>(&self, key: &u64, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut shard = self.shard(*key);
        if let Some(state) = shard.keys.get_mut(key) {
            let (outcome, next) = decide(Some(*state))?;
            *state = next;
            Ok(outcome)
        } else if shard.keys.len() < self.max_keys_per_shard {
            let (outcome, next) = decide(None)?;
            shard.keys.insert(*key, next);
            Ok(outcome)
        } else {
            let (outcome, next) = decide(shard.overflow)?;
            shard.overflow = Some(next);
            Ok(outcome)
        }
    }
}

impl ShrinkableKeyedStateStore<u64> for BoundedStore {
    fn retain_recent(&self, drop_below: Nanos) {
        for shard in self.shards.iter() {
            let mut shard = lock(shard);
            shard.keys.retain(|_, state| *state > drop_below);
            shard.overflow = shard.overflow.filter(|state| *state > drop_below);
        }
    }

    fn shrink_to_fit(&self) {
        for shard in self.shards.iter() {
            let mut shard = lock(shard);
            // A table that is about to fill again is left alone.
            if shard.keys.capacity() > 4 * shard.keys.len() + 64 {
                shard.keys.shrink_to_fit();
            }
        }
    }

    fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).keys.len()).sum()
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
