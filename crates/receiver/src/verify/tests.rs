//! Signing and verifying against the shared vectors, then every way in which a request can be wrong.

use serde::Deserialize;

use super::*;
use crate::sign::webhook_signatures;

#[derive(Deserialize)]
struct Vectors {
    vectors: Vec<Vector>,
}

/// A request with its signatures, made by another implementation.
#[derive(Deserialize, Clone)]
struct Vector {
    secret: String,
    whsec: String,
    webhook_id: String,
    webhook_timestamp: i64,
    body: String,
    capa_signature: String,
    webhook_signature: String,
}

fn vectors() -> Vec<Vector> {
    let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../vectors/signatures.json"));
    let Vectors { vectors } = serde_json::from_str(text).expect("the file of vectors is well formed");
    assert!(vectors.len() >= 6, "some vectors have gone");
    vectors
}

fn secret(digit: &str) -> Secret {
    Secret::from_hex_digits(&digit.repeat(64)).expect("a hex digit")
}

const BODY: &[u8] = br#"{"type":"KYC","event":"VERIFIED_USER","externalUserId":"u"}"#;
const ID: &str = "0199f7a0-0000-7000-8000-000000000000";
const NOW: i64 = 1_753_744_084;

/// The right headers for `BODY`, signed with the secret of this digit.
fn signed_with(digit: &str) -> Vec<(&'static str, String)> {
    let signer = Signer::new(&secret(digit));
    vec![
        (CAPA_SIGNATURE, signer.capa_signature(BODY)),
        (WEBHOOK_ID, ID.to_owned()),
        (WEBHOOK_TIMESTAMP, NOW.to_string()),
        (WEBHOOK_SIGNATURE, signer.webhook_signature(ID, NOW, BODY)),
    ]
}

fn verify(verifier: &Verifier, headers: &[(&str, String)], body: &[u8]) -> Result<Received, VerifyError> {
    verifier.verify(|name| headers.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_str()), body, NOW)
}

#[test]
fn signs_and_verifies_every_vector_in_both_forms_of_the_secret() {
    for v in vectors() {
        for form in [&v.secret, &v.whsec] {
            let secret: Secret = form.parse().unwrap();
            assert_eq!((secret.expose(), secret.to_whsec()), (v.secret.as_str(), v.whsec.clone()));
            let (body, signer, verifier) = (v.body.as_bytes(), Signer::new(&secret), Verifier::new(&secret));
            assert_eq!(signer.capa_signature(body), v.capa_signature);
            assert_eq!(signer.webhook_signature(&v.webhook_id, v.webhook_timestamp, body), v.webhook_signature);
            assert_eq!(verifier.verify_capa(&v.capa_signature, body), Ok(()));
            let time = v.webhook_timestamp.to_string();
            let standard = verifier.verify_standard(&v.webhook_id, &time, &v.webhook_signature, body, NOW);
            assert_eq!(standard, Ok(()));
            let event = Event::from_slice(body).unwrap();
            assert_eq!(
                serde_json::to_value(&event).unwrap(),
                serde_json::from_str::<serde_json::Value>(&v.body).unwrap()
            );
        }
    }
}

#[test]
fn refuses_every_vector_after_any_change() {
    let change = |text: &str| text.replacen(['0', '1'], "2", 1);
    type Tamper<'a> = (&'a str, &'a dyn Fn(&mut Vector));
    let tampers: [Tamper<'_>; 5] = [
        ("body", &|v| v.body = v.body.replace("\"event\"", "\"Event\"")),
        ("space in the body", &|v| v.body = v.body.replacen(',', ", ", 1)),
        ("id", &|v| v.webhook_id = change(&v.webhook_id)),
        ("timestamp", &|v| v.webhook_timestamp += 1),
        ("secret", &|v| v.secret = change(&v.secret)),
    ];
    for vector in vectors() {
        for (what, tamper) in tampers {
            let mut v = vector.clone();
            tamper(&mut v);
            let verifier = Verifier::new(&v.secret.parse().unwrap());
            let time = v.webhook_timestamp.to_string();
            let standard = verifier.verify_standard(&v.webhook_id, &time, &v.webhook_signature, v.body.as_bytes(), NOW);
            assert_eq!(standard, Err(VerifyError::WrongSignature { header: WEBHOOK_SIGNATURE }), "{what}");
            let covered = !matches!(what, "id" | "timestamp");
            let capa = verifier.verify_capa(&v.capa_signature, v.body.as_bytes());
            assert_eq!(capa.is_err(), covered, "{what}");
        }
    }
}

