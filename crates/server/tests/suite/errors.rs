//! Contract, sections 4 to 6: what any input gets, in the form of its version.

use crate::harness::{Call, PLATFORM_KEY, Reply, World, verified};
use serde_json::json;

const UUID: &str = "0199f7a0-0000-7000-8000-000000000000";

/// Every call of the partner API.
const PARTNER_CALLS: [(&str, &str); 6] = [
    ("GET", "webhook-settings"),
    ("PUT", "webhook-settings"),
    ("GET", "webhook-notifications"),
    ("GET", "webhook-notifications/0199f7a0-0000-7000-8000-000000000000"),
    ("GET", "webhook-notifications/0199f7a0-0000-7000-8000-000000000000/attempts"),
    ("POST", "webhook-notifications/0199f7a0-0000-7000-8000-000000000000/retry"),
];

/// Every call of the platform API.
const PLATFORM_CALLS: [(&str, &str); 15] = [
    ("GET", "partners"),
    ("POST", "partners"),
    ("GET", "partners/0199f7a0-0000-7000-8000-000000000000"),
    ("PATCH", "partners/0199f7a0-0000-7000-8000-000000000000"),
    ("DELETE", "partners/0199f7a0-0000-7000-8000-000000000000"),
    ("POST", "partners/0199f7a0-0000-7000-8000-000000000000/api-keys"),
    ("DELETE", "partners/0199f7a0-0000-7000-8000-000000000000/api-keys/1"),
    ("GET", "partners/0199f7a0-0000-7000-8000-000000000000/webhook-settings"),
    ("PUT", "partners/0199f7a0-0000-7000-8000-000000000000/webhook-settings"),
    ("POST", "partners/0199f7a0-0000-7000-8000-000000000000/events"),
    ("POST", "events"),
    ("GET", "event-types"),
    ("GET", "platform-keys"),
    ("POST", "platform-keys"),
    ("DELETE", "platform-keys/1"),
];

fn calls() -> Vec<(&'static str, String, &'static str)> {
    let mut calls = Vec::new();
    for (method, path) in PARTNER_CALLS {
        for version in ["v1", "v2"] {
            calls.push((method, format!("/api/partner/{version}/{path}"), "partner-api-key"));
        }
    }
    for (method, path) in PLATFORM_CALLS {
        calls.push((method, format!("/api/platform/v1/{path}"), "platform-api-key"));
    }
    calls
}

#[track_caller]
fn unauthorized(reply: &Reply, message: &str, header: &str) {
    let details = reply.refused(401, "UNAUTHORIZED", message);
    assert_eq!(details.len(), 1, "{details:?}");
    assert_eq!(details[0].0, header);
}

/// Before anything else is looked at, every call asks for its key; the texts are three.
#[tokio::test]
async fn every_call_asks_for_its_key() {
    let world = World::start().await;
    let partner = world.partner().await;
    let (id, secret) = partner.key.split_once(':').unwrap();
    for (method, path, header) in calls() {
        let call = || Call::new(world.address, method, &path).body("not even JSON");
        unauthorized(&call().send().await, "API Key is missing", header);
        let wrong = if header == "partner-api-key" { PLATFORM_KEY } else { partner.key.as_str() };
        // The other API's key in the other API's header is no key of this one.
        let other_header = if header == "partner-api-key" { "platform-api-key" } else { "partner-api-key" };
        unauthorized(&call().header(other_header, wrong).send().await, "API Key is missing", header);
        unauthorized(&call().header(header, wrong).send().await, "Invalid API Key", header);
        unauthorized(&call().header(header, id).send().await, "Invalid API Key format", header);
    }

    let malformed = [
        String::new(),
        ":".to_owned(),
        format!("{id}:"),
        format!(":{secret}"),
        format!("{id} {secret}"),
        format!("{id}:{secret}:"),
        format!("{id}:{}", secret.replace('-', "")),
        format!("{{{id}}}:{secret}"),
        format!("Bearer {}", partner.key),
        format!("{}é", partner.key),
    ];
    let unknown = [
        format!("{id}:{UUID}"),
        format!("{UUID}:{secret}"),
        format!("{secret}:{id}"),
        format!("{id}:{}", secret.to_uppercase()),
        partner.wrong_key(),
    ];
    for (keys, message) in [(&malformed[..], "Invalid API Key format"), (&unknown[..], "Invalid API Key")] {
        for key in keys {
            let call = Call::new(world.address, "GET", "/api/partner/v2/webhook-settings");
            unauthorized(&call.header("partner-api-key", key).send().await, message, "partner-api-key");
            let call = Call::new(world.address, "GET", "/api/platform/v1/event-types");
            unauthorized(&call.header("platform-api-key", key).send().await, message, "platform-api-key");
        }
    }
}

#[tokio::test]
async fn unknown_routes() {
    let world = World::start().await;
    for path in [
        "/",
        "/api",
        "/api/partner/v1/",
        "/api/partner/v1/webhook-setting",
        "/api/partner/v2/webhook-settings/",
        "/api/partner/v2/webhook-notifications/",
        "/api/partner/v3/webhook-settings",
        "/api/partner/v2/webhook-notifications/1/2",
        "/api/platform/v2/partners",
        "/api/platform/v1/partners/",
        "//api/partner/v2/webhook-settings",
        "/%2e%2e/etc/passwd",
        "/metrics",
    ] {
        for method in ["GET", "POST", "DELETE", "OPTIONS"] {
            let details = world.call(method, path).send().await.refused(404, "NOT_FOUND", "Route not found");
            assert_eq!(details.len(), 1, "{details:?}");
        }
    }
}

