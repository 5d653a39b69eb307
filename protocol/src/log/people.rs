//! What the log of a vault needs to know of people, from their account logs.
//!
//! Owns the three questions. Whoever answers them must have verified the account logs first; where they were kept or
//! fetched from is not asked.

use super::refusal::Refusal;
use crate::account_log::{AccountLog, Extends, Pin};
use crate::id::{DeviceId, UserId};
use crate::sign::PublicKey;
use std::collections::BTreeMap;

/// What a verified account log says of one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Certificate {
    pub key: PublicKey,
    pub added_at: u64,
    pub revoked_at: Option<u64>,
}

/// People whose account logs were verified. `None` means that there is no log of this person at hand.
pub trait People {
    fn identity(&self, user: &UserId) -> Option<PublicKey>;

    /// How this person's log compares with a pin.
    fn compare(&self, user: &UserId, pin: &Pin) -> Option<Extends>;

    /// The device's certificate, if the person's log ever had one.
    fn certificate(&self, user: &UserId, device: &DeviceId) -> Option<Certificate>;
}

/// Whether the account log at hand has this entry.
pub(super) fn reaches(people: &impl People, user: UserId, pin: &Pin) -> Result<(), Refusal> {
    match people.compare(&user, pin) {
        Some(Extends::Yes) => Ok(()),
        Some(Extends::Forked) => Err(Refusal::AccountForked { user }),
        None | Some(Extends::Shorter) => Err(Refusal::AccountLogNeeded { user, index: pin.index }),
    }
}

impl Certificate {
    /// Added at or before this entry of the account log, and not revoked there.
    pub fn stands_at(&self, index: u64) -> bool {
        self.added_at <= index && self.revoked_at.is_none_or(|revoked| revoked > index)
    }
}

impl People for BTreeMap<UserId, AccountLog> {
    fn identity(&self, user: &UserId) -> Option<PublicKey> {
        self.get(user).map(AccountLog::identity)
    }

    fn compare(&self, user: &UserId, pin: &Pin) -> Option<Extends> {
        self.get(user).map(|log| log.extends(pin))
    }

    fn certificate(&self, user: &UserId, device: &DeviceId) -> Option<Certificate> {
        let (_, known) = self.get(user)?.devices().find(|(id, _)| *id == device)?;
        Some(Certificate { key: known.key, added_at: known.added_at, revoked_at: known.revoked_at })
    }
}
