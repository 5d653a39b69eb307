//! The composition root: configuration in, a server out. The only file that names implementations.
//!
//! Owns the order in which things are opened and closed. Every other room is handed what it needs.

use crate::auth::{self, Auth, Policy};
use crate::blobs::{BlobError, BlobStore, files::FileBlobs};
use crate::config::{BlobKind, Config, DatabaseTarget, RegistrationPolicy};
use crate::edges::Edges;
use crate::http::{self, Connection, Connections, LastLook, Rooms, Settings};
use crate::limits::Limits;
use crate::notices::Notices;
use crate::secrets::{KeySource, MasterKey, MasterKeyError};
use crate::store::{self, Identity, NewTenant, Store, StoreError};
use crate::sync::{self, HeadKey, ListenerLimits, Logs, PollKey};
use crate::tenancy::{DEFAULT_PLAN, Tenancy};
use crate::tls::{Certificate, TlsError};
use crate::{jobs, secrets, telemetry};
use actix_web::dev::ServerHandle;
use actix_web::middleware::from_fn;
use actix_web::{App as Web, HttpServer, web};
use futures_util::FutureExt as _;
use futures_util::future::join_all;
use selkie_protocol::id::Incarnation;
use selkie_protocol::version;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Instant, timeout_at};

/// A server that is open for work, whether or not it listens.
pub struct App {
    pub config: Config,
    pub edges: Edges,
    pub store: Arc<dyn Store>,
    pub blobs: Arc<dyn BlobStore>,
    pub auth: Arc<Auth>,
    pub logs: Arc<Logs>,
    pub tenancy: Tenancy,
    pub identity: Identity,
    pub key_source: KeySource,
    master: Arc<MasterKey>,
    limits: Arc<Limits>,
    head_key: Arc<HeadKey>,
}

