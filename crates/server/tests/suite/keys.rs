//! Contract, sections 4 and 5: API keys of partners and of the platform, and what each may do.

use crate::harness::{Call, PLATFORM_KEY, START, World, verified};
use serde_json::json;

const UNKNOWN: &str = "0199f7a0-0000-7000-8000-000000000000";

#[tokio::test]
async fn further_keys_of_a_partner() {
    let world = World::start().await;
    let (partner, other) = (world.partner().await, world.partner().await);
    let keys = format!("partners/{}/api-keys", partner.id);
    let made = world.platform("POST", &keys).send().await.data(201);
    let second = partner.with_key(made["apiKey"].as_str().unwrap());
    let id = made["id"].as_str().unwrap();
    assert_eq!(made, json!({"id": id, "apiKey": second.key}));
    assert!(second.key.starts_with(&format!("{id}:")));
    let first_id = partner.key.split(':').next().unwrap();
    let shown = partner.seen_by_platform("GET").send().await.data(200);
    let mut listed: Vec<_> =
        shown["apiKeys"].as_array().unwrap().iter().map(|key| key["id"].as_str().unwrap()).collect();
    listed.sort_unstable();
    let mut expected = [first_id, id];
    expected.sort_unstable();
    assert_eq!(listed, expected);
    for partner in [&partner, &second] {
        assert_eq!(partner.get("webhook-settings").await.data(200)["partnerId"], partner.id);
    }

    // Not through another partner.
    let foreign = world.platform("DELETE", &format!("partners/{}/api-keys/{first_id}", other.id)).send().await;
    foreign.refused(404, "NOT_FOUND", "API Key not found");
    partner.get("webhook-settings").await.data(200);

    let revoked = world.platform("DELETE", &format!("{keys}/{first_id}")).send().await.data(200);
    assert_eq!(revoked, json!({"id": first_id, "revoked": true}));
    partner.get("webhook-settings").await.refused(401, "UNAUTHORIZED", "Invalid API Key");
    second.get("webhook-settings").await.data(200);
    for id in [first_id, UNKNOWN, "nonsense"] {
        let reply = world.platform("DELETE", &format!("{keys}/{id}")).send().await;
        reply.refused(404, "NOT_FOUND", "API Key not found");
    }
    // A revoked key's id is not given to anybody.
    let again = json!({"name": "x", "apiKey": format!("{first_id}:{UNKNOWN}")});
    world.platform("POST", "partners").json(&again).send().await.refused(409, "CONFLICT", "API Key exists");
    let second_id = made["id"].as_str().unwrap();
    world.platform("DELETE", &format!("{keys}/{second_id}")).send().await.data(200);
    second.get("webhook-settings").await.refused(401, "UNAUTHORIZED", "Invalid API Key");
}

/// Makes a platform key with these scopes.
async fn platform_key(world: &World, scopes: &[&str]) -> String {
    let request = json!({"name": "a service", "scopes": scopes});
    let made = world.platform("POST", "platform-keys").json(&request).send().await.data(201);
    let (id, key) = (made["id"].as_str().unwrap(), made["apiKey"].as_str().unwrap());
    assert_eq!(made, json!({"id": id, "name": "a service", "scopes": scopes, "apiKey": key}));
    key.to_owned()
}

#[tokio::test]
async fn what_each_scope_may_do() {
    let world = World::start().await;
    let partner = world.partner().await;
    let publish = platform_key(&world, &["publish"]).await;
    let admin = platform_key(&world, &["admin"]).await;
    let read = platform_key(&world, &["read"]).await;
    let some = format!("partners/{}", partner.id);
    let event = verified("u");
    for (method, path, body, scope, allowed) in [
        ("POST", format!("{some}/events"), event.clone(), "publish", [true, false, false]),
        (
            "POST",
            "events".into(),
            json!({"events": [{"partnerId": partner.id, "payload": event}]}),
            "publish",
            [true, false, false],
        ),
        ("POST", "partners".into(), json!({"name": "x"}), "admin", [false, true, false]),
        ("PATCH", some.clone(), json!({"name": "x"}), "admin", [false, true, false]),
        ("POST", format!("{some}/api-keys"), json!(null), "admin", [false, true, false]),
        ("DELETE", format!("{some}/api-keys/{UNKNOWN}"), json!(null), "admin", [false, true, false]),
        ("PUT", format!("{some}/webhook-settings"), json!({"url": null}), "admin", [false, true, false]),
        ("POST", "platform-keys".into(), json!({"name": "x", "scopes": ["read"]}), "admin", [false, true, false]),
        ("GET", "platform-keys".into(), json!(null), "admin", [false, true, false]),
        ("DELETE", format!("platform-keys/{UNKNOWN}"), json!(null), "admin", [false, true, false]),
        // Whoever may change things may look at them.
        ("GET", "partners".into(), json!(null), "read", [false, true, true]),
        ("GET", some.clone(), json!(null), "read", [false, true, true]),
        ("GET", format!("{some}/webhook-settings"), json!(null), "read", [false, true, true]),
        ("GET", "event-types".into(), json!(null), "read", [false, true, true]),
        ("DELETE", some.clone(), json!(null), "admin", [false, true, false]),
    ] {
        for (key, allowed) in [&publish, &admin, &read].into_iter().zip(allowed) {
            let call = Call::new(world.address, method, &format!("/api/platform/v1/{path}"));
            // Those that may not come first: the last of these calls erases the partner.
            if allowed {
                continue;
            }
            let reply = call.header("platform-api-key", key).json(&body).send().await;
            let details = reply.refused(403, "FORBIDDEN", "The API Key lacks a scope");
            assert_eq!(
                details,
                [(
                    "platform-api-key".to_owned(),
                    format!("This call needs the scope `{scope}`; use a key that has it.")
                )]
            );
        }
        for (key, allowed) in [&publish, &admin, &read].into_iter().zip(allowed) {
            if allowed {
                let call = Call::new(world.address, method, &format!("/api/platform/v1/{path}"));
                let reply = call.header("platform-api-key", key).json(&body).send().await;
                assert!(!matches!(reply.status, 401 | 403), "{method} {path}: {}", reply.text());
            }
        }
    }
}

