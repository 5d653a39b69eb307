//! A throw-away PostgreSQL for tests: one cluster per test run, one fresh database per test.
//!
//! Owns the starting, finding and removing of clusters and databases. Knows nothing about anybody's schema: whoever
//! wants tables brings them, once, as a template ([`Cluster::template`]).
//!
//! ```no_run
//! use selkie_test_postgres::Cluster;
//!
//! let database = Cluster::shared().database(None);
//! println!("{}", database.url()); // dropped with `database`
//! ```
//!
//! The server listens on the loopback address of this machine alone and trusts everybody there, so nothing of value
//! belongs in it. Where `SELKIE_TEST_DATABASE_URL` names a superuser on some server, that server is used instead.

mod address;
mod binaries;
mod child;
mod cluster;
mod database;
mod error;
mod folder;
mod sql;

pub use cluster::{Cluster, SHARED_URL_VARIABLE};
pub use database::Database;
pub use error::Error;
