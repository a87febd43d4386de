//! Contract, section 2: notifications that there is nowhere to send, and changes in mid-cycle.

use crate::harness::{Answer, Partner, World, seconds, verified};
use serde_json::{Value, json};

/// Publishes an event that is settled at once as NOT_SENT, with this reason in words.
async fn not_sent(partner: &Partner, user: &str) -> String {
    let id = partner.publish_as("NOT_SENT", &verified(user)).await;
    assert!(partner.endpoint.attempts_of(&id).is_empty());
    id
}

/// Publishes an event whose first attempt fails; the next one is due in a minute.
async fn in_mid_cycle(partner: &Partner, user: &str) -> String {
    partner.endpoint.answers_for(user, [Answer::new(500, "no")]);
    let id = partner.publish(&verified(user)).await;
    partner.attempted(&id, 1).await;
    id
}

async fn world() -> World {
    World::with(&[("retry_delays", "1m,1m,1m,1m,1m")]).await
}

async fn disable(partner: &Partner, disabled: bool) {
    let changed = partner.seen_by_platform("PATCH").json(&json!({"disabled": disabled})).send().await.data(200);
    assert_eq!(changed["disabled"], disabled);
}

#[tokio::test]
async fn without_a_url() {
    let world = world().await;
    let partner = world.partner_without_url().await;
    let id = not_sent(&partner, "u").await;
    let detail = partner.notification(&id).await;
    assert_eq!(
        detail,
        json!({
            "id": id,
            "status": "NOT_SENT",
            "retryAttempts": 0,
            "manualRetryCount": 0,
            "payload": verified("u"),
            "latestErrorPayload": {"message": "Not sent: no webhook URL was set."},
            "lastManualRetryAt": null,
            "version": 1,
            "createdAt": world.now(),
            "updatedAt": world.now(),
        })
    );
    assert_eq!(partner.attempts(&id).await, Vec::<Value>::new());

    // A URL that is set afterwards is for what comes afterwards.
    partner.set(json!({"url": partner.endpoint.url})).await;
    world.step(seconds(3_600));
    partner.barrier().await;
    assert_eq!(partner.endpoint.deliveries().len(), 1);
    assert_eq!(partner.notification(&id).await, detail);
}

#[tokio::test]
async fn a_disabled_partner() {
    let world = world().await;
    let partner = world.partner().await;
    disable(&partner, true).await;
    let id = not_sent(&partner, "u").await;
    disable(&partner, false).await;
    let detail = partner.notification(&id).await;
    assert_eq!(detail["latestErrorPayload"], json!({"message": "Not sent: the partner was disabled."}));
    partner.barrier().await;
    assert_eq!(partner.endpoint.deliveries().len(), 1);
}

#[tokio::test]
async fn an_event_that_the_filter_leaves_out() {
    let world = world().await;
    let partner = world.partner().await;
    partner.choose(json!({"events": ["REJECTED_KYC"]})).await;
    let id = not_sent(&partner, "u").await;
    let detail = partner.notification(&id).await;
    let message = "Not sent: the `events` setting leaves this event out.";
    assert_eq!(detail["latestErrorPayload"], json!({"message": message}));
    partner.publish(&json!({"type": "KYC", "event": "REJECTED_KYC", "externalUserId": "u"})).await;
    partner.endpoint.delivery(1).await;

    partner.choose(json!({"events": null})).await;
    partner.barrier().await;
    assert_eq!(partner.endpoint.deliveries().len(), 2);
    assert_eq!(partner.notification(&id).await["status"], "NOT_SENT");
}

