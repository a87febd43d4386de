//! Architecture, section 4: one node of several over one store. The real store stands behind a network that the test
//! controls ([`SharedStore`]); the other nodes are what it says of them.

use crate::harness::shared::{Network, SharedStore};
use crate::harness::{Answer, Gate, Partner, Reply, START, World, later, patience, seconds, verified};
use capa_webhooks::boot::Failure;
use capa_webhooks_core::engine::Limits;
use capa_webhooks_core::id::LifeId;
use capa_webhooks_core::settings::SettingsChange;
use capa_webhooks_core::time::Timestamp;
use capa_webhooks_store::{Changes, PartnerChange, Store as _};
use serde_json::json;
use std::time::Duration;
use tokio::task::JoinSet;

async fn world() -> (World, SharedStore) {
    World::sharing(&[("retry_delays", "12s")], Limits::default()).await
}

/// Steps the clock, and waits until a count of the network has grown.
async fn step(world: &World, by: Duration, store: &SharedStore, count: impl Fn(&Network) -> usize) {
    let before = count(&store.network());
    world.step(by);
    patience::until("the count to grow", async || (count(&store.network()) > before).then_some(())).await;
}

/// Lets the node hear of changes: with the second poll it has acted on what the first one told.
async fn hears(world: &World, store: &SharedStore) {
    for _ in 0..2 {
        step(world, seconds(1), store, |network| network.polls).await;
    }
}

/// Steps the clock heartbeat by heartbeat.
async fn beat(world: &World, times: usize) {
    for _ in 0..times {
        beat_after(world, Duration::from_millis(2_500)).await;
    }
}

/// Steps the clock to where a heartbeat is due, and waits until the node has acted on what it brought: only then is the
/// time known by which it measures silence.
async fn beat_after(world: &World, by: Duration) {
    let count = async || world.metric("capa_webhooks_heartbeats_total").await;
    let before = count().await;
    world.step(by);
    patience::until("a heartbeat", async || (count().await > before).then_some(())).await;
}

/// Publishes events while the store stands still. The first two come to it one by one, and are all that it works on at a
/// time; the others wait in the node.
async fn held_up(world: &World, store: &SharedStore, partner: &Partner, count: usize) -> JoinSet<Reply> {
    store.stall(true);
    let before = store.network().accepts.len();
    let mut publishing = JoinSet::new();
    for number in 0..count {
        let call = partner.publishing(verified(&number.to_string()).to_string());
        publishing.spawn(async move { call.send().await });
        let seen = async || (store.network().accepts.len() > before + number.min(1)).then_some(());
        patience::until("the store to be asked", seen).await;
    }
    world.metric_becomes("capa_webhooks_waiting", &count.to_string()).await;
    publishing
}

async fn ready(world: &World) -> u16 {
    world.call("GET", "/readyz").send().await.status
}

/// What other nodes changed is told under the next number.
fn tell(store: &SharedStore, partners: &[&Partner], keys: &[&str]) {
    let changes = &mut store.network().changes;
    changes.upto += 1;
    changes.partners = partners.iter().map(|partner| partner.id.parse().unwrap()).collect();
    changes.keys = keys.iter().map(|key| key.split_once(':').unwrap().0.parse().unwrap()).collect();
}

