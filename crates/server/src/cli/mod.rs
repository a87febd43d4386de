//! The command line.

mod admin;
mod copy;
pub mod dev;
mod doctor;
mod keys;
mod partners;
mod serve;

use crate::config::{Config, SETTINGS, Sources};
use clap::{Arg, ArgMatches, Command};
use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the command that `arguments` name.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let matches = match command().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => error.exit(),
    };
    let done = match matches.subcommand() {
        Some(("serve", given)) => serve::run(given),
        Some(("dev", given)) => dev::run(given),
        Some(("doctor", given)) => doctor::run(given),
        Some(("copy", given)) => copy::run(given),
        Some(("keys", given)) => keys::run(given),
        Some(("partners", given)) => partners::run(given),
        _ => Err("no command was given".to_owned()),
    };
    match done {
        Ok(code) => code,
        Err(problem) => {
            eprintln!("capa-webhooks: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// The whole command line, for parsing and for the generated help.
pub fn command() -> Command {
    Command::new("capa-webhooks")
        .version(env!("CARGO_PKG_VERSION"))
        .about(
            "Accepts events, makes them durable, and delivers each to its partner's URL: signed, retried, never lost.",
        )
        .after_help("New here? Run `capa-webhooks dev`: a server, a receiver and a few events, all in one terminal.")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands([
            serve::command(),
            dev::command(),
            doctor::command(),
            keys::command(),
            partners::command(),
            copy::command(),
        ])
}

/// Adds `--config` and a flag for every setting of the table that `wanted` names (all of them if it names none).
fn with_settings(mut command: Command, wanted: &[&str]) -> Command {
    command = command.arg(
        Arg::new("config")
            .long("config")
            .value_name("FILE")
            .help("A configuration file in TOML [env: CAPA_WEBHOOKS_CONFIG]"),
    );
    for setting in SETTINGS.iter().filter(|setting| wanted.is_empty() || wanted.contains(&setting.key)) {
        if !setting.secret {
            let help = format!("{} [default: {}] [env: {}]", setting.help, setting.default, setting.variable());
            let name = setting.key.replace('_', "-");
            command = command.arg(Arg::new(setting.key).long(name).value_name("VALUE").help(help));
        }
    }
    command
}

/// Reads the configuration from where a command was told.
fn load_config(given: &ArgMatches) -> Result<Config, String> {
    let environment: std::collections::BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let flags = SETTINGS
        .iter()
        .filter_map(|setting| {
            let value = given.try_get_one::<String>(setting.key).ok().flatten()?;
            Some((setting.key, value.clone()))
        })
        .collect();
    let file = given.get_one::<String>("config").cloned().or_else(|| environment.get("CAPA_WEBHOOKS_CONFIG").cloned());
    Config::load(&Sources { file: file.map(Into::into), environment, flags }).map_err(|error| error.to_string())
}

/// A runtime with half of the cores, because `serve` runs two. Its threads are named.
fn runtime(threads: &str) -> Result<tokio::runtime::Runtime, String> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads((cores / 2).max(1))
        .thread_name(threads)
        .enable_all()
        .build()
        .map_err(|error| format!("the runtime cannot start: {error}"))
}
