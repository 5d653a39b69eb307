//! The only errors that cross the wire.
//!
//! Every refusal has one stable word for programs, one sentence for people and one for what to do next.

use crate::vault::RecordConflict;
use serde::{Deserialize, Serialize};

// A word is taken as a token: as a literal it would be hidden from the other macros that read these attributes.
macro_rules! error_codes {
    ($($name:ident = $word:tt, $title:literal, $advice:literal;)*) => {
        /// Why a request was refused. The word never changes; a client that meets a new one reads
        /// [`ErrorCode::Unknown`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
        pub enum ErrorCode {
            $(#[doc = $title] #[serde(rename = $word)] $name,)*
            /// A word this version does not know.
            #[serde(other, rename = "unknown")]
            Unknown,
        }

        impl ErrorCode {
            /// Every code a server may send.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$name),*];

            /// The stable word.
            pub fn word(self) -> &'static str {
                match self { $(ErrorCode::$name => $word,)* ErrorCode::Unknown => "unknown" }
            }

            /// The sentence for people.
            pub fn title(self) -> &'static str {
                match self { $(ErrorCode::$name => $title,)* ErrorCode::Unknown => "The server refused, for a reason this version does not know." }
            }

            /// Whose move it is, and which.
            pub fn advice(self) -> &'static str {
                match self { $(ErrorCode::$name => $advice,)* ErrorCode::Unknown => "Update the app." }
            }
        }
    };
}

error_codes! {
    BadRequest = "bad_request", "The request could not be read.", "Correct the request; the detail says where it went wrong.";
    InvalidField = "invalid_field", "A field of the request is not valid.", "Correct the fields that are listed.";
    UnsupportedMediaType = "unsupported_media_type", "The content type is not one this server reads.", "Send application/json or application/cbor.";
    NotAcceptable = "not_acceptable", "The server cannot answer in a type the request accepts.", "Accept application/json or application/cbor.";
    PayloadTooLarge = "payload_too_large", "The request is larger than this route takes.", "Send less; GET /v1/capabilities lists the limits.";
    RequestTimeout = "request_timeout", "The request did not arrive in time.", "Send it again on a better connection.";
    NotFound = "not_found", "There is nothing here.", "Check the address or the id.";
    MethodNotAllowed = "method_not_allowed", "This address does not take that method.", "See the Allow header.";
    RateLimited = "rate_limited", "Too many requests.", "Wait as long as Retry-After says.";
    Overloaded = "overloaded", "The server has more work than it can do.", "Try again after a moment.";
    Unauthenticated = "unauthenticated", "The request carries no access token that is valid here.", "Refresh the token, or sign in.";
    TokenExpired = "token_expired", "The access token has expired.", "Refresh the token.";
    SessionEnded = "session_ended", "This session has ended.", "Sign in again; nothing on the device is lost.";
    DeviceRevoked = "device_revoked", "This device was revoked.", "Sign in again as a new device; nothing on the device is lost.";
    RecentSignInRequired = "recent_sign_in_required", "This needs the password again.", "Sign in again and repeat the request within five minutes.";
    Forbidden = "forbidden", "This session may not do that.", "Use a session with the right to do it.";
    InvalidLogin = "invalid_login", "The name, the password or the Secret Key is wrong.", "Check all three. The server cannot tell which it was.";
    KeysSuperseded = "keys_superseded", "The server was restored from a backup and has an earlier password or recovery key of this account.", "On a device that is in the account already, sign in with the earlier password and change it.";
    SecondFactorRequired = "second_factor_required", "A second factor is needed.", "Send a code from the authenticator app, or a recovery code.";
    SecondFactorInvalid = "second_factor_invalid", "The second factor was not right.", "Try the next code, or a recovery code.";
    AccountSuspended = "account_suspended", "This account is suspended.", "Ask the people who run this server.";
    TenantSuspended = "tenant_suspended", "This tenant is suspended.", "Ask the people who run this server.";
    RegistrationClosed = "registration_closed", "This server takes no new accounts.", "Ask the people who run this server.";
    InvitationRequired = "invitation_required", "New accounts need an invitation here.", "Ask the people who run this server for one.";
    InvitationInvalid = "invitation_invalid", "The invitation is unknown, used up, revoked or expired.", "Ask for a new one.";
    LoginNameTaken = "login_name_taken", "There is an account of this name.", "Sign in instead, or choose another name.";
    LogConflict = "log_conflict", "The account log has moved on.", "Fetch the log, look at what changed, and try again.";
    LogEntryRefused = "log_entry_refused", "An account log entry breaks the rules of the log.", "This is a bug in the client: please report it.";
    Conflict = "conflict", "The request does not fit the present state.", "Fetch the present state and try again.";
    LimitReached = "limit_reached", "A limit of the plan is reached.", "Remove something, or ask the people who run this server.";
    RecordConflict = "record_conflict", "Records were written meanwhile.", "Pull, merge the records that are listed, and push again.";
    StaleControl = "stale_ctl", "The vault's members or keys have changed.", "Pull, and sign the entry again.";
    StaleEpoch = "stale_epoch", "The vault has a newer key.", "Pull, seal the changes under the new key, and sign the entry again.";
    DeviceSequence = "dev_seq", "The entry is not this device's next one.", "Pull, and see whether it was taken before.";
    BadSeen = "bad_seen", "The entry was made after something this server does not have, or too long ago.", "Pull, and sign the entry again.";
    EntryRefused = "entry_refused", "The entry breaks the rules of the vault's log.", "This is a bug in the client, or the account may not do that; the detail says which rule.";
    ResyncFromCheckpoint = "resync_from_checkpoint", "The server no longer has the log from there on.", "Begin again from the newest checkpoint; unsynced work is kept.";
    QuotaExceeded = "quota_exceeded", "The space of the plan is used up.", "Remove something, or ask the people who run this server.";
    RestoreRefused = "restore_refused", "These entries do not lead to a head that this server signed.", "Offer what was acknowledged, and nothing else.";
    LinkExpired = "link_expired", "The link between the two devices has expired or was used.", "Start again on the signed-in device.";
    SignInExpired = "sign_in_expired", "The sign-in took too long or was finished before.", "Start the sign-in again.";
    Unavailable = "unavailable", "The server cannot reach what it needs.", "Try again after a moment.";
    Internal = "internal", "The server failed.", "Try again; if it persists, give the request id to the people who run this server.";
}

