//! Callers that are slow, on a stepped clock: each is given up after a bounded time.

use crate::harness::{PLATFORM_KEY, World, patience, seconds, verified};
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How long the service waits for a head, and for a body.
const PATIENCE: u64 = 30;

fn head(path: &str, rest: &str) -> String {
    let key = format!("platform-api-key: {PLATFORM_KEY}");
    format!("POST {path} HTTP/1.1\r\nhost: x\r\n{key}\r\ncontent-type: application/json\r\n{rest}\r\n\r\n")
}

/// Steps the clock until the service closes the connection; gives what it said to `begin`.
async fn given_up(world: &World, begin: &str) -> String {
    // Once the request in front is answered, the service has read the bytes that came with it, and waits for more.
    const FRONT: &str = "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut wire = world.slow(format!("{FRONT}{begin}").as_bytes()).await;
    assert!(wire.read_head().await.starts_with("HTTP/1.1 200 "));
    let ended = AtomicBool::new(false);
    let read = async {
        let said = wire.read_to_end().await;
        ended.store(true, Ordering::Relaxed);
        said.strip_prefix("ok\n").map(str::to_owned)
    };
    // It may have begun to wait only after a step, so there is another.
    let step = patience::until("the service to give up", async || {
        world.step(seconds(PATIENCE));
        ended.load(Ordering::Relaxed).then_some(())
    });
    tokio::join!(read, step).0.expect("the answer to the request in front")
}

#[tokio::test]
async fn a_body_that_never_comes_is_given_up() {
    let world = World::start().await;
    let partner = world.partner_without_url().await;
    let events = format!("/api/platform/v1/partners/{}/events", partner.id);
    let event = verified("u").to_string();
    let mut cases = Vec::new();
    for length in [2, 10_000, 200_000] {
        cases.push((head(&events, &format!("content-length: {length}")), true));
        cases.push((head(&events, &format!("content-length: {length}")) + "{", true));
    }
    cases.push((head(&events, "transfer-encoding: chunked"), true));
    cases.push((head(&events, "transfer-encoding: chunked") + "5\r\n{", true));
    cases.push((head(&events, "transfer-encoding: chunked") + &format!("{:x}\r\n{event}\r\n", event.len()), true));
    cases.push((head("/api/platform/v1/partners", "content-length: 9"), true));
    cases.push((head("/api/platform/v1/events", "content-length: 8000000"), true));
    // Refused for another reason, of which it is told in the end.
    cases.push((head("/nowhere", "content-length: 200000"), false));
    for (begin, late) in cases {
        let said = given_up(&world, &begin).await;
        let (status, code) = if late { (408, "REQUEST_TIMEOUT") } else { (404, "NOT_FOUND") };
        assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{begin:?}: {said:?}");
        assert!(said.contains(&format!(r#""success":false,"code":"{code}""#)), "{begin:?}: {said:?}");
        assert!(!late || said.contains("did not arrive within 30 s"), "{begin:?}: {said:?}");
    }
    assert_eq!(partner.get("webhook-notifications").await.data(200)["total"], 0, "nothing was stored");
}

#[tokio::test]
async fn a_head_that_never_ends_is_given_up() {
    let world = World::start().await;
    for begin in
        ["G", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nhost: x\r\nx: ", "GET / HTTP/1.1\r\nhost: x\r\n", "\r\n", ""]
    {
        assert_eq!(given_up(&world, begin).await, "", "{begin:?}");
    }
    // A connection on which nothing is asked (the last of them) is closed too, and the service goes on.
    world.partner_without_url().await;
}

/// Whoever sends a byte now and then gains nothing by it.
#[tokio::test]
async fn a_body_in_drops_is_given_up() {
    let world = World::start().await;
    let (mut reading, mut writing) = TcpStream::connect(world.address).await.unwrap().into_split();
    // The service says that it waits for the body.
    let head = head("/api/platform/v1/partners", "content-length: 50000\r\nexpect: 100-continue");
    writing.write_all(head.as_bytes()).await.unwrap();
    let mut first = [0; 25];
    patience::within("word to go on", reading.read_exact(&mut first)).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 100 Continue\r\n\r\n");
    let answered = AtomicBool::new(false);
    let read = async {
        let mut first = [0; 13];
        reading.read_exact(&mut first).await.unwrap();
        answered.store(true, Ordering::Relaxed);
        String::from_utf8_lossy(&first).into_owned()
    };
    let drip = patience::until("the service to give up", async || {
        world.step(seconds(PATIENCE / 3));
        // It may be closed by now.
        _ = writing.write_all(b" ").await;
        answered.load(Ordering::Relaxed).then_some(())
    });
    let (said, ()) = tokio::join!(read, drip);
    assert_eq!(said, "HTTP/1.1 408 ");
}
