//! The new side of a link.
//!
//! Owns what the new device believes: the offer and the grant, because only a device that knows the code can have
//! sealed them, and the server's log only as far as it agrees with both. So a linked device cannot be shown an old
//! state.

use super::super::Account;
use super::super::kept::{Kept, KeptSession, Life, Phase, Secrets};
use super::{LOOK_EVERY, fingerprint};
use crate::Client;
use crate::error::{Error, Misbehaviour, Result, WrongKey};
use crate::trust::Evidence;
use selkie_protocol::account_log::{AccountLog, Extends, Pin, login_name_hash};
use selkie_protocol::cipher::{DeviceKey, LinkGrant, LinkHello, LinkOffer, LinkSecret, SecretKey};
use selkie_protocol::hash::Label;
use selkie_protocol::link::{LinkRequest, LinkSession};
use selkie_protocol::name::LoginName;
use selkie_protocol::{Bytes, ErrorCode, Private};
use std::sync::Arc;

/// No link lives longer; a server that says otherwise is not waited for.
const LONGEST_WAIT_MS: u64 = 3_600_000;

/// A new device that has found the other one. Show [`NewDeviceLink::fingerprint`], then [`NewDeviceLink::finish`].
pub struct NewDeviceLink {
    client: Client,
    secret: LinkSecret,
    offer: LinkOffer,
    device: DeviceKey,
    device_name: String,
}

impl Client {
    /// Meets the signed-in device under the code it shows, and asks to be let in.
    pub async fn link(&self, code: &str, device_name: &str) -> Result<NewDeviceLink> {
        let secret = LinkSecret::parse(code)?;
        let context = self.context();
        let announced = context.capabilities().await?.server_name;
        context.accept_name(&announced, None)?;
        let channel = secret.channel();
        let state = match context.api.link(context.link_place(&channel)).await {
            Err(error) if matches!(error.code(), Some(ErrorCode::NotFound | ErrorCode::LinkExpired)) => {
                return Err(Error::WrongKey(WrongKey::Link));
            }
            state => state?,
        };
        let offer: LinkOffer = secret.open(&state.offer).map_err(|_| Error::misbehaved(Misbehaviour::Contradiction))?;
        context.accept_name(&offer.server_name, Some(&announced))?;
        let login_name = LoginName::new(offer.login_name.as_str())?;
        if let Some(kept) = context.find(&login_name, Some(&announced)).await?
            && kept.user() == offer.uid
            && kept.phase != Phase::Joining
        {
            return Err(Error::NotPossible("this device has that account: sign in with the password".into()));
        }
        let device = DeviceKey::generate();
        let hello = LinkHello {
            device_key: (*device.public_key().as_bytes()).into(),
            proof: device.proof_of_possession(&offer.uid).0.into(),
            label: device_name.chars().take(63).collect::<String>().into(),
        };
        let sealed = secret.seal(&hello).map_err(|_| Error::NotPossible("the device's name is too long".into()))?;
        context.api.request_link(context.link_place(&channel), &LinkRequest { request: sealed.into() }).await?;
        let device_name = device_name.to_owned();
        Ok(NewDeviceLink { client: self.clone(), secret, offer, device, device_name })
    }
}

impl NewDeviceLink {
    /// Whose account this is going to be.
    pub fn login_name(&self) -> &str {
        self.offer.login_name.as_str()
    }

