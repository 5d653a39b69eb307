//! What an account changes about itself: password, recovery, devices, its end.

use crate::auth::{Caller, Refusal};
use crate::testing::{House, Person, SOMEWHERE, exactly};
use selkie_protocol::account::{
    AccountState, AddDevice, CompleteAccount, PasswordFinish, PasswordStart, RevokeDevice, RotateRecoveryKey,
};
use selkie_protocol::account_log::Payload;
use selkie_protocol::cipher::{DeviceKey, PasswordKek, RecoveryKek, RecoveryKey};
use selkie_protocol::hash::Label;
use selkie_protocol::opaque::RegistrationStarted;
use selkie_protocol::session::{RecoverFinish, RecoverStart, Scope};

/// Makes the last message of a change of password; what it carries can still be spoiled.
async fn new_password(house: &House, caller: &Caller, person: &mut Person, password: &str) -> PasswordFinish {
    person.password = password.into();
    let input = person.password_input();
    let started = RegistrationStarted::new(&input).unwrap();
    let request = PasswordStart { request: exactly(&started.request) };
    let answer = house.auth().password_start(caller, request).await.unwrap();
    let finished = started.finish(&input, &*answer.response).unwrap();
    let user = person.user();
    let generation = person.log.password_generation() + 1;
    let entry = person.sign_next(Payload::PasswordGeneration(generation));
    let kek = PasswordKek::derive(&finished.export_key, &user, generation);
    let keybag = person.keybag.as_ref().unwrap().with_password(&person.root, &kek, &user);
    person.keybag = Some(keybag.clone());
    PasswordFinish {
        reg_token: answer.reg_token,
        record: exactly(&finished.record),
        keybag: Some(keybag.to_bytes()),
        entries: vec![entry],
        keep_other_sessions: false,
        remove_second_factors: false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_password_takes_the_place_of_the_old_one() {
    let house = House::open().await;
    let mut ana = house.person("ana").await;
    let elsewhere = sign_in_without_device(&house, &ana).await;
    let caller = house.caller(&ana).await;
    let finish = new_password(&house, &caller, &mut ana, "a new one, longer than before").await;
    house.auth().password_finish(&caller, finish.clone()).await.unwrap();
    assert!(house.auth().authenticate(ana.tokens().access_token.as_str()).await.is_ok(), "this session goes on");
    assert!(matches!(house.auth().authenticate(&elsewhere).await, Err(Refusal::SessionEnded)), "the others do not");
    let replayed = house.auth().password_finish(&caller, finish).await;
    assert!(matches!(replayed, Err(Refusal::LogConflict)));

    let new = std::mem::replace(&mut ana.password, crate::testing::PASSWORD.into());
    let (guess, request) = ana.login_start();
    let answer = house.auth().login_start(SOMEWHERE, request).await.unwrap();
    assert!(guess.finish(&ana.password_input(), &*answer.ke2).is_err(), "the old one is of no use");
    ana.password = new;
    ana.sign_in(&house).await;
    let keybag = house.auth().keybag(&house.caller(&ana).await).await.unwrap().keybag;
    assert_eq!(keybag, ana.keybag.as_ref().unwrap().to_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_that_began_with_the_old_password_comes_to_nothing() {
    let house = House::open().await;
    let mut ana = house.person("ana").await;
    let caller = house.caller(&ana).await;
    let (guess, request) = ana.login_start();
    let answer = house.auth().login_start(SOMEWHERE, request).await.unwrap();
    let old = ana.login_finish(guess, &answer);
    let start = RecoverStart { tenant: None, login_name: "ana".into() };
    let recovery = house.auth().recover_start(SOMEWHERE, start).await.unwrap();
    let key = ana.recovery_key.sign_in_key(&recovery.uid, recovery.rec_gen);
    let signature = key.sign(Label::RECOVERY_LOGIN, &[recovery.login_id.as_bytes(), recovery.uid.as_bytes()]);
    let recovered = RecoverFinish { login_id: recovery.login_id, signature: signature.0.into() };

    let finish = new_password(&house, &caller, &mut ana, "the next").await;
    house.auth().password_finish(&caller, finish).await.unwrap();
    assert!(matches!(house.auth().login_finish(old).await, Err(Refusal::SignInExpired)));
    assert!(matches!(house.auth().recover_finish(recovered).await, Err(Refusal::SignInExpired)));
    ana.sign_in(&house).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_change_is_whole_or_it_is_not() {
    let house = House::open().await;
    let mut ana = house.person("ana").await;
    let caller = house.caller(&ana).await;
    let finish = new_password(&house, &caller, &mut ana, "the next").await;
    let attempt = async |spoil: &dyn Fn(&mut PasswordFinish)| {
        let mut spoiled = finish.clone();
        spoil(&mut spoiled);
        house.auth().password_finish(&caller, spoiled).await.unwrap_err()
    };
    assert!(matches!(attempt(&|it| it.keybag = None).await, Refusal::Invalid { field: "keybag", .. }));
    assert!(matches!(
        attempt(&|it| it.keybag.as_mut().unwrap().0[4] = 1).await,
        Refusal::Invalid { field: "keybag", .. }
    ));
    assert!(matches!(attempt(&|it| it.entries.clear()).await, Refusal::LogEntryRefused(_)));
    assert!(matches!(attempt(&|it| it.entries[0].0[100] ^= 1).await, Refusal::LogEntryRefused(_)));
    assert!(matches!(attempt(&|it| it.reg_token.0[20] ^= 1).await, Refusal::Invalid { field: "reg_token", .. }));
    assert!(matches!(attempt(&|it| it.remove_second_factors = true).await, Refusal::Invalid { .. }));
    assert!(matches!(attempt(&|it| it.record.0[..].fill(0xff)).await, Refusal::Invalid { field: "record", .. }));
    let eve = house.person("eve").await;
    let stolen = house.auth().password_finish(&house.caller(&eve).await, finish.clone()).await;
    assert!(matches!(stolen, Err(Refusal::Invalid { field: "reg_token", .. })));
    house.auth().password_finish(&caller, finish).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_matters_wants_the_password_again_after_five_minutes() {
    let house = House::open().await;
    let mut ana = house.person("ana").await;
    house.clock.pass(300_001);
    let caller = house.caller(&ana).await;
    let auth = house.auth();
    let request = RegistrationStarted::new(b"x").unwrap().request;
    let request = PasswordStart { request: exactly(&request) };
    let entry = ana.sign_next(Payload::DeviceRevoke { device: ana.device.id() });
    let revoke = RevokeDevice { entries: vec![entry], labels: Vec::new() };
    for refused in [
        auth.keybag(&caller).await.map(drop),
        auth.password_start(&caller, request).await.map(drop),
        auth.totp_start(&caller).await.map(drop),
        auth.totp_remove(&caller).await,
        auth.schedule_deletion(&caller).await.map(drop),
        auth.revoke_device(&caller, ana.device.id(), revoke).await,
    ] {
        assert!(matches!(refused, Err(Refusal::RecentSignInRequired)));
    }
    assert!(auth.account(&caller).await.is_ok() && auth.account_log(&caller, 0).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_lost_every_device_comes_back_with_the_recovery_key() {
    let house = House::open().await;
    let mut ana = house.person("ana").await;
    let start = RecoverStart { tenant: None, login_name: "ana".into() };
    let started = house.auth().recover_start(SOMEWHERE, start.clone()).await.unwrap();
    assert_eq!((started.uid, started.rec_gen), (ana.user(), 1));
    let sign = |key: &RecoveryKey, started: &selkie_protocol::session::RecoverStarted| {
        let key = key.sign_in_key(&started.uid, started.rec_gen);
        let signature = key.sign(Label::RECOVERY_LOGIN, &[started.login_id.as_bytes(), started.uid.as_bytes()]);
        RecoverFinish { login_id: started.login_id, signature: signature.0.into() }
    };
    let wrong = house.auth().recover_finish(sign(&RecoveryKey::generate(), &started)).await;
    assert!(matches!(wrong, Err(Refusal::InvalidLogin)));
    let again = house.auth().recover_finish(sign(&ana.recovery_key, &started)).await;
    assert!(matches!(again, Err(Refusal::SignInExpired)), "one attempt a start");

    let started = house.auth().recover_start(SOMEWHERE, start).await.unwrap();
    let finished = house.auth().recover_finish(sign(&ana.recovery_key, &started)).await.unwrap();
    let tokens = finished.tokens.unwrap();
    assert_eq!(tokens.scope, Scope::Recovery);
    let recovering = house.auth().authenticate(tokens.access_token.as_str()).await.unwrap();
    assert!(matches!(house.auth().account(&recovering).await, Err(Refusal::Forbidden(_))));
    assert!(matches!(house.auth().sessions(&recovering).await, Err(Refusal::Forbidden(_))));
    assert!(matches!(house.auth().audit_page(&recovering, None).await, Err(Refusal::Forbidden(_))));
    let caller = house.auth().authenticate(tokens.access_token.as_str()).await.unwrap();
    house.clock.pass(600_000);
    assert!(house.auth().keybag(&caller).await.is_ok(), "choosing a password takes a while");
    for refused in [
        house.auth().devices(&caller).await.map(drop),
        house.auth().audit_page(&caller, None).await.map(drop),
        house.auth().totp_start(&caller).await.map(drop),
        house.auth().schedule_deletion(&caller).await.map(drop),
    ] {
        assert!(matches!(refused, Err(Refusal::Forbidden(_))));
    }

    let mut finish = new_password(&house, &caller, &mut ana, "after the flood").await;
    let user = ana.user();
    ana.recovery_key = RecoveryKey::generate();
    let public_key = ana.recovery_key.sign_in_key(&user, 2).public_key();
    finish.entries.push(ana.sign_next(Payload::RecoveryKey { generation: 2, public_key }));
    let recovery = RecoveryKek::derive(&ana.recovery_key, &user, 2);
    let keybag = ana.keybag.take().unwrap().with_recovery(&ana.root, &recovery, &user);
    finish.keybag = Some(keybag.to_bytes());
    finish.remove_second_factors = true;
    house.auth().password_finish(&caller, finish).await.unwrap();
    for old in [&tokens, ana.tokens()] {
        let ended = house.auth().authenticate(old.access_token.as_str()).await;
        assert!(matches!(ended, Err(Refusal::SessionEnded)));
    }
    ana.sign_in(&house).await;
    let start = RecoverStart { tenant: None, login_name: "ana".into() };
    let started = house.auth().recover_start(SOMEWHERE, start).await.unwrap();
    assert_eq!(started.rec_gen, 2);
    assert!(house.auth().recover_finish(sign(&ana.recovery_key, &started)).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_recovery_key_can_be_replaced() {
    let house = House::open().await;
    let mut ana = house.person("ana").await;
    let caller = house.caller(&ana).await;
    let user = ana.user();
    let key = RecoveryKey::generate();
    let public_key = key.sign_in_key(&user, 2).public_key();
    let entry = ana.sign_next(Payload::RecoveryKey { generation: 2, public_key });
    let old = ana.keybag.take().unwrap();
    let keybag = old.with_recovery(&ana.root, &RecoveryKek::derive(&key, &user, 2), &user);
    let start = RecoverStart { tenant: None, login_name: "ana".into() };
    let started = house.auth().recover_start(SOMEWHERE, start).await.unwrap();
    let old_key = ana.recovery_key.sign_in_key(&started.uid, started.rec_gen);
    let signature = old_key.sign(Label::RECOVERY_LOGIN, &[started.login_id.as_bytes(), started.uid.as_bytes()]);
    let thief = RecoverFinish { login_id: started.login_id, signature: signature.0.into() };
    let thief = house.auth().recover_finish(thief).await.unwrap().tokens.unwrap();
    let stale = RotateRecoveryKey { keybag: old.to_bytes(), entry: entry.clone() };
    let stale = house.auth().rotate_recovery_key(&caller, stale).await;
    assert!(matches!(stale, Err(Refusal::Invalid { field: "keybag", .. })));
    let request = RotateRecoveryKey { keybag: keybag.to_bytes(), entry };
    house.auth().rotate_recovery_key(&caller, request).await.unwrap();
    let ended = house.auth().authenticate(thief.access_token.as_str()).await;
    assert!(matches!(ended, Err(Refusal::SessionEnded)), "who came with the old key is out");
    assert!(house.auth().authenticate(ana.tokens().access_token.as_str()).await.is_ok());
    let start = RecoverStart { tenant: None, login_name: "ana".into() };
    assert_eq!(house.auth().recover_start(SOMEWHERE, start).await.unwrap().rec_gen, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_added_used_and_revoked_at_once() {
    let house = House::open().await;
    let mut ana = house.person("ana").await;
    let user = ana.user();
    // A second device signs in with the password, then certifies itself.
    let token = sign_in_without_device(&house, &ana).await;
    let caller = house.auth().authenticate(&token).await.unwrap();
    let telephone = DeviceKey::generate();
    let entry = ana.sign_next(telephone.device_add(&user));
    let label = ana.root.master_key(&user, 1).seal_label(&telephone.id(), "telephone");
    let signature = telephone.sign(Label::DEVICE_SESSION, &[caller_session(&token).as_slice()]).0.into();
    let forged = AddDevice { entry: entry.clone(), label, signature: [1; 64].into() };
    let forged = house.auth().add_device(&caller, forged).await;
    assert!(matches!(forged, Err(Refusal::Invalid { field: "signature", .. })));
    let tokens = house.auth().add_device(&caller, AddDevice { entry, label, signature }).await.unwrap();
    let telephone_caller = house.auth().authenticate(tokens.access_token.as_str()).await.unwrap();
    assert_eq!(house.auth().devices(&telephone_caller).await.unwrap().devices.len(), 2);

    let caller = house.caller(&ana).await;
    let revoke = ana.sign_next(Payload::DeviceRevoke { device: telephone.id() });
    let kem = ana.root.master_key(&user, 2).user_kem(&user).public_key();
    let turn = ana.sign_next(Payload::UserKem { generation: 2, public_key: kem });
    let half = RevokeDevice { entries: vec![revoke.clone()], labels: Vec::new() };
    let half = house.auth().revoke_device(&caller, telephone.id(), half).await;
    assert!(matches!(half, Err(Refusal::LogEntryRefused(_))), "the device could read what comes");
    let whole = RevokeDevice { entries: vec![revoke, turn], labels: Vec::new() };
    let other = house.auth().revoke_device(&caller, ana.device.id(), whole.clone()).await;
    assert!(matches!(other, Err(Refusal::LogEntryRefused(_))), "the path says another device");
    house.auth().revoke_device(&caller, telephone.id(), whole).await.unwrap();
    let gone = house.auth().authenticate(tokens.access_token.as_str()).await;
    assert!(matches!(gone, Err(Refusal::DeviceRevoked)));
    assert!(house.auth().authenticate(ana.tokens().access_token.as_str()).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bare_account_gets_its_keys_later_and_once() {
    let house = House::open().await;
    let mut ana = Person::new("ana");
    let (started, request) = ana.register_start(Some(house.invitation().await));
    let answer = house.auth().register_start(SOMEWHERE, request).await.unwrap();
    let finished = started.finish(&ana.password_input(), &*answer.response).unwrap();
    let bare = selkie_protocol::session::RegisterFinish {
        reg_token: answer.reg_token,
        record: exactly(&finished.record),
        account: None,
    };
    assert_eq!(house.auth().register_finish(bare).await.unwrap().uid, None);
    let token = sign_in_without_device(&house, &ana).await;
    let caller = house.auth().authenticate(&token).await.unwrap();
    assert!(matches!(house.auth().keybag(&caller).await, Err(Refusal::NotFound(_))));
    let account = ana.new_account(&finished.export_key);
    let signature = ana.sign(Label::DEVICE_SESSION, &[caller_session(&token).as_slice()]);
    let complete = CompleteAccount { account, signature };
    let tokens = house.auth().complete_account(&caller, complete.clone()).await.unwrap();
    assert_eq!((tokens.account, tokens.uid), (AccountState::Active, Some(ana.user())));
    let twice = house.auth().complete_account(&caller, complete).await;
    assert!(matches!(twice, Err(Refusal::Conflict(_))));
    ana.sign_in(&house).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_can_be_kept_until_its_hour_and_is_gone_after_it() {
    let house = House::open().await;
    let mut ana = house.person("ana").await;
    let caller = house.caller(&ana).await;
    let until = house.auth().schedule_deletion(&caller).await.unwrap().delete_after_ms;
    house.clock.pass(1_000);
    assert_eq!(house.auth().schedule_deletion(&caller).await.unwrap().delete_after_ms, until, "not put off");
    house.clock.pass(3 * 24 * 3_600_000);
    ana.sign_in(&house).await;
    assert_eq!(ana.tokens().account, AccountState::Deleting);
    let blobs = &*house.app.blobs;
    assert_eq!(house.auth().delete_due_accounts(blobs).await.unwrap(), 0);
    house.auth().cancel_deletion(&house.caller(&ana).await).await.unwrap();
    let kept = house.auth().cancel_deletion(&house.caller(&ana).await).await;
    assert!(matches!(kept, Err(Refusal::Conflict(_))));

    let caller = house.caller(&ana).await;
    house.auth().schedule_deletion(&caller).await.unwrap();
    let home = house.app.tenancy.named("home").await.unwrap().tenant;
    let file = crate::blobs::BlobKey::new(home.0, &["accounts", &caller.account_uuid().simple().to_string(), "a"]);
    blobs.put(&file.clone().unwrap(), b"sealed".to_vec()).await.unwrap();
    house.clock.pass(7 * 24 * 3_600_000);
    let late = house.auth().cancel_deletion(&caller).await;
    assert!(matches!(late, Err(Refusal::Conflict(_))), "its files may be gone already");
    assert_eq!(house.auth().delete_due_accounts(blobs).await.unwrap(), 1);
    assert!(blobs.get(&file.unwrap()).await.is_err());
    let gone = house.auth().authenticate(ana.tokens().access_token.as_str()).await;
    assert!(gone.is_err());
    let (_, request) = ana.login_start();
    assert!(house.auth().login_start(SOMEWHERE, request).await.is_ok(), "and nobody can tell");
    assert_eq!(house.app.tenancy.accounts("home").await.unwrap().len(), 0);
}

async fn sign_in_without_device(house: &House, person: &Person) -> String {
    let (guess, request) = person.login_start();
    let answer = house.auth().login_start(SOMEWHERE, request).await.unwrap();
    let mut finish = person.login_finish(guess, &answer);
    finish.device = None;
    let tokens = house.auth().login_finish(finish).await.unwrap().tokens.unwrap();
    tokens.access_token.as_str().to_owned()
}

/// The session a token is for: clients know it from the tokens they were given.
fn caller_session(token: &str) -> Vec<u8> {
    let claims = selkie_protocol::bytes::from_base64url(token.split('.').nth(1).unwrap()).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
    selkie_protocol::bytes::from_base64url(claims["sid"].as_str().unwrap()).unwrap()
}
