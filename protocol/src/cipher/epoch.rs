//! The key of a vault for one epoch: what everything written in that epoch is sealed under.
//!
//! Owns the key, what is derived from it, the link back to the epoch before and its wraps to members.
//! Knows nothing of who is a member or which epoch is current: the vault's log says so, and commits to the key.
//!
//! ```text
//! K_rec(e)    = KDF(K_e, "", "record-key",   vid | u32 e, 32)
//! commit(e)   = KDF(K_e, "", "epoch-commit", vid | u32 e, 32)      in the log; for e = 1 with 32 zeros for vid
//! KEK_back(e) = KDF(K_e, "", "epoch-back",   vid | u32 e, 32)
//! back-link   = WRAP(KEK_back(e), "epoch-back", vid | u32 e, K_(e-1))      105 bytes, in the log
//! wrap        = HPKE.seal(UserKEM_g, info = L("epoch-wrap"), aad = vid | u32 e | uid | u32 g | commit(e), K_e)
//! ```
//!
//! A key that comes from anywhere is a key only if the commitment in the log is its own. So a member cannot be given
//! another key than the others, and a server cannot give anybody one it knows.

use super::OpenError;
use super::kem::{BadKemKey, ENCAPPED_LENGTH, UserKem, hpke_seal};
use super::record::RecordKey;
use super::secret::{Secret, random};
use super::wrap::{Purpose, unwrap, wrap_with_nonce};
use crate::account_log::KEM_PUBLIC_KEY_LENGTH;
use crate::hash::Label;
use crate::id::{UserId, VaultId};
use crate::kdf::kdf;
use crate::log::{BACK_LINK_LENGTH, WRAP_LENGTH};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// A wrap of an epoch's key to one member.
pub const EPOCH_WRAP_LENGTH: usize = WRAP_LENGTH;
const _: () = assert!(WRAP_LENGTH == ENCAPPED_LENGTH + 32 + 16, "an encapsulated key, a key, a tag");

const BACK: Purpose = Purpose("epoch-back");

#[derive(Debug)]
pub struct EpochKey {
    vault: VaultId,
    epoch: u32,
    key: Secret<32>,
}

/// A new vault's first key, while the vault has no name yet: its name is the hash of an entry that commits to this key.
#[derive(Debug)]
pub struct FirstEpochKey(EpochKey);

/// What the first commitment is made over, as it cannot be made over the name that hashes it.
const NO_VAULT_YET: VaultId = VaultId([0; 32]);

impl FirstEpochKey {
    pub fn generate() -> Self {
        FirstEpochKey(EpochKey::generate(NO_VAULT_YET, 1))
    }

    /// For the CREATE entry.
    pub fn commitment(&self) -> [u8; 32] {
        self.0.commitment()
    }

    /// The key, once CREATE is signed and so the vault has its name.
    pub fn of(self, vault: VaultId) -> EpochKey {
        EpochKey { vault, ..self.0 }
    }
}

impl EpochKey {
    /// Made on this device, from nothing anybody else has a say in.
    pub fn generate(vault: VaultId, epoch: u32) -> Self {
        EpochKey { vault, epoch, key: Secret::generate() }
    }

    /// Back from the device's keystore. The commitment in the log decides whether it is the right one.
    pub fn from_bytes(vault: VaultId, epoch: u32, key: &[u8; 32], commitment: &[u8; 32]) -> Result<Self, OpenError> {
        EpochKey { vault, epoch, key: Secret::from_slice(key) }.if_committed(commitment)
    }

    /// Back from the device's keystore, for an epoch that this device wanted to begin and that the log does not know
    /// yet. Not to be used before the log commits to it.
    pub fn uncommitted(vault: VaultId, epoch: u32, key: &[u8; 32]) -> Option<Self> {
        (epoch > 0).then(|| EpochKey { vault, epoch, key: Secret::from_slice(key) })
    }

