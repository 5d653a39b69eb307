//! A device of somebody's, with the app on it.
//!
//! Owns what a test does to a device: cutting it off, closing the app and opening it again, setting its clock wrong.

use super::wire::{Weather, Wire};
use super::{TestServer, URL};
use crate::store::vaults::{VaultStores, beside_accounts};
use crate::store::{AccountStore, Memory};
use crate::{Account, Client, Clock, Error, Result, Vault};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A device of a [`Person`](super::Person), with the app on it and an account signed in. Cheap to clone; all clones are
/// one.
#[derive(Clone)]
pub struct Device(Arc<Parts>);

struct Parts {
    name: String,
    machine: Machine,
    app: Mutex<Open>,
}

/// The app while it runs.
#[derive(Clone)]
struct Open {
    client: Client,
    account: Account,
}

/// What stays when the app is closed.
struct Machine {
    server: TestServer,
    accounts: Arc<dyn AccountStore>,
    vaults: Arc<dyn VaultStores>,
    wire: Arc<Wire>,
    watch: Arc<Watch>,
}

/// A device on which nobody is signed in yet.
pub(super) struct Blank {
    machine: Machine,
    client: Client,
}

impl Device {
    pub(super) fn blank(server: &TestServer) -> Result<Blank> {
        let accounts: Arc<dyn AccountStore> = Arc::new(Memory::default());
        let vaults = beside_accounts(accounts.clone());
        let wire = Arc::new(Wire::new(server.exchange().clone()));
        let watch = Arc::new(Watch { server: server.exchange().clone(), off_by: AtomicI64::new(0) });
        let machine = Machine { server: server.clone(), accounts, vaults, wire, watch };
        let client = machine.open()?;
        Ok(Blank { machine, client })
    }

    /// What the device is called.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The account on it. Ask again after a [`Device::restart`].
    pub fn account(&self) -> Account {
        self.open().account
    }

    /// The app's client on it. Ask again after a [`Device::restart`].
    pub fn client(&self) -> Client {
        self.open().client
    }

    /// A vault on it, by its name or id; an error if the device has none, because nobody has made one or it has not
    /// been synced since.
    pub async fn vault(&self, name_or_id: &str) -> Result<Vault> {
        let found = self.account().vault(name_or_id).await?;
        found.ok_or_else(|| Error::NotPossible(format!("{} has no vault {name_or_id:?}", self.0.name)))
    }

    /// Brings all vaults into step with the server. Fails with the first that could not be.
    pub async fn sync(&self) -> Result<()> {
        let vaults = self.account().sync().await?.vaults;
        vaults.into_iter().try_for_each(|(_, done)| done.map(drop))
    }

    /// Cuts it off: nothing arrives any more, and the app is told that the server cannot be reached. For what an app
    /// does in a tunnel.
    pub fn cut(&self) {
        self.0.machine.wire.set(Weather::Cut);
    }

    /// Everything it asks from now on waits on the way, until [`Device::mend`] or [`Device::cut`]. For what an app
    /// shows while it waits.
    pub fn hold(&self) {
        self.0.machine.wire.set(Weather::Held);
    }

    /// The network is fine again; what was held up goes on its way.
    pub fn mend(&self) {
        self.0.machine.wire.set(Weather::Fine);
    }

    /// Whether it is cut off.
    pub fn is_cut(&self) -> bool {
        self.0.machine.wire.weather() == Weather::Cut
    }

    /// The next so many requests arrive and are done, and the answers get lost. For what an app must not do twice.
    pub fn lose_answers(&self, requests: usize) {
        self.0.machine.wire.lose_answers(requests);
    }

    /// Sets its clock wrong, by so many milliseconds ahead or, if negative, behind.
    pub fn clock_off_by(&self, ms: i64) {
        self.0.machine.watch.off_by.store(ms, Ordering::SeqCst);
    }

    /// Closes the app and opens it again: only what was kept is still there. Handles from before are of no use any
    /// more.
    pub async fn restart(&self) -> Result<()> {
        let before = self.account();
        let client = self.0.machine.open()?;
        let account = client.account(before.login_name()).await?;
        let account = account.ok_or_else(|| Error::NotPossible("nobody is signed in on this device".into()))?;
        *self.0.app.lock().unwrap_or_else(PoisonError::into_inner) = Open { client, account };
        Ok(())
    }

    fn open(&self) -> Open {
        self.0.app.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Blank {
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn signed_in(self, name: &str, account: Account) -> Device {
        let app = Mutex::new(Open { client: self.client, account });
        Device(Arc::new(Parts { name: name.to_owned(), machine: self.machine, app }))
    }
}

impl Machine {
    fn open(&self) -> Result<Client> {
        let client = Client::builder(URL)
            .transport(self.wire.clone())
            .clock(self.watch.clone())
            .account_store(self.accounts.clone())
            .vault_stores(self.vaults.clone());
        self.server.made_for_app(client).build()
    }
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Device({})", self.0.name)
    }
}

/// The server's clock, as this device reads it.
struct Watch {
    server: Arc<super::wire::Exchange>,
    off_by: AtomicI64,
}

impl Clock for Watch {
    fn now_ms(&self) -> u64 {
        self.server.clock.now_ms().saturating_add_signed(self.off_by.load(Ordering::SeqCst))
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watch")
    }
}
