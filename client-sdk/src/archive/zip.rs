//! The container: a ZIP file whose members are stored as they are.
//!
//! Owns one narrow form of ZIP, in which the names and contents of the members decide every byte of the file. So the
//! reader makes the headers again and compares them, and there is no second reading of the same file: no member that
//! lies in another, none before or behind, no length that says two things. Nothing is compressed, so nothing grows when
//! it is read. Knows nothing of what the members are. See docs/decisions, 13.

use super::ArchiveError;
use super::sealed::{In, Out};
use sha2::{Digest as _, Sha256};
use std::io::{Read, Seek, Write};

type Result<T> = std::result::Result<T, ArchiveError>;

const LOCAL: u32 = 0x0403_4b50;
const DESCRIPTOR: u32 = 0x0807_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
const END_64: u32 = 0x0606_4b50;
const LOCATOR_64: u32 = 0x0706_4b50;
/// 4.5: sizes of 64 bits.
const VERSION: u16 = 45;
/// Made on Unix, where files have permissions.
const MADE_BY: u16 = (3 << 8) | VERSION;
/// Names are UTF-8; sizes and checksum come behind the content.
const FLAGS: u16 = 0x0808;
/// The first of January 1980, the earliest that ZIP can say: when an archive was made stands in its manifest.
const DATE: u16 = 0x0021;
/// A file that its owner reads and writes.
const MODE: u32 = 0o100_600 << 16;
const DESCRIPTOR_LENGTH: u64 = 24;
const MOST_DIRECTORY: u64 = 16 * 1024 * 1024;
const PIECE: usize = 64 * 1024;

/// A member, as the directory has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) name: String,
    at: u64,
    pub(super) size: u64,
    crc: u32,
}

/// Writes members one after the other.
pub(super) struct Packer<W: Write> {
    out: Out<W>,
    at: u64,
    members: Vec<Member>,
    open: Option<Open>,
}

struct Open {
    member: Member,
    crc: crc32fast::Hasher,
    sha: Sha256,
}

impl<W: Write> Packer<W> {
    pub(super) fn new(out: Out<W>) -> Self {
        Packer { out, at: 0, members: Vec::new(), open: None }
    }

    pub(super) fn begin(&mut self, name: String) -> Result<()> {
        let header = local_header(&name);
        let member = Member { name, at: self.at, size: 0, crc: 0 };
        self.open = Some(Open { member, crc: crc32fast::Hasher::new(), sha: Sha256::new() });
        self.put(&header)
    }

    /// More of the member that was begun.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if let Some(open) = &mut self.open {
            open.crc.update(bytes);
            open.sha.update(bytes);
            open.member.size += bytes.len() as u64;
        }
        self.put(bytes)
    }

    /// Ends the member that was begun; its SHA-256.
    pub(super) fn end(&mut self) -> Result<[u8; 32]> {
        let Some(Open { mut member, crc, sha }) = self.open.take() else { return Ok([0; 32]) };
        member.crc = crc.finalize();
        self.put(&descriptor(&member))?;
        self.members.push(member);
        Ok(sha.finalize().into())
    }

    pub(super) fn finish(mut self) -> Result<W> {
        let directory = directory(&self.members, self.at);
        self.put(&directory)?;
        self.out.finish()
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.at += bytes.len() as u64;
        self.out.put(bytes)
    }
}

/// Reads members, in whatever order.
pub(super) struct Unpacker<R> {
    from: In<R>,
    pub(super) members: Vec<Member>,
}

impl<R: Read + Seek> Unpacker<R> {
    /// Reads the directory and checks that the members fill the file, without a gap.
    pub(super) fn open(mut from: In<R>) -> Result<Self> {
        let length = from.length();
        let mut signature = [0; 4];
        from.read(0, &mut signature).map_err(|_| ArchiveError::NotAnArchive)?;
        if signature != LOCAL.to_le_bytes() {
            return Err(ArchiveError::NotAnArchive);
        }
        let no_end = || ArchiveError::damaged("its end is missing");
        let mut end = [0; 22];
        from.read(length.checked_sub(22).ok_or_else(no_end)?, &mut end)?;
        if le(&end, 0, 4) != u64::from(END) {
            return Err(no_end());
        }
        let mut begins = le(&end, 16, 4);
        // A directory that is too far behind, or too long, for 32 bits is announced once more.
        if le(&end, 10, 2) == 0xffff || le(&end, 12, 4) == 0xffff_ffff || begins == 0xffff_ffff {
            let mut end = [0; 56];
            from.read(length.checked_sub(22 + 20 + 56).ok_or_else(no_end)?, &mut end)?;
            begins = le(&end, 48, 8);
        }
        let size = length.checked_sub(begins).filter(|size| *size <= MOST_DIRECTORY);
        let size = size.ok_or_else(|| ArchiveError::damaged("its directory is not where it should be"))?;
        // At most 16 MiB.
        let mut tail = vec![0; size as usize];
        from.read(begins, &mut tail)?;
        let members = listed(&tail).ok_or_else(|| ArchiveError::damaged("its directory"))?;
        if directory(&members, begins) != tail {
            return Err(ArchiveError::damaged("its directory is none that this program writes"));
        }
        let mut next = Some(0_u64);
        for member in &members {
            if next != Some(member.at) {
                return Err(ArchiveError::damaged("its members do not follow each other"));
            }
            let around = local_header(&member.name).len() as u64 + DESCRIPTOR_LENGTH;
            next = member.at.checked_add(around).and_then(|next| next.checked_add(member.size));
        }
        if next != Some(begins) {
            return Err(ArchiveError::damaged("its members do not fill it"));
        }
        Ok(Unpacker { from, members })
    }

