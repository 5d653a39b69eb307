//! The account's own vault: what a person's devices tell each other.
//!
//! Owns its making, its settling if two devices made one at once, and gossip: how far each device has seen every vault.
//! A server that wants to show two devices two logs would have to keep all their vaults apart, for ever. Which vault is
//! the account's own is not for the server to say: only one in which this person is alone with every right counts.

use super::Account;
use super::settings::own_app;
use crate::error::{Error, Result};
use crate::sync::backoff::Backoff;
use crate::sync::room::{Glance, Room, Shared};
use crate::vault::{Record, Vault};
use selkie_protocol::Face;
use selkie_protocol::Fixed;
use selkie_protocol::id::{DeviceId, Incarnation, RecordId, VaultId};
use selkie_protocol::log::{Head, Role, SignedHead};
use selkie_protocol::vault::SignedHeadBytes;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The app that account vaults belong to.
pub(crate) const OWN_APP: &str = "selkie";
const DEVICES: &str = "devices";
/// How often a device writes down how far it has seen.
const GOSSIP_MS: u64 = 3600 * 1000;

/// What one device tells the others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct DeviceNote {
    /// How far it has seen each vault, the chain value there, and in which life of the server.
    pub(super) heads: Vec<(VaultId, u64, Fixed<32>, Incarnation)>,
    pub(super) at_ms: u64,
    /// What it is called.
    pub(super) name: String,
    /// What the server has signed of these, so that whoever finds it lying has the proof.
    signed: Vec<SignedHeadBytes>,
    /// The lives of the server that it has met, in their order.
    lives: Vec<Incarnation>,
}

/// A device of this person, as it has last told of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownDevice {
    /// Its id in the account.
    pub id: DeviceId,
    /// Empty while it has not said.
    pub name: String,
    /// By its own clock.
    pub last_seen_ms: u64,
    /// How many vaults it has told of.
    pub vaults: usize,
}

impl Account {
    /// The account's own vault, if this device has met one. Of several, which a race can make, all devices settle on
    /// the one with the lowest id.
    pub(super) async fn own_vault(&self, room: &Arc<Room>) -> Result<Option<Vault>> {
        Ok(self.own_vaults(room).await?.into_iter().next())
    }

    pub(super) async fn own_vaults(&self, room: &Arc<Room>) -> Result<Vec<Vault>> {
        let (me, kept) = (self.user_id(), room.clone());
        let mut own = Vec::new();
        for id in self.context().edges.apart(move || kept.store.vaults()).await?? {
            let vault = Vault::new(self.clone(), room.clone(), id);
            let glance: Glance = match vault.glance().await {
                // It cannot be told what it is; that is said where somebody uses it.
                Err(Error::Damaged { .. }) => continue,
                glance => glance?,
            };
            if glance.app == OWN_APP && glance.members == [(me, Role::Owner)] {
                own.push(vault);
            }
        }
        Ok(own)
    }

    pub(super) async fn is_own(&self, vault: &Vault) -> Result<bool> {
        Ok(self.own_vaults(&vault.room).await?.iter().any(|own| own.id() == vault.id()))
    }

    /// Makes the account's own vault, if there is none here and the server knows of none either.
    pub(super) async fn make_own_vault(&self, room: &Arc<Room>, others_have_one: bool) -> Result<Option<VaultId>> {
        let _alone = room.making_own.lock().await;
        if others_have_one || self.own_vault(room).await?.is_some() {
            return Ok(None);
        }
        Ok(Some(self.make_vault(own_app()?, None).await?.id()))
    }

    /// After a device came in: what it is called, for the others. And with a new account, its own vault. What cannot be
    /// done now is done with the first sync.
    pub(crate) async fn settle_in(&self, device_name: &str, is_new: bool) {
        if let Err(error) = self.try_to_settle_in(device_name, is_new).await {
            tracing::info!(%error, "the account's own vault waits for the first sync");
        }
    }

    async fn try_to_settle_in(&self, device_name: &str, is_new: bool) -> Result<()> {
        let room = self.room().await?;
        let (kept, name) = (room.clone(), device_name.to_owned());
        let name_it = move || kept.change_shared(|shared| shared.device_name.clone_from(&name));
        self.context().edges.apart(name_it).await??;
        if is_new && self.make_own_vault(&room, false).await?.is_some() {
            let own = self.own_vault(&room).await?;
            if let Some(own) = own {
                own.sync_known(false, 0, Backoff::of_one_try()).await?;
            }
        }
        Ok(())
    }

    /// The devices that have told of themselves, this one among them. No request is made; [`Account::devices`] asks the
    /// server and checks its answer against the account log.
    pub async fn known_devices(&self) -> Result<Vec<KnownDevice>> {
        let known = |(id, note): (DeviceId, DeviceNote)| {
            let name = crate::untrusted::clean(&note.name);
            KnownDevice { id, name, last_seen_ms: note.at_ms, vaults: note.heads.len() }
        };
        Ok(self.device_notes().await?.into_iter().map(known).collect())
    }

    /// What each device has last told, this one among them.
    pub(super) async fn device_notes(&self) -> Result<BTreeMap<DeviceId, DeviceNote>> {
        let room = self.room().await?;
        let mut notes: BTreeMap<DeviceId, DeviceNote> = BTreeMap::new();
        for own in self.own_vaults(&room).await? {
            for record in own.records(DEVICES).await? {
                let device = DeviceId(record.id.0);
                // A note that cannot be read was written by a later version.
                let Ok(note) = Face::Cbor.decode::<DeviceNote>(&record.data) else { continue };
                if notes.get(&device).is_none_or(|known| known.at_ms < note.at_ms) {
                    notes.insert(device, note);
                }
            }
        }
        Ok(notes)
    }

