//! What must be so in the end.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::freeing;
use crate::in_force;
use crate::ledger::{Broken, Event, Kind, Millis, Seen, Span};
use crate::report::Report;
use crate::trace::{Attempt, Freed, Life, Trace};

/// The first attempt and five retries.
const MOST_ATTEMPTS: usize = 6;
/// Over a file: what a delivery and its record may take, apart from faults. One that a fault meets within this time may be
/// unrecorded.
const IN_FLIGHT: Duration = Duration::from_secs(3);
/// What a dead life held is free so long after its lease.
const FREED_AFTER: Duration = Duration::from_secs(5);
/// A request lies with the receiver before it is read and noted: after an attempt that was answered no longer than the
/// store's clock may lag on a node, and after one that was not, or whose process is gone, a little longer.
const LAG: Millis = 1_000;
pub(crate) const LATE: Millis = 2_000;
/// Times are noted in whole milliseconds.
const ROUNDING: Millis = 2;

/// What is known beside what was seen from outside.
pub(crate) enum Evidence {
    /// Over a file: the recorded attempts of what came more than once, by the notification's id.
    File(HashMap<String, Vec<Attempt>>),
    Database(Trace),
}

/// Whether every accepted event has arrived.
pub(crate) fn missing(seen: &Seen) -> usize {
    seen.events.values().filter(|event| event.accepted.is_some() && event.deliveries.is_empty()).count()
}

/// Users and ids of what came more than once, or by older settings: the attempts of these must be known to judge.
pub(crate) fn repeated(seen: &Seen) -> Vec<(String, String)> {
    let suspects = in_force::suspects(seen);
    let wanted = seen.events.iter().filter(|(_, event)| {
        event.deliveries.len() > 1 || event.deliveries.iter().any(|delivery| suspects.contains(&delivery.id))
    });
    wanted.map(|(user, event)| (user.clone(), event.deliveries[0].id.clone())).collect()
}

/// Judges what was seen. `lease` is that of the nodes, of which there are so many.
pub(crate) fn judge(seen: &Seen, evidence: &Evidence, lease: Duration, nodes: usize) -> Result<Report> {
    let mut report = Report::new(seen);
    for taken in &seen.taken {
        let lie = seen.away.iter().find(|away| taken.is_within(**away));
        ensure!(lie.is_none(), "an event was taken at {taken:?} while the database was away: {lie:?}");
    }
    let excuses = match evidence {
        Evidence::File(_) => HashMap::new(),
        Evidence::Database(trace) => excuses(seen, trace, lease, nodes, &mut report)?,
    };
    let attempts_of = |id: &str| {
        let attempts = match evidence {
            Evidence::File(attempts) => attempts.get(id),
            Evidence::Database(trace) => trace.attempts.get(id),
        };
        attempts.map(Vec::as_slice).unwrap_or_default()
    };
    report.in_force = in_force::judge(seen, attempts_of)?;
    for (user, event) in &seen.events {
        let id = event.deliveries.first().map(|delivery| delivery.id.as_str()).unwrap_or_default();
        one(user, event, &mut report)?;
        let attempts = attempts_of(id);
        within_schedule(user, attempts)?;
        if event.deliveries.len() < 2 {
            continue;
        }
        let left = unrecorded(event, attempts);
        let excused = match evidence {
            Evidence::File(_) => near_a_fault(seen, left),
            Evidence::Database(_) => of_the_dead(left, excuses.get(id).map(Vec::as_slice).unwrap_or_default()),
        };
        let excused = excused.with_context(|| format!("{user}, {id}; its attempts: {attempts:?}"))?;
        excused.into_iter().for_each(|kind| report.repeated(kind));
    }
    Ok(report)
}

fn one(user: &str, event: &Event, report: &mut Report) -> Result<()> {
    let ids: BTreeSet<&String> = event.deliveries.iter().map(|delivery| &delivery.id).chain(&event.accepted).collect();
    ensure!(ids.len() <= 1, "{user} came under several ids: {ids:?}");
    ensure!(event.accepted.is_none() || !event.deliveries.is_empty(), "{user} was accepted and never delivered");
    report.event(event);
    Ok(())
}

fn within_schedule(user: &str, attempts: &[Attempt]) -> Result<()> {
    let mut cycles = BTreeMap::<u64, usize>::new();
    for attempt in attempts {
        *cycles.entry(attempt.cycle).or_default() += 1;
    }
    let most = cycles.values().max().copied().unwrap_or_default();
    // An attempt may be recorded by several lives under one number, so more than the schedule is found by the trace.
    ensure!(most <= 2 * MOST_ATTEMPTS, "{user} has {most} recorded attempts in one cycle");
    Ok(())
}

/// The deliveries that no record explains; each record explains one.
fn unrecorded(event: &Event, attempts: &[Attempt]) -> Vec<Millis> {
    let moments = event.deliveries.iter().map(|delivery| delivery.at).collect();
    explain(moments, &attempts.iter().map(window).collect::<Vec<_>>()).1
}

