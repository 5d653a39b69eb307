//! The values that fields have, whatever language wrote them.
//!
//! Owns their one order, their canonical CBOR and their JSON. Knows nothing of records, apps or types.
//!
//! ```text
//! value := null | bool | integer | float (64 bits) | text | bytes | array of values | map of text to value
//! ```
//!
//! Canonical: definite lengths, the shortest form of each integer, floats always in 64 bits, keys of a map ascending by
//! length and then by their bytes (RFC 8949, 4.2.1). The same value always has the same bytes.

use selkie_protocol::Face;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Error as _, SerializeMap as _, Serializer};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// What a field of a record says. Needed where an app works with fields rather than with its own types: in filters,
/// in upcasters, in a merge of its own.
#[derive(Clone, Debug)]
pub enum Value {
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// From -2^64 to 2^64 - 1: what CBOR can say.
    Int(i128),
    /// Any other number.
    Float(f64),
    /// A text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Values in their order.
    List(Vec<Value>),
    /// Values by name.
    Map(BTreeMap<String, Value>),
}

impl Value {
    /// Where kinds stand among each other. Integers and floats are one kind: they are compared as numbers.
    pub(super) fn kind(&self) -> u8 {
        match self {
            Value::Null => 0,
            Value::Bool(_) => 1,
            Value::Int(_) | Value::Float(_) => 2,
            Value::Text(_) => 3,
            Value::Bytes(_) => 4,
            Value::List(_) => 5,
            Value::Map(_) => 6,
        }
    }

    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The integer, if it is one.
    pub fn as_int(&self) -> Option<i128> {
        match self {
            Value::Int(int) => Some(*int),
            _ => None,
        }
    }

    /// The elements, if it is a list.
    pub fn as_list(&self) -> Option<&[Value]> {
        match self {
            Value::List(list) => Some(list),
            _ => None,
        }
    }

    /// Numbers without a fraction as integers: 1.0 is found where 1 is asked for.
    pub(super) fn in_one_form(&self) -> Value {
        match self {
            Value::Float(float) if float.fract() == 0.0 && float.abs() <= MOST_EXACT => Value::Int(*float as i128),
            other => other.clone(),
        }
    }

    /// Anything that serde can take apart, as a value. For JSON there is [`Value::from_json`], which knows its null.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Value, NotAValue> {
        let bytes = Face::Cbor.try_encode(value).map_err(|error| NotAValue(error.what))?;
        Face::Cbor.decode(&bytes).map_err(|error| NotAValue(error.what))
    }

    /// As JSON. Bytes become base64url; a float that JSON has no word for becomes null.
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match self {
            Value::Null => Json::Null,
            Value::Bool(bool) => (*bool).into(),
            Value::Int(int) => match (u64::try_from(*int), i64::try_from(*int)) {
                (Ok(int), _) => int.into(),
                (_, Ok(int)) => int.into(),
                _ => int.to_string().into(),
            },
            Value::Float(float) => serde_json::Number::from_f64(*float).map_or(Json::Null, Json::Number),
            Value::Text(text) => text.clone().into(),
            Value::Bytes(bytes) => selkie_protocol::bytes::to_base64url(bytes).into(),
            Value::List(list) => list.iter().map(Value::to_json).collect::<Vec<_>>().into(),
            Value::Map(map) => Json::Object(map.iter().map(|(key, value)| (key.clone(), value.to_json())).collect()),
        }
    }

    /// From JSON: numbers without a fraction become integers.
    pub fn from_json(json: &serde_json::Value) -> Value {
        use serde_json::Value as Json;
        match json {
            Json::Null => Value::Null,
            Json::Bool(bool) => Value::Bool(*bool),
            Json::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(int), _) => Value::Int(int.into()),
                (_, Some(int)) => Value::Int(int.into()),
                _ => Value::Float(number.as_f64().unwrap_or_default()),
            },
            Json::String(text) => Value::Text(text.clone()),
            Json::Array(list) => Value::List(list.iter().map(Value::from_json).collect()),
            Json::Object(map) => {
                Value::Map(map.iter().map(|(key, value)| (key.clone(), Value::from_json(value))).collect())
            }
        }
    }
}

