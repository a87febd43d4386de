//! What only this engine can be asked: its file, its lock, its log, and what it does when the disk is full.

use super::gather::Urgency;
use super::{Options, SqliteStore};
use crate::conformance::Engine;
use crate::conformance::fixture::{Random, Scene, all, attempted, event, everything, ok, timeout};
use crate::seal::{Entropy, MasterKey};
use crate::{Accept, Accepted, Claim, Erased, Error, Expiry, Fate, ListQuery, Recorded, Store, Violation};
use async_trait::async_trait;
use capa_webhooks_core::id::LifeId;
use capa_webhooks_core::notification::{Status, Turn};
use capa_webhooks_core::schedule::Schedule;
use rusqlite::Connection;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;

/// A store in a folder of its own, which keeps account of its commits.
struct InFolder {
    folder: TempDir,
    /// The rows of each.
    commits: Arc<Mutex<Vec<usize>>>,
    /// Events in a run of the listing.
    run_length: usize,
}

impl InFolder {
    fn new() -> Self {
        Self { folder: TempDir::new().unwrap(), commits: Arc::default(), run_length: super::listing::RUN }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("store.db")
    }
}

#[async_trait]
impl Engine for InFolder {
    type Store = SqliteStore;

    async fn open(&self) -> SqliteStore {
        let commits = Arc::clone(&self.commits);
        let on_commit = Arc::new(move |commit: &super::Commit| commits.lock().unwrap().push(commit.rows));
        SqliteStore::open(&self.path(), Options { on_commit, run_length: self.run_length, ..options(7) }).unwrap()
    }
}

pub(super) fn options(key: u8) -> Options {
    Options::new(MasterKey::new([key; 32]), entropy())
}

fn entropy() -> Entropy {
    let random = Mutex::new(Random(4711));
    Arc::new(move |bytes| bytes.fill_with(|| random.lock().unwrap().bytes::<1>()[0]))
}

fn refusal(opened: Result<SqliteStore, Error>) -> String {
    match opened {
        Err(Error::CannotOpen(text)) => text,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("opened"),
    }
}

/// The bytes of the database and its log.
fn files(path: &Path) -> Vec<u8> {
    let mut bytes = std::fs::read(path).unwrap();
    bytes.extend(std::fs::read(path.with_extension("db-wal")).unwrap_or_default());
    bytes
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

#[tokio::test]
async fn one_process_serves_a_store_and_others_may_read() {
    let mut scene = Scene::new(InFolder::new()).await;
    let path = scene.engine.path();
    let partner = scene.partner().await;
    let second = SqliteStore::open(&path, options(7));
    assert!(matches!(second, Err(Error::InUse(_))));
    let reader = SqliteStore::open_read_only(&path, options(7)).unwrap();
    let key = scene.sent(partner).await;
    assert_eq!(reader.notification(key).await.unwrap().unwrap().summary.status, Status::Sent);
    assert_eq!(reader.examine().await.unwrap().violations, []);
    assert!(matches!(reader.begin_life(scene.life, scene.now).await, Err(Error::Failed(_))));
    drop(reader);
    scene.owned(partner).await;
    scene.reopen().await;
}

#[tokio::test]
async fn a_store_opens_with_its_own_key_only() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("new/folder/store.db");
    assert_eq!(SqliteStore::names_key(&path).unwrap(), None);
    assert!(refusal(SqliteStore::open_read_only(&path, options(7))).contains("there is no store"));
    drop(SqliteStore::open(&path, options(7)).unwrap());
    assert_eq!(SqliteStore::names_key(&path).unwrap(), Some(MasterKey::new([7; 32]).id()));
    for opened in [SqliteStore::open(&path, options(8)), SqliteStore::open_read_only(&path, options(8))] {
        let text = refusal(opened);
        assert!(text.contains(&MasterKey::new([7; 32]).id().to_string()), "{text}");
    }
    drop(SqliteStore::open(&path, options(7)).unwrap());
    std::fs::write(folder.path().join("text"), "not a database, but long enough to have a header of its own").unwrap();
    refusal(SqliteStore::open(&folder.path().join("text"), options(7)));
    assert!(matches!(SqliteStore::names_key(&folder.path().join("text")), Err(Error::CannotOpen(_))));
}

