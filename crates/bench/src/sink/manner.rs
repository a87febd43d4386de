//! How a receiver behaves. The path of the URL that is called decides, so that one sink plays them all.

use anyhow::Result;
use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Duration, sleep};

use crate::http1::Message;

const FAILURE: &[u8] =
    b"HTTP/1.1 500 Internal Server Error\r\ncontent-type: text/plain\r\ncontent-length: 6\r\n\r\nbroken";
pub(super) const DRIP_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 3600\r\n\r\n";
const DRIP: Duration = Duration::from_secs(1);

/// A receiver's manner. The refusing receiver has none: nobody listens there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Answers 200 at once, and is counted.
    Healthy,
    /// Answers 200 at once, and is not counted.
    Aside,
    /// Takes the request and never answers.
    Hang,
    /// Answers 200, and sends its body at one byte a second.
    Drip,
    /// Answers 500 at once.
    Fail,
    /// Takes the request and resets the connection.
    Reset,
    /// Hangs while its gate is closed, and answers while it is open.
    Gate,
}

impl Manner {
    /// What a request asks for. Every path that names no other manner is healthy.
    pub(super) fn of(request: &Message<'_>) -> Self {
        match request.path() {
            b"/aside" => Self::Aside,
            b"/hang" => Self::Hang,
            b"/drip" => Self::Drip,
            b"/fail" => Self::Fail,
            b"/reset" => Self::Reset,
            b"/gate" => Self::Gate,
            _ => Self::Healthy,
        }
    }

    /// The path of this manner.
    pub(crate) const fn path(self) -> &'static str {
        match self {
            Self::Healthy => "/",
            Self::Aside => "/aside",
            Self::Hang => "/hang",
            Self::Drip => "/drip",
            Self::Fail => "/fail",
            Self::Reset => "/reset",
            Self::Gate => "/gate",
        }
    }
}

/// Answers 500. The connection stays open.
pub(super) async fn fail(stream: &mut TcpStream) -> Result<()> {
    Ok(stream.write_all(FAILURE).await?)
}

/// Holds the connection without a word until the sender closes it.
pub(super) async fn hang(stream: &mut TcpStream) {
    let mut unread = BytesMut::with_capacity(64);
    while matches!(stream.read_buf(&mut unread).await, Ok(1..)) {
        unread.clear();
    }
}

/// Sends a byte of the body each second until the sender closes the connection.
pub(super) async fn drip(stream: &mut TcpStream) -> Result<()> {
    stream.write_all(DRIP_HEAD).await?;
    let (mut reader, mut writer) = stream.split();
    let mut unread = [0; 64];
    let gone = async { while matches!(reader.read(&mut unread).await, Ok(1..)) {} };
    let send = async {
        while writer.write_all(b".").await.is_ok() {
            sleep(DRIP).await;
        }
    };
    tokio::select! {
        () = gone => {}
        () = send => {}
    }
    Ok(())
}

/// Resets the connection instead of closing it in order.
pub(super) fn reset(stream: &TcpStream) -> Result<()> {
    Ok(stream.set_zero_linger()?)
}
