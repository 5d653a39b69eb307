//! One vault as this device holds it in memory, and how that is written down.
//!
//! Owns the state beside the log: promises, the server's last word, what is in flight. Knows nothing of the network and
//! changes nothing by itself.

use crate::error::{Error, Quarantine, Result};
use crate::keys::vault::{AtRest, BackLinks, Keyring};
use crate::store::vaults::{Begun, Fresh, KeptVault, Settlement};
use crate::sync::settle::Outcome;
use selkie_protocol::cipher::EpochKey;
use selkie_protocol::id::{ChangeId, DeviceId, Incarnation, RecordId, UserId, VaultId};
use selkie_protocol::log::{
    Core, Head, LiveChange, LiveSet, Promises, Record, Role, SignedHead, Trail, Trust, VaultLog,
};
use selkie_protocol::vault::{SignedHeadBytes, Wrap};
use selkie_protocol::{Bytes, Face};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Who writes from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Me {
    pub(crate) user: UserId,
    pub(crate) device: DeviceId,
}

/// A vault in memory. Taken out of its place while somebody works with it; if they do not come back, it is read again.
#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) revision: u64,
    pub(crate) log: VaultLog,
    pub(crate) keys: Keyring,
    pub(crate) state: State,
    pub(crate) in_flight: Option<InFlight>,
    /// The key of the epoch that the frame in flight begins.
    pub(crate) coming: Option<EpochKey>,
    /// What was set aside was tried again since this was read.
    pub(crate) tried_aside: bool,
}

/// What is kept beside the log itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    version: u32,
    core: Bytes,
    /// The server has taken the first entry, or it came from there.
    pub(crate) born: bool,
    pub(crate) promises: Promises,
    /// The life of the server in which its heads were last compared with ours.
    pub(crate) incarnation: Option<Incarnation>,
    /// The newest head the server signed that our log has reached, and the newest beyond it.
    pub(crate) reached: Option<SignedHeadBytes>,
    pub(crate) claimed: Option<SignedHeadBytes>,
    /// The first it signed in this life.
    #[serde(default)]
    pub(crate) first_in_life: Option<SignedHeadBytes>,
    pub(crate) links: BackLinks,
    /// Live changes whose payloads have not come.
    pub(crate) missing: BTreeSet<(RecordId, ChangeId)>,
    /// Some of them did not come in an earlier life of the server: in this one it may have them again.
    #[serde(default)]
    pub(crate) missing_from_before: bool,
    /// The latest checkpoint that was recomputed here and is right.
    pub(crate) checkpoint_ok: u64,
    /// Where the last checkpoint stands.
    pub(crate) last_checkpoint: u64,
    /// What came after it: changes, and entries that have none.
    #[serde(default)]
    pub(crate) since_checkpoint: u64,
    pub(crate) quarantine: Option<Quarantine>,
    /// The documents in which what was seen is kept.
    pub(crate) evidence: Vec<String>,
    /// The server was restored and lacks this many of our entries.
    pub(crate) behind: Option<u64>,
    /// An owner goes on without so many of our entries.
    pub(crate) reset_offered: Option<u64>,
    pub(crate) trust: KeptTrust,
    /// The generation of our KEM key that the present epoch's key is known to be sealed to.
    pub(crate) sealed_to: Option<(u32, u32)>,
    /// The epoch whose key the server was asked for and had no wrap of that opens here.
    #[serde(default)]
    pub(crate) key_not_given: Option<u32>,
    /// A device of ours was revoked: the next epoch is to be begun, so that it cannot read what comes.
    pub(crate) rotation_due: bool,
}

/// Whose word stands for what is older than this device's first look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeptTrust {
    /// Every entry was verified here.
    WholeLog,
    /// A checkpoint that one of the person's own devices wrote.
    OwnCheckpoint,
    /// A checkpoint that a device of somebody other than its author found right.
    ConfirmedCheckpoint,
    /// A checkpoint on its author's word alone.
    UnconfirmedCheckpoint,
}

impl From<Trust> for KeptTrust {
    fn from(trust: Trust) -> Self {
        match trust {
            Trust::Own => KeptTrust::OwnCheckpoint,
            Trust::Confirmed(_) => KeptTrust::ConfirmedCheckpoint,
            Trust::Unconfirmed => KeptTrust::UnconfirmedCheckpoint,
        }
    }
}

