//! Everything that reads bytes from the network, each as a function that takes any bytes at all.
//!
//! None may panic, and what one accepts must come out again as it went in. Run with mutated inputs by
//! `decoders_survive_anything.rs` and with better ones by the targets in `fuzz/`.

use selkie_protocol::account::{
    Account, AddDevice, AuditPage, CompleteAccount, Devices, Keybag as KeybagMessage, LogPage, PasswordFinish,
    PasswordStart, PasswordStarted, RevokeDevice, RotateRecoveryKey, Sessions, TotpConfirm, TotpConfirmed, TotpStarted,
};
use selkie_protocol::account_log::{AccountLog, Entry};
use selkie_protocol::cipher::{Keybag, LinkGrant, LinkHello, LinkOffer, LinkSecret, RecoveryKey, SecretKey};
use selkie_protocol::error::ErrorBody;
use selkie_protocol::link::{LinkAnswer, LinkOpened, LinkRequest, LinkSession, LinkState, OpenLink};
use selkie_protocol::name::{LoginName, password_input};
use selkie_protocol::opaque::{LOGIN_STATE_LENGTH, LoginState, RECORD_LENGTH, ServerSetup, registration_record};
use selkie_protocol::session::{
    Challenge, LoginFinish, LoginFinished, LoginStart, LoginStarted, RecoverFinish, RecoverStart, RecoverStarted,
    Refresh, RegisterFinish, RegisterStart, RegisterStarted, Registered, SignOut, Tokens,
};
use selkie_protocol::version::Capabilities;
use selkie_protocol::{Face, bytes};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::sync::LazyLock;

/// Reads one type of message in one face.
type Reader = fn(Face, &[u8]);

fn read<T: Serialize + DeserializeOwned + PartialEq + Debug>(face: Face, bytes: &[u8]) {
    if let Ok(message) = face.decode::<T>(bytes) {
        let written = face.encode(&message);
        assert_eq!(face.decode::<T>(&written).expect("what was written can be read"), message);
    }
}

/// What a server reads, what a client reads, and what two devices read of each other.
const READERS: &[Reader] = &[
    read::<RegisterStart>,
    read::<RegisterFinish>,
    read::<LoginStart>,
    read::<LoginFinish>,
    read::<Refresh>,
    read::<RecoverStart>,
    read::<RecoverFinish>,
    read::<SignOut>,
    read::<AddDevice>,
    read::<RevokeDevice>,
    read::<CompleteAccount>,
    read::<PasswordStart>,
    read::<PasswordFinish>,
    read::<RotateRecoveryKey>,
    read::<TotpConfirm>,
    read::<OpenLink>,
    read::<LinkRequest>,
    read::<LinkAnswer>,
    read::<LinkSession>,
    read::<RegisterStarted>,
    read::<Registered>,
    read::<Challenge>,
    read::<LoginStarted>,
    read::<LoginFinished>,
    read::<Tokens>,
    read::<RecoverStarted>,
    read::<Account>,
    read::<KeybagMessage>,
    read::<LogPage>,
    read::<Devices>,
    read::<PasswordStarted>,
    read::<Sessions>,
    read::<TotpStarted>,
    read::<TotpConfirmed>,
    read::<AuditPage>,
    read::<LinkOpened>,
    read::<LinkState>,
    read::<Capabilities>,
    read::<ErrorBody>,
    read::<LinkOffer>,
    read::<LinkHello>,
    read::<LinkGrant>,
];

/// The first byte chooses the message and the face.
pub(crate) fn message(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let face = if choice & 1 == 0 { Face::Cbor } else { Face::Json };
    READERS[usize::from(choice >> 1) % READERS.len()](face, bytes);
}

