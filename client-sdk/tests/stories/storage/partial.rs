//! Vaults that are not on every device of their people.

use crate::fake::{Fake, Mishap};
use crate::records::{Note, note};
use crate::vaults::{APP, another_device, person};
use futures_util::StreamExt as _;
use selkie_client::{Account, Error, Unsent, Vault, VaultId};
use std::collections::BTreeMap;

async fn in_step(account: &Account) {
    let synced = account.sync().await.unwrap();
    assert!(synced.first_error().is_none(), "{:?}", synced.first_error());
}

async fn left_out(account: &Account) -> Vec<(VaultId, Option<String>)> {
    account.left_out().await.unwrap().into_iter().map(|left| (left.id, left.name)).collect()
}

async fn titles(vault: &Vault) -> Vec<String> {
    let mut titles: Vec<String> =
        vault.collection::<Note>("notes").query().all().await.unwrap().into_iter().map(|one| one.value.title).collect();
    titles.sort();
    titles
}

#[tokio::test]
async fn a_vault_is_dropped_from_one_device_left_alone_and_fetched_again() {
    let server = Fake::start();
    let ana = person(&server, "ana@example.org").await;
    let photos = ana.account.create_vault("Photos", APP).await.unwrap();
    photos.collection("notes").put(&note("one")).await.unwrap();
    in_step(&ana.account).await;
    let phone = another_device(&server, "ana@example.org", &ana).await;
    in_step(&phone).await;
    let on_phone = phone.vault("Photos").await.unwrap().unwrap();
    let before = phone.storage().await.unwrap().total;

    on_phone.leave_out(Unsent::Keep).await.unwrap();
    assert!(phone.vault("Photos").await.unwrap().is_none() && phone.vault_by_id(photos.id()).await.unwrap().is_none());
    assert!(phone.storage().await.unwrap().total < before);
    assert_eq!(on_phone.digest().await.unwrap_err().word(), "not_possible", "an old handle leads nowhere");
    assert!(on_phone.put("notes", on_phone.new_record_id(), b"x").await.is_err());
    photos.collection("notes").put(&note("two")).await.unwrap();
    in_step(&ana.account).await;
    server.asked();
    for _ in 0..2 {
        in_step(&phone).await;
    }
    let asked = server.asked();
    assert!(!asked.iter().any(|path| path.contains(&photos.id().to_string())), "it is left alone: {asked:?}");
    assert_eq!(phone.status().next().await.unwrap().left_out, 1);
    assert_eq!(left_out(&phone).await, [(photos.id(), Some("Photos".to_owned()))]);

    let again = phone.fetch_vault(photos.id()).await.unwrap();
    assert_eq!(titles(&again).await, ["one", "two"]);
    assert_eq!((left_out(&phone).await, phone.status().next().await.unwrap().left_out), (vec![], 0));
    again.collection("notes").put(&note("three")).await.unwrap();
    in_step(&phone).await;
    in_step(&ana.account).await;
    assert_eq!(titles(&photos).await, ["one", "three", "two"]);
    assert_eq!(photos.digest().await.unwrap(), again.digest().await.unwrap());
}

#[tokio::test]
async fn what_only_this_device_has_is_dropped_by_nobody_who_does_not_say_so() {
    let server = Fake::start();
    let ana = person(&server, "ana@example.org").await;
    let photos = ana.account.create_vault("Photos", APP).await.unwrap();
    assert!(matches!(photos.leave_out(Unsent::Keep).await, Err(Error::NotPossible(why)) if why.contains("server")));
    in_step(&ana.account).await;
    let notes = photos.collection::<Note>("notes");
    let id = notes.put(&note("unsent")).await.unwrap();
    let refused = photos.leave_out(Unsent::Keep).await.unwrap_err();
    assert!(refused.to_string().contains("1 writes"), "{refused}");
    assert_eq!(notes.get(id).await.unwrap(), Some(note("unsent")), "and it is still here");
    assert_eq!(left_out(&ana.account).await, []);
    in_step(&ana.account).await;

    notes.put(&note("given up")).await.unwrap();
    photos.leave_out(Unsent::GiveUp).await.unwrap();
    let again = ana.account.fetch_vault(photos.id()).await.unwrap();
    assert_eq!(titles(&again).await, ["unsent"]);

    // What the devices tell each other is no vault of an app.
    for summary in ana.account.vaults().await.unwrap().into_iter().filter(|vault| vault.is_own) {
        let own = ana.account.vault_by_id(summary.id).await.unwrap().unwrap();
        assert!(own.leave_out(Unsent::GiveUp).await.is_err());
    }
}

#[tokio::test]
async fn a_server_that_shows_less_than_before_the_vault_was_dropped_is_caught() {
    let server = Fake::start();
    let ana = person(&server, "ana@example.org").await;
    let photos = ana.account.create_vault("Photos", APP).await.unwrap();
    photos.collection("notes").put(&note("one")).await.unwrap();
    in_step(&ana.account).await;
    let phone = another_device(&server, "ana@example.org", &ana).await;
    in_step(&phone).await;
    photos.collection("notes").put(&note("two")).await.unwrap();
    in_step(&ana.account).await;
    in_step(&phone).await;
    let on_phone = phone.vault("Photos").await.unwrap().unwrap();
    let seen = on_phone.digest().await.unwrap().n;
    on_phone.leave_out(Unsent::Keep).await.unwrap();
    // Back in time, and in the same life: no honest restore.
    server.with(|world| {
        let (life, people) = (world.vaults.incarnation, world.people());
        world.vaults.restore(&BTreeMap::from([(photos.id(), seen - 1)]), &people);
        world.vaults.incarnation = life;
    });
    // A fetch that is cut off, again and again, makes the device forget nothing.
    for _ in 0..2 {
        server.next_request_to(&photos.id().to_string(), Mishap::NotDelivered);
        assert!(phone.fetch_vault(photos.id()).await.unwrap_err().is_retryable());
    }
    let round = phone.sync().await.unwrap();
    let caught = round.first_error().expect("the vault is not in step");
    assert_eq!((*caught.0, matches!(caught.1, Error::Quarantined(_))), (photos.id(), true), "{:?}", caught.1);
    let caught = phone.fetch_vault(photos.id()).await.unwrap_err();
    assert!(matches!(caught, Error::Quarantined(_)), "{caught:?}");
}

#[tokio::test]
async fn a_device_with_little_room_fetches_what_it_is_asked_for() {
    let server = Fake::start();
    let ana = person(&server, "ana@example.org").await;
    let photos = ana.account.create_vault("Photos", APP).await.unwrap();
    photos.collection("notes").put(&note("one")).await.unwrap();
    in_step(&ana.account).await;
    let phone = another_device(&server, "ana@example.org", &ana).await;
    phone.leave_new_vaults_out(true).await.unwrap();
    in_step(&phone).await;
    assert!(phone.vaults().await.unwrap().iter().all(|vault| vault.is_own));
    assert_eq!(left_out(&phone).await, [(photos.id(), None)], "what it is called cannot be known yet");

    // Asked for in a tunnel, it comes with the next sync.
    server.next_request_to(&photos.id().to_string(), Mishap::NotDelivered);
    assert!(phone.fetch_vault(photos.id()).await.unwrap_err().is_retryable());
    assert_eq!(left_out(&phone).await, [], "it was asked for");
    in_step(&phone).await;
    assert_eq!(titles(&phone.vault("Photos").await.unwrap().unwrap()).await, ["one"]);
    assert_eq!(left_out(&phone).await, []);
}
