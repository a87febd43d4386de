//! The real program as a process of its own, for what only its log tells.

use super::store::TestStore;
use super::{PLATFORM_KEY, patience};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

/// A running `capa-webhooks serve`, which is killed when this is dropped.
pub(crate) struct Program {
    child: Child,
    /// Read as they come, so that a full pipe never holds the program up.
    lines: mpsc::UnboundedReceiver<String>,
    log: Vec<serde_json::Value>,
    /// Made with the program, and there until this is dropped.
    pub(crate) store: TestStore,
    pub(crate) address: SocketAddr,
}

impl Program {
    /// Starts it on this folder, with a log of everything that the product writes. Receivers may be on this machine.
    pub(crate) async fn serve(folder: &Path) -> Self {
        Self::serve_with(folder, &[]).await
    }

    /// The same, with these variables over those of the harness.
    pub(crate) async fn serve_with(folder: &Path, variables: &[(&str, &str)]) -> Self {
        let loose = [
            ("CAPA_WEBHOOKS_ALLOW_HTTP", "true"),
            ("CAPA_WEBHOOKS_ALLOW_ADDRESSES", "127.0.0.0/8"),
            ("CAPA_WEBHOOKS_ALLOW_PORTS", "*"),
        ];
        Self::start(folder, &[&loose, variables].concat()).await
    }

    /// The same with the rules for URLs that production has.
    pub(crate) async fn serve_strictly(folder: &Path) -> Self {
        Self::start(folder, &[]).await
    }

    async fn start(folder: &Path, variables: &[(&str, &str)]) -> Self {
        let store = TestStore::new(folder);
        let mut child = Command::new(env!("CARGO_BIN_EXE_capa-webhooks"))
            .arg("serve")
            .current_dir(folder)
            .env_clear()
            .env("CAPA_WEBHOOKS_LISTEN", "127.0.0.1:0")
            .env("CAPA_WEBHOOKS_METRICS_LISTEN", "127.0.0.1:0")
            .env("CAPA_WEBHOOKS_PLATFORM_KEY", PLATFORM_KEY)
            .env("CAPA_WEBHOOKS_RETRY_DELAYS", "100ms")
            .env("CAPA_WEBHOOKS_LOG", "trace")
            .env("CAPA_WEBHOOKS_LOG_FORMAT", "json")
            .envs(store.variables())
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stderr.take().unwrap()).lines();
        let (sender, lines) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok(Some(line)) = output.next_line().await {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut program = Self { child, lines, log: Vec::new(), store, address: nowhere };
        let serving = program.logs(|line| line["message"] == "serving").await;
        program.address = serving["address"].as_str().unwrap().parse().unwrap();
        program
    }

    /// Waits for such a line of the log.
    pub(crate) async fn logs(&mut self, is: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        let reading = async {
            while let Some(line) = self.lines.recv().await {
                let line: serde_json::Value = serde_json::from_str(&line).expect("every line of the log is JSON");
                self.log.push(line.clone());
                if is(&line) {
                    return line;
                }
            }
            panic!("the log ended: {:#?}", self.log);
        };
        patience::within("a line of the log", reading).await
    }

    /// Asks it to stop, waits for its end, and gives the whole log.
    pub(crate) async fn terminate(&mut self) -> String {
        let id = self.child.id().expect("it runs").to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().await.unwrap().success());
        self.logs(|line| line["message"] == "stopped").await;
        let status = patience::within("the program to end", self.child.wait()).await.unwrap();
        assert!(status.success(), "{status}");
        self.log.iter().map(|line| format!("{line}\n")).collect()
    }
}
