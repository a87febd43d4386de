//! Accepts connections and serves HTTP/1.1 on them.

use super::unreadable::Spoken;
use crate::clock::Clock;
use axum::response::Response;
use http::Request;
use hyper::body::Incoming;
use hyper::rt::{Sleep, Timer};
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How long a client may take to send the head of a request, and how long an idle connection is kept.
const HEAD_PATIENCE: Duration = Duration::from_secs(30);
/// The most header fields of a request.
pub(super) const MOST_HEADERS: usize = 64;
/// The most bytes of a request's head.
pub(super) const HEAD_BYTES: usize = 32 * 1024;

/// A bound address.
#[derive(Debug)]
pub struct Listener(TcpListener);

impl Listener {
    /// Binds `address`.
    ///
    /// # Errors
    /// The address cannot be bound; the text says how to mend it.
    pub async fn bind(address: SocketAddr, setting: &str) -> Result<Self, String> {
        TcpListener::bind(address)
            .await
            .map(Self)
            .map_err(|error| format!("cannot listen on {address}: {error}; choose another address with {setting}"))
    }

    /// The address that was bound.
    ///
    /// # Errors
    /// The operating system does not tell.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Has `service` answer until `stop` turns true; then lets requests that have begun finish for `grace`.
    pub async fn serve<S>(self, service: S, mut stop: watch::Receiver<bool>, clock: Clock, grace: Duration)
    where
        S: Service<Request<Incoming>, Response = Response, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send,
    {
        let connections = GracefulShutdown::new();
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(Waits(clock.clone()))
            .header_read_timeout(HEAD_PATIENCE)
            .max_headers(MOST_HEADERS)
            .max_buf_size(HEAD_BYTES)
            .max_header_size(HEAD_BYTES)
            // Who has sent everything may close its side, and still hears the answer.
            .half_close(true);
        loop {
            let accepted = tokio::select! {
                accepted = self.0.accept() => accepted,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            match accepted {
                Ok((stream, _)) => {
                    let stream = TokioIo::new(Spoken::new(prepare(stream), clock.clone()));
                    let connection = http.serve_connection(stream, service.clone());
                    let connection = connections.watch(connection);
                    tokio::spawn(async move {
                        // A client that breaks off or speaks no HTTP harms only itself.
                        if let Err(error) = connection.await {
                            tracing::debug!(%error, "a connection ended early");
                        }
                    });
                }
                Err(error) => {
                    // Most often too many open files: waiting is all that helps.
                    tracing::error!(%error, "a connection could not be accepted");
                    clock.sleep(Duration::from_millis(50)).await;
                }
            }
        }
        drop(self.0);
        _ = clock.deadline(grace, connections.shutdown()).await;
    }
}

fn prepare(stream: TcpStream) -> TcpStream {
    // Answers are small; waiting to fill a packet only delays them.
    _ = stream.set_nodelay(true);
    stream
}

/// Has hyper wait on the service's clock, so that its deadlines can be stepped too.
struct Waits(Clock);

impl Timer for Waits {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        let clock = self.0.clone();
        Box::pin(Wait(Box::pin(async move { clock.sleep(duration).await })))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        self.sleep(deadline.saturating_duration_since(self.now()))
    }
}

/// A wait of hyper's.
struct Wait(Pin<Box<dyn Future<Output = ()> + Send + Sync>>);

impl Sleep for Wait {}

impl Future for Wait {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}
