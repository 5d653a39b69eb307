//! The signed-in side of a link.
//!
//! Owns the channel, the waiting and the approval. The new device gets nothing before the person on this side has seen
//! what it is called and has typed the password.

use super::super::Account;
use super::super::root::Reentered;
use super::super::sign_in::MOST_CONFLICTS;
use super::{LOOK_EVERY, LinkInvitation, fingerprint};
use crate::error::{Error, Misbehaviour, Result, WrongKey};
use crate::password::PasswordProof;
use crate::untrusted::clean;
use selkie_protocol::ErrorCode;
use selkie_protocol::account_log::Pin;
use selkie_protocol::cipher::{GrantedKey, LinkGrant, LinkHello, LinkOffer, LinkSecret};
use selkie_protocol::link::{LinkAnswer, OpenLink};
use std::time::Duration;

/// An open link. Show [`LinkInitiator::code`] or [`LinkInitiator::qr`], then wait.
pub struct LinkInitiator {
    account: Account,
    secret: LinkSecret,
    invitation: LinkInvitation,
    expires_in: Duration,
    expires_at_ms: u64,
}

/// A device that asks to be let in.
pub struct LinkRequester {
    link: LinkInitiator,
    hello: LinkHello,
}

impl Account {
    /// Opens a link for a new device.
    pub async fn link_device(&self) -> Result<LinkInitiator> {
        let kept = self.sync_log().await?;
        let secret = LinkSecret::generate();
        let offer = LinkOffer {
            server_name: kept.server_name.clone(),
            tenant: kept.tenant.clone(),
            uid: kept.user(),
            login_name: kept.login_name.clone(),
            log_head: kept.log.head().into(),
        };
        let sealed = secret.seal(&offer).map_err(|_| Error::NotPossible("a name is too long to link".into()))?;
        let message = OpenLink { channel: secret.channel(), offer: sealed.into() };
        let context = self.context();
        let opened = self
            .call(|bearer| {
                let message = &message;
                async move { context.api.open_link(&bearer, message).await }
            })
            .await?;
        let host = crate::server::host_and_port(&context.place()?.url);
        let invitation = LinkInvitation {
            server_url: Some(kept.server_url.clone()),
            tenant: kept.tenant.clone(),
            code: secret.to_text().as_str().into(),
            server_name: (kept.server_name != host).then(|| kept.server_name.clone()),
        };
        let expires_in = Duration::from_secs(opened.expires_in.min(3600));
        let expires_at_ms = context.now_ms() + opened.expires_in.min(3600) * 1000;
        Ok(LinkInitiator { account: self.clone(), secret, invitation, expires_in, expires_at_ms })
    }
}

impl LinkInitiator {
    /// `L1-` and six groups of four, to type on the new device.
    pub fn code(&self) -> &str {
        self.invitation.code.as_str()
    }

    /// For a QR code: server and code.
    pub fn payload(&self) -> selkie_protocol::Private {
        self.invitation.to_uri()
    }

    /// The QR code as text: two rows of modules a line.
    pub fn qr(&self) -> Option<String> {
        crate::qr::as_text(self.payload().as_str())
    }

    /// How long the code on the screen is still of use. For a countdown beside it.
    pub fn expires_in(&self) -> Duration {
        self.expires_in
    }

    /// Waits until a new device asks, or the link expires.
    pub async fn wait_for_request(self) -> Result<LinkRequester> {
        let context = self.account.context();
        let channel = self.secret.channel();
        loop {
            let mut pause = LOOK_EVERY;
            let state = match context.api.link(context.link_place(&channel)).await {
                Ok(state) => Some(state),
                Err(Error::Offline(_)) => None,
                Err(Error::RetryLater { after, .. }) => {
                    pause = after.unwrap_or(pause).max(pause);
                    None
                }
                Err(error) if error.code() == Some(ErrorCode::LinkExpired) => {
                    return Err(Error::WrongKey(WrongKey::Link));
                }
                Err(error) => return Err(error),
            };
            if let Some(request) = state.and_then(|state| state.request) {
                // Only who has the code can have sealed it; anything else is the server's.
                let hello: LinkHello =
                    self.secret.open(&request).map_err(|_| Error::misbehaved(Misbehaviour::Contradiction))?;
                return Ok(LinkRequester { link: self, hello });
            }
            let left = super::left_until(self.expires_at_ms, context.now_ms());
            let left = left.ok_or(Error::WrongKey(WrongKey::Link))?;
            context.edges.runtime.sleep(pause.min(left)).await;
        }
    }
}

impl LinkRequester {
    /// What the new device says it is called.
    pub fn device_name(&self) -> String {
        clean(self.hello.label.as_str())
    }

    /// The same on both screens.
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.hello.device_id())
    }

    /// Lets the device in: certifies it, and gives it the account's keys under the link's seal.
    pub async fn approve(&self, proof: impl Into<PasswordProof>) -> Result<()> {
        let account = &self.link.account;
        let Reentered { mut open, bearer, mut kept, .. } = account.reenter(&proof.into()).await?;
        let user = open.log.user();
        let payload = self.hello.device_add(&user).map_err(|_| Error::misbehaved(Misbehaviour::UnknownDevice))?;
        let device = self.hello.device_id();
        let context = account.context();
        for _ in 0..MOST_CONFLICTS {
            if open.log.devices().any(|(did, _)| *did == device) {
                return Err(Error::WrongKey(WrongKey::Link));
            }
            let master_key = open.master_key();
            let entry = open.sign(context.now_ms(), payload.clone());
            let head: Pin = open.log.head();
            let grant = LinkGrant {
                server_name: kept.server_name.clone(),
                tenant: kept.tenant.clone(),
                login_name: kept.login_name.clone(),
                amk: GrantedKey::from(&master_key),
                amk_gen: master_key.generation(),
                secret_key: kept.secrets.secret_key.clone(),
                log_head: head.into(),
            };
            let sealed =
                self.link.secret.seal(&grant).map_err(|_| Error::ApiMisuse("a name is too long to link".into()))?;
            let message = LinkAnswer {
                answer: sealed.into(),
                entry: entry.clone(),
                label: master_key.seal_label(&device, self.hello.label.as_str()),
            };
            match context.api.answer_link(&bearer, &self.link.secret.channel(), &message).await {
                Ok(_) => {
                    account.accepted(&open, &kept, vec![entry]).await?;
                    tracing::info!("a device was linked");
                    return Ok(());
                }
                Err(error) if error.code() == Some(ErrorCode::LogConflict) => {
                    kept = context.grow(&kept, &bearer).await?;
                    open.log = kept.log.clone();
                }
                Err(error) => return Err(error),
            }
        }
        Err(Error::RetryLater { after: None, why: "other devices are changing the account".into() })
    }
}

impl std::fmt::Debug for LinkInitiator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LinkInitiator(***)")
    }
}

impl std::fmt::Debug for LinkRequester {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LinkRequester(***)")
    }
}
