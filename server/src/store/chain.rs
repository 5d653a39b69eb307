//! The hash chain of an audit log.
//!
//! Owns what an entry hashes to and what follows what. Knows nothing of where entries are kept.
//!
//! ```text
//! content = SHA-256(at i64 | subject | action | device | detail)      each of the four as u32 length + bytes,
//!                                                                     a missing one as the length 2^32 - 1
//! chain   = SHA-256("selkie/v1/audit" | previous chain | number u64 | content)
//! ```

use selkie_protocol::hash::sha256;

/// What stands before the first entry of every chain.
pub(super) const START: [u8; 32] = [0; 32];

pub(super) struct Content<'a> {
    pub(super) at: i64,
    pub(super) subject: Option<&'a [u8]>,
    pub(super) action: &'a str,
    pub(super) device: Option<&'a [u8]>,
    pub(super) detail: Option<&'a str>,
}

pub(super) fn next(previous: &[u8; 32], number: i64, content: &Content<'_>) -> [u8; 32] {
    let mut bytes = b"selkie/v1/audit".to_vec();
    bytes.extend_from_slice(previous);
    bytes.extend_from_slice(&number.to_be_bytes());
    bytes.extend_from_slice(&content.hash());
    sha256(&bytes)
}

impl Content<'_> {
    fn hash(&self) -> [u8; 32] {
        let mut bytes = self.at.to_be_bytes().to_vec();
        let parts = [self.subject, Some(self.action.as_bytes()), self.device, self.detail.map(str::as_bytes)];
        for part in parts {
            match part {
                None => bytes.extend_from_slice(&u32::MAX.to_be_bytes()),
                Some(part) => {
                    let length = u32::try_from(part.len()).expect("columns are far shorter than four gigabytes");
                    bytes.extend_from_slice(&length.to_be_bytes());
                    bytes.extend_from_slice(part);
                }
            }
        }
        sha256(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTENT: Content<'_> = Content { at: 7, subject: None, action: "signed_in", device: None, detail: None };

    #[test]
    fn every_part_of_an_entry_is_in_its_chain() {
        let whole = next(&START, 1, &CONTENT);
        assert_ne!(whole, next(&[1; 32], 1, &CONTENT));
        assert_ne!(whole, next(&START, 2, &CONTENT));
        for other in [
            Content { at: 8, ..CONTENT },
            Content { subject: Some(b""), ..CONTENT },
            Content { action: "signed_out", ..CONTENT },
            Content { device: Some(&[0; 16]), ..CONTENT },
            Content { detail: Some(""), ..CONTENT },
        ] {
            assert_ne!(whole, next(&START, 1, &other));
        }
    }

    #[test]
    fn words_cannot_move_from_one_part_to_the_next() {
        let one = Content { action: "ab", detail: Some("c"), ..CONTENT };
        let other = Content { action: "a", detail: Some("bc"), ..CONTENT };
        assert_ne!(next(&START, 1, &one), next(&START, 1, &other));
    }
}
