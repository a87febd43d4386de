//! What a scenario found: tables of figures with every round's value, and verdicts on what was asked.
//!
//! A [`Table`] has a column for each thing that is compared and a row for each figure. Medians are shown; all rounds are
//! kept, for the JSON and for the spread in the plots.

use serde::Serialize;

use crate::measure::Measured;
use crate::metrics::{DATABASE_METRICS, METRICS};
use crate::postgres::PerEvent;
use crate::units::median;

/// All that one scenario found.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Section {
    pub(crate) scenario: &'static str,
    pub(crate) title: &'static str,
    /// What was done, for the reader of the figures.
    pub(crate) about: String,
    pub(crate) tables: Vec<Table>,
    pub(crate) verdicts: Vec<Verdict>,
    #[serde(skip)]
    pub(crate) plots: Vec<Plot>,
    /// What may never happen: losses and duplicates, each with where it happened.
    pub(crate) faults: Vec<String>,
}

/// Figures of several things side by side.
#[derive(Serialize)]
pub(crate) struct Table {
    pub(crate) title: String,
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Row>,
}

/// One figure: its values by column, and within a column by round.
#[derive(Serialize)]
pub(crate) struct Row {
    pub(crate) key: String,
    pub(crate) label: String,
    pub(crate) values: Vec<Vec<f64>>,
    #[serde(skip)]
    pub(crate) text: fn(f64) -> String,
}

/// A bar chart of rows with one unit: a group of bars for each row of each table, a bar for each column.
pub(crate) struct Plot {
    /// The file's name without its ending.
    pub(crate) file: &'static str,
    pub(crate) title: &'static str,
    /// Keys of the rows to show.
    pub(crate) rows: &'static [&'static str],
}

/// What was asked of a figure.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Asked {
    AtLeast(f64),
    AtMost(f64),
}

/// A figure held against what was asked. It is told, and never ends a run: speed depends on the machine.
#[derive(Serialize)]
pub(crate) struct Verdict {
    pub(crate) what: String,
    pub(crate) value: f64,
    pub(crate) asked: Asked,
    #[serde(skip)]
    pub(crate) text: fn(f64) -> String,
}

impl Section {
    /// A section in which nothing was found yet.
    pub(crate) fn new(scenario: &'static str, title: &'static str, about: impl Into<String>) -> Self {
        let about = about.into();
        Self { scenario, title, about, tables: Vec::new(), verdicts: Vec::new(), plots: Vec::new(), faults: Vec::new() }
    }

    /// Asks something of a figure.
    pub(crate) fn ask(&mut self, what: impl Into<String>, value: f64, asked: Asked, text: fn(f64) -> String) {
        self.verdicts.push(Verdict { what: what.into(), value, asked, text });
    }

    /// Adds the usual figures under load, a column for each named series of rounds, and notes losses and duplicates.
    pub(crate) fn add_measured(&mut self, title: &str, series: &[(&str, &[Measured])]) {
        self.add_measured_without(&[], title, series);
    }

    /// The same without some of the figures, where they would mislead.
    pub(crate) fn add_measured_without(&mut self, left_out: &[&str], title: &str, series: &[(&str, &[Measured])]) {
        for (name, rounds) in series {
            for (number, round) in (1..).zip(*rounds) {
                self.note(&format!("{title}, {name}, round {number}"), round.missing, round.duplicates);
            }
        }
        let mut table = Table::new(title, series.iter().map(|(name, _)| *name));
        for metric in METRICS.iter().filter(|metric| !left_out.contains(&metric.key)) {
            let values = series.iter().map(|(_, rounds)| rounds.iter().map(metric.value).collect()).collect();
            table.add(metric.key, metric.label, values, metric.text);
        }
        let databases: Vec<Vec<PerEvent>> =
            series.iter().map(|(_, rounds)| rounds.iter().filter_map(|round| round.database).collect()).collect();
        if databases.iter().any(|rounds| !rounds.is_empty()) {
            for metric in &DATABASE_METRICS {
                let values = databases.iter().map(|rounds| rounds.iter().map(metric.value).collect()).collect();
                table.add(metric.key, metric.label, values, metric.text);
            }
        }
        self.tables.push(table);
    }

