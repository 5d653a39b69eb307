//! Bytes into messages, headers into faces and callers: at the door, once, within limits.
//!
//! Owns how a body is read (how much, how fast, in which face) and who is said to ask. Knows nothing of what the
//! messages mean.

use super::Rooms;
use super::error::ApiError;
use crate::auth::Caller;
use crate::limits::address::real_address;
use crate::limits::{Action, Key, Refused};
use actix_web::http::{StatusCode, header};
use actix_web::{HttpMessage as _, HttpRequest, HttpResponse, web};
use futures_util::StreamExt as _;
use selkie_protocol::account::Done;
use selkie_protocol::{ErrorCode, Face};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;
use std::time::Duration;
use tokio::sync::SemaphorePermit;
use tokio::time::Instant;

/// A slow sender is judged by its rate only after this.
const RATE_GRACE: Duration = Duration::from_secs(5);

/// Who is at the door: the request apart from its message.
pub struct Door {
    request: HttpRequest,
    rooms: web::Data<Rooms>,
    pub from: IpAddr,
    face: Face,
}

impl Door {
    /// Refuses if there is no face the client would take an answer in.
    pub(super) fn open(request: &HttpRequest) -> Result<Self, ApiError> {
        let rooms = rooms(request);
        let from = client_address(request, &rooms);
        let face = answer_face(request).ok_or_else(|| ApiError::new(ErrorCode::NotAcceptable))?;
        Ok(Door { request: request.clone(), rooms, from, face })
    }

    pub fn rooms(&self) -> &Rooms {
        &self.rooms
    }

    pub(super) fn rooms_handle(&self) -> web::Data<Rooms> {
        self.rooms.clone()
    }

    pub fn auth(&self) -> &crate::auth::Auth {
        &self.rooms.auth
    }

    pub fn logs(&self) -> &crate::sync::Logs {
        &self.rooms.logs
    }

    /// A part of the path.
    pub fn path<T: FromStr>(&self, name: &'static str) -> Result<T, ApiError> {
        let text = self.request.match_info().query(name);
        // Nothing can have such a name, so there is nothing here.
        text.parse().map_err(|_| ApiError::new(ErrorCode::NotFound))
    }

    /// A part of the query, if it is there.
    pub fn query<T: FromStr>(&self, name: &'static str) -> Result<Option<T>, ApiError> {
        let pairs = url::form_urlencoded::parse(self.request.query_string().as_bytes());
        let mut values = pairs.filter(|(key, _)| key == name).map(|(_, value)| value);
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(ApiError::field(name, "given twice"));
        }
        value.parse().map(Some).map_err(|_| ApiError::field(name, "not a value of this kind"))
    }

    /// Says who sent the request, by its access token.
    pub(super) async fn caller(&self) -> Result<Caller, ApiError> {
        let token = self.bearer_token().ok_or_else(|| ApiError::new(ErrorCode::Unauthenticated))?;
        let caller = self.rooms.auth.authenticate(token).await?;
        let keys = [Key::Account(caller.account_uuid()), Key::Tenant(caller.tenant_number())];
        self.rooms.limits.check(Action::Request, &keys, caller.plan()).inspect_err(Refused::note)?;
        self.request.extensions_mut().insert(CallerMark {
            account: crate::telemetry::account_tag(&self.rooms.master, caller.account_uuid()),
            tenant: caller.tenant_number(),
        });
        Ok(caller)
    }

    fn bearer_token(&self) -> Option<&str> {
        let value = self.request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    }

    /// The face the client asked for.
    pub(super) fn face(&self) -> Face {
        self.face
    }
}

/// Writes an answer down.
pub(super) fn answer<A: Serialize>(face: Face, status: StatusCode, answer: &A) -> HttpResponse {
    HttpResponse::build(status).content_type(face.content_type()).body(face.encode(answer))
}

/// What the log may know of a caller.
pub(super) struct CallerMark {
    pub(super) account: String,
    pub(super) tenant: i64,
}

/// What a route takes as its body.
pub trait Takes: Sized {
    /// Whether the route wants a body at all.
    const HAS_BODY: bool;
    fn from_bytes(face: Option<Face>, bytes: &[u8]) -> Result<Self, ApiError>;
}

/// A route that wants no message. An empty one is let pass.
pub struct Nothing;

impl Takes for Nothing {
    const HAS_BODY: bool = false;

    fn from_bytes(face: Option<Face>, bytes: &[u8]) -> Result<Self, ApiError> {
        if bytes.is_empty() {
            return Ok(Nothing);
        }
        Done::from_bytes(face, bytes).map(|_| Nothing)
    }
}

/// A message of the protocol.
impl<M: DeserializeOwned> Takes for M {
    const HAS_BODY: bool = true;

    fn from_bytes(face: Option<Face>, bytes: &[u8]) -> Result<Self, ApiError> {
        let face = face.ok_or_else(|| ApiError::new(ErrorCode::UnsupportedMediaType))?;
        face.decode(bytes).map_err(|problem| ApiError::new(ErrorCode::BadRequest).with_detail(problem.what))
    }
}

