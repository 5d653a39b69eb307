//! What crosses the wire, as a man in the middle holds it: bytes that can be read and rewritten as the types they are.
//!
//! Knows nothing about sockets.

use selkie_protocol::{ErrorBody, ErrorCode, Face};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub type Headers = Vec<(String, Vec<u8>)>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    /// With its query.
    pub path: String,
    pub headers: Headers,
    pub body: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    pub headers: Headers,
    pub body: Vec<u8>,
}

impl Request {
    /// Whether this is a call of `route`, as in `POST /v1/auth/login/start`. A `*` stands for one part of the path.
    pub fn is(&self, route: &str) -> bool {
        let (method, wanted) = route.split_once(' ').expect("a route is a method and a path");
        let path = self.path.split('?').next().unwrap_or_default();
        method == self.method
            && wanted.split('/').count() == path.split('/').count()
            && wanted.split('/').zip(path.split('/')).all(|(wanted, part)| wanted == "*" || wanted == part)
    }

    pub fn read<T: DeserializeOwned>(&self) -> T {
        read(&self.headers, &self.body)
    }

    pub fn rewrite<T: DeserializeOwned + Serialize>(&mut self, change: impl FnOnce(&mut T)) {
        rewrite(&self.headers, &mut self.body, change);
    }

    /// The face in which the client wants its answer.
    pub fn wants(&self) -> Face {
        header(&self.headers, "accept").and_then(|value| Face::from_content_type(&value)).unwrap_or(Face::Cbor)
    }

    /// Everything a listener on the line would see of it.
    pub fn raw(&self) -> Vec<u8> {
        raw(format!("{} {}\r\n", self.method, self.path), &self.headers, &self.body)
    }
}

impl Reply {
    /// An answer that the server never gave.
    pub fn forged<T: Serialize>(face: Face, status: u16, message: &T) -> Self {
        let headers = vec![("content-type".to_owned(), face.content_type().as_bytes().to_vec())];
        Reply { status, headers, body: face.encode(message) }
    }

    /// A refusal that the server never gave.
    pub fn refusal(face: Face, status: u16, code: ErrorCode) -> Self {
        let headers = vec![("content-type".to_owned(), face.problem_type().as_bytes().to_vec())];
        Reply { status, headers, body: face.encode(&ErrorBody::new(code, status, "forged")) }
    }

    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    pub fn read<T: DeserializeOwned>(&self) -> T {
        read(&self.headers, &self.body)
    }

    pub fn rewrite<T: DeserializeOwned + Serialize>(&mut self, change: impl FnOnce(&mut T)) {
        rewrite(&self.headers, &mut self.body, change);
    }

    pub fn raw(&self) -> Vec<u8> {
        raw(format!("{}\r\n", self.status), &self.headers, &self.body)
    }
}

/// The text of a header, if it is there and is text.
pub fn header(headers: &Headers, name: &str) -> Option<String> {
    let (_, value) = headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?;
    String::from_utf8(value.clone()).ok()
}

fn face_of(headers: &Headers) -> Face {
    let kind = header(headers, "content-type").unwrap_or_default();
    Face::from_content_type(&kind).unwrap_or_else(|| panic!("{kind:?} is not a face of our messages"))
}

fn read<T: DeserializeOwned>(headers: &Headers, body: &[u8]) -> T {
    face_of(headers).decode(body).unwrap_or_else(|error| panic!("not a {}: {error}", std::any::type_name::<T>()))
}

fn rewrite<T: DeserializeOwned + Serialize>(headers: &Headers, body: &mut Vec<u8>, change: impl FnOnce(&mut T)) {
    let mut message = read(headers, body);
    change(&mut message);
    *body = face_of(headers).encode(&message);
}

fn raw(first_line: String, headers: &Headers, body: &[u8]) -> Vec<u8> {
    let mut bytes = first_line.into_bytes();
    for (name, value) in headers {
        bytes.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
    }
    bytes.extend(b"\r\n");
    bytes.extend(body);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use selkie_protocol::session::SignOut;
    use selkie_protocol::session::SignOutScope::{All, This};

    fn request(method: &str, path: &str) -> Request {
        Request { method: method.into(), path: path.into(), headers: Vec::new(), body: Vec::new() }
    }

    #[test]
    fn a_route_is_met_part_by_part() {
        assert!(request("GET", "/v1/account/log?from=3").is("GET /v1/account/log"));
        assert!(request("POST", "/v1/links/abc/answer").is("POST /v1/links/*/answer"));
        assert!(!request("GET", "/v1/links/abc/answer").is("POST /v1/links/*/answer"));
        assert!(!request("POST", "/v1/links/abc").is("POST /v1/links/*/answer"));
        assert!(!request("POST", "/v1/links/abc/answer/x").is("POST /v1/links/*/answer"));
    }

    #[test]
    fn a_message_is_rewritten_in_the_face_it_came_in() {
        for face in [Face::Cbor, Face::Json] {
            let mut reply = Reply::forged(face, 200, &SignOut { which: This });
            reply.rewrite(|message: &mut SignOut| message.which = All);
            assert_eq!(reply.body, face.encode(&SignOut { which: All }));
        }
    }
}
