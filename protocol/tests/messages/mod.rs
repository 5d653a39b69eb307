//! One sample of every message, as full as it can be and as empty as it can be.

use selkie_protocol::account::{
    Account, AccountState, AddDevice, AuditEntry, AuditPage, CompleteAccount, DeletionScheduled, Device, DeviceLabel,
    Devices, Done, Keybag, LogPage, LogRestored, PasswordFinish, PasswordStart, PasswordStarted, RestoreLog,
    RevokeDevice, RotateRecoveryKey, Session, Sessions, TenantRole, TotpConfirm, TotpConfirmed, TotpStarted,
};
use selkie_protocol::error::{ErrorBody, ErrorCode, FieldProblem};
use selkie_protocol::id::{DeviceId, Incarnation, LinkChannel, LoginId, RecordId, SessionId, UserId, VaultId};
use selkie_protocol::link::{LinkAnswer, LinkOpened, LinkRequest, LinkSession, LinkState, OpenLink};
use selkie_protocol::session::{
    Challenge, DeviceProof, LoginDevice, LoginFinish, LoginFinished, LoginStart, LoginStarted, NewAccount,
    RecoverFinish, RecoverStart, RecoverStarted, Refresh, RegisterFinish, RegisterStart, RegisterStarted, Registered,
    Scope, SignOut, SignOutScope, Tokens,
};
use selkie_protocol::vault::{
    Beginning, CheckpointItems, Controls, CreateVault, LiveRecords, LogFrames, PlacedEntry, Polled, PolledVault, Push,
    Pushed, RecordConflict, RestoreTail, TailRestored, VaultHead, VaultMoved, WantedRecords, Wrap, Wraps,
};
use selkie_protocol::version::{Capabilities, Limits, RegistrationPolicy};
use selkie_protocol::{Bytes, Fixed};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

/// Does something with every message, whatever its type.
pub(crate) trait Visit {
    fn message<T: Serialize + DeserializeOwned + PartialEq + Debug>(&mut self, name: &str, message: T);
}

fn bytes(length: u8) -> Bytes {
    (1..=length).collect::<Vec<u8>>().into()
}

fn fixed<const N: usize>(fill: u8) -> Fixed<N> {
    [fill; N].into()
}

fn device_proof() -> DeviceProof {
    DeviceProof { did: DeviceId([0xd1; 16]), challenge: bytes(8), signature: fixed(0x51) }
}

fn tokens() -> Tokens {
    Tokens {
        access_token: "header.claims.signature".into(),
        expires_in: 900,
        refresh_token: fixed(0x7e),
        session: SessionId([0x5e; 16]),
        scope: Scope::Full,
        account: AccountState::Active,
        uid: Some(UserId([0x1d; 32])),
    }
}

fn new_account() -> NewAccount {
    NewAccount { entries: vec![bytes(3), bytes(5)], keybag: fixed(0xba), device_label: fixed(0x1a) }
}

pub(crate) fn each(visit: &mut impl Visit) {
    doors(visit);
    tokens_and_recovery(visit);
    account(visit);
    password_and_second_factor(visit);
    links(visit);
    vaults(visit);
    beginnings(visit);
    about_the_server(visit);
}