    /// For the device's keystore.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        self.key.to_bytes()
    }

    pub fn vault(&self) -> VaultId {
        self.vault
    }

    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// What the log says of this key.
    pub fn commitment(&self) -> [u8; 32] {
        let vault = if self.epoch == 1 { NO_VAULT_YET } else { self.vault };
        *kdf(self.key.as_bytes(), b"", Label::EPOCH_COMMIT, &context(&vault, self.epoch))
    }

    pub fn record_key(&self) -> RecordKey {
        RecordKey::new(self.vault, self.epoch, self.derive(Label::RECORD_KEY))
    }

    /// The link by which whoever has this key has the one before.
    pub fn link_back(&self, previous: &EpochKey) -> [u8; BACK_LINK_LENGTH] {
        self.link_back_with_nonce(previous, &random())
    }

    pub(super) fn link_back_with_nonce(&self, previous: &EpochKey, nonce: &[u8; 24]) -> [u8; BACK_LINK_LENGTH] {
        let kek = self.derive(Label::EPOCH_BACK);
        wrap_with_nonce(&kek, BACK, &context(&self.vault, self.epoch), &previous.key, nonce)
    }

    /// The key of the epoch before, if the link leads to the one the log commits to.
    pub fn previous(&self, link: &[u8; BACK_LINK_LENGTH], commitment: &[u8; 32]) -> Result<EpochKey, OpenError> {
        let epoch = self.epoch.checked_sub(1).filter(|epoch| *epoch > 0).ok_or(OpenError)?;
        let key = unwrap(&self.derive(Label::EPOCH_BACK), BACK, &context(&self.vault, self.epoch), link)?;
        EpochKey { vault: self.vault, epoch, key }.if_committed(commitment)
    }

    /// Seals the key to a member. The public key and its generation must come from that member's verified account log.
    pub fn seal_to(
        &self,
        user: &UserId,
        generation: u32,
        to: &[u8; KEM_PUBLIC_KEY_LENGTH],
    ) -> Result<Box<[u8; EPOCH_WRAP_LENGTH]>, BadKemKey> {
        let aad = self.bound(user, generation, &self.commitment());
        let sealed = hpke_seal(to, Label::EPOCH_WRAP.full().as_bytes(), &aad, self.key.as_bytes())?;
        Ok(Box::new(sealed.try_into().expect("a key, a tag and an encapsulated key")))
    }

    /// Opens what was sealed to us, if it is the key that the log commits to.
    pub fn open(
        vault: VaultId,
        epoch: u32,
        user: &UserId,
        kem: &UserKem,
        sealed: &[u8],
        commitment: &[u8; 32],
    ) -> Result<EpochKey, OpenError> {
        let blank = EpochKey { vault, epoch, key: Secret::from_slice(&[0; 32]) };
        let aad = blank.bound(user, kem.generation(), commitment);
        let key = kem.hpke_open(Label::EPOCH_WRAP.full().as_bytes(), &aad, sealed)?;
        let key = Secret::from_slice(key.as_slice().try_into().map_err(|_| OpenError)?);
        EpochKey { key, ..blank }.if_committed(commitment)
    }

    #[cfg(test)]
    pub(super) fn for_tests(vault: VaultId, epoch: u32, key: &[u8; 32]) -> Self {
        EpochKey { vault, epoch, key: Secret::from_slice(key) }
    }

    fn if_committed(self, commitment: &[u8; 32]) -> Result<Self, OpenError> {
        if self.commitment().ct_eq(commitment).into() { Ok(self) } else { Err(OpenError) }
    }

    fn bound(&self, user: &UserId, generation: u32, commitment: &[u8; 32]) -> Vec<u8> {
        [&context(&self.vault, self.epoch), user.as_bytes(), generation.to_be_bytes().as_slice(), commitment].concat()
    }

    fn derive(&self, label: Label) -> Secret<32> {
        kdf(self.key.as_bytes(), b"", label, &context(&self.vault, self.epoch)).into()
    }
}

