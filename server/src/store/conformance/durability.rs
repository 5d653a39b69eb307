//! What survives: callers that go away, writes that share a transaction, stores that are closed and opened again.

use super::*;
use crate::store::*;
use futures_util::FutureExt as _;
use futures_util::future::join_all;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use tokio::runtime::Handle;

on_both![
    a_write_whose_caller_went_away_happens_or_does_not,
    one_failure_among_many_writes_spoils_no_other,
    what_was_answered_is_there_after_a_restart,
    a_closing_store_answers_what_it_was_asked,
    a_server_that_is_killed_keeps_what_it_answered_and_no_half_of_anything,
];

async fn a_write_whose_caller_went_away_happens_or_does_not(house: House) {
    for n in 0..20 {
        // Asked once, then dropped: the write is on its way.
        let mut asked = Box::pin(house.register(house.home, registration(n)));
        assert!(asked.as_mut().now_or_never().is_none());
        drop(asked);
    }
    // Writes are answered in their order on SQLite; on PostgreSQL closing waits for nobody, so ask until all are there.
    let arrived = async || house.tenant_by_slug("home").await.unwrap().unwrap().accounts;
    let patience = std::time::Instant::now();
    while arrived().await < 20 && patience.elapsed().as_secs() < 20 {
        tokio::task::yield_now().await;
    }
    let rows = house.accounts(house.home, AccountNumber(0), 100).await.unwrap();
    assert_eq!(rows.len(), 20);
    for row in rows {
        assert_eq!((row.log_length, row.devices), (6, 1), "all of it");
        house.keybag(house.home, row.account).await.unwrap();
    }
    house.expect_whole_audit().await;
}

async fn one_failure_among_many_writes_spoils_no_other(house: House) {
    house.register(house.home, registration(0)).await.unwrap();
    let writes = (0..60).map(|n| {
        let login_name = if n % 3 == 0 { name(0) } else { name(n) };
        house.register(house.home, Registration { login_name, ..registration(n + 100) })
    });
    for (n, result) in join_all(writes).await.into_iter().enumerate() {
        match n % 3 {
            0 => assert_eq!(refused(result), Refused::LoginNameTaken),
            _ => drop(result.unwrap()),
        }
    }
    assert_eq!(house.tenant_by_slug("home").await.unwrap().unwrap().accounts, 41);
    house.expect_whole_audit().await;
}

async fn what_was_answered_is_there_after_a_restart(house: House) {
    let account = house.register(house.home, registration(1)).await.unwrap();
    house.close().await;
    let again = open(&house.url, Options::default(), Handle::current()).await.unwrap();
    assert_eq!(again.account(house.home, account).await.unwrap().log_length, 6);
    assert_eq!(again.verify_audit(house.home).await.unwrap(), None);
    again.close().await;
}

async fn a_closing_store_answers_what_it_was_asked(house: House) {
    let mut asked: Vec<_> = (0..30).map(|n| Box::pin(house.register(house.home, registration(n)))).collect();
    for write in &mut asked {
        assert!(write.as_mut().now_or_never().is_none());
    }
    house.close().await;
    let mut done = 0;
    for result in join_all(asked).await {
        match result {
            Ok(_) => done += 1,
            Err(StoreError::Unavailable(_)) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    let again = open(&house.url, Options::default(), Handle::current()).await.unwrap();
    assert_eq!(again.tenant_by_slug("home").await.unwrap().unwrap().accounts, done, "answered is done, and only that");
    again.close().await;
}

const VICTIM_URL: &str = "SELKIE_TEST_VICTIM_URL";
const VICTIM_FIRST: &str = "SELKIE_TEST_VICTIM_FIRST";

async fn a_server_that_is_killed_keeps_what_it_answered_and_no_half_of_anything(house: House) {
    house.close().await;
    let url = house.url.clone();
    let answered = tokio::task::spawn_blocking(move || {
        (0..4).flat_map(|round| kill_a_server(&url, 1000 * round, 3 + 5 * round as usize)).collect::<Vec<u64>>()
    });
    let answered = answered.await.unwrap();
    let again = open(&house.url, Options::default(), Handle::current()).await.unwrap();
    for n in &answered {
        assert!(again.login_account(house.home, &name(*n)).await.unwrap().is_some(), "{n} was answered");
    }
    let rows = again.accounts(house.home, AccountNumber(0), 10_000).await.unwrap();
    assert!(rows.len() >= answered.len());
    assert_eq!(rows.len() as i64, again.tenant_by_slug("home").await.unwrap().unwrap().accounts);
    for row in rows {
        assert_eq!((row.log_length, row.devices), (6, 1));
        again.keybag(house.home, row.account).await.unwrap();
    }
    assert_eq!(again.verify_audit(house.home).await.unwrap(), None);
    again.close().await;
}

/// Starts a process that registers people one after the other, kills it after some, and returns who was answered.
fn kill_a_server(url: &str, first: u64, after: usize) -> Vec<u64> {
    const ITSELF: &str = "store::conformance::durability::the_server_that_will_be_killed";
    let mut server = Command::new(this_program())
        .args(["--exact", ITSELF, "--ignored", "--nocapture"])
        .envs([(VICTIM_URL, url), (VICTIM_FIRST, &first.to_string())])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut answered = Vec::new();
    for line in BufReader::new(server.stdout.take().unwrap()).lines() {
        answered.extend(line.unwrap().strip_prefix("registered ").map(|n| n.parse::<u64>().unwrap()));
        if answered.len() == after {
            server.kill().unwrap();
        }
    }
    assert!(!server.wait().unwrap().success(), "it was killed, and did not end by itself");
    answered
}

/// The program that is running. By its name there may be another one by now, if it was built again meanwhile.
fn this_program() -> std::path::PathBuf {
    let running = std::path::PathBuf::from("/proc/self/exe");
    if running.exists() { running } else { std::env::current_exe().unwrap() }
}

#[test]
#[ignore = "a process for the story above, which kills it"]
fn the_server_that_will_be_killed() {
    let (Ok(url), Ok(first)) = (std::env::var(VICTIM_URL), std::env::var(VICTIM_FIRST)) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = open(&url, Options::default(), Handle::current()).await.unwrap();
        let home = store.tenant_by_slug("home").await.unwrap().unwrap().tenant;
        let first: u64 = first.parse().unwrap();
        for n in (first..first + 900).step_by(3) {
            let three = (n..n + 3).map(|n| store.register(home, registration(n)));
            for (n, registered) in (n..).zip(join_all(three).await) {
                registered.unwrap();
                writeln!(std::io::stdout(), "\nregistered {n}").unwrap();
            }
        }
    });
}
