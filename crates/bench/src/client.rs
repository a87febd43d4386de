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

const START_DEADLINE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(20);
/// Long: an answer may be slow, and how slow is what is measured.
const CALL_DEADLINE: Duration = Duration::from_secs(60);

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

    /// Asks the partner API a question with the partner's key. Gives the answer's `data`, and how long it took.
    pub(crate) async fn ask(&self, key: &str, path: &str) -> Result<(Duration, Value)> {
        let request = Request::get(self.url(path)).header("partner-api-key", key).body(Full::default())?;
        let asked = Instant::now();
        let (status, body) = self.call(request).await.with_context(|| format!("cannot ask for {path}"))?;
        let took = asked.elapsed();
        let text = String::from_utf8_lossy(&body);
        ensure!(status == StatusCode::OK, "{path} was answered with {status}: {text}");
        let mut answer: Value = serde_json::from_str(&text)?;
        Ok((took, answer["data"].take()))
    }

    /// How many notifications a partner has, or how many match `filter`, such as `status=SENT`.
    pub(crate) async fn total(&self, key: &str, filter: Option<&str>) -> Result<u64> {
        let filter = filter.map_or_else(String::new, |filter| format!("&{filter}"));
        let (_, page) = self.ask(key, &format!("/api/partner/v2/webhook-notifications?limit=1{filter}")).await?;
        page["total"].as_u64().context("a list without a total")
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
