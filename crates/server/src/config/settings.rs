//! The table of settings.

use super::{Config, Hidden, LogFormat, PostgresUrl, StoreUrl};
use capa_webhooks_core::destination::{Destinations, Ports};
use capa_webhooks_core::duration::{parse_duration, parse_size};
use capa_webhooks_core::event::catalogue::Catalogue;
use capa_webhooks_core::schedule::{MOST_RETRIES, Schedule};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// What the names of all variables begin with.
pub(super) const PREFIX: &str = "CAPA_WEBHOOKS_";
/// The variable that names the configuration file.
pub(super) const FILE_VARIABLE: &str = "CAPA_WEBHOOKS_CONFIG";

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// Its name in the file; in upper case behind `CAPA_WEBHOOKS_` that in the environment.
    pub key: &'static str,
    /// Its default, as people would write it.
    pub default: &'static str,
    /// What it does, in a sentence or two.
    pub help: &'static str,
    /// Whether the value must not stand on a command line, where every user of the machine can see it.
    pub secret: bool,
    pub(super) read: fn(&str, &mut Config, &mut ScheduleParts) -> Result<(), String>,
}

impl Setting {
    /// Its name in the environment.
    pub fn variable(&self) -> String {
        format!("{PREFIX}{}", self.key.to_uppercase())
    }

    /// Its flag.
    pub fn flag(&self) -> String {
        format!("--{}", self.key.replace('_', "-"))
    }
}

/// What the schedule is built from once everything has been read.
#[derive(Debug, Default)]
pub(super) struct ScheduleParts {
    list: Option<Vec<Duration>>,
    initial: Option<Duration>,
    factor: Option<f64>,
    cap: Option<Duration>,
    jitter: Option<f64>,
    count: Option<u32>,
}

impl ScheduleParts {
    pub(super) fn build(self) -> Result<Schedule, String> {
        if let Some(list) = self.list {
            let both = self.initial.is_some()
                || self.factor.is_some()
                || self.cap.is_some()
                || self.jitter.is_some()
                || self.count.is_some();
            return if both {
                Err("retry_delays is a whole schedule of its own; remove it, or the other retry_ settings".to_owned())
            } else {
                Ok(Schedule::List(list))
            };
        }
        let Schedule::Exponential { initial, factor, cap, jitter, count } = Schedule::default() else {
            return Ok(Schedule::default());
        };
        Ok(Schedule::Exponential {
            initial: self.initial.unwrap_or(initial),
            factor: self.factor.unwrap_or(factor),
            cap: self.cap.unwrap_or(cap),
            jitter: self.jitter.unwrap_or(jitter),
            count: self.count.unwrap_or(count),
        })
    }
}

