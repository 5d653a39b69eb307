//! What the store should do, said as simply as it can be said: maps in memory, copied whole before each operation and
//! put back if it is refused.

use super::people::{LIFE, MINUTE, NOW, to_the_hour};
use crate::store::{FactorKind, Millis, Refused};
use std::collections::BTreeMap;

/// One thing that somebody asks of a tenant. Numbers name people, devices, sessions and so on, few enough to meet.
#[derive(Clone, Debug)]
pub(super) enum Ask {
    Invite { uses: i32 },
    Revoke { invitation: i64 },
    Register { name: u64, identity: Option<u64>, invitation: Option<i64> },
    Append { account: i64, log_length: u64, entries: u64 },
    Complete { account: i64, identity: u64 },
    AddDevice { account: i64, device: u64, limit: i64 },
    RevokeDevice { account: i64, device: u64 },
    Suspend { account: i64, suspended: bool },
    Schedule { account: i64, keep: Option<u64> },
    Cancel { account: i64 },
    Delete { account: i64 },
    Open { session: u64, account: i64, device: Option<u64> },
    Rotate { session: u64, generation: u32 },
    Bind { account: i64, session: u64, device: u64 },
    End { account: i64, but: Option<u64> },
    PutLogin { login: u64 },
    TakeLogin { login: u64 },
    Begin { account: i64, kind: FactorKind },
    Confirm { account: i64, factor: i64 },
    UseStep { account: i64, factor: i64, step: i64 },
    UseCode { account: i64, code: u8 },
    RemoveFactors { account: i64 },
    OpenLink { link: u64, account: i64 },
    RequestLink { link: u64 },
    AnswerLink { link: u64, account: i64, device: u64 },
    UseLink { link: u64 },
    Sweep,
    Wait { minutes: i64 },
}

/// What the one who asked is told.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    Done,
    Number(i64),
    Yes,
    No,
    Missing(&'static str),
    Refused(Refused),
}

impl From<bool> for Told {
    fn from(yes: bool) -> Self {
        if yes { Told::Yes } else { Told::No }
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    waited: Millis,
    pub(super) invitations: BTreeMap<i64, Invitation>,
    last_invitation: i64,
    pub(super) accounts: BTreeMap<i64, Account>,
    last_account: i64,
    logins: BTreeMap<u64, Millis>,
    pub(super) sessions: BTreeMap<u64, Session>,
    links: BTreeMap<u64, Link>,
    pub(super) audit_entries: usize,
}

#[derive(Clone, Debug)]
pub(super) struct Invitation {
    pub(super) uses: i32,
    expires_at: Millis,
    pub(super) revoked: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Account {
    pub(super) name: u64,
    pub(super) identity: Option<u64>,
    pub(super) log_length: u64,
    pub(super) suspended: bool,
    pub(super) deleting: bool,
    /// Devices, and whether they are revoked.
    pub(super) devices: BTreeMap<u64, bool>,
    pub(super) factors: BTreeMap<i64, Factor>,
    last_factor: i64,
    codes: Vec<u8>,
    pub(super) last_seen: Option<Millis>,
}

#[derive(Clone, Debug)]
pub(super) struct Factor {
    pub(super) kind: FactorKind,
    pub(super) confirmed: bool,
    pub(super) step: i64,
}

#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) account: i64,
    pub(super) device: Option<u64>,
    pub(super) generation: u32,
    idle: Millis,
    absolute: Millis,
    pub(super) ended: Option<Millis>,
}

#[derive(Clone, Debug)]
struct Link {
    account: i64,
    expires_at: Millis,
    requested: bool,
    answered: Option<u64>,
}

impl Session {
    fn lives(&self, now: Millis) -> bool {
        self.over_at() > now
    }

    fn over_at(&self) -> Millis {
        self.ended.unwrap_or(self.idle.min(self.absolute))
    }
}

impl Model {
    /// How many accounts the plan of the tenant allows.
    pub(super) const MAX_ACCOUNTS: usize = 10;
    /// Codes that come with every confirmed factor.
    pub(super) const CODES: [u8; 2] = [1, 2];

