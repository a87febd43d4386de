//! Events: what may be published, and the exact bytes that are stored, signed and delivered.
//!
//! [`canonical`] brings a JSON object into the form that `JSON.stringify(JSON.parse(body))` gives in JavaScript;
//! [`catalogue`] knows the types, events and fields; [`parse`] applies both and gives an [`Event`] or every problem.

pub mod canonical;
pub mod catalogue;

#[cfg(test)]
mod tests;

use crate::problem::{Problem, nearest};
use bytes::Bytes;
use canonical::{Canonical, Value};
use catalogue::{Catalogue, cut};
use std::borrow::Cow;
use std::fmt;

/// The field that holds the type, first in every body.
const TYPE: &str = "type";
/// The field that holds the name of the event, second in every body.
const EVENT: &str = "event";
/// The partner's own id of the user, in every event.
const EXTERNAL_USER_ID: &str = "externalUserId";
/// The id of the transaction, in events of transactions.
const TRANSACTION_ID: &str = "transactionId";

/// The longest id, and the longest other required field, in characters (Unicode scalar values).
pub const MAX_REQUIRED_CHARS: usize = 256;

/// An event in its canonical form.
#[derive(Clone, PartialEq, Eq)]
pub struct Event {
    /// `type`, such as `KYC`.
    pub kind: String,
    /// `event`, such as `VERIFIED_USER`.
    pub name: String,
    /// The canonical body: what is stored, signed and delivered, byte for byte.
    pub body: Bytes,
    /// The partner's own id of the user.
    pub external_user_id: String,
    /// The transaction, where the event is of one.
    pub transaction_id: Option<String>,
}

impl fmt::Debug for Event {
    /// Shows what happened, never to whom.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event").field("kind", &self.kind).field("name", &self.name).finish_non_exhaustive()
    }
}

/// Reads one event: brings it into its canonical form and checks it against the catalogue.
///
/// Fields that the catalogue does not list pass through untouched.
///
/// # Errors
/// Exactly one problem for an input that has no canonical form; otherwise everything that is wrong with the fields.
/// Values are never quoted, except a type or an event that is not known.
pub fn parse(input: &[u8], catalogue: &Catalogue) -> Result<Event, Vec<Problem>> {
    let canonical = canonical::canonicalise(input).map_err(|problem| vec![problem])?;
    let mut check = Check { canonical: &canonical, catalogue, problems: Vec::new() };
    let kind = check.kind();
    let name = check.name(kind.as_deref());
    let (external_user_id, transaction_id) = check.fields(kind.as_deref(), name.as_deref());
    let problems = check.problems;
    match (kind, name, external_user_id) {
        (Some(kind), Some(name), Some(external_user_id)) if problems.is_empty() => Ok(Event {
            kind: kind.into_owned(),
            name: name.into_owned(),
            external_user_id: external_user_id.into_owned(),
            transaction_id: transaction_id.map(Cow::into_owned),
            body: canonical.into_body().into(),
        }),
        _ => Err(problems),
    }
}

/// The checks of one event; each adds what it finds to `problems`.
struct Check<'a> {
    canonical: &'a Canonical,
    catalogue: &'a Catalogue,
    problems: Vec<Problem>,
}

