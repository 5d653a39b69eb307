//! Several devices, several people, one log.

use super::{APP, another_device, id, person, same, text};
use crate::fake::Fake;
use selkie_client::{Role, VaultState};

#[tokio::test]
async fn two_devices_of_one_person_share_a_vault() {
    let server = Fake::start();
    let ana = person(&server, "ana@example.org").await;
    let laptop = ana.account.create_vault("Journal", APP).await.unwrap();
    laptop.put("notes", id(1), b"hello").await.unwrap();
    assert_eq!(text(&laptop, 1).await.as_deref(), Some("hello"), "readable at once, without a server");
    assert_eq!(laptop.summary().await.unwrap().state, VaultState::New);
    let report = laptop.sync().await.unwrap();
    assert_eq!((report.pushed, report.pending), (2, 0), "the name and the note");

    let phone = another_device(&server, "ana@example.org", &ana).await;
    let outcome = phone.sync().await.unwrap();
    assert!(outcome.first_error().is_none(), "{outcome:?}");
    let on_phone = phone.vault("Journal").await.unwrap().expect("it was found by the poll");
    assert_eq!(text(&on_phone, 1).await.as_deref(), Some("hello"));
    on_phone.put("notes", id(2), b"from the phone").await.unwrap();
    on_phone.sync().await.unwrap();
    laptop.sync().await.unwrap();
    assert_eq!(text(&laptop, 2).await.as_deref(), Some("from the phone"));
    same(&[&laptop, &on_phone]).await;
}

#[tokio::test]
async fn two_people_share_a_vault() {
    let server = Fake::start();
    let (ana, bob) = (person(&server, "ana@example.org").await, person(&server, "bob").await);
    let hers = ana.account.create_vault("Household", APP).await.unwrap();
    hers.put("notes", id(1), b"hers").await.unwrap();
    hers.add_member(bob.account.user_id(), Role::Editor).await.unwrap();
    hers.sync().await.unwrap();

    bob.account.sync().await.unwrap();
    let his = bob.account.vault("Household").await.unwrap().unwrap();
    assert_eq!(text(&his, 1).await.as_deref(), Some("hers"));
    his.put("notes", id(2), b"his").await.unwrap();
    his.sync().await.unwrap();
    hers.sync().await.unwrap();
    assert_eq!(text(&hers, 2).await.as_deref(), Some("his"));
    assert_eq!(hers.members().await.unwrap().len(), 2);
    same(&[&hers, &his]).await;
    let verified = his.verify().await.unwrap();
    assert_eq!(verified.digest, hers.digest().await.unwrap());
}
