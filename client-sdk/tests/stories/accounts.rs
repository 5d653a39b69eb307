//! The life of an account: made, signed in to, changed, recovered, left.

use crate::fake::{Fake, NAME};
use selkie_client::{
    Client, Error, KeyMode, PasswordProof, Recover, SignIn, SignOut, SignUp, SignedIn, SignedUp, WrongKey,
    known_accounts,
};

const PASSWORD: &str = "correct horse";

pub(crate) async fn ana(client: &Client) -> SignedUp {
    client.sign_up("ana@example.org", PASSWORD, called("laptop")).await.unwrap()
}

fn called(name: &str) -> SignUp {
    SignUp { device_name: name.into(), ..SignUp::default() }
}

async fn again(client: &Client, password: &str, secret_key: Option<&str>) -> selkie_client::Result<SignedIn> {
    let options = SignIn { device_name: "phone".into(), ..SignIn::default() };
    client.sign_in("Ana@Example.org ", password, secret_key, options).await
}

#[tokio::test]
async fn a_new_account_works_at_once_and_its_sheet_is_confirmed_once() {
    let server = Fake::start();
    let laptop = server.device();
    let made = ana(&laptop).await;
    let devices = made.account.devices().await.unwrap().devices;
    assert_eq!(devices.len(), 1);
    assert_eq!((devices[0].name.as_deref(), devices[0].this_device), (Some("laptop"), true));
    assert!(made.sheet.secret_key().unwrap().starts_with("S1-"));

    assert_eq!(made.account.unconfirmed_sheet(), Some(made.sheet.clone()));
    assert!(made.account.confirm_sheet("R1-nonsense").await.is_err());
    made.account.confirm_sheet(&made.sheet.recovery_key().to_lowercase()).await.unwrap();
    assert_eq!(made.account.unconfirmed_sheet(), None);
}

#[tokio::test]
async fn a_second_device_needs_the_secret_key_and_sees_the_first() {
    let server = Fake::start();
    let made = ana(&server.device()).await;
    let phone = server.device();
    for (password, secret_key) in [("wrong", made.sheet.secret_key()), (PASSWORD, None)] {
        assert!(matches!(again(&phone, password, secret_key).await, Err(Error::WrongCredentials)));
    }
    let other_key = ana(&Fake::start().device()).await.sheet;
    assert!(matches!(again(&phone, PASSWORD, other_key.secret_key()).await, Err(Error::WrongCredentials)));
    assert!(matches!(again(&phone, PASSWORD, Some("S1-0000")).await, Err(Error::WrongKey(WrongKey::Code(_)))));
    assert!(phone.accounts().await.unwrap().is_empty(), "a sign-in that failed leaves nothing");

    let signed_in = again(&phone, PASSWORD, made.sheet.secret_key()).await.unwrap();
    assert!(signed_in.new_device);
    assert_eq!(signed_in.account.user_id(), made.account.user_id());
    let names: Vec<_> = signed_in.devices.iter().map(|device| device.name.clone().unwrap()).collect();
    assert_eq!(names, ["phone", "laptop"]);
    assert!(signed_in.devices.iter().all(|device| device.last_seen_ms.is_some()));
    made.account.devices().await.unwrap();
    assert_eq!(signed_in.state_code, made.account.state_code(), "both devices see the same state");
}

#[tokio::test]
async fn a_device_that_signed_out_comes_back_with_the_password_alone() {
    let server = Fake::start();
    let laptop = server.device();
    let made = ana(&laptop).await;
    assert!(made.account.sign_out(SignOut::Keep).await.unwrap().server_told);
    assert_eq!(server.sessions(), 0);
    let account = laptop.account("ana@example.org").await.unwrap().unwrap();
    assert!(!account.is_signed_in());
    assert!(matches!(account.devices().await, Err(Error::SignInAgain { .. })));
    let signed_in = again(&laptop, PASSWORD, None).await.unwrap();
    assert!(!signed_in.new_device);
    assert_eq!(signed_in.account.device_id(), made.account.device_id());
    assert_eq!(signed_in.account.devices().await.unwrap().devices.len(), 1);
}

