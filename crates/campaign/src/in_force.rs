//! Whether a change of settings was in force on all nodes in time.
//!
//! The promise: no attempt that begins more than two seconds after the change was confirmed goes by older settings,
//! whoever makes it. That holds for nodes that stood still or were cut off, too: what they remember is too old to be used.
//! When an attempt began is known from its record, and without one from the whole second that its request names.

use std::cmp::Reverse;

use anyhow::{Result, bail};

use crate::judge::{LATE, window};
use crate::ledger::{Broken, Change, Delivery, Kind, Millis, Seen, Span};
use crate::partners::Partner;
use crate::trace::Attempt;

/// Within this time a change is in force everywhere.
const IN_FORCE: Millis = 2_000;
/// So many records are looked up at most. One late attempt is enough to fail.
const MOST_LOOKED_UP: usize = 500;

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct InForce {
    /// Changes that were confirmed.
    pub(crate) confirmed: usize,
    /// Tries whose answer was lost.
    pub(crate) in_doubt: usize,
    /// Deliveries by older settings after a change was confirmed.
    pub(crate) by_older: usize,
    /// The longest time after which an attempt by older settings still began.
    pub(crate) slowest: Millis,
}

/// The ids of what arrived so late by older settings that its record must tell when it began. The latest come first.
pub(crate) fn suspects(seen: &Seen) -> Vec<String> {
    let mut suspects: Vec<(Millis, &String)> = outdated(seen)
        .map(|(delivery, confirmed)| (delivery.at - confirmed, &delivery.id))
        .filter(|(after, _)| *after > IN_FORCE)
        .collect();
    suspects.sort_by_key(|(after, _)| Reverse(*after));
    suspects.truncate(MOST_LOOKED_UP);
    let mut ids: Vec<String> = suspects.into_iter().map(|(_, id)| id.clone()).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// Judges all deliveries. `attempts` gives what is recorded of a notification.
pub(crate) fn judge<'a>(seen: &Seen, attempts: impl Fn(&str) -> &'a [Attempt]) -> Result<InForce> {
    let confirmed = seen.changes.iter().filter(|change| change.confirmed.is_some()).count();
    let mut found = InForce { confirmed, in_doubt: seen.changes.len() - confirmed, ..InForce::default() };
    let mut stops: Vec<&Broken> = seen.broken.iter().filter(|broken| broken.kind == Kind::Stop).collect();
    for (delivery, confirmed) in outdated(seen) {
        let began =
            if delivery.at > confirmed + IN_FORCE { began(delivery, attempts(&delivery.id)) } else { delivery.at };
        let after = began.saturating_sub(confirmed);
        if after > IN_FORCE {
            // Its process may have been stopped right between the last look at what it remembers and the POST. Two of its
            // threads do not stand in these few microseconds at once.
            match stops.iter().position(|stop| goes_on_with(stop, confirmed + IN_FORCE, delivery.at)) {
                Some(between) => _ = stops.swap_remove(between),
                None => bail!(
                    "{} was attempted {after} ms after other settings were confirmed at {confirmed}: by those of number {}, \
                     and arrived at {}",
                    delivery.id,
                    delivery.settings,
                    delivery.at
                ),
            }
            continue;
        }
        found.by_older += 1;
        found.slowest = found.slowest.max(after);
    }
    Ok(found)
}

/// The deliveries that arrived by settings although later ones had been confirmed, each with the first moment of that.
fn outdated(seen: &Seen) -> impl Iterator<Item = (&Delivery, Millis)> {
    seen.events.iter().flat_map(move |(user, event)| {
        let partner = Partner::of_user(user).name;
        let of_it = move |delivery: &Delivery| {
            let confirmed = superseded(&seen.changes, partner, delivery.settings)?;
            (delivery.at > confirmed).then_some(confirmed)
        };
        event.deliveries.iter().filter_map(move |delivery| Some((delivery, of_it(delivery)?)))
    })
}

