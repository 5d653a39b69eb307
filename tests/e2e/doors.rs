//! The doors, as a client of another make meets them: JSON, OPAQUE and nothing of the SDK.

use std::time::Duration;

use selkie_e2e::caller::{Answer, Caller, Refused};
use selkie_e2e::on_both_backends;
use selkie_e2e::server::TestServer;
use selkie_e2e::totp;
use selkie_protocol::account::{
    Account, AccountState, AuditPage, DeletionScheduled, Done, Sessions, TotpConfirm, TotpConfirmed, TotpStarted,
};
use selkie_protocol::session::{LoginFinished, Refresh, SignOut, SignOutScope, Tokens};
use selkie_protocol::{ErrorCode, Face};

const ANA: &str = "ana@example.org";
const PASSWORD: &str = "seven silver swans";

on_both_backends! {
    async fn a_plain_opaque_client_registers_and_signs_in_in_either_face(backend: Backend) {
        let server = TestServer::start(backend).await;
        for (face, name) in [(Face::Json, "json@example.org"), (Face::Cbor, "cbor@example.org")] {
            let caller = server.caller(face);
            assert_eq!(caller.register(name, PASSWORD, None).await.unwrap().uid, None);
            let tokens = caller.sign_in(name, PASSWORD).await.unwrap();
            let account: Account = caller.get("/v1/account", Some(&tokens)).await.unwrap();
            assert_eq!(account.login_name.as_str(), name);
            assert_eq!(account.state, AccountState::Bare);
        }
    }

    async fn names_are_one_name_however_they_are_typed(backend: Backend) {
        let server = TestServer::start(backend).await;
        let caller = server.caller(Face::Json);
        caller.register(ANA, PASSWORD, None).await.unwrap();
        caller.sign_in("  ANA@Example.org ", PASSWORD).await.unwrap();
        assert_refused(caller.register("Ana@example.ORG", PASSWORD, None).await, ErrorCode::LoginNameTaken);
    }

    async fn a_wrong_password_is_noticed_before_anything_is_proved(backend: Backend) {
        let server = TestServer::start(backend).await;
        let caller = server.caller(Face::Json);
        caller.register(ANA, PASSWORD, None).await.unwrap();
        server.network().forget();
        assert_eq!(caller.sign_in(ANA, "seven silver swan").await, Err(None));
        assert!(server.network().calls("POST /v1/auth/login/finish").is_empty());
    }

    async fn a_name_that_is_unknown_looks_like_one_that_is_known(backend: Backend) {
        let server = TestServer::start(backend).await;
        let caller = server.caller(Face::Json);
        caller.register("known@example.org", PASSWORD, None).await.unwrap();
        server.network().forget();
        assert_eq!(caller.sign_in("known@example.org", "wrong").await, Err(None));
        assert_eq!(caller.sign_in("other@example.org", "wrong").await, Err(None));
        let replies: Vec<_> = server
            .network()
            .calls("POST /v1/auth/login/start")
            .into_iter()
            .map(|exchange| exchange.reply())
            .collect();
        let shape = |reply: &selkie_e2e::message::Reply| {
            let names: Vec<String> = reply.headers.iter().map(|(name, _)| name.clone()).collect();
            (reply.status, names, reply.body.len())
        };
        assert_eq!(shape(&replies[0]), shape(&replies[1]));
    }

    async fn a_sign_in_is_finished_once_and_in_time(backend: Backend) {
        let server = TestServer::start(backend).await;
        let caller = server.caller(Face::Json);
        caller.register(ANA, PASSWORD, None).await.unwrap();
        let finish = caller.prove(ANA, PASSWORD, None).await.unwrap();
        let _: LoginFinished = caller.post("/v1/auth/login/finish", None, &finish).await.unwrap();
        let again: Answer<LoginFinished> = caller.post("/v1/auth/login/finish", None, &finish).await;
        assert_refused(again, ErrorCode::SignInExpired);

        let late = caller.prove(ANA, PASSWORD, None).await.unwrap();
        server.clock().advance(Duration::from_secs(61));
        let late: Answer<LoginFinished> = caller.post("/v1/auth/login/finish", None, &late).await;
        assert_refused(late, ErrorCode::SignInExpired);
    }

    async fn a_closed_server_takes_nobody(backend: Backend) {
        let server = TestServer::with(backend, "[registration]\npolicy = \"closed\"\n").await;
        let refused = server.caller(Face::Json).register(ANA, PASSWORD, None).await;
        assert_refused(refused, ErrorCode::RegistrationClosed);
    }

    async fn an_invitation_counts_once_in_its_time_and_only_if_it_is_one(backend: Backend) {
        let server = TestServer::with(backend, "[registration]\npolicy = \"invite\"\n").await;
        let caller = server.caller(Face::Json);
        assert_refused(caller.register(ANA, PASSWORD, None).await, ErrorCode::InvitationRequired);
        let unknown = caller.register(ANA, PASSWORD, Some("nobody-made-this")).await;
        assert_refused(unknown, ErrorCode::InvitationInvalid);

        let invitation = server.invite().await;
        caller.register(ANA, PASSWORD, Some(&invitation)).await.unwrap();
        let reused = caller.register("bo@example.org", PASSWORD, Some(&invitation)).await;
        assert_refused(reused, ErrorCode::InvitationInvalid);

        let stale = server.invite().await;
        server.clock().advance(Duration::from_secs(8 * 24 * 3600));
        let expired = caller.register("bo@example.org", PASSWORD, Some(&stale)).await;
        assert_refused(expired, ErrorCode::InvitationInvalid);
    }

    async fn an_access_token_lasts_a_quarter_of_an_hour_and_is_renewed(backend: Backend) {
        let server = TestServer::start(backend).await;
        let (caller, tokens) = server.signed_in(ANA, PASSWORD).await;
        server.clock().advance(Duration::from_secs(16 * 60));
        assert_refused(account(&caller, &tokens).await, ErrorCode::TokenExpired);
        let renewed = refresh(&caller, &tokens).await.unwrap();
        assert_eq!(renewed.session, tokens.session);
        account(&caller, &renewed).await.unwrap();
    }

    /// A lost answer is asked for again; a thief comes later, or second.
    async fn a_refresh_token_that_was_used_ends_its_session(backend: Backend) {
        let server = TestServer::start(backend).await;
        let (caller, first) = server.signed_in(ANA, PASSWORD).await;
        let second = refresh(&caller, &first).await.unwrap();
        let repeated = refresh(&caller, &first).await.unwrap();
        assert_eq!(repeated.refresh_token, second.refresh_token);

        server.clock().advance(Duration::from_secs(21));
        assert_refused(refresh(&caller, &first).await, ErrorCode::SessionEnded);
        assert_refused(refresh(&caller, &second).await, ErrorCode::SessionEnded);
        assert_refused(account(&caller, &second).await, ErrorCode::SessionEnded);

        let tokens = caller.sign_in(ANA, PASSWORD).await.unwrap();
        let audit: AuditPage = caller.get("/v1/account/audit", Some(&tokens)).await.unwrap();
        assert!(audit.entries.iter().any(|entry| entry.action == "refresh_token_reused"));
    }

    async fn a_refresh_token_with_a_bit_changed_is_none(backend: Backend) {
        let server = TestServer::start(backend).await;
        let (caller, tokens) = server.signed_in(ANA, PASSWORD).await;
        let length = tokens.refresh_token.0.len();
        for position in 0..length {
            let mut forged = tokens.clone();
            forged.refresh_token.0[position] ^= 1;
            let refusal = refresh(&caller, &forged).await.unwrap_err();
            assert_eq!(refusal.status, 401, "byte {position}: {refusal:?}");
        }
        // Trying did not end the session of its owner.
        refresh(&caller, &tokens).await.unwrap();
    }

    async fn a_session_without_a_device_lasts_a_week(backend: Backend) {
        let server = TestServer::start(backend).await;
        let (caller, mut tokens) = server.signed_in(ANA, PASSWORD).await;
        server.clock().advance(Duration::from_secs(6 * 24 * 3600));
        tokens = refresh(&caller, &tokens).await.unwrap();
        server.clock().advance(Duration::from_secs(25 * 3600));
        assert_refused(refresh(&caller, &tokens).await, ErrorCode::SessionEnded);
    }

    async fn signing_out_ends_what_was_named(backend: Backend) {
        let server = TestServer::start(backend).await;
        let (caller, one) = server.signed_in(ANA, PASSWORD).await;
        let two = caller.sign_in(ANA, PASSWORD).await.unwrap();
        let three = caller.sign_in(ANA, PASSWORD).await.unwrap();
        let sessions: Sessions = caller.get("/v1/account/sessions", Some(&one)).await.unwrap();
        assert_eq!(sessions.sessions.len(), 3);
        assert_eq!(sessions.sessions.iter().filter(|session| session.current).count(), 1);

        sign_out(&caller, &one, SignOutScope::This).await;
        assert_refused(account(&caller, &one).await, ErrorCode::SessionEnded);
        account(&caller, &two).await.unwrap();
        sign_out(&caller, &two, SignOutScope::Others).await;
        assert_refused(account(&caller, &three).await, ErrorCode::SessionEnded);
        account(&caller, &two).await.unwrap();
        sign_out(&caller, &two, SignOutScope::All).await;
        assert_refused(account(&caller, &two).await, ErrorCode::SessionEnded);
    }

    async fn a_second_factor_is_asked_for_and_counts_once(backend: Backend) {
        let server = TestServer::start(backend).await;
        let (caller, tokens) = server.signed_in(ANA, PASSWORD).await;
        let started: TotpStarted = caller.post("/v1/account/totp/start", Some(&tokens), &Done {}).await.unwrap();
        let code = || totp::code(started.secret.as_str(), server.clock().now_ms());
        // Not confirmed, it counts for nothing.
        caller.sign_in(ANA, PASSWORD).await.unwrap();
        let confirm = TotpConfirm { code: code().into() };
        let confirmed: TotpConfirmed = caller.post("/v1/account/totp/confirm", Some(&tokens), &confirm).await.unwrap();

        assert_sign_in_refused(caller.sign_in(ANA, PASSWORD).await, ErrorCode::SecondFactorRequired);
        server.clock().advance(Duration::from_secs(30));
        let wrong = if code() == "000000" { "000001" } else { "000000" };
        let refused = caller.sign_in_with(ANA, PASSWORD, Some(wrong)).await;
        assert_sign_in_refused(refused, ErrorCode::SecondFactorInvalid);
        caller.sign_in_with(ANA, PASSWORD, Some(&code())).await.unwrap();
        let replayed = caller.sign_in_with(ANA, PASSWORD, Some(&code())).await;
        assert_sign_in_refused(replayed, ErrorCode::SecondFactorInvalid);

        let recovery_code = confirmed.recovery_codes[0].as_str();
        caller.sign_in_with(ANA, PASSWORD, Some(recovery_code)).await.unwrap();
        let replayed = caller.sign_in_with(ANA, PASSWORD, Some(recovery_code)).await;
        assert_sign_in_refused(replayed, ErrorCode::SecondFactorInvalid);
    }

    async fn what_cuts_deep_needs_the_password_again(backend: Backend) {
        let server = TestServer::start(backend).await;
        let (caller, tokens) = server.signed_in(ANA, PASSWORD).await;
        server.clock().advance(Duration::from_secs(5 * 60 + 1));
        let delete: Answer<DeletionScheduled> = caller.post("/v1/account/delete", Some(&tokens), &Done {}).await;
        assert_refused(delete, ErrorCode::RecentSignInRequired);
        let renewed = refresh(&caller, &tokens).await.unwrap();
        let delete: Answer<DeletionScheduled> = caller.post("/v1/account/delete", Some(&renewed), &Done {}).await;
        assert_refused(delete, ErrorCode::RecentSignInRequired);
    }

    async fn a_suspended_account_is_told_so_and_let_in_again_when_it_is_over(backend: Backend) {
        let server = TestServer::start(backend).await;
        let (caller, tokens) = server.signed_in(ANA, PASSWORD).await;
        server.suspend(ANA, true).await;
        assert_refused(account(&caller, &tokens).await, ErrorCode::AccountSuspended);
        assert_refused(refresh(&caller, &tokens).await, ErrorCode::AccountSuspended);
        assert_sign_in_refused(caller.sign_in(ANA, PASSWORD).await, ErrorCode::AccountSuspended);
        // Who does not know the password is not told.
        assert_eq!(caller.sign_in(ANA, "wrong").await, Err(None));
        server.suspend(ANA, false).await;
        caller.sign_in(ANA, PASSWORD).await.unwrap();
    }

    async fn a_suspended_tenant_is_told_so(backend: Backend) {
        let server = TestServer::start(backend).await;
        let (caller, tokens) = server.signed_in(ANA, PASSWORD).await;
        server.suspend_tenant(true).await;
        assert_refused(account(&caller, &tokens).await, ErrorCode::TenantSuspended);
        server.suspend_tenant(false).await;
        account(&caller, &tokens).await.unwrap();
    }
}

async fn account(caller: &Caller, tokens: &Tokens) -> Answer<Account> {
    caller.get("/v1/account", Some(tokens)).await
}

async fn refresh(caller: &Caller, tokens: &Tokens) -> Answer<Tokens> {
    let message = Refresh { refresh_token: tokens.refresh_token, device: None };
    caller.post("/v1/auth/refresh", None, &message).await
}

async fn sign_out(caller: &Caller, tokens: &Tokens, which: SignOutScope) {
    let _: Done = caller.post("/v1/auth/sign-out", Some(tokens), &SignOut { which }).await.unwrap();
}

fn assert_refused<T: std::fmt::Debug>(answer: Answer<T>, code: ErrorCode) {
    assert_eq!(answer.unwrap_err().body.code, code);
}

fn assert_sign_in_refused(answer: Result<Tokens, Option<Box<Refused>>>, code: ErrorCode) {
    assert_refused(answer.map_err(|refused| refused.expect("the password was right")), code);
}
