//! `capa-webhooks dev`: the whole way of an event, watched in one terminal.
//!
//! One process holds the real service, on a store in a temporary folder, and a small `receiver` as a partner would
//! write one. The `demonstration` sends events through; `watch` tells what happens to them, and goes on doing so
//! until it is stopped. Both know the service only through its HTTP API (`api`), and the receiver only through the
//! requests that it gets: what is printed is what was seen.

mod api;
mod demonstration;
mod receiver;
mod show;
mod watch;

use super::admin::reachable;
use super::runtime;
use crate::api::listener::Listener;
use crate::boot::{Service, Surroundings};
use crate::clock::Clock;
use crate::config::{Config, Hidden, LogFormat, Sources};
use crate::keyfile::FreshKey;
use crate::telemetry::log;
use api::{Caller, NewPartner};
use capa_webhooks_receiver::Secret;
use clap::{Arg, ArgAction, ArgMatches, Command};
use demonstration::Demonstration;
use http::Method;
use hyper_util::service::TowerToHyperService;
use receiver::{FAIL, FLAKY, PATH};
use serde_json::{Value, json};
use show::{Ink, Screen};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch as flag;
use watch::Watch;

/// Where the service listens unless it is told, or the address is taken.
const USUAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
/// Some free port.
const FREE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// The demo partner's delays: short enough to be watched.
const RETRY_DELAYS: [&str; 5] = ["2s", "4s", "8s", "16s", "32s"];
/// How long the demonstration may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a stop waits for what is in flight: all receivers are near.
const GRACE: Duration = Duration::from_secs(3);

const EXAMPLES: &str = "\
Examples:
  capa-webhooks dev
      Sends a few events through, one of them to a receiver that fails at first; shows what was sent, what arrived,
      and the curl lines with which to go on. Runs until Ctrl-C.

  capa-webhooks dev --once
      Ends after the demonstration: with 0 if all of it happened within 30 seconds, else with 1.

  capa-webhooks dev --listen 127.0.0.1:9000 --receiver-listen 127.0.0.1:9001

It is the real service with a store of its own in a temporary folder, which is removed at the end; no configuration is
read. For its log on standard error set CAPA_WEBHOOKS_LOG (warn, unless set). NO_COLOR=1 turns colours off.";

pub(super) fn command() -> Command {
    let address = |name: &'static str| {
        Arg::new(name).long(name).value_name("ADDRESS").value_parser(|text: &str| {
            text.parse::<SocketAddr>()
                .map_err(|_| "must be an address and a port, such as 127.0.0.1:8080 or [::1]:8080")
        })
    };
    Command::new("dev")
        .about("Watch it work: a server, a receiver and a few events, all in one terminal")
        .after_help(EXAMPLES)
        .arg(address("listen").help("Address of the API [default: 127.0.0.1:8080, or a free port if that is taken]"))
        .arg(address("receiver-listen").help("Address of the receiver [default: a free port of 127.0.0.1]"))
        .arg(Arg::new("once").long("once").action(ArgAction::SetTrue).help("End after the demonstration"))
}

pub(super) fn run(given: &ArgMatches) -> Result<ExitCode, String> {
    let folder = tempfile::Builder::new().prefix("capa-webhooks-dev-").tempdir().map_err(|error| {
        format!("a temporary folder cannot be made: {error}; set TMPDIR to one that can be written")
    })?;
    let address = |name: &str| given.get_one::<SocketAddr>(name).copied();
    let receiver = address("receiver-listen").unwrap_or(FREE);
    let key = FreshKey::make().expose();
    let taken = address("listen").is_none() && is_taken(USUAL);
    let listen = address("listen").unwrap_or(if taken { FREE } else { USUAL });
    let config = config(folder.path(), listen, receiver, &key)?;
    log::start(&config)?;
    let screen = Screen::standard();
    let runtime = runtime("worker")?;
    let moved = if taken { "a free port, because another program listens on 8080" } else { "" };
    let stage = Stage { screen, clock: Clock::system(), folder: folder.path(), platform_key: key, moved };
    let done = runtime.block_on(stage.perform(config, receiver, given.get_flag("once")));
    // The folder goes last, when nothing can write into it any more.
    drop(runtime);
    let path = folder.path().display().to_string();
    folder.close().map_err(|error| format!("{path} cannot be removed: {error}; remove it by hand"))?;
    if done.is_ok() {
        // Nobody may be reading any more.
        _ = screen.say(&format!("Stopped. Removed {path}."));
    }
    done
}

