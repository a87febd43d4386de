use super::*;

fn load(environment: &[(&str, &str)], flags: &[(&'static str, &str)]) -> Result<Config, ConfigError> {
    Config::load(&Sources {
        file: None,
        environment: environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        flags: flags.iter().map(|(k, v)| (*k, (*v).to_owned())).collect(),
    })
}

fn from_file(text: &str) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.toml");
    std::fs::write(&path, text).unwrap();
    Config::load(&Sources { file: Some(path), ..Sources::default() })
}

#[test]
fn later_sources_win() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.toml");
    std::fs::write(&path, "listen = '127.0.0.1:1'\nmax_body = '1KiB'\nallow_ports = [443, 80]").unwrap();
    let config = Config::load(&Sources {
        file: Some(path),
        environment: [("CAPA_WEBHOOKS_LISTEN".to_owned(), "127.0.0.1:2".to_owned())].into(),
        flags: [("listen", "127.0.0.1:3".to_owned())].into(),
    })
    .unwrap();
    assert_eq!(config.listen.port(), 3);
    assert_eq!(config.max_body, 1024);
    assert_eq!(config.destinations.ports, capa_webhooks_core::destination::Ports::Only(vec![443, 80]));
}

#[test]
fn defaults_are_strict() {
    let config = load(&[], &[]).unwrap();
    assert_eq!(config.destinations, Destinations::default());
    assert_eq!(config.schedule, Schedule::default());
    assert!(config.listen.ip().is_loopback());
}

#[test]
fn every_problem_is_told_with_its_source() {
    let error = load(
        &[("CAPA_WEBHOOKS_LISTEN", "8080"), ("CAPA_WEBHOOKS_ALLOW_HTTP", "yes")],
        &[("attempt_timeout", "2m"), ("retry_count", "6")],
    )
    .unwrap_err();
    let text = error.to_string();
    for part in [
        "CAPA_WEBHOOKS_LISTEN must be",
        "ALLOW_HTTP must be true",
        "--attempt-timeout must be from 1s",
        "--retry-count",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn wrong_values_are_refused() {
    for (key, value) in [
        ("listen", "localhost:80"),
        ("store", "mysql://x"),
        ("store", "sqlite:"),
        ("store", "postgres:"),
        ("store", "postgres://"),
        ("node_lease", "2s"),
        ("node_lease", "11m"),
        ("allow_addresses", "10.0.0.0"),
        ("allow_ports", "0443x"),
        ("allow_ports", ""),
        ("retry_delays", ""),
        ("retry_delays", "1s,1s,1s,1s,1s,1s"),
        ("retry_delays", "8d"),
        ("retry_factor", "0.5"),
        ("retry_jitter", "NaN"),
        ("connect_timeout", "0s"),
        ("max_body", "9MiB"),
        ("retention", "1m"),
        ("signature_headers", "webhook-signature"),
        ("signature_headers", "a b"),
        ("log_format", "xml"),
    ] {
        assert!(load(&[], &[(SETTINGS.iter().find(|s| s.key == key).unwrap().key, value)]).is_err(), "{key}={value}");
    }
}

#[test]
fn a_list_and_an_exponential_schedule_exclude_each_other() {
    let list = load(&[("CAPA_WEBHOOKS_RETRY_DELAYS", "0s, 1m,5m")], &[]).unwrap();
    assert_eq!(list.schedule, Schedule::List([0, 60, 300].map(Duration::from_secs).to_vec()));
    assert!(load(&[("CAPA_WEBHOOKS_RETRY_DELAYS", "0s")], &[("retry_factor", "2")]).is_err());
}

#[test]
fn unknown_keys_of_the_file_are_refused_with_the_nearest() {
    let error = from_file("lisen = '127.0.0.1:1'").unwrap_err().to_string();
    assert!(error.contains("did you mean listen?"), "{error}");
    assert!(from_file("listen = ").unwrap_err().to_string().contains("not valid TOML"));
    assert!(from_file("listen = { a = 1 }").is_err());
    let unknown = load(&[("CAPA_WEBHOOKS_LISEN", "x")], &[]).unwrap();
    assert_eq!(unknown.unknown_variables, ["CAPA_WEBHOOKS_LISEN"]);
}

#[test]
fn secrets_are_not_shown() {
    let config = load(&[("CAPA_WEBHOOKS_PLATFORM_KEY", "abc:def")], &[]).unwrap();
    assert!(!format!("{config:?}").contains("abc"));
}

#[test]
fn a_database_is_shown_without_its_password() {
    for (url, shown) in [
        ("postgres://db.example/capa", "postgres://db.example/capa"),
        ("postgresql://capa@db:5433/capa?sslmode=require", "postgresql://capa@db:5433/capa"),
        ("postgres://capa:pass%40word@db/capa", "postgres://capa:***@db/capa"),
        ("postgres://capa:pass@w/ord@db/capa?password=password", "postgres://capa:***@db/capa"),
        ("postgres://db/capa?user=capa&password=password", "postgres://db/capa"),
    ] {
        let config = load(&[("CAPA_WEBHOOKS_STORE", url)], &[]).unwrap();
        let StoreUrl::Postgres(parsed) = &config.store else { panic!("{url}") };
        assert_eq!((parsed.to_string().as_str(), parsed.expose()), (shown, url));
        assert!(!format!("{config:?}").contains("word"), "{url}");
    }
}

#[test]
fn defaults_in_the_table_are_the_defaults_in_force() {
    for setting in SETTINGS {
        let value = setting.default.split(" (").next().unwrap();
        if value == "none"
            || setting.key.starts_with("retry_")
            || setting.key == "log_format"
            || setting.key == "allow_ports"
        {
            continue;
        }
        let given = format!("{:?}", load(&[], &[(setting.key, value)]).unwrap());
        assert_eq!(given, format!("{:?}", load(&[], &[]).unwrap()), "{}", setting.key);
    }
    let retry = [
        ("retry_initial_delay", "10s"),
        ("retry_factor", "6"),
        ("retry_max_delay", "24h"),
        ("retry_jitter", "0.1"),
        ("retry_count", "5"),
    ];
    for (key, default) in retry {
        assert_eq!(SETTINGS.iter().find(|s| s.key == key).unwrap().default, default);
    }
    assert_eq!(load(&[], &retry).unwrap().schedule, Schedule::default());
}
