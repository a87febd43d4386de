//! `cargo xtask bench`: everything that is measured, built for speed.

use std::process::Command;

use anyhow::{Context as _, Result};

use crate::run::{Stages, cargo, root, target_directory};
use crate::test::Engine;

/// Build for release and measure: rates, latencies, large stores, dead receivers, backlogs.
///
/// With --store postgres: what several nodes over a PostgreSQL server reach, which is started for the run.
///
/// A complete run takes about half an hour and updates docs/performance.md with its tables and plots; one with fewer
/// scenarios, or smaller sizes, only prints what it found.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask bench\n  cargo xtask bench --store postgres\n  cargo xtask bench -- --only stored,dead --json found.json\n  cargo xtask \
                  bench -- --quick\n  cargo xtask bench -- --list\n  cargo xtask bench -- --help"
)]
pub(crate) struct Args {
    /// Which store is measured.
    #[arg(long, value_enum, default_value = "sqlite")]
    store: Engine,
    /// Arguments of `capa-webhooks-bench run`.
    #[arg(last = true)]
    run: Vec<String>,
}

/// Runs the task.
pub(crate) fn main(args: &Args) -> Result<()> {
    let mut stages = Stages::default();
    let result = all(&mut stages, args);
    stages.finish(result)
}

fn all(stages: &mut Stages, args: &Args) -> Result<()> {
    let release = target_directory()?.join("release");
    let build = ["build", "--release", "-p", "capa-webhooks", "-p", "capa-webhooks-bench"];
    stages.command("build for release", &mut cargo(&build))?;
    let mut run = Command::new(release.join("capa-webhooks-bench"));
    run.arg("run").arg("--server").arg(release.join("capa-webhooks"));
    run.args(["--store", if args.store == Engine::Postgres { "postgres" } else { "sqlite" }]);
    run.arg("--document").arg(root().join("docs/performance.md")).arg("--build").arg(built()?);
    stages.command("measurement", run.args(&args.run))
}

/// What is measured, and what built it.
fn built() -> Result<String> {
    let commit = output(Command::new("git").args(["describe", "--always", "--dirty"]))?;
    let compiler = output(Command::new("rustc").arg("--version"))?;
    let compiler = compiler.split(" (").next().unwrap_or(&compiler);
    Ok(format!("Commit {commit}, {compiler}"))
}

fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().display().to_string();
    let output = command.current_dir(root()).output().with_context(|| format!("cannot start {program}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
