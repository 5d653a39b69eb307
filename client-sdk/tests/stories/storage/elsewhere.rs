//! Records that are known on a device, and what they say is not: let go to make room, or not fetched yet.

use super::{Home, home, journal, program};
use crate::fake::{Fake, Mishap};
use crate::records::{Note, note};
use crate::vaults::{APP, PASSWORD, person};
use selkie_client::{
    Account, Collection, Error, ExportOptions, Misbehaviour, RecordId, RecordState, SignIn, Unsent, Vault, VaultId,
};
use selkie_protocol::vault::{LiveRecords, Wraps};
use selkie_protocol::{Bytes, Face};
use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 3600);
const YEAR: u64 = 365 * 24 * 3600 * 1000;

async fn in_step(account: &Account) {
    let synced = account.sync().await.unwrap();
    assert!(synced.first_error().is_none(), "{:?}", synced.first_error());
}

async fn titles(notes: &Collection<Note>) -> Vec<String> {
    let mut titles: Vec<String> = notes.query().all().await.unwrap().into_iter().map(|one| one.value.title).collect();
    titles.sort();
    titles
}

/// The laptop of that home a year later, everything sent, with nothing left of what is old but that it is there.
async fn a_year_later() -> (Home, Account, Vault, Collection<Note>) {
    let home = home().await;
    let laptop = program(&home.server, home.folder.path()).await;
    in_step(&laptop).await;
    home.server.later(YEAR);
    let vault = journal(&laptop).await.unwrap();
    let notes = vault.collection::<Note>("notes");
    let gone = vault.let_go(30 * DAY).await.unwrap();
    assert_eq!(gone.records, home.notes.len() as u64 + 1, "and the one that was pending");
    assert!(gone.bytes > 0);
    (home, laptop, vault, notes)
}

fn not_here<T>(outcome: Result<T, Error>, of: RecordId) {
    let error = outcome.err().expect("it is not here");
    assert!(matches!(error, Error::NotHere { record } if record == of), "{error:?}");
}

#[tokio::test]
async fn what_was_let_go_is_known_to_be_there_and_comes_again() {
    let (home, laptop, vault, notes) = a_year_later().await;
    let before = journal(&home.phone).await.unwrap();
    in_step(&home.phone).await;
    let young = notes.put(&note("young")).await.unwrap();
    assert_eq!(titles(&notes).await, ["young"]);
    let old = home.notes[7];
    not_here(notes.get(old).await, old);
    not_here(vault.get(old).await, old);
    not_here(notes.history(old).await, old);
    not_here(notes.update(old, |note| note.title = "blind".into()).await, old);
    not_here(notes.put_as(old, &note("blind")).await, old);
    not_here(notes.delete(old).await, old);
    assert_eq!(notes.state(old).await.unwrap(), RecordState::Elsewhere);
    assert_eq!(vault.elsewhere().await.unwrap().len(), home.notes.len() + 1);
    assert_eq!(vault.status().await.unwrap().elsewhere, home.notes.len() as u64 + 1);
    assert!(laptop.check_storage().await.unwrap().is_sound());
    in_step(&laptop).await;
    in_step(&home.phone).await;
    assert_eq!(vault.digest().await.unwrap(), before.digest().await.unwrap(), "it is the same log");

    // After a restart, too. Some of it, then the rest.
    drop((vault, notes));
    drop(laptop);
    let laptop = program(&home.server, home.folder.path()).await;
    let vault = journal(&laptop).await.unwrap();
    let notes = vault.collection::<Note>("notes");
    assert_eq!(vault.fetch_records(&[old, young, home.notes[8]]).await.unwrap(), 2, "one was here");
    assert_eq!(notes.get(old).await.unwrap().unwrap().title, "note 7");
    assert_eq!(notes.fetch(home.notes[9]).await.unwrap().unwrap().title, "note 9");
    assert_eq!(titles(&notes).await, ["note 7", "note 8", "note 9", "young"]);
    assert_eq!(vault.fetch_all_records().await.unwrap(), home.notes.len() as u64 - 2);
    assert_eq!(vault.elsewhere().await.unwrap(), []);
    let on_phone = before.collection::<Note>("notes");
    assert_eq!(titles(&notes).await, titles(&on_phone).await);
    assert!(laptop.check_storage().await.unwrap().is_sound());

    // And it is written on like any other.
    notes.update(old, |note| note.title = "changed".into()).await.unwrap();
    in_step(&laptop).await;
    in_step(&home.phone).await;
    assert_eq!(on_phone.get(old).await.unwrap().unwrap().title, "changed");
}

