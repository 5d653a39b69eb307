//! For the tests of an app: a server without sockets, devices that forget, and a network between them that you cut.
//!
//! Behind the feature `testing`, for `[dev-dependencies]` alone:
//!
//! ```toml
//! [dev-dependencies]
//! selkie-client = { version = "0.1", features = ["testing"] }
//! ```
//!
//! The server is honest and runs the same rules of the log that real servers run; what it refuses, they refuse. It has
//! no limits, no disk and no tenants, and it is not fit for anything but tests.
//!
//! # A conflict of an app's own type
//!
//! Two devices of one person, apart for a while, change the same task. The app has said how its fields are merged, and
//! tests what becomes of it:
//!
//! ```
//! use selkie_client::testing::TestServer;
//! use selkie_client::{ClientBuilder, CollectionShape, Merge, Outcome};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
//! struct Task {
//!     title: String,
//!     done: bool,
//!     minutes: i64,
//!     labels: Vec<String>,
//! }
//!
//! // The app's own, and called by it as well.
//! fn tasks_app(client: ClientBuilder) -> ClientBuilder {
//!     let tasks = CollectionShape::new("tasks").field("minutes", Merge::Counter).field("labels", Merge::Set);
//!     client.collection(tasks)
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> selkie_client::Result<()> {
//! let server = TestServer::for_app(tasks_app);
//! let ana = server.person("ana");
//! let (laptop, phone) = (ana.device("laptop").await?, ana.device("phone").await?);
//!
//! let tasks = laptop.account().create_vault("Tasks", "org.example.tasks").await?.collection::<Task>("tasks");
//! let id = tasks.put(&Task { title: "Paint the fence".into(), ..Task::default() }).await?;
//! server.sync_all().await?;
//! let on_phone = phone.vault("Tasks").await?.collection::<Task>("tasks");
//!
//! // In the garden there is no network.
//! phone.cut();
//! on_phone.update(id, |task| (task.minutes, task.done) = (task.minutes + 40, true)).await?;
//! assert!(phone.sync().await.unwrap_err().is_retryable());
//! tasks.update(id, |task| (task.minutes, task.labels) = (task.minutes + 15, vec!["garden".into()])).await?;
//! laptop.sync().await?;
//!
//! // At home there is.
//! phone.mend();
//! server.sync_all().await?;
//! let labels = vec!["garden".to_owned()];
//! let both = Task { title: "Paint the fence".into(), done: true, minutes: 55, labels };
//! assert_eq!(tasks.get(id).await?, Some(both.clone()));
//! assert_eq!(on_phone.get(id).await?, Some(both));
//!
//! // Nothing was lost, so nobody need look at it; it is listed all the same.
//! let conflict = phone.vault("Tasks").await?.conflicts().await?.remove(0);
//! assert_eq!(conflict.how, Some(Outcome::Merged));
//! # Ok(()) }
//! ```

mod device;
mod person;
mod server;
mod wire;

pub use device::Device;
pub use person::Person;

use crate::transport::{Method, Request};
use crate::{Client, ClientBuilder, Clock, Result, Runtime, TokioRuntime};
use async_trait::async_trait;
use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use wire::Exchange;

const URL: &str = "https://home.example/";
const NAME: &str = "home.example";
/// Some time in 2027.
const BEGINNING_MS: u64 = 1_800_000_000_000;

/// What an app says of its client.
type App = dyn Fn(ClientBuilder) -> ClientBuilder + Send + Sync;

/// A server in memory, and whoever meets there. Cheap to clone; all clones are one. See [the module](self) for a test
/// that uses it.
#[derive(Clone)]
pub struct TestServer(Arc<Parts>);

struct Parts {
    exchange: Arc<Exchange>,
    app: Box<App>,
    people: Mutex<Vec<Person>>,
}

impl TestServer {
    /// A server for an app that declares nothing of its collections.
    pub fn start() -> TestServer {
        TestServer::for_app(|client| client)
    }

    /// A server whose devices are made as the app makes its client: give the function that declares its collections.
    /// It should leave transport, clock and stores alone: they are the device's.
    pub fn for_app(app: impl Fn(ClientBuilder) -> ClientBuilder + Send + Sync + 'static) -> TestServer {
        let exchange = Arc::new(Exchange::new(NAME, TestClock(AtomicU64::new(BEGINNING_MS))));
        TestServer(Arc::new(Parts { exchange, app: Box::new(app), people: Mutex::default() }))
    }

    /// Somebody with an account here: the first time of this name a new person, later the same one. Nothing is done
    /// before they have a device.
    pub fn person(&self, name: &str) -> Person {
        let mut people = self.0.people.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = people.iter().find(|person| person.name() == name) {
            return known.clone();
        }
        let person = Person::new(self.clone(), name);
        people.push(person.clone());
        person
    }

    /// A client on a device where nobody is signed in, for a test of the app's own sign-up or sign-in.
    pub fn client(&self) -> Result<Client> {
        Device::blank(self).map(|blank| blank.client().clone())
    }

    /// Lets every device of everybody sync, until all that are connected have seen what the others wrote. Devices that
    /// were cut off stay as they are. Fails with the first device that cannot.
    pub async fn sync_all(&self) -> Result<()> {
        let people = self.0.people.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // Once to say everything, once to hear it; and a conflict that is settled in the second is heard in the third.
        for _ in 0..3 {
            for device in people.iter().flat_map(Person::devices).filter(|device| !device.is_cut()) {
                device.sync().await?;
            }
        }
        Ok(())
    }

    /// Moves the clock on, for the server and all devices. It stands still otherwise.
    pub fn later(&self, duration: Duration) {
        let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        self.0.exchange.clock.0.fetch_add(ms, Ordering::SeqCst);
    }

    /// What time it is here, in milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        self.0.exchange.clock.now_ms()
    }

    fn exchange(&self) -> &Arc<Exchange> {
        &self.0.exchange
    }

    /// A client as the app makes it.
    fn made_for_app(&self, client: ClientBuilder) -> ClientBuilder {
        (self.0.app)(client.runtime(Arc::new(Impatient)))
    }
}

impl Debug for TestServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TestServer({NAME})")
    }
}

#[derive(Debug)]
struct TestClock(AtomicU64);

impl Clock for TestClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// Tokio, for whom every pause is a short one.
#[derive(Debug)]
struct Impatient;

#[async_trait]
impl Runtime for Impatient {
    fn run_apart(&self, job: Box<dyn FnOnce() + Send>) {
        TokioRuntime.run_apart(job);
    }

    fn spawn(&self, task: crate::Task) {
        TokioRuntime.spawn(task);
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration.min(Duration::from_millis(1))).await;
    }

    async fn patience(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}
