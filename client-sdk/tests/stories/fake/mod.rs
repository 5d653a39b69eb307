//! A server in memory that can be made to misbehave.
//!
//! Owns the levers: it loses answers, goes back in time, lies. Beneath them is the honest server of the testing kit,
//! which is compiled into these stories once more, so that they can reach into it and apps cannot.

mod malice;
#[path = "../../../src/testing/server/mod.rs"]
pub(crate) mod server;
pub(crate) mod time;

pub(crate) use server::vaults;

use async_trait::async_trait;
use selkie_client::transport::{Method, Request, Response, Streamed, Transport, TransportError};
use selkie_client::{Client, ClientBuilder, Clock, Runtime};
use selkie_protocol::opaque;
use selkie_protocol::vault::Beginning;
use selkie_protocol::version::Capabilities;
use selkie_protocol::{ErrorBody, ErrorCode, Face};
use server::{World, account::Acct};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

pub(crate) const URL: &str = "https://home.example/";
pub(crate) const NAME: &str = "home.example";

/// What goes wrong with the next request to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mishap {
    /// It does not arrive.
    NotDelivered,
    /// It is done, and nobody hears of it.
    AnswerLost,
    /// It is done, and what comes back is a page of some proxy.
    AnswerGarbled,
    /// It is not done: the server has too much to do.
    Overloaded,
}

type Bend = Arc<dyn Fn(&str, Vec<u8>) -> Vec<u8> + Send + Sync>;

pub(crate) struct Fake {
    world: Mutex<World>,
    levers: Mutex<Levers>,
    clock: Arc<TestClock>,
}

/// What was pulled, and what was seen meanwhile.
#[derive(Default)]
struct Levers {
    mishaps: Vec<(String, Mishap)>,
    bend: Option<Bend>,
    refuse_all_tokens: bool,
    /// What may not be posted, by the path's end.
    refuses: Option<String>,
    misplace_beginnings_by: u64,
    protocol: Option<u32>,
    sent: Vec<(String, Vec<u8>)>,
    /// Whoever listens to hints; none can be had while there is no list.
    listeners: Option<Vec<UnboundedSender<Vec<u8>>>>,
    opened: usize,
}

impl Fake {
    pub(crate) fn start() -> Arc<Fake> {
        let clock = Arc::new(TestClock(AtomicU64::new(1_800_000_000_000)));
        let levers = Levers { listeners: Some(Vec::new()), ..Levers::default() };
        Arc::new(Fake { world: Mutex::new(World::new(NAME)), levers: Mutex::new(levers), clock })
    }

    /// The same people with the same sessions on a server that has no vaults yet.
    pub(crate) fn with_the_same_people(&self) -> Arc<Fake> {
        let known = self.world.lock().unwrap();
        let clock = Arc::new(TestClock(AtomicU64::new(self.clock.now_ms())));
        let mut world = World::new(NAME);
        world.accounts = known.accounts.clone();
        world.sessions = known.sessions.clone();
        world.people = known.people.clone();
        world.counter = known.counter;
        Arc::new(Fake { world: Mutex::new(world), levers: Mutex::default(), clock })
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// A device that keeps its accounts in memory.
    pub(crate) fn device(self: &Arc<Self>) -> Client {
        self.builder().in_memory().build().unwrap()
    }

    pub(crate) fn builder(self: &Arc<Self>) -> ClientBuilder {
        self.builder_at(URL)
    }

    /// The same server at another address, as a host that relays to it is.
    pub(crate) fn builder_at(self: &Arc<Self>, url: &str) -> ClientBuilder {
        Client::builder(url).transport(self.clone()).clock(self.clock.clone()).runtime(Arc::new(Impatient))
    }

    /// An app that has named no server so far, on a device that could reach this one.
    pub(crate) fn alone(self: &Arc<Self>) -> ClientBuilder {
        Client::alone().transport(self.clone()).clock(self.clock.clone()).runtime(Arc::new(Impatient))
    }

    pub(crate) fn later(&self, ms: u64) {
        self.clock.0.fetch_add(ms, Ordering::SeqCst);
    }

    pub(crate) fn next_request_to(&self, path: &str, mishap: Mishap) {
        self.levers.lock().unwrap().mishaps.push((path.into(), mishap));
    }

    /// Reaches into the server.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut World) -> T) -> T {
        work(&mut self.world.lock().unwrap())
    }

