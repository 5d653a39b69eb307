//! An entry and what travels beside it, in the one form in which it is pushed, stored and pulled.
//!
//! Owns the layout. A server keeps the bytes it was sent and hands them on; when payloads that nothing refers to any
//! more are dropped, the frame is written again without them. Knows nothing of where frames are kept.
//!
//! ```text
//! frame  := entry_len u32 | entry | beside u8 | ...
//! beside 0: nothing
//!        1: everything: the payloads of a DATA entry in order, or the note of a CHECKPOINT that names one
//!        2: some payloads: ceil(count / 8) bytes, bit i of byte i / 8 (lowest first) set for each that is there,
//!           then those, in order; at least one is there and one is missing
//! ```

use super::checkpoint::MAX_NOTE;
use super::core::Beside;
use super::data::{Data, MAX_CHANGES, MAX_PAYLOADS};
use super::entry::{Body, Entry, MAX_ENTRY_LENGTH};
use super::reader::{Malformed, Reader, u32_length};

/// The longest frame there is: the longest entry, a bit for every change, and all payloads or the note.
pub const MAX_FRAME_LENGTH: usize = 4 + MAX_ENTRY_LENGTH + 1 + MAX_CHANGES.div_ceil(8) + MAX_PAYLOADS;
const _: () = assert!(MAX_NOTE <= MAX_PAYLOADS, "a note is no longer than payloads are");

const NOTHING: u8 = 0;
const EVERYTHING: u8 = 1;
const SOME: u8 = 2;

/// A frame, parsed, borrowing the bytes it came as.
#[derive(Clone, Debug)]
pub struct Frame<'a> {
    pub entry: Entry<'a>,
    beside: Carried<'a>,
}

#[derive(Clone, Debug)]
enum Carried<'a> {
    Nothing,
    Payloads(Vec<Option<&'a [u8]>>),
    Note(&'a [u8]),
}

impl<'a> Frame<'a> {
    /// Reads one frame and nothing else. That it parsed says nothing about whether the payloads are the right ones:
    /// the log's rules see to that.
    pub fn parse(bytes: &'a [u8]) -> Result<Frame<'a>, Malformed> {
        if bytes.len() > MAX_FRAME_LENGTH {
            return Err(Malformed("the frame is too long"));
        }
        let mut reader = Reader::new(bytes);
        let length = reader.u32()? as usize;
        let entry = Entry::parse(reader.take(length)?)?;
        let kind = reader.u8()?;
        let beside = match (&entry.body, kind) {
            (_, NOTHING) => Carried::Nothing,
            (Body::Data(data), EVERYTHING | SOME) => Carried::Payloads(read_payloads(data, kind, &mut reader)?),
            (Body::Checkpoint(checkpoint), EVERYTHING) if checkpoint.note.is_some() => {
                Carried::Note(read_note(&mut reader)?)
            }
            _ => return Err(Malformed("nothing like that travels beside such an entry")),
        };
        reader.end()?;
        Ok(Frame { entry, beside })
    }

    /// The entry's bytes alone, without looking into them or at what is beside it.
    pub fn entry_bytes(bytes: &'a [u8]) -> Result<&'a [u8], Malformed> {
        let mut reader = Reader::new(bytes);
        let length = reader.u32()? as usize;
        reader.take(length)
    }

    /// A frame of an entry with everything that belongs beside it: all its payloads one after the other, or its note.
    /// Nothing is checked here; [`Frame::parse`] does that.
    pub fn write(entry: &[u8], beside: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(4 + entry.len() + 1 + beside.len());
        out.extend_from_slice(&u32_length(entry.len()));
        out.extend_from_slice(entry);
        out.push(if beside.is_empty() { NOTHING } else { EVERYTHING });
        out.extend_from_slice(beside);
        out
    }

    /// What the log's rules want to see beside the entry.
    pub fn beside(&self) -> Beside<'_> {
        match &self.beside {
            Carried::Nothing => Beside::Nothing,
            Carried::Payloads(payloads) => Beside::Payloads(payloads),
            Carried::Note(note) => Beside::Note(note),
        }
    }

    /// The payload of a change, if it is there.
    pub fn payload(&self, index: u16) -> Option<&'a [u8]> {
        match &self.beside {
            Carried::Payloads(payloads) => payloads.get(usize::from(index)).copied().flatten(),
            _ => None,
        }
    }

    /// Whether nothing is missing that belongs beside the entry.
    pub fn is_whole(&self) -> bool {
        match (&self.entry.body, &self.beside) {
            (Body::Data(_), Carried::Payloads(payloads)) => payloads.iter().all(Option::is_some),
            (Body::Data(_), _) => false,
            (Body::Checkpoint(checkpoint), Carried::Nothing) => checkpoint.note.is_none(),
            _ => true,
        }
    }

    /// The frame with only those payloads that are there and to be kept. A note stays.
    pub fn keeping(&self, keep: impl Fn(u16) -> bool) -> Vec<u8> {
        let entry = self.entry.as_bytes();
        let payloads = match &self.beside {
            Carried::Nothing => return Self::write(entry, &[]),
            Carried::Note(note) => return Self::write(entry, note),
            Carried::Payloads(payloads) => payloads,
        };
        let kept: Vec<Option<&[u8]>> =
            (0..).zip(payloads).map(|(index, payload)| payload.filter(|_| keep(index))).collect();
        let bytes = kept.iter().flatten().copied().collect::<Vec<_>>().concat();
        if bytes.is_empty() || kept.iter().all(Option::is_some) {
            return Self::write(entry, &bytes);
        }
        let mut out = Vec::with_capacity(4 + entry.len() + 1 + kept.len().div_ceil(8) + bytes.len());
        out.extend_from_slice(&u32_length(entry.len()));
        out.extend_from_slice(entry);
        out.push(SOME);
        for eight in kept.chunks(8) {
            out.push(eight.iter().rev().fold(0, |bits, payload| bits << 1 | u8::from(payload.is_some())));
        }
        out.extend_from_slice(&bytes);
        out
    }
}

/// A note to the end of the frame. An empty one would be a second way to say that there is none.
fn read_note<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], Malformed> {
    match reader.rest().len() {
        0 => Err(Malformed("an empty note")),
        length if length > MAX_NOTE => Err(Malformed("the note is too long")),
        length => reader.take(length),
    }
}

