//! Contract, section 1: receivers as partners have them verify what is delivered. Node judges as Capa's published sample
//! does, and with the library of Standard Webhooks; Python with its library. `cargo xtask setup` installs both.

use crate::harness::{Partner, World, patience};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use tokio::sync::mpsc;

/// A running receiver, which says of each delivery what it found.
struct Real {
    child: Child,
    lines: mpsc::UnboundedReceiver<String>,
    url: String,
}

impl Real {
    async fn start(mut command: Command, secret: &str) -> Self {
        let child = command.env("CAPA_WEBHOOK_SECRET", secret).stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut child = child.unwrap_or_else(|error| panic!("{error}: {command:?}; `cargo xtask setup` installs it"));
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::unbounded_channel();
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut real = Self { child, lines, url: String::new() };
        real.url = format!("http://127.0.0.1:{}/webhooks", real.line().await["port"]);
        real
    }

    async fn line(&mut self) -> Value {
        let line = patience::within("a line of the receiver", self.lines.recv()).await;
        let line = line.expect("the receiver ended; is its library there? `cargo xtask setup` installs it");
        serde_json::from_str(&line).unwrap()
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        // It may have ended already.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// What `cargo xtask setup` installed.
fn installed(path: &str) -> PathBuf {
    let suite = std::env::current_exe().unwrap();
    suite.ancestors().nth(3).expect("the suite is in target/*/deps").join("receivers").join(path)
}

fn source(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/receivers").join(file)
}

fn node() -> Command {
    let mut command = Command::new("node");
    command.arg(source("receiver.mjs")).env("CAPA_PACKAGES", installed("node"));
    command
}

fn python() -> Command {
    let mut command = Command::new(installed("python/bin/python"));
    command.arg(source("receiver.py"));
    command
}

/// Bodies as the platform may send them, each with the user it is told apart by. The receivers see the canonical form.
fn bodies() -> Vec<(String, String)> {
    let kyc = |rest: &str| format!(r#"{{"externalUserId":"USER","event":"VERIFIED_USER","type":"KYC"{rest}}}"#);
    let transaction = |rest: &str| {
        format!(
            r#"{{"type":"TRANSACTION","event":"COMPLETED_ON_RAMP","externalUserId":"USER","transactionId":"t-1"{rest}}}"#
        )
    };
    let large = format!(r#","notes":"{}""#, r"naïve ☃ 🦀 \u00e9 \\ ".repeat(8000));
    let deep = format!(r#","deep":{}1{}"#, "[".repeat(60), "]".repeat(60));
    let many = (0..2000).map(|number| format!(r#","k{number}":{number}.50"#)).collect::<String>();
    [
        kyc(""),
        kyc("").replace(':', " :\n\t "),
        transaction(r#","firstName":"Zoë","lastName":"Müller-Łukasz 山田 🧑‍🚀","fiatAmount":"10.50""#),
        kyc(r#","quotes":"\"\\\/\b\f\n\r\t\u0000\u001f\u007f""#),
        kyc(r#","escapes":"\u0041\u00e9\u2028\u2029\ud83e\udd80\uFEFF\uffff""#),
        kyc(r#","\u006bey":1,"k\"e\\y":2,"schlüssel":3,"":4,"__proto__":{"a":1}"#),
        kyc(r#","numbers":[0,-0,1.0,1e2,1E+2,100e-2,0.1,-0.000001,1e-7,1e21,123456789012345680000,5e-324]"#),
        kyc(r#","limits":[9007199254740991,-9007199254740991,1.7976931348623157e308,2.5e-8,1e300]"#),
        kyc(r#","nested":{"b":1,"10":2,"a":3,"2":4,"1":{"9":1,"08":2,"7":3}}"#),
        kyc(r#","list":[{"3":1,"x":2,"1":3},[],{},null,true,false,""]"#),
        kyc(&large),
        kyc(&deep),
        kyc(&many),
    ]
    .into_iter()
    .enumerate()
    .map(|(number, body)| {
        let user = format!("user-{number}");
        (body.replace("\"USER\"", &format!("\"{user}\"")), user)
    })
    .collect()
}

/// Publishes this body; gives the notification's id.
async fn publish(partner: &Partner, body: &str) -> String {
    partner.publishing(body.to_owned()).send().await.data(202)["id"].as_str().unwrap().to_owned()
}

async fn verifies_everything(command: fn() -> Command) {
    let world = World::on_system_clock(&[("retry_count", "0")]).await;
    let partner = world.partner_without_url().await;
    let mut real = Real::start(command(), &partner.secret).await;
    partner.set(json!({"url": real.url})).await;
    for (body, user) in bodies() {
        let id = publish(&partner, &body).await;
        let found = real.line().await;
        let bytes = &found["bytes"];
        assert_eq!(found, json!({"id": id, "sample": true, "standard": true, "user": user, "bytes": bytes}), "{body}");
        partner.becomes(&id, "SENT").await;
    }
}

/// One who has another secret refuses what comes, in both ways; given to one with the right one, a manual retry of the
/// same notification verifies.
async fn refuses_another_secret(command: fn() -> Command) {
    let world = World::on_system_clock(&[("retry_count", "0")]).await;
    let partner = world.partner_without_url().await;
    let other = world.partner_without_url().await;
    let mut wrong = Real::start(command(), &other.secret).await;
    partner.set(json!({"url": wrong.url})).await;
    let (body, user) = bodies().swap_remove(9);
    let id = publish(&partner, &body).await;
    let found = wrong.line().await;
    let bytes = &found["bytes"];
    assert_eq!(found, json!({"id": id, "sample": false, "standard": false, "user": user, "bytes": bytes}));
    partner.becomes(&id, "FAILED").await;
    assert_eq!(partner.attempts(&id).await[0]["httpStatus"], 400);

    let mut right = Real::start(command(), &partner.secret).await;
    partner.set(json!({"url": right.url})).await;
    partner.retry(&id).await.data(201);
    let found = right.line().await;
    assert_eq!(found, json!({"id": id, "sample": true, "standard": true, "user": user, "bytes": bytes}));
    partner.becomes(&id, "SENT").await;
}

#[tokio::test]
async fn node_verifies_everything() {
    verifies_everything(node).await;
}

#[tokio::test]
async fn node_refuses_another_secret() {
    refuses_another_secret(node).await;
}

#[tokio::test]
async fn python_verifies_everything() {
    verifies_everything(python).await;
}

#[tokio::test]
async fn python_refuses_another_secret() {
    refuses_another_secret(python).await;
}
