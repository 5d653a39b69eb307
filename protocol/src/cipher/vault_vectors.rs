//! The known answers in `tests/vectors/vault_keys.json`: the keys of an epoch, and payloads sealed under one.
//!
//! Made here once, frozen there, and checked from outside by `check_vault.py`. A test that fails here means that what
//! people have sealed can no longer be read. The file is written again only when `SELKIE_FREEZE_VECTORS` is set.

use super::{AccountMasterKey, EpochKey, RecordContext};
use crate::id::{ChangeId, DeviceId, RecordId, UserId, VaultId};
use crate::log::payload_hash;
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
