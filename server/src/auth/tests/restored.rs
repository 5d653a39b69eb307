//! A restored server gets back what it lost of account logs, from whoever has it, and nothing else.

use crate::auth::Refusal;
use crate::auth::sessions::Caller;
use crate::store::Scope;
use crate::testing::{House, Person, SOMEWHERE};
use selkie_protocol::Bytes;
use selkie_protocol::account::RestoreLog;
use selkie_protocol::account_log::Payload;
use selkie_protocol::cipher::{DeviceKey, RecoveryKey};
use selkie_protocol::hash::Label;
use selkie_protocol::session::{RecoverFinish, RecoverStart};

/// Entries that the server has lost: it was never told of them.
fn lost(person: &mut Person, payloads: Vec<Payload>) -> RestoreLog {
    let from = person.log.next_index();
    RestoreLog { from, entries: payloads.into_iter().map(|payload| person.sign_next(payload)).collect() }
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_come_back_in_their_places_and_with_what_they_name() {
    let house = House::open().await.restored().await;
    let mut ana = house.person("ana").await;
    let caller = house.caller(&ana).await;
    let phone = DeviceKey::generate();
    let added = phone.device_add(&ana.user());
    let offer = lost(&mut ana, vec![added]);
    let restored = house.auth().restore_log(&caller, None, offer.clone()).await.unwrap();
    assert_eq!(restored.length, offer.from + 1);
    let page = house.auth().account_log(&caller, offer.from).await.unwrap();
    assert_eq!(page.entries, offer.entries);
    let devices = house.auth().devices(&caller).await.unwrap().devices;
    assert!(devices.iter().any(|device| device.did == phone.id() && device.revoked_at_ms.is_none()));
    let again = house.auth().restore_log(&caller, None, offer).await;
    assert!(matches!(again, Err(Refusal::LogConflict)), "it is there already");

    let offer = lost(&mut ana, vec![Payload::DeviceRevoke { device: phone.id() }]);
    house.auth().restore_log(&caller, None, offer).await.unwrap();
    let devices = house.auth().devices(&caller).await.unwrap().devices;
    assert!(devices.iter().any(|device| device.did == phone.id() && device.revoked_at_ms.is_some()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_was_revoked_loses_its_session_again() {
    let house = House::open().await.restored().await;
    let mut ana = house.person("ana").await;
    let stolen = ana.tokens().access_token.as_str().to_owned();
    let caller = house.caller(&ana).await;
    let device = ana.device.id();
    let offer = lost(&mut ana, vec![Payload::DeviceRevoke { device }]);
    house.auth().restore_log(&caller, None, offer).await.unwrap();
    assert!(house.auth().authenticate(&stolen).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn anybody_of_the_tenant_may_bring_them_and_nobody_can_make_them() {
    let house = House::open().await.restored().await;
    let (mut ana, mut bob) = (house.person("ana").await, house.person("bob").await);
    let bobs = house.caller(&bob).await;
    let phone = DeviceKey::generate();
    let added = phone.device_add(&ana.user());
    let offer = lost(&mut ana, vec![added]);
    let put = async |whose: &Person, offer: RestoreLog| {
        house.auth().restore_log(&bobs, Some(whose.user()), offer).await.map(|restored| restored.length)
    };
    let mut forged = offer.clone();
    forged.entries[0].0[100] ^= 1;
    assert!(matches!(put(&ana, forged).await, Err(Refusal::LogEntryRefused(_))));
    let added = phone.device_add(&bob.user());
    let of_bob = lost(&mut bob, vec![added]);
    assert!(matches!(put(&ana, of_bob).await, Err(Refusal::LogEntryRefused(_))));
    let gap = RestoreLog { from: offer.from + 1, ..offer.clone() };
    assert!(matches!(put(&ana, gap).await, Err(Refusal::LogConflict)));
    for entries in [Vec::new(), vec![Bytes(Vec::new()); 257]] {
        let offer = RestoreLog { entries, ..offer.clone() };
        assert!(matches!(put(&ana, offer).await, Err(Refusal::Invalid { field: "entries", .. })));
    }
    assert!(matches!(put(&Person::new("nobody"), offer.clone()).await, Err(Refusal::NotFound("person"))));
    assert_eq!(put(&ana, offer.clone()).await.unwrap(), offer.from + 1);
}

/// What was changed after the backup may have been changed because somebody knows it.
#[tokio::test(flavor = "multi_thread")]
async fn keys_that_were_changed_after_the_backup_let_in_devices_of_the_account_and_nobody_else() {
    let house = House::open().await.restored().await;
    let mut ana = house.person("ana").await;
    let caller = house.caller(&ana).await;
    let old_sheet = RecoveryKey::parse(&ana.recovery_key.to_text()).unwrap();
    let recover = async |key: &RecoveryKey| {
        let start = RecoverStart { tenant: None, login_name: "ana".into() };
        let started = house.auth().recover_start(SOMEWHERE, start).await.unwrap();
        let signer = key.sign_in_key(&started.uid, started.rec_gen);
        let signature = signer.sign(Label::RECOVERY_LOGIN, &[started.login_id.as_bytes(), started.uid.as_bytes()]);
        let finish = RecoverFinish { login_id: started.login_id, signature: signature.0.into() };
        house.auth().recover_finish(finish).await.map(drop)
    };
    recover(&old_sheet).await.unwrap();
    let new_sheet = RecoveryKey::generate();
    let generation = ana.log.recovery().unwrap().0 + 1;
    let public_key = new_sheet.sign_in_key(&ana.user(), generation).public_key();
    let offer = lost(&mut ana, vec![Payload::PasswordGeneration(2), Payload::RecoveryKey { generation, public_key }]);
    house.auth().restore_log(&caller, None, offer).await.unwrap();

    let (guess, request) = ana.login_start();
    let answer = house.auth().login_start(SOMEWHERE, request).await.unwrap();
    let mut finish = ana.login_finish(guess, &answer);
    finish.device = None;
    assert!(matches!(house.auth().login_finish(finish).await, Err(Refusal::KeysSuperseded)));
    assert!(matches!(recover(&old_sheet).await, Err(Refusal::InvalidLogin)), "it is void again");
    assert!(matches!(recover(&new_sheet).await, Err(Refusal::KeysSuperseded)), "what it opens is not here");
    ana.sign_in(&house).await;
}

/// Whoever comes new has seen neither, and takes whatever is behind the log for a rollback.
#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_key_that_was_changed_after_the_backup_keeps_out_new_devices_too() {
    let house = House::open().await.restored().await;
    let mut ana = house.person("ana").await;
    let caller = house.caller(&ana).await;
    assert!(!house.auth().account(&caller).await.unwrap().keys_superseded);
    let generation = ana.log.recovery().unwrap().0 + 1;
    let public_key = RecoveryKey::generate().sign_in_key(&ana.user(), generation).public_key();
    let offer = lost(&mut ana, vec![Payload::RecoveryKey { generation, public_key }]);
    house.auth().restore_log(&caller, None, offer).await.unwrap();
    assert!(house.auth().account(&caller).await.unwrap().keys_superseded);
    let (guess, request) = ana.login_start();
    let answer = house.auth().login_start(SOMEWHERE, request).await.unwrap();
    let mut finish = ana.login_finish(guess, &answer);
    finish.device = None;
    assert!(matches!(house.auth().login_finish(finish).await, Err(Refusal::KeysSuperseded)));
}

/// A session of a recovery may do nothing but set new keys, for which it gives back what is its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_gives_back_its_own_log_and_nobody_elses() {
    let house = House::open().await.restored().await;
    let (mut ana, mut bob) = (house.person("ana").await, house.person("bob").await);
    let caller = Caller { scope: Scope::Recovery, ..house.caller(&ana).await };
    let added = DeviceKey::generate().device_add(&bob.user());
    let of_bob = lost(&mut bob, vec![added]);
    let refused = house.auth().restore_log(&caller, Some(bob.user()), of_bob).await;
    assert!(matches!(refused, Err(Refusal::Forbidden(_))));
    let added = DeviceKey::generate().device_add(&ana.user());
    let own = lost(&mut ana, vec![added]);
    house.auth().restore_log(&caller, None, own).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_door_is_open_for_some_time_after_a_restore_and_no_longer() {
    let never_restored = House::open().await;
    let restored = never_restored.restored().await;
    restored.clock.pass(91 * 24 * 60 * 60_000);
    for house in [never_restored, restored] {
        let mut ana = house.person("ana").await;
        let caller = house.caller(&ana).await;
        let added = DeviceKey::generate().device_add(&ana.user());
        let offer = lost(&mut ana, vec![added]);
        assert!(matches!(house.auth().restore_log(&caller, None, offer).await, Err(Refusal::Conflict(_))));
    }
}
