//! Where a request ends: lengths and chunks that lie, bodies that break off, one request hidden in another.

use super::probe::{INVALID, Probe, TOO_LARGE, UNKNOWN};
use super::stage::Stage;
use super::wire::{Ask, Then};

pub(super) fn probes(stage: &Stage) -> Vec<Probe> {
    let mut probes = lengths(stage);
    probes.extend(chunks(stage));
    probes.extend(cut_off(stage));
    probes.extend(transfer_encodings(stage));
    probes.extend(hidden(stage));
    probes
}

fn repeat(stage: &Stage) -> Ask {
    stage.repeat().json(stage.event.as_str()).unmeasured()
}

fn lengths(stage: &Stage) -> Vec<Probe> {
    let length = stage.event.len();
    let mut probes = Vec::new();
    for value in [
        format!("+{length}"),
        format!("-{length}"),
        "-1".to_owned(),
        format!("{length}.0"),
        format!("{length}e0"),
        format!("0x{length:x}"),
        format!("{length} {length}"),
        format!("{length},"),
        format!("{length}, {}", length + 1),
        format!("{length}\u{b}"),
        String::new(),
        " ".to_owned(),
        "abc".to_owned(),
        "٣".to_owned(),
        "18446744073709551616".to_owned(),
        "99999999999999999999999999".to_owned(),
        format!("{length};x"),
        format!("\"{length}\""),
    ] {
        probes.push(Probe::unreadable(repeat(stage).with("content-length", value).bytes()));
    }
    for value in ["18446744073709551615", "18446744073709551614"] {
        probes.push(Probe::too_much_head(repeat(stage).with("content-length", value).bytes()));
    }
    let twice = |first: usize, second: usize| {
        repeat(stage).with("content-length", first.to_string()).with("Content-Length", second.to_string())
    };
    probes.push(Probe::unreadable(twice(length, length + 1).bytes()));
    probes.push(Probe::unreadable(twice(0, length).bytes()));
    // The same length twice can be read in one way only.
    probes.push(Probe::good(&twice(length, length), 200));
    // A length that is far beyond what is taken is refused before the body comes.
    for claimed in ["9223372036854775807", "8388609", "262145"] {
        let ask = stage.repeat().with("content-type", "application/json").unmeasured().with("content-length", claimed);
        probes.push(Probe::refused(&ask, TOO_LARGE, "", "262144 bytes").then(Then::HalfClose));
        let waits = ask.with("expect", "100-continue");
        probes.push(Probe::refused(&waits, TOO_LARGE, "", "262144 bytes"));
    }
    // Without a length there is no body, and an empty body is no event.
    let none = stage.repeat().with("content-type", "application/json").unmeasured();
    probes.push(Probe::refused(&none, INVALID, "", "ends too early"));
    // Too short a length cuts the event off.
    let short = repeat(stage).with("content-length", (length - 1).to_string());
    probes.push(Probe::refused(&short, INVALID, "", "ends too early"));
    probes
}

