//! The whole server on real sockets.

use super::{App, OpenError};
use crate::config::{Config, Period, Secret};
use crate::edges::Edges;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn config(folder: &tempfile::TempDir) -> Config {
    let mut config = Config::default();
    config.data.dir = folder.path().join("data");
    config.server.listen = (Ipv4Addr::LOCALHOST, 0).into();
    config.server.workers = Some(1);
    config.server.shutdown_grace = Period::seconds(2);
    config
}

fn exchange(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

const GET_READY: &str = "GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_server_starts_with_nothing_configured_answers_and_stops() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&folder);
    config.metrics.listen = Some((Ipv4Addr::LOCALHOST, 0).into());
    let app = Arc::new(App::open(config, Edges::real()).await.unwrap());
    let running = app.listen().unwrap();
    let (address, metrics) = (running.address, running.metrics_address.unwrap());
    let ready = tokio::task::spawn_blocking(move || exchange(address, GET_READY)).await.unwrap();
    assert!(ready.starts_with("HTTP/1.1 200 OK"), "{ready}");
    let request = "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let metrics = tokio::task::spawn_blocking(move || exchange(metrics, request)).await.unwrap();
    assert!(metrics.contains("selkie_http_requests_total"), "{metrics}");
    running.stop().await.unwrap();
    assert!(TcpStream::connect(address).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_the_same_after_it_was_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let first = App::open(config(&folder), Edges::real()).await.unwrap();
    let identity = first.identity.clone();
    first.store.close().await;
    let second = App::open(config(&folder), Edges::real()).await.unwrap();
    assert_eq!(second.identity, identity);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_master_key_opens_nothing_and_is_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let with_key = |key: &str| {
        let mut config = config(&folder);
        config.master_key.key = Some(Secret::new(key.repeat(32)));
        config
    };
    App::open(with_key("07"), Edges::real()).await.unwrap().store.close().await;
    let other = App::open(with_key("08"), Edges::real()).await;
    assert!(matches!(other, Err(OpenError::OtherMasterKey { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_trickles_is_given_up_and_others_never_notice() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&folder);
    config.http.body_timeout = Period::seconds(1);
    let app = Arc::new(App::open(config, Edges::real()).await.unwrap());
    let running = app.listen().unwrap();
    let address = running.address;
    let slow = "POST /v1/auth/login/start HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
                Content-Length: 100\r\n\r\n{";
    let began = Instant::now();
    let trickling = tokio::task::spawn_blocking(move || exchange(address, slow));
    let ready = tokio::task::spawn_blocking(move || exchange(address, GET_READY)).await.unwrap();
    assert!(ready.starts_with("HTTP/1.1 200 OK"));
    let answer = trickling.await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("request_timeout"));
    assert!(began.elapsed() < Duration::from_secs(20));
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_cannot_hold_every_connection() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&folder);
    config.server.max_connections_per_address = 2;
    let app = Arc::new(App::open(config, Edges::real()).await.unwrap());
    let running = app.listen().unwrap();
    let address = running.address;
    let held = tokio::task::spawn_blocking(move || {
        let hold = || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"HTTP/1.1 200");
            stream
        };
        (hold(), hold())
    });
    let held = held.await.unwrap();
    let third = tokio::task::spawn_blocking(move || exchange(address, GET_READY)).await.unwrap();
    assert!(third.starts_with("HTTP/1.1 503 ") && third.contains("overloaded"), "{third}");
    drop(held);
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_there_is_http_2_and_the_browser_is_told_to_stay() {
    crate::tls::install_provider();
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    #[cfg(unix)]
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let mut config = config(&folder);
    (config.tls.cert, config.tls.key) = (Some(cert), Some(key));
    let app = Arc::new(App::open(config, Edges::real()).await.unwrap());
    let running = app.listen().unwrap();
    let address = running.address;

    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let speak = move |protocol: &'static [u8]| {
        let mut client = rustls::ClientConfig::builder().with_root_certificates(roots.clone()).with_no_client_auth();
        client.alpn_protocols = vec![protocol.to_vec()];
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        let connection = rustls::ClientConnection::new(Arc::new(client), name).unwrap();
        rustls::StreamOwned::new(connection, TcpStream::connect(address).unwrap())
    };
    let answers = tokio::task::spawn_blocking(move || {
        let mut one = speak(b"http/1.1");
        one.write_all(GET_READY.as_bytes()).unwrap();
        let mut answer = Vec::new();
        let ended = one.read_to_end(&mut answer);
        assert!(!answer.is_empty(), "{ended:?}");
        let mut two = speak(b"h2");
        // The preface and an empty SETTINGS frame; the server's first frame is its own SETTINGS.
        two.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
        let mut frame = [0; 9];
        two.read_exact(&mut frame).unwrap();
        (String::from_utf8_lossy(&answer).into_owned(), two.conn.alpn_protocol().map(<[u8]>::to_vec), frame[3])
    });
    let (answer, protocol, kind_of_frame) = answers.await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(answer.to_ascii_lowercase().contains("strict-transport-security: max-age="), "{answer}");
    assert_eq!((protocol.as_deref(), kind_of_frame), (Some(&b"h2"[..]), 4));
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_takes_no_longer_than_it_may_whatever_hangs() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&folder);
    config.server.shutdown_grace = Period::seconds(1);
    config.metrics.listen = Some((Ipv4Addr::LOCALHOST, 0).into());
    let app = Arc::new(App::open(config, Edges::real()).await.unwrap());
    let mut running = app.listen().unwrap();
    running.chores.push(tokio::spawn(std::future::pending()));
    let (main, metrics) = (running.address, running.metrics_address.unwrap());
    let held = tokio::task::spawn_blocking(move || {
        [main, metrics].map(|address| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            stream.read_exact(&mut [0; 12]).unwrap();
            // The next request has begun, and never ends.
            stream.write_all(b"POST /v1/auth/refresh HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{").unwrap();
            stream
        })
    });
    let _held = held.await.unwrap();
    let began = Instant::now();
    tokio::time::timeout(Duration::from_secs(20), running.stop()).await.expect("it stops").unwrap();
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}
