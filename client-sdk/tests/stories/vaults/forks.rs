//! Lies that take two people, two devices or two days to be told: and how each is found out.

use super::lies::scene;
use super::{APP, another_device, id, person, text};
use crate::fake::Fake;
use selkie_client::{Error, KeptTrust, Misbehaviour, Role, VaultState};
use selkie_protocol::account::LogPage;
use selkie_protocol::log::Head;
use selkie_protocol::vault::{Beginning, LogFrames, Polled};
use selkie_protocol::{ErrorCode, Face};

#[tokio::test]
async fn an_entry_of_another_vault() {
    let scene = scene().await;
    let other = scene.ana.account.create_vault("Other", APP).await.unwrap();
    for number in 1..4 {
        other.put("notes", id(number), b"elsewhere").await.unwrap();
        other.sync().await.unwrap();
    }
    let from_there = scene.vaults(|vaults| vaults.all[&other.id()].frames.last().unwrap().clone());
    scene.bend_log(move |page| {
        if let Some(first) = page.frames.first_mut() {
            *first = from_there.clone().into();
        }
    });
    scene.is_caught(Misbehaviour::ForgedEntry).await;
}

#[tokio::test]
async fn a_rollback_while_the_app_was_closed() {
    let server = Fake::start();
    let data = tempfile::tempdir().unwrap();
    let open = || server.builder().store(data.path()).build().unwrap();
    let made = open().sign_up("ana", super::PASSWORD, selkie_client::SignUp::default()).await.unwrap();
    let vault = made.account.create_vault("Journal", APP).await.unwrap();
    for number in 1..4 {
        vault.put("notes", id(number), b"here").await.unwrap();
        vault.sync().await.unwrap();
    }
    let (name, known) = (vault.id(), vault.digest().await.unwrap().n);
    drop((vault, made));
    server.with(|world| {
        let people = world.people();
        let one = world.vaults.all.get_mut(&name).unwrap();
        *one = one.back_to(known - 1, &people);
    });
    let account = open().account("ana").await.unwrap().unwrap();
    let vault = account.vault_by_id(name).await.unwrap().unwrap();
    let error = vault.sync().await.unwrap_err();
    assert!(matches!(&error, Error::Quarantined(found) if found.kind == Misbehaviour::VaultRollback), "{error:?}");
    let Error::Quarantined(found) = error else { unreachable!() };
    let proof = selkie_client::judge(&std::fs::read(found.evidence.unwrap()).unwrap(), None).unwrap();
    assert_eq!(proof.subject, selkie_client::Subject::Vault(name));
    // And it stays so, however often the app is closed and opened.
    drop((vault, account));
    let account = open().account("ana").await.unwrap().unwrap();
    let vault = account.vault_by_id(name).await.unwrap().unwrap();
    assert!(matches!(vault.status().await.unwrap().state, VaultState::Quarantined(_)));
    assert_eq!(text(&vault, 3).await.as_deref(), Some("here"));
}

#[tokio::test]
async fn an_acknowledged_push_replaced_by_another_entry() {
    let scene = scene().await;
    scene.laptop.sync().await.unwrap();
    let before = scene.vaults(|vaults| vaults.all.clone());
    scene.laptop.put("notes", id(8), b"acknowledged").await.unwrap();
    scene.laptop.sync().await.unwrap();
    let n = scene.laptop.digest().await.unwrap().n;
    scene.vaults(|vaults| vaults.all = before);
    scene.on_phone.put("notes", id(8), b"in its place").await.unwrap();
    scene.on_phone.sync().await.unwrap();
    assert_eq!(scene.on_phone.digest().await.unwrap().n, n, "the same position");
    scene.is_caught(Misbehaviour::TwoHeads).await;
}

#[tokio::test]
async fn a_freeze_is_shown_by_what_another_device_has_seen() {
    a_freeze_is_shown(false, false).await;
}

/// A poll is not signed, so a server can say anything in it.
#[tokio::test]
async fn a_freeze_is_shown_even_if_polls_tell_of_nothing_new() {
    a_freeze_is_shown(false, true).await;
}

/// Else a server could keep everything from everybody by refusing one vault.
#[tokio::test]
async fn a_freeze_is_shown_even_if_something_is_wrong_with_another_vault() {
    a_freeze_is_shown(true, false).await;
}

