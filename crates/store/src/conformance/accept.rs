//! Cases of [`Store::accept`].

use super::Engine;
use super::fixture::{Scene, attempted, event, for_an_hour, ok};
use crate::{Accept, Accepted, Erased, Fate, LatestError, Store};
use capa_webhooks_core::id::{LifeId, PartnerId};
use capa_webhooks_core::notification::{NotSent, Status, Turn};
use capa_webhooks_core::schedule::Schedule;
use std::time::Duration;

/// Owned, unowned and unsendable events are kept whole.
pub async fn new_events_are_kept<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let partner = scene.partner().await;
    for fate in [Fate::Queue(Some(scene.life)), Fate::Queue(None), Fate::NotSent(NotSent::EventFiltered)] {
        let accept = Accept { fate, ..scene.event(partner) };
        assert_eq!(scene.accept(accept.clone()).await, Accepted::New);
        let detail = scene.store().notification(accept.key).await.expect("reads").expect("is there");
        let (status, error) = match fate {
            Fate::Queue(_) => (Status::Pending, None),
            Fate::NotSent(reason) => (Status::NotSent, Some(LatestError::NotSent(reason))),
        };
        assert_eq!((detail.summary.status, detail.latest_error), (status, error));
        assert_eq!(detail.payload, accept.event.body);
        assert_eq!((detail.summary.event, detail.summary.cycle, detail.summary.attempts), (accept.event.name, 1, 0));
        assert_eq!((detail.summary.created_at, detail.summary.updated_at), (scene.now, scene.now));
        assert_eq!(detail.last_manual_retry_at, None);
        assert_eq!(scene.numbers(accept.key).await, []);
    }
    assert_eq!(scene.claim_all().await.len(), 1, "only the one that nobody owned is left to be claimed");
    scene.assert_healthy().await;
}

/// One event that is refused leaves the others of its batch alone.
pub async fn a_batch_is_decided_one_by_one<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let (one, two) = (scene.partner().await, scene.partner().await);
    let stranger = PartnerId::v4([7; 16]);
    let same = |scene: &mut Scene<E>, number| Accept {
        idempotency: for_an_hour("k"),
        event: event("u", None, number),
        ..scene.event(one)
    };
    let (first, second, third) = (same(&mut scene, 1), same(&mut scene, 1), same(&mut scene, 2));
    let id = first.key.id;
    let batch = vec![first, scene.event(stranger), second, third, scene.event(two)];
    let accepted = scene.store().accept(batch, scene.now).await.expect("accepts");
    let repeat = Accepted::Repeat { id, status: Status::Pending };
    assert_eq!(accepted, [Accepted::New, Accepted::UnknownPartner, repeat, Accepted::Conflict { id }, Accepted::New]);
    assert_eq!(scene.store().backlog().await.expect("counts").pending, 2);
    assert_eq!(scene.store().accept(Vec::new(), scene.now).await.expect("accepts nothing"), []);
}

/// Partners that never were, and those whose erasing has begun, take no events.
pub async fn unknown_partners_are_told<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let stranger = scene.event(PartnerId::v4([7; 16]));
    assert_eq!(scene.accept(stranger).await, Accepted::UnknownPartner);
    let partner = scene.partner().await;
    scene.owned(partner).await;
    scene.owned(partner).await;
    assert_eq!(scene.store().erase_partner(partner, 1, scene.now).await.expect("erases"), Erased::More);
    let event = scene.event(partner);
    assert_eq!(scene.accept(event).await, Accepted::UnknownPartner);
    assert_eq!(scene.store().erase_partner(partner, 9, scene.now).await.expect("erases"), Erased::Done);
    let event = scene.event(partner);
    assert_eq!(scene.accept(event).await, Accepted::UnknownPartner);
    scene.assert_healthy().await;
}

/// The same key with the same event repeats, with another conflicts, and means nothing to another partner.
pub async fn an_idempotency_key_makes_one_notification<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let (one, two) = (scene.partner().await, scene.partner().await);
    let first = Accept { idempotency: for_an_hour("k"), ..scene.event(one) };
    let id = first.key.id;
    assert_eq!(scene.accept(first.clone()).await, Accepted::New);
    let again = Accept { key: scene.key(one), ..first.clone() };
    assert_eq!(scene.accept(again).await, Accepted::Repeat { id, status: Status::Pending });
    let other = Accept { key: scene.key(one), event: event("u-1", Some("t-1"), 2), ..first.clone() };
    assert_eq!(scene.accept(other).await, Accepted::Conflict { id });
    let other_key = Accept { key: scene.key(one), idempotency: for_an_hour("K"), ..first.clone() };
    assert_eq!(scene.accept(other_key).await, Accepted::New);
    let other_partner = Accept { key: scene.key(two), ..first };
    assert_eq!(scene.accept(other_partner).await, Accepted::New);
    assert_eq!(scene.store().backlog().await.expect("counts").pending, 3);
}