#[tokio::test]
async fn platform_keys_are_listed_and_revoked() {
    let world = World::start().await;
    let key = platform_key(&world, &["publish", "read"]).await;
    let id = key.split(':').next().unwrap();
    let configured = PLATFORM_KEY.split(':').next().unwrap();
    let listed = world.platform("GET", "platform-keys").send().await.data(200);
    let expected = json!([
        {"id": configured, "name": "configured", "scopes": ["publish", "admin", "read"], "createdAt": START, "revokedAt": null},
        {"id": id, "name": "a service", "scopes": ["publish", "read"], "createdAt": START, "revokedAt": null},
    ]);
    let mut rows = listed["data"].as_array().unwrap().clone();
    // Both were made at the same moment.
    rows.sort_by_key(|row| row["name"] != "configured");
    assert_eq!((json!(rows), &listed["count"]), (expected, &json!(2)));

    world.platform("DELETE", &format!("platform-keys/{id}")).send().await.data(200);
    let call = Call::new(world.address, "GET", "/api/platform/v1/event-types").header("platform-api-key", &key);
    call.send().await.refused(401, "UNAUTHORIZED", "Invalid API Key");
    for id in [id, UNKNOWN, "nonsense"] {
        let reply = world.platform("DELETE", &format!("platform-keys/{id}")).send().await;
        reply.refused(404, "NOT_FOUND", "API Key not found");
    }
    let listed = world.platform("GET", "platform-keys").send().await.data(200);
    let row = listed["data"].as_array().unwrap().iter().find(|row| row["id"] == id).unwrap();
    assert_eq!(row["revokedAt"], START);
}

#[tokio::test]
async fn platform_keys_that_are_refused() {
    let world = World::start().await;
    for (request, field) in [
        (json!({"scopes": ["read"]}), "name"),
        (json!({"name": "", "scopes": ["read"]}), "name"),
        (json!({"name": 1, "scopes": ["read"]}), "name"),
        (json!({"name": "x"}), "scopes"),
        (json!({"name": "x", "scopes": []}), "scopes"),
        (json!({"name": "x", "scopes": ["read", "write"]}), "scopes"),
        (json!({"name": "x", "scopes": "read"}), "scopes"),
        (json!({"name": "x", "scopes": ["read"], "key": 1}), "key"),
    ] {
        let reply = world.platform("POST", "platform-keys").json(&request).send().await;
        assert_eq!(reply.invalid()[0].0, field, "{request}");
    }
    assert_eq!(world.platform("GET", "platform-keys").send().await.data(200)["count"], 1);
}

/// The configured key stays what it is over a restart, and stays revoked once it was.
#[tokio::test]
async fn the_configured_key_stays_revoked() {
    let mut world = World::start().await;
    let admin = platform_key(&world, &["admin"]).await;
    let configured = PLATFORM_KEY.split(':').next().unwrap();
    world.platform("DELETE", &format!("platform-keys/{configured}")).send().await.data(200);
    world.platform("GET", "partners").send().await.refused(401, "UNAUTHORIZED", "Invalid API Key");
    world.stop().await;
    world.start_service().await;
    world.platform("GET", "partners").send().await.refused(401, "UNAUTHORIZED", "Invalid API Key");
    let call = Call::new(world.address, "GET", "/api/platform/v1/partners").header("platform-api-key", &admin);
    call.send().await.data(200);
}
