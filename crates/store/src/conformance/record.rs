//! Cases of [`Store::record`].

use super::Engine;
use super::fixture::{Scene, attempted, never_again, ok, status, ten_seconds, timeout, unsendable};
use crate::{Erased, Expiry, LatestError, Record, Recorded, Retried, Store};
use capa_webhooks_core::id::{LifeId, NotificationKey, PartnerId};
use capa_webhooks_core::notification::{NotSent, Status, Turn};
use capa_webhooks_core::schedule::Schedule;
use std::time::Duration;

/// The life that died before, and what it still holds.
async fn life_before<E: Engine>(scene: &mut Scene<E>) -> LifeId {
    let before = scene.life;
    scene.next_life().await;
    before
}

/// PENDING → SENT.
pub async fn an_acknowledgement_settles<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let partner = scene.partner().await;
    let key = scene.owned(partner).await;
    let turn = Turn::first(scene.now);
    scene.pass(Duration::from_secs(1));
    let record = attempted(key, turn, ok(), &Schedule::default(), scene.now);
    assert_eq!(scene.record(record.clone()).await, Recorded::Applied);
    let detail = scene.store().notification(key).await.expect("reads").expect("is there");
    assert_eq!((detail.summary.status, detail.summary.attempts), (Status::Sent, 1));
    assert_eq!(detail.summary.updated_at, scene.now.plus(Duration::from_millis(12)));
    assert_eq!(detail.latest_error, None);
    assert_eq!(scene.record(record).await, Recorded::Late, "the turn is over");
    assert_eq!(scene.numbers(key).await, [(1, 1)]);
    assert_eq!(scene.store().backlog().await.expect("counts").pending, 0);
    scene.assert_healthy().await;
}

/// PENDING → PENDING, kept in memory or given up.
pub async fn a_failure_leads_to_the_next_turn<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let partner = scene.partner().await;
    for keep in [true, false] {
        let key = scene.owned(partner).await;
        let turn = Turn::first(scene.now);
        let record = attempted(key, turn, status(500, ""), &ten_seconds(5), scene.now);
        assert_eq!(scene.record(Record { keep, ..record }).await, Recorded::Applied);
        assert_eq!(scene.status(key).await, Some(Status::Pending));
        assert!(scene.claim_all().await.is_empty(), "not due yet");
        scene.pass(Duration::from_secs(10));
        let second = Turn { number: 2, due: scene.now, ..turn };
        let claimed: Vec<_> = scene.claim_all().await.into_iter().map(|job| (job.key, job.turn)).collect();
        assert_eq!(claimed, if keep { vec![] } else { vec![(key, second)] });
        assert_eq!(scene.record(attempted(key, second, ok(), &ten_seconds(5), scene.now)).await, Recorded::Applied);
        assert_eq!(scene.numbers(key).await, [(1, 1), (1, 2)]);
    }
    scene.assert_healthy().await;
}

/// All attempts of a cycle: the last one makes it FAILED.
pub async fn the_last_failure_settles<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let partner = scene.partner().await;
    let key = scene.owned(partner).await;
    let mut turn = Turn::first(scene.now);
    for number in 1..=6 {
        assert_eq!((turn.number, scene.status(key).await), (number, Some(Status::Pending)));
        let record = attempted(key, turn, timeout(), &ten_seconds(5), scene.now);
        if let capa_webhooks_core::notification::State::Pending(next) = record.next {
            turn = next;
        }
        assert_eq!(scene.record(record).await, Recorded::Applied);
        scene.pass(Duration::from_secs(10));
    }
    let detail = scene.store().notification(key).await.expect("reads").expect("is there");
    assert_eq!((detail.summary.status, detail.summary.attempts), (Status::Failed, 6));
    assert_eq!(detail.latest_error, Some(LatestError::Attempt(timeout())));
    scene.assert_healthy().await;
}

