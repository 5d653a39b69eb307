//! The state written down, so that nobody replays a log to resume.
//!
//! Owns the layout of what is kept. It is local data: its keeper answers for it, but damaged bytes are an error, never
//! a panic. The three parts grow differently, so they can be kept apart: the core is small and changes with every
//! entry; the trail gains one value an entry; of the live changes only those an entry touches change.
//!
//! ```text
//! core := 0x01 | vid 32 | app_len u8 | app | n u64 | h 32 | ctl_h 32
//!         | min_format u8 | policy u8 | recovery uid 32 | epochs u32 | commit 32 ...
//!         | members u32 | (uid 32 | role u8 | irk_pk 32 | anchor 40) ... | invites u32 | (invite_id 16 | role u8) ...
//!         | devices u32 | (did 16 | dev_seq u64 | e-hash 32 | n u64) ...
//!         | unremembered u64 | checkpoints u8 | (n u64 | author 32 | confirmed_by 32) ...
//! ```

use super::control::{App, Policy, read_pin, write_pin};
use super::core::{Core, DeviceChain, KEPT_CHECKPOINTS, KnownCheckpoint};
use super::entry::Head;
use super::governance::{Governance, Member};
use super::live::LiveSet;
use super::reader::{Malformed, Reader, u32_length};
use super::role::Role;
use super::trail::Trail;
use super::vault::VaultLog;
use crate::Bytes;
use crate::id::{DeviceId, InviteId, UserId, VaultId};
use crate::sign::PublicKey;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const VERSION: u8 = 1;

/// All of a log's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// [`Core::to_bytes`].
    pub core: Bytes,
    /// [`Trail::to_bytes`].
    pub trail: Bytes,
    /// [`LiveSet::to_bytes`].
    pub live: Bytes,
}

impl VaultLog {
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            core: self.core.to_bytes().into(),
            trail: self.past.trail.to_bytes().into(),
            live: self.past.live.to_bytes().into(),
        }
    }

    pub fn resume(snapshot: &Snapshot) -> Result<VaultLog, Malformed> {
        let core = Core::from_bytes(&snapshot.core)?;
        VaultLog::from_parts(core, Trail::from_bytes(&snapshot.trail)?, LiveSet::from_bytes(&snapshot.live)?)
    }
}

impl Core {
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend_from_slice(self.vault.as_bytes());
        out.push(u8::try_from(self.app.as_str().len()).expect("names of apps are short"));
        out.extend_from_slice(self.app.as_str().as_bytes());
        write_head(&self.head, &mut out);
        out.extend_from_slice(&self.control);
        self.governance.write(&mut out);
        out.extend_from_slice(&u32_length(self.devices.len()));
        for (device, chain) in &self.devices {
            out.extend_from_slice(device.as_bytes());
            out.extend_from_slice(&chain.dev_seq.to_be_bytes());
            out.extend_from_slice(&chain.last);
            out.extend_from_slice(&chain.n.to_be_bytes());
        }
        out.extend_from_slice(&self.unremembered.to_be_bytes());
        out.push(u8::try_from(self.checkpoints.len()).expect("few are remembered"));
        for known in &self.checkpoints {
            out.extend_from_slice(&known.n.to_be_bytes());
            out.extend_from_slice(known.author.as_bytes());
            out.extend_from_slice(known.confirmed_by.unwrap_or(NOBODY).as_bytes());
        }
        out
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<Core, Malformed> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != VERSION {
            return Err(Malformed("unknown version"));
        }
        let vault = VaultId(reader.array()?);
        let length = usize::from(reader.u8()?);
        let app = std::str::from_utf8(reader.take(length)?).map_err(|_| Malformed("not the name of an app"))?;
        let app = App::new(app)?;
        let head = Head { n: reader.u64()?, h: reader.array()? };
        let control = reader.array()?;
        let governance = Governance::read(&mut reader)?;
        let devices = many_named(&mut reader, |reader| {
            let device = DeviceId(reader.array()?);
            Ok((device, DeviceChain { dev_seq: reader.u64()?, last: reader.array()?, n: reader.u64()? }))
        })?;
        let unremembered = reader.u64()?;
        let count = usize::from(reader.u8()?);
        if count > KEPT_CHECKPOINTS {
            return Err(Malformed("too many checkpoints"));
        }
        let checkpoints = (0..count).map(|_| {
            let (n, author) = (reader.u64()?, UserId(reader.array()?));
            let confirmed_by = Some(UserId(reader.array()?)).filter(|user| *user != NOBODY);
            Ok(KnownCheckpoint { n, author, confirmed_by })
        });
        let checkpoints = checkpoints.collect::<Result<_, Malformed>>()?;
        reader.end()?;
        Ok(Core { vault, app, head, control, governance, devices, checkpoints, unremembered })
    }
}

impl Governance {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[self.policy.min_format, self.policy.flags]);
        out.extend_from_slice(self.policy.recovery.unwrap_or(NOBODY).as_bytes());
        out.extend_from_slice(&u32_length(self.commitments.len()));
        self.commitments.iter().for_each(|commitment| out.extend_from_slice(commitment));
        out.extend_from_slice(&u32_length(self.members.len()));
        for (user, member) in &self.members {
            out.extend_from_slice(user.as_bytes());
            out.push(member.role as u8);
            out.extend_from_slice(member.identity.as_bytes());
            write_pin(&member.anchor, out);
        }
        out.extend_from_slice(&u32_length(self.invites.len()));
        for (invite, role) in &self.invites {
            out.extend_from_slice(invite.as_bytes());
            out.push(*role as u8);
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Governance, Malformed> {
        let (min_format, flags) = (reader.u8()?, reader.u8()?);
        let recovery = Some(UserId(reader.array()?)).filter(|user| *user != NOBODY);
        let commitments: Vec<[u8; 32]> = many(reader, |reader| reader.array())?;
        if commitments.is_empty() {
            return Err(Malformed("a vault is in some epoch"));
        }
        let members = many_named(reader, |reader| {
            let (user, role) = (UserId(reader.array()?), Role::read(reader.u8()?)?);
            Ok((user, Member { role, identity: PublicKey(reader.array()?), anchor: read_pin(reader)? }))
        })?;
        let invites = many_named(reader, |reader| Ok((InviteId(reader.array()?), Role::read(reader.u8()?)?)))?;
        Ok(Governance { policy: Policy { min_format, flags, recovery }, commitments, members, invites })
    }
}

const NOBODY: UserId = UserId([0; 32]);

fn write_head(head: &Head, out: &mut Vec<u8>) {
    out.extend_from_slice(&head.n.to_be_bytes());
    out.extend_from_slice(&head.h);
}

/// A count and that many things. Nothing is reserved: a count that lies runs out of bytes.
fn many<T>(
    reader: &mut Reader<'_>,
    mut read: impl FnMut(&mut Reader<'_>) -> Result<T, Malformed>,
) -> Result<Vec<T>, Malformed> {
    let count = reader.u32()?;
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(read(reader)?);
    }
    Ok(all)
}

/// The same with names, which must ascend: there is one way to write a state.
fn many_named<K: Ord, V>(
    reader: &mut Reader<'_>,
    read: impl FnMut(&mut Reader<'_>) -> Result<(K, V), Malformed>,
) -> Result<BTreeMap<K, V>, Malformed> {
    let all = many(reader, read)?;
    if !all.is_sorted_by(|(one, _), (next, _)| one < next) {
        return Err(Malformed("names are not ascending"));
    }
    Ok(all.into_iter().collect())
}
