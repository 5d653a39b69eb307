//! The one OPAQUE suite: ristretto255, SHA-512, 3DH, Argon2id; no identities, no context.
//!
//! opaque-ke brings an older generation of the cryptographic crates. This module is its wall: only bytes pass through
//! it, in and out. The server's half is always here; the client's half, and with it the stretching of passwords, comes
//! with the feature `seal`.

use crate::bytes::Fixed;
use opaque_ke::generic_array::{ArrayLength, GenericArray};
use opaque_ke::{
    CredentialFinalization, CredentialRequest, Identifiers, RegistrationRequest, RegistrationUpload,
    ServerLoginParameters, ServerRegistration, errors::InternalError,
};
use rand08::rngs::OsRng;
use std::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop};

pub const REGISTRATION_REQUEST_LENGTH: usize = 32;
pub const REGISTRATION_RESPONSE_LENGTH: usize = 64;
pub const RECORD_LENGTH: usize = 192;
pub const KE1_LENGTH: usize = 96;
pub const KE2_LENGTH: usize = 320;
pub const KE3_LENGTH: usize = 64;
pub const SERVER_SETUP_LENGTH: usize = 128;
pub const LOGIN_STATE_LENGTH: usize = 128;
pub const SESSION_KEY_LENGTH: usize = 64;

// The messages as they travel.
pub type RegistrationRequestBytes = Fixed<REGISTRATION_REQUEST_LENGTH>;
pub type RegistrationResponseBytes = Fixed<REGISTRATION_RESPONSE_LENGTH>;
pub type RecordBytes = Fixed<RECORD_LENGTH>;
pub type Ke1Bytes = Fixed<KE1_LENGTH>;
pub type Ke2Bytes = Fixed<KE2_LENGTH>;
pub type Ke3Bytes = Fixed<KE3_LENGTH>;

/// The one way passwords are stretched: Argon2id, 64 MiB, 3 passes, 4 lanes, 64 bytes out, salt of 16 zero bytes. It is
/// compiled in and only named on the wire, so that a server cannot ask for less.
pub const KSF_PROFILE: u8 = 1;

/// One answer for every failure: whoever sees it learns nothing about which part was wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the sign-in did not succeed")]
pub struct Refused;

struct Suite;

impl opaque_ke::CipherSuite for Suite {
    type OprfCs = opaque_ke::Ristretto255;
    type KeyExchange = opaque_ke::TripleDh<opaque_ke::Ristretto255, sha2_010::Sha512>;
    type Ksf = Profile1;
}

#[derive(Default)]
struct Profile1;

impl opaque_ke::ksf::Ksf for Profile1 {
    #[cfg(feature = "seal")]
    fn hash<L: ArrayLength<u8>>(&self, input: GenericArray<u8, L>) -> Result<GenericArray<u8, L>, InternalError> {
        let mut output = GenericArray::default();
        stretch(&input, &mut output).map_err(|_| InternalError::KsfError)?;
        Ok(output)
    }

    /// The server never stretches a password, because it never has one.
    #[cfg(not(feature = "seal"))]
    fn hash<L: ArrayLength<u8>>(&self, _: GenericArray<u8, L>) -> Result<GenericArray<u8, L>, InternalError> {
        Err(InternalError::KsfError)
    }
}

/// Profile 1.
#[cfg(feature = "seal")]
fn stretch(input: &[u8], output: &mut [u8]) -> Result<(), argon2::Error> {
    let params = argon2::Params::new(65_536, 3, 4, None)?;
    argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params)
        .hash_password_into(input, &[0; 16], output)
}

/// The server's long-term OPAQUE secrets. Whoever holds them and the credentials can guess passwords offline.
pub struct ServerSetup(opaque_ke::ServerSetup<Suite>);

/// What the server remembers between KE2 and KE3. It contains the session key.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct LoginState([u8; LOGIN_STATE_LENGTH]);

/// The secret both sides share after a sign-in that succeeded.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct SessionKey([u8; SESSION_KEY_LENGTH]);

