//! DECIDES who you are: registration, sign-in, sessions, devices, recovery, second factors, deletion.
//!
//! Owns every rule of sections 5 to 8 of the protocol that a server can hold. Knows nothing of HTTP and nothing of a
//! database: requests come in as protocol messages, what is to be remembered goes out through the store's traits, the
//! clock and the dice are handed in.
//!
//! | module | what it decides |
//! |---|---|
//! | [`registration`], [`invitations`] | who may make an account, and how it begins |
//! | [`login`], [`recovery`], [`links`] | the three ways in |
//! | [`tokens`], [`sessions`], [`refresh`], `kept` | staying in, and getting out |
//! | [`account`], [`devices`], [`password`] | what an account may change about itself |
//! | [`factors`], [`deletion`] | second factors; the end |
//! | [`challenge`], [`setup`] | what the server itself holds secret |

pub mod account;
pub mod challenge;
pub mod deletion;
pub mod devices;
pub mod factors;
pub mod invitations;
mod kept;
pub mod links;
pub mod login;
pub mod password;
pub mod recovery;
pub mod refresh;
mod refusal;
pub mod registration;
mod restored;
pub mod sessions;
pub mod setup;
#[cfg(test)]
mod tests;
pub mod tokens;

pub use refusal::{Refusal, Result};

use crate::edges::Edges;
use crate::limits::{Action, Key, Limits, PlanFactor};
use crate::notices::Notices;
use crate::secrets::{MasterKey, Purpose};
use crate::shelf::Shelf;
use crate::store::{AccountNumber, NewAudit, Store, Tenant, TenantRow};
use crate::tenancy::Slug;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use kept::Kept;
use selkie_protocol::id::DeviceId;
use selkie_protocol::name::LoginName;
use selkie_protocol::version::RegistrationPolicy;
use selkie_protocol::{Bytes, Private};
use setup::Setups;
use std::sync::Arc;
use tokens::{Claims, SigningKeys};

pub use sessions::Caller;

/// The slug of the tenant that requests mean when they name none.
pub const DEFAULT_TENANT: &str = "home";

/// What the people who run the server decided.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Part of what every password is bound to.
    pub server_name: String,
    pub registration: RegistrationPolicy,
    pub access_token_ms: i64,
    pub refresh_grace_ms: i64,
    /// A session of a certified device ends when it was not used for so long,
    pub idle_ms: i64,
    /// and in any case after so long.
    pub absolute_ms: i64,
    pub without_device_ms: i64,
    pub recent_sign_in_ms: i64,
    pub login_state_ms: i64,
    pub challenge_ms: i64,
    pub signing_key_rotation_ms: i64,
    pub deletion_grace_ms: i64,
}

impl Policy {
    /// The defaults of a server of this name.
    pub fn of(server_name: &str) -> Self {
        const MINUTE: i64 = 60_000;
        const DAY: i64 = 24 * 60 * MINUTE;
        Policy {
            server_name: server_name.to_lowercase(),
            registration: RegistrationPolicy::Invite,
            access_token_ms: 15 * MINUTE,
            refresh_grace_ms: 20_000,
            idle_ms: 90 * DAY,
            absolute_ms: 365 * DAY,
            without_device_ms: 7 * DAY,
            recent_sign_in_ms: 5 * MINUTE,
            login_state_ms: MINUTE,
            challenge_ms: 5 * MINUTE,
            signing_key_rotation_ms: 30 * DAY,
            deletion_grace_ms: 7 * DAY,
        }
    }
}

/// The doors of the server.
pub struct Auth {
    store: Kept,
    edges: Edges,
    policy: Policy,
    master: Arc<MasterKey>,
    limits: Arc<Limits>,
    setups: Setups,
    signing: SigningKeys,
    /// Access tokens that were verified, by their hash.
    tokens: Shelf<[u8; 32], Arc<Claims>>,
    /// The public key of nobody: a signature is checked under it where there is no key, so that it takes its time.
    nobody: [u8; 32],
    /// When the database was last restored from a backup.
    restored_at: Option<i64>,
}

