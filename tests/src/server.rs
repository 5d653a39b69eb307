//! The real server in this process, on real sockets, with its clock in the test's hand.
//!
//! Owns the starting and stopping, and what an operator would do at the command line. Knows nothing about clients.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use selkie_protocol::Face;
use selkie_protocol::account::TenantRole;
use selkie_protocol::cipher::SigningKey;
use selkie_protocol::id::Incarnation;
use selkie_protocol::session::Tokens;
use selkie_server::app::{App, Running};
use selkie_server::blobs::BlobKey;
use selkie_server::config::Config;
use selkie_server::edges::Edges;
use selkie_server::secrets::{MasterKey, Purpose};
use tempfile::TempDir;
use uuid::Uuid;

use crate::caller::Caller;
use crate::clock::ManualClock;
use crate::device::Device;
use crate::liar::Liar;
use crate::network::Network;
use crate::premises::{Backend, Premises};

const HOME: &str = "home";
const WEEK_MS: i64 = 7 * 24 * 3_600_000;

/// A server that people reach through a [`Network`].
pub struct TestServer {
    premises: Premises,
    surroundings: Surroundings,
    app: Arc<App>,
    running: Running,
}

/// What stays when a server is stopped and another is started in its place.
#[derive(Clone, Debug)]
struct Surroundings {
    network: Arc<Network>,
    clock: ManualClock,
    settings: String,
    /// The data folders of devices, which outlive the devices: an account in use must not lose its folder.
    folders: Arc<Mutex<Vec<Arc<TempDir>>>>,
}

impl TestServer {
    /// Open to everybody, and nobody is slowed down.
    pub async fn start(backend: Backend) -> Self {
        Self::with(backend, "[registration]\npolicy = \"open\"\n").await
    }

    /// With these settings, in TOML; limits are off where they name none.
    pub async fn with(backend: Backend, settings: &str) -> Self {
        let surroundings = Surroundings {
            network: Arc::new(Network::new().await),
            clock: ManualClock::at_present(),
            settings: settings.to_owned(),
            folders: Arc::default(),
        };
        Self::at(Premises::new(backend).await, surroundings).await
    }

    /// Where there may have been a server before.
    async fn at(premises: Premises, surroundings: Surroundings) -> Self {
        let Surroundings { network, clock, settings, .. } = &surroundings;
        let limits = if settings.contains("[limits]") { "" } else { &without_limits() };
        let more = format!("{settings}\n{limits}");
        let file = premises.write_config("127.0.0.1:0", &network.url(), &more);
        let config = Config::load(Some(&file)).unwrap_or_else(|problems| panic!("the test's settings: {problems}"));
        let edges = Edges { clock: Arc::new(clock.clone()), ..Edges::real() };
        let app = App::open(config, edges).await.unwrap_or_else(|error| panic!("a server for a test: {error:?}"));
        let app = Arc::new(app);
        let running = app.listen().unwrap_or_else(|error| panic!("a server for a test: {error:?}"));
        network.lead_to(running.address);
        TestServer { premises, surroundings, app, running }
    }

    /// Where the server listens, without the network in between.
    pub fn address(&self) -> SocketAddr {
        self.running.address
    }

    pub fn network(&self) -> &Network {
        &self.surroundings.network
    }

    pub fn clock(&self) -> &ManualClock {
        &self.surroundings.clock
    }

    pub fn premises(&self) -> &Premises {
        &self.premises
    }

    /// A device that has never been here.
    pub fn device(&self, name: &'static str) -> Device {
        self.shelve(Device::new(&self.surroundings.network.url(), name))
    }

    /// A device for accounts of this tenant.
    pub fn device_of(&self, tenant: &'static str, name: &'static str) -> Device {
        self.shelve(Device::new(&self.surroundings.network.url(), name).of_tenant(tenant))
    }

    fn shelve(&self, device: Device) -> Device {
        self.surroundings.folders.lock().unwrap_or_else(PoisonError::into_inner).push(device.share_folder());
        device
    }

    /// A client of another make.
    pub fn caller(&self, face: Face) -> Caller {
        Caller::new(&self.surroundings.network.url(), face)
    }

    /// Somebody without keys, just signed in.
    pub async fn signed_in(&self, name: &str, password: &str) -> (Caller, Tokens) {
        let caller = self.caller(Face::Json);
        caller.register(name, password, None).await.expect("a registration that is in order");
        let tokens = caller.sign_in(name, password).await.expect("a sign-in that is in order");
        (caller, tokens)
    }

    /// An invitation for one, good for a week.
    pub async fn invite(&self) -> String {
        let tenant = self.app.tenancy.named(HOME).await.expect("the default tenant is there").tenant;
        let code = self.app.auth.invite(tenant, TenantRole::Member, 1, WEEK_MS).await;
        code.expect("an operator may invite").as_str().to_owned()
    }