    /// The same on both screens.
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.device.id())
    }

    /// Waits for the person at the other device, then signs this one in.
    pub async fn finish(self) -> Result<Account> {
        let grant = self.wait_for_grant().await?;
        let context = self.client.context();
        let channel = self.secret.channel();
        let signature = self.device.sign(Label::LINK_SESSION, &[channel.as_bytes()]).0.into();
        let tokens = context
            .api
            .link_session(context.link_place(&channel), &LinkSession { signature, app: context.app.clone() })
            .await?;
        let entries = context.fetch_log(&tokens.access_token, 0).await?;
        let log = match self.check(&grant, &entries) {
            Ok(log) if tokens.uid == Some(log.user()) => log,
            Ok(_) => return Err(Error::misbehaved(Misbehaviour::Contradiction)),
            Err(kind) => {
                let evidence = Evidence::new(kind, context.now_ms(), &grant.server_name).served(0, &entries);
                return Err(context.caught(kind, evidence).await);
            }
        };
        let secret_key = match &grant.secret_key {
            Some(text) => Some(Private::from(SecretKey::parse(text.as_str())?.to_text().as_str())),
            None => None,
        };
        let master_key = Arc::new(grant.account_master_key());
        let life = Life::first(context.capabilities().await?.incarnation);
        let kept = Kept {
            server_url: context.url_text(),
            server_name: grant.server_name.to_lowercase(),
            tenant: grant.tenant.clone(),
            login_name: grant.login_name.clone(),
            phase: Phase::SignedIn,
            ended: None,
            life: Some(life),
            log,
            entries,
            secrets: Secrets {
                device: Arc::new(self.device),
                master_key: Some(master_key),
                secret_key,
                session: Some(KeptSession::new(&tokens, context.now_ms())),
                unconfirmed: None,
            },
        };
        context.save(&kept).await?;
        tracing::info!("this device was linked");
        let account = self.client.remember(kept)?;
        account.settle_in(&self.device_name, false).await;
        self.client.bring_along(&account, false).await;
        Ok(account)
    }

    async fn wait_for_grant(&self) -> Result<LinkGrant> {
        let context = self.client.context();
        let channel = self.secret.channel();
        let give_up_at = context.now_ms().saturating_add(LONGEST_WAIT_MS);
        loop {
            let mut pause = LOOK_EVERY;
            match context.api.link(context.link_place(&channel)).await {
                Ok(state) => {
                    if let Some(answer) = state.answer {
                        return self.secret.open(&answer).map_err(|_| Error::misbehaved(Misbehaviour::Contradiction));
                    }
                }
                Err(Error::Offline(_)) => {}
                Err(Error::RetryLater { after, .. }) => pause = after.unwrap_or(pause).max(pause),
                Err(error) if matches!(error.code(), Some(ErrorCode::NotFound | ErrorCode::LinkExpired)) => {
                    return Err(Error::WrongKey(WrongKey::Link));
                }
                Err(error) => return Err(error),
            }
            let left = super::left_until(give_up_at, context.now_ms()).ok_or(Error::WrongKey(WrongKey::Link))?;
            context.edges.runtime.sleep(pause.min(left)).await;
        }
    }

    /// The served log must hold what both sealed messages say, and this device.
    fn check(&self, grant: &LinkGrant, entries: &[Bytes]) -> Result<AccountLog, Misbehaviour> {
        let log = AccountLog::replay(entries.iter().map(|entry| &**entry)).map_err(|_| Misbehaviour::ForgedLog)?;
        if log.user() != self.offer.uid {
            return Err(Misbehaviour::OtherIdentity);
        }
        for head in [&self.offer.log_head, &grant.log_head] {
            match log.extends(&Pin::from(head)) {
                Extends::Yes => {}
                Extends::Shorter => return Err(Misbehaviour::Rollback),
                Extends::Forked => return Err(Misbehaviour::Fork),
            }
        }
        let name = LoginName::new(grant.login_name.as_str()).map_err(|_| Misbehaviour::Contradiction)?;
        let same_name = grant.server_name == self.offer.server_name && grant.login_name == self.offer.login_name;
        if !same_name || log.login_name() != Some(login_name_hash(&grant.server_name, name.as_str())) {
            return Err(Misbehaviour::Contradiction);
        }
        if log.active_device(&self.device.id()).is_none() {
            return Err(Misbehaviour::Rollback);
        }
        let master_key = grant.account_master_key();
        let fits = log.kem().is_some_and(|(generation, public_key)| {
            // A newer generation than the granted one: the keys were renewed in between, which is no one's fault.
            generation != master_key.generation() || *master_key.user_kem(&log.user()).public_key() == *public_key
        });
        if fits { Ok(log) } else { Err(Misbehaviour::WrongKeybag) }
    }
}

impl std::fmt::Debug for NewDeviceLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NewDeviceLink(***)")
    }
}
