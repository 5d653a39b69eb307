//! Short numbers that people read to each other to find out whether a server shows them the same thing.
//!
//! Owns how a hash becomes decimal digits. Knows nothing of whose hashes these are.

use crate::hash::{Label, hash};
use crate::id::UserId;

/// Sixty digits two people compare once: they are the same on both sides exactly if each has the other's true id, and
/// stay so for life.
pub fn safety_number(one: &UserId, other: &UserId) -> String {
    let mut halves = [one, other].map(|user| decimal(&hash(Label::SAFETY_NUMBER, &[user.as_bytes()]), 30));
    halves.sort();
    in_groups(&halves.concat(), 5)
}

/// Twelve digits two devices compare to see that they are shown the same state.
pub fn state_code(head: &[u8; 32]) -> String {
    in_groups(&decimal(&hash(Label::STATE_CODE, &[head])[..5], 12), 4)
}

/// Big-endian bytes as a number, its last `digits` digits.
fn decimal(bytes: &[u8], digits: u32) -> String {
    let modulus = 10u128.pow(digits);
    let number = bytes.iter().fold(0, |number: u128, byte| (number * 256 + u128::from(*byte)) % modulus);
    format!("{number:0width$}", width = digits as usize)
}

fn in_groups(digits: &str, size: usize) -> String {
    let digits: Vec<char> = digits.chars().collect();
    digits.chunks(size).map(String::from_iter).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_read_the_same_sixty_digits() {
        let (ana, bob) = (UserId([1; 32]), UserId([2; 32]));
        let number = safety_number(&ana, &bob);
        assert_eq!(number, safety_number(&bob, &ana));
        assert_ne!(number, safety_number(&ana, &UserId([3; 32])));
        assert_eq!(number.chars().filter(char::is_ascii_digit).count(), 60);
        assert_eq!(number.split(' ').count(), 12);
    }

    #[test]
    fn a_state_code_has_twelve_digits() {
        let code = state_code(&[9; 32]);
        assert_eq!(code.len(), 14);
        assert_ne!(code, state_code(&[8; 32]));
    }

    #[test]
    fn small_numbers_keep_their_zeros() {
        assert_eq!(decimal(&[1, 0], 6), "000256");
        assert_eq!(decimal(&[0xff; 32], 4), "9935");
    }
}
