//! Tokens: renewed in time, once, and never begged for.

use crate::accounts::ana;
use crate::fake::{Fake, Mishap};
use selkie_client::{Error, SignInReason};

const HOUR: u64 = 3_600_000;

fn count(asked: &[String], path: &str) -> usize {
    asked.iter().filter(|asked| asked.contains(path)).count()
}

#[tokio::test]
async fn an_expired_token_is_renewed_without_anybody_noticing() {
    let server = Fake::start();
    let account = ana(&server.device()).await.account;
    server.asked();
    account.sessions().await.unwrap();
    assert_eq!(count(&server.asked(), "refresh"), 0);
    for _ in 0..3 {
        server.later(HOUR);
        account.sessions().await.unwrap();
        assert_eq!(count(&server.asked(), "refresh"), 1);
    }
}

#[tokio::test]
async fn many_calls_at_once_renew_once() {
    let server = Fake::start();
    let account = ana(&server.device()).await.account;
    server.later(HOUR);
    server.asked();
    let calls = (0..8).map(|_| account.sessions());
    for outcome in futures_util::future::join_all(calls).await {
        outcome.unwrap();
    }
    assert_eq!(count(&server.asked(), "refresh"), 1);
}

#[tokio::test]
async fn two_programs_on_one_folder_share_one_session() {
    let server = Fake::start();
    let data = tempfile::tempdir().unwrap();
    let open = || server.builder().store(data.path()).build().unwrap();
    let first = ana(&open()).await.account;
    let second = open().account("ana@example.org").await.unwrap().unwrap();
    for _ in 0..3 {
        server.later(HOUR);
        let (one, other) = tokio::join!(first.sessions(), second.sessions());
        assert_eq!((one.unwrap().len(), other.unwrap().len()), (1, 1));
    }
}

#[tokio::test]
async fn a_lost_answer_to_a_renewal_costs_nothing() {
    let server = Fake::start();
    let account = ana(&server.device()).await.account;
    server.later(HOUR);
    server.next_request_to("refresh", Mishap::AnswerLost);
    server.asked();
    account.sessions().await.unwrap();
    assert_eq!(count(&server.asked(), "refresh"), 2, "it is tried again at once, while the server expects it");
    // And no more than once.
    server.later(HOUR);
    server.next_request_to("refresh", Mishap::AnswerLost);
    server.next_request_to("refresh", Mishap::NotDelivered);
    assert!(matches!(account.sessions().await, Err(Error::Offline(_))));
    account.sessions().await.unwrap();
}

#[tokio::test]
async fn a_clock_that_is_hours_off_is_noticed_by_nobody() {
    let server = Fake::start();
    let account = ana(&server.device()).await.account;
    server.later(10 * 365 * 24 * HOUR);
    account.sessions().await.unwrap();
}

#[tokio::test]
async fn an_ended_session_says_so_now_and_after_a_restart() {
    let server = Fake::start();
    let data = tempfile::tempdir().unwrap();
    let open = || server.builder().store(data.path()).build().unwrap();
    let account = ana(&open()).await.account;
    server.end_sessions();
    let ended = |error| matches!(error, Error::SignInAgain { reason: SignInReason::SessionEnded });
    assert!(ended(account.sessions().await.unwrap_err()));
    server.asked();
    let restarted = open().account("ana@example.org").await.unwrap().unwrap();
    assert!(ended(restarted.sessions().await.unwrap_err()));
    assert!(server.asked().is_empty(), "there is nothing to ask");
}

#[tokio::test]
async fn mal_015_a_server_that_refuses_every_token_is_soon_left_alone() {
    let server = Fake::start();
    let data = tempfile::tempdir().unwrap();
    let open = || server.builder().store(data.path()).build().unwrap();
    let account = ana(&open()).await.account;
    server.refuse_all_tokens();
    server.asked();
    for _ in 0..20 {
        let error = account.sessions().await.unwrap_err();
        assert!(matches!(error, Error::SignInAgain { reason: SignInReason::ServerKeepsRefusing }));
        assert!(error.to_string().contains("refuses every token"));
        assert!(error.advice().starts_with("Do not type the password"));
    }
    let asked = server.asked();
    assert!(asked.len() <= 8, "{asked:?}");
    assert_eq!(count(&asked, "login") + count(&asked, "register") + count(&asked, "password"), 0);
    assert!(account.is_signed_in(), "a server that merely refuses has ended nothing");
}
