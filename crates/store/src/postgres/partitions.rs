//! Partitions: one for each day of ids, of notifications, attempts and cycles.
//!
//! Those of the coming days are made ahead, when a store is opened and by every `expire`. An id of any other day (a clock
//! that is far off) has its partition made when it comes.

use super::PostgresStore;
use super::fault::Fault;
use super::session::{Session, run};
use crate::Error;
use capa_webhooks_core::id::NotificationId;
use std::collections::{BTreeSet, HashSet};
use std::sync::{PoisonError, RwLock};

/// Milliseconds of a day.
pub(super) const DAY: i64 = 86_400_000;

/// Days whose partitions are known to be there.
#[derive(Default)]
pub(super) struct Days(RwLock<HashSet<i64>>);

impl Days {
    fn unknown(&self, days: impl Iterator<Item = i64>) -> BTreeSet<i64> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        days.filter(|day| !known.contains(day)).collect()
    }

    fn learn(&self, days: &[i64]) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).extend(days);
    }

    /// Another look is due: partitions were dropped.
    pub(super) fn forget(&self) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl PostgresStore {
    /// Sees to it that there are partitions for these ids.
    pub(super) async fn make_room(&self, ids: impl Iterator<Item = NotificationId>) -> Result<(), Error> {
        let missing: Vec<i64> = self.days.unknown(ids.map(day_of)).into_iter().collect();
        if !missing.is_empty() {
            run!(self.claims, session => make_partitions(session, &missing).await);
            self.days.learn(&missing);
        }
        Ok(())
    }
}

async fn make_partitions(session: &mut Session, days: &[i64]) -> Result<(), Fault> {
    session.commit_one("SELECT make_partitions_1($1)", &[&days]).await?;
    Ok(())
}

/// The day of an id, counted from the Unix epoch: a UUIDv7 begins with the 48 bits of its milliseconds.
pub(super) fn day_of(id: NotificationId) -> i64 {
    let bytes = id.as_bytes();
    let millis = bytes[..6].iter().fold(0_i64, |millis, byte| millis << 8 | i64::from(*byte));
    millis / DAY
}

#[cfg(test)]
mod tests {
    use super::*;
    use capa_webhooks_core::time::Timestamp;

    #[test]
    fn an_id_tells_its_day() {
        for (millis, day) in [(0, 0), (DAY - 1, 0), (DAY, 1), (1_760_000_000_000, 20_370)] {
            assert_eq!(day_of(NotificationId::v7(Timestamp::from_millis(millis), [255; 10])), day);
        }
        assert_eq!(day_of(NotificationId::from_bytes([255; 16])), 3_257_812);
    }
}
