//! Contract, sections 4 and 7: webhook settings, through both versions and the platform.

use crate::harness::{Partner, World, seconds, verified};
use serde_json::{Value, json};

const PATH: &str = "webhook-settings";

/// A world with the rules for URLs that production has.
async fn strict() -> World {
    World::with(&[("allow_http", "false"), ("allow_addresses", ""), ("allow_ports", "443,8443")]).await
}

async fn get(partner: &Partner, version: &str) -> Value {
    partner.call_version(version, "GET", PATH).send().await.data(200)
}

#[tokio::test]
async fn the_forms_of_both_versions() {
    let world = World::start().await;
    let partner = world.partner_without_url().await;
    let first = get(&partner, "v2").await;
    let id = first["id"].as_str().unwrap().to_owned();
    assert!(uuid::Uuid::parse_str(&id).is_ok() && id != partner.id);
    let with_choices = |url: Value, updated: &str| {
        json!({
            "id": id,
            "partnerId": partner.id,
            "url": url,
            "ackRule": null,
            "retryDelays": null,
            "attemptTimeout": null,
            "maxInFlight": null,
            "rateLimit": null,
            "events": null,
            "createdAt": "2024-04-05 13:45:27.063",
            "updatedAt": updated,
        })
    };
    let plain = |url: Value, updated: &str| {
        json!({
            "id": id,
            "partnerId": partner.id,
            "url": url,
            "createdAt": "2024-04-05 13:45:27.063",
            "updatedAt": updated,
        })
    };
    assert_eq!(first.to_string(), with_choices(Value::Null, "2024-04-05 13:45:27.063").to_string());
    assert_eq!(get(&partner, "v1").await.to_string(), plain(Value::Null, "2024-04-05 13:45:27.063").to_string());

    let url = json!("https://partner.example/hook");
    for (version, updated) in [("v1", "2024-04-05 13:45:28.063"), ("v2", "2024-04-05 13:45:29.063")] {
        world.step(seconds(1));
        let put = partner.call_version(version, "PUT", PATH).json(&json!({"url": url})).send().await.data(200);
        let expected = if version == "v1" { plain(url.clone(), updated) } else { with_choices(url.clone(), updated) };
        assert_eq!(put.to_string(), expected.to_string());
        assert_eq!(get(&partner, "v1").await, plain(url.clone(), updated));
        assert_eq!(get(&partner, "v2").await, with_choices(url.clone(), updated));
    }
    let cleared = partner.call_version("v1", "PUT", PATH).json(&json!({"url": null})).send().await.data(200);
    assert_eq!(cleared["url"], Value::Null);
}

/// The platform sees and changes the same object, in the form of version 2.
#[tokio::test]
async fn the_platform_sees_the_same() {
    let world = World::start().await;
    let partner = world.partner().await;
    let path = format!("partners/{}/webhook-settings", partner.id);
    let change = json!({"url": partner.endpoint.url, "ackRule": "2xx", "events": ["VERIFIED_USER"]});
    let put = world.platform("PUT", &path).json(&change).send().await.data(200);
    assert_eq!(put["ackRule"], "2xx");
    assert_eq!(world.platform("GET", &path).send().await.data(200), put);
    assert_eq!(get(&partner, "v2").await, put);
    let reply = world.platform("PUT", &path).json(&json!({"url": "nonsense"})).send().await;
    reply.invalid_only("url", "Not a complete URL");
    for method in ["GET", "PUT"] {
        let unknown = "partners/0199f7a0-0000-7000-8000-000000000000/webhook-settings";
        let reply = world.platform(method, unknown).json(&change).send().await;
        reply.refused(404, "NOT_FOUND", "Partner not found");
    }
}

#[tokio::test]
async fn choices_are_kept_left_alone_and_reset() {
    let world = World::start().await;
    let partner = world.partner().await;
    let url = partner.endpoint.url.clone();
    for (field, value, shown) in [
        ("ackRule", json!("200"), json!("200")),
        ("ackRule", json!("2xx"), json!("2xx")),
        ("retryDelays", json!(["0s"]), json!(["0s"])),
        ("retryDelays", json!(["500ms", "90s", "3.6h", "1d", "7d"]), json!(["500ms", "90s", "216m", "1d", "7d"])),
        ("attemptTimeout", json!("1s"), json!("1s")),
        ("attemptTimeout", json!("1500ms"), json!("1500ms")),
        ("attemptTimeout", json!("30s"), json!("30s")),
        ("maxInFlight", json!(1), json!(1)),
        ("maxInFlight", json!(256), json!(256)),
        ("rateLimit", json!(0.01), json!(0.01)),
        ("rateLimit", json!(10_000), json!(10_000)),
        ("rateLimit", json!(2.0), json!(2)),
        ("rateLimit", json!(2.5), json!(2.5)),
        ("events", json!(["VERIFIED_USER"]), json!(["VERIFIED_USER"])),
        ("events", json!(["COMPLETED_ON_RAMP", "REJECTED_KYC"]), json!(["COMPLETED_ON_RAMP", "REJECTED_KYC"])),
    ] {
        let put = partner.set(json!({"url": url, field: value})).await;
        assert_eq!(put[field], shown);
        // Absent is left alone, also by version 1, which does not know the field.
        partner.call_version("v1", "PUT", PATH).json(&json!({"url": url})).send().await.data(200);
        assert_eq!(partner.set(json!({"url": url})).await[field], shown);
        assert_eq!(get(&partner, "v2").await[field], shown);
    }
    let all = get(&partner, "v2").await;
    assert_eq!((&all["ackRule"], &all["attemptTimeout"]), (&json!("2xx"), &json!("30s")), "each is on its own");
    let choices = ["ackRule", "retryDelays", "attemptTimeout", "maxInFlight", "rateLimit", "events"];
    let mut reset = json!({"url": url});
    for field in choices {
        assert_ne!(all[field], Value::Null, "{field} is set");
        reset[field] = Value::Null;
    }
    let put = partner.set(reset).await;
    for field in choices {
        assert_eq!(put[field], Value::Null, "{field}");
    }
}

