//! A server that was restored from a backup: no alarm for an honest one, and nothing lost that somebody has.

use super::{APP, another_device, id, person, same, text};
use crate::fake::Fake;
use selkie_client::{Error, Role, Vault, VaultState};
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
async fn a_vault_that_is_younger_than_the_backup_is_made_again_by_the_device_that_made_it() {
    let server = Fake::start();
    let ana = person(&server, "ana@example.org").await;
    let laptop = ana.account.create_vault("Journal", APP).await.unwrap();
    laptop.put("notes", id(1), b"one").await.unwrap();
    ana.account.sync().await.unwrap();
    let phone = another_device(&server, "ana@example.org", &ana).await;
    phone.sync().await.unwrap();
    let on_phone = phone.vault("Journal").await.unwrap().unwrap();
    on_phone.put("notes", id(2), b"two").await.unwrap();
    phone.sync().await.unwrap();
    ana.account.sync().await.unwrap();

    restore(&server, &laptop, 0);
    // Whoever did not make it waits, and says what for.
    let synced = phone.sync().await.unwrap();
    assert!(matches!(synced.first_error(), Some((_, Error::ServerBehind { .. }))), "{synced:?}");
    assert!(matches!(on_phone.status().await.unwrap().state, VaultState::ServerBehind { .. }));
    on_phone.put("notes", id(3), b"three, while it was gone").await.unwrap();

    let synced = ana.account.sync().await.unwrap();
    assert!(synced.first_error().is_none(), "{synced:?}");
    for device in [&phone, &ana.account] {
        let synced = device.sync().await.unwrap();
        assert!(synced.first_error().is_none(), "{synced:?}");
    }
    for vault in [&laptop, &on_phone] {
        for number in 1..4 {
            assert!(text(vault, number).await.is_some(), "{number}");
        }
    }
    same(&[&laptop, &on_phone]).await;
    // A device that comes now finds it, and the key to it.
    let tablet = another_device(&server, "ana@example.org", &ana).await;
    tablet.sync().await.unwrap();
    let on_tablet = tablet.vault("Journal").await.unwrap().unwrap();
    assert_eq!(text(&on_tablet, 3).await.as_deref(), Some("three, while it was gone"));
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
    server.refuse("/restore-tail");
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

/// It has let it go, and still has the entries as they came.
#[tokio::test]
async fn what_a_device_has_let_go_of_its_own_is_written_again_as_well() {
    let server = Fake::start();
    let ana = person(&server, "ana@example.org").await;
    let laptop = ana.account.create_vault("Journal", APP).await.unwrap();
    laptop.put("notes", id(1), b"kept").await.unwrap();
    laptop.sync().await.unwrap();
    for number in 2..5 {
        laptop.put("notes", id(number), &[number]).await.unwrap();
    }
    laptop.sync().await.unwrap();
    server.later(1_000);
    assert_eq!(laptop.let_go(std::time::Duration::ZERO).await.unwrap().records, 4);
    restore(&server, &laptop, laptop.digest().await.unwrap().n - 1);
    server.refuse("/restore-tail");
    assert!(matches!(laptop.sync().await, Err(Error::ServerBehind { missing: 1 })));
    let refused = laptop.let_go(std::time::Duration::ZERO).await.unwrap_err();
    assert!(refused.to_string().contains("lost some of it"), "{refused}");
    laptop.reset_tail().await.unwrap();
    laptop.sync().await.unwrap();
    assert_eq!(laptop.elsewhere().await.unwrap(), [], "it was read anew");
    for number in 2..5 {
        assert_eq!(laptop.get(id(number)).await.unwrap().unwrap().data, [number]);
    }
    let phone = another_device(&server, "ana@example.org", &ana).await;
    phone.sync().await.unwrap();
    laptop.sync().await.unwrap();
    same(&[&laptop, &phone.vault("Journal").await.unwrap().unwrap()]).await;
}

#[tokio::test]
async fn a_long_tail_is_put_back_in_parts_and_goes_on_where_it_was_cut_off() {
    let server = Fake::start();
    let ana = person(&server, "ana@example.org").await;
    let laptop = ana.account.create_vault("Journal", APP).await.unwrap();
    for number in 1..12 {
        laptop.put("notes", id(number), b"note").await.unwrap();
        laptop.sync().await.unwrap();
    }
    let before = laptop.digest().await.unwrap();
    restore(&server, &laptop, 2);
    server.with(|world| world.vaults.most_put_back = 3);
    // Twice the round ends in the middle: a part is back, and the device has not heard of it.
    server.bend(|path, body| if path.ends_with("restore-tail") { b"nonsense".to_vec() } else { body });
    let at = || server.with(|world| world.vaults.all[&laptop.id()].log.head().n);
    let mut reached = vec![at()];
    for _ in 0..2 {
        assert!(matches!(laptop.sync().await, Err(Error::UnsupportedProtocol(_))));
        reached.push(at());
    }
    assert!(reached.is_sorted_by(|one, next| one < next), "each time it went on from there: {reached:?}");
    server.be_honest();
    laptop.sync().await.unwrap();
    assert_eq!(laptop.digest().await.unwrap(), before);
    assert_eq!(server.with(|world| world.vaults.all[&laptop.id()].log.head().h), before.h);
    let asked = server.asked();
    let parts = asked.iter().filter(|path| path.ends_with("restore-tail")).count();
    assert!(parts >= 4, "{parts} requests");
    assert_eq!(laptop.status().await.unwrap().state, VaultState::Ready);
}

/// A vault of two people; then the server is restored, and Bob, who had not seen the end of it, writes first.
struct Hole {
    server: Arc<Fake>,
    laptop: Vault,
    his: Vault,
    lost: u64,
}

async fn hole() -> Hole {
    let server = Fake::start();
    let (ana, bob) = (person(&server, "ana").await, person(&server, "bob").await);
    let laptop = ana.account.create_vault("Shared", APP).await.unwrap();
    laptop.put("notes", id(1), b"kept").await.unwrap();
    laptop.sync().await.unwrap();
    laptop.add_member(bob.account.user_id(), Role::Editor).await.unwrap();
    bob.account.sync().await.unwrap();
    laptop.sync().await.unwrap();
    let backup = laptop.digest().await.unwrap().n;
    for (number, text) in [(1, "by ana, lost"), (2, "only in the tail")] {
        laptop.put("notes", id(number), text.as_bytes()).await.unwrap();
        laptop.sync().await.unwrap();
    }
    restore(&server, &laptop, backup);
    server.later(10_000);
    let his = bob.account.vault("Shared").await.unwrap().unwrap();
    his.put("notes", id(1), b"by bob, afterwards").await.unwrap();
    his.put("notes", id(3), b"new").await.unwrap();
    his.sync().await.unwrap();
    let lost = laptop.digest().await.unwrap().n - backup;
    Hole { server, laptop, his, lost }
}

#[tokio::test]
async fn who_writes_first_to_a_restored_server_makes_nobody_a_liar_and_nothing_is_lost() {
    let Hole { laptop, his, lost, .. } = hole().await;
    laptop.put("notes", id(4), b"not sent yet").await.unwrap();
    for _ in 0..2 {
        let told = laptop.sync().await;
        assert!(matches!(told, Err(Error::ServerBehind { missing }) if missing == lost), "{told:?}");
    }
    assert_eq!(laptop.status().await.unwrap().state, VaultState::ServerBehind { missing: lost });
    assert!(laptop.export_evidence().await.unwrap().is_empty(), "a restore is no lie");
    assert_eq!(text(&laptop, 2).await.as_deref(), Some("only in the tail"), "what is here stays");

    laptop.reset_tail().await.unwrap();
    his.sync().await.unwrap();
    laptop.sync().await.unwrap();
    same(&[&laptop, &his]).await;
    for vault in [&laptop, &his] {
        assert_eq!(text(vault, 1).await.as_deref(), Some("by bob, afterwards"), "the newest is what it says");
        assert_eq!(text(vault, 2).await.as_deref(), Some("only in the tail"));
        assert_eq!(text(vault, 3).await.as_deref(), Some("new"));
        assert_eq!(text(vault, 4).await.as_deref(), Some("not sent yet"));
        let versions = vault.history(id(1)).await.unwrap();
        assert!(versions.iter().any(|version| version.data == b"by ana, lost"), "and the other is not lost");
    }
    assert_eq!(laptop.conflicts().await.unwrap().len(), 1, "where both had written");
}

#[tokio::test]
async fn who_is_no_owner_waits_for_one_and_is_asked_once() {
    let server = Fake::start();
    let (ana, bob) = (person(&server, "ana").await, person(&server, "bob").await);
    let laptop = ana.account.create_vault("Shared", APP).await.unwrap();
    laptop.sync().await.unwrap();
    laptop.add_member(bob.account.user_id(), Role::Editor).await.unwrap();
    bob.account.sync().await.unwrap();
    laptop.sync().await.unwrap();
    let backup = laptop.digest().await.unwrap().n;
    let his = bob.account.vault("Shared").await.unwrap().unwrap();
    his.put("notes", id(1), b"by bob, lost").await.unwrap();
    his.sync().await.unwrap();
    restore(&server, &laptop, backup);
    laptop.put("notes", id(2), b"by ana, afterwards").await.unwrap();
    laptop.sync().await.unwrap();

    let told = his.sync().await;
    assert!(matches!(told, Err(Error::ServerBehind { missing: 1 })), "{told:?}");
    assert!(matches!(his.reset_tail().await, Err(Error::NotPossible(_))), "that is not his to decide");
    // Ana's own device lacks nothing. She decides because Bob asks her to.
    laptop.reset_tail().await.unwrap();
    let told = his.sync().await;
    assert!(matches!(told, Err(Error::TailReset { lost: 1 })), "{told:?}");
    his.accept_reset().await.unwrap();
    laptop.sync().await.unwrap();
    same(&[&laptop, &his]).await;
    for vault in [&laptop, &his] {
        assert_eq!(text(vault, 1).await.as_deref(), Some("by bob, lost"), "he had written it, so he wrote it again");
        assert_eq!(text(vault, 2).await.as_deref(), Some("by ana, afterwards"));
    }
    assert!(his.sync().await.is_ok(), "he is not asked again");
}

#[tokio::test]
async fn a_rollback_that_says_it_was_a_restore_is_told_and_one_that_does_not_is_an_alarm() {
    let Hole { server, laptop, lost, .. } = hole().await;
    // The same shorter log, in the life in which the laptop knows the longer one.
    server.with(|world| world.vaults.incarnation = selkie_protocol::id::Incarnation([1; 16]));
    let error = laptop.sync().await.unwrap_err();
    assert!(matches!(error, Error::Quarantined(_)), "{error:?}");
    let Hole { laptop, lost: again, .. } = hole().await;
    assert!(matches!(laptop.sync().await, Err(Error::ServerBehind { missing }) if missing == again && again == lost));
}
