//! Stories of the SDK against a server in memory that can be made to misbehave.
//!
//! The server here is a stand-in: honest by default, a page of code, no limits. What the real server does with the real
//! SDK is told in the workspace's own `tests`.

mod accounts;
mod alone;
mod archives;
mod attacks;
mod background;
mod carried;
mod crashes;
mod fake;
mod household;
mod kit;
mod links;
mod records;
mod restored;
mod schedules;
mod sessions;
mod storage;
mod stores;
mod vaults;
