//! Typed collections: an app's own types, kept in a vault.
//!
//! | module | what it owns |
//! |---|---|
//! | [`collection`] | one record at a time, in the app's own type |
//! | [`transaction`] | several writes as one |
//! | [`state`] | how far a record has come, undo, what a person is to decide |
//! | [`view`] | records as they are now, and how writes come about |
//! | [`value`] | the values of fields: order, CBOR, JSON |
//! | [`schema`] | what an app says of its collections |
//! | [`content`] | what a record says, and how that is written down |
//!
//! Everything here is pure or reads and writes through the store; no server is talked to.

mod collection;
pub(crate) mod content;
pub(crate) mod schema;
mod state;
mod transaction;
pub(crate) mod value;
pub(crate) mod view;

pub use collection::{Collection, VersionOf};
pub use content::{Content, Fields};
pub use schema::CollectionShape;
pub(crate) use schema::{Collections, Shape};
pub use state::{RecordState, Undecided};
pub use transaction::Transaction;
pub use value::{NotAValue, Value};
