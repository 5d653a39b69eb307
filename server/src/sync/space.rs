//! How much room a tenant has left.
//!
//! Owns the memory of it. The store is asked once a minute; what comes in meanwhile is added here, so a tenant can go
//! over its limit by what other servers take in within that minute, and by no more.

use super::refusal::{Refusal, Result};
use crate::store::{Millis, Tenant, Vaults};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

const GOOD_FOR_MS: i64 = 60_000;
/// Past so many tenants all are asked about anew.
const MOST: usize = 10_000;

#[derive(Clone, Default)]
pub(super) struct Spaces(Arc<Mutex<HashMap<Tenant, Space>>>);

#[derive(Clone, Copy)]
struct Space {
    taken: u64,
    allowed: Option<u64>,
    asked_at: Millis,
}

/// Bytes that are counted; they are given back when this is dropped, unless what they are for has come in.
pub(super) struct Counted {
    spaces: Spaces,
    tenant: Tenant,
    bytes: u64,
    asked_at: Millis,
}

impl Counted {
    /// It has come in.
    pub(super) fn keep(mut self) {
        self.bytes = 0;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.spaces.with(|spaces| {
            // If the store was asked again meanwhile, these bytes are not in what it said.
            let space = spaces.get_mut(&self.tenant).filter(|space| space.asked_at == self.asked_at);
            if let Some(space) = space {
                space.taken = space.taken.saturating_sub(self.bytes);
            }
        });
    }
}

impl Spaces {
    /// Refuses what no longer fits, and counts what does.
    pub(super) async fn take(&self, vaults: &dyn Vaults, tenant: Tenant, bytes: u64, now: Millis) -> Result<Counted> {
        let known = self.with(|spaces| spaces.get(&tenant).copied());
        let fresh = |space: &Space| (0..GOOD_FOR_MS).contains(&now.saturating_sub(space.asked_at));
        if !known.as_ref().is_some_and(fresh) {
            let (taken, allowed) = vaults.space(tenant).await?;
            self.with(|spaces| {
                if spaces.len() >= MOST {
                    spaces.clear();
                }
                // Whoever asked at the same time may have been faster, and others are counted on top of that.
                if !spaces.get(&tenant).is_some_and(fresh) {
                    spaces.insert(tenant, Space { taken, allowed, asked_at: now });
                }
            });
        }
        self.with(|spaces| {
            let counted = |bytes, asked_at| Counted { spaces: self.clone(), tenant, bytes, asked_at };
            let Some(space) = spaces.get_mut(&tenant) else { return Ok(counted(0, now)) };
            let after = space.taken.saturating_add(bytes);
            if space.allowed.is_some_and(|allowed| after > allowed) {
                return Err(Refusal::QuotaExceeded);
            }
            space.taken = after;
            Ok(counted(bytes, space.asked_at))
        })
    }

    /// Numbers that are asked for anew every minute: a panic elsewhere spoils nothing.
    fn with<T>(&self, look: impl FnOnce(&mut HashMap<Tenant, Space>) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
