//! A server in memory.
//!
//! Owns enough of the protocol to be signed up to, and levers to make it lose answers, go back in time or lie. It uses
//! the server's half of OPAQUE and the shared rules of the account log, and keeps what it was sent.

pub(crate) mod time;
pub(crate) mod vaults;

use async_trait::async_trait;
use selkie_client::transport::{Method, Request, Response, Streamed, Transport, TransportError};
use selkie_client::{Client, ClientBuilder, Clock, Runtime};
use selkie_protocol::account::{self, AccountState, TenantRole};
use selkie_protocol::account_log::{AccountLog, Entry, Payload};
use selkie_protocol::cipher::token;
use selkie_protocol::hash::{Label, sha256};
use selkie_protocol::id::{DeviceId, LinkChannel, LoginId, SessionId, UserId};
use selkie_protocol::opaque::{self, LoginState, ServerSetup};
use selkie_protocol::session::{self, KeybagBytes, REFRESH_PURPOSE, Scope, SignOutScope, Tokens};
use selkie_protocol::sign::{PublicKey, Signature};
use selkie_protocol::version::{Capabilities, Limits, PROTOCOL_VERSION, RegistrationPolicy};
use selkie_protocol::{Bytes, ErrorBody, ErrorCode, Face, link};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, HashMap};
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
}

type Bend = Arc<dyn Fn(&str, Vec<u8>) -> Vec<u8> + Send + Sync>;

pub(crate) struct Fake {
    world: Mutex<World>,
    clock: Arc<TestClock>,
}

#[derive(Default)]
pub(crate) struct World {
    setup: Option<ServerSetup>,
    accounts: HashMap<String, Acct>,
    registrations: HashMap<Vec<u8>, (String, [u8; 16])>,
    logins: HashMap<LoginId, Login>,
    sessions: HashMap<SessionId, Sess>,
    links: HashMap<LinkChannel, Link>,
    counter: u64,
    mishaps: Vec<(String, Mishap)>,
    bend: Option<Bend>,
    refuse_all_tokens: bool,
    used_codes: Vec<String>,
    sent: Vec<(String, Vec<u8>)>,
    protocol: u32,
    server_name: String,
    pub(crate) vaults: vaults::Vaults,
    people: BTreeMap<UserId, AccountLog>,
    /// Whoever listens to hints; none can be had while there is no list.
    listeners: Option<Vec<UnboundedSender<Vec<u8>>>>,
    opened: usize,
}

#[derive(Clone)]
pub(crate) struct Acct {
    credential: [u8; 16],
    pub(crate) record: Vec<u8>,
    pub(crate) uid: Option<UserId>,
    pub(crate) entries: Vec<Bytes>,
    pub(crate) keybag: Option<KeybagBytes>,
    labels: HashMap<DeviceId, session::DeviceLabelBytes>,
    totp: bool,
    deleting: bool,
    read: Arc<Mutex<Option<Read>>>,
}

/// What entries say: each request asks, and the signatures are checked once. Stories change the entries as they like.
type Read = (Vec<Bytes>, AccountLog);

struct Login {
    name: String,
    state: Option<LoginState>,
}

#[derive(Clone)]
struct Sess {
    name: String,
    device: Option<DeviceId>,
    scope: Scope,
    generation: u32,
    access_until_ms: u64,
    recent: bool,
}

struct Link {
    name: String,
    offer: Bytes,
    request: Option<Bytes>,
    answer: Option<(Bytes, DeviceId)>,
}

type Answer = Result<Vec<u8>, ErrorCode>;

impl Fake {
    pub(crate) fn start() -> Arc<Fake> {
        let clock = Arc::new(TestClock(AtomicU64::new(1_800_000_000_000)));
        let world = World {
            setup: Some(ServerSetup::generate()),
            protocol: PROTOCOL_VERSION,
            server_name: NAME.into(),
            listeners: Some(Vec::new()),
            ..World::default()
        };
        Arc::new(Fake { world: Mutex::new(world), clock })
    }

