//! Answers that never came, and processes that ended in between: the old world or the new one, nothing else.

use crate::accounts::ana;
use crate::fake::{Fake, Mishap};
use selkie_client::{Client, Error, Recover, SignIn, SignUp};

const PASSWORD: &str = "correct horse";

fn called(name: &str) -> SignIn {
    SignIn { device_name: name.into(), ..SignIn::default() }
}

async fn sign_up(client: &Client) -> selkie_client::Result<selkie_client::SignedUp> {
    client.sign_up("ana@example.org", PASSWORD, SignUp::default()).await
}

#[tokio::test]
async fn a_sign_up_that_is_cut_off_anywhere_can_be_repeated() {
    for (path, mishap) in [
        ("register/start", Mishap::NotDelivered),
        ("register/finish", Mishap::NotDelivered),
        ("register/finish", Mishap::AnswerLost),
        ("login/start", Mishap::NotDelivered),
        ("login/finish", Mishap::AnswerLost),
    ] {
        let server = Fake::start();
        let data = tempfile::tempdir().unwrap();
        let open = || server.builder().store(data.path()).build().unwrap();
        server.next_request_to(path, mishap);
        assert!(matches!(sign_up(&open()).await, Err(Error::Offline(_))), "{path}");
        // The process is gone; another one tries the same again.
        let made = sign_up(&open()).await.unwrap_or_else(|error| panic!("{path} {mishap:?}: {error}"));
        assert_eq!(server.accounts(), 1);
        assert_eq!(open().accounts().await.unwrap().len(), 1, "{path}: one account, one folder");
        let phone = server.device();
        let key = made.sheet.secret_key();
        phone.sign_in("ana@example.org", PASSWORD, key, called("phone")).await.unwrap();
        let recover = Recover::default();
        server.device().recover("ana@example.org", made.sheet.recovery_key(), "new words", recover).await.unwrap();
    }
}

#[tokio::test]
async fn a_sign_up_whose_answer_was_lost_can_be_finished_by_signing_in() {
    let server = Fake::start();
    let laptop = server.device();
    server.next_request_to("register/finish", Mishap::AnswerLost);
    assert!(sign_up(&laptop).await.is_err());
    assert!(laptop.account("ana@example.org").await.unwrap().is_none(), "it is not an account yet");
    let signed_in = laptop.sign_in("ana@example.org", PASSWORD, None, called("x")).await.unwrap();
    assert!(signed_in.sheet.unwrap().secret_key().is_some(), "and its sheet is not lost");
}

#[tokio::test]
async fn an_unconfirmed_sheet_survives_a_restart() {
    let server = Fake::start();
    let data = tempfile::tempdir().unwrap();
    let open = || server.builder().store(data.path()).build().unwrap();
    let made = ana(&open()).await;
    let restarted = open().account("ana@example.org").await.unwrap().unwrap();
    assert_eq!(restarted.unconfirmed_sheet(), Some(made.sheet));
    restarted.sheet_is_safe().await.unwrap();
    let restarted = open().account("ana@example.org").await.unwrap().unwrap();
    assert_eq!(restarted.unconfirmed_sheet(), None);
}

#[tokio::test]
async fn a_device_whose_addition_was_not_answered_is_added_once() {
    for mishap in [Mishap::NotDelivered, Mishap::AnswerLost] {
        let server = Fake::start();
        let made = ana(&server.device()).await;
        let phone = server.device();
        server.next_request_to("account/devices", mishap);
        let key = made.sheet.secret_key();
        let failed = phone.sign_in("ana@example.org", PASSWORD, key, called("phone")).await;
        assert!(matches!(failed, Err(Error::Offline(_))));
        let signed_in = phone.sign_in("ana@example.org", PASSWORD, key, called("phone")).await.unwrap();
        assert_eq!(signed_in.account.devices().await.unwrap().devices.len(), 2, "{mishap:?}");
    }
}

