//! Documents made from a seed: valid ones in every spelling, damaged ones, and numbers at the edges.

use std::collections::HashSet;
use std::fmt::Write as _;

/// A small xorshift generator; the same seed gives the same documents.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number from 0 up to, but not including, `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from((self.next() >> 16) % end as u64).expect("it is below a usize")
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(choices.len())]
    }
}

const STRINGS: &[&str] =
    &["", "a", "name", "a b", "__proto__", "constructor", "toString", "length", "quo\"te", "back\\slash", "c.d[0]"];

const NUMBER_LIKE_KEYS: &[&str] = &[
    "0",
    "1",
    "2",
    "7",
    "9",
    "10",
    "11",
    "100",
    "4294967293",
    "4294967294",
    "4294967295",
    "4294967296",
    "9007199254740991",
    "9007199254740993",
    "18446744073709551616",
    "00",
    "01",
    "-0",
    "-1",
    "1.0",
    "1e3",
    "+1",
    " 1",
    "1 ",
    "0x1",
    "٣",
    "NaN",
];

const CHARACTERS: &[&str] = &[
    "a",
    "Z",
    "5",
    " ",
    "\"",
    "\\",
    "/",
    "'",
    "\u{7f}",
    "\u{80}",
    "\u{a0}",
    "é",
    "ß",
    "Ω",
    "日",
    "本",
    "\u{200d}",
    "\u{2028}",
    "\u{2029}",
    "\u{d7ff}",
    "\u{e000}",
    "\u{feff}",
    "\u{fffd}",
    "\u{fffe}",
    "\u{ffff}",
    "\u{10000}",
    "🚀",
    "👩‍👩‍👧",
    "🇫🇮",
    "\u{10ffff}",
    "e\u{301}",
];

/// An event with a canonical form: nested values, any white space, any spelling of strings and numbers.
pub(crate) fn event(random: &mut Random) -> String {
    let mut text = String::new();
    space(random, &mut text);
    let depth = if random.one_in(50) { 60 } else { 1 + random.below(5) };
    object(random, &mut text, depth, true);
    space(random, &mut text);
    text
}

/// The document with one thing broken, or at least changed.
pub(crate) fn damaged(random: &mut Random, document: &[u8]) -> Vec<u8> {
    const PIECES: &[&[u8]] = &[
        b",",
        b":",
        b"{",
        b"}",
        b"[",
        b"]",
        b"\"",
        b"\\",
        b"'",
        b"0",
        b"-",
        b"+",
        b".",
        b"e",
        b"1e999",
        b"\n",
        b"\0",
        b"\x1f",
        b"\xff",
        b"\xc3",
        b"\xed\xa0\x80",
        b"\xef\xbb\xbf",
        b"\\u",
        b"\\ud800",
        b"\\udc00",
        b"\\x",
        b"null",
        b"NaN",
        b"//",
        b"\x0b",
        b"\xc2\xa0",
        b"\"a\":1,",
        b"\"1\":1,",
        b"tru",
        b"[[[[",
        b"]]]]",
    ];
    let mut bytes = document.to_vec();
    let at = random.below(bytes.len());
    match random.below(6) {
        0 => drop(bytes.remove(at)),
        1 => bytes.truncate(at),
        2 => {
            let other = random.below(bytes.len());
            bytes.swap(at, other);
        }
        3 => bytes[at] = u8::try_from(random.below(256)).expect("it is below 256"),
        4 => bytes.extend_from_slice(random.pick(PIECES)),
        _ => drop(bytes.splice(at..at, random.pick(PIECES).iter().copied())),
    }
    bytes
}

/// A number that JavaScript may keep, change or refuse.
pub(crate) fn any_number(random: &mut Random) -> String {
    let mut text = match random.below(9) {
        0 => return number(random),
        // Where two shortest decimals are equally near, Rust and JavaScript do not always write the same one.
        7 => format!("{:e}", f64::from_bits((0x431_u64 << 52) + (random.next() >> 12) % (1 << 53)) / 4.0),
        1 => digits(random, 15, 22),
        2 => format!("{}.{}", digits(random, 1, 10), digits(random, 5, 14)),
        3 => format!("{}e{}", digits(random, 14, 19), random.below(700)),
        4 => format!("0.{}e-{}", digits(random, 14, 19), random.below(330)),
        5 => {
            // Beside a power of two, where doubles begin to lie further apart.
            let power = 1_u128 << (50 + random.below(70));
            (power + random.below(5) as u128 - 2).to_string()
        }
        6 => format!("{}e{}{}", digits(random, 1, 3), random.pick(&["", "-", "+"]), digits(random, 1, 40)),
        // Every digit of a double: JavaScript keeps it only where it writes them all.
        _ => format!("{:.*}", random.below(40), finite(random).abs() % 1e20),
    };
    if random.one_in(3) {
        text.insert(0, '-');
    }
    if random.one_in(10) {
        let at = random.below(text.len() + 1);
        text.insert_str(at, random.pick(&["0", "00", ".", "e", "-", "+", "E5", "_"]));
    }
    text
}

