//! What is not an archive as it was written is refused, and nothing is changed.

use super::{archived, bring_in, journal};
use crate::fake::Fake;
use crate::vaults::{APP, person};
use selkie_client::{ArchiveError, Error, ExportOptions, Private, Role, Vault};
use std::io::Cursor;

/// What a vault has to send: one write for each of these, and nothing more.
async fn waiting(vault: &Vault) -> u64 {
    vault.status().await.unwrap().pending
}

#[tokio::test]
async fn every_changed_byte_and_every_missing_end_is_noticed_before_anything_is_written() {
    let server = Fake::start();
    let (ana, vault, _) = journal(&server).await;
    let archive = archived(&vault).await;
    let other = ana.account.create_vault("Copy", APP).await.unwrap();
    let before = waiting(&other).await;
    for at in 0..archive.len() {
        let mut changed = archive.clone();
        changed[at] ^= 1 << (at % 8);
        for damaged in [&changed, &archive[..at].to_vec()] {
            let error = bring_in(&other, damaged).await.unwrap_err();
            assert!(matches!(error, Error::Archive(_)), "byte {at}: {error:?}");
            assert!(error.advice().starts_with("Nothing was changed."), "byte {at}: {}", error.advice());
        }
    }
    let longer = [archive.as_slice(), b"\0"].concat();
    assert!(bring_in(&other, &longer).await.is_err());
    assert_eq!(waiting(&other).await, before);
    assert_eq!(bring_in(&other, &archive).await.unwrap().new, 3, "and whole it is taken");
}

#[tokio::test]
async fn a_sealed_archive_that_was_changed_or_cut_off_is_refused() {
    let server = Fake::start();
    let (ana, vault, _) = journal(&server).await;
    let passphrase = Some(Private::from("seven swans".to_owned()));
    let (archive, _) = vault.export(Vec::new(), ExportOptions { history: false, passphrase }).await.unwrap();
    let other = ana.account.create_vault("Copy", APP).await.unwrap();
    let before = waiting(&other).await;
    let import = async |bytes: Vec<u8>| other.import(Cursor::new(bytes), Some("seven swans")).await;
    for at in [3, 60, 140, archive.len() / 2, archive.len() - 1] {
        let mut changed = archive.clone();
        changed[at] ^= 1;
        assert!(matches!(import(changed).await, Err(Error::Archive(_))), "byte {at}");
        assert!(matches!(import(archive[..at].to_vec()).await, Err(Error::Archive(_))), "cut off at {at}");
    }
    assert_eq!(waiting(&other).await, before);
}

#[tokio::test]
async fn whoever_may_only_read_exports_and_does_not_import() {
    let server = Fake::start();
    let (_ana, vault, _) = journal(&server).await;
    let bob = person(&server, "bob@example.org").await;
    vault.add_member(bob.account.user_id(), Role::Viewer).await.unwrap();
    vault.sync().await.unwrap();
    assert!(bob.account.sync().await.unwrap().first_error().is_none());
    let his = bob.account.vault_by_id(vault.id()).await.unwrap().unwrap();
    let archive = archived(&his).await;
    assert!(matches!(bring_in(&his, &archive).await, Err(Error::NotPossible(_))));
    assert_eq!(bring_in(&vault, &archive).await.unwrap().same, 3);
}

#[tokio::test]
async fn a_disk_that_is_full_leaves_no_archive_that_would_be_taken() {
    let server = Fake::start();
    let (_ana, vault, _) = journal(&server).await;
    let whole = archived(&vault).await.len();
    for room in [0, 1, whole / 2, whole - 1] {
        let full = Full { room, written: Vec::new() };
        let failed = vault.export(full, ExportOptions::default()).await.map(|_| ()).unwrap_err();
        assert!(matches!(failed, Error::Archive(ArchiveError::Writing(_))), "{failed:?}");
        assert!(failed.advice().contains("room"));
    }
}

/// A disk with so much room.
struct Full {
    room: usize,
    written: Vec<u8>,
}

impl std::io::Write for Full {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let room = self.room - self.written.len();
        if room == 0 && !bytes.is_empty() {
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        let taken = &bytes[..bytes.len().min(room)];
        self.written.extend_from_slice(taken);
        Ok(taken.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
