//! The client: one data folder, a server if there is one, any number of accounts.
//!
//! Owns the builder and the list of accounts that are open. What one does with an account is in `account`.

use crate::account::kept::{Keeper, Kept, Phase};
use crate::alone::Alone;
use crate::api::Api;
use crate::conflict::ByCollection;
use crate::context::Context;
use crate::edges::{Clock, Edges, Runtime, SystemClock, usual_runtime};
use crate::error::{Error, Result};
use crate::keys::at_rest::{AppKey, KeyFile, Keychain, SecretsAtRest};
use crate::records::view::HotRecords;
use crate::records::watch::Bell;
use crate::records::{CollectionShape, Collections};
use crate::server::ServerAddress;
use crate::store::vaults::{VaultStores, beside_accounts};
use crate::store::{AccountStore, Files, Folder, Memory};
use crate::sync::room::SyncSettings;
use crate::sync::settle::Settle;
#[cfg(feature = "http")]
use crate::transport::HttpBuilder;
use crate::transport::Transport;
use crate::{Account, Server};
use selkie_protocol::name::LoginName;
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, Weak};
use std::time::Duration;
use zeroize::Zeroizing;

/// A place for records and accounts on this device, and a server once one was named. Cheap to clone; all clones are
/// one.
#[derive(Clone)]
pub struct Client(pub(crate) Arc<Parts>);

pub(crate) struct Parts {
    pub(crate) context: Arc<Context>,
    /// One handle an account, so that two parts of an app do not renew one session twice.
    open: Mutex<HashMap<Folder, Weak<crate::account::Inner>>>,
    /// What this device keeps without an account.
    pub(crate) alone: Alone,
}

/// An account on this device, signed in or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownAccount {
    /// The name they sign in with.
    pub login_name: String,
    /// Where the server is.
    pub server_url: String,
    /// What the server calls itself.
    pub server_name: String,
    /// The tenant, if it is not the default one.
    pub tenant: Option<String>,
    /// Whether there is a session, as far as this device knows.
    pub signed_in: bool,
    /// A sign-up or sign-in was interrupted: repeat it.
    pub unfinished: bool,
}

impl KnownAccount {
    /// Whether somebody who types this means this account: case and the like do not matter.
    pub fn is_called(&self, typed: &str) -> bool {
        LoginName::new(typed).is_ok_and(|name| name.as_str() == self.login_name)
    }
}

/// The accounts in a data folder, on whatever server. Opens none of them.
pub fn known_accounts(data_folder: impl AsRef<Path>) -> Result<Vec<KnownAccount>> {
    let store: Arc<dyn AccountStore> = Arc::new(Files::new(data_folder));
    let keychain: Arc<dyn Keychain> = Arc::new(KeyFile(store.clone()));
    glance(&Keeper { store, keychain })
}

fn glance(keeper: &Keeper) -> Result<Vec<KnownAccount>> {
    let mut accounts = Vec::new();
    for folder in keeper.store.folders()? {
        let glance = match keeper.glance(&folder) {
            Ok(None) => continue,
            // What a device keeps by itself is nobody's account.
            Ok(Some(glance)) if glance.phase == Phase::Alone => continue,
            Ok(Some(glance)) => glance,
            // One damaged account hides no other.
            Err(error) => {
                tracing::warn!(%error, "an account in the data folder cannot be read");
                continue;
            }
        };
        accounts.push(KnownAccount {
            login_name: glance.login_name.as_str().to_owned(),
            server_url: glance.server_url,
            server_name: glance.server_name,
            tenant: glance.tenant,
            signed_in: glance.phase == Phase::SignedIn,
            unfinished: matches!(glance.phase, Phase::SigningUp | Phase::Joining),
        });
    }
    accounts.sort_by(|a, b| (&a.login_name, &a.server_url).cmp(&(&b.login_name, &b.server_url)));
    Ok(accounts)
}

