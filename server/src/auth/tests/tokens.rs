//! Access tokens and what people try with them.

use crate::auth::Refusal;
use crate::auth::tokens::Claims;
use crate::testing::{House, Person};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use selkie_protocol::bytes::{from_base64url, to_base64url};
use serde_json::{Value, json};

async fn refused(house: &House, token: &str) -> Refusal {
    house.auth().authenticate(token).await.expect_err("refused")
}

fn part(token: &str, index: usize) -> Value {
    serde_json::from_slice(&from_base64url(token.split('.').nth(index).unwrap()).unwrap()).unwrap()
}

fn encoded(value: &Value) -> String {
    to_base64url(value.to_string().as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_says_what_it_must_and_no_name() {
    let house = House::open().await;
    let ana = house.person("ana@example.org").await;
    let token = ana.tokens().access_token.as_str();
    let (header, claims) = (part(token, 0), part(token, 1));
    assert_eq!((&header["alg"], &header["typ"]), (&json!("EdDSA"), &json!("at+jwt")));
    assert_eq!(claims["iss"], "sync.example.org");
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 900);
    assert_eq!(claims["did"], ana.device.id().to_string());
    assert!(!claims.to_string().contains("ana"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_lives_by_our_clock() {
    let house = House::open().await;
    let ana = house.person("ana").await;
    let token = ana.tokens().access_token.as_str();
    house.clock.pass(904_000);
    assert!(house.auth().authenticate(token).await.is_ok(), "five seconds are forgiven");
    house.clock.pass(1_000);
    assert!(matches!(refused(&house, token).await, Refusal::TokenExpired));
    house.clock.pass(-911_000);
    assert!(matches!(refused(&house, token).await, Refusal::Unauthenticated), "from the future");
}

#[tokio::test(flavor = "multi_thread")]
async fn algorithm_and_key_are_never_taken_from_the_token() {
    let house = House::open().await;
    let ana = house.person("ana").await;
    let token = ana.tokens().access_token.as_str();
    let claims = part(token, 1);
    let mut parts = token.split('.');
    let (_, body, signature) = (parts.next(), parts.next().unwrap(), parts.next().unwrap());

    for algorithm in ["none", "None", "NONE", ""] {
        let header = encoded(&json!({ "alg": algorithm, "typ": "at+jwt", "kid": "1" }));
        for signature in ["", signature] {
            let forged = format!("{header}.{body}.{signature}");
            assert!(matches!(refused(&house, &forged).await, Refusal::Unauthenticated), "{algorithm}");
        }
    }
    // The public key as the secret of a MAC: it is public, so whoever has it could sign.
    for secret in [&house.auth().public_signing_key()[..], b""] {
        let header = Header { typ: Some("at+jwt".into()), kid: Some("1".into()), ..Header::new(Algorithm::HS256) };
        let forged = jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(secret)).unwrap();
        assert!(matches!(refused(&house, &forged).await, Refusal::Unauthenticated));
    }
    // A key of the forger's own, under our kid, and as a key in the header.
    let forger = Person::new("eve");
    let pkcs8 = [&crate::auth::tokens::PKCS8_PREFIX[..], &*forger.device.seed()].concat();
    for extra in [json!({}), json!({ "jwk": { "kty": "OKP", "crv": "Ed25519", "x": "AAAA" } })] {
        let mut header = json!({ "alg": "EdDSA", "typ": "at+jwt", "kid": "1" });
        header.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let signed = format!("{}.{body}", encoded(&header));
        let pair = aws_lc_rs::signature::Ed25519KeyPair::from_pkcs8(&pkcs8).unwrap();
        let forged = format!("{signed}.{}", to_base64url(pair.sign(signed.as_bytes()).as_ref()));
        assert!(matches!(refused(&house, &forged).await, Refusal::Unauthenticated));
    }
    for garbage in ["", ".", "..", "a.b.c", &"x".repeat(100_000), "é.é.é"] {
        assert!(matches!(refused(&house, garbage).await, Refusal::Unauthenticated));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_claim_is_looked_at() {
    let house = House::open().await;
    let ana = house.person("ana").await;
    let good = part(ana.tokens().access_token.as_str(), 1);
    assert!(house.auth().authenticate(&house.auth().sign_anything("at+jwt", "1", &good)).await.is_ok());

    let with = |claim: &str, value: Value| {
        let mut claims = good.clone();
        claims[claim] = value;
        house.auth().sign_anything("at+jwt", "1", &claims)
    };
    for (claim, value) in [
        ("iss", json!("evil.example.org")),
        ("aud", json!("another service")),
        ("sub", json!(uuid::Uuid::nil())),
        ("exp", json!("tomorrow")),
        ("exp", json!(-1)),
        ("nbf", json!(good["exp"].as_i64().unwrap() + 100)),
        ("tid", json!("home")),
        ("scope", json!("everything")),
        ("sid", json!("AAAA")),
    ] {
        let refusal = refused(&house, &with(claim, value.clone())).await;
        assert!(matches!(refusal, Refusal::Unauthenticated | Refusal::TokenExpired), "{claim} {value}: {refusal}");
    }
    for claim in ["iss", "aud", "sub", "tid", "sid", "scope", "auth_time", "iat", "nbf", "exp", "jti"] {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().remove(claim);
        let token = house.auth().sign_anything("at+jwt", "1", &claims);
        assert!(matches!(refused(&house, &token).await, Refusal::Unauthenticated), "without {claim}");
    }
    for (typ, kid) in [("JWT", "1"), ("", "1"), ("at+jwt", "2"), ("at+jwt", "../1"), ("at+jwt", "")] {
        let token = house.auth().sign_anything(typ, kid, &good);
        assert!(matches!(refused(&house, &token).await, Refusal::Unauthenticated), "{typ} {kid}");
    }
    let _: Claims = serde_json::from_value(good.clone()).unwrap();
    let elsewhere = with("sid", json!(to_base64url(&[7; 16])));
    assert!(matches!(refused(&house, &elsewhere).await, Refusal::SessionEnded));
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_keys_turn_and_what_they_signed_lives_on() {
    let house = House::open().await;
    let mut ana = house.person("ana").await;
    assert!(!house.auth().turn_signing_keys().await.unwrap());
    house.clock.pass(30 * 24 * 3_600_000);
    assert!(house.auth().turn_signing_keys().await.unwrap());
    assert!(!house.auth().turn_signing_keys().await.unwrap(), "once a month");
    ana.sign_in(&house).await;
    assert_eq!(part(ana.tokens().access_token.as_str(), 0)["kid"], "1", "others must have seen the next one first");
    house.clock.pass(11 * 60_000);
    assert!(house.auth().authenticate(ana.tokens().access_token.as_str()).await.is_ok());
    ana.sign_in(&house).await;
    assert_eq!(part(ana.tokens().access_token.as_str(), 0)["kid"], "2");
    assert!(house.auth().authenticate(ana.tokens().access_token.as_str()).await.is_ok());
}
