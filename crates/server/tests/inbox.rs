//! Publishing from SQL, from the call of the function to the engine that holds the notification. Nodes of one process over a
//! real PostgreSQL, on a clock that stands still: what is drained without a step of it was drained because of a hint.

#![expect(clippy::unwrap_used, reason = "what a test does not expect ends it")]

use axum::body::Body;
use capa_webhooks::api::{self, App, Parts};
use capa_webhooks::clock::{Clock, Stepper, fill_random, random_bytes};
use capa_webhooks::config::{Config, Sources};
use capa_webhooks::directory::{Defaults, Directory};
use capa_webhooks::door::Door;
use capa_webhooks::endpoints::Endpoints;
use capa_webhooks::inbox::Drain;
use capa_webhooks::ingest::{Batcher, Bounds};
use capa_webhooks::keyfile::FreshKey;
use capa_webhooks::moves::Moves;
use capa_webhooks::outgoing::{self, Client};
use capa_webhooks::permit::Permit;
use capa_webhooks::room::Room;
use capa_webhooks::telemetry::metrics::Metrics;
use capa_webhooks::wake::Wake;
use capa_webhooks_cluster::{Cluster, Database};
use capa_webhooks_core::engine::Input;
use capa_webhooks_core::engine::words::Job;
use capa_webhooks_core::id::{LifeId, PartnerId, SettingsId};
use capa_webhooks_core::time::Timestamp;
use capa_webhooks_store::postgres::{Options, PostgresStore};
use capa_webhooks_store::seal::MasterKey;
use capa_webhooks_store::{NewPartner, PartnerKey, PlatformKey, Scopes, SecretText, Store};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tower_service::Service as _;

/// One node: everything that takes part in publishing.
struct Node {
    app: App,
    jobs: mpsc::UnboundedReceiver<Input>,
    drain: Drain,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.drain.stop();
    }
}

/// A database with a partner, and a key of the platform.
struct Stage {
    database: Database,
    clock: Clock,
    stepper: Stepper,
    partner: PartnerId,
    key: String,
}

impl Stage {
    async fn new() -> Self {
        let database = Cluster::shared().create_database().unwrap();
        let (clock, stepper) = Clock::stepped(Timestamp::from_millis(1_760_000_000_000));
        let (partner, key) = (PartnerId::v7(clock.now(), random_bytes()), FreshKey::make());
        let store = open(&database).await;
        let own = PartnerKey { id: FreshKey::make().id, partner, secret_hash: [1; 32] };
        let new = NewPartner {
            id: partner,
            name: "Partner".to_owned(),
            settings: SettingsId::v7(clock.now(), random_bytes()),
            url: Some("https://receiver.example/".to_owned()),
            secret: SecretText("a".repeat(64).into()),
            key: own,
        };
        store.create_partner(new, clock.now()).await.unwrap();
        let platform =
            PlatformKey { id: key.id, secret_hash: key.hash(), scopes: Scopes::ALL, name: "tests".to_owned() };
        store.add_platform_key(platform, clock.now()).await.unwrap();
        Self { database, clock, stepper, partner, key: key.expose().to_string() }
    }

    async fn node(&self) -> Node {
        let store: Arc<dyn Store> = Arc::new(open(&self.database).await);
        let (clock, metrics) = (self.clock.clone(), Arc::new(Metrics::default()));
        let config = Config::load(&Sources::default()).unwrap();
        let client = Client::new(outgoing::Options {
            destinations: Arc::new(config.destinations.clone()),
            connect_timeout: config.connect_timeout,
            clock: clock.clone(),
            extra_roots: Vec::new(),
        });
        let defaults = Defaults { schedule: config.schedule.clone(), attempt_timeout: config.attempt_timeout };
        let directory = Directory::new(store.clone(), Arc::new(client.unwrap()), defaults, Permit::unlimited());
        let life = LifeId::v7(clock.now(), random_bytes());
        store.begin_life(life, clock.now()).await.unwrap();
        let (engine, jobs) = mpsc::unbounded_channel();
        let batcher = Batcher {
            store: store.clone(),
            clock: clock.clone(),
            metrics: metrics.clone(),
            life,
            bounds: Bounds::default(),
            door: Door::new(metrics.clone()),
            fence: Permit::unlimited(),
            room: Room::default(),
            moves: Moves::default(),
            nodes: watch::channel(1).1,
            engine,
        };
        let (endpoints, _) = Endpoints::new(config.failing_after, metrics.clone());
        let app = App::new(Parts {
            store,
            directory,
            endpoints,
            ingest: batcher.start().0,
            wake: Wake::default(),
            clock,
            metrics,
            catalogue: config.catalogue,
            destinations: config.destinations,
            max_body: 1000,
            idempotency_retention: config.idempotency_retention,
            stopping: AtomicBool::new(false),
            local_key: None,
        });
        Node { drain: Drain::start(app.clone()), app, jobs }
    }

