//! Measures what the PostgreSQL engine does by itself: accept and record in batches, on a durable cluster of its own.
//!
//! `cargo run --release -p capa-webhooks-store --example throughput_postgres [hold]`
//!
//! With `hold` another session keeps a transaction open all the time, so that nothing that is deleted can be cleaned up.

#![expect(clippy::unwrap_used, reason = "a measurement that fails may stop")]

use bytes::Bytes;
use capa_webhooks_cluster::{Cluster, Options as ClusterOptions};
use capa_webhooks_core::event::Event;
use capa_webhooks_core::id::{KeyId, LifeId, NotificationId, NotificationKey, PartnerId, SettingsId};
use capa_webhooks_core::notification::{End, State, Turn};
use capa_webhooks_core::outcome::Answer;
use capa_webhooks_core::time::Timestamp;
use capa_webhooks_store::postgres::{Options, PostgresStore};
use capa_webhooks_store::seal::MasterKey;
use capa_webhooks_store::{
    Accept, Accepted, Attempt, Fate, Happened, NewPartner, PartnerKey, Record, Recorded, SecretText, Store,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio_postgres::NoTls;

const EVENTS: usize = 60_000;

#[expect(clippy::disallowed_methods, reason = "measures, decides nothing")]
fn instant() -> Instant {
    Instant::now()
}

struct Bench {
    store: PostgresStore,
    life: LifeId,
    partners: Vec<PartnerId>,
    drawn: AtomicU64,
    now: Timestamp,
    /// The server's first process.
    postmaster: u32,
}

impl Bench {
    async fn new(url: &str, partners: u32) -> Self {
        let counter = AtomicU64::new(1);
        let options = Options::new(
            MasterKey::new([7; 32]),
            Arc::new(move |bytes: &mut [u8]| {
                for chunk in bytes.chunks_mut(8) {
                    let mixed = counter.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                    chunk.copy_from_slice(&mixed.to_le_bytes()[..chunk.len()]);
                }
            }),
        );
        let store = PostgresStore::open(url, options).await.unwrap();
        let now = Timestamp::from_millis(1_760_000_000_000);
        let life = LifeId::v4([1; 16]);
        store.begin_life(life, now).await.unwrap();
        let mut ids = Vec::new();
        for number in 0..partners {
            let mut bytes = [7; 16];
            bytes[..4].copy_from_slice(&number.wrapping_mul(0x9e37_79b9).to_be_bytes());
            let id = PartnerId::from_bytes(bytes);
            let new = NewPartner {
                id,
                name: "bench".to_owned(),
                settings: SettingsId::v4(bytes),
                url: Some("https://receiver.example/hook".to_owned()),
                secret: SecretText("0".repeat(64).into()),
                key: PartnerKey { id: KeyId::from_bytes(bytes), partner: id, secret_hash: [0; 32] },
            };
            store.create_partner(new, now).await.unwrap();
            ids.push(id);
        }
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
        let driver = tokio::spawn(connection);
        let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
        let postmaster = stat(u32::try_from(pid).unwrap()).unwrap().parent;
        driver.abort();
        Self { store, life, partners: ids, drawn: AtomicU64::new(0), now, postmaster }
    }

    fn batch(&self, size: usize) -> Vec<Accept> {
        (0..size)
            .map(|_| {
                let drawn = self.drawn.fetch_add(1, Ordering::Relaxed);
                let partner = self.partners[usize::try_from(drawn).unwrap() % self.partners.len()];
                let now = self.now.plus(Duration::from_millis(drawn / 8));
                let mut random = [0; 10];
                random[..8].copy_from_slice(&drawn.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
                let transaction = format!("8f14e45f-ceea-467f-9c4d-{drawn:012}");
                let user = format!("user-{:08}", drawn % 100_000);
                let body = format!(
                    "{{\"type\":\"TRANSACTION\",\"event\":\"COMPLETED_ON_RAMP\",\"externalUserId\":\"{user}\",\
                     \"transactionId\":\"{transaction}\",\"firstName\":\"Maria\",\"lastName\":\"Gonzalez\",\
                     \"blockchain\":\"POLYGON\",\"cryptoCurrency\":\"USDC\",\"fiatCurrency\":\"MXN\",\
                     \"fiatAmount\":\"1500.00\",\"cryptoAmount\":\"84.213377\",\"exchangeRate\":\"17.81\"}}"
                );
                Accept {
                    key: NotificationKey { partner, id: NotificationId::v7(now, random) },
                    event: Event {
                        kind: "TRANSACTION".to_owned(),
                        name: "COMPLETED_ON_RAMP".to_owned(),
                        body: body.into(),
                        external_user_id: user,
                        transaction_id: Some(transaction),
                    },
                    idempotency: None,
                    fate: Fate::Queue(Some(self.life)),
                }
            })
            .collect()
    }

    fn outcome(&self, key: NotificationKey) -> Record {
        let answer = Answer::Response { status: 200, body: Bytes::from_static(b"{\"ok\":true}"), retry_after: None };
        Record {
            key,
            turn: Turn::first(self.now),
            happened: Happened::Attempted(Attempt {
                started_at: self.now,
                duration: Duration::from_millis(23),
                url: "https://receiver.example/hook".to_owned(),
                answer,
            }),
            next: State::Settled { cycle: 1, end: End::Sent },
            keep: false,
        }
    }

    /// `tasks` callers, each with batches of `size`: accept, then record. A caller records the batch before while it
    /// accepts the next, as the server does.
    async fn run(self: &Arc<Self>, tasks: usize, size: usize) {
        let rounds = EVENTS / tasks / size;
        let (begun, server, ours) = (instant(), server_cpu(self.postmaster), own_cpu());
        let calls: Vec<_> = (0..tasks)
            .map(|_| {
                let bench = Arc::clone(self);
                tokio::spawn(async move {
                    let mut times = Vec::with_capacity(rounds);
                    let mut before: Vec<NotificationKey> = Vec::new();
                    for _ in 0..rounds {
                        let batch = bench.batch(size);
                        let keys: Vec<_> = batch.iter().map(|accept| accept.key).collect();
                        let records: Vec<_> = before.iter().map(|key| bench.outcome(*key)).collect();
                        let call = instant();
                        let accept = bench.store.accept(batch, bench.now);
                        let record = bench.store.record(bench.life, &records);
                        let (accepted, recorded) = tokio::join!(accept, record);
                        times.push(call.elapsed());
                        assert!(accepted.unwrap().iter().all(|answer| *answer == Accepted::New));
                        assert!(recorded.unwrap().iter().all(|answer| *answer == Recorded::Applied));
                        before = keys;
                    }
                    let records: Vec<_> = before.iter().map(|key| bench.outcome(*key)).collect();
                    bench.store.record(bench.life, &records).await.unwrap();
                    times
                })
            })
            .collect();
        let mut times = Vec::new();
        for call in calls {
            times.extend(call.await.unwrap());
        }
        let took = begun.elapsed();
        times.sort_unstable();
        let events = u32::try_from(rounds * tasks * size).unwrap();
        println!(
            "{tasks:>3} callers × {size:>4}: {:>6.0} events/s; CPU of an event: PostgreSQL {:>4.0} µs, ours {:>3.0} µs; \
             a call p50 {:?} p99 {:?} max {:?}",
            f64::from(events) / took.as_secs_f64(),
            (server_cpu(self.postmaster) - server).as_secs_f64() * 1e6 / f64::from(events),
            (own_cpu() - ours).as_secs_f64() * 1e6 / f64::from(events),
            times[times.len() / 2],
            times[times.len() * 99 / 100],
            times[times.len() - 1],
        );
    }
}

/// What the system tells of a process.
struct Stat {
    parent: u32,
    /// Of itself.
    cpu: Duration,
    /// Of its children that have ended.
    ended: Duration,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<u64> =
        text[text.rfind(')')? + 2..].split_ascii_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
    let ticks = |at: usize| Duration::from_millis((fields[at] + fields[at + 1]) * 10);
    Some(Stat { parent: u32::try_from(fields[1]).ok()?, cpu: ticks(11), ended: ticks(13) })
}

/// All processes of the server, those that have ended included.
fn server_cpu(postmaster: u32) -> Duration {
    let own = stat(postmaster).unwrap();
    let processes = std::fs::read_dir("/proc").unwrap();
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let children = pids.filter_map(stat).filter(|stat| stat.parent == postmaster).map(|stat| stat.cpu);
    own.cpu + own.ended + children.sum::<Duration>()
}

fn own_cpu() -> Duration {
    stat(std::process::id()).unwrap().cpu
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let hold = std::env::args().any(|argument| argument == "hold");
    let cluster = Cluster::start(ClusterOptions { durable: true, ..ClusterOptions::default() }).unwrap();
    for partners in [1, 100] {
        let database = cluster.create_database().unwrap();
        let bench = Arc::new(Bench::new(database.url(), partners).await);
        let (holder, connection) = tokio_postgres::connect(database.url(), NoTls).await.unwrap();
        let driver = tokio::spawn(connection);
        if hold {
            holder.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT pg_current_xact_id()").await.unwrap();
        }
        println!("{partners} partners{}", if hold { ", a transaction held open elsewhere" } else { "" });
        for (tasks, size) in [(1, 50), (2, 50), (4, 50), (2, 200), (16, 10)] {
            bench.run(tasks, size).await;
        }
        let looked = instant();
        let backlog = bench.store.backlog().await.unwrap();
        println!("backlog {backlog:?} in {:?}", looked.elapsed());
        let looked = instant();
        bench.store.heartbeat(bench.life).await.unwrap();
        println!("a heartbeat in {:?}", looked.elapsed());
        println!("examined: {:?}", bench.store.examine().await.unwrap());
        driver.abort();
    }
}
