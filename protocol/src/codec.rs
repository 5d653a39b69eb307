//! One set of message types, two faces: CBOR for the SDK, JSON for people and other languages.
//!
//! Signed things are not encoded here: they are fixed layouts that travel inside these messages as byte strings, and
//! are checked as the bytes that came.

use cbor4ii::core::dec::Read as _;
use cbor4ii::core::utils::SliceReader;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How a message is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Face {
    /// RFC 8949, maps with text keys.
    Cbor,
    /// RFC 8259, byte strings as base64url without padding.
    Json,
}

/// The bytes are not a message of the expected type; `what` is for people and never repeats the input.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct DecodeError {
    pub what: String,
}

impl Face {
    pub const CBOR: &'static str = "application/cbor";
    pub const JSON: &'static str = "application/json";
    pub const PROBLEM_CBOR: &'static str = "application/problem+cbor";
    pub const PROBLEM_JSON: &'static str = "application/problem+json";

    /// The content type of a message in this face.
    pub fn content_type(self) -> &'static str {
        match self {
            Face::Cbor => Self::CBOR,
            Face::Json => Self::JSON,
        }
    }

    /// The content type of an [`ErrorBody`](crate::ErrorBody) in this face.
    pub fn problem_type(self) -> &'static str {
        match self {
            Face::Cbor => Self::PROBLEM_CBOR,
            Face::Json => Self::PROBLEM_JSON,
        }
    }

    /// The face a content type names, parameters such as a charset aside.
    pub fn from_content_type(value: &str) -> Option<Face> {
        match value.split(';').next()?.trim().to_ascii_lowercase().as_str() {
            Self::CBOR | Self::PROBLEM_CBOR => Some(Face::Cbor),
            Self::JSON | Self::PROBLEM_JSON => Some(Face::Json),
            _ => None,
        }
    }

    /// Writes a message down. Our message types always encode; a failure is a bug and says so.
    pub fn encode<T: Serialize>(self, message: &T) -> Vec<u8> {
        match self {
            Face::Cbor => cbor4ii::serde::to_vec(Vec::new(), message).expect("wire types encode as CBOR"),
            Face::Json => serde_json::to_vec(message).expect("wire types encode as JSON"),
        }
    }

    /// Writes down what is not ours: a type of an app, which may be one that cannot be written.
    pub fn try_encode<T: Serialize + ?Sized>(self, message: &T) -> Result<Vec<u8>, DecodeError> {
        let refused = |complaint: String| DecodeError::new(complaint);
        match self {
            Face::Cbor => cbor4ii::serde::to_vec(Vec::new(), &message).map_err(|error| refused(error.to_string())),
            Face::Json => serde_json::to_vec(message).map_err(|error| refused(error.to_string())),
        }
    }

    /// Reads exactly one message: nothing missing, nothing after it. Takes memory in proportion to the bytes that are
    /// there, whatever lengths they claim, and goes no deeper than a fixed number of levels.
    pub fn decode<T: DeserializeOwned>(self, bytes: &[u8]) -> Result<T, DecodeError> {
        match self {
            Face::Json => serde_json::from_slice(bytes).map_err(|error| DecodeError::without_input(&error.to_string())),
            Face::Cbor => {
                let mut reader = SliceReader::new(bytes);
                let message = T::deserialize(&mut cbor4ii::serde::Deserializer::new(&mut reader))?;
                let Ok(rest) = reader.fill(1);
                if rest.as_ref().is_empty() { Ok(message) } else { Err(DecodeError::new("bytes follow the message")) }
            }
        }
    }
}

impl DecodeError {
    fn new(what: impl Into<String>) -> Self {
        DecodeError { what: what.into() }
    }

