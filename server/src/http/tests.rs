//! The server as the world sees it: status, headers, body.

mod bad_input;
mod bare_client;
mod described;
mod envelope;
mod unknown_names;
mod vaults;

use super::{Rooms, configure, envelope::envelope as around};
use crate::testing::House;
use actix_web::body::BoxBody;
use actix_web::dev::{Service, ServiceResponse};
use actix_web::http::header::HeaderMap;
use actix_web::http::{Method, StatusCode, header};
use actix_web::middleware::from_fn;
use actix_web::test::{TestRequest, init_service, read_body};
use actix_web::{App, web};
use selkie_protocol::{ErrorBody, Face};
use serde_json::Value;
use std::net::SocketAddr;

/// What came back.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// The error body, which must agree with the status and the header around it.
    fn error(&self) -> ErrorBody {
        let text = String::from_utf8_lossy(&self.body);
        let error: ErrorBody = Face::Json.decode(&self.body).unwrap_or_else(|_| panic!("not our error body: {text}"));
        assert_eq!(error.status, self.status.as_u16());
        assert_eq!(self.headers.get("x-request-id").unwrap().to_str().unwrap(), error.request_id);
        assert_eq!(self.headers.get(header::CONTENT_TYPE).unwrap(), "application/problem+json");
        error
    }
}

/// Sends a request to a server made from these rooms.
async fn send(rooms: &web::Data<Rooms>, request: TestRequest) -> Answer {
    let app = init_service(App::new().app_data(rooms.clone()).configure(configure).wrap(from_fn(around))).await;
    let request = request.peer_addr(SocketAddr::from(([192, 0, 2, 7], 4711))).to_request();
    let response: ServiceResponse<BoxBody> = match app.call(request).await {
        Ok(response) => response,
        Err(error) => {
            let response = error.error_response();
            ServiceResponse::new(TestRequest::default().to_http_request(), response)
        }
    };
    let (status, headers) = (response.status(), response.headers().clone());
    Answer { status, headers, body: read_body(response).await.to_vec() }
}

async fn post(rooms: &web::Data<Rooms>, path: &str, body: &Value) -> Answer {
    send(rooms, TestRequest::post().uri(path).set_json(body)).await
}

async fn get(rooms: &web::Data<Rooms>, path: &str) -> Answer {
    send(rooms, TestRequest::with_uri(path).method(Method::GET)).await
}

impl House {
    fn rooms(&self) -> web::Data<Rooms> {
        web::Data::new(self.app.rooms(false))
    }
}
