//! The types, events and fields that are known: data, not code.
//!
//! A [`Catalogue`] begins as the built-in one (`catalogue.toml` beside this file) and takes the operator's
//! [`CatalogueAdditions`], which the configuration file holds in the same form. It says which fields an event needs and
//! which of its fields must be strings; fields that it does not know are let through by [`parse`](super::parse).
//!
//! `externalUserId` is required of every event, so no list names it. Names and fields are checked when they are added:
//! inside a catalogue they are all well formed, and every event's type exists and has at least one event.

use super::{EVENT, EXTERNAL_USER_ID, TYPE};
use crate::problem::{Problem, nearest};
use serde::Deserialize;

/// The longest name of a type, an event or a field.
const MAX_NAME: usize = 64;

/// The built-in types and events.
const BUILT_IN: &str = include_str!("catalogue.toml");

/// The known types, events and fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalogue {
    types: Vec<Type>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Type {
    name: String,
    description: String,
    /// With `externalUserId`.
    required: Vec<String>,
    events: Vec<Known>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    name: String,
    description: String,
    /// None of these is required.
    optional: Vec<String>,
}

/// One event of the catalogue, as it is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The type, such as `KYC`.
    pub kind: &'a str,
    /// The event, such as `VERIFIED_USER`.
    pub name: &'a str,
    /// What happened, in words; may be empty.
    pub description: &'a str,
    /// Fields that must be there, as strings of 1 to 256 characters.
    pub required: &'a [String],
    /// Further fields, which must be strings when they are there.
    pub optional: &'a [String],
}

/// What a configuration adds to the catalogue; `catalogue.toml` shows the form.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogueAdditions {
    /// New types, and further required fields of known ones.
    #[serde(default)]
    pub types: Vec<TypeAddition>,
    /// New events, and further fields of known ones.
    #[serde(default)]
    pub events: Vec<EventAddition>,
}

/// A type to add, or a known one to add to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TypeAddition {
    /// The name, such as `KYC`.
    pub name: String,
    /// What it is about; replaces an earlier description.
    #[serde(default)]
    pub description: Option<String>,
    /// Fields that each of its events needs besides `externalUserId`.
    #[serde(default)]
    pub required: Vec<String>,
}

/// An event to add, or a known one to add to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventAddition {
    /// The type it is of, known or added at the same time.
    #[serde(rename = "type")]
    pub kind: String,
    /// The name, such as `VERIFIED_USER`.
    pub name: String,
    /// What happened; replaces an earlier description.
    #[serde(default)]
    pub description: Option<String>,
    /// Further fields, strings when present.
    #[serde(default)]
    pub fields: Vec<String>,
}

impl Catalogue {
    /// The types and events that every installation knows.
    pub fn built_in() -> Self {
        let additions = toml::from_str(BUILT_IN).expect("catalogue.toml is part of the program, and a test reads it");
        let mut catalogue = Self { types: Vec::new() };
        catalogue.extend(additions).expect("catalogue.toml is part of the program, and a test reads it");
        catalogue
    }

    /// Adds types, events and fields.
    ///
    /// # Errors
    /// Everything that is wrong with the additions, by their place in them, such as `events[2].type`; the catalogue is
    /// then left as it was.
    pub fn extend(&mut self, additions: CatalogueAdditions) -> Result<(), Vec<Problem>> {
        let mut problems = malformed(&additions);
        let mut extended = self.clone();
        for addition in additions.types {
            extended.add_type(addition);
        }
        for (at, addition) in additions.events.into_iter().enumerate() {
            if let Err(problem) = extended.add_event(addition) {
                problems.push(Problem::new(format!("events[{at}].type"), problem));
            }
        }
        for unused in extended.types.iter().filter(|known| known.events.is_empty() && is_name(&known.name)) {
            let problem = format!("The type {} has no event; add one with type = \"{0}\".", unused.name);
            problems.push(Problem::new("types", problem));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        extended.list_required_fields_once();
        *self = extended;
        Ok(())
    }

    /// Every event, type by type, in the order in which they were added.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        self.types.iter().flat_map(|of| of.events.iter().map(|event| entry(of, event)))
    }

