//! Which vault is meant by a name and an app.
//!
//! Owns the choice among several. The names of vaults are given by whoever owns them, and anybody may make this person
//! a member of theirs: so a vault is meant if one of this person's devices has said so, or if nobody else is in it.

use super::Account;
use crate::alone::was_taken_over;
use crate::error::Result;
use crate::sync::room::Room;
use crate::vault::Vault;
use selkie_protocol::bytes::to_base64url;
use selkie_protocol::hash::sha256;
use selkie_protocol::id::VaultId;
use selkie_protocol::log::{App, Role};
use std::sync::Arc;

/// A vault that is sought.
pub(super) struct Meant<'a> {
    account: &'a Account,
    name: String,
    app: App,
}

impl Account {
    pub(super) fn meant(&self, name: &str, app: &App) -> Meant<'_> {
        Meant { account: self, name: name.to_owned(), app: app.clone() }
    }
}

impl Meant<'_> {
    /// What any of this person's devices meant last.
    pub(super) async fn look_up(&self) -> Result<Option<VaultId>> {
        if self.account.is_alone() {
            return Ok(None);
        }
        let said = self.account.settings().get(&self.key()).await?;
        Ok(said.and_then(|bytes| Some(VaultId(bytes.try_into().ok()?))))
    }

    /// For the other devices, and for the time when others are in it, too.
    pub(super) async fn remember(&self, vault: VaultId) -> Result<()> {
        if self.account.is_alone() {
            return Ok(());
        }
        self.account.settings().put(&self.key(), vault.as_bytes()).await
    }

    /// The vault, if it is here.
    pub(super) async fn find(&self, room: &Arc<Room>, chosen: Option<VaultId>) -> Result<Option<Vault>> {
        let (me, kept) = (self.account.user_id(), room.clone());
        let mut alone_in_it = None;
        for id in self.account.context().edges.apart(move || kept.store.vaults()).await?? {
            let vault = Vault::new(self.account.clone(), room.clone(), id);
            if self.account.is_alone() && vault.read_as_held(was_taken_over).await? {
                continue;
            }
            let glance = vault.glance().await?;
            if glance.app != self.app.as_str() {
                continue;
            }
            let is_ours = glance.members == [(me, Role::Owner)];
            if vault.name().await?.is_some_and(|name| name == crate::untrusted::clean(&self.name)) {
                if chosen == Some(id) && glance.role(&me).is_some_and(|role| role.may_write()) {
                    return Ok(Some(vault));
                }
                if is_ours && alone_in_it.is_none() {
                    alone_in_it = Some(vault);
                }
            }
        }
        Ok(alone_in_it)
    }

    fn key(&self) -> String {
        let name = [self.app.as_str().as_bytes(), b"\0", self.name.as_bytes()].concat();
        format!("selkie/vault/{}", to_base64url(&sha256(&name)))
    }
}