impl Auth {
    /// Opens the doors: reads the server's sealed keys, and makes them where the database has none.
    pub async fn open(
        store: Arc<dyn Store>,
        edges: Edges,
        policy: Policy,
        master: Arc<MasterKey>,
        limits: Arc<Limits>,
    ) -> Result<Self> {
        let setups = Setups::open(&*store, &edges, &master).await?;
        let signing = SigningKeys::open(&*store, &edges, &master).await?;
        let nobody = key_of_nobody(&master)?;
        let (store, tokens) = (Kept::new(store), Shelf::new(tokens::VERIFIED_ROOM));
        Ok(Auth { store, edges, policy, master, limits, setups, signing, tokens, nobody, restored_at: None })
    }

    /// Keeps sessions in memory. Only where no other process changes them but the commands of the operator, which leave
    /// word.
    #[must_use]
    pub fn alone(mut self, notices: Notices) -> Self {
        self.store.remember(notices);
        self
    }

    /// Keeps sessions in memory as long as the database says that nothing has changed in it: for where other servers
    /// change them, too. On the runtime of whoever calls it.
    #[must_use]
    pub fn among_others(mut self) -> Self {
        self.store.remember_among_others();
        self
    }

    /// When the database was restored from a backup: what it lost is put back for some time after.
    #[must_use]
    pub fn restored_at(mut self, restored_at: Option<i64>) -> Self {
        self.restored_at = restored_at;
        self
    }

    /// Has something done whenever the sessions of an account may have changed.
    #[must_use]
    pub fn on_change(mut self, then: impl Fn(Tenant, AccountNumber) + Send + Sync + 'static) -> Self {
        self.store.on_change(Box::new(then));
        self
    }

    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Whether what this server remembers can be read now.
    pub async fn store_answers(&self) -> Result<()> {
        Ok(self.store.ping().await?)
    }

    /// The tenant a request means that comes before sign-in.
    async fn tenant(&self, slug: Option<&str>) -> Result<TenantRow> {
        // What cannot be a slug is no tenant's: a database need not be asked about bytes it may not even take.
        let slug = Slug::new(slug.unwrap_or(DEFAULT_TENANT)).map_err(|_| Refusal::NotFound("tenant"))?;
        self.store.tenant_by_slug(slug.as_str()).await?.ok_or(Refusal::NotFound("tenant"))
    }

    fn audit(&self, action: &'static str, device: Option<DeviceId>) -> NewAudit {
        NewAudit { at: self.edges.now_ms(), action, device, detail: None }
    }

    /// For those whom nobody knows yet, and for what protects from guessing: no plan allows more of that.
    fn count(&self, action: Action, keys: &[Key<'_>]) -> Result<()> {
        self.count_in_plan(action, keys, PlanFactor::ONE)
    }

    fn count_in_plan(&self, action: Action, keys: &[Key<'_>], plan: PlanFactor) -> Result<()> {
        match self.limits.check(action, keys, plan) {
            Ok(_) => Ok(()),
            Err(refused) => {
                refused.note();
                Err(Refusal::TooMany(refused))
            }
        }
    }
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Auth").field("policy", &self.policy).finish_non_exhaustive()
    }
}

fn login_name(text: &Private) -> Result<LoginName> {
    LoginName::new(text.as_str()).map_err(|problem| Refusal::invalid("login_name", problem.to_string()))
}

/// A real key, made from the master key: zeros are no point of the curve and would be refused without any work.
fn key_of_nobody(master: &MasterKey) -> Result<[u8; 32]> {
    let seed = master.mac(Purpose::Enumeration, &[b"key"]);
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| Refusal::broken("no key from a seed"))?;
    pair.public_key().as_ref().try_into().map_err(|_| Refusal::broken("a public key of another length"))
}

fn plain(entries: &[Bytes]) -> Vec<Vec<u8>> {
    entries.iter().map(|entry| entry.0.clone()).collect()
}

#[cfg(test)]
mod stand_in {
    use super::*;
    use crate::testing::House;
    use selkie_protocol::hash::Label;
    use selkie_protocol::sign::{PublicKey, Signature};

    /// Only a key that can verify something makes a check take as long as that of a real one.
    #[tokio::test(flavor = "multi_thread")]
    async fn nobodys_key_verifies_what_nobody_signs() {
        let house = House::open().await;
        let auth = house.auth();
        let seed = auth.master.mac(Purpose::Enumeration, &[b"key"]);
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
        let signed = pair.sign(&selkie_protocol::hash::hash(Label::RECOVERY_LOGIN, &[b"x"]));
        let signature = Signature(signed.as_ref().try_into().unwrap());
        assert!(PublicKey(auth.nobody).verify(Label::RECOVERY_LOGIN, &[b"x"], &signature));
    }
}
