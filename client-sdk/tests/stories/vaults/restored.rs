//! A server that was restored from a backup: no alarm for an honest one, and nothing lost that somebody has.

use super::{APP, another_device, id, person, same, text};
use crate::fake::Fake;
use selkie_client::{Error, Vault, VaultState};
use std::collections::BTreeMap;
use std::sync::Arc;

fn restore(server: &Arc<Fake>, vault: &Vault, n: u64) {
    server.with(|world| {
        let people = world.people();
        world.vaults.restore(&BTreeMap::from([(vault.id(), n)]), &people);
    });
}

#[tokio::test]
async fn a_device_that_has_the_end_puts_it_back() {
    let server = Fake::start();
    let ana = person(&server, "ana@example.org").await;
    let laptop = ana.account.create_vault("Journal", APP).await.unwrap();
    for number in 1..6 {
        laptop.put("notes", id(number), b"note").await.unwrap();
        laptop.sync().await.unwrap();
    }
    let before = laptop.digest().await.unwrap();
    restore(&server, &laptop, 2);
    let report = laptop.sync().await.unwrap();
    assert_eq!(report.restored, before.n - 2);
    assert_eq!(laptop.digest().await.unwrap(), before);
    let phone = another_device(&server, "ana@example.org", &ana).await;
    phone.sync().await.unwrap();
    let on_phone = phone.vault("Journal").await.unwrap().unwrap();
    on_phone.put("notes", id(9), b"after").await.unwrap();
    on_phone.sync().await.unwrap();
    laptop.sync().await.unwrap();
    same(&[&laptop, &on_phone]).await;
}

#[tokio::test]
async fn what_nobody_can_put_back_is_given_up_by_an_owner_and_agreed_to() {
    let server = Fake::start();
    let ana = person(&server, "ana@example.org").await;
    let laptop = ana.account.create_vault("Journal", APP).await.unwrap();
    laptop.put("notes", id(1), b"kept").await.unwrap();
    laptop.sync().await.unwrap();
    let phone = another_device(&server, "ana@example.org", &ana).await;
    phone.sync().await.unwrap();
    let on_phone = phone.vault("Journal").await.unwrap().unwrap();
    laptop.put("notes", id(2), b"lost on the server").await.unwrap();
    laptop.sync().await.unwrap();
    on_phone.sync().await.unwrap();
    let before = laptop.digest().await.unwrap();

    restore(&server, &laptop, before.n - 1);
    server.with(|world| world.vaults.refuse_tails = true);
    assert!(matches!(laptop.sync().await, Err(Error::ServerBehind { missing: 1 })));
    assert!(matches!(laptop.status().await.unwrap().state, VaultState::ServerBehind { missing: 1 }));
    on_phone.put("notes", id(3), b"not sent yet").await.unwrap();

    laptop.reset_tail().await.unwrap();
    assert_eq!(text(&laptop, 2).await.as_deref(), Some("lost on the server"), "its own write is written again");
    let error = on_phone.sync().await.unwrap_err();
    assert!(matches!(error, Error::TailReset { lost: 1 }), "{error:?}");
    assert!(matches!(on_phone.status().await.unwrap().state, VaultState::TailReset { lost: 1 }));
    on_phone.accept_reset().await.unwrap();
    laptop.sync().await.unwrap();
    on_phone.sync().await.unwrap();
    laptop.sync().await.unwrap();
    for vault in [&laptop, &on_phone] {
        assert_eq!(text(vault, 1).await.as_deref(), Some("kept"));
        assert_eq!(text(vault, 2).await.as_deref(), Some("lost on the server"));
        assert_eq!(text(vault, 3).await.as_deref(), Some("not sent yet"));
    }
    same(&[&laptop, &on_phone]).await;
}
