//! Where a fuzzer begins: something genuine for every target.
//!
//! Owns the making of it, from the samples and the known answers that the protocol's own tests have. The same bytes
//! every time.

use crate::decoders::{choice_of, from_hex, genuine_log};
use crate::messages::{self, Visit};
use crate::script::piece;
use crate::story::STAGE;
use selkie_client::{Content, Fields, RecordBody};
use selkie_protocol::Face;
use selkie_protocol::log::{Frame, HEADER_LENGTH, Kind, SIGNATURE_LENGTH};
use selkie_protocol::record::Hlc;
use selkie_protocol::session::Tokens;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fmt::Debug;
use yrs::{Doc, ReadTxn as _, StateVector, Text as _, Transact as _};

const LOG: &str = include_str!("../../../protocol/tests/vectors/vault_log.json");
const FRAMES: &str = include_str!("../../../protocol/tests/vectors/vault_frames.json");
const EXAMPLE: &str = include_str!("../../../protocol/tests/vectors/vault_example.json");
const LINK: &str = include_str!("../../../protocol/tests/vectors/link.json");
const SEALED: &str = include_str!("../../../protocol/tests/vectors/sealed.json");
const KEYBAG: &str = include_str!("../../../protocol/tests/vectors/keybag.json");
const OPAQUE: &str = include_str!("../../../protocol/tests/vectors/opaque_rfc9807.json");

/// The seeds of a target.
pub fn of(target: &str) -> Vec<Vec<u8>> {
    let vectors = |text: &str| -> Value { serde_json::from_str(text).expect("our own vectors") };
    let hex = |value: &Value| from_hex(value.as_str().expect("a text of digits"));
    let all = |value: &Value| value.as_array().expect("a list").iter().map(hex).collect::<Vec<_>>();
    match target {
        "messages" => sample_messages(),
        "account-log" => {
            let log = genuine_log();
            let all = [&[0], log.iter().flat_map(|entry| piece(entry)).collect::<Vec<_>>().as_slice()].concat();
            let each = (0_u8..).zip(&log).map(|(before, entry)| [&[before], piece(entry).as_slice()].concat());
            each.chain([all]).collect()
        }
        "keybag" => vec![hex(&vectors(KEYBAG)["keybag"]), vec![0, 0, 0, 1], vec![0, 0, 0, 2, 9, 1, 120, 0x80]],
        "codes" => texts(&["R1-0123-4567-89AB-CDEF-GHJK-MNPQ-RSTV-WXYZ-0000", "s1 oOiI lL", "L1-", "S1-"]),
        "links" => {
            let link = vectors(LINK);
            let contents = link["parts"].as_array().expect("a list").iter().map(|part| hex(&part["cbor"]));
            let both = (0_u8..).zip(contents).flat_map(|(part, contents)| {
                [[&[part], contents.as_slice()].concat(), [&[part + 3], piece(&contents).as_slice()].concat()]
            });
            both.collect()
        }
        "names" => texts(&["Ana@Example.org", "ﬁona", "İ\u{345}", "AAECAw", "a\u{1f}b", "Σς\u{307}"]),
        "texts" => texts(&[
            "AQEBAQEBAQEBAQEBAQEBAQ",
            "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE",
            "application/problem+cbor; charset=utf-8",
            "selkie://link?server=https%3A%2F%2Fexample.org&tenant=acme&name=old.example&code=L1-0000-0000",
            "gmVoZWxsb1AAAAAAAAAAAAAAAAAAAAAA",
        ]),
        "opaque" => {
            [32, 64, 96, 192, 288].map(|length| vec![0; length]).into_iter().chain(texts_in(&vectors(OPAQUE))).collect()
        }
        "frames" => {
            let frames = vectors(FRAMES);
            let others = [&frames["checkpoint"]["frame"], &frames["heartbeat"]["frame"]].map(hex);
            let data = frames["data"]["frames"].as_array().expect("a list").iter();
            data.map(|frame| hex(&frame["frame"])).chain(others).collect()
        }
        "layouts" => {
            let entries = all_entries(&vectors(LOG));
            let bodies = entries.iter().filter(|entry| entry[2] < 4).map(|entry| {
                let body = &entry[HEADER_LENGTH..entry.len() - SIGNATURE_LENGTH];
                [&[entry[2]], body].concat()
            });
            let note = [&[4], hex(&vectors(FRAMES)["checkpoint"]["note"]).as_slice()].concat();
            let whole = entries.iter().map(|entry| [&[0], entry.as_slice()].concat());
            whole.chain(bodies).chain([note]).collect()
        }
        "pages" => all(&vectors(LOG)["pages"]["items"]),
        "heads" => vec![hex(&vectors(EXAMPLE)["head"]["signed"])],
        "states" => {
            let snapshot = STAGE.begun.log.snapshot();
            let parts = [&snapshot.core, &snapshot.trail, &snapshot.live].map(|part| part.to_vec());
            parts.into_iter().chain([hex(&vectors(LOG)["core"]), Face::Cbor.encode(&snapshot)]).collect()
        }
        "vault-log" => vault_log(&all_entries(&vectors(LOG))),
        "story" => stories(),
        "evidence" => evidence(),
        "hints" => texts(&[
            "\u{7f}event: resync\ndata: {}\n\n",
            "\u{1}event: vault\r\ndata: {\"vid\":\"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE\",\"n\":7}\r\n\r\n:\n\n",
            "\u{7}id: 4\nretry: 9\nevent: party\ndata: x\n\n",
        ]),
        "records" => records(),
        "seals" => {
            let short = (0..5).map(|mode| [&[mode, 1, 2, 3, 1, 2, 9, 9], b"hello".as_slice()].concat());
            short.chain([[&[5, 5], b"phone".as_slice()].concat(), [&[6], tokens().as_slice()].concat()]).collect()
        }
        "archive" => archives(),
        "table" => tables(),
        "merges" => texts(&["a b c\0a x c\0a b y", "\0one\0two", "1\n2\n3\n\x001\n3\n\x001\n2\nx\n3\n"]),
        "documents" => documents(),
        other => unreachable!("no target is called {other}"),
    }
}

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// Every string of digits in a document.
fn texts_in(value: &Value) -> Vec<Vec<u8>> {
    match value {
        Value::String(text) if text.len() % 2 == 0 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            vec![from_hex(text)]
        }
        Value::Array(all) => all.iter().flat_map(texts_in).collect(),
        Value::Object(all) => all.values().flat_map(texts_in).collect(),
        _ => Vec::new(),
    }
}

