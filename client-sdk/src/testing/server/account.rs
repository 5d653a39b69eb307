//! An account as the server has it, and what its owner does with it once signed in.
//!
//! Owns the account's record, log, key bag and names of devices. What may be appended to the log, the shared rules say.

use super::entrance::is_a_code;
use super::{Answer, Asked, Link, Method, Sess, World, id, log_page, messages, read, write};
use selkie_protocol::account::{AccountState, TenantRole};
use selkie_protocol::account_log::{AccountLog, Entry, Payload};
use selkie_protocol::cipher::Keybag;
use selkie_protocol::id::{DeviceId, SessionId, UserId};
use selkie_protocol::session::{self, KeybagBytes, SignOutScope};
use selkie_protocol::sign::PublicKey;
use selkie_protocol::{Bytes, ErrorCode, link};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Clone)]
pub(crate) struct Acct {
    pub(crate) credential: [u8; 16],
    pub(crate) record: Vec<u8>,
    pub(crate) uid: Option<UserId>,
    pub(crate) entries: Vec<Bytes>,
    pub(crate) keybag: Option<KeybagBytes>,
    labels: HashMap<DeviceId, session::DeviceLabelBytes>,
    totp: bool,
    deleting: bool,
    read: Arc<Mutex<Option<Read>>>,
}

/// What entries say. Each request asks for it, and the signatures are checked once: they are kept with the entries they
/// are of, which whoever reaches into this server may change as they like.
type Read = (Vec<Bytes>, AccountLog);

impl World {
    pub(super) fn signed_in(&mut self, session: SessionId, asked: &Asked<'_>) -> Answer {
        let sess = self.sessions.get(&session).cloned().ok_or(ErrorCode::SessionEnded)?;
        match asked.parts {
            ["auth", "sign-out"] => self.sign_out(session, &sess, read(asked.body)?),
            ["account"] => self.show_account(&sess),
            ["account", "log"] if asked.method == Method::Post => {
                let name = sess.name.clone();
                self.restore_log(&name, &read(asked.body)?)
            }
            ["account", "log"] => log_page(&self.acct(&sess.name)?.entries, asked.query),
            ["account", "sessions"] => self.list_sessions(session, &sess, asked.now),
            ["account", "devices"] if asked.method == Method::Get => self.list_devices(&sess, asked.now),
            ["account", "password", part] => self.change_password(session, &sess, part, asked.body),
            ["account", "totp", part] => self.second_factor(&sess, part, asked.body),
            ["account", "complete"] => {
                let did = self.acct_mut(&sess.name)?.begin(read::<messages::CompleteAccount>(asked.body)?.account)?;
                self.is_device(session, did)
            }
            ["account", "devices"] => {
                sess.is_recent()?;
                let message: messages::AddDevice = read(asked.body)?;
                let did = self.acct_mut(&sess.name)?.add_device(&message.entry, message.label)?;
                self.is_device(session, did)
            }
            ["account", "devices", did, "revoke"] => {
                sess.is_recent()?;
                let message: messages::RevokeDevice = read(asked.body)?;
                let did: DeviceId = id(did)?;
                let acct = self.acct_mut(&sess.name)?;
                acct.append(&message.entries)?;
                acct.labels.extend(message.labels.iter().map(|label| (label.did, label.label)));
                self.sessions.retain(|_, sess| sess.device != Some(did));
                write(&messages::Done {})
            }
            ["account", "keybag"] => {
                sess.is_recent()?;
                write(&messages::Keybag { keybag: self.acct(&sess.name)?.keybag.ok_or(ErrorCode::NotFound)? })
            }
            ["account", "recovery-key"] => {
                sess.is_recent()?;
                let message: messages::RotateRecoveryKey = read(asked.body)?;
                let acct = self.acct_mut(&sess.name)?;
                acct.append(&[message.entry])?;
                acct.keybag = Some(message.keybag);
                write(&messages::Done {})
            }
            ["account", "delete"] => {
                sess.is_recent()?;
                self.acct_mut(&sess.name)?.deleting = true;
                write(&messages::DeletionScheduled { delete_after_ms: 2 })
            }
            ["account", "keep"] => {
                self.acct_mut(&sess.name)?.deleting = false;
                write(&messages::Done {})
            }
            ["links"] => {
                let message: link::OpenLink = read(asked.body)?;
                let opened = Link { name: sess.name, offer: message.offer, request: None, answer: None };
                self.links.insert(message.channel, opened);
                write(&link::LinkOpened { expires_in: 600 })
            }
            ["links", channel, "answer"] => {
                sess.is_recent()?;
                let message: link::LinkAnswer = read(asked.body)?;
                let did = self.acct_mut(&sess.name)?.add_device(&message.entry, message.label)?;
                let link = self.links.get_mut(&id(channel)?).ok_or(ErrorCode::LinkExpired)?;
                link.answer = Some((message.answer, did));
                write(&messages::Done {})
            }
            _ => Err(ErrorCode::NotFound),
        }
    }