/// PENDING → NOT_SENT, for every reason.
pub async fn nowhere_to_send_settles<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let partner = scene.partner().await;
    for reason in NotSent::ALL {
        let key = scene.owned(partner).await;
        let record = unsendable(key, Turn::first(scene.now), reason, scene.now);
        assert_eq!(scene.record(record).await, Recorded::Applied);
        let detail = scene.store().notification(key).await.expect("reads").expect("is there");
        assert_eq!((detail.summary.status, detail.summary.attempts), (Status::NotSent, 0));
        assert_eq!(detail.latest_error, Some(LatestError::NotSent(reason)));
        assert_eq!(scene.numbers(key).await, []);
    }
    scene.assert_healthy().await;
}

/// Answers come in the order of the batch, each decided by itself.
pub async fn a_batch_is_answered_in_order<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let partner = scene.partner().await;
    let (mine, unowned) = (scene.owned(partner).await, scene.unowned(partner).await);
    let turn = Turn::first(scene.now);
    let record = |key| attempted(key, turn, ok(), &Schedule::default(), scene.now);
    let stranger = NotificationKey { partner: PartnerId::v4([7; 16]), ..mine };
    let batch = vec![record(stranger), record(mine), record(unowned), record(mine)];
    let recorded = scene.store().record(scene.life, &batch).await.expect("records");
    assert_eq!(recorded, [Recorded::Late, Recorded::Applied, Recorded::Late, Recorded::Late]);
    assert_eq!(scene.store().record(scene.life, &[]).await.expect("records nothing"), []);
}

/// A late 200 settles what is still pending in its cycle: unowned, owned by another life, or at a later turn.
pub async fn a_late_acknowledgement_settles<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let partner = scene.partner().await;
    for (taken, failed_since) in [(false, false), (true, false), (true, true)] {
        let key = scene.owned(partner).await;
        let turn = Turn::first(scene.now);
        let late = life_before(&mut scene).await;
        if taken {
            assert_eq!(scene.claim_all().await.len(), 1);
        }
        if failed_since {
            let record = attempted(key, turn, status(500, ""), &ten_seconds(5), scene.now);
            assert_eq!(scene.record(record).await, Recorded::Applied);
        }
        let record = attempted(key, turn, ok(), &Schedule::default(), scene.now);
        assert_eq!(scene.record_by(late, record).await, Recorded::Late);
        assert_eq!(scene.status(key).await, Some(Status::Sent));
        scene.pass(Duration::from_secs(3600));
        assert!(scene.claim_all().await.is_empty());
        let mine = attempted(key, turn, status(500, ""), &ten_seconds(5), scene.now);
        assert_eq!(scene.record(mine).await, Recorded::Late, "whoever held it is told that it is settled");
        assert_eq!(scene.status(key).await, Some(Status::Sent));
        scene.assert_healthy().await;
    }
}

/// A late failure is told in the attempts and changes nothing; a late "nowhere to send it" is nothing at all.
pub async fn a_late_failure_is_only_a_fact<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let partner = scene.partner().await;
    let key = scene.owned(partner).await;
    let turn = Turn::first(scene.now);
    let late = life_before(&mut scene).await;
    for record in [
        attempted(key, turn, timeout(), &ten_seconds(5), scene.now),
        attempted(key, turn, timeout(), &never_again(), scene.now),
        unsendable(key, turn, NotSent::NoUrl, scene.now),
    ] {
        assert_eq!(scene.record_by(late, record).await, Recorded::Late);
        assert_eq!(scene.status(key).await, Some(Status::Pending));
    }
    let attempts = scene.store().attempts(key).await.expect("reads").expect("is there");
    assert_eq!(attempts.len(), 1);
    assert_eq!((attempts[0].next_due, attempts[0].settled), (None, None));
    let jobs = scene.claim_all().await;
    assert_eq!(jobs.iter().map(|job| (job.key, job.turn)).collect::<Vec<_>>(), [(key, turn)]);
    scene.assert_healthy().await;
}

