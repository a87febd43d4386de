//! Why an input is refused, and the path that leads to the fault.
//!
//! A [`Refusal`] starts where the fault is found and learns the path on its way out, so that a good input pays nothing
//! for it. Paths show keys, which are input: long ones are cut.

use crate::problem::Problem;

/// How many characters of a key are shown.
const MAX_KEY_SHOWN: usize = 64;

/// What a step of the pass gives; the refusal is boxed so that the good case stays small.
pub(super) type Step<T> = Result<T, Box<Refusal>>;

/// A fault, and as much of its path as is known.
#[derive(Debug)]
pub(super) struct Refusal {
    reason: Reason,
    /// The way to the fault, innermost first.
    path: Vec<Segment>,
}

#[derive(Debug)]
enum Reason {
    /// Not JSON: the offset of the byte, and what should stand there.
    Syntax(usize, &'static str),
    /// The text ended too early.
    End,
    /// JSON, but a value that cannot be accepted.
    Value(&'static str),
}

#[derive(Debug)]
enum Segment {
    /// A key, as the output spells it.
    Key(String),
    Index(usize),
}

impl Refusal {
    /// The byte `at` is not what JSON allows there.
    pub(super) fn syntax(at: usize, expected: &'static str) -> Box<Self> {
        Self::because(Reason::Syntax(at, expected))
    }

    /// The text ended too early.
    pub(super) fn end() -> Box<Self> {
        Self::because(Reason::End)
    }

    /// The value is JSON, but cannot be accepted.
    pub(super) fn value(problem: &'static str) -> Box<Self> {
        Self::because(Reason::Value(problem))
    }

    fn because(reason: Reason) -> Box<Self> {
        Box::new(Self { reason, path: Vec::new() })
    }

    /// The fault is in the member with this key, spelled as in the output.
    pub(super) fn in_member(mut self: Box<Self>, key: &[u8]) -> Box<Self> {
        self.path.push(Segment::Key(shown(&String::from_utf8_lossy(key))));
        self
    }

    /// The fault is in this item of an array.
    pub(super) fn in_item(mut self: Box<Self>, index: usize) -> Box<Self> {
        self.path.push(Segment::Index(index));
        self
    }

    /// The fault as the caller is told of it. `broken_at` is the first byte that is not UTF-8, `length` what was read.
    pub(super) fn into_problem(self, broken_at: Option<usize>, length: usize) -> Problem {
        match (&self.reason, broken_at) {
            (Reason::Value(problem), _) => Problem::new(self.rendered_path(), *problem),
            (Reason::Syntax(at, expected), _) => {
                Problem::new("", format!("This is not valid JSON: expected {expected} at byte {at}."))
            }
            (Reason::End, Some(at)) => Problem::new(
                self.rendered_path(),
                format!("This is not valid UTF-8 at byte {at} of the body; encode the body as UTF-8."),
            ),
            (Reason::End, None) => {
                Problem::new("", format!("This is not valid JSON: it ends too early, at byte {length}."))
            }
        }
    }

    /// The path such as `lines[2].amount`, or `lines["a key"]` for a key that is not a plain word.
    fn rendered_path(&self) -> String {
        let mut path = String::new();
        for segment in self.path.iter().rev() {
            match segment {
                Segment::Index(index) => path.push_str(&format!("[{index}]")),
                Segment::Key(key) if !is_word(key) => path.push_str(&format!("[\"{key}\"]")),
                Segment::Key(key) => {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(key);
                }
            }
        }
        path
    }
}

/// The key, cut where it is too long to show.
fn shown(key: &str) -> String {
    match key.char_indices().nth(MAX_KEY_SHOWN) {
        Some((end, _)) => format!("{}…", &key[..end]),
        None => key.to_owned(),
    }
}

/// Whether a key can stand in a path without quotes.
fn is_word(key: &str) -> bool {
    key.starts_with(|c: char| c.is_alphabetic() || c == '_' || c == '$')
        && key.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '$' | '-' | '…'))
}
