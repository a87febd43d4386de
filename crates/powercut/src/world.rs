//! One disk, the store on it, and the power going off again and again.

use crate::calls::{Answer, Call, Draw};
use crate::disk::{Disk, Moment, Tally};
use crate::ledger::{Change, Checked, Ledger, erase};
use crate::report::Report;
use crate::vfs::Mount;
use crate::{Options, Sabotage};
use capa_webhooks_core::id::{LifeId, NotificationKey, PartnerId};
use capa_webhooks_core::notification::{State, Status, Turn};
use capa_webhooks_core::time::Timestamp;
use capa_webhooks_store::conformance::fixture::{BEGIN, Random, all};
use capa_webhooks_store::seal::MasterKey;
use capa_webhooks_store::sqlite::{self, SqliteStore};
use capa_webhooks_store::{Claim, Expiry, Job, Store};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tempfile::TempDir;

/// From so many notifications on, old ones are removed more often.
const MANY: usize = 40;

pub(crate) struct World {
    options: Options,
    random: Random,
    disk: Arc<Disk>,
    mount: Mount,
    folder: TempDir,
    ledger: Ledger,
    life: LifeId,
    now: Timestamp,
    held: Vec<Job>,
    /// Pages of the log in a step of its copying.
    step: usize,
}

impl World {
    /// A new disk without a store.
    pub(crate) fn new(seed: u64, options: Options) -> std::io::Result<Self> {
        let mut random = Random(seed);
        let disk = Arc::new(Disk::new(random.number()));
        if options.sabotage == Some(Sabotage::LyingDisk) {
            disk.lie();
        }
        let folder = TempDir::with_prefix("capa-powercut-")?;
        let mount = Mount::new(folder.path(), Arc::clone(&disk));
        Ok(Self {
            options,
            disk,
            mount,
            folder,
            ledger: Ledger::default(),
            life: LifeId::from_bytes([0; 16]),
            now: Timestamp::from_millis(BEGIN),
            held: Vec::new(),
            step: 1 + random.below(8),
            random,
        })
    }

    /// Starts the store on what the last cut left, checks it, works with it, and cuts the power.
    pub(crate) async fn until_the_next_cut(&mut self, report: &mut Report) -> Result<(), String> {
        // Making a store takes some tens of calls, recovering one a few more.
        let is_new = self.ledger.partners().is_empty();
        let while_opening = self.random.once_in(if is_new { 2 } else { 5 });
        if while_opening {
            self.disk.cut_after(self.random.number() % if is_new { 20 } else { 100 });
        }
        let store = self.open()?;
        report.add(self.ledger.check(&store, &self.disk).await?);
        if !while_opening {
            let calls = self.random.number() % 400;
            // A third of them within a sync: a call that has no answer yet may have become durable whole.
            if self.random.once_in(3) {
                self.disk.cut_in_sync_after(calls);
            } else {
                self.disk.cut_after(calls);
            }
        }
        self.begin(&store).await?;
        for _ in 0..self.random.below(25) {
            if self.disk.is_dark() {
                break;
            }
            self.now = self.now.plus(Duration::from_millis(self.random.number() % 15_000));
            self.step(&store, report).await?;
        }
        // At times the store is closed before the power goes, and the cut may be within its closing.
        let closed = self.random.once_in(4);
        if !closed {
            self.disk.cut_now();
        }
        drop(store);
        self.disk.cut_now();
        let (moment, tally) = self.disk.power_on();
        report.count(moment, tally);
        Ok(())
    }

    /// Starts the store on what the last cut left, and checks it.
    pub(crate) async fn last_look(&mut self, report: &mut Report) -> Result<(), String> {
        let store = self.open()?;
        report.add(self.ledger.check(&store, &self.disk).await?);
        Ok(())
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("store.db")
    }

