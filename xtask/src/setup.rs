//! `cargo xtask setup`: the programs outside Rust that building and testing need.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::run::{self, line};

/// A program that must be on PATH, the Debian package that brings it, and what it is for.
struct Tool {
    program: &'static str,
    package: &'static str,
    why: &'static str,
}

const TOOLS: [Tool; 4] = [
    Tool { program: "cc", package: "build-essential", why: "compiles the bundled SQLite and the cryptography" },
    Tool { program: "curl", package: "curl", why: "calls a running server in the tests of the documentation" },
    Tool { program: "node", package: "nodejs", why: "verifies deliveries with Capa's published JavaScript sample" },
    Tool { program: "python3", package: "python3", why: "verifies deliveries with an independent implementation" },
];

/// Install the programs that building and testing need, where they are missing.
#[derive(Default, clap::Args)]
#[command(after_help = "Example:\n  cargo xtask setup")]
pub(crate) struct Args {
    /// Only say what is missing; fail if anything is.
    #[arg(long)]
    dry_run: bool,
}

/// Runs the task.
pub(crate) fn main(args: &Args) -> Result<()> {
    let missing: Vec<&Tool> = TOOLS.iter().filter(|tool| !is_on_path(tool.program)).collect();
    if missing.is_empty() {
        let names: Vec<&str> = TOOLS.iter().map(|tool| tool.program).collect();
        eprintln!("setup: {} are here, nothing to install", names.join(", "));
        return Ok(());
    }
    for Tool { program, package, why } in &missing {
        eprintln!("setup: {program} is missing ({why}); the package {package} brings it");
    }
    let packages: Vec<&str> = missing.iter().map(|tool| tool.package).collect();
    let by_hand = format!("install {} with your system's package manager", packages.join(", "));
    ensure!(!args.dry_run, "{} program(s) missing; run `cargo xtask setup`, or {by_hand}", missing.len());
    ensure!(is_on_path("apt-get"), "there is no apt-get here; {by_hand}");
    install(&packages)?;
    let still: Vec<&str> = missing.iter().map(|tool| tool.program).filter(|program| !is_on_path(program)).collect();
    ensure!(still.is_empty(), "apt-get succeeded, but {} is still not on PATH", still.join(", "));
    Ok(())
}

fn install(packages: &[&str]) -> Result<()> {
    let mut update = apt_get(&["update"]);
    let mut install = apt_get(&["install", "--yes", "--no-install-recommends"]);
    install.args(packages);
    if !is_root()? {
        if !is_on_path("sudo") {
            bail!("installing needs root, and there is no sudo; as root, run: {} && {}", line(&update), line(&install));
        }
        (update, install) = (with_sudo(&update), with_sudo(&install));
    }
    run::run(&mut update)?;
    run::run(&mut install)
}

fn apt_get(arguments: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command.arg("--quiet").args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// sudo does not hand variables on by itself, so they go before the program as arguments.
fn with_sudo(command: &Command) -> Command {
    let mut sudo = Command::new("sudo");
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            let mut variable = name.to_owned();
            variable.push("=");
            variable.push(value);
            sudo.arg(variable);
        }
    }
    sudo.arg(command.get_program()).args(command.get_args());
    sudo
}

fn is_root() -> Result<bool> {
    let answer = Command::new("id").arg("-u").output().context("cannot ask `id -u` who runs this")?;
    Ok(answer.stdout.trim_ascii() == b"0")
}

fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| is_executable(&directory.join(program)))
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_on_path() {
        assert!(is_on_path("sh"));
        assert!(!is_on_path("no-such-program"));
    }

    #[test]
    fn sudo_gets_the_variables_too() {
        assert_eq!(
            line(&with_sudo(&apt_get(&["update"]))),
            "sudo DEBIAN_FRONTEND=noninteractive apt-get --quiet update"
        );
    }
}
