//! Who is in a vault, with which role, under which key.
//!
//! Owns the table of operations: what each needs and what it does. Knows nothing of positions, chains or records.

use super::control::{Control, Policy};
use super::people::{People, reaches};
use super::refusal::{Denied, Refusal};
use super::role::Role;
use crate::account_log::Pin;
use crate::id::{InviteId, UserId};
use crate::sign::PublicKey;
use std::collections::BTreeMap;

pub const MAX_MEMBERS: usize = 10_000;
pub const MAX_OPEN_INVITES: usize = 1_000;
/// The newest format of records this code knows.
pub const NEWEST_FORMAT: u8 = 1;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub role: Role,
    pub identity: PublicKey,
    /// How far into this person's account log the vault looks: devices count from here.
    pub anchor: Pin,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Governance {
    pub(super) policy: Policy,
    /// One for every epoch, the first first.
    pub(super) commitments: Vec<[u8; 32]>,
    pub(super) members: BTreeMap<UserId, Member>,
    pub(super) invites: BTreeMap<InviteId, Role>,
}

impl Member {
    /// The entry of the author's account log that decides which of their devices count. An ANCHOR is judged by the
    /// anchor it sets, so that a new device can introduce itself and a revoked one cannot stay.
    pub(super) fn anchor_for(&self, author: UserId, control: Option<&Control>) -> Pin {
        match control {
            Some(Control::Anchor { user, anchor }) if *user == author => *anchor,
            _ => self.anchor,
        }
    }
}

impl Governance {
    /// What CREATE establishes.
    pub(super) fn create(author: UserId, control: &Control, people: &impl People) -> Result<Governance, Refusal> {
        let Control::Create(create) = control else { return Err(Refusal::NotCreate) };
        known_format(create.min_format, create.flags)?;
        reaches(people, author, &create.anchor)?;
        if people.identity(&author) != Some(create.identity) {
            return Err(Refusal::NotAllowed(Denied::WrongIdentity));
        }
        let owner = Member { role: Role::Owner, identity: create.identity, anchor: create.anchor };
        Ok(Governance {
            policy: Policy { min_format: create.min_format, flags: create.flags, recovery: None },
            commitments: vec![create.commitment],
            members: BTreeMap::from([(author, owner)]),
            invites: BTreeMap::new(),
        })
    }

    pub fn epoch(&self) -> u32 {
        u32::try_from(self.commitments.len()).expect("an epoch a second for a century fits")
    }

    pub fn commitment(&self, epoch: u32) -> Option<&[u8; 32]> {
        self.commitments.get((epoch as usize).checked_sub(1)?)
    }

    pub fn policy(&self) -> Policy {
        self.policy
    }

    pub fn member(&self, user: &UserId) -> Option<&Member> {
        self.members.get(user)
    }

    pub fn members(&self) -> impl ExactSizeIterator<Item = (&UserId, &Member)> {
        self.members.iter()
    }

    pub fn open_invites(&self) -> impl ExactSizeIterator<Item = (&InviteId, Role)> {
        self.invites.iter().map(|(id, role)| (id, *role))
    }

