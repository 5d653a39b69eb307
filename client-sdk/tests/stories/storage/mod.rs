//! The disk beneath: what happens when it lies, when it is full, when it may not be written, and how its room is
//! minded.

mod apart;
mod damaged;
mod elsewhere;
mod partial;
mod refused;

use crate::fake::Fake;
use crate::records::{Note, note};
use crate::vaults::{APP, PASSWORD};
use selkie_client::{Account, Client, RecordId, SignIn, SignUp, Vault};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const NOTES: usize = 40;

fn client(server: &Arc<Fake>, folder: &Path) -> Client {
    server.builder().store(folder).build().unwrap()
}

/// The program, begun on a folder in which Ana's account is.
async fn program(server: &Arc<Fake>, folder: &Path) -> Account {
    client(server, folder).account("ana@example.org").await.unwrap().unwrap()
}

async fn journal(account: &Account) -> selkie_client::Result<Vault> {
    let vault = account.vault("Journal").await?;
    vault.ok_or_else(|| selkie_client::Error::NotPossible("there is no journal here".into()))
}

/// Ana's laptop with a journal that is on the server, her phone with the same, and what is in it.
struct Home {
    server: Arc<Fake>,
    folder: tempfile::TempDir,
    phone: Account,
    /// Each was changed once: it has a history.
    notes: Vec<RecordId>,
    /// Written on the laptop and not sent yet.
    pending: RecordId,
}

async fn home() -> Home {
    let (server, folder) = (Fake::start(), tempfile::tempdir().unwrap());
    let ana = client(&server, folder.path()).sign_up("ana@example.org", PASSWORD, SignUp::default()).await.unwrap();
    let vault = ana.account.create_vault("Journal", APP).await.unwrap();
    let notes = vault.collection::<Note>("notes");
    let all: Vec<Note> = (0..NOTES).map(|number| note(&format!("first {number}"))).collect();
    let ids = notes.put_all(&all).await.unwrap();
    assert!(ana.account.sync().await.unwrap().first_error().is_none());
    for (number, id) in ids.iter().enumerate() {
        notes.update(*id, move |note| note.title = format!("note {number}")).await.unwrap();
    }
    assert!(ana.account.sync().await.unwrap().first_error().is_none());
    assert!(ana.account.sync().await.unwrap().first_error().is_none());
    let options = SignIn { device_name: "phone".into(), ..SignIn::default() };
    let phone = server.device().sign_in("ana@example.org", PASSWORD, ana.sheet.secret_key(), options).await.unwrap();
    assert!(phone.account.sync().await.unwrap().first_error().is_none());
    let pending = notes.put(&note("not sent yet")).await.unwrap();
    vault.flush().await.unwrap();
    Home { server, folder, phone: phone.account, notes: ids, pending }
}

impl Home {
    /// Another folder with the same in it, while no program runs.
    fn copy(&self) -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        copy_folder(self.folder.path(), copy.path());
        copy
    }

    /// Everything that the server has is here, says what it said, and has its history.
    async fn has_everything(&self, account: &Account) {
        let vault = journal(account).await.unwrap();
        let notes = vault.collection::<Note>("notes");
        for (number, id) in self.notes.iter().enumerate() {
            assert_eq!(notes.get(*id).await.unwrap().unwrap().title, format!("note {number}"));
            assert_eq!(notes.history(*id).await.unwrap().len(), 2, "note {number}");
        }
    }

    /// What this device writes reaches the phone, and the other way round.
    async fn is_in_step(&self, account: &Account) {
        for account in [account, &self.phone, account] {
            let synced = account.sync().await.unwrap();
            assert!(synced.first_error().is_none(), "{}: {:?}", account.device_id(), synced.first_error());
        }
        let [here, there] = [journal(account).await.unwrap(), journal(&self.phone).await.unwrap()];
        assert_eq!(here.digest().await.unwrap(), there.digest().await.unwrap());
    }
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (from, name) = (entry.as_ref().unwrap().path(), entry.unwrap().file_name());
        match from.is_dir() {
            true => copy_folder(&from, &to.join(name)),
            false => drop(std::fs::copy(&from, to.join(name)).unwrap()),
        }
    }
}

/// The one file of that name somewhere beneath.
pub(crate) fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.into_iter().find_map(|path| match path.is_dir() {
        true => find(&path, name),
        false => (path.file_name()? == name).then_some(path),
    })
}
