//! Everything that only a client may do: derive keys, seal, open and sign.
//!
//! This is the only home of AEAD, of key encapsulation and of the making of signatures. Which key exists and how it
//! comes from another is decided here; when a key is made, kept or replaced is decided by whoever calls. It knows
//! nothing of storage, networks or clocks, and takes its randomness from the operating system alone.
//!
//! ```text
//! password + Secret Key --OPAQUE--> ExportKey --> PasswordKek --+
//! RecoveryKey --------------------------------> RecoveryKek ----+-- wrap --> Keybag, kept by the server
//!      |                                                        v
//!      +--> SigningKey for recovery            AccountRootSecret      in memory only while it is needed
//!                                                |         |
//!                                      IdentityKey         AccountMasterKey, one per generation
//!                             signs the account log          |            |
//!                                                        UserKem          names of devices
//!                                            opens what is sealed to the person
//!
//! DeviceKey      made on its device, certified in the account log by the IdentityKey
//! LocalKey       seals what a device keeps of all this on its disk
//! LinkSecret     known to two devices that stand beside each other, for minutes
//! AgeKey         seals an archive for a passphrase, in a format that others open
//! ```
//!
//! There are two layers under the password so that a stolen, unlocked device, which holds the master key but not the
//! root secret, can read but cannot add a device, change the password or survive being revoked.

mod aead;
mod age;
mod code;
mod compare;
mod device;
mod epoch;
mod kem;
mod keybag;
mod link;
mod local;
mod master;
mod record;
mod root;
mod secret;
mod sign;
pub mod token;
#[cfg(test)]
mod vault_vectors;
mod wrap;

#[cfg(test)]
mod vectors;

pub use crate::kdf::kdf;
pub use age::{AGE_CHUNK, AGE_LONGEST_HEADER, AGE_MAGIC, AGE_SEALED_CHUNK, AgeHeaderError, AgeKey};
pub use code::{BadCode, Kind as CodeKind, RecoveryKey, SecretKey};
pub use compare::{safety_number, state_code};
pub use device::DeviceKey;
pub use epoch::{EPOCH_WRAP_LENGTH, EpochKey, FirstEpochKey};
pub use kem::{BadKemKey, UserKem, hpke_seal};
pub use keybag::{Keybag, PasswordKek, RecoveryKek};
pub use link::{
    GrantedKey, LINK_MESSAGE_LENGTH, LinkGrant, LinkHello, LinkMessage, LinkOffer, LinkPart, LinkSecret, LogHead,
    TooLong,
};
pub use local::LocalKey;
pub use master::AccountMasterKey;
pub use record::{RecordContext, RecordKey, RecordTooLong};
pub use root::{AccountRootSecret, IdentityKey};
pub use secret::random_id;
pub use sign::SigningKey;

/// It would not open. Wrong key, wrong place, damaged or forged: there is one answer for all of them, so that nobody
/// can learn about a key by sending variations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it could not be opened")]
pub struct OpenError;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{DeviceId, UserId};
    use crate::opaque::ExportKey;

    /// In decimal 167, in base64 p6en, in Crockford's alphabet MYKT: the traces looked for below.
    const SEED: [u8; 32] = [0xa7; 32];

    #[test]
    fn no_key_shows_itself() {
        let user = UserId([1; 32]);
        let root = AccountRootSecret(secret::Secret::from_slice(&SEED));
        let master = AccountMasterKey::from_bytes(1, &SEED);
        let recovery = RecoveryKey::from_bytes(&[0xa7; 20]);
        let shown = [
            format!("{:?}", root.identity()),
            format!("{:?}", master.user_kem(&user)),
            format!("{master:?}"),
            format!("{:?}", DeviceKey::from_seed(&SEED)),
            format!("{:?}", PasswordKek::derive(&ExportKey::for_tests([0xa7; 64]), &user, 1)),
            format!("{:?}", RecoveryKek::derive(&recovery, &user, 1)),
            format!("{recovery:?}"),
            format!("{:?}", recovery.sign_in_key(&user, 1)),
            format!("{:?}", SecretKey::from_bytes(&[0xa7; 20])),
            format!("{:?}", LocalKey::from_bytes(&SEED)),
            format!("{:?}", LinkSecret::from_bytes(&[0xa7; 13])),
            format!("{:?}", GrantedKey::from(&master)),
            format!("{:?}", ExportKey::for_tests([0xa7; 64])),
            format!("{:?}", SigningKey::from_seed(&SEED)),
            format!("{root:?}"),
        ];
        for text in shown {
            assert!(text.contains("***"), "{text}");
            for trace in ["167", "a7", "A7", "p6en", "MYKT"] {
                assert!(!text.contains(trace), "{text} shows {trace}");
            }
        }
    }

    #[test]
    fn a_label_of_a_device_is_silent_too() {
        let label = AccountMasterKey::from_bytes(1, &SEED).seal_label(&DeviceId([1; 16]), "Ana's phone");
        assert_eq!(format!("{label:?}"), "Fixed(104)");
    }
}
