//! What the server says of the account, its sessions and what happened to it.
//!
//! Owns the cleaning of those words before an app shows them. Nothing here is secret, and nothing is believed beyond
//! being shown.

use super::Account;
use crate::error::Result;
use crate::untrusted::clean;
use selkie_protocol::account::{AccountState, TenantRole};
use selkie_protocol::id::{DeviceId, SessionId};

/// How the account stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The tenant the account is in.
    pub tenant: String,
    /// Whether it may be used.
    pub state: AccountState,
    /// What the person may do in the tenant.
    pub role: TenantRole,
    /// When it was made, by the server's clock.
    pub created_at_ms: u64,
    /// When it will be gone, if it is being deleted.
    pub delete_after_ms: Option<u64>,
    /// The kinds of second factor that are enabled, as `totp`.
    pub second_factors: Vec<String>,
    /// Another device has renewed the account's keys; see [`Account::unlock`].
    pub keys_renewed: bool,
}

/// A sign-in that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its id in the account.
    pub id: SessionId,
    /// The device it belongs to, if it is of one.
    pub device: Option<DeviceId>,
    /// The app, as it calls itself.
    pub app: Option<String>,
    /// When it began, by the server's clock.
    pub created_at_ms: u64,
    /// When it was last used, by the server's clock.
    pub last_used_ms: u64,
    /// The one that asked.
    pub current: bool,
}

/// Something that happened to the account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// Its place in the list, without gaps.
    pub number: u64,
    /// When it happened, by the server's clock.
    pub at_ms: u64,
    /// A stable word, such as `signed_in`.
    pub action: String,
    /// The device that did it, if one did.
    pub device: Option<DeviceId>,
    /// More about it, in the server's words.
    pub detail: Option<String>,
}

impl Account {
    /// How the account stands with the server. How far sync has come is told by [`Account::status`].
    pub async fn standing(&self) -> Result<Standing> {
        let context = self.context();
        let account = self.call(|bearer| async move { context.api.account(&bearer).await }).await?;
        let kept = self.sync_log().await?;
        let newest = kept.log.kem().map(|(generation, _)| generation);
        Ok(Standing {
            tenant: clean(&account.tenant),
            state: account.state,
            role: account.role,
            created_at_ms: account.created_at_ms,
            delete_after_ms: account.delete_after_ms,
            second_factors: account.second_factors.iter().map(|factor| clean(factor)).collect(),
            keys_renewed: newest != kept.secrets.master_key.as_ref().map(|key| key.generation()),
        })
    }

    /// Everything that is signed in to the account, for a page on which a stranger among them is noticed. Asks the
    /// server.
    pub async fn sessions(&self) -> Result<Vec<Session>> {
        let context = self.context();
        let answer = self.call(|bearer| async move { context.api.sessions(&bearer).await }).await?;
        let sessions = answer.sessions.into_iter().map(|session| Session {
            id: session.session,
            device: session.did,
            app: session.app.as_deref().map(clean),
            created_at_ms: session.created_at_ms,
            last_used_ms: session.last_used_ms,
            current: session.current,
        });
        Ok(sessions.collect())
    }

    /// What happened to the account, newest first; `before` is the number of the last entry one has.
    pub async fn audit(&self, before: Option<u64>) -> Result<Vec<AuditEntry>> {
        let context = self.context();
        let page = self.call(|bearer| async move { context.api.audit(&bearer, before).await }).await?;
        let entries = page.entries.into_iter().map(|entry| AuditEntry {
            number: entry.number,
            at_ms: entry.at_ms,
            action: clean(&entry.action),
            device: entry.did,
            detail: entry.detail.as_deref().map(clean),
        });
        Ok(entries.collect())
    }
}
