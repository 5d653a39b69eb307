//! How what a device kept by itself becomes an account's.
//!
//! Owns the order: whose it is going to be is written down first, then the records are written into the account's vault
//! like any write of an app, then every handle becomes one of that vault, and only then are they taken from where they
//! were. Whatever is cut off is done again from the start and ends the same.

use super::carry;
use crate::account::Account;
use crate::client::Client;
use crate::error::Result;
use crate::store::vaults::Shelf;
use crate::sync::backoff::Backoff;
use crate::sync::room::Room;
use crate::vault::{INFO_RECORD, Vault};
use selkie_protocol::id::{UserId, VaultId};
use std::sync::Arc;

/// Under this name a vault that was begun to be taken over keeps by whom.
const TAKEN_BY: Shelf = *b"taken over by...";

/// What an account has taken over from a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attached {
    /// The vaults in which it lies now.
    pub vaults: Vec<VaultId>,
    /// Records that were new to the account, or said something else there.
    pub records: u64,
}

impl Client {
    /// Takes over for an account whatever this device has kept by itself: into the account's vaults of the same name
    /// and app, which are made if there are none. Records keep their ids; what the account says already is left alone.
    /// Signing up and in do this by themselves, and so does every sync until it is done.
    pub async fn attach(&self, account: &Account) -> Result<Attached> {
        let attached = self.attach_after(account, false).await?;
        if !attached.vaults.is_empty() {
            account.sync_round(Backoff::of_one_try()).await?;
        }
        Ok(attached)
    }

    /// After a sign-up or a sign-in. What cannot be done now is done with the first sync that works.
    pub(crate) async fn bring_along(&self, account: &Account, is_new: bool) {
        let done = match self.attach_after(account, is_new).await {
            Ok(attached) if attached.vaults.is_empty() => Ok(()),
            Ok(_) => account.sync_round(Backoff::of_one_try()).await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            tracing::info!(%error, "what this device kept by itself waits for the first sync");
        }
    }

    /// After a sync of that account: true if there was anything left.
    pub(crate) async fn catch_up(&self, account: &Account) -> Result<bool> {
        if self.stand().await?.is_none()
            || self.home().await?.is_none_or(|(_, home)| home.user_id() != account.user_id())
        {
            return Ok(false);
        }
        Ok(!self.attach_after(account, true).await?.vaults.is_empty())
    }

    /// `knows_its_vaults`: the account is new, or has just come into step.
    async fn attach_after(&self, account: &Account, knows_its_vaults: bool) -> Result<Attached> {
        let _alone = self.0.alone.attaching.lock().await;
        if self.home().await?.is_none_or(|(_, home)| home.user_id() != account.user_id()) {
            // Whose it is going to be is known from here on, whatever is cut off.
            self.keep_home(account.user_id(), false).await?;
        }
        let waiting = self.waiting_for(account.user_id()).await?;
        self.keep_home(account.user_id(), waiting.is_empty()).await?;
        if waiting.is_empty() {
            return Ok(Attached::default());
        }
        if !knows_its_vaults {
            // Else a second vault of a name would be made beside the one that the account has.
            let mut round = account.sync_round(Backoff::of_one_try()).await?;
            if let Some(at) = round.vaults.iter().position(|(_, done)| done.as_ref().is_err_and(|e| e.is_retryable())) {
                round.vaults.swap_remove(at).1?;
            }
        }
        let mut attached = Attached::default();
        for from in waiting {
            let (to, records) = take_over(&from, account).await?;
            attached.vaults.push(to);
            attached.records += records;
        }
        self.keep_home(account.user_id(), true).await?;
        tracing::info!(vaults = attached.vaults.len(), "what this device kept by itself is the account's now");
        Ok(attached)
    }

    /// The vaults in which something lies that is nobody's so far, or was begun to become this person's.
    async fn waiting_for(&self, user: UserId) -> Result<Vec<Vault>> {
        let Some(stand) = self.stand().await? else { return Ok(Vec::new()) };
        let room = stand.room().await?;
        let kept = room.clone();
        let look = move || {
            let mut waiting = Vec::new();
            for id in kept.store.vaults()? {
                let begun_by_another = kept.store.note(&id, &TAKEN_BY)?.is_some_and(|by| by != user.as_bytes());
                if !begun_by_another && !was_taken_over(&kept, &id)? {
                    waiting.push(id);
                }
            }
            Ok::<_, crate::Error>(waiting)
        };
        let waiting = self.context().edges.apart(look).await??;
        Ok(waiting.into_iter().map(|id| Vault::new(stand.clone(), room.clone(), id)).collect())
    }
}

/// Whether all that was in a vault of the device's own is an account's now. What stays of it is its name.
pub(crate) fn was_taken_over(room: &Room, id: &VaultId) -> Result<bool> {
    let begun = room.store.note(id, &TAKEN_BY)?.is_some();
    Ok(begun && room.store.outbox(id, 2)?.iter().all(|pending| pending.record == INFO_RECORD))
}

/// Where it lies now, and how many records were new there.
async fn take_over(from: &Vault, account: &Account) -> Result<(VaultId, u64)> {
    let (id, user) = (from.id_as_held(), account.user_id());
    let mark = move |room: &Room, id: &VaultId| Ok(room.store.keep_note(id, &TAKEN_BY, user.as_bytes())?);
    from.read_as_held(mark).await?;
    // What was written late, when the vault was taken over already, goes where that went.
    let before = from.slot.became().filter(|vault| vault.me() == user).map(|vault| vault.id());
    let to = match before {
        Some(before) => account.vault_by_id(before).await?,
        None => None,
    };
    let to = match to {
        Some(to) => to,
        None => account.vault_of(&from.name().await?.unwrap_or_default(), &from.glance().await?.app).await?,
    };
    let context = account.context();
    let by = Arc::new(carry::By { collections: context.collections.clone(), now_ms: context.now_ms() });
    let mut records = 0;
    loop {
        let (there, here, place, into, by) = (from.room.clone(), to.room.clone(), id, to.id(), by.clone());
        let carried = context.edges.apart(move || carry::over(&there, &place, &here, &into, &by));
        let carried = carried.await??;
        records += carried.records;
        from.slot.become_another(to.clone());
        if carried.seqs.is_empty() {
            return Ok((to.id(), records));
        }
        let there = from.room.clone();
        account.context().edges.apart(move || carry::take_away(&there, &id, &carried.seqs)).await??;
    }
}
