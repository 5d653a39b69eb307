//! The heart of the client: vaults kept in step with a server that is not believed.
//!
//! | module | what it owns |
//! |---|---|
//! | [`engine`] | what to do next: facts in, actions out |
//! | [`driver`] | doing it, over the transport and the store |
//! | [`replica`] | one vault in memory |
//! | [`take`] | what was pulled, verified and opened |
//! | [`compose`] | what is pushed, settled, sealed and signed |
//! | [`settle`] | what becomes of a conflict |
//!
//! Only the driver does I/O. Everything else is given what it needs and says what should be.

mod afresh;
mod again;
mod bootstrap;
pub(crate) mod compose;
pub(crate) mod driver;
pub(crate) mod duties;
pub(crate) mod engine;
pub(crate) mod replica;
pub(crate) mod restore;
pub(crate) mod room;
pub(crate) mod settle;
pub(crate) mod take;
