//! No bytes from outside make a decoder panic, hang or take memory they did not bring.
//!
//! Inputs are genuine ones, damaged: they get past the first checks, which noise never does.

mod decoders;
mod messages;

use messages::Visit;
use proptest::prelude::*;
use selkie_protocol::Face;
use selkie_protocol::cipher::{LinkSecret, RecoveryKey, SecretKey};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::sync::LazyLock;

/// Every sample message in both faces.
static SAMPLES: LazyLock<Vec<(Face, Vec<u8>)>> = LazyLock::new(|| {
    struct Collect(Vec<(Face, Vec<u8>)>);
    impl Visit for Collect {
        fn message<T: Serialize + DeserializeOwned + PartialEq + Debug>(&mut self, _: &str, message: T) {
            self.0.extend([Face::Cbor, Face::Json].map(|face| (face, face.encode(&message))));
        }
    }
    let mut samples = Collect(Vec::new());
    messages::each(&mut samples);
    samples.0
});

/// One way to damage bytes; positions are taken modulo the length.
#[derive(Clone, Debug)]
enum Damage {
    Flip(usize, u8),
    Set(usize, u8),
    Cut(usize),
    Insert(usize, Vec<u8>),
    Remove(usize, usize),
    Repeat(usize, usize),
}

/// Bytes that mean something to one of the decoders: lengths, openings, endings, numbers at their limits.
const MEANINGFUL: [&[u8]; 12] = [
    &[0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    &[0x9b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    &[0xbf],
    &[0x9f],
    &[0xff],
    &[0xf6],
    &[0xc2, 0x41, 1],
    &[0x1b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    b"{\"a\":[",
    b"\\u0000\\ud800",
    b"1e400",
    b"\"\"",
];

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        any::<(usize, u8)>().prop_map(|(at, bit)| Damage::Flip(at, bit % 8)),
        any::<(usize, u8)>().prop_map(|(at, value)| Damage::Set(at, value)),
        any::<usize>().prop_map(Damage::Cut),
        (any::<usize>(), 0..MEANINGFUL.len()).prop_map(|(at, which)| Damage::Insert(at, MEANINGFUL[which].to_vec())),
        (any::<usize>(), proptest::collection::vec(any::<u8>(), 0..8))
            .prop_map(|(at, noise)| Damage::Insert(at, noise)),
        (any::<usize>(), 0..40_usize).prop_map(|(at, count)| Damage::Remove(at, count)),
        (any::<usize>(), 0..40_usize).prop_map(|(at, count)| Damage::Repeat(at, count)),
    ]
}

fn damaged(bytes: &[u8], by: &[Damage]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for damage in by {
        let length = bytes.len();
        let within = |at: &usize| at % length.max(1);
        let up_to = |at: usize, count: &usize| (at + count).min(length);
        match damage {
            Damage::Flip(at, bit) if length > 0 => bytes[within(at)] ^= 1 << bit,
            Damage::Set(at, value) if length > 0 => bytes[within(at)] = *value,
            Damage::Flip(..) | Damage::Set(..) => {}
            Damage::Cut(at) => bytes.truncate(within(at)),
            Damage::Insert(at, what) => drop(bytes.splice(within(at)..within(at), what.iter().copied())),
            Damage::Remove(at, count) => drop(bytes.drain(within(at)..up_to(within(at), count))),
            Damage::Repeat(at, count) => bytes.extend_from_within(within(at)..up_to(within(at), count)),
        }
    }
    bytes
}

fn some_damage() -> impl Strategy<Value = Vec<Damage>> {
    proptest::collection::vec(damage(), 0..4)
}

proptest! {
    #[test]
    fn a_message_taken_for_another_is_read_or_refused(choice: u8, by in some_damage(), first in 0..7_usize) {
        for (face, bytes) in SAMPLES.iter().skip(first).step_by(7) {
            let choice = choice & !1 | u8::from(*face == Face::Json);
            decoders::message(&[&[choice], damaged(bytes, &by).as_slice()].concat());
        }
    }

    #[test]
    fn a_damaged_message_is_read_or_refused(by in some_damage()) {
        struct Damaged<'a>(&'a [Damage]);
        impl Visit for Damaged<'_> {
            fn message<T: Serialize + DeserializeOwned + PartialEq + Debug>(&mut self, name: &str, message: T) {
                for face in [Face::Cbor, Face::Json] {
                    let bytes = damaged(&face.encode(&message), self.0);
                    if let Ok(read) = face.decode::<T>(&bytes) {
                        assert_eq!(face.decode::<T>(&face.encode(&read)).unwrap(), read, "{name}");
                    }
                }
            }
        }
        messages::each(&mut Damaged(&by));
    }

    #[test]
    fn a_damaged_account_log_is_read_or_refused(genuine in 0_u8..9, by in some_damage()) {
        let next = decoders::genuine_log().swap_remove(usize::from(genuine));
        let bytes = damaged(&next, &by);
        let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
        decoders::account_log(&[&[genuine], &length[..], &bytes].concat());
        decoders::account_log(&damaged(&[&[genuine], &length[..], &bytes].concat(), &by));
    }

    #[test]
    fn a_damaged_keybag_is_read_or_refused(by in some_damage()) {
        let vectors: serde_json::Value = serde_json::from_str(include_str!("vectors/keybag.json")).unwrap();
        decoders::keybag(&damaged(&decoders::from_hex(vectors["keybag"].as_str().unwrap()), &by));
    }

    #[test]
    fn a_mistyped_code_is_read_or_refused(by in some_damage(), noise in "\\PC*") {
        decoders::code(noise.as_bytes());
        let (recovery, secret) = (RecoveryKey::generate().to_text(), SecretKey::generate().to_text());
        for text in [recovery, secret, LinkSecret::generate().to_text()] {
            decoders::code(&damaged(text.as_bytes(), &by));
        }
    }

    #[test]
    fn a_foreign_link_message_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..1100)) {
        decoders::link(&bytes);
        let mut whole = bytes;
        whole.resize(selkie_protocol::cipher::LINK_MESSAGE_LENGTH, 7);
        decoders::link(&whole);
    }

    #[test]
    fn any_text_is_a_name_or_refused(text in "\\PC*", bytes: Vec<u8>) {
        decoders::name(text.as_bytes());
        decoders::name(&bytes);
    }

    #[test]
    fn any_bytes_are_an_opaque_message_or_refused(
        length in prop_oneof![Just(32_usize), Just(64), Just(96), Just(192), Just(288), 0_usize..400], seed: [u8; 32],
        small: bool,
    ) {
        // Small numbers are elements of the group more often than large ones.
        let bytes = (0..length).map(|at| if small && at % 32 > 0 { 0 } else { seed[at % 32] }).collect::<Vec<_>>();
        decoders::opaque(&bytes);
    }
}
