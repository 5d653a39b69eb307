//! Which key is used for what, and when it turns.
//!
//! ```text
//! password + Secret Key      typed, or kept by the device       open the root secret for one operation, then gone
//! recovery key               on the emergency sheet             opens it too, when the password is lost
//! root secret                in memory for one operation        signs the account log: devices, passwords, keys
//! master key, generation g   on the device, sealed              opens what the account's devices share; turns with
//!                                                               every device that is revoked
//! device key                 on the device, sealed              proves that a session is this device's
//! local key                  keychain, app or key file          seals the three above while they lie on the disk
//! ```
//!
//! Owns the making of an account's keys, the sheet and the sealing at rest. The ciphers themselves are in
//! `selkie_protocol::cipher`; nothing here talks to a server.

pub(crate) mod at_rest;
mod identity;
mod sheet;
pub(crate) mod strength;
pub(crate) mod vault;

pub(crate) use identity::{NewIdentity, OpenRoot, Stand, kem, recovery};
pub use sheet::EmergencySheet;
