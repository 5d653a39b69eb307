//! What tests of the doors share: a house with a clock that obeys, and people who come to it with real keys.
//!
//! A person here does by hand what the SDK does for an app, so that a test can do any of it wrongly.

pub(crate) mod counting;
pub(crate) mod writer;

use crate::app::App;
use crate::config::{Config, Secret};
use crate::edges::{Clock, Edges};
use selkie_protocol::account_log::{AccountLog, Entry, Payload};
use selkie_protocol::cipher::{
    AccountRootSecret, DeviceKey, IdentityKey, Keybag, PasswordKek, RecoveryKek, RecoveryKey,
};
use selkie_protocol::hash::Label;
use selkie_protocol::id::UserId;
use selkie_protocol::name::{LoginName, password_input};
use selkie_protocol::opaque::{ExportKey, LoginStarted as Guess, RegistrationStarted};
use selkie_protocol::session::{
    LoginDevice, LoginFinish, LoginStart, LoginStarted, NewAccount, RegisterFinish, RegisterStart, RegisterStarted,
    SignatureBytes, Tokens,
};
use selkie_protocol::{Bytes, Private};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// The name of every test server.
pub(crate) const SERVER: &str = "sync.example.org";
/// Where people come from.
pub(crate) const SOMEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
pub(crate) const PASSWORD: &str = "correct horse battery staple";

/// A clock that stands still unless it is told to go on.
#[derive(Debug)]
pub(crate) struct Stopped(AtomicI64);

impl Clock for Stopped {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

impl Stopped {
    pub(crate) fn pass(&self, ms: i64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }
}

/// A server on SQLite in a folder of its own.
pub(crate) struct House {
    pub(crate) app: Arc<App>,
    pub(crate) clock: Arc<Stopped>,
    /// Held for their drop.
    _ground: (Arc<tempfile::TempDir>, Option<Arc<selkie_test_postgres::Database>>),
}

impl House {
    pub(crate) async fn open() -> Self {
        Self::open_with(|_| {}).await
    }

    pub(crate) async fn open_with(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = Self::config(&folder.path().join("data"), change);
        Self::open_on((Arc::new(folder), None), config).await
    }

    /// A server on a PostgreSQL database of its own.
    pub(crate) async fn on_postgres(change: impl FnOnce(&mut Config)) -> Self {
        let database = tokio::task::spawn_blocking(|| selkie_test_postgres::Cluster::shared().database(None));
        let database = database.await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut config = Self::config(&folder.path().join("data"), change);
        config.database.url = Some(Secret::new(database.url()));
        Self::open_on((Arc::new(folder), Some(Arc::new(database))), config).await
    }

    /// To look at the database past the server.
    pub(crate) fn database_url(&self) -> String {
        self._ground.1.as_ref().expect("a PostgreSQL").url()
    }

    /// Another server on the same database.
    pub(crate) async fn beside(&self) -> Self {
        Self::open_on(self._ground.clone(), self.app.config.clone()).await
    }

    /// A server that was restored from a backup of this moment.
    pub(crate) async fn restored(&self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        crate::backup::create(&self.app, &folder.path().join("backup"), false).await.unwrap();
        let mut config = self.app.config.clone();
        config.data.dir = folder.path().join("data");
        crate::backup::restore(&config, &self.app.edges, &folder.path().join("backup")).await.unwrap();
        Self::open_on((Arc::new(folder), None), config).await
    }

    fn config(data: &std::path::Path, change: impl FnOnce(&mut Config)) -> Config {
        let mut config = Config::default();
        config.data.dir = data.to_owned();
        config.master_key.key = Some(Secret::new("07".repeat(32)));
        config.server.server_name = Some(SERVER.into());
        config.server.listen = (Ipv4Addr::LOCALHOST, 0).into();
        change(&mut config);
        config
    }

