//! One server: it starts, keeps what was committed through its deaths, and leaves nothing behind.

#![expect(clippy::unwrap_used, reason = "what a test does not expect ends it")]

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use capa_webhooks_cluster::{Cluster, Options, Tls};

/// Set for the copy of this program that starts a cluster and is then killed.
const VICTIM: &str = "CAPA_CLUSTER_VICTIM";

fn folder(cluster: &Cluster) -> PathBuf {
    let data = cluster.sql("postgres", "SHOW data_directory").unwrap();
    Path::new(&data).parent().unwrap().to_owned()
}

#[test]
fn two_live_beside_each_other_and_are_removed() {
    let clusters = [Cluster::start(Options::default()).unwrap(), Cluster::start(Options::default()).unwrap()];
    for (number, cluster) in clusters.iter().enumerate() {
        cluster.sql("postgres", &format!("CREATE TABLE t (n int); INSERT INTO t VALUES ({number})")).unwrap();
    }
    for (number, cluster) in clusters.iter().enumerate() {
        assert_eq!(cluster.sql("postgres", "SELECT n FROM t").unwrap(), number.to_string());
    }
    let traces = clusters.each_ref().map(|cluster| (folder(cluster), cluster.address()));
    drop(clusters);
    for (folder, address) in traces {
        assert!(!folder.exists(), "{} is left behind", folder.display());
        assert!(TcpStream::connect(address).is_err(), "a server is left behind");
    }
}

#[test]
fn what_was_committed_outlives_every_end_of_the_server() {
    let mut cluster = Cluster::start(Options { durable: true, ..Options::default() }).unwrap();
    assert_eq!(cluster.sql("postgres", "SHOW fsync").unwrap(), "on");
    cluster.sql("postgres", "CREATE TABLE t (end_of text)").unwrap();
    type End = fn(&mut Cluster) -> anyhow::Result<()>;
    let ends: [(&str, End); 3] = [
        ("stop", |cluster| cluster.stop().and_then(|()| cluster.resume())),
        ("restart", Cluster::restart_immediate),
        ("kill", |cluster| cluster.kill().and_then(|()| cluster.resume())),
    ];
    for (count, (name, end)) in (1..).zip(ends) {
        cluster.sql("postgres", &format!("INSERT INTO t VALUES ('{name}')")).unwrap();
        end(&mut cluster).unwrap();
        assert_eq!(cluster.sql("postgres", "SELECT count(*) FROM t").unwrap(), count.to_string(), "{name}");
    }
}

#[test]
fn databases_are_apart_and_end_with_their_owner() {
    let cluster = Cluster::shared();
    let (first, second) = (cluster.create_database().unwrap(), cluster.create_database().unwrap());
    first.sql("CREATE TABLE t (n int)").unwrap();
    assert!(second.sql("SELECT n FROM t").unwrap_err().to_string().contains("does not exist"));
    assert_eq!(first.url(), cluster.url(first.name()));
    let name = first.name().to_owned();
    drop(first);
    assert!(cluster.sql(&name, "SELECT 1").is_err(), "{name} is left behind");
    second.sql("SELECT 1").unwrap();
}

#[test]
fn a_held_transaction_keeps_its_locks_until_it_is_dropped() {
    let database = Cluster::shared().create_database().unwrap();
    database.sql("CREATE TABLE t (n int)").unwrap();
    let session = database.hold("INSERT INTO t VALUES (1); LOCK TABLE t IN EXCLUSIVE MODE").unwrap();
    let insert = "SET lock_timeout = '10ms'; INSERT INTO t VALUES (2)";
    assert!(database.sql(insert).unwrap_err().to_string().contains("lock timeout"));
    assert_eq!(database.sql("SELECT count(*) FROM t").unwrap(), "0");
    drop(session);
    database.sql("INSERT INTO t VALUES (2)").unwrap();
    assert_eq!(database.sql("SELECT n FROM t").unwrap(), "2", "what was held is rolled back");
    assert!(database.hold("SELECT 1 / 0").is_err());
}

#[test]
fn options_are_in_force() {
    let pair = rcgen::generate_simple_self_signed(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let tls = Tls { certificate: pair.cert.pem(), key: pair.signing_key.serialize_pem(), required: true };
    let options = Options {
        password: Some("open-sesame".to_owned()),
        tls: Some(tls),
        settings: vec![("work_mem".to_owned(), "5MB".to_owned())],
        ..Options::default()
    };
    let cluster = Cluster::start(options).unwrap();
    let question = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid(); SHOW work_mem; SHOW fsync";
    assert_eq!(cluster.sql("postgres", question).unwrap(), "t\n5MB\noff");
    assert!(cluster.sql("postgres?sslmode=disable", "SELECT 1").is_err(), "TLS is not required");
    let database = cluster.create_database().unwrap();
    assert!(database.url().contains(":open-sesame@"), "{}", database.url());
}

#[test]
fn a_killed_test_leaves_nothing_behind() {
    if std::env::var_os(VICTIM).is_some() {
        let cluster = Cluster::start(Options::default()).unwrap();
        println!("folder={}", folder(&cluster).display());
        println!("port={}", cluster.port());
        // Until it is killed.
        loop {
            std::thread::park();
        }
    }
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_killed_test_leaves_nothing_behind", "--nocapture"])
        .env(VICTIM, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(victim.stdout.take().unwrap()));
    let mut value = |name: &str| {
        let line = lines.find(|line| line.as_ref().unwrap().starts_with(name)).unwrap().unwrap();
        line[name.len()..].to_owned()
    };
    let (folder, port) = (PathBuf::from(value("folder=")), value("port="));
    victim.kill().unwrap();
    victim.wait().unwrap();
    // Its guardian holds the other end of nothing of ours, so there is only looking.
    while folder.exists() {
        std::thread::yield_now();
    }
    assert!(TcpStream::connect(format!("127.0.0.1:{port}")).is_err(), "a server is left behind");
}
