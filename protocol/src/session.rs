//! Messages of the doors: registration, sign-in, refresh, recovery, sign-out.

use crate::account::AccountState;
use crate::bytes::{Bytes, Fixed};
use crate::id::{DeviceId, LoginId, SessionId, UserId};
use crate::message::{Private, wire};
use crate::opaque;
use serde::{Deserialize, Serialize};

/// The keybag: version, both generations, both wraps of the account root secret.
pub const KEYBAG_LENGTH: usize = 219;
/// A refresh token: tenant, session, generation, secret.
pub const REFRESH_TOKEN_LENGTH: usize = 8 + 16 + 4 + 32;
/// A device's name, sealed for the account's own devices and padded to one length.
pub const DEVICE_LABEL_LENGTH: usize = 24 + 64 + 16;
pub type KeybagBytes = Fixed<KEYBAG_LENGTH>;
pub type RefreshTokenBytes = Fixed<REFRESH_TOKEN_LENGTH>;
pub type DeviceLabelBytes = Fixed<DEVICE_LABEL_LENGTH>;
pub type SignatureBytes = Fixed<64>;
/// What a device signs to refresh: challenge, hash of the token, this.
pub const REFRESH_PURPOSE: &[u8] = b"POST /v1/auth/refresh";

wire! {
    /// `POST /v1/auth/register/start`
    pub struct RegisterStart {
        /// Which tenant of the server; the default one if missing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub tenant: Option<String>,
        pub login_name: Private,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub invite: Option<Private>,
        pub request: opaque::RegistrationRequestBytes,
    }

    /// The answer to a start of registration.
    pub struct RegisterStarted {
        /// Proves to the second step that the first took place; valid for five minutes.
        pub reg_token: Bytes,
        pub response: opaque::RegistrationResponseBytes,
        pub server_name: String,
        pub ksf_id: u8,
    }

    /// `POST /v1/auth/register/finish`
    pub struct RegisterFinish {
        pub reg_token: Bytes,
        pub record: opaque::RecordBytes,
        /// Missing for a *bare* account, which a later sign-in of the SDK completes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub account: Option<NewAccount>,
    }

    /// The identity of an account: the start of its log, and its sealed root secret.
    pub struct NewAccount {
        /// GENESIS, DEVICE_ADD, USER_KEM, PWGEN, LOGIN_NAME and RECOVERY_KEY, in this order.
        pub entries: Vec<Bytes>,
        pub keybag: KeybagBytes,
        pub device_label: DeviceLabelBytes,
    }

    /// The account exists now.
    pub struct Registered {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub uid: Option<UserId>,
    }

    /// `POST /v1/auth/challenge` answers this: fresh bytes for a device to sign.
    pub struct Challenge {
        pub challenge: Bytes,
        /// Seconds it stays valid.
        pub expires_in: u64,
    }

    /// A device's signature over a [`Challenge`].
    pub struct DeviceProof {
        pub did: DeviceId,
        pub challenge: Bytes,
        pub signature: SignatureBytes,
    }

    /// `POST /v1/auth/login/start`
    pub struct LoginStart {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub tenant: Option<String>,
        pub login_name: Private,
        pub ke1: opaque::Ke1Bytes,
        /// A known device is not slowed down by strangers who try the same name: it signs
        /// `SIGN(device, "device-challenge", challenge)`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub device: Option<DeviceProof>,
    }

    /// The answer to a start of sign-in, alike for names that exist and names that do not.
    pub struct LoginStarted {
        pub login_id: LoginId,
        pub ke2: opaque::Ke2Bytes,
        pub server_name: String,
        pub ksf_id: u8,
    }

    /// `POST /v1/auth/login/finish`
    pub struct LoginFinish {
        pub login_id: LoginId,
        pub ke3: opaque::Ke3Bytes,
        /// Six digits, or a recovery code.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub second_factor: Option<Private>,
        /// The device that signs in, if the account knows it: `SIGN(device, "device-login", login_id)`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub device: Option<LoginDevice>,
        /// The app the session is for, as in `org.example.journal`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub app: Option<String>,
        /// 1 asks for the tokens sealed under the session key.
        #[serde(default, skip_serializing_if = "is_zero")]
        pub seal: u8,
    }

    /// A device that signs in again.
    pub struct LoginDevice {
        pub did: DeviceId,
        pub signature: SignatureBytes,
    }

    /// The tokens, in clear or sealed as the request asked.
    pub struct LoginFinished {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub tokens: Option<Tokens>,
        /// ChaCha20-Poly1305, key `KDF(session_key, "", "token-wrap", login_id, 32)`, nonce zero (the key is used
        /// once), over the CBOR of [`Tokens`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub sealed_tokens: Option<Bytes>,
    }

    /// What a signed-in client holds.
    pub struct Tokens {
        /// A JWT for the `Authorization: Bearer` header.
        pub access_token: Private,
        /// Seconds the access token stays valid.
        pub expires_in: u64,
        /// One use; the next one comes with the answer.
        pub refresh_token: RefreshTokenBytes,
        pub session: SessionId,
        pub scope: Scope,
        pub account: AccountState,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub uid: Option<UserId>,
    }

    /// `POST /v1/auth/refresh`
    pub struct Refresh {
        pub refresh_token: RefreshTokenBytes,
        /// Needed where the session is bound to a device:
        /// `SIGN(device, "refresh", challenge || SHA-256(token) || "POST /v1/auth/refresh")`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub device: Option<DeviceProof>,
    }

    /// `POST /v1/auth/recover/start`
    pub struct RecoverStart {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub tenant: Option<String>,
        pub login_name: Private,
    }

    /// What a recovery key needs to become a signature. Names that do not exist get an answer too.
    pub struct RecoverStarted {
        pub login_id: LoginId,
        pub uid: UserId,
        pub rec_gen: u32,
        pub server_name: String,
        pub ksf_id: u8,
    }

    /// `POST /v1/auth/recover/finish` answers [`LoginFinished`] with clear tokens of scope `recovery`.
    pub struct RecoverFinish {
        pub login_id: LoginId,
        /// `SIGN(recovery sign-in key, "recovery-login", login_id || uid)`
        pub signature: SignatureBytes,
    }

    /// `POST /v1/auth/sign-out`
    pub struct SignOut {
        pub which: SignOutScope,
    }
}

/// What a session may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Everything its account may do.
    Full,
    /// Read the keybag and the log, set a new password, end sessions. Nothing else.
    Recovery,
}

/// Which sessions end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum SignOutScope {
    This,
    Others,
    All,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands in a reference")]
fn is_zero(value: &u8) -> bool {
    *value == 0
}
