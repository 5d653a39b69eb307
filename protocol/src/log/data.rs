//! DATA: changes to records.
//!
//! Owns the clear headers of changes, their layout and the names of changes and payloads. The payloads, sealed, travel
//! beside the entry. Knows nothing of what is in them.
//!
//! ```text
//! body   := count u16 (1..=256) | count x change
//! change := rid 16 | flags u8 (bit 0: FULL) | ndeps u8 (<= 16) | ndeps x cid 32, ascending | ct_len u32 | ct_hash 32
//! ct_hash = H("ct", ct)      cid = H("change", vid | did | dev_seq u64 | index u16 | change)
//! ```

use super::reader::{Malformed, Reader, u16_length, u32_length};
use crate::hash::{Label, hash};
use crate::id::{ChangeId, DeviceId, RecordId, VaultId};

pub const MAX_CHANGES: usize = 256;
pub const MAX_DEPS: usize = 16;
/// The longest sealed payload; what is larger is a blob.
pub const MAX_PAYLOAD: usize = 256 << 10;
/// The shortest sealed payload: a nonce, 64 bytes of padded content, a tag.
pub const MIN_PAYLOAD: usize = 24 + 64 + 16;
/// All payloads of one entry together.
pub const MAX_PAYLOADS: usize = 1 << 20;
const FULL: u8 = 1;

/// The changes of one entry. Every one was read when this was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Data<'a> {
    count: u16,
    changes: &'a [u8],
}

/// The clear header of one change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change<'a> {
    /// Its place in its entry, from 0.
    pub index: u16,
    pub record: RecordId,
    /// The record's complete state, not a difference.
    pub full: bool,
    /// The changes this one was made on top of.
    pub deps: Deps<'a>,
    pub payload_length: u32,
    /// `H("ct", payload)`.
    pub payload: [u8; 32],
    bytes: &'a [u8],
}

/// Change ids, ascending, each once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deps<'a>(&'a [u8]);

/// A change to be written.
#[derive(Clone, Copy, Debug)]
pub struct NewChange<'a> {
    pub record: RecordId,
    pub full: bool,
    pub deps: &'a [ChangeId],
    /// Sealed.
    pub payload: &'a [u8],
}

/// What `ct_hash` says of a payload.
pub fn payload_hash(payload: &[u8]) -> [u8; 32] {
    hash(Label::PAYLOAD, &[payload])
}

impl<'a> Data<'a> {
    pub fn parse(body: &'a [u8]) -> Result<Data<'a>, Malformed> {
        let mut reader = Reader::new(body);
        let count = reader.u16()?;
        if count == 0 || usize::from(count) > MAX_CHANGES {
            return Err(Malformed("an entry has 1 to 256 changes"));
        }
        let changes = reader.rest();
        let mut payloads = 0;
        for index in 0..count {
            payloads += Change::read(&mut reader, index)?.payload_length as usize;
        }
        reader.end()?;
        if payloads > MAX_PAYLOADS {
            return Err(Malformed("the payloads of one entry are too long"));
        }
        Ok(Data { count, changes })
    }

    /// The body of an entry with these changes.
    pub fn write(changes: &[NewChange<'_>]) -> Result<Vec<u8>, Malformed> {
        if changes.is_empty() || changes.len() > MAX_CHANGES {
            return Err(Malformed("an entry has 1 to 256 changes"));
        }
        let mut out = u16_length(changes.len()).to_vec();
        for change in changes {
            change.write(&mut out)?;
        }
        Data::parse(&out)?;
        Ok(out)
    }

    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// Never: an entry without changes does not parse.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn changes(&self) -> impl Iterator<Item = Change<'a>> + use<'a> {
        let mut reader = Reader::new(self.changes);
        (0..self.count).map(move |index| Change::read(&mut reader, index).expect("it was read when it was parsed"))
    }
}

impl<'a> Change<'a> {
    fn read(reader: &mut Reader<'a>, index: u16) -> Result<Change<'a>, Malformed> {
        let start = reader.rest();
        let record = RecordId(reader.array()?);
        let flags = reader.u8()?;
        if flags & !FULL != 0 {
            return Err(Malformed("unknown flags"));
        }
        let count = usize::from(reader.u8()?);
        if count > MAX_DEPS {
            return Err(Malformed("more than 16 dependencies"));
        }
        let deps = Deps(reader.take(count * ChangeId::LENGTH)?);
        if !deps.iter().is_sorted_by(|one, next| one < next) {
            return Err(Malformed("dependencies are not ascending"));
        }
        let payload_length = reader.u32()?;
        if !(MIN_PAYLOAD..=MAX_PAYLOAD).contains(&(payload_length as usize)) {
            return Err(Malformed("no payload has this length"));
        }
        let payload = reader.array()?;
        let bytes = &start[..start.len() - reader.rest().len()];
        Ok(Change { index, record, full: flags & FULL != 0, deps, payload_length, payload, bytes })
    }

    /// Reads one clear header on its own, as a page of a checkpoint carries it.
    pub fn parse(bytes: &'a [u8], index: u16) -> Result<Change<'a>, Malformed> {
        let mut reader = Reader::new(bytes);
        let change = Change::read(&mut reader, index)?;
        reader.end()?;
        Ok(change)
    }

    pub fn id(&self, vault: &VaultId, device: &DeviceId, dev_seq: u64) -> ChangeId {
        let place = [dev_seq.to_be_bytes().as_slice(), &self.index.to_be_bytes()].concat();
        ChangeId(hash(Label::CHANGE, &[vault.as_bytes(), device.as_bytes(), &place, self.bytes]))
    }

    /// The clear header as it stands in the entry.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Whether these bytes are this change's payload.
    pub fn is_payload(&self, payload: &[u8]) -> bool {
        payload.len() == self.payload_length as usize && payload_hash(payload) == self.payload
    }
}

impl<'a> Deps<'a> {
    pub fn iter(&self) -> impl ExactSizeIterator<Item = ChangeId> + use<'a> {
        self.0.as_chunks::<{ ChangeId::LENGTH }>().0.iter().map(|id| ChangeId(*id))
    }

    pub fn len(&self) -> usize {
        self.0.len() / ChangeId::LENGTH
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl NewChange<'_> {
    fn write(&self, out: &mut Vec<u8>) -> Result<(), Malformed> {
        if self.deps.len() > MAX_DEPS {
            return Err(Malformed("more than 16 dependencies"));
        }
        if self.payload.len() > MAX_PAYLOAD {
            return Err(Malformed("no payload has this length"));
        }
        let mut deps = self.deps.to_vec();
        deps.sort_unstable();
        out.extend_from_slice(self.record.as_bytes());
        out.push(if self.full { FULL } else { 0 });
        out.push(u8::try_from(deps.len()).expect("at most 16"));
        for dep in &deps {
            out.extend_from_slice(dep.as_bytes());
        }
        out.extend_from_slice(&u32_length(self.payload.len()));
        out.extend_from_slice(&payload_hash(self.payload));
        Ok(())
    }
}
