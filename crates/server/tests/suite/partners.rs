//! Contract, section 5: partners, as the platform makes, lists, changes and erases them.

use crate::harness::{Partner, START, World, later, seconds, verified};
use serde_json::{Value, json};

const UNKNOWN: &str = "0199f7a0-0000-7000-8000-000000000000";

fn is_hex_secret(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_key(text: &str) -> bool {
    text.split_once(':')
        .is_some_and(|(id, secret)| uuid::Uuid::parse_str(id).is_ok() && uuid::Uuid::parse_str(secret).is_ok())
}

#[tokio::test]
async fn made_with_a_name_only() {
    let world = World::start().await;
    let reply = world.platform("POST", "partners").json(&json!({"name": " Acme, Inc. "})).send().await;
    let made = reply.data(201);
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    let (id, key, secret) = (text("id"), text("apiKey"), text("webhookSecret"));
    assert_eq!(
        made.to_string(),
        json!({"id": id, "name": "Acme, Inc.", "apiKey": key, "webhookSecret": secret}).to_string()
    );
    assert!(uuid::Uuid::parse_str(&id).is_ok() && is_key(&key) && is_hex_secret(&secret), "{made}");

    let shown = world.platform("GET", &format!("partners/{id}")).send().await;
    let key_id = key.split(':').next().unwrap();
    let expected = json!({
        "id": id,
        "name": "Acme, Inc.",
        "disabled": false,
        "url": null,
        "apiKeys": [{"id": key_id}],
        "endpointHealth": {
            "state": "unknown",
            "failingSince": null,
            "consecutiveFailures": 0,
            "lastFailureAt": null,
            "lastFailure": null,
            "lastSuccessAt": null,
        },
        "createdAt": START,
        "updatedAt": START,
    });
    assert_eq!(shown.data(200), expected, "key and secret are shown once");
    let another = world.platform("POST", "partners").json(&json!({"name": "Acme, Inc."})).send().await.data(201);
    for name in ["id", "apiKey", "webhookSecret"] {
        assert_ne!(another[name], made[name]);
    }
}

/// Existing partners need not change anything: id, key, secret and URL may be brought along.
#[tokio::test]
async fn made_with_everything_given() {
    let world = World::start().await;
    let endpoint = world.receiver.endpoint();
    let request = json!({
        "name": "Old Friend",
        "id": "7e1a0b2c-3d4e-4f50-8a6b-7c8d9e0f1a2b",
        "apiKey": "11111111-2222-4333-8444-555555555555:66666666-7777-4888-9999-000000000000",
        "webhookSecret": "5b1c9f0a7d3e4826b0c5d9e1f2a34567890abcdef1234567890fedcba9876543",
        "url": endpoint.url,
    });
    let partner = world.partner_from(endpoint, request.clone()).await;
    assert_eq!(
        (&partner.id, &partner.key),
        (&"7e1a0b2c-3d4e-4f50-8a6b-7c8d9e0f1a2b".to_owned(), &request["apiKey"].as_str().unwrap().to_owned())
    );
    assert_eq!(partner.get("webhook-settings").await.data(200)["url"], request["url"]);
    partner.barrier().await;

    for (field, value, message) in [
        ("apiKey", "21111111-2222-4333-8444-555555555555:66666666-7777-4888-9999-000000000000", "Partner exists"),
        ("id", UNKNOWN, "API Key exists"),
    ] {
        let mut again = request.clone();
        again[field] = json!(value);
        let details = world.platform("POST", "partners").json(&again).send().await.refused(409, "CONFLICT", message);
        assert_eq!(details[0].0, if field == "id" { "apiKey" } else { "id" });
    }
    assert_eq!(world.platform("GET", "partners").send().await.data(200)["count"], 1);
}

#[tokio::test]
async fn requests_that_are_refused() {
    let world = World::start().await;
    for (field, value, words) in [
        ("name", json!(null), "1 to 200 characters"),
        ("name", json!(""), "1 to 200 characters"),
        ("name", json!("   "), "1 to 200 characters"),
        ("name", json!("x".repeat(201)), "1 to 200 characters"),
        ("name", json!("a\u{7}b"), "control characters"),
        ("id", json!("nonsense"), "UUID"),
        ("id", json!("7e1a0b2c3d4e4f508a6b7c8d9e0f1a2b"), "UUID"),
        ("id", json!(1), "UUID"),
        ("apiKey", json!("7e1a0b2c-3d4e-4f50-8a6b-7c8d9e0f1a2b"), "<uuid>:<uuid>"),
        ("apiKey", json!("a:b"), "<uuid>:<uuid>"),
        ("webhookSecret", json!("abc"), "64 lower-case hex digits"),
        (
            "webhookSecret",
            json!("5B1C9F0A7D3E4826B0C5D9E1F2A34567890ABCDEF1234567890FEDCBA9876543"),
            "64 lower-case hex digits",
        ),
        ("url", json!("nonsense"), "Not a complete URL"),
        ("url", json!(false), "string or null"),
        ("secret", json!("x"), "Unknown field"),
    ] {
        let mut request = json!({"name": "Some Partner"});
        request[field] = value;
        world.platform("POST", "partners").json(&request).send().await.invalid_only(field, words);
    }
    world.platform("POST", "partners").json(&json!({})).send().await.invalid_only("name", "Required");
    let fields: Vec<_> = world.platform("POST", "partners").json(&json!({"id": 1, "url": 2})).send().await.invalid();
    assert_eq!(fields.len(), 3, "all at once: {fields:?}");
    assert_eq!(world.platform("GET", "partners").send().await.data(200), json!({"count": 0, "data": []}));
    let longest = "é".repeat(200);
    let made = world.platform("POST", "partners").json(&json!({"name": longest, "url": null})).send().await.data(201);
    assert_eq!(made["name"], longest);
}

#[tokio::test]
async fn the_list_in_pages() {
    let world = World::start().await;
    let mut ids = Vec::new();
    for number in 0..25 {
        world.step(std::time::Duration::from_millis(1));
        let request = json!({"name": format!("Partner {number}")});
        let made = world.platform("POST", "partners").json(&request).send().await.data(201);
        ids.push(made["id"].as_str().unwrap().to_owned());
    }
    let page = async |query: String| {
        let data = world.platform("GET", &format!("partners{query}")).send().await.data(200);
        let rows = data["data"].as_array().unwrap().clone();
        assert_eq!(data, json!({"count": rows.len(), "data": rows}));
        rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(page(String::new()).await, ids[..20]);
    assert_eq!(page("?limit=100".to_owned()).await, ids);
    assert_eq!(page(format!("?limit=10&after={}", ids[19])).await, ids[20..]);
    assert_eq!(page("?limit=1".to_owned()).await, ids[..1]);
    let one = world.platform("GET", &format!("partners/{}", ids[3])).send().await.data(200);
    let row = world.platform("GET", &format!("partners?limit=1&after={}", ids[2])).send().await.data(200);
    assert_eq!(row["data"][0], one);
    for (query, field) in
        [("limit=0", "limit"), ("limit=101", "limit"), ("limit=x", "limit"), ("after=x", "after"), ("skip=1", "skip")]
    {
        let reply = world.platform("GET", &format!("partners?{query}")).send().await;
        assert_eq!(reply.invalid()[0].0, field);
    }
}

#[tokio::test]
async fn changing_a_partner() {
    let world = World::start().await;
    let partner = world.partner().await;
    world.step(seconds(1));
    let patch = async |change: Value| partner.seen_by_platform("PATCH").json(&change).send().await;
    let changed = patch(json!({"name": "New Name"})).await.data(200);
    assert_eq!((&changed["name"], &changed["disabled"]), (&json!("New Name"), &json!(false)));
    assert_eq!((&changed["createdAt"], &changed["updatedAt"]), (&json!(START), &json!(later(START, seconds(1)))));
    assert_eq!(partner.seen_by_platform("GET").send().await.data(200), changed);

    for (change, field) in [
        (json!({}), ""),
        (json!({"name": null}), "name"),
        (json!({"name": "x", "disabled": "yes"}), "disabled"),
        (json!({"disabled": null}), "disabled"),
        (json!({"url": "https://partner.example/"}), "url"),
    ] {
        assert_eq!(patch(change.clone()).await.invalid()[0].0, field, "{change}");
    }
    assert_eq!(partner.seen_by_platform("GET").send().await.data(200), changed);

    // While it is disabled its own calls are refused, the platform's are not.
    assert_eq!(patch(json!({"disabled": true})).await.data(200)["disabled"], true);
    for version in ["v1", "v2"] {
        for (method, path) in [
            ("GET", "webhook-settings".to_owned()),
            ("PUT", "webhook-settings".to_owned()),
            ("GET", "webhook-notifications".to_owned()),
            ("GET", format!("webhook-notifications/{UNKNOWN}")),
            ("GET", format!("webhook-notifications/{UNKNOWN}/attempts")),
            ("POST", format!("webhook-notifications/{UNKNOWN}/retry")),
        ] {
            let reply = partner.call_version(version, method, &path).json(&json!({"url": null})).send().await;
            let details = reply.refused(403, "INVALID_PARTNER_FLOW", "The partner has an invalid flow.");
            assert!(details[0].1.contains("disabled"), "{details:?}");
        }
    }
    partner.publish_as("NOT_SENT", &verified("u")).await;
    assert_eq!(patch(json!({"disabled": false, "name": "Again"})).await.data(200)["name"], "Again");
    partner.barrier().await;
}

#[tokio::test]
async fn erasing_a_partner() {
    let world = World::start().await;
    let (partner, other) = (world.partner().await, world.partner().await);
    let id = partner.publish(&verified("u")).await;
    partner.becomes(&id, "SENT").await;
    let erased = partner.seen_by_platform("DELETE").send().await.data(200);
    assert_eq!(erased, json!({"id": partner.id, "erased": true}));

    partner.get("webhook-settings").await.refused(401, "UNAUTHORIZED", "Invalid API Key");
    partner.get(&format!("webhook-notifications/{id}")).await.refused(401, "UNAUTHORIZED", "Invalid API Key");
    partner.publishing(verified("u").to_string()).send().await.refused(404, "NOT_FOUND", "Partner not found");
    let item = json!({"partnerId": partner.id, "payload": verified("u")});
    let batch = partner.batch(&json!({"events": [item]})).send().await.data(202);
    assert_eq!(batch["events"][0]["code"], "NOT_FOUND");
    for method in ["GET", "PATCH"] {
        let reply = partner.seen_by_platform(method).json(&json!({"name": "x"})).send().await;
        reply.refused(404, "NOT_FOUND", "Partner not found");
    }
    let rows = world.platform("GET", "partners").send().await.data(200);
    assert_eq!(rows["data"].as_array().unwrap().iter().map(|row| &row["id"]).collect::<Vec<_>>(), [&json!(other.id)]);
    // Erasing again changes nothing, and the id is not given to another.
    assert_eq!(partner.seen_by_platform("DELETE").send().await.data(200), erased);
    let again = world.platform("POST", "partners").json(&json!({"name": "x", "id": partner.id})).send().await;
    again.refused(409, "CONFLICT", "Partner exists");
    other.barrier().await;
}

#[tokio::test]
async fn unknown_partners() {
    let world = World::start().await;
    for id in [UNKNOWN, "nonsense"] {
        for (method, path) in [
            ("GET", format!("partners/{id}")),
            ("PATCH", format!("partners/{id}")),
            ("DELETE", format!("partners/{id}")),
            ("POST", format!("partners/{id}/api-keys")),
            ("DELETE", format!("partners/{id}/api-keys/{UNKNOWN}")),
            ("GET", format!("partners/{id}/webhook-settings")),
        ] {
            let reply = world.platform(method, &path).json(&json!({"name": "x"})).send().await;
            assert!(reply.refused(404, "NOT_FOUND", "Partner not found").is_empty(), "{method} {path}");
        }
    }
}

/// Every way in which one partner could come by what is another's.
#[tokio::test]
async fn two_partners_never_see_each_others_data() {
    let world = World::with(&[("retry_count", "0")]).await;
    let (a, b) = (world.partner().await, world.partner().await);
    let event = crate::harness::on_ramp("same-user", "same-transaction");
    for partner in [&a, &b] {
        partner.endpoint.answers([crate::harness::Answer::new(500, "no")]);
    }
    let (of_a, of_b) = (a.publish(&event).await, b.publish(&event).await);
    a.becomes(&of_a, "FAILED").await;
    b.becomes(&of_b, "FAILED").await;

    let sees_only = async |partner: &Partner, id: &str, foreign: &str| {
        for query in ["", "?transactionId=same-transaction", "?externalUserId=same-user", "?status=FAILED"] {
            let page = partner.get(&format!("webhook-notifications{query}")).await.data(200);
            assert_eq!((&page["total"], &page["data"][0]["id"]), (&json!(1), &json!(id)), "{query}");
        }
        for (method, path) in [("GET", ""), ("GET", "/attempts"), ("POST", "/retry")] {
            let reply = partner.call(method, &format!("webhook-notifications/{foreign}{path}")).send().await;
            assert!(reply.refused(404, "NOT_FOUND", "Webhook notification not found").is_empty());
        }
        // A cursor is only a place in the order of one's own.
        let page = partner.get(&format!("webhook-notifications?after={foreign}")).await.data(200);
        assert!(page["data"].as_array().unwrap().iter().all(|row| row["id"] == id), "{page}");
        let settings = partner.get("webhook-settings").await.data(200);
        assert_eq!((&settings["partnerId"], &settings["url"]), (&json!(partner.id), &json!(partner.endpoint.url)));
    };
    sees_only(&a, &of_a, &of_b).await;
    sees_only(&b, &of_b, &of_a).await;

    a.set(json!({"url": null})).await;
    sees_only(&b, &of_b, &of_a).await;
    for (partner, id) in [(&a, &of_a), (&b, &of_b)] {
        let ids: Vec<_> = partner.endpoint.deliveries().iter().map(|delivery| delivery.id().to_owned()).collect();
        assert_eq!(ids, [id.as_str()]);
        assert_eq!(partner.notification(id).await["manualRetryCount"], 0);
    }
}
