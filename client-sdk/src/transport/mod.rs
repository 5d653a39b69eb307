//! How bytes get to the server and back.
//!
//! Owns the shape of one exchange and nothing of its meaning: no keys, no accounts, no retries. `Http` is the real one;
//! an app may bring its own, and the tests do.

mod address;
#[cfg(feature = "http")]
mod http;

pub use address::HttpError;
pub(crate) use address::server_address;
#[cfg(feature = "http")]
pub use http::{Http, HttpBuilder};

use async_trait::async_trait;
use futures_util::Stream;
use selkie_protocol::Private;
use std::fmt::Debug;
use std::pin::Pin;
use std::time::Duration;

/// The two verbs of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Asks, and changes nothing.
    Get,
    /// Asks for something to be done.
    Post,
}

/// One request. The body is CBOR, and so must the answer be.
#[derive(Clone)]
pub struct Request {
    /// Whether anything is to be changed.
    pub method: Method,
    /// Begins with `/v1/`; may carry a query.
    pub path: String,
    /// For the `Authorization: Bearer` header.
    pub bearer: Option<Private>,
    /// What is sent along, encoded.
    pub body: Option<Vec<u8>>,
}

/// What came back, whatever it says.
#[derive(Clone)]
pub struct Response {
    /// The status code of HTTP.
    pub status: u16,
    /// What the body is, as the server says.
    pub content_type: Option<String>,
    /// How long to leave the server alone, if it said so.
    pub retry_after: Option<Duration>,
    /// The answer, encoded.
    pub body: Vec<u8>,
}

/// Nothing came back that could be read.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The server cannot be reached.
    #[error("the server cannot be reached")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The server did not answer in time.
    #[error("the server did not answer in time")]
    TimedOut,
    /// The answer is larger than any honest one.
    #[error("the answer is larger than any honest one")]
    TooLarge,
}

/// Carries one request and brings the response. It follows no redirects and adds nothing of its own.
#[async_trait]
pub trait Transport: Send + Sync + Debug {
    /// Sends a request and waits for the whole answer.
    async fn send(&self, request: Request) -> Result<Response, TransportError>;

    /// Sends a request whose answer goes on for as long as both sides like: `GET /v1/events`. A transport that has
    /// nothing of that kind says so with `None`, as this does, and the client asks now and then instead.
    async fn stream(&self, _request: Request) -> Result<Option<Streamed>, TransportError> {
        Ok(None)
    }
}

/// The body of an answer that goes on, as it comes.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Vec<u8>, TransportError>> + Send>>;

/// What came back of a request for a stream.
pub enum Streamed {
    /// Status 200 and the stream.
    Stream(ByteStream),
    /// Anything else.
    Answer(Response),
}

/// Bodies and addresses hold names, records and tokens: whoever prints a request sees none of them.
impl Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let length = self.body.as_ref().map_or(0, Vec::len);
        f.debug_struct("Request").field("method", &self.method).field("length", &length).finish_non_exhaustive()
    }
}

impl Debug for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("length", &self.body.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_of_an_exchange_holds_nothing_of_it() {
        let secret = "ana@example.org";
        let body = Some(secret.as_bytes().to_vec());
        let request = Request { method: Method::Post, path: format!("/v1/{secret}"), bearer: None, body };
        assert_eq!(format!("{request:?}"), "Request { method: Post, length: 15, .. }");
        let body = secret.as_bytes().to_vec();
        let response = Response { status: 200, content_type: Some(secret.into()), retry_after: None, body };
        assert_eq!(format!("{response:?}"), "Response { status: 200, length: 15, .. }");
    }
}
