//! Random operations, judged by the model.
//!
//! Every step does one random thing to the engine and to the model, and compares the answers; every few steps the whole
//! of what can be asked is compared, and the store is asked to examine itself. Time is virtual. The seed is printed; with
//! `CAPA_SEED` in the environment the last case runs that seed.

use super::Engine;
use super::fixture::{Random, Scene, attempted, event, everything, ok, status, ten_seconds, timeout, unsendable};
use super::model::Model;
use crate::{
    Accept, Claim, Erased, Expiry, Fate, IdempotencyKey, Job, ListQuery, PageStart, PartnerChange, PartnerKey, Record,
    SingleRetry, Store,
};
use capa_webhooks_core::id::{KeyId, LifeId, NotificationKey, PartnerId};
use capa_webhooks_core::notification::{NotSent, Status, Turn};
use capa_webhooks_core::settings::{AckRule, RateLimit, SettingsChange};
use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::time::Duration;

const STEPS: usize = 1000;

/// A fixed seed.
pub async fn operations_seed_1<E: Engine>(engine: E) {
    operations(engine, 1).await;
}

/// A fixed seed.
pub async fn operations_seed_2<E: Engine>(engine: E) {
    operations(engine, 2).await;
}

/// A fixed seed.
pub async fn operations_seed_3<E: Engine>(engine: E) {
    operations(engine, 3).await;
}

/// A fixed seed.
pub async fn operations_seed_4<E: Engine>(engine: E) {
    operations(engine, 4).await;
}