#[tokio::test]
async fn nothing_that_is_sealed_lies_in_the_file_in_plain_text() {
    let mut scene = Scene::new(InFolder::new()).await;
    let partner = scene.partner().await;
    let accept = Accept {
        event: event("plain-user", Some("plain-transaction"), 1),
        idempotency: crate::conformance::fixture::for_an_hour("plain-idempotency"),
        ..scene.event(partner)
    };
    let key = accept.key;
    scene.accept(accept).await;
    let answer = crate::conformance::fixture::status(200, "plain-answer");
    assert_eq!(
        scene.record(attempted(key, Turn::first(scene.now), answer, &Schedule::default(), scene.now)).await,
        Recorded::Applied
    );
    let bytes = files(&scene.engine.path());
    assert!(contains(&bytes, b"COMPLETED_ON_RAMP"), "the bytes are those of the store");
    for text in
        ["plain-", "Plain-Text-Name", "secret-of-", "url-token", "called-token", "receiver.example", "externalUserId"]
    {
        assert!(!contains(&bytes, text.as_bytes()), "{text}");
    }
}

#[tokio::test]
async fn a_destroyed_data_key_is_not_left_in_the_file() {
    let mut scene = Scene::new(InFolder::new()).await;
    let partner = scene.partner().await;
    let path = scene.engine.path();
    let sealed: Vec<u8> = Connection::open(&path)
        .unwrap()
        .query_row("SELECT data_key FROM partners WHERE id = ?1", [partner.as_bytes()], |row| row.get(0))
        .unwrap();
    assert!(contains(&files(&path), &sealed));
    assert_eq!(scene.store().erase_partner(partner, 10, scene.now).await.unwrap(), Erased::Done);
    // The log is wiped after the answer, and before the next piece of work.
    scene.next_life().await;
    assert!(!contains(&files(&path), &sealed));
}

/// Makes these calls while the writer is held up by a call of this kind and of so many rows; their answers, and the rows of all
/// commits from that one on. The partners' keys must be in memory, so that a call waits for the writer as soon as it is polled.
async fn while_held_up<F: Future>(
    scene: &Scene<InFolder>,
    (urgency, rows): (Urgency, usize),
    calls: Vec<F>,
) -> (Vec<F::Output>, Vec<usize>) {
    scene.engine.commits.lock().unwrap().clear();
    let (open, gate) = std::sync::mpsc::channel::<()>();
    let (begin, begun) = tokio::sync::oneshot::channel::<()>();
    let mut begin = Some(begin);
    let held_up = scene.store().write_with(urgency, rows, move |_| {
        drop(begin.take());
        // When the other end is gone the gate is open, too.
        _ = gate.recv();
        Ok(())
    });
    let release = async move {
        // The runtime hands in some hundred calls at a time.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        drop(open);
    };
    let others = async move {
        // Or they might get into the same transaction.
        _ = begun.await;
        tokio::join!(all(calls), release).0
    };
    let (held_up, answers) = tokio::join!(held_up, others);
    held_up.unwrap();
    (answers, scene.engine.commits.lock().unwrap().clone())
}

#[tokio::test]
async fn calls_at_the_same_moment_share_a_commit() {
    let mut scene = Scene::new(InFolder::new()).await;
    let partner = scene.partner().await;
    scene.owned(partner).await;
    let events: Vec<_> = (0..500).map(|_| scene.event(partner)).collect();
    let calls = events.into_iter().map(|event| scene.accept(event)).collect();
    let (accepted, commits) = while_held_up(&scene, (Urgency::Now, 1), calls).await;
    assert_eq!(accepted, [Accepted::New; 500]);
    assert_eq!(commits, [1, 500], "the call that held the writer up, and all others");
}

