//! Several nodes on one database: what one changes, the others see, and what both want, one gets.

use crate::fixture::{Postgres, options};
use capa_webhooks_core::id::{KeyId, LifeId, PartnerId};
use capa_webhooks_core::settings::SettingsChange;
use capa_webhooks_store::conformance::fixture::{Scene, all, event, everything, for_an_hour};
use capa_webhooks_store::postgres::PostgresStore;
use capa_webhooks_store::{
    Accept, Accepted, Claim, Erased, Fate, PartnerChange, PartnerKey, PlatformKey, Scopes, Store,
};
use std::collections::{BTreeMap, BTreeSet};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_may_start_at_once() {
    let engine = Postgres::new();
    let stores = all((0..4).map(|_| PostgresStore::open(engine.database.url(), options())).collect()).await;
    for store in stores {
        assert_eq!(store.expect("opens").examine().await.expect("examines").violations, []);
    }
}

#[tokio::test]
async fn every_change_is_told_once_and_in_order() {
    let mut scene = Scene::new(Postgres::new()).await;
    let other = scene.engine.node().await;
    let mut upto = other.changes(0).await.unwrap().upto;
    let new = scene.new_partner();
    let (id, key) = (new.id, new.key.id);
    let further = PartnerKey { id: KeyId::v4([1; 16]), partner: id, secret_hash: [2; 32] };
    let platform =
        PlatformKey { id: KeyId::v4([3; 16]), secret_hash: [4; 32], scopes: Scopes::ALL, name: String::new() };
    let (store, now) = (scene.store(), scene.now);
    let mut told = async |partners: &[PartnerId], keys: &[KeyId]| {
        assert!(other.heartbeat(scene.life).await.unwrap().changes > upto, "a heartbeat tells that there is something");
        let changes = other.changes(upto).await.unwrap();
        assert_eq!((changes.partners.as_slice(), changes.keys.as_slice()), (partners, keys));
        assert!(changes.upto > upto);
        upto = changes.upto;
        assert_eq!(other.heartbeat(scene.life).await.unwrap().changes, upto);
        assert_eq!(other.changes(upto).await.unwrap().upto, upto);
    };
    store.create_partner(new, now).await.unwrap();
    told(&[id], &[key]).await;
    store.update_partner(id, PartnerChange { disabled: Some(true), name: None }, now).await.unwrap();
    told(&[id], &[]).await;
    store.change_settings(id, SettingsChange { url: Some(None), ..SettingsChange::default() }, now).await.unwrap();
    told(&[id], &[]).await;
    store.add_partner_key(further.clone(), now).await.unwrap();
    told(&[id], &[further.id]).await;
    store.revoke_partner_key(id, further.id, now).await.unwrap();
    told(&[id], &[further.id]).await;
    store.add_platform_key(platform.clone(), now).await.unwrap();
    told(&[], &[platform.id]).await;
    store.revoke_platform_key(platform.id, now).await.unwrap();
    told(&[], &[platform.id]).await;
    store.erase_partner(id, 10, now).await.unwrap();
    let mut keys = [key, further.id];
    keys.sort_unstable();
    told(&[id], &keys).await;
}

/// Where there are more than are told at a time, whoever asks on from there misses none.
#[tokio::test]
async fn many_changes_are_told_in_parts() {
    let scene = Scene::new(Postgres::new()).await;
    let sql = "INSERT INTO capa_webhooks.changes (number, partner)
               SELECT n, lpad(to_hex(n), 32, '0')::uuid FROM generate_series(1, 10001) AS n;
               UPDATE capa_webhooks.change_number SET number = 10001";
    scene.engine.database.sql(sql).unwrap();
    let first = scene.store().changes(0).await.unwrap();
    assert_eq!((first.partners.len(), first.upto), (10_000, 10_000));
    let rest = scene.store().changes(first.upto).await.unwrap();
    assert_eq!((rest.partners.len(), rest.upto), (1, 10_001));
}

/// What changed nothing tells nothing.
#[tokio::test]
async fn what_is_refused_is_not_told() {
    let mut scene = Scene::new(Postgres::new()).await;
    let partner = scene.partner().await;
    let before = scene.store().changes(0).await.unwrap().upto;
    let stranger = scene.new_partner();
    let store = scene.store();
    assert!(store.update_partner(stranger.id, PartnerChange::default(), scene.now).await.unwrap().is_none());
    assert!(!store.revoke_partner_key(partner, stranger.key.id, scene.now).await.unwrap());
    assert_eq!(store.erase_partner(stranger.id, 1, scene.now).await.unwrap(), Erased::UnknownPartner);
    assert_eq!(store.changes(0).await.unwrap().upto, before);
}

