//! `dev`: what a newcomer sees, and that it is true.

use super::process::{Place, Running, curl, shell};
use serde_json::Value;
use std::net::TcpListener;

/// The next line, without the time in front of it, that tells of a notification.
fn told(dev: &mut Running, id: &str, what: &str) -> String {
    let end = format!("…{}", &id[id.len() - 8..]);
    dev.line(&format!("{what} {end}"), |line| line.contains(&end) && line.contains(what))
}

fn answer(line: &str) -> Value {
    serde_json::from_str(&shell(line)).expect(line)
}

#[test]
fn once_shows_everything_and_ends() {
    // Whether this test holds the port or another program: it is taken.
    let _holder = TcpListener::bind("127.0.0.1:8080");
    let done = Place::new().run(&["dev", "--once"]);
    let out = &done.out;
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""), "{out}");
    let lines: Vec<&str> = out.lines().collect();
    let count = |words: &[&str]| lines.iter().filter(|line| words.iter().all(|word| line.contains(word))).count();

    for (words, expected) in [
        (&["another program listens on 8080"][..], 1),
        (&["platform API key"], 1),
        (&["partner API key"], 1),
        (&["webhook secret"], 1),
        (&["published", "KYC", "202"], 2),
        (&["published", "TRANSACTION", "202"], 3),
        (&["received", "CREATED_KYC", "signature verified, answered 200"], 1),
        (&["received", "VERIFIED_USER", "signature verified, answered 200"], 1),
        (&["received", "CREATED_ON_RAMP", "signature verified, answered 200"], 1),
        (&["received", "COMPLETED_ON_RAMP", "signature verified, answered 200"], 1),
        (&["received", "COMPLETED_OFF_RAMP", "signature verified, answered 500"], 2),
        (&["failed", r#"attempt 1: 500 {"error":"database is down"}"#], 1),
        (&["retry", "will be retried: next attempt at "], 2),
        (&["failed", r#"attempt 2: 500 {"error":"database is down"}"#], 1),
        (&["received", "COMPLETED_OFF_RAMP", "signature verified, answered 200"], 1),
        (&["SENT", "acknowledged at attempt 3"], 1),
        (&["COMPLETED_OFF_RAMP  SENT      2 "], 1),
        (&["_ON_RAMP", "SENT      0 "], 2),
        (&["capa-signature: "], 1),
        (&["webhook-signature: v1,"], 1),
        (&["curl ", "/events"], 2),
        (&["curl ", "/webhook-notifications?limit="], 1),
    ] {
        assert_eq!(count(words), expected, "{words:?}:\n{out}");
    }
    assert!(!out.contains('\x1b'), "no colours, because this is not a terminal");
}

#[test]
fn runs_on_and_tells_what_arrives_until_it_is_stopped() {
    let place = Place::new();
    let mut dev = place.start(&["dev", "--listen", "127.0.0.1:0"]);
    let mut line = |word: &str| dev.line(word, |line| line.starts_with("curl ") && line.contains(word));
    let (publish, list, fail) = (line("/events"), line("/webhook-notifications"), line("fail-"));
    dev.line("that it goes on", |line| line.contains("Ctrl-C"));
    assert_eq!(place.names("tmp").len(), 1);

    // The lines work in a shell as they are.
    let published = answer(&publish);
    let id = published["data"]["id"].as_str().expect(&publish);
    assert!(told(&mut dev, id, "received").ends_with("signature verified, answered 200"));
    let listed = answer(&list);
    assert_eq!(listed["data"]["data"][0]["id"], id, "{listed}");

    let published = answer(&fail);
    let id = published["data"]["id"].as_str().expect(&fail);
    assert!(told(&mut dev, id, "received").ends_with("signature verified, answered 500"));
    assert!(told(&mut dev, id, "failed").ends_with(r#"attempt 1: 500 {"error":"database is down"}"#));
    assert!(told(&mut dev, id, "retry").contains("will be retried: next attempt at "));
    assert!(told(&mut dev, id, "failed").ends_with(r#"attempt 2: 500 {"error":"database is down"}"#));

    dev.signal("INT");
    let done = dev.finish();
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""), "{}", done.out);
    assert!(
        done.out.trim_end().lines().last().is_some_and(|last| last.starts_with("Stopped. Removed ")),
        "{}",
        done.out
    );
    assert!(place.names("tmp").is_empty());
    assert_eq!(place.names("."), ["tmp"]);
}

#[test]
fn what_is_not_signed_is_refused_and_told() {
    let place = Place::new();
    let mut dev = place.start(&["dev", "--listen", "127.0.0.1:0"]);
    let line = dev.line("the receiver's URL", |line| line.contains("/webhooks"));
    let url = line.split_whitespace().find(|word| word.ends_with("/webhooks")).expect("just found").to_owned();
    let answer = shell(&format!("curl -sS -w ' %{{http_code}}' -d '{{}}' {url}"));
    assert!(answer.ends_with(" 401"), "{answer}");
    dev.line("the refusal", |line| line.contains("refused, ") && line.ends_with("answered 401"));
}

#[test]
fn it_can_be_stopped_at_any_time() {
    for signal in ["INT", "TERM", "HUP"] {
        let place = Place::new();
        let mut dev = place.start(&["dev", "--listen", "127.0.0.1:0"]);
        dev.line("a retry", |line| line.contains("will be retried"));
        dev.signal(signal);
        let done = dev.finish();
        assert_eq!(done.code, Some(0), "{signal}: {}{}", done.out, done.err);
        assert!(place.names("tmp").is_empty(), "{signal}");
    }
}

#[test]
fn once_fails_if_anything_does_not_happen() {
    let place = Place::new();
    let mut dev = place.start(&["dev", "--once", "--listen", "127.0.0.1:0"]);
    let mut word = |label: &str| {
        let line = dev.line(label, |line| line.trim_start().starts_with(label));
        line.trim_start()[label.len()..].split_whitespace().next().expect("a value").to_owned()
    };
    let (service, platform_key) = (word("service"), word("platform API key"));
    let (partner, partner_key) = (word("demo partner"), word("partner API key"));
    dev.line("a retry", |line| line.contains("will be retried"));
    // Takes from the demonstration the key with which it looks up what was recorded.
    let key_id = partner_key.split(':').next().expect("it has a colon");
    let url = format!("{service}/api/platform/v1/partners/{partner}/api-keys/{key_id}");
    let (status, answer) = curl(&["-X", "DELETE", &url, "-H", &format!("platform-api-key: {platform_key}")]);
    assert_eq!(status, 200, "{answer}");
    let done = dev.finish();
    assert_eq!(done.code, Some(1), "{}{}", done.out, done.err);
    assert!(done.err.contains("the demonstration failed: ") && done.err.contains("Invalid API Key"), "{}", done.err);
    assert!(place.names("tmp").is_empty());
}

#[test]
fn once_that_is_stopped_early_has_failed() {
    let place = Place::new();
    let mut dev = place.start(&["dev", "--once", "--listen", "127.0.0.1:0"]);
    dev.line("a retry", |line| line.contains("will be retried"));
    dev.signal("TERM");
    let done = dev.finish();
    assert_eq!(done.code, Some(1), "{}", done.out);
    assert!(done.err.contains("stopped before the demonstration was over"), "{}", done.err);
}

#[test]
fn an_address_that_is_taken_is_named() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap().to_string();
    let place = Place::new();
    for flag in ["--listen", "--receiver-listen"] {
        let said = place.bad(&["dev", "--once", flag, &address]);
        assert!(said.contains(&format!("cannot listen on {address}")), "{said}");
        assert!(said.contains(&format!("another address with {flag}")), "{said}");
    }
    assert!(place.names("tmp").is_empty());
}
