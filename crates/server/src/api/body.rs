//! Reading request bodies: JSON, within a limit and a time.

use super::App;
use super::answer::ApiError;
use axum::extract::Request;
use bytes::Bytes;
use capa_webhooks_core::problem::{Problem, nearest};
use http::{HeaderMap, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Body as HttpBody;
use std::error::Error;
use std::time::Duration;

/// How long a body may take to arrive.
const PATIENCE: Duration = Duration::from_secs(30);
/// The largest body of a call that is not a publish call.
const SMALL: usize = 64 * 1024;

/// An object of a request, field by field.
pub(super) type Object = serde_json::Map<String, serde_json::Value>;

/// Reads a JSON body of at most `limit` bytes.
pub(super) async fn json<B>(app: &App, headers: &HeaderMap, body: B, limit: usize) -> Result<Bytes, ApiError>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    if !is_json(headers) {
        return Err(ApiError::not_json());
    }
    if headers.get_all(header::CONTENT_ENCODING).iter().any(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"))
    {
        return Err(ApiError::encoded());
    }
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|length| length > limit as u64) {
        return Err(too_large(limit));
    }
    match app.clock.deadline(PATIENCE, Limited::new(body, limit).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large(limit)),
        Ok(Err(_)) => Err(ApiError::invalid_field("", "The body did not arrive whole; send it again.")),
        Err(_) => Err(ApiError::too_slow(PATIENCE)),
    }
}

/// Reads a JSON object whose fields are all among `known`.
pub(super) async fn object(app: &App, request: Request, known: &[&str]) -> Result<Object, ApiError> {
    let (parts, body) = request.into_parts();
    let bytes = json(app, &parts.headers, body, SMALL).await?;
    // The canonical parser is the one that finds duplicate keys and everything else that JSON readers disagree on.
    capa_webhooks_core::event::canonical::canonicalise(&bytes).map_err(|problem| ApiError::invalid(vec![problem]))?;
    let object: Object =
        serde_json::from_slice(&bytes).map_err(|error| ApiError::invalid_field("", error.to_string()))?;
    let unknown: Vec<Problem> = object
        .keys()
        .filter(|key| !known.contains(&key.as_str()))
        .map(|key| {
            let shown: String = key.chars().take(64).collect();
            let hint = nearest(key, known.iter().copied()).map_or_else(
                || format!("Unknown field; the fields are {}.", known.join(", ")),
                |known| format!("Unknown field; did you mean {known}?"),
            );
            Problem::new(shown, hint)
        })
        .collect();
    if unknown.is_empty() { Ok(object) } else { Err(ApiError::invalid(unknown)) }
}

fn too_large(limit: usize) -> ApiError {
    ApiError::too_large("", format!("The body may have at most {limit} bytes."))
}

fn is_json(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    let Ok(value) = value.to_str() else { return false };
    let mut parts = value.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    essence.eq_ignore_ascii_case("application/json")
        && parts.all(|parameter| match parameter.split_once('=') {
            Some((name, charset)) if name.eq_ignore_ascii_case("charset") => {
                charset.trim_matches('"').eq_ignore_ascii_case("utf-8")
            }
            _ => true,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types() {
        for (value, good) in [
            ("application/json", true),
            ("Application/JSON; charset=UTF-8", true),
            ("application/json;charset=\"utf-8\"", true),
            ("application/json; charset=latin1", false),
            ("application/jsonp", false),
            ("text/plain", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, value.parse().unwrap());
            assert_eq!(is_json(&headers), good, "{value}");
            headers.append(header::CONTENT_TYPE, "application/json".parse().unwrap());
            assert!(!is_json(&headers), "two values");
        }
        assert!(!is_json(&HeaderMap::new()));
    }
}
