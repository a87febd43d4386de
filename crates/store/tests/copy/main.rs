//! Copying a store to a real PostgreSQL and back: nothing is lost, changed or stuck, wherever the copy is cut off.
#![expect(clippy::unwrap_used, clippy::panic, reason = "what a test does not expect ends it")]

mod cut;
mod fixture;
mod refused;
mod verified;

use capa_webhooks_store::conformance::fixture::Scene;
use capa_webhooks_store::{Accepted, Expiry, Store};
use fixture::{File, address, again, assert_same, copy_at_once, database, fill, hour, open_postgres, told};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_goes_to_postgresql_and_comes_back() {
    let mut scene = Scene::new(File::new()).await;
    let filled = fill(&mut scene).await;
    let before = told(scene.store(), &filled).await;
    let counted = scene.store().examine().await.unwrap();
    let (file, mut random, now) = close(scene);

    let there = database();
    let copied = copy_at_once(&file.address(), &address(&there)).await.unwrap();
    let rows: u64 = copied.tables.iter().map(|(_, digest)| digest.rows).sum();
    assert!(copied.tables.iter().all(|(_, digest)| digest.rows >= 3) && rows > 400, "{copied:?}");
    {
        let store = open_postgres(&there).await.unwrap();
        let examined = store.examine().await.unwrap();
        assert_eq!(examined.violations, []);
        assert_eq!((examined.notifications, examined.pending), (counted.notifications, counted.pending));
        assert_eq!(examined.owned, 0);
        assert_same(&before, &told(&store, &filled).await);
    }

    let back = File::new();
    let copied_back = copy_at_once(&address(&there), &back.address()).await.unwrap();
    assert_eq!(copied_back, copied);
    let store = back.open_store().unwrap();
    assert_eq!(store.examine().await.unwrap().violations, []);
    assert_same(&before, &told(&store, &filled).await);
    drop(store);

    // Both go on alike.
    let (mut ours, mut theirs) = (Scene::new(file).await, Scene::new(back).await);
    for scene in [&mut ours, &mut theirs] {
        scene.now = now;
        scene.random = random.clone();
        scene.next_life().await;
    }
    random.number();
    let (mut left, mut right) = (ours.claim_all().await, theirs.claim_all().await);
    left.sort_by_key(|job| job.key);
    right.sort_by_key(|job| job.key);
    assert!(left.len() > 40 && left == right, "{left:?} {right:?}");
    let mut answers = Vec::new();
    for scene in [&mut ours, &mut theirs] {
        let accept = again(scene, filled.repeated, "again-2");
        answers.push(scene.accept(accept).await);
    }
    assert!(matches!(answers[0], Accepted::Repeat { .. }) && answers[0] == answers[1], "{answers:?}");
    let expiry = Expiry { notifications_before: hour(30), idempotency_before: hour(1000), limit: 1000 };
    let expired = ours.store().expire(expiry).await.unwrap();
    assert_eq!(theirs.store().expire(expiry).await.unwrap(), expired);
    assert!(expired.idempotency_keys == 5, "{expired:?}");
    ours.assert_healthy().await;
    theirs.assert_healthy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_store_is_copied_too() {
    let (file, there, back) = (File::new(), database(), File::new());
    drop(file.open_store().unwrap());
    copy_at_once(&file.address(), &address(&there)).await.unwrap();
    let copied = copy_at_once(&address(&there), &back.address()).await.unwrap();
    assert!(copied.tables.iter().all(|(_, digest)| digest.rows == 0));
    assert_eq!(back.open_store().unwrap().examine().await.unwrap().violations, []);
}

/// Closes a store, and keeps its file.
fn close(
    scene: Scene<File>,
) -> (File, capa_webhooks_store::conformance::fixture::Random, capa_webhooks_core::time::Timestamp) {
    let (random, now) = (scene.random.clone(), scene.now);
    (scene.into_engine(), random, now)
}
