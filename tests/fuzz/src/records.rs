//! What is inside of records, and the seals around them and around keys.

use crate::script::Script;
use selkie_client::{Content, RecordBody, Value};
use selkie_protocol::Face;
use selkie_protocol::cipher::{
    AccountMasterKey, EpochKey, Keybag, LocalKey, RecordContext, RecordKey, RecoveryKek, RecoveryKey, UserKem,
    hpke_seal,
};
use selkie_protocol::hash::Label;
use selkie_protocol::id::{ChangeId, DeviceId, RecordId, UserId, VaultId};
use selkie_protocol::log::MAX_PAYLOAD;
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
    match mode % 5 {
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
        _ => assert!(LocalKey::from_bytes(&[9; 32]).open(b"here", script.0).is_err()),
    }
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

pub(crate) fn keybag(bytes: &[u8]) {
    static KEK: LazyLock<RecoveryKek> = LazyLock::new(|| RecoveryKek::derive(&RecoveryKey::generate(), &ANA, 1));
    crate::decoders::keybag(bytes);
    if let Ok(bag) = Keybag::parse(bytes) {
        assert!(bag.open_with_recovery(&KEK, &ANA).is_err(), "nobody else has the key");
    }
}
