//! Conflicts that this device has met, and bringing back what a record once said: whatever app wrote it.
//!
//! Owns both for records as they are, without an app's own type, as a program that is no app needs them. What stands is
//! written again as it was, so that every app reads it as it read it then. Decides nothing about conflicts: that
//! is `conflict`.

use super::Vault;
use crate::error::{Error, Result};
use crate::records::Content;
use crate::records::view;
use crate::sync::compose::Asked;
use crate::sync::settle::Outcome;
use selkie_protocol::Face;
use selkie_protocol::id::{ChangeId, RecordId};
use selkie_protocol::record::{Hlc, RecordBody};

/// A conflict that was settled on this device. Both versions are in the record's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Missing for one that was settled by another version of the app.
    pub how: Option<Outcome>,
    /// A person has not decided it yet.
    pub open: bool,
    /// The record it was about.
    pub record: RecordId,
    /// The version that does not stand.
    pub lost: ChangeId,
    /// The version that stands.
    pub won: ChangeId,
    /// When it was settled, by this device's clock.
    pub at_ms: u64,
}

/// A conflict that a person is to decide, as any program can show it. What was in the log stands until then. An app
/// reads its own type from it with [`Collection::undecided`](crate::Collection::undecided).
#[derive(Clone, PartialEq, Eq)]
pub struct OpenConflict {
    /// For [`Vault::decide`].
    pub id: u64,
    /// The record it is about.
    pub record: RecordId,
    /// What both were made from, where it was known.
    pub base: Option<Said>,
    /// What this device had written.
    pub mine: Said,
    /// What is in the log.
    pub theirs: Said,
    /// When this device met it, by its own clock.
    pub at_ms: u64,
}

/// What one version of a record says.
#[derive(Clone, PartialEq, Eq)]
pub struct Said {
    /// The collection it is in.
    pub collection: String,
    /// Missing if this version deletes the record.
    pub data: Option<Vec<u8>>,
    /// When it was written, by its author's clock.
    pub written: Hlc,
}

/// Which of the two versions of a conflict stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stands {
    /// What this device had written.
    Mine,
    /// What is in the log: also what somebody has made of it since.
    Theirs,
}

impl Vault {
    /// Conflicts that were settled on this device, oldest first.
    pub async fn conflicts(&self) -> Result<Vec<Conflict>> {
        self.read(|room, vault| {
            let all = room.store.settlements(vault)?.into_iter();
            Ok(all
                .map(|one| Conflict {
                    how: Outcome::of_word(&one.how),
                    open: one.asked.is_some(),
                    record: one.record,
                    lost: one.lost,
                    won: one.won,
                    at_ms: one.at_ms,
                })
                .collect())
        })
        .await
    }

    /// Conflicts of all collections that this device has met and a person is to decide, oldest first.
    pub async fn open_conflicts(&self) -> Result<Vec<OpenConflict>> {
        self.asked().await.map(|asked| {
            let open = asked.into_iter().map(|(id, record, at_ms, Asked { base, mine, theirs })| {
                let base = base.map(Said::from);
                OpenConflict { id, record, base, mine: mine.into(), theirs: theirs.into(), at_ms }
            });
            open.collect()
        })
    }

    /// Decides a conflict, which is no longer asked about then. With `Theirs` the record stays as it is now, whatever
    /// was written since. With `Mine` it says again what this device had written, or is deleted if that was so, and
    /// what it says now goes into its history: show both first, see [`Vault::get`]. Where the two are in different
    /// collections, the record goes to that of the one that stands.
    pub async fn decide(&self, conflict: u64, stands: Stands) -> Result<()> {
        let asked = self.asked().await?.into_iter().find(|(id, ..)| *id == conflict);
        let (_, record, _, asked) = asked.ok_or_else(|| Error::NotPossible("that is decided already".into()))?;
        if stands == Stands::Mine {
            self.write(record, move |before, now| Ok(again(&asked.mine, before, now))).await?;
        }
        self.read(move |room, vault| Ok(room.store.resolve(vault, conflict)?)).await
    }

    /// Makes a record say again what a version of its history says, whichever version of an app wrote it. That is a
    /// write like any other: where the record lives in another collection by now, it stays there, and is to be deleted
    /// there first.
    pub async fn restore(&self, record: RecordId, version: ChangeId) -> Result<()> {
        let history = self.history(record).await?.into_iter();
        let kept = history.rev().find(|kept| kept.change == Some(version));
        let kept = kept.ok_or_else(|| Error::NotPossible("that version is not kept on this device".into()))?;
        if kept.deleted {
            return Err(Error::NotPossible("that version deletes the record: delete it".into()));
        }
        let said = RecordBody::new(kept.collection, kept.written, kept.data);
        self.write(record, move |before, now| {
            view::stays_in(&said.collection, before)?;
            Ok(again(&said, before, now))
        })
        .await
    }

    pub(crate) async fn asked(&self) -> Result<Vec<(u64, RecordId, u64, Asked)>> {
        self.read(|room, vault| {
            let mut open = Vec::new();
            for one in room.store.settlements(vault)? {
                let Some(asked) = &one.asked else { continue };
                let plain = room.at_rest.open_record(vault, &one.record, asked).ok();
                let asked = plain.and_then(|plain| Face::Cbor.decode(&plain).ok());
                open.push((one.id, one.record, one.at_ms, asked.ok_or_else(|| Error::damaged("a conflict"))?));
            }
            Ok(open)
        })
        .await
    }
}

/// The next version of a record, after which it says that again; nothing if it says just that. Fields that need not
/// change keep their stamps.
fn again(said: &RecordBody, before: Option<&RecordBody>, now: Hlc) -> Option<RecordBody> {
    if before.is_some_and(|before| before.says_the_same(said)) || before.is_none() && said.deleted {
        return None;
    }
    if said.deleted {
        return Some(RecordBody::deletion(said.collection.clone(), now));
    }
    let content = |body: &RecordBody| Content::from_bytes(&body.data);
    let living = before.filter(|before| !before.deleted && before.collection == said.collection);
    let data = content(said).and_then(|then| {
        let next = match living.and_then(|body| Some((body.hlc, content(body)?))) {
            Some((stamp, present)) if present.version == then.version => {
                present.after(stamp, now, then.version, then.fields)
            }
            _ => Content::new(then.version, then.fields),
        };
        next.to_bytes().ok()
    });
    Some(RecordBody::new(said.collection.clone(), now, data.unwrap_or_else(|| said.data.0.clone())))
}

impl From<RecordBody> for Said {
    fn from(body: RecordBody) -> Said {
        let RecordBody { collection, deleted, hlc, data, .. } = body;
        Said { collection, data: (!deleted).then_some(data.0), written: hlc }
    }
}

/// What a record says is for the app alone.
impl std::fmt::Debug for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Said").field("length", &self.data.as_ref().map(Vec::len)).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for OpenConflict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenConflict").field("id", &self.id).field("record", &self.record).finish_non_exhaustive()
    }
}
