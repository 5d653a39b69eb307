//! Rows of another program, and the records they become.
//!
//! Owns the forms of tables and the name that a row has: a hash of the vault, the collection and what tells the row
//! from others. So the same row is the same record whenever and wherever it is brought in, and in another vault it is
//! another.

use super::ArchiveError;
use super::csv::Csv;
use super::import::{Batches, ImportReport, Verdict};
use super::mapping::Mapping;
use crate::error::{Error, Result};
use crate::records::content::{Content, Fields};
use crate::records::view;
use crate::records::{Collections, Value};
use crate::sync::room::Room;
use selkie_protocol::cipher::RecordKey;
use selkie_protocol::hash::sha256;
use selkie_protocol::id::{RecordId, VaultId};
use selkie_protocol::record::{Hlc, MAX_COLLECTION_LENGTH, RecordBody};
use serde::de::{DeserializeSeed, Deserializer, SeqAccess, Visitor};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read, Seek};
use std::rc::Rc;

/// More than a record holds, however it is written.
const LONGEST_LINE: u64 = 4 * 1024 * 1024;

/// How a table is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TableForm {
    /// One JSON array of objects.
    Json,
    /// A JSON object a line.
    NdJson,
    /// CSV whose first row names the fields. Every field is a text, unless the [`Mapping`] says otherwise.
    Csv,
}

impl TableForm {
    /// The form that the end of a file's name stands for.
    pub fn of_extension(extension: &str) -> Option<TableForm> {
        match extension.to_ascii_lowercase().as_str() {
            "json" => Some(TableForm::Json),
            "ndjson" | "jsonl" => Some(TableForm::NdJson),
            "csv" => Some(TableForm::Csv),
            _ => None,
        }
    }
}

/// A table that is to be brought in, and where.
#[derive(Clone, Debug)]
pub struct Table {
    /// How it is written.
    pub form: TableForm,
    /// Where its rows become records.
    pub collection: String,
    /// The field that tells rows apart, a text or an integer. Without one it is the whole row: a row that was changed
    /// is then another record. It is named as it is in the table, and may be left out of the records.
    pub id_field: Option<String>,
    /// What becomes of the fields.
    pub mapping: Mapping,
    /// Write over records that say something else here, but for those that a later version of the app wrote. Without
    /// it they are kept as they are, and counted.
    pub overwrite: bool,
}

