//! Refusals into statuses and error bodies: the one place that knows statuses.
//!
//! Owns the single mapping from what a room said to what the world is told. A failure of the server's own is logged
//! once, with everything behind it; the caller gets the request's id.

use crate::auth::Refusal;
use crate::{limits, sync};
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, ResponseError};
use selkie_protocol::log;
use selkie_protocol::vault::RecordConflict;
use selkie_protocol::{ErrorBody, ErrorCode, FieldProblem};
use std::error::Error as StdError;

/// Why a request was not done, ready to be told.
#[derive(Debug)]
pub struct ApiError {
    pub code: ErrorCode,
    detail: Option<String>,
    fields: Vec<FieldProblem>,
    conflicts: Vec<RecordConflict>,
    limit: Option<limits::Refused>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl ApiError {
    pub fn new(code: ErrorCode) -> Self {
        ApiError { code, detail: None, fields: Vec::new(), conflicts: Vec::new(), limit: None, source: None }
    }

    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// A field of the address or the query that is not what it must be.
    pub fn field(field: &str, problem: &str) -> Self {
        let problem = FieldProblem { field: field.into(), problem: problem.into() };
        ApiError { fields: vec![problem], ..ApiError::new(ErrorCode::InvalidField) }
    }

    /// Records that were written meanwhile.
    pub fn conflicts(conflicts: Vec<RecordConflict>) -> Self {
        ApiError { conflicts, ..ApiError::new(ErrorCode::RecordConflict) }
    }

    /// What the framework itself refused, in our words.
    pub(super) fn from_status(status: StatusCode) -> Self {
        ApiError::new(match status {
            StatusCode::NOT_FOUND => ErrorCode::NotFound,
            StatusCode::METHOD_NOT_ALLOWED => ErrorCode::MethodNotAllowed,
            StatusCode::PAYLOAD_TOO_LARGE => ErrorCode::PayloadTooLarge,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => ErrorCode::UnsupportedMediaType,
            StatusCode::REQUEST_TIMEOUT => ErrorCode::RequestTimeout,
            StatusCode::NOT_ACCEPTABLE => ErrorCode::NotAcceptable,
            status if status.is_client_error() => ErrorCode::BadRequest,
            _ => ErrorCode::Internal,
        })
    }

    pub fn status(&self) -> StatusCode {
        status_of(self.code)
    }

    /// Seconds to wait before trying again.
    pub(super) fn retry_after(&self) -> Option<u64> {
        match self.code {
            ErrorCode::Overloaded | ErrorCode::Unavailable => Some(2),
            _ => self.limit.map(|limit| limit.retry_after),
        }
    }

    pub(super) fn limit(&self) -> Option<&limits::Refused> {
        self.limit.as_ref()
    }

    /// What went wrong underneath, for the log.
    pub(super) fn cause(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }

    pub(super) fn body(&self, request_id: &str) -> ErrorBody {
        let mut body = ErrorBody::new(self.code, self.status().as_u16(), request_id);
        body.detail.clone_from(&self.detail);
        body.fields.clone_from(&self.fields);
        body.conflicts.clone_from(&self.conflicts);
        body.retry_after = self.retry_after();
        body
    }
}

fn status_of(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::BadRequest | ErrorCode::InvalidField | ErrorCode::LogEntryRefused | ErrorCode::EntryRefused => {
            StatusCode::BAD_REQUEST
        }
        ErrorCode::Unauthenticated
        | ErrorCode::TokenExpired
        | ErrorCode::SessionEnded
        | ErrorCode::DeviceRevoked
        | ErrorCode::InvalidLogin
        | ErrorCode::SecondFactorRequired
        | ErrorCode::SecondFactorInvalid
        | ErrorCode::SignInExpired => StatusCode::UNAUTHORIZED,
        ErrorCode::Forbidden
        | ErrorCode::RecentSignInRequired
        | ErrorCode::KeysSuperseded
        | ErrorCode::AccountSuspended
        | ErrorCode::TenantSuspended
        | ErrorCode::RegistrationClosed
        | ErrorCode::InvitationRequired
        | ErrorCode::InvitationInvalid
        | ErrorCode::LimitReached
        | ErrorCode::QuotaExceeded => StatusCode::FORBIDDEN,
        ErrorCode::NotFound => StatusCode::NOT_FOUND,
        ErrorCode::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        ErrorCode::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
        ErrorCode::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
        ErrorCode::LoginNameTaken
        | ErrorCode::LogConflict
        | ErrorCode::Conflict
        | ErrorCode::RecordConflict
        | ErrorCode::StaleControl
        | ErrorCode::StaleEpoch
        | ErrorCode::DeviceSequence
        | ErrorCode::BadSeen
        | ErrorCode::RestoreRefused => StatusCode::CONFLICT,
        ErrorCode::LinkExpired | ErrorCode::ResyncFromCheckpoint => StatusCode::GONE,
        ErrorCode::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorCode::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ErrorCode::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::Overloaded | ErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::Internal | ErrorCode::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let detail = |code, detail: String| ApiError::new(code).with_detail(detail);
        match refusal {
            Refusal::Invalid { field, problem } => ApiError::field(field, &problem),
            Refusal::NotFound(what) => detail(ErrorCode::NotFound, format!("no such {what}")),
            Refusal::InvalidLogin => ApiError::new(ErrorCode::InvalidLogin),
            Refusal::SignInExpired => ApiError::new(ErrorCode::SignInExpired),
            Refusal::SecondFactorRequired => ApiError::new(ErrorCode::SecondFactorRequired),
            Refusal::SecondFactorInvalid => ApiError::new(ErrorCode::SecondFactorInvalid),
            Refusal::KeysSuperseded => ApiError::new(ErrorCode::KeysSuperseded),
            Refusal::AccountSuspended => ApiError::new(ErrorCode::AccountSuspended),
            Refusal::TenantSuspended => ApiError::new(ErrorCode::TenantSuspended),
            Refusal::RegistrationClosed => ApiError::new(ErrorCode::RegistrationClosed),
            Refusal::InvitationRequired => ApiError::new(ErrorCode::InvitationRequired),
            Refusal::InvitationInvalid => ApiError::new(ErrorCode::InvitationInvalid),
            Refusal::LoginNameTaken => ApiError::new(ErrorCode::LoginNameTaken),
            Refusal::Unauthenticated => ApiError::new(ErrorCode::Unauthenticated),
            Refusal::TokenExpired => ApiError::new(ErrorCode::TokenExpired),
            Refusal::SessionEnded => ApiError::new(ErrorCode::SessionEnded),
            Refusal::DeviceRevoked => ApiError::new(ErrorCode::DeviceRevoked),
            Refusal::RecentSignInRequired => ApiError::new(ErrorCode::RecentSignInRequired),
            Refusal::Forbidden(what) => detail(ErrorCode::Forbidden, what.to_owned()),
            Refusal::LogConflict => ApiError::new(ErrorCode::LogConflict),
            Refusal::LogEntryRefused(why) => detail(ErrorCode::LogEntryRefused, why),
            Refusal::Conflict(what) => detail(ErrorCode::Conflict, what.to_owned()),
            Refusal::LimitReached(what) => detail(ErrorCode::LimitReached, what.to_owned()),
            Refusal::LinkExpired => ApiError::new(ErrorCode::LinkExpired),
            Refusal::TooMany(limit) => ApiError::from(limit),
            Refusal::Unavailable(source) => ApiError { source: Some(source), ..ApiError::new(ErrorCode::Unavailable) },
            Refusal::Broken(source) => ApiError { source: Some(source), ..ApiError::new(ErrorCode::Internal) },
        }
    }
}

