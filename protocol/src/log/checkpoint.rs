//! CHECKPOINT: what is live at a position, in one hash, so that a new device need not read what came before.
//!
//! Owns the layout of the body, the hashing of pages and the note of what is forgotten.
//! Knows nothing of where the live changes are kept.
//!
//! ```text
//! body  := at_n u64 | at_h 32 | live_count u64 | page_size u32 = 1024 | page_count u32 | pages_root 32 | note_hash 32
//!          | ndev u16 | ndev x (did 16 | dev_seq u64 | e-hash 32), ascending by did
//! leaf  := rid 16 | cid 32 | ct_hash 32 | head u8            live changes at at_n, ascending by (rid, cid)
//! page  := H("ckpt-page", up to 1024 leaves)                  pages_root := H("ckpt-pages", live_count u64 | page ...)
//! note  := rid 16 ..., ascending: deleted records left out    note_hash  := H("ckpt-note", note), zero without a note;
//!          at most 1 MiB
//! ```
//!
//! The last byte of a leaf says whether the change is a head of its record: the next whole write must name exactly the
//! heads, so a device that begins here must be able to trust them. The note is in the clear: it names records that the
//! server is asked to forget, so the server must be able to read it.

use super::entry::Head;
use super::reader::{Malformed, Reader, u16_length};
use crate::hash::{Label, hash};
use crate::id::{ChangeId, DeviceId, RecordId};

pub const PAGE_SIZE: usize = 1024;
/// Devices that ever wrote in a vault. The list of their heads must fit into an entry.
pub const MAX_DEVICES: usize = 16_384;
/// The longest note: it travels beside its entry like payloads do.
pub const MAX_NOTE: usize = 1 << 20;
const LEAF_LENGTH: usize = RecordId::LENGTH + ChangeId::LENGTH + 32 + 1;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint<'a> {
    /// The position described, which is the one right before this entry.
    pub at: Head,
    pub root: Root,
    /// `H("ckpt-note", note)`, if something is left out for good.
    pub note: Option<[u8; 32]>,
    pub devices: DeviceHeads<'a>,
}

/// All live changes in one hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Root {
    pub live: u64,
    pub pages: [u8; 32],
}

/// One live change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    pub record: RecordId,
    pub change: ChangeId,
    /// `H("ct", payload)`.
    pub payload: [u8; 32],
    /// No later change was made on top of it.
    pub head: bool,
}

/// The last entry of one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceHead {
    pub device: DeviceId,
    pub dev_seq: u64,
    pub entry: [u8; 32],
}

/// Device heads as they stand in a body, read when it was parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceHeads<'a>(&'a [u8]);

const DEVICE_HEAD_LENGTH: usize = DeviceId::LENGTH + 8 + 32;

impl<'a> Checkpoint<'a> {
    pub fn parse(body: &'a [u8]) -> Result<Checkpoint<'a>, Malformed> {
        let mut reader = Reader::new(body);
        let at = Head { n: reader.u64()?, h: reader.array()? };
        // CREATE stands at 1, and the checkpoint must have a place after what it describes: whoever begins with it
        // counts on from there.
        if at.n == 0 || at.n == u64::MAX {
            return Err(Malformed("no checkpoint describes that position"));
        }
        let live = reader.u64()?;
        if reader.u32()? as usize != PAGE_SIZE {
            return Err(Malformed("pages have 1024 leaves"));
        }
        if u64::from(reader.u32()?) != live.div_ceil(PAGE_SIZE as u64) {
            return Err(Malformed("the number of pages does not fit the number of leaves"));
        }
        let root = Root { live, pages: reader.array()? };
        let note = Some(reader.array()?).filter(|hash| *hash != [0; 32]);
        let count = usize::from(reader.u16()?);
        if count > MAX_DEVICES {
            return Err(Malformed("too many devices"));
        }
        let devices = DeviceHeads(reader.take(count * DEVICE_HEAD_LENGTH)?);
        reader.end()?;
        if !devices.iter().is_sorted_by(|one, next| one.device < next.device) {
            return Err(Malformed("devices are not ascending"));
        }
        Ok(Checkpoint { at, root, note, devices })
    }

    /// The body of a checkpoint.
    pub fn write(
        at: Head,
        root: &Root,
        note: Option<[u8; 32]>,
        devices: impl IntoIterator<Item = DeviceHead>,
    ) -> Result<Vec<u8>, Malformed> {
        let pages = u32::try_from(root.live.div_ceil(PAGE_SIZE as u64)).map_err(|_| Malformed("too many leaves"))?;
        let mut out = Vec::with_capacity(256);
        out.extend_from_slice(&at.n.to_be_bytes());
        out.extend_from_slice(&at.h);
        out.extend_from_slice(&root.live.to_be_bytes());
        out.extend_from_slice(&(PAGE_SIZE as u32).to_be_bytes());
        out.extend_from_slice(&pages.to_be_bytes());
        out.extend_from_slice(&root.pages);
        out.extend_from_slice(&note.unwrap_or([0; 32]));
        let mut devices: Vec<DeviceHead> = devices.into_iter().collect();
        if devices.len() > MAX_DEVICES {
            return Err(Malformed("too many devices"));
        }
        devices.sort_unstable_by_key(|head| head.device);
        out.extend_from_slice(&u16_length(devices.len()));
        for head in &devices {
            out.extend_from_slice(head.device.as_bytes());
            out.extend_from_slice(&head.dev_seq.to_be_bytes());
            out.extend_from_slice(&head.entry);
        }
        Checkpoint::parse(&out)?;
        Ok(out)
    }
}

impl<'a> DeviceHeads<'a> {
    pub fn iter(&self) -> impl ExactSizeIterator<Item = DeviceHead> + use<'a> {
        self.0.as_chunks::<DEVICE_HEAD_LENGTH>().0.iter().map(|bytes| {
            let mut reader = Reader::new(bytes);
            let mut read = || -> Result<DeviceHead, Malformed> {
                let device = DeviceId(reader.array()?);
                Ok(DeviceHead { device, dev_seq: reader.u64()?, entry: reader.array()? })
            };
            read().expect("a chunk has the length of a device head")
        })
    }
}

