//! The Selkie client SDK: apps that work offline, keep their records on all devices of all their people in step, and
//! hand the server nothing that it could read.
//!
//! A whole program. It works without a server but for the lines that say so:
//!
//! ```
//! use futures_util::StreamExt;
//! use selkie_client::{Client, CollectionShape, Order, Result, Schedule, SignUp, Strategy, field};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
//! struct Note {
//!     title: String,
//!     mood: String,
//!     day: u32,
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<()> {
//!     // Once: which server, where on this device, and what holds for the app's collections.
//!     let notes = CollectionShape::new("notes").conflicts(Strategy::TextMerge).index(["mood", "day"]);
//!     let client = Client::builder("https://selkie.example.org").store("/home/ana/.local/share/journal");
//!     let client = client.collection(notes).build()?;
//! #   let client = selkie_client::testing::TestServer::start().client()?;
//!
//!     // Once, with a server: make an account, and have its emergency sheet put away. At every later start
//!     // `client.account("ana@example.org")` has it, and asks nobody.
//!     let made = client.sign_up("ana@example.org", "a long sentence of mine", SignUp::default()).await?;
//!     println!("{}", made.sheet.printable_text());
//!     made.account.confirm_sheet(made.sheet.recovery_key()).await?;
//!
//!     // Records in the app's own type, durable and visible when the call returns.
//!     let journal = made.account.create_vault("Journal", "org.example.journal").await?;
//!     let notes = journal.collection::<Note>("notes");
//!     let id = notes.put(&Note { title: "Hello".into(), mood: "calm".into(), day: 15 }).await?;
//!     notes.update(id, |note| note.title.push_str(", world")).await?;
//!
//!     // Questions, once or for as long as the answer is on the screen.
//!     let calm = notes.query().filter(field("mood").eq("calm")).order_by("day", Order::Descending).limit(20);
//!     assert_eq!(calm.all().await?[0].value.title, "Hello, world");
//!     let mut live = calm.watch();
//!     let shown = live.next().await.transpose()?.unwrap_or_default();
//!     assert_eq!(shown.len(), 1);
//!
//!     // With a server, whenever there is one: come into step with the other devices.
//!     match made.account.sync().await {
//!         Ok(_) => println!("in step"),
//!         Err(error) if error.is_retryable() => println!("later: {error}"),
//!         Err(error) => return Err(error),
//!     }
//!
//!     // Or leave that to the background, and show how it goes.
//!     let background = made.account.sync_in_background(Schedule::default());
//!     let now = made.account.status().next().await.expect("it never ends");
//!     println!("{:?}, {} to be sent", now.state, now.pending);
//!     background.stop().await;
//!     Ok(())
//! }
//! ```
//!
//! A [`Client`] is one server and one folder of accounts; an [`Account`] is one of them; a [`Vault`] is a set of
//! records that the devices of its members keep in step; a [`Collection`] is those of one kind, in the app's own type.
//! Everything either works, or returns an [`Error`] that is named by what the app can do about it. The SDK prints
//! nothing, keeps nothing global and never ends the process; it speaks through `tracing`, and never of names, tokens or
//! keys.
//!
//! # Where to look
//!
//! | to | there is |
//! |---|---|
//! | begin | [`Client::builder`], [`Client::sign_up`], [`Client::sign_in`], [`Client::account`] |
//! | bring in another device | [`Account::link_device`], or [`Client::sign_in`] with the Secret Key |
//! | keep records | [`Account::create_vault`], [`Vault::collection`], [`Collection`], [`Transaction`] |
//! | find them | [`Collection::query`], [`field`], [`Query::search`], [`Query::watch`], [`Query::changes`] |
//! | say what becomes of conflicts | [`CollectionShape`], [`Strategy`], [`Merge`] |
//! | see what became of them | [`Vault::conflicts`], [`Collection::undecided`] |
//! | go back | [`Collection::undo`], [`Collection::history`], [`Collection::as_of`], [`Collection::restore`] |
//! | change the app's types | [`CollectionShape::version`], [`CollectionShape::upcast`] |
//! | come into step | [`Account::sync`] now and then, [`Account::follow`] while the app is in front |
//! | show how it is | [`Collection::state`], [`Vault::status`], [`Account::status`] |
//! | mind the disk | [`Account::storage`], [`Account::prune_history`], [`Account::repair`], [`Vault::leave_out`] |
//! | share with others | [`Vault::add_member`], [`Role`] |
//! | keep plain bytes instead of types | [`Vault::put`], [`Vault::get`] |
//! | have a password or device replaced | [`Account::change_password`], [`Account::revoke`], [`Client::recover`] |
//! | test an app | the module `testing`, behind its feature |
//!
//! `docs/building-an-app.md` goes from `cargo new` to two devices; `examples/` has whole apps of one page each.
//!
//! # Features
//!
//! | feature | |
//! |---|---|
//! | `sqlite` (default) | keeps vaults in a SQLite file beside the account |
//! | `crdt` | fields that are documents of their own, made with `yrs`: every letter that anybody typed stands |
//! | `testing` | a server, devices and a network in memory, for `[dev-dependencies]` |
//!
//! Without `sqlite` there are the store in memory and stores of the app's own: see [`ClientBuilder::vault_stores`].
//!
//! # On the disk
//!
//! Secrets lie on the disk sealed under a key from the app, from a [`Keychain`] or, if there is neither, from a file
//! that only this user can read: [`Client::secrets_at_rest`] says which. Records are sealed in any case.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod account;
mod api;
mod archive;
mod client;
mod conflict;
mod context;
mod edges;
mod error;
mod keys;
mod password;
mod qr;
mod records;
mod server;
pub mod store;
mod sync;
#[cfg(feature = "testing")]
pub mod testing;
pub mod transport;
mod trust;
mod untrusted;
mod vault;

pub use account::{
    Account, AccountSync, AuditEntry, Background, Blocked, BlockedPlace, Device, Devices, Follow, KnownDevice, LeftOut,
    LinkInitiator, LinkInvitation, LinkRequester, NewDeviceLink, News, Recover, Repair, Session, Settings, SignIn,
    SignOut, SignUp, SignedIn, SignedOut, SignedUp, Standing, Status, StorageCheck, StorageUsage, Switch, SyncState,
    TotpSecret, Unsent, VaultUsage,
};
pub use archive::{
    ArchiveError, CollectionMember, ExportOptions, ExportReport, ImportReport, Manifest, Table, TableForm,
    read_manifest,
};
pub use client::{Client, ClientBuilder, KnownAccount, known_accounts};
pub use conflict::{CustomMerge, Decision, Merge, MergedText, Strategy, Written, merge_text};
#[cfg(feature = "crdt")]
pub use conflict::{Document, NotADocument};
pub use edges::{Clock, Runtime, SystemClock, Task, TokioRuntime};
pub use error::{Error, Misbehaviour, Quarantine, Refusal, Result, SignInReason, WrongKey};
pub use keys::EmergencySheet;
pub use keys::at_rest::{Keychain, KeychainError, SecretsAtRest};
pub use keys::strength::{KeyMode, strength};
pub use password::PasswordProof;
pub use records::{
    Collection, CollectionShape, Comparison, Content, Cursor, Difference, FieldName, Fields, Filter, Found, Moved,
    NotAValue, Order, Page, Placed, Query, RecordState, Removed, Transaction, Undecided, Value, VersionOf, field,
};
pub use selkie_protocol::account::{AccountState, TenantRole};
pub use selkie_protocol::bytes::{from_base64url, to_base64url};
pub use selkie_protocol::id::{ChangeId, DeviceId, RecordId, SessionId, UserId, VaultId};
pub use selkie_protocol::record::{Hlc, RecordBody};
pub use selkie_protocol::version::RegistrationPolicy;
pub use selkie_protocol::{ErrorCode, Private};
pub use server::Server;
pub use sync::driver::{CollectionReport, SyncReport};
pub use sync::replica::KeptTrust;
pub use sync::schedule::{Conditions, Schedule};
pub use sync::settle::{NewestFirst, Outcome, Settle, Settled};
pub use trust::{NotAnExhibit, Proof, SoundLog, Subject, Verdict, judge};
pub use vault::{
    Conflict, Digest, LogEntry, Member, Record, RecordVersion, Role, Vault, VaultCheck, VaultState, VaultStatus,
    VaultSummary, Verified,
};
