//! Signing in with a password, in two steps.
//!
//! A name that does not exist takes the same path through the first step: the same calls to the store, the same work,
//! an answer of the same size. Whether the account is suspended is said only to who proved to know the password.

use super::restored::Shown;
use super::sessions::{Opening, app_name};
use super::{Auth, Refusal, Result, login_name};
use crate::limits::{Action, Key};
use crate::secrets::Purpose;
use crate::store::{
    AccountNumber, AccountRow, AccountState, FailureKind, LoginAccount, LoginPurpose, LoginStateRow, Scope, Tenant,
};
use aws_lc_rs::aead;
use selkie_protocol::Face;
use selkie_protocol::hash::{Label, sha256};
use selkie_protocol::id::{DeviceId, LoginId};
use selkie_protocol::kdf::kdf;
use selkie_protocol::name::{LoginName, MAX_LOGIN_NAME_LENGTH};
use selkie_protocol::opaque::{KSF_PROFILE, LOGIN_STATE_LENGTH, LoginState, SESSION_KEY_LENGTH};
use selkie_protocol::session::{
    DeviceProof, LoginDevice, LoginFinish, LoginFinished, LoginStart, LoginStarted, Tokens,
};
use selkie_protocol::sign::{PublicKey, Signature};
use std::net::IpAddr;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// After KE3 was right, somebody has to look at their telephone.
const SECOND_FACTOR_MS: i64 = 5 * 60_000;
/// Second factors that may be wrong before the password is asked for again.
const SECOND_FACTOR_ATTEMPTS: i16 = 3;

/// What is sealed between the two steps, of one length whoever it is for.
struct UnderWay {
    /// The OPAQUE state, or, when only the second factor is missing, the session key and the hash of KE3.
    secret: Zeroizing<[u8; LOGIN_STATE_LENGTH]>,
    tenant_suspended: bool,
    /// The version of the credential this began with: it must be the same at the end.
    credential_version: i64,
    /// So that a sign-in that succeeds is not counted as a guess; nothing if it was counted for its device.
    counted_name: Option<LoginName>,
}

impl Auth {
    /// `POST /v1/auth/login/start`
    pub async fn login_start(&self, from: IpAddr, request: LoginStart) -> Result<LoginStarted> {
        let tenant = self.tenant(request.tenant.as_deref()).await?;
        let name = login_name(&request.login_name)?;
        let by_name = Key::LoginName { tenant: tenant.tenant.0, name: &name };
        self.count(Action::SignIn, &[Key::Address(from)])?;
        if request.device.is_none() {
            self.count(Action::SignIn, &[by_name])?;
        }
        let found = self.store.login_account(tenant.tenant, name.as_str()).await?;
        let mut counted_for_device = false;
        if let Some(proof) = &request.device {
            counted_for_device = self.is_known_device(tenant.tenant, found.as_ref(), proof).await?;
            let who = if counted_for_device { Key::Device(proof.did) } else { by_name };
            self.count(Action::SignIn, &[who])?;
        }

        let (setup, credential_id) = match &found {
            Some(account) => (self.setup(account.setup_id).await?, *account.uuid.as_bytes()),
            None => (self.setups.newest().1, self.credential_id_of_nobody(tenant.tenant, &name)),
        };
        let record = found.as_ref().map(|account| account.record.as_slice());
        let (state, ke2) = setup
            .login_response(record, &*request.ke1, &credential_id)
            .map_err(|_| Refusal::invalid("ke1", "not an OPAQUE credential request of this suite"))?;

        let login = self.new_login_id(tenant.tenant);
        let under_way = UnderWay {
            secret: Zeroizing::new(state.as_bytes().try_into().expect("the length of the state is fixed")),
            tenant_suspended: tenant.suspended,
            credential_version: found.as_ref().map_or(0, |account| account.credential_version),
            counted_name: (!counted_for_device).then_some(name),
        };
        let account = found.map(|account| account.account);
        let expires_at = self.edges.now_ms() + self.policy.login_state_ms;
        self.remember(login, account, LoginPurpose::Password, &under_way, 0, expires_at).await?;
        Ok(LoginStarted {
            login_id: login,
            ke2: ke2.into(),
            server_name: self.policy.server_name.clone(),
            ksf_id: KSF_PROFILE,
        })
    }

