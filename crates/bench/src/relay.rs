//! The bare relay: what a webhook sender costs when it keeps no promise.
//!
//! It takes the same publish request as the product, answers 202 at once and POSTs the body on over pooled connections.
//! Nothing is stored, signed, retried or checked: an event in its memory is lost when it stops, and one that the target
//! refuses is dropped. Its rate on a machine is therefore the ceiling for any sender built from the same HTTP library.
//! Each partner has a short queue and a bound on what is in flight; a full queue holds the publisher back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};

/// Events that wait for each partner. Short: a long queue would only add its own waiting time to every delivery.
const QUEUE: usize = 32;
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Forward each published event at once and keep nothing: the ceiling.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Example:\n  capa-webhooks-bench relay --listen 127.0.0.1:8080 --partners 100 \
                  --target http://127.0.0.1:9999/{partner}")]
pub(crate) struct Args {
    /// Address to listen on.
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: SocketAddr,
    /// Number of partners; their ids are 1 to N.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) partners: usize,
    /// Where events go; `{partner}` stands for the partner's id.
    #[arg(long, value_name = "URL_TEMPLATE")]
    pub(crate) target: String,
    /// Requests in flight for each partner.
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub(crate) in_flight: usize,
    /// Threads that serve.
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub(crate) workers: usize,
}

/// Runs the subcommand.
pub(crate) fn main(args: &Args) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(args.workers).enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(args.listen).await.with_context(|| format!("cannot bind {}", args.listen))?;
        eprintln!("relay listens on {}; Ctrl-C ends it", listener.local_addr()?);
        tokio::select! {
            served = serve(listener, args) => served,
            _ = tokio::signal::ctrl_c() => Ok(()),
        }
    })
}

/// Serves publish requests until the task is dropped.
pub(crate) async fn serve(listener: TcpListener, args: &Args) -> Result<()> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client = Client::builder(TokioExecutor::new()).build(connector);
    let mut lanes = Vec::new();
    for partner in 1..=args.partners {
        let uri: Uri = (args.target.replace("{partner}", &partner.to_string()).parse())
            .with_context(|| format!("--target {} is not a URL", args.target))?;
        let (lane, events) = mpsc::channel(QUEUE);
        tokio::spawn(forward(client.clone(), uri, events, args.in_flight));
        lanes.push(lane);
    }
    let relay = Arc::new(Relay { lanes, published: AtomicU64::new(0) });
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let relay = relay.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(relay.clone(), request));
            // A publisher that hangs up mid-request is its own affair.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

struct Relay {
    lanes: Vec<mpsc::Sender<Event>>,
    published: AtomicU64,
}

struct Event {
    id: u64,
    body: Bytes,
}

async fn answer(relay: Arc<Relay>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    if request.method() == Method::GET && request.uri().path() == "/readyz" {
        return Ok(json(StatusCode::OK, "{}".to_owned()));
    }
    let lane = partner(request.uri().path()).and_then(|partner| relay.lanes.get(partner.checked_sub(1)?));
    let Some(lane) = lane.filter(|_| request.method() == Method::POST) else {
        return Ok(json(StatusCode::NOT_FOUND, r#"{"success":false,"code":"NOT_FOUND"}"#.to_owned()));
    };
    let id = relay.published.fetch_add(1, Ordering::Relaxed);
    let body = request.into_body().collect().await?.to_bytes();
    // The receiving task lives as long as the process.
    let _ = lane.send(Event { id, body }).await;
    Ok(json(StatusCode::ACCEPTED, format!(r#"{{"success":true,"data":{{"id":"relay-{id}","status":"PENDING"}}}}"#)))
}

/// The number in `/api/platform/v1/partners/{number}/events`.
fn partner(path: &str) -> Option<usize> {
    path.strip_prefix("/api/platform/v1/partners/")?.strip_suffix("/events")?.parse().ok()
}

fn json(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

async fn forward(
    client: Client<HttpConnector, Full<Bytes>>,
    uri: Uri,
    mut events: mpsc::Receiver<Event>,
    in_flight: usize,
) {
    let slots = Arc::new(Semaphore::new(in_flight));
    while let Some(event) = events.recv().await {
        // The semaphore is never closed.
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let (client, uri) = (client.clone(), uri.clone());
        tokio::spawn(async move {
            if let Err(error) = deliver(&client, uri, event).await {
                eprintln!("the relay lost an event: {error:#}");
            }
            drop(slot);
        });
    }
}

async fn deliver(client: &Client<HttpConnector, Full<Bytes>>, uri: Uri, event: Event) -> Result<()> {
    let request = Request::post(uri)
        .header(CONTENT_TYPE, JSON)
        .header("webhook-id", format!("relay-{}", event.id))
        .body(Full::new(event.body))?;
    // The answer must be read to its end before the connection can carry the next event.
    client.request(request).await?.into_body().collect().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;
    use crate::load;
    use crate::sink::Sink;
    use crate::source::Limit;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_event_goes_from_load_through_relay_to_sink() {
        let sink = Sink::start((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let target = format!("http://{}/{{partner}}", sink.address);
        let args = Args { listen: address, partners: 3, target, in_flight: 4, workers: 2 };
        tokio::spawn(async move { serve(listener, &args).await });

        for (first_sequence, rate) in [(0, None), (1_000, Some(20_000.0))] {
            sink.begin(first_sequence);
            let plan = load::Plan {
                addresses: vec![address],
                platform_key: String::new(),
                partners: ["1", "2", "3"].map(str::to_owned).to_vec(),
                connections: 8,
                limit: Limit::Events(1_000),
                rate,
                batch: None,
                first_sequence,
            };
            let outcome = load::run(&plan).await.unwrap();
            sink.wait_for(1_000, Duration::from_secs(10)).await;
            let arrivals = sink.arrivals();
            assert_eq!(outcome.accepted.len(), 1_000);
            assert!(outcome.refused.is_empty());
            assert!(outcome.accepted.iter().all(|sequence| arrivals.holds(*sequence)));
            assert_eq!((arrivals.requests, arrivals.duplicates(), arrivals.unmarked), (1_000, 0, 0));
        }
    }
}
