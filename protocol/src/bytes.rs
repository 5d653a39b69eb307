//! Byte strings on the wire: raw in the binary face, base64url without padding in JSON.
//!
//! Owns the two shapes bytes travel in, free ([`Bytes`]) and of one exact length ([`Fixed`]).
//! Knows nothing of what the bytes mean.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};
use std::fmt;

/// Opaque bytes of any length. `Debug` shows the length only: most of what travels here is sealed, the rest is secret.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bytes(pub Vec<u8>);

/// Exactly `N` opaque bytes; anything else does not decode.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fixed<const N: usize>(pub [u8; N]);

/// Encodes as base64url without padding.
pub fn to_base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Decodes base64url without padding; trailing bits must be zero.
pub fn from_base64url(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bytes({})", self.0.len())
    }
}

impl<const N: usize> fmt::Debug for Fixed<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fixed({N})")
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes(bytes)
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        Bytes(bytes.to_vec())
    }
}

impl<const N: usize> From<[u8; N]> for Bytes {
    fn from(bytes: [u8; N]) -> Self {
        Bytes(bytes.to_vec())
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl std::ops::Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl<const N: usize> Fixed<N> {
    /// These bytes, if there are exactly as many.
    pub fn try_from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Fixed)
    }
}

impl<const N: usize> From<[u8; N]> for Fixed<N> {
    fn from(bytes: [u8; N]) -> Self {
        Fixed(bytes)
    }
}

impl<const N: usize> AsRef<[u8]> for Fixed<N> {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl<const N: usize> std::ops::Deref for Fixed<N> {
    type Target = [u8; N];
    fn deref(&self) -> &[u8; N] {
        &self.0
    }
}

pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    if serializer.is_human_readable() {
        serializer.serialize_str(&to_base64url(bytes))
    } else {
        serializer.serialize_bytes(bytes)
    }
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    struct AnyBytes;
    impl<'de> Visitor<'de> for AnyBytes {
        type Value = Vec<u8>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("bytes (base64url without padding in JSON)")
        }
        fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<u8>, E> {
            from_base64url(text).ok_or_else(|| E::custom("not base64url without padding"))
        }
        fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
            Ok(bytes.to_vec())
        }
        fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
            Ok(bytes)
        }
    }
    if deserializer.is_human_readable() {
        deserializer.deserialize_str(AnyBytes)
    } else {
        deserializer.deserialize_byte_buf(AnyBytes)
    }
}

pub(crate) fn deserialize_exactly<'de, D: Deserializer<'de>, const N: usize>(
    deserializer: D,
) -> Result<[u8; N], D::Error> {
    let bytes = deserialize(deserializer)?;
    let length = bytes.len();
    bytes.try_into().map_err(|_| de::Error::invalid_length(length, &format!("{N} bytes").as_str()))
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize(deserializer).map(Bytes)
    }
}

impl<const N: usize> Serialize for Fixed<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize(&self.0, serializer)
    }
}

impl<'de, const N: usize> Deserialize<'de> for Fixed<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize_exactly(deserializer).map(Fixed)
    }
}

#[cfg(feature = "utoipa")]
mod schema {
    use super::{Bytes, Fixed};
    use utoipa::openapi::RefOr;
    use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};

    /// The last of two and of three characters has bits that no byte fills: they are 0.
    const ONE_BYTE: &str = "[A-Za-z0-9_-][AQgw]";
    const TWO_BYTES: &str = "[A-Za-z0-9_-]{2}[AEIMQUYcgkosw048]";

    fn base64url(length: Option<usize>) -> RefOr<Schema> {
        let what = length.map_or_else(String::new, |length| format!("{length} "));
        let pattern = match length {
            None => format!("^([A-Za-z0-9_-]{{4}})*({ONE_BYTE}|{TWO_BYTES})?$"),
            Some(length) => {
                let rest = ["", ONE_BYTE, TWO_BYTES][length % 3];
                format!("^[A-Za-z0-9_-]{{{}}}{rest}$", length / 3 * 4)
            }
        };
        let object = ObjectBuilder::new()
            .schema_type(Type::String)
            .content_encoding("base64url")
            .description(Some(format!("{what}bytes, base64url without padding")))
            .pattern(Some(pattern));
        RefOr::T(Schema::Object(object.build()))
    }

    impl utoipa::__dev::ComposeSchema for Bytes {
        fn compose(_: Vec<RefOr<Schema>>) -> RefOr<Schema> {
            base64url(None)
        }
    }
    impl utoipa::ToSchema for Bytes {}

    impl<const N: usize> utoipa::__dev::ComposeSchema for Fixed<N> {
        fn compose(_: Vec<RefOr<Schema>>) -> RefOr<Schema> {
            base64url(Some(N))
        }
    }
    impl<const N: usize> utoipa::ToSchema for Fixed<N> {
        fn name() -> std::borrow::Cow<'static, str> {
            std::borrow::Cow::Owned(format!("Bytes{N}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_base64url_without_padding() {
        assert_eq!(serde_json::to_string(&Bytes(vec![0xfb, 0xff])).unwrap(), "\"-_8\"");
        assert_eq!(serde_json::from_str::<Bytes>("\"-_8\"").unwrap().0, vec![0xfb, 0xff]);
    }

    #[test]
    fn other_alphabets_padding_and_loose_bits_are_refused() {
        for text in ["\"+/8\"", "\"-_8=\"", "\"-_9\"", "\"a\"", "[1,2]", "7"] {
            assert!(serde_json::from_str::<Bytes>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_fixed_string_has_its_length_and_no_other() {
        assert!(serde_json::from_str::<Fixed<2>>("\"-_8\"").is_ok());
        assert!(serde_json::from_str::<Fixed<3>>("\"-_8\"").is_err());
    }

    #[test]
    fn debug_shows_no_content() {
        assert_eq!(format!("{:?}", Bytes(b"password".to_vec())), "Bytes(8)");
    }
}
