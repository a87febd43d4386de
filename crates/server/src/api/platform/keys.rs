//! Keys of the platform: make, list, revoke. The way in which `capa-webhooks keys` works on a running service.

use super::{App, auth, body, respond};
use crate::api::answer::ApiError;
use crate::api::auth::Needs;
use crate::api::path::Path;
use crate::keyfile::FreshKey;
use axum::extract::{Request, State};
use axum::response::Response;
use capa_webhooks_core::id::KeyId;
use capa_webhooks_core::time::Timestamp;
use capa_webhooks_store::{KeyAdded, PlatformKey, Scopes};
use http::StatusCode;
use serde_json::{Value, json};

const NAME: &str = "Required: 1 to 200 characters without control characters, that say what it is for.";

pub(super) async fn list(State(app): State<App>, request: Request) -> Response {
    let listed = async move {
        auth::platform(&app, request.headers(), Needs::Admin).await?;
        let rows: Vec<Value> = app
            .store
            .platform_keys()
            .await?
            .iter()
            .map(|entry| {
                json!({
                    "id": entry.key.id.to_string(),
                    "name": entry.key.name,
                    "scopes": entry.key.scopes.names(),
                    "createdAt": entry.created_at.to_iso(),
                    "revokedAt": entry.revoked_at.map(Timestamp::to_iso),
                })
            })
            .collect();
        Ok(json!({"count": rows.len(), "data": rows}))
    };
    respond(StatusCode::OK, listed.await)
}

pub(super) async fn create(State(app): State<App>, request: Request) -> Response {
    let created = async move {
        auth::platform(&app, request.headers(), Needs::Admin).await?;
        let object = body::object(&app, request, &["name", "scopes"]).await?;
        let name = object.get("name").and_then(Value::as_str).map(str::trim);
        let name = name
            .filter(|name| (1..=200).contains(&name.chars().count()) && !name.chars().any(char::is_control))
            .ok_or_else(|| ApiError::invalid_field("name", NAME))?;
        let scopes =
            object.get("scopes").and_then(Value::as_array).map(|list| list.iter().map(Value::as_str).collect());
        let Some(Some(scopes)) = scopes else { return Err(wrong_scopes()) };
        let scopes: Vec<&str> = scopes;
        let scopes =
            Scopes::from_names(scopes).ok().filter(|scopes| !scopes.names().is_empty()).ok_or_else(wrong_scopes)?;
        let key = FreshKey::make();
        let stored = PlatformKey { id: key.id, secret_hash: key.hash(), scopes, name: name.to_owned() };
        match app.store.add_platform_key(stored, app.clock.now()).await? {
            KeyAdded::New => Ok(json!({
                "id": key.id.to_string(),
                "name": name,
                "scopes": scopes.names(),
                "apiKey": key.expose(),
            })),
            // 122 random bits that were drawn before would be a broken random source.
            KeyAdded::IdTaken | KeyAdded::UnknownPartner => Err(ApiError::fault(&"a new key's id was taken")),
        }
    };
    respond(StatusCode::CREATED, created.await)
}

pub(super) async fn revoke(State(app): State<App>, Path(key): Path<String>, request: Request) -> Response {
    let revoked = async move {
        auth::platform(&app, request.headers(), Needs::Admin).await?;
        let id: KeyId = key.parse().map_err(|_| ApiError::key_not_found())?;
        let revoked = app.store.revoke_platform_key(id, app.clock.now()).await?;
        app.directory.forget_platform_key(id);
        if revoked { Ok(json!({"id": id.to_string(), "revoked": true})) } else { Err(ApiError::key_not_found()) }
    };
    respond(StatusCode::OK, revoked.await)
}

fn wrong_scopes() -> ApiError {
    ApiError::invalid_field("scopes", "Required: a list of at least one of \"publish\", \"admin\" and \"read\".")
}
