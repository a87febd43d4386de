use super::*;
use catalogue::CatalogueAdditions;

fn parsed(input: &str) -> Result<Event, Vec<Problem>> {
    parse(input.as_bytes(), &Catalogue::built_in())
}

/// The problems as `field: problem` lines.
fn problems(input: &str) -> Vec<String> {
    let found = parsed(input).expect_err(input);
    found.into_iter().map(|Problem { field, problem }| format!("{field}: {problem}")).collect()
}

#[test]
fn reads_an_event() {
    let event = parsed(
        r#" { "externalUserId" : "u\u002f1" , "event":"COMPLETED_ON_RAMP", "transactionId":"t\"1",
            "more": {"b": 1.0, "1": null}, "fiatAmount":"10.00", "type":"TRANSACTION" } "#,
    )
    .unwrap();
    assert_eq!(event.kind, "TRANSACTION");
    assert_eq!(event.name, "COMPLETED_ON_RAMP");
    assert_eq!(event.external_user_id, "u/1");
    assert_eq!(event.transaction_id.as_deref(), Some("t\"1"));
    assert_eq!(
        event.body,
        r#"{"type":"TRANSACTION","event":"COMPLETED_ON_RAMP","externalUserId":"u/1","transactionId":"t\"1","more":{"1":null,"b":1},"fiatAmount":"10.00"}"#
    );
    assert_eq!(format!("{event:?}"), r#"Event { kind: "TRANSACTION", name: "COMPLETED_ON_RAMP", .. }"#);
}

#[test]
fn lets_unknown_fields_through_and_takes_no_id_from_them() {
    let body = r#"{"type":"KYC","event":"VERIFIED_USER","externalUserId":"u","transactionId":7,"firstName":null}"#;
    let event = parsed(body).unwrap();
    assert_eq!(event.body, body);
    assert_eq!(event.transaction_id, None);
}