impl ServerSetup {
    pub fn generate() -> Self {
        ServerSetup(opaque_ke::ServerSetup::new(&mut OsRng))
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Refused> {
        let bytes = exactly(bytes, SERVER_SETUP_LENGTH)?;
        opaque_ke::ServerSetup::deserialize(bytes).map(ServerSetup).map_err(|_| Refused)
    }

    pub fn to_bytes(&self) -> zeroize::Zeroizing<Vec<u8>> {
        zeroize::Zeroizing::new(self.0.serialize().to_vec())
    }

    /// The public half; safe to log, and the way to recognise a setup.
    pub fn public_key(&self) -> Vec<u8> {
        self.0.keypair().public().serialize().to_vec()
    }

    /// Answers the first step of a registration. `credential_id` must be the same in every step of one account's life.
    pub fn registration_response(
        &self,
        request: &[u8],
        credential_id: &[u8],
    ) -> Result<[u8; REGISTRATION_RESPONSE_LENGTH], Refused> {
        let request = exactly(request, REGISTRATION_REQUEST_LENGTH)
            .and_then(|bytes| RegistrationRequest::deserialize(bytes).map_err(|_| Refused))?;
        let started = ServerRegistration::<Suite>::start(&self.0, request, credential_id).map_err(|_| Refused)?;
        started.message.serialize().as_slice().try_into().map_err(|_| Refused)
    }

    /// Answers the first step of a sign-in. Without a record it answers just the same, and the sign-in cannot succeed.
    pub fn login_response(
        &self,
        record: Option<&[u8]>,
        ke1: &[u8],
        credential_id: &[u8],
    ) -> Result<(LoginState, [u8; KE2_LENGTH]), Refused> {
        let request =
            exactly(ke1, KE1_LENGTH).and_then(|bytes| CredentialRequest::deserialize(bytes).map_err(|_| Refused))?;
        let record = record
            .map(|bytes| ServerRegistration::deserialize(exactly(bytes, RECORD_LENGTH)?).map_err(|_| Refused))
            .transpose()?;
        let started = opaque_ke::ServerLogin::start(&mut OsRng, &self.0, record, request, credential_id, parameters())
            .map_err(|_| Refused)?;
        let state = started.state.serialize().as_slice().try_into().map_err(|_| Refused)?;
        let ke2 = started.message.serialize().as_slice().try_into().map_err(|_| Refused)?;
        Ok((LoginState(state), ke2))
    }
}

/// Checks that an uploaded registration is one, and returns the record to keep.
pub fn registration_record(upload: &[u8]) -> Result<[u8; RECORD_LENGTH], Refused> {
    let upload = exactly(upload, RECORD_LENGTH)
        .and_then(|bytes| RegistrationUpload::<Suite>::deserialize(bytes).map_err(|_| Refused))?;
    ServerRegistration::finish(upload).serialize().as_slice().try_into().map_err(|_| Refused)
}

impl LoginState {
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Refused> {
        bytes.try_into().map(LoginState).map_err(|_| Refused)
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Checks the client's last message. Only who knew the password can have made it.
    pub fn finish(&self, ke3: &[u8]) -> Result<SessionKey, Refused> {
        let state = opaque_ke::ServerLogin::<Suite>::deserialize(&self.0).map_err(|_| Refused)?;
        let ke3 = exactly(ke3, KE3_LENGTH)
            .and_then(|bytes| CredentialFinalization::deserialize(bytes).map_err(|_| Refused))?;
        let finished = state.finish(ke3, parameters()).map_err(|_| Refused)?;
        finished.session_key.as_slice().try_into().map(SessionKey).map_err(|_| Refused)
    }
}

impl SessionKey {
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    #[cfg(all(test, feature = "seal"))]
    pub(crate) fn for_tests(bytes: [u8; SESSION_KEY_LENGTH]) -> Self {
        SessionKey(bytes)
    }
}

fn parameters() -> ServerLoginParameters<'static, 'static> {
    ServerLoginParameters { context: None, identifiers: Identifiers { client: None, server: None } }
}

fn exactly(bytes: &[u8], length: usize) -> Result<&[u8], Refused> {
    if bytes.len() == length { Ok(bytes) } else { Err(Refused) }
}

macro_rules! silent {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(***)"))
            }
        }
    )*};
}
silent!(ServerSetup, LoginState, SessionKey);

#[cfg(feature = "seal")]
pub use client::{ExportKey, LoginFinished, LoginStarted, RegistrationFinished, RegistrationStarted};

/// The client's half.
#[cfg(feature = "seal")]
mod client {
    use super::{Refused, SessionKey, Suite};
    use opaque_ke::{
        ClientLogin, ClientLoginFinishParameters, ClientRegistration, ClientRegistrationFinishParameters,
        CredentialResponse, RegistrationResponse,
    };
    use rand08::rngs::OsRng;
    use std::fmt;
    use zeroize::{Zeroize, ZeroizeOnDrop};

