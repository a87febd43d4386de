//! Contract, section 5: the same event, published again.

use crate::harness::{Answer, Partner, Reply, World, on_ramp, seconds, verified};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::task::JoinSet;

const KEY: &str = "idempotency-key";

async fn publish(partner: &Partner, key: &str, event: &Value) -> Reply {
    partner.publishing(event.to_string()).header(KEY, key).send().await
}

async fn total(partner: &Partner) -> Value {
    partner.get("webhook-notifications").await.data(200)["total"].clone()
}

#[tokio::test]
async fn the_same_event_again() {
    let world = World::with(&[("retry_delays", "1m")]).await;
    let partner = world.partner().await;
    partner.endpoint.answers([Answer::new(500, ""), Answer::ok()]);
    let first = publish(&partner, "k", &on_ramp("u", "t")).await.data(202);
    let id = first["id"].as_str().unwrap();
    assert_eq!(publish(&partner, "k", &on_ramp("u", "t")).await.data(200), first);

    // Another spelling of the same event is the same event.
    let spelled = r#" {"event":"CREATED_ON_RAMP", "type":"TRANSACTION","externalUserId":"\u0075",
                       "transactionId":"t","firstName":"Satoshi","lastName":"Nakamoto"}"#;
    assert_eq!(partner.publishing(spelled).header(KEY, "k").send().await.data(200), first);

    // The status is the one of now.
    partner.attempted(id, 1).await;
    world.step(seconds(60));
    partner.becomes(id, "SENT").await;
    assert_eq!(publish(&partner, "k", &on_ramp("u", "t")).await.data(200), json!({"id": id, "status": "SENT"}));
    assert_eq!(total(&partner).await, 1);
    assert_eq!(partner.endpoint.deliveries().len(), 2);
}

#[tokio::test]
async fn another_event_under_the_same_key() {
    let world = World::start().await;
    let partner = world.partner().await;
    let first = publish(&partner, "k", &on_ramp("u", "t")).await.data(202);
    for other in [on_ramp("u", "T"), on_ramp("v", "t"), verified("u")] {
        let reply = publish(&partner, "k", &other).await;
        let details = reply.refused(409, "CONFLICT", "The idempotency key was used with another event");
        assert_eq!(details[0].0, KEY);
        assert!(details[0].1.contains(first["id"].as_str().unwrap()), "{details:?}");
    }
    assert_eq!(total(&partner).await, 1);
}

