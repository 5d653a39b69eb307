//! Refreshing: one token after another, each used once.
//!
//! The decision is a pure function of the session's row, the token that came and the time. A refresh token can be
//! recognised for ever without keeping it: its secret is made from the session's random seed and the generation, under
//! a key the database does not hold. So a used token that comes back is told from a forged one, and ends the session.

use super::sessions::must_stand;
use super::{Auth, Refusal, Result};
use crate::limits::{Action, Key, PlanFactor};
use crate::secrets::Purpose;
use crate::store::{EndSessions, SessionRow, Tenant};
use selkie_protocol::hash::{Label, sha256};
use selkie_protocol::id::SessionId;
use selkie_protocol::session::{REFRESH_PURPOSE, REFRESH_TOKEN_LENGTH, Refresh, RefreshTokenBytes, Tokens};
use std::net::IpAddr;
use subtle::ConstantTimeEq as _;

/// A refresh token, taken apart: `tenant i64 | session 16 | generation u32 | secret 32`.
pub(super) struct RefreshToken {
    pub(super) tenant: Tenant,
    pub(super) session: SessionId,
    pub(super) generation: u32,
    pub(super) secret: [u8; 32],
}

/// What to do about a token whose secret is right.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// It is the newest one: make the next.
    Rotate,
    /// It was used a moment ago and the answer may have been lost: give the same answer again.
    Repeat,
    /// It was used, long ago, but the one it was used for was not: only its device may ask again.
    RepeatForDevice,
    /// It was used long ago, so somebody has a copy: the session ends.
    Reused,
    /// It is of a generation the database does not know (restored from a backup): sign in again.
    FromAnotherTime,
}

pub(super) fn decide(generation_now: u32, rotated_at: i64, presented: u32, now: i64, grace_ms: i64) -> Decision {
    match generation_now.checked_sub(presented) {
        Some(0) => Decision::Rotate,
        Some(1) if now.saturating_sub(rotated_at) <= grace_ms => Decision::Repeat,
        Some(1) => Decision::RepeatForDevice,
        Some(_) => Decision::Reused,
        None => Decision::FromAnotherTime,
    }
}

impl Auth {
    /// `POST /v1/auth/refresh`
    pub async fn refresh(&self, from: IpAddr, request: Refresh) -> Result<Tokens> {
        self.count(Action::Refresh, &[Key::Address(from)])?;
        let token = RefreshToken::parse(&request.refresh_token);
        let row = self.store.session(token.tenant, token.session).await?.ok_or(Refusal::Unauthenticated)?;
        let secret = self.refresh_secret(&row, token.generation);
        if !bool::from(secret.ct_eq(&token.secret)) {
            return Err(Refusal::Unauthenticated);
        }
        // Only now is it known whose device it is; before, anybody could use up a device's allowance.
        if let Some(device) = row.device {
            let plan = PlanFactor::of_percent(row.limit_factor);
            self.count_in_plan(Action::Refresh, &[Key::Device(device)], plan)?;
        }
        let now = self.edges.now_ms();
        must_stand(&row, now)?;
        match decide(row.refresh_generation, row.rotated_at, token.generation, now, self.policy.refresh_grace_ms) {
            Decision::Rotate => self.rotate(&token, row, &request, now).await,
            Decision::Repeat => {
                self.verify_device_signed(&row, &request)?;
                self.tokens(token.tenant, &row)
            }
            Decision::RepeatForDevice if row.device.is_some() && self.verify_device_signed(&row, &request).is_ok() => {
                self.tokens(token.tenant, &row)
            }
            Decision::RepeatForDevice | Decision::Reused => {
                let ended = EndSessions::One(row.session);
                let audit = self.audit("refresh_token_reused", row.device);
                self.store.end_sessions(token.tenant, row.account, ended, now, audit).await?;
                tracing::warn!("a used refresh token came back: its session has ended");
                Err(Refusal::SessionEnded)
            }
            Decision::FromAnotherTime => Err(Refusal::SessionEnded),
        }
    }

