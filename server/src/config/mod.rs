//! Every setting of the server: one struct a section, with its defaults.
//!
//! Owns what can be set and what it means when it is not. Reading is in [`load`], checking in [`check`], showing in
//! [`describe`]; `config.example.toml` explains the same settings to people. Knows nothing about what is built from it.

pub mod check;
pub mod describe;
mod environment;
#[cfg(test)]
mod example;
pub mod load;
mod secret_file;
pub mod units;

pub use describe::Entry;
pub use load::{Origin, Problem, Problems};
pub(crate) use secret_file::refuse_readable_by_others;
pub use units::{Network, Period, Secret, Size};

use crate::limits::Rules;
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// The whole configuration, as it holds after defaults, file and environment.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub server: Server,
    pub data: Data,
    pub database: Database,
    pub master_key: MasterKeySource,
    pub blobs: Blobs,
    pub tls: Tls,
    pub http: Http,
    pub cors: Cors,
    pub registration: Registration,
    pub sessions: Sessions,
    pub vaults: Vaults,
    pub limits: Rules,
    pub log: Log,
    pub metrics: Metrics,
    /// Where each setting that is not a default came from.
    #[serde(skip)]
    pub(crate) origins: load::Origins,
}

/// Where the server listens, and who stands before it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    pub listen: SocketAddr,
    pub public_url: Option<String>,
    pub server_name: Option<String>,
    pub trusted_proxies: Vec<Network>,
    pub allow_plain_http: bool,
    pub workers: Option<u16>,
    pub max_connections: u32,
    pub max_connections_per_address: u32,
    pub shutdown_grace: Period,
}

