//! What is asked for: conditions on fields.
//!
//! Owns the words for them and whether a record fits. Pure; which index answers them is decided elsewhere.

use super::content::Fields;
use super::value::Value;

/// A condition on the fields of a record. Made with [`field`], put together with [`Filter::and`], [`Filter::or`] and
/// [`Filter::not`].
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub enum Filter {
    /// Every record.
    All,
    /// All of these fit.
    And(Vec<Filter>),
    /// One of these fits.
    Or(Vec<Filter>),
    /// This one does not fit.
    Not(Box<Filter>),
    /// The field is there and stands so to a value. A field that is missing or null stands so to none; see
    /// [`FieldName::exists`].
    Is(String, Comparison, Value),
    /// The field is one of these.
    In(String, Vec<Value>),
    /// A text has this in it, a list has this as an element.
    Contains(String, Value),
    /// The text of a field begins so.
    StartsWith(String, String),
    /// The field is there and says something.
    Exists(String),
}

/// How a field stands to a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// The same.
    Equal,
    /// Another one.
    Unequal,
    /// Less.
    Less,
    /// Less, or the same.
    LessOrEqual,
    /// More.
    Greater,
    /// More, or the same.
    GreaterOrEqual,
}

/// A field, to say something of: `field("mood").eq("calm")`. A path such as `address.city` leads into maps.
pub fn field(name: impl Into<String>) -> FieldName {
    FieldName(name.into())
}

/// See [`field`].
#[derive(Clone, Debug)]
pub struct FieldName(String);

impl FieldName {
    fn is(self, comparison: Comparison, value: impl Into<Value>) -> Filter {
        Filter::Is(self.0, comparison, value.into())
    }

    /// Equal. Numbers are compared as numbers: 1 is 1.0.
    pub fn eq(self, value: impl Into<Value>) -> Filter {
        self.is(Comparison::Equal, value)
    }

    /// There, and something else.
    pub fn ne(self, value: impl Into<Value>) -> Filter {
        self.is(Comparison::Unequal, value)
    }

    /// Less, among values of one kind.
    pub fn lt(self, value: impl Into<Value>) -> Filter {
        self.is(Comparison::Less, value)
    }

    /// Less or equal.
    pub fn le(self, value: impl Into<Value>) -> Filter {
        self.is(Comparison::LessOrEqual, value)
    }

    /// Greater, among values of one kind.
    pub fn gt(self, value: impl Into<Value>) -> Filter {
        self.is(Comparison::Greater, value)
    }

    /// Greater or equal.
    pub fn ge(self, value: impl Into<Value>) -> Filter {
        self.is(Comparison::GreaterOrEqual, value)
    }

    /// One of these.
    pub fn is_in<V: Into<Value>>(self, values: impl IntoIterator<Item = V>) -> Filter {
        Filter::In(self.0, values.into_iter().map(Into::into).collect())
    }

    /// A text with this in it, or a list with this as an element.
    pub fn contains(self, value: impl Into<Value>) -> Filter {
        Filter::Contains(self.0, value.into())
    }

    /// A text that begins so.
    pub fn starts_with(self, text: impl Into<String>) -> Filter {
        Filter::StartsWith(self.0, text.into())
    }

    /// There, and not null.
    pub fn exists(self) -> Filter {
        Filter::Exists(self.0)
    }
}

impl Filter {
    /// Records that fit both.
    pub fn and(self, other: Filter) -> Filter {
        match self {
            Filter::All => other,
            Filter::And(mut all) => {
                all.push(other);
                Filter::And(all)
            }
            one => Filter::And(vec![one, other]),
        }
    }

    /// Records that fit either.
    pub fn or(self, other: Filter) -> Filter {
        match self {
            Filter::Or(mut any) => {
                any.push(other);
                Filter::Or(any)
            }
            one => Filter::Or(vec![one, other]),
        }
    }

    /// Every record that does not fit, those without the field among them.
    #[allow(clippy::should_implement_trait, reason = "it reads as the others do")]
    pub fn not(self) -> Filter {
        Filter::Not(Box::new(self))
    }

    /// Whether a record fits.
    pub fn fits(&self, fields: &Fields) -> bool {
        self.holds(&|path| fields.at(path))
    }

