//! Messages of vaults: making one, pushing, pulling, asking what is new, the keys and people of one, coming in new,
//! and putting back what a restored server has forgotten.
//!
//! Owns the shapes only. Entries and what travels beside them are byte strings here; their layouts and rules are in
//! [`crate::log`]. Where an answer says how far a log goes, it says so in a [`SignedHead`](crate::log::SignedHead), so
//! that it cannot be taken back later. The other answers need no such word: a poll is a hint to pull, and what control
//! entries, wraps and pages hold is checked against the log.

use crate::bytes::{Bytes, Fixed};
use crate::id::{Incarnation, RecordId, UserId, VaultId};
use crate::log::{SIGNED_HEAD_LENGTH, WRAP_LENGTH};
use crate::message::wire;

/// [`SignedHead::to_bytes`](crate::log::SignedHead::to_bytes).
pub type SignedHeadBytes = Fixed<SIGNED_HEAD_LENGTH>;
/// An epoch's key, sealed to one member.
pub type WrapBytes = Fixed<WRAP_LENGTH>;
/// What a session has seen of all its vaults, in the server's own words. Only ever shown back to it.
pub type PollState = Fixed<16>;

/// How many records are asked for at a time.
pub const MAX_WANTED_RECORDS: usize = 256;

wire! {
    /// `POST /v1/vaults`: makes a vault. The frame is its CREATE entry, with nothing beside it; the wraps are for its
    /// creator. Answers [`Pushed`], with `n` = 1.
    pub struct CreateVault {
        pub frame: Bytes,
        pub wraps: Vec<Wrap>,
    }

    /// `POST /v1/vaults/{vid}/push`: one entry with everything beside it, all of it or nothing. The same bytes again
    /// are answered as the first time.
    pub struct Push {
        /// A whole [`Frame`](crate::log::Frame).
        pub frame: Bytes,
        /// With ADD_MEMBER and REMOVE_ROTATE: the key of the epoch that holds after the entry, for those who are to
        /// have it.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub wraps: Vec<Wrap>,
    }

    /// Where the entry stands. It is on disk.
    pub struct Pushed {
        pub n: u64,
        /// The head when this was answered: at `n` or after it.
        pub head: SignedHeadBytes,
    }

    /// `GET /v1/vaults/{vid}/log?after=n&max_entries=&max_bytes=&payloads=live`: what stands after a position, oldest
    /// first. A page ends early by number or by bytes; it is never empty while there is more. A server that was
    /// restored and whose head is below `after` answers with no frames, and the head shows why. `payloads=live` leaves
    /// out the payloads of changes that are superseded.
    pub struct LogFrames {
        /// [`Frame`](crate::log::Frame)s of the positions `after + 1`, `after + 2` and so on.
        pub frames: Vec<Bytes>,
        /// The head when this was answered, which may be further than this page goes.
        pub head: SignedHeadBytes,
    }

    /// `GET /v1/vaults/{vid}/head`: how far the log goes.
    pub struct VaultHead {
        pub head: SignedHeadBytes,
    }

    /// `GET /v1/poll?known=state`: what is new in all vaults of the session's app, and in the account's own vault.
    /// With a `known` that is still true, nothing but the state comes back.
    pub struct Polled {
        pub incarnation: Incarnation,
        pub state: PollState,
        /// All vaults, unless nothing has moved.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub vaults: Option<Vec<PolledVault>>,
    }

    /// How far one vault is.
    pub struct PolledVault {
        pub vid: VaultId,
        pub n: u64,
        /// As CREATE says it.
        pub app: String,
    }

    /// A key of one epoch for one member.
    pub struct Wrap {
        pub uid: UserId,
        pub epoch: u32,
        /// The generation of the member's KEM key it is sealed to.
        pub generation: u32,
        pub sealed: WrapBytes,
    }

    /// `GET /v1/vaults/{vid}/wraps`: the caller's own, ascending by epoch and generation. `POST` adds some for other
    /// members, for epochs the vault has had; by who may write.
    pub struct Wraps {
        pub wraps: Vec<Wrap>,
    }

    /// `GET /v1/vaults/{vid}/controls?after=n`: CONTROL entries after a position, oldest first, as far as a page goes,
    /// and where each stands.
    pub struct Controls {
        pub entries: Vec<PlacedEntry>,
        pub more: bool,
    }

    /// An entry without what travels beside it.
    pub struct PlacedEntry {
        pub n: u64,
        pub entry: Bytes,
    }

    /// `GET /v1/vaults/{vid}/checkpoint`: the newest checkpoint that is ready to begin from; 404 if there is none. A
    /// device then fetches CONTROL entries up to it, its pages, and the log from right before it.
    pub struct Beginning {
        /// The position of the CHECKPOINT entry.
        pub n: u64,
        pub entry: Bytes,
        /// Entries that say the checkpoint is right, by people other than its author. There may be none.
        pub evidence: Vec<Bytes>,
        /// Where the trail to it begins: 1024 positions before what it describes, or 0. And the chain value there.
        pub before_n: u64,
        pub before_h: Fixed<32>,
        /// The hashes of the entries after that, up to right before the checkpoint, 32 bytes each.
        pub entry_hashes: Bytes,
        /// The hashes of its pages, 32 bytes each.
        pub page_hashes: Bytes,
        pub head: SignedHeadBytes,
    }

    /// `GET /v1/vaults/{vid}/checkpoint/{n}/pages/{page}?from=i&payloads=none`: the live changes of one page, from its
    /// `i`th on, as far as an answer goes.
    pub struct CheckpointItems {
        /// [`PageItem`](crate::log::PageItem)s.
        pub items: Vec<Bytes>,
        /// The payload of each. None at all with `payloads=none`.
        pub payloads: Vec<Bytes>,
        /// There are more in this page.
        pub more: bool,
    }

    /// `POST /v1/vaults/{vid}/records`: what is live of some records, at most [`MAX_WANTED_RECORDS`]. For a device that
    /// keeps the log and not all that is in it.
    pub struct WantedRecords {
        pub records: Vec<RecordId>,
    }

    /// Records whole, as far as an answer goes. One of which nothing is live at the head has no item.
    pub struct LiveRecords {
        /// [`PageItem`](crate::log::PageItem)s.
        pub items: Vec<Bytes>,
        /// The payload of each.
        pub payloads: Vec<Bytes>,
        /// Those that had no room, or were written while this was put together: to be asked for again.
        pub left: Vec<RecordId>,
        /// Where the log stood.
        pub head: SignedHeadBytes,
    }

    /// `POST /v1/vaults/{vid}/restore-tail`: puts back, at their positions, entries that the server has acknowledged
    /// and lost. The head is one that this server signed, at the last of them or, by the hashes of the entries between,
    /// further on: so nothing else can come in. A long tail is put back in several requests.
    pub struct RestoreTail {
        pub frames: Vec<Bytes>,
        /// The hashes of the entries that follow these frames up to the head, 32 bytes each.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub rest: Option<Bytes>,
        pub head: SignedHeadBytes,
    }

    /// The server has the log up to here again.
    pub struct TailRestored {
        pub head: SignedHeadBytes,
    }

    /// A record that was written meanwhile, with the heads the next whole write of it must name: in an error of the
    /// code `record_conflict`.
    pub struct RecordConflict {
        pub rid: RecordId,
        pub heads: Vec<Fixed<32>>,
    }

    /// What `GET /v1/events` says of a vault: that it has moved, and to where. A hint, never a fact.
    pub struct VaultMoved {
        pub vid: VaultId,
        pub n: u64,
    }
}
