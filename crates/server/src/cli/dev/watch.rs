//! Tells what happens to notifications: what arrived, what the service made of the answer, and what comes next.
//!
//! Two views are put together here. The receiver tells of every request ([`Arrival`]); after a failed one, and after
//! the success that ends a row of failures, the service is asked through its API what it recorded.

use super::api::{Attempt, Caller, Page};
use super::receiver::{Arrival, Verdict};
use super::show::{Ink, Screen, due};
use crate::clock::Clock;
use capa_webhooks_core::time::Timestamp;
use http::StatusCode;
use std::collections::HashSet;
use std::time::Duration;
use tokio::sync::mpsc;

/// How long after an answer its record may take to be seen.
const RECORD_PATIENCE: Duration = Duration::from_secs(5);
/// How long to wait before the service is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(5);
/// What is shown of an answer's body.
const SHOWN_BODY: usize = 60;

/// Whoever watches.
pub(super) struct Watch {
    pub(super) screen: Screen,
    pub(super) clock: Clock,
    pub(super) partner: Caller,
    arrivals: mpsc::Receiver<Arrival>,
    /// Notifications whose last delivery failed.
    troubled: HashSet<String>,
}

/// What one delivery came to.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) arrival: Arrival,
    /// What the service recorded; none where it was not asked.
    pub(super) recorded: Option<Result<Attempt, String>>,
}

impl Watch {
    pub(super) fn new(screen: Screen, clock: Clock, partner: Caller, arrivals: mpsc::Receiver<Arrival>) -> Self {
        Self { screen, clock, partner, arrivals, troubled: HashSet::new() }
    }

    /// Waits for the next arrival and tells of it.
    pub(super) async fn next(&mut self) -> Result<Seen, String> {
        let arrival = self.arrivals.recv().await.ok_or("the receiver has ended")?;
        self.tell(&arrival)?;
        let id = &arrival.webhook_id;
        let recorded = match (&arrival.verdict, arrival.answer) {
            (Verdict::Genuine { .. }, StatusCode::OK) if !self.troubled.remove(id) => None,
            (Verdict::Genuine { .. }, answer) => {
                if answer != StatusCode::OK {
                    self.troubled.insert(id.clone());
                }
                let recorded = self.recorded(&arrival).await;
                match &recorded {
                    Ok(attempt) => self.tell_attempt(id, attempt)?,
                    Err(problem) => self.screen.happened(self.clock.now(), Ink::Bad, "unknown", id, problem)?,
                }
                Some(recorded)
            }
            // Whoever sent this, it need not have been the service.
            (Verdict::Refused(_), _) => None,
        };
        Ok(Seen { arrival, recorded })
    }

    fn tell(&self, arrival: &Arrival) -> Result<(), String> {
        let screen = self.screen;
        let (kind, event, verdict) = match &arrival.verdict {
            Verdict::Genuine { kind, event, both: true } => {
                (kind.as_str(), event.as_str(), ("signature verified".to_owned(), Ink::Good))
            }
            Verdict::Genuine { kind, event, both: false } => (
                kind.as_str(),
                event.as_str(),
                ("webhook-signature verified, capa-signature missing".to_owned(), Ink::Bad),
            ),
            Verdict::Refused(why) => ("-", "-", (format!("refused, {why}"), Ink::Bad)),
        };
        let verdict = screen.paint(verdict.1, &verdict.0);
        let answer = arrival.answer.as_u16().to_string();
        let answer = screen.paint(if arrival.answer == StatusCode::OK { Ink::Good } else { Ink::Bad }, &answer);
        let rest = format!("{kind:<11}  {event:<18}  {verdict}, answered {answer}");
        screen.happened(arrival.at, Ink::Strong, "received", &arrival.webhook_id, &rest)
    }

    fn tell_attempt(&self, id: &str, attempt: &Attempt) -> Result<(), String> {
        let (screen, now) = (self.screen, self.clock.now());
        let number = attempt.number;
        let settled = attempt.settled.as_deref();
        if settled == Some("SENT") {
            let rest = format!("acknowledged at attempt {number}");
            return screen.happened(now, Ink::Good, "SENT", id, &rest);
        }
        screen.happened(now, Ink::Bad, "failed", id, &format!("attempt {number}: {}", reason(attempt)))?;
        match attempt.next_attempt_at {
            Some(at) => {
                let rest = format!("will be retried: {}", screen.paint(Ink::Due, &due(at, now)));
                screen.happened(now, Ink::Due, "retry", id, &rest)
            }
            None => {
                let rest = format!("attempt {number} was the last; queue it again by hand with:");
                screen.happened(now, Ink::Bad, settled.unwrap_or("-"), id, &rest)?;
                let retry = self.partner.url(&format!("/webhook-notifications/{id}/retry"));
                screen.say(&format!("curl -sS -X POST {retry} -H '{}: {}'", self.partner.header, self.partner.key))
            }
        }
    }

    /// The attempt that `arrival` was, once the service has recorded it.
    async fn recorded(&self, arrival: &Arrival) -> Result<Attempt, String> {
        let path = format!("/webhook-notifications/{}/attempts", arrival.webhook_id);
        let asking = async {
            loop {
                let page: Page<Attempt> = self.partner.look(&path).await?;
                if let Some(attempt) = page.data.into_iter().rev().find(|attempt| covers(attempt, arrival.at)) {
                    return Ok(attempt);
                }
                self.clock.sleep(ASK_AGAIN).await;
            }
        };
        self.clock.deadline(RECORD_PATIENCE, asking).await.unwrap_or_else(|_| {
            let patience = RECORD_PATIENCE.as_secs();
            Err(format!("the service did not record an attempt of {} within {patience} s", arrival.webhook_id))
        })
    }
}

/// Whether the request of this attempt can have arrived at `at`. Both times are cut to milliseconds.
fn covers(attempt: &Attempt, at: Timestamp) -> bool {
    let end = attempt.started_at.plus(Duration::from_millis(attempt.duration_ms + 2));
    (attempt.started_at..=end).contains(&at)
}

fn reason(attempt: &Attempt) -> String {
    let body = attempt.response_body.as_deref().unwrap_or_default();
    let body: String = body.chars().filter(|c| !c.is_control()).take(SHOWN_BODY).collect();
    match (attempt.http_status, &attempt.error) {
        (_, Some(error)) => error.clone(),
        (Some(status), None) => format!("{status} {body}"),
        (None, None) => "no answer".to_owned(),
    }
}
