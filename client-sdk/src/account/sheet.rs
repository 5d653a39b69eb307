//! A sheet that was made and not yet put away.
//!
//! Owns how long the keys of a sheet stay on the device: until the person has typed the recovery key back, or the app
//! says that the sheet is safe.

use super::Account;
use super::kept::{Kept, UnconfirmedSheet};
use crate::error::{Error, Result};
use crate::keys::EmergencySheet;
use selkie_protocol::account_log::AccountLog;
use selkie_protocol::cipher::RecoveryKey;

impl Account {
    /// The sheet, if nobody has confirmed it yet: after a crash it can be shown again. One whose keys are not known to
    /// be the account's is not shown.
    pub fn unconfirmed_sheet(&self) -> Option<EmergencySheet> {
        pending_sheet(&self.kept())
    }

    /// The person has typed the recovery key back: the device forgets it.
    pub async fn confirm_sheet(&self, typed: &str) -> Result<()> {
        let kept = self.settled().await?;
        let sheet = pending_sheet(&kept).ok_or_else(|| Error::NotPossible("no sheet waits to be confirmed".into()))?;
        sheet.confirm(typed)?;
        self.forget_sheet().await
    }

    /// The sheet is in a safe place by other means, such as a file: the device forgets the recovery key.
    pub async fn sheet_is_safe(&self) -> Result<()> {
        self.settled().await?;
        self.forget_sheet().await
    }

    /// What is kept, once the log has told that the keys of the sheet are the account's.
    async fn settled(&self) -> Result<Kept> {
        let kept = self.reload().await?;
        let Some(unconfirmed) = &kept.secrets.unconfirmed else { return Ok(kept) };
        let known_to_have_landed = has_landed(unconfirmed, &kept.log);
        let kept = match self.sync_log().await {
            Ok(kept) => kept,
            Err(error @ Error::ServerMisbehaved { .. }) => return Err(error),
            // Without a connection, what this device has seen is enough.
            Err(_) if known_to_have_landed => kept,
            Err(error) => return Err(error),
        };
        match &kept.secrets.unconfirmed {
            Some(unconfirmed) if !has_landed(unconfirmed, &kept.log) => {
                Err(Error::NotPossible("the keys on this sheet are not the account's: make a new one".into()))
            }
            _ => Ok(kept),
        }
    }

    /// The Secret Key that came with the sheet is the account's from now on; it must not go with it.
    async fn forget_sheet(&self) -> Result<()> {
        self.change(|kept| {
            if let Some(renewed) = kept.secrets.unconfirmed.take().and_then(|unconfirmed| unconfirmed.renewed) {
                kept.secrets.secret_key = renewed.secret_key;
            }
        })
        .await
        .map(drop)
    }
}

/// The sheet of a device that has one to show.
pub(super) fn pending_sheet(kept: &Kept) -> Option<EmergencySheet> {
    let landed = kept.secrets.unconfirmed.as_ref().filter(|unconfirmed| has_landed(unconfirmed, &kept.log));
    landed.map(|unconfirmed| sheet_of(kept, unconfirmed))
}

fn sheet_of(kept: &Kept, unconfirmed: &UnconfirmedSheet) -> EmergencySheet {
    EmergencySheet {
        login_name: kept.login_name.clone(),
        server_url: kept.server_url.clone(),
        server_name: kept.server_name.clone(),
        tenant: kept.tenant.clone(),
        recovery_key: unconfirmed.recovery_key.clone(),
        secret_key: match &unconfirmed.renewed {
            Some(renewed) => renewed.secret_key.clone(),
            None => kept.secrets.secret_key.clone(),
        },
    }
}

/// Whether the keys of an unconfirmed sheet are the account's: the log knows the public half of its recovery key.
pub(super) fn has_landed(unconfirmed: &UnconfirmedSheet, log: &AccountLog) -> bool {
    let Ok(key) = RecoveryKey::parse(unconfirmed.recovery_key.as_str()) else {
        return false;
    };
    let public_key = key.sign_in_key(&log.user(), unconfirmed.generation).public_key();
    log.recovery() == Some((unconfirmed.generation, public_key))
}
