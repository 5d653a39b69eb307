//! Which records are looked at to answer a query, and in which order.
//!
//! Owns the choice of an index. Pure. Whatever is chosen, each candidate is held against the whole filter, so a choice
//! can be slow but never wrong.

use super::filter::{Comparison, Filter};
use super::index::{Key, Shelved};
use super::query::Order;
use super::value::Value;
use selkie_protocol::id::RecordId;
use std::ops::Bound;

/// A way through an index.
#[derive(Debug, PartialEq)]
pub(super) struct Plan {
    pub(super) index: usize,
    from: Bound<(Key, RecordId)>,
    to: Bound<(Key, RecordId)>,
    /// The candidates come in the order that was asked for.
    pub(super) ordered: bool,
}

const FIRST: RecordId = RecordId([0; 16]);
const LAST: RecordId = RecordId([255; 16]);

/// The best way, if any index helps.
pub(super) fn plan(indexes: &[Vec<String>], filter: &Filter, order: Option<&(String, Order)>) -> Option<Plan> {
    let demands = filter.demands();
    let ways = indexes.iter().enumerate().filter_map(|(index, fields)| way(index, fields, &demands, order));
    ways.max_by_key(|(worth, _)| *worth).map(|(_, plan)| plan)
}

/// The worth of an index: first how many fields it fixes, then whether it bounds the next, then whether it sorts.
fn way(
    index: usize,
    fields: &[String],
    demands: &[&Filter],
    order: Option<&(String, Order)>,
) -> Option<((usize, bool, bool), Plan)> {
    let fixed: Key = fields.iter().map_while(|field| equal_to(field, demands)).collect();
    let next = fields.get(fixed.len());
    let (low, high) = next.map(|field| range_of(field, demands)).unwrap_or_default();
    let ordered = match (order, next) {
        (Some((by, _)), Some(next)) => by == next && fixed.len() + 1 == fields.len(),
        (None, next) => next.is_none(),
        (Some(_), None) => false,
    };
    if fixed.is_empty() && low.is_none() && high.is_none() && !ordered {
        return None;
    }
    let worth = (fixed.len(), low.is_some() || high.is_some(), ordered);
    let with = |value: Option<Value>| fixed.iter().cloned().chain(value).collect::<Key>();
    let from = Bound::Included((with(low), FIRST));
    // Longer keys come after their beginning: what follows a value is bounded by the next thing after it.
    let to = match high {
        Some(high) => Bound::Included((with(Some(high)).into_iter().chain([beyond()]).collect(), LAST)),
        None => Bound::Included((with(Some(beyond())), LAST)),
    };
    Some((worth, Plan { index, from, to, ordered }))
}

/// A value after all that are indexed.
fn beyond() -> Value {
    Value::Map([(char::MAX.to_string().repeat(4), Value::Null)].into())
}

fn equal_to(field: &str, demands: &[&Filter]) -> Option<Value> {
    demands.iter().find_map(|demand| match demand {
        Filter::Is(path, Comparison::Equal, value) if path == field => Some(value.in_one_form()),
        _ => None,
    })
}

fn range_of(field: &str, demands: &[&Filter]) -> (Option<Value>, Option<Value>) {
    let (mut low, mut high): (Option<Value>, Option<Value>) = (None, None);
    for demand in demands {
        match demand {
            Filter::Is(path, Comparison::Greater | Comparison::GreaterOrEqual, value) if path == field => {
                low = low.max(Some(value.in_one_form()));
            }
            Filter::Is(path, Comparison::Less | Comparison::LessOrEqual, value) if path == field => {
                let value = value.in_one_form();
                high = Some(high.map_or(value.clone(), |high| high.min(value)));
            }
            Filter::StartsWith(path, start) if path == field => {
                low = low.max(Some(Value::Text(start.clone())));
                let after = Value::Text(format!("{start}{}", char::MAX.to_string().repeat(4)));
                high = Some(high.map_or(after.clone(), |high| high.min(after)));
            }
            _ => {}
        }
    }
    (low, high)
}

impl Plan {
    /// The candidates with their keys, in the index's order or the other way round.
    pub(super) fn candidates<'a>(
        &'a self,
        shelved: &'a Shelved,
        backwards: bool,
    ) -> Box<dyn Iterator<Item = &'a (Key, RecordId)> + 'a> {
        let Some(index) = shelved.indexes.get(self.index) else { return Box::new(std::iter::empty()) };
        let contradiction = match (&self.from, &self.to) {
            (Bound::Included(from), Bound::Included(to)) => from > to,
            _ => false,
        };
        if contradiction {
            return Box::new(std::iter::empty());
        }
        let range = index.range((self.from.clone(), self.to.clone()));
        if backwards { Box::new(range.rev()) } else { Box::new(range) }
    }
}
