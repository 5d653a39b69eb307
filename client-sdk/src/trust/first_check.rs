//! The first check: whose keys these are, before anything else is believed.
//!
//! Owns the order in which keybag, root secret, identity, log, name and generations vouch for each other. Knows nothing
//! of how they were fetched.

use super::growth::not_behind;
use crate::error::Misbehaviour;
use selkie_protocol::Bytes;
use selkie_protocol::account_log::{AccountLog, Entry, login_name_hash};
use selkie_protocol::cipher::{Keybag, PasswordKek, RecoveryKek, RecoveryKey};
use selkie_protocol::id::UserId;
use selkie_protocol::name::LoginName;
use selkie_protocol::opaque::ExportKey;
use selkie_protocol::session::KeybagBytes;

use crate::keys::OpenRoot;

/// What opens the keybag.
pub(crate) enum Kek<'a> {
    Password(&'a ExportKey),
    Recovery(&'a RecoveryKey),
}

/// What was served, and what is known already.
pub(crate) struct FirstCheck<'a> {
    pub(crate) keybag: &'a KeybagBytes,
    pub(crate) entries: &'a [Bytes],
    pub(crate) kek: Kek<'a>,
    pub(crate) server_name: &'a str,
    pub(crate) login_name: &'a LoginName,
    /// What the sign-in said whose session this is.
    pub(crate) claimed: Option<UserId>,
    /// The log as this device saw it before.
    pub(crate) seen: Option<&'a AccountLog>,
}

impl FirstCheck<'_> {
    /// The root secret, the keybag it was in and the verified log; or the one thing that is wrong.
    pub(crate) fn pass(&self) -> Result<(OpenRoot, Keybag), Misbehaviour> {
        let genesis = self.entries.first().and_then(|bytes| Entry::parse(bytes).ok());
        let claims = genesis.and_then(|genesis| AccountLog::begin(&genesis).ok()).ok_or(Misbehaviour::ForgedLog)?;
        let user = claims.user();
        if self.claimed.is_some_and(|claimed| claimed != user) {
            return Err(Misbehaviour::Contradiction);
        }
        if self.seen.is_some_and(|seen| seen.user() != user) {
            return Err(Misbehaviour::OtherIdentity);
        }
        let keybag = Keybag::parse(self.keybag.as_ref()).map_err(|_| Misbehaviour::WrongKeybag)?;
        let root = match self.kek {
            Kek::Password(export_key) => {
                keybag.open_with_password(&PasswordKek::derive(export_key, &user, keybag.pw_gen()), &user)
            }
            Kek::Recovery(key) => keybag.open_with_recovery(&RecoveryKek::derive(key, &user, keybag.rec_gen()), &user),
        }
        .map_err(|_| Misbehaviour::WrongKeybag)?;
        if root.identity().public_key() != claims.identity() {
            return Err(Misbehaviour::ForgedLog);
        }
        let log = AccountLog::replay(self.entries.iter().map(|entry| &**entry)).map_err(|_| Misbehaviour::ForgedLog)?;
        if log.login_name() != Some(login_name_hash(self.server_name, self.login_name.as_str())) {
            return Err(Misbehaviour::ForgedLog);
        }
        self.check_generations(&keybag, &log)?;
        if let Some(seen) = self.seen {
            not_behind(&log, seen)?;
        }
        Ok((OpenRoot { root, log }, keybag))
    }

    /// An old record, an old keybag and a log that ends before the change look consistent among themselves: what this
    /// device has seen counts too.
    fn check_generations(&self, keybag: &Keybag, log: &AccountLog) -> Result<(), Misbehaviour> {
        let known = log.password_generation().max(self.seen.map_or(0, AccountLog::password_generation));
        if keybag.pw_gen() < known {
            return Err(Misbehaviour::PasswordRollback);
        }
        let recovery = log.recovery().map_or(0, |(generation, _)| generation);
        if keybag.pw_gen() > log.password_generation() || keybag.rec_gen() > recovery {
            // The keybag is newer than the log: the end of the log is missing.
            return Err(Misbehaviour::Rollback);
        }
        if keybag.rec_gen() < recovery {
            return Err(Misbehaviour::WrongKeybag);
        }
        Ok(())
    }
}
