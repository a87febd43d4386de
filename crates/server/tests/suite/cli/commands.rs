//! `partners` and `keys`: through a service that runs on the store, and on a store that nobody has open.

use super::process::{Place, Server, curl};
use crate::harness::store::on_postgres;

/// How the commands find what they work on.
struct Reach<'a> {
    place: &'a Place,
    server: Option<&'a Server>,
    flags: Vec<String>,
}

impl Reach<'_> {
    fn all<'a>(&'a self, arguments: &[&'a str]) -> Vec<&'a str> {
        arguments.iter().copied().chain(self.flags.iter().map(String::as_str)).collect()
    }

    fn good(&self, arguments: &[&str]) -> String {
        self.place.good(&self.all(arguments))
    }

    fn bad(&self, arguments: &[&str]) -> String {
        self.place.bad(&self.all(arguments))
    }

    /// Whether the service takes this key of a partner. Without a service nobody can tell.
    fn takes(&self, key: &str, expected: bool) {
        if let Some(server) = self.server {
            let url = server.url("/api/partner/v2/webhook-settings");
            comes_to(if expected { 200 } else { 401 }, &[&url, "-H", &format!("partner-api-key: {key}")]);
        }
    }
}

/// Asks until the answer has this status. A command on a store in a file goes through the service, which knows at once;
/// over a shared store it is a node of its own, and the service hears of it a little later.
fn comes_to(expected: u16, request: &[&str]) {
    let tries = if on_postgres() { 2_000 } else { 1 };
    let answers = (0..tries).map(|_| curl(request));
    let (status, answer) = answers.into_iter().find(|(status, _)| *status == expected).unwrap_or_else(|| curl(request));
    assert_eq!(status, expected, "{answer}");
}

/// Runs `test` through a service that runs on a store, then on that store without a service.
fn both_ways(test: impl Fn(&Reach<'_>)) {
    let place = Place::with_store();
    let server = place.serve(&[]);
    let flags = vec!["--listen".to_owned(), server.address.to_string()];
    test(&Reach { place: &place, server: Some(&server), flags });
    assert_eq!(server.stop().code, Some(0));
    test(&Reach { place: &place, server: None, flags: Vec::new() });
}

/// The value behind a label.
fn value<'a>(out: &'a str, label: &str) -> &'a str {
    let line = out.lines().find_map(|line| line.trim_start().strip_prefix(label)).expect(label);
    line.split_whitespace().next().expect(label)
}

#[test]
fn a_partner_from_making_to_erasing() {
    both_ways(|reach| {
        let made = reach.good(&["partners", "create", "--name", "Acme Wallet"]);
        let (id, key) = (value(&made, "id:"), value(&made, "API key:"));
        let secret = value(&made, "webhook secret:");
        assert!(secret.len() == 64 && secret.bytes().all(|byte| byte.is_ascii_hexdigit()), "{made}");
        reach.takes(key, true);
        assert!(reach.good(&["partners", "list"]).contains(&format!("{id}  Acme Wallet  -\n")));

        let url = "https://acme.example/hooks/capa";
        assert_eq!(reach.good(&["partners", "set-url", id, url]), format!("url: {url}\n"));
        assert!(reach.good(&["partners", "list"]).contains(&format!("{id}  Acme Wallet  {url}\n")));
        let refused = reach.bad(&["partners", "set-url", id, "http://acme.example/"]);
        assert!(refused.contains("url: Plain http is not accepted; use https."), "{refused}");
        assert!(reach.good(&["partners", "show", id]).contains(&format!("url: {url}\n")));
        assert_eq!(reach.good(&["partners", "set-url", id, "none"]), "url: -\n");

        assert_eq!(reach.good(&["partners", "disable", id]), format!("disabled {id}\n"));
        assert!(reach.good(&["partners", "list"]).contains(&format!("{id}  Acme Wallet  -  disabled\n")));
        assert_eq!(reach.good(&["partners", "enable", id]), format!("enabled {id}\n"));

        let more = reach.good(&["partners", "add-key", id]);
        let (more, more_id) = (more.trim(), more.split(':').next().expect("it has a colon"));
        reach.takes(more, true);
        assert!(reach.good(&["partners", "show", id]).contains(more_id));
        assert_eq!(reach.good(&["partners", "revoke-key", id, more_id]), format!("revoked {more_id}\n"));
        reach.takes(more, false);
        reach.takes(key, true);
        assert!(!reach.good(&["partners", "show", id]).contains(more_id));
        assert!(reach.bad(&["partners", "revoke-key", id, more_id]).contains("API Key not found"));

        assert_eq!(reach.good(&["partners", "erase", id, "--yes"]), format!("erased {id}\n"));
        reach.takes(key, false);
        assert!(reach.bad(&["partners", "show", id]).contains("Partner not found"));
        assert!(!reach.good(&["partners", "list"]).contains(id));
    });
}