/// Two nodes and the same keys in opposite orders: one notification for each, no deadlock, no error.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_keys_on_two_nodes_make_one_notification_each() {
    let mut scene = Scene::new(Postgres::new()).await;
    let partners = [scene.partner().await, scene.partner().await];
    let nodes = [scene.engine.node().await, scene.engine.node().await];
    for round in 0..10 {
        let mut batches: [Vec<Accept>; 2] = [Vec::new(), Vec::new()];
        for number in 0..40 {
            for batch in &mut batches {
                let partner = partners[number % 2];
                let accept = Accept {
                    idempotency: for_an_hour(&format!("{round}-{number}")),
                    event: event("u", None, 1),
                    fate: Fate::Queue(None),
                    ..scene.event(partner)
                };
                batch.push(accept);
            }
        }
        batches[1].reverse();
        let mut ids: BTreeMap<String, BTreeSet<_>> = BTreeMap::new();
        let calls = nodes.iter().zip(&batches).map(|(node, batch)| node.accept(batch.clone(), scene.now)).collect();
        let answers = all(calls).await;
        let mut made = 0;
        for (answers, batch) in answers.into_iter().zip(&batches) {
            for (answer, accept) in answers.expect("accepts").into_iter().zip(batch) {
                let id = match answer {
                    Accepted::New => accept.key.id,
                    Accepted::Repeat { id, .. } => id,
                    other => panic!("{other:?}"),
                };
                made += usize::from(answer == Accepted::New);
                let key = accept.idempotency.as_ref().expect("each has one").key.clone();
                ids.entry(key).or_default().insert(id);
            }
        }
        assert_eq!((made, ids.len()), (40, 40));
        assert!(ids.values().all(|ids| ids.len() == 1), "both are told of the same one");
    }
    let listed: u64 = {
        let (one, two) = (scene.list(everything(partners[0])).await, scene.list(everything(partners[1])).await);
        one.total + two.total
    };
    assert_eq!(listed, 400);
    scene.assert_healthy().await;
}

/// Two nodes that claim at once share no row.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_is_claimed_by_one_node() {
    let mut scene = Scene::new(Postgres::new()).await;
    let partner = scene.partner().await;
    for _ in 0..60 {
        scene.unowned(partner).await;
    }
    let nodes = [scene.engine.node().await, scene.engine.node().await];
    let lives = [LifeId::from_bytes([1; 16]), LifeId::from_bytes([2; 16])];
    for (node, life) in nodes.iter().zip(lives) {
        node.begin_life(life, scene.now).await.unwrap();
    }
    let mut taken = BTreeSet::new();
    while taken.len() < 60 {
        let claim =
            |life| Claim { life, until: scene.now, room: 7, rooms: BTreeMap::new(), total: 100, bytes: usize::MAX };
        let calls = nodes.iter().zip(lives).map(|(node, life)| node.claim(claim(life))).collect();
        for claimed in all(calls).await {
            for job in claimed.expect("claims").jobs {
                assert!(taken.insert(job.key), "claimed twice");
            }
        }
    }
    for (node, life) in nodes.iter().zip(lives) {
        let owned = node.owned(life).await.unwrap();
        assert!(owned.iter().all(|key| taken.remove(key)));
    }
    assert!(taken.is_empty(), "each belongs to the node that was told so");
}

/// Erasing waits for what other nodes are accepting, so nothing is left behind of a partner that is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_accepted_for_a_partner_that_is_gone() {
    let mut scene = Scene::new(Postgres::new()).await;
    let nodes = [scene.engine.node().await, scene.engine.node().await];
    for _ in 0..10 {
        let partner = scene.partner().await;
        let batches: Vec<Vec<Accept>> = (0..6).map(|_| (0..5).map(|_| scene.event(partner)).collect()).collect();
        let calls = batches.iter().zip(nodes.iter().cycle()).map(|(batch, node)| node.accept(batch.clone(), scene.now));
        let erasing = async {
            while scene.store().erase_partner(partner, 3, scene.now).await.expect("erases") != Erased::Done {}
        };
        let accepting = async {
            let mut answers = Vec::new();
            for answer in all(calls.collect()).await {
                answers.extend(answer.expect("accepts"));
            }
            answers
        };
        let (accepted, ()) = tokio::join!(accepting, erasing);
        let new = accepted.iter().filter(|answer| **answer == Accepted::New).count();
        let page = scene.list(everything(partner)).await;
        assert_eq!(page.total, u64::try_from(new).unwrap());
        assert_eq!(scene.store().backlog().await.unwrap().pending, 0);
    }
    scene.assert_healthy().await;
}