    /// Goes through a member from its header to its end and checks all of it; its SHA-256. What is visited is proven
    /// only when this returns.
    pub(super) fn read<E: From<ArchiveError>>(
        &mut self,
        member: &Member,
        mut visit: impl FnMut(&[u8]) -> std::result::Result<(), E>,
    ) -> std::result::Result<[u8; 32], E> {
        let header = local_header(&member.name);
        self.expect(member.at, &header, &member.name)?;
        let (mut crc, mut sha) = (crc32fast::Hasher::new(), Sha256::new());
        let (mut at, mut left) = (member.at + header.len() as u64, member.size);
        let mut piece = vec![0; PIECE];
        while left > 0 {
            let now = left.min(PIECE as u64);
            let piece = &mut piece[..now as usize];
            self.from.read(at, piece)?;
            crc.update(piece);
            sha.update(&*piece);
            visit(piece)?;
            (at, left) = (at + now, left - now);
        }
        if crc.finalize() != member.crc {
            return Err(ArchiveError::damaged(format!("{:?} was changed", member.name)).into());
        }
        self.expect(at, &descriptor(member), &member.name)?;
        Ok(sha.finalize().into())
    }

    fn expect(&mut self, at: u64, bytes: &[u8], name: &str) -> Result<()> {
        let mut found = vec![0; bytes.len()];
        self.from.read(at, &mut found)?;
        if found != bytes {
            return Err(ArchiveError::damaged(format!("what frames {name:?} was changed")));
        }
        Ok(())
    }
}

/// Numbers, least significant byte first.
#[derive(Default)]
struct Laid(Vec<u8>);

impl Laid {
    fn two(mut self, number: u16) -> Self {
        self.0.extend_from_slice(&number.to_le_bytes());
        self
    }

    fn four(mut self, number: u32) -> Self {
        self.0.extend_from_slice(&number.to_le_bytes());
        self
    }

    fn eight(mut self, number: u64) -> Self {
        self.0.extend_from_slice(&number.to_le_bytes());
        self
    }

    fn text(mut self, text: &str) -> Self {
        self.0.extend_from_slice(text.as_bytes());
        self
    }
}

/// The size is not known yet: it stands behind the content, in 64 bits, as the empty field here announces.
fn local_header(name: &str) -> Vec<u8> {
    let laid = Laid::default().four(LOCAL).two(VERSION).two(FLAGS).two(0).two(0).two(DATE);
    let laid = laid.four(0).four(u32::MAX).four(u32::MAX).two(short(name.len())).two(20).text(name);
    laid.two(1).two(16).eight(0).eight(0).0
}

fn descriptor(member: &Member) -> Vec<u8> {
    Laid::default().four(DESCRIPTOR).four(member.crc).eight(member.size).eight(member.size).0
}

