//! What is not accepted: idempotency keys, refusals, and what is kept of them.

use crate::fixture::{LOOK, client, count, drain, judged, payload, publish, refusal, scene};
use capa_webhooks_core::id::PartnerId;
use capa_webhooks_core::notification::Status;
use capa_webhooks_store::conformance::fixture::{event, everything, for_an_hour};
use capa_webhooks_store::{Accept, Accepted, Expiry, Store as _, Violation};

#[tokio::test]
async fn an_idempotency_key_counts_for_both_ways() {
    let (mut scene, partner) = scene().await;
    let other = client(&scene).await;
    let publish = async |number, key: &str| {
        let sql = format!("SELECT capa_webhooks.publish('{partner}', '{}', '{key}')", payload(number));
        other.query_one(&sql, &[]).await.unwrap();
    };
    let by_api = Accept { idempotency: for_an_hour("first"), ..scene.event(partner) };
    assert_eq!(scene.accept(by_api.clone()).await, Accepted::New);
    publish(1, "first").await;
    publish(2, "second").await;
    publish(3, "first").await;
    let id = by_api.key.id;
    let repeat = Accepted::Repeat { id, status: Status::Pending };
    assert_eq!(drain(&mut scene).await, [Some(repeat), Some(Accepted::New), Some(Accepted::Conflict { id })]);
    assert_eq!(drain(&mut scene).await, [Some(Accepted::Conflict { id })], "what is not accepted stays");
    let row = scene.store().inbox(LOOK).await.unwrap().remove(0);
    assert_eq!(scene.store().refuse_inbox(vec![refusal(row)], scene.now).await.unwrap(), 1);
    assert_eq!(drain(&mut scene).await, []);
    let event = event("u-1", Some("t-1"), 2);
    let again = Accept { idempotency: for_an_hour("second"), event, ..scene.event(partner) };
    assert!(matches!(scene.accept(again).await, Accepted::Repeat { .. }));
    assert_eq!(scene.list(everything(partner)).await.total, 2);
}

/// A row that another node refused is not taken for a use of its idempotency key.
#[tokio::test]
async fn what_is_gone_uses_no_idempotency_key() {
    let (mut scene, partner) = scene().await;
    let other = client(&scene).await;
    let sql = format!("SELECT capa_webhooks.publish('{partner}', '{}', 'k')", payload(1));
    other.query_one(&sql, &[]).await.unwrap();
    publish(&other, partner, 2).await;
    let rows = scene.store().inbox(LOOK).await.unwrap();
    let batch: Vec<_> = rows.iter().map(|row| judged(&mut scene, row)).collect();
    assert_eq!(scene.store().refuse_inbox(vec![refusal(rows[0].clone())], scene.now).await.unwrap(), 1);
    assert_eq!(scene.store().refuse_inbox(vec![refusal(rows[0].clone())], scene.now).await.unwrap(), 0);
    assert_eq!(scene.store().accept_inbox(batch, scene.now).await.unwrap(), [None, Some(Accepted::New)]);
    assert_eq!(count(&other, "idempotency").await, 0);
    assert_eq!((count(&other, "inbox").await, count(&other, "inbox_refused").await), (0, 1));
}

#[tokio::test]
async fn nothing_drained_stays_in_plain_text_and_refusals_expire() {
    let (mut scene, partner) = scene().await;
    let other = client(&scene).await;
    publish(&other, partner, 1).await;
    let known = publish(&other, partner, 2).await;
    let erased = scene.partner().await;
    let stranger = PartnerId::from_bytes([9; 16]);
    publish(&other, stranger, 3).await;
    publish(&other, erased, 4).await;
    let rows = scene.store().inbox(LOOK).await.unwrap();
    while scene.store().erase_partner(erased, 100, scene.now).await.unwrap() != capa_webhooks_store::Erased::Done {}
    let batch: Vec<_> = [0, 2, 3].map(|at: usize| judged(&mut scene, &rows[at])).into();
    let answers = scene.store().accept_inbox(batch, scene.now).await.unwrap();
    let unknown = Some(Accepted::UnknownPartner);
    assert_eq!(answers, [Some(Accepted::New), unknown, unknown]);
    let refusals = rows.into_iter().skip(1).map(refusal).collect();
    assert_eq!(scene.store().refuse_inbox(refusals, scene.now).await.unwrap(), 3);
    let kept: Vec<(i64, bool, bool)> = other
        .query("SELECT id, sealed IS NOT NULL, hash IS NOT NULL FROM capa_webhooks.inbox_refused ORDER BY id", &[])
        .await
        .unwrap()
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect();
    assert_eq!(kept, [(known.0, true, false), (known.0 + 1, false, true), (known.0 + 2, false, true)]);
    // Version, key id, nonce and tag stand around the payload.
    let whole = format!("inbox_refused WHERE length(sealed) = {}", 1 + 8 + 24 + 16 + payload(2).len());
    assert_eq!(count(&other, &whole).await, 1, "all of it is kept");
    let found = format!("inbox_refused WHERE hash = sha256('{}')", payload(3));
    assert_eq!(count(&other, &found).await, 1, "its publisher can find it");
    for table in ["inbox", "inbox_refused", "notifications", "idempotency", "attempts"] {
        let plain = format!("{table} AS t WHERE t::text LIKE '%Plain-Text%' OR t::text LIKE '%{}%'", hex("Plain-Text"));
        assert_eq!(count(&other, &plain).await, 0, "{table}");
    }
    let expire = |moment| Expiry { notifications_before: moment, idempotency_before: moment, limit: 2 };
    scene.store().expire(expire(scene.now)).await.unwrap();
    assert_eq!(count(&other, "inbox_refused").await, 3);
    let now = scene.pass(std::time::Duration::from_secs(1));
    assert!(scene.store().expire(expire(now)).await.unwrap().more);
    scene.store().expire(expire(now)).await.unwrap();
    assert_eq!(count(&other, "inbox_refused").await, 0);
}

#[tokio::test]
async fn what_was_refused_is_proved_to_open() {
    let (mut scene, partner) = scene().await;
    let other = client(&scene).await;
    let (moved, sound) = (publish(&other, partner, 1).await, publish(&other, partner, 2).await);
    let erased = scene.partner().await;
    publish(&other, erased, 3).await;
    let refusals = scene.store().inbox(LOOK).await.unwrap().into_iter().map(refusal).collect();
    assert_eq!(scene.store().refuse_inbox(refusals, scene.now).await.unwrap(), 3);
    while scene.store().erase_partner(erased, 100, scene.now).await.unwrap() != capa_webhooks_store::Erased::Done {}
    scene.assert_healthy().await;
    // Sealed under the same key, but for another row.
    let sql =
        "UPDATE capa_webhooks.inbox_refused SET sealed = (SELECT sealed FROM capa_webhooks.inbox_refused WHERE id = $2)
               WHERE id = $1";
    assert_eq!(other.execute(sql, &[&moved.0, &sound.0]).await.unwrap(), 1);
    let found = scene.store().examine().await.unwrap().violations;
    assert_eq!(found, [Violation::Unreadable { table: "inbox_refused", id: moved.0.to_string() }]);
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}