    /// A secret that only the right password yields, the same at every sign-in; the server never has it.
    #[derive(Zeroize, ZeroizeOnDrop)]
    pub struct ExportKey([u8; 64]);

    impl ExportKey {
        pub fn as_bytes(&self) -> &[u8] {
            &self.0
        }

        #[cfg(test)]
        pub(crate) fn for_tests(bytes: [u8; 64]) -> Self {
            ExportKey(bytes)
        }
    }

    /// A registration after its first message.
    pub struct RegistrationStarted {
        state: ClientRegistration<Suite>,
        pub request: Vec<u8>,
    }

    /// A registration after its last message.
    #[derive(Debug)]
    pub struct RegistrationFinished {
        pub record: Vec<u8>,
        pub export_key: ExportKey,
        pub server_public_key: Vec<u8>,
    }

    /// A sign-in after its first message.
    pub struct LoginStarted {
        state: ClientLogin<Suite>,
        pub ke1: Vec<u8>,
    }

    /// A sign-in that succeeded: the server had the record of this very password.
    #[derive(Debug)]
    pub struct LoginFinished {
        pub ke3: Vec<u8>,
        pub export_key: ExportKey,
        pub session_key: SessionKey,
        pub server_public_key: Vec<u8>,
    }

    impl RegistrationStarted {
        pub fn new(password_input: &[u8]) -> Result<Self, Refused> {
            let started = ClientRegistration::<Suite>::start(&mut OsRng, password_input).map_err(|_| Refused)?;
            Ok(RegistrationStarted { state: started.state, request: started.message.serialize().to_vec() })
        }

        /// Takes about 130 ms of CPU and 64 MiB: it stretches the password.
        pub fn finish(self, password_input: &[u8], response: &[u8]) -> Result<RegistrationFinished, Refused> {
            let response = super::exactly(response, super::REGISTRATION_RESPONSE_LENGTH)
                .and_then(|bytes| RegistrationResponse::deserialize(bytes).map_err(|_| Refused))?;
            let finished = self
                .state
                .finish(&mut OsRng, password_input, response, ClientRegistrationFinishParameters::default())
                .map_err(|_| Refused)?;
            Ok(RegistrationFinished {
                record: finished.message.serialize().to_vec(),
                export_key: ExportKey(finished.export_key.as_slice().try_into().map_err(|_| Refused)?),
                server_public_key: finished.server_s_pk.serialize().to_vec(),
            })
        }
    }

    impl LoginStarted {
        pub fn new(password_input: &[u8]) -> Result<Self, Refused> {
            let started = ClientLogin::<Suite>::start(&mut OsRng, password_input).map_err(|_| Refused)?;
            Ok(LoginStarted { state: started.state, ke1: started.message.serialize().to_vec() })
        }

        /// Takes about 130 ms of CPU and 64 MiB: it stretches the password.
        pub fn finish(self, password_input: &[u8], ke2: &[u8]) -> Result<LoginFinished, Refused> {
            let response = super::exactly(ke2, super::KE2_LENGTH)
                .and_then(|bytes| CredentialResponse::deserialize(bytes).map_err(|_| Refused))?;
            let finished = self
                .state
                .finish(&mut OsRng, password_input, response, ClientLoginFinishParameters::default())
                .map_err(|_| Refused)?;
            Ok(LoginFinished {
                ke3: finished.message.serialize().to_vec(),
                export_key: ExportKey(finished.export_key.as_slice().try_into().map_err(|_| Refused)?),
                session_key: SessionKey(finished.session_key.as_slice().try_into().map_err(|_| Refused)?),
                server_public_key: finished.server_s_pk.serialize().to_vec(),
            })
        }
    }

    macro_rules! silent {
        ($($name:ident),*) => {$(
            impl fmt::Debug for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str(concat!(stringify!($name), "(***)"))
                }
            }
        )*};
    }
    silent!(ExportKey, RegistrationStarted, LoginStarted);
}

#[cfg(all(test, feature = "seal"))]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_stretched_as_everywhere_else() {
        // The answer is OpenSSL's, for the same parameters.
        let expected = concat!(
            "7a8ffe9d30ce09e7b59151eb5d64849961dfd010b53343c86730d9c7abe774f9",
            "ce4233e16ab34e504d09c8932bcc2475e9de2f0cca8985bda488c758a3422b39"
        );
        let mut stretched = [0; 64];
        stretch(b"selkie", &mut stretched).unwrap();
        assert_eq!(stretched.iter().map(|byte| format!("{byte:02x}")).collect::<String>(), expected);
    }
}
