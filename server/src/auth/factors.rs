//! Second factors: codes from an authenticator app (RFC 6238), and recovery codes for when it is gone.
//!
//! They stop who stole a password; they do not bind the server itself. A code is good for its thirty seconds and one
//! step to either side, once.

use super::sessions::Caller;
use super::{Auth, Refusal, Result};
use crate::limits::{Action, Key};
use crate::secrets::Purpose;
use crate::store::{AccountRow, FactorKind, FactorRow, Tenant};
use aws_lc_rs::hmac;
use selkie_protocol::Private;
use selkie_protocol::account::{TotpConfirm, TotpConfirmed, TotpStarted};
use selkie_protocol::hash::sha256;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

const SECRET_LENGTH: usize = 20;
const STEP_MS: i64 = 30_000;
const DIGITS: usize = 6;
const RECOVERY_CODES: usize = 10;
/// 80 bits.
const RECOVERY_CODE_CHARACTERS: usize = 16;
/// RFC 4648; authenticator apps read nothing else.
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

impl Auth {
    /// `POST /v1/account/totp/start`
    pub async fn totp_start(&self, caller: &Caller) -> Result<TotpStarted> {
        self.may_change_keys(caller)?;
        let row = self.store.account(caller.tenant, caller.account).await?;
        let secret = Zeroizing::new(self.edges.bytes::<SECRET_LENGTH>());
        let sealed = self.master.seal(Purpose::SecondFactor, &[caller.uuid.as_bytes()], &*secret);
        let now = self.edges.now_ms();
        self.store.begin_factor(caller.tenant, caller.account, FactorKind::Totp, sealed, now).await?;
        let secret = base32(&*secret, BASE32);
        let issuer = escaped(&self.policy.server_name);
        let name = escaped(&row.login_name);
        let uri = format!(
            "otpauth://totp/{issuer}:{name}?secret={secret}&issuer={issuer}&algorithm=SHA1&digits={DIGITS}&period=30"
        );
        Ok(TotpStarted { secret: secret.into(), uri: uri.into() })
    }

    /// `POST /v1/account/totp/confirm`
    pub async fn totp_confirm(&self, caller: &Caller, request: TotpConfirm) -> Result<TotpConfirmed> {
        self.may_change_keys(caller)?;
        let factors = self.store.factors(caller.tenant, caller.account).await?;
        let begun = factors.iter().find(|factor| factor.kind == FactorKind::Totp && !factor.confirmed);
        let begun = begun.ok_or(Refusal::Conflict("there is no authenticator waiting to be confirmed"))?;
        let step =
            self.matching_step(caller.uuid, begun, request.code.as_str())?.ok_or(Refusal::SecondFactorInvalid)?;
        let codes: Vec<String> = (0..RECOVERY_CODES).map(|_| self.recovery_code()).collect();
        let hashes = codes.iter().filter_map(|code| recovery_code_hash(code)).collect();
        let audit = self.audit("second_factor_added", caller.device);
        self.store.confirm_factor(caller.tenant, caller.account, begun.factor, step, hashes, audit).await?;
        Ok(TotpConfirmed { recovery_codes: codes.into_iter().map(Private).collect() })
    }

    /// `POST /v1/account/totp/remove`
    pub async fn totp_remove(&self, caller: &Caller) -> Result<()> {
        self.may_change_keys(caller)?;
        let audit = self.audit("second_factor_removed", caller.device);
        Ok(self.store.remove_factors(caller.tenant, caller.account, audit).await?)
    }

    /// Whether a code of six digits, or a recovery code, is right; it is used up then.
    pub(super) async fn second_factor_is_right(
        &self,
        tenant: Tenant,
        account: &AccountRow,
        code: &str,
    ) -> Result<bool> {
        self.count(Action::SecondFactor, &[Key::Account(account.uuid)])?;
        if let Some(hash) = recovery_code_hash(code) {
            let now = self.edges.now_ms();
            return Ok(self.store.use_recovery_code(tenant, account.account, hash, now).await?);
        }
        for factor in self.store.factors(tenant, account.account).await? {
            if factor.kind != FactorKind::Totp || !factor.confirmed {
                continue;
            }
            if let Some(step) = self.matching_step(account.uuid, &factor, code)? {
                return Ok(self.store.use_totp_step(tenant, account.account, factor.factor, step).await?);
            }
        }
        Ok(false)
    }

