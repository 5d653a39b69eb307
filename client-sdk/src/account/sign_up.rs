//! Making an account.
//!
//! Owns the order in which it comes to be: keys first, then this device's own record, then the server. A process killed
//! anywhere in between leaves either no account or one that this device can finish.

use super::kept::{Kept, KeptSession, Life, Phase, Secrets, UnconfirmedSheet};
use super::{Account, SignIn};
use crate::Client;
use crate::context::Context;
use crate::error::{Error, Misbehaviour, Result};
use crate::keys::strength::{self, KeyMode};
use crate::keys::{EmergencySheet, NewIdentity};
use crate::password::Credentials;
use selkie_protocol::Private;
use selkie_protocol::cipher::{DeviceKey, SecretKey};
use selkie_protocol::id::Incarnation;
use selkie_protocol::name::LoginName;
use selkie_protocol::session::RegisterFinish;
use std::sync::Arc;

/// How to make an account.
#[derive(Clone, Debug, Default)]
pub struct SignUp {
    /// An invitation, where the server asks for one.
    pub invite: Option<Private>,
    /// Whether signing in needs a Secret Key besides the password.
    pub key_mode: KeyMode,
    /// What this device is called in the account's list of devices. Only the account's own devices can read it.
    pub device_name: String,
}

/// A new account, and what must be put away before anything else.
#[derive(Debug)]
pub struct SignedUp {
    /// The account, on this device.
    pub account: Account,
    /// Show it, then call [`Account::confirm_sheet`].
    pub sheet: EmergencySheet,
}

impl Client {
    /// Makes an account and signs this device in.
    ///
    /// A sign-up whose answer was lost can simply be repeated: if the server knows the account, this device finishes
    /// it.
    pub async fn sign_up(&self, login_name: &str, password: &str, options: SignUp) -> Result<SignedUp> {
        let login_name = LoginName::new(login_name)?;
        strength::check(password, options.key_mode, &[login_name.as_str()])?;
        let context = self.context();
        let server = context.capabilities().await?;
        let server_name = context.accept_name(&server.server_name, None)?;
        let interrupted = context.find_all(&login_name, Some(&server_name)).await?;
        if interrupted.iter().any(|kept| kept.phase > Phase::SigningUp) {
            return Err(Error::NotPossible(
                "this device has an account of this name: sign in, or remove it from the device first".into(),
            ));
        }
        if !interrupted.is_empty() {
            let sign_in = SignIn { device_name: options.device_name.clone(), ..SignIn::default() };
            match self.sign_in(login_name.as_str(), password, None, sign_in).await {
                Ok(signed_in) => {
                    if let Some(sheet) = signed_in.sheet {
                        return Ok(SignedUp { account: signed_in.account, sheet });
                    }
                    return Err(Error::NotPossible("this account is complete: sign in".into()));
                }
                // The server does not know that account, or the password is another one now: make a new account. If
                // the name is taken after all, what the interrupted sign-up left stays.
                Err(Error::WrongCredentials) => {}
                Err(error) => return Err(error),
            }
        }
        let signed_up =
            begin(&self.shared(), &server_name, server.incarnation, &login_name, password, &options).await?;
        for left_over in interrupted {
            context.forget(&left_over.folder()).await?;
        }
        let account = self.remember(signed_up)?;
        account.settle_in(&options.device_name, true).await;
        self.bring_along(&account, true).await;
        let sheet = account.unconfirmed_sheet().ok_or_else(|| Error::Corrupt("the sheet".into()))?;
        Ok(SignedUp { account, sheet })
    }
}

async fn begin(
    context: &Arc<Context>,
    server_name: &str,
    life: Incarnation,
    login_name: &LoginName,
    password: &str,
    options: &SignUp,
) -> Result<Kept> {
    let secret_key = match options.key_mode {
        KeyMode::SecretKey => Some(Private::from(SecretKey::generate().to_text().as_str())),
        KeyMode::PasswordOnly => None,
    };
    let credentials = Credentials { server_name, login_name, password, secret_key: secret_key.as_ref() };
    let invite = options.invite.as_ref().map(Private::as_str);
    let registration = context.register(credentials, invite).await?;
    let device = DeviceKey::generate();
    let identity = NewIdentity::make(&registration.export_key, server_name, login_name, &device, context.now_ms());
    let message = RegisterFinish {
        reg_token: registration.reg_token,
        record: registration.record,
        account: Some(identity.to_message(&device, &options.device_name)),
    };
    let mut kept = newborn(context, server_name, life, login_name, device, identity, secret_key.clone());
    context.save(&kept).await?;
    let registered = match context.api.register_finish(&message).await {
        Ok(registered) => registered,
        Err(error) if error.made_no_account() => {
            context.forget(&kept.folder()).await?;
            return Err(error);
        }
        // An answer that is none says nothing about what happened: the record stays, and the next attempt finds out.
        Err(error) => return Err(error),
    };
    if registered.uid != Some(kept.user()) {
        return Err(Error::misbehaved(Misbehaviour::Contradiction));
    }
    let entered = context.enter(credentials, None, Some(&kept.secrets.device)).await?;
    if entered.tokens.uid != Some(kept.user()) {
        return Err(Error::misbehaved(Misbehaviour::Contradiction));
    }
    kept.secrets.session = Some(KeptSession::new(&entered.tokens, context.now_ms()));
    kept.phase = Phase::SignedIn;
    context.save(&kept).await?;
    tracing::info!("the account was made");
    Ok(kept)
}

/// What this device keeps of an account whose keys it has just made.
pub(super) fn newborn(
    context: &Context,
    server_name: &str,
    life: Incarnation,
    login_name: &LoginName,
    device: DeviceKey,
    identity: NewIdentity,
    secret_key: Option<Private>,
) -> Kept {
    let unconfirmed = UnconfirmedSheet {
        recovery_key: Private::from(identity.recovery_key.to_text().as_str()),
        generation: identity.log.recovery().map_or(1, |(generation, _)| generation),
        renewed: None,
    };
    Kept {
        server_url: context.url_text(),
        server_name: server_name.to_owned(),
        tenant: context.tenant(),
        login_name: Private::from(login_name.as_str()),
        phase: Phase::SigningUp,
        ended: None,
        life: Some(Life::first(life)),
        log: identity.log,
        entries: identity.entries,
        secrets: Secrets {
            device: Arc::new(device),
            master_key: Some(Arc::new(identity.master_key)),
            secret_key,
            session: None,
            unconfirmed: Some(unconfirmed),
        },
    }
}
