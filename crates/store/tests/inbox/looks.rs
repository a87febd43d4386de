//! What a look finds, in which order, and what wakes a node.

use crate::fixture::{LOOK, call, client, count, drain, judged, payload, publish, scene};
use capa_webhooks_core::notification::Status;
use capa_webhooks_store::conformance::Engine as _;
use capa_webhooks_store::conformance::fixture::everything;
use capa_webhooks_store::{Accepted, InboxId, InboxLook, Published, Store as _};

#[tokio::test]
async fn only_what_is_committed_is_seen_and_it_is_accepted_once() {
    let (mut scene, partner) = scene().await;
    let mut other = client(&scene).await;
    let transaction = other.transaction().await.unwrap();
    transaction.query_one(&call(partner, 1), &[]).await.unwrap();
    assert_eq!(scene.store().inbox(LOOK).await.unwrap(), []);
    transaction.rollback().await.unwrap();
    assert_eq!(scene.store().inbox(LOOK).await.unwrap(), []);
    let id = publish(&other, partner, 2).await;
    let rows = scene.store().inbox(LOOK).await.unwrap();
    let payload = Some(payload(2).into());
    assert_eq!(rows, [Published { id, partner, idempotency_key: None, payload }]);
    assert_eq!(scene.store().inbox(LOOK).await.unwrap(), rows, "looking takes nothing away");
    assert_eq!(drain(&mut scene).await, [Some(Accepted::New)]);
    assert_eq!(scene.store().inbox(LOOK).await.unwrap(), []);
    let list = scene.list(everything(partner)).await;
    assert_eq!((list.total, list.rows[0].status), (1, Status::Pending));
    assert_eq!(scene.claim_all().await.len(), 1);
    scene.assert_healthy().await;
}

/// Also those that a transaction published long ago and commits only now, when looks no longer ask for what is old.
#[tokio::test]
async fn rows_come_in_order_and_latecomers_come_too() {
    let (mut scene, partner) = scene().await;
    let (mut slow, quick) = (client(&scene).await, client(&scene).await);
    let slow = slow.transaction().await.unwrap();
    let late = InboxId(slow.query_one(&call(partner, 0), &[]).await.unwrap().get(0));
    for round in 1..=5 {
        let first = publish(&quick, partner, round).await;
        let second = publish(&quick, partner, round).await;
        let seen: Vec<_> = scene.store().inbox(LOOK).await.unwrap().iter().map(|row| row.id).collect();
        assert_eq!(seen, [first, second]);
        assert_eq!(drain(&mut scene).await, [Some(Accepted::New); 2]);
        assert_eq!(scene.store().inbox(LOOK).await.unwrap(), []);
    }
    slow.commit().await.unwrap();
    let newest = publish(&quick, partner, 9).await;
    let seen: Vec<_> = scene.store().inbox(LOOK).await.unwrap().iter().map(|row| row.id).collect();
    assert_eq!(seen, [late, newest]);
    assert_eq!(drain(&mut scene).await.len(), 2);
    assert_eq!(scene.list(everything(partner)).await.total, 12);
}

#[tokio::test]
async fn a_look_is_bounded_and_what_is_left_is_seen_next() {
    let (mut scene, partner) = scene().await;
    let other = client(&scene).await;
    let mut ids = Vec::new();
    for number in 0..7 {
        ids.push(publish(&other, partner, number).await);
    }
    let bytes = payload(0).len();
    for (look, expected) in [
        (InboxLook { rows: 3, ..LOOK }, 3),
        (InboxLook { bytes: bytes * 2, ..LOOK }, 2),
        (InboxLook { bytes: bytes * 2 + 1, ..LOOK }, 3),
        (InboxLook { bytes: 1, ..LOOK }, 1),
        (LOOK, 7),
    ] {
        let seen: Vec<_> = scene.store().inbox(look).await.unwrap().iter().map(|row| row.id).collect();
        assert_eq!(seen, ids[..expected], "{look:?}");
    }
    let cut = scene.store().inbox(InboxLook { payload: bytes - 1, ..LOOK }).await.unwrap();
    assert!(cut.len() == 7 && cut.iter().all(|row| row.payload.is_none()));
    let rows = scene.store().inbox(InboxLook { rows: 3, ..LOOK }).await.unwrap();
    let batch = rows.iter().map(|row| judged(&mut scene, row)).collect();
    scene.store().accept_inbox(batch, scene.now).await.unwrap();
    assert_eq!(drain(&mut scene).await.len(), 4);
    assert_eq!(drain(&mut scene).await, []);
}

#[tokio::test]
async fn the_batch_form_keeps_the_order_and_refuses_what_is_uneven() {
    let (scene, partner) = scene().await;
    let other = client(&scene).await;
    let rows = other
        .query(
            &format!(
                "SELECT capa_webhooks.publish_batch(array_fill('{partner}'::uuid, ARRAY[100]),
                     ARRAY(SELECT json_build_object('n', n) FROM generate_series(1, 100) AS n),
                     ARRAY(SELECT CASE WHEN n % 2 = 0 THEN 'key ' || n END FROM generate_series(1, 100) AS n))"
            ),
            &[],
        )
        .await
        .unwrap();
    let ids: Vec<InboxId> = rows.iter().map(|row| InboxId(row.get(0))).collect();
    let seen = scene.store().inbox(LOOK).await.unwrap();
    assert_eq!(seen.iter().map(|row| row.id).collect::<Vec<_>>(), ids);
    for (number, row) in (1..).zip(seen) {
        assert_eq!(row.payload.unwrap(), format!("{{\"n\" : {number}}}"));
        assert_eq!(row.idempotency_key, (number % 2 == 0).then(|| format!("key {number}")));
    }
    let one = format!("ARRAY['{partner}'::uuid]");
    for (arguments, word) in [
        (format!("{one}, ARRAY['{{}}', '{{}}']::json[]"), "same length"),
        (format!("{one}, ARRAY[NULL]::json[]"), "no null"),
        ("ARRAY[NULL]::uuid[], ARRAY['{}']::json[]".to_owned(), "no null"),
        (format!("{one}, NULL"), "no null"),
        (format!("{one}, ARRAY['{{}}']::json[], ARRAY['a', 'b']"), "idempotency_keys"),
    ] {
        let refused = other.query(&format!("SELECT capa_webhooks.publish_batch({arguments})"), &[]).await.unwrap_err();
        let text = refused.as_db_error().unwrap().message();
        assert!(text.contains(word), "{text}");
    }
    for (arguments, word) in [("NULL, '{}'".to_owned(), "partner_id"), (format!("'{partner}', NULL"), "payload")] {
        let refused = other.query(&format!("SELECT capa_webhooks.publish({arguments})"), &[]).await.unwrap_err();
        assert_eq!(refused.as_db_error().unwrap().message(), format!("{word} is null"));
    }
    assert_eq!(count(&other, "inbox").await, 100);
}

/// Hints come with the commit, to every node that has looked once.
#[tokio::test]
async fn a_commit_wakes_every_node() {
    let (scene, partner) = scene().await;
    let second = scene.engine.open().await;
    let other = client(&scene).await;
    assert_eq!(scene.store().inbox(LOOK).await.unwrap(), []);
    assert_eq!(second.inbox(LOOK).await.unwrap(), []);
    publish(&other, partner, 1).await;
    scene.store().inbox_hint().await;
    second.inbox_hint().await;
    // Turned off, it is found without.
    other.batch_execute("SET capa_webhooks.wake = off").await.unwrap();
    publish(&other, partner, 2).await;
    assert_eq!(second.inbox(LOOK).await.unwrap().len(), 2);
}
