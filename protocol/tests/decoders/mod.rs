//! Everything that reads bytes from the network, each as a function that takes any bytes at all.
//!
//! None may panic, and what one accepts must come out again as it went in. Run with mutated inputs by
//! `decoders_survive_anything.rs` and with better ones by the fuzzer in `tests/fuzz`, which includes this file.

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use selkie_protocol::account::{
    Account, AddDevice, AuditPage, CompleteAccount, DeletionScheduled, Devices, Done, Keybag as KeybagMessage, LogPage,
    LogRestored, PasswordFinish, PasswordStart, PasswordStarted, RestoreLog, RevokeDevice, RotateRecoveryKey, Sessions,
    TotpConfirm, TotpConfirmed, TotpStarted,
};
use selkie_protocol::account_log::{AccountLog, Entry, Payload as LogPayload};
use selkie_protocol::cipher::{
    DeviceKey, Keybag, LINK_MESSAGE_LENGTH, LinkGrant, LinkHello, LinkMessage, LinkOffer, LinkSecret, RecoveryKey,
    SecretKey, kdf,
};
use selkie_protocol::error::ErrorBody;
use selkie_protocol::hash::Label;
use selkie_protocol::id::{DeviceId, UserId};
use selkie_protocol::link::{LinkAnswer, LinkOpened, LinkRequest, LinkSession, LinkState, OpenLink};
use selkie_protocol::log::{
    self, Beside, Body, Core, Frame, HEADER_LENGTH, Kind, LiveSet, PageItem, Promises, SIGNATURE_LENGTH, SignedHead,
    Snapshot, Trail, VaultLog,
};
use selkie_protocol::name::{LoginName, password_input};
use selkie_protocol::opaque::{LOGIN_STATE_LENGTH, LoginState, RECORD_LENGTH, ServerSetup, registration_record};
use selkie_protocol::session::{
    Challenge, LoginFinish, LoginFinished, LoginStart, LoginStarted, RecoverFinish, RecoverStart, RecoverStarted,
    Refresh, RegisterFinish, RegisterStart, RegisterStarted, Registered, SignOut, Tokens,
};
use selkie_protocol::vault::{
    Beginning, CheckpointItems, Controls, CreateVault, LiveRecords, LogFrames, Polled, Push, Pushed, RestoreTail,
    TailRestored, VaultHead, VaultMoved, WantedRecords, Wraps,
};
use selkie_protocol::version::Capabilities;
use selkie_protocol::{Face, bytes};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::any::type_name;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::LazyLock;

/// Reads one type of message in one face.
type Reader = fn(Face, &[u8]);
/// The name of a type.
type Name = fn() -> &'static str;

fn read<T: Serialize + DeserializeOwned + PartialEq + Debug>(face: Face, bytes: &[u8]) {
    if let Ok(message) = face.decode::<T>(bytes) {
        let written = face.encode(&message);
        assert_eq!(face.decode::<T>(&written).expect("what was written can be read"), message);
    }
}

macro_rules! readers {
    ($($message:ty),* $(,)?) => { &[$((type_name::<$message>, read::<$message>)),*] };
}

/// What a server reads, what a client reads, and what two devices read of each other; each with the name of its type.
const READERS: &[(Name, Reader)] = readers![
    RegisterStart,
    RegisterFinish,
    LoginStart,
    LoginFinish,
    Refresh,
    RecoverStart,
    RecoverFinish,
    SignOut,
    AddDevice,
    RevokeDevice,
    CompleteAccount,
    PasswordStart,
    PasswordFinish,
    RotateRecoveryKey,
    TotpConfirm,
    OpenLink,
    LinkRequest,
    LinkAnswer,
    LinkSession,
    RegisterStarted,
    Registered,
    Challenge,
    LoginStarted,
    LoginFinished,
    Tokens,
    RecoverStarted,
    Account,
    KeybagMessage,
    LogPage,
    Devices,
    PasswordStarted,
    Sessions,
    TotpStarted,
    TotpConfirmed,
    AuditPage,
    LinkOpened,
    LinkState,
    Capabilities,
    ErrorBody,
    LinkOffer,
    LinkHello,
    LinkGrant,
    CreateVault,
    Push,
    RestoreTail,
    Pushed,
    LogFrames,
    VaultHead,
    Polled,
    Wraps,
    Controls,
    Beginning,
    CheckpointItems,
    WantedRecords,
    LiveRecords,
    TailRestored,
    VaultMoved,
    Snapshot,
    Promises,
    RestoreLog,
    LogRestored,
    DeletionScheduled,
    Done,
];

