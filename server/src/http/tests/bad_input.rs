//! Whatever is sent to whatever route, the answer is a refusal with our body, and never a failure of ours.

use super::{post, send};
use crate::http::routes::routes;
use crate::testing::{House, Person};
use actix_web::http::header;
use actix_web::test::TestRequest;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn every_route_refuses_what_it_cannot_read() {
    let house = House::open_with(|config| {
        config.limits.request_per_address = "off".parse().unwrap();
        config.limits.request_per_account = "off".parse().unwrap();
    })
    .await;
    let rooms = house.rooms();
    let ana = house.person("ana@example.org").await;
    let bearer = format!("Bearer {}", ana.tokens().access_token.as_str());
    let (json, cbor) = ("application/json", "application/cbor");
    let bodies: Vec<(&str, Option<&str>, Vec<u8>)> = vec![
        ("no body", Some(json), Vec::new()),
        ("no content type", None, b"{}".to_vec()),
        ("another content type", Some("text/plain"), b"{}".to_vec()),
        ("another kind of value", Some(json), b"[1, 2]".to_vec()),
        ("an unknown field", Some(json), br#"{"from_the_future": 1}"#.to_vec()),
        ("not UTF-8", Some(json), b"{\"login_name\": \"\xff\xfe\"}".to_vec()),
        ("deep nesting", Some(json), "[".repeat(5_000).into_bytes()),
        ("deep nesting in CBOR", Some(cbor), vec![0x81; 5_000]),
        ("CBOR that promises four gigabytes", Some(cbor), vec![0x5a, 0xff, 0xff, 0xff, 0xff, 1]),
        ("bytes after the message", Some(json), b"{} {}".to_vec()),
        ("10 MB", Some(json), vec![b' '; 10_000_000]),
    ];
    for route in routes() {
        let path = route.path.replace("{did}", &ana.device.id().to_string()).replace("{channel}", &"A".repeat(22));
        let path = path.replace("{vid}", &"A".repeat(43)).replace("{uid}", &ana.user().to_string());
        let path = path.replace("{n}", "1").replace("{page}", "0");
        for (what, content_type, body) in &bodies {
            if route.takes.is_none() && body.is_empty() {
                continue;
            }
            let mut request = TestRequest::with_uri(&path).method(route.method.clone()).set_payload(body.clone());
            if let Some(content_type) = content_type {
                request = request.insert_header((header::CONTENT_TYPE, *content_type));
            }
            if route.signed_in {
                request = request.insert_header((header::AUTHORIZATION, bearer.as_str()));
            }
            let answer = send(&rooms, request.insert_header((header::ACCEPT, json))).await;
            assert!(answer.status.is_client_error(), "{} {what}: {}", route.path, answer.status);
            answer.error();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_in_the_path_that_are_none_lead_nowhere() {
    let house = House::open().await;
    let rooms = house.rooms();
    for id in ["x", "..", "%00", "AAAA", &"A".repeat(23), "%ff"] {
        let answer = super::get(&rooms, &format!("/v1/links/{id}")).await;
        assert_eq!(answer.error().code.word(), "not_found", "{id}");
    }
    let twice = super::get(&rooms, &format!("/v1/links/{}?tenant=a&tenant=b", "A".repeat(22))).await;
    assert_eq!(twice.error().fields[0].field, "tenant");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_is_no_slug_is_not_looked_for() {
    let mut house = House::open().await;
    let store = house.count_store_calls().await;
    let rooms = house.rooms();
    store.take();
    for slug in ["\0", "home\0", "", "H", &"\u{1f980}".repeat(1_000), "home' OR 1=1"] {
        let (_, request) = Person::new("ana").login_start();
        let mut request = serde_json::to_value(&request).unwrap();
        request["tenant"] = slug.into();
        let answer = post(&rooms, "/v1/auth/login/start", &request).await;
        assert_eq!(answer.error().code.word(), "not_found", "{slug:?}");
    }
    assert_eq!(store.take(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn well_formed_messages_with_hostile_values_are_never_a_failure_of_ours() {
    let house = House::open_with(|config| {
        let off = || "off".parse().unwrap();
        let limits = &mut config.limits;
        (limits.request_per_address, limits.sign_in_per_address, limits.sign_up_per_address) = (off(), off(), off());
        (limits.recover_per_address, limits.link_per_address, limits.second_factor_per_account) = (off(), off(), off());
    })
    .await;
    let rooms = house.rooms();
    let ana = house.person("ana@example.org").await;
    let bearer = format!("Bearer {}", ana.tokens().access_token.as_str());
    let channel = "A".repeat(22);
    let opened = json!({ "channel": channel, "offer": "AAAA" });
    let open = |body: Value| {
        let request = TestRequest::post().uri("/v1/links").set_json(body);
        send(&rooms, request.insert_header((header::AUTHORIZATION, bearer.clone())))
    };
    assert_eq!(open(opened).await.status, 200);

    let (_, login) = Person::new("ana@example.org").login_start();
    let login = serde_json::to_value(&login).unwrap();
    let (_, register) = Person::new("bob@example.org").register_start(Some("I1-AAAA".into()));
    let register = serde_json::to_value(&register).unwrap();
    let request_path = format!("/v1/links/{channel}/request");
    let session_path = format!("/v1/links/{channel}/session");
    let messages = [
        ("/v1/auth/login/start", login, ["tenant", "login_name"].as_slice()),
        ("/v1/auth/register/start", register, &["tenant", "login_name", "invite"]),
        ("/v1/auth/recover/start", json!({ "login_name": "ana@example.org" }), &["tenant", "login_name"]),
        (request_path.as_str(), json!({ "request": "AAAA" }), &["request"]),
        (session_path.as_str(), json!({ "signature": "A".repeat(86) }), &["app"]),
        ("/v1/links", json!({ "channel": "B".repeat(21) + "A", "offer": "AAAA" }), &["offer"]),
        ("/v1/account/totp/confirm", json!({ "code": "123456" }), &["code"]),
    ];
    for (path, message, fields) in &messages {
        for field in *fields {
            for hostile in ["", "\0", "a\0b", " ", "\u{202e}", "\u{fdd0}\u{10ffff}", &"\u{1f980}".repeat(1_000)] {
                let mut message = message.clone();
                message[field] = hostile.into();
                let request = TestRequest::post().uri(path).set_json(message);
                let request = request.insert_header((header::AUTHORIZATION, bearer.as_str()));
                let answer = send(&rooms, request).await;
                assert!(!answer.status.is_server_error(), "{path} {field} {hostile:?}: {}", answer.status);
                if matches!(*field, "offer" | "request") {
                    assert!(answer.status.is_client_error(), "{path} {field} {hostile:?}");
                }
            }
        }
    }
}
