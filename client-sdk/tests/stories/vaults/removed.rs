//! Who was removed from a vault: what they are shown, what stays theirs, and that they can come back.

use super::{APP, PASSWORD, id, person, text};
use crate::fake::{Fake, Mishap};
use selkie_client::{Account, Error, Misbehaviour, Role, SignUp, Vault, VaultState};
use selkie_protocol::log::{Body, Frame};
use std::collections::BTreeMap;
use std::sync::Arc;

async fn sync(account: &Account) {
    let outcome = account.sync().await.unwrap();
    assert!(outcome.first_error().is_none(), "{outcome:?}");
}

async fn family(account: &Account) -> Vault {
    account.vault("Family").await.unwrap().unwrap()
}

/// The key to the last pages was made while they were away, and nobody told them then.
#[tokio::test]
async fn who_was_removed_while_they_were_away_reads_everything_until_then() {
    let server = Fake::start();
    let [ana, bo, cy] = [person(&server, "ana").await, person(&server, "bo").await, person(&server, "cy").await];
    let (ana, bo, cy) = (ana.account, bo.account, cy.account);
    let at_ana = ana.create_vault("Family", APP).await.unwrap();
    at_ana.put("notes", id(1), b"before").await.unwrap();
    sync(&ana).await;
    for fellow in [&bo, &cy] {
        at_ana.add_member(fellow.user_id(), Role::Editor).await.unwrap();
        sync(fellow).await;
    }
    at_ana.remove_member(cy.user_id()).await.unwrap();
    at_ana.put("notes", id(2), b"with a key that Bo has not asked for").await.unwrap();
    sync(&ana).await;
    at_ana.remove_member(bo.user_id()).await.unwrap();
    at_ana.put("notes", id(3), b"none of Bo's business").await.unwrap();
    sync(&ana).await;

    for _ in 0..2 {
        sync(&bo).await;
    }
    let at_bo = family(&bo).await;
    let status = at_bo.status().await.unwrap();
    assert_eq!((status.state, status.set_aside), (VaultState::NotAMember, Vec::new()));
    assert_eq!(text(&at_bo, 2).await.as_deref(), Some("with a key that Bo has not asked for"));
    assert_eq!(text(&at_bo, 3).await, None);

    // There is no more to ask for, and nothing is asked.
    server.asked();
    sync(&bo).await;
    let asked = server.asked();
    let of_vault = |path: &String| path.contains(&at_bo.id().to_string());
    assert!(!asked.iter().any(of_vault), "{asked:?}");
}

/// What they wrote before they knew is kept, and goes out when they are let in again.
#[tokio::test]
async fn who_is_let_in_again_goes_on_where_they_were() {
    let server = Fake::start();
    let (ana, bo) = (person(&server, "ana").await.account, person(&server, "bo").await.account);
    let at_ana = ana.create_vault("Family", APP).await.unwrap();
    sync(&ana).await;
    at_ana.add_member(bo.user_id(), Role::Editor).await.unwrap();
    sync(&bo).await;
    let at_bo = family(&bo).await;
    for round in 1..=2 {
        at_ana.remove_member(bo.user_id()).await.unwrap();
        at_ana.put("notes", id(1), b"meanwhile").await.unwrap();
        at_bo.put("notes", id(10 + round), b"before I knew").await.unwrap();
        for account in [&ana, &bo, &bo] {
            sync(account).await;
        }
        let status = at_bo.status().await.unwrap();
        assert_eq!((status.state, status.pending), (VaultState::NotAMember, 1));
        at_bo.put("notes", id(9), b"now I do").await.expect_err("they know that they may not write");
        at_ana.add_member(bo.user_id(), Role::Editor).await.unwrap();
        for account in [&ana, &bo, &bo, &ana] {
            sync(account).await;
        }
        assert_eq!(at_bo.status().await.unwrap().state, VaultState::Ready);
        super::same(&[&at_ana, &at_bo]).await;
        assert_eq!(text(&at_ana, 10 + round).await.as_deref(), Some("before I knew"));
        assert_eq!(text(&at_bo, 1).await.as_deref(), Some("meanwhile"));
    }
}