impl<'a> Check<'a> {
    /// The type, where it is a known one.
    fn kind(&mut self) -> Option<Cow<'a, str>> {
        let kinds = || self.catalogue.kinds();
        let kind = match self.canonical.member(TYPE) {
            Some(Value::String(kind)) => kind,
            other => {
                let problem = format!("{}; give the type of the event: {}.", lack(other.as_ref()), list(kinds()));
                self.refuse(TYPE, problem);
                return None;
            }
        };
        if kinds().any(|known| known == kind) {
            return Some(kind);
        }
        let likened = cut(&kind);
        let problem = match nearest(likened, kinds()) {
            Some(meant) => format!("There is no such type; did you mean {meant}?"),
            None => format!("There is no such type; known are {}.", list(kinds())),
        };
        self.refuse(TYPE, problem);
        None
    }

    /// The name of the event, where it is one of this type, or any where the type is not known.
    fn name(&mut self, kind: Option<&str>) -> Option<Cow<'a, str>> {
        let names =
            || self.catalogue.entries().filter(|entry| kind.is_none_or(|kind| entry.kind == kind)).map(|e| e.name);
        let name = match self.canonical.member(EVENT) {
            Some(Value::String(name)) => name,
            other => {
                let problem =
                    format!("{}; give the name of the event, such as {}.", lack(other.as_ref()), list(names().take(1)));
                self.refuse(EVENT, problem);
                return None;
            }
        };
        if names().any(|known| known == name) {
            return Some(name);
        }
        let likened = cut(&name);
        let elsewhere = || self.catalogue.entries().filter(|entry| Some(entry.kind) != kind);
        let problem = if let (Some(kind), Some(entry)) = (kind, elsewhere().find(|entry| entry.name == name)) {
            format!("{} is an event of the type {}, not of {kind}; change one of the two.", entry.name, entry.kind)
        } else if let Some(meant) = nearest(likened, names()) {
            format!("There is no such event; did you mean {meant}?")
        } else if let Some(meant) = nearest(likened, elsewhere().map(|entry| entry.name)) {
            let of = elsewhere().find(|entry| entry.name == meant).map_or("", |entry| entry.kind);
            format!("There is no such event; did you mean {meant}, which is of the type {of}?")
        } else {
            format!("There is no such event; known are {}.", list(names()))
        };
        self.refuse(EVENT, problem);
        None
    }

    /// Checks the other fields, as far as type and event say which there are; gives the ids of user and transaction.
    fn fields(&mut self, kind: Option<&str>, name: Option<&str>) -> (Option<Cow<'a, str>>, Option<Cow<'a, str>>) {
        let user = self.required(EXTERNAL_USER_ID);
        let mut transaction = None;
        let catalogue = self.catalogue;
        let required = kind.and_then(|kind| catalogue.required(kind)).unwrap_or_default();
        for field in required.iter().filter(|field| *field != EXTERNAL_USER_ID) {
            let value = self.required(field);
            if field == TRANSACTION_ID {
                transaction = value;
            }
        }
        let entry = kind.zip(name).and_then(|(kind, name)| catalogue.entry(kind, name));
        for field in entry.map(|entry| entry.optional).unwrap_or_default() {
            match self.canonical.member(field) {
                // An id is one wherever it is listed: it is searched for, so it keeps the form of an id.
                Some(Value::String(_)) if field == TRANSACTION_ID => transaction = self.required(field),
                Some(Value::Other(kind)) => {
                    let problem =
                        format!("This must be a string, not {}; leave it out when there is none.", kind.noun());
                    self.refuse(field, problem);
                }
                Some(Value::String(_)) | None => {}
            }
        }
        (user, transaction)
    }

    /// A field that must be a string of 1 to 256 characters.
    fn required(&mut self, field: &str) -> Option<Cow<'a, str>> {
        match self.canonical.member(field) {
            Some(Value::String(text)) if text.is_empty() => {
                self.refuse(field, "This is empty; give 1 to 256 characters.");
            }
            Some(Value::String(text))
                if text.len() > MAX_REQUIRED_CHARS && text.chars().count() > MAX_REQUIRED_CHARS =>
            {
                self.refuse(field, "This is too long; give 1 to 256 characters.");
            }
            Some(Value::String(text)) => return Some(text),
            other => {
                let problem = format!("{}; give a string of 1 to 256 characters.", lack(other.as_ref()));
                self.refuse(field, problem);
            }
        }
        None
    }

    fn refuse(&mut self, field: &str, problem: impl Into<String>) {
        self.problems.push(Problem::new(field, problem));
    }
}

/// Why a field that must be a string is not one.
fn lack(value: Option<&Value<'_>>) -> String {
    match value {
        Some(Value::Other(kind)) => format!("This must be a string, not {}", kind.noun()),
        Some(Value::String(_)) | None => "This field is missing".to_owned(),
    }
}

/// The names in one line; of many, the first dozen.
fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const SHOWN: usize = 12;
    let names: Vec<_> = names.collect();
    let more = if names.len() > SHOWN { ", …" } else { "" };
    format!("{}{more}", names[..names.len().min(SHOWN)].join(", "))
}
