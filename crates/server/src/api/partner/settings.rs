//! A partner's own webhook settings.

use super::{App, auth};
use crate::api::answer::{ApiError, Version};
use crate::api::{body, settings};
use axum::extract::{Request, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode, Uri};

pub(super) async fn get(State(app): State<App>, uri: Uri, headers: HeaderMap) -> Response {
    let version = Version::of(&uri);
    match auth::partner(&app, &headers).await {
        Ok(profile) => {
            let shown = settings::show(version, profile.partner.id, &profile.partner.settings);
            version.answer(StatusCode::OK, &shown)
        }
        Err(error) => error.respond(version),
    }
}

pub(super) async fn put(State(app): State<App>, request: Request) -> Response {
    let version = Version::of(request.uri());
    match change(&app, version, request).await {
        Ok(shown) => version.answer(StatusCode::OK, &shown),
        Err(error) => error.respond(version),
    }
}

async fn change(app: &App, version: Version, request: Request) -> Result<serde_json::Value, ApiError> {
    let partner = auth::partner(app, request.headers()).await?.partner.id;
    let object = body::object(app, request, settings::fields(version)).await?;
    let change = settings::read(app, &object)?;
    // The partner was there a moment ago; if it is gone, so is its key.
    let after = settings::change(app, partner, change).await?;
    let after = after.ok_or_else(|| ApiError::key_unknown(auth::PARTNER_KEY))?;
    Ok(settings::show(version, partner, &after))
}
