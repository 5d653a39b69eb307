//! One key derivation, always under a label.
//!
//! Owns `KDF(ikm, salt, x, ctx, n)` = HKDF-SHA-256 with `Extract(salt, ikm)` and
//! `Expand(u8(len L(x)) | L(x) | u32(len ctx) | ctx, n)`. Knows nothing of what the keys are for. It stands outside
//! `cipher` because both sides derive the key that wraps the tokens of a sign-in.

use crate::hash::Label;
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

/// Derives `N` bytes. Two derivations with any difference in their inputs have nothing in common.
pub fn kdf<const N: usize>(ikm: &[u8], salt: &[u8], label: Label, context: &[u8]) -> Zeroizing<[u8; N]> {
    const { assert!(N <= 255 * 32, "HKDF-SHA-256 yields at most 8160 bytes") };
    let mut info = label.prefixed();
    info.extend_from_slice(&u32::try_from(context.len()).expect("contexts are short").to_be_bytes());
    info.extend_from_slice(context);
    let mut key = Zeroizing::new([0; N]);
    Hkdf::<Sha256>::new(Some(salt), ikm).expand(&info, key.as_mut_slice()).expect("the length was checked above");
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_input_matters() {
        let base = kdf::<32>(b"ikm", b"salt", Label::AMK, b"ctx");
        assert_ne!(base, kdf::<32>(b"ikn", b"salt", Label::AMK, b"ctx"));
        assert_ne!(base, kdf::<32>(b"ikm", b"", Label::AMK, b"ctx"));
        assert_ne!(base, kdf::<32>(b"ikm", b"salt", Label::USER_KEM, b"ctx"));
        assert_ne!(base, kdf::<32>(b"ikm", b"salt", Label::AMK, b""));
        assert_eq!(base, kdf::<32>(b"ikm", b"salt", Label::AMK, b"ctx"));
    }

    #[test]
    fn a_short_key_is_the_beginning_of_a_long_one() {
        let long = kdf::<64>(b"ikm", b"", Label::AMK, b"");
        assert_eq!(long[..16], kdf::<16>(b"ikm", b"", Label::AMK, b"")[..]);
    }
}
