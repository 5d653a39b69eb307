//! What a device keeps by itself, before there is an account, and for as long as there is none.
//!
//! Owns where such vaults lie and whose vaults the client's own calls mean: this device's, or those of the account
//! that has taken them over. They are vaults like any other, under keys that never leave the device
//! (docs/decisions, 15). How they become an account's is in [`attach`].

mod attach;
mod carry;
mod status;
mod storage;

pub use attach::Attached;
pub(crate) use attach::was_taken_over;

use crate::account::kept::{Keeper, Kept, Phase, Secrets, folder_of};
use crate::account::{Account, AccountSync, Background};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::keys::Stand;
use crate::server::ServerAddress;
use crate::store::Folder;
use crate::sync::schedule::Schedule;
use crate::vault::{Vault, VaultSummary};
use selkie_protocol::cipher::DeviceKey;
use selkie_protocol::id::UserId;
use selkie_protocol::{Face, Private};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;

/// The app whose vaults are meant if the builder names none.
const SOME_APP: &str = "app";
const HOME: &str = "home";
const VERSION: u32 = 1;

/// What a client knows of it.
#[derive(Default)]
pub(crate) struct Alone {
    /// Looked for once: `Some(None)` if there is nothing of it.
    stand: futures_util::lock::Mutex<Option<Option<Account>>>,
    /// One taking over at a time.
    attaching: futures_util::lock::Mutex<()>,
}

/// Kept beside an account whose vaults the client's own calls mean, and gone with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Home {
    version: u32,
    /// Of several, the highest counts: the account that came last.
    nth: u64,
    /// Everything this device kept by itself has been taken over.
    whole: bool,
}

impl Client {
    /// Opens a folder, which is made when it is first needed: everything works at once, without a server and without an
    /// account, for as long as one likes. The same folder opened later has it all. [`Client::alone`] is the same with
    /// more to say.
    ///
    /// ```
    /// # async fn example() -> selkie_client::Result<()> {
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let folder = folder.path().join("journal.selkie");
    /// use selkie_client::Client;
    ///
    /// #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    /// struct Note {
    ///     title: String,
    /// }
    ///
    /// let notes = Client::open(&folder).await?.vault("Personal").await?.collection("notes");
    /// let id = notes.put(&Note { title: "Hello".into() }).await?;
    ///
    /// let again = Client::open(&folder).await?.vault("Personal").await?.collection::<Note>("notes");
    /// assert_eq!(again.get(id).await?, Some(Note { title: "Hello".into() }));
    /// # Ok(()) }
    /// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
    /// ```
    pub async fn open(folder: impl AsRef<Path>) -> Result<Client> {
        Client::alone().store(folder).open().await
    }

    /// The vault of this name and of the builder's app; made if there is none. No request is made. It is this device's
    /// until an account has taken it over, and the account's from then on: see [`Client::attached`].
    pub async fn vault(&self, name: &str) -> Result<Vault> {
        let app = self.context().app.clone();
        self.vault_of(name, app.as_deref().unwrap_or(SOME_APP)).await
    }

    /// The same for an app that is named here.
    pub async fn vault_of(&self, name: &str, app: &str) -> Result<Vault> {
        match self.attached().await? {
            Some(account) => account.vault_of(name, app).await,
            None => self.stand_made().await?.vault_of(name, app).await,
        }
    }

    /// One of the vaults that [`Client::vault`] finds, by its name or by its id as text; none is made. As with
    /// [`Account::vault`], a name that several have names none of them.
    pub async fn find_vault(&self, name_or_id: &str) -> Result<Option<Vault>> {
        match self.who_has_vaults().await? {
            Some(account) => account.vault(name_or_id).await,
            None => Ok(None),
        }
    }