    /// Every answer passes through here before it leaves.
    pub(crate) fn bend(&self, bend: impl Fn(&str, Vec<u8>) -> Vec<u8> + Send + Sync + 'static) {
        self.levers.lock().unwrap().bend = Some(Arc::new(bend));
    }

    pub(crate) fn be_honest(&self) {
        let mut levers = self.levers.lock().unwrap();
        (levers.bend, levers.refuses) = (None, None);
    }

    pub(crate) fn refuse_all_tokens(&self) {
        self.levers.lock().unwrap().refuse_all_tokens = true;
    }

    /// It does not take back what it lost.
    pub(crate) fn refuse(&self, path: &str) {
        self.levers.lock().unwrap().refuses = Some(path.into());
    }

    /// It lies about where checkpoints stand.
    pub(crate) fn misplace_beginnings_by(&self, entries: u64) {
        self.levers.lock().unwrap().misplace_beginnings_by = entries;
    }

    /// Says this to everybody who listens.
    pub(crate) fn hint(&self, text: &str) {
        let mut levers = self.levers.lock().unwrap();
        let listeners = levers.listeners.iter_mut().flatten();
        listeners.for_each(|listener| drop(listener.send(text.as_bytes().to_vec())));
    }

    /// Ends all streams of hints; how many were opened so far.
    pub(crate) fn hang_up(&self) -> usize {
        let mut levers = self.levers.lock().unwrap();
        levers.listeners.iter_mut().for_each(Vec::clear);
        levers.opened
    }

    /// From now on it is a transport without streams.
    pub(crate) fn have_no_hints(&self) {
        self.levers.lock().unwrap().listeners = None;
    }

    pub(crate) fn speak_protocol(&self, version: u32) {
        self.levers.lock().unwrap().protocol = Some(version);
    }

    pub(crate) fn call_itself(&self, name: &str) {
        self.world.lock().unwrap().server_name = name.into();
    }

    pub(crate) fn snapshot(&self, name: &str) -> Acct {
        self.world.lock().unwrap().accounts[name].clone()
    }

    pub(crate) fn change(&self, name: &str, change: impl FnOnce(&mut Acct)) {
        change(self.world.lock().unwrap().accounts.get_mut(name).unwrap());
    }

    pub(crate) fn accounts(&self) -> usize {
        self.world.lock().unwrap().accounts.len()
    }

    pub(crate) fn end_sessions(&self) {
        self.world.lock().unwrap().sessions.clear();
    }

    pub(crate) fn sessions(&self) -> usize {
        self.world.lock().unwrap().sessions.len()
    }

    /// Paths asked for since the last time this was called.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.levers.lock().unwrap().sent).into_iter().map(|(path, _)| path).collect()
    }

    /// Everything ever sent, for a search for what must not be in it.
    pub(crate) fn all_bodies(&self) -> Vec<Vec<u8>> {
        self.levers.lock().unwrap().sent.iter().map(|(_, body)| body.clone()).collect()
    }

    /// Makes an account the way a plain OPAQUE client does.
    pub(crate) fn register_bare(&self, name: &str, password: &str) {
        let login_name = selkie_protocol::name::LoginName::new(name).unwrap();
        let input = selkie_protocol::name::password_input(NAME, &login_name, password, None).unwrap();
        let started = opaque::RegistrationStarted::new(&input).unwrap();
        let mut world = self.world.lock().unwrap();
        let credential = world.fresh16();
        let response = world.setup.registration_response(&started.request, &credential).unwrap();
        let record = started.finish(&input, &response).unwrap().record;
        world.accounts.insert(name.into(), Acct::bare(credential, record));
    }
}

impl Levers {
    /// What it does not even look at.
    fn refuses(&self, request: &Request) -> Option<ErrorCode> {
        if self.refuse_all_tokens && request.bearer.is_some() {
            return Some(ErrorCode::TokenExpired);
        }
        let refused = self.refuses.as_ref().is_some_and(|end| request.path.ends_with(end));
        (refused && request.method == Method::Post).then_some(ErrorCode::RestoreRefused)
    }

