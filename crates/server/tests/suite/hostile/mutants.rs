//! Good requests with a few bytes changed, from a fixed seed: no fault, no panic, and nothing is taken in but events and
//! settings that a judge in Python, with its own reader of JSON, finds right.

use super::probe::keeps_to_the_form;
use super::stage::Stage;
use super::wire::{Answer, Then, exchange, shown};
use std::io::Write as _;
use std::process::{Command, Stdio};

/// A failure is repeated by the same seed. Another one is given in `CAPA_HOSTILE_SEED`.
const SEED: u64 = 20_240_405;
/// How many; `CAPA_HOSTILE_MUTANTS` gives another number.
const MUTANTS: u64 = 3000;

/// Says of each line, a kind and the hex of a body, whether the service may take it.
const JUDGE: &str = r#"
import json, re, sys
EVENTS = ("CREATED_KYC", "VERIFIED_USER", "REJECTED_KYC", "REVIEW_NEEDED_KYC")
def members(pairs):
    keys = [key for key, _ in pairs]
    assert len(set(keys)) == len(keys), "a key twice"
    return dict(pairs)
def text(value):
    return isinstance(value, str) and 1 <= len(value) <= 256 and value.encode("utf-8", "strict") is not None
def constant(word):
    raise ValueError(word)
def listed(value, most, item):
    return value is None or (isinstance(value, list) and 1 <= len(value) <= most and all(map(item, value)))
def delay(value):
    return isinstance(value, str) and re.fullmatch("0|[0-9]+([.][0-9]+)?(ms|s|m|h|d)", value, re.ASCII)
def event(body):
    return body["type"] == "KYC" and body["event"] in EVENTS and text(body["externalUserId"])
def settings(body):
    known = set(body) <= {"url", "ackRule", "retryDelays", "events"} and body["url"] is None
    rule = body.get("ackRule") in (None, "200", "2xx")
    return known and rule and listed(body.get("retryDelays"), 5, delay) and listed(body.get("events"), 256, EVENTS.__contains__)
for line in sys.stdin:
    kind, body = line.split()
    try:
        body = bytes.fromhex(body).decode("utf-8", "strict")
        body = json.loads(body, object_pairs_hook=members, parse_constant=constant)
        good = isinstance(body, dict) and (event if kind == "event" else settings)(body)
    except Exception:
        good = False
    print("good" if good else "bad", flush=True)
"#;

