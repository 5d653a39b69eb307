//! Coming in: registration, sign-in, renewal, recovery, and two devices that meet.
//!
//! Owns what happens before somebody is signed in.

use super::account::Acct;
use super::{ACCESS_MS, Answer, Login, Sess, World, id, write};
use selkie_protocol::ErrorCode;
use selkie_protocol::account::{AccountState, Done};
use selkie_protocol::account_log::AccountLog;
use selkie_protocol::cipher::token;
use selkie_protocol::hash::{Label, sha256};
use selkie_protocol::id::{DeviceId, LinkChannel, LoginId, SessionId, UserId};
use selkie_protocol::link;
use selkie_protocol::opaque::LoginState;
use selkie_protocol::session::{self, REFRESH_PURPOSE, Scope, Tokens};
use selkie_protocol::sign::Signature;

/// Any six digits that begin so; each is good for one sign-in.
pub(super) fn is_a_code(code: &str) -> bool {
    code.len() == 6 && code.starts_with("12345")
}

impl World {
    pub(super) fn register_start(&mut self, message: session::RegisterStart) -> Answer {
        let (token, credential) = (self.fresh16().to_vec(), self.fresh16());
        let response = self.setup.registration_response(message.request.as_ref(), &credential);
        let response = response.map_err(|_| ErrorCode::BadRequest)?;
        self.registrations.insert(token.clone(), (message.login_name.as_str().into(), credential));
        let server_name = self.server_name.clone();
        write(&session::RegisterStarted { reg_token: token.into(), response: response.into(), server_name, ksf_id: 1 })
    }

    pub(super) fn register_finish(&mut self, message: session::RegisterFinish) -> Answer {
        let (name, credential) = self.registrations.remove(&message.reg_token.0).ok_or(ErrorCode::SignInExpired)?;
        if self.accounts.contains_key(&name) {
            return Err(ErrorCode::LoginNameTaken);
        }
        let mut acct = Acct::bare(credential, message.record.to_vec());
        if let Some(new) = message.account {
            acct.begin(new)?;
        }
        let uid = acct.uid;
        self.accounts.insert(name, acct);
        write(&session::Registered { uid })
    }

    pub(super) fn login_start(&mut self, message: session::LoginStart) -> Answer {
        let name = message.login_name.as_str().to_owned();
        let acct = self.accounts.get(&name);
        let credential = acct.map_or([9; 16], |acct| acct.credential);
        let record = acct.map(|acct| acct.record.clone());
        let response = self.setup.login_response(record.as_deref(), message.ke1.as_ref(), &credential);
        let (state, ke2) = response.map_err(|_| ErrorCode::BadRequest)?;
        let login_id = self.new_login(name, Some(state));
        let server_name = self.server_name.clone();
        write(&session::LoginStarted { login_id, ke2: ke2.into(), server_name, ksf_id: 1 })
    }

    pub(super) fn new_login(&mut self, name: String, state: Option<LoginState>) -> LoginId {
        let mut bytes = [0; 24];
        bytes[8..].copy_from_slice(&self.fresh16());
        self.logins.insert(LoginId(bytes), Login { name, state });
        LoginId(bytes)
    }

    pub(super) fn login_finish(&mut self, message: session::LoginFinish, now: u64) -> Answer {
        let login = self.logins.remove(&message.login_id).ok_or(ErrorCode::SignInExpired)?;
        let state = login.state.ok_or(ErrorCode::SignInExpired)?;
        let key = state.finish(message.ke3.as_ref()).map_err(|_| ErrorCode::InvalidLogin)?;
        let acct = self.accounts.get(&login.name).ok_or(ErrorCode::InvalidLogin)?;
        if let Some(device) = &message.device {
            let public_key = acct.device(&device.did)?.ok_or(ErrorCode::DeviceRevoked)?;
            let signature = Signature(*device.signature);
            if !public_key.verify(Label::DEVICE_LOGIN, &[message.login_id.as_bytes()], &signature) {
                return Err(ErrorCode::InvalidField);
            }
        } else if !self.takes_old_keys && (acct.has_an_earlier_password()? || acct.has_an_earlier_recovery_key()?) {
            return Err(ErrorCode::KeysSuperseded);
        }
        match (&message.second_factor, acct.has_second_factor()) {
            (None, true) => return Err(ErrorCode::SecondFactorRequired),
            (Some(code), true) if !is_a_code(code.as_str()) || self.used_codes.contains(&code.as_str().to_owned()) => {
                return Err(ErrorCode::SecondFactorInvalid);
            }
            (Some(code), true) => self.used_codes.push(code.as_str().to_owned()),
            _ => {}
        }
        let device = message.device.map(|device| device.did);
        let tokens = self.open_session(&login.name, device, Scope::Full, now)?;
        let sealed_tokens = Some(token::seal(&key, &message.login_id, &tokens).into());
        write(&session::LoginFinished { tokens: None, sealed_tokens })
    }

    pub(super) fn open_session(
        &mut self,
        name: &str,
        device: Option<DeviceId>,
        scope: Scope,
        now: u64,
    ) -> Result<Tokens, ErrorCode> {
        let session = SessionId(self.fresh16());
        let access_until_ms = now + ACCESS_MS;
        let sess = Sess { name: name.into(), device, scope, generation: 0, access_until_ms, recent: true };
        self.sessions.insert(session, sess);
        self.tokens(session)
    }

