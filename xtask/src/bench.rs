//! `cargo xtask bench`: the product beside the bare relay, both built for speed.

use anyhow::Result;

use crate::run::{Stages, cargo, target_directory};

/// Build for release and compare the product with the bare relay.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask bench\n  cargo xtask bench -- --rounds 3 --seconds 5 --json bench.json"
)]
pub(crate) struct Args {
    /// Arguments of `capa-webhooks-bench compare`.
    #[arg(last = true)]
    compare: Vec<String>,
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
    let mut compare = std::process::Command::new(release.join("capa-webhooks-bench"));
    compare.arg("compare").arg("--server").arg(release.join("capa-webhooks")).args(&args.compare);
    stages.command("comparison", &mut compare)
}
