//! Getting an account back with the recovery key.
//!
//! Owns the way from the sheet to a new password: the recovery key signs a challenge, opens the root secret, passes the
//! same first check as a password, and is replaced in the same request that sets the new password.

use super::kept::{Kept, Phase, RenewedSecretKey, Secrets, UnconfirmedSheet};
use super::root::{Asked, Checked};
use super::{SignIn, SignedIn};
use crate::Client;
use crate::error::{Error, Misbehaviour, Result, WrongKey};
use crate::keys::strength::{self, KeyMode};
use crate::password::Credentials;
use crate::server::stretches_like_us;
use crate::trust::Kek;
use selkie_protocol::account::PasswordFinish;
use selkie_protocol::account_log::Payload;
use selkie_protocol::cipher::{DeviceKey, Keybag, PasswordKek, RecoveryKek, RecoveryKey, SecretKey};
use selkie_protocol::hash::Label;
use selkie_protocol::name::LoginName;
use selkie_protocol::session::{RecoverFinish, RecoverStart, Scope, Tokens};
use selkie_protocol::{ErrorCode, Private};
use std::sync::Arc;

/// How to recover.
#[derive(Clone, Debug, Default)]
pub struct Recover {
    /// Whether signing in needs a Secret Key besides the password from now on.
    pub key_mode: KeyMode,
    /// Also forgets the second factor, which may be lost with the devices. If it stays, `second_factor` is needed to
    /// sign in afterwards.
    pub remove_second_factors: bool,
    /// A code from the authenticator app, if the account has a second factor and keeps it.
    pub second_factor: Option<Private>,
    /// What to call this device, for the others.
    pub device_name: String,
}

impl Client {
    /// Sets a new password with the recovery key and signs this device in. Old password, old Secret Key and old
    /// recovery key are void; [`SignedIn::sheet`] is the new sheet. Every other session ends. A recovery that was cut
    /// off is repeated with the same words.
    pub async fn recover(
        &self,
        login_name: &str,
        recovery_key: &str,
        new_password: &str,
        options: Recover,
    ) -> Result<SignedIn> {
        let login_name = LoginName::new(login_name)?;
        let recovery_key = RecoveryKey::parse(recovery_key)?;
        strength::check(new_password, options.key_mode, &[login_name.as_str()])?;
        let context = self.context();
        let announced = context.capabilities().await?.server_name;
        let known = context.find(&login_name, Some(&announced)).await?;
        let server_name = context.accept_name_for(&announced, known.as_ref())?;
        if known.as_ref().is_some_and(is_under_way)
            && let Some(finished) = self.finish_recovery(&login_name, new_password, &options).await?
        {
            return Ok(finished);
        }
        let tokens = self.recovery_session(&login_name, &recovery_key, &server_name).await?;
        let bearer = &tokens.access_token;
        let asked = Asked {
            kek: Kek::Recovery(&recovery_key),
            server_name: &server_name,
            login_name: &login_name,
            claimed: tokens.uid,
            seen: known.as_ref(),
            accepts_loss: false,
        };
        let checked = context.first_check(bearer, asked).await?;
        let secret_key = match options.key_mode {
            KeyMode::SecretKey => Some(Private::from(SecretKey::generate().to_text().as_str())),
            KeyMode::PasswordOnly => None,
        };
        let credentials = Credentials {
            server_name: &server_name,
            login_name: &login_name,
            password: new_password,
            secret_key: secret_key.as_ref(),
        };
        self.set_new_keys(known, checked, bearer, credentials, options.remove_second_factors).await?;
        let sign_in =
            SignIn { second_factor: options.second_factor, device_name: options.device_name, ..SignIn::default() };
        let typed = secret_key.as_ref().map(Private::as_str);
        self.sign_in(login_name.as_str(), new_password, typed, sign_in).await
    }

