//! What `doctor` proves: every kind of violation, made by hand, is found.

use crate::fixture::Postgres;
use capa_webhooks_store::conformance::fixture::Scene;
use capa_webhooks_store::{Store, Violation};

type Expected = fn(&Violation) -> bool;

const CASES: [(&str, Expected); 17] = [
    ("DELETE FROM queue", |found| matches!(found, Violation::Stranded(_))),
    ("DELETE FROM attempts WHERE result = 'SENT'", |found| matches!(found, Violation::Stranded(_))),
    ("UPDATE attempts SET result = NULL WHERE result = 'FAILED'", |found| matches!(found, Violation::Stranded(_))),
    (
        "INSERT INTO queue (partner, id, due, accepted_at, cycle, number, event)
         SELECT partner, id, 0, 0, cycle, number, 'x' FROM attempts WHERE result = 'SENT'",
        |found| matches!(found, Violation::SettledTwice(_)),
    ),
    (
        "INSERT INTO attempts (partner, id, life, started_at, duration_us, cycle, number, class, result)
         SELECT partner, id, gen_random_uuid(), 0, 0, cycle, number, class, result FROM attempts WHERE result = 'SENT'",
        |found| matches!(found, Violation::SettledTwice(_)),
    ),
    ("UPDATE queue SET id = gen_random_uuid()", |found| matches!(found, Violation::Orphaned(_))),
    ("UPDATE queue SET cycle = 2", |found| matches!(found, Violation::Orphaned(_))),
    ("UPDATE queue SET owner = gen_random_uuid()", |found| matches!(found, Violation::DeadOwner(..))),
    ("UPDATE nodes SET ended_at = 1", |found| matches!(found, Violation::DeadOwner(..))),
    ("UPDATE notifications SET sealed = (SELECT sealed FROM notifications ORDER BY id LIMIT 1)", |found| {
        matches!(found, Violation::Unreadable { table: "notifications", .. })
    }),
    ("UPDATE attempts SET detail = (SELECT detail FROM attempts ORDER BY id LIMIT 1)", |found| {
        matches!(found, Violation::Unreadable { table: "attempts", .. })
    }),
    ("UPDATE secrets SET secret = decode(repeat('00', 90), 'hex')", |found| {
        matches!(found, Violation::Unreadable { table: "secrets", .. })
    }),
    ("UPDATE partners SET data_key = decode(repeat('00', 81), 'hex')", |found| {
        matches!(found, Violation::Unreadable { table: "partners", .. })
    }),
    ("DELETE FROM deltas", |found| matches!(found, Violation::Miscounted(_))),
    ("SELECT fold_1(); DELETE FROM counters WHERE sent > 0", |found| matches!(found, Violation::Miscounted(_))),
    ("SELECT fold_1(); UPDATE totals SET failed = failed + 1", |found| matches!(found, Violation::Miscounted(_))),
    ("SELECT fold_1(); DELETE FROM totals", |found| matches!(found, Violation::Miscounted(_))),
];

#[tokio::test]
async fn what_is_broken_is_found() {
    for (sql, expected) in CASES {
        let mut scene = Scene::new(Postgres::new()).await;
        let partner = scene.partner().await;
        scene.owned(partner).await;
        scene.sent(partner).await;
        scene.failed(partner).await;
        scene.assert_healthy().await;
        scene.engine.database.sql(&format!("SET search_path TO capa_webhooks; {sql}")).expect("works");
        let violations = scene.store().examine().await.expect("works").violations;
        assert!(violations.iter().any(expected), "{sql}: {violations:?}");
    }
}
