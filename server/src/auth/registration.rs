//! Making an account: the two steps of OPAQUE registration, and what must come with the second.
//!
//! The first step leaves nothing in the database: what the second must know travels with the client, sealed.

use super::account::{KeybagHead, identity_of};
use super::{Auth, Refusal, Result, login_name};
use crate::limits::{Action, Key, PlanFactor};
use crate::secrets::Purpose as KeyPurpose;
use crate::store::{NewCredential, Registration, Tenant};
use selkie_protocol::name::LoginName;
use selkie_protocol::opaque::{self, KSF_PROFILE};
use selkie_protocol::session::{RegisterFinish, RegisterStart, RegisterStarted, Registered};
use std::net::IpAddr;
use uuid::Uuid;

/// How long a client may take between the two steps.
const TOKEN_MS: i64 = 5 * 60_000;
/// Every password begins at this generation.
pub(super) const FIRST_GENERATION: u32 = 1;

/// What the second step of a registration, or of a change of password, must know of the first.
pub(super) struct Ticket {
    pub(super) purpose: Purpose,
    pub(super) tenant: Tenant,
    pub(super) uuid: Uuid,
    pub(super) setup_id: i32,
    pub(super) expires_at: i64,
    pub(super) invitation: Option<[u8; 32]>,
    /// Empty for a change of password.
    pub(super) login_name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Register = 1,
    ChangePassword = 2,
}

impl Auth {
    /// `POST /v1/auth/register/start`. Says nothing about whether the name is taken.
    pub async fn register_start(&self, from: IpAddr, request: RegisterStart) -> Result<RegisterStarted> {
        let tenant = self.tenant(request.tenant.as_deref()).await?;
        self.count(Action::SignUp, &[Key::Address(from)])?;
        let name = login_name(&request.login_name)?;
        let invitation = self.admit(tenant.tenant, request.invite.as_ref()).await?;
        // Only who may come in counts, so that strangers cannot use up what the tenant is allowed.
        let plan = PlanFactor::of_percent(tenant.limit_factor);
        self.count_in_plan(Action::SignUp, &[Key::Tenant(tenant.tenant.0)], plan)?;
        if tenant.suspended {
            return Err(Refusal::TenantSuspended);
        }
        let (reg_token, response) = self.start_record(
            Purpose::Register,
            tenant.tenant,
            self.edges.uuid(),
            invitation,
            Some(name),
            &*request.request,
        )?;
        Ok(RegisterStarted {
            reg_token: reg_token.into(),
            response: response.into(),
            server_name: self.policy.server_name.clone(),
            ksf_id: KSF_PROFILE,
        })
    }

    /// `POST /v1/auth/register/finish`
    pub async fn register_finish(&self, request: RegisterFinish) -> Result<Registered> {
        let ticket = self.read_ticket(&request.reg_token, Purpose::Register)?;
        let now = self.edges.now_ms();
        let record = record(&*request.record)?;
        let identity = match &request.account {
            Some(account) => {
                KeybagHead::of(&account.keybag)?.must_be(FIRST_GENERATION, 1)?;
                Some(identity_of(account, &self.policy.server_name, &ticket.login_name, now)?)
            }
            None => None,
        };
        let (uid, device) = identity.as_ref().map(|it| (it.uid, it.device.device)).unzip();
        let registration = Registration {
            login_name: ticket.login_name,
            uuid: ticket.uuid,
            audit_subject: self.edges.bytes(),
            invitation: ticket.invitation,
            credential: NewCredential {
                setup_id: ticket.setup_id,
                ksf_id: i16::from(KSF_PROFILE),
                record,
                password_generation: FIRST_GENERATION,
            },
            identity,
            now,
            audit: self.audit("account_created", device),
        };
        self.store.register(ticket.tenant, registration).await?;
        Ok(Registered { uid })
    }

    /// Answers the first OPAQUE message under the newest setup, and seals what the second step will need.
    pub(super) fn start_record(
        &self,
        purpose: Purpose,
        tenant: Tenant,
        uuid: Uuid,
        invitation: Option<[u8; 32]>,
        name: Option<LoginName>,
        request: &[u8],
    ) -> Result<(Vec<u8>, [u8; opaque::REGISTRATION_RESPONSE_LENGTH])> {
        let (setup_id, setup) = self.setups.newest();
        let response = setup
            .registration_response(request, uuid.as_bytes())
            .map_err(|_| Refusal::invalid("request", "not an OPAQUE registration request of this suite"))?;
        let expires_at = self.edges.now_ms() + TOKEN_MS;
        let login_name = name.map(|name| name.as_str().to_owned()).unwrap_or_default();
        let ticket = Ticket { purpose, tenant, uuid, setup_id, expires_at, invitation, login_name };
        Ok((self.master.seal(KeyPurpose::RegistrationToken, &[], &ticket.to_bytes()), response))
    }

    /// Reads what [`Self::start_record`] sealed, if its time has not passed.
    pub(super) fn read_ticket(&self, sealed: &[u8], purpose: Purpose) -> Result<Ticket> {
        let ours = |problem| Refusal::invalid("reg_token", problem);
        let plain = self
            .master
            .open(KeyPurpose::RegistrationToken, &[], sealed)
            .map_err(|_| ours("not a token of this server"))?;
        let ticket = Ticket::parse(&plain).ok_or_else(|| ours("not a token of this server"))?;
        if ticket.purpose != purpose {
            return Err(ours("a token for another purpose"));
        }
        if ticket.expires_at <= self.edges.now_ms() {
            return Err(Refusal::SignInExpired);
        }
        Ok(ticket)
    }
}

/// Checks that an uploaded record is one.
pub(super) fn record(upload: &[u8]) -> Result<Vec<u8>> {
    let record = opaque::registration_record(upload);
    record.map(Vec::from).map_err(|_| Refusal::invalid("record", "not an OPAQUE record of this suite"))
}

impl Ticket {
    /// `purpose 1 | tenant 8 | uuid 16 | setup 4 | expiry 8 | invited 1 | invitation 32 | login name`
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![self.purpose as u8];
        bytes.extend_from_slice(&self.tenant.0.to_be_bytes());
        bytes.extend_from_slice(self.uuid.as_bytes());
        bytes.extend_from_slice(&self.setup_id.to_be_bytes());
        bytes.extend_from_slice(&self.expires_at.to_be_bytes());
        bytes.push(u8::from(self.invitation.is_some()));
        bytes.extend_from_slice(&self.invitation.unwrap_or_default());
        bytes.extend_from_slice(self.login_name.as_bytes());
        bytes
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (&[purpose], rest) = bytes.split_first_chunk()?;
        let (tenant, rest) = rest.split_first_chunk()?;
        let (uuid, rest) = rest.split_first_chunk()?;
        let (setup_id, rest) = rest.split_first_chunk()?;
        let (expires_at, rest) = rest.split_first_chunk()?;
        let (&[invited], rest) = rest.split_first_chunk()?;
        let (invitation, name) = rest.split_first_chunk::<32>()?;
        Some(Ticket {
            purpose: [Purpose::Register, Purpose::ChangePassword].into_iter().find(|it| *it as u8 == purpose)?,
            tenant: Tenant(i64::from_be_bytes(*tenant)),
            uuid: Uuid::from_bytes(*uuid),
            setup_id: i32::from_be_bytes(*setup_id),
            expires_at: i64::from_be_bytes(*expires_at),
            invitation: (invited == 1).then_some(*invitation),
            login_name: String::from_utf8(name.to_vec()).ok()?,
        })
    }
}
