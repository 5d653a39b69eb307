//! What Selkie's server and its clients must agree on.
//!
//! Everything here is pure: bytes in, values or refusals out. There is no I/O, no clock and no async. The default
//! build holds what both sides need: names, messages, hashes, the checking of signatures, the rules of the account
//! log, and OPAQUE. The feature `seal` adds what only clients may do: derive keys, seal, open and sign. The server is
//! built without it, so that it cannot read what it keeps.
//!
//! | module | what it owns |
//! |---|---|
//! | [`id`], [`bytes`], [`name`] | names of things and of people; byte strings on the wire |
//! | [`codec`] | the two faces of every message, CBOR and JSON |
//! | [`session`], [`account`], [`link`], [`vault`], [`version`] | the messages, a module a noun |
//! | [`error`] | the only errors that cross the wire |
//! | [`mod@hash`], [`mod@kdf`], [`sign`] | labelled hashes, labelled keys, strict signatures |
//! | [`account_log`] | the signed chain behind every person |
//! | [`log`] | the sealed log of a vault: layouts, and the rules both sides run |
//! | [`record`] | what is inside a sealed change |
//! | [`opaque`] | the one OPAQUE suite |
//! | `cipher` | with `seal`: keys, wraps, codes |

#![forbid(unsafe_code)]

pub mod account;
pub mod account_log;
pub mod bytes;
#[cfg(feature = "seal")]
pub mod cipher;
pub mod codec;
pub mod error;
pub mod hash;
pub mod id;
pub mod kdf;
pub mod link;
pub mod log;
mod message;
pub mod name;
pub mod opaque;
pub mod record;
pub mod session;
pub mod sign;
pub mod vault;
pub mod version;

pub use bytes::{Bytes, Fixed};
pub use codec::{DecodeError, Face};
pub use error::{ErrorBody, ErrorCode, FieldProblem};
pub use message::Private;
