//! Cases of lives: [`Store::heartbeat`], [`Store::end_silent`], [`Store::owned`], [`Store::owned_jobs`], and [`Store::changes`], by which lives
//! hear of each other's changes.
//!
//! An engine that is not [`Store::shared`] knows one life at a time, and has nobody to tell of changes; these cases
//! hold it to that.

use super::Engine;
use super::fixture::{Scene, attempted, status, ten_seconds};
use crate::{Accept, Changes, Fate, Job, PartnerChange, PartnerKey, PlatformKey, Recorded, Scopes, Store};
use bytes::Bytes;
use capa_webhooks_core::id::{KeyId, LifeId, NotificationKey};
use capa_webhooks_core::notification::Turn;
use capa_webhooks_core::settings::SettingsChange;
use std::time::Duration;

/// A life that began is alive until it ends; one that never began is not.
pub async fn a_heartbeat_tells_whether_the_life_goes_on<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let alive = async |life| scene.store().heartbeat(life).await.expect("beats").alive;
    assert!(alive(scene.life).await && alive(scene.life).await);
    assert!(!alive(LifeId::from_bytes([9; 16])).await, "never begun");
    scene.store().end_life(scene.life, scene.now).await.expect("ends");
    assert!(!alive(scene.life).await);
}

/// Where the store is shared, a life that begins leaves the others alone, and each sees the counters of the others move.
/// Where it is not, it ends them.
pub async fn several_lives_or_one_at_a_time<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let partner = scene.partner().await;
    let first = scene.life;
    let held = scene.owned(partner).await;
    let second = scene.another_life().await;
    let beat = scene.store().heartbeat(second).await.expect("beats");
    let earlier = scene.store().heartbeat(first).await.expect("beats");
    let claimed: Vec<_> = scene.claim_all().await.iter().map(|job| job.key).collect();
    if scene.store().shared() {
        assert!(beat.alive && earlier.alive && claimed.is_empty());
        let counter =
            |beat: &crate::Heartbeat, life| beat.others.iter().find(|(other, _)| *other == life).map(|at| at.1);
        assert_eq!((beat.others.len(), earlier.others.len()), (1, 1));
        let again = scene.store().heartbeat(second).await.expect("beats");
        assert!(counter(&again, first) > counter(&beat, first), "the first has beaten in between");
        scene.store().end_life(first, scene.now).await.expect("ends");
        assert!(scene.store().heartbeat(second).await.expect("beats").others.is_empty());
        assert_eq!(scene.claim_all().await.iter().map(|job| job.key).collect::<Vec<_>>(), [held]);
    } else {
        assert!(beat.alive && !earlier.alive && beat.others.is_empty());
        assert_eq!(claimed, [held]);
    }
    scene.assert_healthy().await;
}

/// Only a life whose counter did not move since it was seen is ended, with what it owns; what is recorded or accepted
/// for it later is late, or owned by nobody.
pub async fn who_stands_still_is_ended_and_who_moved_is_not<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let partner = scene.partner().await;
    let first = scene.life;
    let held = scene.owned(partner).await;
    let turn = Turn::first(scene.now);
    let second = scene.another_life().await;
    let others = scene.store().heartbeat(second).await.expect("beats").others;
    scene.store().heartbeat(first).await.expect("beats");
    scene.store().end_silent(others, scene.now).await.expect("ends nobody");
    let moved = scene.store().heartbeat(first).await.expect("beats").alive;
    assert_eq!(moved, scene.store().shared(), "it has moved since");
    let others = scene.store().heartbeat(second).await.expect("beats").others;
    scene.store().end_silent(others, scene.now).await.expect("ends");
    assert!(!scene.store().heartbeat(first).await.expect("beats").alive);
    assert!(scene.store().heartbeat(second).await.expect("beats").others.is_empty());
    let late = attempted(held, turn, status(500, "down"), &ten_seconds(5), scene.now);
    assert_eq!(scene.record_by(first, late).await, Recorded::Late);
    let belated = Accept { fate: Fate::Queue(Some(first)), ..scene.event(partner) };
    let belated_key = belated.key;
    scene.accept(belated).await;
    scene.store().heartbeat(second).await.expect("sweeps");
    let mut claimed: Vec<_> = scene.claim_all().await.iter().map(|job| job.key).collect();
    claimed.sort();
    let mut expected = [held, belated_key];
    expected.sort();
    assert_eq!(claimed, expected);
    scene.assert_healthy().await;
}

