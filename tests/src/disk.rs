//! The disk beneath an app: SQLite files as everywhere, and calls of the store that fail when a story says so.
//!
//! Owns when. Knows nothing about vaults, and never changes what is written.

use std::fmt::Debug;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use selkie_client::store::vaults::{
    Advance, Aside, Begun, Counts, Elsewhere, Fresh, KeptVault, NewWrite, Now, Outline, Pending, Settlement, Shelf,
    Shown, SqliteVaults, Together, Usage, VaultStore, VaultStores, Version,
};
use selkie_client::store::{AccountStore, Files, Folder, StoreError};
use selkie_client::{ChangeId, RecordId, UserId, VaultId};

type Kept<T> = Result<T, StoreError>;

/// One for each device. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct Disk(Arc<Mutex<Fate>>);

#[derive(Debug, Default)]
enum Fate {
    #[default]
    Sound,
    /// The program is killed at a call, after so many others: before it is carried out or right after.
    Killed { after: u64, done: bool },
    /// It was killed: nothing of it does anything any more.
    Dead,
    /// Whatever is written is refused so; what is there can be read.
    Refuses(ErrorKind),
}

impl Disk {
    /// Kills the program at one of its next calls, after so many others; the call is carried out or it is not. From
    /// then on everything fails, until [`Disk::is_sound`] and a restart.
    pub fn kills_after(&self, calls: u64, done: bool) {
        *self.fate() = Fate::Killed { after: calls, done };
    }

    /// Whether it came to that.
    pub fn has_killed(&self) -> bool {
        matches!(*self.fate(), Fate::Dead)
    }

    /// From now on nothing can be written, for this reason.
    pub fn refuses(&self, because: ErrorKind) {
        *self.fate() = Fate::Refuses(because);
    }

    pub fn is_sound(&self) {
        *self.fate() = Fate::Sound;
    }

    pub(crate) fn in_folder(&self, data_folder: &Path) -> Arc<dyn VaultStores> {
        Arc::new(OnDisk { disk: self.clone(), accounts: Files::new(data_folder) })
    }

    fn fate(&self) -> std::sync::MutexGuard<'_, Fate> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call<T>(&self, writes: bool, carry_out: impl FnOnce() -> Kept<T>) -> Kept<T> {
        let (because, after_all) = {
            let mut fate = self.fate();
            match &mut *fate {
                Fate::Sound => (None, false),
                Fate::Refuses(because) => (writes.then_some(*because), false),
                Fate::Dead => (Some(ErrorKind::Other), false),
                Fate::Killed { after: 0, done } => {
                    let done = *done;
                    *fate = Fate::Dead;
                    (Some(ErrorKind::Other), done)
                }
                Fate::Killed { after, .. } => {
                    *after -= 1;
                    (None, false)
                }
            }
        };
        match because {
            None => carry_out(),
            Some(because) => {
                if after_all {
                    carry_out()?;
                }
                Err(StoreError { doing: "anything".into(), source: because.into() })
            }
        }
    }
}

#[derive(Debug)]
struct OnDisk {
    disk: Disk,
    accounts: Files,
}

impl VaultStores for OnDisk {
    fn open(&self, account: &Folder) -> Kept<Arc<dyn VaultStore>> {
        let folder = self.accounts.location(account).expect("files lie in folders");
        Ok(Arc::new(Vaults { disk: self.disk.clone(), kept: SqliteVaults::open(&folder)? }))
    }

    fn remove(&self, _: &Folder) -> Kept<()> {
        // The file goes with the account's folder.
        Ok(())
    }
}

#[derive(Debug)]
struct Vaults {
    disk: Disk,
    kept: SqliteVaults,
}

macro_rules! passed_on {
    (writes { $(fn $write:ident(&self $(, $given:ident: $of:ty)*) -> $to:ty;)* }
     reads { $(fn $read:ident(&self $(, $arg:ident: $type:ty)*) -> $out:ty;)* }) => {
        impl VaultStore for Vaults {
            $(fn $write(&self $(, $given: $of)*) -> Kept<$to> {
                self.disk.call(true, || self.kept.$write($($given),*))
            })*
            $(fn $read(&self $(, $arg: $type)*) -> Kept<$out> {
                self.disk.call(false, || self.kept.$read($($arg),*))
            })*
        }
    };
}

