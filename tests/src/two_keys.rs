//! Makes a box of XChaCha20-Poly1305 that opens under two keys: what a server sends to learn which of two guesses is
//! right (Len, Grubbs, Ristenpart: Partitioning Oracle Attacks, 2021).
//!
//! Knows nothing about what our boxes commit to. Poly1305 is a polynomial over the integers modulo 2^130 - 5, and one
//! free block is enough to make two of them agree.

use chacha20::XChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher};

/// 32 bytes of ciphertext and their tag, right under both keys.
pub fn seal_under_both(keys: [&[u8; 32]; 2], nonce: &[u8; 24], aad: &[u8]) -> Vec<u8> {
    let [one, two] = keys.map(|key| Authenticator::new(key, nonce));
    // One in a few first blocks leaves a second block that has 16 bytes.
    for attempt in 0_u128.. {
        let first = attempt.to_le_bytes();
        let constants = [one.without_second_block(aad, &first), two.without_second_block(aad, &first)];
        let slope = one.r.square().minus(two.r.square());
        for wraps in 0..8 {
            // one(x) - two(x) = two.s - one.s + wraps * 2^128, for x the second block with its leading bit
            let apart = Number::from(two.s).minus(Number::from(one.s)).plus(Number::two_to_128().times_small(wraps));
            let apart = apart.minus(Number::two_to_128().times_small(4));
            let block = apart.minus(constants[0].minus(constants[1])).times(slope.inverse());
            let Some(second) = block.as_full_block() else { continue };
            let tags = [&one, &two].map(|side| side.tag(aad, &first, &second));
            if tags[0] == tags[1] {
                return [first.as_slice(), &second, &tags[0]].concat();
            }
        }
    }
    unreachable!("there are 2^128 first blocks")
}

/// The one-time key of Poly1305.
struct Authenticator {
    r: Number,
    s: u128,
}

impl Authenticator {
    fn new(key: &[u8; 32], nonce: &[u8; 24]) -> Self {
        let mut stream = [0; 32];
        XChaCha20::new(key.into(), nonce.into()).apply_keystream(&mut stream);
        let (r, s) = stream.split_at(16);
        let clamped = u128::from_le_bytes(r.try_into().expect("16 bytes")) & 0x0fff_fffc_0fff_fffc_0fff_fffc_0fff_ffff;
        Authenticator { r: Number::from(clamped), s: u128::from_le_bytes(s.try_into().expect("16 bytes")) }
    }

    fn tag(&self, aad: &[u8], first: &[u8; 16], second: &[u8; 16]) -> [u8; 16] {
        let second = Number::block(second).times(self.r.square());
        self.without_second_block(aad, first).plus(second).low_128().wrapping_add(self.s).to_le_bytes()
    }

    /// The polynomial at `r`, with nothing in the place of the second block.
    fn without_second_block(&self, aad: &[u8], first: &[u8; 16]) -> Number {
        let mut sum = Number::ZERO;
        for block in aad.chunks(16) {
            let mut padded = [0; 16];
            padded[..block.len()].copy_from_slice(block);
            sum = sum.plus(Number::block(&padded)).times(self.r);
        }
        sum = sum.plus(Number::block(first)).times(self.r).times(self.r);
        let lengths = [(aad.len() as u64).to_le_bytes(), 32_u64.to_le_bytes()].concat();
        sum.plus(Number::block(&lengths.try_into().expect("16 bytes"))).times(self.r)
    }
}

/// An integer modulo 2^130 - 5, in five limbs of 26 bits.
#[derive(Clone, Copy)]
struct Number([u64; 5]);

const LIMB: u64 = (1 << 26) - 1;

impl Number {
    const ZERO: Number = Number([0; 5]);

    fn two_to_128() -> Self {
        Number([0, 0, 0, 0, 1 << 24])
    }

    /// A block as Poly1305 reads it: with a one in front.
    fn block(bytes: &[u8; 16]) -> Self {
        Number::from(u128::from_le_bytes(*bytes)).plus(Number::two_to_128())
    }

    fn as_full_block(self) -> Option<[u8; 16]> {
        let canonical = self.canonical();
        (canonical.0[4] >> 24 == 1).then(|| canonical.low_128().to_le_bytes())
    }

