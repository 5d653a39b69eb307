//! Wraps: a 32-byte secret sealed under a key made for nothing else, and committed to that key.
//!
//! Owns the 105 bytes and their two directions. Knows nothing of which secrets there are.
//!
//! ```text
//! info := u8(len L("wrap")) | L("wrap") | u32(len x) | x | u32(len ctx) | ctx
//! okm  := HKDF-SHA-256(salt = nonce, ikm = kek).expand(info, 64)
//! wrap := 0x01 | nonce 24 | okm[32..64] | XChaCha20-Poly1305(key = okm[0..32], nonce, aad = info, secret) 48
//! ```
//!
//! Poly1305 does not commit: one ciphertext can be made that opens under two keys. The 32 bytes of `okm` before the
//! ciphertext do commit, and are compared before anything is opened.

use super::OpenError;
use super::aead::{self, NONCE_LENGTH, TAG_LENGTH};
use super::secret::{Secret, random};
use crate::hash::Label;
use hkdf::Hkdf;
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

pub(super) const WRAP_LENGTH: usize = 1 + NONCE_LENGTH + 32 + 32 + TAG_LENGTH;
const VERSION: u8 = 1;

/// What is wrapped and by what: the `x` of the layout.
#[derive(Clone, Copy, Debug)]
pub(super) struct Purpose(pub(super) &'static str);

impl Purpose {
    pub(super) const ROOT_BY_PASSWORD: Purpose = Purpose("ars/password");
    pub(super) const ROOT_BY_RECOVERY: Purpose = Purpose("ars/recovery");
}

pub(super) fn wrap(kek: &Secret<32>, purpose: Purpose, context: &[u8], secret: &Secret<32>) -> [u8; WRAP_LENGTH] {
    wrap_with_nonce(kek, purpose, context, secret, &random())
}

/// Only the known answers choose their nonce.
pub(super) fn wrap_with_nonce(
    kek: &Secret<32>,
    purpose: Purpose,
    context: &[u8],
    secret: &Secret<32>,
    nonce: &[u8; NONCE_LENGTH],
) -> [u8; WRAP_LENGTH] {
    let info = info(purpose, context);
    let (key, commitment) = derive(kek, nonce, &info);
    let sealed = aead::seal(&key, nonce, &info, secret.as_bytes());
    let mut out = [VERSION; WRAP_LENGTH];
    out[1..25].copy_from_slice(nonce);
    out[25..57].copy_from_slice(commitment.as_slice());
    out[57..].copy_from_slice(&sealed);
    out
}

pub(super) fn unwrap(
    kek: &Secret<32>,
    purpose: Purpose,
    context: &[u8],
    wrapped: &[u8; WRAP_LENGTH],
) -> Result<Secret<32>, OpenError> {
    let (head, sealed) = wrapped.split_at(57);
    let nonce: &[u8; NONCE_LENGTH] = head[1..25].try_into().expect("25 - 1 = 24");
    let info = info(purpose, context);
    let (key, commitment) = derive(kek, nonce, &info);
    let committed = commitment.ct_eq(&head[25..57]) & head[0].ct_eq(&VERSION);
    if !bool::from(committed) {
        return Err(OpenError);
    }
    let plain = aead::open(&key, nonce, &info, sealed)?;
    plain.as_slice().try_into().map(Secret::from_slice).map_err(|_| OpenError)
}

fn info(purpose: Purpose, context: &[u8]) -> Vec<u8> {
    let mut info = Label::WRAP.prefixed();
    for part in [purpose.0.as_bytes(), context] {
        info.extend_from_slice(&u32::try_from(part.len()).expect("purposes and contexts are short").to_be_bytes());
        info.extend_from_slice(part);
    }
    info
}

/// The key that seals and the bytes that commit to it.
fn derive(kek: &Secret<32>, nonce: &[u8; NONCE_LENGTH], info: &[u8]) -> (Zeroizing<[u8; 32]>, Zeroizing<[u8; 32]>) {
    let mut okm = Zeroizing::new([0; 64]);
    Hkdf::<Sha256>::new(Some(nonce), kek.as_bytes()).expand(info, okm.as_mut_slice()).expect("64 bytes can be had");
    let (mut key, mut commitment) = (Zeroizing::new([0; 32]), Zeroizing::new([0; 32]));
    key.copy_from_slice(&okm[..32]);
    commitment.copy_from_slice(&okm[32..]);
    (key, commitment)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PURPOSE: Purpose = Purpose::ROOT_BY_PASSWORD;

    #[test]
    fn what_was_wrapped_comes_back() {
        let (kek, secret) = (Secret::generate(), Secret::generate());
        let wrapped = wrap(&kek, PURPOSE, b"ana", &secret);
        assert_eq!(unwrap(&kek, PURPOSE, b"ana", &wrapped).unwrap().as_bytes(), secret.as_bytes());
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let (kek, secret) = (Secret::generate(), Secret::generate());
        let wrapped = wrap(&kek, PURPOSE, b"ana", &secret);
        for bit in 0..WRAP_LENGTH * 8 {
            let mut bent = wrapped;
            bent[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(unwrap(&kek, PURPOSE, b"ana", &bent).unwrap_err(), OpenError, "bit {bit}");
        }
    }

    #[test]
    fn another_key_purpose_or_context_opens_nothing() {
        let (kek, secret) = (Secret::generate(), Secret::generate());
        let wrapped = wrap(&kek, PURPOSE, b"ana", &secret);
        assert!(unwrap(&Secret::generate(), PURPOSE, b"ana", &wrapped).is_err());
        assert!(unwrap(&kek, Purpose::ROOT_BY_RECOVERY, b"ana", &wrapped).is_err());
        assert!(unwrap(&kek, PURPOSE, b"bob", &wrapped).is_err());
        assert!(unwrap(&kek, Purpose("ars/passworda"), b"na", &wrapped).is_err());
    }

    #[test]
    fn a_box_that_would_open_is_refused_when_its_commitment_is_not_ours() {
        // The server can make a ciphertext that opens under several keys, but not a commitment to several.
        let (kek, other, secret) = (Secret::generate(), Secret::generate(), Secret::generate());
        let mut wrapped = wrap(&kek, PURPOSE, b"ana", &secret);
        let nonce = wrapped[1..25].try_into().unwrap();
        let (_, foreign) = derive(&other, &nonce, &info(PURPOSE, b"ana"));
        wrapped[25..57].copy_from_slice(foreign.as_slice());
        assert!(unwrap(&kek, PURPOSE, b"ana", &wrapped).is_err());
        assert!(unwrap(&other, PURPOSE, b"ana", &wrapped).is_err());
    }
}
