//! Contract, section 5: publishing many events in one request.

use crate::harness::{Reply, World, details_of, verified};
use serde_json::{Value, json};

async fn send(world: &World, body: impl Into<hyper::body::Bytes>) -> Reply {
    world.platform("POST", "events").text(body).send().await
}

/// What each item came to.
async fn publish(world: &World, items: &[Value]) -> Vec<Value> {
    let data = send(world, json!({"events": items}).to_string()).await.data(202);
    let answers = data["events"].as_array().unwrap().clone();
    assert_eq!(data, json!({"events": answers}));
    assert_eq!(answers.len(), items.len());
    answers
}

/// Checks the refusal of an item; gives the fields of its details.
#[track_caller]
fn refused(answer: &Value, code: &str, message: &str) -> Vec<String> {
    let details = details_of(&answer["details"]);
    assert_eq!(answer, &json!({"code": code, "message": message, "details": answer["details"]}));
    details.into_iter().map(|(field, _)| field).collect()
}

#[tokio::test]
async fn each_item_is_decided_by_itself() {
    let world = World::start().await;
    let (a, b, silent) = (world.partner().await, world.partner().await, world.partner_without_url().await);
    let large = json!({"type": "KYC", "event": "VERIFIED_USER", "externalUserId": "u", "a": "x".repeat(256 * 1024)});
    let answers = publish(
        &world,
        &[
            json!({"partnerId": a.id, "payload": verified("one")}),
            json!({"partnerId": a.id, "payload": {"type": "KYC", "event": "VERIFIED", "firstName": 1}}),
            json!({"partnerId": b.id, "payload": verified("two")}),
            json!({"partnerId": silent.id, "payload": verified("three")}),
            json!({"partnerId": "0199f7a0-0000-7000-8000-000000000000", "payload": verified("u")}),
            json!({"partnerId": "nonsense", "payload": verified("u")}),
            json!({"partnerId": a.id, "payload": []}),
            json!({"partnerId": a.id, "payload": large}),
            json!({"partnerId": a.id}),
            json!({"partnerId": a.id, "payload": verified("u"), "extra": 1}),
            json!("not an object"),
            json!({"partnerId": a.id, "idempotencyKey": "", "payload": verified("u")}),
            json!({"partnerId": a.id, "idempotencyKey": null, "payload": verified("four")}),
        ],
    )
    .await;

    for (at, status) in [(0, "PENDING"), (2, "PENDING"), (3, "NOT_SENT"), (12, "PENDING")] {
        assert_eq!(answers[at], json!({"id": answers[at]["id"], "status": status}), "{at}");
    }
    let invalid = |at: usize| refused(&answers[at], "INVALID_USER_INPUT_ERROR", "Invalid User Input");
    assert_eq!(invalid(1), ["payload.event", "payload.externalUserId"]);
    assert!(refused(&answers[4], "NOT_FOUND", "Partner not found").is_empty());
    assert!(refused(&answers[5], "NOT_FOUND", "Partner not found").is_empty());
    assert_eq!(invalid(6), ["payload"]);
    assert_eq!(refused(&answers[7], "PAYLOAD_TOO_LARGE", "Payload too large"), ["payload"]);
    assert_eq!((invalid(8), invalid(9), invalid(10)), (vec![String::new()], vec![String::new()], vec![String::new()]));
    assert_eq!(invalid(11), ["idempotencyKey"]);

    a.becomes(answers[0]["id"].as_str().unwrap(), "SENT").await;
    b.becomes(answers[2]["id"].as_str().unwrap(), "SENT").await;
    a.becomes(answers[12]["id"].as_str().unwrap(), "SENT").await;
    for (partner, total) in [(&a, 2), (&b, 1), (&silent, 1)] {
        assert_eq!(partner.get("webhook-notifications").await.data(200)["total"], total);
    }
    assert_eq!(b.endpoint.delivery(1).await.text(), verified("two").to_string());
}

