//! The disk beneath the vaults that the client's own calls mean, whoever has them.
//!
//! Owns nothing but whose they are: what is done is done in `account`.

use crate::account::{Repair, StorageCheck, StorageUsage};
use crate::client::Client;
use crate::error::Result;
use crate::store::vaults::Usage;
use std::time::Duration;

#[cfg(doc)]
use crate::account::Account;

impl Client {
    /// What the vaults take on this device, as [`Account::storage`] tells it, with an account or without. No request is
    /// made.
    pub async fn storage(&self) -> Result<StorageUsage> {
        match self.who_has_vaults().await? {
            Some(account) => account.storage().await,
            None => Ok(StorageUsage { vaults: Vec::new(), total: 0 }),
        }
    }

    /// Lets go of what is in memory only to be quicker, as [`Account::clear_caches`] does.
    pub async fn clear_caches(&self) -> Result<()> {
        match self.who_has_vaults().await? {
            Some(account) => account.clear_caches().await,
            None => Ok(()),
        }
    }

    /// Lets go of old history, as [`Account::prune_history`] does. Of what no server has, nothing goes.
    pub async fn prune_history(&self, older_than: Duration) -> Result<Usage> {
        match self.who_has_vaults().await? {
            Some(account) => account.prune_history(older_than).await,
            None => Ok(Usage::default()),
        }
    }

    /// Reads everything that is kept of vaults and holds it against itself, as [`Account::check_storage`] does, with an
    /// account or without.
    pub async fn check_storage(&self) -> Result<StorageCheck> {
        match self.who_has_vaults().await? {
            Some(account) => account.check_storage().await,
            None => Ok(StorageCheck { damage: Vec::new(), vaults: Vec::new() }),
        }
    }

    /// Mends what this device keeps of vaults, as [`Account::repair`] does. Without an account there is no server from
    /// which anything could be fetched: what can be read stays, and what cannot is named in [`Repair::lost_writes`].
    pub async fn repair(&self) -> Result<Repair> {
        match self.who_has_vaults().await? {
            Some(account) => account.repair().await,
            None => Ok(Repair::default()),
        }
    }
}
