//! One entry: who says what, having seen what.
//!
//! Owns the layout of an entry, its parser, and the hashes of an entry and of the chain.
//! Knows nothing of which entry may follow which, and cannot sign.

use super::checkpoint::Checkpoint;
use super::control::Control;
use super::data::Data;
use super::reader::{Malformed, Reader, u32_length};
use crate::hash::{Label, hash};
use crate::id::{DeviceId, UserId, VaultId};
use crate::sign::{PublicKey, Signature};

pub const VERSION: u8 = 1;
pub const SUITE: u8 = 1;
/// Bytes before the body.
pub const HEADER_LENGTH: usize = 220;
pub const SIGNATURE_LENGTH: usize = 64;
/// The longest body there is, payloads not counted: they travel beside it.
pub const MAX_BODY_LENGTH: usize = 1 << 20;
pub const MAX_ENTRY_LENGTH: usize = HEADER_LENGTH + MAX_BODY_LENGTH + SIGNATURE_LENGTH;

/// A position in a vault's log and the chain value there: whoever holds one can tell a longer log from another log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Head {
    pub n: u64,
    pub h: [u8; 32],
}

/// What an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Control = 1,
    Data = 2,
    Checkpoint = 3,
    Heartbeat = 4,
}

/// The part that is the same for every kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// All zero in CREATE.
    pub vault: VaultId,
    pub user: UserId,
    pub device: DeviceId,
    /// Counts this device's entries in this vault, from 1, without gaps.
    pub dev_seq: u64,
    /// The hash of this device's entry before; all zero for the first.
    pub dev_prev: [u8; 32],
    /// The last position the author had verified, and the chain value there.
    pub seen: Head,
    /// The hash of the latest CONTROL entry.
    pub control: [u8; 32],
    pub epoch: u32,
    /// The latest checkpoint this device recomputed and found right; 0 for none.
    pub checkpoint_ok: u64,
    /// The author's clock, for people to read: nothing depends on it.
    pub unix_ms: u64,
}

/// The part that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    Control(Control),
    Data(Data<'a>),
    Checkpoint(Checkpoint<'a>),
    Heartbeat,
}

/// A signed entry, parsed, borrowing the bytes it came as. That it parsed says nothing about whether it is true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    pub header: Header,
    pub body: Body<'a>,
    signature: Signature,
    bytes: &'a [u8],
}

impl Kind {
    fn read(byte: u8) -> Result<Kind, Malformed> {
        match byte {
            1 => Ok(Kind::Control),
            2 => Ok(Kind::Data),
            3 => Ok(Kind::Checkpoint),
            4 => Ok(Kind::Heartbeat),
            _ => Err(Malformed("unknown kind of entry")),
        }
    }
}

impl Header {
    /// The bytes a device signs under the label `vault-entry-sig`. The body comes from the type that owns its layout.
    ///
    /// ```text
    /// off len  field                     off len  field
    /// 0   1    ver = 1                   124 8    seen_n
    /// 1   1    suite = 1                 132 32   seen_h
    /// 2   1    kind                      164 32   ctl_h
    /// 3   1    zero                      196 4    epoch
    /// 4   32   vid                       200 8    ckpt_ok
    /// 36  32   uid                       208 8    unix_ms
    /// 68  16   did                       216 4    body_len
    /// 84  8    dev_seq                   220      body
    /// 92  32   dev_prev                  ...  64  signature over everything before it
    /// ```
    pub fn with_body(&self, kind: Kind, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_LENGTH + body.len() + SIGNATURE_LENGTH);
        out.extend_from_slice(&[VERSION, SUITE, kind as u8, 0]);
        out.extend_from_slice(self.vault.as_bytes());
        out.extend_from_slice(self.user.as_bytes());
        out.extend_from_slice(self.device.as_bytes());
        out.extend_from_slice(&self.dev_seq.to_be_bytes());
        out.extend_from_slice(&self.dev_prev);
        out.extend_from_slice(&self.seen.n.to_be_bytes());
        out.extend_from_slice(&self.seen.h);
        out.extend_from_slice(&self.control);
        out.extend_from_slice(&self.epoch.to_be_bytes());
        out.extend_from_slice(&self.checkpoint_ok.to_be_bytes());
        out.extend_from_slice(&self.unix_ms.to_be_bytes());
        out.extend_from_slice(&u32_length(body.len()));
        out.extend_from_slice(body);
        out
    }

    fn read(reader: &mut Reader<'_>) -> Result<Header, Malformed> {
        Ok(Header {
            vault: VaultId(reader.array()?),
            user: UserId(reader.array()?),
            device: DeviceId(reader.array()?),
            dev_seq: reader.u64()?,
            dev_prev: reader.array()?,
            seen: Head { n: reader.u64()?, h: reader.array()? },
            control: reader.array()?,
            epoch: reader.u32()?,
            checkpoint_ok: reader.u64()?,
            unix_ms: reader.u64()?,
        })
    }
}