    /// The event `name` of the type `kind`.
    pub fn entry(&self, kind: &str, name: &str) -> Option<Entry<'_>> {
        let of = self.find(kind)?;
        of.events.iter().find(|event| event.name == name).map(|event| entry(of, event))
    }

    /// The names of the types.
    pub fn kinds(&self) -> impl Iterator<Item = &str> {
        self.types.iter().map(|known| known.name.as_str())
    }

    /// What a type is about; `None` for one that is not known.
    pub fn kind_description(&self, kind: &str) -> Option<&str> {
        self.find(kind).map(|known| known.description.as_str())
    }

    /// The fields that every event of a type needs; `None` for a type that is not known.
    pub fn required(&self, kind: &str) -> Option<&[String]> {
        self.find(kind).map(|known| known.required.as_slice())
    }

    fn find(&self, kind: &str) -> Option<&Type> {
        self.types.iter().find(|known| known.name == kind)
    }

    fn add_type(&mut self, addition: TypeAddition) {
        let known = match self.types.iter().position(|known| known.name == addition.name) {
            Some(at) => &mut self.types[at],
            None => self.types.push_mut(Type {
                name: addition.name,
                description: String::new(),
                required: vec![EXTERNAL_USER_ID.to_owned()],
                events: Vec::new(),
            }),
        };
        add_new(&mut known.required, addition.required);
        if let Some(description) = addition.description {
            known.description = description;
        }
    }

    fn add_event(&mut self, addition: EventAddition) -> Result<(), String> {
        let Some(of) = self.types.iter_mut().find(|known| known.name == addition.kind) else {
            return Err(match nearest(cut(&addition.kind), self.kinds()) {
                Some(meant) => format!("There is no such type; did you mean {meant}?"),
                None => "There is no such type; add it under `types`.".to_owned(),
            });
        };
        let known = match of.events.iter().position(|event| event.name == addition.name) {
            Some(at) => &mut of.events[at],
            None => of.events.push_mut(Known { name: addition.name, description: String::new(), optional: Vec::new() }),
        };
        add_new(&mut known.optional, addition.fields);
        if let Some(description) = addition.description {
            known.description = description;
        }
        Ok(())
    }

    /// Takes fields that a type requires off the lists of its events.
    fn list_required_fields_once(&mut self) {
        for known in &mut self.types {
            for event in &mut known.events {
                event.optional.retain(|field| !known.required.contains(field));
            }
        }
    }
}

fn entry<'a>(of: &'a Type, event: &'a Known) -> Entry<'a> {
    Entry {
        kind: &of.name,
        name: &event.name,
        description: &event.description,
        required: &of.required,
        optional: &event.optional,
    }
}

/// Appends the fields that are not on the list yet.
fn add_new(list: &mut Vec<String>, fields: Vec<String>) {
    for field in fields {
        if !list.contains(&field) {
            list.push(field);
        }
    }
}

/// The malformed names among the additions.
fn malformed(additions: &CatalogueAdditions) -> Vec<Problem> {
    const NAME: &str = "A name has 1 to 64 characters out of A-Z, 0-9 and _.";
    const FIELD: &str =
        "A field has 1 to 64 characters out of letters, digits, _ and -, and begins with a letter or _.";
    const RESERVED: &str = "Every event has `type` and `event` in any case; leave them out.";
    let mut problems = Vec::new();
    let mut check_name = |place: String, name: &str| {
        if !is_name(name) {
            problems.push(Problem::new(place, NAME));
        }
    };
    for (at, addition) in additions.types.iter().enumerate() {
        check_name(format!("types[{at}].name"), &addition.name);
    }
    for (at, addition) in additions.events.iter().enumerate() {
        check_name(format!("events[{at}].name"), &addition.name);
    }
    let of_types = additions.types.iter().enumerate().map(|(at, a)| (format!("types[{at}].required"), &a.required));
    let of_events = additions.events.iter().enumerate().map(|(at, a)| (format!("events[{at}].fields"), &a.fields));
    for (place, fields) in of_types.chain(of_events) {
        for (at, field) in fields.iter().enumerate() {
            if !is_field(field) {
                problems.push(Problem::new(format!("{place}[{at}]"), FIELD));
            } else if field == TYPE || field == EVENT {
                problems.push(Problem::new(format!("{place}[{at}]"), RESERVED));
            }
        }
    }
    problems
}

fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(|byte| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'_'))
}

/// Fields are spelled so that JSON needs no escape for them and JavaScript does not take them for array indices.
fn is_field(field: &str) -> bool {
    (1..=MAX_NAME).contains(&field.len())
        && field.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && field.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// The beginning of a name that came from outside, short enough to compare and to show.
pub(super) fn cut(name: &str) -> &str {
    name.char_indices().nth(MAX_NAME).map_or(name, |(end, _)| &name[..end])
}

#[cfg(test)]
mod tests;
