//! Cases of a store that is opened again after its process was killed.

use super::Engine;
use super::fixture::{Scene, attempted, everything, ok, ten_seconds};
use crate::{Recorded, Store};
use capa_webhooks_core::notification::{Status, Turn};

/// Whatever a method answered before is there.
pub async fn what_was_answered_is_there<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let partner = scene.partner().await;
    let keys = [scene.sent(partner).await, scene.failed(partner).await, scene.owned(partner).await];
    let mut before = Vec::new();
    for key in keys {
        before.push((
            scene.store().notification(key).await.expect("reads"),
            scene.store().attempts(key).await.expect("reads"),
        ));
    }
    let (list, whole) = (scene.list(everything(partner)).await, scene.store().partner(partner).await.expect("reads"));
    scene.reopen().await;
    for (key, before) in keys.into_iter().zip(before) {
        let after =
            (scene.store().notification(key).await.expect("reads"), scene.store().attempts(key).await.expect("reads"));
        assert_eq!(after, before);
    }
    assert_eq!(scene.list(everything(partner)).await, list);
    assert_eq!(scene.store().partner(partner).await.expect("reads"), whole);
    scene.next_life().await;
    scene.assert_healthy().await;
}

/// The rows of a life that died are claimed by the next one, each at the turn at which it was left.
pub async fn a_new_life_frees_what_the_old_one_owned<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let partner = scene.partner().await;
    let (first, second) = (scene.owned(partner).await, scene.owned(partner).await);
    let turn = Turn::first(scene.now);
    let failed = attempted(second, turn, super::fixture::timeout(), &ten_seconds(5), scene.now);
    assert_eq!(scene.record(failed).await, Recorded::Applied);
    let old = scene.life;
    scene.reopen().await;
    assert!(scene.claim_all().await.is_empty(), "the old life is not known to be over yet");
    scene.next_life().await;
    scene.pass(std::time::Duration::from_secs(10));
    let jobs: Vec<_> = scene.claim_all().await.into_iter().map(|job| (job.key, job.turn)).collect();
    assert_eq!(jobs, [(first, turn), (second, Turn { number: 2, due: scene.now, ..turn })]);
    let late = attempted(first, turn, ok(), &ten_seconds(5), scene.now);
    assert_eq!(scene.record_by(old, late).await, Recorded::Late);
    assert_eq!(scene.status(first).await, Some(Status::Sent));
    scene.assert_healthy().await;
}
