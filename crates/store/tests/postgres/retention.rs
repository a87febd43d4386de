//! Partitions: made when they are needed, dropped when all of them is past its retention.

use crate::fixture::Postgres;
use capa_webhooks_core::notification::{Status, Turn};
use capa_webhooks_core::time::Timestamp;
use capa_webhooks_store::conformance::fixture::{BEGIN, Scene, everything};
use capa_webhooks_store::{Accepted, Expiry, Retried, Store};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn days(scene: &Scene<Postgres>) -> Vec<String> {
    let sql = "SELECT relname FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace
               WHERE nspname = 'capa_webhooks' AND relname ~ '^notifications_2025[0-9]{4}$' AND relkind = 'r' ORDER BY 1";
    let found = scene.engine.database.sql(sql).expect("works");
    found.lines().map(|name| name.trim_start_matches("notifications_").to_owned()).collect()
}

async fn expire(scene: &Scene<Postgres>, before: Timestamp) -> usize {
    let expiry = Expiry { notifications_before: before, idempotency_before: before, limit: 1000 };
    let mut removed = 0;
    loop {
        let expired = scene.store().expire(expiry).await.expect("works");
        removed += expired.notifications;
        if !expired.more {
            return removed;
        }
    }
}

/// Clocks that are far off make ids of any day.
#[tokio::test]
async fn an_id_of_any_day_has_its_place() {
    let mut scene = Scene::new(Postgres::new()).await;
    let partner = scene.partner().await;
    for millis in [0, 1, BEGIN, BEGIN + 400 * 86_400_000, 253_402_207_200_999] {
        scene.now = Timestamp::from_millis(millis);
        let key = scene.sent(partner).await;
        assert_eq!(scene.status(key).await, Some(Status::Sent), "{millis}");
    }
    assert_eq!(scene.list(everything(partner)).await.total, 5);
    scene.assert_healthy().await;
}

/// A day goes as a whole once it is older, hour of grace included; totals go with it, and the days around it stay.
#[tokio::test]
async fn days_past_their_retention_are_dropped() {
    let mut scene = Scene::new(Postgres::new()).await;
    let (one, two) = (scene.partner().await, scene.partner().await);
    for _ in 0..3 {
        scene.sent(one).await;
        scene.failed(two).await;
        scene.pass(DAY);
    }
    assert_eq!(days(&scene), ["20251009", "20251010", "20251011"]);
    let midnight = Timestamp::from_millis((BEGIN / 86_400_000 + 1) * 86_400_000);
    assert_eq!(expire(&scene, Timestamp::from_millis(BEGIN)).await, 0);
    assert_eq!(expire(&scene, midnight).await, 2, "removed one by one: an id may be an hour off");
    assert_eq!(days(&scene), ["20251009", "20251010", "20251011"]);
    assert_eq!(expire(&scene, midnight.plus(DAY).plus(Duration::from_secs(3600))).await, 2);
    assert_eq!(days(&scene), ["20251011"]);
    assert_eq!((scene.list(everything(one)).await.total, scene.list(everything(two)).await.total), (1, 1));
    scene.assert_healthy().await;
    let late = scene.event(one);
    assert_eq!(scene.accept(late).await, Accepted::New);
    scene.now = Timestamp::from_millis(BEGIN);
    scene.sent(one).await;
    assert_eq!(days(&scene)[0], "20251009", "a day that was dropped is made again when it is needed");
    scene.assert_healthy().await;
}

/// A day of which something is pending stays, with all that is younger.
#[tokio::test]
async fn a_day_with_something_pending_is_kept() {
    let mut scene = Scene::new(Postgres::new()).await;
    let partner = scene.partner().await;
    let retried = scene.failed(partner).await;
    let begin = scene.now;
    scene.pass(DAY);
    let pending = scene.owned(partner).await;
    let since = scene.now;
    scene.pass(DAY * 3);
    assert!(matches!(scene.retry(retried).await, Retried::Queued(_)));
    assert_eq!(expire(&scene, scene.now).await, 0);
    let jobs = scene.claim_all().await;
    assert_eq!(jobs.len(), 1);
    scene.fail(retried, jobs[0].turn).await;
    assert_eq!(expire(&scene, scene.now).await, 1);
    assert_eq!(days(&scene), ["20251010"]);
    scene.fail(pending, Turn::first(since)).await;
    assert_eq!(expire(&scene, scene.now).await, 1);
    assert_eq!((days(&scene).len(), scene.list(everything(partner)).await.total), (0, 0));
    assert!(begin < since);
    scene.assert_healthy().await;
}
