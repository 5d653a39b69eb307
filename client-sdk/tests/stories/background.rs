//! Sync in the background, and what it says of itself. Time stands still until everybody waits for it: what takes a
//! device a day takes these stories a moment.

use crate::fake::time::Time;
use crate::fake::{Fake, Mishap};
use crate::vaults::{APP, PASSWORD, id, text};
use futures_util::{Stream, StreamExt as _};
use selkie_client::{
    Account, Background, BlockedPlace, Client, Clock as _, Error, Schedule, SignIn, SignUp, SignedUp, Status, Switch,
    SyncState, Vault,
};
use std::sync::Arc;
use std::time::Duration;

const SECOND: u64 = 1_000;
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Ana's laptop with a journal that the server has.
struct Scene {
    server: Arc<Fake>,
    time: Arc<Time>,
    ana: SignedUp,
    account: Account,
    journal: Vault,
}

fn device(server: &Arc<Fake>, time: &Arc<Time>) -> Client {
    server.builder().in_memory().clock(time.clone()).runtime(time.clone()).build().unwrap()
}

async fn scene() -> Scene {
    let server = Fake::start();
    let time = Time::beginning_at(server.now_ms());
    let ana = device(&server, &time).sign_up("ana", PASSWORD, SignUp::default()).await.unwrap();
    let account = ana.account.clone();
    let journal = account.create_vault("Journal", APP).await.unwrap();
    account.sync().await.unwrap();
    assert_eq!(now(&account).await.pending, 0, "what the first round tells the other devices is with them");
    Scene { server, time, ana, account, journal }
}

impl Scene {
    /// The background, with its first round behind it.
    async fn begun(&self, account: &Account) -> Background {
        let before = now(account).await;
        self.pass(1).await;
        let background = account.sync_in_background(Schedule::default());
        let later = |now: &Status| in_step(now) && now.last_success_ms > before.last_success_ms;
        self.until(&mut account.status(), later).await;
        // And the one after the line was opened.
        self.pass(1).await;
        background
    }

    async fn pass(&self, seconds: u64) {
        self.time.pass(Duration::from_secs(seconds)).await;
    }

    /// The first status that fits. It comes within an hour or never.
    async fn until(&self, status: &mut (impl Stream<Item = Status> + Unpin), fits: impl Fn(&Status) -> bool) -> Status {
        self.time.until(Duration::from_secs(3600), status, fits).await
    }

    fn now_ms(&self) -> u64 {
        self.time.now_ms()
    }

    fn polls(&self) -> usize {
        self.server.asked().iter().filter(|path| path.contains("/poll")).count()
    }
}

async fn now(account: &Account) -> Status {
    account.status().next().await.unwrap()
}

fn in_step(status: &Status) -> bool {
    matches!(status.state, SyncState::Synced { .. }) && status.pending == 0
}

#[tokio::test]
async fn what_is_written_here_is_read_there_and_nobody_called_sync() {
    let scene = scene().await;
    let Scene { server, time, ana, account, journal } = &scene;
    let (phone, key) = (device(server, time), ana.sheet.secret_key());
    let phone = phone.sign_in("ana", PASSWORD, key, SignIn::default()).await.unwrap().account;
    let (mut status, mut on_phone) = (account.status(), phone.status());
    let _both = (scene.begun(account).await, scene.begun(&phone).await);
    let there = phone.vault("Journal").await.unwrap().expect("the background has found the vault");

    let written = scene.now_ms();
    journal.put("notes", id(1), b"by itself").await.unwrap();
    let waits = scene.until(&mut status, |now| now.pending == 1 && now.next_attempt_ms.is_some()).await;
    assert_eq!(waits.state, SyncState::Pending(1));
    scene.until(&mut status, in_step).await;
    let took = scene.now_ms() - written;
    assert!((2 * SECOND..3 * SECOND).contains(&took), "two seconds after the last write, not {took}");

    let (last, n) = (now(&phone).await, journal.digest().await.unwrap().n);
    server.hint(&format!("event: vault\ndata: {{\"vid\":\"{}\",\"n\":{n}}}\n\n", journal.id()));
    scene.until(&mut on_phone, |now| in_step(now) && now.last_success_ms > last.last_success_ms).await;
    assert!(scene.now_ms() - written < 4 * SECOND, "a hint is followed at once");
    assert_eq!(text(&there, 1).await.as_deref(), Some("by itself"));
}