/// Every setting, in the order of the reference.
pub const SETTINGS: &[Setting] = &[
    Setting {
        key: "listen",
        default: "127.0.0.1:8080",
        help: "Address of the API.",
        secret: false,
        read: |text, config, _| put(&mut config.listen, socket_address(text)),
    },
    Setting {
        key: "store",
        default: "sqlite:data/capa-webhooks.db",
        help: "Where everything is kept: `sqlite:` and the path of a file, which is made if it is missing; or the URL of \
               a PostgreSQL database that several nodes share, `postgres://user@host/database`. A URL with a password \
               belongs in the environment or the file, where other users of the machine do not see it.",
        secret: false,
        read: |text, config, _| put(&mut config.store, store_url(text)),
    },
    Setting {
        key: "platform_key",
        default: "none",
        help: "An admin platform key, `<uuid>:<uuid>`, that is made to exist at start and stays valid until revoked. \
               Without one, the first start of a store in a file makes one and writes it to `admin_key_file`; for \
               PostgreSQL, `capa-webhooks keys create` makes the first.",
        secret: true,
        read: |text, config, _| {
            config.platform_key = Some(Hidden(text.to_owned()));
            Ok(())
        },
    },
    Setting {
        key: "admin_key_file",
        default: "capa-webhooks.admin",
        help: "Where the first start writes the admin platform key that it makes (mode 0600).",
        secret: false,
        read: |text, config, _| put(&mut config.admin_key_file, path(text)),
    },
    Setting {
        key: "master_key_file",
        default: "capa-webhooks.key",
        help: "The key that seals secrets and payloads at rest. Made with mode 0600 on the first start of a store in a \
               file; with PostgreSQL it must be there, the same on every node: `capa-webhooks keys master` makes one. \
               Keep it apart from the store's backups, and keep a copy: without it nothing in the store can be read.",
        secret: false,
        read: |text, config, _| put(&mut config.master_key_file, path(text)),
    },
    Setting {
        key: "allow_http",
        default: "false",
        help: "Accept `http://` URLs. Payloads then cross the network unencrypted.",
        secret: false,
        read: |text, config, _| put(&mut config.destinations.allow_http, boolean(text)),
    },
    Setting {
        key: "allow_addresses",
        default: "none",
        help: "Address ranges (CIDR, comma-separated) that may be called although they are not public.",
        secret: false,
        read: |text, config, _| put(&mut config.destinations.allow_addresses, list(text, address_range)),
    },
    Setting {
        key: "allow_ports",
        default: "443,8443 (and 80 with allow_http)",
        help: "Destination ports, comma-separated; `*` for any.",
        secret: false,
        read: |text, config, _| put(&mut config.destinations.ports, ports(text)),
    },
    Setting {
        key: "retry_delays",
        default: "none",
        help: "The delays between the attempts of a cycle, at most 5, taken exactly, such as `0s,1m,5m,10m,15m`. \
               Takes the place of the exponential schedule below.",
        secret: false,
        read: |text, _, schedule| put_some(&mut schedule.list, retry_delays(text)),
    },
    Setting {
        key: "retry_initial_delay",
        default: "10s",
        help: "The delay after the first attempt.",
        secret: false,
        read: |text, _, schedule| put_some(&mut schedule.initial, duration_within(text, "0s", "7d")),
    },
    Setting {
        key: "retry_factor",
        default: "6",
        help: "By how much each delay is longer than the one before: 1 to 100.",
        secret: false,
        read: |text, _, schedule| put_some(&mut schedule.factor, number_within(text, 1.0, 100.0)),
    },
    Setting {
        key: "retry_max_delay",
        default: "24h",
        help: "No delay is longer than this.",
        secret: false,
        read: |text, _, schedule| put_some(&mut schedule.cap, duration_within(text, "0s", "7d")),
    },
    Setting {
        key: "retry_jitter",
        default: "0.1",
        help: "The share of a delay by which it may be shorter or longer: 0 to 1.",
        secret: false,
        read: |text, _, schedule| put_some(&mut schedule.jitter, number_within(text, 0.0, 1.0)),
    },
    Setting {
        key: "retry_count",
        default: "5",
        help: "How many automatic retries follow the first attempt: 0 to 5.",
        secret: false,
        read: |text, _, schedule| put_some(&mut schedule.count, retry_count(text)),
    },
    Setting {
        key: "attempt_timeout",
        default: "15s",
        help: "The deadline of a whole attempt, the answer's body included: 1s to 30s.",
        secret: false,
        read: |text, config, _| put(&mut config.attempt_timeout, duration_within(text, "1s", "30s")),
    },
    Setting {
        key: "connect_timeout",
        default: "5s",
        help: "The deadline of a connect, within that of the attempt: 100ms to 30s.",
        secret: false,
        read: |text, config, _| put(&mut config.connect_timeout, duration_within(text, "100ms", "30s")),
    },
    Setting {
        key: "max_body",
        default: "256KiB",
        help: "The largest event: 1KiB to 8MiB.",
        secret: false,
        read: |text, config, _| put(&mut config.max_body, body_size(text)),
    },
    Setting {
        key: "disk_reserve",
        default: "256MiB",
        help: "With less free space than this where the store's file lies, new events are refused with 503, while what is \
               accepted already is delivered and recorded: 0B (no reserve) to 1024GiB.",
        secret: false,
        read: |text, config, _| put(&mut config.disk_reserve, disk_size(text)),
    },
    Setting {
        key: "retention",
        default: "30d",
        help: "Settled notifications older than this are removed: 1h to 366d.",
        secret: false,
        read: |text, config, _| put(&mut config.retention, duration_within(text, "1h", "366d")),
    },
    Setting {
        key: "idempotency_retention",
        default: "72h",
        help: "How long an idempotency key counts: 1m to 30d.",
        secret: false,
        read: |text, config, _| put(&mut config.idempotency_retention, duration_within(text, "1m", "30d")),
    },
    Setting {
        key: "signature_headers",
        default: "capa-signature",
        help: "Header names, comma-separated, that carry the hex signature; `capa-signature` always does.",
        secret: false,
        read: |text, config, _| put(&mut config.signature_headers, signature_headers(text)),
    },
    Setting {
        key: "metrics_listen",
        default: "127.0.0.1:9090",
        help: "Address of the Prometheus `/metrics`, with `/healthz` and `/readyz` beside it.",
        secret: false,
        read: |text, config, _| put(&mut config.metrics_listen, socket_address(text)),
    },
    Setting {
        key: "failing_after",
        default: "15m",
        help: "A partner's endpoint that has been failing for so long is told in the log, the metrics and to \
               `operations_url`: 1s to 7d.",
        secret: false,
        read: |text, config, _| put(&mut config.failing_after, duration_within(text, "1s", "7d")),
    },
    Setting {
        key: "operations_url",
        default: "none",
        help: "A URL of yours that is told, with a signed POST, when a partner's endpoint has been failing for \
               `failing_after`, and when it acknowledges again. The rules for partners' URLs hold for it too.",
        secret: false,
        read: |text, config, _| {
            config.operations_url = Some(text.to_owned());
            Ok(())
        },
    },
    Setting {
        key: "operations_secret_file",
        default: "capa-webhooks.operations-secret",
        help: "The webhook secret that signs what `operations_url` is told: 64 lower-case hex digits, or its `whsec_` \
               form. Made with mode 0600 on the first start with that URL.",
        secret: false,
        read: |text, config, _| put(&mut config.operations_secret_file, path(text)),
    },
    Setting {
        key: "node_lease",
        default: "15s",
        help: "Only where several nodes share the store: a node that gave no sign of life for so long is thought dead, \
               and the others take over what it had in hand: 3s to 10m. All nodes must have the same. A node gives six \
               signs in this time, and itself stops accepting and sending after two thirds of it without one.",
        secret: false,
        read: |text, config, _| put(&mut config.node_lease, duration_within(text, "3s", "10m")),
    },
    Setting {
        key: "shutdown_grace",
        default: "20s",
        help: "How long a stop waits for attempts in flight: 0s to 5m. What is not finished is attempted again after \
               the next start.",
        secret: false,
        read: |text, config, _| put(&mut config.shutdown_grace, duration_within(text, "0s", "5m")),
    },
    Setting {
        key: "log",
        default: "info",
        help: "Which log lines are written: `error`, `warn`, `info`, `debug`, `trace`, or directives such as \
               `info,capa_webhooks=debug`.",
        secret: false,
        read: |text, config, _| {
            config.log = text.to_owned();
            Ok(())
        },
    },
    Setting {
        key: "log_format",
        default: "json (text on a terminal)",
        help: "The form of log lines: `json` or `text`.",
        secret: false,
        read: |text, config, _| put_some(&mut config.log_format, log_format(text)),
    },
];

