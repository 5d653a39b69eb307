//! Vaults that this device leaves out: the server and other devices have them, and nothing of them lies here.
//!
//! Owns which these are, dropping a vault from the device, and having it again. What only this device has is not
//! dropped by mistake.

use super::Account;
use crate::api::Contents;
use crate::error::{Error, Result};
use crate::sync::room::{LeftOutNote, Room};
use crate::untrusted::clean;
use crate::vault::{INFO_RECORD, Vault};
use selkie_protocol::id::VaultId;
use selkie_protocol::log::Head;
use std::sync::Arc;

/// A vault that this device leaves out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Which vault; for [`Account::fetch_vault`].
    pub id: VaultId,
    /// What it was called when it was here. Missing if it never was.
    pub name: Option<String>,
}

/// What becomes of work that only this device has, when a vault is dropped from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsent {
    /// The vault stays, and the error says why.
    Keep,
    /// It is lost.
    GiveUp,
}

impl Vault {
    /// Drops the vault from this device: nothing of it lies here any more, and syncs leave it alone until
    /// [`Account::fetch_vault`]. The server and other devices keep it.
    pub async fn leave_out(&self, unsent: Unsent) -> Result<()> {
        let glance = self.glance().await?;
        if glance.app == super::OWN_APP {
            return Err(Error::NotPossible(
                "that vault is what the account's devices tell each other: it stays".into(),
            ));
        }
        let only_here = !glance.born || glance.behind.is_some() || glance.reset_offered.is_some();
        if unsent == Unsent::Keep && (only_here || glance.quarantine.is_some()) {
            return Err(Error::NotPossible("what this device has of the vault is not safe on the server".into()));
        }
        let name = match self.name().await {
            Err(Error::Damaged { .. }) => None,
            name => name?,
        };
        let seen = glance.incarnation.map(|life| (glance.head.n, glance.head.h.into(), life));
        let here = self.here();
        let mut place = here.slot.replica.lock().await;
        let dropped = here
            .read_as_held(move |room, vault| {
                let sealed = name.map(|name| room.at_rest.seal_record(vault, &INFO_RECORD, name.as_bytes()).into());
                // Before it is gone: or a sync would find it on the server and think that it is new.
                let note = LeftOutNote { id: *vault, name: sealed, seen, wanted: false, headers_first: false };
                let mut before = None;
                room.change_shared(|shared| {
                    before = shared.note_of(vault).cloned();
                    shared.leave_out(note.clone());
                })?;
                let dropped = match unsent {
                    Unsent::GiveUp => room.store.forget(vault).map(|()| true),
                    Unsent::Keep => room.store.forget_if_sent(vault),
                };
                if !matches!(dropped, Ok(true)) {
                    room.change_shared(|shared| {
                        shared.left_out.retain(|note| note.id != *vault);
                        shared.left_out.extend(before.clone());
                    })?;
                }
                Ok((dropped?, room.store.counts(vault)?.pending))
            })
            .await;
        *place = None;
        drop(place);
        here.slot.forget();
        here.room.ring(&here.id());
        match dropped? {
            (true, _) => Ok(()),
            (false, pending) => Err(Error::NotPossible(format!(
                "{pending} writes to the vault are not on the server yet: sync first, or give them up"
            ))),
        }
    }
}

impl Account {
    /// The vaults that this device leaves out: those that were dropped, and those that were found while
    /// [`Account::leave_new_vaults_out`] held. No request is made.
    pub async fn left_out(&self) -> Result<Vec<LeftOut>> {
        let room = self.room().await?;
        let notes: Vec<LeftOutNote> = room.shared().unwanted().cloned().collect();
        let name = |note: &LeftOutNote| {
            let sealed = note.name.as_ref()?;
            let plain = room.at_rest.open_record(&note.id, &INFO_RECORD, sealed).ok()?;
            Some(clean(&String::from_utf8_lossy(&plain)))
        };
        Ok(notes.iter().map(|note| LeftOut { id: note.id, name: name(note) }).collect())
    }

