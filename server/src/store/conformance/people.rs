//! The people of the stories: everything about the n-th of them follows from n.

use crate::store::*;
use selkie_protocol::hash::sha256;
use selkie_protocol::id::{DeviceId, LinkChannel, LoginId, SessionId, UserId};

pub(super) const NOW: Millis = 1_700_000_000_000;
pub(super) const MINUTE: Millis = 60_000;
pub(super) const DAY: Millis = 24 * 60 * MINUTE;

/// As precisely as it is kept when somebody was seen.
pub(super) fn to_the_hour(at: Millis) -> Millis {
    at - at.rem_euclid(60 * MINUTE)
}

/// Bytes that are the same for the same words and different for others.
pub(super) fn bytes<const N: usize>(what: &str, n: u64) -> [u8; N] {
    let mut bytes = Vec::new();
    let mut block = 0u8;
    while bytes.len() < N {
        bytes.extend_from_slice(&sha256(format!("{what} {n} {block}").as_bytes()));
        block += 1;
    }
    bytes[..N].try_into().unwrap()
}

pub(super) fn name(n: u64) -> String {
    format!("person-{n}@example.org")
}

pub(super) fn uid(n: u64) -> UserId {
    UserId(bytes("uid", n))
}

pub(super) fn device_id(n: u64) -> DeviceId {
    DeviceId(bytes("device", n))
}

pub(super) fn session_id(n: u64) -> SessionId {
    SessionId(bytes("session", n))
}

pub(super) fn login_id(n: u64) -> LoginId {
    LoginId(bytes("login", n))
}

pub(super) fn channel(n: u64) -> LinkChannel {
    LinkChannel(bytes("channel", n))
}

pub(super) fn audit(action: &'static str) -> NewAudit {
    NewAudit { at: NOW, action, device: None, detail: None }
}

pub(super) fn credential(password_generation: u32) -> NewCredential {
    let record = bytes::<192>("record", u64::from(password_generation)).to_vec();
    NewCredential { setup_id: 1, ksf_id: 1, record, password_generation }
}

pub(super) fn device(n: u64) -> NewDevice {
    NewDevice { device: device_id(n), public_key: bytes("key", n), label: vec![n as u8; 104], added_at: NOW }
}

/// The keys of the n-th person, whose first device is the n-th, too.
pub(super) fn identity(n: u64) -> NewIdentity {
    NewIdentity {
        uid: uid(n),
        entries: (0..6).map(|position| entry(n, position)).collect(),
        keybag: bytes::<219>("keybag", n).to_vec(),
        device: device(n),
        recovery: (1, bytes("recovery", n)),
    }
}

pub(super) fn entry(n: u64, position: u64) -> Vec<u8> {
    bytes::<96>(&format!("entry {n}"), position).to_vec()
}

pub(super) fn registration(n: u64) -> Registration {
    Registration { identity: Some(identity(n)), ..bare(n) }
}

pub(super) fn bare(n: u64) -> Registration {
    Registration {
        login_name: name(n),
        uuid: uuid::Uuid::from_bytes(bytes("uuid", n)),
        audit_subject: bytes("subject", n),
        invitation: None,
        credential: credential(1),
        identity: None,
        now: NOW,
        audit: audit("registered"),
    }
}

pub(super) fn invitation(n: u64, uses: i32) -> NewInvitation {
    NewInvitation {
        code_hash: bytes("code", n),
        role: TenantRole::Member,
        uses,
        expires_at: NOW + DAY,
        created_at: NOW,
    }
}

pub(super) const LIFE: SessionLife = SessionLife { idle_expires_at: NOW + 7 * DAY, expires_at: NOW + 30 * DAY };

pub(super) fn session(n: u64, account: AccountNumber, device: Option<DeviceId>) -> NewSession {
    NewSession {
        session: session_id(n),
        account,
        device,
        scope: Scope::Full,
        app: None,
        refresh_seed: bytes("seed", n),
        auth_time: NOW,
        credential_version: None,
        now: NOW,
        life: LIFE,
    }
}

pub(super) fn change() -> AccountChange {
    AccountChange { now: NOW, password_shown_at: NOW, ..AccountChange::default() }
}

#[track_caller]
pub(super) fn refused<T>(result: Result<T>) -> Refused {
    match result {
        Err(StoreError::Refused(refused)) => refused,
        Err(other) => panic!("refused with something else: {other:?}"),
        Ok(_) => panic!("it was not refused"),
    }
}

#[track_caller]
pub(super) fn missing<T>(result: Result<T>) -> &'static str {
    match result {
        Err(StoreError::NotFound(what)) => what,
        Err(other) => panic!("something else is wrong: {other:?}"),
        Ok(_) => panic!("it was found"),
    }
}
