//! A new recovery key.
//!
//! Owns the rotation: the new key is on this device before the server knows it, and the old one is worth nothing after.

use super::Account;
use super::kept::UnconfirmedSheet;
use super::root::Reentered;
use super::sheet::has_landed;
use crate::error::{Error, Result};
use crate::keys::{EmergencySheet, OpenRoot};
use crate::password::PasswordProof;
use crate::trust::Superseded;
use selkie_protocol::account::RotateRecoveryKey;
use selkie_protocol::cipher::{RecoveryKek, RecoveryKey};

impl Account {
    /// Makes a new recovery key and with it a new sheet; the old sheet is void. Confirm it like the first one.
    pub async fn rotate_recovery_key(&self, proof: impl Into<PasswordProof>) -> Result<EmergencySheet> {
        let Reentered { mut open, keybag, bearer, kept, superseded } = self.reenter_to_renew(&proof.into()).await?;
        if superseded.password {
            // That change makes a new recovery key, too.
            return Err(Error::KeysSuperseded);
        }
        let context = self.context();
        let user = open.log.user();
        let (key, generation) = self.new_sheet(&open).await?;
        let kek = RecoveryKek::derive(&key, &user, generation);
        let entry = open.sign(context.now_ms(), crate::keys::recovery(&key, &user, generation));
        let message = RotateRecoveryKey {
            keybag: keybag.with_recovery(&open.root, &kek, &user).to_bytes(),
            entry: entry.clone(),
        };
        // If the answer is no yes, the key stays all the same: the log tells whether it is the account's.
        context.api.rotate_recovery_key(&bearer, &message).await?;
        self.accepted(&open, &kept, vec![entry]).await?;
        self.change(|kept| kept.live_on(None, Superseded::default())).await?;
        self.unconfirmed_sheet().ok_or_else(|| Error::Corrupt("the sheet".into()))
    }

    /// A new recovery key, on this device before anybody hears of it, and its generation.
    pub(super) async fn new_sheet(&self, open: &OpenRoot) -> Result<(RecoveryKey, u32)> {
        self.drop_lost_sheet().await?;
        let generation = open.log.recovery().map_or(0, |(generation, _)| generation) + 1;
        let key = RecoveryKey::generate();
        let unconfirmed = UnconfirmedSheet { recovery_key: key.to_text().as_str().into(), generation, renewed: None };
        self.change(move |kept| kept.secrets.unconfirmed = Some(unconfirmed)).await?;
        Ok((key, generation))
    }

    /// Forgets a sheet whose keys never reached the server.
    async fn drop_lost_sheet(&self) -> Result<()> {
        self.change(|kept| {
            let log = &kept.log;
            kept.secrets.unconfirmed = kept.secrets.unconfirmed.take().filter(|sheet| has_landed(sheet, log));
        })
        .await
        .map(drop)
    }
}
