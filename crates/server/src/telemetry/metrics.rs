//! Figures for Prometheus. Nothing is counted by person, and labels have few values, all known beforehand. The one
//! exception is a bounded number of partners whose endpoints have been failing for long, by their ids.

use capa_webhooks_core::id::PartnerId;
use capa_webhooks_core::notification::{NotSent, State, Status};
use capa_webhooks_core::outcome::Answer;
use capa_webhooks_core::time::Timestamp;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// One label with a fixed set of values.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

/// A partner as a label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    partner: String,
}

/// What the engine holds.
#[derive(Debug, Clone, Copy)]
pub struct Holds {
    /// Attempts in flight.
    pub in_flight: usize,
    /// Notifications in memory.
    pub held: usize,
    /// What they weigh, in bytes.
    pub bytes: usize,
    /// Outcomes that are being recorded.
    pub unrecorded: usize,
}

/// Every figure of the service.
pub struct Metrics {
    registry: Registry,
    accepted: Counter,
    refused: Family<Kind, Counter>,
    inbox: Family<Kind, Counter>,
    attempts: Family<Kind, Counter>,
    settled: Family<Kind, Counter>,
    retried: Counter,
    manual_retries: Counter,
    attempt_seconds: Histogram,
    in_flight: Gauge,
    held: Gauge,
    held_bytes: Gauge,
    released: Counter,
    waiting: Gauge,
    closed: Family<Kind, Gauge>,
    disk_free: Gauge,
    partners_failing: Gauge,
    partner_failing: Family<Of, Gauge>,
    unrecorded: Gauge,
    pending: Gauge,
    oldest_unsettled: Gauge<f64, AtomicU64>,
    commit_seconds: Histogram,
    commit_rows: Histogram,
    nodes: Gauge,
    heartbeats: Counter,
    lives_ended: Counter,
    freed: Counter,
    fenced: Counter,
    taken_up: Counter,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("capa_webhooks");
        let attempt_seconds = Histogram::new(exponential_buckets(0.001, 2.0, 15));
        let commit_seconds = Histogram::new(exponential_buckets(0.000_1, 2.0, 15));
        let commit_rows = Histogram::new(exponential_buckets(1.0, 2.0, 13));
        let metrics = Self {
            accepted: Counter::default(),
            refused: Family::default(),
            inbox: Family::default(),
            attempts: Family::default(),
            settled: Family::default(),
            retried: Counter::default(),
            manual_retries: Counter::default(),
            attempt_seconds,
            in_flight: Gauge::default(),
            held: Gauge::default(),
            held_bytes: Gauge::default(),
            released: Counter::default(),
            waiting: Gauge::default(),
            closed: Family::default(),
            disk_free: Gauge::default(),
            partners_failing: Gauge::default(),
            partner_failing: Family::default(),
            unrecorded: Gauge::default(),
            pending: Gauge::default(),
            oldest_unsettled: Gauge::default(),
            commit_seconds,
            commit_rows,
            nodes: Gauge::default(),
            heartbeats: Counter::default(),
            lives_ended: Counter::default(),
            freed: Counter::default(),
            fenced: Counter::default(),
            taken_up: Counter::default(),
            registry: Registry::default(),
        };
        registry.register("accepted", "Events made durable", metrics.accepted.clone());
        registry.register("publish_refused", "Events not accepted, by reason", metrics.refused.clone());
        registry.register(
            "inbox",
            "Events published from SQL that this node drained, by what became of them",
            metrics.inbox.clone(),
        );
        registry.register("attempts", "Attempts made, by what came back", metrics.attempts.clone());
        registry.register("settled", "Notifications settled, by status", metrics.settled.clone());
        registry.register("retried", "Automatic retries scheduled", metrics.retried.clone());
        registry.register("manual_retries", "Manual retries granted", metrics.manual_retries.clone());
        registry.register_with_unit(
            "attempt",
            "How long attempts took",
            Unit::Seconds,
            metrics.attempt_seconds.clone(),
        );
        registry.register("in_flight", "Attempts in flight", metrics.in_flight.clone());
        registry.register("held", "Notifications held in memory", metrics.held.clone());
        registry.register_with_unit("held", "What they weigh", Unit::Bytes, metrics.held_bytes.clone());
        registry.register("released", "Notifications given up for want of memory", metrics.released.clone());
        registry.register("waiting", "Events that wait to be stored", metrics.waiting.clone());
        registry.register("closed", "Whether new events are refused (1), by reason", metrics.closed.clone());
        registry.register_with_unit("disk_free", "Free where the store lies", Unit::Bytes, metrics.disk_free.clone());
        registry.register("partners_failing", "Partners whose endpoints fail", metrics.partners_failing.clone());
        registry.register_with_unit(
            "partner_failing_since_timestamp",
            "Since when an endpoint of which the operator was told has been failing",
            Unit::Seconds,
            metrics.partner_failing.clone(),
        );
        registry.register("unrecorded", "Outcomes that are being recorded", metrics.unrecorded.clone());
        registry.register("pending", "Notifications that are not settled", metrics.pending.clone());
        registry.register_with_unit(
            "oldest_unsettled",
            "Age of the oldest notification that is not settled",
            Unit::Seconds,
            metrics.oldest_unsettled.clone(),
        );
        registry.register_with_unit("commit", "How long commits took", Unit::Seconds, metrics.commit_seconds.clone());
        registry.register("commit_rows", "Rows in a commit", metrics.commit_rows.clone());
        registry.register("nodes", "Nodes over the store that are alive, this one included", metrics.nodes.clone());
        registry.register("heartbeats", "Heartbeats that renewed this node's lease", metrics.heartbeats.clone());
        registry.register("lives_ended", "Silent nodes that this one declared dead", metrics.lives_ended.clone());
        registry.register("freed", "Notifications of ended nodes that this one freed", metrics.freed.clone());
        registry.register("fenced", "Attempts put off for want of touch with the store", metrics.fenced.clone());
        registry.register("taken_up", "Notifications taken up after a lost answer", metrics.taken_up.clone());
        Self { registry, ..metrics }
    }
}

