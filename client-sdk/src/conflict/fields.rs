//! Records that two people changed at once, field by field.
//!
//! Owns what becomes of each field: a change of one side stands; where both changed, the kind of the field decides.
//! Each field has a stamp of its own, so whoever merges first, and in whatever order, the same comes out for plain
//! fields, counters and sets. Pure.

use super::align::{Piece, merge};
use super::text::merge_text;
use crate::records::{Content, Fields, Value};
use selkie_protocol::record::Hlc;
use std::collections::{BTreeMap, BTreeSet};

/// What becomes of a field that both sides have changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Merge {
    /// What was written last stands; the other is lost from the record and stays in its history.
    #[default]
    Newest,
    /// A number to which both have added or from which they have taken: both count.
    Counter,
    /// A list in which each element is there or not, in no particular order: what either added is there, what either
    /// removed is not.
    Set,
    /// A list whose order matters: both sides' insertions and removals stand.
    List,
    /// A text: words that either changed are changed.
    Text,
    /// A [`Document`](super::Document): all that either wrote in it stands.
    #[cfg(feature = "crdt")]
    Document,
}

/// A version of a record, and when it was written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Side<'a> {
    pub(crate) content: &'a Content,
    pub(crate) written: Hlc,
}

/// Fields put together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MergedFields {
    pub(crate) content: Content,
    /// Of these something that one side wrote is not in the record any more.
    pub(crate) lost: BTreeSet<String>,
}

/// Puts two versions together. Without a base, of fields that differ the one written last stands.
pub(crate) fn merge_fields(
    kind: impl Fn(&str, &Value) -> Merge,
    base: Option<&Fields>,
    mine: Side<'_>,
    theirs: Side<'_>,
) -> MergedFields {
    let names: BTreeSet<&String> = mine.content.names().chain(theirs.content.names()).collect();
    let mut fields = Fields::default();
    let (mut stamps, mut lost) = (BTreeMap::new(), BTreeSet::new());
    for name in names {
        let of = |side: Side<'_>| side.content.stamp(name, side.written);
        let (my_stamp, their_stamp) = (of(mine), of(theirs));
        let (my_value, their_value) = (mine.content.fields.get(name), theirs.content.fields.get(name));
        let was = base.map(|base| base.get(name));
        // Two people who have both counted one more have counted two.
        let both_counted = || {
            let kind = my_value.map(|value| kind(name, value));
            kind == Some(Merge::Counter) && was.is_some_and(|was| was != my_value)
        };
        let (stamp, value) = if my_value == their_value && !both_counted() {
            (my_stamp.max(their_stamp), my_value.cloned())
        } else {
            let older_first = (my_stamp, my_value) < (their_stamp, their_value);
            let (older, newer) = if older_first { (my_value, their_value) } else { (their_value, my_value) };
            match was {
                Some(was) if was == my_value => (their_stamp, their_value.cloned()),
                Some(was) if was == their_value => (my_stamp, my_value.cloned()),
                was => {
                    let sample = newer.or(older).unwrap_or(&Value::Null);
                    let (value, all) = both(kind(name, sample), was.flatten(), was.is_some(), older, newer);
                    if !all {
                        lost.insert(name.clone());
                    }
                    (my_stamp.max(their_stamp), value)
                }
            }
        };
        stamps.insert(name.clone(), stamp);
        if let Some(value) = value {
            fields.0.insert(name.clone(), value);
        }
    }
    let version = mine.content.version.max(theirs.content.version);
    MergedFields { content: Content::put_together(version, fields, stamps), lost }
}

/// What comes of a field that both have changed, and whether all of both is in it.
fn both(
    kind: Merge,
    base: Option<&Value>,
    base_known: bool,
    older: Option<&Value>,
    newer: Option<&Value>,
) -> (Option<Value>, bool) {
    let newest = || (newer.cloned(), false);
    let (Some(one), Some(other)) = (older, newer) else { return newest() };
    match kind {
        Merge::Newest => newest(),
        Merge::Counter if !base_known => newest(),
        Merge::Counter => match count(base.unwrap_or(&Value::Int(0)), one, other) {
            Some(sum) => (Some(sum), true),
            None => newest(),
        },
        Merge::Set => match (elements(base), one, other) {
            (Some(base), Value::List(one), Value::List(other)) => (Some(set(base, one, other)), true),
            _ => newest(),
        },
        Merge::List if !base_known => newest(),
        Merge::List => match (elements(base), one, other) {
            (Some(base), Value::List(one), Value::List(other)) => list(base, one, other),
            _ => newest(),
        },
        Merge::Text if !base_known => newest(),
        Merge::Text => match (base.unwrap_or(&Value::Text(String::new())), one, other) {
            (Value::Text(base), Value::Text(one), Value::Text(other)) => {
                let merged = merge_text(base, one, other);
                (Some(Value::Text(merged.text)), !merged.lost)
            }
            _ => newest(),
        },
        #[cfg(feature = "crdt")]
        Merge::Document => match (one, other) {
            (Value::Bytes(one), Value::Bytes(other)) => match super::document::merge_documents(one, other) {
                Ok(both) => (Some(Value::Bytes(both)), true),
                // One of them is none: the newer stands, and it is told that the other is lost.
                Err(_) => newest(),
            },
            _ => newest(),
        },
    }
}

fn elements(base: Option<&Value>) -> Option<&[Value]> {
    match base {
        None | Some(Value::Null) => Some(&[]),
        Some(value) => value.as_list(),
    }
}

fn count(base: &Value, one: &Value, other: &Value) -> Option<Value> {
    let float = |value: &Value| match value {
        Value::Int(int) => Some(*int as f64),
        Value::Float(float) => Some(*float),
        _ => None,
    };
    match (base, one, other) {
        (Value::Int(base), Value::Int(one), Value::Int(other)) => {
            let range = i128::from(i64::MIN)..=i128::from(u64::MAX);
            Some(one + other - base).filter(|sum| range.contains(sum)).map(Value::Int)
        }
        _ => Some(Value::Float(float(one)? + float(other)? - float(base)?)),
    }
}

fn set(base: &[Value], one: &[Value], other: &[Value]) -> Value {
    let before: BTreeSet<&Value> = base.iter().collect();
    let (one, other): (BTreeSet<&Value>, BTreeSet<&Value>) = (one.iter().collect(), other.iter().collect());
    let mut seen = BTreeSet::new();
    let stayed = base.iter().filter(|value| one.contains(value) && other.contains(value) && seen.insert(*value));
    let stayed: Vec<Value> = stayed.cloned().collect();
    let added = one.union(&other).filter(|value| !before.contains(*value));
    Value::List(stayed.into_iter().chain(added.map(|value| (*value).clone())).collect())
}

fn list(base: &[Value], older: &[Value], newer: &[Value]) -> (Option<Value>, bool) {
    let (mut merged, mut all) = (Vec::new(), true);
    for piece in merge(base, older, newer) {
        match piece {
            Piece::Agreed(values) => merged.extend_from_slice(values),
            Piece::Clash { base: [], mine, theirs } => merged.extend(mine.iter().chain(theirs).cloned()),
            Piece::Clash { theirs, .. } => {
                merged.extend_from_slice(theirs);
                all = false;
            }
        }
    }
    (Some(Value::List(merged)), all)
}
