//! Files sealed for a passphrase in the age format, version 1, so that other programs open them.
//!
//! Owns the header with its one scrypt stanza, and the chunks of the payload one at a time. Knows nothing of files: who
//! writes and reads puts the chunks in their order. See <https://c2sp.org/age>.
//!
//! ```text
//! age-encryption.org/v1
//! -> scrypt SALT LOG_N           SALT 16 bytes, base64 without padding; LOG_N decimal
//! BODY                           the file key (16 bytes) under scrypt's key: ChaCha20-Poly1305, nonce zero
//! --- MAC                        HMAC-SHA-256 of all until and with "---", under HKDF(file key, "header")
//! nonce 16 | chunk | chunk ...   under HKDF(file key, salt nonce, "payload"); a chunk is 64 KiB and a tag,
//!                                its nonce the chunk's number (11 bytes) and 1 if it is the last, else 0
//! ```

use super::OpenError;
use super::secret::{Secret, random};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use chacha20poly1305::aead::{Aead as _, KeyInit as _};
use chacha20poly1305::{ChaCha20Poly1305, Nonce};
use hkdf::Hkdf;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

/// The first line of every such file.
pub const AGE_MAGIC: &[u8] = b"age-encryption.org/v1\n";
/// How much a chunk holds: every one but the last is full.
pub const AGE_CHUNK: usize = 64 * 1024;
/// How long a full chunk is in the file.
pub const AGE_SEALED_CHUNK: usize = AGE_CHUNK + TAG;
/// As much of a file as [`AgeKey::open`] ever looks at.
pub const AGE_LONGEST_HEADER: usize = 256;

const TAG: usize = 16;
const NONCE: usize = 16;
const SALT: usize = 16;
const SALT_LABEL: &[u8] = b"age-encryption.org/v1/scrypt";
/// What a new file costs to open: 128 MiB and some tenths of a second, once.
const LOG_N: u8 = 17;
/// What somebody else's file may cost to open: 1 GiB.
const MOST_LOG_N: u8 = 20;

/// Seals or opens the chunks of one file.
pub struct AgeKey(Secret<32>);

/// A header that does not lead to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AgeHeaderError {
    #[error("the header of the age file is damaged or cut off")]
    Malformed,
    #[error("the file is sealed for keys, not for a passphrase")]
    NotForAPassphrase,
    #[error("opening the file would take more than 1 GiB of memory")]
    TooCostly,
    /// Or the header was changed: nobody can tell.
    #[error("the passphrase does not open the file")]
    WrongPassphrase,
}

impl AgeKey {
    /// Begins a file: its header, which comes first, and the key of its chunks. Takes 128 MiB and a while.
    pub fn begin(passphrase: &str) -> (Vec<u8>, AgeKey) {
        AgeKey::begin_with(passphrase, LOG_N, Secret::generate(), random(), random())
    }

    fn begin_with(
        passphrase: &str,
        log_n: u8,
        file_key: Secret<16>,
        salt: [u8; SALT],
        nonce: [u8; NONCE],
    ) -> (Vec<u8>, AgeKey) {
        let wrapping = stretched(passphrase, &salt, log_n);
        let body = ChaCha20Poly1305::new((&*wrapping).into())
            .encrypt(&Nonce::default(), file_key.as_bytes().as_slice())
            .expect("16 bytes are far shorter than the cipher's limit");
        let mut header = AGE_MAGIC.to_vec();
        let stanza = format!("-> scrypt {} {log_n}\n{}\n---", BASE64.encode(salt), BASE64.encode(body));
        header.extend_from_slice(stanza.as_bytes());
        let mac = BASE64.encode(mac_of(&file_key, &header).finalize().into_bytes());
        header.extend_from_slice(format!(" {mac}\n").as_bytes());
        header.extend_from_slice(&nonce);
        (header, payload_key(&file_key, &nonce))
    }

    /// Opens a file from its beginning: how long the header is, and the key of the chunks that follow it.
    pub fn open(passphrase: &str, beginning: &[u8]) -> Result<(usize, AgeKey), AgeHeaderError> {
        let malformed = AgeHeaderError::Malformed;
        let mut rest = beginning.strip_prefix(AGE_MAGIC).ok_or(malformed)?;
        let mut line = || {
            let end = rest.iter().position(|byte| *byte == b'\n').ok_or(malformed)?;
            let (line, after) = rest.split_at(end);
            rest = &after[1..];
            std::str::from_utf8(line).map_err(|_| malformed)
        };
        let (stanza, body, mac) = (line()?, line()?, line()?);
        let nonce = *rest.first_chunk::<NONCE>().ok_or(malformed)?;
        let arguments = stanza.strip_prefix("-> ").ok_or(malformed)?;
        let Some(("scrypt", arguments)) = arguments.split_once(' ') else {
            return Err(AgeHeaderError::NotForAPassphrase);
        };
        let (salt, log_n) = arguments.split_once(' ').ok_or(malformed)?;
        let salt: [u8; SALT] = decoded(salt)?.as_slice().try_into().map_err(|_| malformed)?;
        let cost: u8 = log_n.parse().map_err(|_| malformed)?;
        // One way to write a number: no sign, no zero in front.
        if cost.to_string() != log_n || cost == 0 {
            return Err(malformed);
        }
        if cost > MOST_LOG_N {
            return Err(AgeHeaderError::TooCostly);
        }
        let body = decoded(body)?;
        let mac_line = mac;
        let mac = decoded(mac_line.strip_prefix("--- ").ok_or(malformed)?)?;
        if body.len() != 16 + TAG {
            return Err(malformed);
        }
        let wrapping = stretched(passphrase, &salt, cost);
        let opened = ChaCha20Poly1305::new((&*wrapping).into()).decrypt(&Nonce::default(), body.as_slice());
        let opened = Zeroizing::new(opened.map_err(|_| AgeHeaderError::WrongPassphrase)?);
        let file_key = Secret::from_slice(opened.as_slice().try_into().map_err(|_| malformed)?);
        let length = beginning.len() - rest.len();
        let covered = length - "\n".len() - mac_line.len() + "---".len();
        mac_of(&file_key, &beginning[..covered]).verify_slice(&mac).map_err(|_| AgeHeaderError::WrongPassphrase)?;
        Ok((length + NONCE, payload_key(&file_key, &nonce)))
    }

