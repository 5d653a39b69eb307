//! The account log: a short signed chain per person, and the only source of a person's device and KEM keys.
//!
//! Owns the layout of an entry, its parser and the rules by which one entry may follow another. Both sides run exactly
//! this code. It knows nothing of storage, clocks or networks, and it cannot sign.
//!
//! ```text
//! body  := ver 1 | suite 1 | type 1 | uid 32 (zero in genesis) | idx u64 | prev 32 | unix_ms u64 | len u16 | payload
//! entry := body | SIGN(identity key, "account-entry", body) 64
//! a_idx  = H("account-chain", prev | entry)            uid = H("user-id", genesis body)
//! ```

use crate::hash::{Label, hash};
use crate::id::{DeviceId, UserId};
use crate::sign::{PublicKey, Signature};
use std::collections::BTreeMap;
use std::fmt;

pub const VERSION: u8 = 1;
pub const SUITE: u8 = 1;
/// Bytes before the payload.
pub const HEADER_LENGTH: usize = 1 + 1 + 1 + 32 + 8 + 32 + 8 + 2;
pub const SIGNATURE_LENGTH: usize = 64;
/// The public half of an X-Wing key.
pub const KEM_PUBLIC_KEY_LENGTH: usize = 1216;
/// The longest entry there is: one with a KEM key.
pub const MAX_ENTRY_LENGTH: usize = HEADER_LENGTH + 4 + KEM_PUBLIC_KEY_LENGTH + SIGNATURE_LENGTH;

/// What an entry says.
#[derive(Clone, PartialEq, Eq)]
pub enum Payload {
    Genesis { identity: PublicKey, random: [u8; 16] },
    DeviceAdd { device: DeviceId, key: PublicKey, proof: Signature },
    DeviceRevoke { device: DeviceId },
    UserKem { generation: u32, public_key: Box<[u8; KEM_PUBLIC_KEY_LENGTH]> },
    PasswordGeneration(u32),
    LoginName([u8; 32]),
    RecoveryKey { generation: u32, public_key: PublicKey },
}

/// An entry before it is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// All zero in the genesis.
    pub user: UserId,
    pub index: u64,
    /// The chain value of the entry before; all zero in the genesis.
    pub previous: [u8; 32],
    /// The author's clock, for people to read: nothing depends on it.
    pub unix_ms: u64,
    pub payload: Payload,
}

/// A signed entry, parsed, with the bytes it came as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub body: Body,
    signature: Signature,
    bytes: Vec<u8>,
}

/// The bytes are not an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an account log entry: {0}")]
pub struct Malformed(pub &'static str);

/// Why an entry may not stand where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("the log is empty")]
    Empty,
    #[error("the log does not begin with a genesis entry")]
    NoGenesis,
    #[error("a second genesis entry")]
    SecondGenesis,
    #[error("the log belongs to somebody else")]
    OtherUser,
    #[error("the entry is not the next one")]
    WrongIndex,
    #[error("the entry does not follow from the one before")]
    WrongPrevious,
    #[error("the entry is not signed by the account's identity key")]
    WrongSignature,
    #[error("the device id is not the hash of the device key")]
    DeviceIdMismatch,
    #[error("the device did not sign for being added")]
    WrongDeviceProof,
    #[error("the device was there before")]
    DeviceKnown,
    #[error("no such device, or it is revoked already")]
    DeviceUnknown,
    #[error("the generation is not the next one")]
    WrongGeneration,
    #[error("the log is longer than any honest one")]
    TooLong,
}

/// No honest account comes near; it bounds what a peer can make us keep.
pub const MAX_ENTRIES: u64 = 100_000;

/// A position in somebody's log and the chain value there. Whoever holds one can tell a longer log from another log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pin {
    pub index: u64,
    pub hash: [u8; 32],
}

/// How a log compares with a pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extends {
    /// The pinned entry is in this log, at its place.
    Yes,
    /// The log ends before the pin: somebody is hiding entries.
    Shorter,
    /// Another entry stands at the pinned place: two logs are being shown.
    Forked,
}

/// A device as the log knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    pub key: PublicKey,
    pub added_at: u64,
    pub revoked_at: Option<u64>,
}

/// What a verified log amounts to.
#[derive(Clone, PartialEq, Eq)]
pub struct AccountLog {
    user: UserId,
    identity: PublicKey,
    chain: Vec<[u8; 32]>,
    devices: BTreeMap<DeviceId, Device>,
    kem: Option<(u32, Box<[u8; KEM_PUBLIC_KEY_LENGTH]>)>,
    password_generation: u32,
    login_name: Option<[u8; 32]>,
    recovery: Option<(u32, PublicKey)>,
}

