//! The vault log from outside: what it takes, what it refuses, and that a refusal changes nothing. Tests named
//! `mal_NNN` are rows of the published list of attacks, as far as they need no network.
#![cfg(feature = "seal")]

mod book;
mod cast;
mod chain;
mod checkpoints;
mod follow;
mod frames;
mod governance;
mod layout;
mod malice;
mod payloads;
mod records;
mod restore;
mod schedules;
mod snapshots;
mod vectors;