pub(super) fn defaults() -> Config {
    Config {
        listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
        metrics_listen: SocketAddr::from(([127, 0, 0, 1], 9090)),
        store: StoreUrl::Sqlite(PathBuf::from("data/capa-webhooks.db")),
        platform_key: None,
        admin_key_file: PathBuf::from("capa-webhooks.admin"),
        master_key_file: PathBuf::from("capa-webhooks.key"),
        destinations: Destinations::default(),
        schedule: Schedule::default(),
        attempt_timeout: Duration::from_secs(15),
        connect_timeout: Duration::from_secs(5),
        max_body: 256 * 1024,
        disk_reserve: 256 * 1024 * 1024,
        retention: Duration::from_secs(30 * 86_400),
        idempotency_retention: Duration::from_secs(72 * 3600),
        signature_headers: vec![http::HeaderName::from_static(capa_webhooks_receiver::headers::CAPA_SIGNATURE)],
        failing_after: Duration::from_secs(15 * 60),
        operations_url: None,
        operations_secret_file: PathBuf::from("capa-webhooks.operations-secret"),
        node_lease: Duration::from_secs(15),
        shutdown_grace: Duration::from_secs(20),
        log: "info".to_owned(),
        log_format: None,
        catalogue: Catalogue::built_in(),
        unknown_variables: Vec::new(),
    }
}