/// The first byte chooses the message and the face.
pub(crate) fn message(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let face = if choice & 1 == 0 { Face::Cbor } else { Face::Json };
    READERS[usize::from(choice >> 1) % READERS.len()].1(face, bytes);
}

/// The first byte that chooses this type of message.
#[allow(dead_code, reason = "whoever makes up inputs of their own asks for it")]
pub(crate) fn choice_of<T>(face: Face) -> Option<u8> {
    let at = READERS.iter().position(|(name, _)| name() == type_name::<T>())?;
    Some(u8::try_from(at).expect("fewer than 128 types") << 1 | u8::from(face == Face::Json))
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

/// The code of the known answers, and its bits.
static LINK: LazyLock<(LinkSecret, Vec<u8>)> = LazyLock::new(|| {
    let vectors: serde_json::Value = serde_json::from_str(include_str!("../vectors/link.json")).unwrap();
    let code = LinkSecret::parse(vectors["code"].as_str().unwrap()).unwrap();
    (code, from_hex(vectors["secret"].as_str().unwrap()))
});

/// As it comes, it opens nowhere: nobody else has the code. Then it is sealed by who has: the first byte chooses the
/// message, and whether the rest is its contents or all that is under the seal.
pub(crate) fn link(bytes: &[u8]) {
    let (code, _) = &*LINK;
    assert!(code.open::<LinkOffer>(bytes).is_err(), "nobody else has the code");
    assert!(code.open::<LinkHello>(bytes).is_err());
    assert!(code.open::<LinkGrant>(bytes).is_err());
    let Some((choice, rest)) = bytes.split_first() else { return };
    let is_all = choice / 3 % 2 == 1;
    match choice % 3 {
        0 => drop(under_the_seal::<LinkOffer>(1, rest, is_all)),
        1 => {
            let Some(hello) = under_the_seal::<LinkHello>(2, rest, is_all) else { return };
            if let Ok(added) = hello.device_add(&UserId([1; 32])) {
                assert!(matches!(added, LogPayload::DeviceAdd { device, .. } if device == hello.device_id()));
            }
        }
        _ => {
            let Some(grant) = under_the_seal::<LinkGrant>(3, rest, is_all) else { return };
            assert_eq!(grant.account_master_key().generation(), grant.amk_gen);
        }
    }
}

/// What is read of a message that the other device sealed by hand: what its contents say, and nothing else.
fn under_the_seal<M: LinkMessage + PartialEq + Debug>(part: u8, bytes: &[u8], is_all: bool) -> Option<M> {
    const PADDED: usize = LINK_MESSAGE_LENGTH - 24 - 16;
    let (code, bits) = &*LINK;
    let mut plain = bytes.to_vec();
    if !is_all {
        let length = u16::try_from(bytes.len().min(PADDED - 2)).unwrap();
        plain.splice(0..0, length.to_be_bytes());
    }
    plain.resize(PADDED, 0);
    let place = [code.channel().as_bytes(), &[part]].concat();
    let sealed = seal_by_hand(&kdf::<32>(bits, b"", Label::LINK_KEY, &place), &place, &plain);
    let opened = code.open::<M>(&sealed).ok();

    let (length, rest) = plain.split_first_chunk().unwrap();
    let contents = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)));
    let contents = contents.filter(|(_, padding)| padding.iter().all(|byte| *byte == 0));
    assert_eq!(opened, contents.and_then(|(encoded, _)| Face::Cbor.decode::<M>(encoded).ok()));
    if let Some(message) = &opened
        && let Ok(again) = code.seal(message)
    {
        assert_eq!(code.open::<M>(&again).as_ref(), Ok(message));
    }
    opened
}

