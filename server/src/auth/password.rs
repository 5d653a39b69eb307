//! A new password, after the old one or after the recovery key; and a new recovery key.
//!
//! The record, the keybag and the log's word on the generation change in one transaction or not at all.

use super::account::{KeybagHead, append, kind};
use super::registration::{FIRST_GENERATION, Purpose, record};
use super::sessions::Caller;
use super::{Auth, Refusal, Result, plain};
use crate::limits::{Action, Key};
use crate::store::{AccountChange, EndSessions, NewCredential, Scope};
use selkie_protocol::account::{PasswordFinish, PasswordStart, PasswordStarted, RotateRecoveryKey};
use selkie_protocol::account_log::AccountLog;
use selkie_protocol::opaque::KSF_PROFILE;

impl Auth {
    /// `POST /v1/account/password/start`
    pub async fn password_start(&self, caller: &Caller, request: PasswordStart) -> Result<PasswordStarted> {
        self.must_be_recent(caller)?;
        self.count_in_plan(Action::ChangeCredentials, &[Key::Account(caller.uuid)], caller.plan)?;
        let (reg_token, response) =
            self.start_record(Purpose::ChangePassword, caller.tenant, caller.uuid, None, None, &*request.request)?;
        Ok(PasswordStarted {
            reg_token: reg_token.into(),
            response: response.into(),
            server_name: self.policy.server_name.clone(),
            ksf_id: KSF_PROFILE,
        })
    }

    /// `POST /v1/account/password/finish`
    pub async fn password_finish(&self, caller: &Caller, request: PasswordFinish) -> Result<()> {
        self.must_be_recent(caller)?;
        let ticket = self.read_ticket(&request.reg_token, Purpose::ChangePassword)?;
        if (ticket.tenant, ticket.uuid) != (caller.tenant, caller.uuid) {
            return Err(Refusal::invalid("reg_token", "a token for another account"));
        }
        // Counted here, too: one first step would do for any number of second ones.
        self.count_in_plan(Action::ChangeCredentials, &[Key::Account(caller.uuid)], caller.plan)?;
        let recovering = caller.scope == Scope::Recovery;
        if request.remove_second_factors && !recovering {
            return Err(Refusal::invalid("remove_second_factors", "only in a recovery"));
        }
        let record = record(&*request.record)?;
        let has_keys = self.store.account(caller.tenant, caller.account).await?.uid.is_some();
        let (mut change, password_generation) =
            if has_keys { self.keys_follow(caller, &request).await? } else { bare_stays_bare(&request)? };
        change.credential = Some(NewCredential {
            setup_id: ticket.setup_id,
            ksf_id: i16::from(KSF_PROFILE),
            record,
            password_generation,
        });
        change.now = self.edges.now_ms();
        // A recovery ends every session, its own included: whoever set the new password signs in with it.
        change.end_sessions = if recovering {
            Some(EndSessions::All)
        } else {
            (!request.keep_other_sessions).then_some(EndSessions::AllBut(caller.session))
        };
        change.remove_factors = request.remove_second_factors;
        let action = if recovering { "password_set_by_recovery" } else { "password_changed" };
        change.audit = vec![self.audit(action, caller.device)];
        Ok(self.store.change_account(caller.tenant, caller.account, change).await?)
    }

    /// `POST /v1/account/recovery-key`
    pub async fn rotate_recovery_key(&self, caller: &Caller, request: RotateRecoveryKey) -> Result<()> {
        self.may_change_keys(caller)?;
        let mut log = self.verified_log(caller).await?;
        let log_length = log.next_index();
        append(&mut log, std::slice::from_ref(&request.entry), &[kind::RECOVERY_KEY])?;
        let recovery = recovery_of(&log)?;
        KeybagHead::of(&request.keybag)?.must_be(log.password_generation(), recovery.0)?;
        let change = AccountChange {
            now: self.edges.now_ms(),
            log_length,
            entries: vec![request.entry.0],
            keybag: Some(request.keybag.to_vec()),
            recovery: Some(recovery),
            // Who came with the old recovery key is not let finish.
            end_sessions: Some(EndSessions::OfRecovery),
            audit: vec![self.audit("recovery_key_changed", caller.device)],
            ..AccountChange::default()
        };
        Ok(self.store.change_account(caller.tenant, caller.account, change).await?)
    }

    /// The keybag and the log of an account that has keys must follow its new password.
    async fn keys_follow(&self, caller: &Caller, request: &PasswordFinish) -> Result<(AccountChange, u32)> {
        let Some(keybag) = &request.keybag else {
            return Err(Refusal::invalid("keybag", "an account with keys needs its new keybag"));
        };
        let mut log = self.verified_log(caller).await?;
        let log_length = log.next_index();
        // Without a recovery, too: a restored server may have lost both.
        let also_recovery_key = request.entries.len() > 1;
        let kinds: &[u8] = if also_recovery_key { &[kind::PWGEN, kind::RECOVERY_KEY] } else { &[kind::PWGEN] };
        append(&mut log, &request.entries, kinds)?;
        let recovery = recovery_of(&log)?;
        KeybagHead::of(keybag)?.must_be(log.password_generation(), recovery.0)?;
        let change = AccountChange {
            log_length,
            entries: plain(&request.entries),
            keybag: Some(keybag.to_vec()),
            recovery: also_recovery_key.then_some(recovery),
            ..AccountChange::default()
        };
        Ok((change, log.password_generation()))
    }
}

/// Generations begin to count when the account has keys to count them.
fn bare_stays_bare(request: &PasswordFinish) -> Result<(AccountChange, u32)> {
    if request.keybag.is_some() || !request.entries.is_empty() {
        return Err(Refusal::Conflict("the account has no keys yet: complete it first"));
    }
    Ok((AccountChange::default(), FIRST_GENERATION))
}

fn recovery_of(log: &AccountLog) -> Result<(u32, [u8; 32])> {
    let (generation, key) = log.recovery().ok_or_else(|| Refusal::broken("an account log has no recovery key"))?;
    Ok((generation, *key.as_bytes()))
}
