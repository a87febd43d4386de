//! How commands reach the platform API: over HTTP while a service has the store's file open, else within this process.
//! In a store that nodes share, they hear of what a command changed as of what another node changed.
//!
//! Either way a command makes the same calls, so there is one way in which partners and keys change.

use super::runtime;
use crate::api::{self, App};
use crate::boot::local_api;
use crate::config::Config;
use crate::keyfile::FreshKey;
use crate::opening::NotOpened;
use axum::body::Body;
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tower_service::Service as _;

/// A way to the platform API.
pub(super) struct Admin {
    reach: Reach,
    key: String,
    runtime: tokio::runtime::Runtime,
}

enum Reach {
    Local(App),
    Service(SocketAddr),
}

impl Admin {
    /// Finds the way.
    pub(super) fn open(config: &Config) -> Result<Self, String> {
        let runtime = runtime("worker")?;
        let key = FreshKey::make();
        match runtime.block_on(local_api(config.clone(), &key)) {
            Ok(app) => Ok(Self { reach: Reach::Local(app), key: key.expose(), runtime }),
            Err(NotOpened::InUse(_)) => {
                Ok(Self { reach: Reach::Service(reachable(config.listen)), key: admin_key(config)?, runtime })
            }
            Err(NotOpened::Other(problem)) => Err(problem),
        }
    }

    /// Makes a call of the platform API and gives its `data`.
    pub(super) fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, String> {
        let mut request = Request::builder().method(method).uri(format!("/api/platform/v1{path}"));
        request = request.header("platform-api-key", &self.key).header(header::HOST, "localhost");
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let bytes = body.map_or_else(Bytes::new, |body| body.to_string().into());
        let request = request.body(Full::new(bytes)).map_err(|error| error.to_string())?;
        let answer = self.runtime.block_on(async {
            match &self.reach {
                Reach::Local(app) => {
                    // A router is always ready, and its errors are answers.
                    let answered = api::router(app.clone()).call(request.map(Body::new)).await;
                    let body = answered.unwrap_or_else(|never| match never {}).into_body();
                    body.collect().await.map(http_body_util::Collected::to_bytes).map_err(|error| error.to_string())
                }
                Reach::Service(address) => over_http(*address, request).await.map(|(_, body)| body).map_err(|error| {
                    format!(
                        "a service has the store open, but does not answer at {address} ({error}); say where it \
                         listens with --listen"
                    )
                }),
            }
        })?;
        read(&answer)
    }
}

/// Makes one call over a connection of its own.
pub(super) async fn over_http(
    address: SocketAddr,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Bytes), Box<dyn Error + Send + Sync>> {
    let stream = tokio::net::TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    Ok((response.status(), response.into_body().collect().await?.to_bytes()))
}

/// The `data` of an answer, or its error in words.
pub(super) fn read(answer: &[u8]) -> Result<Value, String> {
    let mut answer: Value =
        serde_json::from_slice(answer).map_err(|error| format!("the answer cannot be read: {error}"))?;
    if answer["success"] == true {
        return Ok(answer["data"].take());
    }
    let mut text = answer["message"].as_str().unwrap_or("the call failed").to_owned();
    for detail in answer["details"].as_array().into_iter().flatten() {
        let field = detail["field"].as_str().filter(|field| !field.is_empty());
        let field = field.map_or_else(String::new, |field| format!("{field}: "));
        text.push_str(&format!("\n  {field}{}", detail["problem"].as_str().unwrap_or_default()));
    }
    Err(text)
}

/// Where a service that listens on `listen` can be reached from this machine.
pub(super) fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

fn admin_key(config: &Config) -> Result<String, String> {
    if let Some(key) = &config.platform_key {
        return Ok(key.0.clone());
    }
    let file = config.admin_key_file.display();
    std::fs::read_to_string(&config.admin_key_file).map(|text| text.trim().to_owned()).map_err(|error| {
        format!(
            "a service has the store open, so an admin key is needed to talk to it; set CAPA_WEBHOOKS_PLATFORM_KEY, or \
             say where the key file is with --admin-key-file ({file}: {error})"
        )
    })
}