    /// `POST /v1/auth/login/finish`
    pub async fn login_finish(&self, request: LoginFinish) -> Result<LoginFinished> {
        let login = request.login_id;
        let tenant = tenant_of(login);
        let seal = match request.seal {
            0 => false,
            1 => true,
            _ => return Err(Refusal::invalid("seal", "0 or 1")),
        };
        let app = app_name(request.app.clone())?;
        let row = self.store.take_login_state(tenant, login, self.edges.now_ms()).await?;
        let row = row.filter(|row| row.purpose != LoginPurpose::Recovery).ok_or(Refusal::SignInExpired)?;
        let under_way = self.recall(&row)?;
        let Some(session_key) = session_key(&row, &under_way, &*request.ke3) else {
            self.count_failure(tenant, row.account, FailureKind::SignIn).await?;
            return Err(Refusal::InvalidLogin);
        };
        let done = self.come_in(tenant, &row, &under_way, &session_key, &request, app).await;
        if let Err(Refusal::Unavailable(_) | Refusal::Broken(_) | Refusal::TooMany(_)) = &done {
            // What was shown was right: it can be shown again when we are ready. If even that cannot be kept, the
            // sign-in starts anew, and the refusal that is told is the first one.
            if self.store.put_login_state(tenant, row).await.is_err() {
                tracing::warn!("a sign-in under way could not be put back");
            }
        }
        let tokens = done?;
        if let Some(name) = &under_way.counted_name {
            self.limits.forgive(Action::SignIn, &Key::LoginName { tenant: tenant.0, name });
        }
        Ok(if seal {
            let sealed = sealed_tokens(&session_key, login, &tokens);
            LoginFinished { tokens: None, sealed_tokens: Some(sealed.into()) }
        } else {
            LoginFinished { tokens: Some(tokens), sealed_tokens: None }
        })
    }

    /// What remains when KE3 was right. The device comes before the second factor, so that its refusal costs no code.
    async fn come_in(
        &self,
        tenant: Tenant,
        row: &LoginStateRow,
        under_way: &UnderWay,
        session_key: &[u8; SESSION_KEY_LENGTH],
        request: &LoginFinish,
        app: Option<String>,
    ) -> Result<Tokens> {
        // Only a record can make KE3 come out right, so there is an account.
        let number = row.account.ok_or(Refusal::InvalidLogin)?;
        let account = self.store.account(tenant, number).await?;
        if under_way.tenant_suspended {
            return Err(Refusal::TenantSuspended);
        }
        if account.state == AccountState::Suspended {
            return Err(Refusal::AccountSuspended);
        }
        let device = match &request.device {
            Some(device) => Some(self.verify_login_device(tenant, number, row.login, device).await?),
            None => {
                self.must_be_the_newest(tenant, &account, Shown::Password).await?;
                None
            }
        };
        self.check_second_factor(tenant, &account, row, under_way, session_key, request).await?;
        let shown = Some(under_way.credential_version);
        let opening = Opening { account: number, device, scope: Scope::Full, app, shown, action: "signed_in" };
        self.open_session(tenant, opening).await
    }

    /// Every start counts as a failed attempt: a client knows after KE2 whether it guessed right, and may stop there. A
    /// device the account knows is counted by itself, so that strangers cannot lock its owner out.
    async fn is_known_device(&self, tenant: Tenant, found: Option<&LoginAccount>, proof: &DeviceProof) -> Result<bool> {
        // Asked for names that do not exist, too, so that both take the same path.
        let account = found.map_or(AccountNumber(0), |account| account.account);
        let key = self.store.device_key(tenant, account, proof.did).await?.unwrap_or(self.nobody);
        Ok(self.verify_proof(&key, Label::DEVICE_CHALLENGE, proof, &[]).is_ok())
    }