    /// Notes losses and duplicates, if there are any.
    pub(crate) fn note(&mut self, place: &str, missing: u64, duplicates: u64) {
        if missing > 0 || duplicates > 0 {
            self.faults.push(format!("{place}: {missing} lost, {duplicates} duplicate deliveries"));
        }
    }
}

impl Table {
    pub(crate) fn new<'a>(title: &str, columns: impl IntoIterator<Item = &'a str>) -> Self {
        let columns = columns.into_iter().map(str::to_owned).collect();
        Self { title: title.to_owned(), columns, rows: Vec::new() }
    }

    /// Adds a figure. `values` has the rounds of each column; a column without any shows nothing.
    pub(crate) fn add(&mut self, key: &str, label: &str, values: Vec<Vec<f64>>, text: fn(f64) -> String) {
        debug_assert_eq!(values.len(), self.columns.len());
        self.rows.push(Row { key: key.to_owned(), label: label.to_owned(), values, text });
    }

    /// The median of a figure in a column; 0 where there is none.
    pub(crate) fn median(&self, key: &str, column: usize) -> f64 {
        let row = self.rows.iter().find(|row| row.key == key);
        row.and_then(|row| row.values.get(column)).map_or(0.0, |values| median(values.clone()))
    }

    /// The median in one column as a multiple of that in another; 0 where there is nothing to divide by.
    pub(crate) fn ratio(&self, key: &str, column: usize, over: usize) -> f64 {
        let base = self.median(key, over);
        if base > 0.0 { self.median(key, column) / base } else { 0.0 }
    }
}

impl Asked {
    /// Whether the value is as asked.
    pub(crate) fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
        }
    }
}

impl Verdict {
    /// The verdict as it is printed.
    pub(crate) fn line(&self) -> String {
        let Self { what, value, asked, text } = self;
        let (bound, wanted) = match asked {
            Asked::AtLeast(bound) => (bound, "at least"),
            Asked::AtMost(bound) => (bound, "at most"),
        };
        let holds = if asked.holds(*value) { "holds" } else { "does not hold" };
        format!("{what}: {}, asked {wanted} {}: {holds}", text(*value), text(*bound))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::times_text;

    #[test]
    fn a_verdict_says_what_was_asked_and_whether_it_holds() {
        let verdict = |value, asked| Verdict { what: "rate".to_owned(), value, asked, text: times_text }.line();
        assert_eq!(verdict(0.62, Asked::AtLeast(0.6)), "rate: 0.62×, asked at least 0.60×: holds");
        assert_eq!(verdict(0.59, Asked::AtLeast(0.6)), "rate: 0.59×, asked at least 0.60×: does not hold");
        assert_eq!(verdict(1.6, Asked::AtMost(1.5)), "rate: 1.60×, asked at most 1.50×: does not hold");
    }

    #[test]
    fn ratios_are_those_of_medians() {
        let mut table = Table::new("t", ["relay", "product"]);
        table.add("rate", "rate", vec![vec![1.0, 4.0, 100.0], vec![2.0]], times_text);
        assert!((table.ratio("rate", 1, 0) - 0.5).abs() < 1e-9);
        assert!(table.ratio("unknown", 1, 0).abs() < 1e-9);
    }

    #[test]
    fn losses_and_duplicates_are_faults() {
        let mut section = Section::new("s", "S", "");
        section.note("round 1", 0, 0);
        section.note("round 2", 1, 0);
        section.note("round 3", 0, 2);
        assert_eq!(
            section.faults,
            ["round 2: 1 lost, 0 duplicate deliveries", "round 3: 0 lost, 2 duplicate deliveries"]
        );
    }
}