impl Client {
    /// For an app that begins with a server: `https://example.org`, or plain http on this machine.
    pub fn builder(server_url: &str) -> ClientBuilder {
        ClientBuilder { server_url: Some(server_url.to_owned()), ..Client::alone() }
    }

    /// For an app that begins without a server. One can be named later: see [`Client::use_server`].
    pub fn alone() -> ClientBuilder {
        ClientBuilder {
            server_url: None,
            tenant: None,
            app: None,
            accepted_name: None,
            store: None,
            keychain: None,
            app_key: None,
            transport: None,
            #[cfg(feature = "http")]
            http: HttpBuilder::default(),
            clock: Arc::new(SystemClock),
            runtime: usual_runtime(),
            vault_stores: None,
            records_in_the_clear: false,
            sync: SyncSettings::default(),
            collections: Collections::default(),
            hot_records: HotRecords::default(),
        }
    }

    /// What the server says of itself.
    pub async fn server(&self) -> Result<Server> {
        let capabilities = self.context().capabilities().await?;
        Ok(Server {
            software: crate::untrusted::clean(&capabilities.software),
            server_name: crate::untrusted::clean(&capabilities.server_name),
            registration: capabilities.registration,
            second_factors: capabilities.second_factors.iter().map(|factor| crate::untrusted::clean(factor)).collect(),
        })
    }

    /// The accounts on this device, on this server or another.
    pub async fn accounts(&self) -> Result<Vec<KnownAccount>> {
        let keeper = self.context().keeper.clone();
        self.context().edges.apart(move || glance(&keeper)).await?
    }

    /// An account of this server that this device has. No request is made.
    pub async fn account(&self, login_name: &str) -> Result<Option<Account>> {
        let login_name = LoginName::new(login_name)?;
        match self.context().find(&login_name, self.context().accepted_name().as_deref()).await? {
            Some(kept) if matches!(kept.phase, Phase::SignedIn | Phase::SignedOut) => self.open_kept(kept).map(Some),
            _ => Ok(None),
        }
    }

    /// Whether this device has keys of an account of this server, or of a sign-up or sign-in that was interrupted. No
    /// request is made.
    pub async fn knows(&self, login_name: &str) -> Result<bool> {
        let login_name = LoginName::new(login_name)?;
        let accepted = self.context().accepted_name();
        Ok(self.context().find(&login_name, accepted.as_deref()).await?.is_some())
    }

    /// Removes an account of this server, and what interrupted sign-ups of that name have left, from this device
    /// without asking anybody. It need not be possible to open it. Returns whether there was anything.
    pub async fn forget(&self, login_name: &str) -> Result<bool> {
        let login_name = LoginName::new(login_name)?;
        self.context().forget_all(&login_name).await
    }

    /// How the secrets of this device are kept while the app is not running.
    pub fn secrets_at_rest(&self) -> SecretsAtRest {
        self.context().keeper.keychain.kind()
    }

    pub(crate) fn context(&self) -> &Context {
        &self.0.context
    }

    pub(crate) fn shared(&self) -> Arc<Context> {
        self.0.context.clone()
    }

    /// The handle of an account after a sign-in; older handles of the same account are replaced.
    pub(crate) fn remember(&self, kept: Kept) -> Result<Account> {
        let folder = kept.folder();
        let account = Account::new(self.shared(), kept)?;
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner).insert(folder, Arc::downgrade(&account.0));
        Ok(account)
    }

    pub(crate) fn open_kept(&self, kept: Kept) -> Result<Account> {
        let open =
            self.0.open.lock().unwrap_or_else(PoisonError::into_inner).get(&kept.folder()).and_then(Weak::upgrade);
        match open {
            Some(inner) => Ok(Account(inner)),
            None => self.remember(kept),
        }
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("server", &self.context().place_if_named().and_then(|place| place.url.host_str().map(str::to_owned)))
            .finish_non_exhaustive()
    }
}

