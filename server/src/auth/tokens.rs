//! Access tokens: signed, short-lived, and believed only as far as the store agrees.
//!
//! Owns the claims, the signing keys and their turning. The key is always chosen from our own table by the token's
//! `kid`; neither key nor algorithm is ever taken from the token. Knows nothing of refresh tokens.

use super::{Auth, Refusal, Result};
use crate::edges::Edges;
use crate::secrets::{MasterKey, Purpose};
use crate::store::{Scope, SealedKey, SessionRow, Store, Tenant};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use selkie_protocol::hash::sha256;
use selkie_protocol::id::{DeviceId, SessionId};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, RwLock};
use zeroize::Zeroizing;

const TYPE: &str = "at+jwt";
const AUDIENCE: &str = "selkie/v1";
/// Servers of one deployment may disagree about the time by this much.
const LEEWAY_S: i64 = 5;
/// A new key is not used until every server of the deployment must have seen it.
const ACTIVATION_MS: i64 = 10 * 60_000;
/// An unknown `kid` makes us look again, at most this often.
const RELOAD_MS: i64 = 5_000;

/// PKCS #8, version 1, of an Ed25519 key: everything before the seed.
pub(super) const PKCS8_PREFIX: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

/// Some fifty thousand tokens that were verified, and what one takes. Devices ask in turn: what does not hold all that
/// are at work holds none of them when it is asked again.
pub(super) const VERIFIED_ROOM: usize = 32 << 20;
const VERIFIED_WEIGHT: usize = 640;

/// What an access token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claims {
    pub(super) iss: String,
    pub(super) aud: String,
    /// The account's uuid.
    pub(super) sub: String,
    pub(super) tid: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) did: Option<DeviceId>,
    pub(super) sid: SessionId,
    pub(super) scope: Scope,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) app: Option<String>,
    pub(super) auth_time: i64,
    pub(super) iat: i64,
    pub(super) nbf: i64,
    pub(super) exp: i64,
    pub(super) jti: String,
}

/// The keys access tokens are signed with, as this server last read them.
pub(super) struct SigningKeys {
    keys: RwLock<Vec<Arc<SigningKey>>>,
    looked_at: Mutex<i64>,
}

struct SigningKey {
    id: i32,
    created_at: i64,
    signs: EncodingKey,
    verifies: DecodingKey,
}

impl SigningKeys {
    pub(super) async fn open(store: &dyn Store, edges: &Edges, master: &MasterKey) -> Result<Self> {
        let mut rows = store.signing_keys().await?;
        if rows.is_empty() {
            rows = store.add_signing_key(fresh_key(1, edges, master), i64::MIN).await?;
        }
        let opened = opened(&rows, master)?;
        Ok(SigningKeys { keys: RwLock::new(opened), looked_at: Mutex::new(edges.now_ms()) })
    }

    /// The newest key that every server must have seen by now; the only one, if there is just one.
    fn current(&self, now: i64) -> Arc<SigningKey> {
        let keys = self.keys.read().expect("no holder of this lock panics");
        let seen = keys.iter().rev().find(|key| key.created_at + ACTIVATION_MS <= now);
        Arc::clone(seen.or(keys.first()).expect("a server makes a key before it opens"))
    }

    fn known(&self, kid: &str) -> Option<Arc<SigningKey>> {
        let keys = self.keys.read().expect("no holder of this lock panics");
        keys.iter().find(|key| key.id.to_string() == kid).cloned()
    }

    fn replace(&self, keys: Vec<Arc<SigningKey>>) {
        *self.keys.write().expect("no holder of this lock panics") = keys;
    }

    fn may_look_again(&self, now: i64) -> bool {
        let mut looked_at = self.looked_at.lock().expect("no holder of this lock panics");
        let may = now.saturating_sub(*looked_at) >= RELOAD_MS;
        if may {
            *looked_at = now;
        }
        may
    }
}

impl Auth {
    /// Signs an access token for a session.
    pub(super) fn access_token(&self, tenant: Tenant, session: &SessionRow) -> Result<String> {
        let now_ms = self.edges.now_ms();
        let now = now_ms / 1000;
        let claims = Claims {
            iss: self.policy.server_name.clone(),
            aud: AUDIENCE.into(),
            sub: session.account_uuid.to_string(),
            tid: tenant.0,
            did: session.device,
            sid: session.session,
            scope: session.scope,
            app: session.app.clone(),
            auth_time: session.auth_time / 1000,
            iat: now,
            nbf: now,
            exp: now + self.policy.access_token_ms / 1000,
            jti: selkie_protocol::bytes::to_base64url(&self.edges.bytes::<16>()),
        };
        let key = self.signing.current(now_ms);
        let header = Header { typ: Some(TYPE.into()), kid: Some(key.id.to_string()), ..Header::new(Algorithm::EdDSA) };
        jsonwebtoken::encode(&header, &claims, &key.signs).map_err(|_| Refusal::broken("a token cannot be signed"))
    }