/// The largest integer that CBOR can say, nearly.
const MOST_EXACT: f64 = 18_446_744_073_709_549_568.0;

/// Something that no field can say: a map whose keys are no text, an integer of more than 64 bits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a value for a field: {0}")]
pub struct NotAValue(pub(crate) String);

impl Ord for Value {
    /// By kind, then by what it says. An integer comes before the float of the same number, so that different values
    /// are never equal.
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Value::Bool(one), Value::Bool(other)) => one.cmp(other),
            (Value::Int(one), Value::Int(other)) => one.cmp(other),
            (Value::Float(one), Value::Float(other)) => one.total_cmp(other),
            (Value::Int(one), Value::Float(other)) => int_to_float(*one, *other),
            (Value::Float(one), Value::Int(other)) => int_to_float(*other, *one).reverse(),
            (Value::Text(one), Value::Text(other)) => one.cmp(other),
            (Value::Bytes(one), Value::Bytes(other)) => one.cmp(other),
            (Value::List(one), Value::List(other)) => one.cmp(other),
            (Value::Map(one), Value::Map(other)) => one.cmp(other),
            _ => self.kind().cmp(&other.kind()),
        }
    }
}

/// Exact for every integer: where the float has no fraction it is compared as an integer.
fn int_to_float(int: i128, float: f64) -> Ordering {
    // Beyond these no integer of CBOR's lies.
    const EDGE: f64 = 1.0e20;
    if float.is_nan() || float.abs() > EDGE {
        return 0.0_f64.total_cmp(&float);
    }
    let floor = float.floor();
    match int.cmp(&(floor as i128)) {
        Ordering::Equal => Ordering::Less,
        unequal => unequal,
    }
}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Value {}

macro_rules! from {
    ($($type:ty => $make:expr;)*) => {
        $(impl From<$type> for Value {
            fn from(value: $type) -> Self {
                $make(value)
            }
        })*
    };
}

from! {
    bool => Value::Bool;
    i32 => |int: i32| Value::Int(int.into());
    u32 => |int: u32| Value::Int(int.into());
    i64 => |int: i64| Value::Int(int.into());
    u64 => |int: u64| Value::Int(int.into());
    f64 => Value::Float;
    &str => |text: &str| Value::Text(text.to_owned());
    String => Value::Text;
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Null, Into::into)
    }
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(list: Vec<T>) -> Self {
        Value::List(list.into_iter().map(Into::into).collect())
    }
}

