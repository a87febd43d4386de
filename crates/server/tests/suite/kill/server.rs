//! The real binary as a child process.

use capa_webhooks_core::notification::Status;
use capa_webhooks_store::sqlite::{Options, SqliteStore};
use capa_webhooks_store::{ListQuery, PageStart, Store as _};
use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

pub(super) const PLATFORM_KEY: &str = "3f0c9d52-8a9e-4f6c-9a53-0f6f0e1f8a11:7d1e5a34-52f4-4a36-8f0b-6c2d9b7e4c22";

/// How many pending notifications are read at a time.
const PAGE: usize = 1000;

/// A process that serves the store in a folder. Dropping it kills the process.
pub(super) struct Server {
    child: Child,
    folder: PathBuf,
    pub(super) address: SocketAddr,
}

impl Server {
    /// Starts a process and waits until it serves.
    pub(super) async fn start(folder: &Path) -> Self {
        let folder = folder.to_owned();
        tokio::task::spawn_blocking(move || Self::start_blocking(folder)).await.unwrap()
    }

    fn start_blocking(folder: PathBuf) -> Self {
        let mut child = command(&folder).arg("serve").stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut server = Self { child, folder, address: SocketAddr::from(([127, 0, 0, 1], 0)) };
        let mut line = String::new();
        loop {
            line.clear();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "the process ended before it served");
            let entry: serde_json::Value = serde_json::from_str(&line).unwrap();
            if entry["message"] == "serving" {
                server.address = entry["address"].as_str().unwrap().parse().unwrap();
                break;
            }
        }
        // Whatever else it logs is passed on, so that a failure can be understood.
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                if !line.contains("\"INFO\"") {
                    println!("{line}");
                }
            }
        });
        server
    }

    /// `kill -9`.
    pub(super) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks the process to stop, and waits until it has.
    pub(super) fn stop(&mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        assert!(self.child.wait().unwrap().success());
    }

    /// Fails unless `doctor` finds the store in order.
    pub(super) fn doctor(&self) {
        let output = command(&self.folder).arg("doctor").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}");
    }

    pub(super) async fn create_partner(&self, url: &str) -> String {
        let body = serde_json::json!({"name": "kill", "url": url}).to_string();
        let answer = self.call("POST", "/api/platform/v1/partners", &body);
        answer["data"]["id"].as_str().unwrap().to_owned()
    }

    /// The ids of what is pending, read from the store of a process that was killed.
    pub(super) async fn pending(&self, partner: &str) -> BTreeSet<String> {
        let key = capa_webhooks::keyfile::read_master_key(&self.folder.join("master.key")).unwrap();
        let options = Options::new(key, Arc::new(capa_webhooks::clock::fill_random));
        let store = SqliteStore::open_read_only(&self.folder.join("store.db"), options).unwrap();
        let mut pending = BTreeSet::new();
        let mut from = PageStart::Skip(0);
        loop {
            let query = ListQuery {
                partner: partner.parse().unwrap(),
                status: Some(Status::Pending),
                event: None,
                transaction_id: None,
                external_user_id: None,
                since: None,
                until: None,
                from,
                limit: PAGE,
            };
            let rows = store.list(query).await.unwrap().rows;
            pending.extend(rows.iter().map(|row| row.id.to_string()));
            match rows.last() {
                Some(last) if rows.len() == PAGE => from = PageStart::After(last.id),
                _ => return pending,
            }
        }
    }

    /// Waits until nothing is pending any more, as the metrics and the store say.
    pub(super) async fn wait_until_settled(&self, partner: &str) {
        // Reading the store takes long enough between two looks.
        for _ in 0..100_000 {
            if self.pending(partner).await.is_empty() {
                return;
            }
        }
        panic!("notifications stay pending");
    }

    /// A call over a connection of its own.
    fn call(&self, method: &str, path: &str, body: &str) -> serde_json::Value {
        let mut stream = TcpStream::connect(self.address).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nplatform-api-key: {PLATFORM_KEY}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_capa-webhooks"));
    command
        .current_dir(folder)
        .env("CAPA_WEBHOOKS_LISTEN", "127.0.0.1:0")
        .env("CAPA_WEBHOOKS_METRICS_LISTEN", "127.0.0.1:0")
        .env("CAPA_WEBHOOKS_STORE", "sqlite:store.db")
        .env("CAPA_WEBHOOKS_MASTER_KEY_FILE", "master.key")
        .env("CAPA_WEBHOOKS_PLATFORM_KEY", PLATFORM_KEY)
        .env("CAPA_WEBHOOKS_ALLOW_HTTP", "true")
        .env("CAPA_WEBHOOKS_ALLOW_ADDRESSES", "127.0.0.0/8")
        .env("CAPA_WEBHOOKS_ALLOW_PORTS", "*")
        .env("CAPA_WEBHOOKS_RETRY_DELAYS", "50ms,100ms,200ms,400ms,800ms")
        .env("CAPA_WEBHOOKS_LOG", "info")
        .env("CAPA_WEBHOOKS_LOG_FORMAT", "json");
    command
}
