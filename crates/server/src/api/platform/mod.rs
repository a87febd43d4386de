//! The platform API, under `/api/platform/v1`: what the platform's own services and operators call.

pub(super) mod events;
mod keys;
mod partners;

use super::answer::{ApiError, Version};
use super::{App, auth, body, query, settings};
use axum::Router;
use axum::response::Response;
use axum::routing::{delete, get, post};
use http::StatusCode;
use serde::Serialize;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/api/platform/v1/partners", post(partners::create).get(partners::list))
        .route("/api/platform/v1/partners/{id}", get(partners::one).patch(partners::change).delete(partners::erase))
        .route("/api/platform/v1/partners/{id}/api-keys", post(partners::add_key))
        .route("/api/platform/v1/partners/{id}/api-keys/{key}", delete(partners::revoke_key))
        .route(
            "/api/platform/v1/partners/{id}/webhook-settings",
            get(partners::settings).put(partners::change_settings),
        )
        .route("/api/platform/v1/partners/{id}/events", post(events::one))
        .route("/api/platform/v1/events", post(events::many))
        .route("/api/platform/v1/event-types", get(events::types))
        .route("/api/platform/v1/platform-keys", get(keys::list).post(keys::create))
        .route("/api/platform/v1/platform-keys/{key}", delete(keys::revoke))
}

/// The answer to a call of the platform.
fn respond<T: Serialize>(status: StatusCode, result: Result<T, ApiError>) -> Response {
    match result {
        Ok(data) => Version::V2.answer(status, &data),
        Err(error) => error.respond(Version::V2),
    }
}