#[tokio::test]
async fn wiping_leaves_nothing_even_if_the_server_cannot_be_told() {
    let server = Fake::start();
    let data = tempfile::tempdir().unwrap();
    let laptop = server.builder().store(data.path()).build().unwrap();
    let made = ana(&laptop).await;
    server.next_request_to("sign-out", crate::fake::Mishap::NotDelivered);
    assert!(!made.account.sign_out(SignOut::Wipe).await.unwrap().server_told);
    assert!(known_accounts(data.path()).unwrap().is_empty());
    assert_eq!(std::fs::read_dir(data.path().join("accounts")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_session_survives_a_restart_and_a_folder_holds_many_accounts() {
    let server = Fake::start();
    let data = tempfile::tempdir().unwrap();
    let open = || server.builder().store(data.path()).build().unwrap();
    let ana = ana(&open()).await;
    let bob = open().sign_up("bob", PASSWORD, called("laptop")).await.unwrap();
    assert_ne!(ana.account.user_id(), bob.account.user_id());

    let known = known_accounts(data.path()).unwrap();
    assert_eq!(known.iter().map(|known| known.login_name.as_str()).collect::<Vec<_>>(), ["ana@example.org", "bob"]);
    assert!(known.iter().all(|known| known.signed_in && known.server_name == NAME));

    let restarted = open();
    let account = restarted.account("ana@example.org").await.unwrap().unwrap();
    assert_eq!(account.devices().await.unwrap().devices.len(), 1);
    assert!(bob.account.sign_out(SignOut::Wipe).await.unwrap().server_told);
    assert_eq!(account.devices().await.unwrap().devices.len(), 1, "the other account is not touched");
}

#[tokio::test]
async fn a_changed_password_is_the_only_one_and_other_sessions_end() {
    let server = Fake::start();
    let made = ana(&server.device()).await;
    let phone = server.device();
    let on_phone = again(&phone, PASSWORD, made.sheet.secret_key()).await.unwrap().account;

    assert!(matches!(made.account.change_password("wrong", "new words", false).await, Err(Error::WrongCredentials)));
    made.account.change_password(PASSWORD, "new words", false).await.unwrap();
    assert!(matches!(on_phone.devices().await, Err(Error::SignInAgain { .. })));
    assert!(matches!(again(&phone, PASSWORD, None).await, Err(Error::WrongCredentials)));
    let back = again(&phone, "new words", None).await.unwrap();
    assert_eq!(back.account.device_id(), on_phone.device_id());

    made.account.change_password("new words", "third words", true).await.unwrap();
    assert_eq!(back.account.devices().await.unwrap().devices.len(), 2, "sessions may be kept");
}

#[tokio::test]
async fn a_password_that_stands_alone_must_be_strong() {
    let server = Fake::start();
    let laptop = server.device();
    let options = || SignUp { key_mode: KeyMode::PasswordOnly, ..called("laptop") };
    let weak = laptop.sign_up("ana@example.org", "hunter2", options()).await;
    assert!(matches!(weak, Err(Error::WeakPassword { .. })));
    assert_eq!(server.asked(), Vec::<String>::new(), "nothing is sent for a password that will not do");

    let strong = "otter-lantern-39-quiet-harbour";
    let made = laptop.sign_up("ana@example.org", strong, options()).await.unwrap();
    assert_eq!(made.sheet.secret_key(), None);
    again(&server.device(), strong, None).await.unwrap();
    let weak = made.account.change_password(strong, "hunter2", false).await;
    assert!(matches!(weak, Err(Error::WeakPassword { .. })));
}

#[tokio::test]
async fn a_revoked_device_is_out_and_the_others_keep_their_names() {
    let server = Fake::start();
    let made = ana(&server.device()).await;
    let phone = server.device();
    let on_phone = again(&phone, PASSWORD, made.sheet.secret_key()).await.unwrap().account;
    let tablet = again(&server.device(), PASSWORD, made.sheet.secret_key()).await.unwrap().account;

    made.account.revoke(&on_phone.device_id(), PASSWORD).await.unwrap();
    assert!(matches!(on_phone.devices().await, Err(Error::SignInAgain { .. })));
    let list = made.account.devices().await.unwrap();
    assert!(!list.keys_renewed);
    let row = |id| list.devices.iter().find(|device| device.id == id).unwrap();
    assert!(row(on_phone.device_id()).revoked);
    assert_eq!(row(tablet.device_id()).name.as_deref(), Some("phone"));

    let list = tablet.devices().await.unwrap();
    assert!(list.keys_renewed, "the keys were renewed elsewhere");
    assert!(list.devices.iter().all(|device| device.revoked || device.name.is_none()), "new names stay closed");
    tablet.unlock(PASSWORD).await.unwrap();
    let list = tablet.devices().await.unwrap();
    assert!(!list.keys_renewed && list.devices[0].name.is_some());

    // Revoking twice is no error; revoking oneself is a mistake of the app.
    made.account.revoke(&on_phone.device_id(), PASSWORD).await.unwrap();
    assert!(matches!(tablet.revoke(&tablet.device_id(), PASSWORD).await, Err(Error::NotPossible(_))));

    let back = again(&phone, PASSWORD, None).await.unwrap();
    assert!(back.new_device && back.account.device_id() != on_phone.device_id(), "it comes back as another device");
}

#[tokio::test]
async fn the_recovery_key_brings_back_what_password_and_devices_lost() {
    let server = Fake::start();
    let made = ana(&server.device()).await;
    let found = server.device();
    let recover = |key: String| {
        let found = found.clone();
        let options = Recover { device_name: "new laptop".into(), ..Recover::default() };
        async move { found.recover("ana@example.org", &key, "new words", options).await }
    };
    let not_hers = ana(&Fake::start().device()).await.sheet.recovery_key().to_owned();
    assert!(matches!(recover(not_hers).await, Err(Error::WrongKey(WrongKey::RecoveryKey))));
    assert!(matches!(recover("R1-".into()).await, Err(Error::WrongKey(WrongKey::Code(_)))));
    let nobody = found.recover("nobody", made.sheet.recovery_key(), "new words", Recover::default()).await;
    assert!(matches!(nobody, Err(Error::WrongKey(WrongKey::RecoveryKey))));

    let back = recover(made.sheet.recovery_key().into()).await.unwrap();
    assert_eq!(back.account.user_id(), made.account.user_id());
    let sheet = back.sheet.unwrap();
    assert_ne!(sheet.recovery_key(), made.sheet.recovery_key());
    assert_ne!(sheet.secret_key(), made.sheet.secret_key());
    assert!(matches!(made.account.devices().await, Err(Error::SignInAgain { .. })), "every other session ended");

    let third = server.device();
    assert!(matches!(again(&third, "new words", made.sheet.secret_key()).await, Err(Error::WrongCredentials)));
    again(&third, "new words", sheet.secret_key()).await.unwrap();
    let old_key = recover(made.sheet.recovery_key().into()).await;
    assert!(matches!(old_key, Err(Error::WrongKey(WrongKey::RecoveryKey))), "the old sheet is void");
    recover(sheet.recovery_key().into()).await.unwrap();
}

#[tokio::test]
async fn a_rotated_recovery_key_replaces_the_old_one() {
    let server = Fake::start();
    let made = ana(&server.device()).await;
    let sheet = made.account.rotate_recovery_key(PASSWORD).await.unwrap();
    assert_ne!(sheet.recovery_key(), made.sheet.recovery_key());
    assert_eq!(sheet.secret_key(), made.sheet.secret_key());
    let found = server.device();
    let options = Recover::default;
    assert!(found.recover("ana@example.org", made.sheet.recovery_key(), "new words", options()).await.is_err());
    found.recover("ana@example.org", sheet.recovery_key(), "new words", options()).await.unwrap();
}

#[tokio::test]
async fn a_second_factor_is_asked_for_wherever_the_password_is() {
    let server = Fake::start();
    let made = ana(&server.device()).await;
    assert!(made.account.enable_totp(PASSWORD).await.unwrap().qr().is_some());
    assert!(matches!(made.account.confirm_totp("000000").await, Err(Error::SecondFactorNeeded { refused: true })));
    assert_eq!(made.account.confirm_totp(" 123456 ").await.unwrap().len(), 1);

    let phone = server.device();
    let sign_in = |code: Option<&str>| {
        let options = SignIn { second_factor: code.map(Into::into), device_name: "phone".into(), ..SignIn::default() };
        let (phone, secret_key) = (phone.clone(), made.sheet.secret_key().map(str::to_owned));
        async move { phone.sign_in("ana@example.org", PASSWORD, secret_key.as_deref(), options).await }
    };
    assert!(matches!(sign_in(None).await, Err(Error::SecondFactorNeeded { refused: false })));
    assert!(matches!(sign_in(Some("000000")).await, Err(Error::SecondFactorNeeded { refused: true })));
    sign_in(Some("123456")).await.unwrap();

    assert!(matches!(made.account.disable_totp(PASSWORD).await, Err(Error::SecondFactorNeeded { refused: false })));
    made.account.disable_totp(PasswordProof::new(PASSWORD).with_code("123457")).await.unwrap();
    made.account.unlock(PASSWORD).await.unwrap();
}

#[tokio::test]
async fn a_code_that_is_good_once_is_enough_for_a_device_that_is_not_certain_to_be_known() {
    let server = Fake::start();
    let made = ana(&server.device()).await;
    made.account.enable_totp(PASSWORD).await.unwrap();
    made.account.confirm_totp("123456").await.unwrap();
    let phone = server.device();
    let key = made.sheet.secret_key();
    let mut code = 123_450;
    let mut sign_in = async || {
        code += 1;
        let second_factor = Some(code.to_string().into());
        let options = SignIn { second_factor, device_name: "phone".into(), ..SignIn::default() };
        phone.sign_in("ana@example.org", PASSWORD, key, options).await
    };
    // Added, or not, and nobody heard.
    server.next_request_to("account/devices", crate::fake::Mishap::NotDelivered);
    assert!(matches!(sign_in().await, Err(Error::Offline(_))));
    server.next_request_to("account/devices", crate::fake::Mishap::AnswerLost);
    assert!(matches!(sign_in().await, Err(Error::Offline(_))));
    let first = sign_in().await.unwrap().account;
    // Sent away while signed out.
    assert!(first.sign_out(SignOut::Keep).await.unwrap().server_told);
    made.account.revoke(&first.device_id(), PasswordProof::new(PASSWORD).with_code("123459")).await.unwrap();
    assert!(sign_in().await.unwrap().new_device);
}

#[tokio::test]
async fn an_account_to_be_deleted_can_be_kept() {
    let server = Fake::start();
    let account = ana(&server.device()).await.account;
    assert!(account.delete_account("wrong").await.is_err());
    account.delete_account(PASSWORD).await.unwrap();
    assert!(account.standing().await.unwrap().delete_after_ms.is_some());
    account.keep_account().await.unwrap();
    assert_eq!(account.standing().await.unwrap().delete_after_ms, None);
}

#[tokio::test]
async fn a_bare_account_gets_its_keys_at_the_first_sign_in() {
    let server = Fake::start();
    server.register_bare("ana@example.org", PASSWORD);
    let signed_in = again(&server.device(), PASSWORD, None).await.unwrap();
    assert!(signed_in.new_device && signed_in.completed);
    let sheet = signed_in.sheet.unwrap();
    assert_eq!(sheet.secret_key(), None);
    assert_eq!(signed_in.account.devices().await.unwrap().devices.len(), 1);
    let phone = again(&server.device(), PASSWORD, None).await.unwrap();
    assert_eq!(phone.account.user_id(), signed_in.account.user_id());
    assert!(!phone.completed);
}

#[tokio::test]
async fn a_taken_name_is_said_to_be_taken_and_leaves_nothing_behind() {
    let server = Fake::start();
    let made = ana(&server.device()).await;
    let other = server.device();
    let error = other.sign_up("ana@example.org", "words", called("x")).await.unwrap_err();
    assert_eq!(error.code(), Some(selkie_client::ErrorCode::LoginNameTaken));
    assert!(other.accounts().await.unwrap().is_empty());
    assert_eq!(server.accounts(), 1);
    made.account.devices().await.unwrap();
}

#[tokio::test]
async fn nothing_shows_itself_in_debug() {
    let server = Fake::start();
    let laptop = server.device();
    let made = ana(&laptop).await;
    let shown = format!(
        "{laptop:?} {made:?} {:?} {:?}",
        PasswordProof::new(PASSWORD),
        made.account.link_device().await.unwrap()
    );
    let secrets = [PASSWORD, "ana@", made.sheet.recovery_key(), made.sheet.secret_key().unwrap()];
    assert!(secrets.iter().all(|secret| !shown.contains(secret)), "{shown}");
}