#[test]
fn a_partner_that_exists_elsewhere_keeps_what_it_has() {
    let place = Place::with_store();
    let id = "0199f7a0-0000-7000-8000-000000000000";
    let key = "5f0c6f5e-0d0a-4a61-8c43-1f2e3d4c5b6a:8a7b6c5d-4e3f-4a1b-9c8d-7e6f5a4b3c2d";
    let secret = "5b1c9f0a7d3e4826b0c5d9e1f2a34567890abcdef1234567890fedcba9876543";
    let create = ["partners", "create", "--name", "Old", "--id", id, "--api-key", key, "--webhook-secret", secret];
    let made = place.good(&create);
    assert_eq!((value(&made, "id:"), value(&made, "API key:")), (id, key));
    assert_eq!(value(&made, "webhook secret:"), secret);
    assert!(place.bad(&create).contains("Partner exists"));
    let wrong = place.bad(&["partners", "create", "--name", "New", "--id", "7", "--webhook-secret", "short"]);
    assert!(wrong.contains("id: Must be a UUID.") && wrong.contains("webhookSecret: Must be 64"), "{wrong}");
}

#[test]
fn a_platform_key_from_making_to_revoking() {
    both_ways(|reach| {
        let made = reach.good(&["keys", "create", "--name", "checkout", "--scope", "publish", "--scope", "read"]);
        let (key, id) = (made.trim(), made.split(':').next().expect("it has a colon"));
        let row = |out: &str| out.lines().find(|line| line.starts_with(id)).expect(id).to_owned();
        let listed = row(&reach.good(&["keys", "list"]));
        assert!(listed.contains("publish,read") && listed.ends_with("checkout"), "{listed}");
        let may_list = |expected: u16| {
            if let Some(server) = reach.server {
                let url = server.url("/api/platform/v1/partners");
                comes_to(expected, &[&url, "-H", &format!("platform-api-key: {key}")]);
            }
        };
        may_list(200);
        assert_eq!(reach.good(&["keys", "revoke", id]), format!("revoked {id}\n"));
        may_list(401);
        assert!(row(&reach.good(&["keys", "list"])).contains("revoked 20"));
        assert!(reach.bad(&["keys", "revoke", id]).contains("API Key not found"));
    });
}

#[test]
fn keys_that_are_not_stored() {
    let place = Place::new();
    let new = place.good(&["keys", "new"]);
    assert_eq!((new.trim().len(), new.matches(':').count()), (73, 1), "{new}");
    assert!(place.good(&["keys", "master", "--out", "master.key"]).contains("keep a copy"));
    let text = std::fs::read_to_string(place.path("master.key")).unwrap();
    assert_eq!(text.trim().len(), 64);
    assert!(place.bad(&["keys", "master", "--out", "master.key"]).contains("master.key cannot be made"));
    assert_eq!(std::fs::read_to_string(place.path("master.key")).unwrap(), text, "never over one that exists");
    assert_eq!(place.names("."), ["master.key", "tmp"]);
}
