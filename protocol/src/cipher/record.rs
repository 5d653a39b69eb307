//! The sealing of one change.
//!
//! Owns the padding, what a payload is bound to, and the two directions.
//! Knows nothing of what is inside, and of which change may stand where.
//!
//! ```text
//! plain = len u32 | data | zeros up to pad(4 + len)                  pad(l) = max(64, padme(l))
//! aad   = ver | suite | vid | epoch u32 | uid | did | dev_seq u64 | index u16 | rid | flags | ndeps | deps
//! ct    = nonce 24 | XChaCha20-Poly1305(K_rec(epoch), nonce, aad, plain)
//! padme(l): E = floor(log2 l); S = floor(log2 E) + 1; l rounded up to a multiple of 2^(E-S)
//! ```
//!
//! The nonce is random: a counter would repeat on a device whose disk was restored. There is no compression: a length
//! that depends on content tells the content.

use super::OpenError;
use super::aead::{self, NONCE_LENGTH, TAG_LENGTH};
use super::secret::{Secret, random};
use crate::id::{ChangeId, DeviceId, RecordId, UserId, VaultId};
use crate::log::{Change, Header, MAX_PAYLOAD, MIN_PAYLOAD, PageItem, SUITE, VERSION};
use zeroize::Zeroizing;

/// The shortest padded content.
const LEAST: usize = 64;
const LENGTH_BYTES: usize = 4;

/// Opens and seals what was written in one epoch of one vault.
#[derive(Debug)]
pub struct RecordKey {
    vault: VaultId,
    epoch: u32,
    key: Secret<32>,
}

/// The place of a change: its payload opens there and nowhere else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordContext {
    pub user: UserId,
    pub device: DeviceId,
    pub dev_seq: u64,
    pub index: u16,
    pub record: RecordId,
    pub full: bool,
    /// Ascending, as they stand in the change.
    pub deps: Vec<ChangeId>,
}

/// The content is too long for a record: it belongs into a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too long for a record")]
pub struct RecordTooLong;

impl RecordContext {
    /// The place of a change in an entry.
    pub fn of(header: &Header, change: &Change<'_>) -> Self {
        Self::at(header.user, header.device, header.dev_seq, change)
    }

    /// The place of a change on a page of a checkpoint.
    pub fn on_page(item: &PageItem<'_>) -> Self {
        Self::at(item.user, item.device, item.dev_seq, &item.change)
    }

    fn at(user: UserId, device: DeviceId, dev_seq: u64, change: &Change<'_>) -> Self {
        let (index, record, full) = (change.index, change.record, change.full);
        RecordContext { user, device, dev_seq, index, record, full, deps: change.deps.iter().collect() }
    }
}

impl RecordKey {
    pub(super) fn new(vault: VaultId, epoch: u32, key: Secret<32>) -> Self {
        RecordKey { vault, epoch, key }
    }

    #[cfg(test)]
    pub(super) fn to_bytes_for_tests(&self) -> [u8; 32] {
        *self.key.as_bytes()
    }

    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Whether content of this length can be sealed as one record.
    pub fn fits(length: usize) -> bool {
        length <= MAX_PAYLOAD && NONCE_LENGTH + padded(LENGTH_BYTES + length) + TAG_LENGTH <= MAX_PAYLOAD
    }

    /// The payload of a change.
    pub fn seal(&self, context: &RecordContext, data: &[u8]) -> Result<Vec<u8>, RecordTooLong> {
        self.seal_with_nonce(context, data, &random())
    }

    pub(super) fn seal_with_nonce(
        &self,
        context: &RecordContext,
        data: &[u8],
        nonce: &[u8; NONCE_LENGTH],
    ) -> Result<Vec<u8>, RecordTooLong> {
        let length = padded(LENGTH_BYTES + data.len());
        if NONCE_LENGTH + length + TAG_LENGTH > MAX_PAYLOAD {
            return Err(RecordTooLong);
        }
        let mut plain = Zeroizing::new(vec![0; length]);
        plain[..LENGTH_BYTES].copy_from_slice(&u32::try_from(data.len()).map_err(|_| RecordTooLong)?.to_be_bytes());
        plain[LENGTH_BYTES..LENGTH_BYTES + data.len()].copy_from_slice(data);
        let sealed = aead::seal(self.key.as_bytes(), nonce, &self.bound(context), &plain);
        Ok([nonce.as_slice(), &sealed].concat())
    }

    /// The content of a payload. Nothing of it is looked at before the tag was found right.
    pub fn open(&self, context: &RecordContext, payload: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        if !(MIN_PAYLOAD..=MAX_PAYLOAD).contains(&payload.len()) {
            return Err(OpenError);
        }
        let (nonce, sealed) = payload.split_first_chunk().ok_or(OpenError)?;
        let mut plain = aead::open(self.key.as_bytes(), nonce, &self.bound(context), sealed)?;
        let (length, rest) = plain.split_first_chunk::<LENGTH_BYTES>().ok_or(OpenError)?;
        let length = u32::from_be_bytes(*length) as usize;
        let (_, padding) = rest.split_at_checked(length).ok_or(OpenError)?;
        // There is one way to pad: what was padded otherwise was not made by us, and could carry a signal.
        if plain.len() != padded(LENGTH_BYTES + length) || padding.iter().any(|byte| *byte != 0) {
            return Err(OpenError);
        }
        plain.truncate(LENGTH_BYTES + length);
        plain.drain(..LENGTH_BYTES);
        Ok(plain)
    }