    /// Takes out of a decoder's complaint what it quotes from the input, which may be a password in the wrong place.
    fn without_input(complaint: &str) -> Self {
        // What serde writes: "unknown field `<input>`, expected ...", "invalid type: string \"<input>\", expected ...".
        // What comes after the last of these words is ours; an input that contains them moves nothing of itself there.
        const QUOTING: [&str; 4] = ["unknown field", "unknown variant", "invalid type", "invalid value"];
        const OURS: [&str; 2] = [", expected ", ", there are no "];
        let Some(kind) = QUOTING.iter().find(|kind| complaint.starts_with(**kind)) else {
            return DecodeError::new(complaint);
        };
        match OURS.iter().filter_map(|words| complaint.rfind(words)).max() {
            Some(ours) => DecodeError { what: format!("{kind}{}", &complaint[ours..]) },
            None => DecodeError::new(*kind),
        }
    }
}

impl<E: std::fmt::Debug> From<cbor4ii::serde::DecodeError<E>> for DecodeError {
    fn from(error: cbor4ii::serde::DecodeError<E>) -> Self {
        use cbor4ii::core::error::DecodeError as Core;
        use cbor4ii::serde::DecodeError::{Core as Malformed, Custom};
        match error {
            Custom(complaint) => DecodeError::without_input(&complaint),
            Malformed(Core::Eof { .. }) => DecodeError::new("the message ends too early"),
            Malformed(Core::Mismatch { name, .. }) => DecodeError::new(format!("invalid type, expected {name}")),
            Malformed(Core::RequireUtf8 { .. }) => DecodeError::new("a text is not UTF-8"),
            Malformed(Core::DepthOverflow { .. }) => DecodeError::new("too deeply nested"),
            Malformed(Core::CastOverflow { name }) => {
                DecodeError::new(format!("a number is too large, expected {name}"))
            }
            Malformed(_) => DecodeError::new("not CBOR of this kind"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Incarnation;
    use crate::session::{LoginFinish, LoginStart, RegisterFinish, SignOut};
    use crate::version::{Capabilities, Limits, PROTOCOL_VERSION, RegistrationPolicy};

    const FACES: [Face; 2] = [Face::Cbor, Face::Json];

    fn login_start() -> LoginStart {
        LoginStart { tenant: None, login_name: "ana".into(), ke1: [7; 96].into(), device: None }
    }

    fn json(text: &str) -> Result<LoginStart, DecodeError> {
        Face::Json.decode(text.as_bytes())
    }

    /// A CBOR map with text keys, written by hand: `(key, already encoded value)`.
    fn cbor_map(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut out = vec![0xa0 | u8::try_from(entries.len()).unwrap()];
        for (key, value) in entries {
            out.extend_from_slice(&[0x60 | u8::try_from(key.len()).unwrap()]);
            out.extend_from_slice(key.as_bytes());
            out.extend_from_slice(value);
        }
        out
    }

    #[test]
    fn content_types_name_faces_whatever_their_case_and_parameters() {
        for (value, face) in [
            ("application/cbor", Some(Face::Cbor)),
            ("Application/JSON; charset=utf-8", Some(Face::Json)),
            ("application/problem+json", Some(Face::Json)),
            ("text/json", None),
            ("", None),
        ] {
            assert_eq!(Face::from_content_type(value), face, "{value}");
        }
    }

    #[test]
    fn nothing_may_follow_a_message() {
        for face in FACES {
            let bytes = face.encode(&login_start());
            assert_eq!(face.decode::<LoginStart>(&bytes).unwrap(), login_start());
            for tail in [b"x".as_slice(), b"{}", &[0xf6], &[0]] {
                assert!(face.decode::<LoginStart>(&[&bytes, tail].concat()).is_err(), "{face:?} {tail:?}");
            }
        }
    }

    #[test]
    fn a_message_cut_short_is_none() {
        for face in FACES {
            let bytes = face.encode(&login_start());
            for length in 0..bytes.len() {
                assert!(face.decode::<LoginStart>(&bytes[..length]).is_err(), "{face:?} {length}");
            }
        }
    }

    #[test]
    fn fields_may_be_neither_unknown_nor_twice_nor_missing() {
        let ke1 = crate::bytes::to_base64url(&[7; 96]);
        assert!(json(&format!(r#"{{"login_name":"ana","ke1":"{ke1}"}}"#)).is_ok());
        assert!(json(&format!(r#"{{"login_name":"ana","ke1":"{ke1}","legacy":true}}"#)).is_err());
        assert!(json(&format!(r#"{{"login_name":"ana","login_name":"ana","ke1":"{ke1}"}}"#)).is_err());
        assert!(json(r#"{"login_name":"ana"}"#).is_err());

        let (name, ke1) = (b"\x63ana".as_slice(), [&[0x58, 96][..], &[7; 96]].concat());
        let decode = |entries: &[(&str, &[u8])]| Face::Cbor.decode::<LoginStart>(&cbor_map(entries));
        assert_eq!(decode(&[("login_name", name), ("ke1", &ke1)]).unwrap(), login_start());
        assert!(decode(&[("login_name", name), ("ke1", &ke1), ("legacy", &[0xf5])]).is_err());
        assert!(decode(&[("login_name", name), ("login_name", name), ("ke1", &ke1)]).is_err());
        assert!(decode(&[("login_name", name)]).is_err());
    }

    #[test]
    fn a_byte_string_is_not_a_text_and_a_text_not_a_byte_string() {
        let (name, ke1) = (b"\x63ana".as_slice(), [&[0x58, 96][..], &[7; 96]].concat());
        let as_text = [&[0x78, 128][..], crate::bytes::to_base64url(&[7; 96]).as_bytes()].concat();
        let decode =
            |name: &[u8], ke1: &[u8]| Face::Cbor.decode::<LoginStart>(&cbor_map(&[("login_name", name), ("ke1", ke1)]));
        assert!(decode(name, &ke1).is_ok());
        assert!(decode(name, &as_text).is_err());
        assert!(decode(b"\x43ana", &ke1).is_err());
        assert!(decode(&[0x61, 0xff], &ke1).is_err(), "a text must be UTF-8");
        assert!(json(r#"{"login_name":"ana","ke1":[7,7,7]}"#).is_err());
    }

    #[test]
    fn a_claimed_length_costs_nothing() {
        // Claims 2^62 bytes, text or elements, and brings none. An allocation of that size would abort the test.
        let huge = 1_u64 << 62;
        for major in [0x5b, 0x7b, 0x9b, 0xbb] {
            let claim = [&[major][..], &huge.to_be_bytes()].concat();
            assert!(Face::Cbor.decode::<RegisterFinish>(&claim).is_err());
            assert!(Face::Cbor.decode::<Capabilities>(&claim).is_err());
            for field in ["reg_token", "record", "account"] {
                assert!(
                    Face::Cbor.decode::<RegisterFinish>(&cbor_map(&[(field, &claim)])).is_err(),
                    "{major:x} {field}"
                );
            }
            let entries = cbor_map(&[("account", &cbor_map(&[("entries", &claim)]))]);
            assert!(Face::Cbor.decode::<RegisterFinish>(&entries).is_err());
            assert!(Face::Cbor.decode::<Capabilities>(&cbor_map(&[("unknown", &claim)])).is_err());
        }
    }

    #[test]
    fn deep_nesting_ends_in_an_error_and_not_in_the_stack() {
        for opening in [0x81, 0x9f, 0xd8] {
            let deep: Vec<u8> = match opening {
                0xd8 => [0xd8, 0x20].repeat(100_000),
                other => vec![other; 200_000],
            };
            assert!(Face::Cbor.decode::<LoginStart>(&deep).is_err());
            assert!(Face::Cbor.decode::<Capabilities>(&cbor_map(&[("unknown", &deep)])).is_err());
        }
        let deep = "[".repeat(200_000);
        assert!(Face::Json.decode::<LoginStart>(deep.as_bytes()).is_err());
        assert!(Face::Json.decode::<Capabilities>(format!("{{\"unknown\":{deep}").as_bytes()).is_err());
        assert!(Face::Json.decode::<LoginStart>(r#"{"device":"#.repeat(100_000).as_bytes()).is_err());
    }

    #[test]
    fn capabilities_of_a_newer_server_can_be_read() {
        let capabilities = Capabilities {
            protocol: PROTOCOL_VERSION,
            software: "selkie".into(),
            server_name: "localhost".into(),
            incarnation: Incarnation([1; 16]),
            head_key: [3; 32].into(),
            registration: RegistrationPolicy::Open,
            second_factors: vec!["totp".into()],
            limits: Limits {
                max_body_bytes: 1,
                max_auth_body_bytes: 1,
                max_log_entries: 1,
                max_devices_per_account: 1,
                max_push_bytes: 1,
                max_push_changes: 1,
            },
        };
        let mut newer = serde_json::to_value(&capabilities).unwrap();
        newer["something_new"] = serde_json::json!({"of": ["any", "kind"]});
        assert_eq!(Face::Json.decode::<Capabilities>(newer.to_string().as_bytes()).unwrap(), capabilities);
        let newer = cbor4ii::serde::to_vec(Vec::new(), &newer).unwrap();
        assert!(Face::Cbor.decode::<Capabilities>(&newer).is_err(), "an id is bytes in CBOR, not text");
        let mut newer = Face::Cbor.encode(&capabilities);
        newer[0] += 1;
        newer.extend_from_slice(b"\x6dsomething_new\x81\xa1\x61a\xf6");
        assert_eq!(Face::Cbor.decode::<Capabilities>(&newer).unwrap(), capabilities);
    }

    #[test]
    fn a_complaint_never_repeats_what_was_sent() {
        let canary = "hunter2, expected `, there are no \\\"hunter2";
        let quoted = serde_json::to_string(canary).unwrap();
        for text in [
            quoted.clone(),
            format!(r#"{{{quoted}:1}}"#),
            format!(r#"{{"login_id":{quoted}}}"#),
            format!(r#"{{"seal":{quoted}}}"#),
            format!(r#"{{"device":{quoted}}}"#),
            format!(r#"{{"device":{{"did":{{{quoted}:1}}}}}}"#),
            format!(r#"{{"app":[{quoted}]}}"#),
            format!("{{\"app\":{quoted}{quoted}"),
            canary.to_owned(),
        ] {
            let error = Face::Json.decode::<LoginFinish>(text.as_bytes()).unwrap_err();
            assert!(!error.what.contains("hunter2"), "{error}");
            let error = Face::Json.decode::<SignOut>(format!(r#"{{"which":{quoted}}}"#).as_bytes()).unwrap_err();
            assert!(!error.what.contains("hunter2"), "{error}");
        }
        let canary = [&[0x78, u8::try_from(canary.len()).unwrap()], canary.as_bytes()].concat();
        for field in ["login_id", "seal", "device", "ke3"] {
            let error = Face::Cbor.decode::<LoginFinish>(&cbor_map(&[(field, &canary)])).unwrap_err();
            assert!(!error.what.contains("hunter2"), "{error}");
        }
        let error = Face::Cbor.decode::<LoginFinish>(&[&[0xa1], canary.as_slice(), &[0]].concat()).unwrap_err();
        assert!(!error.what.contains("hunter2"), "{error}");
        let error = Face::Cbor.decode::<SignOut>(&cbor_map(&[("which", &canary)])).unwrap_err();
        assert!(!error.what.contains("hunter2"), "{error}");
    }

    #[test]
    fn a_complaint_says_where_to_look() {
        let what = |text: &str| Face::Json.decode::<LoginFinish>(text.as_bytes()).unwrap_err().what;
        assert_eq!(what("{}"), "missing field `login_id` at line 1 column 2");
        assert!(what(r#"{"who":1}"#).starts_with("unknown field, expected one of `login_id`, `ke3`"));
        assert_eq!(what(r#"{"seal":"1"}"#), "invalid type, expected u8 at line 1 column 11");
    }
}
