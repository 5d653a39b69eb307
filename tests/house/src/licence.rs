//! Whether a licence expression, as crates state it (SPDX, and the older form with a slash), can be met by what is
//! allowed. Knows nothing about crates.

/// `Ok` with the verdict, or `Err` with the part that could not be read.
pub fn is_allowed(expression: &str, allowed: &[String]) -> Result<bool, String> {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    let verdict = any_of(&mut words, allowed)?;
    match words.next() {
        None => Ok(verdict),
        Some(word) => Err(word.to_owned()),
    }
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

/// `OR` binds weaker than `AND`.
fn any_of(words: &mut Words<'_>, allowed: &[String]) -> Result<bool, String> {
    let mut verdict = all_of(words, allowed)?;
    while words.next_if_eq(&"OR").is_some() {
        verdict |= all_of(words, allowed)?;
    }
    Ok(verdict)
}

fn all_of(words: &mut Words<'_>, allowed: &[String]) -> Result<bool, String> {
    let mut verdict = one(words, allowed)?;
    while words.next_if_eq(&"AND").is_some() {
        verdict &= one(words, allowed)?;
    }
    Ok(verdict)
}

fn one(words: &mut Words<'_>, allowed: &[String]) -> Result<bool, String> {
    match words.next() {
        Some("(") => {
            let verdict = any_of(words, allowed)?;
            words.next_if_eq(&")").map(|_| verdict).ok_or_else(|| "an open parenthesis".to_owned())
        }
        Some(word) if !["OR", "AND", "WITH", ")"].contains(&word) => {
            let mut licence = word.to_owned();
            if words.next_if_eq(&"WITH").is_some() {
                licence = format!("{word} WITH {}", words.next().ok_or("a WITH without an exception")?);
            }
            Ok(allowed.contains(&licence))
        }
        other => Err(other.unwrap_or("nothing").to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(expression: &str) -> Result<bool, String> {
        is_allowed(expression, &["MIT", "Apache-2.0", "ISC", "Apache-2.0 WITH LLVM-exception"].map(String::from))
    }

    #[test]
    fn one_allowed_alternative_is_enough() {
        for expression in ["MIT", "GPL-3.0 OR MIT", "MIT/GPL-3.0", "GPL-3.0 / MIT", "GPL-3.0 OR (MIT AND ISC)"] {
            assert_eq!(verdict(expression), Ok(true), "{expression}");
        }
    }

    #[test]
    fn every_part_of_a_whole_must_be_allowed() {
        assert_eq!(verdict("ISC AND (Apache-2.0 OR OpenSSL) AND MIT"), Ok(true));
        for expression in ["GPL-3.0-or-later", "MIT AND GPL-3.0", "(MIT OR ISC) AND OpenSSL", "MIT-0"] {
            assert_eq!(verdict(expression), Ok(false), "{expression}");
        }
    }

    #[test]
    fn and_binds_stronger_than_or() {
        assert_eq!(verdict("MIT OR GPL-3.0 AND OpenSSL"), Ok(true));
        assert_eq!(verdict("GPL-3.0 AND OpenSSL OR GPL-2.0"), Ok(false));
    }

    #[test]
    fn an_exception_belongs_to_its_licence() {
        assert_eq!(verdict("Apache-2.0 WITH LLVM-exception"), Ok(true));
        assert_eq!(verdict("MIT WITH LLVM-exception"), Ok(false));
    }

    #[test]
    fn what_cannot_be_read_is_not_guessed_at() {
        for expression in ["", "(MIT", "MIT)", "MIT OR", "AND MIT", "MIT ISC", "MIT WITH"] {
            assert!(verdict(expression).is_err(), "{expression:?}");
        }
    }
}
