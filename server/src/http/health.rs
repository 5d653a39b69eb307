//! Whether the process lives, whether it can work, and what it counts: for machines that watch it.

use super::Rooms;
use super::error::ApiError;
use super::extract;
use crate::telemetry;
use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use selkie_protocol::ErrorCode;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use subtle::ConstantTimeEq as _;

/// A watcher that waits longer has given us up already.
const PATIENCE: Duration = Duration::from_secs(3);
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The answer to `GET /readyz`: each thing the server needs, and `"ok"` or the reason why it is not.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Readiness {
    pub ready: bool,
    pub database: String,
    pub blobs: String,
}

/// `GET /healthz`: the process answers.
pub(super) async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(serde_json::json!({ "alive": true }))
}

/// `GET /readyz`: the database and the blob store answer.
pub(super) async fn readyz(request: HttpRequest) -> HttpResponse {
    let rooms = extract::rooms(&request);
    let readiness = readiness(&rooms).await;
    let ready = readiness.ready;
    let mut response = if ready { HttpResponse::Ok() } else { HttpResponse::ServiceUnavailable() };
    // Not an error body: the machines that ask want the parts.
    response.content_type(if ready { "application/json" } else { "application/problem+json" }).json(readiness)
}

/// What was found, for as long as it is good. Who comes meanwhile waits for the one who looks: anybody may ask, and all
/// of them together cause the work of one.
#[derive(Debug, Default)]
pub struct LastLook(tokio::sync::Mutex<Option<(i64, Readiness)>>);

const GOOD_FOR_MS: i64 = 1_000;

async fn readiness(rooms: &Rooms) -> Readiness {
    let mut last = rooms.last_look.0.lock().await;
    let now = rooms.edges.now_ms();
    if let Some((at, readiness)) = &*last
        && (*at..at.saturating_add(GOOD_FOR_MS)).contains(&now)
    {
        return readiness.clone();
    }
    let (database, blobs) = tokio::join!(database(rooms), blobs(rooms));
    let ready = database.is_ok() && blobs.is_ok();
    let word = |part: Result<(), &str>| part.err().unwrap_or("ok").to_owned();
    let readiness = Readiness { ready, database: word(database), blobs: word(blobs) };
    *last = Some((now, readiness.clone()));
    readiness
}

/// `GET /metrics` on the main listener, for who has the token.
pub(super) async fn metrics(request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let rooms = extract::rooms(&request);
    let Some(token) = &rooms.settings.metrics_token else {
        return Err(ApiError::new(ErrorCode::NotFound));
    };
    let shown = request.headers().get(header::AUTHORIZATION).map_or(&b""[..], |value| value.as_bytes());
    let expected = format!("Bearer {}", token.reveal());
    if !bool::from(shown.ct_eq(expected.as_bytes())) {
        return Err(ApiError::new(ErrorCode::Unauthenticated));
    }
    Ok(HttpResponse::Ok().content_type(TEXT).body(telemetry::metrics().render()))
}

/// The metrics on a listener of their own, which the operator keeps from strangers.
pub fn metrics_app(config: &mut web::ServiceConfig) {
    config.service(
        web::resource("/metrics")
            .route(web::get().to(async || HttpResponse::Ok().content_type(TEXT).body(telemetry::metrics().render()))),
    );
}

/// The reason is in our log; strangers are told only which part it is.
async fn database(rooms: &Rooms) -> Result<(), &'static str> {
    match tokio::time::timeout(PATIENCE, rooms.auth.store_answers()).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err("the database does not answer as it should"),
        Err(_) => Err("the database does not answer in time"),
    }
}

async fn blobs(rooms: &Rooms) -> Result<(), &'static str> {
    match tokio::time::timeout(PATIENCE, rooms.blobs.probe()).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err("the blob store cannot be used"),
        Err(_) => Err("the blob store does not answer in time"),
    }
}
