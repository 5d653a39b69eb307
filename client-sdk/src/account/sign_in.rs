//! Signing in with the password.
//!
//! Owns the way from a password to a device of the account: which keys to try, the first check before anything is
//! believed, and the certificate for a device that is new. Also completes an account that was registered without keys.

use super::kept::{Kept, KeptSession, Life, Phase, Secrets};
use super::root::Asked;
use super::sheet::{has_landed, pending_sheet};
use super::sign_up::newborn;
use super::{Account, Device};
use crate::Client;
use crate::context::Context;
use crate::error::{Error, Misbehaviour, Result, SignInReason};
use crate::keys::strength::{self, KeyMode};
use crate::keys::{EmergencySheet, NewIdentity};
use crate::password::{Credentials, Entered};
use crate::store::Folder;
use crate::trust::{Evidence, Kek};
use selkie_protocol::account::{AccountState, AddDevice, CompleteAccount};
use selkie_protocol::cipher::{DeviceKey, SecretKey};
use selkie_protocol::hash::Label;
use selkie_protocol::id::Incarnation;
use selkie_protocol::name::LoginName;
use selkie_protocol::session::Tokens;
use selkie_protocol::{ErrorCode, Private};
use std::sync::Arc;

/// How to sign in.
#[derive(Clone, Debug, Default)]
pub struct SignIn {
    /// Six digits, or a recovery code of the second factor.
    pub second_factor: Option<Private>,
    /// What this device is called, if it is new to the account.
    pub device_name: String,
    /// Goes on without what a restored server has lost of the account: the answer of a person to
    /// [`Error::AccountBehind`].
    pub accept_loss: bool,
}

/// A sign-in that passed every check.
#[derive(Debug)]
pub struct SignedIn {
    /// The account, on this device.
    pub account: Account,
    /// The same twelve digits as on every other device that is shown the same state. A device that signs in with the
    /// password alone cannot tell by itself whether it was shown an old one: compare.
    pub state_code: String,
    /// The account's devices and, in the server's words, when each was last seen. Empty if they could not be had.
    pub devices: Vec<Device>,
    /// Whether this device is new to the account.
    pub new_device: bool,
    /// Whether the account had no keys until now: the server said so, and this device made them.
    pub completed: bool,
    /// A sheet that was made and never confirmed.
    pub sheet: Option<EmergencySheet>,
    /// The server was restored, and has an earlier password or recovery key than the newest: have the password changed.
    pub keys_superseded: bool,
}

/// How often another device may get in between before we give up.
pub(super) const MOST_CONFLICTS: u32 = 3;

impl Client {
    /// Signs in. The Secret Key is needed on a device that has none yet, unless the account goes without.
    pub async fn sign_in(
        &self,
        login_name: &str,
        password: &str,
        secret_key: Option<&str>,
        options: SignIn,
    ) -> Result<SignedIn> {
        let login_name = LoginName::new(login_name)?;
        let typed = secret_key.map(SecretKey::parse).transpose()?.map(|key| Private::from(key.to_text().as_str()));
        let context = self.context();
        let server = context.capabilities().await?;
        let (announced, life) = (server.server_name, server.incarnation);
        let found = context.find_all(&login_name, Some(&announced)).await?;
        let server_name = context.accept_name_for(&announced, found.first())?;
        let way =
            Way { context, server_name: &server_name, life, login_name: &login_name, password, options: &options };
        let Arrived { kept, new_device, completed } = way.walk_from_any(found, typed).await?;
        let (sheet, keys_superseded) = (pending_sheet(&kept), kept.keys_superseded());
        let account = self.remember(kept)?;
        if new_device || completed {
            account.settle_in(&options.device_name, completed).await;
        }
        self.bring_along(&account, completed).await;
        let devices = match account.devices().await {
            Ok(devices) => devices.devices,
            Err(error @ Error::ServerMisbehaved { .. }) => return Err(error),
            Err(error) => {
                tracing::debug!(%error, "the list of devices could not be had");
                Vec::new()
            }
        };
        Ok(SignedIn {
            state_code: account.state_code(),
            account,
            devices,
            new_device,
            completed,
            sheet,
            keys_superseded,
        })
    }
}

/// Where the way ended.
struct Arrived {
    kept: Kept,
    new_device: bool,
    completed: bool,
}

