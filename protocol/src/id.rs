//! Names of things, one type each, so that one is never taken for another.
//!
//! [`UserId`] and [`DeviceId`] are hashes of the first thing their owner signed: nobody can choose or swap them, the
//! server least of all. The others are random.

use crate::bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $length:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub [u8; $length]);

        impl $name {
            pub const LENGTH: usize = $length;

            pub fn as_bytes(&self) -> &[u8] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&bytes::to_base64url(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = NotAnId;
            fn try_from(bytes: &[u8]) -> Result<Self, NotAnId> {
                bytes.try_into().map($name).map_err(|_| NotAnId)
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;
            fn from_str(text: &str) -> Result<Self, NotAnId> {
                let bytes = bytes::from_base64url(text).ok_or(NotAnId)?;
                Self::try_from(bytes.as_slice())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                bytes::serialize(&self.0, serializer)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                bytes::deserialize_exactly(deserializer).map($name)
            }
        }

        #[cfg(feature = "utoipa")]
        impl utoipa::__dev::ComposeSchema for $name {
            fn compose(
                _: Vec<utoipa::openapi::RefOr<utoipa::openapi::schema::Schema>>,
            ) -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                <bytes::Fixed<$length> as utoipa::PartialSchema>::schema()
            }
        }
        #[cfg(feature = "utoipa")]
        impl utoipa::ToSchema for $name {}
    };
}

/// The bytes or the text do not have the shape of the id that was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an id of this kind")]
pub struct NotAnId;

id!(
    /// A person: the hash of the first entry of their account log.
    UserId,
    32
);
id!(
    /// One installation of an app: the hash of its public key.
    DeviceId,
    16
);
id!(
    /// One sign-in that has not ended.
    SessionId,
    16
);
id!(
    /// A sign-in under way, between its two steps. Its first eight bytes tell the server the tenant.
    LoginId,
    24
);
id!(
    /// Where two devices meet to link: derived from the secret that only they know.
    LinkChannel,
    16
);
id!(
    /// One life of the server's database: made anew when it is initialised and when it is restored from a backup.
    Incarnation,
    16
);
id!(
    /// A vault: the hash of the first entry of its log.
    VaultId,
    32
);
id!(
    /// A record of a vault. Random.
    RecordId,
    16
);
id!(
    /// One change of one record: the hash of who wrote it, where, and of what it says.
    ChangeId,
    32
);
id!(
    /// An invitation into a vault. Random.
    InviteId,
    16
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let id = DeviceId([7; 16]);
        assert_eq!(id.to_string().parse::<DeviceId>().unwrap(), id);
        assert!("AAAA".parse::<DeviceId>().is_err());
    }
}