    async fn verify_login_device(
        &self,
        tenant: Tenant,
        account: AccountNumber,
        login: LoginId,
        device: &LoginDevice,
    ) -> Result<DeviceId> {
        let key = self.store.device_key(tenant, account, device.did).await?.ok_or(Refusal::DeviceRevoked)?;
        let signature = Signature(device.signature.0);
        if PublicKey(key).verify(Label::DEVICE_LOGIN, &[login.as_bytes()], &signature) {
            Ok(device.did)
        } else {
            Err(Refusal::invalid("device.signature", "not a signature of this device over this sign-in"))
        }
    }

    /// Asks for the second factor where the account has one; what was right so far is kept, so that the password is
    /// not needed again for a mistyped code.
    async fn check_second_factor(
        &self,
        tenant: Tenant,
        account: &AccountRow,
        row: &LoginStateRow,
        under_way: &UnderWay,
        session_key: &[u8; SESSION_KEY_LENGTH],
        request: &LoginFinish,
    ) -> Result<()> {
        if account.second_factors.is_empty() {
            return Ok(());
        }
        let (refusal, attempts) = match &request.second_factor {
            None => (Refusal::SecondFactorRequired, row.attempts),
            Some(code) if self.second_factor_is_right(tenant, account, code.as_str()).await? => return Ok(()),
            Some(_) => {
                self.count_failure(tenant, row.account, FailureKind::SecondFactor).await?;
                (Refusal::SecondFactorInvalid, row.attempts + 1)
            }
        };
        if attempts < SECOND_FACTOR_ATTEMPTS {
            let mut secret = Zeroizing::new([0; LOGIN_STATE_LENGTH]);
            secret[..SESSION_KEY_LENGTH].copy_from_slice(session_key);
            secret[SESSION_KEY_LENGTH..][..32].copy_from_slice(&sha256(&*request.ke3));
            let counted_name = under_way.counted_name.clone();
            let UnderWay { tenant_suspended, credential_version, .. } = *under_way;
            let waiting = UnderWay { secret, tenant_suspended, credential_version, counted_name };
            let purpose = LoginPurpose::SecondFactor;
            // The time begins once: asking again does not put its end off.
            let expires_at = match row.purpose {
                LoginPurpose::SecondFactor => row.expires_at,
                _ => self.edges.now_ms() + SECOND_FACTOR_MS,
            };
            self.remember(row.login, row.account, purpose, &waiting, attempts, expires_at).await?;
        }
        Err(refusal)
    }

    /// The same work whether the name exists or not.
    pub(super) async fn count_failure(
        &self,
        tenant: Tenant,
        account: Option<AccountNumber>,
        kind: FailureKind,
    ) -> Result<()> {
        Ok(self.store.count_failure(tenant, account, kind, self.audit(kind.action(), None)).await?)
    }

    async fn remember(
        &self,
        login: LoginId,
        account: Option<AccountNumber>,
        purpose: LoginPurpose,
        under_way: &UnderWay,
        attempts: i16,
        expires_at: i64,
    ) -> Result<()> {
        let sealed = self.master.seal(Purpose::LoginState, &context(&login, purpose), &*under_way.to_bytes());
        let row = LoginStateRow { login, account, purpose, sealed, expires_at, attempts };
        Ok(self.store.put_login_state(tenant_of(login), row).await?)
    }

    fn recall(&self, row: &LoginStateRow) -> Result<UnderWay> {
        let plain = self.master.open(Purpose::LoginState, &context(&row.login, row.purpose), &row.sealed)?;
        UnderWay::parse(&plain).ok_or_else(|| Refusal::broken("a sign-in under way is damaged"))
    }

    /// The tenant is part of the id, so that the second step need not name it.
    pub(super) fn new_login_id(&self, tenant: Tenant) -> LoginId {
        let mut id = [0; LoginId::LENGTH];
        id[..8].copy_from_slice(&tenant.0.to_be_bytes());
        id[8..].copy_from_slice(&self.edges.bytes::<16>());
        LoginId(id)
    }

    /// Stable for a name, so that asking twice tells nothing.
    fn credential_id_of_nobody(&self, tenant: Tenant, name: &LoginName) -> [u8; 16] {
        let mac =
            self.master.mac(Purpose::Enumeration, &[b"credential", &tenant.0.to_be_bytes(), name.as_str().as_bytes()]);
        *mac.first_chunk().expect("a MAC has 32 bytes")
    }
}

