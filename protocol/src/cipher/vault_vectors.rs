//! The known answers in `tests/vectors/vault_keys.json`: the keys of an epoch, and payloads sealed under one; and in
//! `tests/vectors/vault_example.json`: the example that `docs/protocol.md` works through, a vault's first entry and one
//! change with a real payload.
//!
//! Made here once, frozen there, and checked from outside by `check_vault.py`. A test that fails here means that what
//! people have sealed can no longer be read. The files are written again only when `SELKIE_FREEZE_VECTORS` is set.

use super::{AccountMasterKey, DeviceKey, EpochKey, RecordContext, SigningKey};
use crate::account_log::{AccountLog, Body as AccountBody, Payload};
use crate::hash::Label;
use crate::id::{ChangeId, DeviceId, Incarnation, RecordId, UserId, VaultId};
use crate::log::{
    App, Beside, Control, Create, Data, Entry, Frame, Header, Kind, NewChange, SignedHead, VaultLog, What,
    first_header, payload_hash, signed,
};
use serde_json::{Value, json};
use std::path::Path;

/// The bytes `start`, `start + 1`, ...: secrets that are none.
fn count<const N: usize>(start: u8) -> [u8; N] {
    std::array::from_fn(|at| start.wrapping_add(u8::try_from(at % 256).unwrap()))
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &Value) -> Vec<u8> {
    let text = text.as_str().unwrap();
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn key(vault: VaultId, epoch: u32, bytes: &[u8; 32]) -> EpochKey {
    EpochKey::for_tests(vault, epoch, bytes)
}

#[test]
fn the_keys_of_a_vault_are_what_they_were() {
    let (vault, user) = (VaultId(count(0x20)), UserId(count(0x40)));
    let (first, second) = (key(vault, 1, &count(0x60)), key(vault, 2, &count(0x80)));
    let link = second.link_back_with_nonce(&first, &count(0xa0));
    let master = AccountMasterKey::from_bytes(3, &count(0xc0));
    let kem = master.user_kem(&user);

    let record_key = second.record_key();
    let sealed = |length: usize, full: bool, deps: u8| {
        let context = RecordContext {
            user,
            device: DeviceId(count(0xe0)),
            dev_seq: 0x0102_0304_0506_0708,
            index: 0x0102,
            record: RecordId(count(0xf0)),
            full,
            deps: (0..deps).map(|at| ChangeId([at; 32])).collect(),
        };
        let data: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let payload = record_key.seal_with_nonce(&context, &data, &count(u8::try_from(length % 256).unwrap())).unwrap();
        assert_eq!(*record_key.open(&context, &payload).unwrap(), data);
        json!({
            "uid": hex(context.user.0), "did": hex(context.device.0), "dev_seq": context.dev_seq,
            "index": context.index, "rid": hex(context.record.0), "full": full,
            "deps": context.deps.iter().map(|id| hex(id.0)).collect::<Vec<_>>(),
            "data": hex(&data), "ct": hex(&payload), "ct_hash": hex(payload_hash(&payload)),
        })
    };
    let mut vectors = json!({
        "vid": hex(vault.0), "uid": hex(user.0),
        "first": { "key": hex(count::<32>(0x60)), "commit": hex(first.commitment()) },
        "second": {
            "key": hex(count::<32>(0x80)), "commit": hex(second.commitment()),
            "record_key": hex(record_key.to_bytes_for_tests()), "back": hex(link),
        },
        "amk": hex(count::<32>(0xc0)), "generation": 3,
        "records": [
            sealed(0, true, 0), sealed(60, false, 1), sealed(61, true, 2), sealed(200, false, 16), sealed(3000, true, 0),
        ],
    });

    // Sealing to a person is random: what was sealed once must open for ever.
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/vault_keys.json");
    if std::env::var_os("SELKIE_FREEZE_VECTORS").is_some() {
        vectors["wrap"] = hex(second.seal_to(&user, 3, &kem.public_key()).unwrap().as_slice()).into();
        std::fs::write(&path, serde_json::to_string_pretty(&vectors).unwrap() + "\n").unwrap();
    }
    let frozen: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    vectors["wrap"] = frozen["wrap"].clone();
    assert!(frozen == vectors, "not what it was: {}", serde_json::to_string_pretty(&vectors).unwrap());
    let opened = EpochKey::open(vault, 2, &user, &kem, &from_hex(&frozen["wrap"]), &second.commitment()).unwrap();
    assert_eq!(opened.to_bytes(), second.to_bytes());
    let back = opened.previous(&link, &first.commitment()).unwrap();
    assert_eq!(back.to_bytes(), first.to_bytes());
}

/// One person, one device, one vault, one change.
#[test]
fn the_example_of_the_book_is_what_it_was() {
    let identity = SigningKey::from_seed(&count(0x00));
    let genesis = Payload::Genesis { identity: identity.public_key(), random: count(0x10) };
    let body = AccountBody {
        user: UserId([0; 32]),
        index: 0,
        previous: [0; 32],
        unix_ms: 1_800_000_000_000,
        payload: genesis,
    };
    let certify = |body: AccountBody| {
        let signature = identity.sign(Label::ACCOUNT_ENTRY, &[&body.to_bytes()]);
        body.signed(signature)
    };
    let genesis = certify(body);
    let mut account = AccountLog::begin(&genesis).unwrap();
    let (user, device) = (account.user(), DeviceKey::from_seed(&count(0x20)));
    let device_add = certify(account.next(1_800_000_001_000, device.device_add(&user)));
    account.append(&device_add).unwrap();
    let people = std::collections::BTreeMap::from([(user, account)]);
    let sign = |header: &Header, kind: Kind, body: &[u8]| {
        let unsigned = header.with_body(kind, body);
        let signature = device.sign(Label::VAULT_ENTRY_SIG, &[&unsigned]);
        signed(unsigned, &signature)
    };

    // The first commitment is made before the vault has a name.
    let (secret, nowhere) = (count(0x40), VaultId([0; 32]));
    let create = Create {
        random: count(0x60),
        anchor: people[&user].head(),
        identity: identity.public_key(),
        commitment: key(nowhere, 1, &secret).commitment(),
        min_format: 1,
        flags: 0,
        app: App::new("org.example.journal").unwrap(),
    };
    let header = first_header(user, device.id(), 1_800_000_002_000);
    let created = sign(&header, Kind::Control, &Control::Create(create).to_bytes());
    let (mut log, first) = VaultLog::create(&Entry::parse(&created).unwrap(), &people).unwrap();
    let vault = log.core().vault();
    let key = key(vault, 1, &secret);

    let header = log.core().next_header(user, device.id(), 0, 1_800_000_003_000);
    let context = RecordContext {
        user,
        device: device.id(),
        dev_seq: header.dev_seq,
        index: 0,
        record: RecordId(count(0x70)),
        full: true,
        deps: Vec::new(),
    };
    let (data, nonce) = (b"Seen at dusk: two seals on the rock.".as_slice(), count(0x80));
    let payload = key.record_key().seal_with_nonce(&context, data, &nonce).unwrap();
    assert_eq!(**key.record_key().open(&context, &payload).unwrap(), *data);
    let change = NewChange { record: context.record, full: true, deps: &[], payload: &payload };
    let written = sign(&header, Kind::Data, &Data::write(&[change]).unwrap());
    let entry = Entry::parse(&written).unwrap();
    let second = log.apply(&entry, Beside::Payloads(&[Some(payload.as_slice())]), &people).unwrap();
    let What::Changed { changes, .. } = &second.what else { panic!("{second:?}") };

    let (server, incarnation) = (SigningKey::from_seed(&count(0xa0)), Incarnation(count(0xc0)));
    let said = SignedHead::signed_bytes(&incarnation, &vault, &second.head, 1_800_000_004_000);
    let head = [said.as_slice(), &server.sign(Label::HEAD, &[&said]).0].concat();
    assert!(SignedHead::parse(&head).unwrap().is_signed_by(&server.public_key()));

    let vectors = json!({
        "account": {
            "identity_seed": hex(count::<32>(0x00)), "identity_key": hex(identity.public_key().0), "uid": hex(user.0),
            "device_seed": hex(count::<32>(0x20)), "device_key": hex(device.public_key().0),
            "did": hex(device.id().0), "entries": [hex(genesis.as_bytes()), hex(device_add.as_bytes())],
        },
        "epoch_key": hex(secret), "record_key": hex(key.record_key().to_bytes_for_tests()), "vid": hex(vault.0),
        "create": { "entry": hex(&created), "entry_hash": hex(first.entry), "h": hex(first.head.h) },
        "data": {
            "entry": hex(&written), "entry_hash": hex(second.entry), "h": hex(second.head.h),
            "content": hex(data), "payload": hex(&payload), "change_id": hex(changes[0].id.0),
            "frame": hex(Frame::write(&written, &payload)),
        },
        "head": { "server_key": hex(server.public_key().0), "signed": hex(&head) },
    });
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/vault_example.json");
    if std::env::var_os("SELKIE_FREEZE_VECTORS").is_some() {
        std::fs::write(&path, serde_json::to_string_pretty(&vectors).unwrap() + "\n").unwrap();
    }
    let frozen: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert!(frozen == vectors, "not what it was: {}", serde_json::to_string_pretty(&vectors).unwrap());
}
