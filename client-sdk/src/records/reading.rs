//! Reads an app's own type out of a value.
//!
//! Owns the widening that a decoder of bytes does not do: a field was written in one width and is read in another, as
//! an `f32` that is kept in 64 bits. Used where the straight way from the bytes has failed.

use super::value::Value;
use serde::de::value::{Error, MapAccessDeserializer, MapDeserializer, SeqDeserializer};
use serde::de::{Deserializer, Error as _, IntoDeserializer, Visitor};
use std::collections::BTreeMap;

/// A value that is about to be read.
#[derive(Clone, Copy)]
pub(super) struct Reading<'de>(pub(super) &'de Value);

type Members<'de> = Box<dyn Iterator<Item = (&'de str, Reading<'de>)> + 'de>;

fn members(map: &BTreeMap<String, Value>) -> MapDeserializer<'_, Members<'_>, Error> {
    let members: Members<'_> = Box::new(map.iter().map(|(name, value)| (name.as_str(), Reading(value))));
    MapDeserializer::new(members)
}

impl<'de> IntoDeserializer<'de, Error> for Reading<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Reading<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(truth) => visitor.visit_bool(*truth),
            Value::Int(int) => match (u64::try_from(*int), i64::try_from(*int)) {
                (Ok(int), _) => visitor.visit_u64(int),
                (_, Ok(int)) => visitor.visit_i64(int),
                _ => visitor.visit_i128(*int),
            },
            Value::Float(float) => visitor.visit_f64(*float),
            Value::Text(text) => visitor.visit_borrowed_str(text),
            Value::Bytes(bytes) => visitor.visit_borrowed_bytes(bytes),
            Value::List(list) => visitor.visit_seq(SeqDeserializer::new(list.iter().map(Reading))),
            Value::Map(map) => visitor.visit_map(members(map)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0 {
            Value::Text(name) => visitor.visit_enum(name.as_str().into_deserializer()),
            Value::Map(map) if map.len() == 1 => visitor.visit_enum(MapAccessDeserializer::new(members(map))),
            _ => Err(Error::custom("a choice is a name, or a name with what belongs to it")),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use crate::Fields;
    use proptest::prelude::*;
    use serde::{Deserialize, Serialize};
    use std::collections::BTreeMap;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Kind {
        Plain,
        Named(String),
        Sized { width: f32, height: u8 },
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Wrapped(i64);

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Reading {
        share: f32,
        shares: Vec<f32>,
        perhaps: Option<f32>,
        pair: (f32, String),
        kind: Kind,
        wrapped: Wrapped,
        letter: char,
        by_name: BTreeMap<String, f32>,
        large: u64,
    }

    fn kinds() -> impl Strategy<Value = Kind> {
        prop_oneof![
            Just(Kind::Plain),
            any::<String>().prop_map(Kind::Named),
            (any::<f32>(), any::<u8>()).prop_map(|(width, height)| Kind::Sized { width, height }),
        ]
    }

    proptest! {
        #[test]
        fn what_an_app_wrote_in_32_bits_is_read_in_32_bits(
            (share, shares, perhaps) in (any::<f32>(), any::<Vec<f32>>(), any::<Option<f32>>()),
            (pair, kind, wrapped) in (any::<(f32, String)>(), kinds(), any::<i64>()),
            (letter, by_name, large) in (any::<char>(), any::<BTreeMap<String, f32>>(), any::<u64>()),
        ) {
            let wrapped = Wrapped(wrapped);
            let written = Reading { share, shares, perhaps, pair, kind, wrapped, letter, by_name, large };
            let read: Reading = Fields::of(&written).unwrap().read().unwrap();
            prop_assert_eq!(read, written);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_in_words() {
        let fields = Fields::of(&BTreeMap::from([("large", 300)])).unwrap();
        #[derive(Debug, Deserialize)]
        struct Small {
            #[allow(dead_code, reason = "it is never read into")]
            large: u8,
        }
        let refused = fields.read::<Small>().unwrap_err().to_string();
        assert!(!refused.is_empty(), "{refused}");
    }
}