    fn open(&mut self) -> Result<SqliteStore, String> {
        let entropy = Mutex::new(Random(self.random.number()));
        let fill = move |bytes: &mut [u8]| {
            let mut random = entropy.lock().unwrap_or_else(PoisonError::into_inner);
            bytes.fill_with(|| random.bytes::<1>()[0]);
        };
        let disk = sqlite::Disk::through(self.mount.vfs(), self.step);
        let disk = match self.options.sabotage {
            Some(Sabotage::SynchronousOff) => disk.synchronous("OFF"),
            Some(Sabotage::SynchronousNormal) => disk.synchronous("NORMAL"),
            _ => disk,
        };
        let options = sqlite::Options::new(MasterKey::new([7; 32]), Arc::new(fill));
        let options = sqlite::Options { disk, readers: 2, run_length: 20, fan_in: 2, search_row: 5, ..options };
        SqliteStore::open(&self.path(), options).map_err(|error| format!("the store does not open: {error}"))
    }

    /// A new life takes over all that is due.
    async fn begin(&mut self, store: &SqliteStore) -> Result<(), String> {
        self.held.clear();
        self.life = LifeId::v7(self.now, self.random.bytes());
        store.begin_life(self.life, self.now).await.map_err(|error| format!("a life cannot begin: {error}"))?;
        self.claim(store).await
    }

    async fn step(&mut self, store: &SqliteStore, report: &mut Report) -> Result<(), String> {
        match self.random.below(20) {
            0 | 1 => self.claim(store).await,
            2..6 if self.ledger.present().count() > MANY => self.remove(store).await,
            8 => self.erase(store, report).await,
            6 | 7 => {
                let room = [0, 0, 3_000, 30_000][self.random.below(4)];
                self.disk.limit(Some(room));
                let done = self.group(store, true, report).await;
                self.disk.limit(None);
                done
            }
            _ => self.group(store, false, report).await,
        }
    }

    /// Some callers at the same time.
    async fn group(&mut self, store: &SqliteStore, full: bool, report: &mut Report) -> Result<(), String> {
        let mut calls = Vec::new();
        let (taken, used) = <(BTreeSet<NotificationKey>, BTreeSet<String>)>::default();
        let mut draw = Draw {
            random: &mut self.random,
            ledger: &self.ledger,
            life: self.life,
            now: self.now,
            held: &mut self.held,
            taken,
            used,
        };
        for _ in 0..=draw.random.below(5) {
            calls.push(draw.call());
        }
        let (life, now, disk) = (self.life, self.now, &self.disk);
        let asked = calls.iter().map(|(call, _)| async move {
            let answer = call.ask(store, life, now).await;
            // Asked after the answer is there: what was answered before the cut counts as answered.
            (answer, disk.is_dark())
        });
        let answers = all(asked.collect()).await;
        for ((call, change), (answer, dark)) in calls.into_iter().zip(answers) {
            if dark && self.options.sabotage != Some(Sabotage::AnswerBeforeCommit) {
                report.in_doubt += 1;
                self.ledger.in_doubt(change);
                continue;
            }
            let done = match answer {
                Answer::Done => true,
                Answer::Unchanged => false,
                Answer::Unavailable(_) if full => {
                    report.refused += 1;
                    false
                }
                Answer::Unavailable(text) => {
                    return Err(format!("there is room, but the store is unavailable: {text}"));
                }
                Answer::Wrong(text) => return Err(text),
            };
            self.held.extend(call.held_after(done, life, now));
            if done {
                report.acknowledge(&call);
                self.ledger.done(change, store).await?;
            } else {
                self.ledger.refused(&change);
            }
        }
        Ok(())
    }

