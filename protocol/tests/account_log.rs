//! The account log from outside: what it takes, what it refuses, and that a refusal changes nothing.

use proptest::prelude::*;
use selkie_protocol::account_log::{
    AccountLog, Body, Entry, Extends, HEADER_LENGTH, MAX_ENTRY_LENGTH, Malformed, Payload, Pin, Refusal, device_id,
    login_name_hash,
};
use selkie_protocol::cipher::{AccountRootSecret, DeviceKey, IdentityKey, RecoveryKey};
use selkie_protocol::hash::Label;
use selkie_protocol::id::{DeviceId, UserId};
use selkie_protocol::sign::{PublicKey, Signature};

/// A person with an identity, a log and the entries it was made of.
struct Person {
    root: AccountRootSecret,
    identity: IdentityKey,
    entries: Vec<Entry>,
    log: AccountLog,
}

impl Person {
    fn new() -> Self {
        let root = AccountRootSecret::generate();
        let identity = root.identity();
        let genesis = identity.sign_genesis(1_000);
        let log = AccountLog::begin(&genesis).unwrap();
        Person { root, identity, entries: vec![genesis], log }
    }

    /// With everything a sign-up writes.
    fn signed_up() -> (Self, DeviceKey) {
        let mut person = Self::new();
        let (device, user) = (DeviceKey::generate(), person.log.user());
        person.says(device.device_add(&user)).unwrap();
        person.says(person.user_kem(1)).unwrap();
        person.says(Payload::PasswordGeneration(1)).unwrap();
        person.says(Payload::LoginName(login_name_hash("localhost", "ana"))).unwrap();
        let recovery = RecoveryKey::generate().sign_in_key(&user, 1).public_key();
        person.says(Payload::RecoveryKey { generation: 1, public_key: recovery }).unwrap();
        (person, device)
    }

    fn next(&self, payload: Payload) -> Body {
        self.log.next(2_000, payload)
    }

    fn says(&mut self, payload: Payload) -> Result<(), Refusal> {
        let entry = self.identity.sign_entry(self.next(payload));
        self.log.append(&entry)?;
        self.entries.push(entry);
        Ok(())
    }

    fn user_kem(&self, generation: u32) -> Payload {
        let user = self.log.user();
        let public_key = self.root.master_key(&user, generation).user_kem(&user).public_key();
        Payload::UserKem { generation, public_key }
    }

    fn bytes(&self) -> Vec<&[u8]> {
        self.entries.iter().map(Entry::as_bytes).collect()
    }

    /// Offers an entry that must be refused for this reason, and sees that the log is as it was.
    #[track_caller]
    fn refuses(&self, entry: &Entry, reason: Refusal) {
        let mut log = self.log.clone();
        assert_eq!(log.append(entry), Err(reason));
        assert!(log == self.log, "a refusal changed the log");
        let mut bytes = self.bytes();
        bytes.push(entry.as_bytes());
        assert_eq!(AccountLog::replay(bytes).unwrap_err(), reason);
    }

    /// The same for an entry that is rightly signed and chained, and says this.
    #[track_caller]
    fn refuses_to_say(&self, payload: Payload, reason: Refusal) {
        self.refuses(&self.identity.sign_entry(self.next(payload)), reason);
    }
}

#[test]
fn a_sign_up_is_six_entries_and_says_what_it_says() {
    let (ana, device) = Person::signed_up();
    let log = AccountLog::replay(ana.bytes()).unwrap();
    assert!(log == ana.log);
    assert_eq!(log.next_index(), 6);
    assert_eq!(log.identity(), ana.identity.public_key());
    assert_eq!(log.active_device(&device.id()).unwrap().key, device.public_key());
    assert_eq!(log.devices().count(), 1);
    assert_eq!(log.kem().unwrap().0, 1);
    assert_eq!(log.password_generation(), 1);
    assert_eq!(log.login_name(), Some(login_name_hash("localhost", "ana")));
    assert_eq!(log.recovery().unwrap().0, 1);
}

#[test]
fn two_accounts_of_one_key_are_two_people() {
    let identity = AccountRootSecret::generate().identity();
    let user = || AccountLog::begin(&identity.sign_genesis(0)).unwrap().user();
    assert_ne!(user(), user(), "the genesis has a random part");
}

#[test]
fn an_empty_log_is_none() {
    assert_eq!(AccountLog::replay([]).unwrap_err(), Refusal::Empty);
}