fn all_entries(vectors: &Value) -> Vec<Vec<u8>> {
    let entries = vectors["entries"].as_array().expect("a list").iter();
    entries.map(|entry| from_hex(entry["entry"].as_str().expect("a text of digits"))).collect()
}

/// Those of the known answers.
fn tokens() -> Vec<u8> {
    let vectors: Value = serde_json::from_str(SEALED).expect("our own vectors");
    let tokens = Face::Json.decode::<Tokens>(vectors["tokens"].to_string().as_bytes()).expect("tokens");
    Face::Cbor.encode(&tokens)
}

fn sample_messages() -> Vec<Vec<u8>> {
    struct Collect(Vec<Vec<u8>>);
    impl Visit for Collect {
        fn message<T: Serialize + DeserializeOwned + PartialEq + Debug>(&mut self, _: &str, message: T) {
            for face in [Face::Cbor, Face::Json] {
                let choice = choice_of::<T>(face);
                self.0.extend(choice.map(|choice| [&[choice], face.encode(&message).as_slice()].concat()));
            }
        }
    }
    let mut samples = Collect(Vec::new());
    messages::each(&mut samples);
    samples.0
}

/// Each entry as it came and as a body alone; and all the bodies, one after the other.
fn vault_log(entries: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mode = |entry: &[u8], how: u8| (entry[2] - 1) << 2 | how;
    let body = |entry: &[u8]| {
        let body = &entry[HEADER_LENGTH..entry.len() - SIGNATURE_LENGTH];
        [&[mode(entry, 2)], piece(body).as_slice()].concat()
    };
    let framed = |entry: &Vec<u8>| [&[mode(entry, 1)], piece(&Frame::write(entry, &[])).as_slice()].concat();
    let together = entries.iter().flat_map(|entry| body(entry)).collect();
    entries.iter().map(framed).chain([together, vec![0, 0, 0, Kind::Heartbeat as u8]]).collect()
}

/// Acts as `story` reads them: what, who, and what it needs; then whether it confirms and how it is bent.
fn stories() -> Vec<Vec<u8>> {
    let acts = |acts: &[&[u8]]| acts.concat();
    let write = |device: u8, record: u8, how: u8| [0, device, 0, record, how, 0, 0, 0];
    let (whole, beside) = (|device, record| write(device, record, 0), |device, record| write(device, record, 1));
    let checkpoint = |device: u8, forgotten: u8| [6, device, forgotten, 0, 0];
    let confirm = |device: u8| [5, device, 1, 0];
    let control = |device: u8, user: u8, which: u8, more: &[u8]| [&[8, device, user, which, 0], more, &[0, 0]].concat();
    let (dora, carol, rotate, certified) = (3, 2, control(1, 0, 2, &[0]), [12, 3, 0]);
    let every = (0..8).map(|which| control(0, carol, which, &[0, 0][..[0, 0, 1, 0, 2, 0, 0, 0][usize::from(which)]]));
    vec![
        acts(&[&whole(0, 0), &whole(2, 1), &checkpoint(0, 0), &confirm(2), &whole(4, 2)]),
        acts(&[&beside(0, 0), &beside(2, 0), &checkpoint(4, 0), &whole(0, 0), &checkpoint(0, 3), &whole(2, 3)]),
        acts(&[&control(0, dora, 8, &[]), &rotate, &certified, &control(2, 1, 3, &[]), &whole(3, 0), &whole(5, 1)]),
        every.collect::<Vec<_>>().concat(),
        acts(&[&[13, 0, 1], &[12, 0, 2, 1], &whole(1, 1), &[14, 0, 3, 0, 0, 0, 0], &[5, 2, 0, 7, 3]]),
    ]
}