    async fn rotate(&self, token: &RefreshToken, row: SessionRow, request: &Refresh, now: i64) -> Result<Tokens> {
        self.verify_device_signed(&row, request)?;
        let idle_until = self.life(row.device.is_some(), now).idle_expires_at.min(row.life.expires_at);
        let moved = self
            .store
            .rotate_session(token.tenant, row.account, token.session, token.generation, now, idle_until)
            .await?;
        // If not, another request with the same token was faster by a breath: its answer holds for this one, too.
        let row = self.store.session(token.tenant, token.session).await?.ok_or(Refusal::SessionEnded)?;
        must_stand(&row, now)?;
        if !moved && row.refresh_generation != token.generation + 1 {
            return Err(Refusal::SessionEnded);
        }
        self.tokens(token.tenant, &row)
    }

    fn verify_device_signed(&self, row: &SessionRow, request: &Refresh) -> Result<()> {
        let (Some(device), Some(key)) = (row.device, row.device_key) else {
            return if row.device.is_none() { Ok(()) } else { Err(Refusal::DeviceRevoked) };
        };
        let proof = request.device.as_ref().filter(|proof| proof.did == device);
        let proof = proof.ok_or_else(|| Refusal::invalid("device", "this session needs its device's signature"))?;
        self.verify_proof(&key, Label::REFRESH, proof, &[&sha256(&*request.refresh_token), REFRESH_PURPOSE])
    }

    /// The session's refresh token of its present generation.
    pub(super) fn refresh_token(&self, tenant: Tenant, row: &SessionRow) -> RefreshTokenBytes {
        let generation = row.refresh_generation;
        let secret = self.refresh_secret(row, generation);
        RefreshToken { tenant, session: row.session, generation, secret }.to_bytes()
    }

    fn refresh_secret(&self, row: &SessionRow, generation: u32) -> [u8; 32] {
        self.master.mac(Purpose::RefreshToken, &[row.session.as_bytes(), &generation.to_be_bytes(), &row.refresh_seed])
    }
}

impl RefreshToken {
    fn parse(bytes: &RefreshTokenBytes) -> Self {
        const FIXED: &str = "the length of the token is fixed";
        let (tenant, rest) = bytes.split_first_chunk().expect(FIXED);
        let (session, rest) = rest.split_first_chunk().expect(FIXED);
        let (generation, rest) = rest.split_first_chunk().expect(FIXED);
        RefreshToken {
            tenant: Tenant(i64::from_be_bytes(*tenant)),
            session: SessionId(*session),
            generation: u32::from_be_bytes(*generation),
            secret: rest.try_into().expect(FIXED),
        }
    }

    fn to_bytes(&self) -> RefreshTokenBytes {
        let mut bytes = [0; REFRESH_TOKEN_LENGTH];
        bytes[..8].copy_from_slice(&self.tenant.0.to_be_bytes());
        bytes[8..24].copy_from_slice(self.session.as_bytes());
        bytes[24..28].copy_from_slice(&self.generation.to_be_bytes());
        bytes[28..].copy_from_slice(&self.secret);
        RefreshTokenBytes::from(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_decision_table() {
        let grace = 20_000;
        for (now_generation, presented, age, decision) in [
            (1, 1, 0, Decision::Rotate),
            (1, 1, 1_000_000, Decision::Rotate),
            (2, 1, 0, Decision::Repeat),
            (2, 1, 20_000, Decision::Repeat),
            (2, 1, 20_001, Decision::RepeatForDevice),
            (3, 1, 0, Decision::Reused),
            (u32::MAX, 0, 0, Decision::Reused),
            (1, 2, 0, Decision::FromAnotherTime),
            (0, u32::MAX, 0, Decision::FromAnotherTime),
        ] {
            assert_eq!(
                decide(now_generation, 50, presented, 50 + age, grace),
                decision,
                "{now_generation} {presented}"
            );
        }
    }

    #[test]
    fn a_token_comes_apart_as_it_was_put_together() {
        let bytes: [u8; REFRESH_TOKEN_LENGTH] = std::array::from_fn(|i| i as u8);
        let token = RefreshToken::parse(&bytes.into());
        assert_eq!(token.tenant, Tenant(0x0001_0203_0405_0607));
        assert_eq!(token.generation, 0x1819_1a1b);
        assert_eq!(token.to_bytes().0, bytes);
    }
}