#[tokio::test]
async fn a_node_that_lost_touch_neither_accepts_nor_sends_until_it_is_back() {
    let (world, store) = world().await;
    let partner = world.partner().await;
    partner.endpoint.answers([Answer::new(500, "no"), Answer::ok()]);
    let id = partner.publish(&verified("u")).await;
    partner.attempted(&id, 1).await;

    store.network().heartbeats_fail = true;
    world.step(Duration::from_millis(9_999));
    assert_eq!(ready(&world).await, 200);
    world.step(Duration::from_millis(1));
    assert_eq!(ready(&world).await, 503);
    let refused = partner.publishing(verified("v").to_string()).send().await;
    let details = refused.refused(503, "UNAVAILABLE", "Service unavailable");
    assert!(details[0].1.contains("lost touch") && refused.header("retry-after").is_some(), "{details:?}");

    // The retry is due, and is not made.
    world.step(seconds(2));
    let put_off = async || (world.metric("capa_webhooks_fenced_total").await > 0.0).then_some(());
    patience::until("the attempt to be put off", put_off).await;
    assert_eq!(partner.endpoint.attempts_of(&id).len(), 1);
    assert_eq!(world.metric("capa_webhooks_closed{kind=\"fenced\"}").await.to_bits(), 1.0_f64.to_bits());

    store.network().heartbeats_fail = false;
    beat(&world, 1).await;
    let sent = async || {
        world.step(Duration::from_millis(250));
        (partner.notification(&id).await["status"] == "SENT").then_some(())
    };
    patience::until("the retry to be made after all", sent).await;
    assert_eq!(partner.endpoint.attempts_of(&id).len(), 2);
    patience::until("the node to be ready", async || (ready(&world).await == 200).then_some(())).await;
    partner.publish(&verified("v")).await;
}

#[tokio::test]
async fn what_waited_until_the_node_lost_touch_is_refused_and_not_stored() {
    let (world, store) = world().await;
    let partner = world.partner().await;
    partner.publish(&verified("before")).await;
    world.metric_becomes("capa_webhooks_unrecorded", "0").await;

    let before = store.network().accepts.len();
    let mut publishing = held_up(&world, &store, &partner, 3).await;
    store.network().heartbeats_fail = true;
    world.step(seconds(10));
    store.stall(false);
    let mut refused = 0;
    while let Some(answered) = publishing.join_next().await {
        let answer = answered.unwrap();
        if answer.status != 202 {
            answer.refused(503, "UNAVAILABLE", "Service unavailable");
            refused += 1;
        }
    }
    assert_eq!((refused, &store.network().accepts[before..]), (1, &[1, 1][..]));
}

#[tokio::test]
async fn a_node_that_others_declared_dead_ends() {
    let (mut world, store) = world().await;
    let partner = world.partner().await;
    store.network().ended = true;
    world.step(Duration::from_millis(2_500));
    assert_eq!(world.failed().await, Failure::LifeEnded);
    // Also in the moments before the process ends.
    partner.publishing(verified("u").to_string()).send().await.refused(503, "UNAVAILABLE", "Service unavailable");
    assert_eq!(ready(&world).await, 503);
    world.stop().await;
}

#[tokio::test]
async fn who_is_silent_is_declared_dead_after_the_whole_lease_and_not_before() {
    let (world, store) = world().await;
    let (silent, lively) = (LifeId::from_bytes([1; 16]), LifeId::from_bytes([2; 16]));
    store.network().others = vec![(silent, 7), (lively, 0)];
    for count in 1..=6 {
        beat(&world, 1).await;
        assert_eq!(store.network().declared_dead, [], "after {count}");
        assert_eq!(world.metric("capa_webhooks_nodes").await.to_bits(), 3.0_f64.to_bits());
        store.network().others[1].1 += 1;
    }
    beat(&world, 1).await;
    assert_eq!(store.network().declared_dead, [(silent, 7)]);
    beat(&world, 1).await;
    world.metric_becomes("capa_webhooks_nodes", "2").await;
    world.metric_becomes("capa_webhooks_lives_ended_total", "1").await;
}

#[tokio::test]
async fn what_is_freed_of_ended_nodes_is_counted() {
    let (world, store) = world().await;
    for freed in [5, 0, 7] {
        store.network().freed = freed;
        beat(&world, 1).await;
    }
    world.metric_becomes("capa_webhooks_freed_total", "12").await;
}

#[tokio::test]
async fn the_verdict_does_not_wait_for_the_next_heartbeat() {
    let (world, store) = world().await;
    store.network().others = vec![(LifeId::from_bytes([1; 16]), 7)];
    // Seen after 2.5 s. The fourth heartbeat comes late, so that the verdict falls between two.
    beat(&world, 3).await;
    beat_after(&world, Duration::from_millis(3_500)).await;
    beat(&world, 2).await;
    let before = store.network().beats;
    world.step(Duration::from_millis(1_499));
    assert_eq!(ready(&world).await, 200);
    {
        let network = store.network();
        assert_eq!((network.beats, network.declared_dead.len()), (before, 0));
    }
    world.step(Duration::from_millis(1));
    patience::until("the verdict", async || (!store.network().declared_dead.is_empty()).then_some(())).await;
}

