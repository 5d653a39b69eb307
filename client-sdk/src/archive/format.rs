//! What stands in an archive: the manifest, the lines, the names of the files.
//!
//! Owns how a record becomes a line and a line a record again, byte for byte. Pure. See docs/archive-format.md.

use crate::records::Value;
use crate::records::content::{Content, Fields};
use selkie_protocol::bytes::{from_base64url, to_base64url};
use selkie_protocol::hash::sha256;
use selkie_protocol::id::{ChangeId, DeviceId, RecordId, UserId, VaultId};
use selkie_protocol::record::{Hlc, RecordBody};
use serde::{Deserialize, Serialize};

/// The format this code writes.
pub(super) const FORMAT: u32 = 1;
pub(super) const MANIFEST: &str = "manifest.json";
pub(super) const CHECKSUMS: &str = "checksums.txt";
pub(super) const UNREADABLE: &str = "unreadable.ndjson";
pub(super) const RECORDS: &str = "collections";
pub(super) const HISTORY: &str = "history";
/// How the names of the SDK's own collections begin. They are no part of an archive.
pub(crate) const RESERVED: &str = "selkie.";
/// A record has at most 256 KiB; this is more than any writing of it takes.
pub(super) const LONGEST_LINE: usize = 4 * 1024 * 1024;

/// What an archive says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The version of the format.
    pub format: u32,
    /// The vault it was made of.
    pub vault: VaultId,
    /// What the vault was called, if that could be read.
    pub name: Option<String>,
    /// The app the vault belongs to.
    pub app: String,
    /// By the clock of the device that made it.
    pub made_at_ms: u64,
    /// How far the vault's log went then, to be compared with what other devices show.
    pub digest: String,
    /// How many records there are in all.
    pub records: u64,
    /// Versions in the history, if that is in it.
    pub versions: u64,
    /// Records and changes that could not be read and are only listed.
    pub unreadable: u64,
    /// The collections, each a file of its own.
    pub collections: Vec<CollectionMember>,
}

/// One collection of an archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CollectionMember {
    /// What the collection is called.
    pub name: String,
    /// Where its records are.
    pub file: String,
    /// How many records it has.
    pub records: u64,
    /// Where every version of them is, if that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<String>,
    /// How many earlier versions of its records there are.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub versions: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// One record, or one version of it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    pub(super) id: RecordId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    change: Option<ChangeId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    n: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    author: Option<UserId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device: Option<DeviceId>,
    hlc: Hlc,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    deleted: bool,
    form: Form,
    /// Of the schema that wrote the fields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<u32>,
    /// Fields that were written before the record's own stamp.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    earlier: Vec<(u64, u32, Vec<String>)>,
    content: serde_json::Value,
}

/// How the content is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Form {
    /// Fields of a typed collection, as a JSON object.
    Fields,
    Text,
    /// Bytes that are neither, and fields that JSON has no exact word for.
    Base64url,
}

impl Line {
    /// The line of a record. It says exactly what the record says: where JSON cannot, it says the bytes.
    pub(super) fn of(id: RecordId, body: &RecordBody) -> Line {
        let fields = Content::from_bytes(&body.data).map(|content| Line::of_fields(id, body, content));
        if let Some(line) = fields.filter(|line| line.reads_again_as(body)) {
            return line;
        }
        match std::str::from_utf8(&body.data) {
            Ok(text) => Line::bare(id, body, Form::Text, text.into()),
            Err(_) => Line::bare(id, body, Form::Base64url, to_base64url(&body.data).into()),
        }
    }

    /// The line of a version that stands in the log.
    pub(super) fn in_the_log(self, change: ChangeId, n: u64, author: UserId, device: DeviceId) -> Line {
        let (change, n, author, device) = (Some(change), Some(n), Some(author), Some(device));
        Line { change, n, author, device, ..self }
    }

    fn bare(id: RecordId, body: &RecordBody, form: Form, content: serde_json::Value) -> Line {
        let (hlc, deleted) = (body.hlc, body.deleted);
        let (change, n, author, device, version) = (None, None, None, None, None);
        Line { id, change, n, author, device, hlc, deleted, form, version, earlier: Vec::new(), content }
    }

    fn of_fields(id: RecordId, body: &RecordBody, content: Content) -> Line {
        let earlier = content.earlier().into_iter().map(|(hlc, names)| (hlc.ms, hlc.count, names)).collect();
        let version = Some(content.version);
        let json = Value::Map(content.fields.0).to_json();
        Line { version, earlier, ..Line::bare(id, body, Form::Fields, json) }
    }

    /// Whether whoever reads the text has the same bytes: JSON has no bytes, and not every float in every reader.
    fn reads_again_as(&self, body: &RecordBody) -> bool {
        let again = serde_json::from_str::<Line>(&self.to_text()).ok();
        again.and_then(|line| line.data()).is_some_and(|data| data == *body.data)
    }

