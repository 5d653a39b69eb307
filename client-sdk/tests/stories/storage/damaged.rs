//! A file that is not what was written: cut off, flipped bit by bit, emptied, gone.

use super::{Home, find, home, journal, program};
use crate::fake::Mishap;
use crate::records::{Note, note};
use selkie_client::{Account, Client, Error, RecordId, RecordState, Unsent};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

const FILE: &str = "vaults.sqlite";

/// What a person would do: open the app, look at everything, sync. `Ok` if nobody noticed anything.
async fn uses(home: &Home, account: &Account) -> Result<(), Error> {
    let vault = journal(account).await?;
    let notes = vault.collection::<Note>("notes");
    for (number, id) in home.notes.iter().enumerate() {
        let shown = notes.get(*id).await?.ok_or_else(|| Error::NotPossible("a note is gone".into()))?;
        assert_eq!(shown.title, format!("note {number}"), "wrong is worse than damaged");
    }
    assert_eq!(notes.query().count().await?, home.notes.len() + 1);
    for (_, done) in account.sync().await?.vaults {
        done?;
    }
    Ok(())
}

/// Mends it, and sees that everything is there again. Whether the file had to be made anew, and whether what was not
/// sent yet was saved.
async fn mend(home: &Home, folder: &Path, what: &str) -> (bool, bool) {
    let account = program(&home.server, folder).await;
    let repair = account.repair().await.unwrap_or_else(|error| panic!("{what}: {error:?}"));
    assert!(repair.failed.is_empty(), "{what}: {repair:?}");
    home.has_everything(&account).await;
    let check = account.check_storage().await.unwrap();
    assert!(check.is_sound(), "{what}: {check:?}");
    let again = account.repair().await.unwrap();
    assert!(!again.rebuilt && again.fetched.is_empty(), "{what}: it was mended, and is left alone: {again:?}");
    home.is_in_step(&account).await;
    let pending = journal(&account).await.unwrap().collection::<Note>("notes").get(home.pending).await.unwrap();
    if let Some(pending) = &pending {
        assert_eq!(*pending, note("not sent yet"), "{what}");
    }
    (repair.rebuilt, pending.is_some())
}

#[tokio::test]
async fn a_file_that_is_cut_off_anywhere_is_told_and_mended() {
    let home = home().await;
    let whole = std::fs::metadata(find(home.folder.path(), FILE).unwrap()).unwrap().len();
    for left in [0, 1, 50, 100, 4_095, 4_096, 8_192, whole / 3, whole / 2, whole - 4_096, whole - 1] {
        let folder = home.copy();
        let file = find(folder.path(), FILE).unwrap();
        std::fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(left).unwrap();
        let account = program(&home.server, folder.path()).await;
        let told = uses(&home, &account).await.expect_err("it cannot go unnoticed");
        assert!(matches!(told, Error::Damaged { .. }), "cut at {left}: {told:?}");
        assert!(told.advice().contains("repair"), "{}", told.advice());
        drop(account);
        assert_eq!(std::fs::metadata(&file).unwrap().len(), left, "nothing was written over it");
        let (rebuilt, _) = mend(&home, folder.path(), &format!("cut at {left} of {whole}")).await;
        if rebuilt {
            assert_eq!(std::fs::metadata(&file).unwrap().len(), left, "and it is still there to be looked at");
        }
    }
}

#[tokio::test]
async fn a_file_that_is_gone_is_no_new_beginning() {
    let home = home().await;
    let folder = home.copy();
    std::fs::remove_file(find(folder.path(), FILE).unwrap()).unwrap();
    let account = program(&home.server, folder.path()).await;
    assert_eq!(uses(&home, &account).await.unwrap_err().word(), "damaged");
    assert!(account.create_vault("Another", crate::vaults::APP).await.is_err(), "nothing begins in its place");
    assert_eq!(mend(&home, folder.path(), "gone").await, (true, false), "with the file went what was only there");
}

