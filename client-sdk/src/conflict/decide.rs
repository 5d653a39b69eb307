//! The strategies.
//!
//! Owns which of them does what, and the three rules that no strategy can break: a deletion does not beat an edit that
//! is newer, what says the same is no conflict, and what a later version of the app wrote is never written over.

use super::fields::{MergedFields, Side, merge_fields};
use crate::records::{Collections, Content, Fields, Shape, Value};
use crate::sync::settle::{NewestFirst, Settle, Settled};
use selkie_protocol::record::{Hlc, RecordBody};
use std::sync::Arc;

/// How conflicts in a collection are decided. [`Strategy::FieldMerge`] unless an app says otherwise.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Strategy {
    /// What this device wrote stands. For what belongs to one device, such as its settings.
    LocalWins,
    /// What is in the log already stands. For what somebody else decides, such as a catalogue.
    RemoteWins,
    /// The whole record as it was written last. For records whose fields make sense only together.
    LastWriterWins,
    /// Changes of different fields both stand; of one field, as [`Merge`](super::Merge) says for it.
    #[default]
    FieldMerge,
    /// The same, and all texts are merged by word if nothing else is said of them. For notes.
    TextMerge,
    /// A function of the app's own.
    Custom(CustomMerge),
    /// What is in the log stands for now, and a person is asked: see
    /// [`Collection::undecided`](crate::Collection::undecided).
    AskUser,
}

/// One of the versions between which is decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// `None` if this version deletes the record.
    pub fields: Option<Fields>,
    /// When it was written.
    pub at: Hlc,
}

/// What a [`Strategy::Custom`] has decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// What this device wrote stands.
    Mine,
    /// What is in the log stands.
    Theirs,
    /// This stands instead of both.
    Merged(Fields),
    /// A person is to decide.
    Ask,
}

type Decide = dyn Fn(Option<&Written>, &Written, &Written) -> Decision + Send + Sync;

/// A function that decides conflicts: what both were made from, as far as it is known; what this device wrote; what is
/// in the log. It must depend on nothing else, since several devices may meet the same conflict.
#[derive(Clone)]
pub struct CustomMerge(Arc<Decide>);

impl CustomMerge {
    /// Wraps the app's function, for [`Strategy::Custom`].
    pub fn new(
        decide: impl Fn(Option<&Written>, &Written, &Written) -> Decision + Send + Sync + 'static,
    ) -> CustomMerge {
        CustomMerge(Arc::new(decide))
    }
}

impl std::fmt::Debug for CustomMerge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CustomMerge")
    }
}

/// Decides each conflict as its collection wants it.
pub(crate) struct ByCollection {
    pub(crate) collections: Collections,
    /// For what is no record of a typed collection.
    pub(crate) otherwise: Arc<dyn Settle>,
}

impl Settle for ByCollection {
    fn settle(&self, base: Option<&RecordBody>, mine: &RecordBody, theirs: &RecordBody) -> Settled {
        let shape = self.collections.shape(&mine.collection);
        if mine.says_the_same(theirs) && (mine.deleted || !shape.counts()) {
            return Settled::Same;
        }
        if mine.collection != theirs.collection {
            return NewestFirst.settle(base, mine, theirs);
        }
        let declared = self.collections.is_declared(&mine.collection);
        match (read(&shape, mine), read(&shape, theirs)) {
            (_, Reading::Newer) | (Reading::Newer, _) => newer_stays(&shape, mine, theirs),
            (Reading::Plain, _) | (_, Reading::Plain) if !declared => self.otherwise.settle(base, mine, theirs),
            (Reading::Plain, _) | (_, Reading::Plain) => whole(&shape.conflicts, mine, theirs),
            (mine_read, theirs_read) => {
                let base_read = base.map(|base| (base, read(&shape, base)));
                decide(&shape, base_read, (mine, mine_read.content()), (theirs, theirs_read.content()))
            }
        }
    }
}

/// How a body reads to this version of the app.
enum Reading {
    Deleted,
    Fields(Content),
    /// A later version of the app wrote it.
    Newer,
    /// Bytes of the app's own.
    Plain,
}

impl Reading {
    fn content(self) -> Option<Content> {
        match self {
            Reading::Fields(content) => Some(content),
            _ => None,
        }
    }
}

fn read(shape: &Shape, body: &RecordBody) -> Reading {
    if body.deleted {
        return Reading::Deleted;
    }
    match Content::from_bytes(&body.data) {
        Some(content) => shape.raise(content).map_or(Reading::Newer, Reading::Fields),
        None => Reading::Plain,
    }
}