#[tokio::test]
async fn other_keys_and_other_partners() {
    let world = World::start().await;
    let (a, b) = (world.partner().await, world.partner().await);
    let mut ids = std::collections::BTreeSet::new();
    for (partner, key) in [(&a, "k"), (&a, "K"), (&a, "k2"), (&b, "k")] {
        let data = publish(partner, key, &verified("u")).await.data(202);
        ids.insert(data["id"].as_str().unwrap().to_owned());
    }
    // Without a key the same event is another notification.
    for _ in 0..2 {
        ids.insert(a.publish(&verified("u")).await);
    }
    assert_eq!(ids.len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_at_the_same_moment() {
    let world = World::start().await;
    let partner = world.partner().await;
    let mut calls = JoinSet::new();
    for number in 0..64 {
        let partner = partner.clone();
        calls.spawn(async move {
            if number % 4 > 0 {
                return publish(&partner, "k", &verified("u")).await;
            }
            // Every fourth comes through the other way in.
            let item = json!({"partnerId": partner.id, "idempotencyKey": "k", "payload": verified("u")});
            partner.batch(&json!({"events": [item]})).send().await
        });
    }
    let replies = calls.join_all().await;
    let mut ids: Vec<Value> = Vec::new();
    for reply in &replies {
        let data = reply.json()["data"].clone();
        let answer = if data["events"].is_array() { data["events"][0].clone() } else { data };
        assert!(matches!(reply.status, 200 | 202), "{}", reply.text());
        ids.push(answer["id"].clone());
    }
    assert!(ids[0].is_string() && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    let created = replies.iter().filter(|reply| reply.status == 202 && reply.json()["data"]["id"].is_string()).count();
    assert!(created <= 1, "at most one of the single calls made it");
    assert_eq!(total(&partner).await, 1);
    partner.barrier().await;
    assert_eq!(partner.endpoint.deliveries().len(), 2, "it was sent once, and the barrier");
}

/// With different events under one key at the same moment, one wins and all others are told.
#[tokio::test(flavor = "multi_thread")]
async fn a_race_of_different_events() {
    let world = World::start().await;
    let partner = world.partner().await;
    let mut calls = JoinSet::new();
    for number in 0..32 {
        let partner = partner.clone();
        calls.spawn(async move { publish(&partner, "k", &verified(&number.to_string())).await });
    }
    let statuses: Vec<u16> = calls.join_all().await.iter().map(|reply| reply.status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 202).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 409).count(), 31, "{statuses:?}");
    assert_eq!(total(&partner).await, 1);
}

#[tokio::test]
async fn within_one_batch() {
    let world = World::start().await;
    let partner = world.partner().await;
    let item = |user: &str| json!({"partnerId": partner.id, "idempotencyKey": "k", "payload": verified(user)});
    let data = partner.batch(&json!({"events": [item("u"), item("u"), item("v")]})).send().await.data(202);
    let answers = data["events"].as_array().unwrap();
    assert_eq!(answers[0]["status"], "PENDING");
    assert_eq!(answers[1]["id"], answers[0]["id"]);
    assert_eq!(answers[2]["code"], "CONFLICT");
    assert_eq!(answers[2]["message"], "The idempotency key was used with another event");
    // One way in knows the keys of the other.
    assert_eq!(publish(&partner, "k", &verified("u")).await.data(200)["id"], answers[0]["id"]);
    assert_eq!(total(&partner).await, 1);
}

/// A key counts for 72 h, or for as long as is configured; then it is a new one.
#[tokio::test]
async fn keys_lapse() {
    for (settings, retention) in [(vec![], 72 * 3_600), (vec![("idempotency_retention", "1h")], 3_600)] {
        let world = World::with(&settings).await;
        let partner = world.partner().await;
        let first = publish(&partner, "k", &verified("u")).await.data(202);
        partner.becomes(first["id"].as_str().unwrap(), "SENT").await;
        world.step(seconds(retention));
        assert_eq!(publish(&partner, "k", &verified("u")).await.data(200)["id"], first["id"]);
        publish(&partner, "k", &verified("v")).await.refused(
            409,
            "CONFLICT",
            "The idempotency key was used with another event",
        );
        world.step(Duration::from_millis(1));
        let second = publish(&partner, "k", &verified("v")).await.data(202);
        assert_ne!(second["id"], first["id"]);
        assert_eq!(publish(&partner, "k", &verified("v")).await.data(200)["id"], second["id"]);
        assert_eq!(total(&partner).await, 2);
    }
}

#[tokio::test]
async fn keys_have_1_to_256_characters() {
    let world = World::start().await;
    let partner = world.partner().await;
    for wrong in ["", &"k".repeat(257)] {
        publish(&partner, wrong, &verified("u")).await.invalid_only(KEY, "1 to 256 characters");
    }
    let call = partner.publishing(verified("u").to_string());
    call.clone().header(KEY, "one").header(KEY, "two").send().await.invalid_only(KEY, "once");
    call.header(KEY, "é").send().await.invalid_only(KEY, "visible ASCII");
    assert_eq!(total(&partner).await, 0);
    publish(&partner, &"k".repeat(256), &verified("u")).await.data(202);
    publish(&partner, "a key, with \"anything\" in it", &verified("u")).await.data(202);
}

/// What was refused has not used up its key.
#[tokio::test]
async fn a_refused_event_leaves_its_key_free() {
    let world = World::start().await;
    let partner = world.partner().await;
    publish(&partner, "k", &json!({"type": "KYC"})).await.invalid();
    publish(&partner, "k", &verified("u")).await.data(202);
}

#[tokio::test]
async fn keys_outlive_a_restart_and_cover_what_was_not_sent() {
    let mut world = World::start().await;
    let partner = world.partner_without_url().await;
    let first = publish(&partner, "k", &verified("u")).await.data(202);
    assert_eq!(first["status"], "NOT_SENT");
    world.stop().await;
    world.start_service().await;
    let partner = world.again(&partner);
    assert_eq!(publish(&partner, "k", &verified("u")).await.data(200), first);
    publish(&partner, "k", &verified("v")).await.refused(
        409,
        "CONFLICT",
        "The idempotency key was used with another event",
    );
}