fn doors(visit: &mut impl Visit) {
    let start = RegisterStart {
        tenant: Some("acme".into()),
        login_name: "ana@example.org".into(),
        invite: Some("invitation".into()),
        request: fixed(0x0e),
    };
    visit.message("RegisterStart, full", start.clone());
    visit.message("RegisterStart", RegisterStart { tenant: None, invite: None, ..start });
    let (reg_token, response) = (bytes(6), fixed(0x0f));
    visit.message("RegisterStarted", RegisterStarted { reg_token, response, server_name: "host".into(), ksf_id: 1 });
    let finish = RegisterFinish { reg_token: bytes(6), record: fixed(0xec), account: Some(new_account()) };
    visit.message("RegisterFinish, full", finish.clone());
    visit.message("RegisterFinish", RegisterFinish { account: None, ..finish });
    visit.message("NewAccount", new_account());
    visit.message("Registered, full", Registered { uid: Some(UserId([0x1d; 32])) });
    visit.message("Registered", Registered { uid: None });
    visit.message("Challenge", Challenge { challenge: bytes(8), expires_in: 300 });
    visit.message("DeviceProof", device_proof());
    let start = LoginStart {
        tenant: Some("acme".into()),
        login_name: "ana@example.org".into(),
        ke1: fixed(0xe1),
        device: Some(device_proof()),
    };
    visit.message("LoginStart, full", start.clone());
    visit.message("LoginStart", LoginStart { tenant: None, device: None, ..start });
    let login_id = LoginId([0x10; LoginId::LENGTH]);
    visit.message("LoginStarted", LoginStarted { login_id, ke2: fixed(0xe2), server_name: "host".into(), ksf_id: 1 });
    let device = LoginDevice { did: DeviceId([0xd1; 16]), signature: fixed(0x51) };
    let finish = LoginFinish {
        login_id,
        ke3: fixed(0xe3),
        second_factor: Some("123456".into()),
        device: Some(device.clone()),
        app: Some("org.example.journal".into()),
        seal: 1,
    };
    visit.message("LoginFinish, full", finish.clone());
    visit.message("LoginFinish", LoginFinish { second_factor: None, device: None, app: None, seal: 0, ..finish });
    visit.message("LoginDevice", device);
    visit.message("LoginFinished, clear", LoginFinished { tokens: Some(tokens()), sealed_tokens: None });
    visit.message("LoginFinished, sealed", LoginFinished { tokens: None, sealed_tokens: Some(bytes(9)) });
}

fn tokens_and_recovery(visit: &mut impl Visit) {
    visit.message("Tokens, full", tokens());
    let bare = Tokens { uid: None, scope: Scope::Recovery, account: AccountState::Bare, ..tokens() };
    visit.message("Tokens", bare);
    for state in [AccountState::Bare, AccountState::Active, AccountState::Suspended, AccountState::Deleting] {
        visit.message(&format!("AccountState::{state:?}"), state);
    }
    for scope in [Scope::Full, Scope::Recovery] {
        visit.message(&format!("Scope::{scope:?}"), scope);
    }
    visit.message("Refresh, full", Refresh { refresh_token: fixed(0x7e), device: Some(device_proof()) });
    visit.message("Refresh", Refresh { refresh_token: fixed(0x7e), device: None });
    visit.message("RecoverStart, full", RecoverStart { tenant: Some("acme".into()), login_name: "ana".into() });
    visit.message("RecoverStart", RecoverStart { tenant: None, login_name: "ana".into() });
    let started = RecoverStarted {
        login_id: LoginId([0x10; LoginId::LENGTH]),
        uid: UserId([0x1d; 32]),
        rec_gen: 2,
        server_name: "host".into(),
        ksf_id: 1,
    };
    visit.message("RecoverStarted", started);
    visit
        .message("RecoverFinish", RecoverFinish { login_id: LoginId([0x10; LoginId::LENGTH]), signature: fixed(0x51) });
    for which in [SignOutScope::This, SignOutScope::Others, SignOutScope::All] {
        visit.message(&format!("SignOutScope::{which:?}"), which);
        visit.message(&format!("SignOut, {which:?}"), SignOut { which });
    }
}

