//! Where an archive goes to and comes from: the file itself, or one sealed for a passphrase.
//!
//! Owns the chunks of a sealed file: when one is full, which one a position lies in. What seals them is
//! `selkie_protocol::cipher`'s.

use super::ArchiveError;
use selkie_protocol::cipher::{AGE_CHUNK, AGE_LONGEST_HEADER, AGE_MAGIC, AGE_SEALED_CHUNK, AgeHeaderError, AgeKey};
use std::io::{BufWriter, ErrorKind, Read, Seek, SeekFrom, Write};
use zeroize::Zeroizing;

/// What a seal adds to a chunk.
const TAG: u64 = (AGE_SEALED_CHUNK - AGE_CHUNK) as u64;

type Result<T> = std::result::Result<T, ArchiveError>;

/// Takes an archive as it is made.
pub(super) struct Out<W: Write> {
    to: BufWriter<W>,
    sealing: Option<Sealing>,
}

struct Sealing {
    key: AgeKey,
    number: u64,
    chunk: Zeroizing<Vec<u8>>,
}

impl<W: Write> Out<W> {
    pub(super) fn new(to: W, passphrase: Option<&str>) -> Result<Self> {
        let mut to = BufWriter::new(to);
        let sealing = passphrase.map(|passphrase| {
            let (header, key) = AgeKey::begin(passphrase);
            to.write_all(&header).map_err(ArchiveError::Writing)?;
            Ok(Sealing { key, number: 0, chunk: Zeroizing::new(Vec::with_capacity(AGE_CHUNK)) })
        });
        Ok(Out { sealing: sealing.transpose()?, to })
    }

