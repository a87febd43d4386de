//! What a comparison found: a line for each round, medians side by side, and all of it as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use crate::measure::Round;
use crate::metrics::{METRICS, Metric};
use crate::probe::Machine;
use crate::subject::Kind;
use crate::units::{cpu_text, grouped, median, micros_text};

/// A whole comparison.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    machine: Machine,
    connections: usize,
    seconds: u64,
    medians: Vec<Medians>,
    rounds: Vec<Round>,
}

/// The medians of all rounds with one number of partners.
#[derive(Serialize)]
struct Medians {
    partners: usize,
    rounds: usize,
    metrics: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    metric: &'static str,
    relay: f64,
    product: f64,
    /// Product divided by relay; null when the relay's figure is 0.
    ratio: Option<f64>,
    #[serde(skip)]
    label: &'static str,
    #[serde(skip)]
    text: fn(f64) -> String,
}

impl Report {
    /// Sets the medians of `rounds` side by side, for each number of partners in the order measured.
    pub(crate) fn new(machine: Machine, connections: usize, seconds: u64, rounds: Vec<Round>) -> Self {
        let mut numbers: Vec<usize> = rounds.iter().map(|round| round.partners).collect();
        numbers.dedup();
        let medians = numbers.into_iter().map(|partners| Medians::new(partners, &rounds)).collect();
        Self { machine, connections, seconds, medians, rounds }
    }

    /// Accepted events that never arrived, in all rounds.
    pub(crate) fn missing(&self) -> u64 {
        self.rounds.iter().map(|round| round.measured.missing).sum()
    }

    /// The medians for people.
    pub(crate) fn table(&self) -> String {
        let mut out = format!("{}\n", self.machine);
        for medians in &self.medians {
            // Writing to a `String` cannot fail.
            let _ = writeln!(
                out,
                "\n{} partner(s), {} connections; medians of {} round(s) of {} s\n{:<24} {:>12} {:>12} {:>14}",
                medians.partners,
                self.connections,
                medians.rounds,
                self.seconds,
                "",
                "relay",
                "product",
                "product/relay"
            );
            for row in &medians.metrics {
                let ratio = row.ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
                let (relay, product) = ((row.text)(row.relay), (row.text)(row.product));
                let _ = writeln!(out, "{:<24} {relay:>12} {product:>12} {ratio:>14}", row.label);
            }
        }
        let total = |count: fn(&Round) -> u64| self.rounds.iter().map(count).sum::<u64>();
        let _ = writeln!(
            out,
            "\nin all rounds: {} accepted, {} refused, {} duplicate deliveries, {} lost",
            grouped(total(|round| round.measured.accepted) as f64),
            total(|round| round.measured.refused.values().sum()),
            total(|round| round.measured.duplicates),
            self.missing()
        );
        out
    }
}

impl Medians {
    fn new(partners: usize, rounds: &[Round]) -> Self {
        let of = |kind: Kind| -> Vec<&Round> {
            rounds.iter().filter(|round| round.partners == partners && round.subject == kind).collect()
        };
        let (relay, product) = (of(Kind::Relay), of(Kind::Product));
        let row = |metric: &Metric| {
            let median_of =
                |rounds: &[&Round]| median(rounds.iter().map(|round| (metric.value)(&round.measured)).collect());
            let (relay, product) = (median_of(&relay), median_of(&product));
            let ratio = (relay > 0.0).then(|| product / relay);
            Row { metric: metric.key, relay, product, ratio, label: metric.label, text: metric.text }
        };
        Self { partners, rounds: relay.len().max(product.len()), metrics: METRICS.iter().map(row).collect() }
    }
}

/// One line about a round that has just ended.
pub(crate) fn progress(round: &Round, rounds: u32) -> String {
    let lost = if round.measured.missing > 0 { format!("  LOST {}", round.measured.missing) } else { String::new() };
    format!(
        "round {}/{rounds}  {:>4} partner(s)  {:<7}  accepted {:>7}/s  delivered {:>7}/s  accept p99 {:>9}  \
         end to end p99 {:>9}  cpu {:>8}/event{lost}",
        round.round,
        round.partners,
        round.subject,
        grouped(round.measured.accepted_per_second),
        grouped(round.measured.delivered_per_second),
        micros_text(round.measured.accept_p99 as f64),
        micros_text(round.measured.end_to_end_p99 as f64),
        cpu_text(round.measured.cpu_per_event),
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::measure::Measured;

    fn round(subject: Kind, number: usize, rate: f64) -> Round {
        Round {
            subject,
            partners: 1,
            round: number,
            measured: Measured {
                accepted: 1_000,
                refused: BTreeMap::new(),
                missing: 0,
                duplicates: 0,
                accepted_per_second: rate,
                delivered_per_second: rate,
                accept_p50: 900,
                accept_p99: 2_000,
                end_to_end_p50: 1_000,
                end_to_end_p99: 3_000,
                cpu_per_event: 25.0,
                written_per_event: 0.0,
                peak_memory: 10 << 20,
                database: None,
                fsync_p50: 400,
                fsync_p99: 900,
                taken: 0.0,
            },
        }
    }

    #[test]
    fn the_table_sets_medians_side_by_side() {
        let rates =
            [(Kind::Relay, 40_000.0), (Kind::Relay, 50_000.0), (Kind::Relay, 90_000.0), (Kind::Product, 20_000.0)];
        let rounds = rates.iter().enumerate().map(|(number, (kind, rate))| round(*kind, number, *rate)).collect();
        let report = Report::new(Machine::default(), 64, 8, rounds);
        let table = report.table();
        let line = table.lines().find(|line| line.starts_with("accepted events/s")).unwrap();
        assert_eq!(line.split_whitespace().collect::<Vec<_>>(), ["accepted", "events/s", "50,000", "20,000", "0.40"]);
        let width = |line: &str| line.chars().count();
        let rows: Vec<&str> = table.lines().skip(3).take(METRICS.len() + 1).collect();
        assert!(rows.iter().all(|row| width(row) == width(rows[0])), "{table}");
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["medians"][0]["metrics"][0]["ratio"], 0.4);
        assert_eq!(json["rounds"][3]["subject"], "product");
    }
}