#[test]
fn counts_characters_not_bytes() {
    let with_user = |user: &str| format!(r#"{{"type":"KYC","event":"CREATED_KYC","externalUserId":"{user}"}}"#);
    for user in ["x", &"🚀".repeat(256), &r"\n".repeat(256), &r"\u001f".repeat(256)] {
        parsed(&with_user(user)).unwrap();
    }
    for (user, problem) in [
        ("", "externalUserId: This is empty; give 1 to 256 characters."),
        (&"x".repeat(257), "externalUserId: This is too long; give 1 to 256 characters."),
        (&"🚀".repeat(257), "externalUserId: This is too long; give 1 to 256 characters."),
        (&r"\n".repeat(257), "externalUserId: This is too long; give 1 to 256 characters."),
    ] {
        assert_eq!(problems(&with_user(user)), [problem]);
    }
}

#[test]
fn reports_everything_that_is_wrong() {
    const USER_MISSING: &str = "externalUserId: This field is missing; give a string of 1 to 256 characters.";
    const TRANSACTION_MISSING: &str = "transactionId: This field is missing; give a string of 1 to 256 characters.";
    for (input, expected) in [
        (
            "{}",
            &[
                "type: This field is missing; give the type of the event: KYC, TRANSACTION.",
                "event: This field is missing; give the name of the event, such as CREATED_KYC.",
                USER_MISSING,
            ][..],
        ),
        (
            r#"{"type":1,"event":null,"externalUserId":[]}"#,
            &[
                "type: This must be a string, not a number; give the type of the event: KYC, TRANSACTION.",
                "event: This must be a string, not null; give the name of the event, such as CREATED_KYC.",
                "externalUserId: This must be a string, not an array; give a string of 1 to 256 characters.",
            ],
        ),
        (
            r#"{"type":"TRANSACTION","event":"COMPLETED_ON_RAMP","fiatAmount":10,"firstName":null,"more":1}"#,
            &[
                USER_MISSING,
                TRANSACTION_MISSING,
                "firstName: This must be a string, not null; leave it out when there is none.",
                "fiatAmount: This must be a string, not a number; leave it out when there is none.",
            ],
        ),
        (
            r#"{"type":"TRANSACTION","event":"COMPLETED","externalUserId":"u"}"#,
            &["event: There is no such event; did you mean COMPLETED_ON_RAMP?", TRANSACTION_MISSING],
        ),
        (
            r#"{"type":"TRANSACTION","externalUserId":"u","transactionId":"t"}"#,
            &["event: This field is missing; give the name of the event, such as CREATED_ON_RAMP."],
        ),
        (
            r#"{"type":"kyc","event":"verified_user","externalUserId":"u"}"#,
            &[
                "type: There is no such type; did you mean KYC?",
                "event: There is no such event; did you mean VERIFIED_USER?",
            ],
        ),
        (
            r#"{"type":"TRANSACTION","event":"VERIFIED_USER","externalUserId":"u","transactionId":"t"}"#,
            &["event: VERIFIED_USER is an event of the type KYC, not of TRANSACTION; change one of the two."],
        ),
        (
            r#"{"type":"KYC","event":"COMPLETED_ON_RAM","externalUserId":"u"}"#,
            &["event: There is no such event; did you mean COMPLETED_ON_RAMP, which is of the type TRANSACTION?"],
        ),
        (
            r#"{"type":"ZZZ","event":"77","externalUserId":"u"}"#,
            &[
                "type: There is no such type; known are KYC, TRANSACTION.",
                "event: There is no such event; known are CREATED_KYC, VERIFIED_USER, REJECTED_KYC, REVIEW_NEEDED_KYC, \
                 CREATED_ON_RAMP, FIAT_RECEIVED_ON_RAMP, COMPLETED_ON_RAMP, CANCELLED_ON_RAMP, CREATED_OFF_RAMP, \
                 RECEIVED_USER_CRYPTO, CRYPTO_RECEIVED_OFF_RAMP, COMPLETED_OFF_RAMP, ….",
            ],
        ),
        (
            r#"{"type":"ZZZ","event":"VERIFIED_USER","externalUserId":"u"}"#,
            &["type: There is no such type; known are KYC, TRANSACTION."],
        ),
    ] {
        assert_eq!(problems(input), expected, "{input}");
    }
}

#[test]
fn quotes_no_value() {
    let long = "Z\\n".repeat(100_000);
    let found = problems(&format!(
        r#"{{"type":"{long}","event":"{long}","externalUserId":7777,"transactionId":"8888","firstName":9999}}"#
    ));
    assert!(found.len() >= 3, "{found:?}");
    for value in ["Z", "7777", "8888", "9999"] {
        assert!(!found.iter().any(|problem| problem.contains(value)), "{value}: {found:?}");
    }
}

#[test]
fn reports_one_problem_where_there_is_no_canonical_form() {
    for input in ["", "[]", "{", r#"{"type":"X","a":1e999,"b":1e999}"#, r#"{"type":1,"type":2,"0":1}"#] {
        assert_eq!(problems(input).len(), 1, "{input}");
    }
    assert_eq!(parse(b"{\"a\":\"\xff\"}", &Catalogue::built_in()).unwrap_err().len(), 1);
}

#[test]
fn follows_what_the_operator_added() {
    let additions: CatalogueAdditions = toml::from_str(
        r#"
        types = [{ name = "CARD", required = ["cardId"] }]
        events = [
            { type = "CARD", name = "ISSUED_CARD", fields = ["network", "transactionId"] },
            { type = "KYC", name = "VERIFIED_USER", fields = ["level"] },
        ]
        "#,
    )
    .unwrap();
    let mut catalogue = Catalogue::built_in();
    catalogue.extend(additions).unwrap();
    let fields = |input: &str| -> Vec<String> {
        parse(input.as_bytes(), &catalogue).err().into_iter().flatten().map(|problem| problem.field).collect()
    };
    for (input, expected) in [
        (r#"{"type":"CARD","event":"ISSUED_CARD","externalUserId":"u","cardId":"c"}"#, &[][..]),
        (r#"{"type":"CARD","event":"ISSUED_CARD","cardId":"","network":1}"#, &["externalUserId", "cardId", "network"]),
        (
            r#"{"type":"CARD","event":"ISSUED_CARD","externalUserId":"u","cardId":"c","transactionId":""}"#,
            &["transactionId"],
        ),
        (r#"{"type":"KYC","event":"VERIFIED_USER","externalUserId":"u","level":2}"#, &["level"]),
    ] {
        assert_eq!(fields(input), expected, "{input}");
    }
    let issued = r#"{"type":"CARD","event":"ISSUED_CARD","externalUserId":"u","cardId":"c","transactionId":"t"}"#;
    assert_eq!(parse(issued.as_bytes(), &catalogue).unwrap().transaction_id.as_deref(), Some("t"));
}