#[tokio::test]
async fn what_others_write_to_it_comes_as_always() {
    let (home, laptop, vault, notes) = a_year_later().await;
    in_step(&home.phone).await;
    let on_phone = journal(&home.phone).await.unwrap();
    let theirs = on_phone.collection::<Note>("notes");
    let [changed, deleted, forgotten] = [home.notes[0], home.notes[1], home.notes[2]];
    let kept = vault.elsewhere().await.unwrap().len();
    theirs.update(changed, |note| note.title = "changed".into()).await.unwrap();
    theirs.delete(deleted).await.unwrap();
    theirs.delete(forgotten).await.unwrap();
    in_step(&home.phone).await;
    in_step(&laptop).await;
    assert_eq!(notes.get(changed).await.unwrap().unwrap().title, "changed");
    assert_eq!(notes.get(deleted).await.unwrap(), None);
    assert_eq!(vault.elsewhere().await.unwrap().len(), kept - 3);
    // A write here is on top of what came.
    notes.update(changed, |note| note.title = "twice".into()).await.unwrap();
    in_step(&laptop).await;
    in_step(&home.phone).await;
    assert_eq!(theirs.get(changed).await.unwrap().unwrap().title, "twice");
    assert!(laptop.check_storage().await.unwrap().is_sound());
}

/// What it says now is no more here than what it said before: it may not look as if there were no such record.
#[tokio::test]
async fn what_was_let_go_and_is_changed_under_a_key_that_has_not_come_is_still_there() {
    let (home, laptop, vault, notes) = a_year_later().await;
    in_step(&home.phone).await;
    let (on_phone, id) = (journal(&home.phone).await.unwrap(), home.notes[5]);
    on_phone.rotate().await.unwrap();
    on_phone.collection::<Note>("notes").update(id, |note| note.title = "under the new key".into()).await.unwrap();
    in_step(&home.phone).await;
    home.server.bend(|path, body| {
        if !path.ends_with("/wraps") {
            return body;
        }
        Face::Cbor.encode(&Wraps { wraps: Vec::new() })
    });
    let _no_key = laptop.sync().await.unwrap();
    assert_eq!(vault.status().await.unwrap().set_aside.len(), 1);
    not_here(notes.get(id).await, id);
    not_here(notes.update(id, |note| note.title = "blind".into()).await, id);
    not_here(notes.delete(id).await, id);
    let state = notes.state(id).await.unwrap();
    assert!(matches!(&state, RecordState::Failed(why) if why.contains("key of epoch")), "{state:?}");
    assert!(laptop.check_storage().await.unwrap().is_sound());
    home.server.be_honest();
    in_step(&laptop).await;
    assert_eq!(notes.get(id).await.unwrap().unwrap().title, "under the new key");
    assert!(!vault.elsewhere().await.unwrap().contains(&id));
}

