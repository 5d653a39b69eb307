//! CONTROL: who is in a vault, what they may do, and which key is current.
//!
//! Owns the layouts of the operations. Who may do which is decided in `governance`.
//!
//! ```text
//! body := op u8 | fields
//! 0 CREATE         random 16 | anchor (idx u64 | a_hash 32) | irk_pk 32 | commit(1) 32 | min_format u8 | policy u8
//!                  | app_len u8 | app
//! 1 ADD_MEMBER     uid 32 | irk_pk 32 | anchor 40 | role u8 | invite_id 16 (zero: none)
//! 2 SET_ROLE       uid 32 | role u8
//! 3 REMOVE_ROTATE  count u16 | count x uid 32, ascending | new_epoch u32 | commit(new) 32 | back-link 105
//! 4 ANCHOR         uid 32 | anchor 40
//! 5 POLICY         min_format u8 | policy u8 | recovery uid 32 (zero: none)
//! 6 INVITE_OPEN    invite_id 16 | role u8 | expires u64 (unix seconds)
//! 7 INVITE_CLOSE   invite_id 16
//! 8 RESET_TAIL     n u64
//! ```

use super::reader::{Malformed, Reader, u16_length};
use super::role::Role;
use crate::account_log::Pin;
use crate::id::{InviteId, UserId};
use crate::sign::PublicKey;
use std::fmt;

/// The wrap of one epoch's key under the next: see `cipher::EpochKey`.
pub const BACK_LINK_LENGTH: usize = 105;
/// An epoch's key sealed to one member: see `cipher::EpochKey`. It travels beside the log, not in it.
pub const WRAP_LENGTH: usize = 1120 + 32 + 16;
/// How many people one entry may remove.
pub const MAX_REMOVED: usize = 1024;
pub const MAX_APP_LENGTH: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    Create(Create),
    AddMember { user: UserId, identity: PublicKey, anchor: Pin, role: Role, invite: Option<InviteId> },
    SetRole { user: UserId, role: Role },
    RemoveRotate(Box<RemoveRotate>),
    Anchor { user: UserId, anchor: Pin },
    Policy(Policy),
    InviteOpen { invite: InviteId, role: Role, expires: u64 },
    InviteClose { invite: InviteId },
    ResetTail { n: u64 },
}

/// The first entry of every vault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Create {
    pub random: [u8; 16],
    pub anchor: Pin,
    pub identity: PublicKey,
    pub commitment: [u8; 32],
    pub min_format: u8,
    pub flags: u8,
    pub app: App,
}

/// Removes people, or nobody, and begins the next epoch.
#[derive(Clone, PartialEq, Eq)]
pub struct RemoveRotate {
    /// Ascending, each once.
    pub removed: Vec<UserId>,
    pub epoch: u32,
    pub commitment: [u8; 32],
    pub back: [u8; BACK_LINK_LENGTH],
}

/// What a vault demands of everybody who writes in it. It only ever demands more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    pub min_format: u8,
    pub flags: u8,
    /// The recovery identity that may be added with [`Role::Recovery`].
    pub recovery: Option<UserId>,
}

/// The app a vault belongs to, as in `org.example.journal`. In the first entry, so that the server cannot show one
/// app's vault to another.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct App(String);

impl Policy {
    /// Refuse to write when nothing was heard of the admins for long (the client's business).
    pub const STRICT: u8 = 1;
}

