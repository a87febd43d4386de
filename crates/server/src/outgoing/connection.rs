//! One connection to a receiver, driven by whoever uses it.
//!
//! hyper's protocol is a future of its own, which usually runs in a task of its own. Here the post that uses the
//! connection polls it instead, so that a request costs no hand-over between two tasks. While nobody uses it the
//! connection rests: that its receiver closed it is noticed when it is taken up again.

use super::stream::Stream;
use crate::clock::{Clock, Stopwatch};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, SendRequest};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

/// Where reading the head of an answer stops, give or take one read, and so what a connection buffers. The number of
/// headers is limited to 100 by hyper.
pub(super) const LONGEST_HEAD: usize = 32 * 1024;

/// A connection.
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    protocol: http1::Connection<Stream, Full<Bytes>>,
    /// The protocol has come to its end; it must not be polled again.
    over: bool,
    opened: Stopwatch,
    used: Stopwatch,
}

impl Connection {
    /// Speaks HTTP/1.1 over `stream`.
    pub(super) async fn start(stream: Stream, clock: &Clock) -> Result<Self, hyper::Error> {
        let (sender, protocol) = http1::Builder::new().max_buf_size(LONGEST_HEAD).handshake(stream).await?;
        Ok(Self { sender, protocol, over: false, opened: clock.stopwatch(), used: clock.stopwatch() })
    }

    /// Sends a request. If no byte of it was written, the error gives it back.
    pub(super) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Full<Bytes>>>> {
        let response = self.sender.try_send_request(request);
        drive(&mut self.protocol, &mut self.over, response).await
    }

    /// Lets the connection work until `work` is done.
    pub(super) async fn while_open<F: Future>(&mut self, work: F) -> F::Output {
        drive(&mut self.protocol, &mut self.over, work).await
    }

    /// Whether the connection can take a request now.
    pub(super) async fn is_ready(&mut self) -> bool {
        poll_fn(|context| {
            poll_protocol(&mut self.protocol, &mut self.over, context);
            Poll::Ready(!self.over && self.sender.is_ready())
        })
        .await
    }

    /// Begins to rest.
    pub(super) fn rest(&mut self, clock: &Clock) {
        self.used = clock.stopwatch();
    }

    /// How long it has rested.
    pub(super) fn rested(&self) -> Duration {
        self.used.elapsed()
    }

    /// How long ago it was opened.
    pub(super) fn age(&self) -> Duration {
        self.opened.elapsed()
    }
}

async fn drive<F: Future>(
    protocol: &mut http1::Connection<Stream, Full<Bytes>>,
    over: &mut bool,
    work: F,
) -> F::Output {
    let mut work = pin!(work);
    poll_fn(|context| {
        // The protocol first: what it reads, `work` can take up at once. Its end and its errors reach `work` too.
        poll_protocol(protocol, over, context);
        work.as_mut().poll(context)
    })
    .await
}

fn poll_protocol(protocol: &mut http1::Connection<Stream, Full<Bytes>>, over: &mut bool, context: &mut Context<'_>) {
    if !*over {
        *over = Pin::new(protocol).poll(context).is_ready();
    }
}
