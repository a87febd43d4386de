//! One round: a fresh server, warmed up, loaded for a fixed time, and held to every 202 it gave.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use crate::event::PHASE;
use crate::load::{self, Outcome};
use crate::postgres::PerEvent;
use crate::probe::{self, Beside, Processors};
use crate::sink::Sink;
use crate::source::Limit;
use crate::subject::{Kind, Setup, Subject};
use crate::units::{micros, per_second};

/// After the last arrival the server still notes outcomes; that work belongs to the events and is measured with them.
const SETTLE: Duration = Duration::from_millis(500);

/// How to load a server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) connections: usize,
    pub(crate) warm_up: Duration,
    pub(crate) time: Duration,
    /// Events in a second, or `None` for as many as the server takes.
    pub(crate) rate: Option<f64>,
    /// Events in each request, or `None` to publish one by one.
    pub(crate) batch: Option<usize>,
    /// Whether fsync is timed beside the load, and not only before it.
    pub(crate) fsync_beside: bool,
    /// With no arrival for this long, what is missing counts as lost. Longer than the product's first retry delay.
    pub(crate) patience: Duration,
}

/// One round of the comparison.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Round {
    pub(crate) subject: Kind,
    pub(crate) partners: usize,
    pub(crate) round: usize,
    #[serde(flatten)]
    pub(crate) measured: Measured,
}

/// What was measured under load. Times in microseconds, sizes in bytes.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Measured {
    pub(crate) accepted: u64,
    /// Events that were not accepted, by status or error code.
    pub(crate) refused: BTreeMap<String, u64>,
    /// Accepted with a 202 and never delivered.
    pub(crate) missing: u64,
    /// Deliveries beyond the first of a notification.
    pub(crate) duplicates: u64,
    pub(crate) accepted_per_second: f64,
    pub(crate) delivered_per_second: f64,
    pub(crate) accept_p50: u64,
    pub(crate) accept_p99: u64,
    pub(crate) end_to_end_p50: u64,
    pub(crate) end_to_end_p99: u64,
    pub(crate) cpu_per_event: f64,
    pub(crate) written_per_event: f64,
    pub(crate) peak_memory: u64,
    pub(crate) fsync_p50: u64,
    pub(crate) fsync_p99: u64,
    /// The share of the processors' time that the host took for others (steal).
    pub(crate) taken: f64,
    /// What the database used for each event, where that is the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) database: Option<PerEvent>,
}

/// Runs rounds against one sink, giving each phase sequence numbers of its own.
pub(crate) struct Bench {
    pub(crate) sink: Sink,
    next_sequence: u64,
}

impl Bench {
    /// A bench whose servers deliver to `sink`.
    pub(crate) fn new(sink: Sink) -> Self {
        Self { sink, next_sequence: 0 }
    }

    /// Measures a fresh server.
    pub(crate) async fn fresh(&mut self, kind: Kind, setup: &Setup, load: Load) -> Result<Measured> {
        let mut subject = Subject::start(kind, setup).await?;
        self.measured(&mut subject, load).await
    }

    /// Warms a server up, then measures it under load. Begins when what was written before is on disk.
    pub(crate) async fn measured(&mut self, subject: &mut Subject, load: Load) -> Result<Measured> {
        probe::written_out().await?;
        let fsync = probe::fsync(subject.directory())?;
        if !load.warm_up.is_zero() {
            self.phase(subject, load, load.warm_up).await?;
        }
        let (before, spent, processors) = (subject.usage()?, subject.spent()?, Processors::now()?);
        let beside = load.fsync_beside.then(|| Beside::start(subject.directory()));
        let outcome = self.phase(subject, load, load.time).await;
        // Joined before anything can fail, so that no thread writes into a directory that is going.
        let fsync = beside.map(Beside::finish).transpose()?.unwrap_or(fsync);
        let outcome = outcome?;
        let (after, spent_at_last) = (subject.usage()?, subject.spent()?);

        let accepted = outcome.accepted.len() as u64;
        let arrivals = self.sink.arrivals();
        let missing = outcome.accepted.iter().filter(|sequence| !arrivals.holds(**sequence)).count() as u64;
        if missing > 0 {
            eprintln!("{missing} accepted events never arrived; the server's log ends with:\n{}", subject.log_tail());
        }
        let delivering = arrivals.last.map_or(Duration::ZERO, |last| last.saturating_duration_since(outcome.started));
        let events = accepted.max(1) as f64;
        Ok(Measured {
            accepted,
            refused: outcome.refused,
            missing,
            duplicates: arrivals.duplicates(),
            accepted_per_second: per_second(accepted, outcome.took),
            delivered_per_second: per_second(arrivals.distinct, delivering),
            accept_p50: outcome.latency.value_at_quantile(0.5),
            accept_p99: outcome.latency.value_at_quantile(0.99),
            end_to_end_p50: arrivals.latency.value_at_quantile(0.5),
            end_to_end_p99: arrivals.latency.value_at_quantile(0.99),
            cpu_per_event: micros(after.cpu.saturating_sub(before.cpu)) as f64 / events,
            written_per_event: after.written.saturating_sub(before.written) as f64 / events,
            peak_memory: after.peak_memory,
            fsync_p50: fsync.value_at_quantile(0.5),
            fsync_p99: fsync.value_at_quantile(0.99),
            taken: Processors::now()?.taken_since(&processors),
            database: spent_at_last.zip(spent).map(|(after, before)| after.since(&before, events)),
        })
    }

    /// The number of the first event of a new phase.
    pub(crate) fn next_phase(&mut self) -> u64 {
        let first = self.next_sequence;
        self.next_sequence += PHASE;
        first
    }

    /// Publishes for `time`, then waits until all that was accepted has arrived.
    async fn phase(&mut self, subject: &mut Subject, load: Load, time: Duration) -> Result<Outcome> {
        let first_sequence = self.next_phase();
        let plan = subject.plan(load, Limit::Time(time), first_sequence);
        self.sink.begin(first_sequence);
        let outcome = load::run(&plan).await.map_err(|error| subject.explain(error))?;
        self.sink.wait_for(outcome.accepted.len() as u64, load.patience).await;
        tokio::time::sleep(SETTLE).await;
        Ok(outcome)
    }
}
