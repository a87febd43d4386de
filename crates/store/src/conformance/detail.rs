//! Cases of [`Store::notification`], [`Store::attempts`] and [`Store::backlog`].

use super::Engine;
use super::fixture::{Scene, attempted, ok, status, ten_seconds, timeout};
use crate::{Backlog, LatestError, Recorded, Store};
use capa_webhooks_core::id::NotificationKey;
use capa_webhooks_core::notification::{Status, Turn};
use capa_webhooks_core::outcome::{Answer, Failure, FailureKind, KEPT_BODY};
use std::time::Duration;

/// The latest error is that of the last failed attempt, and stays after it was sent.
pub async fn errors_are_told<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let partner = scene.partner().await;
    let key = scene.owned(partner).await;
    let first = Turn::first(scene.now);
    let second = Turn { number: 2, due: scene.now.plus(Duration::from_secs(10)), ..first };
    let third = Turn { number: 3, due: second.due.plus(Duration::from_secs(10)), ..first };
    for (turn, answer, error) in [
        (first, status(500, "{\"error\":\"one\"}"), status(500, "{\"error\":\"one\"}")),
        (second, timeout(), timeout()),
        (third, ok(), timeout()),
    ] {
        scene.now = turn.due;
        assert_eq!(scene.record(attempted(key, turn, answer, &ten_seconds(5), scene.now)).await, Recorded::Applied);
        let detail = scene.store().notification(key).await.expect("reads").expect("is there");
        assert_eq!((detail.latest_error, detail.summary.attempts), (Some(LatestError::Attempt(error)), turn.number));
    }
    assert_eq!(scene.status(key).await, Some(Status::Sent));
    let unknown = scene.key(partner);
    assert_eq!(scene.store().notification(unknown).await.expect("reads"), None);
    let other = NotificationKey { partner: scene.partner().await, ..key };
    assert_eq!(scene.store().notification(other).await.expect("reads"), None);
}

/// Everything of every attempt comes back, whatever the answer was.
pub async fn attempts_are_told<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let partner = scene.partner().await;
    let failure = |kind, status, message: &str| Answer::None(Failure { kind, status, message: message.to_owned() });
    let mut answers = vec![
        status(200, ""),
        status(204, "not what was asked for"),
        Answer::Response { status: 418, body: vec![0, 159, 146, 150].into(), retry_after: None },
        Answer::Response { status: 503, body: vec![b'x'; KEPT_BODY].into(), retry_after: Some(Duration::from_secs(9)) },
        failure(FailureKind::Timeout, Some(200), "the body did not end"),
    ];
    answers.extend(FailureKind::ALL.map(|(kind, name)| failure(kind, None, name)));
    for answer in answers {
        let key = scene.owned(partner).await;
        let record = attempted(key, Turn::first(scene.now), answer.clone(), &ten_seconds(5), scene.now);
        assert_eq!(scene.record(record).await, Recorded::Applied);
        let attempts = scene.store().attempts(key).await.expect("reads").expect("is there");
        assert_eq!(attempts.len(), 1);
        let entry = &attempts[0];
        let acknowledged = matches!(answer, Answer::Response { status: 200, .. });
        let told = match answer {
            Answer::Response { status, body, .. } => Answer::Response { status, body, retry_after: None },
            none @ Answer::None(_) => none,
        };
        assert_eq!((&entry.answer, entry.cycle, entry.number), (&told, 1, 1));
        assert_eq!((entry.started_at, entry.duration), (scene.now, Duration::from_micros(12_345)));
        assert_eq!(entry.url, "https://receiver.example/called?token=called-token");
        assert_eq!(entry.settled, acknowledged.then_some(Status::Sent));
        assert_eq!(entry.next_due.is_some(), !acknowledged);
    }
    let unknown = scene.key(partner);
    assert_eq!(scene.store().attempts(unknown).await.expect("reads"), None);
}

/// Pending ones of all partners, and since when.
pub async fn backlog_is_counted<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    assert_eq!(scene.store().backlog().await.expect("counts"), Backlog { pending: 0, oldest: None });
    let (one, two) = (scene.partner().await, scene.partner().await);
    scene.sent(one).await;
    let oldest = scene.pass(Duration::from_secs(1));
    let key = scene.owned(two).await;
    let later = scene.pass(Duration::from_secs(1));
    scene.unowned(one).await;
    assert_eq!(scene.store().backlog().await.expect("counts"), Backlog { pending: 2, oldest: Some(oldest) });
    scene.fail(key, Turn::first(oldest)).await;
    assert_eq!(scene.store().backlog().await.expect("counts"), Backlog { pending: 1, oldest: Some(later) });
}