    /// What a token claims, from memory if it was verified before: the hour is asked each time.
    pub(super) async fn verified_claims(&self, token: &str) -> Result<Arc<Claims>> {
        let digest = sha256(token.as_bytes());
        if let Some(claims) = self.tokens.get(&digest) {
            is_of_this_hour(&claims, self.edges.now_ms() / 1000)?;
            return Ok(claims);
        }
        let claims = Arc::new(self.verify_access_token(token).await?);
        self.tokens.put(digest, claims.clone(), VERIFIED_WEIGHT);
        Ok(claims)
    }

    /// Says what a token claims, if it is one of ours and of this hour.
    pub(super) async fn verify_access_token(&self, token: &str) -> Result<Claims> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| Refusal::Unauthenticated)?;
        if header.typ.as_deref() != Some(TYPE) {
            return Err(Refusal::Unauthenticated);
        }
        let kid = header.kid.as_deref().ok_or(Refusal::Unauthenticated)?;
        let key = match self.signing.known(kid) {
            Some(key) => key,
            None => self.signing_key_of_another_server(kid).await?,
        };
        let claims = jsonwebtoken::decode::<Claims>(token, &key.verifies, &validation(&self.policy.server_name))
            .map_err(|_| Refusal::Unauthenticated)?
            .claims;
        is_of_this_hour(&claims, self.edges.now_ms() / 1000)?;
        Ok(claims)
    }

    async fn signing_key_of_another_server(&self, kid: &str) -> Result<Arc<SigningKey>> {
        if self.signing.may_look_again(self.edges.now_ms()) {
            self.signing.replace(opened(&self.store.signing_keys().await?, &self.master)?);
        }
        self.signing.known(kid).ok_or(Refusal::Unauthenticated)
    }

    /// Makes the next signing key when its time has come, and reads those that other servers made. True if it made one.
    pub async fn turn_signing_keys(&self) -> Result<bool> {
        let now = self.edges.now_ms();
        let rows = self.store.signing_keys().await?;
        let newest = rows.last().ok_or_else(|| Refusal::broken("the database lost its signing keys"))?;
        let due = newest.created_at + self.policy.signing_key_rotation_ms <= now;
        let rows = if due {
            // What the newest one replaced has verified nothing for weeks.
            let next = fresh_key(newest.id.saturating_add(1), &self.edges, &self.master);
            self.store.add_signing_key(next, newest.created_at).await?
        } else {
            rows
        };
        self.signing.replace(opened(&rows, &self.master)?);
        Ok(due)
    }
}

/// For tests that forge.
#[cfg(test)]
impl Auth {
    pub(super) fn sign_anything(&self, typ: &str, kid: &str, claims: &serde_json::Value) -> String {
        let header = Header { typ: Some(typ.into()), kid: Some(kid.into()), ..Header::new(Algorithm::EdDSA) };
        jsonwebtoken::encode(&header, claims, &self.signing.current(self.edges.now_ms()).signs).unwrap()
    }

    pub(super) fn public_signing_key(&self) -> Vec<u8> {
        let key = self.signing.current(self.edges.now_ms());
        let pair = aws_lc_rs::signature::Ed25519KeyPair::from_pkcs8(key.signs.as_bytes()).unwrap();
        aws_lc_rs::signature::KeyPair::public_key(&pair).as_ref().to_vec()
    }
}

/// The library reads the machine's clock, which is not ours: times are checked by [`is_of_this_hour`].
fn validation(issuer: &str) -> Validation {
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.set_audience(&[AUDIENCE]);
    validation.set_issuer(&[issuer]);
    validation.set_required_spec_claims(&["exp", "nbf", "aud", "iss", "sub"]);
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation
}

fn is_of_this_hour(claims: &Claims, now: i64) -> Result<()> {
    if claims.exp.saturating_add(LEEWAY_S) <= now {
        return Err(Refusal::TokenExpired);
    }
    if claims.nbf.saturating_sub(LEEWAY_S) > now || claims.exp < claims.nbf {
        return Err(Refusal::Unauthenticated);
    }
    Ok(())
}

fn fresh_key(id: i32, edges: &Edges, master: &MasterKey) -> SealedKey {
    let seed = Zeroizing::new(edges.bytes::<32>());
    let sealed = master.seal(Purpose::SigningKey, &[&id.to_be_bytes()], &*seed);
    SealedKey { id, sealed, created_at: edges.now_ms() }
}

fn opened(rows: &[SealedKey], master: &MasterKey) -> Result<Vec<Arc<SigningKey>>> {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
    let mut opened = Vec::new();
    for row in rows {
        let seed = master.open(Purpose::SigningKey, &[&row.id.to_be_bytes()], &row.sealed)?;
        let pair =
            Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| Refusal::broken("a signing key is damaged"))?;
        let pkcs8 = Zeroizing::new([&PKCS8_PREFIX[..], &seed].concat());
        opened.push(Arc::new(SigningKey {
            id: row.id,
            created_at: row.created_at,
            signs: EncodingKey::from_ed_der(&pkcs8),
            verifies: DecodingKey::from_ed_der(pair.public_key().as_ref()),
        }));
    }
    if opened.is_empty() { Err(Refusal::broken("the database lost its signing keys")) } else { Ok(opened) }
}