    /// Seals the chunk of that number. All but the last hold [`AGE_CHUNK`] bytes; only that of an empty file is empty.
    pub fn seal_chunk(&self, number: u64, last: bool, plain: &[u8]) -> Vec<u8> {
        self.cipher().encrypt(&chunk_nonce(number, last), plain).expect("a chunk is far shorter than the limit")
    }

    /// Opens it again, in its place and in no other.
    pub fn open_chunk(&self, number: u64, last: bool, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        self.cipher().decrypt(&chunk_nonce(number, last), sealed).map(Zeroizing::new).map_err(|_| OpenError)
    }

    fn cipher(&self) -> ChaCha20Poly1305 {
        ChaCha20Poly1305::new(self.0.as_bytes().into())
    }
}

impl std::fmt::Debug for AgeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AgeKey(***)")
    }
}

fn decoded(text: &str) -> Result<Vec<u8>, AgeHeaderError> {
    BASE64.decode(text).map_err(|_| AgeHeaderError::Malformed)
}

fn stretched(passphrase: &str, salt: &[u8; SALT], log_n: u8) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    let params = scrypt::Params::new(log_n, 8, 1).expect("costs up to 2^20 fit");
    let salt = [SALT_LABEL, salt].concat();
    scrypt::scrypt(passphrase.as_bytes(), &salt, &params, key.as_mut_slice()).expect("32 bytes can be asked for");
    key
}

fn mac_of(file_key: &Secret<16>, header: &[u8]) -> Hmac<Sha256> {
    let key = derived(file_key, &[], b"header");
    let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(key.as_bytes()).expect("any length is a key");
    mac.update(header);
    mac
}

fn payload_key(file_key: &Secret<16>, nonce: &[u8; NONCE]) -> AgeKey {
    AgeKey(derived(file_key, nonce, b"payload"))
}

fn derived(file_key: &Secret<16>, salt: &[u8], info: &[u8]) -> Secret<32> {
    let mut key = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(Some(salt), file_key.as_bytes()).expand(info, key.as_mut_slice()).expect("32 bytes fit");
    key.into()
}

fn chunk_nonce(number: u64, last: bool) -> Nonce {
    let mut nonce = [0; 12];
    nonce[3..11].copy_from_slice(&number.to_be_bytes());
    nonce[11] = u8::from(last);
    Nonce::from(nonce)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cheap, for tests.
    fn begun(passphrase: &str) -> (Vec<u8>, AgeKey) {
        AgeKey::begin_with(passphrase, 4, Secret::from_slice(&[1; 16]), [2; SALT], [3; NONCE])
    }

    #[test]
    fn what_is_sealed_opens_with_the_passphrase_and_no_other() {
        let (header, key) = begun("seven swans");
        let sealed = key.seal_chunk(0, true, b"hello");
        let (length, key) = AgeKey::open("seven swans", &[header.as_slice(), &sealed].concat()).unwrap();
        assert_eq!(length, header.len());
        assert!(length <= AGE_LONGEST_HEADER);
        assert_eq!(key.open_chunk(0, true, &sealed).unwrap().as_slice(), b"hello");
        assert_eq!(AgeKey::open("seven swams", &header).err(), Some(AgeHeaderError::WrongPassphrase));
        assert_eq!(format!("{key:?}"), "AgeKey(***)");
    }

    #[test]
    fn a_chunk_opens_in_its_place_alone() {
        let (_, key) = begun("x");
        let sealed = key.seal_chunk(1, false, b"hello");
        assert!(key.open_chunk(1, false, &sealed).is_ok());
        assert!(key.open_chunk(2, false, &sealed).is_err());
        assert!(key.open_chunk(1, true, &sealed).is_err(), "what was cut off is not taken for the end");
    }

    #[test]
    fn a_header_that_was_changed_or_cut_off_does_not_open() {
        let (header, _) = begun("x");
        for at in 0..header.len() - NONCE {
            // Only the lowest bit: the cost would become one that takes minutes.
            let mut changed = header.clone();
            changed[at] ^= 1;
            assert!(AgeKey::open("x", &changed).is_err(), "byte {at}");
        }
        for length in 0..header.len() {
            assert_eq!(AgeKey::open("x", &header[..length]).err(), Some(AgeHeaderError::Malformed), "{length}");
        }
    }

    #[test]
    fn what_asks_too_much_or_is_not_for_a_passphrase_says_so() {
        let (header, _) = begun("x");
        let text = String::from_utf8_lossy(&header[..header.len() - NONCE]).into_owned();
        let with = |from: &str, to: &str| AgeKey::open("x", &[text.replace(from, to).as_bytes(), &[0; NONCE]].concat());
        assert_eq!(with(" 4\n", " 21\n").err(), Some(AgeHeaderError::TooCostly));
        assert_eq!(with(" 4\n", " 04\n").err(), Some(AgeHeaderError::Malformed));
        assert_eq!(with(" 4\n", " 0\n").err(), Some(AgeHeaderError::Malformed));
        assert_eq!(with("-> scrypt", "-> X25519").err(), Some(AgeHeaderError::NotForAPassphrase));
    }
}
