//! Cases of [`Store::claim`] and [`Store::release`].

use super::Engine;
use super::fixture::{Scene, all};
use crate::{Claim, Claimed, Store};
use capa_webhooks_core::id::{LifeId, NotificationKey, PartnerId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

async fn claim<E: Engine>(scene: &Scene<E>, room: usize, total: usize) -> Claimed {
    claim_with(scene, room, total, BTreeMap::new()).await
}

async fn claim_with<E: Engine>(
    scene: &Scene<E>,
    room: usize,
    total: usize,
    rooms: BTreeMap<PartnerId, usize>,
) -> Claimed {
    let claim = Claim { life: scene.life, until: scene.now, room, rooms, total, bytes: usize::MAX };
    scene.store().claim(claim).await.expect("claims")
}

fn keys(claimed: &Claimed) -> Vec<NotificationKey> {
    claimed.jobs.iter().map(|job| job.key).collect()
}

/// What is not due yet, or owned, is left.
pub async fn only_due_rows_that_nobody_owns<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let partner = scene.partner().await;
    scene.owned(partner).await;
    let now = scene.unowned(partner).await;
    scene.pass(Duration::from_millis(1));
    scene.unowned(partner).await;
    scene.now = scene.now.minus(Duration::from_millis(1));
    assert_eq!(keys(&claim(&scene, 10, 10).await), [now]);
    assert_eq!(claim(&scene, 10, 10).await, Claimed::default());
    scene.assert_healthy().await;
}

/// Within a partner, the row that has been due longest comes first.
pub async fn the_longest_due_first<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let partner = scene.partner().await;
    let mut expected = Vec::new();
    for _ in 0..5 {
        expected.push(scene.unowned(partner).await);
        scene.pass(Duration::from_millis(1));
    }
    assert_eq!(keys(&claim(&scene, 3, 10).await), expected[..3]);
    assert_eq!(keys(&claim(&scene, 3, 10).await), expected[3..]);
}

/// A claim of more rows than an engine reads or takes at once gives all of them, the longest due first, and owns them.
pub async fn a_large_claim_is_whole<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let partner = scene.partner().await;
    let mut expected = BTreeSet::new();
    for number in 1..=200 {
        expected.insert(scene.unowned(partner).await);
        // Many are due at the same moment.
        if number % 40 == 0 {
            scene.pass(Duration::from_millis(1));
        }
    }
    let (large, rest) = (claim(&scene, 150, 200).await, claim(&scene, 150, 200).await);
    assert_eq!((large.jobs.len(), large.more, rest.jobs.len(), rest.more), (150, false, 50, false));
    assert!(large.jobs.iter().chain(&rest.jobs).is_sorted_by_key(|job| job.turn.due));
    assert_eq!(keys(&large).into_iter().chain(keys(&rest)).collect::<BTreeSet<_>>(), expected);
    assert_eq!(scene.store().owned(scene.life).await.expect("owned").len(), 200);
    scene.assert_healthy().await;
}

/// A claim goes on to more partners than an engine looks at at once, and the next one to those that it did not reach.
pub async fn a_claim_goes_around_all_partners<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let mut expected = BTreeSet::new();
    for _ in 0..80 {
        let partner = scene.partner().await;
        expected.extend([scene.unowned(partner).await, scene.unowned(partner).await]);
    }
    let (most, rest) = (claim(&scene, 10, 100).await, claim(&scene, 10, 100).await);
    assert_eq!((most.jobs.len(), most.more), (100, true));
    assert_eq!((rest.jobs.len(), rest.more), (60, false));
    assert_eq!(keys(&most).into_iter().chain(keys(&rest)).collect::<BTreeSet<_>>(), expected);
    assert_eq!(claim(&scene, 10, 100).await, Claimed::default());
    scene.assert_healthy().await;
}

