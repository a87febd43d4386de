//! Contract, section 4: lists of notifications, their filters and pages.

use crate::harness::{Answer, Partner, START, World, later, on_ramp, seconds, verified};
use serde_json::{Value, json};
use std::time::Duration;

const PATH: &str = "webhook-notifications";

/// The ids of a page, whose counts must be right.
#[track_caller]
fn ids(page: &Value, total: usize) -> Vec<String> {
    let rows = page["data"].as_array().unwrap();
    assert_eq!((&page["count"], &page["total"]), (&json!(rows.len()), &json!(total)), "{page}");
    rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
}

async fn list(partner: &Partner, query: &str, total: usize) -> Vec<String> {
    ids(&partner.get(&format!("{PATH}?{query}")).await.data(200), total)
}

#[tokio::test]
async fn the_form_of_a_page() {
    let world = World::with(&[("retry_delays", "1s,1h")]).await;
    let partner = world.partner().await;
    let empty = partner.get(PATH).await;
    assert_eq!(empty.text(), r#"{"success":true,"data":{"count":0,"total":0,"data":[]}}"#);
    let sent = partner.publish(&on_ramp("sent", "t")).await;
    partner.becomes(&sent, "SENT").await;
    world.step(seconds(1));
    partner.endpoint.answers_for("pending", [Answer::new(500, "")]);
    let pending = partner.publish(&verified("pending")).await;
    partner.attempted(&pending, 1).await;
    world.step(seconds(1));
    partner.attempted(&pending, 2).await;

    let rows = json!([
        {
            "id": pending,
            "status": "PENDING",
            "eventType": "VERIFIED_USER",
            "retryAttempts": 1,
            "manualRetryCount": 0,
            "createdAt": later(START, seconds(1)),
            "updatedAt": later(START, seconds(2)),
        },
        {
            "id": sent,
            "status": "SENT",
            "eventType": "CREATED_ON_RAMP",
            "retryAttempts": 0,
            "manualRetryCount": 0,
            "createdAt": START,
            "updatedAt": START,
        },
    ]);
    let data = json!({"count": 2, "total": 2, "data": rows});
    for (version, envelope) in
        [("v1", json!({"status": "ok", "data": data})), ("v2", json!({"success": true, "data": data}))]
    {
        let reply = partner.call_version(version, "GET", PATH).send().await;
        assert_eq!(reply.text(), envelope.to_string(), "newest first, times with milliseconds");
    }
}

#[tokio::test]
async fn pages() {
    let world = World::start().await;
    let partner = world.partner_without_url().await;
    let mut all = Vec::new();
    for number in 0..130 {
        world.step(Duration::from_millis(1));
        all.insert(0, partner.publish_as("NOT_SENT", &verified(&number.to_string())).await);
    }
    assert_eq!(list(&partner, "", 130).await, all[..20], "20 unless told");
    assert_eq!(list(&partner, "limit=1", 130).await, all[..1]);
    assert_eq!(list(&partner, "limit=100", 130).await, all[..100]);
    assert_eq!(list(&partner, "skip=0", 130).await, all[..20]);
    assert_eq!(list(&partner, "skip=120&limit=20", 130).await, all[120..]);
    assert_eq!(list(&partner, "skip=130", 130).await, Vec::<String>::new());
    assert_eq!(list(&partner, "skip=10000", 130).await, Vec::<String>::new());
    assert_eq!(list(&partner, &format!("after={}", all[4]), 130).await, all[5..25]);
    assert_eq!(list(&partner, &format!("after={}", all[129]), 130).await, Vec::<String>::new());

    // The cursor walks through all, each once, while new ones come in front.
    let mut walked = Vec::new();
    let mut query = "limit=40".to_owned();
    for total in 130.. {
        let page = list(&partner, &query, total).await;
        let Some(last) = page.last() else { break };
        query = format!("limit=40&after={last}");
        walked.extend(page);
        world.step(Duration::from_millis(1));
        partner.publish_as("NOT_SENT", &verified("new")).await;
    }
    assert_eq!(walked, all);
}

#[tokio::test]
async fn filters() {
    let world = World::with(&[("retry_count", "0")]).await;
    let partner = world.partner().await;
    // One second after the other: sent, failed, not sent, sent.
    let sent = partner.publish(&on_ramp("martin", "t-1")).await;
    partner.becomes(&sent, "SENT").await;
    world.step(seconds(1));
    partner.endpoint.answers_for("failing", [Answer::new(500, "")]);
    let failed = partner.publish(&on_ramp("failing", "t-2")).await;
    partner.becomes(&failed, "FAILED").await;
    world.step(seconds(1));
    let url = partner.endpoint.url.clone();
    partner.set(json!({"url": null})).await;
    let not_sent = partner.publish_as("NOT_SENT", &verified("martin")).await;
    partner.set(json!({"url": url})).await;
    world.step(seconds(1));
    let last = partner.publish(&verified("MARTIN")).await;
    partner.becomes(&last, "SENT").await;

    let at = |after: u64| later(START, seconds(after)).replace(':', "%3A");
    for (query, expected) in [
        ("status=SENT".to_owned(), vec![&last, &sent]),
        ("status=FAILED".to_owned(), vec![&failed]),
        ("status=NOT_SENT".to_owned(), vec![&not_sent]),
        ("status=PENDING".to_owned(), vec![]),
        ("event=CREATED_ON_RAMP".to_owned(), vec![&failed, &sent]),
        ("event=VERIFIED_USER".to_owned(), vec![&last, &not_sent]),
        ("event=REJECTED_KYC".to_owned(), vec![]),
        ("transactionId=t-1".to_owned(), vec![&sent]),
        ("transactionId=t".to_owned(), vec![]),
        ("externalUserId=martin".to_owned(), vec![&not_sent, &sent]),
        ("externalUserId=MARTIN".to_owned(), vec![&last]),
        ("externalUserId=t-1".to_owned(), vec![]),
        // From `since` on, and before `until`.
        (format!("since={}", at(2)), vec![&last, &not_sent]),
        (format!("until={}", at(2)), vec![&failed, &sent]),
        (format!("since={}&until={}", at(1), at(2)), vec![&failed]),
        (format!("since={}&until={}", at(1), at(1)), vec![]),
        ("since=2024-04-05T15%3A45%3A30.063%2B02%3A00".to_owned(), vec![&last]),
        ("status=SENT&externalUserId=martin&event=CREATED_ON_RAMP&transactionId=t-1".to_owned(), vec![&sent]),
        ("status=FAILED&externalUserId=martin".to_owned(), vec![]),
    ] {
        let found = list(&partner, &query, expected.len()).await;
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{query}");
    }
    // `total` counts all that match, also those that the page leaves out.
    assert_eq!(list(&partner, "status=SENT&limit=1", 2).await, [last.as_str()]);
    assert_eq!(list(&partner, "status=SENT&skip=1", 2).await, [sent.as_str()]);
    assert_eq!(list(&partner, &format!("status=SENT&after={last}"), 2).await, [sent.as_str()]);

    // A retry by hand moves it from one status to the other.
    partner.endpoint.answers_for("failing", [Answer::ok()]);
    partner.retry(&failed).await.data(201);
    partner.becomes(&failed, "SENT").await;
    assert_eq!(list(&partner, "status=FAILED", 0).await, Vec::<String>::new());
    assert_eq!(list(&partner, "status=SENT", 3).await, [last, failed, sent]);
}

#[tokio::test]
async fn parameters_that_are_refused() {
    let world = World::start().await;
    let partner = world.partner().await;
    let id = partner.publish(&verified("u")).await;
    let long = "x".repeat(257);
    for (query, field, words) in [
        ("limit=0".to_owned(), "limit", "1 to 100"),
        ("limit=101".to_owned(), "limit", "1 to 100"),
        ("limit=".to_owned(), "limit", "1 to 100"),
        ("limit=-1".to_owned(), "limit", "1 to 100"),
        ("limit=1.5".to_owned(), "limit", "1 to 100"),
        ("limit=+5".to_owned(), "limit", "1 to 100"),
        ("skip=10001".to_owned(), "skip", "`after`"),
        ("skip=-1".to_owned(), "skip", "0 to 10000"),
        ("skip=99999999999999999999".to_owned(), "skip", "0 to 10000"),
        ("after=1".to_owned(), "after", "id of a notification"),
        (format!("skip=1&after={id}"), "after", "not both"),
        (format!("skip=0&after={id}"), "after", "not both"),
        ("status=sent".to_owned(), "status", "PENDING, SENT, FAILED or NOT_SENT"),
        ("status=".to_owned(), "status", "PENDING, SENT, FAILED or NOT_SENT"),
        ("event=VERIFIED".to_owned(), "event", "Did you mean VERIFIED_USER?"),
        ("event=".to_owned(), "event", "1 to 256"),
        ("transactionId=".to_owned(), "transactionId", "1 to 256"),
        (format!("externalUserId={long}"), "externalUserId", "1 to 256"),
        ("since=yesterday".to_owned(), "since", "ISO 8601"),
        ("since=1712324727".to_owned(), "since", "ISO 8601"),
        ("until=2024-04-05".to_owned(), "until", "ISO 8601"),
        ("since=2024-04-05T13:45:28Z&until=2024-04-05T13:45:27Z".to_owned(), "since", "`until`"),
        ("limit=5&limit=6".to_owned(), "limit", "more than once"),
        ("Limit=5".to_owned(), "Limit", "did you mean limit?"),
        ("page=2".to_owned(), "page", "Unknown parameter"),
    ] {
        partner.get(&format!("{PATH}?{query}")).await.invalid_only(field, words);
    }
    let reply = partner.call_version("v1", "GET", &format!("{PATH}?limit=x&status=x&skip=x")).send().await;
    assert_eq!(reply.invalid().len(), 3, "all at once, in the form of version 1");
}
