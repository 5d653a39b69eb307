//! The Selkie client SDK: apps that work offline, keep their records on all devices of all their people in step, and
//! hand the server nothing that it could read.
//!
//! A whole program. It needs neither a server nor an account:
//!
//! ```
//! use futures_util::StreamExt;
//! use selkie_client::{Client, Order, Result, field};
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
//! #   let folder = tempfile::tempdir().unwrap();
//! #   let folder = folder.path().join("journal.selkie");
//! #   let folder = folder.to_str().unwrap();
//! #   /*
//!     let folder = "journal.selkie";
//! #   */
//!     let client = Client::open(folder).await?;
//!     let notes = client.vault("Personal").await?.collection::<Note>("notes");
//!
//!     // Records in the app's own type, kept and visible when the call returns.
//!     let id = notes.put(&Note { title: "Hello".into(), mood: "calm".into(), day: 15 }).await?;
//!     notes.update(id, |note| note.title.push_str(", world")).await?;
//!
//!     // Questions, once or for as long as the answer is on the screen.
//!     let calm = notes.query().filter(field("mood").eq("calm")).order_by("day", Order::Descending).limit(20);
//!     assert_eq!(calm.all().await?[0].value.title, "Hello, world");
//!     let mut live = calm.watch();
//!     let shown = live.next().await.transpose()?.unwrap_or_default();
//!     assert_eq!(shown.len(), 1);
//!     Ok(())
//! }
//! ```
//!
//! Later, if the person wants it, there are a server and an account, and what was written comes along. The handles that
//! the app has go on:
//!
//! ```
//! # use selkie_client::{Client, Result, Schedule, SignUp};
//! # async fn later(client: Client) -> Result<()> {
//! # /*
//! client.use_server("https://selkie.example.org").await?;
//! # */
//! let made = client.sign_up("ana@example.org", "a long sentence of mine", SignUp::default()).await?;
//! println!("{}", made.sheet.printable_text());
//! made.account.confirm_sheet(made.sheet.recovery_key()).await?;
//!
//! // Come into step with the other devices: now, and in the background for as long as this is held.
//! client.sync().await?;
//! let background = client.sync_in_background(Schedule::default()).await?;
//! background.stop().await;
//! # Ok(()) }
//! # #[tokio::main] async fn main() -> Result<()> {
//! # let client = selkie_client::testing::TestServer::start().client()?;
//! # let notes = client.vault("Personal").await?;
//! # notes.put("notes", notes.new_record_id(), b"before").await?;
//! # later(client.clone()).await?;
//! # assert_eq!(client.vault("Personal").await?.records("notes").await?.len(), 1);
//! # Ok(()) }
//! ```
//!
//! A [`Client`] is one folder, and a server once one was named; an [`Account`] is one of those on it; a [`Vault`] is a
//! set of records that the devices of its members keep in step; a [`Collection`] is those of one kind, in the app's
//! own type. Everything either works, or returns an [`Error`] that is named by what the app can do about it. The SDK
//! prints nothing, keeps nothing global and never ends the process; it speaks through `tracing`, and never of names,
//! tokens or keys.
//!
//! # Where to look
//!
//! | to | there is |
//! |---|---|
//! | begin without a server | [`Client::open`], [`Client::alone`], [`Client::vault`] |
//! | let a server in | [`Client::use_server`], [`Client::builder`], [`Client::sign_up`], [`Client::sign_in`] |
//! | bring in another device | [`Account::link_device`], or [`Client::sign_in`] with the Secret Key |
//! | keep records | [`Client::vault`], [`Account::vault_of`], [`Vault::collection`], [`Collection`], [`Transaction`] |
//! | find them | [`Collection::query`], [`field`], [`Query::search`], [`Query::watch`], [`Query::changes`] |
//! | say what becomes of conflicts | [`CollectionShape`], [`Strategy`], [`Merge`] |
//! | see what became of them | [`Vault::conflicts`], [`Collection::undecided`] |
//! | go back | [`Collection::undo`], [`Collection::history`], [`Collection::as_of`], [`Collection::restore`] |
//! | change the app's types | [`CollectionShape::version`], [`CollectionShape::upcast`] |
//! | come into step | [`Account::sync`] now and then, [`Account::follow`] while the app is in front |
//! | show how it is | [`Collection::state`], [`Vault::status`], [`Account::status`] |
//! | mind the disk | [`Account::storage`], [`Account::prune_history`], [`Account::repair`] |
//! | keep less on a device | [`Vault::leave_out`], [`Vault::let_go`], [`Account::fetch_vault_headers_first`] |
//! | mind the memory | [`Account::clear_caches`] |
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
//! | `http` (default) | speaks to servers over HTTP and TLS; brings `tokio` |
//! | `tokio` (default) | runs on tokio |
//! | `crdt` | fields that are documents of their own, made with `yrs`: every letter that anybody typed stands |
//! | `testing` | a server, devices and a network in memory, for `[dev-dependencies]` |
//!
//! Without `sqlite` there are the store in memory and stores of the app's own: see [`ClientBuilder::vault_stores`].
//! Without `http` an app brings a [`Transport`](transport::Transport), without `tokio` a [`Runtime`]: see
//! [`ClientBuilder::transport`] and [`ClientBuilder::runtime`].
//!
//! # On the disk
//!
//! Secrets lie on the disk sealed under a key from the app, from a [`Keychain`] or, if there is neither, from a file
//! that only this user can read: [`Client::secrets_at_rest`] says which. Records are sealed in any case, unless the app
//! says that the platform does that already: [`ClientBuilder::records_in_the_clear`].

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod account;
mod alone;
mod api;
mod archive;
mod carry;
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
    Account, AccountSync, AuditEntry, Background, Blocked, BlockedPlace, Compared, Device, DeviceDigest, Devices,
    Follow, KnownDevice, LeftOut, LinkInitiator, LinkInvitation, LinkRequester, NewDeviceLink, News, Recover, Repair,
    Session, Settings, SignIn, SignOut, SignUp, SignedIn, SignedOut, SignedUp, Standing, Status, StorageCheck,
    StorageUsage, Switch, SyncState, TotpSecret, Unsent, VaultComparison, VaultUsage,
};
pub use alone::Attached;
pub use archive::{
    ArchiveError, CollectionMember, ExportOptions, ExportReport, FieldType, ImportReport, Manifest, Mapping, Table,
    TableForm, read_manifest,
};
pub use carry::{CarriedOver, CarriedVault};
pub use client::{Client, ClientBuilder, KnownAccount, known_accounts};
pub use conflict::{CustomMerge, Decision, Merge, MergedText, Strategy, Written, merge_text};
#[cfg(feature = "crdt")]
pub use conflict::{Document, NotADocument};
#[cfg(feature = "tokio")]
pub use edges::TokioRuntime;
pub use edges::{Clock, Runtime, SystemClock, Task};
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
pub use server::{Server, ServerAddress};
pub use sync::contents::LetGo;
pub use sync::driver::{CollectionReport, SyncReport};
pub use sync::replica::KeptTrust;
pub use sync::schedule::{Conditions, Schedule};
pub use sync::settle::{NewestFirst, Outcome, Settle, Settled};
pub use trust::{NotAnExhibit, Proof, SoundLog, Subject, Verdict, judge};
pub use vault::{
    Conflict, Digest, LogEntry, Member, OpenConflict, Record, RecordVersion, Role, Said, Stands, Vault, VaultCheck,
    VaultState, VaultStatus, VaultSummary, Verified,
};
