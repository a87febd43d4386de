//! URLs that must not be registered: other schemes, credentials, ports, addresses in every notation, private names.

use super::probe::{INVALID, MARK, Probe};
use super::stage::Stage;
use serde_json::json;

const SCHEME: &str = "scheme must be https";
const PARTS: &str = "Not a complete URL";
const SPACE: &str = "white space or control characters";
const PRIVATE: &str = "not a public address";
const LITERAL: &str = "is an IP address";
const NAME: &str = "host name is not public";
const PORT: &str = "CAPA_WEBHOOKS_ALLOW_PORTS";
const CREDENTIALS: &str = "Credentials";
const FRAGMENT: &str = "fragment";

const CASES: &[(&str, &str)] = &[
    ("", PARTS),
    (" ", SPACE),
    ("https://", PARTS),
    ("https:", PARTS),
    ("//partner.example/", PARTS),
    ("partner.example", PARTS),
    ("partner.example/hook", PARTS),
    ("https://?x", PARTS),
    ("https://#x", PARTS),
    ("https://:443/", PARTS),
    ("https://partner.example:99999/", PARTS),
    ("https://partner.example:-1/", PARTS),
    ("https://partner.example:x/", PARTS),
    ("https://[::1/", PARTS),
    ("https://[nonsense]/", PARTS),
    ("https://[fe80::1%25eth0]/", PARTS),
    ("https://256.256.256.256/", PARTS),
    ("https://1.2.3.4.5/", PARTS),
    ("https://exa<mple.com/", PARTS),
    ("https://exa%00mple.com/", PARTS),
    ("https://xn--/", PARTS),
    ("http://partner.example:443/", "CAPA_WEBHOOKS_ALLOW_HTTP"),
    ("HTTP://PARTNER.EXAMPLE:443/", "CAPA_WEBHOOKS_ALLOW_HTTP"),
    ("ftp://partner.example/", SCHEME),
    ("file:///etc/passwd", SCHEME),
    ("file://partner.example/etc/passwd", SCHEME),
    ("gopher://partner.example:443/_x", SCHEME),
    ("javascript:alert(1)", SCHEME),
    ("data:text/plain,x", SCHEME),
    ("ws://partner.example/", SCHEME),
    ("wss://partner.example/", SCHEME),
    ("unix:/run/docker.sock", SCHEME),
    ("ldap://partner.example/", SCHEME),
    ("dict://partner.example:443/", SCHEME),
    ("mailto:a@partner.example", SCHEME),
    ("blob:https://partner.example/x", SCHEME),
    ("view-source:https://partner.example/", SCHEME),
    ("https+http://partner.example/", SCHEME),
    ("partner.example:443/hook", SCHEME),
    ("https://user@partner.example/", CREDENTIALS),
    ("https://user:hush-4711@partner.example/", CREDENTIALS),
    ("https://:hush-4711@partner.example/", CREDENTIALS),
    ("https://good.example@partner.example/", CREDENTIALS),
    ("https://partner.example%40x:y@partner.example/", CREDENTIALS),
    ("https://partner.example/#", FRAGMENT),
    ("https://partner.example/#part", FRAGMENT),
    ("https://partner.example:0/", PORT),
    ("https://partner.example:22/", PORT),
    ("https://partner.example:25/", PORT),
    ("https://partner.example:80/", PORT),
    ("https://partner.example:8444/", PORT),
    ("https://partner.example:65535/", PORT),
    ("https://8.8.8.8/", LITERAL),
    ("https://134744072/", LITERAL),
    ("https://[2606:4700:4700::1111]/", LITERAL),
    ("https://[::ffff:8.8.8.8]/", LITERAL),
    ("https://0/", PRIVATE),
    ("https://0.0.0.0/", PRIVATE),
    ("https://127.0.0.1/", PRIVATE),
    ("https://127.1/", PRIVATE),
    ("https://127.0.0.1./", PRIVATE),
    ("https://127.255.255.254/", PRIVATE),
    ("https://2130706433/", PRIVATE),
    ("https://0x7f000001/", PRIVATE),
    ("https://0x7f.0x0.0x0.0x1/", PRIVATE),
    ("https://0177.0.0.1/", PRIVATE),
    ("https://017700000001/", PRIVATE),
    ("https://%31%32%37.0.0.1/", PRIVATE),
    ("https://①②⑦.⓪.⓪.①/", PRIVATE),
    ("https://１２７.０.０.１/", PRIVATE),
    ("https://127。0。0。1/", PRIVATE),
    ("https://10.0.0.1/", PRIVATE),
    ("https://172.16.0.1/", PRIVATE),
    ("https://192.168.1.1/", PRIVATE),
    ("https://100.64.0.1/", PRIVATE),
    ("https://169.254.169.254/latest/meta-data/", PRIVATE),
    ("https://0xa9fea9fe/", PRIVATE),
    ("https://2852039166/", PRIVATE),
    ("https://169.254.170.2/v2/credentials", PRIVATE),
    ("https://100.100.100.200/", PRIVATE),
    ("https://192.0.0.192/opc/v2/", PRIVATE),
    ("https://198.18.0.1/", PRIVATE),
    ("https://192.0.2.1/", PRIVATE),
    ("https://224.0.0.1/", PRIVATE),
    ("https://255.255.255.255/", PRIVATE),
    ("https://[::]/", PRIVATE),
    ("https://[::1]/", PRIVATE),
    ("https://[0:0:0:0:0:0:0:1]/", PRIVATE),
    ("https://[::ffff:127.0.0.1]/", PRIVATE),
    ("https://[::ffff:7f00:1]/", PRIVATE),
    ("https://[::127.0.0.1]/", PRIVATE),
    ("https://[64:ff9b::a9fe:a9fe]/", PRIVATE),
    ("https://[2002:7f00:1::]/", PRIVATE),
    ("https://[2001:db8::1]/", PRIVATE),
    ("https://[fe80::1]/", PRIVATE),
    ("https://[fc00::1]/", PRIVATE),
    ("https://[fd00:ec2::254]/latest/meta-data/", PRIVATE),
    ("https://[ff02::1]/", PRIVATE),
    ("https://localhost/", NAME),
    ("https://LOCALHOST/", NAME),
    ("https://localhost./", NAME),
    ("https://a.localhost/", NAME),
    ("https://ｌｏｃａｌｈｏｓｔ/", NAME),
    ("https://loc%61lhost/", NAME),
    ("https://metadata/", NAME),
    ("https://metadata.google.internal/computeMetadata/v1/", NAME),
    ("https://METADATA.GOOGLE.INTERNAL./", NAME),
    ("https://kubernetes.default.svc.cluster.local/", NAME),
    ("https://printer.local/", NAME),
    ("https://router.home.arpa/", NAME),
    ("https://intranet/", NAME),
    ("https://wiki.intranet/", NAME),
    ("https://x.onion/", NAME),
    ("https://com/", NAME),
    ("https://partner.example/a b", SPACE),
    ("https://partner.example/a\tb", SPACE),
    ("https://partner.example/a\nb", SPACE),
    ("https://partner.example/\r\nx-injected: 1", SPACE),
    ("https://partner.example/\u{0}", SPACE),
    ("https://partner.example/\u{7f}", SPACE),
    ("https://partner.example/\u{a0}", SPACE),
    ("https://partner.example/\u{2028}", SPACE),
    ("\thttps://partner.example/", SPACE),
    ("https://partner.example/ ", SPACE),
    ("ht\ntps://partner.example/", SPACE),
];