/// A key counts up to its retention, and not a millisecond longer; then it is used anew.
pub async fn an_old_idempotency_key_counts_as_new<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let partner = scene.partner().await;
    let first = Accept { idempotency: for_an_hour("k"), ..scene.event(partner) };
    assert_eq!(scene.accept(first.clone()).await, Accepted::New);
    scene.pass(Duration::from_secs(3600));
    let again = Accept { key: scene.key(partner), ..first.clone() };
    assert_eq!(scene.accept(again).await, Accepted::Repeat { id: first.key.id, status: Status::Pending });
    scene.pass(Duration::from_millis(1));
    let anew = Accept { key: scene.key(partner), event: event("u-2", None, 9), ..first.clone() };
    assert_eq!(scene.accept(anew.clone()).await, Accepted::New);
    scene.pass(Duration::from_secs(3600));
    let again = Accept { key: scene.key(partner), ..anew.clone() };
    assert_eq!(scene.accept(again).await, Accepted::Repeat { id: anew.key.id, status: Status::Pending });
}

/// A repeat tells where the notification stands now.
pub async fn a_repeat_tells_the_status_of_now<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let partner = scene.partner().await;
    let first = Accept { idempotency: for_an_hour("k"), ..scene.event(partner) };
    let key = first.key;
    assert_eq!(scene.accept(first.clone()).await, Accepted::New);
    scene.record(attempted(key, Turn::first(scene.now), ok(), &Schedule::default(), scene.now)).await;
    let again = Accept { key: scene.key(partner), ..first };
    assert_eq!(scene.accept(again).await, Accepted::Repeat { id: key.id, status: Status::Sent });
}

/// Of many with one key at once, one is new, and the others are told of it.
pub async fn equal_keys_at_the_same_moment_make_one_notification<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let partner = scene.partner().await;
    let accepts: Vec<_> = (0..8).map(|_| Accept { idempotency: for_an_hour("k"), ..scene.event(partner) }).collect();
    let mut calls = Vec::new();
    for accept in &accepts {
        calls.push(scene.accept(accept.clone()));
    }
    let answers = super::fixture::all(calls).await;
    let new: Vec<_> = answers.iter().zip(&accepts).filter(|(answer, _)| **answer == Accepted::New).collect();
    assert_eq!(new.len(), 1, "{answers:?}");
    let repeat = Accepted::Repeat { id: new[0].1.key.id, status: Status::Pending };
    assert_eq!(answers.iter().filter(|answer| **answer == repeat).count(), 7, "{answers:?}");
    assert_eq!(scene.store().backlog().await.expect("counts").pending, 1);
}

/// What comes in for a life that has ended, or never began, is owned by nobody, so that it is not stuck.
pub async fn a_life_that_is_over_owns_nothing<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let partner = scene.partner().await;
    let never = Accept { fate: Fate::Queue(Some(LifeId::from_bytes([9; 16]))), ..scene.event(partner) };
    assert_eq!(scene.accept(never).await, Accepted::New);
    scene.owned(partner).await;
    assert_eq!(scene.store().examine().await.expect("examines").owned, 1);
    scene.store().end_life(scene.life, scene.now).await.expect("ends");
    assert_eq!(scene.store().examine().await.expect("examines").owned, 0);
    let over = scene.event(partner);
    assert_eq!(scene.accept(over).await, Accepted::New);
    scene.assert_healthy().await;
    scene.next_life().await;
    assert_eq!(scene.claim_all().await.len(), 3);
}

/// A notification's id that is taken fails its own call, changes nothing, and leaves other calls alone.
pub async fn an_id_cannot_be_used_twice<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let partner = scene.partner().await;
    let first = scene.event(partner);
    assert_eq!(scene.accept(first.clone()).await, Accepted::New);
    let bad = vec![scene.event(partner), Accept { event: event("u", None, 9), ..first.clone() }];
    let good = vec![scene.event(partner)];
    let answers =
        super::fixture::all(vec![scene.store().accept(bad, scene.now), scene.store().accept(good, scene.now)]).await;
    assert!(answers[0].is_err());
    assert_eq!(answers[1].as_ref().expect("accepts"), &[Accepted::New]);
    assert_eq!(scene.store().backlog().await.expect("counts").pending, 2);
    let detail = scene.store().notification(first.key).await.expect("reads").expect("is there");
    assert_eq!(detail.payload, first.event.body);
    scene.assert_healthy().await;
}