    /// One line of text, without its end.
    pub(super) fn to_text(&self) -> String {
        // Texts, numbers and maps with text keys: serde_json has a word for each of them.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The record's body; nothing if the line contradicts itself.
    pub(super) fn body(&self, collection: &str) -> Option<RecordBody> {
        if self.deleted {
            return Some(RecordBody::deletion(collection, self.hlc));
        }
        Some(RecordBody::new(collection, self.hlc, self.data()?))
    }

    fn data(&self) -> Option<Vec<u8>> {
        let plain = self.version.is_none() && self.earlier.is_empty();
        match (self.form, &self.content) {
            (Form::Fields, json @ serde_json::Value::Object(_)) => {
                let Value::Map(fields) = Value::from_json(json) else { return None };
                let stamped = self.earlier.iter().flat_map(|(ms, count, names)| {
                    names.iter().map(|name| (name.clone(), Hlc { ms: *ms, count: *count }))
                });
                Content::put_together(self.version?, Fields(fields), stamped.collect()).to_bytes().ok()
            }
            (Form::Text, serde_json::Value::String(text)) if plain => Some(text.clone().into_bytes()),
            (Form::Base64url, serde_json::Value::String(text)) if plain => from_base64url(text),
            _ => None,
        }
    }
}

/// Something that is only listed.
#[derive(Debug, Serialize)]
pub(super) struct Unread<'a> {
    pub(super) id: RecordId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) change: Option<ChangeId>,
    pub(super) reason: &'a str,
}

/// The file of a collection: a name that every file system takes and that leads nowhere else.
pub(super) fn file_of(folder: &str, collection: &str) -> String {
    /// What remains of a long name, before its hash.
    const KEPT: usize = 100;
    let mut name = String::new();
    for (at, byte) in collection.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => name.push(char::from(byte)),
            b'.' if at > 0 => name.push('.'),
            other => name.push_str(&format!("%{other:02X}")),
        }
    }
    if name.len() > 2 * KEPT {
        name.truncate(KEPT);
        name.push('~');
        name.push_str(&hex(&sha256(collection.as_bytes())[..8]));
    }
    format!("{folder}/{name}.ndjson")
}

/// A line of `checksums.txt`, as `sha256sum` writes and checks it.
pub(super) fn sum_line(sha: &[u8; 32], file: &str) -> String {
    format!("{}  {file}\n", hex(sha))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: RecordId = RecordId([7; 16]);
    const AT: Hlc = Hlc { ms: 9, count: 1 };

    fn there_and_back(data: &[u8]) -> Line {
        let body = RecordBody::new("notes", AT, data.to_vec());
        let line: Line = serde_json::from_str(&Line::of(ID, &body).to_text()).unwrap();
        assert_eq!((line.id, line.body("notes").as_ref()), (ID, Some(&body)));
        line
    }

    #[test]
    fn a_record_is_the_same_after_its_line_whatever_it_says() {
        let fields = |json| Fields::of(&json).unwrap();
        let first = Content::new(2, fields(serde_json::json!({ "title": "a\n\u{1}", "n": [1, -1, 0.1, null, {}] })));
        let second = first.after(Hlc { ms: 3, count: 0 }, AT, 2, fields(serde_json::json!({ "title": "b" })));
        assert_eq!(there_and_back(&first.to_bytes().unwrap()).form, Form::Fields);
        assert_eq!(there_and_back(&second.to_bytes().unwrap()).form, Form::Fields);
        assert_eq!(there_and_back(b"{\"title\":\"a\"}").form, Form::Text);
        assert_eq!(there_and_back(b"").form, Form::Text);
        assert_eq!(there_and_back(b"\xff\x00").form, Form::Base64url);
    }

    #[test]
    fn what_json_has_no_exact_word_for_is_kept_as_bytes() {
        for odd in [Value::Bytes(vec![1, 2]), Value::Float(f64::NAN), Value::Float(-0.0), Value::Int(1 << 63)] {
            let fields = Fields([("x".to_owned(), odd)].into());
            there_and_back(&Content::new(1, fields).to_bytes().unwrap());
        }
        let bytes = Fields([("x".to_owned(), Value::Bytes(vec![1, 2]))].into());
        assert_ne!(there_and_back(&Content::new(1, bytes).to_bytes().unwrap()).form, Form::Fields);
    }

    #[test]
    fn a_line_that_contradicts_itself_is_no_record() {
        for line in [
            r#"{"id":"BwcHBwcHBwcHBwcHBwcHBw","hlc":{"ms":1,"count":0},"form":"fields","version":1,"content":"x"}"#,
            r#"{"id":"BwcHBwcHBwcHBwcHBwcHBw","hlc":{"ms":1,"count":0},"form":"fields","content":{}}"#,
            r#"{"id":"BwcHBwcHBwcHBwcHBwcHBw","hlc":{"ms":1,"count":0},"form":"text","version":1,"content":"x"}"#,
            r#"{"id":"BwcHBwcHBwcHBwcHBwcHBw","hlc":{"ms":1,"count":0},"form":"base64url","content":"="}"#,
        ] {
            assert_eq!(serde_json::from_str::<Line>(line).unwrap().body("notes"), None, "{line}");
        }
    }

    #[test]
    fn no_name_of_a_collection_leads_out_of_the_archive() {
        assert_eq!(file_of(RECORDS, "notes"), "collections/notes.ndjson");
        assert_eq!(file_of(RECORDS, "../../etc/passwd"), "collections/%2E.%2F..%2Fetc%2Fpasswd.ndjson");
        assert_eq!(file_of(HISTORY, "a b\n"), "history/a%20b%0A.ndjson");
        let long = file_of(RECORDS, &"ü".repeat(64));
        assert!(long.len() < 150 && long.contains('~'), "{long}");
        assert_ne!(long, file_of(RECORDS, &format!("{}o", "ü".repeat(63))));
    }
}
