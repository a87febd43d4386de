//! The one pass over the input: objects and arrays, the order of keys, and duplicates.
//!
//! Members of the objects that are being read stand on one shared stack; a nested object takes its own off when it
//! ends, so that at the end the stack holds those of the event. Recursion is as deep as the nesting, at most
//! [`MAX_DEPTH`].

use super::refusal::{Refusal, Step};
use super::{Canonical, Kind, MAX_DEPTH, Member, number, string};

/// Up to this many keys of an object are compared pair by pair; more are sorted first.
const FEW_KEYS: usize = 24;

/// The rank of a member that stays where it is.
const ANYWHERE: u64 = u64::MAX;

/// The largest array index of JavaScript; a key that spells it or less comes before the others.
const MAX_INDEX: u64 = 4_294_967_294;

/// Brings a text that is UTF-8 into canonical form.
pub(super) fn run(input: &[u8]) -> Step<Canonical> {
    let mut pass = Pass { input, at: 0, out: Vec::with_capacity(input.len()), members: Vec::with_capacity(16) };
    pass.skip_space();
    pass.event()?;
    pass.skip_space();
    if pass.at < input.len() {
        return Err(Refusal::syntax(pass.at, "nothing behind the object"));
    }
    Ok(Canonical { body: pass.out, members: pass.members })
}

struct Pass<'a> {
    input: &'a [u8],
    /// The next byte to read.
    at: usize,
    out: Vec<u8>,
    members: Vec<Member>,
}

