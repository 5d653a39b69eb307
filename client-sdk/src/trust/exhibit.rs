//! Files that can be handed to somebody else: what was seen when a server was caught, and the log of a vault.
//!
//! Owns their form. They hold public things only, as they travel: no keybag, no token, no key, nothing open. What a
//! file proves to somebody who was not there is decided in `verdict`.

use crate::error::Misbehaviour;
use selkie_protocol::account_log::AccountLog;
use selkie_protocol::id::{UserId, VaultId};
use selkie_protocol::vault::SignedHeadBytes;
use selkie_protocol::{Bytes, Face, Fixed};
use serde::{Deserialize, Serialize};

/// The only version there is.
pub(crate) const VERSION: u32 = 1;

/// A file, by what is in it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "selkie", rename_all = "kebab-case")]
pub(crate) enum Exhibit {
    AccountEvidence(Evidence),
    VaultEvidence(VaultEvidence),
    VaultLog(LogExport),
}

impl Exhibit {
    /// JSON, for people and for tools.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        Face::Json.encode(self)
    }

    /// Files sort by time; the kind says what is inside.
    pub(crate) fn file_name(&self) -> String {
        let (kind, at_ms) = match self {
            Exhibit::AccountEvidence(evidence) => (evidence.kind, evidence.seen_at_ms),
            Exhibit::VaultEvidence(evidence) => (evidence.kind, evidence.seen_at_ms),
            Exhibit::VaultLog(log) => return format!("log-{}.json", log.vid),
        };
        let kind = serde_json::to_value(kind).ok().and_then(|kind| kind.as_str().map(str::to_owned));
        format!("evidence-{at_ms}-{}.json", kind.unwrap_or_default())
    }
}

/// One contradiction about an account, as it was seen.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Evidence {
    version: u32,
    pub(crate) kind: Misbehaviour,
    /// By this device's clock.
    pub(crate) seen_at_ms: u64,
    pub(crate) server_name: String,
    pub(crate) uid: Option<UserId>,
    /// Where this device's own copy of the log ended.
    pub(crate) our_length: u64,
    /// The account log as this device had it.
    pub(crate) ours: Vec<Bytes>,
    /// The account log as it was served.
    pub(crate) served: Vec<Bytes>,
    /// The index of the first entry that was served.
    pub(crate) served_from: u64,
}

impl Evidence {
    pub(crate) fn new(kind: Misbehaviour, seen_at_ms: u64, server_name: &str) -> Self {
        Evidence {
            version: VERSION,
            kind,
            seen_at_ms,
            server_name: server_name.to_owned(),
            uid: None,
            our_length: 0,
            ours: Vec::new(),
            served: Vec::new(),
            served_from: 0,
        }
    }

    pub(crate) fn ours(mut self, log: Option<&AccountLog>, entries: &[Bytes]) -> Self {
        self.uid = log.map(AccountLog::user);
        self.our_length = log.map_or(0, AccountLog::next_index);
        self.ours = entries.to_vec();
        self
    }

    pub(crate) fn served(mut self, from: u64, entries: &[Bytes]) -> Self {
        (self.served_from, self.served) = (from, entries.to_vec());
        self
    }

    pub(crate) fn version(&self) -> u32 {
        self.version
    }
}

/// One contradiction about a vault. Frames are as they travel; those of this device are without what is beside them.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct VaultEvidence {
    pub(crate) version: u32,
    pub(crate) kind: Misbehaviour,
    /// By this device's clock.
    pub(crate) seen_at_ms: u64,
    pub(crate) server_name: String,
    pub(crate) vid: VaultId,
    pub(crate) expected: String,
    pub(crate) found: String,
    /// The key the server signs heads with, as it was pinned.
    pub(crate) head_key: Option<Fixed<32>>,
    /// Heads the server signed: the last ones known, and those that contradict them.
    pub(crate) heads: Vec<SignedHeadBytes>,
    /// A position this device had verified and the chain value there; its frames follow.
    pub(crate) base_n: u64,
    pub(crate) base_h: Fixed<32>,
    pub(crate) ours: Vec<Bytes>,
    /// The frames that were served, and the position they were to follow.
    pub(crate) served_after: u64,
    pub(crate) served: Vec<Bytes>,
    /// The entry that the server had acknowledged, and where.
    pub(crate) acknowledged: Option<Acknowledged>,
    /// Account logs of those who wrote the entries.
    pub(crate) people: Vec<Vec<Bytes>>,
}

/// An entry and where the server said that it stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Acknowledged {
    pub(crate) n: u64,
    pub(crate) entry: Bytes,
}

/// The log of a vault from its first entry on, without the payloads.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogExport {
    pub(crate) version: u32,
    pub(crate) server_name: String,
    pub(crate) vid: VaultId,
    pub(crate) head_key: Option<Fixed<32>>,
    /// The newest head the server has signed of it.
    pub(crate) heads: Vec<SignedHeadBytes>,
    pub(crate) frames: Vec<Bytes>,
    pub(crate) people: Vec<Vec<Bytes>>,
}
