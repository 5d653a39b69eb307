//! Records of a vault: written at once, on this device first; read as this device knows them.
//!
//! Owns what an app sees of a record: its own last write if that is not in the log yet, else what the log has. Nothing
//! here talks to a server.

use super::Vault;
use crate::error::{Error, Result};
use crate::records::view::{self, Draft};
use crate::store::vaults::{NewWrite, Pending, Shelf, Version};
use crate::sync::room::Room;
use selkie_protocol::cipher::random_id;
use selkie_protocol::id::{ChangeId, DeviceId, RecordId, UserId, VaultId};
use selkie_protocol::record::{Hlc, RecordBody};
use selkie_protocol::{Bytes, Face};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where a vault says what it is called. Every vault has this one record under this one name.
pub(crate) const INFO_RECORD: RecordId = RecordId([0; 16]);
pub(crate) const INFO_COLLECTION: &str = "selkie.vault";

/// What a vault says of itself to its members.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct VaultInfo {
    pub(crate) name: String,
}

/// A record, as this device has it now.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// Its name.
    pub id: RecordId,
    /// The collection it is in.
    pub collection: String,
    /// What it says.
    pub data: Vec<u8>,
    /// When it was written, by its author's clock.
    pub written: Hlc,
    /// Not in the log yet.
    pub pending: bool,
}

/// One version of a record.
#[derive(Clone, PartialEq, Eq)]
pub struct RecordVersion {
    /// Missing while it is not in the log.
    pub change: Option<ChangeId>,
    /// Where it stands in the log.
    pub n: Option<u64>,
    /// The collection it was in.
    pub collection: String,
    /// This version deletes the record.
    pub deleted: bool,
    /// What it says.
    pub data: Vec<u8>,
    /// When it was written, by its author's clock.
    pub written: Hlc,
    /// Who wrote it.
    pub author: UserId,
    /// On which device.
    pub device: DeviceId,
    /// What the record says now.
    pub current: bool,
    /// It lost a conflict that was settled on this device.
    pub lost_conflict: bool,
}

impl Vault {
    /// A name for a new record.
    pub fn new_record_id(&self) -> RecordId {
        RecordId(random_id())
    }

    /// Writes a record whole, as plain bytes: [`Vault::collection`] is for an app's own types. It is kept on this
    /// device when this returns, see [`Vault::flush`], and is sent with the next [`Vault::sync`]. A record stays in its
    /// collection: one of another collection is not written over.
    pub async fn put(&self, collection: &str, id: RecordId, data: &[u8]) -> Result<()> {
        let (collection, data) = (collection.to_owned(), data.to_vec());
        self.write(id, move |before, hlc| {
            view::stays_in(&collection, before)?;
            Ok(Some(RecordBody::new(collection.as_str(), hlc, data.clone())))
        })
        .await
    }

    /// Returns when everything that was written would survive a power cut. Without it a write survives the end of the
    /// program at once, and a power cut after the next sync.
    pub async fn flush(&self) -> Result<()> {
        self.read(|room, _| Ok(room.store.flush()?)).await
    }

    /// Marks a record as deleted. What it said stays in its history for a while. Where there is no such record, nothing
    /// happens.
    pub async fn delete(&self, collection: &str, id: RecordId) -> Result<()> {
        let collection = collection.to_owned();
        self.write(id, move |before, hlc| {
            view::stays_in(&collection, before)?;
            let is_there = before.is_some_and(|body| !body.deleted);
            Ok(is_there.then(|| RecordBody::deletion(collection.as_str(), hlc)))
        })
        .await
    }

    pub(crate) async fn check_may_write(&self) -> Result<()> {
        let role = self.glance().await?.role(&self.me());
        if !role.is_some_and(|role| role.may_write()) {
            return Err(Error::NotPossible("this person may only read in that vault".into()));
        }
        Ok(())
    }

    pub(super) async fn write(
        &self,
        id: RecordId,
        make: impl Fn(Option<&RecordBody>, Hlc) -> Result<Option<RecordBody>> + Send + 'static,
    ) -> Result<()> {
        self.check_may_write().await?;
        let now_ms = self.account.context().now_ms();
        let draft = [Draft { record: id, new: false, make: Box::new(make) }];
        self.read(move |room, vault| view::commit(room, vault, &draft, now_ms)).await
    }

    /// A record as it is now; nothing if there is none, or if it was deleted.
    pub async fn get(&self, id: RecordId) -> Result<Option<Record>> {
        self.read(move |room, vault| {
            if let Some(pending) = room.store.pending_of(vault, &id)?.pop() {
                return Ok(shown(open_pending(room, vault, &pending)?, id, true));
            }
            let current = room.store.versions(vault, &id)?.into_iter().filter(|version| version.current);
            let bodies = current.map(|version| Ok((open(room, vault, &version)?, version.change)));
            let bodies = bodies.collect::<Result<Vec<_>>>()?;
            let newest = bodies.into_iter().max_by_key(|(body, change)| (body.hlc, *change));
            if newest.is_none() {
                view::read(room, vault, &id)?;
            }
            Ok(newest.and_then(|(body, _)| shown(body, id, false)))
        })
        .await
    }

    /// All records of a collection, by id.
    pub async fn records(&self, collection: &str) -> Result<Vec<Record>> {
        let collection = collection.to_owned();
        self.read(move |room, vault| {
            let shelf = room.at_rest.shelf(vault, &collection);
            let here = newest(room, vault, Some(&shelf))?.into_iter();
            let here = here.filter(|(_, newest)| newest.body.collection == collection);
            Ok(here.filter_map(|(id, newest)| shown(newest.body, id, newest.change.is_none())).collect())
        })
        .await
    }

