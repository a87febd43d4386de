//! Contract, section 6, and architecture, section 5: when new events are refused, and that they never are for a backlog.

use crate::harness::{Answer, Call, Gate, Partner, Reply, World, patience, seconds, verified};
use capa_webhooks::boot::Surroundings;
use capa_webhooks::disk::FreeSpace;
use capa_webhooks::ingest::Bounds;
use capa_webhooks_core::engine::Limits;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const ENOUGH: u64 = 1 << 40;

/// Whether it was refused for this reason.
fn refused_for(reply: &Reply, words: &str) -> bool {
    if reply.status != 503 {
        return false;
    }
    let details = reply.refused(503, "UNAVAILABLE", "Service unavailable");
    assert!(details[0].1.contains("Nothing was stored"), "{details:?}");
    assert!(reply.header("retry-after").is_some());
    details[0].1.starts_with(words)
}

async fn readiness(world: &World) -> (u16, String) {
    let reply = Call::new(world.address, "GET", "/readyz").send().await;
    (reply.status, reply.text().to_owned())
}

fn closed(reason: &str) -> String {
    format!("capa_webhooks_closed{{kind=\"{reason}\"}}")
}

async fn refused_count(world: &World, reason: &str) -> f64 {
    world.metric(&format!("capa_webhooks_publish_refused_total{{kind=\"{reason}\"}}")).await
}

async fn total(partner: &Partner) -> serde_json::Value {
    partner.get("webhook-notifications").await.data(200)["total"].clone()
}

#[tokio::test]
async fn a_full_queue() {
    let bounds = Bounds { events: 10, ..Bounds::default() };
    let world = World::within(Surroundings { bounds, ..Surroundings::default() }, &[]).await;
    let partner = world.partner_without_url().await;
    let items = |count| json!({"events": vec![json!({"partnerId": partner.id, "payload": verified("u")}); count]});
    // Too much by itself: refused, and nobody else is.
    assert!(refused_for(&partner.batch(&items(11)).send().await, "Too many events"));
    assert_eq!(readiness(&world).await, (200, "ready\n".to_owned()));
    let lock = world.store().lock();
    let waiting = tokio::spawn(partner.batch(&items(9)).send());
    world.metric_becomes("capa_webhooks_waiting", "9").await;
    assert!(refused_for(&partner.batch(&items(2)).send().await, "Too many events"));
    assert!(refused_for(&partner.batch(&items(1)).send().await, "Too many events"), "until half is free");
    assert_eq!(world.metric(&closed("queue_full")).await.to_string(), "1");
    assert_eq!(
        readiness(&world).await,
        (503, "new events are refused: Too many events wait to be stored.\n".to_owned())
    );
    drop(lock);
    waiting.await.unwrap().data(202);
    world.metric_becomes(&closed("queue_full"), "0").await;
    assert_eq!(readiness(&world).await.0, 200);
    partner.batch(&items(10)).send().await.data(202);
    assert_eq!(total(&partner).await, 19);
    world.metric_becomes("capa_webhooks_waiting", "0").await;
    assert_eq!(refused_count(&world, "queue_full").await.to_string(), "3");
}

#[tokio::test]
async fn too_many_bytes() {
    let bounds = Bounds { bytes: 1_000, ..Bounds::default() };
    let world = World::within(Surroundings { bounds, ..Surroundings::default() }, &[]).await;
    let partner = world.partner().await;
    let mut event = verified("u");
    event["note"] = "x".repeat(1_000).into();
    assert!(refused_for(&partner.publishing(event.to_string()).send().await, "Too many events"));
    partner.barrier().await;
}

/// The oldest event has waited for longer than a caller should: others are told at once.
#[tokio::test]
async fn a_slow_store() {
    let world = World::start().await;
    let partner = world.partner_without_url().await;
    let lock = world.store().lock();
    // The store gives up a write after some seconds of real time; so one that waits is there again and again.
    let waiting = {
        let call = partner.publishing(verified("u").to_string());
        tokio::spawn(async move {
            loop {
                let reply = call.clone().send().await;
                if reply.status == 202 {
                    return;
                }
            }
        })
    };
    let look = async || {
        world.metric_becomes("capa_webhooks_waiting", "1").await;
        world.step(seconds(6));
        let reply = partner.publishing(verified("u").to_string()).send().await;
        refused_for(&reply, "The store takes too long").then_some(())
    };
    patience::until("a refusal because the store is slow", look).await;
    assert!(refused_count(&world, "slow_store").await >= 1.0);
    drop(lock);
    patience::within("the one that waited", waiting).await.unwrap();
    world.metric_becomes(&closed("slow_store"), "0").await;
    partner.publish_as("NOT_SENT", &verified("u")).await;
    assert_eq!(readiness(&world).await.0, 200);
}

