//! How values become columns and columns values again.
//!
//! Owns the numbers of enumerations and the lengths of ids. Both databases check the same in their constraints, so a
//! column that does not fit here is corrupt, not wrong.

use super::failure::{Failure, Outcome};
use super::{AccountState, FactorKind, FailureKind, LoginPurpose, Millis, Scope, TenantRole, VaultNumber};
use selkie_protocol::id::{ChangeId, DeviceId, RecordId, UserId};

pub(super) fn fixed<const N: usize>(bytes: Vec<u8>, what: &'static str) -> Outcome<[u8; N]> {
    bytes.try_into().map_err(|_| Failure::corrupt(what))
}

pub(super) fn device(bytes: Vec<u8>) -> Outcome<DeviceId> {
    fixed(bytes, "device").map(DeviceId)
}

pub(super) fn user(bytes: Option<Vec<u8>>) -> Outcome<Option<UserId>> {
    bytes.map(|bytes| fixed(bytes, "user id").map(UserId)).transpose()
}

pub(super) fn uuid(bytes: Vec<u8>) -> Outcome<uuid::Uuid> {
    fixed(bytes, "uuid").map(uuid::Uuid::from_bytes)
}

pub(super) fn small(number: i64, what: &'static str) -> Outcome<u32> {
    u32::try_from(number).map_err(|_| Failure::corrupt(what))
}

pub(super) fn count(number: i64) -> Outcome<u64> {
    u64::try_from(number).map_err(|_| Failure::corrupt("count"))
}

/// A position that a caller asks for: beyond what a column can hold there is nothing.
pub(super) fn position(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A vault's number as its column has it. One that no column can hold is no vault's, and neither is 0.
pub(super) fn vault(VaultNumber(number): VaultNumber) -> i32 {
    i32::try_from(number).unwrap_or_default()
}

pub(super) fn record(bytes: Vec<u8>) -> Outcome<RecordId> {
    fixed(bytes, "record").map(RecordId)
}

pub(super) fn change(bytes: Vec<u8>) -> Outcome<ChangeId> {
    fixed(bytes, "change").map(ChangeId)
}

/// Where a change stands: its entry's position and its place in it, in one number that orders them. An entry has at
/// most 256 changes.
pub(super) fn place(n: u64, index: u16) -> i64 {
    position(n).saturating_mul(PLACES) | i64::from(index.min(255))
}

/// The smallest place after all of an entry.
pub(super) fn place_after(n: u64) -> i64 {
    position(n).saturating_add(1).saturating_mul(PLACES)
}

/// The entry's position and the place in it.
pub(super) fn placed(place: i64) -> Outcome<(u64, u16)> {
    Ok((count(place / PLACES)?, (place % PLACES) as u16))
}

const PLACES: i64 = 256;

/// An account's state is not a column: it follows from what is known of the account, so that it cannot contradict it.
pub(super) fn account_state(suspended: bool, delete_after: Option<Millis>, has_keys: bool) -> AccountState {
    match (suspended, delete_after, has_keys) {
        (true, _, _) => AccountState::Suspended,
        (false, Some(_), _) => AccountState::Deleting,
        (false, None, false) => AccountState::Bare,
        (false, None, true) => AccountState::Active,
    }
}

/// What the log's lookups tell entries apart by.
pub(super) const CONTROL: i16 = 1;
pub(super) const CHECKPOINT: i16 = 2;

pub(super) fn entry_kind(is_control: bool, is_checkpoint: bool) -> i16 {
    match (is_control, is_checkpoint) {
        (true, _) => CONTROL,
        (false, true) => CHECKPOINT,
        (false, false) => 0,
    }
}

macro_rules! numbered {
    ($to:ident, $from:ident, $type:ident, $what:literal, { $($variant:ident = $number:literal),+ $(,)? }) => {
        pub(super) fn $to(value: $type) -> i16 {
            match value {
                $($type::$variant => $number,)+
            }
        }

        pub(super) fn $from(number: i16) -> Outcome<$type> {
            match number {
                $($number => Ok($type::$variant),)+
                _ => Err(Failure::corrupt($what)),
            }
        }
    };
}

numbered!(role_number, role, TenantRole, "role", { Member = 0, Admin = 1, Owner = 2 });
numbered!(scope_number, scope, Scope, "scope", { Full = 0, Recovery = 1 });
numbered!(purpose_number, purpose, LoginPurpose, "purpose", { Password = 0, SecondFactor = 1, Recovery = 2 });
numbered!(failure_number, failure_kind, FailureKind, "kind of failure", { SignIn = 0, SecondFactor = 1, Recovery = 2 });
numbered!(kind_number, kind, FactorKind, "kind of second factor", { Totp = 0, Webauthn = 1 });