#[test]
fn a_log_begins_with_a_genesis_and_has_one() {
    let (ana, _) = Person::signed_up();
    assert_eq!(AccountLog::begin(&ana.entries[1]).unwrap_err(), Refusal::NoGenesis);
    ana.refuses_to_say(ana.entries[0].body.payload.clone(), Refusal::SecondGenesis);
}

#[test]
fn a_genesis_with_a_past_is_refused() {
    let identity = AccountRootSecret::generate().identity();
    let good = identity.sign_genesis(0).body;
    for (body, reason) in [
        (Body { index: 1, ..good.clone() }, Refusal::WrongIndex),
        (Body { previous: [1; 32], ..good.clone() }, Refusal::WrongPrevious),
        (Body { user: UserId([1; 32]), ..good.clone() }, Refusal::OtherUser),
    ] {
        assert_eq!(AccountLog::begin(&identity.sign_entry(body)).unwrap_err(), reason);
    }
    let stranger = AccountRootSecret::generate().identity();
    assert_eq!(AccountLog::begin(&stranger.sign_entry(good)).unwrap_err(), Refusal::WrongSignature);
}

#[test]
fn entries_stand_in_their_order_and_in_their_own_log() {
    let (ana, _) = Person::signed_up();
    let (bob, _) = Person::signed_up();
    let next = || ana.next(Payload::PasswordGeneration(2));
    let sign = |body| ana.identity.sign_entry(body);
    for index in [5, 7, u64::MAX] {
        ana.refuses(&sign(Body { index, ..next() }), Refusal::WrongIndex);
    }
    ana.refuses(&sign(Body { user: bob.log.user(), ..next() }), Refusal::OtherUser);
    ana.refuses(&sign(Body { previous: bob.log.head().hash, ..next() }), Refusal::WrongPrevious);
    ana.refuses(ana.entries.last().unwrap(), Refusal::WrongIndex);
    let mut swapped = ana.bytes();
    swapped.swap(3, 4);
    assert_eq!(AccountLog::replay(swapped).unwrap_err(), Refusal::WrongIndex);
}

#[test]
fn nobody_else_can_sign_an_entry() {
    let (ana, device) = Person::signed_up();
    let body = || ana.next(Payload::PasswordGeneration(2));
    let stranger = AccountRootSecret::generate().identity();
    ana.refuses(&stranger.sign_entry(body()), Refusal::WrongSignature);
    // Not even a certified device, which does not have the root secret.
    let by_device = device.sign(Label::ACCOUNT_ENTRY, &[&body().to_bytes()]);
    ana.refuses(&body().signed(by_device), Refusal::WrongSignature);
    ana.refuses(&body().signed(Signature([0; 64])), Refusal::WrongSignature);
}

#[test]
fn a_device_is_added_only_with_its_consent_and_under_its_own_name() {
    let (mut ana, _) = Person::signed_up();
    let (bob, _) = Person::signed_up();
    let (phone, other) = (DeviceKey::generate(), DeviceKey::generate());
    let user = ana.log.user();
    let add = |name: DeviceId, key, proof| Payload::DeviceAdd { device: name, key, proof };
    let consent = phone.proof_of_possession(&user);

    ana.refuses_to_say(add(other.id(), phone.public_key(), consent), Refusal::DeviceIdMismatch);
    let by_another = other.proof_of_possession(&user);
    ana.refuses_to_say(add(phone.id(), phone.public_key(), by_another), Refusal::WrongDeviceProof);
    let for_another = phone.proof_of_possession(&bob.log.user());
    ana.refuses_to_say(add(phone.id(), phone.public_key(), for_another), Refusal::WrongDeviceProof);
    // A key of small order would take this for a signature of anything.
    let (mut neutral, mut anything) = ([0; 32], [0; 64]);
    (neutral[0], anything[0]) = (1, 1);
    let (neutral, anything) = (PublicKey(neutral), Signature(anything));
    ana.refuses_to_say(add(device_id(&neutral), neutral, anything), Refusal::WrongDeviceProof);

    ana.says(phone.device_add(&user)).unwrap();
    ana.refuses_to_say(phone.device_add(&user), Refusal::DeviceKnown);
}

#[test]
fn a_revoked_device_is_gone_for_good() {
    let (mut ana, device) = Person::signed_up();
    ana.says(Payload::DeviceRevoke { device: device.id() }).unwrap();
    assert!(ana.log.active_device(&device.id()).is_none());
    let (_, known) = ana.log.devices().next().unwrap();
    assert_eq!((known.added_at, known.revoked_at), (1, Some(6)));

    ana.refuses_to_say(Payload::DeviceRevoke { device: device.id() }, Refusal::DeviceUnknown);
    ana.refuses_to_say(Payload::DeviceRevoke { device: DeviceId([9; 16]) }, Refusal::DeviceUnknown);
    ana.refuses_to_say(device.device_add(&ana.log.user()), Refusal::DeviceKnown);
}

