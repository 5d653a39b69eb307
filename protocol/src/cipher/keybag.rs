//! The keybag: the account root secret, wrapped once under the password and once under the recovery key.
//!
//! Owns the two keys that wrap, and the 219 bytes the server keeps and cannot open. Knows nothing of OPAQUE beyond the
//! export key it yields, and nothing of whether an opened secret belongs to a log: that is the caller's first check.
//!
//! ```text
//! keybag := 0x01 | u32 pw_gen | wrap 105 by the password | u32 rec_gen | wrap 105 by the recovery key
//! ```

use super::OpenError;
use super::code::RecoveryKey;
use super::root::AccountRootSecret;
use super::secret::Secret;
use super::wrap::{Purpose, WRAP_LENGTH, unwrap, wrap};
use crate::hash::Label;
use crate::id::UserId;
use crate::kdf::kdf;
use crate::opaque::ExportKey;
use crate::session::{KEYBAG_LENGTH, KeybagBytes};

const VERSION: u8 = 1;

/// Wraps the root secret by one password of one account.
#[derive(Debug)]
pub struct PasswordKek {
    pub(super) generation: u32,
    pub(super) key: Secret<32>,
}

/// Wraps the root secret by one recovery key of one account.
#[derive(Debug)]
pub struct RecoveryKek {
    pub(super) generation: u32,
    pub(super) key: Secret<32>,
}

/// The root secret, twice wrapped. Nothing in it is secret to whoever lacks both keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keybag {
    pub(super) pw_gen: u32,
    pub(super) by_password: [u8; WRAP_LENGTH],
    pub(super) rec_gen: u32,
    pub(super) by_recovery: [u8; WRAP_LENGTH],
}

impl PasswordKek {
    /// From what OPAQUE yields for the right password. `pw_gen` counts the passwords the account has had.
    pub fn derive(export_key: &ExportKey, user: &UserId, pw_gen: u32) -> Self {
        let key = kdf(export_key.as_bytes(), user.as_bytes(), Label::KEK_PASSWORD, &pw_gen.to_be_bytes());
        PasswordKek { generation: pw_gen, key: key.into() }
    }
}

impl RecoveryKek {
    /// `rec_gen` counts the recovery keys the account has had.
    pub fn derive(recovery_key: &RecoveryKey, user: &UserId, rec_gen: u32) -> Self {
        let key = kdf(recovery_key.as_bytes(), user.as_bytes(), Label::KEK_RECOVERY, &rec_gen.to_be_bytes());
        RecoveryKek { generation: rec_gen, key: key.into() }
    }
}

impl Keybag {
    /// The first keybag of an account, or one with both halves new.
    pub fn seal(root: &AccountRootSecret, password: &PasswordKek, recovery: &RecoveryKek, user: &UserId) -> Self {
        Keybag {
            pw_gen: password.generation,
            by_password: wrap_by_password(root, password, user),
            rec_gen: recovery.generation,
            by_recovery: wrap_by_recovery(root, recovery, user),
        }
    }

    /// The same with a new password; the recovery key stays as it is.
    #[must_use]
    pub fn with_password(&self, root: &AccountRootSecret, password: &PasswordKek, user: &UserId) -> Self {
        let by_password = wrap_by_password(root, password, user);
        Keybag { pw_gen: password.generation, by_password, ..self.clone() }
    }

    /// The same with a new recovery key; the password stays as it is.
    #[must_use]
    pub fn with_recovery(&self, root: &AccountRootSecret, recovery: &RecoveryKek, user: &UserId) -> Self {
        let by_recovery = wrap_by_recovery(root, recovery, user);
        Keybag { rec_gen: recovery.generation, by_recovery, ..self.clone() }
    }

    pub fn parse(bytes: &[u8]) -> Result<Self, OpenError> {
        let bytes: &[u8; KEYBAG_LENGTH] = bytes.try_into().map_err(|_| OpenError)?;
        let [version, rest @ ..] = bytes;
        let (by_password, by_recovery) = rest.split_at(4 + WRAP_LENGTH);
        if *version != VERSION {
            return Err(OpenError);
        }
        let (pw_gen, by_password) = half(by_password)?;
        let (rec_gen, by_recovery) = half(by_recovery)?;
        Ok(Keybag { pw_gen, by_password, rec_gen, by_recovery })
    }

    pub fn to_bytes(&self) -> KeybagBytes {
        let parts: [&[u8]; 5] =
            [&[VERSION], &self.pw_gen.to_be_bytes(), &self.by_password, &self.rec_gen.to_be_bytes(), &self.by_recovery];
        KeybagBytes::from(<[u8; KEYBAG_LENGTH]>::try_from(parts.concat()).expect("1 + 2 * (4 + 105) = 219"))
    }

    /// The generation to derive the [`PasswordKek`] for. It is the server's word until the wrap opens.
    pub fn pw_gen(&self) -> u32 {
        self.pw_gen
    }

    /// The generation to derive the [`RecoveryKek`] for. It is the server's word until the wrap opens.
    pub fn rec_gen(&self) -> u32 {
        self.rec_gen
    }

    pub fn open_with_password(&self, password: &PasswordKek, user: &UserId) -> Result<AccountRootSecret, OpenError> {
        let context = context(user, self.pw_gen);
        unwrap(&password.key, Purpose::ROOT_BY_PASSWORD, &context, &self.by_password).map(AccountRootSecret)
    }

