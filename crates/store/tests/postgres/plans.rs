//! What a batch or a page costs is in proportion to it, also where the database made its plans when there was nothing.
//!
//! Plans are made when a session first asks, and anew after the database has counted the rows of a table. The queue is empty at
//! most moments, so that is what the plans are made for. They must be good for a full one.

use crate::fixture::Postgres;
use capa_webhooks_cluster::Database;
use capa_webhooks_core::id::{LifeId, NotificationKey, PartnerId};
use capa_webhooks_core::notification::{Status, Turn};
use capa_webhooks_core::schedule::Schedule;
use capa_webhooks_store::conformance::fixture::{
    Scene, attempted, event, everything, for_an_hour, never_again, ok, status,
};
use capa_webhooks_store::{Accept, Accepted, Claim, Erased, Fate, ListQuery, Record, Recorded, Store};
use std::collections::BTreeMap;

/// Rows that lie in the queue while small batches are worked on: so many that the life owns, and so many that nobody owns.
const FULL: usize = 4_000;
/// Partners who have some of them, and partners beside.
const PARTNERS: usize = 20;
const STRANGERS: usize = 4_000;
/// Notifications in a small batch, and how many batches there are.
const BATCH: usize = 20;
const BATCHES: usize = 8;
/// Rows that may be read of a table for each notification of the batches. It is at most twenty, and 25 more for each time
/// that a question passes what was settled before the database has marked it as gone, which was seen up to three times;
/// one statement that walks through the table adds two hundred.
const MOST: i64 = 120;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plans_for_an_empty_queue_are_good_for_a_full_one() {
    let mut scene = Scene::new(Postgres::new()).await;
    let partner = scene.partner().await;
    work(&mut scene, partner).await;
    scene.engine.database.sql("VACUUM (ANALYZE)").unwrap();
    work(&mut scene, partner).await;
    let open = sessions(&scene.engine.database);
    fill(&mut scene, partner).await;
    let before = rows_read(&scene.engine.database, &open);
    for _ in 0..BATCHES {
        work(&mut scene, partner).await;
    }
    assert_few_read(scene, &before, "queue");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plans_for_empty_lists_are_good_for_long_ones() {
    let mut scene = Scene::new(Postgres::new()).await;
    let partner = scene.partner().await;
    read(&mut scene, partner).await;
    scene.engine.database.sql("VACUUM (ANALYZE)").unwrap();
    read(&mut scene, partner).await;
    let open = sessions(&scene.engine.database);
    settle(&mut scene, partner).await;
    let before = rows_read(&scene.engine.database, &open);
    for _ in 0..BATCHES {
        read(&mut scene, partner).await;
    }
    assert_few_read(scene, &before, "attempts");
}

/// Ends the store, and looks what was read since. Of one table it is known that something was.
fn assert_few_read(scene: Scene<Postgres>, before: &BTreeMap<String, i64>, surely: &str) {
    let database = scene.into_engine().database;
    let given = i64::try_from(BATCH * BATCHES).expect("a small number");
    for (table, upto) in rows_read(&database, "0") {
        let read = upto - before.get(&table).unwrap_or(&0);
        assert!(read <= MOST * given, "{table}: {read} rows were read for {given} notifications");
        assert!(read >= given || table != surely, "{table}: the database tells of {read} rows only");
    }
}

/// How many sessions there are.
fn sessions(database: &Database) -> String {
    let sql = "SELECT count(*) FROM pg_stat_activity
               WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
    database.sql(sql).expect("counts")
}

/// Rows read of each table so far, once there are only so many sessions left: the others have then told what they read.
fn rows_read(database: &Database, left: &str) -> BTreeMap<String, i64> {
    assert!((0..200).any(|_| sessions(database) == left), "sessions end with their store");
    let sql = "SELECT regexp_replace(t.relname, '_[0-9]{8}$', ''), sum(t.seq_tup_read + coalesce(i.read, 0))::bigint
               FROM pg_stat_user_tables t
               LEFT JOIN (SELECT relid, sum(idx_tup_read) AS read FROM pg_stat_user_indexes GROUP BY relid) AS i USING (relid)
               GROUP BY 1";
    let told = database.sql(sql).expect("the statistics are read");
    let row =
        |line: &str| line.split_once('|').map(|(table, read)| (table.to_owned(), read.parse().expect("a number")));
    told.lines().filter_map(row).collect()
}

/// Fills the queue, by a node that ends then.
async fn fill(scene: &mut Scene<Postgres>, partner: PartnerId) {
    let node = scene.engine.node().await;
    let mut partners = vec![partner];
    for _ in 1..PARTNERS {
        let new = scene.new_partner();
        partners.push(new.id);
        node.create_partner(new, scene.now).await.expect("creates");
    }
    let strangers = format!(
        "INSERT INTO capa_webhooks.partners (id, name, state, created_at, updated_at)
         SELECT gen_random_uuid(), '', 'erased', 0, 0 FROM generate_series(1, {STRANGERS})"
    );
    scene.engine.database.sql(&strangers).expect("inserts");
    for owner in [Some(scene.life), None] {
        // Half of it is one partner's.
        let of = |number: usize| if number.is_multiple_of(2) { partner } else { partners[number % PARTNERS] };
        let batch: Vec<Accept> =
            (0..FULL).map(|number| Accept { fate: Fate::Queue(owner), ..scene.event(of(number)) }).collect();
        let answers = node.accept(batch, scene.now).await.expect("the store answers");
        assert!(answers.iter().all(|answer| *answer == Accepted::New));
    }
}

/// Settles much, half of it badly, by a node that ends then.
async fn settle(scene: &mut Scene<Postgres>, partner: PartnerId) {
    let node = scene.engine.node().await;
    let batch: Vec<Accept> = (0..FULL).map(|_| scene.event(partner)).collect();
    let turn = Turn::first(scene.now);
    let ends = |(number, accept): (usize, &Accept)| {
        let answer = if number.is_multiple_of(2) { ok() } else { status(500, "") };
        attempted(accept.key, turn, answer, &never_again(), scene.now)
    };
    let records: Vec<Record> = batch.iter().enumerate().map(ends).collect();
    node.accept(batch, scene.now).await.expect("accepts");
    let answers = node.record(scene.life, &records).await.expect("records");
    assert!(answers.iter().all(|answer| *answer == Recorded::Applied));
}

/// Asks once for the first page of each list, with one more that is settled, and for its detail.
async fn read(scene: &mut Scene<Postgres>, partner: PartnerId) {
    let key = scene.sent(partner).await;
    scene.failed(partner).await;
    scene.owned(partner).await;
    for status in [None, Some(Status::Pending), Some(Status::Sent), Some(Status::Failed)] {
        for transaction_id in [None, Some("t-2".to_owned())] {
            let searched = transaction_id.is_some();
            let page = scene.list(ListQuery { status, transaction_id, limit: BATCH, ..everything(partner) }).await;
            assert_eq!(page.rows.is_empty(), searched, "{status:?}");
        }
    }
    assert_eq!(scene.status(key).await, Some(Status::Sent));
}

/// Does once all that is done with given rows.
async fn work(scene: &mut Scene<Postgres>, partner: PartnerId) {
    let turn = Turn::first(scene.now);
    let keys = accept(scene, partner, Some(scene.life)).await;
    let (failing, sent) = keys.split_at(BATCH / 2);
    let fails = |key| attempted(key, turn, status(500, ""), &Schedule::default(), scene.now);
    let ends = |key| attempted(key, turn, ok(), &Schedule::default(), scene.now);
    let records = failing.iter().copied().map(fails).chain(sent.iter().copied().map(ends)).collect();
    record(scene, scene.life, records, Recorded::Applied).await;

    let jobs = scene.store().owned_jobs(scene.life, failing.to_vec()).await.expect("the store answers");
    assert_eq!(jobs.len(), failing.len());
    scene.store().release(scene.life, failing.to_vec()).await.expect("the store answers");
    // Late, and settled all the same.
    let late = jobs.iter().map(|job| attempted(job.key, job.turn, ok(), &never_again(), scene.now)).collect();
    record(scene, scene.life, late, Recorded::Late).await;

    let fresh = scene.partner().await;
    let unowned = accept(scene, fresh, None).await;
    let claim = Claim {
        life: scene.life,
        until: scene.now,
        room: 0,
        rooms: BTreeMap::from([(fresh, BATCH)]),
        total: BATCH,
        bytes: usize::MAX,
    };
    assert_eq!(scene.store().claim(claim).await.expect("the store answers").jobs.len(), unowned.len());
    assert_eq!(
        scene.store().erase_partner(fresh, 2 * BATCH, scene.now).await.expect("the store answers"),
        Erased::Done
    );

    // Of a node that ends.
    let other = LifeId::v7(scene.now, scene.random.bytes());
    scene.store().begin_life(other, scene.now).await.expect("the store answers");
    let left = accept(scene, partner, Some(other)).await;
    scene.store().end_life(other, scene.now).await.expect("the store answers");
    let ends = left.iter().map(|key| attempted(*key, turn, ok(), &never_again(), scene.now)).collect();
    record(scene, scene.life, ends, Recorded::Late).await;
}

/// Accepts a batch of which every other event has an idempotency key.
async fn accept(scene: &mut Scene<Postgres>, partner: PartnerId, owner: Option<LifeId>) -> Vec<NotificationKey> {
    let mut batch: Vec<Accept> =
        (0..BATCH).map(|_| Accept { fate: Fate::Queue(owner), ..scene.event(partner) }).collect();
    for accept in batch.iter_mut().step_by(2) {
        accept.idempotency = for_an_hour(&accept.key.id.to_string());
        accept.event = event("u-1", None, 1);
    }
    let keys = batch.iter().map(|accept| accept.key).collect();
    assert_eq!(scene.store().accept(batch, scene.now).await.expect("the store answers"), [Accepted::New; BATCH]);
    keys
}

async fn record(scene: &Scene<Postgres>, life: LifeId, records: Vec<Record>, expected: Recorded) {
    let answers = scene.store().record(life, &records).await.expect("the store answers");
    assert!(answers.iter().all(|answer| *answer == expected), "{answers:?}");
}