impl App {
    pub fn new(name: &str) -> Result<App, Malformed> {
        let fits = (1..=MAX_APP_LENGTH).contains(&name.len());
        let plain =
            name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte));
        if fits && plain { Ok(App(name.to_owned())) } else { Err(Malformed("not the name of an app")) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Control {
    pub fn parse(body: &[u8]) -> Result<Control, Malformed> {
        let mut reader = Reader::new(body);
        let control = match reader.u8()? {
            0 => Control::Create(Create::read(&mut reader)?),
            1 => Control::AddMember {
                user: UserId(reader.array()?),
                identity: PublicKey(reader.array()?),
                anchor: read_pin(&mut reader)?,
                role: Role::read(reader.u8()?)?,
                invite: Some(InviteId(reader.array()?)).filter(|id| *id != NO_INVITE),
            },
            2 => Control::SetRole { user: UserId(reader.array()?), role: Role::read(reader.u8()?)? },
            3 => Control::RemoveRotate(Box::new(RemoveRotate::read(&mut reader)?)),
            4 => Control::Anchor { user: UserId(reader.array()?), anchor: read_pin(&mut reader)? },
            5 => Control::Policy(Policy {
                min_format: reader.u8()?,
                flags: reader.u8()?,
                recovery: Some(UserId(reader.array()?)).filter(|id| *id != NOBODY),
            }),
            6 => Control::InviteOpen {
                invite: read_invite(&mut reader)?,
                role: Role::read(reader.u8()?)?,
                expires: reader.u64()?,
            },
            7 => Control::InviteClose { invite: read_invite(&mut reader)? },
            8 => Control::ResetTail { n: reader.u64()? },
            _ => return Err(Malformed("unknown operation")),
        };
        reader.end()?;
        Ok(control)
    }

    /// The body of an entry that does this.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        match self {
            Control::Create(create) => {
                out.push(0);
                create.write(&mut out);
            }
            Control::AddMember { user, identity, anchor, role, invite } => {
                out.push(1);
                out.extend_from_slice(user.as_bytes());
                out.extend_from_slice(identity.as_bytes());
                write_pin(anchor, &mut out);
                out.push(*role as u8);
                out.extend_from_slice(invite.unwrap_or(NO_INVITE).as_bytes());
            }
            Control::SetRole { user, role } => {
                out.push(2);
                out.extend_from_slice(user.as_bytes());
                out.push(*role as u8);
            }
            Control::RemoveRotate(rotate) => {
                out.push(3);
                rotate.write(&mut out);
            }
            Control::Anchor { user, anchor } => {
                out.push(4);
                out.extend_from_slice(user.as_bytes());
                write_pin(anchor, &mut out);
            }
            Control::Policy(policy) => {
                out.extend_from_slice(&[5, policy.min_format, policy.flags]);
                out.extend_from_slice(policy.recovery.unwrap_or(NOBODY).as_bytes());
            }
            Control::InviteOpen { invite, role, expires } => {
                out.push(6);
                out.extend_from_slice(invite.as_bytes());
                out.push(*role as u8);
                out.extend_from_slice(&expires.to_be_bytes());
            }
            Control::InviteClose { invite } => {
                out.push(7);
                out.extend_from_slice(invite.as_bytes());
            }
            Control::ResetTail { n } => {
                out.push(8);
                out.extend_from_slice(&n.to_be_bytes());
            }
        }
        out
    }
}

impl Create {
    fn read(reader: &mut Reader<'_>) -> Result<Create, Malformed> {
        Ok(Create {
            random: reader.array()?,
            anchor: read_pin(reader)?,
            identity: PublicKey(reader.array()?),
            commitment: reader.array()?,
            min_format: reader.u8()?,
            flags: reader.u8()?,
            app: {
                let length = usize::from(reader.u8()?);
                let name =
                    std::str::from_utf8(reader.take(length)?).map_err(|_| Malformed("not the name of an app"))?;
                App::new(name)?
            },
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.random);
        write_pin(&self.anchor, out);
        out.extend_from_slice(self.identity.as_bytes());
        out.extend_from_slice(&self.commitment);
        out.extend_from_slice(&[self.min_format, self.flags]);
        out.push(u8::try_from(self.app.0.len()).expect("names of apps are short"));
        out.extend_from_slice(self.app.0.as_bytes());
    }
}

impl RemoveRotate {
    fn read(reader: &mut Reader<'_>) -> Result<RemoveRotate, Malformed> {
        let count = usize::from(reader.u16()?);
        if count > MAX_REMOVED {
            return Err(Malformed("too many people removed at once"));
        }
        let ids = reader.take(count * UserId::LENGTH)?;
        let removed: Vec<UserId> = ids.as_chunks::<{ UserId::LENGTH }>().0.iter().map(|id| UserId(*id)).collect();
        if !removed.is_sorted_by(|one, next| one < next) {
            return Err(Malformed("people to remove are not ascending"));
        }
        Ok(RemoveRotate { removed, epoch: reader.u32()?, commitment: reader.array()?, back: reader.array()? })
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&u16_length(self.removed.len()));
        for user in &self.removed {
            out.extend_from_slice(user.as_bytes());
        }
        out.extend_from_slice(&self.epoch.to_be_bytes());
        out.extend_from_slice(&self.commitment);
        out.extend_from_slice(&self.back);
    }
}

impl fmt::Debug for RemoveRotate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RemoveRotate { removed, epoch, .. } = self;
        f.debug_struct("RemoveRotate").field("removed", removed).field("epoch", epoch).finish_non_exhaustive()
    }
}

const NOBODY: UserId = UserId([0; 32]);
const NO_INVITE: InviteId = InviteId([0; 16]);

fn read_invite(reader: &mut Reader<'_>) -> Result<InviteId, Malformed> {
    let invite = InviteId(reader.array()?);
    if invite == NO_INVITE { Err(Malformed("an invitation has an id")) } else { Ok(invite) }
}

pub(super) fn read_pin(reader: &mut Reader<'_>) -> Result<Pin, Malformed> {
    Ok(Pin { index: reader.u64()?, hash: reader.array()? })
}

pub(super) fn write_pin(pin: &Pin, out: &mut Vec<u8>) {
    out.extend_from_slice(&pin.index.to_be_bytes());
    out.extend_from_slice(&pin.hash);
}
