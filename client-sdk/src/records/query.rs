//! Queries over the records of a collection.
//!
//! Owns what can be asked and how it is answered from the index in memory, reading only the records that are shown.

use super::collection::Collection;
use super::content::Fields;
use super::filter::Filter;
use super::index::{Shelved, readable};
use super::plan::plan;
use super::schema::Shape;
use super::value::Value;
use super::view;
use crate::error::{Error, Result};
use crate::sync::room::Room;
use crate::vault::Vault;
use selkie_protocol::Face;
use selkie_protocol::bytes::{from_base64url, to_base64url};
use selkie_protocol::id::{RecordId, VaultId};
use selkie_protocol::record::RecordBody;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

/// Up or down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The smallest first.
    Ascending,
    /// The largest first.
    Descending,
}

/// A question to a collection. Nothing is looked for before it is asked with [`Query::all`], [`Query::page`],
/// [`Query::count`] or [`Query::watch`].
///
/// ```no_run
/// # #[derive(serde::Serialize, serde::Deserialize)] struct Note { mood: String, day: u32 }
/// use selkie_client::{Order, field};
///
/// # async fn example(notes: selkie_client::Collection<Note>) -> selkie_client::Result<()> {
/// let calm = notes.query().filter(field("mood").eq("calm")).order_by("day", Order::Descending).limit(20);
/// for found in calm.all().await? {
///     println!("{}: {}", found.id, found.value.day);
/// }
/// # Ok(()) }
/// ```
#[must_use]
pub struct Query<T> {
    pub(super) of: Collection<T>,
    pub(super) asked: Asked,
}

/// What is asked, whatever the type of the records.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) filter: Filter,
    search: Option<String>,
    order: Option<(String, Order)>,
    limit: usize,
    offset: usize,
    after: Option<(Value, RecordId)>,
}

/// A record that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found<T> {
    /// Its name.
    pub id: RecordId,
    /// What it says.
    pub value: T,
}

/// Some of the records that were found, and where the next begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// In the order that was asked for.
    pub found: Vec<Found<T>>,
    /// For [`Query::after`]; missing on the last page.
    pub next: Option<Cursor>,
}

/// Where a page ended. Can be kept as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(String);

impl Cursor {
    /// From the text of an earlier one.
    pub fn from_text(text: impl Into<String>) -> Cursor {
        Cursor(text.into())
    }

    /// As text, to be kept or put into an address.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<T: Serialize + DeserializeOwned> Collection<T> {
    /// Begins a query. Without more it finds every record, by id.
    pub fn query(&self) -> Query<T> {
        let (filter, search, order, after) = (Filter::All, None, None, None);
        Query { of: self.clone(), asked: Asked { filter, search, order, limit: usize::MAX, offset: 0, after } }
    }
}

impl<T> Query<T> {
    /// Only records that fit; further ones narrow it down.
    pub fn filter(mut self, filter: Filter) -> Self {
        self.asked.filter = std::mem::replace(&mut self.asked.filter, Filter::All).and(filter);
        self
    }

    /// Only records with all these words in the fields that the collection searches; the last may be the beginning of a
    /// word. Needs [`CollectionShape::search`](crate::CollectionShape::search).
    pub fn search(mut self, words: impl Into<String>) -> Self {
        self.asked.search = Some(words.into());
        self
    }

    /// By a field; records without it come first going up. Else they come by id.
    pub fn order_by(mut self, field: impl Into<String>, order: Order) -> Self {
        self.asked.order = Some((field.into(), order));
        self
    }

    /// At most so many.
    pub fn limit(mut self, limit: usize) -> Self {
        self.asked.limit = limit;
        self
    }

    /// Without the first so many. For going through many pages [`Query::after`] is quicker and steadier.
    pub fn offset(mut self, offset: usize) -> Self {
        self.asked.offset = offset;
        self
    }

    /// Those after the page that ended there, of the same filter and order. What is written meanwhile moves nothing.
    pub fn after(mut self, cursor: &Cursor) -> Result<Self> {
        let read = |bytes: Vec<u8>| Face::Cbor.decode(&bytes).ok();
        let after = from_base64url(&cursor.0).and_then(read);
        self.asked.after = Some(after.ok_or_else(|| Error::ApiMisuse("not a cursor".into()))?);
        Ok(self)
    }
}

