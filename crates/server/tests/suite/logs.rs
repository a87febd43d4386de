//! Contract, section 6: what the log holds, and what it never holds. The real program, as a process of its own.

use crate::harness::program::Program;
use crate::harness::receiver::Receiver;
use crate::harness::{Answer, PLATFORM_KEY, Partner, Then, on_ramp, platform};
use serde_json::json;

/// Whatever happens to an event, the log at its finest tells nothing of it.
#[tokio::test]
async fn no_payload_secret_key_or_url() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let mut program = Program::serve(folder.path()).await;
    let endpoint = receiver.endpoint();
    let url = format!("{}?token=URL-TOKEN", endpoint.url);
    let partner = Partner::make(program.address, endpoint, json!({"name": "PARTNER-NAME", "url": url})).await;
    let error = json!({"hint": "ERROR-BODY"}).to_string();
    partner.endpoint.answers([Answer::new(500, &error), Answer::raw("", Then::Reset), Answer::new(500, "ERROR-BODY")]);
    let event = on_ramp("EXTERNAL-USER", "TRANSACTION-ID");
    let call = partner.publishing(event.to_string()).header("idempotency-key", "IDEMPOTENCY-KEY");
    let id = call.clone().send().await.data(202)["id"].as_str().unwrap().to_owned();
    call.send().await.data(200);
    partner.becomes(&id, "FAILED").await;
    partner.retry(&id).await.data(201);
    partner.becomes(&id, "FAILED").await;
    partner.get("webhook-notifications?externalUserId=EXTERNAL-USER").await.data(200);
    partner.publishing(r#"{"type":"EXTERNAL-USER","event":["TRANSACTION-ID"]}"#).send().await.invalid();
    partner.publishing(r#"{"EXTERNAL-USER":1e999}"#).send().await.invalid();
    let wrong = partner.wrong_key();
    partner.with_key(&wrong).get("webhook-settings").await.refused(401, "UNAUTHORIZED", "Invalid API Key");
    partner
        .call("PUT", "webhook-settings")
        .json(&json!({"url": "https://URL-TOKEN:x@URL-TOKEN/"}))
        .send()
        .await
        .invalid();
    partner.seen_by_platform("DELETE").send().await.data(200);

    let log = program.terminate().await;
    assert!(log.contains("\"attempted\"") && log.contains(&id), "the log tells of attempts: {log}");
    let half = |key: &str| key.split(':').nth(1).unwrap().to_owned();
    let secrets = [half(&partner.key), half(&wrong), half(PLATFORM_KEY), partner.secret.clone()];
    let words = [
        "EXTERNAL-USER",
        "TRANSACTION-ID",
        "Satoshi",
        "Nakamoto",
        "PARTNER-NAME",
        "ERROR-BODY",
        "URL-TOKEN",
        "IDEMPOTENCY-KEY",
        "/hook/",
    ];
    for word in words.into_iter().map(str::to_owned).chain(secrets) {
        let line = log.lines().find(|line| line.contains(&word));
        assert_eq!(line, None, "{word} stands in the log");
    }
}

/// A fault of ours: an id that stands in the log, where the cause is, and no inner text in the answer.
#[tokio::test]
async fn a_fault_of_ours() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let mut program = Program::serve(folder.path()).await;
    let partner = Partner::make(program.address, receiver.endpoint(), json!({"name": "x"})).await;
    program.store.run(&["DELETE FROM secrets"]);
    for version in ["v1", "v2"] {
        let reply = partner.call_version(version, "GET", "webhook-settings").send().await;
        let details = reply.refused(500, "INTERNAL_SERVER_ERROR", "Internal server error");
        let (_, incident) = details[0].1.rsplit_once(' ').unwrap();
        let incident = incident.trim_end_matches('.');
        assert!(uuid::Uuid::parse_str(incident).is_ok(), "{details:?}");
        assert_eq!(details, [(String::new(), format!("The log holds more under incident {incident}."))]);
        let line = program.logs(|line| line["incident"] == incident).await;
        assert_eq!(line["level"], "ERROR");
        assert!(line["error"].as_str().unwrap().len() > 10, "{line}");
    }
    let reply = platform(program.address, "GET", &format!("partners/{}", partner.id)).send().await;
    reply.refused(500, "INTERNAL_SERVER_ERROR", "Internal server error");
}