async fn a_freeze_is_shown(beside_a_vault_that_is_refused: bool, in_polls_too: bool) {
    let scene = scene().await;
    let account = &scene.ana.account;
    account.sync().await.unwrap();
    scene.phone.sync().await.unwrap();
    if beside_a_vault_that_is_refused {
        let other = account.create_vault("Elsewhere", APP).await.unwrap();
        other.sync().await.unwrap();
        scene.vaults(|vaults| vaults.all.remove(&other.id()));
        let error = account.sync().await.unwrap().first_error().map(|(_, error)| error.code());
        assert_eq!(error, Some(Some(ErrorCode::NotFound)));
    }
    let vault = scene.laptop.id();
    let Head { n, h } = scene.vaults(|vaults| vaults.all[&vault].log.head());
    scene.on_phone.put("notes", id(8), b"kept from the laptop").await.unwrap();
    scene.server.later(2 * 3600 * 1000);
    // The phone writes down, in the account's own vault, how far it has seen the journal.
    for _ in 0..2 {
        assert!(scene.phone.sync().await.unwrap().first_error().is_none());
    }
    let now = scene.server.now_ms();
    let frozen = scene.vaults(|vaults| vaults.sign(&vault, Head { n, h }, now));
    let path_of = format!("/vaults/{vault}/log?after");
    scene.server.bend(move |path, body| {
        if in_polls_too && path.contains("/poll") {
            let mut polled: Polled = Face::Cbor.decode(&body).unwrap();
            polled.vaults.iter_mut().flatten().filter(|one| one.vid == vault).for_each(|one| one.n = n);
            return Face::Cbor.encode(&polled);
        }
        if !path.contains(&path_of) {
            return body;
        }
        let mut page: LogFrames = Face::Cbor.decode(&body).unwrap();
        page.frames.clear();
        page.head = frozen;
        Face::Cbor.encode(&page)
    });
    let mut caught = None;
    for _ in 0..3 {
        let outcome = account.sync().await.unwrap();
        let of_the_journal = outcome.vaults.into_iter().find(|(id, _)| *id == vault).map(|(_, done)| done);
        caught = caught.or(of_the_journal.and_then(Result::err));
    }
    assert!(
        matches!(&caught, Some(Error::Quarantined(found)) if found.kind == Misbehaviour::VaultRollback),
        "{caught:?}"
    );
    assert_eq!(text(&scene.laptop, 1).await.as_deref(), Some("first"));
}

/// Who has come further finds the other's head behind its own, where only its own log can say whether it ever stood.
#[tokio::test]
async fn a_fork_is_shown_by_a_device_that_has_come_less_far_in_the_other_log() {
    let scene = scene().await;
    for device in [&scene.ana.account, &scene.phone] {
        assert!(device.sync().await.unwrap().first_error().is_none());
    }
    let vault = scene.laptop.id();
    let before = scene.vaults(|vaults| vaults.all[&vault].clone());
    for number in [7, 8] {
        scene.laptop.put("notes", id(number), b"in one log").await.unwrap();
        scene.laptop.sync().await.unwrap();
    }
    let of_the_laptop = scene.vaults(|vaults| vaults.all.insert(vault, before)).unwrap();
    scene.on_phone.put("notes", id(9), b"in the other log").await.unwrap();
    scene.server.later(2 * 3600 * 1000);
    for _ in 0..2 {
        assert!(scene.phone.sync().await.unwrap().first_error().is_none());
    }
    scene.vaults(|vaults| vaults.all.insert(vault, of_the_laptop));
    assert!(scene.on_phone.digest().await.unwrap().n < scene.laptop.digest().await.unwrap().n);
    scene.ana.account.sync().await.unwrap();
    let state = scene.laptop.status().await.unwrap().state;
    assert!(matches!(&state, VaultState::Quarantined(found) if found.kind == Misbehaviour::VaultFork), "{state:?}");
    assert_eq!(text(&scene.laptop, 8).await.as_deref(), Some("in one log"), "what is here stays readable");
}