impl<T: Serialize + DeserializeOwned> Query<T> {
    /// The records, as many as the limit says.
    pub async fn all(&self) -> Result<Vec<Found<T>>> {
        let answer = self.answer().await?;
        answer.shown.iter().map(|one| self.typed(one)).collect()
    }

    /// The first record.
    pub async fn first(&self) -> Result<Option<Found<T>>> {
        let mut asked = self.asked.clone();
        asked.limit = asked.limit.min(1);
        Ok(Query { of: self.of.clone(), asked }.all().await?.pop())
    }

    /// As many records as the limit says, and where to go on.
    pub async fn page(&self) -> Result<Page<T>> {
        let answer = self.answer().await?;
        let found = answer.shown.iter().map(|one| self.typed(one)).collect::<Result<_>>()?;
        let next = answer.last.filter(|_| answer.more).map(|last| Cursor(to_base64url(&Face::Cbor.encode(&last))));
        Ok(Page { found, next })
    }

    /// How many records fit, whatever limit and offset say.
    pub async fn count(&self) -> Result<usize> {
        let mut asked = self.asked.clone();
        (asked.order, asked.limit, asked.offset, asked.after) = (None, usize::MAX, 0, None);
        let count = |asked: &Asked, asking: &Asking<'_>| {
            let mut count = 0;
            asked.each(asking, |_| {
                count += 1;
                true
            })?;
            Ok(count)
        };
        self.of.vault.ask(&self.of, asked, count).await
    }

    pub(super) async fn answer(&self) -> Result<Answer> {
        self.of.vault.ask(&self.of, self.asked.clone(), |asked, asking| asked.answer(asking)).await
    }

    /// What tells whether a record that was touched can make a difference to an answer.
    pub(super) fn concern(&self) -> Concern {
        let (name, shape) = (self.of.name.clone(), self.of.shape.clone());
        Concern { name, shape, filter: self.asked.filter.clone(), any: self.asked.offset > 0 }
    }

    pub(super) fn typed(&self, (id, body): &(RecordId, Arc<RecordBody>)) -> Result<Found<T>> {
        let value = self.of.open(body).map_err(|error| match error {
            // Else nobody could find the one that is in the way of all the others.
            Error::NotPossible(why) => Error::NotPossible(format!("{id}: {why}")),
            error => error,
        });
        let value = value?.ok_or_else(|| Error::damaged("the index of a collection"))?;
        Ok(Found { id: *id, value })
    }
}

/// Which records a query is about.
pub(super) struct Concern {
    name: Arc<str>,
    shape: Arc<Shape>,
    filter: Filter,
    /// One that stands before what is shown moves all of it, and by what it says now that cannot be told.
    any: bool,
}

impl Concern {
    pub(super) fn holds_for(&self, room: &Room, vault: &VaultId, record: &RecordId) -> Result<bool> {
        if self.any {
            return Ok(true);
        }
        let seen = view::read_if_here(room, vault, record)?;
        let content = seen.and_then(|seen| readable(&seen.body, &self.name, &self.shape));
        Ok(content.is_some_and(|content| self.filter.fits(&content.fields)))
    }
}

/// What was found.
pub(super) struct Answer {
    pub(super) shown: Vec<(RecordId, Arc<RecordBody>)>,
    last: Option<(Value, RecordId)>,
    more: bool,
    pub(super) stamp: u64,
}

/// From what a query is answered.
pub(super) struct Asking<'a> {
    room: &'a Room,
    vault: &'a VaultId,
    name: &'a str,
    shelved: &'a Shelved,
    shape: &'a Shape,
    stamp: u64,
}

/// Where a record stands in the answer: by what it is ordered, and its name.
type Place = (Value, RecordId);

impl Asked {
    fn sort(&self, places: &mut [Place]) {
        places.sort();
        if self.descends() {
            places.reverse();
        }
    }

    fn descends(&self) -> bool {
        matches!(self.order, Some((_, Order::Descending)))
    }

    fn is_after(&self, place: &Place) -> bool {
        match &self.after {
            None => true,
            Some(after) if self.descends() => place < after,
            Some(after) => place > after,
        }
    }

