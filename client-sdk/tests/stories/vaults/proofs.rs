//! What is kept when a server was caught, in the hands of somebody who was not there: what it proves, and that nobody
//! can make it prove more.

use super::lies::{Scene, scene};
use super::{APP, id, person};
use crate::fake::Fake;
use selkie_client::{Misbehaviour, Proof, Role, Subject, Verdict, judge};
use selkie_protocol::Face;
use selkie_protocol::log::{CLOCKS_MS, Head};
use selkie_protocol::vault::LogFrames;
use serde_json::Value;
use std::sync::atomic::{AtomicBool, Ordering};

async fn evidence(scene: &Scene, kind: Misbehaviour) -> Vec<u8> {
    scene.is_caught(kind).await;
    scene.laptop.export_evidence().await.unwrap().remove(0)
}

fn verdict(file: &[u8]) -> Verdict {
    judge(file, None).unwrap()
}

/// The same file with something in it changed.
fn changed(file: &[u8], change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut value: Value = serde_json::from_slice(file).unwrap();
    change(&mut value);
    serde_json::to_vec(&value).unwrap()
}

/// Another letter in the middle of a text of base64.
fn bend(text: &mut Value) {
    let mut letters: Vec<char> = text.as_str().unwrap().chars().collect();
    let middle = letters.len() / 2;
    letters[middle] = if letters[middle] == 'A' { 'B' } else { 'A' };
    *text = letters.into_iter().collect::<String>().into();
}

fn server_key(scene: &Scene) -> [u8; 32] {
    scene.vaults(|vaults| vaults.public_key().0)
}

#[tokio::test]
async fn two_heads_for_one_position_are_proof_to_anybody() {
    let scene = scene().await;
    scene.laptop.sync().await.unwrap();
    let (vault, n) = (scene.laptop.id(), scene.laptop.digest().await.unwrap().n);
    let other = scene.vaults(|vaults| vaults.sign(&vault, Head { n, h: [7; 32] }, 1));
    scene.bend_log(move |page| page.head = other);
    let file = evidence(&scene, Misbehaviour::TwoHeads).await;

    let found = verdict(&file);
    assert_eq!(found.subject, Subject::Vault(vault));
    assert_eq!(found.proofs, [Proof::TwoHeads { n }]);
    assert!(found.holds() && !found.key_was_given);
    let with_the_key = judge(&file, Some(server_key(&scene))).unwrap();
    assert!(with_the_key.holds() && with_the_key.key_was_given);

    // Under another key the same file proves nothing, and says why.
    let with_another = judge(&file, Some([9; 32])).unwrap();
    assert!(!with_another.holds(), "{with_another:?}");
    assert!(with_another.remarks.iter().any(|remark| remark.contains("names another key")));
    assert!(with_another.remarks.iter().any(|remark| remark.contains("has signed nothing")));

    // So does one in which a head was bent, for it is not signed any more.
    for number in 0..2 {
        let found = verdict(&changed(&file, |value| bend(&mut value["heads"][number])));
        assert!(!found.holds(), "{found:?}");
    }
    assert!(judge(b"{}", None).is_err() && judge(b"not a file", None).is_err());
    let later = changed(&file, |value| value["version"] = 2.into());
    assert!(judge(&later, None).unwrap_err().to_string().contains("update"));
}

#[tokio::test]
async fn a_log_that_shrank_is_proven_by_the_two_heads() {
    let scene = scene().await;
    scene.laptop.sync().await.unwrap();
    let known = scene.laptop.digest().await.unwrap().n;
    scene.server.later(CLOCKS_MS + 1);
    shrink(&scene);
    let file = evidence(&scene, Misbehaviour::VaultRollback).await;
    assert_eq!(verdict(&file).proofs, [Proof::Rollback { known, offered: 2 }]);
}

