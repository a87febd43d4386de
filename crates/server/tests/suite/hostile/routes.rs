//! Paths and methods that mean nothing, and queries that say too much.

use super::probe::{INVALID, MARK, NO_METHOD, NO_ROUTE, Probe};
use super::stage::Stage;
use super::wire::Ask;

pub(super) fn probes(stage: &Stage) -> Vec<Probe> {
    let mut probes = unknown_routes(stage);
    probes.extend(wrong_methods(stage));
    probes.extend(queries(stage));
    probes
}

fn unknown_routes(stage: &Stage) -> Vec<Probe> {
    let targets = [
        "/",
        "//",
        "/*",
        "/api",
        "/api/",
        "/api/partner",
        "/api/partner/v2",
        "/api/partner/v2/",
        "/api/partner/v0/webhook-settings",
        "/api/partner/v3/webhook-settings",
        "/api/partner/V2/webhook-settings",
        "/API/PARTNER/V2/WEBHOOK-SETTINGS",
        "/api/partner/v2/Webhook-Settings",
        "/api/partner/v1/webhook-settings/",
        "/api/partner/v2/webhook-settings/",
        "/api/partner/v2/webhook-settings//",
        "//api/partner/v2/webhook-settings",
        "/api//partner/v2/webhook-settings",
        "/api/partner/v2//webhook-settings",
        "/api/partner/v2/webhook-settings%20",
        "/api/partner/v2/webhook-settings%00",
        "/api/partner/v2/webhook-settings.json",
        "/api/partner/v2/webhook-settings;x=1",
        "/api/partner/v2/webhook%2Dsettings",
        "/api/partner/v2%2Fwebhook-settings",
        "/api%2Fpartner%2Fv2%2Fwebhook-settings",
        "/api/partner/v2/../v2/webhook-settings",
        "/api/partner/v2/./webhook-settings",
        "/api/partner/v2/%2e/webhook-settings",
        "/api/partner/v2/%2e%2e/v2/webhook-settings",
        "/api/partner/v2/%252e%252e/webhook-settings",
        "/..%2f..%2fetc%2fpasswd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/../../etc/passwd",
        "/api/partner/v2/\\..\\webhook-settings",
        "/api/partner/v2/webhook-notifications/",
        "/api/partner/v2/webhook-notifications/1/2",
        "/api/partner/v2/webhook-notifications/1/retry/",
        "/api/platform/v2/partners",
        "/api/platform/v1",
        "/api/platform/v1/partners/",
        "/api/platform/v1/event",
        "/api/platform/v1/events/",
        "/metrics",
        "/healthz/",
        "/HEALTHZ",
        "/readyz/x",
        "/favicon.ico",
        "/.env",
        "/.git/config",
        "/admin",
        "/api/partner/v2/webhook-settings/?x=/../",
    ];
    let mut probes = Vec::new();
    for target in targets {
        for method in ["GET", "POST"] {
            let ask = Ask::new(method, target).with("partner-api-key", stage.partner.key.as_str());
            probes.push(Probe::refused(&ask, NO_ROUTE, "", "docs/api.md"));
        }
    }
    // Paths that are no text name nothing.
    for (method, target) in [
        ("GET", "partner/v2/webhook-notifications/%FF"),
        ("GET", "partner/v1/webhook-notifications/%C3%28"),
        ("GET", "partner/v1/webhook-notifications/%C0%AE/attempts"),
        ("POST", "partner/v2/webhook-notifications/%ED%A0%80/retry"),
        ("POST", "platform/v1/partners/%FF/events"),
        ("DELETE", "platform/v1/platform-keys/%F4%90%80%80"),
    ] {
        let ask = Ask::new(method, &format!("/api/{target}"));
        probes.push(Probe::refused(&ask, NO_ROUTE, "", "docs/api.md"));
    }
    let long = format!("/api/partner/v2/{}", "a".repeat(20_000));
    probes.push(Probe::refused(&Ask::new("GET", &long), NO_ROUTE, "", "docs/api.md"));
    probes
}