    fn answer(&self, asking: &Asking<'_>) -> Result<Answer> {
        let wanted = self.limit.saturating_add(self.offset).saturating_add(1);
        let mut places = Vec::new();
        let ordered = self.each(asking, |place| {
            places.push(place);
            places.len() < wanted
        })?;
        if !ordered {
            // What does not come in order was not stopped early either.
            self.sort(&mut places);
        }
        let more = places.len().saturating_sub(self.offset) > self.limit;
        let places: Vec<Place> = places.into_iter().skip(self.offset).take(self.limit).collect();
        let mut shown = Vec::with_capacity(places.len());
        for (_, record) in &places {
            if let Some(seen) = view::read_if_here(asking.room, asking.vault, record)? {
                shown.push((*record, seen.body));
            }
        }
        Ok(Answer { shown, last: places.into_iter().next_back(), more, stamp: asking.stamp })
    }

    /// Hands on the place of each record that fits, until it is told to stop. Returns whether they came in order; if
    /// they did not, nothing was handed on that a stop could have cut short.
    fn each(&self, asking: &Asking<'_>, mut hand: impl FnMut(Place) -> bool) -> Result<bool> {
        let shelved = asking.shelved;
        let searched = self.search.as_ref().map(|words| shelved.search(words));
        let by = self.order.as_ref().map(|(field, _)| field.as_str());
        let in_search = |record: &RecordId| searched.as_ref().is_none_or(|found| found.contains(record));
        let mut paths: Vec<&str> = by.into_iter().collect();
        self.filter.paths(&mut paths);
        // A search that finds little is narrower than any index.
        let plan = plan(&asking.shape.indexes, &self.filter, self.order.as_ref()).filter(|_| searched.is_none());
        let Some(plan) = plan else {
            let all: BTreeSet<RecordId> = match searched {
                Some(found) => found,
                None => shelved.rows.keys().copied().collect(),
            };
            let in_order = self.order.is_none();
            for record in &all {
                if let Some(value) = self.looked_at(asking, record)?
                    && self.is_after(&(value.clone(), *record))
                    && !hand((value, *record))
                    && in_order
                {
                    break;
                }
            }
            return Ok(in_order);
        };
        let fields = asking.shape.indexes.get(plan.index).map(Vec::as_slice).unwrap_or_default();
        let covered = paths.iter().all(|path| fields.iter().any(|field| field == path));
        for (key, record) in plan.candidates(shelved, self.descends()) {
            let value = if covered {
                let at = |path: &str| fields.iter().position(|field| field == path).and_then(|place| key.get(place));
                let fits = in_search(record) && self.filter.holds(&at);
                fits.then(|| by.and_then(at).cloned().unwrap_or(Value::Null))
            } else {
                self.looked_at(asking, record)?
            };
            if let Some(value) = value
                && self.is_after(&(value.clone(), *record))
                && !hand((value, *record))
                && plan.ordered
            {
                break;
            }
        }
        Ok(plan.ordered)
    }

    /// By what the record is ordered, if it fits.
    fn looked_at(&self, asking: &Asking<'_>, record: &RecordId) -> Result<Option<Value>> {
        let by = self.order.as_ref().map(|(field, _)| field.as_str());
        if matches!(self.filter, Filter::All) && by.is_none() {
            return Ok(Some(Value::Null));
        }
        let Some(seen) = view::read_if_here(asking.room, asking.vault, record)? else { return Ok(None) };
        let Some(content) = readable(&seen.body, asking.name, asking.shape) else { return Ok(None) };
        let fields: Fields = content.fields;
        let value = || by.and_then(|by| fields.at(by)).map_or(Value::Null, Value::in_one_form);
        Ok(self.filter.fits(&fields).then(value))
    }
}

impl Vault {
    /// Answers from the collection's index, brought into step first.
    async fn ask<T, A: Send + 'static>(
        &self,
        of: &Collection<T>,
        asked: Asked,
        answer: impl FnOnce(&Asked, &Asking<'_>) -> Result<A> + Send + 'static,
    ) -> Result<A> {
        if asked.search.is_some() && of.shape.search.is_empty() {
            return Err(Error::ApiMisuse(format!("the collection {:?} searches no fields", of.name)));
        }
        let here = self.here();
        let (slot, name, shape) = (here.slot.clone(), of.name.clone(), of.shape.clone());
        here.read(move |room, vault| {
            let shelved = slot.view.shelved(&name);
            let mut shelved = shelved.lock().unwrap_or_else(PoisonError::into_inner);
            let stamp = shelved.catch_up(room, vault, &name, &shape)?;
            answer(&asked, &Asking { room, vault, name: &name, shelved: &shelved, shape: &shape, stamp })
        })
        .await
    }
}