#[tokio::test]
async fn a_file_in_which_bits_are_flipped_is_never_read_wrong_and_always_mended() {
    let home = home().await;
    let whole = std::fs::read(find(home.folder.path(), FILE).unwrap()).unwrap();
    let (mut noticed, mut saved, mut tried) = (0, 0, 0);
    // Into every page twice, where it hurts and where it does not.
    let pages = (0..whole.len()).step_by(4_096);
    for at in pages.flat_map(|page| [page + 5, page + 1_009 + page / 16]).filter(|at| *at < whole.len()) {
        let folder = home.copy();
        let file = find(folder.path(), FILE).unwrap();
        let mut bytes = whole.clone();
        bytes[at] ^= 0x41;
        std::fs::write(&file, bytes).unwrap();
        let account = program(&home.server, folder.path()).await;
        if let Err(told) = uses(&home, &account).await {
            assert!(matches!(told, Error::Damaged { .. }), "flipped at {at}: {told:?}");
            noticed += 1;
        }
        drop(account);
        saved += usize::from(mend(&home, folder.path(), &format!("flipped at {at}")).await.1);
        tried += 1;
    }
    // Much of a file is what was received lately, and nobody looks at that every day.
    assert!(tried > 30 && noticed > 10, "{noticed} of {tried} were noticed by using it");
    assert!(saved + 3 >= tried, "of {tried} the unsent note survived {saved}");
}

#[tokio::test]
async fn a_program_that_runs_on_a_damaged_file_goes_on_after_the_repair() {
    let home = home().await;
    let folder = home.copy();
    let account = program(&home.server, folder.path()).await;
    let vault = journal(&account).await.unwrap();
    let notes = vault.collection::<Note>("notes");
    assert_eq!(notes.query().count().await.unwrap(), home.notes.len() + 1);
    // While it is open, the middle of the file becomes something else.
    let file = find(folder.path(), FILE).unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    let end = bytes.len();
    bytes[end / 3..end].fill(0x5e);
    std::fs::write(&file, bytes).unwrap();
    let check = account.check_storage().await.unwrap();
    assert!(!check.is_sound() && !check.damage.is_empty(), "{check:?}");

    let repair = account.repair().await.unwrap();
    assert!(repair.rebuilt && repair.failed.is_empty(), "{repair:?}");
    home.has_everything(&account).await;
    // The handles from before are as good as new ones.
    let id = notes.put(&note("afterwards")).await.unwrap();
    home.is_in_step(&account).await;
    assert_eq!(notes.state(id).await.unwrap(), RecordState::Synced);
    drop((notes, vault, account));
    let account = program(&home.server, folder.path()).await;
    home.has_everything(&account).await;
}

#[tokio::test]
async fn nobody_repairs_under_the_hands_of_another_program() {
    let home = home().await;
    let folder = home.copy();
    let (one, other) = (program(&home.server, folder.path()).await, program(&home.server, folder.path()).await);
    assert!(journal(&one).await.is_ok() && journal(&other).await.is_ok());
    let file = find(folder.path(), FILE).unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    let end = bytes.len();
    bytes[end / 3..end].fill(0x5e);
    std::fs::write(&file, bytes).unwrap();
    let told = one.repair().await.unwrap_err();
    assert!(matches!(&told, Error::Storage(_)) && told.advice().contains("Close other programs"), "{told:?}");
    drop(other);
    assert!(one.repair().await.unwrap().rebuilt);
    home.has_everything(&one).await;
}

#[tokio::test]
async fn a_key_that_is_another_is_not_taken_for_damage() {
    let home = home().await;
    let folder = home.copy();
    // As after a keychain that was set up anew: nothing opens, and nothing of it may be thrown away.
    let strange = home.server.builder().store(folder.path()).app_key(&[7; 32]).build().unwrap();
    let refused = strange.account("ana@example.org").await.map(drop).unwrap_err();
    assert!(matches!(refused, Error::Locked(_)), "{refused:?}");
    let account = program(&home.server, folder.path()).await;
    assert!(uses(&home, &account).await.is_ok(), "and with its own key everything is there");
}