#[tokio::test]
async fn who_publishes_does_not_wait_for_outcomes() {
    let mut scene = Scene::new(InFolder::new()).await;
    let partner = scene.partner().await;
    let mut calls: Vec<Pin<Box<dyn Future<Output = _>>>> = Vec::new();
    let (mut records, event) = (Vec::new(), scene.event(partner));
    for _ in 0..6 {
        let held = scene.owned(partner).await;
        records.push(attempted(held, Turn::first(scene.now), timeout(), &Schedule::default(), scene.now));
    }
    let here = &scene;
    for record in records {
        calls.push(Box::pin(async move { here.record(record).await == Recorded::Applied }));
    }
    calls.push(Box::pin(async move { here.accept(event).await == Accepted::New }));
    let (answers, commits) = while_held_up(here, (Urgency::Now, 1), calls).await;
    assert_eq!(answers, [true; 7]);
    assert_eq!(commits[..2], [1, 1], "the call that held the writer up, and the event that came last");
    assert_eq!(commits[2..].iter().sum::<usize>(), 6, "the outcomes");
}

#[tokio::test]
async fn who_publishes_does_not_wait_for_a_commit_that_is_not_his() {
    let mut scene = Scene::new(InFolder::new()).await;
    let partner = scene.partner().await;
    scene.owned(partner).await;
    let event = scene.event(partner);
    let (accepted, commits) = while_held_up(&scene, (Urgency::Soon, 20), vec![scene.accept(event)]).await;
    assert_eq!(accepted, [Accepted::New]);
    assert_eq!(commits, [21], "what nobody waited for, and who came while that was applied");
}

/// Lets the file grow to so many pages, and no further.
async fn limit_pages(store: &SqliteStore, pages: i64) {
    let set = move |session: &mut super::Session| {
        Ok(session.conn.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))?)
    };
    store.write(1, set).await.unwrap();
}

#[tokio::test]
async fn a_full_disk_refuses_and_recovers() {
    let mut scene = Scene::new(InFolder::new()).await;
    let partner = scene.partner().await;
    let held = scene.owned(partner).await;
    limit_pages(scene.store(), 1).await;
    let mut kept = 1;
    let refused = loop {
        let batch = (0..50).map(|_| scene.event(partner)).collect();
        match scene.store().accept(batch, scene.now).await {
            Ok(accepted) => kept += accepted.len(),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, Error::Unavailable(_)), "{refused:?}");
    assert_eq!(scene.store().backlog().await.unwrap().pending, u64::try_from(kept).unwrap());
    scene.assert_healthy().await;
    limit_pages(scene.store(), 1_000_000).await;
    let record = attempted(held, Turn::first(scene.now), ok(), &Schedule::default(), scene.now);
    assert_eq!(scene.record(record).await, Recorded::Applied);
    let event = scene.event(partner);
    assert_eq!(scene.accept(event).await, Accepted::New);
    assert_eq!(scene.store().backlog().await.unwrap().pending, u64::try_from(kept).unwrap());
    scene.assert_healthy().await;
}

#[tokio::test]
async fn the_order_of_commits_rises_although_the_newest_is_removed() {
    let mut scene = Scene::new(InFolder::new()).await;
    let partner = scene.partner().await;
    let newest = |path: &Path| -> Option<i64> {
        Connection::open(path).unwrap().query_row("SELECT max(seq) FROM notifications", [], |row| row.get(0)).unwrap()
    };
    scene.sent(partner).await;
    scene.sent(partner).await;
    let before = newest(&scene.engine.path()).unwrap();
    scene.pass(Duration::from_secs(1));
    let expiry = Expiry { notifications_before: scene.now, idempotency_before: scene.now, limit: 10 };
    assert_eq!(scene.store().expire(expiry).await.unwrap().notifications, 2);
    assert_eq!(newest(&scene.engine.path()), None);
    scene.reopen().await;
    scene.next_life().await;
    scene.sent(partner).await;
    assert!(newest(&scene.engine.path()).unwrap() > before);
}

#[tokio::test]
async fn the_log_begins_anew_while_it_is_written() {
    let mut scene = Scene::new(InFolder::new()).await;
    let partner = scene.partner().await;
    let set = |session: &mut super::Session| {
        session.checkpoints.step = 100;
        Ok(())
    };
    scene.store().write(1, set).await.unwrap();
    let mut longest = 0;
    for _ in 0..10_000 {
        let batch = (0..50).map(|_| scene.event(partner)).collect();
        scene.store().accept(batch, scene.now).await.unwrap();
        let pages = scene.store().write(1, |session| Ok(session.log_pages())).await.unwrap();
        if pages < longest {
            return scene.assert_healthy().await;
        }
        longest = pages;
    }
    panic!("the log only ever grew, to {longest} pages");
}

