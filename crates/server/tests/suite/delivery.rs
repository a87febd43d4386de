//! Contract, section 1: the delivered request, byte for byte.

use crate::harness::{Answer, START, World, later, on_ramp, seconds, verified};
use serde_json::{Value, json};

#[tokio::test]
async fn the_request_on_the_wire() {
    let world = World::start().await;
    let partner = world.partner().await;
    let id = partner.publish(&verified("user-1")).await;
    let delivery = partner.endpoint.delivery(1).await;

    assert_eq!(delivery.method, "POST");
    assert!(partner.endpoint.url.ends_with(&delivery.target));
    assert_eq!(delivery.text(), r#"{"type":"KYC","event":"VERIFIED_USER","externalUserId":"user-1"}"#);
    let mut names: Vec<&str> = delivery.headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "capa-signature",
            "content-length",
            "content-type",
            "host",
            "user-agent",
            "webhook-id",
            "webhook-signature",
            "webhook-timestamp",
        ]
    );
    assert_eq!(delivery.header("content-type"), "application/json");
    assert_eq!(delivery.header("webhook-id"), id);
    assert_eq!(delivery.header("webhook-timestamp"), "1712324727", "the Unix seconds of {START}");
    assert_eq!(delivery.header("user-agent"), concat!("capa-webhooks/", env!("CARGO_PKG_VERSION")));
    let authority = partner.endpoint.url.trim_start_matches("http://").split('/').next().unwrap();
    assert_eq!(delivery.header("host"), authority);
    let hex = delivery.header("capa-signature");
    assert!(hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')), "{hex}");
    assert!(delivery.header("webhook-signature").starts_with("v1,"));
}

