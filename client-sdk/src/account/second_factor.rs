//! The second factor: an authenticator app.
//!
//! Owns the three calls. The second factor keeps thieves of the password out of the server; it protects nothing from
//! the server itself, which checks it.

use super::Account;
use crate::error::Result;
use crate::password::PasswordProof;
use crate::untrusted::clean;
use selkie_protocol::Private;
use selkie_protocol::account::TotpConfirm;

/// For the authenticator app. It counts for nothing until a code made from it is confirmed.
#[derive(Clone)]
pub struct TotpSecret {
    /// To type into the app.
    pub secret: Private,
    /// `otpauth://`, for a QR code.
    pub uri: Private,
}

impl TotpSecret {
    /// The QR code as text: two rows of modules a line.
    pub fn qr(&self) -> Option<String> {
        crate::qr::as_text(self.uri.as_str())
    }
}

impl std::fmt::Debug for TotpSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TotpSecret(***)")
    }
}

impl Account {
    /// Begins to ask for a code from an authenticator app at each sign-in. Nothing changes before the first code was
    /// confirmed: see [`TotpSecret`].
    pub async fn enable_totp(&self, proof: impl Into<PasswordProof>) -> Result<TotpSecret> {
        let bearer = self.reenter(&proof.into()).await?.bearer;
        let started = self.context().api.totp_start(&bearer).await?;
        Ok(TotpSecret { secret: clean(started.secret.as_str()).into(), uri: clean(started.uri.as_str()).into() })
    }

    /// Returns the recovery codes, each good once, for when the authenticator app is gone. They are shown now and never
    /// again.
    pub async fn confirm_totp(&self, code: &str) -> Result<Vec<Private>> {
        let context = self.context();
        let message = TotpConfirm { code: code.trim().into() };
        let confirmed = self
            .call(|bearer| {
                let message = &message;
                async move { context.api.totp_confirm(&bearer, message).await }
            })
            .await?;
        Ok(confirmed.recovery_codes.iter().map(|code| Private::from(clean(code.as_str()))).collect())
    }

    /// No longer asks for a code. For who has a new phone and wants to begin again.
    pub async fn disable_totp(&self, proof: impl Into<PasswordProof>) -> Result<()> {
        let bearer = self.reenter(&proof.into()).await?.bearer;
        self.context().api.totp_remove(&bearer).await.map(drop)
    }
}