#[test]
fn one_call_checks_every_form_that_is_present() {
    use VerifyError::*;
    let wrong = signed_with("b");
    type Change<'a> = (&'a str, &'a [(&'static str, Option<&'a str>)], Result<bool, VerifyError>);
    let table: &[Change<'_>] = &[
        // (case, headers changed or removed, whether the result is timestamped)
        ("both forms", &[], Ok(true)),
        ("the trio alone", &[(CAPA_SIGNATURE, None)], Ok(true)),
        ("capa alone", &[(WEBHOOK_ID, None), (WEBHOOK_TIMESTAMP, None), (WEBHOOK_SIGNATURE, None)], Ok(false)),
        (
            "nothing",
            &[(CAPA_SIGNATURE, None), (WEBHOOK_ID, None), (WEBHOOK_TIMESTAMP, None), (WEBHOOK_SIGNATURE, None)],
            Err(Unsigned),
        ),
        ("capa wrong", &[(CAPA_SIGNATURE, Some(&wrong[0].1))], Err(WrongSignature { header: CAPA_SIGNATURE })),
        ("trio wrong", &[(WEBHOOK_SIGNATURE, Some(&wrong[3].1))], Err(WrongSignature { header: WEBHOOK_SIGNATURE })),
        ("other id", &[(WEBHOOK_ID, Some("other"))], Err(WrongSignature { header: WEBHOOK_SIGNATURE })),
        ("no id", &[(WEBHOOK_ID, None)], Err(MissingHeader { header: WEBHOOK_ID })),
        ("no time", &[(WEBHOOK_TIMESTAMP, None)], Err(MissingHeader { header: WEBHOOK_TIMESTAMP })),
        ("no trio signature", &[(WEBHOOK_SIGNATURE, None)], Err(MissingHeader { header: WEBHOOK_SIGNATURE })),
        (
            "only an id beside capa",
            &[(WEBHOOK_TIMESTAMP, None), (WEBHOOK_SIGNATURE, None)],
            Err(MissingHeader { header: WEBHOOK_TIMESTAMP }),
        ),
    ];
    let verifier = Verifier::new(&secret("a"));
    for (case, changes, expected) in table {
        let mut headers = signed_with("a");
        for (name, value) in *changes {
            headers.retain(|(n, _)| n != name);
            headers.extend(value.map(|value| (*name, value.to_owned())));
        }
        let timestamped = verify(&verifier, &headers, BODY).map(|received| received.proof != Proof::BodyOnly);
        assert_eq!(&timestamped, expected, "{case}");
    }
}

#[test]
fn what_comes_out_is_what_was_signed() {
    let verifier = Verifier::new(&secret("a"));
    let mut headers = signed_with("a");
    let received = verify(&verifier, &headers, BODY).unwrap();
    assert_eq!(received.event, Event::from_slice(BODY).unwrap());
    assert_eq!(received.webhook_id(), Some(ID));
    assert_eq!(received.proof, Proof::Timestamped { webhook_id: ID.to_owned(), timestamp: NOW });

    headers.truncate(1);
    assert_eq!(verify(&verifier, &headers, BODY).unwrap().webhook_id(), None);
    let strict = verifier.require_timestamp();
    let refused = Err(VerifyError::MissingHeader { header: WEBHOOK_SIGNATURE });
    assert_eq!(verify(&strict, &headers, BODY), refused);
    assert!(verify(&strict, &signed_with("a"), BODY).is_ok());
}

