//! Partners: create, list, read, change, erase; their keys and settings.

use super::{App, auth, body, query, respond, settings};
use crate::api::answer::{ApiError, Version};
use crate::api::auth::Needs;
use crate::api::path::Path;
use crate::clock::random_bytes;
use crate::keyfile::FreshKey;
use axum::extract::{Request, State};
use axum::response::Response;
use capa_webhooks_core::id::{KeyId, PartnerId, SettingsId};
use capa_webhooks_core::problem::Problem;
use capa_webhooks_core::time::Timestamp;
use capa_webhooks_receiver::Secret;
use capa_webhooks_store::{Created, Erased, KeyAdded, NewPartner, Partner, PartnerChange, PartnerKey, SecretText};
use http::StatusCode;
use serde_json::{Value, json};

/// How many notifications are settled in one transaction while a partner is erased.
const ERASE_SLICE: usize = 1000;
const NAME: &str = "Must be a string of 1 to 200 characters without control characters.";

pub(super) async fn create(State(app): State<App>, request: Request) -> Response {
    respond(StatusCode::CREATED, make(&app, request).await)
}

pub(super) async fn list(State(app): State<App>, request: Request) -> Response {
    let listed = async move {
        auth::platform(&app, request.headers(), Needs::Read).await?;
        let mut read = query::Query::read(request.uri().query(), &["limit", "after"]);
        let limit =
            read.take("limit", |text| query::number_within(text, 1, 100), "Must be a whole number from 1 to 100.");
        let after =
            read.take("after", |text| text.parse().ok(), "Must be the id of a partner: the last of the page before.");
        read.finish()?;
        let partners = app.store.partners(after, limit.unwrap_or(20)).await?;
        let rows: Vec<Value> = partners.iter().map(|partner| show(&app, partner)).collect();
        Ok(json!({"count": rows.len(), "data": rows}))
    };
    respond(StatusCode::OK, listed.await)
}

pub(super) async fn one(State(app): State<App>, Path(id): Path<String>, request: Request) -> Response {
    let found = async move {
        auth::platform(&app, request.headers(), Needs::Read).await?;
        find(&app, &id).await.map(|partner| show(&app, &partner))
    };
    respond(StatusCode::OK, found.await)
}

pub(super) async fn change(State(app): State<App>, Path(id): Path<String>, request: Request) -> Response {
    let changed = async move {
        auth::platform(&app, request.headers(), Needs::Admin).await?;
        let id = find(&app, &id).await?.id;
        let object = body::object(&app, request, &["name", "disabled"]).await?;
        let mut problems = Vec::new();
        let name = object.get("name").and_then(|value| name(value, &mut problems));
        let disabled = object.get("disabled").and_then(|value| {
            let flag = value.as_bool();
            if flag.is_none() {
                problems.push(Problem::new("disabled", "Must be true or false."));
            }
            flag
        });
        if object.is_empty() {
            problems.push(Problem::new("", "Nothing to change; give `name` or `disabled`."));
        }
        if !problems.is_empty() {
            return Err(ApiError::invalid(problems));
        }
        let after = app.store.update_partner(id, PartnerChange { name, disabled }, app.clock.now()).await?;
        app.directory.forget(id);
        after.map(|partner| show(&app, &partner)).ok_or_else(ApiError::partner_not_found)
    };
    respond(StatusCode::OK, changed.await)
}

pub(super) async fn erase(State(app): State<App>, Path(id): Path<String>, request: Request) -> Response {
    let erased = async move {
        auth::platform(&app, request.headers(), Needs::Admin).await?;
        let id = auth::partner_id(&id)?;
        loop {
            let erased = app.store.erase_partner(id, ERASE_SLICE, app.clock.now()).await?;
            app.directory.forget(id);
            match erased {
                Erased::More => {}
                Erased::Done => return Ok(json!({"id": id.to_string(), "erased": true})),
                Erased::UnknownPartner => return Err(ApiError::partner_not_found()),
            }
        }
    };
    respond(StatusCode::OK, erased.await)
}

pub(super) async fn add_key(State(app): State<App>, Path(id): Path<String>, request: Request) -> Response {
    let added = async move {
        auth::platform(&app, request.headers(), Needs::Admin).await?;
        let partner = find(&app, &id).await?.id;
        let key = FreshKey::make();
        let stored = PartnerKey { id: key.id, partner, secret_hash: key.hash() };
        match app.store.add_partner_key(stored, app.clock.now()).await? {
            KeyAdded::New => {}
            KeyAdded::UnknownPartner => return Err(ApiError::partner_not_found()),
            // 122 random bits that were drawn before would be a broken random source.
            KeyAdded::IdTaken => return Err(ApiError::fault(&"a new key's id was taken")),
        }
        app.directory.forget(partner);
        Ok(json!({"id": key.id.to_string(), "apiKey": key.expose()}))
    };
    respond(StatusCode::CREATED, added.await)
}

pub(super) async fn revoke_key(
    State(app): State<App>,
    Path((id, key)): Path<(String, String)>,
    request: Request,
) -> Response {
    let revoked = async move {
        auth::platform(&app, request.headers(), Needs::Admin).await?;
        let partner = find(&app, &id).await?.id;
        let key: KeyId = key.parse().map_err(|_| ApiError::key_not_found())?;
        let revoked = app.store.revoke_partner_key(partner, key, app.clock.now()).await?;
        app.directory.forget(partner);
        if revoked { Ok(json!({"id": key.to_string(), "revoked": true})) } else { Err(ApiError::key_not_found()) }
    };
    respond(StatusCode::OK, revoked.await)
}

