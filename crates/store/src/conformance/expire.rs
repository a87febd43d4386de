//! Cases of [`Store::expire`].

use super::Engine;
use super::fixture::{Scene, for_an_hour};
use crate::{Accept, Accepted, Expired, Expiry, Store};
use capa_webhooks_core::notification::Turn;
use std::time::Duration;

/// Settled ones older than the moment go, with their attempts; nothing younger than the oldest pending one does.
pub async fn old_and_settled_goes<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let partner = scene.partner().await;
    let old = scene.sent(partner).await;
    scene.pass(Duration::from_secs(1));
    let (pending_since, pending) = (scene.now, scene.owned(partner).await);
    scene.pass(Duration::from_secs(1));
    let young = scene.failed(partner).await;
    scene.pass(Duration::from_secs(1));
    let expiry = Expiry { notifications_before: scene.now, idempotency_before: scene.now, limit: 10 };
    let one = Expired { notifications: 1, idempotency_keys: 0, more: false };
    assert_eq!(scene.store().expire(expiry).await.expect("expires"), one);
    assert_eq!(scene.status(old).await, None);
    assert_eq!(scene.store().attempts(old).await.expect("reads"), None);
    assert!(scene.status(pending).await.is_some() && scene.status(young).await.is_some());
    scene.fail(pending, Turn::first(pending_since)).await;
    let narrow = Expiry { notifications_before: pending_since, ..expiry };
    assert_eq!(scene.store().expire(narrow).await.expect("expires").notifications, 0);
    assert_eq!(scene.store().expire(expiry).await.expect("expires").notifications, 2);
    scene.assert_healthy().await;
}

/// A slice removes at most so many.
pub async fn slices_say_whether_there_is_more<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let (one, two) = (scene.partner().await, scene.partner().await);
    for _ in 0..2 {
        scene.sent(one).await;
        scene.sent(two).await;
    }
    scene.pass(Duration::from_secs(1));
    let expiry = Expiry { notifications_before: scene.now, idempotency_before: scene.now, limit: 3 };
    for (notifications, more) in [(3, true), (1, false), (0, false)] {
        let expected = Expired { notifications, idempotency_keys: 0, more };
        assert_eq!(scene.store().expire(expiry).await.expect("expires"), expected);
    }
    scene.assert_healthy().await;
}

/// Keys have a retention of their own; one whose notification is gone counts as new.
pub async fn idempotency_keys_go_by_themselves<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let partner = scene.partner().await;
    let accept = Accept { idempotency: for_an_hour("old"), ..scene.event(partner) };
    scene.accept(accept.clone()).await;
    scene.fail(accept.key, Turn::first(scene.now)).await;
    scene.pass(Duration::from_secs(1));
    let middle = scene.now;
    let young = Accept { idempotency: for_an_hour("young"), ..scene.event(partner) };
    scene.accept(young.clone()).await;
    scene.fail(young.key, Turn::first(scene.now)).await;
    scene.pass(Duration::from_secs(1));
    let keys =
        Expiry { notifications_before: middle.minus(Duration::from_secs(9)), idempotency_before: middle, limit: 9 };
    let expected = Expired { notifications: 0, idempotency_keys: 1, more: false };
    assert_eq!(scene.store().expire(keys).await.expect("expires"), expected);
    let again = Accept { key: scene.key(partner), ..accept };
    assert_eq!(scene.accept(again.clone()).await, Accepted::New);
    scene.fail(again.key, Turn::first(scene.now)).await;
    scene.pass(Duration::from_secs(1));
    let all = Expiry { notifications_before: scene.now, idempotency_before: middle, limit: 9 };
    assert_eq!(scene.store().expire(all).await.expect("expires").notifications, 3);
    let again = Accept { key: scene.key(partner), ..young };
    assert_eq!(scene.accept(again).await, Accepted::New);
    scene.assert_healthy().await;
}
