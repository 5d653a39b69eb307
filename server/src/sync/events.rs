//! Listening for what moves.
//!
//! Owns to what somebody listens: the vaults their session is shown. A hint may be missed and is never a fact; polls
//! are what counts.

use super::Logs;
use super::author::Reader;
use super::hub::Listening;
use super::refusal::Result;
use crate::auth::Caller;
use crate::limits::{Action, Key};
use crate::store::{AccountNumber, Snapshot, Tenant};
use std::net::IpAddr;

impl Logs {
    /// `GET /v1/events`
    pub async fn listen(&self, caller: &Caller, from: IpAddr) -> Result<Listening> {
        self.count(caller, Action::Listen, &[Key::Address(from), Key::Account(caller.account_uuid())])?;
        let reader = Reader::of(caller)?;
        let hub = &self.room.office.news.hub;
        // First to listen, then to look: what moves in between is heard.
        let listening = hub.listen(reader, caller.app(), from, &[])?;
        self.look_again(caller, &listening, None).await?;
        Ok(listening)
    }

    /// To be told whenever sessions of an account may have ended: whoever listens for one of them looks.
    pub fn sessions_changed(&self, tenant: Tenant, account: AccountNumber) {
        self.room.office.news.hub.sessions_changed(tenant, account);
    }

    /// Whether other vaults than before are listened to now. Where others write in the database, too, nobody tells who
    /// comes into a vault; so it is asked now and then. Who knows where the database was a moment ago need not ask that
    /// again.
    pub async fn look_again(&self, caller: &Caller, listening: &Listening, as_of: Option<&Snapshot>) -> Result<bool> {
        let vaults: Vec<_> = self.standings(caller, as_of).await?.into_iter().map(|(listed, _)| listed).collect();
        Ok(listening.follow_only(&vaults))
    }
}