/// Sends the mutants, a few at a time, and judges what came back and what is stored.
pub(super) async fn judge(stage: &mut Stage) {
    let number = |name: &str, default| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (seed, count) = (number("CAPA_HOSTILE_SEED", SEED), number("CAPA_HOSTILE_MUTANTS", MUTANTS));
    println!("mutants: CAPA_HOSTILE_SEED={seed} CAPA_HOSTILE_MUTANTS={count}");
    let mut random = Random(seed);
    let before = stage.total().await;
    let (mut taken, mut answered, mut refused) = (Vec::new(), 0, 0);
    for number in 0..count {
        let mutant = Mutant::make(stage, &mut random);
        let answers = exchange(stage.address(), &mutant.bytes, Then::HalfClose).await;
        for answer in &answers {
            let trouble = |what: String| format!("mutant {number} of seed {seed}: {what}: {:?}", shown(&mutant.bytes));
            if let Err(complaint) = keeps_to_the_form(answer) {
                panic!("{}", trouble(complaint));
            }
            match answer {
                Answer { status: 202, .. } => taken.push(("event", mutant.body().to_vec())),
                Answer { status: 200, .. } if mutant.is_settings => taken.push(("settings", mutant.body().to_vec())),
                Answer { status: 200, .. } => answered += 1,
                Answer { status, body, .. } => {
                    assert!(body.contains(r#""code":"#), "{}", trouble(format!("{status} {body}")));
                    refused += 1;
                }
            }
        }
    }
    let events = taken.iter().filter(|(kind, _)| *kind == "event").count();
    println!("mutants: {} taken, of which {events} are events; {answered} answered, {refused} refused", taken.len());
    assert!(events > 0 && events < taken.len() && answered > 0 && refused > count / 4, "the mutants reach every side");
    assert_eq!(stage.total().await - before, events as u64, "what is stored is what was accepted");
    for ((kind, body), verdict) in taken.iter().zip(python(&taken)) {
        assert_eq!(verdict, "good", "seed {seed}: {kind} {:?}", String::from_utf8_lossy(body));
    }
    // Its settings were what was changed: they are what the last good one said, and can be told.
    stage.other.get("webhook-settings").await.data(200);
    stage.goes_on().await;
}

/// What Python says of each body.
fn python(bodies: &[(&str, Vec<u8>)]) -> Vec<String> {
    let mut child =
        Command::new("python3").args(["-c", JUDGE]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let lines: String = bodies.iter().map(|(kind, body)| format!("{kind} {}\n", hex(body))).collect();
    let writing = std::thread::spawn(move || input.write_all(lines.as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap();
    let verdicts: Vec<String> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(verdicts.len(), bodies.len());
    verdicts
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A changed request.
struct Mutant {
    bytes: Vec<u8>,
    is_settings: bool,
}

impl Mutant {
    /// Changes one of the good requests in one to four places. The body is changed before its length is measured, so
    /// that most mutants are read as requests; a few have their head changed too.
    fn make(stage: &Stage, random: &mut Random) -> Self {
        let event = r#"{"type":"KYC","event":"VERIFIED_USER","externalUserId":"user-1","n":1.5,"l":["a",{"b":null}]}"#;
        let settings = r#"{"url":null,"ackRule":"200","retryDelays":["1s","2m"],"events":["VERIFIED_USER"]}"#;
        let kind = random.below(4);
        let (ask, body) = match kind {
            0 | 1 => (stage.publishing(), event),
            2 => (stage.ask_other("PUT", "v2/webhook-settings"), settings),
            _ => (stage.ask("GET", "v2/webhook-notifications?limit=1&status=SENT&skip=0"), ""),
        };
        let mut body = body.as_bytes().to_vec();
        for _ in 0..random.below(4) {
            change(&mut body, random);
        }
        let ask = if body.is_empty() { ask } else { ask.json(body) };
        let mut bytes = ask.bytes();
        if random.below(4) == 0 {
            let head = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(0);
            let rest = bytes.split_off(head);
            change(&mut bytes, random);
            bytes.extend(rest);
        }
        Self { bytes, is_settings: kind == 2 }
    }

    fn body(&self) -> &[u8] {
        let head = self.bytes.windows(4).position(|window| window == b"\r\n\r\n").map_or(0, |at| at + 4);
        &self.bytes[head..]
    }
}

/// What is put in: bytes that readers of JSON and HTTP trip over.
const PIECES: [&[u8]; 24] = [
    b"\"",
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"0",
    b"-",
    b"e",
    b".",
    b"\0",
    b"\r\n",
    b"\xff",
    b"\xed\xa0\x80",
    b"\\ud800",
    b"1e400",
    b"null",
    b" ",
    b"\xef\xbb\xbf",
    b"\"type\":1,",
    b"%00",
    b"\x7f",
];

/// Members that are put in where one may begin: keys that are there already, and values that must be refused.
const MEMBERS: [&[u8]; 8] = [
    b"\"externalUserId\":\"user-2\",",
    b"\"n\":1.5,",
    b"\"b\":null,",
    b"\"url\":null,",
    b"\"0\":1,",
    b"\"x\":1e400,",
    b"\"x\":\"\\ud800\",",
    b"\"x\":9007199254740993,",
];

/// Changes the bytes in one place.
fn change(bytes: &mut Vec<u8>, random: &mut Random) {
    if bytes.is_empty() {
        return;
    }
    let at = random.below(bytes.len());
    match random.below(7) {
        0 => bytes[at] ^= 1 << random.below(8),
        1 => drop(bytes.remove(at)),
        2 => bytes.truncate(at),
        3 => {
            let to = (at + 1 + random.below(8)).min(bytes.len());
            let copy = bytes[at..to].to_vec();
            bytes.splice(at..at, copy);
        }
        4 => {
            let begins = |at: &usize| matches!(bytes[*at], b'{' | b',');
            let places: Vec<usize> = (0..bytes.len()).filter(begins).collect();
            if !places.is_empty() {
                let at = places[random.below(places.len())] + 1;
                bytes.splice(at..at, MEMBERS[random.below(MEMBERS.len())].iter().copied());
            }
        }
        _ => {
            let piece = PIECES[random.below(PIECES.len())];
            bytes.splice(at..at, piece.iter().copied());
        }
    }
}

/// SplitMix64: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap_or(0)
    }
}
