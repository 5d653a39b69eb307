//! What a lying server shows of a vault, and what becomes of it: the right alarm, nothing believed, the proof kept.

use super::{APP, another_device, id, person, text};
use crate::fake::{Fake, vaults::Vaults};
use selkie_client::{Account, Error, Misbehaviour, Role, SignedUp, Vault, VaultState};
use selkie_protocol::Face;
use selkie_protocol::log::Head;
use selkie_protocol::vault::{LogFrames, Pushed, Wraps};
use std::sync::Arc;

pub(super) struct Scene {
    pub(super) server: Arc<Fake>,
    pub(super) ana: SignedUp,
    pub(super) phone: Account,
    pub(super) laptop: Vault,
    pub(super) on_phone: Vault,
}

/// Two devices in step, then three more entries from the phone that the laptop has not seen.
pub(super) async fn scene() -> Scene {
    let server = Fake::start();
    let ana = person(&server, "ana@example.org").await;
    let laptop = ana.account.create_vault("Journal", APP).await.unwrap();
    laptop.put("notes", id(1), b"first").await.unwrap();
    laptop.sync().await.unwrap();
    let phone = another_device(&server, "ana@example.org", &ana).await;
    phone.sync().await.unwrap();
    let on_phone = phone.vault("Journal").await.unwrap().unwrap();
    for number in 2..5 {
        on_phone.put("notes", id(number), b"from the phone").await.unwrap();
        on_phone.sync().await.unwrap();
    }
    Scene { server, ana, phone, laptop, on_phone }
}

impl Scene {
    pub(super) fn vaults<T>(&self, work: impl FnOnce(&mut Vaults) -> T) -> T {
        self.server.with(|world| work(&mut world.vaults))
    }

    /// Answers to pulls are changed before they leave.
    pub(super) fn bend_log(&self, bend: impl Fn(&mut LogFrames) + Send + Sync + 'static) {
        self.server.bend(move |path, body| {
            if !path.contains("/log?after") {
                return body;
            }
            let mut page: LogFrames = Face::Cbor.decode(&body).unwrap();
            bend(&mut page);
            Face::Cbor.encode(&page)
        });
    }

    /// The laptop notices, keeps what it had, and the proof.
    pub(super) async fn is_caught(&self, kind: Misbehaviour) {
        let before = self.laptop.digest().await.unwrap();
        let error = self.laptop.sync().await.unwrap_err();
        let Error::Quarantined(quarantine) = &error else { panic!("{kind:?}: {error:?}") };
        assert_eq!(quarantine.kind, kind, "{quarantine:?}");
        assert!(!quarantine.expected.is_empty() && !quarantine.found.is_empty());
        assert_eq!(self.laptop.digest().await.unwrap(), before, "nothing was applied");
        assert_eq!(text(&self.laptop, 1).await.as_deref(), Some("first"), "what is here stays readable");
        self.laptop.put("notes", id(9), b"offline").await.unwrap();
        assert_eq!(text(&self.laptop, 9).await.as_deref(), Some("offline"), "and writable");
        assert!(matches!(self.laptop.status().await.unwrap().state, VaultState::Quarantined(_)));
        let evidence = self.laptop.export_evidence().await.unwrap();
        assert_eq!(evidence.len(), 1, "{kind:?}");
        self.server.asked();
        assert!(matches!(self.laptop.sync().await, Err(Error::Quarantined(_))), "it stays apart");
        assert!(self.server.asked().is_empty(), "and asks for nothing");
    }
}

#[tokio::test]
async fn a_dropped_entry() {
    let scene = scene().await;
    scene.bend_log(|page| {
        if page.frames.len() > 1 {
            page.frames.remove(0);
        }
    });
    scene.is_caught(Misbehaviour::ForgedEntry).await;
}

#[tokio::test]
async fn entries_in_another_order() {
    let scene = scene().await;
    scene.bend_log(|page| page.frames.reverse());
    scene.is_caught(Misbehaviour::ForgedEntry).await;
}