/// The body is what `JSON.stringify(JSON.parse(body))` gives, with `type` and `event` first.
#[tokio::test]
async fn the_body_is_canonical() {
    let world = World::start().await;
    let partner = world.partner().await;
    for (number, (rest, delivered)) in [
        (r#""a":1.0,"b":1e2,"c":-0,"d":-0.0,"e":1.50"#, r#""a":1,"b":100,"c":0,"d":0,"e":1.5"#),
        (r#""a":1e21,"b":1e-7,"c":1E20,"d":0.000001"#, r#""a":1e+21,"b":1e-7,"c":100000000000000000000,"d":0.000001"#),
        (r#""a":9007199254740992,"b":-9007199254740991"#, r#""a":9007199254740992,"b":-9007199254740991"#),
        (r#""a" : [ 1 , 2 , { } , [ ] ] , "b" : { "c" : null }"#, r#""a":[1,2,{},[]],"b":{"c":null}"#),
        (r#""a":{"b":1,"10":2,"2":3,"a":4,"01":5,"-1":6}"#, r#""a":{"2":3,"10":2,"b":1,"a":4,"01":5,"-1":6}"#),
        (r#""a":[{"9":{"8":1,"7":2},"z":3,"0":4}]"#, r#""a":[{"0":4,"9":{"7":2,"8":1},"z":3}]"#),
        (r#""a":"\u0041\/\u00e9\u2028\u007f\ud83d\ude80""#, "\"a\":\"A/é\u{2028}\u{7f}🚀\""),
        (r#""a":"\"\\\b\f\n\r\t\u0000\u001F""#, r#""a":"\"\\\b\f\n\r\t\u0000\u001f""#),
        (r#""\u0061":true,"Z":false,"__proto__":1,"":2"#, r#""a":true,"Z":false,"__proto__":1,"":2"#),
    ]
    .into_iter()
    .enumerate()
    {
        // The two that come first stand last here.
        let body =
            format!("\n{{ {rest} ,\t\"externalUserId\":\"u\", \"event\":\"VERIFIED_USER\",\r\n\"type\":\"KYC\"}} ");
        partner.publishing(body).send().await.data(202);
        let expected = format!(r#"{{"type":"KYC","event":"VERIFIED_USER",{delivered},"externalUserId":"u"}}"#);
        assert_eq!(partner.endpoint.delivery(number + 1).await.text(), expected, "{rest}");
    }
}

#[tokio::test]
async fn the_payload_of_the_api_is_the_delivered_body() {
    let world = World::start().await;
    let partner = world.partner().await;
    let event = r#"{"event":"VERIFIED_USER","z":{"b":1.0,"2":"é\u0001"},"type":"KYC","externalUserId":"u"}"#;
    partner.publishing(event).send().await.data(202);
    let delivery = partner.endpoint.delivery(1).await;
    let reply = partner.get(&format!("webhook-notifications/{}", delivery.id())).await;
    reply.data(200);
    let payload = format!("\"payload\":{},", delivery.text());
    assert!(reply.text().contains(&payload), "{payload} in {}", reply.text());
}

/// Signatures that were made without the product, delivered by the product.
#[tokio::test]
async fn the_published_vectors() {
    let vectors: Value = serde_json::from_str(include_str!("../../../../vectors/signatures.json")).unwrap();
    let vectors = vectors["vectors"].as_array().unwrap();
    assert!(vectors.len() >= 6);
    let world = World::start().await;
    for vector in vectors {
        let text = |name: &str| vector[name].as_str().unwrap();
        let endpoint = world.receiver.endpoint();
        let request = json!({"name": "Vector", "webhookSecret": text("secret"), "url": endpoint.url});
        let partner = world.partner_from(endpoint, request).await;
        assert_eq!(partner.secret, text("secret"));
        partner.publishing(text("body").to_owned()).send().await.data(202);
        let delivery = partner.endpoint.delivery(1).await;
        assert_eq!(delivery.text(), text("body"));
        assert_eq!(delivery.header("capa-signature"), text("capa_signature"));
    }
}

#[tokio::test]
async fn every_event_of_the_contract_is_delivered() {
    let world = World::start().await;
    let partner = world.partner().await;
    let transaction = |event: &str, fields: Value| {
        let mut body = json!({
            "type": "TRANSACTION",
            "event": event,
            "externalUserId": "u",
            "transactionId": "t",
            "firstName": "Martin",
            "lastName": "Smith",
        });
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        body
    };
    let fiat = json!({"blockchain": "Polygon PoS", "cryptoCurrency": "USDC", "fiatCurrency": "MXN", "fiatAmount": "10.00",
                      "cryptoAmount": "0.578031", "exchangeRate": "17.300119008048114"});
    let crypto =
        json!({"blockchain": "Bitcoin", "cryptoCurrency": "BTC", "fiatCurrency": "EUR", "cryptoAmount": "0.05"});
    let mut events: Vec<Value> = ["CREATED_KYC", "VERIFIED_USER", "REJECTED_KYC", "REVIEW_NEEDED_KYC"]
        .map(|event| json!({"type": "KYC", "event": event, "externalUserId": "u"}))
        .to_vec();
    events.push(transaction("COMPLETED_ON_RAMP", fiat));
    events.push(transaction("COMPLETED_OFF_RAMP", crypto));
    for event in [
        "CREATED_ON_RAMP",
        "FIAT_RECEIVED_ON_RAMP",
        "CANCELLED_ON_RAMP",
        "CREATED_OFF_RAMP",
        "RECEIVED_USER_CRYPTO",
        "CRYPTO_RECEIVED_OFF_RAMP",
        "CREATED_CROSS_RAMP",
    ] {
        events.push(transaction(event, json!({"notListed": {"passes": ["through", 1, null]}})));
    }
    for (number, event) in events.iter().enumerate() {
        partner.publish(event).await;
        assert_eq!(partner.endpoint.delivery(number + 1).await.text(), event.to_string());
    }
}

#[tokio::test]
async fn further_headers_carry_the_hex_signature() {
    let world = World::with(&[("signature_headers", "X-Capa-Signature, signature")]).await;
    let partner = world.partner().await;
    partner.publish(&verified("u")).await;
    let delivery = partner.endpoint.delivery(1).await;
    let hex = delivery.header("capa-signature");
    assert_eq!((delivery.header("x-capa-signature"), delivery.header("signature")), (hex, hex));
}

/// Path and query of the URL are called as they were given.
#[tokio::test]
async fn the_url_is_called_as_given() {
    let world = World::start().await;
    let partner = world.partner_without_url().await;
    let url = format!("{}?token=a%20b&x=%C3%BC&&y", partner.endpoint.url);
    partner.set(json!({"url": url})).await;
    partner.publish(&verified("u")).await;
    let target = partner.endpoint.delivery(1).await.target;
    assert!(url.ends_with(&target) && target.ends_with("?token=a%20b&x=%C3%BC&&y"), "{target}");
}

/// The same id on every attempt, the time of its own on each (not the one at which it was due), and so another
/// `webhook-signature`.
#[tokio::test]
async fn each_attempt_has_its_own_timestamp() {
    let world = World::with(&[("retry_delays", "1s,1s")]).await;
    let partner = world.partner().await;
    partner.endpoint.answers([Answer::new(500, "")]);
    let id = partner.publish(&on_ramp("u", "t")).await;
    for number in 1..=3 {
        let delivery = partner.endpoint.attempt(&id, number).await;
        assert_eq!(delivery.timestamp(), world.now_seconds());
        let attempts = partner.attempted(&id, number).await;
        assert_eq!(attempts[number - 1]["startedAt"], later(START, seconds(3 * (number as u64 - 1))));
        world.step(seconds(3));
    }
    let all = partner.endpoint.deliveries();
    let of = |name: &str| all.iter().map(|delivery| delivery.header(name)).collect::<Vec<_>>();
    let distinct = |name: &str| of(name).into_iter().collect::<std::collections::BTreeSet<_>>().len();
    assert_eq!(of("webhook-id"), [id.as_str(); 3]);
    assert_eq!((distinct("capa-signature"), distinct("webhook-timestamp"), distinct("webhook-signature")), (1, 3, 3));
    assert_eq!(all[0].body, all[2].body);
}
