//! A name that does not exist takes the same path as one that does: the same calls to the store, status, size, headers.

use super::{Answer, post};
use crate::testing::counting::Counting;
use crate::testing::{House, Person};
use actix_web::web;
use selkie_protocol::bytes::to_base64url;
use serde_json::{Value, json};

/// What the world can see of an answer, timing aside.
fn seen(answer: &Answer) -> (u16, usize, Vec<(String, usize)>) {
    let mut headers: Vec<(String, usize)> =
        answer.headers.iter().map(|(name, value)| (name.to_string(), value.len())).collect();
    headers.sort();
    (answer.status.as_u16(), answer.body.len(), headers)
}

struct Watched {
    house: House,
    counting: std::sync::Arc<Counting>,
    rooms: web::Data<crate::http::Rooms>,
}

impl Watched {
    async fn open() -> Self {
        let mut house = House::open().await;
        let counting = house.count_store_calls().await;
        let mut ana = Person::new("ana@example.org");
        ana.register(&house).await;
        let rooms = house.rooms();
        Watched { house, counting, rooms }
    }

    /// Sends, and says what could be seen, which calls were made, and what was answered.
    async fn watch(&self, path: &str, body: Value) -> ((u16, usize, Vec<(String, usize)>), Vec<&'static str>, Value) {
        self.counting.take();
        // A minute passes, so that both requests meet the limiter in the same state.
        self.house.clock.pass(120_000);
        let answer = post(&self.rooms, path, &body).await;
        (seen(&answer), self.counting.take(), answer.json())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_looks_the_same() {
    let watched = Watched::open().await;
    let ke1 = to_base64url(&Person::new("x").login_start().1.ke1[..]);
    let start = |name: &str| json!({ "login_name": name, "ke1": ke1 });
    let known = watched.watch("/v1/auth/login/start", start("ana@example.org")).await;
    let unknown = watched.watch("/v1/auth/login/start", start("eve@example.org")).await;
    assert_eq!((&known.0, &known.1), (&unknown.0, &unknown.1));
    assert_eq!(known.1, ["tenant_by_slug", "login_account", "put_login_state"]);

    let finish = |login_id: &Value| json!({ "login_id": login_id, "ke3": to_base64url(&[7; 64]) });
    let start_known = watched.watch("/v1/auth/login/start", start("ana@example.org")).await.2;
    let known = post(&watched.rooms, "/v1/auth/login/finish", &finish(&start_known["login_id"])).await;
    let calls_known = watched.counting.take();
    let start_unknown = watched.watch("/v1/auth/login/start", start("eve@example.org")).await.2;
    let unknown = post(&watched.rooms, "/v1/auth/login/finish", &finish(&start_unknown["login_id"])).await;
    let calls_unknown = watched.counting.take();
    assert_eq!(known.error().code.word(), "invalid_login");
    assert_eq!(seen(&known), seen(&unknown));
    assert_eq!(calls_known, calls_unknown);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_with_a_device_looks_the_same() {
    let watched = Watched::open().await;
    let eve = Person::new("eve");
    let ke1 = to_base64url(&eve.login_start().1.ke1[..]);
    let challenge = watched.house.auth().challenge(crate::testing::SOMEWHERE).unwrap().challenge;
    let device = json!({
        "did": eve.device.id().to_string(), "challenge": to_base64url(&challenge), "signature": to_base64url(&[1; 64]),
    });
    let start = |name: &str| json!({ "login_name": name, "ke1": ke1, "device": device });
    let known = watched.watch("/v1/auth/login/start", start("ana@example.org")).await;
    let unknown = watched.watch("/v1/auth/login/start", start("eve@example.org")).await;
    assert_eq!((&known.0, &known.1), (&unknown.0, &unknown.1));
    assert_eq!(known.0.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_looks_the_same_and_answers_the_same_twice() {
    let watched = Watched::open().await;
    let start = |name: &str| json!({ "login_name": name });
    let known = watched.watch("/v1/auth/recover/start", start("ana@example.org")).await;
    let unknown = watched.watch("/v1/auth/recover/start", start("eve@example.org")).await;
    assert_eq!((&known.0, &known.1), (&unknown.0, &unknown.1));
    let again = watched.watch("/v1/auth/recover/start", start("eve@example.org")).await;
    assert_eq!(unknown.2["uid"], again.2["uid"], "an answer that changed would tell that nobody is there");

    let finish = |login_id: &Value| json!({ "login_id": login_id, "signature": to_base64url(&[7; 64]) });
    let known = watched.watch("/v1/auth/recover/finish", finish(&known.2["login_id"])).await;
    let unknown = watched.watch("/v1/auth/recover/finish", finish(&unknown.2["login_id"])).await;
    assert_eq!((&known.0, &known.1), (&unknown.0, &unknown.1));
    assert_eq!(known.2["code"], "invalid_login");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_start_of_a_registration_does_not_tell_that_a_name_is_taken() {
    let watched = Watched::open().await;
    let (_, request) = Person::new("x").register_start(None);
    let code = watched.house.invitation().await;
    let start = |name: &str| json!({ "login_name": name, "invite": code.as_str(), "request": to_base64url(&request.request[..]) });
    let taken = watched.watch("/v1/auth/register/start", start("ana@example.org")).await;
    let free = watched.watch("/v1/auth/register/start", start("eve@example.org")).await;
    assert_eq!((&taken.0, &taken.1), (&free.0, &free.1));
    assert_eq!(taken.0.0, 200);
}