#[tokio::test]
async fn what_only_this_device_has_is_not_let_go() {
    let home = home().await;
    let laptop = program(&home.server, home.folder.path()).await;
    let vault = journal(&laptop).await.unwrap();
    let notes = vault.collection::<Note>("notes");
    // Written and not sent: on top of what is in the log, and new.
    notes.update(home.notes[3], |note| note.title = "unsent".into()).await.unwrap();
    notes.delete(home.notes[4]).await.unwrap();
    home.server.later(YEAR);
    let gone = notes.let_go(Duration::ZERO).await.unwrap();
    assert_eq!(gone.records, home.notes.len() as u64 - 2);
    assert_eq!(titles(&notes).await, ["not sent yet", "unsent"]);
    in_step(&laptop).await;
    // Now it is in the log: all but the mark of what was deleted.
    home.server.later(YEAR);
    assert_eq!(vault.let_go(DAY).await.unwrap().records, 2);
    assert_eq!(notes.get(home.notes[4]).await.unwrap(), None);
    assert_eq!(vault.name().await.unwrap().as_deref(), Some("Journal"), "what it is called stays");

    // In a vault that no server has heard of, nothing is.
    let new = laptop.create_vault("New", APP).await.unwrap();
    new.collection("notes").put(&note("here alone")).await.unwrap();
    let refused = new.let_go(Duration::ZERO).await.unwrap_err();
    assert!(refused.to_string().contains("not on a server yet"), "{refused}");
}

#[tokio::test]
async fn an_archive_says_what_is_not_in_it_and_writes_over_nothing() {
    let (home, laptop, vault, notes) = a_year_later().await;
    notes.put(&note("young")).await.unwrap();
    let (_, report) = vault.export(Vec::new(), ExportOptions::default()).await.unwrap();
    assert_eq!((report.records, report.unreadable), (1, home.notes.len() as u64 + 1));
    vault.fetch_all_records().await.unwrap();
    let (archive, report) = vault.export(Vec::new(), ExportOptions::default()).await.unwrap();
    assert_eq!((report.records, report.unreadable), (home.notes.len() as u64 + 2, 0));

    vault.let_go(30 * DAY).await.unwrap();
    let report = vault.import(Cursor::new(archive), None).await.unwrap();
    assert_eq!((report.new, report.kept, report.same), (0, home.notes.len() as u64 + 1, 1), "{report:?}");
    assert_eq!(vault.status().await.unwrap().pending, 0, "nothing was written over");
    drop(laptop);
}

fn bend_records(server: &Arc<Fake>, bend: impl Fn(&mut LiveRecords) + Send + Sync + 'static) {
    server.bend(move |path, body| {
        if !path.ends_with("/records") {
            return body;
        }
        let mut answer: LiveRecords = Face::Cbor.decode(&body).unwrap();
        bend(&mut answer);
        Face::Cbor.encode(&answer)
    });
}

#[tokio::test]
async fn mal_054_a_server_that_keeps_back_or_changes_what_was_let_go_is_caught() {
    type Lie = fn(&mut LiveRecords);
    let lies: [(&str, Lie); 5] = [
        ("nothing is there", |answer| {
            answer.items.clear();
            answer.payloads.clear();
        }),
        ("another text", |answer| answer.payloads[0].0[40] ^= 1),
        ("the text of another", |answer| answer.payloads.swap(0, 1)),
        ("another item", |answer| answer.items[1].0[9] ^= 1),
        ("one too few", |answer| {
            answer.items.pop();
        }),
    ];
    for (lie, bend) in lies {
        let (home, _laptop, vault, notes) = a_year_later().await;
        bend_records(&home.server, bend);
        let caught = vault.fetch_records(&home.notes[..5]).await.unwrap_err();
        let Error::Quarantined(quarantine) = &caught else { panic!("{lie}: {caught:?}") };
        assert_eq!(quarantine.kind, Misbehaviour::Withheld, "{lie}");
        assert_eq!(titles(&notes).await, [""; 0], "{lie}: nothing of it was believed");
    }
}

