//! Publishing: one event, many events, and the catalogue of what may be published.

use super::{App, auth, body, respond};
use crate::api::answer::{ApiError, Version};
use crate::api::auth::Needs;
use crate::api::path::Path;
use crate::api::publishing;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use capa_webhooks_core::id::PartnerId;
use capa_webhooks_store::{Accept, Accepted, IdempotencyKey};
use http::{HeaderMap, Method, StatusCode};
use hyper::body::Body as HttpBody;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::error::Error;

/// The most events in one request.
const MOST_EVENTS: usize = 1000;
/// The largest request with many events, in bytes.
const MOST_BYTES: usize = 8 * 1024 * 1024;

/// The partner that a request publishes one event for; `None` if it is any other request, or names no partner.
pub(in crate::api) fn partner_of<B>(request: &http::Request<B>) -> Option<PartnerId> {
    let path = request.uri().path();
    let partner = path.strip_prefix("/api/platform/v1/partners/")?.strip_suffix("/events")?;
    if request.method() == Method::POST { partner.parse().ok() } else { None }
}

/// Publishes one event.
pub(in crate::api) async fn publish<B>(app: &App, partner: PartnerId, request: http::Request<B>) -> Response
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    answer_one(app, publish_one(app, Ok(partner), request).await)
}

pub(super) async fn one(State(app): State<App>, Path(id): Path<String>, request: Request) -> Response {
    answer_one(&app, publish_one(&app, auth::partner_id(&id), request).await)
}

fn answer_one(app: &App, published: Result<(StatusCode, Published), ApiError>) -> Response {
    match published {
        Ok((status, data)) => Version::V2.answer(status, &data),
        Err(error) => {
            app.metrics.refused(publishing::reason(&error));
            error.respond(Version::V2)
        }
    }
}

/// What is answered of one event.
#[derive(Serialize)]
struct Published {
    id: String,
    status: &'static str,
}

pub(super) async fn many(State(app): State<App>, request: Request) -> Response {
    match publish_many(&app, request).await {
        Ok(events) => Version::V2.answer(StatusCode::ACCEPTED, &json!({ "events": events })),
        Err(error) => {
            app.metrics.refused(publishing::reason(&error));
            error.respond(Version::V2)
        }
    }
}

pub(super) async fn types(State(app): State<App>, request: Request) -> Response {
    let listed = async move {
        auth::platform(&app, request.headers(), Needs::Read).await?;
        let rows: Vec<Value> = app
            .catalogue
            .entries()
            .map(|entry| {
                json!({
                    "type": entry.kind,
                    "event": entry.name,
                    "description": entry.description,
                    "requiredFields": entry.required,
                    "optionalFields": entry.optional,
                })
            })
            .collect();
        Ok(json!({"count": rows.len(), "data": rows}))
    };
    respond(StatusCode::OK, listed.await)
}

async fn publish_one<B>(
    app: &App,
    partner: Result<PartnerId, ApiError>,
    request: http::Request<B>,
) -> Result<(StatusCode, Published), ApiError>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let (parts, body) = request.into_parts();
    auth::platform(app, &parts.headers, Needs::Publish).await?;
    let profile = app.directory.partner(partner?).await?.ok_or_else(ApiError::partner_not_found)?;
    let bytes = body::json(app, &parts.headers, body, app.max_body).await?;
    let idempotency = idempotency_header(app, &parts.headers)?;
    let accept = publishing::check(app, &profile, &bytes, idempotency).map_err(ApiError::invalid)?;
    let (id, fate) = (accept.key.id, accept.fate);
    let accepted = publishing::accept_all(app, vec![accept]).await?.pop();
    let accepted = accepted.ok_or_else(|| ApiError::fault(&"the store answered nothing"))?;
    let (status, id) = publishing::conclude(app, id, fate, accepted)?;
    let code = if matches!(accepted, Accepted::Repeat { .. }) { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((code, Published { id: id.to_string(), status: status.as_str() }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a> {
    #[serde(borrow)]
    events: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Item<'a> {
    #[serde(rename = "partnerId")]
    partner: String,
    #[serde(rename = "idempotencyKey", default)]
    idempotency: Option<String>,
    #[serde(borrow)]
    payload: &'a RawValue,
}

async fn publish_many(app: &App, request: Request) -> Result<Vec<Value>, ApiError> {
    let (parts, body) = request.into_parts();
    auth::platform(app, &parts.headers, Needs::Publish).await?;
    let bytes = body::json(app, &parts.headers, body, MOST_BYTES).await?;
    let envelope: Envelope<'_> = serde_json::from_slice(&bytes).map_err(|error| {
        let form = "The body must be {\"events\":[{\"partnerId\",\"payload\"}]} and nothing else";
        ApiError::invalid_field("events", format!("{form}; {}.", place(&error)))
    })?;
    if !(1..=MOST_EVENTS).contains(&envelope.events.len()) {
        return Err(ApiError::invalid_field("events", format!("Must have 1 to {MOST_EVENTS} items.")));
    }
    let mut answers: Vec<Option<Value>> = vec![None; envelope.events.len()];
    let mut accepts = Vec::with_capacity(envelope.events.len());
    for (index, item) in envelope.events.iter().enumerate() {
        match prepare_item(app, item).await {
            Ok(accept) => accepts.push((index, accept)),
            // A store that does not answer concerns the whole request, not the item.
            Err(error) if error.status().is_server_error() => return Err(error),
            Err(error) => answers[index] = Some(error.item()),
        }
    }
    let order: Vec<_> = accepts.iter().map(|(index, accept)| (*index, accept.key.id, accept.fate)).collect();
    let accepted = publishing::accept_all(app, accepts.into_iter().map(|(_, accept)| accept).collect()).await?;
    for ((index, id, fate), accepted) in order.into_iter().zip(accepted) {
        answers[index] = Some(match publishing::conclude(app, id, fate, accepted) {
            Ok((status, id)) => json!({"id": id.to_string(), "status": status.as_str()}),
            Err(error) => error.item(),
        });
    }
    Ok(answers.into_iter().flatten().collect())
}

async fn prepare_item(app: &App, item: &RawValue) -> Result<Accept, ApiError> {
    let item: Item<'_> = serde_json::from_str(item.get()).map_err(|error| {
        let form = "An item has partnerId, payload and, if wanted, idempotencyKey, and nothing else";
        ApiError::invalid_field("", format!("{form}; {}.", place(&error)))
    })?;
    let partner: PartnerId = auth::partner_id(&item.partner)?;
    let payload = item.payload.get().as_bytes();
    publishing::check_named(app, partner, payload, item.idempotency, "idempotencyKey").await
}

/// Where reading failed. The reader's own words could quote a value.
fn place(error: &serde_json::Error) -> String {
    format!("it differs at line {}, column {}", error.line(), error.column())
}

fn idempotency_header(app: &App, headers: &HeaderMap) -> Result<Option<IdempotencyKey>, ApiError> {
    let mut values = headers.get_all(publishing::IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().ok().filter(|_| values.next().is_none());
    let text =
        text.ok_or_else(|| ApiError::invalid_field(publishing::IDEMPOTENCY_KEY, "Give it once, in visible ASCII."))?;
    publishing::idempotency_key(app, publishing::IDEMPOTENCY_KEY, text.to_owned()).map(Some)
}
