//! Known and unknown events, and what is refused.

use serde_json::{Value, json};

use super::{Event, EventError, KycEventName, TransactionEventName};

fn read(body: &Value) -> Result<Event, EventError> {
    Event::from_slice(body.to_string().as_bytes())
}

#[test]
fn a_completed_purchase_has_every_field_in_its_place() {
    let event = read(&json!({
        "type": "TRANSACTION", "event": "COMPLETED_ON_RAMP", "externalUserId": "u", "transactionId": "t",
        "blockchain": "Polygon PoS", "cryptoCurrency": "USDC", "fiatCurrency": "MXN", "firstName": "SATOSHI",
        "lastName": "NAKAMOTO", "fiatAmount": "10.00", "cryptoAmount": "0.578031", "exchangeRate": "17.300119008048114",
    }));
    let Ok(Event::Transaction(event)) = event else { panic!("{event:?}") };
    assert_eq!(event.event, TransactionEventName::CompletedOnRamp);
    assert_eq!((event.external_user_id.as_str(), event.transaction_id.as_str()), ("u", "t"));
    let fields = [
        (&event.first_name, "SATOSHI"),
        (&event.last_name, "NAKAMOTO"),
        (&event.blockchain, "Polygon PoS"),
        (&event.crypto_currency, "USDC"),
        (&event.fiat_currency, "MXN"),
        (&event.fiat_amount, "10.00"),
        (&event.crypto_amount, "0.578031"),
        (&event.exchange_rate, "17.300119008048114"),
    ];
    for (field, expected) in fields {
        assert_eq!(field.as_deref(), Some(expected));
    }
    assert!(event.further.is_empty());
}

#[test]
fn every_known_name_is_known_and_keeps_its_spelling() {
    let kyc = ["CREATED_KYC", "VERIFIED_USER", "REJECTED_KYC", "REVIEW_NEEDED_KYC"];
    let transaction = [
        "CREATED_ON_RAMP",
        "FIAT_RECEIVED_ON_RAMP",
        "COMPLETED_ON_RAMP",
        "CANCELLED_ON_RAMP",
        "CREATED_OFF_RAMP",
        "RECEIVED_USER_CRYPTO",
        "CRYPTO_RECEIVED_OFF_RAMP",
        "COMPLETED_OFF_RAMP",
        "CREATED_CROSS_RAMP",
    ];
    for name in kyc {
        let known = KycEventName::from(name.to_owned());
        assert!(!matches!(known, KycEventName::Other(_)), "{name}");
        assert_eq!(known.to_string(), name);
    }
    for name in transaction {
        let known = TransactionEventName::from(name.to_owned());
        assert!(!matches!(known, TransactionEventName::Other(_)), "{name}");
        assert_eq!(known.to_string(), name);
    }
}

#[test]
fn what_is_unknown_is_kept() {
    let bodies = [
        json!({"type": "KYC", "event": "VERIFIED_USER", "externalUserId": "u", "z": [1], "a": null, "m": 0.1}),
        json!({"type": "KYC", "event": "SOMETHING_NEW", "externalUserId": "u"}),
        json!({"type": "TRANSACTION", "event": "SOMETHING_NEW", "externalUserId": "u", "transactionId": "t", "x": {}}),
        json!({"type": "CARD", "event": "CARD_BLOCKED", "externalUserId": "u", "cardId": "c"}),
        json!({"type": "CARD", "event": "CARD_BLOCKED"}),
        // A known field in an unexpected shape stays what it is, an amount above all.
        json!({"type": "TRANSACTION", "event": "CREATED_CROSS_RAMP", "externalUserId": "u", "transactionId": "t",
            "firstName": null, "fiatAmount": 10, "z": 1, "a": 2}),
    ];
    for body in bodies {
        let event = read(&body).unwrap();
        assert_eq!(event.type_name(), body["type"].as_str().unwrap());
        assert_eq!(event.event_name(), body["event"].as_str().unwrap());
        assert_eq!(event.external_user_id(), body["externalUserId"].as_str());
        assert_eq!(event.transaction_id(), body["transactionId"].as_str());
        // As text, because the order of the fields is to be kept too.
        assert_eq!(serde_json::to_string(&event).unwrap(), body.to_string());
        assert_eq!(serde_json::from_value::<Event>(body).unwrap(), event);
    }
}

#[test]
fn refuses_what_cannot_be_acted_on() {
    use EventError::*;
    let table = [
        ("", NotJson { line: 1, column: 0 }),
        (r#"{"type":"KYC""#, NotJson { line: 1, column: 13 }),
        (r#"{"type":"KYC"} x"#, NotJson { line: 1, column: 16 }),
        ("[]", NotAnObject),
        (r#""5b1c""#, NotAnObject),
        ("{}", MissingField { field: "type" }),
        (r#"{"type":1,"event":"E"}"#, NotAString { field: "type" }),
        (r#"{"type":"NEW"}"#, MissingField { field: "event" }),
        (r#"{"type":"NEW","event":null}"#, NotAString { field: "event" }),
        (r#"{"type":"KYC","event":"VERIFIED_USER"}"#, MissingField { field: "externalUserId" }),
        (r#"{"type":"KYC","event":"VERIFIED_USER","externalUserId":7}"#, NotAString { field: "externalUserId" }),
        (r#"{"type":"TRANSACTION","event":"E","externalUserId":"u"}"#, MissingField { field: "transactionId" }),
    ];
    for (body, expected) in table {
        assert_eq!(Event::from_slice(body.as_bytes()), Err(expected), "{body}");
    }
    assert!(matches!(Event::from_slice(b"{\"type\":\"\xff\"}"), Err(NotJson { .. })));
}

#[test]
fn debug_shows_type_and_name_only() {
    let table = [
        (
            json!({"type": "KYC", "event": "VERIFIED_USER", "externalUserId": "whoever", "mail": "m@x"}),
            r#"Kyc(KycEvent { type: "KYC", event: "VERIFIED_USER", .. })"#,
        ),
        (
            json!({"type": "TRANSACTION", "event": "NEW", "externalUserId": "whoever", "transactionId": "t",
                "firstName": "Martin"}),
            r#"Transaction(TransactionEvent { type: "TRANSACTION", event: "NEW", .. })"#,
        ),
        (
            json!({"type": "CARD", "event": "CARD_BLOCKED", "cardId": "c"}),
            r#"Other(OtherEvent { type: "CARD", event: "CARD_BLOCKED", .. })"#,
        ),
    ];
    for (body, expected) in table {
        assert_eq!(format!("{:?}", read(&body).unwrap()), expected);
    }
}