#[tokio::test]
async fn a_server_that_has_no_room_for_an_answer_is_asked_again_and_then_later() {
    let (home, _laptop, vault, notes) = a_year_later().await;
    // One record at a time.
    bend_records(&home.server, |answer| {
        let of = |item: &Bytes| selkie_protocol::log::PageItem::parse(item).unwrap().change.record;
        answer.left.extend(answer.items.iter().skip(1).map(of));
        answer.items.truncate(1);
        answer.payloads.truncate(1);
    });
    assert_eq!(vault.fetch_records(&home.notes[..3]).await.unwrap(), 3);
    assert_eq!(titles(&notes).await, ["note 0", "note 1", "note 2"]);
    // Never: no proof of anything, and no reason to wait for ever.
    bend_records(&home.server, |answer| {
        let of = |item: &Bytes| selkie_protocol::log::PageItem::parse(item).unwrap().change.record;
        answer.left.extend(answer.items.drain(..).map(|item| of(&item)));
        answer.payloads.clear();
    });
    let error = vault.fetch_all_records().await.unwrap_err();
    assert!(matches!(error, Error::RetryLater { .. }), "{error:?}");
    home.server.be_honest();
    // A request that is lost is sent once more.
    home.server.next_request_to("/records", Mishap::AnswerLost);
    vault.fetch_all_records().await.unwrap();
    assert_eq!(vault.elsewhere().await.unwrap(), []);
}

#[tokio::test]
async fn what_was_let_go_is_lost_with_nothing_that_happens_to_the_store() {
    let (home, laptop, vault, notes) = a_year_later().await;
    // The vault is made whole from the server, and has all of it.
    vault.fetch_again().await.unwrap();
    assert_eq!(vault.elsewhere().await.unwrap(), []);
    home.has_everything(&laptop).await;
    assert_eq!(vault.let_go(30 * DAY).await.unwrap().records, home.notes.len() as u64 + 1);
    assert!(laptop.repair().await.unwrap().fetched.is_empty(), "nothing is damaged");
    assert_eq!(vault.elsewhere().await.unwrap().len(), home.notes.len() + 1);
    // It may be left out and fetched like any other.
    let id = vault.id();
    vault.leave_out(Unsent::Keep).await.unwrap();
    let again = laptop.fetch_vault(id).await.unwrap();
    assert_eq!(again.elsewhere().await.unwrap(), []);
    drop(notes);
}

/// Ana's laptop with a journal of which there is a checkpoint, and a phone that has not fetched it.
async fn a_long_history(server: &Arc<Fake>) -> (Account, Vault, Vec<RecordId>, Account, VaultId) {
    let ana = person(server, "ana@example.org").await;
    let laptop = ana.account.create_vault("Journal", APP).await.unwrap();
    let notes = laptop.collection::<Note>("notes");
    let all: Vec<Note> = (0..30).map(|number| note(&format!("note {number}"))).collect();
    let ids = notes.put_all(&all).await.unwrap();
    in_step(&ana.account).await;
    laptop.write_checkpoint().await.unwrap();
    notes.put(&note("after it")).await.unwrap();
    in_step(&ana.account).await;
    let client = server.builder().in_memory().begin_with_checkpoint_from(2).build().unwrap();
    let (options, key) = (SignIn { device_name: "phone".into(), ..SignIn::default() }, ana.sheet.secret_key());
    let phone = client.sign_in("ana@example.org", PASSWORD, key, options).await.unwrap().account;
    phone.leave_new_vaults_out(true).await.unwrap();
    in_step(&phone).await;
    let id = laptop.id();
    (ana.account, laptop, ids, phone, id)
}

/// It has asked for the vault and got no further than its first entry.
async fn is_cut_off_at_the_door(server: &Arc<Fake>, phone: &Account, id: VaultId) {
    server.next_request_to("/wraps", Mishap::NotDelivered);
    assert!(phone.fetch_vault_headers_first(id).await.unwrap_err().is_retryable());
}

