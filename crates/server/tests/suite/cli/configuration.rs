//! Values that cannot be used: refused by the name under which they were given, before anything is made.

use super::process::Place;

#[test]
fn wrong_values_are_named_all_at_once() {
    let mut place = Place::new();
    let variables = [
        ("CAPA_WEBHOOKS_LISTEN", "nowhere", "must be an address and a port"),
        ("CAPA_WEBHOOKS_NODE_LEASE", "1s", "must be from 3s to 10m"),
        ("CAPA_WEBHOOKS_STORE", "mysql://x", "must be sqlite:"),
        ("CAPA_WEBHOOKS_ALLOW_HTTP", "yes", "must be true or false"),
        ("CAPA_WEBHOOKS_ALLOW_ADDRESSES", "10.0.0.0/99", "must be a list of ranges"),
        ("CAPA_WEBHOOKS_ALLOW_PORTS", "https", "must be ports"),
        ("CAPA_WEBHOOKS_RETRY_DELAYS", "5", "must be a duration with a unit"),
        ("CAPA_WEBHOOKS_ATTEMPT_TIMEOUT", "1m", "must be from 1s to 30s"),
        ("CAPA_WEBHOOKS_MAX_BODY", "1GiB", "must be from 1KiB to 8MiB"),
        ("CAPA_WEBHOOKS_SIGNATURE_HEADERS", "host", "must not name host"),
        ("CAPA_WEBHOOKS_LOG_FORMAT", "xml", "must be json or text"),
    ];
    for (name, value, _) in variables {
        place.set(name, value);
    }
    std::fs::write(place.path("file.toml"), "retention = \"5\"\nretry_delay = [\"1s\"]\n").unwrap();
    let said = place.bad(&["serve", "--config", "file.toml", "--connect-timeout", "1"]);
    for (name, _, problem) in variables {
        assert!(said.contains(&format!("{name} {problem}")), "{name}: {said}");
    }
    for line in [
        "retention in file.toml must be a duration with a unit",
        "retry_delay in file.toml is not a setting; did you mean retry_delays?",
        "--connect-timeout must be a duration with a unit",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert_eq!(place.names("."), ["file.toml", "tmp"], "nothing is made");
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let place = Place::new();
    assert!(place.bad(&["serve", "--config", "nowhere.toml"]).contains("nowhere.toml cannot be read"));
    std::fs::write(place.path("file.toml"), "listen = [").unwrap();
    assert!(place.bad(&["serve", "--config", "file.toml"]).contains("file.toml is not valid TOML"));
}

#[test]
fn a_platform_key_of_another_form_is_refused() {
    let mut place = Place::new();
    place.set("CAPA_WEBHOOKS_PLATFORM_KEY", "topsecret");
    let said = place.bad(&["serve", "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"]);
    assert!(said.contains("CAPA_WEBHOOKS_PLATFORM_KEY must have the form <uuid>:<uuid>"), "{said}");
    assert!(!said.contains("topsecret"), "{said}");
}

#[test]
fn a_shared_store_needs_a_master_key_that_is_there() {
    let mut place = Place::new();
    place.set("CAPA_WEBHOOKS_STORE", "postgres://capa:topsecret@127.0.0.1:1/capa");
    let free = ["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"];
    for command in [&["serve", free[0], free[1], free[2], free[3]][..], &["doctor"], &["keys", "list"]] {
        let said = place.bad(command);
        assert!(said.contains("capa-webhooks.key is missing") && said.contains("keys master --out"), "{said}");
        assert!(!said.contains("topsecret"), "{said}");
    }
    assert_eq!(place.names("."), ["tmp"], "nothing is made: another node would make another key");
}

#[test]
fn a_variable_that_is_no_setting_is_told() {
    let mut place = Place::with_store();
    place.set("CAPA_WEBHOOKS_LISTENN", "127.0.0.1:0");
    let done = place.serve(&[]).stop();
    assert!(done.err.contains("CAPA_WEBHOOKS_LISTENN"), "{}", done.err);
}

#[test]
fn the_file_then_the_environment_then_flags() {
    let mut place = Place::with_store();
    std::fs::write(
        place.path("file.toml"),
        "log = \"error\"\nmetrics_listen = \"127.0.0.1:0\"\nlisten = \"127.0.0.1:1\"\n",
    )
    .unwrap();
    place.set("CAPA_WEBHOOKS_CONFIG", "file.toml");
    place.set("CAPA_WEBHOOKS_LOG", "info");
    let mut serve = place.start(&["serve", "--listen", "127.0.0.1:0"]);
    serve.line("it serves", |line| line.contains("\"message\":\"serving\""));
}