/// What is newer than this app stays as it is. If it is theirs, it stands; if it is ours, from before the app was
/// replaced by an older one, the newest of the two does.
/// Whoever wants to be asked is asked: until then theirs stands, and nothing is written over.
fn newer_stays(shape: &Shape, mine: &RecordBody, theirs: &RecordBody) -> Settled {
    match read(shape, theirs) {
        _ if matches!(shape.conflicts, Strategy::AskUser) => Settled::Ask,
        Reading::Newer if !mine.deleted => Settled::Theirs,
        _ => NewestFirst.settle(None, mine, theirs),
    }
}

fn whole(strategy: &Strategy, mine: &RecordBody, theirs: &RecordBody) -> Settled {
    match strategy {
        Strategy::AskUser => Settled::Ask,
        _ if mine.deleted != theirs.deleted => with_a_deletion(strategy, mine, theirs),
        Strategy::LocalWins => Settled::Mine,
        Strategy::RemoteWins => Settled::Theirs,
        _ => NewestFirst.settle(None, mine, theirs),
    }
}

/// One side has deleted the record. An edit that is not older stands, whatever the strategy.
fn with_a_deletion(strategy: &Strategy, mine: &RecordBody, theirs: &RecordBody) -> Settled {
    let edit_stands = match mine.deleted {
        true => theirs.hlc >= mine.hlc,
        false => mine.hlc >= theirs.hlc,
    };
    match (edit_stands, strategy) {
        (true, _) if mine.deleted => Settled::Theirs,
        (true, _) => Settled::Mine,
        (false, Strategy::LocalWins) => Settled::Mine,
        (false, Strategy::RemoteWins) => Settled::Theirs,
        (false, _) => NewestFirst.settle(None, mine, theirs),
    }
}

fn decide(
    shape: &Shape,
    base: Option<(&RecordBody, Reading)>,
    (mine, my_content): (&RecordBody, Option<Content>),
    (theirs, their_content): (&RecordBody, Option<Content>),
) -> Settled {
    let written = |body: &RecordBody, content: Option<&Content>| Written {
        fields: content.map(|content| content.fields.clone()),
        at: body.hlc,
    };
    if let Strategy::Custom(CustomMerge(decide)) = &shape.conflicts {
        let base = base.map(|(body, reading)| written(body, reading.content().as_ref()));
        let (mine_is, theirs_is) = (written(mine, my_content.as_ref()), written(theirs, their_content.as_ref()));
        return match decide(base.as_ref(), &mine_is, &theirs_is) {
            _ if mine.deleted != theirs.deleted && edit_is_newer(mine, theirs) => {
                with_a_deletion(&shape.conflicts, mine, theirs)
            }
            Decision::Mine => Settled::Mine,
            Decision::Theirs => Settled::Theirs,
            Decision::Ask => Settled::Ask,
            Decision::Merged(fields) => {
                let merged = Content::new(shape.version, fields);
                merged_body(mine, theirs, &merged, true)
            }
        };
    }
    let (Some(my_content), Some(their_content)) = (my_content, their_content) else {
        return whole(&shape.conflicts, mine, theirs);
    };
    if !matches!(shape.conflicts, Strategy::FieldMerge | Strategy::TextMerge) {
        return whole(&shape.conflicts, mine, theirs);
    }
    let base = base.and_then(|(_, reading)| reading.content()).map(|content| content.fields);
    let texts = matches!(shape.conflicts, Strategy::TextMerge);
    let kind = |name: &str, sample: &Value| shape.merge_of(name, texts && matches!(sample, Value::Text(_)));
    let my_side = Side { content: &my_content, written: mine.hlc };
    let their_side = Side { content: &their_content, written: theirs.hlc };
    let MergedFields { content, lost } = merge_fields(kind, base.as_ref(), my_side, their_side);
    merged_body(mine, theirs, &content, !lost.is_empty())
}

fn edit_is_newer(mine: &RecordBody, theirs: &RecordBody) -> bool {
    if mine.deleted { theirs.hlc > mine.hlc } else { mine.hlc > theirs.hlc }
}

fn merged_body(mine: &RecordBody, theirs: &RecordBody, content: &Content, lossy: bool) -> Settled {
    // After both, and the same whoever merges.
    let hlc = Hlc::after(mine.hlc.max(theirs.hlc), 0);
    match content.to_bytes() {
        Ok(data) if selkie_protocol::cipher::RecordKey::fits(data.len() + HEADROOM) => {
            let body = RecordBody::new(mine.collection.clone(), hlc, data);
            Settled::Merged { body, lossy }
        }
        // Together they are too long for a record.
        _ => NewestFirst.settle(None, mine, theirs),
    }
}

/// What a body needs besides its data.
const HEADROOM: usize = 256;

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
