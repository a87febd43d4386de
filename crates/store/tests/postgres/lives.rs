//! Several lives at a time: heartbeats, ending the silent, the sweep, and what a life owns.

use crate::fixture::Postgres;
use capa_webhooks_core::id::LifeId;
use capa_webhooks_core::notification::Turn;
use capa_webhooks_core::schedule::Schedule;
use capa_webhooks_store::conformance::fixture::{Scene, attempted, ok};
use capa_webhooks_store::{Accept, Fate, Recorded, Store};
use std::collections::BTreeMap;

type OnPostgres = Scene<Postgres>;

/// A second life beside that of the scene.
async fn other_life(scene: &mut OnPostgres) -> LifeId {
    let life = LifeId::v7(scene.now, scene.random.bytes());
    scene.store().begin_life(life, scene.now).await.expect("a life begins");
    life
}

/// Counters of others as a life sees them.
async fn others(scene: &OnPostgres, life: LifeId) -> BTreeMap<LifeId, u64> {
    scene.store().heartbeat(life).await.expect("beats").others.into_iter().collect()
}

#[tokio::test]
async fn a_heartbeat_counts_and_tells_of_the_others() {
    let mut scene = Scene::new(Postgres::new()).await;
    let (mine, other) = (scene.life, other_life(&mut scene).await);
    let first = scene.store().heartbeat(mine).await.unwrap();
    assert!(first.alive && first.clock.is_some());
    assert_eq!(first.others, [(other, 0)]);
    assert_eq!(others(&scene, other).await, BTreeMap::from([(mine, 1)]));
    assert_eq!(others(&scene, mine).await, BTreeMap::from([(other, 1)]));
    scene.store().end_life(other, scene.now).await.unwrap();
    assert_eq!(others(&scene, mine).await, BTreeMap::new());
    assert!(!scene.store().heartbeat(other).await.unwrap().alive);
    assert!(!scene.store().heartbeat(LifeId::from_bytes([9; 16])).await.unwrap().alive, "one that never began");
    assert_eq!(others(&scene, mine).await, BTreeMap::new(), "a heartbeat does not bring back to life");
}

#[tokio::test]
async fn a_new_life_lets_the_others_live() {
    let mut scene = Scene::new(Postgres::new()).await;
    let partner = scene.partner().await;
    let key = scene.owned(partner).await;
    let other = other_life(&mut scene).await;
    assert!(scene.store().heartbeat(scene.life).await.unwrap().alive);
    assert!(scene.claim_all().await.is_empty());
    let record = || attempted(key, Turn::first(scene.now), ok(), &Schedule::default(), scene.now);
    assert_eq!(scene.record_by(scene.life, record()).await, Recorded::Applied);
    assert!(scene.store().heartbeat(other).await.unwrap().alive);
    scene.assert_healthy().await;
}

#[tokio::test]
async fn a_silent_life_is_ended_only_if_its_counter_stands() {
    let mut scene = Scene::new(Postgres::new()).await;
    let partner = scene.partner().await;
    let key = scene.owned(partner).await;
    let (silent, watcher) = (scene.life, other_life(&mut scene).await);
    let seen: Vec<_> = others(&scene, watcher).await.into_iter().collect();
    assert_eq!(seen, [(silent, 0)]);
    assert!(scene.store().heartbeat(silent).await.unwrap().alive, "it was not dead after all");
    scene.store().end_silent(seen, scene.now).await.unwrap();
    assert!(scene.store().heartbeat(silent).await.unwrap().alive);
    assert_eq!(scene.store().examine().await.unwrap().owned, 1);

    let seen: Vec<_> = others(&scene, watcher).await.into_iter().collect();
    scene.store().end_silent(seen, scene.now).await.unwrap();
    assert!(!scene.store().heartbeat(silent).await.unwrap().alive);
    assert_eq!(scene.store().examine().await.unwrap().owned, 0);
    scene.life = watcher;
    assert_eq!(scene.claim_all().await.iter().map(|job| job.key).collect::<Vec<_>>(), [key]);
    scene.assert_healthy().await;
}

