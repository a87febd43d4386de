//! Contract, sections 3, 5 and 6: publishing one event, and what is refused.

use crate::harness::{World, on_ramp, verified};
use serde_json::{Value, json};

#[tokio::test]
async fn one_event() {
    let world = World::start().await;
    let partner = world.partner().await;
    let reply = partner.publishing(verified("u").to_string()).send().await;
    let data = reply.data(202);
    let id = data["id"].as_str().unwrap();
    assert_eq!(reply.text(), format!(r#"{{"success":true,"data":{{"id":"{id}","status":"PENDING"}}}}"#));
    assert_eq!(uuid::Uuid::parse_str(id).unwrap().hyphenated().to_string(), id);
    // It is durable and can be looked up by the time the answer is here.
    assert_eq!(partner.notification(id).await["payload"], verified("u"));
}

/// A KYC event with this in the place of its further fields.
fn kyc(rest: &str) -> String {
    format!(r#"{{"type":"KYC","event":"VERIFIED_USER","externalUserId":"u"{rest}}}"#)
}

fn transaction(rest: &str) -> String {
    format!(r#"{{"type":"TRANSACTION","event":"COMPLETED_ON_RAMP","externalUserId":"u"{rest}}}"#)
}

#[tokio::test]
async fn bodies_without_a_canonical_form() {
    let world = World::start().await;
    let partner = world.partner().await;
    let deep = |levels: usize| kyc(&format!(r#","a":{}{}"#, "[".repeat(levels - 1), "]".repeat(levels - 1)));
    let cases: Vec<(Vec<u8>, &str, &str)> = vec![
        (b"".into(), "", "not valid JSON"),
        (b"{".into(), "", "not valid JSON"),
        (b"[]".into(), "", "one JSON object"),
        (b"\"text\"".into(), "", "one JSON object"),
        (b"null".into(), "", "one JSON object"),
        (b"\xef\xbb\xbf{}".into(), "", "byte order mark"),
        ((kyc("") + "x").into(), "", "nothing behind the object"),
        (kyc(",").into(), "", "a key in double quotes"),
        (kyc(r#","a":01"#).into(), "", "leading zeros"),
        (kyc(r#","a":.5"#).into(), "", "a value"),
        (kyc(r#","a":NaN"#).into(), "", "a value"),
        (kyc(",\"a\":\"\u{1}\"").into(), "", "control character"),
        (kyc(r#","a":'x'"#).into(), "", "a value"),
        (kyc(r#","externalUserId":"v""#).into(), "externalUserId", "twice"),
        (kyc(r#","a":1,"\u0061":2"#).into(), "a", "twice"),
        (kyc(r#","a":{"b":[{"c":1,"d":2,"c":3}]}"#).into(), "a.b[0].c", "twice"),
        (kyc(r#","0":1"#).into(), r#"["0"]"#, "whole number"),
        (kyc(r#","4294967294":1"#).into(), r#"["4294967294"]"#, "whole number"),
        (kyc(r#","a":9007199254740993"#).into(), "a", "another one"),
        (kyc(r#","a":-9007199254740993"#).into(), "a", "another one"),
        (kyc(r#","a":0.1000000000000000055"#).into(), "a", "another one"),
        (kyc(r#","a":1e400"#).into(), "a", "another one"),
        (kyc(r#","lines":[1,2,{"amount":12345678901234567890}]"#).into(), "lines[2].amount", "another one"),
        (kyc(r#","a b":{"c":1e999}"#).into(), r#"["a b"].c"#, "another one"),
        (kyc(r#","a":"\ud800""#).into(), "a", "surrogate"),
        (kyc(r#","a":["\udc00\ud800"]"#).into(), "a[0]", "surrogate"),
        (kyc(r#","a":"\x""#).into(), "", "after a backslash"),
        (deep(65).into(), "a", "64 levels"),
        ([kyc(r#","a":""#).trim_end_matches('}').as_bytes(), b"\xff\"}"].concat(), "a", "UTF-8"),
    ];
    for (body, field, words) in cases {
        let shown = String::from_utf8_lossy(&body).into_owned();
        let reply = partner.publishing(body).send().await;
        let details = reply.invalid();
        // A path of many brackets is cut by nobody; its beginning tells where.
        assert_eq!(details.len(), 1, "{shown}");
        assert!(
            details[0].0 == field || (words == "64 levels" && details[0].0.starts_with("a[0]")),
            "{shown}: {details:?}"
        );
        assert!(details[0].1.contains(words), "{shown}: {details:?}");
    }
    assert_eq!(partner.get("webhook-notifications").await.data(200)["total"], 0, "nothing was stored");
    partner.publishing(deep(64)).send().await.data(202);
    partner.endpoint.delivery(1).await;
}

#[tokio::test]
async fn fields_that_are_missing_or_wrong() {
    let world = World::start().await;
    let partner = world.partner().await;
    let long = "é".repeat(257);
    for (body, field, words) in [
        (r#"{"event":"VERIFIED_USER","externalUserId":"u"}"#.to_owned(), "type", "missing"),
        (
            r#"{"type":null,"event":"VERIFIED_USER","externalUserId":"u"}"#.to_owned(),
            "type",
            "must be a string, not null",
        ),
        (r#"{"type":"KYCC","event":"VERIFIED_USER","externalUserId":"u"}"#.to_owned(), "type", "did you mean KYC?"),
        (r#"{"type":"kyc","event":"VERIFIED_USER","externalUserId":"u"}"#.to_owned(), "type", "did you mean KYC?"),
        (
            r#"{"type":"?","event":"VERIFIED_USER","externalUserId":"u"}"#.to_owned(),
            "type",
            "known are KYC, TRANSACTION",
        ),
        (r#"{"type":"KYC","externalUserId":"u"}"#.to_owned(), "event", "missing"),
        (r#"{"type":"KYC","event":7,"externalUserId":"u"}"#.to_owned(), "event", "must be a string, not a number"),
        (
            r#"{"type":"KYC","event":"VERIFIED","externalUserId":"u"}"#.to_owned(),
            "event",
            "did you mean VERIFIED_USER?",
        ),
        (
            r#"{"type":"KYC","event":"COMPLETED_ON_RAMP","externalUserId":"u"}"#.to_owned(),
            "event",
            "of the type TRANSACTION",
        ),
        (r#"{"type":"KYC","event":"VERIFIED_USER"}"#.to_owned(), "externalUserId", "missing"),
        (
            r#"{"type":"KYC","event":"VERIFIED_USER","externalUserId":""}"#.to_owned(),
            "externalUserId",
            "1 to 256 characters",
        ),
        (
            r#"{"type":"KYC","event":"VERIFIED_USER","externalUserId":5}"#.to_owned(),
            "externalUserId",
            "must be a string",
        ),
        (
            format!(r#"{{"type":"KYC","event":"VERIFIED_USER","externalUserId":"{long}"}}"#),
            "externalUserId",
            "1 to 256 characters",
        ),
        (transaction(""), "transactionId", "missing"),
        (transaction(r#","transactionId":"""#), "transactionId", "1 to 256 characters"),
        (transaction(r#","transactionId":1"#), "transactionId", "must be a string"),
        (transaction(&format!(r#","transactionId":"{long}""#)), "transactionId", "1 to 256 characters"),
        (transaction(r#","transactionId":"t","firstName":null"#), "firstName", "must be a string, not null"),
        (transaction(r#","transactionId":"t","fiatAmount":10.5"#), "fiatAmount", "must be a string, not a number"),
        (transaction(r#","transactionId":"t","exchangeRate":{}"#), "exchangeRate", "must be a string, not an object"),
    ] {
        partner.publishing(body).send().await.invalid_only(field, words);
    }
    assert_eq!(partner.get("webhook-notifications").await.data(200)["total"], 0, "nothing was stored");

    // Everything that is wrong is told at once.
    let reply = partner.publishing(r#"{"type":"TRANSACTION","event":"CREATED_ON_RAMP","lastName":[]}"#).send().await;
    let fields: Vec<_> = reply.invalid().into_iter().map(|(field, _)| field).collect();
    assert_eq!(fields, ["externalUserId", "transactionId", "lastName"]);

    let longest = "🦀".repeat(256);
    partner.publish(&on_ramp(&longest, &longest)).await;
    let delivered: Value = serde_json::from_slice(&partner.endpoint.delivery(1).await.body).unwrap();
    assert_eq!(delivered["transactionId"], longest);
}

/// An event of exactly so many bytes.
fn event_of(bytes: usize) -> String {
    let short = kyc(r#","a":"""#);
    short.replace(r#""a":"""#, &format!(r#""a":"{}""#, "x".repeat(bytes - short.len())))
}

#[tokio::test]
async fn the_largest_event() {
    const LIMIT: usize = 256 * 1024;
    let world = World::start().await;
    let partner = world.partner().await;
    partner.publishing(event_of(LIMIT)).send().await.data(202);
    assert_eq!(partner.endpoint.delivery(1).await.body.len(), LIMIT);
    let reply = partner.publishing(event_of(LIMIT + 1)).send().await;
    let details = reply.refused(413, "PAYLOAD_TOO_LARGE", "Payload too large");
    assert!(details[0].1.contains("262144 bytes"), "{details:?}");
    assert_eq!(partner.get("webhook-notifications").await.data(200)["total"], 1);
}

#[tokio::test]
async fn the_largest_event_is_a_setting() {
    let world = World::with(&[("max_body", "1KiB")]).await;
    let partner = world.partner().await;
    partner.publishing(event_of(1024)).send().await.data(202);
    partner.publishing(event_of(1025)).send().await.refused(413, "PAYLOAD_TOO_LARGE", "Payload too large");
}

#[tokio::test]
async fn an_unknown_partner() {
    let world = World::start().await;
    for id in ["0199f7a0-0000-7000-8000-000000000000", "nonsense", "%20"] {
        let reply = world.platform("POST", &format!("partners/{id}/events")).json(&verified("u")).send().await;
        assert!(reply.refused(404, "NOT_FOUND", "Partner not found").is_empty());
    }
}

#[tokio::test]
async fn the_catalogue() {
    let world = World::start().await;
    let data = world.platform("GET", "event-types").send().await.data(200);
    let rows = data["data"].as_array().unwrap();
    let names: Vec<_> =
        rows.iter().map(|row| (row["type"].as_str().unwrap(), row["event"].as_str().unwrap())).collect();
    assert_eq!(
        names,
        [
            ("KYC", "CREATED_KYC"),
            ("KYC", "VERIFIED_USER"),
            ("KYC", "REJECTED_KYC"),
            ("KYC", "REVIEW_NEEDED_KYC"),
            ("TRANSACTION", "CREATED_ON_RAMP"),
            ("TRANSACTION", "FIAT_RECEIVED_ON_RAMP"),
            ("TRANSACTION", "COMPLETED_ON_RAMP"),
            ("TRANSACTION", "CANCELLED_ON_RAMP"),
            ("TRANSACTION", "CREATED_OFF_RAMP"),
            ("TRANSACTION", "RECEIVED_USER_CRYPTO"),
            ("TRANSACTION", "CRYPTO_RECEIVED_OFF_RAMP"),
            ("TRANSACTION", "COMPLETED_OFF_RAMP"),
            ("TRANSACTION", "CREATED_CROSS_RAMP"),
        ]
    );
    assert_eq!(data["count"], 13);
    assert_eq!(rows[1]["requiredFields"], json!(["externalUserId"]));
    assert_eq!(rows[4]["requiredFields"], json!(["externalUserId", "transactionId"]));
    let off_ramp = json!(["firstName", "lastName", "blockchain", "cryptoCurrency", "fiatCurrency", "cryptoAmount"]);
    assert_eq!(rows[11]["optionalFields"], off_ramp);
}

#[tokio::test]
async fn an_operator_can_add_to_the_catalogue() {
    let file = r#"
        [[types]]
        name = "CARD"
        required = ["cardId"]
        [[events]]
        type = "CARD"
        name = "CARD_ISSUED"
        fields = ["brand"]
        [[events]]
        type = "KYC"
        name = "EXPIRED_KYC"
    "#;
    let world = World::with_file(file).await;
    let partner = world.partner().await;
    partner.publish(&json!({"type": "KYC", "event": "EXPIRED_KYC", "externalUserId": "u"})).await;
    // Or they might arrive in another order.
    partner.endpoint.delivery(1).await;
    let card =
        json!({"type": "CARD", "event": "CARD_ISSUED", "externalUserId": "u", "cardId": "c", "brand": "x", "more": 1});
    partner.publish(&card).await;
    assert_eq!(partner.endpoint.delivery(2).await.text(), card.to_string());
    for (field, value) in [("cardId", Value::Null), ("brand", json!(1))] {
        let mut wrong = card.clone();
        wrong[field] = value;
        partner.publishing(wrong.to_string()).send().await.invalid_only(field, "must be a string");
    }
    partner.choose(json!({"events": ["CARD_ISSUED"]})).await;
}
