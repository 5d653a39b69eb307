//! The sealed log of a vault: who may write it, in which order, and how anybody sees that nothing was bent.
//!
//! Owns the layouts and the rules, which server and clients run as one piece of code. Pure: no storage, no clock, no
//! randomness, no keys to payloads. The server gives every accepted entry the next number; everybody computes the same
//! chain; every entry repeats, under its author's signature, the last position and chain value the author had
//! verified, and links to the author's entry before. So two people can accept the same later entry only if they agree
//! on everything before it.
//!
//! ```text
//! vid = H("vault-id", CREATE without its signature)      e_n = H("vault-entry", entry)
//! h_0 = vid                                              h_n = H("vault-chain", h_(n-1) | n u64 | e_n)
//!
//! off len  field                                         kinds   body
//! 0   1    ver = 1                                       1 CONTROL     members, rules, keys: `control`
//! 1   1    suite = 1                                     2 DATA        changes to records: `data`
//! 2   1    kind                                          3 CHECKPOINT  what is live, in one hash: `checkpoint`
//! 3   1    zero                                          4 HEARTBEAT   empty
//! 4   32   vid        zero in CREATE
//! 36  32   uid        author
//! 68  16   did        author's device
//! 84  8    dev_seq    1, 2, 3 ... per device and vault
//! 92  32   dev_prev   e-hash of this device's entry before, zero for the first
//! 124 8    seen_n     last position the author has verified
//! 132 32   seen_h     chain value there
//! 164 32   ctl_h      e-hash of the latest CONTROL entry
//! 196 4    epoch      current epoch
//! 200 8    ckpt_ok    latest CHECKPOINT this device recomputed and found right, 0 for none
//! 208 8    unix_ms    author's clock, informative
//! 216 4    body_len
//! 220      body
//! ...  64  SIGN(device, "vault-entry-sig", everything before)
//! ```
//!
//! # What is checked, in this order
//!
//! 1. Layout, version, suite, vault.
//! 2. The author is a member; the device is certified at the author's anchor and not revoked there.
//! 3. The signature, strictly.
//! 4. `dev_seq` and `dev_prev`.
//! 5. `seen_n` is in the window, `seen_h` is ours.
//! 6. `ctl_h` and `epoch` are current; `ckpt_ok` names a checkpoint.
//! 7. What it says: roles, the table of operations, payload hashes, heads and dependencies, the checkpoint's root.
//! 8. `h_n`. And after a pull: [`Promises`] and [`VaultLog::check_payloads`].
//!
//! # What is kept, and why it does not grow with history
//!
//! | part | size | why no more is needed |
//! |---|---|---|
//! | [`Core`] | members, devices, epochs | an entry is judged by who is in the vault now |
//! | [`Trail`] | 1025 chain values | whoever looked longer ago than that must look again |
//! | [`LiveSet`] | one line a live change | a whole write supersedes everything before it |
//!
//! A checkpoint, like RESET_TAIL, describes the position right before it and is refused anywhere else: so nobody needs
//! to remember what was live earlier.

mod bootstrap;
mod checkpoint;
mod control;
mod core;
mod data;
mod effects;
mod entry;
mod frame;
mod governance;
mod live;
mod page;
mod people;
mod promises;
mod reader;
mod refusal;
mod role;
mod signed_head;
mod snapshot;
mod trail;
mod vault;

pub use self::core::{
    Beside, Core, DeviceChain, KEPT_CHECKPOINTS, KnownCheckpoint, Memory, OtherState, Step, first_header,
};
pub use bootstrap::{Arriving, Bootstrap, Trust};
pub use checkpoint::{
    Checkpoint, DeviceHead, DeviceHeads, Leaf, MAX_DEVICES, MAX_NOTE, PAGE_SIZE, Pages, Root, read_note, write_note,
};
pub use control::{
    App, BACK_LINK_LENGTH, Control, Create, MAX_APP_LENGTH, MAX_REMOVED, Policy, RemoveRotate, WRAP_LENGTH,
};
pub use data::{
    Change, Data, Deps, MAX_CHANGES, MAX_DEPS, MAX_PAYLOAD, MAX_PAYLOADS, MIN_PAYLOAD, NewChange, payload_hash,
};
pub use effects::{Applied, Effects, What};
pub use entry::{
    Body, Entry, HEADER_LENGTH, Head, Header, Kind, MAX_BODY_LENGTH, MAX_ENTRY_LENGTH, SIGNATURE_LENGTH, SUITE,
    VERSION, chain, signed,
};
pub use frame::{Frame, MAX_FRAME_LENGTH};
pub use governance::{Governance, MAX_MEMBERS, MAX_OPEN_INVITES, Member, NEWEST_FORMAT};
pub use live::{LiveChange, LiveSet, Record, Touched};
pub use page::PageItem;
pub use people::{Certificate, People};
pub use promises::Promises;
pub use reader::Malformed;
pub use refusal::{Conflict, Denied, Refusal};
pub use role::Role;
pub use signed_head::{CLOCKS_MS, SIGNED_HEAD_LENGTH, SignedHead};
pub use snapshot::Snapshot;
pub use trail::{Extends, Trail, WINDOW};
pub use vault::{Past, VaultLog};
