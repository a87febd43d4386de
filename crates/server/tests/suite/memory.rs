//! Architecture, section 5: memory is bounded, and what has no room in it is delivered all the same.

use crate::harness::{Answer, Gate, Partner, World, patience, verified};
use capa_webhooks::boot::Surroundings;
use capa_webhooks_core::engine::Limits;
use serde_json::{Value, json};
use std::time::Duration;

async fn small(limits: Limits) -> World {
    World::within(Surroundings { limits, ..Surroundings::default() }, &[]).await
}

/// Steps the clock until all that was published is SENT; meanwhile `look` sees every figure.
async fn all_sent(world: &World, partner: &Partner, count: usize, look: impl AsyncFn()) {
    let path = "webhook-notifications?status=SENT&limit=1";
    let done = async || {
        world.step(Duration::from_millis(100));
        look().await;
        (partner.get(path).await.data(200)["total"] == json!(count)).then_some(())
    };
    patience::until("all to be sent", done).await;
}

/// What a full lane has no room for is accepted without an owner: not taken into memory only to be given up again.
#[tokio::test]
async fn a_hung_receiver_fills_no_memory_and_delays_nobody() {
    let world = small(Limits { lane_jobs: 16, ..Limits::default() }).await;
    let (hung, other) = (world.partner().await, world.partner().await);
    let gate = Gate::closed();
    hung.endpoint.answers([Answer::ok().behind(&gate)]);
    for number in 1..=12 {
        hung.publish(&verified("u")).await;
        world.metric_becomes("capa_webhooks_held", &number.to_string()).await;
    }
    for number in 0..100 {
        hung.publish(&verified("u")).await;
        if number % 10 == 0 {
            // Without a step of the clock: whatever waits for a poll would not come.
            let id = other.publish(&verified("u")).await;
            other.becomes(&id, "SENT").await;
        }
    }
    world.metric_becomes("capa_webhooks_unrecorded", "0").await;
    world.metric_becomes("capa_webhooks_held", "12").await;
    assert!(world.metric("capa_webhooks_released_total").await.abs() < f64::EPSILON);
    gate.open();
    let bounded = async || {
        let held = world.metric("capa_webhooks_held").await;
        assert!(held <= 32.0, "{held} held: twice the bound of a lane at most");
    };
    all_sent(&world, &hung, 112, bounded).await;
}

/// What a start finds is read back within the bound of bytes, whatever rows weigh.
#[tokio::test]
async fn a_start_with_a_large_backlog_reads_no_more_than_fits() {
    const BYTES: usize = 200_000;
    let mut world = small(Limits { bytes: BYTES, ..Limits::default() }).await;
    let gate = Gate::closed();
    let mut partners = Vec::new();
    for _ in 0..4 {
        let partner = world.partner().await;
        partner.endpoint.answers([Answer::ok().behind(&gate)]);
        let mut event = verified("u");
        event["note"] = Value::from("x".repeat(30_000));
        let item = json!({"partnerId": partner.id, "payload": event});
        partner.batch(&json!({"events": vec![item; 20]})).send().await.data(202);
        partners.push(partner);
    }
    world.crash();
    let before: Vec<usize> = partners.iter().map(|partner| partner.endpoint.deliveries().len()).collect();
    world.start_service().await;
    let bounded = async || {
        let bytes = world.metric("capa_webhooks_held_bytes").await;
        assert!(bytes <= 200_000.0, "{bytes} bytes held");
    };
    let partners: Vec<Partner> = partners.iter().map(|partner| world.again(partner)).collect();
    for (partner, before) in partners.iter().zip(before) {
        // What there was no room for comes with a later poll, long before an attempt that hangs is given up.
        let attempted = async || {
            world.step(Duration::from_millis(10));
            bounded().await;
            (partner.endpoint.deliveries().len() > before).then_some(())
        };
        patience::until("an attempt after the start", attempted).await;
    }
    gate.open();
    for partner in &partners {
        all_sent(&world, partner, 20, bounded).await;
    }
}
