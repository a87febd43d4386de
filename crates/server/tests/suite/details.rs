//! Contract, section 4: one notification, its attempts, and what its receiver said last.

use crate::harness::{Answer, START, Then, World, later, on_ramp, seconds, verified};
use serde_json::{Value, json};

const UNKNOWN: &str = "0199f7a0-0000-7000-8000-000000000000";

#[tokio::test]
async fn the_form_of_a_notification() {
    let world = World::start().await;
    let partner = world.partner().await;
    let id = partner.publish(&on_ramp("u", "t")).await;
    partner.becomes(&id, "SENT").await;
    let data = json!({
        "id": id,
        "status": "SENT",
        "retryAttempts": 0,
        "manualRetryCount": 0,
        "payload": on_ramp("u", "t"),
        "latestErrorPayload": null,
        "lastManualRetryAt": null,
        "version": 1,
        "createdAt": START,
        "updatedAt": START,
    });
    for (version, envelope) in
        [("v1", json!({"status": "ok", "data": data})), ("v2", json!({"success": true, "data": data}))]
    {
        let reply = partner.call_version(version, "GET", &format!("webhook-notifications/{id}")).send().await;
        reply.data(200);
        assert_eq!(reply.text(), envelope.to_string());
    }
}

#[tokio::test]
async fn the_form_of_attempts() {
    let world = World::with(&[("retry_delays", "10s,10s,10s")]).await;
    let partner = world.partner().await;
    let answers = [
        Answer::new(500, "oh no"),
        Answer::raw("", Then::Reset),
        Answer::with(429, &[("retry-after", "1")], ""),
        Answer::new(200, "thanks"),
    ];
    partner.endpoint.answers(answers);
    let id = partner.publish(&verified("u")).await;
    for number in 1..=3 {
        partner.attempted(&id, number).await;
        world.step(seconds(10));
    }
    partner.becomes(&id, "SENT").await;
    let attempt = |number: u64, status: Value, error: Value, words: Value, body: Value| {
        json!({
            "cycle": 1,
            "number": number,
            "startedAt": later(START, seconds(10 * (number - 1))),
            "url": partner.endpoint.url,
            "httpStatus": status,
            "errorKind": error,
            "error": words,
            "durationMs": 0,
            "responseBody": body,
            "settled": if number == 4 { json!("SENT") } else { Value::Null },
            "nextAttemptAt": if number == 4 { Value::Null } else { json!(later(START, seconds(10 * number))) },
        })
    };
    let (disconnected, words) = (json!("disconnected"), json!("The receiver reset the connection before it answered."));
    let expected = json!({
        "count": 4,
        "data": [
            attempt(1, json!(500), Value::Null, Value::Null, json!("oh no")),
            attempt(2, Value::Null, disconnected, words, Value::Null),
            attempt(3, json!(429), Value::Null, Value::Null, json!("")),
            attempt(4, json!(200), Value::Null, Value::Null, json!("thanks")),
        ],
    });
    for version in ["v1", "v2"] {
        let reply = partner.call_version(version, "GET", &format!("webhook-notifications/{id}/attempts")).send().await;
        assert_eq!(reply.data(200).to_string(), expected.to_string());
    }
}

