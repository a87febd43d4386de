//! The partners: one whose receiver is well, and one whose receiver often fails or hangs.
//!
//! The second brings retries into memory, and turns that wait for their time when a node dies; what has used up its schedule
//! is retried by hand, as its partner would.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use capa_webhooks_cluster::Proxy;
use serde_json::{Value, json};

use crate::http;
use crate::ledger::Ledger;
use crate::node::{Nodes, PLATFORM_KEY};

/// Between two looks for what has failed.
const LOOK: Duration = Duration::from_millis(500);
/// How many of all publishers send for one of the second partner.
const SHARE: usize = 3;

/// A partner, whose id and key are made beforehand so that nothing has to be read back.
#[derive(Debug)]
pub(crate) struct Partner {
    /// Where its receiver takes events; its users' names begin with it.
    pub(crate) name: &'static str,
    /// What each of its publishers waits between two events: a receiver that fails is sent little at a time, and what comes
    /// faster than that waits ever longer.
    pub(crate) pause: Duration,
    pub(crate) id: &'static str,
    key: &'static str,
}

pub(crate) static PARTNERS: [Partner; 2] = [
    Partner {
        name: "well",
        pause: Duration::ZERO,
        id: "0199f7a0-0000-7000-8000-000000000001",
        key: "5f0c6f5e-0d0a-4a61-8c43-1f2e3d4c5b6a:8a7b6c5d-4e3f-4a1b-9c8d-7e6f5a4b3c2d",
    },
    Partner {
        name: "flaky",
        pause: Duration::from_millis(50),
        id: "0199f7a0-0000-7000-8000-000000000002",
        key: "6f0c6f5e-0d0a-4a61-8c43-1f2e3d4c5b6b:9a7b6c5d-4e3f-4a1b-9c8d-7e6f5a4b3c2e",
    },
];

impl Partner {
    /// For whom a publisher sends.
    pub(crate) fn of_publisher(number: usize) -> &'static Self {
        &PARTNERS[usize::from(number % SHARE == SHARE - 1)]
    }

    /// Whose user this is.
    pub(crate) fn of_user(user: &str) -> &'static Self {
        PARTNERS.iter().find(|partner| user.starts_with(partner.name)).unwrap_or(&PARTNERS[0])
    }

    /// Makes it. An attempt is short, so that one that hangs is soon over.
    pub(crate) fn create(&self, nodes: &Nodes, receiver: &Proxy) -> Result<()> {
        let url = self.url(receiver, 0);
        let body = json!({"id": self.id, "name": self.name, "url": url, "apiKey": self.key}).to_string();
        let headers = [("platform-api-key", PLATFORM_KEY), ("content-type", "application/json")];
        let address = nodes.address(0).context("the first node serves")?;
        let (status, answer) = http::call(address, "POST", "/api/platform/v1/partners", &headers, &body)?;
        ensure!(status == 201, "no partner was made: {status} {}", String::from_utf8_lossy(&answer));
        let body = json!({"url": url, "attemptTimeout": "1s"}).to_string();
        let headers = [("partner-api-key", self.key), ("content-type", "application/json")];
        let (status, answer) = http::call(address, "PUT", "/api/partner/v2/webhook-settings", &headers, &body)?;
        ensure!(status == 200, "the settings were not taken: {status} {}", String::from_utf8_lossy(&answer));
        Ok(())
    }

    /// Where its receiver takes events, under the settings with this number.
    pub(crate) fn url(&self, receiver: &Proxy, settings: u64) -> String {
        format!("http://{}/{}/{settings}", receiver.address(), self.name)
    }

    /// Sets its URL through a node, and gives the answer.
    pub(crate) fn set_url(&self, node: SocketAddr, url: &str) -> Result<(u16, Vec<u8>)> {
        let headers = [("partner-api-key", self.key), ("content-type", "application/json")];
        http::call(node, "PUT", "/api/partner/v2/webhook-settings", &headers, &json!({"url": url}).to_string())
    }

    /// Asks the partner API of some node.
    pub(crate) fn ask(&self, nodes: &Nodes, path: &str) -> Result<Value> {
        let mut last = None;
        for number in 0..16 {
            let Some(address) = nodes.address(number) else { continue };
            let path = format!("/api/partner/v2/{path}");
            match http::call(address, "GET", &path, &[("partner-api-key", self.key)], "") {
                Ok((200, body)) => return Ok(serde_json::from_slice(&body)?),
                Ok((status, body)) => last = Some(format!("{status} {}", String::from_utf8_lossy(&body))),
                Err(error) => last = Some(error.to_string()),
            }
        }
        bail!("no node answers {path}: {}", last.unwrap_or_default())
    }

    /// How many of its notifications are pending; `None` if no node says.
    pub(crate) fn pending(&self, nodes: &Nodes) -> Option<u64> {
        self.ask(nodes, "webhook-notifications?status=PENDING&limit=1").ok()?["data"]["total"].as_u64()
    }

    /// Retries by hand what has failed, until it is told to end.
    pub(crate) fn retry_failed(&self, nodes: &Nodes, ledger: &Ledger, ended: &AtomicBool) -> Result<()> {
        while !ended.load(Ordering::Relaxed) {
            std::thread::sleep(LOOK);
            // A node may just be broken; there is another look soon.
            let Ok(page) = self.ask(nodes, "webhook-notifications?status=FAILED&limit=5") else { continue };
            for row in page["data"]["data"].as_array().into_iter().flatten() {
                let id = row["id"].as_str().context("a notification without an id")?;
                self.retry(nodes, ledger, id)?;
            }
        }
        Ok(())
    }

    fn retry(&self, nodes: &Nodes, ledger: &Ledger, id: &str) -> Result<()> {
        // The id's last digit spreads the calls over the nodes.
        let number = usize::from(id.bytes().last().unwrap_or_default());
        let Some(address) = nodes.address(number) else { return Ok(()) };
        let path = format!("/api/partner/v2/webhook-notifications/{id}/retry");
        match http::call(address, "POST", &path, &[("partner-api-key", self.key)], "") {
            Ok((201, _)) => ledger.seen().retried += 1,
            // Pending again by a call whose answer was lost; too many in this minute; no database.
            Ok((409 | 429 | 503, _)) | Err(_) => {}
            Ok((status, body)) => {
                bail!("a manual retry was answered with {status}: {}", String::from_utf8_lossy(&body))
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_tell_whose_they_are() {
        for number in 0..SHARE {
            let partner = Partner::of_publisher(number);
            assert_eq!(Partner::of_user(&format!("{}-{number}-0", partner.name)).id, partner.id);
        }
        assert_eq!(Partner::of_publisher(SHARE - 1).name, "flaky");
    }
}
