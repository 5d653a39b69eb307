//! How hard a password is to guess.
//!
//! Owns the two demands: any password will do beside a Secret Key, one that stands alone must be strong. Knows nothing
//! of what becomes of it.

use crate::error::{Error, Result};

/// Whether an account has a Secret Key beside its password.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyMode {
    /// 160 random bits are mixed into the password: nobody can guess it from what the server has.
    #[default]
    SecretKey,
    /// The password stands alone, and whoever owns the server can try to guess it. Asks for strength 3 of 4.
    PasswordOnly,
}

const ALONE: u8 = 3;

/// Refuses a password that is too weak for its place. `personal` is what a guesser would try first.
pub(crate) fn check(password: &str, mode: KeyMode, personal: &[&str]) -> Result<()> {
    if password.is_empty() {
        return Err(Error::WeakPassword { score: 0, needed: 1 });
    }
    if mode == KeyMode::SecretKey {
        return Ok(());
    }
    let score = strength(password, personal);
    if score < ALONE { Err(Error::WeakPassword { score, needed: ALONE }) } else { Ok(()) }
}

/// From 0 (guessed at once) to 4.
pub fn strength(password: &str, personal: &[&str]) -> u8 {
    u8::from(zxcvbn::zxcvbn(password, personal).score())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_that_stands_alone_must_be_strong() {
        for weak in ["", "password", "ana@example.org", "hunter2", "qwertyuiop"] {
            let error = check(weak, KeyMode::PasswordOnly, &["ana@example.org"]).unwrap_err();
            assert!(matches!(error, Error::WeakPassword { .. }), "{weak}");
        }
        check("otter-lantern-39-quiet-harbour", KeyMode::PasswordOnly, &[]).unwrap();
    }

    #[test]
    fn beside_a_secret_key_any_password_will_do_but_none() {
        check("hunter2", KeyMode::SecretKey, &[]).unwrap();
        assert!(check("", KeyMode::SecretKey, &[]).is_err());
    }
}
