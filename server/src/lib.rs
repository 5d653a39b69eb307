//! The Selkie server: it orders and keeps what it cannot read.
//!
//! Three verbs: [`http`] translates, the middle ([`auth`], [`sync`], [`tenancy`], [`blobs`]) decides, [`store`]
//! remembers.
//! [`app`] is the only module that knows which implementation is behind which trait; [`edges`] hands in the clock and
//! the dice.

#![forbid(unsafe_code)]

pub mod app;
pub mod auth;
pub mod backup;
pub mod blobs;
pub mod cli;
pub mod config;
pub mod edges;
pub mod http;
pub mod jobs;
pub mod limits;
pub mod notices;
pub mod secrets;
mod shelf;
mod snapshots;
pub mod store;
pub mod sync;
pub mod telemetry;
pub mod tenancy;
#[cfg(test)]
mod testing;
pub mod tls;
mod together;
