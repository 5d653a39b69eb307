//! The operations, written once and compiled for each database.
//!
//! Owns what every operation of the store does, row by row. `postgres` and `sqlite` each take this folder in with
//! `#[path]` and bring what differs: the connection (`Conn`), the type that implements the traits (`Backend`), how a
//! transaction begins, ends and is tried again (`Backend::read`, `Backend::write`), how an account and a vault are
//! locked (`lock_account`, `lock_vault`), and the hot paths of the log (`Backend::log_*`), for which the portable ones
//! stand ready here. Nothing here knows which of them it is compiled for.
//!
//! Rows are always locked in this order, so that no two operations wait for each other: invitation, account, what the
//! account owns, vaults by their numbers, tenant, the head of the audit log. (A new account is nobody's to wait for, so
//! making one may hold the tenant first.)

mod accounts;
mod audit;
mod changes;
mod factors;
mod links;
mod registration;
mod server;
pub(super) mod sessions;
mod tenants;
pub(super) mod vaults;

use super::{Backend, Conn, Reach, lock_account, lock_vault};
