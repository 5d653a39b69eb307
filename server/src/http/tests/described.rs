//! The document and the server say the same.

use super::send;
use crate::http::openapi;
use crate::http::routes::routes;
use crate::testing::House;
use actix_web::http::{Method, StatusCode};
use actix_web::test::TestRequest;
use std::collections::BTreeSet;

const SNAPSHOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
/// Set to write the snapshot anew: `SELKIE_UPDATE_OPENAPI=1 cargo test -p selkie-server described`.
const UPDATE: &str = "SELKIE_UPDATE_OPENAPI";

#[test]
fn the_document_is_the_one_that_was_reviewed() {
    let document = openapi::document().to_pretty_json().unwrap() + "\n";
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(SNAPSHOT, &document).unwrap();
    }
    let reviewed = std::fs::read_to_string(SNAPSHOT).unwrap_or_default();
    assert!(document == reviewed, "the API has changed: look at the difference that {UPDATE}=1 makes, and commit it");
}

#[test]
fn every_reference_in_the_document_leads_somewhere() {
    let document = serde_json::to_value(openapi::document()).unwrap();
    let known: BTreeSet<&String> = document["components"]["schemas"].as_object().unwrap().keys().collect();
    let text = document.to_string();
    let references = text.match_indices("\"#/components/schemas/").map(|(at, prefix)| {
        let rest = &text[at + prefix.len()..];
        &rest[..rest.find('"').unwrap()]
    });
    for reference in references {
        assert!(known.iter().any(|name| *name == reference), "{reference}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_is_in_the_document_and_every_documented_route_is_served() {
    let house = House::open().await;
    let rooms = house.rooms();
    let document = serde_json::to_value(openapi::document()).unwrap();
    let mut documented = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            documented.insert((method.to_uppercase(), path.clone()));
        }
    }
    for route in routes() {
        assert!(documented.contains(&(route.method.to_string(), route.path.to_owned())), "{}", route.path);
    }
    for (method, path) in documented {
        let uri = path.replace("{did}", &"A".repeat(22)).replace("{channel}", &"A".repeat(22));
        let uri = uri.replace("{vid}", &"A".repeat(43)).replace("{uid}", &"A".repeat(43));
        let uri = uri.replace("{n}", "1").replace("{page}", "0");
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let answer = send(&rooms, TestRequest::with_uri(&uri).method(method.clone())).await;
        let nowhere = answer.status == StatusCode::NOT_FOUND && !path.contains('{') && path != "/metrics";
        assert!(!nowhere && answer.status != StatusCode::METHOD_NOT_ALLOWED, "{method} {path}: {}", answer.status);
    }
}