#[test]
fn the_test_header_counts_only_with_a_signed_id() {
    let body = br#"{"type":"KYC","event":"VERIFIED_USER","externalUserId":"test-u"}"#;
    let verifier = Verifier::new(&secret("a"));
    let signature = Signer::new(&secret("a")).capa_signature(body);
    for (value, expected) in [("true", true), ("false", false)] {
        let headers = [(CAPA_SIGNATURE, signature.clone()), (CAPA_WEBHOOKS_TEST, value.to_owned())];
        assert_eq!(verify(&verifier, &headers, body).unwrap().is_test(), expected);
    }
}

#[test]
fn a_genuine_body_that_is_no_event_is_told_apart() {
    let headers = [(CAPA_SIGNATURE, Signer::new(&secret("a")).capa_signature(b"[]"))];
    let verifier = Verifier::new(&secret("a"));
    assert_eq!(verify(&verifier, &headers, b"[]"), Err(VerifyError::Event(crate::EventError::NotAnObject)));
}

#[test]
fn any_of_several_secrets_will_do() {
    let both = Verifier::new(&secret("a")).also(&secret("b"));
    for (digit, expected) in [("a", true), ("b", true), ("c", false)] {
        assert_eq!(verify(&both, &signed_with(digit), BODY).is_ok(), expected, "{digit}");
        let trio_only = &signed_with(digit)[1..];
        assert_eq!(verify(&both, trio_only, BODY).is_ok(), expected, "{digit}");
    }
    // The sender signs with both, the receiver holds either.
    let signers = ["a", "b"].map(|digit| Signer::new(&secret(digit)));
    let value = webhook_signatures(&signers, ID, NOW, BODY);
    assert_eq!(value.split(' ').collect::<Vec<_>>(), signers.map(|signer| signer.webhook_signature(ID, NOW, BODY)));
    for (digit, expected) in [("a", true), ("b", true), ("c", false)] {
        let verifier = Verifier::new(&secret(digit));
        assert_eq!(verifier.verify_standard(ID, &NOW.to_string(), &value, BODY, NOW).is_ok(), expected, "{digit}");
    }
    assert_eq!(webhook_signatures(&[], ID, NOW, BODY), "");
}

#[test]
fn the_tolerance_holds_to_the_second_in_both_directions() {
    use VerifyError::*;
    let five_minutes = Verifier::new(&secret("a"));
    let none = five_minutes.clone().tolerance(Duration::ZERO);
    let table = [
        (&five_minutes, 0, Ok(())),
        (&five_minutes, 300, Ok(())),
        (&five_minutes, 301, Err(TooOld { age_seconds: 301, tolerance_seconds: 300 })),
        (&five_minutes, -300, Ok(())),
        (&five_minutes, -301, Err(TooNew { ahead_seconds: 301, tolerance_seconds: 300 })),
        (&none, 0, Ok(())),
        (&none, 1, Err(TooOld { age_seconds: 1, tolerance_seconds: 0 })),
        (&none, -1, Err(TooNew { ahead_seconds: 1, tolerance_seconds: 0 })),
    ];
    let signature = Signer::new(&secret("a")).webhook_signature(ID, NOW, BODY);
    for (verifier, later, expected) in table {
        let result = verifier.verify_standard(ID, &NOW.to_string(), &signature, BODY, NOW + later);
        assert_eq!(result, expected, "{later} s later");
    }
    // No clock, however wrong, makes the arithmetic overflow.
    let signature = Signer::new(&secret("a")).webhook_signature(ID, i64::MAX, BODY);
    let result = five_minutes.verify_standard(ID, &i64::MAX.to_string(), &signature, BODY, i64::MIN);
    assert_eq!(result, Err(TooNew { ahead_seconds: u64::MAX, tolerance_seconds: 300 }));
    // Of a forged request nothing is said about its time.
    let forged = five_minutes.verify_standard(ID, "1", &signature, BODY, NOW);
    assert_eq!(forged, Err(WrongSignature { header: WEBHOOK_SIGNATURE }));
}

