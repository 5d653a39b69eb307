//! What servers on one database tell each other, and what becomes of the database as a whole: its incarnation, a copy.

use super::catalogue::connect;
use super::scribe::{Scribe, Write};
use super::vaults::expect_log;
use super::*;
use crate::store::*;
use selkie_protocol::id::Incarnation;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::broadcast::Receiver;
use tokio::time::timeout;

on_both![a_restored_database_begins_another_life];

const SOON: Duration = Duration::from_secs(20);

async fn a_restored_database_begins_another_life(house: House) {
    let identity = Identity {
        incarnation: Incarnation([1; 16]),
        master_key_fingerprint: vec![2; 8],
        created_at: NOW,
        restored_at: None,
    };
    house.begin_another_life(Incarnation([8; 16]), NOW + 7).await.unwrap();
    let now = house.initialise(identity.clone(), super::house::tenant("home", "home")).await.unwrap();
    assert_eq!(now, Identity { incarnation: Incarnation([8; 16]), restored_at: Some(NOW + 7), ..identity });
}

#[tokio::test]
async fn a_copy_is_whole_while_the_database_is_written_to() {
    let house = House::on_sqlite().await;
    let account = house.register(house.home, registration(1)).await.unwrap();
    let mut scribe = Scribe::create(&*house.store, house.home, account, 1).await;
    scribe.writes(&*house.store, &[Write::Whole(1)]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("copy.db");
    let store = house.store.clone();
    let mut later = scribe.clone();
    let writing = async {
        for n in 0..50 {
            later.writes(&*store, &[Write::Whole(n)]).await;
        }
    };
    let (copied, ()) = tokio::join!(house.copy_to(&file), writing);
    copied.unwrap();
    let copy = open(&format!("sqlite:{}", file.display()), Options::default(), Handle::current()).await.unwrap();
    let head = copy.vault(house.home, scribe.vid).await.unwrap().unwrap().head;
    assert!(head.n >= 2 && head == later.entries[head.n as usize - 1].head);
    assert_eq!(copy.live_at(scribe.at, head.n, None, 1_000).await.unwrap(), later.live_at(head.n));
    assert_eq!(copy.verify_audit(house.home).await.unwrap(), None);
    copy.close().await;
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    assert!(matches!(house.copy_to(&file).await, Err(StoreError::Internal(_))), "nothing is written over");
    expect_log(&house, &later).await;
}

#[tokio::test]
async fn postgres_is_copied_by_its_own_tools() {
    let house = House::on_postgres().await;
    let Err(StoreError::Internal(why)) = house.copy_to(std::path::Path::new("/nowhere")).await else { panic!() };
    assert!(why.to_string().contains("pg_dump"), "{why}");
}

/// What every memory among several servers rests on.
#[tokio::test]
async fn a_snapshot_is_past_as_soon_as_anything_is_written() {
    let house = House::on_postgres().await;
    let second = open(&house.url, Options::default(), Handle::current()).await.unwrap();
    let account = house.register(house.home, registration(1)).await.unwrap();
    let mut scribe = Scribe::create(&*house.store, house.home, account, 1).await;
    let mut seen = Vec::new();
    for n in 0..50 {
        let before = second.snapshot().await.unwrap().expect("PostgreSQL tells");
        match n % 3 {
            0 => scribe.writes(&*house.store, &[Write::Whole(n)]).await,
            1 => house.set_account_suspended(house.home, account, n % 2 == 0, audit("suspended")).await.unwrap(),
            _ => connect(&house.url).await.batch_execute("UPDATE accounts SET last_seen = 1").await.unwrap(),
        }
        let after = second.snapshot().await.unwrap().expect("PostgreSQL tells");
        assert_ne!(after, before);
        assert!(!seen.contains(&after), "it came again");
        seen.push(before);
    }
    // Others write in the same cluster; but there are moments in which nobody does.
    loop {
        let before = second.snapshot().await.unwrap();
        second.ping().await.unwrap();
        if second.snapshot().await.unwrap() == before {
            break;
        }
    }
    second.close().await;
}

async fn heard(announcements: &mut Receiver<Announcement>) -> Announcement {
    timeout(SOON, announcements.recv()).await.expect("in time").unwrap()
}

#[tokio::test]
async fn servers_hear_what_the_others_say_and_when_they_may_have_missed_it() {
    let house = House::on_postgres().await;
    let second = open(&house.url, Options::default(), Handle::current()).await.unwrap();
    let (mut here, mut there) = (house.announcements(), second.announcements());
    let at = Place { tenant: house.home, vault: VaultNumber(7) };
    // Lines are up some time after their servers.
    for (says, hears) in [(&house.store, &mut there), (&second, &mut here)] {
        loop {
            says.announce(vec![(at, 0)]).await.unwrap();
            match timeout(Duration::from_millis(200), hears.recv()).await {
                Ok(Ok(Announcement::Moved(..))) => break,
                _ => continue,
            }
        }
    }
    let moved: Vec<(Place, u64)> = (1..2_000).map(|n| (Place { vault: VaultNumber(n), ..at }, n as u64)).collect();
    house.announce(moved.clone()).await.unwrap();
    let mut said = moved.into_iter().peekable();
    while let Some((at, n)) = said.peek() {
        match heard(&mut there).await {
            Announcement::Moved(_, 0) => {}
            announcement => {
                assert_eq!(announcement, Announcement::Moved(*at, *n));
                said.next();
            }
        }
    }
    second.announce(vec![(at, 9)]).await.unwrap();
    loop {
        match heard(&mut here).await {
            Announcement::Missed | Announcement::Moved(_, 0) => {}
            said => break assert_eq!(said, Announcement::Moved(at, 9), "and nothing that was said here"),
        }
    }
    // The line breaks; it mends itself and says so.
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()";
    connect(&house.url).await.batch_execute(cut).await.unwrap();
    assert_eq!(heard(&mut there).await, Announcement::Missed);
    loop {
        // Connections that were cut are found out one by one.
        if house.announce(vec![(at, 10)]).await.is_ok() {
            break;
        }
    }
    loop {
        match heard(&mut there).await {
            Announcement::Missed => {}
            said => break assert_eq!(said, Announcement::Moved(at, 10)),
        }
    }
    second.close().await;
}

#[tokio::test]
async fn on_sqlite_there_is_nobody_to_tell() {
    let house = House::on_sqlite().await;
    let mut announcements = house.announcements();
    assert_eq!(house.snapshot().await.unwrap(), None, "and nobody to ask about");
    house.announce(vec![(Place { tenant: house.home, vault: VaultNumber(1) }, 1)]).await.unwrap();
    assert!(announcements.try_recv().is_err());
}

/// Ends every connection that listens, again and again; how many.
pub(crate) async fn cut_lines(database: String, over: Arc<AtomicBool>) -> u64 {
    let (client, connection) = tokio_postgres::connect(&database, tokio_postgres::NoTls).await.unwrap();
    let driver = tokio::spawn(connection);
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND query LIKE 'LISTEN%'";
    let mut cuts = 0;
    while !over.load(Ordering::SeqCst) || cuts == 0 {
        cuts += client.query(cut, &[]).await.unwrap().len() as u64;
    }
    driver.abort();
    cuts
}
