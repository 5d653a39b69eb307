//! Where large things are kept: sealed bytes under a key.
//!
//! Owns the contract of a blob store and the shape of its keys; [`files`] and [`s3`] fulfil it. Knows nothing about
//! who may read what, nor what the bytes mean: rows in the database decide that.

#[cfg(test)]
mod conformance;
pub mod files;
#[cfg(feature = "s3")]
pub mod s3;

use async_trait::async_trait;
use std::fmt;

/// Keeps bytes under keys. Every operation can be repeated without harm.
#[async_trait]
pub trait BlobStore: Send + Sync + fmt::Debug {
    /// Stores bytes, over what was there. When it returns, they survive a power cut.
    async fn put(&self, key: &BlobKey, bytes: Vec<u8>) -> Result<(), BlobError>;

    async fn get(&self, key: &BlobKey) -> Result<Vec<u8>, BlobError>;

    /// Removes bytes. That there are none is no error.
    async fn delete(&self, key: &BlobKey) -> Result<(), BlobError>;

    /// The first `limit` keys under a prefix, in the order of their bytes, after one that was seen already.
    async fn list(&self, prefix: &BlobPrefix, after: Option<&BlobKey>, limit: usize)
    -> Result<Vec<BlobKey>, BlobError>;

    /// Removes everything under a prefix and says how much it was.
    async fn delete_prefix(&self, prefix: &BlobPrefix) -> Result<u64, BlobError>;

    /// Whether the store can be used now, and if not, why.
    async fn probe(&self) -> Result<(), BlobError>;
}

/// The name of a blob: its tenant first, then lower-case words. Whatever it is made from, it names one file below one
/// folder on any file system.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobKey(String);

/// All blobs of a tenant, or those below one of its words.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct BlobPrefix(String);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a blob is named by words of a-z, 0-9, - and _, each at most 128 long, 512 in all")]
pub struct NotABlobKey;

#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    #[error("there is no such blob")]
    NotFound,
    /// The store cannot be reached, or will not have us: the operator's move, or nobody's but time's.
    #[error("the blob store cannot be used: {reason}")]
    Unavailable { reason: String, source: Option<Box<dyn std::error::Error + Send + Sync>> },
}

const MAX_WORD_LENGTH: usize = 128;
const MAX_KEY_LENGTH: usize = 512;

impl BlobKey {
    /// `words` are joined to `t<tenant>/word/word`.
    pub fn new(tenant: i64, words: &[&str]) -> Result<Self, NotABlobKey> {
        if words.is_empty() { Err(NotABlobKey) } else { joined(tenant, words).map(BlobKey) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A key as a store lists it; anything that is not one of ours is nothing.
    fn from_store(text: &str) -> Option<Self> {
        let (tenant, rest) = text.strip_prefix('t')?.split_once('/')?;
        let key = BlobKey::new(tenant.parse().ok()?, &rest.split('/').collect::<Vec<_>>()).ok()?;
        (key.0 == text).then_some(key)
    }
}

impl BlobPrefix {
    pub fn tenant(tenant: i64) -> Self {
        BlobPrefix(format!("t{tenant}/"))
    }

    pub fn below(tenant: i64, words: &[&str]) -> Result<Self, NotABlobKey> {
        joined(tenant, words).map(|words| BlobPrefix(words + "/"))
    }

    /// Ends with a slash, so that tenant 1 is not the beginning of tenant 12.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn joined(tenant: i64, words: &[&str]) -> Result<String, NotABlobKey> {
    let plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
    let fits = |word: &&str| (1..=MAX_WORD_LENGTH).contains(&word.len()) && word.bytes().all(plain);
    let mut key = format!("t{tenant}");
    for word in words {
        if !fits(word) {
            return Err(NotABlobKey);
        }
        key.push('/');
        key.push_str(word);
    }
    if tenant < 0 || key.len() > MAX_KEY_LENGTH { Err(NotABlobKey) } else { Ok(key) }
}

impl fmt::Debug for BlobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlobKey({})", self.0)
    }
}

impl fmt::Debug for BlobPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlobPrefix({})", self.0)
    }
}

impl BlobError {
    fn unavailable(reason: impl Into<String>, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        BlobError::Unavailable { reason: reason.into(), source: Some(Box::new(source)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_begins_with_its_tenant() {
        let key = BlobKey::new(7, &["0a1b", "c-d_e"]).unwrap();
        assert_eq!(key.as_str(), "t7/0a1b/c-d_e");
        assert_eq!(BlobKey::from_store(key.as_str()), Some(key));
    }

    #[test]
    fn nothing_that_leaves_its_folder_or_depends_on_the_file_system_is_a_key() {
        let long = "a".repeat(MAX_WORD_LENGTH + 1);
        for word in ["", ".", "..", "a/b", "a\\b", "/", "A", "a.b", "a b", "a\0", "é", "con:", long.as_str()] {
            assert_eq!(BlobKey::new(1, &[word]), Err(NotABlobKey), "{word:?}");
            assert_eq!(BlobPrefix::below(1, &["ok", word]).err(), Some(NotABlobKey), "{word:?}");
        }
        assert!(BlobKey::new(1, &[]).is_err());
        assert!(BlobKey::new(-1, &["a"]).is_err());
        assert!(BlobKey::new(1, &["a".repeat(100).as_str(); 6]).is_err());
        for text in ["", "t", "t1", "t1/", "1/a", "tx/a", "t01/a", "t+1/a", "t1//a", "t1/a/", "t1/../t2/a"] {
            assert_eq!(BlobKey::from_store(text), None, "{text:?}");
        }
    }
}