fn chunks(stage: &Stage) -> Vec<Probe> {
    const WHOLE: &str = "did not arrive whole";
    let ask = || stage.repeat().with("content-type", "application/json");
    let (event, length) = (&stage.event, stage.event.len());
    let mut probes = Vec::new();
    let last = "0\r\n\r\n";
    for good in [
        format!("{length:x}\r\n{event}\r\n{last}"),
        format!("{length:X}\r\n{event}\r\n{last}"),
        format!("{length:08x}\r\n{event}\r\n{last}"),
        format!("{length:x};name=value\r\n{event}\r\n{last}"),
        format!("{length:x};a=\"b\";c\r\n{event}\r\n0;end\r\n\r\n"),
        format!("{length:x}\r\n{event}\r\n0\r\nx-trailer: 1\r\n\r\n"),
        event.bytes().map(|byte| format!("1\r\n{}\r\n", char::from(byte))).collect::<String>() + last,
    ] {
        probes.push(Probe::good(&ask().chunked(good), 200));
    }
    for broken in [
        "\r\n".to_owned(),
        "x\r\n".to_owned(),
        format!("-1\r\n{event}\r\n{last}"),
        format!("+{length:x}\r\n{event}\r\n{last}"),
        format!("0x{length:x}\r\n{event}\r\n{last}"),
        format!(" {length:x}\r\n{event}\r\n{last}"),
        format!("{length:x}\r\n{event}{last}"),
        format!("{:x}\r\n{event}\r\n{last}", length - 1),
        format!("{:x}\r\n{event}\r\n{last}", length + 1),
        format!("{length:x}\n{event}\n0\n\n"),
        format!("{length:x}\r{event}\r\n{last}"),
        format!("10000000000000000\r\n{event}\r\n{last}"),
        format!("ffffffffffffffffffffffff\r\n{event}\r\n{last}"),
        format!("{length:x};{}\r\n{event}\r\n{last}", "e".repeat(64 * 1024)),
        format!("{length:x};a\nb\r\n{event}\r\n{last}"),
        format!("{length:x}\r\n{event}\r\n0\r\n{}\r\n", "x-trailer: 1\r\n".repeat(2000)),
        format!("{length:x}\r\n{event}\r\n0\r\n{}: 1\r\n\r\n", "t".repeat(64 * 1024)),
    ] {
        probes.push(Probe::refused(&ask().chunked(broken), INVALID, "", WHOLE));
    }
    // A chunk that claims to be huge is taken as far as the limit goes.
    let huge = format!("fffffffffffffff\r\n{}", " ".repeat(300 * 1024));
    probes.push(Probe::refused(&ask().chunked(huge), TOO_LARGE, "", "262144 bytes").then(Then::HalfClose));
    // Chunks of an event that never ends.
    let endless = format!("1000\r\n{}\r\n", " ".repeat(4096)).repeat(100);
    probes.push(Probe::refused(&ask().chunked(endless), TOO_LARGE, "", "262144 bytes").then(Then::HalfClose));
    probes
}

fn cut_off(stage: &Stage) -> Vec<Probe> {
    const WHOLE: &str = "did not arrive whole";
    let bytes = repeat(stage).with("content-length", stage.event.len().to_string()).bytes();
    let head = bytes.len() - stage.event.len();
    let mut probes = Vec::new();
    for kept in [head, head + 1, bytes.len() - 1] {
        let cut = &bytes[..kept];
        probes.push(Probe::raw_refused(cut, INVALID, "", WHOLE).then(Then::HalfClose));
        probes.push(Probe::silence(cut).then(Then::Leave));
    }
    for kept in [1, 4, 20, head - 2] {
        probes.push(Probe::silence(&bytes[..kept]).then(Then::Leave));
    }
    probes.push(Probe::silence("").then(Then::HalfClose));
    let chunked = |body: &str| stage.repeat().with("content-type", "application/json").chunked(body);
    for cut in ["", "5", "5\r\n", "5\r\n{", "5\r\n{    \r\n", "5\r\n{    \r\n0\r\n"] {
        probes.push(Probe::refused(&chunked(cut), INVALID, "", WHOLE).then(Then::HalfClose));
        probes.push(Probe::silence(chunked(cut).bytes()).then(Then::Leave));
    }
    // All of it came, and then the caller closes its side: it still hears the answer.
    let whole = repeat(stage).with("content-length", stage.event.len().to_string());
    probes.push(Probe::good(&whole, 200).then(Then::HalfClose));
    probes
}