fn object(random: &mut Random, text: &mut String, depth: usize, top: bool) {
    let mut used = HashSet::new();
    let mut keys: Vec<String> = (0..random.below(match (top, depth) {
        (true, _) => 9,
        (false, 0..10) => 5,
        (false, _) => 3,
    }))
        .map(|_| key(random))
        .collect();
    if random.one_in(20) && depth < 4 {
        keys.extend((0..random.below(60)).map(|at| format!("key{}", at * 7 % 64)));
        keys.extend((0..random.below(60)).map(|at| (at * 31 % 97).to_string()));
    }
    if top || random.one_in(8) {
        for name in ["type", "event"] {
            let at = random.below(keys.len() + 1);
            keys.insert(at, name.to_owned());
        }
    }
    keys.retain(|key| used.insert(key.clone()) && !(top && is_array_index(key)));
    text.push('{');
    for (at, key) in keys.iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        space(random, text);
        string(random, text, key);
        space(random, text);
        text.push(':');
        space(random, text);
        value(random, text, depth - 1);
        space(random, text);
    }
    if keys.is_empty() {
        space(random, text);
    }
    text.push('}');
}

fn array(random: &mut Random, text: &mut String, depth: usize) {
    text.push('[');
    for at in 0..random.below(if depth > 10 { 2 } else { 5 }) {
        if at > 0 {
            text.push(',');
        }
        space(random, text);
        value(random, text, depth - 1);
        space(random, text);
    }
    text.push(']');
}

fn value(random: &mut Random, text: &mut String, depth: usize) {
    match random.below(12) {
        0 => text.push_str(random.pick(&["null", "true", "false"])),
        1..=3 => text.push_str(&number(random)),
        4..=6 => {
            let content = content(random);
            string(random, text, &content);
        }
        _ if depth == 0 => text.push_str(random.pick(&["{}", "[]", "0", "\"\"", "-0"])),
        7..=9 => object(random, text, depth, false),
        _ => array(random, text, depth),
    }
}

fn key(random: &mut Random) -> String {
    match random.below(5) {
        0 => (*random.pick(NUMBER_LIKE_KEYS)).to_owned(),
        1 => random.below(40).to_string(),
        2 => (random.next() >> (20 + random.below(30))).to_string(),
        3 => (*random.pick(STRINGS)).to_owned(),
        _ => content(random),
    }
}

/// The key moves to the front in JavaScript, by the rule as the language's standard puts it.
fn is_array_index(key: &str) -> bool {
    key.parse::<u32>().is_ok_and(|index| index != u32::MAX && index.to_string() == key)
}

fn content(random: &mut Random) -> String {
    let mut content = String::new();
    for _ in 0..random.below(12) {
        match random.below(4) {
            0 => content.push(char::from(u8::try_from(random.below(0x20)).expect("it is below 32"))),
            1 => content.push_str(random.pick(CHARACTERS)),
            2 => content.extend(char::from_u32(u32::try_from(random.below(0x11_0000)).expect("it is below 2^21"))),
            _ => content.push_str(random.pick(STRINGS)),
        }
    }
    content
}

/// Writes a string, each character in one of its spellings.
fn string(random: &mut Random, text: &mut String, content: &str) {
    text.push('"');
    for character in content.chars() {
        let short = match character {
            '"' => "\\\"",
            '\\' => "\\\\",
            '/' => "\\/",
            '\u{8}' => "\\b",
            '\t' => "\\t",
            '\n' => "\\n",
            '\u{c}' => "\\f",
            '\r' => "\\r",
            _ => "",
        };
        let literal = character >= ' ' && !matches!(character, '"' | '\\');
        if !short.is_empty() && random.one_in(2) {
            text.push_str(short);
        } else if literal && !random.one_in(4) {
            text.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                let spelled = if random.one_in(2) { format!("\\u{unit:04x}") } else { format!("\\u{unit:04X}") };
                text.push_str(&spelled);
            }
        }
    }
    text.push('"');
}

/// A number that JavaScript keeps: a double's own digits, or so few that a double holds them, in any spelling.
fn number(random: &mut Random) -> String {
    let sign = random.pick(&["", "-"]);
    let zeros = "0".repeat(random.below(4));
    match random.below(9) {
        0 => format!("{sign}{}", random.below(100)),
        1 => format!("{sign}{}", random.next() >> 11),
        2 => format!("{sign}{}.{}{zeros}", random.below(1_000_000), digits(random, 1, 9)),
        3 => format!("{sign}0.{}{}", "0".repeat(random.below(12)), digits(random, 1, 15)),
        4 => {
            let exponent = random.below(290);
            format!(
                "{sign}{}{}{}{zeros}{exponent}",
                digits(random, 1, 15),
                random.pick(&["e", "E"]),
                random.pick(&["", "+"])
            )
        }
        5 => format!("{sign}{}.{}e-{}", random.below(10), digits(random, 1, 14), random.below(290)),
        6 => {
            format!("{sign}0{}{}", random.pick(&["", ".0", ".000"]), random.pick(&["", "e5", "E-7", "e+999999999999"]))
        }
        7 => ryu_js::Buffer::new().format_finite(finite(random)).to_owned(),
        _ => format!("{sign}{}{}", digits(random, 1, 5), "0".repeat(random.below(25))),
    }
}

/// Digits without a leading zero, at least `least` and at most `most` of them.
fn digits(random: &mut Random, least: usize, most: usize) -> String {
    let mut digits = (1 + random.below(9)).to_string();
    for _ in 1..least + random.below(most - least + 1) {
        write!(digits, "{}", random.below(10)).expect("a string takes everything");
    }
    digits
}

/// Any double but infinities and NaN, subnormal ones included.
fn finite(random: &mut Random) -> f64 {
    let bits = random.next();
    let bits = if random.one_in(10) { bits & !(0x7ff << 52) } else { bits };
    let double = f64::from_bits(bits);
    if double.is_finite() { double } else { f64::MIN_POSITIVE }
}

fn space(random: &mut Random, text: &mut String) {
    for _ in 0..random.below(8).saturating_sub(5) {
        text.push_str(random.pick(&[" ", "\t", "\n", "\r", "    "]));
    }
}