    /// The same people with the same sessions on a server that has no vaults yet.
    pub(crate) fn with_the_same_people(&self) -> Arc<Fake> {
        let world = self.world.lock().unwrap();
        let clock = Arc::new(TestClock(AtomicU64::new(self.clock.now_ms())));
        let world = World {
            accounts: world.accounts.clone(),
            sessions: world.sessions.clone(),
            people: world.people.clone(),
            counter: world.counter,
            protocol: world.protocol,
            server_name: world.server_name.clone(),
            ..World::default()
        };
        Arc::new(Fake { world: Mutex::new(world), clock })
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

    pub(crate) fn later(&self, ms: u64) {
        self.clock.0.fetch_add(ms, Ordering::SeqCst);
    }

    pub(crate) fn next_request_to(&self, path: &str, mishap: Mishap) {
        self.world.lock().unwrap().mishaps.push((path.into(), mishap));
    }

    /// Reaches into the server.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut World) -> T) -> T {
        work(&mut self.world.lock().unwrap())
    }

    /// Every answer passes through here before it leaves.
    pub(crate) fn bend(&self, bend: impl Fn(&str, Vec<u8>) -> Vec<u8> + Send + Sync + 'static) {
        self.world.lock().unwrap().bend = Some(Arc::new(bend));
    }

    pub(crate) fn be_honest(&self) {
        self.world.lock().unwrap().bend = None;
    }

    pub(crate) fn refuse_all_tokens(&self) {
        self.world.lock().unwrap().refuse_all_tokens = true;
    }

    /// Says this to everybody who listens.
    pub(crate) fn hint(&self, text: &str) {
        let mut world = self.world.lock().unwrap();
        let listeners = world.listeners.iter_mut().flatten();
        listeners.for_each(|listener| drop(listener.send(text.as_bytes().to_vec())));
    }

    /// Ends all streams of hints; how many were opened so far.
    pub(crate) fn hang_up(&self) -> usize {
        let mut world = self.world.lock().unwrap();
        world.listeners.iter_mut().for_each(Vec::clear);
        world.opened
    }

    /// From now on it is a transport without streams.
    pub(crate) fn have_no_hints(&self) {
        self.world.lock().unwrap().listeners = None;
    }

    pub(crate) fn speak_protocol(&self, version: u32) {
        self.world.lock().unwrap().protocol = version;
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
        std::mem::take(&mut self.world.lock().unwrap().sent).into_iter().map(|(path, _)| path).collect()
    }

    /// Everything ever sent, for a search for what must not be in it.
    pub(crate) fn all_bodies(&self) -> Vec<Vec<u8>> {
        self.world.lock().unwrap().sent.iter().map(|(_, body)| body.clone()).collect()
    }

    /// Makes an account the way a plain OPAQUE client does.
    pub(crate) fn register_bare(&self, name: &str, password: &str) {
        let login_name = selkie_protocol::name::LoginName::new(name).unwrap();
        let input = selkie_protocol::name::password_input(NAME, &login_name, password, None).unwrap();
        let started = opaque::RegistrationStarted::new(&input).unwrap();
        let mut world = self.world.lock().unwrap();
        let credential = world.random16();
        let setup = world.setup.as_ref().unwrap();
        let response = setup.registration_response(&started.request, &credential).unwrap();
        let record = started.finish(&input, &response).unwrap().record;
        let acct = Acct {
            credential,
            record,
            uid: None,
            entries: vec![],
            keybag: None,
            labels: HashMap::new(),
            totp: false,
            deleting: false,
            read: Arc::default(),
        };
        world.accounts.insert(name.into(), acct);
    }
}