/// What does not change on the way.
struct Way<'a> {
    context: &'a Context,
    server_name: &'a str,
    life: Incarnation,
    login_name: &'a LoginName,
    password: &'a str,
    options: &'a SignIn,
}

impl Way<'_> {
    /// From the one account that this device has, or from each of the sign-ups that were interrupted here: the server
    /// knows one of them at most, and the others are forgotten once it is found.
    async fn walk_from_any(&self, mut found: Vec<Kept>, typed: Option<Private>) -> Result<Arrived> {
        if found.first().is_none_or(|best| best.phase > Phase::SigningUp) {
            let best = (!found.is_empty()).then(|| found.swap_remove(0));
            return self.walk(best, typed).await;
        }
        let folders: Vec<Folder> = found.iter().map(Kept::folder).collect();
        let mut refused = Error::WrongCredentials;
        while let Some(candidate) = found.pop() {
            let arrived = match self.walk(Some(candidate), typed.clone()).await {
                Err(Error::WrongCredentials) => continue,
                // With no Secret Key the password of one opens another: it may be the next.
                Err(error @ Error::ServerMisbehaved { kind: Misbehaviour::OtherIdentity, .. }) if !found.is_empty() => {
                    refused = error;
                    continue;
                }
                arrived => arrived?,
            };
            for folder in folders.iter().filter(|folder| **folder != arrived.kept.folder()) {
                self.context.forget(folder).await?;
            }
            return Ok(arrived);
        }
        Err(refused)
    }

    /// To the end: what this device keeps from now on.
    async fn walk(&self, known: Option<Kept>, typed: Option<Private>) -> Result<Arrived> {
        let (entered, secret_key, device) = self.enter_with_any(known.as_ref(), typed).await?;
        let Entered { tokens, export_key } = entered;
        if tokens.account == AccountState::Bare || tokens.uid.is_none() {
            self.may_be_bare(known.as_ref(), &tokens, secret_key.as_ref()).await?;
            // A bare account has no Secret Key: its keys will be worth what the password is.
            strength::check(self.password, KeyMode::PasswordOnly, &[self.login_name.as_str()])?;
            let kept = self.complete(tokens, &export_key, secret_key).await?;
            return Ok(Arrived { kept, new_device: true, completed: true });
        }
        let bearer = &tokens.access_token;
        let asked = Asked {
            kek: Kek::Password(&export_key),
            server_name: self.server_name,
            login_name: self.login_name,
            claimed: tokens.uid,
            seen: known.as_ref(),
            accepts_loss: self.options.accept_loss,
        };
        let checked = self.context.first_check(bearer, asked).await?;
        let mut kept = known.unwrap_or_else(|| self.stranger(&checked));
        let replaced = kept.secrets.session.take().map(|session| session.access_token);
        kept.server_url = self.context.url_text();
        if checked.parted {
            (kept.log, kept.entries) = (checked.open.log.clone(), checked.entries.clone());
        }
        kept.take_log(&checked.open.log, &checked.entries);
        let met = match kept.life {
            None => Some(Life::first(self.life)),
            Some(known) if known.incarnation != self.life => Some(Life::after_a_restore(self.life)),
            Some(_) => None,
        };
        kept.live_on(checked.life.or(met), checked.superseded);
        kept.secrets.master_key = Some(Arc::new(checked.open.master_key()));
        settle_secret_key(&mut kept, secret_key);
        if device.is_some() && !kept.device_is_in_the_log() {
            // It let in a device that the account's own log does not know or calls revoked.
            let kind = Misbehaviour::Contradiction;
            let evidence = Evidence::new(kind, self.context.now_ms(), self.server_name)
                .ours(Some(&kept.log), &kept.entries)
                .served(0, &checked.entries);
            return Err(self.context.caught(kind, evidence).await);
        }
        let (tokens, new_device) = if device.is_some() {
            (tokens, false)
        } else if kept.device_is_in_the_log() {
            // The server did not know the device a moment ago, and its log does: sign in once more, as the device. That
            // is written down first: a code of a second factor is good once, and the next attempt must not need two.
            (kept.phase, kept.ended) = (Phase::SignedOut, None);
            self.context.save(&kept).await?;
            let device = kept.secrets.device.clone();
            (self.enter(kept.secrets.secret_key.as_ref(), Some(&device)).await?.tokens, false)
        } else {
            (self.add_device(&mut kept, &tokens, checked).await?, true)
        };
        kept.secrets.session = Some(KeptSession::new(&tokens, self.context.now_ms()));
        (kept.phase, kept.ended) = (Phase::SignedIn, None);
        self.context.save(&kept).await?;
        if let Some(replaced) = replaced {
            self.context.end_replaced(&replaced).await;
        }
        Ok(Arrived { kept, new_device, completed: false })
    }

    /// The server says that the account has no keys yet. One that this device has keys of, or that has a Secret Key,
    /// has them: who says otherwise wants other keys made in their place.
    async fn may_be_bare(&self, known: Option<&Kept>, tokens: &Tokens, secret_key: Option<&Private>) -> Result<()> {
        let known = known.filter(|kept| kept.phase > Phase::SigningUp);
        let agrees = tokens.account == AccountState::Bare && tokens.uid.is_none();
        if agrees && known.is_none() && secret_key.is_none() {
            return Ok(());
        }
        let kind = Misbehaviour::OtherIdentity;
        let ours = known.map_or(&[][..], |kept| &kept.entries);
        let evidence =
            Evidence::new(kind, self.context.now_ms(), self.server_name).ours(known.map(|kept| &kept.log), ours);
        Err(self.context.caught(kind, evidence).await)
    }

    /// Tries the Secret Key that was typed, or those this device has: there are two only while a recovery is unsettled.
    async fn enter_with_any(
        &self,
        known: Option<&Kept>,
        typed: Option<Private>,
    ) -> Result<(Entered, Option<Private>, Option<Arc<DeviceKey>>)> {
        let mut device = known.and_then(device_to_show);
        let mut refused = Error::WrongCredentials;
        for secret_key in secret_keys_to_try(known, typed) {
            let attempt = match self.enter(secret_key.as_ref(), device.as_deref()).await {
                Err(Error::SignInAgain { reason: SignInReason::DeviceRevoked }) => {
                    // This device was sent away, or was never added, and comes as a new one. The server looks at the
                    // device before it looks at a code of a second factor, so the refusal has cost none.
                    device = None;
                    self.remember_revocation(known).await?;
                    self.enter(secret_key.as_ref(), None).await
                }
                attempt => attempt,
            };
            match attempt {
                Ok(entered) => return Ok((entered, secret_key, device)),
                Err(Error::WrongCredentials) => refused = Error::WrongCredentials,
                Err(error) => return Err(error),
            }
        }
        Err(refused)
    }

    async fn remember_revocation(&self, known: Option<&Kept>) -> Result<()> {
        // One that was never certain to be a device of the account was not sent away either.
        let Some(known) = known.filter(|kept| kept.phase > Phase::Joining) else { return Ok(()) };
        let mut sent_away = known.clone();
        (sent_away.phase, sent_away.ended) = (Phase::SignedOut, Some(SignInReason::DeviceRevoked));
        sent_away.secrets.session = None;
        self.context.save(&sent_away).await
    }

    async fn enter(&self, secret_key: Option<&Private>, device: Option<&DeviceKey>) -> Result<Entered> {
        let credentials = Credentials {
            server_name: self.server_name,
            login_name: self.login_name,
            password: self.password,
            secret_key,
        };
        self.context.enter(credentials, self.options.second_factor.as_ref(), device).await
    }

    /// A record for a device that has none.
    fn stranger(&self, checked: &super::root::Checked) -> Kept {
        Kept {
            server_url: self.context.url_text(),
            server_name: self.server_name.to_owned(),
            tenant: self.context.tenant(),
            login_name: Private::from(self.login_name.as_str()),
            phase: Phase::Joining,
            ended: None,
            life: None,
            log: checked.open.log.clone(),
            entries: checked.entries.clone(),
            secrets: Secrets {
                device: Arc::new(DeviceKey::generate()),
                master_key: None,
                secret_key: None,
                session: None,
                unconfirmed: None,
            },
        }
    }

    /// Certifies this device. Its key is on the disk before the server hears of it.
    async fn add_device(&self, kept: &mut Kept, tokens: &Tokens, checked: super::root::Checked) -> Result<Tokens> {
        let bearer = &tokens.access_token;
        let mut open = checked.open;
        if kept.log.devices().any(|(did, _)| *did == kept.secrets.device.id()) {
            // Revoked: a device that was sent away does not come back under its old key.
            kept.secrets.device = Arc::new(DeviceKey::generate());
        }
        kept.phase = Phase::Joining;
        let device = kept.secrets.device.clone();
        for _ in 0..MOST_CONFLICTS {
            self.context.save(kept).await?;
            let entry = open.sign(self.context.now_ms(), device.device_add(&kept.user()));
            let message = AddDevice {
                entry: entry.clone(),
                label: open.master_key().seal_label(&device.id(), &self.options.device_name),
                signature: device.sign(Label::DEVICE_SESSION, &[tokens.session.as_bytes()]).0.into(),
            };
            match self.context.api.add_device(bearer, &message).await {
                Ok(bound) => {
                    let mut entries = kept.entries.clone();
                    entries.push(entry);
                    kept.take_log(&open.log, &entries);
                    return Ok(bound);
                }
                Err(error) if error.code() == Some(ErrorCode::LogConflict) => {
                    *kept = self.context.grow(kept, bearer).await?;
                    open.log = kept.log.clone();
                    kept.secrets.master_key = Some(Arc::new(open.master_key()));
                }
                Err(error) => return Err(error),
            }
        }
        Err(Error::RetryLater { after: None, why: "other devices are changing the account".into() })
    }

    /// Gives keys to an account that could only sign in so far.
    async fn complete(
        &self,
        tokens: Tokens,
        export_key: &selkie_protocol::opaque::ExportKey,
        secret_key: Option<Private>,
    ) -> Result<Kept> {
        let device = DeviceKey::generate();
        let now_ms = self.context.now_ms();
        let identity = NewIdentity::make(export_key, self.server_name, self.login_name, &device, now_ms);
        let message = CompleteAccount {
            account: identity.to_message(&device, &self.options.device_name),
            signature: device.sign(Label::DEVICE_SESSION, &[tokens.session.as_bytes()]).0.into(),
        };
        let (server, life) = (self.server_name, self.life);
        let mut kept = newborn(self.context, server, life, self.login_name, device, identity, secret_key);
        self.context.save(&kept).await?;
        let bound = match self.context.api.complete(&tokens.access_token, &message).await {
            Ok(bound) => bound,
            Err(error) => {
                if error.made_no_account() {
                    self.context.forget(&kept.folder()).await?;
                }
                return Err(error);
            }
        };
        if bound.uid != Some(kept.user()) {
            return Err(Error::misbehaved(Misbehaviour::Contradiction));
        }
        kept.secrets.session = Some(KeptSession::new(&bound, self.context.now_ms()));
        kept.phase = Phase::SignedIn;
        self.context.save(&kept).await?;
        Ok(kept)
    }
}