/// The partner's own error body: JSON as it is, else its text; for a network failure what failed.
#[tokio::test]
async fn the_latest_error() {
    let world = World::with(&[("retry_count", "0")]).await;
    let partner = world.partner().await;
    let deep = "[".repeat(5_000) + &"]".repeat(5_000);
    let long = format!(r#"{{"text":"{}"}}"#, "x".repeat(20_000));
    let head = |length: usize| format!("HTTP/1.1 500 x\r\ncontent-length: {length}\r\n\r\n");
    for (user, answer, expected) in [
        (
            "an object",
            Answer::new(500, r#"{"code": "E1", "b": 1.0, "a": [null, "é"]}"#),
            r#"{"code": "E1", "b": 1.0, "a": [null, "é"]}"#.to_owned(),
        ),
        ("a list", Answer::new(422, "[1,2]"), "[1,2]".to_owned()),
        ("a string", Answer::new(400, r#""no""#), r#""no""#.to_owned()),
        ("a number", Answer::new(400, "12345678901234567890"), "12345678901234567890".to_owned()),
        ("null", Answer::new(400, "null"), "null".to_owned()),
        (
            "text",
            Answer::new(502, "<html>\nBad \"Gateway\""),
            json!({"message": "<html>\nBad \"Gateway\""}).to_string(),
        ),
        ("half JSON", Answer::new(500, r#"{"a":"#), json!({"message": r#"{"a":"#}).to_string()),
        (
            "no UTF-8",
            Answer::raw([head(2).as_bytes(), b"a\xff"].concat(), Then::Keep),
            json!({"message": "a\u{fffd}"}).to_string(),
        ),
        (
            "nothing",
            Answer::new(503, ""),
            json!({"message": "The receiver answered 503 with an empty body."}).to_string(),
        ),
        ("too deep", Answer::new(500, &deep), json!({"message": deep}).to_string()),
        ("cut", Answer::new(500, &long), json!({"message": long[..16 * 1024]}).to_string()),
        (
            "closed",
            Answer::raw("", Then::Close),
            json!({"message": "The receiver closed the connection before it answered."}).to_string(),
        ),
    ] {
        partner.endpoint.answers_for(user, [answer]);
        let id = partner.publish(&verified(user)).await;
        partner.becomes(&id, "FAILED").await;
        let reply = partner.get(&format!("webhook-notifications/{id}")).await;
        let expected = format!(r#""latestErrorPayload":{expected},"lastManualRetryAt""#);
        assert!(reply.text().contains(&expected), "{user}: {expected} in {}", reply.text());
    }
}

/// It is that of the last failed attempt, whatever the ones before said.
#[tokio::test]
async fn the_latest_error_follows_the_attempts() {
    let world = World::with(&[("retry_delays", "1s,1s")]).await;
    let partner = world.partner().await;
    partner.endpoint.answers([Answer::new(500, r#"{"n":1}"#), Answer::raw("", Then::Close), Answer::new(400, "third")]);
    let id = partner.publish(&verified("u")).await;
    assert_eq!(partner.notification(&id).await["version"], 1);
    let closed = "The receiver closed the connection before it answered.";
    for (number, expected) in [(1, json!({"n": 1})), (2, json!({"message": closed})), (3, json!({"message": "third"}))]
    {
        partner.attempted(&id, number).await;
        assert_eq!(partner.notification(&id).await["latestErrorPayload"], expected);
        world.step(seconds(1));
    }
}

#[tokio::test]
async fn unknown_notifications() {
    let world = World::start().await;
    let partner = world.partner().await;
    for version in ["v1", "v2"] {
        for id in [UNKNOWN, "nonsense", "1", "%F0%9F%9A%80", &partner.id] {
            for (method, rest) in [("GET", ""), ("GET", "/attempts"), ("POST", "/retry")] {
                let path = format!("webhook-notifications/{id}{rest}");
                let reply = partner.call_version(version, method, &path).send().await;
                let details = reply.refused(404, "NOT_FOUND", "Webhook notification not found");
                assert!(details.is_empty(), "{details:?}");
            }
        }
    }
}

/// Settled notifications are removed when their retention is over; pending ones never.
#[tokio::test]
async fn retention() {
    let world = World::with(&[("retention", "1h"), ("retry_delays", "10s,7d")]).await;
    let partner = world.partner().await;
    let sent = partner.publish(&verified("sent")).await;
    partner.becomes(&sent, "SENT").await;
    world.step(std::time::Duration::from_millis(1));
    partner.endpoint.answers_for("pending", [Answer::new(500, "")]);
    let pending = partner.publish(&verified("pending")).await;
    partner.attempted(&pending, 1).await;
    world.step(seconds(10));
    partner.attempted(&pending, 2).await;
    world.step(seconds(3_600));
    let gone = async || (partner.get(&format!("webhook-notifications/{sent}")).await.status == 404).then_some(());
    crate::harness::patience::until("the settled one to be removed", gone).await;
    assert_eq!(partner.notification(&pending).await["status"], "PENDING");
    assert_eq!(partner.get("webhook-notifications").await.data(200)["total"], 1);
}
