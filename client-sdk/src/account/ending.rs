//! The ends: of a session, of all sessions, of the account.
//!
//! Owns what stays on the device after each. Ending always works here, whether or not the server can be told.

use super::Account;
use super::kept::Phase;
use crate::error::{Error, Result, SignInReason};
use crate::password::PasswordProof;
use selkie_protocol::session::SignOutScope;

/// What stays on this device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignOut {
    /// The device stays one of the account's: the next sign-in needs the password and no Secret Key. The keys that
    /// read are forgotten.
    Keep,
    /// Nothing.
    Wipe,
}

/// A sign-out happened on this device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct SignedOut {
    /// Whether the server knows. If not, the session ends there by itself in time, and nobody has its tokens.
    pub server_told: bool,
}

impl Account {
    /// Ends the session of this device and forgets as much of what is kept here as [`SignOut`] says. For a button that
    /// says so; an app that is merely closed does nothing.
    pub async fn sign_out(&self, how: SignOut) -> Result<SignedOut> {
        let context = self.context();
        let told = self.call(|bearer| async move { context.api.sign_out(&bearer, SignOutScope::This).await }).await;
        match how {
            SignOut::Keep => {
                self.change(|kept| {
                    kept.secrets.session = None;
                    kept.secrets.master_key = None;
                    kept.phase = Phase::SignedOut;
                    kept.ended = None;
                })
                .await?;
            }
            SignOut::Wipe => context.forget(&self.0.folder).await?,
        }
        match told {
            Ok(_) => Ok(SignedOut { server_told: true }),
            Err(Error::SignInAgain { reason }) => {
                Ok(SignedOut { server_told: reason != SignInReason::ServerKeepsRefusing })
            }
            Err(error) => {
                tracing::debug!(%error, "the server does not know of the sign-out");
                Ok(SignedOut { server_told: false })
            }
        }
    }

    /// Ends every session of the account, this one included. Unlike [`Account::sign_out`] this is nothing unless the
    /// server hears of it.
    pub async fn sign_out_everywhere(&self) -> Result<()> {
        let context = self.context();
        self.call(|bearer| async move { context.api.sign_out(&bearer, SignOutScope::All).await }).await?;
        self.change(|kept| {
            kept.secrets.session = None;
            kept.secrets.master_key = None;
            kept.phase = Phase::SignedOut;
            kept.ended = None;
        })
        .await
        .map(drop)
    }

    /// Asks for the account to be deleted. Returns when it will be gone, by the server's clock; until then
    /// [`Account::keep_account`] undoes it.
    pub async fn delete_account(&self, proof: impl Into<PasswordProof>) -> Result<u64> {
        let bearer = self.reenter(&proof.into()).await?.bearer;
        Ok(self.context().api.delete(&bearer).await?.delete_after_ms)
    }

    /// Keeps an account that was to be deleted.
    pub async fn keep_account(&self) -> Result<()> {
        let context = self.context();
        self.call(|bearer| async move { context.api.keep(&bearer).await }).await.map(drop)
    }
}
