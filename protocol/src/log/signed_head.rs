//! A head that the server signed: what it said of a vault, in a form that can be shown to others.
//!
//! Owns the layout, and when two of them prove that the server lied. Knows nothing of where the server's key is pinned,
//! and cannot sign.
//!
//! ```text
//! head := incarnation 16 | vid 32 | n u64 | h 32 | unix_ms u64 | SIGN(server's head key, "head", everything before) 64
//! ```
//!
//! The incarnation is in it because a server that was honestly restored from a backup may be behind what it said
//! before. Within one incarnation it may not.

use super::entry::Head;
use super::reader::{Malformed, Reader};
use crate::hash::Label;
use crate::id::{Incarnation, VaultId};
use crate::sign::{PublicKey, Signature};

pub const SIGNED_HEAD_LENGTH: usize = 16 + 32 + 8 + 32 + 8 + 64;

/// How far the clocks of an honest server may be apart: several processes sign for one log, each by its own machine's
/// clock, which somebody sets right now and then; and an answer may be signed some time after it was looked up.
pub const CLOCKS_MS: u64 = 10 * 60 * 1000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedHead {
    pub incarnation: Incarnation,
    pub vault: VaultId,
    pub head: Head,
    pub unix_ms: u64,
    pub signature: Signature,
}

impl SignedHead {
    pub fn parse(bytes: &[u8]) -> Result<SignedHead, Malformed> {
        let mut reader = Reader::new(bytes);
        let (incarnation, vault) = (Incarnation(reader.array()?), VaultId(reader.array()?));
        let head = Head { n: reader.u64()?, h: reader.array()? };
        let (unix_ms, signature) = (reader.u64()?, Signature(reader.array()?));
        reader.end()?;
        Ok(SignedHead { incarnation, vault, head, unix_ms, signature })
    }

    /// What the server signs under the label `head`.
    pub fn signed_bytes(incarnation: &Incarnation, vault: &VaultId, head: &Head, unix_ms: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(SIGNED_HEAD_LENGTH);
        out.extend_from_slice(incarnation.as_bytes());
        out.extend_from_slice(vault.as_bytes());
        out.extend_from_slice(&head.n.to_be_bytes());
        out.extend_from_slice(&head.h);
        out.extend_from_slice(&unix_ms.to_be_bytes());
        out
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Self::signed_bytes(&self.incarnation, &self.vault, &self.head, self.unix_ms);
        out.extend_from_slice(&self.signature.0);
        out
    }

    pub fn is_signed_by(&self, server: &PublicKey) -> bool {
        let signed = Self::signed_bytes(&self.incarnation, &self.vault, &self.head, self.unix_ms);
        server.verify(Label::HEAD, &[&signed], &self.signature)
    }

    /// Whether two heads, both signed by one server, prove that it misbehaved: two values for one position, or a
    /// position given up, by more than clocks explain.
    pub fn contradicts(&self, other: &SignedHead) -> bool {
        let comparable = self.vault == other.vault && self.incarnation == other.incarnation;
        let two_values = self.head.n == other.head.n && self.head.h != other.head.h;
        let given_up = |before: &SignedHead, after: &SignedHead| {
            before.unix_ms.saturating_add(CLOCKS_MS) < after.unix_ms && before.head.n > after.head.n
        };
        comparable && (two_values || given_up(self, other) || given_up(other, self))
    }
}
