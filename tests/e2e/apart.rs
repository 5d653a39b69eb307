//! What must be kept apart: the server that was and the one that stands at its address now, and the people who share a
//! folder.

use std::io::Cursor;
use std::path::Path;

use futures_util::StreamExt as _;
use selkie_client::{
    Account, ClientBuilder, CollectionShape, Error, ExportOptions, KeyMode, Misbehaviour, RecordId, RecordState,
    SignInReason, SignOut, SyncState, Unsent, Vault,
};
use selkie_e2e::canary::Canaries;
use selkie_e2e::device::{Device, Person};
use selkie_e2e::on_both_backends;
use selkie_e2e::premises::Premises;
use selkie_e2e::round::step;
use selkie_e2e::server::TestServer;
use serde::{Deserialize, Serialize};

const ANA: &str = "ana@example.org";
const BO: &str = "bo@example.org";
const PASSWORD: &str = "otter-lantern-39-quiet-harbour";
const APP: &str = "org.example.letters";
/// Words that are found nowhere else.
const VAULT: &str = "Correspondence of the winter";
const LETTERS: &str = "confidential-letters";

fn app(client: ClientBuilder) -> ClientBuilder {
    client.collection(CollectionShape::new(LETTERS).index(["to"]).search(["text"]))
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Letter {
    to: String,
    text: String,
}

fn letter(text: &str) -> Letter {
    Letter { to: "whoever it may concern".into(), text: text.into() }
}

/// Somebody's laptop with a few letters, all of them on the server.
async fn who_writes_letters(device: &Device, name: &str, texts: &[&str]) -> (Person, Account, Vault, Vec<RecordId>) {
    let (person, account) = device.makes_an_account(name, PASSWORD).await;
    let vault = account.create_vault(VAULT, APP).await.unwrap();
    let mut ids = Vec::new();
    for text in texts {
        ids.push(vault.collection(LETTERS).put(&letter(text)).await.unwrap());
    }
    step(&account).await;
    step(&account).await;
    (person, account, vault, ids)
}

async fn all_texts(vault: &Vault) -> Vec<String> {
    let letters = vault.collection::<Letter>(LETTERS).query().all().await.unwrap();
    let mut texts: Vec<String> = letters.into_iter().map(|found| found.value.text).collect();
    texts.sort();
    texts
}

/// Why nothing comes into step.
async fn refused(account: &Account) -> Error {
    match account.sync().await {
        Err(error) => error,
        Ok(outcome) => {
            let mut errors = outcome.vaults.into_iter().filter_map(|(_, done)| done.err());
            errors.next().expect("it cannot look as if all were well")
        }
    }
}

/// What a device sends to a server that it does not know.
fn nothing_was_sent(server: &TestServer) {
    for exchange in server.network().exchanges() {
        let request = exchange.request;
        let of_a_vault = request.path.starts_with("/v1/vaults") || request.path.starts_with("/v1/account");
        assert!(request.method == "GET" || !of_a_vault, "{} {}", request.method, request.path);
    }
}

on_both_backends! {
    async fn a_server_that_was_replaced_by_an_empty_one_costs_this_device_nothing(backend: Backend) {
        let server = TestServer::start(backend).await;
        let mut device = server.device("laptop").with_app(app);
        let (person, laptop, vault, ids) = who_writes_letters(&device, ANA, &["first", "second"]).await;
        let (before, me) = (vault.digest().await.unwrap(), laptop.user_id());
        let letters = vault.collection::<Letter>(LETTERS);
        letters.update(ids[0], |letter| letter.text = "first, corrected".into()).await.unwrap();

        // Somebody has set the server up anew, at the same address.
        let (empty, kept) = server.gives_way_to(Premises::new(backend).await).await;
        empty.network().forget();
        for _ in 0..3 {
            let told = refused(&laptop).await;
            let Error::SignInAgain { reason } = &told else { panic!("{told:?}") };
            assert_eq!(*reason, SignInReason::SessionEnded);
            assert!(told.advice().contains("nothing on this device is lost"), "{}", told.advice());
        }
        let status = laptop.status().next().await.unwrap();
        assert!(matches!(status.state, SyncState::Blocked(_)) && status.pending == 1, "{status:?}");
        assert_eq!(status.blocked[0].kind, "sign_in_again");
        let told = device.signs_in(&person).await.unwrap_err();
        assert!(matches!(told, Error::WrongCredentials), "it knows nobody of that name: {told:?}");

        // All of it is here, work goes on, and nothing can be thrown away in good faith.
        assert_eq!(all_texts(&vault).await, ["first, corrected", "second"]);
        assert_eq!(vault.digest().await.unwrap(), before);
        let third = letters.put(&letter("third")).await.unwrap();
        assert_ne!(letters.state(third).await.unwrap(), RecordState::Synced);
        vault.fetch_again().await.unwrap_err();
        vault.leave_out(Unsent::Keep).await.unwrap_err();
        drop((letters, vault, laptop));
        device.restart();
        let laptop = device.account(ANA).await.unwrap().unwrap();
        let vault = laptop.vault(VAULT).await.unwrap().unwrap();
        assert_eq!(all_texts(&vault).await, ["first, corrected", "second", "third"]);
        nothing_was_sent(&empty);

        // Under the name that this device has an account of, nobody is signed up in its place. Under another, Ana takes
        // along what she has, and it says who wrote it there: her new self.
        let told = device.makes_an_account_with(ANA, PASSWORD, KeyMode::SecretKey, None).await.unwrap_err();
        assert!(matches!(&told, Error::NotPossible(why) if why.contains("sign in, or remove it")), "{told:?}");
        nothing_was_sent(&empty);
        let (archive, report) = vault.export(Vec::new(), ExportOptions::default()).await.unwrap();
        assert_eq!((report.records, report.unreadable), (3, 0));
        let (new_person, anew) = device.makes_an_account("ana.anew@example.org", PASSWORD).await;
        assert_ne!(anew.user_id(), me);
        let into = anew.create_vault(VAULT, APP).await.unwrap();
        assert_eq!(into.import(Cursor::new(archive), None).await.unwrap().new, 3);
        step(&anew).await;
        step(&anew).await;
        let phone = empty.device("phone").with_app(app);
        let on_phone = phone.signs_in(&new_person).await.unwrap().account;
        step(&on_phone).await;
        let there = on_phone.vault(VAULT).await.unwrap().unwrap();
        assert_eq!(all_texts(&there).await, ["first, corrected", "second", "third"]);
        for version in there.history(ids[1]).await.unwrap() {
            assert_eq!(version.author, anew.user_id());
        }
        assert_eq!(laptop.vaults().await.unwrap().iter().filter(|vault| !vault.is_own).count(), 1);

        // The real one is back: the old account goes on where it was, and what waited is sent.
        let (real, _empty) = empty.gives_way_to(kept).await;
        device.signs_in(&person).await.unwrap();
        let laptop = device.account(ANA).await.unwrap().unwrap();
        step(&laptop).await;
        let tablet = real.device("tablet").with_app(app).signs_in(&person).await.unwrap().account;
        step(&tablet).await;
        let there = tablet.vault(VAULT).await.unwrap().unwrap();
        assert_eq!(all_texts(&there).await, ["first, corrected", "second", "third"]);
        assert_eq!(there.history(ids[0]).await.unwrap().len(), 2);
        step(&laptop).await;
        let here = laptop.vault(VAULT).await.unwrap().unwrap();
        assert_eq!(here.digest().await.unwrap(), there.digest().await.unwrap());
    }

    async fn whoever_has_her_name_on_the_new_server_gets_nothing_of_hers(backend: Backend) {
        let server = TestServer::start(backend).await;
        let device = server.device("laptop").with_app(app);
        let made = device.makes_an_account_with(ANA, PASSWORD, KeyMode::PasswordOnly, None).await;
        let (person, laptop) = made.unwrap();
        let vault = laptop.create_vault(VAULT, APP).await.unwrap();
        let id = vault.collection(LETTERS).put(&letter("for nobody else")).await.unwrap();
        step(&laptop).await;
        vault.collection(LETTERS).put(&letter("not sent yet")).await.unwrap();
        let me = laptop.user_id();

        // A stranger takes her name there, and even her password.
        let (empty, kept) = server.gives_way_to(Premises::new(backend).await).await;
        let theirs = empty.device("somebody's").with_app(app);
        let made = theirs.makes_an_account_with(ANA, PASSWORD, KeyMode::PasswordOnly, None).await;
        let (_, stranger) = made.unwrap();
        let pushed = empty.network().calls("POST /v1/vaults/*/push").len();
        refused(&laptop).await;
        let told = device.signs_in(&person).await.unwrap_err();
        let Error::ServerMisbehaved { kind, evidence: Some(_) } = &told else { panic!("{told:?}") };
        assert_eq!(*kind, Misbehaviour::OtherIdentity);
        assert!(told.advice().contains("restored from a backup"), "{}", told.advice());
        let laptop = device.account(ANA).await.unwrap().unwrap();
        assert_eq!(laptop.user_id(), me);
        refused(&laptop).await;

        // Nothing of hers went there, and nothing of theirs came here.
        assert_eq!(empty.network().calls("POST /v1/vaults/*/push").len(), pushed);
        step(&stranger).await;
        assert!(stranger.vaults().await.unwrap().iter().all(|vault| vault.is_own));
        assert_eq!(stranger.devices().await.unwrap().devices.len(), 1, "and no device of hers is theirs");
        let vault = laptop.vault(VAULT).await.unwrap().unwrap();
        assert_eq!(all_texts(&vault).await, ["for nobody else", "not sent yet"]);
        assert_eq!(vault.history(id).await.unwrap().len(), 1);

        // The real one is back, and the laptop is what it was to it.
        let (_real, _empty) = empty.gives_way_to(kept).await;
        let before = laptop.device_id();
        let back = device.signs_in(&person).await.unwrap();
        assert_eq!((back.account.device_id(), back.new_device), (before, false));
        step(&back.account).await;
        assert_eq!(vault.status().await.unwrap().pending, 0);
    }

    async fn people_who_share_a_folder_see_nothing_of_each_other(backend: Backend) {
        let server = TestServer::start(backend).await;
        let one = server.device("family computer").with_app(app);
        // Two programs at once, each with its own client: a window and the background, say.
        let other = one.another_program();
        let (hers, his) = ("she waits for a ship", "he waits for a train");
        let (ana_person, ana, of_ana, ids) = who_writes_letters(&one, ANA, &[hers]).await;
        let (bo_person, bo, of_bo, ids_of_bo) = who_writes_letters(&other, BO, &[his]).await;
        for (device, account) in [(&one, ANA), (&other, ANA), (&one, BO), (&other, BO)] {
            let account = device.account(account).await.unwrap().unwrap();
            step(&account).await;
        }
        for (program, me, mine, foreign, foreign_vault, said) in [
            (&one, BO, his, ids[0], &of_ana, "ship"),
            (&other, BO, his, ids[0], &of_ana, "ship"),
            (&one, ANA, hers, ids_of_bo[0], &of_bo, "train"),
            (&other, ANA, hers, ids_of_bo[0], &of_bo, "train"),
        ] {
            let account = program.account(me).await.unwrap().unwrap();
            sees_only(&account, mine, foreign, foreign_vault, said).await;
        }

        // Nothing of either can be read in the folder, nor the other's keys with what one has.
        let told = |text: &str, person: &Person| person.secrets().text("what was written", text);
        let canaries = told(hers, &ana_person).and(told(his, &bo_person));
        let canaries = canaries.text("the vault's name", VAULT).text("the collection's name", LETTERS);
        assert_absent_below(one.folder(), &canaries);

        // One after the other: Bo goes and takes nothing of hers along.
        let his_traces = Canaries::default().bytes("Bo", bo.user_id().as_bytes()).text("his name", BO);
        drop((of_bo, other));
        assert!(bo.sign_out(SignOut::Wipe).await.unwrap().server_told);
        drop(bo);
        assert!(one.account(BO).await.unwrap().is_none() && one.accounts().await.unwrap().len() == 1);
        assert_absent_below(one.folder(), &his_traces);
        assert_eq!(all_texts(&of_ana).await, [hers]);
        let late = of_ana.collection(LETTERS).put(&letter("she still waits")).await.unwrap();
        step(&ana).await;
        assert_eq!(of_ana.collection::<Letter>(LETTERS).state(late).await.unwrap(), RecordState::Synced);

        // She signs out and stays; he comes back, and has what is his.
        assert!(ana.sign_out(SignOut::Keep).await.unwrap().server_told);
        let bo = one.signs_in(&bo_person).await.unwrap().account;
        step(&bo).await;
        // What the new device tells of itself.
        step(&bo).await;
        sees_only(&bo, his, ids[0], &of_ana, "ship").await;
        drop((of_ana, ana));

        // She goes for good, and he keeps his.
        let ana = one.signs_in(&ana_person).await.unwrap().account;
        let her_traces = Canaries::default().bytes("Ana", ana.user_id().as_bytes()).text("her name", ANA);
        assert!(ana.sign_out(SignOut::Wipe).await.unwrap().server_told);
        drop(ana);
        assert_absent_below(one.folder(), &her_traces);
        step(&bo).await;
        assert_eq!(all_texts(&bo.vault(VAULT).await.unwrap().unwrap()).await, [his]);
        let again = one.another_program().signs_in(&ana_person).await.unwrap().account;
        step(&again).await;
        assert_eq!(all_texts(&again.vault(VAULT).await.unwrap().unwrap()).await, ["she still waits", hers]);
    }
}

/// By every way in which something is shown.
async fn sees_only(account: &Account, mine: &str, foreign: RecordId, foreign_vault: &Vault, said: &str) {
    let listed = account.vaults().await.unwrap();
    assert_eq!(listed.iter().filter(|vault| !vault.is_own).count(), 1, "{listed:?}");
    assert!(listed.iter().all(|vault| vault.id != foreign_vault.id()));
    assert!(account.vault_by_id(foreign_vault.id()).await.unwrap().is_none());
    assert!(account.vault(&foreign_vault.id().to_string()).await.unwrap().is_none());
    account.fetch_vault(foreign_vault.id()).await.unwrap_err();
    assert!(account.left_out().await.unwrap().is_empty());
    let usage = account.storage().await.unwrap();
    assert!(usage.vaults.iter().all(|vault| vault.id != foreign_vault.id()), "{usage:?}");
    let check = account.check_storage().await.unwrap();
    assert!(check.is_sound() && check.vaults.len() == listed.len(), "{check:?}");
    assert_eq!(account.status().next().await.unwrap().pending, 0);

    let vault = account.vault(VAULT).await.unwrap().expect("a vault of the same name is their own");
    let letters = vault.collection::<Letter>(LETTERS);
    assert_eq!(all_texts(&vault).await, [mine]);
    assert_eq!(letters.query().search(said).count().await.unwrap(), 0);
    assert_eq!(letters.get(foreign).await.unwrap(), None);
    assert!(letters.history(foreign).await.unwrap().is_empty() && vault.get(foreign).await.unwrap().is_none());
    assert!(vault.records(LETTERS).await.unwrap().iter().all(|record| record.id != foreign));
    assert!(vault.conflicts().await.unwrap().is_empty() && vault.open_conflicts().await.unwrap().is_empty());
    assert_eq!(vault.collections().await.unwrap().get(LETTERS), Some(&1));
    let (archive, report) = vault.export(Vec::new(), ExportOptions { history: true, passphrase: None }).await.unwrap();
    assert_eq!((report.records, report.unreadable), (1, 0));
    assert!(!String::from_utf8_lossy(&archive).contains(said), "an archive has only what is theirs");
    assert!(String::from_utf8_lossy(&archive).contains(mine), "and could be read if it had more");
}

fn assert_absent_below(folder: &Path, canaries: &Canaries) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => assert_absent_below(&path, canaries),
            false => canaries.assert_absent_from(&path.display().to_string(), &std::fs::read(&path).unwrap()),
        }
    }
}