    /// A recovery that was cut off after its new keys had reached the server needs no recovery key any more, and the
    /// old one is void: sign in with what this device has. `None` if they never got there.
    async fn finish_recovery(
        &self,
        login_name: &LoginName,
        password: &str,
        options: &Recover,
    ) -> Result<Option<SignedIn>> {
        let sign_in = SignIn {
            second_factor: options.second_factor.clone(),
            device_name: options.device_name.clone(),
            ..SignIn::default()
        };
        match self.sign_in(login_name.as_str(), password, None, sign_in).await {
            Ok(signed_in) if signed_in.sheet.is_some() => Ok(Some(signed_in)),
            // With the present password everything was as it should be, and still somebody asks for new keys.
            Ok(_) | Err(Error::WrongCredentials) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A session that may do nothing but set a new password.
    async fn recovery_session(&self, login_name: &LoginName, key: &RecoveryKey, server_name: &str) -> Result<Tokens> {
        let context = self.context();
        let message = RecoverStart { tenant: context.tenant(), login_name: login_name.as_str().into() };
        let started = context.api.recover_start(&message).await?;
        stretches_like_us(started.ksf_id)?;
        context.accept_name(&started.server_name, Some(server_name))?;
        let signer = key.sign_in_key(&started.uid, started.rec_gen);
        let signature = signer.sign(Label::RECOVERY_LOGIN, &[started.login_id.as_bytes(), started.uid.as_bytes()]);
        let message = RecoverFinish { login_id: started.login_id, signature: signature.0.into() };
        let finished = match context.api.recover_finish(&message).await {
            Err(Error::WrongCredentials) => return Err(Error::WrongKey(WrongKey::RecoveryKey)),
            finished => finished?,
        };
        match finished.tokens {
            Some(tokens) if tokens.scope == Scope::Recovery && tokens.uid == Some(started.uid) => Ok(tokens),
            _ => Err(Error::misbehaved(Misbehaviour::Contradiction)),
        }
    }

    /// Record, keybag and both generations in one request. The new keys are on the disk before it leaves.
    async fn set_new_keys(
        &self,
        known: Option<Kept>,
        checked: Checked,
        bearer: &Private,
        credentials: Credentials<'_>,
        remove_second_factors: bool,
    ) -> Result<()> {
        let context = self.context();
        let mut open = checked.open;
        let user = open.log.user();
        let new_key = RecoveryKey::generate();
        let password_generation = open.log.password_generation() + 1;
        let recovery_generation = open.log.recovery().map_or(0, |(generation, _)| generation) + 1;
        let mut kept = known.unwrap_or_else(|| Kept {
            server_url: context.url_text(),
            server_name: credentials.server_name.to_owned(),
            tenant: context.tenant(),
            login_name: credentials.login_name.as_str().into(),
            phase: Phase::Joining,
            ended: None,
            life: None,
            log: open.log.clone(),
            entries: checked.entries.clone(),
            secrets: Secrets {
                device: Arc::new(DeviceKey::generate()),
                master_key: None,
                secret_key: None,
                session: None,
                unconfirmed: None,
            },
        });
        kept.take_log(&open.log, &checked.entries);
        kept.secrets.unconfirmed = Some(UnconfirmedSheet {
            recovery_key: new_key.to_text().as_str().into(),
            generation: recovery_generation,
            renewed: Some(RenewedSecretKey { secret_key: credentials.secret_key.cloned() }),
        });
        let registration = context.register_again(credentials, bearer).await?;
        context.save(&kept).await?;
        let now_ms = context.now_ms();
        let entries = vec![
            open.sign(now_ms, Payload::PasswordGeneration(password_generation)),
            open.sign(now_ms, crate::keys::recovery(&new_key, &user, recovery_generation)),
        ];
        let keybag = Keybag::seal(
            &open.root,
            &PasswordKek::derive(&registration.export_key, &user, password_generation),
            &RecoveryKek::derive(&new_key, &user, recovery_generation),
            &user,
        );
        let message = PasswordFinish {
            reg_token: registration.reg_token,
            record: registration.record,
            keybag: Some(keybag.to_bytes()),
            entries,
            keep_other_sessions: false,
            remove_second_factors,
        };
        // Whatever comes back but a yes, the new keys stay: they may be the only ones that open the account, and the
        // next sign-in or recovery finds out.
        match context.api.password_finish(bearer, &message).await {
            Err(error) if error.code() == Some(ErrorCode::LogConflict) => {
                Err(Error::RetryLater { after: None, why: "another device changes the account".into() })
            }
            finished => finished.map(drop),
        }
    }
}

/// New keys were made on this device, and nobody knows whether the server has them.
fn is_under_way(kept: &Kept) -> bool {
    kept.secrets.unconfirmed.as_ref().is_some_and(|unconfirmed| unconfirmed.renewed.is_some())
        || kept.phase == Phase::Joining
}