impl From<sync::Refusal> for ApiError {
    fn from(refusal: sync::Refusal) -> Self {
        use sync::Refusal as R;
        let detail = |code, detail: String| ApiError::new(code).with_detail(detail);
        match refusal {
            R::NotFound(what) => detail(ErrorCode::NotFound, format!("no such {what}")),
            R::Forbidden(what) => detail(ErrorCode::Forbidden, what.to_owned()),
            R::Invalid { field, problem } => ApiError::field(field, &problem),
            R::Rule(rule) => ApiError::from(rule),
            R::RestoreRefused(why) => detail(ErrorCode::RestoreRefused, why.to_owned()),
            R::QuotaExceeded => ApiError::new(ErrorCode::QuotaExceeded),
            R::LimitReached(what) => detail(ErrorCode::LimitReached, what.to_owned()),
            R::Conflict(what) => detail(ErrorCode::Conflict, what.to_owned()),
            R::TooMany(limit) => ApiError::from(limit),
            R::Overloaded => ApiError::new(ErrorCode::Overloaded),
            R::Unavailable(source) => {
                ApiError { source: Some(Box::new(source)), ..ApiError::new(ErrorCode::Unavailable) }
            }
            R::Broken(source) => ApiError { source: Some(Box::new(source)), ..ApiError::new(ErrorCode::Internal) },
        }
    }
}

/// The rules of a vault's log, where an honest client can meet them. Others it can only break.
impl From<log::Refusal> for ApiError {
    fn from(rule: log::Refusal) -> Self {
        use log::Refusal as R;
        let code = match &rule {
            R::NotAMember => return ApiError::new(ErrorCode::NotFound).with_detail("no such vault"),
            R::Conflict(conflicts) => {
                let conflicts = conflicts.iter().map(|conflict| RecordConflict {
                    rid: conflict.record,
                    heads: conflict.heads.iter().map(|head| head.0.into()).collect(),
                });
                return ApiError::conflicts(conflicts.collect());
            }
            R::StaleControl => ErrorCode::StaleControl,
            R::StaleEpoch { .. } => ErrorCode::StaleEpoch,
            R::Repeated { .. } | R::DeviceSequence { .. } | R::DevicePrevious => ErrorCode::DeviceSequence,
            R::BadSeen { .. } | R::Fork { .. } => ErrorCode::BadSeen,
            // It names a person, which an error need not.
            R::AccountLogNeeded { .. } | R::AccountForked { .. } => {
                let why = "an anchor is not in the account log that this server has";
                return ApiError::new(ErrorCode::EntryRefused).with_detail(why);
            }
            _ => ErrorCode::EntryRefused,
        };
        ApiError::new(code).with_detail(rule.to_string())
    }
}

impl From<limits::Refused> for ApiError {
    fn from(limit: limits::Refused) -> Self {
        ApiError { limit: Some(limit), ..ApiError::new(ErrorCode::RateLimited) }
    }
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.code.title())
    }
}

impl StdError for ApiError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause()
    }
}

/// The body is written by the envelope, which knows the request's id and face.
impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.status()
    }

    fn error_response(&self) -> HttpResponse {
        HttpResponse::new(self.status())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_status_that_says_whose_move_it_is() {
        for &code in ErrorCode::ALL {
            let status = status_of(code);
            let ours = matches!(code, ErrorCode::Overloaded | ErrorCode::Unavailable | ErrorCode::Internal);
            assert_eq!(status.is_server_error(), ours, "{code:?}");
            assert!(status.is_client_error() || ours, "{code:?}");
        }
    }
}