pub(super) fn tenant_of(login: LoginId) -> Tenant {
    Tenant(i64::from_be_bytes(*login.0.first_chunk().expect("a login id has 24 bytes")))
}

/// The session key, if this KE3 is the right one for what is under way.
fn session_key(row: &LoginStateRow, under_way: &UnderWay, ke3: &[u8]) -> Option<Zeroizing<[u8; SESSION_KEY_LENGTH]>> {
    let key: &[u8] = match row.purpose {
        LoginPurpose::Password => {
            let finished = LoginState::from_bytes(&*under_way.secret).and_then(|state| state.finish(ke3)).ok()?;
            return finished.as_bytes().try_into().ok().map(Zeroizing::new);
        }
        LoginPurpose::SecondFactor => {
            let (key, hash) = under_way.secret.split_at(SESSION_KEY_LENGTH);
            bool::from(sha256(ke3).as_slice().ct_eq(&hash[..32])).then_some(key)?
        }
        LoginPurpose::Recovery => return None,
    };
    key.try_into().ok().map(Zeroizing::new)
}

/// `ChaCha20-Poly1305(KDF(session key, "", "token-wrap", login id, 32), nonce 0)` over the tokens as CBOR. The key is
/// used for this one message, so the nonce may be zero.
fn sealed_tokens(session_key: &[u8; SESSION_KEY_LENGTH], login: LoginId, tokens: &Tokens) -> Vec<u8> {
    let key = kdf::<32>(session_key, b"", Label::TOKEN_WRAP, login.as_bytes());
    let key = aead::UnboundKey::new(&aead::CHACHA20_POLY1305, &*key).expect("ChaCha20 takes 32 bytes");
    let nonce = aead::Nonce::assume_unique_for_key([0; aead::NONCE_LEN]);
    let mut sealed = Face::Cbor.encode(tokens);
    aead::LessSafeKey::new(key)
        .seal_in_place_append_tag(nonce, aead::Aad::empty(), &mut sealed)
        .expect("tokens are far shorter than the cipher's limit");
    sealed
}

fn context(login: &LoginId, purpose: LoginPurpose) -> [&[u8]; 2] {
    let purpose: &[u8] = match purpose {
        LoginPurpose::Password => b"login",
        LoginPurpose::SecondFactor => b"second-factor",
        LoginPurpose::Recovery => b"recovery",
    };
    [purpose, login.as_bytes()]
}

impl UnderWay {
    /// `secret 128 | version 8 | suspended 1 | length of the name 1 | name, padded to the longest`
    const LENGTH: usize = LOGIN_STATE_LENGTH + 8 + 2 + MAX_LOGIN_NAME_LENGTH;

    fn to_bytes(&self) -> Zeroizing<[u8; Self::LENGTH]> {
        let mut bytes = Zeroizing::new([0; Self::LENGTH]);
        let (secret, rest) = bytes.split_at_mut(LOGIN_STATE_LENGTH);
        secret.copy_from_slice(&*self.secret);
        let (version, rest) = rest.split_at_mut(8);
        version.copy_from_slice(&self.credential_version.to_be_bytes());
        let name = self.counted_name.as_ref().map_or("", LoginName::as_str).as_bytes();
        rest[0] = u8::from(self.tenant_suspended);
        rest[1] = u8::try_from(name.len()).expect("a login name is shorter than 256 bytes");
        rest[2..][..name.len()].copy_from_slice(name);
        bytes
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (secret, rest) = bytes.split_first_chunk()?;
        let (version, rest) = rest.split_first_chunk()?;
        let (&[suspended, length], name) = rest.split_first_chunk()?;
        let name = std::str::from_utf8(name.get(..usize::from(length))?).ok()?;
        let counted_name = if name.is_empty() { None } else { Some(LoginName::new(name).ok()?) };
        Some(UnderWay {
            secret: Zeroizing::new(*secret),
            tenant_suspended: suspended == 1,
            credential_version: i64::from_be_bytes(*version),
            counted_name,
        })
    }
}