    fn acct_mut(&mut self, name: &str) -> Result<&mut Acct, ErrorCode> {
        self.accounts.get_mut(name).ok_or(ErrorCode::NotFound)
    }

    /// Takes back the end of an account log that a restore has lost; whoever is revoked in it is out again.
    pub(super) fn restore_log(&mut self, name: &str, message: &messages::RestoreLog) -> Answer {
        let acct = self.acct_mut(name)?;
        if message.from != acct.entries.len() as u64 {
            return Err(ErrorCode::LogConflict);
        }
        acct.append(&message.entries)?;
        let (log, length) = (acct.log()?, acct.entries.len() as u64);
        for (did, _) in log.devices() {
            acct.labels.entry(*did).or_insert([0; session::DEVICE_LABEL_LENGTH].into());
        }
        self.sessions
            .retain(|_, sess| sess.name != name || sess.device.is_none_or(|did| log.active_device(&did).is_some()));
        write(&messages::LogRestored { length })
    }

    /// From now on the session is that of a device.
    fn is_device(&mut self, session: SessionId, did: DeviceId) -> Answer {
        self.sessions.get_mut(&session).ok_or(ErrorCode::SessionEnded)?.device = Some(did);
        write(&self.tokens(session)?)
    }

    fn sign_out(&mut self, session: SessionId, sess: &Sess, message: session::SignOut) -> Answer {
        self.sessions.retain(|other, theirs| match message.which {
            SignOutScope::This => *other != session,
            SignOutScope::Others => *other == session || theirs.name != sess.name,
            SignOutScope::All => theirs.name != sess.name,
        });
        write(&messages::Done {})
    }

    fn show_account(&self, sess: &Sess) -> Answer {
        let acct = self.acct(&sess.name)?;
        write(&messages::Account {
            tenant: "home".into(),
            login_name: sess.name.clone().into(),
            uid: acct.uid,
            state: if acct.deleting { AccountState::Deleting } else { AccountState::Active },
            role: TenantRole::Member,
            created_at_ms: 1,
            delete_after_ms: acct.deleting.then_some(2),
            second_factors: if acct.totp { vec!["totp".into()] } else { vec![] },
            log_length: acct.entries.len() as u64,
            keys_superseded: acct.has_an_earlier_password()? || acct.has_an_earlier_recovery_key()?,
        })
    }

    fn list_sessions(&self, session: SessionId, sess: &Sess, now: u64) -> Answer {
        let mine = self.sessions.iter().filter(|(_, other)| other.name == sess.name);
        let shown = mine.map(|(other, sess)| messages::Session {
            session: *other,
            did: sess.device,
            app: None,
            created_at_ms: 1,
            last_used_ms: now,
            current: *other == session,
        });
        write(&messages::Sessions { sessions: shown.collect() })
    }

    fn list_devices(&self, sess: &Sess, now: u64) -> Answer {
        let acct = self.acct(&sess.name)?;
        let log = acct.log()?;
        let shown = log.devices().map(|(did, known)| {
            let label = *acct.labels.get(did).ok_or(ErrorCode::Internal)?;
            let (added_at_ms, revoked_at_ms) = (known.added_at, known.revoked_at);
            Ok(messages::Device { did: *did, label, added_at_ms, last_seen_ms: Some(now), revoked_at_ms })
        });
        write(&messages::Devices { devices: shown.collect::<Result<_, ErrorCode>>()? })
    }