/// `room`, `rooms` and `total` are upper bounds, and `more` tells of rows left because of `total` only.
pub async fn room_and_total_are_kept<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let (one, two) = (scene.partner().await, scene.partner().await);
    for _ in 0..5 {
        scene.unowned(one).await;
        scene.unowned(two).await;
    }
    assert_eq!(claim(&scene, 0, 10).await, Claimed::default());
    let nothing = claim(&scene, 2, 0).await;
    assert_eq!((nothing.jobs.len(), nothing.more), (0, true));
    let some = claim_with(&scene, 1, 10, BTreeMap::from([(one, 3), (PartnerId::v4([7; 16]), 9)])).await;
    assert_eq!((some.jobs.len(), some.more), (4, false));
    assert_eq!(some.jobs.iter().filter(|job| job.key.partner == one).count(), 3);
    let cut = claim(&scene, 4, 5).await;
    assert_eq!((cut.jobs.len(), cut.more), (5, true));
    let rest = claim(&scene, 4, 1).await;
    assert_eq!((rest.jobs.len(), rest.more), (1, false));
}

/// `bytes` is an upper bound, but for the first row; `more` tells that it cut the claim short.
pub async fn bytes_are_kept<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let (one, two) = (scene.partner().await, scene.partner().await);
    for _ in 0..4 {
        scene.unowned(one).await;
        scene.unowned(two).await;
    }
    let within = |bytes| Claim { life: scene.life, until: scene.now, room: 9, rooms: BTreeMap::new(), total: 9, bytes };
    let claims = async |bytes| scene.store().claim(within(bytes)).await.expect("claims");
    let first = claims(0).await;
    assert_eq!((first.jobs.len(), first.more), (1, true), "one row at least, however large");
    let weight = first.jobs[0].weight();
    let three = claims(4 * weight - 1).await;
    assert_eq!((three.jobs.len(), three.more), (3, true));
    let rest = claims(4 * weight).await;
    assert_eq!((rest.jobs.len(), rest.more), (4, false), "exactly as much as fits");
    assert_eq!(claims(weight).await, Claimed::default());
    scene.assert_healthy().await;
}

/// Where `total` is small, partners take turns.
pub async fn nobody_is_starved_by_total<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let mut partners = BTreeSet::new();
    for _ in 0..3 {
        let partner = scene.partner().await;
        partners.insert(partner);
        for _ in 0..3 {
            scene.unowned(partner).await;
        }
    }
    for _ in 0..3 {
        let mut served = BTreeSet::new();
        for _ in 0..3 {
            served.extend(claim(&scene, 10, 1).await.jobs.iter().map(|job| job.key.partner));
        }
        assert_eq!(served, partners);
    }
}

/// Claims at the same moment share no row, and together take every row.
pub async fn two_claims_never_share_a_row<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let partner = scene.partner().await;
    for _ in 0..40 {
        scene.unowned(partner).await;
    }
    let mut taken = BTreeSet::new();
    loop {
        let claims = all((0..4).map(|_| claim(&scene, 10, 10)).collect()).await;
        let jobs: Vec<_> = claims.iter().flat_map(keys).collect();
        for key in &jobs {
            assert!(taken.insert(*key), "claimed twice");
        }
        if jobs.is_empty() {
            break;
        }
    }
    assert_eq!(taken.len(), 40);
}

/// A life gives up only what it owns.
pub async fn released_rows_are_claimed_again<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let partner = scene.partner().await;
    let (one, two) = (scene.owned(partner).await, scene.owned(partner).await);
    let other = LifeId::from_bytes([9; 16]);
    scene.store().release(other, vec![one, two]).await.expect("releases");
    assert!(scene.claim_all().await.is_empty());
    scene.store().release(scene.life, vec![two, NotificationKey { partner, ..one }]).await.expect("releases");
    let jobs = scene.claim_all().await;
    assert_eq!(jobs.len(), 2);
    scene.store().release(scene.life, vec![two]).await.expect("releases");
    assert_eq!(scene.claim_all().await.iter().map(|job| job.key).collect::<Vec<_>>(), [two]);
    scene.assert_healthy().await;
}

/// A life that has ended, or never began, gets nothing.
pub async fn a_life_that_is_over_claims_nothing<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let partner = scene.partner().await;
    scene.unowned(partner).await;
    let never = Claim {
        life: LifeId::from_bytes([9; 16]),
        until: scene.now,
        room: 9,
        rooms: BTreeMap::new(),
        total: 9,
        bytes: usize::MAX,
    };
    assert_eq!(scene.store().claim(never).await.expect("claims"), Claimed::default());
    scene.store().end_life(scene.life, scene.now).await.expect("ends");
    assert_eq!(claim(&scene, 9, 9).await, Claimed::default());
    scene.next_life().await;
    assert_eq!(claim(&scene, 9, 9).await.jobs.len(), 1);
}
