//! A vault as one file: taken out, brought in again, and never brought in wrongly.

mod refused;
mod tables;

use crate::fake::Fake;
use crate::records::{Note, note};
use crate::vaults::{APP, another_device, id, person, text};
use selkie_client::store::vaults::{NewWrite, SqliteVaults, Together, VaultStore as _};
use selkie_client::{
    Error, ExportOptions, ExportReport, ImportReport, Private, RecordId, SignUp, Vault, read_manifest,
};
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A vault with a typed record that was changed, a text, bytes and something deleted.
pub(crate) async fn journal(server: &Arc<Fake>) -> (selkie_client::SignedUp, Vault, RecordId) {
    let ana = person(server, "ana@example.org").await;
    let vault = ana.account.create_vault("Journal", APP).await.unwrap();
    let notes = vault.collection::<Note>("notes");
    let typed = notes.put(&note("first")).await.unwrap();
    server.later(1000);
    notes.update(typed, |note| note.likes += 1).await.unwrap();
    vault.put("notes", id(1), b"{\"not\": \"fields\"}").await.unwrap();
    vault.put("../pictures", id(2), b"\xff\xd8\xff").await.unwrap();
    vault.put("notes", id(3), b"gone").await.unwrap();
    vault.delete("notes", id(3)).await.unwrap();
    (ana, vault, typed)
}

pub(crate) async fn archived(vault: &Vault) -> Vec<u8> {
    vault.export(Vec::new(), ExportOptions::default()).await.unwrap().0
}

pub(crate) async fn bring_in(vault: &Vault, archive: &[u8]) -> Result<ImportReport, Error> {
    vault.import(Cursor::new(archive.to_vec()), None).await
}

/// Everything two vaults say, byte for byte.
async fn same_content(one: &Vault, other: &Vault, collections: &[&str]) {
    for collection in collections {
        let said = async |vault: &Vault| {
            let records = vault.records(collection).await.unwrap().into_iter();
            records.map(|record| (record.id, record.data, record.written)).collect::<Vec<_>>()
        };
        assert_eq!(said(one).await, said(other).await, "{collection}");
    }
}

/// What stands in an archive that is not sealed.
fn says(archive: &[u8], words: &str) -> bool {
    archive.windows(words.len()).any(|window| window == words.as_bytes())
}

#[tokio::test]
async fn a_vault_travels_in_a_file_and_is_the_same_byte_for_byte() {
    let server = Fake::start();
    let (ana, vault, typed) = journal(&server).await;
    vault.sync().await.unwrap();
    let (archive, report) = vault.export(Vec::new(), ExportOptions::default()).await.unwrap();
    assert_eq!(report, ExportReport { collections: 2, records: 3, versions: 0, unreadable: 0 });
    let manifest = read_manifest(Cursor::new(&archive), None).unwrap();
    assert_eq!((manifest.vault, manifest.name.as_deref(), manifest.records), (vault.id(), Some("Journal"), 3));
    assert_eq!(manifest.digest, vault.digest().await.unwrap().to_string());
    assert!(!says(&archive, "gone") && !says(&archive, "/../"));

    // Another person, another server: nothing but the file.
    let elsewhere = Fake::start();
    let bob = person(&elsewhere, "bob@example.org").await;
    let his = bob.account.create_vault("From Ana", APP).await.unwrap();
    let report = bring_in(&his, &archive).await.unwrap();
    assert_eq!(report, ImportReport { new: 3, ..ImportReport::default() });
    same_content(&vault, &his, &["notes", "../pictures"]).await;
    assert_eq!(his.collection::<Note>("notes").get(typed).await.unwrap().unwrap().likes, 1);
    assert_eq!(his.name().await.unwrap().as_deref(), Some("From Ana"), "a name is a vault's own");

    // It syncs like anything that was written, and a second import finds nothing to do.
    his.sync().await.unwrap();
    let before = his.digest().await.unwrap();
    let report = bring_in(&his, &archive).await.unwrap();
    assert_eq!(report, ImportReport { same: 3, ..ImportReport::default() });
    assert_eq!(his.status().await.unwrap().pending, 0);
    his.sync().await.unwrap();
    assert_eq!(his.digest().await.unwrap(), before);
    let tablet = another_device(&elsewhere, "bob@example.org", &bob).await;
    assert!(tablet.sync().await.unwrap().first_error().is_none());
    let there = tablet.vault_by_id(his.id()).await.unwrap().unwrap();
    same_content(&vault, &there, &["notes", "../pictures"]).await;
    drop(ana);
}

