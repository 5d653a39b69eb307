//! An account as its owner sees it, and the rules by which its log and its keybag may change.
//!
//! Owns the check of what is appended to an account log: it must follow the log's own rules, and consist of exactly the
//! entries the operation is for. Of the keybag it reads the version and the generations, which is all it can.

use super::sessions::Caller;
use super::{Auth, Refusal, Result, plain};
use crate::store::{
    AccountNumber, FactorKind, FailureRow, NewDevice, NewIdentity, Refused, StoreError, Tenant, TenantRow,
};
use selkie_protocol::account::{Account, AuditEntry, AuditPage, CompleteAccount, Keybag, LogPage};
use selkie_protocol::account_log::{AccountLog, Entry, Payload, login_name_hash};
use selkie_protocol::hash::Label;
use selkie_protocol::session::{KEYBAG_LENGTH, KeybagBytes, NewAccount, Tokens};
use selkie_protocol::sign::Signature;
use selkie_protocol::{Bytes, Private};

use super::registration::FIRST_GENERATION;
use crate::store::AccountChange;

/// Entries a page of the log has at most: with the longest entries it stays under 700 KiB.
pub const LOG_PAGE: u32 = 500;
const AUDIT_PAGE: u32 = 100;
/// Every change replays the whole log, so it must end somewhere: three a day for nine years.
pub(super) const LOG_LIMIT: usize = 10_000;

impl Auth {
    /// `GET /v1/account`
    pub async fn account(&self, caller: &Caller) -> Result<Account> {
        caller.must_be_full()?;
        let row = self.store.account(caller.tenant, caller.account).await?;
        let tenant = self.tenant_row(caller).await?;
        let keys_superseded = self.has_earlier_keys(caller.tenant, &row).await?.any();
        Ok(Account {
            tenant: tenant.slug,
            login_name: Private(row.login_name),
            uid: row.uid,
            state: row.state,
            role: row.role,
            created_at_ms: row.created_at.unsigned_abs(),
            delete_after_ms: row.delete_after.map(i64::unsigned_abs),
            second_factors: row.second_factors.iter().map(|kind| factor_word(*kind).to_owned()).collect(),
            log_length: row.log_length,
            keys_superseded,
        })
    }

    /// `GET /v1/account/keybag`
    pub async fn keybag(&self, caller: &Caller) -> Result<Keybag> {
        self.must_be_recent(caller)?;
        let bytes = self.store.keybag(caller.tenant, caller.account).await?;
        let bytes = <[u8; KEYBAG_LENGTH]>::try_from(bytes).map_err(|_| Refusal::broken("a keybag is damaged"))?;
        Ok(Keybag { keybag: bytes.into() })
    }

    /// `GET /v1/account/log?from=n`
    pub async fn account_log(&self, caller: &Caller, from: u64) -> Result<LogPage> {
        let (entries, length) = self.store.account_log(caller.tenant, caller.account, from, LOG_PAGE).await?;
        Ok(LogPage { from, entries: entries.into_iter().map(Bytes).collect(), length })
    }

    /// `GET /v1/account/audit?before=n`
    pub async fn audit_page(&self, caller: &Caller, before: Option<u64>) -> Result<AuditPage> {
        caller.must_be_full()?;
        let before = before.and_then(|before| i64::try_from(before).ok()).unwrap_or(i64::MAX);
        let rows = self.store.audit(caller.tenant, caller.account, before, AUDIT_PAGE).await?;
        let failures = self.store.failures(caller.tenant, caller.account).await?;
        let entries = rows
            .into_iter()
            .map(|row| AuditEntry {
                number: row.number.unsigned_abs(),
                at_ms: row.at.unsigned_abs(),
                did: row.device,
                detail: row.detail.or_else(|| times_that_day(&failures, &row.action, row.at)),
                action: row.action,
            })
            .collect();
        Ok(AuditPage { entries })
    }

