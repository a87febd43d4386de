//! The outgoing client: one HTTP POST to a partner's receiver, and what came of it.
//!
//! The engine asks a [`Client`] for a [`Target`] (a URL, checked and taken apart once) and posts to it; whatever happens
//! comes back as an [`Attempt`], never as an error. The way of one post:
//!
//! | step | where | what is guaranteed |
//! |---|---|---|
//! | check the URL | `target` | a URL that the operator's rules refuse is never called, even if it was registered before they tightened |
//! | connect | `connector` | every address is checked when it is connected to, and the connection goes to exactly that address |
//! | TLS | `tls` | the certificate is valid for the host, under the machine's roots |
//! | exchange | here | at most one request is written; redirects, proxies, cookies and compression do not exist |
//! | read | `body` | at most [`KEPT_BODY`] of the body; if there is more, the connection is not used again |
//! | failure | `failure` | a kind, and words for the partner's developer that hold no URL, header, secret or payload |
//!
//! One deadline covers all of it. What a hostile receiver sends is bounded: the head of an answer in bytes and headers,
//! the body by what is kept, everything by the deadline.
//!
//! [`KEPT_BODY`]: capa_webhooks_core::outcome::KEPT_BODY

mod body;
mod connector;
mod failure;
mod stream;
mod target;
#[cfg(test)]
mod tests;
mod tls;

pub use target::Target;
pub use tls::NoRoots;

use crate::clock::Clock;
use bytes::Bytes;
use capa_webhooks_core::destination::Destinations;
use capa_webhooks_core::engine::words::Attempt;
use capa_webhooks_core::outcome::{Answer, Failure, parse_retry_after};
use connector::Connector;
use http::header::{CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::Full;
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How many idle connections are kept for each scheme, host and port.
const MOST_IDLE: usize = 64;

/// How long an idle connection is kept.
const LONGEST_IDLE: Duration = Duration::from_secs(30);

/// Where reading the head of an answer stops, give or take one read, and so what a connection buffers. The number of
/// headers is limited to 100 by hyper.
const LONGEST_HEAD: usize = 32 * 1024;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PRODUCT: HeaderValue = HeaderValue::from_static(concat!("capa-webhooks/", env!("CARGO_PKG_VERSION")));

/// What a [`Client`] needs.
#[derive(Debug)]
pub struct Options {
    /// The operator's rules for URLs and addresses.
    pub destinations: Arc<Destinations>,
    /// How long resolving, connecting and the TLS handshake may take together.
    pub connect_timeout: Duration,
    /// Counts the deadlines.
    pub clock: Clock,
    /// Certificate authorities to trust beside the machine's.
    pub extra_roots: Vec<CertificateDer<'static>>,
}

/// Posts to receivers, over connections that it keeps.
#[derive(Clone)]
pub struct Client {
    http: hyper_util::client::legacy::Client<Connector, Full<Bytes>>,
    destinations: Arc<Destinations>,
    clock: Clock,
}

impl Client {
    /// A client with an empty pool. Reads the machine's certificate authorities, so it is made once.
    ///
    /// # Errors
    /// No certificate authority was found, so no receiver could be trusted.
    pub fn new(options: Options) -> Result<Self, NoRoots> {
        let Options { destinations, connect_timeout, clock, extra_roots } = options;
        let connector = Connector::new(destinations.clone(), connect_timeout, clock.clone(), tls::config(extra_roots)?);
        let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(LONGEST_IDLE)
            .pool_max_idle_per_host(MOST_IDLE)
            .http1_max_buf_size(LONGEST_HEAD)
            // A kept connection can close between being chosen and being written to. hyper then gives the request back,
            // and it is sent on another connection: but only while it was still in the connection's queue, when no byte
            // of it had been encoded. Once it was taken from the queue, a lost connection is a failed attempt. So one
            // post never writes its request twice.
            .retry_canceled_requests(true)
            .build(connector);
        Ok(Self { http, destinations, clock })
    }

    /// Checks and takes apart a URL, once for many posts. A URL that may not be called gives a target that refuses
    /// every post.
    pub fn target(&self, url: &str) -> Target {
        Target::new(url, &self.destinations)
    }

    /// Makes one attempt: one POST of `body`, with `headers` beside those that every request has (`host`,
    /// `content-type`, `user-agent`, `content-length`). `deadline` covers everything, the answer's body included.
    pub async fn post(&self, target: &Target, headers: HeaderMap, body: Bytes, deadline: Duration) -> Attempt {
        let started_at = self.clock.now();
        let stopwatch = self.clock.stopwatch();
        let mut status = None;
        let answer = match request(target, headers, body) {
            Err(refused) => Err(refused),
            Ok(request) => match self.clock.deadline(deadline, self.exchange(request, &mut status)).await {
                Ok(answer) => answer,
                Err(_) => Err(failure::deadline(status.map(|status| status.as_u16()), deadline)),
            },
        };
        Attempt {
            started_at,
            duration: stopwatch.elapsed(),
            url: target.url().to_owned(),
            answer: answer.unwrap_or_else(Answer::None),
        }
    }

    /// Sends the request and reads the answer; tells `status` as soon as it is known.
    async fn exchange(
        &self,
        mut request: Request<Full<Bytes>>,
        status: &mut Option<StatusCode>,
    ) -> Result<Answer, Failure> {
        let connection = capture_connection(&mut request);
        let response = self.http.request(request).await.map_err(|error| failure::exchange(&error, None))?;
        let code = response.status();
        *status = Some(code);
        if code == StatusCode::SWITCHING_PROTOCOLS {
            return Err(failure::switched_protocols());
        }
        let retry_after = self.retry_after(response.headers());
        let mut incoming = response.into_body();
        let read = body::read(&mut incoming).await;
        let read = read.map_err(|error| failure::exchange(&error, Some(code.as_u16())))?;
        if read.more {
            close(&connection);
        }
        Ok(Answer::Response { status: code.as_u16(), body: read.kept, retry_after })
    }

    fn retry_after(&self, headers: &HeaderMap) -> Option<Duration> {
        parse_retry_after(headers.get(RETRY_AFTER)?.to_str().ok()?, self.clock.now())
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

fn request(target: &Target, headers: HeaderMap, body: Bytes) -> Result<Request<Full<Bytes>>, Failure> {
    let way = target.way()?;
    let mut all = HeaderMap::with_capacity(headers.len() + 4);
    all.insert(HOST, way.host.clone());
    all.insert(CONTENT_TYPE, JSON);
    all.insert(USER_AGENT, PRODUCT);
    all.extend(headers);
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = way.uri.clone();
    *request.headers_mut() = all;
    Ok(request)
}

/// Keeps the connection from being used again. Call it while the unread body still exists: hyper closes a connection
/// whose body is dropped early, but keeps it if the rest happens to have arrived already.
fn close(connection: &CaptureConnection) {
    if let Some(connected) = connection.connection_metadata().as_ref() {
        connected.poison();
    }
}
