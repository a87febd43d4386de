//! How many listed notifications there are, by partner, hour of acceptance, event and status.
//!
//! What a transaction changes is gathered here and written once, at its end, so that a batch about one partner touches
//! its few rows once. Counted is what is in `listed`; what is not listed yet is few, and counted by whoever asks.

use super::fault::Fault;
use super::listing::Listing;
use capa_webhooks_core::id::{NotificationKey, PartnerId};
use capa_webhooks_core::notification::Status;
use rusqlite::{Connection, OptionalExtension};
use std::collections::HashMap;
use std::sync::Arc;

/// Milliseconds of an hour.
pub(super) const HOUR: i64 = 3_600_000;

/// What the open transaction changes.
#[derive(Default)]
pub(super) struct Counters {
    changes: HashMap<(PartnerId, i64, Arc<str>, Status), i64>,
}

impl Counters {
    /// So many more of this status.
    pub(super) fn add(&mut self, partner: PartnerId, accepted_at: i64, event: &Arc<str>, status: Status, count: i64) {
        *self.changes.entry((partner, accepted_at.div_euclid(HOUR), event.clone(), status)).or_default() += count;
    }

    /// A notification goes from one status to another, or (to none) is removed. To be called while it is listed, if it is.
    pub(super) fn moved(
        &mut self,
        conn: &Connection,
        listing: &Listing,
        (key, seq): (NotificationKey, i64),
        from: Status,
        to: Option<Status>,
    ) -> Result<(), Fault> {
        if !listing.holds(conn, key, seq)? {
            return Ok(());
        }
        let mut statement =
            conn.prepare_cached("SELECT event, accepted_at FROM listed WHERE partner = ?1 AND id = ?2")?;
        let found: Option<(Arc<str>, i64)> = statement
            .query_row((key.partner.as_bytes(), key.id.as_bytes()), |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((event, accepted_at)) = found else { return Ok(()) };
        self.add(key.partner, accepted_at, &event, from, -1);
        if let Some(to) = to {
            self.add(key.partner, accepted_at, &event, to, 1);
        }
        Ok(())
    }

    /// Writes the changes within the open transaction.
    pub(super) fn write(&mut self, conn: &Connection) -> Result<(), Fault> {
        for ((partner, hour, event, status), count) in self.changes.drain().filter(|(_, count)| *count != 0) {
            conn.prepare_cached(
                "INSERT INTO counters (partner, hour, event, status, count) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT DO UPDATE SET count = count + excluded.count",
            )?
            .execute((partner.as_bytes(), hour, &event, status.as_str(), count))?;
            if count < 0 {
                conn.prepare_cached(
                    "DELETE FROM counters WHERE partner = ?1 AND hour = ?2 AND event = ?3 AND status = ?4 AND count = 0",
                )?
                .execute((partner.as_bytes(), hour, &event, status.as_str()))?;
            }
        }
        Ok(())
    }

    /// The open transaction was rolled back.
    pub(super) fn rolled_back(&mut self) {
        self.changes.clear();
    }
}
