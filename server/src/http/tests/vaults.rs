//! Vaults as a client sees them: statuses, faces, error bodies.

use super::{Answer, send};
use crate::http::Rooms;
use crate::http::configure;
use crate::http::envelope::envelope as around;
use crate::testing::writer::{APP, Writer, create_frame, payload, people, push, record};
use crate::testing::{House, Person};
use actix_web::App;
use actix_web::body::{BoxBody, MessageBody as _};
use actix_web::http::{StatusCode, header};
use actix_web::middleware::from_fn;
use actix_web::test::{TestRequest, call_service, init_service};
use actix_web::web::Data;
use selkie_protocol::Face;
use selkie_protocol::bytes::to_base64url;
use selkie_protocol::log::{Data as Changes, Frame, Kind, MAX_PAYLOAD, NewChange, VaultLog};
use selkie_protocol::vault::{LogFrames, Polled, Push, Pushed};
use serde_json::{Value, json};
use std::pin::Pin;
use std::time::Duration;

fn asking(person: &Person, path: &str) -> TestRequest {
    let bearer = format!("Bearer {}", person.tokens().access_token.as_str());
    TestRequest::with_uri(path).insert_header((header::AUTHORIZATION, bearer))
}

async fn get(rooms: &Data<Rooms>, person: &Person, path: &str) -> Answer {
    send(rooms, asking(person, path)).await
}

