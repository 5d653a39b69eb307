//! Every route, asked in every wrong way: a refusal in our own words, and never a failure.
//!
//! The routes come from the server's own OpenAPI document, so that a new one is in the table before anybody thinks of
//! it.

use std::net::SocketAddr;

use selkie_e2e::caller::Caller;
use selkie_e2e::message::{Headers, Reply, header};
use selkie_e2e::on_both_backends;
use selkie_e2e::server::TestServer;
use selkie_protocol::session::Tokens;
use selkie_protocol::{ErrorBody, ErrorCode, Face};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

on_both_backends! {
    /// With and without a valid token: both must hold, the door and what is behind it.
    async fn every_route_refuses_every_bad_body_in_our_own_words(backend: Backend) {
        let server = TestServer::start(backend).await;
        let json = server.caller(Face::Json);
        json.register("ana@example.org", "seven silver swans", None).await.unwrap();
        let tokens = json.sign_in("ana@example.org", "seven silver swans").await.unwrap();
        for route in routes(&json).await.iter().filter(|route| route.takes_a_body) {
            for (what, kind, body) in bad_bodies() {
                for bearer in [None, Some(&tokens)] {
                    let reply = json.send("POST", &route.path, &headers(kind, bearer), body.clone()).await;
                    assert_is_our_refusal(&format!("{} with {what}", route.path), &reply);
                }
            }
        }
        assert_is_well(&json).await;
    }

    async fn a_body_of_ten_megabytes_is_refused_before_it_is_read(backend: Backend) {
        let server = TestServer::start(backend).await;
        let json = server.caller(Face::Json);
        for route in routes(&json).await.iter().filter(|route| route.takes_a_body) {
            for declared in ["content-length: 10485760", "transfer-encoding: chunked"] {
                let reply = send_a_flood(server.address(), &route.path, declared).await;
                assert!(reply.starts_with("HTTP/1.1 4"), "{} ({declared}): {reply}", route.path);
                assert!(reply.contains("\"code\":"), "{} ({declared}): {reply}", route.path);
            }
        }
        assert_is_well(&json).await;
    }

    async fn a_wrong_method_or_address_is_named_as_such(backend: Backend) {
        let server = TestServer::start(backend).await;
        let json = server.caller(Face::Json);
        let nowhere = json.send("GET", "/v1/nowhere", &headers(None, None), Vec::new()).await;
        assert_eq!(code(&nowhere), ErrorCode::NotFound);
        for route in routes(&json).await {
            let reply = json.send("PATCH", &route.path, &headers(None, None), Vec::new()).await;
            assert_eq!(reply.status, 405, "PATCH {}", route.path);
            assert_eq!(code(&reply), ErrorCode::MethodNotAllowed);
            assert!(header(&reply.headers, "allow").is_some(), "{} does not say what it takes", route.path);
        }
    }

    async fn an_answer_nobody_can_read_is_not_given(backend: Backend) {
        let server = TestServer::start(backend).await;
        let json = server.caller(Face::Json);
        let wanted = vec![("accept".to_owned(), b"text/html".to_vec())];
        let reply = json.send("GET", "/v1/capabilities", &wanted, Vec::new()).await;
        assert_eq!(code(&reply), ErrorCode::NotAcceptable);
    }

    async fn a_token_that_is_none_opens_nothing(backend: Backend) {
        let server = TestServer::start(backend).await;
        let json = server.caller(Face::Json);
        let wrong: &[&[u8]] = &[
            b"Bearer", b"Bearer ", b"Bearer x", b"Bearer a.b.c", b"Basic YW5hOnB3", b"\xff\xfe", b"Bearer \xff",
            // alg none, signed by nobody
            b"Bearer eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0.eyJzdWIiOiIxIn0.",
        ];
        for value in wrong.iter().map(|value| value.to_vec()).chain([[b"Bearer ".to_vec(), vec![b'A'; 6000]].concat()]) {
            let mut wrong = headers(None, None);
            wrong.push(("authorization".to_owned(), value.clone()));
            let reply = json.send("GET", "/v1/account", &wrong, Vec::new()).await;
            assert_is_our_refusal(&String::from_utf8_lossy(&value), &reply);
            assert_eq!(reply.status, 401, "{:?}", String::from_utf8_lossy(&value));
        }
    }
}

struct Route {
    path: String,
    takes_a_body: bool,
}

/// Every route of the document, with something in the place of each parameter.
async fn routes(json: &Caller) -> Vec<Route> {
    let document = json.send("GET", "/v1/openapi.json", &Headers::new(), Vec::new()).await;
    let document: serde_json::Value = serde_json::from_slice(&document.body).unwrap();
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.len() > 20, "the document lists {} paths only", paths.len());
    let filled = |part: &str| if part.starts_with('{') { "00".repeat(16) } else { part.to_owned() };
    paths
        .iter()
        .map(|(path, methods)| Route {
            path: path.split('/').map(filled).collect::<Vec<_>>().join("/"),
            takes_a_body: methods["post"]["requestBody"].is_object(),
        })
        .collect()
}

type Body = (&'static str, Option<&'static str>, Vec<u8>);

