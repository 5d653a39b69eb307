//! A store of files: one folder an account under the data folder, readable by its owner alone.
//!
//! Owns atomic replacement (write beside, flush, rename, flush the folder) and a lock file. Knows nothing of what it
//! keeps.

use super::{AccountStore, Folder, Lock, StoreError};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// The accounts live in `<data folder>/accounts/<folder>/`.
#[derive(Debug)]
pub struct Files {
    accounts: PathBuf,
}

const LOCK_NAME: &str = "lock";
const BESIDE: &str = ".new";
/// Tells apart the writes of this process.
static WRITES: AtomicU64 = AtomicU64::new(0);

impl Files {
    /// Touches nothing yet: the folder is made when something is first saved.
    pub fn new(data_folder: impl AsRef<Path>) -> Self {
        Files { accounts: data_folder.as_ref().join("accounts") }
    }

    fn path(&self, folder: &Folder) -> PathBuf {
        self.accounts.join(folder.as_str())
    }

    fn ready(&self, folder: &Folder) -> Result<PathBuf, StoreError> {
        let path = self.path(folder);
        private_folder(&path).map_err(while_doing("making the folder of the account"))?;
        Ok(path)
    }
}

impl AccountStore for Files {
    fn folders(&self) -> Result<Vec<Folder>, StoreError> {
        let reading = || while_doing("listing the accounts on this device");
        let entries = match fs::read_dir(&self.accounts) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(reading()(error)),
        };
        let mut folders = Vec::new();
        for entry in entries {
            let name = entry.map_err(reading())?.file_name();
            folders.extend(name.to_str().and_then(Folder::new));
        }
        folders.sort();
        Ok(folders)
    }

    fn load(&self, folder: &Folder, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        match fs::read(self.path(folder).join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(while_doing("reading what this device keeps of the account")(error)),
        }
    }

    fn save(&self, folder: &Folder, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.ready(folder)?;
        replace(&path, name, bytes).map_err(while_doing("saving what this device keeps of the account"))
    }

    fn remove(&self, folder: &Folder) -> Result<(), StoreError> {
        match fs::remove_dir_all(self.path(folder)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(while_doing("removing the account from this device")(error))
            }
            _ => Ok(()),
        }
    }

    fn lock(&self, folder: &Folder) -> Result<Lock, StoreError> {
        let path = self.ready(folder)?.join(LOCK_NAME);
        let file = private_file(&path).and_then(|file| file.lock().map(|()| file));
        file.map(Lock::holding).map_err(while_doing("waiting for other programs that use the account"))
    }

    fn location(&self, folder: &Folder) -> Option<PathBuf> {
        Some(self.path(folder))
    }
}

/// Old or new, never half: the new bytes reach the disk before they get the name. Whoever writes at the same time
/// writes beside under another name.
fn replace(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let (writer, write) = (std::process::id(), WRITES.fetch_add(1, Ordering::Relaxed));
    let (beside, place) = (folder.join(format!("{name}-{writer}-{write}{BESIDE}")), folder.join(name));
    let written = private_file(&beside).and_then(|mut file| {
        file.set_len(0)?;
        file.write_all(bytes)?;
        file.sync_all()
    });
    if let Err(error) = written.and_then(|()| fs::rename(&beside, &place)) {
        // The first error is the one to hear of; what is left beside is never read.
        let _left_over = fs::remove_file(&beside);
        return Err(error);
    }
    // The name itself must be on the disk too. Windows cannot open a folder like this and does not need it.
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    Ok(())
}

fn private_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn private_folder(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

fn while_doing(doing: &'static str) -> impl FnOnce(io::Error) -> StoreError {
    move |source| StoreError { doing: doing.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::super::Memory;
    use super::*;

    fn folder(name: &str) -> Folder {
        Folder::new(name).unwrap()
    }

    fn contract(store: &dyn AccountStore) {
        let (ana, bob) = (folder("ana"), folder("bob"));
        assert_eq!(store.folders().unwrap(), vec![]);
        assert_eq!(store.load(&ana, "state").unwrap(), None);
        store.save(&ana, "state", b"one, and rather long").unwrap();
        store.save(&ana, "state", b"two").unwrap();
        store.save(&bob, "state", b"bob").unwrap();
        assert_eq!(store.load(&ana, "state").unwrap().unwrap(), b"two");
        assert_eq!(store.folders().unwrap(), vec![ana.clone(), bob.clone()]);
        drop(store.lock(&ana).unwrap());
        store.remove(&ana).unwrap();
        store.remove(&ana).unwrap();
        assert_eq!(store.load(&ana, "state").unwrap(), None);
        assert_eq!(store.load(&bob, "state").unwrap().unwrap(), b"bob");
    }

    #[test]
    fn files_and_memory_keep_the_same_contract() {
        let data = tempfile::tempdir().unwrap();
        contract(&Files::new(data.path()));
        contract(&Memory::default());
    }

    #[test]
    fn a_crash_before_the_rename_leaves_the_old_document() {
        let data = tempfile::tempdir().unwrap();
        let (store, ana) = (Files::new(data.path()), folder("ana"));
        store.save(&ana, "state", b"old").unwrap();
        // What a process leaves that is killed after writing and before renaming.
        fs::write(store.path(&ana).join("state.new"), b"half of a longer docum").unwrap();
        assert_eq!(store.load(&ana, "state").unwrap().unwrap(), b"old");
        store.save(&ana, "state", b"new").unwrap();
        assert_eq!(store.load(&ana, "state").unwrap().unwrap(), b"new");
    }

    #[test]
    fn who_saves_at_the_same_time_saves_one_or_the_other_and_leaves_nothing_beside() {
        let data = tempfile::tempdir().unwrap();
        let (store, ana) = (Files::new(data.path()), folder("ana"));
        std::thread::scope(|scope| {
            for byte in b'a'..=b'd' {
                let (store, ana) = (&store, &ana);
                scope.spawn(move || {
                    for _ in 0..20 {
                        store.save(ana, "state", &[byte; 9000]).unwrap();
                        let read = store.load(ana, "state").unwrap().unwrap();
                        assert!(read.len() == 9000 && read.iter().all(|byte| *byte == read[0]));
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(store.path(&ana)).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_cannot_name_a_place_outside() {
        for name in ["", "..", "a/b", "a\\b", ".", "A", "a b", "a\0"] {
            assert_eq!(Folder::new(name), None, "{name:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_can_read_what_is_kept() {
        use std::os::unix::fs::PermissionsExt as _;
        let data = tempfile::tempdir().unwrap();
        let (store, ana) = (Files::new(data.path()), folder("ana"));
        store.save(&ana, "state", b"x").unwrap();
        let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(store.path(&ana)), 0o700);
        assert_eq!(mode(store.path(&ana).join("state")), 0o600);
    }

    #[test]
    fn a_second_process_waits_for_the_first() {
        let data = tempfile::tempdir().unwrap();
        let (store, ana) = (Files::new(data.path()), folder("ana"));
        let held = store.lock(&ana).unwrap();
        let second = File::open(store.path(&ana).join(LOCK_NAME)).unwrap();
        assert!(second.try_lock().is_err());
        drop(held);
        assert!(second.try_lock().is_ok());
    }
}
