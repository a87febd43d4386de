//! The load: publishers, a receiver, and the ledger in which both write.

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

use super::server::PLATFORM_KEY;

/// What was accepted and what arrived, by the user that each event is about: every event has one of its own.
#[derive(Default)]
pub(super) struct Ledger {
    events: Mutex<BTreeMap<String, Entry>>,
    counts: Mutex<Counts>,
    /// What was pending at each kill.
    kills: Mutex<Vec<BTreeSet<String>>>,
    changed: Notify,
}

#[derive(Default)]
struct Counts {
    accepted: usize,
    wanted: usize,
}

#[derive(Default)]
struct Entry {
    /// The id of the 202, if one came.
    accepted: Option<String>,
    /// The ids of the deliveries, in their order.
    deliveries: Vec<String>,
    refused: usize,
}

/// What the ledger says in the end.
pub(super) struct Report {
    pub(super) accepted: usize,
    pub(super) deliveries: usize,
    pub(super) repeated: usize,
    pub(super) unanswered: usize,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { accepted, deliveries, repeated, unanswered } = self;
        write!(
            f,
            "{accepted} accepted and delivered, {deliveries} deliveries, {repeated} of them repeated because of a kill, \
             {unanswered} delivered although the kill took the 202"
        )
    }
}

impl Ledger {
    pub(super) fn accepted(&self) -> usize {
        self.counts.lock().unwrap().accepted
    }

    /// Waits until so many more events were accepted.
    pub(super) async fn wait_for_accepted(&self, more: usize) {
        {
            let mut counts = self.counts.lock().unwrap();
            counts.wanted = counts.accepted + more;
        }
        loop {
            let changed = self.changed.notified();
            {
                let counts = self.counts.lock().unwrap();
                if counts.accepted >= counts.wanted {
                    return;
                }
            }
            changed.await;
        }
    }

    /// A process was killed while these notifications were pending.
    pub(super) fn killed(&self, pending: BTreeSet<String>) {
        self.kills.lock().unwrap().push(pending);
    }

    /// Fails if anything that was accepted did not arrive, or arrived more often than the kills explain.
    pub(super) fn judge(&self) -> Report {
        let events = self.events.lock().unwrap();
        let kills = self.kills.lock().unwrap();
        let mut report = Report { accepted: 0, deliveries: 0, repeated: 0, unanswered: 0 };
        for (user, entry) in events.iter() {
            report.deliveries += entry.deliveries.len();
            let ids: BTreeSet<&String> = entry.deliveries.iter().chain(&entry.accepted).collect();
            assert!(ids.len() <= 1, "{user} came under several ids: {ids:?}");
            let delivered = entry.deliveries.len() - entry.refused;
            match entry.accepted {
                Some(_) => {
                    report.accepted += 1;
                    assert!(delivered >= 1, "{user} was accepted and never delivered");
                }
                None => report.unanswered += usize::from(delivered >= 1),
            }
            // Without a kill: one delivery, and one more for each that was refused.
            let repeated = entry.deliveries.len().saturating_sub(1 + entry.refused);
            if repeated > 0 {
                let explained = kills.iter().filter(|pending| pending.contains(&entry.deliveries[0])).count();
                assert!(
                    repeated <= explained,
                    "{user}: {repeated} repeats, but it was pending at {explained} kills only"
                );
            }
            report.repeated += repeated;
        }
        report
    }

    fn note_accepted(&self, user: &str, id: String) {
        self.events.lock().unwrap().entry(user.to_owned()).or_default().accepted = Some(id);
        let mut counts = self.counts.lock().unwrap();
        counts.accepted += 1;
        if counts.accepted >= counts.wanted {
            self.changed.notify_waiters();
        }
    }

    /// Notes a delivery and says whether it is to be acknowledged: every eighth event is refused once.
    fn note_delivery(&self, user: &str, id: String) -> bool {
        let mut events = self.events.lock().unwrap();
        let entry = events.entry(user.to_owned()).or_default();
        entry.deliveries.push(id);
        let number: usize = user.rsplit('-').next().unwrap().parse().unwrap();
        let refused = number.is_multiple_of(8) && entry.refused == 0;
        entry.refused += usize::from(refused);
        !refused
    }
}

/// Publishes events one after the other, to whichever process runs, until there will be none any more.
pub(super) async fn publish(
    publisher: usize,
    partner: String,
    mut running: watch::Receiver<Option<SocketAddr>>,
    ledger: Arc<Ledger>,
) {
    let mut number = 0;
    loop {
        let address = *running.borrow_and_update();
        if let Some(address) = address
            && let Ok(mut connection) = connect(address).await
        {
            loop {
                number += 1;
                let user = format!("user-{publisher}-{number}");
                match send(&mut connection, &partner, &user).await {
                    Some(id) => ledger.note_accepted(&user, id),
                    None => break,
                }
                if running.has_changed().is_err() {
                    return;
                }
            }
        }
        if running.changed().await.is_err() {
            return;
        }
    }
}

async fn connect(address: SocketAddr) -> Result<SendRequest<Full<Bytes>>, Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// Publishes one event; the id of the 202, or `None` if the connection broke.
async fn send(connection: &mut SendRequest<Full<Bytes>>, partner: &str, user: &str) -> Option<String> {
    let body = format!(r#"{{"type":"KYC","event":"VERIFIED_USER","externalUserId":"{user}"}}"#);
    let request = Request::post(format!("/api/platform/v1/partners/{partner}/events"))
        .header("host", "localhost")
        .header("platform-api-key", PLATFORM_KEY)
        .header("content-type", "application/json")
        .body(Full::new(body.into()))
        .unwrap();
    let response = connection.send_request(request).await.ok()?;
    let status = response.status();
    let body = response.into_body().collect().await.ok()?.to_bytes();
    assert_eq!(status, StatusCode::ACCEPTED, "{}", String::from_utf8_lossy(&body));
    let answer: serde_json::Value = serde_json::from_slice(&body).unwrap();
    Some(answer["data"]["id"].as_str().unwrap().to_owned())
}

/// Takes deliveries.
pub(super) struct Receiver(SocketAddr);

impl Receiver {
    pub(super) async fn start(ledger: Arc<Ledger>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let ledger = ledger.clone();
                let service = hyper::service::service_fn(move |request| receive(ledger.clone(), request));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Self(address)
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/", self.0)
    }
}

async fn receive(ledger: Arc<Ledger>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let id = request.headers()["webhook-id"].to_str().unwrap().to_owned();
    let body = request.into_body().collect().await?.to_bytes();
    let event: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let acknowledged = ledger.note_delivery(event["externalUserId"].as_str().unwrap(), id);
    let status = if acknowledged { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = status;
    Ok(response)
}