/// When it was confirmed that others took the place of a partner's settings of this number.
fn superseded(changes: &[Change], partner: &str, number: u64) -> Option<Millis> {
    let after = changes.partition_point(|change| change.number <= number);
    changes[after..].iter().filter(|change| change.partner == partner).find_map(|change| change.confirmed)
}

/// The first moment at which the attempt of a delivery can have begun.
fn began(delivery: &Delivery, attempts: &[Attempt]) -> Millis {
    let at = Span { from: delivery.at, until: delivery.at };
    let recorded = attempts.iter().filter(|attempt| window(attempt).meets(at)).map(|attempt| attempt.ran.from).min();
    recorded.unwrap_or(delivery.second * 1000)
}

/// Whether a process that was stopped before `limit` went on right before `at`.
fn goes_on_with(stop: &Broken, limit: Millis, at: Millis) -> bool {
    stop.at <= limit && stop.until <= at && at <= stop.until + LATE
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Event;

    /// The first settings, and others that were tried at number 1 and confirmed at 10 s under number 2.
    fn seen(deliveries: &[(u64, Millis)]) -> Seen {
        let delivery = |(settings, at): &(u64, Millis)| Delivery {
            id: "id".to_owned(),
            at: *at,
            settings: *settings,
            second: at / 1000,
        };
        let event = Event { accepted: Some("id".to_owned()), deliveries: deliveries.iter().map(delivery).collect() };
        let change = |partner, number, confirmed| Change { partner, number, confirmed };
        let changes = vec![
            change("well", 1, None),
            change("well", 2, Some(10_000)),
            change("flaky", 3, Some(11_000)),
            change("well", 4, Some(60_000)),
        ];
        Seen { events: [("well-1".to_owned(), event)].into(), changes, ..Seen::default() }
    }

    fn unrecorded(_: &str) -> &'static [Attempt] {
        &[]
    }

    #[test]
    fn older_settings_may_be_used_for_two_seconds() {
        let in_time = seen(&[(0, 9_000), (1, 11_000), (0, 11_900), (2, 50_000), (4, 70_000)]);
        let found = judge(&in_time, unrecorded).unwrap();
        assert_eq!(found, InForce { confirmed: 3, in_doubt: 1, by_older: 2, slowest: 1_900 });
        assert_eq!(suspects(&in_time), [""; 0]);
    }

    #[test]
    fn an_attempt_that_begins_later_is_found() {
        for number in [0, 1] {
            let late = seen(&[(number, 13_500)]);
            assert_eq!(suspects(&late), ["id"]);
            let error = judge(&late, unrecorded).unwrap_err().to_string();
            assert!(error.contains("3000 ms after other settings"), "{error}");
        }
        // Of the same settings, which another partner's do not supersede.
        judge(&seen(&[(2, 13_500)]), unrecorded).unwrap();
        judge(&seen(&[(2, 63_500)]), unrecorded).unwrap_err();
    }

    #[test]
    fn the_record_tells_when_what_arrived_late_had_begun() {
        let record = |from, until| Attempt { cycle: 1, ran: Span { from, until }, answered: true };
        let late = seen(&[(0, 12_300)]);
        let (early, begun_late) = ([record(11_500, 12_301), record(1_000, 1_500)], [record(12_299, 12_301)]);
        assert_eq!(judge(&late, |_| &early).unwrap().slowest, 1_500);
        judge(&late, |_| &begun_late).unwrap_err();
    }

    #[test]
    fn a_stop_excuses_one_attempt_right_after_it() {
        let mut late = seen(&[(0, 15_100)]);
        let stop = |at, until| Broken { life: "l".to_owned(), kind: Kind::Stop, at, until };
        late.broken = vec![stop(11_000, 15_000)];
        judge(&late, unrecorded).unwrap();
        late.broken = vec![stop(12_500, 15_000)];
        judge(&late, unrecorded).unwrap_err();
        late = seen(&[(0, 15_100), (0, 15_200)]);
        late.broken = vec![stop(11_000, 15_000)];
        judge(&late, unrecorded).unwrap_err();
    }
}
