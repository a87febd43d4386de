//! A partner's receiver, as a partner would write one: it verifies, decides on an answer, and tells what arrived.
//!
//! So that retries can be watched, it fails on demand: a user id that begins with `fail-` is answered 500 always, one
//! that begins with `flaky-` is answered 500 at the first two deliveries of each notification.

use crate::clock::Clock;
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use bytes::Bytes;
use capa_webhooks_core::time::Timestamp;
use capa_webhooks_receiver::{Event, Received, Secret, Verifier, headers};
use http::{HeaderMap, StatusCode, header};
use serde_json::json;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;

/// Where it takes notifications.
pub(super) const PATH: &str = "/webhooks";
/// A user whose events are always answered 500.
pub(super) const FAIL: &str = "fail-";
/// A user whose events are answered 500 at first.
pub(super) const FLAKY: &str = "flaky-";
/// How often a flaky delivery fails.
pub(super) const FLAKY_FAILURES: u32 = 2;

/// How many arrivals wait to be shown before the receiver takes no more.
const MOST_UNSHOWN: usize = 256;

/// A request that arrived.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) at: Timestamp,
    /// The header `webhook-id`; `-` if there was none.
    pub(super) webhook_id: String,
    pub(super) verdict: Verdict,
    /// The status of the answer.
    pub(super) answer: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// What the signatures said.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Everything that was signed is genuine.
    Genuine {
        kind: String,
        event: String,
        /// `capa-signature` was there beside `webhook-signature`.
        both: bool,
    },
    /// Not genuine, for this reason.
    Refused(String),
}

/// The receiver, and what it tells.
pub(super) fn receiver(secret: &Secret, clock: Clock) -> (Router, mpsc::Receiver<Arrival>) {
    let (tell, arrivals) = mpsc::channel(MOST_UNSHOWN);
    let verifier = Verifier::new(secret).require_timestamp();
    let desk = Arc::new(Desk { verifier, clock, failures: Mutex::default(), tell });
    (Router::new().route(PATH, post(receive)).with_state(desk), arrivals)
}

struct Desk {
    verifier: Verifier,
    clock: Clock,
    /// How often each flaky notification was answered 500 so far.
    failures: Mutex<HashMap<String, u32>>,
    tell: mpsc::Sender<Arrival>,
}

async fn receive(State(desk): State<Arc<Desk>>, headers: HeaderMap, body: Bytes) -> Response {
    let at = desk.clock.now();
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let (verdict, answer, said) = match desk.verifier.verify(header, &body, at.as_seconds()) {
        Ok(received) => {
            let (answer, said) = desk.answer(&received);
            let Received { event, .. } = received;
            let verdict = Verdict::Genuine {
                kind: event.type_name().to_owned(),
                event: event.event_name().to_owned(),
                both: header(headers::CAPA_SIGNATURE).is_some(),
            };
            (verdict, answer, said)
        }
        Err(refusal) => {
            let said = json!({"error": refusal.to_string()});
            (Verdict::Refused(refusal.to_string()), StatusCode::UNAUTHORIZED, said)
        }
    };
    let webhook_id = header(headers::WEBHOOK_ID).unwrap_or("-").to_owned();
    // If nobody listens any more, dev is stopping; the answer is given all the same.
    _ = desk.tell.send(Arrival { at, webhook_id, verdict, answer, headers, body }).await;
    (answer, [(header::CONTENT_TYPE, "application/json")], said.to_string()).into_response()
}

impl Desk {
    fn answer(&self, received: &Received) -> (StatusCode, serde_json::Value) {
        if self.fails(&received.event, received.webhook_id().unwrap_or_default()) {
            (StatusCode::INTERNAL_SERVER_ERROR, json!({"error": "database is down"}))
        } else {
            (StatusCode::OK, json!({"ok": true}))
        }
    }

    fn fails(&self, event: &Event, webhook_id: &str) -> bool {
        let user = event.external_user_id().unwrap_or_default();
        if !user.starts_with(FLAKY) {
            return user.starts_with(FAIL);
        }
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = failures.entry(webhook_id.to_owned()).or_default();
        let fails = *failed < FLAKY_FAILURES;
        if fails {
            *failed += 1;
        } else {
            failures.remove(webhook_id);
        }
        fails
    }
}
