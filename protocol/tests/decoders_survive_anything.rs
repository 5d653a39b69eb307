//! No bytes from outside make a decoder panic, hang or take memory they did not bring.
//!
//! Inputs are genuine ones, damaged: they get past the first checks, which noise never does.

mod decoders;
mod messages;

use messages::Visit;
use proptest::prelude::*;
use selkie_protocol::Face;
use selkie_protocol::cipher::{LinkSecret, RecoveryKey, SecretKey};
use selkie_protocol::log::{Frame, HEADER_LENGTH, SIGNATURE_LENGTH};
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

/// Every entry of the log in which everything happens.
static GENUINE: LazyLock<Vec<Genuine>> = LazyLock::new(|| {
    let vectors: serde_json::Value = serde_json::from_str(include_str!("vectors/vault_log.json")).unwrap();
    let entries = vectors["entries"].as_array().unwrap().iter().map(|entry| {
        let bytes = decoders::from_hex(entry["entry"].as_str().unwrap());
        let body = bytes[HEADER_LENGTH..bytes.len() - SIGNATURE_LENGTH].to_vec();
        Genuine { kind: bytes[2] - 1, frame: Frame::write(&bytes, &[]), body }
    });
    entries.collect()
});

struct Genuine {
    /// Counted from 0.
    kind: u8,
    frame: Vec<u8>,
    body: Vec<u8>,
}

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
    fn a_damaged_frame_is_read_or_refused(which in 0_usize..6, by in some_damage()) {
        let vectors: serde_json::Value = serde_json::from_str(include_str!("vectors/vault_frames.json")).unwrap();
        let frames = vectors["data"]["frames"].as_array().unwrap().iter();
        let frames: Vec<_> = frames.chain([&vectors["checkpoint"], &vectors["heartbeat"]]).collect();
        let genuine = decoders::from_hex(frames[which]["frame"].as_str().unwrap());
        assert!(Frame::parse(&genuine).is_ok());
        decoders::frame(&damaged(&genuine, &by));
    }

    #[test]
    fn a_damaged_state_page_item_or_head_is_read_or_refused(by in some_damage()) {
        let vectors: serde_json::Value = serde_json::from_str(include_str!("vectors/vault_log.json")).unwrap();
        decoders::log_state(&damaged(&decoders::from_hex(vectors["core"].as_str().unwrap()), &by));
        let trail = [&[0; 8], [7; 32 * 5].as_slice()].concat();
        decoders::log_state(&damaged(&trail, &by));
        let record = |id: u8| [&[id; 16], [0; 8].as_slice(), &[0, 0, 0, 1], &[id; 64], &[1]].concat();
        decoders::log_state(&damaged(&[record(1), record(2)].concat(), &by));
        for item in vectors["pages"]["items"].as_array().unwrap() {
            decoders::page_item(&damaged(&decoders::from_hex(item.as_str().unwrap()), &by));
        }
        let vectors: serde_json::Value = serde_json::from_str(include_str!("vectors/vault_example.json")).unwrap();
        decoders::signed_head(&damaged(&decoders::from_hex(vectors["head"]["signed"].as_str().unwrap()), &by));
    }

    #[test]
    fn any_sequence_of_entries_leads_to_a_log_or_is_refused(
        pieces in proptest::collection::vec((any::<u8>(), 0_usize..21, some_damage()), 0..12),
    ) {
        let input: Vec<u8> = pieces
            .iter()
            .flat_map(|(mode, which, by)| {
                let Genuine { kind, frame, body } = &GENUINE[*which];
                let piece = match mode & 3 {
                    0 | 1 => damaged(frame, by),
                    2 => damaged(body, by),
                    // Which byte of the header, and how it is bent.
                    _ => [&[by.len() as u8 * 71, *mode], damaged(body, by).as_slice()].concat(),
                };
                // Mostly of the kind it is.
                let mode = if mode & 0x40 == 0 { kind << 2 | mode & 3 } else { *mode };
                let length = u16::try_from(piece.len()).unwrap().to_be_bytes();
                [&[mode], length.as_slice(), &piece].concat()
            })
            .collect();
        decoders::vault_log(&input);
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
    fn damaged_contents_of_a_link_message_are_read_or_refused(which in 0_u8..3, by in some_damage()) {
        let vectors: serde_json::Value = serde_json::from_str(include_str!("vectors/link.json")).unwrap();
        let contents = decoders::from_hex(vectors["parts"][usize::from(which)]["cbor"].as_str().unwrap());
        let length = u16::try_from(contents.len()).unwrap().to_be_bytes();
        let all = [length.as_slice(), &contents].concat();
        decoders::link(&[&[which], damaged(&contents, &by).as_slice()].concat());
        decoders::link(&[&[which + 3], damaged(&all, &by).as_slice()].concat());
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
