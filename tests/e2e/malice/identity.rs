//! Attacks on identity and devices: rows 16 to 26.

use selkie_client::Misbehaviour;
use selkie_e2e::device::Person;
use selkie_e2e::network::Network;
use selkie_protocol::Bytes;
use selkie_protocol::account::{Devices, LogPage};
use selkie_protocol::account_log::{AccountLog, Body, Entry, Payload, Refusal};
use selkie_protocol::cipher::{AccountMasterKey, AccountRootSecret, DeviceKey, SigningKey};
use selkie_protocol::hash::Label;
use selkie_protocol::id::{DeviceId, UserId};
use selkie_protocol::session::Registered;
use selkie_protocol::sign::Signature;

use super::{BO, PASSWORD, World, assert_caught, assert_contradiction};

const LOG: &str = "GET /v1/account/log";

#[tokio::test(flavor = "multi_thread")]
async fn mal_016_a_device_that_nobody_added_is_refused() {
    let world = World::new().await;
    let phone = world.server.device("phone");
    let account = phone.signs_in(&world.ana).await.unwrap().account;
    let log = true_log(world.server.network());
    let (intruder, server_key) = (DeviceKey::generate(), SigningKey::generate());
    let honest_add = intruder.device_add(&log.user());
    let Payload::DeviceAdd { device, key, proof } = honest_add.clone() else { unreachable!("it was made as one") };

    let forgeries = [
        ("signed by the server", honest_add),
        ("without the device's proof", Payload::DeviceAdd { device, key, proof: Signature([0; 64]) }),
        ("under another id", Payload::DeviceAdd { device: DeviceId([9; 16]), key, proof }),
    ];
    for (what, payload) in forgeries {
        let forged = signed_by(&server_key, log.next(1, payload));
        serve_after_the_log(world.server.network(), forged.as_bytes().to_vec());
        let devices = account.devices().await;
        assert!(devices.is_err(), "{what} was believed");
        assert_caught(devices, &[Misbehaviour::ForgedLog]);
    }
    // In the list alone, where nothing is signed.
    world.server.network().tamper_with_reply("GET /v1/account/devices", move |reply| {
        reply.rewrite(|devices: &mut Devices| {
            let mut stranger = devices.devices[0].clone();
            stranger.did = device;
            devices.devices.push(stranger);
        });
    });
    assert_caught(account.devices().await, &[Misbehaviour::UnknownDevice]);
    world.server.network().behave_well();
    assert_eq!(account.devices().await.unwrap().devices.len(), 2);
}

/// The same refusals, by the rules themselves: the account's own key signs, as a server never could.
#[test]
fn mal_016_021_even_the_identity_key_adds_no_device_without_its_consent_or_twice() {
    let (root, mut log) = new_log();
    let device = DeviceKey::generate();
    let add = device.device_add(&log.user());
    let Payload::DeviceAdd { device: id, key, proof } = add.clone() else { unreachable!("it was made as one") };
    let foreign = DeviceKey::generate().device_add(&UserId([8; 32]));
    let append = |log: &mut AccountLog, payload| log.append(&root.identity().sign_entry(log.next(1, payload)));
    let no_proof = Payload::DeviceAdd { device: id, key, proof: Signature([0; 64]) };
    assert_eq!(append(&mut log, no_proof), Err(Refusal::WrongDeviceProof));
    assert_eq!(append(&mut log, foreign), Err(Refusal::WrongDeviceProof));
    let renamed = Payload::DeviceAdd { device: DeviceId([9; 16]), key, proof };
    assert_eq!(append(&mut log, renamed), Err(Refusal::DeviceIdMismatch));
    append(&mut log, add.clone()).unwrap();
    assert_eq!(append(&mut log, add.clone()), Err(Refusal::DeviceKnown));
    append(&mut log, Payload::DeviceRevoke { device: id }).unwrap();
    assert_eq!(append(&mut log, add), Err(Refusal::DeviceKnown));
}

#[tokio::test(flavor = "multi_thread")]
async fn mal_017_a_revocation_that_was_seen_cannot_be_hidden() {
    let world = World::new().await;
    let phone = world.server.device("phone").signs_in(&world.ana).await.unwrap().account;
    let before = true_log(world.server.network()).next_index();
    world.account.revoke(&phone.device_id(), PASSWORD).await.unwrap();
    world.server.network().tamper_with_reply(LOG, move |reply| reply.rewrite(|page: &mut LogPage| cut(page, before)));
    assert_caught(world.account.devices().await, &[Misbehaviour::Rollback]);
    assert_caught(world.laptop.signs_in(&world.ana).await, &[Misbehaviour::Rollback]);
}

