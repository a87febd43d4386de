//! Opening a store: what is refused says how to mend it, and what is asked of TLS is kept.

use crate::fixture::{Postgres, options};
use capa_webhooks_store::postgres::{Options, PostgresStore};
use capa_webhooks_store::seal::MasterKey;
use capa_webhooks_store::{Error, Store as _};

async fn refusal(url: &str) -> String {
    let refused = PostgresStore::open(url, options()).await.map(drop).expect_err("it is refused");
    assert!(matches!(refused, Error::CannotOpen(_)), "{refused:?}");
    refused.to_string()
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

async fn examined(engine: &Postgres, options: Options) -> Result<(), String> {
    match PostgresStore::open_to_examine(engine.database.url(), options).await {
        Ok(store) => {
            assert_eq!(store.examine().await.expect("examines").violations, []);
            Ok(())
        }
        Err(refused) => {
            assert!(matches!(refused, Error::CannotOpen(_)), "{refused:?}");
            Err(refused.to_string())
        }
    }
}

/// Who only looks neither makes tables nor upgrades them.
#[tokio::test]
async fn looking_changes_nothing() {
    let engine = Postgres::new();
    let sql = |statement: &str| engine.database.sql(statement).unwrap();
    assert!(examined(&engine, options()).await.unwrap_err().contains("holds no tables"));
    assert_eq!(sql("SELECT count(*) FROM pg_namespace WHERE nspname = 'capa_webhooks'"), "0");

    drop(engine.node().await);
    assert_eq!(examined(&engine, options()).await, Ok(()));
    let steps = sql("SELECT count(*) FROM capa_webhooks.migrations");
    sql("DELETE FROM capa_webhooks.migrations WHERE step = (SELECT max(step) FROM capa_webhooks.migrations)");
    let older = examined(&engine, options()).await.unwrap_err();
    assert!(older.contains(&format!("needs step {steps}")) && older.contains("upgrade"), "{older}");
    assert_ne!(sql("SELECT count(*) FROM capa_webhooks.migrations"), steps);

    let next =
        "INSERT INTO capa_webhooks.migrations (step) SELECT coalesce(max(step), 0) + 1 FROM capa_webhooks.migrations";
    sql(next);
    sql(next);
    assert_eq!(examined(&engine, options()).await, Ok(()), "one step ahead is an upgrade under way");
    let mut other = options();
    other.master_key = MasterKey::new([8; 32]);
    assert!(examined(&engine, other).await.unwrap_err().contains("sealed under the master key"));
    sql(next);
    assert!(examined(&engine, options()).await.unwrap_err().contains("newer version"));
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
