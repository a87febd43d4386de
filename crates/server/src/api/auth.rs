//! Who is calling: keys of partners and of the platform.

use super::App;
use super::answer::ApiError;
use crate::directory::Profile;
use capa_webhooks_core::id::{KeyId, PartnerId};
use capa_webhooks_store::Scopes;
use http::HeaderMap;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use subtle::ConstantTimeEq as _;

/// The header of the partner API.
pub(super) const PARTNER_KEY: &str = "partner-api-key";
/// The header of the platform API.
pub(super) const PLATFORM_KEY: &str = "platform-api-key";

/// What a call of the platform needs.
#[derive(Debug, Clone, Copy)]
pub(super) enum Needs {
    /// To publish.
    Publish,
    /// To change something.
    Admin,
    /// To look. Whoever may change things may look at them.
    Read,
}

/// The partner that calls, if it may.
pub(super) async fn partner(app: &App, headers: &HeaderMap) -> Result<Arc<Profile>, ApiError> {
    let (id, secret) = read_key(headers, PARTNER_KEY)?;
    let key = app.directory.partner_key(id).await?.filter(|key| is_secret(secret, &key.secret_hash));
    let Some(key) = key else { return Err(ApiError::key_unknown(PARTNER_KEY)) };
    let profile = app.directory.partner(key.partner).await?.ok_or_else(|| ApiError::key_unknown(PARTNER_KEY))?;
    if profile.partner.disabled { Err(ApiError::partner_disabled()) } else { Ok(profile) }
}

/// Whether the platform's service that calls may do what it wants to do.
pub(super) async fn platform(app: &App, headers: &HeaderMap, needs: Needs) -> Result<(), ApiError> {
    let (id, secret) = read_key(headers, PLATFORM_KEY)?;
    let scopes = match &app.local_key {
        Some(key) => (key.id == id && is_secret(secret, &key.secret_hash)).then_some(key.scopes),
        None => {
            let key = app.directory.platform_key(id).await?;
            key.filter(|key| is_secret(secret, &key.secret_hash)).map(|key| key.scopes)
        }
    };
    let Some(Scopes { publish, admin, read }) = scopes else { return Err(ApiError::key_unknown(PLATFORM_KEY)) };
    let (scope, held) = match needs {
        Needs::Publish => ("publish", publish),
        Needs::Admin => ("admin", admin),
        Needs::Read => ("read", read || admin),
    };
    if held { Ok(()) } else { Err(ApiError::scope_missing(scope)) }
}

/// The partner that a path names; what is not an id names no partner.
pub(super) fn partner_id(text: &str) -> Result<PartnerId, ApiError> {
    text.parse().map_err(|_| ApiError::partner_not_found())
}

fn read_key<'h>(headers: &'h HeaderMap, header: &'static str) -> Result<(KeyId, &'h str), ApiError> {
    let mut values = headers.get_all(header).iter();
    let value = values.next().ok_or_else(|| ApiError::key_missing(header))?;
    // Of two keys nobody can tell which one is meant.
    let only = Some(value).filter(|_| values.next().is_none());
    let text = only.and_then(|value| value.to_str().ok());
    text.and_then(crate::keyfile::split_key).ok_or_else(|| ApiError::key_malformed(header))
}

fn is_secret(secret: &str, hash: &[u8; 32]) -> bool {
    Sha256::digest(secret.as_bytes()).as_slice().ct_eq(hash).into()
}
