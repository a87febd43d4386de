//! The inbox of PostgreSQL: what is committed is accepted once, whoever looks and whatever breaks.

#![expect(clippy::unwrap_used, reason = "what a test does not expect ends it")]

use async_trait::async_trait;
use capa_webhooks_cluster::{Cluster, Database, Proxy};
use capa_webhooks_core::event::catalogue::Catalogue;
use capa_webhooks_core::id::PartnerId;
use capa_webhooks_core::notification::Status;
use capa_webhooks_store::conformance::Engine;
use capa_webhooks_store::conformance::fixture::{Scene, all, event, everything, for_an_hour};
use capa_webhooks_store::postgres::{Options, PostgresStore};
use capa_webhooks_store::seal::MasterKey;
use capa_webhooks_store::{
    Accept, Accepted, Error, Expiry, Fate, InboxId, InboxLook, PartnerChange, Published, Refusal, Store,
};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio_postgres::{Client, NoTls};

const LOOK: InboxLook = InboxLook { rows: 1000, bytes: 1 << 20, payload: 1 << 18 };

struct Postgres {
    database: Database,
}

impl Postgres {
    fn new() -> Self {
        Self { database: Cluster::shared().create_database().unwrap() }
    }

    async fn node(&self, url: &str) -> PostgresStore {
        static DRAWN: AtomicU64 = AtomicU64::new(0);
        let entropy = Arc::new(|bytes: &mut [u8]| {
            for chunk in bytes.chunks_mut(8) {
                let drawn = DRAWN.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed).to_le_bytes();
                chunk.copy_from_slice(&drawn[..chunk.len()]);
            }
        });
        PostgresStore::open(url, Options::new(MasterKey::new([7; 32]), entropy)).await.unwrap()
    }
}

#[async_trait]
impl Engine for Postgres {
    type Store = PostgresStore;

    async fn open(&self) -> PostgresStore {
        self.node(self.database.url()).await
    }
}

async fn scene() -> (Scene<Postgres>, PartnerId) {
    let mut scene = Scene::new(Postgres::new()).await;
    let partner = scene.partner().await;
    (scene, partner)
}

