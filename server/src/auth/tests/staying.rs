//! Staying in: refresh, its one use, its end; signing out.

use crate::auth::Refusal;
use crate::testing::{House, Person, SOMEWHERE};
use selkie_protocol::hash::{Label, sha256};
use selkie_protocol::session::{
    DeviceProof, REFRESH_PURPOSE, Refresh, RefreshTokenBytes, SignOut, SignOutScope, Tokens,
};

const DAY: i64 = 24 * 3_600_000;

fn signed(house: &House, person: &Person, token: RefreshTokenBytes) -> Refresh {
    let challenge = house.auth().challenge(SOMEWHERE).unwrap().challenge;
    let parts: [&[u8]; 3] = [&challenge, &sha256(&*token), REFRESH_PURPOSE];
    let signature = person.sign(Label::REFRESH, &parts);
    Refresh { refresh_token: token, device: Some(DeviceProof { did: person.device.id(), challenge, signature }) }
}

async fn refresh(house: &House, person: &Person, token: RefreshTokenBytes) -> Result<Tokens, Refusal> {
    house.auth().refresh(SOMEWHERE, signed(house, person, token)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_token_after_another() {
    let house = House::open().await;
    let ana = house.person("ana").await;
    let mut token = ana.tokens().refresh_token;
    for _ in 0..4 {
        house.clock.pass(DAY);
        let next = refresh(&house, &ana, token).await.unwrap();
        assert_ne!(next.refresh_token, token);
        assert!(house.auth().authenticate(next.access_token.as_str()).await.is_ok());
        token = next.refresh_token;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_given_again_for_twenty_seconds() {
    let house = House::open().await;
    let ana = house.person("ana").await;
    let token = ana.tokens().refresh_token;
    let lost = refresh(&house, &ana, token).await.unwrap();
    house.clock.pass(19_000);
    let again = refresh(&house, &ana, token).await.unwrap();
    assert_eq!(lost.refresh_token, again.refresh_token, "the same next token, not a second family");
    assert!(refresh(&house, &ana, again.refresh_token).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_may_ask_for_a_lost_answer_until_it_used_the_next_token() {
    let house = House::open().await;
    let ana = house.person("ana").await;
    let token = ana.tokens().refresh_token;
    let lost = refresh(&house, &ana, token).await.unwrap();
    house.clock.pass(DAY);
    let again = refresh(&house, &ana, token).await.unwrap();
    assert_eq!(lost.refresh_token, again.refresh_token);
    refresh(&house, &ana, again.refresh_token).await.unwrap();
    let late = refresh(&house, &ana, token).await;
    assert!(matches!(late, Err(Refusal::SessionEnded)), "the answer was not lost after all");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_used_token_that_comes_back_ends_the_session() {
    let house = House::open().await;
    let ana = house.person("ana").await;
    let stolen = ana.tokens().refresh_token;
    let next = refresh(&house, &ana, stolen).await.unwrap();
    house.clock.pass(21_000);
    // Even without the device's signature: what matters is that somebody has a copy.
    let thief = house.auth().refresh(SOMEWHERE, Refresh { refresh_token: stolen, device: None }).await;
    assert!(matches!(thief, Err(Refusal::SessionEnded)));
    let owner = refresh(&house, &ana, next.refresh_token).await;
    assert!(matches!(owner, Err(Refusal::SessionEnded)));
    assert!(matches!(house.auth().authenticate(next.access_token.as_str()).await, Err(Refusal::SessionEnded)));

    let mut ana = ana;
    ana.sign_in(&house).await;
    let audit = house.auth().audit_page(&house.caller(&ana).await, None).await.unwrap().entries;
    assert!(audit.iter().any(|entry| entry.action == "refresh_token_reused"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_token_is_of_no_use_without_the_device() {
    let house = House::open().await;
    let ana = house.person("ana").await;
    let eve = Person::new("eve");
    let token = ana.tokens().refresh_token;
    let bare = house.auth().refresh(SOMEWHERE, Refresh { refresh_token: token, device: None }).await;
    assert!(matches!(bare, Err(Refusal::Invalid { field: "device", .. })));
    let other_device = refresh(&house, &eve, token).await;
    assert!(matches!(other_device, Err(Refusal::Invalid { field: "device", .. })));
    let mut claimed = signed(&house, &eve, token);
    claimed.device.as_mut().unwrap().did = ana.device.id();
    let claimed = house.auth().refresh(SOMEWHERE, claimed).await;
    assert!(matches!(claimed, Err(Refusal::Invalid { field: "device.signature", .. })));
    let old = signed(&house, &ana, token);
    house.clock.pass(300_001);
    let old = house.auth().refresh(SOMEWHERE, old).await;
    assert!(matches!(old, Err(Refusal::Invalid { field: "device.challenge", .. })));
    let mut foreign = signed(&house, &ana, token);
    foreign.device.as_mut().unwrap().challenge = vec![7; 56].into();
    let foreign = house.auth().refresh(SOMEWHERE, foreign).await;
    assert!(matches!(foreign, Err(Refusal::Invalid { field: "device.challenge", .. })));
    assert!(refresh(&house, &ana, token).await.is_ok(), "none of it harmed the owner");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bent_token_is_nobodys() {
    let house = House::open().await;
    let ana = house.person("ana").await;
    for byte in [0, 8, 27, 28, 59] {
        let mut token = ana.tokens().refresh_token;
        token.0[byte] ^= 1;
        let bent = refresh(&house, &ana, token).await;
        assert!(matches!(bent, Err(Refusal::Unauthenticated)), "byte {byte}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_end_by_idleness_and_by_age() {
    let house = House::open().await;
    let ana = house.person("ana").await;
    let mut token = ana.tokens().refresh_token;
    for _ in 0..5 {
        house.clock.pass(72 * DAY);
        token = refresh(&house, &ana, token).await.unwrap().refresh_token;
    }
    house.clock.pass(6 * DAY);
    assert!(matches!(refresh(&house, &ana, token).await, Err(Refusal::SessionEnded)), "a year is over");

    let mut ana = ana;
    ana.sign_in(&house).await;
    house.clock.pass(91 * DAY);
    let idle = refresh(&house, &ana, ana.tokens().refresh_token).await;
    assert!(matches!(idle, Err(Refusal::SessionEnded)));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_refreshes_at_once_get_the_same_answer() {
    let house = House::open().await;
    let ana = house.person("ana").await;
    let token = ana.tokens().refresh_token;
    let (one, other) = tokio::join!(refresh(&house, &ana, token), refresh(&house, &ana, token));
    assert_eq!(one.unwrap().refresh_token, other.unwrap().refresh_token);
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_out_ends_what_it_says_and_nothing_else() {
    let house = House::open().await;
    let mut ana = house.person("ana").await;
    // Without a device, so that the sessions stand side by side.
    let mut sessions = Vec::new();
    for _ in 0..3 {
        let (guess, request) = ana.login_start();
        let answer = house.auth().login_start(SOMEWHERE, request).await.unwrap();
        let mut finish = ana.login_finish(guess, &answer);
        finish.device = None;
        sessions.push(house.auth().login_finish(finish).await.unwrap().tokens.unwrap());
    }
    let open = async |tokens: &Tokens| house.auth().authenticate(tokens.access_token.as_str()).await.is_ok();
    ana.tokens = Some(sessions[0].clone());
    let caller = house.caller(&ana).await;
    assert_eq!(house.auth().sessions(&caller).await.unwrap().sessions.len(), 4);
    house.auth().sign_out(&caller, SignOut { which: SignOutScope::Others }).await.unwrap();
    assert!(open(&sessions[0]).await && !open(&sessions[1]).await && !open(&sessions[2]).await);
    house.auth().sign_out(&caller, SignOut { which: SignOutScope::This }).await.unwrap();
    assert!(!open(&sessions[0]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_counted_once_its_token_is_known_to_be_right() {
    let house = House::open_with(|config| config.limits.refresh_per_device = "2/hour".parse().unwrap()).await;
    let ana = house.person("ana").await;
    let mut forged = ana.tokens().refresh_token;
    forged.0[40] ^= 1;
    for _ in 0..5 {
        assert!(matches!(refresh(&house, &ana, forged).await, Err(Refusal::Unauthenticated)));
    }
    let mut token = ana.tokens().refresh_token;
    for _ in 0..2 {
        token = refresh(&house, &ana, token).await.unwrap().refresh_token;
    }
    assert!(matches!(refresh(&house, &ana, token).await, Err(Refusal::TooMany(_))));
    house.clock.pass(3_600_000);
    assert!(refresh(&house, &ana, token).await.is_ok(), "what was refused can be tried again");
}
