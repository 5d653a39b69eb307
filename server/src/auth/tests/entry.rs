//! Coming in: registration, sign-in, the second factor.

use crate::auth::Refusal;
use crate::auth::factors::code_at;
use crate::config::RegistrationPolicy;
use crate::testing::{House, PASSWORD, Person, SOMEWHERE};
use selkie_protocol::Bytes;
use selkie_protocol::account::{AccountState, TotpConfirm};
use selkie_protocol::id::LinkChannel;
use selkie_protocol::link::OpenLink;
use selkie_protocol::session::{LoginFinish, Scope, Tokens};

#[tokio::test(flavor = "multi_thread")]
async fn somebody_with_an_invitation_registers_signs_in_and_finds_their_keys() {
    let house = House::open().await;
    let ana = house.person("ana@example.org").await;
    assert_eq!(ana.tokens().uid, Some(ana.user()));
    assert_eq!((ana.tokens().scope, ana.tokens().account), (Scope::Full, AccountState::Active));

    let caller = house.caller(&ana).await;
    let keybag = house.auth().keybag(&caller).await.unwrap().keybag;
    assert_eq!(keybag, ana.keybag.as_ref().unwrap().to_bytes());
    let page = house.auth().account_log(&caller, 0).await.unwrap();
    assert_eq!((page.length, page.entries.len()), (6, 6));
    let devices = house.auth().devices(&caller).await.unwrap().devices;
    assert_eq!(devices.iter().map(|device| device.did).collect::<Vec<_>>(), [ana.device.id()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_is_needed_and_works_once() {
    let house = House::open().await;
    let start = async |name: &str, invite| {
        let (_, request) = Person::new(name).register_start(invite);
        house.auth().register_start(SOMEWHERE, request).await
    };
    assert!(matches!(start("ana", None).await, Err(Refusal::InvitationRequired)));
    for wrong in ["", "I1-AAAA-AAAA-AAAA-AAAA-AAAA", "a guess"] {
        assert!(matches!(start("ana", Some(wrong.into())).await, Err(Refusal::InvitationInvalid)), "{wrong}");
    }
    let code = house.invitation().await;
    // Two start with one invitation: who finishes first has it.
    let (mut ana, mut eve) = (Person::new("ana"), Person::new("eve"));
    let (ana_started, request) = ana.register_start(Some(code.clone()));
    let ana_answer = house.auth().register_start(SOMEWHERE, request).await.unwrap();
    let (eve_started, request) = eve.register_start(Some(code.clone()));
    let eve_answer = house.auth().register_start(SOMEWHERE, request).await.unwrap();
    house.auth().register_finish(ana.register_finish(ana_started, ana_answer)).await.unwrap();
    let late = house.auth().register_finish(eve.register_finish(eve_started, eve_answer)).await;
    assert!(matches!(late, Err(Refusal::InvitationInvalid)));
    assert!(matches!(start("eve", Some(code)).await, Err(Refusal::InvitationInvalid)));
    let expiring = house.invitation().await;
    house.clock.pass(3_600_001);
    assert!(matches!(start("eve", Some(expiring)).await, Err(Refusal::InvitationInvalid)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_server_takes_nobody_and_an_open_one_everybody_once() {
    let closed = House::open_with(|config| config.registration.policy = RegistrationPolicy::Closed).await;
    let (_, request) = Person::new("ana").register_start(Some(closed.invitation().await));
    assert!(matches!(closed.auth().register_start(SOMEWHERE, request).await, Err(Refusal::RegistrationClosed)));

    let open = House::open_with(|config| config.registration.policy = RegistrationPolicy::Open).await;
    for first in [true, false] {
        let mut ana = Person::new("ana");
        let (started, request) = ana.register_start(None);
        let answer = open.auth().register_start(SOMEWHERE, request).await.unwrap();
        let finished = open.auth().register_finish(ana.register_finish(started, answer)).await;
        match finished {
            Ok(_) => assert!(first),
            Err(refusal) => assert!(!first && matches!(refusal, Refusal::LoginNameTaken)),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_owner_is_invited_until_there_is_an_account() {
    let house = House::open().await;
    let home = house.app.tenancy.named("home").await.unwrap().tenant;
    let first = house.auth().invite_first_owner(home, 1_000_000).await.unwrap().unwrap();
    let second = house.auth().invite_first_owner(home, 1_000_000).await.unwrap().unwrap();
    let mut ana = Person::new("ana");
    let (_, request) = ana.register_start(Some(first));
    let void = house.auth().register_start(SOMEWHERE, request).await;
    assert!(matches!(void, Err(Refusal::InvitationInvalid)), "only the newest one counts");
    let (started, request) = ana.register_start(Some(second));
    let answer = house.auth().register_start(SOMEWHERE, request).await.unwrap();
    house.auth().register_finish(ana.register_finish(started, answer)).await.unwrap();
    ana.sign_in(&house).await;
    let account = house.auth().account(&house.caller(&ana).await).await.unwrap();
    assert_eq!(account.role, crate::store::TenantRole::Owner);
    assert!(house.auth().invite_first_owner(home, 1_000_000).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_do_not_belong_together_make_no_account() {
    let house = House::open().await;
    let attempt = async |spoil: &dyn Fn(&mut selkie_protocol::session::NewAccount)| {
        let mut ana = Person::new("ana");
        let (started, request) = ana.register_start(Some(house.invitation().await));
        let answer = house.auth().register_start(SOMEWHERE, request).await.unwrap();
        let mut finish = ana.register_finish(started, answer);
        spoil(finish.account.as_mut().unwrap());
        house.auth().register_finish(finish).await
    };
    let eve = || {
        let mut eve = Person::new("eve");
        let export = selkie_protocol::opaque::RegistrationStarted::new(b"x").unwrap();
        let setup = selkie_protocol::opaque::ServerSetup::generate();
        let response = setup.registration_response(&export.request, b"1234567890123456").unwrap();
        eve.new_account(&export.finish(b"x", &response).unwrap().export_key)
    };
    let refused = attempt(&|account| drop(account.entries.pop())).await;
    assert!(matches!(refused, Err(Refusal::LogEntryRefused(_))));
    let refused = attempt(&|account| account.entries.swap(3, 4)).await;
    assert!(matches!(refused, Err(Refusal::LogEntryRefused(_))));
    let refused = attempt(&|account| account.entries.clear()).await;
    assert!(matches!(refused, Err(Refusal::LogEntryRefused(_))));
    let refused = attempt(&|account| account.entries = eve().entries).await;
    assert!(matches!(refused, Err(Refusal::LogEntryRefused(_))), "its log says another name");
    let refused = attempt(&|account| account.keybag.0[4] = 2).await;
    assert!(matches!(refused, Err(Refusal::Invalid { field: "keybag", .. })));
    let refused = attempt(&|account| account.keybag.0[0] = 2).await;
    assert!(matches!(refused, Err(Refusal::Invalid { field: "keybag", .. })));
    attempt(&|_| {}).await.unwrap();
}

/// Signs in up to the last step, with whatever the last step is to carry.
async fn finish_with(house: &House, person: &Person, change: impl FnOnce(&mut LoginFinish)) -> Result<Tokens, Refusal> {
    let (guess, request) = person.login_start();
    let answer = house.auth().login_start(SOMEWHERE, request).await.unwrap();
    let mut finish = person.login_finish(guess, &answer);
    change(&mut finish);
    house.auth().login_finish(finish).await.map(|finished| finished.tokens.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_is_finished_once_in_time_and_with_the_right_proof() {
    let house = House::open().await;
    let ana = house.person("ana").await;
    let (guess, request) = ana.login_start();
    let answer = house.auth().login_start(SOMEWHERE, request).await.unwrap();
    let finish = ana.login_finish(guess, &answer);
    house.auth().login_finish(finish.clone()).await.unwrap();
    assert!(matches!(house.auth().login_finish(finish).await, Err(Refusal::SignInExpired)), "replayed");

    let (guess, request) = ana.login_start();
    let answer = house.auth().login_start(SOMEWHERE, request).await.unwrap();
    let finish = ana.login_finish(guess, &answer);
    house.clock.pass(60_001);
    assert!(matches!(house.auth().login_finish(finish).await, Err(Refusal::SignInExpired)), "too late");

    let forged = finish_with(&house, &ana, |finish| finish.ke3.0[0] ^= 1).await;
    assert!(matches!(forged, Err(Refusal::InvalidLogin)));
    let forged = finish_with(&house, &ana, |finish| finish.device.as_mut().unwrap().signature.0[0] ^= 1).await;
    assert!(matches!(forged, Err(Refusal::Invalid { field: "device.signature", .. })));
    let stranger = Person::new("eve").device.id();
    let unknown = finish_with(&house, &ana, |finish| finish.device.as_mut().unwrap().did = stranger).await;
    assert!(matches!(unknown, Err(Refusal::DeviceRevoked)));
    let odd = finish_with(&house, &ana, |finish| finish.app = Some("../journal".into())).await;
    assert!(matches!(odd, Err(Refusal::Invalid { field: "app", .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_can_be_sealed_so_that_only_the_session_key_opens_them() {
    let house = House::open().await;
    let ana = house.person("ana").await;
    let (guess, request) = ana.login_start();
    let answer = house.auth().login_start(SOMEWHERE, request).await.unwrap();
    let finished = guess.finish(&ana.password_input(), &*answer.ke2).unwrap();
    let finish = LoginFinish {
        login_id: answer.login_id,
        ke3: crate::testing::exactly(&finished.ke3),
        second_factor: None,
        device: None,
        app: None,
        seal: 1,
    };
    let answered = house.auth().login_finish(finish).await.unwrap();
    assert!(answered.tokens.is_none());
    let sealed = answered.sealed_tokens.unwrap();
    let tokens = selkie_protocol::cipher::token::open(&finished.session_key, &answer.login_id, &sealed).unwrap();
    assert!(house.auth().authenticate(tokens.access_token.as_str()).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn suspension_is_told_only_to_who_knows_the_password() {
    let house = House::open().await;
    let ana = house.person("ana").await;
    house.app.tenancy.set_account_suspended("home", "Ana", true).await.unwrap();
    let known = finish_with(&house, &ana, |_| {}).await;
    assert!(matches!(known, Err(Refusal::AccountSuspended)));
    let guessed = finish_with(&house, &ana, |finish| finish.ke3.0[0] ^= 1).await;
    assert!(matches!(guessed, Err(Refusal::InvalidLogin)));
    let session = house.auth().authenticate(ana.tokens().access_token.as_str()).await;
    assert!(matches!(session, Err(Refusal::AccountSuspended)), "what is open is shut at once");

    house.app.tenancy.set_account_suspended("home", "ana", false).await.unwrap();
    house.app.tenancy.set_suspended("home", true).await.unwrap();
    assert!(matches!(finish_with(&house, &ana, |_| {}).await, Err(Refusal::TenantSuspended)));
    let session = house.auth().authenticate(ana.tokens().access_token.as_str()).await;
    assert!(matches!(session, Err(Refusal::TenantSuspended)));
    house.app.tenancy.set_suspended("home", false).await.unwrap();
    assert!(finish_with(&house, &ana, |_| {}).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_at_a_name_is_slowed_down_and_its_owners_device_is_not() {
    let house = House::open().await;
    let ana = house.person("ana").await;
    let guess = async || house.auth().login_start(SOMEWHERE, ana.login_start().1).await;
    let mut refused = false;
    for _ in 0..12 {
        refused |= matches!(guess().await, Err(Refusal::TooMany(_)));
    }
    assert!(refused, "ten at once and no more");
    let challenge = house.auth().challenge(SOMEWHERE).unwrap().challenge;
    let signature = ana.sign(selkie_protocol::hash::Label::DEVICE_CHALLENGE, &[&challenge]);
    let mut proof = selkie_protocol::session::DeviceProof { did: ana.device.id(), challenge, signature };
    let with_proof = async |proof| {
        let request = selkie_protocol::session::LoginStart { device: Some(proof), ..ana.login_start().1 };
        house.auth().login_start(SOMEWHERE, request).await
    };
    for _ in 0..10 {
        assert!(with_proof(proof.clone()).await.is_ok());
    }
    let tireless = with_proof(proof.clone()).await;
    assert!(matches!(tireless, Err(Refusal::TooMany(_))), "a device may have been stolen");
    proof.signature.0[0] ^= 1;
    assert!(matches!(with_proof(proof).await, Err(Refusal::TooMany(_))), "who cannot sign is a stranger");
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_use_up_neither_a_tenants_sign_ups_nor_a_names_recovery() {
    let house = House::open_with(|config| config.limits.sign_up_per_tenant = "1/hour".parse().unwrap()).await;
    for _ in 0..3 {
        let (_, request) = Person::new("eve").register_start(None);
        let stranger = house.auth().register_start(SOMEWHERE, request).await;
        assert!(matches!(stranger, Err(Refusal::InvitationRequired)));
    }
    let ana = house.person("ana").await;
    for n in 0..20 {
        let elsewhere = std::net::Ipv4Addr::new(198, 51, 100, n).into();
        let start = selkie_protocol::session::RecoverStart { tenant: None, login_name: ana.name.as_str().into() };
        assert!(house.auth().recover_start(elsewhere, start).await.is_ok());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_in_rightly_uses_up_no_allowance() {
    let house = House::open().await;
    let ana = house.person("ana").await;
    for _ in 0..15 {
        finish_with(&house, &ana, |_| {}).await.unwrap();
    }
    for _ in 0..9 {
        let wrong = finish_with(&house, &ana, |finish| finish.ke3.0[0] ^= 1).await;
        assert!(matches!(wrong, Err(Refusal::InvalidLogin)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_factor_stands_between_the_password_and_the_tokens() {
    let house = House::open().await;
    let ana = house.person("ana").await;
    let caller = house.caller(&ana).await;
    let started = house.auth().totp_start(&caller).await.unwrap();
    assert!(started.uri.as_str().starts_with("otpauth://totp/sync.example.org:ana?secret="));
    let code = |shift: i64| code_at(started.secret.as_str(), house.app.edges.now_ms() / 30_000 + shift);
    assert!(finish_with(&house, &ana, |_| {}).await.is_ok(), "it counts for nothing until it is confirmed");
    let wrong = house.auth().totp_confirm(&caller, TotpConfirm { code: code(7).into() }).await;
    assert!(matches!(wrong, Err(Refusal::SecondFactorInvalid)));
    let confirmed = house.auth().totp_confirm(&caller, TotpConfirm { code: code(0).into() }).await.unwrap();
    assert_eq!(confirmed.recovery_codes.len(), 10);
    house.clock.pass(60_000);

    // The password alone, then a wrong code, then the right one: the same sign-in goes on.
    let (guess, request) = ana.login_start();
    let answer = house.auth().login_start(SOMEWHERE, request).await.unwrap();
    let finish = ana.login_finish(guess, &answer);
    let with = |code: Option<String>| LoginFinish { second_factor: code.map(Into::into), ..finish.clone() };
    let asked = house.auth().login_finish(with(None)).await;
    assert!(matches!(asked, Err(Refusal::SecondFactorRequired)));
    let wrong = house.auth().login_finish(with(Some(code(7)))).await;
    assert!(matches!(wrong, Err(Refusal::SecondFactorInvalid)));
    let other = LoginFinish { ke3: [1; 64].into(), ..with(Some(code(0))) };
    assert!(matches!(house.auth().login_finish(other).await, Err(Refusal::InvalidLogin)), "and only with its KE3");
    let gone = house.auth().login_finish(with(Some(code(0)))).await;
    assert!(matches!(gone, Err(Refusal::SignInExpired)));
    assert!(finish_with(&house, &ana, |finish| finish.second_factor = Some(code(-1).into())).await.is_ok());
    let replayed = finish_with(&house, &ana, |finish| finish.second_factor = Some(code(-1).into())).await;
    assert!(matches!(replayed, Err(Refusal::SecondFactorInvalid)), "a code is good once");

    house.clock.pass(600_000);
    let codes = &confirmed.recovery_codes;
    let recovery = codes[3].as_str().to_lowercase();
    assert!(finish_with(&house, &ana, |finish| finish.second_factor = Some(recovery.as_str().into())).await.is_ok());
    let twice = finish_with(&house, &ana, |finish| finish.second_factor = Some(recovery.as_str().into())).await;
    assert!(matches!(twice, Err(Refusal::SecondFactorInvalid)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_never_leaves_the_client() {
    let house = House::open().await;
    let mut ana = house.person("ana").await;
    ana.password = "wrong".into();
    let (guess, request) = ana.login_start();
    let answer = house.auth().login_start(SOMEWHERE, request).await.unwrap();
    assert!(guess.finish(&ana.password_input(), &*answer.ke2).is_err());
    ana.password = PASSWORD.into();
    ana.sign_in(&house).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_that_is_not_about_the_code_costs_neither_code_nor_sign_in() {
    let house = House::open().await;
    let ana = house.person("ana").await;
    let caller = house.caller(&ana).await;
    let started = house.auth().totp_start(&caller).await.unwrap();
    let code = |shift: i64| code_at(started.secret.as_str(), house.app.edges.now_ms() / 30_000 + shift);
    house.auth().totp_confirm(&caller, TotpConfirm { code: code(0).into() }).await.unwrap();
    house.clock.pass(60_000);
    let stranger = Person::new("eve").device.id();
    let unknown = finish_with(&house, &ana, |finish| {
        finish.device.as_mut().unwrap().did = stranger;
        finish.second_factor = Some(code(0).into());
    });
    assert!(matches!(unknown.await, Err(Refusal::DeviceRevoked)));
    assert!(finish_with(&house, &ana, |finish| finish.second_factor = Some(code(0).into())).await.is_ok());

    house.clock.pass(600_000);
    loop {
        let wrong = finish_with(&house, &ana, |finish| finish.second_factor = Some(code(7).into())).await;
        if matches!(wrong, Err(Refusal::TooMany(_))) {
            break;
        }
        assert!(matches!(wrong, Err(Refusal::SecondFactorInvalid)));
    }
    let (guess, request) = ana.login_start();
    let answer = house.auth().login_start(SOMEWHERE, request).await.unwrap();
    let finish = LoginFinish { second_factor: Some(code(1).into()), ..ana.login_finish(guess, &answer) };
    assert!(matches!(house.auth().login_finish(finish.clone()).await, Err(Refusal::TooMany(_))));
    house.clock.pass(31_000);
    assert!(house.auth().login_finish(finish).await.is_ok(), "the same sign-in, with the same code");
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_one_line_a_day_and_a_number() {
    let house = House::open().await;
    let ana = house.person("ana").await;
    for _ in 0..3 {
        let wrong = finish_with(&house, &ana, |finish| finish.ke3.0[0] ^= 1).await;
        assert!(matches!(wrong, Err(Refusal::InvalidLogin)));
    }
    let caller = house.caller(&ana).await;
    let page = house.auth().audit_page(&caller, None).await.unwrap();
    let failures: Vec<_> = page.entries.iter().filter(|entry| entry.action == "sign_in_failed").collect();
    assert_eq!(failures.len(), 1);
    assert_eq!(failures[0].detail.as_deref(), Some("3 times on this day"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_allows_more_but_not_more_guesses() {
    let house = House::open().await;
    let ana = house.person("ana").await;
    let links = async |from: u8| {
        let caller = house.caller(&ana).await;
        let mut opened = 0;
        while opened < 125 {
            let request = OpenLink { channel: LinkChannel([from + opened; 16]), offer: Bytes(vec![1]) };
            match house.auth().open_link(&caller, request).await {
                Ok(_) => opened += 1,
                Err(Refusal::TooMany(_)) => break,
                Err(other) => panic!("{other}"),
            }
        }
        opened
    };
    assert_eq!(links(0).await, 30);
    house.app.tenancy.set_plan("home", "team").await.unwrap();
    assert_eq!(links(100).await, 120, "at once, for the session that is there");
    for _ in 0..10 {
        let wrong = finish_with(&house, &ana, |finish| finish.ke3.0[0] ^= 1).await;
        assert!(matches!(wrong, Err(Refusal::InvalidLogin)));
    }
    let start = house.auth().login_start(SOMEWHERE, ana.login_start().1).await;
    assert!(matches!(start, Err(Refusal::TooMany(_))));
}