#[async_trait]
impl Transport for Fake {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        let mut world = self.world.lock().unwrap();
        let body = request.body.clone().unwrap_or_default();
        world.sent.push((request.path.clone(), body.clone()));
        let at = world.mishaps.iter().position(|(path, _)| request.path.contains(path.as_str()));
        let mishap = at.map(|at| world.mishaps.remove(at).1);
        if mishap == Some(Mishap::NotDelivered) {
            return Err(TransportError::TimedOut);
        }
        let now = self.clock.now_ms();
        let answer = world.answer(&request, &body, now);
        if mishap == Some(Mishap::AnswerLost) {
            return Err(TransportError::TimedOut);
        }
        if mishap == Some(Mishap::AnswerGarbled) {
            let content_type = Some("text/html".to_owned());
            return Ok(Response { status: 500, content_type, retry_after: None, body: b"<html>".to_vec() });
        }
        let (status, content_type, body) = match answer {
            Ok(body) => {
                let bend = world.bend.clone();
                (200, Face::CBOR, bend.map_or(body.clone(), |bend| bend(&request.path, body)))
            }
            Err(code) => (400, Face::PROBLEM_CBOR, Face::Cbor.encode(&ErrorBody::new(code, 400, "request-1"))),
        };
        Ok(Response { status, content_type: Some(content_type.into()), retry_after: None, body })
    }

    async fn stream(&self, request: Request) -> Result<Option<Streamed>, TransportError> {
        let now = self.clock.now_ms();
        let mut world = self.world.lock().unwrap();
        if let Err(code) = world.caller(&request, now) {
            let body = Face::Cbor.encode(&ErrorBody::new(code, 401, "request-1"));
            let content_type = Some(Face::PROBLEM_CBOR.to_owned());
            return Ok(Some(Streamed::Answer(Response { status: 401, content_type, retry_after: None, body })));
        }
        world.opened += 1;
        let Some(listeners) = &mut world.listeners else { return Ok(None) };
        let (say, hear) = unbounded_channel();
        listeners.push(say);
        let heard = futures_util::stream::unfold(hear, |mut hear| async { hear.recv().await.map(|it| (Ok(it), hear)) });
        Ok(Some(Streamed::Stream(Box::pin(heard))))
    }
}