/// What was superseded since may be gone from the server: towards them that is no withholding, and what they have of it
/// they keep.
#[tokio::test]
async fn what_the_server_has_dropped_since_is_no_lie_to_who_was_removed() {
    let server = Fake::start();
    let [ana, bo, cy] = [person(&server, "ana").await, person(&server, "bo").await, person(&server, "cy").await];
    let (ana, bo, cy) = (ana.account, bo.account, cy.account);
    let at_ana = ana.create_vault("Family", APP).await.unwrap();
    sync(&ana).await;
    for fellow in [&bo, &cy] {
        at_ana.add_member(fellow.user_id(), Role::Editor).await.unwrap();
        sync(fellow).await;
    }
    at_ana.put("notes", id(1), b"one").await.unwrap();
    sync(&ana).await;
    sync(&bo).await;
    for fellow in [&bo, &cy] {
        at_ana.remove_member(fellow.user_id()).await.unwrap();
    }
    at_ana.put("notes", id(1), b"two").await.unwrap();
    sync(&ana).await;
    let _whole = drop_last_but_one(&server, &at_ana);

    // Cy has never seen it; Bo has, and keeps it rather than fetch a vault without it.
    for account in [&bo, &cy] {
        sync(account).await;
        assert_eq!(family(account).await.status().await.unwrap().state, VaultState::NotAMember);
    }
    let at_bo = family(&bo).await;
    assert!(matches!(at_bo.fetch_again().await, Err(Error::NotPossible(_))));
    assert_eq!(text(&at_bo, 1).await.as_deref(), Some("one"));

    // Let in again, they read what has taken its place.
    for fellow in [&bo, &cy] {
        at_ana.add_member(fellow.user_id(), Role::Viewer).await.unwrap();
    }
    for account in [&ana, &bo, &cy] {
        sync(account).await;
        assert_eq!(text(&family(account).await, 1).await.as_deref(), Some("two"));
    }
}

/// Bo was removed, and what Ana wrote before was dropped when she wrote it anew. The backup has the one and not the
/// other; nobody who has the end comes by, and Cy, who has not, lets Bo in again. Bo's program ends after everything.
struct Restored {
    server: Arc<Fake>,
    folder: tempfile::TempDir,
    cy: Account,
}

impl Restored {
    async fn begin(whole: bool) -> Restored {
        let (server, folder) = (Fake::start(), tempfile::tempdir().unwrap());
        let [ana, cy] = [person(&server, "ana").await, person(&server, "cy").await];
        let (ana, cy) = (ana.account, cy.account);
        let device = server.builder().store(folder.path()).build().unwrap();
        let bo = device.sign_up("bo", PASSWORD, SignUp::default()).await.unwrap().account;
        drop(device);
        let at_ana = ana.create_vault("Family", APP).await.unwrap();
        sync(&ana).await;
        for (fellow, role) in [(&bo, Role::Editor), (&cy, Role::Admin)] {
            at_ana.add_member(fellow.user_id(), role).await.unwrap();
            sync(fellow).await;
        }
        at_ana.put("notes", id(1), b"one").await.unwrap();
        sync(&ana).await;
        at_ana.remove_member(bo.user_id()).await.unwrap();
        sync(&cy).await;
        let backup = at_ana.digest().await.unwrap().n;
        at_ana.put("notes", id(1), b"two").await.unwrap();
        sync(&ana).await;
        let (place, frame) = drop_last_but_one(&server, &at_ana);
        let bo_id = bo.user_id();
        drop(bo);
        let restored = Restored { server, folder, cy };
        let bo = restored.bo().await;
        sync(&bo).await;
        assert_eq!(family(&bo).await.status().await.unwrap().state, VaultState::NotAMember);
        assert_eq!(text(&family(&bo).await, 1).await, None);
        drop(bo);
        restored.server.with(|world| {
            let people = world.people();
            let dropped = std::mem::replace(&mut world.vaults.all.get_mut(&at_ana.id()).unwrap().frames[place], frame);
            world.vaults.restore(&BTreeMap::from([(at_ana.id(), backup)]), &people);
            if !whole {
                world.vaults.all.get_mut(&at_ana.id()).unwrap().frames[place] = dropped;
            }
        });
        let bo = restored.bo().await;
        sync(&bo).await;
        drop(bo);
        sync(&restored.cy).await;
        family(&restored.cy).await.add_member(bo_id, Role::Editor).await.unwrap();
        restored
    }

