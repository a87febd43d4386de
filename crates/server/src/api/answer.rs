//! The form of every answer and error.
//!
//! Version 1 answers are `{"status":"ok","data":…}`, version 2 and the platform's `{"success":true,"data":…}`. Errors
//! carry the documented code and message, and in `details` what exactly was wrong and how to mend it.

use crate::door::Reason;
use axum::body::Body;
use axum::response::Response;
use capa_webhooks_core::problem::Problem;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use serde::Serialize;
use serde_json::json;

/// The two envelopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// `{"status":…}`.
    V1,
    /// `{"success":…}`.
    V2,
}

impl Version {
    /// The envelope of a path: the partner API's `v1` has the first, all else the second.
    pub fn of(uri: &Uri) -> Self {
        if uri.path().starts_with("/api/partner/v1/") { Self::V1 } else { Self::V2 }
    }

    /// The two versions with their names in paths.
    pub const ALL: [(Self, &str); 2] = [(Self::V1, "v1"), (Self::V2, "v2")];

    /// An answer with `data`.
    pub fn answer(self, status: StatusCode, data: &impl Serialize) -> Response {
        #[derive(Serialize)]
        struct One<'a, T> {
            status: &'static str,
            data: &'a T,
        }
        #[derive(Serialize)]
        struct Two<'a, T> {
            success: bool,
            data: &'a T,
        }
        let body = match self {
            Self::V1 => serde_json::to_vec(&One { status: "ok", data }),
            Self::V2 => serde_json::to_vec(&Two { success: true, data }),
        };
        match body {
            Ok(body) => respond(status, body),
            Err(error) => ApiError::fault(&error).respond(self),
        }
    }
}

/// An error as the caller sees it.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: &'static str,
    details: Vec<Problem>,
    /// Seconds to wait, for the header `retry-after`.
    retry_after: Option<u64>,
    /// What the metrics call it, if not by its status.
    kind: Option<&'static str>,
}

impl ApiError {
    fn new(status: StatusCode, code: &'static str, message: &'static str) -> Self {
        Self { status, code, message, details: Vec::new(), retry_after: None, kind: None }
    }

    fn detail(mut self, field: &str, problem: impl Into<String>) -> Self {
        self.details.push(Problem::new(field, problem));
        self
    }

    fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// 400, with everything that is wrong.
    pub fn invalid(details: Vec<Problem>) -> Self {
        Self { details, ..Self::new(StatusCode::BAD_REQUEST, "INVALID_USER_INPUT_ERROR", "Invalid User Input") }
    }

    /// 400, with one thing that is wrong.
    pub fn invalid_field(field: &str, problem: impl Into<String>) -> Self {
        Self::invalid(vec![Problem::new(field, problem)])
    }

    /// 401: no key came.
    pub fn key_missing(header: &'static str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "API Key is missing")
            .detail(header, format!("Send your key in the header {header}, as <uuid>:<uuid>."))
    }

    /// 401: what came is not a key.
    pub fn key_malformed(header: &'static str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "Invalid API Key format")
            .detail(header, "A key has the form <uuid>:<uuid>: the key id, a colon, the secret.")
    }

    /// 401: there is no such key.
    pub fn key_unknown(header: &'static str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "Invalid API Key")
            .detail(header, "The key is not known or was revoked, or its secret is wrong.")
    }

    /// 403: the partner is disabled.
    pub fn partner_disabled() -> Self {
        Self::new(StatusCode::FORBIDDEN, "INVALID_PARTNER_FLOW", "The partner has an invalid flow.")
            .detail("", "The partner is disabled; ask Capa to enable it.")
    }

