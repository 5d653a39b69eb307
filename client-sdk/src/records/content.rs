//! What a record of a typed collection says, and how that is written down.
//!
//! Owns the layout inside a record's data, and when each field was last written. Pure. Other languages read it from
//! this description:
//!
//! ```text
//! data := CBOR map { "v": u32, "at": [[ms u64, count u32, [name...]]...], "fields": { name: value } }
//! ```
//!
//! `v` is the version of the collection's schema that wrote it. `fields` is canonical, see [`Value`]. `at` says which
//! fields were written before the record's own stamp, and when, oldest first; it is left out if none was. A name in
//! `at` that is not among the fields was removed then. That makes a merge of two versions depend on nothing but the
//! two.

use super::reading::Reading;
use super::value::{NotAValue, Value, in_order};
use selkie_protocol::Face;
use selkie_protocol::record::Hlc;
use serde::de::DeserializeOwned;
use serde::ser::{SerializeMap as _, Serializer};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The fields of a record, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Fields(pub BTreeMap<String, Value>);

impl Fields {
    /// What a value of an app's own type says. It must be a struct or a map with text keys.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Fields, NotAValue> {
        match Value::of(value)? {
            Value::Map(fields) => Ok(Fields(fields)),
            _ => Err(NotAValue("a record has named fields: use a struct".into())),
        }
    }

    /// As a value of an app's own type.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, NotAValue> {
        let bytes = Face::Cbor.try_encode(self).map_err(|error| NotAValue(error.what))?;
        Face::Cbor.decode(&bytes).or_else(|error| {
            let fields = Value::Map(self.0.clone());
            T::deserialize(Reading(&fields)).map_err(|_| NotAValue(error.what))
        })
    }

    /// What a field says. For upcasts and for an app's own merge; `None` if it is not there.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// What a path such as `address.city` leads to.
    pub fn at(&self, path: &str) -> Option<&Value> {
        let (name, rest) = match path.split_once('.') {
            Some((name, rest)) => (name, Some(rest)),
            None => (path, None),
        };
        let mut value = self.0.get(name)?;
        for part in rest.into_iter().flat_map(|rest| rest.split('.')) {
            let Value::Map(map) = value else { return None };
            value = map.get(part)?;
        }
        Some(value)
    }

    /// Makes a field say something. For upcasts and for an app's own merge.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<Value>) {
        self.0.insert(name.into(), value.into());
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_map(Some(self.0.len()))?;
        in_order(&self.0).into_iter().try_for_each(|(name, value)| out.serialize_entry(name, value))?;
        out.end()
    }
}

/// One version of a record of a typed collection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// The version of the schema that wrote it.
    pub version: u32,
    /// What it says.
    pub fields: Fields,
    /// Fields that were written before the record's own stamp.
    earlier: BTreeMap<String, Hlc>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written<F> {
    v: u32,
    #[serde(default = "Vec::new", skip_serializing_if = "Vec::is_empty")]
    at: Vec<(u64, u32, Vec<String>)>,
    fields: F,
}

impl Content {
    /// The first version of a record: every field was written just now.
    pub fn new(version: u32, fields: Fields) -> Content {
        Content { version, fields, earlier: BTreeMap::new() }
    }

    /// The next version, stamped `now`, after one whose record was stamped `before`: fields that say the same keep
    /// their stamps.
    pub fn after(&self, before: Hlc, now: Hlc, version: u32, fields: Fields) -> Content {
        let mut earlier = BTreeMap::new();
        for name in self.names().chain(fields.0.keys()) {
            if self.fields.get(name) == fields.get(name) {
                earlier.insert(name.clone(), self.stamp(name, before));
            } else if fields.get(name).is_none() {
                // Nothing else would say that it has been there.
                earlier.insert(name.clone(), now);
            }
        }
        Content { version, fields, earlier }
    }

    /// A version put together from others, each field with its own stamp; the record's own is later than all of them.
    pub(crate) fn put_together(version: u32, fields: Fields, earlier: BTreeMap<String, Hlc>) -> Content {
        Content { version, fields, earlier }
    }

    /// What [`Content::from_bytes`] read, in parts: the fields that were written before the record's own stamp, by
    /// stamp, oldest first.
    pub(crate) fn earlier(&self) -> Vec<(Hlc, Vec<String>)> {
        let mut at: BTreeMap<Hlc, BTreeSet<&String>> = BTreeMap::new();
        for (name, stamp) in &self.earlier {
            at.entry(*stamp).or_default().insert(name);
        }
        at.into_iter().map(|(hlc, names)| (hlc, names.into_iter().cloned().collect())).collect()
    }