/// Bob adds a device; the server shows Ana his log with it, and Cara another one, with a device of its own making.
#[tokio::test]
async fn a_persons_account_log_forked_to_two_people() {
    let server = Fake::start();
    let (ana, bob, cara) = (person(&server, "ana").await, person(&server, "bob").await, person(&server, "cara").await);
    let shared = ana.account.create_vault("Shared", APP).await.unwrap();
    shared.sync().await.unwrap();
    for other in [&bob, &cara] {
        shared.add_member(other.account.user_id(), Role::Editor).await.unwrap();
    }
    for one in [&bob, &cara, &ana] {
        assert!(one.account.sync().await.unwrap().first_error().is_none());
    }
    let hers = cara.account.vault("Shared").await.unwrap().unwrap();
    // One of his phones is in the log that Ana sees, the other in the log that Cara is shown.
    let before = server.snapshot("bob");
    let phone = another_device(&server, "bob", &bob).await;
    let for_ana = server.snapshot("bob");
    server.change("bob", |acct| acct.entries = before.entries.clone());
    another_device(&server, "bob", &bob).await;
    let for_cara = server.snapshot("bob").entries;
    assert_ne!(for_ana.entries, for_cara);
    server.change("bob", |acct| *acct = for_ana);

    let bobs = format!("/people/{}/log", bob.account.user_id());
    let forked = for_cara.clone();
    server.bend(move |path, body| {
        if !path.contains(&bobs) {
            return body;
        }
        let page: LogPage = Face::Cbor.decode(&body).unwrap();
        let entries = forked.iter().skip(page.from as usize).take(4).cloned().collect();
        Face::Cbor.encode(&LogPage { entries, from: page.from, length: forked.len() as u64 })
    });
    // Bob's phone introduces itself in the vault: its anchor names an entry that Cara's log of Bob does not have.
    assert!(phone.sync().await.unwrap().first_error().is_none());
    let his = phone.vault("Shared").await.unwrap().unwrap();
    his.put("notes", id(1), b"from the phone").await.unwrap();
    his.sync().await.unwrap();
    let error = hers.sync().await.unwrap_err();
    let Error::Quarantined(found) = &error else { panic!("{error:?}") };
    // The device that wrote is not in the log she was shown; which of the two logs is Bob's she can ask him.
    assert_eq!(found.kind, Misbehaviour::ForgedEntry, "{found:?}");
    assert!(found.found.contains("not certified"), "{found:?}");
    assert_eq!(text(&hers, 1).await, None, "nothing of it was believed");
    server.be_honest();
    assert!(ana.account.sync().await.unwrap().first_error().is_none(), "who is shown one log sees nothing wrong");
}

#[tokio::test]
async fn a_false_checkpoint_shown_to_a_newcomer() {
    let server = Fake::start();
    let ana = person(&server, "ana").await;
    let vault = ana.account.create_vault("Journal", APP).await.unwrap();
    for number in 1..6 {
        vault.put("notes", id(number), b"note").await.unwrap();
        vault.sync().await.unwrap();
    }
    vault.write_checkpoint().await.unwrap();
    // The pages are other ones than the checkpoint has signed.
    server.bend(|path, body| {
        if !path.ends_with("/checkpoint") {
            return body;
        }
        let mut beginning: Beginning = Face::Cbor.decode(&body).unwrap();
        beginning.page_hashes.0[3] ^= 1;
        Face::Cbor.encode(&beginning)
    });
    let name = vault.id();
    let options = selkie_client::SignIn { device_name: "phone".into(), ..selkie_client::SignIn::default() };
    let client = server.builder().in_memory().begin_with_checkpoint_from(2).build().unwrap();
    let phone = client.sign_in("ana", super::PASSWORD, ana.sheet.secret_key(), options).await.unwrap().account;
    let outcome = phone.sync().await.unwrap();
    let (_, error) = outcome.first_error().unwrap();
    assert!(matches!(error, Error::Quarantined(found) if found.kind == Misbehaviour::FalseCheckpoint), "{error:?}");
    let on_phone = phone.vault_by_id(name).await.unwrap().unwrap();
    assert_eq!(on_phone.digest().await.unwrap().n, 1, "nothing was begun from it");
}

#[tokio::test]
async fn a_checkpoint_on_its_authors_word_alone_is_shown_as_such() {
    let server = Fake::start();
    let (ana, bob) = (person(&server, "ana").await, person(&server, "bob").await);
    let vault = ana.account.create_vault("Shared", APP).await.unwrap();
    for number in 1..4 {
        vault.put("notes", id(number), b"note").await.unwrap();
        vault.sync().await.unwrap();
    }
    vault.add_member(bob.account.user_id(), Role::Editor).await.unwrap();
    vault.write_checkpoint().await.unwrap();
    // The server has no log from the beginning any more: there is nothing else to begin with.
    let client = server.builder().in_memory().begin_with_checkpoint_from(2).build().unwrap();
    let tablet =
        client.sign_in("bob", super::PASSWORD, bob.sheet.secret_key(), selkie_client::SignIn::default()).await.unwrap();
    let n = vault.digest().await.unwrap().n;
    server.with(|world| world.vaults.gone_before = n);
    let outcome = tablet.account.sync().await.unwrap();
    assert!(outcome.first_error().is_none(), "{outcome:?}");
    let his = tablet.account.vault_by_id(vault.id()).await.unwrap().unwrap();
    assert_eq!(his.status().await.unwrap().trust, KeptTrust::UnconfirmedCheckpoint);
    assert_eq!(text(&his, 2).await.as_deref(), Some("note"));
}
