//! What must be kept apart, and what must survive a server that is another than before.

use super::{home, journal, program};
use crate::fake::Fake;
use crate::records::{Note, note};
use crate::vaults::{APP, PASSWORD};
use async_trait::async_trait;
use selkie_client::transport::{Request, Response, Streamed, Transport, TransportError};
use selkie_client::{Error, RecordState, SignOut, SignUp, VaultState};
use std::sync::{Arc, Mutex};

/// An address at which one server stands today and another tomorrow.
#[derive(Debug)]
struct Address(Mutex<Arc<Fake>>);

#[async_trait]
impl Transport for Address {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        let server = self.0.lock().unwrap().clone();
        server.send(request).await
    }

    async fn stream(&self, request: Request) -> Result<Option<Streamed>, TransportError> {
        let server = self.0.lock().unwrap().clone();
        server.stream(request).await
    }
}

#[tokio::test]
async fn a_server_that_was_replaced_by_an_empty_one_costs_this_device_nothing() {
    for knows_people in [true, false] {
        let real = Fake::start();
        let address = Arc::new(Address(Mutex::new(real.clone())));
        let client = real.builder().transport(address.clone()).in_memory().build().unwrap();
        let ana = client.sign_up("ana@example.org", PASSWORD, SignUp::default()).await.unwrap();
        let vault = ana.account.create_vault("Journal", APP).await.unwrap();
        let notes = vault.collection::<Note>("notes");
        let first = notes.put(&note("first")).await.unwrap();
        for _ in 0..2 {
            assert!(ana.account.sync().await.unwrap().first_error().is_none());
        }
        let before = vault.digest().await.unwrap();

        // Somebody has set the server up anew: without anything, or with its accounts alone.
        let empty = if knows_people { real.with_the_same_people() } else { Fake::start() };
        *address.0.lock().unwrap() = empty;
        let unsent = notes.put(&note("meanwhile")).await.unwrap();
        for _ in 0..3 {
            match ana.account.sync().await {
                Ok(outcome) => assert!(outcome.first_error().is_some(), "it cannot look as if all were well"),
                Err(error) => assert!(!matches!(error, Error::Damaged { .. } | Error::Storage(_)), "{error:?}"),
            }
        }
        assert_eq!(notes.get(first).await.unwrap(), Some(note("first")));
        assert_eq!(notes.get(unsent).await.unwrap(), Some(note("meanwhile")));
        assert_eq!(vault.digest().await.unwrap(), before);
        let id = notes.put(&note("and on")).await.unwrap();
        assert_eq!(notes.query().count().await.unwrap(), 3, "work goes on");
        assert_ne!(notes.state(id).await.unwrap(), RecordState::Synced);
        assert!(vault.fetch_again().await.is_err() && vault.leave_out(selkie_client::Unsent::Keep).await.is_err());
        assert_eq!(notes.query().count().await.unwrap(), 3, "and nothing can be thrown away in good faith");

        // The real one is back.
        *address.0.lock().unwrap() = real.clone();
        if !ana.account.is_signed_in() {
            let key = ana.sheet.secret_key();
            client.sign_in("ana@example.org", PASSWORD, key, selkie_client::SignIn::default()).await.unwrap();
        }
        let account = client.account("ana@example.org").await.unwrap().unwrap();
        let synced = account.sync().await.unwrap();
        assert!(synced.first_error().is_none(), "{:?}", synced.first_error());
        let vault = journal(&account).await.unwrap();
        assert_eq!(vault.status().await.unwrap().state, VaultState::Ready);
        assert_eq!(vault.collection::<Note>("notes").state(id).await.unwrap(), RecordState::Synced);
    }
}

#[tokio::test]
async fn people_who_share_a_folder_see_nothing_of_each_other() {
    let home = home().await;
    let folder = home.copy();
    let client = super::client(&home.server, folder.path());
    let bob = client.sign_up("bob", PASSWORD, SignUp::default()).await.unwrap().account;
    let ana = client.account("ana@example.org").await.unwrap().unwrap();
    let hers = journal(&ana).await.unwrap();
    for _ in 0..2 {
        assert!(bob.sync().await.unwrap().first_error().is_none() && ana.sync().await.unwrap().first_error().is_none());
    }
    // By name, by id, by what is listed, by what is counted.
    assert!(bob.vault("Journal").await.unwrap().is_none() && bob.vault_by_id(hers.id()).await.unwrap().is_none());
    assert!(bob.vaults().await.unwrap().iter().all(|vault| vault.is_own));
    assert!(bob.storage().await.unwrap().vaults.iter().all(|vault| vault.id != hers.id()));
    assert!(bob.fetch_vault(hers.id()).await.is_err(), "the server does not give it to him either");
    assert!(bob.vault_by_id(hers.id()).await.unwrap().is_none());

    // A vault of the same name is another, and so is what is in it.
    let his = bob.create_vault("Journal", APP).await.unwrap();
    let notes = his.collection::<Note>("notes");
    let id = notes.put(&note("his")).await.unwrap();
    assert_eq!(notes.query().count().await.unwrap(), 1);
    assert_eq!(notes.get(home.notes[0]).await.unwrap(), None);
    assert_eq!(hers.collection::<Note>("notes").get(id).await.unwrap(), None);
    assert!(bob.sync().await.unwrap().first_error().is_none());
    assert!(bob.repair().await.unwrap().fetched.is_empty());

    // His going takes nothing of hers, at once and after a restart.
    assert!(bob.sign_out(SignOut::Wipe).await.unwrap().server_told);
    home.has_everything(&ana).await;
    drop((hers, ana, client, his, notes, bob));
    let ana = program(&home.server, folder.path()).await;
    home.has_everything(&ana).await;
    home.is_in_step(&ana).await;
    let client = super::client(&home.server, folder.path());
    assert!(client.account("bob").await.unwrap().is_none());
}