/// Hashes leaves, given in ascending order, into pages and pages into a root.
#[derive(Debug, Default)]
pub struct Pages {
    open: Vec<u8>,
    hashes: Vec<u8>,
    live: u64,
}

impl Pages {
    pub fn push(&mut self, leaf: &Leaf) {
        self.open.extend_from_slice(leaf.record.as_bytes());
        self.open.extend_from_slice(leaf.change.as_bytes());
        self.open.extend_from_slice(&leaf.payload);
        self.open.push(u8::from(leaf.head));
        self.live += 1;
        if self.open.len() == PAGE_SIZE * LEAF_LENGTH {
            self.close_page();
        }
    }

    fn close_page(&mut self) {
        if !self.open.is_empty() {
            self.hashes.extend_from_slice(&hash(Label::CHECKPOINT_PAGE, &[&self.open]));
            self.open.clear();
        }
    }

    /// The hashes of the pages, one after the other, and the root over them.
    pub fn finish(mut self) -> (Vec<u8>, Root) {
        self.close_page();
        let root = Root::of(self.live, &self.hashes);
        (self.hashes, root)
    }
}

impl Root {
    /// The root over page hashes that stand one after the other.
    pub fn of(live: u64, page_hashes: &[u8]) -> Root {
        Root { live, pages: hash(Label::CHECKPOINT_PAGES, &[&live.to_be_bytes(), page_hashes]) }
    }
}

impl FromIterator<Leaf> for Root {
    fn from_iter<T: IntoIterator<Item = Leaf>>(leaves: T) -> Root {
        let mut pages = Pages::default();
        leaves.into_iter().for_each(|leaf| pages.push(&leaf));
        pages.finish().1
    }
}

/// The note that names records to be forgotten, and its hash for the body.
pub fn write_note(records: &[RecordId]) -> (Vec<u8>, [u8; 32]) {
    let mut records = records.to_vec();
    records.sort_unstable();
    records.dedup();
    let note: Vec<u8> = records.iter().flat_map(|record| record.0).collect();
    let digest = hash(Label::CHECKPOINT_NOTE, &[&note]);
    (note, digest)
}

/// The records a note names, if these bytes are the note of that hash.
pub fn read_note(note: &[u8], expected: &[u8; 32]) -> Result<Vec<RecordId>, Malformed> {
    if note.len() > MAX_NOTE {
        return Err(Malformed("the note is too long"));
    }
    let (ids, rest) = note.as_chunks::<{ RecordId::LENGTH }>();
    if ids.is_empty() || !rest.is_empty() || !ids.is_sorted_by(|one, next| one < next) {
        return Err(Malformed("a note names records, ascending"));
    }
    if hash(Label::CHECKPOINT_NOTE, &[note]) != *expected {
        return Err(Malformed("not the note the checkpoint names"));
    }
    Ok(ids.iter().map(|id| RecordId(*id)).collect())
}
