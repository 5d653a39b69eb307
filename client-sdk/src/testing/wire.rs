//! Between the devices and the server.
//!
//! Owns what gets through and what does not, and who hears that a vault has moved. Knows nothing of what is said.

use super::server::{Answer, World};
use super::{Method, Request, TestClock};
use crate::Clock;
use crate::transport::{ByteStream, Response, Streamed, Transport, TransportError};
use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::stream::unfold;
use selkie_protocol::id::{UserId, VaultId};
use selkie_protocol::vault::{Pushed, VaultMoved};
use selkie_protocol::{ErrorBody, ErrorCode, Face};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::watch;

/// The server, where all wires end.
pub(super) struct Exchange {
    pub(super) clock: TestClock,
    world: Mutex<World>,
    listeners: Mutex<Vec<(UserId, UnboundedSender<Vec<u8>>)>>,
}

impl Exchange {
    pub(super) fn new(name: &str, clock: TestClock) -> Exchange {
        Exchange { clock, world: Mutex::new(World::new(name)), listeners: Mutex::default() }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, request: &Request) -> Response {
        let mut world = self.world();
        let answer = world.answer(request, self.clock.now_ms());
        if let Ok(body) = &answer
            && let Some(moved) = moved(request, body)
        {
            self.tell(&world, &moved);
        }
        response(answer)
    }

    /// Members who listen hear that a vault has moved.
    fn tell(&self, world: &World, moved: &VaultMoved) {
        let said = [b"event: vault\ndata: ", &*Face::Json.encode(moved), b"\n\n"].concat();
        let Some(vault) = world.vaults.all.get(&moved.vid) else { return };
        let members = vault.log.core().governance();
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|(user, say)| members.member(user).is_none() || say.send(said.clone()).is_ok());
    }

    fn listen(&self, request: &Request) -> Result<ByteStream, Response> {
        let world = self.world();
        let listener = world.caller(request, self.clock.now_ms()).and_then(|session| {
            let person = world.person(&session);
            person.ok_or(ErrorCode::Forbidden)
        });
        let user = listener.map_err(|code| response(Err(code)))?;
        let (say, hear) = unbounded_channel();
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).push((user, say));
        Ok(Box::pin(unfold(hear, |mut hear| async { hear.recv().await.map(|said| (Ok(said), hear)) })))
    }
}

fn moved(request: &Request, answer: &[u8]) -> Option<VaultMoved> {
    let vid: VaultId = request.path.strip_prefix("/v1/vaults/")?.strip_suffix("/push")?.parse().ok()?;
    let pushed: Pushed = Face::Cbor.decode(answer).ok().filter(|_| request.method == Method::Post)?;
    Some(VaultMoved { vid, n: pushed.n })
}

fn response(answer: Answer) -> Response {
    let (status, content_type, body) = match answer {
        Ok(body) => (200, Face::CBOR, body),
        Err(code) => (400, Face::PROBLEM_CBOR, Face::Cbor.encode(&ErrorBody::new(code, 400, "in memory"))),
    };
    Response { status, content_type: Some(content_type.into()), retry_after: None, body }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weather {
    Fine,
    Cut,
    Held,
}

/// One device's way to the server.
pub(super) struct Wire {
    server: Arc<Exchange>,
    weather: watch::Sender<Weather>,
    answers_to_lose: AtomicUsize,
}

impl Wire {
    pub(super) fn new(server: Arc<Exchange>) -> Wire {
        Wire { server, weather: watch::Sender::new(Weather::Fine), answers_to_lose: AtomicUsize::new(0) }
    }

    pub(super) fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }

    pub(super) fn weather(&self) -> Weather {
        *self.weather.borrow()
    }

    pub(super) fn lose_answers(&self, requests: usize) {
        self.answers_to_lose.store(requests, Ordering::SeqCst);
    }

    /// Waits while everything is held up; then it gets through, or it does not.
    async fn pass(&self) -> Result<(), TransportError> {
        let mut weather = self.weather.subscribe();
        match weather.wait_for(|weather| *weather != Weather::Held).await.as_deref() {
            Ok(Weather::Fine) => Ok(()),
            _ => Err(TransportError::Unreachable("this device was cut off".into())),
        }
    }

    fn loses_an_answer(&self) -> bool {
        let fewer = |left: usize| left.checked_sub(1);
        self.answers_to_lose.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fewer).is_ok()
    }
}

#[async_trait]
impl Transport for Wire {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        self.pass().await?;
        let response = self.server.send(&request);
        if self.loses_an_answer() {
            return Err(TransportError::TimedOut);
        }
        Ok(response)
    }

    async fn stream(&self, request: Request) -> Result<Option<Streamed>, TransportError> {
        self.pass().await?;
        match self.server.listen(&request) {
            Ok(stream) => {
                let mut weather = self.weather.subscribe();
                // A line that was cut is over.
                let cut = async move { drop(weather.wait_for(|weather| *weather == Weather::Cut).await) };
                Ok(Some(Streamed::Stream(Box::pin(stream.take_until(Box::pin(cut))))))
            }
            Err(refused) => Ok(Some(Streamed::Answer(refused))),
        }
    }
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Wire({:?})", self.weather())
    }
}
