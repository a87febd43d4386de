//! `copy`: a store goes to PostgreSQL and comes back, and is served there as before.

use super::process::Place;
use capa_webhooks_cluster::Cluster;

#[test]
fn a_store_moves_and_comes_back() {
    let mut place = Place::new();
    for name in ["Acme Wallet", "Other Wallet"] {
        place.good(&["partners", "create", "--name", name]);
    }
    let listed = place.good(&["partners", "list"]);
    let database = Cluster::shared().create_database().expect("a database");
    // An address with a password comes through the environment.
    place.set("CAPA_WEBHOOKS_COPY_TO", database.url());
    let there = place.good(&["copy", "--from", "sqlite:data/capa-webhooks.db"]);
    let there = there.lines().filter(|line| !line.contains("the same in both stores")).collect::<Vec<_>>().join("\n");
    assert!(there.contains("           2  partners\n") && there.contains("SHA-256 of all: "), "{there}");
    assert_eq!(database.sql("SELECT count(*) FROM capa_webhooks.partners").expect("it counts"), "2");

    let back = place.good(&["copy", "--from", database.url(), "--to", "sqlite:data/back.db"]);
    let same = back.lines().filter(|line| !line.contains("the same in both stores")).collect::<Vec<_>>().join("\n");
    assert_eq!(same, there);
    assert_eq!(place.good(&["partners", "list", "--store", "sqlite:data/back.db"]), listed);
    assert!(place.good(&["doctor", "--store", "sqlite:data/back.db"]).contains("All is well"));
}

#[test]
fn what_was_published_from_sql_is_not_left_behind_unsaid() {
    let mut place = Place::new();
    place.good(&["partners", "create", "--name", "Acme Wallet"]);
    let database = Cluster::shared().create_database().expect("a database");
    place.set("CAPA_WEBHOOKS_COPY_TO", database.url());
    place.good(&["copy", "--from", "sqlite:data/capa-webhooks.db"]);
    let back = ["copy", "--from", database.url(), "--to", "sqlite:data/back.db"];
    database.sql("SELECT capa_webhooks.publish(gen_random_uuid(), '{}')").expect("it is published");
    let said = place.bad(&back);
    assert!(said.contains("1 event(s) that were published from SQL are still in the inbox"), "{said}");
    // As a node refuses it.
    let refuse = "WITH gone AS (DELETE FROM capa_webhooks.inbox RETURNING *)
                  INSERT INTO capa_webhooks.inbox_refused
                  SELECT id, partner, published_by, published_at, published_at, 'NOT_FOUND', '', '[]', NULL,
                         sha256(payload::bytea) FROM gone";
    database.sql(refuse).expect("it is refused");
    let said = place.good(&back);
    assert!(said.contains("1 event(s) that were published from SQL and refused are not copied"), "{said}");
}

#[test]
fn what_stands_in_the_way_is_told() {
    let place = Place::new();
    place.good(&["keys", "master", "--out", "capa-webhooks.key"]);
    for (arguments, words) in [
        (&["--from", "sqlite:data/x.db"][..], "CAPA_WEBHOOKS_COPY_TO"),
        (&["--from", "sqlite:x.db", "--to", "mysql://me:hunter2@db/x"], "--to must be sqlite:"),
        (&["--from", "sqlite:x.db", "--to", "sqlite:y.db"], "from SQLite to PostgreSQL or back"),
        (&["--from", "sqlite:x.db", "--to", "postgres://me:hunter2@127.0.0.1:1/x"], "there is no store at x.db"),
        (&["--from", "postgres://me:hunter2@127.0.0.1:1/x", "--to", "sqlite:y.db"], "check that it runs"),
    ] {
        let said = place.bad(&[&["copy"], arguments].concat());
        assert!(said.contains(words) && !said.contains("hunter2"), "{arguments:?}: {said}");
    }
    // Nothing was made but the key.
    assert_eq!(place.names("."), ["capa-webhooks.key", "tmp"]);
}
