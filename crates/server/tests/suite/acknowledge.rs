//! Contract, section 1: what acknowledges a notification, and what does not.

use crate::harness::{Answer, Partner, Then, World, verified};
use serde_json::{Value, json};

/// With `retry_count` 0 the first attempt decides.
const ONE_ATTEMPT: (&str, &str) = ("retry_count", "0");
const KEPT: usize = 16 * 1024;

/// Publishes to a receiver that answers so; gives the only attempt once the notification has this status.
async fn ends_as(partner: &Partner, user: &str, answer: Answer, status: &str) -> Value {
    partner.endpoint.answers_for(user, [answer]);
    let id = partner.publish(&verified(user)).await;
    partner.becomes(&id, status).await;
    let attempts = partner.attempts(&id).await;
    assert_eq!(attempts.len(), 1, "{user}");
    assert_eq!(attempts[0]["settled"], status, "{user}");
    attempts[0].clone()
}

#[tokio::test]
async fn exactly_200_acknowledges() {
    let world = World::with(&[ONE_ATTEMPT]).await;
    let partner = world.partner().await;
    let elsewhere = world.receiver.endpoint();
    for (status, expected) in [
        (200, "SENT"),
        (201, "FAILED"),
        (202, "FAILED"),
        (204, "FAILED"),
        (206, "FAILED"),
        (301, "FAILED"),
        (302, "FAILED"),
        (304, "FAILED"),
        (307, "FAILED"),
        (308, "FAILED"),
        (400, "FAILED"),
        (401, "FAILED"),
        (404, "FAILED"),
        (410, "FAILED"),
        (429, "FAILED"),
        (500, "FAILED"),
        (503, "FAILED"),
        (599, "FAILED"),
    ] {
        let answer = Answer::with(status, &[("location", &elsewhere.url)], "");
        let attempt = ends_as(&partner, &status.to_string(), answer, expected).await;
        assert_eq!((&attempt["httpStatus"], &attempt["errorKind"]), (&json!(status), &Value::Null));
    }
    assert!(elsewhere.deliveries().is_empty(), "redirects are not followed");
}

#[tokio::test]
async fn a_partner_can_widen_it_to_any_2xx() {
    let world = World::with(&[ONE_ATTEMPT]).await;
    let partner = world.partner().await;
    partner.choose(json!({"ackRule": "2xx"})).await;
    for (status, expected) in
        [(200, "SENT"), (201, "SENT"), (204, "SENT"), (299, "SENT"), (301, "FAILED"), (400, "FAILED"), (500, "FAILED")]
    {
        ends_as(&partner, &status.to_string(), Answer::new(status, ""), expected).await;
    }
    partner.choose(json!({"ackRule": "200"})).await;
    ends_as(&partner, "narrow again", Answer::new(201, ""), "FAILED").await;
}

/// 16 KiB of the body are enough, and no more of it is kept.
#[tokio::test]
async fn a_long_body_acknowledges_without_its_end() {
    let world = World::with(&[ONE_ATTEMPT]).await;
    let partner = world.partner().await;
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 1048576\r\n\r\n";
    for (user, sent) in [("just enough", KEPT), ("more", KEPT + 1000)] {
        let answer = Answer::raw(head.to_owned() + &"x".repeat(sent), Then::Hang);
        let attempt = ends_as(&partner, user, answer, "SENT").await;
        assert_eq!(attempt["responseBody"], "x".repeat(KEPT), "{user}");
    }
    let connections: Vec<_> = partner.endpoint.deliveries().iter().map(|delivery| delivery.connection).collect();
    assert_ne!(connections[0], connections[1], "a connection with an unread rest is not used again");
}

/// A body that comes whole and is longer than what is kept: its connection is not used again either.
#[tokio::test]
async fn the_rest_of_a_long_body_is_not_read() {
    let world = World::with(&[ONE_ATTEMPT]).await;
    let partner = world.partner().await;
    let body = "y".repeat(1024 * 1024);
    let attempt = ends_as(&partner, "first", Answer::new(200, &body), "SENT").await;
    assert_eq!(attempt["responseBody"].as_str().unwrap().len(), KEPT);
    let attempt = ends_as(&partner, "second", Answer::new(500, &body), "FAILED").await;
    assert_eq!(attempt["responseBody"].as_str().unwrap().len(), KEPT);
    let connections: Vec<_> = partner.endpoint.deliveries().iter().map(|delivery| delivery.connection).collect();
    assert_eq!(connections, [1, 2]);
}

