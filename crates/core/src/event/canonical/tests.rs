use super::*;
use std::fmt::Write as _;

fn canonical(input: &str) -> String {
    match canonicalise(input.as_bytes()) {
        Ok(canonical) => String::from_utf8(canonical.into_body()).expect("UTF-8"),
        Err(problem) => format!("{}: {}", problem.field, problem.problem),
    }
}

fn refused(input: impl AsRef<[u8]>) -> Problem {
    let input = input.as_ref();
    canonicalise(input).expect_err(&String::from_utf8_lossy(input))
}

#[test]
fn keeps_the_bodies_of_the_signature_vectors() {
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("../../../../../vectors/signatures.json")).unwrap();
    let vectors = vectors["vectors"].as_array().unwrap();
    assert!(vectors.len() >= 6);
    for body in vectors.iter().map(|vector| vector["body"].as_str().unwrap()) {
        assert_eq!(canonical(body), body);
    }
}

#[test]
fn writes_objects_as_javascript_does() {
    for (input, output) in [
        (" {\t} \r\n", "{}"),
        (r#"{"a":1}"#, r#"{"a":1}"#),
        (r#" { "b" : [ 1 , [ ] , { } , true,false,null ] , "a" : "" } "#, r#"{"b":[1,[],{},true,false,null],"a":""}"#),
        // `type` and `event` first, at the top only
        (r#"{"x":1,"event":"E","y":2,"type":"T","z":3}"#, r#"{"type":"T","event":"E","x":1,"y":2,"z":3}"#),
        (r#"{"event":"E","x":1}"#, r#"{"event":"E","x":1}"#),
        (r#"{"a":{"x":1,"type":2}}"#, r#"{"a":{"x":1,"type":2}}"#),
        (r#"{"\u0074ype":"T"}"#, r#"{"type":"T"}"#),
        // integer-like keys first, below the top only, and only those that are array indices
        (r#"{"a":{"b":1,"10":2,"9":3,"a":4,"0":5}}"#, r#"{"a":{"0":5,"9":3,"10":2,"b":1,"a":4}}"#),
        (r#"{"a":[{"b":1,"4294967295":2,"4294967294":3}]}"#, r#"{"a":[{"4294967294":3,"b":1,"4294967295":2}]}"#),
        (r#"{"a":{"b":1,"01":2,"-1":3,"1.0":4,"":5,"\u0031":6}}"#, r#"{"a":{"1":6,"b":1,"01":2,"-1":3,"1.0":4,"":5}}"#),
        (r#"{"a":{"c":{"d":1,"2":{"f":1,"3":1}},"1":1}}"#, r#"{"a":{"1":1,"c":{"2":{"3":1,"f":1},"d":1}}}"#),
        (r#"{"a":{"x":1,"99999999999":2}}"#, r#"{"a":{"x":1,"99999999999":2}}"#),
        // ordinary keys
        (r#"{"__proto__":1,"constructor":2,"":3,"-1":4}"#, r#"{"__proto__":1,"constructor":2,"":3,"-1":4}"#),
    ] {
        assert_eq!(canonical(input), output, "{input}");
    }
}

#[test]
fn writes_strings_as_javascript_does() {
    for (input, output) in [
        (r"\b\t\n\f\r\u0022\\\/", r#"\b\t\n\f\r\"\\/"#),
        (r"\u0008\u0009\u000A\u000c\u000D", r"\b\t\n\f\r"),
        (r"\u0000\u000b\u001F\u0020\u007f", "\\u0000\\u000b\\u001f \u{7f}"),
        (r"\u005c\u002f", r"\\/"),
        ("/\u{7f}\u{2028}\u{feff}é日🚀", "/\u{7f}\u{2028}\u{feff}é日🚀"),
        (r"\u00e9\u65E5\ud83d\uDE80\u2028\uffff\uE000", "é日🚀\u{2028}\u{ffff}\u{e000}"),
        (r"\ud800\udc00\udbff\udfff", "\u{10000}\u{10ffff}"),
    ] {
        assert_eq!(canonical(&format!(r#"{{"a":"{input}"}}"#)), format!(r#"{{"a":"{output}"}}"#));
        assert_eq!(canonical(&format!(r#"{{"{input}":0}}"#)), format!(r#"{{"{output}":0}}"#));
    }
}

#[test]
fn reads_back_the_strings_of_members() {
    let input = r#"{"plain":"é","escaped":"\u0000\u001f\"\\\/\b\t\n\f\r\u00e9","empty":"","n":1,"o":{},"a":[],"b":true,"z":null}"#;
    let canonical = canonicalise(input.as_bytes()).unwrap();
    let string = |name| match canonical.member(name) {
        Some(Value::String(text)) => text.into_owned(),
        other => panic!("{other:?}"),
    };
    assert_eq!(string("plain"), "é");
    assert_eq!(string("escaped"), "\0\u{1f}\"\\/\u{8}\t\n\u{c}\ré");
    assert_eq!(string("empty"), "");
    for (name, kind) in
        [("n", Kind::Number), ("o", Kind::Object), ("a", Kind::Array), ("b", Kind::Boolean), ("z", Kind::Null)]
    {
        assert_eq!(canonical.member(name), Some(Value::Other(kind)));
    }
    assert_eq!(canonical.member("absent"), None);
}

#[test]
fn writes_numbers_as_javascript_does() {
    for (input, output) in [
        ("0", "0"),
        ("-0", "0"),
        ("-0.0e-5", "0"),
        ("0e999999999", "0"),
        ("0E-99999999999999999999999999", "0"),
        ("-12", "-12"),
        ("1.0", "1"),
        ("1.50", "1.5"),
        ("1e2", "100"),
        ("1E+2", "100"),
        ("-1200e-2", "-12"),
        ("0.1", "0.1"),
        ("0.000001", "0.000001"),
        ("0.0000001", "1e-7"),
        ("123456789012345", "123456789012345"),
        ("-999999999999999", "-999999999999999"),
        ("9007199254740991", "9007199254740991"),
        ("9007199254740992", "9007199254740992"),
        ("9007199254740994", "9007199254740994"),
        ("1e20", "100000000000000000000"),
        ("100000000000000000000", "100000000000000000000"),
        ("1e21", "1e+21"),
        ("-1000000000000000000000", "-1e+21"),
        ("5e-324", "5e-324"),
        ("1.7976931348623157e308", "1.7976931348623157e+308"),
        ("17976931348623157e292", "1.7976931348623157e+308"),
        ("1e-308", "1e-308"),
        ("10.00", "10"),
    ] {
        assert_eq!(canonical(&format!(r#"{{"a":{input}}}"#)), format!(r#"{{"a":{output}}}"#));
    }
    let zeros = "0".repeat(300_000);
    assert_eq!(canonical(&format!(r#"{{"a":0.{zeros}12e300002}}"#)), r#"{"a":12}"#);
    assert_eq!(canonical(&format!(r#"{{"a":12{zeros}e-300000}}"#)), r#"{"a":12}"#);
    assert_eq!(canonical(&format!(r#"{{"a":1.{zeros}}}"#)), r#"{"a":1}"#);
    assert_eq!(canonical(&format!(r#"{{"a":1e{zeros}1}}"#)), r#"{"a":10}"#);
}

#[test]
fn refuses_numbers_that_javascript_would_change() {
    let nines = "9".repeat(300_000);
    let long = [format!("1e{nines}"), format!("1e-{nines}"), nines.clone(), format!("0.{nines}")];
    let short = [
        "9007199254740993",
        "-9007199254740993",
        "12345678901234567890",
        "1180591620717411303424", // 2^70: the double is exact, what JavaScript writes is not
        "0.1000000000000000055",
        "1.0000000000000000000000001",
        "123456789012345678e-1",
        "1e400",
        "-1e309",
        "1.7976931348623159e308",
        "1e-400",
        "2e-324",
        "4.9e-324",
        "1e9223372036854775808",
        "1e-9223372036854775809",
    ];
    for input in short.into_iter().chain(long.iter().map(String::as_str)) {
        let problem = refused(format!(r#"{{"a":{input}}}"#));
        assert_eq!(problem.field, "a", "{input:.60}");
        assert!(problem.problem.starts_with("JavaScript would turn this number into another one"), "{problem:?}");
    }
}

#[test]
fn names_the_path_of_what_it_refuses() {
    let long = "k".repeat(64);
    for (input, path, problem) in [
        (r#"{"lines":[{},1,{"amount":1e400}]}"#, "lines[2].amount", "another one"),
        (r#"{"a":[[0,[1e400]]]}"#, "a[0][1][0]", "another one"),
        (r#"{"a b":{"":{"5":{"c.d":1e400}}}}"#, r#"["a b"][""]["5"]["c.d"]"#, "another one"),
        (&format!(r#"{{"{long}":1e400}}"#), &long, "another one"),
        (&format!(r#"{{"{long}{long}":{{"x":1e400}}}}"#), &format!("{long}….x"), "another one"),
        (r#"{"a":1,"b":2,"a":3}"#, "a", "twice"),
        (r#"{"o":[{"x":1,"\u0078":2}]}"#, "o[0].x", "twice"),
        (r#"{"o":{"\ud83d\ude80":1,"🚀":2}}"#, r#"o["🚀"]"#, "twice"),
        (r#"{"o":{"__proto__":1,"__proto__":2}}"#, "o.__proto__", "twice"),
        (r#"{"type":1,"type":1}"#, "type", "twice"),
        (r#"{"0":1}"#, r#"["0"]"#, "to the front"),
        (r#"{"a":1,"429496729\u0034":1}"#, r#"["4294967294"]"#, "to the front"),
        (r#"{"a":"\ud800"}"#, "a", "surrogate"),
        (r#"{"a":"\ud800x"}"#, "a", "surrogate"),
        (r#"{"a":["","\udc00"]}"#, "a[1]", "surrogate"),
        (r#"{"a":["","\udc00\ud800"]}"#, "a[1]", "surrogate"),
        (r#"{"a":["","\ud800\u0041"]}"#, "a[1]", "surrogate"),
        (r#"{"a":{"\ud800":1}}"#, "a", "surrogate"),
        ("[]", "", "one JSON object"),
        ("\"a\"", "", "one JSON object"),
        (" -1", "", "one JSON object"),
        ("null", "", "one JSON object"),
    ] {
        let found = refused(input);
        assert_eq!(found.field, path, "{input}");
        assert!(found.problem.contains(problem), "{found:?}");
    }
}

#[test]
fn refuses_what_is_not_json_and_says_where() {
    for (input, at) in [
        ("{a:1}", 1),
        ("{'a':1}", 1),
        (r#"{"a" 1}"#, 5),
        (r#"{"a":}"#, 5),
        (r#"{"a":1,}"#, 7),
        (r#"{,"a":1}"#, 1),
        (r#"{"a":1 "b":2}"#, 7),
        (r#"{"a":[1,]}"#, 8),
        (r#"{"a":[,1]}"#, 6),
        (r#"{"a":[1}"#, 7),
        (r#"{"a":1]"#, 6),
        (r#"{"a":01}"#, 5),
        (r#"{"a":-01}"#, 6),
        (r#"{"a":+1}"#, 5),
        (r#"{"a":.5}"#, 5),
        (r#"{"a":1.}"#, 7),
        (r#"{"a":1.e5}"#, 7),
        (r#"{"a":1e}"#, 7),
        (r#"{"a":1e+}"#, 8),
        (r#"{"a":-}"#, 6),
        (r#"{"a":0x10}"#, 6),
        (r#"{"a":1n}"#, 6),
        (r#"{"a":NaN}"#, 5),
        (r#"{"a":-Infinity}"#, 6),
        (r#"{"a":undefined}"#, 5),
        (r#"{"a":nul}"#, 5),
        (r#"{"a":True}"#, 5),
        (r#"{"a":truex}"#, 9),
        ("{\"a\":\"\n\"}", 6),
        ("{\"a\":\"\0\"}", 6),
        ("{\"a\":\"\u{1f}\"}", 6),
        (r#"{"a":"\x41"}"#, 7),
        (r#"{"a":"\'"}"#, 7),
        (r#"{"a":"\u12g4"}"#, 10),
        (r#"{"a":"\u+123"}"#, 8),
        (r#"{"a":"\ud83d\u12"}"#, 16),
        (r#"{"a":1} x"#, 8),
        (r#"{"a":1}{}"#, 7),
        (r#"{"a":1}//"#, 7),
        (r#"{/**/"a":1}"#, 1),
        ("{\"a\":\u{a0}1}", 5),
        ("{\u{b}}", 1),
        ("\u{feff}{}", 0),
        ("}", 0),
        // the text ends too early
        ("", 0),
        ("  ", 2),
        ("{", 1),
        (r#"{"a"#, 3),
        (r#"{"a""#, 4),
        (r#"{"a":"#, 5),
        (r#"{"a":-"#, 6),
        (r#"{"a":1."#, 7),
        (r#"{"a":1e"#, 7),
        (r#"{"a":1"#, 6),
        (r#"{"a":1,"#, 7),
        (r#"{"a":tr"#, 7),
        (r#"{"a":[1,"#, 8),
        (r#"{"a":"\"#, 7),
        (r#"{"a":"\u00"#, 10),
    ] {
        let problem = refused(input);
        assert_eq!(problem.field, "", "{input}");
        assert!(problem.problem.starts_with("This is not valid JSON: "), "{input}: {problem:?}");
        assert!(problem.problem.ends_with(&format!("at byte {at}.")), "{input}: {problem:?}");
    }
}

#[test]
fn refuses_what_is_not_utf8_and_says_where() {
    for (input, path, at) in [
        (&b"{\"a\":{\"b\":[0,\"x\xff\"]}}"[..], "a.b[1]", 15),
        (b"{\"a\":\"\xed\xa0\x80\"}", "a", 6), // a surrogate half, encoded
        (b"{\"a\":\"\xc0\xaf\"}", "a", 6),     // an overlong slash
        (b"{\"a\":{\"\xe2\x82\":1}}", "a", 7),
        (b"{}\xff", "", 2),
        (b"\xff", "", 0),
        (b"{\"a\":\"\xf0\x9f", "a", 6),
    ] {
        let problem = refused(input);
        assert_eq!(problem.field, path);
        assert!(problem.problem.starts_with(&format!("This is not valid UTF-8 at byte {at} ")), "{problem:?}");
    }
}

#[test]
fn refuses_deep_nesting_without_deep_recursion() {
    let nested = |open: &str, close: &str, levels: usize| {
        format!(r#"{{"a":{}1{}}}"#, open.repeat(levels - 1), close.repeat(levels - 1))
    };
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        let deepest = nested(open, close, MAX_DEPTH);
        assert_eq!(canonical(&deepest), deepest);
        for levels in [MAX_DEPTH + 1, 100_000] {
            let problem = refused(nested(open, close, levels));
            assert!(problem.problem.contains("deeper than 64 levels"), "{problem:?}");
            assert!(problem.field.starts_with('a'));
        }
    }
}

#[test]
fn finds_duplicates_among_many_keys() {
    let keys = |count: usize| {
        let mut object = String::from("{\"x\":{");
        for at in 0..count {
            write!(object, "\"key{at}\":{at},").unwrap();
        }
        object
    };
    for count in [1, 23, 24, 25, 26, 100, 20_000] {
        let good = keys(count) + "\"last\":0}}";
        assert_eq!(canonical(&good), good);
        let middle = count / 2;
        let problem = refused(keys(count) + &format!("\"k\\u0065y{middle}\":0}}}}"));
        assert_eq!(problem.field, format!("x.key{middle}"));
        assert!(problem.problem.contains("twice"));
    }
}

#[test]
fn orders_many_integer_like_keys() {
    let member = |at: usize| format!("\"{at}\":[{at}]");
    let down: Vec<_> = (0..20_000).rev().map(member).collect();
    let up: Vec<_> = (0..20_000).map(member).collect();
    let input = format!("{{\"x\":{{\"a\":0,{},\"b\":1}}}}", down.join(","));
    assert_eq!(canonical(&input), format!("{{\"x\":{{{},\"a\":0,\"b\":1}}}}", up.join(",")));
}
