//! What an app says of its collections, once, when it makes its client.
//!
//! Owns the declaration and what follows from it: how an older record is raised to today's version, and how its fields
//! are merged. Pure.

use super::content::{Content, Fields};
use crate::conflict::{Merge, Strategy};
use selkie_protocol::record::RecordBody;
use std::collections::BTreeMap;
use std::sync::Arc;

type Upcast = dyn Fn(Fields) -> Fields + Send + Sync;

/// What an app says of one collection: its version, how conflicts are decided, what is looked for.
///
/// ```
/// use selkie_client::{CollectionShape, Merge, Strategy, Value};
///
/// let notes = CollectionShape::new("notes")
///     .conflicts(Strategy::TextMerge)
///     .field("tags", Merge::Set)
///     .index(["mood", "day"])
///     .search(["title", "body"])
///     .version(2)
///     // Version 1 had no mood.
///     .upcast(1, |mut fields| {
///         fields.set("mood", Value::Null);
///         fields
///     });
/// ```
#[derive(Clone)]
#[must_use]
pub struct CollectionShape {
    name: String,
    shape: Shape,
}

/// What holds for a collection.
#[derive(Clone)]
pub(crate) struct Shape {
    pub(crate) version: u32,
    pub(crate) conflicts: Strategy,
    fields: BTreeMap<String, Merge>,
    upcasts: BTreeMap<u32, Arc<Upcast>>,
    pub(crate) indexes: Vec<Vec<String>>,
    pub(crate) search: Vec<String>,
}

impl Default for Shape {
    fn default() -> Self {
        Shape {
            version: 1,
            conflicts: Strategy::default(),
            fields: BTreeMap::new(),
            upcasts: BTreeMap::new(),
            indexes: Vec::new(),
            search: Vec::new(),
        }
    }
}

impl CollectionShape {
    /// A collection by its name, version 1, merged by field.
    pub fn new(name: impl Into<String>) -> Self {
        CollectionShape { name: name.into(), shape: Shape::default() }
    }

    /// How conflicts are decided.
    pub fn conflicts(mut self, strategy: Strategy) -> Self {
        self.shape.conflicts = strategy;
        self
    }

    /// How a field is merged that both sides have changed, if its collection merges by field.
    pub fn field(mut self, name: impl Into<String>, merge: Merge) -> Self {
        self.shape.fields.insert(name.into(), merge);
        self
    }

    /// The version of the app's type that is written from now on. Raise it with every change that an older app would
    /// misunderstand: records of later versions are kept as they are, and never written over by an older app.
    pub fn version(mut self, version: u32) -> Self {
        self.shape.version = version;
        self
    }

    /// Makes fields of version `from` into fields of the next. Records are raised when they are read, and written down
    /// so when they are next changed.
    pub fn upcast(mut self, from: u32, raise: impl Fn(Fields) -> Fields + Send + Sync + 'static) -> Self {
        self.shape.upcasts.insert(from, Arc::new(raise));
        self
    }

    /// Makes queries quick that fix the first of these fields, ask for a range of the next, or order by it.
    pub fn index<F: Into<String>>(mut self, fields: impl IntoIterator<Item = F>) -> Self {
        self.shape.indexes.push(fields.into_iter().map(Into::into).collect());
        self
    }

    /// Fields whose words can be searched for.
    pub fn search<F: Into<String>>(mut self, fields: impl IntoIterator<Item = F>) -> Self {
        self.shape.search = fields.into_iter().map(Into::into).collect();
        self
    }
}

impl std::fmt::Debug for CollectionShape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Shape { version, conflicts, indexes, search, .. } = &self.shape;
        let mut all = f.debug_struct("CollectionShape");
        all.field("name", &self.name).field("version", version).field("conflicts", conflicts);
        all.field("indexes", indexes).field("search", search).finish_non_exhaustive()
    }
}

impl Shape {
    /// Today's version of what an older one says; `None` if a later version of the app wrote it.
    pub(crate) fn raise(&self, mut content: Content) -> Option<Content> {
        if content.version > self.version {
            return None;
        }
        while content.version < self.version {
            if let Some(raise) = self.upcasts.get(&content.version) {
                content.fields = raise(content.fields);
            }
            content.version += 1;
        }
        Some(content)
    }

    /// Whether two people who write the same may have meant more than one of them alone.
    pub(crate) fn counts(&self) -> bool {
        self.fields.values().any(|merge| *merge == Merge::Counter)
    }

    pub(crate) fn merge_of(&self, field: &str, is_free_text: bool) -> Merge {
        let otherwise = if is_free_text { Merge::Text } else { Merge::Newest };
        self.fields.get(field).copied().unwrap_or(otherwise)
    }
}

/// All that were declared; any other is version 1 and merged by field.
#[derive(Clone, Default)]
pub(crate) struct Collections {
    declared: Arc<BTreeMap<String, Arc<Shape>>>,
    otherwise: Arc<Shape>,
}

impl Collections {
    pub(crate) fn declare(&mut self, CollectionShape { name, shape }: CollectionShape) {
        Arc::make_mut(&mut self.declared).insert(name, Arc::new(shape));
    }

    pub(crate) fn shape(&self, collection: &str) -> Arc<Shape> {
        self.declared.get(collection).unwrap_or(&self.otherwise).clone()
    }

    /// Whether a later version of the app wrote it, so that this one must not write over it.
    pub(crate) fn is_of_later_app(&self, body: &RecordBody) -> bool {
        let content = Content::from_bytes(&body.data).filter(|_| !body.deleted);
        content.is_some_and(|content| content.version > self.shape(&body.collection).version)
    }

    pub(crate) fn is_declared(&self, collection: &str) -> bool {
        self.declared.contains_key(collection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_record_is_raised_step_by_step_and_a_later_one_is_left_alone() {
        let notes = CollectionShape::new("notes")
            .version(3)
            .upcast(1, |mut fields| {
                fields.set("two", true);
                fields
            })
            .upcast(2, |mut fields| {
                fields.set("three", fields.get("two").is_some());
                fields
            });
        let mut all = Collections::default();
        all.declare(notes);
        let raised = all.shape("notes").raise(Content::new(1, Fields::default())).unwrap();
        assert_eq!(raised.version, 3);
        assert_eq!(raised.fields.get("three"), Some(&true.into()));
        assert_eq!(all.shape("notes").raise(Content::new(4, Fields::default())), None);
        assert!(!all.is_declared("tasks") && all.shape("tasks").version == 1);
    }
}
