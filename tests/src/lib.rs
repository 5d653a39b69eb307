//! The cast of the stories: a real server, real people with real devices, and a network with malice in it.
//!
//! Owns the setting up of both backends, the clock, and what stands between a client and its server. Knows nothing
//! about what the stories say; those are in `tests/`.

#![allow(clippy::missing_panics_doc, reason = "in a test a panic is the report")]

pub mod accomplice;
pub mod caller;
pub mod canary;
pub mod clock;
pub mod device;
pub mod dice;
pub mod disk;
pub mod liar;
pub mod line;
pub mod measured;
pub mod message;
pub mod network;
pub mod premises;
pub mod program;
pub mod round;
pub mod s3;
pub mod scribe;
pub mod server;
pub mod stories;
pub mod tap;
pub mod totp;
pub mod two_keys;
