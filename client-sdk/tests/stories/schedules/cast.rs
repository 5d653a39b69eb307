//! Who plays: three people and four devices, signed up once, and put before a new server for every schedule.
//!
//! Owns the devices: what a restart keeps and what it loses, and running a call until it ends or is cut off.

use super::liar::{Liar, Told};
use super::weather::{Brittle, Dice, Sky, Weather, Wire};
use crate::fake::{Fake, URL};
use crate::vaults::PASSWORD;
use async_trait::async_trait;
use selkie_client::store::vaults::{MemoryVaults, VaultStore, VaultStores};
use selkie_client::store::{AccountStore, Folder, Memory, StoreError};
use selkie_client::transport::Transport;
use selkie_client::{Account, Client, Clock, Error, Runtime, SignIn, SignUp, UserId, Vault};
use selkie_protocol::id::VaultId;
use selkie_protocol::log::Head;
use std::pin::pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

pub(super) struct Cast {
    server: Arc<Fake>,
    devices: Vec<(String, Arc<Memory>)>,
}

impl Cast {
    pub(super) fn make() -> Cast {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let server = Fake::start();
            let store = || Arc::new(Memory::default());
            let client = |store: &Arc<Memory>| server.builder().account_store(store.clone()).build().unwrap();
            let (laptop, phone, bob, cara) = (store(), store(), store(), store());
            let ana = client(&laptop).sign_up("ana", PASSWORD, SignUp::default()).await.unwrap();
            let key = ana.sheet.secret_key();
            client(&phone).sign_in("ana", PASSWORD, key, SignIn::default()).await.unwrap();
            ana.account.devices().await.unwrap();
            client(&bob).sign_up("bob", PASSWORD, SignUp::default()).await.unwrap();
            client(&cara).sign_up("cara", PASSWORD, SignUp::default()).await.unwrap();
            server.with(|world| drop(world.people()));
            let devices = [("ana", laptop), ("ana", phone), ("bob", bob), ("cara", cara)];
            Cast { server, devices: devices.map(|(name, store)| (name.to_owned(), store)).into() }
        })
    }

    pub(super) fn on_a_new_server(&self, seed: u64) -> (Arc<Fake>, Vec<Device>) {
        let server = self.server.with_the_same_people();
        let device = |(number, (name, accounts)): (usize, &(String, Arc<Memory>))| {
            let sky = Arc::new(Mutex::new(Sky::new(seed.wrapping_mul(31).wrapping_add(number as u64))));
            Device {
                name: name.clone(),
                accounts: copy(accounts),
                disk: Arc::default(),
                wire: Wire { server: server.clone(), sky: sky.clone() },
                clock: Arc::new(Watch { server: server.clone(), off_by: AtomicI64::new(0) }),
                liar: None,
                account: None,
            }
        };
        let devices = self.devices.iter().enumerate().map(device).collect();
        (server, devices)
    }
}

fn copy(accounts: &Arc<Memory>) -> Arc<Memory> {
    let copy = Memory::default();
    for folder in accounts.folders().unwrap() {
        for name in ["state", "key"] {
            if let Some(bytes) = accounts.load(&folder, name).unwrap() {
                copy.save(&folder, name, &bytes).unwrap();
            }
        }
    }
    Arc::new(copy)
}

pub(super) struct Device {
    name: String,
    accounts: Arc<Memory>,
    disk: Arc<MemoryVaults>,
    wire: Wire,
    clock: Arc<Watch>,
    /// Between it and the server, and which device it is to them.
    liar: Option<(usize, Arc<Liar>)>,
    account: Option<Account>,
}

impl Device {
    /// From its next start on everything the server says to it passes through there.
    pub(super) fn listen_to(&mut self, liar: Arc<Liar>, number: usize) {
        self.liar = Some((number, liar));
        self.account = None;
    }

    /// How far it keeps a vault, whether it runs or not.
    pub(super) fn head(&self, vault: &VaultId) -> Option<Head> {
        let (n, h) = *self.disk.load(vault).unwrap()?.trail.last()?;
        Some(Head { n, h })
    }

    /// Begins the program.
    pub(super) fn open(&mut self) {
        if self.account.is_some() {
            return;
        }
        let sky = self.wire.sky.clone();
        let wire = self.wire.clone();
        let transport: Arc<dyn Transport> = match &self.liar {
            Some((device, liar)) => Arc::new(Told { device: *device, liar: liar.clone(), wire }),
            None => Arc::new(wire),
        };
        let client = Client::builder(URL)
            .transport(transport)
            .account_store(self.accounts.clone())
            .vault_stores(Arc::new(OneDisk(Arc::new(Brittle { disk: self.disk.clone(), sky }))))
            .clock(self.clock.clone())
            .runtime(Arc::new(AtOnce))
            .build()
            .unwrap();
        self.account = at_once(client.account(&self.name)).unwrap().unwrap();
    }

    /// Ends it, wherever it is.
    pub(super) fn restart(&mut self) {
        self.account = None;
        let mut sky = self.wire.sky.lock().unwrap();
        sky.weather.killed_at_the_store = None;
        sky.weather.killed_on_the_wire = None;
    }