#[tokio::test]
async fn what_came_in_together_is_taken_back_one_by_one() {
    let server = Fake::start();
    let (_ana, vault, typed) = journal(&server).await;
    let archive = archived(&vault).await;
    let bob = person(&Fake::start(), "bob@example.org").await;
    let his = bob.account.create_vault("From Ana", APP).await.unwrap();
    bring_in(&his, &archive).await.unwrap();
    let notes = his.collection::<Note>("notes");
    assert!(notes.undo(typed).await.unwrap());
    assert_eq!(notes.get(typed).await.unwrap(), None);
    assert_eq!(his.status().await.unwrap().pending, 3, "its name, and the two others");
    assert_eq!(his.records("notes").await.unwrap().len(), 1);
    assert_eq!(his.records("../pictures").await.unwrap().len(), 1);
}

#[tokio::test]
async fn nothing_comes_into_what_devices_tell_each_other() {
    let server = Fake::start();
    let (ana, vault, _) = journal(&server).await;
    let archive = archived(&vault).await;
    assert!(matches!(ana.account.create_vault("Mine", "selkie").await, Err(Error::NotPossible(_))));
    let vaults = ana.account.vaults().await.unwrap();
    let own = vaults.iter().find(|vault| vault.is_own).unwrap();
    let own = ana.account.vault_by_id(own.id).await.unwrap().unwrap();
    assert!(matches!(bring_in(&own, &archive).await, Err(Error::NotPossible(_))));
    assert!(matches!(own.export(Vec::new(), ExportOptions::default()).await, Err(Error::NotPossible(_))));
}

#[tokio::test]
async fn what_is_newer_stands_whichever_side_it_is_on() {
    let server = Fake::start();
    let (_ana, vault, typed) = journal(&server).await;
    let first = archived(&vault).await;
    server.later(1000);
    vault.put("notes", id(1), b"second").await.unwrap();
    vault.put("notes", id(4), b"another").await.unwrap();
    let second = archived(&vault).await;
    let notes = vault.collection::<Note>("notes");
    server.later(1000);
    notes.update(typed, |note| note.title = "third".into()).await.unwrap();
    vault.delete("../pictures", id(2)).await.unwrap();

    // Into the vault they were made of, which has lived on.
    let report = bring_in(&vault, &second).await.unwrap();
    assert_eq!((report.same, report.kept, report.new, report.updated), (2, 2, 0, 0));
    assert!(report.kept_records.contains(&typed) && report.kept_records.contains(&id(2)));
    assert_eq!(notes.get(typed).await.unwrap().unwrap().title, "third");
    assert_eq!(vault.get(id(2)).await.unwrap(), None, "what was deleted later stays so");

    // Into an empty one, the older first, then the later, then the older again.
    let elsewhere = Fake::start();
    let bob = person(&elsewhere, "bob@example.org").await;
    let his = bob.account.create_vault("From Ana", APP).await.unwrap();
    bring_in(&his, &first).await.unwrap();
    let report = bring_in(&his, &second).await.unwrap();
    assert_eq!((report.new, report.updated, report.same, report.kept), (1, 1, 2, 0));
    assert_eq!(text(&his, 1).await.as_deref(), Some("second"));
    assert_eq!(his.history(id(1)).await.unwrap().len(), 2, "what it said before is in its history");
    let report = bring_in(&his, &first).await.unwrap();
    assert_eq!((report.updated, report.same, report.kept_records), (0, 2, vec![id(1)]));
    assert_eq!(text(&his, 1).await.as_deref(), Some("second"));
}

#[tokio::test]
async fn the_history_is_in_it_when_that_is_asked() {
    let server = Fake::start();
    let (_ana, vault, _) = journal(&server).await;
    vault.sync().await.unwrap();
    vault.put("notes", id(1), b"not sent yet").await.unwrap();
    let options = ExportOptions { history: true, passphrase: None };
    let (archive, report) = vault.export(Vec::new(), options).await.unwrap();
    assert_eq!((report.records, report.versions), (3, 7));
    assert!(says(&archive, "gone") && says(&archive, "history/notes.ndjson"));
    assert_eq!(bring_in(&vault, &archive).await.unwrap().same, 3);
}