#[tokio::test]
async fn a_change_of_password_that_is_cut_off_leaves_the_old_one_or_the_new_one() {
    for (mishap, valid, void) in
        [(Mishap::NotDelivered, PASSWORD, "new words"), (Mishap::AnswerLost, "new words", PASSWORD)]
    {
        let server = Fake::start();
        let account = ana(&server.device()).await.account;
        server.next_request_to("password/finish", mishap);
        assert!(matches!(account.change_password(PASSWORD, "new words", false).await, Err(Error::Offline(_))));
        assert!(matches!(account.unlock(void).await, Err(Error::WrongCredentials)), "{mishap:?}");
        account.unlock(valid).await.unwrap();
        account.devices().await.unwrap();
    }
}

#[tokio::test]
async fn a_recovery_whose_answer_was_lost_keeps_its_new_keys() {
    let server = Fake::start();
    let made = ana(&server.device()).await;
    let found = server.device();
    server.next_request_to("password/finish", Mishap::AnswerLost);
    let key = made.sheet.recovery_key();
    let failed = found.recover("ana@example.org", key, "new words", Recover::default()).await;
    assert!(matches!(failed, Err(Error::Offline(_))));
    // The device has the new Secret Key; the person types the new password.
    let back = found.sign_in("ana@example.org", "new words", None, called("found")).await.unwrap();
    let sheet = back.sheet.unwrap();
    assert_ne!(sheet.recovery_key(), key);
    server.device().sign_in("ana@example.org", "new words", sheet.secret_key(), called("x")).await.unwrap();
}

#[tokio::test]
async fn a_recovery_that_is_cut_off_anywhere_can_be_repeated_with_the_same_words() {
    for (path, mishap) in [
        ("recover/finish", Mishap::AnswerLost),
        ("password/start", Mishap::NotDelivered),
        ("password/finish", Mishap::NotDelivered),
        ("password/finish", Mishap::AnswerLost),
        ("login/finish", Mishap::AnswerLost),
        ("account/devices", Mishap::AnswerLost),
    ] {
        let server = Fake::start();
        let made = ana(&server.device()).await;
        let data = tempfile::tempdir().unwrap();
        let open = || server.builder().store(data.path()).build().unwrap();
        server.next_request_to(path, mishap);
        let recover = async |client: Client| {
            client.recover("ana@example.org", made.sheet.recovery_key(), "new words", Recover::default()).await
        };
        assert!(matches!(recover(open()).await, Err(Error::Offline(_))), "{path}");
        let back = recover(open()).await.unwrap_or_else(|error| panic!("{path} {mishap:?}: {error}"));
        let sheet = back.sheet.unwrap_or_else(|| panic!("{path} {mishap:?}: no sheet"));
        assert_ne!(sheet.recovery_key(), made.sheet.recovery_key());
        let key = sheet.secret_key();
        server.device().sign_in("ana@example.org", "new words", key, called("x")).await.unwrap();
    }
}

#[tokio::test]
async fn a_recovery_that_drops_the_secret_key_can_be_cut_off_on_a_known_device_too() {
    let server = Fake::start();
    let laptop = server.device();
    let made = ana(&laptop).await;
    server.next_request_to("password/finish", Mishap::AnswerLost);
    let strong = "otter-lantern-39-quiet-harbour";
    let options = || Recover { key_mode: selkie_client::KeyMode::PasswordOnly, ..Recover::default() };
    let recover = || laptop.recover("ana@example.org", made.sheet.recovery_key(), strong, options());
    assert!(recover().await.is_err());
    assert_eq!(recover().await.unwrap().sheet.unwrap().secret_key(), None);
    server.device().sign_in("ana@example.org", strong, None, called("x")).await.unwrap();
}

#[tokio::test]
async fn a_recovery_that_never_arrived_leaves_the_old_sheet_good() {
    let server = Fake::start();
    let made = ana(&server.device()).await;
    let found = server.device();
    server.next_request_to("password/finish", Mishap::NotDelivered);
    let key = made.sheet.recovery_key();
    assert!(found.recover("ana@example.org", key, "new words", Recover::default()).await.is_err());
    found.recover("ana@example.org", key, "new words", Recover::default()).await.unwrap();
}