    /// Whether vaults that are new to this device are left out until somebody asks for them. For a device with little
    /// room. The default is that they are fetched.
    pub async fn leave_new_vaults_out(&self, leave: bool) -> Result<()> {
        let room = self.room().await?;
        let change = move || room.change_shared(|shared| shared.leaves_new_out = leave);
        self.context().edges.apart(change).await?
    }

    /// Has a vault on this device again that was left out, and comes into step with it. If the server cannot be
    /// reached, it is fetched with the next sync.
    pub async fn fetch_vault(&self, id: VaultId) -> Result<Vault> {
        self.fetch(id, Contents::Now).await
    }

    /// The same for a device that is in a hurry, or has little room: of a long history it takes what proves which
    /// records there are, and leaves for later what they say; see [`Vault::elsewhere`], [`Vault::fetch_records`] and
    /// [`Vault::fetch_all_records`]. What is written from now on comes as always. A vault that has no checkpoint yet
    /// is short and comes whole; so does one whose newest checkpoint stands on its author's word alone.
    pub async fn fetch_vault_headers_first(&self, id: VaultId) -> Result<Vault> {
        self.fetch(id, Contents::Later).await
    }

    async fn fetch(&self, id: VaultId, contents: Contents) -> Result<Vault> {
        let room = self.room().await?;
        let vault = Vault::new(self.clone(), room.clone(), id);
        {
            let _alone = room.polling.lock().await;
            let kept = room.clone();
            let ask_for = move || {
                kept.change_shared(|shared| {
                    let asked_for = shared.left_out.iter_mut().filter(|note| note.id == id);
                    asked_for.for_each(|note| {
                        note.wanted = true;
                        note.headers_first = contents == Contents::Later;
                    });
                    shared.poll = None;
                })?;
                Ok::<_, Error>(kept.store.vaults()?.contains(&id))
            };
            if !self.context().edges.apart(ask_for).await?? {
                self.join(&vault).await?;
            }
        }
        vault.come_in(contents).await?;
        self.hold_to_what_was_seen(&vault).await?;
        Ok(vault)
    }

    /// A vault that was left out and is here again must say all that it said before: that it was not here for a while
    /// is no reason to take less.
    pub(super) async fn hold_to_what_was_seen(&self, vault: &Vault) -> Result<()> {
        let (room, id) = (vault.room.clone(), vault.id());
        let note = room.shared().note_of(&id).cloned();
        let Some(note) = note else { return Ok(()) };
        let headers_first = note.wanted && note.headers_first;
        let held = note.clone();
        if let Some((n, h, life)) = note.seen {
            vault.alone(async |round| round.heard(Head { n, h: *h }, life, None).await).await?;
            if vault.digest().await?.n < n {
                vault.sync().await?;
            }
        }
        if headers_first {
            // What the vault is called is among what its records say.
            vault.fetch_records(&[INFO_RECORD]).await?;
        }
        let settle = move || room.change_shared(|shared| shared.left_out.retain(|note| *note != held || !note.wanted));
        self.context().edges.apart(settle).await?
    }

    /// Of vaults that are new to this device, those to fetch; the others are left out from now on.
    pub(super) async fn to_be_fetched(&self, room: &Arc<Room>, new: Vec<(VaultId, bool)>) -> Result<Vec<VaultId>> {
        let kept = room.clone();
        let sort = move || {
            let mut fetched = Vec::new();
            kept.change_shared(|shared| {
                fetched.clear();
                for (id, is_own) in new.iter().copied() {
                    match shared.note_of(&id) {
                        Some(note) if !note.wanted => {}
                        None if shared.leaves_new_out && !is_own => {
                            shared.leave_out(LeftOutNote {
                                id,
                                name: None,
                                seen: None,
                                wanted: false,
                                headers_first: false,
                            });
                        }
                        _ => fetched.push(id),
                    }
                }
            })?;
            Ok(fetched)
        };
        self.context().edges.apart(sort).await?
    }
}