    pub(super) fn now(&self) -> Millis {
        NOW + self.waited
    }

    pub(super) fn living_sessions(&self, account: i64) -> Vec<u64> {
        let living = self.sessions.iter().filter(|(_, s)| s.account == account && s.lives(self.now()));
        living.map(|(n, _)| *n).collect()
    }

    pub(super) fn ask(&mut self, ask: &Ask) -> Told {
        let before = self.clone();
        let told = self.do_it(ask).unwrap_or_else(|told| told);
        if matches!(told, Told::Missing(_) | Told::Refused(_)) {
            *self = before;
        }
        told
    }

    fn account(&mut self, number: i64) -> Result<&mut Account, Told> {
        self.accounts.get_mut(&number).ok_or(Told::Missing("account"))
    }

    fn end(&mut self, now: Millis, which: impl Fn(u64, &Session) -> bool) -> i64 {
        let mut ended = 0;
        for (n, session) in &mut self.sessions {
            if session.lives(now) && which(*n, session) {
                session.ended = Some(now);
                ended += 1;
            }
        }
        ended
    }

    fn do_it(&mut self, ask: &Ask) -> Result<Told, Told> {
        let now = self.now();
        match ask.clone() {
            Ask::Invite { uses } => {
                self.last_invitation += 1;
                let invitation = Invitation { uses, expires_at: now + 10 * MINUTE, revoked: false };
                self.invitations.insert(self.last_invitation, invitation);
                self.audit_entries += 1;
                Ok(Told::Number(self.last_invitation))
            }
            Ask::Revoke { invitation } => {
                let found = self.invitations.get_mut(&invitation).filter(|found| !found.revoked);
                found.ok_or(Told::Missing("invitation"))?.revoked = true;
                self.audit_entries += 1;
                Ok(Told::Done)
            }
            Ask::Register { name, identity, invitation } => {
                if let Some(invitation) = invitation {
                    let found = self.invitations.get_mut(&invitation);
                    let usable = found.filter(|found| found.uses > 0 && !found.revoked && found.expires_at > now);
                    usable.ok_or(Told::Refused(Refused::InvitationInvalid))?.uses -= 1;
                }
                if self.accounts.len() >= Self::MAX_ACCOUNTS {
                    return Err(Told::Refused(Refused::LimitReached("accounts")));
                }
                if self.accounts.values().any(|account| account.name == name) {
                    return Err(Told::Refused(Refused::LoginNameTaken));
                }
                self.last_account += 1;
                let number = self.last_account;
                self.accounts.insert(number, Account { name, ..Account::default() });
                if let Some(identity) = identity {
                    self.give_keys(number, identity)?;
                }
                self.audit_entries += 1;
                Ok(Told::Number(number))
            }
            Ask::Append { account, log_length, entries } => {
                let account = self.account(account)?;
                if account.log_length != log_length {
                    return Err(Told::Refused(Refused::LogMoved));
                }
                account.log_length += entries;
                Ok(Told::Done)
            }
            Ask::Complete { account, identity } => {
                if self.account(account)?.identity.is_some() {
                    return Err(Told::Refused(Refused::AlreadyComplete));
                }
                self.give_keys(account, identity)?;
                Ok(Told::Done)
            }
            Ask::AddDevice { account, device, limit } => {
                let account = self.account(account)?;
                if account.devices.insert(device, false).is_some() {
                    return Err(Told::Refused(Refused::IdTaken("device")));
                }
                if account.devices.values().filter(|revoked| !**revoked).count() as i64 > limit {
                    return Err(Told::Refused(Refused::LimitReached("devices")));
                }
                Ok(Told::Done)
            }
            Ask::RevokeDevice { account, device } => {
                let found = self.account(account)?.devices.get_mut(&device).filter(|revoked| !**revoked);
                *found.ok_or(Told::Missing("device"))? = true;
                self.end(now, |_, session| session.account == account && session.device == Some(device));
                Ok(Told::Done)
            }
            Ask::Suspend { account, suspended } => {
                self.account(account)?.suspended = suspended;
                self.audit_entries += 1;
                Ok(Told::Done)
            }
            Ask::Schedule { account, keep } => {
                self.account(account)?.deleting = true;
                self.end(now, |n, session| session.account == account && Some(n) != keep);
                self.audit_entries += 1;
                Ok(Told::Done)
            }
            Ask::Cancel { account } => {
                let account = self.account(account)?;
                if !std::mem::take(&mut account.deleting) {
                    return Err(Told::Refused(Refused::NotToBeDeleted));
                }
                self.audit_entries += 1;
                Ok(Told::Done)
            }
            Ask::Delete { account } => {
                self.account(account)?;
                self.accounts.remove(&account);
                self.sessions.retain(|_, session| session.account != account);
                self.links.retain(|_, link| link.account != account);
                self.audit_entries += 1;
                Ok(Told::Done)
            }
            Ask::Open { session, account, device } => {
                self.live_device(account, device)?;
                if device.is_some() {
                    self.end(now, |_, session| session.account == account && session.device == device);
                }
                if self.sessions.contains_key(&session) {
                    return Err(Told::Refused(Refused::IdTaken("session")));
                }
                let (idle, absolute) = (LIFE.idle_expires_at, LIFE.expires_at);
                let new = Session { account, device, generation: 0, idle, absolute, ended: None };
                self.sessions.insert(session, new);
                self.account(account)?.last_seen = Some(to_the_hour(now));
                self.audit_entries += 1;
                Ok(Told::Done)
            }
            Ask::Rotate { session, generation } => {
                let session = self.sessions.get_mut(&session).ok_or(Told::Missing("session"))?;
                if !session.lives(now) {
                    return Err(Told::Refused(Refused::SessionEnded));
                }
                if session.generation != generation {
                    return Ok(Told::No);
                }
                (session.generation, session.idle) = (generation + 1, now + 30 * MINUTE);
                let account = session.account;
                self.account(account)?.last_seen = Some(to_the_hour(now));
                Ok(Told::Yes)
            }
            Ask::Bind { account, session, device } => {
                self.live_device(account, Some(device))?;
                let session = self.sessions.get_mut(&session).filter(|s| s.account == account && s.device.is_none());
                let session = session.filter(|session| session.lives(now));
                let session = session.ok_or(Told::Refused(Refused::SessionEnded))?;
                session.device = Some(device);
                (session.idle, session.absolute) = (LIFE.idle_expires_at, LIFE.expires_at);
                self.account(account)?.last_seen = Some(to_the_hour(now));
                Ok(Told::Done)
            }
            Ask::End { account, but } => {
                self.account(account)?;
                let ended = self.end(now, |n, session| session.account == account && Some(n) != but);
                self.audit_entries += usize::from(ended > 0);
                Ok(Told::Number(ended))
            }
            Ask::PutLogin { login } => match self.logins.insert(login, now + 5 * MINUTE) {
                Some(_) => Err(Told::Refused(Refused::IdTaken("sign-in"))),
                None => Ok(Told::Done),
            },
            Ask::TakeLogin { login } => match self.logins.get(&login) {
                Some(expires_at) if *expires_at > now => Ok(self.logins.remove(&login).is_some().into()),
                _ => Ok(Told::No),
            },
            Ask::Begin { account, kind } => {
                let account = self.account(account)?;
                account.factors.retain(|_, factor| factor.kind != kind || factor.confirmed);
                account.last_factor += 1;
                account.factors.insert(account.last_factor, Factor { kind, confirmed: false, step: 0 });
                Ok(Told::Number(account.last_factor))
            }
            Ask::Confirm { account, factor } => {
                let account = self.account(account)?;
                let waiting = account.factors.get(&factor).filter(|factor| !factor.confirmed);
                let kind = waiting.ok_or(Told::Missing("second factor"))?.kind;
                account.factors.retain(|_, factor| factor.kind != kind || !factor.confirmed);
                account.factors.insert(factor, Factor { kind, confirmed: true, step: 1 });
                account.codes = Self::CODES.to_vec();
                self.audit_entries += 1;
                Ok(Told::Done)
            }
            Ask::UseStep { account, factor, step } => {
                let factors = self.accounts.get_mut(&account).map(|account| &mut account.factors);
                let factor = factors.and_then(|factors| factors.get_mut(&factor));
                match factor.filter(|factor| factor.confirmed && factor.step < step) {
                    Some(factor) => {
                        factor.step = step;
                        Ok(Told::Yes)
                    }
                    None => Ok(Told::No),
                }
            }
            Ask::UseCode { account, code } => {
                let Some(account) = self.accounts.get_mut(&account) else { return Ok(Told::No) };
                let before = account.codes.len();
                account.codes.retain(|left| *left != code);
                Ok((account.codes.len() < before).into())
            }
            Ask::RemoveFactors { account } => {
                let account = self.account(account)?;
                account.factors.clear();
                account.codes.clear();
                self.audit_entries += 1;
                Ok(Told::Done)
            }
            Ask::OpenLink { link, account } => {
                self.account(account)?;
                let new = Link { account, expires_at: now + 5 * MINUTE, requested: false, answered: None };
                match self.links.insert(link, new) {
                    Some(_) => Err(Told::Refused(Refused::LinkState)),
                    None => Ok(Told::Done),
                }
            }
            Ask::RequestLink { link } => {
                let link = self.links.get_mut(&link).filter(|link| link.expires_at > now);
                let link = link.ok_or(Told::Missing("link"))?;
                if link.requested {
                    return Err(Told::Refused(Refused::LinkState));
                }
                link.requested = true;
                Ok(Told::Done)
            }
            Ask::AnswerLink { link, account, device } => {
                self.live_device(account, Some(device))?;
                let link = self.links.get_mut(&link).filter(|link| link.account == account && link.expires_at > now);
                let link = link.filter(|link| link.requested && link.answered.is_none());
                link.ok_or(Told::Refused(Refused::LinkState))?.answered = Some(device);
                Ok(Told::Done)
            }
            Ask::UseLink { link } => {
                let answered = self.links.get(&link).filter(|link| link.expires_at > now);
                let answered = answered.is_some_and(|link| link.answered.is_some());
                if answered {
                    self.links.remove(&link);
                }
                Ok(answered.into())
            }
            Ask::Sweep => {
                let before = self.logins.len() + self.links.len() + self.sessions.len() + self.invitations.len();
                self.logins.retain(|_, expires_at| *expires_at > now);
                self.links.retain(|_, link| link.expires_at > now);
                self.sessions.retain(|_, session| session.over_at() > now - 20 * MINUTE);
                self.invitations.retain(|_, invitation| invitation.expires_at > now);
                let after = self.logins.len() + self.links.len() + self.sessions.len() + self.invitations.len();
                Ok(Told::Number((before - after) as i64))
            }
            Ask::Wait { minutes } => {
                self.waited += minutes * MINUTE;
                Ok(Told::Done)
            }
        }
    }

    fn give_keys(&mut self, number: i64, identity: u64) -> Result<(), Told> {
        if self.accounts.values().any(|account| account.identity == Some(identity)) {
            return Err(Told::Refused(Refused::IdTaken("user id")));
        }
        let account = self.account(number)?;
        account.identity = Some(identity);
        account.log_length = 6;
        if account.devices.insert(identity, false).is_some() {
            return Err(Told::Refused(Refused::IdTaken("device")));
        }
        Ok(())
    }

    fn live_device(&mut self, account: i64, device: Option<u64>) -> Result<(), Told> {
        let Some(device) = device else { return self.account(account).map(drop) };
        match self.account(account)?.devices.get(&device) {
            Some(false) => Ok(()),
            _ => Err(Told::Missing("device")),
        }
    }
}