    /// `POST /v1/account/complete`: gives a bare account its keys, and the session its device.
    pub async fn complete_account(&self, caller: &Caller, request: CompleteAccount) -> Result<Tokens> {
        self.may_change_keys(caller)?;
        let row = self.store.account(caller.tenant, caller.account).await?;
        if row.uid.is_some() {
            return Err(Refusal::Conflict("the account has its keys already"));
        }
        let now = self.edges.now_ms();
        KeybagHead::of(&request.account.keybag)?.must_be(FIRST_GENERATION, 1)?;
        let identity = identity_of(&request.account, &self.policy.server_name, &row.login_name, now)?;
        let device = identity.device.device;
        self.verify_session_asked_for(caller, &identity.device.public_key, &request.signature.0)?;
        let change = AccountChange {
            now,
            identity: Some(identity),
            password_shown_at: caller.auth_time,
            bind_session: Some((caller.session, device, self.life(true, now))),
            audit: vec![self.audit("account_completed", Some(device))],
            ..AccountChange::default()
        };
        match self.store.change_account(caller.tenant, caller.account, change).await {
            Err(StoreError::Refused(Refused::CredentialChanged)) => return Err(Refusal::RecentSignInRequired),
            done => done?,
        }
        self.session_tokens(caller.tenant, caller.session).await
    }

    /// A device asks for a session by signing the session's id.
    pub(super) fn verify_session_asked_for(&self, caller: &Caller, key: &[u8; 32], signature: &[u8; 64]) -> Result<()> {
        let key = selkie_protocol::sign::PublicKey(*key);
        if key.verify(Label::DEVICE_SESSION, &[caller.session.as_bytes()], &Signature(*signature)) {
            Ok(())
        } else {
            Err(Refusal::invalid("signature", "not a signature of this device over this session"))
        }
    }

    pub(super) async fn tenant_row(&self, caller: &Caller) -> Result<TenantRow> {
        self.store.tenant_by_number(caller.tenant).await?.ok_or(Refusal::NotFound("tenant"))
    }

    /// The account's whole log as it is kept, verified.
    pub(super) async fn verified_log(&self, caller: &Caller) -> Result<AccountLog> {
        self.verified_log_of(caller.tenant, caller.account).await
    }

    pub(super) async fn verified_log_of(&self, tenant: Tenant, account: AccountNumber) -> Result<AccountLog> {
        let mut entries = Vec::new();
        loop {
            let from = entries.len() as u64;
            let (page, length) = self.store.account_log(tenant, account, from, LOG_PAGE).await?;
            let came = page.len();
            entries.extend(page);
            if came == 0 || entries.len() as u64 >= length {
                break;
            }
        }
        if entries.is_empty() {
            return Err(Refusal::Conflict("the account has no keys yet: complete it first"));
        }
        let log = AccountLog::replay(entries.iter().map(Vec::as_slice));
        log.map_err(|_| Refusal::broken("an account log in the database does not verify"))
    }
}

/// Only the first failure of a day has an entry; how many there were in all is counted beside it.
fn times_that_day(failures: &[FailureRow], action: &str, at: i64) -> Option<String> {
    let is_it = |row: &&FailureRow| row.kind.action() == action && row.day == FailureRow::day_of(at);
    let times = failures.iter().find(is_it)?.times;
    (times > 1).then(|| format!("{times} times on this day"))
}

/// Appends entries if they are exactly of these kinds, in this order, and follow the log's rules.
pub(super) fn append(log: &mut AccountLog, entries: &[Bytes], kinds: &[u8]) -> Result<Vec<Payload>> {
    append_up_to(LOG_LIMIT, log, entries, kinds)
}

fn append_up_to(limit: usize, log: &mut AccountLog, entries: &[Bytes], kinds: &[u8]) -> Result<Vec<Payload>> {
    if entries.len() as u64 > (limit as u64).saturating_sub(log.next_index()) {
        return Err(Refusal::LimitReached("entries of the account log"));
    }
    let mut payloads = Vec::with_capacity(entries.len());
    for bytes in entries {
        let entry = parse(bytes)?;
        if entry.body.index < log.next_index() {
            return Err(Refusal::LogConflict);
        }
        log.append(&entry).map_err(|refusal| Refusal::LogEntryRefused(refusal.to_string()))?;
        payloads.push(entry.body.payload);
    }
    must_be_of_kinds(&payloads, kinds)?;
    Ok(payloads)
}

