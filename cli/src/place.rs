//! Which data folder, which server, which account.
//!
//! Owns how the global options and what is on this device together name one client and one account.

use crate::args::{Cli, MoveToArgs, ServerArgs};
use crate::failure::Usage;
use anyhow::Context as _;
use selkie_client::store::vaults::Usage as Bytes;
use selkie_client::transport::Http;
use selkie_client::{
    Account, Client, CollectionShape, Error, KnownAccount, LinkInvitation, Repair, StorageCheck, StorageUsage,
    Strategy, Vault, VaultSummary, known_accounts,
};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) struct Place<'a> {
    pub(crate) data: PathBuf,
    pub(crate) account: Option<&'a str>,
    pub(crate) server: &'a ServerArgs,
    /// Collections about whose conflicts a person is asked.
    pub(crate) ask: &'a [String],
}

impl<'a> Place<'a> {
    pub(crate) fn of(cli: &'a Cli) -> anyhow::Result<Self> {
        let data = match &cli.data {
            Some(data) => data.clone(),
            None => default_data_folder().ok_or_else(|| Usage("no home folder: use --data".into()))?,
        };
        Ok(Place { data, account: cli.account.as_deref(), server: &cli.server, ask: &cli.ask })
    }

    /// The client for a name: on the server given, or on the one this device knows the name from.
    pub(crate) fn client_for(&self, name: &str) -> anyhow::Result<Client> {
        if let Some(server) = &self.server.server {
            return self.client(server, self.server.tenant.as_deref(), self.server.server_name.as_deref());
        }
        let mut known = known_accounts(&self.data)?;
        known.retain(|known| self.is_called(known, name));
        // Interrupted sign-ups leave several of one name at one address.
        known.dedup_by(|a, b| (&a.server_url, &a.tenant) == (&b.server_url, &b.tenant));
        let mut of_this_name = known.iter();
        match (of_this_name.next(), of_this_name.next()) {
            (Some(known), None) => self.client_of(known),
            (None, _) => Err(Usage("this device does not know that name yet: give --server".into()).into()),
            (Some(_), Some(_)) => {
                Err(Usage("this device knows that name on several servers: give --server".into()).into())
            }
        }
    }

    /// The client an invitation to link leads to.
    pub(crate) fn client_for_link(&self, invitation: &LinkInvitation) -> anyhow::Result<Client> {
        let server = self.server.server.as_deref().or(invitation.server_url.as_deref());
        let server = server.ok_or_else(|| Usage("a code alone does not say on which server: give --server".into()))?;
        let tenant = self.server.tenant.as_deref().or(invitation.tenant.as_deref());
        // What a QR code says of the name was sealed in nobody's presence: only the person may accept another name.
        self.client(server, tenant, self.server.server_name.as_deref())
    }

    /// The account meant, opened. Makes no request.
    pub(crate) async fn account(&self) -> anyhow::Result<(Client, Account)> {
        self.opened(&self.known()?).await
    }

    async fn opened(&self, known: &KnownAccount) -> anyhow::Result<(Client, Account)> {
        let client = self.client_of(known)?;
        match client.account(&known.login_name).await? {
            Some(account) => Ok((client, account)),
            None => {
                Err(Usage(format!("a sign-up or sign-in of {} was interrupted: repeat it", known.login_name)).into())
            }
        }
    }

    /// Whose vaults are meant: the account's, or what this device keeps by itself if it knows no account and none was
    /// asked for.
    pub(crate) async fn owner(&self) -> anyhow::Result<Owner> {
        if self.account.is_some() || self.server.server.is_some() || !known_accounts(&self.data)?.is_empty() {
            return Ok(Owner::Account(self.account().await?.1));
        }
        Ok(Owner::Device(Client::alone().store(&self.data).open().await?))
    }

    /// The account that moves, and the one on another server that it moves into. Makes no request.
    pub(crate) async fn two_accounts(&self, to: &MoveToArgs) -> anyhow::Result<(Account, Account)> {
        let there = ServerArgs {
            server: Some(to.url.clone()),
            tenant: to.to_tenant.clone(),
            server_name: None,
            certificate: to.to_certificate.clone(),
        };
        let there = Place { data: self.data.clone(), account: to.to_account.as_deref(), server: &there, ask: self.ask };
        let into = there.known().with_context(|| format!("{} (--to-account, --to-tenant)", to.url))?;
        let is_there = |known: &KnownAccount| (&known.server_url, &known.tenant) == (&into.server_url, &into.tenant);
        let from = self.one_of(known_accounts(&self.data)?.into_iter().filter(|known| !is_there(known)).collect())?;
        Ok((self.opened(&from).await?.1, there.opened(&into).await?.1))
    }

    /// A vault by its name or id.
    pub(crate) async fn vault(&self, name: &str) -> anyhow::Result<Vault> {
        self.owner().await?.vault(name).await
    }

    /// The account meant: the one named, or the only one.
    fn known(&self) -> anyhow::Result<KnownAccount> {
        self.one_of(known_accounts(&self.data)?)
    }