    /// The vaults that [`Client::vault`] finds, of whatever app, and how each is. No request is made.
    pub async fn vaults(&self) -> Result<Vec<VaultSummary>> {
        if let Some(account) = self.attached().await? {
            let vaults = account.vaults().await?;
            return Ok(vaults.into_iter().filter(|vault| !vault.is_own).collect());
        }
        let Some(stand) = self.stand().await? else { return Ok(Vec::new()) };
        let room = stand.room().await?;
        let mut vaults = stand.vaults().await?;
        let look = move || {
            let mut taken = Vec::new();
            for id in room.store.vaults()? {
                if was_taken_over(&room, &id)? {
                    taken.push(id);
                }
            }
            Ok::<_, Error>(taken)
        };
        let taken = self.context().edges.apart(look).await??;
        vaults.retain(|vault| !taken.contains(&vault.id));
        Ok(vaults)
    }

    /// The account whose vaults the client's own calls mean; `None` while what is here is this device's alone. That is
    /// the account that was last signed up or in here, once it has everything that this device had kept by itself. It
    /// stays so after [`SignOut::Keep`](crate::SignOut::Keep), and after [`SignOut::Wipe`](crate::SignOut::Wipe) it
    /// is the account before, if that is still here, or the device by itself again.
    pub async fn attached(&self) -> Result<Option<Account>> {
        match self.home().await? {
            Some((home, account)) if home.whole => Ok(Some(account)),
            _ => Ok(None),
        }
    }

    /// Whether this device keeps anything that is no account's yet: the next to sign up or in will have it.
    pub async fn keeps_by_itself(&self) -> Result<bool> {
        let Some(stand) = self.stand().await? else { return Ok(false) };
        let room = stand.room().await?;
        let look = move || {
            for id in room.store.vaults()? {
                if !was_taken_over(&room, &id)? {
                    return Ok(true);
                }
            }
            Ok::<_, Error>(false)
        };
        self.context().edges.apart(look).await?
    }

    /// Comes into step with the server, as [`Account::sync`] does for one account. Without an account it says so.
    pub async fn sync(&self) -> Result<AccountSync> {
        self.account_here().await?.sync().await
    }

    /// Sync in the background, as [`Account::sync_in_background`] does for one account. Without an account it says so.
    /// It is switched off by dropping what this returns, and on again by calling this.
    pub async fn sync_in_background(&self, schedule: Schedule) -> Result<Background> {
        Ok(self.account_here().await?.sync_in_background(schedule))
    }

    /// Names the server, or another. No request is made. Accounts belong to the server on which they were made: its
    /// address may change, and at a new one [`ServerAddress::accept_name`] says that it is the same server; then the
    /// attached account goes on there. On a server that is really another one, sign up anew and bring the vaults over
    /// with [`Account::carry_over`].
    pub async fn use_server(&self, server: impl Into<ServerAddress>) -> Result<()> {
        self.context().name_server(server.into())?;
        let Some((_, account)) = self.home().await? else { return Ok(()) };
        account.follow_its_server().await
    }

    /// At the start of the app: where the account's server was last.
    pub(crate) async fn name_server_of_home(&self) -> Result<()> {
        if self.context().place_if_named().is_some() {
            return Ok(());
        }
        let Some((_, account)) = self.home().await? else { return Ok(()) };
        let kept = account.kept();
        let (url, tenant, accepted_name) = (kept.server_url, kept.tenant, Some(kept.server_name));
        self.context().name_server(ServerAddress { url, tenant, accepted_name, transport: None })
    }

    async fn account_here(&self) -> Result<Account> {
        self.home().await?.map(|(_, account)| account).ok_or(Error::NoAccount)
    }

    async fn home(&self) -> Result<Option<(Home, Account)>> {
        let keeper = self.context().keeper.clone();
        let read = move || match newest_home(&keeper)? {
            Some((folder, home)) => Ok::<_, Error>(keeper.load(&folder)?.map(|kept| (home, kept))),
            None => Ok(None),
        };
        match self.context().edges.apart(read).await?? {
            Some((home, kept)) => Ok(Some((home, self.open_kept(kept)?))),
            None => Ok(None),
        }
    }

