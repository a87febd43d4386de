//! One hostile request, what must come back, and the judgement.

use super::wire::{Answer, Ask, Then};
use crate::harness::details_of;
use serde_json::{Value, json};

/// Stands in values that no answer and no log may repeat.
pub(super) const MARK: &str = "hush-4711";

/// A status with its code and its message.
pub(super) type Kind = (u16, &'static str, &'static str);

pub(super) const INVALID: Kind = (400, "INVALID_USER_INPUT_ERROR", "Invalid User Input");
pub(super) const MISSING: Kind = (401, "UNAUTHORIZED", "API Key is missing");
pub(super) const MALFORMED: Kind = (401, "UNAUTHORIZED", "Invalid API Key format");
pub(super) const UNKNOWN: Kind = (401, "UNAUTHORIZED", "Invalid API Key");
pub(super) const DISABLED: Kind = (403, "INVALID_PARTNER_FLOW", "The partner has an invalid flow.");
pub(super) const SCOPE: Kind = (403, "FORBIDDEN", "The API Key lacks a scope");
pub(super) const NO_ROUTE: Kind = (404, "NOT_FOUND", "Route not found");
pub(super) const NO_NOTIFICATION: Kind = (404, "NOT_FOUND", "Webhook notification not found");
pub(super) const NO_PARTNER: Kind = (404, "NOT_FOUND", "Partner not found");
pub(super) const NO_KEY: Kind = (404, "NOT_FOUND", "API Key not found");
pub(super) const NO_METHOD: Kind = (405, "METHOD_NOT_ALLOWED", "Method not allowed");
pub(super) const OTHER_EVENT: Kind = (409, "CONFLICT", "The idempotency key was used with another event");
pub(super) const TOO_LARGE: Kind = (413, "PAYLOAD_TOO_LARGE", "Payload too large");
pub(super) const NOT_JSON: Kind = (415, "UNSUPPORTED_MEDIA_TYPE", "Unsupported media type");
pub(super) const HEAD_TOO_LARGE: Kind = (431, "REQUEST_HEADER_FIELDS_TOO_LARGE", "Request header fields too large");

/// What must come back.
#[derive(Debug, Clone)]
enum Expected {
    /// One refusal with exactly this detail: its field, and words of its problem. None for a refusal without details.
    Refused(Kind, Option<(String, String)>),
    /// One good answer; the request is odd, and still right.
    Good(u16),
    /// The end of the connection and nothing else.
    Silence,
    /// Good answers to so many requests, then one refusal, then the end.
    GoodThenRefused(usize, Kind),
    /// 400 with so many details.
    Several(usize),
    /// A refusal with any detail.
    AtLeastOne(Kind),
    /// 202 for a batch of one, whose item is refused with this code and detail.
    Item(&'static str, String, String),
}

/// One hostile request.
#[derive(Debug, Clone)]
pub(super) struct Probe {
    target: String,
    bytes: Vec<u8>,
    then: Then,
    expected: Expected,
}

impl Probe {
    /// Refused, with one detail of `field` whose problem holds `words`.
    pub(super) fn refused(ask: &Ask, kind: Kind, field: &str, words: &str) -> Self {
        Self::new(ask, Expected::Refused(kind, Some((field.to_owned(), words.to_owned()))))
    }

    /// Refused with nothing in `details`: the message says all.
    pub(super) fn refused_plainly(ask: &Ask, kind: Kind) -> Self {
        Self::new(ask, Expected::Refused(kind, None))
    }

    /// 400 with so many details: everything that is wrong is told at once.
    pub(super) fn several(ask: &Ask, details: usize) -> Self {
        Self::new(ask, Expected::Several(details))
    }

    /// Refused, whatever the details say.
    pub(super) fn at_least_one(ask: &Ask, kind: Kind) -> Self {
        Self::new(ask, Expected::AtLeastOne(kind))
    }

    pub(super) fn good(ask: &Ask, status: u16) -> Self {
        Self::new(ask, Expected::Good(status))
    }

    /// A batch of one that is taken in, and whose item is refused.
    pub(super) fn item(ask: &Ask, code: &'static str, field: &str, words: &str) -> Self {
        Self::new(ask, Expected::Item(code, field.to_owned(), words.to_owned()))
    }

    /// Bytes that are refused before they are understood as a request; with the detail of hyper's refusals.
    pub(super) fn unreadable(bytes: impl Into<Vec<u8>>) -> Self {
        Self::raw(bytes, Expected::Refused(INVALID, Some((String::new(), "not valid HTTP/1.1".to_owned()))))
    }

    /// Bytes with a head that is too large.
    pub(super) fn too_much_head(bytes: impl Into<Vec<u8>>) -> Self {
        Self::raw(bytes, Expected::Refused(HEAD_TOO_LARGE, Some((String::new(), "32768 bytes".to_owned()))))
    }

    pub(super) fn silence(bytes: impl Into<Vec<u8>>) -> Self {
        Self::raw(bytes, Expected::Silence)
    }