#[tokio::test(flavor = "multi_thread")]
async fn mal_018_two_logs_for_two_devices_are_a_fork_when_they_meet() {
    let World { server, laptop: _laptop, ana, account } = World::new().await;
    let phone = server.device("phone");
    let on_phone = phone.signs_in(&ana).await.unwrap().account;
    account.devices().await.unwrap();
    let (one, other) = server.split().await;
    account.rotate_recovery_key(PASSWORD).await.unwrap();
    one.network().lead_to(other.address());
    let changed = Person { password: "eight golden geese graze".into(), ..ana };
    on_phone.change_password(PASSWORD, &changed.password, true).await.unwrap();
    let on_phone = phone.signs_in(&changed).await.unwrap().account;
    let other_log = whole_log(one.network());

    // Each has a log that its owner signed, of the same length. Compared by eye they differ; shown to the other device
    // they are a fork.
    assert_ne!(account.state_code(), on_phone.state_code());
    one.network().lead_to(one.address());
    one.network().tamper_with_reply(LOG, move |reply| {
        reply.rewrite(|page: &mut LogPage| {
            page.entries = other_log[usize::try_from(page.from).unwrap()..].to_vec();
            page.length = other_log.len() as u64;
        });
    });
    assert_caught(account.devices().await, &[Misbehaviour::Fork]);
}

#[tokio::test(flavor = "multi_thread")]
async fn mal_019_a_kem_key_of_the_servers_making_is_refused() {
    let world = World::new().await;
    let account = world.server.device("phone").signs_in(&world.ana).await.unwrap().account;
    let log = true_log(world.server.network());
    let public_key = AccountMasterKey::from_bytes(2, &[3; 32]).user_kem(&log.user()).public_key();
    let forged = signed_by(&SigningKey::generate(), log.next(1, Payload::UserKem { generation: 2, public_key }));
    serve_after_the_log(world.server.network(), forged.as_bytes().to_vec());
    assert_caught(account.devices().await, &[Misbehaviour::ForgedLog]);
}

/// The generation that the revoked device could read.
#[tokio::test(flavor = "multi_thread")]
async fn mal_020_an_old_kem_generation_is_not_used_again() {
    let world = World::new().await;
    let phone = world.server.device("phone").signs_in(&world.ana).await.unwrap().account;
    let before = true_log(world.server.network()).next_index();
    world.account.revoke(&phone.device_id(), PASSWORD).await.unwrap();
    world.server.network().tamper_with_reply(LOG, move |reply| {
        // The revocation is shown, the new key is not.
        reply.rewrite(|page: &mut LogPage| cut(page, before + 1));
    });
    assert_caught(world.account.rotate_recovery_key(PASSWORD).await, &[Misbehaviour::Rollback]);
    assert!(world.account.link_device().await.is_err());
    assert!(world.server.network().calls("POST /v1/links").is_empty());
}

/// Every signature in the system, presented under every other label.
#[test]
fn mal_022_a_signature_says_one_thing_only() {
    let key = DeviceKey::generate();
    let parts: [&[u8]; 2] = [&[1; 32], &[2; 32]];
    for &made in Label::ALL {
        let signature = key.sign(made, &parts);
        for &shown in Label::ALL {
            let believed = key.public_key().verify(shown, &parts, &signature);
            assert_eq!(believed, made == shown, "made as {made:?}, shown as {shown:?}");
        }
    }
}