    /// Writes down how far this device has seen every vault, hourly, and takes what the others have written as a
    /// promise of the server: it must show at least that. What was written into a vault that all have given up is taken
    /// over. Returns the vaults that were opened for this alone and do not get on by themselves, and why.
    pub(super) async fn gossip(&self, room: &Arc<Room>) -> Result<Vec<(VaultId, Error)>> {
        let mut trouble = Vec::new();
        let own = self.own_vaults(room).await?;
        let Some((first, given_up)) = own.split_first() else { return Ok(trouble) };
        let device = RecordId(self.device_id().0);
        let present = first.glance().await?.incarnation;
        let mut here = BTreeSet::new();
        for record in first.records(DEVICES).await? {
            here.insert(record.id);
            if record.id != device {
                trouble.extend(self.listen(room, &record, present).await?);
            }
        }
        for vault in given_up {
            for record in vault.records(DEVICES).await?.into_iter().filter(|record| record.id != device) {
                trouble.extend(self.listen(room, &record, present).await?);
                if here.insert(record.id) {
                    first.put(DEVICES, record.id, &record.data).await?;
                }
            }
        }
        let now_ms = self.context().now_ms();
        let last = room.shared().gossiped_ms;
        if now_ms.abs_diff(last) < GOSSIP_MS && here.contains(&device) {
            return Ok(trouble);
        }
        let kept = room.clone();
        let (mut heads, mut signed) = (Vec::new(), Vec::new());
        for id in self.context().edges.apart(move || kept.store.vaults()).await?? {
            // One that is damaged was told of when it was to come into step.
            let glance = match Vault::new(self.clone(), room.clone(), id).glance().await {
                Err(Error::Damaged { .. }) => continue,
                glance => glance?,
            };
            if let Some(incarnation) = glance.incarnation.filter(|_| id != first.id()) {
                heads.push((id, glance.head.n, glance.head.h.into(), incarnation));
                signed.extend(glance.reached);
            }
        }
        let (name, lives) = {
            let shared = room.shared();
            (shared.device_name.clone(), shared.lives.clone())
        };
        let note = DeviceNote { heads, at_ms: now_ms, name, signed, lives };
        first.put(DEVICES, device, &Face::Cbor.encode(&note)).await?;
        let kept = room.clone();
        self.context().edges.apart(move || kept.change_shared(|shared| shared.gossiped_ms = now_ms)).await??;
        // At once: who has just come into step has nothing that waits.
        match first.sync_known(true, 0, Backoff::of_one_try()).await {
            Ok(_) => {}
            Err(error) if error.is_retryable() => {
                tracing::info!(%error, "what this device tells the others waits for the next round");
            }
            Err(error) => trouble.push((first.id(), error)),
        }
        Ok(trouble)
    }

    /// Holds what another device has seen against what is known here, in the life of the server in which its note was
    /// read. Returns the vaults that are damaged here.
    async fn listen(
        &self,
        room: &Arc<Room>,
        told: &Record,
        present: Option<Incarnation>,
    ) -> Result<Vec<(VaultId, Error)>> {
        let mut damaged = Vec::new();
        // A note that cannot be read was written by a later version.
        let Ok(note) = Face::Cbor.decode::<DeviceNote>(&told.data) else { return Ok(damaged) };
        let teller = DeviceId(told.id.0);
        let kept = room.clone();
        let here = self.context().edges.apart(move || kept.store.vaults()).await??;
        let signed: Vec<SignedHead> =
            note.signed.iter().filter_map(|head| SignedHead::parse(head.as_ref()).ok()).collect();
        let is_over = present.is_some_and(|present| Shared::is_over(&note.lives, present));
        let mut is_told = false;
        for (id, n, h, incarnation) in note.heads.into_iter().filter(|(id, ..)| here.contains(id)) {
            let vault = Vault::new(self.clone(), room.clone(), id);
            let glance = match vault.glance().await {
                Err(Error::Damaged { .. }) => continue,
                glance => glance?,
            };
            let head = Head { n, h: *h };
            let proof = signed.iter().find(|head| head.vault == id && head.head.n == n).cloned();
            is_told |= glance.quarantine.is_some();
            if is_over && glance.quarantine.is_none() && Some(incarnation) != present {
                match vault.alone(async |round| round.heard_of_another_life(proof).await).await {
                    Err(Error::Quarantined(_)) => is_told = true,
                    // It is heard again in the next round, and the other vaults are set apart meanwhile.
                    Err(error) => tracing::warn!(%error, "a vault could not be set apart"),
                    Ok(()) => {}
                }
                continue;
            }
            // A head behind ours may be one of another log, which a look at ours tells.
            let known = glance.head == head || vault.slot.was_compared(&teller, &head);
            let in_this_life = glance.incarnation == Some(incarnation);
            if known || !in_this_life || glance.quarantine.is_some() || glance.behind.is_some() {
                continue;
            }
            match vault.alone(async |round| round.heard(head, incarnation, proof).await).await {
                Err(error @ Error::Damaged { .. }) => {
                    damaged.push((id, error));
                    continue;
                }
                // Another program goes on with it. It is heard again in the next round.
                Err(error) if error.is_retryable() => {
                    tracing::info!(%error, "what a device tells of a vault waits for the next round");
                    continue;
                }
                heard => heard?,
            }
            if n <= glance.head.n {
                vault.slot.note_compared(teller, head);
            }
        }
        if is_over && !is_told { Err(self.two_lives().await) } else { Ok(damaged) }
    }
}
