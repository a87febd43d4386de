//! Contract, section 2: the manual retry, its limits and the order of its checks.

use crate::harness::{Answer, Partner, Reply, START, World, later, on_ramp, seconds, verified};
use serde_json::{Value, json};

const NOT_FAILED: &str = "Notification is not in FAILED status";
const TOO_MANY: &str = "Partner webhook notification has reached the maximum number of manual retries (3)";
const UNKNOWN_ID: &str = "0199f7a0-0000-7000-8000-000000000000";

/// The first attempt of a cycle decides.
async fn world() -> World {
    World::with(&[("retry_count", "0")]).await
}

/// A notification that failed.
async fn failed(partner: &Partner, user: &str) -> String {
    partner.endpoint.answers_for(user, [Answer::new(500, "no")]);
    let id = partner.publish(&verified(user)).await;
    partner.becomes(&id, "FAILED").await;
    id
}

/// Retries by hand, which must be granted, until it has failed again.
async fn retry_in_vain(partner: &Partner, id: &str) {
    partner.retry(id).await.data(201);
    partner.becomes(id, "FAILED").await;
}

#[track_caller]
fn assert_no_url(reply: &Reply) {
    let details = reply.refused(409, "CONFLICT", "No webhook URL is set");
    assert_eq!(details[0].0, "url");
}

#[track_caller]
fn assert_limited(reply: &Reply, wait: &str) {
    reply.refused(429, "TOO_MANY_REQUESTS", "Rate limit exceeded. Try again in a few seconds.");
    assert_eq!(reply.header("retry-after"), Some(wait));
}

#[tokio::test]
async fn a_new_cycle_begins_at_once() {
    let world = World::with(&[("retry_delays", "1s")]).await;
    let partner = world.partner().await;
    let event = on_ramp("u", "t");
    partner
        .endpoint
        .answers_for("u", [Answer::new(500, "one"), Answer::new(500, "two"), Answer::new(500, "three"), Answer::ok()]);
    let id = partner.publish(&event).await;
    partner.attempted(&id, 1).await;
    world.step(seconds(1));
    let failed = partner.becomes(&id, "FAILED").await;
    assert_eq!(
        failed,
        json!({
            "id": id,
            "status": "FAILED",
            "retryAttempts": 1,
            "manualRetryCount": 0,
            "payload": event,
            "latestErrorPayload": {"message": "two"},
            "lastManualRetryAt": null,
            "version": 1,
            "createdAt": START,
            "updatedAt": later(START, seconds(1)),
        })
    );

    world.step(seconds(100));
    let retried = partner.retry(&id).await.data(201);
    assert_eq!(
        retried,
        json!({
            "id": id,
            "status": "PENDING",
            "retryAttempts": 0,
            "manualRetryCount": 1,
            "payload": event,
            "latestErrorPayload": null,
            "lastManualRetryAt": later(START, seconds(101)),
            "version": 2,
            "createdAt": START,
            "updatedAt": later(START, seconds(101)),
        })
    );

    // The clock stands: it goes out because it was queued at once, and the cycle has retries of its own.
    partner.endpoint.attempt(&id, 3).await;
    let attempts = partner.attempted(&id, 3).await;
    let turns: Vec<_> = attempts.iter().map(|attempt| (&attempt["cycle"], &attempt["number"])).collect();
    assert_eq!(turns, [(&json!(1), &json!(1)), (&json!(1), &json!(2)), (&json!(2), &json!(1))]);
    world.step(seconds(1));
    let sent = partner.becomes(&id, "SENT").await;
    assert_eq!(
        (&sent["retryAttempts"], &sent["manualRetryCount"], &sent["version"]),
        (&json!(1), &json!(1), &json!(2))
    );
    assert_eq!(sent["lastManualRetryAt"], later(START, seconds(101)));
    assert_eq!(sent["latestErrorPayload"], json!({"message": "three"}));
    let ids: Vec<_> = partner.endpoint.deliveries().iter().map(|delivery| delivery.id().to_owned()).collect();
    assert_eq!(ids, vec![id; 4], "the same id in every cycle");
}

#[tokio::test]
async fn at_most_three_for_each_notification() {
    let world = world().await;
    let partner = world.partner().await;
    let id = failed(&partner, "u").await;
    for count in 1..=3 {
        retry_in_vain(&partner, &id).await;
        let detail = partner.notification(&id).await;
        assert_eq!((&detail["manualRetryCount"], &detail["version"]), (&json!(count), &json!(count + 1)));
    }
    for version in ["v1", "v2"] {
        let path = format!("webhook-notifications/{id}/retry");
        let reply = partner.call_version(version, "POST", &path).send().await;
        assert!(reply.refused(409, "CONFLICT", TOO_MANY).is_empty());
    }
    assert_eq!(partner.endpoint.attempts_of(&id).len(), 4);
    // Another one is not concerned.
    retry_in_vain(&partner, &failed(&partner, "other").await).await;
}