    /// Among these.
    fn one_of(&self, mut known: Vec<KnownAccount>) -> anyhow::Result<KnownAccount> {
        if let Some(name) = self.account {
            known.retain(|known| self.is_called(known, name));
        }
        if self.server.tenant.is_some() {
            known.retain(|known| known.tenant == self.server.tenant);
        }
        if let Some(server) = &self.server.server {
            let server = server.trim_end_matches('/');
            known.retain(|known| known.server_url.trim_end_matches('/') == server);
        }
        if known.len() > 1 {
            let complete: Vec<KnownAccount> = known.iter().filter(|known| !known.unfinished).cloned().collect();
            if complete.len() == 1 {
                known = complete;
            }
        }
        match known.as_slice() {
            [one] => Ok(one.clone()),
            [] => Err(Usage("this device has no such account: sign up or sign in first".into()).into()),
            several => {
                let names: BTreeSet<&str> = several.iter().map(|known| known.login_name.as_str()).collect();
                let servers: BTreeSet<&str> = several.iter().map(|known| known.server_url.as_str()).collect();
                let list = |of: BTreeSet<&str>| of.into_iter().collect::<Vec<_>>().join(" | ");
                let which = match names.len() {
                    1 => format!("on which server? --server {}", list(servers)),
                    _ => format!("which account? --account {}", list(names)),
                };
                Err(Usage(which).into())
            }
        }
    }

    fn is_called(&self, known: &KnownAccount, name: &str) -> bool {
        let same_tenant = self.server.tenant.is_none() || self.server.tenant == known.tenant;
        same_tenant && known.is_called(name)
    }

    fn client_of(&self, known: &KnownAccount) -> anyhow::Result<Client> {
        let accepted = self.server.server_name.as_deref().unwrap_or(&known.server_name);
        self.client(&known.server_url, known.tenant.as_deref(), Some(accepted))
    }

    fn client(&self, server: &str, tenant: Option<&str>, accepted_name: Option<&str>) -> anyhow::Result<Client> {
        let mut http = Http::builder();
        if let Some(file) = &self.server.certificate {
            let pem = std::fs::read(file).with_context(|| format!("{} could not be read", file.display()))?;
            let useless = || format!("{} names no server that could be trusted", file.display());
            http = http.only_certificates(&pem).with_context(useless)?;
        }
        let mut builder = Client::builder(server).store(&self.data).http(http);
        if let Some(tenant) = tenant {
            builder = builder.tenant(tenant);
        }
        if let Some(name) = accepted_name {
            builder = builder.accept_server_name(name);
        }
        for name in self.ask.iter().filter(|name| !name.is_empty()) {
            builder = builder.collection(CollectionShape::new(name).conflicts(Strategy::AskUser));
        }
        Ok(builder.build()?)
    }
}

/// Who has the vaults that a command means.
pub(crate) enum Owner {
    Account(Account),
    /// Nobody signed up or in here so far.
    Device(Client),
}

impl Owner {
    pub(crate) async fn vault(&self, name: &str) -> anyhow::Result<Vault> {
        let where_else = match self {
            Owner::Account(_) => "selkie vault list, or selkie sync",
            Owner::Device(_) => "selkie vault create, or sign up or sign in first",
        };
        let vault = self.find(name).await?;
        vault.ok_or_else(|| Usage(format!("this device has no vault {name:?}: {where_else}")).into())
    }

    /// By its name or id.
    pub(crate) async fn find(&self, name: &str) -> Result<Option<Vault>, Error> {
        match self {
            Owner::Account(account) => account.vault(name).await,
            Owner::Device(client) => client.find_vault(name).await,
        }
    }

    /// Makes one, or finds it where a device by itself has it already.
    pub(crate) async fn make(&self, name: &str, app: &str) -> Result<Vault, Error> {
        match self {
            Owner::Account(account) => account.create_vault(name, app).await,
            Owner::Device(client) => client.vault_of(name, app).await,
        }
    }

    pub(crate) async fn storage(&self) -> Result<StorageUsage, Error> {
        match self {
            Owner::Account(account) => account.storage().await,
            Owner::Device(client) => client.storage().await,
        }
    }

    pub(crate) async fn prune_history(&self, older_than: Duration) -> Result<Bytes, Error> {
        match self {
            Owner::Account(account) => account.prune_history(older_than).await,
            Owner::Device(client) => client.prune_history(older_than).await,
        }
    }

    pub(crate) async fn check_storage(&self) -> Result<StorageCheck, Error> {
        match self {
            Owner::Account(account) => account.check_storage().await,
            Owner::Device(client) => client.check_storage().await,
        }
    }

    pub(crate) async fn repair(&self) -> Result<Repair, Error> {
        match self {
            Owner::Account(account) => account.repair().await,
            Owner::Device(client) => client.repair().await,
        }
    }

    pub(crate) async fn vaults(&self) -> Result<Vec<VaultSummary>, Error> {
        match self {
            Owner::Account(account) => account.vaults().await,
            Owner::Device(client) => client.vaults().await,
        }
    }
}

/// What this machine calls itself, for a list of devices.
pub(crate) fn device_name(given: Option<&str>) -> String {
    let kernel = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let environment = || std::env::var("HOSTNAME").or_else(|_| std::env::var("COMPUTERNAME")).ok();
    let name = given.map(str::to_owned).or_else(kernel).or_else(environment).unwrap_or_default();
    match name.trim() {
        "" => "command line".to_owned(),
        name => name.to_owned(),
    }
}

fn default_data_folder() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = if cfg!(windows) {
        set("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        set("HOME").map(|home| home.join("Library/Application Support"))
    } else {
        set("XDG_DATA_HOME").or_else(|| set("HOME").map(|home| home.join(".local/share")))
    };
    base.map(|base| base.join("selkie"))
}
