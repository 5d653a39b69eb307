//! What a server says about itself before anybody signs in.

use crate::bytes::Fixed;
use crate::id::Incarnation;
use crate::message::wire;
use serde::{Deserialize, Serialize};

/// The one protocol there is. A server or client of another version is told to update, never negotiated with.
pub const PROTOCOL_VERSION: u32 = 1;

/// Who may make an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum RegistrationPolicy {
    Closed,
    Invite,
    Open,
}

wire! {
    /// The sizes and counts a server takes.
    pub struct Limits {
        /// The largest body of a request that is not listed elsewhere.
        pub max_body_bytes: u64,
        /// The largest body of a sign-in or registration.
        pub max_auth_body_bytes: u64,
        /// The most account log entries one request may carry.
        pub max_log_entries: u32,
        pub max_devices_per_account: u32,
        /// The most a push may carry, payloads included.
        pub max_push_bytes: u64,
        /// The most changes in one push.
        pub max_push_changes: u32,
    }
}

/// The answer to `GET /v1/capabilities`. The one message in which unknown fields are let pass: it is read by clients
/// that are older than the server, to learn that they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct Capabilities {
    pub protocol: u32,
    /// The software and its version, for people.
    pub software: String,
    /// The name accounts of this server are bound to; it enters every password.
    pub server_name: String,
    pub incarnation: Incarnation,
    /// Checks what the server says of its vaults: see [`SignedHead`](crate::log::SignedHead). Pinned by clients.
    pub head_key: Fixed<32>,
    pub registration: RegistrationPolicy,
    /// Second factors that can be set up here.
    pub second_factors: Vec<String>,
    pub limits: Limits,
}
