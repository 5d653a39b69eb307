//! Messages of linking: a signed-in device brings in another over a channel the server carries and cannot read.
//!
//! Both devices know a secret that was shown on one and typed or scanned on the other. From it come the channel's
//! name and the key that seals everything in it. Offer, request and answer are opaque to the server.

use crate::bytes::Bytes;
use crate::id::LinkChannel;
use crate::message::wire;
use crate::session::{DeviceLabelBytes, SignatureBytes};

/// The most a sealed message of the channel may weigh.
pub const MAX_LINK_MESSAGE: usize = 4096;

wire! {
    /// `POST /v1/links`, by the signed-in device.
    pub struct OpenLink {
        pub channel: LinkChannel,
        /// Sealed: which server, which person, which log.
        pub offer: Bytes,
    }

    /// The channel is open for this many seconds.
    pub struct LinkOpened {
        pub expires_in: u64,
    }

    /// `GET /v1/links/{channel}`, by either device: what was put there so far.
    pub struct LinkState {
        pub offer: Bytes,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub request: Option<Bytes>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub answer: Option<Bytes>,
    }

    /// `POST /v1/links/{channel}/request`, by the new device, once.
    pub struct LinkRequest {
        /// Sealed: the new device's key, its proof and what it is called.
        pub request: Bytes,
    }

    /// `POST /v1/links/{channel}/answer`, by the signed-in device after a recent sign-in: certifies the device.
    pub struct LinkAnswer {
        /// Sealed: the account master key, the Secret Key, the head of the log.
        pub answer: Bytes,
        /// One DEVICE_ADD.
        pub entry: Bytes,
        pub label: DeviceLabelBytes,
    }

    /// `POST /v1/links/{channel}/session`, by the new device, once. Answers [`Tokens`](crate::session::Tokens).
    pub struct LinkSession {
        /// `SIGN(device, "link-session", channel)`
        pub signature: SignatureBytes,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub app: Option<String>,
    }
}
