//! The Selkie client SDK: accounts whose password and keys the server never sees.
//!
//! ```no_run
//! use selkie_client::{Client, SignIn, SignOut, SignUp};
//!
//! # async fn example() -> selkie_client::Result<()> {
//! let client = Client::builder("https://selkie.example.org").store("/home/ana/.local/share/journal").build()?;
//!
//! // Once: make an account, and have its emergency sheet put away.
//! let options = SignUp { device_name: "Ana's laptop".into(), ..SignUp::default() };
//! let made = client.sign_up("ana@example.org", "a long sentence", options).await?;
//! println!("{}", made.sheet.printable_text());
//! made.account.confirm_sheet("R1-....").await?;
//!
//! // At every later start: the session is still there.
//! let account = client.account("ana@example.org").await?.expect("this device has the account");
//! for device in account.devices().await?.devices {
//!     println!("{} {:?}", device.id, device.name);
//! }
//!
//! // Vaults work at once, with or without a server; a sync brings all of them into step.
//! let journal = account.create_vault("Journal", "org.example.journal").await?;
//! journal.put("notes", journal.new_record_id(), b"hello").await?;
//! account.sync().await?;
//!
//! // Another device comes in by a code on this one's screen, or by password and Secret Key.
//! let link = account.link_device().await?;
//! println!("{}", link.code());
//! link.wait_for_request().await?.approve("a long sentence").await?;
//!
//! account.sign_out(SignOut::Keep).await?;
//! client.sign_in("ana@example.org", "a long sentence", None, SignIn::default()).await?;
//! # Ok(()) }
//! ```
//!
//! A [`Client`] is one server and one folder of accounts; an [`Account`] is one of them; a [`Vault`] is a set of
//! records that the devices of its members keep in step. Everything either works, or returns an [`Error`] that is named
//! by what the app can do about it. The SDK prints nothing, keeps nothing global and never ends the process; it speaks
//! through `tracing`, and never of names, tokens or keys.
//!
//! Secrets lie on the disk sealed under a key from the app, from a [`Keychain`] or, if there is neither, from a file
//! that only this user can read: [`Client::secrets_at_rest`] says which.

#![forbid(unsafe_code)]

mod account;
mod api;
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
    Account, AccountSync, AuditEntry, Device, Devices, Follow, KnownDevice, LinkInitiator, LinkInvitation,
    LinkRequester, NewDeviceLink, News, Recover, Session, Settings, SignIn, SignOut, SignUp, SignedIn, SignedOut,
    SignedUp, Status, TotpSecret,
};
pub use client::{Client, ClientBuilder, KnownAccount, known_accounts};
pub use conflict::{CustomMerge, Decision, Merge, MergedText, Strategy, Written, merge_text};
pub use edges::{Clock, Runtime, SystemClock, TokioRuntime};
pub use error::{Error, Misbehaviour, Quarantine, Refusal, Result, SignInReason, WrongKey};
pub use keys::EmergencySheet;
pub use keys::at_rest::{Keychain, KeychainError, SecretsAtRest};
pub use keys::strength::{KeyMode, strength};
pub use password::PasswordProof;
pub use records::{
    Collection, CollectionShape, Comparison, Content, Cursor, FieldName, Fields, Filter, Found, NotAValue, Order, Page,
    Query, RecordState, Transaction, Undecided, Value, VersionOf, field,
};
pub use selkie_protocol::account::{AccountState, TenantRole};
pub use selkie_protocol::bytes::{from_base64url, to_base64url};
pub use selkie_protocol::id::{ChangeId, DeviceId, RecordId, SessionId, UserId, VaultId};
pub use selkie_protocol::record::{Hlc, RecordBody};
pub use selkie_protocol::version::RegistrationPolicy;
pub use selkie_protocol::{ErrorCode, Private};
pub use server::Server;
pub use sync::driver::SyncReport;
pub use sync::replica::KeptTrust;
pub use sync::settle::{NewestFirst, Outcome, Settle, Settled};
pub use trust::{NotAnExhibit, Proof, SoundLog, Subject, Verdict, judge};
pub use vault::{
    Conflict, Digest, LogEntry, Member, Record, RecordVersion, Role, Vault, VaultState, VaultStatus, VaultSummary,
    Verified,
};