    /// The collections that have records, and how many. It opens every record: for a person who looks around, and not
    /// for an app, which knows its collections.
    pub async fn collections(&self) -> Result<BTreeMap<String, u64>> {
        self.read(|room, vault| {
            let mut counts = BTreeMap::new();
            for Newest { body, .. } in newest(room, vault, None)?.into_values() {
                if !body.deleted && body.collection != INFO_COLLECTION {
                    *counts.entry(body.collection).or_default() += 1;
                }
            }
            Ok(counts)
        })
        .await
    }

    /// Every version of a record that this device keeps, oldest first; what is not in the log yet comes last.
    pub async fn history(&self, id: RecordId) -> Result<Vec<RecordVersion>> {
        let here = self.here();
        let (user, device) = (here.account.user_id(), here.account.device_id());
        here.read(move |room, vault| {
            let lost: Vec<ChangeId> = room.store.settlements_of(vault, &id)?.iter().map(|one| one.lost).collect();
            let mut history = Vec::new();
            for version in room.store.versions(vault, &id)? {
                let RecordBody { collection, deleted, hlc, data, .. } = open(room, vault, &version)?;
                history.push(RecordVersion {
                    change: Some(version.change),
                    n: Some(version.n),
                    collection,
                    deleted,
                    data: data.0,
                    written: hlc,
                    author: version.user,
                    device: version.device,
                    current: version.current,
                    lost_conflict: lost.contains(&version.change),
                });
            }
            for pending in room.store.pending_of(vault, &id)? {
                history.iter_mut().for_each(|version| version.current = false);
                let RecordBody { collection, deleted, hlc, data, .. } = open_pending(room, vault, &pending)?;
                history.push(RecordVersion {
                    change: None,
                    n: None,
                    collection,
                    deleted,
                    data: data.0,
                    written: hlc,
                    author: user,
                    device,
                    current: true,
                    lost_conflict: false,
                });
            }
            if history.is_empty() {
                view::read(room, vault, &id)?;
            }
            Ok(history)
        })
        .await
    }

    /// What the vault is called, if this device can read it.
    pub async fn name(&self) -> Result<Option<String>> {
        let info = match self.get(INFO_RECORD).await {
            Err(Error::NotHere { .. }) => None,
            info => info?,
        };
        let info = info.filter(|record| record.collection == INFO_COLLECTION);
        let info = info.and_then(|record| Face::Cbor.decode::<VaultInfo>(&record.data).ok());
        Ok(info.map(|info| crate::untrusted::clean(&info.name)))
    }

    /// Calls the vault something else, for all its members.
    pub async fn rename(&self, name: &str) -> Result<()> {
        // Whatever somebody has written over the name, it is put right again.
        let said = info(name);
        self.write(INFO_RECORD, move |_, hlc| Ok(Some(RecordBody::new(INFO_COLLECTION, hlc, said.clone())))).await
    }
}

/// A record as it is now.
struct Newest {
    body: RecordBody,
    /// Missing while it is not in the log.
    change: Option<ChangeId>,
}

/// Every record as it is now: of one collection, and whatever was not sent.
fn newest(room: &Room, vault: &VaultId, shelf: Option<&Shelf>) -> Result<BTreeMap<RecordId, Newest>> {
    let mut newest: BTreeMap<RecordId, Newest> = BTreeMap::new();
    for version in room.store.current(vault, shelf)? {
        let body = open(room, vault, &version)?;
        let change = Some(version.change);
        let older = newest.get(&version.record);
        if older.is_none_or(|older| (older.body.hlc, older.change) < (body.hlc, change)) {
            newest.insert(version.record, Newest { body, change });
        }
    }
    for pending in room.store.outbox(vault, usize::MAX)? {
        newest.insert(pending.record, Newest { body: open_pending(room, vault, &pending)?, change: None });
    }
    Ok(newest)
}

fn info(name: &str) -> Vec<u8> {
    Face::Cbor.encode(&VaultInfo { name: name.to_owned() })
}

/// The first write to a vault that is called so.
pub(crate) fn named(room: &Room, vault: &VaultId, name: &str, now_ms: u64) -> Result<NewWrite> {
    let body = RecordBody::new(INFO_COLLECTION, Hlc::after(Hlc::default(), now_ms), info(name));
    view::sealed(room, vault, INFO_RECORD, &body)
}

fn open_bytes(room: &Room, vault: &VaultId, record: &RecordId, sealed: &[u8]) -> Result<RecordBody> {
    let damaged = || Error::damaged("a record");
    let plain = room.at_rest.open_record(vault, record, sealed).map_err(|_| damaged())?;
    RecordBody::from_bytes(&plain).map_err(|_| damaged())
}

fn open(room: &Room, vault: &VaultId, version: &Version) -> Result<RecordBody> {
    open_bytes(room, vault, &version.record, &version.sealed)
}

fn open_pending(room: &Room, vault: &VaultId, pending: &Pending) -> Result<RecordBody> {
    open_bytes(room, vault, &pending.record, &pending.sealed)
}

fn shown(body: RecordBody, id: RecordId, pending: bool) -> Option<Record> {
    let RecordBody { collection, deleted, hlc, data: Bytes(data), .. } = body;
    (!deleted).then_some(Record { id, collection, data, written: hlc, pending })
}

/// What a record says is for the app alone.
impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Record").field("id", &self.id).field("length", &self.data.len()).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for RecordVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordVersion").field("n", &self.n).field("current", &self.current).finish_non_exhaustive()
    }
}
