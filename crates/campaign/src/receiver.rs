//! The partners' receivers: they note what arrives. One acknowledges everything; the other often fails, and now and then hangs.

use std::io::{BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::http;
use crate::ledger::{Delivery, Ledger, now};
use crate::random::Random;

const ACKNOWLEDGED: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
const FAILED: &[u8] = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 4\r\n\r\noops";
/// Longer than an attempt may take.
const HANG: Duration = Duration::from_millis(1_500);

/// What a receiver does with a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Acknowledges,
    Fails,
    Hangs,
}

/// Starts a receiver that lives as long as this process, and gives its address.
pub(crate) fn start(ledger: &Arc<Ledger>) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen")?;
    let address = listener.local_addr()?;
    let ledger = ledger.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let ledger = ledger.clone();
            std::thread::spawn(move || {
                // A connection that is cut in the middle of a request has delivered nothing.
                _ = serve(&stream, &ledger);
            });
        }
    });
    Ok(address)
}

fn serve(mut stream: &TcpStream, ledger: &Ledger) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    while let Some(request) = http::read(&mut reader)? {
        let id = request.header("webhook-id").context("a delivery without an id")?;
        let event: serde_json::Value = serde_json::from_slice(&request.body)?;
        let user = event["externalUserId"].as_str().context("an event without a user")?;
        let second = request.header("webhook-timestamp").context("a delivery without a time")?.parse()?;
        let delivery = Delivery { id: id.to_owned(), at: now(), settings: settings(&request.first)?, second };
        // Noted before the answer: what was acknowledged is known here.
        let times = ledger.delivered(user, delivery);
        let flaky = request.first.contains("/flaky");
        match if flaky { manner(id, times) } else { Manner::Acknowledges } {
            Manner::Acknowledges => stream.write_all(ACKNOWLEDGED)?,
            Manner::Fails => stream.write_all(FAILED)?,
            Manner::Hangs => {
                std::thread::sleep(HANG);
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The number of the settings in the path of a request's first line, as in `POST /well/7 HTTP/1.1`.
fn settings(first: &str) -> Result<u64> {
    let path = first.split(' ').nth(1).context("a request without a path")?;
    path.rsplit('/').next().and_then(|number| number.parse().ok()).with_context(|| format!("no number in {path}"))
}

/// What the flaky receiver does with the delivery of an event that came so many times.
fn manner(id: &str, times: usize) -> Manner {
    let seed = id.bytes().fold(0_u64, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)));
    match Random::new(seed, times as u64).below(100) {
        0..40 => Manner::Fails,
        40..44 => Manner::Hangs,
        _ => Manner::Acknowledges,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_tells_the_settings() {
        assert_eq!(settings("POST /well/17 HTTP/1.1").unwrap(), 17);
        assert!(settings("POST /well HTTP/1.1").is_err());
    }

    #[test]
    fn the_flaky_one_does_everything() {
        let manners: Vec<Manner> = (0..200).map(|times| manner("id", times)).collect();
        let count = |wanted| manners.iter().filter(|manner| **manner == wanted).count();
        let counts = [Manner::Acknowledges, Manner::Fails, Manner::Hangs].map(count);
        assert!(counts[0] > 60 && counts[1] > 40 && counts[2] > 0, "{counts:?}");
    }
}
