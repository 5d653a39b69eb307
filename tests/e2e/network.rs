//! The network does to a message what it says it does: what the other tests stand on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use selkie_e2e::canary::Canaries;
use selkie_e2e::message::Reply;
use selkie_e2e::network::{Network, Outcome};
use selkie_protocol::Face;
use selkie_protocol::session::{SignOut, SignOutScope};

#[tokio::test]
async fn an_honest_line_changes_nothing_and_remembers_all() {
    let (network, _echo) = line_to_an_echo().await;
    let answer = send(&network, SignOutScope::This).await.unwrap();
    assert_eq!(answer, SignOut { which: SignOutScope::This });
    let exchanges = network.calls("POST /v1/auth/sign-out");
    assert_eq!(exchanges.len(), 1);
    assert_eq!(exchanges[0].request.read::<SignOut>().which, SignOutScope::This);
    assert!(network.calls("POST /v1/auth/refresh").is_empty());
}

#[tokio::test]
async fn an_evil_line_rewrites_what_comes_back() {
    let (network, _echo) = line_to_an_echo().await;
    network.tamper_with_reply("POST /v1/auth/sign-out", |reply| {
        reply.rewrite(|message: &mut SignOut| message.which = SignOutScope::All);
    });
    assert_eq!(send(&network, SignOutScope::This).await.unwrap().which, SignOutScope::All);
    network.behave_well();
    assert_eq!(send(&network, SignOutScope::This).await.unwrap().which, SignOutScope::This);
}

#[tokio::test]
async fn a_line_can_lose_a_request_or_only_its_answer() {
    let (network, echo) = line_to_an_echo().await;
    network.behave(|_, _| async { Outcome::Silence });
    assert!(send(&network, SignOutScope::This).await.is_err());
    assert_eq!(echo.heard(), 0);
    network.behave(|request, server| async move {
        server.reply(&request).await;
        Outcome::Silence
    });
    assert!(send(&network, SignOutScope::This).await.is_err());
    assert_eq!(echo.heard(), 1);
}

#[tokio::test]
async fn a_line_can_double_and_invent() {
    let (network, echo) = line_to_an_echo().await;
    network.behave(|request, server| async move {
        server.reply(&request).await;
        server.answer(&request).await
    });
    send(&network, SignOutScope::This).await.unwrap();
    assert_eq!(echo.heard(), 2);
    network.behave(|request, _| async move {
        Outcome::Answer(Reply::forged(request.wants(), 200, &SignOut { which: SignOutScope::Others }))
    });
    assert_eq!(send(&network, SignOutScope::This).await.unwrap().which, SignOutScope::Others);
    assert_eq!(echo.heard(), 2);
}

#[tokio::test]
async fn what_crossed_can_be_searched_for_secrets() {
    let (network, _echo) = line_to_an_echo().await;
    send(&network, SignOutScope::Others).await.unwrap();
    let raw = network.exchanges()[0].request.raw();
    assert!(Canaries::default().text("the path", "/v1/auth/sign-out").find_in(&raw).is_some());
    assert!(Canaries::default().text("the body", "ewhichfothers").find_in(&raw).is_some());
    assert!(Canaries::default().text("something else", "ewhichfnobody").find_in(&raw).is_none());
}

/// A server that says what it was told.
struct Echo {
    heard: Arc<AtomicUsize>,
    _line: Network,
}

impl Echo {
    fn heard(&self) -> usize {
        self.heard.load(Ordering::SeqCst)
    }
}

/// The echo is a line too: one that never leads anywhere.
async fn line_to_an_echo() -> (Network, Echo) {
    let heard = Arc::new(AtomicUsize::new(0));
    let echo = Network::new().await;
    let count = heard.clone();
    echo.behave(move |request, _| {
        count.fetch_add(1, Ordering::SeqCst);
        let headers = request.headers.into_iter().filter(|(name, _)| name == "content-type").collect();
        let reply = Reply { status: 200, headers, body: request.body };
        async move { Outcome::Answer(reply) }
    });
    let network = Network::new().await;
    network.lead_to(echo.name().parse().unwrap());
    (network, Echo { heard, _line: echo })
}

async fn send(network: &Network, which: SignOutScope) -> Result<SignOut, reqwest::Error> {
    let answer = reqwest::Client::builder()
        .no_proxy()
        .build()?
        .post(format!("{}/v1/auth/sign-out", network.url()))
        .header("content-type", Face::CBOR)
        .header("accept", Face::CBOR)
        .body(Face::Cbor.encode(&SignOut { which }))
        .send()
        .await?;
    let bytes = answer.bytes().await?;
    Ok(Face::Cbor.decode(&bytes).unwrap())
}