pub(super) async fn settings(State(app): State<App>, Path(id): Path<String>, request: Request) -> Response {
    let found = async move {
        auth::platform(&app, request.headers(), Needs::Read).await?;
        let partner = find(&app, &id).await?;
        Ok(settings::show(Version::V2, partner.id, &partner.settings))
    };
    respond(StatusCode::OK, found.await)
}

pub(super) async fn change_settings(State(app): State<App>, Path(id): Path<String>, request: Request) -> Response {
    let changed = async move {
        auth::platform(&app, request.headers(), Needs::Admin).await?;
        let id = find(&app, &id).await?.id;
        let object = body::object(&app, request, settings::fields(Version::V2)).await?;
        let change = settings::read(&app, &object)?;
        let after = settings::change(&app, id, change).await?.ok_or_else(ApiError::partner_not_found)?;
        Ok(settings::show(Version::V2, id, &after))
    };
    respond(StatusCode::OK, changed.await)
}

async fn find(app: &App, id: &str) -> Result<Partner, ApiError> {
    let id = auth::partner_id(id)?;
    app.store.partner(id).await?.ok_or_else(ApiError::partner_not_found)
}

fn show(app: &App, partner: &Partner) -> Value {
    let health = app.endpoints.of(partner.id);
    json!({
        "id": partner.id.to_string(),
        "name": partner.name,
        "disabled": partner.disabled,
        "url": partner.settings.url,
        "apiKeys": partner.keys.iter().map(|id| json!({"id": id.to_string()})).collect::<Vec<_>>(),
        "endpointHealth": {
            "state": health.standing().as_str(),
            "failingSince": health.failing_since().map(Timestamp::to_iso),
            "consecutiveFailures": health.run.map_or(0, |run| run.failures),
            "lastFailureAt": health.last_failure.map(|(at, _)| at.to_iso()),
            "lastFailure": health.last_failure.map(|(_, reason)| reason.to_string()),
            "lastSuccessAt": health.last_success.map(Timestamp::to_iso),
        },
        "createdAt": partner.created_at.to_iso(),
        "updatedAt": partner.updated_at.to_iso(),
    })
}

async fn make(app: &App, request: Request) -> Result<Value, ApiError> {
    auth::platform(app, request.headers(), Needs::Admin).await?;
    let object = body::object(app, request, &["name", "id", "apiKey", "webhookSecret", "url"]).await?;
    let mut problems = Vec::new();
    let name = match object.get("name") {
        Some(value) => name(value, &mut problems).unwrap_or_default(),
        None => {
            problems.push(Problem::new("name", "Required. ".to_owned() + NAME));
            String::new()
        }
    };
    let id = given(&object, "id", &mut problems, "Must be a UUID.", |text| text.parse().ok())
        .unwrap_or_else(|| PartnerId::v7(app.clock.now(), random_bytes()));
    let key = given(&object, "apiKey", &mut problems, "Must have the form <uuid>:<uuid>.", FreshKey::parse)
        .unwrap_or_else(FreshKey::make);
    let expected = "Must be 64 lower-case hex digits.";
    let secret = given(&object, "webhookSecret", &mut problems, expected, |text| Secret::from_hex_digits(text).ok())
        .unwrap_or_else(|| Secret::generate_from(random_bytes()));
    let url = match object.get("url") {
        None | Some(Value::Null) => None,
        Some(Value::String(url)) => app.destinations.check_url(url).map_err(|wrong| problems.extend(wrong)).ok(),
        Some(_) => {
            problems.push(Problem::new("url", "Must be a string or null."));
            None
        }
    };
    if !problems.is_empty() {
        return Err(ApiError::invalid(problems));
    }
    let partner = NewPartner {
        id,
        name: name.clone(),
        settings: SettingsId::v4(random_bytes()),
        url,
        secret: SecretText(secret.expose().to_owned().into()),
        key: PartnerKey { id: key.id, partner: id, secret_hash: key.hash() },
    };
    match app.store.create_partner(partner, app.clock.now()).await? {
        Created::New => Ok(json!({
            "id": id.to_string(),
            "name": name,
            "apiKey": key.expose(),
            "webhookSecret": secret.expose(),
        })),
        Created::IdTaken => {
            Err(ApiError::conflict("Partner exists", "id", "A partner with this id exists or existed; give another."))
        }
        Created::KeyTaken => {
            Err(ApiError::conflict("API Key exists", "apiKey", "A key with this key id exists; give another."))
        }
    }
}

fn name(value: &Value, problems: &mut Vec<Problem>) -> Option<String> {
    let name = value
        .as_str()
        .map(str::trim)
        .filter(|name| (1..=200).contains(&name.chars().count()) && !name.chars().any(char::is_control));
    if name.is_none() {
        problems.push(Problem::new("name", NAME));
    }
    name.map(str::to_owned)
}

/// An optional string of a request, as `parse` reads it.
fn given<T>(
    object: &body::Object,
    field: &str,
    problems: &mut Vec<Problem>,
    expected: &str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Option<T> {
    let value = object.get(field).filter(|value| !value.is_null())?;
    let parsed = value.as_str().and_then(parse);
    if parsed.is_none() {
        problems.push(Problem::new(field, expected));
    }
    parsed
}
