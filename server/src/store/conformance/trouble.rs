//! Databases that are busy, slow, gone or tampered with: the store says so, and goes on when they are back.

use super::catalogue::connect;
use super::*;
use crate::store::*;
use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, SqliteConnection};
use std::time::Duration;
use tokio::runtime::Handle;

const SOON: Duration = Duration::from_millis(300);

fn impatient() -> Options {
    Options { connections: 1, acquire_timeout: SOON, statement_timeout: SOON, ..Options::default() }
}

#[track_caller]
fn unavailable<T>(result: Result<T>) {
    match result {
        Err(StoreError::Unavailable(_)) => {}
        Err(other) => panic!("something else is wrong: {other:?}"),
        Ok(_) => panic!("it was available"),
    }
}

fn connect_sqlite(house: &House) -> SqliteConnection {
    SqliteConnection::establish(house.url.strip_prefix("sqlite:").unwrap()).unwrap()
}

#[tokio::test]
async fn on_sqlite_a_writer_that_will_not_finish_makes_others_unavailable() {
    let house = House::on_sqlite().await;
    let store = open(&house.url, impatient(), Handle::current()).await.unwrap();
    let mut other = connect_sqlite(&house);
    other.batch_execute("BEGIN IMMEDIATE").unwrap();
    unavailable(store.register(house.home, bare(1)).await);
    store.ping().await.expect("readers do not wait for writers");
    other.batch_execute("ROLLBACK").unwrap();
    store.register(house.home, bare(1)).await.unwrap();
}

#[tokio::test]
async fn on_postgres_a_statement_has_its_time_and_a_request_its_turn() {
    let house = House::on_postgres().await;
    let account = house.register(house.home, registration(1)).await.unwrap();
    let store = open(&house.url, impatient(), Handle::current()).await.unwrap();
    let other = connect(&house.url).await;
    other.batch_execute("BEGIN; SELECT * FROM accounts FOR UPDATE").await.unwrap();
    let suspended = store.set_account_suspended(house.home, account, true, audit("suspended"));
    let waiting = store.set_account_suspended(house.home, account, true, audit("suspended"));
    // The first waits for the row until its statement runs out of time, the second for the only connection.
    let (suspended, waiting) = futures_util::future::join(suspended, waiting).await;
    unavailable(suspended);
    unavailable(waiting);
    other.batch_execute("ROLLBACK").await.unwrap();
    store.set_account_suspended(house.home, account, true, audit("suspended")).await.unwrap();
    house.expect_whole_audit().await;
}

#[tokio::test]
async fn on_postgres_connections_that_are_lost_are_replaced() {
    let house = House::on_postgres().await;
    let other = connect(&house.url).await;
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE application_name = 'selkie-server' AND datname = current_database()";
    assert!(other.query_one(cut, &[]).await.unwrap().get::<_, i64>(0) > 0);
    // Each of the four may be found dead once; nothing but that may go wrong.
    let mut failures = 0;
    while let Err(error) = house.register(house.home, registration(1)).await {
        assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
        failures += 1;
        assert!(failures <= 4, "{error:?}");
    }
    house.expect_whole_audit().await;
}

/// Each way to tamper, on a log of five entries, and the first entry that does not fit.
const TAMPERING: &[(&str, i64)] = &[
    ("UPDATE audit_log SET at = at + 1 WHERE number = 2", 2),
    ("UPDATE audit_log SET action = 'signed_out' WHERE number = 4", 4),
    ("UPDATE audit_log SET subject = NULL WHERE number = 1", 1),
    ("DELETE FROM audit_log WHERE number = 3", 3),
    ("DELETE FROM audit_log WHERE number = 1", 1),
    ("DELETE FROM audit_log WHERE number = 5", 5),
    ("DELETE FROM audit_log WHERE number > 3", 4),
    ("DELETE FROM audit_log", 1),
    ("DELETE FROM audit_head", 1),
    ("UPDATE audit_head SET number = 4", 5),
];

async fn five_entries(house: &House) {
    let account = house.register(house.home, registration(1)).await.unwrap();
    for action in ["signed_in", "device_added", "password_changed", "signed_out"] {
        house.record(house.home, Some(account), audit(action)).await.unwrap();
    }
    assert_eq!(house.verify_audit(house.home).await.unwrap(), None);
}

#[tokio::test]
async fn on_sqlite_a_tampered_audit_log_is_found_out() {
    let house = House::on_sqlite().await;
    five_entries(&house).await;
    let mut keeper = connect_sqlite(&house);
    keeper.batch_execute("DROP TRIGGER audit_log_stays; DROP TRIGGER audit_log_is_kept").unwrap();
    keeper
        .batch_execute(
            "CREATE TABLE kept AS SELECT * FROM audit_log; CREATE TABLE kept_head AS SELECT * FROM audit_head",
        )
        .unwrap();
    for (sql, misfit) in TAMPERING {
        keeper.batch_execute(sql).unwrap();
        assert_eq!(house.verify_audit(house.home).await.unwrap(), Some(*misfit), "{sql}");
        keeper.batch_execute("DELETE FROM audit_log; INSERT INTO audit_log SELECT * FROM kept").unwrap();
        keeper.batch_execute("DELETE FROM audit_head; INSERT INTO audit_head SELECT * FROM kept_head").unwrap();
        assert_eq!(house.verify_audit(house.home).await.unwrap(), None);
    }
}

#[tokio::test]
async fn on_postgres_a_tampered_audit_log_is_found_out() {
    let house = House::on_postgres().await;
    five_entries(&house).await;
    let keeper = connect(&house.url).await;
    keeper
        .batch_execute(
            "CREATE TABLE kept AS SELECT * FROM audit_log; CREATE TABLE kept_head AS SELECT * FROM audit_head",
        )
        .await
        .unwrap();
    for (sql, misfit) in TAMPERING {
        keeper.batch_execute(sql).await.unwrap();
        assert_eq!(house.verify_audit(house.home).await.unwrap(), Some(*misfit), "{sql}");
        keeper.batch_execute("DELETE FROM audit_log; INSERT INTO audit_log SELECT * FROM kept").await.unwrap();
        keeper.batch_execute("DELETE FROM audit_head; INSERT INTO audit_head SELECT * FROM kept_head").await.unwrap();
        assert_eq!(house.verify_audit(house.home).await.unwrap(), None);
    }
}
