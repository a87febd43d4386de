//! The figures of a round under load: what each is called, how it is taken, and how it reads.

use crate::measure::Measured;
use crate::postgres::PerEvent;
use crate::units::{cpu_text, grouped, micros_text, percent_text};

/// A figure of a round: what it is called, how it is taken, and how it reads.
pub(crate) struct Metric<T = Measured> {
    pub(crate) key: &'static str,
    pub(crate) label: &'static str,
    pub(crate) value: fn(&T) -> f64,
    pub(crate) text: fn(f64) -> String,
}

/// All figures of a round, in the order of the tables.
pub(crate) const METRICS: [Metric; 12] = [
    Metric {
        key: "acceptedPerSecond",
        label: "accepted events/s",
        value: |round| round.accepted_per_second,
        text: grouped,
    },
    Metric {
        key: "deliveredPerSecond",
        label: "delivered events/s",
        value: |round| round.delivered_per_second,
        text: grouped,
    },
    Metric { key: "acceptP50", label: "accept p50", value: |round| round.accept_p50 as f64, text: micros_text },
    Metric { key: "acceptP99", label: "accept p99", value: |round| round.accept_p99 as f64, text: micros_text },
    Metric {
        key: "endToEndP50",
        label: "end to end p50",
        value: |round| round.end_to_end_p50 as f64,
        text: micros_text,
    },
    Metric {
        key: "endToEndP99",
        label: "end to end p99",
        value: |round| round.end_to_end_p99 as f64,
        text: micros_text,
    },
    Metric { key: "cpuPerEvent", label: "server CPU per event", value: |round| round.cpu_per_event, text: cpu_text },
    Metric {
        key: "writtenPerEvent",
        label: "bytes written per event",
        value: |round| round.written_per_event,
        text: grouped,
    },
    Metric {
        key: "peakMemory",
        label: "peak memory (MiB)",
        value: |round| round.peak_memory as f64 / 1_048_576.0,
        text: grouped,
    },
    Metric { key: "fsyncP50", label: "(disk) fsync p50", value: |round| round.fsync_p50 as f64, text: micros_text },
    Metric { key: "fsyncP99", label: "(disk) fsync p99", value: |round| round.fsync_p99 as f64, text: micros_text },
    Metric { key: "taken", label: "(host) took of the CPUs", value: |round| round.taken, text: percent_text },
];

/// What is shown beside them where the store is a database.
pub(crate) const DATABASE_METRICS: [Metric<PerEvent>; 3] = [
    Metric { key: "databaseCpuPerEvent", label: "PostgreSQL CPU per event", value: |used| used.cpu, text: cpu_text },
    Metric {
        key: "databaseLogPerEvent",
        label: "PostgreSQL log per event (bytes)",
        value: |used| used.log,
        text: grouped,
    },
    Metric {
        key: "eventsInTransaction",
        label: "events for each writing transaction",
        value: |used| used.in_transaction,
        text: grouped,
    },
];
