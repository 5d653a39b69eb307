//! The example that `docs/protocol.md` works through is the one in `tests/vectors/vault_example.json`, byte for byte.
//!
//! The text between the two marks is made here from the vectors. It is written again when `SELKIE_UPDATE_SNAPSHOTS` is
//! set; a test fails if it is anything else.

use selkie_protocol::account_log::AccountLog;
use selkie_protocol::hash::{Label, hash};
use selkie_protocol::log::{
    Beside, Body, Change, Entry, Frame, HEADER_LENGTH, SIGNATURE_LENGTH, SIGNED_HEAD_LENGTH, SignedHead, VaultLog,
    chain, payload_hash,
};
use selkie_protocol::sign::PublicKey;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

const BEGIN: &str = "<!-- The example: made from protocol/tests/vectors/vault_example.json by a test. -->\n";
const END: &str = "<!-- The end of the example. -->\n";

fn vectors() -> Value {
    serde_json::from_str(include_str!("../vectors/vault_example.json")).unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().unwrap()
}

/// A table of a layout: what is left of it, and where the next field begins.
struct Table<'a> {
    out: String,
    at: usize,
    rest: &'a [u8],
}

impl<'a> Table<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        Table { out: String::from("```text\noff  len  field        bytes\n"), at: 0, rest: bytes }
    }

    /// The next field, thirty-two bytes a line.
    fn field(&mut self, length: usize, name: &str, says: &str) -> &mut Self {
        let (field, rest) = self.rest.split_at(length);
        let mut lines = field.chunks(32).map(hex);
        let first = lines.next().unwrap_or_default();
        let says = if says.is_empty() { String::new() } else { format!("   {says}") };
        writeln!(self.out, "{:<4} {length:<4} {name:<12} {first}{says}", self.at).unwrap();
        lines.for_each(|line| writeln!(self.out, "{:23}{line}", "").unwrap());
        (self.at, self.rest) = (self.at + length, rest);
        self
    }

    fn header(&mut self, kind: &str) -> &mut Self {
        self.field(1, "ver", "").field(1, "suite", "").field(1, "kind", kind).field(1, "zero", "");
        self.field(32, "vid", "").field(32, "uid", "").field(16, "did", "").field(8, "dev_seq", "");
        self.field(32, "dev_prev", "").field(8, "seen_n", "").field(32, "seen_h", "").field(32, "ctl_h", "");
        self.field(4, "epoch", "").field(8, "ckpt_ok", "").field(8, "unix_ms", "").field(4, "body_len", "")
    }

    fn end(&mut self) -> String {
        assert!(self.rest.is_empty(), "a field was left out");
        format!("{}```\n", self.out)
    }
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn lines(pairs: &[(&str, &[u8])]) -> String {
    let mut out = String::from("```text\n");
    for (name, bytes) in pairs {
        let mut lines = bytes.chunks(32).map(hex);
        writeln!(out, "{name:<20} {}", lines.next().unwrap_or_default()).unwrap();
        lines.for_each(|line| writeln!(out, "{:21}{line}", "").unwrap());
    }
    out + "```\n"
}

