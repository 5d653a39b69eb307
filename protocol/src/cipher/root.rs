//! The account root secret and the identity key that comes from it.
//!
//! Owns the top of the key hierarchy. Knows nothing of how the root secret is kept: that is `keybag`.

use super::master::AccountMasterKey;
use super::secret::{Secret, random};
use super::sign::SigningKey;
use crate::account_log::{Body, Entry, Payload};
use crate::hash::Label;
use crate::id::UserId;
use crate::kdf::kdf;
use crate::sign::PublicKey;

/// The secret everything of an account comes from. It is in memory only while it is needed and never on a disk, so it
/// can be had only by making one or by opening a [`Keybag`](super::Keybag), and can be neither copied nor written:
///
/// ```compile_fail,E0599
/// # use selkie_protocol::cipher::AccountRootSecret;
/// let copy = AccountRootSecret::generate().clone();
/// ```
///
/// ```compile_fail,E0277
/// # use selkie_protocol::{Face, cipher::AccountRootSecret};
/// let bytes = Face::Cbor.encode(&AccountRootSecret::generate());
/// ```
#[derive(Debug)]
pub struct AccountRootSecret(pub(super) Secret<32>);

/// Signs the account log, and nothing else. It is for life: the id of a person is bound to it.
#[derive(Debug)]
pub struct IdentityKey(SigningKey);

impl AccountRootSecret {
    pub fn generate() -> Self {
        AccountRootSecret(Secret::generate())
    }

    pub fn identity(&self) -> IdentityKey {
        IdentityKey(SigningKey::from_seed(&kdf(self.0.as_bytes(), b"", Label::IDENTITY_ROOT, b"")))
    }

    /// The account master key of one generation. It does not lead to the next one, nor back here.
    pub fn master_key(&self, user: &UserId, generation: u32) -> AccountMasterKey {
        let context = [user.as_bytes(), &generation.to_be_bytes()].concat();
        AccountMasterKey::from_bytes(generation, &kdf(self.0.as_bytes(), b"", Label::AMK, &context))
    }
}

impl IdentityKey {
    pub fn public_key(&self) -> PublicKey {
        self.0.public_key()
    }

    /// Starts a log: the entry that names the person it belongs to.
    pub fn sign_genesis(&self, unix_ms: u64) -> Entry {
        let payload = Payload::Genesis { identity: self.public_key(), random: random() };
        self.sign_entry(Body { user: UserId([0; 32]), index: 0, previous: [0; 32], unix_ms, payload })
    }

    pub fn sign_entry(&self, body: Body) -> Entry {
        let signature = self.0.sign(Label::ACCOUNT_ENTRY, &[&body.to_bytes()]);
        body.signed(signature)
    }
}
