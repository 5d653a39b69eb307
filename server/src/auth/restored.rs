//! Putting back what a restored server has forgotten of an account: entries of its log, and the devices they name.
//!
//! Owns what is asked of such an offer. Every entry is signed with the account's identity key, which no session and no
//! device has, so it does not matter who brings it. What the log does not hold cannot be put back: passwords, sealed
//! roots and sessions.

use super::account::{KeybagHead, LOG_LIMIT, parse};
use super::sessions::Caller;
use super::{Auth, Refusal, Result};
use crate::limits::{Action, Key};
use crate::store::{AccountChange, AccountNumber, AccountRow, EndSessions, NewDevice, Scope, Tenant};
use selkie_protocol::account::{LogRestored, RestoreLog};
use selkie_protocol::account_log::{AccountLog, Payload};
use selkie_protocol::id::UserId;
use selkie_protocol::session::{DEVICE_LABEL_LENGTH, KEYBAG_LENGTH};

/// Each is verified and written by itself, and with the longest ones they still fit into a request.
const MAX_ENTRIES: usize = 256;
/// For so long after a restore. An entry is true whenever it comes, but whoever has held the identity key once, and has
/// no session any more, is not to speak for an account by this door for ever.
const OPEN_FOR_MS: i64 = 90 * 24 * 60 * 60_000;

/// With what somebody comes who has no device of the account.
#[derive(Clone, Copy)]
pub(super) enum Shown {
    Password,
    RecoveryKey,
}

/// What is here of an account's keys and is not the newest.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Earlier {
    password: bool,
    recovery: bool,
}

impl Earlier {
    pub(super) fn any(self) -> bool {
        self.password || self.recovery
    }
}

impl Auth {
    /// A restored server may have earlier keys than the account's log speaks of, which was put back since: perhaps
    /// those that were changed because somebody else knows them. It lets in the account's own devices, which change
    /// them, and nobody who has nothing else.
    pub(super) async fn must_be_the_newest(&self, tenant: Tenant, account: &AccountRow, shown: Shown) -> Result<()> {
        let earlier = self.has_earlier_keys(tenant, account).await?;
        let is_earlier = match shown {
            // A new device takes whatever is behind the log for a rollback: it cannot know better.
            Shown::Password => earlier.any(),
            // Whoever recovers makes a new password, whatever the one before was.
            Shown::RecoveryKey => earlier.recovery,
        };
        if is_earlier { Err(Refusal::KeysSuperseded) } else { Ok(()) }
    }

    /// Which of the keys that are here are earlier than those the log speaks of.
    pub(super) async fn has_earlier_keys(&self, tenant: Tenant, account: &AccountRow) -> Result<Earlier> {
        if account.uid.is_none() || self.restored_at.is_none() {
            return Ok(Earlier::default());
        }
        let keybag = self.store.keybag(tenant, account.account).await?;
        let keybag = <[u8; KEYBAG_LENGTH]>::try_from(keybag).map_err(|_| Refusal::broken("a keybag is damaged"))?;
        let (has, log) = (KeybagHead::of(&keybag.into())?, self.verified_log_of(tenant, account.account).await?);
        Ok(Earlier {
            password: has.password_generation < log.password_generation(),
            recovery: log.recovery().is_some_and(|(newest, _)| has.recovery_generation < newest),
        })
    }

    /// `POST /v1/account/log` and `POST /v1/people/{uid}/log`
    pub async fn restore_log(
        &self,
        caller: &Caller,
        whose: Option<UserId>,
        request: RestoreLog,
    ) -> Result<LogRestored> {
        if whose.is_some() {
            caller.must_be_full()?;
        }
        self.count_in_plan(Action::Restore, &[Key::Account(caller.uuid)], caller.plan)?;
        if self.restored_at.is_none_or(|restored| self.edges.now_ms() - restored >= OPEN_FOR_MS) {
            return Err(Refusal::Conflict("this server was not restored from a backup lately"));
        }
        if request.entries.is_empty() || request.entries.len() > MAX_ENTRIES {
            return Err(Refusal::invalid("entries", "1 to 256 are put back at a time"));
        }
        let account = match whose {
            None => caller.account,
            Some(user) => {
                let found = self.store.account_of_user(caller.tenant, user).await?;
                found.ok_or(Refusal::NotFound("person"))?
            }
        };
        let mut log = self.verified_log_of(caller.tenant, account).await?;
        if request.from != log.next_index() {
            // Somebody else was faster, or there are entries before them that are missing, too.
            return Err(Refusal::LogConflict);
        }
        if log.next_index() as usize + request.entries.len() > LOG_LIMIT {
            return Err(Refusal::LimitReached("entries of the account log"));
        }
        for bytes in &request.entries {
            self.restore_entry(caller, account, &mut log, bytes).await?;
        }
        tracing::info!(count = request.entries.len(), "entries of an account log are here again");
        Ok(LogRestored { length: log.next_index() })
    }

    /// One entry with what follows from it. Whatever comes between two of them, the log that is here is a true one.
    async fn restore_entry(
        &self,
        caller: &Caller,
        account: AccountNumber,
        log: &mut AccountLog,
        bytes: &[u8],
    ) -> Result<()> {
        let entry = parse(bytes)?;
        let (now, log_length) = (self.edges.now_ms(), log.next_index());
        log.append(&entry).map_err(|refusal| Refusal::LogEntryRefused(refusal.to_string()))?;
        let mut change = AccountChange { now, log_length, entries: vec![bytes.to_vec()], ..AccountChange::default() };
        let device = match &entry.body.payload {
            Payload::DeviceAdd { device, key, .. } => {
                // What it is called is lost here; the device itself has told the others.
                let (public_key, label) = (*key.as_bytes(), vec![0; DEVICE_LABEL_LENGTH]);
                change.add_device = Some(NewDevice { device: *device, public_key, label, added_at: now });
                Some(*device)
            }
            Payload::DeviceRevoke { device } => {
                change.revoke_device = Some(*device);
                Some(*device)
            }
            // The one before is void again. Whoever came with that is not let finish.
            Payload::RecoveryKey { generation, public_key } => {
                change.recovery = Some((*generation, *public_key.as_bytes()));
                change.end_sessions = (caller.scope != Scope::Recovery).then_some(EndSessions::OfRecovery);
                None
            }
            _ => None,
        };
        change.audit = vec![self.audit("log_restored", device)];
        Ok(self.store.change_account(caller.tenant, account, change).await?)
    }
}
