//! What every operation of a client shares.
//!
//! Owns the pieces the builder put together, and the sentences about them that several operations need: which name the
//! server may have, what to do with evidence, which accounts are here. Decides nothing about accounts.

use crate::account::kept::{Glance, Keeper, Kept, Phase, folder_of};
use crate::api::{Api, LinkPlace};
use crate::edges::Edges;
use crate::error::{Error, Misbehaviour, Result};
use crate::records::Collections;
use crate::records::view::HotRecords;
use crate::records::watch::Bell;
use crate::server::{Expectation, ServerAddress, host_and_port, name_for_passwords, speaks_our_protocol};
use crate::store::Folder;
use crate::store::vaults::VaultStores;
use crate::sync::room::SyncSettings;
#[cfg(feature = "http")]
use crate::transport::HttpBuilder;
use crate::transport::{Transport, server_address};
use crate::trust::{Evidence, Exhibit};
use selkie_protocol::Private;
use selkie_protocol::id::LinkChannel;
use selkie_protocol::name::LoginName;
use selkie_protocol::version::Capabilities;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, PoisonError, RwLock, Weak};
use url::Url;

/// Built once, shared by the client and its accounts.
pub(crate) struct Context {
    pub(crate) api: Api,
    pub(crate) place: RwLock<Option<Arc<Place>>>,
    pub(crate) app: Option<String>,
    #[cfg(feature = "http")]
    pub(crate) http: HttpBuilder,
    /// The app's own, for whatever server is named.
    pub(crate) transport: Option<Arc<dyn Transport>>,
    pub(crate) keeper: Keeper,
    pub(crate) vault_stores: Arc<dyn VaultStores>,
    pub(crate) records_in_the_clear: bool,
    pub(crate) sync: SyncSettings,
    pub(crate) collections: Collections,
    pub(crate) hot_records: HotRecords,
    pub(crate) edges: Edges,
    /// Who hears that an account has come into step: what this device wrote alone may still have to come along.
    pub(crate) client: OnceLock<Weak<crate::client::Parts>>,
    /// Rung when it is another account, or none, whose vaults the client's own calls mean.
    pub(crate) turned: Bell,
}

/// Which server, and what is known of it from the app.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) url: Url,
    pub(crate) tenant: Option<String>,
    /// What it may be called, though the address says otherwise.
    pub(crate) accepted_name: Option<String>,
}

