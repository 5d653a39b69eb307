//! A disk that is full or may not be written: whose move it is, and that nothing is lost by it.

use crate::fake::{Fake, Mishap};
use crate::records::{Note, note};
use crate::vaults::{APP, PASSWORD};
use futures_util::{FutureExt as _, StreamExt as _};
use selkie_client::store::vaults::*;
use selkie_client::store::{Folder, StoreError};
use selkie_client::{Error, RecordState, SignUp};
use selkie_protocol::id::{ChangeId, RecordId, UserId, VaultId};
use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// A disk on which nothing can be written for a while; what lies on it can be read, and now and then reads wrong.
#[derive(Debug, Default)]
struct Stuck {
    disk: MemoryVaults,
    because: Mutex<Option<ErrorKind>>,
    bend: Mutex<Option<fn(&mut KeptVault)>>,
    /// What is to be sent is not what was written.
    spoils_the_outbox: AtomicBool,
    /// Nothing can be read either.
    unreadable: AtomicBool,
}

impl Stuck {
    fn refuses(&self) -> Result<(), StoreError> {
        match *self.because.lock().unwrap() {
            Some(kind) => Err(StoreError { doing: "keeping a vault".into(), source: kind.into() }),
            None => Ok(()),
        }
    }
}

type Kept<T> = Result<T, StoreError>;

macro_rules! stuck {
    (writes { $(fn $name:ident(&self $(, $arg:ident: $type:ty)*) -> $out:ty;)* }
     reads { $(fn $read:ident(&self $(, $read_arg:ident: $read_type:ty)*) -> $read_out:ty;)* }) => {
        impl VaultStore for Stuck {
            fn load(&self, vault: &VaultId) -> Kept<Option<KeptVault>> {
                let mut kept = self.disk.load(vault)?;
                if let (Some(kept), Some(bend)) = (&mut kept, *self.bend.lock().unwrap()) {
                    bend(kept);
                }
                Ok(kept)
            }

            fn outbox(&self, vault: &VaultId, limit: usize) -> Kept<Vec<Pending>> {
                let mut pending = self.disk.outbox(vault, limit)?;
                if self.spoils_the_outbox.load(Ordering::SeqCst) {
                    pending.iter_mut().for_each(|one| one.sealed[0] ^= 1);
                }
                Ok(pending)
            }

            $(fn $name(&self $(, $arg: $type)*) -> Kept<$out> {
                self.refuses()?;
                self.disk.$name($($arg),*)
            })*
            $(fn $read(&self $(, $read_arg: $read_type)*) -> Kept<$read_out> {
                if self.unreadable.load(Ordering::SeqCst) {
                    return Err(StoreError { doing: "reading a vault".into(), source: ErrorKind::Other.into() });
                }
                self.disk.$read($($read_arg),*)
            })*
        }
    };
}

stuck! {
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
        fn write_down(&self, vault: &VaultId, seen: Option<u64>, writes: &[NewWrite], together: Together) -> Option<Vec<u64>>;
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
        fn account(&self) -> Option<Vec<u8>>;
        fn people(&self) -> Vec<(UserId, Vec<u8>)>;
        fn vaults(&self) -> Vec<VaultId>;
        fn revision(&self, vault: &VaultId) -> Option<u64>;
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
        fn elsewhere(&self, vault: &VaultId) -> Vec<Elsewhere>;
        fn elsewhere_of(&self, vault: &VaultId, record: &RecordId) -> Vec<Elsewhere>;
        fn note(&self, vault: &VaultId, name: &Shelf) -> Option<Vec<u8>>;
        fn frames(&self, vault: &VaultId, from: u64, to: u64) -> Vec<(u64, Vec<u8>)>;
        fn counts(&self, vault: &VaultId) -> Counts;
        fn usage(&self, vault: &VaultId) -> Usage;
        fn size(&self) -> u64;
        fn damage(&self) -> Vec<String>;
    }
}

