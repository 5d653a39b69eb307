//! The account master key: what a device keeps, and what it reads with.
//!
//! Owns one generation of the key and what is sealed under it directly, the names of devices. Knows nothing of the root
//! secret it came from: a device does not have that.

use super::OpenError;
use super::aead::{self, NONCE_LENGTH};
use super::kem::UserKem;
use super::secret::{Secret, random};
use crate::hash::Label;
use crate::id::{DeviceId, UserId};
use crate::kdf::kdf;
use crate::session::DeviceLabelBytes;
use zeroize::Zeroizing;

/// The longest name of a device, in bytes of UTF-8. Longer ones are cut.
pub(super) const LABEL_CAPACITY: usize = 63;

/// Opens everything of an account up to its generation's end.
///
/// ```compile_fail,E0599
/// # use selkie_protocol::cipher::AccountMasterKey;
/// let copy = AccountMasterKey::from_bytes(1, &[0; 32]).clone();
/// ```
#[derive(Debug)]
pub struct AccountMasterKey {
    generation: u32,
    key: Secret<32>,
}

impl AccountMasterKey {
    /// Back from the device's keystore.
    pub fn from_bytes(generation: u32, key: &[u8; 32]) -> Self {
        AccountMasterKey { generation, key: Secret::from_slice(key) }
    }

    /// For the device's keystore.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        self.key.to_bytes()
    }

    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// The key pair others seal to. It turns with the generation.
    pub fn user_kem(&self, user: &UserId) -> UserKem {
        let context = [user.as_bytes(), &self.generation.to_be_bytes()].concat();
        UserKem::from_seed(self.generation, kdf(self.key.as_bytes(), b"", Label::USER_KEM, &context).into())
    }

    /// Seals a device's name, so that the server learns neither the name nor its length.
    pub fn seal_label(&self, device: &DeviceId, name: &str) -> DeviceLabelBytes {
        self.seal_label_with_nonce(device, name, &random())
    }

    pub(super) fn seal_label_with_nonce(
        &self,
        device: &DeviceId,
        name: &str,
        nonce: &[u8; NONCE_LENGTH],
    ) -> DeviceLabelBytes {
        let name = &name[..name.floor_char_boundary(LABEL_CAPACITY)];
        let mut plain = [0; 1 + LABEL_CAPACITY];
        plain[0] = u8::try_from(name.len()).expect("it was cut to 63 bytes");
        plain[1..=name.len()].copy_from_slice(name.as_bytes());
        let sealed = aead::seal(&self.label_key(device), nonce, device.as_bytes(), &plain);
        let mut out = [0; _];
        out[..NONCE_LENGTH].copy_from_slice(nonce);
        out[NONCE_LENGTH..].copy_from_slice(&sealed);
        DeviceLabelBytes::from(out)
    }

    pub fn open_label(&self, device: &DeviceId, label: &DeviceLabelBytes) -> Result<String, OpenError> {
        let (nonce, sealed) = label.split_first_chunk().ok_or(OpenError)?;
        let plain = aead::open(&self.label_key(device), nonce, device.as_bytes(), sealed)?;
        let (length, rest) = plain.split_first().ok_or(OpenError)?;
        let (name, padding) = rest.split_at_checked(usize::from(*length)).ok_or(OpenError)?;
        if padding.iter().any(|byte| *byte != 0) {
            return Err(OpenError);
        }
        std::str::from_utf8(name).map(str::to_owned).map_err(|_| OpenError)
    }

    fn label_key(&self, device: &DeviceId) -> Zeroizing<[u8; 32]> {
        kdf(self.key.as_bytes(), b"", Label::DEVICE_LABEL, device.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> AccountMasterKey {
        AccountMasterKey::from_bytes(1, &random())
    }

    #[test]
    fn a_name_comes_back_to_its_own_device_only() {
        let key = key();
        let (laptop, phone) = (DeviceId([1; 16]), DeviceId([2; 16]));
        let label = key.seal_label(&laptop, "Ana's laptop");
        assert_eq!(key.open_label(&laptop, &label).unwrap(), "Ana's laptop");
        assert!(key.open_label(&phone, &label).is_err());
        assert!(self::key().open_label(&laptop, &label).is_err());
    }

    #[test]
    fn a_long_name_is_cut_between_characters() {
        let (key, device) = (key(), DeviceId([1; 16]));
        for (name, kept) in [("x".repeat(63), 63), ("x".repeat(64), 63), ("ä".repeat(40), 62), (String::new(), 0)] {
            let opened = key.open_label(&device, &key.seal_label(&device, &name)).unwrap();
            assert_eq!(opened, name[..kept], "{name}");
        }
    }

    #[test]
    fn a_bent_label_does_not_open() {
        let (key, device) = (key(), DeviceId([1; 16]));
        let label = key.seal_label(&device, "phone");
        for at in 0..label.len() {
            let mut bent = label;
            bent.0[at] ^= 1;
            assert_eq!(key.open_label(&device, &bent), Err(OpenError), "byte {at}");
        }
    }

    #[test]
    fn a_label_whose_inside_is_not_a_name_does_not_open() {
        let (key, device) = (key(), DeviceId([1; 16]));
        let too_long = [[64].as_slice(), &[b'x'; 63]].concat();
        let not_text = [[2, 0xff, 0xfe].as_slice(), &[0; 61]].concat();
        let bad_padding = [[1, b'x', 0, 7].as_slice(), &[0; 60]].concat();
        for plain in [too_long, not_text, bad_padding] {
            let nonce = random();
            let sealed = aead::seal(&key.label_key(&device), &nonce, device.as_bytes(), &plain);
            let label = DeviceLabelBytes::from(<[u8; 104]>::try_from([&nonce[..], &sealed].concat()).unwrap());
            assert_eq!(key.open_label(&device, &label), Err(OpenError));
        }
    }

    #[test]
    fn generations_share_nothing() {
        let root = super::super::AccountRootSecret::generate();
        let user = UserId([3; 32]);
        let (first, second) = (root.master_key(&user, 1), root.master_key(&user, 2));
        assert_ne!(first.to_bytes(), second.to_bytes());
        assert_ne!(first.user_kem(&user).public_key(), second.user_kem(&user).public_key());
        assert_ne!(first.user_kem(&user).public_key(), first.user_kem(&UserId([4; 32])).public_key());
    }
}
