//! What is so only of a store in a file: the first start makes it and its keys, one service has it at a time, and commands
//! find the service and its key beside it.

use super::process::{Place, Server, curl};
use std::os::unix::fs::PermissionsExt as _;

fn mode(place: &Place, name: &str) -> u32 {
    std::fs::metadata(place.path(name)).expect(name).permissions().mode() & 0o777
}

fn ready(server: &Server) -> bool {
    curl(&[&server.url("/readyz")]) == (200, "ready\n".to_owned())
}

#[test]
fn the_first_start_makes_keys_that_only_the_owner_can_read() {
    let place = Place::new();
    let server = place.serve(&[]);
    assert!(ready(&server));
    assert_eq!(place.names("."), ["capa-webhooks.admin", "capa-webhooks.key", "data", "tmp"]);
    assert_eq!((mode(&place, "capa-webhooks.key"), mode(&place, "capa-webhooks.admin")), (0o600, 0o600));
    assert_eq!(mode(&place, "data"), 0o700);
    let master = std::fs::read_to_string(place.path("capa-webhooks.key")).unwrap();
    let admin = std::fs::read_to_string(place.path("capa-webhooks.admin")).unwrap();
    let header = format!("platform-api-key: {}", admin.trim());
    assert_eq!(curl(&[&server.url("/api/platform/v1/platform-keys"), "-H", &header]).0, 200);

    let done = server.stop();
    assert_eq!(done.out, "", "nothing is printed where nobody looks");
    let (id, secret) = admin.trim().split_once(':').expect("a key has a colon");
    for hidden in [id, secret, master.trim()] {
        assert!(!done.err.contains(hidden), "{}", done.err);
    }

    // The second start makes nothing new.
    let server = place.serve(&[]);
    assert!(ready(&server));
    assert_eq!(std::fs::read_to_string(place.path("capa-webhooks.admin")).unwrap(), admin);
    assert_eq!(std::fs::read_to_string(place.path("capa-webhooks.key")).unwrap(), master);
}

#[test]
fn a_store_without_its_master_key_is_left_alone() {
    let place = Place::new();
    assert_eq!(place.serve(&[]).stop().code, Some(0));
    std::fs::rename(place.path("capa-webhooks.key"), place.path("copy.key")).unwrap();
    let ports = ["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"];
    let said = place.bad(&[&["serve"], &ports[..]].concat());
    assert!(said.contains("capa-webhooks.key is missing; restore it") && said.contains("--master-key-file"), "{said}");
    assert!(place.bad(&["partners", "list"]).contains("--master-key-file"));
    assert!(!place.path("capa-webhooks.key").exists(), "no new key beside a store that names another");

    place.good(&["keys", "master", "--out", "other.key"]);
    let said = place.bad(&[&["serve", "--master-key-file", "other.key"], &ports[..]].concat());
    assert!(said.contains("give the key file that belongs to this store"), "{said}");

    assert!(ready(&place.serve(&["--master-key-file", "copy.key"])));
}

#[test]
fn one_store_has_one_service() {
    let place = Place::new();
    let first = place.serve(&[]);
    let said = place.bad(&["serve", "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"]);
    assert!(said.contains("another process serves the store") && said.contains("stop it first"), "{said}");
    let said = place.bad(&["serve", "--listen", &first.address.to_string(), "--metrics-listen", "127.0.0.1:0"]);
    assert!(said.contains("choose another address with --listen"), "{said}");
    assert!(ready(&first), "the first goes on");
    assert_eq!(first.stop().code, Some(0));
    assert!(ready(&place.serve(&[])), "and its lock ends with it");
}

#[test]
fn what_is_not_there_is_named() {
    let place = Place::new();
    assert!(place.bad(&["doctor"]).contains("capa-webhooks.key cannot be read"));
    place.good(&["keys", "master", "--out", "capa-webhooks.key"]);
    assert!(place.bad(&["doctor"]).contains("there is no store at data/capa-webhooks.db"));
    assert_eq!(place.names("."), ["capa-webhooks.key", "tmp"], "doctor makes nothing");
}

#[test]
fn commands_that_cannot_reach_the_service_say_how_they_could() {
    let place = Place::new();
    let server = place.serve(&[]);
    // Nothing listens on port 1 of this machine.
    let elsewhere = place.bad(&["partners", "list", "--listen", "127.0.0.1:1"]);
    assert!(elsewhere.contains("say where it listens with --listen"), "{elsewhere}");
    let address = server.address.to_string();
    let keyless = place.bad(&["partners", "list", "--listen", &address, "--admin-key-file", "nowhere"]);
    assert!(keyless.contains("CAPA_WEBHOOKS_PLATFORM_KEY") && keyless.contains("--admin-key-file"), "{keyless}");
}
