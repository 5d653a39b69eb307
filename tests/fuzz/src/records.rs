//! What is inside of records, and the seals around them and around keys.

use crate::decoders::seal_by_hand;
use crate::script::Script;
use chacha20poly1305::aead::{Aead as _, KeyInit as _};
use chacha20poly1305::{ChaCha20Poly1305, Nonce};
use selkie_client::{Content, RecordBody, Value};
use selkie_protocol::Face;
use selkie_protocol::cipher::{
    AccountMasterKey, AccountRootSecret, EpochKey, Keybag, LocalKey, RecordContext, RecordKey, RecoveryKek,
    RecoveryKey, UserKem, hpke_seal, kdf, token,
};
use selkie_protocol::hash::Label;
use selkie_protocol::id::{ChangeId, DeviceId, LoginId, RecordId, UserId, VaultId};
use selkie_protocol::log::MAX_PAYLOAD;
use selkie_protocol::opaque::{LoginStarted, Refused, RegistrationStarted, ServerSetup, SessionKey};
use selkie_protocol::session::{DEVICE_LABEL_LENGTH, DeviceLabelBytes, KEYBAG_LENGTH, Tokens};
use std::sync::LazyLock;

const ANA: UserId = UserId([1; 32]);
const PHONE: DeviceId = DeviceId([2; 16]);
const VAULT: VaultId = VaultId([3; 32]);

pub(crate) fn content(bytes: &[u8]) {
    if let Ok(body) = RecordBody::from_bytes(bytes) {
        assert_eq!(RecordBody::from_bytes(&body.to_bytes()).as_ref(), Ok(&body));
        content_of(&body.data);
    }
    content_of(bytes);
    if let Ok(value) = Face::Cbor.decode::<Value>(bytes) {
        let again = Face::Cbor.try_encode(&value).expect("what was read can be written");
        assert_eq!(Face::Cbor.decode::<Value>(&again).as_ref(), Ok(&value));
        plain(&value);
    }
    if let Ok(json) = serde_json::from_slice::<serde_json::Value>(bytes) {
        plain(&Value::from_json(&json));
    }
}

fn content_of(bytes: &[u8]) {
    let Some(content) = Content::from_bytes(bytes) else { return };
    let again = content.to_bytes().expect("what was read can be written");
    assert_eq!(Content::from_bytes(&again).as_ref(), Some(&content));
}

/// JSON has no word for some values; what it has come of them is the same ever after.
fn plain(value: &Value) {
    let once = Value::from_json(&value.to_json());
    assert_eq!(Value::from_json(&once.to_json()), once);
}

/// The first byte says what is opened or sealed.
pub(crate) fn seals(bytes: &[u8]) {
    static EPOCH: LazyLock<EpochKey> =
        LazyLock::new(|| EpochKey::uncommitted(VAULT, 1, &[7; 32]).expect("epochs count from 1"));
    static KEY: LazyLock<RecordKey> = LazyLock::new(|| EPOCH.record_key());
    static KEM: LazyLock<UserKem> = LazyLock::new(|| AccountMasterKey::from_bytes(1, &[8; 32]).user_kem(&ANA));
    let mut script = Script(bytes);
    let mode = script.byte();
    match mode % 7 {
        0 => {
            let context = context(&mut script);
            assert!(KEY.open(&context, script.0).is_err(), "nobody else has the key");
        }
        1 => {
            let context = context(&mut script);
            let (at, bit) = (script.byte(), script.byte());
            let Ok(mut payload) = KEY.seal(&context, script.0) else {
                assert!(!RecordKey::fits(script.0.len()));
                return;
            };
            assert!(RecordKey::fits(script.0.len()) && payload.len() <= MAX_PAYLOAD);
            assert_eq!(KEY.open(&context, &payload).expect("what we sealed").as_slice(), script.0);
            let at = usize::from(at) * payload.len() / 256;
            payload[at] ^= 1 << (bit % 8);
            assert!(KEY.open(&context, &payload).is_err(), "one bit makes it another");
        }
        // A member may seal whatever they like to another, in place of a key.
        2 => {
            let commitment = EPOCH.commitment();
            let bound =
                [VAULT.as_bytes(), &1_u32.to_be_bytes(), ANA.as_bytes(), &KEM.generation().to_be_bytes(), &commitment];
            let info = Label::EPOCH_WRAP.full();
            let sealed = hpke_seal(&KEM.public_key(), info.as_bytes(), &bound.concat(), script.0).expect("a good key");
            let opened = EpochKey::open(VAULT, 1, &ANA, &KEM, &sealed, &commitment);
            let is_the_key = script.0 == EPOCH.to_bytes().as_slice();
            assert_eq!(opened.is_ok(), is_the_key, "it is the key that the log commits to, or none");
        }
        3 => assert!(EpochKey::open(VAULT, 1, &ANA, &KEM, script.0, &EPOCH.commitment()).is_err()),
        4 => assert!(LocalKey::from_bytes(&[9; 32]).open(b"here", script.0).is_err()),
        5 => label(script.0),
        _ => tokens(script.0),
    }
}