/// Every kind of violation, made by hand. The doctor must find it.
#[tokio::test]
async fn examine_finds_what_is_broken() {
    type Expected = fn(&Violation) -> bool;
    let cases: [(&str, Expected); 22] = [
        ("DELETE FROM queue", |found| matches!(found, Violation::Stranded(_))),
        ("DELETE FROM attempts WHERE result = 'SENT'", |found| matches!(found, Violation::Stranded(_))),
        ("UPDATE attempts SET result = NULL WHERE result = 'FAILED'", |found| matches!(found, Violation::Stranded(_))),
        (
            "INSERT INTO queue (partner, id, seq, cycle, number, due, listed) SELECT partner, id, seq, cycle, number, 0, 0 FROM attempts",
            |found| matches!(found, Violation::SettledTwice(_)),
        ),
        (
            "INSERT INTO attempts SELECT id, partner, seq, cycle, number, randomblob(16), started_at, duration_us, class,
                 http_status, detail, next_due, result, reason FROM attempts WHERE result = 'SENT'",
            |found| matches!(found, Violation::SettledTwice(_)),
        ),
        ("UPDATE queue SET id = randomblob(16)", |found| matches!(found, Violation::Orphaned(_))),
        ("UPDATE queue SET cycle = 2", |found| matches!(found, Violation::Orphaned(_))),
        ("UPDATE queue SET owner = randomblob(16)", |found| matches!(found, Violation::DeadOwner(..))),
        ("UPDATE nodes SET ended_at = 1", |found| matches!(found, Violation::DeadOwner(..))),
        ("UPDATE attempts SET number = 7", |found| matches!(found, Violation::TooManyAttempts(_))),
        ("UPDATE notifications SET sealed = (SELECT sealed FROM notifications ORDER BY seq LIMIT 1)", |found| {
            matches!(found, Violation::Unreadable { table: "notifications", .. })
        }),
        ("UPDATE attempts SET detail = (SELECT detail FROM attempts LIMIT 1)", |found| {
            matches!(found, Violation::Unreadable { table: "attempts", .. })
        }),
        ("UPDATE secrets SET secret = zeroblob(90)", |found| {
            matches!(found, Violation::Unreadable { table: "secrets", .. })
        }),
        ("UPDATE partners SET data_key = zeroblob(81)", |found| {
            matches!(found, Violation::Unreadable { table: "partners", .. })
        }),
        ("DELETE FROM notifications WHERE seq = 1", |found| matches!(found, Violation::Orphaned(_))),
        ("DELETE FROM notifications WHERE seq = 1", |found| matches!(found, Violation::Unlisted(_))),
        ("DELETE FROM listed WHERE seq = 1", |found| matches!(found, Violation::Unlisted(_))),
        ("UPDATE queue SET listed = 1 - listed", |found| matches!(found, Violation::Unlisted(_))),
        ("DELETE FROM search", |found| matches!(found, Violation::Unsearchable(_))),
        ("UPDATE notifications SET user_hash = user_hash / 2 WHERE seq = 1", |found| {
            matches!(found, Violation::Unsearchable(_))
        }),
        ("UPDATE counters SET count = count + 1", |found| matches!(found, Violation::Miscounted(_))),
        ("DELETE FROM counters WHERE status = 'SENT'", |found| matches!(found, Violation::Miscounted(_))),
    ];
    for (sql, expected) in cases {
        let mut scene = Scene::new(InFolder::new()).await;
        let partner = scene.partner().await;
        scene.owned(partner).await;
        scene.sent(partner).await;
        scene.failed(partner).await;
        scene.store().write(1, super::Session::list_all).await.unwrap();
        scene.assert_healthy().await;
        let hand = Connection::open(scene.engine.path()).unwrap();
        hand.execute_batch("PRAGMA ignore_check_constraints = ON").unwrap();
        hand.execute_batch(sql).unwrap();
        let violations = scene.store().examine().await.unwrap().violations;
        assert!(violations.iter().any(expected), "{sql}: {violations:?}");
    }
}