fn bad_bodies() -> Vec<Body> {
    let json = |what, body: &[u8]| (what, Some(Face::JSON), body.to_vec());
    let cbor = |what, body: &[u8]| (what, Some(Face::CBOR), body.to_vec());
    vec![
        json("nothing", b""),
        json("null", b"null"),
        json("a list", b"[]"),
        json("a number", b"42"),
        json("a string", b"\"{}\""),
        json("a field nobody knows", br#"{"surprise":1}"#),
        json("half an object", br#"{"login_name":"#),
        json("two objects", b"{}{}"),
        json("bytes that are not UTF-8", b"{\"login_name\":\"\xff\xfe\"}"),
        json("half a surrogate pair", br#"{"login_name":"\ud800"}"#),
        json("lists in lists in lists", "[".repeat(4000).as_bytes()),
        json("objects in objects in objects", "{\"a\":".repeat(1000).as_bytes()),
        json("a number beyond all numbers", br#"{"seal":1e999}"#),
        json("a byte order mark", b"\xef\xbb\xbf{}"),
        json("CBOR under the name of JSON", &[0xa0]),
        cbor("no CBOR", b""),
        cbor("an integer of CBOR", &[0x18, 0x2a]),
        cbor("CBOR of a field nobody knows", &[0xa1, 0x61, b'x', 0x01]),
        cbor("a string of 2^64 bytes", &[0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        cbor("a list of 2^63 entries", &[0x9b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        cbor("a map of 2^32 entries", &[0xba, 0xff, 0xff, 0xff, 0xff]),
        cbor("lists in lists in CBOR", &[0x81; 4000]),
        cbor("lists without an end in CBOR", &[0x9f; 4000]),
        cbor("tags on tags in CBOR", &[0xc1; 4000]),
        cbor("a break without a beginning", &[0xff]),
        cbor("text that is not UTF-8", &[0xa1, 0x62, 0xff, 0xfe, 0x01]),
        cbor("a key twice", &[0xa2, 0x61, b'x', 0x01, 0x61, b'x', 0x01]),
        cbor("something after the end", &[0xa0, 0xa0]),
        cbor("JSON under the name of CBOR", b"{}"),
        ("no content type", None, b"{}".to_vec()),
        ("plain text", Some("text/plain"), b"{}".to_vec()),
        ("a form", Some("application/x-www-form-urlencoded"), b"login_name=ana".to_vec()),
        ("a content type that is none", Some("application/json/cbor;;"), b"{}".to_vec()),
    ]
}

fn headers(kind: Option<&str>, bearer: Option<&Tokens>) -> Headers {
    let mut headers = vec![("accept".to_owned(), Face::JSON.as_bytes().to_vec())];
    headers.extend(kind.map(|kind| ("content-type".to_owned(), kind.as_bytes().to_vec())));
    let value = bearer.map(|tokens| format!("Bearer {}", tokens.access_token.as_str()).into_bytes());
    headers.extend(value.map(|value| ("authorization".to_owned(), value)));
    headers
}

fn assert_is_our_refusal(what: &str, reply: &Reply) {
    assert!((400..500).contains(&reply.status), "{what}: {} {}", reply.status, String::from_utf8_lossy(&reply.body));
    assert_eq!(header(&reply.headers, "content-type").as_deref(), Some(Face::PROBLEM_JSON), "{what}");
    let body: ErrorBody = reply.read();
    assert_eq!(body.status, reply.status, "{what}");
    assert_ne!(body.code, ErrorCode::Unknown, "{what}");
    assert_eq!(header(&reply.headers, "x-request-id"), Some(body.request_id), "{what}");
}

fn code(reply: &Reply) -> ErrorCode {
    reply.read::<ErrorBody>().code
}

async fn assert_is_well(json: &Caller) {
    let reply = json.send("GET", "/healthz", &Headers::new(), Vec::new()).await;
    assert_eq!(reply.status, 200);
}

/// Says how much is coming, and sends until somebody answers. A well-behaved client library would not look at an answer
/// before it has sent everything.
async fn send_a_flood(server: SocketAddr, path: &str, declared: &str) -> String {
    let socket = tokio::net::TcpStream::connect(server).await.unwrap();
    let (mut from, mut to) = socket.into_split();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {server}\r\naccept: application/json\r\ncontent-type: application/json\r\n\
         connection: close\r\n{declared}\r\n\r\n"
    );
    let flood = tokio::spawn(async move {
        to.write_all(head.as_bytes()).await?;
        for _ in 0..160 {
            // As a chunk it is one; as plain bytes it is as good as any.
            to.write_all(format!("10000\r\n{}\r\n", "[".repeat(0x10000)).as_bytes()).await?;
        }
        Ok::<_, std::io::Error>(())
    });
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    // The server may cut the line when it has answered: what came before that counts.
    while let Ok(1..) = from.read(&mut buffer).await.inspect(|&read| answer.extend(&buffer[..read])) {
        if String::from_utf8_lossy(&answer).contains("}") {
            break;
        }
    }
    flood.abort();
    String::from_utf8_lossy(&answer).into_owned()
}
