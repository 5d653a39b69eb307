//! The known answers in `tests/vectors`: made here once, frozen there, and checked from outside by `check.py`.
//!
//! A test that fails here means that what people have sealed and signed can no longer be read. The files are written
//! again only when `SELKIE_FREEZE_VECTORS` is set, which is right for a new vector and for nothing else.

use super::link::{LinkGrant, LinkHello, LinkMessage, LinkOffer, LinkSecret};
use super::secret::Secret;
use super::wrap::{Purpose, wrap_with_nonce};
use super::{
    AccountMasterKey, AccountRootSecret, DeviceKey, Keybag, LocalKey, PasswordKek, RecoveryKek, RecoveryKey, SecretKey,
    kem, keybag, safety_number, state_code, token,
};
use crate::account::AccountState;
use crate::account_log::{AccountLog, Body, Entry, Payload, Pin, login_name_hash};
use crate::codec::Face;
use crate::hash::{Label, hash, sha256};
use crate::id::{DeviceId, LoginId, SessionId, UserId};
use crate::kdf::kdf;
use crate::name::{LoginName, password_input};
use crate::opaque::{ExportKey, SessionKey};
use crate::session::{RefreshTokenBytes, Scope, Tokens};
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

/// Compares with what is frozen.
fn holds(name: &str, vectors: &Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name);
    if std::env::var_os("SELKIE_FREEZE_VECTORS").is_some() {
        std::fs::write(&path, serde_json::to_string_pretty(vectors).unwrap() + "\n").unwrap();
    }
    let frozen: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert!(frozen == *vectors, "{name} is not what it was: {}", serde_json::to_string_pretty(vectors).unwrap());
}

fn root() -> AccountRootSecret {
    AccountRootSecret(Secret::from_slice(&count(0x10)))
}

#[test]
fn labels() {
    let of = |label: &Label| {
        json!({
            "label": label.full(),
            "hash_of_abc": hex(hash(*label, &[b"a", b"bc"])),
            "kdf": hex(kdf::<48>(&count::<32>(1), &count::<24>(7), *label, b"context").as_slice()),
            "kdf_without_salt_and_context": hex(kdf::<32>(&count::<20>(1), b"", *label, b"").as_slice()),
        })
    };
    let vectors = json!({
        "ikm": hex(count::<32>(1)), "salt": hex(count::<24>(7)), "context": hex("context"),
        "short_ikm": hex(count::<20>(1)),
        "labels": Label::ALL.iter().map(of).collect::<Vec<_>>(),
    });
    holds("labels.json", &vectors);
}

#[test]
fn passwords() {
    let secret_key = SecretKey::from_bytes(&count(3)).to_text();
    let of = |server: &str, login: &str, password: &str, secret: Option<&str>| {
        let login_name = LoginName::new(login).unwrap();
        json!({
            "server_name": server, "login_name_typed": login, "password": password, "secret_key": secret,
            "login_name": login_name.as_str(),
            "input": hex(password_input(server, &login_name, password, secret).unwrap().as_slice()),
            "login_name_hash": hex(login_name_hash(server, login_name.as_str())),
        })
    };
    let vectors = json!([
        of("localhost:8040", "ana@example.org", "correct horse battery staple", None),
        of("localhost:8040", "ana@example.org", "correct horse battery staple", Some(&secret_key)),
        of("sync.example.org", "  Ana@Example.ORG ", "Ａｎａ ﬁne Å A\u{30a} ½", Some(&secret_key)),
        of("sync.example.org", "ΟΔΥΣΣΕΥΣ", "  spaces are kept  ", None),
        of("sync.example.org", "İstanbul", "\u{1f426}\u{200d}\u{2b1b} ａ\u{308}", None),
    ]);
    holds("password.json", &vectors);
}

#[test]
fn key_hierarchy() {
    let (root, user) = (root(), UserId(count(0x80)));
    let (export_key, recovery) = (ExportKey::for_tests(count(0x40)), RecoveryKey::from_bytes(&count(0xc0)));
    let device = DeviceKey::from_seed(&count(0x60));
    let generation = |number: u32| {
        let master = root.master_key(&user, number);
        let kem = master.user_kem(&user).public_key();
        let amk = hex(master.to_bytes().as_slice());
        json!({ "generation": number, "amk": amk, "user_kem_sha256": hex(sha256(&*kem)) })
    };
    let vectors = json!({
        "uid": hex(user.0),
        "ars": hex(count::<32>(0x10)),
        "identity_public_key": hex(root.identity().public_key().0),
        "master_keys": [generation(1), generation(2)],
        "export_key": hex(export_key.as_bytes()),
        "pw_gen": 3,
        "kek_password": hex(PasswordKek::derive(&export_key, &user, 3).key.as_bytes()),
        "recovery_key": hex(count::<20>(0xc0)),
        "rec_gen": 2,
        "kek_recovery": hex(RecoveryKek::derive(&recovery, &user, 2).key.as_bytes()),
        "recovery_sign_in_public_key": hex(recovery.sign_in_key(&user, 2).public_key().0),
        "device_seed": hex(device.seed().as_slice()),
        "device_public_key": hex(device.public_key().0),
        "did": hex(device.id().0),
        "device_proof": hex(device.proof_of_possession(&user).0),
    });
    holds("keys.json", &vectors);
}

