//! Accepts connections and serves HTTP/1.1 on them.

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How long a client may take to send the head of a request, and how long an idle connection is kept.
const HEAD_PATIENCE: Duration = Duration::from_secs(30);
/// The most header fields of a request.
const MOST_HEADERS: usize = 64;
/// The most bytes of a request's head.
const HEAD_BYTES: usize = 32 * 1024;

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

    /// Serves `router` until `stop` turns true; then lets requests that have begun finish for `grace`.
    pub async fn serve(
        self,
        router: Router,
        mut stop: watch::Receiver<bool>,
        clock: crate::clock::Clock,
        grace: Duration,
    ) {
        let connections = GracefulShutdown::new();
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(HEAD_PATIENCE)
            .max_headers(MOST_HEADERS)
            .max_buf_size(HEAD_BYTES);
        http.pipeline_flush(true);
        loop {
            let accepted = tokio::select! {
                accepted = self.0.accept() => accepted,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            match accepted {
                Ok((stream, _)) => {
                    let connection = http.serve_connection(prepare(stream), TowerToHyperService::new(router.clone()));
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

fn prepare(stream: TcpStream) -> TokioIo<TcpStream> {
    // Answers are small; waiting to fill a packet only delays them.
    _ = stream.set_nodelay(true);
    TokioIo::new(stream)
}
