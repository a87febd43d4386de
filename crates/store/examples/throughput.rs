//! Measures what the store does by itself: accept and record, sealed, one batch at a time and many callers at once.
//!
//! `cargo run --release -p capa-webhooks-store --example throughput [folder]`

#![expect(clippy::unwrap_used, reason = "a measurement that fails may stop")]

use bytes::Bytes;
use capa_webhooks_core::event::Event;
use capa_webhooks_core::id::{KeyId, LifeId, NotificationId, NotificationKey, PartnerId, SettingsId};
use capa_webhooks_core::notification::{End, State, Turn};
use capa_webhooks_core::outcome::Answer;
use capa_webhooks_core::time::Timestamp;
use capa_webhooks_store::seal::MasterKey;
use capa_webhooks_store::sqlite::{Commit, Options, SqliteStore};
use capa_webhooks_store::{Accept, Attempt, Fate, Happened, NewPartner, PartnerKey, Record, SecretText, Store};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const EVENTS: usize = 200_000;

#[expect(clippy::disallowed_methods, reason = "measures, decides nothing")]
fn instant() -> Instant {
    Instant::now()
}

struct Bench {
    store: Arc<SqliteStore>,
    life: LifeId,
    partners: Vec<PartnerId>,
    drawn: AtomicU64,
    commits: Arc<Mutex<Vec<Commit>>>,
    now: Timestamp,
}

impl Bench {
    async fn new(folder: &std::path::Path, partners: usize) -> Self {
        let origin = instant();
        let commits: Arc<Mutex<Vec<Commit>>> = Arc::default();
        let seen = Arc::clone(&commits);
        let counter = AtomicU64::new(1);
        let mut options = Options::new(
            MasterKey::new([7; 32]),
            Arc::new(move |bytes: &mut [u8]| {
                for chunk in bytes.chunks_mut(8) {
                    let mixed = counter.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                    chunk.copy_from_slice(&mixed.to_le_bytes()[..chunk.len()]);
                }
            }),
        );
        options.stopwatch = Arc::new(move || u64::try_from(origin.elapsed().as_micros()).unwrap());
        options.on_commit = Arc::new(move |commit| seen.lock().unwrap().push(*commit));
        let store = SqliteStore::open(&folder.join("bench.db"), options).unwrap();
        let now = Timestamp::from_millis(1_760_000_000_000);
        let life = LifeId::v4([1; 16]);
        store.begin_life(life, now).await.unwrap();
        let mut ids = Vec::new();
        for number in 0..u8::try_from(partners).unwrap() {
            let id = PartnerId::from_bytes([number; 16]);
            let new = NewPartner {
                id,
                name: "bench".to_owned(),
                settings: SettingsId::v4([number; 16]),
                url: Some("https://receiver.example/hook".to_owned()),
                secret: SecretText("0".repeat(64).into()),
                key: PartnerKey { id: KeyId::from_bytes([number; 16]), partner: id, secret_hash: [0; 32] },
            };
            store.create_partner(new, now).await.unwrap();
            ids.push(id);
        }
        Self { store: Arc::new(store), life, partners: ids, drawn: AtomicU64::new(0), commits, now }
    }

    fn batch(&self, size: usize) -> Vec<Accept> {
        (0..size)
            .map(|_| {
                let drawn = self.drawn.fetch_add(1, Ordering::Relaxed);
                let partner = self.partners[usize::try_from(drawn).unwrap() % self.partners.len()];
                let now = self.now.plus(Duration::from_millis(drawn / 40));
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
        self.commits.lock().unwrap().clear();
        let rounds = EVENTS / tasks / size;
        let begun = instant();
        let calls: Vec<_> = (0..tasks)
            .map(|_| {
                let bench = Arc::clone(self);
                tokio::spawn(async move {
                    let mut slowest = Vec::with_capacity(rounds);
                    let mut before: Vec<NotificationKey> = Vec::new();
                    for _ in 0..rounds {
                        let batch = bench.batch(size);
                        let keys: Vec<_> = batch.iter().map(|accept| accept.key).collect();
                        let records: Vec<_> = before.iter().map(|key| bench.outcome(*key)).collect();
                        let call = instant();
                        let accept = bench.store.accept(batch, bench.now);
                        let record = bench.store.record(bench.life, &records);
                        let (accepted, recorded) = tokio::join!(accept, record);
                        slowest.push(call.elapsed());
                        assert!(accepted.unwrap().len() == size && recorded.unwrap().len() == before.len());
                        before = keys;
                    }
                    slowest
                })
            })
            .collect();
        let mut times = Vec::new();
        for call in calls {
            times.extend(call.await.unwrap());
        }
        let took = begun.elapsed();
        times.sort_unstable();
        let events = rounds * tasks * size;
        let commits = self.commits.lock().unwrap();
        let in_commits: Duration = commits.iter().map(|commit| commit.took).sum();
        println!(
            "{tasks:>4} callers × {size:>4}: {:>7.0} events/s, {:>6} commits of {:>6.1} rows and {:>7.0} µs, {:>3.0} % of the \
             time in them; a call p50 {:?} p99 {:?} max {:?}",
            f64::from(u32::try_from(events).unwrap()) / took.as_secs_f64(),
            commits.len(),
            f64::from(u32::try_from(commits.iter().map(|commit| commit.rows).sum::<usize>()).unwrap())
                / f64::from(u32::try_from(commits.len()).unwrap()),
            in_commits.as_secs_f64() * 1e6 / f64::from(u32::try_from(commits.len()).unwrap()),
            100.0 * in_commits.as_secs_f64() / took.as_secs_f64(),
            times[times.len() / 2],
            times[times.len() * 99 / 100],
            times[times.len() - 1],
        );
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let folder = std::env::args().nth(1).map_or_else(std::env::temp_dir, std::path::PathBuf::from);
    for partners in [1, 50] {
        let folder = folder.join(format!("capa-webhooks-throughput-{}-{partners}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let bench = Arc::new(Bench::new(&folder, partners).await);
        println!("{partners} partners");
        for (tasks, size) in [(1, 64), (1, 1024), (64, 1), (512, 1)] {
            bench.run(tasks, size).await;
        }
        drop(bench);
        let bytes = std::fs::metadata(folder.join("bench.db")).unwrap().len();
        println!("{} bytes an event", bytes / u64::try_from(4 * EVENTS).unwrap());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
