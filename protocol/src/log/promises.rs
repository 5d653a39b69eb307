//! What a server has said before and must stand by.
//!
//! Owns acknowledgements of our own entries, and heads: ours, those other devices wrote down, those the server signed.
//! Kept, across restarts too, until the log has reached them, then dropped. Knows nothing of how they were come by.

use super::effects::Effects;
use super::entry::Head;
use super::refusal::Refusal;
use super::trail::Extends;
use super::vault::VaultLog;
use crate::Fixed;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Promises of a server about one vault that the log has not reached yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Promises {
    entries: BTreeMap<u64, Fixed<32>>,
    heads: BTreeMap<u64, Fixed<32>>,
}

impl Promises {
    /// The server answered a push: this entry of ours stands at `n`.
    pub fn acknowledged(&mut self, n: u64, entry: [u8; 32], log: &VaultLog) -> Result<(), Refusal> {
        if n <= log.head().n {
            // A pull was faster than the answer.
            let stands = log.core().device_at(n).is_some_and(|chain| chain.last == entry);
            return if stands { Ok(()) } else { Err(Refusal::Fork { n }) };
        }
        match self.entries.insert(n, Fixed(entry)) {
            Some(before) if before.0 != entry => Err(Refusal::Fork { n }),
            _ => Ok(()),
        }
    }

    /// Somebody saw this head.
    pub fn seen(&mut self, head: Head, log: &VaultLog) -> Result<(), Refusal> {
        match log.compare(&head) {
            Extends::Yes | Extends::Forgotten => Ok(()),
            Extends::Forked => Err(Refusal::Fork { n: head.n }),
            Extends::Shorter => match self.heads.insert(head.n, Fixed(head.h)) {
                Some(before) if before.0 != head.h => Err(Refusal::Fork { n: head.n }),
                _ => Ok(()),
            },
        }
    }

    /// Holds an entry that is about to be taken, or was, against what was promised for its position.
    pub fn check(&mut self, effects: &Effects) -> Result<(), Refusal> {
        let Head { n, h } = effects.head;
        let kept = self.entries.get(&n).is_none_or(|entry| entry.0 == effects.entry)
            && self.heads.get(&n).is_none_or(|head| head.0 == h);
        if !kept {
            return Err(Refusal::Fork { n });
        }
        self.entries.remove(&n);
        self.heads.remove(&n);
        Ok(())
    }

    /// Whether the log has reached all of them.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.heads.is_empty()
    }

    /// After a pull to the end of what the server has: nothing may be left.
    pub fn all_kept(&self, log: &VaultLog) -> Result<(), Refusal> {
        let furthest = self.entries.keys().chain(self.heads.keys()).max();
        match furthest {
            Some(known) => Err(Refusal::Rollback { known: *known, offered: log.head().n }),
            None => Ok(()),
        }
    }
}