    /// What this would be after an operation, or why it may not be done.
    pub(super) fn after(&self, author: UserId, op: &Control, people: &impl People) -> Result<Governance, Refusal> {
        let by = self.member(&author).ok_or(Refusal::NotAMember)?.role;
        let mut next = self.clone();
        match op {
            Control::Create(_) => return Err(deny(Denied::SecondCreate)),
            Control::AddMember { user, identity, anchor, role, invite } => {
                self.may_add(by, user, *role, invite.as_ref())?;
                reaches(people, *user, anchor)?;
                if people.identity(user) != Some(*identity) {
                    return Err(deny(Denied::WrongIdentity));
                }
                if self.members.len() >= MAX_MEMBERS {
                    return Err(Refusal::TooMany("members"));
                }
                next.members.insert(*user, Member { role: *role, identity: *identity, anchor: *anchor });
                if let Some(invite) = invite {
                    next.invites.remove(invite);
                }
            }
            Control::SetRole { user, role } => {
                let member = next.members.get_mut(user).ok_or(deny(Denied::NoSuchMember))?;
                if !by.may_govern(member.role) || !by.may_govern(*role) {
                    return Err(deny(Denied::Role));
                }
                if *role == Role::Recovery || member.role == Role::Recovery {
                    return Err(deny(Denied::Recovery));
                }
                if member.role == *role {
                    return Err(deny(Denied::NothingChanges));
                }
                member.role = *role;
            }
            Control::RemoveRotate(rotate) => {
                if !by.may_write() {
                    return Err(deny(Denied::Role));
                }
                for user in &rotate.removed {
                    let member = next.members.remove(user).ok_or(deny(Denied::NoSuchMember))?;
                    if !by.may_govern(member.role) {
                        return Err(deny(Denied::Role));
                    }
                    if *user == author {
                        return Err(deny(Denied::SelfRemoval));
                    }
                }
                if self.epoch().checked_add(1) != Some(rotate.epoch) {
                    return Err(deny(Denied::Epoch));
                }
                next.commitments.push(rotate.commitment);
            }
            Control::Anchor { user, anchor } => {
                let member = next.members.get_mut(user).ok_or(deny(Denied::NoSuchMember))?;
                if *user != author || anchor.index <= member.anchor.index {
                    return Err(deny(Denied::Anchor));
                }
                reaches(people, *user, anchor)?;
                member.anchor = *anchor;
            }
            Control::Policy(policy) => {
                if by != Role::Owner {
                    return Err(deny(Denied::Role));
                }
                let (old, new) = (self.policy, *policy);
                if new.min_format < old.min_format || new.flags & old.flags != old.flags {
                    return Err(deny(Denied::PolicyLowered));
                }
                if new == old {
                    return Err(deny(Denied::NothingChanges));
                }
                known_format(new.min_format, new.flags)?;
                next.policy = new;
            }
            Control::InviteOpen { invite, role, .. } => {
                if !by.may_govern(*role) || *role == Role::Recovery {
                    return Err(deny(Denied::Role));
                }
                if self.invites.len() >= MAX_OPEN_INVITES {
                    return Err(Refusal::TooMany("open invitations"));
                }
                if next.invites.insert(*invite, *role).is_some() {
                    return Err(deny(Denied::Invite));
                }
            }
            Control::InviteClose { invite } => {
                let role = next.invites.remove(invite).ok_or(deny(Denied::Invite))?;
                if !by.may_govern(role) {
                    return Err(deny(Denied::Role));
                }
            }
            Control::ResetTail { .. } => {
                if by != Role::Owner {
                    return Err(deny(Denied::Role));
                }
            }
        }
        if !next.members.values().any(|member| member.role == Role::Owner) {
            return Err(deny(Denied::LastOwner));
        }
        Ok(next)
    }

    fn may_add(&self, by: Role, user: &UserId, role: Role, invite: Option<&InviteId>) -> Result<(), Refusal> {
        if !by.may_govern(role) {
            return Err(deny(Denied::Role));
        }
        if role == Role::Recovery && self.policy.recovery != Some(*user) {
            return Err(deny(Denied::Recovery));
        }
        if self.members.contains_key(user) {
            return Err(deny(Denied::AlreadyMember));
        }
        // An invitation leaves the list when it is used, so nobody else can come in by it. When it expires is for the
        // admin who adds to see to: there is no clock here.
        match invite {
            Some(invite) if self.invites.get(invite) != Some(&role) => Err(deny(Denied::Invite)),
            _ => Ok(()),
        }
    }
}

fn known_format(format: u8, flags: u8) -> Result<(), Refusal> {
    if format > NEWEST_FORMAT || flags & !Policy::STRICT != 0 { Err(Refusal::UpgradeNeeded) } else { Ok(()) }
}

fn deny(rule: Denied) -> Refusal {
    Refusal::NotAllowed(rule)
}