/// The id of the device that owns a key.
pub fn device_id(key: &PublicKey) -> DeviceId {
    let digest = hash(Label::DEVICE_ID, &[key.as_bytes()]);
    DeviceId(digest[..16].try_into().expect("a digest has 32 bytes"))
}

/// What a log says of a login name: the name itself stays out of it.
pub fn login_name_hash(server_name: &str, login_name: &str) -> [u8; 32] {
    hash(Label::LOGIN_NAME, &[server_name.as_bytes(), &[0x1f], login_name.as_bytes()])
}

impl Payload {
    pub fn kind(&self) -> u8 {
        match self {
            Payload::Genesis { .. } => 0,
            Payload::DeviceAdd { .. } => 1,
            Payload::DeviceRevoke { .. } => 2,
            Payload::UserKem { .. } => 3,
            Payload::PasswordGeneration(_) => 4,
            Payload::LoginName(_) => 5,
            Payload::RecoveryKey { .. } => 6,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Payload::Genesis { identity, random } => {
                out.extend_from_slice(identity.as_bytes());
                out.extend_from_slice(random);
            }
            Payload::DeviceAdd { device, key, proof } => {
                out.extend_from_slice(device.as_bytes());
                out.extend_from_slice(key.as_bytes());
                out.extend_from_slice(&proof.0);
            }
            Payload::DeviceRevoke { device } => out.extend_from_slice(device.as_bytes()),
            Payload::UserKem { generation, public_key } => {
                out.extend_from_slice(&generation.to_be_bytes());
                out.extend_from_slice(public_key.as_slice());
            }
            Payload::PasswordGeneration(generation) => out.extend_from_slice(&generation.to_be_bytes()),
            Payload::LoginName(digest) => out.extend_from_slice(digest),
            Payload::RecoveryKey { generation, public_key } => {
                out.extend_from_slice(&generation.to_be_bytes());
                out.extend_from_slice(public_key.as_bytes());
            }
        }
    }

    fn read(kind: u8, bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader(bytes);
        let payload = match kind {
            0 => Payload::Genesis { identity: PublicKey(reader.array()?), random: reader.array()? },
            1 => Payload::DeviceAdd {
                device: DeviceId(reader.array()?),
                key: PublicKey(reader.array()?),
                proof: Signature(reader.array()?),
            },
            2 => Payload::DeviceRevoke { device: DeviceId(reader.array()?) },
            3 => Payload::UserKem { generation: reader.u32()?, public_key: Box::new(reader.array()?) },
            4 => Payload::PasswordGeneration(reader.u32()?),
            5 => Payload::LoginName(reader.array()?),
            6 => Payload::RecoveryKey { generation: reader.u32()?, public_key: PublicKey(reader.array()?) },
            _ => return Err(Malformed("unknown type")),
        };
        if reader.0.is_empty() { Ok(payload) } else { Err(Malformed("the payload is too long")) }
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Payload::Genesis { .. } => f.write_str("Genesis"),
            Payload::DeviceAdd { device, .. } => write!(f, "DeviceAdd({device})"),
            Payload::DeviceRevoke { device } => write!(f, "DeviceRevoke({device})"),
            Payload::UserKem { generation, .. } => write!(f, "UserKem({generation})"),
            Payload::PasswordGeneration(generation) => write!(f, "PasswordGeneration({generation})"),
            Payload::LoginName(_) => f.write_str("LoginName"),
            Payload::RecoveryKey { generation, .. } => write!(f, "RecoveryKey({generation})"),
        }
    }
}

impl Body {
    /// The bytes that are signed.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut payload = Vec::new();
        self.payload.write(&mut payload);
        let mut out = Vec::with_capacity(HEADER_LENGTH + payload.len() + SIGNATURE_LENGTH);
        out.extend_from_slice(&[VERSION, SUITE, self.payload.kind()]);
        out.extend_from_slice(self.user.as_bytes());
        out.extend_from_slice(&self.index.to_be_bytes());
        out.extend_from_slice(&self.previous);
        out.extend_from_slice(&self.unix_ms.to_be_bytes());
        out.extend_from_slice(&u16::try_from(payload.len()).expect("payloads are short").to_be_bytes());
        out.extend_from_slice(&payload);
        out
    }

    /// Joins a body and the signature made over [`Body::to_bytes`].
    pub fn signed(self, signature: Signature) -> Entry {
        let mut bytes = self.to_bytes();
        bytes.extend_from_slice(&signature.0);
        Entry { body: self, signature, bytes }
    }
}

