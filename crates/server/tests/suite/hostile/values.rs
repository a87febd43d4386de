//! Wrong types and values in every field of every body.

use super::probe::{INVALID, MARK, OTHER_EVENT, Probe};
use super::stage::Stage;
use super::wire::Ask;
use crate::harness::{on_ramp, verified};
use serde_json::{Value, json};

pub(super) fn probes(stage: &Stage) -> Vec<Probe> {
    let mut probes = settings(stage);
    probes.extend(partners(stage));
    probes.extend(platform_keys(stage));
    probes.extend(events(stage));
    probes.extend(idempotency_keys(stage));
    probes
}

/// One value of each type, with what no answer may repeat.
fn each_type() -> [Value; 6] {
    [json!(true), json!(4711), json!(-0.5), json!(MARK), json!([MARK]), json!({ "a": MARK })]
}

fn refused(probes: &mut Vec<Probe>, ask: &Ask, body: &Value, field: &str, words: &str) {
    probes.push(Probe::refused(&ask.clone().json(body.to_string()), INVALID, field, words));
}

fn settings(stage: &Stage) -> Vec<Probe> {
    let mut probes = Vec::new();
    let platform = stage.ask_platform("PUT", &format!("partners/{}/webhook-settings", stage.partner.id));
    let [v1, v2] = ["v1", "v2"].map(|version| stage.ask("PUT", &format!("{version}/webhook-settings")));
    for ask in [&v1, &v2, &platform] {
        refused(&mut probes, ask, &json!({}), "url", "Required");
        for wrong in each_type() {
            let words = if wrong.is_string() { "Not a complete URL" } else { "a string or null" };
            refused(&mut probes, ask, &json!({ "url": wrong }), "url", words);
        }
        refused(&mut probes, ask, &json!({"url": null, "URL": MARK}), "URL", "did you mean url");
        refused(&mut probes, ask, &json!({"url": null, "partnerId": MARK}), "partnerId", "Unknown field");
        refused(&mut probes, ask, &json!({"url": null, "__proto__": MARK}), "__proto__", "Unknown field");
        refused(&mut probes, ask, &json!({"url": null, "": MARK}), "", "Unknown field");
    }
    refused(&mut probes, &v1, &json!({"url": null, "ackRule": "200"}), "ackRule", "Unknown field");
    let fields = [("ackRule", "200"), ("retryDelays", "list"), ("attemptTimeout", ""), ("events", "list")];
    for ask in [&v2, &platform] {
        for (field, words) in fields {
            for wrong in each_type() {
                let field_of_item = wrong.is_array() && words == "list";
                let named = if field_of_item { format!("{field}[0]") } else { field.to_owned() };
                let words = if field_of_item { "" } else { words };
                refused(&mut probes, ask, &json!({"url": null, field: wrong}), &named, words);
            }
        }
        for (field, wrong, named, words) in [
            ("ackRule", json!("3xx"), "ackRule", "200"),
            ("ackRule", json!(""), "ackRule", "200"),
            ("retryDelays", json!([]), "retryDelays", "1 to 5"),
            ("retryDelays", json!(["1s", "1s", "1s", "1s", "1s", "1s"]), "retryDelays", "1 to 5"),
            ("retryDelays", json!(["1s", null]), "retryDelays[1]", "string"),
            ("retryDelays", json!(["1s", ["1s"]]), "retryDelays[1]", "string"),
            ("retryDelays", json!(["8d"]), "retryDelays[0]", "0s to 7d"),
            ("retryDelays", json!(["-1s"]), "retryDelays[0]", ""),
            ("retryDelays", json!(["99999999999999999999d"]), "retryDelays[0]", ""),
            ("retryDelays", json!(["1e3s"]), "retryDelays[0]", ""),
            ("retryDelays", json!(["١s"]), "retryDelays[0]", ""),
            ("attemptTimeout", json!("0s"), "attemptTimeout", "1s to 30s"),
            ("attemptTimeout", json!("31s"), "attemptTimeout", "1s to 30s"),
            ("attemptTimeout", json!(""), "attemptTimeout", ""),
            ("attemptTimeout", json!("15"), "attemptTimeout", ""),
            ("events", json!([]), "events", "at least one"),
            ("events", json!(["verified_user"]), "events[0]", "Did you mean VERIFIED_USER"),
            ("events", json!(["VERIFIED_USER", 1]), "events[1]", "name of an event"),
            ("events", json!(vec!["VERIFIED_USER"; 257]), "events", "list"),
        ] {
            refused(&mut probes, ask, &json!({"url": null, field: wrong}), named, words);
        }
    }
    probes
}

