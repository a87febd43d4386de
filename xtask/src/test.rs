//! `cargo xtask test`: everything that is tested, in stages whose times are seen.

use anyhow::Result;

use crate::run::{Stages, cargo};
use crate::setup;

/// A stage: its title, and the arguments of cargo.
struct Stage {
    title: &'static str,
    arguments: &'static [&'static str],
}

/// Every target of every package is in exactly one of these. `--test *` takes in each integration test of the server, which
/// then runs once more over PostgreSQL. The conformance suite runs over each store by itself.
const STAGES: [Stage; 4] = [
    Stage {
        title: "unit and integration tests of libraries",
        arguments: &["test", "--workspace", "--exclude", "capa-webhooks", "--all-targets"],
    },
    Stage {
        title: "unit tests of the server",
        arguments: &["test", "-p", "capa-webhooks", "--lib", "--bins", "--examples"],
    },
    Stage { title: "documentation tests", arguments: &["test", "--workspace", "--doc"] },
    Stage { title: "the suite of the server", arguments: &["test", "-p", "capa-webhooks", "--test", "*"] },
];

/// A share of the campaign of `cargo xtask prove --store postgres`, of about five minutes.
const CAMPAIGN: &str = "run -p capa-webhooks-campaign -- --store postgres --seconds 240 --kills 22 --stops 7 --cuts 10 \
                        --restarts 3 --failovers 2 --changes 45";

/// What of the suite does not run over PostgreSQL, by a part of its name, and why.
const NOT_OVER_POSTGRES: [(&str, &str); 3] = [
    ("sqlite::", "is about the store in a file itself"),
    ("cli::dev::", "`dev` always has a store in a file"),
    ("kill::", "reads the file of a killed process; `cargo xtask prove nodes` kills nodes over PostgreSQL"),
];

/// Set up, build everything and run every test.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask test\n  cargo xtask test retry\n  cargo xtask test --store postgres\n  \
                  CAPA_KILLS=5 cargo xtask test kill"
)]
pub(crate) struct Args {
    /// Only tests whose name contains this.
    filter: Option<String>,
    /// Run only the suite of the server, over this store.
    #[arg(long)]
    store: Option<Engine>,
}

/// What keeps the events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Engine {
    /// A file.
    Sqlite,
    /// A PostgreSQL server that is started for it.
    Postgres,
}

/// Runs the task.
pub(crate) fn main(args: &Args) -> Result<()> {
    let mut stages = Stages::default();
    let result = all(&mut stages, args);
    stages.finish(result)
}

fn all(stages: &mut Stages, args: &Args) -> Result<()> {
    stages.stage("setup", || setup::main(&setup::Args::default()))?;
    if let Some(engine) = args.store {
        return suite(stages, engine, args);
    }
    stages.command("build", &mut cargo(&["build", "--workspace", "--all-targets"]))?;
    for Stage { title, arguments } in STAGES {
        stages.command(title, cargo(arguments).args(&args.filter))?;
    }
    suite(stages, Engine::Postgres, args)?;
    if args.filter.is_some() {
        return Ok(());
    }
    let words: Vec<&str> = CAMPAIGN.split_whitespace().collect();
    stages.command("faults on nodes over PostgreSQL", &mut cargo(&words))
}

/// Runs the suite of the server over one engine.
fn suite(stages: &mut Stages, engine: Engine, args: &Args) -> Result<()> {
    let mut command = cargo(&["test", "-p", "capa-webhooks", "--test", "suite"]);
    command.args(&args.filter);
    if engine == Engine::Sqlite {
        return stages.command("the suite over SQLite", command.env("CAPA_TEST_STORE", "sqlite"));
    }
    command.arg("--").env("CAPA_TEST_STORE", "postgres");
    for (name, why) in NOT_OVER_POSTGRES {
        eprintln!("not over PostgreSQL: {name} {why}");
        command.args(["--skip", name]);
    }
    stages.command("the suite over PostgreSQL", &mut command)
}
