//! TRANSLATES bytes to protocol messages and back. There are no rules here, and no database.
//!
//! | module | what it owns |
//! |---|---|
//! | `routes` | every route, on one page |
//! | [`envelope()`] | what every request goes through: its id, its log line, the headers of its answer |
//! | `connections` | how many one address may hold |
//! | [`extract`] | bytes into messages, tokens into callers, within limits |
//! | [`error`] | refusals into statuses and error bodies, the only place that knows statuses |
//! | `auth`, `account`, `links`, `vaults`, `events`, `capabilities`, `health` | handlers, a file a noun |
//! | [`openapi`] | the same routes, described |

mod account;
mod auth;
mod capabilities;
mod connections;
mod envelope;
pub mod error;
mod events;
pub mod extract;
mod health;
mod links;
pub mod openapi;
mod routes;
#[cfg(test)]
mod tests;
mod vaults;

pub use connections::{Connection, Connections};
pub use envelope::envelope;
pub use health::{LastLook, Readiness, metrics_app};
pub use routes::configure;

use crate::auth::Auth;
use crate::blobs::BlobStore;
use crate::config::Network;
use crate::edges::Edges;
use crate::limits::Limits;
use crate::secrets::MasterKey;
use crate::sync::{HeadKey, Logs};
use selkie_protocol::id::Incarnation;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// What the handlers may use.
pub struct Rooms {
    pub auth: Arc<Auth>,
    pub logs: Arc<Logs>,
    pub blobs: Arc<dyn BlobStore>,
    pub limits: Arc<Limits>,
    pub master: Arc<MasterKey>,
    pub edges: Edges,
    pub incarnation: Incarnation,
    pub head_key: Arc<HeadKey>,
    pub settings: Settings,
    pub connections: Arc<Connections>,
    /// A permit for each request that may be worked on at once; whoever finds none is told to come back.
    pub capacity: Semaphore,
    pub last_look: LastLook,
}

/// How requests are taken and answered.
#[derive(Clone, Debug)]
pub struct Settings {
    pub trusted_proxies: Vec<Network>,
    pub body_timeout: Duration,
    /// Bytes per second.
    pub min_body_rate: usize,
    pub body_limit: usize,
    pub auth_body_limit: usize,
    pub push_body_limit: usize,
    pub restore_body_limit: usize,
    pub cors_origins: Vec<String>,
    /// Sent where the server is reached by TLS.
    pub hsts: Option<Duration>,
    /// Who may read the metrics on the main listener; nobody if there is none.
    pub metrics_token: Option<crate::config::Secret>,
}
