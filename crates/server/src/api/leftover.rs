//! Reads what a handler left of a request's body before the request is answered.
//!
//! Most clients write the whole body before they read. If the connection closed under one that is still writing, it
//! would see a broken pipe in the place of the 401 or 413 that tells it what to mend. So the rest is read and thrown
//! away, within bounds. A client that asked beforehand (`expect: 100-continue`) waits for the answer and writes nothing.

use super::App;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

/// Bodies up to so many bytes arrive with their head; hyper reads on over what is left of them.
const SMALL: u64 = 16 * 1024;
/// The most bytes that are read for nothing; whoever sends more than that finds the connection closed.
const MOST: usize = 16 * 1024 * 1024;
/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Has `answer` answer the request, and sees to it that nothing of its body is left.
pub(super) async fn read<F: Future<Output = Response>>(
    app: &App,
    request: Request,
    answer: impl FnOnce(Request) -> F,
) -> Response {
    let left = Left::default();
    let (parts, body) = request.into_parts();
    let body = Body::new(Lent { body, left: left.clone() });
    let response = answer(Request::from_parts(parts, body)).await;
    let rest = left.lock().unwrap_or_else(PoisonError::into_inner).take();
    // Whoever was too slow for the handler had its time.
    if let Some(rest) = rest.filter(|_| response.status() != StatusCode::REQUEST_TIMEOUT) {
        // The answer goes out in any case.
        _ = app.clock.deadline(PATIENCE, discard(rest)).await;
    }
    response
}

/// Whether more of the body may be left than hyper reads on over by itself.
pub(super) fn may_be_large(headers: &HeaderMap) -> bool {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let large = length.map_or(headers.contains_key(header::TRANSFER_ENCODING), |length: u64| length > SMALL);
    large && !headers.contains_key(header::EXPECT)
}

async fn discard(mut body: Body) {
    let mut read = 0;
    while read < MOST
        && let Some(Ok(frame)) = body.frame().await
    {
        read += frame.data_ref().map_or(0, Bytes::len);
    }
}

type Left = Arc<Mutex<Option<Body>>>;

/// A body that is given back when the handler is done with it.
struct Lent {
    body: Body,
    left: Left,
}

impl Drop for Lent {
    fn drop(&mut self) {
        let body = std::mem::take(&mut self.body);
        *self.left.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
    }
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
