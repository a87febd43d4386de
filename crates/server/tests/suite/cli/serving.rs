//! `serve`: the key that it is told of, and how it stops.

use super::process::{Place, curl};

#[test]
fn a_configured_platform_key_is_made_to_exist() {
    let mut place = Place::with_store();
    let key = place.good(&["keys", "new"]).trim().to_owned();
    place.set("CAPA_WEBHOOKS_PLATFORM_KEY", &key);
    let header = format!("platform-api-key: {key}");
    for _ in 0..2 {
        let server = place.serve(&[]);
        assert_eq!(curl(&[&server.url("/api/platform/v1/partners"), "-H", &header]).0, 200);
        assert!(!server.stop().err.contains(&key));
    }
    assert!(!place.path("capa-webhooks.admin").exists(), "no further key is made");
    place.set("CAPA_WEBHOOKS_PLATFORM_KEY", &format!("{}0000", &key[..key.len() - 4]));
    assert!(
        place.bad(&["serve", "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"]).contains("another secret")
    );
}

#[test]
fn both_signals_stop_it_gracefully() {
    for signal in ["TERM", "INT"] {
        let place = Place::with_store();
        let server = place.serve(&[]);
        // An idle connection must not hold up the stop.
        let _idle = std::net::TcpStream::connect(server.address).unwrap();
        server.running.signal(signal);
        let done = server.running.finish();
        assert_eq!(done.code, Some(0), "{signal}: {}", done.err);
        assert!(done.err.contains("\"message\":\"stopped\""), "{signal}: {}", done.err);
    }
}

/// Clearing a huge page would hold up a thread for milliseconds.
#[test]
fn it_uses_no_huge_pages() {
    let place = Place::with_store();
    let server = place.serve(&[]);
    assert_eq!(server.running.status("THP_enabled"), "0");
}