/// Puts a [`Client`] together. Only a place for accounts must be chosen.
#[must_use]
pub struct ClientBuilder {
    server_url: Option<String>,
    tenant: Option<String>,
    app: Option<String>,
    accepted_name: Option<String>,
    store: Option<Arc<dyn AccountStore>>,
    keychain: Option<Arc<dyn Keychain>>,
    app_key: Option<Zeroizing<[u8; 32]>>,
    transport: Option<Arc<dyn Transport>>,
    #[cfg(feature = "http")]
    http: HttpBuilder,
    clock: Arc<dyn Clock>,
    runtime: Option<Arc<dyn Runtime>>,
    vault_stores: Option<Arc<dyn VaultStores>>,
    records_in_the_clear: bool,
    sync: SyncSettings,
    collections: Collections,
    hot_records: HotRecords,
}

impl ClientBuilder {
    /// Which tenant of the server; the default one if this is not called.
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = Some(tenant.into());
        self
    }

    /// The app's name, as in `org.example.journal`: sessions are opened for it, and [`Client::vault`] looks for its
    /// vaults.
    pub fn app(mut self, app: impl Into<String>) -> Self {
        self.app = Some(app.into());
        self
    }

    /// Keeps accounts in this folder, which is made when it is first needed.
    pub fn store(mut self, data_folder: impl AsRef<Path>) -> Self {
        self.store = Some(Arc::new(Files::new(data_folder)));
        self
    }

    /// Keeps accounts in memory: everything is forgotten with the client.
    pub fn in_memory(mut self) -> Self {
        self.store = Some(Arc::new(Memory::default()));
        self
    }

    /// Keeps accounts in a store of the app's own.
    pub fn account_store(mut self, store: Arc<dyn AccountStore>) -> Self {
        self.store = Some(store);
        self
    }

    /// Seals this device's secrets under a key that the app keeps.
    pub fn app_key(mut self, key: &[u8; 32]) -> Self {
        self.app_key = Some(Zeroizing::new(*key));
        self
    }

    /// Seals this device's secrets under keys in a keychain.
    pub fn keychain(mut self, keychain: Arc<dyn Keychain>) -> Self {
        self.keychain = Some(keychain);
        self
    }

    /// Lets the server have this name, though it is not the host of its address: after a move, or behind a proxy.
    pub fn accept_server_name(mut self, name: impl Into<String>) -> Self {
        self.accepted_name = Some(name.into());
        self
    }

    /// Settings of the HTTP transport: certificates of the server's own making, plain HTTP beyond this machine.
    #[cfg(feature = "http")]
    pub fn http(mut self, http: HttpBuilder) -> Self {
        self.http = http;
        self
    }

    /// Another transport than HTTP, whatever server is named.
    pub fn transport(mut self, transport: Arc<dyn Transport>) -> Self {
        self.transport = Some(transport);
        self
    }

    /// Another clock than the machine's. For tests, and for devices that know the time better than their system does.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Another async runtime than tokio. The HTTP transport needs tokio; bring a transport as well.
    pub fn runtime(mut self, runtime: Arc<dyn Runtime>) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// Keeps vaults in stores of the app's own. Else they lie in a file beside the account, or in memory if the account
    /// does.
    pub fn vault_stores(mut self, stores: Arc<dyn VaultStores>) -> Self {
        self.vault_stores = Some(stores);
        self
    }

    /// Keeps records on this device's disk as they are, for a platform that seals its disks and its apps from each
    /// other. The default is that they are sealed. Keys and secrets are sealed in any case, and so is everything that
    /// leaves the device. What was written before stays as it was until it is written anew, and what is deleted may be
    /// in free places of the file until others are written there: the other way, too.
    pub fn records_in_the_clear(mut self) -> Self {
        self.records_in_the_clear = true;
        self
    }

    /// Says what holds for a collection: its version, how its conflicts are decided, what is looked for in it. Any
    /// that is not declared is of version 1 and merged by field.
    pub fn collection(mut self, shape: CollectionShape) -> Self {
        self.collections.declare(shape);
        self
    }

    /// Decides conflicts between records of plain bytes otherwise than [`NewestFirst`](crate::NewestFirst).
    pub fn settle(mut self, settle: Arc<dyn Settle>) -> Self {
        self.sync.settle = settle;
        self
    }

    /// When this device writes a checkpoint: after so many changes, if they are at least that share of the live ones.
    /// The default is 5,000 and 25 %. A new device receives what is live and at most as many changes besides.
    pub fn checkpoint_after(mut self, changes: u64, percent_of_live: u64) -> Self {
        self.sync.checkpoint_changes = changes;
        self.sync.checkpoint_percent_of_live = percent_of_live;
        self
    }

    /// From how many entries on a new device begins with a checkpoint, if there is one, rather than with the whole log.
    /// The default is 20.
    pub fn begin_with_checkpoint_from(mut self, entries: u64) -> Self {
        self.sync.begin_with_checkpoint_from = entries;
        self
    }

    /// How many records of a vault stay opened in memory, and for how long after they were read: what is looked at
    /// again and again need not be opened again. The default is 100 of them and five minutes; with none, every look
    /// opens its record. A write and a sync make it forget what they touch.
    pub fn hot_records(mut self, most: usize, longest: Duration) -> Self {
        let longest_ms = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
        self.hot_records = HotRecords { most, longest_ms };
        self
    }

    /// Puts it together. No request is made and nothing is written; what was forgotten or contradicts itself is an
    /// error.
    pub fn build(self) -> Result<Client> {
        let misuse = |why: &str| Error::ApiMisuse(why.to_owned());
        let store = self.store.ok_or_else(|| misuse("choose where accounts are kept: store or in_memory"))?;
        let runtime = self.runtime.ok_or_else(|| misuse("bring an async runtime: this app was built without one"))?;
        let keychain: Arc<dyn Keychain> = match (self.keychain, self.app_key) {
            (Some(_), Some(_)) => return Err(misuse("choose either a keychain or a key of the app")),
            (Some(keychain), None) => keychain,
            (None, Some(key)) => Arc::new(AppKey(key)),
            (None, None) => Arc::new(KeyFile(store.clone())),
        };
        let vault_stores = match self.vault_stores {
            Some(stores) => stores,
            None => beside_accounts(store.clone()),
        };
        let settle = ByCollection { collections: self.collections.clone(), otherwise: self.sync.settle };
        let context = Context {
            vault_stores,
            records_in_the_clear: self.records_in_the_clear,
            sync: SyncSettings { settle: Arc::new(settle), ..self.sync },
            collections: self.collections,
            hot_records: self.hot_records,
            api: Api::default(),
            place: RwLock::default(),
            app: self.app,
            #[cfg(feature = "http")]
            http: self.http,
            transport: self.transport,
            client: OnceLock::new(),
            turned: Bell::default(),
            keeper: Keeper { store, keychain },
            edges: Edges { clock: self.clock, runtime },
        };
        if let Some(url) = self.server_url {
            let (tenant, accepted_name) = (self.tenant, self.accepted_name);
            context.name_server(ServerAddress { url, tenant, accepted_name, transport: None })?;
        }
        let (context, open, alone) = (Arc::new(context), Mutex::default(), Alone::default());
        let client = Client(Arc::new(Parts { context, open, alone }));
        // It is empty: we have just made it.
        let _empty = client.context().client.set(Arc::downgrade(&client.0));
        Ok(client)
    }

    /// The same, and names the server of the account that this folder's vaults belong to, if there is one and no
    /// server was named. Reads the folder; no request is made.
    pub async fn open(self) -> Result<Client> {
        let client = self.build()?;
        client.name_server_of_home().await?;
        Ok(client)
    }
}

impl std::fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientBuilder")
    }
}