#[tokio::test]
async fn two_heads_of_nearly_the_same_time_alarm_the_device_and_prove_nothing_to_a_stranger() {
    let scene = scene().await;
    scene.laptop.sync().await.unwrap();
    // Two processes of an honest server may have clocks that are so far apart.
    scene.server.later(CLOCKS_MS);
    shrink(&scene);
    let file = evidence(&scene, Misbehaviour::VaultRollback).await;
    let found = verdict(&file);
    assert!(found.proofs.is_empty() && !found.holds(), "{found:?}");
    assert!(found.remarks.iter().any(|remark| remark.contains("clocks")), "{found:?}");
}

fn shrink(scene: &Scene) {
    scene.server.with(|world| {
        let people = world.people();
        let one = world.vaults.all.get_mut(&scene.laptop.id()).unwrap();
        *one = one.back_to(2, &people);
    });
}

#[tokio::test]
async fn another_log_is_proven_by_what_its_author_had_seen() {
    let scene = scene().await;
    scene.laptop.sync().await.unwrap();
    let before_the_fork = scene.vaults(|vaults| vaults.all.clone());
    scene.laptop.put("notes", id(8), b"in one log").await.unwrap();
    scene.laptop.sync().await.unwrap();
    let n = scene.laptop.digest().await.unwrap().n;
    scene.vaults(|vaults| vaults.all = before_the_fork);
    for number in [9, 10] {
        scene.on_phone.put("notes", id(number), b"in the other log").await.unwrap();
        scene.on_phone.sync().await.unwrap();
    }
    let file = evidence(&scene, Misbehaviour::ForgedEntry).await;
    let found = verdict(&file);
    assert_eq!(found.proofs, [Proof::Fork { n }], "{found:?}");
    // Take away what the server signed of the other log, and it is one word against another.
    let less = changed(&file, |value| {
        let heads = value["heads"].as_array_mut().unwrap();
        heads.truncate(1);
    });
    assert!(!verdict(&less).holds());
}

#[tokio::test]
async fn an_acknowledged_entry_that_was_replaced_is_proven_to_have_stood_there() {
    let scene = scene().await;
    scene.laptop.sync().await.unwrap();
    let vault = scene.laptop.id();
    let Head { n, h } = scene.vaults(|vaults| vaults.all[&vault].log.head());
    for number in [5, 6, 7] {
        scene.on_phone.put("notes", id(number), b"from the phone").await.unwrap();
        scene.on_phone.sync().await.unwrap();
    }
    // The server keeps to itself that the phone has written, takes the laptop's entry at n + 2, and forgets it again.
    let (frames, end) = scene.server.with(|world| {
        let people = world.people();
        let one = world.vaults.all.get_mut(&vault).unwrap();
        let shown = (one.frames[n as usize..].to_vec(), one.log.head());
        *one = one.back_to(n + 1, &people);
        shown
    });
    let now = scene.server.now_ms();
    let (hiding, showing) =
        scene.vaults(|vaults| (vaults.sign(&vault, Head { n, h }, now), vaults.sign(&vault, end, now)));
    let acknowledged = AtomicBool::new(false);
    scene.server.bend(move |path, body| {
        if path.ends_with("/push") {
            acknowledged.store(true, Ordering::SeqCst);
        }
        if !path.contains("/log?after") {
            return body;
        }
        let mut page: LogFrames = Face::Cbor.decode(&body).unwrap();
        let shown = acknowledged.load(Ordering::SeqCst);
        page.frames = if shown { frames.iter().map(|frame| frame.clone().into()).collect() } else { Vec::new() };
        page.head = if shown { showing } else { hiding };
        Face::Cbor.encode(&page)
    });
    scene.laptop.put("notes", id(8), b"acknowledged").await.unwrap();
    let file = evidence(&scene, Misbehaviour::VaultFork).await;
    let found = verdict(&file);
    assert_eq!(found.proofs, [Proof::Moved { n: n + 2, to: None }], "{found:?}");
    // Without the entry it still is a fork; which entry it was about cannot be said.
    let less = changed(&file, |value| value["acknowledged"] = Value::Null);
    assert_eq!(verdict(&less).proofs, [Proof::Fork { n: n + 2 }]);
}