#[test]
fn reads_the_standard_signature_header() {
    use VerifyError::*;
    let good = Signer::new(&secret("a")).webhook_signature(ID, NOW, BODY);
    let other = Signer::new(&secret("b")).webhook_signature(ID, NOW, BODY);
    let encoded = good.strip_prefix("v1,").unwrap();
    let malformed = || {
        let expected = "at least one value of the form `v1,` and base64";
        Err(MalformedHeader { header: WEBHOOK_SIGNATURE, expected })
    };
    let wrong = || Err(WrongSignature { header: WEBHOOK_SIGNATURE });
    let table = [
        (good.clone(), Ok(())),
        (format!("{other} {good}"), Ok(())),
        (format!("{good} {other}"), Ok(())),
        (format!("v2,future v1a,{encoded} {good}"), Ok(())),
        (format!("v1,*** {good}"), Ok(())),
        (format!(" {good}  "), Ok(())),
        (other.clone(), wrong()),
        ("v1,".to_owned(), wrong()),
        (format!("v1,{}", BASE64_STANDARD.encode([0; 31])), wrong()),
        // A prefix of the right mac is not enough.
        (format!("v1,{}", BASE64_STANDARD.encode(&BASE64_STANDARD.decode(encoded).unwrap()[..16])), wrong()),
        (format!("v2,{encoded}"), malformed()),
        (format!("v1a,{encoded}"), malformed()),
        (format!("V1,{encoded}"), malformed()),
        (encoded.to_owned(), malformed()),
        (good.replace('=', ""), malformed()),
        (format!("{good},{other}"), malformed()),
        (String::new(), malformed()),
    ];
    let verifier = Verifier::new(&secret("a"));
    for (header, expected) in table {
        let result = verifier.verify_standard(ID, &NOW.to_string(), &header, BODY, NOW);
        assert_eq!(result, expected, "{header:?}");
    }
}

#[test]
fn refuses_malformed_headers() {
    let verifier = Verifier::new(&secret("a"));
    let signer = Signer::new(&secret("a"));
    let capa = signer.capa_signature(BODY);
    for value in ["", &capa[1..], &format!("{capa}0"), &capa.to_uppercase(), &format!("sha256={capa}"), &"é".repeat(32)]
    {
        let refused = matches!(
            verifier.verify_capa(value, BODY),
            Err(VerifyError::MalformedHeader { header: CAPA_SIGNATURE, .. })
        );
        assert!(refused, "{value:?}");
    }
    // Signed as they are, so that only the form can be why they are refused.
    for time in ["", "-1", "+1", " 1", "1 ", "1.5", "1e3", "９", "9223372036854775808"] {
        let value = BASE64_STANDARD.encode(signer.over_attempt(ID, time, BODY).finalize().into_bytes());
        let result = verifier.verify_standard(ID, time, &format!("v1,{value}"), BODY, NOW);
        assert!(matches!(result, Err(VerifyError::MalformedHeader { header: WEBHOOK_TIMESTAMP, .. })), "{time:?}");
    }
    for id in ["", "a.b", "."] {
        let value = signer.webhook_signature(id, NOW, BODY);
        let result = verifier.verify_standard(id, &NOW.to_string(), &value, BODY, NOW);
        assert!(matches!(result, Err(VerifyError::MalformedHeader { header: WEBHOOK_ID, .. })), "{id:?}");
    }
}

#[test]
fn nothing_secret_is_shown() {
    let verifier = Verifier::new(&secret("a")).also(&secret("b"));
    let mut headers = signed_with("a");
    let received = verify(&verifier, &headers, BODY).unwrap();
    assert!(!format!("{received:?}").contains("\"u\""), "{received:?}");
    assert_eq!(format!("{:?}", Signer::new(&secret("a"))), "Signer(***)");
    assert_eq!(format!("{verifier:?}"), "Verifier { secrets: 2, tolerance: 300s, timestamp_required: false }");

    headers[0].1 = "d".repeat(64);
    let error = verify(&verifier, &headers, BODY).unwrap_err();
    for shown in [format!("{error}"), format!("{error:?}")] {
        for hidden in ["aaaa", "dddd", "externalUserId"] {
            assert!(!shown.contains(hidden), "{shown}");
        }
    }
}
