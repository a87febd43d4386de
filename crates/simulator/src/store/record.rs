//! Recording outcomes. The queue row decides; what comes late is kept as a fact, and settles only as an acknowledgement
//! of the cycle that is still pending.

use super::{Fact, Follows, Store};
use crate::options::Sabotage;
use capa_webhooks_core::engine::words::{Happened, Record, Recorded};
use capa_webhooks_core::id::LifeId;
use capa_webhooks_core::notification::{End, State};
use capa_webhooks_core::time::Timestamp;

impl Store {
    pub(crate) fn record(&mut self, life: LifeId, batch: &[Record], now: Timestamp) -> Vec<Recorded> {
        batch.iter().map(|record| self.record_one(life, record, now)).collect()
    }

    fn record_one(&mut self, life: LifeId, record: &Record, now: Timestamp) -> Recorded {
        self.touched.push(record.key);
        let ignored = self.sabotage == Some(Sabotage::OwnerIgnored);
        let row = self.rows.get_mut(&record.key).filter(|row| row.turn.cycle == record.turn.cycle);
        let owned = row.filter(|row| ignored || (row.owner == Some(life) && row.turn.number == record.turn.number));
        if let Some(row) = owned {
            let follows = match record.next {
                State::Pending(turn) => {
                    row.turn = turn;
                    row.owner = record.keep.then_some(life);
                    row.owned_since = now;
                    Follows::Next(turn.due)
                }
                State::Settled { end, .. } => {
                    self.settle(record);
                    Follows::Settled(end)
                }
            };
            if !matches!(follows, Follows::Settled(_)) || !self.sabotages(Sabotage::FactLost) {
                self.add(life, record, follows);
            }
            return Recorded::Applied;
        }
        if let Happened::Attempted(_) = record.happened {
            let acknowledged = matches!(record.next, State::Settled { end: End::Sent, .. });
            let pending = self.rows.get(&record.key).is_some_and(|row| row.turn.cycle == record.turn.cycle);
            if acknowledged && pending && self.sabotage != Some(Sabotage::LateAcknowledgementIgnored) {
                self.settle(record);
                self.add(life, record, Follows::Settled(End::Sent));
            } else {
                self.add(life, record, Follows::Nothing);
            }
        }
        Recorded::Late
    }

    fn settle(&mut self, record: &Record) {
        if !self.sabotages(Sabotage::RowLeft) {
            self.rows.remove(&record.key);
        }
    }

    /// Writes a fact. One from which nothing follows gives way to an earlier one of the same life about the same
    /// attempt; any other takes its place.
    fn add(&mut self, life: LifeId, record: &Record, follows: Follows) {
        let fact = Fact { cycle: record.turn.cycle, number: record.turn.number, life, follows };
        let Some(notification) = self.notifications.get_mut(&record.key) else { return };
        let same = |other: &Fact| (other.cycle, other.number, other.life) == (fact.cycle, fact.number, fact.life);
        match notification.facts.iter().position(same) {
            Some(_) if follows == Follows::Nothing => {}
            Some(at) => notification.facts[at] = fact,
            None => notification.facts.push(fact),
        }
    }
}
