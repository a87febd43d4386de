//! From a URL to a connection: resolve, check every address, connect to exactly a checked one, TLS.
//!
//! The check stands between resolving and connecting, on the very addresses that are connected to. A check inside the
//! resolver would be skipped for IP literals, and one before resolving would be open to a name that changes its answer
//! in between.
//!
//! All steps share the connect timeout. What is left of it is divided among the addresses that are still to be tried,
//! so that a dead first address leaves time for the others.

use super::failure::{self, Step};
use super::stream::Stream;
use crate::clock::{Clock, Stopwatch};
use capa_webhooks_core::destination::Destinations;
use capa_webhooks_core::outcome::Failure;
use http::Uri;
use http::uri::Scheme;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// The most addresses of one host that are tried: a name may resolve to hundreds.
const MOST_ADDRESSES: usize = 8;

/// Opens connections to receivers.
pub(super) struct Connector {
    destinations: Arc<Destinations>,
    timeout: Duration,
    clock: Clock,
    tls: TlsConnector,
}

impl Connector {
    pub(super) fn new(
        destinations: Arc<Destinations>,
        timeout: Duration,
        clock: Clock,
        tls: Arc<ClientConfig>,
    ) -> Self {
        Self { destinations, timeout, clock, tls: tls.into() }
    }

    /// Opens a connection to the URL's host.
    pub(super) async fn open(&self, uri: &Uri) -> Result<Stream, Failure> {
        let secure = uri.scheme() == Some(&Scheme::HTTPS);
        // IPv6 literals stand in brackets in a URL, and nowhere else.
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let time = Time { clock: &self.clock, watch: self.clock.stopwatch(), whole: self.timeout };

        let found = resolve(host, port, &time).await?;
        let allowed = allowed(&found, &self.destinations)?;
        let tcp = first_that_connects(&allowed, &time, connect).await?;
        if !secure {
            return Ok(Stream::plain(tcp));
        }
        let name = ServerName::try_from(host.to_owned()).map_err(|_| failure::no_server_name())?;
        match time.limit(time.left(), Step::Handshake, self.tls.connect(name, tcp)).await? {
            Ok(tls) => Ok(Stream::tls(tls)),
            Err(error) => Err(failure::handshake(&error)),
        }
    }
}

/// The time for all steps of one connect.
struct Time<'a> {
    clock: &'a Clock,
    watch: Stopwatch,
    whole: Duration,
}

impl Time<'_> {
    fn left(&self) -> Duration {
        self.whole.saturating_sub(self.watch.elapsed())
    }

    async fn limit<F: Future>(&self, within: Duration, step: Step, work: F) -> Result<F::Output, Failure> {
        self.clock.deadline(within, work).await.map_err(|_| failure::connect_timeout(step, self.whole))
    }
}

async fn resolve(host: &str, port: u16, time: &Time<'_>) -> Result<Vec<SocketAddr>, Failure> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    match time.limit(time.left(), Step::Resolve, tokio::net::lookup_host((host, port))).await? {
        Ok(found) => Ok(found.collect()),
        Err(error) => Err(failure::resolve(&error)),
    }
}

/// Those of the addresses that may be called.
fn allowed(found: &[SocketAddr], destinations: &Destinations) -> Result<Vec<SocketAddr>, Failure> {
    if found.is_empty() {
        return Err(failure::no_address());
    }
    let public = found.iter().copied().filter(|address| destinations.check_address(address.ip()).is_ok());
    let allowed: Vec<_> = public.take(MOST_ADDRESSES).collect();
    if allowed.is_empty() { Err(failure::no_public_address()) } else { Ok(allowed) }
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

/// Tries the addresses in order, each within its share of the time that is left.
async fn first_that_connects<T, F>(
    addresses: &[SocketAddr],
    time: &Time<'_>,
    connect: impl Fn(SocketAddr) -> F,
) -> Result<T, Failure>
where
    F: Future<Output = io::Result<T>>,
{
    let mut failed = failure::no_address();
    for (address, waiting) in addresses.iter().zip((1..=u32::try_from(addresses.len()).unwrap_or(u32::MAX)).rev()) {
        failed = match time.limit(time.left() / waiting, Step::Connect, connect(*address)).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => failure::connect(&error, *address),
            Err(timeout) => timeout,
        };
    }
    Err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use capa_webhooks_core::outcome::FailureKind;
    use capa_webhooks_core::time::Timestamp;
    use std::cell::RefCell;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn only_public_addresses_are_connected_to() {
        let strict = Destinations::default();
        for (found, expected) in [
            (vec!["8.8.8.8:443"], Ok(vec!["8.8.8.8:443"])),
            (vec!["10.0.0.1:443", "8.8.8.8:443", "[::1]:443"], Ok(vec!["8.8.8.8:443"])),
            (vec!["127.0.0.1:443", "[::ffff:10.0.0.1]:443"], Err(FailureKind::AddressRefused)),
            (vec!["8.8.8.8:1"; 100], Ok(vec!["8.8.8.8:1"; MOST_ADDRESSES])),
            (vec![], Err(FailureKind::Dns)),
        ] {
            let allowed = allowed(&addresses(&found), &strict).map_err(|failure| failure.kind);
            assert_eq!(allowed, expected.map(|texts| addresses(&texts)), "{found:?}");
        }
    }

    #[tokio::test]
    async fn a_dead_address_leaves_time_for_the_others() {
        let (clock, stepper) = Clock::stepped(Timestamp::from_millis(0));
        let time = Time { clock: &clock, watch: clock.stopwatch(), whole: Duration::from_secs(5) };
        let addresses = addresses(&["192.0.2.1:443", "192.0.2.2:443", "192.0.2.3:443", "192.0.2.4:443"]);
        let tried = RefCell::new(Vec::new());
        // The first and the third never answer, the second refuses; nobody else moves the clock.
        let connect = async |address: SocketAddr| {
            tried.borrow_mut().push((address.port(), clock.now().as_millis()));
            match address.ip().to_string().as_str() {
                "192.0.2.2" => Err(io::Error::from(io::ErrorKind::ConnectionRefused)),
                "192.0.2.4" => Ok(address),
                _ => std::future::pending().await,
            }
        };
        let steps = async {
            for _ in 0..50 {
                stepper.advance(Duration::from_millis(125));
                tokio::task::yield_now().await;
            }
            std::future::pending::<()>().await;
        };
        let connected = tokio::select! {
            connected = first_that_connects(&addresses, &time, connect) => connected,
            () = steps => unreachable!("it never ends"),
        };
        assert_eq!(connected, Ok(addresses[3]));
        let started: Vec<_> = tried.borrow().iter().map(|(_, millis)| *millis).collect();
        assert!(started[1] <= 1_500 && started[3] <= 3_500, "{started:?}");
    }

    #[tokio::test]
    async fn the_last_failure_is_told() {
        let clock = Clock::system();
        let time = Time { clock: &clock, watch: clock.stopwatch(), whole: Duration::from_secs(5) };
        let addresses = addresses(&["192.0.2.1:443", "192.0.2.2:443"]);
        let refuse = async |_| Err::<(), _>(io::Error::from(io::ErrorKind::ConnectionRefused));
        let failed = first_that_connects(&addresses, &time, refuse).await.unwrap_err();
        assert_eq!(failed.kind, FailureKind::Connect);
        assert!(failed.message.contains("192.0.2.2:443"), "{failed:?}");
    }
}
