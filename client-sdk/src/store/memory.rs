//! A store that forgets when it is dropped: for tests and for guests.
//!
//! Owns a map. Knows nothing of files.

use super::{AccountStore, Folder, Lock, StoreError};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// Documents in memory.
#[derive(Default)]
pub struct Memory(Mutex<BTreeMap<(Folder, String), Vec<u8>>>);

impl Memory {
    fn documents(&self) -> std::sync::MutexGuard<'_, BTreeMap<(Folder, String), Vec<u8>>> {
        // A map is whole after every operation, so a panic elsewhere leaves nothing half done in it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AccountStore for Memory {
    fn folders(&self) -> Result<Vec<Folder>, StoreError> {
        let mut folders: Vec<Folder> = self.documents().keys().map(|(folder, _)| folder.clone()).collect();
        folders.dedup();
        Ok(folders)
    }

    fn load(&self, folder: &Folder, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.documents().get(&(folder.clone(), name.to_owned())).cloned())
    }

    fn save(&self, folder: &Folder, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.documents().insert((folder.clone(), name.to_owned()), bytes.to_vec());
        Ok(())
    }

    fn remove(&self, folder: &Folder) -> Result<(), StoreError> {
        self.documents().retain(|(of, _), _| of != folder);
        Ok(())
    }

    fn lock(&self, _: &Folder) -> Result<Lock, StoreError> {
        Ok(Lock::none())
    }

    fn location(&self, _: &Folder) -> Option<PathBuf> {
        None
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Memory(***)")
    }
}
