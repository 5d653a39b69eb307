//! An app that begins without a server and without an account, and what becomes of its records when there is one.

use crate::fake::{Fake, URL};
use crate::records::{Note, note};
use crate::schedules::weather::{Brittle, Sky};
use futures_util::{Stream, StreamExt as _};
use selkie_client::store::vaults::{MemoryVaults, VaultStore, VaultStores};
use selkie_client::store::{Folder, Memory, StoreError};
use selkie_client::{
    Account, Client, Error, ExportOptions, ServerAddress, SignIn, SignOut, SignUp, Status, SyncState, Vault, field,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const PASSWORD: &str = "correct horse";
const ANA: &str = "ana@example.org";

async fn alone(folder: &Path) -> Client {
    Client::open(folder).await.unwrap()
}

/// An app on a device with a folder, which may name the server later.
async fn app(server: &Arc<Fake>, folder: &Path) -> Client {
    server.alone().store(folder).open().await.unwrap()
}

async fn sign_up(client: &Client) -> (Account, String) {
    let made = client.sign_up(ANA, PASSWORD, SignUp::default()).await.unwrap();
    (made.account, made.sheet.secret_key().unwrap().to_owned())
}

async fn sign_in(client: &Client, key: &str) -> Account {
    client.sign_in(ANA, PASSWORD, Some(key), SignIn::default()).await.unwrap().account
}

async fn titles(vault: &Vault) -> Vec<String> {
    let found = vault.collection::<Note>("notes").query().all().await.unwrap();
    let mut titles: Vec<String> = found.into_iter().map(|found| found.value.title).collect();
    titles.sort();
    titles
}

#[tokio::test]
async fn an_app_without_a_server_keeps_what_it_wrote() {
    let data = tempfile::tempdir().unwrap();
    let notes = alone(data.path()).await.vault("Personal").await.unwrap().collection::<Note>("notes");
    let id = notes.put(&note("Hello")).await.unwrap();
    notes.update(id, |note| note.likes = 3).await.unwrap();
    let again = alone(data.path()).await;
    assert!(again.accounts().await.unwrap().is_empty(), "nobody was invented");
    let notes = again.vault("Personal").await.unwrap().collection::<Note>("notes");
    assert_eq!(notes.get(id).await.unwrap().unwrap().likes, 3);
    assert_eq!(notes.query().filter(field("likes").eq(3)).count().await.unwrap(), 1);
    assert_eq!(notes.history(id).await.unwrap().len(), 2);
}

#[tokio::test]
async fn by_itself_a_device_does_everything_that_needs_nobody_else() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let client = alone(one.path()).await;
    let vault = client.vault("Personal").await.unwrap();
    let notes = vault.collection::<Note>("notes");
    let id = notes.put(&note("kept")).await.unwrap();

    // What one takes back was never there.
    let regretted = notes.put(&note("regretted")).await.unwrap();
    assert!(notes.undo(regretted).await.unwrap());
    assert_eq!(notes.get(regretted).await.unwrap(), None);
    notes.update(id, |note| note.likes = 7).await.unwrap();
    assert!(notes.undo(id).await.unwrap());
    assert_eq!(notes.get(id).await.unwrap(), Some(note("kept")));

    // All or nothing.
    let mut both = vault.transaction();
    let todo = both.put(&vault.collection::<Note>("todos"), &note("write to Bo")).unwrap();
    both.put_as(&notes, id, &note("kept, and answered")).unwrap();
    both.commit().await.unwrap();
    assert!(vault.collection::<Note>("todos").get(todo).await.unwrap().is_some());
    assert_eq!(notes.history(id).await.unwrap().len(), 2);

    // A file of it fills another device that is by itself, with the same ids.
    let file = vault.export(tempfile::tempfile().unwrap(), ExportOptions::default()).await.unwrap().0;
    let there = alone(other.path()).await.vault("Personal").await.unwrap();
    let report = there.import(file, None).await.unwrap();
    assert_eq!((report.new, report.unreadable), (2, 0));
    assert_eq!(there.collection::<Note>("notes").get(id).await.unwrap(), Some(note("kept, and answered")));
}