/// When the receiver may have noted the delivery of a recorded attempt.
pub(crate) fn window(attempt: &Attempt) -> Span {
    Span {
        from: attempt.ran.from.saturating_sub(ROUNDING),
        until: attempt.ran.until + if attempt.answered { LAG } else { LATE },
    }
}

/// Gives each span at most one of the moments within it, so that as few as possible are left. The spans that got one, and
/// the moments that are left.
fn explain(mut moments: Vec<Millis>, spans: &[Span]) -> (Vec<usize>, Vec<Millis>) {
    moments.sort_unstable();
    let mut order: Vec<usize> = (0..spans.len()).collect();
    // The span that ends first takes the first moment that it can: whatever else could take it ends later.
    order.sort_by_key(|place| spans[*place].until);
    let mut used = Vec::new();
    for place in order {
        let Span { from, until } = spans[place];
        if let Some(found) = moments.iter().position(|moment| (from..=until).contains(moment)) {
            moments.remove(found);
            used.push(place);
        }
    }
    (used, moments)
}

/// When a delivery without a record may have been made, and by what kind of fault it lost its record.
type Excuse = (Span, Kind);

/// What each row that a dead life held excuses: one delivery, after its turn was due and before the life was over. Checks on
/// the way that the rows were free in time.
fn excuses(
    seen: &Seen,
    trace: &Trace,
    lease: Duration,
    nodes: usize,
    report: &mut Report,
) -> Result<HashMap<String, Vec<Excuse>>> {
    let most = millis(lease + FREED_AFTER);
    let mut excuses = HashMap::<String, Vec<Excuse>>::new();
    let mut over = BTreeSet::new();
    for (id, freed) in trace.freed.iter().flat_map(|(id, rows)| rows.iter().map(move |freed| (id, freed))) {
        let life = trace.lives.get(freed.life).context("the life of a row is known")?;
        let broken = breaking(&seen.broken, life);
        let kind = broken.map_or(Kind::CutFromDatabase, |broken| broken.kind);
        if over.insert(freed.life) {
            report.ended(kind);
        }
        if let Some(broken) = broken {
            let took = freeing::took(&seen.disturbed, nodes, broken.at.max(freed.accepted_at), freed.at);
            report.took(kind, took);
            ensure!(took <= most, "{id} of the life {} was free only {took} ms after its end: {freed:?}", life.id);
        }
        let span = last_delivery(life, broken, *freed);
        report.held(kind, span.is_some());
        if let Some(span) = span {
            excuses.entry(id.clone()).or_default().push((span, kind));
        }
    }
    Ok(excuses)
}

/// When the life may have delivered the turn that it held in the end; `None` if that was not due yet.
fn last_delivery(life: &Life, broken: Option<&Broken>, freed: Freed) -> Option<Span> {
    let ended = life.ended.unwrap_or(freed.at);
    let until = match broken {
        Some(Broken { kind: Kind::Kill, at, .. }) => *at,
        // What was in flight when it was stopped goes on when the process does.
        Some(broken) => broken.until.max(ended),
        None => ended,
    };
    let from = life.begun.max(freed.due);
    (from <= until).then(|| Span { from: from.saturating_sub(ROUNDING), until: until + LATE })
}

/// What broke a life: the fault during which it was ended, or after which, if it was killed.
fn breaking<'a>(broken: &'a [Broken], life: &Life) -> Option<&'a Broken> {
    let mut of_it = broken.iter().filter(|broken| broken.life == life.id);
    of_it.rfind(|broken| life.ended.is_none_or(|ended| broken.at <= ended && ended <= broken.until))
}

fn of_the_dead(left: Vec<Millis>, excuses: &[Excuse]) -> Result<Vec<Kind>> {
    let spans: Vec<Span> = excuses.iter().map(|(span, _)| *span).collect();
    let (used, left) = explain(left, &spans);
    ensure!(left.is_empty(), "delivered at {left:?} with neither a record nor a dead life: {excuses:?}");
    Ok(used.into_iter().map(|place| excuses[place].1).collect())
}

fn near_a_fault(seen: &Seen, left: Vec<Millis>) -> Result<Vec<Kind>> {
    let loses = || seen.faults.iter().filter(|(kind, _)| *kind != Kind::CutFromReceiver);
    left.into_iter()
        .map(|at| {
            let moment = Span { from: at, until: at }.widened(IN_FLIGHT);
            let fault = loses().find(|(_, span)| span.meets(moment));
            fault.map(|(kind, _)| *kind).with_context(|| format!("delivered at {at} with neither a record nor a fault"))
        })
        .collect()
}

