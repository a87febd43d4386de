//! Contract, section 2: automatic retries, stepped through without waiting.

use crate::harness::{Answer, Partner, START, Then, World, later, moment, seconds, verified};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

const MILLISECOND: Duration = Duration::from_millis(1);

/// How long after an attempt the next one is due; most attempts on a stepped clock take no time.
fn delay(attempt: &Value) -> Duration {
    let time = |name: &str| moment(attempt[name].as_str().unwrap());
    time("nextAttemptAt").since(time("startedAt"))
}

/// Waits until attempt `number` is recorded, and gives it.
async fn recorded(partner: &Partner, id: &str, number: usize) -> Value {
    partner.attempted(id, number).await[number - 1].clone()
}

/// Steps through all attempts of a notification whose receiver never acknowledges; gives the delays between them.
async fn delays(world: &World, partner: &Partner, id: &str) -> Vec<Duration> {
    let mut delays = Vec::new();
    loop {
        let number = delays.len() + 1;
        partner.endpoint.attempt(id, number).await;
        let attempt = recorded(partner, id, number).await;
        if attempt["settled"] == "FAILED" {
            assert_eq!(attempt["nextAttemptAt"], Value::Null);
            return delays;
        }
        delays.push(delay(&attempt));
        world.step_to(&attempt["nextAttemptAt"]);
    }
}

#[tokio::test]
async fn the_default_schedule() {
    let world = World::start().await;
    let partner = world.partner().await;
    partner.endpoint.answers_for("u", [Answer::new(500, "no")]);
    let id = partner.publish(&verified("u")).await;
    for (number, nominal) in (1..).zip([10, 60, 360, 2_160, 12_960]) {
        partner.endpoint.attempt(&id, number).await;
        let attempt = recorded(&partner, &id, number).await;
        let detail = partner.notification(&id).await;
        assert_eq!((&detail["status"], &detail["retryAttempts"]), (&json!("PENDING"), &json!(number - 1)));
        assert_eq!(attempt["settled"], Value::Null);
        let delay = delay(&attempt);
        let (least, most) = (seconds(nominal).mul_f64(0.9), seconds(nominal).mul_f64(1.1));
        assert!((least..=most).contains(&delay), "retry {number} is due after {delay:?}, not {nominal} s ± 10 %");

        // A millisecond before, everything else goes out, and this does not: it goes out at its very moment.
        world.step(delay - MILLISECOND);
        partner.barrier().await;
        assert_eq!(partner.endpoint.attempts_of(&id).len(), number);
        world.step(MILLISECOND);
        assert_eq!(attempt["nextAttemptAt"], world.now());
        let delivery = partner.endpoint.attempt(&id, number + 1).await;
        assert_eq!(delivery.timestamp(), world.now_seconds());
        assert_eq!(recorded(&partner, &id, number + 1).await["startedAt"], world.now());
    }
    partner.endpoint.attempt(&id, 6).await;
    let detail = partner.becomes(&id, "FAILED").await;
    assert_eq!((&detail["retryAttempts"], &detail["version"]), (&json!(5), &json!(1)));

    world.step(seconds(10 * 86_400));
    partner.barrier().await;
    assert_eq!(partner.endpoint.attempts_of(&id).len(), 6, "a cycle has exactly 6 attempts");
}

#[tokio::test]
async fn jitter_spreads_the_retries_of_one_moment() {
    let world = World::start().await;
    let partner = world.partner().await;
    partner.endpoint.answers([Answer::new(500, "")]);
    let mut spread = BTreeSet::new();
    for number in 0..20 {
        let id = partner.publish(&verified(&number.to_string())).await;
        let delay = delay(&recorded(&partner, &id, 1).await);
        assert!((seconds(9)..=seconds(11)).contains(&delay), "{delay:?}");
        spread.insert(delay);
    }
    assert!(spread.len() > 10, "{spread:?}");
}

/// The schedule that is configured, by list or by figures, is kept to the millisecond where there is no jitter.
#[tokio::test]
async fn the_operators_schedules() {
    for (settings, expected) in [
        (vec![("retry_delays", "0s,1m,5m,10m,15m")], vec![0, 60, 300, 600, 900]),
        (vec![("retry_delays", "7s,3s")], vec![7, 3]),
        (
            vec![
                ("retry_initial_delay", "5s"),
                ("retry_factor", "2"),
                ("retry_max_delay", "12s"),
                ("retry_jitter", "0"),
                ("retry_count", "4"),
            ],
            vec![5, 10, 12, 12],
        ),
        (vec![("retry_jitter", "0")], vec![10, 60, 360, 2_160, 12_960]),
        (vec![("retry_count", "0")], vec![]),
    ] {
        let world = World::with(&settings).await;
        let partner = world.partner().await;
        partner.endpoint.answers_for("u", [Answer::new(500, "")]);
        let id = partner.publish(&verified("u")).await;
        let expected: Vec<_> = expected.into_iter().map(seconds).collect();
        assert_eq!(delays(&world, &partner, &id).await, expected, "{settings:?}");
        let detail = partner.becomes(&id, "FAILED").await;
        assert_eq!(detail["retryAttempts"], json!(expected.len()), "{settings:?}");
        world.step(seconds(86_400));
        partner.barrier().await;
        assert_eq!(partner.endpoint.attempts_of(&id).len(), expected.len() + 1, "{settings:?}");
    }
}