    pub(super) fn good_then_refused(bytes: impl Into<Vec<u8>>, good: usize, kind: Kind) -> Self {
        Self::raw(bytes, Expected::GoodThenRefused(good, kind))
    }

    pub(super) fn raw_refused(bytes: impl Into<Vec<u8>>, kind: Kind, field: &str, words: &str) -> Self {
        Self::raw(bytes, Expected::Refused(kind, Some((field.to_owned(), words.to_owned()))))
    }

    pub(super) fn then(self, then: Then) -> Self {
        let expected = if then == Then::Leave { Expected::Silence } else { self.expected };
        Self { then, expected, ..self }
    }

    fn new(ask: &Ask, expected: Expected) -> Self {
        Self { target: ask.target().to_owned(), bytes: ask.bytes(), then: Then::Wait, expected }
    }

    fn raw(bytes: impl Into<Vec<u8>>, expected: Expected) -> Self {
        Self { target: String::new(), bytes: bytes.into(), then: Then::Wait, expected }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn way(&self) -> Then {
        self.then
    }

    /// What is wrong about these answers.
    pub(super) fn complaint(&self, answers: &[Answer]) -> Option<String> {
        self.judge(answers).err()
    }

    fn judge(&self, answers: &[Answer]) -> Result<(), String> {
        for answer in answers {
            keeps_to_the_form(answer)?;
        }
        match (&self.expected, answers) {
            (Expected::Silence, []) => Ok(()),
            (Expected::Good(status), [one]) => is_good(one, *status),
            (Expected::Refused(kind, detail), [one]) => {
                let details = self.refusal(one, *kind)?;
                match (detail, details.as_slice()) {
                    (None, []) => Ok(()),
                    (Some((field, words)), [(named, problem)]) if named == field && problem.contains(words) => Ok(()),
                    _ => Err(format!("expected {detail:?} in details, and found {details:?}")),
                }
            }
            (Expected::AtLeastOne(kind), [one]) => match self.refusal(one, *kind)?.as_slice() {
                [] => Err("no details".to_owned()),
                _ => Ok(()),
            },
            (Expected::Several(count), [one]) => {
                let details = self.refusal(one, INVALID)?;
                if details.len() == *count { Ok(()) } else { Err(format!("expected {count} details: {details:?}")) }
            }
            (Expected::GoodThenRefused(count, kind), [good @ .., last]) if good.len() == *count => {
                good.iter().try_for_each(|answer| is_good(answer, 200))?;
                self.refusal(last, *kind).map(drop)
            }
            (Expected::Item(code, field, words), [one]) => {
                is_good(one, 202)?;
                let item = parsed(one)?["data"]["events"][0].clone();
                let details = details_of(&item["details"]);
                let right = details.iter().any(|(named, problem)| named == field && problem.contains(words.as_str()));
                if item["code"] == *code && (right || (details.is_empty() && field.is_empty())) {
                    return Ok(());
                }
                Err(format!("expected an item {code} of {field} with {words:?}, and found {item}"))
            }
            _ => Err(format!("expected {:?}, and {} answers came: {answers:?}", self.expected, answers.len())),
        }
    }

    /// Checks the form of a refusal; gives its details.
    fn refusal(&self, answer: &Answer, (status, code, message): Kind) -> Result<Vec<(String, String)>, String> {
        if answer.status != status {
            return Err(format!("expected {status}, and {} came: {}", answer.status, answer.body));
        }
        let body = parsed(answer)?;
        let details = body["details"].clone();
        let expected = if self.target.starts_with("/api/partner/v1/") {
            json!({"status": "error", "code": code, "message": message, "error": message, "details": details})
        } else {
            json!({"success": false, "code": code, "message": message, "error": message, "details": details})
        }
        .to_string();
        if answer.body != expected {
            return Err(format!("expected {expected}, and found {body}"));
        }
        if status == 405 && answer.header("allow").is_none() {
            return Err("405 without the header allow".to_owned());
        }
        Ok(details_of(&details))
    }
}

/// What every answer keeps to, whatever was asked.
pub(super) fn keeps_to_the_form(answer: &Answer) -> Result<(), String> {
    if answer.status >= 500 || answer.status < 200 || (300..400).contains(&answer.status) {
        return Err(format!("a status that a caller never gets: {} {}", answer.status, answer.body));
    }
    if answer.body.contains(MARK) {
        return Err(format!("the answer repeats a value: {}", answer.body));
    }
    if answer.status >= 400 {
        for (name, value) in [("content-type", "application/json"), ("cache-control", "no-store")] {
            if answer.header(name) != Some(value) {
                return Err(format!("{name} is {:?}", answer.header(name)));
            }
        }
    }
    Ok(())
}

fn is_good(answer: &Answer, status: u16) -> Result<(), String> {
    if answer.status == status {
        Ok(())
    } else {
        Err(format!("expected {status}, and {} came: {}", answer.status, answer.body))
    }
}

fn parsed(answer: &Answer) -> Result<Value, String> {
    serde_json::from_str(&answer.body).map_err(|error| format!("{error}: {:?}", answer.body))
}