/// XChaCha20-Poly1305 with its nonce before it, as everything is sealed: for contents that no device of ours seals.
pub(crate) fn seal_by_hand(key: &[u8; 32], bound: &[u8], plain: &[u8]) -> Vec<u8> {
    let nonce = [4_u8; 24];
    let sealed = XChaCha20Poly1305::new(key.into()).encrypt(&XNonce::from(nonce), Payload { msg: plain, aad: bound });
    [nonce.as_slice(), &sealed.expect("an input is short")].concat()
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

pub(crate) fn frame(bytes: &[u8]) {
    let entry = Frame::entry_bytes(bytes);
    let Ok(frame) = Frame::parse(bytes) else { return };
    assert_eq!(entry, Ok(frame.entry.as_bytes()));
    assert_eq!(frame.keeping(|_| true), bytes, "one way to write a frame");
    for keep in [1, 2, 3, 5] {
        let fewer = frame.keeping(|index| index % keep == 0);
        let read = Frame::parse(&fewer).expect("what was left out was left out rightly");
        for index in 0..=256 {
            let expected = frame.payload(index).filter(|_| index % keep == 0);
            assert_eq!(read.payload(index), expected);
        }
    }
}

pub(crate) fn page_item(bytes: &[u8]) {
    if let Ok(item) = PageItem::parse(bytes) {
        assert_eq!(item.to_bytes(), bytes);
    }
}

pub(crate) fn signed_head(bytes: &[u8]) {
    if let Ok(head) = SignedHead::parse(bytes) {
        assert_eq!(head.to_bytes(), bytes);
        assert!(!head.contradicts(&head));
    }
}

/// What a device or a server wrote down of a log. What can be read can be used.
pub(crate) fn log_state(bytes: &[u8]) {
    if let Ok(core) = Core::from_bytes(bytes) {
        assert_eq!(core.to_bytes(), bytes);
        let (user, device) = (UserId([1; 32]), DeviceId([2; 16]));
        let header = core.next_header(user, device, 0, 1);
        let entry = log::signed(header.with_body(Kind::Heartbeat, &[]), &selkie_protocol::sign::Signature([0; 64]));
        let entry = log::Entry::parse(&entry).expect("the next entry of a device");
        let _ = core.clone().follow(&entry);
        let _ = VaultLog::from_parts(core, Trail::new(header.seen), LiveSet::default());
    }
    if let Ok(trail) = Trail::from_bytes(bytes) {
        assert_eq!(trail.to_bytes(), bytes);
        let head = trail.head();
        assert_eq!(trail.at(head.n), Some(head.h));
        assert!(trail.first() <= head.n && trail.at(trail.first()).is_some());
    }
    if let Ok(live) = LiveSet::from_bytes(bytes) {
        assert_eq!(live.to_bytes(), bytes);
        assert_eq!(live.leaves().count() as u64, live.count());
    }
    if let Some(snapshot) = Face::Cbor.decode::<Snapshot>(bytes).ok()
        && let Ok(log) = VaultLog::resume(&snapshot)
    {
        assert_eq!(log.snapshot(), snapshot);
    }
}

/// Who writes in the vault that [`vault_log`] goes on with, and how that begins.
struct Writer {
    people: BTreeMap<UserId, AccountLog>,
    user: UserId,
    device: DeviceKey,
    begun: VaultLog,
    /// The first entry after CREATE.
    genuine: Vec<u8>,
}

/// The person, the device and the vault of the known answers. The device's key is known, so whatever comes can be
/// signed, and gets past the signatures to where the rules are.
static WRITER: LazyLock<Writer> = LazyLock::new(|| {
    let vectors: serde_json::Value = serde_json::from_str(include_str!("../vectors/vault_example.json")).unwrap();
    let get = |group: &str, name: &str| from_hex(vectors[group][name].as_str().unwrap());
    let entries = vectors["account"]["entries"].as_array().unwrap();
    let entries: Vec<Vec<u8>> = entries.iter().map(|entry| from_hex(entry.as_str().unwrap())).collect();
    let account = AccountLog::replay(entries.iter().map(Vec::as_slice)).unwrap();
    let (user, device) = (account.user(), DeviceKey::from_seed(&get("account", "device_seed").try_into().unwrap()));
    let people = BTreeMap::from([(user, account)]);
    let create = get("create", "entry");
    let (begun, _) = VaultLog::create(&log::Entry::parse(&create).unwrap(), &people).unwrap();
    Writer { people, user, device, begun, genuine: get("data", "frame") }
});

/// A sequence of frames, applied to the log of the known answers. Each has one byte before it that says what is done
/// with it and two for its length: it is taken as it came; or signed anew, the header as it came; or it is a body alone
/// and gets the header of the next entry; or that with one byte of the header bent.
pub(crate) fn vault_log(bytes: &[u8]) {
    let mut log = WRITER.begun.clone();
    let mut rest = bytes;
    while let Some(([mode, length @ ..], tail)) = rest.split_first_chunk::<3>() {
        let (chunk, tail) = tail.split_at(tail.len().min(usize::from(u16::from_be_bytes(*length))));
        rest = tail;
        let before = log.clone();
        let frame = made(&log, *mode, chunk);
        if offer(&mut log, &frame).is_none() {
            assert!(log == before, "a refusal changed the log");
        }
    }
    // Whatever was taken, the log can be written down, taken up again and gone on with.
    assert!(VaultLog::resume(&log.snapshot()).expect("what was written down") == log);
    let (body, _) = log.checkpoint(&[]).expect("few devices");
    let mode = (Kind::Checkpoint as u8 - 1) << 2 | 2;
    assert!(offer(&mut log.clone(), &made(&log, mode, &body)).is_some(), "a true checkpoint");
    assert!(offer(&mut log.clone(), &made(&log, (Kind::Heartbeat as u8 - 1) << 2 | 2, &[])).is_some());
    assert_eq!(log.live().leaves().count() as u64, log.live().count());
}

/// The frame that a piece of input stands for.
fn made(log: &VaultLog, mode: u8, chunk: &[u8]) -> Vec<u8> {
    let sign = |unsigned: Vec<u8>| {
        let signature = WRITER.device.sign(Label::VAULT_ENTRY_SIG, &[&unsigned]);
        log::signed(unsigned, &signature)
    };
    let kind = [Kind::Control, Kind::Data, Kind::Checkpoint, Kind::Heartbeat][usize::from(mode >> 2) % 4];
    let header = log.core().next_header(WRITER.user, WRITER.device.id(), 0, 1);
    match mode & 3 {
        0 if chunk.is_empty() => WRITER.genuine.clone(),
        0 => chunk.to_vec(),
        1 => match Frame::entry_bytes(chunk) {
            Ok(entry) if entry.len() >= HEADER_LENGTH + SIGNATURE_LENGTH => {
                let entry = sign(entry[..entry.len() - SIGNATURE_LENGTH].to_vec());
                let beside = &chunk[4 + entry.len()..];
                [&u32::try_from(entry.len()).unwrap().to_be_bytes(), entry.as_slice(), beside].concat()
            }
            _ => chunk.to_vec(),
        },
        2 => Frame::write(&sign(header.with_body(kind, chunk)), &[]),
        _ => {
            let Some(([at, value], body)) = chunk.split_first_chunk::<2>() else { return chunk.to_vec() };
            let mut unsigned = header.with_body(kind, body);
            unsigned[usize::from(*at) % HEADER_LENGTH] ^= value;
            Frame::write(&sign(unsigned), &[])
        }
    }
}

/// Whether the log took it.
fn offer(log: &mut VaultLog, bytes: &[u8]) -> Option<()> {
    let frame = Frame::parse(bytes).ok()?;
    if let (Body::Data(data), Beside::Nothing) = (&frame.entry.body, frame.beside()) {
        // With payloads that are the wrong ones it is not taken, whatever else is right.
        let wrong = [Some([].as_slice()); 256];
        assert!(log.check(&frame.entry, Beside::Payloads(&wrong[..data.len()]), &WRITER.people).is_err());
    }
    let mut followed = log.core().clone();
    let can_be_followed = followed.follow(&frame.entry).is_ok();
    log.apply(&frame.entry, frame.beside(), &WRITER.people).ok()?;
    assert_eq!(can_be_followed, frame.entry.kind() != Kind::Control);
    assert!(!can_be_followed || followed == *log.core());
    Some(())
}