    async fn keep_home(&self, user: UserId, whole: bool) -> Result<()> {
        let keeper = self.context().keeper.clone();
        let keep = move || {
            let folder = folder_of(&user);
            let nth = match newest_home(&keeper)? {
                Some((newest, home)) if newest == folder && home.whole == whole => return Ok(()),
                Some((newest, home)) if newest == folder => home.nth,
                Some((_, home)) => home.nth.saturating_add(1),
                None => 1,
            };
            let home = Home { version: VERSION, nth, whole };
            Ok(keeper.store.save(&folder, HOME, &Face::Json.encode(&home))?)
        };
        let kept = self.context().edges.apart(keep).await?;
        self.context().turned.ring();
        kept
    }

    /// The account that comes into step when the client is told to, or else what this device keeps by itself.
    async fn account_or_device(&self) -> Result<Option<Account>> {
        match self.home().await? {
            Some((_, account)) => Ok(Some(account)),
            None => self.stand().await,
        }
    }

    /// Whose vaults the client's own calls mean, if there are any.
    async fn who_has_vaults(&self) -> Result<Option<Account>> {
        match self.attached().await? {
            Some(account) => Ok(Some(account)),
            None => self.stand().await,
        }
    }

    /// Where this device keeps what is nobody's, if there is anything.
    async fn stand(&self) -> Result<Option<Account>> {
        let mut known = self.0.alone.stand.lock().await;
        if known.is_none() {
            let keeper = self.context().keeper.clone();
            let find = move || keeper.find(|glance| glance.phase == Phase::Alone);
            let kept = self.context().edges.apart(find).await??.into_iter().next();
            *known = Some(kept.map(|kept| Account::new(self.shared(), kept)).transpose()?);
        }
        Ok(known.clone().flatten())
    }

    async fn stand_made(&self) -> Result<Account> {
        if let Some(stand) = self.stand().await? {
            return Ok(stand);
        }
        let mut known = self.0.alone.stand.lock().await;
        if let Some(Some(stand)) = known.as_ref() {
            return Ok(stand.clone());
        }
        let (keeper, now_ms) = (self.context().keeper.clone(), self.context().now_ms());
        let make = move || {
            let lock = keeper.store.lock(&place())?;
            // Another program may have been faster.
            let kept = match keeper.find(|glance| glance.phase == Phase::Alone)?.into_iter().next() {
                Some(kept) => kept,
                None => {
                    let kept = newborn(now_ms);
                    keeper.save(&kept)?;
                    kept
                }
            };
            drop(lock);
            Ok::<_, Error>(kept)
        };
        let kept = self.context().edges.apart(make).await??;
        let stand = Account::new(self.shared(), kept)?;
        *known = Some(Some(stand.clone()));
        self.context().turned.ring();
        Ok(stand)
    }
}

/// The account that came last of those that are still here.
fn newest_home(keeper: &Keeper) -> Result<Option<(Folder, Home)>> {
    let mut newest: Option<(Folder, Home)> = None;
    for folder in keeper.store.folders()? {
        let Some(bytes) = keeper.store.load(&folder, HOME)? else { continue };
        let home: Home = Face::Json.decode(&bytes).map_err(|error| Error::Corrupt(error.what))?;
        if home.version != VERSION {
            let why = "the data folder was written by another version of the app";
            return Err(Error::UnsupportedProtocol(why.into()));
        }
        if newest.as_ref().is_none_or(|(_, known)| known.nth < home.nth) {
            newest = Some((folder, home));
        }
    }
    Ok(newest)
}

/// Where programs wait for each other that would make the device's own place at once.
fn place() -> Folder {
    Folder::new("alone").expect("lower-case letters make a folder name")
}

fn newborn(now_ms: u64) -> Kept {
    let device = DeviceKey::generate();
    let Stand { log, entries, master_key } = Stand::make(&device, now_ms);
    Kept {
        server_url: String::new(),
        server_name: String::new(),
        tenant: None,
        login_name: Private::from("alone"),
        phase: Phase::Alone,
        ended: None,
        life: None,
        log,
        entries,
        secrets: Secrets {
            device: Arc::new(device),
            master_key: Some(Arc::new(master_key)),
            secret_key: None,
            session: None,
            unconfirmed: None,
        },
    }
}
