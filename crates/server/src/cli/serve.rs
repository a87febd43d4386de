//! `capa-webhooks serve`.

use super::{load_config, runtime, with_settings};
use crate::boot::{Failure, Service, Surroundings};
use crate::telemetry::log;
use clap::{ArgMatches, Command};
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

const EXAMPLES: &str = "\
Examples:
  capa-webhooks serve
      Serves on 127.0.0.1:8080 and keeps everything in data/capa-webhooks.db. The first start makes the master key
      (capa-webhooks.key) and an admin platform key (capa-webhooks.admin).

  CAPA_WEBHOOKS_PLATFORM_KEY=… capa-webhooks serve --config /etc/capa-webhooks.toml --listen 0.0.0.0:8080
      The file first, then the environment, then flags: each over the one before.

  capa-webhooks serve --retry-delays 0s,1m,5m,10m,15m

  CAPA_WEBHOOKS_STORE=postgres://capa:…@db/capa capa-webhooks serve --master-key-file /etc/capa-webhooks.key
      One of several equal nodes over one PostgreSQL. All need the same master key and the same --node-lease.

Signals: SIGTERM and SIGINT stop it: no new requests, then what is in flight is finished and recorded. A second one
ends it at once; nothing is lost by that either. A node that others have declared dead, because it was silent for too
long, ends by itself with 1: let a supervisor start it again.";

pub(super) fn command() -> Command {
    with_settings(Command::new("serve").about("Run the service").after_help(EXAMPLES), &[])
}

pub(super) fn run(given: &ArgMatches) -> Result<ExitCode, String> {
    let config = load_config(given)?;
    log::start(&config)?;
    for name in &config.unknown_variables {
        tracing::warn!(%name, "this environment variable is not a setting");
    }
    // Callers and deliveries have threads of their own, so that a crowd of the ones does not hold up the others.
    let (callers, deliveries) = (runtime("callers")?, runtime("deliveries")?);
    let surroundings = Surroundings { deliveries: Some(deliveries.handle().clone()), ..Surroundings::default() };
    callers.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
        let mut service = Service::start(config, surroundings).await?;
        let failed = tokio::select! {
            _ = terminate.recv() => None,
            _ = interrupt.recv() => None,
            what = service.failed() => Some(what),
        };
        match failed {
            None => {}
            Some(Failure::LifeEnded) => {
                service.stop().await;
                return Err(Failure::LifeEnded.to_string());
            }
            Some(failure) => return Err(format!("{failure}; see the log")),
        }
        tokio::select! {
            () = service.stop() => Ok(ExitCode::SUCCESS),
            _ = terminate.recv() => Ok(ExitCode::FAILURE),
            _ = interrupt.recv() => Ok(ExitCode::FAILURE),
        }
    })
}
