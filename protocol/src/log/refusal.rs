//! Why an entry may not stand where it stands.
//!
//! Owns the words for it. The server turns those that an honest client can meet into answers; a client that meets any
//! of them in what it pulls has caught somebody, keeps the evidence and stops.

use super::reader::Malformed;
use crate::id::{ChangeId, RecordId, UserId};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    // The bytes.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("the entry belongs to another vault")]
    OtherVault,
    #[error("the log does not begin with CREATE")]
    NotCreate,
    #[error("written for a later version: update the app")]
    UpgradeNeeded,

    // The author.
    #[error("the account log of {user} is needed, up to entry {index}")]
    AccountLogNeeded { user: UserId, index: u64 },
    #[error("two account logs of {user} are being shown")]
    AccountForked { user: UserId },
    #[error("the author is not a member at this position")]
    NotAMember,
    #[error("the device is not certified at its owner's anchor, or it was revoked")]
    NotCertified,
    #[error("the entry is not signed by the device it names")]
    Forged,

    // Where it stands.
    #[error("this very entry stands at {n} already")]
    Repeated { n: u64 },
    /// DEV_SEQ: an entry of this device is missing, repeated or replaced.
    #[error("the device's next entry is {expected}, this one is {found}")]
    DeviceSequence { expected: u64, found: u64 },
    /// DEV_SEQ: the number is right, what it follows is not.
    #[error("the entry does not follow from the device's entry before")]
    DevicePrevious,
    /// BAD_SEEN: from the future, or made too long ago to be checked. The author pulls and signs again.
    #[error("made after position {seen}, which cannot be checked at {n}")]
    BadSeen { seen: u64, n: u64 },
    /// FORK. To a server: the client was shown something else (BAD_SEEN).
    #[error("the author was shown another log up to {n}")]
    Fork { n: u64 },
    /// STALE_CTL: members or keys have changed since.
    #[error("made under another membership")]
    StaleControl,
    /// STALE_EPOCH.
    #[error("made for epoch {found}, it is {current}")]
    StaleEpoch { current: u32, found: u32 },

    // What it says.
    #[error("not allowed: {0}")]
    NotAllowed(Denied),
    /// CONFLICT: whole writes that were not made on top of what is there. All of them, so that one pull is enough.
    #[error("{} records have moved on", .0.len())]
    Conflict(Vec<Conflict>),
    /// A DELTA on something made up; or, rarely, on a deleted record that a checkpoint has forgotten meanwhile, which
    /// is answered like a conflict: pull and make it again.
    #[error("change {index} builds on a change that the record does not have")]
    UnknownDependency { index: u16 },
    #[error("the payload of change {index} is not the one that was signed")]
    WrongPayload { index: u16 },
    #[error("the checkpoint is wrong: {0}")]
    FalseCheckpoint(&'static str),
    #[error("the vault has as many {0} as it can have")]
    TooMany(&'static str),

    // After a pull.
    /// ROLLBACK.
    #[error("the log ends at {offered}, but it was at {known}")]
    Rollback { known: u64, offered: u64 },
    /// WITHHELD.
    #[error("{} live changes came without their payloads", .0.len())]
    Withheld(Vec<ChangeId>),
}

/// A record that was written meanwhile, and what the next whole write of it must be made on top of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    pub record: RecordId,
    pub heads: Vec<ChangeId>,
}

/// A rule of the table of operations that was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    #[error("this role may not do that")]
    Role,
    #[error("a vault is created once")]
    SecondCreate,
    #[error("already a member")]
    AlreadyMember,
    #[error("no such member")]
    NoSuchMember,
    #[error("nothing would change")]
    NothingChanges,
    #[error("an owner must remain")]
    LastOwner,
    #[error("who leaves cannot make the key that keeps them out")]
    SelfRemoval,
    #[error("the identity key is not the one of that account log")]
    WrongIdentity,
    #[error("no such invitation is open, or it is for another role")]
    Invite,
    #[error("an anchor is set by its owner, and only forwards")]
    Anchor,
    #[error("not the next epoch")]
    Epoch,
    #[error("a policy only ever demands more")]
    PolicyLowered,
    #[error("not the recovery identity that the policy names")]
    Recovery,
    #[error("no checkpoint stands there")]
    NoSuchCheckpoint,
}
