//! Whether partners' endpoints take what they are sent: in the API, the figures, the log, and at the operator's URL.

use crate::harness::program::Program;
use crate::harness::receiver::{Endpoint, Receiver};
use crate::harness::{Answer, Partner, START, Then, World, later, patience, seconds, verified};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const SECRET: &str = "5b1c9f0a7d3e4826b0c5d9e1f2a34567890abcdef1234567890fedcba9876543";
const MINUTE: Duration = Duration::from_secs(60);

async fn health(partner: &Partner) -> Value {
    partner.seen_by_platform("GET").send().await.data(200)["endpointHealth"].clone()
}

fn figure(partner: &Partner) -> String {
    format!("capa_webhooks_partner_failing_since_timestamp_seconds{{partner=\"{}\"}}", partner.id)
}

/// A world whose operator has a URL, too.
async fn with_operator() -> (World, Arc<Endpoint>) {
    let mut world = World::with(&[("retry_delays", "1s,1s,1d"), ("failing_after", "10m")]).await;
    let operator = world.receiver.endpoint();
    operator.expect_secret(SECRET);
    let file = world.file("operations.secret");
    std::fs::write(&file, SECRET).unwrap();
    world.stop().await;
    world.change_setting("operations_url", &operator.url);
    world.change_setting("operations_secret_file", &file.display().to_string());
    world.start_service().await;
    (world, operator)
}

/// Lets the partner's endpoint fail three times; the last attempt is recorded.
async fn fails_three_times(world: &World, partner: &Partner) -> String {
    partner.endpoint.answers([Answer::new(500, "")]);
    let id = partner.publish(&verified("u")).await;
    for n in 1..=3 {
        partner.attempted(&id, n).await;
        world.metric_becomes("capa_webhooks_unrecorded", "0").await;
        if n < 3 {
            world.step(seconds(1));
        }
    }
    id
}

#[tokio::test]
async fn the_api_tells_how_an_endpoint_does() {
    let world = World::with(&[("retry_delays", "1s,1s,1s,1s")]).await;
    let (partner, other) = (world.partner().await, world.partner().await);
    other.barrier().await;
    let (bad, reset) = (Answer::new(500, "THEIR-BODY"), Answer::raw("", Then::Reset));
    partner.endpoint.answers([bad.clone(), bad, reset, Answer::ok()]);
    let id = partner.publish(&verified("u")).await;
    let told = |state: &str, since: Option<&str>, failures: u32, last: &str, why: &str| {
        json!({
            "state": state,
            "failingSince": since,
            "consecutiveFailures": failures,
            "lastFailureAt": last,
            "lastFailure": why,
            "lastSuccessAt": null,
        })
    };
    partner.attempted(&id, 1).await;
    assert_eq!(health(&partner).await, told("healthy", None, 1, START, "the receiver answered 500"));
    world.step(seconds(1));
    partner.attempted(&id, 2).await;
    world.step(seconds(1));
    partner.attempted(&id, 3).await;
    let third = later(START, seconds(2));
    let why = "the connection ended before the answer was complete";
    assert_eq!(health(&partner).await, told("failing", Some(START), 3, &third, why));
    world.metric_becomes("capa_webhooks_partners_failing", "1").await;
    let listed = world.platform("GET", "partners").send().await.data(200);
    for (whose, state) in [(&partner, "failing"), (&other, "healthy")] {
        let row = listed["data"].as_array().unwrap().iter().find(|row| row["id"] == json!(whose.id)).unwrap();
        assert_eq!(row["endpointHealth"]["state"], state);
    }
    world.step(seconds(1));
    partner.becomes(&id, "SENT").await;
    let after = health(&partner).await;
    assert_eq!((&after["state"], &after["consecutiveFailures"]), (&json!("healthy"), &json!(0)));
    assert_eq!((&after["failingSince"], &after["lastFailureAt"]), (&Value::Null, &json!(third)));
    assert_eq!(after["lastSuccessAt"], json!(later(START, seconds(3))));
    world.metric_becomes("capa_webhooks_partners_failing", "0").await;
}

/// Told once it has failed for long, told once only, and told when it is over: also when the service was started anew.
#[tokio::test]
async fn the_operator_is_told_once_and_of_the_recovery() {
    let (mut world, operator) = with_operator().await;
    let partner = world.partner().await;
    operator.answers([Answer::new(500, ""), Answer::new(204, "")]);
    fails_three_times(&world, &partner).await;
    world.step(9 * MINUTE);
    partner.publish(&verified("u")).await;
    partner.endpoint.delivery(4).await;
    assert!(operator.deliveries().is_empty(), "it has not lasted for ten minutes");
    let text = world.metrics().await;
    assert!(!text.contains(&partner.id), "{text}");

    world.step(MINUTE);
    let first = operator.delivery(1).await;
    let body: Value = serde_json::from_str(first.text()).unwrap();
    assert_eq!((&body["type"], &body["data"]["partnerId"]), (&json!("partner.failing"), &json!(partner.id)));
    assert_eq!(body["data"]["failingSince"], START);
    assert_eq!(body["data"]["lastFailure"], "the receiver answered 500");
    assert!(body["data"]["consecutiveFailures"].as_u64().unwrap() >= 3, "{body}");
    let since = world.metric(&figure(&partner)).await;
    assert!((since - 1_712_324_727.0).abs() < f64::EPSILON, "{since}");
    // It was not acknowledged: told again, under the same id.
    let again = async || {
        world.step(seconds(5));
        operator.deliveries().get(1).cloned()
    };
    let second = patience::until("the second attempt to tell the operator", again).await;
    assert_eq!((second.id(), second.text()), (first.id(), first.text()));

    // The next process knows that it was told.
    let kept = async || (kept_as_told(&world) == "1").then_some(());
    patience::until("it to be kept that it was told", kept).await;
    world.stop().await;
    world.start_service().await;
    let partner = world.again(&partner);
    assert_eq!(health(&partner).await["failingSince"], START);
    world.step(60 * MINUTE);
    let id = partner.publish(&verified("u")).await;
    partner.attempted(&id, 1).await;
    world.step(60 * MINUTE);

    partner.endpoint.answers([Answer::ok()]);
    let id = partner.publish(&verified("u")).await;
    partner.becomes(&id, "SENT").await;
    let last = operator.delivery(3).await;
    let body: Value = serde_json::from_str(last.text()).unwrap();
    assert_eq!((&body["type"], &body["data"]["failingSince"]), (&json!("partner.recovered"), &json!(START)));
    assert_ne!(last.id(), first.id());
    assert!(!world.metrics().await.contains(&partner.id));
    let none = async || (kept_as_told(&world) == "0").then_some(());
    patience::until("it to be kept that it is over", none).await;
    assert_eq!(operator.deliveries().len(), 3);
}