#[tokio::test]
async fn what_was_accepted_without_an_answer_is_taken_up_and_sent_once() {
    let (world, store) = world().await;
    let partner = world.partner().await;
    store.network().lose_accepts = 1;
    let publish = || partner.publishing(verified("u").to_string()).header("idempotency-key", "k-1").send();
    let doubt = publish().await.refused(503, "UNAVAILABLE", "Service unavailable");
    assert!(doubt[0].1.contains("not known") && !doubt[0].1.contains("Nothing was stored"), "{doubt:?}");
    let id = publish().await.data(200)["id"].as_str().unwrap().to_owned();
    assert_eq!(partner.endpoint.deliveries().len(), 0, "nobody here knows of it yet");
    world.step(seconds(5) + Duration::from_millis(2_500));
    partner.endpoint.attempt(&id, 1).await;
    partner.becomes(&id, "SENT").await;
    world.metric_becomes("capa_webhooks_taken_up_total", "1").await;

    step(&world, seconds(8), &store, |network| network.comparisons).await;
    partner.barrier().await;
    assert_eq!(store.network().suspects.len(), 1, "only what was forgotten was asked for");
    assert_eq!(partner.endpoint.attempts_of(&id).len(), 1);
}

#[tokio::test]
async fn a_record_whose_answer_was_lost_is_not_forgotten() {
    let (world, store) = world().await;
    let partner = world.partner().await;
    partner.endpoint.answers([Answer::new(500, "no"), Answer::ok()]);
    store.network().lose_records = 1;
    let id = partner.publish(&verified("u")).await;
    let next = partner.attempted(&id, 1).await[0]["nextAttemptAt"].clone();
    // It is recorded again, which comes late; the retry is owned by this node, which has forgotten it.
    world.step(Duration::from_millis(250));
    world.metric_becomes("capa_webhooks_unrecorded", "0").await;
    world.step(seconds(8));
    world.metric_becomes("capa_webhooks_taken_up_total", "1").await;
    assert_eq!(partner.endpoint.attempts_of(&id).len(), 1, "not before it is due");
    world.step_to(&next);
    partner.endpoint.attempt(&id, 2).await;
    partner.becomes(&id, "SENT").await;
    assert_eq!(partner.attempts(&id).await.len(), 2);
}

#[tokio::test]
async fn changes_made_elsewhere_are_in_force_within_two_seconds() {
    let (world, store) = world().await;
    let (partner, other) = (world.partner().await, world.partner().await);
    partner.barrier().await;
    let elsewhere = world.receiver.endpoint();
    elsewhere.expect_secret(&partner.secret);
    let url = SettingsChange { url: Some(Some(elsewhere.url.clone())), ..SettingsChange::default() };
    store.inner.change_settings(partner.id.parse().unwrap(), url, Timestamp::from_millis(0)).await.unwrap();
    tell(&store, &[&partner], &[]);
    hears(&world, &store).await;
    let id = partner.publish(&verified("u")).await;
    elsewhere.attempt(&id, 1).await;
    partner.becomes(&id, "SENT").await;

    let key = other.key.split_once(':').unwrap().0.parse().unwrap();
    assert_eq!(other.get("webhook-settings").await.status, 200);
    store.inner.revoke_partner_key(other.id.parse().unwrap(), key, Timestamp::from_millis(0)).await.unwrap();
    tell(&store, &[], &[&other.key]);
    hears(&world, &store).await;
    assert_eq!(other.get("webhook-settings").await.status, 401);
}

