//! What people type to say who they are, brought to one form, and what becomes of a password before OPAQUE sees it.

use unicode_normalization::UnicodeNormalization as _;

/// Separates the parts of the password input, and may therefore stand in none of them.
pub const SEPARATOR: char = '\u{1f}';
pub const MAX_LOGIN_NAME_LENGTH: usize = 254;

/// A login name in its one form: NFKC, lower case, trimmed.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LoginName(String);

/// The text cannot be a login name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotALoginName {
    #[error("a login name may not be empty")]
    Empty,
    #[error("a login name has at most {MAX_LOGIN_NAME_LENGTH} bytes")]
    TooLong,
    #[error("a login name may not contain spaces, control characters or characters that cannot be seen")]
    Unprintable,
}

impl LoginName {
    pub fn new(text: &str) -> Result<Self, NotALoginName> {
        let mut name: String = text.trim().nfkc().collect::<String>().to_lowercase();
        // Lower-casing can undo normalisation (İ), so it is brought to its fixed point.
        name = name.nfkc().collect::<String>().trim().to_owned();
        if name.is_empty() {
            return Err(NotALoginName::Empty);
        }
        if name.len() > MAX_LOGIN_NAME_LENGTH {
            return Err(NotALoginName::TooLong);
        }
        if name.chars().any(|c| c.is_control() || c.is_whitespace() || is_invisible(c)) {
            return Err(NotALoginName::Unprintable);
        }
        Ok(LoginName(name))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Characters that take no room or turn the direction of what follows: two names that differ in them look the same.
fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{115f}'..='\u{1160}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}'
    )
}

/// A login name is personal: it shows itself only where it is asked for by `as_str`.
impl std::fmt::Debug for LoginName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LoginName(***)")
    }
}

/// A password, a name or a code that contains the separator U+001F, which would let one part pass for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the character U+001F may not be part of a password, a name or a server's name")]
pub struct ContainsSeparator;

/// The bytes OPAQUE is given as the password: it is bound to the server, the name and, where there is one, the Secret
/// Key, so that nothing learned for one account or server helps against another.
pub fn password_input(
    server_name: &str,
    login_name: &LoginName,
    password: &str,
    secret_key: Option<&str>,
) -> Result<zeroize::Zeroizing<Vec<u8>>, ContainsSeparator> {
    // Measured first and then written once: a string that grows leaves pieces of the password behind.
    let mut normal = zeroize::Zeroizing::new(String::with_capacity(password.nfkc().map(char::len_utf8).sum()));
    normal.extend(password.nfkc());
    let password = normal;
    let server_name = server_name.to_lowercase();
    let mut parts = vec!["selkie/v1", &server_name, login_name.as_str(), &password];
    parts.extend(secret_key);
    if parts.iter().any(|part| part.contains(SEPARATOR)) {
        return Err(ContainsSeparator);
    }
    Ok(zeroize::Zeroizing::new(parts.join("\u{1f}").into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_form_whatever_was_typed() {
        assert_eq!(LoginName::new("  Ana@Example.ORG ").unwrap().as_str(), "ana@example.org");
        assert_eq!(LoginName::new("ﬁona").unwrap(), LoginName::new("FIONA").unwrap());
        for bad in ["", "   ", "a b", "a\u{1f}b", "a\u{0}"] {
            assert!(LoginName::new(bad).is_err(), "{bad:?}");
        }
        assert!(LoginName::new(&"a".repeat(255)).is_err());
    }

    /// A name that is accepted is accepted again as itself. Otherwise one name could be two accounts.
    fn is_settled(text: &str) {
        if let Ok(once) = LoginName::new(text) {
            assert_eq!(LoginName::new(once.as_str()), Ok(once.clone()), "{text:?}");
        }
    }

    #[test]
    fn every_character_settles_at_once_wherever_it_stands() {
        // All of Unicode that is assigned, but for the ideographs and syllables that are their own normal form.
        let ranges = ['\0'..='\u{33ff}', '\u{a000}'..='\u{ac00}', '\u{d7a3}'..='\u{1ffff}', '\u{2f800}'..='\u{2fa1d}'];
        for character in ranges.into_iter().flatten() {
            for text in [format!("{character}"), format!("a{character}b"), format!("ΑΣ{character}\u{307}\u{345}")] {
                is_settled(&text);
            }
        }
    }

    #[test]
    fn names_that_look_alike_because_something_in_them_is_invisible_are_refused() {
        for invisible in ['\u{200b}', '\u{200d}', '\u{202e}', '\u{2066}', '\u{feff}', '\u{ad}', '\u{e0041}', '\u{3164}']
        {
            assert_eq!(LoginName::new(&format!("an{invisible}a")), Err(NotALoginName::Unprintable), "{invisible:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_name_settles_at_once(text in "\\PC{0,12}") {
            is_settled(&text);
        }

        #[test]
        fn any_combination_of_marks_settles_at_once(
            text in "[a-zA-ZİıſẞΣσςǅﬁÅµ\u{300}-\u{345}\u{1d15e}-\u{1d172}ᄀ-하-ᅵᆨ-ᇂ가-힣]{0,12}"
        ) {
            is_settled(&text);
        }
    }

    #[test]
    fn parts_cannot_run_into_each_other() {
        let ana = LoginName::new("ana").unwrap();
        assert!(password_input("host", &ana, "a\u{1f}b", None).is_err());
        assert_eq!(
            &**password_input("Host:80", &ana, "pa", Some("S1-X")).unwrap(),
            "selkie/v1\u{1f}host:80\u{1f}ana\u{1f}pa\u{1f}S1-X".as_bytes()
        );
    }
}
