//! Events and moments, as tests write them.

use capa_webhooks_core::time::Timestamp;
use serde_json::{Value, json};
use std::time::Duration;

/// The moment that a time in an answer names.
#[track_caller]
pub(crate) fn moment(iso: &str) -> Timestamp {
    Timestamp::parse_iso(iso).unwrap_or_else(|| panic!("{iso} is not a time"))
}

/// The text of a time `after` another.
pub(crate) fn later(iso: &str, after: Duration) -> String {
    moment(iso).plus(after).to_iso()
}

/// An event of a user.
pub(crate) fn verified(user: &str) -> Value {
    json!({"type": "KYC", "event": "VERIFIED_USER", "externalUserId": user})
}

/// An event of a user's transaction.
pub(crate) fn on_ramp(user: &str, transaction: &str) -> Value {
    json!({
        "type": "TRANSACTION",
        "event": "CREATED_ON_RAMP",
        "externalUserId": user,
        "transactionId": transaction,
        "firstName": "Satoshi",
        "lastName": "Nakamoto",
    })
}

pub(crate) const fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}