#[tokio::test]
async fn a_server_that_goes_away_is_tried_waited_for_and_found_again() {
    let scene = scene().await;
    let Scene { server, account, journal, .. } = &scene;
    server.have_no_hints();
    let mut status = account.status();
    let background = scene.begun(account).await;
    let five_times = || (0..5).for_each(|_| server.next_request_to("/poll", Mishap::NotDelivered));
    five_times();
    scene.polls();
    let gone = scene.now_ms();
    journal.put("notes", id(1), b"kept").await.unwrap();
    let away = scene.until(&mut status, |now| now.state == SyncState::Offline).await;
    assert_eq!((away.pending, away.blocked.len()), (1, 0), "nobody can do anything about that: {away:?}");
    assert!(away.last_success_ms.is_some());
    scene.until(&mut status, in_step).await;
    let took = scene.now_ms() - gone;
    assert_eq!(scene.polls(), 6, "five times, and once more after half a minute, since something waits");
    assert!((30 * SECOND..60 * SECOND).contains(&took), "{took}");
    assert!(journal.get(id(1)).await.unwrap().is_some_and(|record| !record.pending));

    five_times();
    assert!(matches!(background.sync_now().await, Err(Error::Offline(_))));
    scene.pass(60).await;
    assert_eq!(scene.polls(), 5, "nothing waits, and so the next round does");
    let away = now(account).await;
    assert_eq!(away.state, SyncState::Offline);
    assert!(away.next_attempt_ms.is_some_and(|next| next > away.last_success_ms.unwrap() + 300 * SECOND));
    let back = scene.now_ms();
    background.network_is_back();
    scene.until(&mut status, |now| in_step(now) && now.last_success_ms > away.last_success_ms).await;
    assert!(scene.now_ms() - back < SECOND);
}

#[tokio::test]
async fn a_server_that_has_too_much_to_do_is_not_called_unreachable() {
    let scene = scene().await;
    let Scene { server, account, .. } = &scene;
    server.have_no_hints();
    let background = scene.begun(account).await;
    (0..5).for_each(|_| server.next_request_to("/poll", Mishap::Overloaded));
    assert!(matches!(background.sync_now().await, Err(Error::RetryLater { .. })));
    let put_off = now(account).await;
    let SyncState::PutOff(reason) = &put_off.state else { panic!("{put_off:?}") };
    assert!(reason.starts_with("not just now: "), "{reason}");
    assert!(put_off.blocked.is_empty() && put_off.next_attempt_ms.is_some(), "it is tried again: {put_off:?}");
    background.network_is_back();
    scene.until(&mut account.status(), in_step).await;
}

#[tokio::test]
async fn when_the_line_to_the_hints_opens_again_it_looks_at_once() {
    let scene = scene().await;
    let Scene { server, account, .. } = &scene;
    let _background = scene.begun(account).await;
    let (last, cut) = (now(account).await, scene.now_ms());
    scene.polls();
    let before = server.hang_up();
    assert!(before >= 1, "the background listens");
    scene.until(&mut account.status(), |now| in_step(now) && now.last_success_ms > last.last_success_ms).await;
    assert!(scene.now_ms() - cut <= 2 * SECOND);
    assert!(server.hang_up() > before && scene.polls() == 1);
}

#[tokio::test]
async fn after_the_session_ended_it_asks_for_nothing_and_says_what_to_do() {
    let scene = scene().await;
    let Scene { server, account, journal, .. } = &scene;
    let mut status = account.status();
    let background = scene.begun(account).await;
    server.end_sessions();
    journal.put("notes", id(1), b"kept").await.unwrap();
    let over = scene.until(&mut status, |now| matches!(now.state, SyncState::Blocked(_))).await;
    let [blocked] = over.blocked.as_slice() else { panic!("{over:?}") };
    assert_eq!((&blocked.what, blocked.kind), (&BlockedPlace::Account, "sign_in_again"));
    assert!(blocked.unblock.starts_with("Sign in again"));
    assert_eq!(over.pending, 1);
    scene.pass(1).await;
    server.asked();
    scene.time.pass(DAY).await;
    journal.put("notes", id(2), b"kept, too").await.unwrap();
    scene.until(&mut status, |now| now.pending == 2).await;
    scene.time.pass(DAY).await;
    assert_eq!(server.asked(), Vec::<String>::new());
    assert!(matches!(background.sync_now().await, Err(Error::SignInAgain { .. })));
}

