//! A typed collection, as an app holds it.
//!
//! Owns reading and writing of one record at a time in the app's own type. Everything works without a server; what is
//! written is sent with the next sync.

use super::content::{Content, Fields};
use super::schema::Shape;
use crate::error::{Error, Result};
use crate::vault::{RecordVersion, Vault};
use selkie_protocol::id::{ChangeId, RecordId};
use selkie_protocol::record::RecordBody;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::marker::PhantomData;
use std::sync::Arc;

/// Records of one kind in a vault, read and written as the app's own type: a struct that serde can take apart. Cheap
/// to clone. What holds for the collection is declared once, see [`CollectionShape`](crate::CollectionShape).
///
/// ```no_run
/// # async fn example(vault: selkie_client::Vault) -> selkie_client::Result<()> {
/// #[derive(Default, serde::Serialize, serde::Deserialize)]
/// struct Note {
///     title: String,
///     body: String,
/// }
/// let notes = vault.collection::<Note>("notes");
/// let id = notes.put(&Note { title: "Hello".into(), ..Note::default() }).await?;
/// notes.update(id, |note| note.body.push_str("world")).await?;
/// assert_eq!(notes.get(id).await?.map(|note| note.body).as_deref(), Some("world"));
/// # Ok(()) }
/// ```
pub struct Collection<T> {
    pub(crate) vault: Vault,
    pub(crate) name: Arc<str>,
    pub(super) shape: Arc<Shape>,
    of: PhantomData<fn() -> T>,
}

impl<T> Clone for Collection<T> {
    fn clone(&self) -> Self {
        let (vault, name, shape) = (self.vault.clone(), self.name.clone(), self.shape.clone());
        Collection { vault, name, shape, of: PhantomData }
    }
}

impl<T> std::fmt::Debug for Collection<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Collection({})", self.name)
    }
}

/// One version of a record, in the app's own type.
#[derive(Clone, PartialEq, Eq)]
pub struct VersionOf<T> {
    /// Who wrote it, when, and whether it is what the record says now.
    pub version: RecordVersion,
    /// Missing if this version deletes the record.
    pub value: Option<T>,
}

impl Vault {
    /// Records of a collection, in the app's own type. Nothing is read before something is asked for.
    pub fn collection<T: Serialize + DeserializeOwned>(&self, name: &str) -> Collection<T> {
        let shape = self.account.context().collections.shape(name);
        Collection { vault: self.clone(), name: name.into(), shape, of: PhantomData }
    }
}

impl<T: Serialize + DeserializeOwned> Collection<T> {
    /// Writes a new record and returns its name. It is kept and visible when this returns.
    pub async fn put(&self, value: &T) -> Result<RecordId> {
        let mut transaction = self.vault.transaction();
        let id = transaction.put(self, value)?;
        transaction.commit().await?;
        Ok(id)
    }

    /// Writes a record under a name of the app's choosing, whether there is one or not. A record stays in its
    /// collection: one of another collection is not written over.
    pub async fn put_as(&self, id: RecordId, value: &T) -> Result<()> {
        let mut transaction = self.vault.transaction();
        transaction.put_as(self, id, value)?;
        transaction.commit().await
    }

    /// Writes many new records at once: all of them or none.
    pub async fn put_all<'a>(&self, values: impl IntoIterator<Item = &'a T>) -> Result<Vec<RecordId>>
    where
        T: 'a,
    {
        let mut transaction = self.vault.transaction();
        let ids = values.into_iter().map(|value| transaction.put(self, value)).collect::<Result<_>>()?;
        transaction.commit().await?;
        Ok(ids)
    }

    /// The record as it is now; nothing if there is none, or if it was deleted.
    pub async fn get(&self, id: RecordId) -> Result<Option<T>> {
        match self.vault.look(&id)? {
            Some(seen) => self.open(&seen.body),
            None => Ok(None),
        }
    }

    /// Changes a record, made from what it says at that moment: nothing that is written beside is lost. The change may
    /// be made more than once. Returns false if there is no such record.
    pub async fn update(&self, id: RecordId, change: impl Fn(&mut T) + Send + 'static) -> Result<bool> {
        if self.get(id).await?.is_none() {
            return Ok(false);
        }
        let mut transaction = self.vault.transaction();
        transaction.update(self, id, change);
        transaction.commit().await?;
        Ok(true)
    }

    /// Marks a record as deleted. What it said stays in its history for a while and can be brought back with
    /// [`Collection::restore`]. Where there is no such record, nothing happens.
    pub async fn delete(&self, id: RecordId) -> Result<()> {
        let mut transaction = self.vault.transaction();
        transaction.delete(self, id);
        transaction.commit().await
    }

    /// Every version that this device keeps, oldest first; what is not in the log yet comes last. A version that is not
    /// of this type, or of a later one, is an error.
    pub async fn history(&self, id: RecordId) -> Result<Vec<VersionOf<T>>> {
        let typed = |version: RecordVersion| {
            let value = if version.deleted { None } else { Some(self.read(&version.data)?) };
            Ok(VersionOf { version, value })
        };
        self.vault.history(id).await?.into_iter().map(typed).collect()
    }

    /// What the record said at a time, in milliseconds since 1970, by the clocks of those who wrote it.
    pub async fn as_of(&self, id: RecordId, unix_ms: u64) -> Result<Option<T>> {
        let mut history = self.vault.history(id).await?;
        // What it says now it said since it was written, though whoever lost a conflict may have written later.
        let then = match history.pop_if(|last| last.written.ms <= unix_ms) {
            Some(last) => Some(last),
            None => {
                let before = history.into_iter().filter(|version| version.written.ms <= unix_ms);
                before.max_by_key(|version| version.written)
            }
        };
        then.filter(|version| !version.deleted).map(|version| self.read(&version.data)).transpose()
    }

    /// Makes a record say again what a version of its history says. That is a write like any other: where the record
    /// lives in another collection by now, it stays there, and is to be deleted there first.
    pub async fn restore(&self, id: RecordId, version: ChangeId) -> Result<()> {
        let history = self.vault.history(id).await?.into_iter();
        let then = history.rev().find(|kept| kept.change == Some(version) && !kept.deleted);
        let then = then.ok_or_else(|| Error::NotPossible("that version is not kept on this device".into()))?;
        self.put_as(id, &self.read(&then.data)?).await
    }

    pub(super) fn open(&self, body: &RecordBody) -> Result<Option<T>> {
        if body.deleted || *body.collection != *self.name {
            return Ok(None);
        }
        self.read(&body.data).map(Some)
    }

    fn read(&self, data: &[u8]) -> Result<T> {
        match Content::read(data, self.shape.version) {
            Some(value) => Ok(value),
            None => value_of(&raised(&self.shape, &self.name, data)?.fields),
        }
    }
}

/// The fields of a record, raised to today's version.
pub(super) fn raised(shape: &Shape, name: &str, data: &[u8]) -> Result<Content> {
    let content = Content::from_bytes(data).ok_or_else(|| unfit("it was written as plain bytes"))?;
    let version = content.version;
    shape.raise(content).ok_or_else(|| Error::NewerRecord { collection: name.to_owned(), version })
}

pub(super) fn value_of<T: DeserializeOwned>(fields: &Fields) -> Result<T> {
    fields.read().map_err(|error| unfit(&error.to_string()))
}

fn unfit(why: &str) -> Error {
    Error::NotPossible(format!("the record does not read as the app's type: {why}"))
}
