//! Ids that are none, and ids of what belongs to somebody else.

use super::probe::{NO_KEY, NO_NOTIFICATION, NO_PARTNER, Probe};
use super::stage::Stage;

/// Texts in the place of an id.
const NO_IDS: [&str; 20] = [
    "1",
    "0",
    "-1",
    "null",
    "undefined",
    "nonsense",
    "%20",
    "%00",
    "%2e%2e",
    "..%2f..",
    "a%2Fb",
    "%E2%80%AE",
    "'%20OR%201=1",
    "00000000-0000-0000-0000-000000000000",
    "ffffffff-ffff-ffff-ffff-ffffffffffff",
    "0199f7a0-0000-4000-8000-000000000000",
    "0199f7a0-0000-9000-f000-000000000000",
    "0199f7a0-0000-7000-8000-00000000000g",
    "%7B0199f7a0-0000-7000-8000-000000000000%7D",
    "urn:uuid:0199f7a0-0000-7000-8000-000000000000",
];

pub(super) fn probes(stage: &Stage) -> Vec<Probe> {
    let mut probes = Vec::new();
    let simple = |id: &str| id.replace('-', "");
    let padded = |id: &str| format!("%20{id}");
    let strangers =
        [stage.foreign.clone(), simple(&stage.own), padded(&stage.own), stage.partner.id.clone(), "9".repeat(5000)];
    let no_notification = NO_IDS.iter().map(|id| (*id).to_owned()).chain(strangers);
    for id in no_notification {
        for (method, rest) in [("GET", ""), ("GET", "/attempts"), ("POST", "/retry")] {
            for version in ["v1", "v2"] {
                let ask = stage.ask(method, &format!("{version}/webhook-notifications/{id}{rest}"));
                probes.push(Probe::refused_plainly(&ask, NO_NOTIFICATION));
            }
        }
    }
    let strangers = [simple(&stage.partner.id), padded(&stage.partner.id), stage.own.clone()];
    for id in NO_IDS.iter().map(|id| (*id).to_owned()).chain(strangers) {
        let ask = |method: &str, rest: &str| stage.ask_platform(method, &format!("partners/{id}{rest}"));
        for ask in [
            ask("GET", ""),
            ask("PATCH", "").json(r#"{"name":"x"}"#),
            ask("DELETE", ""),
            ask("POST", "/api-keys"),
            ask("DELETE", "/api-keys/0199f7a0-0000-7000-8000-000000000000"),
            ask("GET", "/webhook-settings"),
            ask("PUT", "/webhook-settings").json(r#"{"url":null}"#),
            ask("POST", "/events").json(stage.event.as_str()),
        ] {
            probes.push(Probe::refused_plainly(&ask, NO_PARTNER));
        }
    }
    // An empty one where something follows it; at the end of a path it is another path.
    let ask = stage.ask("POST", "v2/webhook-notifications//retry");
    probes.push(Probe::refused_plainly(&ask, NO_NOTIFICATION));
    let ask = stage.ask_platform("POST", "partners//events").json(stage.event.as_str());
    probes.push(Probe::refused_plainly(&ask, NO_PARTNER));
    let foreign = stage.other.key.split(':').next().unwrap_or_default();
    for id in NO_IDS.iter().copied().chain([foreign]) {
        let path = format!("partners/{}/api-keys/{id}", stage.partner.id);
        probes.push(Probe::refused_plainly(&stage.ask_platform("DELETE", &path), NO_KEY));
        probes.push(Probe::refused_plainly(&stage.ask_platform("DELETE", &format!("platform-keys/{id}")), NO_KEY));
    }
    probes
}