fn read_payloads<'a>(data: &Data<'a>, kind: u8, reader: &mut Reader<'a>) -> Result<Vec<Option<&'a [u8]>>, Malformed> {
    let count = data.len();
    let there = if kind == SOME { reader.take(count.div_ceil(8))? } else { &[] };
    let is_there =
        |index: usize| kind == EVERYTHING || there.get(index / 8).is_some_and(|bits| bits & (1 << (index % 8)) != 0);
    let mut payloads = Vec::with_capacity(count);
    for change in data.changes() {
        let length = change.payload_length as usize;
        payloads.push(if is_there(usize::from(change.index)) { Some(reader.take(length)?) } else { None });
    }
    if kind == SOME {
        let set = there.iter().map(|byte| byte.count_ones() as usize).sum::<usize>();
        let counted = payloads.iter().flatten().count();
        if set != counted || counted == 0 || counted == count {
            return Err(Malformed("not the one way to say which payloads are there"));
        }
    }
    Ok(payloads)
}

#[cfg(test)]
mod tests {
    use super::super::data::{NewChange, payload_hash};
    use super::super::entry::{Kind, SIGNATURE_LENGTH, signed};
    use super::super::{Head, Header};
    use super::*;
    use crate::id::{DeviceId, RecordId, UserId, VaultId};

    fn entry(payloads: &[Vec<u8>]) -> Vec<u8> {
        let changes: Vec<NewChange<'_>> = (0_u8..)
            .zip(payloads)
            .map(|(number, payload)| NewChange { record: RecordId([number; 16]), full: true, deps: &[], payload })
            .collect();
        let header = Header {
            vault: VaultId([1; 32]),
            user: UserId([2; 32]),
            device: DeviceId([3; 16]),
            dev_seq: 1,
            dev_prev: [0; 32],
            seen: Head { n: 1, h: [4; 32] },
            control: [5; 32],
            epoch: 1,
            checkpoint_ok: 0,
            unix_ms: 0,
        };
        let unsigned = header.with_body(Kind::Data, &Data::write(&changes).unwrap());
        signed(unsigned, &crate::sign::Signature([9; SIGNATURE_LENGTH]))
    }

    fn payloads() -> Vec<Vec<u8>> {
        (0..11_u8).map(|number| vec![number; 104 + usize::from(number)]).collect()
    }

    #[test]
    fn a_frame_carries_its_payloads_there_and_back() {
        let payloads = payloads();
        let bytes = Frame::write(&entry(&payloads), &payloads.concat());
        let frame = Frame::parse(&bytes).unwrap();
        assert!(frame.is_whole());
        for (index, payload) in (0..).zip(&payloads) {
            assert_eq!(frame.payload(index), Some(payload.as_slice()));
            let Body::Data(data) = &frame.entry.body else { panic!("DATA") };
            assert_eq!(data.changes().nth(usize::from(index)).unwrap().payload, payload_hash(payload));
        }
        assert_eq!(frame.keeping(|_| true), bytes);
        assert_eq!(Frame::entry_bytes(&bytes).unwrap(), frame.entry.as_bytes());
    }

    #[test]
    fn payloads_are_dropped_one_by_one_and_never_come_back() {
        let payloads = payloads();
        let bytes = Frame::write(&entry(&payloads), &payloads.concat());
        let odd = Frame::parse(&bytes).unwrap().keeping(|index| index % 2 == 1);
        let frame = Frame::parse(&odd).unwrap();
        assert!(!frame.is_whole());
        for (index, payload) in (0..).zip(&payloads) {
            assert_eq!(frame.payload(index), (index % 2 == 1).then_some(payload.as_slice()));
        }
        assert_eq!(frame.keeping(|_| true), odd);
        let none = frame.keeping(|index| index % 2 == 0);
        assert_eq!(none, Frame::write(&entry(&payloads), &[]));
        assert!(Frame::parse(&none).unwrap().payload(1).is_none());
    }

    #[test]
    fn there_is_one_way_to_write_a_frame() {
        let payloads = payloads();
        let entry = entry(&payloads);
        let bytes = Frame::write(&entry, &payloads.concat());
        for length in 0..bytes.len() {
            assert!(Frame::parse(&bytes[..length]).is_err(), "{length}");
        }
        assert!(Frame::parse(&[bytes.as_slice(), &[0]].concat()).is_err());
        let all = [&u32_length(entry.len()), entry.as_slice(), &[SOME, 0xff, 0x07], &payloads.concat()].concat();
        assert!(Frame::parse(&all).is_err(), "all of them are said by 1");
        let none = [&u32_length(entry.len()), entry.as_slice(), &[SOME, 0, 0]].concat();
        assert!(Frame::parse(&none).is_err(), "none of them is said by 0");
        let beyond = [&u32_length(entry.len()), entry.as_slice(), &[SOME, 1, 0x08], &payloads[0]].concat();
        assert!(Frame::parse(&beyond).is_err(), "there is no twelfth");
        let unknown = [&u32_length(entry.len()), entry.as_slice(), &[3]].concat();
        assert!(Frame::parse(&unknown).is_err());
    }
}