/// Any six digits that begin so; each is good for one sign-in.
fn is_a_code(code: &str) -> bool {
    code.len() == 6 && code.starts_with("12345")
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, ErrorCode> {
    Face::Cbor.decode(body).map_err(|_| ErrorCode::BadRequest)
}

fn write<T: Serialize>(message: &T) -> Answer {
    Ok(Face::Cbor.encode(message))
}

fn log_page(entries: &[Bytes], query: &str) -> Answer {
    let from: u64 = query.strip_prefix("from=").and_then(|from| from.parse().ok()).unwrap_or(0);
    // Small pages, so that paging is exercised.
    let page = entries.iter().skip(from as usize).take(4).cloned().collect();
    write(&account::LogPage { from, entries: page, length: entries.len() as u64 })
}

impl World {
    fn random16(&mut self) -> [u8; 16] {
        self.counter += 1;
        sha256(&self.counter.to_be_bytes())[..16].try_into().unwrap()
    }

    fn answer(&mut self, request: &Request, body: &[u8], now: u64) -> Answer {
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let parts: Vec<&str> = path.trim_start_matches("/v1/").split('/').collect();
        match (request.method, parts.as_slice()) {
            (Method::Get, ["capabilities"]) => write(&self.capabilities()),
            (Method::Post, ["auth", "register", "start"]) => self.register_start(read(body)?),
            (Method::Post, ["auth", "register", "finish"]) => self.register_finish(read(body)?),
            (Method::Post, ["auth", "challenge"]) => {
                write(&session::Challenge { challenge: self.random16().into(), expires_in: 300 })
            }
            (Method::Post, ["auth", "login", "start"]) => self.login_start(read(body)?),
            (Method::Post, ["auth", "login", "finish"]) => self.login_finish(read(body)?, now),
            (Method::Post, ["auth", "refresh"]) => self.refresh(read(body)?, now),
            (Method::Post, ["auth", "recover", "start"]) => self.recover_start(read(body)?),
            (Method::Post, ["auth", "recover", "finish"]) => self.recover_finish(read(body)?, now),
            (Method::Get, ["links", channel]) => self.link_state(channel),
            (Method::Post, ["links", channel, "request"]) => self.link_request(channel, read(body)?),
            (Method::Post, ["links", channel, "session"]) => self.link_session(channel, read(body)?, now),
            (method, parts) => {
                let id = self.caller(request, now)?;
                if let ["vaults" | "poll" | "people", ..] = parts {
                    return self.vault_routes(id, method, parts, query, body, now);
                }
                self.signed_in(id, method, parts, query, body, now)
            }
        }
    }

    fn vault_routes(
        &mut self,
        id: SessionId,
        method: Method,
        parts: &[&str],
        query: &str,
        body: &[u8],
        now: u64,
    ) -> Answer {
        let me = self.accounts[&self.sessions[&id].name].uid.ok_or(ErrorCode::Forbidden)?;
        if let (Method::Get, ["people", user, "log"]) = (method, parts) {
            let user: UserId = user.parse().map_err(|_| ErrorCode::NotFound)?;
            let acct = self.accounts.values().find(|acct| acct.uid == Some(user)).ok_or(ErrorCode::NotFound)?;
            return log_page(&acct.entries, query);
        }
        self.learn_people();
        self.vaults.answer(me, method, parts, query, body, &self.people, now)
    }

    /// Account logs only grow, so a log of the right length is the right one.
    fn learn_people(&mut self) {
        for acct in self.accounts.values() {
            let Some(user) = acct.uid else { continue };
            if self.people.get(&user).is_none_or(|log| log.next_index() != acct.entries.len() as u64) {
                self.people.insert(user, acct.log());
            }
        }
    }

    pub(crate) fn people(&mut self) -> BTreeMap<UserId, AccountLog> {
        self.learn_people();
        self.people.clone()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            protocol: self.protocol,
            software: "fake".into(),
            server_name: self.server_name.clone(),
            incarnation: self.vaults.incarnation,
            head_key: self.vaults.public_key().0.into(),
            registration: RegistrationPolicy::Open,
            second_factors: vec!["totp".into()],
            limits: Limits {
                max_body_bytes: 1 << 20,
                max_auth_body_bytes: 1 << 16,
                max_log_entries: 16,
                max_devices_per_account: 50,
                max_push_bytes: 1 << 21,
                max_push_changes: 256,
            },
        }
    }

    fn register_start(&mut self, message: session::RegisterStart) -> Answer {
        let (token, credential) = (self.random16().to_vec(), self.random16());
        let setup = self.setup.as_ref().unwrap();
        let response = setup.registration_response(message.request.as_ref(), &credential).unwrap();
        self.registrations.insert(token.clone(), (message.login_name.as_str().into(), credential));
        let server_name = self.server_name.clone();
        write(&session::RegisterStarted { reg_token: token.into(), response: response.into(), server_name, ksf_id: 1 })
    }

    fn register_finish(&mut self, message: session::RegisterFinish) -> Answer {
        let (name, credential) = self.registrations.remove(&message.reg_token.0).ok_or(ErrorCode::SignInExpired)?;
        if self.accounts.contains_key(&name) {
            return Err(ErrorCode::LoginNameTaken);
        }
        let mut acct = Acct {
            credential,
            record: message.record.to_vec(),
            uid: None,
            entries: vec![],
            keybag: None,
            labels: HashMap::new(),
            totp: false,
            deleting: false,
            read: Arc::default(),
        };
        if let Some(new) = message.account {
            acct.begin(new)?;
        }
        let uid = acct.uid;
        self.accounts.insert(name, acct);
        write(&session::Registered { uid })
    }

    fn login_start(&mut self, message: session::LoginStart) -> Answer {
        let name = message.login_name.as_str().to_owned();
        let acct = self.accounts.get(&name);
        let credential = acct.map_or([9; 16], |acct| acct.credential);
        let record = acct.map(|acct| acct.record.clone());
        let setup = self.setup.as_ref().unwrap();
        let (state, ke2) = setup.login_response(record.as_deref(), message.ke1.as_ref(), &credential).unwrap();
        let login_id = self.new_login(name, Some(state));
        let server_name = self.server_name.clone();
        write(&session::LoginStarted { login_id, ke2: ke2.into(), server_name, ksf_id: 1 })
    }

    fn new_login(&mut self, name: String, state: Option<LoginState>) -> LoginId {
        let mut id = [0; 24];
        id[8..].copy_from_slice(&self.random16());
        self.logins.insert(LoginId(id), Login { name, state });
        LoginId(id)
    }

    fn login_finish(&mut self, message: session::LoginFinish, now: u64) -> Answer {
        let login = self.logins.remove(&message.login_id).ok_or(ErrorCode::SignInExpired)?;
        let state = login.state.ok_or(ErrorCode::SignInExpired)?;
        let key = state.finish(message.ke3.as_ref()).map_err(|_| ErrorCode::InvalidLogin)?;
        let acct = self.accounts.get(&login.name).ok_or(ErrorCode::InvalidLogin)?;
        if let Some(device) = &message.device {
            let public_key = acct.device(&device.did).ok_or(ErrorCode::DeviceRevoked)?;
            let signature = Signature(*device.signature);
            if !public_key.verify(Label::DEVICE_LOGIN, &[message.login_id.as_bytes()], &signature) {
                return Err(ErrorCode::InvalidField);
            }
        }
        match (&message.second_factor, acct.totp) {
            (None, true) => return Err(ErrorCode::SecondFactorRequired),
            (Some(code), true) if !is_a_code(code.as_str()) || self.used_codes.contains(&code.as_str().to_owned()) => {
                return Err(ErrorCode::SecondFactorInvalid);
            }
            (Some(code), true) => self.used_codes.push(code.as_str().to_owned()),
            _ => {}
        }
        let device = message.device.map(|device| device.did);
        let tokens = self.open_session(&login.name, device, Scope::Full, now);
        let sealed_tokens = Some(token::seal(&key, &message.login_id, &tokens).into());
        write(&session::LoginFinished { tokens: None, sealed_tokens })
    }

    fn open_session(&mut self, name: &str, device: Option<DeviceId>, scope: Scope, now: u64) -> Tokens {
        let id = SessionId(self.random16());
        let sess =
            Sess { name: name.into(), device, scope, generation: 0, access_until_ms: now + 900_000, recent: true };
        self.sessions.insert(id, sess);
        self.tokens(id)
    }

    fn tokens(&self, id: SessionId) -> Tokens {
        let sess = &self.sessions[&id];
        let acct = &self.accounts[&sess.name];
        let mut refresh = [0; session::REFRESH_TOKEN_LENGTH];
        refresh[8..24].copy_from_slice(id.as_bytes());
        refresh[24..28].copy_from_slice(&sess.generation.to_be_bytes());
        Tokens {
            access_token: format!("{id}.{}", sess.generation).into(),
            expires_in: 900,
            refresh_token: refresh.into(),
            session: id,
            scope: sess.scope,
            account: if acct.uid.is_some() { AccountState::Active } else { AccountState::Bare },
            uid: acct.uid,
        }
    }

    fn refresh(&mut self, message: session::Refresh, now: u64) -> Answer {
        let id = SessionId(message.refresh_token[8..24].try_into().unwrap());
        let generation = u32::from_be_bytes(message.refresh_token[24..28].try_into().unwrap());
        let sess = self.sessions.get(&id).cloned().ok_or(ErrorCode::SessionEnded)?;
        if sess.generation != generation && sess.generation != generation + 1 {
            self.sessions.remove(&id);
            return Err(ErrorCode::SessionEnded);
        }
        if let Some(did) = sess.device {
            let key = self.accounts[&sess.name].device(&did).ok_or(ErrorCode::DeviceRevoked)?;
            let proof = message.device.ok_or(ErrorCode::InvalidField)?;
            let parts: [&[u8]; 3] = [&proof.challenge, &sha256(message.refresh_token.as_ref()), REFRESH_PURPOSE];
            if !key.verify(Label::REFRESH, &parts, &Signature(*proof.signature)) {
                return Err(ErrorCode::InvalidField);
            }
        }
        let sess = self.sessions.get_mut(&id).unwrap();
        sess.generation = generation + 1;
        sess.access_until_ms = now + 900_000;
        sess.recent = false;
        write(&self.tokens(id))
    }

    fn recover_start(&mut self, message: session::RecoverStart) -> Answer {
        let name = message.login_name.as_str().to_owned();
        let log = self.accounts.get(&name).map(Acct::log);
        let uid = log.as_ref().map_or(UserId([7; 32]), AccountLog::user);
        let rec_gen = log.and_then(|log| log.recovery()).map_or(1, |(generation, _)| generation);
        let login_id = self.new_login(name, None);
        write(&session::RecoverStarted { login_id, uid, rec_gen, server_name: self.server_name.clone(), ksf_id: 1 })
    }

    fn recover_finish(&mut self, message: session::RecoverFinish, now: u64) -> Answer {
        let login = self.logins.remove(&message.login_id).ok_or(ErrorCode::SignInExpired)?;
        let log = self.accounts.get(&login.name).map(Acct::log).ok_or(ErrorCode::InvalidLogin)?;
        let (_, key) = log.recovery().ok_or(ErrorCode::InvalidLogin)?;
        let user = log.user();
        let parts: [&[u8]; 2] = [message.login_id.as_bytes(), user.as_bytes()];
        if !key.verify(Label::RECOVERY_LOGIN, &parts, &Signature(*message.signature)) {
            return Err(ErrorCode::InvalidLogin);
        }
        let tokens = self.open_session(&login.name, None, Scope::Recovery, now);
        write(&session::LoginFinished { tokens: Some(tokens), sealed_tokens: None })
    }

    fn link_state(&self, channel: &str) -> Answer {
        let link = self.links.get(&channel.parse().unwrap()).ok_or(ErrorCode::LinkExpired)?;
        let answer = link.answer.as_ref().map(|(answer, _)| answer.clone());
        write(&link::LinkState { offer: link.offer.clone(), request: link.request.clone(), answer })
    }

    fn link_request(&mut self, channel: &str, message: link::LinkRequest) -> Answer {
        let link = self.links.get_mut(&channel.parse().unwrap()).ok_or(ErrorCode::LinkExpired)?;
        if link.request.is_some() {
            return Err(ErrorCode::LinkExpired);
        }
        link.request = Some(message.request);
        write(&account::Done {})
    }

    fn link_session(&mut self, channel: &str, message: link::LinkSession, now: u64) -> Answer {
        let channel: LinkChannel = channel.parse().unwrap();
        let link = self.links.remove(&channel).ok_or(ErrorCode::LinkExpired)?;
        let (_, did) = link.answer.ok_or(ErrorCode::LinkExpired)?;
        let key = self.accounts[&link.name].device(&did).ok_or(ErrorCode::DeviceRevoked)?;
        if !key.verify(Label::LINK_SESSION, &[channel.as_bytes()], &Signature(*message.signature)) {
            return Err(ErrorCode::InvalidField);
        }
        write(&self.open_session(&link.name, Some(did), Scope::Full, now))
    }

    fn caller(&self, request: &Request, now: u64) -> Result<SessionId, ErrorCode> {
        let token = request.bearer.as_ref().ok_or(ErrorCode::Unauthenticated)?;
        if self.refuse_all_tokens {
            return Err(ErrorCode::TokenExpired);
        }
        let (id, generation) = token.as_str().rsplit_once('.').ok_or(ErrorCode::Unauthenticated)?;
        let id = id.parse().map_err(|_| ErrorCode::Unauthenticated)?;
        let sess = self.sessions.get(&id).ok_or(ErrorCode::SessionEnded)?;
        if sess.device.is_some_and(|did| self.accounts[&sess.name].device(&did).is_none()) {
            return Err(ErrorCode::DeviceRevoked);
        }
        if generation != sess.generation.to_string() || sess.access_until_ms <= now {
            return Err(ErrorCode::TokenExpired);
        }
        Ok(id)
    }

    fn signed_in(
        &mut self,
        id: SessionId,
        method: Method,
        parts: &[&str],
        query: &str,
        body: &[u8],
        now: u64,
    ) -> Answer {
        let sess = self.sessions[&id].clone();
        let name = sess.name.clone();
        let recent = || if sess.recent { Ok(()) } else { Err(ErrorCode::RecentSignInRequired) };
        let acct = self.accounts.get_mut(&name).unwrap();
        let done = || write(&account::Done {});
        match (method, parts) {
            (Method::Post, ["auth", "sign-out"]) => {
                let message: session::SignOut = read(body)?;
                self.sessions.retain(|other, sess| match message.which {
                    SignOutScope::This => *other != id,
                    SignOutScope::Others => *other == id || sess.name != name,
                    SignOutScope::All => sess.name != name,
                });
                done()
            }
            (Method::Get, ["account"]) => write(&account::Account {
                tenant: "home".into(),
                login_name: name.into(),
                uid: acct.uid,
                state: if acct.deleting { AccountState::Deleting } else { AccountState::Active },
                role: TenantRole::Member,
                created_at_ms: 1,
                delete_after_ms: acct.deleting.then_some(2),
                second_factors: if acct.totp { vec!["totp".into()] } else { vec![] },
                log_length: acct.entries.len() as u64,
            }),
            (Method::Get, ["account", "keybag"]) => {
                recent()?;
                write(&account::Keybag { keybag: acct.keybag.unwrap() })
            }
            (Method::Get, ["account", "log"]) => log_page(&acct.entries, query),
            (Method::Post, ["account", "complete"]) => {
                let message: account::CompleteAccount = read(body)?;
                acct.begin(message.account)?;
                let did = *acct.log().devices().next().unwrap().0;
                self.sessions.get_mut(&id).unwrap().device = Some(did);
                write(&self.tokens(id))
            }
            (Method::Get, ["account", "devices"]) => {
                let log = acct.log();
                let devices = log.devices().map(|(did, known)| account::Device {
                    did: *did,
                    label: acct.labels[did],
                    added_at_ms: known.added_at,
                    last_seen_ms: Some(now),
                    revoked_at_ms: known.revoked_at,
                });
                write(&account::Devices { devices: devices.collect() })
            }
            (Method::Post, ["account", "devices"]) => {
                recent()?;
                let message: account::AddDevice = read(body)?;
                let did = acct.add_device(&message.entry, message.label)?;
                self.sessions.get_mut(&id).unwrap().device = Some(did);
                write(&self.tokens(id))
            }
            (Method::Post, ["account", "devices", did, "revoke"]) => {
                recent()?;
                let message: account::RevokeDevice = read(body)?;
                acct.append(&message.entries)?;
                acct.labels.extend(message.labels.iter().map(|label| (label.did, label.label)));
                let did: DeviceId = did.parse().unwrap();
                self.sessions.retain(|_, sess| sess.device != Some(did));
                done()
            }
            (Method::Post, ["account", "password", "start"]) => {
                recent()?;
                let message: account::PasswordStart = read(body)?;
                let setup = self.setup.as_ref().unwrap();
                let response = setup.registration_response(message.request.as_ref(), &acct.credential).unwrap();
                let server_name = self.server_name.clone();
                write(&account::PasswordStarted {
                    reg_token: vec![1].into(),
                    response: response.into(),
                    server_name,
                    ksf_id: 1,
                })
            }
            (Method::Post, ["account", "password", "finish"]) => {
                let message: account::PasswordFinish = read(body)?;
                acct.append(&message.entries)?;
                acct.record = message.record.to_vec();
                acct.keybag = message.keybag;
                acct.totp &= !message.remove_second_factors;
                if !message.keep_other_sessions {
                    self.sessions.retain(|other, sess| *other == id || sess.name != name);
                }
                done()
            }
            (Method::Post, ["account", "recovery-key"]) => {
                recent()?;
                let message: account::RotateRecoveryKey = read(body)?;
                acct.append(&[message.entry])?;
                acct.keybag = Some(message.keybag);
                done()
            }
            (Method::Get, ["account", "sessions"]) => {
                let sessions =
                    self.sessions.iter().filter(|(_, sess)| sess.name == name).map(|(other, sess)| account::Session {
                        session: *other,
                        did: sess.device,
                        app: None,
                        created_at_ms: 1,
                        last_used_ms: now,
                        current: *other == id,
                    });
                write(&account::Sessions { sessions: sessions.collect() })
            }
            (Method::Post, ["account", "totp", "start"]) => {
                recent()?;
                write(&account::TotpStarted { secret: "ABCDEF".into(), uri: "otpauth://totp/x".into() })
            }
            (Method::Post, ["account", "totp", "confirm"]) => {
                let message: account::TotpConfirm = read(body)?;
                if !is_a_code(message.code.as_str()) {
                    return Err(ErrorCode::SecondFactorInvalid);
                }
                acct.totp = true;
                write(&account::TotpConfirmed { recovery_codes: vec!["aaaa-bbbb".into()] })
            }
            (Method::Post, ["account", "totp", "remove"]) => {
                recent()?;
                acct.totp = false;
                done()
            }
            (Method::Post, ["account", "delete"]) => {
                recent()?;
                acct.deleting = true;
                write(&account::DeletionScheduled { delete_after_ms: 2 })
            }
            (Method::Post, ["account", "keep"]) => {
                acct.deleting = false;
                done()
            }
            (Method::Post, ["links"]) => {
                let message: link::OpenLink = read(body)?;
                self.links.insert(message.channel, Link { name, offer: message.offer, request: None, answer: None });
                write(&link::LinkOpened { expires_in: 600 })
            }
            (Method::Post, ["links", channel, "answer"]) => {
                recent()?;
                let message: link::LinkAnswer = read(body)?;
                let did = acct.add_device(&message.entry, message.label)?;
                let link = self.links.get_mut(&channel.parse().unwrap()).ok_or(ErrorCode::LinkExpired)?;
                link.answer = Some((message.answer, did));
                done()
            }
            _ => Err(ErrorCode::NotFound),
        }
    }
}

