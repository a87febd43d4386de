//! The proxy: it cuts at commits on either side of them, cuts everything, stalls, refuses and switches.

#![expect(clippy::unwrap_used, reason = "what a test does not expect ends it")]

use std::io::{BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};

use capa_webhooks_cluster::{Cluster, Database, Moment, Proxy};

/// Changes that commit, each in a way of its own: in a block, by itself, and within a function of the service.
const CHANGES: [&str; 3] =
    ["BEGIN; INSERT INTO t VALUES (1); COMMIT;", "INSERT INTO t VALUES (1);", "SELECT record_1();"];

/// A fresh database with an empty table, and a proxy in front of its cluster.
fn stage() -> (Database, Proxy) {
    let cluster = Cluster::shared();
    let database = cluster.create_database().unwrap();
    let function = "CREATE FUNCTION record_1() RETURNS void LANGUAGE sql AS 'INSERT INTO t VALUES (1)'";
    database.sql(&format!("CREATE TABLE t (n int); {function}")).unwrap();
    (database, Proxy::postgres(cluster.address()).unwrap())
}

/// Runs statements through the proxy.
fn run(proxy: &Proxy, database: &Database, statements: &str) -> anyhow::Result<String> {
    database.sql_through(proxy.address(), statements)
}

#[test]
fn what_is_cut_before_its_commit_has_not_happened() {
    let (database, proxy) = stage();
    for statements in CHANGES {
        proxy.cut_at_commit(Moment::BeforeCommit);
        run(&proxy, &database, statements).unwrap_err();
        assert_eq!(database.sql("SELECT count(*) FROM t").unwrap(), "0", "{statements}");
        assert!(!proxy.spare_commits(), "the wish has come true");
        run(&proxy, &database, "SELECT 1").unwrap();
    }
    assert_eq!(proxy.cut_at_commits(), 3);
}

#[test]
fn what_is_cut_after_its_commit_has_happened() {
    let (database, proxy) = stage();
    for (count, statements) in (1..).zip(CHANGES) {
        proxy.cut_at_commit(Moment::AfterCommit);
        run(&proxy, &database, statements).unwrap_err();
        assert_eq!(database.sql("SELECT count(*) FROM t").unwrap(), count.to_string(), "{statements}");
    }
    proxy.wait_for_cuts_at_commit(3);
}

#[test]
fn only_commits_are_cut() {
    let (database, proxy) = stage();
    proxy.cut_at_commit(Moment::BeforeCommit);
    let statements = "SELECT 1; BEGIN; INSERT INTO t VALUES (1); ROLLBACK; SELECT count(*) FROM t";
    assert_eq!(run(&proxy, &database, statements).unwrap(), "1\n0");
    assert!(proxy.spare_commits(), "nothing was committed");
    run(&proxy, &database, "INSERT INTO t VALUES (1)").unwrap();
}

/// A server that says its name to whoever connects and then tells what it hears.
fn server(name: &'static str) -> (SocketAddr, Receiver<u8>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (heard, hears) = channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let heard = heard.clone();
            std::thread::spawn(move || {
                stream.write_all(name.as_bytes()).unwrap();
                for byte in BufReader::new(stream).bytes().map_while(Result::ok) {
                    // The test may have ended.
                    _ = heard.send(byte);
                }
            });
        }
    });
    (address, hears)
}

fn greeting(stream: &mut TcpStream) -> u8 {
    let mut byte = [0];
    stream.read_exact(&mut byte).unwrap();
    byte[0]
}

fn is_over(mut stream: TcpStream) -> bool {
    !matches!(stream.read(&mut [0]), Ok(1..))
}

#[test]
fn connections_are_cut_led_elsewhere_and_refused() {
    let ((first, _), (second, _)) = (server("1"), server("2"));
    let proxy = Proxy::start(first).unwrap();
    let connect = || TcpStream::connect(proxy.address()).unwrap();
    let (mut one, mut two) = (connect(), connect());
    assert_eq!([greeting(&mut one), greeting(&mut two)], *b"11");
    assert_eq!(proxy.cut(), 2);
    assert!(is_over(one) && is_over(two));
    let mut three = connect();
    assert_eq!(greeting(&mut three), b'1');
    proxy.switch_to(second);
    assert!(is_over(three));
    assert_eq!(greeting(&mut connect()), b'2');
    proxy.refuse();
    assert!(is_over(connect()));
    proxy.go_on();
    let mut last = connect();
    assert_eq!(greeting(&mut last), b'2');
    drop(proxy);
    assert!(is_over(last));
}

#[test]
fn a_stalled_connection_carries_nothing_and_loses_nothing() {
    let (address, hears) = server("1");
    let proxy = Proxy::start(address).unwrap();
    let mut stream = TcpStream::connect(proxy.address()).unwrap();
    assert_eq!(greeting(&mut stream), b'1');
    proxy.stall();
    stream.write_all(b"a").unwrap();
    let late = TcpStream::connect(proxy.address()).unwrap();
    // A connection past the proxy shows that the server would have heard of it by now.
    TcpStream::connect(address).unwrap().write_all(b"b").unwrap();
    assert_eq!(hears.recv().unwrap(), b'b');
    assert!(hears.try_recv().is_err(), "the stalled proxy has carried something");
    proxy.go_on();
    assert_eq!(hears.recv().unwrap(), b'a');
    assert_eq!(greeting(&mut { late }), b'1');
}
