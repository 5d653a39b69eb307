//! What a person's devices tell each other in the account's own vault: settings, names, and what each has seen.

use super::{APP, PASSWORD, another_device, id, person};
use crate::fake::{Fake, Mishap};
use selkie_client::{Account, Compared, Error, SignUp};
use std::collections::BTreeMap;

async fn in_step(accounts: &[&Account]) {
    for _ in 0..3 {
        for account in accounts {
            let outcome = account.sync().await.unwrap();
            assert!(outcome.first_error().is_none(), "{outcome:?}");
        }
    }
}

#[tokio::test]
async fn settings_are_the_same_on_all_devices() {
    let server = Fake::start();
    let ana = person(&server, "ana").await;
    let phone = another_device(&server, "ana", &ana).await;
    let (here, there) = (ana.account.settings(), phone.settings());
    here.put("org.example.journal/theme", b"dark").await.unwrap();
    assert_eq!(here.get("org.example.journal/theme").await.unwrap().as_deref(), Some(b"dark".as_slice()));
    in_step(&[&ana.account, &phone]).await;
    assert_eq!(there.get("org.example.journal/theme").await.unwrap().as_deref(), Some(b"dark".as_slice()));
    server.later(1_000);
    there.put("org.example.journal/theme", b"light").await.unwrap();
    in_step(&[&phone, &ana.account]).await;
    assert_eq!(here.get("org.example.journal/theme").await.unwrap().as_deref(), Some(b"light".as_slice()));
    here.remove("org.example.journal/theme").await.unwrap();
    in_step(&[&ana.account, &phone]).await;
    assert_eq!(there.get("org.example.journal/theme").await.unwrap(), None);
    assert_eq!(here.get("another").await.unwrap(), None);
    for body in server.all_bodies() {
        for word in [b"theme".as_slice(), b"dark"] {
            assert!(!body.windows(word.len()).any(|part| part == word), "the server sees neither name nor value");
        }
    }
    assert!(matches!(here.put("", b"x").await, Err(Error::ApiMisuse(_))));
    assert!(matches!(here.put("large", &[0; 20_000]).await, Err(Error::NotPossible(_))));
}

#[tokio::test]
async fn two_devices_that_each_made_the_accounts_vault_settle_on_one_and_lose_nothing() {
    let server = Fake::start();
    // The line breaks when the account is made, so that its vault is made later: by both devices at once.
    server.next_request_to("/v1/vaults", Mishap::NotDelivered);
    let ana = person(&server, "ana").await;
    let phone = another_device(&server, "ana", &ana).await;
    let (here, there) = (ana.account.settings(), phone.settings());
    here.put("only-here", b"1").await.unwrap();
    here.put("both", b"older").await.unwrap();
    server.later(5);
    there.put("only-there", b"2").await.unwrap();
    there.put("both", b"newer").await.unwrap();
    in_step(&[&ana.account, &phone]).await;
    let made = server.with(|world| {
        let all = world.vaults.all.values();
        all.filter(|one| one.log.core().app().as_str() == "selkie").count()
    });
    assert_eq!(made, 2, "each had made one");
    for settings in [&here, &there] {
        assert_eq!(settings.get("only-here").await.unwrap().as_deref(), Some(b"1".as_slice()));
        assert_eq!(settings.get("only-there").await.unwrap().as_deref(), Some(b"2".as_slice()));
        assert_eq!(settings.get("both").await.unwrap().as_deref(), Some(b"newer".as_slice()));
    }
    here.put("both", b"newest").await.unwrap();
    in_step(&[&ana.account, &phone]).await;
    assert_eq!(there.get("both").await.unwrap().as_deref(), Some(b"newest".as_slice()));
    // Whoever comes later finds the same.
    let tablet = another_device(&server, "ana", &ana).await;
    in_step(&[&tablet]).await;
    assert_eq!(tablet.settings().get("only-there").await.unwrap().as_deref(), Some(b"2".as_slice()));
}

#[tokio::test]
async fn the_accounts_vault_is_made_with_the_account_or_at_the_first_sync() {
    let own = |server: &std::sync::Arc<Fake>| {
        server.with(|world| {
            let all = world.vaults.all.values();
            all.filter(|one| one.log.core().app().as_str() == "selkie").count()
        })
    };
    let server = Fake::start();
    person(&server, "ana").await;
    assert_eq!(own(&server), 1, "at once");
    let server = Fake::start();
    for _ in 0..5 {
        server.next_request_to("/v1/vaults", Mishap::NotDelivered);
    }
    let made = server.device().sign_up("ana", PASSWORD, SignUp::default()).await.unwrap();
    assert_eq!(own(&server), 0, "the account is made all the same");
    in_step(&[&made.account]).await;
    assert_eq!(own(&server), 1);
}

