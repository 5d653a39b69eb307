//! The server's word about a vault's log, in a form that can be held against it.
//!
//! Owns the key that signs heads. It comes from the master key, so it is the same on every replica and after a restore,
//! and is not kept anywhere. Knows nothing of where a log stands.

use crate::secrets::{MasterKey, Purpose};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use selkie_protocol::hash::{Label, hash};
use selkie_protocol::id::{Incarnation, VaultId};
use selkie_protocol::log::{Head, SignedHead};
use selkie_protocol::sign::{PublicKey, Signature};
use selkie_protocol::vault::SignedHeadBytes;

pub struct HeadKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl HeadKey {
    pub fn new(master: &MasterKey) -> Self {
        let seed = master.derive(Purpose::HeadKey);
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_ref()).expect("32 bytes are a seed");
        let public = PublicKey(pair.public_key().as_ref().try_into().expect("a public key has 32 bytes"));
        HeadKey { pair, public }
    }

    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// Says where a log stands.
    pub fn sign(&self, incarnation: Incarnation, vault: VaultId, head: Head, now_ms: i64) -> SignedHead {
        let unix_ms = now_ms.unsigned_abs();
        let said = SignedHead::signed_bytes(&incarnation, &vault, &head, unix_ms);
        let signature = self.pair.sign(&hash(Label::HEAD, &[&said]));
        let signature = Signature(signature.as_ref().try_into().expect("a signature has 64 bytes"));
        SignedHead { incarnation, vault, head, unix_ms, signature }
    }

    /// The same, as it travels.
    pub fn sign_bytes(&self, incarnation: Incarnation, vault: VaultId, head: Head, now_ms: i64) -> SignedHeadBytes {
        let bytes = self.sign(incarnation, vault, head, now_ms).to_bytes();
        SignedHeadBytes::from(<[u8; _]>::try_from(bytes.as_slice()).expect("a signed head has one length"))
    }
}

impl std::fmt::Debug for HeadKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HeadKey({:?})", self.public)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edges::Edges;

    #[test]
    fn what_is_said_can_be_checked_by_anybody_who_has_the_public_half() {
        let master = |byte: u8| MasterKey::new([byte; 32], Edges::real().dice);
        let key = HeadKey::new(&master(7));
        let (incarnation, vault, head) = (Incarnation([1; 16]), VaultId([2; 32]), Head { n: 3, h: [4; 32] });
        let said = SignedHead::parse(key.sign_bytes(incarnation, vault, head, 5).as_ref()).unwrap();
        assert_eq!((said.incarnation, said.vault, said.head, said.unix_ms), (incarnation, vault, head, 5));
        assert!(said.is_signed_by(&key.public()));
        assert!(said.is_signed_by(&HeadKey::new(&master(7)).public()), "the same on every replica");
        assert!(!said.is_signed_by(&HeadKey::new(&master(8)).public()));
    }
}
