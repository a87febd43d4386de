//! The canonical form of an event: the bytes that `JSON.stringify(JSON.parse(body))` gives in JavaScript.
//!
//! Partners verify a signature by parsing the body, serialising it again and hashing the result. So an event is brought
//! into the form that survives that round trip once, when it is published, and is stored, signed and sent in that form.
//!
//! [`canonicalise`] reads the input once and appends the output to one buffer: white space goes, strings and numbers
//! take JavaScript's spelling, `type` and `event` come first, and integer-like keys of nested objects come before
//! the others, where JavaScript puts them. No tree is built. What JavaScript would lose or change without a word is
//! refused, with the path of the value.
//!
//! | file | what it holds |
//! |---|---|
//! | `pass` | the one pass over the input: objects, arrays, order and duplicates of keys |
//! | `string` | escapes, in both directions |
//! | `number` | number format, and whether the value survives |
//! | `refusal` | why an input is refused, and the path that leads to the fault |

mod number;
mod pass;
mod refusal;
mod string;
#[cfg(test)]
mod tests;

use crate::problem::Problem;
use std::borrow::Cow;

/// How deep objects and arrays may be nested; the event itself is the first level.
pub const MAX_DEPTH: usize = 64;

/// Brings a JSON object into its canonical form, in time linear in the input but for the sorting of keys.
///
/// The output can be longer than the input by a factor of at most 4.4, because JavaScript writes `1e20` in full.
///
/// # Errors
/// The first thing that is wrong: invalid JSON (with the byte where it stops being JSON), a top level that is not an
/// object, or a value that would not survive JavaScript (with its path).
pub fn canonicalise(input: &[u8]) -> Result<Canonical, Problem> {
    // Only the part that is UTF-8 is read; a reader that runs off its end has met the first byte that is not.
    let (text, broken_at) = match std::str::from_utf8(input) {
        Ok(_) => (input, None),
        Err(error) => (&input[..error.valid_up_to()], Some(error.valid_up_to())),
    };
    match (pass::run(text), broken_at) {
        (Ok(canonical), None) => Ok(canonical),
        (Ok(_), Some(at)) => Err(refusal::Refusal::end().into_problem(Some(at), text.len())),
        (Err(refusal), _) => Err(refusal.into_problem(broken_at, text.len())),
    }
}

/// A JSON object in canonical form, with its top-level members at hand.
#[derive(Clone)]
pub struct Canonical {
    body: Vec<u8>,
    members: Vec<Member>,
}

impl Canonical {
    /// The canonical bytes.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The canonical bytes, without a copy.
    pub fn into_body(self) -> Vec<u8> {
        self.body
    }

    /// The value of the top-level member `name`, a name that JSON writes without escapes.
    pub fn member(&self, name: &str) -> Option<Value<'_>> {
        let member = self.members.iter().find(|member| member.key(&self.body) == name.as_bytes())?;
        Some(match member.kind {
            Kind::String => Value::String(string::read(member.text(&self.body))),
            other => Value::Other(other),
        })
    }
}

impl std::fmt::Debug for Canonical {
    /// Shows the size, never the content.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Canonical").field("bytes", &self.body.len()).finish_non_exhaustive()
    }
}

/// The value of a top-level member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value<'a> {
    /// A string, without its escapes.
    String(Cow<'a, str>),
    /// Anything else, of which only the kind is of interest.
    Other(Kind),
}

/// The kinds of JSON values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `null`
    Null,
    /// `true` or `false`
    Boolean,
    /// A number.
    Number,
    /// A string.
    String,
    /// An array.
    Array,
    /// An object.
    Object,
}

impl Kind {
    /// The kind in words, such as `a number`.
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean => "a boolean",
            Self::Number => "a number",
            Self::String => "a string",
            Self::Array => "an array",
            Self::Object => "an object",
        }
    }
}

/// Where a member of an object stands in the output: `,"key":value`, the separator in front included.
///
/// The first member's separator is the `{` of its object, so that members can trade places as whole spans.
#[derive(Debug, Clone, Copy)]
struct Member {
    start: usize,
    /// Just behind the closing quote of the key.
    key_end: usize,
    end: usize,
    /// Members are put in ascending order of rank; equal ranks keep the order given.
    rank: u64,
    kind: Kind,
}

impl Member {
    /// The key as the output spells it, without quotes. Two keys are equal exactly when their spellings are.
    fn key<'a>(&self, output: &'a [u8]) -> &'a [u8] {
        &output[self.start + 2..self.key_end - 1]
    }

    /// The content of a string value as the output spells it, without quotes.
    fn text<'a>(&self, output: &'a [u8]) -> &'a [u8] {
        &output[self.key_end + 2..self.end - 1]
    }
}
