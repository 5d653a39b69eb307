//! Why a door stays shut, in the words of this room. What becomes of it on the wire is decided in `http::error`.

use crate::store::{Refused, StoreError};
use std::error::Error;

pub type Result<T, E = Refusal> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// A field that is well-formed and still cannot be.
    #[error("{field}: {problem}")]
    Invalid { field: &'static str, problem: String },
    #[error("no such {0}")]
    NotFound(&'static str),

    #[error("the name, the password or the Secret Key is wrong")]
    InvalidLogin,
    #[error("the sign-in took too long or was finished before")]
    SignInExpired,
    #[error("a second factor is needed")]
    SecondFactorRequired,
    #[error("the second factor was not right")]
    SecondFactorInvalid,
    /// The log is ahead of the keys: after a restore it was put back, and they cannot be.
    #[error("the password or the recovery key is an earlier one")]
    KeysSuperseded,
    #[error("the account is suspended")]
    AccountSuspended,
    #[error("the tenant is suspended")]
    TenantSuspended,

    #[error("no new accounts")]
    RegistrationClosed,
    #[error("an invitation is needed")]
    InvitationRequired,
    #[error("the invitation is unknown, used up, revoked or expired")]
    InvitationInvalid,
    #[error("the login name is taken")]
    LoginNameTaken,

    #[error("no valid access token")]
    Unauthenticated,
    #[error("the access token has expired")]
    TokenExpired,
    #[error("the session has ended")]
    SessionEnded,
    #[error("the device was revoked")]
    DeviceRevoked,
    #[error("the password is needed again")]
    RecentSignInRequired,
    #[error("the session may not do that: {0}")]
    Forbidden(&'static str),

    #[error("the account log has moved on")]
    LogConflict,
    #[error("the account log does not take this: {0}")]
    LogEntryRefused(String),
    #[error("{0}")]
    Conflict(&'static str),
    #[error("the limit is reached: {0}")]
    LimitReached(&'static str),
    #[error("the link has expired or was used")]
    LinkExpired,
    #[error("too many requests")]
    TooMany(crate::limits::Refused),

    /// What the server needs cannot be reached just now.
    #[error("the store is not available")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
    /// Something of the server's own is not as it must be.
    #[error("the server is broken")]
    Broken(#[source] Box<dyn Error + Send + Sync>),
}

impl Refusal {
    pub(super) fn invalid(field: &'static str, problem: impl Into<String>) -> Self {
        Refusal::Invalid { field, problem: problem.into() }
    }

    /// Something of our own that should not be; the text is for our log.
    pub(super) fn broken(what: &'static str) -> Self {
        Refusal::Broken(what.into())
    }
}

/// What the store says about the state of things is said on in this room's words; its failures stay its own.
impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound(what) => Refusal::NotFound(what),
            StoreError::Refused(refused) => match refused {
                Refused::LoginNameTaken => Refusal::LoginNameTaken,
                Refused::InvitationInvalid => Refusal::InvitationInvalid,
                Refused::LogMoved => Refusal::LogConflict,
                Refused::AlreadyComplete => Refusal::Conflict("the account has its keys already"),
                Refused::LimitReached(what) => Refusal::LimitReached(what),
                Refused::SlugTaken => Refusal::Conflict("the name is taken"),
                Refused::LinkState => Refusal::LinkExpired,
                Refused::NotToBeDeleted => {
                    Refusal::Conflict("the account is not about to be deleted, or its hour has come")
                }
                Refused::CredentialChanged => Refusal::SignInExpired,
                Refused::SessionEnded => Refusal::SessionEnded,
                Refused::IdTaken(_) => Refusal::Conflict("an id of the request is known here already"),
            },
            failed @ StoreError::Unavailable(_) => Refusal::Unavailable(Box::new(failed)),
            failed @ StoreError::Internal(_) => Refusal::Broken(Box::new(failed)),
        }
    }
}

impl From<crate::secrets::DoesNotOpen> for Refusal {
    fn from(_: crate::secrets::DoesNotOpen) -> Self {
        Refusal::broken("a sealed value of the server's own does not open: is this its master key?")
    }
}