    async fn open_on(
        ground: (Arc<tempfile::TempDir>, Option<Arc<selkie_test_postgres::Database>>),
        config: Config,
    ) -> Self {
        let clock = Arc::new(Stopped(AtomicI64::new(1_800_000_000_000)));
        let edges = Edges { clock: clock.clone(), dice: Edges::real().dice };
        let app = App::open(config, edges).await.unwrap();
        House { app: Arc::new(app), clock, _ground: ground }
    }

    pub(crate) fn auth(&self) -> &crate::auth::Auth {
        &self.app.auth
    }

    /// From now on every call to the store is noted.
    pub(crate) async fn count_store_calls(&mut self) -> Arc<counting::Counting> {
        let counting = Arc::new(counting::Counting::new(self.app.store.clone()));
        let app = Arc::get_mut(&mut self.app).expect("nobody else holds the app yet");
        app.replace_store(counting.clone()).await;
        counting
    }

    /// The same, with sessions kept in memory as an embedded server does.
    pub(crate) async fn count_store_calls_alone(&mut self) -> Arc<counting::Counting> {
        let counting = Arc::new(counting::Counting::new(self.app.store.clone()));
        let app = Arc::get_mut(&mut self.app).expect("nobody else holds the app yet");
        app.replace_store_alone(counting.clone()).await;
        counting
    }

    /// The same, with sessions kept in memory for as long as the database vouches for them.
    pub(crate) async fn count_store_calls_among_others(&mut self) -> Arc<counting::Counting> {
        let counting = Arc::new(counting::Counting::new(self.app.store.clone()));
        let app = Arc::get_mut(&mut self.app).expect("nobody else holds the app yet");
        app.replace_store_among_others(counting.clone()).await;
        counting
    }

    /// An invitation for the default tenant.
    pub(crate) async fn invitation(&self) -> Private {
        let home = self.app.tenancy.named("home").await.unwrap().tenant;
        self.auth().invite(home, crate::store::TenantRole::Member, 1, 3_600_000).await.unwrap()
    }

    /// Somebody who has an account and is signed in on the device that made it.
    pub(crate) async fn person(&self, name: &str) -> Person {
        let mut person = Person::new(name);
        person.register(self).await;
        person.sign_in(self).await;
        person
    }

    pub(crate) async fn caller(&self, person: &Person) -> crate::auth::Caller {
        self.auth().authenticate(person.tokens().access_token.as_str()).await.unwrap()
    }
}

/// Somebody with keys of their own.
pub(crate) struct Person {
    pub(crate) name: String,
    pub(crate) password: String,
    pub(crate) root: AccountRootSecret,
    pub(crate) device: DeviceKey,
    pub(crate) recovery_key: RecoveryKey,
    pub(crate) log: AccountLog,
    pub(crate) keybag: Option<Keybag>,
    pub(crate) tokens: Option<Tokens>,
    genesis: Entry,
}

impl Person {
    pub(crate) fn new(name: &str) -> Self {
        let root = AccountRootSecret::generate();
        let genesis = root.identity().sign_genesis(1);
        Person {
            name: name.into(),
            password: PASSWORD.into(),
            device: DeviceKey::generate(),
            recovery_key: RecoveryKey::generate(),
            log: AccountLog::begin(&genesis).unwrap(),
            keybag: None,
            tokens: None,
            genesis,
            root,
        }
    }

    pub(crate) fn user(&self) -> UserId {
        self.log.user()
    }

    pub(crate) fn identity(&self) -> IdentityKey {
        self.root.identity()
    }

    pub(crate) fn tokens(&self) -> &Tokens {
        self.tokens.as_ref().expect("signed in")
    }

    pub(crate) fn password_input(&self) -> Vec<u8> {
        let name = LoginName::new(&self.name).unwrap();
        password_input(SERVER, &name, &self.password, None).unwrap().to_vec()
    }

    /// Signs the next entry of the log, and takes it into our own.
    pub(crate) fn sign_next(&mut self, payload: Payload) -> Bytes {
        let entry = self.identity().sign_entry(self.log.next(1, payload));
        self.log.append(&entry).unwrap();
        Bytes::from(entry.as_bytes())
    }