fn account(visit: &mut impl Visit) {
    let account = Account {
        tenant: "acme".into(),
        login_name: "ana@example.org".into(),
        uid: Some(UserId([0x1d; 32])),
        state: AccountState::Deleting,
        role: TenantRole::Owner,
        created_at_ms: 1_790_000_000_000,
        delete_after_ms: Some(u64::MAX),
        second_factors: vec!["totp".into()],
        log_length: 6,
        keys_superseded: false,
    };
    visit.message("Account, full", account.clone());
    visit.message("Account", Account { uid: None, delete_after_ms: None, second_factors: vec![], ..account });
    for role in [TenantRole::Member, TenantRole::Admin, TenantRole::Owner] {
        visit.message(&format!("TenantRole::{role:?}"), role);
    }
    visit.message("Keybag", Keybag { keybag: fixed(0xba) });
    visit.message("LogPage", LogPage { from: 4, entries: vec![bytes(3), bytes(0)], length: 6 });
    visit.message("RestoreLog", RestoreLog { from: 6, entries: vec![bytes(3), bytes(2)] });
    visit.message("LogRestored", LogRestored { length: 8 });
    let device = Device {
        did: DeviceId([0xd1; 16]),
        label: fixed(0x1a),
        added_at_ms: 1,
        last_seen_ms: Some(2),
        revoked_at_ms: Some(3),
    };
    visit.message("Device, full", device.clone());
    visit.message("Device", Device { last_seen_ms: None, revoked_at_ms: None, ..device.clone() });
    visit.message("Devices", Devices { devices: vec![device] });
    visit.message("AddDevice", AddDevice { entry: bytes(3), label: fixed(0x1a), signature: fixed(0x51) });
    let label = DeviceLabel { did: DeviceId([0xd1; 16]), label: fixed(0x1a) };
    visit.message("DeviceLabel", label.clone());
    visit.message("RevokeDevice, full", RevokeDevice { entries: vec![bytes(3), bytes(5)], labels: vec![label] });
    visit.message("RevokeDevice", RevokeDevice { entries: vec![], labels: vec![] });
    visit.message("CompleteAccount", CompleteAccount { account: new_account(), signature: fixed(0x51) });
    let session = Session {
        session: SessionId([0x5e; 16]),
        did: Some(DeviceId([0xd1; 16])),
        app: Some("selkie".into()),
        created_at_ms: 1,
        last_used_ms: 2,
        current: true,
    };
    visit.message("Session, full", session.clone());
    visit.message("Session", Session { did: None, app: None, current: false, ..session.clone() });
    visit.message("Sessions", Sessions { sessions: vec![session] });
    let entry = AuditEntry {
        number: 7,
        at_ms: 1,
        action: "signed_in".into(),
        did: Some(DeviceId([0xd1; 16])),
        detail: Some("with a recovery code".into()),
    };
    visit.message("AuditEntry, full", entry.clone());
    visit.message("AuditEntry", AuditEntry { did: None, detail: None, ..entry.clone() });
    visit.message("AuditPage", AuditPage { entries: vec![entry] });
    visit.message("DeletionScheduled", DeletionScheduled { delete_after_ms: 1 });
    visit.message("Done", Done {});
}

fn password_and_second_factor(visit: &mut impl Visit) {
    visit.message("PasswordStart", PasswordStart { request: fixed(0x0e) });
    let (reg_token, response) = (bytes(6), fixed(0x0f));
    visit.message("PasswordStarted", PasswordStarted { reg_token, response, server_name: "host".into(), ksf_id: 1 });
    let finish = PasswordFinish {
        reg_token: bytes(6),
        record: fixed(0xec),
        keybag: Some(fixed(0xba)),
        entries: vec![bytes(3)],
        keep_other_sessions: true,
        remove_second_factors: true,
    };
    visit.message("PasswordFinish, full", finish.clone());
    let bare = PasswordFinish {
        keybag: None,
        entries: vec![],
        keep_other_sessions: false,
        remove_second_factors: false,
        ..finish
    };
    visit.message("PasswordFinish", bare);
    visit.message("RotateRecoveryKey", RotateRecoveryKey { keybag: fixed(0xba), entry: bytes(3) });
    visit.message("TotpStarted", TotpStarted { secret: "JBSWY3DP".into(), uri: "otpauth://totp/selkie".into() });
    visit.message("TotpConfirm", TotpConfirm { code: "123456".into() });
    visit.message("TotpConfirmed", TotpConfirmed { recovery_codes: vec!["one".into(), "two".into()] });
}

fn links(visit: &mut impl Visit) {
    visit.message("OpenLink", OpenLink { channel: LinkChannel([0xc4; 16]), offer: bytes(4) });
    visit.message("LinkOpened", LinkOpened { expires_in: 600 });
    let state = LinkState { offer: bytes(4), request: Some(bytes(5)), answer: Some(bytes(6)) };
    visit.message("LinkState, full", state.clone());
    visit.message("LinkState", LinkState { request: None, answer: None, ..state });
    visit.message("LinkRequest", LinkRequest { request: bytes(5) });
    visit.message("LinkAnswer", LinkAnswer { answer: bytes(6), entry: bytes(3), label: fixed(0x1a) });
    let session = LinkSession { signature: fixed(0x51), app: Some("selkie".into()) };
    visit.message("LinkSession, full", session.clone());
    visit.message("LinkSession", LinkSession { app: None, ..session });
}

