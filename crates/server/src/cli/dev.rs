//! `capa-webhooks dev`. Under construction.

use clap::{ArgMatches, Command};
use std::process::ExitCode;

pub(super) fn command() -> Command {
    Command::new("dev")
}

pub(super) fn run(_: &ArgMatches) -> Result<ExitCode, String> {
    Ok(ExitCode::SUCCESS)
}
