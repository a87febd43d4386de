//! Keys in every wrong form, on every route; partners' and the platform's in each other's place.

use super::probe::{DISABLED, MALFORMED, MISSING, Probe, SCOPE, UNKNOWN};
use super::stage::Stage;
use super::wire::Ask;
use crate::harness::PLATFORM_KEY;

const PARTNER: &str = "partner-api-key";
const PLATFORM: &str = "platform-api-key";

/// The routes of the partner API under one version, with an id in the place of `{id}`.
pub(super) const PARTNER_ROUTES: [(&str, &str); 6] = [
    ("GET", "webhook-settings"),
    ("PUT", "webhook-settings"),
    ("GET", "webhook-notifications"),
    ("GET", "webhook-notifications/{id}"),
    ("GET", "webhook-notifications/{id}/attempts"),
    ("POST", "webhook-notifications/{id}/retry"),
];

/// The routes of the platform API, with a partner's id in the place of `{id}`, and the scope that each needs.
pub(super) const PLATFORM_ROUTES: [(&str, &str, &str); 15] = [
    ("GET", "partners", "read"),
    ("POST", "partners", "admin"),
    ("GET", "partners/{id}", "read"),
    ("PATCH", "partners/{id}", "admin"),
    ("DELETE", "partners/{id}", "admin"),
    ("POST", "partners/{id}/api-keys", "admin"),
    ("DELETE", "partners/{id}/api-keys/{id}", "admin"),
    ("GET", "partners/{id}/webhook-settings", "read"),
    ("PUT", "partners/{id}/webhook-settings", "admin"),
    ("POST", "partners/{id}/events", "publish"),
    ("POST", "events", "publish"),
    ("GET", "event-types", "read"),
    ("GET", "platform-keys", "admin"),
    ("POST", "platform-keys", "admin"),
    ("DELETE", "platform-keys/{id}", "admin"),
];

pub(super) fn probes(stage: &Stage) -> Vec<Probe> {
    let mut probes = Vec::new();
    let own = stage.partner.key.as_str();
    for (method, path) in PARTNER_ROUTES {
        for version in ["v1", "v2"] {
            let target = format!("/api/partner/{version}/{}", path.replace("{id}", &stage.own));
            let ask = Ask::new(method, &target).json("not even JSON");
            probes.push(Probe::refused(
                &ask.clone().with(PARTNER, stage.revoked.as_str()),
                UNKNOWN,
                PARTNER,
                "revoked",
            ));
            probes.push(Probe::refused(
                &ask.clone().with(PARTNER, stage.disabled.as_str()),
                DISABLED,
                "",
                "ask Capa to enable it",
            ));
            probes.extend(on_any_route(&ask, PARTNER, own, &[PLATFORM_KEY, &stage.publish_only], (PLATFORM, own)));
        }
    }
    for (method, path, scope) in PLATFORM_ROUTES {
        let target = format!("/api/platform/v1/{}", path.replace("{id}", &stage.partner.id));
        let ask = Ask::new(method, &target).json("not even JSON");
        let gone = ask.clone().with(PLATFORM, stage.revoked_platform.as_str());
        probes.push(Probe::refused(&gone, UNKNOWN, PLATFORM, "revoked"));
        for (held, key) in [("publish", &stage.publish_only), ("read", &stage.read_only)] {
            if held != scope {
                let words = format!("needs the scope `{scope}`");
                probes.push(Probe::refused(&ask.clone().with(PLATFORM, key.as_str()), SCOPE, PLATFORM, &words));
            }
        }
        probes.extend(on_any_route(&ask, PLATFORM, PLATFORM_KEY, &[own], (PARTNER, PLATFORM_KEY)));
    }
    let settings = Ask::new("GET", "/api/partner/v2/webhook-settings");
    let types = Ask::new("GET", "/api/platform/v1/event-types");
    for (ask, header, key) in [(&settings, PARTNER, own), (&types, PLATFORM, PLATFORM_KEY)] {
        for key in malformed(key) {
            probes.push(Probe::refused(&ask.clone().with(header, key), MALFORMED, header, "<uuid>:<uuid>"));
        }
        for key in unknown(key) {
            probes.push(Probe::refused(&ask.clone().with(header, key), UNKNOWN, header, "not known"));
        }
        // White space around a value is no part of it.
        probes.push(Probe::good(&ask.clone().with(header, format!(" \t{key} \t")), 200));
    }
    probes
}

/// What every route refuses before it looks at anything else.
fn on_any_route(ask: &Ask, header: &str, key: &str, strangers: &[&str], elsewhere: (&str, &str)) -> Vec<Probe> {
    let (id, secret) = key.split_once(':').unwrap_or_default();
    let mut probes = vec![
        Probe::refused(ask, MISSING, header, "Send your key in the header"),
        Probe::refused(&ask.clone().with(elsewhere.0, elsewhere.1), MISSING, header, "Send your key in the header"),
        Probe::refused(&ask.clone().with("authorization", format!("Bearer {key}")), MISSING, header, "Send your key"),
        Probe::refused(&ask.clone().with(header, id), MALFORMED, header, "the key id, a colon, the secret"),
        Probe::refused(&ask.clone().with(header, key).with(header, key), MALFORMED, header, "<uuid>:<uuid>"),
        Probe::refused(&ask.clone().with(header, format!("{id}:{}", turned(secret))), UNKNOWN, header, "is wrong"),
    ];
    probes.extend(strangers.iter().map(|key| Probe::refused(&ask.clone().with(header, *key), UNKNOWN, header, "")));
    probes
}

/// Texts that are no key.
fn malformed(key: &str) -> Vec<Vec<u8>> {
    let (id, secret) = key.split_once(':').unwrap_or_default();
    let texts = [
        String::new(),
        ":".to_owned(),
        format!("{id}:"),
        format!(":{secret}"),
        format!("{id}{secret}"),
        format!("{id} {secret}"),
        format!("{id} : {secret}"),
        format!("{id}: {secret}"),
        format!("{id}:{secret}:{secret}"),
        format!("{id}:{secret}, {id}:{secret}"),
        format!("{id}:{}", secret.replace('-', "")),
        format!("{id}:{{{secret}}}"),
        format!("{id}:urn:uuid:{secret}"),
        format!("{id}:{}", "a".repeat(36)),
        format!("{id}:{}", "9".repeat(8000)),
        format!("Bearer {key}"),
        format!("\"{key}\""),
        format!("{id}%3A{secret}"),
        "' or 1=1 --".to_owned(),
    ];
    let mut all: Vec<Vec<u8>> = texts.into_iter().map(String::into_bytes).collect();
    all.push([key.as_bytes(), b"\xff"].concat());
    all.push([key.as_bytes(), "\u{e9}".as_bytes()].concat());
    all
}

/// Keys in the right form that nobody has.
fn unknown(key: &str) -> Vec<String> {
    let (id, secret) = key.split_once(':').unwrap_or_default();
    let nil = "00000000-0000-0000-0000-000000000000";
    vec![
        format!("{id}:{nil}"),
        format!("{nil}:{secret}"),
        format!("{nil}:{nil}"),
        format!("{secret}:{id}"),
        format!("{id}:{id}"),
        format!("{id}:{}", secret.to_uppercase()),
    ]
}

/// The secret with another last digit.
fn turned(secret: &str) -> String {
    let (rest, last) = secret.split_at(secret.len() - 1);
    rest.to_owned() + if last == "0" { "1" } else { "0" }
}