#[tokio::test]
async fn values_that_are_refused() {
    let world = World::start().await;
    let partner = world.partner().await;
    let url = partner.endpoint.url.clone();
    let before = get(&partner, "v2").await;
    world.step(seconds(1));
    for (field, value, named, words) in [
        ("url", json!(5), "url", "string or null"),
        ("url", json!([url]), "url", "string or null"),
        ("url", json!(""), "url", "Not a complete URL"),
        ("ackRule", json!("201"), "ackRule", r#""200", "2xx" or null"#),
        ("ackRule", json!(200), "ackRule", r#""200", "2xx" or null"#),
        ("retryDelays", json!([]), "retryDelays", "1 to 5 durations"),
        ("retryDelays", json!(["1s", "1s", "1s", "1s", "1s", "1s"]), "retryDelays", "1 to 5 durations"),
        ("retryDelays", json!("1s"), "retryDelays", "1 to 5 durations"),
        ("retryDelays", json!(["1s", 10]), "retryDelays[1]", "string such as"),
        ("retryDelays", json!(["1s", "10"]), "retryDelays[1]", "duration with a unit"),
        ("retryDelays", json!(["-1s"]), "retryDelays[0]", "duration with a unit"),
        ("retryDelays", json!(["8d"]), "retryDelays[0]", "0s to 7d"),
        ("attemptTimeout", json!("999ms"), "attemptTimeout", "1s to 30s"),
        ("attemptTimeout", json!("31s"), "attemptTimeout", "1s to 30s"),
        ("attemptTimeout", json!(15), "attemptTimeout", "string such as"),
        ("attemptTimeout", json!("soon"), "attemptTimeout", "duration with a unit"),
        ("events", json!([]), "events", "at least one event name"),
        ("events", json!("VERIFIED_USER"), "events", "list of at least one"),
        ("events", json!(["VERIFIED_USER", "REJECTED"]), "events[1]", "Did you mean REJECTED_KYC?"),
        ("events", json!([null]), "events[0]", "name of an event"),
        ("ordering", json!("none"), "ordering", "Unknown field"),
        ("maxInFlight", json!(0), "maxInFlight", "whole number from 1 to 256, or null"),
        ("maxInFlight", json!(257), "maxInFlight", "whole number from 1 to 256, or null"),
        ("maxInFlight", json!(1.5), "maxInFlight", "whole number from 1 to 256, or null"),
        ("maxInFlight", json!(-1), "maxInFlight", "whole number from 1 to 256, or null"),
        ("maxInFlight", json!("8"), "maxInFlight", "whole number from 1 to 256, or null"),
        ("rateLimit", json!(0), "rateLimit", "from 0.01 to 10000"),
        ("rateLimit", json!(0.009), "rateLimit", "from 0.01 to 10000"),
        ("rateLimit", json!(-2), "rateLimit", "from 0.01 to 10000"),
        ("rateLimit", json!(10_001), "rateLimit", "from 0.01 to 10000"),
        ("rateLimit", json!(0.3333), "rateLimit", "at most three decimals"),
        ("rateLimit", json!("2"), "rateLimit", "a number of attempts a second"),
        ("maxinflight", json!(1), "maxinflight", "did you mean maxInFlight?"),
        ("ackrule", json!("200"), "ackrule", "did you mean ackRule?"),
    ] {
        let mut settings = json!({"url": url});
        settings[field] = value;
        partner.call("PUT", PATH).json(&settings).send().await.invalid_only(named, words);
    }
    partner.call("PUT", PATH).json(&json!({})).send().await.invalid_only("url", "Required");
    partner.call("PUT", PATH).json(&json!({"ackRule": "2xx"})).send().await.invalid_only("url", "Required");
    // Version 1 knows `url` only.
    let v1 = partner.call_version("v1", "PUT", PATH).json(&json!({"url": url, "ackRule": "2xx"})).send().await;
    v1.invalid_only("ackRule", "the fields are url");
    let several = json!({"url": 1, "ackRule": 1, "attemptTimeout": "1h", "retryDelays": ["x", "y"]});
    let fields: Vec<_> =
        partner.call("PUT", PATH).json(&several).send().await.invalid().into_iter().map(|(field, _)| field).collect();
    assert_eq!(fields, ["url", "ackRule", "retryDelays[0]", "retryDelays[1]", "attemptTimeout"]);
    for body in ["", "{", "[]", r#"{"url":null,"url":null}"#, r#"{"url":null,"1":2}"#] {
        partner.call("PUT", PATH).text(body).send().await.invalid();
    }
    assert_eq!(get(&partner, "v2").await, before, "nothing changed");
}

#[tokio::test]
async fn urls_that_are_refused_and_the_setting_that_would_allow_them() {
    let world = strict().await;
    let partner = world.partner_without_url().await;
    for (url, words) in [
        ("http://partner.example:8443/", "CAPA_WEBHOOKS_ALLOW_HTTP"),
        ("https://partner.example:8444/", "CAPA_WEBHOOKS_ALLOW_PORTS"),
        ("https://10.1.2.3/", "CAPA_WEBHOOKS_ALLOW_ADDRESSES"),
        ("https://127.0.0.1/", "CAPA_WEBHOOKS_ALLOW_ADDRESSES"),
        ("https://169.254.169.254/latest/meta-data", "CAPA_WEBHOOKS_ALLOW_ADDRESSES"),
        ("https://8.8.8.8/", "is an IP address"),
        ("https://[::1]/", "not a public address"),
        ("https://0x7f.1/", "not a public address"),
        ("https://localhost/", "CAPA_WEBHOOKS_ALLOW_ADDRESSES"),
        ("https://service.internal/", "CAPA_WEBHOOKS_ALLOW_ADDRESSES"),
        ("ftp://partner.example/", "scheme"),
        ("file:///etc/passwd", "scheme"),
        ("https://user:pass@partner.example/", "Credentials"),
        ("https://partner.example/#part", "fragment"),
        ("https://partner.example/a b", "white space"),
        ("partner.example/hook", "Not a complete URL"),
        ("https://", "Not a complete URL"),
    ] {
        for version in ["v1", "v2"] {
            let reply = partner.call_version(version, "PUT", PATH).json(&json!({"url": url})).send().await;
            reply.invalid_only("url", words);
        }
    }
    let long = format!("https://partner.example/{}", "a".repeat(2048));
    partner.call("PUT", PATH).json(&json!({"url": long})).send().await.invalid_only("url", "2048 bytes");
    let several = partner.call("PUT", PATH).json(&json!({"url": "http://user@10.0.0.1:22/#x"})).send().await.invalid();
    assert_eq!(several.len(), 5, "{several:?}");
    assert_eq!(get(&partner, "v2").await["url"], Value::Null);
    for url in ["https://partner.example/hook?token=x", "https://partner.example:8443/"] {
        assert_eq!(partner.set(json!({"url": url})).await["url"], url);
    }
}

/// Rules that became tighter after a URL was registered hold for the next attempt.
#[tokio::test]
async fn a_registered_url_is_checked_again_at_every_attempt() {
    let mut world = World::with(&[("retry_count", "0")]).await;
    let partner = world.partner().await;
    partner.publish(&verified("u")).await;
    partner.endpoint.delivery(1).await;
    world.stop().await;
    world.change_setting("allow_addresses", "10.0.0.0/8");
    world.start_service().await;
    let partner = world.again(&partner);
    let id = partner.publish(&verified("u")).await;
    let detail = partner.becomes(&id, "FAILED").await;
    assert_eq!(partner.attempts(&id).await[0]["errorKind"], "address_refused");
    let message = detail["latestErrorPayload"]["message"].as_str().unwrap();
    assert!(message.contains("CAPA_WEBHOOKS_ALLOW_ADDRESSES"), "{message}");
    assert_eq!(partner.endpoint.deliveries().len(), 1);
}

/// A change is in force once it is confirmed.
#[tokio::test]
async fn a_change_is_in_force_at_once() {
    let world = World::with(&[("retry_count", "0")]).await;
    let partner = world.partner().await;
    let others = [world.receiver.endpoint(), world.receiver.endpoint()];
    for number in 1..=5 {
        for endpoint in &others {
            endpoint.expect_secret(&partner.secret);
            partner.set(json!({"url": endpoint.url})).await;
            partner.publish(&verified("u")).await;
            endpoint.delivery(number).await;
        }
        partner.set(json!({"url": null})).await;
        partner.publish_as("NOT_SENT", &verified("u")).await;
    }
    assert!(partner.endpoint.deliveries().is_empty());
}
