//! What every event goes through, by whichever way it comes: one request, one of many, or a row of the inbox.

use super::App;
use super::answer::ApiError;
use crate::clock::random_bytes;
use crate::directory::Profile;
use crate::ingest::NotAccepted;
use capa_webhooks_core::event::{self, Event};
use capa_webhooks_core::id::{NotificationId, NotificationKey, PartnerId};
use capa_webhooks_core::notification::Status;
use capa_webhooks_core::problem::Problem;
use capa_webhooks_store::{Accept, Accepted, Fate, IdempotencyKey};
use http::StatusCode;
use std::sync::Arc;

/// The header of a caller's own key.
pub(super) const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Checks an event that comes with names around it: problems of the event are named under `payload`, that of the
/// idempotency key under `key_field`.
pub(crate) async fn check_named(
    app: &App,
    partner: PartnerId,
    payload: &[u8],
    idempotency: Option<String>,
    key_field: &str,
) -> Result<Accept, ApiError> {
    let profile = app.directory.partner(partner).await?.ok_or_else(ApiError::partner_not_found)?;
    if payload.len() > app.max_body {
        return Err(too_large(app));
    }
    let idempotency = idempotency.map(|key| idempotency_key(app, key_field, key)).transpose()?;
    check(app, &profile, payload, idempotency).map_err(|problems| {
        let within = |field: String| if field.is_empty() { "payload".to_owned() } else { format!("payload.{field}") };
        ApiError::invalid(
            problems.into_iter().map(|Problem { field, problem }| Problem::new(within(field), problem)).collect(),
        )
    })
}

/// The refusal of an event that is too large.
pub(crate) fn too_large(app: &App) -> ApiError {
    ApiError::too_large("payload", format!("An event may have at most {} bytes.", app.max_body))
}

/// Brings an event into its canonical form, checks it, and says what is to become of it.
pub(super) fn check(
    app: &App,
    profile: &Arc<Profile>,
    payload: &[u8],
    idempotency: Option<IdempotencyKey>,
) -> Result<Accept, Vec<Problem>> {
    Ok(prepare(app, profile, event::parse(payload, &app.catalogue)?, idempotency))
}

/// Makes events durable.
pub(super) async fn accept_all(app: &App, accepts: Vec<Accept>) -> Result<Vec<Accepted>, ApiError> {
    if accepts.is_empty() {
        return Ok(Vec::new());
    }
    if app.is_stopping() {
        return Err(ApiError::unavailable());
    }
    app.ingest.accept(accepts).await.map_err(not_accepted)
}

/// What the caller is told where nothing was accepted.
pub(crate) fn not_accepted(refused: NotAccepted) -> ApiError {
    match refused {
        NotAccepted::Closed(reason) => ApiError::closed(reason),
        NotAccepted::Stopping => ApiError::unavailable(),
        NotAccepted::Store(error) => ApiError::from_store(&error),
    }
}

/// What an accepted event came to, or why it was refused after all.
pub(crate) fn conclude(
    app: &App,
    id: NotificationId,
    fate: Fate,
    accepted: Accepted,
) -> Result<(Status, NotificationId), ApiError> {
    match accepted {
        Accepted::New => match fate {
            Fate::Queue(_) => Ok((Status::Pending, id)),
            Fate::NotSent(reason) => {
                app.metrics.not_sent(reason);
                Ok((Status::NotSent, id))
            }
        },
        Accepted::Repeat { id, status } => Ok((status, id)),
        Accepted::Conflict { id } => Err(ApiError::conflict(
            "The idempotency key was used with another event",
            IDEMPOTENCY_KEY,
            format!("Use a new key for a new event. The key belongs to notification {id}."),
        )),
        Accepted::UnknownPartner => Err(ApiError::partner_not_found()),
    }
}

/// A caller's key, if it can be one.
pub(super) fn idempotency_key(app: &App, field: &str, key: String) -> Result<IdempotencyKey, ApiError> {
    if (1..=256).contains(&key.chars().count()) {
        Ok(IdempotencyKey { key, retention: app.idempotency_retention })
    } else {
        Err(ApiError::invalid_field(field, "Must have 1 to 256 characters."))
    }
}

/// One of a few fixed words for the metrics.
pub(crate) fn reason(error: &ApiError) -> &'static str {
    if let Some(kind) = error.kind() {
        return kind;
    }
    match error.status() {
        StatusCode::BAD_REQUEST => "invalid",
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "not_allowed",
        StatusCode::NOT_FOUND => "unknown_partner",
        StatusCode::CONFLICT => "conflict",
        StatusCode::PAYLOAD_TOO_LARGE => "too_large",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "not_json",
        StatusCode::SERVICE_UNAVAILABLE => "unavailable",
        _ => "fault",
    }
}

fn prepare(app: &App, profile: &Arc<Profile>, event: Event, idempotency: Option<IdempotencyKey>) -> Accept {
    let nowhere = profile.leaves_out(&event.name).or_else(|| profile.unsendable());
    let id = NotificationId::v7(app.clock.now(), random_bytes());
    let key = NotificationKey { partner: profile.partner.id, id };
    Accept { key, event, idempotency, fate: nowhere.map_or(Fate::Queue(None), Fate::NotSent) }
}
