//! The canonical form against JavaScript itself: what `JSON.stringify(JSON.parse(body))` gives in Node is the judge.
//!
//! Every run makes its documents from a seed, which it prints; `CAPA_SEED` sets another one. All of them go to one
//! `node` process. A missing `node` fails the test: the signature of every delivered event rests on this agreement.

#[path = "javascript/generate.rs"]
mod generate;

use capa_webhooks_core::event::canonical::{Canonical, canonicalise};
use capa_webhooks_core::problem::Problem;
use generate::Random;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

const EVENTS: usize = 4_000;
const DAMAGED: usize = 8_000;
const NUMBERS: usize = 12_000;

/// Documents that somebody may take for JSON, or for an event.
const NOT_EVENTS: &[&str] = &[
    "",
    " ",
    "{",
    "}",
    "null",
    "true",
    "1",
    "\"a\"",
    "[]",
    "[{}]",
    "{}{}",
    "{},",
    "{} x",
    "{a:1}",
    "{'a':1}",
    "{\"a\":1,}",
    "{,}",
    "{\"a\"}",
    "{\"a\":}",
    "{\"a\":1 \"b\":2}",
    "{\"a\":[1,]}",
    "{\"a\":[,]}",
    "{\"a\":[1 2]}",
    "{\"a\":NaN}",
    "{\"a\":Infinity}",
    "{\"a\":-Infinity}",
    "{\"a\":undefined}",
    "{\"a\":01}",
    "{\"a\":-01}",
    "{\"a\":+1}",
    "{\"a\":.1}",
    "{\"a\":1.}",
    "{\"a\":1.e1}",
    "{\"a\":1e}",
    "{\"a\":1e+}",
    "{\"a\":0x1}",
    "{\"a\":1_000}",
    "{\"a\":1n}",
    "{\"a\":-}",
    "{\"a\":tru}",
    "{\"a\":TRUE}",
    "{\"a\":nulll}",
    "{\"a\":\"\n\"}",
    "{\"a\":\"\t\"}",
    "{\"a\":\"\0\"}",
    "{\"a\":\"\u{1f}\"}",
    "{\"a\":\"\\x41\"}",
    "{\"a\":\"\\u00\"}",
    "{\"a\":\"\\u{41}\"}",
    "{\"a\":\"\\v\"}",
    "{\"a\":\"\\0\"}",
    "{\"a\":\"\\\n\"}",
    "{\"a\":\"",
    "{\"a\":\"\\\"}",
    "{\"a\":1}//",
    "{/**/}",
    "\u{feff}{}",
    "{}\u{feff}",
    "\u{a0}{}",
    "{}\u{2028}",
    "{}\u{c}",
    "{}\0",
    "{\"a\":`b`}",
    "{\"a\":(1)}",
    "{\"\\ud800\":1}",
    "{\"a\":\"\\udc00\"}",
    "{\"0\":1}",
    "{\"a\":1,\"a\":1}",
];

#[test]
fn agrees_with_javascript() {
    let seed = std::env::var("CAPA_SEED").map_or(20_240_405, |seed| seed.parse().expect("CAPA_SEED is a whole number"));
    println!("CAPA_SEED={seed}");
    let mut random = Random::new(seed);
    let events: Vec<_> = (0..EVENTS).map(|_| generate::event(&mut random)).collect();
    let mut damaged: Vec<_> = NOT_EVENTS.iter().map(|text| text.as_bytes().to_vec()).collect();
    for _ in 0..DAMAGED {
        let event = &events[random.below(EVENTS)];
        damaged.push(generate::damaged(&mut random, event.as_bytes()));
    }
    let numbers: Vec<_> = (0..NUMBERS).map(|_| generate::any_number(&mut random)).collect();

    let mut questions = String::new();
    let documents = events.iter().map(String::as_bytes).chain(damaged.iter().map(Vec::as_slice));
    for (letter, bytes) in documents.map(|d| ('d', d)).chain(numbers.iter().map(|n| ('n', n.as_bytes()))) {
        writeln!(questions, "{letter} {}", hex(bytes)).expect("a string takes everything");
    }
    let answers = node(questions);
    let answers: Vec<_> = answers.lines().collect();
    assert_eq!(answers.len(), events.len() + damaged.len() + numbers.len());
    let (of_events, rest) = answers.split_at(events.len());
    let (of_damaged, of_numbers) = rest.split_at(damaged.len());

    for (event, answer) in events.iter().zip(of_events) {
        check_event(event, answer);
    }
    let refused = damaged.iter().zip(of_damaged).filter(|(document, answer)| check_damaged(document, answer)).count();
    let kept = numbers.iter().zip(of_numbers).filter(|(number, answer)| check_number(number, answer)).count();
    assert!(refused > DAMAGED / 3, "only {refused} documents were really broken");
    assert!((NUMBERS / 4..NUMBERS * 3 / 4).contains(&kept), "{kept} numbers were kept");
}

