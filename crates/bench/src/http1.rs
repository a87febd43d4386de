//! Just enough HTTP/1.1 for both ends of a benchmark: whole messages with a `content-length`.
//!
//! The load generator and the sink share the machine with the server they measure, so every microsecond here is one the
//! server does not get. Chunked bodies are refused, not guessed at: neither the product nor the relay sends them.

use anyhow::{Context as _, Result, bail};

/// One complete request or response at the front of a buffer.
#[derive(Debug)]
pub(crate) struct Message<'a> {
    start_line: &'a [u8],
    headers: &'a [u8],
    /// The body, all of it.
    pub(crate) body: &'a [u8],
    /// Bytes of the buffer that this message takes up.
    pub(crate) total: usize,
    /// The sender closes the connection after this message.
    pub(crate) close: bool,
}

impl<'a> Message<'a> {
    /// Reads the first message of `buffer`; `None` while it is incomplete.
    pub(crate) fn parse(buffer: &'a [u8]) -> Result<Option<Self>> {
        let Some(start_line) = line(buffer) else { return Ok(None) };
        let headers_start = start_line.len() + 2;
        let (mut at, mut length, mut close) = (headers_start, None, false);
        loop {
            let Some(header) = line(&buffer[at..]) else { return Ok(None) };
            at += header.len() + 2;
            if header.is_empty() {
                break;
            }
            let (name, value) = split(header).context("a header line without a colon")?;
            if name.eq_ignore_ascii_case(b"content-length") {
                length = Some(number(value).context("a content-length that is not a number")?);
            } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
                bail!("a chunked message; this benchmark reads only messages with a content-length");
            } else if name.eq_ignore_ascii_case(b"connection") {
                close = value.eq_ignore_ascii_case(b"close");
            }
        }
        let total = at.saturating_add(length.unwrap_or(0));
        let Some(body) = buffer.get(at..total) else { return Ok(None) };
        Ok(Some(Self { start_line, headers: &buffer[headers_start..at], body, total, close }))
    }

    /// The status of a response.
    pub(crate) fn status(&self) -> Result<u16> {
        let digits = self.start_line.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok());
        digits.and_then(|digits| digits.parse().ok()).context("a response without a status")
    }

    /// The path of a request, with its query; empty where there is none.
    pub(crate) fn path(&self) -> &'a [u8] {
        self.start_line.split(|byte| *byte == b' ').nth(1).unwrap_or_default()
    }

    /// The value of the first header of this name (given in lower case).
    pub(crate) fn header(&self, wanted: &[u8]) -> Option<&'a [u8]> {
        let mut rest = self.headers;
        while let Some(header) = line(rest) {
            if let Some((name, value)) = split(header)
                && name.eq_ignore_ascii_case(wanted)
            {
                return Some(value);
            }
            rest = &rest[header.len() + 2..];
        }
        None
    }
}

/// The first line of `bytes` without its CRLF; `None` when there is no line end yet.
fn line(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    bytes[..end].strip_suffix(b"\r")
}

fn split(header: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = header.iter().position(|byte| *byte == b':')?;
    Some((&header[..colon], header[colon + 1..].trim_ascii()))
}

fn number(digits: &[u8]) -> Option<usize> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_only_when_it_is_whole() {
        let text = b"HTTP/1.1 202 Accepted\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbodyHTTP/1.1 ";
        let whole = text.len() - b"HTTP/1.1 ".len();
        for cut in 0..whole {
            assert!(Message::parse(&text[..cut]).unwrap().is_none(), "complete after {cut} bytes");
        }
        let message = Message::parse(text).unwrap().unwrap();
        assert_eq!((message.status().unwrap(), message.body, message.total), (202, b"body".as_slice(), whole));
        assert!(message.close);
        assert_eq!(message.header(b"content-length"), Some(b"4".as_slice()));
        assert_eq!(message.header(b"webhook-id"), None);
    }

    #[test]
    fn a_request_has_a_path() {
        let path = |text: &'static [u8]| Message::parse(text).unwrap().unwrap().path();
        assert_eq!(path(b"POST /hang HTTP/1.1\r\n\r\n"), b"/hang");
        assert_eq!(path(b"nonsense\r\n\r\n"), b"");
    }

    #[test]
    fn a_message_it_cannot_measure_is_refused() {
        assert!(Message::parse(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
        assert!(Message::parse(b"POST / HTTP/1.1\r\ncontent-length: many\r\n\r\n").is_err());
    }
}
