//! The whole measurement: every scenario in turn, or those that are asked for.
//!
//! What was found is printed as Markdown. A run of all scenarios with at least the usual sizes also writes it, with
//! plots, into the document that is named; a smaller run never does, so that the document holds only figures of one kind.
//! Speed is judged in words only. Losses and duplicates are errors.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};
use capa_webhooks_core::time::Timestamp;
use clap::value_parser;
use serde::Serialize;

use crate::compare::interrupted;
use crate::event::unix_micros;
use crate::figures::Section;
use crate::probe::{self, Machine};
use crate::scenario::{Engine, Env, SCENARIOS, Scenario};
use crate::sizes::{Overrides, Sizes};
use crate::{document, markdown, open_files};

/// Run the scenarios and hold their figures against what was asked.
#[derive(clap::Args)]
#[command(
    after_help = "A run of all scenarios with at least the usual sizes writes tables and plots into --document; every other \
                  run only prints them.\n\nExamples:\n  capa-webhooks-bench run --server target/release/capa-webhooks \
                  --document docs/performance.md\n  capa-webhooks-bench run --server target/release/capa-webhooks --only \
                  stored,dead --json found.json\n  capa-webhooks-bench run --server target/release/capa-webhooks --store \
                  postgres --only nodes,idle\n  capa-webhooks-bench run --server target/release/capa-webhooks --quick"
)]
pub(crate) struct Args {
    /// The product's binary, built with --release.
    #[arg(long, value_name = "PATH", required_unless_present = "list")]
    server: Option<PathBuf>,
    /// Which store is measured; each has scenarios of its own. The PostgreSQL server is started for the run, with its data
    /// in the system's temporary directory.
    #[arg(long, value_name = "STORE", value_enum, default_value = "sqlite")]
    store: Engine,
    /// Say which scenarios there are, and end.
    #[arg(long)]
    list: bool,
    /// Only these scenarios.
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', value_parser = SCENARIOS.map(|scenario| scenario.name))]
    only: Vec<String>,
    /// Small sizes and one round, to see that all of it works: no judgement on speed.
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    overrides: Overrides,
    /// Where the servers keep their files (default: the system's temporary directory). Choose the disk to measure. A
    /// full run needs some 12 GB there, which are free again at its end.
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Also write all rounds and verdicts to this file.
    #[arg(long, value_name = "OUT")]
    json: Option<PathBuf>,
    /// The document that a complete run updates, between its two marks; plots go into plots/ beside it.
    #[arg(long, value_name = "FILE")]
    document: Option<PathBuf>,
    /// What was built and with what, for the report.
    #[arg(long, value_name = "TEXT", value_parser = value_parser!(String))]
    build: Option<String>,
}

/// All that a run found.
#[derive(Serialize)]
struct Found {
    date: String,
    machine: Machine,
    build: Option<String>,
    sizes: Sizes,
    sections: Vec<Section>,
}

/// Runs the subcommand.
pub(crate) fn main(args: &Args) -> Result<()> {
    if args.list {
        for Scenario { name, what, .. } in args.of_store() {
            println!("{name:<8} {what}");
        }
        return Ok(());
    }
    open_files::raise()?;
    // One thread for the load here and one for the sink leave the rest of the machine to the server.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let found = runtime.block_on(async {
        // Whichever ends first drops the other: an interrupt drops the running server, which ends its process.
        tokio::select! {
            found = run(args) => found,
            signal = interrupted() => bail!("{}; the server that ran was stopped, its files are removed", signal?),
        }
    })?;
    println!("{}", found.head());
    for section in &found.sections {
        println!("\n{}", markdown::section(section, !args.quick).trim_end());
    }
    if let Some(path) = &args.json {
        let json = serde_json::to_string_pretty(&found)? + "\n";
        std::fs::write(path, json).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let faults: Vec<&str> = found.sections.iter().flat_map(|section| &section.faults).map(String::as_str).collect();
    ensure!(faults.is_empty(), "events were lost or came twice:\n{}", faults.join("\n"));
    if let Some(path) = &args.document {
        let all = args.of_store().count();
        let complete = found.sections.len() == all && found.sizes.at_least(&Sizes::usual());
        if complete {
            document::write(path, args.store, &found.head(), &found.sections)?;
            eprintln!("\n{} and its plots were written", path.display());
        } else {
            eprintln!("\n{} was left as it is: not all scenarios ran with at least the usual sizes", path.display());
        }
    }
    Ok(())
}

async fn run(args: &Args) -> Result<Found> {
    let server = args.server.as_ref().context("give --server")?;
    let server = (server.canonicalize())
        .with_context(|| format!("no server at {}; build it with --release", server.display()))?;
    let directory = args.directory.clone().unwrap_or_else(std::env::temp_dir);
    let machine = probe::machine(&directory)?;
    let sizes = args.overrides.on(if args.quick { Sizes::quick() } else { Sizes::usual() });
    eprintln!("{machine}");
    let wanted = args.wanted()?;
    let mut env = Env::new(server, directory, sizes)?;
    let mut sections = Vec::new();
    for scenario in wanted {
        eprintln!("\n== {}: {}", scenario.name, scenario.what);
        let section = (scenario.run)(&mut env).await.with_context(|| format!("scenario {} failed", scenario.name))?;
        sections.push(section);
    }
    let now = Timestamp::from_millis(i64::try_from(unix_micros() / 1_000)?);
    let date = now.to_iso().chars().take_while(|letter| *letter != 'T').collect();
    Ok(Found { date, machine, build: args.build.clone(), sizes, sections })
}

impl Args {
    /// All scenarios of the chosen store.
    fn of_store(&self) -> impl Iterator<Item = &'static Scenario> {
        let store = self.store;
        SCENARIOS.iter().filter(move |scenario| scenario.store == store)
    }

    /// Those that are to run.
    fn wanted(&self) -> Result<Vec<&'static Scenario>> {
        let known = |name: &&String| self.of_store().any(|scenario| scenario.name == **name);
        let stranger = self.only.iter().find(|name| !known(name));
        ensure!(stranger.is_none(), "--only {} needs the other --store", stranger.map_or("", String::as_str));
        let wants = |name| self.only.is_empty() || self.only.iter().any(|only| only == name);
        Ok(self.of_store().filter(|scenario| wants(scenario.name)).collect())
    }
}

impl Found {
    /// When and where the figures came about.
    fn head(&self) -> String {
        let Self { date, machine, build, sizes, .. } = self;
        let build = build.as_ref().map_or_else(String::new, |build| format!(" {build}."));
        format!("{date}. {machine}.{build} {} round(s) of {} s.", sizes.rounds, sizes.time.as_secs_f64())
    }
}