/// A commit of a life that was ended before it landed: written here by hand, because `accept` would not.
#[tokio::test]
async fn every_heartbeat_frees_what_belongs_to_nobody_alive() {
    let mut scene = Scene::new(Postgres::new()).await;
    let partner = scene.partner().await;
    let lives = [other_life(&mut scene).await, other_life(&mut scene).await, other_life(&mut scene).await];
    // Below all lives, between them, and above them; owned by the living too.
    let dead =
        [LifeId::from_bytes([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]), lives[1], LifeId::from_bytes([255; 16])];
    scene.store().end_life(lives[1], scene.now).await.unwrap();
    let mut expected = Vec::new();
    for life in dead {
        for _ in 0..3 {
            let key = scene.unowned(partner).await;
            scene
                .engine
                .database
                .sql(&format!(
                    "UPDATE capa_webhooks.queue SET owner = '{}' WHERE id = '{}'",
                    life.uuid(),
                    key.id.uuid()
                ))
                .unwrap();
            expected.push(key);
        }
    }
    for life in [lives[0], lives[2]] {
        let accept = Accept { fate: Fate::Queue(Some(life)), ..scene.event(partner) };
        scene.accept(accept).await;
    }
    assert!(scene.claim_all().await.is_empty());
    let beat = scene.store().heartbeat(scene.life).await.unwrap();
    assert!(beat.alive);
    assert_eq!(beat.freed, 9);
    scene.assert_healthy().await;
    let mut claimed: Vec<_> = scene.claim_all().await.iter().map(|job| job.key).collect();
    claimed.sort_unstable();
    expected.sort_unstable();
    assert_eq!(claimed, expected);
    for life in [lives[0], lives[2]] {
        assert_eq!(scene.store().owned(life).await.unwrap().len(), 1, "the living keep theirs");
    }
}

/// Also what another sweep than that of the heartbeat has freed.
#[tokio::test]
async fn what_was_freed_is_told_once() {
    let mut scene = Scene::new(Postgres::new()).await;
    let partner = scene.partner().await;
    let ended = other_life(&mut scene).await;
    let accept = Accept { fate: Fate::Queue(Some(ended)), ..scene.event(partner) };
    scene.accept(accept).await;
    scene.store().end_life(ended, scene.now).await.unwrap();
    assert_eq!(scene.store().heartbeat(scene.life).await.unwrap().freed, 1);
    assert_eq!(scene.store().heartbeat(scene.life).await.unwrap().freed, 0);
}

#[tokio::test]
async fn a_life_is_told_what_it_owns() {
    let mut scene = Scene::new(Postgres::new()).await;
    let (one, two) = (scene.partner().await, scene.partner().await);
    let mut mine = Vec::new();
    for partner in [one, two, one] {
        let accept = scene.event(partner);
        mine.push((accept.key, accept.event.body.clone()));
        scene.accept(accept).await;
    }
    scene.unowned(one).await;
    let other = other_life(&mut scene).await;
    let of_other = Accept { fate: Fate::Queue(Some(other)), ..scene.event(two) };
    scene.accept(of_other).await;
    mine.sort_unstable_by_key(|(key, _)| *key);
    let owned = scene.store().owned(scene.life).await.unwrap();
    assert_eq!(owned.len(), 3);
    let mut owned = scene.store().owned_jobs(scene.life, owned).await.unwrap();
    owned.sort_unstable_by_key(|job| job.key);
    let told: Vec<_> = owned.iter().map(|job| (job.key, job.body.clone())).collect();
    assert_eq!(told, mine);
    assert!(owned.iter().all(|job| job.turn == Turn::first(scene.now)));
}

/// A broken row holds up no other.
#[tokio::test]
async fn what_cannot_be_opened_is_left_out() {
    let mut scene = Scene::new(Postgres::new()).await;
    let partner = scene.partner().await;
    let (broken, sound) = (scene.owned(partner).await, scene.owned(partner).await);
    let sql = "UPDATE capa_webhooks.notifications SET sealed = substr(sealed, 2) WHERE id =";
    scene.engine.database.sql(&format!("{sql} '{}'", broken.id.uuid())).unwrap();
    assert_eq!(scene.store().owned(scene.life).await.unwrap().len(), 2);
    let jobs = scene.store().owned_jobs(scene.life, vec![broken, sound]).await.unwrap();
    assert_eq!(jobs.iter().map(|job| job.key).collect::<Vec<_>>(), [sound]);
}