    /// The step whose code this is, of those that may be used now.
    fn matching_step(&self, uuid: uuid::Uuid, factor: &FactorRow, code: &str) -> Result<Option<i64>> {
        let secret = self.master.open(Purpose::SecondFactor, &[uuid.as_bytes()], &factor.sealed)?;
        let step = self.edges.now_ms().div_euclid(STEP_MS);
        let code: String = code.chars().filter(|c| *c != ' ').collect();
        let is_code_of = |step: &i64| bool::from(totp(&secret, *step).as_bytes().ct_eq(code.as_bytes()));
        Ok([step, step - 1, step + 1].into_iter().find(is_code_of))
    }

    fn recovery_code(&self) -> String {
        let characters = base32(&self.edges.bytes::<{ RECOVERY_CODE_CHARACTERS * 5 / 8 }>(), CROCKFORD);
        let groups: Vec<String> =
            characters.as_bytes().chunks(4).map(|group| String::from_utf8_lossy(group).into_owned()).collect();
        groups.join("-")
    }
}

/// RFC 4226 with the step as the counter.
fn totp(secret: &[u8], step: i64) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret);
    let tag = hmac::sign(&key, &step.to_be_bytes());
    let tag = tag.as_ref();
    let offset = usize::from(tag[tag.len() - 1] & 0x0f);
    let number = u32::from_be_bytes(std::array::from_fn(|i| tag[offset + i])) & 0x7fff_ffff;
    format!("{:06}", number % 1_000_000)
}

/// The code an authenticator app shows, from the text of its secret.
#[cfg(test)]
pub(super) fn code_at(secret: &str, step: i64) -> String {
    let (mut bytes, mut held, mut bits) = (Vec::new(), 0u32, 0);
    for character in secret.bytes() {
        let value = BASE32.iter().position(|c| *c == character).expect("base 32");
        held = (held << 5) | u32::try_from(value).expect("five bits");
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
        }
    }
    totp(&bytes, step)
}

/// The hash of a recovery code as somebody typed it; `None` if it is not one.
fn recovery_code_hash(typed: &str) -> Option<[u8; 32]> {
    let characters: String = typed
        .trim()
        .to_ascii_uppercase()
        .chars()
        .filter(|c| !matches!(c, '-' | ' '))
        .map(|c| match c {
            'O' => '0',
            'I' | 'L' => '1',
            other => other,
        })
        .collect();
    let valid = characters.len() == RECOVERY_CODE_CHARACTERS && characters.bytes().all(|c| CROCKFORD.contains(&c));
    valid.then(|| sha256(characters.as_bytes()))
}

fn base32(bytes: &[u8], alphabet: &[u8; 32]) -> String {
    let mut text = String::with_capacity((bytes.len() * 8).div_ceil(5));
    let (mut held, mut bits) = (0u32, 0);
    for byte in bytes {
        held = (held << 8) | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(char::from(alphabet[(held >> bits) as usize & 31]));
        }
    }
    if bits > 0 {
        text.push(char::from(alphabet[(held << (5 - bits)) as usize & 31]));
    }
    text
}

fn escaped(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_rfc_6238() {
        // The RFC prints eight digits; ours are the last six.
        for (seconds, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(totp(b"12345678901234567890", seconds / 30), code);
        }
    }

    #[test]
    fn base32_is_what_authenticator_apps_read() {
        assert_eq!(base32(b"foobar", BASE32), "MZXW6YTBOI");
        assert_eq!(base32(b"12345678901234567890", BASE32), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
    }

    #[test]
    fn a_recovery_code_is_known_again_and_six_digits_are_not_one() {
        assert_eq!(recovery_code_hash("abcd-efgh-jkmn-pqrs"), recovery_code_hash(" ABCDEFGHJKMNPQRS"));
        assert!(recovery_code_hash("abcd-efgh-jkmn-pqrs").is_some());
        assert_eq!(recovery_code_hash("123456"), None);
        assert_eq!(recovery_code_hash("ABCD-EFGH-JKMN-PQRU"), None);
    }
}
