//! The demonstration: events that arrive, one that fails twice and is retried, and what the API says in the end.
//!
//! Every step is checked against what was really seen; the first one that is not as it should be ends it.

use super::api::{Caller, Notification, Page, Published};
use super::receiver::{Arrival, FLAKY, FLAKY_FAILURES, PATH, Verdict};
use super::show::{Ink, Screen, short, time_of_day};
use super::watch::{Seen, Watch};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;

/// How long to wait before the service is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(5);

/// What takes part.
pub(super) struct Demonstration<'a> {
    pub(super) watch: &'a mut Watch,
    pub(super) platform: &'a Caller,
    pub(super) partner_id: &'a str,
    /// What it is doing, for whoever waits for it in vain.
    pub(super) step: &'a mut String,
}

impl Demonstration<'_> {
    /// Runs it.
    pub(super) async fn run(mut self) -> Result<(), String> {
        let screen = self.watch.screen;
        screen.heading("1  Events: published by the platform, received by the partner")?;
        let mut ids = Vec::new();
        let mut arrivals = Vec::new();
        for event in samples() {
            let id = self.publish(&event).await?;
            let seen = self.delivery(&id).await?;
            expect(&seen, StatusCode::OK)?;
            ids.push(id);
            arrivals.push(seen.arrival);
        }
        if let Some(shortest) = arrivals.iter().min_by_key(|arrival| arrival.body.len()) {
            request(screen, shortest)?;
        }
        screen.heading("2  A receiver in trouble: it answers 500 twice, then 200")?;
        let id = self.publish(&flaky_sample()).await?;
        for number in 1..=FLAKY_FAILURES + 1 {
            let seen = self.delivery(&id).await?;
            let last = number > FLAKY_FAILURES;
            expect(&seen, if last { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR })?;
            let settled = if last { Some("SENT") } else { None };
            let recorded = seen.recorded.ok_or("a delivery that matters was not looked up")??;
            if (recorded.number, recorded.settled.as_deref()) != (number, settled)
                || recorded.next_attempt_at.is_some() == last
            {
                return Err(format!("delivery {number} was recorded as {recorded:?}"));
            }
        }
        ids.push(id);
        screen.heading("3  What the partner's API says")?;
        let rows = self.settled(&ids).await?;
        table(screen, &rows)
    }

    async fn publish(&mut self, event: &Value) -> Result<String, String> {
        let name = event["event"].as_str().unwrap_or("-");
        let kind = event["type"].as_str().unwrap_or("-");
        *self.step = format!("publish {name}");
        let at = self.watch.clock.now();
        let stopwatch = self.watch.clock.stopwatch();
        let path = format!("/partners/{}/events", self.partner_id);
        let (status, published): (StatusCode, Published) = self.platform.call(Method::POST, &path, Some(event)).await?;
        let took = stopwatch.elapsed().as_millis();
        let answer = self.watch.screen.paint(Ink::Good, &status.as_u16().to_string());
        let rest = format!("{kind:<11}  {name:<18}  durable: {answer} after {took} ms");
        self.watch.screen.happened(at, Ink::Strong, "published", &published.id, &rest)?;
        *self.step = format!("receive {name}, notification {}", published.id);
        Ok(published.id)
    }

    /// The next delivery of a notification; others that arrive before it are told as well.
    async fn delivery(&mut self, id: &str) -> Result<Seen, String> {
        loop {
            let seen = self.watch.next().await?;
            if seen.arrival.webhook_id == id {
                return Ok(seen);
            }
        }
    }

    /// The notifications in the partner's list, once all of `ids` are SENT.
    async fn settled(&mut self, ids: &[String]) -> Result<Vec<Notification>, String> {
        "see all events as SENT in the partner's list".clone_into(self.step);
        loop {
            let page: Page<Notification> = self.watch.partner.look("/webhook-notifications?limit=100").await?;
            let sent = |id: &String| page.data.iter().any(|row| row.id == *id && row.status == "SENT");
            if ids.iter().all(sent) {
                return Ok(page.data);
            }
            self.watch.clock.sleep(ASK_AGAIN).await;
        }
    }
}

fn expect(seen: &Seen, answer: StatusCode) -> Result<(), String> {
    let arrival = &seen.arrival;
    match &arrival.verdict {
        Verdict::Genuine { both: true, .. } if arrival.answer == answer => Ok(()),
        other => Err(format!("notification {} arrived as {other:?} and got {}", arrival.webhook_id, arrival.answer)),
    }
}

/// Shows a request as it came in.
fn request(screen: Screen, arrival: &Arrival) -> Result<(), String> {
    screen.say(&format!("\n  The request of {}, as it came in:", short(&arrival.webhook_id)))?;
    let say = |line: &str| screen.say(&format!("    {}", screen.paint(Ink::Faint, line)));
    say(&format!("POST {PATH}"))?;
    for (name, value) in &arrival.headers {
        say(&format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))?;
    }
    say("")?;
    say(&String::from_utf8_lossy(&arrival.body))
}

fn table(screen: Screen, rows: &[Notification]) -> Result<(), String> {
    let head =
        format!("  {:<36}  {:<18}  {:<8}  {:<7}  {:<12}  updated", "id", "event", "status", "retries", "created");
    screen.say(&screen.paint(Ink::Faint, &head))?;
    for row in rows {
        let ink = if row.status == "SENT" { Ink::Good } else { Ink::Bad };
        let status = screen.paint(ink, &format!("{:<8}", row.status));
        screen.say(&format!(
            "  {}  {:<18}  {status}  {:<7}  {}  {}",
            row.id,
            row.event_type,
            row.retry_attempts,
            time_of_day(row.created_at),
            time_of_day(row.updated_at)
        ))?;
    }
    Ok(())
}

const USER: &str = "61561e29-cb8f-475a-b913-7d70430badfe";
const TRANSACTION: &str = "b3f0c7de-4f6a-4a53-9c1e-0d9a6f7b2e41";

/// The way of a customer: identified, then a purchase of crypto.
fn samples() -> [Value; 4] {
    [
        json!({"type": "KYC", "event": "CREATED_KYC", "externalUserId": USER}),
        json!({"type": "KYC", "event": "VERIFIED_USER", "externalUserId": USER}),
        json!({
            "type": "TRANSACTION",
            "event": "CREATED_ON_RAMP",
            "externalUserId": USER,
            "transactionId": TRANSACTION,
            "firstName": "Lucía",
            "lastName": "Hernández",
        }),
        json!({
            "type": "TRANSACTION",
            "event": "COMPLETED_ON_RAMP",
            "externalUserId": USER,
            "transactionId": TRANSACTION,
            "firstName": "Lucía",
            "lastName": "Hernández",
            "blockchain": "Polygon PoS",
            "cryptoCurrency": "USDC",
            "fiatCurrency": "MXN",
            "fiatAmount": "1500.00",
            "cryptoAmount": "80.42",
            "exchangeRate": "18.65",
        }),
    ]
}

/// A sale of crypto whose completion the receiver can at first not take.
fn flaky_sample() -> Value {
    json!({
        "type": "TRANSACTION",
        "event": "COMPLETED_OFF_RAMP",
        "externalUserId": format!("{FLAKY}2b7d9c10"),
        "transactionId": "e27c5a90-1d83-4b6f-8a35-5f0c94d1b7a2",
        "firstName": "Mateo",
        "lastName": "Quispe",
        "blockchain": "Polygon PoS",
        "cryptoCurrency": "USDC",
        "fiatCurrency": "MXN",
        "cryptoAmount": "25.00",
    })
}