/// The one error body, in problem-details form (RFC 9457) with members of our own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct ErrorBody {
    /// The stable word.
    pub code: ErrorCode,
    /// The HTTP status, repeated.
    pub status: u16,
    /// One sentence for people, the same for every refusal with this code.
    pub title: String,
    /// What was wrong this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// What to do next.
    pub advice: String,
    /// Fields that were not valid.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldProblem>,
    /// Records that were written meanwhile.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conflicts: Vec<RecordConflict>,
    /// Seconds to wait before trying again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
    /// Names this request in the server's log.
    pub request_id: String,
}

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct FieldProblem {
    pub field: String,
    pub problem: String,
}

impl ErrorBody {
    pub fn new(code: ErrorCode, status: u16, request_id: impl Into<String>) -> Self {
        ErrorBody {
            code,
            status,
            title: code.title().into(),
            detail: None,
            advice: code.advice().into(),
            fields: Vec::new(),
            conflicts: Vec::new(),
            retry_after: None,
            request_id: request_id.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Face;

    #[test]
    fn a_new_word_reads_as_unknown() {
        assert_eq!(Face::Json.decode::<ErrorCode>(b"\"from_the_future\"").unwrap(), ErrorCode::Unknown);
        assert_eq!(Face::Cbor.decode::<ErrorCode>(b"\x6ffrom_the_future").unwrap(), ErrorCode::Unknown);
    }

    #[test]
    fn every_code_travels_in_both_faces() {
        for &code in ErrorCode::ALL {
            let body = ErrorBody::new(code, 400, "r");
            for face in [Face::Json, Face::Cbor] {
                assert_eq!(face.decode::<ErrorBody>(&face.encode(&body)).unwrap(), body);
            }
            assert_eq!(Face::Json.encode(&code), format!("\"{}\"", code.word()).into_bytes());
        }
    }
}