#[tokio::test]
async fn what_could_not_be_refreshed_for_two_seconds_is_not_used() {
    let (world, store) = world().await;
    let (partner, disabled) = (world.partner().await, world.partner().await);
    for partner in [&partner, &disabled] {
        assert_eq!(partner.get("webhook-settings").await.status, 200);
    }
    store.network().changes_fail = true;
    let key = partner.key.split_once(':').unwrap().0.parse().unwrap();
    store.inner.revoke_partner_key(partner.id.parse().unwrap(), key, Timestamp::from_millis(0)).await.unwrap();
    let disable = PartnerChange { disabled: Some(true), ..PartnerChange::default() };
    store.inner.update_partner(disabled.id.parse().unwrap(), disable, Timestamp::from_millis(0)).await.unwrap();
    world.step(Duration::from_millis(1_999));
    assert_eq!(partner.get("webhook-settings").await.status, 200, "nothing was heard of it yet");
    world.step(Duration::from_millis(1));
    assert_eq!(partner.get("webhook-settings").await.status, 401);
    assert_eq!(disabled.get("webhook-settings").await.status, 403);
    assert_eq!(ready(&world).await, 200, "the lease is another matter");
}

#[tokio::test]
async fn a_store_that_was_set_back_is_read_anew() {
    let (world, store) = world().await;
    let partner = world.partner().await;
    tell(&store, &[], &[]);
    hears(&world, &store).await;
    assert_eq!(partner.get("webhook-settings").await.status, 200);
    let key = partner.key.split_once(':').unwrap().0.parse().unwrap();
    store.inner.revoke_partner_key(partner.id.parse().unwrap(), key, Timestamp::from_millis(0)).await.unwrap();
    store.network().changes = Changes::default();
    hears(&world, &store).await;
    assert_eq!(partner.get("webhook-settings").await.status, 401);
}

#[tokio::test]
async fn a_partners_limits_are_shared_among_the_nodes() {
    let (world, store) = world().await;
    let partner = world.partner().await;
    partner.choose(json!({"maxInFlight": 4})).await;
    store.network().others = vec![(LifeId::from_bytes([1; 16]), 7)];
    beat(&world, 1).await;
    world.metric_becomes("capa_webhooks_nodes", "2").await;
    let gate = six(&world, &partner).await;
    world.metric_becomes("capa_webhooks_in_flight", "2").await;
    patience::until("both to be received", async || (partner.endpoint.most_at_once() == 2).then_some(())).await;
    gate.open();
    world.metric_becomes("capa_webhooks_held", "0").await;
    assert_eq!(partner.endpoint.most_at_once(), 2);
    // The other one goes. Its share is this node's, which finds out by and by what the receiver bears.
    store.network().others.clear();
    beat(&world, 1).await;
    let all = async || {
        let gate = six(&world, &partner).await;
        let in_flight = world.metric("capa_webhooks_in_flight").await;
        gate.open();
        world.metric_becomes("capa_webhooks_held", "0").await;
        (in_flight >= 4.0).then_some(())
    };
    patience::until("the whole limit to be used", all).await;
    assert_eq!(partner.endpoint.most_at_once(), 4);
}

/// Publishes six events that the node holds, because none of them is answered before the gate opens.
async fn six(world: &World, partner: &Partner) -> Gate {
    let gate = Gate::closed();
    partner.endpoint.answers([Answer::ok().behind(&gate)]);
    for number in 0..6 {
        partner.publish(&verified(&number.to_string())).await;
    }
    world.metric_becomes("capa_webhooks_held", "6").await;
    gate
}

#[tokio::test]
async fn due_times_count_on_the_clock_of_the_store() {
    let (world, store) = world().await;
    let partner = world.partner().await;
    store.network().clock_ahead = Some(seconds(3_600));
    beat(&world, 1).await;
    let now = later(START, seconds(3_602) + Duration::from_millis(500));
    let told = async || {
        let id = partner.publish(&verified("u")).await;
        (partner.notification(&id).await["createdAt"] == now).then_some(id)
    };
    let id = patience::until("the store's time", told).await;
    assert_eq!(partner.attempted(&id, 1).await[0]["startedAt"], now);
}

