//! A client that knows OPAQUE and JSON and nothing else: four calls with default options.

use super::{get, post, send};
use crate::testing::{House, Person};
use actix_web::http::StatusCode;
use actix_web::test::TestRequest;
use selkie_protocol::bytes::{from_base64url, to_base64url};
use selkie_protocol::opaque::{LoginStarted, RegistrationStarted};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn registers_and_signs_in_with_four_calls() {
    let house = House::open().await;
    let rooms = house.rooms();
    let ana = Person::new("ana@example.org");
    let password = ana.password_input();
    let invite = house.invitation().await;

    let started = RegistrationStarted::new(&password).unwrap();
    let request = json!({
        "login_name": "Ana@example.org", "invite": invite.as_str(), "request": to_base64url(&started.request),
    });
    let answer = post(&rooms, "/v1/auth/register/start", &request).await;
    assert_eq!(answer.status, StatusCode::OK);
    let answer = answer.json();
    assert_eq!((&answer["server_name"], &answer["ksf_id"]), (&json!("sync.example.org"), &json!(1)));
    let response = from_base64url(answer["response"].as_str().unwrap()).unwrap();
    let finished = started.finish(&password, &response).unwrap();
    let request = json!({ "reg_token": answer["reg_token"], "record": to_base64url(&finished.record) });
    let answer = post(&rooms, "/v1/auth/register/finish", &request).await;
    assert_eq!((answer.status, answer.json()), (StatusCode::CREATED, json!({})));

    let started = LoginStarted::new(&password).unwrap();
    let request = json!({ "login_name": "ana@example.org", "ke1": to_base64url(&started.ke1) });
    let answer = post(&rooms, "/v1/auth/login/start", &request).await.json();
    let ke2 = from_base64url(answer["ke2"].as_str().unwrap()).unwrap();
    let finished = started.finish(&password, &ke2).unwrap();
    let request = json!({ "login_id": answer["login_id"], "ke3": to_base64url(&finished.ke3) });
    let answer = post(&rooms, "/v1/auth/login/finish", &request).await.json();
    assert_eq!(answer["tokens"]["account"], "bare");

    let token = answer["tokens"]["access_token"].as_str().unwrap();
    let request = TestRequest::with_uri("/v1/account").insert_header(("authorization", format!("Bearer {token}")));
    let account = send(&rooms, request).await.json();
    assert_eq!(account["login_name"], "ana@example.org");
    assert_eq!((&account["tenant"], &account["state"]), (&json!("home"), &json!("bare")));
    assert_eq!(get(&rooms, "/v1/account").await.error().code.word(), "unauthenticated");
}