/// The one signed frame that is on its way. Written down before it is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct InFlight {
    pub(crate) frame: Bytes,
    pub(crate) hash: selkie_protocol::Fixed<32>,
    #[serde(default)]
    pub(crate) wraps: Vec<Wrap>,
    /// Which write of the outbox is which change: number, and the change's id.
    pub(crate) writes: Vec<(u64, ChangeId)>,
    /// Conflicts that it settles.
    pub(crate) settles: Vec<Settling>,
    /// Where the server says it stands.
    pub(crate) acknowledged: Option<u64>,
}

/// A conflict that is settled once the frame is in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settling {
    pub(crate) record: RecordId,
    pub(crate) lost: ChangeId,
    pub(crate) won: ChangeId,
    pub(crate) how: Outcome,
    /// What a person is asked, sealed.
    pub(crate) asked: Option<Bytes>,
}

impl InFlight {
    pub(crate) fn settlements(&self, at_ms: u64) -> impl Iterator<Item = Settlement> + '_ {
        self.settles.iter().map(move |one| Settlement {
            id: 0,
            record: one.record,
            lost: one.lost,
            won: one.won,
            at_ms,
            how: one.how.word().to_owned(),
            asked: one.asked.as_ref().map(|asked| asked.0.clone()),
        })
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        Face::Cbor.encode(self)
    }
}

const STATE_VERSION: u32 = 1;

impl State {
    pub(crate) fn new(born: bool) -> Self {
        State {
            version: STATE_VERSION,
            core: Bytes::default(),
            born,
            promises: Promises::default(),
            incarnation: None,
            reached: None,
            claimed: None,
            first_in_life: None,
            links: BackLinks::new(),
            missing: BTreeSet::new(),
            missing_from_before: false,
            checkpoint_ok: 0,
            last_checkpoint: 0,
            since_checkpoint: 0,
            quarantine: None,
            evidence: Vec::new(),
            behind: None,
            reset_offered: None,
            trust: KeptTrust::WholeLog,
            sealed_to: None,
            key_not_given: None,
            rotation_due: false,
        }
    }

    pub(crate) fn reached_head(&self) -> Option<SignedHead> {
        self.reached.as_ref().and_then(|bytes| SignedHead::parse(bytes.as_ref()).ok())
    }

    pub(crate) fn claimed_head(&self) -> Option<SignedHead> {
        self.claimed.as_ref().and_then(|bytes| SignedHead::parse(bytes.as_ref()).ok())
    }
}

impl Replica {
    pub(crate) fn new(log: VaultLog, state: State) -> Self {
        Replica { revision: 0, log, keys: Keyring::default(), state, in_flight: None, coming: None, tried_aside: false }
    }

    /// As it was kept. Keys that the log does not commit to are left where they are: they may belong to a rotation that
    /// somebody else was faster with.
    pub(crate) fn open(vault: &VaultId, kept: &KeptVault, at_rest: &AtRest) -> Result<Replica> {
        let damaged = |what: &str| Error::damaged(format!("a vault: {what}"));
        let (state, core) = read_state(vault, &kept.state, at_rest)?;
        let trail = read_trail(&kept.trail).ok_or_else(|| damaged("its trail"))?;
        let live = kept.live.iter().map(|(id, bytes)| Some((*id, read_live(bytes)?)));
        let live: LiveSet =
            live.collect::<Option<Vec<_>>>().ok_or_else(|| damaged("its records"))?.into_iter().collect();
        let log = VaultLog::from_parts(core, trail, live).map_err(|error| damaged(error.0))?;
        if log.core().vault() != *vault {
            return Err(damaged("it is another one"));
        }
        let in_flight = kept.in_flight.as_deref().map(|bytes| Face::Cbor.decode(bytes));
        let in_flight = in_flight.transpose().map_err(|_| damaged("what was being sent"))?;
        let keys = Keyring::default();
        let (coming, tried_aside) = (None, false);
        let mut replica = Replica { revision: kept.revision, log, keys, state, in_flight, coming, tried_aside };
        for (epoch, sealed) in &kept.keys {
            let governance = replica.log.core().governance();
            let Some(commitment) = governance.commitment(*epoch) else {
                replica.coming = at_rest.open_coming_key(vault, *epoch, sealed);
                continue;
            };
            if let Ok(key) = at_rest.open_key(vault, *epoch, sealed, commitment) {
                replica.keys.insert(key);
            }
        }
        Ok(replica)
    }