/// When a run is half listed and something is removed, the rest is listed at once; nothing may be counted or found twice.
#[tokio::test]
async fn a_run_that_is_ended_early_is_listed_and_found_once() {
    let mut scene = Scene::new(InFolder { run_length: 40, ..InFolder::new() }).await;
    let partners = [scene.partner().await, scene.partner().await, scene.partner().await];
    let batch: Vec<_> = partners.repeat(14).into_iter().map(|partner| scene.event(partner)).collect();
    let keys: Vec<_> = batch.iter().map(|accept| accept.key).collect();
    scene.store().accept(batch, scene.now).await.unwrap();
    // The next commit lists 32 of the 42. The one after that ends the run, and nothing has come in between.
    scene.store().write(1, |_| Ok(())).await.unwrap();
    scene.store().write(1, super::Session::list_all).await.unwrap();
    for key in keys.iter().step_by(2) {
        let record = attempted(*key, Turn::first(scene.now), ok(), &Schedule::default(), scene.now);
        assert_eq!(scene.record(record).await, Recorded::Applied);
    }
    scene.assert_healthy().await;
    for partner in partners {
        let by_user = ListQuery { external_user_id: Some("u-1".to_owned()), ..everything(partner) };
        assert_eq!(scene.list(by_user).await.total, 14);
        assert_eq!(scene.list(everything(partner)).await.total, 14);
    }
    // The next run has the next events only, of two entries of 12 bytes each.
    scene.sent(partners[0]).await;
    scene.store().write(1, super::Session::list_all).await.unwrap();
    let bytes = "SELECT sum(length(entries)) FROM search";
    let bytes = Connection::open(scene.engine.path()).unwrap().query_row(bytes, [], |row| row.get(0));
    assert_eq!(bytes, Ok(43 * 2 * 12));
}

/// Half of what is pending is in the lists already, and all of it still counts as not listed.
#[tokio::test]
async fn erasing_amid_a_run_settles_each_notification_once() {
    let mut scene = Scene::new(InFolder { run_length: 40, ..InFolder::new() }).await;
    let partner = scene.partner().await;
    let batch: Vec<_> = (0..42).map(|_| scene.event(partner)).collect();
    scene.store().accept(batch, scene.now).await.unwrap();
    // The next commit lists 32 of the 42.
    scene.store().write(1, |_| Ok(())).await.unwrap();
    assert_eq!(scene.store().erase_partner(partner, 1_000, scene.now).await.unwrap(), Erased::Done);
    let not_sent = ListQuery { status: Some(Status::NotSent), ..everything(partner) };
    assert_eq!(scene.list(not_sent).await.total, 42);
    scene.assert_healthy().await;
}

/// A claim is several transactions. What the first of them made this life's own must be told, or nobody would send it.
#[tokio::test]
async fn a_claim_that_fails_half_way_tells_what_it_has() {
    let mut scene = Scene::new(InFolder::new()).await;
    let partner = scene.partner().await;
    for _ in 0..100 {
        scene.unowned(partner).await;
    }
    let hand = Connection::open(scene.engine.path()).unwrap();
    // The one that comes last.
    let last = "WHEN old.id = (SELECT max(id) FROM queue) BEGIN SELECT RAISE(ABORT, 'no'); END";
    hand.execute_batch(&format!("CREATE TRIGGER no BEFORE UPDATE ON queue {last}")).unwrap();
    let claim =
        Claim { life: scene.life, until: scene.now, room: 100, rooms: BTreeMap::new(), total: 100, bytes: usize::MAX };
    let claimed = scene.store().claim(claim.clone()).await.unwrap();
    let owned = scene.store().owned(scene.life).await.unwrap();
    assert!(!owned.is_empty() && owned.len() < 100, "{} are owned", owned.len());
    assert_eq!(claimed.jobs.iter().map(|job| job.key).collect::<BTreeSet<_>>(), owned.into_iter().collect());
    assert!(claimed.more);
    // A claim that fails at once has nothing to tell.
    assert!(scene.store().claim(claim.clone()).await.is_err());
    hand.execute_batch("DROP TRIGGER no").unwrap();
    let rest = scene.store().claim(claim).await.unwrap();
    assert_eq!((claimed.jobs.len() + rest.jobs.len(), rest.more), (100, false));
}