fn partners(stage: &Stage) -> Vec<Probe> {
    let mut probes = Vec::new();
    let create = stage.ask_platform("POST", "partners");
    refused(&mut probes, &create, &json!({}), "name", "Required");
    let control = json!("a\u{0}b");
    let long = json!("é".repeat(201));
    let names = each_type().into_iter().filter(|value| !value.is_string());
    for wrong in names.chain([Value::Null, json!(""), json!(" \t"), control, json!("a\nb"), long]) {
        refused(&mut probes, &create, &json!({ "name": wrong }), "name", "1 to 200 characters");
        let change = stage.ask_platform("PATCH", &format!("partners/{}", stage.partner.id));
        refused(&mut probes, &change, &json!({ "name": wrong }), "name", "1 to 200 characters");
    }
    for (field, words) in
        [("id", "UUID"), ("apiKey", "<uuid>:<uuid>"), ("webhookSecret", "64 lower-case hex"), ("url", "")]
    {
        for wrong in each_type() {
            refused(&mut probes, &create, &json!({"name": "x", field: wrong}), field, words);
        }
    }
    for wrong in
        ["AB".repeat(32), "ab".repeat(31), "ab".repeat(33), "zz".repeat(32), format!("whsec_{}", "ab".repeat(29))]
    {
        refused(
            &mut probes,
            &create,
            &json!({"name": "x", "webhookSecret": wrong}),
            "webhookSecret",
            "64 lower-case hex",
        );
    }
    for wrong in ["", "1", "{0199f7a0-0000-7000-8000-000000000000}", "0199f7a0000070008000000000000000"] {
        refused(&mut probes, &create, &json!({"name": "x", "id": wrong}), "id", "UUID");
    }
    refused(&mut probes, &create, &json!({"name": "x", "secret": MARK}), "secret", "Unknown field");
    let taken = json!({"name": MARK, "id": stage.other.id}).to_string();
    let kind = (409, "CONFLICT", "Partner exists");
    probes.push(Probe::refused(&create.clone().json(taken), kind, "id", "give another"));
    let taken = json!({"name": MARK, "apiKey": stage.other.key}).to_string();
    let kind = (409, "CONFLICT", "API Key exists");
    probes.push(Probe::refused(&create.clone().json(taken), kind, "apiKey", "give another"));

    let change = stage.ask_platform("PATCH", &format!("partners/{}", stage.partner.id));
    refused(&mut probes, &change, &json!({}), "", "Nothing to change");
    refused(&mut probes, &change, &json!({"url": MARK}), "url", "Unknown field");
    for wrong in [Value::Null, json!(1), json!(0), json!("true"), json!([true]), json!({})] {
        refused(&mut probes, &change, &json!({ "disabled": wrong }), "disabled", "true or false");
    }
    probes
}

fn platform_keys(stage: &Stage) -> Vec<Probe> {
    let mut probes = Vec::new();
    let create = stage.ask_platform("POST", "platform-keys");
    for wrong in [Value::Null, json!(1), json!([]), json!({}), json!(""), json!("x".repeat(201)), json!("a\u{0}b")] {
        refused(&mut probes, &create, &json!({"name": wrong, "scopes": ["read"]}), "name", "1 to 200 characters");
    }
    for wrong in [
        Value::Null,
        json!("read"),
        json!({}),
        json!([]),
        json!([1]),
        json!(["READ"]),
        json!(["read", null]),
        json!([["read"]]),
        json!(["root"]),
        json!(["read,admin"]),
    ] {
        refused(&mut probes, &create, &json!({"name": "x", "scopes": wrong}), "scopes", "at least one of");
    }
    refused(&mut probes, &create, &json!({"name": "x", "scopes": ["read"], "id": MARK}), "id", "Unknown field");
    probes
}

fn events(stage: &Stage) -> Vec<Probe> {
    let mut probes = Vec::new();
    let ask = stage.publishing();
    let whole = on_ramp("u", "t");
    for field in ["type", "event", "externalUserId", "transactionId", "firstName", "lastName"] {
        let wrong = each_type().into_iter().filter(|value| !value.is_string()).chain([Value::Null]);
        for wrong in wrong {
            let mut body = whole.clone();
            body[field] = wrong;
            refused(&mut probes, &ask, &body, field, "must be a string");
        }
    }
    for field in ["externalUserId", "transactionId"] {
        for wrong in [String::new(), "x".repeat(257), "🦀".repeat(257), MARK.repeat(1000)] {
            let mut body = whole.clone();
            body[field] = json!(wrong);
            refused(&mut probes, &ask, &body, field, "1 to 256 characters");
        }
    }
    for (field, wrong, words) in [
        ("type", "kyc", "did you mean KYC"),
        ("type", "KYC ", "did you mean KYC"),
        ("type", MARK, "known are"),
        ("event", "verified_user", "did you mean"),
        ("event", "VERIFIED_USER\u{0}", "did you mean"),
        ("event", "CREATED_ON_RAMP", "of the type TRANSACTION"),
    ] {
        let mut body = verified("u");
        body[field] = json!(wrong);
        refused(&mut probes, &ask, &body, field, words);
    }
    probes
}

fn idempotency_keys(stage: &Stage) -> Vec<Probe> {
    const KEY: &str = "idempotency-key";
    let publish = || stage.publishing().json(stage.event.as_str());
    let mut probes = Vec::new();
    for (key, words) in [
        (Vec::new(), "1 to 256 characters"),
        (b"   ".to_vec(), "1 to 256 characters"),
        (vec![b'k'; 257], "1 to 256 characters"),
        (vec![b'k'; 20_000], "1 to 256 characters"),
        ("schlüssel".into(), "visible ASCII"),
        (b"\xff\xfe".to_vec(), "visible ASCII"),
        ("🔑".into(), "visible ASCII"),
    ] {
        probes.push(Probe::refused(&publish().with(KEY, key), INVALID, KEY, words));
    }
    probes.push(Probe::refused(&publish().with(KEY, "again").with(KEY, "again"), INVALID, KEY, "once"));
    probes.push(Probe::refused(&publish().with(KEY, "again").with("Idempotency-Key", "x"), INVALID, KEY, "once"));
    let other = stage.publishing().with(KEY, "again").json(verified(MARK).to_string());
    probes.push(Probe::refused(&other, OTHER_EVENT, KEY, "new key for a new event"));
    // What another partner published under a key is nothing to this one, and the form of the key is kept.
    probes.push(Probe::good(&publish().with(KEY, " again\t"), 200));
    probes
}
