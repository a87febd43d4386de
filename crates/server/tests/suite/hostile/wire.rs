//! Requests as bytes, and answers read back from the wire by hand: no HTTP library stands between.

use crate::harness::patience;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A request that is being put together. It asks for the connection to be closed, so that its answer has an end.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    line: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    length: bool,
}

impl Ask {
    pub(super) fn new(method: &str, target: &str) -> Self {
        let headers =
            vec![("host".to_owned(), b"suite.example".to_vec()), ("connection".to_owned(), b"close".to_vec())];
        Self { line: format!("{method} {target} HTTP/1.1"), headers, body: Vec::new(), length: true }
    }

    /// Adds a header field, also one that is there.
    pub(super) fn with(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Takes a header field away.
    pub(super) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self
    }

    pub(super) fn json(self, body: impl Into<Vec<u8>>) -> Self {
        self.with("content-type", "application/json").body(body)
    }

    pub(super) fn body(self, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..self }
    }

    /// Says nothing of the body's length by itself.
    pub(super) fn unmeasured(self) -> Self {
        Self { length: false, ..self }
    }

    /// The body in these chunks.
    pub(super) fn chunked(self, chunks: impl AsRef<[u8]>) -> Self {
        self.with("transfer-encoding", "chunked").body(chunks.as_ref()).unmeasured()
    }

    pub(super) fn target(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or_default()
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{}\r\n", self.line).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        }
        if self.length && (!self.body.is_empty() || !self.line.starts_with("GET ")) {
            bytes.extend_from_slice(format!("content-length: {}\r\n", self.body.len()).as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// What the caller does when it has written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// Waits for the answer.
    Wait,
    /// Says that nothing more will come, and waits for the answer.
    HalfClose,
    /// Is gone.
    Leave,
}

/// An answer as it came.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Writes these bytes on a connection of their own; gives every answer that came until the service closed it.
pub(super) async fn exchange(address: SocketAddr, bytes: &[u8], then: Then) -> Vec<Answer> {
    let stream = TcpStream::connect(address).await.expect("the service listens");
    let (mut reading, mut writing) = stream.into_split();
    let write = async {
        // The service may close while we still write.
        _ = writing.write_all(bytes).await;
        if then == Then::HalfClose {
            _ = writing.shutdown().await;
        }
        writing
    };
    if then == Then::Leave {
        patience::within("bytes to be taken", write).await;
        return Vec::new();
    }
    let mut text = Vec::new();
    let read = async {
        // After a reset what came before it still counts.
        _ = reading.read_to_end(&mut text).await;
    };
    let both = async { tokio::join!(write, read) };
    patience::within(&format!("the end of the answers to {:?}", shown(bytes)), both).await;
    answers(&text)
}

/// The beginning of a request, for messages.
pub(super) fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(400)]).into_owned()
}

/// The answers in what was read. Panics on what no client could read.
pub(super) fn answers(mut text: &[u8]) -> Vec<Answer> {
    let mut answers = Vec::new();
    while !text.is_empty() {
        let end = text.windows(4).position(|window| window == b"\r\n\r\n").expect("a whole head") + 4;
        let head = std::str::from_utf8(&text[..end - 4]).expect("heads are ASCII");
        let mut lines = head.split("\r\n");
        let line = lines.next().unwrap_or_default();
        let status: u16 = line.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status");
        let headers: Vec<(String, String)> = lines
            .map(|line| line.split_once(": ").expect("a field is a name and a value"))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let mut answer = Answer { status, headers, body: String::new() };
        let length = answer.header("content-length").map_or(0, |length| length.parse().expect("a length"));
        assert!(text.len() >= end + length, "an answer was cut off: {head}");
        answer.body = String::from_utf8(text[end..end + length].to_vec()).expect("bodies are UTF-8");
        text = &text[end + length..];
        if status != 100 {
            answers.push(answer);
        }
    }
    answers
}