impl Acct {
    pub(crate) fn log(&self) -> AccountLog {
        let mut read = self.read.lock().unwrap();
        if let Some((_, log)) = read.as_ref().filter(|(entries, _)| *entries == self.entries) {
            return log.clone();
        }
        let log = AccountLog::replay(self.entries.iter().map(|entry| &**entry)).unwrap();
        *read = Some((self.entries.clone(), log.clone()));
        log
    }

    fn device(&self, did: &DeviceId) -> Option<PublicKey> {
        self.log().active_device(did).map(|device| device.key)
    }

    fn begin(&mut self, new: session::NewAccount) -> Result<(), ErrorCode> {
        self.entries = new.entries;
        let log = self.log();
        self.uid = Some(log.user());
        self.keybag = Some(new.keybag);
        self.labels.insert(*log.devices().next().unwrap().0, new.device_label);
        Ok(())
    }

    fn append(&mut self, entries: &[Bytes]) -> Result<(), ErrorCode> {
        let mut log = self.log();
        for bytes in entries {
            let entry = Entry::parse(bytes).map_err(|_| ErrorCode::BadRequest)?;
            if entry.body.index != log.next_index() {
                return Err(ErrorCode::LogConflict);
            }
            log.append(&entry).map_err(|_| ErrorCode::LogEntryRefused)?;
        }
        self.entries.extend_from_slice(entries);
        Ok(())
    }

    fn add_device(&mut self, entry: &Bytes, label: session::DeviceLabelBytes) -> Result<DeviceId, ErrorCode> {
        self.append(std::slice::from_ref(entry))?;
        match Entry::parse(entry).unwrap().body.payload {
            Payload::DeviceAdd { device, .. } => {
                self.labels.insert(device, label);
                Ok(device)
            }
            _ => Err(ErrorCode::LogEntryRefused),
        }
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
