//! What can be asked of the runs by themselves: that merges stay small and keep up, and lose and leave nothing.

use super::check::unsearchable_in_parts;
use super::{MOST_FOUND, Search, Shape, entry, find};
use crate::seal::MasterKeyId;
use crate::sqlite::schema::migrate;
use rusqlite::Connection;

const SMALL: Shape = Shape { row: 4, fan_in: 3 };

/// A store that holds what a search reads, and no more.
struct Store {
    conn: Connection,
    search: Search,
    newest: i64,
}

impl Store {
    fn new(shape: Shape) -> Self {
        let mut conn = Connection::open_in_memory().unwrap();
        migrate(&mut conn, MasterKeyId::from_bytes([1; 8])).unwrap();
        Self { conn, search: Search::new(shape), newest: 0 }
    }

    /// A run of so many events, each of a transaction of its own and of one of a hundred users.
    fn run(&mut self, events: i64) {
        for _ in 0..events {
            self.newest += 1;
            let (transaction, user) = (transaction(self.newest), user(self.newest));
            self.conn
                .prepare_cached("INSERT INTO notifications VALUES (?1, zeroblob(16), zeroblob(16), '', 0, ?2, ?3, x'')")
                .unwrap()
                .execute((self.newest, transaction, user))
                .unwrap();
            self.search.add(self.newest, Some(transaction), user);
        }
        self.conn.execute("INSERT OR REPLACE INTO meta VALUES ('listed_to', ?1)", [self.newest]).unwrap();
        self.search.write_run(&self.conn, self.newest).unwrap();
        self.search.run_committed();
    }

    /// Merges, and gives how many rows that changed.
    fn merge(&mut self, rows: usize, hurry: bool) -> u64 {
        let before = self.conn.total_changes();
        self.search.merge_some(&self.conn, rows, hurry).unwrap();
        self.conn.total_changes() - before
    }

    fn remove_to(&mut self, seq: i64) {
        self.conn.execute("DELETE FROM notifications WHERE seq <= ?1", [seq]).unwrap();
        self.search.plan_anew();
    }