/// A partner that retried by hand wants it again, whatever comes in of the attempts before.
pub async fn a_late_outcome_of_an_earlier_cycle_is_only_a_fact<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let partner = scene.partner().await;
    let key = scene.owned(partner).await;
    let turn = Turn::first(scene.now);
    let late = life_before(&mut scene).await;
    assert_eq!(scene.claim_all().await.len(), 1);
    scene.fail(key, turn).await;
    assert!(matches!(scene.retry(key).await, Retried::Queued(_)));
    let record = attempted(key, turn, ok(), &Schedule::default(), scene.now);
    assert_eq!(scene.record_by(late, record).await, Recorded::Late);
    assert_eq!(scene.status(key).await, Some(Status::Pending));
    assert_eq!(scene.claim_all().await.len(), 1);
    assert_eq!(scene.numbers(key).await, [(1, 1), (1, 1)]);
    scene.assert_healthy().await;
}

/// Nothing that comes late changes an end.
pub async fn a_settled_notification_stays_settled<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let partner = scene.partner().await;
    let key = scene.owned(partner).await;
    let turn = Turn::first(scene.now);
    let late = life_before(&mut scene).await;
    assert_eq!(scene.claim_all().await.len(), 1);
    scene.fail(key, turn).await;
    let record = attempted(key, turn, ok(), &Schedule::default(), scene.now);
    assert_eq!(scene.record_by(late, record).await, Recorded::Late);
    let attempts = scene.store().attempts(key).await.expect("reads").expect("is there");
    let settled: Vec<_> = attempts.iter().filter_map(|entry| entry.settled).collect();
    assert_eq!((attempts.len(), settled), (2, vec![Status::Failed]));
    assert_eq!(scene.status(key).await, Some(Status::Failed));
    scene.assert_healthy().await;
}

/// What a dead life left unrecorded is repeated under the same number, also by the same life after it gave up the row.
pub async fn an_attempt_may_be_repeated_under_its_number<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let partner = scene.partner().await;
    let key = scene.owned(partner).await;
    let turn = Turn::first(scene.now);
    scene.store().release(scene.life, vec![key]).await.expect("releases");
    let late = attempted(key, turn, timeout(), &ten_seconds(5), scene.now);
    assert_eq!(scene.record(late).await, Recorded::Late);
    assert_eq!(scene.claim_all().await.len(), 1);
    let record = attempted(key, turn, status(500, ""), &ten_seconds(5), scene.now);
    assert_eq!(scene.record(record).await, Recorded::Applied);
    let attempts = scene.store().attempts(key).await.expect("reads").expect("is there");
    assert_eq!(attempts.len(), 1, "the fact that the row went by has taken the place of the other");
    assert_eq!((&attempts[0].answer, attempts[0].next_due.is_some()), (&status(500, ""), true));
    scene.assert_healthy().await;
}

/// A notification that was removed, and one whose partner was erased, take no facts.
pub async fn what_is_gone_takes_no_facts<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let (partner, erased) = (scene.partner().await, scene.partner().await);
    let turn = Turn::first(scene.now);
    let (removed, held) = (scene.sent(partner).await, scene.owned(erased).await);
    assert_eq!(scene.store().erase_partner(erased, 10, scene.now).await.expect("erases"), Erased::Done);
    scene.pass(Duration::from_secs(1));
    let expiry = Expiry { notifications_before: scene.now, idempotency_before: scene.now, limit: 10 };
    assert_eq!(scene.store().expire(expiry).await.expect("expires").notifications, 2);
    let again = scene.partner().await;
    let kept = scene.owned(again).await;
    assert_eq!(scene.store().erase_partner(again, 10, scene.now).await.expect("erases"), Erased::Done);
    for key in [removed, held, kept] {
        let record = attempted(key, turn, ok(), &Schedule::default(), scene.now);
        assert_eq!(scene.record(record).await, Recorded::Late);
    }
    assert_eq!(scene.status(removed).await, None);
    assert_eq!(scene.status(kept).await, Some(Status::NotSent));
    assert_eq!(scene.numbers(kept).await, []);
    scene.assert_healthy().await;
}