#[tokio::test]
async fn at_most_a_thousand() {
    // So many do not go out in one moment, so this clock runs.
    let world = World::on_system_clock(&[]).await;
    let partner = world.partner().await;
    let item = |number: usize| json!({"partnerId": partner.id, "payload": verified(&number.to_string())});
    let items: Vec<_> = (0..1001).map(item).collect();
    for wrong in [&items[..], &[]] {
        send(&world, json!({"events": wrong}).to_string()).await.invalid_only("events", "1 to 1000");
    }
    assert_eq!(partner.get("webhook-notifications").await.data(200)["total"], 0);

    let answers = publish(&world, &items[..1000]).await;
    assert!(answers.iter().all(|answer| answer["status"] == "PENDING"));
    partner.endpoint.delivery(1000).await;
    // The answers stand in the order of the items.
    for at in [0, 499, 999] {
        let detail = partner.notification(answers[at]["id"].as_str().unwrap()).await;
        assert_eq!(detail["payload"]["externalUserId"], at.to_string());
    }
}

#[tokio::test]
async fn at_most_eight_mebibytes() {
    const LIMIT: usize = 8 * 1024 * 1024;
    let world = World::start().await;
    let partner = world.partner().await;
    let body = json!({"events": [{"partnerId": partner.id, "payload": verified("u")}]}).to_string();
    let padded = |length: usize| body.clone() + &" ".repeat(length - body.len());
    assert_eq!(send(&world, padded(LIMIT)).await.data(202)["events"][0]["status"], "PENDING");
    let details = send(&world, padded(LIMIT + 1)).await.refused(413, "PAYLOAD_TOO_LARGE", "Payload too large");
    assert!(details[0].1.contains("8388608 bytes"), "{details:?}");
    partner.barrier().await;
    assert_eq!(partner.get("webhook-notifications").await.data(200)["total"], 2);
}

/// Only a broken envelope refuses the whole request.
#[tokio::test]
async fn broken_envelopes() {
    let world = World::start().await;
    let partner = world.partner().await;
    let item = json!({"partnerId": partner.id, "payload": verified("u")});
    for body in [
        String::new(),
        "[]".to_owned(),
        "{}".to_owned(),
        "null".to_owned(),
        r#"{"events":{}}"#.to_owned(),
        format!(r#"{{"events":[{item}],"more":1}}"#),
        format!(r#"{{"events":[{item}],"events":[]}}"#),
        format!(r#"{{"events":[{item}"#),
        format!(r#"{{"events":[{item}]}}x"#),
    ] {
        let details = send(&world, body.clone()).await.invalid();
        assert_eq!(details[0].0, "events", "{body}");
    }
    let reply = send(&world, [json!({"events": [item]}).to_string().as_bytes(), b"\xff"].concat()).await;
    assert_eq!(reply.invalid()[0].0, "events");
    assert_eq!(partner.get("webhook-notifications").await.data(200)["total"], 0);
}

/// The payload of an item is as exact as the body of a single publish: nothing on the way rewrites it.
#[tokio::test]
async fn payloads_are_read_as_they_are_written() {
    let world = World::start().await;
    let partner = world.partner().await;
    let item = |payload: &str| format!(r#"{{"partnerId":"{}","payload":{payload}}}"#, partner.id);
    let good = r#"{"b":1.0,"event":"VERIFIED_USER", "type":"KYC","a":{"2":1,"1":2},"externalUserId":"u"}"#;
    let twice = r#"{"type":"KYC","event":"VERIFIED_USER","externalUserId":"u","a":1,"a":2}"#;
    let big = r#"{"type":"KYC","event":"VERIFIED_USER","externalUserId":"u","a":9007199254740993}"#;
    let body = format!(r#"{{"events":[{},{},{}]}}"#, item(good), item(twice), item(big));
    let data = send(&world, body).await.data(202);
    assert_eq!(data["events"][0]["status"], "PENDING");
    for at in [1, 2] {
        assert_eq!(refused(&data["events"][at], "INVALID_USER_INPUT_ERROR", "Invalid User Input"), ["payload.a"]);
    }
    let delivered = r#"{"type":"KYC","event":"VERIFIED_USER","b":1,"a":{"1":2,"2":1},"externalUserId":"u"}"#;
    assert_eq!(partner.endpoint.delivery(1).await.text(), delivered);
}
