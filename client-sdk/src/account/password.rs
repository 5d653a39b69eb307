//! Changing the password.
//!
//! Owns the order: the old one opens the root secret, the new one wraps it again, and record, keybag and log entry go
//! to the server in one request. No data is touched.

use super::Account;
use super::root::Reentered;
use super::sign_in::MOST_CONFLICTS;
use crate::error::{Error, Result};
use crate::keys::strength::{self, KeyMode};
use crate::password::{Credentials, PasswordProof};
use crate::trust::Superseded;
use selkie_protocol::ErrorCode;
use selkie_protocol::account::PasswordFinish;
use selkie_protocol::account_log::Payload;
use selkie_protocol::cipher::{PasswordKek, RecoveryKek};

impl Account {
    /// Other sessions end unless they are kept; other devices then need the new password.
    ///
    /// Where a restored server has an earlier password than the account's, the old one is that, and the new one ends
    /// it. If it has an earlier recovery key, too, a new sheet is made: see [`Account::unconfirmed_sheet`].
    pub async fn change_password(
        &self,
        old: impl Into<PasswordProof>,
        new: &str,
        keep_other_sessions: bool,
    ) -> Result<()> {
        let mode = match self.kept().secrets.secret_key {
            Some(_) => KeyMode::SecretKey,
            None => KeyMode::PasswordOnly,
        };
        strength::check(new, mode, &[self.login_name()])?;
        let Reentered { mut open, keybag, bearer, mut kept, superseded } = self.reenter_to_renew(&old.into()).await?;
        let new_key = if superseded.recovery { Some(self.new_sheet(&open).await?) } else { None };
        let context = self.context();
        let server_name = kept.server_name.clone();
        let secret_key = kept.secrets.secret_key.clone();
        let credentials = Credentials {
            server_name: &server_name,
            login_name: &self.0.login_name,
            password: new,
            secret_key: secret_key.as_ref(),
        };
        for _ in 0..MOST_CONFLICTS {
            let registration = context.register_again(credentials, &bearer).await?;
            let generation = open.log.password_generation() + 1;
            let user = open.log.user();
            let kek = PasswordKek::derive(&registration.export_key, &user, generation);
            let mut entries = vec![open.sign(context.now_ms(), Payload::PasswordGeneration(generation))];
            let mut keybag = keybag.with_password(&open.root, &kek, &user);
            if let Some((key, generation)) = &new_key {
                entries.push(open.sign(context.now_ms(), crate::keys::recovery(key, &user, *generation)));
                keybag = keybag.with_recovery(&open.root, &RecoveryKek::derive(key, &user, *generation), &user);
            }
            let message = PasswordFinish {
                reg_token: registration.reg_token,
                record: registration.record,
                keybag: Some(keybag.to_bytes()),
                entries: entries.clone(),
                keep_other_sessions,
                remove_second_factors: false,
            };
            match context.api.password_finish(&bearer, &message).await {
                Ok(_) => {
                    self.accepted(&open, &kept, entries).await?;
                    self.change(|kept| kept.live_on(None, Superseded::default())).await?;
                    tracing::info!("the password was changed");
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