    fn sql(&self, statements: &str) -> String {
        self.database.sql(statements).unwrap()
    }

    /// The call that publishes an event of this user.
    fn call(&self, user: &str, key: Option<&str>) -> String {
        let key = key.map_or("NULL".to_owned(), |key| format!("'{key}'"));
        format!("SELECT capa_webhooks.publish('{}', '{}', {key});", self.partner, payload(user))
    }

    fn drained(&self) -> bool {
        self.sql("SELECT count(*) FROM capa_webhooks.inbox") == "0"
    }

    /// Publishes over HTTP: status and body.
    async fn publish(&self, node: &Node, user: &str, key: &str) -> (u16, String) {
        let request = http::Request::post(format!("/api/platform/v1/partners/{}/events", self.partner))
            .header("platform-api-key", &self.key)
            .header("content-type", "application/json")
            .header("idempotency-key", key)
            .body(Body::from(payload(user)));
        let answer = api::router(node.app.clone()).call(request.unwrap()).await.unwrap();
        let status = answer.status().as_u16();
        let body = axum::body::to_bytes(answer.into_body(), 1 << 16).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }
}

async fn open(database: &Database) -> PostgresStore {
    PostgresStore::open(database.url(), Options::new(MasterKey::new([7; 32]), Arc::new(fill_random))).await.unwrap()
}

/// Not in its canonical form.
fn payload(user: &str) -> String {
    format!("{{ \"externalUserId\": \"{user}\", \"type\": \"KYC\", \"event\": \"VERIFIED_USER\", \"n\": 1.0 }}")
}

fn canonical(user: &str) -> String {
    format!("{{\"type\":\"KYC\",\"event\":\"VERIFIED_USER\",\"externalUserId\":\"{user}\",\"n\":1}}")
}

