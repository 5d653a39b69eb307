//! Where the small durable state of each account lives on this device.
//!
//! Owns atomic replacement and the lock between processes. Knows nothing of what the bytes mean, of keys or of the
//! network: one folder an account, each wholly apart from the others.

mod files;
mod memory;
pub mod vaults;

pub use files::Files;
pub use memory::Memory;

use std::fmt::Debug;
use std::io::ErrorKind;
use std::path::PathBuf;

/// The folder of one account: a name made of lower-case letters and digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Folder(String);

impl Folder {
    /// Refuses whatever could name something outside the data folder.
    pub fn new(name: &str) -> Option<Folder> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        (!name.is_empty() && name.len() <= 64 && name.chars().all(plain)).then(|| Folder(name.to_owned()))
    }

    /// The name, for the path of a file or a key in a store.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The device's disk failed, or will not let us. A store of the app's own says by the kind of the source whose move it
/// is: `StorageFull`, `ReadOnlyFilesystem` or `PermissionDenied`, `InvalidData` for what is damaged.
#[derive(Debug, thiserror::Error)]
#[error("{doing} failed")]
pub struct StoreError {
    /// What was being done, as in "saving the account".
    pub doing: String,
    /// What came of it.
    pub source: std::io::Error,
}

impl StoreError {
    /// Whether what lies on the disk is not what was written.
    pub fn is_damage(&self) -> bool {
        self.source.kind() == ErrorKind::InvalidData
    }

    /// What a person can do about it.
    pub fn advice(&self) -> &'static str {
        match self.source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                "The disk is full: make room and try again. What was written before is safe."
            }
            ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => {
                "The folder cannot be written to: check whose it is, and that the disk is not read-only."
            }
            ErrorKind::InvalidData => "Let the app repair it: what the server has is fetched again.",
            ErrorKind::ResourceBusy => "Close other programs that use the account, and try again.",
            _ => "Check that the disk has room and the folder is yours.",
        }
    }
}

/// Held while one process changes an account; released when dropped.
pub struct Lock {
    _held: Option<Box<dyn Send>>,
}

impl Lock {
    /// Whatever it is that must be dropped for others to go on.
    pub fn holding(held: impl Send + 'static) -> Self {
        Lock { _held: Some(Box::new(held)) }
    }

    /// For a store that no other process can reach.
    pub fn none() -> Self {
        Lock { _held: None }
    }
}

impl Debug for Lock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lock")
    }
}

/// Small documents, one set a folder. Every call may block on the disk for a moment.
pub trait AccountStore: Send + Sync + Debug {
    /// The folders there are, in any order.
    fn folders(&self) -> Result<Vec<Folder>, StoreError>;

    /// What was last saved under this name, whole; never a part of it.
    fn load(&self, folder: &Folder, name: &str) -> Result<Option<Vec<u8>>, StoreError>;

    /// Replaces the document. When this returns it survives a power cut; if it does not return, the old one does.
    fn save(&self, folder: &Folder, name: &str, bytes: &[u8]) -> Result<(), StoreError>;

    /// Removes the folder and everything in it. To remove what is not there is no error.
    fn remove(&self, folder: &Folder) -> Result<(), StoreError>;

    /// Waits for other processes that are changing this account.
    fn lock(&self, folder: &Folder) -> Result<Lock, StoreError>;

    /// Where a person finds this folder, if it can be found.
    fn location(&self, folder: &Folder) -> Option<PathBuf>;
}
