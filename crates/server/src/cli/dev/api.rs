//! The service as its callers see it: over HTTP, with a key.

use crate::cli::admin::{over_http, read};
use bytes::Bytes;
use capa_webhooks_core::time::Timestamp;
use http::{Method, Request, StatusCode, header};
use http_body_util::Full;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::net::SocketAddr;

/// One caller of the API. No `Debug`, because that would show the key.
#[derive(Clone)]
pub(super) struct Caller {
    pub(super) address: SocketAddr,
    /// The header that carries the key.
    pub(super) header: &'static str,
    pub(super) key: String,
    /// What every path begins with.
    pub(super) base: String,
}

impl Caller {
    /// The platform's own services.
    pub(super) fn platform(address: SocketAddr, key: String) -> Self {
        Self { address, header: "platform-api-key", key, base: "/api/platform/v1".to_owned() }
    }

    /// A partner.
    pub(super) fn partner(address: SocketAddr, key: String) -> Self {
        Self { address, header: "partner-api-key", key, base: "/api/partner/v2".to_owned() }
    }

    /// A whole URL.
    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{}{path}", self.address, self.base)
    }

    /// Makes a call, and gives the status and the `data` of the answer.
    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, T), String> {
        let what = format!("{method} {}", self.url(path));
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(header::HOST, self.address.to_string())
            .header(self.header, &self.key);
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let bytes = body.map_or_else(Bytes::new, |body| body.to_string().into());
        let request = request.body(Full::new(bytes)).map_err(|error| format!("{what}: {error}"))?;
        let (status, answer) = over_http(self.address, request).await.map_err(|error| format!("{what}: {error}"))?;
        let data = read(&answer).map_err(|error| format!("{what}: {status}, {error}"))?;
        let data =
            serde_json::from_value(data).map_err(|error| format!("{what}: the answer cannot be read: {error}"))?;
        Ok((status, data))
    }

    /// Looks something up.
    pub(super) async fn look<T: DeserializeOwned>(&self, path: &str) -> Result<T, String> {
        self.call(Method::GET, path, None).await.map(|(_, data)| data)
    }
}

/// A partner that was just made, with its secrets.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NewPartner {
    pub(super) id: String,
    pub(super) api_key: String,
    pub(super) webhook_secret: String,
}

/// An event that was accepted.
#[derive(Debug, Deserialize)]
pub(super) struct Published {
    pub(super) id: String,
}

/// A page of a list.
#[derive(Debug, Deserialize)]
pub(super) struct Page<T> {
    pub(super) data: Vec<T>,
}

/// A notification in a list.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Notification {
    pub(super) id: String,
    pub(super) status: String,
    pub(super) event_type: String,
    pub(super) retry_attempts: u32,
    #[serde(deserialize_with = "time")]
    pub(super) created_at: Timestamp,
    #[serde(deserialize_with = "time")]
    pub(super) updated_at: Timestamp,
}

/// An attempt of a notification.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Attempt {
    pub(super) number: u32,
    #[serde(deserialize_with = "time")]
    pub(super) started_at: Timestamp,
    pub(super) duration_ms: u64,
    pub(super) http_status: Option<u16>,
    pub(super) response_body: Option<String>,
    pub(super) error: Option<String>,
    pub(super) settled: Option<String>,
    #[serde(deserialize_with = "optional_time")]
    pub(super) next_attempt_at: Option<Timestamp>,
}

fn time<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    let text = String::deserialize(deserializer)?;
    Timestamp::parse_iso(&text).ok_or_else(|| serde::de::Error::custom("not a time"))
}

fn optional_time<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| Timestamp::parse_iso(&text).ok_or_else(|| serde::de::Error::custom("not a time"))).transpose()
}
