//! Secrets that people write down, read out and type: the recovery key and the Secret Key.
//!
//! Owns how such a secret is written: `R1-` or `S1-`, then Crockford's base32 in groups of four, the last of which
//! checks the others. Knows nothing of sheets, screens or prompts.
//!
//! ```text
//! text  := kind "-" XXXX-XXXX-...          kind: R1 recovery key, S1 Secret Key, L1 link
//! check := the first 20 bits of H("code-check", kind | bits), as the last four characters
//! ```

use super::secret::Secret;
use super::sign::SigningKey;
use crate::hash::{Label, hash};
use crate::id::UserId;
use crate::kdf::kdf;
use std::fmt;
use zeroize::Zeroizing;

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const CHECK_CHARACTERS: usize = 4;

/// Why a text is not the code that was asked for. Says nothing of what the text contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadCode {
    #[error("that is a {found}, and a {expected} is needed")]
    WrongKind { expected: Kind, found: Kind },
    #[error("a {expected} begins with {}-", expected.prefix())]
    NotACode { expected: Kind },
    #[error("a {expected} has {} characters after {}-, and this has {found}", expected.characters(), expected.prefix())]
    WrongLength { expected: Kind, found: usize },
    #[error("character {position} after {}- is not a letter or digit that codes are made of", expected.prefix())]
    WrongCharacter { expected: Kind, position: usize },
    #[error("there is a mistake in it: the last four characters do not fit the others")]
    Typo { expected: Kind },
}

/// The kinds of code there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    RecoveryKey,
    SecretKey,
    LinkCode,
}

impl Kind {
    const ALL: [Kind; 3] = [Kind::RecoveryKey, Kind::SecretKey, Kind::LinkCode];

    fn prefix(self) -> &'static str {
        match self {
            Kind::RecoveryKey => "R1",
            Kind::SecretKey => "S1",
            Kind::LinkCode => "L1",
        }
    }

    fn bits(self) -> usize {
        match self {
            Kind::RecoveryKey | Kind::SecretKey => 160,
            Kind::LinkCode => 100,
        }
    }

    fn characters(self) -> usize {
        self.bits() / 5 + CHECK_CHARACTERS
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::RecoveryKey => "recovery key",
            Kind::SecretKey => "Secret Key",
            Kind::LinkCode => "link code",
        })
    }
}

macro_rules! printed_key {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name(Secret<20>);

        impl $name {
            pub fn generate() -> Self {
                $name(Secret::generate())
            }

            /// In its one form, in groups of four.
            pub fn to_text(&self) -> Zeroizing<String> {
                write(Kind::$name, self.0.as_bytes())
            }

            /// From what somebody typed: case, spaces and dashes do not matter, O is 0, I and L are 1.
            pub fn parse(text: &str) -> Result<Self, BadCode> {
                read(Kind::$name, text).map(|bytes| $name(bytes.into()))
            }

            #[cfg(test)]
            pub(super) fn from_bytes(bytes: &[u8; 20]) -> Self {
                $name(Secret::from_slice(bytes))
            }
        }
    };
}

printed_key!(
    /// Gets an account back when the password is lost. Printed on the emergency sheet, kept nowhere else.
    RecoveryKey
);
printed_key!(
    /// Is mixed into the password, so that a weak password cannot be guessed from what the server has. On the
    /// emergency sheet and on the account's devices.
    SecretKey
);

impl RecoveryKey {
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Signs in for a recovery. Its public half stands in the account log.
    pub fn sign_in_key(&self, user: &UserId, rec_gen: u32) -> SigningKey {
        let context = rec_gen.to_be_bytes();
        SigningKey::from_seed(&kdf(self.as_bytes(), user.as_bytes(), Label::RECOVERY_AUTH, &context))
    }
}

/// Writes the first bits of `bytes`, and the check.
pub(super) fn write(kind: Kind, bytes: &[u8]) -> Zeroizing<String> {
    let check = check(kind, bytes);
    let digits = digits(bytes, kind.bits()).chain(digits(&check, 20));
    let capacity = kind.prefix().len() + kind.characters().div_ceil(4) * 5;
    let mut text = Zeroizing::new(String::with_capacity(capacity));
    text.push_str(kind.prefix());
    for (at, digit) in digits.enumerate() {
        if at % 4 == 0 {
            text.push('-');
        }
        text.push(char::from(ALPHABET[usize::from(digit)]));
    }
    text
}

/// Reads `N` bytes, of which the last may be only partly used; the bits that are not are zero.
pub(super) fn read<const N: usize>(expected: Kind, text: &str) -> Result<Zeroizing<[u8; N]>, BadCode> {
    let mut typed = Zeroizing::new(Vec::with_capacity(text.len()));
    typed.extend(text.chars().filter(|c| !is_separator(*c)).map(|c| c.to_ascii_uppercase()));
    let [kind, version, code @ ..] = typed.as_slice() else {
        return Err(BadCode::NotACode { expected });
    };
    // The prefix may be mistyped in the same ways as the rest: I and L are 1.
    if digit(*version) != Some(1) {
        return Err(BadCode::NotACode { expected });
    }
    match Kind::ALL.into_iter().find(|known| known.prefix().starts_with(*kind)) {
        None => return Err(BadCode::NotACode { expected }),
        Some(found) if found != expected => return Err(BadCode::WrongKind { expected, found }),
        Some(_) => {}
    }
    if code.len() != expected.characters() {
        return Err(BadCode::WrongLength { expected, found: code.len() });
    }
    let mut bytes = Zeroizing::new([0; N]);
    let mut written_check = [0; 3];
    let (data, check_digits) = code.split_at(code.len() - CHECK_CHARACTERS);
    for (at, character) in data.iter().enumerate() {
        let digit = digit(*character).ok_or(BadCode::WrongCharacter { expected, position: at + 1 })?;
        put(bytes.as_mut_slice(), at, digit);
    }
    for (at, character) in check_digits.iter().enumerate() {
        let position = data.len() + at + 1;
        let digit = digit(*character).ok_or(BadCode::WrongCharacter { expected, position })?;
        put(&mut written_check, at, digit);
    }
    if written_check == check(expected, bytes.as_slice()) { Ok(bytes) } else { Err(BadCode::Typo { expected }) }
}

