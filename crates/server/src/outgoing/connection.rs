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

/// A connection. Boxed, so that it is not copied each time it changes hands.
pub(super) struct Connection(Box<Inner>);

struct Inner {
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
        let (opened, used) = (clock.stopwatch(), clock.stopwatch());
        Ok(Self(Box::new(Inner { sender, protocol, over: false, opened, used })))
    }

    /// Sends a request. If no byte of it was written, the error gives it back.
    pub(super) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Full<Bytes>>>> {
        let response = self.0.sender.try_send_request(request);
        self.0.drive(response).await
    }

    /// Lets the connection work until `work` is done.
    pub(super) async fn while_open<F: Future>(&mut self, work: F) -> F::Output {
        self.0.drive(work).await
    }

    /// Whether the connection can take a request now.
    pub(super) async fn is_ready(&mut self) -> bool {
        poll_fn(|context| {
            self.0.poll_protocol(context);
            Poll::Ready(!self.0.over && self.0.sender.is_ready())
        })
        .await
    }

    /// Begins to rest.
    pub(super) fn rest(&mut self, clock: &Clock) {
        self.0.used = clock.stopwatch();
    }

    /// How long it has rested.
    pub(super) fn rested(&self) -> Duration {
        self.0.used.elapsed()
    }

    /// How long ago it was opened.
    pub(super) fn age(&self) -> Duration {
        self.0.opened.elapsed()
    }
}

impl Inner {
    async fn drive<F: Future>(&mut self, work: F) -> F::Output {
        let mut work = pin!(work);
        poll_fn(|context| {
            // The protocol first: what it reads, `work` can take up at once. Its end and its errors reach `work` too.
            self.poll_protocol(context);
            work.as_mut().poll(context)
        })
        .await
    }

    fn poll_protocol(&mut self, context: &mut Context<'_>) {
        if !self.over {
            self.over = Pin::new(&mut self.protocol).poll(context).is_ready();
        }
    }
}