#[tokio::test]
async fn bodies_in_every_form_that_ends() {
    let world = World::with(&[ONE_ATTEMPT]).await;
    let partner = world.partner().await;
    for (user, bytes, then) in [
        ("none", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", Then::Keep),
        ("chunked", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", Then::Keep),
        ("until it closes", "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nok", Then::Close),
        ("without a reason", "HTTP/1.1 200 \r\ncontent-length: 0\r\n\r\n", Then::Keep),
    ] {
        ends_as(&partner, user, Answer::raw(bytes, then), "SENT").await;
    }
}

#[tokio::test]
async fn what_is_no_complete_answer_does_not_acknowledge() {
    let world = World::with(&[ONE_ATTEMPT]).await;
    let partner = world.partner().await;
    for (user, bytes, then, kind, status) in [
        ("reset", "", Then::Reset, "disconnected", None),
        ("closed", "", Then::Close, "disconnected", None),
        ("half a head", "HTTP/1.1 200 OK\r\ncontent-le", Then::Close, "disconnected", None),
        ("half a body", "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nok", Then::Close, "disconnected", Some(200)),
        (
            "half a chunk",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nok",
            Then::Close,
            "disconnected",
            Some(200),
        ),
        ("no HTTP", "220 mail.example ESMTP\r\n\r\n", Then::Close, "protocol", None),
        (
            "another protocol",
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
            Then::Hang,
            "protocol",
            Some(101),
        ),
    ] {
        let attempt = ends_as(&partner, user, Answer::raw(bytes, then), "FAILED").await;
        assert_eq!(
            (&attempt["errorKind"], &attempt["httpStatus"]),
            (&json!(kind), &json!(status)),
            "{user}: {attempt}"
        );
        assert!(attempt["error"].as_str().unwrap().len() > 20, "{user}: {attempt}");
        assert_eq!(attempt["responseBody"], Value::Null, "{user}");
    }
}

#[tokio::test]
async fn nobody_listens() {
    let world = World::with(&[ONE_ATTEMPT]).await;
    let partner = world.partner().await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    partner.set(json!({"url": format!("http://{free}/")})).await;
    let id = partner.publish(&verified("u")).await;
    let detail = partner.becomes(&id, "FAILED").await;
    let attempts = partner.attempts(&id).await;
    assert_eq!((&attempts[0]["errorKind"], &attempts[0]["httpStatus"]), (&json!("connect"), &Value::Null));
    assert_eq!(detail["latestErrorPayload"], json!({"message": attempts[0]["error"]}));
}

/// One deadline covers the whole attempt, the body included.
#[tokio::test]
async fn what_does_not_end_in_time_does_not_acknowledge() {
    let world = World::on_system_clock(&[ONE_ATTEMPT]).await;
    let partner = world.partner().await;
    partner.choose(json!({"attemptTimeout": "1s"})).await;
    let almost = "HTTP/1.1 200 OK\r\ncontent-length: 1048576\r\n\r\n".to_owned() + &"x".repeat(KEPT - 1);
    for (user, bytes, status) in [
        ("silent", String::new(), None),
        ("half a head", "HTTP/1.1 200 OK\r\n".to_owned(), None),
        ("half a body", "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nok".to_owned(), Some(200)),
        ("one byte less than is enough", almost, Some(200)),
        ("endless", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n".to_owned(), Some(200)),
    ] {
        let attempt = ends_as(&partner, user, Answer::raw(bytes, Then::Hang), "FAILED").await;
        assert_eq!(
            (&attempt["errorKind"], &attempt["httpStatus"]),
            (&json!("timeout"), &json!(status)),
            "{user}: {attempt}"
        );
        let took = attempt["durationMs"].as_u64().unwrap();
        assert!((1000..10_000).contains(&took), "{user}: {took}");
    }
}

/// The default deadline is 15 s: a millisecond earlier the attempt is still under way.
#[tokio::test]
async fn the_default_deadline() {
    let world = World::with(&[ONE_ATTEMPT]).await;
    let partner = world.partner().await;
    partner.endpoint.answers_for("silent", [Answer::raw("", Then::Hang)]);
    let id = partner.publish(&verified("silent")).await;
    partner.endpoint.attempt(&id, 1).await;
    world.step(std::time::Duration::from_millis(14_999));
    partner.barrier().await;
    assert_eq!(partner.notification(&id).await["status"], "PENDING");
    world.step(std::time::Duration::from_millis(1));
    partner.becomes(&id, "FAILED").await;
    let attempt = &partner.attempts(&id).await[0];
    assert_eq!((&attempt["errorKind"], &attempt["durationMs"]), (&json!("timeout"), &json!(15_000)));
}