impl Pass<'_> {
    /// Reads the top level, which must be an object.
    fn event(&mut self) -> Step<()> {
        match *self.input.get(self.at).ok_or_else(Refusal::end)? {
            b'{' => {
                self.at += 1;
                self.object(1)
            }
            b'[' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => {
                Err(Refusal::value("The body must be one JSON object, the event itself."))
            }
            0xef => Err(Refusal::syntax(self.at, "`{` (is there a byte order mark? remove it)")),
            _ => Err(Refusal::syntax(self.at, "`{`")),
        }
    }

    /// Reads any value that stands inside something at `depth`.
    fn value(&mut self, depth: usize) -> Step<Kind> {
        match *self.input.get(self.at).ok_or_else(Refusal::end)? {
            b'"' => {
                self.string()?;
                Ok(Kind::String)
            }
            b'-' | b'0'..=b'9' => {
                self.at = number::append(self.input, self.at, &mut self.out)?;
                Ok(Kind::Number)
            }
            b'{' | b'[' if depth == MAX_DEPTH => {
                Err(Refusal::value("This is nested deeper than 64 levels; make the event flatter."))
            }
            b'{' => {
                self.at += 1;
                self.object(depth + 1)?;
                Ok(Kind::Object)
            }
            b'[' => {
                self.at += 1;
                self.array(depth + 1)?;
                Ok(Kind::Array)
            }
            b't' => self.word(b"true", Kind::Boolean),
            b'f' => self.word(b"false", Kind::Boolean),
            b'n' => self.word(b"null", Kind::Null),
            _ => Err(Refusal::syntax(self.at, "a value")),
        }
    }

    /// Reads an object behind its `{`; at depth 1 its members stay on the stack.
    fn object(&mut self, depth: usize) -> Step<()> {
        self.skip_space();
        if self.skip(b'}') {
            self.out.extend_from_slice(b"{}");
            return Ok(());
        }
        let first = self.members.len();
        let mut separator = b'{';
        loop {
            let member = self.member(separator, depth)?;
            self.members.push(member);
            self.skip_space();
            if !self.skip(b',') {
                break;
            }
            separator = b',';
            self.skip_space();
        }
        self.take(b'}', "`,` or `}`")?;
        self.refuse_duplicates(first)?;
        self.put_in_order(first);
        self.out.push(b'}');
        if depth > 1 {
            self.members.truncate(first);
        }
        Ok(())
    }

    /// Reads one member of an object at `depth`.
    fn member(&mut self, separator: u8, depth: usize) -> Step<Member> {
        let start = self.out.len();
        self.out.push(separator);
        if self.input.get(self.at).is_some_and(|byte| *byte != b'"') {
            return Err(Refusal::syntax(self.at, "a key in double quotes"));
        }
        self.string()?;
        let key_end = self.out.len();
        let key = start + 2..key_end - 1;
        let rank = rank(&self.out[key.clone()], depth).map_err(|refusal| refusal.in_member(&self.out[key.clone()]))?;
        self.skip_space();
        self.take(b':', "`:` behind the key")?;
        self.out.push(b':');
        self.skip_space();
        let kind = self.value(depth).map_err(|refusal| refusal.in_member(&self.out[key]))?;
        Ok(Member { start, key_end, end: self.out.len(), rank, kind })
    }

    /// Reads an array behind its `[`.
    fn array(&mut self, depth: usize) -> Step<()> {
        self.out.push(b'[');
        self.skip_space();
        if !self.skip(b']') {
            for index in 0.. {
                self.value(depth).map_err(|refusal| refusal.in_item(index))?;
                self.skip_space();
                if !self.skip(b',') {
                    break;
                }
                self.out.push(b',');
                self.skip_space();
            }
            self.take(b']', "`,` or `]`")?;
        }
        self.out.push(b']');
        Ok(())
    }

    /// Reads a string at its opening quote.
    fn string(&mut self) -> Step<()> {
        if self.at >= self.input.len() {
            return Err(Refusal::end());
        }
        self.at = string::append(self.input, self.at + 1, &mut self.out)?;
        Ok(())
    }

    /// Reads `true`, `false` or `null`.
    fn word(&mut self, word: &'static [u8], kind: Kind) -> Step<Kind> {
        let rest = &self.input[self.at..];
        if rest.starts_with(word) {
            self.at += word.len();
            self.out.extend_from_slice(word);
            Ok(kind)
        } else if word.starts_with(rest) {
            Err(Refusal::end())
        } else {
            Err(Refusal::syntax(self.at, "a value"))
        }
    }

    /// Refuses an object, whose members are those from `first` on, that has a key twice.
    fn refuse_duplicates(&self, first: usize) -> Step<()> {
        let members = &self.members[first..];
        let key = |member: &Member| member.key(&self.out);
        let twice = if members.len() <= FEW_KEYS {
            let seen_before = |(at, member): &(usize, &Member)| members[..*at].iter().any(|m| key(m) == key(member));
            members.iter().enumerate().find(seen_before).map(|(_, member)| key(member))
        } else {
            let mut keys: Vec<_> = members.iter().map(key).collect();
            keys.sort_unstable();
            keys.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
        };
        match twice {
            Some(key) => Err(Refusal::value(
                "This key stands twice in the same object, and JavaScript would keep only the last; send it once.",
            )
            .in_member(key)),
            None => Ok(()),
        }
    }

    /// Puts the members from `first` on, which make up the end of the output, in the order of their ranks.
    fn put_in_order(&mut self, first: usize) {
        let members = &mut self.members[first..];
        if members.is_sorted_by_key(|member| member.rank) {
            return;
        }
        let start = members[0].start;
        members.sort_by_key(|member| member.rank);
        let given = self.out.split_off(start);
        for member in members {
            let moved = self.out.len();
            self.out.extend_from_slice(&given[member.start - start..member.end - start]);
            self.out[moved] = if moved == start { b'{' } else { b',' };
            member.key_end = moved + (member.key_end - member.start);
            (member.start, member.end) = (moved, self.out.len());
        }
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.input.get(self.at) {
            self.at += 1;
        }
    }

    /// Whether the next byte is this one; if so it is passed over.
    fn skip(&mut self, byte: u8) -> bool {
        let found = self.input.get(self.at) == Some(&byte);
        self.at += usize::from(found);
        found
    }

    /// Passes over a byte that must come next.
    fn take(&mut self, byte: u8, expected: &'static str) -> Step<()> {
        if self.skip(byte) {
            Ok(())
        } else if self.at < self.input.len() {
            Err(Refusal::syntax(self.at, expected))
        } else {
            Err(Refusal::end())
        }
    }
}

/// Where a key of an object at `depth` belongs.
fn rank(key: &[u8], depth: usize) -> Step<u64> {
    match (depth, key, array_index(key)) {
        (1, b"type", _) => Ok(0),
        (1, b"event", _) => Ok(1),
        (1, _, Some(_)) => {
            Err(Refusal::value("JavaScript would move a key that is a whole number to the front; rename it."))
        }
        (_, _, Some(index)) => Ok(index),
        (_, _, None) => Ok(ANYWHERE),
    }
}

/// The array index that a key spells, in the one way that JavaScript takes for one.
fn array_index(key: &[u8]) -> Option<u64> {
    if key.len() > 10 || !key.iter().all(u8::is_ascii_digit) || (key.len() > 1 && key[0] == b'0') || key.is_empty() {
        return None;
    }
    let index = key.iter().fold(0, |index, digit| index * 10 + u64::from(digit - b'0'));
    (index <= MAX_INDEX).then_some(index)
}