/// The service's configuration: everything in `folder`, and only what this machine itself offers may be called.
fn config(folder: &Path, listen: SocketAddr, receiver: SocketAddr, key: &str) -> Result<Config, String> {
    let mut environment = BTreeMap::new();
    for name in ["CAPA_WEBHOOKS_LOG", "CAPA_WEBHOOKS_LOG_FORMAT"] {
        if let Ok(value) = std::env::var(name) {
            environment.insert(name.to_owned(), value);
        }
    }
    let log = environment.get("CAPA_WEBHOOKS_LOG").cloned().unwrap_or_else(|| "warn".to_owned());
    let flags = [
        ("metrics_listen", FREE.to_string()),
        ("store", format!("sqlite:{}", folder.join("capa-webhooks.db").display())),
        ("master_key_file", folder.join("capa-webhooks.key").display().to_string()),
        ("admin_key_file", folder.join("capa-webhooks.admin").display().to_string()),
        ("allow_http", "true".to_owned()),
        ("allow_addresses", format!("127.0.0.0/8,::1/128,{}", ipnet::IpNet::from(receiver.ip()))),
        ("allow_ports", "*".to_owned()),
        ("log", log),
    ];
    let sources = Sources { file: None, environment, flags: flags.into() };
    let mut config = Config::load(&sources).map_err(|error| error.to_string())?;
    config.listen = listen;
    config.platform_key = Some(Hidden(key.to_owned()));
    config.log_format = config.log_format.or(Some(LogFormat::Text));
    config.shutdown_grace = GRACE;
    Ok(config)
}

/// Whether another program listens there.
fn is_taken(address: SocketAddr) -> bool {
    std::net::TcpListener::bind(address).is_err_and(|error| error.kind() == ErrorKind::AddrInUse)
}

/// What everything takes place on.
struct Stage<'a> {
    screen: Screen,
    clock: Clock,
    folder: &'a Path,
    platform_key: String,
    /// Why the service does not listen where it usually does, if so.
    moved: &'static str,
}

/// Where everything can be reached.
struct Addresses {
    service: SocketAddr,
    metrics: SocketAddr,
    receiver: SocketAddr,
}