    fn bound(&self, context: &RecordContext) -> Vec<u8> {
        let mut out = Vec::with_capacity(118 + context.deps.len() * ChangeId::LENGTH);
        out.extend_from_slice(&[VERSION, SUITE]);
        out.extend_from_slice(self.vault.as_bytes());
        out.extend_from_slice(&self.epoch.to_be_bytes());
        out.extend_from_slice(context.user.as_bytes());
        out.extend_from_slice(context.device.as_bytes());
        out.extend_from_slice(&context.dev_seq.to_be_bytes());
        out.extend_from_slice(&context.index.to_be_bytes());
        out.extend_from_slice(context.record.as_bytes());
        out.push(u8::from(context.full));
        out.push(u8::try_from(context.deps.len()).unwrap_or(u8::MAX));
        for dep in &context.deps {
            out.extend_from_slice(dep.as_bytes());
        }
        out
    }
}

/// How long content of this length is made: at most 12 % longer, and one of few lengths.
fn padded(length: usize) -> usize {
    if length <= LEAST {
        return LEAST;
    }
    let exponent = length.ilog2();
    let significant = exponent.ilog2() + 1;
    length.next_multiple_of(1 << (exponent - significant))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> RecordKey {
        RecordKey::new(VaultId([1; 32]), 3, Secret::from_slice(&[7; 32]))
    }

    fn place() -> RecordContext {
        RecordContext {
            user: UserId([2; 32]),
            device: DeviceId([3; 16]),
            dev_seq: 9,
            index: 4,
            record: RecordId([5; 16]),
            full: true,
            deps: vec![ChangeId([6; 32])],
        }
    }

    #[test]
    fn what_was_sealed_comes_back() {
        for length in [0, 1, 59, 60, 61, 200, 4096, 100_000] {
            let data = vec![0xab; length];
            let payload = key().seal(&place(), &data).unwrap();
            assert_eq!(*key().open(&place(), &payload).unwrap(), data, "{length} bytes");
        }
    }

    #[test]
    fn two_hundred_bytes_become_two_hundred_and_forty_eight() {
        assert_eq!(key().seal(&place(), &[1; 200]).unwrap().len(), 248);
        assert_eq!(key().seal(&place(), &[]).unwrap().len(), MIN_PAYLOAD);
    }

    #[test]
    fn padding_grows_by_an_eighth_at_most_and_is_stable() {
        assert_eq!([1, 64, 65, 204, 1000, 100_000].map(padded), [64, 64, 72, 208, 1024, 100_352]);
        for length in 65..20_000 {
            assert!(padded(length) >= length && padded(length) * 100 <= length * 112, "{length}");
            assert_eq!(padded(padded(length)), padded(length), "{length}");
        }
    }

    #[test]
    fn nothing_longer_than_a_payload_is_sealed() {
        let longest = MAX_PAYLOAD - NONCE_LENGTH - TAG_LENGTH - LENGTH_BYTES;
        let fits = (0..longest).rev().find(|length| padded(LENGTH_BYTES + length) + 40 <= MAX_PAYLOAD).unwrap();
        assert!(key().seal(&place(), &vec![0; fits]).is_ok());
        assert_eq!(key().seal(&place(), &vec![0; fits + 1]), Err(RecordTooLong));
    }

    #[test]
    fn another_place_opens_nothing() {
        let payload = key().seal(&place(), b"dear diary").unwrap();
        type Move = fn(&mut RecordContext);
        let elsewhere: [(&str, Move); 8] = [
            ("user", |place| place.user = UserId([9; 32])),
            ("device", |place| place.device = DeviceId([9; 16])),
            ("dev_seq", |place| place.dev_seq += 1),
            ("index", |place| place.index += 1),
            ("record", |place| place.record = RecordId([9; 16])),
            ("full", |place| place.full = false),
            ("deps", |place| place.deps = vec![ChangeId([9; 32])]),
            ("no deps", |place| place.deps.clear()),
        ];
        for (what, change) in elsewhere {
            let mut other = place();
            change(&mut other);
            assert_eq!(key().open(&other, &payload), Err(OpenError), "{what}");
        }
        let keys = [
            RecordKey { vault: VaultId([9; 32]), ..key() },
            RecordKey { epoch: 2, ..key() },
            RecordKey { key: Secret::from_slice(&[8; 32]), ..key() },
        ];
        for key in keys {
            assert_eq!(key.open(&place(), &payload), Err(OpenError));
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_refused() {
        let payload = key().seal(&place(), b"dear diary").unwrap();
        for bit in 0..payload.len() * 8 {
            let mut bent = payload.clone();
            bent[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(key().open(&place(), &bent), Err(OpenError), "bit {bit}");
        }
        for length in 0..payload.len() {
            assert_eq!(key().open(&place(), &payload[..length]), Err(OpenError), "{length} bytes");
        }
    }

    #[test]
    fn there_is_one_way_to_pad() {
        let plain = |length: u32, size: usize, last: u8| {
            let mut plain = vec![0; size];
            plain[..4].copy_from_slice(&length.to_be_bytes());
            plain[size - 1] = last;
            plain
        };
        let wrong = [
            ("a byte that is not zero", plain(10, 64, 1)),
            ("one bucket too many", plain(10, 72, 0)),
            ("a length past the end", plain(61, 64, 0)),
            ("the longest length there is", plain(u32::MAX, 64, 0)),
        ];
        for (what, plain) in wrong {
            let nonce = random();
            let sealed = aead::seal(key().key.as_bytes(), &nonce, &key().bound(&place()), &plain);
            let payload = [nonce.as_slice(), &sealed].concat();
            assert_eq!(key().open(&place(), &payload), Err(OpenError), "{what}");
        }
        let nonce = random();
        let sealed = aead::seal(key().key.as_bytes(), &nonce, &key().bound(&place()), &plain(10, 64, 0));
        assert!(key().open(&place(), &[nonce.as_slice(), &sealed].concat()).is_ok());
    }
}
