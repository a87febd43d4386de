use super::*;

fn additions(toml: &str) -> CatalogueAdditions {
    toml::from_str(toml).expect(toml)
}

fn refused(toml: &str) -> Vec<Problem> {
    let mut catalogue = Catalogue::built_in();
    let problems = catalogue.extend(additions(toml)).expect_err(toml);
    assert_eq!(catalogue, Catalogue::built_in(), "a refused addition changes nothing");
    problems
}

#[test]
fn holds_the_events_of_the_contract() {
    let catalogue = Catalogue::built_in();
    let events: Vec<_> = catalogue.entries().map(|entry| (entry.kind, entry.name)).collect();
    assert_eq!(
        events,
        [
            ("KYC", "CREATED_KYC"),
            ("KYC", "VERIFIED_USER"),
            ("KYC", "REJECTED_KYC"),
            ("KYC", "REVIEW_NEEDED_KYC"),
            ("TRANSACTION", "CREATED_ON_RAMP"),
            ("TRANSACTION", "FIAT_RECEIVED_ON_RAMP"),
            ("TRANSACTION", "COMPLETED_ON_RAMP"),
            ("TRANSACTION", "CANCELLED_ON_RAMP"),
            ("TRANSACTION", "CREATED_OFF_RAMP"),
            ("TRANSACTION", "RECEIVED_USER_CRYPTO"),
            ("TRANSACTION", "CRYPTO_RECEIVED_OFF_RAMP"),
            ("TRANSACTION", "COMPLETED_OFF_RAMP"),
            ("TRANSACTION", "CREATED_CROSS_RAMP"),
        ]
    );
    for entry in catalogue.entries() {
        assert!(!entry.description.is_empty(), "{}", entry.name);
        assert_eq!(catalogue.entry(entry.kind, entry.name), Some(entry));
        match entry.kind {
            "KYC" => assert_eq!((entry.required, entry.optional), (&["externalUserId".to_owned()][..], &[][..])),
            _ => {
                assert_eq!(entry.required, ["externalUserId", "transactionId"]);
                assert_eq!(entry.optional[..2], ["firstName", "lastName"]);
            }
        }
    }
    let on_ramp = catalogue.entry("TRANSACTION", "COMPLETED_ON_RAMP").unwrap();
    assert_eq!(
        on_ramp.optional[2..],
        ["blockchain", "cryptoCurrency", "fiatCurrency", "fiatAmount", "cryptoAmount", "exchangeRate"]
    );
    let off_ramp = catalogue.entry("TRANSACTION", "COMPLETED_OFF_RAMP").unwrap();
    assert_eq!(off_ramp.optional[2..], ["blockchain", "cryptoCurrency", "fiatCurrency", "cryptoAmount"]);
    assert_eq!(catalogue.kinds().collect::<Vec<_>>(), ["KYC", "TRANSACTION"]);
    assert!(catalogue.kind_description("KYC").is_some_and(|description| !description.is_empty()));
    assert_eq!(catalogue.entry("KYC", "CREATED_ON_RAMP"), None);
    assert_eq!(catalogue.required("CARD"), None);
}

#[test]
fn takes_types_events_and_fields() {
    let mut catalogue = Catalogue::built_in();
    let added = additions(
        r#"
        types = [{ name = "CARD", required = ["cardId", "externalUserId", "cardId"], description = "Cards" }]
        [[events]]
        type = "CARD"
        name = "ISSUED_CARD"
        fields = ["network", "cardId"]
        [[events]]
        type = "KYC"
        name = "VERIFIED_USER"
        fields = ["level"]
        [[events]]
        type = "TRANSACTION"
        name = "CREATED_ON_RAMP"
        description = "Another text"
        fields = ["firstName", "channel"]
        "#,
    );
    catalogue.extend(added.clone()).unwrap();
    let issued = catalogue.entry("CARD", "ISSUED_CARD").unwrap();
    assert_eq!(issued.required, ["externalUserId", "cardId"]);
    assert_eq!(issued.optional, ["network"], "a required field is listed once");
    assert_eq!(issued.description, "");
    let verified = catalogue.entry("KYC", "VERIFIED_USER").unwrap();
    assert_eq!(verified.optional, ["level"]);
    assert_eq!(verified.description, "The user passed the identity check");
    let created = catalogue.entry("TRANSACTION", "CREATED_ON_RAMP").unwrap();
    assert_eq!(created.optional, ["firstName", "lastName", "channel"]);
    assert_eq!(created.description, "Another text");
    assert_eq!(catalogue.entries().count(), 14);

    let before = catalogue.clone();
    catalogue.extend(added).unwrap();
    assert_eq!(catalogue, before, "adding the same again changes nothing");

    catalogue.extend(additions("types = [{ name = 'KYC', required = ['level'] }]")).unwrap();
    let verified = catalogue.entry("KYC", "VERIFIED_USER").unwrap();
    assert_eq!(verified.required, ["externalUserId", "level"]);
    assert!(verified.optional.is_empty());
}

#[test]
fn refuses_malformed_additions() {
    let longest = "N".repeat(64);
    let event = |name: &str| format!("events = [{{ type = 'KYC', name = '{name}' }}]");
    let field = |name: &str| format!("events = [{{ type = 'KYC', name = 'A', fields = ['ok', '{name}'] }}]");
    let mut catalogue = Catalogue::built_in();
    catalogue.extend(additions(&event(&longest))).unwrap();
    catalogue.extend(additions(&field(&format!("_{}", "n".repeat(63))))).unwrap();
    for name in ["", "lower", "WITH SPACE", "DASH-ED", "ÜBER", &format!("{longest}N")] {
        assert_eq!(refused(&event(name))[0].field, "events[0].name", "{name}");
    }
    for name in ["", "7", "1st", "with space", "dotted.name", "quo\"te", "größe", &"n".repeat(65), "type", "event"] {
        assert_eq!(refused(&field(name))[0].field, "events[0].fields[1]", "{name}");
    }
    for (toml, fields) in [
        ("events = [{ type = 'KYCC', name = 'A' }]", &["events[0].type"][..]),
        ("events = [{ type = '', name = 'A' }]", &["events[0].type"]),
        ("types = [{ name = 'EMPTY' }]", &["types"]),
        ("types = [{ name = 'bad', required = ['event'] }]", &["types[0].name", "types[0].required[0]"]),
        (
            "types = [{ name = 'bad' }]\nevents = [{ type = 'KYC', name = 'ok' }, { type = 'X', name = 'Y' }]",
            &["types[0].name", "events[0].name", "events[1].type"],
        ),
    ] {
        let found: Vec<_> = refused(toml).into_iter().map(|problem| problem.field).collect();
        assert_eq!(found, fields, "{toml}");
    }
    assert!(refused("events = [{ type = 'KYCC', name = 'A' }]")[0].problem.contains("did you mean KYC?"));
}

#[test]
fn refuses_unknown_words_in_the_configuration() {
    for toml in [
        "kinds = []",
        "types = [{ name = 'A', require = [] }]",
        "events = [{ type = 'KYC', name = 'A', field = [] }]",
        "events = [{ type = 'KYC' }]",
        "types = [{ required = [] }]",
    ] {
        assert!(toml::from_str::<CatalogueAdditions>(toml).is_err(), "{toml}");
    }
    assert_eq!(toml::from_str::<CatalogueAdditions>("").unwrap(), CatalogueAdditions::default());
}
