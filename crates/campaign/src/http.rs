//! As much of HTTP/1.1 as the campaign speaks, over blocking sockets.

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

/// How long one read or write may take. A node that is stopped answers nothing until it goes on.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection to a node that is used again and again.
pub(crate) struct Connection(BufReader<TcpStream>);

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Makes a call and gives the status and the body. After an error the connection is of no more use.
    pub(crate) fn call(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<(u16, Vec<u8>)> {
        let mut text = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n", body.len());
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        text += "\r\n";
        text += body;
        self.0.get_mut().write_all(text.as_bytes())?;
        let message = read(&mut self.0)?.context("the connection ended before the answer")?;
        let status = message.first.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no status")?;
        Ok((status, message.body))
    }
}

/// One call over a connection of its own.
pub(crate) fn call(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Result<(u16, Vec<u8>)> {
    Connection::open(address)?.call(method, path, headers, body)
}

/// A request or an answer.
pub(crate) struct Message {
    pub(crate) first: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Message {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Reads a message whose length is given. `None` when the other side has ended the connection before one.
pub(crate) fn read(from: &mut impl BufRead) -> Result<Option<Message>> {
    let Some(first) = line(from)? else { return Ok(None) };
    let mut headers = Vec::new();
    loop {
        let line = line(from)?.context("the connection ended within a head")?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').context("a header without a colon")?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut message = Message { first, headers, body: Vec::new() };
    ensure!(message.header("transfer-encoding").is_none(), "the campaign reads no chunks");
    let length = message.header("content-length").map_or(Ok(0), str::parse)?;
    message.body = vec![0; length];
    from.read_exact(&mut message.body)?;
    Ok(Some(message))
}

fn line(from: &mut impl BufRead) -> Result<Option<String>> {
    let mut line = String::new();
    // Heads of nodes and receivers are small; the bound only keeps a mistake from taking all memory.
    if from.by_ref().take(64 * 1024).read_line(&mut line)? == 0 {
        return Ok(None);
    }
    Ok(Some(line.trim_end_matches(['\r', '\n']).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_follow_each_other() {
        let mut bytes =
            b"POST / HTTP/1.1\r\nWebhook-Id: x\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 204 No\r\n\r\n".as_slice();
        let first = read(&mut bytes).unwrap().unwrap();
        assert_eq!((first.header("webhook-id"), first.body.as_slice()), (Some("x"), b"ok".as_slice()));
        assert_eq!(read(&mut bytes).unwrap().unwrap().first, "HTTP/1.1 204 No");
        assert!(read(&mut bytes).unwrap().is_none());
        assert!(read(&mut b"POST / HTTP/1.1\r\ncontent-length: 9\r\n\r\nok".as_slice()).is_err());
    }
}