#[tokio::test]
async fn on_a_metered_network_what_is_written_waits_unless_the_person_insists() {
    let scene = scene().await;
    let Scene { server, account, journal, .. } = &scene;
    let mut status = account.status();
    let switch = Switch::new(false);
    let schedule = Schedule { conditions: Arc::new(switch.clone()), ..Schedule::default() };
    let background = account.sync_in_background(schedule);
    scene.until(&mut status, |now| now.held_back).await;
    server.asked();
    journal.put("notes", id(1), b"first").await.unwrap();
    scene.until(&mut status, |now| now.pending == 1).await;
    scene.time.pass(DAY).await;
    assert_eq!(server.asked(), Vec::<String>::new());
    assert_eq!(server.hang_up(), 0, "there is no line either");

    let done = background.sync_now().await.unwrap();
    assert_eq!(done.vaults.iter().map(|(_, done)| done.as_ref().unwrap().pushed).sum::<usize>(), 1);
    journal.put("notes", id(2), b"second").await.unwrap();
    scene.until(&mut status, |now| now.held_back && now.pending > 0).await;
    let on = scene.now_ms();
    switch.set(true);
    scene.until(&mut status, in_step).await;
    assert!(scene.now_ms() - on < SECOND);
}

#[tokio::test]
async fn switched_off_it_does_nothing_more() {
    let scene = scene().await;
    let Scene { server, account, journal, .. } = &scene;
    scene.begun(account).await.stop().await;
    drop(account.sync_in_background(Schedule::default()));
    server.hang_up();
    server.asked();
    journal.put("notes", id(1), b"here").await.unwrap();
    scene.time.pass(DAY).await;
    let status = now(account).await;
    assert_eq!((status.pending, status.next_attempt_ms), (1, None));
    assert_eq!(server.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn everybody_who_asks_is_answered() {
    let scene = scene().await;
    let background = scene.begun(&scene.account).await;
    scene.journal.put("notes", id(1), b"first").await.unwrap();
    let asked = futures_util::future::join3(background.sync_now(), background.sync_now(), background.sync_now());
    let (one, other, third) = asked.await;
    let done = [one, other, third].into_iter().flat_map(|done| done.unwrap().vaults);
    assert_eq!(done.map(|(_, done)| done.unwrap().pushed).sum::<usize>(), 1, "once, whoever asked");
}

#[tokio::test]
async fn a_vault_that_is_set_apart_holds_up_no_other_and_says_why() {
    let scene = scene().await;
    let Scene { server, account, journal, .. } = &scene;
    let others = account.create_vault("Others", APP).await.unwrap();
    account.sync().await.unwrap();
    for number in 1..4 {
        journal.put("notes", id(number), b"before").await.unwrap();
        journal.sync().await.unwrap();
    }
    server.with(|world| {
        let people = world.people();
        let one = world.vaults.all.get_mut(&journal.id()).unwrap();
        *one = one.back_to(2, &people);
    });
    let _background = account.sync_in_background(Schedule::default());
    journal.put("notes", id(9), b"after").await.unwrap();
    others.put("notes", id(1), b"elsewhere").await.unwrap();
    let apart = |now: &Status| matches!(now.state, SyncState::Blocked(_)) && now.pending == 1;
    let status = scene.until(&mut account.status(), apart).await;
    let [blocked] = status.blocked.as_slice() else { panic!("{status:?}") };
    assert_eq!(blocked.what, BlockedPlace::Vault { id: journal.id(), name: Some("Journal".into()) });
    assert_eq!(blocked.kind, "quarantined");
    assert!(blocked.unblock.contains("evidence"), "{blocked:?}");
    assert!(others.get(id(1)).await.unwrap().is_some_and(|record| !record.pending));
}

#[tokio::test]
async fn a_status_comes_at_once_and_then_only_when_it_is_another() {
    let scene = scene().await;
    let Scene { server, time, account, journal, .. } = &scene;
    server.asked();
    let mut status = account.status();
    assert!(in_step(&status.next().await.unwrap()));
    time.pass(DAY).await;
    assert_eq!(time.poll(&mut status).await, None, "nothing has happened");
    for number in 1..=50 {
        journal.put("notes", id(number), b"quick").await.unwrap();
    }
    // Whoever reads slowly gets the newest.
    assert_eq!(status.next().await.unwrap().state, SyncState::Pending(50));
    assert_eq!(time.poll(&mut status).await, None);
    assert_eq!(server.asked(), Vec::<String>::new(), "no request is made for it");
}
