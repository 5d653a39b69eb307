//! What the server says about itself before anybody signs in.

use super::error::ApiError;
use super::extract::{Door, Nothing};
use crate::auth::devices::MAX_DEVICES;
use selkie_protocol::log::{MAX_CHANGES, MAX_FRAME_LENGTH};
use selkie_protocol::version::{Capabilities, Limits, PROTOCOL_VERSION};

/// Entries one request may carry: no operation needs more than the making of an account.
const MAX_LOG_ENTRIES: u32 = 6;

pub(super) async fn capabilities(door: Door, _: Nothing) -> Result<Capabilities, ApiError> {
    let rooms = door.rooms();
    let policy = rooms.auth.policy();
    Ok(Capabilities {
        protocol: PROTOCOL_VERSION,
        software: concat!("selkie-server ", env!("CARGO_PKG_VERSION")).into(),
        server_name: policy.server_name.clone(),
        incarnation: rooms.incarnation,
        head_key: rooms.head_key.public().0.into(),
        registration: policy.registration,
        second_factors: vec!["totp".into()],
        limits: Limits {
            max_body_bytes: rooms.settings.body_limit as u64,
            max_auth_body_bytes: rooms.settings.auth_body_limit as u64,
            max_log_entries: MAX_LOG_ENTRIES,
            max_devices_per_account: MAX_DEVICES,
            max_push_bytes: MAX_FRAME_LENGTH.min(rooms.settings.push_body_limit) as u64,
            max_push_changes: MAX_CHANGES as u32,
        },
    })
}
