//! Batches: envelopes that are refused whole, and items that are refused by themselves.

use super::probe::{INVALID, MARK, Probe, TOO_LARGE};
use super::stage::Stage;
use super::wire::Ask;
use serde_json::{Value, json};

const EVENT_LIMIT: usize = 256 * 1024;

pub(super) fn probes(stage: &Stage) -> Vec<Probe> {
    let ask = stage.ask_platform("POST", "events");
    let mut probes = Vec::new();
    let item = json!({"partnerId": stage.partner.id, "payload": {}});
    for broken in [
        "",
        "null",
        "[]",
        "{}",
        "1",
        r#"{"events":null}"#,
        r#"{"events":{}}"#,
        r#"{"events":"x"}"#,
        r#"{"events":1}"#,
        r#"{"events":[]}"#,
        r#"{"events":[1],"events":[2]}"#,
        r#"{"events":[1],"more":1}"#,
        r#"{"Events":[1]}"#,
        r#"{"events":[1,]}"#,
        r#"{"events":[1}"#,
        r#"{"events":[1]"#,
        r#"{"events":[1]}x"#,
        "\u{feff}{\"events\":[1]}",
        "{\"events\":[1]}\0",
    ] {
        probes.push(Probe::refused(&ask.clone().json(broken), INVALID, "events", ""));
    }
    for bytes in [&b"{\"events\":[\"\xff\"]}"[..], b"\xff\xfe{\0", b"{\"events\":[{\"partnerId\":\"\xed\xa0\x80\"}]}"] {
        probes.push(Probe::refused(&ask.clone().json(bytes), INVALID, "events", "differs at line"));
    }
    let many = |count: usize| json!({"events": vec![item.clone(); count]}).to_string();
    for count in [1001, 5000] {
        probes.push(Probe::refused(&ask.clone().json(many(count)), INVALID, "events", "1 to 1000"));
    }
    let deep = format!(r#"{{"events":{}"#, "[".repeat(100_000));
    probes.push(Probe::refused(&ask.clone().json(deep), INVALID, "events", "differs"));

    const FORM: &str = "An item has partnerId";
    let id = &stage.partner.id;
    let items: Vec<(String, &'static str, &str, &str)> = vec![
        ("1".into(), INVALID.1, "", FORM),
        ("null".into(), INVALID.1, "", FORM),
        ("\"x\"".into(), INVALID.1, "", FORM),
        ("[]".into(), INVALID.1, "", FORM),
        ("{}".into(), INVALID.1, "", FORM),
        (r#"{"partnerId":1,"payload":{}}"#.into(), INVALID.1, "", FORM),
        (r#"{"partnerId":null,"payload":{}}"#.into(), INVALID.1, "", FORM),
        (format!(r#"{{"partnerId":"{id}"}}"#), INVALID.1, "", FORM),
        (format!(r#"{{"partnerId":"{id}","payload":{{}},"x":"{MARK}"}}"#), INVALID.1, "", FORM),
        (format!(r#"{{"partnerId":"{id}","partnerId":"{id}","payload":{{}}}}"#), INVALID.1, "", FORM),
        (format!(r#"{{"partnerId":"{id}","payload":{{}},"idempotencyKey":7}}"#), INVALID.1, "", FORM),
        (format!(r#"{{"partnerId":"{id}","payload":{{}},"idempotencyKey":["{MARK}"]}}"#), INVALID.1, "", FORM),
        (r#"{"partnerId":"nonsense","payload":{}}"#.into(), "NOT_FOUND", "", ""),
        (r#"{"partnerId":"00000000-0000-0000-0000-000000000000","payload":{}}"#.into(), "NOT_FOUND", "", ""),
        (format!(r#"{{"partnerId":"{}","payload":{{}}}}"#, stage.own), "NOT_FOUND", "", ""),
        (format!(r#"{{"partnerId":"{id}","payload":1}}"#), INVALID.1, "payload", "one JSON object"),
        (format!(r#"{{"partnerId":"{id}","payload":null}}"#), INVALID.1, "payload", "one JSON object"),
        (format!(r#"{{"partnerId":"{id}","payload":[]}}"#), INVALID.1, "payload", "one JSON object"),
        (format!(r#"{{"partnerId":"{id}","payload":"{MARK}"}}"#), INVALID.1, "payload", "one JSON object"),
        (format!(r#"{{"partnerId":"{id}","payload":{{}}}}"#), INVALID.1, "payload.type", "missing"),
        (format!(r#"{{"partnerId":"{id}","payload":{{"a":1e400}}}}"#), INVALID.1, "payload.a", "another one"),
        (format!(r#"{{"partnerId":"{id}","payload":{{"a":{{"b":1,"b":2}}}}}}"#), INVALID.1, "payload.a.b", "twice"),
        (format!(r#"{{"partnerId":"{id}","payload":{{"a":"\ud800"}}}}"#), INVALID.1, "payload.a", "surrogate"),
        (
            format!(r#"{{"partnerId":"{id}","payload":{{"a":{}{}}}}}"#, "[".repeat(64), "]".repeat(64)),
            INVALID.1,
            &PAYLOAD_DEEP,
            "64 levels",
        ),
        (
            format!(r#"{{"partnerId":"{id}","payload":{{"a":{}{}}}}}"#, "[".repeat(100_000), "]".repeat(100_000)),
            INVALID.1,
            &PAYLOAD_DEEP,
            "64 levels",
        ),
        (
            format!(r#"{{"partnerId":"{id}","payload":{{"a":"{}"}}}}"#, "x".repeat(EVENT_LIMIT)),
            TOO_LARGE.1,
            "payload",
            "262144 bytes",
        ),
        (
            format!(r#"{{"partnerId":"{id}","payload":{},"idempotencyKey":""}}"#, stage.event),
            INVALID.1,
            "idempotencyKey",
            "1 to 256",
        ),
        (
            format!(r#"{{"partnerId":"{id}","payload":{},"idempotencyKey":"{}"}}"#, stage.event, "k".repeat(257)),
            INVALID.1,
            "idempotencyKey",
            "1 to 256",
        ),
        (
            format!(
                r#"{{"partnerId":"{id}","payload":{{"type":"KYC","event":"VERIFIED_USER","externalUserId":"{MARK}"}},"idempotencyKey":"again"}}"#
            ),
            "CONFLICT",
            "idempotency-key",
            "new key for a new event",
        ),
    ];
    for (item, code, field, words) in items {
        let body = format!(r#"{{"events":[{item}]}}"#);
        probes.push(Probe::item(&Ask::json(ask.clone(), body), code, field, words));
    }
    // Beside one that is refused, one that is there already is answered as it was.
    let good: Value = serde_json::from_str(&stage.event).unwrap_or_default();
    let beside = json!({"events": [
        {"partnerId": stage.partner.id, "payload": good, "idempotencyKey": "again"},
        {"partnerId": stage.partner.id, "payload": {"type": MARK}},
    ]});
    probes.push(Probe::good(&ask.json(beside.to_string()), 202));
    probes
}

static PAYLOAD_DEEP: std::sync::LazyLock<String> =
    std::sync::LazyLock::new(|| format!("payload.a{}", "[0]".repeat(63)));