impl Entry {
    /// Reads one entry and nothing else. Says nothing about whether it is true.
    pub fn parse(bytes: &[u8]) -> Result<Entry, Malformed> {
        if bytes.len() > MAX_ENTRY_LENGTH {
            return Err(Malformed("too long"));
        }
        let mut reader = Reader(bytes);
        let [version, suite, kind] = reader.array()?;
        if version != VERSION {
            return Err(Malformed("unknown version"));
        }
        if suite != SUITE {
            return Err(Malformed("unknown suite"));
        }
        let user = UserId(reader.array()?);
        let index = u64::from_be_bytes(reader.array()?);
        let previous = reader.array()?;
        let unix_ms = u64::from_be_bytes(reader.array()?);
        let length = usize::from(u16::from_be_bytes(reader.array()?));
        let payload = Payload::read(kind, reader.take(length)?)?;
        let signature = Signature(reader.array()?);
        if !reader.0.is_empty() {
            return Err(Malformed("bytes follow the entry"));
        }
        Ok(Entry { body: Body { user, index, previous, unix_ms, payload }, signature, bytes: bytes.to_vec() })
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn body_bytes(&self) -> &[u8] {
        &self.bytes[..self.bytes.len() - SIGNATURE_LENGTH]
    }

    fn chain_value(&self) -> [u8; 32] {
        hash(Label::ACCOUNT_CHAIN, &[&self.body.previous, &self.bytes])
    }

    fn is_signed_by(&self, identity: &PublicKey) -> bool {
        identity.verify(Label::ACCOUNT_ENTRY, &[self.body_bytes()], &self.signature)
    }
}

impl AccountLog {
    /// Starts a log from its genesis, which names the person it belongs to.
    pub fn begin(genesis: &Entry) -> Result<AccountLog, Refusal> {
        let Payload::Genesis { identity, .. } = genesis.body.payload else {
            return Err(Refusal::NoGenesis);
        };
        if genesis.body.index != 0 {
            return Err(Refusal::WrongIndex);
        }
        if genesis.body.previous != [0; 32] {
            return Err(Refusal::WrongPrevious);
        }
        if genesis.body.user != UserId([0; 32]) {
            return Err(Refusal::OtherUser);
        }
        if !genesis.is_signed_by(&identity) {
            return Err(Refusal::WrongSignature);
        }
        Ok(AccountLog {
            user: UserId(hash(Label::USER_ID, &[genesis.body_bytes()])),
            identity,
            chain: vec![genesis.chain_value()],
            devices: BTreeMap::new(),
            kem: None,
            password_generation: 0,
            login_name: None,
            recovery: None,
        })
    }

    /// Verifies a whole log, from the genesis on.
    pub fn replay<'a>(entries: impl IntoIterator<Item = &'a [u8]>) -> Result<AccountLog, Refusal> {
        let mut entries = entries.into_iter();
        let genesis = Entry::parse(entries.next().ok_or(Refusal::Empty)?)?;
        let mut log = AccountLog::begin(&genesis)?;
        for bytes in entries {
            log.append(&Entry::parse(bytes)?)?;
        }
        Ok(log)
    }

    /// Takes the next entry, or refuses it and stays as it was.
    pub fn append(&mut self, entry: &Entry) -> Result<(), Refusal> {
        if entry.body.index != self.next_index() {
            return Err(Refusal::WrongIndex);
        }
        if entry.body.index >= MAX_ENTRIES {
            return Err(Refusal::TooLong);
        }
        if entry.body.user != self.user {
            return Err(Refusal::OtherUser);
        }
        if entry.body.previous != self.head().hash {
            return Err(Refusal::WrongPrevious);
        }
        if !entry.is_signed_by(&self.identity) {
            return Err(Refusal::WrongSignature);
        }
        match &entry.body.payload {
            Payload::Genesis { .. } => return Err(Refusal::SecondGenesis),
            Payload::DeviceAdd { device, key, proof } => {
                if *device != device_id(key) {
                    return Err(Refusal::DeviceIdMismatch);
                }
                if self.devices.contains_key(device) {
                    return Err(Refusal::DeviceKnown);
                }
                if !key.verify(Label::DEVICE_POP, &[self.user.as_bytes(), key.as_bytes()], proof) {
                    return Err(Refusal::WrongDeviceProof);
                }
                let added_at = entry.body.index;
                self.devices.insert(*device, Device { key: *key, added_at, revoked_at: None });
            }
            Payload::DeviceRevoke { device } => match self.devices.get_mut(device) {
                Some(known) if known.revoked_at.is_none() => known.revoked_at = Some(entry.body.index),
                _ => return Err(Refusal::DeviceUnknown),
            },
            Payload::UserKem { generation, public_key } => {
                let last = self.kem.as_ref().map_or(0, |(generation, _)| *generation);
                next_generation(last, *generation)?;
                self.kem = Some((*generation, public_key.clone()));
            }
            Payload::PasswordGeneration(generation) => {
                next_generation(self.password_generation, *generation)?;
                self.password_generation = *generation;
            }
            Payload::LoginName(digest) => self.login_name = Some(*digest),
            Payload::RecoveryKey { generation, public_key } => {
                next_generation(self.recovery.map_or(0, |(generation, _)| generation), *generation)?;
                self.recovery = Some((*generation, *public_key));
            }
        }
        self.chain.push(entry.chain_value());
        Ok(())
    }