/// A chain value, a live record, the state: each of them says something else than was written.
const BENT: [fn(&mut KeptVault); 3] = [
    |kept| {
        let middle = kept.trail.len() - 2;
        kept.trail[middle].1[7] ^= 1;
    },
    |kept| {
        if let Some((_, live)) = kept.live.first_mut() {
            live[8 + 5] ^= 1;
        }
    },
    |kept| {
        let middle = kept.state.len() / 2;
        kept.state[middle] ^= 1;
    },
];

#[tokio::test]
async fn nobody_is_accused_on_the_word_of_a_disk_that_is_wrong_itself() {
    for bend in BENT {
        let (server, disk) = (Fake::start(), Arc::new(Stuck::default()));
        let accounts = Arc::new(selkie_client::store::Memory::default());
        let client = || {
            let builder = server.builder().account_store(accounts.clone());
            builder.vault_stores(Arc::new(OneDisk(disk.clone()))).build().unwrap()
        };
        let ana = client().sign_up("ana@example.org", PASSWORD, SignUp::default()).await.unwrap();
        let vault = ana.account.create_vault("Journal", APP).await.unwrap();
        let id = vault.collection("notes").put(&note("first")).await.unwrap();
        vault.sync().await.unwrap();
        let phone = crate::vaults::another_device(&server, "ana@example.org", &ana).await;
        phone.sync().await.unwrap();
        vault.sync().await.unwrap();
        // The phone writes without having seen the last that the laptop wrote.
        vault.collection("notes").put(&note("second")).await.unwrap();
        vault.sync().await.unwrap();
        let on_phone = phone.vault("Journal").await.unwrap().unwrap();
        on_phone.collection::<Note>("notes").update(id, |note| note.likes = 1).await.unwrap();
        on_phone.sync().await.unwrap();
        drop(vault);

        *disk.bend.lock().unwrap() = Some(bend);
        let account = client().account("ana@example.org").await.unwrap().unwrap();
        let check = account.check_storage().await.unwrap();
        assert!(!check.is_sound(), "{check:?}");
        let synced = account.sync().await.unwrap();
        for error in synced.vaults.iter().filter_map(|(_, done)| done.as_ref().err()) {
            assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
        }

        // What is wrong is fetched again, and then the disk reads right.
        *disk.bend.lock().unwrap() = None;
        let account = client().account("ana@example.org").await.unwrap().unwrap();
        assert!(account.sync().await.unwrap().first_error().is_none());
        let vault = account.vault("Journal").await.unwrap().unwrap();
        assert_eq!(vault.collection::<Note>("notes").get(id).await.unwrap().unwrap().likes, 1);
        assert_eq!(vault.digest().await.unwrap(), on_phone.digest().await.unwrap());
    }
}

#[derive(Debug)]
struct OneDisk(Arc<Stuck>);

impl VaultStores for OneDisk {
    fn open(&self, _: &Folder) -> Result<Arc<dyn VaultStore>, StoreError> {
        Ok(self.0.clone())
    }

    fn remove(&self, _: &Folder) -> Result<(), StoreError> {
        Ok(())
    }
}

