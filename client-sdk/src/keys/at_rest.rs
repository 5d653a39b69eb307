//! Where the key lies that seals this device's secrets.
//!
//! Owns the three honest answers: a keychain the app brings, a key the app holds, a file beside what it protects. It
//! knows nothing of what is sealed. The SDK brings no binding to a system's keychain: those need that system's
//! libraries, so an app that has one implements [`Keychain`] in a dozen lines.

use crate::store::{AccountStore, Folder, StoreError};
use selkie_protocol::cipher::LocalKey;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use zeroize::Zeroizing;

/// How well the secrets of this device are kept from whoever reads its disk.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SecretsAtRest {
    /// Sealed under a key in a keychain, named by who brought it.
    Keychain(String),
    /// Sealed under a key the app supplies at every start.
    AppKey,
    /// Sealed under a key in a file beside them, which only this user of the machine can read. Whoever has the disk
    /// has both.
    KeyFile(PathBuf),
    /// Nothing is at rest: it is forgotten when the program ends.
    Memory,
}

impl fmt::Display for SecretsAtRest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecretsAtRest::Keychain(name) => write!(f, "sealed under a key in {name}"),
            SecretsAtRest::AppKey => f.write_str("sealed under a key the app supplies"),
            SecretsAtRest::KeyFile(_) => f.write_str("sealed under a key in a file that only you can read"),
            SecretsAtRest::Memory => f.write_str("only in memory"),
        }
    }
}

/// Keeps one 32-byte key an account. Every call may block for a moment.
pub trait Keychain: Send + Sync + fmt::Debug {
    /// What to call it when somebody asks.
    fn kind(&self) -> SecretsAtRest;

    /// The key of this account, if there is one.
    fn get(&self, account: &Folder) -> Result<Option<Zeroizing<[u8; 32]>>, KeychainError>;

    /// Keeps the key of this account; another takes its place.
    fn put(&self, account: &Folder, key: &[u8; 32]) -> Result<(), KeychainError>;

    /// To remove what is not there is no error.
    fn remove(&self, account: &Folder) -> Result<(), KeychainError>;
}

/// The keychain will not give the key.
#[derive(Debug, thiserror::Error)]
pub enum KeychainError {
    /// It is locked, or the person said no.
    #[error("{0}")]
    Locked(String),
    /// The file in which it lies.
    #[error("the key file cannot be used")]
    File(#[from] StoreError),
}

/// The key of this account, made if there is none.
pub(crate) fn local_key(keychain: &dyn Keychain, account: &Folder) -> Result<LocalKey, KeychainError> {
    if let Some(bytes) = keychain.get(account)? {
        return Ok(LocalKey::from_bytes(&bytes));
    }
    let key = LocalKey::generate();
    keychain.put(account, &key.to_bytes())?;
    Ok(key)
}

/// The key lies in the account's folder, readable by its owner alone.
#[derive(Debug)]
pub(crate) struct KeyFile(pub(crate) Arc<dyn AccountStore>);

const KEY_DOCUMENT: &str = "key";

impl Keychain for KeyFile {
    fn kind(&self) -> SecretsAtRest {
        let somewhere = Folder::new("x").and_then(|folder| self.0.location(&folder));
        match somewhere.as_deref().and_then(std::path::Path::parent) {
            Some(accounts) => SecretsAtRest::KeyFile(accounts.to_owned()),
            None => SecretsAtRest::Memory,
        }
    }

    fn get(&self, account: &Folder) -> Result<Option<Zeroizing<[u8; 32]>>, KeychainError> {
        let Some(bytes) = self.0.load(account, KEY_DOCUMENT)?.map(Zeroizing::new) else {
            return Ok(None);
        };
        let key = bytes.as_slice().try_into().map_err(|_| KeychainError::Locked("the key file is damaged".into()))?;
        Ok(Some(Zeroizing::new(key)))
    }

    fn put(&self, account: &Folder, key: &[u8; 32]) -> Result<(), KeychainError> {
        Ok(self.0.save(account, KEY_DOCUMENT, key)?)
    }

    /// The file goes with the folder.
    fn remove(&self, _: &Folder) -> Result<(), KeychainError> {
        Ok(())
    }
}

/// One key for all accounts, which the app keeps wherever it likes.
pub(crate) struct AppKey(pub(crate) Zeroizing<[u8; 32]>);

impl Keychain for AppKey {
    fn kind(&self) -> SecretsAtRest {
        SecretsAtRest::AppKey
    }

    fn get(&self, _: &Folder) -> Result<Option<Zeroizing<[u8; 32]>>, KeychainError> {
        Ok(Some(self.0.clone()))
    }

    fn put(&self, _: &Folder, _: &[u8; 32]) -> Result<(), KeychainError> {
        Ok(())
    }

    fn remove(&self, _: &Folder) -> Result<(), KeychainError> {
        Ok(())
    }
}

impl fmt::Debug for AppKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AppKey(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Memory;

    #[test]
    fn a_key_is_made_once_and_found_again() {
        let keychain = KeyFile(Arc::new(Memory::default()));
        let (ana, bob) = (Folder::new("ana").unwrap(), Folder::new("bob").unwrap());
        let first = local_key(&keychain, &ana).unwrap().to_bytes();
        assert_eq!(local_key(&keychain, &ana).unwrap().to_bytes(), first);
        assert_ne!(local_key(&keychain, &bob).unwrap().to_bytes(), first);
    }

    #[test]
    fn an_app_key_shows_nothing() {
        assert_eq!(format!("{:?}", AppKey(Zeroizing::new([7; 32]))), "AppKey(***)");
    }
}
