//! What every request goes through: its id, its limit, its log line, the headers of its answer.
//!
//! Owns everything that is the same for all routes, the shape of errors included, whoever made them: a handler, the
//! framework or a panic. Knows nothing of any route.

use super::error::ApiError;
use super::extract::{self, CallerMark};
use super::{Connection, Rooms};
use crate::limits::{Action, Key, PlanFactor};
use crate::telemetry;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::error::InternalError;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{ConnectionType, Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{HttpMessage as _, HttpResponse, web};
use futures_util::FutureExt as _;
use selkie_protocol::{ErrorCode, Face};
use std::panic::AssertUnwindSafe;
use std::time::Instant;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// What a browser's script may read of an answer from another origin.
const EXPOSED: &str = "x-request-id, retry-after, ratelimit-limit, ratelimit-remaining, ratelimit-reset, allow";
/// Asked by machines of ours, which must be told even when everything is busy. All else is counted.
const WATCHED: [&str; 3] = ["/healthz", "/readyz", "/metrics"];
const CORS_MAX_AGE: &str = "600";

/// What the log will say, and what an error body needs.
struct Envelope {
    rooms: web::Data<Rooms>,
    request_id: String,
    method: Method,
    face: Face,
    origin: Option<HeaderValue>,
    began: Instant,
}

/// The middleware around everything. An app is not whole without it.
pub async fn envelope<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let rooms = extract::rooms(request.request());
    let envelope = Envelope {
        request_id: selkie_protocol::bytes::to_base64url(&rooms.edges.bytes::<12>()),
        method: request.method().clone(),
        face: extract::answer_face(request.request()).unwrap_or(Face::Json),
        origin: allowed_origin(&request, &rooms),
        began: Instant::now(),
        rooms,
    };
    if let Some(preflight) = envelope.preflight(&request) {
        return Ok(request.into_response(preflight));
    }
    if !has_room_for_connection(&request, &envelope.rooms) {
        let mut refused = envelope.refused(request, ApiError::new(ErrorCode::Overloaded));
        refused.response_mut().head_mut().set_connection_type(ConnectionType::Close);
        return Ok(refused);
    }
    // The path as it was sent, percent signs and all: however a path of the API is written, it is none of these.
    let is_watcher = WATCHED.contains(&request.path());
    let from = extract::client_address(request.request(), &envelope.rooms);
    let mut standing = None;
    if !is_watcher {
        match envelope.rooms.limits.check(Action::Request, &[Key::Address(from)], PlanFactor::ONE) {
            Ok(now) => standing = now,
            Err(refused) => {
                refused.note();
                return Ok(envelope.refused(request, refused.into()));
            }
        }
    }
    // A panic leaves the handler's own state behind, and no other's: each request has its own.
    let outcome = AssertUnwindSafe(next.call(request)).catch_unwind().await;
    match outcome {
        Ok(Ok(response)) => {
            let mut response = envelope.answered(response.map_into_boxed_body());
            for (name, value) in standing.iter().flat_map(crate::limits::Standing::headers) {
                set(response.headers_mut(), HeaderName::from_static(lower(name)), &value);
            }
            Ok(response)
        }
        Ok(Err(error)) => {
            let api_error = ApiError::from_status(error.as_response_error().status_code());
            Err(InternalError::from_response(error, envelope.finished(api_error, None)).into())
        }
        Err(_) => {
            let response = envelope.finished(ApiError::new(ErrorCode::Internal), None);
            Err(InternalError::from_response("a handler panicked", response).into())
        }
    }
}

impl Envelope {
    fn refused(&self, request: ServiceRequest, error: ApiError) -> ServiceResponse<BoxBody> {
        request.into_response(self.finished(error, None))
    }

    /// Gives a response its headers, and, if it is an error, its body.
    fn answered(&self, response: ServiceResponse<BoxBody>) -> ServiceResponse<BoxBody> {
        let route = response.request().match_pattern();
        let caller = response.request().extensions_mut().remove::<CallerMark>();
        let (request, mut response) = response.into_parts();
        if response.status().is_client_error() || response.status().is_server_error() {
            let error = match response.error().and_then(|error| error.as_error::<ApiError>()) {
                Some(error) => self.rendered(error),
                None if is_problem(&response) => response,
                None => {
                    let allow = response.headers().get(header::ALLOW).cloned();
                    let mut rendered = self.rendered(&ApiError::from_status(response.status()));
                    if let Some(allow) = allow {
                        rendered.headers_mut().insert(header::ALLOW, allow);
                    }
                    rendered
                }
            };
            response = error;
        }
        self.common_headers(response.headers_mut());
        self.log(response.status(), route.as_deref(), caller.as_ref());
        ServiceResponse::new(request, response)
    }