/// Why a server could not be opened. Each says what to do, or carries what does.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the folder for the data cannot be made: {0}")]
    DataFolder(PathBuf, #[source] io::Error),
    #[error(transparent)]
    MasterKey(#[from] MasterKeyError),
    #[error(
        "this is not the master key the database was sealed with (it has {have}, the database wants {wanted}): \
         put the right key back; with this one nobody could sign in"
    )]
    OtherMasterKey { have: String, wanted: String },
    #[error("the database")]
    Database(#[from] store::OpenError),
    #[error("the database")]
    Store(#[from] StoreError),
    #[error("the blob store")]
    Blobs(#[from] BlobError),
    #[error("the server's own keys")]
    Keys(#[source] auth::Refusal),
}

/// Why a server could not begin to listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("cannot listen on {0}: is another server running there?")]
    Bind(SocketAddr, #[source] io::Error),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("the server cannot start")]
    Start(#[source] io::Error),
}

impl App {
    /// Opens everything the configuration names, and gives a new database its identity.
    pub async fn open(config: Config, edges: Edges) -> Result<Self, OpenError> {
        let embedded = matches!(config.database(), DatabaseTarget::Sqlite(_)) || config.blobs.kind == BlobKind::Files;
        if embedded {
            let folder = &config.data.dir;
            secrets::make_private_folder(folder).map_err(|source| OpenError::DataFolder(folder.clone(), source))?;
        }
        let (master, key_source) = MasterKey::load(&config, edges.dice.clone())?;
        let master = Arc::new(master);
        let store = open_store(&config).await?;
        let identity = identify(&*store, &edges, &master).await?;
        let blobs = open_blobs(&config)?;
        let limits = Arc::new(Limits::new(&config.limits, &edges));
        let alone = matches!(config.database(), DatabaseTarget::Sqlite(_));
        let notices = if alone { Notices::below(&config.data.dir) } else { Notices::nowhere() };
        let tenancy = Tenancy::new(store.clone(), edges.clone(), notices.clone());
        let head_key = Arc::new(HeadKey::new(&master));
        let logs = Logs::open(sync::Opening {
            store: store.clone(),
            blobs: blobs.clone(),
            edges: edges.clone(),
            limits: limits.clone(),
            head_key: head_key.clone(),
            poll_key: PollKey::new(&master),
            incarnation: identity.incarnation,
            restored_at: identity.restored_at,
            policy: vault_policy(&config),
            alone,
        });
        let logs = Arc::new(logs);
        let auth = Auth::open(store.clone(), edges.clone(), policy(&config), master.clone(), limits.clone());
        let mut auth = auth.await.map_err(OpenError::Keys)?.restored_at(identity.restored_at);
        auth = if alone { auth.alone(notices.clone()) } else { auth.among_others() };
        let listeners = Arc::downgrade(&logs);
        let auth = auth.on_change(move |tenant, account| {
            if let Some(logs) = listeners.upgrade() {
                logs.sessions_changed(tenant, account);
            }
        });
        let auth = Arc::new(auth);
        Ok(App { config, edges, store, blobs, auth, logs, tenancy, identity, key_source, master, limits, head_key })
    }

    /// Begins to listen and to do its chores. The addresses are those that were bound.
    pub fn listen(self: &Arc<Self>) -> Result<Running, ListenError> {
        telemetry::metrics();
        let certificate = Certificate::load(&self.config.tls)?;
        let listener = bind(self.config.server.listen)?;
        cut_who_takes_no_answer(&listener, self.config.http.answer_timeout.as_duration())
            .map_err(ListenError::Start)?;
        let address = listener.local_addr().map_err(ListenError::Start)?;
        let rooms = web::Data::new(self.rooms(certificate.is_some()));
        let connections = self.config.server.max_connections as usize;
        let workers = self.config.server.workers.map_or_else(cores, usize::from);
        let grace = self.config.server.shutdown_grace.as_duration();
        let server = HttpServer::new(move || {
            Web::new().app_data(rooms.clone()).configure(http::configure).wrap(from_fn(http::envelope))
        })
        .workers(workers)
        .max_connections((connections / workers).max(1))
        .client_request_timeout(self.config.http.head_timeout.as_duration())
        .keep_alive(self.config.http.keep_alive.as_duration())
        .tls_handshake_timeout(self.config.tls.handshake_timeout.as_duration())
        .shutdown_timeout(grace.as_secs())
        .on_connect(|_, data| drop(data.insert(Connection::default())))
        .disable_signals();
        let server = match &certificate {
            Some(certificate) => server.listen_rustls_0_23(listener, crate::tls::server_config(certificate.clone())?),
            None => server.listen(listener),
        };
        let server = server.map_err(ListenError::Start)?.run();
        let (stop, stopping) = watch::channel(false);
        let mut chores = vec![tokio::spawn(jobs::run(self.clone(), stopping.clone()))];
        if let Some(certificate) = certificate {
            let interval = self.config.tls.reload_interval.as_duration();
            chores.push(tokio::spawn(certificate.watch(interval, until(stopping))));
        }
        let metrics = self.config.metrics.listen.map(listen_for_metrics).transpose()?;
        let metrics_address = metrics.as_ref().map(|(_, address)| *address);
        let main = (server.handle(), tokio::spawn(server));
        let servers = std::iter::once(main).chain(metrics.map(|(server, _)| server)).collect();
        Ok(Running { app: self.clone(), address, metrics_address, servers, stop, chores })
    }

    pub(crate) fn rooms(&self, tls: bool) -> Rooms {
        let (http, server) = (&self.config.http, &self.config.server);
        Rooms {
            auth: self.auth.clone(),
            logs: self.logs.clone(),
            blobs: self.blobs.clone(),
            limits: self.limits.clone(),
            master: self.master.clone(),
            edges: self.edges.clone(),
            incarnation: self.identity.incarnation,
            head_key: self.head_key.clone(),
            settings: Settings {
                trusted_proxies: server.trusted_proxies.clone(),
                body_timeout: http.body_timeout.as_duration(),
                min_body_rate: http.min_body_rate.as_bytes(),
                body_limit: http.body_limit.as_bytes(),
                auth_body_limit: http.auth_body_limit.as_bytes(),
                push_body_limit: http.push_body_limit.as_bytes(),
                restore_body_limit: http.restore_body_limit.as_bytes(),
                cors_origins: self.config.cors.origins.clone(),
                hsts: (tls || self.config.public_url().starts_with("https://")).then(|| http.hsts.as_duration()),
                metrics_token: self.config.metrics.token.clone(),
            },
            connections: Connections::new(server.max_connections_per_address),
            capacity: Semaphore::new(http.max_concurrent_requests as usize),
            last_look: LastLook::default(),
        }
    }

    /// Puts another store behind the same doors.
    #[cfg(test)]
    pub(crate) async fn replace_store(&mut self, store: Arc<dyn Store>) {
        self.auth = Arc::new(self.auth_on(store.clone()).await);
        self.tenancy = Tenancy::new(store.clone(), self.edges.clone(), Notices::nowhere());
        self.store = store;
    }

    /// The same, for a server that has its database to itself.
    #[cfg(test)]
    pub(crate) async fn replace_store_alone(&mut self, store: Arc<dyn Store>) {
        let notices = Notices::below(&self.config.data.dir);
        self.auth = Arc::new(self.auth_on(store.clone()).await.alone(notices.clone()));
        self.tenancy = Tenancy::new(store.clone(), self.edges.clone(), notices);
        self.store = store;
    }

    /// The same, for a server that shares its database with others.
    #[cfg(test)]
    pub(crate) async fn replace_store_among_others(&mut self, store: Arc<dyn Store>) {
        self.replace_store(store.clone()).await;
        self.auth = Arc::new(self.auth_on(store).await.among_others());
    }

    #[cfg(test)]
    async fn auth_on(&self, store: Arc<dyn Store>) -> Auth {
        let policy = policy(&self.config);
        let auth = Auth::open(store, self.edges.clone(), policy, self.master.clone(), self.limits.clone());
        auth.await.expect("the same keys open again")
    }

    pub fn limits(&self) -> &Limits {
        &self.limits
    }
}

/// Past the deadline, for what only needs to be said.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A server that listens.
pub struct Running {
    app: Arc<App>,
    pub address: SocketAddr,
    pub metrics_address: Option<SocketAddr>,
    servers: Vec<(ServerHandle, JoinHandle<io::Result<()>>)>,
    stop: watch::Sender<bool>,
    chores: Vec<JoinHandle<()>>,
}

impl Running {
    /// Stops accepting, finishes what is under way, ends the chores, closes the store: all of it within the time that
    /// is configured. What is not finished then is cut off.
    pub async fn stop(self) -> io::Result<()> {
        let deadline = Instant::now() + self.app.config.server.shutdown_grace.as_duration();
        // Nobody listening means that the chores ended by themselves.
        let _ended = self.stop.send(true);
        // Streams never finish by themselves.
        self.app.logs.close();
        let (handles, servers): (Vec<_>, Vec<_>) = self.servers.into_iter().unzip();
        let in_order = join_all(handles.iter().map(|handle| handle.stop(true)));
        let chores = join_all(self.chores.into_iter().map(|chore| end(chore, deadline)));
        let (in_order, _) = tokio::join!(timeout_at(deadline, in_order), chores);
        if in_order.is_err() {
            tracing::warn!("requests were still under way at the end of server.shutdown_grace: they are cut off");
            // Said to the accepting thread, which needs no time of its own for it.
            drop(join_all(handles.iter().map(|handle| handle.stop(false))));
        }
        let ends = join_all(servers).map(|ends| {
            let flat =
                |end: Result<io::Result<()>, JoinError>| end.unwrap_or_else(|error| Err(io::Error::other(error)));
            ends.into_iter().try_for_each(flat)
        });
        let outcome = timeout_at(deadline + LAST_WORDS, ends).await.unwrap_or(Ok(()));
        if timeout_at(deadline + LAST_WORDS, self.app.store.close()).await.is_err() {
            tracing::warn!("the database did not finish in time; what it had not confirmed is undone");
        }
        outcome
    }
}

/// Waits for a chore until the deadline, and no longer: chores may be cut off at any moment.
async fn end(mut chore: JoinHandle<()>, deadline: Instant) {
    match timeout_at(deadline, &mut chore).await {
        Ok(Ok(())) => {}
        Ok(Err(_)) => tracing::error!("a chore panicked"),
        Err(_) => chore.abort(),
    }
}

async fn open_store(config: &Config) -> Result<Arc<dyn Store>, OpenError> {
    let (url, migration_url) = database_urls(config);
    if config.database.migrate_on_start {
        store::migrate(&migration_url).await?;
        if store::let_work(&url, &migration_url).await?.is_some() {
            tracing::warn!(
                "the database's login may not become selkie_app, and the right was not ours to give: \
                 `selkie-server doctor` shows the SQL for an administrator"
            );
        }
    }
    let options = store::Options {
        connections: config.pool_size() as usize,
        acquire_timeout: config.database.acquire_timeout.as_duration(),
        statement_timeout: config.database.statement_timeout.as_duration(),
        ..store::Options::default()
    };
    Ok(store::open(&url, options, tokio::runtime::Handle::current()).await?)
}

/// The URL to work with, and the one to migrate with.
pub fn database_urls(config: &Config) -> (String, String) {
    match config.database() {
        DatabaseTarget::Sqlite(path) => {
            let url = format!("sqlite:{}", path.display());
            (url.clone(), url)
        }
        DatabaseTarget::Postgres { url, migration_url } => {
            let migration_url = migration_url.unwrap_or_else(|| url.clone());
            (url.reveal().to_owned(), migration_url.reveal().to_owned())
        }
    }
}

pub fn open_blobs(config: &Config) -> Result<Arc<dyn BlobStore>, BlobError> {
    match config.blobs.kind {
        BlobKind::Files => Ok(Arc::new(FileBlobs::open(config.blob_dir())?)),
        #[cfg(feature = "s3")]
        BlobKind::S3 => Ok(Arc::new(crate::blobs::s3::S3Blobs::new(&config.blobs.s3))),
        #[cfg(not(feature = "s3"))]
        BlobKind::S3 => Err(BlobError::Unavailable { reason: "built without S3".into(), source: None }),
    }
}

async fn identify(store: &dyn Store, edges: &Edges, master: &MasterKey) -> Result<Identity, OpenError> {
    let now = edges.now_ms();
    let first = Identity {
        incarnation: Incarnation(edges.bytes()),
        master_key_fingerprint: master.fingerprint().0.to_vec(),
        created_at: now,
        restored_at: None,
    };
    let home = NewTenant {
        slug: auth::DEFAULT_TENANT.into(),
        name: "Home".into(),
        plan: DEFAULT_PLAN.into(),
        created_at: now,
    };
    let identity = store.initialise(first, home).await?;
    if identity.master_key_fingerprint != master.fingerprint().0 {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        return Err(OpenError::OtherMasterKey {
            have: master.fingerprint().to_string(),
            wanted: hex(&identity.master_key_fingerprint),
        });
    }
    Ok(identity)
}

fn policy(config: &Config) -> Policy {
    let sessions = &config.sessions;
    Policy {
        server_name: config.server_name().to_lowercase(),
        registration: match config.registration.policy {
            RegistrationPolicy::Closed => version::RegistrationPolicy::Closed,
            RegistrationPolicy::Invite => version::RegistrationPolicy::Invite,
            RegistrationPolicy::Open => version::RegistrationPolicy::Open,
        },
        access_token_ms: sessions.access_token.as_ms(),
        refresh_grace_ms: sessions.refresh_grace.as_ms(),
        idle_ms: sessions.idle.as_ms(),
        absolute_ms: sessions.absolute.as_ms(),
        without_device_ms: sessions.without_device.as_ms(),
        recent_sign_in_ms: sessions.recent_sign_in.as_ms(),
        login_state_ms: sessions.login_state.as_ms(),
        challenge_ms: sessions.challenge.as_ms(),
        signing_key_rotation_ms: sessions.signing_key_rotation.as_ms(),
        deletion_grace_ms: config.registration.deletion_grace.as_ms(),
    }
}

fn vault_policy(config: &Config) -> sync::Policy {
    let vaults = &config.vaults;
    sync::Policy {
        max_vaults: i64::from(vaults.max_per_account),
        page_entries: vaults.page_entries,
        page_bytes: vaults.page_bytes.as_bytes() as u64,
        listeners: ListenerLimits {
            per_account: vaults.listeners_per_account as usize,
            per_address: vaults.listeners_per_address as usize,
        },
    }
}

fn bind(address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).map_err(|source| ListenError::Bind(address, source))
}

/// The web framework waits for ever for somebody to read, so the kernel is told how long is enough. A connection has
/// this from the socket that accepted it, TLS or not.
#[cfg(target_os = "linux")]
fn cut_who_takes_no_answer(listener: &TcpListener, after: Duration) -> io::Result<()> {
    let after = u32::try_from(after.as_millis()).unwrap_or(u32::MAX);
    Ok(rustix::net::sockopt::set_tcp_user_timeout(listener, after)?)
}

#[cfg(not(target_os = "linux"))]
fn cut_who_takes_no_answer(_: &TcpListener, _: Duration) -> io::Result<()> {
    Ok(())
}

type Listening = ((ServerHandle, JoinHandle<io::Result<()>>), SocketAddr);

fn listen_for_metrics(address: SocketAddr) -> Result<Listening, ListenError> {
    let listener = bind(address)?;
    let address = listener.local_addr().map_err(ListenError::Start)?;
    let server = HttpServer::new(|| Web::new().configure(http::metrics_app))
        .workers(1)
        .disable_signals()
        .listen(listener)
        .map_err(ListenError::Start)?
        .run();
    Ok(((server.handle(), tokio::spawn(server)), address))
}

async fn until(mut stopping: watch::Receiver<bool>) {
    // A sender that is gone has stopped, too.
    let _stopped = stopping.wait_for(|stop| *stop).await;
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, std::num::NonZero::get)
}

#[cfg(test)]
mod tests;
