//! Publishers: each sends one event after the other, through all nodes in turn, and repeats what got no 202.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::http::Connection;
use crate::ledger::{Ledger, Span, now};
use crate::node::{Nodes, PLATFORM_KEY};
use crate::partners::Partner;

/// Before an event is sent again.
const PAUSE: Duration = Duration::from_millis(20);

/// What became of one call.
enum Answer {
    Taken(String),
    Refused,
}

/// Publishes until it is told to end. The event of that moment is still brought to its 202.
pub(crate) fn publish(number: usize, nodes: &Nodes, ledger: &Ledger, ended: &AtomicBool) -> Result<()> {
    let partner = Partner::of_publisher(number);
    let path = format!("/api/platform/v1/partners/{}/events", partner.id);
    let mut at = number;
    let mut connections: HashMap<SocketAddr, Connection> = HashMap::new();
    for event in 0_u64.. {
        if ended.load(Ordering::Relaxed) {
            break;
        }
        std::thread::sleep(partner.pause);
        let user = format!("{}-{number}-{event}", partner.name);
        loop {
            at = at.wrapping_add(1);
            let Some(address) = nodes.address(at) else {
                std::thread::sleep(PAUSE);
                continue;
            };
            let from = now();
            let open = connections.remove(&address).map_or_else(|| Connection::open(address), Ok);
            let answer = open.map_err(|_| Failure::NoAnswer).and_then(|mut open| {
                let answer = send(&mut open, &path, &user);
                connections.insert(address, open);
                answer
            });
            match answer {
                Ok(Answer::Taken(id)) => {
                    ledger.accepted(&user, &id, Span { from, until: now() });
                    break;
                }
                Ok(Answer::Refused) => ledger.seen().refused.push(Span { from, until: now() }),
                Err(Failure::NoAnswer) => {
                    // A node that was started again serves elsewhere.
                    connections.clear();
                    ledger.seen().unanswered += 1;
                }
                Err(Failure::Wrong(error)) => return Err(error),
            }
            std::thread::sleep(PAUSE);
        }
    }
    Ok(())
}

/// Why a call did not end as it may.
enum Failure {
    /// The connection broke. The event may have been taken.
    NoAnswer,
    /// An answer that no fault explains.
    Wrong(anyhow::Error),
}

fn send(connection: &mut Connection, path: &str, user: &str) -> Result<Answer, Failure> {
    let body = format!(r#"{{"type":"KYC","event":"VERIFIED_USER","externalUserId":"{user}"}}"#);
    let headers = [("platform-api-key", PLATFORM_KEY), ("content-type", "application/json"), ("idempotency-key", user)];
    let (status, body) = connection.call("POST", path, &headers, &body).map_err(|_| Failure::NoAnswer)?;
    answer(status, &body).map_err(Failure::Wrong)
}

fn answer(status: u16, body: &[u8]) -> Result<Answer> {
    match status {
        // 200: an earlier call with this key was taken, and its answer was lost.
        200 | 202 => {
            let answer: serde_json::Value = serde_json::from_slice(body)?;
            Ok(Answer::Taken(answer["data"]["id"].as_str().context("an answer without an id")?.to_owned()))
        }
        503 => Ok(Answer::Refused),
        _ => bail!("an event was answered with {status}: {}", String::from_utf8_lossy(body)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_some_answers_are_explained_by_faults() {
        let taken = answer(200, br#"{"data":{"id":"x"}}"#).unwrap();
        assert!(matches!(taken, Answer::Taken(id) if id == "x"));
        assert!(matches!(answer(503, b""), Ok(Answer::Refused)));
        assert!(answer(500, b"").is_err() && answer(409, b"").is_err());
    }
}
