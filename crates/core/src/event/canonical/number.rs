//! Numbers: JavaScript's spelling, and whether the value survives it.
//!
//! JavaScript reads every number as a double and writes the shortest decimal that reads back as that double. A number
//! is accepted when that decimal is, as an exact value, the one that was sent: `1.50` and `1e2` are, 9007199254740993
//! (2^53 + 1) and 0.1000000000000000055 are not, however close the double may be. Both are compared as [`Decimal`]s.

use super::refusal::{Refusal, Step};

/// A double never needs more significant digits than this, so a number that has more cannot survive.
const MAX_DIGITS: usize = 17;

/// Integers of so many digits are all below 2^53, and JavaScript writes them digit by digit.
const SAFE_DIGITS: usize = 15;

/// Exponents are cut off here: far beyond any double, and far from overflow when a text's length is added.
const MAX_EXPONENT: i64 = 1_000_000_000_000_000_000;

/// Appends the number at `at` in JavaScript's spelling; gives the place behind it.
pub(super) fn append(input: &[u8], at: usize, out: &mut Vec<u8>) -> Step<usize> {
    let number = Literal::scan(input, at)?;
    if number.is_plain_integer() && number.integer.len() <= SAFE_DIGITS {
        if number.negative && number.integer != b"0" {
            out.push(b'-');
        }
        out.extend_from_slice(number.integer);
    } else {
        append_slowly(&number, out).ok_or_else(|| {
            Refusal::value("JavaScript would turn this number into another one; send it as a string, or round it.")
        })?;
    }
    Ok(number.end)
}

/// Appends any number; `None` where JavaScript would change its value.
fn append_slowly(number: &Literal<'_>, out: &mut Vec<u8>) -> Option<()> {
    let value = Decimal::of(number)?;
    if value.digits == 0 {
        out.push(b'0'); // -0 too
        return Some(());
    }
    // Read from its digits rather than from the text, so that a text of any length costs the same here.
    let double: f64 = format!("{}e{}", value.digits, value.exponent).parse().ok()?;
    if !double.is_finite() {
        return None;
    }
    let mut buffer = ryu_js::Buffer::new();
    let spelled = buffer.format_finite(double).as_bytes();
    if Decimal::of(&Literal::scan(spelled, 0).ok()?)? != value {
        return None;
    }
    if number.negative {
        out.push(b'-');
    }
    out.extend_from_slice(spelled);
    Some(())
}

/// A number as it is written: its parts, each a run of digits.
struct Literal<'a> {
    negative: bool,
    integer: &'a [u8],
    fraction: &'a [u8],
    negative_exponent: bool,
    exponent: &'a [u8],
    /// The place behind it.
    end: usize,
}

impl<'a> Literal<'a> {
    /// Reads the number at `at` by JSON's grammar.
    fn scan(input: &'a [u8], mut at: usize) -> Step<Self> {
        let mut number =
            Self { negative: false, integer: &[], fraction: &[], negative_exponent: false, exponent: &[], end: at };
        if input.get(at) == Some(&b'-') {
            number.negative = true;
            at += 1;
        }
        number.integer = digits(input, at)?;
        if number.integer.len() > 1 && number.integer[0] == b'0' {
            return Err(Refusal::syntax(at, "a number without leading zeros"));
        }
        at += number.integer.len();
        if input.get(at) == Some(&b'.') {
            number.fraction = digits(input, at + 1)?;
            at += 1 + number.fraction.len();
        }
        if matches!(input.get(at), Some(b'e' | b'E')) {
            at += 1;
            if let Some(sign @ (b'+' | b'-')) = input.get(at) {
                number.negative_exponent = *sign == b'-';
                at += 1;
            }
            number.exponent = digits(input, at)?;
            at += number.exponent.len();
        }
        number.end = at;
        Ok(number)
    }

    fn is_plain_integer(&self) -> bool {
        self.fraction.is_empty() && self.exponent.is_empty()
    }

    fn exponent_value(&self) -> i64 {
        let size = self.exponent.iter().fold(0_i64, |value, digit| {
            value.saturating_mul(10).saturating_add(i64::from(digit - b'0')).min(MAX_EXPONENT)
        });
        if self.negative_exponent { -size } else { size }
    }
}

/// The run of one or more digits at `at`.
fn digits(input: &[u8], at: usize) -> Step<&[u8]> {
    let rest = input.get(at..).unwrap_or_default();
    let length = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
    match (length, rest.len()) {
        (0, 0) => Err(Refusal::end()),
        (0, _) => Err(Refusal::syntax(at, "a digit")),
        _ => Ok(&rest[..length]),
    }
}

/// The exact size of a number, `digits` × 10^`exponent`, with no zero at the end of the digits.
///
/// Every size has one such form but zero, which has any exponent.
#[derive(Debug, PartialEq, Eq)]
struct Decimal {
    digits: u64,
    exponent: i64,
}

impl Decimal {
    /// The size of a number; `None` where it has more digits than a double can need.
    fn of(number: &Literal<'_>) -> Option<Self> {
        let mut digits = 0_u64;
        let mut count = 0; // of significant digits
        let mut zeros = 0; // read, but not yet known to stand between digits
        for digit in number.integer.iter().chain(number.fraction).map(|byte| u64::from(byte - b'0')) {
            if digit > 0 {
                count += zeros + 1;
                if count > MAX_DIGITS {
                    return None;
                }
                for _ in 0..zeros {
                    digits *= 10;
                }
                digits = digits * 10 + digit;
                zeros = 0;
            } else if digits > 0 {
                zeros += 1;
            }
        }
        let shift = i64::try_from(zeros).ok()? - i64::try_from(number.fraction.len()).ok()?;
        Some(Self { digits, exponent: number.exponent_value() + shift })
    }
}