/// The seed of `CAPA_SEED`, or a fixed one.
pub async fn operations_seed_from_the_environment<E: Engine>(engine: E) {
    let seed = std::env::var("CAPA_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(5);
    operations(engine, seed).await;
}

async fn operations<E: Engine>(engine: E, seed: u64) {
    println!("seed {seed}: run again with CAPA_SEED={seed}");
    let mut scene = Scene::seeded(engine, seed).await;
    let mut world = World::default();
    world.model.begin_life(scene.life);
    world.lives.push(scene.life);
    for step in 0..STEPS {
        world.step(&mut scene).await;
        if step % 25 == 0 {
            world.compare(&mut scene).await;
        }
    }
    world.compare(&mut scene).await;
}

/// The model, and what was seen so far to choose from.
#[derive(Default)]
struct World {
    model: Model,
    lives: Vec<LifeId>,
    partners: Vec<PartnerId>,
    keys: Vec<NotificationKey>,
    api_keys: Vec<KeyId>,
    /// Jobs that a life held at some time: to be recorded in time, late, or by another life.
    held: Vec<(LifeId, Job)>,
}

impl World {
    async fn step<E: Engine>(&mut self, scene: &mut Scene<E>) {
        let passes = [0, 1, 5, 900, 10_000, 61_000][scene.random.below(6)];
        scene.pass(Duration::from_millis(passes));
        if self.partners.len() < 2 {
            return self.create_partner(scene).await;
        }
        match scene.random.below(100) {
            0..30 => self.accept(scene).await,
            30..60 => self.record(scene).await,
            60..72 => self.claim(scene).await,
            72..75 => self.release(scene).await,
            75..84 => self.retry(scene).await,
            84..88 => self.change_partner(scene).await,
            88..91 => self.api_key(scene).await,
            91..94 => self.lives(scene).await,
            94..96 => self.expire(scene).await,
            96..98 => self.create_partner(scene).await,
            98 if scene.random.once_in(4) => self.erase(scene).await,
            98 => {}
            _ => scene.reopen().await,
        }
    }

    fn partner(&self, random: &mut Random) -> PartnerId {
        // Mostly the newest ones: the older they are, the more of them are erased.
        let newest = &self.partners[self.partners.len().saturating_sub(4)..];
        *random.pick(newest).expect("there are partners")
    }

    fn life(&self, scene: &mut Scene<impl Engine>) -> LifeId {
        if scene.random.once_in(8) { *scene.random.pick(&self.lives).expect("one began") } else { scene.life }
    }

    async fn accept<E: Engine>(&mut self, scene: &mut Scene<E>) {
        let mut batch = Vec::new();
        for _ in 0..=scene.random.below(6) {
            let partner = if scene.random.once_in(40) {
                PartnerId::v4(scene.random.bytes())
            } else {
                self.partner(&mut scene.random)
            };
            let life = self.life(scene);
            let random = &mut scene.random;
            let user = format!("u-{}", random.below(3));
            let transaction = random.once_in(2).then(|| format!("t-{}", random.below(3)));
            let event = event(&user, transaction.as_deref(), u64::try_from(random.below(2)).expect("fits"));
            let idempotency = random
                .once_in(3)
                .then(|| IdempotencyKey { key: format!("k-{}", random.below(5)), retention: Duration::from_secs(600) });
            let fate = match random.below(10) {
                0 => Fate::NotSent(*random.pick(&NotSent::ALL).expect("there are some")),
                1..4 => Fate::Queue(None),
                _ => Fate::Queue(Some(life)),
            };
            let key = scene.key(partner);
            if let Fate::Queue(Some(life)) = fate {
                self.held.push((life, Job { key, turn: Turn::first(scene.now), body: event.body.clone() }));
            }
            self.keys.push(key);
            batch.push(Accept { key, event, idempotency, fate });
        }
        let expected: Vec<_> = batch.iter().map(|accept| self.model.accept(accept, scene.now)).collect();
        assert_eq!(scene.store().accept(batch, scene.now).await.expect("accepts"), expected);
    }

    async fn record<E: Engine>(&mut self, scene: &mut Scene<E>) {
        let mut batches: BTreeMap<LifeId, Vec<Record>> = BTreeMap::new();
        for _ in 0..=scene.random.below(6) {
            if self.held.is_empty() {
                break;
            }
            let at = scene.random.below(self.held.len());
            // What was recorded once comes in again, also when the notification has long gone on.
            let again = scene.random.once_in(3);
            let (holder, job) = if again { self.held[at].clone() } else { self.held.swap_remove(at) };
            let life = if scene.random.once_in(12) { self.life(scene) } else { holder };
            let record = random_outcome(scene, &job);
            if let capa_webhooks_core::notification::State::Pending(turn) = record.next
                && record.keep
            {
                self.held.push((life, Job { turn, ..job }));
            }
            batches.entry(life).or_default().push(record);
        }
        for (life, batch) in batches {
            let expected: Vec<_> = batch.iter().map(|record| self.model.record(life, record)).collect();
            assert_eq!(scene.store().record(life, &batch).await.expect("records"), expected);
        }
    }

    async fn claim<E: Engine>(&mut self, scene: &mut Scene<E>) {
        let mut rooms = BTreeMap::new();
        if scene.random.once_in(2) {
            rooms.insert(self.partner(&mut scene.random), scene.random.below(3));
        }
        let life = self.life(scene);
        let (room, total) = (scene.random.below(6), scene.random.below(12));
        let bytes = if scene.random.once_in(2) { usize::MAX } else { scene.random.below(3_000) };
        let claim = Claim { life, until: scene.now, room, rooms, total, bytes };
        let claimed = scene.store().claim(claim.clone()).await.expect("claims");
        self.model.claimed(&claim, &claimed);
        self.held.extend(claimed.jobs.into_iter().map(|job| (life, job)));
    }

    async fn release<E: Engine>(&mut self, scene: &mut Scene<E>) {
        let life = self.life(scene);
        let keys: Vec<_> = (0..3).filter_map(|_| scene.random.pick(&self.keys).copied()).collect();
        self.model.release(life, &keys);
        scene.store().release(life, keys).await.expect("releases");
    }

    async fn retry<E: Engine>(&mut self, scene: &mut Scene<E>) {
        if self.keys.is_empty() {
            return;
        }
        // At times many of one partner, beyond what a minute allows.
        let partner = self.partner(&mut scene.random);
        let most = if scene.random.once_in(4) { 16 } else { 3 };
        for _ in 0..most {
            let failed = self.model.list(&ListQuery { status: Some(Status::Failed), ..everything(partner) }).rows;
            let any = scene.random.once_in(8);
            let failed = scene.random.pick(&failed).filter(|_| !any);
            let key = match failed.map(|summary| NotificationKey { partner, id: summary.id }) {
                Some(key) => key,
                None => *scene.random.pick(&self.keys).expect("a notification was accepted before"),
            };
            let retry = SingleRetry { key, now: scene.now };
            assert_eq!(scene.store().retry(retry).await.expect("retries"), self.model.retry(&retry));
        }
    }

    async fn change_partner<E: Engine>(&mut self, scene: &mut Scene<E>) {
        let (partner, now) = (self.partner(&mut scene.random), scene.now);
        let random = &mut scene.random;
        if random.once_in(2) {
            let change = PartnerChange {
                name: random.once_in(2).then(|| format!("Name {}", random.below(100))),
                disabled: random.once_in(2).then(|| random.once_in(2)),
            };
            let expected = self.model.update_partner(partner, &change, now);
            assert_eq!(scene.store().update_partner(partner, change, now).await.expect("changes"), expected);
        } else {
            let change = SettingsChange {
                url: random
                    .once_in(2)
                    .then(|| (!random.once_in(6)).then(|| format!("https://{}.example/", random.below(9)))),
                ack_rule: random.once_in(3).then(|| random.once_in(2).then_some(AckRule::Any2xx)),
                retry_delays: random.once_in(3).then(|| Some(vec![Duration::ZERO, Duration::from_secs(60)])),
                attempt_timeout: random.once_in(3).then_some(Some(Duration::from_secs(7))),
                max_in_flight: random.once_in(3).then(|| NonZeroU16::new(u16::from(random.once_in(2)) * 7)),
                rate_limit: random
                    .once_in(3)
                    .then(|| RateLimit::from_thousandths(u32::from(random.once_in(2)) * 2_500)),
                events: random.once_in(3).then(|| Some(vec!["VERIFIED_USER".to_owned(), "REJECTED_KYC".to_owned()])),
            };
            let expected = self.model.change_settings(partner, &change, now);
            assert_eq!(scene.store().change_settings(partner, change, now).await.expect("changes"), expected);
        }
    }

    async fn api_key<E: Engine>(&mut self, scene: &mut Scene<E>) {
        let (partner, now) = (self.partner(&mut scene.random), scene.now);
        let random = &mut scene.random;
        match random.pick(&self.api_keys).copied() {
            Some(id) if random.once_in(2) => {
                let expected = self.model.revoke_partner_key(partner, id);
                assert_eq!(scene.store().revoke_partner_key(partner, id, now).await.expect("revokes"), expected);
            }
            known => {
                let id = known.filter(|_| random.once_in(4)).unwrap_or_else(|| KeyId::v4(random.bytes()));
                let key = PartnerKey { id, partner, secret_hash: random.bytes() };
                self.api_keys.push(id);
                let expected = self.model.add_partner_key(&key);
                assert_eq!(scene.store().add_partner_key(key, now).await.expect("adds"), expected);
            }
        }
    }

    async fn lives<E: Engine>(&mut self, scene: &mut Scene<E>) {
        if scene.random.once_in(2) {
            scene.store().end_life(scene.life, scene.now).await.expect("ends");
            self.model.end_life(scene.life);
            if scene.random.once_in(2) {
                return;
            }
        }
        let life = scene.next_life().await;
        self.model.begin_life(life);
        self.lives.push(life);
    }

    async fn expire<E: Engine>(&mut self, scene: &mut Scene<E>) {
        let expiry = Expiry {
            notifications_before: scene.now.minus(Duration::from_secs(1800)),
            idempotency_before: scene.now.minus(Duration::from_secs(900)),
            limit: 1 + scene.random.below(7),
        };
        let expected = self.model.expire(expiry.notifications_before, expiry.idempotency_before);
        let mut removed = (0, 0);
        loop {
            let expired = scene.store().expire(expiry).await.expect("expires");
            assert!(expired.notifications <= expiry.limit && expired.idempotency_keys <= expiry.limit);
            removed = (removed.0 + expired.notifications, removed.1 + expired.idempotency_keys);
            if !expired.more {
                break;
            }
        }
        assert_eq!(removed, expected);
    }

    async fn create_partner<E: Engine>(&mut self, scene: &mut Scene<E>) {
        let mut new = scene.new_partner();
        let again = scene.random.once_in(4);
        if let Some(taken) = scene.random.pick(&self.partners).filter(|_| again) {
            new.id = *taken;
        }
        let expected = self.model.create_partner(&new, scene.now);
        self.partners.push(new.id);
        self.api_keys.push(new.key.id);
        assert_eq!(scene.store().create_partner(new, scene.now).await.expect("creates"), expected);
    }

    async fn erase<E: Engine>(&mut self, scene: &mut Scene<E>) {
        let partner = self.partner(&mut scene.random);
        let known = self.model.erase_partner(partner, scene.now);
        let limit = 1 + scene.random.below(5);
        loop {
            match scene.store().erase_partner(partner, limit, scene.now).await.expect("erases") {
                Erased::More => {}
                Erased::Done => return assert!(known),
                Erased::UnknownPartner => return assert!(!known),
            }
        }
    }

    /// Compares all that can be asked.
    async fn compare<E: Engine>(&mut self, scene: &mut Scene<E>) {
        let store = scene.store();
        let examination = store.examine().await.expect("examines");
        let (pending, owned) = (self.model.backlog().pending, self.model.owned());
        assert_eq!(examination.violations, []);
        assert_eq!(examination.notifications, self.model.notifications());
        assert_eq!((examination.pending, examination.owned), (pending, owned));
        assert_eq!(store.backlog().await.expect("counts"), self.model.backlog());
        for after in [None, self.partners.first().copied()] {
            assert_eq!(store.partners(after, 3).await.expect("lists"), self.model.partners(after, 3));
        }
        for _ in 0..8 {
            let query = self.random_query(&mut scene.random, scene.now);
            assert_eq!(scene.list(query.clone()).await, self.model.list(&query), "{query:?}");
            let partner = self.partner(&mut scene.random);
            assert_eq!(scene.store().partner(partner).await.expect("reads"), self.model.partner(partner));
            if let Some(id) = scene.random.pick(&self.api_keys).copied() {
                assert_eq!(scene.store().partner_key(id).await.expect("reads"), self.model.partner_key(id));
            }
        }
        for _ in 0..20 {
            let Some(key) = scene.random.pick(&self.keys).copied() else { return };
            assert_eq!(scene.store().notification(key).await.expect("reads"), self.model.notification(key));
            assert_eq!(scene.store().attempts(key).await.expect("reads"), self.model.attempts(key));
        }
    }

    fn random_query(&self, random: &mut Random, now: capa_webhooks_core::time::Timestamp) -> ListQuery {
        let partner = self.partner(random);
        let after = random.pick(&self.keys).copied();
        let mut earlier = || now.minus(Duration::from_millis(random.number() % 3_000_000));
        let (since, until) = (earlier(), earlier());
        ListQuery {
            partner,
            status: random.once_in(2).then(|| *random.pick(&Status::ALL).expect("there are some")),
            event: random.once_in(3).then(|| "VERIFIED_USER".to_owned()),
            transaction_id: random.once_in(4).then(|| format!("t-{}", random.below(3))),
            external_user_id: random.once_in(4).then(|| format!("u-{}", random.below(3))),
            since: random.once_in(3).then_some(since),
            until: random.once_in(3).then_some(until),
            from: match after {
                Some(key) if random.once_in(3) => PageStart::After(key.id),
                _ => PageStart::Skip(random.below(5)),
            },
            limit: 1 + random.below(9),
        }
    }
}

fn random_outcome<E: Engine>(scene: &mut Scene<E>, job: &Job) -> Record {
    let schedule = ten_seconds([0, 0, 2, 5][scene.random.below(4)]);
    let now = scene.now;
    let mut record = match scene.random.below(10) {
        0..4 => attempted(job.key, job.turn, ok(), &schedule, now),
        4..7 => attempted(job.key, job.turn, status(503, "{\"error\":\"busy\"}"), &schedule, now),
        7..9 => attempted(job.key, job.turn, timeout(), &schedule, now),
        _ => unsendable(job.key, job.turn, NotSent::NoUrl, now),
    };
    record.keep = !scene.random.once_in(3);
    record
}