/// What is undelivered closes nothing, however much it is.
#[tokio::test]
async fn a_backlog_refuses_nobody() {
    let limits = Limits { bytes: 20_000, lane_jobs: 8, ..Limits::default() };
    let bounds = Bounds { events: 100, ..Bounds::default() };
    let world = World::within(Surroundings { limits, bounds, ..Surroundings::default() }, &[]).await;
    let partner = world.partner().await;
    let gate = Gate::closed();
    partner.endpoint.answers([Answer::ok().behind(&gate)]);
    let item = json!({"partnerId": partner.id, "payload": verified("u")});
    for _ in 0..20 {
        partner.batch(&json!({"events": vec![item.clone(); 100]})).send().await.data(202);
    }
    assert_eq!(readiness(&world).await.0, 200);
    assert_eq!(total(&partner).await, 2_000);
}

/// While outcomes cannot be recorded, sending pauses; it goes on by itself.
#[tokio::test]
async fn sending_pauses_while_outcomes_cannot_be_recorded() {
    let limits = Limits { unrecorded: 2, lane_in_flight: 4, ..Limits::default() };
    let world = World::within(Surroundings { limits, ..Surroundings::default() }, &[]).await;
    let partner = world.partner().await;
    let gate = Gate::closed();
    partner.endpoint.answers([Answer::ok().behind(&gate)]);
    let mut ids = Vec::new();
    for number in 0..30 {
        ids.push(partner.publish(&verified(&number.to_string())).await);
    }
    world.metric_becomes("capa_webhooks_held", "30").await;
    let lock = world.store().lock();
    gate.open();
    let paused = async || {
        let unrecorded = world.metric("capa_webhooks_unrecorded").await;
        (unrecorded >= 2.0 && world.metric("capa_webhooks_in_flight").await < 1.0).then_some(unrecorded)
    };
    let unrecorded = patience::until("the sending to pause", paused).await;
    // The last was started beside at most three others, when one was unrecorded.
    assert!((2..=5).contains(&partner.endpoint.deliveries().len()), "{unrecorded} unrecorded");
    drop(lock);
    let done = async || {
        // The recorder waits for a moment of the product's clock before it tries again.
        world.step(seconds(1));
        (partner.get("webhook-notifications?status=SENT").await.data(200)["total"] == 30).then_some(())
    };
    patience::until("all to be sent", done).await;
    for id in &ids {
        assert_eq!(partner.endpoint.attempts_of(id).len(), 1);
    }
}

/// The disk under the store is watched only where the store is a file.
mod sqlite {
    use super::*;

    /// Below the reserve nothing new is taken; what was taken before is delivered and recorded.
    #[tokio::test]
    async fn a_disk_that_is_nearly_full() {
        let free = Arc::new(AtomicU64::new(ENOUGH));
        let measured = free.clone();
        let free_space = FreeSpace(Arc::new(move |_| Ok(measured.load(Ordering::Relaxed))));
        let surroundings = Surroundings { free_space, ..Surroundings::default() };
        let world = World::within(surroundings, &[("retry_delays", "1m"), ("disk_reserve", "1MiB")]).await;
        let partner = world.partner().await;
        partner.endpoint.answers([Answer::new(500, ""), Answer::ok()]);
        let id = partner.publish(&verified("u")).await;
        partner.attempted(&id, 1).await;
        free.store(1024 * 1024 - 1, Ordering::Relaxed);
        world.step(seconds(1));
        world.metric_becomes(&closed("disk_reserve"), "1").await;
        assert!(refused_for(&partner.publishing(verified("u").to_string()).send().await, "The disk is nearly full"));
        assert_eq!(readiness(&world).await, (503, "new events are refused: The disk is nearly full.\n".to_owned()));
        assert_eq!(refused_count(&world, "disk_reserve").await.to_string(), "1");
        world.metric_becomes("capa_webhooks_disk_free_bytes", "1048575").await;
        world.step(seconds(60));
        assert_eq!(partner.becomes(&id, "SENT").await["retryAttempts"], 1);
        free.store(1024 * 1024, Ordering::Relaxed);
        world.step(seconds(1));
        world.metric_becomes("capa_webhooks_disk_free_bytes", "1048576").await;
        assert_eq!(readiness(&world).await.0, 503, "an eighth more than the reserve must be free");
        free.store(ENOUGH, Ordering::Relaxed);
        world.step(seconds(1));
        world.metric_becomes(&closed("disk_reserve"), "0").await;
        assert_eq!(total(&partner).await, 1);
        partner.barrier().await;
    }
}