/// What the book says, from the vectors.
fn told() -> String {
    let v = vectors();
    let get = |group: &str, name: &str| bytes(&v[group][name]);
    let (create, data) = (get("create", "entry"), get("data", "entry"));
    let mut out = String::new();
    let mut say = |text: &str| {
        out.push('\n');
        out.push_str(text);
    };
    say("Ana has one device. The keys are made from counted bytes, so that anybody can make them again:\n");
    say(&lines(&[
        ("identity key, seed", &get("account", "identity_seed")),
        ("device key, seed", &get("account", "device_seed")),
        ("device public key", &get("account", "device_key")),
        ("uid", &get("account", "uid")),
        ("did", &get("account", "did")),
        ("K_1", &bytes(&v["epoch_key"])),
    ]));
    say(&format!("**CREATE**, {} bytes:\n", create.len()));
    let mut table = Table::of(&create);
    table.header("CONTROL").field(1, "op", "CREATE").field(16, "random", "");
    table.field(8, "idx", "the anchor: the account log's DEVICE_ADD").field(32, "a_hash", "");
    table.field(32, "irk_pk", "").field(32, "commit(1)", "").field(1, "min_format", "").field(1, "policy", "");
    let app = usize::from(table.rest[0]);
    table.field(1, "app_len", "").field(app, "app", "\"org.example.journal\"").field(64, "signature", "");
    say(&table.end());
    say("From it, the vault's name, which is also the chain's value at 0, and the chain's value at 1:\n");
    say(&lines(&[
        ("vid = h_0", &bytes(&v["vid"])),
        ("e_1", &get("create", "entry_hash")),
        ("h_1", &get("create", "h")),
        ("K_rec(1)", &bytes(&v["record_key"])),
    ]));
    say("Ana writes one record. What the app keeps in it, padded to 64 bytes and sealed, is the payload:\n");
    let payload = get("data", "payload");
    let (nonce, sealed) = payload.split_at(24);
    say(&lines(&[("data, 36 bytes", &get("data", "content")), ("nonce", nonce), ("sealed, with tag", sealed)]));
    say(&format!("**DATA**, {} bytes:\n", data.len()));
    let mut table = Table::of(&data);
    table.header("DATA").field(2, "count", "").field(16, "rid", "").field(1, "flags", "FULL").field(1, "ndeps", "");
    table.field(4, "ct_len", "104").field(32, "ct_hash", "").field(64, "signature", "");
    say(&table.end());
    say(&lines(&[("cid", &get("data", "change_id")), ("e_2", &get("data", "entry_hash")), ("h_2", &get("data", "h"))]));
    let frame = get("data", "frame");
    say(&format!(
        "The frame that is pushed, stored and pulled is `{}`, the entry, `{}`, and the payload: {} bytes.\n",
        hex(&frame[..4]),
        hex(&frame[4 + data.len()..][..1]),
        frame.len()
    ));
    say("The server answers that it stands at 2, and signs its head:\n");
    let head = get("head", "signed");
    let mut table = Table::of(&head);
    table.field(16, "incarnation", "").field(32, "vid", "").field(8, "n", "").field(32, "h", "h_2");
    table.field(8, "unix_ms", "").field(64, "signature", "");
    say(&table.end());
    say(&lines(&[("server's head key", &get("head", "server_key"))]));
    out.push('\n');
    out
}

#[test]
fn the_hex_in_the_book_is_that_of_the_vectors() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/protocol.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let begin = text.find(BEGIN).expect("the example begins") + BEGIN.len();
    let end = begin + text[begin..].find(END).expect("the example ends");
    let told = told();
    if std::env::var_os("SELKIE_UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, [&text[..begin], &told, &text[end..]].concat()).unwrap();
        return;
    }
    assert!(text[begin..end] == told, "the book says something else than:\n{told}");
}

#[test]
fn the_example_is_a_log_that_everybody_takes() {
    let v = vectors();
    let account: Vec<Vec<u8>> = v["account"]["entries"].as_array().unwrap().iter().map(bytes).collect();
    let account = AccountLog::replay(account.iter().map(Vec::as_slice)).unwrap();
    let (user, vid) = (account.user(), array(&v["vid"]));
    assert_eq!(user.0, array(&v["account"]["uid"]));
    let people = BTreeMap::from([(user, account)]);

    let create = bytes(&v["create"]["entry"]);
    assert_eq!(create.len(), 427);
    let entry = Entry::parse(&create).unwrap();
    let (mut log, _) = VaultLog::create(&entry, &people).unwrap();
    assert_eq!((log.core().vault().0, log.head().h), (vid, array(&v["create"]["h"])));
    assert_eq!(hash(Label::VAULT_ENTRY, &[&create]), array(&v["create"]["entry_hash"]));

    let bytes_of_frame = bytes(&v["data"]["frame"]);
    let frame = Frame::parse(&bytes_of_frame).unwrap();
    assert_eq!((bytes_of_frame.len(), frame.entry.as_bytes().len()), (449, 340));
    assert_eq!(frame.entry.as_bytes(), bytes(&v["data"]["entry"]));
    let payload = bytes(&v["data"]["payload"]);
    assert_eq!(frame.payload(0), Some(payload.as_slice()));
    let Body::Data(data) = frame.entry.body else { panic!("DATA") };
    let change: Change<'_> = data.changes().next().unwrap();
    assert_eq!(change.payload, payload_hash(&payload));
    let device = frame.entry.header.device;
    assert_eq!(change.id(&log.core().vault(), &device, 2).0, array(&v["data"]["change_id"]));
    let effects = log.apply(&frame.entry, Beside::Payloads(&[Some(&payload)]), &people).unwrap();
    let h_1 = array(&v["create"]["h"]);
    assert_eq!(effects.head.h, chain(&h_1, 2, &array(&v["data"]["entry_hash"])));
    assert_eq!(effects.head.h, array(&v["data"]["h"]));
    assert_eq!(frame.entry.as_bytes().len() - HEADER_LENGTH - SIGNATURE_LENGTH, 56);

    let head = bytes(&v["head"]["signed"]);
    let said = SignedHead::parse(&head).unwrap();
    assert_eq!((head.len(), said.head), (SIGNED_HEAD_LENGTH, log.head()));
    assert!(said.is_signed_by(&PublicKey(array(&v["head"]["server_key"]))));
}
