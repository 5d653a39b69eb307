//! Typed collections: an app's own types, kept in a vault.
//!
//! | module | what it owns |
//! |---|---|
//! | [`collection`] | one record at a time, in the app's own type |
//! | [`transaction`] | several writes as one |
//! | [`query`], [`filter`] | what can be asked, and how it is answered |
//! | [`plan`], [`index`] | which records are looked at for it |
//! | [`watch`] | queries that stay open |
//! | [`difference`] | what turns the list that was shown into the one to show |
//! | [`state`] | how far a record has come, undo, what a person is to decide |
//! | [`view`] | records as they are now, and how writes come about |
//! | [`value`] | the values of fields: order, CBOR, JSON |
//! | [`reading`] | an app's own type out of values, whatever their width |
//! | [`schema`] | what an app says of its collections |
//! | [`content`] | what a record says, and how that is written down |
//!
//! Everything here is pure or reads and writes through the store; no server is talked to.

mod collection;
pub(crate) mod content;
mod difference;
mod filter;
mod index;
mod plan;
mod query;
mod reading;
pub(crate) mod schema;
mod state;
mod transaction;
pub(crate) mod value;
pub(crate) mod view;
pub(crate) mod watch;

pub use collection::{Collection, VersionOf};
pub use content::{Content, Fields};
pub use difference::{Difference, Moved, Placed, Removed};
pub use filter::{Comparison, FieldName, Filter, field};
pub use query::{Cursor, Found, Order, Page, Query};
pub use schema::CollectionShape;
pub(crate) use schema::{Collections, Shape};
pub use state::{RecordState, Undecided};
pub use transaction::Transaction;
pub use value::{NotAValue, Value};
