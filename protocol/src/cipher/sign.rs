//! The making of Ed25519 signatures.
//!
//! Owns the secret half of a key pair. Checking is `crate::sign`, which both sides have; what may be signed by whom is
//! decided by the keys that hold one of these.

use super::secret::Secret;
use crate::hash::{Label, hash};
use crate::sign::{PublicKey, Signature};
use ed25519_dalek::Signer as _;
use std::fmt;
use zeroize::Zeroizing;

/// Signs. Wiped when dropped, shows nothing, cannot be copied.
pub struct SigningKey(Box<ed25519_dalek::SigningKey>);

impl SigningKey {
    pub fn generate() -> Self {
        Self::from_seed(Secret::generate().as_bytes())
    }

    pub fn from_seed(seed: &[u8; 32]) -> Self {
        SigningKey(Box::new(ed25519_dalek::SigningKey::from_bytes(seed)))
    }

    /// What the key is made from again, for a keystore.
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs `H(label, parts...)`.
    pub fn sign(&self, label: Label, parts: &[&[u8]]) -> Signature {
        Signature(self.0.sign(&hash(label, parts)).to_bytes())
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_for_its_key_its_label_and_its_message_alone() {
        let key = SigningKey::generate();
        let signature = key.sign(Label::DEVICE_LOGIN, &[b"hello"]);
        assert!(key.public_key().verify(Label::DEVICE_LOGIN, &[b"hel", b"lo"], &signature));
        assert!(!key.public_key().verify(Label::REFRESH, &[b"hello"], &signature));
        assert!(!key.public_key().verify(Label::DEVICE_LOGIN, &[b"hallo"], &signature));
        assert!(!SigningKey::generate().public_key().verify(Label::DEVICE_LOGIN, &[b"hello"], &signature));
    }

    #[test]
    fn no_signature_passes_under_another_label() {
        let key = SigningKey::generate();
        for made in Label::ALL {
            let signature = key.sign(*made, &[b"m"]);
            for shown in Label::ALL {
                assert_eq!(key.public_key().verify(*shown, &[b"m"], &signature), made == shown, "{made:?} {shown:?}");
            }
        }
    }

    #[test]
    fn a_key_of_small_order_accepts_nothing() {
        // The neutral element as key and as R, with s = 0: plain verification takes this for a signature of anything.
        let mut neutral = [0; 32];
        neutral[0] = 1;
        let mut signature = [0; 64];
        signature[0] = 1;
        assert!(!PublicKey(neutral).verify(Label::DEVICE_LOGIN, &[b"anything"], &Signature(signature)));
    }

    #[test]
    fn a_seed_makes_the_same_key_again() {
        let key = SigningKey::generate();
        assert_eq!(SigningKey::from_seed(&key.seed()).public_key(), key.public_key());
    }
}
