//! The account's own vault: what a person's devices tell each other.
//!
//! Owns its making, its settling if two devices made one at once, and gossip: how far each device has seen every vault.
//! A server that wants to show two devices two logs would have to keep all their vaults apart, for ever. Which vault is
//! the account's own is not for the server to say: only one in which this person is alone with every right counts.

use super::Account;
use crate::error::Result;
use crate::sync::room::{Glance, Room};
use crate::vault::Vault;
use selkie_protocol::Face;
use selkie_protocol::Fixed;
use selkie_protocol::id::{Incarnation, RecordId, VaultId};
use selkie_protocol::log::{App, Head, Role};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The app that account vaults belong to.
pub(crate) const OWN_APP: &str = "selkie";
const DEVICES: &str = "devices";
/// How often a device writes down how far it has seen.
const GOSSIP_MS: u64 = 3600 * 1000;

/// What one device tells the others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct DeviceNote {
    /// How far it has seen each vault, the chain value there, and in which life of the server.
    heads: Vec<(VaultId, u64, Fixed<32>, Incarnation)>,
    at_ms: u64,
}

impl Account {
    /// The account's own vault, if this device has met one. Of several, which a race can make, all devices settle on
    /// the one with the lowest id.
    pub(super) async fn own_vault(&self, room: &Arc<Room>) -> Result<Option<Vault>> {
        Ok(self.own_vaults(room).await?.into_iter().next())
    }

    async fn own_vaults(&self, room: &Arc<Room>) -> Result<Vec<Vault>> {
        let (me, kept) = (self.user_id(), room.clone());
        let mut own = Vec::new();
        for id in self.context().edges.apart(move || kept.store.vaults()).await?? {
            let vault = Vault::new(self.clone(), room.clone(), id);
            let glance: Glance = vault.glance().await?;
            if glance.app == OWN_APP && glance.members == [(me, Role::Owner)] {
                own.push(vault);
            }
        }
        Ok(own)
    }

    /// Makes the account's own vault, if there is none here and the server knows of none either.
    pub(super) async fn make_own_vault(&self, room: &Arc<Room>, others_have_one: bool) -> Result<Option<VaultId>> {
        if others_have_one || self.own_vault(room).await?.is_some() {
            return Ok(None);
        }
        let app = App::new(OWN_APP).map_err(|error| crate::Error::ApiMisuse(error.to_string()))?;
        Ok(Some(self.make_vault(app).await?.id()))
    }

    /// Writes down how far this device has seen every vault, hourly, and takes what the others have written as a
    /// promise of the server: it must show at least that. What was written into a vault that all have given up is taken
    /// over.
    pub(super) async fn gossip(&self, room: &Arc<Room>) -> Result<()> {
        let own = self.own_vaults(room).await?;
        let Some((first, given_up)) = own.split_first() else { return Ok(()) };
        let device = RecordId(self.device_id().0);
        let mut here = BTreeSet::new();
        for record in first.records(DEVICES).await? {
            here.insert(record.id);
            if record.id != device {
                self.listen(room, &record.data).await?;
            }
        }
        for vault in given_up {
            for record in vault.records(DEVICES).await?.into_iter().filter(|record| record.id != device) {
                self.listen(room, &record.data).await?;
                if here.insert(record.id) {
                    first.put(DEVICES, record.id, &record.data).await?;
                }
            }
        }
        let now_ms = self.context().now_ms();
        let last = room.shared().gossiped_ms;
        if now_ms.abs_diff(last) < GOSSIP_MS && here.contains(&device) {
            return Ok(());
        }
        let kept = room.clone();
        let mut heads = Vec::new();
        for id in self.context().edges.apart(move || kept.store.vaults()).await?? {
            let glance = Vault::new(self.clone(), room.clone(), id).glance().await?;
            if let Some(incarnation) = glance.incarnation.filter(|_| id != first.id()) {
                heads.push((id, glance.head.n, glance.head.h.into(), incarnation));
            }
        }
        let note = DeviceNote { heads, at_ms: now_ms };
        first.put(DEVICES, device, &Face::Cbor.encode(&note)).await?;
        let kept = room.clone();
        self.context().edges.apart(move || kept.change_shared(|shared| shared.gossiped_ms = now_ms)).await?
    }

    /// Holds what another device has seen against what is known here.
    async fn listen(&self, room: &Arc<Room>, note: &[u8]) -> Result<()> {
        // A note that cannot be read was written by a later version.
        let Ok(note) = Face::Cbor.decode::<DeviceNote>(note) else { return Ok(()) };
        let kept = room.clone();
        let here = self.context().edges.apart(move || kept.store.vaults()).await??;
        for (id, n, h, incarnation) in note.heads.into_iter().filter(|(id, ..)| here.contains(id)) {
            let vault = Vault::new(self.clone(), room.clone(), id);
            let glance = vault.glance().await?;
            let known = glance.head.n >= n && (glance.head.n > n || glance.head.h == *h);
            if known || glance.quarantine.is_some() || glance.behind.is_some() {
                continue;
            }
            vault.alone(async |round| round.heard(Head { n, h: *h }, incarnation).await).await?;
        }
        Ok(())
    }
}
