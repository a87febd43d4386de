//! What must be so in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::ledger::{Event, Kind, Seen, Span};

/// The first attempt and five retries.
const MOST_ATTEMPTS: usize = 6;
/// What a delivery and its record may take, apart from faults. One that a fault meets within this time may be unrecorded.
pub(crate) const IN_FLIGHT: Duration = Duration::from_secs(3);

/// The recorded attempts of one event: its cycles, and when each attempt ran.
pub(crate) type Recorded = BTreeMap<String, Vec<Attempt>>;

/// One recorded attempt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attempt {
    pub(crate) cycle: u64,
    pub(crate) ran: Span,
}

/// Figures of a campaign that held.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) seed: u64,
    faults: BTreeMap<Kind, usize>,
    accepted: usize,
    deliveries: usize,
    /// Accepted, though no publisher ever heard of it. It repeats until it does, so only at the end.
    unheard: usize,
    /// Deliveries beyond the first of their event.
    repeated: usize,
    /// Of those, how many no attempt was recorded for.
    unrecorded: usize,
    /// How many deliveries were in flight or unrecorded at a fault, at most: the bound.
    bound: usize,
    refused: usize,
    refused_away: usize,
    unanswered: u64,
    ended_by_themselves: u64,
    pub(crate) doctor: String,
}

/// The users whose event came more than once: their attempts must be known to judge.
pub(crate) fn repeated(seen: &Seen) -> Vec<(String, String)> {
    let several = seen.events.iter().filter(|(_, event)| event.deliveries.len() > 1);
    several.map(|(user, event)| (user.clone(), event.deliveries[0].id.clone())).collect()
}

/// Whether every accepted event has arrived.
pub(crate) fn missing(seen: &Seen) -> usize {
    seen.events.values().filter(|event| event.accepted.is_some() && event.deliveries.is_empty()).count()
}

/// Judges what was seen, with the attempts of the events that came more than once.
pub(crate) fn judge(seen: &Seen, recorded: &Recorded) -> Result<Report> {
    let mut report = Report {
        refused: seen.refused.len(),
        refused_away: seen.refused.iter().filter(|span| seen.away.iter().any(|away| span.is_within(*away))).count(),
        unanswered: seen.unanswered,
        ended_by_themselves: seen.ended_by_themselves,
        ..Report::default()
    };
    for (kind, _) in &seen.faults {
        *report.faults.entry(*kind).or_default() += 1;
    }
    for taken in &seen.taken {
        let lie = seen.away.iter().find(|away| taken.is_within(**away));
        ensure!(lie.is_none(), "an event was taken at {taken:?} while the database was away: {lie:?}");
    }
    let loses: Vec<Span> = seen.faults.iter().filter(|(kind, _)| loses_records(*kind)).map(|(_, span)| *span).collect();
    for (user, event) in &seen.events {
        one(user, event, recorded.get(user).map(Vec::as_slice).unwrap_or_default(), &loses, &mut report)?;
    }
    ensure!(report.unrecorded <= report.bound, "more repeats than faults explain: {report}");
    Ok(report)
}

/// Whether a fault of this kind may keep an outcome from being recorded. A cut from the receiver is an outcome itself.
fn loses_records(kind: Kind) -> bool {
    kind != Kind::CutFromReceiver
}

fn one(user: &str, event: &Event, recorded: &[Attempt], loses: &[Span], report: &mut Report) -> Result<()> {
    let ids: BTreeSet<&String> = event.deliveries.iter().map(|delivery| &delivery.id).chain(&event.accepted).collect();
    ensure!(ids.len() <= 1, "{user} came under several ids: {ids:?}");
    ensure!(event.accepted.is_none() || !event.deliveries.is_empty(), "{user} was accepted and never delivered");
    report.accepted += usize::from(event.accepted.is_some());
    report.unheard += usize::from(event.accepted.is_none());
    report.deliveries += event.deliveries.len();
    let mut cycles = BTreeMap::<u64, usize>::new();
    for attempt in recorded {
        *cycles.entry(attempt.cycle).or_default() += 1;
    }
    let most = cycles.values().max().copied().unwrap_or_default();
    ensure!(most <= MOST_ATTEMPTS, "{user} has {most} recorded attempts in one cycle");

    let at_fault = |at| {
        let moment = Span { from: at, until: at }.widened(IN_FLIGHT);
        loses.iter().any(|fault| fault.meets(moment))
    };
    report.bound += event.deliveries.iter().filter(|delivery| at_fault(delivery.at)).count();
    report.repeated += event.deliveries.len().saturating_sub(1);
    if event.deliveries.len() < 2 {
        return Ok(());
    }
    let mut attempts = recorded.to_vec();
    for delivery in &event.deliveries {
        // An attempt runs from before its delivery until after it; each explains one delivery.
        let moment = Span { from: delivery.at, until: delivery.at };
        match attempts.iter().position(|attempt| moment.is_within(attempt.ran.widened(CLOCKS))) {
            Some(found) => _ = attempts.swap_remove(found),
            None => {
                report.unrecorded += 1;
                let at = delivery.at;
                ensure!(
                    at_fault(at),
                    "{user} was delivered at {at}, and no record and no fault explains it: {recorded:?}"
                );
            }
        }
    }
    Ok(())
}