#[tokio::test]
async fn a_release_that_is_in_doubt_is_left_to_the_comparison() {
    let limits = Limits { lane_jobs: 2, bytes: 3_000, near: Duration::ZERO, ..Limits::default() };
    let (world, store) = World::sharing(&[("retry_delays", "12s")], limits).await;
    let partner = world.partner().await;
    let gate = Gate::closed();
    partner.endpoint.answers([Answer::ok().behind(&gate)]);
    store.network().lose_releases = usize::MAX;
    let items: Vec<_> =
        (0..50).map(|n| json!({"partnerId": partner.id, "payload": verified(&n.to_string())})).collect();
    partner.batch(&json!({"events": items})).send().await.data(202);
    patience::until("a release", async || (!store.network().released.is_empty()).then_some(())).await;
    for _ in 0..20 {
        world.step(Duration::from_millis(250));
        world.metrics().await;
    }
    {
        let network = store.network();
        let times = |key| network.released.iter().filter(|released| *released == key).count();
        let most = network.released.iter().map(times).max();
        assert!(most <= Some(1 + network.comparisons), "{most:?} times, after {} comparisons", network.comparisons);
    }
    store.network().lose_releases = 0;
    gate.open();
    let sent = async || {
        world.step(Duration::from_millis(500));
        let page = partner.get("webhook-notifications?status=SENT&limit=1").await.data(200);
        (page["total"] == json!(50)).then_some(())
    };
    patience::until("all to be sent", sent).await;
    assert!(world.metric("capa_webhooks_taken_up_total").await > 0.0);
    assert_eq!(partner.endpoint.deliveries().len(), 50, "each of them once");
}

#[tokio::test]
async fn what_comes_while_the_store_is_busy_is_gathered_into_one_batch() {
    let (world, store) = world().await;
    let partner = world.partner().await;
    partner.publish(&verified("before")).await;
    world.metric_becomes("capa_webhooks_unrecorded", "0").await;

    let before = store.network().accepts.len();
    let mut publishing = held_up(&world, &store, &partner, 22).await;
    store.stall(false);
    while let Some(answered) = publishing.join_next().await {
        answered.unwrap().data(202);
    }
    assert_eq!(store.network().accepts[before..], [1, 1, 20]);
}

/// Brings four outcomes to the recorder while the store stands still. The first two come to the store one by one, and are all
/// that it works on at a time; the others wait. Gives how many batches the store had seen before.
async fn outcomes_held_up(world: &World, store: &SharedStore, partner: &Partner) -> usize {
    let gates = [(); 4].map(|()| Gate::closed());
    partner.endpoint.answers(gates.each_ref().map(|gate| Answer::ok().behind(gate)));
    for number in 0..gates.len() {
        partner.publish(&verified(&number.to_string())).await;
    }
    world.metric_becomes("capa_webhooks_in_flight", "4").await;
    store.stall(true);
    let before = store.network().records.len();
    for (number, gate) in (1..).zip(&gates) {
        gate.open();
        world.metric_becomes("capa_webhooks_unrecorded", &number.to_string()).await;
        let seen = async || (store.network().records.len() >= before + number.min(2)).then_some(());
        patience::until("the store to be asked", seen).await;
    }
    before
}

#[tokio::test]
async fn outcomes_that_come_while_the_store_is_busy_are_gathered_too() {
    let (world, store) = world().await;
    let partner = world.partner().await;
    let before = outcomes_held_up(&world, &store, &partner).await;
    store.stall(false);
    world.metric_becomes("capa_webhooks_unrecorded", "0").await;
    assert_eq!(store.network().records[before..], [1, 1, 2]);
}

/// A store that never manages as much as has gathered would be asked for ever.
#[tokio::test]
async fn outcomes_that_are_too_many_for_the_store_are_recorded_in_parts() {
    let (world, store) = world().await;
    let partner = world.partner().await;
    let before = outcomes_held_up(&world, &store, &partner).await;
    store.network().most_records = Some(1);
    store.stall(false);
    let recorded = async || {
        world.step(Duration::from_millis(250));
        (world.metric("capa_webhooks_unrecorded").await < 0.5).then_some(())
    };
    patience::until("all outcomes to be recorded", recorded).await;
    assert_eq!(store.network().records[before..], [1, 1, 2, 1, 1]);
    assert_eq!(partner.get("webhook-notifications?status=SENT").await.data(200)["total"], 4);
}
