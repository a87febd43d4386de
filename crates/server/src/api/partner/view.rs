//! How notifications and attempts are shown.

use capa_webhooks_core::outcome::{Answer, Failure};
use capa_webhooks_core::time::Timestamp;
use capa_webhooks_store::{AttemptEntry, Detail, LatestError, Summary};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// A notification in a list.
pub(super) fn summary(row: &Summary) -> Value {
    json!({
        "id": row.id.to_string(),
        "status": row.status.as_str(),
        "eventType": row.event,
        "retryAttempts": row.attempts.saturating_sub(1),
        "manualRetryCount": row.cycle.saturating_sub(1),
        "createdAt": row.created_at.to_iso(),
        "updatedAt": row.updated_at.to_iso(),
    })
}

/// A notification, whole.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Shown {
    id: String,
    status: &'static str,
    retry_attempts: u32,
    manual_retry_count: u32,
    payload: Option<Box<RawValue>>,
    latest_error_payload: Option<Box<RawValue>>,
    last_manual_retry_at: Option<String>,
    version: u32,
    created_at: String,
    updated_at: String,
}

/// A notification, whole.
pub(super) fn detail(detail: &Detail) -> Shown {
    let row = &detail.summary;
    Shown {
        id: row.id.to_string(),
        status: row.status.as_str(),
        retry_attempts: row.attempts.saturating_sub(1),
        manual_retry_count: row.cycle.saturating_sub(1),
        payload: raw(&detail.payload),
        latest_error_payload: detail.latest_error.as_ref().and_then(latest_error),
        last_manual_retry_at: detail.last_manual_retry_at.map(Timestamp::to_iso),
        version: row.cycle,
        created_at: row.created_at.to_iso(),
        updated_at: row.updated_at.to_iso(),
    }
}

/// One attempt.
pub(super) fn attempt(entry: &AttemptEntry) -> Value {
    let (status, error, message, body) = match &entry.answer {
        Answer::Response { status, body, .. } => (Some(*status), None, None, Some(String::from_utf8_lossy(body))),
        Answer::None(Failure { kind, status, message }) => (*status, Some(kind.as_str()), Some(message), None),
    };
    json!({
        "cycle": entry.cycle,
        "number": entry.number,
        "startedAt": entry.started_at.to_iso(),
        "url": entry.url,
        "httpStatus": status,
        "errorKind": error,
        "error": message,
        "durationMs": u64::try_from(entry.duration.as_millis()).unwrap_or(u64::MAX),
        "responseBody": body,
        "settled": entry.settled.map(capa_webhooks_core::notification::Status::as_str),
        "nextAttemptAt": entry.next_due.map(Timestamp::to_iso),
    })
}

/// What the receiver said, as it said it: JSON where it is JSON, else its text; for a network failure what failed.
fn latest_error(error: &LatestError) -> Option<Box<RawValue>> {
    let message = match error {
        LatestError::NotSent(reason) => reason.message().to_owned(),
        LatestError::Attempt(Answer::None(failure)) => failure.message.clone(),
        LatestError::Attempt(Answer::Response { status, body, .. }) if body.is_empty() => {
            format!("The receiver answered {status} with an empty body.")
        }
        LatestError::Attempt(Answer::Response { body, .. }) => match raw(body) {
            Some(parsed) => return Some(parsed),
            None => String::from_utf8_lossy(body).into_owned(),
        },
    };
    RawValue::from_string(json!({ "message": message }).to_string()).ok()
}

/// The bytes as JSON, if they are.
fn raw(bytes: &[u8]) -> Option<Box<RawValue>> {
    // Parsed first, so that nothing nested too deep for readers is passed on.
    serde_json::from_slice::<Value>(bytes).ok()?;
    serde_json::from_slice(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use capa_webhooks_core::notification::NotSent;
    use capa_webhooks_core::outcome::FailureKind;

    fn shown(error: &LatestError) -> String {
        latest_error(error).unwrap().get().to_owned()
    }

    fn response(body: &'static [u8]) -> LatestError {
        LatestError::Attempt(Answer::Response { status: 500, body: Bytes::from_static(body), retry_after: None })
    }

    #[test]
    fn the_latest_error_is_what_the_receiver_said() {
        let failure = Failure { kind: FailureKind::Connect, status: None, message: "refused".into() };
        for (error, expected) in [
            (response(br#"{"b":1,"a":1.0}"#), r#"{"b":1,"a":1.0}"#),
            (response(b"[1]"), "[1]"),
            (response(b"oh no"), r#"{"message":"oh no"}"#),
            (response(b"\xff"), "{\"message\":\"\u{fffd}\"}"),
            (response(b""), r#"{"message":"The receiver answered 500 with an empty body."}"#),
            (LatestError::Attempt(Answer::None(failure)), r#"{"message":"refused"}"#),
            (LatestError::NotSent(NotSent::NoUrl), r#"{"message":"Not sent: no webhook URL was set."}"#),
        ] {
            assert_eq!(shown(&error), expected);
        }
        let deep = "[".repeat(5000) + &"]".repeat(5000);
        let deep = LatestError::Attempt(Answer::Response { status: 500, body: deep.into(), retry_after: None });
        assert!(shown(&deep).starts_with(r#"{"message":"[[["#));
    }
}