    /// The same for whoever gives the fields.
    pub(super) fn holds<'a>(&self, at: &impl Fn(&str) -> Option<&'a Value>) -> bool {
        let said = |path: &str| at(path).filter(|value| **value != Value::Null);
        match self {
            Filter::All => true,
            Filter::And(all) => all.iter().all(|one| one.holds(at)),
            Filter::Or(any) => any.iter().any(|one| one.holds(at)),
            Filter::Not(one) => !one.holds(at),
            Filter::Is(path, comparison, value) => said(path).is_some_and(|found| comparison.holds(found, value)),
            Filter::In(path, values) => said(path).is_some_and(|found| values.iter().any(|value| same(found, value))),
            Filter::Contains(path, value) => match (said(path), value) {
                (Some(Value::Text(text)), Value::Text(part)) => text.contains(part.as_str()),
                (Some(Value::List(list)), value) => list.iter().any(|element| same(element, value)),
                _ => false,
            },
            Filter::StartsWith(path, start) => {
                said(path).and_then(Value::as_text).is_some_and(|text| text.starts_with(start.as_str()))
            }
            Filter::Exists(path) => said(path).is_some(),
        }
    }

    /// Every field that is asked about.
    pub(super) fn paths<'a>(&'a self, found: &mut Vec<&'a str>) {
        match self {
            Filter::All => {}
            Filter::And(several) | Filter::Or(several) => several.iter().for_each(|one| one.paths(found)),
            Filter::Not(one) => one.paths(found),
            Filter::Is(path, ..)
            | Filter::In(path, _)
            | Filter::Contains(path, _)
            | Filter::StartsWith(path, _)
            | Filter::Exists(path) => found.push(path),
        }
    }

    /// What must hold in any case, one by one.
    pub(super) fn demands(&self) -> Vec<&Filter> {
        match self {
            Filter::All => Vec::new(),
            Filter::And(all) => all.iter().flat_map(Filter::demands).collect(),
            one => vec![one],
        }
    }
}

/// Numbers are the same if they are the same number.
fn same(one: &Value, other: &Value) -> bool {
    one == other || one.in_one_form() == other.in_one_form()
}

impl Comparison {
    /// Values of different kinds are unequal and nothing else.
    fn holds(self, found: &Value, value: &Value) -> bool {
        if self == Comparison::Equal || same(found, value) {
            let or_equal = [Comparison::Equal, Comparison::LessOrEqual, Comparison::GreaterOrEqual];
            return same(found, value) && or_equal.contains(&self);
        }
        if self == Comparison::Unequal {
            return true;
        }
        let one_kind = found.kind() == value.kind();
        one_kind
            && match self {
                Comparison::Less | Comparison::LessOrEqual => found < value,
                _ => found > value,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn conditions_mean_what_they_say() {
        let record = json!({
            "mood": "calm", "day": 7, "weight": 1.5, "tags": ["a", "b"], "address": { "city": "Bern" },
        });
        let record = Fields::of(&record).unwrap();
        let fit = [
            field("mood").eq("calm"),
            field("mood").ne("angry"),
            field("day").gt(6).and(field("day").le(7)).and(field("day").lt(7.5)),
            field("day").eq(7.0),
            field("weight").ge(1.5),
            field("day").is_in([1, 7]),
            field("tags").contains("b"),
            field("mood").contains("al"),
            field("mood").starts_with("ca"),
            field("address.city").eq("Bern"),
            field("day").exists(),
            field("mood").eq("x").or(field("day").eq(7)).or(field("day").eq(8)),
            field("missing").eq(1).not(),
            Filter::All,
        ];
        fit.iter().for_each(|filter| assert!(filter.fits(&record), "{filter:?}"));
        let unfit = [
            field("mood").lt(5),
            field("missing").ne(1),
            field("missing").exists(),
            field("tags").contains("c"),
            field("day").starts_with("7"),
            field("day").gt("1"),
            field("day").lt(7),
            Filter::All.and(field("mood").eq("angry")),
        ];
        unfit.iter().for_each(|filter| assert!(!filter.fits(&record), "{filter:?}"));
    }
}
