//! Records whose content this device does not keep: letting it go, and having it again.
//!
//! Owns what an app calls. What is kept of such a record is that it is there, verified like all others.

use super::Vault;
use crate::account::OWN_APP;
use crate::error::{Error, Result};
use crate::records::Collection;
use crate::sync::contents::{LetGo, Wanted};
use selkie_protocol::id::RecordId;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;

impl Vault {
    /// Lets go, on this device alone, of what records say that were last written longer ago than this: for a device
    /// with little room. The server and other devices keep them, and what others write to one of them comes as always.
    /// Queries do not find them any more, and to read or write one is [`Error::NotHere`], until
    /// [`Vault::fetch_records`]. What is not in the log yet, what a person is to decide and what was deleted stays.
    ///
    /// What came in the last 30 days is kept once more, as it came, to help a server that was restored from a backup:
    /// its room is given back when that time is over.
    pub async fn let_go(&self, older_than: Duration) -> Result<LetGo> {
        self.let_go_of(None, older_than).await
    }

    /// The records that are in the vault and of which this device does not keep what they say, by name.
    pub async fn elsewhere(&self) -> Result<Vec<RecordId>> {
        self.read(|room, vault| {
            let mut records: Vec<RecordId> = room.store.elsewhere(vault)?.into_iter().map(|one| one.record).collect();
            records.dedup();
            Ok(records)
        })
        .await
    }

    /// Fetches what these records say, where it is not here; first it comes into step with the server. Returns how many
    /// came. What came before the call fails is kept.
    pub async fn fetch_records(&self, records: &[RecordId]) -> Result<u64> {
        let records = records.to_vec();
        self.alone(async move |round| round.fetch_contents(Wanted::These(records)).await).await
    }

    /// Fetches what is not here of all records.
    pub async fn fetch_all_records(&self) -> Result<u64> {
        self.alone(async |round| round.fetch_contents(Wanted::All).await).await
    }

    async fn let_go_of(&self, collection: Option<&str>, older_than: Duration) -> Result<LetGo> {
        if self.glance().await?.app == OWN_APP {
            let why = "that vault is what the account's devices tell each other: it stays";
            return Err(Error::NotPossible(why.into()));
        }
        let age = u64::try_from(older_than.as_millis()).unwrap_or(u64::MAX);
        let before_ms = self.here().account.context().now_ms().saturating_sub(age);
        let collection = collection.map(str::to_owned);
        self.alone(async move |round| round.let_go(collection, before_ms).await).await
    }
}

impl<T: Serialize + DeserializeOwned> Collection<T> {
    /// The same as [`Vault::let_go`] for the records of this collection.
    pub async fn let_go(&self, older_than: Duration) -> Result<LetGo> {
        self.vault.let_go_of(Some(&self.name), older_than).await
    }

    /// The record as it is now, like [`Collection::get`]; fetched from the server if what it says is not here.
    pub async fn fetch(&self, id: RecordId) -> Result<Option<T>> {
        match self.get(id).await {
            Err(Error::NotHere { .. }) => {
                self.vault.fetch_records(&[id]).await?;
                self.get(id).await
            }
            here => here,
        }
    }
}