#[tokio::test]
async fn a_recovery_key_whose_rotation_was_not_answered_is_known_by_the_log() {
    let server = Fake::start();
    let laptop = server.device();
    let account = ana(&laptop).await.account;
    account.sheet_is_safe().await.unwrap();
    server.next_request_to("recovery-key", Mishap::AnswerLost);
    assert!(account.rotate_recovery_key(PASSWORD).await.is_err());
    let back = laptop.sign_in("ana@example.org", PASSWORD, None, called("x")).await.unwrap();
    let sheet = back.sheet.expect("the new key reached the server");
    server.device().recover("ana@example.org", sheet.recovery_key(), "new words", Recover::default()).await.unwrap();

    let server = Fake::start();
    let laptop = server.device();
    let account = ana(&laptop).await.account;
    account.sheet_is_safe().await.unwrap();
    server.next_request_to("recovery-key", Mishap::NotDelivered);
    assert!(account.rotate_recovery_key(PASSWORD).await.is_err());
    let back = laptop.sign_in("ana@example.org", PASSWORD, None, called("x")).await.unwrap();
    assert!(back.sheet.is_none(), "the new key never reached the server");
}

#[tokio::test]
async fn a_lock_that_does_not_fit_is_said_and_does_not_hide_other_accounts() {
    let server = Fake::start();
    let data = tempfile::tempdir().unwrap();
    let open = |key: u8| server.builder().store(data.path()).app_key(&[key; 32]).build().unwrap();
    ana(&open(1)).await;
    open(2).sign_up("bob", PASSWORD, SignUp::default()).await.unwrap();
    assert!(open(1).account("ana@example.org").await.unwrap().is_some());
    assert!(matches!(open(2).account("ana@example.org").await, Err(Error::Locked(_))));
    assert!(open(2).account("bob").await.unwrap().is_some());
}

#[tokio::test]
async fn a_garbled_answer_costs_no_keys() {
    let garbled = |server: &Fake, path| server.next_request_to(path, Mishap::AnswerGarbled);

    let server = Fake::start();
    let laptop = server.device();
    garbled(&server, "register/finish");
    assert!(matches!(sign_up(&laptop).await, Err(Error::UnsupportedProtocol(_))));
    let made = sign_up(&laptop).await.unwrap();
    assert_eq!(server.accounts(), 1);

    garbled(&server, "recovery-key");
    assert!(made.account.rotate_recovery_key(PASSWORD).await.is_err());
    let sheet = laptop.sign_in("ana@example.org", PASSWORD, None, called("x")).await.unwrap().sheet.unwrap();
    assert_ne!(sheet.recovery_key(), made.sheet.recovery_key());

    let mut recovery_key = sheet.recovery_key().to_owned();
    for device in [laptop, server.device()] {
        garbled(&server, "password/finish");
        assert!(device.recover("ana@example.org", &recovery_key, "new words", Recover::default()).await.is_err());
        let back = device.sign_in("ana@example.org", "new words", None, called("found")).await.unwrap();
        let renewed = back.sheet.unwrap().recovery_key().to_owned();
        assert_ne!(renewed, recovery_key);
        recovery_key = renewed;
    }

    let server = Fake::start();
    server.register_bare("ana@example.org", PASSWORD);
    let laptop = server.device();
    garbled(&server, "account/complete");
    assert!(laptop.sign_in("ana@example.org", PASSWORD, None, called("x")).await.is_err());
    let back = laptop.sign_in("ana@example.org", PASSWORD, None, called("x")).await.unwrap();
    assert!(back.sheet.is_some() && server.accounts() == 1);
}