    pub(crate) fn register_start(&self, invite: Option<Private>) -> (RegistrationStarted, RegisterStart) {
        let started = RegistrationStarted::new(&self.password_input()).unwrap();
        let request = exactly(&started.request);
        (started, RegisterStart { tenant: None, login_name: self.name.as_str().into(), invite, request })
    }

    pub(crate) fn register_finish(&mut self, started: RegistrationStarted, answer: RegisterStarted) -> RegisterFinish {
        let finished = started.finish(&self.password_input(), &*answer.response).unwrap();
        let account = Some(self.new_account(&finished.export_key));
        RegisterFinish { reg_token: answer.reg_token, record: exactly(&finished.record), account }
    }

    pub(crate) fn new_account(&mut self, export_key: &ExportKey) -> NewAccount {
        let user = self.user();
        let kem = self.root.master_key(&user, 1);
        let name = LoginName::new(&self.name).unwrap();
        let recovery_public = self.recovery_key.sign_in_key(&user, 1).public_key();
        let mut entries = vec![Bytes::from(self.genesis.as_bytes())];
        for payload in [
            self.device.device_add(&user),
            Payload::UserKem { generation: 1, public_key: kem.user_kem(&user).public_key() },
            Payload::PasswordGeneration(1),
            Payload::LoginName(selkie_protocol::account_log::login_name_hash(SERVER, name.as_str())),
            Payload::RecoveryKey { generation: 1, public_key: recovery_public },
        ] {
            entries.push(self.sign_next(payload));
        }
        let password = PasswordKek::derive(export_key, &user, 1);
        let recovery = RecoveryKek::derive(&self.recovery_key, &user, 1);
        let keybag = Keybag::seal(&self.root, &password, &recovery, &user);
        let bytes = keybag.to_bytes();
        self.keybag = Some(keybag);
        let device_label = kem.seal_label(&self.device.id(), "kitchen table");
        NewAccount { entries, keybag: bytes, device_label }
    }

    pub(crate) async fn register(&mut self, house: &House) {
        let (started, request) = self.register_start(Some(house.invitation().await));
        let answer = house.auth().register_start(SOMEWHERE, request).await.unwrap();
        let finish = self.register_finish(started, answer);
        assert_eq!(house.auth().register_finish(finish).await.unwrap().uid, Some(self.user()));
    }

    pub(crate) fn login_start(&self) -> (Guess, LoginStart) {
        let guess = Guess::new(&self.password_input()).unwrap();
        let ke1 = exactly(&guess.ke1);
        (guess, LoginStart { tenant: None, login_name: self.name.as_str().into(), ke1, device: None })
    }

    pub(crate) fn login_finish(&self, guess: Guess, answer: &LoginStarted) -> LoginFinish {
        let finished = guess.finish(&self.password_input(), &*answer.ke2).unwrap();
        let signature = self.sign(Label::DEVICE_LOGIN, &[answer.login_id.as_bytes()]);
        LoginFinish {
            login_id: answer.login_id,
            ke3: exactly(&finished.ke3),
            second_factor: None,
            device: Some(LoginDevice { did: self.device.id(), signature }),
            app: None,
            seal: 0,
        }
    }

    /// Signs in on this person's device.
    pub(crate) async fn sign_in(&mut self, house: &House) {
        let (guess, request) = self.login_start();
        let answer = house.auth().login_start(SOMEWHERE, request).await.unwrap();
        let finish = self.login_finish(guess, &answer);
        self.tokens = house.auth().login_finish(finish).await.unwrap().tokens;
    }

    pub(crate) fn sign(&self, label: Label, parts: &[&[u8]]) -> SignatureBytes {
        self.device.sign(label, parts).0.into()
    }
}

/// Bytes of a length the protocol fixes.
pub(crate) fn exactly<const N: usize>(bytes: &[u8]) -> selkie_protocol::bytes::Fixed<N> {
    <[u8; N]>::try_from(bytes).expect("of the right length").into()
}
