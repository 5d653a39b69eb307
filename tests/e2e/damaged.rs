//! The disk under an app that syncs with the real server: full, not to be written to, cut off, flipped bit by bit.
//! Whatever it is, it is told, nothing is written over, and what the server has is fetched again.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use selkie_client::{Account, Error, RecordId, RecordState, Vault};
use selkie_e2e::device::{Device, Person};
use selkie_e2e::disk::Disk;
use selkie_e2e::on_both_backends;
use selkie_e2e::round::step;
use selkie_e2e::server::TestServer;
use serde::{Deserialize, Serialize};

const ANA: &str = "ana@example.org";
const PASSWORD: &str = "seven silver swans sail";
const NOTES: &str = "notes";
const MANY: usize = 40;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Note {
    title: String,
}

fn note(title: &str) -> Note {
    Note { title: title.into() }
}

async fn journal(account: &Account) -> selkie_client::Result<Vault> {
    let vault = account.vault("Journal").await?;
    vault.ok_or_else(|| Error::NotPossible("there is no journal here".into()))
}

/// Why a sync did not do all it should.
async fn refused(account: &Account) -> Option<Error> {
    match account.sync().await {
        Err(error) => Some(error),
        Ok(outcome) => outcome.vaults.into_iter().find_map(|(_, done)| done.err()),
    }
}

/// Many notes, each changed once, all of it on the server.
async fn with_many_notes(device: &Device) -> (Person, Account, Vec<RecordId>) {
    let (person, account) = device.makes_an_account(ANA, PASSWORD).await;
    let vault = account.create_vault("Journal", "org.example.notes").await.unwrap();
    let notes = vault.collection::<Note>(NOTES);
    let all: Vec<Note> = (0..MANY).map(|number| note(&format!("first {number}"))).collect();
    let ids = notes.put_all(&all).await.unwrap();
    step(&account).await;
    for (number, id) in ids.iter().enumerate() {
        notes.update(*id, move |note| note.title = format!("note {number}")).await.unwrap();
    }
    step(&account).await;
    step(&account).await;
    (person, account, ids)
}

/// All of it is here, says what it said, and has its history.
async fn has_everything(account: &Account, ids: &[RecordId]) {
    let notes = journal(account).await.unwrap().collection::<Note>(NOTES);
    for (number, id) in ids.iter().enumerate() {
        assert_eq!(notes.get(*id).await.unwrap().unwrap().title, format!("note {number}"));
        assert_eq!(notes.history(*id).await.unwrap().len(), 2, "note {number}");
    }
}

/// What a person would do: look at everything, sync.
async fn uses(account: &Account, ids: &[RecordId]) -> Result<(), Error> {
    let notes = journal(account).await?.collection::<Note>(NOTES);
    for (number, id) in ids.iter().enumerate() {
        let shown = notes.get(*id).await?.ok_or_else(|| Error::NotPossible("a note is gone".into()))?;
        assert_eq!(shown.title, format!("note {number}"), "wrong is worse than damaged");
    }
    refused(account).await.map_or(Ok(()), Err)
}

fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.into_iter().find_map(|path| match path.is_dir() {
        true => find(&path, name),
        false => (path.file_name()? == name).then_some(path),
    })
}

/// Where the vaults lie now: after a repair in another file than before.
fn file_of_vaults(device: &Device) -> PathBuf {
    let named = find(device.folder(), "vaults.made").unwrap();
    named.with_file_name(std::fs::read_to_string(&named).unwrap())
}

/// What becomes of a file, by itself or by a disk that fails.
#[derive(Clone, Copy, Debug)]
enum Harm {
    /// In thousandths of it.
    CutTo(usize),
    FlippedAt(usize),
}

impl Harm {
    fn befalls(self, file: &Path) -> Vec<u8> {
        let mut bytes = std::fs::read(file).unwrap();
        match self {
            Harm::CutTo(part) => bytes.truncate(bytes.len() * part / 1_000),
            Harm::FlippedAt(part) => {
                let at = bytes.len() * part / 1_000;
                bytes[at] ^= 0x41;
            }
        }
        std::fs::write(file, &bytes).unwrap();
        bytes
    }
}

