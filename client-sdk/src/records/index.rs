//! A collection in memory, as far as it is needed to find records: their indexed fields and words, never the rest.
//!
//! Owns building it once and keeping it in step: the store says what was touched since, whoever touched it. Nothing of
//! it lies on the disk, so it tells nobody anything. Knows nothing of what is asked.

use super::content::{Content, Fields};
use super::schema::Shape;
use super::value::Value;
use super::view;
use crate::error::Result;
use crate::sync::room::Room;
use selkie_protocol::id::{ChangeId, RecordId, VaultId};
use selkie_protocol::record::{Hlc, RecordBody};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

/// The values of an index's fields, numbers in one form; null where a field is missing.
pub(super) type Key = Vec<Value>;

/// The index of one collection.
#[derive(Default)]
pub(crate) struct Shelved {
    stamp: Option<u64>,
    pub(super) rows: BTreeMap<RecordId, Row>,
    /// In the order they were declared.
    pub(super) indexes: Vec<BTreeSet<(Key, RecordId)>>,
    words: BTreeMap<Arc<str>, BTreeSet<RecordId>>,
}

/// What is remembered of one record.
pub(super) struct Row {
    pub(super) keys: Vec<Key>,
    words: BTreeSet<Arc<str>>,
}

impl Shelved {
    /// Comes into step with the store. Returns the stamp it is at.
    pub(super) fn catch_up(&mut self, room: &Room, vault: &VaultId, name: &str, shape: &Shape) -> Result<u64> {
        let (stamp, touched) = match self.stamp {
            Some(before) => room.store.touched(vault, before)?,
            None => (0, None),
        };
        let Some(touched) = touched else { return self.build(room, vault, name, shape) };
        for record in touched {
            self.forget(&record);
            if let Some(seen) = view::read_if_here(room, vault, &record)? {
                self.take(record, &seen.body, name, shape);
            }
        }
        self.stamp = Some(stamp);
        Ok(stamp)
    }

    fn build(&mut self, room: &Room, vault: &VaultId, name: &str, shape: &Shape) -> Result<u64> {
        *self = Shelved { indexes: vec![BTreeSet::new(); shape.indexes.len()], ..Shelved::default() };
        let mut newest: HashMap<RecordId, (Hlc, Option<ChangeId>)> = HashMap::new();
        let mut failed = None;
        let shelf = room.at_rest.shelf(vault, name);
        let stamp = room.store.shelf(vault, &shelf, &mut |shown| {
            let body = match view::open(room, vault, &shown.record, &shown.sealed) {
                Ok(body) => body,
                Err(error) => return failed = Some(error),
            };
            let rank = (body.hlc, shown.change);
            if newest.get(&shown.record).is_none_or(|known| *known < rank) {
                newest.insert(shown.record, rank);
                self.forget(&shown.record);
                self.take(shown.record, &body, name, shape);
            }
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        self.stamp = Some(stamp);
        Ok(stamp)
    }

    /// What a later version of the app wrote, or was written as plain bytes, is not found.
    fn take(&mut self, record: RecordId, body: &RecordBody, name: &str, shape: &Shape) {
        let Some(Content { fields, .. }) = readable(body, name, shape) else { return };
        let keys: Vec<Key> = shape.indexes.iter().map(|index| key(&fields, index)).collect();
        for (index, key) in self.indexes.iter_mut().zip(&keys) {
            index.insert((key.clone(), record));
        }
        let mut words = BTreeSet::new();
        for word in shape.search.iter().filter_map(|path| fields.at(path)?.as_text()).flat_map(words_of) {
            let word = match self.words.get_key_value(word.as_str()) {
                Some((known, _)) => known.clone(),
                None => Arc::from(word),
            };
            self.words.entry(word.clone()).or_default().insert(record);
            words.insert(word);
        }
        self.rows.insert(record, Row { keys, words });
    }

    fn forget(&mut self, record: &RecordId) {
        let Some(row) = self.rows.remove(record) else { return };
        for (index, key) in self.indexes.iter_mut().zip(row.keys) {
            index.remove(&(key, *record));
        }
        for word in row.words {
            if let Some(having) = self.words.get_mut(&word) {
                having.remove(record);
                if having.is_empty() {
                    self.words.remove(&word);
                }
            }
        }
    }

    /// Records that have all these words; the last may be the beginning of one.
    pub(super) fn search(&self, text: &str) -> BTreeSet<RecordId> {
        let words: Vec<String> = words_of(text).collect();
        let mut found: Option<BTreeSet<RecordId>> = None;
        for (place, word) in words.iter().enumerate() {
            let having = if place + 1 == words.len() {
                let begin = self.words.range::<str, _>((Bound::Included(word.as_str()), Bound::Unbounded));
                let begin = begin.take_while(|(known, _)| known.starts_with(word.as_str()));
                begin.flat_map(|(_, records)| records.iter().copied()).collect()
            } else {
                self.words.get(word.as_str()).cloned().unwrap_or_default()
            };
            found = Some(match found {
                Some(before) => before.intersection(&having).copied().collect(),
                None => having,
            });
        }
        found.unwrap_or_default()
    }
}

/// What a record of this collection says in today's version, if it can be read here at all. Whatever a query looks at
/// has come through here: a field that a later version has renamed is found under its new name.
pub(super) fn readable(body: &RecordBody, name: &str, shape: &Shape) -> Option<Content> {
    let content = (!body.deleted && body.collection == name).then(|| Content::from_bytes(&body.data)).flatten();
    content.and_then(|content| shape.raise(content))
}

fn key(fields: &Fields, index: &[String]) -> Key {
    index.iter().map(|path| fields.at(path).map_or(Value::Null, Value::in_one_form)).collect()
}

/// Words in small letters, without what stands between them.
fn words_of(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase)
}
