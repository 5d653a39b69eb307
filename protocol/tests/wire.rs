//! Every message in both faces, compared with how it looked before. A difference breaks clients that are in use.
//!
//! `tests/snapshots/messages.json` is written again only when `SELKIE_UPDATE_SNAPSHOTS` is set.

mod messages;

use messages::Visit;
use selkie_protocol::Face;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::Path;

#[derive(Default)]
struct Snapshot(Map<String, Value>);

impl Visit for Snapshot {
    fn message<T: Serialize + DeserializeOwned + PartialEq + Debug>(&mut self, name: &str, message: T) {
        let (json, cbor) = (Face::Json.encode(&message), Face::Cbor.encode(&message));
        let hex: String = cbor.iter().map(|byte| format!("{byte:02x}")).collect();
        let json: Value = serde_json::from_slice(&json).unwrap();
        assert!(self.0.insert(name.into(), json!({ "json": json, "cbor": hex })).is_none(), "{name} twice");
    }
}

#[test]
fn every_message_looks_as_it_did() {
    let mut snapshot = Snapshot::default();
    messages::each(&mut snapshot);
    let now = Value::Object(snapshot.0);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots/messages.json");
    if std::env::var_os("SELKIE_UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, serde_json::to_string_pretty(&now).unwrap() + "\n").unwrap();
    }
    let before: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let (before, now) = (before.as_object().unwrap(), now.as_object().unwrap());
    for (name, message) in now {
        assert_eq!(before.get(name), Some(message), "{name} has changed");
    }
    assert_eq!(before.len(), now.len(), "a message has gone");
}

struct RoundTrip;

impl Visit for RoundTrip {
    fn message<T: Serialize + DeserializeOwned + PartialEq + Debug>(&mut self, name: &str, message: T) {
        for face in [Face::Json, Face::Cbor] {
            let bytes = face.encode(&message);
            assert_eq!(face.decode::<T>(&bytes).unwrap(), message, "{name} in {face:?}");
            assert_eq!(face.encode(&face.decode::<T>(&bytes).unwrap()), bytes, "{name} in {face:?}");
        }
    }
}

#[test]
fn every_message_survives_both_faces() {
    messages::each(&mut RoundTrip);
}

struct Strict;

impl Visit for Strict {
    fn message<T: Serialize + DeserializeOwned + PartialEq + Debug>(&mut self, name: &str, message: T) {
        let json = serde_json::to_value(&message).unwrap();
        let Some(fields) = json.as_object() else { return };
        // These are read by clients that are older than the server, which must at least understand that.
        let forgiving = ["Capabilities", "ErrorBody", "FieldProblem"].iter().any(|known| name.starts_with(known));
        let mut more = fields.clone();
        more.insert("legacy".into(), Value::Null);
        let read = Face::Json.decode::<T>(Value::Object(more).to_string().as_bytes());
        assert_eq!(read.ok(), forgiving.then(|| Face::Json.decode(json.to_string().as_bytes()).unwrap()), "{name}");
        let mut more = Face::Cbor.encode(&message);
        more[0] += 1;
        more.extend_from_slice(b"\x66legacy\xf6");
        assert_eq!(Face::Cbor.decode::<T>(&more).ok(), forgiving.then_some(message), "{name}");
    }
}

#[test]
fn messages_take_no_field_they_do_not_know_but_for_those_that_tell_of_a_newer_server() {
    messages::each(&mut Strict);
}

#[derive(Default)]
struct Names(BTreeSet<String>);

impl Visit for Names {
    fn message<T: Serialize + DeserializeOwned + PartialEq + Debug>(&mut self, _: &str, _: T) {
        self.0.insert(std::any::type_name::<T>().rsplit("::").next().unwrap().to_owned());
    }
}

#[test]
fn no_message_is_left_out() {
    let mut seen = Names::default();
    messages::each(&mut seen);
    for file in ["session", "account", "link", "version", "error"] {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(file).with_extension("rs");
        let source = std::fs::read_to_string(source).unwrap();
        for line in source.lines().map(str::trim) {
            let declared = ["pub struct ", "pub enum "].iter().find_map(|start| line.strip_prefix(start));
            let Some(declared) = declared else { continue };
            let name: String = declared.chars().take_while(|c| c.is_alphanumeric()).collect();
            assert!(seen.0.contains(&name), "{file}.rs declares {name}, of which there is no sample");
        }
    }
}
