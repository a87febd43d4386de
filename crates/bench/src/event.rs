//! The events that are published: realistic `COMPLETED_ON_RAMP` bodies, each with ids of its own.
//!
//! A request is built once per partner as a [`Template`]; for each event only the parts that differ are overwritten. Two
//! further fields close the body, always at the same distance from its end: `benchSequence`, which finds losses, and
//! `benchSentAt` (Unix microseconds), which lets the sink compute the latency from end to end. The transaction and user
//! ids are spread like random ones, so that an index over them is no cheaper to keep than with real events.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

/// How many sequence numbers each phase of a run keeps for itself, so that late arrivals of another are told apart.
pub(crate) const PHASE: u64 = 50_000_000;

const SEQUENCE_DIGITS: usize = 12;
const SENT_AT_DIGITS: usize = 18;
const SEQUENCE_KEY: &[u8] = b"\"benchSequence\":\"";
const SENT_AT_KEY: &[u8] = b"\",\"benchSentAt\":\"";
const TAIL: usize = SEQUENCE_KEY.len() + SEQUENCE_DIGITS + SENT_AT_KEY.len() + SENT_AT_DIGITS + b"\"}".len();

const BODY: &str = concat!(
    r#"{"type":"TRANSACTION","event":"COMPLETED_ON_RAMP","externalUserId":"customer_uuuuuuuuuuuu","#,
    r#""transactionId":"tttttttt-tttt-tttt-tttt-tttttttttttt","firstName":"Ada","lastName":"Example","#,
    r#""blockchain":"Polygon PoS","cryptoCurrency":"USDC","fiatCurrency":"MXN","fiatAmount":"1250.00","#,
    r#""cryptoAmount":"72.253875","exchangeRate":"17.300119008048114","#,
    r#""benchSequence":"nnnnnnnnnnnn","benchSentAt":"ssssssssssssssssss"}"#
);
const USER: &str = "customer_";
const USER_DIGITS: usize = 12;
const UUID: usize = 36;
const USERS: u64 = 100_000;

/// What the sink reads back from an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The event's number, counted over the life of the load generator.
    pub(crate) sequence: u64,
    /// When it was sent, in Unix microseconds.
    pub(crate) sent_at: u64,
}

impl Mark {
    /// Reads the mark at the end of a delivered body; `None` for a body that no load generator made.
    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        let tail = body.get(body.len().checked_sub(TAIL)?..)?;
        let rest = tail.strip_prefix(SEQUENCE_KEY)?;
        let (sequence, rest) = rest.split_at(SEQUENCE_DIGITS);
        let rest = rest.strip_prefix(SENT_AT_KEY)?;
        let (sent_at, _) = rest.split_at(SENT_AT_DIGITS);
        Some(Self { sequence: digits(sequence)?, sent_at: digits(sent_at)? })
    }
}

/// Microseconds since the Unix epoch: the one clock that a load generator and a sink in two processes share.
pub(crate) fn unix_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// A whole HTTP request with one or more events, in which only ids, number and time are left to fill in.
pub(crate) struct Template {
    bytes: Vec<u8>,
    bodies: Vec<usize>,
    slots: Slots,
}

/// An event by itself, for a store that is filled without a server.
pub(crate) struct Body {
    /// The canonical body.
    pub(crate) json: Vec<u8>,
    pub(crate) user: String,
    pub(crate) transaction: String,
}

impl Body {
    /// The event with this number.
    pub(crate) fn new(sequence: u64) -> Self {
        let slots = Slots::new();
        let mut json = BODY.as_bytes().to_vec();
        slots.fill(&mut json, Mark { sequence, sent_at: 0 });
        let text = |at: usize, length: usize| String::from_utf8_lossy(&json[at..][..length]).into_owned();
        let user = text(slots.user - USER.len(), USER.len() + USER_DIGITS);
        Self { user, transaction: text(slots.transaction, UUID), json }
    }
}

struct Slots {
    user: usize,
    transaction: usize,
    sequence: usize,
    sent_at: usize,
}

impl Template {
    /// A request that publishes one event of `partner`.
    pub(crate) fn single(host: &str, platform_key: &str, partner: &str) -> Self {
        let path = format!("/api/platform/v1/partners/{partner}/events");
        Self::new(host, platform_key, &path, BODY)
    }