#[tokio::test]
async fn a_repair_believes_the_server_no_more_than_a_sync_does() {
    for in_a_new_life in [true, false] {
        let home = home().await;
        let folder = home.copy();
        let account = program(&home.server, folder.path()).await;
        let vault = journal(&account).await.unwrap();
        home.is_in_step(&account).await;
        let notes = vault.collection::<Note>("notes");
        let unsent = notes.put(&note("unsent")).await.unwrap();
        let at = vault.digest().await.unwrap().n;
        let life = home.server.with(|world| world.vaults.incarnation);
        home.server.with(|world| {
            let people = world.people();
            world.vaults.restore(&BTreeMap::from([(vault.id(), at - 1)]), &people);
            if !in_a_new_life {
                world.vaults.incarnation = life;
            }
        });
        let told = vault.fetch_again().await.unwrap_err();
        match in_a_new_life {
            true => assert!(matches!(&told, Error::NotPossible(why) if why.contains("sync first")), "{told:?}"),
            false => assert!(matches!(told, Error::Quarantined(_)), "{told:?}"),
        }
        home.has_everything(&account).await;
        assert_eq!(notes.get(unsent).await.unwrap(), Some(note("unsent")), "what is here stays");
        if in_a_new_life {
            home.is_in_step(&account).await;
            vault.fetch_again().await.unwrap();
            home.has_everything(&account).await;
        }
    }
}

#[tokio::test]
async fn what_is_on_its_way_while_the_vault_is_fetched_again_arrives_once() {
    for arrived in [false, true] {
        let home = home().await;
        let folder = home.copy();
        let account = program(&home.server, folder.path()).await;
        let vault = journal(&account).await.unwrap();
        match arrived {
            true => home.server.bend(|path, body| if path.ends_with("/push") { b"garbled".to_vec() } else { body }),
            false => (0..5).for_each(|_| home.server.next_request_to("/push", Mishap::NotDelivered)),
        }
        vault.sync().await.unwrap_err();
        assert!(vault.status().await.unwrap().in_flight, "arrived: {arrived}");
        home.server.be_honest();
        vault.fetch_again().await.unwrap();
        home.is_in_step(&account).await;
        let notes = vault.collection::<Note>("notes");
        assert_eq!(notes.state(home.pending).await.unwrap(), RecordState::Synced);
        assert_eq!(notes.history(home.pending).await.unwrap().len(), 1, "arrived: {arrived}; it is in the log once");
    }
}

#[tokio::test]
async fn a_history_that_was_let_go_is_fetched_again() {
    let home = home().await;
    let folder = home.copy();
    let account = program(&home.server, folder.path()).await;
    let vault = journal(&account).await.unwrap();
    let notes = vault.collection::<Note>("notes");
    notes.update(home.notes[0], |note| note.likes = 1).await.unwrap();
    home.server.later(40 * 24 * 3600 * 1000);
    let before = account.storage().await.unwrap();
    let went = account.prune_history(Duration::from_secs(30 * 24 * 3600)).await.unwrap();
    let after = account.storage().await.unwrap();
    assert!(went.versions > 0 && went.history > 0, "{went:?}");
    let of = |usage: &selkie_client::StorageUsage| {
        usage.vaults.iter().find(|one| one.name.as_deref() == Some("Journal")).unwrap().usage
    };
    assert_eq!(of(&before).history - of(&after).history, went.history);
    assert_eq!(of(&before).records, of(&after).records, "what records say now stays");
    assert!(after.total < before.total, "and the disk has its room back");
    assert_eq!(notes.history(home.notes[1]).await.unwrap().len(), 1);
    let kept = notes.history(home.notes[0]).await.unwrap().len();
    assert_eq!(kept, 3, "what a pending write was made from is needed to merge it");
    assert_eq!(account.prune_history(Duration::from_secs(30 * 24 * 3600)).await.unwrap().versions, 0);

    vault.fetch_again().await.unwrap();
    assert_eq!(notes.history(home.notes[1]).await.unwrap().len(), 2);
    home.is_in_step(&account).await;
    assert_eq!(notes.get(home.notes[0]).await.unwrap().unwrap().likes, 1);
}

