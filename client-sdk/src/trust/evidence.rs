//! What is written down when a server was caught.
//!
//! Owns the form of the record: what this device had, what it was shown, both as signed bytes that anybody can check.
//! It holds public things only: no keybag, no token, no key.

use crate::error::Misbehaviour;
use selkie_protocol::account_log::AccountLog;
use selkie_protocol::id::{UserId, VaultId};
use selkie_protocol::vault::SignedHeadBytes;
use selkie_protocol::{Bytes, Face, Fixed};
use serde::Serialize;

/// One contradiction, as it was seen.
#[derive(Debug, Serialize)]
pub(crate) struct Evidence<'a> {
    pub(crate) kind: Misbehaviour,
    /// By this device's clock.
    pub(crate) seen_at_ms: u64,
    pub(crate) server_name: &'a str,
    pub(crate) uid: Option<UserId>,
    /// Where this device's own copy of the log ended.
    pub(crate) our_length: u64,
    /// The account log as this device had it.
    pub(crate) ours: &'a [Bytes],
    /// The account log as it was served.
    pub(crate) served: &'a [Bytes],
    /// The index of the first entry that was served.
    pub(crate) served_from: u64,
}

impl<'a> Evidence<'a> {
    pub(crate) fn new(kind: Misbehaviour, seen_at_ms: u64, server_name: &'a str) -> Self {
        let (ours, served): (&[Bytes], &[Bytes]) = (&[], &[]);
        Evidence { kind, seen_at_ms, server_name, uid: None, our_length: 0, ours, served, served_from: 0 }
    }

    pub(crate) fn ours(mut self, log: Option<&AccountLog>, entries: &'a [Bytes]) -> Self {
        self.uid = log.map(AccountLog::user);
        self.our_length = log.map_or(0, AccountLog::next_index);
        self.ours = entries;
        self
    }

    pub(crate) fn served(mut self, from: u64, entries: &'a [Bytes]) -> Self {
        (self.served_from, self.served) = (from, entries);
        self
    }

    /// JSON, for people and for tools.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        Face::Json.encode(self)
    }

    /// Files sort by time; the kind says what is inside.
    pub(crate) fn file_name(&self) -> String {
        let kind = serde_json::to_value(self.kind).ok().and_then(|kind| kind.as_str().map(str::to_owned));
        format!("evidence-{}-{}.json", self.seen_at_ms, kind.unwrap_or_default())
    }
}

/// One contradiction about a vault. Everything in it is signed by somebody else than this device, and nothing in it is
/// open: frames are as they travel.
#[derive(Debug, Serialize)]
pub(crate) struct VaultEvidence<'a> {
    pub(crate) kind: Misbehaviour,
    pub(crate) seen_at_ms: u64,
    pub(crate) server_name: &'a str,
    pub(crate) vid: VaultId,
    pub(crate) expected: &'a str,
    pub(crate) found: &'a str,
    /// Where this device's log stood, and the chain value there.
    pub(crate) our_n: u64,
    pub(crate) our_h: Fixed<32>,
    /// The key the server signs heads with, as it was pinned.
    pub(crate) head_key: Option<Fixed<32>>,
    /// Heads the server signed: the last ones known, and those that contradict them.
    pub(crate) heads: Vec<SignedHeadBytes>,
    /// The last frames of this device's log.
    pub(crate) ours: Vec<Bytes>,
    /// The frames that were served after it.
    pub(crate) served: &'a [Bytes],
}

impl VaultEvidence<'_> {
    /// JSON, for people and for tools.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        Face::Json.encode(self)
    }

    pub(crate) fn file_name(&self) -> String {
        let kind = serde_json::to_value(self.kind).ok().and_then(|kind| kind.as_str().map(str::to_owned));
        format!("evidence-{}-{}.json", self.seen_at_ms, kind.unwrap_or_default())
    }
}
