//! A partner, as the platform made it and as it calls.

use super::http::{Call, Reply};
use super::patience;
use super::platform;
use super::receiver::Endpoint;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;

/// A partner with its key and its receiver.
#[derive(Debug, Clone)]
pub(crate) struct Partner {
    pub(crate) id: String,
    pub(crate) key: String,
    pub(crate) secret: String,
    pub(crate) endpoint: Arc<Endpoint>,
    pub(super) address: SocketAddr,
}

impl Partner {
    /// Has the platform make a partner, whose events come to this endpoint.
    pub(crate) async fn make(address: SocketAddr, endpoint: Arc<Endpoint>, request: Value) -> Self {
        let made = platform(address, "POST", "partners").json(&request).send().await.data(201);
        let text = |name: &str| made[name].as_str().unwrap().to_owned();
        let (id, key, secret) = (text("id"), text("apiKey"), text("webhookSecret"));
        endpoint.expect_secret(&secret);
        Self { id, key, secret, endpoint, address }
    }

    /// A call with the partner's key; `path` is what follows `/api/partner/v2/`.
    pub(crate) fn call(&self, method: &str, path: &str) -> Call {
        self.call_version("v2", method, path)
    }

    pub(crate) fn call_version(&self, version: &str, method: &str, path: &str) -> Call {
        Call::new(self.address, method, &format!("/api/partner/{version}/{path}")).header("partner-api-key", &self.key)
    }

    /// The partner with another key.
    pub(crate) fn with_key(&self, key: &str) -> Self {
        Self { key: key.to_owned(), ..self.clone() }
    }

    /// The partner's key with another last digit.
    pub(crate) fn wrong_key(&self) -> String {
        let (rest, last) = self.key.split_at(self.key.len() - 1);
        rest.to_owned() + if last == "0" { "1" } else { "0" }
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.call("GET", path).send().await
    }

    /// Changes the settings; must succeed.
    pub(crate) async fn set(&self, settings: Value) -> Value {
        self.call("PUT", "webhook-settings").json(&settings).send().await.data(200)
    }

    /// Changes settings and leaves the URL as it is; must succeed.
    pub(crate) async fn choose(&self, mut settings: Value) -> Value {
        settings["url"] = self.get("webhook-settings").await.data(200)["url"].clone();
        self.set(settings).await
    }

    /// The call that publishes this body.
    pub(crate) fn publishing(&self, body: impl Into<hyper::body::Bytes>) -> Call {
        platform(self.address, "POST", &format!("partners/{}/events", self.id)).text(body)
    }

    /// The call that publishes a batch, of whichever partners.
    pub(crate) fn batch(&self, body: &Value) -> Call {
        platform(self.address, "POST", "events").json(body)
    }

    /// Publishes an event that must become `PENDING`; gives its id.
    pub(crate) async fn publish(&self, event: &Value) -> String {
        self.publish_as("PENDING", event).await
    }

    /// Publishes an event that must get this status; gives its id.
    pub(crate) async fn publish_as(&self, status: &str, event: &Value) -> String {
        let data = self.publishing(event.to_string()).send().await.data(202);
        let id = data["id"].as_str().unwrap().to_owned();
        assert_eq!(data, json!({"id": id, "status": status}));
        id
    }

    /// What the platform says of the partner.
    pub(crate) fn seen_by_platform(&self, method: &str) -> Call {
        platform(self.address, method, &format!("partners/{}", self.id))
    }

    /// The notification's detail.
    pub(crate) async fn notification(&self, id: &str) -> Value {
        self.get(&format!("webhook-notifications/{id}")).await.data(200)
    }

    /// The notification's attempts.
    pub(crate) async fn attempts(&self, id: &str) -> Vec<Value> {
        let data = self.get(&format!("webhook-notifications/{id}/attempts")).await.data(200);
        let attempts = data["data"].as_array().unwrap().clone();
        assert_eq!(data, json!({"count": attempts.len(), "data": attempts}));
        attempts
    }

    pub(crate) async fn retry(&self, id: &str) -> Reply {
        self.call("POST", &format!("webhook-notifications/{id}/retry")).send().await
    }

    /// Waits until the notification has this status; gives its detail.
    pub(crate) async fn becomes(&self, id: &str, status: &str) -> Value {
        let look = async || {
            let detail = self.notification(id).await;
            let settled = detail["status"] != "PENDING";
            assert!(!settled || detail["status"] == status, "{id} must become {status}, and is {detail}");
            (detail["status"] == status).then_some(detail)
        };
        patience::until(&format!("{id} to become {status}"), look).await
    }

    /// Waits until `n` attempts are recorded, so that the clock may be stepped; gives them all.
    pub(crate) async fn attempted(&self, id: &str, n: usize) -> Vec<Value> {
        let look = async || {
            let attempts = self.attempts(id).await;
            (attempts.len() >= n).then_some(attempts)
        };
        patience::until(&format!("{n} recorded attempts of {id}"), look).await
    }

    /// Publishes a marker to this partner and waits until it is settled: whatever was ready before has gone out.
    pub(crate) async fn barrier(&self) {
        let id = self.publish(&super::verified("barrier")).await;
        self.endpoint.attempt(&id, 1).await;
        self.becomes(&id, "SENT").await;
    }
}
