//! How far a person's devices have come in each vault, beside each other.
//!
//! Owns the comparison of what the other devices have told of themselves with what is here. No request is made: it is
//! as of when each device last told, which it does hourly. Raises no alarm: every sync holds the same notes against the
//! server, and does.

use super::Account;
use crate::error::{Error, Result};
use crate::vault::{Digest, Vault};
use selkie_protocol::id::{DeviceId, VaultId};
use selkie_protocol::log::{Extends, Head};

/// One vault on this person's devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VaultComparison {
    /// Which vault.
    pub vault: VaultId,
    /// What it is called.
    pub name: Option<String>,
    /// Where this device stands.
    pub here: Digest,
    /// Where the others stood when they last told, by their ids. One that does not keep the vault is not among them.
    pub devices: Vec<DeviceDigest>,
}

/// One of the other devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceDigest {
    /// Its id in the account.
    pub device: DeviceId,
    /// Empty while it has not said.
    pub name: String,
    /// When it told, by its own clock.
    pub told_ms: u64,
    /// Where it stood then.
    pub digest: Digest,
    /// How that compares with what is here.
    pub compared: Compared,
}

/// How the history on another device compares with the one here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compared {
    /// It is the same, change for change.
    Same,
    /// It is a part of the one here, which has so many entries more.
    Behind(u64),
    /// It has so many entries more. That the first of them are those here shows with the next sync.
    Ahead(u64),
    /// It is another history.
    Different,
    /// It told before the server was restored from a backup, or stood where this device no longer remembers.
    Unknown,
}

impl Account {
    /// Every vault here, beside how far the person's other devices have told that they have come. No request is made.
    pub async fn compare(&self) -> Result<Vec<VaultComparison>> {
        let room = self.room().await?;
        let (mut notes, log) = (self.device_notes().await?, self.kept().log);
        // What a device told that was sent away says nothing any more.
        notes.retain(|device, _| *device != self.device_id() && log.active_device(device).is_some());
        let kept = room.clone();
        let mut comparisons = Vec::new();
        for id in self.context().edges.apart(move || kept.store.vaults()).await?? {
            let vault = Vault::new(self.clone(), room.clone(), id);
            let glance = match vault.glance().await {
                Err(Error::Damaged { .. }) => continue,
                glance => glance?,
            };
            if self.is_own(&vault).await? {
                continue;
            }
            let mut devices = Vec::new();
            for (device, note) in &notes {
                let Some((_, n, h, life)) = note.heads.iter().find(|(vault, ..)| *vault == id) else { continue };
                let told = Head { n: *n, h: **h };
                let compared = match glance.incarnation == Some(*life) {
                    true => compare(&vault, glance.head, told).await?,
                    false => Compared::Unknown,
                };
                let (name, digest) = (crate::untrusted::clean(&note.name), Digest { n: told.n, h: told.h });
                devices.push(DeviceDigest { device: *device, name, told_ms: note.at_ms, digest, compared });
            }
            let here = Digest { n: glance.head.n, h: glance.head.h };
            let name = match vault.name().await {
                Err(Error::Damaged { .. }) => None,
                name => name?,
            };
            comparisons.push(VaultComparison { vault: id, name, here, devices });
        }
        Ok(comparisons)
    }
}

async fn compare(vault: &Vault, here: Head, told: Head) -> Result<Compared> {
    if told.n > here.n {
        return Ok(Compared::Ahead(told.n - here.n));
    }
    let extends = vault.alone(async |round| {
        round.load().await?;
        Ok(round.replica()?.log.compare(&told))
    });
    Ok(match extends.await? {
        Extends::Yes if told.n == here.n => Compared::Same,
        Extends::Yes => Compared::Behind(here.n - told.n),
        Extends::Forked => Compared::Different,
        Extends::Forgotten | Extends::Shorter => Compared::Unknown,
    })
}
