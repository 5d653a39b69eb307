//! Linking: a signed-in device brings in another, over a channel this server carries and cannot read.
//!
//! The server holds the rules of the channel: who may put what there, once, and that the session at its end goes to the
//! device that the account's own log was made to certify. What the messages say, only the two devices know.

use super::sessions::{Caller, Opening, app_name};
use super::{Auth, Refusal, Result};
use crate::limits::{Action, Key};
use crate::store::{LinkRow, NewLink, Scope, Tenant};
use selkie_protocol::Bytes;
use selkie_protocol::hash::Label;
use selkie_protocol::id::LinkChannel;
use selkie_protocol::link::{LinkAnswer, LinkOpened, LinkRequest, LinkSession, LinkState, MAX_LINK_MESSAGE, OpenLink};
use selkie_protocol::session::Tokens;
use selkie_protocol::sign::{PublicKey, Signature};
use std::net::IpAddr;

/// Long enough to carry a telephone to the other room.
const LINK_MS: i64 = 10 * 60_000;

impl Auth {
    /// `POST /v1/links`
    pub async fn open_link(&self, caller: &Caller, request: OpenLink) -> Result<LinkOpened> {
        caller.must_be_full()?;
        self.count_in_plan(Action::Link, &[Key::Account(caller.uuid)], caller.plan)?;
        of_fair_length("offer", &request.offer)?;
        let link = NewLink {
            channel: request.channel,
            account: caller.account,
            offer: request.offer.0,
            expires_at: self.edges.now_ms() + LINK_MS,
        };
        self.store.open_link(caller.tenant, link).await?;
        Ok(LinkOpened { expires_in: LINK_MS.unsigned_abs() / 1000 })
    }

    /// `GET /v1/links/{channel}`. Whoever knows the channel's name may look: all of it is sealed.
    pub async fn link_state(&self, from: IpAddr, tenant: Option<&str>, channel: LinkChannel) -> Result<LinkState> {
        self.count(Action::Link, &[Key::Address(from)])?;
        let tenant = self.tenant(tenant).await?.tenant;
        let link = self.open_channel(tenant, channel).await?;
        Ok(LinkState { offer: Bytes(link.offer), request: link.request.map(Bytes), answer: link.answer.map(Bytes) })
    }

    /// `POST /v1/links/{channel}/request`
    pub async fn request_link(
        &self,
        from: IpAddr,
        tenant: Option<&str>,
        channel: LinkChannel,
        request: LinkRequest,
    ) -> Result<()> {
        self.count(Action::Link, &[Key::Address(from)])?;
        let tenant = self.tenant(tenant).await?.tenant;
        of_fair_length("request", &request.request)?;
        Ok(self.store.request_link(tenant, channel, request.request.0, self.edges.now_ms()).await?)
    }

    /// `POST /v1/links/{channel}/answer`: certifies the device that asked.
    pub async fn answer_link(&self, caller: &Caller, channel: LinkChannel, request: LinkAnswer) -> Result<()> {
        self.may_change_keys(caller)?;
        of_fair_length("answer", &request.answer)?;
        let link = self.open_channel(caller.tenant, channel).await?;
        if link.account != caller.account {
            return Err(Refusal::LinkExpired);
        }
        let mut change = self.certified(caller, request.entry, &request.label).await?;
        let device = change.add_device.as_ref().expect("certified adds a device").device;
        change.answer_link = Some((channel, request.answer.0, device));
        change.audit = vec![self.audit("device_linked", Some(device))];
        Ok(self.store.change_account(caller.tenant, caller.account, change).await?)
    }

    /// `POST /v1/links/{channel}/session`: the certified device comes in, once.
    pub async fn link_session(
        &self,
        from: IpAddr,
        tenant: Option<&str>,
        channel: LinkChannel,
        request: LinkSession,
    ) -> Result<Tokens> {
        self.count(Action::Link, &[Key::Address(from)])?;
        let tenant = self.tenant(tenant).await?.tenant;
        let app = app_name(request.app)?;
        let link = self.open_channel(tenant, channel).await?;
        let device = link.device.ok_or(Refusal::LinkExpired)?;
        let key = self.store.device_key(tenant, link.account, device).await?.ok_or(Refusal::DeviceRevoked)?;
        let signature = Signature(request.signature.0);
        if !PublicKey(key).verify(Label::LINK_SESSION, &[channel.as_bytes()], &signature) {
            return Err(Refusal::invalid("signature", "not a signature of the certified device over this channel"));
        }
        let used = self.store.use_link(tenant, channel, self.edges.now_ms()).await?;
        let (account, device) = used.ok_or(Refusal::LinkExpired)?;
        let opening = Opening {
            account,
            device: Some(device),
            scope: Scope::Full,
            app,
            shown: None,
            action: "signed_in_by_link",
        };
        self.open_session(tenant, opening).await
    }

    async fn open_channel(&self, tenant: Tenant, channel: LinkChannel) -> Result<LinkRow> {
        self.store.link(tenant, channel, self.edges.now_ms()).await?.ok_or(Refusal::LinkExpired)
    }
}

fn of_fair_length(field: &'static str, message: &Bytes) -> Result<()> {
    if (1..=MAX_LINK_MESSAGE).contains(&message.len()) {
        Ok(())
    } else {
        Err(Refusal::invalid(field, format!("from 1 to {MAX_LINK_MESSAGE} bytes")))
    }
}