/// Everything behind the members.
fn directory(members: &[Member], begins: u64) -> Vec<u8> {
    let mut out = Vec::new();
    for Member { name, at, size, crc } in members {
        let mut large = Laid::default();
        if fits(*size) == u32::MAX {
            large = large.eight(*size).eight(*size);
        }
        if fits(*at) == u32::MAX {
            large = large.eight(*at);
        }
        let extra = if large.0.is_empty() { 0 } else { short(large.0.len() + 4) };
        let laid = Laid::default().four(CENTRAL).two(MADE_BY).two(VERSION).two(FLAGS).two(0).two(0).two(DATE);
        let laid = laid.four(*crc).four(fits(*size)).four(fits(*size)).two(short(name.len())).two(extra).two(0);
        out.extend_from_slice(&laid.two(0).two(0).four(MODE).four(fits(*at)).text(name).0);
        if extra > 0 {
            out.extend_from_slice(&Laid::default().two(1).two(extra - 4).0);
            out.extend_from_slice(&large.0);
        }
    }
    let (count, size) = (members.len() as u64, out.len() as u64);
    if count >= 0xffff || fits(size) == u32::MAX || fits(begins) == u32::MAX {
        let laid = Laid::default().four(END_64).eight(44).two(MADE_BY).two(VERSION).four(0).four(0);
        let laid = laid.eight(count).eight(count).eight(size).eight(begins);
        out.extend_from_slice(&laid.four(LOCATOR_64).four(0).eight(begins + size).four(1).0);
    }
    let count = u16::try_from(count).unwrap_or(u16::MAX);
    let laid = Laid::default().four(END).two(0).two(0).two(count).two(count);
    out.extend_from_slice(&laid.four(fits(size)).four(fits(begins)).two(0).0);
    out
}

/// What is too large for 32 bits is said to be elsewhere.
fn fits(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Names of members are ours, and short.
fn short(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}

/// The members that a directory names. Whether it is one of ours is for the caller to see.
fn listed(directory: &[u8]) -> Option<Vec<Member>> {
    let mut members = Vec::new();
    let mut rest = directory;
    while rest.starts_with(&CENTRAL.to_le_bytes()) {
        let (head, after) = rest.split_at_checked(46)?;
        let (name, after) = after.split_at_checked(usize::try_from(le(head, 28, 2)).ok()?)?;
        let (extra, after) = after.split_at_checked(usize::try_from(le(head, 30, 2)).ok()?)?;
        let (mut size, mut at) = (le(head, 24, 4), le(head, 42, 4));
        let mut large = extra.get(4..).unwrap_or_default();
        if size == u64::from(u32::MAX) {
            size = le(large.get(..16)?, 0, 8);
            large = &large[16..];
        }
        if at == u64::from(u32::MAX) {
            at = le(large.get(..8)?, 0, 8);
        }
        let name = std::str::from_utf8(name).ok()?.to_owned();
        members.push(Member { name, at, size, crc: u32::try_from(le(head, 16, 4)).ok()? });
        rest = after;
    }
    Some(members)
}

/// The number of that many bytes at a place that is there.
fn le(bytes: &[u8], at: usize, length: usize) -> u64 {
    bytes[at..at + length].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn packed(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut packer = Packer::new(Out::new(Vec::new(), None).unwrap());
        for (name, content) in members {
            packer.begin((*name).to_owned()).unwrap();
            packer.write(content).unwrap();
            packer.end().unwrap();
        }
        packer.finish().unwrap()
    }

    fn unpacked(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>> {
        let mut unpacker = Unpacker::open(In::new(Cursor::new(bytes), None)?)?;
        let mut all = Vec::new();
        for member in unpacker.members.clone() {
            let mut content = Vec::new();
            unpacker.read(&member, |piece| {
                content.extend_from_slice(piece);
                Ok::<(), ArchiveError>(())
            })?;
            all.push((member.name, content));
        }
        Ok(all)
    }

    #[test]
    fn what_was_packed_is_unpacked() {
        let large = vec![9; PIECE * 2 + 1];
        let bytes = packed(&[("a", b"hello"), ("b/ü", b""), ("c", &large)]);
        let expected = [("a".to_owned(), b"hello".to_vec()), ("b/ü".to_owned(), vec![]), ("c".to_owned(), large)];
        assert_eq!(unpacked(&bytes).unwrap(), expected);
    }

    #[test]
    fn every_byte_counts_and_none_may_be_missing_or_too_many() {
        let bytes = packed(&[("a", b"hello"), ("b", b"world")]);
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                assert!(unpacked(&changed).is_err(), "byte {at} bit {bit}");
            }
            assert!(unpacked(&bytes[..at]).is_err(), "cut off at {at}");
        }
        assert!(unpacked(&[bytes.as_slice(), b"\0"].concat()).is_err());
        assert!(unpacked(&[b"\0", bytes.as_slice()].concat()).is_err());
    }

    #[test]
    fn large_members_and_many_are_listed_as_they_are() {
        let four_gib = 1 << 32;
        let one = |name: &str, at, size| Member { name: name.into(), at, size, crc: 7 };
        let members = [one("a", 0, four_gib), one("b", four_gib + 100, 5), one("c", four_gib * 3, four_gib * 2)];
        let tail = directory(&members, four_gib * 6);
        assert_eq!(listed(&tail).unwrap(), members);
        assert_eq!(le(&tail, tail.len() - 22 - 20 - 8, 8), four_gib * 6, "where the reader looks for it");
    }
}
