//! Bodies that are no JSON, or JSON that readers disagree on; too large ones; media types.

use super::probe::{INVALID, NOT_JSON, Probe, TOO_LARGE};
use super::stage::Stage;

const SETTINGS_LIMIT: usize = 64 * 1024;
const EVENT_LIMIT: usize = 256 * 1024;
const BATCH_LIMIT: usize = 8 * 1024 * 1024;

pub(super) fn probes(stage: &Stage) -> Vec<Probe> {
    let mut probes = Vec::new();
    let asks = [stage.settings(), stage.ask("PUT", "v1/webhook-settings"), stage.publishing()];
    for ask in asks {
        for (body, field, words) in no_json() {
            probes.push(Probe::refused(&ask.clone().json(body), INVALID, field, words));
        }
        // Within a member, to see the path.
        for (value, field, words) in values() {
            let body = [br#"{"type":"KYC","a":"#.as_slice(), &value, b"}"].concat();
            probes.push(Probe::refused(&ask.clone().json(body), INVALID, field, words));
        }
    }
    probes.extend(sizes(stage));
    probes.extend(media_types(stage));
    probes
}

/// Whole bodies.
fn no_json() -> Vec<(Vec<u8>, &'static str, &'static str)> {
    let utf16 = |bytes: fn(u16) -> [u8; 2], mark: bool| -> Vec<u8> {
        let text = if mark { "\u{feff}{\"url\":null}" } else { "{\"url\":null}" };
        text.encode_utf16().flat_map(bytes).collect()
    };
    let gzip = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xab, 0xae, 5, 0, 0x43, 0xbf, 0xa6, 0xa3, 2, 0, 0, 0];
    vec![
        (b"".to_vec(), "", "ends too early"),
        (b" \r\n\t".to_vec(), "", "ends too early"),
        (b"null".to_vec(), "", "one JSON object"),
        (b"true".to_vec(), "", "one JSON object"),
        (b"1".to_vec(), "", "one JSON object"),
        (b"\"x\"".to_vec(), "", "one JSON object"),
        (b"[]".to_vec(), "", "one JSON object"),
        (b"[{}]".to_vec(), "", "one JSON object"),
        (b"{".to_vec(), "", "ends too early"),
        (b"}".to_vec(), "", ""),
        (b"{{}}".to_vec(), "", "double quotes"),
        (b"{}{}".to_vec(), "", "nothing behind"),
        (b"{} x".to_vec(), "", "nothing behind"),
        (b"{}\0".to_vec(), "", "nothing behind"),
        (b"\0{}".to_vec(), "", ""),
        (b"{\0}".to_vec(), "", "double quotes"),
        (b"{\"a\"}".to_vec(), "", ""),
        (b"{\"a\":}".to_vec(), "", "a value"),
        (b"{\"a\":1,}".to_vec(), "", "double quotes"),
        (b"{,}".to_vec(), "", "double quotes"),
        (b"{'a':1}".to_vec(), "", "double quotes"),
        (b"{a:1}".to_vec(), "", "double quotes"),
        (b"{1:1}".to_vec(), "", "double quotes"),
        (b"{\"a\":1 \"b\":2}".to_vec(), "", ""),
        (b"{\"a\":1;}".to_vec(), "", ""),
        (b"{/**/}".to_vec(), "", "double quotes"),
        (b"{\"a\":1}//".to_vec(), "", "nothing behind"),
        (b"url=https%3A%2F%2Fpartner.example".to_vec(), "", ""),
        (b"<event/>".to_vec(), "", ""),
        (b"\xef\xbb\xbf{}".to_vec(), "", "byte order mark"),
        (utf16(u16::to_le_bytes, true), "", ""),
        (utf16(u16::to_be_bytes, true), "", ""),
        (utf16(u16::to_le_bytes, false), "", ""),
        (utf16(u16::to_be_bytes, false), "", ""),
        (gzip.to_vec(), "", ""),
        ([0xff; 100].to_vec(), "", ""),
        ([0; 100].to_vec(), "", ""),
        ("[".repeat(60_000).into(), "", "one JSON object"),
        ("{\"a\":".repeat(10_000).into(), &DEEP_KEYS, "64 levels"),
        (br#"{"type":1,"type":2}"#.to_vec(), "type", "twice"),
        (br#"{"type":1,"\u0074ype":2}"#.to_vec(), "type", "twice"),
        (br#"{"0":1}"#.to_vec(), r#"["0"]"#, "whole number"),
        (br#"{"1e3":1,"10":1}"#.to_vec(), r#"["10"]"#, "whole number"),
        (b"{\"\xff\":1}".to_vec(), "", "UTF-8"),
        (br#"{"\ud800":1}"#.to_vec(), "", "surrogate"),
    ]
}

/// The path to the first level too deep of objects in `a`.
static DEEP_KEYS: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| vec!["a"; 64].join("."));

/// Values of the member `a`.
fn values() -> Vec<(Vec<u8>, &'static str, &'static str)> {
    let quoted = |bytes: &[u8]| [b"\"".as_slice(), bytes, b"\""].concat();
    const OTHER: &str = "another one";
    vec![
        (b"NaN".to_vec(), "", "a value"),
        (b"Infinity".to_vec(), "", "a value"),
        (b"-Infinity".to_vec(), "", ""),
        (b"undefined".to_vec(), "", "a value"),
        (b"nul".to_vec(), "", ""),
        (b"True".to_vec(), "", "a value"),
        (b"+1".to_vec(), "", "a value"),
        (b"-".to_vec(), "", ""),
        (b"--1".to_vec(), "", ""),
        (b"01".to_vec(), "", "leading zeros"),
        (b"-01".to_vec(), "", "leading zeros"),
        (b"00".to_vec(), "", "leading zeros"),
        (b"1.".to_vec(), "", ""),
        (b".1".to_vec(), "", "a value"),
        (b"1e".to_vec(), "", ""),
        (b"1e+".to_vec(), "", ""),
        (b"0x10".to_vec(), "", ""),
        (b"1_000".to_vec(), "", ""),
        (b"1,000".to_vec(), "", ""),
        ("١".into(), "", "a value"),
        (b"1e400".to_vec(), "a", OTHER),
        (b"-1e400".to_vec(), "a", OTHER),
        (b"1e99999999999999999999".to_vec(), "a", OTHER),
        (b"1e-400".to_vec(), "a", OTHER),
        (b"9007199254740993".to_vec(), "a", OTHER),
        (b"-9007199254740993".to_vec(), "a", OTHER),
        (b"18446744073709551615".to_vec(), "a", OTHER),
        (b"0.1000000000000000055511151231257827".to_vec(), "a", OTHER),
        ("9".repeat(5000).into(), "a", OTHER),
        (br#"{"b":[{"c":1e400}]}"#.to_vec(), "a.b[0].c", OTHER),
        (br#"{"b":1,"b":1}"#.to_vec(), "a.b", "twice"),
        (br#"{"b":{"c":[{"d":1,"d":2}]}}"#.to_vec(), "a.b.c[0].d", "twice"),
        (br#"[{"":1,"":2}]"#.to_vec(), r#"a[0][""]"#, "twice"),
        (br#"{"\u00e9":1,"\xc3\xa9":2}"#.to_vec(), "", ""),
        (quoted(br"\ud800"), "a", "surrogate"),
        (quoted(br"\udc00"), "a", "surrogate"),
        (quoted(br"\udc00\ud800"), "a", "surrogate"),
        (quoted(br"\ud800\u0041"), "a", "surrogate"),
        (quoted(br"\ud800\ud800\udc00"), "a", "surrogate"),
        (quoted(b"\xff"), "a", "UTF-8"),
        (quoted(b"\xc0\xaf"), "a", "UTF-8"),
        (quoted(b"\xe0\x80\xaf"), "a", "UTF-8"),
        (quoted(b"\xf0\x80\x80\xaf"), "a", "UTF-8"),
        (quoted(b"\xed\xa0\x80"), "a", "UTF-8"),
        (quoted(b"\xf4\x90\x80\x80"), "a", "UTF-8"),
        (quoted(b"\xe2\x82"), "a", "UTF-8"),
        (quoted(b"\x80"), "a", "UTF-8"),
        (quoted(b"a\0b"), "", "control character"),
        (quoted(b"a\nb"), "", "control character"),
        (quoted(b"a\x1fb"), "", "control character"),
        (quoted(br"\x41"), "", "after a backslash"),
        (quoted(br"\u12"), "", ""),
        (quoted(br"\u{41}"), "", ""),
        (quoted(br"\U00000041"), "", "after a backslash"),
        (quoted(br"\"), "", ""),
        (b"\"open".to_vec(), "", "ends too early"),
        ([b"[".repeat(64), b"]".repeat(64)].concat(), &DEEP_ITEMS, "64 levels"),
        (b"[".repeat(30_000), &DEEP_ITEMS, "64 levels"),
    ]
}

/// The path to the first level too deep of lists in `a`.
static DEEP_ITEMS: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| format!("a{}", "[0]".repeat(63)));

fn sizes(stage: &Stage) -> Vec<Probe> {
    let mut probes = Vec::new();
    let padded = |body: &str, length: usize| format!("{body}{}", " ".repeat(length - body.len()));
    let limits = [
        (stage.settings(), r#"{"url":1}"#, SETTINGS_LIMIT),
        (stage.ask("PUT", "v1/webhook-settings"), r#"{"url":1}"#, SETTINGS_LIMIT),
        (stage.ask_platform("POST", "partners"), r#"{"name":1}"#, SETTINGS_LIMIT),
        (stage.ask_platform("PATCH", &format!("partners/{}", stage.partner.id)), r#"{"name":1}"#, SETTINGS_LIMIT),
        (stage.ask_platform("POST", "platform-keys"), r#"{"name":1}"#, SETTINGS_LIMIT),
        (stage.publishing(), r#"{"type":1}"#, EVENT_LIMIT),
        (stage.ask_platform("POST", "events"), r#"{"events":[]}"#, BATCH_LIMIT),
    ];
    for (ask, body, limit) in limits {
        let words = format!("{limit} bytes");
        // At the limit it is read, and what is in it is refused.
        let at_limit = ask.clone().json(padded(body, limit));
        probes.push(Probe::at_least_one(&at_limit, INVALID));
        for length in [limit + 1, limit * 2] {
            probes.push(Probe::refused(&ask.clone().json(padded(body, length)), TOO_LARGE, "", &words));
        }
        let chunk = format!("{:x}\r\n{}\r\n", limit + 1, padded(body, limit + 1));
        let chunked = ask.with("content-type", "application/json").chunked(chunk + "0\r\n\r\n");
        probes.push(Probe::refused(&chunked, TOO_LARGE, "", &words));
    }
    probes
}

fn media_types(stage: &Stage) -> Vec<Probe> {
    let mut probes = Vec::new();
    let wrong = [
        "",
        " ",
        "json",
        "text/plain",
        "text/json",
        "application/",
        "application/jsonp",
        "application/json5",
        "application/x-json",
        "application/problem+json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json, text/plain",
        "application/json,application/json",
        "application json",
        "application/json; charset=utf-16",
        "application/json; charset=latin1",
        "application/json; charset=\"utf-16le\"",
        "application/json; CHARSET=UTF-7",
        "application/json; charset=",
        "*/*",
        "application/*",
    ];
    let asks = [
        (stage.settings(), r#"{"url":null}"#),
        (stage.ask("PUT", "v1/webhook-settings"), r#"{"url":null}"#),
        (stage.publishing(), stage.event.as_str()),
        (stage.ask_platform("POST", "events"), r#"{"events":[{}]}"#),
        (stage.ask_platform("POST", "partners"), r#"{"name":"x"}"#),
    ];
    const WORDS: &str = "content-type: application/json";
    for (ask, body) in &asks {
        let ask = ask.clone().body(*body);
        probes.push(Probe::refused(&ask, NOT_JSON, "content-type", WORDS));
        for value in wrong {
            probes.push(Probe::refused(&ask.clone().with("content-type", value), NOT_JSON, "content-type", WORDS));
        }
        let twice = ask.clone().with("content-type", "application/json");
        probes.push(Probe::refused(
            &twice.clone().with("content-type", "application/json"),
            NOT_JSON,
            "content-type",
            WORDS,
        ));
        for coding in ["gzip", "deflate", "br", "zstd", "compress", "identity, gzip", "x-unknown", ""] {
            let ask = twice.clone().with("content-encoding", coding);
            probes.push(Probe::refused(&ask, NOT_JSON, "content-encoding", "without content-encoding"));
        }
    }
    for right in [
        "application/json",
        "APPLICATION/JSON",
        "application/json;charset=utf-8",
        "application/json; charset=\"UTF-8\"; x=y",
    ] {
        let ask = stage.repeat().body(stage.event.as_str()).with("content-type", right);
        probes.push(Probe::good(&ask, 200));
        probes.push(Probe::good(&ask.with("content-encoding", "identity"), 200));
    }
    probes
}
