//! Strings: from any spelling to JavaScript's, and from that to the text itself.
//!
//! `JSON.stringify` escapes the quote, the backslash and the control characters below U+0020, and writes everything
//! else as it is: `/`, U+007F and U+2028 included. The input is known to be UTF-8.

use super::refusal::{Refusal, Step};
use std::borrow::Cow;

/// Which bytes are copied as they are: all but the quote, the backslash and control characters.
const PLAIN: [bool; 256] = {
    let mut plain = [true; 256];
    let mut byte = 0;
    while byte < 0x20 {
        plain[byte] = false;
        byte += 1;
    }
    plain[b'"' as usize] = false;
    plain[b'\\' as usize] = false;
    plain
};

/// Appends the string whose opening quote stands just before `at`, quotes included; gives the place behind it.
pub(super) fn append(input: &[u8], mut at: usize, out: &mut Vec<u8>) -> Step<usize> {
    out.push(b'"');
    loop {
        let rest = &input[at..];
        let run = rest.iter().position(|byte| !PLAIN[usize::from(*byte)]).ok_or_else(Refusal::end)?;
        out.extend_from_slice(&rest[..run]);
        at += run;
        match rest[run] {
            b'"' => {
                out.push(b'"');
                return Ok(at + 1);
            }
            b'\\' => at = append_escape(input, at + 1, out)?,
            _ => return Err(Refusal::syntax(at, "an escape instead of a control character")),
        }
    }
}

/// Appends what the escape means whose backslash stands just before `at`; gives the place behind it.
fn append_escape(input: &[u8], at: usize, out: &mut Vec<u8>) -> Step<usize> {
    match *input.get(at).ok_or_else(Refusal::end)? {
        // The escapes that JavaScript writes the same way.
        letter @ (b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't') => {
            out.extend_from_slice(&[b'\\', letter]);
            Ok(at + 1)
        }
        b'/' => {
            out.push(b'/');
            Ok(at + 1)
        }
        b'u' => {
            let (character, end) = code_point(input, at + 1)?;
            append_character(character, out);
            Ok(end)
        }
        _ => Err(Refusal::syntax(at, r#"one of " \ / b f n r t u after a backslash"#)),
    }
}

/// The character of the `\u` escape whose digits begin at `at`, its second half included where it has one.
fn code_point(input: &[u8], at: usize) -> Step<(char, usize)> {
    const LONE: &str = "This string holds half of a surrogate pair, which UTF-8 cannot carry; remove it.";
    let first = code_unit(input, at)?;
    if let Some(character) = char::from_u32(first) {
        return Ok((character, at + 4));
    }
    if !input[at + 4..].starts_with(b"\\u") {
        return Err(Refusal::value(LONE));
    }
    let second = code_unit(input, at + 6)?;
    if !(0xd800..0xdc00).contains(&first) || !(0xdc00..0xe000).contains(&second) {
        return Err(Refusal::value(LONE));
    }
    let code = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
    let character = char::from_u32(code).ok_or_else(|| Refusal::value(LONE))?;
    Ok((character, at + 10))
}

/// The four hexadecimal digits at `at`.
fn code_unit(input: &[u8], at: usize) -> Step<u32> {
    let mut unit = 0;
    for place in at..at + 4 {
        let digit = char::from(*input.get(place).ok_or_else(Refusal::end)?).to_digit(16);
        unit = unit * 16 + digit.ok_or_else(|| Refusal::syntax(place, r"four hexadecimal digits after \u"))?;
    }
    Ok(unit)
}

/// Appends one character in JavaScript's spelling.
fn append_character(character: char, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match character {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\u{8}' => out.extend_from_slice(b"\\b"),
        '\t' => out.extend_from_slice(b"\\t"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\u{c}' => out.extend_from_slice(b"\\f"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\0'..='\u{1f}' => {
            let code = character as usize;
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', HEX[code >> 4], HEX[code & 15]]);
        }
        _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

/// The text of a string that [`append`] wrote, given without its quotes.
pub(super) fn read(spelled: &[u8]) -> Cow<'_, str> {
    // What `append` wrote is UTF-8, so this borrows.
    let spelled = String::from_utf8_lossy(spelled);
    if !spelled.contains('\\') {
        return spelled;
    }
    let mut text = String::with_capacity(spelled.len());
    let mut characters = spelled.chars();
    while let Some(character) = characters.next() {
        text.push(match character {
            '\\' => match characters.next() {
                Some('b') => '\u{8}',
                Some('t') => '\t',
                Some('n') => '\n',
                Some('f') => '\u{c}',
                Some('r') => '\r',
                // `append` leaves `\u` only in front of the four digits of a control character.
                Some('u') => {
                    let code = characters.by_ref().take(4).filter_map(|c| c.to_digit(16)).fold(0, |a, d| a * 16 + d);
                    char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
                }
                other => other.unwrap_or('\\'),
            },
            plain => plain,
        });
    }
    Cow::Owned(text)
}