impl<'a> Entry<'a> {
    /// Reads one entry and nothing else.
    pub fn parse(bytes: &'a [u8]) -> Result<Entry<'a>, Malformed> {
        if bytes.len() > MAX_ENTRY_LENGTH {
            return Err(Malformed("the entry is too long"));
        }
        let mut reader = Reader::new(bytes);
        let [version, suite, kind, zero] = reader.array()?;
        if version != VERSION {
            return Err(Malformed("unknown version"));
        }
        if suite != SUITE {
            return Err(Malformed("unknown suite"));
        }
        if zero != 0 {
            return Err(Malformed("the fourth byte is not zero"));
        }
        let kind = Kind::read(kind)?;
        let header = Header::read(&mut reader)?;
        let length = reader.u32()? as usize;
        if length > MAX_BODY_LENGTH {
            return Err(Malformed("the body is too long"));
        }
        let body = reader.take(length)?;
        let signature = Signature(reader.array()?);
        reader.end()?;
        let body = match kind {
            Kind::Control => Body::Control(Control::parse(body)?),
            Kind::Data => Body::Data(Data::parse(body)?),
            Kind::Checkpoint => Body::Checkpoint(Checkpoint::parse(body)?),
            Kind::Heartbeat if body.is_empty() => Body::Heartbeat,
            Kind::Heartbeat => return Err(Malformed("a heartbeat has no body")),
        };
        let entry = Entry { header, body, signature, bytes };
        entry.agrees_with_itself()?;
        Ok(entry)
    }

    /// What header and body say twice, they must say alike.
    fn agrees_with_itself(&self) -> Result<(), Malformed> {
        let Header { vault, dev_seq, dev_prev, seen, control, epoch, .. } = &self.header;
        if *dev_seq == 0 {
            return Err(Malformed("entries of a device count from 1"));
        }
        if (*dev_seq == 1) != (*dev_prev == [0; 32]) {
            return Err(Malformed("the first entry of a device, and only that, follows nothing"));
        }
        match &self.body {
            Body::Control(Control::Create(_)) => {
                let blank = *vault == VaultId([0; 32]) && *control == [0; 32] && *seen == Head { n: 0, h: [0; 32] };
                if !blank || *dev_seq != 1 || *epoch != 1 || self.header.checkpoint_ok != 0 {
                    return Err(Malformed("CREATE follows nothing and begins epoch 1"));
                }
            }
            Body::Checkpoint(checkpoint) if checkpoint.at != *seen => {
                return Err(Malformed("a checkpoint describes what its author has just seen"));
            }
            Body::Control(Control::ResetTail { n }) if *n != seen.n => {
                return Err(Malformed("RESET_TAIL names the position its author stands at"));
            }
            _ => {}
        }
        Ok(())
    }

    pub fn kind(&self) -> Kind {
        match self.body {
            Body::Control(_) => Kind::Control,
            Body::Data(_) => Kind::Data,
            Body::Checkpoint(_) => Kind::Checkpoint,
            Body::Heartbeat => Kind::Heartbeat,
        }
    }

    /// The bytes it came as, signature included.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    fn signed_bytes(&self) -> &'a [u8] {
        &self.bytes[..self.bytes.len() - SIGNATURE_LENGTH]
    }

    pub fn is_signed_by(&self, key: &PublicKey) -> bool {
        key.verify(Label::VAULT_ENTRY_SIG, &[self.signed_bytes()], &self.signature)
    }

    /// `e = H("vault-entry", entry)`.
    pub fn hash(&self) -> [u8; 32] {
        hash(Label::VAULT_ENTRY, &[self.bytes])
    }

    /// The vault this entry creates: `vid = H("vault-id", CREATE entry without its signature)`.
    pub fn creates(&self) -> Option<VaultId> {
        match self.body {
            Body::Control(Control::Create(_)) => Some(VaultId(hash(Label::VAULT_ID, &[self.signed_bytes()]))),
            _ => None,
        }
    }
}

/// `h_n = H("vault-chain", h_(n-1) | n | e_n)`.
pub fn chain(previous: &[u8; 32], n: u64, entry: &[u8; 32]) -> [u8; 32] {
    hash(Label::VAULT_CHAIN, &[previous, &n.to_be_bytes(), entry])
}

/// Joins what was signed and the signature.
pub fn signed(mut unsigned: Vec<u8>, signature: &Signature) -> Vec<u8> {
    unsigned.extend_from_slice(&signature.0);
    unsigned
}
