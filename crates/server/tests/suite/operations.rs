//! Contract, sections 6 and 7: health, figures, overload, stop and start.

use crate::harness::{Answer, Call, Gate, PLATFORM_KEY, Partner, Reply, Then, World, on_ramp, seconds, verified};
use serde_json::json;
use tokio::task::JoinSet;

#[tokio::test]
async fn health() {
    let world = World::start().await;
    for address in [world.address, world.metrics_address] {
        for (path, text) in [("/healthz", "ok\n"), ("/readyz", "ready\n")] {
            let reply = Call::new(address, "GET", path).send().await;
            assert_eq!((reply.status, reply.text()), (200, text), "no key is asked for");
        }
    }
    let reply = Call::new(world.metrics_address, "GET", "/metrics").send().await;
    assert_eq!(reply.header("content-type"), Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    assert!(reply.text().ends_with("# EOF\n"));
    for path in ["/", "/api/platform/v1/partners"] {
        let reply = Call::new(world.metrics_address, "GET", path).header("platform-api-key", PLATFORM_KEY).send().await;
        reply.refused(404, "NOT_FOUND", "Route not found");
    }
}

/// Every figure, after traffic that is known; and nothing about anybody.
#[tokio::test]
async fn figures() {
    let world = World::with(&[("retry_delays", "1s")]).await;
    let partner = world.partner().await;
    partner.endpoint.answers_for("failing", [Answer::new(500, "SECRET-BODY")]);
    partner.endpoint.answers_for("reset", [Answer::raw("", Then::Reset), Answer::ok()]);
    let sent = partner.publish(&on_ramp("SECRET-USER", "SECRET-TRANSACTION")).await;
    partner.becomes(&sent, "SENT").await;
    let (failing, reset) = (partner.publish(&verified("failing")).await, partner.publish(&verified("reset")).await);
    partner.attempted(&failing, 1).await;
    partner.attempted(&reset, 1).await;
    world.step(seconds(1));
    partner.becomes(&failing, "FAILED").await;
    partner.becomes(&reset, "SENT").await;
    partner.retry(&failing).await.data(201);
    partner.attempted(&failing, 3).await;
    partner.publishing("{}").send().await.invalid();
    partner.publishing(verified("u").to_string()).header("idempotency-key", "").send().await.invalid();
    partner.batch(&json!({"events": []})).send().await.invalid();
    world.platform("POST", "partners/x/events").json(&verified("u")).send().await;
    partner.set(json!({"url": null})).await;
    partner.publish_as("NOT_SENT", &verified("SECRET-USER")).await;

    world.step(seconds(1));
    world.metric_becomes("capa_webhooks_settled_total{kind=\"NOT_SENT\"}", "2").await;
    world.metric_becomes("capa_webhooks_held", "0").await;
    let metrics = world.metrics().await;
    for line in [
        "capa_webhooks_accepted_total 4",
        "capa_webhooks_publish_refused_total{kind=\"invalid\"} 3",
        "capa_webhooks_publish_refused_total{kind=\"unknown_partner\"} 1",
        "capa_webhooks_attempts_total{kind=\"2xx\"} 2",
        "capa_webhooks_attempts_total{kind=\"5xx\"} 3",
        "capa_webhooks_attempts_total{kind=\"disconnected\"} 1",
        "capa_webhooks_settled_total{kind=\"SENT\"} 2",
        "capa_webhooks_settled_total{kind=\"FAILED\"} 1",
        "capa_webhooks_settled_total{kind=\"NOT_SENT\"} 2",
        "capa_webhooks_retried_total 3",
        "capa_webhooks_manual_retries_total 1",
        "capa_webhooks_attempt_seconds_count 6",
        "capa_webhooks_in_flight 0",
        "capa_webhooks_unrecorded 0",
    ] {
        assert!(metrics.lines().any(|known| known == line), "{line} in {metrics}");
    }
    for name in ["commit_seconds_count", "commit_rows_count"] {
        assert!(metrics.contains(&format!("capa_webhooks_{name} ")), "{name} in {metrics}");
    }
    for word in ["SECRET", "Satoshi", "Some Partner", "127.0.0.1", "VERIFIED", &partner.id, &partner.secret, &sent] {
        assert!(!metrics.contains(word), "{word} in {metrics}");
    }
}

#[tokio::test]
async fn the_backlog() {
    let world = World::with(&[("retry_delays", "1d")]).await;
    let partner = world.partner().await;
    partner.endpoint.answers([Answer::new(500, ""), Answer::ok()]);
    let id = partner.publish(&verified("u")).await;
    partner.attempted(&id, 1).await;
    world.backlog_becomes(1).await;
    let oldest = || async {
        let metrics = world.metrics().await;
        let line = metrics.lines().find(|line| line.starts_with("capa_webhooks_oldest_unsettled_seconds "));
        line.unwrap().split(' ').nth(1).unwrap().parse::<f64>().unwrap()
    };
    assert!(oldest().await >= 5.0, "it is as old as the clock was stepped");
    world.step(seconds(86_400));
    partner.becomes(&id, "SENT").await;
    world.backlog_becomes(0).await;
    assert!(oldest().await < f64::EPSILON);
}

/// Ends the service, in good order or without a word.
async fn end(world: &mut World, crash: bool) {
    if crash {
        world.crash();
    } else {
        world.stop().await;
    }
}

/// What waits for its next attempt is attempted by the next start, at its time.
#[tokio::test]
async fn a_restart_takes_up_what_is_pending() {
    for crash in [false, true] {
        let mut world = World::with(&[("retry_delays", "1m,1h")]).await;
        let partner = world.partner().await;
        partner.endpoint.answers([Answer::new(500, ""), Answer::new(500, ""), Answer::ok()]);
        let id = partner.publish(&verified("u")).await;
        partner.attempted(&id, 1).await;
        end(&mut world, crash).await;
        world.step(seconds(30));
        world.start_service().await;
        let partner = world.again(&partner);
        assert_eq!(partner.notification(&id).await["status"], "PENDING");
        world.step(seconds(30));
        let attempts = partner.attempted(&id, 2).await;
        assert_eq!(attempts[1]["startedAt"], world.now());

        // Due while nobody ran: attempted at once after the start.
        end(&mut world, crash).await;
        world.step(seconds(86_400));
        world.start_service().await;
        let partner = world.again(&partner);
        let detail = partner.becomes(&id, "SENT").await;
        assert_eq!((&detail["retryAttempts"], &detail["version"]), (&json!(2), &json!(1)));
        assert_eq!(partner.endpoint.attempts_of(&id).len(), 3);
    }
}

/// What was accepted and not yet attempted when everything broke off is delivered.
#[tokio::test]
async fn what_was_in_flight_at_a_crash_is_attempted_again() {
    let mut world = World::start().await;
    let partner = world.partner().await;
    partner.endpoint.answers([Answer::raw("", Then::Hang)]);
    let mut ids = Vec::new();
    for number in 0..50 {
        ids.push(partner.publish(&verified(&number.to_string())).await);
    }
    partner.endpoint.delivery(1).await;
    world.crash();
    partner.endpoint.answers([Answer::ok()]);
    world.start_service().await;
    let partner = world.again(&partner);
    for id in &ids {
        partner.becomes(id, "SENT").await;
        assert!((1..=2).contains(&partner.endpoint.attempts_of(id).len()));
    }
}

/// An orderly stop lets what is in flight finish, and records it.
#[tokio::test]
async fn a_stop_finishes_what_is_in_flight() {
    let mut world = World::start().await;
    let partner = world.partner().await;
    let gate = Gate::closed();
    partner.endpoint.answers([Answer::ok().behind(&gate)]);
    let id = partner.publish(&verified("u")).await;
    partner.endpoint.delivery(1).await;
    let stop = world.stop();
    gate.open();
    stop.await;
    world.start_service().await;
    let partner = world.again(&partner);
    assert_eq!(partner.notification(&id).await["status"], "SENT");
    partner.barrier().await;
    assert_eq!(partner.endpoint.attempts_of(&id).len(), 1);
}

/// What does not finish within the grace period is attempted again after the next start, under the same id.
#[tokio::test]
async fn a_stop_does_not_wait_for_ever() {
    let mut world = World::on_system_clock(&[("shutdown_grace", "0s")]).await;
    let partner = world.partner().await;
    partner.endpoint.answers([Answer::raw("", Then::Hang), Answer::ok()]);
    let id = partner.publish(&verified("u")).await;
    partner.endpoint.delivery(1).await;
    world.stop().await;
    world.start_service().await;
    let partner = world.again(&partner);
    partner.becomes(&id, "SENT").await;
    assert_eq!(partner.endpoint.attempts_of(&id).len(), 2);
    assert_eq!(partner.attempts(&id).await.len(), 1, "the first one was never seen to end");
}

/// A request that is under way when the service stops gets its answer: 503, and nothing is stored.
#[tokio::test]
async fn a_stopping_service_takes_nothing_more() {
    let mut world = World::start().await;
    let partner = world.partner().await;
    let body = verified("u").to_string();
    let head = format!(
        "POST /api/platform/v1/partners/{}/events HTTP/1.1\r\nhost: x\r\nplatform-api-key: {PLATFORM_KEY}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n",
        partner.id,
        body.len()
    );
    let mut slow = world.slow(head.as_bytes()).await;
    assert!(slow.read_head().await.starts_with("HTTP/1.1 100 "), "the service waits for the body");
    let stop = world.stop();
    world.refuses_connections().await;
    slow.write(body.as_bytes()).await;
    let answer = slow.read_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(
        answer.to_ascii_lowercase().contains("\r\nretry-after: 1\r\n") && answer.contains(r#""code":"UNAVAILABLE""#),
        "{answer}"
    );
    stop.await;
    world.start_service().await;
    assert_eq!(world.again(&partner).get("webhook-notifications").await.data(200)["total"], 0);
}

#[track_caller]
fn unavailable(reply: &Reply) {
    let details = reply.refused(503, "UNAVAILABLE", "Service unavailable");
    assert!(details[0].1.contains("Nothing was stored"), "{details:?}");
    assert!(reply.header("retry-after").is_some());
}

/// Too much at once: refused before anything is stored, while all that got a 202 is kept.
#[tokio::test(flavor = "multi_thread")]
async fn overload() {
    let world = World::start().await;
    let partner = world.partner_without_url().await;
    let item = json!({"partnerId": partner.id, "payload": verified("u")});
    let thousand = json!({"events": vec![item; 1000]});
    let lock = world.store().lock();
    let mut calls = JoinSet::new();
    let mut refused = 0;
    // The queue holds 16,384 events while the writer waits for the lock; so of twenty thousand some are refused.
    for _ in 0..20 {
        let call = partner.batch(&thousand);
        calls.spawn(call.send());
    }
    let mut accepted = 0;
    while let Some(reply) = calls.join_next().await {
        let reply = reply.unwrap();
        match reply.status {
            202 => accepted += 1,
            _ => {
                unavailable(&reply);
                refused += 1;
            }
        }
        if refused == 3 {
            break;
        }
    }
    assert_eq!((accepted, refused), (0, 3), "refused at once, before the lock is gone");
    drop(lock);
    let replies = calls.join_all().await;
    let stored: u64 = replies.iter().filter(|reply| reply.status == 202).count() as u64 * 1000;
    for reply in replies.iter().filter(|reply| reply.status != 202) {
        unavailable(reply);
    }
    assert!(stored > 0);
    assert_eq!(partner.get("webhook-notifications").await.data(200)["total"], stored);
}

/// A store that cannot be written: 503, nothing stored; and all goes on when it can.
#[tokio::test]
async fn a_store_that_cannot_be_written() {
    let world = World::start().await;
    let partner = world.partner().await;
    let lock = world.store().lock();
    unavailable(&partner.publishing(verified("u").to_string()).header("idempotency-key", "k").send().await);
    // Reading goes on.
    assert_eq!(partner.get("webhook-notifications").await.data(200)["total"], 0);
    drop(lock);
    partner.publishing(verified("u").to_string()).header("idempotency-key", "k").send().await.data(202);
    partner.endpoint.delivery(1).await;
    let total = async |partner: &Partner| partner.get("webhook-notifications").await.data(200)["total"].clone();
    assert_eq!(total(&partner).await, 1);
}
