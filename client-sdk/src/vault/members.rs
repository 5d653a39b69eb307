//! Who is in a vault, and changing that.
//!
//! Owns what a person with the right role may ask for. Each is a signed entry that every member checks; who may do what
//! is decided by the rules of the log, here as everywhere. Whoever is added must have been verified: their keys come
//! from their own signed account log and from nowhere else.

use super::Vault;
use crate::error::{Error, Result};
use crate::sync::duties::{Change, Plan, rotation, wrap_for};
use crate::sync::learn::learn_person;
use selkie_protocol::id::UserId;
use selkie_protocol::log::{self, Control};

/// What a member may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Reads.
    Viewer,
    /// Writes, and may begin an epoch.
    Editor,
    /// Adds and removes viewers and editors.
    Admin,
    /// Everything.
    Owner,
    /// Reads, so that an organisation can recover.
    Recovery,
}

/// Somebody in a vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub user: UserId,
    /// What they may do.
    pub role: Role,
    /// It is the person who asks.
    pub is_me: bool,
}

impl From<log::Role> for Role {
    fn from(role: log::Role) -> Self {
        match role {
            log::Role::Viewer => Role::Viewer,
            log::Role::Editor => Role::Editor,
            log::Role::Admin => Role::Admin,
            log::Role::Owner => Role::Owner,
            log::Role::Recovery => Role::Recovery,
        }
    }
}

impl From<Role> for log::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Viewer => log::Role::Viewer,
            Role::Editor => log::Role::Editor,
            Role::Admin => log::Role::Admin,
            Role::Owner => log::Role::Owner,
            Role::Recovery => log::Role::Recovery,
        }
    }
}

impl Vault {
    /// Everybody in the vault, as this device knows it.
    pub async fn members(&self) -> Result<Vec<Member>> {
        let (glance, me) = (self.glance().await?, self.me());
        Ok(glance
            .members
            .iter()
            .map(|(user, role)| Member { user: *user, role: (*role).into(), is_me: *user == me })
            .collect())
    }

    /// Adds somebody by their user id, which must have come from them and not from the server: it fixes their keys for
    /// life. They can read everything in the vault from then on.
    pub async fn add_member(&self, user: UserId, role: Role) -> Result<()> {
        let (role, here) = (log::Role::from(role), self.here());
        learn_person(&here.account, &here.room, here.account.user_id(), user).await?;
        self.change(Box::new(move |replica, crowd| {
            let governance = replica.log.core().governance();
            if governance.member(&user).is_some() {
                return Ok(None);
            }
            let person =
                crowd.logs.get(&user).ok_or_else(|| Error::NotPossible(format!("{user} is not known here")))?;
            let key = replica.keys.epoch(governance.epoch());
            let key = key.ok_or_else(|| Error::NotPossible("the vault's key is not here".into()))?;
            let wraps = vec![wrap_for(key, person)?];
            let (identity, anchor) = (person.identity(), person.head());
            let control = Control::AddMember { user, identity, anchor, role, invite: None };
            Ok(Some(Change { control, wraps, key: None }))
        }))
        .await
    }

    /// Gives a member another role.
    pub async fn set_role(&self, user: UserId, role: Role) -> Result<()> {
        let role = log::Role::from(role);
        self.change(Box::new(move |replica, _| {
            let member = replica.log.core().governance().member(&user);
            let member = member.ok_or_else(|| Error::NotPossible(format!("{user} is no member")))?;
            let change = || Change { control: Control::SetRole { user, role }, wraps: Vec::new(), key: None };
            Ok((member.role != role).then(change))
        }))
        .await
    }

    /// Removes a member and begins a new epoch, so that they cannot read what comes. What they have read stays known to
    /// them.
    pub async fn remove_member(&self, user: UserId) -> Result<()> {
        self.change(Box::new(move |replica, crowd| match replica.log.core().governance().member(&user) {
            Some(_) => rotation(replica, crowd, vec![user]).map(Some),
            None => Ok(None),
        }))
        .await
    }

    /// Begins a new epoch: what is written from now on has another key.
    pub async fn rotate(&self) -> Result<()> {
        let epoch = self.glance().await?.epoch;
        self.change(Box::new(move |replica, crowd| match replica.log.core().governance().epoch() {
            now if now <= epoch => rotation(replica, crowd, Vec::new()).map(Some),
            _ => Ok(None),
        }))
        .await
    }

    /// Makes a change, checked by the rules before it leaves.
    async fn change(&self, plan: Plan) -> Result<()> {
        self.alone(async |round| round.change_until_it_stands(plan).await).await
    }
}
