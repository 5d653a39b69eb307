//! XChaCha20-Poly1305, the one cipher content is sealed with.
//!
//! Owns the call into the cipher and nothing else: keys, nonces and what is bound come from the modules beside it.

use super::OpenError;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

pub(super) const NONCE_LENGTH: usize = 24;
pub(super) const TAG_LENGTH: usize = 16;

pub(super) fn seal(key: &[u8; 32], nonce: &[u8; NONCE_LENGTH], bound: &[u8], plain: &[u8]) -> Vec<u8> {
    XChaCha20Poly1305::new(key.into())
        .encrypt(&XNonce::from(*nonce), Payload { msg: plain, aad: bound })
        .expect("what is sealed here is far shorter than the cipher's limit")
}

pub(super) fn open(
    key: &[u8; 32],
    nonce: &[u8; NONCE_LENGTH],
    bound: &[u8],
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    XChaCha20Poly1305::new(key.into())
        .decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: bound })
        .map(Zeroizing::new)
        .map_err(|_| OpenError)
}
