//! Looks for secrets where none may be, in every spelling a careless program would give them.
//!
//! Knows nothing about where the text came from.

use std::collections::BTreeMap;

use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// Secrets, each with the name under which it is reported: a failing test must not print the secret itself.
#[derive(Clone, Default)]
pub struct Canaries {
    spellings: Vec<Spelling>,
}

#[derive(Clone)]
struct Spelling {
    secret: String,
    form: &'static str,
    bytes: Vec<u8>,
}

/// Where a secret was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    pub secret: String,
    pub form: &'static str,
    pub at: usize,
}

/// A shorter secret would be found by chance.
const SHORTEST: usize = 8;

impl Canaries {
    /// Adds a secret that is text: a password, a code.
    pub fn text(self, name: &str, secret: &str) -> Self {
        let utf16 = |encode: fn(u16) -> [u8; 2]| secret.encode_utf16().flat_map(encode).collect::<Vec<u8>>();
        let percent: String = secret
            .bytes()
            .map(
                |byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") },
            )
            .collect();
        self.bytes(name, secret.as_bytes())
            .spelled(name, "UTF-16LE", utf16(u16::to_le_bytes))
            .spelled(name, "UTF-16BE", utf16(u16::to_be_bytes))
            .spelled(name, "percent-encoded", percent.into_bytes())
    }

    /// Adds a secret that is bytes: a key.
    pub fn bytes(mut self, name: &str, secret: &[u8]) -> Self {
        assert!(secret.len() >= SHORTEST, "{name} is too short to be told from chance");
        let hex = |upper: bool| -> Vec<u8> {
            let digits = secret.iter().map(|byte| if upper { format!("{byte:02X}") } else { format!("{byte:02x}") });
            digits.collect::<String>().into_bytes()
        };
        self =
            self.spelled(name, "raw", secret.to_vec()).spelled(name, "hex", hex(false)).spelled(name, "HEX", hex(true));
        let listed = format!("{secret:?}");
        self = self.spelled(name, "a list of numbers", listed.trim_matches(['[', ']']).as_bytes().to_vec());
        for before in 0..3 {
            self = self.spelled(name, "base64", base64_within(&STANDARD_NO_PAD, secret, before)).spelled(
                name,
                "base64url",
                base64_within(&URL_SAFE_NO_PAD, secret, before),
            );
        }
        self
    }

    /// These and those.
    pub fn and(mut self, others: Canaries) -> Self {
        self.spellings.extend(others.spellings);
        self
    }

    /// The first sighting, if there is one.
    pub fn find_in(&self, haystack: &[u8]) -> Option<Sighting> {
        // All at once, by how they begin: whole databases are searched for hundreds of spellings.
        let mut begins = vec![false; 1 << 16];
        let mut beginning_with: BTreeMap<usize, Vec<&Spelling>> = BTreeMap::new();
        for spelling in &self.spellings {
            begins[pair(&spelling.bytes)] = true;
            beginning_with.entry(pair(&spelling.bytes)).or_default().push(spelling);
        }
        let is_one = |at: &usize| begins[pair(&haystack[*at..])];
        (0..haystack.len().saturating_sub(1)).filter(is_one).find_map(|at| {
            let rest = &haystack[at..];
            let seen = beginning_with[&pair(rest)].iter().find(|spelling| rest.starts_with(&spelling.bytes))?;
            Some(Sighting { secret: seen.secret.clone(), form: seen.form, at })
        })
    }

    pub fn assert_absent_from(&self, what: &str, haystack: &[u8]) {
        assert!(!self.spellings.is_empty(), "nothing to look for");
        if let Some(Sighting { secret, form, at }) = self.find_in(haystack) {
            panic!("{secret} is in {what}, as {form}, at byte {at}");
        }
    }

    fn spelled(mut self, secret: &str, form: &'static str, bytes: Vec<u8>) -> Self {
        self.spellings.push(Spelling { secret: secret.to_owned(), form, bytes });
        self
    }
}

impl std::fmt::Debug for Canaries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut names: Vec<&str> = self.spellings.iter().map(|spelling| spelling.secret.as_str()).collect();
        names.dedup();
        f.debug_tuple("Canaries").field(&names).finish()
    }
}

/// The first two bytes.
fn pair(bytes: &[u8]) -> usize {
    usize::from(bytes[0]) << 8 | usize::from(bytes[1])
}

/// The characters that stand for the secret alone when `before` bytes (of any value, modulo 3) go before it.
fn base64_within(engine: &impl base64::Engine, secret: &[u8], before: usize) -> Vec<u8> {
    let text = engine.encode([&vec![0; before], secret].concat());
    let first = (before * 8).div_ceil(6);
    let last = (before + secret.len()) * 8 / 6;
    text.as_bytes()[first..last].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;

    const SECRET: &str = "schwarzer Schwan";

    fn seen_in(haystack: &[u8]) -> Option<&'static str> {
        Canaries::default().text("the password", SECRET).find_in(haystack).map(|sighting| sighting.form)
    }

    #[test]
    fn a_secret_is_seen_in_every_spelling() {
        let hex: String = SECRET.bytes().map(|byte| format!("{byte:02x}")).collect();
        let utf16: Vec<u8> = SECRET.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let debugged = format!("Password({:?})", SECRET.as_bytes());
        assert_eq!(seen_in(format!("x{SECRET}y").as_bytes()), Some("raw"));
        assert_eq!(seen_in(format!("key={hex}").as_bytes()), Some("hex"));
        assert_eq!(seen_in(format!("key={}", hex.to_uppercase()).as_bytes()), Some("HEX"));
        assert_eq!(seen_in(&[&[1], utf16.as_slice(), &[2]].concat()), Some("UTF-16LE"));
        assert_eq!(seen_in(debugged.as_bytes()), Some("a list of numbers"));
        assert_eq!(seen_in(b"?password=schwarzer%20Schwan"), Some("percent-encoded"));
    }

    #[test]
    fn base64_is_seen_wherever_the_secret_begins() {
        for before in ["", "a", "ab", "abc", "abcd"] {
            let text = STANDARD_NO_PAD.encode(format!("{before}{SECRET}after"));
            assert_eq!(seen_in(text.as_bytes()), Some("base64"), "after {before:?}");
        }
        let key: Vec<u8> = (0xe0..=0xff).collect();
        let canaries = Canaries::default().bytes("a key", &key);
        assert_eq!(canaries.find_in(URL_SAFE_NO_PAD.encode(&key).as_bytes()).unwrap().form, "base64url");
    }

    #[test]
    fn what_is_not_there_is_not_seen() {
        assert_eq!(seen_in(b"schwarzer Schwa"), None);
        assert_eq!(seen_in(b""), None);
    }

    #[test]
    #[should_panic(expected = "the password is in the log, as raw, at byte 2")]
    fn a_sighting_is_reported_by_name() {
        Canaries::default()
            .text("the password", SECRET)
            .assert_absent_from("the log", format!("a {SECRET}").as_bytes());
    }
}