#[test]
fn wraps_and_keybags() {
    let (kek, other_kek, user) =
        (Secret::from_slice(&count(0x20)), Secret::from_slice(&count(0x50)), UserId(count(0x80)));
    let (nonce, other_nonce) = (count(0xa0), count(0xe0));
    let by_password = wrap_with_nonce(&kek, Purpose::ROOT_BY_PASSWORD, &keybag::context(&user, 3), &root().0, &nonce);
    let by_recovery =
        wrap_with_nonce(&other_kek, Purpose::ROOT_BY_RECOVERY, &keybag::context(&user, 2), &root().0, &other_nonce);
    let bag = Keybag { pw_gen: 3, by_password, rec_gen: 2, by_recovery };
    let opened = Keybag::parse(&*bag.to_bytes()).unwrap();
    assert!(
        opened.open_with_password(&PasswordKek { generation: 3, key: Secret::from_slice(&count(0x20)) }, &user).is_ok()
    );
    let vectors = json!({
        "uid": hex(user.0), "secret": hex(count::<32>(0x10)),
        "password": { "kek": hex(kek.as_bytes()), "purpose": "ars/password", "generation": 3, "nonce": hex(nonce),
                      "context": hex(keybag::context(&user, 3)), "wrap": hex(by_password) },
        "recovery": { "kek": hex(other_kek.as_bytes()), "purpose": "ars/recovery", "generation": 2,
                      "nonce": hex(other_nonce), "context": hex(keybag::context(&user, 2)), "wrap": hex(by_recovery) },
        "keybag": hex(*bag.to_bytes()),
    });
    holds("keybag.json", &vectors);
}

#[test]
fn an_account_log() {
    let (root, phone, laptop) = (root(), DeviceKey::from_seed(&count(0x60)), DeviceKey::from_seed(&count(0x70)));
    let identity = root.identity();
    let payload = Payload::Genesis { identity: identity.public_key(), random: count(0xd0) };
    let genesis = Body { user: UserId([0; 32]), index: 0, previous: [0; 32], unix_ms: 1_790_000_000_000, payload };
    let mut entries: Vec<Entry> = vec![identity.sign_entry(genesis)];
    let mut log = AccountLog::begin(&entries[0]).unwrap();
    let user = log.user();
    let kem = |generation| Payload::UserKem {
        generation,
        public_key: root.master_key(&user, generation).user_kem(&user).public_key(),
    };
    let recovery = RecoveryKey::from_bytes(&count(0xc0)).sign_in_key(&user, 1).public_key();
    let mut chain = vec![hex(log.head().hash)];
    for payload in [
        phone.device_add(&user),
        kem(1),
        Payload::PasswordGeneration(1),
        Payload::LoginName(login_name_hash("localhost:8040", "ana@example.org")),
        Payload::RecoveryKey { generation: 1, public_key: recovery },
        laptop.device_add(&user),
        Payload::DeviceRevoke { device: phone.id() },
        kem(2),
    ] {
        let entry = identity.sign_entry(log.next(1_790_000_000_000 + log.next_index(), payload));
        log.append(&entry).unwrap();
        chain.push(hex(log.head().hash));
        entries.push(entry);
    }
    assert!(AccountLog::replay(entries.iter().map(Entry::as_bytes)).unwrap() == log);
    let vectors = json!({
        "uid": hex(user.0), "ars": hex(count::<32>(0x10)),
        "server_name": "localhost:8040", "login_name": "ana@example.org",
        "active_devices": [hex(laptop.id().0)], "kem_generation": 2, "password_generation": 1, "recovery_generation": 1,
        "entries": entries.iter().map(|entry| hex(entry.as_bytes())).collect::<Vec<_>>(),
        "chain": chain,
    });
    holds("account_log.json", &vectors);
}

#[test]
fn codes() {
    fn of(kind: &str, bits: usize, bytes: &[u8], text: &str) -> Value {
        json!({ "kind": kind, "bits": bits, "bytes": hex(bytes), "text": text })
    }
    let mut link = count(0x21);
    link[12] &= 0xf0;
    let vectors = json!([
        of("R1", 160, &count::<20>(0xc0), &RecoveryKey::from_bytes(&count(0xc0)).to_text()),
        of("R1", 160, &[0; 20], &RecoveryKey::from_bytes(&[0; 20]).to_text()),
        of("S1", 160, &count::<20>(0x03), &SecretKey::from_bytes(&count(0x03)).to_text()),
        of("S1", 160, &[0xff; 20], &SecretKey::from_bytes(&[0xff; 20]).to_text()),
        of("L1", 100, &link, &LinkSecret::from_bytes(&link).to_text()),
    ]);
    holds("codes.json", &vectors);
}

