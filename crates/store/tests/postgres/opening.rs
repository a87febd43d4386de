//! Opening a store: what is refused says how to mend it, and what is asked of TLS is kept.

use crate::fixture::{Postgres, options};
use capa_webhooks_store::Error;
use capa_webhooks_store::postgres::PostgresStore;
use capa_webhooks_store::seal::MasterKey;

async fn refusal(url: &str) -> String {
    match PostgresStore::open(url, options()).await.map(drop) {
        Err(Error::CannotOpen(text)) => text,
        other => format!("{other:?}"),
    }
}

#[tokio::test]
async fn a_refusal_says_how_to_mend_it() {
    let engine = Postgres::new();
    let url = engine.database.url();
    let missing = url.replace(engine.database.name(), "not_there");
    assert!(refusal(&missing).await.contains("CREATE DATABASE"), "{}", refusal(&missing).await);
    let stranger = url.replacen("postgres@", "nobody_here@", 1);
    assert!(refusal(&stranger).await.contains("check user and password"), "{}", refusal(&stranger).await);
    assert!(refusal("postgres://127.0.0.1:1/x").await.contains("check that it runs"));
    assert!(refusal("not a url").await.contains("postgres://"));
    let tls = format!("{url}{}sslmode=require", if url.contains('?') { '&' } else { '?' });
    assert!(refusal(&tls).await.contains("sslmode"), "{}", refusal(&tls).await);
}

#[tokio::test]
async fn another_master_key_is_refused() {
    let engine = Postgres::new();
    drop(engine.node().await);
    let mut other = options();
    other.master_key = MasterKey::new([8; 32]);
    let text = match PostgresStore::open(engine.database.url(), other).await.map(drop) {
        Err(Error::CannotOpen(text)) => text,
        answer => panic!("{answer:?}"),
    };
    assert!(text.contains(&MasterKey::new([7; 32]).id().to_string()), "{text}");
    assert!(text.contains(&MasterKey::new([8; 32]).id().to_string()), "{text}");
}

/// One step ahead is an upgrade under way; two are another product.
#[tokio::test]
async fn tables_may_be_one_step_ahead() {
    let engine = Postgres::new();
    drop(engine.node().await);
    let ahead = "INSERT INTO capa_webhooks.migrations (step) SELECT max(step) + 1 FROM capa_webhooks.migrations";
    engine.database.sql(ahead).unwrap();
    drop(engine.node().await);
    engine.database.sql(ahead).unwrap();
    assert!(refusal(engine.database.url()).await.contains("newer version"));
}

/// A commit is on the disk whatever the server's default is.
#[tokio::test]
async fn commits_are_waited_for() {
    let engine = Postgres::new();
    let name = engine.database.name();
    engine.database.sql(&format!("ALTER DATABASE \"{name}\" SET synchronous_commit = off")).unwrap();
    let store = engine.node().await;
    assert_eq!(store.synchronous_commit().await.unwrap(), "on");
    engine.database.sql(&format!("ALTER DATABASE \"{name}\" SET synchronous_commit = remote_apply")).unwrap();
    let store = engine.node().await;
    assert_eq!(store.synchronous_commit().await.unwrap(), "remote_apply");
}