/// Where an embedded server keeps everything.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Data {
    pub dir: PathBuf,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Database {
    pub url: Option<Secret>,
    pub url_file: Option<PathBuf>,
    pub password: Option<Secret>,
    pub password_file: Option<PathBuf>,
    pub migration_url: Option<Secret>,
    pub migration_url_file: Option<PathBuf>,
    pub ca_file: Option<PathBuf>,
    pub migrate_on_start: bool,
    pub pool_size: Option<u32>,
    pub acquire_timeout: Period,
    pub statement_timeout: Period,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MasterKeySource {
    pub key: Option<Secret>,
    pub key_file: Option<PathBuf>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Blobs {
    pub kind: BlobKind,
    pub dir: Option<PathBuf>,
    pub s3: S3,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BlobKind {
    #[default]
    Files,
    S3,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct S3 {
    pub bucket: Option<String>,
    pub endpoint: Option<String>,
    pub region: String,
    pub access_key: Option<Secret>,
    pub access_key_file: Option<PathBuf>,
    pub secret_key: Option<Secret>,
    pub secret_key_file: Option<PathBuf>,
    pub path_style: bool,
    pub timeout: Period,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub reload_interval: Period,
    pub handshake_timeout: Period,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    pub head_timeout: Period,
    pub body_timeout: Period,
    pub min_body_rate: Size,
    pub answer_timeout: Period,
    pub keep_alive: Period,
    pub body_limit: Size,
    pub auth_body_limit: Size,
    pub push_body_limit: Size,
    pub restore_body_limit: Size,
    pub max_concurrent_requests: u32,
    pub hsts: Period,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cors {
    pub origins: Vec<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Registration {
    pub policy: RegistrationPolicy,
    pub invitation_lifetime: Period,
    pub deletion_grace: Period,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RegistrationPolicy {
    Closed,
    #[default]
    Invite,
    Open,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sessions {
    pub access_token: Period,
    pub refresh_grace: Period,
    pub idle: Period,
    pub absolute: Period,
    pub without_device: Period,
    pub recent_sign_in: Period,
    pub login_state: Period,
    pub challenge: Period,
    pub signing_key_rotation: Period,
}

/// What may be kept in vaults, and how much of it is handed out at a time.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Vaults {
    pub max_per_account: u32,
    pub page_entries: u32,
    pub page_bytes: Size,
    pub listeners_per_account: u32,
    pub listeners_per_address: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    pub format: LogFormat,
    pub level: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Pretty at a terminal, JSON elsewhere.
    #[default]
    Auto,
    Json,
    Pretty,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    pub listen: Option<SocketAddr>,
    pub token: Option<Secret>,
    pub token_file: Option<PathBuf>,
}

impl Default for Server {
    fn default() -> Self {
        Server {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8040)),
            public_url: None,
            server_name: None,
            trusted_proxies: Vec::new(),
            allow_plain_http: false,
            workers: None,
            max_connections: 10_000,
            max_connections_per_address: 256,
            shutdown_grace: Period::seconds(20),
        }
    }
}

impl Default for Data {
    fn default() -> Self {
        Data { dir: PathBuf::from("./selkie-data") }
    }
}

impl Default for Database {
    fn default() -> Self {
        Database {
            url: None,
            url_file: None,
            password: None,
            password_file: None,
            migration_url: None,
            migration_url_file: None,
            ca_file: None,
            migrate_on_start: true,
            pool_size: None,
            acquire_timeout: Period::seconds(5),
            statement_timeout: Period::seconds(5),
        }
    }
}

impl Default for S3 {
    fn default() -> Self {
        S3 {
            bucket: None,
            endpoint: None,
            region: "us-east-1".into(),
            access_key: None,
            access_key_file: None,
            secret_key: None,
            secret_key_file: None,
            path_style: true,
            timeout: Period::seconds(30),
        }
    }
}

impl Default for Tls {
    fn default() -> Self {
        Tls { cert: None, key: None, reload_interval: Period::minutes(1), handshake_timeout: Period::seconds(5) }
    }
}

impl Default for Http {
    fn default() -> Self {
        Http {
            head_timeout: Period::seconds(5),
            body_timeout: Period::seconds(30),
            min_body_rate: Size::bytes(500),
            answer_timeout: Period::minutes(1),
            keep_alive: Period::seconds(20),
            body_limit: Size::kib(64),
            auth_body_limit: Size::kib(8),
            push_body_limit: Size::kib(3 << 10),
            restore_body_limit: Size::kib(8 << 10),
            max_concurrent_requests: 1024,
            hsts: Period::days(365),
        }
    }
}

impl Default for Registration {
    fn default() -> Self {
        Registration {
            policy: RegistrationPolicy::Invite,
            invitation_lifetime: Period::days(7),
            deletion_grace: Period::days(7),
        }
    }
}

impl Default for Sessions {
    fn default() -> Self {
        Sessions {
            access_token: Period::minutes(15),
            refresh_grace: Period::seconds(20),
            idle: Period::days(90),
            absolute: Period::days(365),
            without_device: Period::days(7),
            recent_sign_in: Period::minutes(5),
            login_state: Period::minutes(1),
            challenge: Period::minutes(5),
            signing_key_rotation: Period::days(30),
        }
    }
}

impl Default for Vaults {
    fn default() -> Self {
        Vaults {
            max_per_account: 1_000,
            page_entries: 1_000,
            page_bytes: Size::kib(4 << 10),
            listeners_per_account: 32,
            listeners_per_address: 1_024,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Log { format: LogFormat::Auto, level: "info".into() }
    }
}

/// Which database the configuration means.
#[derive(Clone, Debug)]
pub enum DatabaseTarget {
    /// A file of our own.
    Sqlite(PathBuf),
    /// A server; the URL carries the password.
    Postgres { url: Secret, migration_url: Option<Secret> },
}

impl Config {
    /// How the server calls itself to its users: part of what their passwords are bound to, so it must never change.
    pub fn server_name(&self) -> String {
        let from_url = || {
            let url = url::Url::parse(self.server.public_url.as_deref()?).ok()?;
            let host = url.host_str()?.to_owned();
            Some(url.port().map_or(host.clone(), |port| format!("{host}:{port}")))
        };
        self.server.server_name.clone().or_else(from_url).unwrap_or_else(|| self.server.listen.to_string())
    }

    /// Where people reach the server, without a slash at the end.
    pub fn public_url(&self) -> String {
        let scheme = if self.tls.cert.is_some() { "https" } else { "http" };
        let own = || format!("{scheme}://{}", self.server.listen);
        self.server.public_url.as_ref().map_or_else(own, |url| url.trim_end_matches('/').to_owned())
    }

    /// The database that is meant. The URL was checked when the configuration was loaded.
    pub fn database(&self) -> DatabaseTarget {
        let Some(url) = &self.database.url else {
            return DatabaseTarget::Sqlite(self.data.dir.join("selkie.db"));
        };
        if let Some(path) = check::sqlite_path(url.reveal()) {
            return DatabaseTarget::Sqlite(path);
        }
        let password = self.database.password.as_ref();
        let with_password = password.and_then(|password| check::url_with_password(url, password));
        let trusting = |url: Secret| {
            let certificates = self.database.ca_file.as_deref();
            certificates.and_then(|file| check::url_trusting(&url, file)).unwrap_or(url)
        };
        DatabaseTarget::Postgres {
            url: trusting(with_password.unwrap_or_else(|| url.clone())),
            migration_url: self.database.migration_url.clone().map(trusting),
        }
    }

    /// Where blobs are kept when they are files.
    pub fn blob_dir(&self) -> PathBuf {
        self.blobs.dir.clone().unwrap_or_else(|| self.data.dir.join("blobs"))
    }

    /// Connections to keep to the database: more than twice the cores only lengthens the queue inside it.
    pub fn pool_size(&self) -> u32 {
        let cores = std::thread::available_parallelism().map_or(2, |n| u32::try_from(n.get()).unwrap_or(2));
        self.database.pool_size.unwrap_or(2 * cores + 2)
    }

    /// Reads defaults, the file if one is named, and this process's environment.
    pub fn load(file: Option<&Path>) -> Result<Config, Problems> {
        load::load(file, std::env::vars_os())
    }
}
