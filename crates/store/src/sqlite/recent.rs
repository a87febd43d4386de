//! What the writer remembers of notifications that it accepted and has not listed yet.
//!
//! Most are settled within milliseconds, long before they are listed. What is known from having written it need not be
//! read back: the `seq` when an outcome is recorded, the status when the notification is listed. What is not here is
//! read from the tables.

use capa_webhooks_core::id::NotificationKey;
use capa_webhooks_core::notification::Status;
use std::collections::HashMap;

/// The notifications with their `seq` and status, as far as the open transaction has come.
#[derive(Default)]
pub(super) struct Recent(HashMap<NotificationKey, (i64, Status)>);

impl Recent {
    /// The notification was written, with this status.
    pub(super) fn accepted(&mut self, key: NotificationKey, seq: i64, status: Status) {
        self.0.insert(key, (seq, status));
    }

    /// Its `seq`, if it is known.
    pub(super) fn seq(&self, key: NotificationKey) -> Option<i64> {
        self.0.get(&key).map(|(seq, _)| *seq)
    }

    /// It has another status now, or (with none) is removed.
    pub(super) fn moved(&mut self, key: NotificationKey, to: Option<Status>) {
        match to {
            Some(status) => {
                if let Some((_, known)) = self.0.get_mut(&key) {
                    *known = status;
                }
            }
            None => drop(self.0.remove(&key)),
        }
    }

    /// It is listed now: its status, if that is known, for the last time.
    pub(super) fn listed(&mut self, key: NotificationKey) -> Option<Status> {
        self.0.remove(&key).map(|(_, status)| status)
    }

    /// The open transaction was rolled back, and with it what was remembered of it: better to know nothing.
    pub(super) fn rolled_back(&mut self) {
        self.0.clear();
    }
}