passed_on! {
    writes {
        fn keep_account(&self, before: Option<&[u8]>, state: &[u8]) -> bool;
        fn keep_person(&self, user: &UserId, log: &[u8]) -> ();
        fn begin(&self, vault: &VaultId, begun: &Begun) -> ();
        fn advance(&self, vault: &VaultId, revision: u64, advance: &Advance) -> Option<u64>;
        fn stage_anew(&self, vault: &VaultId, revision: u64) -> Option<u64>;
        fn stage(&self, vault: &VaultId, revision: u64, versions: &[Version], aside: &[Aside]) -> bool;
        fn replace(&self, vault: &VaultId, revision: u64, fresh: &Fresh) -> Option<u64>;
        fn forget(&self, vault: &VaultId) -> ();
        fn forget_if_sent(&self, vault: &VaultId) -> bool;
        fn write_down(&self, vault: &VaultId, seen: Option<u64>, new: &[NewWrite], group: Together) -> Option<Vec<u64>>;
        fn put_on_shelves(&self, vault: &VaultId, seqs: &[(u64, Shelf)]) -> ();
        fn take_back(&self, vault: &VaultId, revision: u64, seqs: &[u64]) -> Option<u64>;
        fn flush(&self) -> ();
        fn resolve(&self, vault: &VaultId, settlement: u64) -> ();
        fn keep_note(&self, vault: &VaultId, name: &Shelf, sealed: &[u8]) -> ();
        fn prune(&self, vault: &VaultId, before_ms: u64) -> Usage;
        fn let_go(&self, vault: &VaultId, seen: u64, records: &[Elsewhere]) -> (u64, Usage);
        fn shrink(&self) -> ();
        fn rebuild(&self) -> bool;
    }
    reads {
        fn elsewhere(&self, vault: &VaultId) -> Vec<Elsewhere>;
        fn elsewhere_of(&self, vault: &VaultId, record: &RecordId) -> Vec<Elsewhere>;
        fn account(&self) -> Option<Vec<u8>>;
        fn people(&self) -> Vec<(UserId, Vec<u8>)>;
        fn vaults(&self) -> Vec<VaultId>;
        fn revision(&self, vault: &VaultId) -> Option<u64>;
        fn load(&self, vault: &VaultId) -> Option<KeptVault>;
        fn outbox(&self, vault: &VaultId, limit: usize) -> Vec<Pending>;
        fn pending_of(&self, vault: &VaultId, record: &RecordId) -> Vec<Pending>;
        fn now(&self, vault: &VaultId, record: &RecordId) -> Now;
        fn shelf(&self, vault: &VaultId, shelf: &Shelf, visit: &mut dyn FnMut(Shown)) -> u64;
        fn shelves(&self, vault: &VaultId) -> Vec<Shelf>;
        fn page(&self, vault: &VaultId, shelf: &Shelf, after: Option<RecordId>, limit: usize) -> Vec<RecordId>;
        fn stamp(&self, vault: &VaultId) -> u64;
        fn touched(&self, vault: &VaultId, after: u64) -> (u64, Option<Vec<RecordId>>);
        fn outline(&self, vault: &VaultId) -> Option<Outline>;
        fn versions(&self, vault: &VaultId, record: &RecordId) -> Vec<Version>;
        fn current(&self, vault: &VaultId, shelf: Option<&Shelf>) -> Vec<Version>;
        fn aside_after(&self, vault: &VaultId, after: Option<&ChangeId>, most: usize) -> Vec<Aside>;
        fn settlements(&self, vault: &VaultId) -> Vec<Settlement>;
        fn settlements_of(&self, vault: &VaultId, record: &RecordId) -> Vec<Settlement>;
        fn note(&self, vault: &VaultId, name: &Shelf) -> Option<Vec<u8>>;
        fn frames(&self, vault: &VaultId, from: u64, to: u64) -> Vec<(u64, Vec<u8>)>;
        fn counts(&self, vault: &VaultId) -> Counts;
        fn usage(&self, vault: &VaultId) -> Usage;
        fn size(&self) -> u64;
        fn damage(&self) -> Vec<String>;
    }
}