    /// A request that publishes `size` events in one batch, taking the partners in turn.
    pub(crate) fn batch(host: &str, platform_key: &str, partners: &[String], size: usize) -> Self {
        let items: Vec<String> = (partners.iter().cycle().take(size))
            .map(|partner| format!(r#"{{"partnerId":"{partner}","payload":{BODY}}}"#))
            .collect();
        let body = format!(r#"{{"events":[{}]}}"#, items.join(","));
        Self::new(host, platform_key, "/api/platform/v1/events", &body)
    }

    fn new(host: &str, platform_key: &str, path: &str, body: &str) -> Self {
        let mut request = String::new();
        // Writing to a `String` cannot fail.
        let _ = write!(
            request,
            "POST {path} HTTP/1.1\r\nhost: {host}\r\nplatform-api-key: {platform_key}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let bodies = request.match_indices(BODY).map(|(at, _)| at).collect();
        Self { bytes: request.into_bytes(), bodies, slots: Slots::new() }
    }

    /// Writes the request into `out`, for the events from `first.sequence` on.
    pub(crate) fn fill(&self, out: &mut Vec<u8>, first: Mark) {
        out.clear();
        out.extend_from_slice(&self.bytes);
        for (sequence, body) in (first.sequence..).zip(&self.bodies) {
            self.slots.fill(&mut out[*body..], Mark { sequence, sent_at: first.sent_at });
        }
    }
}

impl Slots {
    fn new() -> Self {
        let slot = |mark: &str| BODY.find(mark).unwrap_or_default();
        Self {
            user: slot("uuuuuuuuuuuu"),
            transaction: slot("tttttttt-"),
            sequence: slot("nnnnnnnnnnnn"),
            sent_at: slot("ssssssssssssssssss"),
        }
    }

    /// Writes what differs from event to event into a body.
    fn fill(&self, body: &mut [u8], mark: Mark) {
        let (high, low) = (scatter(mark.sequence), scatter(!mark.sequence));
        put_number(&mut body[self.user..][..USER_DIGITS], high % USERS);
        put_uuid(&mut body[self.transaction..][..UUID], high, low);
        put_number(&mut body[self.sequence..][..SEQUENCE_DIGITS], mark.sequence);
        put_number(&mut body[self.sent_at..][..SENT_AT_DIGITS], mark.sent_at);
    }
}

/// Spreads consecutive numbers over all 64 bits (the finaliser of the SplitMix64 generator).
pub(crate) fn scatter(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn put_number(slot: &mut [u8], mut number: u64) {
    for byte in slot.iter_mut().rev() {
        *byte = b"0123456789"[usize::try_from(number % 10).unwrap_or_default()];
        number /= 10;
    }
}

/// Overwrites a UUID's hex digits, leaving the hyphens, with the version 4 mark where it belongs.
fn put_uuid(slot: &mut [u8], high: u64, low: u64) {
    let nibbles = high.to_be_bytes().into_iter().chain(low.to_be_bytes()).flat_map(|byte| [byte >> 4, byte & 15]);
    let hex = nibbles.map(|nibble| b"0123456789abcdef"[usize::from(nibble)]);
    for (byte, digit) in slot.iter_mut().filter(|byte| **byte != b'-').zip(hex) {
        *byte = digit;
    }
    slot[14] = b'4';
    slot[19] = b'a';
}

fn digits(bytes: &[u8]) -> Option<u64> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::Message;

    #[test]
    fn a_filled_request_is_json_and_gives_its_mark_back() {
        let template = Template::single("localhost", "key", "partner-1");
        let mark = Mark { sequence: 42, sent_at: 1_753_744_084_024_123 };
        let mut request = Vec::new();
        template.fill(&mut request, mark);
        let message = Message::parse(&request).unwrap().unwrap();
        let event: serde_json::Value = serde_json::from_slice(message.body).unwrap();
        assert_eq!(event["event"], "COMPLETED_ON_RAMP");
        assert_eq!(event["benchSequence"], "000000000042");
        assert_eq!(event["transactionId"].as_str().unwrap().len(), 36);
        assert_eq!(Mark::read(message.body), Some(mark));
        assert_eq!(Mark::read(b"{}"), None);
    }

    #[test]
    fn a_body_by_itself_is_the_one_that_is_published() {
        let body = Body::new(42);
        let event: serde_json::Value = serde_json::from_slice(&body.json).unwrap();
        assert_eq!(event["externalUserId"], body.user);
        assert_eq!(event["transactionId"], body.transaction);
        assert_eq!(Mark::read(&body.json), Some(Mark { sequence: 42, sent_at: 0 }));
        assert_ne!(Body::new(43).transaction, body.transaction);
    }

    #[test]
    fn every_event_of_a_batch_has_its_own_ids() {
        let partners = ["a".to_owned(), "b".to_owned()];
        let template = Template::batch("localhost", "key", &partners, 3);
        let mut request = Vec::new();
        template.fill(&mut request, Mark { sequence: 7, sent_at: 1 });
        let message = Message::parse(&request).unwrap().unwrap();
        let batch: serde_json::Value = serde_json::from_slice(message.body).unwrap();
        let events = batch["events"].as_array().unwrap();
        let seen: Vec<_> = (events.iter())
            .map(|item| (item["partnerId"].as_str().unwrap(), item["payload"]["benchSequence"].as_str().unwrap()))
            .collect();
        assert_eq!(seen, [("a", "000000000007"), ("b", "000000000008"), ("a", "000000000009")]);
        assert_ne!(events[0]["payload"]["transactionId"], events[1]["payload"]["transactionId"]);
    }
}