pub(super) fn probes(stage: &Stage) -> Vec<Probe> {
    let mut probes = Vec::new();
    for (url, words) in CASES {
        let body = json!({ "url": url }).to_string();
        probes.push(Probe::refused(&stage.settings().json(body), INVALID, "url", words));
    }
    for length in [2049, 60_000] {
        let url = format!("https://partner.example/{}", "a".repeat(length - "https://partner.example/".len()));
        let body = json!({ "url": url }).to_string();
        probes.push(Probe::refused(&stage.settings().json(body), INVALID, "url", "2048 bytes"));
    }
    // The other ways in go through the same gate.
    for (url, words) in
        [("https://127.1/", PRIVATE), ("http://partner.example:443/", "ALLOW_HTTP"), ("https://[::1]/", PRIVATE)]
    {
        let body = json!({ "url": url }).to_string();
        probes.push(Probe::refused(
            &stage.ask("PUT", "v1/webhook-settings").json(body.as_str()),
            INVALID,
            "url",
            words,
        ));
        let path = format!("partners/{}/webhook-settings", stage.partner.id);
        probes.push(Probe::refused(&stage.ask_platform("PUT", &path).json(body), INVALID, "url", words));
        let body = json!({"name": "x", "url": url}).to_string();
        probes.push(Probe::refused(&stage.ask_platform("POST", "partners").json(body), INVALID, "url", words));
    }
    let everything = json!({"url": format!("http://{MARK}:x@127.0.0.1:22/#x")}).to_string();
    probes.push(Probe::several(&stage.settings().json(everything), 5));
    probes
}
