//! What the fields of a table's row become in a record.
//!
//! Owns the new names, the types and which fields come along. Pure: a row goes in, the fields of a record come out, or
//! why not.

use crate::records::Value;
use crate::records::content::Fields;
use std::collections::BTreeSet;

/// What the text in a table stands for. CSV knows nothing else, and a record that is to be asked for by its number has
/// to have one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FieldType {
    /// A text, also where the table has a number.
    Text,
    /// An integer.
    Integer,
    /// Any number.
    Number,
    /// `true` or `false`, `yes` or `no`, `1` or `0`, in whatever case.
    Boolean,
    /// Whatever the text says, read as JSON.
    Json,
}

/// What becomes of the fields of a row. Without a word about it, a field comes along as it is.
///
/// ```
/// use selkie_client::{FieldType, Mapping};
/// let mapping = Mapping::default()
///     .field("Title", "title")
///     .typed("Amount", "cents", FieldType::Integer)
///     .leave_out("Row");
/// # drop(mapping);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapping {
    rules: Vec<Rule>,
    only_named: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    from: String,
    /// Missing if the field does not come along.
    to: Option<String>,
    kind: Option<FieldType>,
}

impl Mapping {
    /// A field under another name.
    #[must_use]
    pub fn field(self, from: impl Into<String>, to: impl Into<String>) -> Self {
        self.with(from, Some(to.into()), None)
    }

    /// A field as something else than it is in the table, perhaps under another name. An empty text stands for nothing:
    /// the record does not have the field then, except as a text.
    #[must_use]
    pub fn typed(self, from: impl Into<String>, to: impl Into<String>, kind: FieldType) -> Self {
        self.with(from, Some(to.into()), Some(kind))
    }

    /// A field that does not come along.
    #[must_use]
    pub fn leave_out(self, from: impl Into<String>) -> Self {
        self.with(from, None, None)
    }

    /// Fields that are not named do not come along.
    #[must_use]
    pub fn only_named(mut self) -> Self {
        self.only_named = true;
        self
    }

    fn with(mut self, from: impl Into<String>, to: Option<String>, kind: Option<FieldType>) -> Self {
        self.rules.push(Rule { from: from.into(), to, kind });
        self
    }

    /// Whether it says one thing about each field, and of each that it names.
    pub(super) fn check(&self) -> Result<(), String> {
        let mut from = BTreeSet::new();
        let mut to = BTreeSet::new();
        for rule in &self.rules {
            if !from.insert(&rule.from) {
                return Err(format!("the mapping says two things about {:?}", rule.from));
            }
            if rule.to.as_ref().is_some_and(|name| name.is_empty() || !to.insert(name)) {
                return Err("the mapping has a field without a name, or two of one".into());
            }
        }
        Ok(())
    }

    /// Which of the fields that it names a row has.
    pub(super) fn met<'a>(&'a self, row: &Fields) -> impl Iterator<Item = &'a str> {
        self.rules.iter().map(|rule| rule.from.as_str()).filter(|name| row.0.contains_key(*name))
    }

    /// A field that it names and no row has.
    pub(super) fn unmet(&self, met: &BTreeSet<&str>) -> Option<&str> {
        self.rules.iter().map(|rule| rule.from.as_str()).find(|name| !met.contains(name))
    }

    pub(super) fn apply(&self, row: &Fields) -> Result<Fields, String> {
        if self.rules.is_empty() && !self.only_named {
            return Ok(row.clone());
        }
        let mut fields = Fields::default();
        for (name, value) in &row.0 {
            let rule = self.rules.iter().find(|rule| rule.from == *name);
            let (to, value) = match rule {
                Some(Rule { to: None, .. }) => continue,
                Some(Rule { to: Some(to), kind: None, .. }) => (to, Some(value.clone())),
                Some(Rule { to: Some(to), kind: Some(kind), .. }) => {
                    let read = kind.read(value).map_err(|what| format!("{name:?} is no {what}"))?;
                    (to, read)
                }
                None if self.only_named => continue,
                None => (name, Some(value.clone())),
            };
            if let Some(value) = value
                && fields.0.insert(to.clone(), value).is_some()
            {
                return Err(format!("two of its fields would be called {to:?}"));
            }
        }
        Ok(fields)
    }
}

impl FieldType {
    /// As a word that stays the same.
    pub fn of_word(word: &str) -> Option<FieldType> {
        Some(match word {
            "text" => FieldType::Text,
            "integer" => FieldType::Integer,
            "number" => FieldType::Number,
            "boolean" => FieldType::Boolean,
            "json" => FieldType::Json,
            _ => return None,
        })
    }