    /// When a field was last written or removed, if the record was stamped so.
    pub fn stamp(&self, name: &str, record: Hlc) -> Hlc {
        self.earlier.get(name).copied().unwrap_or(record)
    }

    /// Every field there is or was known to have been.
    pub(crate) fn names(&self) -> impl Iterator<Item = &String> {
        self.fields.0.keys().chain(self.earlier.keys().filter(|name| !self.fields.0.contains_key(*name)))
    }

    /// As a record's data: see the layout above. An error for a number that CBOR has no form for.
    pub fn to_bytes(&self) -> Result<Vec<u8>, NotAValue> {
        let at = self.earlier().into_iter().map(|(hlc, names)| (hlc.ms, hlc.count, names));
        let written = Written { v: self.version, at: at.collect(), fields: &self.fields };
        Face::Cbor.try_encode(&written).map_err(|error| NotAValue(error.what))
    }

    /// `None` if it is something else: records can also be written as plain bytes.
    pub fn from_bytes(data: &[u8]) -> Option<Content> {
        let Written { v, at, fields } = Face::Cbor.decode::<Written<Fields>>(data).ok()?;
        let stamped =
            at.into_iter().flat_map(|(ms, count, names)| names.into_iter().map(move |name| (name, Hlc { ms, count })));
        Some(Content { version: v, fields, earlier: stamped.collect() })
    }

    /// Straight into an app's own type, if the data was written by that version of the schema.
    pub(crate) fn read<T: DeserializeOwned>(data: &[u8], version: u32) -> Option<T> {
        let written = Face::Cbor.decode::<Written<T>>(data).ok()?;
        (written.v == version).then_some(written.fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(json: serde_json::Value) -> Fields {
        Fields::of(&json).unwrap()
    }

    fn at(ms: u64) -> Hlc {
        Hlc { ms, count: 0 }
    }

    #[test]
    fn the_layout_is_the_one_that_is_described() {
        let first = Content::new(1, fields(serde_json::json!({ "title": "a", "n": 1 })));
        assert_eq!(first.to_bytes().unwrap(), b"\xa2\x61v\x01\x66fields\xa2\x61n\x01\x65title\x61a");
        let second = first.after(at(7), at(8), 1, fields(serde_json::json!({ "title": "b", "n": 1 })));
        let bytes = second.to_bytes().unwrap();
        assert_eq!(bytes, b"\xa3\x61v\x01\x62at\x81\x83\x07\x00\x81\x61n\x66fields\xa2\x61n\x01\x65title\x61b");
        assert_eq!(Content::from_bytes(&bytes), Some(second));
    }

    #[test]
    fn a_field_keeps_the_stamp_of_its_last_change() {
        let first = Content::new(1, fields(serde_json::json!({ "a": 1, "b": 1, "c": 1 })));
        let second = first.after(at(1), at(2), 1, fields(serde_json::json!({ "a": 2, "b": 1 })));
        let third = second.after(at(2), at(3), 1, fields(serde_json::json!({ "a": 2, "b": 3 })));
        let stamps = ["a", "b", "c"].map(|name| third.stamp(name, at(3)).ms);
        assert_eq!(stamps, [2, 3, 2], "c was removed by the second");
        assert_eq!(Content::from_bytes(&third.to_bytes().unwrap()).unwrap(), third);
    }

    #[test]
    fn plain_bytes_are_no_content() {
        for bytes in [&b""[..], b"hello", b"{\"v\":1}", b"\xa1\x61v\x01", b"\xff"] {
            assert_eq!(Content::from_bytes(bytes), None);
        }
    }

    #[test]
    fn an_app_reads_its_own_type() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Note {
            title: String,
            tags: Vec<String>,
            mood: Option<u8>,
        }
        let note = Note { title: "t".into(), tags: vec!["x".into()], mood: None };
        let content = Content::new(2, Fields::of(&note).unwrap());
        let bytes = content.to_bytes().unwrap();
        assert_eq!(Content::read::<Note>(&bytes, 2).unwrap(), note);
        assert_eq!(Content::read::<Note>(&bytes, 1), None, "that version wrote something else");
        assert_eq!(content.fields.read::<Note>().unwrap(), note);
        assert!(Fields::of(&7).is_err());
    }

    #[test]
    fn a_path_leads_into_maps() {
        let fields = fields(serde_json::json!({ "address": { "city": { "name": "Bern" } } }));
        assert_eq!(fields.at("address.city.name"), Some(&Value::from("Bern")));
        assert_eq!(fields.at("address.street"), None);
        assert_eq!(fields.at("address.city.name.x"), None);
    }
}