    pub fn user(&self) -> UserId {
        self.user
    }

    pub fn identity(&self) -> PublicKey {
        self.identity
    }

    /// The last entry's place and chain value.
    pub fn head(&self) -> Pin {
        let index = self.next_index() - 1;
        Pin { index, hash: *self.chain.last().expect("a log has a genesis") }
    }

    pub fn next_index(&self) -> u64 {
        self.chain.len() as u64
    }

    /// Whether this log continues what was seen before.
    pub fn extends(&self, pin: &Pin) -> Extends {
        match usize::try_from(pin.index).ok().and_then(|index| self.chain.get(index)) {
            None => Extends::Shorter,
            Some(value) if *value == pin.hash => Extends::Yes,
            Some(_) => Extends::Forked,
        }
    }

    pub fn devices(&self) -> impl Iterator<Item = (&DeviceId, &Device)> {
        self.devices.iter()
    }

    /// A device that was added and not revoked.
    pub fn active_device(&self, device: &DeviceId) -> Option<&Device> {
        self.devices.get(device).filter(|device| device.revoked_at.is_none())
    }

    /// The newest KEM key and its generation.
    pub fn kem(&self) -> Option<(u32, &[u8; KEM_PUBLIC_KEY_LENGTH])> {
        self.kem.as_ref().map(|(generation, key)| (*generation, &**key))
    }

    /// How often the password was set; zero until the log says so.
    pub fn password_generation(&self) -> u32 {
        self.password_generation
    }

    pub fn login_name(&self) -> Option<[u8; 32]> {
        self.login_name
    }

    /// The newest recovery sign-in key and its generation.
    pub fn recovery(&self) -> Option<(u32, PublicKey)> {
        self.recovery
    }

    /// The body of the entry that would come next.
    pub fn next(&self, unix_ms: u64, payload: Payload) -> Body {
        Body { user: self.user, index: self.next_index(), previous: self.head().hash, unix_ms, payload }
    }
}

impl fmt::Debug for AccountLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccountLog")
            .field("user", &self.user)
            .field("entries", &self.chain.len())
            .field("devices", &self.devices.len())
            .finish_non_exhaustive()
    }
}

fn next_generation(last: u32, offered: u32) -> Result<(), Refusal> {
    if last.checked_add(1) == Some(offered) { Ok(()) } else { Err(Refusal::WrongGeneration) }
}

/// Takes bytes from the front, never past the end.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed("too short"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        Ok(self.take(N)?.try_into().expect("take returns what was asked for"))
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_be_bytes(self.array()?))
    }
}

#[cfg(all(test, feature = "seal"))]
mod tests {
    use super::*;
    use crate::cipher::AccountRootSecret;

    /// The other rules are tested from outside; a log of this length is made here only.
    #[test]
    fn a_log_has_an_end() {
        let identity = AccountRootSecret::generate().identity();
        let mut log = AccountLog::begin(&identity.sign_genesis(0)).unwrap();
        log.chain.resize(usize::try_from(MAX_ENTRIES).unwrap() - 1, [7; 32]);
        log.append(&identity.sign_entry(log.next(0, Payload::PasswordGeneration(1)))).unwrap();
        let beyond = identity.sign_entry(log.next(0, Payload::PasswordGeneration(2)));
        assert_eq!(log.append(&beyond), Err(Refusal::TooLong));
        assert_eq!(log.next_index(), MAX_ENTRIES);
    }
}
