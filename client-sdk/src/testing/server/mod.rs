//! A server in memory: honest, without sockets, limits or a disk.
//!
//! Owns enough of the protocol to be signed up to and kept in step with. It holds the server's half of OPAQUE, runs the
//! shared rules of the account log and of the vault's log on everything it is sent, and refuses what they refuse. It
//! speaks of nothing but the protocol, so that the stories of this crate can build their server that lies on this one.

pub(crate) mod account;
mod entrance;
pub(crate) mod vaults;

use super::{Method, Request};
use account::Acct;
use selkie_protocol::account::{self as messages, LogPage};
use selkie_protocol::account_log::AccountLog;
use selkie_protocol::hash::sha256;
use selkie_protocol::id::{DeviceId, LinkChannel, LoginId, SessionId, UserId};
use selkie_protocol::opaque::{LoginState, ServerSetup};
use selkie_protocol::session::{Challenge, Scope};
use selkie_protocol::version::{Capabilities, Limits, PROTOCOL_VERSION, RegistrationPolicy};
use selkie_protocol::{Bytes, ErrorCode, Face};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, HashMap};

/// How many entries of an account log are shown at a time: few, so that whoever reads it must turn the page.
const LOG_PAGE: usize = 4;
/// How long an access token is good for.
const ACCESS_MS: u64 = 900_000;

/// Everything the server knows.
pub(crate) struct World {
    pub(crate) setup: ServerSetup,
    pub(crate) server_name: String,
    pub(crate) accounts: HashMap<String, Acct>,
    pub(crate) sessions: HashMap<SessionId, Sess>,
    pub(crate) vaults: vaults::Vaults,
    pub(crate) people: BTreeMap<UserId, AccountLog>,
    pub(crate) counter: u64,
    /// From who has no device of the account, too. No honest server does.
    pub(crate) takes_old_keys: bool,
    registrations: HashMap<Vec<u8>, (String, [u8; 16])>,
    logins: HashMap<LoginId, Login>,
    links: HashMap<LinkChannel, Link>,
    used_codes: Vec<String>,
}

struct Login {
    name: String,
    state: Option<LoginState>,
}

/// Somebody's session.
#[derive(Clone)]
pub(crate) struct Sess {
    name: String,
    device: Option<DeviceId>,
    scope: Scope,
    generation: u32,
    access_until_ms: u64,
    recent: bool,
}

/// Two devices that meet.
struct Link {
    name: String,
    offer: Bytes,
    request: Option<Bytes>,
    answer: Option<(Bytes, DeviceId)>,
}

pub(crate) type Answer = Result<Vec<u8>, ErrorCode>;

/// A request, taken apart.
struct Asked<'a> {
    method: Method,
    parts: &'a [&'a str],
    query: &'a str,
    body: &'a [u8],
    now: u64,
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, ErrorCode> {
    Face::Cbor.decode(body).map_err(|_| ErrorCode::BadRequest)
}

fn write<T: Serialize>(message: &T) -> Answer {
    Ok(Face::Cbor.encode(message))
}

/// A part of a path as the id it must be.
fn id<T: std::str::FromStr>(text: &str) -> Result<T, ErrorCode> {
    text.parse().map_err(|_| ErrorCode::NotFound)
}

fn log_page(entries: &[Bytes], query: &str) -> Answer {
    let from: u64 = query.strip_prefix("from=").and_then(|from| from.parse().ok()).unwrap_or(0);
    let skipped = usize::try_from(from).unwrap_or(usize::MAX);
    let page = entries.iter().skip(skipped).take(LOG_PAGE).cloned().collect();
    write(&LogPage { from, entries: page, length: entries.len() as u64 })
}

impl World {
    pub(crate) fn new(server_name: impl Into<String>) -> World {
        World {
            setup: ServerSetup::generate(),
            server_name: server_name.into(),
            accounts: HashMap::new(),
            sessions: HashMap::new(),
            vaults: vaults::Vaults::default(),
            people: BTreeMap::new(),
            counter: 0,
            takes_old_keys: false,
            registrations: HashMap::new(),
            logins: HashMap::new(),
            links: HashMap::new(),
            used_codes: Vec::new(),
        }
    }

