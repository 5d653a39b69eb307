//! The key of one device: made there, never leaving it.
//!
//! Owns what a device signs for itself. Knows nothing of the account beyond the id it is added to.

use super::sign::SigningKey;
use crate::account_log::{Payload, device_id};
use crate::hash::Label;
use crate::id::{DeviceId, UserId};
use crate::sign::{PublicKey, Signature};
use zeroize::Zeroizing;

/// Signs for one device. Certified in the account log by the identity key.
#[derive(Debug)]
pub struct DeviceKey(SigningKey);

impl DeviceKey {
    pub fn generate() -> Self {
        DeviceKey(SigningKey::generate())
    }

    /// Back from the device's keystore.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        DeviceKey(SigningKey::from_seed(seed))
    }

    /// For the device's keystore.
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        self.0.seed()
    }

    pub fn id(&self) -> DeviceId {
        device_id(&self.public_key())
    }

    pub fn public_key(&self) -> PublicKey {
        self.0.public_key()
    }

    pub fn sign(&self, label: Label, parts: &[&[u8]]) -> Signature {
        self.0.sign(label, parts)
    }

    /// The device's consent to be added to this account and no other.
    pub fn proof_of_possession(&self, user: &UserId) -> Signature {
        self.sign(Label::DEVICE_POP, &[user.as_bytes(), self.public_key().as_bytes()])
    }

    /// What the account log must say to add this device.
    pub fn device_add(&self, user: &UserId) -> Payload {
        Payload::DeviceAdd { device: self.id(), key: self.public_key(), proof: self.proof_of_possession(user) }
    }
}