/// Bo helps the server: the entry is well signed, by Bo.
#[tokio::test(flavor = "multi_thread")]
async fn mal_023_an_entry_of_somebody_else_is_refused() {
    let world = World::new().await;
    let tablet = world.server.device("tablet");
    let (bo, _) = tablet.makes_an_account(BO, PASSWORD).await;
    world.server.device("watch").signs_in(&bo).await.unwrap();
    let of_bo = whole_log(world.server.network());
    let account = world.server.device("phone").signs_in(&world.ana).await.unwrap().account;
    let position = usize::try_from(true_log(world.server.network()).next_index()).unwrap();
    for entry in [of_bo.last().unwrap(), of_bo.get(position).unwrap_or(&of_bo[0])] {
        serve_after_the_log(world.server.network(), entry.to_vec());
        assert_caught(account.devices().await, &[Misbehaviour::ForgedLog]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mal_024_the_server_does_not_choose_who_somebody_is() {
    let world = World::new().await;
    world.server.network().tamper_with_reply("POST /v1/auth/register/finish", |reply| {
        reply.rewrite(|registered: &mut Registered| registered.uid = Some(UserId([1; 32])));
    });
    let made = world.server.device("tablet").sign_up(BO, PASSWORD, selkie_client::SignUp::default()).await;
    assert_contradiction(made);

    // A log that is whole and well signed, and not Ana's.
    let (_, intruder) = {
        let (root, mut log) = new_log();
        let entry = root.identity().sign_entry(log.next(1, Payload::PasswordGeneration(1)));
        log.append(&entry).unwrap();
        (log, vec![genesis_of(&root), entry.as_bytes().to_vec().into()])
    };
    world.server.network().tamper_with_reply(LOG, move |reply| {
        let length = intruder.len() as u64;
        reply.rewrite(|page: &mut LogPage| *page = LogPage { from: 0, entries: intruder.clone(), length });
    });
    let kinds = [Misbehaviour::Contradiction, Misbehaviour::OtherIdentity, Misbehaviour::ForgedLog];
    assert_caught(world.server.device("phone").signs_in(&world.ana).await, &kinds);
    assert_caught(world.laptop.signs_in(&world.ana).await, &kinds);
}

#[tokio::test(flavor = "multi_thread")]
async fn mal_025_a_linked_device_cannot_be_shown_an_old_state() {
    let world = World::new().await;
    let phone = world.server.device("phone").signs_in(&world.ana).await.unwrap().account;
    let before = true_log(world.server.network()).next_index();
    world.account.revoke(&phone.device_id(), PASSWORD).await.unwrap();

    let newcomer = world.server.device("tablet");
    let initiator = world.account.link_device().await.unwrap();
    let link = newcomer.link(initiator.code(), "tablet").await.unwrap();
    initiator.wait_for_request().await.unwrap().approve(PASSWORD).await.unwrap();
    world.server.network().tamper_with_reply(LOG, move |reply| reply.rewrite(|page: &mut LogPage| cut(page, before)));
    assert_caught(link.finish().await, &[Misbehaviour::Rollback]);
    assert!(newcomer.accounts().await.unwrap().is_empty());
}

/// Inherent, and therefore shown: the code differs, and the device that is missing was never seen.
#[tokio::test(flavor = "multi_thread")]
async fn mal_026_a_device_that_comes_by_password_alone_can_compare() {
    let World { server, laptop: _laptop, ana, account } = World::new().await;
    let (present, past) = server.split().await;
    present.device("phone").signs_in(&ana).await.unwrap();
    account.devices().await.unwrap();
    present.network().lead_to(past.address());
    let shown = present.device("tablet").signs_in(&ana).await.unwrap();
    assert_ne!(shown.state_code, account.state_code());
    assert_eq!(shown.state_code.chars().filter(char::is_ascii_digit).count(), 12);
    assert!(shown.devices.iter().any(|device| device.last_seen_ms.is_some()));
    assert!(!shown.devices.iter().any(|device| device.name.as_deref() == Some("phone")));
}

/// Serves the true log with one more entry at its end.
fn serve_after_the_log(network: &Network, entry: Vec<u8>) {
    network.tamper_with_reply(LOG, move |reply| {
        reply.rewrite(|page: &mut LogPage| {
            page.entries.push(entry.clone().into());
            page.length += 1;
        });
    });
}

/// As if there were no more than `length` entries.
fn cut(page: &mut LogPage, length: u64) {
    page.entries.truncate(usize::try_from(length.saturating_sub(page.from)).unwrap());
    page.length = length;
}

/// Everything the server has shown of Ana's log, put together.
fn whole_log(network: &Network) -> Vec<Bytes> {
    let mut entries: Vec<Bytes> = Vec::new();
    for exchange in network.calls(LOG) {
        let page: LogPage = exchange.reply().read();
        entries.truncate(usize::try_from(page.from).unwrap());
        entries.extend(page.entries);
    }
    entries
}

fn true_log(network: &Network) -> AccountLog {
    AccountLog::replay(whole_log(network).iter().map(|entry| &**entry)).unwrap()
}

fn signed_by(key: &SigningKey, body: Body) -> Entry {
    let signature = key.sign(Label::ACCOUNT_ENTRY, &[&body.to_bytes()]);
    body.signed(signature)
}

fn new_log() -> (AccountRootSecret, AccountLog) {
    let root = AccountRootSecret::generate();
    let log = AccountLog::begin(&root.identity().sign_genesis(1)).unwrap();
    (root, log)
}

fn genesis_of(root: &AccountRootSecret) -> Bytes {
    root.identity().sign_genesis(1).as_bytes().to_vec().into()
}