/// Blocks on the disk and on the reader.
pub(super) fn run<R: Read + Seek>(
    room: &Room,
    vault: &VaultId,
    mut from: R,
    table: &Table,
    collections: &Collections,
    now_ms: u64,
) -> Result<ImportReport> {
    let version = collections.shape(&table.collection).version;
    if table.collection.is_empty() || table.collection.len() > MAX_COLLECTION_LENGTH {
        return Err(Error::NotPossible("a collection's name has 1 to 128 bytes".into()));
    }
    table.mapping.check().map_err(Error::NotPossible)?;
    let record = |row: u64, fields: &Fields| -> Result<(RecordId, Vec<u8>)> {
        let bad = |why: &str| Error::from(ArchiveError::BadRow { row, why: why.into() });
        let id = name_of(vault, table, fields).map_err(|why| bad(&why))?;
        let fields = table.mapping.apply(fields).map_err(|why| bad(&why))?;
        let data = Content::new(version, fields).to_bytes().map_err(|error| bad(&error.to_string()))?;
        Ok((id, data))
    };
    // All of it is looked at before anything is written.
    let (mut ids, mut expected) = (BTreeSet::new(), TableDigest::default());
    let (mut met, mut first) = (BTreeSet::new(), String::new());
    from.rewind().map_err(ArchiveError::Reading)?;
    rows(&mut from, table.form, &mut |row, fields| {
        let bad = |why: &str| Error::from(ArchiveError::BadRow { row, why: why.into() });
        let (id, data) = record(row, &fields)?;
        let body = RecordBody::new(table.collection.as_str(), Hlc { ms: u64::MAX, count: u32::MAX }, data);
        if !RecordKey::fits(body.to_bytes().len()) {
            return Err(bad("a record has at most 256 KiB"));
        }
        match ids.insert(id) {
            true => expected.add(&id, &body),
            false if table.id_field.is_some() => return Err(bad("another row has the same id")),
            false => {}
        }
        met.extend(table.mapping.met(&fields));
        if row == 1 {
            first = fields.0.keys().cloned().collect::<Vec<_>>().join(", ");
        }
        Ok(())
    })?;
    if let Some(name) = table.mapping.unmet(&met).filter(|_| !ids.is_empty()) {
        return Err(Error::NotPossible(format!("no row has a field {name:?}; the first has: {first}")));
    }
    let decide = |before: Option<&RecordBody>, data: &Vec<u8>| {
        let next = || {
            let seen = before.map(|before| before.hlc).unwrap_or_default();
            RecordBody::new(table.collection.as_str(), Hlc::after(seen, now_ms), data.clone())
        };
        Ok(match before {
            None => Verdict::New(next()),
            Some(ours) if says(ours, table, data) => Verdict::Same,
            // What a later version of the app wrote stays as it is, as with every other write.
            Some(ours) if table.overwrite && !collections.is_of_later_app(ours) => Verdict::Updated(next()),
            Some(_) => Verdict::Kept,
        })
    };
    let mut batches = Batches::new(room, vault, decide);
    from.rewind().map_err(ArchiveError::Reading)?;
    rows(&mut from, table.form, &mut |row, fields| {
        let (id, data) = record(row, &fields)?;
        let bytes = data.len();
        batches.take(id, data, bytes)
    })?;
    let report = batches.finish()?;
    let mut found = TableDigest::default();
    let mut here = 0;
    for id in &ids {
        match view::read(room, vault, id) {
            Ok(Some(seen)) if !seen.body.deleted => {
                found.add(id, &seen.body);
                here += 1;
            }
            // It was kept: what cannot be read is not written over.
            Ok(_) | Err(Error::Damaged { .. } | Error::NotHere { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    if report.kept == 0 && found != expected {
        let why = "something else has written the same records meanwhile: bring the table in again";
        return Err(Error::NotPossible(why.into()));
    }
    Ok(ImportReport { rows: here, digest: Some(found.0), ..report })
}

/// Over what records say, whatever their order and whenever it was written.
#[derive(Default, PartialEq, Eq)]
struct TableDigest([u8; 32]);

impl TableDigest {
    fn add(&mut self, id: &RecordId, body: &RecordBody) {
        let fields = Content::from_bytes(&body.data).map(|content| content.fields);
        let said = fields.and_then(|fields| selkie_protocol::Face::Cbor.try_encode(&fields).ok());
        let said = said.unwrap_or_else(|| body.data.0.clone());
        let one = sha256(&[id.as_bytes(), body.collection.as_bytes(), &[0], said.as_slice()].concat());
        self.0.iter_mut().zip(one).for_each(|(all, one)| *all ^= one);
    }
}

/// Whether a record has the fields of a row, whenever they were written.
fn says(ours: &RecordBody, table: &Table, data: &[u8]) -> bool {
    let fields = |data| Content::from_bytes(data).map(|content| content.fields);
    !ours.deleted && ours.collection == table.collection && fields(&ours.data) == fields(data)
}

fn name_of(vault: &VaultId, table: &Table, fields: &Fields) -> std::result::Result<RecordId, String> {
    let told = match &table.id_field {
        Some(field) => match fields.get(field) {
            Some(Value::Text(text)) if !text.is_empty() => [b"i", text.as_bytes()].concat(),
            Some(Value::Int(int)) => [b"i", int.to_string().as_bytes()].concat(),
            _ => return Err(format!("it has no text or integer in {field:?}")),
        },
        None => {
            let row = selkie_protocol::Face::Cbor.try_encode(fields).map_err(|error| error.what)?;
            [b"r".as_slice(), &row].concat()
        }
    };
    let collection = table.collection.as_bytes();
    // Names of collections have at most 128 bytes.
    let length = [u8::try_from(collection.len()).unwrap_or(u8::MAX)];
    let parts = [b"selkie import\0".as_slice(), vault.as_bytes(), &length, collection, &told];
    let hash = sha256(&parts.concat());
    let (name, _) = hash.split_at(RecordId::LENGTH);
    RecordId::try_from(name).map_err(|error| error.to_string())
}

type Each<'a> = &'a mut dyn FnMut(u64, Fields) -> Result<()>;

fn rows(from: impl Read, form: TableForm, each: Each<'_>) -> Result<()> {
    match form {
        TableForm::Csv => csv_rows(from, each),
        TableForm::NdJson => json_lines(from, each),
        TableForm::Json => json_array(from, each),
    }
}

fn csv_rows(from: impl Read, each: Each<'_>) -> Result<()> {
    let mut csv = Csv::new(from)?;
    let Some((_, heading)) = csv.row()? else { return Ok(()) };
    let names: BTreeSet<&String> = heading.iter().collect();
    if names.len() < heading.len() || heading.iter().any(String::is_empty) {
        let why = "the heading has to name every field, and each once".into();
        return Err(ArchiveError::BadRow { row: 0, why }.into());
    }
    while let Some((row, fields)) = csv.row()? {
        if fields.len() != heading.len() {
            let why = format!("it has {} fields, the heading {}", fields.len(), heading.len());
            return Err(ArchiveError::BadRow { row, why }.into());
        }
        each(row, Fields(heading.iter().cloned().zip(fields.into_iter().map(Value::Text)).collect()))?;
    }
    Ok(())
}

fn json_lines(from: impl Read, each: Each<'_>) -> Result<()> {
    let mut from = BufReader::new(from);
    let (mut line, mut row) = (Vec::new(), 0);
    loop {
        line.clear();
        let read = from.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line).map_err(ArchiveError::Reading)?;
        if read == 0 {
            return Ok(());
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        row += 1;
        let bad = |why: String| ArchiveError::BadRow { row, why };
        if read as u64 == LONGEST_LINE {
            return Err(bad("it is too long".into()).into());
        }
        let json = serde_json::from_slice(&line).map_err(|error| bad(error.to_string()))?;
        each(row, fields(&json).ok_or_else(|| bad("it is no object".into()))?)?;
    }
}

fn json_array(from: impl Read, each: Each<'_>) -> Result<()> {
    let left = Rc::new(Cell::new(LONGEST_LINE));
    let metered = Metered { from: BufReader::new(from), left: left.clone() };
    let mut json = serde_json::Deserializer::from_reader(metered);
    let mut elements = Elements { each, row: 0, stopped: None, left: left.clone() };
    let read = (&mut elements).deserialize(&mut json).and_then(|()| json.end());
    match (elements.stopped, read) {
        (Some(error), _) => Err(error),
        (None, Ok(())) => Ok(()),
        (None, Err(_)) if left.get() == 0 => {
            Err(ArchiveError::BadRow { row: elements.row + 1, why: "it is too long".into() }.into())
        }
        (None, Err(error)) if error.is_io() => Err(ArchiveError::Reading(error.into()).into()),
        (None, Err(error)) => Err(ArchiveError::BadRow { row: elements.row + 1, why: error.to_string() }.into()),
    }
}

/// The elements of an array, one at a time.
struct Elements<'a> {
    each: Each<'a>,
    row: u64,
    stopped: Option<Error>,
    /// How much the next element may take of the file.
    left: Rc<Cell<u64>>,
}

/// A reader that fails where an element is longer than any record can be: it would be in memory whole.
struct Metered<R> {
    from: R,
    left: Rc<Cell<u64>>,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let read = self.from.read(into)?;
        self.left.set(self.left.get().saturating_sub(read as u64));
        if self.left.get() == 0 { Err(std::io::ErrorKind::InvalidData.into()) } else { Ok(read) }
    }
}

impl<'de> DeserializeSeed<'de> for &mut Elements<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> std::result::Result<(), D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for &mut Elements<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an array of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> std::result::Result<(), A::Error> {
        while let Some(json) = array.next_element::<serde_json::Value>()? {
            self.row += 1;
            self.left.set(LONGEST_LINE);
            let fields = fields(&json).ok_or_else(|| serde::de::Error::custom("it is no object"));
            let fields = fields.inspect_err(|_: &A::Error| self.row -= 1)?;
            if let Err(error) = (self.each)(self.row, fields) {
                self.stopped = Some(error);
                return Err(serde::de::Error::custom("stopped"));
            }
        }
        Ok(())
    }
}

fn fields(json: &serde_json::Value) -> Option<Fields> {
    match Value::from_json(json) {
        Value::Map(fields) => Some(Fields(fields)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(form: TableForm, text: &str) -> std::result::Result<Vec<(u64, String)>, String> {
        let mut found = Vec::new();
        let mut each = |row, fields: Fields| {
            found.push((row, Value::Map(fields.0).to_json().to_string()));
            Ok(())
        };
        rows(text.as_bytes(), form, &mut each).map_err(|error| error.to_string())?;
        Ok(found)
    }

    #[test]
    fn every_form_says_the_same_rows() {
        let expected = [(1, r#"{"id":"1","t":"a"}"#.to_owned()), (2, r#"{"id":"2","t":"b"}"#.to_owned())];
        assert_eq!(read(TableForm::Csv, "id,t\n1,a\n2,b\n").unwrap(), expected);
        let lines = "{\"t\":\"a\",\"id\":\"1\"}\n\n {\"id\":\"2\",\"t\":\"b\"}";
        assert_eq!(read(TableForm::NdJson, lines).unwrap(), expected);
        let array = r#" [{"t":"a","id":"1"}, {"id":"2","t":"b"}] "#;
        assert_eq!(read(TableForm::Json, array).unwrap(), expected);
    }

    #[test]
    fn a_row_that_is_none_is_named() {
        for (form, text, row) in [
            (TableForm::Csv, "a,b\n1,2\n3\n", "row 2"),
            (TableForm::Csv, "a,a\n1,2\n", "row 0"),
            (TableForm::NdJson, "{}\n{\n", "row 2"),
            (TableForm::NdJson, "7\n", "row 1"),
            (TableForm::Json, "[{},7]", "row 2"),
            (TableForm::Json, "[{}", "row 2"),
            (TableForm::Json, "{}", "row 1"),
            (TableForm::Json, "[] x", "row 1"),
        ] {
            let error = read(form, text).unwrap_err();
            assert!(error.contains(row), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_row_that_no_record_can_hold_is_not_taken_into_memory() {
        let long = "x".repeat(LONGEST_LINE as usize);
        let array = format!("[{{\"a\":\"{long}\"}}]");
        let second = format!("[{{}}, {{\"a\":\"{long}\"}}]");
        let line = format!("{{}}\n{{\"a\":\"{long}\"}}\n");
        for (form, text, row) in [
            (TableForm::Json, &array, "row 1"),
            (TableForm::Json, &second, "row 2"),
            (TableForm::NdJson, &line, "row 2"),
        ] {
            let error = read(form, text).unwrap_err();
            assert!(error.contains(row) && error.contains("too long"), "{row}: {error}");
        }
    }

    #[test]
    fn a_row_has_one_name_in_one_place() {
        let table = |collection: &str, id_field: Option<&str>| Table {
            form: TableForm::Json,
            collection: collection.into(),
            id_field: id_field.map(str::to_owned),
            mapping: Mapping::default(),
            overwrite: false,
        };
        let row = |json| Fields::of(&json).unwrap();
        let (one, other) = (row(serde_json::json!({ "id": 7, "t": "a" })), row(serde_json::json!({ "id": "7" })));
        let named = |vault: u8, table: &Table, fields| name_of(&VaultId([vault; 32]), table, fields);
        let by_id = table("notes", Some("id"));
        assert_eq!(named(1, &by_id, &one), named(1, &by_id, &other), "CSV knows no numbers");
        assert_ne!(named(1, &by_id, &one), named(2, &by_id, &one));
        assert_ne!(named(1, &by_id, &one), named(1, &table("tasks", Some("id")), &one));
        assert_ne!(named(1, &table("notes", None), &one), named(1, &table("notes", None), &other));
        assert!(named(1, &table("notes", Some("t")), &other).is_err());
    }
}