fn millis(time: Duration) -> Millis {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Delivery;

    const LEASE: Duration = Duration::from_secs(3);

    fn delivery(id: &str, at: u64) -> Delivery {
        Delivery { id: id.to_owned(), at, settings: 0, second: at / 1000 }
    }

    fn seen(deliveries: &[u64], faults: &[(Kind, u64)]) -> Seen {
        let delivered = deliveries.iter().map(|at| delivery("id", *at)).collect();
        let event = Event { accepted: Some("id".to_owned()), deliveries: delivered };
        let faults = faults.iter().map(|(kind, at)| (*kind, Span { from: *at, until: *at })).collect();
        Seen { events: [("u".to_owned(), event)].into(), faults, ..Seen::default() }
    }

    fn attempts(ran: &[(u64, u64)]) -> HashMap<String, Vec<Attempt>> {
        let attempt =
            |(from, until): &(u64, u64)| Attempt { cycle: 1, ran: Span { from: *from, until: *until }, answered: true };
        [("id".to_owned(), ran.iter().map(attempt).collect())].into()
    }

    /// A life that began at 10 s, was killed at 100 s, and held one row, due at `due`, that was free at `freed`.
    fn killed(deliveries: &[u64], due: u64, freed: u64) -> (Seen, Evidence) {
        let mut seen = seen(deliveries, &[]);
        seen.broken.push(Broken { life: "l".to_owned(), kind: Kind::Kill, at: 100_000, until: Millis::MAX });
        let row = Freed { life: 0, due, accepted_at: 50_000, at: freed };
        let lives = vec![Life { id: "l".to_owned(), begun: 10_000, ended: Some(103_000) }];
        let freed = [("id".to_owned(), vec![row])].into();
        (seen, Evidence::Database(Trace { lives, freed, attempts: attempts(&[(199_990, 200_001)]) }))
    }

    fn refused(seen: &Seen, evidence: &Evidence, word: &str) {
        let error = format!("{:#}", judge(seen, evidence, LEASE, 2).unwrap_err());
        assert!(error.contains(word), "{error}");
    }

    #[test]
    fn what_was_lost_or_came_under_two_ids_is_found() {
        let mut lost = seen(&[], &[]);
        let nothing = Evidence::File(HashMap::new());
        refused(&lost, &nothing, "never delivered");
        assert_eq!(missing(&lost), 1);
        lost.events.get_mut("u").unwrap().deliveries.push(delivery("other", 1));
        refused(&lost, &nothing, "several ids");
    }

    #[test]
    fn over_a_file_repeats_need_a_record_or_a_fault() {
        let twice = seen(&[100_000, 200_000], &[(Kind::CutFromReceiver, 100_000)]);
        assert_eq!(repeated(&twice), [("u".to_owned(), "id".to_owned())]);
        refused(&twice, &Evidence::File(attempts(&[(199_990, 200_001)])), "neither a record nor a fault");
        let both = Evidence::File(attempts(&[(99_999, 100_001), (199_990, 200_001)]));
        assert_eq!(judge(&twice, &both, LEASE, 1).unwrap().unrecorded(), 0);
        let killed = seen(&[100_000, 200_000], &[(Kind::Kill, 100_500)]);
        let report = judge(&killed, &Evidence::File(attempts(&[(199_990, 200_001)])), LEASE, 1).unwrap();
        assert_eq!(report.unrecorded(), 1);
    }

    #[test]
    fn over_a_database_repeats_need_a_row_that_a_dead_life_held() {
        let (seen, evidence) = killed(&[99_900, 200_000], 99_000, 104_000);
        assert_eq!(judge(&seen, &evidence, LEASE, 2).unwrap().unrecorded(), 1);
        let (seen, evidence) = killed(&[99_900, 200_000], 99_950, 104_000);
        refused(&seen, &evidence, "nor a dead life");
        let (seen, evidence) = killed(&[99_900, 99_901, 200_000], 99_000, 104_000);
        refused(&seen, &evidence, "nor a dead life");
        let (seen, evidence) = killed(&[150_000, 200_000], 99_000, 104_000);
        refused(&seen, &evidence, "nor a dead life");
        let (seen, evidence) = killed(&[99_900, 200_000], 100_500, 104_000);
        refused(&seen, &evidence, "nor a dead life");
    }

    #[test]
    fn what_a_dead_life_held_is_free_in_time() {
        let (mut seen, evidence) = killed(&[200_000], 99_000, 108_001);
        refused(&seen, &evidence, "8001 ms after its end");
        seen.disturbed.push(crate::ledger::Disturbed { node: None, span: Span { from: 100_500, until: 101_000 } });
        judge(&seen, &evidence, LEASE, 2).unwrap();
    }

    #[test]
    fn moments_are_given_to_spans_so_that_few_are_left() {
        let span = |from, until| Span { from, until };
        assert_eq!(explain(vec![1, 5], &[span(0, 9), span(0, 3)]), (vec![1, 0], vec![]));
        assert_eq!(explain(vec![1, 2, 5], &[span(0, 3), span(4, 4)]), (vec![0], vec![2, 5]));
    }

    #[test]
    fn nothing_is_taken_while_the_database_is_away() {
        let mut away = seen(&[1], &[]);
        let nothing = Evidence::File(HashMap::new());
        away.away.push(Span { from: 100, until: 200 });
        away.taken.push(Span { from: 90, until: 210 });
        judge(&away, &nothing, LEASE, 1).unwrap();
        away.taken.push(Span { from: 110, until: 120 });
        refused(&away, &nothing, "while the database was away");
    }
}
