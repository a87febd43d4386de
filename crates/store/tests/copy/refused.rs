//! When a store is not copied, and not served.

use crate::close;
use crate::fixture::{File, address, copy_at_once, copy_slowly, database, fill, key, open_postgres};
use capa_webhooks_store::conformance::Engine;
use capa_webhooks_store::conformance::fixture::Scene;
use capa_webhooks_store::copy::{Address, CopyError, Options, copy};
use capa_webhooks_store::seal::MasterKey;
use capa_webhooks_store::{Error, InboxLook, Refusal, Store};
use std::ops::ControlFlow;

/// Why a copy was refused.
async fn refusal(from: &Address, to: &Address) -> Error {
    match copy_at_once(from, to).await {
        Err(CopyError::Store(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// Copies a batch and is stopped.
async fn begin(from: &Address, to: &Address) {
    let stopped = copy_slowly(from, to, |_| ControlFlow::Break(())).await;
    assert!(matches!(stopped, Err(CopyError::Stopped)), "{stopped:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_master_key() {
    let mut scene = Scene::new(File::new()).await;
    fill(&mut scene).await;
    let file = close(scene).0;
    let (there, other) = (database(), MasterKey::new([8; 32]));
    let named = |error: CopyError| {
        let text = error.to_string();
        assert!(text.contains(&key().id().to_string()) && text.contains(&other.id().to_string()), "{text}");
    };
    let options = Options::new(other.clone());
    let mut on_progress = |_| ControlFlow::Continue(());
    named(copy(&file.address(), &address(&there), &options, &mut on_progress).await.unwrap_err());
    copy_at_once(&file.address(), &address(&there)).await.unwrap();
    named(copy(&address(&there), &File::new().address(), &options, &mut on_progress).await.unwrap_err());
    // The target names another key than the source.
    let theirs = database();
    let options_of_theirs = capa_webhooks_store::postgres::Options::new(other.clone(), std::sync::Arc::new(|_| ()));
    drop(capa_webhooks_store::postgres::PostgresStore::open(theirs.url(), options_of_theirs).await.unwrap());
    named(copy_at_once(&file.address(), &address(&theirs)).await.unwrap_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_is_not_empty() {
    let mut scene = Scene::new(File::new()).await;
    fill(&mut scene).await;
    let file = close(scene).0;
    let (there, back) = (database(), File::new());
    copy_at_once(&file.address(), &address(&there)).await.unwrap();
    let text = refusal(&file.address(), &address(&there)).await.to_string();
    assert!(text.contains("finished copy of this store"), "{text}");
    // A single partner is enough, and so is a start of a service.
    let mut other = Scene::new(File::new()).await;
    other.partner().await;
    let other = close(other).0;
    let text = refusal(&other.address(), &address(&there)).await.to_string();
    assert!(text.contains("not empty"), "{text}");
    let text = refusal(&address(&there), &other.address()).await.to_string();
    assert!(text.contains("not empty"), "{text}");
    let back = close(Scene::new(back).await).0;
    let text = refusal(&address(&there), &back.address()).await.to_string();
    assert!(text.contains("not empty"), "{text}");
    let text = refusal(&file.address(), &back.address()).await.to_string();
    assert!(text.contains("from SQLite to PostgreSQL or back"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_or_a_target_in_use() {
    let mut scene = Scene::new(File::new()).await;
    fill(&mut scene).await;
    let (there, back) = (database(), File::new());
    let in_use = scene.engine.address();
    assert!(matches!(refusal(&in_use, &address(&there)).await, Error::InUse(_)));
    let file = close(scene).0;
    copy_at_once(&file.address(), &address(&there)).await.unwrap();

    let store = open_postgres(&there).await.unwrap();
    let (life, now) = (capa_webhooks_core::id::LifeId::from_bytes([5; 16]), crate::hour(100));
    store.begin_life(life, now).await.unwrap();
    assert!(matches!(refusal(&address(&there), &back.address()).await, Error::InUse(_)));
    store.end_life(life, now).await.unwrap();
    let held = back.open().await;
    assert!(matches!(refusal(&address(&there), &back.address()).await, Error::InUse(_)));
    drop(held);

    // Meanwhile no life can begin, and no partner can change.
    let mut looked = false;
    let copied = copy_slowly(&address(&there), &back.address(), |_| {
        if !std::mem::replace(&mut looked, true) {
            for change in [
                "INSERT INTO capa_webhooks.nodes (life, begun_at) VALUES (gen_random_uuid(), 1)",
                "UPDATE capa_webhooks.change_number SET number = number + 1",
            ] {
                let refused = there.sql(&format!("SET lock_timeout = '1ms'; {change}")).unwrap_err();
                assert!(refused.to_string().contains("lock timeout"), "{refused}");
            }
            assert!(matches!(back.open_store(), Err(Error::InUse(_))));
        }
        ControlFlow::Continue(())
    })
    .await;
    copied.unwrap();
    assert!(looked);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unfinished_copy_is_not_served_and_takes_no_other_source() {
    let mut scene = Scene::new(File::new()).await;
    fill(&mut scene).await;
    let file = close(scene).0;
    let (there, back) = (database(), File::new());
    begin(&file.address(), &address(&there)).await;
    let text = open_postgres(&there).await.err().expect("it is unfinished").to_string();
    assert!(text.contains("unfinished copy"), "{text}");
    let text = refusal(&address(&there), &back.address()).await.to_string();
    assert!(text.contains("unfinished copy"), "{text}");
    // The source is served in between, and so is another one now.
    let file = close(Scene::seeded(file, 2).await).0;
    let text = refusal(&file.address(), &address(&there)).await.to_string();
    assert!(text.contains("before it changed"), "{text}");

    let fresh = database();
    copy_at_once(&file.address(), &address(&fresh)).await.unwrap();
    begin(&address(&fresh), &back.address()).await;
    let text = back.open_store().err().expect("it is unfinished").to_string();
    assert!(text.contains("unfinished copy"), "{text}");
    copy_at_once(&address(&fresh), &back.address()).await.unwrap();
    drop(back.open_store().unwrap());
}

/// Only a node can accept what was published from SQL. What was refused of it stays where it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_whose_inbox_is_not_empty() {
    let file = close(Scene::new(File::new()).await).0;
    let (there, back) = (database(), File::new());
    assert_eq!(copy_at_once(&file.address(), &address(&there)).await.unwrap().refused, 0);
    let store = open_postgres(&there).await.unwrap();
    for _ in 0..2 {
        there.sql("SELECT capa_webhooks.publish(gen_random_uuid(), '{}')").unwrap();
    }
    let text = refusal(&address(&there), &back.address()).await.to_string();
    for part in ["2 event(s) that were published from SQL", "start a node", "capa_webhooks.inbox is empty"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(!back.path().exists(), "nothing was begun");

    let rows = store.inbox(InboxLook { rows: 10, bytes: 1000, payload: 1000 }).await.unwrap();
    let refused = rows.into_iter().map(|row| {
        let (code, message, details) = ("NOT_FOUND".to_owned(), "Partner not found".to_owned(), "[]".to_owned());
        Refusal { row, code, message, details }
    });
    assert_eq!(store.refuse_inbox(refused.collect(), crate::hour(1)).await.unwrap(), 2);
    assert_eq!(copy_at_once(&address(&there), &back.address()).await.unwrap().refused, 2);
    assert_eq!(there.sql("SELECT count(*) FROM capa_webhooks.inbox_refused").unwrap(), "2");
}