    /// What becomes of an honest answer.
    fn bend(&self, request: &Request, mut body: Vec<u8>) -> Vec<u8> {
        if let Some(protocol) = self.protocol
            && request.path.ends_with("/capabilities")
        {
            let honest: Capabilities = Face::Cbor.decode(&body).unwrap();
            body = Face::Cbor.encode(&Capabilities { protocol, ..honest });
        }
        if self.misplace_beginnings_by > 0 && request.path.ends_with("/checkpoint") && request.method == Method::Get {
            let honest: Beginning = Face::Cbor.decode(&body).unwrap();
            body = Face::Cbor.encode(&Beginning { n: honest.n + self.misplace_beginnings_by, ..honest });
        }
        self.bend.clone().map_or(body.clone(), |bend| bend(&request.path, body))
    }
}

#[async_trait]
impl Transport for Fake {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        let mut levers = self.levers.lock().unwrap();
        levers.sent.push((request.path.clone(), request.body.clone().unwrap_or_default()));
        let at = levers.mishaps.iter().position(|(path, _)| request.path.contains(path.as_str()));
        let mishap = at.map(|at| levers.mishaps.remove(at).1);
        if mishap == Some(Mishap::NotDelivered) {
            return Err(TransportError::TimedOut);
        }
        let answer = match levers.refuses(&request) {
            Some(refusal) => Err(refusal),
            None if mishap == Some(Mishap::Overloaded) => Err(ErrorCode::Overloaded),
            None => self.world.lock().unwrap().answer(&request, self.clock.now_ms()),
        };
        if mishap == Some(Mishap::AnswerLost) {
            return Err(TransportError::TimedOut);
        }
        if mishap == Some(Mishap::AnswerGarbled) {
            let content_type = Some("text/html".to_owned());
            return Ok(Response { status: 500, content_type, retry_after: None, body: b"<html>".to_vec() });
        }
        let (status, content_type, body) = match answer {
            Ok(body) => (200, Face::CBOR, levers.bend(&request, body)),
            Err(code) => (400, Face::PROBLEM_CBOR, Face::Cbor.encode(&ErrorBody::new(code, 400, "request-1"))),
        };
        Ok(Response { status, content_type: Some(content_type.into()), retry_after: None, body })
    }

    async fn stream(&self, request: Request) -> Result<Option<Streamed>, TransportError> {
        let mut levers = self.levers.lock().unwrap();
        if let Err(code) = self.world.lock().unwrap().caller(&request, self.clock.now_ms()) {
            let body = Face::Cbor.encode(&ErrorBody::new(code, 401, "request-1"));
            let content_type = Some(Face::PROBLEM_CBOR.to_owned());
            return Ok(Some(Streamed::Answer(Response { status: 401, content_type, retry_after: None, body })));
        }
        levers.opened += 1;
        let Some(listeners) = &mut levers.listeners else { return Ok(None) };
        let (say, hear) = unbounded_channel();
        listeners.push(say);
        let heard = futures_util::stream::unfold(hear, |mut hear| async { hear.recv().await.map(|it| (Ok(it), hear)) });
        Ok(Some(Streamed::Stream(Box::pin(heard))))
    }
}

impl std::fmt::Debug for Fake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fake")
    }
}

#[derive(Debug)]
struct TestClock(AtomicU64);

impl Clock for TestClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// How long a renewal of the session may take, which is not a pause.
const RENEWAL: Duration = Duration::from_secs(15);

/// Tokio, for whom every pause is a short one.
#[derive(Debug)]
struct Impatient;

#[async_trait]
impl Runtime for Impatient {
    fn run_apart(&self, job: Box<dyn FnOnce() + Send>) {
        selkie_client::TokioRuntime.run_apart(job);
    }

    fn spawn(&self, task: selkie_client::Task) {
        selkie_client::TokioRuntime.spawn(task);
    }

    async fn sleep(&self, duration: Duration) {
        if duration == RENEWAL {
            tokio::time::sleep(duration).await;
        } else {
            tokio::task::yield_now().await;
        }
    }
}
