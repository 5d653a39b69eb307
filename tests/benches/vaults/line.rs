//! A line to the server that costs next to nothing: requests are written before, answers are read and counted.
//!
//! Owns just enough of HTTP/1.1 for an honest server. Knows nothing about what the bytes mean.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// One connection that is kept open.
pub(crate) struct Line {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// An answer, and how many bytes it took on the wire.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    pub(crate) bytes: usize,
}

/// A whole request, as the SDK sends it.
pub(crate) fn request(method: &str, path: &str, token: &str, body: &[u8]) -> Vec<u8> {
    let mut out = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\naccept: application/cbor\r\n");
    if !token.is_empty() {
        out += &format!("authorization: Bearer {token}\r\n");
    }
    if method == "POST" {
        out += &format!("content-type: application/cbor\r\ncontent-length: {}\r\n", body.len());
    }
    out += "\r\n";
    [out.as_bytes(), body].concat()
}

impl Line {
    pub(crate) async fn to(address: SocketAddr) -> Line {
        let stream = TcpStream::connect(address).await.expect("the server listens");
        stream.set_nodelay(true).expect("a socket obeys");
        Line { stream, buffer: Vec::with_capacity(16 << 10) }
    }

    /// Asks, and must be answered with success.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> Answer {
        self.stream.write_all(request).await.expect("the server listens");
        let answer = self.answer().await;
        let told = || String::from_utf8_lossy(&answer.body[..answer.body.len().min(400)]).into_owned();
        assert!((200..400).contains(&answer.status), "{}: {}", answer.status, told());
        answer
    }

    /// Asks for something that does not end, and reads its head.
    pub(crate) async fn open(&mut self, request: &[u8]) {
        self.stream.write_all(request).await.expect("the server listens");
        let (head, _) = self.head().await;
        assert_eq!(status(&head), 200, "{head}");
    }

    /// The next piece of something that does not end, whatever frames it.
    pub(crate) async fn more(&mut self) -> &[u8] {
        self.buffer.clear();
        self.fill().await;
        &self.buffer
    }

    async fn answer(&mut self) -> Answer {
        let (head, length) = self.head().await;
        let status = status(&head);
        let field = |name: &str| {
            head.lines().find_map(|line| line.split_once(": ").filter(|(key, _)| key.eq_ignore_ascii_case(name)))
        };
        if let Some((_, value)) = field("content-length") {
            let body = self.take(value.trim().parse().expect("a length")).await;
            return Answer { status, bytes: length + body.len(), body };
        }
        if field("transfer-encoding").is_none() {
            return Answer { status, body: Vec::new(), bytes: length };
        }
        let (mut body, mut bytes) = (Vec::new(), length);
        loop {
            let line = self.take_line().await;
            let size = usize::from_str_radix(line.trim(), 16).expect("a chunk says how long it is");
            let chunk = self.take(size + 2).await;
            bytes += line.len() + chunk.len();
            body.extend_from_slice(&chunk[..size]);
            if size == 0 {
                return Answer { status, body, bytes };
            }
        }
    }

    async fn head(&mut self) -> (String, usize) {
        let end = self.find(b"\r\n\r\n").await + 4;
        let head = self.take(end).await;
        (String::from_utf8(head).expect("a head is text"), end)
    }

    async fn take_line(&mut self) -> String {
        let end = self.find(b"\r\n").await + 2;
        String::from_utf8(self.take(end).await).expect("a line is text")
    }

    async fn find(&mut self, what: &[u8]) -> usize {
        loop {
            if let Some(at) = self.buffer.windows(what.len()).position(|window| window == what) {
                return at;
            }
            self.fill().await;
        }
    }

    async fn take(&mut self, length: usize) -> Vec<u8> {
        while self.buffer.len() < length {
            self.fill().await;
        }
        let rest = self.buffer.split_off(length);
        std::mem::replace(&mut self.buffer, rest)
    }

    async fn fill(&mut self) {
        let read = self.stream.read_buf(&mut self.buffer).await.expect("the server answers");
        assert_ne!(read, 0, "the server has hung up");
    }
}

fn status(head: &str) -> u16 {
    head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("an answer begins with a status")
}