#[tokio::test]
async fn an_entry_twice() {
    let scene = scene().await;
    scene.bend_log(|page| {
        if let Some(first) = page.frames.first().cloned() {
            page.frames.insert(1, first);
        }
    });
    scene.is_caught(Misbehaviour::ForgedEntry).await;
}

#[tokio::test]
async fn a_bit_of_an_entry() {
    let scene = scene().await;
    scene.bend_log(|page| {
        if let Some(first) = page.frames.first_mut() {
            first.0[4 + 220 + 10] ^= 1;
        }
    });
    scene.is_caught(Misbehaviour::ForgedEntry).await;
}

#[tokio::test]
async fn the_end_of_the_log_held_back() {
    let scene = scene().await;
    scene.bend_log(|page| page.frames.clear());
    scene.is_caught(Misbehaviour::VaultRollback).await;
}

#[tokio::test]
async fn an_earlier_state() {
    let scene = scene().await;
    scene.laptop.sync().await.unwrap();
    scene.server.with(|world| {
        let people = world.people();
        for one in world.vaults.all.values_mut().filter(|one| one.frames.len() > 2) {
            *one = one.back_to(2, &people);
        }
    });
    scene.is_caught(Misbehaviour::VaultRollback).await;
}

#[tokio::test]
async fn another_log_for_each_device() {
    let scene = scene().await;
    scene.laptop.sync().await.unwrap();
    let before_the_fork = scene.vaults(|vaults| vaults.all.clone());
    scene.laptop.put("notes", id(8), b"in one log").await.unwrap();
    scene.laptop.sync().await.unwrap();
    // The phone goes on in another log. Its first entry there was made from what both have seen, its second was not.
    scene.vaults(|vaults| vaults.all = before_the_fork);
    for number in [9, 10] {
        scene.on_phone.put("notes", id(number), b"in the other log").await.unwrap();
        scene.on_phone.sync().await.unwrap();
    }
    let vault = scene.laptop.id();
    let n = scene.laptop.digest().await.unwrap().n;
    let joined = scene.vaults(|vaults| vaults.all[&vault].frames[n as usize - 1..].to_vec());
    let head = scene.vaults(|vaults| vaults.sign(&vault, Head { n: n + 2, h: [3; 32] }, 1));
    scene.bend_log(move |page| {
        page.frames = joined.iter().map(|frame| frame.clone().into()).collect();
        page.head = head;
    });
    scene.is_caught(Misbehaviour::VaultFork).await;
}

#[tokio::test]
async fn two_heads_for_one_position() {
    let scene = scene().await;
    scene.laptop.sync().await.unwrap();
    let vault = scene.laptop.id();
    let n = scene.laptop.digest().await.unwrap().n;
    let other = scene.vaults(|vaults| vaults.sign(&vault, Head { n, h: [7; 32] }, 1));
    scene.bend_log(move |page| page.head = other);
    scene.is_caught(Misbehaviour::TwoHeads).await;
}

#[tokio::test]
async fn heads_under_another_key() {
    let scene = scene().await;
    scene.vaults(Vaults::replace_key);
    scene.is_caught(Misbehaviour::ForgedHead).await;
}

#[tokio::test]
async fn a_payload_held_back() {
    let scene = scene().await;
    scene.bend_log(|page| {
        for frame in &mut page.frames {
            frame.0 = selkie_protocol::log::Frame::parse(&frame.0.clone()).unwrap().keeping(|_| false);
        }
    });
    scene.is_caught(Misbehaviour::Withheld).await;
}