#[tokio::test]
async fn an_entry_that_breaks_a_rule_is_proof_once_the_server_has_signed_it() {
    let scene = scene().await;
    scene.laptop.sync().await.unwrap();
    let vault = scene.laptop.id();
    let now = scene.server.now_ms();
    let (head, shown) = scene.vaults(|vaults| {
        let mut bent = vaults.all[&vault].clone();
        let again = bent.frames.last().unwrap().clone();
        let head = bent.append_unasked(&again);
        (vaults.sign(&vault, head, now), again)
    });
    let n = scene.laptop.digest().await.unwrap().n + 1;
    scene.bend_log(move |page| {
        page.frames = vec![shown.clone().into()];
        page.head = head;
    });
    let file = evidence(&scene, Misbehaviour::ForgedEntry).await;
    let found = verdict(&file);
    assert!(matches!(found.proofs.as_slice(), [Proof::BrokenRule { n: at, .. }] if *at == n), "{found:?}");
    // Had it signed nothing that leads there, the frame could be the device's own invention.
    let unsigned = changed(&file, |value| {
        value["heads"].as_array_mut().unwrap().truncate(1);
    });
    let found = verdict(&unsigned);
    assert!(!found.holds());
    assert!(found.remarks.iter().any(|remark| remark.contains("has not signed it")), "{found:?}");
}

#[tokio::test]
async fn what_is_withheld_cannot_be_proven_and_is_not_said_to_be() {
    let scene = scene().await;
    scene.bend_log(|page| page.frames.clear());
    let found = verdict(&evidence(&scene, Misbehaviour::VaultRollback).await);
    assert!(!found.holds());
    assert!(found.claim.as_deref().is_some_and(|claim| claim.contains("hides")), "{found:?}");
    assert!(!found.remarks.is_empty());
}

#[tokio::test]
async fn a_log_is_handed_on_and_checked_by_a_stranger() {
    let server = Fake::start();
    let (ana, bob) = (person(&server, "ana").await, person(&server, "bob").await);
    let shared = ana.account.create_vault("Shared", APP).await.unwrap();
    shared.put("notes", id(1), b"one").await.unwrap();
    shared.sync().await.unwrap();
    shared.add_member(bob.account.user_id(), Role::Editor).await.unwrap();
    bob.account.sync().await.unwrap();
    let his = bob.account.vault("Shared").await.unwrap().unwrap();
    his.put("notes", id(2), b"two").await.unwrap();
    his.sync().await.unwrap();
    shared.write_checkpoint().await.unwrap();

    let file = shared.export_log().await.unwrap();
    let digest = shared.digest().await.unwrap();
    let found = verdict(&file);
    let log = found.log.unwrap_or_else(|| panic!("{found:?}"));
    assert!(found.holds() && found.subject == Subject::Log(shared.id()));
    assert_eq!((log.entries, log.h, log.signed_to), (digest.n, digest.h, Some(digest.n)));
    let key = server.with(|world| world.vaults.public_key().0);
    assert!(judge(&file, Some(key)).unwrap().holds());
    assert!(!judge(&file, Some([3; 32])).unwrap().holds(), "another server did not sign it");
    let text = String::from_utf8(file.clone()).unwrap();
    for payload in server.with(|world| world.vaults.all[&shared.id()].frames.clone()) {
        let end = selkie_client::to_base64url(&payload[payload.len().saturating_sub(48)..]);
        assert!(!text.contains(&end) || payload.len() < 600, "what is in the records stays out of it");
    }

    for number in 0..digest.n as usize {
        assert!(!verdict(&changed(&file, |value| bend(&mut value["frames"][number]))).holds(), "entry {number}");
    }
    let shortened = changed(&file, |value| {
        value["frames"].as_array_mut().unwrap().pop();
    });
    let found = verdict(&shortened);
    assert!(!found.holds() && found.remarks.iter().any(|remark| remark.contains("ends before")), "{found:?}");
    let nobody = changed(&file, |value| value["people"] = Vec::<Value>::new().into());
    let found = verdict(&nobody);
    assert!(!found.holds() && found.proofs.is_empty(), "a file that lacks somebody's log is nobody's lie: {found:?}");
}