    /// Numbers that nobody has had before. Nothing secret hangs on them here.
    pub(crate) fn fresh16(&mut self) -> [u8; 16] {
        self.counter += 1;
        let hash = sha256(&self.counter.to_be_bytes());
        std::array::from_fn(|at| hash[at])
    }

    pub(crate) fn answer(&mut self, request: &Request, now: u64) -> Answer {
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let parts: Vec<&str> = path.trim_start_matches("/v1/").split('/').collect();
        let body = request.body.as_deref().unwrap_or_default();
        match (request.method, parts.as_slice()) {
            (Method::Get, ["capabilities"]) => write(&self.capabilities()),
            (Method::Post, ["auth", "register", "start"]) => self.register_start(read(body)?),
            (Method::Post, ["auth", "register", "finish"]) => self.register_finish(read(body)?),
            (Method::Post, ["auth", "challenge"]) => {
                write(&Challenge { challenge: self.fresh16().into(), expires_in: 300 })
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
                let session = self.caller(request, now)?;
                let asked = Asked { method, parts, query, body, now };
                match parts {
                    ["vaults" | "poll" | "people", ..] => self.about_vaults(session, &asked),
                    _ => self.signed_in(session, &asked),
                }
            }
        }
    }

    fn about_vaults(&mut self, session: SessionId, asked: &Asked<'_>) -> Answer {
        let me = self.person(&session).ok_or(ErrorCode::Forbidden)?;
        if let (Method::Get, ["people", user, "log"]) = (asked.method, asked.parts) {
            let user: UserId = id(user)?;
            let acct = self.accounts.values().find(|acct| acct.uid == Some(user)).ok_or(ErrorCode::NotFound)?;
            return log_page(&acct.entries, asked.query);
        }
        if let (Method::Post, ["people", user, "log"]) = (asked.method, asked.parts) {
            let user: UserId = id(user)?;
            let found = self.accounts.iter().find(|(_, acct)| acct.uid == Some(user));
            let name = found.map(|(name, _)| name.clone()).ok_or(ErrorCode::NotFound)?;
            return self.restore_log(&name, &read(asked.body)?);
        }
        self.learn_people()?;
        self.vaults.answer(me, asked, &self.people)
    }

    /// Account logs only grow, so a log of the right length is the right one.
    pub(crate) fn learn_people(&mut self) -> Result<(), ErrorCode> {
        for acct in self.accounts.values() {
            let Some(user) = acct.uid else { continue };
            if self.people.get(&user).is_none_or(|log| log.next_index() != acct.entries.len() as u64) {
                self.people.insert(user, acct.log()?);
            }
        }
        Ok(())
    }

    /// Whose session it is, if they have keys.
    pub(crate) fn person(&self, session: &SessionId) -> Option<UserId> {
        self.accounts.get(&self.sessions.get(session)?.name)?.uid
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            protocol: PROTOCOL_VERSION,
            software: "in memory".into(),
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

    /// Who asks, by the token they show.
    pub(crate) fn caller(&self, request: &Request, now: u64) -> Result<SessionId, ErrorCode> {
        let token = request.bearer.as_ref().ok_or(ErrorCode::Unauthenticated)?;
        let (session, generation) = token.as_str().rsplit_once('.').ok_or(ErrorCode::Unauthenticated)?;
        let session = session.parse().map_err(|_| ErrorCode::Unauthenticated)?;
        let sess = self.sessions.get(&session).ok_or(ErrorCode::SessionEnded)?;
        if let Some(did) = &sess.device {
            self.acct(&sess.name)?.device(did)?.ok_or(ErrorCode::DeviceRevoked)?;
        }
        if generation != sess.generation.to_string() || sess.access_until_ms <= now {
            return Err(ErrorCode::TokenExpired);
        }
        Ok(session)
    }

    fn acct(&self, name: &str) -> Result<&Acct, ErrorCode> {
        self.accounts.get(name).ok_or(ErrorCode::NotFound)
    }
}