fn evidence() -> Vec<Vec<u8>> {
    let file = json!({
        "selkie": "account-evidence", "version": 1, "kind": "rollback", "seen_at_ms": 1, "server_name": "home.example",
        "uid": null, "our_length": 0, "ours": [], "served": [], "served_from": 0,
    });
    let raw = [b"\0".as_slice(), file.to_string().as_bytes()].concat();
    let log = [&[1, 5], [0; 5].as_slice(), &[2, 0, 4, 9, 0, 5, 9], &[0]].concat();
    let (none, some) = (vec![2, 0, 2, 0, 1, 0, 0, 0], vec![2, 1, 2, 0, 2, 0, 0, 1]);
    let vault = [&[3, 8, 1, 4, 0, 0, 0, 0, 1, 2, 5, 5, 3, 1], [3, 0, 1, 1, 0, 2, 9, 1, 3, 9].as_slice()].concat();
    // At the last positions there are: an entry that the server has moved beyond them.
    let late = vec![3, 0xca, 1, 3, 6, 2, 6, 3, 6, 1, 0, 1, 0, 2, 0, 2, 0, 2, 0, 0, 5, 0, 0];
    vec![raw, log, none, some, vault, late]
}

fn body() -> RecordBody {
    let fields = Fields::of(&json!({ "title": "a\n\u{1}", "n": [1, -1, 0.1, null, {}] })).expect("an object");
    let content = Content::new(2, fields).to_bytes().expect("all of it has a form");
    RecordBody::new("notes", Hlc { ms: 9, count: 1 }, content)
}

fn records() -> Vec<Vec<u8>> {
    let deleted = RecordBody::deletion("notes", Hlc { ms: 9, count: 1 }).to_bytes();
    vec![body().to_bytes(), deleted, body().data.to_vec(), b"{\"a\":[1,-0.0,1e300,null,\"\xc3\xbc\"]}".to_vec()]
}

fn archives() -> Vec<Vec<u8>> {
    let line = |form: &str, more: &str, content: &str| {
        let id = "\"id\":\"BwcHBwcHBwcHBwcHBwcHBw\",\"hlc\":{\"ms\":9,\"count\":1}";
        format!("{{{id},\"form\":\"{form}\",{more}\"content\":{content}}}\n")
    };
    let notes = line("fields", "\"version\":2,\"earlier\":[[3,0,[\"title\"]]],", "{\"title\":\"a\",\"n\":[1,0.1]}");
    let history = line("text", "", "\"a\"") + &line("base64url", "", "\"_wA\"");
    let file = |notes: &str, history: &str| {
        [notes, history, "", "", ""].iter().flat_map(|text| piece(text.as_bytes())).collect::<Vec<_>>()
    };
    let files = [file(&notes, ""), file(&notes, &history), file(&history, "")];
    let made = files.iter().flat_map(|file| [1, 2].map(|mode| [&[mode], file.as_slice()].concat()));
    made.chain([b"\x00PK\x03\x04".to_vec(), b"\x03PK\x03\x04".to_vec(), b"\x04".to_vec()]).collect()
}

fn tables() -> Vec<Vec<u8>> {
    let csv = "id,title,cents,Done\r\n1,\"a \"\"b\"\"\",90,yes\r\n2,,,no\r\n";
    let lines = "{\"id\":1,\"title\":\"a\"}\n\n{\"id\":\"2\",\"cents\":9.5}\n";
    let array = " [{\"id\":1,\"title\":\"a\"}, {\"id\":\"2\",\"Done\":true}] ";
    let (csv, lines, array) = (csv.as_bytes(), lines.as_bytes(), array.as_bytes());
    let rules = [5, 2, 2, 0, 1, 3];
    vec![
        [&[0, 0], csv].concat(),
        [&[0, 0x13], rules.as_slice(), csv].concat(),
        [&[1, 1], array].concat(),
        [&[1, 0x0c, 0, 1, 3], array].concat(),
        [&[2, 3], lines].concat(),
    ]
}

/// A document in which two people typed, in the library's own form.
fn documents() -> Vec<Vec<u8>> {
    let typed = |name: u64, words: &str| {
        let document = Doc::with_client_id(name);
        let text = document.get_or_insert_text("body");
        text.push(&mut document.transact_mut(), words);
        text.remove_range(&mut document.transact_mut(), 1, 2);
        document.transact().encode_state_as_update_v1(&StateVector::default())
    };
    let (one, other) = (typed(1, "dear diary"), typed(2, "today"));
    vec![[piece(&one), other.clone()].concat(), [piece(&[0, 0]), one].concat(), [piece(&other), vec![0, 0]].concat()]
}
