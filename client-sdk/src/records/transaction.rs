//! Several writes as one.
//!
//! Owns what is gathered before it is committed. Nothing is written until then.

use super::collection::{Collection, raised, value_of};
use super::content::{Content, Fields};
use super::schema::Shape;
use super::view::{self, Draft, stays_in};
use crate::error::{Error, Result};
use crate::vault::Vault;
use selkie_protocol::id::RecordId;
use selkie_protocol::record::{Hlc, RecordBody};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Writes to several records and collections of one vault that happen together or not at all. On this device they
/// become visible at once; other devices receive them in one entry, if they fit into one (256 writes). Dropped without
/// [`Transaction::commit`], nothing has happened.
///
/// ```no_run
/// # use serde::{Serialize, Deserialize};
/// # #[derive(Serialize, Deserialize)] struct Account { cents: i64 }
/// # #[derive(Serialize, Deserialize)] struct Booking { text: String, cents: i64 }
/// # async fn example(vault: selkie_client::Vault, from: selkie_client::RecordId) -> selkie_client::Result<()> {
/// let (accounts, bookings) = (vault.collection::<Account>("accounts"), vault.collection::<Booking>("bookings"));
/// let mut transaction = vault.transaction();
/// transaction.update(&accounts, from, |account| account.cents -= 500);
/// transaction.put(&bookings, &Booking { text: "Lunch".into(), cents: 500 })?;
/// transaction.commit().await?;
/// # Ok(()) }
/// ```
#[must_use = "nothing is written without `commit`"]
pub struct Transaction {
    vault: Vault,
    drafts: Vec<Draft>,
}

impl Vault {
    /// Begins to gather writes that belong together.
    pub fn transaction(&self) -> Transaction {
        Transaction { vault: self.clone(), drafts: Vec::new() }
    }
}

impl Transaction {
    /// A new record; returns its name.
    pub fn put<T: Serialize + DeserializeOwned>(&mut self, to: &Collection<T>, value: &T) -> Result<RecordId> {
        let id = self.vault.new_record_id();
        self.write(to, id, value, true)?;
        Ok(id)
    }

    /// A record under a name of the app's choosing, whether there is one or not. One of another collection is not
    /// written over: the whole transaction fails.
    pub fn put_as<T>(&mut self, to: &Collection<T>, id: RecordId, value: &T) -> Result<()>
    where
        T: Serialize + DeserializeOwned,
    {
        self.write(to, id, value, false)
    }

    fn write<T>(&mut self, to: &Collection<T>, id: RecordId, value: &T, new: bool) -> Result<()>
    where
        T: Serialize + DeserializeOwned,
    {
        let fields = fields_of(value)?;
        let (shape, name) = (to.shape.clone(), to.name.clone());
        let make =
            move |before: Option<&RecordBody>, now: Hlc| next(&shape, &name, before, now, fields.clone()).map(Some);
        self.drafts.push(Draft { record: id, new, make: Box::new(make) });
        Ok(())
    }

    /// A change of a record that there is, made from what it says when this is committed. The change may be made more
    /// than once. If there is no such record, the whole transaction fails.
    pub fn update<T>(&mut self, of: &Collection<T>, id: RecordId, change: impl Fn(&mut T) + Send + 'static)
    where
        T: Serialize + DeserializeOwned,
    {
        let (shape, name) = (of.shape.clone(), of.name.clone());
        let make = move |before: Option<&RecordBody>, now: Hlc| {
            let living = before.filter(|body| !body.deleted && *body.collection == *name);
            let living = living.ok_or_else(|| Error::NotPossible("there is no such record".into()))?;
            let mut value: T = value_of(&raised(&shape, &name, &living.data)?.fields)?;
            change(&mut value);
            next(&shape, &name, before, now, fields_of(&value)?).map(Some)
        };
        self.drafts.push(Draft { record: id, new: false, make: Box::new(make) });
    }

    /// The mark that a record was deleted. Where there is no such record, nothing is written.
    pub fn delete<T: Serialize + DeserializeOwned>(&mut self, from: &Collection<T>, id: RecordId) {
        let (shape, name) = (from.shape.clone(), from.name.clone());
        let make = move |before: Option<&RecordBody>, now: Hlc| {
            may_be_written_over(&shape, &name, before)?;
            let is_there = before.is_some_and(|body| !body.deleted);
            Ok(is_there.then(|| RecordBody::deletion(&*name, now)))
        };
        self.drafts.push(Draft { record: id, new: false, make: Box::new(make) });
    }

    /// Writes all of it, or nothing.
    pub async fn commit(self) -> Result<()> {
        let Transaction { vault, drafts } = self;
        if drafts.is_empty() {
            return Ok(());
        }
        vault.check_may_write().await?;
        let now_ms = vault.now_ms();
        vault.read(move |room, vault| view::commit(room, vault, &drafts, now_ms)).await
    }
}

impl std::fmt::Debug for Transaction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Transaction({} writes)", self.drafts.len())
    }
}

fn fields_of<T: Serialize>(value: &T) -> Result<Fields> {
    Fields::of(value).map_err(|error| Error::ApiMisuse(error.to_string()))
}

/// What a later version of the app wrote stays as it is.
fn may_be_written_over(shape: &Shape, name: &str, before: Option<&RecordBody>) -> Result<Option<Content>> {
    stays_in(name, before)?;
    let living = before.filter(|body| !body.deleted);
    let Some(content) = living.and_then(|body| Content::from_bytes(&body.data)) else { return Ok(None) };
    let version = content.version;
    let raised = shape.raise(content);
    raised.map(Some).ok_or_else(|| Error::NewerRecord { collection: name.to_owned(), version })
}

fn next(shape: &Shape, name: &str, before: Option<&RecordBody>, now: Hlc, fields: Fields) -> Result<RecordBody> {
    let content = match (may_be_written_over(shape, name, before)?, before) {
        (Some(content), Some(body)) => content.after(body.hlc, now, shape.version, fields),
        _ => Content::new(shape.version, fields),
    };
    let data = content.to_bytes().map_err(|error| Error::ApiMisuse(error.to_string()))?;
    Ok(RecordBody::new(name, now, data))
}
