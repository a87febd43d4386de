//! Names of the request headers, in the lower case in which they are sent.
//!
//! HTTP header names know no case: a receiver must find `Capa-Signature` when it looks for [`CAPA_SIGNATURE`].

/// Lower-case hex HMAC-SHA256 of the exact body.
pub const CAPA_SIGNATURE: &str = "capa-signature";

/// Id of the notification, the same on every attempt to deliver it.
pub const WEBHOOK_ID: &str = "webhook-id";

/// Time of this attempt in Unix seconds.
pub const WEBHOOK_TIMESTAMP: &str = "webhook-timestamp";

/// `v1,` and the base64 HMAC-SHA256 over id, timestamp and body; several values, separated by a space, during a rotation.
pub const WEBHOOK_SIGNATURE: &str = "webhook-signature";

/// `true` on a test event. No signature covers it, see [`Received::is_test`](crate::Received::is_test).
pub const CAPA_WEBHOOKS_TEST: &str = "capa-webhooks-test";