/// A partner's delays go before the operator's, from the next attempt on.
#[tokio::test]
async fn a_partners_schedule() {
    let world = World::with(&[("retry_delays", "1m,1m,1m,1m,1m")]).await;
    let partner = world.partner().await;
    partner.endpoint.answers([Answer::new(500, "")]);
    partner.choose(json!({"retryDelays": ["0s", "1500ms", "2h"]})).await;
    let id = partner.publish(&verified("own")).await;
    let expected = [Duration::ZERO, Duration::from_millis(1_500), seconds(7_200)];
    assert_eq!(delays(&world, &partner, &id).await, expected);

    let id = partner.publish(&verified("changed")).await;
    let second = recorded(&partner, &id, 2).await;
    assert_eq!(delay(&second), Duration::from_millis(1_500));
    partner.choose(json!({"retryDelays": null})).await;
    world.step_to(&second["nextAttemptAt"]);
    for number in 3..=5 {
        let attempt = recorded(&partner, &id, number).await;
        assert_eq!(delay(&attempt), seconds(60), "the operator's again");
        world.step_to(&attempt["nextAttemptAt"]);
    }
    partner.attempted(&id, 6).await;
    partner.becomes(&id, "FAILED").await;
}

/// `Retry-After` counts on 429 and 503 only; it lengthens, and never beyond the last delay.
#[tokio::test]
async fn retry_after() {
    let world = World::with(&[("retry_delays", "10s,1m,5m")]).await;
    let partner = world.partner().await;
    for (number, (status, value, expected)) in [
        (429, "100", 100),
        (503, "100", 100),
        (429, "5", 10),
        (503, "0", 10),
        (429, "300", 300),
        (503, "86400", 300),
        (429, "99999999999999999999", 300),
        // 100 s after the start, which is 63 ms into its second.
        (503, "Fri, 05 Apr 2024 13:47:07 GMT", 99),
        (429, "Fri, 05 Apr 2024 13:45:00 GMT", 10),
        (429, "soon", 10),
        (429, "-100", 10),
        (500, "100", 10),
        (404, "100", 10),
        (202, "100", 10),
        (301, "100", 10),
    ]
    .into_iter()
    .enumerate()
    {
        let user = number.to_string();
        partner.endpoint.answers_for(&user, [Answer::with(status, &[("Retry-After", value)], "")]);
        let id = partner.publish(&verified(&user)).await;
        let delay = delay(&recorded(&partner, &id, 1).await).as_millis();
        let expected = if expected == 99 { 99_937 } else { expected * 1000 };
        assert_eq!(delay, expected, "{status} {value}");
    }
}

#[tokio::test]
async fn gone_is_an_ordinary_failure() {
    let world = World::with(&[("retry_delays", "1s,1s,1s,1s,1s")]).await;
    let partner = world.partner().await;
    partner.endpoint.answers([Answer::new(410, "Gone")]);
    let id = partner.publish(&verified("u")).await;
    assert_eq!(delays(&world, &partner, &id).await, [seconds(1); 5]);
    assert_eq!(partner.becomes(&id, "FAILED").await["latestErrorPayload"], json!({"message": "Gone"}));
}

#[tokio::test]
async fn a_retry_that_is_acknowledged_ends_the_cycle() {
    let world = World::with(&[("retry_delays", "1s,1s,1s,1s,1s")]).await;
    let partner = world.partner().await;
    let answers = [Answer::new(500, r#"{"reason":"first"}"#), Answer::new(503, "second"), Answer::ok()];
    partner.endpoint.answers_for("u", answers);
    let id = partner.publish(&verified("u")).await;
    for number in 1..=2 {
        partner.attempted(&id, number).await;
        world.step(seconds(1));
    }
    let detail = partner.becomes(&id, "SENT").await;
    assert_eq!((&detail["retryAttempts"], &detail["manualRetryCount"]), (&json!(2), &json!(0)));
    assert_eq!(detail["latestErrorPayload"], json!({"message": "second"}), "it stays, also after SENT");
    assert_eq!(detail["updatedAt"], later(START, seconds(2)));
    world.step(seconds(86_400));
    partner.barrier().await;
    assert_eq!(partner.endpoint.attempts_of(&id).len(), 3);
}

/// The delay counts from the end of the attempt, not from its start.
#[tokio::test]
async fn the_delay_counts_from_the_end_of_the_attempt() {
    let world = World::with(&[("retry_delays", "10s")]).await;
    let partner = world.partner().await;
    partner.endpoint.answers_for("slow", [Answer::raw("", Then::Hang)]);
    let id = partner.publish(&verified("slow")).await;
    partner.endpoint.attempt(&id, 1).await;
    world.step(seconds(15));
    let attempt = recorded(&partner, &id, 1).await;
    assert_eq!((&attempt["startedAt"], &attempt["durationMs"]), (&json!(START), &json!(15_000)));
    assert_eq!(attempt["nextAttemptAt"], later(START, seconds(25)));
}

/// One partner's failing receiver holds up no other partner.
#[tokio::test]
async fn a_silent_receiver_holds_up_nobody_else() {
    let world = World::start().await;
    let (silent, quick) = (world.partner().await, world.partner().await);
    silent.endpoint.answers([Answer::raw("", Then::Hang)]);
    for number in 0..40 {
        silent.publish(&verified(&number.to_string())).await;
    }
    for number in 1..=10 {
        quick.publish(&verified("u")).await;
        quick.endpoint.delivery(number).await;
    }
    silent.endpoint.delivery(1).await;
    quick.barrier().await;
}