    fn count(&self, sql: &str) -> i64 {
        self.conn.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    fn runs(&self) -> i64 {
        self.count("SELECT count(*) FROM search_runs")
    }

    fn find(&self, hash: i64) -> Vec<i64> {
        find(&self.conn, &[hash]).unwrap().unwrap()
    }

    /// The events that the check misses, comparing so many at a time.
    fn missed(&self, at_a_time: usize) -> usize {
        unsearchable_in_parts(&self.conn, usize::MAX, at_a_time).unwrap().len()
    }
}

/// A number with its bits spread over all 64, as hashes have them.
fn spread(number: i64) -> i64 {
    number.wrapping_mul(0x1e37_79b9_7f4a_7c15).rotate_left(32).wrapping_mul(0x3f58_476d_1ce4_e5b9)
}

fn transaction(seq: i64) -> i64 {
    spread(seq)
}

fn user(seq: i64) -> i64 {
    spread(-1 - seq % 100)
}

#[test]
fn merges_keep_up_with_small_slices() {
    let mut store = Store::new(SMALL);
    let (mut most_runs, mut most_changed) = (0, 0);
    for _ in 0..1000 {
        store.run(20);
        // Each event is a row when it is accepted, and one when its outcome is recorded.
        for _ in 0..8 {
            most_changed = most_changed.max(store.merge(5, false));
            most_runs = most_runs.max(store.runs());
        }
    }
    // 1,000 runs are not quite 7 levels of 3. While a merge goes on, its runs and the next three may be there.
    assert!(most_runs <= 7 * 7, "{most_runs} runs");
    // The greatest merge is of 29,160 entries. A batch of 5 rows owes 20 of each, at most one for each level.
    assert!(most_changed <= 150, "{most_changed} rows changed at once");
    assert_eq!(store.missed(700), 0);
    for seq in (1..=20_000).step_by(97) {
        assert_eq!(store.find(transaction(seq)), [seq]);
    }
    assert_eq!(store.find(user(42)), (0..200).map(|number| 42 + 100 * number).collect::<Vec<_>>());
    assert_eq!(store.find(transaction(-1000)), []);
}

#[test]
fn the_slices_of_a_large_merge_are_small_too() {
    let mut store = Store::new(SMALL);
    for _ in 0..3 {
        store.run(1000);
    }
    let mut slices = 0;
    while store.search.is_behind() {
        // 24 entries: 6 rows written, and 6 or a few more removed, as the runs' rows end.
        let changed = store.merge(0, true);
        assert!(changed <= 20, "{changed} rows changed at once");
        assert_eq!(store.missed(usize::MAX >> 1), 0, "after {slices} slices");
        assert_eq!(store.find(user(42)).len(), 30, "after {slices} slices");
        slices += 1;
        // Whoever starts anew reads from the tables how far it came.
        store.search = Search::new(SMALL);
        store.search.merges = Some(super::merge::plan(&store.conn, SMALL.fan_in, &[]).unwrap());
    }
    assert_eq!(slices, 6000 / 24);
    assert_eq!(store.runs(), 1);
    assert_eq!(store.count("SELECT count(*) FROM search"), 6000 / 4);
}

#[test]
fn what_was_removed_goes() {
    let mut store = Store::new(SMALL);
    for _ in 0..20 {
        store.run(50);
    }
    let hurry = |store: &mut Store| {
        while store.search.is_behind() {
            store.merge(0, true);
        }
    };
    hurry(&mut store);
    let whole = store.count("SELECT sum(length(entries)) FROM search");
    assert_eq!(whole, 1000 * 2 * 12);
    // Runs that are wholly gone go by themselves; of others what is left is told by the notifications.
    store.remove_to(940);
    hurry(&mut store);
    assert_eq!(store.count("SELECT count(*) FROM search_runs WHERE newest <= 940"), 0);
    let left = store.count("SELECT sum(length(entries)) FROM search");
    assert!(left <= 100 * 2 * 12, "{left} bytes");
    assert_eq!(store.missed(7), 0);
    // In a merge, entries of what was removed are left out.
    store.run(50);
    store.remove_to(1020);
    store.run(50);
    store.run(50);
    hurry(&mut store);
    assert_eq!(store.count("SELECT sum(length(entries)) FROM search"), (1150 - 1020) * 2 * 12);
    assert_eq!(store.missed(7), 0);
    store.remove_to(1150);
    hurry(&mut store);
    assert_eq!((store.runs(), store.count("SELECT count(*) FROM search")), (0, 0));
}

#[test]
fn a_merge_of_what_was_removed_meanwhile_comes_to_an_end() {
    let mut store = Store::new(SMALL);
    for _ in 0..3 {
        store.run(100);
    }
    store.merge(0, true);
    store.remove_to(299);
    // With rows and merges of another size than the runs were written with.
    store.search = Search::new(Shape { row: 1, fan_in: 2 });
    let slices = (0..10_000).take_while(|_| store.search.is_behind() && store.merge(0, true) > 0).count();
    assert!(!store.search.is_behind(), "not after {slices} slices");
    assert_eq!(store.find(transaction(300)), [300]);
    assert_eq!(store.missed(10), 0);
}

#[test]
fn a_hash_that_very_many_share_is_left_to_lists() {
    let mut store = Store::new(Shape { row: 300, fan_in: 8 });
    let most = i64::try_from(MOST_FOUND).unwrap();
    for seq in 1..=most {
        store.search.add(seq, Some(transaction(seq)), 5);
    }
    store.search.write_run(&store.conn, most).unwrap();
    store.search.run_committed();
    assert_eq!(store.find(5), (1..=most).collect::<Vec<_>>());
    store.search.add(most + 1, None, 5);
    store.search.write_run(&store.conn, most + 1).unwrap();
    assert_eq!(find(&store.conn, &[5]).unwrap(), None);
    // The other hash may lead to less.
    assert_eq!(find(&store.conn, &[5, transaction(9)]).unwrap(), Some(vec![9]));
}

#[test]
fn the_order_of_entries_is_that_of_hashes_and_then_of_commits() {
    let hashes = [0, 1 << 16, i64::MAX, i64::MIN, -1];
    let entries: Vec<_> =
        hashes.iter().flat_map(|hash| [0, 1, 0xffff, (1 << 48) - 1].map(|seq| entry(*hash, seq))).collect();
    assert!(entries.is_sorted_by(|one, next| one < next), "{entries:?}");
    assert_eq!(super::seq_of(&entry(-7, 0x1234_5678_9abc)), 0x1234_5678_9abc);
}

/// The runs are damaged by hand, each time in another way. The check must find it, in parts or at once.
#[test]
fn the_check_finds_what_a_search_would_miss() {
    let cases = [
        "DELETE FROM search WHERE row = (SELECT max(row) FROM search)",
        "DELETE FROM search_runs WHERE level = 0",
        "UPDATE search SET last = zeroblob(12) WHERE row = (SELECT max(row) FROM search)",
        "UPDATE search SET last = x'ffffffffffffffffffffffff' WHERE row = (SELECT max(row) FROM search)",
        "UPDATE search SET entries = CAST(substr(entries, 13) || substr(entries, 1, 12) AS BLOB) WHERE row = (SELECT max(row) FROM search)",
        "UPDATE search SET entries = CAST(substr(entries, 1, 12) || substr(entries, 1, 36) AS BLOB) WHERE row = (SELECT max(row) FROM search)",
        "UPDATE search SET entries = substr(entries, 13) WHERE row = (SELECT max(row) FROM search)",
        "UPDATE search SET entries = substr(entries, 2) WHERE row = (SELECT max(row) FROM search)",
        "UPDATE search_runs SET newest = 0",
        "UPDATE notifications SET user_hash = user_hash + 65536 WHERE seq = 7",
        "UPDATE notifications SET transaction_hash = transaction_hash + 65536 WHERE seq = 7",
    ];
    for sql in cases {
        let mut store = Store::new(SMALL);
        for _ in 0..5 {
            store.run(20);
            store.merge(0, true);
        }
        assert!(store.search.is_behind(), "a merge goes on");
        assert_eq!((store.missed(9), store.missed(1000)), (0, 0));
        store.conn.execute_batch(sql).unwrap();
        assert!(store.missed(9) > 0 && store.missed(1000) > 0, "{sql}");
    }
}

#[test]
fn a_look_into_a_run_begins_at_the_hash() {
    let store = Store::new(SMALL);
    let mut statement = store.conn.prepare(&format!("EXPLAIN QUERY PLAN {}", super::ROWS_FROM)).unwrap();
    let plan: Vec<String> =
        statement.query_map((1, [0_u8; 12]), |row| row.get(3)).unwrap().map(Result::unwrap).collect();
    assert_eq!(plan, ["SEARCH search USING INDEX search_in_order (run=? AND last>?)"]);
}
