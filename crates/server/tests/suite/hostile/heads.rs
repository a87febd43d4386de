//! Request lines and header fields that break the rules of HTTP, or come in excess.

use super::probe::{INVALID, MARK, NO_ROUTE, NOT_JSON, Probe};
use super::stage::Stage;
use super::wire::{Ask, Then};

pub(super) fn probes(stage: &Stage) -> Vec<Probe> {
    let mut probes = request_lines();
    probes.extend(fields(stage));
    probes.extend(excess(stage));
    probes.extend(hosts(stage));
    probes
}

fn request_lines() -> Vec<Probe> {
    let mut probes = Vec::new();
    for line in [
        "GET",
        "GET /",
        "GET / ",
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        " GET / HTTP/1.1",
        "\tGET / HTTP/1.1",
        "GET\t/\tHTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET / HTTP/1.1 x",
        "GET / http/1.1",
        "GET / HTTP/1",
        "GET / HTTP/1.2",
        "GET / HTTP/2",
        "GET / HTTP/2.0",
        "GET / HTTP/0.9",
        "GET / HTTP/9.9",
        "GET / HTTP/11",
        "GET / HTTP/1.1.1",
        "GET / HTCPCP/1.0",
        "GET / ICY",
        "/ GET HTTP/1.1",
        "GET HTTP/1.1",
        "G\u{0}T / HTTP/1.1",
        "G(T / HTTP/1.1",
        "GÉT / HTTP/1.1",
        "GET /\u{0} HTTP/1.1",
        "GET /\u{1} HTTP/1.1",
        "GET /\u{7f} HTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET ../../etc/passwd HTTP/1.1",
        "GET http:// HTTP/1.1",
        "GET http://[::1/ HTTP/1.1",
        "\u{feff}GET / HTTP/1.1",
        "HTTP/1.1 200 OK",
        "*1\r\n$4\r\nPING",
        "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}",
        "SSH-2.0-OpenSSH_9.2",
        "EHLO suite.example",
        "{\"type\":\"KYC\"}",
        "<policy-file-request/>",
    ] {
        probes.push(Probe::unreadable(format!("{line}\r\nhost: x\r\nconnection: close\r\n\r\n")));
    }
    // What could be the name of a host names no path.
    for target in ["nonsense", "suite.example:80", "://x/"] {
        probes.push(Probe::refused(&Ask::new("GET", target), NO_ROUTE, "", "docs/api.md"));
    }
    // A caller that speaks HTTP/2 cannot read an answer of HTTP/1.1, and gets none.
    probes.push(Probe::silence("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
    // Empty lines before a request are the rest of something else.
    let answered = "\r\n\r\n\r\nGET /nowhere HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    probes.push(Probe::raw_refused(answered, NO_ROUTE, "", "docs/api.md"));
    // Lines that end in a bare line feed are read as most servers read them.
    let bare = "GET /nowhere HTTP/1.1\nhost: x\nconnection: close\n\n";
    probes.push(Probe::raw_refused(bare, NO_ROUTE, "", "docs/api.md"));
    probes.push(Probe::unreadable("GET / HTTP/1.1\rhost: x\rconnection: close\r\r"));
    probes
}

fn fields(stage: &Stage) -> Vec<Probe> {
    let mut probes = Vec::new();
    for field in [
        "no colon",
        ": no name",
        "x : space before the colon",
        "x\t: y",
        " x: folded",
        "x: y\r\n folded",
        "x: y\r\n\tfolded",
        "x y: z",
        "x\u{0}: y",
        "x\u{7f}: y",
        "é: y",
        "x(y): z",
        "x{y}: z",
        "\"x\": y",
        "x@y: z",
        "x: \u{0}",
        "x: a\u{0}b",
        "x: a\u{1}b",
        "x: a\u{8}b",
        "x: a\u{1b}[31mb",
        "x: a\u{7f}b",
        "x: a\rb",
    ] {
        let head = format!("GET /nowhere HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{field}\r\n\r\n");
        probes.push(Probe::unreadable(head));
    }
    // Odd and allowed: a value may hold any byte above the controls, and nobody looks at it.
    for value in [&b"\xff\xfe"[..], "schlüssel".as_bytes(), b"", b"\t a \t", b"() { :; }; echo x", b"${jndi:ldap://x/}"]
    {
        probes.push(Probe::good(&stage.ask("GET", "v2/webhook-settings").with("x-odd", value), 200));
        probes.push(Probe::good(&stage.ask("GET", "v2/webhook-settings").with("user-agent", value), 200));
    }
    // What other servers obey.
    for (name, value) in [
        ("x-forwarded-for", "127.0.0.1"),
        ("x-original-url", "/metrics"),
        ("x-rewrite-url", "/metrics"),
        ("forwarded", "for=127.0.0.1;host=localhost"),
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("upgrade", "h2c"),
        ("te", "trailers"),
        ("range", "bytes=0-"),
        ("if-none-match", "*"),
        ("accept", "text/html"),
        ("accept-encoding", "gzip"),
        ("origin", "https://evil.example"),
        ("cookie", "partner-api-key=x"),
        ("max-forwards", "0"),
    ] {
        probes.push(Probe::good(&stage.ask("GET", "v2/webhook-settings").with(name, value), 200));
    }
    let expects = stage.repeat().json(stage.event.as_str()).with("expect", "something-else");
    probes.push(Probe::good(&expects, 200));
    probes.push(Probe::good(&stage.repeat().json(stage.event.as_str()).with("expect", "100-continue"), 200));
    // A body that nobody asked for.
    let asked = stage.ask("GET", "v2/webhook-settings").json(vec![b'x'; 100_000]);
    probes.push(Probe::good(&asked, 200));
    let type_in_other_words = stage.repeat().body(stage.event.as_str()).with("content_type", "application/json");
    probes.push(Probe::refused(&type_in_other_words, NOT_JSON, "content-type", "application/json"));
    probes
}

fn excess(stage: &Stage) -> Vec<Probe> {
    let mut probes = Vec::new();
    let ask = || stage.ask("GET", "v2/webhook-settings");
    let many = |count: usize| (0..count).fold(ask(), |ask, number| ask.with(&format!("x-{number}"), MARK));
    // Three are there: host, connection and the key.
    probes.push(Probe::good(&many(61), 200));
    for count in [62, 100, 1000, 5000] {
        probes.push(Probe::too_much_head(many(count).bytes()));
    }
    probes.push(Probe::good(&ask().with("x-long", vec![b'a'; 30_000]), 200));
    for length in [33_000, 70_000, 1_000_000] {
        probes.push(Probe::too_much_head(ask().with("x-long", vec![b'a'; length]).bytes()));
        let name = "a".repeat(length);
        probes.push(Probe::too_much_head(ask().with(&name, "x").bytes()));
        let long = Ask::new("GET", &format!("/{}", "a".repeat(length)));
        probes.push(Probe::too_much_head(long.bytes()));
        let query = Ask::new("GET", &format!("/api/partner/v2/webhook-notifications?{}", "a=1&".repeat(length / 4)));
        probes.push(Probe::too_much_head(query.bytes()));
    }
    // A head that never ends, of a caller that waits for the answer.
    let endless = [ask().bytes()[..100].to_vec(), b"a".repeat(40_000)].concat();
    probes.push(Probe::too_much_head(endless.clone()));
    probes.push(Probe::too_much_head(endless).then(Then::HalfClose));
    // Who breaks off in the middle of a head is told nothing.
    probes.push(Probe::silence(vec![b'A'; 10_000]).then(Then::HalfClose));
    probes
}

fn hosts(stage: &Stage) -> Vec<Probe> {
    let mut probes = Vec::new();
    const WORDS: &str = "give it once";
    for ask in [stage.ask("GET", "v1/webhook-settings"), stage.ask("GET", "v2/webhook-settings")] {
        probes.push(Probe::refused(&ask.clone().without("host"), INVALID, "host", WORDS));
        probes.push(Probe::refused(&ask.clone().with("host", "suite.example"), INVALID, "host", WORDS));
        probes.push(Probe::refused(&ask.with("Host", "evil.example"), INVALID, "host", WORDS));
    }
    // The whole URL in the place of the path, as proxies are asked; and a host that is somebody else's.
    let key = stage.partner.key.as_str();
    let absolute = Ask::new("GET", "http://suite.example/api/partner/v2/webhook-settings");
    probes.push(Probe::good(&absolute.with("partner-api-key", key), 200));
    let elsewhere = Ask::new("GET", "http://169.254.169.254/latest/meta-data/");
    probes.push(Probe::refused(&elsewhere, NO_ROUTE, "", "docs/api.md"));
    for host in ["evil.example", "", "localhost", "169.254.169.254", "a, b"] {
        let ask = Ask::new("GET", "/api/partner/v2/webhook-settings").without("host").with("host", host);
        probes.push(Probe::good(&ask.with("partner-api-key", key), 200));
    }
    probes
}