    pub(super) fn tokens(&self, session: SessionId) -> Result<Tokens, ErrorCode> {
        let sess = self.sessions.get(&session).ok_or(ErrorCode::SessionEnded)?;
        let uid = self.acct(&sess.name)?.uid;
        let mut refresh = [0; session::REFRESH_TOKEN_LENGTH];
        refresh[8..24].copy_from_slice(session.as_bytes());
        refresh[24..28].copy_from_slice(&sess.generation.to_be_bytes());
        Ok(Tokens {
            access_token: format!("{session}.{}", sess.generation).into(),
            expires_in: ACCESS_MS / 1_000,
            refresh_token: refresh.into(),
            session,
            scope: sess.scope,
            account: if uid.is_some() { AccountState::Active } else { AccountState::Bare },
            uid,
        })
    }

    pub(super) fn refresh(&mut self, message: session::Refresh, now: u64) -> Answer {
        let shown: &[u8] = message.refresh_token.as_ref();
        let session = SessionId(std::array::from_fn(|at| shown[8 + at]));
        let generation = u32::from_be_bytes(std::array::from_fn(|at| shown[24 + at]));
        let sess = self.sessions.get(&session).cloned().ok_or(ErrorCode::SessionEnded)?;
        if sess.generation != generation && sess.generation != generation.saturating_add(1) {
            self.sessions.remove(&session);
            return Err(ErrorCode::SessionEnded);
        }
        if let Some(did) = sess.device {
            let key = self.acct(&sess.name)?.device(&did)?.ok_or(ErrorCode::DeviceRevoked)?;
            let proof = message.device.ok_or(ErrorCode::InvalidField)?;
            let parts: [&[u8]; 3] = [&proof.challenge, &sha256(shown), REFRESH_PURPOSE];
            if !key.verify(Label::REFRESH, &parts, &Signature(*proof.signature)) {
                return Err(ErrorCode::InvalidField);
            }
        }
        let renewed =
            Sess { generation: generation.saturating_add(1), access_until_ms: now + ACCESS_MS, recent: false, ..sess };
        self.sessions.insert(session, renewed);
        write(&self.tokens(session)?)
    }

    pub(super) fn recover_start(&mut self, message: session::RecoverStart) -> Answer {
        let name = message.login_name.as_str().to_owned();
        let log = self.accounts.get(&name).map(Acct::log).transpose()?;
        let uid = log.as_ref().map_or(UserId([7; 32]), AccountLog::user);
        let rec_gen = log.and_then(|log| log.recovery()).map_or(1, |(generation, _)| generation);
        let login_id = self.new_login(name, None);
        write(&session::RecoverStarted { login_id, uid, rec_gen, server_name: self.server_name.clone(), ksf_id: 1 })
    }

    pub(super) fn recover_finish(&mut self, message: session::RecoverFinish, now: u64) -> Answer {
        let login = self.logins.remove(&message.login_id).ok_or(ErrorCode::SignInExpired)?;
        let log = self.accounts.get(&login.name).ok_or(ErrorCode::InvalidLogin)?.log()?;
        let (_, key) = log.recovery().ok_or(ErrorCode::InvalidLogin)?;
        let user = log.user();
        let parts: [&[u8]; 2] = [message.login_id.as_bytes(), user.as_bytes()];
        if !key.verify(Label::RECOVERY_LOGIN, &parts, &Signature(*message.signature)) {
            return Err(ErrorCode::InvalidLogin);
        }
        if self.acct(&login.name)?.has_an_earlier_recovery_key()? {
            return Err(ErrorCode::KeysSuperseded);
        }
        let tokens = self.open_session(&login.name, None, Scope::Recovery, now)?;
        write(&session::LoginFinished { tokens: Some(tokens), sealed_tokens: None })
    }

    pub(super) fn link_state(&self, channel: &str) -> Answer {
        let link = self.links.get(&id(channel)?).ok_or(ErrorCode::LinkExpired)?;
        let answer = link.answer.as_ref().map(|(answer, _)| answer.clone());
        write(&link::LinkState { offer: link.offer.clone(), request: link.request.clone(), answer })
    }

    pub(super) fn link_request(&mut self, channel: &str, message: link::LinkRequest) -> Answer {
        let link = self.links.get_mut(&id(channel)?).ok_or(ErrorCode::LinkExpired)?;
        if link.request.is_some() {
            return Err(ErrorCode::LinkExpired);
        }
        link.request = Some(message.request);
        write(&Done {})
    }

    pub(super) fn link_session(&mut self, channel: &str, message: link::LinkSession, now: u64) -> Answer {
        let channel: LinkChannel = id(channel)?;
        let link = self.links.remove(&channel).ok_or(ErrorCode::LinkExpired)?;
        let (_, did) = link.answer.ok_or(ErrorCode::LinkExpired)?;
        let key = self.acct(&link.name)?.device(&did)?.ok_or(ErrorCode::DeviceRevoked)?;
        if !key.verify(Label::LINK_SESSION, &[channel.as_bytes()], &Signature(*message.signature)) {
            return Err(ErrorCode::InvalidField);
        }
        write(&self.open_session(&link.name, Some(did), Scope::Full, now)?)
    }
}
