//! Hears about once a second what other nodes changed, and has it forgotten here.

use crate::clock::Clock;
use crate::directory::Directory;
use crate::permit::Permit;
use capa_webhooks_core::time::Uptime;
use capa_webhooks_store::{Changes, Error, Store};
use std::sync::Arc;
use std::time::Duration;

/// How often it asks.
const EVERY: Duration = Duration::from_secs(1);
/// A change is in force everywhere within this time, also where nobody hears of it: what a node remembers is used for no
/// longer after it last asked.
pub(super) const IN_FORCE: Duration = Duration::from_secs(2);

/// The task.
pub(super) struct Refresh {
    pub(super) store: Arc<dyn Store>,
    pub(super) directory: Directory,
    pub(super) clock: Clock,
    pub(super) fresh: Permit,
    /// What was remembered for so long without hearing anything is not used, and no answer is waited for any longer.
    pub(super) patience: Duration,
}

impl Refresh {
    /// Asks for ever, beginning after the change with the number `seen`.
    pub(super) async fn run(self, mut seen: u64) {
        let mut failing = false;
        loop {
            let sent = self.clock.uptime();
            let problem = match self.clock.deadline(self.patience, self.store.changes(seen)).await {
                Ok(Ok(changes)) => {
                    seen = self.heard(&changes, seen, sent);
                    None
                }
                Ok(Err(error)) => Some(error),
                Err(_) => Some(Error::Unavailable("no answer in time".to_owned())),
            };
            match &problem {
                Some(error) if !failing => tracing::warn!(%error, "changes of other nodes cannot be heard of"),
                None if failing => tracing::info!("changes of other nodes are heard of again"),
                _ => {}
            }
            failing = problem.is_some();
            self.clock.sleep_until_uptime(sent.plus(EVERY)).await;
        }
    }

    /// First forgets, then lets what is left be used for longer. Gives the number to ask on from.
    fn heard(&self, changes: &Changes, seen: u64, sent: Uptime) -> u64 {
        if changes.upto < seen {
            tracing::warn!("the store was set back to an earlier state: everything is read anew");
            self.directory.forget_all();
        }
        self.directory.hear(changes);
        self.fresh.extend(sent.plus(self.patience));
        changes.upto
    }
}
