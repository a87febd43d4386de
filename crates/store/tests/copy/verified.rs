//! What is not the same at both ends is found, in whichever table it is.

use crate::close;
use crate::fixture::{File, address, copy_at_once, copy_slowly, database, fill};
use capa_webhooks_store::conformance::fixture::Scene;
use capa_webhooks_store::copy::{CopyError, Stage};
use std::ops::ControlFlow;

/// A small change in each table: of a sealed byte where there is one.
const CHANGES: [(&str, &str, &str); 10] = [
    ("partners", "data_key", "data_key IS NOT NULL"),
    ("settings", "url", "url IS NOT NULL"),
    ("secrets", "secret", "secret IS NOT NULL"),
    ("api_keys", "secret_hash", "true"),
    ("platform_keys", "secret_hash", "true"),
    ("notifications", "sealed", "true"),
    ("queue", "due", "true"),
    ("attempts", "detail", "detail IS NOT NULL"),
    ("cycles", "at", "true"),
    ("idempotency", "payload_hash", "true"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_byte_in_postgresql() {
    let mut scene = Scene::new(File::new()).await;
    fill(&mut scene).await;
    let file = close(scene).0;
    let there = database();
    for (table, column, condition) in CHANGES {
        let changed = if matches!(column, "due" | "at") {
            format!("{column} # 1")
        } else {
            format!("set_byte({column}, length({column}) - 1, get_byte({column}, length({column}) - 1) # 1)")
        };
        // One row, named by itself, so that the second change undoes the first.
        let row = format!("SELECT tableoid, ctid FROM capa_webhooks.{table} WHERE {condition}");
        let row = format!("(tableoid, ctid) = ({row} ORDER BY {table}::text LIMIT 1)");
        let change =
            format!("UPDATE capa_webhooks.{table} SET {column} = {changed} WHERE {row} RETURNING tableoid, ctid");
        let mut undo = None;
        let copied = copy_slowly(&file.address(), &address(&there), |progress| {
            if progress.stage == Stage::Deriving {
                let changed_row = there.sql(&change).unwrap();
                let (tableoid, ctid) = changed_row.trim().split_once('|').expect("a row was changed");
                undo = Some(format!(
                    "UPDATE capa_webhooks.{table} SET {column} = {changed} WHERE tableoid = {tableoid} AND ctid = '{ctid}'"
                ));
            }
            ControlFlow::Continue(())
        })
        .await;
        match copied {
            Err(CopyError::Differs { table: named, source_has, target_has }) => {
                assert_eq!((named, source_has.rows), (table, target_has.rows));
            }
            other => panic!("{table}: {other:?}"),
        }
        there.sql(&undo.expect("it was changed")).unwrap();
    }
    copy_at_once(&file.address(), &address(&there)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_byte_in_sqlite() {
    let mut scene = Scene::new(File::new()).await;
    fill(&mut scene).await;
    let file = close(scene).0;
    let (there, back) = (database(), File::new());
    copy_at_once(&file.address(), &address(&there)).await.unwrap();
    for (table, column, condition) in CHANGES {
        // Another value of the same length; the first one is kept to undo it.
        let read = format!("SELECT {column} FROM {table} WHERE {condition} ORDER BY {column} LIMIT 1");
        let write = format!("UPDATE {table} SET {column} = ?2 WHERE {column} = ?1");
        let mut undo = None;
        let copied = copy_slowly(&address(&there), &back.address(), |progress| {
            if progress.stage == Stage::Verifying && undo.is_none() {
                let conn = rusqlite::Connection::open(back.path()).unwrap();
                let before: rusqlite::types::Value = conn.query_row(&read, [], |row| row.get(0)).unwrap();
                let after = match before.clone() {
                    rusqlite::types::Value::Integer(number) => rusqlite::types::Value::Integer(number ^ 1),
                    rusqlite::types::Value::Blob(mut bytes) => {
                        *bytes.last_mut().expect("it is not empty") ^= 1;
                        rusqlite::types::Value::Blob(bytes)
                    }
                    other => panic!("{table}.{column}: {other:?}"),
                };
                assert!(conn.execute(&write, (&before, &after)).unwrap() > 0);
                undo = Some((before, after));
            }
            ControlFlow::Continue(())
        })
        .await;
        // The first table is read before anybody is told that the comparison has begun.
        let (before, after) = undo.expect("it was changed");
        let conn = rusqlite::Connection::open(back.path()).unwrap();
        match copied {
            Err(CopyError::Differs { table: named, .. }) => assert_eq!(named, table),
            other => panic!("{table}: {other:?}"),
        }
        conn.execute(&write, (&after, &before)).unwrap();
    }
    copy_at_once(&address(&there), &back.address()).await.unwrap();
}