    fn account(&mut self) -> Account {
        self.open();
        self.account.clone().unwrap()
    }

    pub(super) fn user(&mut self) -> UserId {
        self.account().user_id()
    }

    pub(super) fn make_vault(&mut self) {
        at_once(self.account().create_vault("Household", "org.example.journal")).unwrap().unwrap();
    }

    pub(super) fn sync(&mut self) -> Option<Result<(), Error>> {
        let outcome = self.sync_all()?;
        Some(outcome.and_then(|errors| errors.into_iter().next().map_or(Ok(()), Err)))
    }

    /// What was wrong with each vault.
    pub(super) fn sync_all(&mut self) -> Option<Result<Vec<Error>, Error>> {
        let account = self.account();
        at_once(async move {
            let vaults = account.sync().await?.vaults;
            Ok(vaults.into_iter().filter_map(|(_, outcome)| outcome.err()).collect())
        })
    }

    pub(super) fn sync_well(&mut self) {
        self.sync().unwrap().unwrap();
    }

    /// What a look at everything that it keeps finds.
    pub(super) fn check(&mut self) -> selkie_client::StorageCheck {
        let account = self.account();
        at_once(async move { account.check_storage().await }).unwrap().unwrap()
    }

    /// Does something with the vault; `None` if the program was killed over it.
    pub(super) fn with_vault<T>(
        &mut self,
        work: impl AsyncFnOnce(&Vault) -> Result<T, Error>,
    ) -> Option<Result<T, Error>> {
        self.with("Household", work)
    }

    /// The same, by the name of the vault or its id.
    pub(super) fn with<T>(
        &mut self,
        vault: &str,
        work: impl AsyncFnOnce(&Vault) -> Result<T, Error>,
    ) -> Option<Result<T, Error>> {
        let account = self.account();
        at_once(async move {
            let vault = account.vault(vault).await?;
            let vault = vault.ok_or_else(|| Error::NotPossible("it has not been met yet".into()))?;
            work(&vault).await
        })
    }

    pub(super) fn worsen(&mut self, dice: &mut Dice) {
        let mut weather = Weather { bad: 2 + dice.below(4), ..Weather::default() };
        match dice.below(4) {
            0 => weather.killed_on_the_wire = Some(dice.below(6)),
            1 => weather.killed_at_the_store = Some(dice.below(12)),
            2 => weather.bad = 0,
            _ => {}
        }
        self.wire.sky.lock().unwrap().weather = weather;
    }

    /// Kills the program after so many more requests, or calls of the store.
    pub(super) fn kill_after(&mut self, on_the_wire: Option<u64>, at_the_store: Option<u64>) {
        let weather = &mut self.wire.sky.lock().unwrap().weather;
        (weather.killed_on_the_wire, weather.killed_at_the_store) = (on_the_wire, at_the_store);
    }

    /// Whether it came to that.
    pub(super) fn was_killed(&self) -> bool {
        let weather = self.wire.sky.lock().unwrap().weather;
        weather.killed_on_the_wire.is_none() && weather.killed_at_the_store.is_none()
    }

    pub(super) fn deliver_late(&mut self, _: &mut Dice) {
        let _world = self.liar.as_ref().map(|(device, liar)| liar.show(*device));
        at_once(self.wire.deliver_late());
    }

    /// The weather is fine; what is still on its way arrives or is lost.
    pub(super) fn calm(&mut self, dice: &mut Dice) {
        self.wire.sky.lock().unwrap().weather = Weather::default();
        if dice.one_in(2) {
            self.deliver_late(dice);
        }
    }

    pub(super) fn jump(&mut self, ms: i64) {
        self.clock.off_by.store(ms, Ordering::SeqCst);
    }
}

/// Runs what never has to wait. `None` if it waits for ever: then the program was killed there.
fn at_once<T>(work: impl Future<Output = T>) -> Option<T> {
    match pin!(work).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => Some(done),
        Poll::Pending => None,
    }
}

#[derive(Debug)]
struct OneDisk(Arc<Brittle>);

impl VaultStores for OneDisk {
    fn open(&self, _: &Folder) -> Result<Arc<dyn VaultStore>, StoreError> {
        Ok(self.0.clone())
    }

    fn remove(&self, _: &Folder) -> Result<(), StoreError> {
        Ok(())
    }
}

struct Watch {
    server: Arc<Fake>,
    off_by: AtomicI64,
}

impl Clock for Watch {
    fn now_ms(&self) -> u64 {
        self.server.now_ms().saturating_add_signed(self.off_by.load(Ordering::SeqCst))
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watch")
    }
}

/// Nothing is apart, and nothing is waited for.
#[derive(Debug)]
struct AtOnce;

#[async_trait]
impl Runtime for AtOnce {
    fn run_apart(&self, job: Box<dyn FnOnce() + Send>) {
        job();
    }

    fn spawn(&self, _task: selkie_client::Task) {
        unreachable!("nothing runs in the background of a schedule");
    }

    async fn sleep(&self, duration: Duration) {
        // How long a renewal of the session may take is not a pause.
        if duration == Duration::from_secs(15) {
            std::future::pending().await
        }
    }
}
