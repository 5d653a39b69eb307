//! A server that says it was restored, and goes on in the life before that for others.

use super::{APP, another_device, id, person, text};
use crate::fake::Fake;
use selkie_client::{Account, Error, Misbehaviour, Proof, SignedUp, Vault, VaultState, judge};
use selkie_protocol::id::Incarnation;
use std::sync::Arc;

const NEXT: Incarnation = Incarnation([2; 16]);

/// A laptop, which is told of a restore, and a phone, which is not.
struct Scene {
    server: Arc<Fake>,
    ana: SignedUp,
    laptop: Vault,
    phone: Account,
}

impl Scene {
    async fn begin() -> Scene {
        let server = Fake::start();
        let ana = person(&server, "ana").await;
        let laptop = ana.account.create_vault("Journal", APP).await.unwrap();
        laptop.put("notes", id(1), b"one").await.unwrap();
        ana.account.sync().await.unwrap();
        let phone = another_device(&server, "ana", &ana).await;
        for account in [&phone, &ana.account, &phone] {
            account.sync().await.unwrap();
        }
        server.later(3_600_000);
        Scene { server, ana, laptop, phone }
    }

    fn lives(&self, life: Incarnation) {
        self.server.later(3_600_000);
        self.server.with(|world| world.vaults.incarnation = life);
    }

    fn first_life(&self) -> Incarnation {
        self.server.with(|world| world.vaults.incarnation)
    }
}

#[tokio::test]
async fn mal_061_a_server_that_lives_two_lives_is_caught_by_what_devices_tell_each_other() {
    let scene = Scene::begin().await;
    let first = scene.first_life();
    // The laptop lacks nothing, so for it this is a restore like any other.
    scene.lives(NEXT);
    scene.laptop.put("notes", id(2), b"for the laptop alone").await.unwrap();
    for _ in 0..2 {
        scene.ana.account.sync().await.unwrap();
    }
    assert!(scene.laptop.export_evidence().await.unwrap().is_empty());

    scene.lives(first);
    let on_phone = scene.phone.vault("Journal").await.unwrap().unwrap();
    on_phone.put("notes", id(3), b"as if nothing had been").await.unwrap();
    scene.phone.sync().await.unwrap();
    let told = scene.phone.sync().await.unwrap();
    let error = told.first_error().map(|(_, error)| error);
    assert!(matches!(error, Some(Error::Quarantined(why)) if why.kind == Misbehaviour::TwoLives), "{told:?}");
    assert!(matches!(on_phone.status().await.unwrap().state, VaultState::Quarantined(_)));
    assert_eq!(text(&on_phone, 3).await.as_deref(), Some("as if nothing had been"), "what is here stays");
    let evidence = on_phone.export_evidence().await.unwrap();
    let found = judge(&evidence[0], None).unwrap();
    assert!(found.proofs.contains(&Proof::TwoLives), "{found:?}");
}

#[tokio::test]
async fn mal_061_a_life_that_was_over_does_not_come_back() {
    let scene = Scene::begin().await;
    let first = scene.first_life();
    scene.lives(NEXT);
    scene.ana.account.sync().await.unwrap();
    scene.lives(first);
    for _ in 0..2 {
        let caught = scene.ana.account.sync().await;
        let kind = Misbehaviour::TwoLives;
        assert!(matches!(&caught, Err(Error::ServerMisbehaved { kind: it, .. }) if *it == kind), "{caught:?}");
    }
}

#[tokio::test]
async fn a_device_that_slept_through_lives_of_the_server_accuses_nobody() {
    let scene = Scene::begin().await;
    for life in [2, 3, 4] {
        scene.lives(Incarnation([life; 16]));
        for _ in 0..2 {
            scene.ana.account.sync().await.unwrap();
        }
        if life == 3 {
            scene.phone.sync().await.unwrap();
        }
    }
    for account in [&scene.phone, &scene.ana.account, &scene.phone] {
        let synced = account.sync().await.unwrap();
        assert!(synced.first_error().is_none(), "{synced:?}");
    }
}
