//! A row as both engines see it, and what is counted and hashed of many.
//!
//! A value has one form, whichever engine it comes from: an id is its 16 bytes, a flag 0 or 1, a list the text that SQLite
//! keeps. So a row has one encoding, and two stores hold the same rows if the sums of their hashes are the same. A sum does
//! not ask for an order, which the engines do not share.

use sha2::{Digest as _, Sha256};
use std::fmt;

/// One value of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Null,
    Integer(i64),
    Text(String),
    Bytes(Vec<u8>),
}

impl Value {
    /// About how much memory it takes.
    pub(crate) fn weight(&self) -> usize {
        16 + match self {
            Self::Null | Self::Integer(_) => 0,
            Self::Text(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
        }
    }
}

/// A row, and where it stands in the order in which its store is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) key: Vec<Value>,
    pub(crate) values: Vec<Value>,
}

impl Row {
    /// About how much memory it takes.
    pub(crate) fn weight(&self) -> usize {
        self.key.iter().chain(&self.values).map(Value::weight).sum()
    }
}

/// Values as bytes. Each value tells its kind and its length, so no two lists of values look alike.
pub(crate) fn encode(values: &[Value]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for value in values {
        match value {
            Value::Null => bytes.push(0),
            Value::Integer(number) => {
                bytes.push(1);
                bytes.extend_from_slice(&number.to_be_bytes());
            }
            Value::Text(text) => push(&mut bytes, 2, text.as_bytes()),
            Value::Bytes(content) => push(&mut bytes, 3, content),
        }
    }
    bytes
}

fn push(bytes: &mut Vec<u8>, kind: u8, content: &[u8]) {
    bytes.push(kind);
    bytes.extend_from_slice(&u64::try_from(content.len()).unwrap_or(u64::MAX).to_be_bytes());
    bytes.extend_from_slice(content);
}

/// Reads what [`encode`] wrote; `None` if it is anything else.
pub(crate) fn decode(mut bytes: &[u8]) -> Option<Vec<Value>> {
    let mut values = Vec::new();
    while let Some((kind, rest)) = bytes.split_first() {
        if *kind == 0 {
            values.push(Value::Null);
            bytes = rest;
            continue;
        }
        let (number, rest) = rest.split_first_chunk::<8>()?;
        if *kind == 1 {
            values.push(Value::Integer(i64::from_be_bytes(*number)));
            bytes = rest;
            continue;
        }
        let (content, rest) = rest.split_at_checked(usize::try_from(u64::from_be_bytes(*number)).ok()?)?;
        values.push(match kind {
            2 => Value::Text(std::str::from_utf8(content).ok()?.to_owned()),
            3 => Value::Bytes(content.to_owned()),
            _ => return None,
        });
        bytes = rest;
    }
    Some(values)
}

/// How many rows there are, and the sum of their hashes, in which their order does not count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Digest {
    /// How many rows.
    pub rows: u64,
    /// The sum, modulo 2^128, of the first 16 bytes of each row's SHA-256.
    pub sum: u128,
}

impl Digest {
    /// Adds a row of a table.
    pub(crate) fn add(&mut self, table: &str, values: &[Value]) {
        let hash = Sha256::new().chain_update(table).chain_update([0]).chain_update(encode(values)).finalize();
        let first: [u8; 16] = std::array::from_fn(|at| hash[at]);
        self.rows += 1;
        self.sum = self.sum.wrapping_add(u128::from_be_bytes(first));
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows with the sum {:032x}", self.rows, self.sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn several() -> Vec<Vec<Value>> {
        let (text, bytes) = (|text: &str| Value::Text(text.to_owned()), |bytes: &[u8]| Value::Bytes(bytes.to_owned()));
        vec![
            vec![],
            vec![Value::Null],
            vec![Value::Null, Value::Null],
            vec![Value::Integer(0)],
            vec![Value::Integer(-1), Value::Integer(i64::MIN)],
            vec![text(""), text("é")],
            vec![text("é"), text("")],
            vec![bytes(b""), bytes(&[0, 255])],
            vec![text("a"), text("b")],
            vec![text("ab")],
            vec![bytes(b"ab")],
        ]
    }

    #[test]
    fn values_survive_their_encoding() {
        for values in several() {
            assert_eq!(decode(&encode(&values)), Some(values));
        }
        for bad in [&[4, 0, 0, 0, 0, 0, 0, 0, 0][..], &[1, 0], &[2, 0, 0, 0, 0, 0, 0, 0, 1], &[3, 255], &[9]] {
            assert_eq!(decode(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_digest_tells_rows_and_tables_apart_but_not_their_order() {
        let of = |table: &str, rows: &[Vec<Value>]| {
            let mut digest = Digest::default();
            rows.iter().for_each(|row| digest.add(table, row));
            digest
        };
        let rows = several();
        let mut turned = rows.clone();
        turned.reverse();
        assert_eq!(of("queue", &rows), of("queue", &turned));
        assert_ne!(of("queue", &rows), of("cycles", &rows));
        let sums: std::collections::BTreeSet<u128> =
            rows.iter().map(|row| of("queue", std::slice::from_ref(row)).sum).collect();
        assert_eq!(sums.len(), rows.len());
    }
}