    pub async fn suspend(&self, login_name: &str, suspended: bool) {
        self.app.tenancy.set_account_suspended(HOME, login_name, suspended).await.expect("there is such an account");
    }

    pub async fn add_tenant(&self, slug: &str) {
        self.app.tenancy.create(slug, slug, "home").await.expect("the name is free");
    }

    pub async fn suspend_tenant(&self, suspended: bool) {
        self.app.tenancy.set_suspended(HOME, suspended).await.expect("the default tenant is there");
    }

    /// The chore that removes accounts whose hour has come.
    pub async fn remove_what_is_due(&self) -> u64 {
        self.app.auth.delete_due_accounts(&*self.app.blobs).await.expect("nothing is in its way")
    }

    /// The chore that lays out checkpoints, so that devices can begin with them.
    pub async fn prepare_checkpoints(&self) {
        while self.app.logs.prepare_checkpoints().await.expect("nothing is in its way") > 0 {}
    }

    /// The chore that forgets what has expired, however long it is kept for other reasons.
    pub async fn sweep(&self) {
        let now = self.surroundings.clock.now_ms();
        self.app.store.sweep(now, 0).await.expect("nothing is in its way");
    }

    /// Whoever runs this server, and has its keys.
    pub fn liar(&self) -> Liar {
        let master = MasterKey::load(&self.app.config, self.app.edges.dice.clone());
        let (master, _) = master.expect("a running server has its key");
        let key = SigningKey::from_seed(&master.derive(Purpose::HeadKey));
        Liar::new(self.surroundings.network.clone(), key)
    }

    /// Ends it and starts it again from what there was earlier, as after `backup restore`: its next life.
    pub async fn restored(self, earlier: Premises) -> Self {
        let surroundings = self.surroundings.clone();
        let restored = self.replaced(earlier).await;
        let incarnation = Incarnation(restored.app.edges.bytes());
        restored
            .app
            .store
            .begin_another_life(incarnation, restored.app.edges.now_ms())
            .await
            .expect("nothing is in its way");
        Self::at(restored.stop().await, surroundings).await
    }

    /// Ends it and starts it again from what there was earlier, as if nothing had happened since.
    pub async fn replaced(self, earlier: Premises) -> Self {
        self.gives_way_to(earlier).await.0
    }

    /// Ends it and starts another at the same address. What the first stood on is kept.
    pub async fn gives_way_to(self, another: Premises) -> (Self, Premises) {
        let surroundings = self.surroundings.clone();
        let premises = self.stop().await;
        (Self::at(another, surroundings).await, premises)
    }

    /// Everything as it is now, for later. The server goes on.
    pub async fn backup(self) -> (Self, Premises) {
        let surroundings = self.surroundings.clone();
        let premises = self.stop().await;
        let copy = premises.copy();
        (Self::at(premises, surroundings).await, copy)
    }

    /// The name of an account that no request ever shows.
    pub async fn uuid_of(&self, login_name: &str) -> Uuid {
        let accounts = self.app.tenancy.accounts(HOME).await.expect("the default tenant is there");
        accounts.iter().find(|account| account.login_name == login_name).expect("there is such an account").uuid
    }

    /// As a later part of the server will.
    pub async fn put_a_blob_for(&self, login_name: &str, word: &str) {
        let tenant = self.app.tenancy.named(HOME).await.expect("the default tenant is there").tenant;
        let uuid = self.uuid_of(login_name).await.simple().to_string();
        let key = BlobKey::new(tenant.0, &["accounts", &uuid, word]).expect("plain words");
        self.app.blobs.put(&key, b"sealed".to_vec()).await.expect("there is room");
    }

    /// Ends it in peace. What it kept stays.
    pub async fn stop(self) -> Premises {
        self.running.stop().await.expect("a server can stop");
        self.premises
    }

    /// Ends it and starts it again.
    pub async fn restart(self) -> Self {
        let surroundings = self.surroundings.clone();
        Self::at(self.stop().await, surroundings).await
    }

    /// Ends it and starts it twice, with the same past: a server that will show different people different things.
    /// The network leads to the first.
    pub async fn split(self) -> (Self, Self) {
        let surroundings = self.surroundings.clone();
        let premises = self.stop().await;
        let second = Self::at(premises.copy(), surroundings.clone()).await;
        (Self::at(premises, surroundings).await, second)
    }
}

impl std::fmt::Debug for TestServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TestServer").field("premises", &self.premises).finish_non_exhaustive()
    }
}

/// Every limit there is, switched off: the tests all come from one address.
pub fn without_limits() -> String {
    let rules = serde_json::to_value(selkie_server::limits::Rules::default()).expect("the rules are a table");
    let names = rules.as_object().expect("the rules are a table").keys();
    format!("[limits]\n{}", names.map(|name| format!("{name} = \"off\"\n")).collect::<String>())
}