#[tokio::test]
async fn a_sheet_that_never_reached_the_server_cannot_be_confirmed() {
    let server = Fake::start();
    let made = ana(&server.device()).await;
    let account = made.account;
    account.sheet_is_safe().await.unwrap();
    server.next_request_to("recovery-key", Mishap::NotDelivered);
    assert!(account.rotate_recovery_key(PASSWORD).await.is_err());
    assert_eq!(account.unconfirmed_sheet(), None);
    assert!(matches!(account.sheet_is_safe().await, Err(Error::NotPossible(_))));
    let recovery_key = made.sheet.recovery_key();
    assert!(matches!(account.confirm_sheet(recovery_key).await, Err(Error::NotPossible(_) | Error::WrongKey(_))));
    server.device().recover("ana@example.org", recovery_key, "new words", Recover::default()).await.unwrap();
}

#[tokio::test]
async fn the_secret_key_of_a_recovery_does_not_go_with_its_sheet() {
    let server = Fake::start();
    let laptop = server.device();
    let made = ana(&laptop).await;
    server.next_request_to("password/finish", Mishap::AnswerLost);
    let key = made.sheet.recovery_key();
    assert!(laptop.recover("ana@example.org", key, "new words", Recover::default()).await.is_err());
    // The app goes on with the account it has, as if nothing had been asked.
    let account = laptop.account("ana@example.org").await.unwrap().unwrap();
    assert!(account.sheet_is_safe().await.is_err(), "it cannot tell: the recovery has ended its session");
    let back = laptop.sign_in("ana@example.org", "new words", None, called("x")).await.unwrap();
    assert!(back.sheet.unwrap().secret_key().is_some());
}

#[tokio::test]
async fn sign_ups_that_were_cut_off_one_after_the_other_lock_nobody_out() {
    let strong = "otter-lantern-39-quiet-harbour";
    for key_mode in [selkie_client::KeyMode::SecretKey, selkie_client::KeyMode::PasswordOnly] {
        let server = Fake::start();
        let laptop = server.device();
        let sign_up = || laptop.sign_up("ana@example.org", strong, SignUp { key_mode, ..SignUp::default() });
        for mishap in [Mishap::NotDelivered, Mishap::NotDelivered, Mishap::NotDelivered, Mishap::AnswerLost] {
            server.next_request_to("register/finish", mishap);
            assert!(matches!(sign_up().await, Err(Error::Offline(_))), "{mishap:?}");
        }
        assert_eq!(laptop.accounts().await.unwrap().len(), 4);
        let made = sign_up().await.unwrap();
        assert_eq!((server.accounts(), laptop.accounts().await.unwrap().len()), (1, 1));
        server.device().sign_in("ana@example.org", strong, made.sheet.secret_key(), called("x")).await.unwrap();
    }
}

#[tokio::test]
async fn a_damaged_account_hides_no_other_and_can_be_removed() {
    let server = Fake::start();
    let data = tempfile::tempdir().unwrap();
    let open = || server.builder().store(data.path()).build().unwrap();
    ana(&open()).await;
    open().sign_up("bob", PASSWORD, SignUp::default()).await.unwrap();
    // Where the secrets of one cannot be opened any more, it can still be removed by its name.
    let folder_of = |name: &str| {
        let folders = std::fs::read_dir(data.path().join("accounts")).unwrap().map(|entry| entry.unwrap().path());
        let holds = |folder: &std::path::PathBuf| std::fs::read_to_string(folder.join("state")).unwrap().contains(name);
        folders.into_iter().find(holds).unwrap()
    };
    std::fs::write(folder_of("ana@example.org").join("key"), [7; 32]).unwrap();
    assert!(matches!(open().account("ana@example.org").await, Err(Error::Locked(_))));
    assert!(open().forget("ana@example.org").await.unwrap());
    assert!(!open().forget("ana@example.org").await.unwrap());
    // And one whose file is no document at all is passed over.
    let damaged = data.path().join("accounts").join("damaged");
    std::fs::create_dir(&damaged).unwrap();
    std::fs::write(damaged.join("state"), b"{").unwrap();
    assert_eq!(open().accounts().await.unwrap().len(), 1);
    assert!(open().account("bob").await.unwrap().is_some());
}