/// A search leads to the row, and the row decides: its hash is whole, and it may be another one's.
#[tokio::test]
async fn what_a_search_leads_to_is_looked_at() {
    let mut scene = Scene::new(InFolder::new()).await;
    let (partner, other) = (scene.partner().await, scene.partner().await);
    let keys = [scene.sent(partner).await, scene.sent(partner).await, scene.sent(partner).await];
    scene.store().write(1, super::Session::list_all).await.unwrap();
    let by_user = ListQuery { external_user_id: Some("u-1".to_owned()), ..everything(partner) };
    assert_eq!(scene.list(by_user.clone()).await.total, 3);
    let hand = Connection::open(scene.engine.path()).unwrap();
    hand.execute_batch("UPDATE notifications SET user_hash = user_hash + 1 WHERE seq = 1").unwrap();
    hand.execute("UPDATE notifications SET partner = ?1 WHERE seq = 2", [other.as_bytes()]).unwrap();
    let found = scene.list(by_user).await;
    assert_eq!((found.total, found.rows.iter().map(|row| row.id).collect()), (1, vec![keys[2].id]));
}

/// Where very many share a user, the list reads everything of the partner instead, and must tell the same.
#[tokio::test]
async fn a_search_for_very_many_tells_the_same() {
    let mut scene = Scene::new(InFolder::new()).await;
    let (partner, other) = (scene.partner().await, scene.partner().await);
    for _ in 0..21 {
        let mut batch: Vec<_> = (0..1000).map(|_| scene.event(other)).collect();
        let accept = Accept { event: event("u-1", Some("t-2"), 1), fate: Fate::Queue(None), ..scene.event(partner) };
        batch.push(Accept { key: scene.key(other), ..accept.clone() });
        batch.push(accept);
        scene.store().accept(batch, scene.now).await.unwrap();
    }
    scene.store().write(1, super::Session::list_all).await.unwrap();
    let by_user = |partner| ListQuery { external_user_id: Some("u-1".to_owned()), limit: 1, ..everything(partner) };
    assert_eq!(scene.list(by_user(other)).await.total, 21_021);
    assert_eq!(scene.list(by_user(partner)).await.total, 21);
    let both = ListQuery { transaction_id: Some("t-2".to_owned()), ..by_user(other) };
    assert_eq!(scene.list(both).await.total, 21);
}

#[tokio::test]
async fn a_broken_row_holds_up_no_other() {
    let mut scene = Scene::new(InFolder::new()).await;
    let partner = scene.partner().await;
    let broken = scene.unowned(partner).await;
    let whole = scene.unowned(partner).await;
    let hand = Connection::open(scene.engine.path()).unwrap();
    hand.execute_batch("UPDATE notifications SET sealed = zeroblob(99) WHERE seq = 1").unwrap();
    assert_eq!(scene.claim_all().await.iter().map(|job| job.key).collect::<Vec<_>>(), [whole]);
    let read = scene.store().notification(broken).await;
    assert!(matches!(read, Err(Error::Corrupt { table: "notifications", column: "sealed", .. })), "{read:?}");
    assert!(scene.store().notification(whole).await.unwrap().is_some());
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_its_work_done() {
    let mut scene = Scene::new(InFolder::new()).await;
    let partner = scene.partner().await;
    // The first event opens the partner's keys, so that the next goes straight to the writer.
    scene.owned(partner).await;
    let accept = Accept { fate: Fate::Queue(None), ..scene.event(partner) };
    let key = accept.key;
    {
        let mut call = scene.store().accept(vec![accept], scene.now);
        // One poll hands the work to the writer; then the caller is gone.
        let _ = std::future::poll_fn(|context| std::task::Poll::Ready(call.as_mut().poll(context))).await;
    }
    scene.store().begin_life(LifeId::from_bytes([9; 16]), scene.now).await.unwrap();
    assert_eq!(scene.status(key).await, Some(Status::Pending));
}
