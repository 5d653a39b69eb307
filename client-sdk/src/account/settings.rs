//! Small things an app wants to find on all devices of one person: a theme, what was read last.
//!
//! Owns how they lie in the account's own vault, and which of two counts. The name of a setting is inside what is
//! sealed: a server sees neither name nor value.

use super::Account;
use super::own_vault::OWN_APP;
use crate::error::{Error, Result};
use crate::sync::room::Room;
use crate::vault::Vault;
use selkie_protocol::id::RecordId;
use selkie_protocol::log::App;
use selkie_protocol::{Bytes, Face};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

const SETTINGS: &str = "settings";
const LONGEST_KEY: usize = 128;
const LONGEST_VALUE: usize = 16 * 1024;

/// What one record of the collection says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Setting {
    key: String,
    /// Nothing, if it was taken back.
    value: Option<Bytes>,
    /// Ascends with every change of this setting; by the clock, where that goes on.
    stamp: u64,
}

/// An app's settings, the same on all devices of the account: see [`Account::settings`].
#[derive(Debug, Clone)]
pub struct Settings(Account);

impl Account {
    /// Small things an app wants to find on all devices of this person. They work without a server, and travel with
    /// [`Account::sync`]. Apps share them: begin a key with the app's name, as in `org.example.journal/theme`. What
    /// belongs into a vault, or is large, does not belong here.
    pub fn settings(&self) -> Settings {
        Settings(self.clone())
    }
}

impl Settings {
    /// What was put last, on whichever device. No request is made.
    pub async fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let room = self.0.room().await?;
        let newest = self.newest(&room, key).await?;
        Ok(newest.and_then(|(_, _, setting)| setting.value).map(|value| value.0))
    }

    /// Puts something in the place of what was there. Keys have 1 to 128 bytes, values up to 16 KiB.
    pub async fn put(&self, key: &str, value: &[u8]) -> Result<()> {
        if value.len() > LONGEST_VALUE {
            return Err(Error::NotPossible("a setting has at most 16 KiB: this belongs into a vault".into()));
        }
        self.write(key, Some(Bytes(value.to_vec()))).await
    }

    /// Takes a setting back.
    pub async fn remove(&self, key: &str) -> Result<()> {
        self.write(key, None).await
    }

    async fn write(&self, key: &str, value: Option<Bytes>) -> Result<()> {
        if key.is_empty() || key.len() > LONGEST_KEY {
            return Err(Error::ApiMisuse("the key of a setting has 1 to 128 bytes".into()));
        }
        let room = self.0.room().await?;
        let vault = {
            let _alone = room.making_own.lock().await;
            match self.0.own_vault(&room).await? {
                Some(vault) => vault,
                // Another device may be making one, too: then all settle on one of the two, and read both.
                None => self.0.make_vault(own_app()?, None).await?,
            }
        };
        let newest = self.newest(&room, key).await?;
        let now_ms = self.0.context().now_ms();
        let stamp = newest.as_ref().map_or(now_ms, |(_, _, known)| now_ms.max(known.stamp.saturating_add(1)));
        let record = newest.filter(|(place, ..)| place.id() == vault.id()).map(|(_, record, _)| record);
        let setting = Setting { key: key.to_owned(), value, stamp };
        let record = record.unwrap_or_else(|| vault.new_record_id());
        vault.put(SETTINGS, record, &Face::Cbor.encode(&setting)).await
    }

    /// The setting that counts, and where it lies. Two devices can make one each, even in two vaults: the newest
    /// counts, and of equally new ones every device finds the same.
    async fn newest(&self, room: &Arc<Room>, key: &str) -> Result<Option<(Vault, RecordId, Setting)>> {
        let mut newest: Option<(Vault, RecordId, Setting)> = None;
        for vault in self.0.own_vaults(room).await? {
            for record in vault.records(SETTINGS).await? {
                // What cannot be read was written by a later version.
                let Ok(setting) = Face::Cbor.decode::<Setting>(&record.data) else { continue };
                let rank = |setting: &Setting| (setting.stamp, setting.value.clone());
                let is_newer = newest.as_ref().is_none_or(|(_, _, known)| rank(known) < rank(&setting));
                if setting.key == key && is_newer {
                    newest = Some((vault.clone(), record.id, setting));
                }
            }
        }
        Ok(newest)
    }
}

pub(super) fn own_app() -> Result<App> {
    App::new(OWN_APP).map_err(|error| Error::ApiMisuse(error.to_string()))
}