/// What a life owns is told by its key, and with its turn and its body if it is asked for; what is settled, released, or
/// another's is not.
pub async fn what_is_owned_is_told_whole<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let (one, two) = (scene.partner().await, scene.partner().await);
    assert_eq!(scene.store().owned(scene.life).await.expect("reads"), []);
    let accept = scene.event(one);
    let (key, body): (_, Bytes) = (accept.key, accept.event.body.clone());
    scene.accept(accept).await;
    let retried = scene.owned(two).await;
    let turn = Turn::first(scene.now);
    let failed = attempted(retried, turn, status(500, "down"), &ten_seconds(5), scene.now);
    assert_eq!(scene.record(failed).await, Recorded::Applied);
    scene.sent(one).await;
    scene.unowned(one).await;
    let released = scene.owned(two).await;
    scene.store().release(scene.life, vec![released]).await.expect("releases");
    let mut owned = scene.store().owned(scene.life).await.expect("reads");
    owned.sort_by_key(|owned| *owned != key);
    assert_eq!(owned, [key, retried]);
    let jobs = async |life, keys: &[NotificationKey]| {
        let mut jobs = scene.store().owned_jobs(life, keys.to_vec()).await.expect("reads");
        jobs.sort_by_key(|job| job.key != key);
        jobs
    };
    let stranger = NotificationKey { partner: two, ..key };
    let both = jobs(scene.life, &[key, released, retried, stranger]).await;
    assert_eq!(both.len(), 2, "{both:?}");
    assert_eq!(both[0], Job { key, turn, body });
    let due = scene.now.plus(Duration::from_secs(10));
    assert_eq!((both[1].key, both[1].turn), (retried, Turn { number: 2, due, ..turn }));
    assert_eq!(jobs(scene.life, &[retried]).await, both[1..]);
    assert_eq!(jobs(scene.life, &[]).await, []);
    let other = LifeId::from_bytes([9; 16]);
    assert_eq!((scene.store().owned(other).await.expect("reads"), jobs(other, &[key]).await), (vec![], vec![]));
    scene.store().end_life(scene.life, scene.now).await.expect("ends");
    assert_eq!(scene.store().owned(scene.life).await.expect("reads"), []);
    assert_eq!(jobs(scene.life, &[key, retried]).await, []);
}

/// Every change of a partner or a key is told once, after the number asked with; a heartbeat tells the newest number.
pub async fn changes_are_told_to_the_other_nodes<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let partner = scene.partner().await;
    let quiet = scene.partner().await;
    let newest = async |scene: &Scene<E>| scene.store().heartbeat(scene.life).await.expect("beats").changes;
    let mut seen = newest(&scene).await;
    let none = scene.store().changes(seen).await.expect("tells");
    assert_eq!(none, Changes { upto: seen, ..Changes::default() });
    let key = PartnerKey { id: KeyId::v4([5; 16]), partner, secret_hash: [5; 32] };
    let platform =
        PlatformKey { id: KeyId::v4([6; 16]), secret_hash: [6; 32], scopes: Scopes::ALL, name: String::new() };
    for change in 0..7 {
        let (store, now) = (scene.store(), scene.now);
        match change {
            0 => {
                let url = SettingsChange { url: Some(None), ..SettingsChange::default() };
                store.change_settings(partner, url, now).await.map(drop)
            }
            1 => {
                let disable = PartnerChange { disabled: Some(true), ..PartnerChange::default() };
                store.update_partner(partner, disable, now).await.map(drop)
            }
            2 => store.add_partner_key(key.clone(), now).await.map(drop),
            3 => store.revoke_partner_key(partner, key.id, now).await.map(drop),
            4 => store.add_platform_key(platform.clone(), now).await.map(drop),
            5 => store.revoke_platform_key(platform.id, now).await.map(drop),
            _ => store.erase_partner(partner, 100, now).await.map(drop),
        }
        .expect("changes");
        let told = scene.store().changes(seen).await.expect("tells");
        if scene.store().shared() {
            assert!(told.upto > seen, "{change}");
            assert_eq!(told.upto, newest(&scene).await, "{change}");
            assert!(!told.partners.contains(&quiet), "{change}");
            let of_partner = told.partners.contains(&partner);
            assert!(
                if matches!(change, 0 | 1 | 6) { of_partner } else { !told.keys.is_empty() || of_partner },
                "{change}"
            );
        } else {
            assert_eq!(told, Changes::default(), "{change}");
        }
        seen = told.upto;
    }
    let nothing = Changes { upto: seen, ..Changes::default() };
    assert_eq!(scene.store().changes(seen).await.expect("tells"), nothing);
    // Who has heard of more than there is asks a store that was set back.
    assert_eq!(scene.store().changes(seen + 1_000).await.expect("tells"), nothing);
}