impl Node {
    /// The next notification that the engine was handed.
    async fn job(&mut self) -> Job {
        match self.jobs.recv().await {
            Some(Input::Accepted(job)) => job,
            other => unreachable!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_reaches_the_engine_at_once_and_a_rollback_never_does() {
    let stage = Stage::new().await;
    let mut node = stage.node().await;
    stage.sql(&format!("BEGIN; {} ROLLBACK;", stage.call("never", None)));
    stage.sql(&format!("BEGIN; {} {} COMMIT;", stage.call("first", None), stage.call("second", None)));
    for user in ["first", "second"] {
        let job = node.job().await;
        assert_eq!((job.key.partner, &job.body[..]), (stage.partner, canonical(user).as_bytes()));
    }
    assert!(stage.drained() && node.jobs.try_recv().is_err());
    assert!(node.app.metrics.encode().contains("capa_webhooks_inbox_total{kind=\"accepted\"} 2"));
    // Without a hint it takes the poll: a step of the clock.
    stage.sql(&format!("SET capa_webhooks.wake = off; {}", stage.call("third", None)));
    while !stage.drained() {
        stage.stepper.advance(Duration::from_secs(1));
        tokio::task::yield_now().await;
    }
    assert_eq!(node.job().await.body, canonical("third"));
}

#[tokio::test(flavor = "multi_thread")]
async fn several_nodes_accept_each_event_once_and_one_may_die() {
    let stage = Stage::new().await;
    let mut nodes = vec![stage.node().await, stage.node().await, stage.node().await];
    let mut seen = Vec::new();
    for round in 0..30 {
        stage.sql(&stage.call(&format!("u-{round}"), None));
        if round == 15 {
            drop(nodes.remove(0));
        }
    }
    while !stage.drained() {
        // Who came too late for a hint looks again after a second.
        stage.stepper.advance(Duration::from_secs(1));
        tokio::task::yield_now().await;
    }
    for node in &mut nodes {
        while let Ok(Input::Accepted(job)) = node.jobs.try_recv() {
            seen.push(job.body);
        }
    }
    let before = seen.len();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), before, "nothing twice");
    assert!(seen.len() >= 14, "{}", seen.len());
    assert_eq!(stage.sql("SELECT count(*), count(DISTINCT user_hash) FROM capa_webhooks.notifications"), "30|30");
    assert_eq!(stage.sql("SELECT count(*) FROM capa_webhooks.inbox_refused"), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_api_refuses_is_refused_with_its_words() {
    let stage = Stage::new().await;
    let mut node = stage.node().await;
    let (partner, nobody) = (stage.partner, PartnerId::from_bytes([9; 16]));
    let long = "x".repeat(1000);
    let publish = |partner: PartnerId, payload: &str, key: &str| {
        stage.sql(&format!("SELECT capa_webhooks.publish('{partner}', '{payload}', {key});"))
    };
    publish(partner, &payload("kept"), "'k'");
    publish(nobody, &payload("a"), "NULL");
    publish(partner, r#"{"type":"KYC","event":"VERIFIED_USER"}"#, "NULL");
    publish(partner, r#"{"type":"KYC","event":"VERIFIED_USER","externalUserId":"a","a":1,"a":2}"#, "NULL");
    publish(partner, &payload(&long), "NULL");
    publish(partner, &payload("a"), "''");
    publish(partner, &payload("a"), "repeat('k', 300)");
    publish(partner, &payload("other"), "'k'");
    publish(partner, &payload("last"), "NULL");
    assert_eq!(node.job().await.body, canonical("kept"));
    assert_eq!(node.job().await.body, canonical("last"));
    let told = || {
        stage.sql(
            "SELECT code, message, coalesce(details -> 0 ->> 'field', '-') FROM capa_webhooks.refusals ORDER BY id",
        )
    };
    // The last one's refusals may still be on their way.
    while !stage.drained() {
        tokio::task::yield_now().await;
    }
    let expected = [
        "NOT_FOUND|Partner not found|-",
        "INVALID_USER_INPUT_ERROR|Invalid User Input|payload.externalUserId",
        "INVALID_USER_INPUT_ERROR|Invalid User Input|payload.a",
        "PAYLOAD_TOO_LARGE|Payload too large|payload",
        "INVALID_USER_INPUT_ERROR|Invalid User Input|idempotency_key",
        "INVALID_USER_INPUT_ERROR|Invalid User Input|idempotency_key",
        "CONFLICT|The idempotency key was used with another event|idempotency-key",
    ];
    assert_eq!(told(), expected.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotency_key_counts_over_http_and_from_sql() {
    let stage = Stage::new().await;
    let mut node = stage.node().await;
    let (status, first) = stage.publish(&node, "a", "one").await;
    assert_eq!((status, node.job().await.body), (202, canonical("a").into()));
    stage.sql(&stage.call("a", Some("one")));
    stage.sql(&stage.call("b", Some("two")));
    let job = node.job().await;
    assert_eq!(job.body, canonical("b"), "the repeat made nothing");
    assert!(first.contains("PENDING") && !first.contains(&job.key.id.to_string()));
    let (status, again) = stage.publish(&node, "b", "two").await;
    assert!(status == 200 && again.contains(&job.key.id.to_string()), "{status} {again}");
    assert_eq!(stage.publish(&node, "c", "two").await.0, 409);
    assert_eq!(stage.sql("SELECT count(*) FROM capa_webhooks.notifications"), "2");
    assert!(stage.drained());
}