/// A generated event has a canonical form, JavaScript's, which is its own canonical form.
fn check_event(event: &str, answer: &str) {
    let canonical = canonicalise(event.as_bytes()).map(Canonical::into_body);
    assert!(canonical.is_ok(), "{canonical:?}\n{event}");
    let canonical = canonical.unwrap_or_default();
    assert_eq!(format!("object {}", hex(&canonical)), answer, "\n{event}\n{}", String::from_utf8_lossy(&canonical));
    let again = canonicalise(&canonical).map(Canonical::into_body);
    assert_eq!(again, Ok(canonical), "the canonical form is not its own\n{event}");
}

/// Whether JavaScript refuses the document; then we refuse it too, and where neither does, both write the same.
fn check_damaged(document: &[u8], answer: &str) -> bool {
    let shown = String::from_utf8_lossy(document);
    match (answer, canonicalise(document)) {
        ("refused", ours) => {
            assert!(ours.is_err(), "JSON.parse refuses {shown}");
            return true;
        }
        (theirs, Ok(canonical)) => assert_eq!(format!("object {}", hex(canonical.body())), theirs, "{shown}"),
        (_, Err(Problem { problem, .. })) => {
            assert!(!problem.starts_with("This is not valid"), "JSON.parse accepts {shown}, but: {problem}");
        }
    }
    false
}

/// Whether JavaScript keeps the number; we accept it exactly then.
fn check_number(number: &str, answer: &str) -> bool {
    let ours = canonicalise(format!("{{\"n\":{number}}}").as_bytes());
    match (answer.strip_prefix("kept "), ours) {
        (Some(spelled), ours) => {
            let canonical = ours.expect(number);
            assert_eq!(canonical.body(), format!("{{\"n\":{spelled}}}").as_bytes(), "{number}");
            true
        }
        (None, Err(problem)) => {
            let known = answer == "refused" || (answer == "changed" && problem.field == "n");
            assert!(known, "{number}: {answer}, but {problem:?}");
            false
        }
        (None, Ok(canonical)) => {
            let spelled = String::from_utf8_lossy(canonical.body());
            assert_eq!(answer, "kept", "{number} was accepted as {spelled}");
            false
        }
    }
}

/// Node's answers to all questions.
fn node(questions: String) -> String {
    let mut node = Command::new("node")
        .args(["-e", include_str!("javascript/judge.js")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("`node` must be there to compare with JavaScript itself; `cargo xtask setup` installs it");
    let mut stdin = node.stdin.take().expect("it is piped");
    // Node answers when it has read everything, so writing first cannot block on its output.
    stdin.write_all(questions.as_bytes()).expect("node reads its input");
    drop((stdin, questions));
    let output = node.wait_with_output().expect("node ends");
    assert!(output.status.success(), "node failed: {}", output.status);
    String::from_utf8(output.stdout).expect("node answers in ASCII")
}

fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from(b"0123456789abcdef"[usize::from(value)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}