fn vaults(visit: &mut impl Visit) {
    let (vid, head) = (VaultId([0x7a; 32]), fixed(0x4e));
    let wrap = Wrap { uid: UserId([0x1d; 32]), epoch: 2, generation: 3, sealed: fixed(0x3a) };
    visit.message("Wrap", wrap.clone());
    visit.message("Wraps", Wraps { wraps: vec![wrap.clone()] });
    visit.message("CreateVault", CreateVault { frame: bytes(9), wraps: vec![wrap.clone()] });
    visit.message("Push, full", Push { frame: bytes(9), wraps: vec![wrap] });
    visit.message("Push", Push { frame: bytes(9), wraps: Vec::new() });
    visit.message("Pushed", Pushed { n: 7, head });
    visit.message("LogFrames", LogFrames { frames: vec![bytes(9), bytes(4)], head });
    visit.message("VaultHead", VaultHead { head });
    let (incarnation, state) = (Incarnation([0x1c; 16]), fixed(0x5a));
    visit.message("Polled", Polled { incarnation, state, vaults: None });
    let vault = PolledVault { vid, n: 7, app: "org.example.journal".into() };
    visit.message("PolledVault", vault.clone());
    visit.message("Polled, full", Polled { incarnation, state, vaults: Some(vec![vault]) });
    visit.message("VaultMoved", VaultMoved { vid, n: 8 });
    visit.message("RestoreTail", RestoreTail { frames: vec![bytes(9)], rest: None, head });
    visit.message("RestoreTail, full", RestoreTail { frames: vec![bytes(9)], rest: Some(bytes(32)), head });
    visit.message("TailRestored", TailRestored { head });
}

fn beginnings(visit: &mut impl Visit) {
    let placed = PlacedEntry { n: 3, entry: bytes(9) };
    visit.message("PlacedEntry", placed.clone());
    visit.message("Controls", Controls { entries: vec![placed], more: true });
    let beginning = Beginning {
        n: 9,
        entry: bytes(9),
        evidence: vec![bytes(4)],
        before_n: 1,
        before_h: fixed(0x6b),
        entry_hashes: bytes(64),
        page_hashes: bytes(32),
        head: fixed(0x4e),
    };
    visit.message("Beginning", beginning);
    let items = CheckpointItems { items: vec![bytes(5)], payloads: vec![bytes(6)], more: false };
    visit.message("CheckpointItems", items);
    visit.message("WantedRecords", WantedRecords { records: vec![RecordId([0x2c; 16])] });
    let (items, payloads, left) = (vec![bytes(5)], vec![bytes(6)], vec![RecordId([0x2c; 16])]);
    visit.message("LiveRecords", LiveRecords { items, payloads, left, head: fixed(0x4e) });
}

fn about_the_server(visit: &mut impl Visit) {
    let limits = Limits {
        max_body_bytes: 1 << 20,
        max_auth_body_bytes: 1 << 16,
        max_log_entries: 64,
        max_devices_per_account: 32,
        max_push_bytes: 1 << 21,
        max_push_changes: 256,
    };
    visit.message("Limits", limits.clone());
    for registration in [RegistrationPolicy::Closed, RegistrationPolicy::Invite, RegistrationPolicy::Open] {
        visit.message(&format!("RegistrationPolicy::{registration:?}"), registration);
    }
    let capabilities = Capabilities {
        protocol: 1,
        software: "selkie-server 0.1.0".into(),
        server_name: "host".into(),
        incarnation: Incarnation([0x1c; 16]),
        head_key: fixed(0x4e),
        registration: RegistrationPolicy::Invite,
        second_factors: vec!["totp".into()],
        limits,
    };
    visit.message("Capabilities", capabilities);
    let problem = FieldProblem { field: "login_name".into(), problem: "a login name may not be empty".into() };
    visit.message("FieldProblem", problem.clone());
    let error = ErrorBody::new(ErrorCode::InvalidField, 422, "request-1");
    visit.message("ErrorBody", error.clone());
    let conflicts = vec![RecordConflict { rid: RecordId([0x4d; 16]), heads: vec![fixed(0xc1)] }];
    visit.message("RecordConflict", conflicts[0].clone());
    let (detail, fields) = (Some("one field".into()), vec![problem]);
    let error = ErrorBody { detail, fields, conflicts, retry_after: Some(30), ..error };
    visit.message("ErrorBody, full", error);
    for &code in ErrorCode::ALL {
        visit.message(&format!("ErrorCode::{code:?}"), code);
    }
}