/// Reads a whole body, if it is short enough, comes fast enough, and is of a type we read.
pub(super) async fn message<T: Takes>(
    request: &HttpRequest,
    payload: web::Payload,
    limit: usize,
) -> Result<T, ApiError> {
    let face = match content_type(request) {
        None => None,
        Some(value) => {
            Some(Face::from_content_type(value).ok_or_else(|| ApiError::new(ErrorCode::UnsupportedMediaType))?)
        }
    };
    if let Some(encoding) = request.headers().get(header::CONTENT_ENCODING)
        && encoding != "identity"
    {
        return Err(ApiError::new(ErrorCode::UnsupportedMediaType).with_detail("bodies are sent as they are"));
    }
    let bytes = whole_body(request, payload, limit).await?;
    T::from_bytes(face, &bytes)
}

async fn whole_body(request: &HttpRequest, mut payload: web::Payload, limit: usize) -> Result<Vec<u8>, ApiError> {
    let too_large = || ApiError::new(ErrorCode::PayloadTooLarge);
    let announced = request.headers().get(header::CONTENT_LENGTH);
    let announced = announced.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(too_large());
    }
    let settings = &rooms(request).settings;
    let began = Instant::now();
    let mut bytes = Vec::new();
    loop {
        let earned = Duration::from_secs((bytes.len() / settings.min_body_rate.max(1)) as u64);
        let patience = settings.body_timeout.min(RATE_GRACE + earned);
        let chunk = tokio::time::timeout_at(began + patience, payload.next()).await;
        match chunk.map_err(|_| ApiError::new(ErrorCode::RequestTimeout))? {
            None => return Ok(bytes),
            Some(Err(_)) => return Err(ApiError::new(ErrorCode::BadRequest).with_detail("the body broke off")),
            Some(Ok(chunk)) if bytes.len() + chunk.len() > limit => return Err(too_large()),
            Some(Ok(chunk)) => bytes.extend_from_slice(&chunk),
        }
    }
}

/// Leave to cause work. It is taken only once a message is here, so that nobody holds it by sending slowly.
pub(super) fn permit(rooms: &Rooms) -> Result<SemaphorePermit<'_>, ApiError> {
    rooms.capacity.try_acquire().map_err(|_| ApiError::new(ErrorCode::Overloaded))
}

pub(super) fn rooms(request: &HttpRequest) -> web::Data<Rooms> {
    web::Data::clone(request.app_data::<web::Data<Rooms>>().expect("every app is configured with its rooms"))
}

/// The address the request came from, past the proxies that are declared as ours.
pub(super) fn client_address(request: &HttpRequest, rooms: &Rooms) -> IpAddr {
    let peer = request.peer_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip());
    let forwarded = request.headers().get_all("x-forwarded-for").filter_map(|value| value.to_str().ok());
    real_address(peer, forwarded, &rooms.settings.trusted_proxies)
}

/// The face for the answer: the one asked for, else the one spoken, else JSON. `None` if only others are accepted.
pub(super) fn answer_face(request: &HttpRequest) -> Option<Face> {
    let spoken = content_type(request).and_then(Face::from_content_type).unwrap_or(Face::Json);
    let mut accept = request.headers().get_all(header::ACCEPT).filter_map(|value| value.to_str().ok()).peekable();
    if accept.peek().is_none() {
        return Some(spoken);
    }
    let mut best: Option<(f32, Face)> = None;
    for range in accept.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let weight = parts.find_map(|part| part.strip_prefix("q=")).map_or(Some(1.0), |q| q.parse().ok());
        let face = match name.as_str() {
            "*/*" | "application/*" => Some(spoken),
            name => Face::from_content_type(name),
        };
        if let (Some(face), Some(weight)) = (face, weight)
            && weight > 0.0
            && best.is_none_or(|(heaviest, _)| weight > heaviest)
        {
            best = Some((weight, face));
        }
    }
    best.map(|(_, face)| face)
}

fn content_type(request: &HttpRequest) -> Option<&str> {
    request.headers().get(header::CONTENT_TYPE)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    #[test]
    fn the_answer_comes_in_the_face_that_was_asked_for() {
        for (accept, spoken, face) in [
            (None, None, Some(Face::Json)),
            (None, Some("application/cbor"), Some(Face::Cbor)),
            (Some("*/*"), Some("application/cbor"), Some(Face::Cbor)),
            (Some("*/*"), None, Some(Face::Json)),
            (Some("application/cbor"), Some("application/json"), Some(Face::Cbor)),
            (Some("text/html, application/json;q=0.5, application/cbor;q=0.9"), None, Some(Face::Cbor)),
            (Some("text/html,application/xhtml+xml,*/*;q=0.8"), None, Some(Face::Json)),
            (Some("text/html"), None, None),
            (Some("application/json;q=0"), None, None),
            (Some(""), None, None),
        ] {
            let mut request = TestRequest::default();
            if let Some(accept) = accept {
                request = request.insert_header((header::ACCEPT, accept));
            }
            if let Some(spoken) = spoken {
                request = request.insert_header((header::CONTENT_TYPE, spoken));
            }
            assert_eq!(answer_face(&request.to_http_request()), face, "{accept:?} {spoken:?}");
        }
    }
}
