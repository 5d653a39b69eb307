//! What people do with their accounts, told with the SDK.

use std::time::Duration;

use selkie_client::{Error, ErrorCode, KeyMode, PasswordProof, SignInReason, SignOut, WrongKey};
use selkie_e2e::caller::Answer;
use selkie_e2e::device::{Device, Person};
use selkie_e2e::on_both_backends;
use selkie_e2e::server::TestServer;
use selkie_e2e::totp;
use selkie_protocol::Face;
use selkie_protocol::account::Done;
use selkie_protocol::cipher::DeviceKey;
use selkie_protocol::hash::{Label, sha256};
use selkie_protocol::session::{Challenge, DeviceProof, REFRESH_PURPOSE, Refresh, Tokens};

const ANA: &str = "ana@example.org";
const PASSWORD: &str = "seven silver swans sail";

on_both_backends! {
    async fn a_person_signs_up_and_is_still_signed_in_after_a_restart(backend: Backend) {
        let server = TestServer::start(backend).await;
        let mut laptop = server.device("laptop");
        let (_, account) = laptop.makes_an_account(ANA, PASSWORD).await;
        let (user, device) = (account.user_id(), account.device_id());
        drop(account);
        laptop.restart();
        let account = laptop.account(ANA).await.unwrap().unwrap();
        assert_eq!((account.user_id(), account.device_id()), (user, device));
        let devices = account.devices().await.unwrap().devices;
        assert_eq!(devices.len(), 1);
        assert_eq!(devices[0].name.as_deref(), Some("laptop"));
    }

    async fn a_second_device_comes_in_by_link_without_a_secret_key_to_type(backend: Backend) {
        let server = TestServer::start(backend).await;
        let (laptop, phone) = (server.device("laptop"), server.device("phone"));
        let (person, first) = laptop.makes_an_account(ANA, PASSWORD).await;
        let second = phone.is_linked_by(&first, &person.password).await.unwrap();
        assert_eq!(second.user_id(), first.user_id());
        assert_ne!(second.device_id(), first.device_id());
        let names = |devices: selkie_client::Devices| {
            let mut names: Vec<_> = devices.devices.into_iter().map(|device| device.name.unwrap()).collect();
            names.sort();
            names
        };
        assert_eq!(names(first.devices().await.unwrap()), ["laptop", "phone"]);
        assert_eq!(names(second.devices().await.unwrap()), ["laptop", "phone"]);
        assert_eq!(first.state_code(), second.state_code());
    }

    async fn a_second_device_comes_in_by_password_and_secret_key(backend: Backend) {
        let server = TestServer::start(backend).await;
        let (laptop, phone) = (server.device("laptop"), server.device("phone"));
        let (person, first) = laptop.makes_an_account(ANA, PASSWORD).await;
        let signed_in = phone.signs_in(&person).await.unwrap();
        assert!(signed_in.new_device);
        first.devices().await.unwrap();
        assert_eq!(signed_in.state_code, first.state_code());
        assert_eq!(signed_in.devices.len(), 2);
    }

    async fn an_account_can_do_without_a_secret_key_if_the_password_is_good(backend: Backend) {
        let server = TestServer::start(backend).await;
        let (laptop, phone) = (server.device("laptop"), server.device("phone"));
        let weak = laptop.makes_an_account_with(ANA, "password1", KeyMode::PasswordOnly, None).await;
        assert!(matches!(weak, Err(Error::WeakPassword { .. })), "{weak:?}");
        let (person, _) = laptop.makes_an_account_with(ANA, PASSWORD, KeyMode::PasswordOnly, None).await.unwrap();
        assert_eq!(person.sheet.secret_key(), None);
        phone.signs_in(&person).await.unwrap();
    }

    async fn a_wrong_password_secret_key_or_name_is_refused_and_nobody_says_which(backend: Backend) {
        let server = TestServer::start(backend).await;
        let (laptop, phone) = (server.device("laptop"), server.device("phone"));
        let (person, _) = laptop.makes_an_account(ANA, PASSWORD).await;
        let (other, _) = server.device("other").makes_an_account("bo@example.org", PASSWORD).await;
        let wrong_password = Person { password: "seven silver swans sank".into(), ..person.clone() };
        let wrong_key = Person { sheet: other.sheet.clone(), ..person.clone() };
        let wrong_name = Person { login_name: "anna@example.org".into(), ..person.clone() };
        for wrong in [wrong_password, wrong_key, wrong_name] {
            let refused = phone.signs_in(&wrong).await;
            assert!(matches!(refused, Err(Error::WrongCredentials)), "{refused:?}");
        }
        assert!(phone.accounts().await.unwrap().is_empty());
        phone.signs_in(&person).await.unwrap();
    }

    async fn a_revoked_device_is_out_at_once_and_the_others_stay(backend: Backend) {
        let server = TestServer::start(backend).await;
        let (laptop, phone) = (server.device("laptop"), server.device("phone"));
        let (person, first) = laptop.makes_an_account(ANA, PASSWORD).await;
        let second = phone.signs_in(&person).await.unwrap().account;
        first.revoke(&second.device_id(), person.password.as_str()).await.unwrap();
        assert_signed_out(second.sessions().await, SignInReason::DeviceRevoked);
        let devices = first.devices().await.unwrap().devices;
        assert_eq!(devices.iter().filter(|device| device.revoked).count(), 1);
        assert_eq!(devices[0].name.as_deref(), Some("laptop"));
        // Whoever still knows password and Secret Key comes in again, as another device.
        let again = phone.signs_in(&person).await.unwrap();
        assert_ne!(again.account.device_id(), second.device_id());
    }

    async fn a_password_is_changed_while_another_device_is_away(backend: Backend) {
        let server = TestServer::start(backend).await;
        let (laptop, phone) = (server.device("laptop"), server.device("phone"));
        let (person, first) = laptop.makes_an_account(ANA, PASSWORD).await;
        let away = phone.is_linked_by(&first, PASSWORD).await.unwrap();

        let changed = Person { password: "eight golden geese graze".into(), ..person.clone() };
        first.change_password(PASSWORD, &changed.password, false).await.unwrap();
        first.sessions().await.unwrap();

        assert_signed_out(away.sessions().await, SignInReason::SessionEnded);
        let old = phone.signs_in(&person).await;
        assert!(matches!(old, Err(Error::WrongCredentials)), "{old:?}");
        let back = phone.signs_in(&changed).await.unwrap();
        assert_eq!(back.account.device_id(), away.device_id());
        assert!(!back.new_device);
    }

    async fn a_password_can_be_changed_without_ending_other_sessions(backend: Backend) {
        let server = TestServer::start(backend).await;
        let (laptop, phone) = (server.device("laptop"), server.device("phone"));
        let (_, first) = laptop.makes_an_account(ANA, PASSWORD).await;
        let second = phone.is_linked_by(&first, PASSWORD).await.unwrap();
        first.change_password(PASSWORD, "eight golden geese graze", true).await.unwrap();
        second.devices().await.unwrap();
    }

    async fn an_account_is_recovered_when_all_devices_are_lost(backend: Backend) {
        let server = TestServer::start(backend).await;
        let laptop = server.device("laptop");
        let (person, lost) = laptop.makes_an_account(ANA, PASSWORD).await;
        let phone = server.device("phone");
        let (recovered, signed_in) = phone.recovers(&person, "nine bronze bears bathe").await.unwrap();
        assert_eq!(signed_in.account.user_id(), lost.user_id());
        assert_ne!(recovered.sheet.secret_key(), person.sheet.secret_key());
        assert_signed_out(lost.sessions().await, SignInReason::SessionEnded);

        // The old sheet is void, the new one is not.
        let stranger = server.device("stranger");
        let old = stranger.recovers(&person, "ten wooden wolves wait").await;
        assert!(matches!(old, Err(Error::WrongKey(WrongKey::RecoveryKey))), "{old:?}");
        assert!(matches!(stranger.signs_in(&person).await, Err(Error::WrongCredentials)));
        stranger.signs_in(&recovered).await.unwrap();
        stranger.recovers(&recovered, "ten wooden wolves wait").await.unwrap();
    }

    async fn a_recovery_key_that_is_not_this_accounts_opens_nothing(backend: Backend) {
        let server = TestServer::start(backend).await;
        let (ana, _) = server.device("laptop").makes_an_account(ANA, PASSWORD).await;
        let (bo, _) = server.device("other").makes_an_account("bo@example.org", PASSWORD).await;
        let phone = server.device("phone");
        let confused = Person { sheet: bo.sheet.clone(), ..ana.clone() };
        let refused = phone.recovers(&confused, "nine bronze bears bathe").await;
        assert!(matches!(refused, Err(Error::WrongKey(WrongKey::RecoveryKey))), "{refused:?}");
        let unknown = Person { login_name: "nobody@example.org".into(), ..ana };
        let refused = phone.recovers(&unknown, "nine bronze bears bathe").await;
        assert!(matches!(refused, Err(Error::WrongKey(WrongKey::RecoveryKey))), "{refused:?}");
    }

    async fn a_recovery_key_is_replaced_by_a_new_one(backend: Backend) {
        let server = TestServer::start(backend).await;
        let laptop = server.device("laptop");
        let (person, account) = laptop.makes_an_account(ANA, PASSWORD).await;
        let sheet = account.rotate_recovery_key(PASSWORD).await.unwrap();
        account.confirm_sheet(sheet.recovery_key()).await.unwrap();
        let phone = server.device("phone");
        assert!(phone.recovers(&person, "nine bronze bears bathe").await.is_err());
        phone.recovers(&Person { sheet, ..person }, "nine bronze bears bathe").await.unwrap();
    }

    async fn a_second_factor_is_needed_once_it_is_confirmed(backend: Backend) {
        let server = TestServer::start(backend).await;
        let (laptop, phone) = (server.device("laptop"), server.device("phone"));
        let (person, account) = laptop.makes_an_account(ANA, PASSWORD).await;
        let secret = account.enable_totp(PASSWORD).await.unwrap();
        let code = || totp::code(secret.secret.as_str(), server.clock().now_ms());
        let spare = account.confirm_totp(&code()).await.unwrap();

        let asked = phone.signs_in(&person).await;
        assert!(matches!(asked, Err(Error::SecondFactorNeeded { refused: false })), "{asked:?}");
        let wrong = phone.signs_in_with_code(&person, Some("not-a-code")).await;
        assert!(matches!(wrong, Err(Error::SecondFactorNeeded { refused: true })), "{wrong:?}");
        server.clock().advance(Duration::from_secs(30));
        phone.signs_in_with_code(&person, Some(&code())).await.unwrap();
        server.device("tablet").signs_in_with_code(&person, Some(spare[0].as_str())).await.unwrap();
    }

    async fn a_lost_second_factor_goes_with_a_recovery(backend: Backend) {
        let server = TestServer::start(backend).await;
        let (person, account) = server.device("laptop").makes_an_account(ANA, PASSWORD).await;
        let secret = account.enable_totp(PASSWORD).await.unwrap();
        account.confirm_totp(&totp::code(secret.secret.as_str(), server.clock().now_ms())).await.unwrap();
        let (recovered, _) = server.device("phone").recovers(&person, "nine bronze bears bathe").await.unwrap();
        server.device("tablet").signs_in(&recovered).await.unwrap();
    }

    async fn a_second_factor_can_be_taken_away_again(backend: Backend) {
        let server = TestServer::start(backend).await;
        let (person, account) = server.device("laptop").makes_an_account(ANA, PASSWORD).await;
        let secret = account.enable_totp(PASSWORD).await.unwrap();
        let code = || totp::code(secret.secret.as_str(), server.clock().now_ms());
        account.confirm_totp(&code()).await.unwrap();
        server.clock().advance(Duration::from_secs(30));
        account.disable_totp(PasswordProof::new(PASSWORD).with_code(&code())).await.unwrap();
        assert!(account.standing().await.unwrap().second_factors.is_empty());
        server.device("phone").signs_in(&person).await.unwrap();
    }

    /// Whoever sees the tokens on their way has nothing without the device's key.
    async fn a_stolen_refresh_token_is_worth_nothing_without_its_device(backend: Backend) {
        let server = TestServer::start(backend).await;
        let laptop = server.device("laptop");
        let (person, account) = laptop.makes_an_account(ANA, PASSWORD).await;
        both_wait(&server, &laptop, Duration::from_secs(16 * 60));
        account.sessions().await.unwrap();
        let exchange = server.network().calls("POST /v1/auth/refresh").pop().unwrap();
        let stolen: Tokens = exchange.reply().read();

        let thief = server.caller(Face::Cbor);
        let challenge: Challenge = thief.post("/v1/auth/challenge", None, &Done {}).await.unwrap();
        let key = DeviceKey::generate();
        let parts: [&[u8]; 3] = [&challenge.challenge, &sha256(stolen.refresh_token.as_ref()), REFRESH_PURPOSE];
        let signature = key.sign(Label::REFRESH, &parts).0.into();
        let own_key = DeviceProof { did: key.id(), challenge: challenge.challenge.clone(), signature };
        let borrowed_name = DeviceProof { did: account.device_id(), ..own_key.clone() };
        for device in [None, Some(own_key), Some(borrowed_name)] {
            let message = Refresh { refresh_token: stolen.refresh_token, device };
            let refused: Answer<Tokens> = thief.post("/v1/auth/refresh", None, &message).await;
            let refused = refused.unwrap_err();
            assert!(matches!(refused.status, 400 | 401), "{refused:?}");
        }
        // The attempts did not cost Ana her session.
        both_wait(&server, &laptop, Duration::from_secs(16 * 60));
        account.sessions().await.unwrap();

        // A recorded renewal that is played back later ends the session, and says so in the account's own records.
        server.clock().advance(Duration::from_secs(21));
        let old = exchange.request;
        let played_back = thief.send("POST", &old.path, &old.headers, old.body).await;
        assert_eq!(played_back.status, 401);
        assert_signed_out(account.sessions().await, SignInReason::SessionEnded);
        let again = laptop.signs_in(&person).await.unwrap().account;
        assert!(again.audit(None).await.unwrap().iter().any(|entry| entry.action == "refresh_token_reused"));
    }

    async fn people_of_another_tenant_have_names_of_their_own(backend: Backend) {
        let server = TestServer::start(backend).await;
        server.add_tenant("acme").await;
        let (laptop, tablet) = (server.device("laptop"), server.device_of("acme", "tablet"));
        let (_, at_home) = laptop.makes_an_account(ANA, PASSWORD).await;
        let (person, at_acme) = tablet.makes_an_account(ANA, PASSWORD).await;
        assert_ne!(at_home.user_id(), at_acme.user_id());
        assert_eq!(at_acme.standing().await.unwrap().tenant, "acme");

        let phone = server.device_of("acme", "phone");
        assert_eq!(phone.signs_in(&person).await.unwrap().account.user_id(), at_acme.user_id());
        let linked = server.device_of("acme", "watch").is_linked_by(&at_acme, PASSWORD).await.unwrap();
        assert_eq!(linked.user_id(), at_acme.user_id());
        let lost = server.device_of("acme", "spare").recovers(&person, "nine bronze bears bathe").await.unwrap();
        assert_eq!(lost.1.account.user_id(), at_acme.user_id());
        // The same words, the other tenant: nothing.
        assert!(server.device("stranger").signs_in(&person).await.is_err());
        let nowhere = server.device_of("nowhere", "stranger").signs_in(&person).await;
        assert_eq!(nowhere.unwrap_err().code(), Some(ErrorCode::NotFound));
    }

    async fn a_suspended_account_is_told_so(backend: Backend) {
        let server = TestServer::start(backend).await;
        let (laptop, phone) = (server.device("laptop"), server.device("phone"));
        let (person, account) = laptop.makes_an_account(ANA, PASSWORD).await;
        server.suspend(ANA, true).await;
        assert_eq!(account.sessions().await.unwrap_err().code(), Some(ErrorCode::AccountSuspended));
        assert_eq!(phone.signs_in(&person).await.unwrap_err().code(), Some(ErrorCode::AccountSuspended));
        server.suspend(ANA, false).await;
        account.sessions().await.unwrap();
    }

    async fn an_expired_or_used_invitation_lets_nobody_in(backend: Backend) {
        let server = TestServer::with(backend, "[registration]\npolicy = \"invite\"\n").await;
        let (laptop, phone) = (server.device("laptop"), server.device("phone"));
        let refused = laptop.makes_an_account_with(ANA, PASSWORD, KeyMode::SecretKey, None).await;
        assert_eq!(refused.unwrap_err().code(), Some(ErrorCode::InvitationRequired));
        let invitation = server.invite().await;
        laptop.makes_an_account_with(ANA, PASSWORD, KeyMode::SecretKey, Some(&invitation)).await.unwrap();
        let reused = phone.makes_an_account_with("bo@example.org", PASSWORD, KeyMode::SecretKey, Some(&invitation)).await;
        assert_eq!(reused.unwrap_err().code(), Some(ErrorCode::InvitationInvalid));
        let stale = server.invite().await;
        server.clock().advance(Duration::from_secs(8 * 24 * 3600));
        let expired = phone.makes_an_account_with("bo@example.org", PASSWORD, KeyMode::SecretKey, Some(&stale)).await;
        assert_eq!(expired.unwrap_err().code(), Some(ErrorCode::InvitationInvalid));
        assert!(phone.accounts().await.unwrap().is_empty());
    }

    async fn a_clock_that_is_an_hour_off_harms_nobody(backend: Backend) {
        let server = TestServer::start(backend).await;
        for (name, off_ms) in [("early", -3_600_000), ("late", 3_600_000), ("ages", 10 * 365 * 86_400_000_i64)] {
            let device = server.device("laptop");
            device.clock().shift(off_ms);
            let (person, account) = device.makes_an_account(&format!("{name}@example.org"), PASSWORD).await;
            server.clock().advance(Duration::from_secs(16 * 60));
            account.sessions().await.unwrap();
            server.device("phone").signs_in(&person).await.unwrap();
        }
    }

    async fn a_session_is_renewed_for_weeks_and_ends_when_nobody_comes(backend: Backend) {
        let server = TestServer::start(backend).await;
        let laptop = server.device("laptop");
        let (person, account) = laptop.makes_an_account(ANA, PASSWORD).await;
        for _ in 0..3 {
            both_wait(&server, &laptop, Duration::from_secs(60 * 24 * 3600));
            account.sessions().await.unwrap();
        }
        both_wait(&server, &laptop, Duration::from_secs(91 * 24 * 3600));
        assert_signed_out(account.sessions().await, SignInReason::SessionEnded);
        laptop.signs_in(&person).await.unwrap().account.sessions().await.unwrap();
    }

    async fn signing_out_keeps_the_device_or_wipes_it(backend: Backend) {
        let server = TestServer::start(backend).await;
        let laptop = server.device("laptop");
        let (person, account) = laptop.makes_an_account(ANA, PASSWORD).await;
        let device = account.device_id();
        assert!(account.sign_out(SignOut::Keep).await.unwrap().server_told);
        assert_signed_out(account.sessions().await, SignInReason::SignedOut);
        let back = laptop.sign_in(ANA, PASSWORD, None, selkie_client::SignIn::default()).await.unwrap();
        assert_eq!(back.account.device_id(), device);
        let _ = back.account.sign_out(SignOut::Wipe).await.unwrap();
        assert!(laptop.accounts().await.unwrap().is_empty());
        let forgotten = laptop.sign_in(ANA, PASSWORD, None, selkie_client::SignIn::default()).await;
        assert!(matches!(forgotten, Err(Error::WrongCredentials)), "{forgotten:?}");
        laptop.signs_in(&person).await.unwrap();
    }

    async fn two_people_on_one_device_stay_apart(backend: Backend) {
        let server = TestServer::start(backend).await;
        let laptop = server.device("laptop");
        let (_, ana) = laptop.makes_an_account(ANA, PASSWORD).await;
        let (_, bo) = laptop.makes_an_account("bo@example.org", PASSWORD).await;
        assert_ne!(ana.user_id(), bo.user_id());
        assert_ne!(ana.device_id(), bo.device_id());
        let _ = ana.sign_out(SignOut::Wipe).await.unwrap();
        bo.sessions().await.unwrap();
        assert_eq!(laptop.accounts().await.unwrap().len(), 1);
    }
}

fn both_wait(server: &TestServer, device: &Device, time: Duration) {
    server.clock().advance(time);
    device.clock().advance(time);
}

fn assert_signed_out<T: std::fmt::Debug>(answer: selkie_client::Result<T>, expected: SignInReason) {
    match answer {
        Err(Error::SignInAgain { reason }) => assert_eq!(reason, expected),
        other => panic!("not signed out: {other:?}"),
    }
}
