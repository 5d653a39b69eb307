//! HTTP by reqwest and rustls.
//!
//! Owns the socket, its timeouts and what is refused before a byte leaves: plain HTTP to anywhere but this machine.
//! Knows nothing of messages: bytes in, bytes out.

use super::address::{HttpError, server_address};
use super::{Method, Request, Response, Streamed, Transport, TransportError};
use async_trait::async_trait;
use selkie_protocol::Face;
use std::time::Duration;
use url::{Host, Url};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const TOTAL_TIMEOUT: Duration = Duration::from_secs(30);
const EVENTS: &str = "text/event-stream";
/// A refusal is a message like any other, and wants a face.
const EVENTS_OR_REFUSAL: &str = "text/event-stream, application/cbor";
/// For streams, which whoever listens gives up when they go silent.
const STREAM_TIMEOUT: Duration = Duration::from_secs(24 * 3600);
/// The largest honest answer is a page of a vault's log: what is asked for at a time, and one frame more, which comes
/// however long it is.
const LARGEST_ANSWER: usize = 16 * 1024 * 1024;

/// The server at one address.
#[derive(Clone)]
pub struct Http {
    base: Url,
    client: reqwest::Client,
}

/// How to reach it.
#[derive(Clone, Default)]
pub struct HttpBuilder {
    allow_plain_http: bool,
    only_certificates: Vec<reqwest::Certificate>,
}

impl HttpBuilder {
    /// Lets plain HTTP out of this machine. Only for a network that is itself private, such as inside a test.
    #[must_use]
    pub fn allow_plain_http(mut self) -> Self {
        self.allow_plain_http = true;
        self
    }

    /// Trusts these certificates (PEM) and no others: for a server with a certificate of its own making.
    pub fn only_certificates(mut self, pem: &[u8]) -> Result<Self, HttpError> {
        self.only_certificates = reqwest::Certificate::from_pem_bundle(pem).map_err(HttpError::Certificate)?;
        if self.only_certificates.is_empty() {
            return Err(HttpError::NoCertificate);
        }
        Ok(self)
    }

