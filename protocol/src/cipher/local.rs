//! The local key: what a device seals its own secrets under while they lie on its disk.
//!
//! Owns that one seal. Knows nothing of where the key is kept (a keychain, an app, a file) nor of what is sealed.
//!
//! ```text
//! key    := KDF(local key, "", "local", context, 32)
//! sealed := nonce 24 | XChaCha20-Poly1305(key, nonce, aad = context, plain)
//! tag    := first 16 bytes of KDF(local key, "", "local", "tag" 0x00 | context, 32)
//! ```

use super::OpenError;
use super::aead::{self, NONCE_LENGTH};
use super::secret::{Secret, random};
use crate::hash::Label;
use crate::kdf::kdf;
use zeroize::Zeroizing;

/// Seals what one device keeps. It never leaves the device.
#[derive(Debug)]
pub struct LocalKey(Secret<32>);

impl LocalKey {
    pub fn generate() -> Self {
        LocalKey(Secret::generate())
    }

    /// Back from wherever the device keeps it.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        LocalKey(Secret::from_slice(bytes))
    }

    /// For wherever the device keeps it.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        self.0.to_bytes()
    }

    /// Seals for one context: it opens in no other.
    pub fn seal(&self, context: &[u8], plain: &[u8]) -> Vec<u8> {
        self.seal_with_nonce(context, plain, &random())
    }

    pub(super) fn seal_with_nonce(&self, context: &[u8], plain: &[u8], nonce: &[u8; NONCE_LENGTH]) -> Vec<u8> {
        let sealed = aead::seal(&self.key(context), nonce, context, plain);
        [nonce.as_slice(), &sealed].concat()
    }

    pub fn open(&self, context: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LENGTH>().ok_or(OpenError)?;
        aead::open(&self.key(context), nonce, context, sealed)
    }

    /// A name by which something can be looked up on this device, and that says nothing of it to whoever has no key.
    pub fn tag(&self, context: &[u8]) -> [u8; 16] {
        let key = self.key(&[b"tag\0".as_slice(), context].concat());
        *key.first_chunk().expect("a key has 32 bytes")
    }

    fn key(&self, context: &[u8]) -> Zeroizing<[u8; 32]> {
        kdf(self.0.as_bytes(), b"", Label::LOCAL, context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_the_same_for_the_same_and_for_nobody_else() {
        let key = LocalKey::generate();
        assert_eq!(key.tag(b"notes"), key.tag(b"notes"));
        assert_ne!(key.tag(b"notes"), key.tag(b"note"));
        assert_ne!(key.tag(b"notes"), LocalKey::generate().tag(b"notes"));
    }

    #[test]
    fn what_is_sealed_opens_with_its_key_in_its_place_and_nowhere_else() {
        let key = LocalKey::generate();
        let sealed = key.seal(b"ana", b"secrets");
        assert_eq!(&**key.open(b"ana", &sealed).unwrap(), b"secrets");
        assert_eq!(&**LocalKey::from_bytes(&key.to_bytes()).open(b"ana", &sealed).unwrap(), b"secrets");
        assert_eq!(key.open(b"bob", &sealed), Err(OpenError));
        assert_eq!(LocalKey::generate().open(b"ana", &sealed), Err(OpenError));
        assert_eq!(key.open(b"ana", &[]), Err(OpenError));
        for at in 0..sealed.len() {
            let mut bent = sealed.clone();
            bent[at] ^= 1;
            assert_eq!(key.open(b"ana", &bent), Err(OpenError), "byte {at}");
        }
    }
}
