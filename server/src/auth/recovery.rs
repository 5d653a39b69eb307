//! Getting back in with the recovery key, when the password is forgotten or every device is lost.
//!
//! The recovery key becomes a signature key on the client; the server knows its public half from the account log. Names
//! that do not exist, and accounts without a recovery key, get an answer that looks the same and cannot be used.

use super::login::tenant_of;
use super::restored::Shown;
use super::sessions::Opening;
use super::{Auth, Refusal, Result, login_name};
use crate::limits::{Action, Key};
use crate::secrets::Purpose;
use crate::store::{AccountState, FailureKind, LoginPurpose, LoginStateRow, Scope, Tenant};
use selkie_protocol::hash::Label;
use selkie_protocol::id::{LoginId, UserId};
use selkie_protocol::name::LoginName;
use selkie_protocol::opaque::KSF_PROFILE;
use selkie_protocol::session::{LoginFinished, RecoverFinish, RecoverStart, RecoverStarted};
use selkie_protocol::sign::{PublicKey, Signature};
use std::net::IpAddr;

/// Typing a recovery key from paper takes a while.
const RECOVERY_MS: i64 = 15 * 60_000;

impl Auth {
    /// `POST /v1/auth/recover/start`
    pub async fn recover_start(&self, from: IpAddr, request: RecoverStart) -> Result<RecoverStarted> {
        let tenant = self.tenant(request.tenant.as_deref()).await?;
        let name = login_name(&request.login_name)?;
        let by_name = Key::LoginName { tenant: tenant.tenant.0, name: &name };
        self.count(Action::Recover, &[Key::Address(from), by_name])?;
        let found = self.store.login_account(tenant.tenant, name.as_str()).await?;
        let real = found.as_ref().and_then(|account| Some((account, account.uid?, account.recovery?)));
        let (account, version, uid, rec_gen, key) = match real {
            Some((found, uid, (rec_gen, key))) => (Some(found.account), found.credential_version, uid, rec_gen, key),
            None => (None, 0, self.uid_of_nobody(tenant.tenant, &name), 1, self.nobody),
        };
        let login = self.new_login_id(tenant.tenant);
        let plain = [&uid.0[..], &key, &version.to_be_bytes(), &[u8::from(tenant.suspended)]].concat();
        let sealed = self.master.seal(Purpose::LoginState, &context(&login), &plain);
        let purpose = LoginPurpose::Recovery;
        let expires_at = self.edges.now_ms() + RECOVERY_MS;
        let row = LoginStateRow { login, account, purpose, sealed, expires_at, attempts: 0 };
        self.store.put_login_state(tenant.tenant, row).await?;
        let server_name = self.policy.server_name.clone();
        Ok(RecoverStarted { login_id: login, uid, rec_gen, server_name, ksf_id: KSF_PROFILE })
    }

    /// `POST /v1/auth/recover/finish`
    pub async fn recover_finish(&self, request: RecoverFinish) -> Result<LoginFinished> {
        let login = request.login_id;
        let tenant = tenant_of(login);
        let row = self.store.take_login_state(tenant, login, self.edges.now_ms()).await?;
        let row = row.filter(|row| row.purpose == LoginPurpose::Recovery).ok_or(Refusal::SignInExpired)?;
        let plain = self.master.open(Purpose::LoginState, &context(&login), &row.sealed)?;
        let (uid, rest) = plain.split_first_chunk::<32>().ok_or_else(damaged)?;
        let (key, rest) = rest.split_first_chunk::<32>().ok_or_else(damaged)?;
        let (version, suspended) = rest.split_first_chunk::<8>().ok_or_else(damaged)?;
        let signature = Signature(request.signature.0);
        let proven = PublicKey(*key).verify(Label::RECOVERY_LOGIN, &[login.as_bytes(), uid], &signature);
        let Some(account) = row.account.filter(|_| proven) else {
            self.count_failure(tenant, row.account, FailureKind::Recovery).await?;
            return Err(Refusal::InvalidLogin);
        };
        if suspended == [1] {
            return Err(Refusal::TenantSuspended);
        }
        let known = self.store.account(tenant, account).await?;
        if known.state == AccountState::Suspended {
            return Err(Refusal::AccountSuspended);
        }
        self.must_be_the_newest(tenant, &known, Shown::RecoveryKey).await?;
        let opening = Opening {
            account,
            device: None,
            scope: Scope::Recovery,
            app: None,
            shown: Some(i64::from_be_bytes(*version)),
            action: "recovery_key_used",
        };
        let tokens = self.open_session(tenant, opening).await?;
        Ok(LoginFinished { tokens: Some(tokens), sealed_tokens: None })
    }

    fn uid_of_nobody(&self, tenant: Tenant, name: &LoginName) -> UserId {
        UserId(self.master.mac(Purpose::Enumeration, &[b"uid", &tenant.0.to_be_bytes(), name.as_str().as_bytes()]))
    }
}

fn damaged() -> Refusal {
    Refusal::broken("a recovery under way is damaged")
}

fn context(login: &LoginId) -> [&[u8]; 2] {
    [b"recovery", login.as_bytes()]
}