#[tokio::test]
async fn devices_know_each_other_by_name() {
    let server = Fake::start();
    let ana = person(&server, "ana").await;
    let phone = another_device(&server, "ana", &ana).await;
    let link = ana.account.link_device().await.unwrap();
    let (code, newcomer) = (link.code().to_owned(), server.device());
    let lets_in = async { link.wait_for_request().await.unwrap().approve(super::PASSWORD).await.unwrap() };
    let comes_in = async { newcomer.link(&code, "watch").await.unwrap().finish().await.unwrap() };
    let ((), watch) = tokio::join!(lets_in, comes_in);
    in_step(&[&ana.account, &phone, &watch]).await;
    for account in [&ana.account, &phone, &watch] {
        let known = account.known_devices().await.unwrap();
        let mut names: Vec<&str> = known.iter().map(|device| device.name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["laptop", "phone", "watch"]);
        assert!(known.iter().all(|device| device.last_seen_ms > 0));
    }
}

#[tokio::test]
async fn devices_are_compared_by_what_they_have_told() {
    let server = Fake::start();
    let ana = person(&server, "ana").await;
    let phone = another_device(&server, "ana", &ana).await;
    let journal = ana.account.create_vault("Journal", APP).await.unwrap();
    journal.put("notes", id(1), b"one").await.unwrap();
    in_step(&[&ana.account, &phone]).await;
    server.later(3_600_000);
    in_step(&[&ana.account, &phone]).await;
    let compared = async || {
        let [vault] = <[_; 1]>::try_from(ana.account.compare().await.unwrap()).unwrap();
        assert_eq!((vault.vault, vault.name.as_deref()), (journal.id(), Some("Journal")));
        assert_eq!(vault.here, journal.digest().await.unwrap());
        let [device] = <[_; 1]>::try_from(vault.devices).unwrap();
        assert_eq!(device.name, "phone");
        device
    };
    let device = compared().await;
    assert_eq!((device.compared, device.digest), (Compared::Same, journal.digest().await.unwrap()));

    // The phone lies in a drawer, and stays where it was.
    let then = device.digest;
    for _ in 0..2 {
        journal.put("notes", id(2), b"two").await.unwrap();
        assert!(ana.account.sync().await.unwrap().first_error().is_none());
    }
    let device = compared().await;
    let entries = journal.digest().await.unwrap().n - then.n;
    assert!(entries >= 2);
    assert_eq!((device.compared, device.digest), (Compared::Behind(entries), then));

    // What was told in another life of the server says nothing about this one.
    let ends = BTreeMap::from([(journal.id(), then.n + entries)]);
    server.with(|world| {
        let people = world.people();
        world.vaults.restore(&ends, &people);
    });
    assert!(ana.account.sync().await.unwrap().first_error().is_none());
    assert_eq!(compared().await.compared, Compared::Unknown);
}

#[tokio::test]
async fn a_restored_server_does_not_stop_devices_from_telling_each_other() {
    let server = Fake::start();
    let ana = person(&server, "ana").await;
    let phone = another_device(&server, "ana", &ana).await;
    let journal = ana.account.create_vault("Journal", APP).await.unwrap();
    journal.put("notes", id(1), b"one").await.unwrap();
    in_step(&[&ana.account, &phone]).await;
    let ends = server.with(|world| {
        let all = world.vaults.all.iter();
        all.map(|(vault, one)| (*vault, one.log.head().n)).collect::<std::collections::BTreeMap<_, _>>()
    });
    ana.account.settings().put("kept", b"in the tail").await.unwrap();
    ana.account.sync().await.unwrap();
    server.with(|world| {
        let people = world.people();
        world.vaults.restore(&ends, &people);
    });
    // The phone, which has not seen it, writes first.
    phone.settings().put("new", b"after it").await.unwrap();
    in_step(&[&phone]).await;
    let outcome = ana.account.sync().await.unwrap();
    assert!(outcome.first_error().is_none(), "{outcome:?}");
    let given_up: u64 = outcome.vaults.iter().flat_map(|(_, done)| done).map(|report| report.given_up).sum();
    assert!(given_up > 0, "it is told, not hidden");
    in_step(&[&ana.account, &phone]).await;
    for account in [&ana.account, &phone] {
        let settings = account.settings();
        assert_eq!(settings.get("kept").await.unwrap().as_deref(), Some(b"in the tail".as_slice()));
        assert_eq!(settings.get("new").await.unwrap().as_deref(), Some(b"after it".as_slice()));
    }
}