    pub fn open_with_recovery(&self, recovery: &RecoveryKek, user: &UserId) -> Result<AccountRootSecret, OpenError> {
        let context = context(user, self.rec_gen);
        unwrap(&recovery.key, Purpose::ROOT_BY_RECOVERY, &context, &self.by_recovery).map(AccountRootSecret)
    }
}

fn wrap_by_password(root: &AccountRootSecret, kek: &PasswordKek, user: &UserId) -> [u8; WRAP_LENGTH] {
    wrap(&kek.key, Purpose::ROOT_BY_PASSWORD, &context(user, kek.generation), &root.0)
}

fn wrap_by_recovery(root: &AccountRootSecret, kek: &RecoveryKek, user: &UserId) -> [u8; WRAP_LENGTH] {
    wrap(&kek.key, Purpose::ROOT_BY_RECOVERY, &context(user, kek.generation), &root.0)
}

pub(super) fn context(user: &UserId, generation: u32) -> Vec<u8> {
    [user.as_bytes(), &generation.to_be_bytes()].concat()
}

fn half(bytes: &[u8]) -> Result<(u32, [u8; WRAP_LENGTH]), OpenError> {
    let (generation, wrapped) = bytes.split_first_chunk().ok_or(OpenError)?;
    Ok((u32::from_be_bytes(*generation), wrapped.try_into().map_err(|_| OpenError)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANA: UserId = UserId([1; 32]);

    fn password(generation: u32) -> PasswordKek {
        PasswordKek { generation, key: Secret::generate() }
    }

    fn recovery(generation: u32) -> RecoveryKek {
        RecoveryKek { generation, key: Secret::generate() }
    }

    #[test]
    fn both_keys_open_the_same_secret() {
        let (root, password, recovery) = (AccountRootSecret::generate(), password(1), recovery(1));
        let bag = Keybag::parse(&*Keybag::seal(&root, &password, &recovery, &ANA).to_bytes()).unwrap();
        let identity = root.identity().public_key();
        assert_eq!(bag.open_with_password(&password, &ANA).unwrap().identity().public_key(), identity);
        assert_eq!(bag.open_with_recovery(&recovery, &ANA).unwrap().identity().public_key(), identity);
    }

    #[test]
    fn one_half_changes_and_the_other_stays() {
        let (root, old_password, recovery) = (AccountRootSecret::generate(), password(1), recovery(1));
        let bag = Keybag::seal(&root, &old_password, &recovery, &ANA);
        let new_password = password(2);
        let changed = bag.with_password(&root, &new_password, &ANA);
        assert_eq!((changed.pw_gen(), changed.rec_gen()), (2, 1));
        assert!(changed.open_with_password(&old_password, &ANA).is_err());
        assert!(changed.open_with_password(&new_password, &ANA).is_ok());
        assert!(changed.open_with_recovery(&recovery, &ANA).is_ok());
        let new_recovery = self::recovery(2);
        let changed = changed.with_recovery(&root, &new_recovery, &ANA);
        assert_eq!((changed.pw_gen(), changed.rec_gen()), (2, 2));
        assert!(changed.open_with_recovery(&recovery, &ANA).is_err());
        assert!(changed.open_with_recovery(&new_recovery, &ANA).is_ok());
        assert!(changed.open_with_password(&new_password, &ANA).is_ok());
    }

    #[test]
    fn every_bent_byte_is_refused_alike() {
        let (root, password, recovery) = (AccountRootSecret::generate(), password(1), recovery(1));
        let bytes = Keybag::seal(&root, &password, &recovery, &ANA).to_bytes();
        for at in 0..KEYBAG_LENGTH {
            let mut bent = bytes;
            bent.0[at] ^= 0x40;
            let opened = Keybag::parse(&*bent).and_then(|bag| {
                // The password's half does not cover the recovery key's; each is checked where it is used.
                if at < 1 + 4 + WRAP_LENGTH {
                    bag.open_with_password(&password, &ANA)
                } else {
                    bag.open_with_recovery(&recovery, &ANA)
                }
            });
            assert_eq!(opened.unwrap_err(), OpenError, "byte {at}");
        }
    }

    #[test]
    fn another_person_another_length_another_version() {
        let (root, password, recovery) = (AccountRootSecret::generate(), password(1), recovery(1));
        let bag = Keybag::seal(&root, &password, &recovery, &ANA);
        assert!(bag.open_with_password(&password, &UserId([2; 32])).is_err());
        let bytes = bag.to_bytes();
        assert!(Keybag::parse(&bytes[..218]).is_err());
        assert!(Keybag::parse(&[&bytes[..], &[0]].concat()).is_err());
        assert!(Keybag::parse(&[]).is_err());
    }

    #[test]
    fn halves_cannot_change_places() {
        let (root, password, recovery) = (AccountRootSecret::generate(), password(1), recovery(1));
        let bag = Keybag::seal(&root, &password, &recovery, &ANA);
        let swapped = Keybag { by_password: bag.by_recovery, by_recovery: bag.by_password, ..bag };
        assert!(swapped.open_with_password(&PasswordKek { generation: 1, key: recovery.key }, &ANA).is_err());
        assert!(swapped.open_with_recovery(&RecoveryKek { generation: 1, key: password.key }, &ANA).is_err());
    }
}