#[test]
fn generations_go_up_by_one() {
    let (mut ana, _) = Person::signed_up();
    let public_key = ana.log.recovery().unwrap().1;
    for generation in [0, 1, 3, u32::MAX] {
        ana.refuses_to_say(Payload::PasswordGeneration(generation), Refusal::WrongGeneration);
        ana.refuses_to_say(Payload::RecoveryKey { generation, public_key }, Refusal::WrongGeneration);
        let kem = Payload::UserKem { generation, public_key: Box::new([0; 1216]) };
        ana.refuses_to_say(kem, Refusal::WrongGeneration);
    }
    ana.says(ana.user_kem(2)).unwrap();
    ana.says(Payload::PasswordGeneration(2)).unwrap();
    ana.says(Payload::RecoveryKey { generation: 2, public_key }).unwrap();
    assert_eq!((ana.log.kem().unwrap().0, ana.log.password_generation(), ana.log.recovery().unwrap().0), (2, 2, 2));
}

#[test]
fn malformed_bytes_in_a_log_are_a_refusal() {
    let (ana, _) = Person::signed_up();
    for bytes in [b"nonsense".as_slice(), b"", &[1; 2_000]] {
        let refusal = AccountLog::replay([ana.entries[0].as_bytes(), bytes]).unwrap_err();
        assert!(matches!(refusal, Refusal::Malformed(Malformed(_))));
    }
}

#[test]
fn whoever_holds_a_pin_sees_a_rollback_and_a_fork() {
    let (mut ana, _) = Person::signed_up();
    let before = ana.log.head();
    let old = ana.log.clone();
    assert_eq!(old.extends(&before), Extends::Yes);

    let mut other = ana.log.clone();
    let at_another_time = ana.log.next(3_000, Payload::PasswordGeneration(2));
    other.append(&ana.identity.sign_entry(at_another_time)).unwrap();
    ana.says(Payload::PasswordGeneration(2)).unwrap();

    assert_eq!(ana.log.extends(&before), Extends::Yes, "a longer log of the same past");
    assert_eq!(old.extends(&ana.log.head()), Extends::Shorter);
    assert_eq!(other.extends(&ana.log.head()), Extends::Forked);
    assert_eq!(ana.log.extends(&Pin { index: u64::MAX, hash: [0; 32] }), Extends::Shorter);
    assert_eq!(Person::new().log.extends(&Pin { index: 0, ..before }), Extends::Forked);
}

#[test]
fn an_entry_is_the_bytes_it_came_as() {
    let (ana, _) = Person::signed_up();
    for entry in &ana.entries {
        let parsed = Entry::parse(entry.as_bytes()).unwrap();
        assert_eq!(&parsed, entry);
        assert_eq!(parsed.body.to_bytes(), entry.as_bytes()[..entry.as_bytes().len() - 64]);
    }
}

#[test]
fn every_entry_cut_short_or_drawn_out_is_refused() {
    let (ana, device) = Person::signed_up();
    let revoke = ana.identity.sign_entry(ana.next(Payload::DeviceRevoke { device: device.id() }));
    for entry in ana.entries.iter().chain([&revoke]) {
        let bytes = entry.as_bytes();
        for length in 0..bytes.len() {
            assert!(Entry::parse(&bytes[..length]).is_err(), "{:?} at {length}", entry.body.payload);
        }
        for tail in [1, 4, 64, 2_000] {
            assert!(Entry::parse(&[bytes, &vec![0; tail]].concat()).is_err());
        }
        // A payload that claims another length shifts what is taken for the signature, or leaves bytes over.
        let length = u16::from_be_bytes(bytes[HEADER_LENGTH - 2..HEADER_LENGTH].try_into().unwrap());
        for claimed in [0, length - 1, length + 1, length + 64, u16::MAX] {
            let mut bent = bytes.to_vec();
            bent[HEADER_LENGTH - 2..HEADER_LENGTH].copy_from_slice(&claimed.to_be_bytes());
            assert!(Entry::parse(&bent).is_err(), "{claimed}");
        }
    }
}

