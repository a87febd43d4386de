//! The README's receivers, run as they stand there: they take real deliveries and refuse forged ones.

use crate::harness::{Call, PLATFORM_KEY, World, patience, verified};
use serde_json::json;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tokio::sync::mpsc;

/// A program from the README, which listens on a port of its own.
struct Program {
    child: Child,
    address: SocketAddr,
    lines: mpsc::UnboundedReceiver<String>,
}

impl Program {
    /// Starts the README's block in `language` with `interpreter`, and waits until it takes connections.
    async fn start(language: &str, file: &str, interpreter: &str, folder: &Path, secret: &str) -> Self {
        let path = folder.join(file);
        std::fs::write(&path, block(language)).unwrap();
        // The port is free when the program is started; nobody else on this machine is told of it.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let child = Command::new(interpreter)
            .arg(&path)
            .env("PORT", address.port().to_string())
            .env("CAPA_WEBHOOK_SECRET", secret)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{interpreter}: {error}; `cargo xtask setup` installs it"));
        let (sender, lines) = mpsc::unbounded_channel();
        let mut program = Self { child, address, lines };
        let output = BufReader::new(program.child.stdout.take().unwrap());
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        patience::until("the program to listen", async || tokio::net::TcpStream::connect(address).await.ok()).await;
        program
    }

    async fn line(&mut self) -> String {
        patience::within("a line of the program", self.lines.recv()).await.expect("the program ended")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// The only code block of the README in this language.
fn block(language: &str) -> String {
    let readme = include_str!("../../../../README.md");
    let opening = format!("\n```{language}\n");
    let mut blocks = readme.split(&opening).skip(1);
    let block = blocks.next().unwrap_or_else(|| panic!("the README has no {language} block"));
    assert!(blocks.next().is_none(), "the README has several {language} blocks");
    block.split("\n```").next().unwrap().to_owned()
}

async fn takes_deliveries(language: &str, file: &str, interpreter: &str) {
    let world = World::start().await;
    let partner = world.partner_without_url().await;
    let folder = tempfile::tempdir().unwrap();
    let mut program = Program::start(language, file, interpreter, folder.path(), &partner.secret).await;
    partner.set(json!({"url": format!("http://{}/webhooks", program.address)})).await;

    let first = partner.publish(&verified("user-1")).await;
    assert_eq!(program.line().await, "VERIFIED_USER user-1");
    partner.becomes(&first, "SENT").await;

    let body = verified("user-2").to_string();
    for signature in [None, Some("00".repeat(32)), Some("not hex".to_owned())] {
        let mut forged = Call::new(program.address, "POST", "/webhooks").header("webhook-id", "forged");
        if let Some(signature) = signature {
            forged = forged.header("capa-signature", &signature);
        }
        assert_eq!(forged.text(body.clone()).send().await.status, 401);
    }

    let second = partner.publish(&verified("user-3")).await;
    assert_eq!(program.line().await, "VERIFIED_USER user-3", "nothing of what was forged was taken");
    partner.becomes(&second, "SENT").await;
}

#[tokio::test]
async fn the_node_receiver_takes_deliveries() {
    takes_deliveries("js", "receiver.mjs", "node").await;
}

#[tokio::test]
async fn the_python_receiver_takes_deliveries() {
    takes_deliveries("python", "receiver.py", "python3").await;
}

/// The curl line of the README publishes an event, with nothing but its variables set.
#[tokio::test]
async fn the_curl_line_publishes() {
    let world = World::start().await;
    let partner = world.partner().await;
    let readme = include_str!("../../../../README.md");
    let start = readme.find("curl -X POST").unwrap();
    let line = readme[start..].split("\n```").next().unwrap();
    let line = line.replace("http://127.0.0.1:8080", &format!("http://{}", world.address));
    let output = Command::new("sh")
        .args(["-c", &format!("{line} --silent --show-error")])
        .env("PARTNER_ID", &partner.id)
        .env("PLATFORM_KEY", PLATFORM_KEY)
        .output()
        .unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!(answer["data"]["status"], "PENDING");
    partner.becomes(answer["data"]["id"].as_str().unwrap(), "SENT").await;
}