/// Times are noted on both sides of a socket, in whole milliseconds.
const CLOCKS: Duration = Duration::from_millis(2);

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
        writeln!(f, "no answer   {:>10} calls; {} events came that nobody was told of", self.unanswered, self.unheard)?;
        writeln!(
            f,
            "refused     {:>10} calls with 503, {} while the database was away",
            self.refused, self.refused_away
        )?;
        writeln!(f, "repeated    {:>10} deliveries, of them {} without a record", self.repeated, self.unrecorded)?;
        writeln!(f, "bound       {:>10} deliveries were in flight or unrecorded at a fault", self.bound)?;
        write!(f, "doctor      {}", self.doctor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Delivery;

    fn seen(deliveries: &[u64], faults: &[(Kind, u64)]) -> Seen {
        let delivered = deliveries.iter().map(|at| Delivery { id: "id".to_owned(), at: *at }).collect();
        let event = Event { accepted: Some("id".to_owned()), deliveries: delivered };
        let faults = faults.iter().map(|(kind, at)| (*kind, Span { from: *at, until: *at })).collect();
        Seen { events: [("u".to_owned(), event)].into(), faults, ..Seen::default() }
    }

    fn recorded(attempts: &[(u64, u64)]) -> Recorded {
        let attempt = |(from, until): &(u64, u64)| Attempt { cycle: 1, ran: Span { from: *from, until: *until } };
        [("u".to_owned(), attempts.iter().map(attempt).collect())].into()
    }

    fn refused(seen: &Seen, recorded: &Recorded, word: &str) {
        let error = judge(seen, recorded).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }

    #[test]
    fn what_was_lost_or_came_under_two_ids_is_found() {
        let mut lost = seen(&[], &[]);
        refused(&lost, &Recorded::new(), "never delivered");
        assert_eq!(missing(&lost), 1);
        lost.events.get_mut("u").unwrap().deliveries.push(Delivery { id: "other".to_owned(), at: 1 });
        refused(&lost, &Recorded::new(), "several ids");
    }

    #[test]
    fn repeats_need_a_record_or_a_fault() {
        let twice = seen(&[100_000, 200_000], &[(Kind::CutFromReceiver, 100_000)]);
        assert_eq!(repeated(&twice), [("u".to_owned(), "id".to_owned())]);
        refused(&twice, &recorded(&[(199_990, 200_001)]), "no record and no fault");
        let report = judge(&twice, &recorded(&[(99_999, 100_001), (199_990, 200_001)])).unwrap();
        assert_eq!((report.repeated, report.unrecorded, report.bound), (1, 0, 0));
        let killed = seen(&[100_000, 200_000], &[(Kind::Kill, 100_500)]);
        let report = judge(&killed, &recorded(&[(199_990, 200_001)])).unwrap();
        assert_eq!((report.repeated, report.unrecorded, report.bound), (1, 1, 1));
    }

    #[test]
    fn no_cycle_has_more_attempts_than_the_schedule() {
        let many: Vec<(u64, u64)> = (0..7).map(|number| (number * 10, number * 10 + 5)).collect();
        refused(&seen(&[1, 11], &[]), &recorded(&many), "7 recorded attempts");
    }

    #[test]
    fn nothing_is_taken_while_the_database_is_away() {
        let mut away = seen(&[1], &[]);
        away.away.push(Span { from: 100, until: 200 });
        away.taken.push(Span { from: 90, until: 210 });
        away.refused.push(Span { from: 110, until: 120 });
        assert_eq!(judge(&away, &Recorded::new()).unwrap().refused_away, 1);
        away.taken.push(Span { from: 110, until: 120 });
        refused(&away, &Recorded::new(), "while the database was away");
    }
}