#[tokio::test]
async fn signing_up_brings_along_what_was_there_and_another_device_sees_it() {
    let (server, data) = (Fake::start(), tempfile::tempdir().unwrap());
    let client = app(&server, data.path()).await;
    let held = client.vault("Personal").await.unwrap();
    let notes = held.collection::<Note>("notes");
    let id = notes.put(&note("Hello")).await.unwrap();
    client.use_server(URL).await.unwrap();
    let (account, key) = sign_up(&client).await;
    let tablet = server.device();
    let on_tablet = sign_in(&tablet, &key).await;
    on_tablet.sync().await.unwrap();
    let vault = on_tablet.vault("Personal").await.unwrap().unwrap();
    assert_eq!(vault.collection::<Note>("notes").get(id).await.unwrap(), Some(note("Hello")));
    assert!(vault.conflicts().await.unwrap().is_empty());
    // The handle the app held is one of the account's vault now.
    assert_eq!(held.id(), vault.id());
    notes.update(id, |note| note.likes = 1).await.unwrap();
    account.sync().await.unwrap();
    on_tablet.sync().await.unwrap();
    assert_eq!(vault.collection::<Note>("notes").get(id).await.unwrap().unwrap().likes, 1);
}

/// What an app shows in its corner from its first start on, whatever the person does.
#[tokio::test]
async fn one_status_tells_of_the_device_and_then_of_its_account() {
    let (server, data) = (Fake::start(), tempfile::tempdir().unwrap());
    let client = app(&server, data.path()).await;
    let mut status = client.status();
    let until = async |status: &mut (dyn Stream<Item = Status> + Send + Unpin), fits: &dyn Fn(&Status) -> bool| {
        let search = async {
            loop {
                let now = status.next().await.expect("it never ends");
                if fits(&now) {
                    return now;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), search).await.expect("it is told in time")
    };
    let first = status.next().await.unwrap();
    assert_eq!((first.state, first.pending), (SyncState::Alone, 0));
    let notes = client.vault("Personal").await.unwrap().collection::<Note>("notes");
    notes.put(&note("Hello")).await.unwrap();
    until(&mut status, &|now| now.state == SyncState::Alone && now.pending > 0).await;

    client.use_server(URL).await.unwrap();
    let (account, _) = sign_up(&client).await;
    account.sync().await.unwrap();
    let now = until(&mut status, &|now| matches!(now.state, SyncState::Synced { .. })).await;
    assert_eq!(now.pending, 0);
    notes.put(&note("Goodbye")).await.unwrap();
    until(&mut status, &|now| now.state == SyncState::Pending(1)).await;

    // The account is gone from this device, and what was its own.
    account.sync().await.unwrap();
    let _told = account.sign_out(SignOut::Wipe).await.unwrap();
    let now = until(&mut status, &|now| now.state == SyncState::Alone).await;
    assert_eq!(now.pending, 0);
}

#[tokio::test]
async fn signing_in_brings_records_into_the_vault_of_the_same_name() {
    let (server, data) = (Fake::start(), tempfile::tempdir().unwrap());
    let laptop = server.builder().in_memory().build().unwrap();
    let (on_laptop, key) = sign_up(&laptop).await;
    let first = laptop.vault("Personal").await.unwrap();
    first.collection::<Note>("notes").put(&note("from the laptop")).await.unwrap();
    on_laptop.sync().await.unwrap();
    let phone = app(&server, data.path()).await;
    let held = phone.vault("Personal").await.unwrap();
    let id = held.collection::<Note>("notes").put(&note("from the phone")).await.unwrap();
    phone.use_server(URL).await.unwrap();
    sign_in(&phone, &key).await;
    on_laptop.sync().await.unwrap();
    assert_eq!(titles(&first).await, ["from the laptop", "from the phone"]);
    assert_eq!(titles(&held).await, ["from the laptop", "from the phone"]);
    assert_eq!(first.collection::<Note>("notes").get(id).await.unwrap(), Some(note("from the phone")));
    assert_eq!((held.id(), on_laptop.vaults().await.unwrap().len()), (first.id(), 2), "and its own");
}

#[tokio::test]
async fn what_one_account_has_taken_over_is_not_shown_to_the_next() {
    let (server, data) = (Fake::start(), tempfile::tempdir().unwrap());
    let client = app(&server, data.path()).await;
    client.vault("Personal").await.unwrap().collection::<Note>("notes").put(&note("Ana's")).await.unwrap();
    client.use_server(URL).await.unwrap();
    let (ana, _) = sign_up(&client).await;
    let _told = ana.sign_out(SignOut::Keep).await.unwrap();
    assert_eq!(
        titles(&client.vault("Personal").await.unwrap()).await,
        ["Ana's"],
        "what the account has stays readable"
    );
    client.sign_up("bob", PASSWORD, SignUp::default()).await.unwrap();
    assert!(titles(&client.vault("Personal").await.unwrap()).await.is_empty());
    assert_eq!(client.attached().await.unwrap().unwrap().login_name(), "bob");
}

#[tokio::test]
async fn a_sign_in_whose_sync_does_not_get_through_brings_the_records_along_later() {
    let (server, data) = (Fake::start(), tempfile::tempdir().unwrap());
    let laptop = server.builder().in_memory().build().unwrap();
    let (on_laptop, key) = sign_up(&laptop).await;
    laptop.vault("Personal").await.unwrap();
    on_laptop.sync().await.unwrap();
    let phone = app(&server, data.path()).await;
    let held = phone.vault("Personal").await.unwrap();
    held.collection::<Note>("notes").put(&note("from the phone")).await.unwrap();
    phone.use_server(URL).await.unwrap();
    server.next_request_to("poll", crate::fake::Mishap::NotDelivered);
    sign_in(&phone, &key).await;
    assert!(phone.attached().await.unwrap().is_none());
    assert_eq!(titles(&phone.vault("Personal").await.unwrap()).await, ["from the phone"]);
    // Another start of the app, which names no server: it knows where its account was.
    drop((held, phone));
    let phone = app(&server, data.path()).await;
    phone.sync().await.unwrap();
    assert_eq!(phone.attached().await.unwrap().unwrap().login_name(), ANA);
    on_laptop.sync().await.unwrap();
    assert_eq!(titles(&laptop.vault("Personal").await.unwrap()).await, ["from the phone"]);
    assert_eq!(on_laptop.vaults().await.unwrap().len(), 2, "no second vault of that name, and the account's own");
}

#[tokio::test]
async fn two_calls_at_once_make_one_vault() {
    let (server, data) = (Fake::start(), tempfile::tempdir().unwrap());
    let client = app(&server, data.path()).await;
    let (one, other) = tokio::join!(client.vault("Personal"), client.vault("Personal"));
    assert_eq!(one.unwrap().id(), other.unwrap().id());
    client.use_server(URL).await.unwrap();
    let (account, _) = sign_up(&client).await;
    let (one, other) = tokio::join!(account.vault_of("Work", "app"), account.vault_of("Work", "app"));
    assert_eq!(one.unwrap().id(), other.unwrap().id());
}

#[tokio::test]
async fn without_a_server_or_an_account_what_needs_them_says_so() {
    let data = tempfile::tempdir().unwrap();
    let client = alone(data.path()).await;
    let vault = client.vault("Personal").await.unwrap();
    assert!(matches!(vault.sync().await, Err(Error::NoAccount)));
    assert!(matches!(client.sync().await, Err(Error::NoAccount)));
    assert!(matches!(client.server().await, Err(Error::NoServer)));
    assert!(matches!(client.sign_up(ANA, PASSWORD, SignUp::default()).await, Err(Error::NoServer)));
}

#[tokio::test]
async fn the_account_goes_on_at_a_new_address_of_its_server_and_shows_its_tokens_nowhere_else() {
    let (server, data) = (Fake::start(), tempfile::tempdir().unwrap());
    let client = app(&server, data.path()).await;
    client.use_server(URL).await.unwrap();
    let (account, _) = sign_up(&client).await;
    server.asked();
    client.use_server("https://new.example/").await.unwrap();
    assert!(matches!(account.sync().await, Err(Error::ServerNameDiffers { .. })));
    assert!(server.asked().is_empty(), "nothing was shown to a stranger");
    client.use_server(ServerAddress::new("https://new.example/").accept_name("home.example")).await.unwrap();
    account.sync().await.unwrap();
    assert_eq!(account.server_url(), "https://new.example/");
}

#[tokio::test]
async fn a_live_query_goes_on_when_an_account_takes_the_vault_over() {
    use futures_util::StreamExt as _;
    let (server, data) = (Fake::start(), tempfile::tempdir().unwrap());
    let client = app(&server, data.path()).await;
    let notes = client.vault("Personal").await.unwrap().collection::<Note>("notes");
    notes.put(&note("before")).await.unwrap();
    let mut live = notes.query().order_by("title", selkie_client::Order::Ascending).watch();
    assert_eq!(live.next().await.unwrap().unwrap().len(), 1);
    client.use_server(URL).await.unwrap();
    sign_up(&client).await;
    notes.put(&note("later")).await.unwrap();
    assert_eq!(live.next().await.unwrap().unwrap().len(), 2);
}

/// The vaults of one device, on a disk that can go away at any call.
#[derive(Debug)]
struct Disk {
    vaults: Mutex<BTreeMap<Folder, Arc<MemoryVaults>>>,
    sky: Arc<Mutex<Sky>>,
}

impl VaultStores for Disk {
    fn open(&self, account: &Folder) -> Result<Arc<dyn VaultStore>, StoreError> {
        let disk = self.vaults.lock().unwrap().entry(account.clone()).or_default().clone();
        Ok(Arc::new(Brittle { disk, sky: self.sky.clone() }))
    }

    fn remove(&self, account: &Folder) -> Result<(), StoreError> {
        self.vaults.lock().unwrap().remove(account);
        Ok(())
    }
}

#[tokio::test]
async fn taking_over_can_be_cut_off_at_every_call_of_the_store_and_ends_the_same() {
    for calls in 0.. {
        let server = Fake::start();
        let (accounts, sky) = (Arc::new(Memory::default()), Arc::new(Mutex::new(Sky::new(0))));
        let disk = Arc::new(Disk { vaults: Mutex::default(), sky: sky.clone() });
        let open = || server.alone().account_store(accounts.clone()).vault_stores(disk.clone()).build().unwrap();
        let client = open();
        let vault = client.vault("Personal").await.unwrap();
        let notes = vault.collection::<Note>("notes");
        let one = notes.put(&note("one")).await.unwrap();
        notes.update(one, |note| note.likes = 1).await.unwrap();
        notes.put_all(&[note("two"), note("three")]).await.unwrap();
        client.use_server(URL).await.unwrap();
        sky.lock().unwrap().weather.killed_at_the_store = Some(calls);
        // The account is made in any case: the records are not what a sign-up waits for.
        sign_up(&client).await;
        let was_reached = sky.lock().unwrap().weather.killed_at_the_store == Some(0);
        sky.lock().unwrap().weather.killed_at_the_store = None;

        drop((client, vault, notes));
        let client = open();
        client.use_server(URL).await.unwrap();
        assert!(client.sync().await.unwrap().first_error().is_none(), "after {calls} calls");
        assert!(client.attached().await.unwrap().is_some(), "after {calls} calls");
        let vault = client.vault("Personal").await.unwrap();
        assert_eq!(titles(&vault).await, ["one", "three", "two"], "after {calls} calls");
        assert_eq!(vault.history(one).await.unwrap().len(), 2, "after {calls} calls");
        assert!(vault.conflicts().await.unwrap().is_empty());
        assert_eq!(client.vaults().await.unwrap().len(), 1, "after {calls} calls");
        if !was_reached {
            return;
        }
    }
}