/// A checkpoint does not say when its records were written; they do so themselves.
#[tokio::test]
async fn what_came_with_a_checkpoint_is_no_older_than_it_says() {
    let home = home().await;
    let folder = home.copy();
    let account = program(&home.server, folder.path()).await;
    let vault = journal(&account).await.unwrap();
    vault.sync().await.unwrap();
    vault.leave_out(Unsent::Keep).await.unwrap();
    let vault = account.fetch_vault_headers_first(vault.id()).await.unwrap();
    vault.fetch_all_records().await.unwrap();
    let notes = vault.collection::<Note>("notes");
    let said = notes.history(home.notes[0]).await.unwrap().len();
    notes.update(home.notes[0], |note| note.likes = 9).await.unwrap();
    vault.sync().await.unwrap();
    let month = Duration::from_secs(30 * 24 * 3600);
    assert_eq!(account.prune_history(month).await.unwrap().versions, 0);
    assert_eq!(notes.history(home.notes[0]).await.unwrap().len(), said + 1);
    home.server.later(40 * 24 * 3600 * 1000);
    assert!(account.prune_history(month).await.unwrap().versions > 0);
}

/// Nobody else has what this device keeps by itself: all that can be read stays, and what cannot is named.
#[tokio::test]
async fn what_a_device_keeps_by_itself_is_mended_as_far_as_it_can_be_read() {
    let whole = tempfile::tempdir().unwrap();
    let client = Client::open(whole.path()).await.unwrap();
    assert_eq!(client.storage().await.unwrap().total, 0);
    assert!(client.check_storage().await.unwrap().is_sound() && client.repair().await.unwrap().lost_writes.is_empty());
    let notes = client.vault("Journal").await.unwrap().collection::<Note>("notes");
    let all: Vec<Note> = (0..200).map(|number| note(&format!("note {number}"))).collect();
    let ids = notes.put_all(&all).await.unwrap();
    let usage = client.storage().await.unwrap();
    assert!(usage.vaults[0].usage.pending > 20_000 && usage.total > usage.vaults[0].usage.pending, "{usage:?}");
    assert_eq!(client.prune_history(Duration::ZERO).await.unwrap().versions, 0);
    let check = client.check_storage().await.unwrap();
    assert!(check.is_sound() && check.vaults[0].opened == 201 && !check.vaults[0].on_server, "{check:?}");
    client.vault("Journal").await.unwrap().flush().await.unwrap();
    drop((notes, client));

    let bytes = std::fs::read(find(whole.path(), FILE).unwrap()).unwrap();
    let (mut named, mut tried, mut stuck) = (0, 0, 0);
    for at in (0..bytes.len()).step_by(4_096).map(|page| page + 2_003) {
        let folder = tempfile::tempdir().unwrap();
        super::copy_folder(whole.path(), folder.path());
        let mut bent = bytes.clone();
        bent[at] ^= 0x41;
        std::fs::write(find(folder.path(), FILE).unwrap(), bent).unwrap();
        let client = Client::open(folder.path()).await.unwrap();
        let repair = client.repair().await.unwrap_or_else(|error| panic!("flipped at {at}: {error:?}"));
        assert!(repair.fetched.is_empty(), "flipped at {at}: {repair:?}");
        tried += 1;
        if let [(_, told)] = repair.failed.as_slice() {
            assert!(told.to_string().contains("an older copy of the folder"), "flipped at {at}: {told}");
            stuck += 1;
            continue;
        }
        let check = client.check_storage().await.unwrap();
        assert!(check.is_sound(), "flipped at {at}: {check:?}");
        for id in &repair.nameless {
            client.find_vault(&id.to_string()).await.unwrap().unwrap().rename("Journal").await.unwrap();
        }
        let notes = client.vault("Journal").await.unwrap().collection::<Note>("notes");
        for (number, id) in ids.iter().enumerate() {
            let lost = repair.lost_writes.iter().any(|(_, record)| record == id);
            match notes.get(*id).await.unwrap() {
                Some(kept) => assert_eq!(kept.title, format!("note {number}"), "wrong is worse than damaged"),
                None => assert!(lost || repair.rebuilt, "flipped at {at}: note {number} is gone and nobody was told"),
            }
        }
        notes.put(&note("afterwards")).await.unwrap();
        named += repair.lost_writes.len();
    }
    assert!(tried > 10 && named >= 3, "{named} writes were named as lost in {tried} repairs");
    assert!(stuck <= 2, "of {tried} damages, {stuck} were to what the vault itself is made of");
}

