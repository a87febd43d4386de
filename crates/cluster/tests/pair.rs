//! A primary and its standby: a commit is on both, and the standby takes over again and again.

use capa_webhooks_cluster::{Options, Pair, Proxy};

#[test]
fn nothing_committed_is_lost_when_the_standby_takes_over() {
    let mut pair = Pair::start(Options { durable: true, ..Options::default() }).unwrap();
    let url = pair.url("postgres");
    pair.primary().sql("postgres", "CREATE TABLE t (n int)").unwrap();
    assert_eq!(pair.standby().unwrap().sql("postgres", "SELECT count(*) FROM t").unwrap(), "0");
    let proxy = Proxy::postgres(pair.primary().address()).unwrap();
    for round in 1..=2 {
        pair.primary().sql("postgres", &format!("INSERT INTO t VALUES ({round})")).unwrap();
        let address = pair.fail_over().unwrap();
        assert_eq!(address, pair.primary().address());
        proxy.switch_to(address);
        assert_eq!(pair.primary().sql("postgres", "SELECT count(*) FROM t").unwrap(), round.to_string());
        assert!(pair.fail_over().is_err(), "there is nobody left to take over");
        pair.add_standby().unwrap();
        assert_eq!(pair.url("postgres"), url, "clients need not hear of it");
    }
    let through = pair.primary().url_through(proxy.address(), "postgres");
    assert!(through.contains(&proxy.address().to_string()), "{through}");
}

#[test]
fn a_commit_waits_for_the_standby() {
    let mut pair = Pair::start(Options::default()).unwrap();
    pair.primary().sql("postgres", "CREATE TABLE t (n int)").unwrap();
    let state = "SELECT sync_state FROM pg_stat_replication";
    assert_eq!(pair.primary().sql("postgres", state).unwrap(), "sync");
    pair.primary_mut().restart_immediate().unwrap();
    // Returns only if the standby has come back.
    pair.primary().sql("postgres", "INSERT INTO t VALUES (1)").unwrap();
    assert_eq!(pair.primary().sql("postgres", state).unwrap(), "sync");
    pair.stop_standby().unwrap();
    let primary = pair.primary();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| primary.sql("postgres", "INSERT INTO t VALUES (2)"));
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        while primary.sql("postgres", waiting).unwrap() != "1" {}
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        primary.sql("postgres", end).unwrap();
        assert!(writer.join().unwrap().is_err(), "the commit was answered without the standby");
    });
}
