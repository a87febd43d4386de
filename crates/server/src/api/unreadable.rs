//! Gives hyper's own refusals the form of every other error.
//!
//! A request whose head cannot be read reaches no handler: hyper answers it with a bare status, and closes the
//! connection. [`Spoken`] stands between hyper and the socket. It knows such an answer by its looks (an error without a
//! body and without a content type, which no answer of ours lacks), writes one of our form in its place, and reads on
//! for a moment before the socket closes: a socket that closes over unread bytes resets the connection, and the caller
//! may lose the answer.

use super::answer::{ApiError, Version};
use crate::clock::Clock;
use http::StatusCode;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The most bytes that are read after a refusal.
const MOST: usize = 1024 * 1024;
/// How long they may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// A socket on which every refusal has our form.
pub(super) struct Spoken<S> {
    socket: S,
    clock: Clock,
    refusal: Option<Refusal>,
    closing: Option<Closing>,
}

/// Our answer in the place of hyper's.
struct Refusal {
    bytes: Vec<u8>,
    written: usize,
}

/// What is still read, and how long.
struct Closing {
    read: usize,
    end: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl<S> Spoken<S> {
    pub(super) fn new(socket: S, clock: Clock) -> Self {
        Self { socket, clock, refusal: None, closing: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Spoken<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, into)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Spoken<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.refusal.is_none() {
            match bare_refusal(bytes) {
                None => return Pin::new(&mut this.socket).poll_write(cx, bytes),
                // Answers to requests before it go first, as they are.
                Some((begin @ 1.., _)) => return Pin::new(&mut this.socket).poll_write(cx, &bytes[..begin]),
                Some((_, status)) => this.refusal = Some(Refusal { bytes: in_our_form(status), written: 0 }),
            }
        }
        let Some(refusal) = &mut this.refusal else { return Poll::Ready(Ok(bytes.len())) };
        while refusal.written < refusal.bytes.len() {
            let rest = &refusal.bytes[refusal.written..];
            match ready!(Pin::new(&mut this.socket).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => refusal.written += written,
            }
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.refusal.is_none() {
            return Pin::new(&mut this.socket).poll_shutdown(cx);
        }
        if this.closing.is_none() {
            ready!(Pin::new(&mut this.socket).poll_shutdown(cx))?;
            let clock = this.clock.clone();
            let end = Box::pin(async move { clock.sleep(PATIENCE).await });
            this.closing = Some(Closing { read: 0, end });
        }
        let Some(closing) = &mut this.closing else { return Poll::Ready(Ok(())) };
        let mut room = [0; 4096];
        while closing.read < MOST && closing.end.as_mut().poll(cx).is_pending() {
            let mut into = ReadBuf::new(&mut room);
            match ready!(Pin::new(&mut this.socket).poll_read(cx, &mut into)) {
                Ok(()) if !into.filled().is_empty() => closing.read += into.filled().len(),
                _ => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Where in `bytes` hyper's own refusal begins, and its status. It is the last that is written on a connection.
fn bare_refusal(bytes: &[u8]) -> Option<(usize, StatusCode)> {
    if !bytes.ends_with(b"\r\n\r\n") {
        return None;
    }
    let begin = bytes.windows(7).rposition(|window| window == b"HTTP/1.")?;
    let head = std::str::from_utf8(&bytes[begin..]).ok()?;
    let mut lines = head.trim_end().split("\r\n");
    let status: StatusCode = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let names: Vec<&str> = lines.filter_map(|line| line.split(':').next()).collect();
    let bare = head.contains("\r\ncontent-length: 0\r\n") && !names.contains(&"content-type");
    (status.is_client_error() && bare).then_some((begin, status))
}

fn in_our_form(status: StatusCode) -> Vec<u8> {
    let (parts, body) = ApiError::unreadable(status).parts(Version::V2);
    let mut bytes = format!("HTTP/1.1 {status}\r\nconnection: close\r\n").into_bytes();
    for (name, value) in &parts {
        bytes.extend_from_slice(format!("{name}: ").as_bytes());
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
    bytes.extend_from_slice(&body);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bare_refusal_is_taken_for_one() {
        const BARE: &str =
            "HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        const OURS: &str = "HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
        let too_large = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        for (bytes, expected) in [
            (BARE.to_owned(), Some((0, too_large))),
            (OURS.to_owned() + BARE, Some((OURS.len(), too_large))),
            (OURS.to_owned(), None),
            // The answer to HEAD.
            (OURS.trim_end_matches("{}").to_owned(), None),
            ("HTTP/1.1 100 Continue\r\n\r\n".to_owned(), None),
            ("HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n".to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(bare_refusal(bytes.as_bytes()), expected, "{bytes}");
        }
    }
}