/// Reads the identity of a new account: six entries, each of its kind, all in order.
pub(super) fn identity_of(account: &NewAccount, server_name: &str, name: &str, now: i64) -> Result<NewIdentity> {
    let (genesis, rest) =
        account.entries.split_first().ok_or_else(|| Refusal::LogEntryRefused("the log is empty".into()))?;
    let genesis = parse(genesis)?;
    let mut log = AccountLog::begin(&genesis).map_err(|refusal| Refusal::LogEntryRefused(refusal.to_string()))?;
    let payloads =
        append(&mut log, rest, &[kind::DEVICE_ADD, kind::USER_KEM, kind::PWGEN, kind::LOGIN_NAME, kind::RECOVERY_KEY])?;
    let Some(Payload::DeviceAdd { device, key, .. }) = payloads.first() else {
        return Err(Refusal::LogEntryRefused("a device must come second".into()));
    };
    if log.login_name() != Some(login_name_hash(server_name, name)) {
        return Err(Refusal::LogEntryRefused("the login name is another one".into()));
    }
    let (generation, public_key) =
        log.recovery().ok_or_else(|| Refusal::LogEntryRefused("there is no recovery key".into()))?;
    Ok(NewIdentity {
        uid: log.user(),
        entries: plain(&account.entries),
        keybag: account.keybag.to_vec(),
        device: NewDevice {
            device: *device,
            public_key: *key.as_bytes(),
            label: account.device_label.to_vec(),
            added_at: now,
        },
        recovery: (generation, *public_key.as_bytes()),
    })
}

/// The part of a keybag a server can read: `0x01 | pw_gen u32 | 105 | rec_gen u32 | 105`.
pub(super) struct KeybagHead {
    pub(super) password_generation: u32,
    pub(super) recovery_generation: u32,
}

impl KeybagHead {
    pub(super) fn of(keybag: &KeybagBytes) -> Result<Self> {
        const WRAP: usize = 105;
        if keybag[0] != 1 {
            return Err(Refusal::invalid("keybag", "unknown version"));
        }
        let number = |at: usize| u32::from_be_bytes(std::array::from_fn(|i| keybag[at + i]));
        Ok(KeybagHead { password_generation: number(1), recovery_generation: number(1 + 4 + WRAP) })
    }

    pub(super) fn must_be(&self, password_generation: u32, recovery_generation: u32) -> Result<()> {
        if (self.password_generation, self.recovery_generation) == (password_generation, recovery_generation) {
            Ok(())
        } else {
            Err(Refusal::invalid("keybag", "its generations are not those of the account"))
        }
    }
}

/// The kinds of log entries, by their numbers on the wire.
pub(super) mod kind {
    pub(crate) const DEVICE_ADD: u8 = 1;
    pub(crate) const DEVICE_REVOKE: u8 = 2;
    pub(crate) const USER_KEM: u8 = 3;
    pub(crate) const PWGEN: u8 = 4;
    pub(crate) const LOGIN_NAME: u8 = 5;
    pub(crate) const RECOVERY_KEY: u8 = 6;
}

pub(super) fn factor_word(kind: FactorKind) -> &'static str {
    match kind {
        FactorKind::Totp => "totp",
        FactorKind::Webauthn => "webauthn",
    }
}

fn must_be_of_kinds(payloads: &[Payload], kinds: &[u8]) -> Result<()> {
    if payloads.iter().map(Payload::kind).eq(kinds.iter().copied()) {
        Ok(())
    } else {
        Err(Refusal::LogEntryRefused("these are not the entries this request is for".into()))
    }
}

pub(super) fn parse(bytes: &[u8]) -> Result<Entry> {
    Entry::parse(bytes).map_err(|malformed| Refusal::LogEntryRefused(malformed.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Person;

    #[test]
    fn a_log_ends_somewhere() {
        let mut ana = Person::new("ana");
        let mut log = ana.log.clone();
        let entry = [ana.sign_next(Payload::PasswordGeneration(1))];
        let full = append_up_to(1, &mut log, &entry, &[kind::PWGEN]);
        assert!(matches!(full, Err(Refusal::LimitReached(_))));
        assert!(append_up_to(2, &mut log, &entry, &[kind::PWGEN]).is_ok());
    }
}