impl Metrics {
    /// The figures in the text format of Prometheus.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        _ = text::encode(&mut text, &self.registry);
        text
    }

    /// Events became durable.
    pub fn accepted(&self, count: usize) {
        self.accepted.inc_by(count as u64);
    }

    /// An event became durable and was settled at once, as not sent.
    pub fn not_sent(&self, _: NotSent) {
        self.settled.get_or_create(&Kind { kind: Status::NotSent.as_str() }).inc();
    }

    /// An event was not accepted; `reason` is one of a few fixed words.
    pub fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&Kind { kind: reason }).inc();
    }

    /// So many events that were published from SQL came to this: `accepted`, `repeated` or `refused`.
    pub fn drained(&self, kind: &'static str, count: usize) {
        self.inbox.get_or_create(&Kind { kind }).inc_by(count as u64);
    }

    /// More events wait to be stored.
    pub fn waiting(&self, more: usize) {
        self.waiting.inc_by(signed(more as u64));
    }

    /// Fewer events wait to be stored.
    pub fn waiting_no_more(&self, fewer: usize) {
        self.waiting.dec_by(signed(fewer as u64));
    }

    /// New events are refused for this reason, or no longer.
    pub fn closed(&self, reason: &'static str, closed: bool) {
        self.closed.get_or_create(&Kind { kind: reason }).set(i64::from(closed));
    }

    /// So many bytes are free where the store lies.
    pub fn disk_free(&self, bytes: u64) {
        self.disk_free.set(signed(bytes));
    }

    /// So many endpoints fail.
    pub fn partners_failing(&self, count: usize) {
        self.partners_failing.set(signed(count as u64));
    }

    /// The operator is told that this endpoint has been failing since then.
    pub fn partner_failing(&self, partner: PartnerId, since: Timestamp) {
        self.partner_failing.get_or_create(&Of { partner: partner.to_string() }).set(since.as_seconds());
    }

    /// The figure of this endpoint goes; whether there was one.
    pub fn partner_recovered(&self, partner: PartnerId) -> bool {
        self.partner_failing.remove(&Of { partner: partner.to_string() })
    }

    /// An attempt was made.
    pub fn attempted(&self, answer: &Answer, duration: Duration) {
        let kind = match answer {
            Answer::Response { status: 200..=299, .. } => "2xx",
            Answer::Response { status: 300..=399, .. } => "3xx",
            Answer::Response { status: 400..=499, .. } => "4xx",
            Answer::Response { .. } => "5xx",
            Answer::None(failure) => failure.kind.as_str(),
        };
        self.attempts.get_or_create(&Kind { kind }).inc();
        self.attempt_seconds.observe(duration.as_secs_f64());
    }

    /// An outcome was recorded.
    pub fn recorded(&self, next: State) {
        match next {
            State::Pending(_) => _ = self.retried.inc(),
            State::Settled { end, .. } => {
                self.settled.get_or_create(&Kind { kind: end.status().as_str() }).inc();
            }
        }
    }

    /// A manual retry was granted.
    pub fn manually_retried(&self) {
        self.manual_retries.inc();
    }

    /// What the engine holds.
    pub fn holds(&self, holds: Holds) {
        self.in_flight.set(signed(holds.in_flight as u64));
        self.held.set(signed(holds.held as u64));
        self.held_bytes.set(signed(holds.bytes as u64));
        self.unrecorded.set(signed(holds.unrecorded as u64));
    }

    /// The engine gave up notifications for which it has no room; they are claimed later.
    pub fn released(&self, count: usize) {
        self.released.inc_by(count as u64);
    }

    /// So many nodes are alive.
    pub fn nodes(&self, count: usize) {
        self.nodes.set(signed(count as u64));
    }

    /// A heartbeat renewed the lease, and what it brought was acted on.
    pub fn heartbeat(&self) {
        self.heartbeats.inc();
    }

    /// So many silent nodes were declared dead.
    pub fn lives_ended(&self, count: usize) {
        self.lives_ended.inc_by(count as u64);
    }

    /// So many notifications of lives that have ended were freed, to be sent by whoever claims them.
    pub fn freed(&self, count: u64) {
        self.freed.inc_by(count);
    }

    /// An attempt was put off, because this node has lost touch with the store.
    pub fn fenced(&self) {
        self.fenced.inc();
    }

    /// Notifications were taken up that the store says this node owns, and that it had forgotten.
    pub fn taken_up(&self, count: usize) {
        self.taken_up.inc_by(count as u64);
    }

    /// What is still to be done.
    pub fn backlog(&self, pending: u64, oldest: Duration) {
        self.pending.set(signed(pending));
        self.oldest_unsettled.set(oldest.as_secs_f64());
    }

    /// A transaction was committed.
    pub fn committed(&self, rows: usize, took: Duration) {
        self.commit_seconds.observe(took.as_secs_f64());
        self.commit_rows.observe(f64::from(u32::try_from(rows).unwrap_or(u32::MAX)));
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_appear_under_their_names() {
        let metrics = Metrics::default();
        metrics.accepted(3);
        metrics.refused("overloaded");
        metrics.backlog(2, Duration::from_millis(1500));
        let text = metrics.encode();
        for line in [
            "capa_webhooks_accepted_total 3",
            "capa_webhooks_publish_refused_total{kind=\"overloaded\"} 1",
            "capa_webhooks_pending 2",
            "capa_webhooks_oldest_unsettled_seconds 1.5",
            "capa_webhooks_in_flight 0",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