#[tokio::test]
async fn a_phone_knows_at_once_what_there_is_and_fetches_what_it_says_later() {
    let server = Fake::start();
    let (ana, laptop, ids, phone, id) = a_long_history(&server).await;
    server.asked();
    let journal = phone.fetch_vault_headers_first(id).await.unwrap();
    let asked = server.asked();
    assert!(asked.iter().any(|path| path.contains("payloads=none")), "{asked:?}");
    assert_eq!(journal.name().await.unwrap().as_deref(), Some("Journal"));
    let notes = journal.collection::<Note>("notes");
    assert_eq!(titles(&notes).await, ["after it"], "what is newer than the checkpoint comes as always");
    assert_eq!(journal.elsewhere().await.unwrap().len(), ids.len());
    in_step(&ana).await;
    assert_eq!(journal.digest().await.unwrap(), laptop.digest().await.unwrap());
    not_here(notes.get(ids[0]).await, ids[0]);
    assert!(phone.check_storage().await.unwrap().is_sound());

    laptop.collection::<Note>("notes").update(ids[1], |note| note.title = "changed".into()).await.unwrap();
    in_step(&ana).await;
    in_step(&phone).await;
    assert_eq!(notes.get(ids[1]).await.unwrap().unwrap().title, "changed");
    assert_eq!(notes.fetch(ids[0]).await.unwrap().unwrap().title, "note 0");
    journal.fetch_all_records().await.unwrap();
    assert_eq!(titles(&notes).await, titles(&laptop.collection("notes")).await);
}

#[tokio::test]
async fn a_phone_that_was_cut_off_on_the_way_still_fetches_the_rest_later() {
    let server = Fake::start();
    let (ana, laptop, ids, phone, id) = a_long_history(&server).await;
    is_cut_off_at_the_door(&server, &phone, id).await;
    // The next sync goes on where it was.
    in_step(&phone).await;
    let journal = phone.vault_by_id(id).await.unwrap().unwrap();
    in_step(&ana).await;
    assert_eq!(journal.digest().await.unwrap(), laptop.digest().await.unwrap());
    assert_eq!(journal.name().await.unwrap().as_deref(), Some("Journal"));
    assert_eq!(journal.elsewhere().await.unwrap().len(), ids.len());
    journal.fetch_all_records().await.unwrap();
    assert_eq!(titles(&journal.collection("notes")).await, titles(&laptop.collection("notes")).await);
}

#[tokio::test]
async fn what_was_written_before_a_phone_knew_what_there_is_meets_it() {
    let server = Fake::start();
    let (ana, laptop, ids, phone, id) = a_long_history(&server).await;
    is_cut_off_at_the_door(&server, &phone, id).await;
    // An app that knows the record from elsewhere writes it.
    let journal = phone.vault_by_id(id).await.unwrap().unwrap();
    let on_phone = journal.collection::<Note>("notes");
    on_phone.put_as(ids[3], &note("from the phone")).await.unwrap();
    for account in [&phone, &ana, &phone, &ana] {
        in_step(account).await;
    }
    assert_eq!(journal.status().await.unwrap().pending, 0, "it did not wait for ever");
    let said = on_phone.get(ids[3]).await.unwrap();
    assert_eq!(said, laptop.collection::<Note>("notes").get(ids[3]).await.unwrap());
    assert_eq!(journal.digest().await.unwrap(), laptop.digest().await.unwrap());
    assert_eq!(journal.elsewhere().await.unwrap().len(), ids.len() - 1, "and nothing else was fetched");
}

/// Nobody else has what it keeps.
#[tokio::test]
async fn a_device_alone_lets_nothing_go() {
    let server = Fake::start();
    let alone = server.alone().in_memory().build().unwrap();
    let vault = alone.vault("Personal").await.unwrap();
    vault.collection("notes").put(&note("mine")).await.unwrap();
    let refused = vault.let_go(Duration::ZERO).await.unwrap_err();
    assert!(refused.to_string().contains("not on a server yet"), "{refused}");
}
