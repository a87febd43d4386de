//! Contract, section 7: a partner's own limits, `maxInFlight` and `rateLimit`, as its receiver sees them.

use crate::harness::{Answer, Gate, Partner, Then, World, moment, patience, seconds, verified};
use serde_json::{Value, json};
use std::time::Duration;

/// Publishes so many events; their ids.
async fn publish(partner: &Partner, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for number in 0..count {
        ids.push(partner.publish(&verified(&number.to_string())).await);
    }
    ids
}

async fn all_sent(partner: &Partner, ids: &[String]) {
    for id in ids {
        partner.becomes(id, "SENT").await;
    }
}

/// When an event was first attempted, in milliseconds.
async fn first_attempts(partner: &Partner, ids: &[String]) -> Vec<i64> {
    let mut times = Vec::new();
    for id in ids {
        let attempts = partner.attempts(id).await;
        times.push(moment(attempts[0]["startedAt"].as_str().unwrap()).as_millis());
    }
    times
}

#[tokio::test]
async fn one_at_a_time_means_never_two() {
    let world = World::start().await;
    let (one, other) = (world.partner().await, world.partner().await);
    let gate = Gate::closed();
    one.choose(json!({"maxInFlight": 1})).await;
    for partner in [&one, &other] {
        partner.endpoint.answers([Answer::ok().behind(&gate)]);
    }
    let ids = publish(&one, 8).await;
    let others = publish(&other, 8).await;
    // The engine holds all of them, and has started what it may: one here, and the four of a lane that is new there.
    world.metric_becomes("capa_webhooks_held", "16").await;
    world.metric_becomes("capa_webhooks_in_flight", "5").await;
    gate.open();
    all_sent(&one, &ids).await;
    all_sent(&other, &others).await;
    assert_eq!(one.endpoint.most_at_once(), 1);
    assert!(other.endpoint.most_at_once() >= 2, "the limit of one is not that of another");
}

/// The first attempts after a start are made under the limits too: nothing is sent before they are known.
#[tokio::test]
async fn limits_hold_from_the_first_attempt_after_a_start() {
    let mut world = World::start().await;
    let partner = world.partner().await;
    partner.choose(json!({"maxInFlight": 1, "rateLimit": 1})).await;
    partner.endpoint.answers([Answer::raw("", Then::Hang)]);
    let ids = publish(&partner, 5).await;
    partner.endpoint.delivery(1).await;
    world.crash();
    partner.endpoint.answers([Answer::ok()]);
    world.start_service().await;
    let partner = world.again(&partner);
    for n in 2..=6 {
        partner.endpoint.delivery(n).await;
        world.metric_becomes("capa_webhooks_unrecorded", "0").await;
        world.metric_becomes("capa_webhooks_in_flight", "0").await;
        assert_eq!(partner.endpoint.deliveries().len(), n);
        world.step(seconds(1));
    }
    all_sent(&partner, &ids).await;
    assert_eq!(partner.endpoint.most_at_once(), 1);
}

#[tokio::test]
async fn a_rate_is_never_exceeded_and_all_is_delivered() {
    let world = World::start().await;
    let partner = world.partner().await;
    partner.choose(json!({"rateLimit": 2})).await;
    let ids = publish(&partner, 10).await;
    for n in 1..=10 {
        partner.endpoint.delivery(n).await;
        partner.becomes(&ids[n - 1], "SENT").await;
        // Half of what the next one needs.
        world.step(Duration::from_millis(250));
        assert_eq!(partner.endpoint.deliveries().len(), n);
        world.step(Duration::from_millis(250));
    }
    let times = first_attempts(&partner, &ids).await;
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] == 500), "{times:?}");
}

/// A change is in force for what waits already; null goes back to no limit.
#[tokio::test]
async fn a_change_reaches_what_waits() {
    let world = World::start().await;
    let partner = world.partner().await;
    partner.choose(json!({"rateLimit": 0.01})).await;
    let ids = publish(&partner, 12).await;
    partner.becomes(&ids[0], "SENT").await;
    partner.choose(json!({"rateLimit": 10})).await;
    // The change is told to the engine at some moment soon; the clock goes on until it has been.
    let start = world.now();
    let look = async || {
        world.step(Duration::from_millis(100));
        (partner.notification(&ids[1]).await["status"] == "SENT").then_some(())
    };
    patience::until("the second event, which the old rate would hold back for 100 s", look).await;
    assert!(moment(&world.now()).since(moment(&start)) < seconds(90));
    let reset = partner.choose(json!({"rateLimit": null})).await;
    assert_eq!(reset["rateLimit"], Value::Null);
    all_sent(&partner, &ids).await;
}

/// A partner without a URL has its limits kept, and nothing of it waits for them.
#[tokio::test]
async fn limits_of_a_partner_that_is_gone_hold_nothing_up() {
    let mut world = World::with(&[("retry_delays", "1m")]).await;
    let partner = world.partner().await;
    partner.choose(json!({"maxInFlight": 1})).await;
    partner.endpoint.answers([Answer::new(500, "")]);
    let ids = publish(&partner, 3).await;
    for id in &ids {
        partner.attempted(id, 1).await;
    }
    world.stop().await;
    world.start_service().await;
    let partner = world.again(&partner);
    partner.set(json!({"url": null})).await;
    world.step(seconds(60));
    for id in &ids {
        partner.becomes(id, "NOT_SENT").await;
    }
}
