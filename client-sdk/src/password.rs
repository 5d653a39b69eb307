//! Passwords on their way through OPAQUE.
//!
//! Owns both dances, registration and sign-in: what is checked before a password is stretched, and that stretching
//! happens away from the async threads. Knows nothing of what the account holds.

use crate::context::{Context, private};
use crate::error::{Error, Misbehaviour, Result};
use crate::server::stretches_like_us;
use selkie_protocol::account::PasswordStart;
use selkie_protocol::cipher::{DeviceKey, token};
use selkie_protocol::hash::Label;
use selkie_protocol::name::{LoginName, password_input};
use selkie_protocol::opaque::{self, ExportKey};
use selkie_protocol::session::{
    DeviceProof, LoginDevice, LoginFinish, LoginStart, LoginStarted, RegisterStart, Tokens,
};
use selkie_protocol::{Bytes, Private};
use zeroize::Zeroizing;

/// A password as somebody typed it, and a code of the second factor where the account has one.
#[derive(Clone)]
pub struct PasswordProof {
    pub(crate) password: Private,
    pub(crate) second_factor: Option<Private>,
}

impl PasswordProof {
    /// The account's password alone.
    pub fn new(password: &str) -> Self {
        PasswordProof { password: password.into(), second_factor: None }
    }

    /// Six digits from the authenticator app, or a recovery code.
    #[must_use]
    pub fn with_code(mut self, code: &str) -> Self {
        self.second_factor = Some(code.into());
        self
    }
}

impl From<&str> for PasswordProof {
    fn from(password: &str) -> Self {
        PasswordProof::new(password)
    }
}

impl std::fmt::Debug for PasswordProof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PasswordProof(***)")
    }
}

/// Everything the password input is made of.
#[derive(Clone, Copy)]
pub(crate) struct Credentials<'a> {
    pub(crate) server_name: &'a str,
    pub(crate) login_name: &'a LoginName,
    pub(crate) password: &'a str,
    pub(crate) secret_key: Option<&'a Private>,
}

impl Credentials<'_> {
    fn input(&self) -> Result<Zeroizing<Vec<u8>>> {
        let secret_key = self.secret_key.map(Private::as_str);
        Ok(password_input(self.server_name, self.login_name, self.password, secret_key)?)
    }
}

/// A registration the server has answered and not yet taken.
pub(crate) struct Registration {
    pub(crate) reg_token: Bytes,
    pub(crate) record: opaque::RecordBytes,
    pub(crate) export_key: ExportKey,
}

/// A sign-in that succeeded.
pub(crate) struct Entered {
    pub(crate) tokens: Tokens,
    pub(crate) export_key: ExportKey,
}

impl Context {
    /// Registers a password for a name that is to be new.
    pub(crate) async fn register(&self, credentials: Credentials<'_>, invite: Option<&str>) -> Result<Registration> {
        let input = credentials.input()?;
        let started = opaque::RegistrationStarted::new(&input).map_err(|_| no_password())?;
        let message = RegisterStart {
            tenant: self.tenant(),
            login_name: private(credentials.login_name),
            invite: invite.map(Private::from),
            request: fixed(&started.request)?,
        };
        let answer = self.api.register_start(&message).await?;
        stretches_like_us(answer.ksf_id)?;
        self.accept_name(&answer.server_name, Some(credentials.server_name))?;
        self.finish_registration(started, input, answer.reg_token, answer.response.as_ref()).await
    }

    /// Registers another password for an account that is signed in.
    pub(crate) async fn register_again(&self, credentials: Credentials<'_>, bearer: &Private) -> Result<Registration> {
        let input = credentials.input()?;
        let started = opaque::RegistrationStarted::new(&input).map_err(|_| no_password())?;
        let message = PasswordStart { request: fixed(&started.request)? };
        let answer = self.api.password_start(bearer, &message).await?;
        stretches_like_us(answer.ksf_id)?;
        self.accept_name(&answer.server_name, Some(credentials.server_name))?;
        self.finish_registration(started, input, answer.reg_token, answer.response.as_ref()).await
    }