    pub(crate) fn vault(&self) -> VaultId {
        self.log.core().vault()
    }

    pub(crate) fn head(&self) -> Head {
        self.log.head()
    }

    pub(crate) fn role(&self, user: &UserId) -> Option<Role> {
        self.log.core().governance().member(user).map(|member| member.role)
    }

    pub(crate) fn state_bytes(&self, at_rest: &AtRest) -> Vec<u8> {
        let state = State { core: self.log.core().to_bytes().into(), ..self.state.clone() };
        at_rest.vouch(&self.vault(), &Face::Cbor.encode(&state))
    }

    pub(crate) fn trail_after(&self, n: u64) -> Vec<(u64, [u8; 32])> {
        let trail = self.log.trail();
        (trail.first().max(n + 1)..=trail.head().n).filter_map(|n| Some((n, trail.at(n)?))).collect()
    }

    fn whole_trail(&self) -> Vec<(u64, [u8; 32])> {
        let trail = self.log.trail();
        (trail.first()..=trail.head().n).filter_map(|n| Some((n, trail.at(n)?))).collect()
    }

    pub(crate) fn begun(&self, at_rest: &AtRest) -> Begun {
        Begun {
            state: self.state_bytes(at_rest),
            trail: self.whole_trail(),
            keys: self.keys.epochs().map(|key| at_rest.seal_key(key)).collect(),
            in_flight: self.in_flight.as_ref().map(InFlight::to_bytes),
            frames: Vec::new(),
            writes: Vec::new(),
        }
    }

    pub(crate) fn fresh(&self, at_rest: &AtRest) -> Fresh {
        Fresh {
            state: self.state_bytes(at_rest),
            trail: self.whole_trail(),
            live: self.log.live().records().map(|(id, record)| (*id, write_live(record))).collect(),
            heads: self.log.live().records().map(|(id, record)| (*id, record.heads())).collect(),
            keys: self.keys.epochs().map(|key| at_rest.seal_key(key)).collect(),
            in_flight: self.in_flight.as_ref().map(InFlight::to_bytes),
            ..Fresh::default()
        }
    }
}

/// What is kept beside the log, and the state of the log itself.
pub(crate) fn read_state(vault: &VaultId, kept: &[u8], at_rest: &AtRest) -> Result<(State, Core)> {
    let damaged = |what: &str| Error::damaged(format!("a vault: {what}"));
    let kept = at_rest.vouched(vault, kept).ok_or_else(|| damaged("its state is not what was written"))?;
    let state: State = Face::Cbor.decode(kept).map_err(|error| damaged(&error.what))?;
    if state.version != STATE_VERSION {
        return Err(Error::UnsupportedProtocol("the vault was kept by another version of the app".into()));
    }
    let core = Core::from_bytes(&state.core).map_err(|error| damaged(error.0))?;
    Ok((state, core))
}

fn read_trail(values: &[(u64, [u8; 32])]) -> Option<Trail> {
    let (first, _) = values.first()?;
    let gapless = values.iter().zip(*first..).all(|((n, _), expected)| *n == expected);
    let mut bytes = first.to_be_bytes().to_vec();
    values.iter().for_each(|(_, value)| bytes.extend_from_slice(value));
    Trail::from_bytes(&bytes).ok().filter(|_| gapless)
}

/// `whole_at u64 | (cid 32 | ct_hash 32 | head u8) ...`
pub(crate) fn write_live(record: &Record) -> Vec<u8> {
    let mut out = record.whole_at().to_be_bytes().to_vec();
    for change in record.changes() {
        out.extend_from_slice(change.id.as_bytes());
        out.extend_from_slice(&change.payload);
        out.push(u8::from(change.head));
    }
    out
}

fn read_live(bytes: &[u8]) -> Option<Record> {
    let (whole_at, changes) = bytes.split_first_chunk::<8>()?;
    let (changes, rest) = changes.as_chunks::<65>();
    let changes = changes.iter().map(|change| {
        let (id, rest) = change.split_first_chunk::<32>().expect("65 bytes have 32");
        let payload = rest.first_chunk::<32>().expect("33 bytes have 32");
        LiveChange { id: ChangeId(*id), payload: *payload, head: rest[32] != 0 }
    });
    Record::new(u64::from_be_bytes(*whole_at), changes).filter(|_| rest.is_empty())
}
