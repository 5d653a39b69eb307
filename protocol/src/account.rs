//! Messages of a signed-in account: its keys, log, devices, password, second factor, end.

use crate::bytes::Bytes;
use crate::id::{DeviceId, SessionId, UserId};
use crate::message::{Private, wire};
use crate::opaque;
use crate::session::{DeviceLabelBytes, KeybagBytes, SignatureBytes};
use serde::{Deserialize, Serialize};

/// How far an account has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum AccountState {
    /// It can sign in; it has no keys yet.
    Bare,
    Active,
    Suspended,
    /// It will be gone at `delete_after` unless its owner keeps it.
    Deleting,
}

/// What an account may do in its tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum TenantRole {
    Member,
    Admin,
    Owner,
}

wire! {
    /// `GET /v1/account`
    pub struct Account {
        pub tenant: String,
        pub login_name: Private,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub uid: Option<UserId>,
        pub state: AccountState,
        pub role: TenantRole,
        pub created_at_ms: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub delete_after_ms: Option<u64>,
        pub second_factors: Vec<String>,
        /// The entries the account's log has.
        pub log_length: u64,
        /// A restore has lost the newest password or recovery key that the log speaks of: see
        /// [`ErrorCode::KeysSuperseded`](crate::ErrorCode::KeysSuperseded).
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        pub keys_superseded: bool,
    }

    /// `GET /v1/account/keybag`, after a recent sign-in.
    pub struct Keybag {
        pub keybag: KeybagBytes,
    }

    /// `GET /v1/account/log?from=n`
    pub struct LogPage {
        /// The index of the first entry in this page.
        pub from: u64,
        pub entries: Vec<Bytes>,
        /// The log's length when the page was read.
        pub length: u64,
    }

    /// `POST /v1/account/log` and `POST /v1/people/{uid}/log`: puts back entries that a restored server has lost. Each
    /// is signed with the account's identity key, so nothing else can come in by that door, whoever brings it.
    pub struct RestoreLog {
        /// The index of the first of them: the server must have everything before it.
        pub from: u64,
        pub entries: Vec<Bytes>,
    }

    /// The answer.
    pub struct LogRestored {
        /// How many entries the log has now.
        pub length: u64,
    }

    /// `GET /v1/account/devices`
    pub struct Devices {
        pub devices: Vec<Device>,
    }

    /// What the server can say of a device. What it is called is sealed.
    pub struct Device {
        pub did: DeviceId,
        pub label: DeviceLabelBytes,
        pub added_at_ms: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub last_seen_ms: Option<u64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub revoked_at_ms: Option<u64>,
    }

    /// `POST /v1/account/devices`: certifies a new device and binds this session to it. Answers
    /// [`Tokens`](crate::session::Tokens).
    pub struct AddDevice {
        /// One DEVICE_ADD.
        pub entry: Bytes,
        pub label: DeviceLabelBytes,
        /// `SIGN(device, "device-session", session id)`: the device itself asks for the session.
        pub signature: SignatureBytes,
    }

    /// `POST /v1/account/devices/{did}/revoke`
    pub struct RevokeDevice {
        /// One DEVICE_REVOKE and, so that the device cannot read what comes, one USER_KEM.
        pub entries: Vec<Bytes>,
        /// Labels of the remaining devices, sealed anew under the new account master key.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub labels: Vec<DeviceLabel>,
    }

    /// A device's sealed name.
    pub struct DeviceLabel {
        pub did: DeviceId,
        pub label: DeviceLabelBytes,
    }

    /// `POST /v1/account/complete`: gives a bare account its keys. Answers [`Tokens`](crate::session::Tokens).
    pub struct CompleteAccount {
        pub account: crate::session::NewAccount,
        /// `SIGN(device, "device-session", session id)`
        pub signature: SignatureBytes,
    }

    /// `POST /v1/account/password/start`, after a recent sign-in.
    pub struct PasswordStart {
        pub request: opaque::RegistrationRequestBytes,
    }

    /// The answer to a start of a change of password.
    pub struct PasswordStarted {
        pub reg_token: Bytes,
        pub response: opaque::RegistrationResponseBytes,
        pub server_name: String,
        pub ksf_id: u8,
    }

    /// `POST /v1/account/password/finish`
    pub struct PasswordFinish {
        pub reg_token: Bytes,
        pub record: opaque::RecordBytes,
        /// The new keybag and the PWGEN entry; both missing for a bare account. A recovery may add a RECOVERY_KEY
        /// entry.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub keybag: Option<KeybagBytes>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub entries: Vec<Bytes>,
        /// Other sessions end unless this is set.
        #[serde(default)]
        pub keep_other_sessions: bool,
        /// Only in a recovery: also forget second factors, which may be lost with the devices.
        #[serde(default)]
        pub remove_second_factors: bool,
    }

    /// `POST /v1/account/recovery-key`, after a recent sign-in.
    pub struct RotateRecoveryKey {
        pub keybag: KeybagBytes,
        /// One RECOVERY_KEY.
        pub entry: Bytes,
    }

    /// `GET /v1/account/sessions`
    pub struct Sessions {
        pub sessions: Vec<Session>,
    }

    /// A sign-in that has not ended.
    pub struct Session {
        pub session: SessionId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub did: Option<DeviceId>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub app: Option<String>,
        pub created_at_ms: u64,
        pub last_used_ms: u64,
        /// The session that asked.
        pub current: bool,
    }

    /// `POST /v1/account/totp/start`: a secret for the authenticator app. It counts for nothing until it is confirmed.
    pub struct TotpStarted {
        pub secret: Private,
        /// `otpauth://` for a QR code.
        pub uri: Private,
    }

    /// `POST /v1/account/totp/confirm`
    pub struct TotpConfirm {
        pub code: Private,
    }

    /// Codes to sign in with when the authenticator is gone, each once. They are shown now and never again.
    pub struct TotpConfirmed {
        pub recovery_codes: Vec<Private>,
    }

    /// `GET /v1/account/audit?before=n`
    pub struct AuditPage {
        pub entries: Vec<AuditEntry>,
    }

    /// Something that happened to the account.
    pub struct AuditEntry {
        pub number: u64,
        pub at_ms: u64,
        /// A stable word, such as `signed_in`.
        pub action: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub did: Option<DeviceId>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub detail: Option<String>,
    }

    /// `POST /v1/account/delete`, after a recent sign-in.
    pub struct DeletionScheduled {
        pub delete_after_ms: u64,
    }

    /// An empty answer.
    pub struct Done {}
}