    async fn finish_registration(
        &self,
        started: opaque::RegistrationStarted,
        input: Zeroizing<Vec<u8>>,
        reg_token: Bytes,
        response: &[u8],
    ) -> Result<Registration> {
        let response = response.to_vec();
        let finished = self.edges.apart(move || started.finish(&input, &response)).await?;
        let finished = finished.map_err(|_| Error::misbehaved(Misbehaviour::Contradiction))?;
        Ok(Registration { reg_token, record: fixed(&finished.record)?, export_key: finished.export_key })
    }

    /// Signs in. A device the account knows gets a session bound to it.
    pub(crate) async fn enter(
        &self,
        credentials: Credentials<'_>,
        second_factor: Option<&Private>,
        device: Option<&DeviceKey>,
    ) -> Result<Entered> {
        let input = credentials.input()?;
        let started = opaque::LoginStarted::new(&input).map_err(|_| no_password())?;
        let answer = self.start_login(credentials.login_name, &started.ke1, device).await?;
        stretches_like_us(answer.ksf_id)?;
        self.accept_name(&answer.server_name, Some(credentials.server_name))?;
        let ke2 = answer.ke2;
        let finished = self.edges.apart(move || started.finish(&input, ke2.as_ref())).await?;
        // The password was wrong, or the server does not have its record: there is no telling, and KE3 is not sent.
        let finished = finished.map_err(|_| Error::WrongCredentials)?;
        let login = answer.login_id;
        let message = LoginFinish {
            login_id: login,
            ke3: fixed(&finished.ke3)?,
            second_factor: second_factor.cloned(),
            device: device.map(|key| LoginDevice {
                did: key.id(),
                signature: key.sign(Label::DEVICE_LOGIN, &[login.as_bytes()]).0.into(),
            }),
            app: self.app.clone(),
            seal: 1,
        };
        let sealed = self.api.login_finish(&message).await?.sealed_tokens;
        let sealed = sealed.ok_or_else(|| Error::misbehaved(Misbehaviour::Contradiction))?;
        let tokens = token::open(&finished.session_key, &login, &sealed)
            .map_err(|_| Error::misbehaved(Misbehaviour::Contradiction))?;
        Ok(Entered { tokens, export_key: finished.export_key })
    }

    /// Strangers who try this name slow it down; a device the account knows then shows that it is none of them.
    async fn start_login(
        &self,
        login_name: &LoginName,
        ke1: &[u8],
        device: Option<&DeviceKey>,
    ) -> Result<LoginStarted> {
        let mut message =
            LoginStart { tenant: self.tenant(), login_name: private(login_name), ke1: fixed(ke1)?, device: None };
        match (self.api.login_start(&message).await, device) {
            (Err(Error::RetryLater { .. }), Some(device)) => {
                message.device = Some(self.device_proof(device).await?);
                self.api.login_start(&message).await
            }
            (answer, _) => answer,
        }
    }

    async fn device_proof(&self, device: &DeviceKey) -> Result<DeviceProof> {
        let challenge = self.api.challenge().await?.challenge;
        let signature = device.sign(Label::DEVICE_CHALLENGE, &[&challenge]).0.into();
        Ok(DeviceProof { did: device.id(), challenge, signature })
    }
}

/// OPAQUE refuses only inputs that no password leads to.
fn no_password() -> Error {
    Error::ApiMisuse("OPAQUE cannot take this password".into())
}

fn fixed<const N: usize>(bytes: &[u8]) -> Result<selkie_protocol::Fixed<N>> {
    let bytes: [u8; N] =
        bytes.try_into().map_err(|_| Error::ApiMisuse("an OPAQUE message has another length".into()))?;
    Ok(bytes.into())
}