#[tokio::test]
async fn at_most_ten_for_each_partner_and_minute() {
    let world = world().await;
    let (partner, other) = (world.partner().await, world.partner().await);
    let mut ids = Vec::new();
    for number in 0..12 {
        ids.push(failed(&partner, &number.to_string()).await);
    }
    for id in &ids[..5] {
        retry_in_vain(&partner, id).await;
        // What is refused does not count.
        partner.retry(UNKNOWN_ID).await.refused(404, "NOT_FOUND", "Webhook notification not found");
    }
    world.step(seconds(20));
    for id in &ids[5..10] {
        retry_in_vain(&partner, id).await;
    }
    assert_limited(&partner.retry(&ids[10]).await, "40");
    assert_limited(&partner.retry(&ids[10]).await, "40");
    assert_eq!(partner.notification(&ids[10]).await["manualRetryCount"], 0);
    retry_in_vain(&other, &failed(&other, "u").await).await;

    world.step(std::time::Duration::from_millis(39_999));
    assert_limited(&partner.retry(&ids[10]).await, "1");
    world.step(std::time::Duration::from_millis(1));
    // The five of the first moment are a minute old.
    for id in [&ids[10], &ids[11], &ids[0], &ids[1], &ids[2]] {
        retry_in_vain(&partner, id).await;
    }
    assert_limited(&partner.retry(&ids[3]).await, "20");
}

#[tokio::test]
async fn only_what_failed_is_retried() {
    let world = World::with(&[("retry_delays", "1h")]).await;
    let partner = world.partner().await;
    let sent = partner.publish(&verified("sent")).await;
    partner.becomes(&sent, "SENT").await;
    partner.endpoint.answers_for("pending", [Answer::new(500, "")]);
    let pending = partner.publish(&verified("pending")).await;
    partner.attempted(&pending, 1).await;
    let url = partner.endpoint.url.clone();
    partner.set(json!({"url": null})).await;
    let not_sent = partner.publish_as("NOT_SENT", &verified("not sent")).await;
    partner.set(json!({"url": url})).await;
    for id in [&sent, &pending, &not_sent] {
        assert!(partner.retry(id).await.refused(409, "CONFLICT", NOT_FAILED).is_empty());
        assert_eq!(partner.notification(id).await["manualRetryCount"], 0);
    }
    partner.barrier().await;
    for (id, attempts) in [(&sent, 1), (&pending, 1), (&not_sent, 0)] {
        assert_eq!(partner.endpoint.attempts_of(id).len(), attempts);
    }
}

/// 401, 403, 404, 409 not FAILED, 409 limit, 409 no URL, 429: of two that apply, the earlier is told.
#[tokio::test]
async fn the_order_of_the_checks() {
    let world = world().await;
    let partner = world.partner().await;
    let url = partner.endpoint.url.clone();
    let sent = partner.publish(&verified("sent")).await;
    partner.becomes(&sent, "SENT").await;
    let used_up = failed(&partner, "used up").await;
    for _ in 0..3 {
        retry_in_vain(&partner, &used_up).await;
    }
    let mut ids = Vec::new();
    for number in 0..8 {
        ids.push(failed(&partner, &number.to_string()).await);
    }
    for id in &ids[..7] {
        retry_in_vain(&partner, id).await;
    }
    let fresh = &ids[7];

    // All ten of the minute are used up, so the rate limit applies to every call from here on.
    assert_limited(&partner.retry(fresh).await, "60");
    partner.set(json!({"url": null})).await;
    assert_no_url(&partner.retry(fresh).await);
    partner.retry(&used_up).await.refused(409, "CONFLICT", TOO_MANY);
    partner.retry(&sent).await.refused(409, "CONFLICT", NOT_FAILED);
    partner.retry(UNKNOWN_ID).await.refused(404, "NOT_FOUND", "Webhook notification not found");

    let disable = |disabled: bool| partner.seen_by_platform("PATCH").json(&json!({"disabled": disabled})).send();
    disable(true).await.data(200);
    for id in [fresh, &used_up, &sent, UNKNOWN_ID] {
        partner.retry(id).await.refused(403, "INVALID_PARTNER_FLOW", "The partner has an invalid flow.");
        partner.with_key(&partner.wrong_key()).retry(id).await.refused(401, "UNAUTHORIZED", "Invalid API Key");
    }

    disable(false).await.data(200);
    partner.set(json!({"url": url})).await;
    world.step(seconds(60));
    partner.retry(fresh).await.data(201);
}

#[tokio::test]
async fn without_a_url_nothing_is_queued() {
    let world = world().await;
    let partner = world.partner().await;
    let id = failed(&partner, "u").await;
    partner.set(json!({"url": null})).await;
    assert_no_url(&partner.retry(&id).await);
    let detail = partner.notification(&id).await;
    assert_eq!((&detail["status"], &detail["manualRetryCount"]), (&json!("FAILED"), &json!(0)));
    assert_eq!(detail["lastManualRetryAt"], Value::Null);
}

/// Of many retries of one notification at the same moment, one begins a cycle.
#[tokio::test(flavor = "multi_thread")]
async fn two_retries_at_the_same_moment() {
    let world = world().await;
    let partner = world.partner().await;
    let gate = crate::harness::Gate::closed();
    partner.endpoint.answers_for("u", [Answer::new(500, "no"), Answer::ok().behind(&gate)]);
    let id = partner.publish(&verified("u")).await;
    partner.becomes(&id, "FAILED").await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (partner, id) = (partner.clone(), id.clone());
        calls.spawn(async move { partner.retry(&id).await });
    }
    let replies = calls.join_all().await;
    let granted = replies.iter().filter(|reply| reply.status == 201).count();
    assert_eq!(granted, 1);
    for reply in replies.iter().filter(|reply| reply.status != 201) {
        reply.refused(409, "CONFLICT", NOT_FAILED);
    }
    gate.open();
    let sent = partner.becomes(&id, "SENT").await;
    assert_eq!((&sent["manualRetryCount"], &sent["version"]), (&json!(1), &json!(2)));
}
