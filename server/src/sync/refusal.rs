//! Why something may not enter a vault's log or be read from it, in the words of this room. What becomes of it on the
//! wire is decided in `http::error`.

use crate::limits;
use crate::store::{Refused, StoreError};
use selkie_protocol::log;
use std::error::Error;
use std::sync::Arc;

pub type Result<T, E = Refusal> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// There is no such thing, or none that the asker may know of.
    #[error("no such {0}")]
    NotFound(&'static str),
    #[error("the session may not do that: {0}")]
    Forbidden(&'static str),
    #[error("{field}: {problem}")]
    Invalid { field: &'static str, problem: String },
    /// The rules of the log, which say themselves what is wrong.
    #[error(transparent)]
    Rule(#[from] log::Refusal),
    #[error("these entries do not lead to a head that this server signed: {0}")]
    RestoreRefused(&'static str),
    #[error("the space of the plan is used up")]
    QuotaExceeded,
    #[error("the limit is reached: {0}")]
    LimitReached(&'static str),
    #[error("{0}")]
    Conflict(&'static str),
    #[error("too many requests")]
    TooMany(limits::Refused),
    /// More work is waiting than will be done soon.
    #[error("the server has more work than it can do")]
    Overloaded,
    /// What the server needs cannot be reached just now. Shared: one failure may be the answer to many pushes.
    #[error("the store is not available")]
    Unavailable(#[source] Arc<dyn Error + Send + Sync>),
    /// Something of the server's own is not as it must be.
    #[error("the server is broken")]
    Broken(#[source] Arc<dyn Error + Send + Sync>),
}

impl Refusal {
    pub(super) fn invalid(field: &'static str, problem: impl Into<String>) -> Self {
        Refusal::Invalid { field, problem: problem.into() }
    }

    /// Something of our own that should not be; the text is for our log.
    pub(super) fn broken(what: &'static str) -> Self {
        Refusal::Broken(Arc::from(Box::<dyn Error + Send + Sync>::from(what)))
    }

    /// The same failure, for the next one who waited for it. Refusals of a single push are not shared.
    pub(super) fn shared(&self) -> Self {
        match self {
            Refusal::Unavailable(source) => Refusal::Unavailable(source.clone()),
            Refusal::Broken(source) => Refusal::Broken(source.clone()),
            Refusal::NotFound(what) => Refusal::NotFound(what),
            _ => Refusal::Overloaded,
        }
    }
}

impl From<limits::Refused> for Refusal {
    fn from(refused: limits::Refused) -> Self {
        Refusal::TooMany(refused)
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound(what) => Refusal::NotFound(what),
            StoreError::Refused(Refused::LimitReached(what)) => Refusal::LimitReached(what),
            StoreError::Refused(Refused::IdTaken(_)) => Refusal::Conflict("an id of the request is known here already"),
            StoreError::Refused(_) => Refusal::Conflict("the request does not fit what is there"),
            failed @ StoreError::Unavailable(_) => Refusal::Unavailable(Arc::new(failed)),
            failed @ StoreError::Internal(_) => Refusal::Broken(Arc::new(failed)),
        }
    }
}
