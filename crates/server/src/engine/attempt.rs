//! Makes one attempt: looks up how the partner is served now, signs, POSTs, and lets `core` judge the answer.

use super::Context;
use crate::clock;
use crate::directory::Profile;
use crate::outgoing::Target;
use capa_webhooks_core::engine::Input;
use capa_webhooks_core::engine::words::Job;
use capa_webhooks_core::notification::NotSent;
use capa_webhooks_core::outcome::judge;
use capa_webhooks_receiver::headers::{WEBHOOK_ID, WEBHOOK_SIGNATURE, WEBHOOK_TIMESTAMP};
use http::{HeaderName, HeaderValue};

/// Makes the attempt and gives the report for the engine.
pub(super) async fn make(context: &Context, job: Job) -> Input {
    let key = job.key;
    let profile = match context.directory.partner(key.partner).await {
        Ok(Some(profile)) => profile,
        Ok(None) => return Input::Unsendable { key, reason: NotSent::PartnerErased },
        Err(error) => {
            tracing::error!(%error, notification = %key.id, "the partner could not be looked up; trying again");
            return Input::Postponed { key };
        }
    };
    if let Some(reason) = profile.unsendable() {
        return Input::Unsendable { key, reason };
    }
    let Some(target) = &profile.target else { return Input::Unsendable { key, reason: NotSent::NoUrl } };
    // Last of all, because the look-up may have taken long: another node may make this attempt before long.
    if !context.fence.holds() {
        context.metrics.fenced();
        tracing::debug!(notification = %key.id, "not attempted: this node has lost touch with the store");
        return Input::Postponed { key };
    }
    post(context, &job, &profile, target).await
}

async fn post(context: &Context, job: &Job, profile: &Profile, target: &Target) -> Input {
    let headers = headers(context, job, profile);
    let attempt = context.client.post(target, headers, job.body.clone(), profile.attempt_timeout).await;
    context.metrics.attempted(&attempt.answer, attempt.duration);
    let verdict = judge(&attempt.answer, profile.ack_rule);
    context.endpoints.attempted(job.key.partner, &attempt.answer, verdict, context.clock.now());
    tracing::debug!(notification = %job.key.id, number = job.turn.number, ?verdict, "attempted");
    Input::Attempted {
        key: job.key,
        attempt,
        verdict,
        schedule: profile.schedule.clone(),
        random: clock::random_fraction(),
    }
}

fn headers(
    context: &Context,
    job: &Job,
    profile: &Profile,
) -> impl IntoIterator<Item = (HeaderName, HeaderValue)> + use<> {
    let id = job.key.id.to_string();
    let timestamp = context.clock.now().as_seconds();
    let hex = value(profile.signer.capa_signature(&job.body));
    let standard = value(profile.signer.webhook_signature(&id, timestamp, &job.body));
    let names = context.signature_headers.clone();
    (0..names.len()).map(move |index| (names[index].clone(), hex.clone())).chain([
        (HeaderName::from_static(WEBHOOK_ID), value(id)),
        (HeaderName::from_static(WEBHOOK_TIMESTAMP), HeaderValue::from(timestamp)),
        (HeaderName::from_static(WEBHOOK_SIGNATURE), standard),
    ])
}

fn value(text: String) -> HeaderValue {
    // Hex, base64 and UUIDs are valid header values.
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}
