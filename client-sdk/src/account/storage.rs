//! What the vaults take on this device, what of it may go, whether it is as it was written, and mending it.
//!
//! Owns the order of a repair: what can be read goes into a new store, what is damaged is fetched once more, and what
//! is still to be sent stays. How a vault is fetched is in `sync`; what a store can save of itself is the store's.

use super::{Account, AccountSync};
use crate::error::{Error, Result};
use crate::store::vaults::Usage;
use crate::sync::room::{Room, Shared};
use crate::vault::{INFO_RECORD, Vault, VaultCheck};
use selkie_protocol::Face;
use selkie_protocol::id::{RecordId, VaultId};
use std::sync::Arc;
use std::time::Duration;

/// What the vaults take on this device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageUsage {
    /// Vault by vault, what is kept of it.
    pub vaults: Vec<VaultUsage>,
    /// The store as a whole; what was let go and not given back yet is part of it.
    pub total: u64,
}

/// What a vault takes on this device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VaultUsage {
    /// Which vault.
    pub id: VaultId,
    /// Missing while this device cannot read it.
    pub name: Option<String>,
    /// In bytes.
    pub usage: Usage,
    /// How many records are in memory, opened or by what they are found, until [`Account::clear_caches`].
    pub in_memory: usize,
}

/// What [`Account::check_storage`] has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageCheck {
    /// What is wrong with the store itself, in the store's words.
    pub damage: Vec<String>,
    /// Vault by vault.
    pub vaults: Vec<VaultCheck>,
}

impl StorageCheck {
    /// Everything is as it was written.
    pub fn is_sound(&self) -> bool {
        self.damage.is_empty() && self.vaults.iter().all(VaultCheck::is_sound)
    }
}

/// What [`Account::repair`] has done.
#[derive(Debug, Default)]
pub struct Repair {
    /// The store did not hold together, and was made anew from what could be read. The old file is beside it.
    pub rebuilt: bool,
    /// Vaults that were fetched once more.
    pub fetched: Vec<VaultId>,
    /// Vaults that no server has heard of, and that were put right from what is here.
    pub put_right: Vec<VaultId>,
    /// Vaults whose name is among what was lost: they are found by their id alone, until [`Vault::rename`].
    pub nameless: Vec<VaultId>,
    /// Writes that were not sent yet and cannot be read by anybody any more. What else can be read of these records
    /// stands.
    pub lost_writes: Vec<(VaultId, RecordId)>,
    /// Vaults that could not be mended, and why. What is here of them was left as it is.
    pub failed: Vec<(VaultId, Error)>,
}

impl Account {
    /// What the vaults take on this device. No request is made.
    pub async fn storage(&self) -> Result<StorageUsage> {
        let room = self.room().await?;
        let kept = room.clone();
        let look = move || {
            let usage = |id: VaultId| Ok((id, kept.store.usage(&id)?, kept.slot(&id).view.held()));
            let vaults = kept.store.vaults()?.into_iter().map(usage).collect::<Result<Vec<_>>>()?;
            Ok::<_, Error>((vaults, kept.store.size()?))
        };
        let (used, total) = self.context().edges.apart(look).await??;
        let mut vaults = Vec::with_capacity(used.len());
        for (id, usage, in_memory) in used {
            // Room is taken whether or not it can be read what for.
            let vault = Vault::new(self.clone(), room.clone(), id);
            vaults.push(VaultUsage { id, name: vault.name().await.unwrap_or_default(), usage, in_memory });
        }
        Ok(StorageUsage { vaults, total })
    }

    /// Lets go of what is in memory only so that it need not be read again: for when the platform says that memory is
    /// short, or the app goes to the back. What is asked for next takes its time once.
    pub async fn clear_caches(&self) -> Result<()> {
        let room = self.room().await?;
        // A vault that is large takes a moment to be let go of, too.
        Ok(self.context().edges.apart(move || room.let_go_of_memory()).await?)
    }

    /// Lets go of what records said longer ago than this and say no more, on this device alone: the server and other
    /// devices keep it, and [`Vault::fetch_again`] brings it back as far as the server has it. What is still to be sent
    /// stays, with what it was made from, and so does what a person is to decide. Returns what went.
    pub async fn prune_history(&self, older_than: Duration) -> Result<Usage> {
        let room = self.room().await?;
        let age = u64::try_from(older_than.as_millis()).unwrap_or(u64::MAX);
        let before_ms = self.context().now_ms().saturating_sub(age);
        let prune = move || {
            let mut went = Usage::default();
            for id in room.store.vaults()? {
                let of_vault = room.store.prune(&id, before_ms)?;
                went.history += of_vault.history;
                went.versions += of_vault.versions;
            }
            if went.versions > 0 {
                room.store.shrink()?;
            }
            Ok(went)
        };
        self.context().edges.apart(prune).await?
    }

