//! `doctor`: finds nothing where nothing is wrong, and finds what was broken by hand.

use super::process::{Place, curl};
use serde_json::Value;

/// A receiver's URL at which nothing listens, and the settings with which an attempt fails there and waits long.
const NOWHERE: &str = "http://127.0.0.1:1/";
const LOOSE: [&str; 8] =
    ["--allow-http", "true", "--allow-addresses", "127.0.0.0/8", "--allow-ports", "*", "--retry-delays", "1h"];

/// A store with one notification that is pending, and the notification's id.
fn store_with_a_pending_notification() -> (Place, String) {
    let mut place = Place::with_store();
    let key = place.good(&["keys", "new"]).trim().to_owned();
    place.set("CAPA_WEBHOOKS_PLATFORM_KEY", &key);
    let server = place.serve(&LOOSE);
    let post = |path: &str, body: &str| {
        let key = format!("platform-api-key: {key}");
        let (status, answer) =
            curl(&[&server.url(path), "-H", &key, "-H", "content-type: application/json", "-d", body]);
        assert!(status == 201 || status == 202, "{status} {answer}");
        let answer: Value = serde_json::from_str(&answer).expect("an answer is JSON");
        answer["data"]["id"].as_str().expect("it has an id").to_owned()
    };
    let partner = post("/api/platform/v1/partners", &format!(r#"{{"name":"Acme","url":"{NOWHERE}"}}"#));
    let event = r#"{"type":"KYC","event":"VERIFIED_USER","externalUserId":"u"}"#;
    let id = post(&format!("/api/platform/v1/partners/{partner}/events"), event);

    let said = place.good(&["doctor"]);
    assert!(said.contains("1 notifications: 0 settled, 1 pending") && said.contains("All is well"), "{said}");
    assert_eq!(server.stop().code, Some(0));
    let said = place.good(&["doctor"]);
    assert!(said.contains("1 pending (0 held by a process)") && said.contains("All is well"), "{said}");
    (place, id)
}

#[test]
fn a_notification_that_left_the_queue_unsettled_is_found() {
    let (place, id) = store_with_a_pending_notification();
    place.store().run(&["DELETE FROM queue"]);
    let said = place.bad(&["doctor"]);
    assert!(said.contains(" violations:"), "{said}");
    assert!(said.lines().any(|line| line.contains(&id) && line.ends_with("is neither queued nor settled")), "{said}");
}

#[test]
fn a_queue_that_disagrees_with_the_rest_is_found() {
    let (place, id) = store_with_a_pending_notification();
    place.store().run(&["UPDATE queue SET owner = (SELECT life FROM nodes)"]);
    let said = place.bad(&["doctor"]);
    assert!(said.lines().any(|line| line.contains(&id) && line.ends_with("which has ended")), "{said}");
    place.store().run(&["DELETE FROM attempts", "DELETE FROM notifications"]);
    let said = place.bad(&["doctor"]);
    assert!(said.lines().any(|line| line.contains(&id) && line.ends_with("which is not there")), "{said}");
}

/// To look is not to make: a store is made by who serves it.
#[test]
fn a_store_that_was_never_served_is_refused() {
    let place = Place::with_store();
    for _ in 0..2 {
        let said = place.bad(&["doctor"]);
        assert!(!said.contains("All is well"), "{said}");
    }
}

#[test]
fn what_cannot_be_opened_is_found() {
    let (place, _) = store_with_a_pending_notification();
    place.store().run(&["UPDATE notifications SET sealed = substr(sealed, 2)"]);
    let said = place.bad(&["doctor"]);
    assert!(said.contains("of notifications cannot be opened with this master key"), "{said}");
}