/// In what was written and not sent: the first is the vault's name, and each note was written twice.
#[tokio::test]
async fn of_what_is_still_to_be_sent_nothing_goes_that_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let client = Client::open(folder.path()).await.unwrap();
    let vault = client.vault("Journal").await.unwrap();
    let notes = vault.collection::<Note>("notes");
    let ids = notes.put_all(&[note("first 0"), note("first 1"), note("first 2")]).await.unwrap();
    for (number, id) in ids.iter().enumerate() {
        notes.update(*id, move |note| note.title = format!("note {number}")).await.unwrap();
    }
    let journal = vault.id().to_string();
    drop((notes, vault, client));
    let bend = |change: &str| {
        let file = rusqlite::Connection::open(find(folder.path(), FILE).unwrap()).unwrap();
        file.execute(&format!("UPDATE outbox SET {change}"), []).unwrap();
    };

    // Both versions of the first note lie in no collection that anybody knows; of the second, the newer cannot be read.
    bend("shelf = randomblob(length(shelf)) WHERE seq IN (SELECT seq FROM outbox ORDER BY seq LIMIT 1 OFFSET 1)");
    bend("shelf = randomblob(length(shelf)) WHERE seq IN (SELECT seq FROM outbox ORDER BY seq LIMIT 1 OFFSET 4)");
    bend("sealed = zeroblob(length(sealed)) WHERE seq IN (SELECT seq FROM outbox ORDER BY seq LIMIT 1 OFFSET 5)");
    let client = Client::open(folder.path()).await.unwrap();
    let repair = client.repair().await.unwrap();
    let lost: Vec<RecordId> = repair.lost_writes.iter().map(|(_, record)| *record).collect();
    assert!(lost == [ids[1]] && repair.failed.is_empty() && !repair.rebuilt, "{repair:?}");
    assert!(repair.put_right.len() == 1 && repair.fetched.is_empty() && repair.nameless.is_empty(), "{repair:?}");
    assert!(client.check_storage().await.unwrap().is_sound());
    let notes = client.vault("Journal").await.unwrap().collection::<Note>("notes");
    for (id, title) in ids.iter().zip(["note 0", "first 1", "note 2"]) {
        assert_eq!(notes.get(*id).await.unwrap().unwrap().title, title);
    }
    assert_eq!(notes.query().count().await.unwrap(), 3, "and each is found where it belongs");
    assert_eq!(notes.history(ids[0]).await.unwrap().len(), 2);
    drop((notes, client));

    // Without its name nobody would find the vault, and an empty one would be made in its place.
    bend("sealed = zeroblob(length(sealed)) WHERE seq IN (SELECT seq FROM outbox ORDER BY seq LIMIT 1)");
    let client = Client::open(folder.path()).await.unwrap();
    let repair = client.repair().await.unwrap();
    assert!(repair.nameless == repair.put_right && repair.failed.is_empty(), "{repair:?}");
    assert_eq!(repair.nameless[0].to_string(), journal);
    client.find_vault(&journal).await.unwrap().unwrap().rename("Journal").await.unwrap();
    let notes = client.vault("Journal").await.unwrap().collection::<Note>("notes");
    assert_eq!(notes.get(ids[2]).await.unwrap(), Some(note("note 2")));
}
