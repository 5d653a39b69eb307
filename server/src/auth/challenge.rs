//! Fresh bytes for a device to sign, without keeping any.
//!
//! A challenge is a time, random bytes and our own mark on both: we know it again, and we know its age. Where a thing
//! must happen only once, that is held elsewhere (a refresh token has its generation).

use super::{Auth, Refusal, Result};
use crate::limits::{Action, Key};
use crate::secrets::Purpose;
use selkie_protocol::hash::Label;
use selkie_protocol::session::{Challenge, DeviceProof};
use selkie_protocol::sign::{PublicKey, Signature};
use std::net::IpAddr;

const RANDOM: usize = 16;
const LENGTH: usize = 8 + RANDOM + 32;

impl Auth {
    /// `POST /v1/auth/challenge`
    pub fn challenge(&self, from: IpAddr) -> Result<Challenge> {
        self.count(Action::Challenge, &[Key::Address(from)])?;
        let made_at = self.edges.now_ms().to_be_bytes();
        let random: [u8; RANDOM] = self.edges.bytes();
        let mac = self.master.mac(Purpose::Challenge, &[&made_at, &random]);
        let challenge = [&made_at[..], &random, &mac].concat();
        Ok(Challenge { challenge: challenge.into(), expires_in: self.policy.challenge_ms.unsigned_abs() / 1000 })
    }

    /// Checks that a device signed a challenge of ours, just now, for this purpose.
    pub(super) fn verify_proof(&self, key: &[u8; 32], label: Label, proof: &DeviceProof, rest: &[&[u8]]) -> Result<()> {
        if !self.is_our_fresh_challenge(&proof.challenge) {
            return Err(Refusal::invalid("device.challenge", "not a challenge of this server, or too old"));
        }
        let parts: Vec<&[u8]> = std::iter::once(&*proof.challenge as &[u8]).chain(rest.iter().copied()).collect();
        if PublicKey(*key).verify(label, &parts, &Signature(proof.signature.0)) {
            Ok(())
        } else {
            Err(Refusal::invalid("device.signature", "not a signature of this device over this request"))
        }
    }

    fn is_our_fresh_challenge(&self, challenge: &[u8]) -> bool {
        let Ok(challenge) = <&[u8; LENGTH]>::try_from(challenge) else {
            return false;
        };
        let (made_at, rest) = challenge.split_first_chunk::<8>().expect("the length was checked");
        let (random, mac) = rest.split_first_chunk::<RANDOM>().expect("the length was checked");
        let age = self.edges.now_ms().saturating_sub(i64::from_be_bytes(*made_at));
        // Another server of the same deployment may be a little ahead.
        self.master.mac_matches(Purpose::Challenge, &[made_at, random], mac)
            && (-5_000..=self.policy.challenge_ms).contains(&age)
    }
}
