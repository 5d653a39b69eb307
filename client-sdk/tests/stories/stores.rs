//! A store that an app brings, and what the SDK asks of it.

use crate::accounts::ana;
use crate::fake::Fake;
use selkie_client::store::{AccountStore, Folder, Lock, Memory, StoreError};
use selkie_client::{SignIn, SignOut};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Knows who holds a lock, and whether something was saved by somebody who did not.
#[derive(Debug, Default)]
struct OfTheApp {
    documents: Memory,
    held: Arc<AtomicUsize>,
    locked: AtomicUsize,
}

struct Held(Arc<AtomicUsize>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl AccountStore for OfTheApp {
    fn folders(&self) -> Result<Vec<Folder>, StoreError> {
        self.documents.folders()
    }

    fn load(&self, folder: &Folder, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.documents.load(folder, name)
    }

    fn save(&self, folder: &Folder, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        assert_eq!(self.held.load(Ordering::SeqCst), 1, "{name} was saved by somebody without the lock");
        self.documents.save(folder, name, bytes)
    }

    fn remove(&self, folder: &Folder) -> Result<(), StoreError> {
        self.documents.remove(folder)
    }

    fn lock(&self, _: &Folder) -> Result<Lock, StoreError> {
        self.locked.fetch_add(1, Ordering::SeqCst);
        assert_eq!(self.held.fetch_add(1, Ordering::SeqCst), 0, "a second lock would wait for ever");
        Ok(Lock::holding(Held(self.held.clone())))
    }

    fn location(&self, _: &Folder) -> Option<PathBuf> {
        None
    }
}

#[tokio::test]
async fn nothing_is_saved_without_the_lock_that_other_programs_wait_for() {
    let server = Fake::start();
    let store = Arc::new(OfTheApp::default());
    let client = server.builder().account_store(store.clone()).build().unwrap();
    let account = ana(&client).await.account;
    server.later(3_600_000);
    account.sessions().await.unwrap();
    assert!(account.sign_out(SignOut::Keep).await.unwrap().server_told);
    client.sign_in("ana@example.org", "correct horse", None, SignIn::default()).await.unwrap();
    assert!(store.locked.load(Ordering::SeqCst) > 0 && store.held.load(Ordering::SeqCst) == 0);
}