/// Entries, each after its length in two bytes; the first byte says how many of the genuine ones come before.
pub(crate) fn account_log(bytes: &[u8]) {
    static GENUINE: LazyLock<Vec<Vec<u8>>> = LazyLock::new(genuine_log);
    let Some((genuine, mut rest)) = bytes.split_first() else { return };
    let genuine = usize::from(*genuine).min(GENUINE.len());
    let mut entries: Vec<&[u8]> = GENUINE[..genuine].iter().map(Vec::as_slice).collect();
    while let Some((length, tail)) = rest.split_first_chunk() {
        let (entry, tail) = tail.split_at(tail.len().min(usize::from(u16::from_be_bytes(*length))));
        if let Ok(parsed) = Entry::parse(entry) {
            assert_eq!(parsed.as_bytes(), entry);
            assert_eq!(parsed.body.to_bytes(), entry[..entry.len() - 64]);
        }
        entries.push(entry);
        rest = tail;
    }
    if let Ok(log) = AccountLog::replay(entries.iter().copied()) {
        assert_eq!(usize::try_from(log.next_index()), Ok(entries.len()));
    }
}

/// The log of the known answers.
pub(crate) fn genuine_log() -> Vec<Vec<u8>> {
    let vectors: serde_json::Value = serde_json::from_str(include_str!("../vectors/account_log.json")).unwrap();
    let entries = vectors["entries"].as_array().unwrap();
    entries.iter().map(|entry| from_hex(entry.as_str().unwrap())).collect()
}

pub(crate) fn from_hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

pub(crate) fn keybag(bytes: &[u8]) {
    if let Ok(bag) = Keybag::parse(bytes) {
        assert_eq!(bag.to_bytes().as_slice(), bytes);
    }
}

pub(crate) fn code(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let written = [
        RecoveryKey::parse(text).map(|key| key.to_text()),
        SecretKey::parse(text).map(|key| key.to_text()),
        LinkSecret::parse(text).map(|secret| secret.to_text()),
    ];
    assert!(written.iter().flatten().count() <= 1, "a code is of one kind");
    for written in written.into_iter().flatten() {
        let again = [
            RecoveryKey::parse(&written).map(|key| key.to_text()),
            SecretKey::parse(&written).map(|key| key.to_text()),
            LinkSecret::parse(&written).map(|secret| secret.to_text()),
        ];
        assert!(again.into_iter().flatten().any(|text| text == written));
    }
}

pub(crate) fn link(bytes: &[u8]) {
    static SECRET: LazyLock<LinkSecret> = LazyLock::new(LinkSecret::generate);
    assert!(SECRET.open::<LinkOffer>(bytes).is_err(), "nobody else has the secret");
    assert!(SECRET.open::<LinkHello>(bytes).is_err());
    assert!(SECRET.open::<LinkGrant>(bytes).is_err());
}

pub(crate) fn name(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(name) = LoginName::new(text) {
        assert_eq!(LoginName::new(name.as_str()).as_ref(), Ok(&name));
        if let Ok(input) = password_input(text, &name, text, Some(text)) {
            assert_eq!(input.iter().filter(|byte| **byte == 0x1f).count(), 4);
        }
    }
    if let Some(decoded) = bytes::from_base64url(text) {
        assert_eq!(bytes::to_base64url(&decoded), text, "one text for one string of bytes");
    }
}

pub(crate) fn opaque(bytes: &[u8]) {
    static SERVER: LazyLock<ServerSetup> = LazyLock::new(ServerSetup::generate);
    let _ = SERVER.registration_response(bytes, b"credential");
    let _ = SERVER.login_response(None, bytes, b"credential");
    if let Ok(record) = registration_record(bytes) {
        assert_eq!(record, bytes, "the record is what was uploaded");
    }
    let (record, rest) = bytes.split_at(bytes.len().min(RECORD_LENGTH));
    let _ = SERVER.login_response(Some(record), rest, b"credential");
    let (state, rest) = bytes.split_at(bytes.len().min(LOGIN_STATE_LENGTH));
    if let Ok(state) = LoginState::from_bytes(state) {
        let _ = state.finish(rest);
    }
    let _ = ServerSetup::from_bytes(bytes);
}