    pub(super) fn put(&mut self, mut bytes: &[u8]) -> Result<()> {
        let Some(sealing) = &mut self.sealing else {
            return self.to.write_all(bytes).map_err(ArchiveError::Writing);
        };
        while !bytes.is_empty() {
            // A full chunk waits until it is known that it is not the last.
            if sealing.chunk.len() == AGE_CHUNK {
                let sealed = sealing.key.seal_chunk(sealing.number, false, &sealing.chunk);
                self.to.write_all(&sealed).map_err(ArchiveError::Writing)?;
                sealing.number += 1;
                sealing.chunk.clear();
            }
            let (now, later) = bytes.split_at(bytes.len().min(AGE_CHUNK - sealing.chunk.len()));
            sealing.chunk.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<W> {
        if let Some(Sealing { key, number, chunk }) = &self.sealing {
            self.to.write_all(&key.seal_chunk(*number, true, chunk)).map_err(ArchiveError::Writing)?;
        }
        self.to.flush().map_err(ArchiveError::Writing)?;
        self.to.into_inner().map_err(|error| ArchiveError::Writing(error.into_error()))
    }
}

/// Gives an archive, from whatever position.
pub(super) struct In<R> {
    from: R,
    length: u64,
    opening: Option<Opening>,
}

struct Opening {
    key: AgeKey,
    header: u64,
    chunks: u64,
    /// The chunk that was opened last.
    open: Option<(u64, Zeroizing<Vec<u8>>)>,
}

impl<R: Read + Seek> In<R> {
    pub(super) fn new(mut from: R, passphrase: Option<&str>) -> Result<Self> {
        let length = from.seek(SeekFrom::End(0)).map_err(ArchiveError::Reading)?;
        from.rewind().map_err(ArchiveError::Reading)?;
        let mut beginning = Vec::new();
        let header = AGE_LONGEST_HEADER as u64;
        from.by_ref().take(header).read_to_end(&mut beginning).map_err(ArchiveError::Reading)?;
        if !beginning.starts_with(AGE_MAGIC) {
            return Ok(In { from, length, opening: None });
        }
        let (header, key) = AgeKey::open(passphrase.ok_or(ArchiveError::Sealed)?, &beginning).map_err(why)?;
        let header = header as u64;
        let body = length.saturating_sub(header);
        let chunks = body.div_ceil(AGE_SEALED_CHUNK as u64);
        // Only the chunk of an empty file is empty.
        let last = body.saturating_sub(chunks.saturating_sub(1) * AGE_SEALED_CHUNK as u64);
        if chunks == 0 || last < TAG || (last == TAG && chunks > 1) {
            return Err(cut_off());
        }
        let opening = Opening { key, header, chunks, open: None };
        Ok(In { from, length: body - chunks * TAG, opening: Some(opening) })
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Fills the buffer from that position on.
    pub(super) fn read(&mut self, mut at: u64, mut into: &mut [u8]) -> Result<()> {
        if at.checked_add(into.len() as u64).is_none_or(|end| end > self.length) {
            return Err(cut_off());
        }
        if self.opening.is_none() {
            return read_exactly(&mut self.from, at, into);
        }
        while !into.is_empty() {
            let chunk = self.chunk(at / AGE_CHUNK as u64)?;
            // Within a chunk, so it fits.
            let rest = chunk.get((at % AGE_CHUNK as u64) as usize..).filter(|rest| !rest.is_empty());
            let rest = rest.ok_or_else(cut_off)?;
            let now = rest.len().min(into.len());
            let (filled, later) = into.split_at_mut(now);
            filled.copy_from_slice(&rest[..now]);
            into = later;
            at += now as u64;
        }
        Ok(())
    }

    fn chunk(&mut self, number: u64) -> Result<&[u8]> {
        let In { from, length, opening: Some(opening) } = self else { return Err(cut_off()) };
        if opening.open.as_ref().is_none_or(|(open, _)| *open != number) {
            let last = number + 1 == opening.chunks;
            let plain = if last { *length - number * AGE_CHUNK as u64 } else { AGE_CHUNK as u64 };
            let mut sealed = vec![0; (plain + TAG) as usize];
            read_exactly(from, opening.header + number * AGE_SEALED_CHUNK as u64, &mut sealed)?;
            let plain = opening.key.open_chunk(number, last, &sealed);
            let plain = plain.map_err(|_| ArchiveError::damaged("a part of it was changed or cut off"))?;
            opening.open = Some((number, plain));
        }
        Ok(opening.open.as_ref().map(|(_, plain)| plain.as_slice()).unwrap_or_default())
    }
}

fn read_exactly<R: Read + Seek>(from: &mut R, at: u64, into: &mut [u8]) -> Result<()> {
    let read = from.seek(SeekFrom::Start(at)).and_then(|_| from.read_exact(into));
    read.map_err(
        |error| if error.kind() == ErrorKind::UnexpectedEof { cut_off() } else { ArchiveError::Reading(error) },
    )
}

fn cut_off() -> ArchiveError {
    ArchiveError::damaged("it is cut off")
}

fn why(error: AgeHeaderError) -> ArchiveError {
    match error {
        AgeHeaderError::Malformed => ArchiveError::damaged("its beginning was changed or cut off"),
        AgeHeaderError::WrongPassphrase => ArchiveError::WrongPassphrase,
        other => ArchiveError::SealedOtherwise(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn sealed(plain: &[u8]) -> Vec<u8> {
        let mut out = Out::new(Vec::new(), Some("swans")).unwrap();
        for part in plain.chunks(10_000) {
            out.put(part).unwrap();
        }
        out.finish().unwrap()
    }

    #[test]
    fn what_was_sealed_is_read_from_any_position() {
        let plain: Vec<u8> = (0..AGE_CHUNK * 2 + 7).map(|at| (at % 251) as u8).collect();
        let mut reader = In::new(Cursor::new(sealed(&plain)), Some("swans")).unwrap();
        assert_eq!(reader.length(), plain.len() as u64);
        for (at, length) in [(0, plain.len()), (AGE_CHUNK - 1, 2), (AGE_CHUNK, 1), (AGE_CHUNK * 2, 7), (5, 0)] {
            let mut read = vec![0; length];
            reader.read(at as u64, &mut read).unwrap();
            assert_eq!(read, &plain[at..at + length]);
        }
        assert!(reader.read(plain.len() as u64, &mut [0]).is_err());
    }

    #[test]
    fn a_full_last_chunk_is_the_last() {
        let plain = vec![7; AGE_CHUNK];
        let bytes = sealed(&plain);
        assert_eq!(In::new(Cursor::new(bytes.clone()), Some("swans")).unwrap().length(), plain.len() as u64);
        assert!(matches!(In::new(Cursor::new(bytes), None), Err(ArchiveError::Sealed)));
    }

    #[test]
    fn what_is_cut_off_or_changed_is_not_read() {
        let bytes = sealed(&vec![7; AGE_CHUNK + 3]);
        let all = |bytes: Vec<u8>| {
            let mut reader = In::new(Cursor::new(bytes), Some("swans"))?;
            let mut read = vec![0; reader.length() as usize];
            reader.read(0, &mut read).map(|()| read)
        };
        assert_eq!(all(bytes.clone()).unwrap(), [7; AGE_CHUNK + 3]);
        for length in [bytes.len() - 1, bytes.len() - 3, bytes.len() - 19, bytes.len() - 20] {
            assert!(matches!(all(bytes[..length].to_vec()), Err(ArchiveError::Damaged(_))), "{length}");
        }
        let mut changed = bytes.clone();
        changed[bytes.len() - 1] ^= 1;
        assert!(matches!(all(changed), Err(ArchiveError::Damaged(_))));
    }
}