/// Somebody else in the same database.
async fn client(scene: &Scene<Postgres>) -> Client {
    let (client, connection) = tokio_postgres::connect(scene.engine.database.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// The payload of an event that differs for every number.
fn payload(number: u64) -> String {
    String::from_utf8(event("u-1", Some("t-1"), number).body.to_vec()).unwrap()
}

fn call(partner: PartnerId, number: u64) -> String {
    format!("SELECT capa_webhooks.publish('{partner}', '{}')", payload(number))
}

async fn publish(client: &Client, partner: PartnerId, number: u64) -> InboxId {
    InboxId(client.query_one(&call(partner, number), &[]).await.unwrap().get(0))
}

/// What a node makes of a row.
fn judged(scene: &mut Scene<Postgres>, row: &Published) -> (InboxId, Accept) {
    let mut of_row = event("u-1", Some("t-1"), 1);
    of_row.body = row.payload.clone().unwrap();
    let idempotency = row.idempotency_key.as_deref().and_then(for_an_hour);
    (row.id, Accept { key: scene.key(row.partner), event: of_row, idempotency, fate: Fate::Queue(None) })
}

async fn drain(scene: &mut Scene<Postgres>) -> Vec<Option<Accepted>> {
    let rows = scene.store().inbox(LOOK).await.unwrap();
    let batch = rows.iter().map(|row| judged(scene, row)).collect();
    scene.store().accept_inbox(batch, scene.now).await.unwrap()
}

fn refusal(row: Published) -> Refusal {
    Refusal { row, code: "NOT_FOUND".to_owned(), message: "Partner not found".to_owned(), details: "[]".to_owned() }
}

async fn count(client: &Client, what: &str) -> i64 {
    client.query_one(&format!("SELECT count(*) FROM capa_webhooks.{what}"), &[]).await.unwrap().get(0)
}

/// Waits until a statement of the store waits for a lock.
async fn wait_for_waiting(client: &Client) {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 0 {
        tokio::task::yield_now().await;
    }
}

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

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
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

#[tokio::test]
async fn a_publisher_may_publish_and_see_its_own_refusals_and_nothing_else() {
    let (scene, partner) = scene().await;
    let (database, name) = (&scene.engine.database, scene.engine.database.name().to_owned());
    let (login, neighbour) = (format!("app_{name}"), format!("other_{name}"));
    for login in [&login, &neighbour] {
        database.sql(&format!("CREATE ROLE {login} LOGIN IN ROLE capa_webhooks_publisher")).unwrap();
    }
    let connect = async |login: &str| {
        let url = database.url().replacen("postgres@", &format!("{login}@"), 1);
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    };
    let (app, other) = (connect(&login).await, connect(&neighbour).await);
    let mine = publish(&app, partner, 1).await;
    other.query(&call(partner, 2), &[]).await.unwrap();
    app.query(
        &format!("SELECT * FROM capa_webhooks.publish_batch(ARRAY['{partner}'::uuid], ARRAY['{{}}'::json])"),
        &[],
    )
    .await
    .unwrap();
    let rows = scene.store().inbox(LOOK).await.unwrap();
    scene.store().refuse_inbox(rows.into_iter().take(2).map(refusal).collect(), scene.now).await.unwrap();
    let seen = app.query("SELECT id, code, message FROM capa_webhooks.refusals", &[]).await.unwrap();
    let seen: Vec<(i64, &str, &str)> = seen.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    assert_eq!(seen, [(mine.0, "NOT_FOUND", "Partner not found")]);

    let may = |what: &str| {
        let sql = format!("SELECT coalesce(string_agg(what, ' ' ORDER BY what), '') FROM ({what}) AS t (what)");
        database.sql(&sql).unwrap()
    };
    let functions = may(&format!(
        "SELECT proname::text FROM pg_proc WHERE pronamespace = 'capa_webhooks'::regnamespace
         AND has_function_privilege('{login}', oid, 'EXECUTE')"
    ));
    assert_eq!(functions, "publish publish_batch");
    let relations = may(&format!(
        "SELECT relname || ':' || right_ FROM pg_class, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) AS right_
         WHERE relnamespace = 'capa_webhooks'::regnamespace AND relkind IN ('r', 'v', 'p', 'm')
         AND has_table_privilege('{login}', oid, right_)"
    ));
    assert_eq!(relations, "refusals:SELECT");
    for forbidden in [
        "SELECT * FROM capa_webhooks.inbox",
        "SELECT * FROM capa_webhooks.inbox_refused",
        "SELECT * FROM capa_webhooks.notifications",
        "SELECT * FROM capa_webhooks.partners",
        "DELETE FROM capa_webhooks.refusals",
        "SELECT capa_webhooks.take_epoch_1()",
        "SELECT nextval('capa_webhooks.epochs')",
        "CREATE TABLE capa_webhooks.mine (n int)",
    ] {
        let refused = app.query(forbidden, &[]).await.map(drop).unwrap_err();
        assert_eq!(refused.code().unwrap().code(), "42501", "{forbidden}");
    }
    // A schema of the caller's own does not lead the functions astray.
    app.batch_execute("CREATE TEMP TABLE inbox (partner uuid, idempotency_key text, payload text, id bigint)")
        .await
        .unwrap();
    app.batch_execute("SET search_path = pg_temp, public").await.unwrap();
    publish(&app, partner, 3).await;
    assert_eq!(app.query("SELECT FROM pg_temp.inbox", &[]).await.unwrap().len(), 0);
    drop((app, other));
    database.sql(&format!("DROP OWNED BY {login}, {neighbour}; DROP ROLE {login}, {neighbour}")).unwrap();
}

/// Publishing never waits for a node that drains: not for one that holds rows, and not for a change of partners.
#[tokio::test]
async fn publishing_waits_for_nobody() {
    let (scene, partner) = scene().await;
    let (mut holder, other) = (client(&scene).await, client(&scene).await);
    publish(&other, partner, 1).await;
    let held = holder.transaction().await.unwrap();
    held.query("SELECT FROM capa_webhooks.inbox FOR UPDATE", &[]).await.unwrap();
    held.query("SELECT FROM capa_webhooks.partners FOR UPDATE", &[]).await.unwrap();
    other.batch_execute("SET lock_timeout = '1ms'").await.unwrap();
    let second = publish(&other, partner, 2).await;
    let seen: BTreeSet<InboxId> = scene.store().inbox(LOOK).await.unwrap().iter().map(|row| row.id).collect();
    assert!(seen.len() == 2 && seen.contains(&second));
    held.rollback().await.unwrap();
    let disable = PartnerChange { disabled: Some(true), ..PartnerChange::default() };
    scene.store().update_partner(partner, disable, scene.now).await.unwrap();
    publish(&other, partner, 3).await;
    assert_eq!(scene.store().inbox(LOOK).await.unwrap().len(), 3);
}

/// The first example of the documentation, as it stands there.
#[tokio::test]
async fn the_documented_example_runs() {
    let mut scene = Scene::new(Postgres::new()).await;
    let document = include_str!("../../../docs/publish-from-sql.md");
    let mut blocks = document.split("\n```sql\n").skip(1).map(|rest| rest.split("\n```").next().unwrap());
    let (example, refusals, grant) = (blocks.next().unwrap(), blocks.next().unwrap(), blocks.next().unwrap());
    let partner: PartnerId = "0199f7a0-0000-7000-8000-000000000001".parse().unwrap();
    let mut new = scene.new_partner();
    (new.id, new.key.partner) = (partner, partner);
    scene.store().create_partner(new, scene.now).await.unwrap();
    let database = &scene.engine.database;
    database.sql("CREATE TABLE orders (id text PRIMARY KEY, state text)").unwrap();
    database.sql(example).unwrap();
    assert!(database.sql(example).is_err(), "the order is there already");
    let rows = scene.store().inbox(LOOK).await.unwrap();
    assert_eq!(rows.len(), 1, "what was rolled back is not published");
    assert_eq!((rows[0].partner, rows[0].idempotency_key.as_deref()), (partner, Some("order t-1 completed")));
    let parsed = capa_webhooks_core::event::parse(rows[0].payload.as_ref().unwrap(), &Catalogue::built_in()).unwrap();
    assert_eq!((parsed.name.as_str(), parsed.transaction_id.as_deref()), ("COMPLETED_ON_RAMP", Some("t-1")));
    scene.store().refuse_inbox(rows.into_iter().map(refusal).collect(), scene.now).await.unwrap();
    assert!(database.sql(refusals).unwrap().contains("|NOT_FOUND|Partner not found|[]|"));
    let login = format!("orders_{}", database.name());
    database.sql(&format!("CREATE ROLE {login}; {}", grant.replace("orders_service", &login))).unwrap();
    // What an operator does where we may make no roles; here it is there, and is given what it has.
    let by_hand = blocks.next().unwrap().replace("CREATE ROLE capa_webhooks_publisher NOLOGIN;", "");
    database.sql(&format!("{by_hand}; DROP ROLE {login}")).unwrap();
}
