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
use serde::{Deserialize, Serialize};

/// How often a password and a recovery key were made; 0 before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Generations {
    pub(crate) password: u32,
    pub(crate) recovery: u32,
}

impl Generations {
    pub(crate) fn of(log: &AccountLog) -> Self {
        Generations {
            password: log.password_generation(),
            recovery: log.recovery().map_or(0, |(generation, _)| generation),
        }
    }
}

/// What opens the keybag.
#[derive(Clone, Copy)]
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
    /// A restore of the server may have lost keys that are newer than these.
    pub(crate) may_have_lost_after: Option<Generations>,
}

/// Everything is as it must be.
pub(crate) struct Passed {
    pub(crate) open: OpenRoot,
    pub(crate) keybag: Keybag,
    pub(crate) superseded: Superseded,
}

/// Which keys the server has that are earlier than those of the log, because a restore has lost the newer ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Superseded {
    pub(crate) password: bool,
    pub(crate) recovery: bool,
}

impl Superseded {
    pub(crate) fn any(self) -> bool {
        self.password || self.recovery
    }
}

impl FirstCheck<'_> {
    /// The root secret, the keybag it was in and the verified log; or the one thing that is wrong.
    pub(crate) fn pass(&self) -> Result<Passed, Misbehaviour> {
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
        let superseded = self.check_generations(&keybag, &log)?;
        if let Some(seen) = self.seen {
            not_behind(&log, seen)?;
        }
        Ok(Passed { open: OpenRoot { root, log }, keybag, superseded })
    }

    /// An old record, an old keybag and a log that ends before the change look consistent among themselves: what this
    /// device has seen counts too.
    fn check_generations(&self, keybag: &Keybag, log: &AccountLog) -> Result<Superseded, Misbehaviour> {
        let newest = Generations::of(log);
        let known = newest.password.max(self.seen.map_or(0, AccountLog::password_generation));
        let superseded = Superseded { password: keybag.pw_gen() < known, recovery: keybag.rec_gen() < newest.recovery };
        let may_have_lost = |newest: u32, shown: fn(Generations) -> u32| {
            self.may_have_lost_after.is_some_and(|after| newest > shown(after))
        };
        // Whoever recovers opens nothing with the password, and makes a new one.
        let uses_password = matches!(self.kek, Kek::Password(_));
        if superseded.password && uses_password && !may_have_lost(known, |shown| shown.password) {
            return Err(Misbehaviour::PasswordRollback);
        }
        if keybag.pw_gen() > newest.password || keybag.rec_gen() > newest.recovery {
            // The keybag is newer than the log: the end of the log is missing.
            return Err(Misbehaviour::Rollback);
        }
        if superseded.recovery && !may_have_lost(newest.recovery, |shown| shown.recovery) {
            return Err(Misbehaviour::WrongKeybag);
        }
        Ok(superseded)
    }
}
