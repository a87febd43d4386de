//! Cases of [`Store::retry`].

use super::Engine;
use super::fixture::{Scene, all, attempted, ok};
use crate::{Accept, Fate, Retried, Store};
use capa_webhooks_core::id::NotificationKey;
use capa_webhooks_core::notification::{MOST_MANUAL_RETRIES, NotSent, Status, Turn};
use capa_webhooks_core::schedule::Schedule;
use capa_webhooks_core::settings::SettingsChange;
use std::time::Duration;

async fn url<E: Engine>(scene: &Scene<E>, partner: capa_webhooks_core::id::PartnerId, url: Option<&str>) {
    let change = SettingsChange { url: Some(url.map(str::to_owned)), ..SettingsChange::default() };
    scene.store().change_settings(partner, change, scene.now).await.expect("changes").expect("is there");
}

/// Retries a FAILED notification and fails it again.
async fn retry_and_fail<E: Engine>(scene: &Scene<E>, key: NotificationKey) {
    assert!(matches!(scene.retry(key).await, Retried::Queued(_)));
    let jobs = scene.claim_all().await;
    assert_eq!(jobs.len(), 1);
    scene.fail(key, jobs[0].turn).await;
}

/// Each refusal, where every later one would apply too.
pub async fn the_checks_come_in_order<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let partner = scene.partner().await;
    let failed = scene.failed(partner).await;
    let used_up = scene.failed(partner).await;
    for _ in 0..MOST_MANUAL_RETRIES {
        retry_and_fail(&scene, used_up).await;
    }
    for _ in 0..7 {
        let other = scene.failed(partner).await;
        retry_and_fail(&scene, other).await;
    }
    let (pending, sent) = (scene.owned(partner).await, scene.sent(partner).await);
    let not_sent = Accept { fate: Fate::NotSent(NotSent::NoUrl), ..scene.event(partner) };
    let not_sent_key = not_sent.key;
    scene.accept(not_sent).await;
    url(&scene, partner, None).await;

    let unknown = scene.key(partner);
    assert_eq!(scene.retry(unknown).await, Retried::NotFound);
    let other_partner = NotificationKey { partner: scene.partner().await, ..failed };
    assert_eq!(scene.retry(other_partner).await, Retried::NotFound);
    for key in [pending, sent, not_sent_key] {
        assert_eq!(scene.retry(key).await, Retried::NotFailed);
    }
    assert_eq!(scene.retry(used_up).await, Retried::TooManyRetries);
    assert_eq!(scene.retry(failed).await, Retried::NoUrl);
    url(&scene, partner, Some("https://again.example/")).await;
    let again_at = scene.now.plus(Duration::from_secs(60));
    assert_eq!(scene.retry(failed).await, Retried::RateLimited { again_at });
    scene.pass(Duration::from_secs(60));
    assert!(matches!(scene.retry(failed).await, Retried::Queued(_)));
    scene.assert_healthy().await;
}

/// A retry begins at attempt 1 with a clean slate, and anybody may take it at once.
pub async fn a_retry_begins_a_new_cycle<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let partner = scene.partner().await;
    let key = scene.failed(partner).await;
    let failed = scene.store().notification(key).await.expect("reads").expect("is there");
    assert!(failed.latest_error.is_some());
    scene.pass(Duration::from_secs(5));
    let retried = scene.retry(key).await;
    let Retried::Queued(detail) = retried else { return assert_eq!(retried, Retried::NotFound, "not queued") };
    let summary = &detail.summary;
    assert_eq!((summary.status, summary.cycle, summary.attempts), (Status::Pending, 2, 0));
    assert_eq!((detail.latest_error.clone(), detail.last_manual_retry_at), (None, Some(scene.now)));
    assert_eq!((summary.updated_at, &detail.payload), (scene.now, &failed.payload));
    assert_eq!(scene.store().notification(key).await.expect("reads"), Some(*detail));
    let jobs = scene.claim_all().await;
    let turn = Turn { cycle: 2, number: 1, due: scene.now };
    assert_eq!(jobs.iter().map(|job| (job.key, job.turn)).collect::<Vec<_>>(), [(key, turn)]);
    scene.record(attempted(key, turn, ok(), &Schedule::default(), scene.now)).await;
    assert_eq!(scene.status(key).await, Some(Status::Sent));
    assert_eq!(scene.numbers(key).await, [(1, 1), (2, 1)]);
    assert_eq!(scene.retry(key).await, Retried::NotFailed);
    scene.assert_healthy().await;
}

/// The fourth retry of a notification is refused.
pub async fn three_retries_and_no_more<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let partner = scene.partner().await;
    let key = scene.failed(partner).await;
    for cycle in 2..=1 + MOST_MANUAL_RETRIES {
        retry_and_fail(&scene, key).await;
        let detail = scene.store().notification(key).await.expect("reads").expect("is there");
        assert_eq!((detail.summary.cycle, detail.summary.status), (cycle, Status::Failed));
    }
    assert_eq!(scene.retry(key).await, Retried::TooManyRetries);
    scene.assert_healthy().await;
}

/// Ten of a partner in any minute; refused ones do not count, and neither do those of others.
pub async fn ten_retries_a_minute<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let (partner, other) = (scene.partner().await, scene.partner().await);
    let mut failed = Vec::new();
    for _ in 0..14 {
        failed.push(scene.failed(partner).await);
    }
    let first = scene.now;
    for key in &failed[..10] {
        assert!(matches!(scene.retry(*key).await, Retried::Queued(_)));
        assert_eq!(scene.retry(*key).await, Retried::NotFailed);
        scene.pass(Duration::from_secs(1));
    }
    let again_at = first.plus(Duration::from_secs(60));
    assert_eq!(scene.retry(failed[10]).await, Retried::RateLimited { again_at });
    let of_other = scene.failed(other).await;
    assert!(matches!(scene.retry(of_other).await, Retried::Queued(_)));
    scene.now = again_at.minus(Duration::from_millis(1));
    assert_eq!(scene.retry(failed[10]).await, Retried::RateLimited { again_at });
    scene.now = again_at;
    assert!(matches!(scene.retry(failed[10]).await, Retried::Queued(_)));
    let again_at = first.plus(Duration::from_secs(61));
    assert_eq!(scene.retry(failed[11]).await, Retried::RateLimited { again_at });
}

/// Of several retries of one notification at the same moment, one wins.
pub async fn two_at_once_make_one_cycle<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let partner = scene.partner().await;
    let key = scene.failed(partner).await;
    let answers = all((0..4).map(|_| scene.retry(key)).collect()).await;
    assert_eq!(answers.iter().filter(|answer| matches!(answer, Retried::Queued(_))).count(), 1);
    assert_eq!(answers.iter().filter(|answer| **answer == Retried::NotFailed).count(), 3);
    assert_eq!(scene.claim_all().await.len(), 1);
    scene.assert_healthy().await;
}
