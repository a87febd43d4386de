//! The account of what arrived at the healthy receiver in one phase of a run.
//!
//! Each arrival is counted twice: by `webhook-id`, to see duplicates as a partner would, and by `benchSequence`, to see
//! losses. What arrives late from an earlier phase is kept apart.

use std::collections::HashMap;
use std::time::Instant;

use hdrhistogram::Histogram;

use crate::event::{Mark, PHASE, unix_micros};
use crate::http1::Message;
use crate::units::histogram;

/// What arrived in one phase.
pub(crate) struct Arrivals {
    first_sequence: u64,
    /// How often each event arrived, by its distance from `first_sequence`; 255 stands for that many or more.
    events: Vec<u8>,
    /// How often each notification arrived.
    pub(super) ids: Ids,
    /// Distinct events.
    pub(crate) distinct: u64,
    /// Requests, whatever they held.
    pub(crate) requests: u64,
    /// Requests without the mark of this phase: late arrivals of an earlier one, or foreign bodies.
    pub(crate) unmarked: u64,
    /// When the last event arrived for the first time.
    pub(crate) last: Option<Instant>,
    /// Microseconds from send to first arrival.
    pub(crate) latency: Histogram<u64>,
}

/// How often each notification arrived, by a 128-bit fingerprint of its `webhook-id`.
#[derive(Default)]
pub(crate) struct Ids(HashMap<u128, u32>);

impl Ids {
    /// Counts the request, if it has a `webhook-id`.
    pub(super) fn record(&mut self, request: &Message<'_>) {
        if let Some(id) = request.header(b"webhook-id") {
            *self.0.entry(fingerprint(id)).or_default() += 1;
        }
    }

    /// Notifications that arrived.
    pub(crate) fn distinct(&self) -> u64 {
        self.0.len() as u64
    }

    /// Requests that repeated a `webhook-id`.
    pub(crate) fn duplicates(&self) -> u64 {
        self.0.values().map(|times| u64::from(times - 1)).sum()
    }
}

impl Arrivals {
    pub(super) fn new(first_sequence: u64) -> Self {
        Self {
            first_sequence,
            events: Vec::new(),
            ids: Ids::default(),
            distinct: 0,
            requests: 0,
            unmarked: 0,
            last: None,
            latency: histogram(),
        }
    }

    /// Whether the event with this number has arrived.
    pub(crate) fn holds(&self, sequence: u64) -> bool {
        self.index(sequence).and_then(|index| self.events.get(index)).is_some_and(|times| *times > 0)
    }

    /// Requests that repeated a `webhook-id`.
    pub(crate) fn duplicates(&self) -> u64 {
        self.ids.duplicates()
    }

    pub(super) fn record(&mut self, request: &Message<'_>) {
        self.requests += 1;
        self.ids.record(request);
        let mark = Mark::read(request.body);
        let Some((index, mark)) = mark.and_then(|mark| Some((self.index(mark.sequence)?, mark))) else {
            self.unmarked += 1;
            return;
        };
        if index >= self.events.len() {
            self.events.resize(index + 1, 0);
        }
        if self.events[index] == 0 {
            self.distinct += 1;
            self.last = Some(Instant::now());
            self.latency.saturating_record(unix_micros().saturating_sub(mark.sent_at));
        }
        self.events[index] = self.events[index].saturating_add(1);
    }

    fn index(&self, sequence: u64) -> Option<usize> {
        let offset = sequence.checked_sub(self.first_sequence).filter(|offset| *offset < PHASE)?;
        usize::try_from(offset).ok()
    }
}

/// FNV-1a in 128 bits: two different ids out of millions do not meet.
fn fingerprint(id: &[u8]) -> u128 {
    id.iter().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, |hash, byte| {
        (hash ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrive(arrivals: &mut Arrivals, id: &str, sequence: u64) {
        let body = format!(r#"{{"benchSequence":"{sequence:012}","benchSentAt":"{:018}"}}"#, unix_micros());
        let text = format!("POST / HTTP/1.1\r\nwebhook-id: {id}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        arrivals.record(&Message::parse(text.as_bytes()).unwrap().unwrap());
    }

    #[test]
    fn duplicates_and_losses_are_seen() {
        let mut arrivals = Arrivals::new(100);
        for (id, sequence) in [("a", 100), ("b", 102), ("a", 100), ("late", 99)] {
            arrive(&mut arrivals, id, sequence);
        }
        assert_eq!((arrivals.requests, arrivals.distinct, arrivals.unmarked), (4, 2, 1));
        assert_eq!((arrivals.duplicates(), arrivals.ids.distinct()), (1, 3));
        assert_eq!([99, 100, 101, 102].map(|sequence| arrivals.holds(sequence)), [false, true, false, true]);
        assert_eq!(arrivals.latency.len(), 2);
    }
}