fn context(vault: &VaultId, epoch: u32) -> Vec<u8> {
    [vault.as_bytes(), epoch.to_be_bytes().as_slice()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cipher::AccountMasterKey;

    const VAULT: VaultId = VaultId([1; 32]);
    const ANA: UserId = UserId([2; 32]);

    fn kem(byte: u8, generation: u32) -> UserKem {
        AccountMasterKey::from_bytes(generation, &[byte; 32]).user_kem(&ANA)
    }

    #[test]
    fn a_member_opens_what_was_sealed_to_them() {
        let key = EpochKey::generate(VAULT, 2);
        let ana = kem(1, 4);
        let sealed = key.seal_to(&ANA, 4, &ana.public_key()).unwrap();
        let opened = EpochKey::open(VAULT, 2, &ANA, &ana, sealed.as_slice(), &key.commitment()).unwrap();
        assert_eq!(opened.to_bytes(), key.to_bytes());
    }

    #[test]
    fn mal_035_a_wrap_of_another_member_epoch_or_vault_does_not_open() {
        let key = EpochKey::generate(VAULT, 2);
        let (ana, commitment) = (kem(1, 4), key.commitment());
        let sealed = key.seal_to(&ANA, 4, &ana.public_key()).unwrap();
        let open = |vault, epoch, user: &UserId, kem: &UserKem, commitment: &[u8; 32]| {
            EpochKey::open(vault, epoch, user, kem, sealed.as_slice(), commitment).map(|_| ())
        };
        assert!(open(VAULT, 2, &ANA, &ana, &commitment).is_ok());
        assert_eq!(open(VaultId([9; 32]), 2, &ANA, &ana, &commitment), Err(OpenError));
        assert_eq!(open(VAULT, 3, &ANA, &ana, &commitment), Err(OpenError));
        assert_eq!(open(VAULT, 2, &UserId([9; 32]), &ana, &commitment), Err(OpenError));
        assert_eq!(open(VAULT, 2, &ANA, &kem(2, 4), &commitment), Err(OpenError));
        assert_eq!(open(VAULT, 2, &ANA, &kem(1, 5), &commitment), Err(OpenError));
        assert_eq!(open(VAULT, 2, &ANA, &ana, &[9; 32]), Err(OpenError));
        for length in [0, 1, 1119, 1120, 1167] {
            assert!(EpochKey::open(VAULT, 2, &ANA, &ana, &sealed[..length], &commitment).is_err());
        }
    }

    #[test]
    fn mal_036_an_admin_cannot_give_one_member_another_key() {
        // A wrap made as honestly as can be, of a key the log does not commit to.
        let (committed, other) = (EpochKey::generate(VAULT, 2), EpochKey::generate(VAULT, 2));
        let ana = kem(1, 1);
        let aad = committed.bound(&ANA, 1, &committed.commitment());
        let info = Label::EPOCH_WRAP.full();
        let sealed = hpke_seal(&ana.public_key(), info.as_bytes(), &aad, other.key.as_bytes()).unwrap();
        assert_eq!(sealed.len(), EPOCH_WRAP_LENGTH);
        let opened = EpochKey::open(VAULT, 2, &ANA, &ana, &sealed, &committed.commitment());
        assert_eq!(opened.map(|_| ()), Err(OpenError));
    }

    #[test]
    fn links_lead_back_to_the_first_epoch() {
        let first = FirstEpochKey::generate().of(VAULT);
        let second = EpochKey::generate(VAULT, 2);
        let third = EpochKey::generate(VAULT, 3);
        let (to_second, to_first) = (third.link_back(&second), second.link_back(&first));
        let back = third.previous(&to_second, &second.commitment()).unwrap();
        let back = back.previous(&to_first, &first.commitment()).unwrap();
        assert_eq!((back.epoch(), back.to_bytes()), (1, first.to_bytes()));
        assert!(back.previous(&to_first, &first.commitment()).is_err(), "there is nothing before the first");
    }

    #[test]
    fn mal_037_a_bent_or_foreign_link_leads_nowhere() {
        let (second, third) = (EpochKey::generate(VAULT, 2), EpochKey::generate(VAULT, 3));
        let link = third.link_back(&second);
        for bit in 0..link.len() * 8 {
            let mut bent = link;
            bent[bit / 8] ^= 1 << (bit % 8);
            assert!(third.previous(&bent, &second.commitment()).is_err(), "bit {bit}");
        }
        let elsewhere = EpochKey::from_bytes(VaultId([9; 32]), 3, &third.to_bytes(), &{
            EpochKey { vault: VaultId([9; 32]), epoch: 3, key: Secret::from_slice(&third.to_bytes()) }.commitment()
        });
        assert!(elsewhere.unwrap().previous(&link, &second.commitment()).is_err(), "from another vault");
        let other = EpochKey::generate(VAULT, 2);
        assert!(third.previous(&third.link_back(&other), &second.commitment()).is_err(), "to another key");
    }

    #[test]
    fn a_key_from_the_keystore_is_held_against_the_log() {
        let key = EpochKey::generate(VAULT, 2);
        assert!(EpochKey::from_bytes(VAULT, 2, &key.to_bytes(), &key.commitment()).is_ok());
        assert!(EpochKey::from_bytes(VAULT, 3, &key.to_bytes(), &key.commitment()).is_err());
        assert!(EpochKey::from_bytes(VAULT, 2, &[0; 32], &key.commitment()).is_err());
    }

    #[test]
    fn a_key_shows_nothing() {
        let key = EpochKey { vault: VAULT, epoch: 2, key: Secret::from_slice(&[0xa7; 32]) };
        for text in [format!("{key:?}"), format!("{:?}", key.record_key())] {
            assert!(text.contains("***") && !text.contains("167") && !text.contains("a7"), "{text}");
        }
    }
}
