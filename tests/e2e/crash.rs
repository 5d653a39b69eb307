//! The server is killed, kill -9, in the middle of something: afterwards it happened or it did not.
//!
//! Two ways of choosing the moment. On SQLite by time, over the whole of what is being done. On PostgreSQL by what is
//! being said: between the server and its database stands a line that is cut at every single message, before the
//! database hears it and after.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use selkie_client::{Error, SignUp};
use selkie_e2e::device::{Device, Person};
use selkie_e2e::network::{Network, Outcome};
use selkie_e2e::premises::{Backend, Premises, Tables};
use selkie_e2e::program::ServerProcess;
use selkie_e2e::tap::Tap;
use tokio::sync::Mutex;

const ANA: &str = "ana@example.org";
const OLD: &str = "seven silver swans sail";
const NEW: &str = "eight golden geese graze";
const SETTINGS: &str = "[registration]\npolicy = \"open\"\ndeletion_grace = \"1s\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_during_a_sign_up_has_the_account_or_has_it_not_on_sqlite() {
    let scene = Scene::new(Backend::SqliteAndFiles).await;
    for moment in moments() {
        sign_up_killed(&scene, moment).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_during_a_sign_up_has_the_account_or_has_it_not_on_postgres() {
    let scene = Scene::new(Backend::PostgresAndS3).await;
    let mut worlds = BTreeSet::new();
    let messages = scene.messages_during("POST /v1/auth/register/finish", || async {
        scene.device().makes_an_account("first@example.org", OLD).await;
    });
    for moment in every_message(messages.await) {
        let world = sign_up_killed(&scene, moment).await;
        worlds.insert(world);
        if world == World::New {
            break;
        }
    }
    assert_eq!(worlds.len(), 2, "only ever {worlds:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_during_a_change_of_password_takes_the_old_or_the_new_on_sqlite() {
    let scene = Scene::new(Backend::SqliteAndFiles).await;
    for moment in moments() {
        change_of_password_killed(&scene, moment).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_during_a_change_of_password_takes_the_old_or_the_new_on_postgres() {
    let scene = Scene::new(Backend::PostgresAndS3).await;
    let device = scene.device();
    let (_, account) = device.makes_an_account("first@example.org", OLD).await;
    let mut worlds = BTreeSet::new();
    let messages = scene.messages_during("POST /v1/account/password/finish", || async {
        account.change_password(OLD, NEW, false).await.unwrap();
    });
    for moment in every_message(messages.await) {
        let world = change_of_password_killed(&scene, moment).await;
        worlds.insert(world);
        if world == World::New {
            break;
        }
    }
    assert_eq!(worlds.len(), 2, "only ever {worlds:?}");
}

async fn sign_up_killed(scene: &Scene, moment: Moment) -> World {
    let name = scene.next_name();
    let device = scene.device();
    scene.kill_during("POST /v1/auth/register/finish", moment).await;
    let interrupted = device.sign_up(&name, OLD, SignUp::default()).await;
    scene.revive().await;
    let tables = scene.premises.tables().await;
    let accounts = rows_with(&tables, "accounts", &name);
    assert!(accounts.len() <= 1, "{accounts:?}");
    assert_eq!(tables["accounts"].len(), tables["credentials"].len());
    assert_eq!(tables["accounts"].len(), tables["keybag"].len());

    // The same call again ends well, whatever had become of the first.
    let made = match interrupted {
        Ok(made) => made,
        Err(error) => {
            assert!(error.is_retryable(), "{moment:?}: {error:?}");
            device.sign_up(&name, OLD, SignUp::default()).await.unwrap_or_else(|error| panic!("{moment:?}: {error:?}"))
        }
    };
    let ana = Person { login_name: name, password: OLD.into(), sheet: made.sheet };
    assert!(scene.device().signs_in(&ana).await.unwrap().new_device);
    if accounts.is_empty() { World::Old } else { World::New }
}

async fn change_of_password_killed(scene: &Scene, moment: Moment) -> World {
    let name = scene.next_name();
    let device = scene.device();
    let (old, account) = device.makes_an_account(&name, OLD).await;
    let new = Person { password: NEW.into(), ..old.clone() };
    scene.kill_during("POST /v1/account/password/finish", moment).await;
    let interrupted = account.change_password(OLD, NEW, false).await;
    scene.revive().await;
    if let Err(error) = &interrupted {
        assert!(error.is_retryable(), "{moment:?}: {error:?}");
    }
    // One of the two opens everything: record, keybag and log belong together. The other opens nothing.
    let other = scene.device();
    let (right, wrong) = match other.signs_in(&new).await {
        Ok(_) => (&new, &old),
        Err(Error::WrongCredentials) => (&old, &new),
        Err(error) => panic!("{moment:?}: {error:?}"),
    };
    assert!(interrupted.is_err() || right.password == NEW, "an answer was given and not kept");
    let refused = scene.device().signs_in(wrong).await;
    assert!(matches!(refused, Err(Error::WrongCredentials)), "{moment:?}: {refused:?}");
    device.signs_in(right).await.unwrap_or_else(|error| panic!("{moment:?}: {error:?}"));
    if right.password == NEW { World::New } else { World::Old }
}

/// The chore that deletes runs when a server starts: so it is the start that is cut off.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_while_it_deletes_has_all_of_an_account_or_nothing_on_postgres() {
    let scene = Scene::new(Backend::PostgresAndS3).await;
    // An odd step: a message's both sides have their turn.
    let step = if is_long() { 1 } else { 5 };
    deletion_killed(&scene, (0..).step_by(step).map(Moment::Message)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_while_it_deletes_has_all_of_an_account_or_nothing_on_sqlite() {
    let scene = Scene::new(Backend::SqliteAndFiles).await;
    let step = if is_long() { 1 } else { 15 };
    deletion_killed(&scene, (0..).step_by(step).map(|ms| Moment::After(Duration::from_millis(ms)))).await;
}

/// Kills later and later, until a start gets far enough to delete the account before it is killed.
async fn deletion_killed(scene: &Scene, moments: impl Iterator<Item = Moment>) {
    let name = scene.next_name();
    let device = scene.device();
    let (_, account) = device.makes_an_account(&name, OLD).await;
    account.delete_account(OLD).await.unwrap();
    scene.stop().await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let mut rounds = 0;
    for moment in moments {
        rounds += 1;
        scene.start_and_kill(moment).await;
        let tables = scene.premises.tables().await;
        let left: Vec<(&str, usize)> = ["accounts", "credentials", "keybag", "devices"]
            .map(|table| (table, tables[table].len()))
            .into_iter()
            .collect();
        let all = left.iter().all(|(_, rows)| *rows == 1);
        let none = left.iter().all(|(_, rows)| *rows == 0) && tables["account_log"].is_empty();
        assert!(all || none, "{moment:?}: {left:?}");
        if none {
            break;
        }
    }
    assert!(rounds > 2, "killed {rounds} times only");
}

/// A server that can be killed, its database and its network.
struct Scene {
    premises: Premises,
    network: Network,
    /// Between the server and PostgreSQL.
    tap: Option<Tap>,
    server: Arc<Mutex<Option<ServerProcess>>>,
    names: AtomicU64,
}

/// When to kill.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// So long after the request came.
    After(Duration),
    /// When the server has said so much to its database since the request came: even numbers before the database hears
    /// it, odd ones after.
    Message(u64),
}

/// What the server remembers afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum World {
    Old,
    New,
}

fn is_long() -> bool {
    std::env::var_os("SELKIE_LONG").is_some()
}

/// Spread over the time that what is being done takes.
fn moments() -> impl Iterator<Item = Moment> {
    let (count, step) = if is_long() { (200, 100) } else { (8, 2000) };
    (0..count).map(move |n| Moment::After(Duration::from_micros(n * step)))
}

/// Through all that it says, and on until it is killed too late: a server that was just started says more than one
/// that has its connections.
fn every_message(count: u64) -> impl Iterator<Item = Moment> {
    assert!(count > 2, "the server said {count} things to its database");
    let step = if is_long() { 1 } else { (2 * count / 8).max(1) };
    // The step must not always hit the same side.
    let step = usize::try_from(step | 1).unwrap();
    (0..).step_by(step).map(Moment::Message)
}

impl Scene {
    async fn new(backend: Backend) -> Self {
        let premises = Premises::new(backend).await;
        let tap = match premises.database_address() {
            Some(address) => Some(Tap::before(address).await),
            None => None,
        };
        let network = Network::new().await;
        let scene = Scene { premises, network, tap, server: Arc::default(), names: AtomicU64::new(0) };
        scene.revive().await;
        scene
    }

    fn device(&self) -> Device {
        Device::new(&self.network.url(), "device")
    }

    fn next_name(&self) -> String {
        format!("{}-{ANA}", self.names.fetch_add(1, Ordering::SeqCst))
    }

    async fn start(&self) -> ServerProcess {
        let url = self.tap.as_ref().map(|tap| self.premises.database_url_through(tap.address()));
        let variables: Vec<(&str, &str)> = url.iter().map(|url| ("SELKIE_DATABASE_URL", url.as_str())).collect();
        ServerProcess::start(&self.premises, &self.network, SETTINGS, &variables).await
    }

    /// Starts the server again, whatever became of it.
    async fn revive(&self) {
        self.network.behave_well();
        let mut server = self.server.lock().await;
        drop(server.take());
        if let Some(tap) = &self.tap {
            tap.let_everything_through();
        }
        *server = Some(self.start().await);
    }

    async fn stop(&self) {
        if let Some(mut server) = self.server.lock().await.take() {
            server.stop();
        }
    }

    /// Kills the server while it does this.
    async fn kill_during(&self, route: &'static str, moment: Moment) {
        let (server, tap) = (self.server.clone(), self.tap.clone());
        self.network.behave(move |request, honest| {
            let (server, tap) = (server.clone(), tap.clone());
            async move {
                if !request.is(route) {
                    return honest.answer(&request).await;
                }
                tokio::select! {
                    outcome = honest.answer(&request) => outcome,
                    () = reached(moment, tap) => {
                        if let Some(server) = server.lock().await.as_mut() {
                            server.kill();
                        }
                        Outcome::Silence
                    }
                }
            }
        });
    }

    /// Starts a server that is killed at this moment, counted from its start or, for messages, from when it is ready.
    async fn start_and_kill(&self, moment: Moment) {
        if let Moment::After(time) = moment {
            return ServerProcess::start_and_kill(&self.premises, &self.network, SETTINGS, time).await;
        }
        if let Some(tap) = &self.tap {
            tap.let_everything_through();
        }
        let mut server = self.start().await;
        let limit = tokio::time::sleep(Duration::from_millis(500));
        tokio::select! {
            () = reached(moment, self.tap.clone()) => {}
            // A server with nothing more to say has done all there was to do.
            () = limit => {}
        }
        server.kill();
    }

    /// How much the server says to its database while it does this.
    async fn messages_during<F: Future<Output = ()>>(&self, route: &'static str, story: impl FnOnce() -> F) -> u64 {
        let tap = self.tap.clone().expect("the server talks to a database");
        let counted = Arc::new(AtomicU64::new(0));
        let count = counted.clone();
        self.network.behave(move |request, honest| {
            let (tap, count) = (tap.clone(), count.clone());
            async move {
                let before = tap.heard();
                let outcome = honest.answer(&request).await;
                if request.is(route) {
                    count.store(tap.heard() - before, Ordering::SeqCst);
                }
                outcome
            }
        });
        story().await;
        self.network.behave_well();
        counted.load(Ordering::SeqCst)
    }
}

async fn reached(moment: Moment, tap: Option<Tap>) {
    match (moment, tap) {
        (Moment::After(time), _) => tokio::time::sleep(time).await,
        (Moment::Message(half), Some(tap)) => tap.cut_at(half / 2, half % 2 == 1).await,
        (Moment::Message(_), None) => unreachable!("only a server with a database on a line says messages"),
    }
}

fn rows_with<'a>(tables: &'a Tables, table: &str, text: &str) -> Vec<&'a String> {
    tables[table].iter().filter(|row| row.contains(text)).collect()
}
