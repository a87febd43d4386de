//! A partner's notifications: list, detail, attempts, manual retry.

use super::{App, auth, view};
use crate::api::answer::{ApiError, Version};
use crate::api::path::Path;
use crate::api::query::{Query, number_within, short_text};
use axum::extract::State;
use axum::response::Response;
use capa_webhooks_core::id::{NotificationKey, PartnerId};
use capa_webhooks_core::notification::Status;
use capa_webhooks_core::problem::nearest;
use capa_webhooks_core::time::Timestamp;
use capa_webhooks_store::{ListQuery, PageStart, Retried, SingleRetry};
use http::{HeaderMap, StatusCode, Uri};
use serde_json::{Value, json};

const PARAMETERS: &[&str] =
    &["status", "skip", "limit", "event", "transactionId", "externalUserId", "since", "until", "after"];

pub(super) async fn list(State(app): State<App>, uri: Uri, headers: HeaderMap) -> Response {
    let version = Version::of(&uri);
    match page(&app, &uri, &headers).await {
        Ok(page) => version.answer(StatusCode::OK, &page),
        Err(error) => error.respond(version),
    }
}

pub(super) async fn one(State(app): State<App>, Path(id): Path<String>, uri: Uri, headers: HeaderMap) -> Response {
    let version = Version::of(&uri);
    let shown = async {
        let key = notification(&app, &headers, &id).await?;
        app.store.notification(key).await?.ok_or_else(ApiError::notification_not_found)
    };
    match shown.await {
        Ok(detail) => version.answer(StatusCode::OK, &view::detail(&detail)),
        Err(error) => error.respond(version),
    }
}

pub(super) async fn attempts(State(app): State<App>, Path(id): Path<String>, uri: Uri, headers: HeaderMap) -> Response {
    let version = Version::of(&uri);
    let entries = async {
        let key = notification(&app, &headers, &id).await?;
        app.store.attempts(key).await?.ok_or_else(ApiError::notification_not_found)
    };
    match entries.await {
        Ok(entries) => {
            let shown: Vec<Value> = entries.iter().map(view::attempt).collect();
            version.answer(StatusCode::OK, &json!({"count": shown.len(), "data": shown}))
        }
        Err(error) => error.respond(version),
    }
}

pub(super) async fn retry(State(app): State<App>, Path(id): Path<String>, uri: Uri, headers: HeaderMap) -> Response {
    let version = Version::of(&uri);
    let retried = async {
        let key = notification(&app, &headers, &id).await?;
        let now = app.clock.now();
        match app.store.retry(SingleRetry { key, now }).await? {
            Retried::Queued(detail) => Ok(detail),
            Retried::NotFound => Err(ApiError::notification_not_found()),
            Retried::NotFailed => Err(ApiError::not_failed()),
            Retried::TooManyRetries => Err(ApiError::too_many_manual_retries()),
            Retried::NoUrl => Err(ApiError::no_url()),
            Retried::RateLimited { again_at } => Err(ApiError::too_many_requests(again_at.since(now))),
        }
    };
    match retried.await {
        Ok(detail) => {
            app.metrics.manually_retried();
            app.wake.wake();
            version.answer(StatusCode::CREATED, &view::detail(&detail))
        }
        Err(error) => error.respond(version),
    }
}

/// The notification that a path names, of the partner that calls; what is not an id names none.
async fn notification(app: &App, headers: &HeaderMap, id: &str) -> Result<NotificationKey, ApiError> {
    let partner = auth::partner(app, headers).await?.partner.id;
    let id = id.parse().map_err(|_| ApiError::notification_not_found())?;
    Ok(NotificationKey { partner, id })
}

async fn page(app: &App, uri: &Uri, headers: &HeaderMap) -> Result<Value, ApiError> {
    let partner = auth::partner(app, headers).await?.partner.id;
    let query = read_query(app, partner, uri.query())?;
    let page = app.store.list(query).await?;
    let rows: Vec<Value> = page.rows.iter().map(view::summary).collect();
    Ok(json!({"count": rows.len(), "total": page.total, "data": rows}))
}

fn read_query(app: &App, partner: PartnerId, query: Option<&str>) -> Result<ListQuery, ApiError> {
    const TIME: &str = "Must be an ISO 8601 time such as 2024-04-05T13:45:27.063Z.";
    const TEXT: &str = "Must have 1 to 256 characters.";
    let mut read = Query::read(query, PARAMETERS);
    let skip = read.take(
        "skip",
        |text| number_within(text, 0, 10_000),
        "Must be a whole number from 0 to 10000; to go further, give the last id of the page before as `after`.",
    );
    let after =
        read.take("after", |text| text.parse().ok(), "Must be the id of a notification: the last of the page before.");
    if skip.is_some() && after.is_some() {
        read.problem("after", "Give either `skip` or `after`, not both.");
    }
    let event = read.take("event", short_text, TEXT);
    if let Some(event) = &event
        && !app.catalogue.entries().any(|entry| entry.name == event.as_str())
    {
        let hint = nearest(event, app.catalogue.entries().map(|entry| entry.name));
        let hint = hint.map_or_else(String::new, |known| format!(" Did you mean {known}?"));
        read.problem("event", format!("No event has this name.{hint}"));
    }
    let since = read.take("since", Timestamp::parse_iso, TIME);
    let until = read.take("until", Timestamp::parse_iso, TIME);
    if let (Some(since), Some(until)) = (since, until)
        && since > until
    {
        read.problem("since", "Must not be later than `until`.");
    }
    let query = ListQuery {
        partner,
        status: read.take("status", Status::from_name, "Must be PENDING, SENT, FAILED or NOT_SENT."),
        event,
        transaction_id: read.take("transactionId", short_text, TEXT),
        external_user_id: read.take("externalUserId", short_text, TEXT),
        since,
        until,
        from: after.map_or(PageStart::Skip(skip.unwrap_or(0)), PageStart::After),
        limit: read
            .take("limit", |text| number_within(text, 1, 100), "Must be a whole number from 1 to 100.")
            .unwrap_or(20),
    };
    read.finish()?;
    Ok(query)
}