/// Each attempt goes to the URL that is in force when it is made.
#[tokio::test]
async fn the_url_changes_in_mid_cycle() {
    let world = world().await;
    let partner = world.partner().await;
    let id = in_mid_cycle(&partner, "u").await;
    let elsewhere = world.receiver.endpoint();
    elsewhere.expect_secret(&partner.secret);
    partner.set(json!({"url": elsewhere.url})).await;
    world.step(seconds(60));
    assert_eq!(elsewhere.delivery(1).await.id(), id);
    partner.becomes(&id, "SENT").await;
    let urls: Vec<_> = partner.attempts(&id).await.iter().map(|attempt| attempt["url"].clone()).collect();
    assert_eq!(urls, [json!(partner.endpoint.url), json!(elsewhere.url)]);
    assert_eq!(partner.endpoint.deliveries().len(), 1);
}

/// Nothing happens before the next due time; then there is nowhere to send it.
#[tokio::test]
async fn the_url_is_removed_in_mid_cycle() {
    let world = world().await;
    let partner = world.partner().await;
    let id = in_mid_cycle(&partner, "u").await;
    partner.set(json!({"url": null})).await;
    world.step(seconds(59));
    assert_eq!(partner.notification(&id).await["status"], "PENDING");
    world.step(seconds(1));
    let detail = partner.becomes(&id, "NOT_SENT").await;
    assert_eq!(detail["latestErrorPayload"], json!({"message": "Not sent: no webhook URL was set."}));
    assert_eq!((&detail["retryAttempts"], &detail["version"]), (&json!(0), &json!(1)));
    assert_eq!(detail["updatedAt"], world.now());
    assert_eq!(partner.attempts(&id).await.len(), 1);
    assert_eq!(partner.endpoint.deliveries().len(), 1);
}

/// A URL that is back in time is all that counts.
#[tokio::test]
async fn the_url_is_removed_and_set_again_in_mid_cycle() {
    let world = world().await;
    let partner = world.partner().await;
    let id = in_mid_cycle(&partner, "u").await;
    partner.set(json!({"url": null})).await;
    world.step(seconds(30));
    partner.set(json!({"url": partner.endpoint.url})).await;
    world.step(seconds(30));
    partner.endpoint.attempt(&id, 2).await;
}

#[tokio::test]
async fn the_partner_is_disabled_in_mid_cycle() {
    let world = world().await;
    let partner = world.partner().await;
    let (short, long) = (in_mid_cycle(&partner, "short").await, in_mid_cycle(&partner, "long").await);
    disable(&partner, true).await;
    world.step(seconds(60));
    // Its own key is refused while it is disabled, so the platform's figures tell when both are settled.
    world.metric_becomes("capa_webhooks_settled_total{kind=\"NOT_SENT\"}", "2").await;
    disable(&partner, false).await;
    for id in [short, long] {
        let detail = partner.becomes(&id, "NOT_SENT").await;
        assert_eq!(detail["latestErrorPayload"], json!({"message": "Not sent: the partner was disabled."}));
    }
    world.step(seconds(3_600));
    partner.barrier().await;
    assert_eq!(partner.endpoint.deliveries().len(), 3);
}

#[tokio::test]
async fn the_partner_is_erased_in_mid_cycle() {
    let world = world().await;
    let (partner, other) = (world.partner().await, world.partner().await);
    in_mid_cycle(&partner, "u").await;
    let kept = in_mid_cycle(&other, "u").await;
    let erased = partner.seen_by_platform("DELETE").send().await.data(200);
    assert_eq!(erased, json!({"id": partner.id, "erased": true}));
    world.step(seconds(60));
    other.endpoint.attempt(&kept, 2).await;
    other.barrier().await;
    world.backlog_becomes(1).await;
    assert_eq!(partner.endpoint.deliveries().len(), 1);
}

/// An attempt that is under way when the settings change is finished as it was begun.
#[tokio::test]
async fn an_attempt_under_way_is_finished() {
    let world = world().await;
    let partner = world.partner().await;
    let gate = crate::harness::Gate::closed();
    partner.endpoint.answers_for("u", [Answer::ok().behind(&gate)]);
    let id = partner.publish(&verified("u")).await;
    partner.endpoint.attempt(&id, 1).await;
    partner.set(json!({"url": null})).await;
    gate.open();
    partner.becomes(&id, "SENT").await;
}