#[test]
fn device_names_and_tokens() {
    let (master, device, nonce) = (AccountMasterKey::from_bytes(1, &count(0x30)), DeviceId(count(0x90)), count(0xa0));
    let label = |name: &str| {
        let sealed = master.seal_label_with_nonce(&device, name, &nonce);
        json!({ "name": name, "opens_as": master.open_label(&device, &sealed).unwrap(), "sealed": hex(*sealed) })
    };
    let tokens = Tokens {
        access_token: "eyJ0eXAi.eyJpc3Mi.c2ln".into(),
        expires_in: 900,
        refresh_token: RefreshTokenBytes::from(count(0x01)),
        session: SessionId(count(0x02)),
        scope: Scope::Full,
        account: AccountState::Active,
        uid: Some(UserId(count(0x80))),
    };
    let (session_key, login) = (SessionKey::for_tests(count(0x40)), LoginId(count(0xb0)));
    let local = LocalKey::from_bytes(&count(0x15));
    let vectors = json!({
        "amk": hex(count::<32>(0x30)), "did": hex(device.0), "nonce": hex(nonce),
        "labels": [label("Ana's laptop"), label(""), label(&"ä".repeat(40))],
        "session_key": hex(session_key.as_bytes()), "login_id": hex(login.0),
        "tokens": tokens, "sealed_tokens": hex(token::seal(&session_key, &login, &tokens)),
        "local_key": hex(local.to_bytes().as_slice()), "local_context": hex("ana"), "local_plain": hex("secrets"),
        "local_sealed": hex(local.seal_with_nonce(b"ana", b"secrets", &nonce)),
    });
    holds("sealed.json", &vectors);
}

#[test]
fn links() {
    let mut secret = count(0x21);
    secret[12] &= 0xf0;
    let link = LinkSecret::from_bytes(&secret);
    let user = UserId(count(0x80));
    let device = DeviceKey::from_seed(&count(0x60));
    let offer = LinkOffer {
        server_name: "localhost:8040".into(),
        tenant: Some("home".into()),
        uid: user,
        login_name: "ana@example.org".into(),
        log_head: Pin { index: 5, hash: count(0x11) }.into(),
    };
    let grant = LinkGrant {
        server_name: offer.server_name.clone(),
        tenant: None,
        login_name: offer.login_name.clone(),
        amk: (&AccountMasterKey::from_bytes(1, &count(0x30))).into(),
        amk_gen: 1,
        secret_key: Some(SecretKey::from_bytes(&count(0x03)).to_text().as_str().into()),
        log_head: Pin { index: 6, hash: count(0x12) }.into(),
    };
    fn of<M: LinkMessage>(link: &LinkSecret, part: u8, nonce: [u8; 24], message: &M) -> Value {
        let sealed = link.seal_with_nonce(message, &nonce).unwrap();
        assert!(link.open::<M>(&sealed).is_ok());
        json!({
            "part": part, "nonce": hex(nonce), "content": message, "cbor": hex(Face::Cbor.encode(message)),
            "sealed": hex(sealed),
        })
    }
    let vectors = json!({
        "secret": hex(secret), "code": *link.to_text(), "channel": hex(link.channel().0),
        "parts": [
            of(&link, 1, count(0xa1), &offer),
            of(&link, 2, count(0xa2), &LinkHello::new(&device, &user, "phone")),
            of(&link, 3, count(0xa3), &grant),
        ],
    });
    holds("link.json", &vectors);
}

#[test]
fn numbers_to_compare() {
    let (ana, bob) = (UserId(count(0x80)), UserId(count(0x81)));
    let vectors = json!({
        "uids": [hex(ana.0), hex(bob.0)], "safety_number": safety_number(&ana, &bob),
        "head": hex(count::<32>(0x11)), "state_code": state_code(&count(0x11)),
    });
    holds("compare.json", &vectors);
}

#[test]
fn a_secret_sealed_to_a_person() {
    let (user, info, secret) = (UserId(count(0x80)), b"selkie/v1/test", count::<32>(0x05));
    let kem = AccountMasterKey::from_bytes(1, &count(0x30)).user_kem(&user);
    let sealed = kem::seal_with_randomness(&kem.public_key(), info, b"", &secret, &count(0x77)).unwrap();
    let vectors = json!({
        "uid": hex(user.0), "amk": hex(count::<32>(0x30)), "generation": 1, "public_key": hex(*kem.public_key()),
        "info": hex(info), "aad": "", "secret": hex(secret), "sealed": hex(sealed),
    });
    holds("kem.json", &vectors);
    assert_eq!(kem.hpke_open(info, b"", &from_hex(&vectors["sealed"])).unwrap().as_slice(), secret);
}