    /// Takes all that is due and owned by nobody. It must be what the ledger says.
    async fn claim(&mut self, store: &SqliteStore) -> Result<(), String> {
        let until = self.now.plus(Duration::from_secs([0, 3600][self.random.below(2)]));
        let claim =
            Claim { life: self.life, until, room: 10_000, bytes: usize::MAX, rooms: BTreeMap::new(), total: 10_000 };
        let claimed = store.claim(claim).await;
        let held: BTreeSet<NotificationKey> = self.held.iter().map(|job| job.key).collect();
        let due = |(key, known): (NotificationKey, &crate::ledger::Known)| match known.state {
            State::Pending(turn) if turn.due <= until && !held.contains(&key) => {
                Some((key, (turn, known.body.clone())))
            }
            _ => None,
        };
        if self.disk.is_dark() {
            return Ok(());
        }
        let jobs = claimed.map_err(|error| format!("a claim failed: {error}"))?.jobs;
        let expected: BTreeMap<NotificationKey, (Turn, _)> = self.ledger.present().filter_map(due).collect();
        let found: BTreeMap<_, _> = jobs.iter().map(|job| (job.key, (job.turn, job.body.clone()))).collect();
        if found != expected {
            let keys = |of: &BTreeMap<NotificationKey, (Turn, _)>| of.keys().copied().collect::<Vec<_>>();
            return Err(format!("a claim gave {:?}, and due was {:?}", keys(&found), keys(&expected)));
        }
        self.held.extend(jobs);
        Ok(())
    }

    /// Erases a partner that has no notifications: the one case in which the log is cut to nothing.
    async fn erase(&mut self, store: &SqliteStore, report: &mut Report) -> Result<(), String> {
        let has_none = |id: &PartnerId| self.ledger.present().all(|(key, _)| key.partner != *id);
        let Some(id) = self.ledger.partners().into_iter().find(has_none) else { return Ok(()) };
        let asked = erase(store, id, self.now).await;
        if self.disk.is_dark() {
            self.ledger.in_doubt(Change::Erasure(id));
            return Ok(());
        }
        asked?;
        report.erased += 1;
        self.ledger.done(Change::Erasure(id), store).await
    }

    /// Removes what is old and settled.
    async fn remove(&mut self, store: &SqliteStore) -> Result<(), String> {
        let wish = self.now.minus(Duration::from_secs(60));
        let pending = self.ledger.present().filter(|(_, known)| known.state.status() == Status::Pending);
        let before = pending.map(|(_, known)| known.accepted_at).min().map_or(wish, |oldest| oldest.min(wish));
        let old = self.ledger.present().filter(|(_, known)| known.accepted_at < before);
        let candidates: Vec<NotificationKey> = old.map(|(key, _)| key).collect();
        let limit = 1 + self.random.below(60);
        let change = Change::Removal(candidates.clone(), candidates.len().min(limit));
        let long_ago = Timestamp::from_millis(0);
        let asked = store.expire(Expiry { notifications_before: wish, idempotency_before: long_ago, limit }).await;
        if self.disk.is_dark() {
            self.ledger.in_doubt(change);
            return Ok(());
        }
        asked.map_err(|error| format!("removing failed: {error}"))?;
        self.ledger.done(change, store).await
    }
}

impl Report {
    fn count(&mut self, moment: Moment, tally: Tally) {
        self.cuts += 1;
        match moment {
            Moment::Commit => self.in_commit += 1,
            Moment::Checkpoint => self.in_checkpoint += 1,
            Moment::Creation => self.in_creation += 1,
            Moment::Rest => self.at_rest += 1,
        }
        self.kept += tally.kept;
        self.lost += tally.lost;
        self.torn += tally.torn;
    }

    fn add(&mut self, checked: Checked) {
        self.events_checked += checked.events;
        self.attempts_checked += checked.attempts;
        self.whole += checked.whole;
        self.absent += checked.absent;
    }

    fn acknowledge(&mut self, call: &Call) {
        match call {
            Call::Accept(batch, _) => self.accepted += batch.len() as u64,
            Call::Record(batch) => self.recorded += batch.len() as u64,
            Call::Retry(_) => self.retried += 1,
            Call::Create(_) | Call::Rename(..) => {}
        }
    }
}
