//! Several nodes drain one inbox, and one of them breaks.

use crate::fixture::{LOOK, client, count, drain, judged, publish, scene, wait_for_waiting};
use capa_webhooks_cluster::{Cluster, Proxy};
use capa_webhooks_store::conformance::Engine as _;
use capa_webhooks_store::conformance::fixture::all;
use capa_webhooks_store::postgres::PostgresStore;
use capa_webhooks_store::{Accepted, Error, InboxId, InboxLook, Store as _};
use std::sync::Arc;

#[tokio::test]
async fn several_drainers_accept_each_row_once() {
    let (mut scene, partner) = scene().await;
    let other = client(&scene).await;
    for number in 0..60 {
        publish(&other, partner, number).await;
    }
    let nodes: Vec<PostgresStore> = all((0..4).map(|_| scene.engine.open()).collect()).await;
    let mut work = Vec::new();
    for (node, rows) in nodes.iter().zip([60, 45, 30, 60]) {
        let rows = node.inbox(InboxLook { rows, ..LOOK }).await.unwrap();
        let batch: Vec<_> = rows.iter().map(|row| judged(&mut scene, row)).collect();
        work.push(node.accept_inbox(batch, scene.now));
    }
    let answers: Vec<_> = all(work).await.into_iter().map(Result::unwrap).collect();
    for row in 0..60 {
        let won = answers.iter().filter_map(|answers| answers.get(row).copied().flatten()).collect::<Vec<_>>();
        assert_eq!(won, [Accepted::New], "row {row}");
    }
    assert_eq!((count(&other, "inbox").await, count(&other, "notifications").await), (0, 60));
    scene.assert_healthy().await;
}

/// A node dies while it accepts: it waits for a row that somebody holds, and its connection is ended.
#[tokio::test]
async fn what_a_killed_drainer_leaves_is_accepted_by_another() {
    let (mut scene, partner) = scene().await;
    let (mut holder, other) = (client(&scene).await, client(&scene).await);
    for number in 0..10 {
        publish(&other, partner, number).await;
    }
    let dying = scene.engine.open().await;
    let batch: Vec<_> = dying.inbox(LOOK).await.unwrap().iter().map(|row| judged(&mut scene, row)).collect();
    let held = holder.transaction().await.unwrap();
    held.query("SELECT FROM capa_webhooks.inbox ORDER BY id DESC LIMIT 1 FOR UPDATE", &[]).await.unwrap();
    let now = scene.now;
    let accepting = tokio::spawn(async move { dying.accept_inbox(batch, now).await });
    wait_for_waiting(&other).await;
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE datname = current_database() AND wait_event_type = 'Lock'";
    other.query(sql, &[]).await.unwrap();
    let answer = accepting.await.unwrap();
    assert!(matches!(answer, Err(Error::InDoubt(_))), "{answer:?}");
    held.rollback().await.unwrap();
    assert_eq!(drain(&mut scene).await, [Some(Accepted::New); 10]);
    assert_eq!((count(&other, "inbox").await, count(&other, "notifications").await), (0, 10));
    scene.assert_healthy().await;
}

/// The database carries out what it was told, and the answer does not arrive. (That it was never told is the case above.)
#[tokio::test]
async fn a_lost_answer_to_a_commit_neither_loses_nor_doubles() {
    let (mut scene, partner) = scene().await;
    let (mut holder, other) = (client(&scene).await, client(&scene).await);
    let proxy = Proxy::postgres(Cluster::shared().address()).unwrap();
    let node = Arc::new(scene.engine.node(&scene.engine.database.url_through(proxy.address())).await);
    publish(&other, partner, 1).await;
    let rows = node.inbox(LOOK).await.unwrap();
    // The first accept connects and prepares, so that what waits for the lock is the statement itself.
    let gone = (InboxId(0), judged(&mut scene, &rows[0]).1);
    assert_eq!(node.accept_inbox(vec![gone], scene.now).await.unwrap(), [None]);
    let held = holder.transaction().await.unwrap();
    held.query("SELECT FROM capa_webhooks.inbox FOR UPDATE", &[]).await.unwrap();
    let batch = rows.iter().map(|row| judged(&mut scene, row)).collect();
    let (accepting, now) = (Arc::clone(&node), scene.now);
    let accepting = tokio::spawn(async move { accepting.accept_inbox(batch, now).await });
    wait_for_waiting(&other).await;
    proxy.cut();
    let answer = accepting.await.unwrap();
    assert!(matches!(answer, Err(Error::InDoubt(_))), "{answer:?}");
    let rows = node.inbox(LOOK).await.unwrap();
    assert_eq!(rows.len(), 1, "nobody knows yet");
    held.rollback().await.unwrap();
    // Waits for the transaction that is in doubt, as every accept of these rows does.
    let batch = rows.iter().map(|row| judged(&mut scene, row)).collect();
    assert_eq!(node.accept_inbox(batch, scene.now).await.unwrap(), [None]);
    assert_eq!(node.inbox(LOOK).await.unwrap(), []);
    assert_eq!((count(&other, "inbox").await, count(&other, "notifications").await), (0, 1));
    scene.assert_healthy().await;
}
