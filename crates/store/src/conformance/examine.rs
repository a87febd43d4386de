//! Cases of [`Store::examine`]. That it finds what is broken is for each engine's own tests: only they can break it.

use super::Engine;
use super::fixture::Scene;
use crate::{Erased, Examination, Retried, Store};

/// One of each state, and an erased partner: nothing to report.
pub async fn a_healthy_store_has_no_violations<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let empty = Examination { notifications: 0, pending: 0, owned: 0, violations: Vec::new() };
    assert_eq!(scene.store().examine().await.expect("examines"), empty);
    let (partner, erased) = (scene.partner().await, scene.partner().await);
    scene.sent(partner).await;
    scene.owned(partner).await;
    scene.unowned(partner).await;
    let retried = scene.failed(partner).await;
    assert!(matches!(scene.retry(retried).await, Retried::Queued(_)));
    scene.failed(erased).await;
    scene.owned(erased).await;
    assert_eq!(scene.store().erase_partner(erased, 9, scene.now).await.expect("erases"), Erased::Done);
    let expected = Examination { notifications: 6, pending: 3, owned: 1, violations: Vec::new() };
    assert_eq!(scene.store().examine().await.expect("examines"), expected);
}
