//! The heart of the client: vaults kept in step with a server that is not believed.
//!
//! | module | what it owns |
//! |---|---|
//! | [`engine`] | what to do next: facts in, actions out |
//! | [`driver`] | doing it, over the transport and the store |
//! | [`room`] | what the vaults of an account share |
//! | [`replica`] | one vault in memory |
//! | [`take`] | what was pulled, verified and opened |
//! | [`compose`] | what is pushed, settled, sealed and signed |
//! | [`settle`] | what becomes of a conflict |
//! | [`heads`] | the server's word, and catching it at a lie |
//! | [`learn`] | keys and account logs that are missing |
//! | [`duties`] | what is written besides records: members, keys, checkpoints |
//! | [`bootstrap`] | coming in new from a checkpoint |
//! | [`restore`] | a server that begins a new life |
//! | [`afresh`] | going on without what is lost |
//! | [`again`] | verifying everything once more, and handing it on |
//! | [`schedule`] | when a round begins by itself |
//! | [`pulse`] | what is known of the rounds, for whoever watches |
//! | [`backoff`] | how long to leave a server alone |
//! | [`hints`] | what a server hints at |
//!
//! Engine, replica, take, compose, settle, schedule, backoff and hints are pure: they are given what they need and
//! say what should be.

mod afresh;
mod again;
pub(crate) mod backoff;
mod bootstrap;
pub(crate) mod compose;
pub(crate) mod contents;
pub(crate) mod driver;
pub(crate) mod duties;
pub(crate) mod engine;
mod heads;
pub(crate) mod hints;
pub(crate) mod learn;
pub(crate) mod pulse;
pub(crate) mod replica;
pub(crate) mod restore;
pub(crate) mod room;
pub(crate) mod schedule;
pub(crate) mod settle;
pub(crate) mod take;
