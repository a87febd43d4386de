//! Small HTTP calls around a measurement: is the server ready, create a partner. Not for load.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

use crate::child::Child;

const START_DEADLINE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);
const CALL_DEADLINE: Duration = Duration::from_secs(10);

/// A client of one server's platform API.
pub(crate) struct Platform {
    http: Client<HttpConnector, Full<Bytes>>,
    address: SocketAddr,
    key: String,
}

impl Platform {
    /// A client that shows `key` to the server at `address`.
    pub(crate) fn new(address: SocketAddr, key: &str) -> Self {
        Self { http: Client::builder(TokioExecutor::new()).build_http(), address, key: key.to_owned() }
    }

    /// Waits until the server says that it is ready. An error when its process ends first.
    pub(crate) async fn wait_until_ready(&self, server: &mut Child) -> Result<()> {
        let started = Instant::now();
        loop {
            server.check()?;
            let request = Request::get(self.url("/readyz")).body(Full::default())?;
            if self.call(request).await.is_ok_and(|(status, _)| status == StatusCode::OK) {
                return Ok(());
            }
            ensure!(
                started.elapsed() < START_DEADLINE,
                "the server was not ready after {START_DEADLINE:?}; its log ends with:\n{}",
                server.log_tail()
            );
            tokio::time::sleep(POLL).await;
        }
    }

    /// Creates a partner and returns its id.
    pub(crate) async fn create_partner(&self, name: &str, url: &str) -> Result<String> {
        let body = json!({ "name": name, "url": url }).to_string();
        let request = Request::post(self.url("/api/platform/v1/partners"))
            .header("platform-api-key", &self.key)
            .header("content-type", "application/json")
            .body(Full::from(body))?;
        let (status, body) = self.call(request).await.context("cannot create a partner")?;
        let text = String::from_utf8_lossy(&body);
        ensure!(status == StatusCode::CREATED, "creating a partner was answered with {status}: {text}");
        let answer: Value = serde_json::from_str(&text)?;
        let id = answer["data"]["id"].as_str().with_context(|| format!("no data.id in the answer: {text}"))?;
        Ok(id.to_owned())
    }

    async fn call(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes)> {
        let call = async {
            let response = self.http.request(request).await?;
            let status = response.status();
            Ok((status, response.into_body().collect().await?.to_bytes()))
        };
        tokio::time::timeout(CALL_DEADLINE, call).await.context("no answer in time")?
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}