fn put<T>(place: &mut T, value: Result<T, String>) -> Result<(), String> {
    *place = value?;
    Ok(())
}

fn put_some<T>(place: &mut Option<T>, value: Result<T, String>) -> Result<(), String> {
    *place = Some(value?);
    Ok(())
}

fn socket_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "must be an address and a port, such as 127.0.0.1:8080 or [::1]:8080".to_owned())
}

fn store_url(text: &str) -> Result<StoreUrl, String> {
    match text.split_once(':') {
        Some(("sqlite", file)) if !file.is_empty() && !file.starts_with("//") => Ok(StoreUrl::Sqlite(file.into())),
        _ => PostgresUrl::parse(text).map(StoreUrl::Postgres).ok_or_else(|| {
            "must be sqlite: and the path of a file, such as sqlite:data/capa-webhooks.db, or a URL such as \
             postgres://user@host/database"
                .to_owned()
        }),
    }
}

fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("must be the path of a file".to_owned()) } else { Ok(text.into()) }
}

fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

fn list<T>(text: &str, read: fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(read).collect()
}

fn address_range(text: &str) -> Result<ipnet::IpNet, String> {
    text.parse().map_err(|_| "must be a list of ranges such as 10.0.0.0/8,fd00::/8".to_owned())
}

fn ports(text: &str) -> Result<Ports, String> {
    if text == "*" {
        return Ok(Ports::Any);
    }
    let ports = list(text, |port| port.parse().map_err(|_| "must be ports such as 443,8443, or *".to_owned()))?;
    if ports.is_empty() { Err("must name at least one port, or be *".to_owned()) } else { Ok(Ports::Only(ports)) }
}

fn retry_delays(text: &str) -> Result<Vec<Duration>, String> {
    let delays = list(text, |item| duration_within(item, "0s", "7d"))?;
    if (1..=MOST_RETRIES as usize).contains(&delays.len()) {
        Ok(delays)
    } else {
        Err(format!("must be 1 to {MOST_RETRIES} delays; for no retries set retry_count to 0"))
    }
}

fn retry_count(text: &str) -> Result<u32, String> {
    text.parse()
        .ok()
        .filter(|count| *count <= MOST_RETRIES)
        .ok_or_else(|| format!("must be a whole number from 0 to {MOST_RETRIES}"))
}

fn duration_within(text: &str, least: &str, most: &str) -> Result<Duration, String> {
    let value = parse_duration(text)?;
    // The bounds are literals of the table above; one that cannot be read bounds nothing.
    let within =
        parse_duration(least).is_ok_and(|least| value >= least) && parse_duration(most).is_ok_and(|most| value <= most);
    if within { Ok(value) } else { Err(format!("must be from {least} to {most}")) }
}

fn number_within(text: &str, least: f64, most: f64) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| format!("must be a number from {least} to {most}"))
}

fn body_size(text: &str) -> Result<usize, String> {
    let bytes = parse_size(text)?;
    if (1024..=8 * 1024 * 1024).contains(&bytes) {
        usize::try_from(bytes).map_err(|error| error.to_string())
    } else {
        Err("must be from 1KiB to 8MiB".to_owned())
    }
}

fn disk_size(text: &str) -> Result<u64, String> {
    let bytes = parse_size(text)?;
    if bytes <= 1 << 40 { Ok(bytes) } else { Err("must be from 0B to 1024GiB".to_owned()) }
}

fn signature_headers(text: &str) -> Result<Vec<http::HeaderName>, String> {
    const OURS: [&str; 8] = [
        "content-type",
        "content-length",
        "host",
        "user-agent",
        "connection",
        "transfer-encoding",
        "webhook-id",
        "webhook-timestamp",
    ];
    let mut names = vec![http::HeaderName::from_static(capa_webhooks_receiver::headers::CAPA_SIGNATURE)];
    for name in list(text, |name| {
        http::HeaderName::try_from(name).map_err(|_| "must be header names, comma-separated".to_owned())
    })? {
        if OURS.contains(&name.as_str()) || name == capa_webhooks_receiver::headers::WEBHOOK_SIGNATURE {
            return Err(format!("must not name {name}, which carries something else"));
        }
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "json" => Ok(LogFormat::Json),
        "text" => Ok(LogFormat::Text),
        _ => Err("must be json or text".to_owned()),
    }
}
