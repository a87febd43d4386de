//! Connections that break: what is certain is told, what is not is in doubt, and the next call works.

use crate::fixture::{Postgres, options};
use capa_webhooks_cluster::{Cluster, Proxy};
use capa_webhooks_core::notification::{Status, Turn};
use capa_webhooks_core::schedule::Schedule;
use capa_webhooks_store::conformance::fixture::{Scene, attempted, ok};
use capa_webhooks_store::postgres::PostgresStore;
use capa_webhooks_store::{Accept, Accepted, Error, Fate, Recorded, Store};
use std::sync::Arc;
use tokio_postgres::{Client, NoTls};

/// Somebody else in the same database, who can hold locks.
async fn bystander(engine: &Postgres) -> Client {
    let (client, connection) = tokio_postgres::connect(engine.database.url(), NoTls).await.expect("works");
    tokio::spawn(connection);
    client
}

/// Waits until so many statements of the store wait for a lock.
async fn wait_for_waiting(client: &Client) {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while client.query_one(sql, &[]).await.expect("works").get::<_, i64>(0) == 0 {
        tokio::task::yield_now().await;
    }
}

/// A store behind a proxy, an event, and somebody who holds the queue.
async fn held() -> (Scene<Postgres>, Proxy, Arc<PostgresStore>, Client, Accept) {
    let mut scene = Scene::new(Postgres::new()).await;
    let partner = scene.partner().await;
    let proxy = Proxy::postgres(Cluster::shared().address()).expect("works");
    let url = scene.engine.database.url_through(proxy.address());
    let store = PostgresStore::open(&url, options()).await.expect("works");
    let holder = bystander(&scene.engine).await;
    let accept = scene.event(partner);
    // The first accept connects and prepares, so that what waits for the lock is the statement itself.
    let first = Accept { fate: Fate::Queue(None), ..scene.event(partner) };
    assert_eq!(store.accept(vec![first], scene.now).await.expect("works"), [Accepted::New]);
    holder.batch_execute("BEGIN; LOCK TABLE capa_webhooks.queue").await.expect("works");
    (scene, proxy, Arc::new(store), holder, accept)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_lost_after_the_commit_is_in_doubt() {
    let (scene, proxy, store, holder, accept) = held().await;
    let (key, now) = (accept.key, scene.now);
    let call = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.accept(vec![accept], now).await }
    });
    wait_for_waiting(&bystander(&scene.engine).await).await;
    proxy.cut();
    let answer = call.await.unwrap();
    assert!(matches!(answer, Err(Error::InDoubt(_))), "{answer:?}");
    // The database has not noticed, and carries it out all the same.
    holder.batch_execute("COMMIT").await.unwrap();
    while scene.status(key).await.is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!(store.owned(scene.life).await.unwrap(), [key], "its life finds it");
    scene.assert_healthy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_lost_before_the_commit_is_in_doubt_too() {
    let (scene, _proxy, store, holder, accept) = held().await;
    let (key, now) = (accept.key, scene.now);
    let again = accept.clone();
    let call = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.accept(vec![accept], now).await }
    });
    let other = bystander(&scene.engine).await;
    wait_for_waiting(&other).await;
    let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
               WHERE datname = current_database() AND wait_event_type = 'Lock'";
    assert_eq!(other.query_one(sql, &[]).await.unwrap().get::<_, i64>(0), 1);
    let answer = call.await.unwrap();
    assert!(matches!(answer, Err(Error::InDoubt(_))), "{answer:?}");
    holder.batch_execute("COMMIT").await.unwrap();
    assert_eq!(scene.status(key).await, None);
    assert_eq!(store.accept(vec![again], now).await.unwrap(), [Accepted::New], "the next call connects anew");
    scene.assert_healthy().await;
}

/// A statement that is cut off by its time-out has changed nothing, and says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_that_takes_too_long_is_refused() {
    let mut scene = Scene::new(Postgres::new()).await;
    let partner = scene.partner().await;
    let mut options = options();
    options.statement_timeout = std::time::Duration::from_secs(3);
    let store = PostgresStore::open(scene.engine.database.url(), options).await.unwrap();
    let first = Accept { fate: Fate::Queue(None), ..scene.event(partner) };
    assert_eq!(store.accept(vec![first], scene.now).await.unwrap(), [Accepted::New]);
    let holder = bystander(&scene.engine).await;
    holder.batch_execute("BEGIN; LOCK TABLE capa_webhooks.queue").await.unwrap();
    let accept = scene.event(partner);
    let answer = store.accept(vec![accept.clone()], scene.now).await;
    assert!(matches!(answer, Err(Error::Unavailable(_))), "{answer:?}");
    holder.batch_execute("COMMIT").await.unwrap();
    assert_eq!(scene.status(accept.key).await, None);
    assert_eq!(store.accept(vec![accept], scene.now).await.unwrap(), [Accepted::New]);
    scene.assert_healthy().await;
}

/// While nobody answers, calls are refused; when somebody does again, they work, without being opened anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_connects_again_by_itself() {
    let mut scene = Scene::new(Postgres::new()).await;
    let partner = scene.partner().await;
    let proxy = Proxy::postgres(Cluster::shared().address()).unwrap();
    let url = scene.engine.database.url_through(proxy.address());
    let store = PostgresStore::open(&url, options()).await.unwrap();
    let key = scene.owned(partner).await;
    assert!(store.notification(key).await.unwrap().is_some());
    let record = attempted(key, Turn::first(scene.now), ok(), &Schedule::default(), scene.now);
    proxy.refuse();
    proxy.cut();
    let (asked, recorded) =
        (store.notification(key).await, store.record(scene.life, std::slice::from_ref(&record)).await);
    assert!(matches!(asked, Err(Error::Unavailable(_))), "{asked:?}");
    assert!(matches!(recorded, Err(Error::Unavailable(_) | Error::InDoubt(_))), "{recorded:?}");
    assert!(matches!(store.heartbeat(scene.life).await, Err(Error::Unavailable(_) | Error::InDoubt(_))));
    proxy.go_on();
    assert_eq!(store.record(scene.life, &[record]).await.unwrap(), [Recorded::Applied]);
    assert_eq!(scene.status(key).await, Some(Status::Sent));
    assert!(store.heartbeat(scene.life).await.unwrap().alive);
}
