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
//! | find a connection | `pool` | one that is kept, young and open; else a new one |
//! | exchange | here, `connection` | at most one request is written; redirects, proxies, cookies and compression do not exist |
//! | read | `body` | at most [`KEPT_BODY`] of the body; if there is more, the connection is not used again |
//! | failure | `failure` | a kind, and words for the partner's developer that hold no URL, header, secret or payload |
//!
//! One deadline covers all of it. What a hostile receiver sends is bounded: the head of an answer in bytes and headers,
//! the body by what is kept, everything by the deadline.
//!
//! [`KEPT_BODY`]: capa_webhooks_core::outcome::KEPT_BODY

mod body;
mod connection;
mod connector;
mod failure;
mod pool;
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
use connection::Connection;
use connector::Connector;
use http::header::{CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use pool::Pool;
use rustls::pki_types::CertificateDer;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use target::Way;

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
pub struct Client {
    connector: Connector,
    pool: Pool,
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
        Ok(Self { connector, pool: Pool::new(clock.clone()), destinations, clock })
    }

    /// Checks and takes apart a URL, once for many posts. A URL that may not be called gives a target that refuses
    /// every post.
    pub fn target(&self, url: &str) -> Target {
        Target::new(url, &self.destinations)
    }

    /// Makes one attempt: one POST of `body`, with `headers` beside those that every request has (`host`,
    /// `content-type`, `user-agent`, `content-length`). `deadline` covers everything, the answer's body included.
    pub async fn post(
        &self,
        target: &Target,
        headers: impl IntoIterator<Item = (HeaderName, HeaderValue)>,
        body: Bytes,
        deadline: Duration,
    ) -> Attempt {
        let started_at = self.clock.now();
        let stopwatch = self.clock.stopwatch();
        let mut status = None;
        let answer = match target.way() {
            Err(refused) => Err(refused),
            Ok(way) => {
                // Boxed, so that it is not copied with everything that waits for it.
                let exchange = Box::pin(self.exchange(way, request(way, headers, body), &mut status));
                match self.clock.deadline(deadline, exchange).await {
                    Ok(answer) => answer,
                    Err(_) => Err(failure::deadline(status.map(|status: StatusCode| status.as_u16()), deadline)),
                }
            }
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
        way: &Way,
        request: Request<Full<Bytes>>,
        status: &mut Option<StatusCode>,
    ) -> Result<Answer, Failure> {
        let (mut connection, response) = self.send(way, request).await?;
        let code = response.status();
        *status = Some(code);
        if code == StatusCode::SWITCHING_PROTOCOLS {
            return Err(failure::switched_protocols());
        }
        let retry_after = self.retry_after(response.headers());
        let mut incoming = response.into_body();
        let read = connection.while_open(body::read(&mut incoming)).await;
        let read = read.map_err(|error| failure::exchange(&error, Some(code.as_u16())))?;
        if !read.more && connection.is_ready().await {
            self.pool.keep(&way.origin, connection);
        }
        Ok(Answer::Response { status: code.as_u16(), body: read.kept, retry_after })
    }

    /// Sends the request over a connection that is kept, or else over a new one.
    ///
    /// A kept connection can close between being taken and being written to. Then hyper gives the request back, but only
    /// while no byte of it was encoded, and the next connection takes it. Once it was, a lost connection is a failed
    /// attempt. So one post never writes its request twice.
    async fn send(
        &self,
        way: &Way,
        mut request: Request<Full<Bytes>>,
    ) -> Result<(Connection, Response<Incoming>), Failure> {
        while let Some(mut connection) = self.pool.take(&way.origin) {
            if !connection.is_ready().await {
                continue;
            }
            match connection.send(request).await {
                Ok(response) => return Ok((connection, response)),
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(failure::exchange(error.error(), None)),
                },
            }
        }
        // Seldom, and large: kept apart, so that the usual post stays small.
        Box::pin(self.send_anew(way, request)).await
    }

    async fn send_anew(
        &self,
        way: &Way,
        request: Request<Full<Bytes>>,
    ) -> Result<(Connection, Response<Incoming>), Failure> {
        let stream = self.connector.open(&way.uri).await?;
        let started = Connection::start(stream, &self.clock).await;
        let mut connection = started.map_err(|error| failure::exchange(&error, None))?;
        match connection.send(request).await {
            Ok(response) => Ok((connection, response)),
            Err(error) => Err(failure::exchange(error.error(), None)),
        }
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

fn request(
    way: &Way,
    headers: impl IntoIterator<Item = (HeaderName, HeaderValue)>,
    body: Bytes,
) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = way.path.clone();
    let all = request.headers_mut();
    all.reserve(8);
    all.insert(HOST, way.host.clone());
    all.insert(CONTENT_TYPE, JSON);
    all.insert(USER_AGENT, PRODUCT);
    all.extend(headers);
    request
}