    /// 403: the key may not do this.
    pub fn scope_missing(scope: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "FORBIDDEN", "The API Key lacks a scope")
            .detail("platform-api-key", format!("This call needs the scope `{scope}`; use a key that has it."))
    }

    /// 404 for a notification.
    pub fn notification_not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", "Webhook notification not found")
    }

    /// 404 for a partner.
    pub fn partner_not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", "Partner not found")
    }

    /// 404 for a key.
    pub fn key_not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", "API Key not found")
    }

    /// 404 for a path that means nothing.
    pub fn unknown_route() -> Self {
        Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", "Route not found")
            .detail("", "No such path; see docs/api.md for the paths that exist.")
    }

    /// 405.
    pub fn wrong_method(method: &Method) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", "Method not allowed")
            .detail("", format!("{method} is not possible here; the header `allow` lists what is."))
    }

    /// 409: not in a status that can be retried.
    pub fn not_failed() -> Self {
        Self::new(StatusCode::CONFLICT, "CONFLICT", "Notification is not in FAILED status")
    }

    /// 409: retried as often as is allowed.
    pub fn too_many_manual_retries() -> Self {
        Self::new(
            StatusCode::CONFLICT,
            "CONFLICT",
            "Partner webhook notification has reached the maximum number of manual retries (3)",
        )
    }

    /// 409: nowhere to send it.
    pub fn no_url() -> Self {
        Self::new(StatusCode::CONFLICT, "CONFLICT", "No webhook URL is set")
            .detail("url", "Set a URL with PUT /api/partner/v2/webhook-settings, then retry.")
    }

    /// 409 of any other kind.
    pub fn conflict(message: &'static str, field: &str, problem: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "CONFLICT", message).detail(field, problem)
    }

    /// 408: the body did not arrive in time.
    pub fn too_slow(patience: std::time::Duration) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "REQUEST_TIMEOUT", "Request timeout")
            .detail("", format!("The body did not arrive within {} s; send it again.", patience.as_secs()))
    }

    /// What hyper refuses by itself, because the head of the request cannot be read.
    pub fn unreadable(status: StatusCode) -> Self {
        match status {
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
                Self::new(status, "REQUEST_HEADER_FIELDS_TOO_LARGE", "Request header fields too large").detail(
                    "",
                    format!(
                        "The target and the header fields may have {} bytes together, the fields may be {}, and \
                         content-length must be a length that there is.",
                        super::listener::HEAD_BYTES,
                        super::listener::MOST_HEADERS
                    ),
                )
            }
            StatusCode::URI_TOO_LONG => Self::new(status, "URI_TOO_LONG", "URI too long")
                .detail("", "The target of the request is too long; shorten the query."),
            _ => Self::invalid_field(
                "",
                "The head of the request is not valid HTTP/1.1; look at its first line, at characters that a header \
                 field may not hold, at content-length and at transfer-encoding.",
            ),
        }
    }

    /// 413.
    pub fn too_large(field: &str, problem: String) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE", "Payload too large").detail(field, problem)
    }

    /// 415.
    pub fn not_json() -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE", "Unsupported media type")
            .detail("content-type", "Send JSON, with the header content-type: application/json.")
    }

    /// 415: the body is compressed.
    pub fn encoded() -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE", "Unsupported media type")
            .detail("content-encoding", "Send the body as it is, without content-encoding.")
    }

    /// 429, with the seconds to wait.
    pub fn too_many_requests(wait: std::time::Duration) -> Self {
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "TOO_MANY_REQUESTS",
            "Rate limit exceeded. Try again in a few seconds.",
        )
        .retry_after(wait.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX).max(1))
    }

    /// 503: nothing was stored, and it may be tried again.
    pub fn unavailable() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", "Service unavailable")
            .detail("", "Nothing was stored. Try again after the seconds in the header retry-after.")
            .retry_after(1)
    }

    /// 503: the store's answer was lost, so nobody knows yet.
    pub fn in_doubt() -> Self {
        let cure = "It is not known whether this was done. Look before you repeat a change; publish again with the same \
                    idempotency key, and it counts once.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", "Service unavailable").detail("", cure).retry_after(1)
    }

    /// 503: new events are not taken, and why.
    pub fn closed(reason: Reason) -> Self {
        let cure = "Nothing was stored. Try again after the seconds in the header retry-after.";
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", "Service unavailable");
        let error = error.detail("", format!("{} {cure}", reason.words())).retry_after(reason.retry_after());
        Self { kind: Some(reason.as_str()), ..error }
    }

    /// 500: a fault of ours. The log holds what happened, under the id that the caller sees.
    pub fn fault(error: &dyn std::fmt::Display) -> Self {
        let incident = uuid::Builder::from_random_bytes(crate::clock::random_bytes()).into_uuid();
        tracing::error!(%incident, %error, "a request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_SERVER_ERROR", "Internal server error")
            .detail("", format!("The log holds more under incident {incident}."))
    }

    /// What the metrics call it, if not by its status.
    pub const fn kind(&self) -> Option<&'static str> {
        self.kind
    }

    /// The HTTP status.
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// The error of one item of a batch.
    pub fn item(&self) -> serde_json::Value {
        json!({"code": self.code, "message": self.message, "details": details(&self.details)})
    }

    /// Code, message and details, as they are kept with what was published from SQL.
    pub fn words(&self) -> (&'static str, &'static str, String) {
        (self.code, self.message, details(&self.details).to_string())
    }

    /// The answer.
    pub fn respond(self, version: Version) -> Response {
        let (headers, body) = self.parts(version);
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        *response.headers_mut() = headers;
        response
    }

    /// The answer's header fields and body.
    pub(super) fn parts(&self, version: Version) -> (HeaderMap, Vec<u8>) {
        let mut body = match version {
            Version::V1 => json!({"status": "error"}),
            Version::V2 => json!({"success": false}),
        };
        body["code"] = self.code.into();
        body["message"] = self.message.into();
        body["error"] = self.message.into();
        body["details"] = details(&self.details);
        let mut headers = json_headers();
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        (headers, body.to_string().into_bytes())
    }
}

impl From<capa_webhooks_store::Error> for ApiError {
    fn from(error: capa_webhooks_store::Error) -> Self {
        Self::from_store(&error)
    }
}

impl ApiError {
    /// What a failure of the store means for the caller.
    pub fn from_store(error: &capa_webhooks_store::Error) -> Self {
        match error {
            capa_webhooks_store::Error::Unavailable(_) => {
                tracing::warn!(%error, "a request was refused");
                Self::unavailable()
            }
            // Whether it happened is not known, so neither success nor refusal may be told: to be tried again.
            capa_webhooks_store::Error::InDoubt(_) => {
                tracing::warn!(%error, "a request is in doubt");
                Self::in_doubt()
            }
            other => Self::fault(other),
        }
    }
}

fn details(problems: &[Problem]) -> serde_json::Value {
    problems.iter().map(|problem| json!({"field": problem.field, "problem": problem.problem})).collect()
}

fn respond(status: StatusCode, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    *response.headers_mut() = json_headers();
    response
}

fn json_headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers
}