    fn low_128(self) -> u128 {
        let limbs = self.canonical().0;
        limbs.iter().zip(0_u32..).fold(0, |sum, (&limb, at)| sum | u128::from(limb).wrapping_shl(26 * at))
    }

    fn plus(self, other: Number) -> Number {
        Number(std::array::from_fn(|at| self.0[at] + other.0[at])).carried()
    }

    fn minus(self, other: Number) -> Number {
        // Twice the modulus, limb by limb, keeps every limb positive.
        let twice = [2 * (LIMB - 4), 2 * LIMB, 2 * LIMB, 2 * LIMB, 2 * LIMB];
        let other = other.canonical();
        Number(std::array::from_fn(|at| self.0[at] + twice[at] - other.0[at])).carried()
    }

    fn times(self, other: Number) -> Number {
        let (a, b) = (self.canonical().0, other.canonical().0);
        let mut sums = [0_u128; 5];
        for i in 0..5 {
            for j in 0..5 {
                // 2^130 is 5.
                let wrapped = if i + j >= 5 { 5 } else { 1 };
                sums[(i + j) % 5] += u128::from(a[i]) * u128::from(b[j]) * wrapped;
            }
        }
        let mut carry = 0;
        let mut limbs = [0; 5];
        for (limb, sum) in limbs.iter_mut().zip(sums) {
            let sum = sum + carry;
            *limb = u64::try_from(sum & u128::from(LIMB)).expect("26 bits");
            carry = sum >> 26;
        }
        limbs[0] += u64::try_from(carry * 5).expect("a product of two numbers is less than the modulus squared");
        Number(limbs).carried()
    }

    fn times_small(self, factor: u64) -> Number {
        Number(self.0.map(|limb| limb * factor)).carried()
    }

    fn square(self) -> Number {
        self.times(self)
    }

    /// By Fermat: to the power 2^130 - 7, whose bits are all ones but the second and third.
    fn inverse(self) -> Number {
        (0..130).rev().fold(Number::from(1), |power, bit| {
            let power = power.square();
            if bit == 1 || bit == 2 { power } else { power.times(self) }
        })
    }

    fn carried(self) -> Number {
        let mut limbs = self.0;
        for _ in 0..2 {
            let mut carry = 0;
            for limb in &mut limbs {
                *limb += carry;
                carry = *limb >> 26;
                *limb &= LIMB;
            }
            limbs[0] += carry * 5;
        }
        Number(limbs)
    }

    /// The one representation below the modulus.
    fn canonical(self) -> Number {
        let mut number = self.carried().carried();
        let is_large = number.0[1..].iter().all(|&limb| limb == LIMB) && number.0[0] >= LIMB - 4;
        if is_large {
            number = Number([number.0[0] - (LIMB - 4), 0, 0, 0, 0]);
        }
        number
    }
}

impl From<u128> for Number {
    fn from(value: u128) -> Self {
        Number(std::array::from_fn(|at| u64::try_from(value >> (26 * at) & u128::from(LIMB)).expect("26 bits")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chacha20poly1305::XChaCha20Poly1305;
    use chacha20poly1305::aead::{Aead, KeyInit, Payload};

    #[test]
    fn the_box_opens_under_both_keys_and_no_third() {
        let (keys, nonce, aad) = ([[1; 32], [2; 32], [3; 32]], [7; 24], b"what it is bound to");
        let sealed = seal_under_both([&keys[0], &keys[1]], &nonce, aad);
        let open = |key: &[u8; 32]| {
            XChaCha20Poly1305::new(key.into()).decrypt((&nonce).into(), Payload { msg: &sealed, aad: aad.as_slice() })
        };
        let plain = [open(&keys[0]).unwrap(), open(&keys[1]).unwrap()];
        assert_ne!(plain[0], plain[1]);
        assert!(open(&keys[2]).is_err());
    }

    #[test]
    fn an_inverse_is_one() {
        for value in [1, 2, 3, 0x1234_5678_9abc_def0, u128::MAX] {
            assert_eq!(Number::from(value).times(Number::from(value).inverse()).low_128(), 1, "{value}");
        }
    }
}
