//! What is wrong with what a server showed of a vault, in words.
//!
//! Owns the translation of a broken rule into what an app hears: which lie it is, what was expected and what
//! came. Pure.

use crate::error::Misbehaviour;
use selkie_protocol::Bytes;
use selkie_protocol::log::{Refusal, SignedHead};

/// A server was caught at a vault.
#[derive(Clone, Debug)]
pub(crate) struct Alarm {
    pub(crate) kind: Misbehaviour,
    pub(crate) expected: String,
    pub(crate) found: String,
    /// What it signed and cannot take back.
    pub(crate) heads: Vec<SignedHead>,
    /// The frames it showed, and the position they were to follow.
    pub(crate) served: Vec<Bytes>,
    pub(crate) served_after: u64,
}

impl Alarm {
    pub(crate) fn new(kind: Misbehaviour, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Alarm {
            kind,
            expected: expected.into(),
            found: found.into(),
            heads: Vec::new(),
            served: Vec::new(),
            served_after: 0,
        }
    }

    pub(crate) fn with_heads(mut self, heads: impl IntoIterator<Item = SignedHead>) -> Self {
        self.heads.extend(heads);
        self
    }

    pub(crate) fn with_served(mut self, after: u64, frames: &[Bytes]) -> Self {
        (self.served_after, self.served) = (after, frames.to_vec());
        self
    }

    /// An entry that was shown for position `n` may not stand there.
    pub(crate) fn refused(n: u64, refusal: &Refusal) -> Self {
        let (kind, expected) = match refusal {
            Refusal::Rollback { known, .. } => (Misbehaviour::VaultRollback, format!("a log that reaches {known}")),
            Refusal::Fork { .. } => (Misbehaviour::VaultFork, "the log that was shown before".to_owned()),
            Refusal::AccountForked { .. } => (Misbehaviour::Fork, "one account log of a person".to_owned()),
            Refusal::AccountLogNeeded { user, index } => {
                (Misbehaviour::Rollback, format!("the account log of {user} up to entry {index}"))
            }
            Refusal::Withheld(_) => (Misbehaviour::Withheld, "the content of every live change".to_owned()),
            Refusal::FalseCheckpoint(_) => {
                (Misbehaviour::FalseCheckpoint, "a checkpoint of what is in the vault".to_owned())
            }
            Refusal::DeviceSequence { expected, .. } => {
                (Misbehaviour::ForgedEntry, format!("entry {expected} of that device"))
            }
            Refusal::Repeated { .. } => (Misbehaviour::ForgedEntry, "an entry that does not stand yet".to_owned()),
            Refusal::StaleEpoch { current, .. } => (Misbehaviour::ForgedEntry, format!("an entry of epoch {current}")),
            _ => (Misbehaviour::ForgedEntry, "an entry that its author could write there".to_owned()),
        };
        Alarm::new(kind, format!("{expected}, at position {n}"), refusal.to_string())
    }
}
