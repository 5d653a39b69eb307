//! Keys of epochs, sealed to members; and the account logs of fellow members, which say to whom to seal.

use super::Logs;
use super::author::{Author, Reader};
use super::ground::are_for_members;
use super::refusal::{Refusal, Result};
use crate::auth::Caller;
use crate::auth::account::LOG_PAGE;
use crate::limits::{Action, Key};
use crate::store::WrapRow;
use selkie_protocol::Bytes;
use selkie_protocol::account::LogPage;
use selkie_protocol::id::{UserId, VaultId};
use selkie_protocol::vault::{Wrap, WrapBytes, Wraps};
use std::net::IpAddr;

impl Logs {
    /// `GET /v1/vaults/{vid}/wraps`
    pub async fn wraps(&self, caller: &Caller, vid: VaultId) -> Result<Wraps> {
        // Who was removed has none of a key that came later.
        let (reader, at, _) = self.room.for_reader(caller, vid).await?;
        let rows = self.room.office.vaults.wraps(at, reader.account).await?;
        let wraps = rows.into_iter().map(|row| {
            let sealed = WrapBytes::from(<[u8; _]>::try_from(row.sealed).ok()?);
            Some(Wrap { uid: row.user, epoch: row.epoch, generation: row.generation, sealed })
        });
        let wraps = wraps.collect::<Option<Vec<_>>>().ok_or_else(|| Refusal::broken("a sealed key is damaged"))?;
        Ok(Wraps { wraps })
    }

    /// `POST /v1/vaults/{vid}/wraps`
    pub async fn add_wraps(&self, caller: &Caller, from: IpAddr, vid: VaultId, request: Wraps) -> Result<()> {
        self.count(caller, Action::Push, &[Key::Address(from), Key::Account(caller.account_uuid())])?;
        Author::of(caller)?;
        let (reader, at, known) = self.room.for_member(caller, vid).await?;
        if !super::member(&known, reader)?.role.may_write() {
            return Err(Refusal::Forbidden("only who may write adds keys"));
        }
        let wraps = rows(request.wraps);
        are_for_members(&wraps, known.core.governance())?;
        if !wraps.is_empty() {
            self.room.office.vaults.add_wraps(at, wraps).await?;
        }
        Ok(())
    }

    /// `GET /v1/people/{uid}/log?from=n`: whoever knows the name of somebody in the same tenant may see what devices
    /// and keys they have, as anybody must who shares a vault with them.
    pub async fn person(&self, caller: &Caller, user: UserId, from: u64) -> Result<LogPage> {
        let Reader { tenant, .. } = Reader::of(caller)?;
        let page = self.room.office.vaults.log_of_user(tenant, user, from, LOG_PAGE).await?;
        let (entries, length) = page.ok_or(Refusal::NotFound("person"))?;
        Ok(LogPage { from, entries: entries.into_iter().map(Bytes).collect(), length })
    }
}

/// As the store keeps them.
pub(super) fn rows(wraps: Vec<Wrap>) -> Vec<WrapRow> {
    let row = |wrap: Wrap| WrapRow {
        user: wrap.uid,
        epoch: wrap.epoch,
        generation: wrap.generation,
        sealed: wrap.sealed.0.to_vec(),
    };
    wraps.into_iter().map(row).collect()
}