    fn finished(&self, error: ApiError, route: Option<&str>) -> HttpResponse {
        let mut response = self.rendered(&error);
        self.common_headers(response.headers_mut());
        self.log(response.status(), route, None);
        response
    }

    /// Writes an error down, and logs what is behind it if it is a failure of ours.
    fn rendered(&self, error: &ApiError) -> HttpResponse {
        if let Some(cause) = error.cause() {
            tracing::error!(
                request_id = self.request_id,
                code = error.code.word(),
                error = %telemetry::chain(cause),
                "the server failed"
            );
        }
        let body = self.face.encode(&error.body(&self.request_id));
        let mut response = HttpResponse::build(error.status()).content_type(self.face.problem_type()).body(body);
        let headers = response.headers_mut();
        if let Some(limit) = error.limit() {
            for (name, value) in limit.headers() {
                set(headers, HeaderName::from_static(lower(name)), &value);
            }
        } else if let Some(seconds) = error.retry_after() {
            set(headers, header::RETRY_AFTER, &seconds.to_string());
        }
        if error.status() == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }

    fn common_headers(&self, headers: &mut HeaderMap) {
        set(headers, REQUEST_ID, &self.request_id);
        for (name, value) in [
            (header::CACHE_CONTROL, "no-store"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::X_FRAME_OPTIONS, "DENY"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        if let Some(age) = self.rooms.settings.hsts {
            set(headers, header::STRICT_TRANSPORT_SECURITY, &format!("max-age={}", age.as_secs()));
        }
        headers.append(header::VARY, HeaderValue::from_static("Accept"));
        if !self.rooms.settings.cors_origins.is_empty() {
            headers.append(header::VARY, HeaderValue::from_static("Origin"));
        }
        if let Some(origin) = &self.origin {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
        }
    }

    /// Answers a browser that asks whether it may ask.
    fn preflight(&self, request: &ServiceRequest) -> Option<HttpResponse> {
        let asks = self.method == Method::OPTIONS
            && self.origin.is_some()
            && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        asks.then(|| {
            let mut response = HttpResponse::NoContent()
                .insert_header((header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST"))
                .insert_header((header::ACCESS_CONTROL_ALLOW_HEADERS, "authorization, content-type, accept"))
                .insert_header((header::ACCESS_CONTROL_MAX_AGE, CORS_MAX_AGE))
                .finish();
            self.common_headers(response.headers_mut());
            response
        })
    }

    /// One line a request. What may stand in it is on `telemetry`'s list, and nothing of it names a person.
    fn log(&self, status: StatusCode, route: Option<&str>, caller: Option<&CallerMark>) {
        let took = self.began.elapsed();
        let route = route.unwrap_or("none");
        tracing::info!(
            request_id = self.request_id,
            method = self.method.as_str(),
            route,
            status = status.as_u16(),
            ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            account = caller.map(|caller| caller.account.as_str()),
            tenant = caller.map(|caller| caller.tenant),
            "request"
        );
        let labels = [
            ("method", known_method(&self.method).to_owned()),
            ("route", route.to_owned()),
            ("status", status.as_u16().to_string()),
        ];
        metrics::counter!("selkie_http_requests_total", &labels).increment(1);
        metrics::histogram!("selkie_http_request_seconds", "route" => route.to_owned()).record(took.as_secs_f64());
    }
}

/// A method is whatever a stranger writes: only known ones become names of metrics.
fn known_method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

fn has_room_for_connection(request: &ServiceRequest, rooms: &Rooms) -> bool {
    let (Some(connection), Some(peer)) = (request.conn_data::<Connection>(), request.peer_addr()) else {
        return true;
    };
    let ours = rooms.settings.trusted_proxies.iter().any(|proxy| proxy.contains(peer.ip()));
    ours || connection.is_admitted(&rooms.connections, peer.ip())
}

/// Exact origins from the configuration; nothing is reflected that is not on the list.
fn allowed_origin(request: &ServiceRequest, rooms: &Rooms) -> Option<HeaderValue> {
    let origin = request.headers().get(header::ORIGIN)?;
    let text = origin.to_str().ok()?;
    rooms.settings.cors_origins.iter().any(|allowed| allowed == text).then(|| origin.clone())
}

fn is_problem(response: &HttpResponse<BoxBody>) -> bool {
    let content_type = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type.is_some_and(|value| value.starts_with("application/problem+"))
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    // The values are numbers and base64url, which are always valid in a header.
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// The names of the limiter's headers, as HTTP/2 wants them.
fn lower(name: &'static str) -> &'static str {
    match name {
        "Retry-After" => "retry-after",
        "RateLimit-Limit" => "ratelimit-limit",
        "RateLimit-Remaining" => "ratelimit-remaining",
        "RateLimit-Reset" => "ratelimit-reset",
        other => other,
    }
}