async fn post(rooms: &Data<Rooms>, person: &Person, path: &str, body: &Value) -> Answer {
    send(rooms, asking(person, path).method(actix_web::http::Method::POST).set_json(body)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_is_made_written_and_read_in_json() {
    let house = House::open().await;
    let rooms = house.rooms();
    let ana = house.person("ana@example.org").await;
    let frame = create_frame(&ana, &ana.device, APP, [4; 16]);
    let made = post(&rooms, &ana, "/v1/vaults", &json!({ "frame": to_base64url(&frame), "wraps": [] })).await;
    assert_eq!((made.status, &made.json()["n"]), (StatusCode::CREATED, &json!(1)));
    let (log, _) = VaultLog::create(&Frame::parse(&frame).unwrap().entry, &people(&[&ana])).unwrap();
    let vid = log.core().vault();

    let polled = get(&rooms, &ana, "/v1/poll").await.json();
    assert_eq!(polled["vaults"], json!([{ "vid": vid.to_string(), "n": 1, "app": APP }]));
    let state = polled["state"].as_str().unwrap();
    let again = get(&rooms, &ana, &format!("/v1/poll?known={state}")).await.json();
    assert_eq!((again.get("vaults"), &again["state"]), (None, &polled["state"]));
    assert_eq!(get(&rooms, &ana, "/v1/poll?known=AAAA").await.error().fields[0].field, "known");

    let page = get(&rooms, &ana, &format!("/v1/vaults/{vid}/log")).await.json();
    assert_eq!(page["frames"], json!([to_base64url(&frame)]));
    let rest = get(&rooms, &ana, &format!("/v1/vaults/{vid}/log?after=1")).await.json();
    assert_eq!((&rest["frames"], rest["head"].is_string()), (&json!([]), true));
    assert_eq!(get(&rooms, &ana, &format!("/v1/vaults/{vid}/log?payloads=some")).await.status, 400);
    let log = get(&rooms, &ana, &format!("/v1/people/{}/log?from=1", ana.user())).await.json();
    assert_eq!((&log["from"], &log["length"]), (&json!(1), &json!(6)));
    let nobody = "A".repeat(43);
    for path in
        [format!("/v1/people/{nobody}/log"), format!("/v1/vaults/{nobody}/log"), format!("/v1/vaults/{nobody}/head")]
    {
        assert_eq!(get(&rooms, &ana, &path).await.error().code.word(), "not_found", "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_is_told_with_its_heads_and_a_long_push_has_room() {
    let house = House::open().await;
    let rooms = house.rooms();
    let mut ana = house.person("ana@example.org").await;
    let mut writer = Writer::create(&house, &ana).await;
    let second = writer.devices(&house, &mut ana, 1).await.pop().unwrap();
    let path = format!("/v1/vaults/{}/push", writer.vault());

    let long = vec![7; MAX_PAYLOAD];
    let changes =
        [1, 2, 3, 4].map(|number| NewChange { record: record(number), full: true, deps: &[], payload: &long });
    let body = Changes::write(&changes).unwrap();
    let message = push(Frame::write(&writer.entry(Kind::Data, &body), &long.repeat(4)));
    for face in [Face::Cbor, Face::Json] {
        let request = asking(&ana, &path).method(actix_web::http::Method::POST).set_payload(face.encode(&message));
        let answer = send(&rooms, request.insert_header((header::CONTENT_TYPE, face.content_type()))).await;
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        assert_eq!(face.decode::<Pushed>(&answer.body).unwrap().n, 3);
    }
    writer.pull(&house.app.logs).await;

    let refused = house.app.logs.push(
        &second.caller,
        crate::testing::SOMEWHERE,
        second.vault(),
        second.write(&[(record(1), "other")]),
    );
    let error = crate::http::error::ApiError::from(refused.await.unwrap_err()).body("r");
    assert_eq!((error.status, error.code.word()), (409, "record_conflict"));
    let heads = writer.log.live().record(&record(1)).unwrap().heads();
    assert_eq!(
        (error.conflicts[0].rid, error.conflicts[0].heads.len(), *error.conflicts[0].heads[0]),
        (record(1), 1, heads[0].0)
    );

    let stale = push(Frame::write(&writer.entry(Kind::Heartbeat, &[]), &[]));
    let too_long = Push { frame: vec![0; 4 << 20].into(), ..stale };
    let answer = post(&rooms, &ana, &path, &serde_json::to_value(too_long).unwrap()).await;
    assert_eq!(answer.error().code.word(), "payload_too_large");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_of_what_is_live_leaves_out_the_rest() {
    let house = House::open().await;
    let rooms = house.rooms();
    let ana = house.person("ana@example.org").await;
    let mut writer = Writer::create(&house, &ana).await;
    writer.publish(&house.app.logs, writer.write(&[(record(1), "old"), (record(2), "stays")])).await;
    writer.publish(&house.app.logs, writer.write(&[(record(1), "new")])).await;
    let path = format!("/v1/vaults/{}/log?after=1&payloads=live&max_entries=1", writer.vault());
    let answer = get(&rooms, &ana, &path).await;
    let page: LogFrames = Face::Json.decode(&answer.body).unwrap();
    assert_eq!(page.frames.len(), 1);
    let frame = Frame::parse(&page.frames[0]).unwrap();
    assert_eq!((frame.payload(0), frame.payload(1)), (None, Some(payload("stays").as_slice())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_an_app_polls_its_vaults_and_no_others() {
    let house = House::open().await;
    let rooms = house.rooms();
    let mut ana = house.person("ana@example.org").await;
    for (number, app) in [(1, APP), (2, "org.example.other"), (3, "selkie")] {
        let frame = create_frame(&ana, &ana.device, app, [number; 16]);
        let body = json!({ "frame": to_base64url(&frame), "wraps": [] });
        assert_eq!(post(&rooms, &ana, "/v1/vaults", &body).await.status, 201);
    }
    let apps = |answer: Answer| {
        let polled: Polled = Face::Json.decode(&answer.body).unwrap();
        polled.vaults.unwrap().into_iter().map(|vault| vault.app).collect::<Vec<_>>()
    };
    assert_eq!(apps(get(&rooms, &ana, "/v1/poll").await), [APP, "org.example.other", "selkie"]);
    let (guess, request) = ana.login_start();
    let answer = house.auth().login_start(crate::testing::SOMEWHERE, request).await.unwrap();
    let mut finish = ana.login_finish(guess, &answer);
    finish.app = Some(APP.into());
    ana.tokens = house.auth().login_finish(finish).await.unwrap().tokens;
    assert_eq!(apps(get(&rooms, &ana, "/v1/poll").await), [APP, "selkie"]);
}

/// The next piece of an answer that goes on.
async fn next(body: &mut BoxBody) -> Option<String> {
    let piece = std::future::poll_fn(|context| Pin::new(&mut *body).poll_next(context));
    let piece = tokio::time::timeout(Duration::from_secs(20), piece).await.expect("something is said")?;
    Some(String::from_utf8(piece.unwrap().to_vec()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_is_told_what_moves_until_the_session_ends() {
    let house = House::open().await;
    let rooms = house.rooms();
    let ana = house.person("ana@example.org").await;
    let mut writer = Writer::create(&house, &ana).await;
    let app = App::new().app_data(rooms.clone()).configure(configure).wrap(from_fn(around));
    let response = call_service(&init_service(app).await, asking(&ana, "/v1/events").to_request()).await;
    assert_eq!(response.headers().get(header::CONTENT_TYPE).unwrap(), "text/event-stream");
    assert_eq!(response.headers().get(header::CACHE_CONTROL).unwrap(), "no-store");
    let mut body = response.into_body().boxed();
    assert_eq!(next(&mut body).await.unwrap(), "event: resync\ndata: {}\n\n");
    writer.publish(&house.app.logs, writer.write(&[(record(1), "a")])).await;
    let moved = format!("event: vault\ndata: {{\"vid\":\"{}\",\"n\":2}}\n\n", writer.vault());
    assert_eq!(next(&mut body).await.unwrap(), moved);
    assert_eq!(post(&rooms, &ana, "/v1/auth/sign-out", &json!({ "which": "this" })).await.status, 200);
    assert_eq!(next(&mut body).await, None);
    assert_eq!(get(&rooms, &ana, "/v1/events").await.error().code.word(), "session_ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_known_without_a_look_into_the_database_until_it_changes() {
    let mut house = House::open().await;
    let ana = house.person("ana@example.org").await;
    let store = house.count_store_calls_alone().await;
    let token = ana.tokens().access_token.as_str();
    house.auth().authenticate(token).await.unwrap();
    store.take();
    house.auth().authenticate(token).await.unwrap();
    assert_eq!(store.take(), [""; 0]);
    house.app.tenancy.set_suspended("home", true).await.unwrap();
    assert!(house.auth().authenticate(token).await.is_err());
    house.app.tenancy.set_suspended("home", false).await.unwrap();
    house.auth().authenticate(token).await.unwrap();
}

/// A standby, for one: its own transactions say nothing of those that it replays.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_cannot_say_whether_it_has_changed_is_asked_about_a_session_every_time() {
    // SQLite does not say.
    let mut house = House::open().await;
    let ana = house.person("ana@example.org").await;
    let store = house.count_store_calls_among_others().await;
    let token = ana.tokens().access_token.as_str();
    for _ in 0..3 {
        house.auth().authenticate(token).await.unwrap();
        let calls = store.take();
        assert!(calls.contains(&"snapshot") && calls.contains(&"sessions_named"), "{calls:?}");
    }
}