    /// Reads everything that is kept of vaults and holds it against itself: that the store holds together, that every
    /// record opens in its place, that nothing is missing which the log says is there. No request is made, and nothing
    /// is changed.
    pub async fn check_storage(&self) -> Result<StorageCheck> {
        let room = self.room().await?;
        let check = move || {
            let damage = room.store.damage()?;
            let vaults = room.store.vaults()?;
            let checks = vaults.iter().map(|id| crate::vault::check(&room, id)).collect::<Result<Vec<_>>>()?;
            opens_at_all(&checks)?;
            Ok(StorageCheck { damage, vaults: checks })
        };
        self.context().edges.apart(check).await?
    }

    /// Mends what this device keeps of vaults: see [`Error::Damaged`]. What can be read stays, what is damaged is
    /// fetched from the server once more, and what was not sent yet is kept. Where everything is as it should be,
    /// nothing is done.
    pub async fn repair(&self) -> Result<Repair> {
        let (room, rebuilt) = self.room_that_holds_together().await?;
        let mut repair = Repair { rebuilt, ..Repair::default() };
        let kept = room.clone();
        let check = move || {
            let vaults = kept.store.vaults()?;
            let checks = vaults.iter().map(|id| crate::vault::check(&kept, id)).collect::<Result<Vec<_>>>()?;
            opens_at_all(&checks)?;
            // Vaults that are gone are found again by a poll that asks for all of them.
            kept.change_shared(|shared| shared.poll = None)?;
            Ok::<_, Error>(checks)
        };
        for check in self.context().edges.apart(check).await?? {
            let vault = Vault::new(self.clone(), room.clone(), check.id);
            // What is not on the server yet cannot have lost anything that is there.
            if check.is_sound() && (!rebuilt || !check.on_server) {
                if rebuilt && self.is_alone() && vault.name().await?.is_none() {
                    repair.nameless.push(check.id);
                }
                continue;
            }
            let is_elsewhere = check.on_server && !self.is_alone();
            let lost = match is_elsewhere {
                true => vault.alone(async |round| round.fetch_again().await).await,
                false => put_right(&vault, &check).await,
            };
            match lost {
                Ok(lost) => {
                    let mended = if is_elsewhere { &mut repair.fetched } else { &mut repair.put_right };
                    mended.push(check.id);
                    if lost.contains(&INFO_RECORD) && matches!(vault.name().await, Ok(None)) {
                        repair.nameless.push(check.id);
                    }
                    repair.lost_writes.extend(lost.into_iter().map(|record| (check.id, record)));
                }
                Err(error) => repair.failed.push((check.id, error)),
            }
            vault.slot.forget();
            room.ring(&check.id);
        }
        if rebuilt && !self.is_alone() {
            let AccountSync { vaults } = self.sync().await?;
            let failed = vaults.into_iter().filter_map(|(id, done)| Some((id, done.err()?)));
            repair.failed.extend(failed.filter(|(id, _)| !repair.fetched.contains(id)).collect::<Vec<_>>());
        }
        Ok(repair)
    }

    /// The room, over a store that was made anew if it does not hold together.
    async fn room_that_holds_together(&self) -> Result<(Arc<Room>, bool)> {
        let edges = &self.context().edges;
        let room = match self.room().await {
            Ok(room) => room,
            Err(Error::Damaged { source, .. }) => {
                let (context, folder) = (self.0.context.clone(), self.0.folder.clone());
                let mend = move || match source {
                    Some(_) => context.vault_stores.rebuild(&folder).map(drop),
                    // What all vaults share is found out again.
                    None => {
                        let store = context.vault_stores.open(&folder)?;
                        let before = store.account()?;
                        store.keep_account(before.as_deref(), &Face::Cbor.encode(&Shared::default())).map(drop)
                    }
                };
                edges.apart(mend).await??;
                return Ok((self.room().await?, true));
            }
            Err(error) => return Err(error),
        };
        let _alone = room.polling.lock().await;
        let kept = room.clone();
        edges.apart(move || kept.mend_shared()).await??;
        let kept = room.clone();
        if edges.apart(move || kept.store.damage()).await??.is_empty() {
            drop(_alone);
            return Ok((room, false));
        }
        let kept = room.clone();
        room.turned_over(async || edges.apart(move || kept.store.rebuild()).await).await??;
        drop(_alone);
        Ok((room, true))
    }
}

/// Mends a vault from what is here, since it cannot be had from anywhere else. Where that is not enough, nothing goes.
async fn put_right(vault: &Vault, check: &VaultCheck) -> Result<Vec<RecordId>> {
    if check.log.is_some() || !check.damaged.is_empty() || !check.missing.is_empty() {
        let why = "the vault itself is damaged, not only what was written last, and no server has it: an older copy of \
            the folder is the only help";
        return Err(Error::NotPossible(why.into()));
    }
    vault.alone(async |round| round.give_up_what_cannot_be_read().await).await
}

/// Where nothing opens, it is not what is kept that is another, but the key.
fn opens_at_all(checks: &[VaultCheck]) -> Result<()> {
    let opened: u64 = checks.iter().map(|check| check.opened).sum();
    let closed = checks.iter().map(|check| check.damaged.len() + check.unreadable_writes.len()).sum::<usize>();
    match opened == 0 && closed > 0 {
        true => Err(Error::Locked("nothing that is kept here opens with this device's key".into())),
        false => Ok(()),
    }
}
