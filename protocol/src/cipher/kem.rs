//! Sealing to a person: HPKE in base mode with X-Wing (X25519 and ML-KEM-768), HKDF-SHA-256 and ChaCha20-Poly1305.
//!
//! Owns the key pair a person is sealed to and the two directions. Knows nothing of where a public key comes from; it
//! must come from a verified account log.

use super::OpenError;
use super::secret::Secret;
use crate::account_log::KEM_PUBLIC_KEY_LENGTH;
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::XWing;
use hpke::{Deserializable as _, Kem as _, OpModeR, OpModeS, Serializable as _};
use zeroize::Zeroizing;

type PrivateKey = <XWing as hpke::Kem>::PrivateKey;
type PublicKey = <XWing as hpke::Kem>::PublicKey;
type EncappedKey = <XWing as hpke::Kem>::EncappedKey;

/// Bytes before the ciphertext: the encapsulated key.
pub(super) const ENCAPPED_LENGTH: usize = 1120;

/// The bytes are not a public key of this kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an X-Wing public key")]
pub struct BadKemKey;

/// The secret half of the key pair that others seal to.
#[derive(Debug)]
pub struct UserKem {
    generation: u32,
    seed: Secret<32>,
}

/// Seals to the owner of a public key. `info` and `aad` must be the same when it is opened.
pub fn hpke_seal(
    to: &[u8; KEM_PUBLIC_KEY_LENGTH],
    info: &[u8],
    aad: &[u8],
    secret: &[u8],
) -> Result<Vec<u8>, BadKemKey> {
    let key = PublicKey::from_bytes(to).map_err(|_| BadKemKey)?;
    let (encapped, sealed) =
        hpke::single_shot_seal::<ChaCha20Poly1305, HkdfSha256, XWing>(&OpModeS::Base, &key, info, secret, aad)
            .map_err(|_| BadKemKey)?;
    Ok([encapped.to_bytes().as_slice(), &sealed].concat())
}

impl UserKem {
    pub(super) fn from_seed(generation: u32, seed: Secret<32>) -> Self {
        UserKem { generation, seed }
    }

    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// For the USER_KEM entry of the account log.
    pub fn public_key(&self) -> Box<[u8; KEM_PUBLIC_KEY_LENGTH]> {
        let public = XWing::sk_to_pk(&self.private()).to_bytes();
        Box::new(public.as_slice().try_into().expect("an X-Wing public key has 1216 bytes"))
    }

    /// Opens what [`hpke_seal`] made for this key.
    pub fn hpke_open(&self, info: &[u8], aad: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let (encapped, sealed) = sealed.split_at_checked(ENCAPPED_LENGTH).ok_or(OpenError)?;
        let encapped = EncappedKey::from_bytes(encapped).map_err(|_| OpenError)?;
        hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, XWing>(
            &OpModeR::Base,
            &self.private(),
            &encapped,
            info,
            sealed,
            aad,
        )
        .map(Zeroizing::new)
        .map_err(|_| OpenError)
    }

    fn private(&self) -> PrivateKey {
        PrivateKey::from_bytes(self.seed.as_bytes()).expect("any 32 bytes are an X-Wing seed")
    }
}

/// For the known answers, whose randomness is known too.
#[cfg(test)]
pub(super) fn seal_with_randomness(
    to: &[u8; KEM_PUBLIC_KEY_LENGTH],
    info: &[u8],
    aad: &[u8],
    secret: &[u8],
    randomness: &[u8; 64],
) -> Result<Vec<u8>, BadKemKey> {
    use hpke::rand_core::{TryCryptoRng, TryRng};
    use std::convert::Infallible;

    /// Everything at once, for the one time it is asked.
    struct Once<'a>(Option<&'a [u8; 64]>);
    impl TryRng for Once<'_> {
        type Error = Infallible;
        fn try_next_u32(&mut self) -> Result<u32, Infallible> {
            unreachable!("X-Wing asks for bytes")
        }
        fn try_next_u64(&mut self) -> Result<u64, Infallible> {
            unreachable!("X-Wing asks for bytes")
        }
        fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
            out.copy_from_slice(self.0.take().expect("asked once"));
            Ok(())
        }
    }
    impl TryCryptoRng for Once<'_> {}

    let key = PublicKey::from_bytes(to).map_err(|_| BadKemKey)?;
    let (encapped, sealed) = hpke::single_shot_seal_with_rng::<ChaCha20Poly1305, HkdfSha256, XWing>(
        &OpModeS::Base,
        &key,
        info,
        secret,
        aad,
        &mut Once(Some(randomness)),
    )
    .map_err(|_| BadKemKey)?;
    Ok([encapped.to_bytes().as_slice(), &sealed].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kem() -> UserKem {
        UserKem::from_seed(1, Secret::generate())
    }

    #[test]
    fn what_is_sealed_to_a_person_opens_for_that_person() {
        let ana = kem();
        let sealed = hpke_seal(&ana.public_key(), b"info", b"aad", &[7; 32]).unwrap();
        assert_eq!(sealed.len(), 1168);
        assert_eq!(*ana.hpke_open(b"info", b"aad", &sealed).unwrap(), [7; 32]);
        assert!(kem().hpke_open(b"info", b"aad", &sealed).is_err());
        assert!(ana.hpke_open(b"inf0", b"aad", &sealed).is_err());
        assert!(ana.hpke_open(b"info", b"aed", &sealed).is_err());
    }

    #[test]
    fn bent_and_cut_boxes_do_not_open() {
        let ana = kem();
        let sealed = hpke_seal(&ana.public_key(), b"", b"", b"secret").unwrap();
        for at in (0..sealed.len()).step_by(61).chain([1119, 1120, sealed.len() - 1]) {
            let mut bent = sealed.clone();
            bent[at] ^= 0x10;
            assert_eq!(ana.hpke_open(b"", b"", &bent).unwrap_err(), OpenError, "byte {at}");
        }
        for length in [0, 1, 1119, 1120, 1135, sealed.len() - 1] {
            assert!(ana.hpke_open(b"", b"", &sealed[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn bytes_that_are_no_key_are_refused() {
        // Coefficients of ML-KEM are below 3329; these are 4095.
        assert_eq!(hpke_seal(&[0xff; KEM_PUBLIC_KEY_LENGTH], b"", b"", b""), Err(BadKemKey));
    }
}