impl Stage<'_> {
    /// Starts everything, shows it, and stops everything.
    async fn perform(&self, config: Config, receiver: SocketAddr, once: bool) -> Result<ExitCode, String> {
        let mut signals = Signals::listen()?;
        let receiver = Listener::bind(receiver, "--receiver-listen").await?;
        let mut service = Service::start(config, Surroundings::default()).await?;
        let addresses = Addresses {
            service: reachable(service.address),
            metrics: reachable(service.metrics_address),
            receiver: reachable(receiver.address().map_err(|error| error.to_string())?),
        };
        // Dropped last: the receiver goes on while the service finishes what is in flight.
        let (_running, stopping) = flag::channel(false);
        let ended = tokio::select! {
            done = self.show(&addresses, receiver, stopping, once) => done,
            () = signals.any() => if once { Err("stopped before the demonstration was over".to_owned()) } else { Ok(()) },
            what = service.failed() => return Err(format!("{what}; see the log")),
        };
        // Nobody may be reading any more; the stop is the same.
        _ = self.screen.say("\nStopping: no new requests, then what is in flight.");
        tokio::select! {
            () = service.stop() => ended.map(|()| ExitCode::SUCCESS),
            () = signals.any() => Err("stopped at once, by a second signal".to_owned()),
        }
    }

    /// Makes the partner, shows the demonstration, and unless `once` goes on telling what arrives.
    async fn show(
        &self,
        addresses: &Addresses,
        listener: Listener,
        stopping: flag::Receiver<bool>,
        once: bool,
    ) -> Result<(), String> {
        let platform = Caller::platform(addresses.service, self.platform_key.clone());
        let name = json!({"name": "Demo partner"});
        let (_, made): (_, NewPartner) = platform.call(Method::POST, "/partners", Some(&name)).await?;
        let secret: Secret = made.webhook_secret.parse().map_err(|error| format!("the webhook secret: {error}"))?;
        let (router, arrivals) = receiver::receiver(&secret, self.clock.clone());
        tokio::spawn(listener.serve(TowerToHyperService::new(router), stopping, self.clock.clone(), GRACE));

        let partner = Caller::partner(addresses.service, made.api_key.clone());
        let url = format!("http://{}{PATH}", addresses.receiver);
        let settings = json!({"url": url, "retryDelays": RETRY_DELAYS});
        let _: (_, Value) = partner.call(Method::PUT, "/webhook-settings", Some(&settings)).await?;
        self.introduce(addresses, &url, &made)?;

        let mut watch = Watch::new(self.screen, self.clock.clone(), partner.clone(), arrivals);
        let mut step = "begin".to_owned();
        let demonstration =
            Demonstration { watch: &mut watch, platform: &platform, partner_id: &made.id, step: &mut step };
        let shown = self.clock.deadline(PATIENCE, demonstration.run()).await;
        shown.unwrap_or_else(|_| Err(format!("this did not happen within {} s: {step}", PATIENCE.as_secs()))).map_err(
            |problem| {
                format!("the demonstration failed: {problem}\n  CAPA_WEBHOOKS_LOG=debug capa-webhooks dev shows more")
            },
        )?;
        self.invite(&platform, &partner, &made.id)?;
        if once {
            return Ok(());
        }
        self.screen.heading("Running: what arrives is told here. Ctrl-C stops it.")?;
        loop {
            watch.next().await?;
        }
    }

    /// Says what there is, and shows the keys.
    fn introduce(&self, addresses: &Addresses, url: &str, made: &NewPartner) -> Result<(), String> {
        let screen = self.screen;
        let row = |name: &str, value: &str, note: &str| {
            let space = if note.is_empty() { "" } else { "  " };
            screen.say(&format!("  {name:<16}  {value}{space}{}", screen.paint(Ink::Faint, note)))
        };
        let version = env!("CARGO_PKG_VERSION");
        screen
            .say(&screen.paint(Ink::Strong, &format!("Capa Webhooks {version}, all in one process. Times are UTC.")))?;
        screen.say("")?;
        row("service", &format!("http://{}", addresses.service), self.moved)?;
        row("metrics", &format!("http://{}/metrics", addresses.metrics), "")?;
        row("store", &self.folder.display().to_string(), "a temporary folder, removed at the end")?;
        row("receiver", url, "a partner's server: verifies both signatures")?;
        screen.say("")?;
        row("platform API key", &self.platform_key, "publishes")?;
        row("demo partner", &made.id, "")?;
        row("partner API key", &made.api_key, "asks, retries, sets the URL")?;
        row("webhook secret", &made.webhook_secret, "signs")
    }

    /// Says how to go on.
    fn invite(&self, platform: &Caller, partner: &Caller, partner_id: &str) -> Result<(), String> {
        let screen = self.screen;
        let publish = |user: &str| {
            let event = json!({"type": "KYC", "event": "VERIFIED_USER", "externalUserId": user});
            let url = platform.url(&format!("/partners/{partner_id}/events"));
            let key = format!("{}: {}", platform.header, platform.key);
            format!("curl -sS {url} -H '{key}' -H 'content-type: application/json' -d '{event}'")
        };
        let list = format!(
            "curl -sS '{}' -H '{}: {}'",
            partner.url("/webhook-notifications?limit=5"),
            partner.header,
            partner.key
        );
        let delays = RETRY_DELAYS.join(", ");
        screen.heading("Your turn, in a second terminal")?;
        for (what, line) in [
            ("Publish another event:".to_owned(), publish("user-1042")),
            ("List the partner's newest notifications:".to_owned(), list),
            (
                format!(
                    "Watch a failure: a user id that begins with {FAIL} is answered 500 every time, one that begins with\n  \
                     {FLAKY} twice. The retries follow after {delays}:"
                ),
                publish(&format!("{FAIL}1")),
            ),
        ] {
            screen.say(&format!("  {what}"))?;
            screen.say(&screen.paint(Ink::Strong, &line))?;
        }
        Ok(())
    }
}

/// The signals that end the command.
struct Signals([Signal; 3]);

impl Signals {
    fn listen() -> Result<Self, String> {
        let listen = |kind| signal(kind).map_err(|error| format!("signals cannot be awaited: {error}"));
        Ok(Self([
            listen(SignalKind::interrupt())?,
            listen(SignalKind::terminate())?,
            // The terminal was closed.
            listen(SignalKind::hangup())?,
        ]))
    }

    /// Waits for any of them.
    async fn any(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
