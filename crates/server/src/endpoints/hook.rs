//! The operator's own webhook: tells a URL of theirs when a partner's endpoint has been failing for long, and when it is
//! well again.
//!
//! Signed like a partner's, under the same rules for destinations. Any 2xx acknowledges. Tried four times within about
//! three minutes, one announcement after the other, so that they come in order; delivery to partners never waits for it.

use super::Announcement;
use crate::clock::{self, Clock};
use crate::outgoing::{Client, Target};
use bytes::Bytes;
use capa_webhooks_core::health::{News, Reason};
use capa_webhooks_core::outcome::{Verdict, judge};
use capa_webhooks_core::settings::AckRule;
use capa_webhooks_core::time::Timestamp;
use capa_webhooks_receiver::Signer;
use capa_webhooks_receiver::headers::{CAPA_SIGNATURE, WEBHOOK_ID, WEBHOOK_SIGNATURE, WEBHOOK_TIMESTAMP};
use http::{HeaderName, HeaderValue};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// How long to wait before each further attempt.
const DELAYS: [Duration; 3] = [Duration::from_secs(5), Duration::from_secs(30), Duration::from_secs(120)];
/// The deadline of an attempt.
const TIMEOUT: Duration = Duration::from_secs(15);

/// The operator's URL and secret.
#[derive(Debug)]
pub struct Hook {
    /// Where to.
    pub target: Target,
    /// Signs.
    pub signer: Signer,
    /// Makes the POSTs.
    pub client: Arc<Client>,
    /// Waits between attempts.
    pub clock: Clock,
}

impl Hook {
    pub(super) async fn tell(&self, announcement: &Announcement) {
        let Some(body) = body(announcement) else { return };
        let id = uuid::Builder::from_random_bytes(clock::random_bytes()).into_uuid().to_string();
        let mut delays = DELAYS.into_iter();
        loop {
            let attempt = self.client.post(&self.target, self.headers(&id, &body), body.clone(), TIMEOUT).await;
            if judge(&attempt.answer, AckRule::Any2xx) == Verdict::Acknowledged {
                return;
            }
            let reason = Reason::of(&attempt.answer);
            let Some(delay) = delays.next() else {
                tracing::error!(%reason, partner = %announcement.partner, "the operator's URL was not told; given up");
                return;
            };
            tracing::warn!(%reason, "the operator's URL did not acknowledge; trying again");
            self.clock.sleep(delay).await;
        }
    }

    fn headers(&self, id: &str, body: &[u8]) -> [(HeaderName, HeaderValue); 4] {
        let timestamp = self.clock.now().as_seconds();
        [
            (CAPA_SIGNATURE, self.signer.capa_signature(body)),
            (WEBHOOK_ID, id.to_owned()),
            (WEBHOOK_TIMESTAMP, timestamp.to_string()),
            (WEBHOOK_SIGNATURE, self.signer.webhook_signature(id, timestamp, body)),
        ]
        // Hex, base64, numbers and UUIDs are valid header values.
        .map(|(name, text)| {
            (HeaderName::from_static(name), HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("")))
        })
    }
}

/// What is told; `None` if there is nothing to tell.
fn body(announcement: &Announcement) -> Option<Bytes> {
    let Announcement { partner, at, news, before, health } = announcement;
    let (kind, run) = match (*news)? {
        News::Failing => ("partner.failing", health.run),
        News::Recovered => ("partner.recovered", before.run),
    };
    let body = json!({
        "type": kind,
        "timestamp": at.to_iso(),
        "data": {
            "partnerId": partner.to_string(),
            "failingSince": run.map(|run| run.since.to_iso()),
            "consecutiveFailures": run.map(|run| run.failures),
            "lastFailureAt": health.last_failure.map(|(at, _)| at.to_iso()),
            "lastFailure": health.last_failure.map(|(_, reason)| reason.to_string()),
            "lastSuccessAt": health.last_success.map(Timestamp::to_iso),
        },
    });
    Some(body.to_string().into())
}
