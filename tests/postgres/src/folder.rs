//! A folder for one cluster, and the sweeping of folders whose owner is gone.
//!
//! Knows nothing about what is inside. The owner holds a lock on a file in the folder for as long as it lives: a lock
//! dies with its process whatever kills that, and is never mistaken for another's as a process number would be.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::{Error, child};

const LOCK: &str = "owner.lock";

#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    _owner: File,
}

impl Folder {
    /// A new folder, after sweeping those left behind by processes that were killed.
    ///
    /// Beneath the folder for temporary files and not beneath `target`: the unprivileged user that PostgreSQL wants
    /// could not reach a checkout in a private home.
    pub(crate) fn new() -> Result<Self, Error> {
        let root = std::env::temp_dir().join(format!("selkie-test-postgres-{}", child::effective_user()));
        Self::new_in(&root)
    }

    fn new_in(root: &Path) -> Result<Self, Error> {
        std::fs::create_dir_all(root).map_err(Error::io("make the folder for test clusters"))?;
        // One at a time: a folder that exists but is not yet locked must not be swept by a neighbour.
        let turn = File::create(root.join("turn.lock")).map_err(Error::io("open the lock of the test clusters"))?;
        turn.lock().map_err(Error::io("lock the folder for test clusters"))?;
        sweep(root);
        let path = tempfile::Builder::new()
            .prefix("cluster-")
            .permissions(std::fs::Permissions::from_mode(0o755))
            .tempdir_in(root)
            .map_err(Error::io("make a folder for the test cluster"))?
            .keep();
        let owner = File::create(path.join(LOCK)).map_err(Error::io("make the lock of the test cluster"))?;
        owner.lock().map_err(Error::io("lock the test cluster"))?;
        Ok(Folder { path, _owner: owner })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed now, the next run sweeps.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Removes every cluster whose lock nobody holds. A cluster that is still dying may resist; the next run gets it.
fn sweep(root: &Path) {
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        let unowned = match File::open(entry.path().join(LOCK)) {
            Ok(lock) => lock.try_lock().is_ok(),
            Err(_) => entry.path().is_dir(),
        };
        if unowned {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_goes_with_its_owner() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::new_in(root.path()).unwrap();
        let path = folder.path().to_owned();
        assert!(path.is_dir());
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn a_folder_whose_owner_was_killed_is_swept_and_a_living_one_is_not() {
        let root = tempfile::tempdir().unwrap();
        let living = Folder::new_in(root.path()).unwrap();
        let dead = root.path().join("cluster-dead");
        std::fs::create_dir(&dead).unwrap();
        std::fs::write(dead.join(LOCK), "").unwrap();
        let next = Folder::new_in(root.path()).unwrap();
        assert!(!dead.exists());
        assert!(living.path().join(LOCK).exists());
        assert_ne!(living.path(), next.path());
    }
}
