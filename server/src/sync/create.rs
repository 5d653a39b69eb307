//! Making a vault: its first entry, and the key of its first epoch for who made it.

use super::author::{Author, Reader};
use super::ground::are_for_members;
use super::known::Known;
use super::news::Moved;
use super::refusal::{Refusal, Result};
use super::wraps::rows;
use super::{Logs, NAME_WEIGHT};
use crate::auth::Caller;
use crate::limits::{Action, Key};
use crate::store::{NewEntry, NewVault, Place, Refused, StoreError};
use selkie_protocol::log::{self, Body, Control, Core, Effects, Frame};
use selkie_protocol::vault::{CreateVault, Pushed};
use std::collections::HashMap;
use std::sync::Arc;

impl Logs {
    /// `POST /v1/vaults`
    pub async fn create(&self, caller: &Caller, request: CreateVault) -> Result<Pushed> {
        self.count(caller, Action::Push, &[Key::Account(caller.account_uuid())])?;
        let (author, reader) = (Author::of(caller)?, Reader::of(caller)?);
        let frame = Frame::parse(&request.frame).map_err(log::Refusal::Malformed)?;
        let header = &frame.entry.header;
        if (header.user, header.device) != (author.user, author.device) {
            return Err(Refusal::Forbidden("an entry is pushed by the device that signed it"));
        }
        let Body::Control(Control::Create(create)) = &frame.entry.body else {
            return Err(log::Refusal::NotCreate.into());
        };
        let office = &self.room.office;
        let now = office.edges.now_ms();
        let space = self.room.spaces.take(&*office.vaults, author.tenant, request.frame.len() as u64, now).await?;
        let needed = HashMap::from([((author.tenant, author.user), create.anchor.index)]);
        let crowd = office.people.gather(needed).await?;
        let (core, effects) = Core::create(&frame.entry, &crowd.of(author.tenant))?;
        let plan = self.room.tenant(author.tenant).await?;
        let wraps = rows(request.wraps);
        are_for_members(&wraps, core.governance())?;
        let new = NewVault {
            vid: core.vault(),
            app: core.app().as_str().to_owned(),
            creator: reader.account,
            entry: first_entry(&effects, request.frame.0.clone(), now),
            state: core.to_bytes(),
            wraps,
            max_vaults: Some(plan.max_vaults.unwrap_or(self.room.policy.max_vaults)),
        };
        // A task of its own: a caller that goes away must not take along what is to be told of it.
        let making = tokio::spawn({
            let (office, tenant) = (office.clone(), author.tenant);
            let (vid, app, members) = (core.vault(), new.app.clone(), Some(vec![author.user]));
            async move {
                let vault = office.vaults.create_vault(tenant, new).await?;
                space.keep();
                let at = Place { tenant, vault };
                office.news.created(&Moved { at, vault: vid, app, n: 1, members }, tenant, reader.account);
                Ok(at)
            }
        });
        let at = match making.await.map_err(|_| Refusal::Overloaded)? {
            Err(StoreError::Refused(Refused::IdTaken(_))) => return self.created_before(caller, &effects, &core).await,
            made => made?,
        };
        self.room.names.put((author.tenant, core.vault()), at.vault, NAME_WEIGHT);
        let known = Arc::new(Known::new(core));
        office.cores.put(at, known.clone(), known.weight());
        Ok(Pushed { n: 1, head: office.sign(known.core.vault(), known.head()) })
    }

    /// The same entry came before: it is answered as then.
    async fn created_before(&self, caller: &Caller, effects: &Effects, core: &Core) -> Result<Pushed> {
        let (_, at, known) = self.room.for_member(caller, core.vault()).await?;
        let first = self.room.office.vaults.entry_hashes(at, 1, 1).await?;
        if first != [effects.entry] {
            return Err(Refusal::Conflict("there is another vault of this name"));
        }
        Ok(Pushed { n: 1, head: self.room.office.sign(core.vault(), known.head()) })
    }
}

fn first_entry(effects: &Effects, frame: Vec<u8>, received_at: i64) -> NewEntry {
    NewEntry {
        head: effects.head,
        hash: effects.entry,
        device: effects.device,
        dev_seq: effects.dev_seq,
        is_control: true,
        is_checkpoint: false,
        frame,
        received_at,
        adds: Vec::new(),
        supersedes: Vec::new(),
        no_longer_heads: Vec::new(),
        forgets: Vec::new(),
    }
}