/// The keys of a map in the order they are written down.
pub(super) fn in_order<T>(map: &BTreeMap<String, T>) -> Vec<(&String, &T)> {
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_by_key(|(key, _)| key.len());
    entries
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Null => serializer.serialize_none(),
            Value::Bool(bool) => serializer.serialize_bool(*bool),
            Value::Int(int) => match (u64::try_from(*int), i64::try_from(*int)) {
                (Ok(int), _) => serializer.serialize_u64(int),
                (_, Ok(int)) => serializer.serialize_i64(int),
                _ if *int >= -(1 << 64) && *int < 0 => serializer.serialize_i128(*int),
                _ => Err(S::Error::custom("an integer has at most 64 bits")),
            },
            Value::Float(float) => serializer.serialize_f64(*float),
            Value::Text(text) => serializer.serialize_str(text),
            Value::Bytes(bytes) => serializer.serialize_bytes(bytes),
            Value::List(list) => serializer.collect_seq(list),
            Value::Map(map) => {
                let mut out = serializer.serialize_map(Some(map.len()))?;
                in_order(map).into_iter().try_for_each(|(key, value)| out.serialize_entry(key, value))?;
                out.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any)
    }
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a value of a field")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<Value, D::Error> {
        Value::deserialize(inner)
    }

    fn visit_bool<E>(self, bool: bool) -> Result<Value, E> {
        Ok(Value::Bool(bool))
    }

    fn visit_i64<E>(self, int: i64) -> Result<Value, E> {
        Ok(Value::Int(int.into()))
    }

    fn visit_u64<E>(self, int: u64) -> Result<Value, E> {
        Ok(Value::Int(int.into()))
    }

    fn visit_i128<E>(self, int: i128) -> Result<Value, E> {
        Ok(Value::Int(int))
    }

    fn visit_f64<E>(self, float: f64) -> Result<Value, E> {
        Ok(Value::Float(float))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::Text(text))
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Value, E> {
        Ok(Value::Bytes(bytes.to_vec()))
    }

    fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Value, E> {
        Ok(Value::Bytes(bytes))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = seq.next_element()? {
            list.push(value);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields = BTreeMap::new();
        while let Some((key, value)) = map.next_entry()? {
            fields.insert(key, value);
        }
        Ok(Value::Map(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            (-(1_i128 << 64)..(1_i128 << 64)).prop_map(Value::Int),
            any::<i8>().prop_map(|int| Value::Int(int.into())),
            any::<f64>().prop_map(Value::Float),
            any::<i8>().prop_map(|int| Value::Float(int.into())),
            "[a-z]{0,6}".prop_map(Value::Text),
            proptest::collection::vec(any::<u8>(), 0..6).prop_map(Value::Bytes),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
                proptest::collection::btree_map("[a-z]{0,4}", inner, 0..4).prop_map(Value::Map),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_value_travels_there_and_back(value in any_value()) {
            let bytes = Face::Cbor.try_encode(&value).unwrap();
            let back: Value = Face::Cbor.decode(&bytes).unwrap();
            prop_assert_eq!(&back, &value);
            prop_assert_eq!(Face::Cbor.try_encode(&back).unwrap(), bytes);
        }

        #[test]
        fn there_is_one_order(a in any_value(), b in any_value(), c in any_value()) {
            prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
            if a <= b && b <= c {
                prop_assert!(a <= c);
            }
        }
    }

    #[test]
    fn numbers_are_compared_as_numbers() {
        let ascending: [Value; 7] =
            [(-1.5).into(), (-1).into(), 0.into(), Value::Float(0.5), 1.into(), Value::Float(1.0), 2.into()];
        assert!(ascending.is_sorted_by(|one, next| one < next), "{ascending:?}");
        assert!(Value::Int(1 << 63) > Value::Float(1.5) && Value::Float(f64::INFINITY) > Value::Int(u64::MAX.into()));
        assert!(Value::Null < Value::Bool(false) && Value::Int(9) < Value::from("1"));
    }

    #[test]
    fn keys_are_written_by_length_and_then_by_bytes() {
        let map = ["bb", "a", "c", "aa"].map(|key| (key.to_owned(), Value::Null));
        let bytes = Face::Cbor.try_encode(&Value::Map(map.into())).unwrap();
        assert_eq!(bytes, b"\xa4\x61a\xf6\x61c\xf6\x62aa\xf6\x62bb\xf6");
    }

    #[test]
    fn json_comes_back_as_it_was() {
        let json = serde_json::json!({ "a": [1, -2, 1.5, null, true], "b": { "c": "text", "d": u64::MAX } });
        assert_eq!(Value::from_json(&json).to_json(), json);
        assert_eq!(Value::Bytes(vec![255]).to_json(), serde_json::json!("_w"));
        assert_eq!(Value::Float(f64::NAN).to_json(), serde_json::Value::Null);
    }

    #[test]
    fn what_no_field_can_say_is_refused() {
        let by_number: BTreeMap<u32, u32> = [(1, 2)].into();
        assert!(Value::of(&by_number).is_err());
        assert!(Value::of(&Value::Int(1 << 70)).is_err());
    }
}