    fn change_password(&mut self, session: SessionId, sess: &Sess, part: &str, body: &[u8]) -> Answer {
        if part == "start" {
            sess.is_recent()?;
            let message: messages::PasswordStart = read(body)?;
            let credential = self.acct(&sess.name)?.credential;
            let response = self.setup.registration_response(message.request.as_ref(), &credential);
            let response = response.map_err(|_| ErrorCode::BadRequest)?.into();
            let server_name = self.server_name.clone();
            let reg_token = vec![1].into();
            return write(&messages::PasswordStarted { reg_token, response, server_name, ksf_id: 1 });
        }
        let message: messages::PasswordFinish = read(body)?;
        let acct = self.acct_mut(&sess.name)?;
        acct.append(&message.entries)?;
        acct.record = message.record.to_vec();
        acct.keybag = message.keybag;
        acct.totp &= !message.remove_second_factors;
        if !message.keep_other_sessions {
            self.sessions.retain(|other, theirs| *other == session || theirs.name != sess.name);
        }
        write(&messages::Done {})
    }

    fn second_factor(&mut self, sess: &Sess, part: &str, body: &[u8]) -> Answer {
        match part {
            "start" => {
                sess.is_recent()?;
                write(&messages::TotpStarted { secret: "ABCDEF".into(), uri: "otpauth://totp/x".into() })
            }
            "confirm" => {
                let message: messages::TotpConfirm = read(body)?;
                if !is_a_code(message.code.as_str()) {
                    return Err(ErrorCode::SecondFactorInvalid);
                }
                self.acct_mut(&sess.name)?.totp = true;
                write(&messages::TotpConfirmed { recovery_codes: vec!["aaaa-bbbb".into()] })
            }
            _ => {
                sess.is_recent()?;
                self.acct_mut(&sess.name)?.totp = false;
                write(&messages::Done {})
            }
        }
    }
}

impl Sess {
    fn is_recent(&self) -> Result<(), ErrorCode> {
        if self.recent { Ok(()) } else { Err(ErrorCode::RecentSignInRequired) }
    }
}

impl Acct {
    /// An account without keys yet.
    pub(crate) fn bare(credential: [u8; 16], record: Vec<u8>) -> Acct {
        let (uid, entries, keybag, labels) = (None, Vec::new(), None, HashMap::new());
        Acct { credential, record, uid, entries, keybag, labels, totp: false, deleting: false, read: Arc::default() }
    }

    pub(crate) fn log(&self) -> Result<AccountLog, ErrorCode> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, log)) = read.as_ref().filter(|(entries, _)| *entries == self.entries) {
            return Ok(log.clone());
        }
        let log = AccountLog::replay(self.entries.iter().map(|entry| &**entry));
        let log = log.map_err(|_| ErrorCode::LogEntryRefused)?;
        *read = Some((self.entries.clone(), log.clone()));
        Ok(log)
    }

    /// After a restore: than the one the log speaks of.
    pub(super) fn has_an_earlier_password(&self) -> Result<bool, ErrorCode> {
        let Some(keybag) = self.open_keybag() else { return Ok(false) };
        Ok(keybag.pw_gen() < self.log()?.password_generation())
    }

    pub(super) fn has_an_earlier_recovery_key(&self) -> Result<bool, ErrorCode> {
        let Some(keybag) = self.open_keybag() else { return Ok(false) };
        Ok(self.log()?.recovery().is_some_and(|(newest, _)| keybag.rec_gen() < newest))
    }

    fn open_keybag(&self) -> Option<Keybag> {
        Keybag::parse(self.keybag.as_ref()?.as_ref()).ok()
    }

    pub(super) fn has_second_factor(&self) -> bool {
        self.totp
    }

    pub(super) fn device(&self, did: &DeviceId) -> Result<Option<PublicKey>, ErrorCode> {
        Ok(self.log()?.active_device(did).map(|device| device.key))
    }

    /// Gives it keys, and says which device is its first.
    pub(super) fn begin(&mut self, new: session::NewAccount) -> Result<DeviceId, ErrorCode> {
        self.entries = new.entries;
        let log = self.log()?;
        let did = *log.devices().next().ok_or(ErrorCode::LogEntryRefused)?.0;
        self.uid = Some(log.user());
        self.keybag = Some(new.keybag);
        self.labels.insert(did, new.device_label);
        Ok(did)
    }

    fn append(&mut self, entries: &[Bytes]) -> Result<(), ErrorCode> {
        let mut log = self.log()?;
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
        let parsed = Entry::parse(entry).map_err(|_| ErrorCode::BadRequest)?;
        let Payload::DeviceAdd { device, .. } = parsed.body.payload else { return Err(ErrorCode::LogEntryRefused) };
        self.append(std::slice::from_ref(entry))?;
        self.labels.insert(device, label);
        Ok(device)
    }
}