fn wrong_methods(stage: &Stage) -> Vec<Probe> {
    let mut probes = Vec::new();
    let settings = "v2/webhook-settings";
    for method in
        ["POST", "DELETE", "PATCH", "OPTIONS", "TRACE", "get", "put", "Put", "BREW", "PROPFIND", "GETT", "M-!#"]
    {
        for path in [settings, "v1/webhook-settings", "v2/webhook-notifications"] {
            let ask = stage.ask(method, path).json(r#"{"url":null}"#);
            probes.push(Probe::refused(&ask, NO_METHOD, "", &format!("{method} is not possible here")));
        }
    }
    for (method, path) in [("GET", "retry"), ("PUT", "attempts"), ("DELETE", "attempts")] {
        let ask = stage.ask(method, &format!("v2/webhook-notifications/{}/{path}", stage.own));
        probes.push(Probe::refused(&ask, NO_METHOD, "", method));
    }
    for (method, path) in [("GET", "events"), ("PUT", "partners"), ("DELETE", "partners"), ("TRACE", "event-types")] {
        probes.push(Probe::refused(&stage.ask_platform(method, path), NO_METHOD, "", method));
    }
    // A method that a client wants to have replaced stays what it is.
    let ask = stage.ask("POST", settings).with("x-http-method-override", "PUT").json(r#"{"url":null}"#);
    probes.push(Probe::refused(&ask, NO_METHOD, "", "POST"));
    // There is nothing here to connect to, and an asterisk names no path.
    probes.push(Probe::refused(&Ask::new("CONNECT", "suite.example:443"), NO_ROUTE, "", ""));
    probes.push(Probe::refused(&Ask::new("OPTIONS", "*"), NO_ROUTE, "", ""));
    probes
}

fn queries(stage: &Stage) -> Vec<Probe> {
    const NUMBER: &str = "whole number";
    const TIME: &str = "ISO 8601";
    const TEXT: &str = "1 to 256";
    const ID: &str = "id of a notification";
    let long = format!("transactionId={}", "a".repeat(257));
    let crabs = format!("externalUserId={}", "%F0%9F%A6%80".repeat(257));
    let cases = [
        ("limit=0", "limit", NUMBER),
        ("limit=101", "limit", NUMBER),
        ("limit=-1", "limit", NUMBER),
        ("limit=", "limit", NUMBER),
        ("limit", "limit", NUMBER),
        ("limit=%31%30%31", "limit", NUMBER),
        ("limit=1e1", "limit", NUMBER),
        ("limit=1.0", "limit", NUMBER),
        ("limit=0x10", "limit", NUMBER),
        ("limit=%2B1", "limit", NUMBER),
        ("limit=+1", "limit", NUMBER),
        ("limit=%D9%A1", "limit", NUMBER),
        ("limit=99999999999999999999999999999999", "limit", NUMBER),
        ("limit=18446744073709551617", "limit", NUMBER),
        ("limit=1&limit=1", "limit", "more than once"),
        ("limit=1&%6Cimit=2", "limit", "more than once"),
        ("limit=NaN", "limit", NUMBER),
        ("limit=true", "limit", NUMBER),
        ("limit=1%00", "limit", NUMBER),
        ("limit=1;skip=2", "limit", NUMBER),
        ("skip=10001", "skip", "10000"),
        ("skip=-1", "skip", NUMBER),
        ("skip=9223372036854775808", "skip", NUMBER),
        ("skip=1&skip=1", "skip", "more than once"),
        ("after=", "after", ID),
        ("after=1", "after", ID),
        ("after=00000000000000000000000000000000", "after", ID),
        ("skip=1&after=0199f7a0-0000-7000-8000-000000000000", "after", "not both"),
        ("status=", "status", "PENDING"),
        ("status=sent", "status", "PENDING"),
        ("status=SENT,FAILED", "status", "PENDING"),
        ("status[]=SENT", "status[]", "did you mean status"),
        ("status=SENT&status=FAILED", "status", "more than once"),
        ("status='%20OR%201=1%20--", "status", "PENDING"),
        ("event=", "event", TEXT),
        ("event=VERIFIED", "event", "Did you mean VERIFIED_USER"),
        ("event=%FF", "event", "UTF-8"),
        ("transactionId=", "transactionId", TEXT),
        ("transactionId=%FF%FE", "transactionId", "UTF-8"),
        ("transactionId=%ED%A0%80", "transactionId", "UTF-8"),
        ("externalUserId=%C0%80", "externalUserId", "UTF-8"),
        ("externalUserId=a&externalUserId=b", "externalUserId", "more than once"),
        ("since=yesterday", "since", TIME),
        ("since=0", "since", TIME),
        ("since=2024-13-01T00:00:00Z", "since", TIME),
        ("since=2024-02-30T00:00:00Z", "since", TIME),
        ("since=99999999-01-01T00:00:00Z", "since", TIME),
        ("until=2024-04-05", "until", TIME),
        ("until=", "until", TIME),
        ("since=2024-04-06T00:00:00Z&until=2024-04-05T00:00:00Z", "since", "later than"),
        ("Limit=1", "Limit", "did you mean limit"),
        ("page=1", "page", "Unknown parameter"),
        ("=1", "", "Unknown parameter"),
        ("%00=1", "\0", "Unknown parameter"),
        ("partnerId=0199f7a0-0000-7000-8000-000000000000", "partnerId", "Unknown parameter"),
        ("__proto__=1", "__proto__", "Unknown parameter"),
        (long.as_str(), "transactionId", TEXT),
        (crabs.as_str(), "externalUserId", TEXT),
    ];
    let mut probes = Vec::new();
    for (query, field, words) in cases {
        for version in ["v1", "v2"] {
            let ask = stage.ask("GET", &format!("{version}/webhook-notifications?{query}"));
            probes.push(Probe::refused(&ask, INVALID, field, words));
        }
    }
    for (query, field, words) in [
        ("limit=0", "limit", NUMBER),
        ("limit=1&limit=2", "limit", "more than once"),
        ("after=x", "after", "id of a partner"),
        ("name=First", "name", "Unknown parameter"),
    ] {
        probes.push(Probe::refused(&stage.ask_platform("GET", &format!("partners?{query}")), INVALID, field, words));
    }
    // What is odd and still right, and finds nothing.
    for query in
        ["", "&", "&&limit=1&", "limit=1", "limit=0010", "transactionId=%00", "transactionId=%zz", "transactionId=%"]
    {
        probes.push(Probe::good(&stage.ask("GET", &format!("v2/webhook-notifications?{query}")), 200));
    }
    let marked = stage.ask("GET", &format!("v2/webhook-notifications?status={MARK}&limit={MARK}&event={MARK}"));
    probes.push(Probe::several(&marked, 3));
    probes
}
