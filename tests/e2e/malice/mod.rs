//! What a malicious server can try, and how it fails: the rows of the list of attacks, told over the wire.
//!
//! The server is the real one; the malice sits in the network before it, where it reads and rewrites every message,
//! answers by itself, or leads to another world with the same past. An attack must end in the typed error that the row
//! names, transmit nothing secret, and leave the client as it was.

mod app;
mod cast;
mod identity;
mod members;
mod password;
mod records;
mod restore;
mod sequence;

use selkie_client::{Account, Error, Misbehaviour};
use selkie_e2e::device::{Device, Person};
use selkie_e2e::premises::Backend;
use selkie_e2e::server::TestServer;

const ANA: &str = "ana@example.org";
const BO: &str = "bo@example.org";
const PASSWORD: &str = "seven silver swans sail";

/// A server, and somebody on it with one device.
struct World {
    server: TestServer,
    laptop: Device,
    ana: Person,
    account: Account,
}

impl World {
    /// What the attacks are aimed at is the client: one backend is enough.
    async fn new() -> Self {
        let server = TestServer::start(Backend::SqliteAndFiles).await;
        let laptop = server.device("laptop");
        let (ana, account) = laptop.makes_an_account(ANA, PASSWORD).await;
        server.network().forget();
        World { server, laptop, ana, account }
    }
}

/// The client noticed, said what, and kept what it saw.
fn assert_caught<T: std::fmt::Debug>(answer: selkie_client::Result<T>, expected: &[Misbehaviour]) {
    match answer {
        Err(Error::ServerMisbehaved { kind, evidence }) => {
            assert!(expected.contains(&kind), "caught as {kind:?}");
            let evidence = evidence.expect("evidence is kept");
            let record: serde_json::Value = serde_json::from_slice(&std::fs::read(evidence).unwrap()).unwrap();
            assert!(record["served"].is_array(), "what was served is missing from {record}");
        }
        other => panic!("not caught: {other:?}"),
    }
}

/// The client noticed that answers do not fit together. There is nothing signed to keep.
fn assert_contradiction<T: std::fmt::Debug>(answer: selkie_client::Result<T>) {
    let kind = match &answer {
        Err(Error::ServerMisbehaved { kind, .. }) => *kind,
        other => panic!("not caught: {other:?}"),
    };
    assert_eq!(kind, Misbehaviour::Contradiction);
}

fn assert_wrong_credentials<T: std::fmt::Debug>(answer: selkie_client::Result<T>) {
    assert!(matches!(answer, Err(Error::WrongCredentials)), "{answer:?}");
}

fn assert_not_understood<T: std::fmt::Debug>(answer: selkie_client::Result<T>) {
    assert!(matches!(answer, Err(Error::UnsupportedProtocol(_))), "{answer:?}");
}

/// Nobody proved to know the password.
fn assert_nothing_was_proved(server: &TestServer) {
    for route in ["POST /v1/auth/login/finish", "POST /v1/auth/register/finish", "POST /v1/account/password/finish"] {
        assert!(server.network().calls(route).is_empty(), "{route} was called");
    }
}

/// More of the same, where somebody has the time.
fn times(ordinarily: usize, long: usize) -> usize {
    if std::env::var_os("SELKIE_LONG").is_some() { long } else { ordinarily }
}
