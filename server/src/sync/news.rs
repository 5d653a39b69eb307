//! What is said on when a vault has moved, by the very task that moved it.
//!
//! Owns the order: first the memory that polls are answered from, then those who listen. Knows nothing of why it moved.

use super::announcer::Announcer;
use super::heads::Heads;
use super::hub::Hub;
use crate::store::{AccountNumber, Place, Tenant};
use selkie_protocol::id::{UserId, VaultId};
use std::sync::Arc;

/// A vault is at a new position.
#[derive(Clone, Debug)]
pub(super) struct Moved {
    pub(super) at: Place,
    pub(super) vault: VaultId,
    /// The app it belongs to.
    pub(super) app: String,
    pub(super) n: u64,
    /// Everybody who is a member now, if that has changed.
    pub(super) members: Option<Vec<UserId>>,
}

pub(super) struct News {
    pub(super) heads: Heads,
    pub(super) hub: Arc<Hub>,
    /// To those who write beside us, where there may be some.
    pub(super) announcer: Option<Announcer>,
}

impl News {
    /// To be called before anybody is told that it stands.
    pub(super) fn tell(&self, moved: &Moved) {
        self.heads.moved(moved.at, moved.n);
        if moved.members.is_some() {
            self.heads.members_changed();
        }
        self.say(moved, moved.members.is_some());
    }

    /// A new vault, for the account that made it. Nobody else's list of vaults has changed.
    pub(super) fn created(&self, moved: &Moved, tenant: Tenant, account: AccountNumber) {
        self.heads.moved(moved.at, moved.n);
        self.heads.created(tenant, account);
        // Nobody listens to it yet.
        self.say(moved, false);
    }

    fn say(&self, moved: &Moved, others_belong: bool) {
        self.hub.tell(moved);
        if let Some(announcer) = &self.announcer {
            announcer.say(moved.at, moved.n, others_belong);
        }
    }
}