impl Context {
    /// What is asked from now on is asked there. Nothing is asked yet.
    pub(crate) fn name_server(&self, named: ServerAddress) -> Result<()> {
        let url = server_address(&named.url).map_err(|error| Error::BadAddress(error.into()))?;
        let transport = match named.transport.or_else(|| self.transport.clone()) {
            Some(transport) => transport,
            None => self.usual_transport(&url)?,
        };
        let place = Place { url, tenant: named.tenant, accepted_name: named.accepted_name };
        *self.place.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(place));
        self.api.reach_through(transport);
        Ok(())
    }

    #[cfg(feature = "http")]
    fn usual_transport(&self, url: &Url) -> Result<Arc<dyn Transport>> {
        let http = self.http.clone().build(url.as_str());
        Ok(Arc::new(http.map_err(|error| Error::BadAddress(error.into()))?))
    }

    #[cfg(not(feature = "http"))]
    fn usual_transport(&self, _: &Url) -> Result<Arc<dyn Transport>> {
        Err(Error::ApiMisuse("bring a transport: this app was built without one".into()))
    }

    pub(crate) fn place(&self) -> Result<Arc<Place>> {
        self.place_if_named().ok_or(Error::NoServer)
    }

    pub(crate) fn place_if_named(&self) -> Option<Arc<Place>> {
        self.place.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The server's address, as accounts remember it.
    pub(crate) fn url_text(&self) -> String {
        self.place_if_named().map(|place| place.url.as_str().to_owned()).unwrap_or_default()
    }

    pub(crate) fn accepted_name(&self) -> Option<String> {
        self.place_if_named().and_then(|place| place.accepted_name.clone())
    }

    /// Whether what is asked now reaches the server of this account: tokens of one go to no other.
    pub(crate) fn reaches_the_server_of(&self, kept: &Kept) -> Result<()> {
        let place = self.place()?;
        let here = place.url.as_str() == kept.server_url;
        if here || place.accepted_name.as_deref() == Some(kept.server_name.as_str()) {
            return Ok(());
        }
        let expected = kept.server_name.clone();
        Err(Error::ServerNameDiffers { announced: host_and_port(&place.url), expected })
    }

    /// Asks the server what it is, and stops if it is something else.
    pub(crate) async fn capabilities(&self) -> Result<Capabilities> {
        let capabilities = self.api.capabilities().await?;
        speaks_our_protocol(&capabilities)?;
        Ok(capabilities)
    }

    /// The name passwords are bound to on this server.
    pub(crate) fn accept_name(&self, announced: &str, pinned: Option<&str>) -> Result<String> {
        let place = self.place()?;
        let accepted = place.accepted_name.as_deref();
        name_for_passwords(announced, Expectation { url: &place.url, accepted, pinned })
    }

    /// The name under which the password of an account may be used here. What this device knows of the account counts
    /// only at the address where it learned it: at any other a host that relays would be believed unasked.
    pub(crate) fn accept_name_for(&self, announced: &str, known: Option<&Kept>) -> Result<String> {
        let here = known.filter(|kept| kept.server_url == self.url_text());
        self.accept_name(announced, here.map(|kept| kept.server_name.as_str()))
    }

    /// The account of this name on this server, if this device has it. If it is there and cannot be opened, that is the
    /// answer.
    pub(crate) async fn find(&self, login_name: &LoginName, server_name: Option<&str>) -> Result<Option<Kept>> {
        Ok(self.find_all(login_name, server_name).await?.into_iter().next())
    }

    /// The same with what interrupted sign-ups have left, each a folder: the one that got furthest comes first.
    pub(crate) async fn find_all(&self, login_name: &LoginName, server_name: Option<&str>) -> Result<Vec<Kept>> {
        let keeper = self.keeper.clone();
        let place = self.place_if_named();
        let url = self.url_text();
        let (login_name, server_name) = (login_name.as_str().to_owned(), server_name.map(str::to_owned));
        let fits = move |glance: &Glance| {
            // Where no server was named, an account of any is meant.
            let here = place.as_ref().is_none_or(|place| {
                let server = glance.server_url == place.url.as_str();
                (server || server_name.as_deref() == Some(&glance.server_name)) && glance.tenant == place.tenant
            });
            here && glance.phase != Phase::Alone && glance.login_name.as_str() == login_name
        };
        let mut found = self.edges.apart(move || keeper.find(fits)).await??;
        found.sort_by_key(|kept| (std::cmp::Reverse(kept.phase), kept.server_url != url));
        Ok(found)
    }

    /// Forgets what this device has under a name, by the public part alone.
    pub(crate) async fn forget_all(&self, login_name: &LoginName) -> Result<bool> {
        let (keeper, login_name) = (self.keeper.clone(), login_name.as_str().to_owned());
        let vaults = self.vault_stores.clone();
        let place = self.place()?;
        let fits = move |glance: &Glance| {
            glance.server_url == place.url.as_str()
                && glance.tenant == place.tenant
                && glance.login_name.as_str() == login_name
        };
        let forget = move || {
            let folders = keeper.folders(fits)?;
            for folder in &folders {
                keeper.forget(folder)?;
                vaults.remove(folder)?;
            }
            Ok(!folders.is_empty())
        };
        let forgotten = self.edges.apart(forget).await?;
        self.turned.ring();
        forgotten
    }

    pub(crate) async fn save(&self, kept: &Kept) -> Result<()> {
        let (keeper, kept) = (self.keeper.clone(), kept.clone());
        self.edges.apart(move || keeper.save(&kept)).await?
    }

    /// For who holds the lock of the account already.
    pub(crate) async fn save_locked(&self, kept: &Kept) -> Result<()> {
        let (keeper, kept) = (self.keeper.clone(), kept.clone());
        self.edges.apart(move || keeper.save_locked(&kept)).await?
    }

    pub(crate) async fn forget(&self, folder: &Folder) -> Result<()> {
        let (keeper, folder, vaults) = (self.keeper.clone(), folder.clone(), self.vault_stores.clone());
        let forget = move || {
            keeper.forget(&folder)?;
            Ok(vaults.remove(&folder)?)
        };
        let forgotten = self.edges.apart(forget).await?;
        self.turned.ring();
        forgotten
    }

    /// The error for a server that was caught, with what was seen saved beside the account it concerns.
    pub(crate) async fn caught(&self, kind: Misbehaviour, evidence: Evidence) -> Error {
        tracing::warn!(%kind, "the server misbehaved");
        let folder = match &evidence.uid {
            Some(uid) => folder_of(uid),
            None => Folder::new("evidence").expect("lower-case letters make a folder name"),
        };
        let exhibit = Exhibit::AccountEvidence(evidence);
        let evidence = self.save_evidence(folder, exhibit.file_name(), exhibit.to_bytes()).await;
        Error::ServerMisbehaved { kind, evidence }
    }

    /// Where it was saved. A full disk must not turn an alarm into something milder, so there is no error.
    pub(crate) async fn save_evidence(&self, folder: Folder, name: String, bytes: Vec<u8>) -> Option<PathBuf> {
        let store = self.keeper.store.clone();
        let save = move || {
            store.save(&folder, &name, &bytes).map(|()| store.location(&folder).map(|folder| folder.join(name)))
        };
        match self.edges.apart(save).await {
            Ok(Ok(path)) => path,
            Ok(Err(error)) => {
                tracing::error!(%error, "the evidence could not be saved");
                None
            }
            Err(_) => None,
        }
    }

    /// Where two devices meet under a link's secret.
    pub(crate) fn link_place<'a>(&self, channel: &'a LinkChannel) -> LinkPlace<'a> {
        LinkPlace { channel, tenant: self.tenant() }
    }

    pub(crate) fn tenant(&self) -> Option<String> {
        self.place_if_named().and_then(|place| place.tenant.clone())
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.edges.now_ms()
    }
}

/// A name for messages.
pub(crate) fn private(login_name: &LoginName) -> Private {
    Private::from(login_name.as_str())
}
