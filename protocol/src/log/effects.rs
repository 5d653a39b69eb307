//! What an accepted entry did.
//!
//! Owns the report that whoever keeps the data acts on. The state has changed already, or will in the same step.

use super::control::Control;
use super::entry::Head;
use crate::id::{ChangeId, DeviceId, RecordId, UserId};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effects {
    /// Where the entry stands, and the chain value there.
    pub head: Head,
    /// The entry's hash.
    pub entry: [u8; 32],
    pub user: UserId,
    pub device: DeviceId,
    pub dev_seq: u64,
    pub what: What,
    /// The checkpoint that this entry is the first of another person to find right.
    pub confirms: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The vault began, or its members, rules or keys changed. Boxed: it is rare and may be long.
    Governed(Box<Control>),
    Changed {
        changes: Vec<Applied>,
        /// No longer live: the server may delete their payloads, and their headers after a confirmed checkpoint.
        superseded: Vec<(RecordId, ChangeId)>,
    },
    Checkpointed {
        /// The root was computed here and is right. False where the live changes are not at hand.
        verified: bool,
        /// Deleted records that are left out for good. Whoever can read them must see to it, before the step is
        /// committed, that each is a deletion.
        forgotten: Vec<RecordId>,
    },
    Heard,
}

/// One change, and what it is called from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    pub index: u16,
    pub record: RecordId,
    pub id: ChangeId,
    pub full: bool,
    pub payload: [u8; 32],
}
