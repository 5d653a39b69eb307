//! A line to the server that costs next to nothing: requests are written before, answers are read and counted.
//!
//! Owns just enough of HTTP/1.1 for an honest server, and the keeping of lines. Knows nothing about what the bytes
//! mean.

use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

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

/// Lines for whoever asks now and then: a new one each time, as devices do that ask once a minute, or kept ones, as a
/// proxy has them that stands before the server.
pub(crate) struct Lines {
    address: SocketAddr,
    kept: Option<Mutex<Vec<(Line, Instant)>>>,
}

/// A line that was idle for so long is left to the server to close.
const GOOD_FOR: Duration = Duration::from_secs(10);

impl Lines {
    pub(crate) fn new_each(address: SocketAddr) -> Lines {
        Lines { address, kept: None }
    }

    pub(crate) fn kept(address: SocketAddr) -> Lines {
        Lines { address, kept: Some(Mutex::default()) }
    }

    pub(crate) async fn take(&self) -> io::Result<Line> {
        let kept = self.kept.as_ref().and_then(|kept| kept.lock().unwrap_or_else(PoisonError::into_inner).pop());
        match kept.filter(|(_, since)| since.elapsed() < GOOD_FOR) {
            Some((line, _)) => Ok(line),
            None => Line::try_to(self.address).await,
        }
    }

    pub(crate) fn give_back(&self, line: Line) {
        if let Some(kept) = &self.kept {
            kept.lock().unwrap_or_else(PoisonError::into_inner).push((line, Instant::now()));
        }
    }
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
        Line::try_to(address).await.expect("the server listens")
    }

    pub(crate) async fn try_to(address: SocketAddr) -> io::Result<Line> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Line { stream, buffer: Vec::new() })
    }

    /// Asks, and must be answered with success.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> Answer {
        let answer = self.try_ask(request).await.expect("the server answers");
        let told = || String::from_utf8_lossy(&answer.body[..answer.body.len().min(400)]).into_owned();
        assert!((200..400).contains(&answer.status), "{}: {}", answer.status, told());
        answer
    }

    /// Asks, whatever comes of it.
    pub(crate) async fn try_ask(&mut self, request: &[u8]) -> io::Result<Answer> {
        self.stream.write_all(request).await?;
        self.answer().await
    }

    /// Asks for something that does not end, and reads its head.
    pub(crate) async fn open(&mut self, request: &[u8]) {
        self.stream.write_all(request).await.expect("the server listens");
        let (head, _) = self.head().await.expect("the server answers");
        assert_eq!(status(&head), 200, "{head}");
    }

    /// The next piece of something that does not end, whatever frames it.
    pub(crate) async fn more(&mut self) -> &[u8] {
        self.buffer.clear();
        self.fill().await.expect("the server goes on");
        &self.buffer
    }

    async fn answer(&mut self) -> io::Result<Answer> {
        let (head, length) = self.head().await?;
        let status = status(&head);
        let field = |name: &str| {
            head.lines().find_map(|line| line.split_once(": ").filter(|(key, _)| key.eq_ignore_ascii_case(name)))
        };
        if let Some((_, value)) = field("content-length") {
            let body = self.take(value.trim().parse().expect("a length")).await?;
            return Ok(Answer { status, bytes: length + body.len(), body });
        }
        if field("transfer-encoding").is_none() {
            return Ok(Answer { status, body: Vec::new(), bytes: length });
        }
        let (mut body, mut bytes) = (Vec::new(), length);
        loop {
            let line = self.take_line().await?;
            let size = usize::from_str_radix(line.trim(), 16).expect("a chunk says how long it is");
            let chunk = self.take(size + 2).await?;
            bytes += line.len() + chunk.len();
            body.extend_from_slice(&chunk[..size]);
            if size == 0 {
                return Ok(Answer { status, body, bytes });
            }
        }
    }

    async fn head(&mut self) -> io::Result<(String, usize)> {
        let end = self.find(b"\r\n\r\n").await? + 4;
        let head = self.take(end).await?;
        Ok((String::from_utf8(head).expect("a head is text"), end))
    }

    async fn take_line(&mut self) -> io::Result<String> {
        let end = self.find(b"\r\n").await? + 2;
        Ok(String::from_utf8(self.take(end).await?).expect("a line is text"))
    }

    async fn find(&mut self, what: &[u8]) -> io::Result<usize> {
        loop {
            if let Some(at) = self.buffer.windows(what.len()).position(|window| window == what) {
                return Ok(at);
            }
            self.fill().await?;
        }
    }

    async fn take(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < length {
            self.fill().await?;
        }
        let rest = self.buffer.split_off(length);
        Ok(std::mem::replace(&mut self.buffer, rest))
    }

    async fn fill(&mut self) -> io::Result<()> {
        self.buffer.reserve(4 << 10);
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

fn status(head: &str) -> u16 {
    head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("an answer begins with a status")
}