fn transfer_encodings(stage: &Stage) -> Vec<Probe> {
    let body = format!("{:x}\r\n{}\r\n0\r\n\r\n", stage.event.len(), stage.event);
    let ask = || stage.repeat().with("content-type", "application/json").body(body.as_str()).unmeasured();
    let mut probes = Vec::new();
    // Not chunked in the end: nobody can tell where it ends.
    for value in [
        "identity",
        "gzip",
        "chunked, identity",
        "chunked, gzip",
        "chunked;q=1",
        "chunked,",
        "xchunked",
        "chunke",
        "\"chunked\"",
        "",
        "chunked\u{b}",
        "cow",
    ] {
        probes.push(Probe::unreadable(ask().with("transfer-encoding", value).bytes()));
    }
    // Chunked in the end, and something else that a proxy may read otherwise.
    for value in ["gzip, chunked", "identity, chunked", "chunked, chunked", "x, chunked", ", chunked", ",chunked"] {
        let ask = ask().with("transfer-encoding", value);
        probes.push(Probe::refused(&ask, INVALID, "transfer-encoding", "Only `chunked`"));
    }
    for (first, second) in [("chunked", "chunked"), ("gzip", "chunked"), ("x", "chunked")] {
        let ask = ask().with("transfer-encoding", first).with("Transfer-Encoding", second);
        probes.push(Probe::refused(&ask, INVALID, "transfer-encoding", "given once"));
    }
    let ask = ask().with("transfer-encoding", "chunked").with("transfer-encoding", "identity");
    probes.push(Probe::unreadable(ask.bytes()));
    for line in [
        "transfer-encoding : chunked",
        " transfer-encoding: chunked",
        "transfer\u{1}encoding: chunked",
        "transfer-encoding\t: chunked",
        "x: y\rtransfer-encoding: chunked",
    ] {
        let head = format!("POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{line}\r\n\r\n{body}");
        probes.push(Probe::unreadable(head));
    }
    let old = format!("POST / HTTP/1.0\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n{body}");
    probes.push(Probe::unreadable(old));
    for value in ["Chunked", "CHUNKED", " chunked\t"] {
        let chunked = stage.repeat().with("content-type", "application/json").body(body.as_str()).unmeasured();
        probes.push(Probe::good(&chunked.with("transfer-encoding", value), 200));
    }
    probes
}

/// A second request in the body or behind a refusal. Whoever hides it must never get an answer to it.
fn hidden(stage: &Stage) -> Vec<Probe> {
    let keep = |ask: Ask| ask.without("connection");
    let hidden = stage.ask("DELETE", "v2/hidden").bytes();
    let mut probes = Vec::new();
    // Chunks win over the length, the connection closes after it, and what is hidden is not looked at.
    for names in [["content-length", "transfer-encoding"], ["transfer-encoding", "content-length"]] {
        let mut ask = keep(repeat(stage));
        for name in names {
            let value = if name == "content-length" { "4" } else { "chunked" };
            ask = ask.with(name, value);
        }
        let body = format!("{:x}\r\n{}\r\n0\r\n\r\n", stage.event.len(), stage.event);
        let body = [body.as_bytes(), &hidden].concat();
        probes.push(Probe::good(&ask.clone().body(body), 200));
        let empty = [b"0\r\n\r\n".as_slice(), &hidden].concat();
        probes.push(Probe::refused(&ask.body(empty), INVALID, "", "ends too early"));
    }
    // Behind a good one on a connection that stays open, what cannot be read is refused, and the connection ends.
    let good = keep(stage.repeat().json(stage.event.as_str())).bytes();
    for (count, rest) in [(1, "\0\0\0"), (2, "GARBAGE\r\n\r\n"), (3, "GET / HTTP/9.9\r\n\r\n")] {
        let bytes = [good.repeat(count), rest.into()].concat();
        probes.push(Probe::good_then_refused(bytes, count, INVALID));
    }
    // Pipelined behind one another, each gets its own answer, and the refused one does not drag the next along.
    let wrong_key =
        keep(Ask::new("GET", "/api/partner/v2/webhook-settings").with("partner-api-key", stage.revoked.as_str()));
    let bytes = [good.clone(), good.clone(), wrong_key.with("connection", "close").bytes(), hidden.clone()].concat();
    probes.push(Probe::good_then_refused(bytes, 2, UNKNOWN));
    // What follows a body that was refused for its size is not taken for a request.
    let large = keep(stage.settings().json(vec![b' '; 20 * 1024 * 1024]));
    let bytes = [large.bytes(), hidden].concat();
    probes.push(Probe::raw_refused(bytes, TOO_LARGE, "", "65536 bytes").then(Then::HalfClose));
    probes
}