    /// What it is not, if it is not.
    fn read(self, value: &Value) -> Result<Option<Value>, &'static str> {
        let text = match value {
            Value::Text(text) => text.trim(),
            other => return self.keep(other).map(Some),
        };
        if text.is_empty() && self != FieldType::Text {
            return Ok(None);
        }
        let read = match self {
            FieldType::Text => Some(value.clone()),
            FieldType::Integer => integer(text),
            FieldType::Number => number(text),
            FieldType::Boolean => match text.to_ascii_lowercase().as_str() {
                "true" | "yes" | "1" => Some(Value::Bool(true)),
                "false" | "no" | "0" => Some(Value::Bool(false)),
                _ => None,
            },
            FieldType::Json => serde_json::from_str(text).ok().map(|json| Value::from_json(&json)),
        };
        read.map(Some).ok_or(self.name())
    }

    /// What is no text in the table is what it is, or can be made a text of.
    fn keep(self, value: &Value) -> Result<Value, &'static str> {
        match (self, value) {
            (FieldType::Text, Value::Int(_) | Value::Float(_) | Value::Bool(_)) => {
                Ok(Value::Text(value.to_json().to_string()))
            }
            (FieldType::Integer, Value::Int(_))
            | (FieldType::Number, Value::Int(_) | Value::Float(_))
            | (FieldType::Boolean, Value::Bool(_))
            | (FieldType::Json, _)
            | (_, Value::Null) => Ok(value.clone()),
            _ => Err(self.name()),
        }
    }

    fn name(self) -> &'static str {
        match self {
            FieldType::Text => "text",
            FieldType::Integer => "integer",
            FieldType::Number => "number",
            FieldType::Boolean => "boolean",
            FieldType::Json => "JSON",
        }
    }
}

/// What a record can hold.
fn integer(text: &str) -> Option<Value> {
    let holds = -(1_i128 << 64)..1_i128 << 64;
    text.parse::<i128>().ok().filter(|int| holds.contains(int)).map(Value::Int)
}

/// An integer where it was written as one.
fn number(text: &str) -> Option<Value> {
    let float = || text.parse::<f64>().ok().filter(|float| float.is_finite()).map(Value::Float);
    integer(text).or_else(float)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(json: serde_json::Value) -> Fields {
        Fields::of(&json).unwrap()
    }

    #[test]
    fn without_a_word_everything_comes_along_as_it_is() {
        let fields = row(serde_json::json!({ "a": "1", "b": 2 }));
        assert_eq!(Mapping::default().apply(&fields), Ok(fields));
    }

    #[test]
    fn fields_get_names_and_types() {
        let mapping = Mapping::default()
            .field("Title", "title")
            .typed("Amount", "cents", FieldType::Integer)
            .typed("Rate", "Rate", FieldType::Number)
            .typed("Done", "done", FieldType::Boolean)
            .typed("Tags", "tags", FieldType::Json)
            .typed("Zip", "zip", FieldType::Text)
            .typed("Note", "note", FieldType::Integer)
            .leave_out("Row");
        let table = row(serde_json::json!({
            "Title": "Rent", "Amount": " 90000 ", "Rate": "1.5", "Done": "Yes", "Tags": "[\"home\"]", "Zip": 3001,
            "Note": "", "Row": "7", "Other": "x"
        }));
        let expected = serde_json::json!({
            "title": "Rent", "cents": 90_000, "Rate": 1.5, "done": true, "tags": ["home"], "zip": "3001", "Other": "x"
        });
        assert_eq!(mapping.apply(&table), Ok(row(expected)));
        let only = Mapping::default().field("Title", "title").only_named().apply(&table);
        assert_eq!(only, Ok(row(serde_json::json!({ "title": "Rent" }))));
    }

    #[test]
    fn what_does_not_read_is_named() {
        let fields = row(serde_json::json!({ "n": "seven", "b": "maybe", "j": "{", "t": ["x"] }));
        for (name, kind) in [
            ("n", FieldType::Integer),
            ("n", FieldType::Number),
            ("b", FieldType::Boolean),
            ("j", FieldType::Json),
            ("t", FieldType::Text),
        ] {
            let error = Mapping::default().typed(name, name, kind).apply(&fields).unwrap_err();
            assert!(error.contains(name) && error.contains(kind.name()), "{error}");
        }
        assert_eq!(FieldType::Number.read(&Value::from("inf")), Err("number"));
        let longest = Value::from("18446744073709551615");
        assert_eq!(FieldType::Integer.read(&longest), Ok(Some(Value::Int(u64::MAX.into()))));
        assert_eq!(FieldType::Integer.read(&Value::from("18446744073709551616")), Err("integer"));
        assert!(Mapping::default().field("n", "b").apply(&fields).unwrap_err().contains("\"b\""));
        assert!(Mapping::default().field("n", "x").field("n", "y").check().is_err());
        assert!(Mapping::default().field("n", "x").field("b", "x").check().is_err());
        let mapping = Mapping::default().field("n", "x").leave_out("m");
        assert_eq!(mapping.unmet(&mapping.met(&fields).collect()), Some("m"));
    }
}
