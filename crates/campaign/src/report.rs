//! Figures of a campaign that held.

use std::collections::BTreeMap;
use std::fmt;

use crate::in_force::InForce;
use crate::ledger::{Event, Kind, Millis, Seen};

/// The figures.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) seed: u64,
    pub(crate) doctor: String,
    pub(crate) in_force: InForce,
    faults: BTreeMap<Kind, usize>,
    accepted: usize,
    /// Accepted, though no publisher ever heard of it. It repeats until it does, so only at the end.
    unheard: usize,
    deliveries: usize,
    refused: usize,
    refused_away: usize,
    unanswered: u64,
    retried: u64,
    ended_by_themselves: u64,
    ends: BTreeMap<Kind, Ends>,
}

/// Lives that one kind of fault ended.
#[derive(Debug, Default)]
struct Ends {
    lives: usize,
    /// Rows that they held.
    held: usize,
    /// Of those, the ones whose turn was due: in flight or unrecorded, at most. The bound of what may come again.
    bound: usize,
    /// Deliveries without a record.
    repeated: usize,
    /// The longest time until a row was free.
    took: Millis,
}

impl Report {
    pub(crate) fn new(seen: &Seen) -> Self {
        let mut report = Self {
            refused: seen.refused.len(),
            refused_away: seen.refused.iter().filter(|span| seen.away.iter().any(|away| span.is_within(*away))).count(),
            unanswered: seen.unanswered,
            retried: seen.retried,
            ended_by_themselves: seen.ended_by_themselves,
            ..Self::default()
        };
        for (kind, _) in &seen.faults {
            *report.faults.entry(*kind).or_default() += 1;
        }
        report
    }

    pub(crate) fn event(&mut self, event: &Event) {
        self.accepted += usize::from(event.accepted.is_some());
        self.unheard += usize::from(event.accepted.is_none());
        self.deliveries += event.deliveries.len();
    }

    /// A fault of this kind ended a life that held something.
    pub(crate) fn ended(&mut self, kind: Kind) {
        self.ends.entry(kind).or_default().lives += 1;
    }

    /// Such a life held a row, whose turn was `due` or not.
    pub(crate) fn held(&mut self, kind: Kind, due: bool) {
        let ends = self.ends.entry(kind).or_default();
        ends.held += 1;
        ends.bound += usize::from(due);
    }

    pub(crate) fn took(&mut self, kind: Kind, took: Millis) {
        let ends = self.ends.entry(kind).or_default();
        ends.took = ends.took.max(took);
    }

    /// A delivery without a record, whose record a fault of this kind took.
    pub(crate) fn repeated(&mut self, kind: Kind) {
        self.ends.entry(kind).or_default().repeated += 1;
    }

    /// All deliveries without a record.
    pub(crate) fn unrecorded(&self) -> usize {
        self.ends.values().map(|ends| ends.repeated).sum()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |kind| self.faults.get(&kind).copied().unwrap_or_default();
        let (kills, stops) = (count(Kind::Kill), count(Kind::Stop));
        let (cuts, commits) = (count(Kind::CutFromDatabase), count(Kind::CutAtCommit));
        let (receiver, restarts, failovers) =
            (count(Kind::CutFromReceiver), count(Kind::Restart), count(Kind::FailOver));
        writeln!(f, "seed        {:>10}", self.seed)?;
        writeln!(f, "nodes       {kills:>10} kills, {stops} stops; {} ended by themselves", self.ended_by_themselves)?;
        writeln!(f, "cuts        {cuts:>10} from the database, {commits} at a commit, {receiver} from the receiver")?;
        writeln!(f, "database    {restarts:>10} restarts, {failovers} failovers")?;
        writeln!(f, "events      {:>10} accepted, all delivered, in {} deliveries", self.accepted, self.deliveries)?;
        writeln!(f, "by hand     {:>10} retries", self.retried)?;
        let InForce { confirmed, in_doubt, by_older, slowest } = &self.in_force;
        writeln!(
            f,
            "settings    {confirmed:>10} changes, {in_doubt} tries without an answer; {by_older} deliveries by older ones \
             afterwards, none begun later than {slowest} ms"
        )?;
        writeln!(f, "no answer   {:>10} calls; {} events came that nobody was told of", self.unanswered, self.unheard)?;
        writeln!(
            f,
            "refused     {:>10} calls with 503, {} while the database was away",
            self.refused, self.refused_away
        )?;
        writeln!(f, "repeated    {:>10} deliveries without a record", self.unrecorded())?;
        for (kind, Ends { lives, held, bound, repeated, took }) in &self.ends {
            writeln!(
                f,
                "  {:<16} {lives:>4} lives held {held} rows, {bound} in flight or unrecorded: {repeated} came again; \
                 free after {took} ms at most",
                format!("{kind:?}")
            )?;
        }
        write!(f, "doctor      {}", self.doctor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lives_left_behind_is_told_by_kind() {
        let mut report = Report::new(&Seen::default());
        report.ended(Kind::Kill);
        report.held(Kind::Kill, true);
        report.held(Kind::Kill, false);
        report.took(Kind::Kill, 7);
        report.took(Kind::Kill, 3);
        report.repeated(Kind::Kill);
        let told = report.to_string();
        assert!(
            told.contains("1 lives held 2 rows, 1 in flight or unrecorded: 1 came again; free after 7 ms"),
            "{told}"
        );
    }
}
