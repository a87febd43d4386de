//! Changes of the partners' settings, each made through one node while all of them send.
//!
//! Each try sets the URL to another path of the receiver, so a delivery tells by which settings it was sent. A change that
//! was not confirmed is tried again under the next number, through any node: it may be in force all the same. The next
//! try of a partner waits for the end of the one before, so the numbers are in the order in which they come into force.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};
use capa_webhooks_cluster::Proxy;

use crate::ledger::{Change, Ledger, now};
use crate::node::Nodes;
use crate::partners::PARTNERS;
use crate::random::Random;

/// Before a change is tried again.
const PAUSE: Duration = Duration::from_millis(20);

/// Makes the changes.
pub(crate) struct Changing<'a> {
    pub(crate) nodes: &'a Nodes,
    pub(crate) receiver: &'a Proxy,
    pub(crate) ledger: &'a Ledger,
    pub(crate) ended: &'a AtomicBool,
    /// The number of the last try.
    pub(crate) last: AtomicU64,
}

impl Changing<'_> {
    /// Gives some partner another URL, and returns when a node has confirmed it.
    pub(crate) fn change(&self, random: &mut Random) -> Result<()> {
        let partner = &PARTNERS[random.index(PARTNERS.len())];
        let mut at = random.index(usize::from(u8::MAX));
        while !self.ended.load(Ordering::Relaxed) {
            at = at.wrapping_add(1);
            let Some(address) = self.nodes.address(at) else {
                std::thread::sleep(PAUSE);
                continue;
            };
            let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
            let url = partner.url(self.receiver, number);
            self.ledger.seen().changes.push(Change { partner: partner.name, number, confirmed: None });
            match partner.set_url(address, &url) {
                Ok((200, _)) => {
                    let confirmed = Some(now());
                    self.ledger.seen().changes.last_mut().into_iter().for_each(|change| change.confirmed = confirmed);
                    return Ok(());
                }
                // The node was broken, or has no database.
                Ok((503, _)) | Err(_) => std::thread::sleep(PAUSE),
                Ok((status, body)) => {
                    bail!("new settings were answered with {status}: {}", String::from_utf8_lossy(&body))
                }
            }
        }
        Ok(())
    }
}
