//! Who asks this room for something, as far as it matters here.
//!
//! Owns what a session must be for writing and for reading. That it is who it says was proven before.

use super::refusal::{Refusal, Result};
use crate::auth::Caller;
use crate::store::{AccountNumber, Tenant};
use selkie_protocol::id::{DeviceId, UserId};

/// A device of somebody with keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Author {
    pub(super) tenant: Tenant,
    pub(super) user: UserId,
    pub(super) device: DeviceId,
}

/// Somebody with keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reader {
    pub(super) tenant: Tenant,
    pub(super) account: AccountNumber,
    pub(super) user: UserId,
}

impl Reader {
    pub(super) fn of(caller: &Caller) -> Result<Self> {
        if !caller.is_full() {
            return Err(Refusal::Forbidden("a recovery sets a new password and nothing else"));
        }
        let user = caller.user().ok_or(Refusal::Forbidden("an account without keys has no vaults"))?;
        Ok(Reader { tenant: caller.tenant(), account: caller.account(), user })
    }
}

impl Author {
    pub(super) fn of(caller: &Caller) -> Result<Self> {
        let Reader { tenant, user, .. } = Reader::of(caller)?;
        let device = caller.device().ok_or(Refusal::Forbidden("only a certified device may write"))?;
        Ok(Author { tenant, user, device })
    }
}