/// How many partners the store keeps as told.
fn kept_as_told(world: &World) -> String {
    world.store().ask("SELECT count(failing_since) FROM partners")
}

/// An operator's URL that hangs delays nobody.
#[tokio::test]
async fn an_operator_who_does_not_answer_delays_no_delivery() {
    let (world, operator) = with_operator().await;
    operator.answers([Answer::raw("", Then::Hang)]);
    let (partner, other) = (world.partner().await, world.partner().await);
    fails_three_times(&world, &partner).await;
    world.step(10 * MINUTE);
    operator.delivery(1).await;
    other.barrier().await;
    partner.endpoint.answers([Answer::ok()]);
    partner.barrier().await;
    assert_eq!(health(&partner).await["state"], "healthy");
}

/// A partner to whom nothing is sent any more is forgotten without a word.
#[tokio::test]
async fn who_is_gone_is_forgotten() {
    for gone in ["disabled", "no url", "erased"] {
        let (world, operator) = with_operator().await;
        let (partner, other) = (world.partner().await, world.partner().await);
        fails_three_times(&world, &partner).await;
        world.step(10 * MINUTE);
        operator.delivery(1).await;
        world.metric_becomes("capa_webhooks_partners_failing", "1").await;
        match gone {
            "disabled" => _ = partner.seen_by_platform("PATCH").json(&json!({"disabled": true})).send().await.data(200),
            "no url" => _ = partner.set(json!({"url": null})).await,
            _ => _ = partner.seen_by_platform("DELETE").send().await.data(200),
        }
        world.metric_becomes("capa_webhooks_partners_failing", "0").await;
        assert!(!world.metrics().await.contains(&partner.id), "{gone}");
        // Another partner's news comes next: of the one that is gone there was none.
        fails_three_times(&world, &other).await;
        world.step(10 * MINUTE);
        let next = operator.delivery(2).await;
        assert!(next.text().contains(&other.id), "{gone}");
    }
}

/// The operator's URL obeys the rules for destinations, and its secret is made where there is none.
#[tokio::test]
async fn the_operators_url_and_secret() {
    let folder = tempfile::tempdir().unwrap();
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_capa-webhooks"))
        .arg("serve")
        .current_dir(folder.path())
        .env_clear()
        .env("CAPA_WEBHOOKS_OPERATIONS_URL", "http://10.0.0.1/")
        .output();
    let output = patience::within("the refusal", output).await.unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && text.contains("operations_url: "), "{text}");
    assert!(text.contains("CAPA_WEBHOOKS_ALLOW_HTTP"), "{text}");

    let variables = [("CAPA_WEBHOOKS_OPERATIONS_URL", "http://127.0.0.1:9/")];
    let mut program = Program::serve_with(folder.path(), &variables).await;
    let made = std::fs::read_to_string(folder.path().join("capa-webhooks.operations-secret")).unwrap();
    assert_eq!(made.trim().len(), 64);
    let log = program.terminate().await;
    assert!(!log.contains(made.trim()) && log.contains("made a webhook secret"));
}

/// The log tells it once for each run of failures, with the reason and no URL.
#[tokio::test]
async fn the_log_tells_it() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let mut program = Program::serve_with(folder.path(), &[("CAPA_WEBHOOKS_FAILING_AFTER", "1s")]).await;
    let partner = Partner::make(program.address, receiver.endpoint(), json!({"name": "x"})).await;
    partner.set(json!({"url": partner.endpoint.url, "retryDelays": ["100ms", "100ms", "1d"]})).await;
    partner.endpoint.answers([Answer::new(500, "")]);
    partner.publish(&verified("u")).await;
    let line = program.logs(|line| line["message"] == "a partner's endpoint has been failing for long").await;
    assert_eq!((&line["level"], &line["partner"]), (&json!("WARN"), &json!(partner.id)));
    assert_eq!(line["reason"], "the receiver answered 500");
    partner.endpoint.answers([Answer::ok()]);
    partner.publish(&verified("u")).await;
    let line = program.logs(|line| line["message"] == "a partner's endpoint acknowledges again").await;
    assert_eq!((&line["level"], &line["partner"]), (&json!("INFO"), &json!(partner.id)));
    let log = program.terminate().await;
    assert_eq!(log.matches("has been failing for long").count(), 1);
    assert!(!log.contains("/hook/"));
}
