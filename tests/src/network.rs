//! What stands between a client and its server: it may lose, delay, double, change, invent and replay, and it keeps a
//! record of everything.
//!
//! Owns the sockets of the man in the middle. Knows nothing about what he does with what he reads: that is a function
//! handed in with [`Network::behave`].

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

use crate::message::{Headers, Reply, Request};

/// The line that a client believes to be its server.
#[derive(Debug)]
pub struct Network {
    address: SocketAddr,
    line: Arc<Line>,
    listener: tokio::task::JoinHandle<()>,
}

/// What the client gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Answer(Reply),
    /// The connection ends without a word.
    Silence,
}

/// One request and what came of it, as the client saw both.
#[derive(Clone, Debug)]
pub struct Exchange {
    pub request: Request,
    pub outcome: Outcome,
}

/// The honest server behind the man in the middle.
#[derive(Clone, Debug)]
pub struct Server {
    line: Arc<Line>,
}

type Behaviour = Arc<dyn Fn(Request, Server) -> BoxFuture<'static, Outcome> + Send + Sync>;

struct Line {
    server: Mutex<Option<SocketAddr>>,
    http: reqwest::Client,
    behaviour: Mutex<Behaviour>,
    exchanges: Mutex<Vec<Exchange>>,
}

impl Network {
    /// A line that does not lead anywhere yet: a server wants to know its public name before it starts.
    pub async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("the loopback address has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        let line = Arc::new(Line {
            server: Mutex::new(None),
            http: http.build().expect("an HTTP client needs nothing from its surroundings"),
            behaviour: Mutex::new(Arc::new(honest)),
            exchanges: Mutex::new(Vec::new()),
        });
        let listener = tokio::spawn(listen(listener, line.clone()));
        Network { address, line, listener }
    }

    /// Where the real server is, from the next request on.
    pub fn lead_to(&self, server: SocketAddr) {
        *lock(&self.line.server) = Some(server);
    }

    /// What the client takes for the server's address.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What the client takes for the server's name.
    pub fn name(&self) -> String {
        self.address.to_string()
    }

    pub fn server(&self) -> Server {
        Server { line: self.line.clone() }
    }

    /// From the next request on, this decides what happens.
    pub fn behave<F, Fut>(&self, behaviour: F)
    where
        F: Fn(Request, Server) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Outcome> + Send + 'static,
    {
        *lock(&self.line.behaviour) = Arc::new(move |request, server| Box::pin(behaviour(request, server)));
    }

    /// From the next request on, everything goes through unchanged.
    pub fn behave_well(&self) {
        *lock(&self.line.behaviour) = Arc::new(honest);
    }

    /// Changes what comes back from one route.
    pub fn tamper_with_reply(&self, route: &'static str, change: impl Fn(&mut Reply) + Send + Sync + 'static) {
        let change = Arc::new(change);
        self.behave(move |request, server| {
            let change = change.clone();
            async move {
                let mut outcome = server.answer(&request).await;
                if let (true, Outcome::Answer(reply)) = (request.is(route), &mut outcome) {
                    change(reply);
                }
                outcome
            }
        });
    }

    /// Everything that has crossed, in the order in which it was answered.
    pub fn exchanges(&self) -> Vec<Exchange> {
        lock(&self.line.exchanges).clone()
    }

    /// The calls of one route that have crossed.
    pub fn calls(&self, route: &str) -> Vec<Exchange> {
        self.exchanges().into_iter().filter(|exchange| exchange.request.is(route)).collect()
    }

    pub fn forget(&self) {
        lock(&self.line.exchanges).clear();
    }
}

impl Exchange {
    /// What the client got.
    pub fn reply(&self) -> Reply {
        match &self.outcome {
            Outcome::Answer(reply) => reply.clone(),
            Outcome::Silence => panic!("{} {} was not answered", self.request.method, self.request.path),
        }
    }

    /// Everything a listener on the line would see of it.
    pub fn raw(&self) -> Vec<u8> {
        let reply = match &self.outcome {
            Outcome::Answer(reply) => reply.raw(),
            Outcome::Silence => Vec::new(),
        };
        [self.request.raw(), reply].concat()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

impl Server {
    /// What the honest server says to this; silence when it cannot be reached.
    pub async fn answer(&self, request: &Request) -> Outcome {
        match self.ask(request).await {
            Ok(reply) => Outcome::Answer(reply),
            Err(_) => Outcome::Silence,
        }
    }

    /// As [`Server::answer`], for those who cannot do without a reply.
    pub async fn reply(&self, request: &Request) -> Reply {
        match self.answer(request).await {
            Outcome::Answer(reply) => reply,
            Outcome::Silence => panic!("the server did not answer {} {}", request.method, request.path),
        }
    }

    async fn ask(&self, request: &Request) -> Result<Reply, reqwest::Error> {
        let server = lock(&self.line.server).expect("the line leads to a server");
        let method = request.method.parse().expect("the method came from a request");
        let mut outgoing = self.line.http.request(method, format!("http://{server}{}", request.path));
        for (name, value) in &request.headers {
            if !is_of_the_connection(name) {
                outgoing = outgoing.header(name, value.as_slice());
            }
        }
        let answer = outgoing.body(request.body.clone()).send().await?;
        let status = answer.status().as_u16();
        let headers = all_headers(answer.headers());
        Ok(Reply { status, headers, body: answer.bytes().await?.to_vec() })
    }
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Line").field("server", &self.server).finish_non_exhaustive()
    }
}

fn honest(request: Request, server: Server) -> BoxFuture<'static, Outcome> {
    Box::pin(async move { server.answer(&request).await })
}

async fn listen(listener: TcpListener, line: Arc<Line>) {
    // Aborting the listener ends the connections with it.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        let line = line.clone();
        connections.spawn(async move {
            let service = hyper::service::service_fn(move |request| carry(request, line.clone()));
            let http = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            // A client that hangs up is not our business.
            let _ = http.serve_connection(TokioIo::new(socket), service).await;
        });
    }
}

async fn carry(incoming: hyper::Request<Incoming>, line: Arc<Line>) -> Result<hyper::Response<Full<Bytes>>, HungUp> {
    let (head, body) = incoming.into_parts();
    let request = Request {
        method: head.method.to_string(),
        path: head.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
        headers: all_headers(&head.headers),
        body: body.collect().await.map_err(|_| HungUp)?.to_bytes().to_vec(),
    };
    let behaviour = lock(&line.behaviour).clone();
    let outcome = behaviour(request.clone(), Server { line: line.clone() }).await;
    lock(&line.exchanges).push(Exchange { request, outcome: outcome.clone() });
    let Outcome::Answer(reply) = outcome else { return Err(HungUp) };
    let mut outgoing = hyper::Response::builder().status(reply.status);
    for (name, value) in reply.headers.iter().filter(|(name, _)| !is_of_the_connection(name)) {
        outgoing = outgoing.header(name, value.as_slice());
    }
    Ok(outgoing.body(Full::from(reply.body)).expect("the parts came from a reply"))
}

/// hyper ends a connection whose service fails.
#[derive(Debug)]
struct HungUp;

impl std::fmt::Display for HungUp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("hung up")
    }
}

impl std::error::Error for HungUp {}

/// Each side of the line writes its own.
fn is_of_the_connection(name: &str) -> bool {
    ["connection", "keep-alive", "transfer-encoding", "content-length", "te", "upgrade"]
        .iter()
        .any(|own| name.eq_ignore_ascii_case(own))
}

fn all_headers(headers: &hyper::HeaderMap) -> Headers {
    headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect()
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