#[tokio::test]
async fn an_acknowledged_entry_lost_again() {
    let scene = scene().await;
    // The push is acknowledged further on, so that the laptop has to pull; meanwhile the server throws it away.
    let vault = scene.laptop.id();
    scene.laptop.sync().await.unwrap();
    let n = scene.laptop.digest().await.unwrap().n;
    let head = scene.vaults(|vaults| vaults.sign(&vault, Head { n: n + 5, h: [5; 32] }, 1));
    let honest = scene.vaults(|vaults| vaults.all.clone());
    scene.server.bend(move |path, body| {
        if !path.contains("/push") {
            return body;
        }
        Face::Cbor.encode(&Pushed { n: n + 5, head })
    });
    scene.laptop.put("notes", id(7), b"acknowledged").await.unwrap();
    scene.vaults(|vaults| vaults.page = 0);
    let lost = scene.laptop.sync().await;
    drop(honest);
    assert!(matches!(lost, Err(Error::Quarantined(quarantine)) if quarantine.kind == Misbehaviour::VaultRollback));
}

/// Else whoever holds back a key could make a device believe that its own disk is at fault.
#[tokio::test]
async fn a_version_that_cannot_be_read_leaves_the_one_before_whole() {
    let scene = scene().await;
    scene.on_phone.put("notes", id(5), b"before").await.unwrap();
    scene.on_phone.sync().await.unwrap();
    scene.on_phone.rotate().await.unwrap();
    scene.on_phone.put("notes", id(5), b"after").await.unwrap();
    scene.on_phone.sync().await.unwrap();
    scene.server.bend(|path, body| {
        if !path.ends_with("/wraps") {
            return body;
        }
        let mut wraps: Wraps = Face::Cbor.decode(&body).unwrap();
        wraps.wraps.iter_mut().for_each(|wrap| wrap.sealed.0[1130] ^= 1);
        Face::Cbor.encode(&wraps)
    });
    assert!(scene.laptop.sync().await.is_err());
    assert_eq!(scene.laptop.status().await.unwrap().state, VaultState::NoKey);
    let check = scene.ana.account.check_storage().await.unwrap();
    assert!(check.is_sound(), "{check:?}");
    assert_eq!(text(&scene.laptop, 5).await.as_deref(), Some("before"));
    scene.server.be_honest();
    scene.laptop.sync().await.unwrap();
    assert_eq!(text(&scene.laptop, 5).await.as_deref(), Some("after"));
}

#[tokio::test]
async fn keys_that_are_not_the_vaults() {
    let scene = scene().await;
    let bob = person(&scene.server, "bob").await;
    let other = scene.ana.account.create_vault("Other", APP).await.unwrap();
    other.add_member(bob.account.user_id(), Role::Editor).await.unwrap();
    let hers = scene.laptop.clone();
    hers.add_member(bob.account.user_id(), Role::Editor).await.unwrap();
    scene.server.bend(|path, body| {
        if !path.ends_with("/wraps") {
            return body;
        }
        let mut wraps: Wraps = Face::Cbor.decode(&body).unwrap();
        for wrap in &mut wraps.wraps {
            wrap.sealed.0[1130] ^= 1;
        }
        Face::Cbor.encode(&wraps)
    });
    let outcome = bob.account.sync().await.unwrap();
    let shared = [hers.id(), other.id()];
    for (_, outcome) in outcome.vaults.iter().filter(|(vault, _)| shared.contains(vault)) {
        let error = outcome.as_ref().unwrap_err();
        let wrong = matches!(error, Error::ServerMisbehaved { kind: Misbehaviour::WrongVaultKey, .. });
        assert!(wrong, "{error:?}");
    }
    let id_of_hers = hers.id();
    let his = bob.account.vault_by_id(id_of_hers).await.unwrap().unwrap();
    assert_eq!(text(&his, 1).await, None, "nothing was read");
    assert!(!his.status().await.unwrap().set_aside.is_empty());
    assert_eq!(his.status().await.unwrap().state, VaultState::NoKey);
    // The right keys heal it, and nothing was lost.
    scene.server.be_honest();
    assert!(bob.account.sync().await.unwrap().first_error().is_none());
    assert_eq!(text(&his, 1).await.as_deref(), Some("first"));
    assert!(his.status().await.unwrap().set_aside.is_empty());
    drop(scene.on_phone);
}
