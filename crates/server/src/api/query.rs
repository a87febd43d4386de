//! Reading query parameters: each at most once, none unknown.

use super::answer::ApiError;
use capa_webhooks_core::problem::{Problem, nearest};
use std::collections::BTreeMap;

/// The parameters of a request, with what is wrong about them.
pub(super) struct Query {
    values: BTreeMap<String, String>,
    problems: Vec<Problem>,
}

impl Query {
    /// Reads the query string `query`; only `known` parameters may occur.
    pub(super) fn read(query: Option<&str>, known: &[&str]) -> Self {
        let mut read = Self { values: BTreeMap::new(), problems: Vec::new() };
        for (name, value) in url_pairs(query.unwrap_or_default()) {
            if !known.contains(&name.as_str()) {
                let hint = nearest(&name, known.iter().copied()).map_or_else(
                    || format!("Unknown parameter; the parameters are {}.", known.join(", ")),
                    |known| format!("Unknown parameter; did you mean {known}?"),
                );
                read.problem(&name.chars().take(64).collect::<String>(), hint);
            } else if value.contains(char::REPLACEMENT_CHARACTER) {
                read.problem(&name, "Not valid UTF-8 after percent-decoding; encode the value as UTF-8.");
            } else if read.values.insert(name.clone(), value).is_some() {
                read.problem(&name, "Given more than once; give it once.");
            }
        }
        read
    }

    /// Notes what is wrong.
    pub(super) fn problem(&mut self, field: &str, problem: impl Into<String>) {
        self.problems.push(Problem::new(field, problem));
    }

    /// The value of `name`, if given, as `parse` reads it; `expected` says what would be right.
    pub(super) fn take<T>(&mut self, name: &str, parse: impl FnOnce(&str) -> Option<T>, expected: &str) -> Option<T> {
        let value = self.values.get(name)?;
        let parsed = parse(value);
        if parsed.is_none() {
            self.problem(name, expected.to_owned());
        }
        parsed
    }

    /// Nothing was wrong, or everything that was.
    pub(super) fn finish(self) -> Result<(), ApiError> {
        if self.problems.is_empty() { Ok(()) } else { Err(ApiError::invalid(self.problems)) }
    }
}

/// A whole number within bounds.
pub(super) fn number_within(text: &str, least: usize, most: usize) -> Option<usize> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().filter(|number| (least..=most).contains(number))
}

/// A text of 1 to 256 characters.
pub(super) fn short_text(text: &str) -> Option<String> {
    (1..=256).contains(&text.chars().count()).then(|| text.to_owned())
}

fn url_pairs(query: &str) -> Vec<(String, String)> {
    url::form_urlencoded::parse(query.as_bytes()).into_owned().collect()
}