#[test]
fn versions_suites_and_types_of_another_world_are_refused() {
    let (ana, _) = Person::signed_up();
    for (at, why) in [(0, "unknown version"), (1, "unknown suite"), (2, "unknown type")] {
        for value in [0xff, 0x80, 7] {
            let mut bytes = ana.entries[0].as_bytes().to_vec();
            bytes[at] = value;
            assert_eq!(Entry::parse(&bytes), Err(Malformed(why)));
        }
    }
    assert_eq!(Entry::parse(&[0; MAX_ENTRY_LENGTH + 1]), Err(Malformed("too long")));
}

#[test]
fn every_flipped_bit_of_an_entry_is_refused() {
    let (ana, device) = Person::signed_up();
    let add = ana.identity.sign_entry(ana.next(DeviceKey::generate().device_add(&ana.log.user())));
    let revoke = ana.identity.sign_entry(ana.next(Payload::DeviceRevoke { device: device.id() }));
    for (what, bytes) in [("add", add.as_bytes()), ("revoke", revoke.as_bytes())] {
        for bit in 0..bytes.len() * 8 {
            let mut bent = bytes.to_vec();
            bent[bit / 8] ^= 1 << (bit % 8);
            let taken = Entry::parse(&bent).is_ok_and(|entry| ana.log.clone().append(&entry).is_ok());
            assert!(!taken, "{what}, bit {bit}");
        }
    }
    let genesis = ana.entries[0].as_bytes();
    for bit in 0..genesis.len() * 8 {
        let mut bent = genesis.to_vec();
        bent[bit / 8] ^= 1 << (bit % 8);
        let taken = Entry::parse(&bent).is_ok_and(|entry| AccountLog::begin(&entry).is_ok());
        assert!(!taken, "genesis, bit {bit}");
    }
}

#[test]
fn a_log_shows_neither_keys_nor_names() {
    let (ana, _) = Person::signed_up();
    let shown = format!("{:?} {:?}", ana.log, ana.entries[4].body.payload);
    assert!(
        shown.starts_with("AccountLog { user: UserId(") && shown.ends_with("devices: 1, .. } LoginName"),
        "{shown}"
    );
}

fn any_payload() -> impl Strategy<Value = Payload> {
    prop_oneof![
        any::<([u8; 32], [u8; 16])>().prop_map(|(key, random)| Payload::Genesis { identity: PublicKey(key), random }),
        any::<([u8; 16], [u8; 32], [[u8; 32]; 2])>().prop_map(|(device, key, proof)| Payload::DeviceAdd {
            device: DeviceId(device),
            key: PublicKey(key),
            proof: Signature(proof.concat().try_into().unwrap()),
        }),
        any::<[u8; 16]>().prop_map(|device| Payload::DeviceRevoke { device: DeviceId(device) }),
        any::<(u32, u8)>()
            .prop_map(|(generation, fill)| Payload::UserKem { generation, public_key: Box::new([fill; 1216]) }),
        any::<u32>().prop_map(Payload::PasswordGeneration),
        any::<[u8; 32]>().prop_map(Payload::LoginName),
        any::<(u32, [u8; 32])>()
            .prop_map(|(generation, key)| Payload::RecoveryKey { generation, public_key: PublicKey(key) }),
    ]
}

proptest! {
    #[test]
    fn any_body_survives_being_written_and_read(
        user: [u8; 32], index: u64, previous: [u8; 32], unix_ms: u64, payload in any_payload(),
    ) {
        let body = Body { user: UserId(user), index, previous, unix_ms, payload };
        let entry = body.signed(Signature([7; 64]));
        prop_assert_eq!(&Entry::parse(entry.as_bytes()).unwrap(), &entry);
    }

    #[test]
    fn whatever_parses_is_written_the_same(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..400), kind in 0_u8..8,
    ) {
        // Headers that are half right, so that some get past the first checks.
        let length = [48, 112, 16, 1220, 4, 32, 36, 0][usize::from(kind)];
        if let Some(header) = bytes.first_chunk_mut::<HEADER_LENGTH>() {
            header[..3].copy_from_slice(&[1, 1, kind]);
            header[HEADER_LENGTH - 2..].copy_from_slice(&u16::to_be_bytes(length));
            bytes.truncate(HEADER_LENGTH + usize::from(length) + 64);
        }
        if let Ok(entry) = Entry::parse(&bytes) {
            prop_assert_eq!(entry.as_bytes(), &bytes[..]);
            prop_assert_eq!(entry.body.to_bytes(), &bytes[..bytes.len() - 64]);
        }
    }
}
