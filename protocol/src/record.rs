//! What is inside a sealed change: the content of a record.
//!
//! Owns the layout and what to do with one that was written by a later version: it is kept as it is and never taken
//! for something else. Knows nothing of seals, of the log, nor of what the data means to an app.
//!
//! ```text
//! body := CBOR map { "v": 1, "collection": text, "deleted": bool, "hlc": { "ms": u64, "count": u32 }, "data": bytes }
//! ```
//!
//! All of it is sealed together: which collection a record is in, when it was written and that it was deleted are
//! nobody's business but the members'. A deletion is a body like any other, so that it can be compared with an edit.

use crate::bytes::Bytes;
use crate::codec::Face;
use serde::{Deserialize, Serialize};

/// The version this code writes.
pub const RECORD_VERSION: u32 = 1;
/// The longest name of a collection, in bytes.
pub const MAX_COLLECTION_LENGTH: usize = 128;

/// The content of one version of a record.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordBody {
    v: u32,
    pub collection: String,
    pub deleted: bool,
    pub hlc: Hlc,
    pub data: Bytes,
}

/// A hybrid logical clock: the writer's time, or a little after whatever they had seen, if that was later. Orders
/// versions whose writers did not know of each other; nothing else depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hlc {
    pub ms: u64,
    pub count: u32,
}

/// The content cannot be read here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// A later version of the app wrote it: it is to be kept and not to be overwritten.
    #[error("written by a later version of the app (content version {0})")]
    Newer(u32),
    #[error("not the content of a record")]
    Malformed,
}

impl RecordBody {
    pub fn new(collection: impl Into<String>, hlc: Hlc, data: impl Into<Bytes>) -> Self {
        RecordBody { v: RECORD_VERSION, collection: collection.into(), deleted: false, hlc, data: data.into() }
    }

    /// The mark that a record was deleted.
    pub fn deletion(collection: impl Into<String>, hlc: Hlc) -> Self {
        RecordBody { deleted: true, ..RecordBody::new(collection, hlc, Vec::new()) }
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        Face::Cbor.encode(self)
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<RecordBody, BodyError> {
        /// All that is ever looked at of a body of another version.
        #[derive(Deserialize)]
        struct Version {
            v: u32,
        }
        match Face::Cbor.decode::<RecordBody>(bytes) {
            Ok(body) if body.v == RECORD_VERSION && body.collection.len() <= MAX_COLLECTION_LENGTH => Ok(body),
            _ => match Face::Cbor.decode::<Version>(bytes) {
                Ok(Version { v }) if v > RECORD_VERSION => Err(BodyError::Newer(v)),
                _ => Err(BodyError::Malformed),
            },
        }
    }

    /// Whether both say the same, whenever they said it.
    pub fn says_the_same(&self, other: &RecordBody) -> bool {
        (self.deleted, &self.collection, &self.data) == (other.deleted, &other.collection, &other.data)
    }
}

impl Hlc {
    /// The next stamp of somebody whose clock says `now_ms` and who has seen `seen`.
    pub fn after(seen: Hlc, now_ms: u64) -> Hlc {
        if now_ms > seen.ms {
            return Hlc { ms: now_ms, count: 0 };
        }
        match seen.count.checked_add(1) {
            Some(count) => Hlc { ms: seen.ms, count },
            None => Hlc { ms: seen.ms.saturating_add(1), count: 0 },
        }
    }
}

/// What a record says is shown by nobody but the app.
impl std::fmt::Debug for RecordBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordBody").field("length", &self.data.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_travels_there_and_back_and_shows_nothing() {
        let body = RecordBody::new("notes", Hlc { ms: 7, count: 1 }, b"secret".to_vec());
        assert_eq!(RecordBody::from_bytes(&body.to_bytes()), Ok(body.clone()));
        assert_eq!(format!("{body:?}"), "RecordBody { length: 6, .. }");
        let gone = RecordBody::deletion("notes", Hlc::default());
        assert!(RecordBody::from_bytes(&gone.to_bytes()).unwrap().deleted);
    }

    #[test]
    fn a_later_version_is_told_from_nonsense() {
        #[derive(Serialize)]
        struct Later {
            v: u32,
            collection: &'static str,
            colour: Vec<u32>,
        }
        let later = Face::Cbor.encode(&Later { v: 2, collection: "notes", colour: vec![1, 2] });
        assert_eq!(RecordBody::from_bytes(&later), Err(BodyError::Newer(2)));
        let odd = Face::Cbor.encode(&Later { v: 1, collection: "notes", colour: vec![] });
        assert_eq!(RecordBody::from_bytes(&odd), Err(BodyError::Malformed));
        for bytes in [&b""[..], b"\xff", b"\xa0", b"\x01"] {
            assert_eq!(RecordBody::from_bytes(bytes), Err(BodyError::Malformed));
        }
    }

    #[test]
    fn a_clock_that_is_behind_still_comes_after_what_was_seen() {
        let seen = Hlc { ms: 100, count: 3 };
        assert_eq!(Hlc::after(seen, 200), Hlc { ms: 200, count: 0 });
        assert_eq!(Hlc::after(seen, 50), Hlc { ms: 100, count: 4 });
        let last = Hlc { ms: 100, count: u32::MAX };
        assert!(Hlc::after(last, 0) > last);
    }
}