/// The Secret Keys worth trying, best first. `None` is an account that goes without.
fn secret_keys_to_try(known: Option<&Kept>, typed: Option<Private>) -> Vec<Option<Private>> {
    if typed.is_some() {
        return vec![typed];
    }
    let Some(known) = known else {
        return vec![None];
    };
    let renewed = known.secrets.unconfirmed.as_ref().and_then(|unconfirmed| unconfirmed.renewed.clone());
    let present = known.secrets.secret_key.clone();
    match renewed {
        Some(renewed) => vec![renewed.secret_key, present],
        None => vec![present],
    }
}

/// The device to sign in as. One whose addition is uncertain is shown too: if the server does not know it, it says so.
fn device_to_show(known: &Kept) -> Option<Arc<DeviceKey>> {
    let sent_away = known.ended == Some(SignInReason::DeviceRevoked);
    let possible = known.phase == Phase::Joining || known.device_is_in_the_log();
    (possible && !sent_away).then(|| known.secrets.device.clone())
}

/// The Secret Key that worked is the account's. A sheet that never reached the server is forgotten.
fn settle_secret_key(kept: &mut Kept, worked: Option<Private>) {
    kept.secrets.secret_key = worked;
    let log = &kept.log;
    kept.secrets.unconfirmed = kept.secrets.unconfirmed.take().filter(|unconfirmed| has_landed(unconfirmed, log));
    if let Some(unconfirmed) = &mut kept.secrets.unconfirmed {
        unconfirmed.renewed = None;
    }
}