    /// The transport to one server. A client does this by itself: see
    /// [`ClientBuilder::http`](crate::ClientBuilder::http).
    pub fn build(self, server_url: &str) -> Result<Http, HttpError> {
        let base = server_address(server_url)?;
        let on_this_machine = is_loopback(&base);
        if base.scheme() == "http" && !on_this_machine && !self.allow_plain_http {
            return Err(HttpError::PlainHttp);
        }
        let mut client = reqwest::Client::builder()
            .user_agent(concat!("selkie-client/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TOTAL_TIMEOUT)
            .tls_version_min(reqwest::tls::Version::TLS_1_2);
        if on_this_machine {
            client = client.no_proxy();
        }
        if !self.only_certificates.is_empty() {
            client = client.tls_certs_only(self.only_certificates);
        }
        Ok(Http { base, client: client.build().map_err(HttpError::Setup)? })
    }
}

impl Http {
    /// Settings for [`ClientBuilder::http`](crate::ClientBuilder::http), each with a default that suits most servers.
    pub fn builder() -> HttpBuilder {
        HttpBuilder::default()
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}

#[async_trait]
impl Transport for Http {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        let incoming = self.outgoing(request, Face::CBOR).send().await.map_err(unreachable)?;
        whole(incoming).await
    }

    async fn stream(&self, request: Request) -> Result<Option<Streamed>, TransportError> {
        let outgoing = self.outgoing(request, EVENTS_OR_REFUSAL).timeout(STREAM_TIMEOUT);
        let begun = tokio::time::timeout(TOTAL_TIMEOUT, outgoing.send()).await;
        let incoming = begun.map_err(|_| TransportError::TimedOut)?.map_err(unreachable)?;
        let is_events = header(&incoming, reqwest::header::CONTENT_TYPE).is_some_and(|kind| kind.starts_with(EVENTS));
        if incoming.status() != reqwest::StatusCode::OK || !is_events {
            return whole(incoming).await.map(Streamed::Answer).map(Some);
        }
        let chunks = futures_util::stream::try_unfold(incoming, |mut incoming| async move {
            let chunk = incoming.chunk().await.map_err(unreachable)?;
            Ok(chunk.map(|chunk| (chunk.to_vec(), incoming)))
        });
        Ok(Some(Streamed::Stream(Box::pin(chunks))))
    }
}

impl Http {
    fn outgoing(&self, request: Request, accept: &'static str) -> reqwest::RequestBuilder {
        // A path of ours is plain ASCII; a server that lives under a path keeps its prefix.
        let address = format!("{}{}", self.base.as_str().trim_end_matches('/'), request.path);
        let mut outgoing = match request.method {
            Method::Get => self.client.get(address),
            Method::Post => self.client.post(address),
        };
        outgoing = outgoing.header(reqwest::header::ACCEPT, accept);
        if let Some(token) = &request.bearer {
            outgoing = outgoing.bearer_auth(token.as_str());
        }
        if let Some(body) = request.body {
            outgoing = outgoing.header(reqwest::header::CONTENT_TYPE, Face::CBOR).body(body);
        }
        outgoing
    }
}

fn header(incoming: &reqwest::Response, name: reqwest::header::HeaderName) -> Option<String> {
    incoming.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

async fn whole(mut incoming: reqwest::Response) -> Result<Response, TransportError> {
    let content_type = header(&incoming, reqwest::header::CONTENT_TYPE);
    let retry_after = header(&incoming, reqwest::header::RETRY_AFTER).and_then(|text| text.trim().parse().ok());
    let retry_after = retry_after.map(Duration::from_secs);
    let status = incoming.status().as_u16();
    let mut body = Vec::new();
    while let Some(chunk) = incoming.chunk().await.map_err(unreachable)? {
        if body.len() + chunk.len() > LARGEST_ANSWER {
            return Err(TransportError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Response { status, content_type, retry_after, body })
}

fn unreachable(error: reqwest::Error) -> TransportError {
    if error.is_timeout() {
        TransportError::TimedOut
    } else {
        // The address may hold a name; the error keeps its cause without it.
        TransportError::Unreachable(Box::new(error.without_url()))
    }
}

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http").field("server", &self.base.host_str()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_stays_on_this_machine() {
        for near in ["http://127.0.0.1:8040", "http://[::1]:1", "http://localhost", "https://example.org/selkie/"] {
            assert!(Http::builder().build(near).is_ok(), "{near}");
        }
        for far in ["http://example.org", "http://10.0.0.1", "http://localhost.example.org", "http://127.0.0.1.nip.io"]
        {
            assert!(matches!(Http::builder().build(far), Err(HttpError::PlainHttp)), "{far}");
        }
        assert!(Http::builder().allow_plain_http().build("http://10.0.0.1").is_ok());
    }

    #[test]
    fn what_is_not_a_server_is_refused() {
        for text in ["", "example.org", "file:///etc/passwd", "ftp://x", "https://u:p@x", "https://x?q", "https://x#f"]
        {
            assert!(matches!(Http::builder().build(text), Err(HttpError::NotAnAddress)), "{text}");
        }
    }

    #[tokio::test]
    async fn nobody_listening_is_unreachable_and_no_redirect_is_followed() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let http = Http::builder().build(&format!("http://{address}")).unwrap();
        let request = || Request { method: Method::Get, path: "/v1/x".into(), bearer: None, body: None };
        let server = tokio::spawn(async move {
            use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 1024];
            let _ = socket.read(&mut buffer).await.unwrap();
            let answer =
                "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n";
            socket.write_all(answer.as_bytes()).await.unwrap();
        });
        let response = http.send(request()).await.unwrap();
        assert_eq!((response.status, response.retry_after), (302, Some(Duration::from_secs(7))));
        server.await.unwrap();
        assert!(matches!(http.send(request()).await, Err(TransportError::Unreachable(_))));
    }
}