/// A device's name, as another device of the same person may seal it.
fn label(bytes: &[u8]) {
    const AMK: [u8; 32] = [8; 32];
    let mut plain = bytes.to_vec();
    plain.resize(DEVICE_LABEL_LENGTH - 24 - 16, 0);
    let key = kdf::<32>(&AMK, b"", Label::DEVICE_LABEL, PHONE.as_bytes());
    let sealed = seal_by_hand(&key, PHONE.as_bytes(), &plain);
    let sealed = DeviceLabelBytes::try_from_slice(&sealed).expect("labels are of one length");
    let opened = AccountMasterKey::from_bytes(1, &AMK).open_label(&PHONE, &sealed).ok();
    let name = plain[1..].split_at_checked(usize::from(plain[0]));
    let name = name.filter(|(_, padding)| padding.iter().all(|byte| *byte == 0));
    assert_eq!(opened.as_deref(), name.and_then(|(name, _)| std::str::from_utf8(name).ok()));
}

/// What a server says in place of the tokens of a sign-in.
fn tokens(bytes: &[u8]) {
    static SESSION: LazyLock<SessionKey> = LazyLock::new(|| session().expect("the password is right"));
    let login = LoginId([5; LoginId::LENGTH]);
    assert!(token::open(&SESSION, &login, bytes).is_err(), "nobody else has the key");
    let key = kdf::<32>(SESSION.as_bytes(), b"", Label::TOKEN_WRAP, login.as_bytes());
    let sealed = ChaCha20Poly1305::new((&*key).into()).encrypt(&Nonce::from([0; 12]), bytes);
    let opened = token::open(&SESSION, &login, &sealed.expect("an input is short")).ok();
    assert_eq!(opened, Face::Cbor.decode::<Tokens>(bytes).ok());
}

/// The key of a sign-in, which only a sign-in makes. It takes a third of a second, once.
fn session() -> Result<SessionKey, Refused> {
    const PASSWORD: &[u8] = b"seven silver swans";
    let (server, credential) = (ServerSetup::generate(), ANA.as_bytes());
    let registration = RegistrationStarted::new(PASSWORD)?;
    let response = server.registration_response(&registration.request, credential)?;
    let record = registration.finish(PASSWORD, &response)?.record;
    let login = LoginStarted::new(PASSWORD)?;
    let (_, ke2) = server.login_response(Some(record.as_slice()), &login.ke1, credential)?;
    Ok(login.finish(PASSWORD, &ke2)?.session_key)
}

fn context(script: &mut Script<'_>) -> RecordContext {
    RecordContext {
        user: ANA,
        device: PHONE,
        dev_seq: u64::from(script.byte()),
        index: u16::from(script.byte()),
        record: RecordId([script.byte(); 16]),
        full: script.flag(),
        deps: (0..script.below(17)).map(|number| ChangeId([number as u8; 32])).collect(),
    }
}

/// A keybag; and, as a script, what a server that cannot open ours does to it: a generation, then which bytes it
/// bends. Under its wraps are keys of one length, of which every one is good: there are no contents to bend.
pub(crate) fn keybag(bytes: &[u8]) {
    static ROOT: LazyLock<AccountRootSecret> = LazyLock::new(AccountRootSecret::generate);
    static KEY: LazyLock<RecoveryKey> = LazyLock::new(RecoveryKey::generate);
    static BY_ANOTHER: LazyLock<Keybag> =
        LazyLock::new(|| Keybag::parse(&crate::seeds("keybag")[0]).expect("the one of the known answers"));
    let kek = |generation| RecoveryKek::derive(&KEY, &ANA, generation);
    crate::decoders::keybag(bytes);
    if let Ok(bag) = Keybag::parse(bytes) {
        assert!(bag.open_with_recovery(&kek(bag.rec_gen()), &ANA).is_err(), "nobody else has the key");
    }

    let mut script = Script(bytes);
    let generation = u32::from_be_bytes([script.byte(), script.byte(), script.byte(), script.byte()]);
    let ours = BY_ANOTHER.with_recovery(&ROOT, &kek(generation), &ANA).to_bytes();
    let mut bent = ours;
    while !script.is_over() {
        let (at, mask) = (script.below(KEYBAG_LENGTH), script.byte());
        bent.0[at] ^= mask;
    }
    // The password's half is not covered by the recovery key.
    let recovery = 1 + (KEYBAG_LENGTH - 1) / 2;
    let is_ours = bent[0] == ours[0] && bent[recovery..] == ours[recovery..];
    let opened = Keybag::parse(&bent[..]).and_then(|bag| bag.open_with_recovery(&kek(bag.rec_gen()), &ANA));
    assert_eq!(opened.is_ok(), is_ours, "it is what we sealed, or nothing");
    if let Ok(root) = opened {
        assert_eq!(root.identity().public_key(), ROOT.identity().public_key());
    }
}
