//! What is the same for every answer.

use super::{configure, get, send};
use crate::http::envelope::envelope as around;
use crate::testing::{House, Person};
use actix_web::dev::{Payload, Service as _};
use actix_web::error::PayloadError;
use actix_web::http::{Method, StatusCode, header};
use actix_web::middleware::from_fn;
use actix_web::test::{TestRequest, init_service};
use actix_web::{App, HttpResponse, web};
use futures_util::FutureExt as _;
use selkie_protocol::{ErrorBody, Face};

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_the_framework_have_our_body_too() {
    let house = House::open().await;
    let rooms = house.rooms();
    assert_eq!(get(&rooms, "/nowhere").await.error().code.word(), "not_found");
    let wrong = send(&rooms, TestRequest::with_uri("/v1/auth/login/start").method(Method::GET)).await;
    assert_eq!(wrong.error().code.word(), "method_not_allowed");
    assert_eq!(wrong.headers.get(header::ALLOW).unwrap(), "POST");
    let both = send(&rooms, TestRequest::with_uri("/v1/account/devices").method(Method::DELETE)).await;
    let allow = both.headers.get(header::ALLOW).unwrap().to_str().unwrap().to_owned();
    assert!(allow.contains("GET") && allow.contains("POST"), "{allow}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_comes_in_the_face_that_is_asked_for_errors_included() {
    let house = House::open().await;
    let rooms = house.rooms();
    let request = TestRequest::with_uri("/v1/account").insert_header((header::ACCEPT, "application/cbor"));
    let answer = send(&rooms, request).await;
    assert_eq!(answer.headers.get(header::CONTENT_TYPE).unwrap(), "application/problem+cbor");
    assert_eq!(Face::Cbor.decode::<ErrorBody>(&answer.body).unwrap().status, 401);
    let request = TestRequest::with_uri("/v1/capabilities").insert_header((header::ACCEPT, "text/html"));
    assert_eq!(send(&rooms, request).await.error().code.word(), "not_acceptable");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_kept_out_of_caches_and_frames_and_has_an_id_of_ours() {
    let house = House::open().await;
    let rooms = house.rooms();
    let request = TestRequest::with_uri("/v1/capabilities").insert_header(("x-request-id", "chosen-by-a-client"));
    let answer = send(&rooms, request).await;
    for (name, value) in [
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
    ] {
        assert_eq!(answer.headers.get(name).unwrap(), value);
    }
    let id = answer.headers.get("x-request-id").unwrap().to_str().unwrap();
    assert_eq!(id.len(), 16);
    assert_ne!(id, "chosen-by-a-client");
    assert!(!answer.headers.contains_key(header::STRICT_TRANSPORT_SECURITY), "only where there is TLS");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_origins_on_the_list_may_read_answers() {
    let house = House::open_with(|config| config.cors.origins = vec!["https://app.example.org".into()]).await;
    let rooms = house.rooms();
    let ask = |origin: &'static str| {
        TestRequest::with_uri("/v1/account")
            .method(Method::OPTIONS)
            .insert_header((header::ORIGIN, origin))
            .insert_header((header::ACCESS_CONTROL_REQUEST_METHOD, "GET"))
    };
    let allowed = send(&rooms, ask("https://app.example.org")).await;
    assert_eq!(allowed.status, StatusCode::NO_CONTENT);
    assert_eq!(allowed.headers.get(header::ACCESS_CONTROL_ALLOW_ORIGIN).unwrap(), "https://app.example.org");
    assert!(!allowed.headers.contains_key(header::ACCESS_CONTROL_ALLOW_CREDENTIALS));
    for stranger in ["https://app.example.org.evil.example", "http://app.example.org", "null", "*"] {
        let refused = send(&rooms, ask(stranger)).await;
        assert_eq!(refused.status, StatusCode::METHOD_NOT_ALLOWED);
        assert!(!refused.headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN), "{stranger}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_becomes_our_error_and_the_server_goes_on() {
    let house = House::open().await;
    let panicking = web::resource("/v1/panic").route(web::get().to(|| async {
        if true {
            panic!("the canary's name");
        }
        HttpResponse::Ok().finish()
    }));
    let app = App::new().app_data(house.rooms()).service(panicking).wrap(from_fn(around));
    let app = init_service(app).await;
    for _ in 0..2 {
        let request = TestRequest::with_uri("/v1/panic").to_request();
        let error = app.call(request).await.unwrap_err();
        let response = error.error_response();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(response.headers().contains_key("x-request-id"));
        let body = actix_web::body::to_bytes(response.into_body()).await.unwrap();
        assert!(!String::from_utf8_lossy(&body).contains("canary"));
        assert_eq!(Face::Json.decode::<ErrorBody>(&body).unwrap().code.word(), "internal");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_told_when_to_come_back() {
    let house = House::open_with(|config| config.limits.request_per_address = "2/min burst 2".parse().unwrap()).await;
    let rooms = house.rooms();
    for left in ["1", "0"] {
        let answer = get(&rooms, "/v1/capabilities").await;
        assert_eq!(answer.headers.get("ratelimit-remaining").unwrap(), left);
    }
    let refused = get(&rooms, "/v1/capabilities").await;
    let error = refused.error();
    assert_eq!(error.code.word(), "rate_limited");
    assert_eq!(
        refused.headers.get(header::RETRY_AFTER).unwrap().to_str().unwrap(),
        error.retry_after.unwrap().to_string()
    );
    assert_eq!(get(&rooms, "/readyz").await.status, StatusCode::OK, "our own watchers are not counted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_is_counted_however_it_is_written() {
    let house = House::open_with(|config| config.limits.request_per_address = "1/hour".parse().unwrap()).await;
    let rooms = house.rooms();
    assert_eq!(get(&rooms, "/%761/capabilities").await.status, StatusCode::OK, "the same route");
    for path in ["/%761/capabilities", "/v%31/capabilities", "/%72eadyz", "/nowhere"] {
        assert_eq!(get(&rooms, path).await.error().code.word(), "rate_limited", "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_sends_slowly_takes_nobody_s_place() {
    let house = House::open_with(|config| config.http.max_concurrent_requests = 1).await;
    let rooms = house.rooms();
    let app = init_service(App::new().app_data(rooms.clone()).configure(configure).wrap(from_fn(around))).await;
    let (send_rest, rest) = tokio::sync::oneshot::channel::<()>();
    let body = futures_util::stream::once(async move {
        rest.await.unwrap();
        let (_, message) = Person::new("ana").login_start();
        Ok::<_, PayloadError>(web::Bytes::from(serde_json::to_vec(&message).unwrap()))
    });
    let json = (header::CONTENT_TYPE, "application/json");
    let mut slow = TestRequest::post().uri("/v1/auth/login/start").insert_header(json).to_request();
    *slow.payload() = Payload::Stream { payload: Box::pin(body) };
    let mut slow = std::pin::pin!(app.call(slow));
    assert!(slow.as_mut().now_or_never().is_none(), "its body is still on its way");
    assert_eq!(get(&rooms, "/v1/capabilities").await.status, StatusCode::OK);

    let _all = rooms.capacity.try_acquire().unwrap();
    assert_eq!(get(&rooms, "/v1/capabilities").await.error().code.word(), "overloaded");
    send_rest.send(()).unwrap();
    let refused = slow.await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE, "it needs a place once it is here");
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_for_who_has_the_token() {
    let house = House::open().await;
    assert_eq!(get(&house.rooms(), "/metrics").await.error().code.word(), "not_found");
    let house = House::open_with(|config| config.metrics.token = Some(crate::config::Secret::new("let me see"))).await;
    let rooms = house.rooms();
    assert_eq!(get(&rooms, "/metrics").await.status, StatusCode::UNAUTHORIZED);
    let request = TestRequest::with_uri("/metrics").insert_header((header::AUTHORIZATION, "Bearer let me see"));
    assert_eq!(send(&rooms, request).await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn whether_it_is_ready_is_looked_up_once_a_second_however_many_ask() {
    let mut house = House::open().await;
    let store = house.count_store_calls().await;
    let rooms = house.rooms();
    store.take();
    for _ in 0..10 {
        assert_eq!(get(&rooms, "/readyz").await.status, StatusCode::OK);
    }
    assert_eq!(store.take(), ["ping"]);
    house.clock.pass(1_000);
    get(&rooms, "/readyz").await;
    assert_eq!(store.take(), ["ping"]);
}