fn check(kind: Kind, bytes: &[u8]) -> [u8; 3] {
    let digest = hash(Label::CODE_CHECK, &[kind.prefix().as_bytes(), bytes]);
    [digest[0], digest[1], digest[2] & 0xf0]
}

/// The first `bits` of the bytes, five at a time.
fn digits(bytes: &[u8], bits: usize) -> impl Iterator<Item = u8> {
    (0..bits / 5).map(move |at| (0..5).fold(0, |digit, bit| digit << 1 | bit_at(bytes, at * 5 + bit)))
}

fn bit_at(bytes: &[u8], at: usize) -> u8 {
    bytes[at / 8] >> (7 - at % 8) & 1
}

/// Writes five bits in the `at`-th place.
fn put(bytes: &mut [u8], at: usize, digit: u8) {
    for bit in 0..5 {
        let place = at * 5 + bit;
        bytes[place / 8] |= (digit >> (4 - bit) & 1) << (7 - place % 8);
    }
}

fn digit(character: char) -> Option<u8> {
    let character = match character {
        'O' => '0',
        'I' | 'L' => '1',
        other => other,
    };
    let place = ALPHABET.iter().position(|known| char::from(*known) == character)?;
    Some(u8::try_from(place).expect("the alphabet has 32 characters"))
}

/// Spaces and dashes, also those a word processor makes of them.
fn is_separator(character: char) -> bool {
    character.is_whitespace() || matches!(character, '-' | '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{ad}' | '\u{200b}')
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBERS: [u8; 20] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19];

    #[test]
    fn a_code_is_nine_groups_of_four_after_its_kind() {
        let text = RecoveryKey::generate().to_text();
        let groups: Vec<&str> = text.split('-').collect();
        assert_eq!(groups[0], "R1");
        assert_eq!(groups.len(), 10);
        assert!(groups[1..].iter().all(|group| group.len() == 4));
    }

    #[test]
    fn however_it_is_typed_it_is_the_same_key() {
        let key = SecretKey::from_bytes(&NUMBERS);
        let text = key.to_text();
        let sloppy = [
            text.to_lowercase(),
            text.replace('-', ""),
            text.replace('-', " "),
            text.replace('-', " \u{2013} "),
            text.replace('0', "o").replace('1', "l"),
            text.replace('0', "O").replace('1', "I"),
            format!("  {}\n", *text),
        ];
        for typed in sloppy {
            assert_eq!(SecretKey::parse(&typed).unwrap().0.as_bytes(), &NUMBERS, "{typed}");
        }
    }

    #[test]
    fn every_single_mistyped_character_is_noticed() {
        let text = SecretKey::from_bytes(&NUMBERS).to_text();
        for at in 3..text.len() {
            let written = char::from(text.as_bytes()[at]);
            if written == '-' {
                continue;
            }
            for other in ALPHABET.iter().map(|c| char::from(*c)).filter(|c| *c != written) {
                let mut typed = text.to_string();
                typed.replace_range(at..=at, &other.to_string());
                assert_eq!(
                    SecretKey::parse(&typed).unwrap_err(),
                    BadCode::Typo { expected: Kind::SecretKey },
                    "{other} at {at}"
                );
            }
        }
    }

    #[test]
    fn the_error_says_what_is_wrong() {
        let secret = SecretKey::from_bytes(&NUMBERS).to_text();
        let recovery = RecoveryKey::from_bytes(&NUMBERS).to_text();
        let message = |text: &str| RecoveryKey::parse(text).unwrap_err().to_string();
        assert_eq!(message(&secret), "that is a Secret Key, and a recovery key is needed");
        assert_eq!(message("hunter2"), "a recovery key begins with R1-");
        assert_eq!(message(""), "a recovery key begins with R1-");
        assert_eq!(
            message(&recovery[..recovery.len() - 1]),
            "a recovery key has 36 characters after R1-, and this has 35"
        );
        assert_eq!(
            message(&format!("R1-0U{}", &recovery[5..])),
            "character 2 after R1- is not a letter or digit that codes are made of"
        );
        assert_eq!(
            message(&format!("{}ZZZZ", &recovery[..recovery.len() - 4])),
            "there is a mistake in it: the last four characters do not fit the others"
        );
    }

    #[test]
    fn the_kind_is_part_of_the_check() {
        let secret = SecretKey::from_bytes(&NUMBERS).to_text();
        let as_recovery = secret.replacen("S1", "R1", 1);
        assert_eq!(RecoveryKey::parse(&as_recovery).unwrap_err(), BadCode::Typo { expected: Kind::RecoveryKey });
    }

    #[test]
    fn sign_in_keys_differ_by_person_and_generation() {
        let key = RecoveryKey::generate();
        let public = |user, generation| key.sign_in_key(&UserId([user; 32]), generation).public_key();
        assert_eq!(public(1, 1), public(1, 1));
        assert_ne!(public(1, 1), public(2, 1));
        assert_ne!(public(1, 1), public(1, 2));
    }
}
