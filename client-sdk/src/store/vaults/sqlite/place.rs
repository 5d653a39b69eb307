//! Which file the vaults are in, and whether it is the one that was there before.
//!
//! Owns two small files beside it. `vaults.made` names the file, so that a missing or empty one is noticed and not
//! taken for a new beginning, and so that a repaired one takes the place of the old in one step. `vaults.lock` is held
//! by everybody who has the file open: it is not replaced under them.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

const FIRST: &str = "vaults.sqlite";
const MADE: &str = "vaults.made";
const LOCK: &str = "vaults.lock";
const PAGE: u64 = 4_096;

/// Where the vaults of an account are.
#[derive(Debug)]
pub(super) struct Place {
    folder: PathBuf,
    /// Held for as long as the file is open.
    lock: File,
}

impl Place {
    /// Goes there; waits for a repair that is under way.
    pub(super) fn enter(folder: &Path) -> io::Result<Place> {
        let lock = private(&folder.join(LOCK))?;
        lock.lock_shared()?;
        Ok(Place { folder: folder.to_owned(), lock })
    }

    /// The file to open, and whether it is still to be made.
    pub(super) fn file(&self) -> io::Result<(PathBuf, bool)> {
        let named = match fs::read_to_string(self.folder.join(MADE)) {
            Ok(name) => Some(name),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let file = self.folder.join(named.as_deref().filter(|name| is_ours(name)).unwrap_or(FIRST));
        let is_there = match fs::metadata(&file) {
            // Without one whole page SQLite would begin anew.
            Ok(found) => found.len() >= PAGE,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        if named.is_some() && !is_there {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the file of the vaults is gone, or empty"));
        }
        Ok((file, named.is_none()))
    }

    /// From now on the vaults are in this file.
    pub(super) fn settle(&self, file: &Path) -> io::Result<()> {
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or(FIRST);
        let (beside, place) = (self.folder.join(format!("{MADE}.new")), self.folder.join(MADE));
        let mut written = private(&beside)?;
        written.set_len(0)?;
        written.write_all(name.as_bytes())?;
        written.sync_all()?;
        fs::rename(&beside, &place)?;
        #[cfg(unix)]
        File::open(&self.folder)?.sync_all()?;
        Ok(())
    }

    /// The file as far as it is known, whatever is left of it, and a name that nothing has yet.
    pub(super) fn old_and_new(&self) -> (PathBuf, PathBuf) {
        let named = fs::read_to_string(self.folder.join(MADE)).ok().filter(|name| is_ours(name));
        let old = self.folder.join(named.as_deref().unwrap_or(FIRST));
        let free = |number: &u32| !self.folder.join(numbered(*number)).exists();
        let number = (2..).find(free).unwrap_or(u32::MAX);
        (old, self.folder.join(numbered(number)))
    }

    /// Runs what nobody else may see half done; an error if somebody else has the vaults open.
    pub(super) fn alone<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.lock.unlock()?;
        let taken = match self.lock.try_lock() {
            Ok(()) => Ok(()),
            Err(TryLockError::WouldBlock) => {
                Err(io::Error::new(io::ErrorKind::ResourceBusy, "another program has the vaults open"))
            }
            Err(TryLockError::Error(error)) => Err(error),
        };
        let done = taken.and_then(|()| work());
        let _held_or_not = self.lock.unlock();
        self.lock.lock_shared()?;
        done
    }
}

fn numbered(number: u32) -> String {
    format!("vaults-{number}.sqlite")
}

/// The name of a file here, and of nothing outside.
fn is_ours(name: &str) -> bool {
    let number = name.strip_prefix("vaults-").and_then(|rest| rest.strip_suffix(".sqlite"));
    name == FIRST || number.is_some_and(|number| number.chars().all(|c| c.is_ascii_digit()))
}

fn private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}
