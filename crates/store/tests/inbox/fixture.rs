//! A database for each test, somebody else who publishes there, and what a node makes of it.

use async_trait::async_trait;
use capa_webhooks_cluster::{Cluster, Database};
use capa_webhooks_core::id::PartnerId;
use capa_webhooks_store::conformance::Engine;
use capa_webhooks_store::conformance::fixture::{Scene, event, for_an_hour};
use capa_webhooks_store::postgres::{Options, PostgresStore};
use capa_webhooks_store::seal::MasterKey;
use capa_webhooks_store::{Accept, Accepted, Fate, InboxId, InboxLook, Published, Refusal, Store as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio_postgres::{Client, NoTls};

pub(crate) const LOOK: InboxLook = InboxLook { rows: 1000, bytes: 1 << 20, payload: 1 << 18 };

pub(crate) struct Postgres {
    pub(crate) database: Database,
}

impl Postgres {
    pub(crate) fn new() -> Self {
        Self { database: Cluster::shared().create_database().unwrap() }
    }

    pub(crate) async fn node(&self, url: &str) -> PostgresStore {
        static DRAWN: AtomicU64 = AtomicU64::new(0);
        let entropy = Arc::new(|bytes: &mut [u8]| {
            for chunk in bytes.chunks_mut(8) {
                let drawn = DRAWN.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed).to_le_bytes();
                chunk.copy_from_slice(&drawn[..chunk.len()]);
            }
        });
        PostgresStore::open(url, Options::new(MasterKey::new([7; 32]), entropy)).await.unwrap()
    }
}

#[async_trait]
impl Engine for Postgres {
    type Store = PostgresStore;

    async fn open(&self) -> PostgresStore {
        self.node(self.database.url()).await
    }
}

pub(crate) async fn scene() -> (Scene<Postgres>, PartnerId) {
    let mut scene = Scene::new(Postgres::new()).await;
    let partner = scene.partner().await;
    (scene, partner)
}

/// Somebody else in the same database.
pub(crate) async fn client(scene: &Scene<Postgres>) -> Client {
    let (client, connection) = tokio_postgres::connect(scene.engine.database.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// The payload of an event that differs for every number.
pub(crate) fn payload(number: u64) -> String {
    String::from_utf8(event("u-1", Some("t-1"), number).body.to_vec()).unwrap()
}

pub(crate) fn call(partner: PartnerId, number: u64) -> String {
    format!("SELECT capa_webhooks.publish('{partner}', '{}')", payload(number))
}

pub(crate) async fn publish(client: &Client, partner: PartnerId, number: u64) -> InboxId {
    InboxId(client.query_one(&call(partner, number), &[]).await.unwrap().get(0))
}

/// What a node makes of a row.
pub(crate) fn judged(scene: &mut Scene<Postgres>, row: &Published) -> (InboxId, Accept) {
    let mut of_row = event("u-1", Some("t-1"), 1);
    of_row.body = row.payload.clone().unwrap();
    let idempotency = row.idempotency_key.as_deref().and_then(for_an_hour);
    (row.id, Accept { key: scene.key(row.partner), event: of_row, idempotency, fate: Fate::Queue(None) })
}

pub(crate) async fn drain(scene: &mut Scene<Postgres>) -> Vec<Option<Accepted>> {
    let rows = scene.store().inbox(LOOK).await.unwrap();
    let batch = rows.iter().map(|row| judged(scene, row)).collect();
    scene.store().accept_inbox(batch, scene.now).await.unwrap()
}

pub(crate) fn refusal(row: Published) -> Refusal {
    Refusal { row, code: "NOT_FOUND".to_owned(), message: "Partner not found".to_owned(), details: "[]".to_owned() }
}

pub(crate) async fn count(client: &Client, what: &str) -> i64 {
    client.query_one(&format!("SELECT count(*) FROM capa_webhooks.{what}"), &[]).await.unwrap().get(0)
}

/// Waits until a statement of the store waits for a lock.
pub(crate) async fn wait_for_waiting(client: &Client) {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 0 {
        tokio::task::yield_now().await;
    }
}