#[tokio::test]
async fn many_records_go_page_by_page_and_batch_by_batch() {
    let server = Fake::start();
    let ana = person(&server, "ana@example.org").await;
    let vault = ana.account.create_vault("Journal", APP).await.unwrap();
    let notes = vault.collection::<Note>("notes");
    let mut all = vault.transaction();
    for number in 0..700 {
        all.put(&notes, &note(&format!("note {number}"))).unwrap();
    }
    all.commit().await.unwrap();
    vault.sync().await.unwrap();
    for record in vault.records("notes").await.unwrap().iter().step_by(2) {
        notes.update(record.id, |note| note.likes += 1).await.unwrap();
    }
    let archive = archived(&vault).await;
    let other = ana.account.create_vault("Copy", APP).await.unwrap();
    assert_eq!(bring_in(&other, &archive).await.unwrap().new, 700);
    same_content(&vault, &other, &["notes"]).await;
    assert_eq!(other.sync().await.unwrap().pending, 0);
    assert_eq!(bring_in(&other, &archive).await.unwrap().same, 700);
}

#[tokio::test]
async fn what_cannot_be_read_is_listed_and_holds_up_nothing() {
    let (server, folder) = (Fake::start(), tempfile::tempdir().unwrap());
    let client = server.builder().store(folder.path()).build().unwrap();
    let options = SignUp::default();
    let ana = client.sign_up("ana@example.org", crate::vaults::PASSWORD, options).await.unwrap();
    let vault = ana.account.create_vault("Journal", APP).await.unwrap();
    for number in 1..4 {
        vault.put("notes", id(number), b"whole").await.unwrap();
    }
    // The disk has lost a part of the second.
    let store = SqliteVaults::open(&folder_of_vaults(folder.path())).unwrap();
    let pending = store.pending_of(&vault.id(), &id(2)).unwrap().pop().unwrap();
    let half = NewWrite { record: id(2), shelf: pending.shelf, sealed: pending.sealed[..30].to_vec() };
    store.write_down(&vault.id(), None, &[half], Together::AsOne).unwrap();
    let (archive, report) = vault.export(Vec::new(), ExportOptions::default()).await.unwrap();
    assert_eq!((report.records, report.unreadable), (2, 1));
    assert!(says(&archive, "unreadable.ndjson") && says(&archive, "it is damaged on this device's disk"));
    assert!(says(&archive, &id(2).to_string()));

    let other = ana.account.create_vault("Copy", APP).await.unwrap();
    let report = bring_in(&other, &archive).await.unwrap();
    assert_eq!((report.new, report.unreadable), (2, 1));
    // And what cannot be read here is not written over: a later version of the app may be able to.
    let from_other = {
        other.put("notes", id(2), b"whole").await.unwrap();
        archived(&other).await
    };
    let report = bring_in(&vault, &from_other).await.unwrap();
    assert_eq!((report.same, report.kept_records), (2, vec![id(2)]));
}

/// Where the file of the account lies.
fn folder_of_vaults(data: &Path) -> PathBuf {
    let mut folders = vec![data.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vaults")) {
                return folder;
            }
            folders.extend(entry.is_dir().then_some(entry));
        }
    }
    panic!("there are no vaults under {}", data.display());
}

#[tokio::test]
async fn a_sealed_archive_opens_with_its_passphrase_and_tells_nothing_without() {
    let server = Fake::start();
    let (ana, vault, _) = journal(&server).await;
    let options = || ExportOptions { history: false, passphrase: Some(Private::from("seven swans".to_owned())) };
    let (archive, _) = vault.export(Vec::new(), options()).await.unwrap();
    assert!(archive.starts_with(b"age-encryption.org/v1\n-> scrypt "));
    for words in ["notes", "Journal", "fields", "manifest"] {
        assert!(!says(&archive, words), "{words}");
    }
    let other = ana.account.create_vault("Copy", APP).await.unwrap();
    let import = async |passphrase| other.import(Cursor::new(archive.clone()), passphrase).await;
    for (passphrase, advice) in [(None, "Give the passphrase"), (Some("seven swams"), "Check the passphrase")] {
        let error = import(passphrase).await.unwrap_err();
        assert!(matches!(error, Error::Archive(_)) && error.advice().starts_with(advice), "{error:?}");
    }
    assert_eq!(other.status().await.unwrap().pending, 1, "its name, and nothing else");
    assert_eq!(import(Some("seven swans")).await.unwrap().new, 3);
    same_content(&vault, &other, &["notes", "../pictures"]).await;
    let (again, _) = vault.export(Vec::new(), options()).await.unwrap();
    assert_ne!(archive, again, "another salt, another key");
}