    /// Bo's program, begun anew.
    async fn bo(&self) -> Account {
        let device = self.server.builder().store(self.folder.path()).build().unwrap();
        device.account("bo").await.unwrap().unwrap()
    }
}

#[tokio::test]
async fn what_a_restored_server_has_once_more_is_read_by_who_is_let_in_again() {
    let restored = Restored::begin(true).await;
    for mishap in [Some(Mishap::NotDelivered), Some(Mishap::AnswerLost), None] {
        let bo = restored.bo().await;
        if let Some(mishap) = mishap {
            restored.server.next_request_to("/log?after=0&", mishap);
        }
        sync(&bo).await;
        assert_eq!(family(&bo).await.status().await.unwrap().state, VaultState::Ready);
        assert_eq!(text(&family(&bo).await, 1).await.as_deref(), Some("one"));
    }
    let (bo, cy) = (restored.bo().await, &restored.cy);
    restored.server.asked();
    family(&bo).await.put("notes", id(2), b"back again").await.unwrap();
    sync(&bo).await;
    assert!(!restored.server.asked().iter().any(|path| path.contains("/log?after=0&")), "it was looked for once");
    sync(cy).await;
    super::same(&[&family(&bo).await, &family(cy).await]).await;
}

#[tokio::test]
async fn what_a_restored_server_keeps_from_who_is_let_in_again_is_a_lie() {
    let restored = Restored::begin(false).await;
    let bo = restored.bo().await;
    let caught = bo.sync().await.unwrap();
    let Some((_, Error::Quarantined(quarantine))) = caught.first_error() else { panic!("{caught:?}") };
    assert_eq!(quarantine.kind, Misbehaviour::Withheld);
}

/// Who is let in again is a member like any other: nothing that is live may be kept from them.
#[tokio::test]
async fn what_is_kept_from_who_is_let_in_again_is_a_lie() {
    let server = Fake::start();
    let (ana, bo) = (person(&server, "ana").await.account, person(&server, "bo").await.account);
    let at_ana = ana.create_vault("Family", APP).await.unwrap();
    sync(&ana).await;
    at_ana.add_member(bo.user_id(), Role::Editor).await.unwrap();
    sync(&bo).await;
    at_ana.put("notes", id(1), b"one").await.unwrap();
    at_ana.sync().await.unwrap();
    at_ana.put("notes", id(2), b"two").await.unwrap();
    at_ana.sync().await.unwrap();
    at_ana.remove_member(bo.user_id()).await.unwrap();
    sync(&ana).await;
    let _whole = drop_last_but_one(&server, &at_ana);
    sync(&bo).await;
    let at_bo = family(&bo).await;
    assert_eq!(at_bo.status().await.unwrap().state, VaultState::NotAMember);

    at_ana.add_member(bo.user_id(), Role::Editor).await.unwrap();
    let caught = bo.sync().await.unwrap();
    let Some((_, Error::Quarantined(quarantine))) = caught.first_error() else { panic!("{caught:?}") };
    assert_eq!(quarantine.kind, Misbehaviour::Withheld);
}

/// As the server does in time: the last entry but one of those with records loses its payloads. Where it stands among
/// the frames, and what it was.
fn drop_last_but_one(server: &Fake, vault: &Vault) -> (usize, Vec<u8>) {
    server.with(|world| {
        let frames = &mut world.vaults.all.get_mut(&vault.id()).unwrap().frames;
        let is_data = |frame: &Vec<u8>| matches!(Frame::parse(frame).unwrap().entry.body, Body::Data(_));
        let data: Vec<usize> = (0..frames.len()).filter(|place| is_data(&frames[*place])).collect();
        let place = data[data.len() - 2];
        let without = Frame::parse(&frames[place]).unwrap().keeping(|_| false);
        (place, std::mem::replace(&mut frames[place], without))
    })
}