#[tokio::test]
async fn a_disk_that_takes_nothing_says_whose_move_it_is_and_costs_nothing_that_was_written() {
    for (kind, advice) in [
        (ErrorKind::StorageFull, "make room"),
        (ErrorKind::FileTooLarge, "make room"),
        (ErrorKind::ReadOnlyFilesystem, "cannot be written to"),
        (ErrorKind::PermissionDenied, "cannot be written to"),
    ] {
        let (server, disk) = (Fake::start(), Arc::new(Stuck::default()));
        let client = server.builder().in_memory().vault_stores(Arc::new(OneDisk(disk.clone()))).build().unwrap();
        let ana = client.sign_up("ana@example.org", PASSWORD, SignUp::default()).await.unwrap();
        let vault = ana.account.create_vault("Journal", APP).await.unwrap();
        let notes = vault.collection::<Note>("notes");
        let first = notes.put(&note("first")).await.unwrap();
        vault.sync().await.unwrap();
        let waiting = notes.put(&note("waiting")).await.unwrap();

        *disk.because.lock().unwrap() = Some(kind);
        for refused in [
            notes.put(&note("too much")).await.map(drop),
            notes.delete(first).await,
            vault.sync().await.map(drop),
            vault.flush().await,
            ana.account.create_vault("Another", APP).await.map(drop),
        ] {
            let refused = refused.unwrap_err();
            assert!(matches!(refused, Error::Storage(_)), "{kind}: {refused:?}");
            assert!(refused.advice().contains(advice), "{kind}: {}", refused.advice());
            assert!(!refused.is_retryable(), "it does not pass by itself");
        }
        assert_eq!(notes.get(first).await.unwrap(), Some(note("first")), "what is there can be read");
        assert_eq!(notes.query().count().await.unwrap(), 2);

        *disk.because.lock().unwrap() = None;
        vault.sync().await.unwrap();
        assert_eq!(notes.state(waiting).await.unwrap(), RecordState::Synced);
        assert_eq!(notes.history(waiting).await.unwrap().len(), 1, "the round that was cut off is not done twice");
    }
}

#[tokio::test]
async fn writes_that_nobody_can_read_any_more_are_given_up_when_it_can_be_told_and_not_before() {
    let (server, disk) = (Fake::start(), Arc::new(Stuck::default()));
    let builder = server.builder().in_memory().vault_stores(Arc::new(OneDisk(disk.clone())));
    let ana = builder.build().unwrap().sign_up("ana@example.org", PASSWORD, SignUp::default()).await.unwrap();
    let vault = ana.account.create_vault("Journal", APP).await.unwrap();
    let notes = vault.collection("notes");
    notes.put(&note("sent")).await.unwrap();
    vault.sync().await.unwrap();
    let lost = notes.put(&note("lost")).await.unwrap();
    disk.spoils_the_outbox.store(true, Ordering::SeqCst);
    assert!(matches!(vault.sync().await, Err(Error::Damaged { .. })), "it is told");

    // The line is cut while the vault comes: nothing has happened yet.
    server.next_request_to("/log", Mishap::NotDelivered);
    assert!(vault.fetch_again().await.unwrap_err().is_retryable());
    assert_eq!(vault.status().await.unwrap().pending, 1);
    assert_eq!(vault.fetch_again().await.unwrap(), [lost]);
    assert_eq!(vault.status().await.unwrap().pending, 0);
    vault.sync().await.unwrap();
    assert_eq!(notes.query().count().await.unwrap(), 1);
}

#[tokio::test]
async fn a_live_query_tells_of_a_disk_it_cannot_read_once_and_goes_on_when_it_can() {
    let (server, disk) = (Fake::start(), Arc::new(Stuck::default()));
    let builder = server.builder().in_memory().vault_stores(Arc::new(OneDisk(disk.clone())));
    let ana = builder.build().unwrap().sign_up("ana@example.org", PASSWORD, SignUp::default()).await.unwrap();
    let notes = ana.account.create_vault("Journal", APP).await.unwrap().collection::<Note>("notes");
    let (mut live, mut steps) = (notes.query().watch(), notes.query().changes());
    assert_eq!(live.next().await.unwrap().unwrap().len(), 0);
    assert!(steps.next().await.unwrap().unwrap().is_empty());
    notes.put(&note("first")).await.unwrap();

    disk.unreadable.store(true, Ordering::SeqCst);
    assert!(matches!(live.next().await.unwrap(), Err(Error::Storage(_))));
    assert!(matches!(steps.next().await.unwrap(), Err(Error::Storage(_))));
    assert!(live.next().now_or_never().is_none(), "it is not asked again and again");
    assert!(steps.next().now_or_never().is_none());

    disk.unreadable.store(false, Ordering::SeqCst);
    notes.put(&note("second")).await.unwrap();
    assert_eq!(live.next().await.unwrap().unwrap().len(), 2);
    assert_eq!(steps.next().await.unwrap().unwrap().added.len(), 2);
}