/// A path that is no text names nothing.
#[tokio::test]
async fn paths_that_are_no_text() {
    let world = World::start().await;
    let partner = world.partner().await;
    for path in ["webhook-notifications/%FF", "webhook-notifications/%C3%28/attempts"] {
        for version in ["v1", "v2"] {
            let reply = partner.call_version(version, "GET", path).send().await;
            reply.refused(404, "NOT_FOUND", "Route not found");
        }
    }
    for (method, path) in
        [("GET", "partners/%FF"), ("POST", "partners/%FF/events"), ("DELETE", "partners/1/api-keys/%FF")]
    {
        world.platform(method, path).json(&verified("u")).send().await.refused(404, "NOT_FOUND", "Route not found");
    }
}

#[tokio::test]
async fn wrong_methods() {
    let world = World::start().await;
    for (method, path, allowed) in [
        ("POST", "/api/partner/v1/webhook-settings", "GET,HEAD,PUT"),
        ("DELETE", "/api/partner/v2/webhook-settings", "GET,HEAD,PUT"),
        ("POST", "/api/partner/v2/webhook-notifications", "GET,HEAD"),
        ("GET", "/api/partner/v2/webhook-notifications/1/retry", "POST"),
        ("PUT", "/api/platform/v1/partners", "GET,HEAD,POST"),
        ("PUT", "/api/platform/v1/partners/1", "DELETE,GET,HEAD,PATCH"),
        ("GET", "/api/platform/v1/events", "POST"),
        ("BREW", "/api/platform/v1/events", "POST"),
        ("POST", "/healthz", "GET,HEAD"),
    ] {
        let reply = world.call(method, path).send().await;
        let details = reply.refused(405, "METHOD_NOT_ALLOWED", "Method not allowed");
        assert!(details[0].1.contains(method), "{details:?}");
        let mut listed: Vec<_> = reply.header("allow").unwrap().split(',').map(str::trim).collect();
        listed.sort_unstable();
        assert_eq!(listed.join(","), allowed, "{method} {path}");
    }
}

#[tokio::test]
async fn media_types() {
    let world = World::start().await;
    let partner = world.partner().await;
    let settings = json!({"url": partner.endpoint.url}).to_string();
    let event = verified("u").to_string();
    let calls = || {
        [
            (partner.call("PUT", "webhook-settings"), settings.clone(), 200),
            (partner.call_version("v1", "PUT", "webhook-settings"), settings.clone(), 200),
            (world.platform("POST", &format!("partners/{}/events", partner.id)), event.clone(), 202),
            (world.platform("POST", "partners"), r#"{"name":"x"}"#.to_owned(), 201),
            (world.platform("POST", "events"), r#"{"events":[1]}"#.to_owned(), 202),
        ]
    };
    for (call, body, status) in calls() {
        let details =
            call.body(body.clone()).send().await.refused(415, "UNSUPPORTED_MEDIA_TYPE", "Unsupported media type");
        assert_eq!((details.len(), details[0].0.as_str()), (1, "content-type"));
        drop((body, status));
    }
    for wrong in
        ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin1", "application/jsonl", ""]
    {
        for (call, body, _) in calls() {
            let reply = call.header("content-type", wrong).body(body).send().await;
            reply.refused(415, "UNSUPPORTED_MEDIA_TYPE", "Unsupported media type");
        }
    }
    for right in ["application/json", "Application/JSON; charset=UTF-8", "application/json;charset=\"utf-8\""] {
        for (call, body, status) in calls() {
            call.header("content-type", right).body(body).send().await.data(status);
        }
    }
}

/// The answer is read although the body that it refuses has not been.
#[tokio::test]
async fn large_bodies() {
    let world = World::start().await;
    let partner = world.partner().await;
    for length in [64 * 1024 + 1, 1024 * 1024, 10 * 1024 * 1024] {
        let body = " ".repeat(length);
        for version in ["v1", "v2"] {
            let reply = partner.call_version(version, "PUT", "webhook-settings").text(body.clone()).send().await;
            let details = reply.refused(413, "PAYLOAD_TOO_LARGE", "Payload too large");
            assert!(details[0].1.contains("65536 bytes"), "{details:?}");
        }
        let call = || world.call("POST", "/api/platform/v1/events").body(body.clone());
        unauthorized(&call().send().await, "API Key is missing", "platform-api-key");
        let key = |call: Call| call.header("platform-api-key", PLATFORM_KEY);
        key(call()).send().await.refused(415, "UNSUPPORTED_MEDIA_TYPE", "Unsupported media type");
        world.call("POST", "/nowhere").body(body.clone()).send().await.refused(404, "NOT_FOUND", "Route not found");
    }
    // So is one that does not say how long it is.
    let chunks = world.chunked("/api/platform/v1/partners", &"x".repeat(1024), 1024).await;
    assert!(chunks.starts_with("HTTP/1.1 413 ") && chunks.contains(r#""code":"PAYLOAD_TOO_LARGE""#), "{chunks}");
    let path = format!("/api/platform/v1/partners/{}/events", partner.id);
    let chunks = world.chunked(&path, &verified("u").to_string(), 1).await;
    assert!(chunks.starts_with("HTTP/1.1 202 "), "{chunks}");
    partner.endpoint.delivery(1).await;
}

/// Whoever asks first is told before it sends the body.
#[tokio::test]
async fn a_body_that_is_announced_is_refused_before_it_is_sent() {
    let world = World::start().await;
    let head = format!(
        "POST /api/platform/v1/events HTTP/1.1\r\nhost: x\r\nplatform-api-key: {PLATFORM_KEY}\r\n\
         content-type: application/json\r\ncontent-length: 9000000\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n"
    );
    let answer = world.raw(head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}
