//! What those who publish may do, what they wait for, and their documentation.

use crate::fixture::{LOOK, Postgres, call, client, publish, refusal, scene};
use capa_webhooks_core::event::catalogue::Catalogue;
use capa_webhooks_core::id::PartnerId;
use capa_webhooks_store::conformance::fixture::Scene;
use capa_webhooks_store::{InboxId, PartnerChange, Store as _};
use std::collections::BTreeSet;
use tokio_postgres::NoTls;

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
    let document = include_str!("../../../../docs/publish-from-sql.md");
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