on_both_backends! {
    async fn a_disk_that_takes_nothing_stops_a_sync_and_costs_nothing(backend: Backend) {
        let server = TestServer::start(backend).await;
        let disk = Disk::default();
        let mut device = server.device("laptop").with_disk(&disk);
        let (person, mut laptop, ids) = with_many_notes(&device).await;
        let phone = server.device("phone").signs_in(&person).await.unwrap().account;
        step(&phone).await;
        step(&laptop).await;
        let on_phone = journal(&phone).await.unwrap();
        for (because, advice) in
            [(ErrorKind::StorageFull, "make room"), (ErrorKind::ReadOnlyFilesystem, "cannot be written to")]
        {
            let vault = journal(&laptop).await.unwrap();
            let notes = vault.collection::<Note>(NOTES);
            let waiting = notes.put(&note("waiting")).await.unwrap();
            let came = on_phone.collection(NOTES).put(&note("from the phone")).await.unwrap();
            step(&phone).await;
            let before = vault.digest().await.unwrap();

            disk.refuses(because);
            for _ in 0..2 {
                let told = refused(&laptop).await.expect("it cannot look as if all were well");
                assert!(matches!(told, Error::Storage(_)), "{because}: {told:?}");
                assert!(told.advice().contains(advice) && !told.is_retryable(), "{because}: {}", told.advice());
            }
            assert!(matches!(notes.put(&note("too much")).await, Err(Error::Storage(_))));
            has_everything(&laptop, &ids).await;
            assert_eq!(notes.get(waiting).await.unwrap(), Some(note("waiting")), "what is there can be read");
            assert_eq!(vault.digest().await.unwrap(), before, "and is as it was");

            // There is room again, now or after a restart.
            disk.is_sound();
            drop((notes, vault));
            if because == ErrorKind::StorageFull {
                drop(laptop);
                device.restart();
                laptop = device.account(ANA).await.unwrap().unwrap();
            }
            step(&laptop).await;
            step(&phone).await;
            let vault = journal(&laptop).await.unwrap();
            let notes = vault.collection::<Note>(NOTES);
            assert_eq!(notes.state(waiting).await.unwrap(), RecordState::Synced);
            assert_eq!(notes.get(came).await.unwrap(), Some(note("from the phone")));
            for id in [waiting, came] {
                assert_eq!(on_phone.history(id).await.unwrap().len(), 1, "nothing is done twice");
            }
            assert_eq!(vault.digest().await.unwrap(), on_phone.digest().await.unwrap());
            assert!(laptop.check_storage().await.unwrap().is_sound());
        }
    }

    async fn a_file_that_is_cut_off_or_flipped_is_told_and_fetched_again(backend: Backend) {
        let server = TestServer::start(backend).await;
        let mut device = server.device("laptop");
        let (person, mut laptop, ids) = with_many_notes(&device).await;
        let phone = server.device("phone").signs_in(&person).await.unwrap().account;
        step(&phone).await;
        step(&laptop).await;
        let on_phone = journal(&phone).await.unwrap();
        let flips = [4, 90, 190, 290, 410, 520, 640, 730, 850, 970].map(Harm::FlippedAt);
        let (mut told_of, mut saved) = (0, 0);
        for harm in [Harm::CutTo(0), Harm::CutTo(333), Harm::CutTo(980)].into_iter().chain(flips) {
            let unsent = journal(&laptop).await.unwrap().collection(NOTES).put(&note("unsent")).await.unwrap();
            journal(&laptop).await.unwrap().flush().await.unwrap();
            on_phone.collection(NOTES).put(&note("from the phone")).await.unwrap();
            step(&phone).await;
            // The app is closed, and the file comes to harm.
            drop(laptop);
            device.restart();
            let file = file_of_vaults(&device);
            let harmed = harm.befalls(&file);
            laptop = device.account(ANA).await.unwrap().unwrap();
            let told = uses(&laptop, &ids).await.err();
            if let Some(told) = &told {
                assert!(matches!(told, Error::Damaged { .. }), "{harm:?}: {told:?}");
                assert!(told.advice().contains("repair"), "{}", told.advice());
                told_of += 1;
            }
            let is_cut = matches!(harm, Harm::CutTo(_));
            if is_cut {
                assert!(told.is_some(), "{harm:?}: it cannot go unnoticed");
                assert_eq!(std::fs::read(&file).unwrap(), harmed, "{harm:?}: nothing was written over it");
            }

            let repair = laptop.repair().await.unwrap_or_else(|error| panic!("{harm:?}: {error:?}"));
            assert!(repair.failed.is_empty(), "{harm:?}: {repair:?}");
            has_everything(&laptop, &ids).await;
            let check = laptop.check_storage().await.unwrap();
            assert!(check.is_sound(), "{harm:?}: {check:?}");
            for account in [&laptop, &phone, &laptop] {
                step(account).await;
            }
            let vault = journal(&laptop).await.unwrap();
            assert_eq!(vault.digest().await.unwrap(), on_phone.digest().await.unwrap(), "{harm:?}");
            let kept = vault.collection::<Note>(NOTES).get(unsent).await.unwrap();
            let is_named = repair.lost_writes.iter().any(|(_, record)| *record == unsent);
            let is_told = is_named || repair.rebuilt;
            assert!(kept.is_some() || is_told, "{harm:?}: it is gone and nobody was told: {repair:?}");
            saved += usize::from(kept.is_some());
        }
        // Much of a file is what was received lately, and nobody looks at that every day.
        assert!(told_of >= 3 && saved >= 8, "{told_of} were told of, {saved} unsent notes were saved");
    }

    async fn a_file_that_comes_to_harm_during_a_sync_is_never_read_wrong(backend: Backend) {
        let server = TestServer::start(backend).await;
        let mut device = server.device("laptop");
        let (person, laptop, ids) = with_many_notes(&device).await;
        let phone = server.device("phone").signs_in(&person).await.unwrap().account;
        step(&phone).await;
        step(&laptop).await;
        let on_phone = journal(&phone).await.unwrap();
        let came = on_phone.collection(NOTES).put(&note("from the phone")).await.unwrap();
        step(&phone).await;
        // Closed once, so that everything lies in the file itself.
        drop(laptop);
        device.restart();
        let laptop = device.account(ANA).await.unwrap().unwrap();
        assert!(journal(&laptop).await.is_ok());

        // While the next page is on its way, much of the file becomes something else.
        let file = file_of_vaults(&device);
        let harmed = Arc::new(AtomicBool::new(false));
        let to_be_harmed = harmed.clone();
        server.network().behave(move |request, server| {
            if request.is("GET /v1/vaults/*/log") && !to_be_harmed.swap(true, Ordering::SeqCst) {
                let mut bytes = std::fs::read(&file).unwrap();
                let end = bytes.len();
                bytes[end / 3..end].fill(0x5e);
                std::fs::write(&file, bytes).unwrap();
            }
            async move { server.answer(&request).await }
        });
        if let Some(told) = refused(&laptop).await {
            assert!(matches!(told, Error::Damaged { .. }), "{told:?}");
        }
        assert!(harmed.load(Ordering::SeqCst), "the sync asked for a page");
        server.network().behave_well();
        let told = uses(&laptop, &ids).await.expect_err("it cannot go unnoticed for long");
        assert!(matches!(told, Error::Damaged { .. }), "{told:?}");

        // The app that runs goes on after the repair, and so does the next one.
        let repair = laptop.repair().await.unwrap();
        assert!(repair.rebuilt && repair.failed.is_empty(), "{repair:?}");
        let late = journal(&laptop).await.unwrap().collection(NOTES).put(&note("afterwards")).await.unwrap();
        for account in [&laptop, &phone] {
            step(account).await;
        }
        has_everything(&laptop, &ids).await;
        drop(laptop);
        device.restart();
        let laptop = device.account(ANA).await.unwrap().unwrap();
        has_everything(&laptop, &ids).await;
        let vault = journal(&laptop).await.unwrap();
        assert_eq!(vault.collection::<Note>(NOTES).get(came).await.unwrap(), Some(note("from the phone")));
        assert_eq!(vault.collection::<Note>(NOTES).state(late).await.unwrap(), RecordState::Synced);
        assert_eq!(vault.digest().await.unwrap(), on_phone.digest().await.unwrap());
    }
}
