//! A cluster from the outside: what a test that uses one relies on.

use std::collections::HashSet;
use std::process::Command;
use std::time::{Duration, Instant};

use selkie_test_postgres::{Cluster, Database};
use tokio_postgres::NoTls;

#[tokio::test]
async fn a_database_is_fresh_and_gone_when_dropped() {
    let database = Cluster::shared().database(None);
    let name = database.name().to_owned();
    execute(&database.url(), "CREATE TABLE a (x int); INSERT INTO a VALUES (1)").await;
    let other = Cluster::shared().database(None);
    assert_eq!(count(&other.url(), "SELECT 1 FROM pg_tables WHERE tablename = 'a'").await, 0);
    drop(database);
    let left = format!("SELECT 1 FROM pg_database WHERE datname = '{name}'");
    assert_eq!(count(&Cluster::shared().url(), &left).await, 0);
}

#[tokio::test]
async fn a_database_that_is_still_in_use_is_dropped_all_the_same() {
    let database = Cluster::shared().database(None);
    let (client, connection) = tokio_postgres::connect(&database.url(), NoTls).await.unwrap();
    let driver = tokio::spawn(connection);
    drop(database);
    assert!(client.simple_query("SELECT 1").await.is_err());
    assert!(driver.await.unwrap().is_err());
}

#[tokio::test]
async fn a_template_is_made_once_and_copied_whole() {
    let prepared = std::sync::atomic::AtomicUsize::new(0);
    let prepare = |url: &str| {
        prepared.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(execute(url, "CREATE TABLE a (x int); INSERT INTO a VALUES (1), (2)"));
        Ok::<_, std::io::Error>(())
    };
    let name = format!("selkie_template_of_{}", std::process::id());
    let copies: Vec<Database> = std::thread::scope(|scope| {
        let make = || Cluster::shared().database(Some(&Cluster::shared().template(&name, prepare)));
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(make)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(prepared.into_inner(), 1);
    assert_eq!(copies.iter().map(Database::name).collect::<HashSet<_>>().len(), 4);
    execute(&copies[0].url(), "DELETE FROM a").await;
    assert_eq!(count(&copies[0].url(), "SELECT 1 FROM a").await, 0);
    assert_eq!(count(&copies[1].url(), "SELECT 1 FROM a").await, 2);
}

#[tokio::test]
async fn another_role_may_sign_in_and_is_held_to_its_rights() {
    let database = Cluster::shared().database(None);
    let role = format!("role_of_{}", database.name());
    execute(&database.url(), &format!("CREATE TABLE a (x int); CREATE ROLE {role} LOGIN")).await;
    let (client, connection) = tokio_postgres::connect(&database.url_as(&role), NoTls).await.unwrap();
    tokio::spawn(connection);
    let refusal = client.simple_query("SELECT * FROM a").await.unwrap_err();
    assert_eq!(refusal.code(), Some(&tokio_postgres::error::SqlState::INSUFFICIENT_PRIVILEGE));
    execute(&database.url(), &format!("DROP ROLE {role}")).await;
}

#[tokio::test]
async fn a_durable_cluster_flushes_and_an_ordinary_one_does_not() {
    let durable = Cluster::durable().unwrap();
    assert_eq!(setting(&durable, "fsync").await, "on");
    assert_eq!(setting(&durable, "synchronous_commit").await, "on");
    let ordinary = Cluster::start().unwrap();
    assert_eq!(setting(&ordinary, "fsync").await, "off");
}

#[test]
fn a_cluster_ends_when_it_is_dropped() {
    let cluster = Cluster::start().unwrap();
    let process = cluster.process_id().unwrap();
    assert!(is_alive(process));
    drop(cluster);
    assert!(!is_alive(process));
}

#[tokio::test]
async fn a_durable_cluster_that_is_killed_comes_back_with_what_was_committed() {
    let cluster = Cluster::durable().unwrap();
    let database = cluster.database(None);
    let url = database.url();
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("CREATE TABLE a (x int); INSERT INTO a VALUES (1), (2)").await.unwrap();
    client.batch_execute("BEGIN; INSERT INTO a VALUES (3)").await.unwrap();
    let process = cluster.process_id().unwrap();
    cluster.kill();
    assert!(!is_alive(process) && cluster.process_id().is_none());
    assert!(tokio_postgres::connect(&url, NoTls).await.is_err());
    cluster.start_again();
    assert_eq!(count(&url, "SELECT 1 FROM a").await, 2);
}

#[test]
fn the_runner_passes_on_the_exit_code_and_the_address() {
    let status = with_postgres("echo $SELKIE_TEST_DATABASE_URL | grep -q ^postgres://postgres@127.0.0.1: && exit 7");
    assert_eq!(status.wait_with_output().unwrap().status.code(), Some(7));
    assert_eq!(with_postgres("kill -9 $$").wait_with_output().unwrap().status.code(), Some(128 + 9));
}

#[cfg(target_os = "linux")]
#[test]
fn a_cluster_dies_with_a_runner_that_is_killed() {
    use std::io::{BufRead, BufReader};

    let mut runner = with_postgres("echo $PPID; read -r _");
    let mut line = String::new();
    BufReader::new(runner.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let postgres = children_of(line.trim()).into_iter().find(|(_, name)| name == "postgres").unwrap().0;
    runner.kill().unwrap();
    runner.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while is_alive(postgres) {
        assert!(Instant::now() < deadline, "PostgreSQL outlived its owner");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn with_postgres(script: &str) -> std::process::Child {
    Command::new(env!("CARGO_BIN_EXE_with-postgres"))
        .args(["sh", "-c", script])
        .env_remove("SELKIE_TEST_DATABASE_URL")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap()
}

async fn execute(url: &str, statements: &str) {
    count(url, statements).await;
}

/// How many rows the statements give.
async fn count(url: &str, statements: &str) -> usize {
    rows(url, statements).await.len()
}

async fn setting(cluster: &Cluster, name: &str) -> String {
    rows(&cluster.url(), &format!("SHOW {name}")).await.remove(0)
}

/// The first column of every row.
async fn rows(url: &str, statements: &str) -> Vec<String> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    let driver = tokio::spawn(connection);
    let messages = client.simple_query(statements).await.unwrap();
    drop(client);
    driver.await.unwrap().unwrap();
    let first = |message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default().to_owned()),
        _ => None,
    };
    messages.into_iter().filter_map(first).collect()
}

fn is_alive(process: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // A zombie only waits to be counted.
    status.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

#[cfg(target_os = "linux")]
fn children_of(parent: &str) -> Vec<(u32, String)> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|entry| {
            let process: u32 = entry.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
            (rest.split_whitespace().nth(1)? == parent).then(|| (process, name.to_owned()))
        })
        .collect()
}
